//! What the whole-binary tests in `tests/` share; one file there for each promise.
//!
//! [`app`] and [`apply`] say what is to run, [`exits`] what is known of what ran, [`kill_daemon`] takes the daemon
//! away, [`Http`] talks to the socket as no client of ours would.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_testkit::{Home, Output, Signal, alive, kill, process, wait_until};

/// Longer than anything takes on a busy machine.
pub const LONG: Duration = Duration::from_mins(1);

/// Chance with a seed: `UPKEEP_TEST_SEED`, else the time. It is printed, so that a failure can be had again.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that say how they were thrown.
    ///
    /// # Panics
    ///
    /// If `UPKEEP_TEST_SEED` is no number.
    pub fn new() -> Self {
        let seed = match std::env::var("UPKEEP_TEST_SEED") {
            Ok(text) => text.parse().expect("`UPKEEP_TEST_SEED` is a number"),
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |since| since.as_secs() << 30 | u64::from(since.subsec_nanos())),
        };
        #[expect(clippy::print_stderr, reason = "shown with a failure, to have it again")]
        {
            eprintln!("UPKEEP_TEST_SEED={seed}");
        }
        Self(seed)
    }

    /// A number below `limit` (splitmix64).
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    /// A span below `limit`.
    pub fn span(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(limit.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}

/// An app that runs a script of `upkeep-child` and can be found by its tag.
pub fn app(home: &Home, name: &str, script: &[&str]) -> Value {
    let mut command = vec![home.child(), "tag", name];
    command.extend(script);
    json!({ "name": name, "command": command })
}

/// The same app with more keys, or other values for them.
///
/// # Panics
///
/// If `more` is no map.
pub fn with(mut app: Value, more: Value) -> Value {
    for (key, value) in more.as_object().expect("a map of keys") {
        app[key] = value.clone();
    }
    app
}

/// Writes an app file.
pub fn write_apps(home: &Home, file: &str, apps: &[Value]) {
    home.write(file, &json!({ "apps": apps }).to_string());
}

/// Writes `upkeep.json` and starts it; must succeed.
#[track_caller]
pub fn apply(home: &Home, apps: &[Value]) {
    write_apps(home, "upkeep.json", apps);
    home.ok(["start", "upkeep.json"]);
}

/// Processes that run the script of that app's tag.
pub fn tagged(home: &Home, name: &str) -> Vec<i32> {
    let words = format!(" tag {name} ");
    let mut found = home.processes();
    found.retain(|&pid| format!("{} ", process::command_line(pid)).contains(&words));
    found
}

/// The daemon below a keeper, without asking anybody.
pub fn daemon_of(keeper: i32) -> Option<i32> {
    let children =
        std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(|&pid| process::command_line(pid).ends_with("upkeep daemon") && alive(pid))
}

/// Kills the daemon, whatever it is doing, and gives back which process that was.
///
/// # Panics
///
/// If the keeper starts none.
#[track_caller]
pub fn kill_daemon(keeper: i32) -> i32 {
    let daemon = wait_until("a daemon to kill", LONG, || {
        daemon_of(keeper).ok_or_else(|| format!("keeper {keeper} has none"))
    });
    kill(daemon, Signal::KILL).expect("it is the keeper's child, and not reaped before it has ended");
    wait_reaped(daemon);
    daemon
}

/// Waits until a process has been reaped: one of whose threads some still end may hold a socket open.
#[track_caller]
pub fn wait_reaped(pid: i32) {
    wait_until(&format!("process {pid} to be reaped"), LONG, || {
        process::stat(pid).map_or(Ok(()), |stat| Err(format!("{stat:?}")))
    });
}

/// Waits until a process has ended, all its threads too; nobody need reap it.
#[track_caller]
pub fn wait_gone(pid: i32) {
    wait_until(&format!("the end of process {pid}"), LONG, || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        if alive(pid) || threads > 1 {
            Err(format!("{threads} threads of `{}`", process::command_line(pid)))
        } else {
            Ok(())
        }
    });
}

/// The event log, oldest first.
#[track_caller]
pub fn events(home: &Home) -> Vec<Value> {
    let answer = home.json(["events", "-n", "5000"]);
    answer["events"].as_array().cloned().unwrap_or_default()
}

/// Exits by process: how each ended, as the event log tells it.
#[track_caller]
pub fn exits(home: &Home) -> BTreeMap<i64, Vec<Value>> {
    let mut exits: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
    for event in events(home) {
        if event["what"] == "exited" {
            let pid = event["details"]["pid"].as_i64().unwrap_or_default();
            exits
                .entry(pid)
                .or_default()
                .push(event["details"]["exit"].clone());
        }
    }
    exits
}

/// Every instance in `ls`: name, index, state.
#[track_caller]
pub fn instances(home: &Home) -> Vec<(String, u64, Value)> {
    let list = home.json(["ls"]);
    let mut found = Vec::new();
    for app in list["apps"].as_array().into_iter().flatten() {
        for instance in app["instances"].as_array().into_iter().flatten() {
            let name = app["name"].as_str().unwrap_or_default().to_owned();
            let index = instance["index"].as_u64().unwrap_or(u64::MAX);
            found.push((name, index, instance.clone()));
        }
    }
    found
}

/// Waits until an app has that many running instances, and as many processes, and no other.
#[track_caller]
pub fn wait_running(home: &Home, name: &str, count: usize) {
    wait_until(&format!("{count} of `{name}`"), LONG, || {
        let mut listed: Vec<i64> = Vec::new();
        for (app, _, instance) in instances(home) {
            if app == name && instance["actual"] == "running" {
                listed.extend(instance["pid"].as_i64());
            }
        }
        listed.sort_unstable();
        let mut found: Vec<i64> = tagged(home, name).into_iter().map(i64::from).collect();
        found.sort_unstable();
        if listed.len() == count && listed == found {
            Ok(())
        } else {
            Err(format!("listed {listed:?}, found {found:?}"))
        }
    });
}

/// The environment of a process as the kernel has it.
pub fn environment(pid: i64) -> BTreeMap<String, String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .split('\0')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The processes of an app's instances that run and are ready.
pub fn pids(home: &Home, name: &str) -> Vec<i64> {
    instances(home)
        .iter()
        .filter(|(app, _, instance)| {
            app == name && instance["actual"] == "running" && instance["ready"] == true
        })
        .filter_map(|(.., instance)| instance["pid"].as_i64())
        .collect()
}

/// Waits until so many instances run with a variable as it is wanted, nothing is being replaced, and gives back their processes.
#[track_caller]
pub fn wait_value(home: &Home, name: &str, count: usize, variable: &str, value: &str) -> Vec<i64> {
    wait_until(
        &format!("{count} of `{name}` with {variable}={value}"),
        LONG,
        || {
            let pids = pids(home, name);
            let seen: Vec<Option<String>> = pids
                .iter()
                .map(|pid| environment(*pid).get(variable).cloned())
                .collect();
            let is_done = seen.len() == count && seen.iter().all(|seen| seen.as_deref() == Some(value));
            if is_done {
                Ok(pids)
            } else {
                Err(format!("{seen:?}"))
            }
        },
    )
}

/// Asserts how a verb ended.
#[track_caller]
pub fn ended(output: &Output, code: i32) {
    assert!(output.code == code, "expected code {code}: {output:#?}");
}

/// Asserts that a text holds every one of these.
#[track_caller]
pub fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

/// Whether we may do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says why a test does not look.
pub fn skipped(why: &str) {
    #[expect(
        clippy::print_stderr,
        reason = "a test that did not look should not look like one that did"
    )]
    {
        eprintln!("SKIPPED: {why}");
    }
}

/// An answer, taken apart.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Everything before the body.
    pub head: String,
    /// The body, chunks put together.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A raw connection to the socket of `/v1`.
#[derive(Debug)]
pub struct Http(pub UnixStream);

impl Http {
    /// Connects.
    ///
    /// # Panics
    ///
    /// If nobody listens.
    #[track_caller]
    pub fn connect(home: &Home) -> Self {
        let stream = UnixStream::connect(home.path().join("run/api.sock")).expect("somebody listens");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        stream.set_write_timeout(Some(LONG)).expect("a timeout");
        Self(stream)
    }

    /// Sends bytes as they are; it may be told to stop in the midst of them.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Sends a request and reads the answer, on a connection of its own.
    #[track_caller]
    pub fn ask(home: &Home, method: &str, path: &str, body: &[u8]) -> Answer {
        Self::ask_with(home, method, path, &[], body)
    }

    /// The same with more headers.
    #[track_caller]
    pub fn ask_with(home: &Home, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut http = Self::connect(home);
        let more = headers.iter().fold(String::new(), |text, (name, value)| {
            text + name + ": " + value + "\r\n"
        });
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n",
            body.len()
        );
        // It may be refused before all of it is there: then the answer is what counts.
        let _ = http.send(head.as_bytes()).and_then(|()| http.send(body));
        http.answer()
    }

    /// Reads to the end of the connection.
    ///
    /// # Panics
    ///
    /// If that is no answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut bytes = Vec::new();
        let mut chunk = [0_u8; 16 << 10];
        // A reset after the answer is an end too.
        while let Ok(length @ 1..) = self.0.read(&mut chunk) {
            bytes.extend_from_slice(&chunk[..length]);
        }
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, _)) = shown.split_once("\r\n\r\n") else {
            panic!("no answer: `{shown}`");
        };
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Answer {
            status: status.unwrap_or_else(|| panic!("no status: `{head}`")),
            head: head.to_owned(),
            body: bytes[head.len() + 4..].to_vec(),
        }
    }
}

/// A number in a file, for `/proc`.
pub fn number_in(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Makes a token and tells its secret.
#[track_caller]
pub fn token(home: &Home, name: &str, args: &[&str]) -> String {
    let all: Vec<&str> = ["token", "create", name]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    let made = home.json(all);
    let secret = made["secret"].as_str();
    secret.unwrap_or_else(|| panic!("no secret: {made}")).to_owned()
}

/// Asks with a token.
#[track_caller]
pub fn ask(home: &Home, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    Http::ask_with(home, method, path, &[("Authorization", &bearer)], &body)
}
