//! Opening the files of a log: the one way for whatever lies beside it, and for whoever reads.
//!
//! A log may lie in a directory of the app's own user, who can put anything there: a pipe that nobody opens at the
//! other end, a link to a file of ours, a file without end. So nothing is waited for, only a regular file will do, a
//! link is followed only if we or root made it, none is written through, and small files are read up to a limit.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// So many links may lead to each other.
const LINKS: u32 = 8;

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn regular(file: OwnedFd) -> io::Result<File> {
    let file = File::from(file);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(refused("it is no regular file"))
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let always = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags | always, Mode::RUSR | Mode::WUSR)
}

/// Opens for reading. `InvalidInput`: it is there, but no regular file, or a link of somebody else.
pub(crate) fn read(path: &Path) -> io::Result<File> {
    read_over(path, LINKS)
}

fn read_over(path: &Path, links: u32) -> io::Result<File> {
    match open(path, OFlags::RDONLY) {
        Ok(file) => regular(file),
        // Sockets, and devices without a driver.
        Err(Errno::NXIO | Errno::NODEV) => Err(refused("it is no regular file")),
        Err(Errno::LOOP) if links > 0 => {
            // The link itself, so that nobody can put another in its place between two looks.
            let link = open(path, OFlags::PATH)?;
            let owner = rustix::fs::fstat(&link)?.st_uid;
            if owner != 0 && owner != rustix::process::geteuid().as_raw() {
                return Err(refused("it is a link that somebody else has made"));
            }
            let target = rustix::fs::readlinkat(&link, c"", Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            read_over(
                &path.parent().unwrap_or_else(|| Path::new("/")).join(target),
                links - 1,
            )
        }
        Err(Errno::LOOP) => Err(refused("it is a link of too many links")),
        Err(error) => Err(error.into()),
    }
}

/// The same, but no link is followed, whoever made it.
pub(super) fn read_itself(path: &Path) -> io::Result<File> {
    match open(path, OFlags::RDONLY) {
        Ok(file) => regular(file),
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => Err(refused("it is no regular file")),
        Err(error) => Err(error.into()),
    }
}

/// Opens for reading and writing what only we write.
pub(super) fn write(path: &Path, make: bool, append: bool) -> io::Result<File> {
    let mut flags = OFlags::RDWR;
    flags.set(OFlags::CREATE, make);
    flags.set(OFlags::APPEND, append);
    match open(path, flags) {
        Ok(file) => regular(file),
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => Err(refused("it is no regular file")),
        Err(error) => Err(error.into()),
    }
}

/// All of a small file; refuses one that is longer than `most` bytes.
pub(super) fn read_small(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(refused("it is longer than any of ours"));
    }
    Ok(bytes)
}

/// Whether it says that there is no file of ours.
pub(super) fn is_none_of_ours(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
    )
}

/// Whether another try may succeed: it says nothing of the file.
pub(super) fn is_passing(error: &io::Error) -> bool {
    [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::INTR,
        Errno::AGAIN,
    ]
    .iter()
    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
        || error.kind() == io::ErrorKind::ConnectionAborted
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_no_link_is_written_through() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "text").expect("a file");
        symlink("file", at("link")).expect("a link");
        symlink("round", at("round")).expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), Mode::RUSR | Mode::WUSR).expect("a pipe");
        let socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
        assert_eq!(read_small(&at("link"), 4).expect("our own link"), b"text");
        assert_eq!(
            read_small(&at("file"), 3).expect_err("too long").kind(),
            io::ErrorKind::InvalidInput
        );
        for name in ["round", "pipe", "socket", "."] {
            let kind = |outcome: io::Result<File>| outcome.expect_err(name).kind();
            assert_eq!(kind(read(&at(name))), io::ErrorKind::InvalidInput, "{name}");
            assert_eq!(
                kind(read_itself(&at(name))),
                io::ErrorKind::InvalidInput,
                "{name}"
            );
            if name != "." {
                assert_eq!(
                    kind(write(&at(name), true, true)),
                    io::ErrorKind::InvalidInput,
                    "{name}"
                );
            }
        }
        for name in ["none", "link"] {
            assert!(
                is_none_of_ours(&read_itself(&at(name)).expect_err(name)),
                "{name}"
            );
        }
        assert!(is_none_of_ours(
            &write(&at("link"), true, true).expect_err("a link")
        ));
        write(&at("new"), true, false).expect("a new file");
        drop(socket);
    }
}
