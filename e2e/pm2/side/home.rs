//! What is in the side's home at the end of a case, and the end of everything that runs there.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use upkeep_testkit::{Signal, kill, pass, process, try_wait_until};

use super::{Kind, Side};

/// A file in the folder of a case: who runs it.
const OWNER: &str = "owner";

/// Says whose folder it is.
pub(crate) fn own(folder: &Path) {
    let pid = std::process::id().cast_signed();
    let start = process::stat(pid).map_or(0, |stat| stat.start);
    // Without it the folder is only not found if this program is killed.
    let _ = fs::write(folder.join(OWNER), format!("{pid} {start}"));
}

/// Ends what tests that were killed have left behind: they had no time to do it themselves.
pub(crate) fn sweep(below: &Path, prefix: &str) {
    let folders = fs::read_dir(below).into_iter().flatten().flatten();
    for folder in folders {
        let path = folder.path();
        let text = fs::read_to_string(path.join(OWNER)).unwrap_or_default();
        let mut numbers = text.split(' ').map(|word| word.parse::<u64>().ok());
        let (Some(Some(pid)), Some(Some(start))) = (numbers.next(), numbers.next()) else {
            continue;
        };
        let runs = i32::try_from(pid)
            .ok()
            .and_then(process::stat)
            .is_some_and(|stat| stat.start == start && stat.state != 'Z');
        if runs || !folder.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        for home in ["a/h", "b/h"] {
            for pid in process::with_environment(&format!("PM2_HOME={}", path.join(home).display())) {
                let _ = kill(pid, Signal::KILL); // it may have ended meanwhile
            }
        }
        let _ = fs::remove_dir_all(&path); // another test may be doing the same
    }
}

/// How long records may take to come to rest at the end.
const REST: Duration = Duration::from_secs(15);

impl Side {
    /// Waits until what comes by itself has come: an agent in a node app tells of itself some time after the start.
    pub(super) fn rest(&self) {
        let start = Instant::now();
        let done = || {
            let records = self.records();
            records.iter().all(|record| {
                let env = &record["pm2_env"];
                let program = fs::read_link(format!("/proc/{}/exe", record["pid"]));
                let between = env["status"] == "launching" || env["status"] == "stopping";
                let dying = env["status"] == "online" && program.is_err();
                let node = program.is_ok_and(|program| program.ends_with("node"));
                let agent = node && env["pmx"] != false && env["status"] == "online";
                !between
                    && !dying
                    && (!agent
                        || (env["axm_options"]["module_name"].is_string() && env["node_version"].is_string()))
            })
        };
        while !done() && start.elapsed() < REST {
            pass(Duration::from_millis(50));
        }
    }

    /// Names of all files of the home, and what the short ones must hold.
    pub(super) fn files(&self) -> Vec<String> {
        let home = self.root.join("h");
        let records = self.records();
        let mut lines = Vec::new();
        walk(&home, &home, &mut lines);
        lines.sort();
        for line in &mut lines {
            let text = || fs::read_to_string(home.join(line.as_str())).unwrap_or_default();
            if line.starts_with("pids/") {
                let text = text();
                let known = text
                    .parse::<u64>()
                    .is_ok_and(|pid| records.iter().any(|record| record["pid"] == pid));
                line.push_str(if known {
                    " holds the pid of a record"
                } else {
                    " holds something else"
                });
            } else if line == "module_conf.json" {
                let text = text();
                line.push_str(&format!(" holds {:?}", self.normal.text(&text)));
            }
        }
        lines
    }

    /// The processes of this home.
    pub(super) fn processes(&self) -> Vec<i32> {
        let mut found = process::with_environment(&format!("PM2_HOME={}", self.root.join("h").display()));
        found.extend(process::with_environment(&format!(
            "HOME={}",
            self.root.join("u").display()
        )));
        found.extend(self.daemon());
        let below = process::descendants(&found);
        found.extend(below);
        found.sort_unstable();
        found.dedup();
        found.retain(|&pid| process::alive(pid));
        found
    }

    pub(super) fn daemon(&self) -> Option<i32> {
        let text = fs::read_to_string(self.root.join("h/pm2.pid")).ok()?;
        text.trim().parse().ok().filter(|&pid| pid > 1)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Ours in order, so that nothing of the engine stays behind; PM2 has nothing to put in order.
        if self.pair.daemon == Kind::Ours
            && let Some(daemon) = self.daemon()
        {
            let _ = kill(daemon, Signal::TERM); // it may have ended
            let _ = try_wait_until("the end of the daemon", Duration::from_secs(6), || {
                if process::alive(daemon) {
                    Err(String::new())
                } else {
                    Ok(())
                }
            });
        }
        let _ = try_wait_until("the end of all processes", Duration::from_secs(10), || {
            let left = self.processes();
            for &pid in &left {
                let _ = kill(pid, Signal::KILL); // it may have ended meanwhile
            }
            if left.is_empty() {
                Ok(())
            } else {
                Err(String::new())
            }
        });
    }
}

fn walk(home: &Path, folder: &Path, lines: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let shown = path.strip_prefix(home).unwrap_or(&path).display().to_string();
        // What npm puts there is npm's matter.
        if path.is_dir() && shown != ".upkeep" && !shown.ends_with("node_modules") {
            lines.push(format!("{shown}/"));
            walk(home, &path, lines);
        } else if path.is_dir() {
            lines.push(format!("{shown}/"));
        } else {
            lines.push(shown);
        }
    }
}
