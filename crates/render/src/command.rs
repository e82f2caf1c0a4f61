//! Commands with a time limit.

use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use upkeep_sys::{pid::Pid, pidfd, poll, signal};

/// So much of what a command says is kept.
const KEPT: u64 = 8 << 10;

const SIGKILL: i32 = 9;

/// A command and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Program and arguments. No shell reads them.
    pub argv: Vec<String>,
    /// After this it is killed, with all that it has started.
    pub limit: Duration,
}

/// Why a command did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{command}` {why}")]
pub struct RunError {
    /// The program.
    pub command: String,
    /// What happened.
    pub why: String,
    /// What it said, its beginning.
    pub said: String,
}

impl Run {
    /// A command without a shell.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>, limit: Duration) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            limit,
        }
    }

    /// A line for `/bin/sh`: only where somebody asked for a shell.
    pub fn shell(line: impl Into<String>, limit: Duration) -> Self {
        Self::new(["/bin/sh".to_owned(), "-c".to_owned(), line.into()], limit)
    }

    /// The same with a path in the place of each `{}`. A shell gets it as `$1`, so that no name of a file is read as a command.
    pub(crate) fn with_path(&self, path: &str) -> Self {
        let is_shell = matches!(self.argv.as_slice(), [sh, dash, _] if sh == "/bin/sh" && dash == "-c");
        let put = if is_shell { "\"$1\"" } else { path };
        let mut argv: Vec<String> = self.argv.iter().map(|word| word.replace("{}", put)).collect();
        if is_shell {
            argv.extend(["sh".to_owned(), path.to_owned()]);
        }
        Self { argv, ..self.clone() }
    }

    /// Runs it to its end.
    pub fn run(&self) -> Result<(), RunError> {
        let command = self.argv.first().cloned().unwrap_or_default();
        let fail = |why: String, said: String| RunError {
            command: command.clone(),
            why,
            said,
        };
        let Some((program, arguments)) = self.argv.split_first() else {
            return Err(fail("names no program".to_owned(), String::new()));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| fail(format!("cannot be started: {error}"), String::new()))?;
        let (says, said) = mpsc::channel();
        if let Some(mut pipe) = child.stderr.take() {
            // It ends with the last process that holds the pipe; nobody waits for it.
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                let _ = pipe.by_ref().take(KEPT).read_to_end(&mut kept);
                let _ = says.send(String::from_utf8_lossy(&kept).trim().to_owned());
                let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            });
        }
        let leader = Pid::from_unsigned(child.id());
        let ended = leader
            .and_then(|pid| pidfd::open(pid).ok())
            .is_some_and(|fd| ends_within(&fd, self.limit));
        if !ended && let Some(leader) = leader {
            // Not reaped yet: the number is still theirs.
            let _ = signal::send_to_group(leader, SIGKILL);
        }
        let status = child.wait();
        let said = said.recv_timeout(Duration::from_millis(200)).unwrap_or_default();
        match status {
            _ if !ended => Err(fail(format!("took longer than {:?}", self.limit), said)),
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(fail(format!("failed: {status}"), said)),
            Err(error) => Err(fail(format!("cannot be waited for: {error}"), said)),
        }
    }
}

fn ends_within(pidfd: &std::os::fd::OwnedFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        match poll::readable_within(pidfd, millis) {
            Ok(true) => return true,
            Ok(false) if left.is_zero() => return false,
            Ok(false) => {}
            Err(_) => return false,
        }
    }
}

/// Ends waits early.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// From now on nothing waits.
    pub fn stop(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits for so long, or until stopped; tells whether it was.
    pub fn wait(&self, time: Duration) -> bool {
        let stopped = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) = self
            .0
            .1
            .wait_timeout_while(stopped, time, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner);
        *stopped
    }
}
