//! A cage as bytes, and back.

use std::path::PathBuf;

use super::{Read, Reader, Writer};
use crate::protocol::{Cage, Kept, Landlock, Mounts, Temporary};

pub(super) fn write(out: &mut Writer, cage: &Cage) {
    for flag in [cage.user, cage.mount, cage.network, cage.ipc, cage.uts] {
        out.bool(flag);
    }
    let mounts = &cage.mounts;
    for flag in [mounts.read_only, mounts.own_proc, mounts.own_devices] {
        out.bool(flag);
    }
    paths(out, &mounts.hidden);
    out.list(&mounts.temporary, |out, one| {
        out.os(one.path.as_os_str());
        out.u64(one.size);
        out.u32(one.mode);
    });
    out.list(&mounts.same, |out, (from, to)| {
        out.os(from.as_os_str());
        out.os(to.as_os_str());
    });
    paths(out, &mounts.frozen);
    out.list(&mounts.kept, |out, one| {
        out.os(one.path.as_os_str());
        out.bool(one.writable);
    });
    out.option(cage.capabilities, Writer::u64);
    out.option(cage.landlock.as_ref(), |out, landlock| {
        for bits in [landlock.handled, landlock.network, landlock.scoped] {
            out.u64(bits);
        }
        out.list(&landlock.rules, |out, (path, access)| {
            out.os(path.as_os_str());
            out.u64(*access);
        });
    });
    out.list(&cage.filters, |out, filter| out.bytes(filter));
}

fn paths(out: &mut Writer, paths: &[PathBuf]) {
    out.list(paths, |out, path| out.os(path.as_os_str()));
}

pub(super) fn read(from: &mut Reader<'_>) -> Read<Cage> {
    Ok(Cage {
        user: from.bool()?,
        mount: from.bool()?,
        network: from.bool()?,
        ipc: from.bool()?,
        uts: from.bool()?,
        mounts: Mounts {
            read_only: from.bool()?,
            own_proc: from.bool()?,
            own_devices: from.bool()?,
            hidden: from.list(Reader::path)?,
            temporary: from.list(|from| {
                Ok(Temporary {
                    path: from.path()?,
                    size: from.u64()?,
                    mode: from.u32()?,
                })
            })?,
            same: from.list(|from| Ok((from.path()?, from.path()?)))?,
            frozen: from.list(Reader::path)?,
            kept: from.list(|from| {
                Ok(Kept {
                    path: from.path()?,
                    writable: from.bool()?,
                })
            })?,
        },
        capabilities: from.option(Reader::u64)?,
        landlock: from.option(|from| {
            Ok(Landlock {
                handled: from.u64()?,
                network: from.u64()?,
                scoped: from.u64()?,
                rules: from.list(|from| Ok((from.path()?, from.u64()?)))?,
            })
        })?,
        filters: from.list(|from| from.bytes().map(<[u8]>::to_vec))?,
    })
}
