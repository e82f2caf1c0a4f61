//! Signals: received as data through a descriptor, sent to processes and groups.

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::{
    call::{CallError, Result},
    pid::Pid,
};

/// Signals that are delivered as data. They are blocked for the whole thread as long as this process lives, and
/// across an exec in place, so that none is lost between two programs.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Who sent it, if a process did.
    pub sender: Option<Pid>,
}

impl SignalFd {
    /// Blocks these signals and opens a non-blocking descriptor for them, CLOEXEC.
    pub fn new(signals: &[i32]) -> Result<Self> {
        let set = set_of(signals);
        // JUSTIFICATION: rustix has neither signalfd nor a safe pthread_sigmask.
        // SAFETY: `set` is initialised and outlives both calls; the descriptor is new and owned by nobody else.
        let fd = unsafe {
            if libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(CallError::last("sigprocmask", format!("{signals:?}")));
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(CallError::last("signalfd", format!("{signals:?}")));
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { fd })
    }

    /// The next signal; `None` if none waits.
    pub fn read(&self) -> Result<Option<Received>> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        loop {
            // JUSTIFICATION: the kernel writes a C struct.
            // SAFETY: the buffer is exactly the struct's size, zeroed, and any bytes are a valid value of it.
            let (count, info) = unsafe {
                let count = libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), SIZE);
                (count, info.assume_init_ref())
            };
            if usize::try_from(count) == Ok(SIZE) {
                return Ok(Some(Received {
                    signal: info.ssi_signo.cast_signed(),
                    sender: Pid::new(info.ssi_pid.cast_signed()),
                }));
            }
            match std::io::Error::last_os_error() {
                error if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                error if error.kind() == std::io::ErrorKind::Interrupted => {}
                error => return Err(CallError::from_io("read signalfd", self.fd.as_raw_fd(), &error)),
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // JUSTIFICATION: sigset_t is opaque; libc's own functions are the only way to fill it.
    // SAFETY: `sigemptyset` initialises it before anything reads it; a wrong signal number is an EINVAL.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// All signals blocked, until dropped: nothing of ours runs in between (around a fork).
#[derive(Debug)]
pub(crate) struct AllBlocked {
    before: libc::sigset_t,
}

impl AllBlocked {
    pub(crate) fn new() -> Self {
        // JUSTIFICATION: rustix has no safe sigprocmask.
        // SAFETY: both sets are initialised and live through the call.
        unsafe {
            let mut all = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
            let mut before = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        // JUSTIFICATION: as above. SAFETY: `before` was filled by the kernel.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}

/// Ignores a signal from now on. Children started by [`crate::spawn`] get the default back.
pub fn ignore(signal: i32) -> Result<()> {
    // JUSTIFICATION: rustix' `sigaction` is unsafe and experimental.
    // SAFETY: SIG_IGN runs no code of ours.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        Err(CallError::last("signal", signal))
    } else {
        Ok(())
    }
}

/// Sends a signal to one process. 0 only asks whether it is there.
pub fn send(pid: Pid, signal: i32) -> Result<()> {
    kill(pid.raw(), "kill", signal)
}

/// Sends a signal to a process group, by the pid of its leader. 0 only asks whether it has members.
pub fn send_to_group(leader: Pid, signal: i32) -> Result<()> {
    kill(-leader.raw(), "kill group", signal)
}

fn kill(target: i32, call: &'static str, signal: i32) -> Result<()> {
    // JUSTIFICATION: rustix' `Signal` has no safe constructor for real-time signals.
    // SAFETY: kill(2) touches no memory of ours; `Pid` rules out 0 and -1.
    if unsafe { libc::kill(target, signal) } < 0 {
        Err(CallError::last(call, target))
    } else {
        Ok(())
    }
}

/// Whether a signal number exists: 1 to 64.
pub const fn is_valid(signal: i32) -> bool {
    signal >= 1 && signal <= 64
}

/// The numbers the project speaks of by name.
pub mod number {
    /// Hang-up.
    pub const HUP: i32 = libc::SIGHUP;
    /// Interrupt.
    pub const INT: i32 = libc::SIGINT;
    /// Quit.
    pub const QUIT: i32 = libc::SIGQUIT;
    /// Kill.
    pub const KILL: i32 = libc::SIGKILL;
    /// User-defined 1.
    pub const USR1: i32 = libc::SIGUSR1;
    /// User-defined 2.
    pub const USR2: i32 = libc::SIGUSR2;
    /// Writing where nobody reads.
    pub const PIPE: i32 = libc::SIGPIPE;
    /// Terminate.
    pub const TERM: i32 = libc::SIGTERM;
    /// A child changed state.
    pub const CHLD: i32 = libc::SIGCHLD;
    /// Continue.
    pub const CONT: i32 = libc::SIGCONT;
    /// Stop.
    pub const STOP: i32 = libc::SIGSTOP;
}
