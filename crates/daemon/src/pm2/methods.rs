//! PM2's methods, one app a call: names are resolved and files are read by the client.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use serde_json::{Map, Value, json};
use upkeep_keeper::protocol::{Request, Scope};
use upkeep_pm2::{
    home::PM2_VERSION,
    record::{self, Record},
};
use upkeep_supervise::pm2::Counters;
use upkeep_sys::clock;

use super::{
    god::God,
    process::{Places, Process, State, key, policy},
    system, watch,
};
use crate::{node::preload, tasks::Task};

/// What a method gives: an answer, nothing, or an error in words.
type Answer = Result<Option<Value>, String>;

/// All methods, as the method `methods` of the protocol lists them.
const METHODS: [&str; 30] = [
    "prepare",
    "getMonitorData",
    "getSystemData",
    "startProcessId",
    "stopProcessId",
    "restartProcessId",
    "deleteProcessId",
    "reloadProcessId",
    "softReloadProcessId",
    "duplicateProcessId",
    "resetMetaProcessId",
    "stopWatch",
    "startWatch",
    "toggleWatch",
    "notifyByProcessId",
    "notifyKillPM2",
    "monitor",
    "unmonitor",
    "msgProcess",
    "sendDataToProcessId",
    "sendSignalToProcessId",
    "sendSignalToProcessName",
    "sendLineToStdin",
    "ping",
    "getVersion",
    "getReport",
    "reloadLogs",
    "profileCPU",
    "profileMEM",
    "killMe",
];

pub(super) fn described() -> Value {
    let methods = METHODS
        .iter()
        .map(|name| ((*name).to_owned(), json!({ "name": name, "params": [] })))
        .collect();
    Value::Object(methods)
}

/// Carries out one call.
pub(super) async fn call(god: &Rc<God>, method: &str, arguments: Vec<Value>, who: &str) -> Answer {
    let mut arguments = arguments.into_iter();
    let first = arguments.next().unwrap_or(Value::Null);
    let second = arguments.next().unwrap_or(Value::Null);
    match method {
        "prepare" => prepare(god, first, who).await.map(Some),
        "getMonitorData" => Ok(Some(list(god))),
        "getSystemData" => Ok(Some(god.system.metrics())),
        "startProcessId" => start(god, &first, who).await.map(Some),
        "stopProcessId" => stop(god, &first, who).await.map(Some),
        "restartProcessId" => restart(god, first, who).await.map(Some),
        "reloadProcessId" | "softReloadProcessId" => reload(god, first, who).await.map(Some),
        "deleteProcessId" => delete(god, &first, who).await.map(Some),
        "duplicateProcessId" => duplicate(god, &first, who).await.map(Some),
        "resetMetaProcessId" => reset(god, &first).map(Some),
        "stopWatch" => set_watch(god, &second, |_| false).map(Some),
        "startWatch" => set_watch(god, &second, |_| true).map(Some),
        "toggleWatch" => set_watch(god, &second, |on| !on).map(Some),
        "notifyByProcessId" => notify(god, &first).map(|()| None),
        "notifyKillPM2" => {
            god.bus.publish(
                "pm2:kill",
                json!({"status": "killed", "msg": "pm2 has been killed via CLI"}),
            );
            Ok(None)
        }
        "monitor" => monitor(god, &first, true).map(Some),
        "unmonitor" => monitor(god, &first, false).map(Some),
        "msgProcess" => trigger(god, &first).map(Some),
        "sendDataToProcessId" => send_data(god, &first).map(Some),
        "sendSignalToProcessId" => send_signal(god, &first, "process_id").await.map(Some),
        "sendSignalToProcessName" => send_signal(god, &first, "process_name").await.map(Some),
        "sendLineToStdin" => send_line(god, first).map(Some),
        "ping" => Ok(Some(json!({ "msg": "pong" }))),
        "getVersion" => Ok(Some(PM2_VERSION.into())),
        "getReport" => Ok(Some(report(god))),
        "reloadLogs" => {
            god.logs.reopen();
            god.log("Reloading logs...");
            Ok(Some(json!({})))
        }
        "profileCPU" | "profileMEM" => {
            Err("this daemon is not a Node program: there is no profile of V8 to take".to_owned())
        }
        "killMe" => {
            kill(god, &first, who).await;
            Ok(None)
        }
        _ => Err(format!("method \"{method}\" does not exist")),
    }
}

// ---- the list

/// A process as the list shows it.
pub(super) fn shown(process: &Process, state: &State) -> Map<String, Value> {
    let pid = if state.is_up() || state.machine.pid().is_some() {
        state.machine.pid().unwrap_or(0)
    } else {
        0
    };
    let mut shown = Map::new();
    shown.insert("pid".to_owned(), pid.into());
    shown.insert(
        "name".to_owned(),
        state.record.get("name").cloned().unwrap_or_default(),
    );
    shown.insert("pm2_env".to_owned(), Value::Object(state.record.clone()));
    shown.insert("pm_id".to_owned(), process.id.into());
    shown
}

/// What a start answers with: in PM2 the child's handle with the record at it.
fn described_process(process: &Process) -> Value {
    let state = process.state.borrow();
    let pid = state.machine.pid().unwrap_or(0);
    json!({"pid": pid, "process": {"pid": pid}, "pm2_env": state.record})
}

fn list(god: &God) -> Value {
    let now = clock::monotonic_ms();
    let all = god.table.borrow();
    all.values()
        .map(|process| {
            let state = process.state.borrow();
            let mut shown = shown(process, &state);
            let figures = (state.status() == "online")
                .then(|| state.machine.pid())
                .flatten()
                .and_then(|pid| {
                    let uptime = now.saturating_sub(state.machine.view().started_ms.unwrap_or(now));
                    god.usage.of(pid, now, uptime)
                });
            let (cpu, memory) = figures.unwrap_or((0.0, 0));
            let cpu = (cpu * 10.0).round() / 10.0;
            // 0, not 0.0, as JavaScript shows it.
            #[allow(clippy::cast_possible_truncation)]
            let cpu = if cpu.fract() == 0.0 {
                json!(cpu as i64)
            } else {
                json!(cpu)
            };
            shown.insert("monit".to_owned(), json!({ "memory": memory, "cpu": cpu }));
            Value::Object(shown)
        })
        .collect()
}

/// The id in `3`, `"3"` or `{"id": 3}`.
fn id_of(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Object(object) => id_of(object.get("id").or_else(|| object.get("pm_id"))?),
        _ => None,
    }
}

fn find(god: &God, value: &Value) -> Result<Rc<Process>, String> {
    let id = id_of(value).ok_or_else(|| format!("`{value}` is no id of a process"))?;
    god.find(id).ok_or_else(|| format!("{id} id unknown"))
}

/// Processes by id, or by name.
fn find_all(god: &God, value: &Value) -> Vec<Rc<Process>> {
    if let Some(process) = id_of(value).and_then(|id| god.find(id)) {
        return vec![process];
    }
    let name = record::scalar(value).unwrap_or_default();
    god.all()
        .into_iter()
        .filter(|process| process.state.borrow().name() == name)
        .collect()
}

// ---- starting

fn instances(record: &Record) -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let wanted = match record.get("instances") {
        Some(Value::String(text)) if text == "max" => 0.0,
        _ => record::number(record, "instances").unwrap_or(1.0),
    };
    // The client refuses what is no number; and whoever asks for more than this asks by mistake.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    if wanted > 0.0 {
        (wanted as u64).min(10_000)
    } else {
        cores.saturating_sub((-wanted) as u64).max(1)
    }
}

fn instance_var(god: &God, record: &Record) -> String {
    god.variables
        .instance_var
        .clone()
        .or_else(|| record::text(record, "instance_var").map(str::to_owned))
        .unwrap_or_else(|| "NODE_APP_INSTANCE".to_owned())
}

/// The lowest instance number that no process of that name has.
fn free_instance(god: &God, record: &Record, variable: &str) -> u64 {
    let name = record.get("name");
    let taken: BTreeSet<u64> = god
        .all()
        .iter()
        .filter(|process| process.state.borrow().record.get("name") == name)
        .filter_map(|process| record::count(&process.state.borrow().record, variable))
        .collect();
    (0..=taken.len() as u64)
        .find(|number| !taken.contains(number))
        .unwrap_or(0)
}

fn number_instance(god: &God, record: &mut Record) {
    let variable = instance_var(god, record);
    let number = free_instance(god, record, &variable);
    record.insert(variable, number.into());
    if let Some(counting) = record::text(record, "increment_var").map(str::to_owned) {
        let base = match record.get("env") {
            Some(Value::Object(env)) => record::number(env, &counting).unwrap_or(0.0),
            _ => 0.0,
        };
        #[allow(clippy::cast_possible_truncation)]
        let value = (base as i64).saturating_add(number.cast_signed());
        record.insert(counting.clone(), value.into());
        if let Some(Value::Object(env)) = record.get_mut("env") {
            env.insert(counting, value.into());
        }
    }
}

async fn prepare(god: &Rc<God>, record: Value, who: &str) -> Result<Value, String> {
    let Value::Object(mut record) = record else {
        return Err("a record is an object".to_owned());
    };
    if record::text(&record, "pm_exec_path").is_none() {
        return Err("a record needs `pm_exec_path`".to_owned());
    }
    if god.ending.get() {
        return Err("the daemon is ending".to_owned());
    }
    let place = |key: &str| record::text(&record, key).map(str::to_owned);
    let places = Places {
        out: place("pm_out_log_path"),
        err: place("pm_err_log_path"),
        combined: place("pm_log_path"),
        pid: place("pm_pid_path"),
    };
    let count = instances(&record);
    // One that comes out of a dump has none, and gets none.
    if record.contains_key("instances") {
        record.insert("instances".to_owned(), count.into());
    }
    record.insert("vizion_running".to_owned(), false.into());
    let autostart = record::flag(&record, "autostart") != Some(false);
    // A record of a dump: what it was is known, and it comes back as that.
    let stopped = record::text(&record, "status").is_some_and(|status| status == "stopped");
    let mut made = Vec::new();
    for _ in 0..count {
        let mut record = record.clone();
        number_instance(god, &mut record);
        let process = god.register(record, places.clone());
        God::complete(&process);
        made.push(process);
    }
    let ids: Vec<u64> = made.iter().map(|process| process.id).collect();
    if autostart && !stopped {
        let starts = made.iter().map(|process| async {
            let before = god.order_start(process);
            god.started(process, before).await;
            god.publish_process("start", true, process, None);
        });
        futures_util::future::join_all(starts).await;
    } else {
        for process in &made {
            god.refresh(process);
        }
    }
    god.commit(who, "start", &ids).await;
    Ok(made.iter().map(|process| described_process(process)).collect())
}

async fn start(god: &Rc<God>, id: &Value, who: &str) -> Result<Value, String> {
    let process = find(god, id)?;
    if process.state.borrow().is_up() {
        return Err("process already online".to_owned());
    }
    let before = god.order_start(&process);
    god.started(&process, before).await;
    god.commit(who, "start", &[process.id]).await;
    Ok(described_process(&process))
}

async fn stop(god: &Rc<God>, id: &Value, who: &str) -> Result<Value, String> {
    let process = find(god, id).map_err(|why| why.replace(" id unknown", " : id unknown"))?;
    god.stop(&process).await;
    god.commit(who, "stop", &[process.id]).await;
    let state = process.state.borrow();
    Ok(Value::Object(shown(&process, &state)))
}

async fn delete(god: &Rc<God>, id: &Value, who: &str) -> Result<Value, String> {
    let process = find(god, id).map_err(|why| why.replace(" id unknown", " : id unknown"))?;
    god.stop(&process).await;
    let answer = Value::Object(shown(&process, &process.state.borrow()));
    god.forget(&process);
    god.commit(who, "delete", &[process.id]).await;
    Ok(answer)
}

// ---- changing

/// What a client sends along with a restart: variables go into `env`, `current_conf` into the record, and the word
/// `null` takes a key out.
fn apply(god: &God, process: &Process, env: Value) {
    let Value::Object(mut env) = env else { return };
    let mut state = process.state.borrow_mut();
    let conf = env.shift_remove("current_conf");
    if !matches!(state.record.get("env"), Some(Value::Object(_))) {
        state.set("env", Map::new());
    }
    for (name, value) in env {
        if value.is_object() || value.is_array() {
            continue;
        }
        // The record gets it from there with the start that follows.
        if let Some(Value::Object(own)) = state.record.get_mut("env") {
            own.insert(name, value);
        }
    }
    if let Some(Value::Object(conf)) = conf {
        for (key, value) in conf {
            match (key.as_str(), &value) {
                ("env", Value::Object(env)) if env.is_empty() => {}
                (_, Value::String(text)) if text == "null" => {
                    state.record.shift_remove(&key);
                }
                _ => {
                    state.record.insert(key, value);
                }
            }
        }
    }
    let fresh = policy(&state.record, &god.variables);
    state.policy.stop = fresh.stop;
}

fn split(argument: Value) -> (Value, Value) {
    match argument {
        Value::Object(mut object) => {
            let env = object.shift_remove("env").unwrap_or_default();
            (object.shift_remove("id").unwrap_or_default(), env)
        }
        other => (other, Value::Null),
    }
}

async fn restart(god: &Rc<God>, argument: Value, who: &str) -> Result<Value, String> {
    let (id, env) = split(argument);
    let process = find(god, &id).map_err(|_| "God db process id unknown".to_owned())?;
    if god.ending.get() {
        return Err("the daemon is ending".to_owned());
    }
    God::forgive(&process);
    apply(god, &process, env);
    god.restart(&process).await;
    god.commit(who, "restart", &[process.id]).await;
    Ok(described_process(&process))
}

async fn reload(god: &Rc<God>, argument: Value, who: &str) -> Result<Value, String> {
    let (id, env) = split(argument);
    let process = find(god, &id).map_err(|_| "PM2 ID unknown".to_owned())?;
    if god.ending.get() {
        return Err("the daemon is ending".to_owned());
    }
    let beside = {
        let state = process.state.borrow();
        state.is_cluster() && state.is_node() && state.status() == "online"
    };
    // In PM2's order, which the keys of the record show.
    if beside {
        apply(god, &process, env);
        God::forgive(&process);
    } else {
        God::forgive(&process);
        apply(god, &process, env);
    }
    let process = if beside {
        super::cluster::replace(god, &process).await?
    } else {
        god.restart(&process).await;
        process
    };
    god.commit(who, "reload", &[process.id]).await;
    Ok(described_process(&process))
}

async fn duplicate(god: &Rc<God>, id: &Value, who: &str) -> Result<Value, String> {
    let original = find(god, id)?;
    let (mut record, places) = {
        let state = original.state.borrow();
        (state.record.clone(), state.places.clone())
    };
    for key in [
        "pm_id",
        "created_at",
        "unique_id",
        "exit_code",
        "prev_restart_delay",
        "_tree_pids",
    ] {
        record.shift_remove(key);
    }
    number_instance(god, &mut record);
    let process = god.register(record, places);
    God::complete(&process);
    let before = god.order_start(&process);
    god.started(&process, before).await;
    god.publish_process("start", true, &process, None);
    god.commit(who, "scale", &[process.id]).await;
    Ok(described_process(&process))
}

fn reset(god: &God, id: &Value) -> Result<Value, String> {
    let process = find(god, id)?;
    {
        let mut state = process.state.borrow_mut();
        state.set("created_at", clock::unix_ms());
        state.set("unstable_restarts", 0);
        state.set("restart_time", 0);
        state.counters = Counters {
            created_ms: Some(clock::monotonic_ms()),
            ..state.counters
        };
    }
    god.refresh(&process);
    Ok(god
        .all()
        .iter()
        .map(|process| Value::Object(shown(process, &process.state.borrow())))
        .collect())
}

fn set_watch(god: &Rc<God>, target: &Value, change: impl Fn(bool) -> bool) -> Result<Value, String> {
    let target = match target {
        Value::Object(object) => object.get("id").unwrap_or(target),
        other => other,
    };
    for process in find_all(god, target) {
        {
            let mut state = process.state.borrow_mut();
            let was = watch::wanted(&state.record);
            let on = change(was);
            // A list of paths stays one for as long as it is on.
            if !(was && on) {
                state.set("watch", on);
            }
        }
        watch::arm(god, &process);
        god.refresh(&process);
    }
    Ok(json!({ "success": true }))
}

fn monitor(god: &God, id: &Value, on: bool) -> Result<Value, String> {
    let process = find(god, id)?;
    process.state.borrow_mut().set("_km_monitored", on);
    god.refresh(&process);
    Ok(json!({ "success": true, "pm_id": id }))
}

// ---- telling

fn notify(god: &God, argument: &Value) -> Result<(), String> {
    let process = argument
        .get("id")
        .and_then(id_of)
        .and_then(|id| god.find(id))
        .ok_or("process id doesnt exists")?;
    let event = argument
        .get("action_name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let manually = argument.get("manually").and_then(Value::as_bool).unwrap_or(false);
    god.publish_process(event, manually, &process, None);
    Ok(())
}

/// What a child says (its channel is read in order).
pub(super) fn message(god: &Rc<God>, process: &Rc<Process>, message: Value) {
    if message.as_str() == Some("ready") {
        let waits = record::flag(&process.state.borrow().record, "wait_ready") == Some(true);
        if waits {
            god.ready(process);
        }
    }
    if message.get("cmd").and_then(Value::as_str) == Some("NODE_CLUSTER") {
        let (primary, generation) = {
            let state = process.state.borrow();
            (state.primary.clone(), state.generation)
        };
        if let Some(primary) = primary {
            primary.hear(&key(process.id, generation), message);
        }
        return;
    }
    // PM2's own agent tells what of this PM2 shows.
    if preload::figures(&message).is_some() {
        return;
    }
    if let Some(version) = message.get("node_version").and_then(Value::as_str) {
        process.state.borrow_mut().set("node_version", version);
        god.refresh(process);
        return;
    }
    let whom = |state: &State| {
        json!({
            "pm_id": process.id,
            "name": state.record.get("name"),
            "namespace": state.namespace(),
        })
    };
    let kind = message
        .get("type")
        .and_then(Value::as_str)
        .filter(|kind| !kind.is_empty());
    let data = message.get("data").filter(|data| is_truthy(data));
    let (Some(kind), Some(data)) = (kind, data) else {
        if god.bus.is_heard() {
            let whom = whom(&process.state.borrow());
            god.bus.publish(
                "process:msg",
                json!({"at": clock::unix_ms(), "raw": message, "process": whom}),
            );
        }
        return;
    };
    match kind {
        "axm:action" => {
            let mut state = process.state.borrow_mut();
            let name = data.get("action_name").cloned();
            if let Some(Value::Array(actions)) = state.record.get_mut("axm_actions") {
                actions.retain(|action| action.get("action_name") != name.as_ref());
                actions.push(data.clone());
            }
        }
        "axm:monitor" | "axm:option:configuration" => {
            let key = if kind == "axm:monitor" {
                "axm_monitor"
            } else {
                "axm_options"
            };
            let mut state = process.state.borrow_mut();
            if let (Some(Value::Object(known)), Value::Object(news)) = (state.record.get_mut(key), data) {
                known.extend(news.clone());
            }
        }
        "axm:option:setPID" => {}
        _ => {
            if god.bus.is_heard() {
                let whom = whom(&process.state.borrow());
                god.bus.publish(
                    kind,
                    json!({"at": clock::unix_ms(), "data": data, "process": whom}),
                );
            }
        }
    }
}

/// As JavaScript means it.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

fn trigger(god: &God, argument: &Value) -> Result<Value, String> {
    let action = argument
        .get("msg")
        .ok_or("a message needs `msg`")?
        .as_str()
        .unwrap_or_default();
    let targets = match (argument.get("id"), argument.get("name")) {
        (Some(id), _) => find_all(god, id),
        (None, Some(name)) if name == "all" => god.all(),
        (None, Some(name)) => find_all(god, name),
        (None, None) => return Err("method requires name or id field".to_owned()),
    };
    if targets.is_empty() {
        return Err(format!(
            "{} id unknown",
            argument
                .get("id")
                .or_else(|| argument.get("name"))
                .and_then(record::scalar)
                .unwrap_or_default()
        ));
    }
    let mut count = 0;
    for process in targets {
        let known = prepare_output(&mut process.state.borrow_mut(), action);
        let state = process.state.borrow();
        if !known || state.status() != "online" {
            let name = state.name();
            drop(state);
            god.log(&format!("Action doesn't exist {action} for {name}"));
            continue;
        }
        let Some(channel) = &state.channel else { continue };
        let message = match argument.get("opts") {
            Some(opts) if !opts.is_null() => argument_with(argument, opts),
            _ => Value::String(action.to_owned()),
        };
        if action.starts_with("km:") {
            channel.send(&json!({"cmd": "NODE_PM2_ACTION", "action": action}));
        }
        channel.send(&message);
        count += 1;
    }
    Ok(json!({"process_count": count, "success": true}))
}

/// Makes room for what an action says, where dashboards look for it. `false`: no such action was announced.
fn prepare_output(state: &mut State, action: &str) -> bool {
    let Some(Value::Array(actions)) = state.record.get_mut("axm_actions") else {
        return false;
    };
    let known = actions
        .iter_mut()
        .find(|known| known.get("action_name").and_then(Value::as_str) == Some(action));
    let Some(Value::Object(known)) = known else {
        return false;
    };
    known.insert("output".to_owned(), json!([]));
    true
}

fn argument_with(argument: &Value, opts: &Value) -> Value {
    let mut message = Map::new();
    for key in ["id", "name", "msg"] {
        if let Some(value) = argument.get(key) {
            message.insert(key.to_owned(), value.clone());
        }
    }
    message.insert("opts".to_owned(), opts.clone());
    Value::Object(message)
}

fn send_data(god: &God, packet: &Value) -> Result<Value, String> {
    let lacking = ["id", "data", "topic"]
        .iter()
        .find(|key| packet.get(**key).is_none_or(Value::is_null));
    if let Some(key) = lacking {
        return Err(format!("{key} field is missing in packet"));
    }
    let id = packet.get("id").and_then(id_of).unwrap_or(u64::MAX);
    let process = god
        .find(id)
        .ok_or_else(|| format!("Process with ID <{id}> unknown."))?;
    let state = process.state.borrow();
    let sent = matches!(state.status(), "online" | "launching")
        && state.channel.as_ref().is_some_and(|channel| channel.send(packet));
    if !sent {
        return Err(format!("Process with ID <{id}> offline."));
    }
    Ok(json!({"success": true, "data": packet}))
}

async fn send_signal(god: &God, argument: &Value, which: &str) -> Result<Value, String> {
    let target = argument.get(which).unwrap_or(&Value::Null);
    let targets = match which {
        "process_id" => id_of(target).and_then(|id| god.find(id)).into_iter().collect(),
        _ => find_all(god, target),
    };
    if targets.is_empty() {
        let target = record::scalar(target).unwrap_or_default();
        return Err(match which {
            "process_id" => format!("{target} id unknown"),
            _ => "Unknown process name".to_owned(),
        });
    }
    let wanted = argument.get("signal").unwrap_or(&Value::Null);
    let name = record::scalar(wanted).unwrap_or_default();
    let signal = system::signal_number(&name).ok_or_else(|| format!("Unknown signal: {name}"))?;
    for process in targets {
        let (key, up) = {
            let state = process.state.borrow();
            (key(process.id, state.generation), state.machine.pid().is_some())
        };
        if !up {
            continue;
        }
        let answer = god.context.link.ask(|id| Request::Signal {
            id,
            key,
            signal,
            scope: Scope::Leader,
        });
        answer.wait().await.map_err(|error| error.to_string())?;
    }
    Ok(god
        .all()
        .iter()
        .map(|process| Value::Object(shown(process, &process.state.borrow())))
        .collect())
}

fn send_line(god: &God, packet: Value) -> Result<Value, String> {
    let id = packet.get("pm_id").and_then(id_of).ok_or("pm_id field missing")?;
    let line = packet
        .get("line")
        .and_then(Value::as_str)
        .ok_or("line field missing")?;
    let process = god
        .find(id)
        .ok_or_else(|| format!("Process with ID <{id}> unknown."))?;
    let state = process.state.borrow();
    if state.is_cluster() {
        return Err("Cannot send line to processes in cluster mode".to_owned());
    }
    let stdin = state
        .stdin
        .as_ref()
        .filter(|_| state.is_up())
        .ok_or_else(|| format!("Process with ID <{id}> offline."))?;
    // A socket: what it has no room for is refused, not waited for.
    let written = upkeep_sys::descriptor::write(stdin, line.as_bytes())
        .map_err(|error| format!("Process with ID <{id}> does not read its input: {error}"))?;
    if written < line.len() {
        return Err(format!(
            "Process with ID <{id}> took {written} bytes of {}",
            line.len()
        ));
    }
    drop(state);
    Ok(packet)
}

fn report(god: &God) -> Value {
    let argv: Vec<String> = std::env::args().collect();
    json!({
        "pm2_version": PM2_VERSION,
        "node_version": "N/A",
        "upkeep_version": env!("CARGO_PKG_VERSION"),
        "node_path": std::env::var("_").unwrap_or_else(|_| "not found".to_owned()),
        "argv0": argv.first(),
        "argv": argv,
        "user": std::env::var("USER").unwrap_or_default(),
        "uid": upkeep_host::home::uid(),
        "gid": upkeep_host::home::uid(),
        "managed_apps": god.table.borrow().len(),
        "started_at": god.started_ms,
    })
}

// ---- ending

/// The list as `dump.pm2` holds it when a signal ends the daemon.
pub(super) fn dump(god: &God) -> std::io::Result<()> {
    let list: Vec<Value> = god
        .all()
        .iter()
        .filter(|process| !process.state.borrow().is_module())
        .map(|process| {
            let mut record = process.state.borrow().record.clone();
            for key in ["instances", "pm_id"] {
                record.shift_remove(key);
            }
            Value::Object(record)
        })
        .collect();
    if list.is_empty() {
        return Ok(());
    }
    if god.home.dump.exists() {
        std::fs::copy(&god.home.dump, &god.home.dump_backup)?;
    }
    // In one step: a reader, or a machine that loses power, finds the old list or the new one.
    let new = god.home.dump.with_extension("pm2.new");
    std::fs::write(&new, Value::Array(list).to_string())?;
    std::fs::rename(new, &god.home.dump)
}

async fn kill(god: &Rc<God>, argument: &Value, who: &str) {
    god.log("pm2 has been killed by CLI");
    god.delete_all(who).await;
    god.bus.publish(
        "pm2:kill",
        json!({"status": "killed", "msg": "pm2 has been killed via CLI"}),
    );
    god.close().await;
    // PM2's goodbye: its client waits for this signal.
    if let Some(pid) = argument.get("pid").and_then(Value::as_u64)
        && let Some(pid) = u32::try_from(pid)
            .ok()
            .and_then(upkeep_sys::pid::Pid::from_unsigned)
    {
        // It may have left already.
        let _ = upkeep_sys::signal::send(pid, 3);
    }
    let god = Rc::clone(god);
    Task::spawn_short("pm2 leave", async move {
        // The answer to this call goes out first.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(leave) = god.leave.borrow_mut().take() {
            // The main loop listens until it ends.
            let _ = leave.send(());
        }
    });
}
