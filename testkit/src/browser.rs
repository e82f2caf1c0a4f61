//! A real browser: Debian's Chromium, headless, driven by `playwright-core` from npm.
//!
//! A scenario is a script of Node beside its test. It gets one JSON value, may ask the test for what only it can do
//! (kill a daemon), and gives back one JSON value; see `testkit/browser/harness.mjs`. [`run`] starts it and sees to it
//! that neither Node nor any process of the browser is left.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    node,
    process::{self, Signal},
};

/// What is installed from npm: the driver, and the judge of accessibility.
const PACKAGES: [&str; 2] = ["playwright-core@1.65.1", "axe-core@4.14.1"];

/// What runs scripts: the newest that promises are tested with.
const NODE: &str = node::VERSIONS[node::VERSIONS.len() - 1];

/// The `node_modules` with driver and judge, installed the first time.
pub fn modules() -> Result<PathBuf, String> {
    node::install(&node::peers().join("browser"), "browser", &PACKAGES)
}

/// The browser of the machine.
pub fn program() -> Result<PathBuf, String> {
    ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .ok_or_else(|| "there is no Chromium: apt-get install chromium-headless-shell".to_owned())
}

/// Runs a script with a browser. `answer` is asked for what the script cannot do itself: a word, and more.
///
/// # Panics
///
/// If there is no browser, if the script fails (with what its pages showed and said), and if it has not ended within
/// `deadline`.
#[track_caller]
pub fn run(
    script: &Path,
    input: &Value,
    deadline: Duration,
    mut answer: impl FnMut(&str, &Value) -> Value,
) -> Value {
    let modules = modules().unwrap_or_else(|why| panic!("playwright-core: {why}"));
    let program = program().unwrap_or_else(|why| panic!("{why}"));
    let node = node::node(NODE).unwrap_or_else(|why| panic!("Node {NODE}: {why}"));
    let mut running = Running::start(&node, script, &modules, &program);
    running.send(input);
    let end = Instant::now() + deadline;
    loop {
        match running
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            Ok(line) => {
                let said: Value = serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("{}: no JSON: {error}: {line}", script.display()));
                if let Some(word) = said["ask"].as_str() {
                    let more = answer(word, &said["with"]);
                    running.send(&more);
                } else if let Some(error) = said["error"].as_str() {
                    panic!("{}: {error}\n{:#}", script.display(), said["pages"]);
                } else {
                    running.await_end();
                    return said["result"].clone();
                }
            }
            Err(RecvTimeoutError::Timeout) => panic!("{} has not ended after {deadline:?}", script.display()),
            Err(RecvTimeoutError::Disconnected) => {
                panic!(
                    "{} ended without a result: {}",
                    script.display(),
                    running.errors()
                )
            }
        }
    }
}

/// As [`run`], for a script that asks nothing.
#[track_caller]
pub fn run_alone(script: &Path, input: &Value, deadline: Duration) -> Value {
    run(
        script,
        input,
        deadline,
        |word, _| json!({"error": format!("nobody answers `{word}`")}),
    )
}

/// Node with a script, and what the script has started.
struct Running {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    stderr: Receiver<String>,
    /// In the environment of every process of the browser.
    mark: String,
}

impl Running {
    fn start(node: &Path, script: &Path, modules: &Path, program: &Path) -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let mut child = Command::new(node)
            .arg(script)
            .env("UPKEEP_BROWSER_MODULES", modules)
            .env("UPKEEP_BROWSER", program)
            .env(MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("node {}: {error}", script.display()));
        let input = child.stdin.take().expect("it is piped");
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("it is piped");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let (sender, stderr) = channel();
        let mut from = child.stderr.take().expect("it is piped");
        thread::spawn(move || {
            let mut text = String::new();
            // What cannot be read is not told.
            let _ = from.read_to_string(&mut text);
            let _ = sender.send(text);
        });
        Self {
            child,
            input,
            lines,
            stderr,
            mark,
        }
    }

    fn send(&mut self, value: &Value) {
        // A script that has ended says so by the end of its output.
        let _ = self.input.write_all(format!("{value}\n").as_bytes());
    }

    /// What it said on standard error, once it has ended.
    fn errors(&self) -> String {
        self.stderr
            .recv_timeout(Duration::from_secs(5))
            .unwrap_or_default()
    }

    /// Lets it close its browser.
    fn await_end(&mut self) {
        let ended = crate::try_wait_until("the end of the browser", Duration::from_secs(10), || {
            match self.child.try_wait() {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        // Who does not end is ended: see `drop`.
        drop(ended);
    }
}

const MARK: &str = "UPKEEP_BROWSER_MARK";

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        for pid in process::with_environment(&format!("{MARK}={}", self.mark)) {
            let _ = process::kill(pid, Signal::KILL); // it may be ending
        }
    }
}
