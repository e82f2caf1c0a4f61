//! Figures over time: what can be asked of the history, and what is answered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::id::AppName;

use crate::body::UnixTime;

/// Query of `GET /v1/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Go on with what is measured from now: each second an answer with what is new. Not with `until`.
    #[serde(default)]
    pub follow: bool,
}

/// What one series is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// All instances of an app together.
    #[default]
    App,
    /// Each instance by itself.
    Instance,
}

/// Answer of `GET /v1/metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsAnswer {
    /// When the first value begins.
    pub from: UnixTime,
    /// Seconds that one value stands for.
    pub step: f64,
    /// One for each metric of each app, instance or the machine, if it has any value in the span.
    pub series: Vec<Series>,
}

/// One figure over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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

impl Leak {
    /// What is told of it, `now` being Unix time: `memory has grown by 12M an hour for 6 h; at that rate it is at its
    /// limit of 500M in 2 d`.
    pub fn text(&self, now: UnixTime) -> String {
        let what = match self.metric.as_str() {
            "memory" => "memory has grown",
            "fds" => "open files have grown in number",
            "threads" => "threads have grown in number",
            other => return format!("{other} grows"),
        };
        let amount = |value: f64| match self.metric.as_str() {
            "memory" if value >= 10_737_418_240.0 => format!("{:.0}G", value / 1_073_741_824.0),
            "memory" if value >= 10_485_760.0 => format!("{:.0}M", value / 1_048_576.0),
            "memory" if value >= 1_048_576.0 => format!("{:.1}M", value / 1_048_576.0),
            "memory" => format!("{:.0}K", value / 1024.0),
            _ => format!("{value:.0}"),
        };
        let mut text = format!(
            "{what} by {} an hour for {}",
            amount(self.per_hour),
            about(now - self.since)
        );
        if let (Some(limit), Some(left)) = (self.limit, self.seconds_to_limit)
            && left < LIMIT_IN_SIGHT
        {
            let limit = amount(limit);
            if left < 1.0 {
                text.push_str(&format!("; it is at its limit of {limit}"));
            } else {
                text.push_str(&format!(
                    "; at that rate it is at its limit of {limit} in {}",
                    about(left)
                ));
            }
        }
        text
    }
}

/// A limit that is reached later than this is not spoken of: 90 days, in seconds.
const LIMIT_IN_SIGHT: f64 = 90.0 * 86_400.0;

/// A span in its largest unit.
fn about(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 90.0 * 60.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 36.0 * 3600.0 {
        format!("{:.0} h", seconds / 3600.0)
    } else {
        format!("{:.0} d", seconds / 86_400.0)
    }
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
    fn a_leak_is_told_in_words_with_the_limit_that_is_in_sight() {
        let mut leak = Leak {
            app: AppName::parse("shop").expect("a name"),
            index: 0,
            metric: "memory".to_owned(),
            per_hour: 12.0 * 1_048_576.0,
            confidence: 0.999_9,
            limit: Some(500.0 * 1_048_576.0),
            seconds_to_limit: Some(2.1 * 86_400.0),
            since: 1000.0,
        };
        let now = 1000.0 + 6.0 * 3600.0;
        assert_eq!(
            leak.text(now),
            "memory has grown by 12M an hour for 6 h; at that rate it is at its limit of 500M in 2 d"
        );
        leak.seconds_to_limit = Some(1e9);
        assert_eq!(leak.text(now), "memory has grown by 12M an hour for 6 h");
        leak.metric = "fds".to_owned();
        (leak.per_hour, leak.limit, leak.seconds_to_limit) = (40.0, Some(1024.0), Some(0.0));
        assert_eq!(
            leak.text(now),
            "open files have grown in number by 40 an hour for 6 h; it is at its limit of 1024"
        );
    }

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
