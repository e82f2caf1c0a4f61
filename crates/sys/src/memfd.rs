//! Memory with a descriptor: it goes through an exec.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
};

use rustix::fs::MemfdFlags;

use crate::call::{CallError, Result};

/// A memfd with these bytes in it, at its start, CLOEXEC.
pub fn with_bytes(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
        .map_err(|errno| CallError::new("memfd_create", name, errno))?;
    let mut file = File::from(fd);
    file.write_all(bytes)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .map_err(|error| CallError::from_io("write memfd", name, &error))?;
    Ok(file.into())
}

/// Everything in it, from its start.
pub fn read_all(fd: OwnedFd) -> Result<Vec<u8>> {
    let mut file = File::from(fd);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_end(&mut bytes))
        .map_err(|error| CallError::from_io("read memfd", "", &error))?;
    Ok(bytes)
}
