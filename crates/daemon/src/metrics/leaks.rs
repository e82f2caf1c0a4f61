//! Watching one process for leaks: memory, open files, threads ([`upkeep_supervise::leak`] judges).

use upkeep_api::metrics::Leak;
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

/// The detectors of one process.
#[derive(Debug)]
pub(super) struct Watch {
    detectors: [Detector; 3],
    memory_limit: Option<f64>,
    files_limit: Option<f64>,
}

impl Watch {
    /// `started_ms`: CLOCK_MONOTONIC; `memory_limit`: the app's own.
    pub(super) fn new(pid: Pid, started_ms: u64, memory_limit: Option<f64>) -> Self {
        let started = started_ms as f64 / 1000.0;
        Self {
            detectors: WATCHED.map(|(_, _, least)| Detector::new(Spans::default(), least, started)),
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
    }
}
