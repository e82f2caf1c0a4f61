//! What outlives the daemon: `save`, `resurrect`, `cleardump`; and its end: `kill`, `update`.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use upkeep_pm2::client::Client;

use super::list;
use crate::{
    args::Invocation,
    context::{Context, Failure, pause},
    runner::{self, Action, Job, env_text, is_module},
};

/// How long a daemon may take to go once it was told to.
const PATIENCE: Duration = Duration::from_secs(10);

fn failed(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let text = format!("failed to {what} `{}`", path.display());
    move |error| Failure::new(format!("{text}: {error}"))
}

pub(super) fn save(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    context.rpc()?;
    context.say("Saving current process list...")?;
    if !write_dump(context)? {
        return Ok(());
    }
    context.say(format_args!(
        "Successfully saved in {}",
        context.home.dump.display()
    ))
}

/// Writes the list. `false`: it is empty, and that was not wanted.
fn write_dump(context: &mut Context) -> Result<bool, Failure> {
    let mut list = context.processes()?;
    list.sort_by_key(|process| process.get("pm_id").and_then(Value::as_u64));
    let records: Vec<Value> = list
        .iter_mut()
        .filter(|process| !is_module(process))
        .filter_map(|process| process.get_mut("pm2_env").map(Value::take))
        .map(|mut record| {
            if let Some(fields) = record.as_object_mut() {
                for key in ["instances", "pm_id", "prev_restart_delay"] {
                    fields.shift_remove(key);
                }
            }
            record
        })
        .collect();
    if records.is_empty() && !context.options.has("force") {
        context.warn("PM2 is not managing any process, skipping save...")?;
        context.warn("To force saving use: pm2 save --force")?;
        return Ok(false);
    }
    let (dump, backup) = (&context.home.dump, &context.home.dump_backup);
    if dump.exists() {
        std::fs::copy(dump, backup).map_err(failed("copy", dump))?;
    }
    let text = serde_json::to_vec_pretty(&records).map_err(Failure::new)?;
    // Beside it first, so that a full disk does not cost the list that is there.
    let beside = dump.with_extension("pm2.new");
    std::fs::write(&beside, text).map_err(failed("write", &beside))?;
    std::fs::rename(&beside, dump).map_err(failed("replace", dump))?;
    Ok(true)
}

pub(super) fn clear(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    context.rpc()?;
    let dump = context.home.dump.clone();
    std::fs::write(&dump, "[]").map_err(failed("write", &dump))?;
    context.say(format_args!("Successfully created {}", dump.display()))
}

pub(super) fn resurrect(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    context.rpc()?;
    restore(context)?;
    list::show(context)
}

/// The list in a dump. One that cannot be read is removed, so that it does not stand in the way for ever.
fn read_list(context: &Context, path: &Path) -> Result<Option<Vec<Value>>, Failure> {
    context.say(format_args!("Restoring processes located in {}", path.display()))?;
    let Ok(text) = std::fs::read(path) else {
        context.complain(format_args!(
            "No processes saved; DUMP file doesn't exist: {}",
            path.display()
        ));
        return Ok(None);
    };
    match serde_json::from_slice(&text) {
        Ok(Value::Array(list)) => Ok(Some(list)),
        Ok(_) => {
            context.aside(format_args!("{} is no list of processes", path.display()));
            Err(Failure::said(1))
        }
        Err(_) => {
            context.complain(format_args!("Failed to read dump file in {}", path.display()));
            std::fs::remove_file(path).map_err(failed("remove", path))?;
            Ok(None)
        }
    }
}

/// Starts what the dump has and the daemon has not.
fn restore(context: &mut Context) -> Result<(), Failure> {
    context.say("Resurrecting")?;
    let (dump, backup) = (context.home.dump.clone(), context.home.dump_backup.clone());
    let records = match read_list(context, &dump)? {
        Some(records) => records,
        // With neither of them there is nothing to bring back, which is no failure.
        None => read_list(context, &backup)?.unwrap_or_default(),
    };
    let running = context.processes()?;
    let runs = |name: Option<&str>| running.iter().any(|process| env_text(process, "name") == name);
    let missing: Vec<Map<String, Value>> = records
        .into_iter()
        .filter_map(|record| match record {
            Value::Object(record) => Some(record),
            _ => None,
        })
        .filter(|record| !runs(record.get("name").and_then(Value::as_str)))
        .collect();
    let context: &Context = context;
    runner::each(
        &missing,
        runner::concurrency(context, Action::Restart),
        &|record| {
            let path = record
                .get("pm_exec_path")
                .map(upkeep_pm2::prepare::as_text)
                .unwrap_or_default();
            Client::connect(&context.home.rpc)?.call("prepare", json!(record))?;
            context.say(format_args!("Process {path} restored"))
        },
    )
}

pub(super) fn kill(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    context.rpc()?;
    end_all(context)?;
    context.say("[v] PM2 Daemon Stopped")
}

/// Deletes everything, modules too, and ends the daemon.
fn end_all(context: &mut Context) -> Result<(), Failure> {
    let list = context.processes()?;
    let ids = runner::ids(&list, |_| true);
    if ids.is_empty() {
        context.warn_aside("No process found");
    } else {
        let job = Job {
            action: Action::Delete,
            target: Some("all".to_owned()),
            ids,
            env: Map::new(),
            toggle_watch: false,
            by_name: false,
        };
        // What could not be deleted ends with the daemon.
        if let Err(failure) = runner::run(context, &job)
            && let Some(message) = failure.message
        {
            context.complain(message);
        }
    }
    context.say("[v] All Applications Stopped")?;
    end_daemon(context)
}

fn end_daemon(context: &mut Context) -> Result<(), Failure> {
    // The answer is that the connection breaks; a signal to say goodbye would end us before we could tell.
    let client = context.rpc()?;
    let _ = client.set_timeout(Some(Duration::from_secs(3)));
    let _ = client.call("killMe", json!({}));
    context.disconnect();
    let deadline = Instant::now() + PATIENCE;
    while Client::connect(&context.home.rpc).is_ok() {
        if Instant::now() >= deadline {
            return Err(Failure::new("the daemon does not go"));
        }
        pause(Duration::from_millis(20));
    }
    Ok(())
}

pub(super) fn update(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    context.rpc()?;
    context.say("Be sure to have the latest version by doing `npm install pm2@latest -g` before doing this procedure.")?;
    context.options.set("force", None);
    write_dump(context)?;
    end_all(context)?;
    context.say("[v] PM2 Daemon Stopped")?;
    context.rpc()?;
    restore(context)?;
    context.say(">>>>>>>>>> PM2 updated")?;
    list::show(context)
}

pub(super) fn deep_update(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    context.say("This program is not installed by npm; the running daemon is replaced by this version")?;
    update(context, invocation)
}
