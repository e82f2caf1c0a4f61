//! `start`, `restart` and `validate`: what the words mean, read from files, scripts and command lines.
//!
//! Words are files if every one of them is a file of apps (or `-`); else names if every one selects something that
//! exists; else a script or a command line with its arguments. Words behind `--` alone are a command line.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context;
use upkeep_api::{
    body::{ActionOptions, ActionResult, AppCommand, AppFile, AppList, Apply, Selection, Unresolved},
    client::{Client, ClientError},
    error::Code,
};
use upkeep_host::facts;
use upkeep_model::{
    app::AppSpec,
    file::{
        self, Format,
        resolve::{Facts, NoSuchApp, Resolved, from_command_line},
    },
    id::AppName,
};

use super::act;
use crate::{
    args,
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, progress},
    settings::Settings,
};

/// The largest file that is read.
const FILE_MAX: u64 = 16 << 20;

/// What standard input is called in errors; the ending says that YAML is read, which contains JSON.
const STANDARD_INPUT: &str = "standard-input.yaml";

/// `start` and, with `restart`, `restart`.
pub(crate) async fn start(
    mut start: args::Start,
    settings: &Settings,
    output: Output,
    restart: bool,
) -> anyhow::Result<Exit> {
    // `start -n shop -- ./bin/shop --port 3000`: what stands behind the dashes is executed, never a file or a name.
    let is_command = start.what.is_empty();
    if is_command && restart {
        return Err(Advised::new(Exit::Usage, "nothing to restart is named").into());
    }
    if is_command {
        start.what = std::mem::take(&mut start.arguments);
    }
    if !is_command && start.what.iter().all(|word| is_app_file(word)) {
        let body = Apply {
            restart_unchanged: restart,
            options: settings.options(),
            ..wanted(&start.what, start.env.as_deref(), &start.only, settings, output).await?
        };
        let mut client = connect_or_start(settings).await?;
        return send(&mut client, &body, settings, output).await;
    }
    let mut client = connect_or_start(settings).await?;
    let is_plain =
        !is_command && start.arguments.is_empty() && start.name.is_none() && start.instances.is_none();
    if restart || (is_plain && selects(&mut client, &start.what, settings).await?) {
        let verb = if restart { "restart" } else { "start" };
        let result = act::select(&mut client, verb, start.what, settings).await?;
        return act::show(&result, settings, output);
    }
    if settings.host.is_some() {
        let here = std::env::current_dir().context("failed to find the current directory")?;
        let command = AppCommand {
            directory: absolute(&here)?,
            ..typed(start)
        };
        let body = Apply {
            unresolved: vec![Unresolved::Command(command)],
            options: settings.options(),
            ..Apply::default()
        };
        return send(&mut client, &body, settings, output).await;
    }
    let list: AppList = client.get("/v1/apps").await?;
    let explicit = start.name.is_some();
    let resolved = command_line(start, &list)?;
    warn(&resolved.warnings, output);
    if !explicit {
        for spec in &resolved.apps {
            refuse_another(&mut client, spec).await?;
        }
    }
    let body = Apply {
        apps: resolved.apps,
        options: settings.options(),
        ..Apply::default()
    };
    send(&mut client, &body, settings, output).await
}

/// `apply` and, with a dry run, `diff`.
pub(crate) async fn files(
    files: &args::Files,
    rollout: &args::RolloutFlags,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let body = Apply {
        rollout: act::overrides(rollout),
        options: settings.options(),
        ..wanted(&files.paths, files.env.as_deref(), &files.only, settings, output).await?
    };
    let mut client = connect_or_start(settings).await?;
    send(&mut client, &body, settings, output).await
}

/// What files ask for. Of this machine it is worked out here, with the environment of whoever calls; for another machine the
/// files are sent as they are written. A file that cannot be read starts no daemon.
async fn wanted(
    paths: &[String],
    env_name: Option<&str>,
    only: &[String],
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Apply> {
    let mut body = Apply::default();
    if settings.host.is_some() {
        for path in paths {
            let source = source(Path::new(path))?;
            // What is wrong in the text is told before anybody is asked.
            file::parse(&source.text, &source.name, source.format)?;
            body.unresolved.push(Unresolved::File(AppFile {
                name: source.name,
                text: source.text,
                directory: absolute(&source.directory)?,
                env: env_name.map(str::to_owned),
                only: only.to_vec(),
            }));
        }
        return Ok(body);
    }
    // What a file depends on may be known to a daemon that runs.
    let known = known_apps(settings).await;
    for path in paths {
        body.apps
            .extend(load(Path::new(path), env_name, only, known.clone(), output)?);
    }
    Ok(body)
}

/// A command line, as it is typed; where it starts is not said yet.
fn typed(start: args::Start) -> AppCommand {
    AppCommand {
        words: start.what,
        args: start.arguments,
        name: start.name,
        namespace: start.namespace,
        cwd: start.cwd.map(|path| path.display().to_string()),
        instances: start.instances,
        interpreter: start.interpreter,
        no_restart: start.no_restart,
        directory: String::new(),
    }
}

fn absolute(path: &Path) -> anyhow::Result<String> {
    path.to_str()
        .map(str::to_owned)
        .with_context(|| format!("`{}` is not UTF-8", path.display()))
}

/// The apps that a running daemon has; none if none runs.
async fn known_apps(settings: &Settings) -> BTreeSet<AppName> {
    let list = match crate::connect::connect(settings).await {
        Ok(mut client) => client.get::<AppList>("/v1/apps").await.ok(),
        Err(_) => None,
    };
    list.into_iter()
        .flat_map(|list| list.apps)
        .map(|app| app.name)
        .collect()
}

/// Whether a word names a file of apps, by its name; whether it is there is for the reader to say.
fn is_app_file(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word).to_ascii_lowercase();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    word == "-"
        || name == "procfile"
        || name.starts_with("procfile.")
        || ends(&[".yaml", ".yml", ".toml", ".json", ".json5", ".jsonc", ".procfile"])
        || ends(&[".config.js", ".config.cjs", ".config.mjs", ".config.ts"])
}

/// Whether all words select something.
async fn selects(client: &mut Client, words: &[String], settings: &Settings) -> anyhow::Result<bool> {
    // A path that exists is what a person means who types it; what lies here says nothing of another machine.
    if words
        .iter()
        .any(|word| word.contains('/') || (settings.host.is_none() && Path::new(word).is_file()))
    {
        return Ok(false);
    }
    let selection = Selection {
        selectors: words.to_vec(),
        options: ActionOptions {
            dry_run: true,
            ..ActionOptions::default()
        },
        ..Selection::default()
    };
    match client
        .call::<ActionResult>("POST", "/v1/selections/start", Some(&selection))
        .await
    {
        Ok(_) => Ok(true),
        Err(ClientError::Refused(body)) if body.code == Code::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A script of another folder that happens to have the same name must not replace an app silently.
async fn refuse_another(client: &mut Client, spec: &AppSpec) -> anyhow::Result<()> {
    let known: upkeep_api::body::AppView = match client.get(&super::look::app_path(&spec.name)).await {
        Ok(known) => known,
        Err(ClientError::Refused(body)) if body.code == Code::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let Some(old) = known.spec else { return Ok(()) };
    if old.command == spec.command && old.cwd == spec.cwd {
        return Ok(());
    }
    Err(Advised::new(
        Exit::Conflict,
        format!(
            "there is an app `{}` that runs `{}` in `{}`",
            spec.name,
            old.command.join(" "),
            old.cwd.display()
        ),
    )
    .hint(format!(
        "give the new one a name with `-n`, or replace the old one with `-n {}`",
        spec.name
    ))
    .into())
}

async fn send(
    client: &mut Client,
    body: &Apply,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let call = client.call("POST", "/v1/apps", Some(body));
    let result: ActionResult = progress::during("waiting for the apps to start", call).await?;
    warn(&result.warnings, output);
    act::show(&result, settings, output)
}

/// Checks a file and says what it comes to.
pub(crate) fn validate(validate: &args::Validate, output: Output) -> anyhow::Result<Exit> {
    let resolved = read(&validate.file, validate.env.as_deref(), BTreeSet::new())?;
    if output.json {
        let apps: Vec<AppSpec> = resolved
            .apps
            .into_iter()
            .map(|app| AppSpec {
                inherited_env: BTreeMap::new(),
                ..app
            })
            .collect();
        output.document(&serde_json::json!({ "apps": apps, "warnings": resolved.warnings }))?;
        return Ok(Exit::Done);
    }
    warn(&resolved.warnings, output);
    let mut text = String::new();
    for app in &resolved.apps {
        text.push_str(&format!(
            "{}: {} x {}\n",
            app.name,
            app.instances,
            app.command.join(" ")
        ));
    }
    output.text(&text)?;
    Ok(Exit::Done)
}

/// The apps of a file.
pub(crate) fn load(
    path: &Path,
    env_name: Option<&str>,
    only: &[String],
    known: BTreeSet<AppName>,
    output: Output,
) -> anyhow::Result<Vec<AppSpec>> {
    let mut resolved = read(path, env_name, known)?;
    warn(&resolved.warnings, output);
    resolved.keep(only).map_err(|NoSuchApp { name, hint }| {
        let text = format!("`{}` has no app `{name}`", path.display());
        Advised::new(Exit::NotFound, text).hint(hint)
    })?;
    Ok(resolved.apps)
}

fn warn(warnings: &[String], output: Output) {
    for warning in warnings {
        output.warn(warning);
    }
}

/// A file of apps, as it is written.
struct Source {
    text: String,
    /// As errors name it.
    name: String,
    format: Format,
    /// Where relative paths in it start, absolute.
    directory: PathBuf,
}

fn read(path: &Path, env_name: Option<&str>, known_apps: BTreeSet<AppName>) -> anyhow::Result<Resolved> {
    let source = source(path)?;
    let written = file::parse(&source.text, &source.name, source.format)?;
    with_facts(source.directory, env_name, known_apps, |facts| {
        Ok(file::resolve::resolve(written, facts)?)
    })
}

fn source(path: &Path) -> anyhow::Result<Source> {
    let here = std::env::current_dir().context("failed to find the current directory")?;
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(FILE_MAX)
            .read_to_string(&mut text)
            .context("failed to read standard input")?;
        // PM2's files are told by their keys.
        let format = Format::detect(STANDARD_INPUT, &text)?;
        return Ok(Source {
            text,
            name: STANDARD_INPUT.to_owned(),
            format,
            directory: here,
        });
    }
    let name = path.display().to_string();
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > FILE_MAX) {
        return Err(Advised::new(
            Exit::Refused,
            format!("failed to read `{name}`: it is larger than 16 MiB"),
        )
        .into());
    }
    if file::is_javascript(path) && path.exists() {
        let (text, directory) = evaluate(path)?;
        return Ok(Source {
            text,
            name,
            format: Format::Ecosystem,
            directory,
        });
    }
    // The name may refuse what the content need not be read for.
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let exit = if error.kind() == std::io::ErrorKind::NotFound {
                Exit::NotFound
            } else {
                Exit::Refused
            };
            return Err(Advised::new(exit, format!("failed to read `{name}`: {error}")).into());
        }
    };
    let format = Format::detect(&name, &text)?;
    let absolute = std::path::absolute(path)?;
    Ok(Source {
        text,
        name,
        format,
        directory: absolute.parent().map_or(here, Path::to_owned),
    })
}

/// What an ecosystem file in JavaScript says, as JSON, and the folder it stands in: the user's `node` runs it.
fn evaluate(path: &Path) -> anyhow::Result<(String, PathBuf)> {
    let absolute = std::path::absolute(path)?;
    let folder = absolute
        .parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let name = absolute
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let (value, printed) = upkeep_pm2::config::load_value(&folder, &name).map_err(|error| {
        Advised::new(
            Exit::Refused,
            format!("failed to read `{}`: {error}", path.display()),
        )
        .hint("such a file is a program, which your `node` runs to read it")
    })?;
    if !printed.trim().is_empty() {
        use std::io::Write as _;
        // What the file prints is for a person; if nobody reads it, nothing is lost.
        let _ = std::io::stderr().lock().write_all(printed.as_bytes());
    }
    Ok((value.to_string(), folder))
}

fn command_line(start: args::Start, list: &AppList) -> anyhow::Result<Resolved> {
    let here = std::env::current_dir().context("failed to find the current directory")?;
    let known = list.apps.iter().map(|app| app.name.clone()).collect();
    let env_name = start.env.clone();
    let line = typed(start).into();
    with_facts(here, env_name.as_deref(), known, |facts| {
        Ok(from_command_line(line, facts)?)
    })
}

fn with_facts<T>(
    directory: PathBuf,
    env_name: Option<&str>,
    known_apps: BTreeSet<AppName>,
    run: impl FnOnce(&Facts<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    // What is not UTF-8 cannot be kept in a JSON store; programs that need such a variable are rarer than that.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let read_file = |path: &Path| std::fs::read_to_string(path);
    facts::for_apps(directory, environment, env_name, known_apps, &read_file, run)
}
