//! Figures as other programs scrape them.
//!
//! Two spellings of one thing. Who asks for `application/openmetrics-text` gets [OpenMetrics 1.0]: families of
//! counters are named without `_total`, and there is an `info`. Everybody else gets the text format of Prometheus
//! (0.0.4), where comments with unit and end do no harm. Names are stable, units are base units, counters only go up
//! while a process lives. What is not known is not there.
//!
//! [OpenMetrics 1.0]: https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md

use std::{collections::BTreeMap, fmt::Write};

use upkeep_model::{id::AppName, state::Actual};

use super::{
    All, Latest, Metrics, SeriesName,
    columns::{host, instance},
};
use crate::apps::directory::AppEntry;

/// Which spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    Open,
    /// Prometheus' own, 0.0.4.
    Text,
}

impl Format {
    /// From what a client accepts.
    pub(crate) fn wanted(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            Self::Open
        } else {
            Self::Text
        }
    }

    /// `Content-Type` of the answer.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    Info,
}

/// Writes families of samples.
#[derive(Debug)]
struct Page {
    text: String,
    format: Format,
    /// What samples of the family are called.
    sample: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: Kind, unit: &str, help: &str) {
        let suffix = match kind {
            Kind::Gauge => "",
            Kind::Counter => "_total",
            Kind::Info => "_info",
        };
        self.sample = format!("{name}{suffix}");
        let open = self.format == Format::Open;
        let family = if open { name } else { &self.sample };
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Info if open => "info",
            Kind::Info | Kind::Gauge => "gauge",
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# TYPE {family} {word}");
        if !unit.is_empty() {
            let _ = writeln!(self.text, "# UNIT {family} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {family} {help}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(&self.sample);
        for (at, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{name}=\"", if at == 0 { '{' } else { ',' });
            for character in value.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// One instance, as it is shown.
pub(crate) struct Shown {
    pub(crate) app: String,
    pub(crate) index: String,
    pub(crate) running: bool,
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    pub(crate) started: Option<f64>,
    pub(crate) latest: Option<Latest>,
}

/// Everything there is now of these apps. `now_ms`: of the monotonic and of the real clock.
pub(crate) fn page(
    metrics: &Metrics,
    apps: &BTreeMap<AppName, AppEntry>,
    version: &str,
    started_unix_ms: u64,
    format: Format,
    now_ms: (u64, u64),
) -> String {
    let mut page = Page {
        text: String::with_capacity(16 << 10),
        format,
        sample: String::new(),
    };
    page.family("upkeep_build", Kind::Info, "", "The program that answers.");
    page.sample(&[("version", version)], 1.0);
    page.family(
        "upkeep_daemon_start_time_seconds",
        Kind::Gauge,
        "seconds",
        "When the daemon was started, Unix time.",
    );
    page.sample(&[], started_unix_ms as f64 / 1000.0);
    metrics.latest(|all| {
        page.family(
            "upkeep_last_sample_age_seconds",
            Kind::Gauge,
            "seconds",
            "How long ago the figures here were looked at; more than some seconds mean that nobody looks any more.",
        );
        if all.at_ms > 0 {
            page.sample(&[], now_ms.0.saturating_sub(all.at_ms) as f64 / 1000.0);
        }
        machine(&mut page, all);
        let shown = shown(apps, all, now_ms);
        page.family("upkeep_apps", Kind::Gauge, "", "Apps there are.");
        page.sample(&[], apps.len() as f64);
        instances(&mut page, &shown);
    });
    page.text.push_str("# EOF\n");
    page.text
}

/// Every instance of these apps. `now_ms`: of the monotonic and of the real clock.
pub(crate) fn shown(
    apps: &BTreeMap<AppName, AppEntry>,
    all: &All,
    (monotonic_ms, unix_ms): (u64, u64),
) -> Vec<Shown> {
    let mut shown = Vec::new();
    for (app, entry) in apps {
        for status in &entry.status.borrow().instances {
            let view = &status.view;
            let name = SeriesName {
                app: Some(app.clone()),
                index: status.index,
            };
            let started = view.pid.and(view.started_ms).map(|started| {
                let ago = monotonic_ms.saturating_sub(started);
                unix_ms.saturating_sub(ago) as f64 / 1000.0
            });
            shown.push(Shown {
                app: app.to_string(),
                index: status.index.to_string(),
                running: view.actual == Actual::Running,
                ready: view.ready,
                restarts: view.restarts,
                started,
                latest: all
                    .instances
                    .get(&name)
                    .filter(|latest| Some(latest.pid) == view.pid)
                    .copied(),
            });
        }
    }
    shown
}

/// A counter: name, unit, help, and where it is.
type Counted = (&'static str, &'static str, &'static str, fn(&Latest) -> f64);

fn instances(page: &mut Page, shown: &[Shown]) {
    let mut family = |name: &str, kind: Kind, unit: &str, help: &str, of: &dyn Fn(&Shown) -> Option<f64>| {
        page.family(&format!("upkeep_instance_{name}"), kind, unit, help);
        for one in shown {
            if let Some(value) = of(one) {
                page.sample(&[("app", &one.app), ("index", &one.index)], value);
            }
        }
    };
    let flag = |flag: bool| Some(f64::from(u8::from(flag)));
    family("up", Kind::Gauge, "", "1 if it runs, else 0.", &|one| {
        flag(one.running)
    });
    family(
        "ready",
        Kind::Gauge,
        "",
        "1 if it runs and is ready, else 0.",
        &|one| flag(one.ready),
    );
    family(
        "restarts",
        Kind::Counter,
        "",
        "Starts after exits and by order since a person last started it.",
        &|one| Some(f64::from(one.restarts)),
    );
    family(
        "start_time_seconds",
        Kind::Gauge,
        "seconds",
        "When its process was started, Unix time.",
        &|one| one.started,
    );
    let counters: [Counted; 4] = [
        (
            "cpu_seconds",
            "seconds",
            "Processor time that its processes used since they were started, or since the daemon looks.",
            |latest| latest.counters.cpu_seconds,
        ),
        ("read_bytes", "bytes", "Bytes read from disks.", |latest| {
            latest.counters.read_bytes as f64
        }),
        ("written_bytes", "bytes", "Bytes written to disks.", |latest| {
            latest.counters.written_bytes as f64
        }),
        ("context_switches", "", "Context switches.", |latest| {
            latest.counters.switches as f64
        }),
    ];
    for (name, unit, help, of) in counters {
        family(name, Kind::Counter, unit, help, &|one| {
            one.latest.as_ref().map(of)
        });
    }
    let gauges = [
        (
            "memory_bytes",
            "bytes",
            "Resident memory of its processes.",
            instance::MEMORY,
        ),
        (
            "pss_bytes",
            "bytes",
            "Resident memory with shared pages divided among those who share.",
            instance::PSS,
        ),
        ("open_files", "", "Open files.", instance::FDS),
        ("sockets", "", "Open sockets.", instance::SOCKETS),
        ("threads", "", "Threads.", instance::THREADS),
        ("processes", "", "Processes of its tree.", instance::PROCESSES),
        (
            "event_loop_delay_seconds",
            "seconds",
            "Mean delay of Node's event loop.",
            instance::EVENT_LOOP_DELAY,
        ),
        (
            "heap_used_bytes",
            "bytes",
            "V8's heap in use.",
            instance::HEAP_USED,
        ),
        (
            "heap_size_bytes",
            "bytes",
            "V8's heap as taken from the system.",
            instance::HEAP_TOTAL,
        ),
    ];
    for (name, unit, help, column) in gauges {
        family(name, Kind::Gauge, unit, help, &|one| {
            one.latest.as_ref()?.values.get(column).copied().flatten()
        });
    }
}

fn machine(page: &mut Page, all: &All) {
    let gauges = [
        (
            "memory_used_bytes",
            "bytes",
            "Memory in use, without what the kernel would give back.",
            host::MEMORY,
        ),
        (
            "memory_size_bytes",
            "bytes",
            "Memory there is.",
            host::MEMORY_TOTAL,
        ),
        ("swap_used_bytes", "bytes", "Swap in use.", host::SWAP),
        ("load1", "", "Load average over one minute.", host::LOAD),
        (
            "disk_free_bytes",
            "bytes",
            "Free space where the state directory lies.",
            host::DISK_FREE,
        ),
    ];
    for (name, unit, help, column) in gauges {
        page.family(&format!("upkeep_host_{name}"), Kind::Gauge, unit, help);
        if let Some(value) = all.host.get(column).copied().flatten() {
            page.sample(&[], value);
        }
    }
    let seen = &all.counters;
    if seen.busy_ticks == 0 {
        return;
    }
    let ticks = upkeep_sys::process::ticks_per_second() as f64;
    let counters = [
        (
            "cpu_seconds",
            "seconds",
            "Processor time used by everything since boot.",
            seen.busy_ticks as f64 / ticks,
        ),
        (
            "disk_read_bytes",
            "bytes",
            "Bytes read from disks since boot.",
            seen.read_bytes as f64,
        ),
        (
            "disk_written_bytes",
            "bytes",
            "Bytes written to disks since boot.",
            seen.written_bytes as f64,
        ),
        (
            "network_receive_bytes",
            "bytes",
            "Bytes received by network interfaces other than loopback since boot.",
            seen.received_bytes as f64,
        ),
        (
            "network_transmit_bytes",
            "bytes",
            "Bytes sent by network interfaces other than loopback since boot.",
            seen.sent_bytes as f64,
        ),
    ];
    for (name, unit, help, value) in counters {
        page.family(&format!("upkeep_host_{name}"), Kind::Counter, unit, help);
        page.sample(&[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [String; 2] {
        let metrics = Metrics::open(None);
        let apps = BTreeMap::new();
        [Format::Open, Format::Text].map(|format| page(&metrics, &apps, "1 \"x\"\\", 5, format, (0, 0)))
    }

    #[test]
    fn the_two_spellings_differ_where_they_must() {
        let [open, text] = both();
        assert!(open.contains("# TYPE upkeep_build info\n"), "{open}");
        assert!(
            open.contains("upkeep_build_info{version=\"1 \\\"x\\\"\\\\\"} 1\n"),
            "{open}"
        );
        assert!(open.contains(
            "# TYPE upkeep_instance_cpu_seconds counter\n# UNIT upkeep_instance_cpu_seconds seconds\n"
        ));
        assert!(
            text.contains("# TYPE upkeep_instance_cpu_seconds_total counter\n"),
            "{text}"
        );
        assert!(text.contains("# TYPE upkeep_build_info gauge\n"), "{text}");
        assert!(open.ends_with("# EOF\n") && text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_unit_is_the_end_of_its_name_and_no_family_comes_twice() {
        let [open, _] = both();
        let mut seen = std::collections::BTreeSet::new();
        for line in open.lines() {
            if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').expect("a unit");
                assert!(name.ends_with(&format!("_{unit}")), "{line}");
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(seen.insert(rest.to_owned()), "{line}");
            }
        }
        assert!(seen.len() > 20, "{seen:?}");
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Format::wanted(Some(prometheus)), Format::Open);
        assert_eq!(Format::wanted(Some("text/plain")), Format::Text);
        assert_eq!(Format::wanted(None), Format::Text);
    }
}
