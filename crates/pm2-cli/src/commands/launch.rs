//! Starts an app that a command has made up itself: a module, a page server.

use serde_json::{Map, Value, json};
use upkeep_pm2::{prepare, schema};

use crate::{
    context::{Context, Failure},
    surroundings::Surroundings,
};

/// What `pm2 set` has stored.
pub(super) fn module_conf(context: &Context) -> Map<String, Value> {
    std::fs::read(&context.home.module_conf)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// The command's environment, as apps get it by a restart.
pub(super) fn environment(context: &Context) -> Result<Map<String, Value>, Failure> {
    let mut env = Surroundings::new(context)?.variables().clone();
    env.insert("PM2_USAGE".to_owned(), json!("CLI"));
    Ok(env)
}

/// Prepares and starts an app given as in a file; the daemon's records of it.
pub(super) fn launch(
    context: &mut Context,
    app: &Map<String, Value>,
    from_file: bool,
) -> Result<Value, Failure> {
    let checked = schema::check(app);
    if let Some(complaint) = checked.errors.first() {
        return Err(Failure::new(complaint));
    }
    let mut conf = checked.conf;
    // No attribute of files: it is the command that says so.
    if app.contains_key("pmx_module") {
        conf.insert("pmx_module".to_owned(), json!(true));
    }
    let surroundings = Surroundings::new(context)?;
    let place = surroundings.place(context, from_file);
    prepare::settle(&mut conf, &place).map_err(Failure::new)?;
    let prepared = prepare::prepare(conf, &place).map_err(Failure::new)?;
    context.call("prepare", Value::Object(prepared))
}

/// Ends and forgets every process of this name, as `delete` does.
pub(super) fn delete(context: &mut Context, name: &str) -> Result<usize, Failure> {
    let ids: Vec<u64> = context
        .processes()?
        .iter()
        .filter(|process| process.get("name").and_then(Value::as_str) == Some(name))
        .filter_map(|process| process.get("pm_id").and_then(Value::as_u64))
        .collect();
    for id in &ids {
        context
            .rpc()?
            .call_with("stopWatch", vec![json!("deleteProcessId"), json!(id)])?;
        context.call("deleteProcessId", json!(id))?;
        let notice = json!({"id": id, "action_name": "delete", "manually": true});
        // The daemon has forgotten the id by now and says so; the real command line asks nevertheless.
        let _ = context.rpc()?.call("notifyByProcessId", notice);
    }
    Ok(ids.len())
}
