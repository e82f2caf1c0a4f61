//! How soon all machines have a change, and what they cost the store: `cargo bench -p upkeep-render --bench propagation
//! [-- --quick]`. Debian's etcd-server is needed.
//!
//! A hundred **machines** are processes of their own, each with its own connection to one etcd: each watches a place, reads it
//! after a change, renders a template, writes the file with all syncs, and runs a command. Ten thousand are **simulated** by one
//! process: a hundred connections with a hundred watches each, which are told of the change and do nothing with it, since a
//! machine of two cores cannot be ten thousand. What follows for a real ten thousand is worked out in
//! `docs/concepts/propagation.md`.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a bench tells how far it is"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::Path as FilePath,
    process::{Child, Command, ExitCode, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use upkeep_config::{
    Config, Place,
    entry::{Change, Put},
    rights::{All, Asker},
    seal::Identity,
    value::Value,
    watch::Told,
};
use upkeep_render::{
    apply::{Action, Job, apply},
    command::{Run, Stop},
    file::Target,
    template::render,
    values::Values,
};
use upkeep_store::kv::{Kv, Op, Span, Txn, Watch, WatchEvent};
use upkeep_testkit::etcd::Etcd as Server;

/// Machines that are processes.
const MACHINES: usize = 100;
/// Connections of those that are simulated, and watches of each.
const CONNECTIONS: usize = 100;
const WATCHES: usize = 100;
/// Values of the place.
const VALUES: usize = 50;

const PLACE: &str = "/shop/prod/";
const TEMPLATE: &str =
    "version={{ version }}\n{% for name in ls('many') %}{{ name }}={{ getv('many/' ~ name) }}\n{% endfor %}";

const ASKER: Asker<'static> = Asker {
    who: "uid:0",
    rights: &All,
};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let rounds = match words.as_slice() {
        ["machine", url, file] => {
            runtime.block_on(machine(url, FilePath::new(file)));
            return ExitCode::SUCCESS;
        }
        [] => 100,
        ["--quick"] => 20,
        _ => {
            eprintln!("usage: propagation [--quick]");
            return ExitCode::from(2);
        }
    };
    let server = Server::single(&[]);
    let url = server.endpoints().remove(0);
    println!("| what | figure |\n|---|---|");
    runtime.block_on(processes(&server, &url, rounds));
    runtime.block_on(simulated(&server, &url, rounds));
    ExitCode::SUCCESS
}

fn connect(url: &str) -> Arc<dyn Kv> {
    let config = upkeep_etcd::Config {
        endpoints: vec![url.to_owned()],
        timeout: Duration::from_secs(30),
        heartbeat: Duration::from_mins(1),
        ..upkeep_etcd::Config::default()
    };
    Arc::new(upkeep_etcd::Etcd::new(config).expect("a backend"))
}

async fn open(url: &str) -> Config {
    let identity = Identity::generate("machine:bench").expect("a key");
    Config::open(connect(url), vec![identity], || 0.0)
        .await
        .expect("it opens")
}

async fn set(config: &Config, puts: impl Iterator<Item = (String, String)>) {
    let puts = puts.map(|(path, text)| Put {
        path: format!("{PLACE}{path}").parse().expect("a path"),
        value: Value::text(text),
        secret: false,
        expected: None,
    });
    let change = Change {
        puts: puts.collect(),
        ..Change::default()
    };
    config.change(ASKER, &change).await.expect("changed");
}

/// Nanoseconds of the clock that all processes share.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// A machine: says which version its file has, and since when.
async fn machine(url: &str, file: &FilePath) {
    let config = open(url).await;
    let place: Place = PLACE.parse().expect("a place");
    let mut job = Job::new(Target::new(file));
    job.action = Action::Run(Run::new(["true"], Duration::from_secs(10)));
    let stop = Stop::default();
    let mut from = None;
    loop {
        let listing = config.list(ASKER, &place, 1000, None).await.expect("read");
        let revision = listing.revision;
        let values = Values::of(place.clone(), &listing);
        let rendered = render("bench", TEMPLATE, &values, false).expect("rendered");
        apply(&job, &rendered.text, &stop).expect("applied");
        let version = rendered.text.lines().next().unwrap_or_default();
        println!("{version} {}", now());
        // What came while it was rendered is told at once.
        let mut watch = from
            .take()
            .unwrap_or_else(|| config.watch(Arc::new(All), &place, Some(revision + 1)));
        loop {
            match watch.next().await {
                Some(Ok(Told::Changes { revision: told, .. })) if told > revision => break,
                Some(Ok(_)) => {}
                // The bench has ended.
                _ => return,
            }
        }
        from = Some(watch);
    }
}

/// Ends with whoever started it.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn processes(server: &Server, url: &str, rounds: usize) {
    let config = open(url).await;
    set(
        &config,
        (0..VALUES).map(|number| (format!("many/{number}"), "x".repeat(64))),
    )
    .await;
    set(&config, [("version".to_owned(), "0".to_owned())].into_iter()).await;
    let before = resident(server);
    let dir = tempfile::tempdir().expect("a directory");
    let own = std::env::current_exe().expect("this program");
    let (sender, said) = mpsc::channel();
    let machines: Vec<Machine> = (0..MACHINES)
        .map(|number| {
            let mut child = Command::new(&own)
                .args(["machine", url])
                .arg(dir.path().join(number.to_string()))
                .stdout(Stdio::piped())
                .spawn()
                .expect("it starts");
            let stdout = child.stdout.take().expect("its output");
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    // The bench may be over.
                    let _ = sender.send(line);
                }
            });
            Machine(child)
        })
        .collect();
    let heard = |version: usize| {
        let mark = format!("version={version} ");
        let mut at = Vec::new();
        while at.len() < MACHINES {
            let line = said
                .recv_timeout(Duration::from_mins(1))
                .expect("all machines have it");
            at.extend(
                line.strip_prefix(&mark)
                    .map(|at| at.parse::<u64>().expect("a number")),
            );
        }
        at
    };
    heard(0);
    eprintln!("== {MACHINES} machines are ready");
    // All watches stand; nothing else happens.
    upkeep_testkit::pass(Duration::from_secs(2));
    let with_all = resident(server);
    let (mut took, mut last) = (Vec::new(), Vec::new());
    let (cpu, begin) = (processor(server), Instant::now());
    for version in 1..=rounds {
        let begin = now();
        set(&config, [("version".to_owned(), version.to_string())].into_iter()).await;
        let millis = heard(version).into_iter().map(|at| (at - begin) as f64 / 1e6);
        let millis: Vec<f64> = millis.collect();
        last.push(millis.iter().copied().fold(0.0, f64::max));
        took.extend(millis);
    }
    let cpu = (processor(server) - cpu) / (rounds * MACHINES) as f64;
    let lasted = begin.elapsed().as_secs_f64() * 1e3 / rounds as f64;
    row(
        &format!("{MACHINES} machines: a change is rendered, written and acted upon, median, p99"),
        &spread(&mut took),
    );
    row("… by the last of them, median, p99", &spread(&mut last));
    row("… a round", &format!("{lasted:.0} ms"));
    row(
        "… the store's processor time for each machine and change",
        &format!("{:.2} ms", cpu * 1e3),
    );
    row(
        "… the store's memory for each machine",
        &format!("{:.0} KiB", (with_all - before) / MACHINES as f64 / 1024.0),
    );
    drop(machines);
}

async fn simulated(server: &Server, url: &str, rounds: usize) {
    upkeep_testkit::pass(Duration::from_secs(2));
    let kv = connect(url);
    let before = resident(server);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let kv = connect(url);
        streams.extend((0..WATCHES).map(|_| kv.watch(Watch::new(Span::Prefix("c/shop/prod/".to_owned())))));
    }
    let count = streams.len();
    let mut all = futures_util::stream::select_all(streams);
    let mut standing = 0;
    while standing < count {
        if let Some(Ok(WatchEvent::Progress { .. })) = all.next().await {
            standing += 1;
        }
    }
    eprintln!("== {count} watches stand");
    let with_all = resident(server);
    let (mut took, mut last) = (Vec::new(), Vec::new());
    let cpu = processor(server);
    for round in 0..rounds {
        let begin = Instant::now();
        let put = Op::put("c/shop/prod/version", format!("{round:064}"));
        let write = kv.txn(Txn::always(vec![put]));
        let tell = async {
            let mut told = 0;
            while told < count {
                if let Some(Ok(WatchEvent::Changes { .. })) = all.next().await {
                    told += 1;
                    took.push(begin.elapsed().as_secs_f64() * 1e3);
                }
            }
        };
        let (written, ()) = tokio::join!(write, tell);
        written.expect("written");
        last.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let cpu = (processor(server) - cpu) / (rounds * count) as f64;
    row(
        &format!("{count} watches: told of a change, median, p99"),
        &spread(&mut took),
    );
    row("… the last of them, median, p99", &spread(&mut last));
    row(
        "… the store's processor time for each watch and change",
        &format!("{:.1} µs", cpu * 1e6),
    );
    row(
        "… the store's memory for each watch",
        &format!("{:.1} KiB", (with_all - before) / count as f64 / 1024.0),
    );
}

fn row(what: &str, figure: &str) {
    println!("| {what} | {figure} |");
}

fn spread(millis: &mut [f64]) -> String {
    millis.sort_by(f64::total_cmp);
    let at = |share: usize| {
        millis
            .get(millis.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    format!("{:.1} ms, {:.1} ms", at(50), at(99))
}

/// Bytes that the store's process has in memory.
fn resident(server: &Server) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", server.pid(0))).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    kib * 1024.0
}

/// Seconds of processor time of the store's process.
fn processor(server: &Server) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", server.pid(0))).unwrap_or_default();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or_default()
    };
    // `utime` and `stime`; the kernel counts them in hundredths for everybody.
    (ticks(11) + ticks(12)) / 100.0
}
