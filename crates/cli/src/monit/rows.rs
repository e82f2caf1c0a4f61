//! The rows of the table: apps or instances, in an order, through a filter.

use std::{
    cmp::{Ordering, Reverse},
    collections::{HashMap, VecDeque},
};

use upkeep_api::{
    body::{AppView, InstanceView},
    metrics::MetricsAnswer,
};
use upkeep_model::{id::AppName, state::Desired};

use crate::output::{Paint, table};

/// Which row: the app, and the instance where instances have rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RowId {
    pub(super) app: AppName,
    pub(super) index: Option<u32>,
}

impl RowId {
    /// What commands call it: `shop` or `shop:1`.
    pub(super) fn selector(&self) -> String {
        match self.index {
            Some(index) => format!("{}:{index}", self.app),
            None => self.app.to_string(),
        }
    }
}

/// What a row says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) id: RowId,
    pub(super) state: String,
    pub(super) paint: Paint,
    /// How many are ready, of how many that are wanted.
    pub(super) ready: usize,
    pub(super) wanted: usize,
    pub(super) cpu_percent: Option<f64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) restarts: u32,
    pub(super) uptime_ms: Option<u64>,
    /// Why it is not simply well; empty if it is.
    pub(super) why: String,
}

/// By what rows are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    State,
    Cpu,
    Memory,
    Restarts,
    Uptime,
}

impl Sort {
    pub(super) const ALL: [Self; 6] = [
        Self::Name,
        Self::State,
        Self::Cpu,
        Self::Memory,
        Self::Restarts,
        Self::Uptime,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Restarts => "restarts",
            Self::Uptime => "uptime",
        }
    }

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// How bad a colour is: what needs a look comes first.
const fn rank(paint: Paint) -> u8 {
    match paint {
        Paint::Bad => 0,
        Paint::Busy => 1,
        Paint::Good => 2,
        Paint::Strong | Paint::Quiet => 3,
    }
}

/// A row for each app, or for each instance.
pub(super) fn build(apps: &[AppView], by_instance: bool) -> Vec<Row> {
    apps.iter()
        .flat_map(|app| -> Vec<Row> {
            if by_instance && app.instances.len() > 1 {
                app.instances
                    .iter()
                    .map(|instance| of(app, std::slice::from_ref(instance), Some(instance.index)))
                    .collect()
            } else {
                vec![of(app, &app.instances, None)]
            }
        })
        .collect()
}

fn of(app: &AppView, instances: &[InstanceView], index: Option<u32>) -> Row {
    // The worst of them speaks for all.
    let worst = instances
        .iter()
        .map(|instance| (table::state_word(app, instance), instance))
        .min_by_key(|((_, paint), _)| rank(*paint));
    let (state, paint, mut why) = match worst {
        Some(((word, paint), instance)) => (word.to_owned(), paint, table::reason(app, instance)),
        None => ("stopped".to_owned(), Paint::Quiet, String::new()),
    };
    if let Some(rollout) = &app.rollout {
        why.clone_from(rollout);
    }
    let state = match &app.rollout {
        Some(_) => "replacing".to_owned(),
        None => state,
    };
    let sum = |figures: Vec<f64>| (!figures.is_empty()).then(|| figures.iter().sum());
    let memory: Vec<u64> = instances
        .iter()
        .filter_map(|instance| instance.memory_bytes)
        .collect();
    Row {
        id: RowId {
            app: app.name.clone(),
            index,
        },
        state,
        paint: if app.rollout.is_some() { Paint::Busy } else { paint },
        ready: instances
            .iter()
            .filter(|instance| instance.pid.is_some() && (instance.ready || !app.has_readiness))
            .count(),
        wanted: instances
            .iter()
            .filter(|instance| instance.desired == Desired::Up)
            .count(),
        cpu_percent: sum(instances
            .iter()
            .filter_map(|instance| instance.cpu_percent)
            .collect()),
        memory_bytes: (!memory.is_empty()).then(|| memory.iter().sum()),
        restarts: instances.iter().map(|instance| instance.restarts).sum(),
        uptime_ms: instances.iter().filter_map(|instance| instance.uptime_ms).min(),
        why,
    }
}

/// Those that the filter's words all fit (in name, state or reason), in order.
pub(super) fn arrange(mut rows: Vec<Row>, filter: &str, sort: Sort, reverse: bool) -> Vec<Row> {
    let words: Vec<String> = filter.split_whitespace().map(str::to_lowercase).collect();
    rows.retain(|row| {
        let text = format!("{} {} {}", row.id.selector(), row.state, row.why).to_lowercase();
        words.iter().all(|word| text.contains(word))
    });
    // Figures: the highest first, since one looks for those.
    let by = |one: &Row, other: &Row| -> Ordering {
        match sort {
            Sort::Name => Ordering::Equal,
            Sort::State => rank(one.paint).cmp(&rank(other.paint)),
            Sort::Cpu => high(other.cpu_percent).total_cmp(&high(one.cpu_percent)),
            Sort::Memory => Reverse(one.memory_bytes).cmp(&Reverse(other.memory_bytes)),
            Sort::Restarts => Reverse(one.restarts).cmp(&Reverse(other.restarts)),
            // The youngest first.
            Sort::Uptime => one
                .uptime_ms
                .unwrap_or(u64::MAX)
                .cmp(&other.uptime_ms.unwrap_or(u64::MAX)),
        }
    };
    rows.sort_by(|one, other| by(one, other).then_with(|| one.id.cmp(&other.id)));
    if reverse {
        rows.reverse();
    }
    rows
}

fn high(figure: Option<f64>) -> f64 {
    figure.unwrap_or(-1.0)
}

/// How many seconds small lines reach back.
pub(super) const TRAIL: usize = 60;

/// The last minute of a row: processor time in percent of a core, memory in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Trail {
    pub(super) cpu: VecDeque<Option<f64>>,
    pub(super) memory: VecDeque<Option<f64>>,
}

fn push(values: &mut VecDeque<Option<f64>>, value: Option<f64>) {
    if values.len() >= TRAIL {
        values.pop_front();
    }
    values.push_back(value);
}

/// Trails of all rows.
#[derive(Debug, Default)]
pub(super) struct Trails(HashMap<RowId, Trail>);

impl Trails {
    pub(super) fn of(&self, id: &RowId) -> Option<&Trail> {
        self.0.get(id)
    }

    /// One more second; what is gone is forgotten.
    pub(super) fn step(&mut self, rows: &[Row]) {
        let mut next = HashMap::with_capacity(rows.len());
        for row in rows {
            let mut trail = self.0.remove(&row.id).unwrap_or_default();
            push(&mut trail.cpu, row.cpu_percent);
            push(&mut trail.memory, row.memory_bytes.map(|bytes| bytes as f64));
            next.insert(row.id.clone(), trail);
        }
        self.0 = next;
    }

    /// What was before we looked, from the daemon's history.
    pub(super) fn begin(&mut self, answer: &MetricsAnswer) {
        for series in &answer.series {
            let Some(app) = &series.app else { continue };
            let id = RowId {
                app: app.clone(),
                index: series.index,
            };
            let trail = self.0.entry(id).or_default();
            let (values, factor) = match series.metric.as_str() {
                "cpu" => (&mut trail.cpu, 100.0),
                "memory" => (&mut trail.memory, 1.0),
                _ => continue,
            };
            let seen = values.len();
            for value in series.values.iter().rev().take(TRAIL.saturating_sub(seen)) {
                values.push_front(value.map(|value| value * factor));
            }
        }
    }
}
