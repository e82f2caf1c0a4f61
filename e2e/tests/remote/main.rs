//! The API over TCP: who gets in, what a stranger can do, certificates, and other machines by `--host`.

mod certificates;
mod elsewhere;
mod hosts;
mod plain;
mod pm2_health;
mod strangers;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use serde_json::Value;
use upkeep_e2e::{Answer, LONG};
use upkeep_testkit::{Home, Output, wait_until};

/// Sets settings of the machine.
#[track_caller]
fn set(home: &Home, text: &str) {
    let file = home.write("settings.yaml", text);
    home.ok(["settings", "set", &file.display().to_string()]);
}

/// Where it listens, once it does: the URL of the first listener that serves this.
#[track_caller]
fn listening(home: &Home, serves: &str) -> String {
    wait_until("a listener", LONG, || {
        let view: Value =
            serde_json::from_str(&home.cmd(["ping", "--json"]).stdout).map_err(|error| error.to_string())?;
        let listeners = view["listeners"].as_array().cloned().unwrap_or_default();
        listeners
            .iter()
            .find(|one| one["serves"] == serves && one["listening"] == true)
            .and_then(|one| one["url"].as_str().map(str::to_owned))
            .ok_or_else(|| view.to_string())
    })
}

/// Has the API listen on a port of loopback without TLS.
#[track_caller]
fn plain(home: &Home) -> SocketAddr {
    set(home, "web: {listen: ['127.0.0.1:0']}");
    address(&listening(home, "api"))
}

/// Has the API listen on a port of loopback with TLS; gives the URL.
#[track_caller]
fn encrypted(home: &Home) -> String {
    set(home, "web: {listen: ['127.0.0.1:0'], tls: true}");
    listening(home, "api")
}

#[track_caller]
fn address(url: &str) -> SocketAddr {
    let (_, address) = url.split_once("://").expect("a URL");
    address.parse().expect("an address")
}

/// A token with a role.
#[track_caller]
fn token(home: &Home, role: &str) -> String {
    let made = home.json(["web", "--token", role]);
    made["token"]
        .as_str()
        .unwrap_or_else(|| panic!("no token: {made}"))
        .to_owned()
}

/// A connection over TCP, as no client of ours would use it.
#[derive(Debug)]
struct Raw(TcpStream);

impl Raw {
    #[track_caller]
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        stream.set_write_timeout(Some(LONG)).expect("a timeout");
        Self(stream)
    }

    /// Sends what may be refused before all of it is there.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// All that comes until the other end closes; a reset is an end too.
    fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut chunk = [0; 16 << 10];
        while let Ok(length @ 1..) = self.0.read(&mut chunk) {
            bytes.extend_from_slice(&chunk[..length]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The only answer of a connection that is closed after it.
    #[track_caller]
    fn answer(&mut self) -> Answer {
        let text = self.rest();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: `{text}`"));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Answer {
            status: status.unwrap_or_else(|| panic!("no status: `{head}`")),
            head: head.to_ascii_lowercase(),
            body: body.as_bytes().to_vec(),
        }
    }
}

/// Asks over TCP, with these headers beside `Connection: close`; `Host` is the address unless it is among them.
#[track_caller]
fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str(&format!("\r\n{body}"));
    let mut raw = Raw::connect(address);
    raw.send(text.as_bytes());
    raw.answer()
}

/// Runs a program of the machine in the work folder of a home.
#[track_caller]
fn run(home: &Home, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(home.work())
        .stdin(std::process::Stdio::null());
    home.finish(command, LONG)
}

/// The same; it has to succeed.
#[track_caller]
fn run_ok(home: &Home, program: &str, args: &[&str]) -> String {
    let output = run(home, program, args);
    assert!(output.code == 0, "{program} {args:?}: {output:#?}");
    output.stdout
}

/// What curl gets as JSON.
#[track_caller]
fn curl(home: &Home, args: &[&str]) -> Value {
    let all: Vec<&str> = ["-sS", "--max-time", "50"].iter().chain(args).copied().collect();
    let text = run_ok(home, "curl", &all);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON: {error}: {text}"))
}
