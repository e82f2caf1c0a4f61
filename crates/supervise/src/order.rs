//! In which order apps start and stop.

use std::collections::BTreeMap;

use upkeep_model::{app::Condition, id::AppName, state::Actual};

/// Dependencies that cannot be satisfied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// `path` leads from an app back to itself.
    #[error("apps depend on each other in a circle: {}", path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → "))]
    Circle { path: Vec<AppName> },
    /// No such app.
    #[error("`{app}` depends on `{missing}`, which does not exist")]
    Missing { app: AppName, missing: AppName },
}

/// Waves: every app of a wave depends only on apps of earlier waves. Within a wave by name.
pub fn start_waves(_dependencies: &BTreeMap<AppName, Vec<AppName>>) -> Result<Vec<Vec<AppName>>, OrderError> {
    unimplemented!()
}

/// The same backwards: who is depended upon stops last.
pub fn stop_waves(_dependencies: &BTreeMap<AppName, Vec<AppName>>) -> Vec<Vec<AppName>> {
    unimplemented!()
}

/// What is known of one instance of a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub actual: Actual,
    pub ready: bool,
}

/// Whether a dependency has reached its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    Met,
    /// Not yet; the text says what is missing.
    Pending(String),
    /// Not without somebody's order; the text says why.
    Never(String),
}

/// Judges one dependency by all instances of it.
pub fn gate(_on: &AppName, _condition: Condition, _instances: &[Progress]) -> Gate {
    unimplemented!()
}
