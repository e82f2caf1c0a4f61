//! What the API tells of apps.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use upkeep_api::body::{AppView, CopyView, InstanceView, ScheduleView};
use upkeep_api::metrics::Leak;
use upkeep_model::{id::AppName, state::Desired};
use upkeep_sys::{clock, pid::Pid, process};

use super::directory::{AppEntry, InstanceStatus};
use crate::metrics::{Metrics, instance as metrics};

/// Figures of processes: those of the sampler; of a process that it has not seen yet, and of PM2's, read here and
/// now, where CPU is the share since the last look at that process.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    metrics: Option<Arc<Metrics>>,
    last: Mutex<HashMap<(u32, u64), Look>>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at_ms: u64,
    cpu_ms: u64,
    percent: f64,
}

/// Two looks closer together than this show the same figure.
const LOOK_MS: u64 = 500;

impl Usage {
    /// With a sampler to ask first.
    pub(crate) fn new(metrics: Option<Arc<Metrics>>) -> Self {
        Self {
            metrics,
            last: Mutex::default(),
        }
    }

    /// CPU in percent of a core over the last second, and resident bytes of all its processes.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
    fn of_instance(&self, app: &AppName, index: u32, pid: u32) -> Option<(f64, u64)> {
        let latest = self.metrics.as_ref()?.of(app, index, pid)?;
        let value = |column: usize| latest.values.get(column).copied().flatten();
        Some((value(metrics::CPU)? * 100.0, value(metrics::MEMORY)? as u64))
    }

    /// What leaks of an instance.
    pub(crate) fn leaks(&self, app: &AppName, index: u32) -> Vec<Leak> {
        let metrics = self.metrics.as_ref();
        metrics.map_or_else(Vec::new, |metrics| metrics.leaks(Some((app, index))))
    }

    /// CPU in percent of a core since the last look, and resident bytes.
    pub(crate) fn of(&self, pid: u32, now_ms: u64, uptime_ms: u64) -> Option<(f64, u64)> {
        let stat = process::stat(Pid::from_unsigned(pid)?).ok()?;
        let cpu_ms = (stat.user_ticks + stat.system_ticks) * 1000 / process::ticks_per_second().max(1);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let look = last.get(&(pid, stat.start_ticks)).copied();
        let percent = match look {
            Some(look) if now_ms < look.at_ms + LOOK_MS => look.percent,
            Some(look) => (cpu_ms - look.cpu_ms.min(cpu_ms)) as f64 * 100.0 / (now_ms - look.at_ms) as f64,
            None => cpu_ms as f64 * 100.0 / uptime_ms.max(10) as f64,
        };
        if look.is_none_or(|look| now_ms >= look.at_ms + LOOK_MS) {
            if last.len() > 4096 {
                last.clear();
            }
            last.insert(
                (pid, stat.start_ticks),
                Look {
                    at_ms: now_ms,
                    cpu_ms,
                    percent,
                },
            );
        }
        Some((percent, stat.resident_pages * process::page_size() as u64))
    }
}

/// The schedule of an app, if it has one.
pub(crate) fn schedule(entry: &AppEntry) -> Option<ScheduleView> {
    let shown = entry.schedule.lock().unwrap_or_else(PoisonError::into_inner);
    shown.clone()
}

/// An app; with its specification and the logs if `whole`.
pub(crate) fn app(name: &AppName, entry: &AppEntry, usage: &Usage) -> AppView {
    let now_ms = clock::monotonic_ms();
    let now_unix = clock::unix_ms();
    let status = entry.status.borrow();
    let instances: Vec<InstanceView> = status
        .instances
        .iter()
        .map(|status| instance(name, status, usage, now_ms, now_unix))
        .collect();
    let wanted = entry
        .record
        .instances
        .iter()
        .any(|instance| instance.desired == Desired::Up);
    AppView {
        name: name.clone(),
        namespace: entry.record.spec.namespace.clone(),
        desired: if wanted { Desired::Up } else { Desired::Down },
        revision: entry.revision,
        has_readiness: super::copies::has_readiness(&entry.record.spec),
        schedule: schedule(entry),
        instances,
        rollout: status.rollout.clone(),
        config: entry
            .supply
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .map(Box::new),
        spec: None,
        logs: Vec::new(),
        log_sinks: Vec::new(),
        limits: Vec::new(),
    }
}

fn instance(
    app: &AppName,
    status: &InstanceStatus,
    usage: &Usage,
    now_ms: u64,
    now_unix: u64,
) -> InstanceView {
    let view = &status.view;
    let ago = now_ms.saturating_sub(view.since_ms);
    let uptime_ms = view
        .pid
        .and(view.started_ms)
        .map(|started| now_ms.saturating_sub(started));
    let figures = view.pid.and_then(|pid| {
        usage
            .of_instance(app, status.index, pid)
            .or_else(|| usage.of(pid, now_ms, uptime_ms.unwrap_or(0)))
    });
    InstanceView {
        id: status.id,
        index: status.index,
        actual: view.actual,
        desired: view.desired,
        ready: view.ready,
        pid: view.pid,
        restarts: view.restarts,
        unstable: view.unstable,
        uptime_ms,
        changed_at: now_unix.saturating_sub(ago) as f64 / 1000.0,
        cpu_percent: figures.map(|(percent, _)| (percent * 10.0).round() / 10.0),
        memory_bytes: figures.map(|(_, bytes)| bytes),
        last_exit: view.last_exit,
        why: view.why.clone(),
        generation: status.generation,
        health: status.health.as_ref().map(super::health::Handle::view),
        others: status
            .others
            .iter()
            .map(|other| CopyView {
                generation: other.generation,
                actual: other.view.actual,
                ready: other.view.ready,
                pid: other.view.pid,
                leaving: other.leaving,
                why: other.view.why.clone(),
            })
            .collect(),
        leaks: usage.leaks(app, status.index),
        next_start_in_ms: view.next_start_ms.map(|at| at.saturating_sub(now_ms)),
    }
}
