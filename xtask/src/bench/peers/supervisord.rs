//! supervisord, from PyPI.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
};

use anyhow::Context as _;
use upkeep_testkit::try_wait_until;

use super::{Peer, Session, peers_dir};
use crate::{
    bench::lab::{App, Lab, PATIENCE},
    shell,
};

const VERSION: &str = "4.3.0";

#[derive(Debug, Default)]
pub(crate) struct Supervisord {
    bin: PathBuf,
}

impl Peer for Supervisord {
    fn name(&self) -> &'static str {
        "supervisord"
    }

    fn configured(&self) -> &'static str {
        "one program section with numprocs, `update`, a log file per process without rotation"
    }

    fn install(&mut self) -> anyhow::Result<String> {
        let dir = peers_dir()?.join("supervisord");
        self.bin = dir.join("bin");
        if !self.bin.join("supervisord").is_file() {
            shell::read(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
            let mut pip = Command::new(self.bin.join("pip"));
            shell::read(pip.args(["install", "--quiet", &format!("supervisor=={VERSION}")]))?;
        }
        let version = shell::read(Command::new(self.bin.join("supervisord")).arg("--version"))?;
        let python = shell::read(Command::new(self.bin.join("python")).arg("--version"))?;
        Ok(format!("supervisord {} on {}", version.trim(), python.trim()))
    }

    fn open<'lab>(&self, lab: &'lab Lab) -> anyhow::Result<Box<dyn Session + 'lab>> {
        let dir = lab.text("");
        let dir = dir.trim_end_matches('/');
        let settings = format!(
            "[supervisord]\nnodaemon=true\nlogfile={dir}/supervisord.log\npidfile={dir}/supervisord.pid\n\
             childlogdir={dir}/logs\n\
             [unix_http_server]\nfile={dir}/s.sock\n\
             [rpcinterface:supervisor]\n\
             supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\
             [supervisorctl]\nserverurl=unix://{dir}/s.sock\n\
             [include]\nfiles = {dir}/apps.conf\n"
        );
        fs::write(lab.path("supervisord.conf"), settings)?;
        let mut session = Running {
            lab,
            bin: self.bin.clone(),
            child: None,
        };
        session.launch()?;
        Ok(Box::new(session))
    }
}

struct Running<'lab> {
    lab: &'lab Lab,
    bin: PathBuf,
    child: Option<Child>,
}

impl Running<'_> {
    fn launch(&mut self) -> anyhow::Result<()> {
        if let Some(mut old) = self.child.take() {
            old.wait()?;
        }
        let mut command = self.lab.command(self.bin.join("supervisord"));
        command.arg("-n").arg("-c").arg(self.lab.path("supervisord.conf"));
        self.child = Some(self.lab.foreground(command)?);
        try_wait_until("supervisord to answer", PATIENCE, || {
            self.lab
                .run(self.control().arg("pid"))
                .map_err(|error| error.to_string())
        })
    }

    fn control(&self) -> Command {
        let mut command = self.lab.command(self.bin.join("supervisorctl"));
        command.arg("-c").arg(self.lab.path("supervisord.conf"));
        command
    }
}

impl Session for Running<'_> {
    fn prepare(&mut self, apps: &[App]) -> anyhow::Result<()> {
        let mut text = String::new();
        for app in apps {
            let command = app.words.join(" ").replace('%', "%%");
            let logs = self.lab.text("logs");
            let rotate = if app.rotate.is_some() {
                "stdout_logfile_maxbytes=1000000\nstdout_logfile_backups=100000\n"
            } else {
                "stdout_logfile_maxbytes=0\n"
            };
            text.push_str(&format!(
                "[program:{name}]\ncommand={command}\nnumprocs={copies}\n\
                 process_name=%(program_name)s_%(process_num)d\n\
                 stdout_logfile={logs}/%(program_name)s-%(process_num)d.out\n{rotate}\
                 stderr_logfile={logs}/%(program_name)s-%(process_num)d.err\nstderr_logfile_maxbytes=0\n",
                name = app.name,
                copies = app.copies,
            ));
            text.push_str(if app.restart {
                "autorestart=true\n"
            } else {
                "autorestart=false\nstartsecs=0\n"
            });
        }
        fs::write(self.lab.path("apps.conf"), text).context("the programs")
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.lab.run(self.control().arg("update"))
    }

    fn list(&self) -> Command {
        let mut command = self.control();
        command.arg("status");
        command
    }

    fn logs(&self, app: &str, index: u32) -> Vec<PathBuf> {
        let current = format!("{app}-{index}.out");
        let dir = self.lab.path("logs");
        let mut numbers: Vec<u64> = super::names_in(&dir, |name| {
            Some(name.strip_prefix(&current)?.strip_prefix('.')?.to_owned())
        })
        .iter()
        .filter_map(|number| number.parse().ok())
        .collect();
        // The highest is the oldest.
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        let old = numbers
            .iter()
            .map(|number| dir.join(format!("{current}.{number}")));
        old.chain([dir.join(&current)]).collect()
    }

    fn daemon(&self) -> anyhow::Result<i32> {
        Ok(self.child.as_ref().context("it does not run")?.id().cast_signed())
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        self.launch()
    }
}
