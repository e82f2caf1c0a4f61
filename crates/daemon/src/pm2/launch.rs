//! From a record to what the keeper is asked to start.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
};

use serde_json::Value;
use upkeep_api::body::Stream;
use upkeep_keeper::protocol::{Request, SpawnSpec};
use upkeep_pm2::{
    home::Pm2Home,
    record::{self, Record},
};

use super::{
    cluster,
    god::God,
    logs::{self, Format, Sinks},
    process::{Process, State, key},
};
use crate::node::{
    bind::Rights,
    channel::{self, Channel},
    preload,
};

/// What is given to Node apps beside their script (see the file itself).
const AGENT: &str = include_str!("agent.cjs");

fn agent_path(home: &Pm2Home) -> PathBuf {
    home.upkeep.join("agent.cjs")
}

/// Puts the agent where Node apps load it from. Apps of another user must be able to read it.
pub(super) fn write_agent(home: &Pm2Home) -> std::io::Result<()> {
    let path = agent_path(home);
    preload::write(&home.upkeep)?;
    if std::fs::read_to_string(&path).is_ok_and(|text| text == AGENT) {
        return Ok(());
    }
    // In one step: an app may be starting right now.
    let new = path.with_extension("new");
    std::fs::write(&new, AGENT)?;
    std::fs::rename(new, path)
}

fn pipe_name(id: u64, stream: Stream) -> String {
    let word = if stream == Stream::Out { "out" } else { "err" };
    format!("pm2:{id}:{word}")
}

/// The process and stream of a log pipe.
pub(super) fn parse_pipe(name: &str) -> Option<(u64, Stream)> {
    let (id, word) = name.strip_prefix("pm2:")?.split_once(':')?;
    let stream = match word {
        "out" => Stream::Out,
        "err" => Stream::Err,
        _ => return None,
    };
    Some((id.parse().ok()?, stream))
}

/// Our ends of a child's channel and standard input, in the keeper's table.
pub(super) fn kept_channel(id: u64, generation: u64) -> String {
    format!("pm2:{id}:{generation}:ipc")
}

pub(super) fn kept_stdin(id: u64, generation: u64) -> String {
    format!("pm2:{id}:{generation}:in")
}

/// Names of everything that is kept for one process of an app.
pub(super) fn child_descriptors(id: u64, generation: u64) -> [String; 2] {
    [kept_channel(id, generation), kept_stdin(id, generation)]
}

/// Names of everything that is kept for an app.
pub(super) fn descriptors(id: u64, generation: u64) -> [String; 4] {
    let [channel, stdin] = child_descriptors(id, generation);
    [
        pipe_name(id, Stream::Out),
        pipe_name(id, Stream::Err),
        channel,
        stdin,
    ]
}

/// Where a stream goes.
pub(super) fn sinks(state: &State, stream: Stream) -> Sinks {
    let (out, err, combined) = state.log_paths();
    let pattern = record::text(&state.record, "log_date_format")
        .filter(|pattern| !pattern.is_empty() && *pattern != "false")
        .map(str::to_owned);
    let json = record::text(&state.record, "log_type") == Some("json");
    Sinks {
        file: if stream == Stream::Out { out } else { err },
        combined,
        format: match (json, pattern) {
            (true, pattern) => Format::Json(pattern),
            (false, Some(pattern)) => Format::Dated(pattern),
            (false, None) => Format::Plain,
        },
        name: state.name(),
        disabled: record::flag(&state.record, "disable_logs") == Some(true),
    }
}

/// The `version` of the nearest `package.json` above the script.
pub(super) fn package_version(record: &Record) -> String {
    let unknown = "N/A".to_owned();
    let Some(script) = record::text(record, "pm_exec_path").map(Path::new) else {
        return unknown;
    };
    for folder in script.ancestors().skip(1) {
        if let Ok(text) = std::fs::read_to_string(folder.join("package.json")) {
            return serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|package| package.get("version")?.as_str().map(str::to_owned))
                .unwrap_or(unknown);
        }
    }
    unknown
}

fn arguments(record: &Record, key: &str) -> Vec<OsString> {
    record::texts(record, key)
        .into_iter()
        .map(OsString::from)
        .collect()
}

fn command(god: &God, state: &State) -> Result<Vec<OsString>, String> {
    let record = &state.record;
    let script = record::text(record, "pm_exec_path").ok_or("its record has no `pm_exec_path`")?;
    let interpreter = record::text(record, "exec_interpreter").unwrap_or("none");
    let mut argv = Vec::new();
    if interpreter == "none" {
        argv.push(script.into());
    } else {
        argv.push(interpreter.into());
        if state.is_node() {
            if let Some(options) = &god.variables.node_options {
                argv.extend(options.split_whitespace().map(OsString::from));
            }
            argv.extend(["--require".into(), agent_path(&god.home).into_os_string()]);
        }
        argv.extend(arguments(record, "node_args"));
        argv.push(script.into());
    }
    argv.extend(arguments(record, "args"));
    Ok(argv)
}

/// What the child sees: every scalar of the record.
fn environment(god: &God, process: &Process, state: &State) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in &state.record {
        let value = match record::scalar(value) {
            Some(value) => value,
            // As JavaScript writes them, and only where PM2 does.
            None if state.is_cluster() => match value {
                Value::Array(items) => items
                    .iter()
                    .map(|item| record::scalar(item).unwrap_or_default())
                    .collect::<Vec<_>>()
                    .join(","),
                Value::Object(_) => "[object Object]".to_owned(),
                _ => continue,
            },
            None => continue,
        };
        // PM2 learns it too late for a first process, and for its workers.
        if name == "version" && (state.is_cluster() || state.generation <= 1) {
            continue;
        }
        if !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') {
            env.insert(name.clone(), value);
        }
    }
    env.insert("PM2_HOME".to_owned(), god.home.root.display().to_string());
    env.insert("pm_id".to_owned(), process.id.to_string());
    env.insert("status".to_owned(), "launching".to_owned());
    env.insert("NODE_CHANNEL_FD".to_owned(), "3".to_owned());
    env.insert("NODE_CHANNEL_SERIALIZATION_MODE".to_owned(), "json".to_owned());
    if state.is_cluster() && state.is_node() {
        env.insert("NODE_UNIQUE_ID".to_owned(), state.worker.to_string());
    }
    env
}

fn identity(
    state: &State,
    launched: &mut SpawnSpec,
    env: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let name = |key: &str| {
        state
            .record
            .get(key)
            .and_then(record::scalar)
            .filter(|name| !name.is_empty())
    };
    if let Some(name) = name("uid") {
        let user = upkeep_sys::user::user(&name).map_err(|error| error.to_string())?;
        launched.uid = Some(user.uid);
        launched.gid = Some(user.gid);
        launched.groups = Some(upkeep_sys::user::groups_of(&user));
        env.insert("HOME".to_owned(), user.home);
    }
    if let Some(name) = name("gid") {
        launched.gid = Some(upkeep_sys::user::group(&name).map_err(|error| error.to_string())?);
    }
    Ok(())
}

/// Asks the keeper for the process of a record; the answer comes to [`God::spawned`] or [`God::spawn_refused`].
pub(super) fn spawn(god: &Rc<God>, process: &Rc<Process>) -> Result<(), String> {
    if god.ending.get() {
        return Err("everything is being ended".to_owned());
    }
    let (spec, key, generation) = {
        let mut state = process.state.borrow_mut();
        if state.is_cluster() {
            state.worker = god.next_worker.get();
            god.next_worker.set(state.worker + 1);
        }
        let mut env = environment(god, process, &state);
        let mut spec = SpawnSpec {
            argv: command(god, &state)?,
            cwd: record::text(&state.record, "pm_cwd").unwrap_or("/").into(),
            cgroup: true,
            ..SpawnSpec::default()
        };
        identity(&state, &mut spec, &mut env)?;
        spec.env = env
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        if !spec.cwd.is_dir() {
            return Err(format!("its directory `{}` does not exist", spec.cwd.display()));
        }
        (spec, key(process.id, state.generation), state.generation)
    };
    open_logs(god, process);
    let mut spec = spec;
    let id = process.id;
    spec.descriptors = vec![(1, pipe_name(id, Stream::Out)), (2, pipe_name(id, Stream::Err))];
    let channel = open_channel(god, process, generation, &mut spec);
    let stdin = stdin(god, process, generation, &mut spec);
    let passed: Vec<String> = spec.descriptors[2..]
        .iter()
        .map(|(_, name)| name.clone())
        .collect();
    process.state.borrow_mut().stdin = stdin.ok();
    if let Ok(channel) = channel {
        hold(god, process, channel);
    }
    god.context.link.spawn(key, spec);
    // The child has its own by then: requests are served in order.
    for name in passed {
        god.context.link.order(|id| Request::CloseDescriptor { id, name });
    }
    Ok(())
}

/// Pipes, if there are none yet; and files, which are there before the app is.
fn open_logs(god: &Rc<God>, process: &Rc<Process>) {
    for stream in [Stream::Out, Stream::Err] {
        let name = pipe_name(process.id, stream);
        let (is_new, sinks) = {
            let mut state = process.state.borrow_mut();
            (state.piped.insert(name.clone()), sinks(&state, stream))
        };
        for path in [&sinks.file, &sinks.combined].into_iter().flatten() {
            if let Err(error) = logs::make(path) {
                god.log(&format!("the log {} cannot be opened: {error}", path.display()));
            }
        }
        if is_new {
            let generation = process.state.borrow().generation;
            god.context.link.make_pipe(key(process.id, generation), name);
        } else {
            god.logs.retarget((process.id, stream), sinks);
        }
    }
}

fn put(god: &God, name: String, descriptor: OwnedFd) {
    god.context
        .link
        .order(|id| Request::PutDescriptor { id, name, descriptor });
}

fn duplicate(descriptor: &OwnedFd) -> std::io::Result<OwnedFd> {
    descriptor.try_clone()
}

/// The channel on descriptor 3. Ours is also kept by the keeper, the child's only until it has been started.
fn open_channel(
    god: &Rc<God>,
    process: &Rc<Process>,
    generation: u64,
    spec: &mut SpawnSpec,
) -> std::io::Result<Channel> {
    let (ours, theirs) = channel::pair()?;
    put(god, kept_channel(process.id, generation), duplicate(&ours)?);
    let name = format!("{}-child", kept_channel(process.id, generation));
    put(god, name.clone(), theirs);
    spec.descriptors.push((3, name));
    serve_channel(god, process, generation, ours, false)
}

/// Listens to a child.
pub(super) fn serve_channel(
    god: &Rc<God>,
    process: &Rc<Process>,
    generation: u64,
    socket: OwnedFd,
    resumed: bool,
) -> std::io::Result<Channel> {
    let (god, of) = (Rc::downgrade(god), Rc::downgrade(process));
    Channel::open(socket, channel::Limits::PM2, resumed, move |heard| {
        if let (Some(god), Some(process)) = (god.upgrade(), of.upgrade()) {
            god.heard(&process, generation, heard);
        }
    })
}

/// Keeps a channel with its process; of a worker it is the app's primary that answers.
pub(super) fn hold(god: &Rc<God>, process: &Rc<Process>, channel: Channel) {
    let channel = Rc::new(channel);
    let (worker, name, key) = {
        let mut state = process.state.borrow_mut();
        state.channel = Some(Rc::clone(&channel));
        (
            state.is_cluster() && state.is_node(),
            state.name(),
            key(process.id, state.generation),
        )
    };
    if worker {
        let primary = cluster::primary(god, &name);
        // PM2's own primary binds for workers of other users too.
        primary.attach(&key, channel, BTreeMap::new(), Rights::default());
        process.state.borrow_mut().primary = Some(primary);
    }
}

/// Standard input: a socket that nobody closes, for `pm2 send` and `pm2 attach`.
fn stdin(god: &God, process: &Process, generation: u64, spec: &mut SpawnSpec) -> std::io::Result<OwnedFd> {
    let (ours, theirs) = channel::pair()?;
    put(god, kept_stdin(process.id, generation), duplicate(&ours)?);
    let name = format!("{}-child", kept_stdin(process.id, generation));
    put(god, name.clone(), theirs);
    spec.descriptors.push((0, name));
    Ok(ours)
}
