//! What an app gets of the shared configuration, for people: names, revisions and trouble, and no values.

use std::fmt::Write as _;

use upkeep_api::body::AppConfigView;

use super::{clean::clean, time};

/// Lines of `show`: a word and what there is to say.
pub(crate) fn lines(view: &AppConfigView) -> Vec<(&'static str, String)> {
    let places: Vec<&str> = view.places.iter().map(|place| place.as_str()).collect();
    let mut lines = vec![("configuration", places.join(", "))];
    lines.push((
        "values",
        match view.revision {
            None => "none yet".to_owned(),
            Some(revision) => {
                let at = view.read_at.map(|at| format!(", read {} ago", time::ago(at)));
                format!("of revision {revision}{}", at.unwrap_or_default())
            }
        },
    ));
    if !view.variables.is_empty() {
        lines.push(("variables", view.variables.join(", ")));
    }
    for file in &view.files {
        lines.push(("file", clean(file)));
    }
    if let Some(waiting) = &view.waiting {
        let revision = match waiting.revision {
            0 => "the newest values are".to_owned(),
            revision => format!("those of revision {revision} are"),
        };
        lines.push(("not in force", format!("{revision} not: {}", clean(&waiting.why))));
    }
    if let Some(since) = view.stale_since {
        lines.push((
            "stale",
            format!("the store could not be read for {}", time::ago(since)),
        ));
    }
    if let Some(trouble) = &view.trouble {
        lines.push(("trouble", clean(trouble)));
    }
    lines
}

/// The same in one line.
pub(crate) fn summary(view: &AppConfigView) -> String {
    let places: Vec<&str> = view.places.iter().map(|place| place.as_str()).collect();
    let mut text = places.join(", ");
    match view.revision {
        Some(revision) => drop(write!(text, " at revision {revision}")),
        None => text.push_str(", no values yet"),
    }
    if let Some(since) = view.stale_since {
        let _ = write!(text, "; stale for {}", time::ago(since));
    }
    if let Some(waiting) = &view.waiting {
        let _ = write!(text, "; newer ones are not in force: {}", clean(&waiting.why));
    }
    if let Some(trouble) = &view.trouble {
        let _ = write!(text, "; {}", clean(trouble));
    }
    text
}
