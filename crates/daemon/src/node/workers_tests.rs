//! What a copy is started with, and when the stop signal is due. The protocol itself is in `primary_tests.rs`.

use std::{
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use tokio::task::LocalSet;
use upkeep_model::file::{self, parse::Format, resolve::Facts};

use super::{super::keep::Later, *};

#[derive(Default)]
struct InMemory {
    kept: RefCell<BTreeMap<String, OwnedFd>>,
    notes: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Keep for Rc<InMemory> {
    fn put(&self, name: String, descriptor: OwnedFd) -> Later<()> {
        self.kept.borrow_mut().insert(name, descriptor);
        Box::pin(std::future::ready(()))
    }

    fn get(&self, name: String) -> Later<Option<OwnedFd>> {
        let found = self
            .kept
            .borrow()
            .get(&name)
            .and_then(|found| found.try_clone().ok());
        Box::pin(std::future::ready(found))
    }

    fn close(&self, name: String) {
        self.kept.borrow_mut().remove(&name);
    }

    fn note(&self, key: String, bytes: Vec<u8>) {
        self.notes.borrow_mut().insert(key, bytes);
    }
}

type Tellings = Rc<RefCell<Vec<(String, News)>>>;

struct Case {
    keep: Rc<InMemory>,
    workers: Workers,
    told: Tellings,
    dir: tempfile::TempDir,
}

fn workers(keep: &Rc<InMemory>, dir: &tempfile::TempDir, told: &Tellings) -> Workers {
    let told = Rc::clone(told);
    Workers::new(
        Rc::new(Rc::clone(keep)),
        "shop",
        Balance::Shared,
        dir.path().join("node"),
        move |copy, news| told.borrow_mut().push((copy.to_owned(), news)),
    )
}

impl Case {
    fn new() -> Self {
        let (keep, told) = (Rc::<InMemory>::default(), Tellings::default());
        let dir = tempfile::tempdir().expect("a directory");
        Self {
            workers: workers(&keep, &dir, &told),
            keep,
            told,
            dir,
        }
    }

    fn prepare(&self, copy: &str, command: &str, app: &str) -> Result<SpawnSpec, String> {
        let mut launched = SpawnSpec {
            argv: command.split(' ').map(OsString::from).collect(),
            cwd: self.dir.path().to_owned(),
            env: vec![("NODE_CHANNEL_FD".into(), "77".into())],
            descriptors: vec![(1, "out".to_owned()), (3, "listen:shop:a".to_owned())],
            ..SpawnSpec::default()
        };
        self.workers.prepare(copy, &spec(app), &mut launched)?;
        Ok(launched)
    }

    /// The worker's end of its channel, as its process has it.
    fn end_of(&self, copy: &str) -> UnixStream {
        let kept = self.keep.kept.borrow();
        let end = &kept[&format!("node:shop:ipc:{copy}:child")];
        let stream = UnixStream::from(end.try_clone().expect("a duplicate"));
        drop(kept);
        self.workers.launched(copy);
        stream
    }
}

/// An app as a file says it.
fn spec(more: &str) -> AppSpec {
    let text = format!("{{\"apps\": [{{\"name\": \"shop\", \"command\": [\"node\", \"a.js\"]{more}}}]}}");
    let facts = Facts {
        file_dir: "/srv".into(),
        cpus: 2,
        caller_env: BTreeMap::new(),
        env_name: None,
        known_apps: BTreeSet::new(),
        read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        find_program: &|_| true,
        file_kind: &|_| None,
    };
    let written = file::parse::parse(&text, "upkeep.json", Format::Json).expect("it can be read");
    file::resolve::resolve(written, &facts)
        .expect("it makes sense")
        .apps
        .remove(0)
}

const CLUSTER: &str = ", \"mode\": \"cluster\"";

fn variable<'a>(launched: &'a SpawnSpec, name: &str) -> Option<&'a str> {
    let found: Vec<_> = launched.env.iter().filter(|(known, _)| known == name).collect();
    assert!(found.len() <= 1, "{name} twice");
    found.first()?.1.to_str()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = LocalSet::new();
    let done = local.block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(30), test).await
    });
    done.expect("the test comes to an end");
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..5000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("in vain: {what}");
}

fn words(launched: &SpawnSpec) -> Vec<&str> {
    launched.argv.iter().filter_map(|word| word.to_str()).collect()
}

#[test]
fn a_worker_gets_channel_number_preload_and_a_debugger_of_its_own() {
    run(async {
        let case = Case::new();
        let first = case
            .prepare("shop/0", "node --inspect a.js", CLUSTER)
            .expect("a worker");
        let second = case
            .prepare("shop/0.1", "node --inspect a.js", CLUSTER)
            .expect("a worker");
        assert_eq!(variable(&first, "NODE_CHANNEL_FD"), Some("4"), "3 is a socket's");
        assert_eq!(first.descriptors[2], (4, "node:shop:ipc:shop/0:child".to_owned()));
        assert_eq!(variable(&first, "NODE_UNIQUE_ID"), Some("1"));
        assert_eq!(variable(&second, "NODE_UNIQUE_ID"), Some("2"));
        let preload = case.dir.path().join("node/drain.cjs");
        let preload = preload.to_str().expect("text");
        assert!(
            std::fs::read_to_string(preload)
                .expect("it is there")
                .contains("NODE_UPKEEP_DRAIN")
        );
        assert_eq!(words(&first), ["node", "--require", preload, "--inspect", "a.js"]);
        assert_eq!(
            words(&second),
            ["node", "--require", preload, "--inspect=9230", "a.js"]
        );
        let off = format!("{CLUSTER}, \"drain_preload\": false");
        let plain = case.prepare("shop/2", "node a.js", &off).expect("a worker");
        assert_eq!(words(&plain), ["node", "a.js"]);
        // Numbers are not used twice, places of debuggers are.
        case.workers.ended("shop/0");
        let again = case
            .prepare("shop/0", "node --inspect a.js", CLUSTER)
            .expect("a worker");
        assert_eq!(variable(&again, "NODE_UNIQUE_ID"), Some("4"));
        assert_eq!(words(&again)[3], "--inspect");
        let why = case
            .prepare("shop/3", "gunicorn app", CLUSTER)
            .expect_err("no Node");
        assert!(why.contains("`gunicorn` is not Node"), "{why}");
        for copy in ["shop/0", "shop/0.1", "shop/2", "shop/3"] {
            case.workers.ended(copy);
        }
        assert!(case.keep.kept.borrow().is_empty(), "{:?}", case.keep.kept);
    });
}

#[test]
fn in_fork_mode_there_is_only_the_channel() {
    run(async {
        let case = Case::new();
        let by_message = ", \"readiness\": {\"message\": true}";
        let launched = case
            .prepare("shop/0", "node a.js", by_message)
            .expect("a process");
        assert_eq!(variable(&launched, "NODE_CHANNEL_FD"), Some("4"));
        assert_eq!(variable(&launched, "NODE_UNIQUE_ID"), None);
        assert_eq!(words(&launched), ["node", "a.js"]);
        let mut end = case.end_of("shop/0");
        end.write_all(b"\"ready\"\n\"ready\"\n").expect("written");
        until("it is told", || !case.told.borrow().is_empty()).await;
        assert_eq!(*case.told.borrow(), [("shop/0".to_owned(), News::Ready)]);
        assert!(!case.workers.drain("shop/0", Duration::from_secs(1)));
    });
}

/// What has been said to a worker.
fn said(mut end: &UnixStream) -> String {
    end.set_nonblocking(true).expect("non-blocking");
    let mut bytes = Vec::new();
    // It ends with WouldBlock.
    let _ = end.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_stop_signal_is_due_when_it_has_hung_up_or_had_its_time() {
    run(async {
        let case = Case::new();
        case.prepare("shop/0", "node a.js", CLUSTER).expect("a worker");
        let end = case.end_of("shop/0");
        let begin = std::time::Instant::now();
        assert!(case.workers.drain("shop/0", Duration::from_mins(1)));
        assert!(
            case.workers.drain("shop/0", Duration::from_mins(1)),
            "asked again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        let words = said(&end);
        assert_eq!(words.matches("\"disconnect\"").count(), 1, "{words}");
        let drain = words.find("NODE_UPKEEP_DRAIN").expect("the preload is told");
        assert!(drain < words.find("\"disconnect\"").expect("it is"), "{words}");
        drop(end);
        until("it is due", || !case.told.borrow().is_empty()).await;
        assert_eq!(*case.told.borrow(), [("shop/0".to_owned(), News::Drained)]);
        let took = begin.elapsed();
        assert!(took >= AFTERWARDS && took < Duration::from_secs(20), "{took:?}");
        assert!(
            !case.workers.drain("shop/0", Duration::from_mins(1)),
            "it was due"
        );
        // One that does not hang up.
        case.told.borrow_mut().clear();
        case.prepare("shop/1", "node a.js", CLUSTER).expect("a worker");
        let _end = case.end_of("shop/1");
        assert!(case.workers.drain("shop/1", Duration::from_millis(40)));
        until("it is due", || !case.told.borrow().is_empty()).await;
        assert_eq!(*case.told.borrow(), [("shop/1".to_owned(), News::Drained)]);
    });
}

#[test]
fn a_new_daemon_takes_the_channels_up_and_tells_nobody_twice_to_go() {
    run(async {
        let (first, keep, dir) = {
            let case = Case::new();
            case.prepare("shop/0", "node a.js", CLUSTER).expect("a worker");
            case.prepare("shop/1", "node a.js", CLUSTER).expect("a worker");
            case.prepare("shop/2", "node a.js", CLUSTER).expect("a worker");
            let ends = (case.end_of("shop/0"), case.end_of("shop/1"));
            case.workers.launched("shop/2");
            let listening =
                "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"listening\",\"port\":80,\"addressType\":4}\n";
            (&ends.0).write_all(listening.as_bytes()).expect("written");
            until("it listens", || !case.told.borrow().is_empty()).await;
            assert!(case.workers.drain("shop/1", Duration::from_mins(1)));
            tokio::time::sleep(Duration::from_millis(20)).await;
            (ends, case.keep, case.dir)
        };
        let (worker, leaving) = first;
        assert!(said(&leaving).contains("disconnect"));
        let told = Tellings::default();
        let found = Found {
            names: keep.kept.borrow().keys().cloned().collect(),
            notes: keep.notes.borrow().clone(),
        };
        assert!(found.names.iter().all(|name| Found::app_of(name) == Some("shop")));
        let next = workers(&keep, &dir, &told);
        let living = ["shop/0", "shop/1"].map(str::to_owned).into_iter().collect();
        next.recover(found, &living);
        // The stop is ordered again before the channel is here.
        assert!(next.drain("shop/1", Duration::from_mins(1)));
        until("it is told again", || !told.borrow().is_empty()).await;
        assert!(matches!(&told.borrow()[0], (copy, News::Listening { .. }) if copy == "shop/0"));
        (&worker).write_all(b"\"ready\"\n").expect("written");
        (&worker).write_all(b"{\"cmd\":\"NODE_X\"}\n").expect("written");
        drop(leaving);
        until("it is due", || told.borrow().len() >= 2).await;
        assert_eq!(said(&worker), "");
        assert!(told.borrow().contains(&("shop/1".to_owned(), News::Drained)));
        assert!(
            !keep.kept.borrow().contains_key("node:shop:ipc:shop/2"),
            "it has ended"
        );
    });
}

#[test]
fn a_copy_that_is_only_tried_takes_no_socket_of_the_others() {
    run(async {
        let case = Case::new();
        let ask = |end: &UnixStream, port: u16| {
            let query = format!(
                "{{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"seq\":1,\"index\":0,\"data\":null,\"address\":\"127.0.0.1\",\"port\":{port},\"addressType\":4}}\n"
            );
            (&*end).write_all(query.as_bytes()).expect("written");
        };
        case.prepare("shop/0", "node a.js", CLUSTER).expect("a worker");
        let worker = case.end_of("shop/0");
        ask(&worker, 0);
        let listeners = || -> Vec<String> {
            let kept = case.keep.kept.borrow();
            kept.keys()
                .filter(|name| !name.contains(":ipc:"))
                .cloned()
                .collect()
        };
        until("a socket", || listeners().len() == 1).await;
        case.prepare("shop/trial.1", "node a.js", CLUSTER)
            .expect("a worker");
        let tried = case.end_of("shop/trial.1");
        ask(&tried, 80);
        let answer = Cell::new(String::new());
        until("an answer", || {
            answer.set(answer.take() + &said(&tried));
            let text = answer.take();
            let done = text.contains("\"port\":80") && !text.contains("NODE_HANDLE");
            answer.set(text);
            done
        })
        .await;
        assert_eq!(listeners().len(), 1, "it has none");
        ask(&tried, 0);
        until("another socket", || listeners().len() == 2).await;
        assert!(
            listeners()[1].starts_with("node:shop:trial:"),
            "{:?}",
            listeners()
        );
        case.workers.ended("shop/trial.1");
        assert_eq!(listeners().len(), 1);
        case.workers.release();
        assert!(listeners().is_empty());
    });
}

#[test]
fn a_trial_that_a_daemon_did_not_survive_leaves_no_socket() {
    run(async {
        let case = Case::new();
        let listener = || -> OwnedFd { std::net::TcpListener::bind("127.0.0.1:0").expect("a port").into() };
        for name in ["node:shop:trial:a", "node:shop:listen:b"] {
            case.keep.kept.borrow_mut().insert(name.to_owned(), listener());
        }
        let found = || Found {
            names: case.keep.kept.borrow().keys().cloned().collect(),
            notes: case.keep.notes.borrow().clone(),
        };
        case.workers.recover(found(), &BTreeSet::new());
        let left: Vec<String> = case.keep.kept.borrow().keys().cloned().collect();
        assert_eq!(left, ["node:shop:listen:b"]);
        // Of one that goes on the sockets stay, until it has ended.
        case.prepare("shop/trial.1", "node a.js", CLUSTER)
            .expect("a worker");
        case.keep
            .kept
            .borrow_mut()
            .insert("node:shop:trial:c".to_owned(), listener());
        let next = workers(&case.keep, &case.dir, &case.told);
        next.recover(found(), &BTreeSet::from(["shop/trial.1".to_owned()]));
        assert!(case.keep.kept.borrow().contains_key("node:shop:trial:c"));
        next.ended("shop/trial.1");
        let left: Vec<String> = case.keep.kept.borrow().keys().cloned().collect();
        assert_eq!(left, ["node:shop:listen:b"]);
    });
}
