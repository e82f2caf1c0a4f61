//! `bench pm2`: our `pm2` beside the real one, in one run: start-up cost of a command, and the memory of the daemon after
//! work.
//!
//! Both get the same files, programs and private homes. Memory is resident memory of everything that manages: of ours
//! keeper and daemon together.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use upkeep_testkit::pass;

use super::peers::pm2_program;
use crate::shell;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// Lines of 100 bytes.
const GIGABYTE: u64 = 1 << 30;

/// One of the two.
struct Side {
    name: &'static str,
    program: PathBuf,
    place: tempfile::TempDir,
}

/// What was measured, in the order of the table.
type Figures = Vec<(String, f64, &'static str)>;

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let quick = match words {
        [] => false,
        ["--quick"] => true,
        _ => bail!("usage: cargo xtask bench pm2 [--quick]"),
    };
    let binaries = shell::build_static(&["upkeep"])?;
    let links = tempfile::tempdir()?;
    std::os::unix::fs::symlink(binaries.join("upkeep"), links.path().join("pm2"))?;
    let sides = [
        Side {
            name: "upkeep as pm2",
            program: links.path().join("pm2"),
            place: tempfile::tempdir()?,
        },
        Side {
            name: "pm2 7.0.4",
            program: pm2_program()?,
            place: tempfile::tempdir()?,
        },
    ];
    let mut columns = Vec::new();
    for side in &sides {
        eprintln!("== {}", side.name);
        let outcome = side.measure(quick);
        side.end();
        columns.push(outcome?);
    }
    println!("| what | {} | {} | ratio |", sides[0].name, sides[1].name);
    println!("|---|---|---|---|");
    for (ours, theirs) in columns[0].iter().zip(&columns[1]) {
        println!(
            "| {} | {:.1} {} | {:.1} {} | {:.1} |",
            ours.0,
            ours.1,
            ours.2,
            theirs.1,
            theirs.2,
            theirs.1 / ours.1
        );
    }
    Ok(())
}

impl Side {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.place.path())
            .env("PM2_HOME", self.place.path().join("h"))
            .env("PM2_DISCRETE_MODE", "true")
            .env("PM2_DISABLE_VERSION_CHECK", "true")
            .current_dir(self.place.path())
            .stdin(Stdio::null());
        command
    }

    fn pm2(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.command(words).output()?;
        ensure!(
            output.status.success(),
            "{}: pm2 {}: {}",
            self.name,
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn list(&self) -> anyhow::Result<Vec<Value>> {
        let text = self.pm2(&["jlist"])?;
        // What is printed around it is not for us.
        let start = text.find("[{").or_else(|| text.find("[]")).context("no list")?;
        Ok(serde_json::from_str(text[start..].trim())?)
    }

    fn start(&self, apps: &[Value]) -> anyhow::Result<f64> {
        let file = self.place.path().join("apps.json");
        fs::write(&file, json!({ "apps": apps }).to_string())?;
        let begin = Instant::now();
        self.pm2(&["start", "apps.json"])?;
        Ok(begin.elapsed().as_secs_f64() * 1000.0)
    }

    fn sleepers(count: usize) -> Vec<Value> {
        (0..count)
            .map(|number| json!({"name": format!("app-{number}"), "script": "/bin/sleep", "args": "100000", "interpreter": "none"}))
            .collect()
    }

    fn median(&self, times: usize, words: &[&str]) -> anyhow::Result<f64> {
        let mut all = Vec::new();
        for _ in 0..times {
            let begin = Instant::now();
            self.pm2(words)?;
            all.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        all.sort_by(f64::total_cmp);
        Ok(all[all.len() / 2])
    }

    fn measure(&self, quick: bool) -> anyhow::Result<Figures> {
        let times = if quick { 7 } else { 21 };
        let mut figures = Figures::new();
        self.pm2(&["ping"])?;
        pass(Duration::from_secs(2));
        figures.push(("memory, nothing managed".to_owned(), self.memory()?, "MiB"));
        for count in [10, 100] {
            let start = self.start(&Self::sleepers(count))?;
            figures.push((format!("`start` of a file with {count} apps"), start, "ms"));
            figures.push((
                format!("`jlist`, {count} apps"),
                self.median(times, &["jlist"])?,
                "ms",
            ));
            figures.push((format!("memory, {count} apps"), self.memory()?, "MiB"));
            self.pm2(&["delete", "all"])?;
        }
        let restarts = if quick { 300 } else { 1000 };
        self.start(&[json!({
            "name": "crash", "script": "/bin/false", "interpreter": "none", "max_restarts": restarts + 1,
        })])?;
        let begin = Instant::now();
        loop {
            let done = self
                .list()?
                .first()
                .and_then(|app| app["pm2_env"]["restart_time"].as_u64());
            if done >= Some(restarts) {
                break;
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "{}: {done:?} restarts only",
                self.name
            );
            pass(Duration::from_millis(200));
        }
        figures.push((format!("memory after {restarts} restarts"), self.memory()?, "MiB"));
        self.pm2(&["delete", "all"])?;
        let bytes = if quick { GIGABYTE / 8 } else { GIGABYTE };
        let line = "x".repeat(99);
        let script = format!("yes {line} | head -c {bytes}; exec sleep 100000");
        let begin = Instant::now();
        self.start(&[json!({
            "name": "writer", "script": "/bin/sh", "args": ["-c", script], "interpreter": "none",
        })])?;
        let log = self.place.path().join("h/logs/writer-out.log");
        while fs::metadata(&log).map_or(0, |metadata| metadata.len()) < bytes {
            ensure!(begin.elapsed() < PATIENCE, "{}: the log is not whole", self.name);
            pass(Duration::from_millis(10));
        }
        let size = format!("{} MiB of logs", bytes >> 20);
        figures.push((
            format!("{size}, until all is in the file"),
            begin.elapsed().as_secs_f64(),
            "s",
        ));
        figures.push((format!("memory after {size}"), self.memory()?, "MiB"));
        Ok(figures)
    }

    /// Resident MiB of the process in `pm2.pid` and, if it is our keeper, of the daemon below it.
    fn memory(&self) -> anyhow::Result<f64> {
        let pid: i32 = fs::read_to_string(self.place.path().join("h/pm2.pid"))?
            .trim()
            .parse()?;
        let mut pids = vec![pid];
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let command = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if command.contains("daemon\0--pm2") {
                pids.push(child.parse()?);
            }
        }
        let resident = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        Ok(pids.iter().map(resident).sum::<f64>() / 1024.0)
    }

    /// Nothing is left running.
    fn end(&self) {
        // What cannot be ended in order is not there.
        let _ = self.pm2(&["kill"]);
        let home: &Path = self.place.path();
        let begin = Instant::now();
        while home.join("h/pm2.pid").exists() && begin.elapsed() < Duration::from_secs(5) {
            pass(Duration::from_millis(50));
        }
    }
}
