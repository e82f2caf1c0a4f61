//! What strangers send: broken, endless, slow, and too much of it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;
use upkeep_e2e::{LONG, app, apply, kill_daemon, says, skipped};
use upkeep_testkit::{Following, Home, process, wait_until};

use crate::{Raw, address, ask, encrypted, plain, run, run_ok, token};

#[test]
fn broken_requests_do_no_harm() {
    let home = Home::new();
    let at = plain(&home);
    let bearer = token(&home, "admin");
    let auth = format!("Host: {at}\r\nAuthorization: Bearer {bearer}\r\n");
    let daemon = home.daemon_pid();
    let says_of = |text: &str| {
        let mut raw = Raw::connect(at);
        raw.send(text.as_bytes());
        raw.rest()
    };
    // Paths that lead out, lines in the midst of a line, methods that are none.
    for (line, statuses) in [
        ("GET /v1/../../etc/passwd", &["400", "404"][..]),
        ("GET /../../etc/passwd", &["400", "404"]),
        ("GET /v1/apps/..%2f..%2fetc%2fpasswd", &["404"]),
        ("GET /%2e%2e/%2e%2e/etc/passwd", &["404"]),
        ("GET /v1/apps/a%0d%0aSet-Cookie:%20a=b", &["404"]),
        ("GET /v1/apps/%00", &["404"]),
        ("GET /v1/apps/%ff%fe", &["400", "404"]),
        ("TRACE /v1/apps", &["405", "400"]),
        ("CONNECT 127.0.0.1:22", &["400", "403", "404", "405"]),
    ] {
        let text = says_of(&format!("{line} HTTP/1.1\r\n{auth}Connection: close\r\n\r\n"));
        let status = text.split(' ').nth(1).unwrap_or_default();
        assert!(statuses.contains(&status), "{line}: {text}");
        assert!(
            !text.contains("root:") && !text.to_lowercase().contains("\r\nset-cookie"),
            "{text}"
        );
    }
    for garbage in [
        "GET /v1/apps HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        format!("GET /v1/apps HTTP/1.1\r\n{auth}X: a\r\n b\r\n\r\n"),
        format!("GET /v1/apps HTTP/1.1\r\n{auth}X : a\r\n\r\n"),
        format!("GET /v1/apps HTTP/1.1\r\n{auth}X: a\0b\r\n\r\n"),
        format!("POST /v1/tokens HTTP/1.1\r\n{auth}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}}}"),
        format!("POST /v1/tokens HTTP/1.1\r\n{auth}Content-Length: -1\r\n\r\n"),
        format!("POST /v1/tokens HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "\x16\x03\x01\x00\x05hello\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
    ] {
        let text = says_of(&garbage);
        let is_refused = text.is_empty() || text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.0 4");
        assert!(is_refused, "{garbage:?}: {text}");
        assert_eq!(
            text.matches("HTTP/1.").count(),
            usize::from(!text.is_empty()),
            "{text}"
        );
    }
    // Two lengths that differ (RFC 9112, 6.3): what follows is never another request, as a proxy before us may have
    // taken it for a body.
    let hidden = format!("GET /v1/whoami HTTP/1.1\r\n{auth}\r\n");
    let body = format!("0\r\n\r\n{hidden}");
    let text = says_of(&format!(
        "POST /v1/nothing HTTP/1.1\r\n{auth}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    assert!(!text.contains("token:"), "{text}");
    assert_eq!(home.daemon_pid(), daemon, "nothing of this has ended the daemon");
}

#[test]
fn what_is_too_long_is_refused() {
    let home = Home::new();
    let at = plain(&home);
    let bearer = format!("Bearer {}", token(&home, "admin"));
    // More than any body may have, by its own word and without one.
    let body = "a".repeat(13 << 20);
    let answer = ask(at, "POST /v1/apps", &[("Authorization", &bearer)], &body);
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(answer.json()["code"], "too_large");
    // Who is nobody is not even read.
    let answer = ask(at, "POST /v1/apps", &[], &body[..1 << 20]);
    assert_eq!(answer.status, 401, "{answer:?}");
    // Headers without end.
    let mut raw = Raw::connect(at);
    raw.send(format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\n").as_bytes());
    let line = format!("X-A: {}\r\n", "a".repeat(1000));
    let mut sent = 0;
    while sent < 10_000 && raw.send(line.as_bytes()) {
        sent += 1;
    }
    assert!(sent < 10_000, "ten megabytes of headers were taken");
    let text = raw.rest();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    let many = "X: y\r\n".repeat(1000);
    let mut raw = Raw::connect(at);
    raw.send(format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\n{many}\r\n").as_bytes());
    let text = raw.rest();
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
}

/// How long it takes until the other end has closed, and what it said.
fn until_closed(mut raw: Raw) -> (Duration, String) {
    let start = Instant::now();
    let text = raw.rest();
    (start.elapsed(), text)
}

/// Asks for more and more and takes nothing of it, until the other end has had enough.
fn until_given_up(at: SocketAddr) -> Duration {
    let mut raw = Raw::connect(at);
    raw.0.set_nonblocking(true).expect("our own");
    let request = format!("GET /docs HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let start = Instant::now();
    wait_until("the end of a connection", LONG * 2, || {
        use std::io::Write as _;
        match raw.0.write(request.as_bytes()) {
            Ok(_) => Err("it takes more".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err("it waits".to_owned()),
            Err(_) => Ok(()),
        }
    });
    start.elapsed()
}

#[test]
fn who_is_slow_is_cut_off() {
    let home = Home::new();
    let at = plain(&home);
    let bearer = token(&home, "admin");
    let slow_head = move || {
        let mut raw = Raw::connect(at);
        raw.send(format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\nX-A: ").as_bytes());
        until_closed(raw)
    };
    let silent = move || until_closed(Raw::connect(at));
    let slow_body = move || {
        let mut raw = Raw::connect(at);
        raw.send(
            format!(
                "POST /v1/tokens HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {bearer}\r\nContent-Length: 100\r\n\r\n{{"
            )
            .as_bytes(),
        );
        until_closed(raw)
    };
    let slow_reader = std::thread::spawn(move || until_given_up(at));
    let threads = [
        std::thread::spawn(slow_head),
        std::thread::spawn(silent),
        std::thread::spawn(slow_body),
    ];
    let [head, silent, body] = threads.map(|thread| thread.join().expect("it ends"));
    for (took, said) in [&head, &silent] {
        assert!(took.as_secs() < 45, "{took:?}: {said}");
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    assert!(body.0.as_secs() < 45, "{body:?}");
    says(
        &body.1,
        &["HTTP/1.1 400", "the body took longer than 20 s to arrive"],
    );
    let took = slow_reader.join().expect("it ends");
    assert!(took.as_secs() < 75, "{took:?}");
}

#[test]
fn who_says_nothing_in_the_handshake_is_cut_off() {
    let home = Home::new();
    let url = encrypted(&home);
    let (took, said) = until_closed(Raw::connect(address(&url)));
    assert!(took.as_secs() < 25, "{took:?}");
    assert_eq!(said, "");
    // Plain words to a listener with TLS are told by an alert, and nothing else.
    let mut raw = Raw::connect(address(&url));
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    let said = raw.rest();
    assert!(!said.contains("HTTP"), "{said}");
}

/// A stream of events over TCP, as far as its head.
fn stream(at: SocketAddr, bearer: &str) -> Result<Raw, String> {
    use std::io::Read as _;
    let mut raw = Raw::connect(at);
    raw.send(
        format!(
            "GET /v1/events?follow=true HTTP/1.1\r\nHost: {at}\r\nAccept: text/event-stream\r\nAuthorization: Bearer {bearer}\r\n\r\n"
        )
        .as_bytes(),
    );
    let mut head = [0; 12];
    raw.0
        .read_exact(&mut head)
        .map_err(|error| format!("no answer: {error}"))?;
    if head == *b"HTTP/1.1 200" {
        return Ok(raw);
    }
    Err(format!("{}{}", String::from_utf8_lossy(&head), raw.rest()))
}

#[test]
fn heavy_a_thousand_streams_are_within_bounds() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if hard < 18_000 {
        return skipped("so many descriptors cannot be had here");
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to what is allowed");
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let at = plain(&home);
    // One principal has a share of them: these have enough for all.
    let bearers = ["viewer", "operator", "admin"].map(|role| token(&home, role));
    let of = |number: usize| &bearers[number % bearers.len()];
    let bearer = of(0).clone();
    let daemon = home.daemon_pid();
    let resident = || process::memory(daemon).expect("it lives").rss;
    drop(stream(at, &bearer).expect("one is taken"));
    let before = resident();
    let mut streams: Vec<Raw> = (0..1000)
        .map(|number| stream(at, of(number)).expect("there is room"))
        .collect();
    let more = resident().saturating_sub(before);
    assert!(more <= 30 << 10, "1000 streams take {more} KiB");
    eprintln!("1000 idle streams take {more} KiB");
    // Everybody hears what happens.
    home.ok(["restart", "shop"]);
    for stream in [0, 500, 999] {
        use std::io::Read as _;
        let mut text = String::new();
        let mut chunk = [0; 4096];
        while !text.contains("\"restart\"") {
            let length = streams[stream].0.read(&mut chunk).expect("it comes");
            assert!(length > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
    }
    // Beyond the bound it is said; below it nothing suffers.
    let refused = loop {
        match stream(at, of(streams.len())) {
            Ok(stream) => streams.push(stream),
            Err(why) => break why,
        }
        assert!(streams.len() <= 2000, "there is no bound");
    };
    says(&refused, &["503", "too many connections to this machine"]);
    assert_eq!(home.json(["ls"])["apps"].as_array().map(Vec::len), Some(1));
    drop(streams);
    wait_until("room again", LONG, || stream(at, &bearer));
}

#[test]
fn a_stranger_is_not_listened_to_for_ever() {
    let home = Home::new();
    let at = plain(&home);
    let wrong = [("Authorization", "Bearer upk_000000000000_00")];
    let told = wait_until("to be told to wait", LONG, || {
        let answer = ask(at, "GET /v1/apps", &wrong, "");
        if answer.status == 429 {
            Ok(answer)
        } else {
            Err(answer.status.to_string())
        }
    });
    says(&told.head, &["retry-after: "]);
    assert_eq!(told.json()["code"], "too_many");
    // A new daemon has not met them; and the log tells of them.
    let log: Vec<Value> = upkeep_e2e::events(&home);
    assert!(
        log.iter().any(|event| event["what"] == "sign_in_failed"),
        "{log:?}"
    );
    kill_daemon(home.keeper_pid());
}

/// Opens streams of HTTP/2 and gives none of them a window; says how they were answered and when the connection ended.
const SHUT: &str = r#"
import socket, ssl, struct, sys, time
host, port, bearer, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["h2"])
wire = context.wrap_socket(socket.create_connection((host, port)))
assert wire.selected_alpn_protocol() == "h2"

def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

def field(name, value):
    name, value = name.encode(), value.encode()
    assert len(name) < 127 and len(value) < 127
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

wire.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, struct.pack(">HI", 4, 0)))
fields = [(":method", "GET"), (":scheme", "https"), (":path", "/v1/logs?follow=true"),
          (":authority", f"{host}:{port}"), ("authorization", "Bearer " + bearer)]
head = b"".join(field(name, value) for name, value in fields)
for number in range(count):
    wire.sendall(frame(1, 5, 2 * number + 1, head))
rest, answered, start = b"", 0, time.time()
while True:
    try:
        chunk = wire.recv(65536)
    except OSError:
        chunk = b""
    if not chunk:
        print("ended after", int(time.time() - start), flush=True)
        break
    rest += chunk
    while len(rest) >= 9 and len(rest) >= 9 + int.from_bytes(rest[:3], "big"):
        length, kind, flags = int.from_bytes(rest[:3], "big"), rest[3], rest[4]
        payload, rest = rest[9:9 + length], rest[9 + length:]
        if kind == 4 and not flags & 1:
            wire.sendall(frame(4, 1, 0, b""))
        if kind == 6 and not flags & 1:
            wire.sendall(frame(6, 1, 0, payload))
        if kind == 1:
            answered += 1
            if answered == count:
                print("answered", answered, flush=True)
"#;

#[test]
fn streams_of_which_nothing_is_taken_are_ended_and_leave_room() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["print", "hello", "wait"])]);
    let url = encrypted(&home);
    let at = address(&url);
    let bearer = token(&home, "viewer");
    // As many as one principal may have.
    let mut command = std::process::Command::new("python3");
    command
        .args([
            "-c",
            SHUT,
            &at.ip().to_string(),
            &at.port().to_string(),
            &bearer,
            "32",
        ])
        .current_dir(home.work());
    let shut = Following::start(command);
    shut.line_with("answered 32", LONG);
    let auth = format!("Authorization: Bearer {bearer}");
    let one_more = || {
        let follow = format!("{url}/v1/logs?follow=true");
        let output = run(
            &home,
            "curl",
            &[
                "-sSkN",
                "-m",
                "2",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-H",
                &auth,
                &follow,
            ],
        );
        output.stdout
    };
    assert_eq!(one_more(), "429");
    let ended = shut.line_with("ended after", Duration::from_secs(150));
    let seconds: u64 = ended
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("{ended}"));
    assert!((55..120).contains(&seconds), "{ended}");
    assert_eq!(one_more(), "200");
}

/// Calls with a wrong token from many addresses of loopback.
const CROWD: &str = r#"
import socket, sys
port = int(sys.argv[1])
for number in range(50):
    for _ in range(12):
        one = socket.socket()
        one.bind((f"127.0.0.{number + 2}", 0))
        one.connect(("127.0.0.1", port))
        one.sendall(b"GET /v1/apps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                    b"Authorization: Bearer upk_000000000000_00\r\n\r\n")
        while one.recv(4096):
            pass
        one.close()
"#;

#[test]
fn strangers_do_not_fill_the_event_log() {
    let home = Home::new();
    let at = plain(&home);
    run_ok(&home, "python3", &["-c", CROWD, &at.port().to_string()]);
    let told = || -> Vec<Value> {
        let all = home.json(["audit", "--kind", "sign_in_failed", "-n", "1000"]);
        all["events"].as_array().cloned().unwrap_or_default()
    };
    let first = told();
    assert!((1..=7).contains(&first.len()), "{first:?}");
    let sum = wait_until("the sum", LONG * 4, || {
        let told = told();
        let sum = told
            .iter()
            .find(|event| event["details"]["count"].is_u64())
            .cloned();
        sum.ok_or_else(|| format!("{told:?}"))
    });
    // Ten of each address are looked at; two were told one by one, and four because their places were new.
    assert_eq!(sum["details"]["count"], 494, "{sum}");
    says(&sum.to_string(), &["from 50 places", "127.0.0."]);
    assert_eq!(told().len(), 7);
}
