//! How far each sink has read the logs of an app: a file for each app, written whole or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use upkeep_model::id::AppName;

/// Format of the file.
const VERSION: u32 = 1;

/// How far one sink is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// A place in all logs of the app ([`crate::logs::read::marks`]).
    pub(crate) place: String,
    /// Lines that were deleted before they were read, at most.
    pub(crate) missed: u64,
    /// By path of a log: lines that rotation had deleted of it when nothing was missed.
    pub(crate) dropped: BTreeMap<PathBuf, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    sinks: BTreeMap<String, Saved>,
}

fn path_of(folder: &Path, app: &AppName) -> PathBuf {
    folder.join(format!("{app}.json"))
}

/// What was written; nothing where there is nothing, or nothing of ours.
pub(crate) fn load(folder: &Path, app: &AppName) -> BTreeMap<String, Saved> {
    fs::read(path_of(folder, app))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Document>(&bytes).ok())
        .filter(|document| document.version == VERSION)
        .map(|document| document.sinks)
        .unwrap_or_default()
}

/// Writes how far the sinks of an app are.
pub(crate) fn save(folder: &Path, app: &AppName, sinks: BTreeMap<String, Saved>) -> io::Result<()> {
    if !folder.is_dir() {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    }
    let path = path_of(folder, app);
    let temporary = path.with_extension("tmp");
    let document = Document {
        version: VERSION,
        sinks,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&serde_json::to_vec(&document).map_err(io::Error::other)?)?;
    fs::rename(temporary, path)
}

/// Forgets an app.
pub(crate) fn remove(folder: &Path, app: &AppName) -> io::Result<()> {
    match fs::remove_file(path_of(folder, app)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_rubbish_is_none() {
        let folder = tempfile::tempdir().expect("a directory");
        let folder = folder.path().join("sinks");
        let app = AppName::parse("shop").expect("a name");
        assert!(load(&folder, &app).is_empty());
        let saved = Saved {
            place: "12;shop:0:out=7.1234".to_owned(),
            missed: 3,
            dropped: BTreeMap::from([("/x".into(), 4)]),
        };
        let sinks = BTreeMap::from([("journald".to_owned(), saved)]);
        save(&folder, &app, sinks.clone()).expect("written");
        assert_eq!(load(&folder, &app), sinks);
        fs::write(folder.join("shop.json"), "{\"version\":1,").expect("written");
        assert!(load(&folder, &app).is_empty());
        remove(&folder, &app).expect("removed");
        remove(&folder, &app).expect("nothing to remove");
    }
}
