//! Commands of a case, run by bash in the side's home.

use std::{
    fs::File,
    io::Read as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use upkeep_testkit::{Signal, kill, process, try_wait_until};

use super::Side;
use crate::peer;

/// How long one command may take: builders are slow and shared.
pub(super) const COMMAND: Duration = Duration::from_secs(40);

/// What a command said.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Said {
    fn failed(why: &str) -> Self {
        Self {
            code: -2,
            stdout: String::new(),
            stderr: why.to_owned(),
        }
    }
}

impl Side {
    /// Runs a line for bash. Output goes to files: what a daemon keeps open holds nobody up.
    pub(super) fn shell(&self, text: &str) -> Said {
        let text = &self.filled(text);
        let place = |name: &str| self.root.join(name);
        let (out, err) = (place("out"), place("err"));
        let (Ok(stdout), Ok(stderr)) = (File::create(&out), File::create(&err)) else {
            return Said::failed("no file for the output");
        };
        let mut command = Command::new("bash");
        command
            .args(["-o", "pipefail", "-c", text])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", place("bin").display()))
            .env("HOME", place("u"))
            .env("PM2_HOME", place("h"))
            .env("LANG", "C.UTF-8")
            .env("PM2_DISABLE_VERSION_CHECK", "true")
            // Else apps of one file get their ids as it happens.
            .env("PM2_CONCURRENT_ACTIONS", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(place("w"))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Said::failed(&error.to_string()),
        };
        let pid = child.id().cast_signed();
        let ended = try_wait_until(text, COMMAND, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            _ => Err("it still runs".to_owned()),
        });
        let code = if let Ok(status) = ended {
            status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
        } else {
            for each in process::descendants(&[pid]).into_iter().chain([pid]) {
                let _ = kill(each, Signal::KILL); // it may have ended meanwhile
            }
            let _ = child.wait(); // it was killed
            -1
        };
        let read = |path: &Path| {
            let mut bytes = Vec::new();
            let file = File::open(path).map(|file| file.take(4 << 20));
            let _ = file.and_then(|mut file| file.read_to_end(&mut bytes)); // then it is empty
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Said {
            code,
            stdout: read(&out),
            stderr: read(&err),
        }
    }

    /// With the places that a case cannot know.
    pub(super) fn filled(&self, text: &str) -> String {
        let module = || {
            let programs = peer::programs().unwrap_or_default();
            let modules = programs.parent().unwrap_or_else(|| Path::new("/"));
            modules.join("pm2").display().to_string()
        };
        let mut text = text.replace("@ROOT@", &self.root.display().to_string());
        text = text.replace("@CLIENT@", concat!(env!("CARGO_MANIFEST_DIR"), "/pm2/client"));
        if text.contains("@MODULE@") {
            text.replace("@MODULE@", &module())
        } else {
            text
        }
    }
}
