//! Files that are written whole or not at all.
//!
//! The new content goes into a file beside the target (`.NAME.upkeep-new`), which has its owner and mode before it has its
//! content, is synced, checked, and only then renamed over the target; then the directory is synced. The old file keeps a
//! second name (`.NAME.upkeep-old`) until the new one is settled, so the way back survives us too; where there was none, an empty
//! `.NAME.upkeep-first` says so. One renderer at a time may
//! write a target.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use crate::{template::OUTPUT_MAX, way};

/// What a target may be, if it is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Links {
    /// An error.
    #[default]
    Refused,
    /// What it leads to is written; the link stays.
    Followed,
}

/// Which way to a target is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ways {
    /// Whichever its path leads.
    #[default]
    Any,
    /// No symbolic link above it is followed unless root or whoever writes has made it: others could lead us wherever they want.
    Trusted,
}

/// A file that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// User and group; absent: those of whoever writes it.
    pub owner: Option<(u32, u32)>,
    /// If it is a symbolic link.
    pub links: Links,
    /// How its folder is reached.
    pub ways: Ways,
}

impl Target {
    /// A file for its owner alone.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: 0o600,
            owner: None,
            links: Links::Refused,
            ways: Ways::Any,
        }
    }
}

/// User and group by name or number; of one of them alone the other is the user's own group, or who we are.
pub fn owner(user: Option<&str>, group: Option<&str>) -> Result<Option<(u32, u32)>, String> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let (uid, mut gid) = match user {
        Some(name) => {
            let user = upkeep_sys::user::user(name).map_err(|error| error.to_string())?;
            (user.uid, user.gid)
        }
        None => {
            let us = fs::metadata("/proc/self").map_err(|error| error.to_string())?;
            (us.uid(), us.gid())
        }
    };
    if let Some(name) = group {
        gid = upkeep_sys::user::group(name).map_err(|error| error.to_string())?;
    }
    Ok(Some((uid, gid)))
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} `{}`: {why}", .path.display())]
pub struct FileError {
    /// What was tried.
    pub what: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Why it failed.
    pub why: io::Error,
}

fn fail(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |why| FileError { what, path, why }
}

/// What is at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its mode.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// A target whose place is known. Its folder is held open: whatever takes that folder's name later, nothing of it is touched.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// For people.
    folder: PathBuf,
    open: OwnedFd,
    name: OsString,
    mode: u32,
    owner: Option<(u32, u32)>,
}

/// What is opened here is never a link, and nothing is waited for.
const PLAIN: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn is_missing(error: Errno) -> bool {
    error == Errno::NOENT
}

impl Place {
    /// Finds out where a target is. A link is refused or followed; what is no file is refused.
    pub fn of(target: &Target) -> Result<Self, FileError> {
        let path = &target.path;
        let refuse =
            |why: &str| fail("write", path)(io::Error::new(io::ErrorKind::InvalidInput, why.to_owned()));
        let mut real = path.clone();
        if target.links == Links::Followed && fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
        {
            real = fs::canonicalize(path).map_err(fail("follow", path))?;
        }
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(refuse("it names no file"));
        };
        let name = name.to_owned();
        let folder = if parent.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            parent.to_owned()
        };
        let open = match target.ways {
            Ways::Any => rustix::fs::open(
                &folder,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(io::Error::from),
            Ways::Trusted => way::open(&folder),
        };
        let open = open.map_err(fail("reach the folder of", path))?;
        match rustix::fs::statat(&open, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => {}
                FileType::Symlink => return Err(refuse("it is a symbolic link, and is not to be followed")),
                _ => return Err(refuse("it is there and is no file")),
            },
            Err(error) if is_missing(error) => {}
            Err(error) => return Err(fail("look at", path)(error.into())),
        }
        Ok(Self {
            path: real,
            folder,
            open,
            name,
            mode: target.mode & 0o7777,
            owner: target.owner,
        })
    }

    /// Where it is, links followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn beside(&self, what: &str) -> OsString {
        format!(".{}.upkeep-{what}", self.name.to_string_lossy()).into()
    }

    fn old(&self) -> OsString {
        self.beside("old")
    }

    /// Says that there was no file before.
    fn first(&self) -> OsString {
        self.beside("first")
    }

    fn fail(&self, what: &'static str, name: &OsStr) -> impl FnOnce(Errno) -> FileError + use<> {
        let path = self.folder.join(name);
        move |error| fail(what, &path)(error.into())
    }

    fn has(&self, name: &OsStr) -> bool {
        rustix::fs::statat(&self.open, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Removes a file of the folder, if there is one.
    fn forget(&self, name: &OsStr) -> Result<(), FileError> {
        match rustix::fs::unlinkat(&self.open, name, AtFlags::empty()) {
            Err(error) if !is_missing(error) => Err(self.fail("remove", name)(error)),
            _ => Ok(()),
        }
    }

    /// Opens a file of the folder for writing.
    fn make(&self, name: &OsStr, more: OFlags) -> Result<File, FileError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | PLAIN | more;
        rustix::fs::openat(&self.open, name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(self.fail("make", name))
    }

    /// What is there.
    pub fn present(&self) -> Result<Option<Present>, FileError> {
        let opened = rustix::fs::openat(&self.open, &self.name, OFlags::RDONLY | PLAIN, Mode::empty());
        let file = match opened {
            Ok(file) => File::from(file),
            Err(error) if is_missing(error) => return Ok(None),
            Err(error) => return Err(self.fail("read", &self.name)(error)),
        };
        let found = file.metadata().map_err(fail("look at", &self.path))?;
        if !found.is_file() {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "it is there and is no file");
            return Err(fail("read", &self.path)(why));
        }
        let mut bytes = Vec::new();
        file.take(OUTPUT_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(fail("read", &self.path))?;
        Ok(Some(Present {
            bytes,
            mode: found.mode() & 0o7777,
            owner: (found.uid(), found.gid()),
        }))
    }

    /// Whether it is as it is to be.
    pub fn is(&self, content: &[u8]) -> Result<bool, FileError> {
        Ok(self.present()?.is_some_and(|present| {
            present.bytes == content
                && present.mode == self.mode
                && self.owner.is_none_or(|owner| owner == present.owner)
        }))
    }

    /// Whether a replacement was begun that nobody has settled: its writer was killed.
    pub fn is_unsettled(&self) -> bool {
        self.has(&self.old()) || self.has(&self.first())
    }

    /// Writes the new content beside the target.
    pub fn prepare(&self, content: &[u8]) -> Result<New<'_>, FileError> {
        let name = self.beside("new");
        self.forget(&name)?;
        let mut file = self.make(&name, OFlags::EXCL)?;
        let new = New {
            place: self,
            path: self.folder.join(&name),
            name,
        };
        // Owner and mode come before the content: nobody else reads it in between.
        if let Some((user, group)) = self.owner {
            fchown(&file, Some(user), Some(group)).map_err(fail("give away", &new.path))?;
        }
        file.set_permissions(Permissions::from_mode(self.mode))
            .map_err(fail("set the mode of", &new.path))?;
        file.write_all(content).map_err(fail("write", &new.path))?;
        file.sync_all().map_err(fail("sync", &new.path))?;
        Ok(new)
    }

    /// The old file is not needed any more.
    pub fn settle(&self) -> Result<(), FileError> {
        self.forget(&self.old())?;
        self.forget(&self.first())?;
        self.sync()
    }

    /// Puts the old file back; where there was none, there is none again. What was never replaced stays.
    pub fn go_back(&self) -> Result<(), FileError> {
        match rustix::fs::renameat(&self.open, self.old(), &self.open, &self.name) {
            Ok(()) => {}
            Err(error) if is_missing(error) => {
                if self.has(&self.first()) {
                    self.forget(&self.name)?;
                }
            }
            Err(error) => return Err(self.fail("put back", &self.name)(error)),
        }
        self.forget(&self.first())?;
        self.sync()
    }

    fn sync(&self) -> Result<(), FileError> {
        rustix::fs::fsync(&self.open).map_err(|error| fail("sync", &self.folder)(error.into()))
    }
}

/// New content beside its target; gone if it does not take its place.
#[derive(Debug)]
pub struct New<'a> {
    place: &'a Place,
    name: OsString,
    path: PathBuf,
}

impl New<'_> {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the place of the target, whose content keeps its second name.
    pub fn take_place(self) -> Result<(), FileError> {
        let place = self.place;
        let (folder, name, old) = (&place.open, &place.name, place.old());
        // A second name that is there already is of the last file that was settled.
        match rustix::fs::linkat(folder, name, folder, &old, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => {}
            // Without a trace of it a kill between here and the action would leave a file that nobody was told of.
            Err(error) if is_missing(error) => {
                let first = place.make(&place.first(), OFlags::empty())?;
                first
                    .sync_all()
                    .map_err(fail("make", &place.folder.join(place.first())))?;
            }
            Err(error) => return Err(place.fail("keep", name)(error)),
        }
        rustix::fs::renameat(folder, &self.name, folder, name).map_err(place.fail("replace", name))?;
        place.sync()
    }
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        // After it took its place there is nothing under this name.
        let _ = rustix::fs::unlinkat(&self.place.open, &self.name, AtFlags::empty());
    }
}
