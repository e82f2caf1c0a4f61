//! Watching one process for leaks: memory, open files, threads ([`upkeep_supervise::leak`] judges).
//!
//! An event tells when one begins (`leak`) and when it ends (`leak_ended`), be it that the process does.
//!
//! `UPKEEP_LEAK_SPANS=WARM_UP,WINDOW,WINDOWS` (seconds, seconds, an even number) in the environment of the daemon has
//! tests see on another scale of time what programs do in hours; it is for them alone.

use std::{collections::BTreeMap, sync::OnceLock};

use upkeep_api::{body::Event, metrics::Leak};
use upkeep_supervise::leak::{Detector, Spans};
use upkeep_sys::{Pid, figures};

use super::{
    SeriesName,
    columns::{Values, instance},
};

/// What is watched, and the growth below which it is nobody's concern: 4 MiB, 20 files, 5 threads.
const WATCHED: [(&str, usize, f64); 3] = [
    ("memory", instance::MEMORY, 4_194_304.0),
    ("fds", instance::FDS, 20.0),
    ("threads", instance::THREADS, 5.0),
];

/// The scale of time.
pub(super) fn spans() -> Spans {
    static SPANS: OnceLock<Spans> = OnceLock::new();
    *SPANS.get_or_init(|| {
        let text = std::env::var("UPKEEP_LEAK_SPANS").ok();
        text.and_then(|text| Spans::parse(&text)).unwrap_or_default()
    })
}

/// Looks at every so many seconds are enough for a window.
pub(super) fn every() -> u64 {
    if spans().window < 60.0 { 1 } else { 10 }
}

/// An event about what leaks; `why`: if it has ended.
pub(super) fn event(leak: &Leak, now: f64, ended: Option<&str>) -> Event {
    let mut details = BTreeMap::from([
        ("metric".to_owned(), leak.metric.clone().into()),
        ("per_hour".to_owned(), leak.per_hour.round().into()),
        ("since".to_owned(), leak.since.into()),
    ]);
    if ended.is_none() {
        details.insert("confidence".to_owned(), leak.confidence.into());
        if let (Some(limit), Some(left)) = (leak.limit, leak.seconds_to_limit) {
            details.insert("limit".to_owned(), limit.into());
            details.insert("seconds_to_limit".to_owned(), left.round().into());
        }
    }
    Event {
        id: 0,
        at: now,
        who: "upkeep".to_owned(),
        what: if ended.is_none() { "leak" } else { "leak_ended" }.to_owned(),
        target: format!("{}:{}", leak.app, leak.index),
        why: ended.map_or_else(|| leak.text(now), str::to_owned),
        result: ended.map_or_else(String::new, |_| leak.text(now)),
        details,
    }
}

/// The detectors of one process.
#[derive(Debug)]
pub(super) struct Watch {
    detectors: [Detector; 3],
    memory_limit: Option<f64>,
    files_limit: Option<f64>,
    /// What was told.
    told: Vec<Leak>,
}

impl Watch {
    /// `started_ms`: CLOCK_MONOTONIC; `memory_limit`: the app's own.
    pub(super) fn new(pid: Pid, started_ms: u64, memory_limit: Option<f64>) -> Self {
        let started = started_ms as f64 / 1000.0;
        Self {
            detectors: WATCHED.map(|(_, _, least)| Detector::new(spans(), least, started)),
            told: Vec::new(),
            memory_limit,
            files_limit: figures::limit(pid, "Max open files").map(|limit| limit as f64),
        }
    }

    /// Takes the figures of a moment.
    pub(super) fn look(&mut self, now_ms: u64, values: &Values) {
        for (detector, (_, column, _)) in self.detectors.iter_mut().zip(WATCHED) {
            if let Some(value) = values.get(column).copied().flatten() {
                // Who wants to know asks for what is found now.
                let _ = detector.push(now_ms as f64 / 1000.0, value);
            }
        }
    }

    /// What has begun or ended since this was asked last, of what is found now; `process_ended`: nothing is found any
    /// more, because there is none.
    pub(super) fn news(&mut self, found: &[Leak], now: f64, process_ended: bool) -> Vec<Event> {
        let has = |list: &[Leak], leak: &Leak| list.iter().any(|other| other.metric == leak.metric);
        let ended = if process_ended {
            "its process has ended"
        } else {
            "it grows no more"
        };
        let over = self.told.iter().filter(|leak| !has(found, leak));
        let mut news: Vec<Event> = over.map(|leak| event(leak, now, Some(ended))).collect();
        let begun = found.iter().filter(|leak| !has(&self.told, leak));
        news.extend(begun.map(|leak| event(leak, now, None)));
        found.clone_into(&mut self.told);
        news
    }

    /// What leaks now. `machine`: bytes of memory that there are; clocks in ms.
    pub(super) fn found(
        &self,
        name: &SeriesName,
        machine: Option<f64>,
        (monotonic_ms, unix_ms): (u64, u64),
    ) -> Vec<Leak> {
        let Some(app) = &name.app else {
            return Vec::new();
        };
        let leaks = self
            .detectors
            .iter()
            .zip(WATCHED)
            .filter_map(|(detector, (metric, _, _))| {
                let finding = detector.finding()?;
                let limit = match metric {
                    "memory" => self.memory_limit.or(machine),
                    "fds" => self.files_limit,
                    _ => None,
                };
                let ago = monotonic_ms as f64 / 1000.0 - finding.since;
                Some(Leak {
                    app: app.clone(),
                    index: name.index,
                    metric: metric.to_owned(),
                    per_hour: finding.per_second * 3600.0,
                    confidence: finding.confidence,
                    limit,
                    seconds_to_limit: limit.map(|limit| finding.seconds_to(limit)),
                    since: unix_ms as f64 / 1000.0 - ago,
                })
            });
        leaks.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::columns::WIDTH;

    #[test]
    fn a_leak_is_told_with_its_limit_and_the_time_until_it() {
        let name = SeriesName {
            app: Some(upkeep_model::id::AppName::parse("shop").expect("a name")),
            index: 2,
        };
        let mut watch = Watch::new(Pid::own(), 0, Some(1e9));
        let mut values = [None; WIDTH];
        for second in (0..20_000_u64).step_by(10) {
            values[instance::MEMORY] = Some(1e8 + second as f64 * 1e4);
            values[instance::FDS] = Some(30.0);
            watch.look(second * 1000, &values);
        }
        let found = watch.found(&name, Some(1e12), (20_000_000, 1_795_000_000_000));
        let [leak] = found.as_slice() else {
            panic!("one leak: {found:?}");
        };
        assert_eq!(
            (leak.metric.as_str(), leak.index, leak.limit),
            ("memory", 2, Some(1e9))
        );
        assert!((leak.per_hour - 3.6e7).abs() < 1e5, "{leak:?}");
        assert!(
            leak.seconds_to_limit
                .is_some_and(|left| (69_000.0..75_000.0).contains(&left)),
            "{leak:?}"
        );
        assert!(leak.since < 1_794_990_000.0, "{leak:?}");
        let begun = watch.news(&found, 1_795_000_000.0, false);
        assert_eq!(begun.len(), 1);
        assert_eq!(
            (begun[0].what.as_str(), begun[0].target.as_str()),
            ("leak", "shop:2")
        );
        assert!(begun[0].is_failure());
        assert!(
            begun[0].why.starts_with("memory has grown by 34M an hour"),
            "{begun:?}"
        );
        assert!(watch.news(&found, 1_795_000_010.0, false).is_empty());
        let ended = watch.news(&[], 1_795_000_020.0, true);
        assert_eq!(
            (ended[0].what.as_str(), ended[0].why.as_str()),
            ("leak_ended", "its process has ended")
        );
        assert!(watch.news(&[], 1_795_000_030.0, false).is_empty());
    }
}
