//! Whether what an app waits for has come.

use std::collections::BTreeMap;

use upkeep_model::{app::Condition, id::AppName};
use upkeep_supervise::order::{Gate, Progress, gate};

use super::directory::AppEntry;

/// All dependencies of an app: what can never come decides before what is pending.
pub(crate) fn judge_all(
    apps: &BTreeMap<AppName, AppEntry>,
    depends_on: &BTreeMap<AppName, Condition>,
) -> Gate {
    let mut pending = None;
    for (name, condition) in depends_on {
        match judge(apps, name, *condition) {
            Gate::Met => {}
            Gate::Pending(why) => pending = Some(why),
            Gate::Never(why) => return Gate::Never(why),
        }
    }
    pending.map_or(Gate::Met, Gate::Pending)
}

/// Whether another app has reached a condition.
fn judge(apps: &BTreeMap<AppName, AppEntry>, name: &AppName, condition: Condition) -> Gate {
    match apps.get(name) {
        None => Gate::Pending(format!("`{name}` does not exist")),
        Some(entry) => {
            let status = entry.status.borrow();
            let progress: Vec<Progress> = status
                .instances
                .iter()
                .map(|instance| Progress {
                    actual: instance.view.actual,
                    ready: instance.view.ready,
                })
                .collect();
            gate(name, condition, &progress)
        }
    }
}
