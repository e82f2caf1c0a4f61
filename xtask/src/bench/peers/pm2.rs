//! The real PM2, from the npm registry.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use serde_json::json;
use upkeep_testkit::{process, try_wait_until};

use super::{Peer, Session, peers_dir};
use crate::{
    bench::lab::{App, Lab, PATIENCE},
    shell,
};

const VERSION: &str = "7.0.4";

/// The real PM2's command; it is installed if need be.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let dir = peers_dir()?.join("pm2");
    let program = dir.join("node_modules/pm2/bin/pm2");
    if !program.is_file() {
        fs::create_dir_all(&dir)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&dir);
        shell::read(npm.arg(format!("pm2@{VERSION}")))?;
    }
    Ok(program)
}

/// Its module for rotation, which `pm2 install` gets, and how it is set.
const MODULE: &str = "pm2-logrotate";
const MODULE_VERSION: &str = "3.0.0";
const SETTINGS: &[(&str, &str)] = &[
    ("max_size", "1M"),
    ("retain", "all"),
    ("workerInterval", "1"),
    // Two rotations in a second are not to take each other's name.
    ("dateFormat", "YYYY-MM-DD_HH-mm-ss-SSS"),
];

/// A home with the module installed and set; it is made if need be.
fn home_with_module(program: &Path) -> anyhow::Result<PathBuf> {
    let home = peers_dir()?.join(format!("{MODULE}-{MODULE_VERSION}"));
    if home.join("ready").is_file() {
        return Ok(home);
    }
    let pm2 = |words: &[&str]| {
        let mut command = Command::new("node");
        command.arg(program).args(words).env("PM2_HOME", &home);
        shell::read(command.env("PM2_DISCRETE_MODE", "true"))
    };
    let installed = pm2(&["install", &format!("{MODULE}@{MODULE_VERSION}")]).and_then(|_| {
        for (name, value) in SETTINGS {
            pm2(&["set", &format!("{MODULE}:{name}"), value])?;
        }
        Ok(())
    });
    pm2(&["kill"])?;
    installed?;
    fs::write(home.join("ready"), "")?;
    Ok(home)
}

#[derive(Debug, Default)]
pub(crate) struct Pm2 {
    program: PathBuf,
    /// With its module for rotation.
    rotating: bool,
}

impl Pm2 {
    pub(super) fn rotating() -> Self {
        Self {
            rotating: true,
            ..Self::default()
        }
    }
}

impl Peer for Pm2 {
    fn name(&self) -> &'static str {
        "pm2"
    }

    fn configured(&self) -> &'static str {
        if self.rotating {
            "as in `bench supervise`, with pm2-logrotate 3.0.0, max_size 1M, retain all, workerInterval 1"
        } else {
            "one ecosystem JSON file, fork mode, interpreter none, no restart delay, merged log per app"
        }
    }

    fn install(&mut self) -> anyhow::Result<String> {
        let dir = peers_dir()?.join("pm2");
        self.program = program()?;
        let package = fs::read_to_string(dir.join("node_modules/pm2/package.json"))?;
        let package: serde_json::Value = serde_json::from_str(&package)?;
        let node = shell::read(Command::new("node").arg("--version"))?;
        Ok(format!(
            "pm2 {} on node {}",
            package["version"].as_str().unwrap_or("?"),
            node.trim()
        ))
    }

    fn open<'lab>(&self, lab: &'lab Lab) -> anyhow::Result<Box<dyn Session + 'lab>> {
        let session = Running {
            lab,
            program: self.program.clone(),
        };
        if self.rotating {
            let home = home_with_module(&self.program)?;
            let mut copy = lab.command("cp");
            lab.run(copy.arg("-a").arg(home).arg(lab.path("h")))?;
        }
        lab.run(session.verb().arg("ping"))?;
        if self.rotating {
            try_wait_until("the module", PATIENCE, || {
                let all = lab.supervisors();
                let found = all.iter().any(|&pid| process::command_line(pid).contains(MODULE));
                if found { Ok(()) } else { Err(format!("{all:?}")) }
            })?;
        }
        Ok(Box::new(session))
    }
}

struct Running<'lab> {
    lab: &'lab Lab,
    program: PathBuf,
}

impl Running<'_> {
    fn verb(&self) -> Command {
        let mut command = self.lab.command("node");
        command.arg(&self.program).env("PM2_HOME", self.lab.path("h"));
        command
    }
}

impl Session for Running<'_> {
    fn prepare(&mut self, apps: &[App]) -> anyhow::Result<()> {
        let apps = apps.iter().map(|app| {
            json!({
                "name": app.name,
                "script": app.words[0],
                "args": app.words[1..],
                "interpreter": "none",
                "exec_mode": "fork",
                "instances": app.copies,
                "autorestart": app.restart,
                "merge_logs": true,
                "out_file": self.lab.path("logs").join(format!("{}.out", app.name)),
                "error_file": self.lab.path("logs").join(format!("{}.err", app.name)),
            })
        });
        let file = json!({ "apps": apps.collect::<Vec<_>>() });
        fs::write(self.lab.path("ecosystem.json"), file.to_string()).context("the ecosystem file")
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.lab
            .run(self.verb().arg("start").arg(self.lab.path("ecosystem.json")))
    }

    fn list(&self) -> Command {
        let mut command = self.verb();
        command.arg("ls");
        command
    }

    fn logs(&self, app: &str, _: u32) -> Vec<PathBuf> {
        let dir = self.lab.path("logs");
        let current = format!("{app}.out");
        let old = format!("{app}__");
        let mut names = super::names_in(&dir, |name| name.starts_with(&old).then(|| name.to_owned()));
        names.push(current);
        names.iter().map(|name| dir.join(name)).collect()
    }

    fn daemon(&self) -> anyhow::Result<i32> {
        Ok(fs::read_to_string(self.lab.path("h/pm2.pid"))?.trim().parse()?)
    }

    fn remember(&mut self) -> anyhow::Result<()> {
        self.lab.run(self.verb().arg("save"))
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        self.lab.run(self.verb().arg("resurrect"))
    }
}
