//! Who is measured, and how each is set up.
//!
//! Every one runs as its manual says, with its log files unlimited in size (rotation would drop lines that we want to
//! count), restarts without a pause, and nothing else changed.

mod pm2;
mod runit;
mod s6;
mod supervisord;
mod upkeep;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub(crate) use pm2::program as pm2_program;

use anyhow::{Context as _, ensure};

use super::lab::{App, Lab};
use crate::shell;

/// A supervisor that can be had on this machine.
pub(crate) trait Peer {
    /// Its name.
    fn name(&self) -> &'static str;
    /// How it is set up, in a line.
    fn configured(&self) -> &'static str;
    /// Gets it if it is not there, and gives back its version.
    fn install(&mut self) -> anyhow::Result<String>;
    /// Starts it in the lab, with nothing to manage.
    fn open<'lab>(&self, lab: &'lab Lab) -> anyhow::Result<Box<dyn Session + 'lab>>;
}

/// A supervisor that runs. The lab ends it.
pub(crate) trait Session {
    /// Writes the files that describe the applications. Not timed.
    fn prepare(&mut self, apps: &[App]) -> anyhow::Result<()>;
    /// What a user then types. Timed; need not wait for the applications.
    fn start(&mut self) -> anyhow::Result<()>;
    /// The command that lists all instances.
    fn list(&self) -> Command;
    /// Where the standard output of an instance is, oldest file first.
    fn logs(&self, app: &str, index: u32) -> Vec<PathBuf>;
    /// The process whose death is looked at: the one that decides.
    fn daemon(&self) -> anyhow::Result<i32>;
    /// What a user does so that the present state can be recovered, before anything bad happens.
    fn remember(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    /// What a user, or init, does after the death of the daemon.
    fn recover(&mut self) -> anyhow::Result<()>;
}

/// All of them, ours first.
pub(crate) fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::<upkeep::Upkeep>::default(),
        Box::<pm2::Pm2>::default(),
        Box::<supervisord::Supervisord>::default(),
        Box::<s6::S6>::default(),
        Box::<runit::Runit>::default(),
    ]
}

/// Files of a directory that a log consists of, as `take` calls them, in order and each once.
fn names_in(dir: &Path, take: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let names = entries.filter_map(|entry| take(entry.ok()?.file_name().to_str()?));
    let names: std::collections::BTreeSet<String> = names.collect();
    names.into_iter().collect()
}

/// Those whose log is a directory: old files are called `@TIME…`, the newest `current`.
fn logs_in(dir: &Path) -> Vec<PathBuf> {
    let mut names = names_in(dir, |name| name.starts_with('@').then(|| name.to_owned()));
    names.push("current".to_owned());
    names.iter().map(|name| dir.join(name)).collect()
}

/// All of them with rotation at 1 MB.
pub(crate) fn rotating() -> Vec<Box<dyn Peer>> {
    vec![
        Box::<upkeep::Upkeep>::default(),
        Box::new(pm2::Pm2::rotating()),
        Box::<supervisord::Supervisord>::default(),
        Box::<s6::S6>::default(),
        Box::<runit::Runit>::default(),
    ]
}

/// Where peers are put: in the repository, not in git.
pub(crate) fn peers_dir() -> anyhow::Result<PathBuf> {
    let dir = shell::root().join(".peers");
    fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
    Ok(dir)
}

/// A file that can be run.
fn script(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Words for a shell. Ours have no quotes in them.
fn shell_words(words: &[String]) -> String {
    words
        .iter()
        .map(|word| format!("'{word}'"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Programs of a Debian package: from `PATH`, or from where the package was unpacked.
#[derive(Clone, Debug, Default)]
struct Debian {
    root: Option<PathBuf>,
}

impl Debian {
    /// The package that holds `program`: as it is, else installed by root, else unpacked privately if it is one that
    /// runs from anywhere.
    fn get(program: &str, package: &str, anywhere: bool) -> anyhow::Result<Self> {
        if found(program) {
            return Ok(Self::default());
        }
        if rustix::process::geteuid().is_root() {
            let install = || {
                let mut command = Command::new("apt-get");
                command.args(["install", "-y", "--no-install-recommends", package]);
                command.env("DEBIAN_FRONTEND", "noninteractive");
                shell::read(&mut command)
            };
            if install().is_err() {
                shell::read(Command::new("apt-get").arg("update"))?;
                install()?;
            }
            ensure!(found(program), "package {package} has no {program}");
            return Ok(Self::default());
        }
        ensure!(
            anywhere,
            "{program} is not installed, has its paths built in, and only root can install it"
        );
        let root = peers_dir()?.join(package);
        if !root.join("usr/bin").join(program).is_file() {
            fs::create_dir_all(&root)?;
            shell::read(
                Command::new("apt-get")
                    .args(["download", package])
                    .current_dir(&root),
            )?;
            for entry in fs::read_dir(&root)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "deb") {
                    shell::read(Command::new("dpkg").arg("-x").arg(&path).arg(&root))?;
                }
            }
        }
        ensure!(
            root.join("usr/bin").join(program).is_file(),
            "package {package} has no {program}"
        );
        Ok(Self { root: Some(root) })
    }

    /// A command of the lab that finds these programs.
    fn command(&self, lab: &Lab, program: &str) -> Command {
        let mut command = lab.command(program);
        if let Some(root) = &self.root {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", root.join("usr/bin").display()));
        }
        command
    }

    /// Version of the package.
    fn version(&self, package: &str) -> String {
        let mut command = Command::new("dpkg-query");
        command.args(["-W", "-f", "${Version}", package]);
        match shell::read(&mut command) {
            Ok(version) if self.root.is_none() => format!("{package} {version} (Debian)"),
            _ => format!("{package} (Debian, unpacked)"),
        }
    }
}

/// Whether a program is in `PATH`.
fn found(program: &str) -> bool {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
