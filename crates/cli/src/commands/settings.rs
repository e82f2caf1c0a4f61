//! Settings of the machine.

use std::path::Path;

use upkeep_api::{
    body::Difference,
    settings::{SettingsPut, SettingsResult, SettingsView},
};
use upkeep_model::{
    file::{FileError, settings as file},
    settings::Settings as Machine,
};

use crate::{
    args::SettingsVerb,
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, Paint},
    settings::Settings,
};

/// `settings show`, `settings set`.
pub(crate) async fn run(
    verb: Option<SettingsVerb>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    match verb.unwrap_or(SettingsVerb::Show) {
        SettingsVerb::Show => show(settings, output).await,
        SettingsVerb::Set { file, revision } => set(&file, revision, settings, output).await,
        SettingsVerb::Check { file } => check(&file, output),
        SettingsVerb::Explain { key, files } => {
            super::config::explain_settings(key, files, settings, output).await
        }
    }
}

async fn show(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let view: SettingsView = client.get("/v1/settings").await?;
    if output.json {
        output.document(&view)?;
        return Ok(Exit::Done);
    }
    if view.settings == Machine::default() {
        output.say("nothing is set: the defaults hold; `upkeep settings set FILE` sets something");
        return Ok(Exit::Done);
    }
    let tree = serde_json::to_value(&view.settings)?;
    output.say(&format!("revision {}", view.revision));
    output.text(&upkeep_model::file::to_yaml(&tree)?)?;
    Ok(Exit::Done)
}

/// Reads a file; paths in it are of its own directory.
pub(super) fn read(path: &str) -> anyhow::Result<Machine> {
    let text = if path == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    }
    .map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound {
            Exit::NotFound
        } else {
            Exit::Failed
        };
        Advised::new(exit, format!("failed to read `{path}`: {error}"))
    })?;
    let mut machine = file::parse(&text, path)?;
    let directory = match Path::new(path).parent() {
        Some(parent) if path != "-" => std::path::absolute(parent.join("."))?,
        _ => std::env::current_dir()?,
    };
    for (named, _) in machine.files_mut() {
        let whole = directory.join(named.as_str());
        let text = whole.to_str().ok_or_else(|| FileError {
            path: path.to_owned(),
            position: None,
            message: format!("`{}` is no path of UTF-8", whole.display()),
            hint: None,
        })?;
        text.clone_into(named);
    }
    Ok(machine)
}

async fn set(path: &str, revision: Option<u64>, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let put = SettingsPut {
        settings: read(path)?,
        revision,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let result: SettingsResult = client.call("PUT", "/v1/settings", Some(&put)).await?;
    if output.json {
        output.document(&result)?;
        return Ok(Exit::Done);
    }
    if result.changes.is_empty() {
        output.say("nothing changes");
    }
    let lines: Vec<String> = result.changes.iter().map(|change| line(change, output)).collect();
    output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

/// `logs.free_space: "5%" -> "7%"`.
fn line(change: &Difference, output: Output) -> String {
    let value = |value: &Option<serde_json::Value>, paint| match value {
        Some(value) => output.paint(paint, &value.to_string()),
        None => "nothing".to_owned(),
    };
    format!(
        "{}: {} -> {}",
        change.key,
        value(&change.old, Paint::Bad),
        value(&change.new, Paint::Good)
    )
}

/// `settings check`: needs no daemon.
pub(crate) fn check(path: &str, output: Output) -> anyhow::Result<Exit> {
    let machine = read(path)?;
    if output.json {
        output.document(&machine)?;
    } else {
        output.say(&format!("{path} is right"));
    }
    Ok(Exit::Done)
}
