//! `describe` (`desc`, `info`, `show`): tables about each process of a name.

use serde_json::Value;
use upkeep_pm2::prepare::as_text;

use super::list;
use crate::{
    args::Invocation,
    context::{Context, Failure},
    runner::env_text,
    style::Style,
    table::{Cell, Table},
};

pub(super) fn describe(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let target = invocation
        .operands
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let list = context.processes()?;
    let found: Vec<&Value> = list
        .iter()
        .filter(|process| {
            env_text(process, "name") == Some(target)
                || process.get("pm_id").is_some_and(|id| as_text(id) == target)
        })
        .collect();
    if found.is_empty() {
        context.warn_aside(format_args!("{target} doesn't exist"));
        return Err(Failure::said(1));
    }
    for process in found {
        one(context, process)?;
    }
    Ok(())
}

fn heading(style: Style, text: &str) -> String {
    style.inverse(style.bold(text))
}

fn hint(style: Style, text: &str) -> String {
    style.white(style.wrap(3, 23, text))
}

fn one(context: &Context, process: &Value) -> Result<(), Failure> {
    let style = context.style;
    let id = process.get("pm_id").map(as_text).unwrap_or_default();
    let name = env_text(process, "name").unwrap_or_default();
    let title = format!(" Describing process with id {id} - name {name} ");
    context.print(style.bold(style.inverse(title)))?;
    context.print(Table::fitting(rows(process)).render(style))?;
    actions(context, process, name)?;
    metrics(context, process)?;
    context.print(heading(style, " Divergent env variables from local env "))?;
    divergent(context, process)?;
    context.print("")?;
    context.print(hint(
        style,
        " Add your own code metrics: http://bit.ly/code-metrics",
    ))?;
    context.print(hint(
        style,
        &format!(" Use `pm2 logs {name} [--lines 1000]` to display logs"),
    ))?;
    context.print(hint(
        style,
        &format!(" Use `pm2 env {id}` to display environment variables"),
    ))?;
    let last = hint(style, " Use `pm2 monit` to monitor CPU and Memory usage");
    context.print(format_args!("{last} {name}"))
}

const INTERPRETER_ARGS: &str = "interpreter args";

fn rows(process: &Value) -> Vec<Vec<Cell>> {
    let env = process.get("pm2_env").cloned().unwrap_or_default();
    let text = |key: &str| env.get(key).filter(|value| !value.is_null()).map(as_text);
    let or_none = |key: &str| text(key).unwrap_or_else(|| "N/A".to_owned());
    let words = |key: &str| match env.get(key) {
        Some(Value::Array(words)) if !words.is_empty() => {
            words.iter().map(as_text).collect::<Vec<_>>().join(" ")
        }
        Some(Value::String(words)) if !words.is_empty() => words.clone(),
        _ => "N/A".to_owned(),
    };
    let created = env
        .get("created_at")
        .and_then(Value::as_i64)
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
        .map_or_else(|| "N/A".to_owned(), |at| format!("{at:.3}"));
    let watched = env
        .get("watch")
        .is_some_and(|watch| !matches!(watch, Value::Bool(false) | Value::Null));
    let status = text("status").unwrap_or_default();
    let status = Cell::styled(
        status.clone(),
        match status.as_str() {
            "online" => |style, text| style.green(style.bold(text)),
            "launching" => |style, text| style.blue(style.bold(text)),
            _ => |style, text| style.red(style.bold(text)),
        },
    );
    let watched = if watched {
        Cell::styled("\u{2714}", |style, text| style.green(style.bold(text)))
    } else {
        Cell::plain("\u{2718}")
    };
    let node_env = env
        .get("env")
        .and_then(|env| env.get("NODE_ENV"))
        .or_else(|| env.get("NODE_ENV"))
        .map(as_text);
    let pairs = [
        ("status", Some(status)),
        ("name", Some(Cell::plain(or_none("name")))),
        ("namespace", Some(Cell::plain(or_none("namespace")))),
        ("version", Some(Cell::plain(or_none("version")))),
        ("restarts", Some(Cell::plain(or_none("restart_time")))),
        ("max memory restart", text("max_memory_restart").map(Cell::plain)),
        (
            "cron restart",
            text("cron_restart").filter(|cron| cron != "0").map(Cell::plain),
        ),
        ("uptime", Some(Cell::plain(list::uptime(process)))),
        ("entire log path", text("pm_log_path").map(Cell::plain)),
        ("script path", Some(Cell::plain(or_none("pm_exec_path")))),
        ("script args", Some(Cell::plain(words("args")))),
        ("error log path", Some(Cell::plain(or_none("pm_err_log_path")))),
        ("out log path", Some(Cell::plain(or_none("pm_out_log_path")))),
        ("pid path", Some(Cell::plain(or_none("pm_pid_path")))),
        ("interpreter", Some(Cell::plain(or_none("exec_interpreter")))),
        (INTERPRETER_ARGS, Some(Cell::plain(words("node_args")))),
        ("script id", Some(Cell::plain(or_none("pm_id")))),
        ("exec cwd", Some(Cell::plain(or_none("pm_cwd")))),
        ("exec mode", Some(Cell::plain(or_none("exec_mode")))),
        ("node.js version", Some(Cell::plain(or_none("node_version")))),
        (
            "node env",
            Some(Cell::plain(node_env.unwrap_or_else(|| "N/A".to_owned()))),
        ),
        ("watch & reload", Some(watched)),
        (
            "unstable restarts",
            Some(Cell::plain(or_none("unstable_restarts"))),
        ),
        ("created at", Some(Cell::plain(created))),
    ];
    let row = |(key, value): (&str, Option<Cell>)| {
        let mut row = vec![Cell::plain(key), value?];
        // Every argument of the interpreter has a cell of its own.
        if key == INTERPRETER_ARGS
            && let Some(Value::Array(words)) = env.get("node_args")
            && words.len() > 1
        {
            row.truncate(1);
            row.extend(words.iter().map(|word| Cell::plain(as_text(word))));
        }
        Some(row)
    };
    pairs.into_iter().filter_map(row).collect()
}

fn actions(context: &Context, process: &Value, name: &str) -> Result<(), Failure> {
    let list = process
        .get("pm2_env")
        .and_then(|env| env.get("axm_actions"))
        .and_then(Value::as_array);
    let rows: Vec<_> = list
        .into_iter()
        .flatten()
        .filter_map(|action| action.get("action_name"))
        .map(|action| vec![Cell::plain(as_text(action))])
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    context.print(heading(context.style, " Actions available "))?;
    context.print(Table::fitting(rows).render(context.style))?;
    let how = format!(" Trigger via: pm2 trigger {name} <action_name>");
    context.print(hint(context.style, &how))?;
    let style = context.style;
    context.print(if style.is_on() {
        "\x1b[37m\x1b[3m\x1b[23m\x1b[39m"
    } else {
        ""
    })
}

fn metrics(context: &Context, process: &Value) -> Result<(), Failure> {
    let metrics = process
        .get("pm2_env")
        .and_then(|env| env.get("axm_monitor"))
        .and_then(Value::as_object);
    let rows: Vec<_> = metrics
        .into_iter()
        .flatten()
        .map(|(name, metric)| {
            let value = metric.get("value").unwrap_or(metric);
            let unit = metric
                .get("unit")
                .and_then(Value::as_str)
                .filter(|unit| !unit.is_empty());
            let text = unit.map_or_else(|| as_text(value), |unit| format!("{} {unit}", as_text(value)));
            vec![Cell::plain(name.as_str()), Cell::plain(text)]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    context.print(heading(context.style, " Code metrics value "))?;
    context.print(Table::fitting(rows).render(context.style))
}

/// Variables of the app that are not what they are here.
fn divergent(context: &Context, process: &Value) -> Result<(), Failure> {
    let env = process
        .get("pm2_env")
        .and_then(|env| env.get("env"))
        .and_then(Value::as_object);
    const OURS: [&str; 5] = ["PM2_USAGE", "PM2_JSON_PROCESSING", "unique_id", "PM2_HOME", "_"];
    let name = env_text(process, "name").unwrap_or_default();
    let rows: Vec<_> = env
        .into_iter()
        .flatten()
        .filter(|(key, _)| !OURS.contains(&key.as_str()) && *key != name)
        .filter(|(key, value)| std::env::var(key).is_ok_and(|here| here != as_text(value)))
        .map(|(key, value)| vec![Cell::plain(key.as_str()), Cell::plain(as_text(value))])
        .collect();
    if rows.is_empty() {
        return context.print("");
    }
    context.print(Table::fitting(rows).render(context.style))
}
