//! `restart`, `reload`, `stop`, `delete`, `scale`, `reset`, and the commands that start or restart by file.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use upkeep_pm2::config;

use super::{files, list};
use crate::{
    args::Invocation,
    attributes,
    context::{Context, Failure},
    runner::{self, Action, Job},
    surroundings::Surroundings,
};

pub(super) fn restart(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    for target in &invocation.operands {
        on_target(context, Action::Restart, target)?;
    }
    list::show(context)?;
    attach(context, invocation)
}

pub(super) fn reload(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    for target in invocation.operands.iter().take(1) {
        let lock = ReloadLock::take(context)?;
        let outcome = on_target(context, Action::Reload, target);
        drop(lock);
        outcome?;
    }
    Ok(())
}

pub(super) fn stop(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    for target in &invocation.operands {
        on_target(context, Action::Stop, target)?;
    }
    list::show(context)?;
    Ok(())
}

pub(super) fn delete(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    for target in &invocation.operands {
        on_target(context, Action::Delete, target)?;
    }
    list::show(context)?;
    Ok(())
}

pub(super) fn start_or_restart(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    by_file(context, invocation, Action::Restart)
}

/// Unlike `reload`, it asks for no lock.
pub(super) fn start_or_reload(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    by_file(context, invocation, Action::Reload)
}

fn by_file(context: &mut Context, invocation: &Invocation, action: Action) -> Result<(), Failure> {
    let file = invocation
        .operands
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    files::act(context, action, file)?;
    list::show(context)
}

/// `--attach`: the logs of what was acted on, until the user has seen enough.
pub(super) fn attach(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let in_test = std::env::var_os("NODE_ENV").is_some_and(|mode| mode == "test");
    if !context.options.has("attach") || in_test {
        return Ok(());
    }
    let mut logs = invocation.clone();
    logs.operands = match invocation.operands.first() {
        Some(word) if config::is_config(word) || word == "-" => Vec::new(),
        Some(word) => {
            let name = context.options.text("name").map(str::to_owned);
            let of_script = upkeep_pm2::prepare::name_of_script(word);
            let is_script = context.cwd.join(word).exists();
            vec![name.unwrap_or_else(|| if is_script { of_script } else { word.clone() })]
        }
        None => Vec::new(),
    };
    super::logs::logs(context, &logs)
}

/// One at a time: a stamp in a file, which is empty when nothing is under way.
struct ReloadLock {
    path: std::path::PathBuf,
}

impl ReloadLock {
    fn take(context: &mut Context) -> Result<Self, Failure> {
        // The home is made by whoever starts the daemon.
        context.rpc()?;
        let path = context.home.reload_lock.clone();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let limit = std::env::var("PM2_RELOAD_LOCK_TIMEOUT")
            .ok()
            .and_then(|text| text.parse::<u128>().ok())
            .unwrap_or(30_000);
        let taken = std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse::<u128>().ok());
        if let Some(left) = taken.and_then(|taken| (taken + limit).checked_sub(now))
            && taken.is_some_and(|taken| taken <= now)
            && left > 0
            && !context.options.has("force")
        {
            return Err(Failure::new(format!(
                "Reload already in progress, please try again in {} seconds or use --force",
                left / 1000
            )));
        }
        std::fs::write(&path, now.to_string())
            .map_err(|error| Failure::new(format!("failed to write `{}`: {error}", path.display())))?;
        Ok(Self { path })
    }
}

impl Drop for ReloadLock {
    fn drop(&mut self) {
        // A stamp that stays is old after half a minute.
        let _ = std::fs::write(&self.path, "");
    }
}

/// What `start all` does differently: no word about the environment, no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Restart,
    Start,
    StartAll,
}

fn on_target(context: &mut Context, action: Action, target: &str) -> Result<(), Failure> {
    if config::is_config(target) || target == "-" {
        return match action {
            Action::Restart | Action::Reload => files::act(context, action, target),
            Action::Stop | Action::Delete => files::end(context, action, target),
        };
    }
    match action {
        Action::Restart | Action::Reload => renew(context, action, target, Manner::Restart),
        Action::Stop | Action::Delete => operate(context, action, target, Map::new()),
    }
}

/// Restart or reload of what runs, with what was given as options.
pub(super) fn renew(
    context: &mut Context,
    action: Action,
    target: &str,
    manner: Manner,
) -> Result<(), Failure> {
    if context.options.has("env") {
        return Err(Failure::new(
            "Using --env [env] without passing the ecosystem.config.js does not work",
        ));
    }
    let update = context.options.has("update-env");
    context.rpc()?;
    if manner == Manner::Restart && !update {
        let advice = "Use --update-env to update environment variables";
        context.print(context.style.bold(context.style.blue(advice)))?;
    }
    let surroundings = Surroundings::new(context)?;
    let mut checked = attributes::current_conf(context, manner != Manner::StartAll);
    if !checked.errors.is_empty() {
        for error in &checked.errors {
            context.warn(error)?;
        }
        return Err(Failure::said(1));
    }
    if manner == Manner::Start {
        checked
            .conf
            .insert("watch".to_owned(), attributes::watch(context));
    }
    let mut conf = files::settled(context, &surroundings, checked, false, true)?;
    conf.insert("km_link".to_owned(), json!(false));
    let mut env = Map::new();
    if update {
        env.extend(surroundings.variables().clone());
        env.insert("PM2_USAGE".to_owned(), json!("CLI"));
    }
    env.insert("current_conf".to_owned(), Value::Object(conf));
    if target != "all" && target.parse::<f64>().is_err() {
        env.extend(surroundings.settings_of(target));
    }
    operate(context, action, target, env)
}

/// Finds what a word means, and does it.
pub(super) fn operate(
    context: &mut Context,
    action: Action,
    target: &str,
    env: Map<String, Value>,
) -> Result<(), Failure> {
    let ids = if target == "all" {
        let list = context.processes()?;
        runner::ids(&list, |process| !runner::is_module(process))
    } else if let Some(pattern) = target.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
        let pattern = regex::Regex::new(pattern).map_err(|error| Failure::new(format!("{error}")))?;
        let list = context.processes()?;
        runner::ids(&list, |process| {
            runner::env_text(process, "name").is_some_and(|name| pattern.is_match(name))
                && !runner::is_module(process)
        })
    } else {
        runner::find(context, target)?
    };
    if ids.is_empty() {
        context.warn_aside("No process found");
        return Err(Failure::said(1));
    }
    let job = Job {
        action,
        target: Some(target.to_owned()),
        ids,
        env,
        toggle_watch: action == Action::Restart && context.options.has("watch"),
        by_name: false,
    };
    runner::run(context, &job)
}

pub(super) fn scale(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let [name, wanted, ..] = invocation.operands.as_slice() else {
        return Err(Failure::said(1));
    };
    let list = context.processes()?;
    let ids = runner::ids(&list, |process| runner::env_text(process, "name") == Some(name));
    let Some(first) = ids.first() else {
        return Err(Failure::new(format!("Application {name} not found")));
    };
    let amount = |text: &str| {
        text.parse::<usize>()
            .map_err(|_| Failure::new(format!("Instance number must be a number, not `{text}`")))
    };
    let wanted = match wanted.strip_prefix('+') {
        Some(more) => ids.len() + amount(more)?,
        None => amount(wanted)?,
    };
    match wanted.cmp(&ids.len()) {
        std::cmp::Ordering::Equal => return Err(Failure::new("Nothing to do")),
        std::cmp::Ordering::Greater => {
            for _ in ids.len()..wanted {
                context.say("Scaling up application")?;
                context.call("duplicateProcessId", first.clone())?;
            }
        }
        std::cmp::Ordering::Less => {
            for id in &ids[..ids.len() - wanted] {
                let target = id.to_string();
                let job = Job {
                    action: Action::Delete,
                    target: Some(target),
                    ids: vec![id.clone()],
                    env: Map::new(),
                    toggle_watch: false,
                    by_name: false,
                };
                runner::run(context, &job)?;
            }
        }
    }
    list::show(context)
}

pub(super) fn reset(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let target = invocation
        .operands
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let ids = if target == "all" {
        let list = context.processes()?;
        runner::ids(&list, |process| !runner::is_module(process))
    } else if target.parse::<f64>().is_ok() {
        vec![json!(target)]
    } else {
        let list = context.processes()?;
        let ids = runner::ids(&list, |process| runner::env_text(process, "name") == Some(target));
        if ids.is_empty() {
            context.aside("Unknown process name");
            return Err(Failure::said(1));
        }
        ids
    };
    for id in ids {
        let shown = upkeep_pm2::prepare::as_text(&id);
        context.say(format_args!("Resetting meta for process id {shown}"))?;
        if let Err(error) = context.call("resetMetaProcessId", id) {
            context.aside(format_args!("Error: {}", error.message.unwrap_or_default()));
        }
    }
    list::show(context)
}
