//! The thread that looks, once a second.
//!
//! It wakes in the middle of each second of Unix time, so that every row has a second of its own. It takes from the
//! directory which processes there are, and keeps a [`Probe`] of each for as long as it is the same process.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use upkeep_api::body::Event;
use upkeep_store::Txn;
use upkeep_sys::{Pid, cgroup, clock, figures, process};

use super::{
    Latest, Metrics, Reports,
    columns::{Values, WIDTH, host, instance},
    history::SeriesName,
    leaks::{self, Watch},
    probe::{Budget, Probe},
};
use crate::{
    apps::directory::Directory,
    events::{self, Events},
    logs::pump::Statuses,
    main_loop::note,
};

/// A process that is younger than this when we first see it was started under our eyes, ms.
const FRESH_MS: u64 = 3000;
/// A report of a program counts for so long, ms: they come every ten seconds, and one may be late.
const REPORT_MS: u64 = 25_000;

/// What the sampler reads.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) directory: Arc<Directory>,
    /// Where leaks are told.
    pub(super) events: Events,
    pub(super) statuses: Statuses,
    pub(super) home: PathBuf,
}

#[derive(Debug)]
struct Looked {
    name: SeriesName,
    series: u32,
    probe: Probe,
    watch: Watch,
    restarts: u32,
    lines: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Sampler {
    sources: Sources,
    metrics: Arc<Metrics>,
    /// By process.
    looked: HashMap<Pid, Looked>,
    budget: Budget,
    groups: Option<PathBuf>,
    machine: Machine,
    machine_series: u32,
    last_ms: Option<u64>,
    ticks: u64,
    scratch: Vec<Pid>,
}

/// The machine's own figures.
#[derive(Debug)]
struct Machine {
    files: figures::HostFiles,
    now: figures::Host,
    values: Values,
    devices_at_ms: Option<u64>,
}

impl Sampler {
    pub(super) fn new(sources: Sources, metrics: Arc<Metrics>) -> Self {
        // Logs have the first claim on descriptors.
        let limit = upkeep_sys::rlimit::get(upkeep_sys::rlimit::OPEN_FILES).map_or(1024, |limit| limit.soft);
        let machine_series = metrics.history.id(&SeriesName::HOST);
        Self {
            sources,
            metrics,
            looked: HashMap::new(),
            budget: Budget {
                left: usize::try_from(limit / 16).unwrap_or(usize::MAX),
            },
            groups: cgroup::mounted().ok().map(|(_, root)| root),
            machine: Machine {
                files: figures::HostFiles::open(),
                now: figures::Host::default(),
                values: [None; WIDTH],
                devices_at_ms: None,
            },
            machine_series,
            last_ms: None,
            ticks: 0,
            scratch: Vec::new(),
        }
    }

    /// Looks every second until the other end of `stop` is dropped.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        loop {
            let wait = 1000 - (clock::unix_ms() + 500) % 1000;
            match stop.recv_timeout(Duration::from_millis(wait)) {
                Err(RecvTimeoutError::Timeout) => self.tick(),
                _ => break,
            }
        }
        self.metrics.history.end();
    }

    /// One second.
    pub(super) fn tick(&mut self) {
        let (now_ms, unix_s) = (clock::monotonic_ms(), clock::unix_ms() / 1000);
        let elapsed = self
            .last_ms
            .map(|last| now_ms.saturating_sub(last).max(1) as f64 / 1000.0);
        self.follow_directory(now_ms);
        if self.ticks.is_multiple_of(10) {
            self.search();
        }
        let reports = self
            .metrics
            .reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut gone = Vec::new();
        for (pid, looked) in &mut self.looked {
            let alive = looked
                .probe
                .look(elapsed, now_ms, &mut self.scratch, &mut self.budget);
            if !alive {
                gone.push(*pid);
            }
            looked.own_figures(&reports, now_ms);
        }
        if self.ticks.is_multiple_of(10) {
            self.log_lines();
            self.metrics.look_for_kills();
        }
        if self.ticks.is_multiple_of(leaks::every()) {
            self.look_for_leaks(now_ms);
        }
        self.machine.look(elapsed, now_ms, &self.sources.home);
        self.publish(now_ms, &gone);
        let history = &self.metrics.history;
        if self.ticks.is_multiple_of(60) {
            history.set_known(self.sources.directory.read().keys().cloned().collect());
        }
        let rows = self
            .looked
            .values()
            .filter(|looked| !gone.contains(&looked.probe.pid));
        let rows = rows.map(|looked| (looked.series, &looked.name, &looked.probe.values));
        let machine = (self.machine_series, &SeriesName::HOST, &self.machine.values);
        history.push(unix_s, rows.chain([machine]));
        for pid in gone {
            self.forget(pid);
        }
        self.last_ms = Some(now_ms);
        self.ticks += 1;
    }

    /// Begins with processes that are new, ends with those that are gone.
    fn follow_directory(&mut self, now_ms: u64) {
        let mut present = HashSet::with_capacity(self.looked.len());
        let mut new = Vec::new();
        for (app, entry) in self.sources.directory.read().iter() {
            for status in &entry.status.borrow().instances {
                let Some(pid) = status.view.pid.and_then(Pid::from_unsigned) else {
                    continue;
                };
                let known = self.looked.get_mut(&pid).filter(|looked| {
                    looked.name.index == status.index && looked.name.app.as_ref() == Some(app)
                });
                present.insert(pid);
                match known {
                    Some(looked) => looked.restarts = status.view.restarts,
                    None => new.push((
                        app.clone(),
                        status.index,
                        pid,
                        status.view.started_ms,
                        entry
                            .record
                            .spec
                            .limits
                            .memory
                            .map(|limit| limit.as_bytes() as f64),
                        status.view.restarts,
                    )),
                }
            }
        }
        let ended: Vec<Pid> = self
            .looked
            .keys()
            .filter(|pid| !present.contains(pid))
            .copied()
            .collect();
        for pid in ended {
            self.forget(pid);
        }
        for (app, index, pid, started_ms, limit, restarts) in new {
            let name = SeriesName {
                app: Some(app),
                index,
            };
            let series = self.metrics.history.id(&name);
            let fresh = started_ms.is_some_and(|started| now_ms < started + FRESH_MS);
            let probe = Probe::new(
                pid,
                fresh,
                u64::from(series),
                self.groups.as_ref(),
                &mut self.budget,
            );
            let looked = Looked {
                watch: Watch::new(pid, started_ms.unwrap_or(now_ms), limit),
                name,
                series,
                probe,
                restarts,
                lines: None,
            };
            if let Some(before) = self.looked.insert(pid, looked) {
                before.probe.close(&mut self.budget);
            }
        }
    }

    /// A process has ended.
    fn forget(&mut self, pid: Pid) {
        if let Some(mut looked) = self.looked.remove(&pid) {
            self.tell(looked.watch.news(&[], events::now(), true));
            looked.probe.close(&mut self.budget);
        }
    }

    /// Writes events down.
    fn tell(&self, news: Vec<Event>) {
        if !news.is_empty() {
            self.sources.events.commit_all(Txn::default(), news, |result| {
                if let Err(error) = result {
                    note(&format!("what leaks could not be told: {error}"));
                }
            });
        }
    }

    /// Where there is no group: one walk over all processes for all instances.
    fn search(&mut self) {
        if !self.looked.values().any(|looked| looked.probe.needs_search()) {
            return;
        }
        let Ok(stats) = process::list_stats() else { return };
        let parents: HashMap<i32, (i32, i32)> = stats
            .iter()
            .map(|stat| (stat.pid.raw(), (stat.parent, stat.session)))
            .collect();
        let leaders: HashSet<i32> = self.looked.keys().map(|pid| pid.raw()).collect();
        let mut trees: BTreeMap<i32, Vec<Pid>> = BTreeMap::new();
        for stat in stats.iter().filter(|stat| !matches!(stat.state, 'Z' | 'X')) {
            let mut at = stat.pid.raw();
            // A chain of parents is not longer than this unless somebody plays games.
            for _ in 0..256 {
                let (parent, session) = parents.get(&at).copied().unwrap_or_default();
                let found = [at, session].into_iter().find(|pid| leaders.contains(pid));
                if let Some(leader) = found {
                    trees.entry(leader).or_default().push(stat.pid);
                    break;
                }
                if parent <= 1 {
                    break;
                }
                at = parent;
            }
        }
        for looked in self
            .looked
            .values_mut()
            .filter(|looked| looked.probe.needs_search())
        {
            let pids = trees.remove(&looked.probe.pid.raw()).unwrap_or_default();
            looked.probe.set_members(&pids, &mut self.budget);
        }
    }

    /// What leaks.
    fn look_for_leaks(&mut self, now_ms: u64) {
        let machine = self.machine.values[host::MEMORY_TOTAL];
        let clocks = (now_ms, clock::unix_ms());
        let (mut found, mut news) = (Vec::new(), Vec::new());
        for looked in self.looked.values_mut() {
            looked.watch.look(now_ms, &looked.probe.values);
            let of_this = looked.watch.found(&looked.name, machine, clocks);
            news.extend(looked.watch.news(&of_this, clocks.1 as f64 / 1000.0, false));
            found.extend(of_this);
        }
        self.tell(news);
        let latest = self.metrics.latest.write();
        latest.unwrap_or_else(PoisonError::into_inner).leaks = found;
    }

    /// Lines a second of each instance's logs.
    fn log_lines(&mut self) {
        let statuses = self
            .sources
            .statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for looked in self.looked.values_mut() {
            let Some(app) = &looked.name.app else { continue };
            let of = |word: &str| statuses.get(&format!("log:{app}/{}:{word}", looked.name.index));
            let parts: Vec<u64> = ["out", "err"]
                .into_iter()
                .filter_map(|word| super::lines_of(of(word)?))
                .collect();
            if parts.is_empty() {
                continue;
            }
            let now: u64 = parts.iter().sum();
            let before = looked.lines.replace(now);
            looked.probe.values[instance::LOG_LINES] =
                before.map(|before| now.saturating_sub(before) as f64 / 10.0);
        }
    }

    /// What others may see at any time.
    fn publish(&self, now_ms: u64, gone: &[Pid]) {
        let apps = self
            .looked
            .iter()
            .filter(|(pid, _)| !gone.contains(pid))
            .map(|(_, looked)| {
                let figures = Latest {
                    pid: looked.probe.pid.raw().unsigned_abs(),
                    values: looked.probe.values,
                    counters: looked.probe.counters,
                };
                (looked.name.clone(), figures)
            })
            .collect();
        let mut latest = self
            .metrics
            .latest
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        latest.at_ms = now_ms;
        latest.instances = apps;
        latest.host = self.machine.values;
        latest.counters = self.machine.now;
    }
}

impl Looked {
    /// What only the daemon or the program itself knows.
    fn own_figures(&mut self, reports: &Reports, now_ms: u64) {
        let values = &mut self.probe.values;
        values[instance::RESTARTS] = Some(f64::from(self.restarts));
        let report = reports.get(&self.name).filter(|report| {
            now_ms < report.at_ms + REPORT_MS && report.pid == self.probe.pid.raw().unsigned_abs()
        });
        values[instance::EVENT_LOOP_DELAY] = report.and_then(|report| report.event_loop_delay);
        values[instance::HEAP_USED] = report.and_then(|report| report.heap_used);
        values[instance::HEAP_TOTAL] = report.and_then(|report| report.heap_total);
    }
}

impl Machine {
    fn look(&mut self, elapsed: Option<f64>, now_ms: u64, home: &std::path::Path) {
        let before = self.now;
        let values = &mut self.values;
        if self.files.read(&mut self.now).is_some() {
            let ticks = self.now.busy_ticks.saturating_sub(before.busy_ticks) as f64;
            let cores = ticks / process::ticks_per_second() as f64;
            values[host::CPU] = elapsed.map(|elapsed| cores / elapsed);
            values[host::MEMORY] = Some(self.now.memory_used as f64);
            values[host::MEMORY_TOTAL] = Some(self.now.memory_total as f64);
            values[host::SWAP] = Some(self.now.swap_used as f64);
            values[host::LOAD] = Some(self.now.load_hundredths as f64 / 100.0);
        }
        if self.devices_at_ms.is_some_and(|at| now_ms < at + 9500) {
            return;
        }
        figures::read_devices(&mut self.now);
        let at = self.devices_at_ms.replace(now_ms);
        let rate = |now: u64, before: u64| {
            at.map(|at| now.saturating_sub(before) as f64 * 1000.0 / (now_ms - at).max(1) as f64)
        };
        values[host::IO_READ] = rate(self.now.read_bytes, before.read_bytes);
        values[host::IO_WRITE] = rate(self.now.written_bytes, before.written_bytes);
        values[host::NET_IN] = rate(self.now.received_bytes, before.received_bytes);
        values[host::NET_OUT] = rate(self.now.sent_bytes, before.sent_bytes);
        values[host::DISK_FREE] = figures::free_bytes(home).map(|bytes| bytes as f64);
    }
}
