//! Alerts: to a real mail server, to a receiver that fails on purpose, to a program; across kills of the daemon.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_e2e::{LONG, ended, kill_daemon, says, skipped};
use upkeep_testkit::{Following, Home, Signal, kill, python, wait_until};

/// One request that a receiver saw.
struct Seen {
    headers: String,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> String {
        self.headers
            .lines()
            .find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
            .unwrap_or_else(|| panic!("no `{name}` in {}", self.headers))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// How a receiver answers.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Status(u16),
    Reset,
    Hang,
}

fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut headers = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        headers.push_str(&line);
    }
    let length: usize = headers.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length:")?
            .trim()
            .parse()
            .ok()
    })?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen {
        headers,
        body: String::from_utf8(body).ok()?,
    })
}

/// Answers in the given manners one after the other, and with 200 from then on; what it saw comes through the channel.
fn receiver(manners: Vec<Manner>) -> (u16, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    let (sender, seen) = mpsc::channel();
    std::thread::spawn(move || {
        let mut manners = manners.into_iter();
        let mut hanging = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Some(request) = read_request(&stream) else {
                continue;
            };
            match manners.next().unwrap_or(Manner::Status(200)) {
                Manner::Status(status) => {
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nlocation: /\r\n\r\n");
                    // It may have gone away.
                    let _ = stream.write_all(answer.as_bytes());
                }
                Manner::Reset => drop(stream),
                Manner::Hang => hanging.push(stream),
            }
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (port, seen)
}

fn private(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.write(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
    path
}

fn set(home: &Home, text: &str) {
    let file = home.write("settings.yaml", text);
    home.ok(["settings", "set", &file.display().to_string()]);
}

/// What `openssl` makes of a signature.
fn hmac(key: &Path, text: &str) -> String {
    let key = fs::read_to_string(key).expect("the key");
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", key.trim()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(text.as_bytes())
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().last().unwrap_or_default().to_owned()
}

fn crash(home: &Home, app: &str) {
    home.cmd([
        "start",
        "-n",
        app,
        "--no-restart",
        "--wait",
        "0",
        "--",
        home.child(),
        "print-err",
        "Error: Cannot find module 'express'",
        "exit",
        "3",
    ]);
}

#[test]
fn a_webhook_is_signed_and_tried_until_it_is_taken() {
    let home = Home::new();
    let (port, seen) = receiver(vec![
        Manner::Reset,
        Manner::Status(500),
        Manner::Hang,
        Manner::Status(302),
    ]);
    let key = private(&home, "key", "shared-key\n");
    set(
        &home,
        &format!(
            "alerts:\n  group: 1s\n  defaults: false\n  rules: [{{on: crash}}]\n  channels:\n    hook:\n      webhook: {{url: 'http://127.0.0.1:{port}/in?x=1', secret_file: key, timeout: 5s}}\n"
        ),
    );
    crash(&home, "shop");
    let first = seen.recv_timeout(LONG).expect("a request");
    assert!(
        first.headers.starts_with("POST /in?x=1 HTTP/1.1"),
        "{}",
        first.headers
    );
    let message = first.json();
    assert_eq!(
        (&message["rule"], &message["state"]),
        (&json!("crash"), &json!("firing"))
    );
    let alert = &message["alerts"][0];
    assert_eq!(alert["subject"], "shop:0");
    says(
        &alert["crash"].to_string(),
        &["module not found", "exit code 3", "express"],
    );
    let signature = first.header("upkeep-signature");
    let (time, given) = signature
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .expect("both parts");
    assert_eq!(given, hmac(&key, &format!("{time}.{}", first.body)));
    // The second daemon goes on where the first one was killed.
    seen.recv_timeout(LONG).expect("a second try");
    kill_daemon(home.keeper_pid());
    let mut ids = vec![first.header("upkeep-delivery")];
    let last = wait_until("the delivery", LONG, || {
        while let Ok(next) = seen.try_recv() {
            ids.push(next.header("upkeep-delivery"));
        }
        let list = home.json(["alert", "history"]);
        let delivery = &list["deliveries"][0];
        if delivery["state"] == "delivered" {
            Ok(delivery.clone())
        } else {
            Err(list.to_string())
        }
    });
    ids.dedup();
    assert_eq!(ids.len(), 1, "the id is the same at every try: {ids:?}");
    let errors: Vec<String> = last["attempts"]
        .as_array()
        .expect("tries")
        .iter()
        .map(|attempt| attempt["error"].as_str().unwrap_or("none").to_owned())
        .collect();
    says(
        &errors.join("; "),
        &[
            "broke off",
            "no answer within 5s",
            "redirections are not followed",
            "none",
        ],
    );
    let told = home.json(["events", "--kind", "alert"]);
    assert_eq!(told["events"].as_array().map(Vec::len), Some(1), "{told}");
    says(
        &home.ok(["alert", "ls"]),
        &["hook (webhook), 0 pending", "crash shop:0"],
    );
}

#[test]
fn a_crash_between_two_daemons_is_told_once() {
    let home = Home::new();
    let (port, seen) = receiver(Vec::new());
    set(
        &home,
        &format!(
            "alerts: {{group: 1s, defaults: false, rules: [{{on: crash}}], channels: {{hook: {{webhook: {{url: 'http://127.0.0.1:{port}/'}}}}}}}}"
        ),
    );
    for app in ["a", "b", "c"] {
        home.ok(["start", "-n", app, "--no-restart", "--", home.child(), "wait"]);
        let pid = home.wait_for(app, 0, "running")["pid"].as_i64().expect("a pid");
        kill(i32::try_from(pid).expect("a pid"), Signal::KILL).expect("it runs");
        kill_daemon(home.keeper_pid());
        home.wait_for(app, 0, "failed");
    }
    let mut subjects = Vec::new();
    wait_until("three alerts", LONG, || {
        while let Ok(next) = seen.try_recv() {
            for alert in next.json()["alerts"].as_array().expect("alerts") {
                subjects.push(alert["subject"].as_str().unwrap_or_default().to_owned());
            }
        }
        if subjects.len() >= 3 {
            Ok(())
        } else {
            Err(format!("{subjects:?}"))
        }
    });
    subjects.sort_unstable();
    assert_eq!(subjects, ["a:0", "b:0", "c:0"]);
}

#[test]
fn a_program_is_told_and_killed_if_it_hangs() {
    let home = Home::new();
    let (said, left) = (home.work().join("said"), home.work().join("left"));
    let good = format!(
        "cat > {0}.tmp; echo \"$UPKEEP_ALERT_STATE $UPKEEP_ALERT_RULE\" >> {0}.tmp; mv {0}.tmp {0}",
        said.display()
    );
    let bad = format!("sleep 1000 & echo $! > {}; wait", left.display());
    set(
        &home,
        &format!(
            "alerts:\n  channels:\n    good: {{command: {{run: [/bin/sh, -c, {}]}}}}\n    bad: {{command: {{run: [/bin/sh, -c, {}], timeout: 300ms}}}}\n",
            json!(good),
            json!(bad)
        ),
    );
    let tested = home.cmd(["alert", "test"]);
    ended(&tested, 1);
    says(
        &tested.stdout,
        &[
            "good: delivered",
            "bad: failed",
            "took longer than 300ms and was killed",
        ],
    );
    says(
        &fs::read_to_string(&said).expect("it was told"),
        &["nothing is wrong", "test test"],
    );
    let pid: i32 = fs::read_to_string(&left)
        .expect("it began")
        .trim()
        .parse()
        .expect("a pid");
    wait_until("the end of what it left", LONG, || {
        if upkeep_testkit::alive(pid) {
            Err(format!("{pid} lives"))
        } else {
            Ok(())
        }
    });
    ended(&home.cmd(["alert", "test", "nobody"]), 3);
    says(
        &home.ok(["alert", "test", "good", "--dry-run"]),
        &["good: would be tried"],
    );
}

#[test]
fn what_is_silenced_or_missing_is_shown() {
    let home = Home::new();
    let (port, seen) = receiver(Vec::new());
    set(
        &home,
        &format!(
            "alerts: {{group: 1s, rules: [{{on: app_missing, for: 1s}}, {{on: over_limit, metric: fds, threshold: 1, for: 1s, apps: [calm]}}], channels: {{hook: {{webhook: {{url: 'http://127.0.0.1:{port}/'}}}}}}}}"
        ),
    );
    home.ok(["start", "-n", "calm", "--", home.child(), "wait"]);
    home.ok(
        ["alert", "silence", "gone", "--for", "1h"].map(|word| if word == "gone" { "calm" } else { word })
    );
    crash(&home, "gone");
    let mut rules = Vec::new();
    wait_until("both alerts of `gone`", LONG, || {
        while let Ok(next) = seen.try_recv() {
            let message = next.json();
            for alert in message["alerts"].as_array().expect("alerts") {
                rules.push(format!(
                    "{} {}",
                    message["rule"].as_str().unwrap_or_default(),
                    alert["subject"].as_str().unwrap_or_default()
                ));
            }
        }
        if rules.len() >= 2 {
            Ok(())
        } else {
            Err(format!("{rules:?}"))
        }
    });
    rules.sort_unstable();
    assert_eq!(rules, ["app_missing gone:0", "crash gone:0"]);
    wait_until("the silenced alert", LONG, || {
        let shown = home.ok(["alert", "ls"]);
        if shown.contains("over_limit calm:0") && shown.contains("not told yet") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    kill_daemon(home.keeper_pid());
    says(&home.ok(["alert", "ls"]), &["calm until"]);
    home.ok(["alert", "unsilence", "calm"]);
    let message = seen
        .recv_timeout(LONG)
        .expect("it is told after its silence")
        .json();
    assert_eq!(message["alerts"][0]["subject"], "calm:0");
    ended(&home.cmd(["alert", "silence", "nobody", "--for", "1h"]), 3);
}

/// A mail server, and its port.
fn mail_server(home: &Home, packages: &Path, mode: &str) -> (Following, u16) {
    let work = home.work();
    let mut command = Command::new("python3");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts/mail.py"))
        .arg(mode)
        .args([work.join("cert.pem"), work.join("key.pem")])
        .env("PYTHONPATH", packages)
        .stdin(Stdio::piped());
    let server = Following::start(command);
    let line = server
        .next_line(Duration::from_secs(30))
        .unwrap_or_else(|| panic!("{:?}", server.errors()));
    let port = serde_json::from_str::<Value>(&line).expect("JSON")["port"]
        .as_u64()
        .expect("a port");
    (server, u16::try_from(port).expect("a port"))
}

#[test]
fn mails_are_encrypted_and_sent_by_who_may() {
    let packages = match python::mail_server() {
        Ok(packages) => packages,
        Err(why) => return skipped(&format!("aiosmtpd could not be installed: {why}")),
    };
    let home = Home::new();
    home.ok(["ls"]);
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ])
        .current_dir(home.work())
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    private(&home, "password", "s3cret-of-mail");
    for mode in ["starttls", "always"] {
        let (server, port) = mail_server(&home, &packages, mode);
        let channel = |more: &str| {
            format!(
                "alerts: {{group: 1s, channels: {{ops: {{email: {{host: localhost, port: {port}, tls: {mode}, from: 'Upkeep <upkeep@example.org>', to: [ops@example.org, boss@example.org], user: upkeep, password_file: password{more}}}}}}}}}"
            )
        };
        // Nobody has vouched for its certificate.
        set(&home, &channel(""));
        let refused = home.cmd(["alert", "test", "ops"]);
        ended(&refused, 1);
        says(&refused.stdout.to_lowercase(), &["failed", "certificate"]);
        set(&home, &channel(", ca_file: cert.pem"));
        ended(&home.cmd(["alert", "test", "ops"]), 0);
        let mail: Value = serde_json::from_str(&server.next_line(LONG).expect("a mail")).expect("JSON");
        assert_eq!(mail["to"], json!(["ops@example.org", "boss@example.org"]));
        assert_eq!((&mail["tls"], &mail["login"]), (&json!(true), &json!(true)));
        says(
            mail["text"].as_str().unwrap_or_default(),
            &["nothing is wrong", "Message-ID: <"],
        );
        let app = format!("shop-{mode}");
        crash(&home, &app);
        let mail: Value = serde_json::from_str(&server.next_line(LONG).expect("a mail")).expect("JSON");
        says(
            mail["text"].as_str().unwrap_or_default(),
            &["module not found", "exit code 3"],
        );
    }
    // A wrong password is said, and never shown.
    private(&home, "password", "wrong-password");
    let (_server, port) = mail_server(&home, &packages, "starttls");
    set(
        &home,
        &format!(
            "alerts: {{channels: {{ops: {{email: {{host: localhost, port: {port}, ca_file: cert.pem, from: a@example.org, to: [b@example.org], user: upkeep, password_file: password}}}}}}}}"
        ),
    );
    let refused = home.cmd(["alert", "test", "ops"]);
    ended(&refused, 1);
    says(&refused.stdout, &["535"]);
    assert!(!refused.stdout.contains("wrong-password"));
}
