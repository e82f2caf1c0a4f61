//! runit, from Debian: one runsv and one svlogd for each service.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
};

use anyhow::Context as _;

use super::{Debian, Peer, Session, script, shell_words};
use crate::bench::lab::{App, Lab};

#[derive(Debug, Default)]
pub(crate) struct Runit {
    programs: Debian,
}

impl Peer for Runit {
    fn name(&self) -> &'static str {
        "runit"
    }

    fn configured(&self) -> &'static str {
        "a directory per instance, an svlogd each without rotation; runsvdir looks every 5 s, so starts are timed \
         from the start of runsvdir on a ready directory"
    }

    fn install(&mut self) -> anyhow::Result<String> {
        self.programs = Debian::get("runsvdir", "runit", true)?;
        Ok(self.programs.version("runit"))
    }

    fn open<'lab>(&self, lab: &'lab Lab) -> anyhow::Result<Box<dyn Session + 'lab>> {
        fs::create_dir(lab.path("scan"))?;
        let mut session = Running {
            lab,
            programs: self.programs.clone(),
            child: None,
        };
        session.launch()?;
        Ok(Box::new(session))
    }
}

struct Running<'lab> {
    lab: &'lab Lab,
    programs: Debian,
    child: Option<Child>,
}

impl Running<'_> {
    fn launch(&mut self) -> anyhow::Result<()> {
        if let Some(mut old) = self.child.take() {
            old.wait()?;
        }
        let mut command = self.programs.command(self.lab, "runsvdir");
        command.arg(self.lab.path("scan"));
        self.child = Some(self.lab.foreground(command)?);
        Ok(())
    }
}

impl Session for Running<'_> {
    fn prepare(&mut self, apps: &[App]) -> anyhow::Result<()> {
        // It manages nothing yet: ending it is no loss.
        if let Some(child) = &mut self.child {
            child.kill()?;
        }
        for app in apps {
            for index in 0..app.copies {
                let name = format!("{}-{index}", app.name);
                let dir = self.lab.path("scan").join(&name);
                fs::create_dir_all(dir.join("log"))?;
                script(
                    &dir.join("run"),
                    &format!("#!/bin/sh\nexec 2>&1 {}\n", shell_words(&app.words)),
                )?;
                if !app.restart {
                    script(&dir.join("finish"), "#!/bin/sh\nexec sv down \"$PWD\"\n")?;
                }
                let log = self.lab.path("logs").join(&name);
                fs::create_dir_all(&log)?;
                let settings = if app.rotate.is_some() {
                    "s1000000\nn0\n"
                } else {
                    "s0\n"
                };
                fs::write(log.join("config"), settings).context("the settings of svlogd")?;
                script(
                    &dir.join("log/run"),
                    &format!("#!/bin/sh\nexec svlogd {}\n", log.display()),
                )?;
            }
        }
        Ok(())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.launch()
    }

    fn list(&self) -> Command {
        let mut command = self.programs.command(self.lab, "sv");
        command.arg("status");
        let mut names: Vec<PathBuf> = fs::read_dir(self.lab.path("scan"))
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        names.sort();
        command.args(names);
        command
    }

    fn logs(&self, app: &str, index: u32) -> Vec<PathBuf> {
        super::logs_in(&self.lab.path("logs").join(format!("{app}-{index}")))
    }

    fn daemon(&self) -> anyhow::Result<i32> {
        Ok(self.child.as_ref().context("it does not run")?.id().cast_signed())
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        // What init does. If it still runs, it does the rest by itself.
        let gone = self
            .child
            .as_mut()
            .is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if gone { self.launch() } else { Ok(()) }
    }
}
