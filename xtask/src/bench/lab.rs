//! A private directory for one supervisor at a time, and the means to find and end all that it started.
//!
//! Supervisors are started with a mark in their environment, which their children inherit; applications carry it in
//! their arguments too. So nothing is ever found by its name, and nothing ended that we did not start.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use upkeep_testkit::{Signal, Stamp, alive, kill, process, stamps, try_wait_until};

use crate::shell;

/// How long anything may take that normally takes a moment.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

const MARK: &str = "UPKEEP_BENCH";

/// A directory, a mark, and what to run.
#[derive(Debug)]
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    mark: String,
    child: PathBuf,
}

/// One program to keep running.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// Its name.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) words: Vec<String>,
    /// How many copies.
    pub(crate) copies: u32,
    /// Whether it is started again when it ends.
    pub(crate) restart: bool,
    /// Whether its log is rotated, at about 1 MB with all files kept, instead of growing without end.
    pub(crate) rotate: Option<Rotate>,
}

/// What our own rotation has beside the size; the peers do it their way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotate {
    /// `none` or `zstd`.
    pub(crate) compress: &'static str,
    /// `raw` or `json`.
    pub(crate) format: &'static str,
    /// Size of a file.
    pub(crate) max_size: &'static str,
    /// How many are kept.
    pub(crate) keep: u32,
}

impl Lab {
    pub(crate) fn new(child: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("ukb")
            .tempdir_in("/tmp")
            .context("a private directory")?;
        let mark = dir
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for name in ["logs", "stamps", "tally"] {
            fs::create_dir(dir.path().join(name)).context("a private directory")?;
        }
        Ok(Self {
            dir,
            mark,
            child: child.to_owned(),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text, for configuration files.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A command of the supervisor: clean environment, marked, home in the lab.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin:/usr/sbin:/sbin".to_owned());
        command
            .env("PATH", path)
            .env("HOME", self.dir.path())
            .env("LANG", "C.UTF-8")
            .env(MARK, &self.mark);
        command
    }

    /// Runs a command of the supervisor to its end, its output thrown away.
    pub(crate) fn run(&self, command: &mut Command) -> anyhow::Result<()> {
        // Not by reading pipes: a daemon that the command leaves behind may hold them open.
        let log = fs::File::create(self.path("command.log")).context("a log for commands")?;
        command.stdout(log.try_clone()?).stderr(log);
        let status = command
            .status()
            .with_context(|| format!("failed to start `{}`", shell::words(command)))?;
        if !status.success() {
            let said = fs::read_to_string(self.path("command.log")).unwrap_or_default();
            anyhow::bail!("`{}` ended with {status}: {}", shell::words(command), said.trim());
        }
        Ok(())
    }

    /// Starts a supervisor that stays in the foreground, as init would. Its output goes to a file in the lab.
    pub(crate) fn foreground(&self, mut command: Command) -> anyhow::Result<Child> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("supervisor.log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        command
            .spawn()
            .with_context(|| format!("failed to start `{}`", shell::words(&command)))
    }

    // ---- applications

    /// An application: the scripted child, marked, with a stamp of each start.
    pub(crate) fn app(&self, name: &str, script: &str) -> App {
        let mut words = vec![self.child.display().to_string(), "tag".to_owned(), self.tag(name)];
        words.extend(["stamp".to_owned(), self.stamp_file(name).display().to_string()]);
        words.extend(script.split_whitespace().map(str::to_owned));
        App {
            name: name.to_owned(),
            words,
            copies: 1,
            restart: true,
            rotate: None,
        }
    }

    fn tag(&self, name: &str) -> String {
        format!("{}/{name}", self.mark)
    }

    fn stamp_file(&self, name: &str) -> PathBuf {
        self.path("stamps").join(name)
    }

    pub(crate) fn stamps(&self, name: &str) -> Vec<Stamp> {
        stamps(&self.stamp_file(name))
    }

    /// Waits for so many stamps of an application.
    pub(crate) fn wait_stamps(
        &self,
        name: &str,
        count: usize,
        deadline: Duration,
    ) -> anyhow::Result<Vec<Stamp>> {
        try_wait_until(&format!("{count} stamps of {name}"), deadline, || {
            let stamps = self.stamps(name);
            if stamps.len() >= count {
                Ok(stamps)
            } else {
                Err(format!("{}", stamps.len()))
            }
        })
    }

    /// Living processes of an application.
    pub(crate) fn instances(&self, name: &str) -> Vec<i32> {
        let tag = self.tag(name);
        process::all()
            .into_iter()
            .filter(|&pid| tag_of(pid).is_some_and(|found| found == tag))
            .collect()
    }

    // ---- the supervisor

    /// All processes of the supervisor: marked ones that are no application.
    pub(crate) fn supervisors(&self) -> Vec<i32> {
        let mut found = self.marked();
        found.retain(|&pid| tag_of(pid).is_none());
        found
    }

    fn marked(&self) -> Vec<i32> {
        // What changed its environment is found by its parent.
        let mut found: BTreeSet<i32> = process::with_environment(&format!("{MARK}={}", self.mark))
            .into_iter()
            .collect();
        let roots: Vec<i32> = found.iter().copied().collect();
        found.extend(process::descendants(&roots));
        found.into_iter().filter(|&pid| alive(pid)).collect()
    }

    /// Memory of the supervisor, in MiB: resident and proportional.
    pub(crate) fn memory(&self) -> (f64, f64) {
        let each = self.supervisors().into_iter().filter_map(process::memory);
        let (rss, pss) = each.fold((0, 0), |(rss, pss), memory| (rss + memory.rss, pss + memory.pss));
        (rss as f64 / 1024.0, pss as f64 / 1024.0)
    }

    /// Memory of the supervisor that belongs to no file, in MiB.
    pub(crate) fn anonymous(&self) -> f64 {
        let each = self.supervisors().into_iter().filter_map(process::memory);
        each.map(|memory| memory.anonymous).sum::<u64>() as f64 / 1024.0
    }

    /// Processor time of the supervisor's present processes so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        self.supervisors()
            .into_iter()
            .filter_map(process::cpu_nanos)
            .sum::<u64>() as f64
            / 1e9
    }

    /// Ends everything that was started here.
    pub(crate) fn end(&self) -> anyhow::Result<()> {
        try_wait_until("the end of all that the bench started", PATIENCE, || {
            let left = self.marked();
            for &pid in &left {
                let _ = kill(pid, Signal::KILL); // it may have ended meanwhile
            }
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

/// The mark in the arguments of an application.
fn tag_of(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = bytes.split(|&byte| byte == 0);
    let program = words.next()?;
    let tagged = program.ends_with(b"upkeep-child") && words.next()? == b"tag";
    tagged.then(|| words.next().map(|tag| String::from_utf8_lossy(tag).into_owned()))?
}

/// The clock of stamps, now.
pub(crate) fn monotonic_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}
