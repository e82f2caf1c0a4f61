//! The real PM2, from the npm registry.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context as _;
use serde_json::json;

use super::{Peer, Session, peers_dir};
use crate::{
    bench::lab::{App, Lab},
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

#[derive(Debug, Default)]
pub(crate) struct Pm2 {
    program: PathBuf,
}

impl Peer for Pm2 {
    fn name(&self) -> &'static str {
        "pm2"
    }

    fn configured(&self) -> &'static str {
        "one ecosystem JSON file, fork mode, interpreter none, no restart delay, merged log per app"
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
        lab.run(session.verb().arg("ping"))?;
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
                "out_file": self.logs(&app.name, 0)[0],
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
        vec![self.lab.path("logs").join(format!("{app}.out"))]
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
