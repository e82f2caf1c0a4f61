//! s6, from Debian: one s6-supervise for each service, and one s6-supervise and s6-log for its log.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
};

use anyhow::Context as _;
use upkeep_testkit::try_wait_until;

use super::{Debian, Peer, Session, script, shell_words};
use crate::bench::lab::{App, Lab, PATIENCE};

#[derive(Debug, Default)]
pub(crate) struct S6 {
    programs: Debian,
}

impl Peer for S6 {
    fn name(&self) -> &'static str {
        "s6"
    }

    fn configured(&self) -> &'static str {
        "a directory per instance linked into the scan directory, an s6-log each, files of 256 MB"
    }

    fn install(&mut self) -> anyhow::Result<String> {
        self.programs = Debian::get("s6-svscan", "s6", false)?; // it knows /usr/bin/s6-supervise only
        Ok(self.programs.version("s6"))
    }

    fn open<'lab>(&self, lab: &'lab Lab) -> anyhow::Result<Box<dyn Session + 'lab>> {
        for name in ["scan", "services"] {
            fs::create_dir(lab.path(name))?;
        }
        let mut session = Running {
            lab,
            programs: self.programs.clone(),
            child: None,
            services: Vec::new(),
        };
        session.launch()?;
        try_wait_until("s6-svscan to answer", PATIENCE, || {
            session.control().map_err(|error| error.to_string())
        })?;
        Ok(Box::new(session))
    }
}

struct Running<'lab> {
    lab: &'lab Lab,
    programs: Debian,
    child: Option<Child>,
    services: Vec<String>,
}

impl Running<'_> {
    fn launch(&mut self) -> anyhow::Result<()> {
        if let Some(mut old) = self.child.take() {
            old.wait()?;
        }
        let mut command = self.programs.command(self.lab, "s6-svscan");
        command.arg(self.lab.path("scan"));
        self.child = Some(self.lab.foreground(command)?);
        Ok(())
    }

    /// Makes it look at its directory again.
    fn control(&self) -> anyhow::Result<()> {
        self.lab.run(
            self.programs
                .command(self.lab, "s6-svscanctl")
                .arg("-a")
                .arg(self.lab.path("scan")),
        )
    }
}

impl Session for Running<'_> {
    fn prepare(&mut self, apps: &[App]) -> anyhow::Result<()> {
        for app in apps {
            for index in 0..app.copies {
                let name = format!("{}-{index}", app.name);
                let dir = self.lab.path("services").join(&name);
                fs::create_dir_all(dir.join("log"))?;
                script(
                    &dir.join("run"),
                    &format!("#!/bin/sh\nexec 2>&1 {}\n", shell_words(&app.words)),
                )?;
                if !app.restart {
                    script(&dir.join("finish"), "#!/bin/sh\nexit 125\n")?;
                }
                let log = self.lab.path("logs").join(&name);
                let keep = if app.rotate.is_some() {
                    "n100000 s1000000"
                } else {
                    "n20 s268435455"
                };
                let logger = format!("#!/bin/sh\nexec s6-log -b {keep} {}\n", log.display());
                script(&dir.join("log/run"), &logger)?;
                self.services.push(name);
            }
        }
        Ok(())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        for name in &self.services {
            let service = self.lab.path("services").join(name);
            std::os::unix::fs::symlink(service, self.lab.path("scan").join(name)).context("a link")?;
        }
        self.control()
    }

    fn list(&self) -> Command {
        // There is no command that lists all; this is what its users write.
        let mut command = self.programs.command(self.lab, "sh");
        command.args(["-c", "for d in scan/*; do s6-svstat \"$d\"; done"]);
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
