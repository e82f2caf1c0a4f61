//! Short answers: `id`, `pid`, `env`, `monitor`, `unmonitor`.

use serde_json::{Value, json};
use upkeep_pm2::{inspect, prepare::as_text, schema};

use super::list;
use crate::{
    args::Invocation,
    context::{Context, Failure, out},
    runner::{self, env_text},
};

fn operand(invocation: &Invocation) -> &str {
    invocation
        .operands
        .first()
        .map(String::as_str)
        .unwrap_or_default()
}

pub(super) fn id(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let name = operand(invocation);
    let list = context.processes()?;
    let ids = runner::ids(&list, |process| env_text(process, "name") == Some(name));
    context.print(inspect::inspect(&json!(ids)))
}

pub(super) fn pid(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let list = context.processes()?;
    let name = operand(invocation);
    let pids: Vec<String> = list
        .iter()
        .filter(|process| name.is_empty() || env_text(process, "name") == Some(name))
        .filter_map(|process| process.get("pid").map(as_text))
        .collect();
    context.print(pids.join("\n"))
}

/// The scalars of a record that are no settings of its app, the latest first, as the real one has them.
pub(super) fn env(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let id = operand(invocation);
    let list = context.processes()?;
    let process = list
        .iter()
        .find(|process| process.get("pm_id").is_some_and(|own| as_text(own) == id));
    let Some(Value::Object(record)) = process.and_then(|process| process.get("pm2_env")) else {
        return Err(Failure::new(format!("Modules with id {id} not found")));
    };
    let fields = record
        .iter()
        .rev()
        .filter(|(key, _)| *key == "namespace" || !schema::is_setting(key))
        .filter(|(_, value)| value.is_string() || value.is_number() || value.is_boolean());
    for (key, value) in fields {
        out(format_args!("{key}: {}\n", context.style.green(as_text(value))))?;
    }
    Ok(())
}

pub(super) fn monitor(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    watch(context, invocation, "monitor")
}

pub(super) fn unmonitor(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    watch(context, invocation, "unmonitor")
}

fn watch(context: &mut Context, invocation: &Invocation, method: &str) -> Result<(), Failure> {
    let name = operand(invocation);
    if name.is_empty() {
        return Err(Failure::new(
            "The hosted dashboard is not part of this tool; name an app to mark it",
        ));
    }
    let ids = if name == "all" {
        let list = context.processes()?;
        runner::ids(&list, |_| true)
    } else if let Ok(id) = name.parse::<u64>() {
        vec![json!(id)]
    } else {
        let list = context.processes()?;
        runner::ids(&list, |process| env_text(process, "name") == Some(name))
    };
    for id in ids {
        // An id that nobody has is not worth a word to the real one either.
        let _ = context.rpc()?.call(method, id);
    }
    list::show(context)
}
