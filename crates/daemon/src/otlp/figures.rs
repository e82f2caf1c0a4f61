//! The newest figures as OTLP says them.
//!
//! Each instance is a resource of its own (`service.name` is the app, `service.instance.id` is `APP:INDEX`), and so is
//! the machine (`service.name` is `upkeep`). Names are those of [`crate::metrics::openmetrics`] as OpenTelemetry writes
//! names: with dots, without units, which stand beside them in UCUM. Those of OpenTelemetry's own conventions
//! (`process.…`) are not used: they are of one process, ours of all processes of an instance.
//!
//! Counters count since the process was started, or since the daemon looks, whichever is later: that is their start
//! time, and it stays the same as long as they go on.

use std::collections::HashMap;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
        number_data_point::Value,
    },
};

use super::{attribute, resource, scope};
use crate::{
    apps::directory::Directory,
    metrics::{
        All, Latest, Metrics, host, instance,
        openmetrics::{self, Shown},
    },
};

/// So many instances go into one request.
const AT_ONCE: usize = 500;

const NS_PER_MS: u64 = 1_000_000;

/// Makes requests of figures, and knows since when counters count.
#[derive(Debug)]
pub(super) struct Figures {
    host_name: String,
    version: String,
    /// Unix ns.
    daemon_start: u64,
    boot: u64,
    /// By `APP:INDEX`: the process, and since when its counters count.
    starts: HashMap<String, (u32, u64)>,
    /// CLOCK_MONOTONIC ms of the look that was told last.
    told: u64,
}

/// Where in the time a value is, in Unix ns.
#[derive(Clone, Copy, Debug)]
struct When {
    start: u64,
    at: u64,
}

fn point(when: When, value: f64, attributes: Vec<KeyValue>) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        start_time_unix_nano: when.start,
        time_unix_nano: when.at,
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn metric(name: &str, unit: &str, data: metric::Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn gauge(name: &str, unit: &str, at: u64, value: f64) -> Metric {
    let data_points = vec![point(When { start: 0, at }, value, Vec::new())];
    metric(name, unit, metric::Data::Gauge(Gauge { data_points }))
}

fn sum(name: &str, unit: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    let sum = Sum {
        data_points,
        aggregation_temporality: AggregationTemporality::Cumulative.into(),
        is_monotonic: true,
    };
    metric(name, unit, metric::Data::Sum(sum))
}

/// Two directions of one counter.
fn both(name: &str, when: When, key: &str, [(first, one), (second, other)]: [(&str, u64); 2]) -> Metric {
    let of = |word: &str, value: u64| point(when, value as f64, vec![attribute(key, word)]);
    sum(name, "By", vec![of(first, one), of(second, other)])
}

/// Gauges of an instance: name, unit, column.
const INSTANCE: &[(&str, &str, usize)] = &[
    ("upkeep.instance.memory.usage", "By", instance::MEMORY),
    ("upkeep.instance.memory.pss", "By", instance::PSS),
    ("upkeep.instance.open_files", "{file}", instance::FDS),
    ("upkeep.instance.sockets", "{socket}", instance::SOCKETS),
    ("upkeep.instance.threads", "{thread}", instance::THREADS),
    ("upkeep.instance.processes", "{process}", instance::PROCESSES),
    (
        "upkeep.instance.event_loop.delay",
        "s",
        instance::EVENT_LOOP_DELAY,
    ),
    ("upkeep.instance.heap.usage", "By", instance::HEAP_USED),
    ("upkeep.instance.heap.size", "By", instance::HEAP_TOTAL),
];

/// Gauges of the machine.
const HOST: &[(&str, &str, usize)] = &[
    ("upkeep.host.memory.usage", "By", host::MEMORY),
    ("upkeep.host.memory.limit", "By", host::MEMORY_TOTAL),
    ("upkeep.host.swap.usage", "By", host::SWAP),
    ("upkeep.host.load1", "1", host::LOAD),
    ("upkeep.host.disk.free", "By", host::DISK_FREE),
];

fn of_instance(one: &Shown, latest: Option<&Latest>, when: When) -> Vec<Metric> {
    let flag = |flag: bool| f64::from(u8::from(flag));
    let mut list = vec![
        gauge("upkeep.instance.up", "1", when.at, flag(one.running)),
        gauge("upkeep.instance.ready", "1", when.at, flag(one.ready)),
        // It goes back to none when a person starts the instance: no counter.
        gauge(
            "upkeep.instance.restarts",
            "{restart}",
            when.at,
            f64::from(one.restarts),
        ),
    ];
    let Some(latest) = latest else {
        return list;
    };
    for (name, unit, column) in INSTANCE {
        if let Some(value) = latest.values.get(*column).copied().flatten() {
            list.push(gauge(name, unit, when.at, value));
        }
    }
    let seen = &latest.counters;
    list.push(sum(
        "upkeep.instance.cpu.time",
        "s",
        vec![point(when, seen.cpu_seconds, Vec::new())],
    ));
    list.push(both(
        "upkeep.instance.disk.io",
        when,
        "disk.io.direction",
        [("read", seen.read_bytes), ("write", seen.written_bytes)],
    ));
    list.push(sum(
        "upkeep.instance.context_switches",
        "{switch}",
        vec![point(when, seen.switches as f64, Vec::new())],
    ));
    list
}

fn of_host(all: &All, when: When) -> Vec<Metric> {
    let mut list = Vec::new();
    for (name, unit, column) in HOST {
        if let Some(value) = all.host.get(*column).copied().flatten() {
            list.push(gauge(name, unit, when.at, value));
        }
    }
    let seen = &all.counters;
    if seen.busy_ticks == 0 {
        return list;
    }
    let ticks = upkeep_sys::process::ticks_per_second() as f64;
    list.push(sum(
        "upkeep.host.cpu.time",
        "s",
        vec![point(when, seen.busy_ticks as f64 / ticks, Vec::new())],
    ));
    list.push(both(
        "upkeep.host.disk.io",
        when,
        "disk.io.direction",
        [("read", seen.read_bytes), ("write", seen.written_bytes)],
    ));
    list.push(both(
        "upkeep.host.network.io",
        when,
        "network.io.direction",
        [("receive", seen.received_bytes), ("transmit", seen.sent_bytes)],
    ));
    list
}

impl Figures {
    /// `boot_ms`: Unix time of the machine's start.
    pub(super) fn new(host_name: String, version: String, daemon_start_ms: u64, boot_ms: u64) -> Self {
        Self {
            host_name,
            version,
            daemon_start: daemon_start_ms * NS_PER_MS,
            boot: boot_ms * NS_PER_MS,
            starts: HashMap::new(),
            told: 0,
        }
    }

    /// The figures of the newest look, in as many requests as they need; none if they have been told.
    /// `now_ms`: of the monotonic and of the real clock.
    pub(super) fn requests(
        &mut self,
        metrics: &Metrics,
        directory: &Directory,
        now_ms: (u64, u64),
    ) -> Vec<ExportMetricsServiceRequest> {
        let (looked, at, shown, machine) = metrics.latest(|all| {
            let ago = now_ms.0.saturating_sub(all.at_ms);
            let at = now_ms.1.saturating_sub(ago) * NS_PER_MS;
            let when = When { start: self.boot, at };
            let shown = openmetrics::shown(&directory.read(), all, now_ms);
            (all.at_ms, at, shown, of_host(all, when))
        });
        if looked == 0 || looked == self.told {
            return Vec::new();
        }
        self.told = looked;
        let mut resources = vec![self.resource_metrics("upkeep", None, machine)];
        let mut starts = HashMap::with_capacity(shown.len());
        for one in &shown {
            let id = format!("{}:{}", one.app, one.index);
            let mut start = at;
            if let Some(latest) = &one.latest {
                start = self.start_of(&id, latest.pid, one.started).min(at);
                starts.insert(id.clone(), (latest.pid, start));
            }
            let list = of_instance(one, one.latest.as_ref(), When { start, at });
            resources.push(self.resource_metrics(&one.app, Some(&id), list));
        }
        // Those that are gone are forgotten.
        self.starts = starts;
        let mut requests = Vec::new();
        while !resources.is_empty() {
            let rest = resources.split_off(resources.len().min(AT_ONCE));
            requests.push(ExportMetricsServiceRequest {
                resource_metrics: std::mem::replace(&mut resources, rest),
            });
        }
        requests
    }

    /// Since when the counters of a process count. `started`: when it was started, Unix time.
    fn start_of(&self, id: &str, pid: u32, started: Option<f64>) -> u64 {
        match self.starts.get(id) {
            Some((known, start)) if *known == pid => *start,
            _ => {
                let seconds = started.and_then(|at| std::time::Duration::try_from_secs_f64(at).ok());
                let started = seconds.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(0));
                (started * NS_PER_MS).max(self.daemon_start)
            }
        }
    }

    fn resource_metrics(&self, service: &str, id: Option<&str>, metrics: Vec<Metric>) -> ResourceMetrics {
        ResourceMetrics {
            resource: Some(resource(&self.host_name, service, id)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope(&self.version)),
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }
    }
}
