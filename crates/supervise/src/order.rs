//! In which order apps start and stop.
//!
//! A start goes in waves: everything of a wave may start at once when its [`gate`]s are open. A stop goes the same
//! way back, and never refuses: whoever is in a circle, or depends on something that does not exist, is stopped
//! first.

use std::collections::{BTreeMap, BTreeSet};

use upkeep_model::{app::Condition, id::AppName, state::Actual};

/// Dependencies that cannot be satisfied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// `path` leads from an app back to itself.
    #[error("apps depend on each other in a circle: {}", path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → "))]
    Circle {
        /// The apps of the circle; the first is also the last.
        path: Vec<AppName>,
    },
    /// No such app.
    #[error("`{app}` depends on `{missing}`, which does not exist")]
    Missing {
        /// Who depends.
        app: AppName,
        /// On whom.
        missing: AppName,
    },
}

/// Waves: every app of a wave depends only on apps of earlier waves. Within a wave by name.
pub fn start_waves(dependencies: &BTreeMap<AppName, Vec<AppName>>) -> Result<Vec<Vec<AppName>>, OrderError> {
    for (app, on) in dependencies {
        if let Some(missing) = on.iter().find(|on| !dependencies.contains_key(*on)) {
            return Err(OrderError::Missing {
                app: app.clone(),
                missing: missing.clone(),
            });
        }
    }
    let (waves, rest) = waves(dependencies);
    match circle(dependencies, &rest) {
        Some(path) => Err(OrderError::Circle { path }),
        None => Ok(waves),
    }
}

/// The same backwards: who is depended upon stops last.
pub fn stop_waves(dependencies: &BTreeMap<AppName, Vec<AppName>>) -> Vec<Vec<AppName>> {
    let (mut waves, rest) = waves(dependencies);
    if !rest.is_empty() {
        waves.push(rest.into_iter().cloned().collect());
    }
    waves.reverse();
    waves
}

/// The waves, and what no wave could take because it is in a circle or behind one.
fn waves(dependencies: &BTreeMap<AppName, Vec<AppName>>) -> (Vec<Vec<AppName>>, BTreeSet<&AppName>) {
    let mut missing: BTreeMap<&AppName, usize> = BTreeMap::new();
    let mut dependents: BTreeMap<&AppName, Vec<&AppName>> = BTreeMap::new();
    for (app, on) in dependencies {
        let on: BTreeSet<_> = on.iter().filter(|on| dependencies.contains_key(*on)).collect();
        missing.insert(app, on.len());
        for one in on {
            dependents.entry(one).or_default().push(app);
        }
    }
    let mut waves = Vec::new();
    let mut wave: BTreeSet<&AppName> = missing
        .iter()
        .filter(|(_, left)| **left == 0)
        .map(|(app, _)| *app)
        .collect();
    while !wave.is_empty() {
        let mut next = BTreeSet::new();
        for app in &wave {
            missing.remove(app);
            for dependent in dependents.get(app).into_iter().flatten() {
                if let Some(left) = missing.get_mut(dependent) {
                    *left -= 1;
                    if *left == 0 {
                        next.insert(*dependent);
                    }
                }
            }
        }
        waves.push(wave.into_iter().cloned().collect());
        wave = next;
    }
    (waves, missing.into_keys().collect())
}

/// A circle among `rest`. Everything in it depends on something else in it, so following any thread finds one.
fn circle(dependencies: &BTreeMap<AppName, Vec<AppName>>, rest: &BTreeSet<&AppName>) -> Option<Vec<AppName>> {
    let mut path: Vec<&AppName> = vec![*rest.first()?];
    loop {
        let last = path.last()?;
        let next = dependencies
            .get(*last)?
            .iter()
            .filter_map(|on| rest.get(on))
            .min()?;
        let seen = path.iter().position(|app| app == next);
        path.push(next);
        if let Some(start) = seen {
            return Some(path[start..].iter().map(|app| (*app).clone()).collect());
        }
    }
}

/// What is known of one instance of a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub actual: Actual,
    /// Whether it is ready.
    pub ready: bool,
}

/// Whether a dependency has reached its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It has.
    Met,
    /// Not yet; the text says what is missing.
    Pending(String),
    /// Not without somebody's order; the text says why.
    Never(String),
}

/// Judges one dependency by all instances of it: one that never will outweighs one that has not yet. An app
/// without instances keeps nobody waiting.
pub fn gate(on: &AppName, condition: Condition, instances: &[Progress]) -> Gate {
    let mut gate = Gate::Met;
    for (index, progress) in instances.iter().enumerate() {
        let name = if instances.len() == 1 {
            format!("`{on}`")
        } else {
            format!("`{on}:{index}`")
        };
        match one(condition, *progress) {
            One::Met => {}
            One::Never(why) => return Gate::Never(format!("{name} {why}")),
            One::Pending(why) if gate == Gate::Met => gate = Gate::Pending(format!("{name} {why}")),
            One::Pending(_) => {}
        }
    }
    gate
}

enum One {
    Met,
    Pending(&'static str),
    Never(&'static str),
}

/// One instance against a condition: the whole table.
fn one(condition: Condition, Progress { actual, ready }: Progress) -> One {
    match (condition, actual) {
        (Condition::Started, Actual::Running | Actual::Completed) => One::Met,
        (Condition::Healthy, Actual::Running) if ready => One::Met,
        (Condition::Completed, Actual::Completed) => One::Met,

        (Condition::Healthy, Actual::Running) => One::Pending("is running but not ready yet"),
        (Condition::Completed, Actual::Running) => One::Pending("is still running"),
        (Condition::Healthy, Actual::Completed) => One::Never("has completed, so it will not become healthy"),

        (_, Actual::Stopped) => One::Pending("is stopped; start it"),
        (_, Actual::Waiting) => One::Pending("is itself waiting for its dependencies"),
        (_, Actual::Starting) => One::Pending("is being started"),
        (_, Actual::Stopping | Actual::Killing) => One::Pending("is being stopped"),
        (_, Actual::BackingOff) => One::Pending("has ended and pauses before its next start"),
        (_, Actual::Failed) => One::Never("has failed"),
        (_, Actual::GaveUp) => One::Never("failed too often and was given up"),
    }
}

#[cfg(test)]
#[path = "order/tests.rs"]
mod tests;
