//! Values from files and into them, where values come from, and leases.

use std::{
    fmt::Write as _,
    path::{Path as File, PathBuf},
};

use upkeep_api::{
    client::with_query,
    config::{
        ExplainLayer, ExplainList, ExplainOrigin, ExplainPost, ExportQuery, ExportView, FormName, ImportPost,
        Imported, KeepAlivePost, LeaseView, SettingsExplain,
    },
};
use upkeep_model::place::Place;

use super::{places, show};
use crate::{
    args::ConfigImport,
    commands::look::percent_encode,
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, Paint, clean::clean},
    settings::Settings,
};

/// How a file is written, as its name tells.
fn form_of(file: &File) -> anyhow::Result<FormName> {
    let name = file
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let ending = name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        _ if name == ".env" || name.starts_with(".env.") => Ok(FormName::Dotenv),
        Some("env") => Ok(FormName::Dotenv),
        Some("json") => Ok(FormName::Json),
        Some("yaml" | "yml") => Ok(FormName::Yaml),
        Some("properties") => Ok(FormName::Properties),
        _ => Err(Advised::new(
            Exit::Usage,
            format!(
                "the name of `{}` does not tell how it is written",
                clean(&places::name_of(file))
            ),
        )
        .hint("say so with `--form`: dotenv, json, yaml or properties")
        .into()),
    }
}

/// `config import`.
pub(super) async fn import(asked: ConfigImport, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let form = match asked.form {
        Some(form) => form,
        None => form_of(&asked.file)?,
    };
    let post = ImportPost {
        place: asked.place,
        form,
        text: places::text_of(&asked.file)?,
        secret: asked.secret,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let imported: Imported = client.call("POST", "/v1/config/import", Some(&post)).await?;
    if output.json {
        output.document(&imported)?;
        return Ok(Exit::Done);
    }
    for path in &imported.kept {
        output.say(&format!(
            "`{path}` is a secret that the file only names: it stays as it is"
        ));
    }
    show::changed(&imported.changed, settings, output)
}

/// `config export`.
pub(super) async fn export(
    place: Place,
    form: FormName,
    reveal: bool,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let query = ExportQuery {
        place: Some(place),
        form: Some(form),
        reveal,
    };
    let mut client = connect_or_start(settings).await?;
    let view: ExportView = client.get(&with_query("/v1/config/export", &query)).await?;
    if output.json {
        output.document(&view)?;
        return Ok(Exit::Done);
    }
    for path in &view.masked {
        output.warn(&format!(
            "`{path}` is a secret and left out; `--reveal` writes it in clear"
        ));
    }
    output.text(view.text.strip_suffix('\n').unwrap_or(&view.text))?;
    Ok(Exit::Done)
}

fn origin(origin: &ExplainOrigin) -> String {
    match origin {
        ExplainOrigin::Default => "default".to_owned(),
        ExplainOrigin::File { file, line, column } => format!("{}:{line}:{column}", clean(file)),
        ExplainOrigin::Variable { name } => format!("environment variable {}", clean(name)),
        ExplainOrigin::Shared { path, revision } => format!("{path} at revision {revision}"),
        ExplainOrigin::Stored { revision } => format!("settings of this machine, revision {revision}"),
    }
}

/// Where values come from, for people.
fn explained(list: &ExplainList, output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(list)?;
        return Ok(Exit::Done);
    }
    let shown = |value: &Option<serde_json::Value>| match value {
        Some(value) => clean(&value.to_string()),
        None => output.paint(Paint::Quiet, "(secret)"),
    };
    let mut text = String::new();
    for one in &list.values {
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{} = {}  {}",
            output.paint(Paint::Strong, &clean(&one.key)),
            shown(&one.value),
            origin(&one.origin)
        );
        for hidden in &one.hides {
            let _ = writeln!(
                text,
                "  overrules {} = {}  {}",
                clean(&hidden.key),
                shown(&hidden.value),
                origin(&hidden.origin)
            );
        }
    }
    output.text(text.trim_end())?;
    Ok(Exit::Done)
}

fn layers(files: &[PathBuf]) -> anyhow::Result<Vec<ExplainLayer>> {
    let layer = |file: &PathBuf| {
        Ok(ExplainLayer {
            name: places::name_of(file),
            form: form_of(file)?,
            text: places::text_of(file)?,
        })
    };
    files.iter().map(layer).collect()
}

/// `settings explain`.
pub(crate) async fn explain_settings(
    key: String,
    files: Vec<PathBuf>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let layers = layers(&files)?;
    let post = SettingsExplain { key, layers };
    let mut client = connect_or_start(settings).await?;
    let list: ExplainList = client.call("POST", "/v1/settings/explain", Some(&post)).await?;
    explained(&list, output)
}

/// `config explain`.
pub(super) async fn explain(
    key: String,
    files: Vec<PathBuf>,
    place: Option<Place>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let layers = layers(&files)?;
    let post = ExplainPost { key, layers, place };
    let mut client = connect_or_start(settings).await?;
    let list: ExplainList = client.call("POST", "/v1/config/explain", Some(&post)).await?;
    explained(&list, output)
}

/// `config keep-alive`.
pub(super) async fn keep_alive(lease: &str, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let path = format!("/v1/config/leases/{}/keep-alive", percent_encode(lease));
    let mut client = connect_or_start(settings).await?;
    let alive: LeaseView = client.call("POST", &path, Some(&KeepAlivePost {})).await?;
    if output.json {
        output.document(&alive)?;
    } else {
        output.say(&format!("lease {} lasts for {} s", alive.id, alive.ttl_ms / 1000));
    }
    Ok(Exit::Done)
}
