//! Small things of the machine: sockets, signals, figures.

use std::{cell::RefCell, collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::{Map, Value, json};
use tokio::net::UnixListener;
use upkeep_sys::clock;

/// Linux's signals on x86-64 and aarch64.
const SIGNALS: [(&str, i32); 31] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

/// A signal by its name (`SIGUSR2`) or number.
pub(super) fn signal_number(name: &str) -> Option<i32> {
    SIGNALS
        .iter()
        .find_map(|(known, number)| (*known == name).then_some(*number))
        .or_else(|| name.parse().ok().filter(|number| (0..=64).contains(number)))
}

/// The name of a signal.
pub(super) fn signal_name(number: i32) -> String {
    SIGNALS
        .iter()
        .find_map(|(name, known)| (*known == number).then(|| (*name).to_owned()))
        .unwrap_or_else(|| number.to_string())
}

/// A random UUID, the kernel's.
pub(super) fn uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Binds a socket of the home. A file that an earlier daemon left there is in the way: only one keeper can hold this
/// home's lock, so nobody listens there.
pub(super) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    // Not there is as good.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("failed to listen on `{}`: {error}", path.display()),
        )
    })?;
    // Node's mode; the folder above decides who gets here.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o775))?;
    let id = |name: &str| std::env::var(name).ok().and_then(|id| id.parse().ok());
    if let (Some(user), Some(group)) = (id("PM2_SOCKET_USER"), id("PM2_SOCKET_GROUP")) {
        std::os::unix::fs::chown(path, Some(user), Some(group))?;
    }
    Ok(listener)
}

/// Figures of the host, as rates since the look before.
#[derive(Debug, Default)]
pub(super) struct System {
    last: RefCell<Option<Look>>,
}

#[derive(Clone, Debug)]
struct Look {
    at_ms: u64,
    busy: u64,
    total: u64,
    /// By interface: bytes in, bytes out.
    net: BTreeMap<String, (u64, u64)>,
    read: u64,
    written: u64,
}

fn metric(value: impl Into<Value>, unit: &str) -> Value {
    json!({"value": plain(value.into()), "type": "metric", "unit": unit, "historic": true})
}

/// A whole number without a fraction, as JavaScript writes it.
fn plain(value: Value) -> Value {
    match value.as_f64() {
        // Exact below 2^53.
        #[allow(clippy::cast_possible_truncation)]
        Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
        _ => value,
    }
}

/// To two decimals.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn look() -> Look {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let numbers = |text: &str| -> Vec<u64> {
        text.split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let stat = read("/proc/stat");
    let cpu = numbers(stat.lines().next().unwrap_or_default());
    let total: u64 = cpu.iter().take(8).sum();
    let idle = cpu.get(3).copied().unwrap_or(0) + cpu.get(4).copied().unwrap_or(0);
    let mut net = BTreeMap::new();
    for line in read("/proc/net/dev").lines().skip(2) {
        if let Some((name, rest)) = line.split_once(':') {
            let figures = numbers(rest);
            if let (Some(received), Some(sent)) = (figures.first(), figures.get(8)) {
                net.insert(name.trim().to_owned(), (*received, *sent));
            }
        }
    }
    let (mut sectors_read, mut sectors_written) = (0, 0);
    for line in read("/proc/diskstats").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Whole disks only: a partition's figures are in its disk's.
        let Some(name) = words.get(2) else { continue };
        if Path::new("/sys/block").join(name).exists() {
            let figure = |at: usize| {
                words
                    .get(at)
                    .and_then(|word| word.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            sectors_read += figure(5);
            sectors_written += figure(9);
        }
    }
    Look {
        at_ms: clock::monotonic_ms(),
        busy: total.saturating_sub(idle),
        total,
        net,
        read: sectors_read * 512,
        written: sectors_written * 512,
    }
}

impl System {
    /// What `getSystemData` tells.
    pub(super) fn metrics(&self) -> Value {
        let now = look();
        let last = self
            .last
            .replace(Some(now.clone()))
            .unwrap_or_else(|| now.clone());
        let seconds = (now.at_ms.saturating_sub(last.at_ms)).max(1) as f64 / 1000.0;
        let rate = |now: u64, last: u64| round(now.saturating_sub(last) as f64 / seconds / 1_048_576.0);
        let cpu = match now.total.saturating_sub(last.total) {
            0 => 0.0,
            total => round(now.busy.saturating_sub(last.busy) as f64 * 100.0 / total as f64),
        };
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = |name: &str| {
            memory
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let (total, available) = (kib("MemTotal") * 1024, kib("MemAvailable") * 1024);
        let used = total.saturating_sub(available);
        let mut metrics = Map::new();
        let mut put = |name: String, value: Value| metrics.insert(name, value);
        put("CPU Usage".to_owned(), metric(cpu, "%"));
        put(
            "RAM Usage".to_owned(),
            metric((used as f64 * 1000.0 / total.max(1) as f64).round() / 10.0, "%"),
        );
        put("RAM Total".to_owned(), metric(total, "b"));
        put("RAM Available".to_owned(), metric(available, "b"));
        put("RAM Active".to_owned(), metric(used, "b"));
        for (name, (received, sent)) in &now.net {
            let (received_before, sent_before) = last.net.get(name).copied().unwrap_or((*received, *sent));
            put(
                format!("net:rx_5:{name}"),
                metric(rate(*received, received_before), "mb/s"),
            );
            put(
                format!("net:tx_5:{name}"),
                metric(rate(*sent, sent_before), "mb/s"),
            );
        }
        put("Disk Reads".to_owned(), metric(rate(now.read, last.read), "mb/s"));
        put(
            "Disk Writes".to_owned(),
            metric(rate(now.written, last.written), "mb/s"),
        );
        if let Ok(root) = rustix::fs::statvfs("/") {
            let size = root.f_blocks * root.f_frsize;
            let free = root.f_bfree * root.f_frsize;
            let use_ = (size - free) as f64 * 100.0 / size.max(1) as f64;
            put("fs:use:/".to_owned(), metric(round(use_), "%"));
            put("fs:size:/".to_owned(), metric(round(size as f64 / 1e9), "gb"));
        }
        Value::Object(metrics)
    }
}
