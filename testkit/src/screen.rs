//! A real terminal for programs that draw: tmux, on a socket of its own.

use std::{path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{Home, wait::wait_until};

/// A terminal with one program in it; it ends with us.
#[derive(Debug)]
pub struct Screen {
    folder: TempDir,
}

/// Word by which the end of the program is seen on the screen.
const ENDED: &str = "it ended with";

impl Screen {
    /// Runs `upkeep WORDS` of a home in a terminal of this size. `environment` comes on top.
    ///
    /// # Panics
    ///
    /// If tmux cannot be started.
    pub fn start(home: &Home, words: &[&str], size: (u16, u16), environment: &[(&str, &str)]) -> Self {
        let screen = Self {
            folder: tempfile::tempdir().expect("a folder for tmux"),
        };
        let mut line = String::from("env");
        for (name, value) in environment {
            line.push_str(&format!(" {name}={value}"));
        }
        line.push_str(&format!(" '{}'", home.upkeep().display()));
        for word in words {
            line.push_str(&format!(" '{word}'"));
        }
        line.push_str(&format!("; echo {ENDED} $?; exec sleep 1000"));
        let mut command = home.command::<&str>([]);
        // The environment of the home, for the server that hands it to what runs in it.
        let mut tmux = Command::new("tmux");
        tmux.env_clear().current_dir(home.work());
        for (name, value) in command.env("TERM", "xterm-256color").get_envs() {
            tmux.env(name, value.unwrap_or_default());
        }
        tmux.env_remove("NO_COLOR");
        screen.place(&mut tmux);
        let (width, height) = (size.0.to_string(), size.1.to_string());
        tmux.args([
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "/bin/sh",
            "-c",
            &line,
        ]);
        let output = tmux.output().expect("tmux, which the tests need");
        assert!(output.status.success(), "tmux: {output:?}");
        screen
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("tmux")
    }

    fn place(&self, tmux: &mut Command) {
        tmux.args(["-f", "/dev/null", "-u", "-S"]).arg(self.socket());
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        self.place(&mut tmux);
        let output = tmux.args(words).output().expect("tmux");
        assert!(output.status.success(), "tmux {words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What stands on the screen now.
    pub fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with colours and such, as escape sequences.
    pub fn styled(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Presses keys, by their names in tmux: `j`, `Enter`, `F5`, `C-c`.
    pub fn keys(&self, keys: &[&str]) {
        let mut words = vec!["send-keys"];
        words.extend(keys);
        self.tmux(&words);
    }

    /// Types text as it is.
    pub fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Gives the terminal another size.
    pub fn resize(&self, width: u16, height: u16) {
        self.tmux(&[
            "resize-window",
            "-x",
            &width.to_string(),
            "-y",
            &height.to_string(),
        ]);
    }

    /// Process of the program.
    ///
    /// # Panics
    ///
    /// If tmux tells none.
    pub fn pid(&self) -> i32 {
        let shell: i32 = self
            .tmux(&["list-panes", "-F", "#{pane_pid}"])
            .trim()
            .parse()
            .expect("a pid");
        crate::process::descendants(&[shell])
            .into_iter()
            .find(|pid| *pid != shell)
            .expect("the program in the terminal")
    }

    /// Waits until the screen is as wanted; `Err` of `look` says what is missing.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        wait_until(what, Duration::from_secs(30), || {
            let text = self.text();
            look(&text).ok_or_else(|| format!("the screen shows:\n{text}"))
        })
    }

    /// Waits until this text is somewhere on the screen.
    #[track_caller]
    pub fn wait_for(&self, part: &str) -> String {
        self.wait(&format!("`{part}` on the screen"), |text| {
            text.contains(part).then(|| text.to_owned())
        })
    }

    /// Waits until the program has ended, and tells with what.
    #[track_caller]
    pub fn wait_for_end(&self) -> i32 {
        self.wait("the end of the program", |text| {
            let rest = text.split(ENDED).nth(1)?;
            rest.split_whitespace().next()?.parse().ok()
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut tmux = Command::new("tmux");
        self.place(&mut tmux);
        // It may have ended by itself.
        let _ = tmux.arg("kill-server").output();
    }
}
