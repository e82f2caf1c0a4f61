//! The cage's part of the forked child: kernel calls only, as in `spawn::child`.

use std::{ffi::CStr, os::fd::RawFd, ptr};

use super::{Cage, MAX_SLOTS, Op, Prepared};
use crate::spawn::{Failure, Step, check, last_errno};

const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const OPEN_TREE_CLONE: u32 = 1;
const MOUNT_ATTR_RDONLY: u64 = 1;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const LANDLOCK_RULE_PATH_BENEATH: i32 = 1;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Steps 1 to 3: namespaces, mounts, loopback.
pub(crate) fn enter(cage: &Cage, prepared: &Prepared) -> Result<(), Failure> {
    let mut flags = 0;
    for (wanted, flag) in [
        (cage.user, libc::CLONE_NEWUSER),
        (cage.mount, libc::CLONE_NEWNS),
        (cage.network, libc::CLONE_NEWNET),
        (cage.ipc, libc::CLONE_NEWIPC),
        (cage.uts, libc::CLONE_NEWUTS),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    if flags == 0 {
        return Ok(());
    }
    // JUSTIFICATION: raw calls only. SAFETY: no memory involved; this process has one thread.
    unsafe {
        if cage.user {
            // Whoever has just changed its user has its own files of /proc taken away.
            libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        }
        check(Step::Namespaces, i64::from(libc::unshare(flags)))?;
    }
    if cage.user {
        write_file(Step::UserMap, c"/proc/self/setgroups", b"deny")?;
        write_file(Step::UserMap, c"/proc/self/uid_map", prepared.uid_map.as_bytes())?;
        write_file(Step::UserMap, c"/proc/self/gid_map", prepared.gid_map.as_bytes())?;
    }
    if cage.mount {
        change_mounts(cage, prepared)?;
    }
    if cage.network {
        raise_loopback()?;
    }
    Ok(())
}

fn write_file(step: Step, path: &CStr, bytes: &[u8]) -> Result<(), Failure> {
    // JUSTIFICATION: raw calls only. SAFETY: a live C string; live bytes with their length.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(step, i64::from(fd))?;
        let written = libc::write(fd, bytes.as_ptr().cast(), bytes.len());
        let result = check(step, written as i64);
        libc::close(fd);
        result
    }
}

fn change_mounts(cage: &Cage, prepared: &Prepared) -> Result<(), Failure> {
    // Nothing we do goes back to the machine. What the machine mounts later still comes to us, unless the cage chooses
    // its devices: a stick with somebody's files is none of its.
    let spread = if cage.mounts.own_devices {
        libc::MS_PRIVATE
    } else {
        libc::MS_SLAVE
    };
    // JUSTIFICATION: raw calls only. SAFETY: constant C strings, and null where the call takes none.
    let private = unsafe {
        libc::mount(
            ptr::null(),
            c"/".as_ptr(),
            ptr::null(),
            libc::MS_REC | spread,
            ptr::null(),
        )
    };
    check(Step::Mounts, i64::from(private))?;
    let mut slots: [RawFd; MAX_SLOTS] = [-1; MAX_SLOTS];
    for (index, op) in prepared.ops.iter().enumerate() {
        if change(op, &mut slots) < 0 {
            return Err(Failure {
                step: Step::Mounts,
                errno: last_errno(),
                // No more than a few hundred.
                detail: i32::try_from(index).unwrap_or(-1),
            });
        }
    }
    Ok(())
}

/// Carries out one operation; below zero: it failed, and errno says why.
fn change(op: &Op, slots: &mut [RawFd; MAX_SLOTS]) -> i64 {
    let held = |slot: usize, slots: &[RawFd; MAX_SLOTS]| slots.get(slot).copied().unwrap_or(-1);
    // JUSTIFICATION: raw calls only; libc has no wrappers for the new mount calls.
    // SAFETY: every path is a live C string, every struct is live and as long as said.
    unsafe {
        match op {
            Op::Pick { path, slot } => {
                let place = open_without_links(path);
                if place < 0 {
                    return place;
                }
                let flags = OPEN_TREE_CLONE
                    | libc::O_CLOEXEC.unsigned_abs()
                    | libc::AT_RECURSIVE.unsigned_abs()
                    | libc::AT_EMPTY_PATH.unsigned_abs();
                let fd = libc::syscall(libc::SYS_open_tree, place, c"".as_ptr(), flags);
                let errno = last_errno();
                // Too large for an i32 is no descriptor.
                libc::close(i32::try_from(place).unwrap_or(-1));
                set_errno(errno);
                if let (Ok(fd), Some(place)) = (i32::try_from(fd), slots.get_mut(*slot)) {
                    *place = fd;
                }
                fd
            }
            Op::Freeze { slot } => {
                set_read_only(held(*slot, slots), c"", libc::AT_RECURSIVE | libc::AT_EMPTY_PATH)
            }
            Op::Put { slot, path } => {
                let fd = held(*slot, slots);
                let moved = libc::syscall(
                    libc::SYS_move_mount,
                    fd,
                    c"".as_ptr(),
                    libc::AT_FDCWD,
                    path.as_ptr(),
                    MOVE_MOUNT_F_EMPTY_PATH,
                );
                if moved == 0 {
                    libc::close(fd);
                }
                moved
            }
            Op::ReadOnly { path, recursive } => {
                let flags = if *recursive { libc::AT_RECURSIVE } else { 0 };
                set_read_only(libc::AT_FDCWD, path, flags)
            }
            Op::Temporary { path, options } => i64::from(libc::mount(
                c"tmpfs".as_ptr(),
                path.as_ptr(),
                c"tmpfs".as_ptr(),
                libc::MS_NOSUID | libc::MS_NODEV,
                options.as_ptr().cast(),
            )),
            Op::Proc { options } => i64::from(libc::mount(
                c"proc".as_ptr(),
                c"/proc".as_ptr(),
                c"proc".as_ptr(),
                libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
                options.as_ptr().cast(),
            )),
            Op::Terminals { path } => i64::from(libc::mount(
                c"devpts".as_ptr(),
                path.as_ptr(),
                c"devpts".as_ptr(),
                libc::MS_NOSUID | libc::MS_NOEXEC,
                c"newinstance,ptmxmode=0666,mode=620".as_ptr().cast(),
            )),
            Op::Blank { path } => i64::from(libc::mount(
                c"/dev/null".as_ptr(),
                path.as_ptr(),
                ptr::null(),
                libc::MS_BIND,
                ptr::null(),
            )),
            Op::Directory { path } => unless_there(i64::from(libc::mkdir(path.as_ptr(), 0o755))),
            Op::File { path } => {
                let fd = libc::open(
                    path.as_ptr(),
                    libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC,
                    0o644,
                );
                if fd >= 0 {
                    libc::close(fd);
                }
                unless_there(i64::from(fd))
            }
            Op::Link { to, path } => unless_there(i64::from(libc::symlink(to.as_ptr(), path.as_ptr()))),
        }
    }
}

/// Opens a path whose components are what they are called: whoever can write on the way cannot lead us elsewhere by a
/// link that was not there when the cage was made.
fn open_without_links(path: &CStr) -> i64 {
    /// `struct open_how` of openat2(2).
    #[repr(C)]
    struct How {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    const RESOLVE_NO_SYMLINKS: u64 = 4;
    let how = How {
        flags: u64::from((libc::O_PATH | libc::O_CLOEXEC).unsigned_abs()),
        mode: 0,
        resolve: RESOLVE_NO_SYMLINKS,
    };
    // JUSTIFICATION: raw calls only. SAFETY: a live C string; a live struct with its size.
    unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const how,
            size_of::<How>(),
        )
    }
}

/// For the report, after a call that tidies up.
fn set_errno(errno: i32) {
    // JUSTIFICATION: as in `last_errno`. SAFETY: libc's errno is always there.
    unsafe { *libc::__errno_location() = errno };
}

fn unless_there(result: i64) -> i64 {
    if result < 0 && last_errno() == libc::EEXIST {
        0
    } else {
        result
    }
}

fn set_read_only(directory: RawFd, path: &CStr, flags: i32) -> i64 {
    let attributes = MountAttributes {
        set: MOUNT_ATTR_RDONLY,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // JUSTIFICATION: raw calls only. SAFETY: a live C string; a live struct with its size.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    }
}

/// `ip link set lo up`.
fn raise_loopback() -> Result<(), Failure> {
    /// `struct ifreq`: a name, and flags in what follows.
    #[repr(C)]
    struct Interface {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut name = [0; 16];
    name[0] = b'l';
    name[1] = b'o';
    let mut interface = Interface {
        name,
        flags: 0,
        rest: [0; 22],
    };
    // JUSTIFICATION: raw calls only. SAFETY: the struct is live and of the size the kernel reads and writes (40).
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(Step::Network, i64::from(socket))?;
        let got = libc::ioctl(socket, libc::SIOCGIFFLAGS as _, &raw mut interface);
        check(Step::Network, i64::from(got))?;
        interface.flags |= 1;
        let set = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut interface);
        check(Step::Network, i64::from(set))?;
        libc::close(socket);
    }
    Ok(())
}

/// Step 4: what it may never have again.
pub(crate) fn bound(cage: &Cage) -> Result<(), Failure> {
    let Some(kept) = cage.capabilities else {
        return Ok(());
    };
    for capability in 0..64_u32 {
        // JUSTIFICATION: raw calls only. SAFETY: no memory involved.
        unsafe {
            // The highest one that this kernel knows has been passed.
            if libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) < 0 {
                break;
            }
            if kept >> capability & 1 == 1 {
                continue;
            }
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                let errno = last_errno();
                // Without rights of its own nothing can be dropped; no_new_privs then keeps it from getting any.
                if errno == libc::EPERM && permitted() == Some(0) {
                    return Ok(());
                }
                return Err(Failure {
                    step: Step::Capabilities,
                    errno,
                    detail: -1,
                });
            }
        }
    }
    Ok(())
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// Effective, permitted, inheritable; low and high half.
type CapabilitySets = [[u32; 3]; 2];

fn capabilities() -> Option<CapabilitySets> {
    let mut header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut sets: CapabilitySets = [[0; 3]; 2];
    // JUSTIFICATION: raw calls only. SAFETY: both live and as large as version 3 says.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    (result == 0).then_some(sets)
}

fn permitted() -> Option<u64> {
    capabilities().map(|[low, high]| u64::from(low[1]) | u64::from(high[1]) << 32)
}

/// Step 6: what it has.
pub(crate) fn drop_capabilities(cage: &Cage) -> Result<(), Failure> {
    let Some(kept) = cage.capabilities else {
        return Ok(());
    };
    let halves = [
        u32::try_from(kept & u64::from(u32::MAX)).unwrap_or(0),
        u32::try_from(kept >> 32).unwrap_or(0),
    ];
    let Some(mut sets) = capabilities() else {
        return Err(Failure {
            step: Step::Capabilities,
            errno: last_errno(),
            detail: -1,
        });
    };
    for (set, half) in sets.iter_mut().zip(halves) {
        for value in set {
            *value &= half;
        }
    }
    let mut header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    // JUSTIFICATION: raw calls only. SAFETY: both live and as large as version 3 says.
    unsafe {
        check(
            Step::Capabilities,
            libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()),
        )?;
        // Before 4.3 there were none to clear.
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    }
    Ok(())
}

/// Steps 8 and 9.
pub(crate) fn lock(prepared: &Prepared) -> Result<(), Failure> {
    if let Some(landlock) = &prepared.landlock {
        // JUSTIFICATION: raw calls only; libc has no wrappers for landlock. SAFETY: live structs with their sizes.
        unsafe {
            let rules = libc::syscall(
                libc::SYS_landlock_create_ruleset,
                landlock.attributes.as_ptr(),
                landlock.size,
                0,
            );
            check(Step::Landlock, rules)?;
            for (path, access) in &landlock.rules {
                let parent = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                if parent < 0 {
                    // Hidden, or not for this user: then there is nothing to allow.
                    continue;
                }
                /// `struct landlock_path_beneath_attr`, which is packed.
                #[repr(C, packed)]
                struct Beneath {
                    access: u64,
                    parent: i32,
                }
                let beneath = Beneath {
                    access: *access,
                    parent,
                };
                let added = libc::syscall(
                    libc::SYS_landlock_add_rule,
                    rules,
                    LANDLOCK_RULE_PATH_BENEATH,
                    &raw const beneath,
                    0,
                );
                check(Step::Landlock, added)?;
                libc::close(parent);
            }
            check(
                Step::Landlock,
                libc::syscall(libc::SYS_landlock_restrict_self, rules, 0),
            )?;
        }
    }
    for filter in &prepared.filters {
        let program = libc::sock_fprog {
            // Bounded by `instructions`.
            len: u16::try_from(filter.len()).unwrap_or(0),
            filter: filter.as_ptr().cast_mut(),
        };
        // JUSTIFICATION: raw calls only. SAFETY: the kernel copies `len` live instructions.
        let set = unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
                0,
                0,
            )
        };
        check(Step::Filter, i64::from(set))?;
    }
    Ok(())
}
