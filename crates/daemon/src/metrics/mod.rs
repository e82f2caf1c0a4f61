//! Figures: what every instance and the machine use, now and until ninety days ago.
//!
//! # How it works
//!
//! One thread ([`sampler`]) looks at every process of every instance once a second, and at what is dearer more rarely
//! ([`probe`]). It publishes the newest figures ([`Metrics::latest`]) and hands them to the [`history`], whose rings
//! are [`rows`] of few bytes in memory and on disk (`metrics.redb`, by a thread of its own, [`write`]). Questions are
//! answered by whoever asks, from both ([`query`]). Nothing here runs on the supervision thread, and supervision waits
//! for nothing here.
//!
//! What is told in which unit stands in [`upkeep_api::metrics::METRICS`]; [`columns`] says where it is kept.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, mpsc},
};

use upkeep_api::metrics::{Leak, METRICS, MetricsAnswer, Of, Per};
use upkeep_model::id::AppName;
use upkeep_sys::{clock, figures};

use crate::{apps::directory::Directory, logs::pump, main_loop::note};

mod columns;
mod history;
#[cfg(test)]
mod history_tests;
mod leaks;
pub(crate) mod openmetrics;
mod probe;
mod query;
mod rows;
mod sampler;
mod write;

use self::{columns::Values, history::History, probe::Counters};
pub(crate) use self::{
    columns::{host, instance},
    history::SeriesName,
    query::{POINTS, POINTS_MAX, Query},
};

/// The newest figures of an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latest {
    /// Its main process.
    pub(crate) pid: u32,
    pub(crate) values: Values,
    pub(crate) counters: Counters,
}

/// What the sampler saw last.
#[derive(Debug, Default)]
pub(crate) struct All {
    /// CLOCK_MONOTONIC ms of the look.
    pub(crate) at_ms: u64,
    pub(crate) instances: HashMap<SeriesName, Latest>,
    pub(crate) host: Values,
    /// What leaks, of all instances that run; renewed every ten seconds.
    pub(crate) leaks: Vec<Leak>,
    pub(crate) counters: figures::Host,
}

/// What a program says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) pid: u32,
    /// CLOCK_MONOTONIC ms.
    pub(crate) at_ms: u64,
    /// Seconds.
    pub(crate) event_loop_delay: Option<f64>,
    /// Bytes.
    pub(crate) heap_used: Option<f64>,
    pub(crate) heap_total: Option<f64>,
}

type Reports = HashMap<SeriesName, Report>;

/// Programs whose reports are kept at most.
const REPORTS_MAX: usize = 10_000;

/// Figures, for every thread.
#[derive(Debug)]
pub(crate) struct Metrics {
    latest: RwLock<All>,
    reports: Mutex<Reports>,
    /// What the kernel had killed for want of memory at the last two looks, ten seconds apart: the older one first.
    kills: Mutex<[Option<u64>; 2]>,
    pub(crate) history: History,
}

impl Metrics {
    /// Opens the history; without a file it is kept in memory, for 15 minutes. Where opening fails, too, and the daemon says so: it can do
    /// its work.
    pub(crate) fn open(path: Option<&Path>) -> Arc<Self> {
        let history = match path.map(|path| History::open(path, clock::unix_ms() / 1000)) {
            None => History::in_memory(),
            Some(Ok((history, aside))) => {
                if let Some(why) = aside {
                    note(&format!(
                        "the history of figures begins anew, the file could not be read: {why}"
                    ));
                }
                history
            }
            Some(Err(error)) => {
                note(&format!("figures are kept in memory only: {error}"));
                History::in_memory()
            }
        };
        Arc::new(Self {
            latest: RwLock::default(),
            reports: Mutex::default(),
            kills: Mutex::default(),
            history,
        })
    }

    /// Looks at the newest figures. Do not hold on to them: the sampler waits.
    pub(crate) fn latest<T>(&self, look: impl FnOnce(&All) -> T) -> T {
        look(&self.latest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets what the sampler would have seen.
    #[cfg(test)]
    pub(crate) fn set_latest(&self, change: impl FnOnce(&mut All)) {
        change(&mut self.latest.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The newest figures of one process of an instance.
    pub(crate) fn of(&self, app: &AppName, index: u32, pid: u32) -> Option<Latest> {
        let name = SeriesName {
            app: Some(app.clone()),
            index,
        };
        self.latest(|all| all.instances.get(&name).copied())
            .filter(|latest| latest.pid == pid)
    }

    /// One figure by its name in [`METRICS`], as it was at the last look: of an instance, or of the machine.
    pub(crate) fn newest(&self, of: Option<(&AppName, u32)>, name: &str) -> Option<f64> {
        let whose = if of.is_some() { Of::Instance } else { Of::Host };
        let metric = METRICS
            .iter()
            .find(|metric| metric.name == name && metric.of == whose)?;
        let column = columns::column(metric)?;
        self.latest(|all| match of {
            Some((app, index)) => {
                let name = SeriesName {
                    app: Some(app.clone()),
                    index,
                };
                all.instances.get(&name)?.values[column]
            }
            None => all.host[column],
        })
    }

    /// How many processes the kernel had killed for want of memory ten to twenty seconds ago, on the whole machine.
    pub(crate) fn kills_before(&self) -> Option<u64> {
        let [older, newer] = *self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        older.or(newer)
    }

    fn look_for_kills(&self) {
        let mut kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        *kills = [kills[1], crate::crashes::machine::oom_kills()];
    }

    /// What leaks of one instance; of all if no app is given.
    pub(crate) fn leaks(&self, of: Option<(&AppName, u32)>) -> Vec<Leak> {
        self.latest(|all| {
            let wanted = |leak: &&Leak| of.is_none_or(|(app, index)| leak.app == *app && leak.index == index);
            all.leaks.iter().filter(wanted).cloned().collect()
        })
    }

    /// Takes what a program says of itself; it counts for 25 s.
    pub(crate) fn report(&self, app: &AppName, index: u32, report: Report) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.len() >= REPORTS_MAX {
            reports.clear();
        }
        let name = SeriesName {
            app: Some(app.clone()),
            index,
        };
        reports.insert(name, report);
    }

    /// The figures of one instance in a span of Unix time, at a second each if it lies in the last 15 minutes: what a
    /// dossier of its end needs. `None`: nothing is known of that span.
    pub(crate) fn of_span(&self, app: &AppName, index: u32, since: f64, until: f64) -> Option<MetricsAnswer> {
        let query = Query {
            apps: [(app.clone(), Some(vec![index]))].into(),
            host: false,
            metrics: Vec::new(),
            since,
            until,
            points: POINTS_MAX,
            per: Per::Instance,
        };
        let answer = self.history.query(&query, clock::unix_ms() / 1000);
        (!answer.series.is_empty()).then_some(answer)
    }
}

/// How often a log has been written to, in lines, if that is counted.
fn lines_of(status: &pump::Status) -> Option<u64> {
    Some(status.rate().lines)
}

/// The running sampler; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sampling {
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Starts the sampler.
pub(crate) fn start(
    metrics: &Arc<Metrics>,
    directory: Arc<Directory>,
    events: crate::events::Events,
    statuses: pump::Statuses,
    home: &Path,
) -> std::io::Result<Sampling> {
    let sources = sampler::Sources {
        directory,
        events,
        statuses,
        home: home.to_owned(),
    };
    let metrics = Arc::clone(metrics);
    let (stop, stopped) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("metrics".to_owned())
        .stack_size(256 << 10)
        .spawn(move || sampler::Sampler::new(sources, metrics).run(&stopped))?;
    Ok(Sampling {
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic aborts the process; there is nothing to learn from the join.
            let _ = thread.join();
        }
    }
}
