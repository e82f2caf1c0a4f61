//! The way to a folder, step by step, without a link that somebody else has made.
//!
//! Each step is held open while the next is looked at, so that nobody can put a link into a path that was looked at before.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Component, Path},
};

use rustix::fs::{CWD, FileType, Mode, OFlags};

/// So many links on one way are none too few: the kernel's own limit.
const LINKS_MAX: usize = 40;

const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn steps(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components()
        .filter(|step| !matches!(step, Component::CurDir))
        .map(|step| step.as_os_str().to_owned())
}

/// Opens a folder. A link of anybody but root and us on the way there is an error that names it.
pub(crate) fn open(folder: &Path) -> io::Result<OwnedFd> {
    let us = rustix::process::geteuid().as_raw();
    let mut todo: VecDeque<OsString> = steps(folder).collect();
    let mut at = rustix::fs::openat(CWD, ".", STEP | OFlags::DIRECTORY, Mode::empty())?;
    let mut links = 0;
    while let Some(step) = todo.pop_front() {
        let found = rustix::fs::openat(&at, &step, STEP, Mode::empty())?;
        let stat = rustix::fs::fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => at = found,
            FileType::Symlink => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                if stat.st_uid != us && stat.st_uid != 0 {
                    let why = format!(
                        "`{}` on the way there is a symbolic link of user {}, and is not followed",
                        Path::new(&step).display(),
                        stat.st_uid
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
                }
                // Of the link that was looked at, and not of what has its name by now.
                let to = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                let to = OsString::from_vec(to);
                for step in steps(Path::new(&to)).rev() {
                    todo.push_front(step);
                }
            }
            _ => return Err(io::ErrorKind::NotADirectory.into()),
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        &at,
        OsStr::from_bytes(b"."),
        flags,
        Mode::empty(),
    )?)
}
