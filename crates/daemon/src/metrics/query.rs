//! Asking the history.
//!
//! The finest ring that covers the span is read, row by row, into as many steps as were asked for. An app's value is
//! the sum over its instances, divided by the rows in which any of them was seen; its highest is the sum of the highest
//! of each, which it can only have stayed below. The delay of the event loop is no sum: it is the mean.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate; steps are few"
)]

use std::collections::BTreeMap;

use upkeep_api::metrics::{METRICS, Metric, MetricsAnswer, Of, Per, Series};
use upkeep_model::id::AppName;

use super::{
    columns::{WIDTH, column, instance, scales},
    history::{FIVES, FIVES_KEPT, History, SECONDS_KEPT, SeriesName, TENS, TENS_KEPT},
    rows::{Reader, Row, Sum},
};

/// Values of a series, unless asked otherwise.
pub(crate) const POINTS: usize = 300;
/// And at most.
pub(crate) const POINTS_MAX: usize = 10_000;

/// Values of all series of an answer together: where there are more, steps are longer. They are 32 bytes each while
/// they are gathered.
pub(crate) const VALUES_MAX: usize = 200_000;

/// What is asked, in Unix seconds.
#[derive(Clone, Debug)]
pub(crate) struct Query<'a> {
    /// Of these instances; `None` as indexes: of all.
    pub(crate) apps: BTreeMap<AppName, Option<Vec<u32>>>,
    /// Of the machine too.
    pub(crate) host: bool,
    /// Only these figures; empty: all.
    pub(crate) metrics: Vec<&'a str>,
    pub(crate) since: f64,
    pub(crate) until: f64,
    pub(crate) points: usize,
    pub(crate) per: Per,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ring {
    /// Seconds of a row.
    step: u64,
    kept: u64,
}

const RINGS: [Ring; 3] = [
    Ring {
        step: 1,
        kept: SECONDS_KEPT,
    },
    Ring {
        step: 10,
        kept: TENS_KEPT,
    },
    Ring {
        step: 300,
        kept: FIVES_KEPT,
    },
];

/// The steps of an answer.
#[derive(Clone, Copy, Debug)]
struct Grid {
    ring: Ring,
    /// Rows of the ring in a step.
    factor: u64,
    /// Slot of the ring at which the first step begins.
    first: u64,
    steps: usize,
}

impl Grid {
    fn new(since: u64, until: u64, now: u64, points: usize) -> Self {
        let covers = |ring: &&Ring| since + ring.kept + ring.step >= now;
        let ring = *RINGS.iter().find(covers).unwrap_or(&RINGS[2]);
        // What is older than the oldest ring is nowhere.
        let since = since.max(now.saturating_sub(FIVES_KEPT + 300));
        let rows = until.saturating_sub(since).div_ceil(ring.step).max(1);
        let last = until.max(since + 1).div_ceil(ring.step);
        let fit = |points: u64| {
            let factor = rows.div_ceil(points).max(1);
            let first = since / ring.step / factor * factor;
            (factor, first, last.saturating_sub(first).div_ceil(factor).max(1))
        };
        let points = points.max(1) as u64;
        let (mut factor, mut first, mut steps) = fit(points);
        if steps > points && points > 1 {
            // Steps begin at multiples of themselves, which may take one more.
            (factor, first, steps) = fit(points - 1);
        }
        Self {
            ring,
            factor,
            first,
            steps: usize::try_from(steps).unwrap_or(usize::MAX).min(2 * POINTS_MAX),
        }
    }

    /// Which step a row belongs to, and which row of the ring it is.
    fn place(&self, slot: u64) -> Option<(usize, usize)> {
        let row = usize::try_from(slot.checked_sub(self.first)?).ok()?;
        let step = row / usize::try_from(self.factor).ok()?;
        (step < self.steps).then_some((step, row))
    }

    fn rows(&self) -> usize {
        self.steps * usize::try_from(self.factor).unwrap_or(1)
    }
}

/// A value for each step.
type Column = Vec<Option<f64>>;

/// One figure of an app, an instance or the machine, as it is gathered.
#[derive(Debug)]
struct Gathered {
    column: usize,
    sums: Vec<f64>,
    counts: Vec<u32>,
    /// Rows in which any instance was seen, one bit each.
    seen: Vec<u64>,
    /// Highest of the instance that is being read.
    high: Vec<f64>,
    highs: Vec<f64>,
}

impl Gathered {
    fn new(column: usize, grid: &Grid) -> Self {
        Self {
            column,
            sums: vec![0.0; grid.steps],
            counts: vec![0; grid.steps],
            seen: vec![0; grid.rows().div_ceil(64)],
            high: vec![f64::NAN; grid.steps],
            highs: vec![f64::NAN; grid.steps],
        }
    }

    fn add(&mut self, step: usize, row: usize, (mean, high): (f64, f64)) {
        if let (Some(sum), Some(highest)) = (self.sums.get_mut(step), self.high.get_mut(step)) {
            *sum += mean;
            *highest = highest.max(high);
        }
        if let Some(count) = self.counts.get_mut(step) {
            *count += 1;
        }
        if let Some(word) = self.seen.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    /// The instance has been read.
    fn end_instance(&mut self) {
        for (total, high) in self.highs.iter_mut().zip(&mut self.high) {
            if !high.is_nan() {
                *total = if total.is_nan() { *high } else { *total + *high };
                *high = f64::NAN;
            }
        }
    }

    fn finish(self, of: Of, grid: &Grid) -> Option<(Column, Column)> {
        let is_mean = of == Of::Instance && self.column == instance::EVENT_LOOP_DELAY;
        let factor = usize::try_from(grid.factor).unwrap_or(1);
        let seen = |step: usize| {
            let rows = step * factor..(step + 1) * factor;
            let is_seen = |row: usize| {
                self.seen
                    .get(row / 64)
                    .is_some_and(|word| word >> (row % 64) & 1 == 1)
            };
            rows.filter(|row| is_seen(*row)).count() as u32
        };
        let mut any = false;
        let mut values = Vec::with_capacity(grid.steps);
        for (step, (sum, count)) in self.sums.iter().zip(&self.counts).enumerate() {
            let divisor = match *count {
                0 => 0,
                count if is_mean => count,
                _ => seen(step),
            };
            any |= divisor > 0;
            values.push((divisor > 0).then(|| sum / f64::from(divisor)));
        }
        let highs = self
            .highs
            .into_iter()
            .map(|high| (!high.is_nan()).then_some(high));
        any.then(|| (values, highs.collect()))
    }
}

impl History {
    /// The figures of a span. Reads memory and disk; takes some milliseconds, so not for the supervision thread where
    /// the span is long.
    pub(crate) fn query(&self, query: &Query<'_>, now: u64) -> MetricsAnswer {
        let since = (query.since.max(0.0) as u64).min(now);
        let until = (query.until.max(0.0) as u64).clamp(since, now + 1);
        let mut series = Vec::new();
        // One group is one app, one instance, or the machine.
        let mut groups: BTreeMap<(Option<AppName>, Option<u32>), Vec<u32>> = BTreeMap::new();
        for (SeriesName { app, index }, id) in self.names() {
            let wanted = match &app {
                None => query.host,
                Some(app) => query
                    .apps
                    .get(app)
                    .is_some_and(|indexes| indexes.as_ref().is_none_or(|indexes| indexes.contains(&index))),
            };
            if wanted {
                let index = (query.per == Per::Instance && app.is_some()).then_some(index);
                groups.entry((app, index)).or_default().push(id);
            }
        }
        let asked = |app: &Option<AppName>| -> Vec<(&Metric, usize)> {
            let of = if app.is_some() { Of::Instance } else { Of::Host };
            METRICS
                .iter()
                .filter(|metric| {
                    metric.of == of && (query.metrics.is_empty() || query.metrics.contains(&metric.name))
                })
                .filter_map(|metric| Some((metric, column(metric)?)))
                .collect()
        };
        let count: usize = groups.keys().map(|(app, _)| asked(app).len()).sum();
        let points = query.points.min(VALUES_MAX / count.max(1));
        let grid = Grid::new(since, until, now, points.clamp(1, POINTS_MAX));
        for ((app, index), ids) in groups {
            let of = if app.is_some() { Of::Instance } else { Of::Host };
            let metrics = asked(&app);
            let mut gathered: Vec<Gathered> = metrics
                .iter()
                .map(|(_, column)| Gathered::new(*column, &grid))
                .collect();
            let scales = scales(of);
            for id in ids {
                self.read(id, &grid, &scales, &mut |row| {
                    let Some((step, number)) = grid.place(row.slot) else {
                        return;
                    };
                    for gathered in &mut gathered {
                        if let Some(value) = row.get(gathered.column, &scales) {
                            gathered.add(step, number, value);
                        }
                    }
                });
                gathered.iter_mut().for_each(Gathered::end_instance);
            }
            for ((metric, _), gathered) in metrics.iter().zip(gathered) {
                if let Some((values, highs)) = gathered.finish(of, &grid) {
                    series.push(Series {
                        app: app.clone(),
                        index,
                        metric: metric.name.to_owned(),
                        values,
                        highs,
                    });
                }
            }
        }
        MetricsAnswer {
            from: (grid.first * grid.ring.step) as f64,
            step: (grid.factor * grid.ring.step) as f64,
            series,
        }
    }

    /// Every row of a ring, none twice.
    fn read(&self, id: u32, grid: &Grid, scales: &[f64; WIDTH], each: &mut dyn FnMut(&Row)) {
        let step = grid.ring.step;
        let from = grid.first * step;
        let to = from + grid.rows() as u64 * step;
        if step == 1 {
            for bytes in self.recent(id, Some(from)).seconds {
                for row in Reader::new(&bytes) {
                    each(&row);
                }
            }
            return;
        }
        // Memory first: a block that is written between the two looks is then seen twice, and not never. What memory
        // has is newer than what the disk has of the same time.
        let recent = self.recent(id, None);
        let running: Vec<Row> = Reader::new(&recent.tens).collect();
        let begun = running.first().map_or(u64::MAX, |row| row.slot);
        let mut rows: Vec<Row> = Reader::new(&recent.ended)
            .filter(|row| row.slot < begun)
            .collect();
        rows.extend(running);
        let kind = if step == 10 {
            TENS
        } else {
            rows = rows
                .chunk_by(|one, next| one.slot / 30 == next.slot / 30)
                .map(|rows| {
                    let mut sum = Sum::default();
                    for row in rows {
                        sum.add(row, scales);
                    }
                    sum.row(rows.first().map_or(0, |row| row.slot / 30), scales)
                })
                .collect();
            FIVES
        };
        let first = rows.first().map_or(u64::MAX, |row| row.slot);
        let last = rows.last().map_or(u64::MAX, |row| row.slot);
        for bytes in self.stored(kind, id, from, to) {
            let old = Reader::new(&bytes).filter(|row| row.slot < first || row.slot > last);
            for row in old {
                each(&row);
            }
        }
        for row in &rows {
            each(row);
        }
    }
}
