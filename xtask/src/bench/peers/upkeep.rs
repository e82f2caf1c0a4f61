//! Ours: the static release binary of this tree.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Peer, Session};
use crate::{
    bench::lab::{App, Lab},
    shell,
};

#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    binary: PathBuf,
}

impl Peer for Upkeep {
    fn name(&self) -> &'static str {
        "upkeep"
    }

    fn configured(&self) -> &'static str {
        "static release build, one JSON file, back-off none, a log file per instance"
    }

    fn install(&mut self) -> anyhow::Result<String> {
        self.binary = shell::build_static(&["upkeep"])?.join("upkeep");
        Ok(shell::read(Command::new(&self.binary).arg("--version"))?
            .trim()
            .to_owned())
    }

    fn open<'lab>(&self, lab: &'lab Lab) -> anyhow::Result<Box<dyn Session + 'lab>> {
        let session = Running {
            lab,
            binary: self.binary.clone(),
        };
        lab.run(session.verb().arg("ls"))?;
        Ok(Box::new(session))
    }
}

struct Running<'lab> {
    lab: &'lab Lab,
    binary: PathBuf,
}

impl Running<'_> {
    fn verb(&self) -> Command {
        let mut command = self.lab.command(&self.binary);
        command
            .env("UPKEEP_HOME", self.lab.path("h"))
            .env("NO_COLOR", "1");
        command
    }
}

impl Session for Running<'_> {
    fn prepare(&mut self, apps: &[App]) -> anyhow::Result<()> {
        let apps = apps.iter().map(|app| {
            json!({
                "name": app.name,
                "command": app.words,
                "instances": app.copies,
                "restart": {
                    "on": if app.restart { "always" } else { "never" },
                    "backoff": "none",
                    "give_up_after": "never",
                },
                "logs": match app.rotate {
                    None => json!({ "max_size": "2G" }),
                    Some(rotate) => json!({
                        "max_size": rotate.max_size,
                        "keep": rotate.keep,
                        "compress": rotate.compress,
                        "format": rotate.format,
                    }),
                },
            })
        });
        let file = json!({ "apps": apps.collect::<Vec<_>>() });
        fs::write(self.lab.path("upkeep.json"), file.to_string()).context("the application file")
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.lab
            .run(self.verb().arg("start").arg(self.lab.path("upkeep.json")))
    }

    fn list(&self) -> Command {
        let mut command = self.verb();
        command.arg("ls");
        command
    }

    fn logs(&self, app: &str, index: u32) -> Vec<PathBuf> {
        let current = format!("{app}-{index}.out.log");
        // Without what a compressed file is called by, in the order of their numbers.
        let mut names = super::names_in(&self.lab.path("h/logs"), |name| {
            let number = name.strip_suffix(".zst").unwrap_or(name).strip_prefix(&current)?;
            let digits = number.strip_prefix('.')?;
            digits
                .parse::<u64>()
                .is_ok()
                .then(|| format!("{current}{number}"))
        });
        names.push(current);
        names
            .iter()
            .map(|name| self.lab.path("h/logs").join(name))
            .collect()
    }

    fn daemon(&self) -> anyhow::Result<i32> {
        let mut command = self.verb();
        command.args(["ping", "--json"]).stderr(Stdio::null());
        let answer: Value = serde_json::from_str(&shell::read(&mut command)?).context("`ping --json`")?;
        let pid = answer["daemon_pid"]
            .as_i64()
            .context("no daemon_pid in `ping --json`")?;
        Ok(i32::try_from(pid)?)
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        // Nothing but a look: the keeper brings the daemon back by itself, a command brings both.
        self.lab.run(&mut self.list())
    }
}
