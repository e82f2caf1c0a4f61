//! What a command changes, worked out before anything is done: data, for a `dry_run` to show and for the store to take.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use upkeep_api::{
    body::{Apply, Change, Difference, What},
    error::Code,
};
use upkeep_model::{
    app::AppSpec,
    id::AppName,
    state::{Actual, Desired},
};
use upkeep_store::{Condition, Txn};
use upkeep_supervise::order;

use super::{
    director::NEXT_ID,
    directory::{AppEntry, AppRecord, InstanceRecord, key},
    selector::Selected,
};
use crate::{
    command::{Grants, Refusal, Verb},
    supply::Granted,
};

/// How many instances one app may have.
const INSTANCES_MAX: u32 = 1000;
/// What a command comes to, before it is done.
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) txn: Txn,
    /// Records that the transaction writes.
    pub(super) records: BTreeMap<AppName, Arc<AppRecord>>,
    pub(super) next_id: u32,
}

/// What is known of apps beside their specifications.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// What was wanted of each instance of an app when it was saved: so new apps begin.
    pub(super) saved: BTreeMap<AppName, Vec<Desired>>,
    /// What they may be given of the shared configuration.
    pub(super) grants: Grants,
}

/// What applying specifications changes.
pub(super) fn apply(
    apps: &BTreeMap<AppName, AppEntry>,
    apply: &Apply,
    beside: &Beside,
    mut next_id: u32,
) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        changes: Vec::new(),
        txn: Txn::default(),
        records: BTreeMap::new(),
        next_id,
    };
    let mut dependencies: BTreeMap<AppName, Vec<AppName>> = apps
        .iter()
        .map(|(name, entry)| {
            (
                name.clone(),
                entry.record.spec.depends_on.keys().cloned().collect(),
            )
        })
        .collect();
    for spec in &apply.apps {
        check(spec)?;
        dependencies.insert(spec.name.clone(), spec.depends_on.keys().cloned().collect());
    }
    order::start_waves(&dependencies).map_err(|error| {
        Refusal::new(Code::Invalid, error.to_string()).hint("nothing was changed; check `depends_on`")
    })?;
    for spec in &apply.apps {
        let name = &spec.name;
        if plan.records.contains_key(name) {
            return Err(Refusal::new(Code::Invalid, format!("`{name}` is given twice")));
        }
        let old = apps.get(name);
        let mut ids: Vec<u32> = old.map_or_else(Vec::new, |entry| {
            entry
                .record
                .instances
                .iter()
                .map(|instance| instance.id)
                .collect()
        });
        ids.truncate(spec.instances as usize);
        while ids.len() < spec.instances as usize {
            ids.push(next_id);
            next_id += 1;
        }
        let up = |desired| {
            ids.iter()
                .map(|id| InstanceRecord { id: *id, desired })
                .collect::<Vec<_>>()
        };
        let (what, instances) = match old {
            None => {
                let desired = if spec.autostart {
                    Desired::Up
                } else {
                    Desired::Down
                };
                let mut instances = up(desired);
                for (instance, saved) in instances
                    .iter_mut()
                    .zip(beside.saved.get(name).into_iter().flatten())
                {
                    instance.desired = *saved;
                }
                (What::Created, instances)
            }
            Some(entry) => {
                let as_wanted = |desired| {
                    let mut instances = entry.record.instances.iter();
                    instances.all(|instance| instance.desired == desired)
                };
                let at_work = || {
                    // What has completed is as it should be: a file that is applied twice changes nothing.
                    let failed = [Actual::Stopped, Actual::GaveUp, Actual::Failed];
                    if entry.record.spec.schedule.is_some() {
                        return true; // between two runs it is at rest, however the last one ended
                    }
                    let status = entry.status.borrow();
                    status
                        .instances
                        .iter()
                        .all(|instance| !failed.contains(&instance.view.actual))
                };
                let running =
                    (as_wanted(Desired::Up) && at_work()) || (!spec.autostart && as_wanted(Desired::Down));
                let same = !entry.record.spec.differs_from(spec);
                let what = match (same, running) {
                    (true, true) if apply.restart_unchanged => What::Restarted,
                    (true, true) => What::Unchanged,
                    (true, false) => What::Started,
                    (false, _) => What::Updated,
                };
                (what, up(Desired::Up))
            }
        };
        plan.changes.push(Change {
            app: name.clone(),
            instances: Vec::new(),
            what,
            differences: match old {
                Some(entry) if what == What::Updated => differences(&entry.record.spec, spec),
                _ => Vec::new(),
            },
        });
        let granted = granted(spec, old, &beside.grants);
        let known = old.and_then(|entry| entry.record.supply.as_ref());
        // Nothing of what it does has changed: who may reveal less takes nothing from it.
        let is_weaker = known.is_some_and(|known| known.secrets)
            && granted.as_ref().is_some_and(|granted| !granted.secrets);
        if what == What::Unchanged && (is_weaker || known == granted.as_ref()) {
            continue;
        }
        let mut record = match old {
            None => AppRecord::new(spec.clone(), instances),
            Some(entry) if entry.record.spec.restarts_into(spec) => {
                entry
                    .record
                    .changed_to(spec.clone(), instances, entry.status.borrow().unproven)
            }
            Some(entry) => AppRecord {
                spec: spec.clone(),
                instances,
                ..AppRecord::clone(&entry.record)
            },
        };
        record.supply = granted;
        plan.write(record, old.map_or(0, |entry| entry.revision))?;
    }
    if next_id != plan.next_id {
        plan.next_id = next_id;
        plan.txn
            .puts
            .push((NEXT_ID.to_owned(), next_id.to_string().into_bytes()));
    }
    Ok(plan)
}

/// What an app is given of the shared configuration. The edition that is in force stays as long as its places do.
fn granted(spec: &AppSpec, old: Option<&AppEntry>, grants: &Grants) -> Option<Granted> {
    let config = spec.config.as_ref()?;
    let before = old.map(|entry| (&entry.record.spec.config, &entry.record.supply));
    let before = before.and_then(|(config, supply)| Some((config.as_ref()?, supply.as_ref()?)));
    let same = before.filter(|(before, _)| before.places == config.places);
    let given = grants.get(&spec.name).or_else(|| same.map(|(_, supply)| supply));
    Some(Granted {
        edition: same.and_then(|(_, supply)| supply.edition),
        ..given.cloned().unwrap_or_default()
    })
}

/// What an order changes, and in which waves it is given.
pub(super) fn act(
    apps: &BTreeMap<AppName, AppEntry>,
    verb: Verb,
    selected: &Selected,
) -> Result<(Plan, Vec<Vec<AppName>>), Refusal> {
    let mut plan = Plan {
        changes: Vec::new(),
        txn: Txn::default(),
        records: BTreeMap::new(),
        next_id: 0,
    };
    let mut dependencies = BTreeMap::new();
    for (name, instances) in selected {
        let Some(entry) = apps.get(name) else { continue };
        let wanted = if verb == Verb::Stop {
            Desired::Down
        } else {
            Desired::Up
        };
        let what = match verb {
            Verb::Start => What::Started,
            Verb::Stop => What::Stopped,
            Verb::Restart => What::Restarted,
            Verb::Reload => What::Reloaded,
            Verb::Delete => What::Deleted,
        };
        plan.changes.push(Change {
            app: name.clone(),
            instances: instances.clone().unwrap_or_default(),
            what,
            differences: Vec::new(),
        });
        let mut record = if verb == Verb::Reload {
            entry.record.renewed()
        } else {
            AppRecord::clone(&entry.record)
        };
        for (index, instance) in record.instances.iter_mut().enumerate() {
            if instances
                .as_ref()
                .is_none_or(|chosen| chosen.iter().any(|one| *one as usize == index))
            {
                instance.desired = wanted;
            }
        }
        if record != *entry.record {
            plan.write(record, entry.revision)?;
        }
        let depends_on = &entry.record.spec.depends_on;
        let depends_on = depends_on
            .keys()
            .filter(|other| selected.contains_key(*other))
            .cloned()
            .collect();
        dependencies.insert(name.clone(), depends_on);
    }
    let all = || vec![selected.keys().cloned().collect::<Vec<_>>()];
    let waves = match verb {
        Verb::Stop | Verb::Delete => order::stop_waves(&dependencies),
        Verb::Restart | Verb::Reload => order::start_waves(&dependencies).unwrap_or_else(|_| all()),
        // A start waits for its dependencies by itself.
        Verb::Start => all(),
    };
    Ok((plan, waves))
}

impl Plan {
    fn write(&mut self, record: AppRecord, revision: u64) -> Result<(), Refusal> {
        let name = record.spec.name.clone();
        let bytes = serde_json::to_vec(&record).map_err(|error| {
            Refusal::new(Code::Internal, format!("failed to encode `{name}`")).because(&error)
        })?;
        self.txn.conditions.push(Condition {
            key: key(&name),
            revision,
        });
        self.txn.puts.push((key(&name), bytes));
        self.records.insert(name, Arc::new(record));
        Ok(())
    }
}

/// What is not the same in two specifications, by path. Of variables only that they differ: a value may be a secret.
fn differences(old: &AppSpec, new: &AppSpec) -> Vec<Difference> {
    // The caller's environment is no part of what a user declared.
    let tree = |spec: &AppSpec| {
        serde_json::to_value(AppSpec {
            inherited_env: BTreeMap::new(),
            ..spec.clone()
        })
        .unwrap_or_default()
    };
    let mut found = Vec::new();
    compare("", Some(&tree(old)), Some(&tree(new)), &mut found);
    found
}

/// What is not the same in two trees, by the ways to it.
pub(crate) fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (old, new) {
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let inner = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            compare(&inner, before.get(key), after.get(key), found);
        }
        return;
    }
    let hide = |value: Option<&Value>| {
        let value = value.filter(|value| !value.is_null())?;
        Some(if path.starts_with("env.") {
            "(hidden)".into()
        } else if path == "files" {
            // Templates are long, and stand in the specification.
            "(others)".into()
        } else {
            value.clone()
        })
    };
    found.push(Difference {
        key: path.to_owned(),
        old: hide(old),
        new: hide(new),
    });
}

fn check(spec: &AppSpec) -> Result<(), Refusal> {
    let refuse = |why: String| {
        Err(Refusal::new(
            Code::Invalid,
            format!("failed to accept app `{}`: {why}", spec.name),
        ))
    };
    if spec.command.first().is_none_or(String::is_empty) {
        return refuse("the command is empty".to_owned());
    }
    if !spec.cwd.is_absolute() {
        return refuse(format!(
            "the working directory `{}` is not absolute",
            spec.cwd.display()
        ));
    }
    if spec.instances > INSTANCES_MAX {
        return refuse(format!(
            "{} instances are more than {INSTANCES_MAX}",
            spec.instances
        ));
    }
    if let Err(why) = super::health::refuse(spec) {
        return refuse(why);
    }
    if let Err(why) = crate::supply::refuse(spec) {
        return refuse(why);
    }
    if let Err((why, hint)) = super::schedule::refuse(spec) {
        let refusal = refuse(why);
        return match hint {
            Some(hint) => refusal.map_err(|refusal| refusal.hint(hint)),
            None => refusal,
        };
    }
    if !(1..=64).contains(&spec.stop.signal) {
        return refuse(format!("{} is no signal", spec.stop.signal));
    }
    let strings = spec
        .command
        .iter()
        .chain(spec.env.values())
        .chain(spec.inherited_env.values());
    if strings
        .chain(spec.env.keys())
        .chain(spec.inherited_env.keys())
        .any(|text| text.contains('\0'))
    {
        return refuse("the command or the environment contains a NUL byte".to_owned());
    }
    if spec
        .env
        .keys()
        .chain(spec.inherited_env.keys())
        .any(|name| name.is_empty() || name.contains('='))
    {
        return refuse("a variable's name is empty or contains `=`".to_owned());
    }
    for (place, path) in [("out", &spec.logs.out), ("err", &spec.logs.err)] {
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return refuse(format!("the log path `{place}` is not absolute"));
        }
    }
    Ok(())
}
