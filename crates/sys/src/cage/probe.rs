//! What this machine and this user can lock a child into, tried out once.

use std::{ptr, sync::OnceLock};

use crate::{Pid, signal, wait};

/// What can be had. Each is tried by a child that ends at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ability {
    /// Own mounts, network and the rest, as we are.
    pub namespaces: bool,
    /// The same, inside a user namespace.
    pub user_namespaces: bool,
    /// Why there are no namespaces: the errno of the last try; 0 if there are.
    pub errno: i32,
    /// Trees can be made read-only as a whole: `mount_setattr`, Linux 5.12.
    pub read_only_trees: bool,
    /// `/proc` can be mounted anew for one child alone: Linux 5.8.
    pub own_proc: bool,
    /// Version of landlock; 0: none.
    pub landlock: i32,
    /// Filters of system calls.
    pub seccomp: bool,
}

/// What this process can lock its children into.
pub fn ability() -> &'static Ability {
    static ABILITY: OnceLock<Ability> = OnceLock::new();
    ABILITY.get_or_init(find_out)
}

fn find_out() -> Ability {
    const ALL: i32 = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let direct = try_unshare(ALL);
    let nested = try_unshare(ALL | libc::CLONE_NEWUSER);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // An impossible call: a kernel that has it complains of something else.
    // JUSTIFICATION: no wrapper has this call. SAFETY: it fails before it reads anything.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            -1,
            c"".as_ptr(),
            0,
            ptr::null::<u8>(),
            0_usize,
        )
    };
    let no_such_call = answer < 0
        && std::io::Error::last_os_error()
            .raw_os_error()
            .is_some_and(|errno| errno == libc::ENOSYS);
    Ability {
        namespaces: direct == 0,
        user_namespaces: nested == 0,
        errno: if direct == 0 || nested == 0 { 0 } else { nested },
        read_only_trees: !no_such_call,
        own_proc: kernel >= (5, 8),
        landlock: landlock_version(),
        seccomp: seccomp(),
    }
}

/// Version of the kernel's landlock; 0: it has none, or it is switched off.
pub fn landlock_version() -> i32 {
    const VERSION: u32 = 1;
    // JUSTIFICATION: no wrapper has this call. SAFETY: with this flag the kernel reads nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0_usize,
            VERSION,
        )
    };
    i32::try_from(version).unwrap_or(0).max(0)
}

fn seccomp() -> bool {
    // Without a filter the kernel answers EFAULT if it knows them, EINVAL if not.
    // JUSTIFICATION: the call has no wrapper. SAFETY: the null pointer is what is asked about.
    let answer = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            ptr::null::<u8>(),
            0,
            0,
        )
    };
    answer < 0
        && std::io::Error::last_os_error()
            .raw_os_error()
            .is_some_and(|errno| errno == libc::EFAULT)
}

/// The errno a child gets that asks for these namespaces; 0: it gets them.
fn try_unshare(flags: i32) -> i32 {
    let blocked = signal::AllBlocked::new();
    // JUSTIFICATION: what a process can do is only to be learnt by doing it, and it cannot be undone.
    // SAFETY: the child makes two raw calls and ends; it touches no memory of ours.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let code = if libc::unshare(flags) == 0 {
                0
            } else {
                *libc::__errno_location()
            };
            libc::_exit(code);
        }
        pid
    };
    drop(blocked);
    let Some(pid) = Pid::new(pid) else {
        return libc::EAGAIN;
    };
    match wait::wait_for(pid) {
        Ok(reaped) => match reaped.map(|reaped| reaped.status) {
            Some(wait::Status::Code(code)) => i32::from(code),
            Some(wait::Status::Signal { .. }) | None => libc::EPERM,
        },
        Err(error) => error.errno,
    }
}
