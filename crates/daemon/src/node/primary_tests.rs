//! A scripted worker over a real channel: it keeps to the protocol or does not. Real Nodes are in `e2e/tests/cluster.rs`.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::AsFd as _, unix::net::UnixStream as Blocking},
};

use tokio::task::LocalSet;
use upkeep_sys::fd_pass;

use super::{
    super::{
        channel::{Heard, Limits, pair},
        keep::Later,
    },
    *,
};

/// A keeper in memory.
#[derive(Default)]
struct Table {
    kept: RefCell<BTreeMap<String, OwnedFd>>,
    notes: RefCell<BTreeMap<String, Vec<u8>>>,
}

struct InMemory(Rc<Table>);

impl Keep for InMemory {
    fn put(&self, name: String, descriptor: OwnedFd) -> Later<()> {
        self.0.kept.borrow_mut().insert(name, descriptor);
        Box::pin(std::future::ready(()))
    }

    fn get(&self, name: String) -> Later<Option<OwnedFd>> {
        let found = self
            .0
            .kept
            .borrow()
            .get(&name)
            .and_then(|found| found.try_clone().ok());
        Box::pin(async move {
            // As the real one: an answer comes later.
            tokio::task::yield_now().await;
            found
        })
    }

    fn close(&self, name: String) {
        self.0.kept.borrow_mut().remove(&name);
    }

    fn note(&self, key: String, bytes: Vec<u8>) {
        self.0.notes.borrow_mut().insert(key, bytes);
    }
}

type Tellings = Rc<RefCell<Vec<(String, Told)>>>;

struct App {
    table: Rc<Table>,
    primary: Primary,
    told: Tellings,
    rights: Cell<Rights>,
}

impl App {
    fn new(balance: Balance) -> Self {
        Self::on(Rc::default(), balance)
    }

    fn on(table: Rc<Table>, balance: Balance) -> Self {
        let told = Tellings::default();
        let of = Rc::clone(&told);
        let primary = Primary::new(
            Rc::new(InMemory(Rc::clone(&table))),
            "shop:".to_owned(),
            "shop".to_owned(),
            balance,
            move |copy, what| of.borrow_mut().push((copy.to_owned(), what)),
        );
        Self {
            table,
            primary,
            told,
            rights: Cell::default(),
        }
    }

    fn connect(&self, copy: &str, socket: OwnedFd, resumed: bool) {
        let (primary, name) = (self.primary.clone(), copy.to_owned());
        let channel = Channel::open(socket, Limits::OWN, resumed, move |heard| match heard {
            Heard::Message(message) => primary.hear(&name, message),
            Heard::Undelivered(message) => primary.undelivered(&name, &message),
            Heard::End => {}
        })
        .expect("a channel");
        let sockets = BTreeMap::from([(3, "shop:given".to_owned())]);
        let rights = self.rights.get();
        self.primary.attach(copy, Rc::new(channel), sockets, rights);
    }

    fn worker(&self, copy: &str) -> Scripted {
        let (ours, theirs) = pair().expect("a socketpair");
        self.connect(copy, ours, false);
        Scripted::new(theirs)
    }
}

/// The far end.
struct Scripted {
    socket: tokio::net::UnixStream,
    bytes: Vec<u8>,
    handles: std::collections::VecDeque<OwnedFd>,
    acks: bool,
}

impl Scripted {
    fn new(socket: OwnedFd) -> Self {
        let socket = Blocking::from(socket);
        socket.set_nonblocking(true).expect("non-blocking");
        Self {
            socket: tokio::net::UnixStream::from_std(socket).expect("a socket"),
            bytes: Vec::new(),
            handles: std::collections::VecDeque::new(),
            acks: true,
        }
    }

    async fn say(&self, message: Value) {
        let mut line = message.to_string();
        line.push('\n');
        let mut bytes = line.as_bytes();
        while !bytes.is_empty() {
            self.socket.writable().await.expect("writable");
            match self.socket.try_write(bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next message, unwrapped and acknowledged, with its descriptor.
    async fn hear(&mut self) -> (Value, Option<OwnedFd>) {
        let one = async {
            loop {
                if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.bytes.drain(..=end).collect();
                    let message: Value = serde_json::from_slice(&line).expect("JSON");
                    if message["cmd"] == "NODE_HANDLE" {
                        let handle = self.handles.pop_front();
                        assert!(handle.is_some(), "no descriptor with {message}");
                        if self.acks {
                            self.say(json!({"cmd": "NODE_HANDLE_ACK"})).await;
                        }
                        return (message["msg"].clone(), handle);
                    }
                    return (message, None);
                }
                self.socket.readable().await.expect("readable");
                let mut buffer = [0; 4096];
                let received = self.socket.try_io(tokio::io::Interest::READABLE, || {
                    fd_pass::recv(self.socket.as_fd(), &mut buffer, &mut self.handles).map_err(|error| {
                        if error.would_block() {
                            std::io::ErrorKind::WouldBlock.into()
                        } else {
                            std::io::Error::other(error)
                        }
                    })
                });
                match received {
                    Ok(0) => panic!("hung up"),
                    Ok(length) => self.bytes.extend_from_slice(&buffer[..length]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), one)
            .await
            .expect("the daemon says something")
    }

    async fn silence(&mut self) {
        let said = tokio::time::timeout(Duration::from_millis(60), self.hear_raw()).await;
        assert!(said.is_err(), "the daemon said {said:?}");
    }

    async fn hear_raw(&mut self) -> Value {
        self.hear().await.0
    }

    async fn ask(&mut self, seq: u64, more: Value) -> (Value, Option<OwnedFd>) {
        self.say(query(seq, more)).await;
        let (answer, handle) = self.hear().await;
        assert_eq!(answer["ack"], seq, "{answer}");
        (answer, handle)
    }

    /// As a worker starts: online, one query, listening.
    async fn listen(&mut self, more: Value) -> (Value, Option<OwnedFd>) {
        self.say(json!({"cmd": "NODE_CLUSTER", "act": "online", "seq": 0}))
            .await;
        let (answer, handle) = self.ask(1, more.clone()).await;
        let mut listening = query(2, more);
        listening["act"] = "listening".into();
        self.say(listening).await;
        (answer, handle)
    }
}

fn query(seq: u64, more: Value) -> Value {
    let mut message = json!({
        "cmd": "NODE_CLUSTER", "act": "queryServer", "seq": seq, "index": 0, "data": null,
        "address": "127.0.0.1", "port": 0, "addressType": 4, "fd": null,
    });
    for (key, value) in more.as_object().expect("an object") {
        message[key] = value.clone();
    }
    message
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

fn address(handle: &OwnedFd) -> SocketAddr {
    TcpListener::from(handle.try_clone().expect("a duplicate"))
        .local_addr()
        .expect("an address")
}

#[test]
fn all_workers_get_one_socket_and_the_first_ones_data() {
    run(async {
        let app = App::new(Balance::Shared);
        let mut first = app.worker("shop/0");
        let (answer, handle) = first.listen(json!({"data": {"keys": "abc"}})).await;
        assert_eq!(answer["errno"], 0);
        let place = address(&handle.expect("a socket"));
        let mut second = app.worker("shop/1");
        let (answer, handle) = second.listen(json!({"data": {"keys": "other"}})).await;
        assert_eq!(answer["data"]["keys"], "abc");
        assert_eq!(address(&handle.expect("a socket")), place);
        // The second `listen(0)` of a worker is another one.
        let (_, handle) = second.ask(3, json!({"index": 1})).await;
        assert_ne!(address(&handle.expect("a socket")), place);
        TcpStream::connect(place).expect("it listens");
        // The first one goes, is replaced, and the same socket is there.
        app.primary.detach("shop/0");
        drop(first);
        let mut third = app.worker("shop/2");
        let (_, handle) = third.listen(json!({})).await;
        assert_eq!(address(&handle.expect("a socket")), place);
        until("it listens", || app.primary.is_listening("shop/2")).await;
        app.primary.release();
        assert!(app.table.kept.borrow().is_empty());
        let told = app.told.borrow();
        let listening = told
            .iter()
            .filter(|(_, told)| matches!(told, Told::Listening { .. }));
        assert_eq!(listening.count(), 3);
    });
}

#[test]
fn every_query_is_answered_also_the_odd_ones() {
    run(async {
        let app = App::new(Balance::Shared);
        let mut worker = app.worker("shop/0");
        for (seq, more, errno) in [
            (1, json!({"addressType": "quic"}), -97),
            (2, json!({"addressType": {"a": 1}}), -97),
            (3, json!({"address": 7, "addressType": -1, "port": -1}), -22),
            (4, json!({"address": "no address"}), -99),
            (5, json!({"fd": 9}), -9),
            (6, json!({"fd": 3}), -9),
            (7, json!({"port": 99_999, "address": "256.0.0.1"}), -99),
        ] {
            let (answer, handle) = worker.ask(seq, more.clone()).await;
            assert_eq!(answer["errno"], errno, "{more}");
            assert!(handle.is_none());
        }
        // A socket that the worker was started with.
        let given = TcpListener::bind("127.0.0.1:0").expect("a port");
        let place = given.local_addr().expect("its address");
        app.table
            .kept
            .borrow_mut()
            .insert("shop:given".to_owned(), given.into());
        let (answer, handle) = worker.ask(8, json!({"fd": 3})).await;
        assert_eq!(answer["errno"], 0);
        assert_eq!(address(&handle.expect("a socket")), place);
        // The same key twice, then closed and again.
        let (answer, handle) = worker.ask(9, json!({})).await;
        let port = address(&handle.expect("a socket")).port();
        assert_eq!(worker.ask(10, json!({})).await.0["errno"], -98);
        let key = answer["key"].clone();
        worker
            .say(json!({"cmd": "NODE_CLUSTER", "act": "close", "seq": 11, "key": key}))
            .await;
        let (answer, handle) = worker.ask(12, json!({"port": port})).await;
        assert_eq!(answer["errno"], 0, "closed and again on port {port}");
        assert_eq!(address(&handle.expect("a socket")).port(), port);
        let refused = app.told.borrow();
        let refused = refused
            .iter()
            .filter(|(_, told)| matches!(told, Told::Refused { .. }));
        assert_eq!(refused.count(), 8);
    });
}

#[test]
fn a_thousand_queries_and_an_app_without_measure_are_answered() {
    run(async {
        let app = App::new(Balance::Shared);
        let mut worker = app.worker("shop/0");
        for seq in 1..=1100 {
            worker.say(query(seq, json!({"index": seq}))).await;
        }
        let mut ports = BTreeSet::new();
        let mut refused = 0;
        for _ in 0..1100 {
            let (answer, handle) = worker.hear().await;
            match handle {
                Some(handle) => {
                    ports.insert(address(&handle).port());
                }
                None => {
                    assert_eq!(answer["errno"], -24, "{answer}");
                    refused += 1;
                }
            }
        }
        // The limit of listeners, or of descriptors, whichever comes first.
        assert!(
            ports.len() + refused == 1100 && refused >= 76,
            "{} and {refused}",
            ports.len()
        );
        app.primary.release();
        assert!(app.table.kept.borrow().is_empty());
    });
}

#[test]
fn who_is_told_to_go_leaves_the_socket_to_the_next() {
    run(async {
        let app = App::new(Balance::Shared);
        let mut old = app.worker("shop/0");
        let (answer, handle) = old.listen(json!({})).await;
        let place = address(&handle.expect("a socket"));
        until("it listens", || app.primary.is_listening("shop/0")).await;
        assert!(
            app.primary
                .retire("shop/0", Some(&json!({"cmd": "NODE_UPKEEP_DRAIN"})))
        );
        assert_eq!(old.hear_raw().await["cmd"], "NODE_UPKEEP_DRAIN");
        assert_eq!(old.hear_raw().await["act"], "disconnect");
        old.say(json!({"cmd": "NODE_CLUSTER", "act": "close", "seq": 5, "key": answer["key"]}))
            .await;
        // It gets no answer any more, but for its leave.
        old.say(query(6, json!({"index": 4}))).await;
        old.silence().await;
        old.say(json!({"cmd": "NODE_CLUSTER", "act": "exitedAfterDisconnect", "seq": 7}))
            .await;
        assert_eq!(old.hear_raw().await["ack"], 7);
        TcpStream::connect(place).expect("it still listens");
        app.primary.detach("shop/0");
        // The last one that is not on its way out closes for good.
        let mut new = app.worker("shop/1");
        let (answer, handle) = new.listen(json!({})).await;
        assert_eq!(address(handle.as_ref().expect("a socket")), place);
        new.say(json!({"cmd": "NODE_CLUSTER", "act": "close", "seq": 5, "key": answer["key"]}))
            .await;
        drop(handle);
        until("it is closed", || app.table.kept.borrow().is_empty()).await;
        TcpStream::connect(place).expect_err("nobody listens");
    });
}

#[test]
fn a_socket_that_does_not_arrive_is_an_error_to_the_app() {
    run(async {
        let app = App::new(Balance::Shared);
        let mut worker = app.worker("shop/0");
        worker.acks = false;
        worker.say(query(1, json!({}))).await;
        for _ in 0..=super::super::channel::NACKS_MAX {
            worker.hear().await;
            worker.say(json!({"cmd": "NODE_HANDLE_NACK"})).await;
        }
        let (answer, handle) = worker.hear().await;
        assert_eq!(
            (answer["ack"].as_u64(), answer["errno"].as_i64()),
            (Some(1), Some(-24))
        );
        assert!(handle.is_none());
        // It may ask again.
        worker.acks = true;
        assert_eq!(worker.ask(2, json!({})).await.0["errno"], 0);
    });
}

#[test]
fn the_next_daemon_gives_the_same_answers() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        let unix = json!({"address": path, "port": -1, "addressType": -1, "index": 1});
        let (ours, theirs) = pair().expect("a socketpair");
        let mut worker = Scripted::new(theirs);
        let table = {
            let app = App::new(Balance::Shared);
            app.connect("shop/0", ours.try_clone().expect("the keeper's"), false);
            worker.listen(json!({"data": "tickets"})).await;
            worker.ask(3, unix.clone()).await;
            until("it listens", || app.primary.is_listening("shop/0")).await;
            let is_open =
                || String::from_utf8_lossy(&app.table.notes.borrow()["shop"]).contains("queryServer");
            until("nothing is open", || !is_open()).await;
            app.table
        };
        // That daemon is gone: what it had noted, and what the keeper has.
        let note = table.notes.borrow().get("shop").cloned();
        let names: Vec<String> = table.kept.borrow().keys().cloned().collect();
        assert_eq!(names.len(), 2);
        let app = App::on(Rc::clone(&table), Balance::Shared);
        let living = BTreeSet::from(["shop/0".to_owned()]);
        app.primary.recover(note.as_deref(), names, &living);
        app.connect("shop/0", ours, true);
        until("it listens", || app.primary.is_listening("shop/0")).await;
        assert_eq!(worker.ask(4, json!({})).await.0["errno"], -98);
        let mut next = app.worker("shop/1");
        let (answer, handle) = next.listen(json!({"data": "other"})).await;
        assert_eq!(answer["data"], "tickets");
        TcpStream::connect(address(&handle.expect("a socket"))).expect("it listens");
        // What has ended is forgotten, and at the end the file goes.
        app.primary.detach("shop/0");
        app.primary.detach("shop/1");
        assert!(path.exists());
        app.primary.release();
        assert!(!path.exists());
        assert_eq!(table.notes.borrow().get("shop"), Some(&Vec::new()));
    });
}

#[test]
fn a_socket_of_a_daemon_that_died_before_it_noted_it_is_found() {
    run(async {
        let app = App::new(Balance::Shared);
        let lost = TcpListener::bind("127.0.0.1:0").expect("a port");
        let place = lost.local_addr().expect("its address");
        let more = json!({"port": place.port()});
        let key = Query::read(&query(1, more.clone())).key;
        app.table
            .kept
            .borrow_mut()
            .insert(format!("shop:{key}"), lost.into());
        let mut worker = app.worker("shop/0");
        let (answer, handle) = worker.listen(more).await;
        assert_eq!(answer["errno"], 0);
        assert_eq!(address(&handle.expect("a socket")), place);
    });
}

/// Connects and says a number, so that it can be told from others.
fn client(place: SocketAddr, number: u8) -> TcpStream {
    let mut stream = TcpStream::connect(place).expect("connected");
    stream.write_all(&[number]).expect("written");
    stream
}

fn number(handle: OwnedFd) -> u8 {
    let mut stream = TcpStream::from(handle);
    stream.set_nonblocking(false).expect("blocking");
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("a byte");
    byte[0]
}

async fn connection(worker: &mut Scripted) -> (u64, OwnedFd) {
    let (message, handle) = worker.hear().await;
    assert_eq!(message["act"], "newconn", "{message}");
    (
        message["seq"].as_u64().expect("a number"),
        handle.expect("a connection"),
    )
}

async fn accepted(worker: &Scripted, seq: u64, accepted: bool) {
    worker
        .say(json!({"cmd": "NODE_CLUSTER", "ack": seq, "seq": 9, "accepted": accepted}))
        .await;
}

#[test]
fn round_robin_gives_each_connection_to_one_worker_that_is_free_and_promoted() {
    run(async {
        let app = App::new(Balance::RoundRobin);
        let mut first = app.worker("shop/0");
        let (answer, handle) = first.listen(json!({})).await;
        assert!(handle.is_none(), "it does not accept by itself");
        let name = &answer["sockname"];
        assert_eq!(
            (&name["address"], &name["family"]),
            (&json!("127.0.0.1"), &json!("IPv4"))
        );
        let port = u16::try_from(name["port"].as_u64().expect("a port")).expect("a port");
        let place = SocketAddr::from(([127, 0, 0, 1], port));
        let _one = client(place, 1);
        // The gate: it is not promoted yet, and the connection waits.
        first.silence().await;
        app.primary.promote("shop/0");
        let (seq, handle) = connection(&mut first).await;
        assert_eq!(number(handle), 1);
        // Busy until it has answered.
        let _two = client(place, 2);
        first.silence().await;
        let mut second = app.worker("shop/1");
        second.listen(json!({})).await;
        app.primary.promote("shop/1");
        let (other, handle) = connection(&mut second).await;
        assert_eq!(number(handle), 2);
        accepted(&second, other, true).await;
        accepted(&first, seq, true).await;
        // Taken in turns.
        let mut counts = [0, 0];
        for round in 0..10 {
            let _client = client(place, round);
            let got = tokio::select! {
                (seq, _handle) = connection(&mut first) => { accepted(&first, seq, true).await; 0 }
                (seq, _handle) = connection(&mut second) => { accepted(&second, seq, true).await; 1 }
            };
            counts[got] += 1;
            // The answer is on its way.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(counts, [5, 5]);
    });
}

#[test]
fn round_robin_loses_no_connection_to_who_refuses_or_dies() {
    run(async {
        let app = App::new(Balance::RoundRobin);
        let mut first = app.worker("shop/0");
        let (answer, _) = first.listen(json!({})).await;
        let port = u16::try_from(answer["sockname"]["port"].as_u64().expect("a port")).expect("a port");
        let place = SocketAddr::from(([127, 0, 0, 1], port));
        app.primary.promote("shop/0");
        let mut second = app.worker("shop/1");
        second.listen(json!({})).await;
        let _one = client(place, 1);
        let (seq, _) = connection(&mut first).await;
        // Nobody else is promoted: it is asked again.
        accepted(&first, seq, false).await;
        let (seq, _) = connection(&mut first).await;
        app.primary.promote("shop/1");
        accepted(&first, seq, false).await;
        let (_, handle) = connection(&mut second).await;
        assert_eq!(number(handle), 1);
        // The second one dies before it has answered.
        app.primary.detach("shop/1");
        drop(second);
        let (seq, _) = connection(&mut first).await;
        accepted(&first, seq, true).await;
        // One that is told to go gets no more; what connects meanwhile waits for the next.
        assert!(app.primary.retire("shop/0", None));
        assert_eq!(first.hear_raw().await["act"], "disconnect");
        let _two = client(place, 2);
        first.silence().await;
        app.primary.detach("shop/0");
        let mut third = app.worker("shop/2");
        third.listen(json!({})).await;
        app.primary.promote("shop/2");
        let (_, handle) = connection(&mut third).await;
        assert_eq!(number(handle), 2);
    });
}

#[test]
fn round_robin_goes_on_in_the_next_daemon_and_shares_datagrams() {
    run(async {
        let (ours, theirs) = pair().expect("a socketpair");
        let mut worker = Scripted::new(theirs);
        let (table, place) = {
            let app = App::new(Balance::RoundRobin);
            app.connect("shop/0", ours.try_clone().expect("the keeper's"), false);
            let (answer, _) = worker.listen(json!({})).await;
            let port = u16::try_from(answer["sockname"]["port"].as_u64().expect("a port")).expect("a port");
            app.primary.promote("shop/0");
            let (answer, handle) = worker.ask(3, json!({"addressType": "udp4", "index": 1})).await;
            assert_eq!(answer["errno"], 0);
            assert_eq!(Kind::of(&handle.expect("a socket")), Some(Kind::Udp));
            (app.table, SocketAddr::from(([127, 0, 0, 1], port)))
        };
        let note = table.notes.borrow().get("shop").cloned();
        let names: Vec<String> = table.kept.borrow().keys().cloned().collect();
        // Between the daemons it waits in the kernel's queue.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _one = client(place, 1);
        let app = App::on(table, Balance::RoundRobin);
        let living = BTreeSet::from(["shop/0".to_owned()]);
        app.primary.recover(note.as_deref(), names, &living);
        app.connect("shop/0", ours, true);
        let (_, handle) = connection(&mut worker).await;
        assert_eq!(number(handle), 1);
    });
}

#[test]
fn what_is_no_message_of_the_protocol_is_the_apps() {
    run(async {
        let app = App::new(Balance::Shared);
        let mut worker = app.worker("shop/0");
        for message in [json!("ready"), json!({"cmd": "mine"}), json!(7)] {
            worker.say(message).await;
        }
        for odd in [
            json!({"cmd": "NODE_CLUSTER"}),
            json!({"cmd": "NODE_CLUSTER", "act": 7, "seq": "x"}),
            json!({"cmd": "NODE_CLUSTER", "act": "close", "key": {"a": 1}}),
            json!({"cmd": "NODE_CLUSTER", "act": "close", "key": "nobody's"}),
            json!({"cmd": "NODE_CLUSTER", "ack": 4711, "accepted": true}),
            json!({"cmd": "NODE_CLUSTER", "act": "listening"}),
        ] {
            worker.say(odd).await;
        }
        assert_eq!(worker.ask(1, json!({})).await.0["errno"], 0);
        let told = app.told.borrow();
        let messages = told.iter().filter(|(_, told)| matches!(told, Told::Message(_)));
        assert_eq!(messages.count(), 3);
    });
}

#[test]
fn an_app_gets_no_socket_that_it_could_not_bind_itself() {
    run(async {
        let app = App::new(Balance::Shared);
        app.rights.set(Rights {
            low_ports: false,
            paths: false,
            network: true,
        });
        let mut worker = app.worker("shop/0");
        for (seq, more, errno) in [
            (1, json!({"port": 80}), -13),
            (2, json!({"port": 53, "addressType": "udp4"}), -13),
            (
                3,
                json!({"address": "/tmp/upkeep-test.sock", "port": -1, "addressType": -1}),
                -13,
            ),
            (4, json!({"port": 0}), 0),
        ] {
            assert_eq!(worker.ask(seq, more.clone()).await.0["errno"], errno, "{more}");
        }
        app.rights.set(Rights {
            network: false,
            ..Rights::default()
        });
        let given = TcpListener::bind("127.0.0.1:0").expect("a port");
        app.table
            .kept
            .borrow_mut()
            .insert("shop:given".to_owned(), given.into());
        let mut caged = app.worker("shop/1");
        assert_eq!(caged.ask(1, json!({"port": 0})).await.0["errno"], -13);
        // What it was handed it may use.
        assert_eq!(caged.ask(2, json!({"fd": 3})).await.0["errno"], 0);
    });
}

#[test]
fn workers_that_ask_at_the_same_moment_get_the_same_socket() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let app = App::new(Balance::Shared);
        let mut workers: Vec<Scripted> = (0..5).map(|at| app.worker(&format!("shop/{at}"))).collect();
        for worker in &workers {
            worker.say(query(1, json!({"port": port}))).await;
            let unix = json!({"address": path, "port": -1, "addressType": -1});
            worker.say(query(2, unix)).await;
        }
        for worker in &mut workers {
            for _ in 0..2 {
                let (answer, handle) = worker.hear().await;
                assert_eq!(answer["errno"], 0, "{answer}");
                assert!(handle.is_some());
            }
        }
        assert_eq!(app.table.kept.borrow().len(), 2);
    });
}

#[test]
fn a_worker_cannot_make_us_keep_more_than_the_keeper_takes() {
    run(async {
        let app = App::new(Balance::Shared);
        let mut worker = app.worker("shop/0");
        let (answer, handle) = worker.ask(1, json!({"data": "x".repeat(QUERY_BYTES)})).await;
        assert_eq!(answer["errno"], -EMSGSIZE);
        assert!(handle.is_none() && answer["data"].is_null());
        let (answer, _) = worker.ask(2, json!({"x": vec![0; QUERY_BYTES]})).await;
        assert_eq!(answer["errno"], -EMSGSIZE);
        assert!(app.table.kept.borrow().is_empty());
        let data = "x".repeat(3 << 10);
        let mut taken = 0;
        let errno = loop {
            let (answer, _) = worker.ask(3 + taken, json!({"index": taken, "data": data})).await;
            if answer["errno"] != 0 {
                break answer["errno"].clone();
            }
            taken += 1;
            assert!(taken < 200, "it is bounded");
        };
        assert_eq!(errno, -EMFILE);
        assert!(taken > 50, "{taken} listeners");
        assert_eq!(app.table.kept.borrow().len() as u64, taken);
        let note = app.table.notes.borrow()["shop"].clone();
        assert!((100_000..=upkeep_keeper::protocol::MAX_NOTE).contains(&note.len()));
        // What is there is known to the next daemon.
        let kept: Kept = serde_json::from_slice(&note).expect("it reads back");
        assert_eq!(kept.listeners.len() as u64, taken);
        // And goes on working.
        let mut second = app.worker("shop/1");
        app.primary.detach("shop/0");
        let (answer, handle) = second.ask(1, json!({"index": 0})).await;
        assert_eq!(answer["errno"], 0);
        assert!(handle.is_some());
    });
}

#[test]
fn what_a_killed_daemon_was_asked_is_answered_by_the_next() {
    run(async {
        let app = App::new(Balance::Shared);
        let _worker = app.worker("shop/0");
        app.primary
            .hear("shop/0", query(7, json!({"data": {"keys": "abc"}})));
        // Nothing has been done about it yet.
        let note = app.table.notes.borrow()["shop"].clone();
        let living = BTreeSet::from(["shop/0".to_owned()]);
        let next = App::new(Balance::Shared);
        next.primary.recover(Some(&note), [], &living);
        let again = next.table.notes.borrow()["shop"].clone();
        let (ours, theirs) = pair().expect("a socketpair");
        next.connect("shop/0", ours, true);
        let mut worker = Scripted::new(theirs);
        let (answer, handle) = worker.hear().await;
        assert_eq!(
            (&answer["ack"], &answer["errno"]),
            (&json!(7), &json!(0)),
            "{answer}"
        );
        assert_eq!(answer["data"]["keys"], "abc");
        TcpStream::connect(address(&handle.expect("a socket"))).expect("it listens");
        until("it is forgotten", || {
            !String::from_utf8_lossy(&next.table.notes.borrow()["shop"]).contains("queryServer")
        })
        .await;
        worker.silence().await;
        // One that is killed before the channel is there leaves it to a third one; that it was answered does no harm.
        let third = App::new(Balance::Shared);
        third.primary.recover(Some(&again), [], &living);
        let (ours, theirs) = pair().expect("a socketpair");
        third.connect("shop/0", ours, true);
        assert_eq!(Scripted::new(theirs).hear().await.0["ack"], 7);
    });
}

#[test]
fn who_ends_while_it_asks_leaves_no_socket() {
    run(async {
        for trial in [false, true] {
            let app = App::new(Balance::Shared);
            app.primary.0.trial.set(trial);
            for more in [json!({}), json!({"addressType": "udp4", "port": 53})] {
                let _worker = app.worker("shop/0");
                app.primary.hear("shop/0", query(1, more));
                app.primary.detach("shop/0");
                app.primary.release();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(app.table.kept.borrow().is_empty(), "trial: {trial}");
            assert!(app.primary.places().is_empty());
            assert!(app.table.notes.borrow()["shop"].is_empty());
        }
    });
}

#[test]
fn on_trial_nothing_is_bound_that_was_asked_for() {
    run(async {
        let app = App::new(Balance::Shared);
        app.primary.0.trial.set(true);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        let mut worker = app.worker("shop/trial.1");
        let (answer, handle) = worker
            .ask(1, json!({"addressType": -1, "port": -1, "address": path}))
            .await;
        assert_eq!(answer["errno"], 0);
        assert!(handle.is_none() && !path.exists());
        let (answer, handle) = worker.ask(2, json!({"addressType": "udp6", "port": 53})).await;
        assert_eq!(answer["errno"], 0);
        let socket = std::net::UdpSocket::from(handle.expect("a socket"));
        let place = socket.local_addr().expect("its address");
        assert!(place.ip().is_loopback() && place.port() != 53, "{place}");
        let (answer, _) = worker.ask(3, json!({"addressType": "quic"})).await;
        assert_eq!(answer["errno"], -97);
        assert_eq!(app.table.kept.borrow().len(), 1);
        drop(socket);
        drop(worker);
        app.primary.detach("shop/trial.1");
        app.primary.release();
        assert!(app.table.kept.borrow().is_empty());
        until("its port is free", || std::net::UdpSocket::bind(place).is_ok()).await;
    });
}
