//! From a rendered text to a settled file.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use upkeep_sys::{pid::Pid, signal};

use crate::{
    command::{Run, RunError, Stop},
    file::{FileError, Place, Target},
};

/// What is done once a file has changed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Action {
    /// Nothing.
    #[default]
    None,
    /// A command.
    Run(Run),
    /// A signal to the process whose number stands in a file.
    Signal {
        /// The file.
        pid_file: PathBuf,
        /// The signal's number.
        signal: i32,
    },
}

/// Whether the program does well with the new file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Succeeds if it does.
    pub check: Run,
    /// Between two tries.
    pub interval: Duration,
    /// So long it may take until the check succeeds.
    pub within: Duration,
}

/// A file to be kept as rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which.
    pub target: Target,
    /// Runs on the new file (`{}`) before it takes the place of the old.
    pub check: Option<Run>,
    /// What is done then.
    pub action: Action,
    /// Whether it did any good; else the old file comes back.
    pub health: Option<Health>,
    /// A file that is empty may be meant.
    pub allow_blank: bool,
}

impl Job {
    /// A file, and nothing besides.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            check: None,
            action: Action::None,
            health: None,
            allow_blank: false,
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The file was as it is to be: nothing was touched, nobody was told.
    Unchanged,
    /// It is written, and the action has succeeded.
    Written,
}

/// Why a file is not as it is to be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Nothing but blanks.
    #[error("`{}` would be blank; it stays as it is", .0.display())]
    Blank(PathBuf),
    /// It could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Of several files one could not be written, and others could not go back.
    #[error("{why}; and of those before it: {stuck}")]
    Stuck {
        /// Why one could not be written.
        why: String,
        /// Which could not go back, and why.
        stuck: String,
    },
    /// The check refused the new file. The old one is untouched.
    #[error("the check refused the new `{}`, which stays as it is: {why}", .path.display())]
    Refused {
        /// The target.
        path: PathBuf,
        /// What the check said.
        why: RunError,
    },
    /// The new file did no good, and the old one is back.
    #[error("`{}` is as it was before: {why}", .path.display())]
    WentBack {
        /// The target.
        path: PathBuf,
        /// What failed with the new file.
        why: String,
        /// What failed with the old one, if it did too.
        again: Option<String>,
    },
}

/// Writes a text to its file. Blocks for as long as check, action and health take.
pub fn apply(job: &Job, text: &str, stop: &Stop) -> Result<Applied, ApplyError> {
    if text.trim().is_empty() && !job.allow_blank {
        return Err(ApplyError::Blank(job.target.path.clone()));
    }
    let place = Place::of(&job.target)?;
    // A file of a round that was killed is not proven, also if it is the same.
    let is_unsettled = place.is_unsettled();
    let is_there = place.is(text.as_bytes())?;
    if is_there && !is_unsettled {
        return Ok(Applied::Unchanged);
    }
    if !is_there {
        let new = place.prepare(text.as_bytes())?;
        if let Some(check) = &job.check {
            let path = new.path().to_string_lossy();
            check.with_path(&path).run().map_err(|why| ApplyError::Refused {
                path: job.target.path.clone(),
                why,
            })?;
        }
        new.take_place()?;
    }
    if let Err(why) = act(job).and_then(|()| healthy(job, stop)) {
        place.go_back()?;
        return Err(ApplyError::WentBack {
            path: job.target.path.clone(),
            why,
            again: act(job).err(),
        });
    }
    place.settle()?;
    Ok(Applied::Written)
}

fn act(job: &Job) -> Result<(), String> {
    match &job.action {
        Action::None => Ok(()),
        Action::Run(run) => {
            let path = job.target.path.to_string_lossy();
            run.with_path(&path).run().map_err(|error| said(&error))
        }
        Action::Signal { pid_file, signal } => {
            let fail = |why: String| format!("no signal by `{}`: {why}", pid_file.display());
            let text = fs::read_to_string(pid_file).map_err(|error| fail(error.to_string()))?;
            let pid = text.split_whitespace().next().and_then(|word| word.parse().ok());
            let pid = pid
                .and_then(Pid::new)
                .ok_or_else(|| fail("it holds no process id".to_owned()))?;
            if !signal::is_valid(*signal) {
                return Err(fail(format!("{signal} is no signal")));
            }
            signal::send(pid, *signal).map_err(|error| fail(error.to_string()))
        }
    }
}

fn healthy(job: &Job, stop: &Stop) -> Result<(), String> {
    let Some(health) = &job.health else {
        return Ok(());
    };
    let deadline = Instant::now() + health.within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let check = Run {
            limit: health.check.limit.min(left.max(Duration::from_millis(1))),
            ..health.check.clone()
        };
        let Err(error) = check.run() else {
            return Ok(());
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stop.wait(health.interval.min(left)) {
            return Err(format!(
                "not healthy within {:?}: {}",
                health.within,
                said(&error)
            ));
        }
    }
}

fn said(error: &RunError) -> String {
    match error.said.lines().next() {
        Some(line) => format!("{error}: {line}"),
        None => error.to_string(),
    }
}
