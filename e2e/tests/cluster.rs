//! Clusters of real Nodes under our own name: unmodified apps share what they listen on, and replacing, crashing and killing
//! the daemon lose no request.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_e2e::{LONG, apply, events, instances, kill_daemon};
use upkeep_testkit::{Home, Kind, Load, load::Plan, node, pass, wait_until};

/// Says its process and instance; takes its time if asked to.
const HTTP: &str = "
const server = require('http').createServer((request, answer) => {
  const body = process.pid + ' ' + process.env.NODE_APP_INSTANCE;
  if (request.url === '/slow') return setTimeout(() => answer.end(body), 1500);
  if (request.url === '/crash') return process.exit(3);
  if (request.url === '/throw') return setTimeout(() => { throw new Error('on purpose'); }, 5);
  answer.end(body);
});
server.listen(0, () => console.log('port ' + server.address().port));
";

fn program(version: &str) -> String {
    let path = node::node(version).expect("a Node from npm");
    path.to_str().expect("text").to_owned()
}

fn newest() -> String {
    program(node::VERSIONS[node::VERSIONS.len() - 1])
}

/// A cluster of two; a replacement waits no longer than it has to.
fn cluster(node: &str, script: &str, more: &Value) -> Value {
    let mut app = json!({
        "name": "shop", "command": [node, script], "mode": "cluster", "instances": 2,
        "rollout": {"settle": "50ms", "watch": "50ms"},
    });
    for (key, value) in more.as_object().expect("a map of keys") {
        app[key] = value.clone();
    }
    app
}

fn log(home: &Home) -> String {
    [0, 1]
        .map(|index| String::from_utf8_lossy(&home.log("shop", index, "out")).into_owned())
        .concat()
}

/// The numbers that workers printed behind a word; all the same, because it is one socket.
#[track_caller]
fn port(home: &Home, word: &str, workers: usize) -> u16 {
    let start = format!("{word} ");
    wait_until(&format!("`{word}` of {workers} workers"), LONG, || {
        let log = log(home);
        let found: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix(&start)).collect();
        let different: BTreeSet<&&str> = found.iter().collect();
        match found.first() {
            Some(first) if found.len() >= workers && different.len() == 1 => {
                first.parse().map_err(|_| format!("`{first}`"))
            }
            _ => Err(format!("{found:?} in {log}")),
        }
    })
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Waits until all instances are ready.
#[track_caller]
fn wait_ready(home: &Home, count: usize) {
    wait_until(&format!("{count} ready workers"), LONG, || {
        let ready = instances(home)
            .into_iter()
            .filter(|(_, _, instance)| instance["actual"] == "running" && instance["ready"] == true)
            .count();
        if ready == count {
            Ok(())
        } else {
            Err(format!("{ready} ready: {}", home.json(["ls"])))
        }
    });
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at(port))?;
    stream.set_read_timeout(Some(LONG))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(std::io::Error::other(format!("half an answer: {answer}"))),
    }
}

fn pids(home: &Home) -> BTreeSet<i64> {
    instances(home)
        .iter()
        .filter_map(|(_, _, instance)| instance["pid"].as_i64())
        .collect()
}

/// Reloads under both kinds of load and a client that pauses; no request may fail.
#[track_caller]
fn reload_under_load(version: &str, rounds: usize, more: &Value) {
    let home = Home::new();
    home.write("server.js", HTTP);
    apply(&home, &[cluster(&program(version), "server.js", more)]);
    wait_ready(&home, 2);
    let port = port(&home, "port", 2);
    let pausing = Plan {
        pause: Duration::from_millis(20),
        ..Plan::new(at(port), Kind::KeepAlive, 8)
    };
    let loads = [
        ("kept connections", Load::start(at(port), Kind::KeepAlive, 4)),
        (
            "a connection for each request",
            Load::start(at(port), Kind::PerRequest, 4),
        ),
        ("kept connections with pauses", Load::run(pausing)),
    ];
    let mut served = pids(&home);
    for _ in 0..rounds {
        home.ok(["reload", "shop"]);
        let now = pids(&home);
        assert!(
            now.is_disjoint(&served),
            "all workers are new: {now:?} after {served:?}"
        );
        served.extend(now);
    }
    for (what, load) in loads {
        let tally = load.stop();
        tally.assert_none_failed(&format!("{rounds} reloads of Node {version}, {what}"));
        if what != "kept connections" {
            assert!(
                tally.bodies.len() >= rounds,
                "{} workers answered",
                tally.bodies.len()
            );
        }
    }
    let exits = events(&home)
        .into_iter()
        .filter(|event| event["what"] == "exited");
    for exit in exits {
        let result = exit["result"].as_str().unwrap_or_default();
        assert!(!result.contains("SIGKILL"), "{exit}");
    }
}

#[test]
fn heavy_twenty_reloads_of_node_24_lose_no_request() {
    reload_under_load(node::VERSIONS[2], 20, &json!({}));
}

#[test]
fn heavy_reloads_of_node_22_lose_no_request() {
    reload_under_load(node::VERSIONS[1], 6, &json!({}));
}

#[test]
fn heavy_reloads_of_node_20_lose_no_request() {
    reload_under_load(node::VERSIONS[0], 6, &json!({}));
}

#[test]
fn heavy_reloads_in_turns_lose_no_request() {
    reload_under_load(node::VERSIONS[2], 6, &json!({"balance": "rr"}));
}

#[test]
fn heavy_killing_the_daemon_loses_no_request_and_no_worker() {
    let home = Home::new();
    home.write("server.js", HTTP);
    apply(&home, &[cluster(&newest(), "server.js", &json!({}))]);
    wait_ready(&home, 2);
    let port = port(&home, "port", 2);
    let kept = Load::start(at(port), Kind::KeepAlive, 4);
    let short = Load::start(at(port), Kind::PerRequest, 4);
    let before = pids(&home);
    for round in 0..8 {
        kill_daemon(home.keeper_pid());
        wait_ready(&home, 2);
        assert_eq!(pids(&home), before, "round {round}");
    }
    // And in the middle of a reload, which the next daemon carries on with.
    for round in 0..4 {
        let mut reload = home.command(["reload", "shop"]).spawn().expect("it is started");
        pass(Duration::from_millis(40 * round));
        kill_daemon(home.keeper_pid());
        // Its answer is lost with the daemon.
        let _ = reload.wait();
        wait_ready(&home, 2);
    }
    home.ok(["reload", "shop"]);
    assert!(pids(&home).is_disjoint(&before));
    kept.stop()
        .assert_none_failed("twelve kills of the daemon, kept connections");
    short
        .stop()
        .assert_none_failed("twelve kills of the daemon, a connection for each request");
}

#[test]
fn workers_that_crash_take_nobody_with_them() {
    let home = Home::new();
    home.write("server.js", HTTP);
    apply(
        &home,
        &[cluster(
            &newest(),
            "server.js",
            &json!({"restart": {"backoff": {"min": "10ms", "max": "20ms"}}}),
        )],
    );
    wait_ready(&home, 2);
    let port = port(&home, "port", 2);
    for round in 0..6 {
        // The request that crashes it gets no answer; the next ones do, while there is one worker or none.
        let path = if round % 2 == 0 { "/crash" } else { "/throw" };
        get(port, path).expect_err("the worker has died");
        for _ in 0..10 {
            get(port, "/").expect("somebody answers");
        }
    }
    wait_ready(&home, 2);
    // One instance that dies before it listens, again and again, is not noticed by anybody.
    home.write(
        "server.js",
        &format!("if (process.env.NODE_APP_INSTANCE === '1') process.exit(1);\n{HTTP}"),
    );
    let load = Load::start(at(port), Kind::PerRequest, 4);
    let victim = instances(&home)[1].2["pid"].as_i64().expect("a process");
    // Its connections in hand are its own; they are ended before.
    home.cmd(["restart", "shop:1"]);
    wait_until("a crash loop", LONG, || {
        let crashes = events(&home)
            .iter()
            .filter(|event| event["what"] == "exited" && event["target"] == "shop:1")
            .count();
        if crashes > 6 {
            Ok(())
        } else {
            Err(format!("{crashes} exits, was {victim}"))
        }
    });
    load.stop().assert_none_failed("a crash loop of the other worker");
}

/// Ports, paths, datagrams and IPv6, each from both workers, the same after a reload.
const ALL_KINDS: &str = "
const path = require('path');
const net = require('net');
const say = (name) => function () { console.log(name + ' ' + this.address().port); };
const hello = (socket) => { socket.on('error', () => {}); socket.end('hello ' + process.pid); };
net.createServer(hello).listen(0, say('first'));
net.createServer(hello).listen(0, '127.0.0.1', say('second'));
net.createServer(hello).listen(0, '::1', say('six'));
net.createServer(hello).listen({ port: 0, host: '::', ipv6Only: true }, say('only'));
net.createServer(hello).listen(path.join(process.cwd(), 'a.sock'), () => console.log('path 1'));
net.createServer(hello).listen({ path: 'open.sock', readableAll: true, writableAll: true }, () => console.log('path 2'));
const udp = require('dgram').createSocket('udp4');
udp.on('message', (text, from) => udp.send(process.pid + ' ' + text, from.port, from.address));
udp.bind(0, '127.0.0.1', say('udp'));
const six = require('dgram').createSocket({ type: 'udp6', reuseAddr: true });
six.on('message', (text, from) => six.send(process.pid + ' ' + text, from.port, from.address));
six.bind(0, say('udp6'));
const twice = net.createServer().listen(0, () => {
  const { port } = twice.address();
  const again = net.createServer();
  again.on('error', (error) => console.log('again ' + error.code));
  again.listen(port, '127.0.0.1', () => console.log('again listens'));
});
const foreign = net.createServer();
foreign.on('error', (error) => console.log('foreign ' + error.code));
foreign.listen({ fd: 57 });
const port = Number(process.env.FIXED);
const closed = net.createServer(hello).listen(port, '127.0.0.1', () => {
  closed.close(() => {
    const open = net.createServer(hello);
    open.on('error', (error) => console.log('reopened ' + error.code));
    open.listen(port, '127.0.0.1', () => console.log('reopened ' + (open.address().port === port)));
  });
});
";

fn hello(mut stream: impl std::io::Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a greeting");
    assert!(text.starts_with("hello "), "`{text}`");
    text
}

fn datagram(place: &str, bind: &str) -> String {
    let socket = UdpSocket::bind(bind).expect("a port");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a limit");
    socket.send_to(b"ping", place).expect("sent");
    let mut bytes = [0; 100];
    let (length, _) = socket.recv_from(&mut bytes).expect("an answer");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn whatever_an_app_listens_on_is_shared_and_stays() {
    for version in node::VERSIONS {
        let home = Home::new();
        home.write("server.js", ALL_KINDS);
        let number = upkeep_testkit::free_port().to_string();
        let env = json!({"env": {"FIXED": number}});
        apply(&home, &[cluster(&program(version), "server.js", &env)]);
        wait_ready(&home, 2);
        let mut workers = 2;
        let mut known: BTreeMap<&str, u16> = BTreeMap::new();
        for round in 0..2 {
            for word in ["first", "second", "six", "only", "udp", "udp6", "path"] {
                if word == "path" {
                    wait_until("both paths", LONG, || {
                        let log = log(&home);
                        let count = log.lines().filter(|line| line.starts_with("path ")).count();
                        if count >= workers * 2 { Ok(()) } else { Err(log) }
                    });
                    continue;
                }
                let port = port(&home, word, workers);
                assert_eq!(
                    *known.entry(word).or_insert(port),
                    port,
                    "{word} in round {round}, Node {version}"
                );
            }
            for place in [
                format!("127.0.0.1:{}", known["first"]),
                format!("[::1]:{}", known["first"]),
                format!("127.0.0.1:{}", known["second"]),
                format!("[::1]:{}", known["six"]),
                format!("[::1]:{}", known["only"]),
            ] {
                hello(TcpStream::connect(&place).unwrap_or_else(|error| panic!("{place}: {error}")));
            }
            TcpStream::connect(("127.0.0.1", known["only"])).expect_err("IPv6 only");
            for path in ["a.sock", "open.sock"] {
                hello(UnixStream::connect(home.work().join(path)).expect(path));
            }
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(home.work().join("open.sock"))
                .expect("it is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o777);
            assert!(datagram(&format!("127.0.0.1:{}", known["udp"]), "127.0.0.1:0").ends_with(" ping"));
            assert!(datagram(&format!("[::1]:{}", known["udp6"]), "[::1]:0").ends_with(" ping"));
            wait_until("what cannot be had is told", LONG, || {
                let log = log(&home);
                let has = |line: &str| log.lines().filter(|known| *known == line).count() >= workers;
                if has("foreign EBADF") && has("reopened true") {
                    Ok(())
                } else {
                    Err(log)
                }
            });
            if round == 0 {
                home.ok(["reload", "shop"]);
                workers = 4;
            }
        }
        home.ok(["stop", "shop"]);
        for path in ["a.sock", "open.sock"] {
            assert!(!home.work().join(path).exists(), "{path} is removed at the end");
        }
        wait_until("a stopped app to listen on nothing", LONG, || {
            TcpStream::connect(at(known["first"])).map_or(Ok(()), |stream| Err(format!("{stream:?}")))
        });
        // What comes next is a new port; nothing is left of the old ones.
        home.ok(["start", "shop"]);
        wait_ready(&home, 2);
        hello(UnixStream::connect(home.work().join("a.sock")).expect("a.sock"));
    }
}

/// Secure, and the second version of HTTP; the keys of session tickets are the first worker's.
const SECURE: &str = "
const fs = require('fs');
const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') };
const one = require('https').createServer({ ...options, maxVersion: 'TLSv1.2' }, (request, answer) => answer.end(String(process.pid)));
one.listen(0, () => console.log('https ' + one.address().port));
const two = require('http2').createSecureServer({ ...options, allowHTTP1: true }, (request, answer) => answer.end(String(process.pid)));
two.listen(0, () => console.log('http2 ' + two.address().port));
const plain = require('http2').createServer((request, answer) => setTimeout(() => answer.end(String(process.pid)), 300));
plain.listen(0, () => console.log('plain ' + plain.address().port));
";

/// Resumes one session on many connections; says how many were resumed and by how many workers.
const RESUME: &str = "
const tls = require('tls');
const port = Number(process.argv[2]);
const before = process.argv[3] ? Buffer.from(process.argv[3], 'base64') : undefined;
const one = (session) => new Promise((done, fail) => {
  const socket = tls.connect({ port, rejectUnauthorized: false, session, maxVersion: 'TLSv1.2' }, () => {
    socket.write('GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n');
  });
  let text = '';
  socket.on('data', (data) => { text += data; });
  socket.on('error', fail);
  socket.on('end', () => done({ session: socket.getSession(), resumed: socket.isSessionReused(), pid: text.split('\\r\\n\\r\\n')[1] }));
});
(async () => {
  const first = before ? { session: before } : await one();
  let resumed = 0;
  const pids = new Set();
  for (let at = 0; at < 30; at++) {
    const { resumed: again, pid } = await one(first.session);
    if (again) resumed++;
    pids.add(pid);
  }
  console.log(JSON.stringify({ resumed, workers: pids.size, session: first.session.toString('base64') }));
})();
";

/// Requests over one session of HTTP/2 until told to stop; a session that was told to go away is followed by another.
const SESSIONS: &str = "
const http2 = require('http2');
const url = 'http://127.0.0.1:' + process.argv[2];
let answered = 0, failed = [], sessions = 0, over = false;
const open = () => { sessions++; const session = http2.connect(url); session.on('error', (error) => failed.push(String(error))); return session; };
let session = open();
process.stdin.on('data', () => { over = true; }).resume();
const one = () => new Promise((done) => {
  if (session.closed || session.destroyed) session = open();
  const request = session.request({ ':path': '/' });
  let text = '';
  request.on('data', (data) => { text += data; });
  request.on('end', () => { if (text) answered++; else failed.push('empty'); done(); });
  request.on('error', (error) => { failed.push(String(error)); done(); });
});
(async () => {
  while (!over) await Promise.all([one(), one(), one()]);
  console.log(JSON.stringify({ answered, failed, sessions }));
  process.exit(0);
})();
";

fn script(home: &Home, node: &str, text: &str, args: &[&str]) -> Command {
    let path = home.write(&format!("client-{}.js", args.len()), text);
    let mut command = Command::new(node);
    command.arg(path).args(args).current_dir(home.work());
    command
}

#[test]
fn secure_servers_share_tickets_and_sessions_of_http2_end_in_peace() {
    for version in node::VERSIONS {
        let node = program(version);
        let home = Home::new();
        home.write("server.js", SECURE);
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ])
            .args([
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ])
            .current_dir(home.work())
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        apply(&home, &[cluster(&node, "server.js", &json!({}))]);
        wait_ready(&home, 2);
        let (https, plain) = (port(&home, "https", 2), port(&home, "plain", 2));
        port(&home, "http2", 2);
        let resume = |session: Option<&str>| -> Value {
            let port = https.to_string();
            let args: Vec<&str> = [Some(port.as_str()), session].into_iter().flatten().collect();
            let output = home.finish(script(&home, &node, RESUME, &args), LONG);
            serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
        };
        let before = resume(None);
        assert_eq!(before["resumed"], 30, "Node {version}: {before}");
        // A stream of HTTP/2 requests goes on through a reload.
        let port = plain.to_string();
        let mut client = script(&home, &node, SESSIONS, &[&port, "", ""])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it is started");
        pass(Duration::from_millis(500));
        home.ok(["reload", "shop"]);
        drop(client.stdin.take().map(|mut stdin| stdin.write_all(b"over\n")));
        let output = client.wait_with_output().expect("it ends");
        let told: Value = serde_json::from_slice(&output.stdout).expect("what it counted");
        assert_eq!(told["failed"], json!([]), "Node {version}: {told}");
        assert!(told["sessions"].as_u64() >= Some(2), "{told}");
        // Tickets of the workers before are good for those after.
        let after = resume(before["session"].as_str());
        assert_eq!(after["resumed"], 30, "Node {version}: {after}");
        // Also in a new daemon.
        kill_daemon(home.keeper_pid());
        wait_ready(&home, 2);
        home.ok(["reload", "shop"]);
        let later = resume(before["session"].as_str());
        assert_eq!(later["resumed"], 30, "Node {version}: {later}");
    }
}

#[test]
fn modules_and_types_are_workers_like_any_other() {
    const MODULE: &str = "
import http from 'node:http';
import cluster from 'node:cluster';
await new Promise((done) => setTimeout(done, 50));
console.log('worker ' + cluster.isWorker + ' ' + (process.env.NODE_UNIQUE_ID === undefined));
const server = http.createServer((request, answer) => answer.end(String(process.pid)));
server.listen(0, () => console.log('port ' + (server.address() as any).port));
";
    for (version, file) in [(0, "app.mjs"), (1, "app.mjs"), (2, "app.mjs"), (2, "app.mts")] {
        let home = Home::new();
        let text = if file == "app.mts" {
            MODULE.to_owned()
        } else {
            MODULE.replace(" as any", "")
        };
        home.write(file, &text);
        apply(
            &home,
            &[cluster(&program(node::VERSIONS[version]), file, &json!({}))],
        );
        wait_ready(&home, 2);
        let log = log(&home);
        assert!(log.contains("worker true true"), "{file}: {log}");
    }
}

#[test]
fn requests_in_hand_are_ended_by_the_worker_that_has_them() {
    for version in node::VERSIONS {
        let home = Home::new();
        home.write("server.js", HTTP);
        apply(&home, &[cluster(&program(version), "server.js", &json!({}))]);
        wait_ready(&home, 2);
        let port = port(&home, "port", 2);
        let before = pids(&home);
        let slow: Vec<_> = (0..10)
            .map(|_| std::thread::spawn(move || get(port, "/slow")))
            .collect();
        pass(Duration::from_millis(300));
        home.ok(["reload", "shop"]);
        for slow in slow {
            let answer = slow.join().expect("the client").expect("an answer");
            let pid: i64 = answer
                .split(' ')
                .next()
                .and_then(|pid| pid.parse().ok())
                .expect("a pid");
            assert!(before.contains(&pid), "{answer}, {before:?}");
        }
    }
}

#[test]
fn in_turns_long_connections_come_out_even_and_outlive_the_daemon() {
    const ECHO: &str = "
const server = require('net').createServer((socket) => {
  socket.on('error', () => {});
  socket.write(process.pid + '\\n');
  socket.on('data', (data) => socket.write(data));
});
server.listen(0, () => console.log('port ' + server.address().port));
";
    for version in node::VERSIONS {
        let home = Home::new();
        home.write("server.js", ECHO);
        apply(
            &home,
            &[cluster(&program(version), "server.js", &json!({"balance": "rr"}))],
        );
        wait_ready(&home, 2);
        let port = port(&home, "port", 2);
        let mut connections = Vec::new();
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        let connect = || {
            let mut stream = TcpStream::connect(at(port)).expect("connected");
            stream.set_read_timeout(Some(LONG)).expect("a limit");
            let mut bytes = [0; 32];
            let length = stream.read(&mut bytes).expect("its pid");
            (stream, String::from_utf8_lossy(&bytes[..length]).into_owned())
        };
        for _ in 0..40 {
            let (stream, pid) = connect();
            connections.push(stream);
            *shares.entry(pid).or_default() += 1;
        }
        assert_eq!(
            shares.values().copied().collect::<Vec<_>>(),
            [20, 20],
            "Node {version}"
        );
        let daemon = home.keeper_pid();
        kill_daemon(daemon);
        // What is connected goes on without a daemon; what connects now waits for the next one.
        for stream in &mut connections {
            stream.write_all(b"still there?").expect("sent");
            let mut bytes = [0; 12];
            stream.read_exact(&mut bytes).expect("an echo");
        }
        connect();
        wait_ready(&home, 2);
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..10 {
            *shares.entry(connect().1).or_default() += 1;
        }
        assert_eq!(shares.len(), 2, "{shares:?}");
    }
}

#[test]
fn a_socket_of_listen_is_handed_to_workers_by_its_number() {
    const BY_NUMBER: &str = "
const server = require('http').createServer((request, answer) => answer.end(process.pid + ' ' + process.env.LISTEN_FDS));
server.listen({ fd: 3 }, () => console.log('listens'));
";
    let home = Home::new();
    home.write("server.js", BY_NUMBER);
    let path = home.work().join("given.sock");
    apply(
        &home,
        &[cluster(
            &newest(),
            "server.js",
            &json!({"listen": [format!("unix:{}", path.display())]}),
        )],
    );
    wait_ready(&home, 2);
    let load = Load::run(Plan {
        ..Plan::new(upkeep_testkit::load::Place::Unix(path), Kind::PerRequest, 4)
    });
    home.ok(["reload", "shop"]);
    let tally = load.stop();
    tally.assert_none_failed("a reload");
    assert!(
        tally.bodies.keys().all(|body| body.ends_with(" 1")),
        "{:?}",
        tally.bodies
    );
}

#[test]
fn wrappers_are_followed_or_refused_with_the_reason() {
    let home = Home::new();
    home.write("server.js", HTTP);
    let bin = PathBuf::from(newest());
    let path = format!(
        "{}:{}",
        bin.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    home.write(
        "package.json",
        "{\"name\": \"shop\", \"version\": \"3.2.1\", \"scripts\": {\"start\": \"GREETING=hi node server.js\", \"dev\": \"nodemon server.js\"}}",
    );
    let app = |command: &[&str]| cluster("", "", &json!({"command": command, "env": {"PATH": path}}));
    apply(&home, &[app(&["npm", "start"])]);
    wait_ready(&home, 2);
    port(&home, "port", 2);
    for pid in pids(&home) {
        let words = upkeep_testkit::process::command_line(i32::try_from(pid).expect("a pid"));
        assert!(
            words.starts_with("node --require") && words.ends_with("server.js"),
            "{words}"
        );
    }
    home.ok(["delete", "shop"]);
    upkeep_e2e::write_apps(&home, "upkeep.json", &[app(&["npm", "run", "dev"])]);
    home.cmd(["start", "upkeep.json"]);
    let why = home.cmd(["why", "shop"]);
    for words in [
        "cannot run in cluster mode",
        "`nodemon` watches files",
        "watch: true",
    ] {
        assert!(why.stdout.contains(words), "{why:?}");
    }
    home.ok(["delete", "shop"]);
}

#[test]
fn what_an_app_cannot_listen_on_is_an_event() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    home.write(
        "server.js",
        &format!(
            "const server = require('http').createServer();
             server.on('error', (error) => console.log('error ' + error.code + ' ' + error.syscall));
             server.listen({port}, '127.0.0.1');"
        ),
    );
    apply(
        &home,
        &[cluster(&newest(), "server.js", &json!({"instances": 1}))],
    );
    wait_until("the app to be told", LONG, || {
        let log = log(&home);
        if log.contains("error EADDRINUSE bind") {
            Ok(())
        } else {
            Err(log)
        }
    });
    wait_until("the event", LONG, || {
        let events = events(&home);
        let found = events.iter().find(|event| event["what"] == "listen_refused");
        match found {
            Some(event) => {
                let why = event["why"].as_str().unwrap_or_default();
                assert!(
                    why.contains(&port.to_string()) && why.contains("in use"),
                    "{event}"
                );
                Ok(())
            }
            None => Err(format!("{events:?}")),
        }
    });
}

#[test]
fn a_worker_leaves_by_itself_and_another_takes_its_place() {
    const LEAVES: &str = "
const cluster = require('cluster');
const server = require('http').createServer((request, answer) => {
  answer.end(String(process.pid));
  if (request.url === '/leave') cluster.worker.disconnect();
  if (request.url === '/kill') cluster.worker.kill();
  if (request.url === '/hang-up') process.disconnect();
});
server.listen(0, () => console.log('port ' + server.address().port));
";
    for version in node::VERSIONS {
        let home = Home::new();
        home.write("server.js", LEAVES);
        apply(
            &home,
            &[cluster(
                &program(version),
                "server.js",
                &json!({"restart": {"on": "always"}}),
            )],
        );
        wait_ready(&home, 2);
        let port = port(&home, "port", 2);
        for path in ["/leave", "/kill", "/hang-up"] {
            let before = pids(&home);
            let pid: i64 = get(port, path).expect("an answer").parse().expect("a pid");
            assert!(before.contains(&pid));
            // One that ends at once may have taken a connection more; one that leaves in peace has not.
            for _ in 0..if path == "/leave" { 20 } else { 0 } {
                get(port, "/").expect("an answer");
            }
            wait_until("another worker", LONG, || {
                let now = pids(&home);
                if now.len() == 2 && !now.contains(&pid) {
                    Ok(())
                } else {
                    Err(format!("{now:?}"))
                }
            });
            wait_ready(&home, 2);
            for _ in 0..20 {
                get(port, "/").expect("an answer");
            }
        }
    }
}

#[test]
fn a_worker_that_does_not_end_its_connections_is_ended() {
    const HOLDS: &str = "
const server = require('net').createServer((socket) => { socket.on('error', () => {}); socket.write('hello\\n'); });
server.listen(0, () => console.log('port ' + server.address().port));
process.on('SIGTERM', () => { console.log('told to end'); process.exit(0); });
";
    let home = Home::new();
    home.write("server.js", HOLDS);
    apply(
        &home,
        &[cluster(&newest(), "server.js", &json!({"stop": {"grace": "2s"}}))],
    );
    wait_ready(&home, 2);
    let port = port(&home, "port", 2);
    let mut held = TcpStream::connect(at(port)).expect("connected");
    let mut bytes = [0; 6];
    held.read_exact(&mut bytes).expect("a greeting");
    let begin = std::time::Instant::now();
    home.ok(["stop", "shop"]);
    let took = begin.elapsed();
    assert!(
        took > Duration::from_millis(1400) && took < Duration::from_secs(10),
        "{took:?}"
    );
    // The stop signal came before the kill: its handler ran. The other one had nothing to wait for and had ended.
    assert_eq!(log(&home).matches("told to end").count(), 1, "{}", log(&home));
}

/// A version that is not fit changes nothing, however it fails, and nobody notices.
#[test]
fn heavy_versions_that_are_not_fit_change_nothing() {
    const BREAKS: &str = "
const how = process.env.HOW;
if (how === 'exits') process.exit(7);
const server = require('http').createServer((request, answer) => answer.end(how));
if (how === 'is silent') setInterval(() => {}, 1000);
else server.listen(Number(process.env.FIXED), '127.0.0.1', () => console.log('port ' + server.address().port));
if (how === 'crashes late') setTimeout(() => process.exit(8), 300);
";
    let port = upkeep_testkit::free_port();
    let home = Home::new();
    home.write("server.js", BREAKS);
    let version = |how: &str, trial: &str| {
        json!([cluster(
            &newest(),
            "server.js",
            &json!({
                "env": {"HOW": how, "FIXED": port.to_string()},
                "rollout": {"settle": "100ms", "watch": "2s", "timeout": "3s", "trial": trial},
            })
        )])
    };
    let apps = |value: Value| value.as_array().cloned().unwrap_or_default();
    apply(&home, &apps(version("first", "0s")));
    wait_ready(&home, 2);
    let mut rolled = Vec::new();
    for (how, trial) in [
        ("exits", "0s"),
        ("is silent", "0s"),
        ("crashes late", "0s"),
        ("exits", "500ms"),
        ("crashes late", "1s"),
    ] {
        let load = Load::start(at(port), Kind::PerRequest, 4);
        upkeep_e2e::write_apps(&home, "upkeep.json", &apps(version(how, trial)));
        let output = home.cmd(["apply", "upkeep.json"]);
        rolled.push(format!("{how} with a trial of {trial}: {output:?}"));
        wait_until(
            &format!("the first version again after one that {how}"),
            LONG,
            || {
                let found = (0..8)
                    .map(|_| get(port, "/").unwrap_or_default())
                    .collect::<BTreeSet<_>>();
                let settled = instances(&home)
                    .iter()
                    .all(|(_, _, instance)| instance["actual"] == "running" && instance["ready"] == true);
                if settled && found.iter().eq(["first"]) {
                    Ok(())
                } else {
                    Err(format!("{found:?} {}", home.json(["ls"])))
                }
            },
        );
        let tally = load.stop();
        if (how, trial) == ("crashes late", "0s") {
            // It served already: what it had accepted when it crashed went with it. A trial is what saves these.
            assert!(tally.answered > 0 && tally.failures <= 8, "{:?}", tally.failed);
        } else {
            tally.assert_none_failed(&format!("a version that {how}, with a trial of {trial}"));
        }
    }
    let load = Load::start(at(port), Kind::PerRequest, 4);
    upkeep_e2e::write_apps(&home, "upkeep.json", &apps(version("second", "500ms")));
    home.ok(["apply", "upkeep.json"]);
    wait_until("the second version", LONG, || match get(port, "/") {
        Ok(body) if body == "second" => Ok(()),
        other => Err(format!("{other:?} {rolled:#?}")),
    });
    load.stop().assert_none_failed("a version that is fit");
}

/// The same under PM2's name, where PM2 itself loses requests of kept connections at each reload.
#[test]
fn heavy_reloads_under_the_name_of_pm2_lose_no_request() {
    let home = Home::new();
    let link = home.work().join("pm2");
    std::os::unix::fs::symlink(home.upkeep(), &link).expect("a link");
    home.write("server.js", HTTP);
    let pm2 = |args: &[&str]| {
        let mut command = Command::new(&link);
        command
            .args(args)
            .current_dir(home.work())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.work())
            .env("PM2_HOME", home.work().join("pm2-home"));
        let output = home.finish(command, LONG);
        assert_eq!(output.code, 0, "{args:?}: {output:?}");
        output.stdout
    };
    pm2(&["start", "server.js", "-i", "2", "--interpreter", &newest()]);
    let logs = home.work().join("pm2-home/logs");
    let port = wait_until("the port of both workers", LONG, || {
        let ports: Vec<String> = [0, 1]
            .iter()
            .filter_map(|id| std::fs::read_to_string(logs.join(format!("server-out-{id}.log"))).ok())
            .filter_map(|text| {
                text.lines()
                    .find_map(|line| line.strip_prefix("port ").map(str::to_owned))
            })
            .collect();
        match ports.as_slice() {
            [one, other] if one == other => one.parse::<u16>().map_err(|error| error.to_string()),
            _ => Err(format!("{ports:?}")),
        }
    });
    let kept = Load::start(at(port), Kind::KeepAlive, 4);
    let short = Load::start(at(port), Kind::PerRequest, 4);
    let pausing = Load::run(Plan {
        pause: Duration::from_millis(20),
        ..Plan::new(at(port), Kind::KeepAlive, 8)
    });
    for _ in 0..3 {
        pm2(&["reload", "server"]);
    }
    let tallies = [kept, short, pausing].map(Load::stop);
    pm2(&["kill"]);
    for tally in tallies {
        tally.assert_none_failed("three reloads");
    }
}
