//! A private home with a real `upkeep` in it.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    process::{self, Signal, kill},
    wait::{try_wait_until, wait_until},
};

/// How long a verb may take unless a test says otherwise: long, because machines of builds are slow and shared.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A temporary home. Dropping it ends everything that was started in it.
#[derive(Debug)]
pub struct Home {
    dir: tempfile::TempDir,
    upkeep: PathBuf,
    child: PathBuf,
}

/// What a verb said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + N for a death by signal N.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Home {
    /// A new, empty home; no process is started.
    ///
    /// # Panics
    ///
    /// If `upkeep` or `upkeep-child` is not built.
    pub fn new() -> Self {
        Self::with_binary(binary("upkeep"))
    }

    /// As [`Home::new`], with that `upkeep`.
    pub fn with_binary(upkeep: PathBuf) -> Self {
        // A socket's path has 107 bytes; `TMPDIR` may use up most of them.
        let below = if Path::new("/tmp").is_dir() {
            PathBuf::from("/tmp")
        } else {
            std::env::temp_dir()
        };
        let dir = tempfile::Builder::new()
            .prefix("uk")
            .tempdir_in(below)
            .expect("a temporary directory");
        fs::create_dir(dir.path().join("work")).expect("a directory to work in");
        Self {
            dir,
            upkeep,
            child: binary("upkeep-child"),
        }
    }

    // ---- places

    /// `UPKEEP_HOME`.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("h")
    }

    /// Where verbs run, and where [`Home::write`] puts files.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The scripted child, as a word of a command line.
    pub fn child(&self) -> &str {
        self.child.to_str().expect("paths of builds are text")
    }

    /// The binary under test.
    pub fn upkeep(&self) -> &Path {
        &self.upkeep
    }

    /// Writes a file into [`Home::work`], its directories too.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().expect("it is below work")).expect("its directory");
        fs::write(&path, text).expect("the file");
        path
    }

    /// All that is kept of a log, oldest first: rotated files, then the current one. `stream` is `out` or `err`.
    pub fn log(&self, app: &str, index: u32, stream: &str) -> Vec<u8> {
        let current = format!("{app}-{index}.{stream}.log");
        let logs = self.path().join("logs");
        let mut rotated: Vec<(u64, PathBuf)> = fs::read_dir(&logs)
            .map(|entries| {
                entries
                    .filter_map(|entry| {
                        let name = entry.ok()?.file_name();
                        let name = name.to_str()?;
                        let number = name.strip_suffix(".zst").unwrap_or(name);
                        let digits = number.strip_prefix(&current)?.strip_prefix('.')?;
                        Some((digits.parse().ok()?, logs.join(number)))
                    })
                    .collect()
            })
            .unwrap_or_default();
        rotated.sort();
        rotated.dedup();
        let mut bytes = Vec::new();
        for (_, path) in rotated {
            bytes.extend(whole_or_packed(&path));
        }
        bytes.extend(fs::read(logs.join(&current)).unwrap_or_default()); // absent: nothing was written yet
        bytes
    }

    // ---- verbs

    /// A command that runs `upkeep` here: clean environment, own directory, nothing on standard input.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.upkeep);
        command
            .args(args)
            .env_clear()
            .current_dir(self.work())
            .stdin(Stdio::null());
        command.env(
            "PATH",
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
        );
        command.env("HOME", self.work()).env("UPKEEP_HOME", self.path());
        command.env("NO_COLOR", "1").env("LANG", "C.UTF-8");
        command
    }

    /// Runs a verb to its end.
    #[track_caller]
    pub fn cmd<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        finish(self.command(args), &[], TIMEOUT)
    }

    /// As [`Home::cmd`], with something on standard input.
    #[track_caller]
    pub fn cmd_with_input<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, input: &[u8]) -> Output {
        finish(self.command(args), input, TIMEOUT)
    }

    /// Runs any command to its end as verbs are run: with a deadline, output kept.
    #[track_caller]
    pub fn finish(&self, command: Command, deadline: Duration) -> Output {
        finish(command, &[], deadline)
    }

    /// Runs a verb that must end with 0, and gives back its standard output.
    #[track_caller]
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let command = self.command(args);
        let words = format!("{command:?}");
        let output = finish(command, &[], TIMEOUT);
        assert!(output.code == 0, "{words} ended with {output:#?}");
        output.stdout
    }

    /// Runs a verb with `--json` and reads the one document it prints; the code is not looked at.
    #[track_caller]
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> serde_json::Value {
        let mut words: Vec<std::ffi::OsString> =
            args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        // Before a `--`, behind which words belong to the app.
        let at = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.insert(at, "--json".into());
        let output = self.cmd(&words);
        match serde_json::from_str(&output.stdout) {
            Ok(value) => value,
            Err(error) => panic!("no JSON from {words:?}: {error}\n{output:#?}"),
        }
    }

    /// Starts a verb that goes on, such as `logs -f`, and reads its lines as they come.
    pub fn follow<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Following {
        Following::start(self.command(args))
    }

    // ---- the processes of this home

    /// Process of the daemon, by `upkeep ping`; waits for one that answers.
    #[track_caller]
    pub fn daemon_pid(&self) -> i32 {
        self.pinged("daemon_pid")
    }

    /// Process of the keeper, by `upkeep ping`; waits for a daemon that answers.
    #[track_caller]
    pub fn keeper_pid(&self) -> i32 {
        self.pinged("keeper_pid")
    }

    #[track_caller]
    fn pinged(&self, field: &str) -> i32 {
        wait_until("an answer to `upkeep ping`", TIMEOUT, || {
            let output = self.cmd(["ping", "--json"]);
            let answer: serde_json::Value = serde_json::from_str(&output.stdout).unwrap_or_default();
            answer[field]
                .as_i64()
                .and_then(|pid| i32::try_from(pid).ok())
                .ok_or_else(|| format!("no `{field}` in {output:?}"))
        })
    }

    /// One instance of an app in `ls --json`, or null.
    #[track_caller]
    pub fn instance(&self, app: &str, index: u64) -> serde_json::Value {
        let list = self.json(["ls"]);
        let apps = list["apps"].as_array().cloned().unwrap_or_default();
        let app = apps
            .into_iter()
            .find(|entry| entry["name"] == app)
            .unwrap_or_default();
        let instances = app["instances"].as_array().cloned().unwrap_or_default();
        instances
            .into_iter()
            .find(|entry| entry["index"] == index)
            .unwrap_or_default()
    }

    /// Waits until `ls` says so of an instance, and gives back what it then said.
    #[track_caller]
    pub fn wait_for(&self, app: &str, index: u64, actual: &str) -> serde_json::Value {
        wait_until(&format!("{app}-{index} to be {actual}"), TIMEOUT, || {
            let instance = self.instance(app, index);
            if instance["actual"] == actual {
                Ok(instance)
            } else {
                Err(instance.to_string())
            }
        })
    }

    /// Every living process that belongs to this home: started with its `UPKEEP_HOME`, or with its `HOME` (apps are not
    /// given the first, and outlive a keeper that is killed), or below such a one.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = process::with_environment(&format!("UPKEEP_HOME={}", self.path().display()));
        found.extend(process::with_environment(&format!(
            "HOME={}",
            self.work().display()
        )));
        let below = process::descendants(&found);
        found.extend(below);
        found.sort_unstable();
        found.dedup();
        found.retain(|&pid| process::alive(pid));
        found
    }

    /// Ends everything, politely for a while, and says what is left.
    fn end(&self) -> Result<(), String> {
        if self.processes().is_empty() {
            return Ok(());
        }
        // Known by number and start, because a number may be given to a stranger; and asked for before `kill`,
        // because a process that changed its environment and lost its parent is not found later.
        let mut known = self.known();
        let mut command = self.command(["kill"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if let Ok(mut verb) = command.spawn() {
            let ended = try_wait_until("`upkeep kill`", Duration::from_secs(10), || {
                match verb.try_wait() {
                    Ok(Some(_)) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
            if ended.is_err() {
                let _ = verb.kill(); // it may have ended meanwhile
                let _ = verb.wait();
            }
        }
        try_wait_until(
            "the end of all processes of this home",
            Duration::from_secs(10),
            || {
                known.extend(self.known());
                known.retain(|&(pid, start)| {
                    process::stat(pid).is_some_and(|stat| stat.start == start) && process::alive(pid)
                });
                for &(pid, _) in &known {
                    let _ = kill(pid, Signal::KILL); // it may have ended meanwhile
                }
                if known.is_empty() {
                    return Ok(());
                }
                let left: Vec<String> = known
                    .iter()
                    .map(|&(pid, _)| format!("{pid} {}", process::command_line(pid)))
                    .collect();
                Err(left.join("\n"))
            },
        )
        .map_err(|error| error.to_string())
    }

    /// The processes of this home, each with the moment it started.
    fn known(&self) -> HashSet<(i32, u64)> {
        let with_start = |pid| Some((pid, process::stat(pid)?.start));
        self.processes().into_iter().filter_map(with_start).collect()
    }

    /// The ends of the logs of keeper and daemon.
    fn own_logs(&self) -> String {
        let mut text = String::new();
        for name in ["keeper.log", "daemon.log"] {
            let bytes = fs::read(self.path().join("run").join(name)).unwrap_or_default();
            let log = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = log.lines().collect();
            text.push_str(&format!(
                "--- {name}\n{}\n",
                lines[lines.len().saturating_sub(40)..].join("\n")
            ));
        }
        text
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if thread::panicking() {
            let text = self.own_logs();
            let _ = io::stderr().write_all(text.as_bytes()); // the test fails anyway
        }
        let left = self.end();
        if let Err(left) = left
            && !thread::panicking()
        {
            panic!("{left}");
        }
    }
}

/// Where a binary of this workspace is: `UPKEEP_BIN` for `upkeep`, else beside the running test.
///
/// # Panics
///
/// If it is not built.
pub fn binary(name: &str) -> PathBuf {
    if name == "upkeep"
        && let Some(path) = std::env::var_os("UPKEEP_BIN")
    {
        return path.into();
    }
    let own = std::env::current_exe().expect("the path of the running program");
    // target/PROFILE/deps/test-hash, or target/PROFILE/xtask
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    let Some(path) = found else {
        panic!("`{name}` is not built; `cargo xtask test` does it, or: cargo build --bin {name}");
    };
    path
}

/// A verb that goes on.
#[derive(Debug)]
pub struct Following {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
    ended: bool,
}

impl Following {
    /// Starts the command with its output read line by line.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = read_lines(child.stdout.take().expect("it is piped"));
        let errors = read_lines(child.stderr.take().expect("it is piped"));
        Self {
            child,
            lines,
            errors,
            ended: false,
        }
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The next line of standard output, or `None` at its end.
    ///
    /// # Panics
    ///
    /// When none has come within `deadline`.
    #[track_caller]
    pub fn next_line(&self, deadline: Duration) -> Option<String> {
        match self.lines.recv_timeout(deadline) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {deadline:?}; {:?}", self.errors()),
        }
    }

    /// Reads lines until one is as wanted, and gives back that one.
    #[track_caller]
    pub fn line_with(&self, text: &str, deadline: Duration) -> String {
        let start = Instant::now();
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_sub(start.elapsed())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!(
                    "no line with `{text}`: {error}; seen: {seen:#?}; {:?}",
                    self.errors()
                ),
            }
        }
    }

    /// Reads lines of standard error until one is as wanted, and gives back that one.
    #[track_caller]
    pub fn error_with(&self, text: &str, deadline: Duration) -> String {
        let start = Instant::now();
        let mut seen = Vec::new();
        loop {
            match self.errors.recv_timeout(deadline.saturating_sub(start.elapsed())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line with `{text}`: {error}; seen: {seen:#?}"),
            }
        }
    }

    /// What it has said on standard error since it was last asked; all of it once [`Self::wait`] has seen the end.
    pub fn errors(&self) -> Vec<String> {
        if !self.ended {
            return self.errors.try_iter().collect();
        }
        // Somebody may hold the stream open, who is none of ours.
        std::iter::from_fn(|| self.errors.recv_timeout(Duration::from_secs(5)).ok()).collect()
    }

    /// Waits for its end and gives back its code (128 + N for signal N).
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> i32 {
        let code = wait_until("the end of a verb", deadline, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(code(status)),
            other => Err(format!("{other:?}")),
        });
        self.ended = true;
        code
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn read_lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        while from.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            if sender.send(line).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    receiver
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs a command to its end, or ends it and panics when the deadline has passed.
#[track_caller]
fn finish(mut command: Command, input: &[u8], deadline: Duration) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    feed(child.stdin.take(), input);
    let stdout = read_all(child.stdout.take().expect("it is piped"));
    let stderr = read_all(child.stderr.take().expect("it is piped"));
    let start = Instant::now();
    let mut texts = [String::new(), String::new()];
    let mut late = false;
    for (text, bytes) in texts.iter_mut().zip([stdout, stderr]) {
        late |= !collect(text, &bytes, deadline.saturating_sub(start.elapsed()));
    }
    let status = try_wait_until(
        "its end",
        deadline.saturating_sub(start.elapsed()),
        || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        },
    );
    let [stdout, stderr] = texts;
    match status {
        Ok(status) if !late => Output {
            code: code(status),
            stdout,
            stderr,
        },
        ended => {
            let _ = child.kill(); // it may have ended
            let _ = child.wait();
            let what = match ended {
                Ok(status) => format!("ended ({status}), but somebody holds its output open"),
                Err(_) => "has not ended".to_owned(),
            };
            panic!("after {deadline:?} {command:?} {what}\nstdout: {stdout}\nstderr: {stderr}");
        }
    }
}

fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        let input = input.to_vec();
        thread::spawn(move || drop(stdin.write_all(&input))); // it need not read it all
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut chunk = vec![0_u8; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            if sender.send(chunk[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Whether the end came before the deadline.
fn collect(text: &mut String, from: &Receiver<Vec<u8>>, deadline: Duration) -> bool {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let ended = loop {
        match from.recv_timeout(deadline.saturating_sub(start.elapsed())) {
            Ok(part) => bytes.extend(part),
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    *text = String::from_utf8_lossy(&bytes).into_owned();
    ended
}

/// A rotated log file in the form in which it is there: it may be compressed between two looks.
pub fn whole_or_packed(path: &Path) -> Vec<u8> {
    let packed = PathBuf::from(format!("{}.zst", path.display()));
    for _ in 0..2 {
        if let Ok(file) = fs::File::open(&packed) {
            return zstd::stream::decode_all(file).expect("it gets its name when it is whole");
        }
        if let Ok(bytes) = fs::read(path) {
            return bytes;
        }
    }
    Vec::new() // deleted meanwhile
}
