//! From an app's specification to what the keeper is asked to start.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use upkeep_api::body::Stream;
use upkeep_keeper::protocol::SpawnSpec;
use upkeep_model::{
    app::AppSpec,
    id::AppName,
    logs::{Compress, LogFormat},
    size::{ByteSize, Span},
};
use upkeep_supervise::rollout::TRIAL;

use super::door::DOOR;
use crate::{
    cage,
    logs::{batch::Form, files::Limits, ledger::Policy, pump::Target},
    supply::Variables,
};

/// One copy of an app: while an instance is being replaced, its index has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CopyId {
    /// Which instance; [`TRIAL`] for one that is only tried.
    pub(crate) index: u32,
    /// Tells the copies of one index apart; 0 for an app that was never replaced.
    pub(crate) generation: u32,
}

impl CopyId {
    /// Index of the instance whose logs it writes to.
    pub(crate) fn log_index(self) -> u32 {
        if self.index >= DOOR { 0 } else { self.index }
    }
}

impl std::fmt::Display for CopyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.index, self.generation) {
            (DOOR, _) => f.write_str("door"),
            (TRIAL, generation) => write!(f, "trial.{generation}"),
            (index, 0) => write!(f, "{index}"),
            (index, generation) => write!(f, "{index}.{generation}"),
        }
    }
}

/// Key of a copy in the keeper's table: `shop/0`, of a later generation `shop/0.3`. Names contain no slash.
pub(crate) fn key(app: &AppName, copy: CopyId) -> String {
    format!("{app}/{copy}")
}

/// The app and the copy of a key.
pub(crate) fn parse_key(key: &str) -> Option<(AppName, CopyId)> {
    let (app, copy) = key.rsplit_once('/')?;
    Some((AppName::parse(app).ok()?, parse_copy(copy)?))
}

/// A copy as it is written.
pub(crate) fn parse_copy(text: &str) -> Option<CopyId> {
    let (index, generation) = match text.split_once('.') {
        Some((index, generation)) => (index, generation.parse().ok()?),
        None => (text, 0),
    };
    let index = match index {
        "trial" => TRIAL,
        "door" => DOOR,
        index => index.parse().ok()?,
    };
    Some(CopyId { index, generation })
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

/// Where the pump puts a log, how much of it is kept, and in which form.
pub(crate) fn target(spec: &AppSpec, place: &LogPlace) -> Target {
    Target {
        path: (place.path != Path::new("/dev/null")).then(|| place.path.clone()),
        limits: Limits {
            max_size: spec.logs.max_size.as_bytes(),
            every: spec.logs.every,
        },
        policy: Policy {
            keep: spec.logs.keep,
            max_age_ms: spec.logs.max_age.map(Span::as_millis),
            max_total: spec.logs.max_total.map(ByteSize::as_bytes),
            group: spec.name.to_string(),
            compress: spec.logs.compress == Compress::Zstd,
        },
        form: (spec.logs.format != LogFormat::Raw).then(|| Form {
            format: spec.logs.format,
            app: spec.name.to_string(),
            index: place.index,
            stream: place.stream,
            host: host_name(),
        }),
        guarded: spec.user.is_some() && place.index.is_none(),
    }
}

/// The machine's name, as its kernel knows it.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Why an instance cannot even be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("failed to start `{command}`: {why}")]
    User { command: String, why: String },
    #[error("failed to start `{command}`: `{limit}` is no resource limit")]
    Limit { command: String, limit: String },
    #[error(transparent)]
    Cage(#[from] cage::CageError),
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

/// A socket that a copy is handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    /// For `LISTEN_FDNAMES`.
    pub(crate) name: String,
    /// Its name in the keeper's table.
    pub(crate) kept: String,
    /// Its TCP port, if it is one.
    pub(crate) port: Option<u16>,
}

/// What a copy is given that no other has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// Number of the instance on this machine.
    pub(crate) id: u32,
    /// Sockets, in the order of their descriptors.
    pub(crate) sockets: Vec<Handed>,
    /// The port that it shall bind by itself.
    pub(crate) port: Option<u16>,
    /// Variables that stand in the shared configuration.
    pub(crate) variables: Variables,
}

/// The first descriptor that is handed over (sd_listen_fds(3)).
const FIRST_SOCKET: u32 = 3;

/// What the keeper is asked to start.
pub(crate) fn spawn_spec(
    spec: &AppSpec,
    copy: CopyId,
    own: &Own,
    logs: &[LogPlace],
) -> Result<SpawnSpec, LaunchError> {
    let index = copy.log_index();
    let command = || spec.command.first().cloned().unwrap_or_default();
    let mut env: BTreeMap<String, String> = spec.inherited_env.clone();
    env.entry("PATH".to_owned())
        .or_insert_with(|| DEFAULT_PATH.to_owned());
    let mut launched = SpawnSpec {
        argv: spec
            .command
            .iter()
            .map(|word| filled(word, index, own).into())
            .collect(),
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
    env.insert("UPKEEP_ID".to_owned(), own.id.to_string());
    for value in env.values_mut() {
        *value = filled(value, index, own);
    }
    // As they are: what looks like a placeholder in them is none. What the app's own file says wins.
    for (name, value) in variables(spec, own) {
        env.insert(name.clone(), value.clone());
    }
    let first_port = || own.sockets.iter().find_map(|socket| socket.port);
    if let Some(port) = own.port {
        env.insert("PORT".to_owned(), port.to_string());
    } else if let Some(port) = first_port()
        && !spec.env.contains_key("PORT")
        && !own.variables.all.contains_key("PORT")
    {
        env.insert("PORT".to_owned(), port.to_string());
    }
    // An inherited one would be about somebody else's sockets.
    for name in ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"] {
        env.remove(name);
    }
    if !own.sockets.is_empty() {
        let names: Vec<&str> = own.sockets.iter().map(|socket| socket.name.as_str()).collect();
        env.insert("LISTEN_FDS".to_owned(), own.sockets.len().to_string());
        env.insert("LISTEN_FDNAMES".to_owned(), names.join(":"));
        env.insert("LISTEN_PID".to_owned(), upkeep_sys::spawn::OWN_PID.to_owned());
    }
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
        .chain((FIRST_SOCKET..).zip(own.sockets.iter().map(|socket| socket.kept.clone())))
        .collect();
    Ok(launched)
}

/// Variables of the shared configuration that an app's own file does not set.
fn variables<'a>(spec: &'a AppSpec, own: &'a Own) -> impl Iterator<Item = (&'a String, &'a String)> {
    let all = own.variables.all.iter();
    all.filter(|(name, _)| !spec.env.contains_key(*name))
}

/// The same with the limits and the cage of the app: for a process that does the app's work.
pub(crate) fn caged(spec: &AppSpec, mut launched: SpawnSpec) -> Result<SpawnSpec, LaunchError> {
    cage::dress(spec, &mut launched)?;
    Ok(launched)
}

/// A text with its placeholders filled in: `{instance}`, `{port}` where there is one, `{fd:0}` and `{fd:NAME}` where
/// sockets are handed over. What is no placeholder stays as it is, and so does `${instance}`, which is the shell's.
fn filled(text: &str, index: u32, own: &Own) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let value = from
            .split_once('}')
            .filter(|_| !before.ends_with('$'))
            .and_then(|(word, after)| Some((placeholder(word.strip_prefix('{')?, index, own)?, after)));
        if let Some((value, after)) = value {
            out.push_str(&value);
            rest = after;
        } else {
            out.push('{');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

fn placeholder(word: &str, index: u32, own: &Own) -> Option<String> {
    match word {
        "instance" => Some(index.to_string()),
        "port" => own
            .port
            .or_else(|| own.sockets.iter().find_map(|socket| socket.port))
            .map(|port| port.to_string()),
        _ => {
            let which = word.strip_prefix("fd:")?;
            let at = match which.parse::<usize>() {
                Ok(at) => Some(at).filter(|at| *at < own.sockets.len()),
                Err(_) => own.sockets.iter().position(|socket| socket.name == which),
            }?;
            Some((FIRST_SOCKET as usize + at).to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let app = AppName::parse("shop.eu").expect("a name");
        for (index, generation) in [(0, 0), (7, 0), (0, 12), (TRIAL, 3), (DOOR, 0)] {
            let copy = CopyId { index, generation };
            assert_eq!(parse_key(&key(&app, copy)), Some((app.clone(), copy)));
        }
        assert_eq!(parse_key("door:shop"), None);
        assert_eq!(parse_key("shop/x"), None);
    }

    #[test]
    fn placeholders_are_filled_and_the_rest_is_left() {
        let own = Own {
            id: 9,
            sockets: vec![Handed {
                name: "web".to_owned(),
                kept: String::new(),
                port: Some(3000),
            }],
            port: None,
            variables: Variables::default(),
        };
        for (text, wanted) in [
            ("--fd={fd:0} {fd:web}", "--fd=3 3"),
            ("{fd:1} {fd:other} {fd}", "{fd:1} {fd:other} {fd}"),
            ("{instance}:{port}", "2:3000"),
            ("${instance} {} {{instance}} {", "${instance} {} {2} {"),
            ("{\"a\": 1}", "{\"a\": 1}"),
        ] {
            assert_eq!(filled(text, 2, &own), wanted, "{text}");
        }
    }
}
