//! What one caller may take: a share of streams, so much room on the socket, so long a reason.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_e2e::{Http, LONG, app, apply, is_root, says, skipped};
use upkeep_testkit::{Home, wait_until};

use crate::{ask, calls, token};

/// A stream, as far as its status.
#[track_caller]
fn open(home: &Home, secret: &str, path: &str) -> (u16, Http) {
    let mut http = Http::connect(home);
    let bearer = match secret {
        "" => String::new(),
        secret => format!("Authorization: Bearer {secret}\r\n"),
    };
    http.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n").as_bytes())
        .expect("it is taken");
    let mut head = [0; 12];
    http.0.read_exact(&mut head).expect("a status");
    let status = String::from_utf8_lossy(&head[9..]).parse().expect("a number");
    (status, http)
}

#[test]
fn a_principal_has_a_share_of_streams_and_no_more() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["print", "hello", "wait"])]);
    let greedy = token(&home, "greedy", &["--role", "viewer"]);
    let modest = token(&home, "modest", &["--role", "viewer"]);
    for (path, share, all) in [
        ("/v1/logs?follow=true", 32, 128),
        ("/v1/metrics?follow=true", 32, 128),
    ] {
        let mut held: Vec<Http> = (0..share)
            .map(|number| {
                let (status, http) = open(&home, &greedy, path);
                assert_eq!(status, 200, "{path}, the {number}th");
                http
            })
            .collect();
        let refused = ask(&home, &greedy, "GET", path, &Value::Null);
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!(refused.json()["code"], "too_many");
        says(&refused.head.to_lowercase(), &["retry-after: "]);
        says(
            &refused.json().to_string(),
            &[&format!(
                "`token:greedy` may follow {} {share} times at once, which is its share of {all}",
                if path.contains("logs") { "logs" } else { "figures" }
            )],
        );
        // Others, and the owner, are not held up; nor is another kind of stream.
        for (secret, path) in [
            (&modest, path),
            (&String::new(), path),
            (&greedy, "/v1/events?follow=true"),
            (&greedy, "/v1/apps?follow=true"),
        ] {
            assert_eq!(open(&home, secret, path).0, 200, "{path}");
        }
        held.pop();
        wait_until("room again", LONG, || match open(&home, &greedy, path).0 {
            200 => Ok(()),
            other => Err(other.to_string()),
        });
    }
}

#[test]
fn a_reason_is_no_book() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let long = "ö".repeat(1001);
    for (method, path, body) in [
        ("POST", "/v1/apps/shop/restart", json!({})),
        ("POST", "/v1/selections/stop", json!({"selectors": ["shop"]})),
        ("PUT", "/v1/settings", json!({"settings": {}})),
        ("POST", "/v1/tokens", json!({"name": "a", "roles": ["viewer"]})),
        ("PUT", "/v1/roles/mine", json!({"grants": []})),
        ("DELETE", "/v1/tokens/nothing", json!({})),
        ("PUT", "/v1/alerts/silences/shop", json!({"for_ms": 1000})),
        ("POST", "/v1/daemon/upgrade", json!({})),
    ] {
        let mut body = body;
        body["reason"] = json!(long);
        let answer = Http::ask(&home, method, path, body.to_string().as_bytes());
        assert_eq!(answer.status, 422, "{method} {path}: {answer:?}");
        says(
            &answer.json()["message"].to_string(),
            &["`reason` has 1001 characters, and may have 1000"],
        );
    }
    // Every call that takes one says how long it may be.
    let document = Http::ask(&home, "GET", "/v1/openapi.json", b"").json();
    let mut looked = 0;
    for call in calls(&home) {
        let operation = &document["paths"][&call.template][call.method.to_lowercase()];
        let mut schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if let Some(name) = schema["$ref"].as_str() {
            schema = document.pointer(name.trim_start_matches('#')).expect("a schema");
        }
        let reason = &schema["properties"]["reason"];
        if !reason.is_null() {
            assert_eq!(reason["maxLength"], 1000, "{} {}", call.method, call.template);
            looked += 1;
        }
    }
    assert!(looked > 20, "{looked} calls take a reason");
    let short = json!({"reason": "ö".repeat(1000)}).to_string();
    let answer = Http::ask(&home, "POST", "/v1/apps/shop/restart", short.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Connects as often as it may, says how often it found room, and waits until a half head is cut off.
const CROWD: &str = r#"
import socket, sys, time
path = sys.argv[1]
held, refused = [], 0
for number in range(600):
    try:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(20)
        one.connect(path)
        one.sendall(b"GET /v1/whoami HTTP/1.1\r\nHost: x\r\n\r\n")
        head = one.recv(12)
    except OSError:
        head = b""
    if head == b"HTTP/1.1 200":
        held.append(one)
    else:
        refused += 1
        one.close()
print(len(held), refused, head.decode(), flush=True)
slow = held.pop()
slow.settimeout(60)
slow.sendall(b"GET /v1/whoami HTTP/1.1\r\nX-A: ")
start = time.time()
while slow.recv(4096):
    pass
print("cut off after", int(time.time() - start), flush=True)
sys.stdin.read()
"#;

#[test]
fn another_user_does_not_use_up_the_socket() {
    const NOBODY: u32 = 65_534;
    if !is_root() {
        return skipped("only root can be somebody else");
    }
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let above = home.path().parent().expect("above it").to_owned();
    for path in [above, home.path().clone()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    home.ok(["role", "grant", "viewer", &format!("uid:{NOBODY}")]);
    let socket = home.path().join("run/api.sock");
    wait_until("an open socket", LONG, || {
        let mode = std::fs::metadata(&socket)
            .expect("it is there")
            .permissions()
            .mode();
        if mode & 0o666 == 0o666 {
            Ok(())
        } else {
            Err(format!("{mode:o}"))
        }
    });
    let mut crowd = Command::new("python3")
        .args(["-c", CROWD])
        .arg(&socket)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut said = BufReader::new(crowd.stdout.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    let words: Vec<&str> = line.split_whitespace().collect();
    let held: usize = words[0].parse().unwrap_or_else(|_| panic!("{line}"));
    assert!((8..=256).contains(&held), "{line}");
    says(&line, &["HTTP/1.1 503"]);
    // Root is served as ever, with as many connections as it likes.
    let own: Vec<Http> = (0..300).map(|_| Http::connect(&home)).collect();
    home.ok(["ls"]);
    home.ok(["restart", "shop"]);
    // An own connection may say nothing for as long as it likes.
    let mut quiet = Http::connect(&home);
    line.clear();
    said.read_line(&mut line).expect("a line");
    let seconds: u64 = line
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("{line}"));
    assert!(
        line.starts_with("cut off") && (20..45).contains(&seconds),
        "{line}"
    );
    quiet
        .send(b"GET /v1/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("it is open");
    assert_eq!(quiet.answer().status, 200);
    drop((own, crowd.stdin.take()));
    wait_until("the end of the crowd", Duration::from_secs(10), || {
        match crowd.try_wait().expect("a child") {
            Some(_) => Ok(()),
            None => Err("it goes on".to_owned()),
        }
    });
}
