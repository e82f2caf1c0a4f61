//! From an app's specification to what the keeper is asked to start.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use upkeep_api::body::Stream;
use upkeep_keeper::protocol::SpawnSpec;
use upkeep_model::{app::AppSpec, id::AppName};

use crate::logs::pump::Target;

/// Key of an instance in the keeper's table: `shop/0`. Names contain no slash.
pub(crate) fn key(app: &AppName, index: u32) -> String {
    format!("{app}/{index}")
}

/// The app and the index of a key.
pub(crate) fn parse_key(key: &str) -> Option<(AppName, u32)> {
    let (app, index) = key.rsplit_once('/')?;
    Some((AppName::parse(app).ok()?, index.parse().ok()?))
}

/// The log of one stream of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogPlace {
    pub(crate) stream: Stream,
    /// Absent where all instances share it.
    pub(crate) index: Option<u32>,
    /// Name of its pipe in the keeper's table and in the pump.
    pub(crate) pipe: String,
    pub(crate) path: PathBuf,
}

/// The two logs of an instance; none if logs are switched off.
pub(crate) fn log_places(spec: &AppSpec, index: u32, logs: &Path) -> Vec<LogPlace> {
    if spec.logs.disabled {
        return Vec::new();
    }
    [
        (Stream::Out, &spec.logs.out, "out"),
        (Stream::Err, &spec.logs.err, "err"),
    ]
    .into_iter()
    .map(|(stream, given, word)| match given {
        Some(path) => LogPlace {
            stream,
            index: None,
            // Both streams into one file: one pipe, so that it has one writer.
            pipe: if spec.logs.out == spec.logs.err {
                format!("log:{}:out", spec.name)
            } else {
                format!("log:{}:{word}", spec.name)
            },
            path: path.clone(),
        },
        None => LogPlace {
            stream,
            index: Some(index),
            pipe: format!("log:{}/{index}:{word}", spec.name),
            path: logs.join(format!("{}-{index}.{word}.log", spec.name)),
        },
    })
    .collect()
}

/// Where the pump puts a log.
pub(crate) fn target(spec: &AppSpec, place: &LogPlace) -> Target {
    Target {
        path: (place.path != Path::new("/dev/null")).then(|| place.path.clone()),
        max_size: spec.logs.max_size.as_bytes(),
        keep: spec.logs.keep,
        guarded: spec.user.is_some() && place.index.is_none(),
    }
}

/// Why an instance cannot even be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("failed to start `{command}`: {why}")]
    User { command: String, why: String },
    #[error("failed to start `{command}`: `{limit}` is no resource limit")]
    Limit { command: String, limit: String },
}

/// The `PATH` of an app that was given none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `RLIMIT_*` numbers of Linux on x86-64 and aarch64 (getrlimit(2)).
const RESOURCES: [(&str, u32); 16] = [
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("as", 9),
    ("locks", 10),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

/// What the keeper is asked to start.
pub(crate) fn spawn_spec(
    spec: &AppSpec,
    index: u32,
    id: u32,
    logs: &[LogPlace],
) -> Result<SpawnSpec, LaunchError> {
    let command = || spec.command.first().cloned().unwrap_or_default();
    let mut env: BTreeMap<String, String> = spec.inherited_env.clone();
    env.entry("PATH".to_owned())
        .or_insert_with(|| DEFAULT_PATH.to_owned());
    let mut launched = SpawnSpec {
        argv: spec.command.iter().map(OsString::from).collect(),
        cwd: spec.cwd.clone(),
        umask: spec.umask,
        cgroup: true,
        no_new_privs: spec.no_new_privs,
        ..SpawnSpec::default()
    };
    if spec.user.is_some() || spec.group.is_some() {
        let fail = |why: String| LaunchError::User {
            command: command(),
            why,
        };
        if let Some(name) = &spec.user {
            let user = upkeep_sys::user::user(name).map_err(|error| fail(error.to_string()))?;
            launched.uid = Some(user.uid);
            launched.gid = Some(user.gid);
            launched.groups = Some(upkeep_sys::user::groups_of(&user));
            env.insert("HOME".to_owned(), user.home);
            env.insert("USER".to_owned(), user.name.clone());
            env.insert("LOGNAME".to_owned(), user.name);
        }
        if let Some(name) = &spec.group {
            launched.gid = Some(upkeep_sys::user::group(name).map_err(|error| fail(error.to_string()))?);
        }
    }
    for (name, limit) in &spec.rlimits {
        let number = RESOURCES
            .iter()
            .find_map(|(known, number)| (known == name).then_some(*number))
            .ok_or_else(|| LaunchError::Limit {
                command: command(),
                limit: name.clone(),
            })?;
        launched.rlimits.push((
            number,
            limit.soft.unwrap_or(u64::MAX),
            limit.hard.unwrap_or(u64::MAX),
        ));
    }
    env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let number = index.to_string();
    env.insert("UPKEEP_APP".to_owned(), spec.name.to_string());
    env.insert("UPKEEP_INSTANCE".to_owned(), number.clone());
    env.insert("UPKEEP_ID".to_owned(), id.to_string());
    env.entry("NODE_APP_INSTANCE".to_owned())
        .or_insert_with(|| number.clone());
    env.insert(spec.instance_var.clone(), number);
    launched.env = env
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    launched.descriptors = logs
        .iter()
        .map(|place| {
            (
                if place.stream == Stream::Out { 1 } else { 2 },
                place.pipe.clone(),
            )
        })
        .collect();
    Ok(launched)
}
