//! From what was written to what holds: every default filled in, every path absolute.
//!
//! Paths: `cwd`, `env_file` and templates are relative to the directory of the file; `script`, `logs.out`, `logs.err`
//! and files that are made to `cwd`. The environment of an app is, from weak to strong: what the caller had (without what belongs to a terminal
//! session, see [`env`]), the values of `config` (which the daemon reads), what its interpreter wants (Python's output without buffering), `env_file`s in their order,
//! `env`, and in PM2's files `env_NAME`.
//!
//! Nothing is asked of the machine but through [`Facts`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Component, Path, PathBuf},
};

use super::{At, Fault, FileError, Position, Style, Written, v1};
use crate::{
    app::AppSpec,
    id::AppName,
    listen::Mode,
    logs::{LogSink, LogSpec},
};

mod check;
mod command;
mod command_line;
pub mod env;
mod listen;
mod policy;
mod probe;
mod rollout;
mod supply;

pub use self::command_line::{CommandLine, from_command_line};

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file that may be executed.
    Executable,
    /// A file that may not, and looks like text.
    Text,
    /// A file that may not, and does not look like text.
    Binary,
}

/// What has to be known of the machine and of the caller.
pub struct Facts<'a> {
    /// Directory of the file, absolute; for a command line the caller's directory.
    pub file_dir: PathBuf,
    /// How many CPUs `max` means.
    pub cpus: u32,
    /// The caller's environment.
    pub caller_env: BTreeMap<String, String>,
    /// `--env NAME`: which `env_NAME` of PM2's files holds.
    pub env_name: Option<String>,
    /// Apps that exist already and may be depended upon.
    pub known_apps: BTreeSet<AppName>,
    /// Reads a file.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Whether a program of that name is found on the `PATH`.
    pub find_program: &'a dyn Fn(&str) -> bool,
    /// What a path leads to; nothing if there is nothing, or a directory.
    pub file_kind: &'a dyn Fn(&Path) -> Option<FileKind>,
}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("file_dir", &self.file_dir)
            .field("cpus", &self.cpus)
            .finish_non_exhaustive()
    }
}

/// What holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// The apps, in the order of the file.
    pub apps: Vec<AppSpec>,
    /// What was understood but is not honoured, or was changed.
    pub warnings: Vec<String>,
}

/// A name that none of the apps has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchApp {
    /// The name.
    pub name: String,
    /// Which names there are.
    pub hint: String,
}

impl Resolved {
    /// Leaves out all but the named apps; no name: all stay.
    pub fn keep(&mut self, names: &[String]) -> Result<(), NoSuchApp> {
        let is_there = |name: &String| self.apps.iter().any(|app| app.name.as_str() == name);
        if let Some(name) = names.iter().find(|name| !is_there(name)) {
            let there: Vec<&str> = self.apps.iter().map(|app| app.name.as_str()).collect();
            return Err(NoSuchApp {
                name: name.clone(),
                hint: format!("it has {}", there.join(", ")),
            });
        }
        if !names.is_empty() {
            self.apps
                .retain(|app| names.iter().any(|name| app.name.as_str() == name));
        }
        Ok(())
    }
}

/// Fills in every default.
pub fn resolve(written: Written, facts: &Facts<'_>) -> Result<Resolved, FileError> {
    let path = written.path.clone();
    let mut resolved = Resolved {
        apps: Vec::with_capacity(written.apps.len()),
        warnings: written.warnings,
    };
    let mut places = Vec::new();
    for app in written.apps {
        let context = Context {
            facts,
            style: written.style,
            path: &path,
        };
        let depends_on = app.value.depends_on.clone().unwrap_or_default();
        let place = app
            .value
            .name
            .as_ref()
            .and_then(|name| name.position)
            .or(app.position);
        let spec = context.app(app, &mut resolved.warnings)?;
        places.push(check::Place {
            name: place,
            depends_on,
        });
        resolved.apps.push(spec);
    }
    check::names_and_dependencies(&resolved.apps, &places, &facts.known_apps)
        .map_err(|fault| fault.in_file(&path))?;
    Ok(resolved)
}

struct Context<'a> {
    facts: &'a Facts<'a>,
    style: Style,
    path: &'a str,
}

impl Context<'_> {
    fn app(&self, app: At<v1::App>, warnings: &mut Vec<String>) -> Result<AppSpec, FileError> {
        let position = app.position;
        let mut app = app.value;
        let here = |fault: Fault| fault.in_file(self.path);
        let cwd = join(&self.facts.file_dir, app.cwd.as_deref().unwrap_or("."));
        let command = command::resolve(&app, &cwd, self, position).map_err(here)?;
        let name = self
            .name(&app, &command.default_name, position, warnings)
            .map_err(here)?;
        if let Some(extra) = self.facts.env_name.as_ref().filter(|_| self.style == Style::Pm2) {
            match app.pm2.env_by_name.remove(extra) {
                Some(env) => app.env.get_or_insert_default().extend(env),
                None => warnings.push(format!("app `{name}`: there is no `env_{extra}`")),
            }
        }
        let env = env::resolve(&app, self, &command)?;
        let at = |fault: Fault| {
            Fault {
                position: fault.position.or(position),
                ..fault
            }
            .in_file(self.path)
        };
        let namespace = app
            .namespace
            .map_or_else(|| "default".to_owned(), |namespace| namespace.value);
        AppName::parse(&namespace)
            .map_err(|error| at(Fault::new(None, format!("app `{name}`: as `namespace`: {error}"))))?;
        let logs = app.logs.unwrap_or_default();
        let defaults = LogSpec::default();
        if let Some(total) = logs.max_total
            && let size = logs.max_size.unwrap_or(defaults.max_size)
            && total < size
        {
            let why = format!(
                "`logs.max_total` ({total}) is less than one file may have (`logs.max_size`: {size})"
            );
            return Err(at(Fault::new(None, why)
                .hint("lower `max_size` as well: what is being written is never deleted")
                .of_app(&name)));
        }
        let also = logs.also.unwrap_or_default();
        if let Some(why) = sinks_trouble(&also, logs.disabled == Some(true)) {
            return Err(at(Fault::new(None, why).of_app(&name)));
        }
        let listen = listen::list("listen", app.listen, &cwd).map_err(|fault| at(fault.of_app(&name)))?;
        let door = listen::door(app.door, &cwd).map_err(|fault| at(fault.of_app(&name)))?;
        if door.is_some() && !listen.is_empty() {
            return Err(at(Fault::new(None, "`door` and `listen` exclude each other")
                .hint("`listen` hands sockets to the program itself; `door` is for programs that cannot take them")
                .of_app(&name)));
        }
        let port = app.port.map(|port| port.value);
        let ports = probe::Ports {
            env: &env,
            listen: listen.iter().find_map(|listen| listen.on.tcp_port()),
            own: port.is_some() || door.is_some(),
        };
        let probe =
            |key, written| probe::resolve(key, written, &ports).map_err(|fault| at(fault.of_app(&name)));
        let (readiness, liveness, startup) = (
            // Behind a front door a copy gets no work before it accepts connections.
            probe("readiness", app.readiness)?.or_else(|| door.is_some().then(probe::accepts)),
            probe("liveness", app.liveness)?,
            probe("startup", app.startup)?,
        );
        let instances = self.instances(app.instances.as_ref().map(|instances| instances.value));
        let schedule = rollout::schedule(app.schedule, instances).map_err(|fault| at(fault.of_app(&name)))?;
        let restart =
            policy::restart(app.restart, schedule.is_some()).map_err(|fault| at(fault.of_app(&name)))?;
        let config = supply::config(app.config).map_err(|fault| at(fault.of_app(&name)))?;
        let files = supply::files(app.files, self.facts, &cwd, config.as_ref())
            .map_err(|fault| at(fault.of_app(&name)))?;
        let on_change =
            supply::on_change(app.on_change, config.as_ref()).map_err(|fault| at(fault.of_app(&name)))?;
        let spec = AppSpec {
            namespace,
            instances,
            instance_var: app.instance_var.unwrap_or_else(|| "NODE_APP_INSTANCE".to_owned()),
            depends_on: app
                .depends_on
                .unwrap_or_default()
                .0
                .into_iter()
                .map(|(on, condition)| (on.value, condition))
                .collect(),
            restart,
            stop: policy::stop(app.stop).map_err(|fault| at(fault.of_app(&name)))?,
            mode: app.mode.unwrap_or_else(|| {
                // PM2 makes a cluster of a Node script as soon as a number of copies is given.
                let node =
                    self.style == Style::Pm2 && command.words.first().is_some_and(|word| word == "node");
                if node && app.instances.is_some() {
                    Mode::Cluster
                } else {
                    Mode::Fork
                }
            }),
            balance: app.balance.unwrap_or_default(),
            drain_preload: app.drain_preload.unwrap_or(true),
            listen,
            port,
            door,
            readiness,
            liveness,
            startup,
            rollout: rollout::rollout(app.rollout).map_err(|fault| at(fault.of_app(&name)))?,
            check: app
                .check
                .map(|check| {
                    probe::words("check", check.value).map_err(|message| Fault::new(check.position, message))
                })
                .transpose()
                .map_err(|fault| at(fault.of_app(&name)))?,
            limits: rollout::limits(app.limits).map_err(|fault| at(fault.of_app(&name)))?,
            sandbox: rollout::sandbox(app.sandbox, &cwd).map_err(|fault| at(fault.of_app(&name)))?,
            schedule,
            config,
            files,
            on_change,
            user: who("user", app.user).map_err(|fault| at(fault.of_app(&name)))?,
            group: who("group", app.group).map_err(|fault| at(fault.of_app(&name)))?,
            umask: app.umask.map(|umask| umask.0),
            rlimits: policy::rlimits(app.rlimits).map_err(|fault| at(fault.of_app(&name)))?,
            no_new_privs: app.no_new_privs.unwrap_or(false),
            autostart: app.autostart.unwrap_or(true),
            logs: LogSpec {
                out: logs.out.map(|path| join(&cwd, &path)),
                err: logs.err.map(|path| join(&cwd, &path)),
                max_size: logs.max_size.unwrap_or(defaults.max_size),
                every: logs.every,
                keep: logs.keep.unwrap_or(defaults.keep),
                max_age: logs.max_age,
                max_total: logs.max_total,
                compress: logs.compress.unwrap_or(defaults.compress),
                format: logs.format.unwrap_or(defaults.format),
                also,
                disabled: logs.disabled.unwrap_or(defaults.disabled),
            },
            inherited_env: env::inherited(&self.facts.caller_env),
            command: command.words,
            env,
            cwd,
            name,
        };
        rollout::inside(&spec).map_err(|fault| at(fault.of_app(&spec.name)))?;
        Ok(spec)
    }

    /// The name given, or the script's. PM2 allows any text: what we cannot use is replaced, with a warning.
    fn name(
        &self,
        app: &v1::App,
        default: &str,
        position: Option<Position>,
        warnings: &mut Vec<String>,
    ) -> Result<AppName, Fault> {
        let at = app.name.as_ref().and_then(|name| name.position).or(position);
        let mut text = app
            .name
            .as_ref()
            .map_or_else(|| default.to_owned(), |name| name.value.clone());
        if self.style == Style::Pm2 {
            if let Some(prefix) = &app.pm2.name_prefix {
                text = format!("{prefix}-{text}");
            }
            if let Some(name) = self
                .facts
                .env_name
                .as_ref()
                .filter(|_| app.pm2.append_env_to_name)
            {
                text = format!("{text}-{name}");
            }
        }
        match AppName::parse(&text) {
            Ok(name) => Ok(name),
            Err(error) if self.style == Style::Pm2 => {
                let name = AppName::parse(&tamed(&text)).map_err(|_| Fault::new(at, error.to_string()))?;
                warnings.push(format!(
                    "app `{}` is called `{name}` here: {}",
                    text.escape_debug(),
                    error.why
                ));
                Ok(name)
            }
            Err(error) if app.name.is_none() => {
                Err(Fault::new(at, error.to_string()).hint("it was taken from the command; give it a `name`"))
            }
            Err(error) => Err(Fault::new(at, error.to_string())),
        }
    }

    fn instances(&self, written: Option<v1::Instances>) -> u32 {
        let cpus = self.facts.cpus.max(1);
        match written {
            None => 1,
            Some(v1::Instances::Count(count)) => count,
            Some(v1::Instances::Max) => cpus,
            Some(v1::Instances::MaxLess(less)) => cpus.saturating_sub(less).max(1),
        }
    }
}

impl Fault {
    fn of_app(self, name: &AppName) -> Self {
        Self {
            message: format!("app `{name}`: {}", self.message),
            ..self
        }
    }
}

/// A name from one that PM2 allows.
fn tamed(text: &str) -> String {
    let tamed: String = text
        .chars()
        .map(|character| {
            let plain = character.is_alphanumeric() || "_-.@+".contains(character);
            if plain { character } else { '-' }
        })
        .take(80)
        .collect();
    let tamed = tamed.trim_start_matches(['-', '.']);
    if tamed == "all" || tamed.is_empty() || tamed.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("app-{tamed}")
    } else {
        tamed.to_owned()
    }
}

fn who(what: &str, written: Option<At<String>>) -> Result<Option<String>, Fault> {
    match written {
        Some(who) if who.value.trim().is_empty() => {
            Err(Fault::new(who.position, format!("`{what}` is empty")))
        }
        Some(who) if who.value.contains([':', '/', '\0', ' ', '\n']) => Err(Fault::new(
            who.position,
            format!("`{}` cannot be a {what}", who.value.escape_debug()),
        )
        .hint("user and group are given apart, by name or number")),
        other => Ok(other.map(|who| who.value)),
    }
}

/// `base/path` without `.` and `..`, as far as the text tells.
fn join(base: &Path, path: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(component),
        }
    }
    out
}
/// How many places output may go to besides its files.
const SINKS_MAX: usize = 8;

/// What is wrong with the places that output goes to besides its files.
fn sinks_trouble(also: &[LogSink], disabled: bool) -> Option<String> {
    let double = also
        .iter()
        .enumerate()
        .find(|(at, sink)| also[..*at].contains(sink));
    if disabled && !also.is_empty() {
        Some("`logs.also` needs the files that `logs.disabled` switches off".to_owned())
    } else if let Some((_, sink)) = double {
        Some(format!("`logs.also` names `{sink}` twice"))
    } else if also.len() > SINKS_MAX {
        Some(format!(
            "`logs.also` has {} places; it can have {SINKS_MAX}",
            also.len()
        ))
    } else {
        None
    }
}
