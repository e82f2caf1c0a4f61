//! Where dossiers are: one file each, `crashes/APP/ID.json` under the home, for our eyes only.
//!
//! A file is written beside its place and renamed, so that there is all of it or nothing.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use upkeep_api::crash::{Crash, CrashSummary};
use upkeep_model::id::AppName;

use crate::apps::directory::Directory;

/// How many dossiers an app has.
const PER_APP: usize = 20;
/// How many all apps have together.
const ALL: usize = 500;

/// The dossiers.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    root: PathBuf,
}

impl Archive {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn directory(&self, app: &AppName) -> PathBuf {
        self.root.join(app.as_str())
    }

    /// The id of the newest event that was looked at.
    pub(super) fn cursor(&self) -> u64 {
        // None yet, or half written by a full disk: what there is a dossier of is made once more.
        fs::read_to_string(self.root.join("cursor"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    pub(super) fn set_cursor(&self, id: u64) -> io::Result<()> {
        make(&self.root)?;
        write(&self.root.join("cursor"), id.to_string().as_bytes())
    }

    /// Keeps a dossier, and lets the oldest go.
    pub(super) fn keep(&self, crash: &Crash) -> io::Result<()> {
        let directory = self.directory(&crash.app);
        make(&self.root)?;
        make(&directory)?;
        let bytes = serde_json::to_vec(crash)?;
        write(&directory.join(format!("{}.json", crash.summary.id)), &bytes)?;
        let ids = self.ids(&crash.app);
        for id in ids.iter().rev().skip(PER_APP) {
            // It may be gone already.
            let _ = fs::remove_file(directory.join(format!("{id}.json")));
        }
        self.bound();
        Ok(())
    }

    /// Lets the oldest go if there are too many of all apps.
    fn bound(&self) {
        let mut all: Vec<(u64, PathBuf)> = Vec::new();
        for app in self.apps() {
            let directory = self.directory(&app);
            all.extend(
                self.ids(&app)
                    .into_iter()
                    .map(|id| (id, directory.join(format!("{id}.json")))),
            );
        }
        all.sort_unstable();
        for (_, path) in all.iter().rev().skip(ALL) {
            let _ = fs::remove_file(path);
        }
    }

    fn apps(&self) -> Vec<AppName> {
        names(&self.root)
            .iter()
            .filter_map(|name| AppName::parse(name).ok())
            .filter(|name| self.directory(name).is_dir())
            .collect()
    }

    /// Ids of an app's dossiers, oldest first.
    fn ids(&self, app: &AppName) -> Vec<u64> {
        let mut ids: Vec<u64> = names(&self.directory(app))
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Reads one.
    pub(crate) fn read(&self, app: &AppName, id: u64) -> Option<Crash> {
        let bytes = fs::read(self.directory(app).join(format!("{id}.json"))).ok()?;
        // What a newer program wrote may not be readable: then there is none for us.
        serde_json::from_slice(&bytes).ok()
    }

    /// The newest of an app.
    pub(crate) fn last(&self, app: &AppName) -> Option<Crash> {
        self.read(app, *self.ids(app).last()?)
    }

    /// All of an app, newest first.
    pub(crate) fn list(&self, app: &AppName) -> Vec<CrashSummary> {
        self.ids(app)
            .into_iter()
            .rev()
            .filter_map(|id| Some(self.read(app, id)?.summary))
            .collect()
    }

    /// Forgets all of an app.
    pub(super) fn forget(&self, app: &AppName) {
        let _ = fs::remove_dir_all(self.directory(app));
    }

    /// Forgets apps that are no more: they were deleted, and the daemon died before it came to this.
    pub(super) fn tidy(&self, directory: &Directory) {
        for app in self.apps() {
            if directory.get(&app).is_none() {
                self.forget(&app);
            }
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    let temporary = path.with_extension("tmp");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(app: &str, id: u64) -> Crash {
        serde_json::from_value(serde_json::json!({
            "app": app, "id": id, "at": 1.0, "index": 0, "exit": {"code": 1}, "cause": "exit code 1", "uptime_ms": 5,
            "verdict": "it is started again", "pid": 7, "max_rss_bytes": 9, "logs": [], "metrics": null,
            "changes": [], "core": null, "findings": ["x"],
        }))
        .expect("a dossier")
    }

    #[test]
    fn the_newest_are_kept() {
        let home = tempfile::tempdir().expect("a directory");
        let archive = Archive::new(home.path().join("crashes"));
        let shop = AppName::parse("shop").expect("a name");
        for id in 1..=30 {
            archive.keep(&crash("shop", id)).expect("there is room");
        }
        let ids: Vec<u64> = archive.list(&shop).iter().map(|crash| crash.id).collect();
        assert_eq!(ids, (11..=30).rev().collect::<Vec<_>>());
        assert_eq!(archive.read(&shop, 30), Some(crash("shop", 30)));
        for app in 0..30 {
            for id in 0..20 {
                archive
                    .keep(&crash(&format!("a{app}"), 100 + app * 20 + id))
                    .expect("there is room");
            }
        }
        assert_eq!(archive.list(&shop), [], "the oldest of all go first");
        let left: usize = archive.apps().iter().map(|app| archive.ids(app).len()).sum();
        assert_eq!(left, ALL);
        assert_eq!(archive.cursor(), 0);
        archive.set_cursor(12).expect("there is room");
        assert_eq!(archive.cursor(), 12);
    }
}
