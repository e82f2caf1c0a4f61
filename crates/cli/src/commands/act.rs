//! Verbs that change something.

use upkeep_api::{
    body::{
        self, ActionResult, AppView, Change, Difference, FailureOutcome, RolloutOverrides, Selection, What,
    },
    client::Client,
};
use upkeep_model::{id::AppName, size::Span, state::Actual};

use crate::{
    args::{Reload, Rollback, RolloutFlags, Scale},
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
    let selection = Selection {
        selectors,
        options: settings.options(),
        ..Selection::default()
    };
    send(client, verb, selection).await
}

async fn send(client: &mut Client, verb: &str, selection: Selection) -> anyhow::Result<ActionResult> {
    let what = format!("waiting for {verb} of {}", selection.selectors.join(" "));
    let path = format!("/v1/selections/{verb}");
    Ok(progress::during(&what, client.call("POST", &path, Some(&selection))).await?)
}

/// Replace every copy of what is selected.
pub(crate) async fn reload(reload: Reload, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let selection = Selection {
        selectors: reload.selectors,
        rollout: overrides(&reload.rollout),
        options: settings.options(),
    };
    let result = send(&mut client, "reload", selection).await?;
    show(&result, settings, output)
}

/// Have another number of copies.
pub(crate) async fn scale(scale: Scale, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let body = body::Scale {
        instances: scale.instances,
        options: settings.options(),
    };
    one(&scale.app, "scale", &body, settings, output).await
}

/// Go back to what was before the last change.
pub(crate) async fn rollback(
    rollback: Rollback,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let body = body::Rollback {
        rollout: overrides(&rollback.rollout),
        options: settings.options(),
    };
    one(&rollback.app, "rollback", &body, settings, output).await
}

async fn one(
    app: &str,
    verb: &str,
    body: &(impl serde::Serialize + Sync),
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let what = format!("waiting for {verb} of {app}");
    // A name with a slash or a blank is refused here as a name, not as a path that nobody serves.
    let name: AppName = app.parse()?;
    let path = format!("/v1/apps/{name}/{verb}");
    let result = progress::during(&what, client.call("POST", &path, Some(body))).await?;
    show(&result, settings, output)
}

/// Flags as the API takes them.
pub(crate) fn overrides(flags: &RolloutFlags) -> RolloutOverrides {
    let millis = |span: Option<Span>| span.map(Span::as_millis);
    RolloutOverrides {
        surge: flags.surge,
        max_unavailable: flags.max_unavailable,
        settle_ms: millis(flags.settle),
        pause_ms: millis(flags.pause_between),
        timeout_ms: millis(flags.ready_timeout),
        trial_ms: millis(flags.trial),
    }
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
    for failure in &result.failures {
        let outcome = match failure.outcome {
            FailureOutcome::Refused => "nothing was touched",
            FailureOutcome::Returned => "what was there before runs again",
            FailureOutcome::Broken => "what runs was left as it is",
        };
        output.warn(&format!(
            "{}: the replacement did not hold, {outcome}: {}",
            failure.app, failure.why
        ));
    }
    if !failed.is_empty() || !result.failures.is_empty() {
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
                    What::Created | What::Updated | What::Started | What::Restarted | What::Reloaded
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
        What::Reloaded => "reloaded",
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
