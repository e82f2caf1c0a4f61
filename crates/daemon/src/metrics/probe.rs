//! Looking at one instance: its processes as one.
//!
//! | every | what | how |
//! |---|---|---|
//! | 1 s | its processes | `cgroup.procs` of its group; without a group every 10 s: session and descent |
//! | 1 s | processor time | `cpu.stat` of its group, which counts those that have ended; without one the clocks of its processes |
//! | 1 s | resident memory | `statm` of each, kept open |
//! | 10 s | threads, files, I/O | `status`, `fd`, `io` of each |
//! | 60 s | sockets, context switches | links in `fd`, `schedstat` of each thread |
//! | 600 s | proportional memory | `smaps_rollup`: the kernel walks the page tables for it |
//!
//! A tree that has used no processor time since the last look cannot have changed: then only its `cpu.stat` is read (but
//! once a minute all the same, for memory that the kernel takes away). Between two looks a value stands as it was. Counters are added up from differences, each process against its own
//! last look, so that nothing vanishes or goes back when a process ends, and none is taken for another that got its
//! number: a descriptor of its `/proc` directory is its own for ever.

use std::path::PathBuf;

use upkeep_sys::{
    Pid,
    figures::{self, Watched},
    process,
};

use super::columns::{WIDTH, instance};

/// Processes of one instance that are looked at; more are only counted.
const MEMBERS: usize = 64;
/// Open files of a process that are looked at for sockets.
const FILES: usize = 1024;
/// Threads of a process that are looked at for context switches.
const THREADS: usize = 64;

/// Ticks between looks.
const SLOW: u64 = 10;
const SLOWER: u64 = 60;
const DEAR: u64 = 600;

/// What has been counted since the process was started, or since we look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counters {
    pub(crate) cpu_seconds: f64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) switches: u64,
}

/// How many descriptors may be kept open.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) left: usize,
}

impl Budget {
    fn open(&mut self, open: impl FnOnce() -> Option<Watched>) -> Option<Watched> {
        if self.left == 0 {
            return None;
        }
        let opened = open()?;
        self.left -= 1;
        Some(opened)
    }
}

#[derive(Debug)]
struct Member {
    pid: Pid,
    statm: Option<Watched>,
    cpu_ns: Option<u64>,
    io: Option<(u64, u64)>,
    switches: Option<u64>,
}

#[derive(Debug)]
struct Group {
    processes: Watched,
    cpu: Watched,
    cpu_us: Option<u64>,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) pid: Pid,
    /// What is known of it now.
    pub(crate) values: [Option<f64>; WIDTH],
    pub(crate) counters: Counters,
    members: Vec<Member>,
    /// Processes, also those beyond [`MEMBERS`].
    count: usize,
    group: Option<Group>,
    /// It was started while we looked: its counters begin at nothing.
    fresh: bool,
    /// Spreads the dear looks of many instances.
    phase: u64,
    ticks: u64,
    /// Looks in a row at which it had used no processor time.
    idle_ticks: u64,
    io_at_ms: Option<u64>,
    switches_at_ms: Option<u64>,
}

impl Probe {
    /// Begins to look at a process. `groups`: where cgroup v2 is mounted.
    pub(crate) fn new(
        pid: Pid,
        fresh: bool,
        phase: u64,
        groups: Option<&PathBuf>,
        budget: &mut Budget,
    ) -> Self {
        let group = groups.and_then(|root| {
            let own = figures::group_of(pid)?;
            if !is_of_one_instance(&own) {
                return None;
            }
            let path = root.join(own.strip_prefix("/").ok()?);
            let processes = budget.open(|| Watched::open(&path.join("cgroup.procs")).ok())?;
            let cpu = budget.open(|| Watched::open(&path.join("cpu.stat")).ok())?;
            Some(Group {
                processes,
                cpu,
                cpu_us: fresh.then_some(0),
            })
        });
        let mut probe = Self {
            pid,
            values: [None; WIDTH],
            counters: Counters::default(),
            members: Vec::new(),
            count: 1,
            group,
            fresh,
            phase,
            ticks: 0,
            idle_ticks: 0,
            io_at_ms: None,
            switches_at_ms: None,
        };
        probe.add_member(pid, fresh, budget);
        probe
    }

    /// Descriptors that it holds.
    fn descriptors(&self) -> usize {
        let kept = self
            .members
            .iter()
            .filter(|member| member.statm.is_some())
            .count();
        kept + if self.group.is_some() { 2 } else { 0 }
    }

    /// Gives its descriptors back.
    pub(crate) fn close(self, budget: &mut Budget) {
        budget.left += self.descriptors();
    }

    /// Whether its processes have to be looked for by somebody else.
    pub(crate) fn needs_search(&self) -> bool {
        self.group.is_none()
    }

    fn add_member(&mut self, pid: Pid, fresh: bool, budget: &mut Budget) {
        self.members.push(Member {
            pid,
            statm: budget.open(|| Watched::statm(pid).ok()),
            cpu_ns: fresh.then_some(0),
            io: fresh.then_some((0, 0)),
            switches: fresh.then_some(0),
        });
    }

    /// Takes the list of its processes.
    pub(crate) fn set_members(&mut self, pids: &[Pid], budget: &mut Budget) {
        self.count = pids.len().max(1);
        let same = pids.len() == self.members.len()
            && self
                .members
                .iter()
                .zip(pids)
                .all(|(member, pid)| member.pid == *pid);
        if same {
            return;
        }
        let main = self.pid;
        self.members.retain(|member| {
            let stays = member.pid == main || pids.contains(&member.pid);
            if !stays && member.statm.is_some() {
                budget.left += 1;
            }
            stays
        });
        for pid in pids {
            if self.members.len() >= MEMBERS {
                break;
            }
            if !self.members.iter().any(|member| member.pid == *pid) {
                // It was not there a moment ago, unless this is the first look.
                let fresh = self.fresh || self.ticks > 1;
                self.add_member(*pid, fresh, budget);
            }
        }
        let order = |pid: Pid| pids.iter().position(|other| *other == pid);
        self.members.sort_by_key(|member| order(member.pid));
    }

    /// One look. `elapsed`: seconds since the last; `None` at the first. `false`: the process is gone.
    pub(crate) fn look(
        &mut self,
        elapsed: Option<f64>,
        now_ms: u64,
        scratch: &mut Vec<Pid>,
        budget: &mut Budget,
    ) -> bool {
        if self.group.is_none() {
            // Without a group it is not seen who has come and gone.
            self.idle_ticks = 0;
        }
        let cpu_seconds = self.cpu();
        self.counters.cpu_seconds += cpu_seconds;
        self.values[instance::CPU] = elapsed.map(|elapsed| cpu_seconds / elapsed.max(0.001));
        if cpu_seconds > 0.0 || self.ticks < SLOW || (self.ticks + self.phase).is_multiple_of(SLOWER) {
            self.idle_ticks = 0;
        } else {
            self.idle_ticks += 1;
        }
        if self.idle_ticks > SLOW {
            // It has slept since before the last slow look, which therefore still holds.
            self.ticks += 1;
            self.at_rest();
            return true;
        }
        if let Some(group) = &self.group
            && group.processes.group_processes(scratch).is_some()
        {
            self.set_members(scratch, budget);
        }
        let Some(resident) = self.resident() else {
            return false;
        };
        self.values[instance::MEMORY] = Some(resident as f64);
        self.values[instance::PROCESSES] = Some(self.count as f64);
        let due = |every: u64| self.ticks == 0 || (self.ticks + self.phase).is_multiple_of(every);
        let (slow, slower) = (due(SLOW), due(SLOWER));
        // Right after a start it would tell nothing.
        let dear = self.ticks == 30 || (self.ticks > 30 && (self.ticks + self.phase).is_multiple_of(DEAR));
        if slow {
            self.look_slowly(now_ms);
        }
        if slower {
            self.look_more_slowly(now_ms);
        }
        if dear {
            let shares = self
                .members
                .iter()
                .map(|member| process::proportional_kib(member.pid).ok());
            self.values[instance::PSS] = shares.sum::<Option<u64>>().map(|kib| kib as f64 * 1024.0);
        }
        self.ticks += 1;
        true
    }

    /// Nothing runs: rates are nothing.
    fn at_rest(&mut self) {
        for column in [instance::IO_READ, instance::IO_WRITE, instance::SWITCHES] {
            if let Some(Some(rate)) = self.values.get_mut(column) {
                *rate = 0.0;
            }
        }
    }

    /// Seconds of processor time since the last look.
    fn cpu(&mut self) -> f64 {
        if let Some(group) = &mut self.group
            && let Some(now) = group.cpu.group_cpu_us()
        {
            let before = group.cpu_us.replace(now).unwrap_or(now);
            return now.saturating_sub(before) as f64 / 1e6;
        }
        let mut sum = 0;
        for member in &mut self.members {
            let Some(now) = figures::cpu_ns(member.pid) else {
                continue;
            };
            let before = member.cpu_ns.replace(now).unwrap_or(now);
            sum += now.saturating_sub(before);
        }
        sum as f64 / 1e9
    }

    fn resident(&self) -> Option<u64> {
        let mut sum = 0;
        for member in &self.members {
            let resident = match &member.statm {
                Some(statm) => statm.resident(),
                None => Watched::statm(member.pid).ok().and_then(|statm| statm.resident()),
            };
            match resident {
                Some(resident) => sum += resident,
                None if member.pid == self.pid => return None,
                None => {}
            }
        }
        Some(sum)
    }

    fn look_slowly(&mut self, now_ms: u64) {
        let (mut threads, mut files) = (None, None);
        let (mut read, mut written, mut seen) = (0, 0, false);
        for member in &mut self.members {
            if let Some(found) = figures::slow(member.pid) {
                *threads.get_or_insert(0) += found.threads;
                if let (Some(now_read), Some(now_written)) = (found.read_bytes, found.written_bytes) {
                    let before = member.io.replace((now_read, now_written));
                    let (read_before, written_before) = before.unwrap_or((now_read, now_written));
                    read += now_read.saturating_sub(read_before);
                    written += now_written.saturating_sub(written_before);
                    seen = true;
                }
            }
            if let Some(found) = figures::open_files(member.pid) {
                *files.get_or_insert(0) += found;
            }
        }
        self.values[instance::THREADS] = threads.map(|count| count as f64);
        self.values[instance::FDS] = files.map(|count| count as f64);
        self.counters.read_bytes += read;
        self.counters.written_bytes += written;
        let before = self.io_at_ms.replace(now_ms).filter(|_| seen);
        let rate = |sum: u64| before.map(|before| per_second(sum, now_ms.saturating_sub(before)));
        self.values[instance::IO_READ] = rate(read);
        self.values[instance::IO_WRITE] = rate(written);
    }

    fn look_more_slowly(&mut self, now_ms: u64) {
        let mut sockets = None;
        let mut switches = 0;
        for member in &mut self.members {
            if let Some(found) = figures::sockets(member.pid, FILES) {
                *sockets.get_or_insert(0) += found;
            }
            if let Some(now) = figures::switches(member.pid, THREADS) {
                let before = member.switches.replace(now).unwrap_or(now);
                // Of threads that have ended nothing is left: the sum may go back.
                switches += now.saturating_sub(before);
            }
        }
        self.values[instance::SOCKETS] = sockets.map(|count| count as f64);
        self.counters.switches += switches;
        let before = self.switches_at_ms.replace(now_ms);
        self.values[instance::SWITCHES] =
            before.map(|before| per_second(switches, now_ms.saturating_sub(before)));
    }
}

fn per_second(sum: u64, elapsed_ms: u64) -> f64 {
    sum as f64 * 1000.0 / elapsed_ms.max(1) as f64
}

/// `…/upkeep-ID/NAME`: a group that the keeper made for one tree, and nobody else's.
fn is_of_one_instance(group: &std::path::Path) -> bool {
    group
        .parent()
        .and_then(|parent| parent.file_name())
        .is_some_and(|name| name.to_string_lossy().starts_with("upkeep-"))
}
