//! `bench cluster`: what a request costs a cluster of two workers: under Upkeep in both ways, under PM2, under Node's own
//! primary in both ways, and what it costs a single Node.
//!
//! All run the same script with the same Node. In each round the services come in another order, each is started anew,
//! warmed up and loaded twice: over kept connections, and with a connection for each request. The figures are medians of
//! the rounds. Processor time is that of every process of the service (workers, primary, daemon, keeper), as the
//! scheduler counted it; the load is not in it. On a machine that has other work it is the sound column: requests a second
//! are not.
//!
//! The last table reloads PM2's cluster and ours under load, and counts requests that failed: the load never tries again.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use upkeep_testkit::{Home, Kind, Load, Signal, kill, load::Plan, node, pass, process, try_wait_until};

use super::peers::pm2_program;
use crate::shell;

const SCRIPT: &str = "
require('http').createServer((request, answer) => answer.end('hello world')).listen(Number(process.env.BENCH_PORT), '127.0.0.1');
";

const PRIMARY: &str = "
const cluster = require('cluster');
if (process.env.BENCH_POLICY === 'none') cluster.schedulingPolicy = cluster.SCHED_NONE;
if (cluster.isPrimary) { cluster.fork(); cluster.fork(); } else require('./server.js');
";

const PATIENCE: Duration = Duration::from_mins(1);
const CONNECTIONS: usize = 64;

/// Who runs the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    Single,
    NodeTurns,
    NodeShared,
    Pm2,
    Shared,
    Turns,
}

impl Service {
    const ALL: [Self; 6] = [
        Self::Single,
        Self::NodeTurns,
        Self::NodeShared,
        Self::Pm2,
        Self::Shared,
        Self::Turns,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Single => "one node",
            Self::NodeTurns => "Node's cluster, round robin",
            Self::NodeShared => "Node's cluster, policy none",
            Self::Pm2 => "PM2 -i 2",
            Self::Shared => "upkeep, shared",
            Self::Turns => "upkeep, rr",
        }
    }
}

/// Figures of one load.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Processor time of a request, µs: of all processes, and of those that only manage.
    cpu_us: f64,
    manager_us: f64,
    failures: f64,
}

struct Bench {
    place: tempfile::TempDir,
    node: PathBuf,
    pm2: PathBuf,
    upkeep: PathBuf,
    window: Duration,
}

/// One that runs.
struct Running {
    address: SocketAddr,
    mark: String,
    child: Option<Child>,
    home: Option<Home>,
    pm2_home: Option<tempfile::TempDir>,
}

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let mut quick = false;
    let mut upkeep = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--quick" => quick = true,
            "--upkeep" => upkeep = Some(PathBuf::from(words.next().context("--upkeep wants a path")?)),
            _ => bail!("usage: cargo xtask bench cluster [--quick] [--upkeep PROGRAM]"),
        }
    }
    let (rounds, window) = if quick {
        (3, Duration::from_secs(2))
    } else {
        (7, Duration::from_secs(4))
    };
    let upkeep = match upkeep {
        Some(upkeep) => upkeep,
        None => shell::build_static(&["upkeep", "upkeep-testkit"])?.join("upkeep"),
    };
    let version = node::VERSIONS[node::VERSIONS.len() - 1];
    let bench = Bench {
        place: tempfile::tempdir()?,
        node: node::node(version).map_err(anyhow::Error::msg)?,
        pm2: pm2_program()?,
        upkeep,
        window,
    };
    fs::write(bench.place.path().join("server.js"), SCRIPT)?;
    fs::write(bench.place.path().join("primary.js"), PRIMARY)?;
    let mut all: BTreeMap<(Service, bool), Vec<Figures>> = BTreeMap::new();
    for round in 0..rounds {
        for at in 0..Service::ALL.len() {
            // Another one begins each time, and every second round runs backwards.
            let turned = (at + round) % Service::ALL.len();
            let service = if round % 2 == 0 {
                Service::ALL[turned]
            } else {
                Service::ALL[Service::ALL.len() - 1 - turned]
            };
            let running = bench.start(service)?;
            for (kept, kind) in [(true, Kind::KeepAlive), (false, Kind::PerRequest)] {
                let figures = running.measure(kind, bench.window);
                eprintln!("round {round}: {} {kind:?}: {figures:.1?}", service.name());
                all.entry((service, kept)).or_default().push(figures);
            }
            running.end(&bench)?;
        }
    }
    println!("Node {version}, {CONNECTIONS} connections, medians of {rounds} rounds of {window:?}");
    for (kept, title) in [
        (true, "kept connections"),
        (false, "a connection for each request"),
    ] {
        println!(
            "\n| {title} | requests/s (least..most) | p50 ms | p99 ms | CPU µs/request | of it managing | failed |"
        );
        println!("|---|---|---|---|---|---|---|");
        for service in Service::ALL {
            let Some(rows) = all.get(&(service, kept)) else {
                continue;
            };
            let of = |pick: fn(&Figures) -> f64| {
                let mut values: Vec<f64> = rows.iter().map(pick).collect();
                values.sort_by(f64::total_cmp);
                values
            };
            let middle = |pick| {
                let values = of(pick);
                values[values.len() / 2]
            };
            let rates = of(|figures| figures.rate);
            println!(
                "| {} | {:.0} ({:.0}..{:.0}) | {:.2} | {:.1} | {:.1} | {:.1} | {:.0} |",
                service.name(),
                middle(|figures| figures.rate),
                rates[0],
                rates[rates.len() - 1],
                middle(|figures| figures.p50_ms),
                middle(|figures| figures.p99_ms),
                middle(|figures| figures.cpu_us),
                middle(|figures| figures.manager_us),
                of(|figures| figures.failures).iter().sum::<f64>(),
            );
        }
    }
    bench.reloads()
}

/// How often each is reloaded under each load.
const RELOADS: usize = 5;
/// Connections of that load.
const CLIENTS: usize = 20;

impl Bench {
    /// What reloads cost those who are served.
    fn reloads(&self) -> anyhow::Result<()> {
        println!("\n{RELOADS} reloads of two workers under load, {CLIENTS} connections\n");
        println!(
            "| reload | kept connections: failed / answered | a connection for each request: failed / answered | time of one |"
        );
        println!("|---|---|---|---|");
        for service in [Service::Pm2, Service::Shared] {
            let running = self.start(service)?;
            let mut columns = Vec::new();
            let mut took = Duration::ZERO;
            for kind in [Kind::KeepAlive, Kind::PerRequest] {
                let load = Load::start(running.address, kind, CLIENTS);
                pass(Duration::from_millis(500));
                for _ in 0..RELOADS {
                    let begun = std::time::Instant::now();
                    running.reload(self)?;
                    took += begun.elapsed();
                    pass(Duration::from_millis(200));
                }
                let tally = load.stop();
                columns.push(format!("{} / {}", tally.failures, tally.answered));
            }
            let each = took.as_secs_f64() / (2 * RELOADS) as f64;
            println!(
                "| {} | {} | {} | {each:.1} s |",
                service.name(),
                columns[0],
                columns[1]
            );
            running.end(self)?;
        }
        Ok(())
    }

    fn start(&self, service: Service) -> anyhow::Result<Running> {
        let address = upkeep_testkit::free_address();
        let mark = format!("BENCH_MARK={}", address.port());
        let (name, value) = mark.split_once('=').unwrap_or_default();
        let mut running = Running {
            address,
            mark: mark.clone(),
            child: None,
            home: None,
            pm2_home: None,
        };
        let prepare = |command: &mut Command| {
            command
                .current_dir(self.place.path())
                .env("BENCH_PORT", address.port().to_string())
                .env(name, value)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
        };
        match service {
            Service::Single | Service::NodeTurns | Service::NodeShared => {
                let mut command = Command::new(&self.node);
                command.arg(if service == Service::Single {
                    "server.js"
                } else {
                    "primary.js"
                });
                prepare(&mut command);
                if service == Service::NodeShared {
                    command.env("BENCH_POLICY", "none");
                }
                running.child = Some(command.spawn()?);
            }
            Service::Pm2 => {
                let home = tempfile::tempdir()?;
                let mut command = self.pm2(home.path());
                command.args(["start", "server.js", "-i", "2"]);
                prepare(&mut command);
                running.pm2_home = Some(home);
                ensure!(command.status()?.success(), "pm2 did not start the script");
            }
            Service::Shared | Service::Turns => {
                let home = Home::with_binary(self.upkeep.clone());
                let app = json!({"apps": [{
                    "name": "bench", "command": [self.node, "server.js"], "cwd": self.place.path(),
                    "mode": "cluster", "instances": 2,
                    "balance": if service == Service::Shared { "shared" } else { "rr" },
                }]});
                home.write("upkeep.json", &app.to_string());
                let mut command = home.command(["start", "upkeep.json"]);
                command
                    .env("BENCH_PORT", address.port().to_string())
                    .env(name, value)
                    .stdout(Stdio::null());
                ensure!(command.status()?.success(), "upkeep did not start the script");
                running.home = Some(home);
            }
        }
        let workers = if service == Service::Single { 1 } else { 2 };
        try_wait_until("the service to answer", PATIENCE, || {
            let answers = std::net::TcpStream::connect(address).is_ok();
            let serving = running
                .processes()
                .into_iter()
                .filter(|pid| !is_manager(*pid))
                .count();
            if answers && serving >= workers {
                Ok(())
            } else {
                Err(format!("{serving} workers; answers: {answers}"))
            }
        })?;
        // What is compiled late is compiled now.
        for kind in [Kind::KeepAlive, Kind::PerRequest] {
            let load = Load::start(address, kind, CONNECTIONS);
            pass(Duration::from_millis(700));
            load.stop();
        }
        Ok(running)
    }

    fn pm2(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.node);
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.node.parent().unwrap_or_else(|| Path::new("/")).display();
        command
            .arg(&self.pm2)
            .env("PM2_HOME", home)
            .env("PATH", format!("{bin}:{path}"))
            .env("PM2_DISABLE_VERSION_CHECK", "true");
        command
    }
}

/// Whether a process only manages others: it answers no request.
fn is_manager(pid: i32) -> bool {
    let words = process::command_line(pid);
    words.contains("upkeep") && (words.ends_with(" daemon") || words.contains(" keeper"))
        || words.contains("God Daemon")
        || words.ends_with(" primary.js") && {
            // Workers have the same words; they are the children.
            process::stat(pid).is_some_and(|stat| !process::command_line(stat.ppid).ends_with(" primary.js"))
        }
}

impl Running {
    fn reload(&self, bench: &Bench) -> anyhow::Result<()> {
        let mut command = match (&self.home, &self.pm2_home) {
            (Some(home), _) => home.command(["reload", "bench"]),
            (None, Some(home)) => {
                let mut command = bench.pm2(home.path());
                command.args(["reload", "server"]);
                command
            }
            (None, None) => bail!("nobody can be asked to reload it"),
        };
        ensure!(
            command.stdout(Stdio::null()).status()?.success(),
            "the reload failed"
        );
        Ok(())
    }

    /// Every process of the service.
    fn processes(&self) -> Vec<i32> {
        let mut found = process::with_environment(&self.mark);
        if let Some(home) = &self.home {
            found.push(home.keeper_pid());
        }
        found.extend(process::descendants(&found));
        found.sort_unstable();
        found.dedup();
        found.retain(|pid| process::alive(*pid));
        found
    }

    fn cpu(&self) -> (f64, f64) {
        let mut all = 0.0;
        let mut managing = 0.0;
        for pid in self.processes() {
            let nanos = process::cpu_nanos(pid).unwrap_or(0) as f64;
            all += nanos;
            if is_manager(pid) {
                managing += nanos;
            }
        }
        (all / 1000.0, managing / 1000.0)
    }

    fn measure(&self, kind: Kind, window: Duration) -> Figures {
        let before = self.cpu();
        let load = Load::run(Plan::new(self.address, kind, CONNECTIONS));
        pass(window);
        let tally = load.stop();
        let after = self.cpu();
        let requests = (tally.answered as f64).max(1.0);
        Figures {
            rate: tally.rate(),
            p50_ms: tally.latency(0.5).as_secs_f64() * 1000.0,
            p99_ms: tally.latency(0.99).as_secs_f64() * 1000.0,
            cpu_us: (after.0 - before.0) / requests,
            manager_us: (after.1 - before.1) / requests,
            failures: tally.failures as f64,
        }
    }

    fn end(mut self, bench: &Bench) -> anyhow::Result<()> {
        let left = self.processes();
        if let Some(child) = &mut self.child {
            kill(i32::try_from(child.id())?, Signal::TERM)?;
            child.wait()?;
        }
        if let Some(home) = &self.pm2_home {
            let status = bench
                .pm2(home.path())
                .arg("kill")
                .stdout(Stdio::null())
                .status()?;
            ensure!(status.success(), "pm2 kill failed");
        }
        drop(self.home.take());
        try_wait_until("the service to end", PATIENCE, || {
            let alive: Vec<_> = left.iter().filter(|pid| process::alive(**pid)).collect();
            if alive.is_empty() {
                Ok(())
            } else {
                Err(format!("{alive:?}"))
            }
        })
    }
}
