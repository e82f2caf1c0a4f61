//! What the keeper is told when it starts, and why it may not start.

use std::{ffi::OsString, path::PathBuf};

use upkeep_sys::CallError;

use crate::codec::Malformed;

/// Everything the keeper is told.
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    /// A directory of its own, mode 0700, made if need be: lock, pid, journal and logs live there.
    pub run_dir: PathBuf,
    /// How to start the daemon.
    pub daemon: DaemonCommand,
    /// The keeper's own program, for a re-exec by SIGUSR2.
    pub own_program: PathBuf,
    /// Its arguments, own name first: `upkeep keeper`. `--resume FD` or `--can-resume VERSION` is appended.
    pub own_argv: Vec<OsString>,
    /// The program's version, for Welcome and the log.
    pub version: String,
    /// How long things may take.
    pub times: Times,
}

/// How to start the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonCommand {
    /// The file to execute.
    pub program: PathBuf,
    /// Its arguments, own name first. After an upgrade the first is the new program's path.
    pub argv: Vec<OsString>,
    /// Its whole environment; the keeper adds `UPKEEP_KEEPER_FD`.
    pub env: Vec<(OsString, OsString)>,
}

/// Variable of the daemon's environment: numbers of signals, separated by commas, that the keeper passes on to the daemon
/// where it would act on them itself.
pub const PASS_ON: &str = "UPKEEP_PASS_ON";

impl DaemonCommand {
    /// Whether a signal is the daemon's business.
    pub(crate) fn wants(&self, signal: i32) -> bool {
        let given = self.env.iter().find(|(name, _)| name == PASS_ON);
        given
            .and_then(|(_, value)| value.to_str())
            .is_some_and(|numbers| numbers.split(',').any(|number| number.parse() == Ok(signal)))
    }
}

/// How long things may take, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The first pause before a daemon that died is started again; it doubles.
    pub backoff_min: u64,
    /// The longest such pause.
    pub backoff_max: u64,
    /// A daemon that was Ready and lived this long begins with the first pause again.
    pub stable: u64,
    /// A daemon told to retire (or that said Leave and hung up) has this long to exit.
    pub retire: u64,
    /// A new program has this long to say Ready.
    pub trial: u64,
    /// A new keeper program has this long to say whether it can take over.
    pub probe: u64,
    /// After SIGTERM the daemon has this long to stop everything and leave.
    pub terminate: u64,
    /// What the keeper stops itself has this long between SIGTERM and SIGKILL.
    pub tree_grace: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            backoff_min: 50,
            backoff_max: 5_000,
            stable: 10_000,
            retire: 10_000,
            trial: 5_000,
            probe: 3_000,
            terminate: 60_000,
            tree_grace: 10_000,
        }
    }
}

/// A keeper that could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Another keeper holds the run directory.
    #[error("a keeper is already running in `{}`{}", run_dir.display(), shown(*pid))]
    AlreadyRunning {
        /// The directory.
        run_dir: PathBuf,
        /// Its process, if it wrote it down.
        pid: Option<u32>,
    },
    /// The run directory cannot be used.
    #[error("failed to prepare the run directory `{}`", path.display())]
    RunDir {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refuses what the keeper cannot do without.
    #[error("failed to set up the keeper")]
    Kernel(#[from] CallError),
    /// The state handed over by the program before cannot be read.
    #[error("failed to take over from the keeper before")]
    State(#[source] Malformed),
}

fn shown(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}
