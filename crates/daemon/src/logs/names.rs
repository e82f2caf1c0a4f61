//! Names of the files of a log: what lies beside what.
//!
//! ```text
//! shop-0.out.log               the current file          shop-0.out.log.idx          its time index
//! shop-0.out.log.000007        a rotated file            shop-0.out.log.000007.idx   its time index
//! shop-0.out.log.000006.zst    a compressed one          shop-0.out.log.000006.idx   its time index, unchanged
//! shop-0.out.log.account       what was dropped and lost
//! shop-0.out.log.batch         lines that are being written in another form ([`super::batch`]), and
//! shop-0.out.log.note          what is known of them
//! ```
//!
//! Where a rotated file is there in both forms, the compressed one holds: it gets its name only when it is whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What a compressed file has behind its name.
const PACKED: &str = ".zst";
/// What a file has behind its name while it is being made.
const UNFINISHED: &str = ".zst.tmp";

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

/// `shop-0.out.log` and 7 → `shop-0.out.log.000007`.
pub(super) fn numbered(path: &Path, number: u64) -> PathBuf {
    with_suffix(path, &format!(".{number:06}"))
}

/// Path of the time index of a file.
pub(super) fn index_path(path: &Path) -> PathBuf {
    with_suffix(path, ".idx")
}

/// Path of the accounting of a log.
pub(super) fn accounting_path(path: &Path) -> PathBuf {
    with_suffix(path, ".account")
}

/// The compressed form of a rotated file.
pub(super) fn packed_path(path: &Path) -> PathBuf {
    with_suffix(path, PACKED)
}

/// The compressed form while it is being made.
pub(super) fn unfinished_path(path: &Path) -> PathBuf {
    with_suffix(path, UNFINISHED)
}

/// A rotated file as it was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rotated {
    pub(crate) number: u64,
    /// Its path without regard to compression.
    pub(crate) path: PathBuf,
    /// Whether the form as written is there.
    pub(crate) plain: bool,
    /// Whether the compressed form is there.
    pub(crate) packed: bool,
    /// Whether there is one that a kill has left unfinished, or that is being made.
    pub(super) unfinished: bool,
}

impl Rotated {
    /// The path of the form that holds.
    pub(crate) fn held(&self) -> PathBuf {
        if self.packed {
            packed_path(&self.path)
        } else {
            self.path.clone()
        }
    }
}

/// Takes a name apart: the log, the number, and what is behind it.
fn split(name: &str) -> Option<(&str, u64, &str)> {
    let (stem, suffix) = [UNFINISHED, PACKED]
        .into_iter()
        .find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)))
        .unwrap_or((name, ""));
    let (log, digits) = stem.rsplit_once('.')?;
    if digits.len() < 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((log, digits.parse().ok()?, suffix))
}

/// Rotated files of a log, oldest first.
pub(crate) fn rotated(path: &Path) -> io::Result<Vec<Rotated>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(Vec::new());
    };
    let mut found: Vec<Rotated> = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let other = entry?.file_name();
        if let Some(other) = other.to_str()
            && other.starts_with(name)
            && let Some((log, number, suffix)) = split(other)
            && log == name
        {
            names.push((number, suffix.to_owned()));
        }
    }
    names.sort_unstable();
    for (number, suffix) in names {
        if found.last().is_none_or(|last| last.number != number) {
            found.push(Rotated {
                number,
                path: numbered(path, number),
                plain: false,
                packed: false,
                unfinished: false,
            });
        }
        if let Some(last) = found.last_mut() {
            match suffix.as_str() {
                PACKED => last.packed = true,
                UNFINISHED => last.unfinished = true,
                _ => last.plain = true,
            }
        }
    }
    // What is only half made is no file yet.
    found.retain(|file| file.plain || file.packed);
    Ok(found)
}

/// The logs of a directory that have rotated files.
pub(super) fn logs_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(logs),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if let Some((log, _, _)) = name.to_str().and_then(split) {
            logs.push(directory.join(log));
        }
    }
    logs.sort_unstable();
    logs.dedup();
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rotated_file_is_found_once_in_the_form_that_holds() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("a.log");
        for name in [
            "a.log",
            "a.log.idx",
            "a.log.000001.zst",
            "a.log.000001.idx",
            "a.log.000002",
            "a.log.000002.zst",
            "a.log.000003",
            "a.log.000003.zst.tmp",
            "a.log.000004.zst.tmp",
            "a.log.1234567",
            "a.log.12",
            "ab.log.000009",
            "a.log.000008.gz",
        ] {
            fs::write(dir.path().join(name), "x").expect("a file");
        }
        let held: Vec<String> = rotated(&log)
            .expect("files")
            .iter()
            .map(|file| {
                let held = file.held();
                held.file_name().expect("a name").to_string_lossy().into_owned()
            })
            .collect();
        assert_eq!(
            held,
            [
                "a.log.000001.zst",
                "a.log.000002.zst",
                "a.log.000003",
                "a.log.1234567"
            ]
        );
        assert_eq!(
            logs_in(dir.path()).expect("logs"),
            [log, dir.path().join("ab.log")]
        );
    }
}
