//! What a child is locked into: namespaces, a changed view of the file system, fewer capabilities, landlock, seccomp.
//!
//! A [`Cage`] is numbers and paths; which ones make sense is decided elsewhere. Everything is turned into a list of
//! kernel calls before the fork (`Prepared`); the child makes them between fork and exec (`child`), in this order:
//!
//! 1. namespaces, while it may still make them. Without root it makes a user namespace first, in which it has every
//!    right over what it makes itself; then it has already become the user it shall be (a user that is not mapped
//!    cannot be become later).
//! 2. mounts: what is to stay visible is picked up first (`open_tree`), then everything is made read-only and hidden
//!    and overlaid, then what was picked up is put back in its place. So a directory below a hidden one can stay.
//! 3. the loopback interface of a new network namespace.
//! 4. the bounding set of capabilities; it needs a right that the next step may give up.
//! 5. (by [`crate::spawn`]) groups, group, user, working directory.
//! 6. capabilities themselves, and the ambient ones.
//! 7. no_new_privs, without which the kernel takes neither landlock nor seccomp from a process without rights.
//! 8. landlock; its rules name files as they are after the mounts.
//! 9. seccomp, at the very end: after it only exec and exit are made, which every filter has to allow.
//!
//! Mounts need `mount_setattr` (Linux 5.12); landlock needs 5.13, its scopes 6.12 ([`landlock_version`]). What cannot
//! be done fails the start and names the step: a cage with a hole is none.

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

pub(crate) mod child;
mod probe;

pub use probe::{Ability, ability, landlock_version};

/// What a child is locked into. The default is: into nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cage {
    /// Whether it gets a user namespace, in which only its own user and group exist: the way to the others without
    /// root.
    pub user: bool,
    /// Whether it has its own mounts. [`Cage::mounts`] is looked at only then.
    pub mount: bool,
    /// Whether it has a network of its own, with nothing but a loopback interface.
    pub network: bool,
    /// Whether it has System V objects and POSIX message queues of its own.
    pub ipc: bool,
    /// Whether it has a host name of its own.
    pub uts: bool,
    /// What it sees of the file system.
    pub mounts: Mounts,
    /// The capabilities it may ever have, one bit each; `None`: whatever it has.
    pub capabilities: Option<u64>,
    /// What landlock lets it do.
    pub landlock: Option<Landlock>,
    /// Programs for seccomp (`struct sock_filter` of the machine, 8 bytes an instruction), the first is put in place
    /// first. Where several refuse, the last one's answer counts.
    pub filters: Vec<Vec<u8>>,
}

impl Cage {
    /// Whether it locks nothing.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// A view of the file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// Whether everything is read-only that nothing below says otherwise of.
    pub read_only: bool,
    /// Whether `/proc` shows only processes that it may trace (Linux 5.8; not in a user namespace).
    pub own_proc: bool,
    /// Whether `/dev` has only the harmless devices, and terminals of its own. What the machine mounts later then
    /// stays out, whatever it is.
    pub own_devices: bool,
    /// What looks empty. What does not exist is skipped.
    pub hidden: Vec<PathBuf>,
    /// Empty directories of its own, in memory.
    pub temporary: Vec<Temporary>,
    /// Places that show another one: the first is shown at the second. For directories.
    pub same: Vec<(PathBuf, PathBuf)>,
    /// Trees (or files) that become read-only where they are; what does not exist is skipped.
    pub frozen: Vec<PathBuf>,
    /// Trees (or files) that stay as they are, whatever else is said of what is above them. They must exist, and be
    /// named by their true paths: no link on the way is followed.
    pub kept: Vec<Kept>,
}

/// An empty directory in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Temporary {
    /// Where.
    pub path: PathBuf,
    /// How much fits, in bytes.
    pub size: u64,
    /// Its mode, such as `0o1777`.
    pub mode: u32,
}

/// What stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The tree or file.
    pub path: PathBuf,
    /// Whether it can be written as before; else it is read-only.
    pub writable: bool,
}

/// A rule set of landlock(7), by the kernel's bits. Bits the kernel does not know are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Landlock {
    /// What is forbidden unless a rule allows it: `LANDLOCK_ACCESS_FS_*`.
    pub handled: u64,
    /// The same for TCP: `LANDLOCK_ACCESS_NET_*`; there are no rules for it.
    pub network: u64,
    /// `LANDLOCK_SCOPE_*`.
    pub scoped: u64,
    /// What is allowed beneath a path; what does not exist is skipped.
    pub rules: Vec<(PathBuf, u64)>,
}

/// `LANDLOCK_ACCESS_FS_*` that make sense for a file.
const FILE_ACCESS: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15;

/// One call, or a few that belong together.
#[derive(Debug)]
pub(crate) enum Op {
    /// A detached copy of a tree, kept in a slot.
    Pick { path: CString, slot: usize },
    /// What is in the slot becomes read-only.
    Freeze { slot: usize },
    /// The slot's tree shows up here.
    Put { slot: usize, path: CString },
    /// Everything below becomes read-only.
    ReadOnly { path: CString, recursive: bool },
    /// An empty file system in memory.
    Temporary { path: CString, options: CString },
    /// `/proc` anew.
    Proc { options: CString },
    /// Terminals of its own.
    Terminals { path: CString },
    /// `/dev/null` shows up here.
    Blank { path: CString },
    /// A directory, unless there is something.
    Directory { path: CString },
    /// A file, unless there is something.
    File { path: CString },
    /// A symbolic link.
    Link { to: CString, path: CString },
}

/// What is done to a place of the file system; in the order in which they are done to the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// Something empty lies over it already.
    Overlaid,
    /// It is to look empty.
    Hide { directory: bool },
    /// What was picked up is put back.
    Put { slot: usize, directory: bool },
}

/// A cage as the child takes it.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) ops: Vec<Op>,
    /// How many slots `ops` uses.
    pub(crate) slots: usize,
    /// `/proc/self/{setgroups,uid_map,gid_map}` are written with these.
    pub(crate) uid_map: String,
    pub(crate) gid_map: String,
    pub(crate) landlock: Option<PreparedLandlock>,
    pub(crate) filters: Vec<Vec<libc::sock_filter>>,
}

#[derive(Debug)]
pub(crate) struct PreparedLandlock {
    /// `struct landlock_ruleset_attr`, as much of it as the kernel knows.
    pub(crate) attributes: [u64; 3],
    pub(crate) size: usize,
    pub(crate) rules: Vec<(CString, u64)>,
}

/// How many files and directories fit at least into a file system in memory: those on the way to what is kept, too.
const MIN_INODES: u64 = 512;

/// How many trees may be picked up.
pub(crate) const MAX_SLOTS: usize = 128;

/// Devices that anybody may have.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

impl Prepared {
    /// `uid`, `gid`: what the child will be.
    pub(crate) fn new(cage: &Cage, uid: u32, gid: u32) -> Result<Self, &'static str> {
        let mut prepared = Self {
            uid_map: format!("{uid} {uid} 1\n"),
            gid_map: format!("{gid} {gid} 1\n"),
            ..Self::default()
        };
        if cage.mount {
            prepared.mounts(&cage.mounts)?;
        }
        if let Some(landlock) = &cage.landlock {
            prepared.landlock = prepare_landlock(landlock)?;
        }
        for filter in &cage.filters {
            prepared.filters.push(instructions(filter)?);
        }
        Ok(prepared)
    }

    fn slot(&mut self) -> Result<usize, &'static str> {
        let slot = self.slots;
        self.slots += 1;
        if self.slots > MAX_SLOTS {
            return Err("the cage keeps too many paths");
        }
        Ok(slot)
    }

    fn pick(&mut self, path: &Path) -> Result<usize, &'static str> {
        let slot = self.slot()?;
        self.ops.push(Op::Pick {
            path: text(path)?,
            slot,
        });
        Ok(slot)
    }

    /// See the order at the top. What changes a place goes from above to below, so that nothing covers what belongs
    /// into it.
    fn mounts(&mut self, mounts: &Mounts) -> Result<(), &'static str> {
        let mut places = Vec::new();
        for one in &mounts.kept {
            // A link may have been made since by whoever can write there, and lead out.
            let path = one.path.clone();
            let real = path
                .canonicalize()
                .map_err(|_| "a path that the cage keeps does not exist")?;
            if real != path {
                return Err("a path that the cage keeps leads over a link");
            }
            let directory = path.is_dir();
            let slot = self.pick(&path)?;
            if !one.writable {
                self.ops.push(Op::Freeze { slot });
            }
            places.push((path, Change::Put { slot, directory }));
        }
        if mounts.read_only {
            self.ops.push(Op::ReadOnly {
                path: text(Path::new("/"))?,
                recursive: true,
            });
        }
        if mounts.own_proc {
            self.ops.push(Op::Proc {
                options: text(Path::new("hidepid=ptraceable"))?,
            });
        }
        if mounts.own_devices {
            self.devices()?;
            places.push((PathBuf::from("/dev"), Change::Overlaid));
        }
        for temporary in &mounts.temporary {
            let path = temporary
                .path
                .canonicalize()
                .map_err(|_| "a temporary directory of the cage does not exist")?;
            self.temporary(&path, temporary.size, temporary.mode)?;
            places.push((path, Change::Overlaid));
        }
        for (from, to) in &mounts.same {
            let from = from
                .canonicalize()
                .map_err(|_| "a place that the cage shows elsewhere does not exist")?;
            let slot = self.pick(&from)?;
            self.ops.push(Op::Put {
                slot,
                path: text(to)?,
            });
            places.push((to.clone(), Change::Overlaid));
        }
        for path in &mounts.hidden {
            let Ok(path) = path.canonicalize() else { continue };
            let directory = path.is_dir();
            places.push((path, Change::Hide { directory }));
        }
        // The same place: what is kept goes on top.
        places.sort();
        let mut emptied = self.change_places(&places)?;
        for path in &mounts.frozen {
            let Ok(path) = path.canonicalize() else { continue };
            let slot = self.pick(&path)?;
            self.ops.push(Op::Freeze { slot });
            self.ops.push(Op::Put {
                slot,
                path: text(&path)?,
            });
        }
        if mounts.own_devices {
            emptied.push(PathBuf::from("/dev"));
        }
        for path in emptied {
            self.ops.push(Op::ReadOnly {
                path: text(&path)?,
                recursive: false,
            });
        }
        Ok(())
    }

    /// Hides and puts back. Returns what is an empty directory now.
    fn change_places(&mut self, places: &[(PathBuf, Change)]) -> Result<Vec<PathBuf>, &'static str> {
        let mut emptied = Vec::new();
        // What has changed, and whether it is empty now but for what we put there.
        let mut changed: Vec<(&Path, bool)> = Vec::new();
        for (path, change) in places {
            let above = changed.iter().rev().find(|(above, _)| path.starts_with(above));
            let empty = above.filter(|(_, empty)| *empty).map(|(above, _)| *above);
            match *change {
                Change::Overlaid => changed.push((path, true)),
                Change::Hide { .. } if empty.is_some() => {}
                Change::Hide { directory: true } => {
                    self.temporary(path, 64 << 10, 0o755)?;
                    changed.push((path, true));
                    let kept = places
                        .iter()
                        .any(|(other, change)| other == path && matches!(change, Change::Put { .. }));
                    if !kept {
                        emptied.push(path.clone());
                    }
                }
                Change::Hide { directory: false } => self.ops.push(Op::Blank { path: text(path)? }),
                Change::Put { slot, directory } => {
                    if let Some(above) = empty {
                        self.way(above, path, directory)?;
                    }
                    self.ops.push(Op::Put {
                        slot,
                        path: text(path)?,
                    });
                    changed.push((path, false));
                }
            }
        }
        Ok(emptied)
    }

    fn temporary(&mut self, path: &Path, size: u64, mode: u32) -> Result<(), &'static str> {
        // Without a number the kernel takes half of its memory's pages for it.
        let inodes = (size / 4096).max(MIN_INODES);
        let options = format!("size={size},nr_inodes={inodes},mode={mode:o}");
        self.ops.push(Op::Temporary {
            path: text(path)?,
            options: text(Path::new(&options))?,
        });
        Ok(())
    }

    /// Directories from `above` (which is there) to `path`, and `path` itself as what it is.
    fn way(&mut self, above: &Path, path: &Path, directory: bool) -> Result<(), &'static str> {
        let below = path.strip_prefix(above).unwrap_or(path);
        let mut at = above.to_owned();
        let count = below.components().count();
        for (index, component) in below.components().enumerate() {
            if let Component::Normal(name) = component {
                at.push(name);
            }
            let path = text(&at)?;
            self.ops.push(if directory || index + 1 < count {
                Op::Directory { path }
            } else {
                Op::File { path }
            });
        }
        Ok(())
    }

    fn devices(&mut self) -> Result<(), &'static str> {
        let folder = Path::new("/dev");
        let mut picked = Vec::new();
        for name in DEVICES {
            let path = folder.join(name);
            if path.exists() {
                picked.push((self.pick(&path)?, path));
            }
        }
        self.temporary(folder, 64 << 20, 0o755)?;
        for (slot, path) in picked {
            self.ops.push(Op::File { path: text(&path)? });
            self.ops.push(Op::Put {
                slot,
                path: text(&path)?,
            });
        }
        for name in ["pts", "shm", "mqueue"] {
            self.ops.push(Op::Directory {
                path: text(&folder.join(name))?,
            });
        }
        self.ops.push(Op::Terminals {
            path: text(&folder.join("pts"))?,
        });
        self.temporary(&folder.join("shm"), 64 << 20, 0o1777)?;
        for (to, name) in [
            ("/proc/self/fd", "fd"),
            ("/proc/self/fd/0", "stdin"),
            ("/proc/self/fd/1", "stdout"),
            ("/proc/self/fd/2", "stderr"),
            ("pts/ptmx", "ptmx"),
        ] {
            self.ops.push(Op::Link {
                to: text(Path::new(to))?,
                path: text(&folder.join(name))?,
            });
        }
        Ok(())
    }

    /// What an operation worked on, for a message.
    pub(crate) fn target(&self, index: usize) -> Option<String> {
        let path = match self.ops.get(index)? {
            Op::Pick { path, .. }
            | Op::Put { path, .. }
            | Op::ReadOnly { path, .. }
            | Op::Temporary { path, .. }
            | Op::Terminals { path }
            | Op::Blank { path }
            | Op::Directory { path }
            | Op::File { path }
            | Op::Link { path, .. } => path,
            Op::Freeze { slot } => self.ops.iter().find_map(|op| match op {
                Op::Pick { path, slot: of } if of == slot => Some(path),
                _ => None,
            })?,
            Op::Proc { .. } => return Some("/proc".to_owned()),
        };
        Some(path.to_string_lossy().into_owned())
    }
}

fn text(path: &Path) -> Result<CString, &'static str> {
    CString::new(OsStr::as_bytes(path.as_os_str())).map_err(|_| "a path of the cage contains a NUL byte")
}

fn prepare_landlock(landlock: &Landlock) -> Result<Option<PreparedLandlock>, &'static str> {
    let version = landlock_version();
    let fs = match version {
        0 => return Err("this kernel has no landlock"),
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1_u64 << 16) - 1,
    };
    let (network, scoped, size) = match version {
        1..4 => (0, 0, 8),
        4 | 5 => (landlock.network & 3, 0, 16),
        _ => (landlock.network & 3, landlock.scoped & 3, 24),
    };
    let handled = landlock.handled & fs;
    if handled == 0 && network == 0 && scoped == 0 {
        // The kernel takes no empty rule set, and there is nothing to forbid.
        return Ok(None);
    }
    let mut rules = Vec::new();
    for (path, access) in &landlock.rules {
        let access = access & handled;
        let access = if path.is_dir() {
            access
        } else {
            access & FILE_ACCESS
        };
        if access != 0 {
            rules.push((text(path)?, access));
        }
    }
    Ok(Some(PreparedLandlock {
        attributes: [handled, network, scoped],
        size,
        rules,
    }))
}

/// The kernel takes no more instructions than this.
const MAX_INSTRUCTIONS: usize = 4096;

fn instructions(bytes: &[u8]) -> Result<Vec<libc::sock_filter>, &'static str> {
    let (whole, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() || whole.is_empty() || whole.len() > MAX_INSTRUCTIONS {
        return Err("a filter of system calls has an impossible length");
    }
    Ok(whole
        .iter()
        .map(|&[a, b, jt, jf, k0, k1, k2, k3]| libc::sock_filter {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_whole_instructions() {
        assert!(instructions(&[0; 7]).is_err());
        assert!(instructions(&[]).is_err());
        assert!(instructions(&vec![0; 8 * 5000]).is_err());
        let one = instructions(&[6, 0, 1, 2, 0, 0, 0xff, 0x7f]).expect("one instruction");
        assert_eq!(
            (one[0].code, one[0].jt, one[0].jf, one[0].k),
            (6, 1, 2, 0x7fff_0000)
        );
    }

    #[test]
    fn the_way_to_what_is_kept_is_made_in_what_is_hidden() {
        let folder = tempfile::tempdir().expect("a directory");
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).expect("directories");
        let mounts = Mounts {
            hidden: vec![folder.path().to_owned()],
            kept: vec![Kept {
                path: deep.clone(),
                writable: true,
            }],
            ..Mounts::default()
        };
        let mut prepared = Prepared::default();
        prepared.mounts(&mounts).expect("it can be had");
        let made: Vec<_> = prepared
            .ops
            .iter()
            .filter(|op| matches!(op, Op::Directory { .. }))
            .collect();
        assert_eq!(made.len(), 2, "{:?}", prepared.ops);
        assert!(matches!(prepared.ops.first(), Some(Op::Pick { slot: 0, .. })));
        assert!(matches!(
            prepared.ops.last(),
            Some(Op::ReadOnly { recursive: false, .. })
        ));
    }

    #[test]
    fn what_is_hidden_below_what_is_kept_stays_hidden() {
        let folder = tempfile::tempdir().expect("a directory");
        let hidden = folder.path().join("a/b/c");
        std::fs::create_dir_all(&hidden).expect("directories");
        let mounts = Mounts {
            hidden: vec![hidden.clone(), folder.path().join("a"), folder.path().join("a/b")],
            kept: vec![Kept {
                path: folder.path().join("a/b"),
                writable: true,
            }],
            ..Mounts::default()
        };
        let mut prepared = Prepared::default();
        prepared.mounts(&mounts).expect("it can be had");
        let done: Vec<String> = prepared
            .ops
            .iter()
            .map(|op| {
                let text = format!("{op:?}");
                let word = text.split(' ').next().unwrap_or_default().to_owned();
                word + if text.contains("/c") { " c" } else { "" }
            })
            .collect();
        assert_eq!(
            done,
            [
                "Pick",
                "Temporary",
                "Directory",
                "Put",
                "Temporary c",
                "ReadOnly",
                "ReadOnly c"
            ]
        );
    }

    #[test]
    fn what_is_to_be_kept_must_exist() {
        let mounts = Mounts {
            kept: vec![Kept {
                path: PathBuf::from("/no/such/place"),
                writable: false,
            }],
            ..Mounts::default()
        };
        assert!(Prepared::default().mounts(&mounts).is_err());
    }
}
