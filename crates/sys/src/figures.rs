//! Figures of processes, groups and the machine, cheap enough for every second.
//!
//! A file of `/proc` that is kept open costs a microsecond to read again, a fifth of what opening it anew costs; and
//! a descriptor of `/proc/PID/…` is of that very process: once it has ended, reading fails, also if its number has
//! been given to another. Everything is parsed as bytes, without allocating.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::{
    call::{CallError, Result},
    pid::Pid,
    process,
};

/// Room for one read: the files below are shorter, or only their head matters.
const ROOM: usize = 4096;

/// A file that is read again and again from its beginning.
#[derive(Debug)]
pub struct Watched {
    file: OwnedFd,
}

impl Watched {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self> {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map(|file| Self { file })
            .map_err(|error| CallError::new("open", path.display(), error))
    }

    /// `/proc/PID/statm`, for [`Self::resident`].
    pub fn statm(pid: Pid) -> Result<Self> {
        Self::open(Path::new(&format!("/proc/{pid}/statm")))
    }

    /// Hands its first 4 KiB to `parse`. `None` where it cannot be read (the process or the group is gone) or parsed.
    fn read<T>(&self, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let mut room = [0_u8; ROOM];
        let length = rustix::io::pread(self.file.as_fd(), &mut room, 0).ok()?;
        parse(room.get(..length)?)
    }

    /// Of `/proc/PID/statm`: resident memory in bytes; 0 for a zombie. `None`: the process is gone.
    pub fn resident(&self) -> Option<u64> {
        let page = process::page_size() as u64;
        self.read(|text| numbers(text).nth(1)).map(|pages| pages * page)
    }

    /// Of a group's `cpu.stat` (v2): microseconds that it has used, processes that have ended included.
    pub fn group_cpu_us(&self) -> Option<u64> {
        self.read(|text| field(text, b"usage_usec "))
    }

    /// Of a group's `cgroup.procs`: its processes into `pids`, at most as many as stand in the first 4 KiB (about
    /// 600). `None`: the group is gone.
    pub fn group_processes(&self, pids: &mut Vec<Pid>) -> Option<()> {
        pids.clear();
        self.read(|text| {
            let found = numbers(text).filter_map(|number| Pid::from_unsigned(u32::try_from(number).ok()?));
            pids.extend(found);
            Some(())
        })
    }

    /// The first number of a file: `memory.current`, `/proc/loadavg` in hundredths by [`host`].
    pub fn number(&self) -> Option<u64> {
        self.read(|text| numbers(text).next())
    }
}

/// CPU time of a process with all its threads, of those that have ended too, in ns (`clock_getcpuclockid(3)`: the
/// number of the clock is made from the pid). `None`: there is no such process.
pub fn cpu_ns(pid: Pid) -> Option<u64> {
    const SCHED: libc::clockid_t = 2;
    let clock = (!pid.raw() << 3) | SCHED;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // JUSTIFICATION: rustix knows clocks by name and by descriptor, not those of other processes.
    // SAFETY: `time` is a timespec that lives longer than the call, which writes nothing else; a clock that does not
    // exist is an error.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) } != 0;
    if failed {
        return None;
    }
    let seconds = u64::try_from(time.tv_sec).ok()?;
    Some(
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::try_from(time.tv_nsec).ok()?),
    )
}

/// How many files a process has open. From Linux 6.2 on the directory's size tells; before, its entries are counted.
pub fn open_files(pid: Pid) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    let size = u64::try_from(rustix::fs::stat(&path).ok()?.st_size).ok()?;
    if size > 0 {
        return Some(size);
    }
    Some(fs::read_dir(&path).ok()?.count() as u64)
}

/// How many of a process' first `most` open files are sockets.
pub fn sockets(pid: Pid, most: usize) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let is_socket = |path: PathBuf| {
        fs::read_link(path).is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
    };
    let found = entries
        .take(most)
        .flatten()
        .filter(|entry| is_socket(entry.path()));
    Some(found.count() as u64)
}

/// What `/proc/PID/status` and `/proc/PID/io` tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    /// Threads.
    pub threads: u64,
    /// Bytes read from disks since its start; `None`: we may not see.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks since its start, without those that were taken back before.
    pub written_bytes: Option<u64>,
}

/// Threads and I/O of a process. `None`: it is gone.
pub fn slow(pid: Pid) -> Option<Slow> {
    let threads = read_once(&format!("/proc/{pid}/status"), |text| {
        field(text, b"\nThreads:\t")
    })?;
    let io = read_once(&format!("/proc/{pid}/io"), |text| {
        let written = field(text, b"\nwrite_bytes: ")?;
        let cancelled = field(text, b"\ncancelled_write_bytes: ").unwrap_or(0);
        Some((field(text, b"\nread_bytes: ")?, written.saturating_sub(cancelled)))
    });
    Some(Slow {
        threads,
        read_bytes: io.map(|(read, _)| read),
        written_bytes: io.map(|(_, written)| written),
    })
}

/// How often the first `most` threads of a process were put on a processor: its context switches.
pub fn switches(pid: Pid, most: usize) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of = |thread: fs::DirEntry| {
        let path = thread.path().join("schedstat");
        read_once(path.to_str()?, |text| numbers(text).nth(2))
    };
    Some(threads.take(most).flatten().filter_map(of).sum())
}

/// The soft limit of a row of `/proc/PID/limits`, such as `Max open files`. `None`: gone, or not limited.
pub fn limit(pid: Pid, row: &str) -> Option<u64> {
    read_once(&format!("/proc/{pid}/limits"), |text| field(text, row.as_bytes()))
}

/// The cgroup v2 of a process, as `/proc/PID/cgroup` has it: `/a/b`.
pub fn group_of(pid: Pid) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    (!path.starts_with("/..")).then(|| PathBuf::from(path))
}

/// The machine, in counters and levels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Host {
    /// Ticks that processors were busy since boot, those spent for guests and waiting for disks left out.
    pub busy_ticks: u64,
    /// Bytes of memory there are.
    pub memory_total: u64,
    /// Of those, what is not available.
    pub memory_used: u64,
    /// Bytes of swap in use.
    pub swap_used: u64,
    /// Load average over one minute, in hundredths.
    pub load_hundredths: u64,
    /// Bytes read from disks since boot.
    pub read_bytes: u64,
    /// Bytes written to disks since boot.
    pub written_bytes: u64,
    /// Bytes received by interfaces other than loopback.
    pub received_bytes: u64,
    /// Bytes sent by them.
    pub sent_bytes: u64,
}

/// The files of `/proc` that tell of the machine, kept open.
#[derive(Debug)]
pub struct HostFiles {
    stat: Option<Watched>,
    memory: Option<Watched>,
    load: Option<Watched>,
}

impl HostFiles {
    /// Opens what is there.
    pub fn open() -> Self {
        let open = |path: &str| Watched::open(Path::new(path)).ok();
        Self {
            stat: open("/proc/stat"),
            memory: open("/proc/meminfo"),
            load: open("/proc/loadavg"),
        }
    }

    /// What changes by the second: processors, memory, load. `None` where `/proc` does not tell.
    pub fn read(&self, host: &mut Host) -> Option<()> {
        host.busy_ticks = self.stat.as_ref()?.read(busy)?;
        (host.memory_total, host.memory_used, host.swap_used) = self.memory.as_ref()?.read(memory)?;
        host.load_hundredths = self.load.as_ref()?.read(hundredths)?;
        Some(())
    }
}

/// Disks and networks: dearer, for every ten seconds.
pub fn read_devices(host: &mut Host) {
    if let Ok(text) = fs::read_to_string("/proc/diskstats") {
        (host.read_bytes, host.written_bytes) = disks(&text, &|name| {
            Path::new("/sys/block")
                .join(name.replace('/', "!"))
                .join("device")
                .exists()
                || name.starts_with("vd")
                || name.starts_with("xvd")
        });
    }
    if let Ok(text) = fs::read_to_string("/proc/net/dev") {
        (host.received_bytes, host.sent_bytes) = networks(&text);
    }
}

/// Free bytes, for those who are not root, in the file system of a path.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The first line of `/proc/stat`: user nice system idle iowait irq softirq steal.
fn busy(text: &[u8]) -> Option<u64> {
    let line = text.strip_prefix(b"cpu ")?.split(|byte| *byte == b'\n').next()?;
    let busy = numbers(line).take(7).enumerate();
    Some(
        busy.filter(|(index, _)| ![3, 4].contains(index))
            .map(|(_, ticks)| ticks)
            .sum(),
    )
}

/// Total, used, and used swap of `/proc/meminfo`, bytes.
fn memory(text: &[u8]) -> Option<(u64, u64, u64)> {
    let total = field(text, b"MemTotal:")?;
    let available = field(text, b"\nMemAvailable:").or_else(|| field(text, b"\nMemFree:"))?;
    let swap = field(text, b"\nSwapTotal:").unwrap_or(0);
    let free = field(text, b"\nSwapFree:").unwrap_or(0);
    Some((
        total * 1024,
        total.saturating_sub(available) * 1024,
        swap.saturating_sub(free) * 1024,
    ))
}

/// `1.07 …` as 107.
fn hundredths(text: &[u8]) -> Option<u64> {
    let mut parts = numbers(text);
    Some(parts.next()? * 100 + parts.next()?)
}

/// Bytes read and written by whole disks: fields 6 and 10 count sectors of 512 bytes, whatever the disk's are.
fn disks(text: &str, is_disk: &dyn Fn(&str) -> bool) -> (u64, u64) {
    let (mut read, mut written) = (0_u64, 0_u64);
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let Some(name) = fields.next() else { continue };
        // A partition has no directory of its own in `/sys/block`, a loop or a mapped disk no device of its own.
        let partition = name.starts_with("vd") && name.ends_with(|last: char| last.is_ascii_digit());
        if partition || !is_disk(name) {
            continue;
        }
        let mut number = |skip: usize| {
            fields
                .nth(skip)
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        read = read.saturating_add(number(2).saturating_mul(512));
        written = written.saturating_add(number(3).saturating_mul(512));
    }
    (read, written)
}

/// Bytes received and sent by all interfaces but `lo`.
fn networks(text: &str) -> (u64, u64) {
    let (mut received, mut sent) = (0_u64, 0_u64);
    for (name, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() == "lo" {
            continue;
        }
        let mut numbers = rest
            .split_ascii_whitespace()
            .map(|text| text.parse::<u64>().unwrap_or(0));
        received = received.saturating_add(numbers.next().unwrap_or(0));
        sent = sent.saturating_add(numbers.nth(7).unwrap_or(0));
    }
    (received, sent)
}

fn read_once<T>(path: &str, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    Watched::open(Path::new(path)).ok()?.read(parse)
}

/// The unsigned numbers of a text, whatever stands between.
fn numbers(text: &[u8]) -> impl Iterator<Item = u64> {
    text.split(|byte| !byte.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.iter().fold(0_u64, |sum, digit| {
                sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
            })
        })
}

/// The number after a name, on its line.
fn field(text: &[u8], name: &[u8]) -> Option<u64> {
    let at = text.windows(name.len()).position(|window| window == name)?;
    let line = text.get(at + name.len()..)?.split(|byte| *byte == b'\n').next()?;
    numbers(line).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read_as_they_are_written() {
        assert_eq!(busy(b"cpu  10 1 5 900 40 2 3 4 0 0\ncpu0 1 1 1 1\n"), Some(21));
        let text =
            b"MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nSwapTotal: 9 kB\nSwapFree: 4 kB\n";
        assert_eq!(memory(text), Some((1_024_000, 614_400, 5120)));
        assert_eq!(hundredths(b"1.07 0.90 0.80 1/200 4711\n"), Some(107));
        let text = "  8 0 sda 5 0 100 7 6 0 200 8 0 9 9\n  8 1 sda1 5 0 100 7 6 0 200 8 0 9 9\n 7 0 loop0 1 0 9 0 0 0 0 0\n";
        assert_eq!(disks(text, &|name| name == "sda"), (51_200, 102_400));
        let text =
            "Inter-|   Receive\n face |bytes\n    lo: 5 0 0 0 0 0 0 0 5 0\n  eth0: 70 1 0 0 0 0 0 0 90 2 0\n";
        assert_eq!(networks(text), (70, 90));
    }

    #[test]
    fn this_process_has_figures() {
        let own = Pid::own();
        let statm = Watched::statm(own).unwrap();
        assert!(statm.resident().unwrap() > 1 << 18);
        let before = cpu_ns(own).unwrap();
        let mut sum = 0_u64;
        while cpu_ns(own).unwrap() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(open_files(own).unwrap() >= 3);
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(sockets(own, 10_000).unwrap() >= 2, "{socket:?}");
        let seen = slow(own).unwrap();
        assert!(seen.threads >= 2 && seen.read_bytes.is_some(), "{seen:?}");
        assert!(switches(own, 1000).unwrap() > 0);
        assert!(limit(own, "Max open files").unwrap() > 0);
        let mut host = Host::default();
        HostFiles::open().read(&mut host).unwrap();
        read_devices(&mut host);
        assert!(
            host.busy_ticks > 0 && host.memory_used < host.memory_total,
            "{host:?}"
        );
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
    }

    #[test]
    fn a_process_that_is_gone_has_none_also_if_its_number_is_taken() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_unsigned(child.id()).unwrap();
        let statm = Watched::statm(pid).unwrap();
        assert!(statm.resident().is_some() && cpu_ns(pid).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((statm.resident(), slow(pid)), (None, None));
    }
}
