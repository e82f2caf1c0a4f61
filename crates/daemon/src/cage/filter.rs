//! Which system calls a caged app may make, as programs for seccomp.
//!
//! Two kinds of filters, both made by the crate `seccompiler`:
//!
//! - What is refused at `standard`: the [`GROUPS`] of calls that change the machine or look into other processes (EPERM),
//!   new namespaces by whatever call (EPERM), and sockets of families that no network namespace holds back
//!   (EAFNOSUPPORT). `clone3` hides its flags from every filter; it is answered with ENOSYS, and libc takes `clone`.
//! - What is allowed at `strict`: [`ALLOWED`], and nothing else (ENOSYS: what a program expects of an older kernel).
//!   The filters of `standard` come after it, so their answers count where both refuse.
//!
//! A program of another architecture (32 bits) is killed: its calls have other numbers. So are the calls of x32.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use upkeep_sys::syscalls;

/// Groups of calls that are refused, and that `sandbox.allow` may allow.
pub(super) const GROUPS: &[(&str, &[&str])] = &[
    (
        "debug",
        &[
            "kcmp",
            "pidfd_getfd",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
            "userfaultfd",
        ],
    ),
    ("namespaces", &["setns", "unshare"]),
    (
        "mount",
        &[
            "chroot",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "umount2",
        ],
    ),
    ("keyring", &["add_key", "keyctl", "request_key"]),
    ("bpf", &["bpf", "perf_event_open"]),
    (
        "io-uring",
        &["io_uring_enter", "io_uring_register", "io_uring_setup"],
    ),
    (
        "kernel",
        &[
            "_sysctl",
            "acct",
            "delete_module",
            "finit_module",
            "init_module",
            "ioperm",
            "iopl",
            "kexec_file_load",
            "kexec_load",
            "lookup_dcookie",
            "nfsservctl",
            "reboot",
            "setdomainname",
            "sethostname",
            "swapoff",
            "swapon",
            "sysfs",
            "syslog",
            "uselib",
            "ustat",
            "vhangup",
        ],
    ),
    (
        "clock",
        &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"],
    ),
    (
        "files",
        &[
            "fanotify_init",
            "fanotify_mark",
            "name_to_handle_at",
            "open_by_handle_at",
        ],
    ),
];

/// What is left at `strict`: enough for Node, Python, a shell and static programs.
const ALLOWED: &[&str] = &[
    "accept",
    "accept4",
    "access",
    "alarm",
    "arch_prctl",
    "bind",
    "brk",
    "capget",
    "capset",
    "chdir",
    "chmod",
    "chown",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "close",
    "close_range",
    "connect",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fork",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futex",
    "futex_waitv",
    "futimesat",
    "get_mempolicy",
    "get_robust_list",
    "getcpu",
    "getcwd",
    "getdents",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getitimer",
    "getpeername",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "getxattr",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_setup",
    "io_submit",
    "ioctl",
    "ioprio_get",
    "kill",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "listen",
    "listxattr",
    "llistxattr",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "madvise",
    "membarrier",
    "memfd_create",
    "mincore",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mlock",
    "mlock2",
    "mmap",
    "mprotect",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedsend",
    "mq_unlink",
    "mremap",
    "mseal",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pause",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe",
    "pipe2",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "preadv",
    "preadv2",
    "prlimit64",
    "pselect6",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "restart_syscall",
    "rmdir",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_setaffinity",
    "sched_yield",
    "seccomp",
    "select",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setitimer",
    "setpgid",
    "setpriority",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setsid",
    "setsockopt",
    "setuid",
    "setxattr",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "shutdown",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    "socket",
    "socketpair",
    "splice",
    "stat",
    "statfs",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "sysinfo",
    "tee",
    "tgkill",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_settime",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "times",
    "tkill",
    "truncate",
    "umask",
    "uname",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
    "vfork",
    "vmsplice",
    "wait4",
    "waitid",
    "write",
    "writev",
];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EOPNOTSUPP: u32 = 95;
const EAFNOSUPPORT: u32 = 97;

/// Flags of clone(2) and unshare(2) that make namespaces: cgroup, uts, ipc, user, pid, net, mount, time.
const NEW_NAMESPACES: [u64; 8] = [
    0x0200_0000,
    0x0400_0000,
    0x0800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
    0x0002_0000,
    0x0000_0080,
];

/// `MSG_FASTOPEN` of send(2).
const FAST_OPEN: u64 = 0x2000_0000;

/// Families of sockets that are allowed: unix, IPv4, IPv6, netlink (which lists interfaces).
const FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// Rules by the number of the call.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The programs for a cage; `strict`: nothing but what is listed. `allow`: groups that are allowed besides.
/// `own_network`: a socket that was handed over may call nobody while it sends (MSG_FASTOPEN), which landlock does not see.
pub(super) fn programs(strict: bool, own_network: bool, allow: &[String]) -> Result<Vec<Vec<u8>>, String> {
    let allowed = |group: &str| allow.iter().any(|name| name == group);
    let mut programs = Vec::new();
    if strict {
        let mut rules = Rules::new();
        let besides = GROUPS.iter().filter(|(group, _)| allowed(group));
        let besides = besides.flat_map(|(_, names)| names.iter());
        let clone3 = allowed("namespaces").then_some(&"clone3");
        for name in ALLOWED.iter().chain(besides).chain(clone3) {
            every_time(&mut rules, name);
        }
        programs.push(compile(
            rules,
            SeccompAction::Errno(ENOSYS),
            SeccompAction::Allow,
        )?);
    }
    if !allowed("namespaces") {
        let mut rules = Rules::new();
        every_time(&mut rules, "clone3");
        programs.push(compile(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(ENOSYS),
        )?);
    }
    let mut rules = Rules::new();
    if let Some(number) = syscalls::number("socket") {
        let others = FAMILIES
            .iter()
            .map(|family| condition(SeccompCmpOp::Ne, *family))
            .collect::<Result<Vec<_>, _>>()?;
        rules.insert(number, vec![rule(others)?]);
    }
    programs.push(compile(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(EAFNOSUPPORT),
    )?);
    if own_network {
        let mut rules = Rules::new();
        for (name, flags) in [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)] {
            if let Some(number) = syscalls::number(name) {
                let asked = condition_on(flags, SeccompCmpOp::MaskedEq(FAST_OPEN), FAST_OPEN)?;
                rules.insert(number, vec![rule(vec![asked])?]);
            }
        }
        programs.push(compile(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(EOPNOTSUPP),
        )?);
    }
    let mut rules = Rules::new();
    for (group, names) in GROUPS {
        if !allowed(group) {
            for name in *names {
                every_time(&mut rules, name);
            }
        }
    }
    if !allowed("namespaces")
        && let Some(number) = syscalls::number("clone")
    {
        let each = NEW_NAMESPACES
            .iter()
            .map(|flag| rule(vec![condition(SeccompCmpOp::MaskedEq(*flag), *flag)?]))
            .collect::<Result<Vec<_>, _>>()?;
        rules.insert(number, each);
    }
    programs.push(compile(rules, SeccompAction::Allow, SeccompAction::Errno(EPERM))?);
    Ok(programs)
}

/// Adds a call, whatever its arguments are; one that this machine does not have needs no rule.
fn every_time(rules: &mut Rules, name: &str) {
    if let Some(number) = syscalls::number(name) {
        rules.insert(number, Vec::new());
    }
}

/// About the first argument.
fn condition(operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, String> {
    condition_on(0, operator, value)
}

fn condition_on(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, String> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .map_err(|error| error.to_string())
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, String> {
    SeccompRule::new(conditions).map_err(|error| error.to_string())
}

fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<Vec<u8>, String> {
    let machine = std::env::consts::ARCH
        .try_into()
        .map_err(|error| format!("no filter of system calls for this machine: {error}"))?;
    let filter = SeccompFilter::new(rules, otherwise, matched, machine).map_err(|error| error.to_string())?;
    let program: BpfProgram = filter
        .try_into()
        .map_err(|error: seccompiler::BackendError| error.to_string())?;
    let mut bytes = Vec::with_capacity((program.len() + 3) * 8);
    let mut put = |code: u16, jt: u8, jf: u8, k: u32| {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
    };
    if cfg!(target_arch = "x86_64") {
        // Calls of x32 have the same architecture and other numbers: load the number; kill from there on.
        put(0x20, 0, 0, 0);
        put(0x35, 0, 1, 0x4000_0000);
        put(0x06, 0, 0, 0x8000_0000);
    }
    for instruction in &program {
        put(instruction.code, instruction.jt, instruction.jf, instruction.k);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_not_allowed_too() {
        for (group, names) in GROUPS {
            for name in *names {
                assert!(!ALLOWED.contains(name), "{name} of {group}");
            }
        }
    }

    #[test]
    fn every_name_is_the_name_of_a_call() {
        let known: Vec<&str> = syscalls::names().collect();
        if cfg!(target_arch = "x86_64") {
            let refused = GROUPS.iter().flat_map(|(_, names)| names.iter());
            for name in ALLOWED.iter().chain(refused) {
                assert!(known.contains(name), "{name}");
            }
        }
    }

    #[test]
    fn programs_are_made_for_every_level() {
        assert_eq!(programs(false, false, &[]).unwrap().len(), 3);
        assert_eq!(programs(true, false, &[]).unwrap().len(), 4);
        assert_eq!(programs(true, true, &[]).unwrap().len(), 5);
        let all: Vec<String> = GROUPS.iter().map(|(group, _)| (*group).to_owned()).collect();
        assert_eq!(programs(true, false, &all).unwrap().len(), 3);
        for program in programs(true, true, &[]).unwrap() {
            assert!(
                program.len() % 8 == 0 && program.len() / 8 <= 4096,
                "{}",
                program.len()
            );
        }
    }
}
