//! A reader of all logs of an app that goes on where it was, over kills of the daemon.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use upkeep_model::app::AppSpec;

use super::cursor::Saved;
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
    /// Inode and length of each when everything in them had been read.
    pub(crate) read: Vec<(u64, u64)>,
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
            marks: Marks::parse(&saved.place).unwrap_or_else(|| Marks::since(since_ms)),
            missed: saved.missed,
            dropped: saved.dropped,
            sent: 0,
            logs: Vec::new(),
            read: Vec::new(),
            ends: false,
            // Its beginning is worth writing down.
            unsaved: true,
        }
    }

    pub(crate) fn saved(&self) -> Saved {
        Saved {
            place: self.marks.text(),
            missed: self.missed,
            dropped: self.dropped.clone(),
        }
    }

    /// Inode and length of each log.
    pub(crate) fn sizes(&self) -> Vec<(u64, u64)> {
        self.logs
            .iter()
            .map(|log| fs::metadata(&log.path).map_or((0, 0), |metadata| (metadata.ino(), metadata.len())))
            .collect()
    }

    /// Counts what retention has deleted before it was read.
    pub(crate) fn count_missed(&mut self) {
        for log in &self.logs {
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
