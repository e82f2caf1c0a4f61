//! Stores of configuration in one run: ours in a file, ours over etcd, etcd driven directly, ZooKeeper and SQLite.
//!
//! `cargo bench -p upkeep-config --bench backends [-- [--quick] [file|etcd|zookeeper|sqlite]…]` prints a table. Debian's etcd-server, zookeeper and
//! python3 are needed; a peer that is missing is left out and told.
//!
//! All write to the same disk and are durable: redb and etcd as they are, ZooKeeper with `forceSync` (its default), SQLite with
//! `journal_mode=WAL, synchronous=FULL`. A value has 64 bytes. *Directly* is one gRPC call of a put, without history, rights or
//! reasons; *two keys* writes a key beside it, as a history would; *the layer* is `Config::change`: it reads, compares, and writes value and history in one transaction. SQLite runs in
//! Python with a connection for each client; its module is C, and a durable write takes far longer than Python around it.

#![expect(clippy::print_stderr, reason = "a bench tells how far it is")]

use std::{
    path::Path as FilePath,
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::BoxFuture};
use upkeep_config::{
    Config, Path, Place,
    entry::{Change, Put},
    rights::{All, Asker},
    seal::Identity,
    value::{Kind, Value},
};
use upkeep_store::kv::{
    Kv, Op, Range, Span, Txn, Watch, WatchEvent,
    embedded::{Embedded, Options},
};
use upkeep_testkit::{etcd::Etcd as EtcdServer, zookeeper::ZooKeeper};
use upkeep_zookeeper::{Address, Client, Op as ZkOp};

/// Keys that are written and read.
const KEYS: usize = 1000;
/// Bytes of a value.
const BYTES: usize = 64;
/// Clients at the same time.
const CLIENTS: [usize; 2] = [1, 32];

/// What can be asked for alone.
const STORES: [&str; 4] = ["file", "etcd", "zookeeper", "sqlite"];

/// How long, and how many.
struct Sizes {
    window: Duration,
    watched: usize,
    many: usize,
}

/// Figures by row, of one store.
struct Column {
    name: &'static str,
    rows: Vec<(&'static str, String)>,
}

const ROWS: [&str; 12] = [
    "durable writes a second, 1 client",
    "… median, p99 (ms)",
    "durable writes a second, 32 clients",
    "… median, p99 (ms)  ",
    "reads a second, 1 client",
    "… median, p99 (ms) ",
    "reads a second, 32 clients",
    "reads of 1,000 keys by prefix a second",
    "from write to a watcher, median, p99 (ms)",
    "many keys: open (ms)",
    "many keys: memory then (MiB)",
    "many keys: on disk (MiB)",
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    // In a process of its own, so that only this is in its memory.
    if let [open, file] = words.as_slice()
        && open == "open"
    {
        opened(FilePath::new(file));
        return ExitCode::SUCCESS;
    }
    let quick = words.iter().any(|word| word == "--quick");
    let chosen: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| *word != "--quick")
        .collect();
    if chosen.iter().any(|word| !STORES.contains(word)) {
        eprintln!("usage: backends [--quick] [{}]", STORES.join("|"));
        return ExitCode::from(2);
    }
    let is_wanted = |store: &str| chosen.is_empty() || chosen.contains(&store);
    let sizes = Sizes {
        window: Duration::from_secs(if quick { 2 } else { 10 }),
        watched: if quick { 200 } else { 1000 },
        many: if quick { 100_000 } else { 1_000_000 },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut columns = Vec::new();
    if is_wanted("file") {
        runtime.block_on(embedded(&sizes, &mut columns));
    }
    if !is_wanted("etcd") {
    } else if has("etcd", "--version") {
        runtime.block_on(on_etcd(&sizes, &mut columns));
    } else {
        eprintln!("etcd is not there (Debian: etcd-server)");
    }
    if !is_wanted("zookeeper") {
    } else if FilePath::new("/usr/share/java/zookeeper.jar").exists() {
        columns.push(zookeeper(&sizes));
    } else {
        eprintln!("ZooKeeper is not there (Debian: zookeeper)");
    }
    if is_wanted("sqlite") {
        columns.push(sqlite(&sizes));
    }
    print(&columns, &sizes);
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the table is what is wanted")]
fn print(columns: &[Column], sizes: &Sizes) {
    println!("Keys of the last three rows: {}.\n", sizes.many);
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for row in ROWS {
        let cell = |column: &Column| {
            let found = column.rows.iter().find(|(name, _)| *name == row);
            found.map_or_else(|| "-".to_owned(), |(_, cell)| cell.clone())
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        println!("| {} | {} |", row.trim_end(), cells.join(" | "));
    }
}

fn has(program: &str, word: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(word).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn key(number: usize) -> String {
    format!("/bench/prod/{:04}", number % KEYS)
}

fn value(number: usize) -> Vec<u8> {
    format!("{number:0BYTES$}").into_bytes()
}

/// One that was never there: writing what is there already is no change.
fn fresh() -> Vec<u8> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    value(NEXT.fetch_add(1, Relaxed))
}

/// So many of something in so long.
struct Rate {
    took: Vec<f64>,
    lasted: Duration,
}

impl Rate {
    fn a_second(&self) -> String {
        let rate = self.took.len() as f64 / self.lasted.as_secs_f64();
        format!("{rate:.0}")
    }

    fn spread(&self) -> String {
        spread(&self.took)
    }
}

fn spread(millis: &[f64]) -> String {
    let mut sorted = millis.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => "-".to_owned(),
        some => format!("{:.2}, {:.2}", some[some.len() / 2], some[some.len() * 99 / 100]),
    }
}

/// Something that is asked again and again: number in, whether it went well out.
type Ask = Arc<dyn Fn(usize) -> BoxFuture<'static, ()> + Send + Sync>;

async fn rate(clients: usize, window: Duration, ask: &Ask) -> Rate {
    let begin = Instant::now();
    let each = (0..clients).map(|client| async move {
        let mut took = Vec::new();
        let mut number = client * 7919;
        while begin.elapsed() < window {
            let asked = Instant::now();
            ask(number).await;
            took.push(asked.elapsed().as_secs_f64() * 1e3);
            number += 1;
        }
        took
    });
    let took = futures_util::future::join_all(each).await.concat();
    Rate {
        took,
        lasted: begin.elapsed(),
    }
}

/// What is asked of a store of ours or of etcd.
async fn measured(name: &'static str, kv: &Arc<dyn Kv>, write: &Ask, read: &Ask, sizes: &Sizes) -> Column {
    eprintln!("== {name}");
    let mut rows = Vec::new();
    for number in 0..KEYS {
        write(number).await;
    }
    let one = rate(CLIENTS[0], sizes.window, write).await;
    rows.extend([(ROWS[0], one.a_second()), (ROWS[1], one.spread())]);
    let many = rate(CLIENTS[1], sizes.window, write).await;
    rows.extend([(ROWS[2], many.a_second()), (ROWS[3], many.spread())]);
    let one = rate(CLIENTS[0], sizes.window, read).await;
    rows.extend([(ROWS[4], one.a_second()), (ROWS[5], one.spread())]);
    rows.push((ROWS[6], rate(CLIENTS[1], sizes.window, read).await.a_second()));
    rows.push((ROWS[8], watched(kv, write, sizes).await));
    Column { name, rows }
}

/// From the beginning of a write to its event.
async fn watched(kv: &Arc<dyn Kv>, write: &Ask, sizes: &Sizes) -> String {
    let mut watch = kv.watch(Watch::new(Span::All));
    // It stands once it says how far it is.
    while !matches!(watch.next().await, Some(Ok(WatchEvent::Progress { .. }))) {}
    let mut took = Vec::new();
    for number in 0..sizes.watched {
        let begin = Instant::now();
        let told = async { while !matches!(watch.next().await, Some(Ok(WatchEvent::Changes { .. }))) {} };
        tokio::join!(write(number), async {
            told.await;
            took.push(begin.elapsed().as_secs_f64() * 1e3);
        });
    }
    spread(&took)
}

/// Puts and gets without anything of ours between; with a history, each write adds a key of 200 bytes as well.
fn direct(kv: &Arc<dyn Kv>, history: bool) -> (Ask, Ask) {
    let (writer, reader) = (Arc::clone(kv), Arc::clone(kv));
    let written = Arc::new(AtomicUsize::new(0));
    let write: Ask = Arc::new(move |number| {
        let kv = Arc::clone(&writer);
        let at = written.fetch_add(1, Relaxed);
        Box::pin(async move {
            let mut puts = vec![Op::put(format!("c{}", key(number)), fresh())];
            if history {
                puts.push(Op::put(format!("h{}/{at:016}", key(number)), vec![b'h'; 200]));
            }
            kv.txn(Txn::always(puts)).await.expect("written");
        })
    });
    let read: Ask = Arc::new(move |number| {
        let kv = Arc::clone(&reader);
        Box::pin(async move {
            let found = kv
                .range(Range::one(format!("c{}", key(number))))
                .await
                .expect("read");
            assert_eq!(found.entries.len(), 1);
        })
    });
    (write, read)
}

const ASKER: Asker<'static> = Asker {
    who: "uid:0",
    rights: &All,
};

/// Changes and reads as every caller makes them.
async fn layer(kv: &Arc<dyn Kv>) -> (Ask, Ask, Arc<Config>) {
    let identity = Identity::generate("machine:bench").expect("a key");
    let config = Config::open(Arc::clone(kv), vec![identity], || 0.0).await;
    let config = Arc::new(config.expect("it opens"));
    let (writer, reader) = (Arc::clone(&config), Arc::clone(&config));
    let write: Ask = Arc::new(move |number| {
        let config = Arc::clone(&writer);
        Box::pin(async move {
            let change = Change {
                puts: vec![Put {
                    path: path(number),
                    value: Value {
                        kind: Kind::Text,
                        bytes: fresh(),
                    },
                    secret: false,
                    expected: None,
                }],
                ..Change::default()
            };
            config.change(ASKER, &change).await.expect("written");
        })
    });
    let read: Ask = Arc::new(move |number| {
        let config = Arc::clone(&reader);
        Box::pin(async move {
            config.get(ASKER, &path(number), false).await.expect("read");
        })
    });
    (write, read, config)
}

fn path(number: usize) -> Path {
    key(number).parse().expect("a path")
}

async fn listed(config: &Arc<Config>, sizes: &Sizes) -> String {
    let config = Arc::clone(config);
    let ask: Ask = Arc::new(move |_| {
        let config = Arc::clone(&config);
        Box::pin(async move {
            let place: Place = "/bench/prod/".parse().expect("a place");
            let found = config.list(ASKER, &place, KEYS, None).await.expect("read");
            assert_eq!(found.entries.len(), KEYS);
        })
    });
    rate(1, sizes.window, &ask).await.a_second()
}

async fn ranged(kv: &Arc<dyn Kv>, sizes: &Sizes) -> String {
    let kv = Arc::clone(kv);
    let ask: Ask = Arc::new(move |_| {
        let kv = Arc::clone(&kv);
        Box::pin(async move {
            let found = kv
                .range(Range::prefix("c/bench/prod/").limit(KEYS))
                .await
                .expect("read");
            assert_eq!(found.entries.len(), KEYS);
        })
    });
    rate(1, sizes.window, &ask).await.a_second()
}

fn private() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("upkeep-bench-")
        .tempdir()
        .expect("a directory")
}

async fn embedded(sizes: &Sizes, columns: &mut Vec<Column>) {
    let dir = private();
    let open = |name: &str| -> Arc<dyn Kv> {
        Arc::new(Embedded::open(&dir.path().join(name), Options::default()).expect("it opens"))
    };
    let kv = open("direct.redb");
    let (write, read) = direct(&kv, false);
    let mut column = measured("upkeep, file, store alone", &kv, &write, &read, sizes).await;
    column.rows.push((ROWS[7], ranged(&kv, sizes).await));
    drop((kv, write, read));
    many_in_a_file(&dir.path().join("many.redb"), sizes, &mut column).await;
    columns.push(column);
    let kv = open("layer.redb");
    let (write, read, config) = layer(&kv).await;
    let mut column = measured("upkeep, file, the layer", &kv, &write, &read, sizes).await;
    column.rows.push((ROWS[7], listed(&config, sizes).await));
    columns.push(column);
}

async fn on_etcd(sizes: &Sizes, columns: &mut Vec<Column>) {
    let mut server = EtcdServer::single(&["--quota-backend-bytes", "4294967296"]);
    let connect = |root: &str| -> Arc<dyn Kv> {
        let config = upkeep_etcd::Config {
            endpoints: server.endpoints(),
            root: root.to_owned(),
            timeout: Duration::from_secs(30),
            ..upkeep_etcd::Config::default()
        };
        Arc::new(upkeep_etcd::Etcd::new(config).expect("a backend"))
    };
    let kv = connect("/direct/");
    let (write, read) = direct(&kv, false);
    let mut column = measured("etcd 3.4, directly", &kv, &write, &read, sizes).await;
    column.rows.push((ROWS[7], ranged(&kv, sizes).await));
    let kept = connect("/kept/");
    let (write, read) = direct(&kept, true);
    let with_history = measured("etcd, directly, two keys", &kept, &write, &read, sizes).await;
    let layered = connect("/layer/");
    let (write, read, config) = layer(&layered).await;
    let mut over = measured("upkeep, etcd, the layer", &layered, &write, &read, sizes).await;
    over.rows.push((ROWS[7], listed(&config, sizes).await));
    eprintln!("== etcd with many keys");
    fill(&kv, sizes.many, 128).await;
    server.kill(0);
    let begin = Instant::now();
    server.start(0);
    column.rows.extend([
        (ROWS[9], format!("{:.0}", begin.elapsed().as_secs_f64() * 1e3)),
        (ROWS[10], mebibytes(resident(&server.pid(0).to_string()))),
        (ROWS[11], mebibytes(disk(&server.members()[0].data))),
    ]);
    columns.extend([column, with_history, over]);
}

async fn fill(kv: &Arc<dyn Kv>, many: usize, at_once: usize) {
    let mut number = 0;
    while number < many {
        let puts = (number..many.min(number + at_once))
            .map(|number| Op::put(format!("c/many/{number:07}"), value(number)))
            .collect();
        kv.txn(Txn::always(puts)).await.expect("written");
        number += at_once;
    }
}

async fn many_in_a_file(file: &FilePath, sizes: &Sizes, column: &mut Column) {
    eprintln!("== a file with many keys");
    let kv: Arc<dyn Kv> = Arc::new(Embedded::open(file, Options::default()).expect("it opens"));
    fill(&kv, sizes.many, 5000).await;
    drop(kv);
    let own = std::env::current_exe().expect("this program");
    let said = Command::new(own).arg("open").arg(file).output().expect("it runs");
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let (millis, bytes) = said.trim().split_once(' ').expect("two figures");
    column.rows.extend([
        (ROWS[9], millis.to_owned()),
        (ROWS[10], mebibytes(bytes.parse().expect("a number"))),
        (ROWS[11], mebibytes(disk(file))),
    ]);
}

/// Opens a store, reads a key, and tells how long it took and what the process has in memory.
#[expect(clippy::print_stdout, reason = "the answer to the parent")]
fn opened(file: &FilePath) {
    let begin = Instant::now();
    let kv = Embedded::open(file, Options::default()).expect("it opens");
    let read = futures_executor::block_on(kv.range(Range::one("c/many/0000077")));
    assert_eq!(read.expect("read").entries.len(), 1);
    let millis = begin.elapsed().as_secs_f64() * 1e3;
    println!("{millis:.1} {}", resident("self"));
}

fn resident(process: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    kib << 10
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// What a file or folder takes on the disk.
fn disk(path: &FilePath) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    if !found.is_dir() {
        return found.blocks() * 512;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| disk(&entry.path())).sum()
}

fn zookeeper(sizes: &Sizes) -> Column {
    eprintln!("== ZooKeeper 3.8");
    let server = ZooKeeper::single();
    let address: Address = server.url().parse().expect("an address");
    let connect = || Client::connect(&address, None, Duration::from_secs(30)).expect("it is there");
    let mut first = connect();
    let folders = ["/bench", "/bench/prod"].map(|path| ZkOp::Create(path.to_owned(), Vec::new()));
    first.change(&folders).expect("written");
    for number in 0..KEYS {
        first
            .change(&[ZkOp::Create(key(number), value(number))])
            .expect("written");
    }
    let write = |client: &mut Client, number| {
        client
            .change(&[ZkOp::Set(key(number), fresh())])
            .expect("written");
    };
    let read = |client: &mut Client, number| {
        assert!(client.get(&key(number)).expect("read").is_some());
    };
    let mut rows = Vec::new();
    let one = blocking(1, sizes.window, &connect, &write);
    rows.extend([(ROWS[0], one.a_second()), (ROWS[1], one.spread())]);
    let many = blocking(32, sizes.window, &connect, &write);
    rows.extend([(ROWS[2], many.a_second()), (ROWS[3], many.spread())]);
    let one = blocking(1, sizes.window, &connect, &read);
    rows.extend([(ROWS[4], one.a_second()), (ROWS[5], one.spread())]);
    rows.push((ROWS[6], blocking(32, sizes.window, &connect, &read).a_second()));
    // It has no read of several: each takes a call of its own, as its users do it.
    let all = |client: &mut Client, _| {
        for name in client.children("/bench/prod").expect("read").expect("there") {
            assert!(
                client
                    .get(&format!("/bench/prod/{name}"))
                    .expect("read")
                    .is_some()
            );
        }
    };
    rows.push((ROWS[7], blocking(1, sizes.window, &connect, &all).a_second()));
    Column {
        name: "ZooKeeper 3.8",
        rows,
    }
}

fn blocking<C>(
    clients: usize,
    window: Duration,
    connect: &(impl Fn() -> C + Sync),
    ask: &(impl Fn(&mut C, usize) + Sync),
) -> Rate {
    let goes = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let goes = &goes;
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                scope.spawn(move || {
                    let mut client = connect();
                    while !goes.load(Relaxed) {
                        std::thread::yield_now();
                    }
                    let begin = Instant::now();
                    let mut number = number * 7919;
                    let mut took = Vec::new();
                    while begin.elapsed() < window {
                        let asked = Instant::now();
                        ask(&mut client, number);
                        took.push(asked.elapsed().as_secs_f64() * 1e3);
                        number += 1;
                    }
                    took
                })
            })
            .collect();
        // All are connected by then, or nearly.
        upkeep_testkit::pass(Duration::from_millis(500));
        let begin = Instant::now();
        goes.store(true, Relaxed);
        let took = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("it ends"))
            .collect();
        Rate {
            took,
            lasted: begin.elapsed(),
        }
    })
}

const SQLITE: &str = r#"
import os, sqlite3, sys, threading, time
folder, window, many = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
KEYS = 1000
def connect(name="bench.db"):
    c = sqlite3.connect(os.path.join(folder, name), isolation_level=None, timeout=60)
    c.execute("pragma journal_mode=wal"); c.execute("pragma synchronous=full")
    return c
first = connect()
first.execute("create table kv (k text primary key, v blob) without rowid")
key = lambda n: "/bench/prod/%04d" % (n % KEYS)
value = lambda n: b"%064d" % n
first.execute("begin")
for n in range(KEYS): first.execute("insert into kv values (?, ?)", (key(n), value(n)))
first.execute("commit")
def write(c, n): c.execute("insert or replace into kv values (?, ?)", (key(n), value(n)))
def read(c, n): assert c.execute("select v from kv where k = ?", (key(n),)).fetchone()
def many_of(c, n): assert len(c.execute("select k, v from kv where k >= '/bench/prod/' and k < '/bench/prod0'").fetchall()) == KEYS
def rate(clients, ask):
    took, lock = [], threading.Lock()
    def one(start):
        c, own, n = connect(), [], start * 7919
        begin = time.perf_counter()
        while time.perf_counter() - begin < window:
            asked = time.perf_counter(); ask(c, n); own.append((time.perf_counter() - asked) * 1e3); n += 1
        with lock: took.extend(own)
    begin = time.perf_counter()
    threads = [threading.Thread(target=one, args=(i,)) for i in range(clients)]
    [t.start() for t in threads]; [t.join() for t in threads]
    lasted = time.perf_counter() - begin
    took.sort()
    print("%.0f;%.2f, %.2f" % (len(took) / lasted, took[len(took) // 2], took[len(took) * 99 // 100]))
for clients, ask in [(1, write), (32, write), (1, read), (32, read), (1, many_of)]: rate(clients, ask)
filled = connect("many.db")
filled.execute("create table kv (k text primary key, v blob) without rowid")
for begin in range(0, many, 5000):
    filled.execute("begin")
    filled.executemany("insert into kv values (?, ?)", (("/many/%07d" % n, value(n)) for n in range(begin, min(many, begin + 5000))))
    filled.execute("commit")
filled.execute("pragma wal_checkpoint(truncate)"); filled.close()
begin = time.perf_counter()
c = connect("many.db"); assert c.execute("select v from kv where k = '/many/0000077'").fetchone()
print("%.1f;%d" % ((time.perf_counter() - begin) * 1e3, os.stat(os.path.join(folder, "many.db")).st_blocks * 512))
"#;

fn sqlite(sizes: &Sizes) -> Column {
    eprintln!("== SQLite");
    let dir = private();
    let said = Command::new("python3")
        .args(["-c", SQLITE])
        .arg(dir.path())
        .args([sizes.window.as_secs().to_string(), sizes.many.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("python3 runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let lines: Vec<(&str, &str)> = said.lines().filter_map(|line| line.split_once(';')).collect();
    let mut rows = Vec::new();
    if let [one, many, read, reads, all, open] = lines.as_slice() {
        let text = |text: &str| text.to_owned();
        rows.extend([
            (ROWS[0], text(one.0)),
            (ROWS[1], text(one.1)),
            (ROWS[2], text(many.0)),
            (ROWS[3], text(many.1)),
        ]);
        rows.extend([
            (ROWS[4], text(read.0)),
            (ROWS[5], text(read.1)),
            (ROWS[6], text(reads.0)),
            (ROWS[7], text(all.0)),
        ]);
        rows.extend([
            (ROWS[9], text(open.0)),
            (ROWS[11], mebibytes(open.1.parse().unwrap_or(0))),
        ]);
    }
    Column {
        name: "SQLite 3, in Python",
        rows,
    }
}
