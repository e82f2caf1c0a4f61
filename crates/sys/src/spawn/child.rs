//! The forked child, from its first instruction to exec. Kernel calls only: no memory is asked for, nothing is
//! locked, nothing unwinds.

use std::{
    cell::Cell,
    ffi::{CStr, c_char},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
};

use super::{Failure, Launch, MAX_DESCRIPTORS, Prepared, Step, check, last_errno};
use crate::{cage, pid::Pid};

/// Bytes of a report: step, errno, detail.
pub(super) const RECORD: usize = 12;

/// Step (its number), errno and detail of a report.
pub(super) fn decode(record: [u8; RECORD]) -> [i32; 3] {
    let mut numbers = [-1; 3];
    let (parts, _) = record.as_chunks::<4>();
    for (number, part) in numbers.iter_mut().zip(parts) {
        *number = i32::from_ne_bytes(*part);
    }
    numbers
}

/// Pointers for the child, all into memory that the parent keeps alive.
pub(super) struct Plan<'a> {
    prepared: &'a Prepared,
    launch: &'a Launch<'a>,
    /// Room in front, so that `/bin/sh` can be put before the arguments.
    argv: Vec<Cell<*const c_char>>,
    envp: Vec<*const c_char>,
    report: RawFd,
    parent: Pid,
}

impl<'a> Plan<'a> {
    pub(super) fn new(prepared: &'a Prepared, launch: &'a Launch<'a>, report: &OwnedFd) -> Self {
        let mut argv = Vec::with_capacity(prepared.argv.len() + 2);
        argv.push(Cell::new(c"/bin/sh".as_ptr()));
        argv.extend(prepared.argv.iter().map(|text| Cell::new(text.as_ptr())));
        argv.push(Cell::new(ptr::null()));
        let mut envp: Vec<_> = prepared.env.iter().map(|text| text.as_ptr()).collect();
        envp.extend(
            prepared
                .pids
                .iter()
                .map(|(_, bytes)| bytes.as_ptr().cast::<c_char>()),
        );
        envp.push(ptr::null());
        Self {
            prepared,
            launch,
            argv,
            envp,
            report: report.as_raw_fd(),
            parent: Pid::own(),
        }
    }

    /// clone3, into the cgroup if there is one.
    pub(super) fn clone_into(&self, cgroup: Option<BorrowedFd<'_>>) -> Result<Pid, i32> {
        /// clone3(2), as of 5.7.
        #[repr(C)]
        #[derive(Default)]
        struct CloneArgs {
            flags: u64,
            pidfd: u64,
            child_tid: u64,
            parent_tid: u64,
            exit_signal: u64,
            stack: u64,
            stack_size: u64,
            tls: u64,
            set_tid: u64,
            set_tid_size: u64,
            cgroup: u64,
        }
        const INTO_CGROUP: u64 = 0x2_0000_0000;
        // The first version of the struct, for kernels that know no cgroup in it.
        const OLD_SIZE: usize = 64;
        let mut arguments = CloneArgs {
            exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
            ..CloneArgs::default()
        };
        let mut size = OLD_SIZE;
        if let Some(cgroup) = cgroup {
            arguments.flags = INTO_CGROUP;
            arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
            size = size_of::<CloneArgs>();
        }
        // JUSTIFICATION: a child in its cgroup from its first moment is only to be had from the raw call.
        // SAFETY: without CLONE_VM the child has a copy of everything; it runs `run`, which makes kernel calls only
        // and never returns. All signals are blocked by the caller.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) };
        self.continue_as(pid, None)
    }

    /// A plain fork; the child joins the cgroup itself.
    pub(super) fn fork(&self, cgroup: Option<BorrowedFd<'_>>) -> Result<Pid, i32> {
        let procs = match cgroup {
            None => None,
            Some(directory) => Some(
                rustix::fs::openat(
                    directory,
                    c"cgroup.procs",
                    rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
                    rustix::fs::Mode::empty(),
                )
                .map_err(|errno| errno.raw_os_error())?,
            ),
        };
        // JUSTIFICATION: the call for kernels and sandboxes without clone3. SAFETY: as in `clone_into`.
        let pid = unsafe { libc::fork() };
        self.continue_as(i64::from(pid), procs.as_ref().map(AsRawFd::as_raw_fd))
    }

    fn continue_as(&self, pid: i64, join: Option<RawFd>) -> Result<Pid, i32> {
        match pid {
            0 => self.run(join),
            _ => i32::try_from(pid).ok().and_then(Pid::new).ok_or_else(|| {
                std::io::Error::last_os_error()
                    .raw_os_error()
                    .unwrap_or(libc::EAGAIN)
            }),
        }
    }

    /// The child's whole life with us.
    fn run(&self, join: Option<RawFd>) -> ! {
        let mut report = self.report;
        let failure = match self.become_program(join, &mut report) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        let mut record = [0_u8; RECORD];
        record[..4].copy_from_slice(&(failure.step as i32).to_ne_bytes());
        record[4..8].copy_from_slice(&failure.errno.to_ne_bytes());
        record[8..].copy_from_slice(&failure.detail.to_ne_bytes());
        // JUSTIFICATION: nothing but raw calls is allowed here.
        // SAFETY: `record` is RECORD bytes long; `_exit` runs nothing of ours.
        unsafe {
            libc::write(report, record.as_ptr().cast(), RECORD);
            libc::_exit(127)
        }
    }

    fn become_program(
        &self,
        join: Option<RawFd>,
        report: &mut RawFd,
    ) -> Result<std::convert::Infallible, Failure> {
        let launch = self.launch;
        if let Some(procs) = join {
            // JUSTIFICATION: raw calls only.
            // SAFETY: one byte from a constant.
            let written = unsafe { libc::write(procs, c"0".as_ptr().cast(), 1) };
            check(Step::Cgroup, written as i64)?;
        }
        for procs in &launch.join {
            // JUSTIFICATION: raw calls only.
            // SAFETY: one byte from a constant.
            let written = unsafe { libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) };
            check(Step::Limits, written as i64)?;
        }
        if launch.new_session {
            // JUSTIFICATION: raw calls only. SAFETY: no memory involved.
            check(Step::Session, i64::from(unsafe { libc::setsid() }))?;
        }
        self.place_descriptors(report)?;
        default_dispositions();
        for limit in &launch.limits {
            let raw = libc::rlimit64 {
                rlim_cur: limit.soft,
                rlim_max: limit.hard,
            };
            // JUSTIFICATION: raw calls only. SAFETY: the kernel reads one live rlimit64.
            let result = unsafe { libc::prlimit64(0, limit.resource, &raw const raw, ptr::null_mut()) };
            check(Step::Limits, i64::from(result))?;
        }
        if let Some(mask) = launch.umask {
            // JUSTIFICATION: raw calls only. SAFETY: no memory involved.
            unsafe { libc::umask(mask & 0o777) };
        }
        self.adjust_oom_score();
        match (launch.cage, &self.prepared.cage) {
            (Some(cage), Some(prepared)) if cage.user => {
                // Who is not mapped into the new user namespace cannot be become in there.
                self.drop_privileges()?;
                cage::child::enter(cage, prepared)?;
                cage::child::bound(cage)?;
            }
            (Some(cage), Some(prepared)) => {
                cage::child::enter(cage, prepared)?;
                cage::child::bound(cage)?;
                self.drop_privileges()?;
            }
            _ => self.drop_privileges()?,
        }
        if let Some(cwd) = &self.prepared.cwd {
            // JUSTIFICATION: raw calls only.
            // SAFETY: a live C string.
            let changed = unsafe { libc::chdir(cwd.as_ptr()) };
            check(Step::WorkingDirectory, i64::from(changed))?;
        }
        if let Some(cage) = launch.cage {
            cage::child::drop_capabilities(cage)?;
        }
        self.set_flags()?;
        self.write_pids();
        unblock_signals();
        if let Some(prepared) = &self.prepared.cage {
            cage::child::lock(prepared)?;
        }
        Err(Failure {
            step: Step::Exec,
            errno: self.exec(),
            detail: -1,
        })
    }

    /// Moves every descriptor above the numbers in use, marks everything CLOEXEC, then puts each in its place. So
    /// no source can be overwritten before it has been used, whatever the numbers are.
    fn place_descriptors(&self, report: &mut RawFd) -> Result<(), Failure> {
        let highest = self
            .prepared
            .descriptors
            .iter()
            .map(|(target, _)| *target)
            .max()
            .unwrap_or(2);
        let above = highest.max(2) + 1;
        let map = &self.prepared.descriptors;
        let mut moved: [RawFd; MAX_DESCRIPTORS] = [-1; MAX_DESCRIPTORS];
        // JUSTIFICATION: raw calls only. SAFETY: descriptor numbers only, no memory.
        unsafe {
            let moved_report = libc::fcntl(*report, libc::F_DUPFD_CLOEXEC, above);
            check(Step::Descriptors, i64::from(moved_report))?;
            *report = moved_report;
            for ((_, source), copy) in map.iter().zip(&mut moved) {
                *copy = libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, above);
                check(Step::Descriptors, i64::from(*copy))?;
            }
            // Before 5.11 there is no such call: our own descriptors are all CLOEXEC anyway.
            libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            for ((target, _), copy) in map.iter().zip(&moved) {
                check(Step::Descriptors, i64::from(libc::dup2(*copy, *target)))?;
            }
        }
        Ok(())
    }

    fn adjust_oom_score(&self) {
        let Some(text) = &self.prepared.oom_score_adj else {
            return;
        };
        // JUSTIFICATION: raw calls only. SAFETY: a constant path and a live text with its length.
        unsafe {
            let fd = libc::open(
                c"/proc/self/oom_score_adj".as_ptr(),
                libc::O_WRONLY | libc::O_CLOEXEC,
            );
            if fd >= 0 {
                libc::write(fd, text.as_ptr().cast(), text.len());
                libc::close(fd);
            }
        }
    }

    /// Groups before group before user: each needs the rights the next gives up. By raw call: libc's wrappers tell
    /// all threads of a process, and here there is but one, whatever libc's list says.
    fn drop_privileges(&self) -> Result<(), Failure> {
        // JUSTIFICATION: raw calls only. SAFETY: `groups` is live and as long as said.
        unsafe {
            if let Some(groups) = &self.prepared.groups {
                let result = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
                check(Step::Groups, result)?;
            }
            if let Some(gid) = self.launch.gid {
                check(Step::Group, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            }
            if let Some(uid) = self.launch.uid {
                check(Step::User, libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
            }
        }
        Ok(())
    }

    fn set_flags(&self) -> Result<(), Failure> {
        // JUSTIFICATION: raw calls only. SAFETY: no memory involved.
        unsafe {
            if let Some(signal) = self.launch.parent_death_signal {
                check(
                    Step::Flags,
                    i64::from(libc::prctl(libc::PR_SET_PDEATHSIG, signal)),
                )?;
                if libc::getppid() != self.parent.raw() {
                    libc::_exit(127);
                }
            }
            if self.launch.no_new_privs {
                check(
                    Step::Flags,
                    i64::from(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
                )?;
            }
        }
        Ok(())
    }

    /// Its own pid into the variables that shall tell it.
    fn write_pids(&self) {
        // JUSTIFICATION: raw calls only; libc may remember the parent's. SAFETY: no memory involved.
        let pid = unsafe { libc::syscall(libc::SYS_getpid) };
        for (start, bytes) in &self.prepared.pids {
            let mut rest = pid;
            let mut digits = [0_u8; super::PID_ROOM];
            let mut count = 0;
            while rest > 0 && count + 1 < digits.len() {
                let digit = u8::try_from(rest % 10).unwrap_or(0);
                digits[count] = b'0' + digit;
                rest /= 10;
                count += 1;
            }
            let places = bytes.iter().skip(*start);
            for (place, digit) in places.zip(digits[..count].iter().rev()) {
                place.set(*digit);
            }
        }
    }

    /// execvp(3) over the prepared candidates; returns only the errno.
    fn exec(&self) -> i32 {
        let mut result = libc::ENOENT;
        for candidate in &self.prepared.candidates {
            match self.exec_one(candidate) {
                libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG => {}
                libc::EACCES => result = libc::EACCES,
                errno => return errno,
            }
        }
        result
    }

    fn exec_one(&self, path: &CStr) -> i32 {
        // JUSTIFICATION: raw calls only.
        // SAFETY: both vectors end with null and point to live C strings; a `Cell` is laid out as its content. The
        // arguments begin after `/bin/sh`; a script without `#!` gets that and its path in front of them.
        unsafe {
            let argv = self.argv.as_ptr().cast::<*const c_char>();
            libc::execve(path.as_ptr(), argv.add(1), self.envp.as_ptr());
            let errno = last_errno();
            if errno != libc::ENOEXEC {
                return errno;
            }
            if let Some(name) = self.argv.get(1) {
                name.set(path.as_ptr());
            }
            libc::execve(c"/bin/sh".as_ptr(), argv, self.envp.as_ptr());
            last_errno()
        }
    }
}

/// What this process ignores (SIGPIPE, at least), the program shall not.
fn default_dispositions() {
    // The kernel's struct (handler, flags, restorer, mask), all zero: SIG_DFL.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // JUSTIFICATION: raw calls only; libc's own refuses the two signals it keeps for itself, which may be ignored
        // too. SAFETY: SIG_DFL runs no code; the kernel reads 32 bytes at most, with a mask of 8 as it is told.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null::<u64>(),
                8,
            )
        };
    }
}

fn unblock_signals() {
    // JUSTIFICATION: raw calls only. SAFETY: an empty kernel signal set of 8 bytes, as the call is told.
    unsafe {
        let empty = 0_u64;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            ptr::null::<u64>(),
            8,
        );
    }
}
