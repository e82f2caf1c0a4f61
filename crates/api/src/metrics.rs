//! Figures over time: what can be asked of the history, and what is answered.

use serde::{Deserialize, Serialize};
use upkeep_model::id::AppName;

use crate::body::UnixTime;

/// Query of `GET /v1/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsQuery {
    /// Selectors, separated by commas; empty: all apps, unless `host` is asked for.
    #[serde(default)]
    pub apps: String,
    /// Figures of the machine too.
    #[serde(default)]
    pub host: bool,
    /// Names of [`METRICS`], separated by commas; empty: all.
    #[serde(default)]
    pub metrics: String,
    /// From when; default: 15 minutes ago. Values below zero are seconds before now.
    pub since: Option<UnixTime>,
    /// Until when; default: now.
    pub until: Option<UnixTime>,
    /// At most so many values for each series (default 300): neighbours are merged until they fit.
    pub points: Option<usize>,
    /// One series for each app or for each instance.
    #[serde(default)]
    pub per: Per,
}

/// What one series is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// All instances of an app together.
    #[default]
    App,
    /// Each instance by itself.
    Instance,
}

/// Answer of `GET /v1/metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsAnswer {
    /// When the first value begins.
    pub from: UnixTime,
    /// Seconds that one value stands for.
    pub step: f64,
    /// One for each metric of each app, instance or the machine, if it has any value in the span.
    pub series: Vec<Series>,
}

/// One figure over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The app; absent: the machine.
    pub app: Option<AppName>,
    /// The instance, where instances are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Which figure: a name of [`METRICS`].
    pub metric: String,
    /// Mean over each step, from [`MetricsAnswer::from`] on; `null` where nothing was seen.
    pub values: Vec<Option<f64>>,
    /// Highest over each step; as long as `values`.
    pub highs: Vec<Option<f64>>,
}

/// A figure of an instance whose floor rises and rises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leak {
    /// The app.
    pub app: AppName,
    /// The instance.
    pub index: u32,
    /// `memory`, `fds` or `threads`.
    pub metric: String,
    /// Growth in an hour, in the figure's unit.
    pub per_hour: f64,
    /// How sure it is that the floor rises: 0 to 1.
    pub confidence: f64,
    /// Where it ends: the app's limit of memory or the machine's memory, or the limit of open files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Seconds until that is reached at this rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_to_limit: Option<f64>,
    /// Since when it has been seen to rise.
    pub since: UnixTime,
}

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name in `/v1/metrics`.
    pub name: &'static str,
    /// Its unit: `cores`, `bytes`, `bytes/s`, `1/s`, `seconds`, or empty for a count.
    pub unit: &'static str,
    /// What it tells, in one line.
    pub summary: &'static str,
    /// Of instances, or of the machine.
    pub of: Of,
}

/// Whom a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Instances and apps.
    Instance,
    /// The machine.
    Host,
}

const fn instance(name: &'static str, unit: &'static str, summary: &'static str) -> Metric {
    Metric {
        name,
        unit,
        summary,
        of: Of::Instance,
    }
}

const fn host(name: &'static str, unit: &'static str, summary: &'static str) -> Metric {
    Metric {
        name,
        unit,
        summary,
        of: Of::Host,
    }
}

/// Every figure, in the order in which they are shown.
pub const METRICS: &[Metric] = &[
    instance("cpu", "cores", "Processor time used, in cores."),
    instance("memory", "bytes", "Resident memory of its processes."),
    instance(
        "pss",
        "bytes",
        "Resident memory with shared pages divided among those who share.",
    ),
    instance("fds", "", "Open files."),
    instance("threads", "", "Threads."),
    instance("processes", "", "Processes of its tree."),
    instance("sockets", "", "Open sockets."),
    instance("io_read", "bytes/s", "Read from disks."),
    instance("io_write", "bytes/s", "Written to disks."),
    instance("switches", "1/s", "Context switches."),
    instance("restarts", "", "Starts after exits and by order, so far."),
    instance("log_lines", "1/s", "Lines written to its logs."),
    instance("event_loop_delay", "seconds", "Mean delay of Node's event loop."),
    instance("heap_used", "bytes", "V8's heap in use."),
    instance("heap_total", "bytes", "V8's heap as taken from the system."),
    host("cpu", "cores", "Processor time used by everything, in cores."),
    host(
        "memory",
        "bytes",
        "Memory in use, without what the kernel would give back.",
    ),
    host("memory_total", "bytes", "Memory there is."),
    host("swap", "bytes", "Swap in use."),
    host("load", "", "Load average over one minute."),
    host("disk_free", "bytes", "Free space where the state directory lies."),
    host("io_read", "bytes/s", "Read from disks."),
    host("io_write", "bytes/s", "Written to disks."),
    host(
        "net_in",
        "bytes/s",
        "Received by network interfaces other than loopback.",
    ),
    host(
        "net_out",
        "bytes/s",
        "Sent by network interfaces other than loopback.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_figure_with_its_unit_and_meaning() {
        let page = include_str!("../../../docs/reference/metrics.md");
        let (instances, host) = page.split_once("## Of the machine").expect("two tables");
        for metric in METRICS {
            let unit = if metric.unit.is_empty() {
                "(count)"
            } else {
                metric.unit
            };
            let row = format!("| `{}` | {unit} | {} |\n", metric.name, metric.summary);
            let table = if metric.of == Of::Host { host } else { instances };
            assert!(table.contains(&row), "docs/reference/metrics.md lacks: {row}");
        }
        assert_eq!(page.matches("\n| `").count(), METRICS.len());
    }
}
