//! The table of PM2's attributes.

use super::*;

/// Takes one attribute. `warn` is told what is not honoured.
pub(super) fn take(into: &mut Gathered, entry: &Entry, warn: &mut dyn FnMut(&str)) -> Result<(), Fault> {
    let key = snake_case(&entry.key);
    let app = &mut into.app;
    match key.as_str() {
        "script" | "exec" | "cmd" | "command" => app.script = Some(text_at(entry)?),
        "name" => app.name = Some(text_at(entry)?),
        "name_prefix" => app.pm2.name_prefix = Some(text(entry)?),
        "append_env_to_name" => app.pm2.append_env_to_name = truth(entry)?,
        "namespace" => app.namespace = Some(text_at(entry)?),
        "cwd" => app.cwd = Some(text(entry)?),
        "args" => app.args = Some(words(entry)?),
        "interpreter" | "exec_interpreter" => app.interpreter = Some(text_at(entry)?),
        "interpreter_args" | "node_args" => app.interpreter_args = Some(words(entry)?),
        "instances" => {
            app.instances = Some(At {
                value: instances(entry)?,
                position: Some(entry.node.at),
            });
        }
        "instance_var" => app.instance_var = Some(text(entry)?),
        "env" => app.env.get_or_insert_default().extend(env(entry)?),
        "env_file" => app.env_file = Some(words(entry)?),
        "port" => into.port = Some(text(entry)?),
        "uid" | "user" => app.user = Some(text_at(entry)?),
        "gid" => app.group = Some(text_at(entry)?),
        "autostart" => app.autostart = Some(truth(entry)?),
        "autorestart" => {
            into.restart.on = Some(if truth(entry)? {
                RestartOn::Always
            } else {
                RestartOn::Never
            });
        }
        "stop_exit_codes" => into.restart.stop_codes = Some(codes(entry)?),
        "restart_delay" => into.restart.delay = nonzero(millis(entry)?),
        "exp_backoff_restart_delay" => into.exponential = nonzero(millis(entry)?),
        "min_uptime" => into.restart.min_uptime = Some(millis(entry)?),
        "max_restarts" => into.restart.max_restarts = Some(number(entry)?),
        "kill_timeout" => into.stop.grace = Some(millis(entry)?),
        "treekill" => into.stop.tree = Some(truth(entry)?),
        "out_file" | "out" | "output" | "out_log" => into.logs.out = Some(text(entry)?),
        "error_file" | "error" | "err" | "err_file" | "err_log" => into.logs.err = Some(text(entry)?),
        "log_file" | "log" => {
            into.combined_log = Some(text(entry)?).filter(|path| path != "true" && path != "false");
        }
        "disable_logs" => into.logs.disabled = Some(truth(entry)?),
        "exec_mode" => {
            app.mode = Some(if text(entry)?.starts_with("cluster") {
                Mode::Cluster
            } else {
                Mode::Fork
            });
        }
        "wait_ready" => {
            if truth(entry)? {
                app.readiness = Some(At::from(Readiness {
                    message: Some(true),
                    ..Readiness::default()
                }));
            }
        }
        "listen_timeout" => {
            let timeout = nonzero(millis(entry)?);
            app.rollout = Some(At::from(RolloutSpec {
                timeout,
                ..RolloutSpec::default()
            }));
        }
        "max_memory_restart" => {
            let value = text(entry)?;
            value.parse::<ByteSize>().map_err(|error| wrong(entry, error))?;
            warn("`max_memory_restart` is not honoured yet");
        }
        "watch"
        | "cron_restart"
        | "cron"
        | "shutdown_with_message"
        | "increment_var"
        | "filter_env"
        | "log_date_format"
        | "time"
        | "log_type"
        | "pid_file"
        | "pid" => {
            if says_something(&entry.node) {
                warn(&format!("`{}` is not honoured yet", entry.key));
            }
        }
        _ => {
            if let Some(name) = key.strip_prefix("env_") {
                app.pm2.env_by_name.insert(name.to_owned(), env(entry)?);
            }
            // Anything else is dropped, as PM2 does.
        }
    }
    Ok(())
}

fn wrong(entry: &Entry, wanted: impl std::fmt::Display) -> Fault {
    Fault::new(entry.node.at, format!("`{}`: {wanted}", entry.key))
}

fn expected(entry: &Entry, wanted: &str) -> Fault {
    wrong(
        entry,
        format_args!("expected {wanted}, found {}", entry.node.kind()),
    )
}

fn text(entry: &Entry) -> Result<String, Fault> {
    entry
        .node
        .as_text()
        .map(str::to_owned)
        .ok_or_else(|| expected(entry, "a text"))
}

fn text_at(entry: &Entry) -> Result<At<String>, Fault> {
    Ok(At {
        value: text(entry)?,
        position: Some(entry.node.at),
    })
}

fn truth(entry: &Entry) -> Result<bool, Fault> {
    match entry.node.as_text().map(str::to_ascii_lowercase).as_deref() {
        Some("true" | "yes" | "on" | "1") => Ok(true),
        Some("false" | "no" | "off" | "0") => Ok(false),
        _ => Err(expected(entry, "`true` or `false`")),
    }
}

fn number(entry: &Entry) -> Result<u32, Fault> {
    let parsed = entry.node.as_text().and_then(|text| text.trim().parse().ok());
    parsed.ok_or_else(|| expected(entry, "a number"))
}

/// Milliseconds, or a text such as `10s`.
fn millis(entry: &Entry) -> Result<Span, Fault> {
    let parsed = entry.node.as_text().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| expected(entry, "milliseconds, or a duration such as `10s`"))
}

fn nonzero(span: Span) -> Option<Span> {
    Some(span).filter(|span| span.as_millis() > 0)
}

fn words(entry: &Entry) -> Result<At<OneOrMany>, Fault> {
    let value = match &entry.node.value {
        Value::List(items) => {
            let word = |item: &Node| item.as_text().map(str::to_owned);
            let words = items.iter().map(word).collect::<Option<Vec<_>>>();
            OneOrMany::Many(words.ok_or_else(|| expected(entry, "a text or a list of texts"))?)
        }
        _ => OneOrMany::One(
            entry
                .node
                .as_text()
                .ok_or_else(|| expected(entry, "a text or a list of texts"))?
                .to_owned(),
        ),
    };
    Ok(At {
        value,
        position: Some(entry.node.at),
    })
}

fn codes(entry: &Entry) -> Result<Codes, Fault> {
    let all: Vec<&Node> = match &entry.node.value {
        Value::List(items) => items.iter().collect(),
        _ => vec![&entry.node],
    };
    let code = |node: &&Node| node.as_text().and_then(|text| text.trim().parse().ok());
    all.iter()
        .map(code)
        .collect::<Option<_>>()
        .map(Codes)
        .ok_or_else(|| expected(entry, "exit codes from 0 to 255"))
}

/// `max` and 0 are all CPUs; a negative number leaves that many free.
fn instances(entry: &Entry) -> Result<Instances, Fault> {
    let text = text(entry)?;
    if text == "max" {
        return Ok(Instances::Max);
    }
    match text.trim().parse::<i32>() {
        Ok(0) => Ok(Instances::Max),
        Ok(less) if less < 0 => Ok(Instances::MaxLess(less.unsigned_abs())),
        Ok(count) if count.unsigned_abs() <= super::super::v1::INSTANCES_MAX => {
            Ok(Instances::Count(count.unsigned_abs()))
        }
        Ok(_) | Err(_) => Err(expected(entry, "a number or `max`")),
    }
}

/// Lists and maps become their JSON, as PM2 does; `null` is left out.
fn env(entry: &Entry) -> Result<BTreeMap<String, Scalar>, Fault> {
    match &entry.node.value {
        Value::Map(entries) => Ok(entries
            .iter()
            .filter(|inner| !matches!(inner.node.value, Value::Null))
            .map(|inner| {
                let value = inner
                    .node
                    .as_text()
                    .map_or_else(|| json(&inner.node).to_string(), str::to_owned);
                (inner.key.clone(), Scalar(value))
            })
            .collect()),
        Value::Text(text) if text.is_empty() => Ok(BTreeMap::new()),
        _ => Err(expected(entry, "a map of variables")),
    }
}

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool { value, .. } => (*value).into(),
        Value::Number { raw } => serde_json::from_str(raw).unwrap_or_else(|_| raw.as_str().into()),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), json(&entry.node)))
            .collect(),
    }
}

/// Whether a switch is on: not `false`, not 0, not empty.
fn says_something(node: &Node) -> bool {
    match &node.value {
        Value::Null => false,
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
        Value::Bool { .. } | Value::Number { .. } | Value::Text(_) => {
            !matches!(node.as_text().unwrap_or(""), "" | "0" | "false" | "no" | "off")
        }
    }
}
