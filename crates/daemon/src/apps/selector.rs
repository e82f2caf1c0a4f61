//! Selectors: which instances a person means.
//!
//! `all`; a name; `NAME:INDEX`; an id; a glob over names (`web-*`); `namespace:NAME`… is written `@NAME`. A name that
//! exists is a name before it is anything else. A selector that matches nothing is an error, with the nearest name as
//! a hint, except `all`.

use std::collections::BTreeMap;

use upkeep_model::id::{AppName, InstanceId};

use super::directory::AppEntry;

/// Apps with the chosen instances; `None`: every instance.
pub(crate) type Selected = BTreeMap<AppName, Option<Vec<u32>>>;

/// A selector that matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no app or instance `{selector}`")]
pub(crate) struct NoMatch {
    pub(crate) selector: String,
    pub(crate) nearest: Option<String>,
}

/// Resolves all selectors; the first that matches nothing fails the whole.
pub(crate) fn resolve(selectors: &[String], apps: &BTreeMap<AppName, AppEntry>) -> Result<Selected, NoMatch> {
    let mut selected = Selected::new();
    for selector in selectors {
        if !resolve_one(selector, apps, &mut selected) {
            return Err(NoMatch {
                selector: selector.clone(),
                nearest: nearest(selector, apps),
            });
        }
    }
    Ok(selected)
}

fn resolve_one(selector: &str, apps: &BTreeMap<AppName, AppEntry>, selected: &mut Selected) -> bool {
    if selector == "all" {
        selected.extend(apps.keys().map(|name| (name.clone(), None)));
        return true;
    }
    if let Some(name) = apps.keys().find(|name| name.as_str() == selector) {
        selected.insert(name.clone(), None);
        return true;
    }
    if let Ok(id) = selector.parse::<u32>() {
        for (name, entry) in apps {
            if let Some(index) = entry
                .record
                .instances
                .iter()
                .position(|instance| instance.id == id)
            {
                return add_instance(selected, name, index);
            }
        }
        return false;
    }
    if let Ok(InstanceId { app, index }) = selector.parse::<InstanceId>() {
        return match apps.get(&app) {
            Some(entry) if (index as usize) < entry.record.instances.len() => {
                add_instance(selected, &app, index as usize)
            }
            _ => false,
        };
    }
    let mut found = false;
    if let Some(namespace) = selector.strip_prefix('@') {
        for (name, entry) in apps
            .iter()
            .filter(|(_, entry)| entry.record.spec.namespace == namespace)
        {
            let _ = entry;
            selected.insert(name.clone(), None);
            found = true;
        }
        return found;
    }
    if selector.contains(['*', '?', '['])
        && let Ok(glob) = globset::Glob::new(selector)
    {
        let matcher = glob.compile_matcher();
        for name in apps.keys().filter(|name| matcher.is_match(name.as_str())) {
            selected.insert(name.clone(), None);
            found = true;
        }
    }
    found
}

fn add_instance(selected: &mut Selected, name: &AppName, index: usize) -> bool {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    match selected.entry(name.clone()).or_insert_with(|| Some(Vec::new())) {
        Some(indexes) if !indexes.contains(&index) => indexes.push(index),
        _ => {} // the whole app, or this instance, is chosen already
    }
    true
}

fn nearest(selector: &str, apps: &BTreeMap<AppName, AppEntry>) -> Option<String> {
    apps.keys()
        .map(|name| (strsim::damerau_levenshtein(selector, name.as_str()), name))
        .filter(|(distance, name)| *distance <= 1 + name.as_str().len() / 4)
        .min()
        .map(|(_, name)| name.to_string())
}
