//! `set get unset multiset conf config`: the store of settings, `module_conf.json`.

use serde_json::{Map, Value, json};

use super::launch::{environment, module_conf};
use crate::{
    args::Invocation,
    context::{Context, Failure},
};

/// Writes the store as PM2 does: four blanks for a level, no line end.
pub(super) fn store(context: &Context, conf: &Map<String, Value>) -> Result<(), Failure> {
    use serde::Serialize as _;
    context.home.make()?;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    let path = &context.home.module_conf;
    conf.serialize(&mut serializer)
        .map_err(std::io::Error::other)
        .and_then(|()| std::fs::write(path, &bytes))
        .map_err(|error| Failure::new(format!("failed to write `{}`: {error}", path.display())))
}

fn parts(key: &str) -> Vec<&str> {
    key.split(['.', ':']).collect()
}

fn put(conf: &mut Map<String, Value>, parts: &[&str], value: &str) {
    match parts {
        [] => {}
        [last] => {
            conf.insert((*last).to_owned(), json!(value));
        }
        [first, rest @ ..] => {
            let inner = conf.entry(*first).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn remove(conf: &mut Map<String, Value>, parts: &[&str]) {
    match parts {
        [] => {}
        [last] => {
            conf.shift_remove(*last);
        }
        [first, rest @ ..] => {
            if let Some(Value::Object(inner)) = conf.get_mut(*first) {
                remove(inner, rest);
            }
        }
    }
}

/// As JavaScript makes text of a value.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => "[object Object]".to_owned(),
        Value::Array(list) => list.iter().map(as_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Prints one part of the store, or all.
pub(super) fn display(
    context: &Context,
    conf: &Map<String, Value>,
    app: Option<&str>,
) -> Result<(), Failure> {
    let style = context.style;
    for (name, values) in conf.iter().filter(|(name, _)| app.is_none_or(|app| app == *name)) {
        let Value::Object(values) = values else {
            continue;
        };
        context.print(format_args!(
            "{}{}",
            style.bold("Module: "),
            style.bold(style.blue(name))
        ))?;
        for (key, value) in values {
            context.print(format_args!("$ pm2 set {name}:{key} {}", as_text(value)))?;
        }
    }
    Ok(())
}

/// Every process of this name gets its settings as variables, by a restart.
fn restart(context: &mut Context, conf: &Map<String, Value>, app: &str) -> Result<(), Failure> {
    let ids: Vec<u64> = context
        .processes()?
        .iter()
        .filter(|process| process.get("name").and_then(Value::as_str) == Some(app))
        .filter_map(|process| process.get("pm_id").and_then(Value::as_u64))
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut env = environment(context)?;
    env.insert("PM2_PROGRAMMATIC".to_owned(), json!("true"));
    if let Some(Value::Object(values)) = conf.get(app) {
        env.extend(values.clone());
        env.insert(app.to_owned(), json!(Value::Object(values.clone()).to_string()));
    }
    for id in ids {
        context.call("restartProcessId", json!({"id": id, "env": env}))?;
        context.call(
            "notifyByProcessId",
            json!({"id": id, "action_name": "restart", "manually": true}),
        )?;
    }
    context.say(format_args!("Module {app} restarted"))
}

/// The store, to be changed: one that is broken is not overwritten.
fn readable(context: &Context) -> Result<Map<String, Value>, Failure> {
    let path = &context.home.module_conf;
    let Ok(bytes) = std::fs::read(path) else {
        return Ok(Map::new());
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        // With PM2 it is no ERROR, but the end of the command in the middle.
        context.aside(format_args!("`{}` cannot be read: {error}", path.display()));
        Failure::said(1)
    })
}

fn change(context: &mut Context, key: &str, value: Option<&str>) -> Result<(), Failure> {
    let mut conf = readable(context)?;
    let parts = parts(key);
    // Without a value there is nothing to set it to, and what was set is gone.
    let Some(value) = value else {
        remove(&mut conf, &parts);
        store(context, &conf)?;
        return display(context, &conf, None);
    };
    put(&mut conf, &parts, value);
    store(context, &conf)?;
    let [app, _, ..] = parts.as_slice() else {
        return display(context, &conf, None);
    };
    restart(context, &conf, app)?;
    context.say("Setting changed")?;
    display(context, &conf, Some(app))
}

pub(super) fn set(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    match invocation.operands.as_slice() {
        [] => edit(context),
        [key, rest @ ..] => change(context, key, rest.first().map(String::as_str)),
    }
}

/// The store in the user's editor.
fn edit(context: &Context) -> Result<(), Failure> {
    context.home.make()?;
    let editor = std::env::var("EDITOR")
        .ok()
        .filter(|editor| !editor.is_empty())
        .unwrap_or_else(|| "vi".to_owned());
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("{editor} \"$1\""), &editor])
        .arg(&context.home.module_conf)
        .status()?;
    let path = context.home.module_conf.display();
    if status.code() == Some(127) {
        return Err(Failure::new(format!(
            "`{editor}` is no program to edit `{path}` with"
        )));
    }
    context.print(format_args!(
        "Module configuration ({path}) edited.\nTo take changes into account, please restart module related. {path}"
    ))?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Failure::said(
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        )),
    }
}

pub(super) fn get(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let conf = module_conf(context);
    let style = context.style;
    let Some(key) = invocation.operands.first() else {
        return display(context, &conf, None);
    };
    let parts = parts(key);
    let found = parts.iter().skip(1).fold(conf.get(parts[0]), |value, part| {
        value.and_then(|value| value.get(*part))
    });
    let Some(found) = found else {
        return Err(Failure::said(1));
    };
    if let [app, key, ..] = parts.as_slice() {
        return context.print(format_args!(
            "Value for module {} key {}: {}",
            style.blue(app),
            style.blue(key),
            style.bold(style.green(as_text(found)))
        ));
    }
    display(context, &conf, Some(parts[0]))?;
    context.print("Modules configuration. Copy/Paste line to edit values.")
}

pub(super) fn unset(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let mut conf = module_conf(context);
    let key = invocation.operands.first().map_or("", String::as_str);
    if key == "all" {
        conf.clear();
    } else {
        remove(&mut conf, &parts(key));
    }
    store(context, &conf)?;
    display(context, &conf, None)
}

pub(super) fn multiset(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let text = invocation.operands.first().map_or("", String::as_str);
    let words: Vec<&str> = text.split_whitespace().collect();
    context.rpc()?;
    let mut conf = readable(context)?;
    for pair in words.chunks_exact(2) {
        put(&mut conf, &parts(pair[0]), pair[1]);
    }
    store(context, &conf)?;
    display(context, &conf, None)
}

/// `conf` shows everything, whatever was given; `config` sets what has a value.
pub(super) fn conf(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    display(context, &module_conf(context), None)
}

pub(super) fn config(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    match invocation.operands.as_slice() {
        [key, value, ..] => change(context, key, Some(value)),
        // The real one says nothing here.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_nest_by_dots_and_colons() {
        let mut conf = Map::new();
        put(&mut conf, &parts("a.b:c"), "1");
        put(&mut conf, &parts("a:d"), "2");
        put(&mut conf, &parts("top"), "3");
        assert_eq!(json!(conf), json!({"a": {"b": {"c": "1"}, "d": "2"}, "top": "3"}));
        remove(&mut conf, &parts("a.b"));
        remove(&mut conf, &parts("none.such"));
        assert_eq!(json!(conf), json!({"a": {"d": "2"}, "top": "3"}));
        put(&mut conf, &parts("top.x"), "4");
        assert_eq!(conf["top"], json!({"x": "4"}));
    }

    #[test]
    fn values_are_text_as_in_javascript() {
        assert_eq!(as_text(&json!({"a": 1})), "[object Object]");
        assert_eq!(as_text(&json!([1, "b"])), "1,b");
        assert_eq!(as_text(&json!(3)), "3");
        assert_eq!(as_text(&json!(null)), "null");
    }
}
