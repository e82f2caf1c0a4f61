//! A reader of all logs of an app that goes on where it was, over kills of the daemon.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Instant,
};

use upkeep_model::app::AppSpec;

use super::{LEFT, cursor::Saved};
use crate::{
    apps::launch,
    logs::{
        ledger::accounting_of,
        names::rotated,
        read::{LogToRead, marks::Marks, more::file_of},
    },
};

/// What is known of one sink of one app.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) marks: Marks,
    pub(crate) missed: u64,
    pub(crate) dropped: BTreeMap<PathBuf, u64>,
    /// Lines taken since this daemon began.
    pub(crate) sent: u64,
    /// Logs to read: those of the app, and those it had until all of them is read.
    pub(crate) logs: Vec<LogToRead>,
    /// How many of them are those of the app, the first ones; and since when.
    pub(crate) wanted: usize,
    pub(crate) wanted_since: Instant,
    /// Inode and length of each when everything in it had been read.
    pub(crate) read: BTreeMap<PathBuf, (u64, u64)>,
    /// It failed for want of descriptors or memory.
    pub(crate) retry_at: Option<Instant>,
    /// What was told of that.
    pub(crate) trouble: Option<String>,
    /// The app is gone, or does not want it any more.
    pub(crate) ends: bool,
    pub(crate) unsaved: bool,
}

/// The logs of an app as it is now.
pub(crate) fn logs_of(spec: &AppSpec, logs: &Path) -> Vec<LogToRead> {
    let mut list: Vec<LogToRead> = Vec::new();
    for index in 0..spec.instances {
        for place in launch::log_places(spec, index, logs) {
            if !list.iter().any(|known| known.path == place.path) {
                list.push(LogToRead {
                    app: spec.name.clone(),
                    index: place.index,
                    stream: place.stream,
                    path: place.path,
                    format: spec.logs.format,
                    dropped: None,
                    lost: None,
                });
            }
        }
    }
    list
}

impl Feed {
    pub(crate) fn of(saved: Option<Saved>, since_ms: u64) -> Self {
        let saved = saved.unwrap_or_default();
        Self {
            marks: Marks::parse_own(&saved.place).unwrap_or_else(|| Marks::since(since_ms)),
            missed: saved.missed,
            dropped: saved.dropped,
            sent: 0,
            logs: Vec::new(),
            wanted: 0,
            wanted_since: Instant::now(),
            read: BTreeMap::new(),
            retry_at: None,
            trouble: None,
            ends: false,
            // Its beginning is worth writing down.
            unsaved: true,
        }
    }

    /// These are the logs of the app now. What it had before is read to its end.
    pub(crate) fn follow(&mut self, logs: Vec<LogToRead>) {
        if self.logs.get(..self.wanted) != Some(&logs[..]) {
            self.wanted_since = Instant::now();
        }
        self.wanted = logs.len();
        let old = std::mem::replace(&mut self.logs, logs);
        for log in old {
            if !self.logs.iter().any(|known| known.path == log.path) {
                self.logs.push(log);
            }
        }
    }

    pub(crate) fn saved(&self) -> Saved {
        Saved {
            place: self.marks.text(),
            missed: self.missed,
            dropped: self.dropped.clone(),
        }
    }

    /// The logs that are not as they were when they had been read, with inode and length.
    pub(crate) fn grown(&self) -> Vec<(LogToRead, (u64, u64))> {
        let of = |path: &Path| fs::metadata(path).map_or((0, 0), |metadata| (metadata.ino(), metadata.len()));
        let with_size = self.logs.iter().map(|log| (log, of(&log.path)));
        with_size
            .filter(|(log, size)| self.read.get(&log.path) != Some(size))
            .map(|(log, size)| (log.clone(), size))
            .collect()
    }

    /// All of these is read. Lets go of logs that the app has no more; for a moment, the pump may still write them.
    pub(crate) fn read_all(&mut self, sizes: impl Iterator<Item = (PathBuf, (u64, u64))>) {
        self.read.extend(sizes);
        if self.logs.len() > self.wanted && self.wanted_since.elapsed() >= LEFT {
            self.logs.truncate(self.wanted);
            let logs = &self.logs;
            self.read
                .retain(|path, _| logs.iter().any(|log| log.path == *path));
        }
    }

    /// Counts what retention has deleted before it was read.
    pub(crate) fn count_missed(&mut self, logs: &[LogToRead]) {
        for log in logs {
            let accounting = accounting_of(&log.path);
            let oldest = rotated(&log.path)
                .ok()
                .and_then(|files| {
                    files
                        .into_iter()
                        .map(|file| file.number)
                        .find(|n| *n > accounting.dropped_through)
                })
                .unwrap_or(accounting.dropped_through + 1);
            let before = self.dropped.insert(log.path.clone(), accounting.dropped_lines);
            let behind = file_of(log, &self.marks).is_none_or(|number| number < oldest);
            if behind && let Some(before) = before {
                let more = accounting.dropped_lines.saturating_sub(before);
                self.missed += more;
                self.unsaved |= more > 0;
            }
        }
    }
}
