//! What only shows when all apps of a file are seen together.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    app::AppSpec,
    file::{Fault, Position, did_you_mean, v1::DependsOn},
    id::AppName,
};

/// Where an app and its dependencies stand.
pub(super) struct Place {
    pub(super) name: Option<Position>,
    pub(super) depends_on: DependsOn,
}

pub(super) fn names_and_dependencies(
    apps: &[AppSpec],
    places: &[Place],
    known: &BTreeSet<AppName>,
) -> Result<(), Fault> {
    let mut first: BTreeMap<&AppName, Option<Position>> = BTreeMap::new();
    for (app, place) in apps.iter().zip(places) {
        if let Some(earlier) = first.insert(&app.name, place.name) {
            let on = earlier.map_or_else(String::new, |at| format!(", first on line {}", at.line));
            return Err(
                Fault::new(place.name, format!("app `{}` is given twice{on}", app.name))
                    .hint("give one of them another `name`; several copies of one app are `instances`"),
            );
        }
    }
    for (app, place) in apps.iter().zip(places) {
        for (on, _) in &place.depends_on.0 {
            if !first.contains_key(&on.value) && !known.contains(&on.value) {
                let fault = Fault::new(
                    on.position.or(place.name),
                    format!(
                        "app `{}` depends on `{}`, which does not exist",
                        app.name, on.value
                    ),
                );
                let names = first.keys().copied().chain(known).map(AppName::as_str);
                return Err(match did_you_mean(on.value.as_str(), names) {
                    Some(hint) => fault.hint(hint),
                    None => fault,
                });
            }
        }
    }
    circle(apps, places)
}

/// Apps that are ready go, until none does; what is left has a circle in it.
fn circle(apps: &[AppSpec], places: &[Place]) -> Result<(), Fault> {
    let mut left: BTreeMap<&AppName, &AppSpec> = apps.iter().map(|app| (&app.name, app)).collect();
    loop {
        let ready: Vec<_> = left
            .iter()
            .filter(|(_, app)| !app.depends_on.keys().any(|on| left.contains_key(on)))
            .map(|(name, _)| *name)
            .collect();
        if ready.is_empty() {
            break;
        }
        for name in ready {
            left.remove(name);
        }
    }
    let Some((&start, _)) = left.first_key_value() else {
        return Ok(());
    };
    let mut path = vec![start];
    loop {
        let last = path[path.len() - 1];
        let Some(next) = left[last]
            .depends_on
            .keys()
            .find_map(|on| left.get_key_value(on))
            .map(|(on, _)| *on)
        else {
            return Ok(());
        };
        if let Some(from) = path.iter().position(|app| *app == next) {
            path.push(next);
            let text = path[from..]
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" → ");
            let place = apps
                .iter()
                .position(|app| app.name == *next)
                .and_then(|index| places[index].name);
            return Err(Fault::new(
                place,
                format!("apps depend on each other in a circle: {text}"),
            ));
        }
        path.push(next);
    }
}
