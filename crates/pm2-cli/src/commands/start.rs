//! `start`: a word becomes an app, or one that is there already goes on.

use serde_json::{Value, json};
use upkeep_pm2::{config, prepare, schema};

use super::{act, files, list};
use crate::{
    args::Invocation,
    attributes,
    context::{Context, Failure},
    runner::{self, Action},
    surroundings::Surroundings,
};

pub(super) fn start(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let default = vec!["ecosystem.config.js".to_owned()];
    let words = if invocation.operands.is_empty() {
        &default
    } else {
        &invocation.operands
    };
    // This option takes one word, and users give it several: those that follow are no apps.
    let codes = context.options.has("stop-exit-codes");
    let is_app = |(index, word): &(usize, &String)| !(codes && *index > 0 && word.parse::<u8>().is_ok());
    for (_, word) in words.iter().enumerate().filter(is_app) {
        one(context, word)?;
    }
    list::show(context)?;
    act::attach(context, invocation)
}

fn one(context: &mut Context, word: &str) -> Result<(), Failure> {
    context.rpc()?;
    if word == "-" || config::is_config(word) {
        return files::act(context, Action::Restart, word);
    }
    if word == "all" {
        return resume(context, word, act::Manner::StartAll);
    }
    let surroundings = Surroundings::new(context)?;
    let mut given = attributes::given(context);
    given.insert("watch".to_owned(), attributes::watch(context));
    given.insert("script".to_owned(), json!(word));
    given.entry("namespace").or_insert_with(|| json!("default"));
    let checked = schema::check(&given);
    for error in &checked.errors {
        context.warn(error)?;
    }
    if !checked.errors.is_empty() {
        return Err(Failure::new(checked.errors.join(",")));
    }
    let mut conf = files::settled(context, &surroundings, checked, true, true)?;
    if word.contains('.') && word.rsplit('/').next().is_some_and(has_extension) || word.contains('/') {
        // A file, for sure.
    } else if is_known(context, word)? {
        return resume(context, word, act::Manner::Start);
    }
    if !conf.contains_key("name") {
        conf.insert("name".to_owned(), json!(name_of(word)));
        schema_order(&mut conf);
    }
    if context.options.has("write") {
        write_conf(context, &conf)?;
    }
    let place = surroundings.place(context, false);
    let app = prepare::prepare(conf, &place).map_err(Failure::new);
    // The script must be missing before its absence from the list is of interest.
    if let Some(known) = same_app(context, word)? {
        if let Some(status) = runner::env_text(&known, "status")
            && matches!(status, "stopped" | "errored")
            && !context.options.has("force")
        {
            let name = runner::env_text(&known, "name").unwrap_or(word).to_owned();
            return resume(context, &name, act::Manner::Start);
        }
        if !context.options.has("force") {
            return Err(Failure::new(
                "Script already launched, add -f option to force re-execution",
            ));
        }
    }
    let app = app?;
    let text = |key: &str| app.get(key).map(prepare::as_text).unwrap_or_default();
    let count = app.get("instances").and_then(Value::as_f64).unwrap_or(0.0);
    context.say(format_args!(
        "Starting {} in {} ({} instance{})",
        text("pm_exec_path"),
        text("exec_mode"),
        text("instances"),
        if count > 1.0 { "s" } else { "" }
    ))?;
    context.call("prepare", Value::Object(app))?;
    context.say("Done.")
}

fn has_extension(base: &str) -> bool {
    base.rfind('.').is_some_and(|at| at > 0)
}

fn schema_order(conf: &mut serde_json::Map<String, Value>) {
    upkeep_pm2::schema::reorder(conf);
}

/// A command line is named after its program's file; one without a slash keeps its blanks.
fn name_of(word: &str) -> String {
    prepare::name_of_script(word)
}

/// Is it a name, a namespace or a number of what the daemon has?
fn is_known(context: &mut Context, word: &str) -> Result<bool, Failure> {
    if word.parse::<u64>().is_ok() {
        return Ok(true);
    }
    let by_name = |process: &Value| runner::env_text(process, "name") == Some(word);
    if context.processes()?.iter().any(by_name) {
        return Ok(true);
    }
    let by_namespace = |process: &Value| runner::env_text(process, "namespace") == Some(word);
    Ok(context.processes()?.iter().any(by_namespace))
}

/// The app that has this script and this name.
fn same_app(context: &mut Context, word: &str) -> Result<Option<Value>, Failure> {
    let path = runner::script_path(&context.cwd, word);
    let name = context
        .options
        .text("name")
        .map_or_else(|| name_of(word), str::to_owned);
    let list = context.processes()?;
    Ok(list.into_iter().find(|process| {
        runner::env_text(process, "pm_exec_path") == Some(path.as_str())
            && runner::env_text(process, "name") == Some(name.as_str())
    }))
}

fn resume(context: &mut Context, target: &str, manner: act::Manner) -> Result<(), Failure> {
    act::renew(context, Action::Restart, target, manner)?;
    context.say("Process successfully started")
}

/// `-w`.
fn write_conf(context: &Context, conf: &serde_json::Map<String, Value>) -> Result<(), Failure> {
    let name = conf.get("name").map(prepare::as_text).unwrap_or_default();
    let path = context.cwd.join(format!("{name}-pm2.json"));
    let shown = context.style.blue(path.display());
    context.say(format_args!("Writing configuration to {shown}"))?;
    let text = serde_json::to_string_pretty(conf).map_err(Failure::new)?;
    std::fs::write(&path, text)
        .map_err(|error| Failure::new(format!("failed to write `{}`: {error}", path.display())))
}
