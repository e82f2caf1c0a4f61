//! Apps of a configuration file: what is there is restarted or reloaded, what is not is started; or they are ended.

use std::{io::Read, sync::Mutex};

use serde_json::{Map, Value, json};
use upkeep_pm2::{
    client::Client,
    config::{self, Config},
    prepare, schema,
};

use crate::{
    context::{Context, Failure, out},
    runner::{self, Action, Job},
    surroundings::Surroundings,
};

/// Attributes with what start and restart have in common decided.
pub(super) fn settled(
    context: &Context,
    surroundings: &Surroundings,
    checked: schema::Checked,
    keep_env: bool,
    says_cron: bool,
) -> Result<Map<String, Value>, Failure> {
    let mut conf = checked.conf;
    if keep_env {
        conf.entry("env").or_insert_with(|| json!({}));
    }
    let place = surroundings.place(context, false);
    // Only of the long name something is said.
    match conf.get("cron_restart").filter(|_| says_cron) {
        Some(Value::String(pattern)) => context.say(format_args!("cron restart at {pattern}"))?,
        Some(_) => context.say("disabling cron restart")?,
        None => {}
    }
    prepare::settle(&mut conf, &place).map_err(Failure::new)?;
    schema::reorder(&mut conf);
    Ok(conf)
}

fn read(context: &Context, file: &str) -> Result<Config, Failure> {
    let config = if file == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(format!("failed to read stdin: {error}")))?;
        config::from_text(&text)
    } else {
        config::load(&context.cwd, file)
    };
    let config = config.map_err(Failure::new)?;
    if !config.printed.is_empty() && !context.silent {
        out(&config.printed)?;
    }
    Ok(config)
}

/// The apps of a file, checked; with `--only` those that it names.
fn apps(
    context: &Context,
    surroundings: &Surroundings,
    file: &str,
) -> Result<Vec<Map<String, Value>>, Failure> {
    let config = read(context, file)?;
    let environment = context.options.text("env");
    let mut apps = Vec::new();
    let of_deploy = environment
        .and_then(|name| config.deploy.as_ref()?.get(name)?.get("env"))
        .cloned();
    for given in &config.apps {
        let of_static = given.get("script") == Some(&json!("serve")) && given.len() == 3;
        let checked = schema::check(given);
        for error in &checked.errors {
            context.warn(error)?;
        }
        if !checked.errors.is_empty() {
            return Err(Failure::said(1));
        }
        let says_cron = given.contains_key("cron_restart");
        let cron_is_wrong = checked
            .conf
            .get("cron_restart")
            .and_then(Value::as_str)
            .is_some_and(|pattern| schema::check_cron(pattern).is_err());
        let mut conf = settled(context, surroundings, checked, true, says_cron).map_err(|failure| {
            if !cron_is_wrong {
                return failure;
            }
            // With PM2 a wrong pattern in a file is no ERROR: it leaves without a word. That much we say.
            context.aside(failure.message.unwrap_or_default());
            Failure::said(failure.code)
        })?;
        if of_static {
            conf.retain(|key, _| matches!(key.as_str(), "script" | "name" | "env" | "username"));
        }
        if !conf.contains_key("name")
            && let Some(script) = conf.get("script").and_then(Value::as_str)
        {
            let name = prepare::name_of_script(script);
            conf.insert("name".to_owned(), json!(name));
        }
        if let Some(environment) = environment
            && conf.contains_key("append_env_to_name")
        {
            let name = conf.get("name").map(prepare::as_text).unwrap_or_default();
            conf.insert("name".to_owned(), json!(format!("{name}-{environment}")));
        }
        schema::reorder(&mut conf);
        if let Some(env) = &of_deploy {
            conf.insert(prepare::DEPLOY_ENV.to_owned(), env.clone());
        }
        apps.push(conf);
    }
    if let Some(only) = context.options.text("only") {
        let wanted: Vec<&str> = only.split([',', ' ']).filter(|name| !name.is_empty()).collect();
        apps.retain(|app| {
            app.get("name")
                .and_then(Value::as_str)
                .is_some_and(|name| wanted.contains(&name))
        });
    }
    Ok(apps)
}

fn name_of(app: &Map<String, Value>) -> String {
    app.get("name").map(prepare::as_text).unwrap_or_default()
}

/// Starts, restarts or reloads by file.
pub(super) fn act(context: &mut Context, action: Action, file: &str) -> Result<(), Failure> {
    context.rpc()?;
    let surroundings = Surroundings::new(context)?;
    let apps = apps(context, &surroundings, file)?;
    let list = context.processes()?;
    let (known, new): (Vec<_>, Vec<_>) = apps.into_iter().partition(|app| {
        let name = name_of(app);
        list.iter()
            .any(|process| runner::env_text(process, "name") == Some(name.as_str()))
    });
    if !new.is_empty() {
        let names: Vec<_> = new.iter().map(name_of).collect();
        context.warn(format_args!(
            "Applications {} not running, starting...",
            names.join(", ")
        ))?;
    }
    let context: &Context = context;
    runner::each(&known, runner::concurrency(context, action), &|app| {
        renew(context, &surroundings, action, app, &list)
    })?;
    if new.is_empty() {
        return Ok(());
    }
    let failed = Mutex::new(false);
    runner::each(&new, runner::concurrency(context, action), &|app| {
        if let Err(failure) = launch(context, &surroundings, app) {
            let message = failure.message.unwrap_or_default();
            context.complain(format_args!("Error: {message}"));
            if let Ok(mut failed) = failed.lock() {
                *failed = true;
            }
        }
        Ok(())
    })?;
    match failed.into_inner() {
        Ok(true) => Err(Failure::said(1)),
        _ => Ok(()),
    }
}

fn warn_of_environment(context: &Context, app: &Map<String, Value>) -> Result<(), Failure> {
    match context.options.text("env") {
        Some(name) if !app.contains_key(&format!("env_{name}")) => {
            let text = format!("Environment [{name}] is not defined in process file");
            context.warn(context.style.bold(text))
        }
        _ => Ok(()),
    }
}

fn launch(context: &Context, surroundings: &Surroundings, app: &Map<String, Value>) -> Result<(), Failure> {
    warn_of_environment(context, app)?;
    let name = name_of(app);
    let place = surroundings.place(context, true);
    let mut prepared = prepare::prepare(app.clone(), &place).map_err(Failure::new)?;
    if let Some(namespace) = context.options.text("namespace") {
        prepared.insert("namespace".to_owned(), json!(namespace));
    }
    if prepared.get("wait_ready") == Some(&json!(true)) {
        context.warn(format_args!(
            "App {name} has option 'wait_ready' set, waiting for app to be ready..."
        ))?;
    }
    let answer = Client::connect(&context.home.rpc)?.call("prepare", Value::Object(prepared))?;
    let count = answer.as_array().map_or(1, Vec::len);
    context.say(format_args!("App [{name}] launched ({count} instances)"))
}

fn renew(
    context: &Context,
    surroundings: &Surroundings,
    action: Action,
    app: &Map<String, Value>,
    list: &[Value],
) -> Result<(), Failure> {
    warn_of_environment(context, app)?;
    let name = name_of(app);
    let own = prepare::of_file(app, context.options.text("env"));
    let mut conf = Map::new();
    conf.insert("env".to_owned(), json!(own));
    conf.extend(
        app.iter()
            // How it runs is not changed by a restart.
            .filter(|(key, _)| !matches!(key.as_str(), "env" | "exec_mode" | prepare::DEPLOY_ENV))
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    if let Some(namespace) = context.options.text("namespace") {
        conf.insert("namespace".to_owned(), json!(namespace));
    } else if !conf.contains_key("namespace") {
        conf.insert("namespace".to_owned(), json!("default"));
    }
    let mut env = surroundings.variables().clone();
    env.insert("PM2_USAGE".to_owned(), json!("CLI"));
    env.insert("PM2_JSON_PROCESSING".to_owned(), json!("true"));
    env.insert("current_conf".to_owned(), Value::Object(conf));
    env.extend(own);
    env.insert("updateEnv".to_owned(), json!(true));
    env.extend(surroundings.settings_of(&name));
    let job = Job {
        action,
        ids: runner::ids(list, |process| {
            runner::env_text(process, "name") == Some(name.as_str())
        }),
        target: Some(name),
        env,
        toggle_watch: action == Action::Restart && context.options.has("watch"),
        by_name: true,
    };
    runner::run(context, &job)
}

/// Stops or deletes the apps of a file.
pub(super) fn end(context: &mut Context, action: Action, file: &str) -> Result<(), Failure> {
    context.rpc()?;
    let surroundings = Surroundings::new(context)?;
    let apps = apps(context, &surroundings, file)?;
    let list = context.processes()?;
    let names: Vec<String> = apps.iter().map(name_of).collect();
    let job = Job {
        action,
        target: None,
        ids: runner::ids(&list, |process| {
            runner::env_text(process, "name").is_some_and(|name| names.iter().any(|wanted| wanted == name))
        }),
        env: Map::new(),
        toggle_watch: false,
        by_name: false,
    };
    runner::run(context, &job)
}
