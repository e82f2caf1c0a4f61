//! `upkeep-child`: a program that behaves as its arguments say, so that a test reads as what happened.
//!
//! The arguments are a script: steps, done one after another. After the last step the program ends with code 0.
//!
//! ```text
//! upkeep-child print-pid ignore SIGTERM write-lines 100 --rate 50/s exit 3
//! ```
//!
//! | step | what it does |
//! |---|---|
//! | `write-lines N\|forever` | numbered lines `PREFIX 0000001 xxx…`, one write(2) each, counted from 1 |
//! | … `--size 100` | bytes of a line with its newline (longer if the number needs it) |
//! | … `--prefix TEXT` | first word of each line, `line` unless given; `%p` in it becomes the process id |
//! | … `--err` | to standard error |
//! | … `--rate 20000/s` | at most so many lines a second, evenly |
//! | … `--tally FILE` | keeps the number of lines whose write has returned in FILE (8 bytes, native order, `%p` works); it holds after any kind of death |
//! | `write-blob BYTES` | that many bytes `x` without a newline; `64K`, `1G` |
//! | `print TEXT`, `print-err TEXT` | one line |
//! | `print-pid`, `print-args`, `print-cwd`, `print-ids` | what the process is |
//! | `print-env` | the environment, sorted, a line each |
//! | `print-fds` | open descriptors and what they are, a line each |
//! | `stamp FILE` | appends `MONOTONIC_NS PID` to FILE: first step to see an exec, last step to see a death |
//! | `run-for SPAN` | sleeps: `200ms`, `2s`, `1m` |
//! | `wait` | sleeps until a signal ends it |
//! | `exit CODE` | ends |
//! | `crash [SIGNAL]` | ends by that signal, SIGSEGV unless given, without a core file |
//! | `crash-once FILE` | crashes if FILE is not there, and makes it; else goes on |
//! | `ignore SIGNAL` | ignores it from now on |
//! | `on SIGNAL exit CODE [after SPAN]` | what the signal does from now on; the script stands still meanwhile |
//! | `close-stdout`, `close-stderr` | closes the descriptor |
//! | `daemonize` | forks twice with a new session between; the first process exits 0, the script goes on in the last |
//! | `spawn-tree DEPTH [--setsid]` | a chain of that many descendants that ignore SIGTERM and wait; each in its own session if asked |
//! | `listen PORT` | answers HTTP on 127.0.0.1:PORT (0 = any) with `ok PID` from now on, prints `listening PORT` |
//! | `alloc MB` | takes and touches that much memory |
//! | `tag TEXT` | nothing: a word to find the process by |

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    net::TcpListener,
    os::{fd::BorrowedFd, unix::process::CommandExt as _},
    process::{Command, ExitCode},
    sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Exit code of a script that makes no sense.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    // Rust programs ignore SIGPIPE; the programs we stand for mostly do not.
    disposition(libc::SIGPIPE, libc::SIG_DFL);
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut words = Words {
        rest: words.into_iter().peekable(),
    };
    loop {
        match step(&mut words) {
            Ok(Next::Step) => {}
            Ok(Next::End(code)) => return ExitCode::from(code),
            Err(problem) => {
                let _ = write_all(2, format!("upkeep-child: {problem}\n").as_bytes()); // nothing left to tell
                return ExitCode::from(USAGE);
            }
        }
    }
}

/// What follows a step.
enum Next {
    Step,
    End(u8),
}

/// The words of the script that are still to come.
struct Words {
    rest: std::iter::Peekable<std::vec::IntoIter<String>>,
}

impl Words {
    fn need(&mut self, what: &str) -> Result<String, String> {
        self.rest.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.need(what)?;
        word.parse().map_err(|_| format!("`{word}` is no {what}"))
    }

    fn span(&mut self) -> Result<Duration, String> {
        let word = self.need("a span such as 200ms")?;
        parse_span(&word).ok_or_else(|| format!("`{word}` is no span such as 200ms, 2s or 1m"))
    }

    fn signal(&mut self) -> Result<i32, String> {
        let word = self.need("a signal")?;
        parse_signal(&word).ok_or_else(|| format!("`{word}` is no signal"))
    }

    fn take(&mut self, flag: &str) -> bool {
        self.rest.next_if(|word| word == flag).is_some()
    }
}

fn step(words: &mut Words) -> Result<Next, String> {
    let Some(word) = words.rest.next() else {
        return Ok(Next::End(0));
    };
    let io_text = |error: io::Error| format!("{word}: {error}");
    match word.as_str() {
        "write-lines" => write_lines(words)?,
        "write-blob" => {
            let size = words.need("a number of bytes")?;
            write_blob(parse_size(&size).ok_or_else(|| format!("`{size}` is no size"))?).map_err(io_text)?;
        }
        "print" => say(1, &words.need("a text")?)?,
        "print-err" => say(2, &words.need("a text")?)?,
        "print-pid" => say(1, &std::process::id().to_string())?,
        "print-args" => {
            for (index, arg) in std::env::args().enumerate() {
                say(1, &format!("{index}={arg}"))?;
            }
        }
        "print-cwd" => say(
            1,
            &std::env::current_dir().map_err(io_text)?.display().to_string(),
        )?,
        "print-ids" => say(1, &ids())?,
        "print-env" => print_env()?,
        "print-fds" => print_fds().map_err(io_text)?,
        "stamp" => stamp(&words.need("a file")?).map_err(io_text)?,
        "run-for" => nap(words.span()?),
        "wait" => loop {
            nap(Duration::from_hours(1));
        },
        "exit" => return Ok(Next::End(words.number("exit code")?)),
        "crash" => {
            let signal = match words.rest.peek().and_then(|word| parse_signal(word)) {
                Some(signal) => {
                    words.rest.next();
                    signal
                }
                None => libc::SIGSEGV,
            };
            crash(signal);
        }
        "crash-once" => {
            let file = words.need("a file")?;
            if OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&file)
                .is_ok()
            {
                crash(libc::SIGSEGV);
            }
        }
        "ignore" => disposition(words.signal()?, libc::SIG_IGN),
        "on" => on_signal(words)?,
        "close-stdout" => close(1),
        "close-stderr" => close(2),
        "daemonize" => daemonize().map_err(io_text)?,
        "spawn-tree" => {
            let depth = words.number("depth")?;
            spawn_tree(depth, words.take("--setsid")).map_err(io_text)?;
        }
        "listen" => listen(words.number("port")?).map_err(io_text)?,
        "alloc" => alloc(words.number("number of megabytes")?),
        "tag" => drop(words.need("a text")?),
        other => return Err(format!("unknown step `{other}`")),
    }
    Ok(Next::Step)
}

// ---- output

/// Writes it all, with as few calls as the kernel needs; waits where the descriptor says "try again".
fn write_all(fd: i32, mut bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is one of the standard three. If the script closed it, the kernel answers EBADF, or the
    // bytes go to the file that took its number, as they would in any program.
    let target = unsafe { BorrowedFd::borrow_raw(fd) };
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut fds = [rustix::event::PollFd::new(&target, rustix::event::PollFlags::OUT)];
                let _ = rustix::event::poll(&mut fds, None); // the next write says what is wrong
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn say(fd: i32, text: &str) -> Result<(), String> {
    write_all(fd, format!("{text}\n").as_bytes()).map_err(|error| format!("write: {error}"))
}

fn with_pid(text: &str) -> String {
    text.replace("%p", &std::process::id().to_string())
}

fn write_lines(words: &mut Words) -> Result<(), String> {
    let count = match words.need("a number of lines, or `forever`")?.as_str() {
        "forever" => u64::MAX,
        number => number
            .parse()
            .map_err(|_| format!("`{number}` is no number of lines"))?,
    };
    let (mut size, mut prefix, mut fd, mut pause, mut tally) = (100_usize, "line".to_owned(), 1, None, None);
    loop {
        if words.take("--size") {
            size = words.number("line size")?;
        } else if words.take("--prefix") {
            prefix = with_pid(&words.need("a prefix")?);
        } else if words.take("--err") {
            fd = 2;
        } else if words.take("--rate") {
            let rate = words.need("a rate")?;
            let number: f64 = rate
                .trim_end_matches("/s")
                .parse()
                .map_err(|_| format!("`{rate}` is no rate such as 50/s"))?;
            pause = Some(Duration::from_secs_f64(1.0 / number));
        } else if words.take("--tally") {
            tally = Some(
                Tally::open(&with_pid(&words.need("a file")?)).map_err(|error| format!("tally: {error}"))?,
            );
        } else {
            break;
        }
    }
    let start = Instant::now();
    let mut line = String::with_capacity(size + 32);
    let mut due = Duration::ZERO;
    for number in 1..=count {
        line.clear();
        let _ = write!(line, "{prefix} {number:07} "); // a String takes everything
        while line.len() + 1 < size {
            line.push('x');
        }
        line.push('\n');
        write_all(fd, line.as_bytes()).map_err(|error| format!("line {number}: {error}"))?;
        if let Some(tally) = &tally {
            tally.set(number);
        }
        if let Some(pause) = pause {
            due += pause;
            let ahead = due.saturating_sub(start.elapsed());
            // A timer is not finer than this, and a late line is followed by the next at once.
            if ahead > Duration::from_micros(200) {
                nap(ahead);
            }
        }
    }
    Ok(())
}

/// A number in a file that outlives us however we die: a shared mapping, so that counting costs no system call.
struct Tally(&'static AtomicU64);

impl Tally {
    fn open(path: &str) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.set_len(8)?;
        // SAFETY: a new mapping of 8 bytes at an address the kernel chooses touches no memory of ours.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                8,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                &file,
                0,
            )?
        };
        // SAFETY: the mapping is page aligned, 8 bytes long, never unmapped, and only reached through the atomic.
        Ok(Self(unsafe { AtomicU64::from_ptr(at.cast()) }))
    }

    fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }
}

fn write_blob(mut bytes: u64) -> io::Result<()> {
    let chunk = vec![b'x'; 64 * 1024];
    while bytes > 0 {
        let part = usize::try_from(bytes).unwrap_or(usize::MAX).min(chunk.len());
        write_all(1, &chunk[..part])?;
        bytes -= part as u64;
    }
    Ok(())
}

fn print_env() -> Result<(), String> {
    let mut lines: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    lines.sort();
    lines.iter().try_for_each(|line| say(1, line))
}

fn print_fds() -> io::Result<()> {
    let mut lines = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // The listing's own descriptor is gone or going; it is the one that points at the listing.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if !target.ends_with("fd") {
            lines.push(format!(
                "{} {}\n",
                entry.file_name().to_string_lossy(),
                target.display()
            ));
        }
    }
    lines.sort();
    write_all(1, lines.concat().as_bytes())
}

fn ids() -> String {
    let groups = rustix::process::getgroups().unwrap_or_default();
    let groups: Vec<String> = groups.iter().map(|group| group.as_raw().to_string()).collect();
    format!(
        "uid={} gid={} groups={} pgid={} sid={}",
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
        groups.join(","),
        rustix::process::getpgrp().as_raw_nonzero(),
        rustix::process::getsid(None).map_or(0, |sid| sid.as_raw_nonzero().get()),
    )
}

fn stamp(path: &str) -> io::Result<()> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let text = format!(
        "{} {}\n",
        now.tv_sec * 1_000_000_000 + now.tv_nsec,
        std::process::id()
    );
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?
        .write_all(text.as_bytes())
}

// ---- time, signals, ends

fn nap(span: Duration) {
    let deadline = Instant::now() + span;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let request = rustix::time::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let _ = rustix::thread::nanosleep(&request); // woken early: the loop sleeps the rest
    }
}

fn disposition(signal: i32, handler: libc::sighandler_t) {
    // SAFETY: SIG_DFL, SIG_IGN or `leave`, which calls only what may be called from a handler.
    unsafe { libc::signal(signal, handler) };
}

static LEAVE_CODE: [AtomicI32; 65] = [const { AtomicI32::new(0) }; 65];
static LEAVE_AFTER_MS: [AtomicI64; 65] = [const { AtomicI64::new(0) }; 65];

extern "C" fn leave(signal: i32) {
    let index = usize::try_from(signal).unwrap_or(0).min(64);
    let millis = LEAVE_AFTER_MS[index].load(Ordering::Relaxed);
    let pause = libc::timespec {
        tv_sec: millis / 1000,
        tv_nsec: millis % 1000 * 1_000_000,
    };
    // SAFETY: nanosleep and _exit are on the list of functions that a signal handler may call.
    unsafe {
        libc::nanosleep(&raw const pause, std::ptr::null_mut());
        libc::_exit(LEAVE_CODE[index].load(Ordering::Relaxed));
    }
}

fn on_signal(words: &mut Words) -> Result<(), String> {
    let signal = words.signal()?;
    if !words.take("exit") {
        return Err("`on SIGNAL` is followed by `exit CODE`".to_owned());
    }
    let code: u8 = words.number("exit code")?;
    let after = if words.take("after") {
        words.span()?
    } else {
        Duration::ZERO
    };
    let index = usize::try_from(signal).unwrap_or(0).min(64);
    LEAVE_CODE[index].store(code.into(), Ordering::Relaxed);
    LEAVE_AFTER_MS[index].store(
        i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Ordering::Relaxed,
    );
    let handler: extern "C" fn(i32) = leave;
    disposition(signal, handler as *const () as libc::sighandler_t);
    Ok(())
}

fn crash(signal: i32) -> ! {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none); // a core file is only litter
    disposition(signal, libc::SIG_DFL);
    // SAFETY: both calls take plain numbers; `raise` returns only for a signal that does not end a process.
    unsafe {
        libc::raise(signal);
        libc::_exit(i32::from(USAGE))
    }
}

fn close(fd: i32) {
    // SAFETY: nothing here holds the standard descriptors as owned values; later writes see EBADF.
    unsafe { libc::close(fd) };
}

fn daemonize() -> io::Result<()> {
    for round in 0..2 {
        // SAFETY: no other thread runs yet (only `listen` starts any, and it comes after in a sensible script), so
        // the copy may go on as if nothing had happened.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {}
            // SAFETY: ends this process; what is left to do, the copy does.
            _ => unsafe { libc::_exit(0) },
        }
        if round == 0 {
            rustix::process::setsid()?;
        }
    }
    Ok(())
}

fn spawn_tree(depth: u32, own_session: bool) -> io::Result<()> {
    if depth == 0 {
        return Ok(());
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["ignore", "SIGTERM", "spawn-tree", &(depth - 1).to_string()]);
    if own_session {
        command.arg("--setsid");
        // SAFETY: setsid is one system call and may be made between fork and exec.
        unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from)) };
    }
    command.arg("wait");
    drop(command.spawn()?); // it lives on: that is the point
    Ok(())
}

fn listen(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0_u8; 4096];
            let _ = stream.read(&mut request); // whatever was asked, the answer is the same
            let body = format!("ok {}\n", std::process::id());
            let length = body.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes()); // the caller went away
        }
    });
    write_all(1, format!("listening {port}\n").as_bytes())
}

fn alloc(megabytes: usize) {
    let memory = vec![1_u8; megabytes * 1024 * 1024];
    std::hint::black_box(Box::leak(memory.into_boxed_slice()));
}

// ---- words to values

fn parse_span(text: &str) -> Option<Duration> {
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    Some(match &text[digits..] {
        "us" => Duration::from_micros(number),
        "" | "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_mins(number),
        _ => return None,
    })
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    Some(match &text[digits..] {
        "" => number,
        "K" => number << 10,
        "M" => number << 20,
        "G" => number << 30,
        _ => return None,
    })
}

fn parse_signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    Some(match text.strip_prefix("SIG").unwrap_or(text) {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "ABRT" => libc::SIGABRT,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "SEGV" => libc::SIGSEGV,
        "USR2" => libc::SIGUSR2,
        "PIPE" => libc::SIGPIPE,
        "ALRM" => libc::SIGALRM,
        "TERM" => libc::SIGTERM,
        "CHLD" => libc::SIGCHLD,
        "WINCH" => libc::SIGWINCH,
        _ => return None,
    })
}
