//! Verbs that change something.

use upkeep_api::{
    body::{ActionResult, AppView, Change, Difference, Selection, What},
    client::Client,
};
use upkeep_model::state::Actual;

use crate::{
    connect::connect_or_start,
    exit::Exit,
    output::{Output, progress, table},
    settings::Settings,
};

/// Stop, delete, start or restart what is selected.
pub(crate) async fn act(
    verb: &str,
    selectors: Vec<String>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let result = select(&mut client, verb, selectors, settings).await?;
    show(&result, settings, output)
}

/// Sends a verb over a selection.
pub(crate) async fn select(
    client: &mut Client,
    verb: &str,
    selectors: Vec<String>,
    settings: &Settings,
) -> anyhow::Result<ActionResult> {
    let what = format!("waiting for {verb} of {}", selectors.join(" "));
    let selection = Selection {
        selectors,
        options: settings.options(),
    };
    let path = format!("/v1/selections/{verb}");
    Ok(progress::during(&what, client.call("POST", &path, Some(&selection))).await?)
}

/// Save and resurrect.
pub(crate) async fn snapshot(
    method: &str,
    path: &str,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let options = settings.options();
    let call = client.call(method, path, Some(&options));
    let result: ActionResult = progress::during("waiting for the apps", call).await?;
    if !output.json && method == "PUT" {
        output.say(&format!("saved {} apps", result.changes.len()));
        return Ok(Exit::Done);
    }
    show(&result, settings, output)
}

/// What was done, then the table of what it was done to.
pub(crate) fn show(result: &ActionResult, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(result)?;
    } else {
        for change in &result.changes {
            output.say(&sentence(change, settings.dry_run));
            for difference in &change.differences {
                output.say(&format!("    {}", described(difference)));
            }
        }
        if result.changes.is_empty() {
            output.say("nothing to do");
        }
        if !result.apps.is_empty() {
            output.text(&table::apps(&result.apps, output))?;
        }
    }
    let failed = not_started(result);
    for (whom, why) in &failed {
        output.warn(&format!("{whom}: {why}"));
    }
    if !failed.is_empty() {
        return Ok(Exit::Failed);
    }
    if result.settled {
        return Ok(Exit::Done);
    }
    output.warn("not everything has come to rest yet; it goes on in the background");
    // Who asked not to wait is not told that the time is over.
    Ok(if settings.wait_ms == Some(0) {
        Exit::Done
    } else {
        Exit::Timeout
    })
}

/// Instances that should have been started and never had a process, and why. What started and ended since is no failure
/// of ours: that is for the app's policy.
fn not_started(result: &ActionResult) -> Vec<(String, &str)> {
    let ordered = |app: &AppView| {
        result.changes.iter().any(|change| {
            change.app == app.name
                && matches!(
                    change.what,
                    What::Created | What::Updated | What::Started | What::Restarted
                )
        })
    };
    let apps = result.apps.iter().filter(|app| ordered(app));
    apps.flat_map(|app| app.instances.iter().map(move |instance| (app, instance)))
        .filter(|(_, instance)| {
            instance.pid.is_none()
                && instance.last_exit.is_none()
                && matches!(
                    instance.actual,
                    Actual::BackingOff | Actual::Failed | Actual::GaveUp
                )
        })
        .map(|(app, instance)| (format!("{}:{}", app.name, instance.index), instance.why.as_str()))
        .collect()
}

/// `stop.grace: 15s → 30s`.
fn described(difference: &Difference) -> String {
    let shown = |value: &Option<serde_json::Value>| match value {
        None => "nothing".to_owned(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let key = &difference.key;
    match (&difference.old, &difference.new) {
        (Some(old), Some(new)) if old == new => format!("{key}: another value"),
        (old, new) => format!("{key}: {} → {}", shown(old), shown(new)),
    }
}

fn sentence(change: &Change, dry_run: bool) -> String {
    let word = match change.what {
        What::Created => "created",
        What::Updated => "updated",
        What::Unchanged => "unchanged",
        What::Started => "started",
        What::Stopped => "stopped",
        What::Restarted => "restarted",
        What::Deleted => "deleted",
    };
    let instances: Vec<String> = change.instances.iter().map(ToString::to_string).collect();
    let whom = match instances.as_slice() {
        [] => change.app.to_string(),
        some => format!("{}:{}", change.app, some.join(",")),
    };
    if dry_run {
        format!("{whom}: would be {word}")
    } else {
        format!("{whom}: {word}")
    }
}
