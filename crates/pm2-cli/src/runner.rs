//! Doing one thing to several processes, some of them at the same time.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Map, Value, json};
use upkeep_pm2::{client::Client, inspect};

use crate::context::{Context, Failure};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Restart,
    Reload,
    Stop,
    Delete,
}

impl Action {
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Restart => "restartProcessId",
            Self::Reload => "reloadProcessId",
            Self::Stop => "stopProcessId",
            Self::Delete => "deleteProcessId",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Stop => "stop",
            Self::Delete => "delete",
        }
    }

    /// Restart and reload take an environment along.
    fn takes_env(self) -> bool {
        matches!(self, Self::Restart | Self::Reload)
    }
}

/// An action on the processes of one target.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) action: Action,
    /// As the target was written; printed, unless there is none.
    pub(crate) target: Option<String>,
    /// Numbers; as text where the user wrote a number.
    pub(crate) ids: Vec<Value>,
    /// What restart and reload take along.
    pub(crate) env: Map<String, Value>,
    /// `--watch` on restart.
    pub(crate) toggle_watch: bool,
    /// Told to the daemon under the name as well, when done (files).
    pub(crate) by_name: bool,
}

/// How many at the same time.
pub(crate) fn concurrency(context: &Context, action: Action) -> usize {
    if action == Action::Delete {
        return 10;
    }
    let given = context.options.text("parallel").map(str::to_owned);
    given
        .or_else(|| std::env::var("PM2_CONCURRENT_ACTIONS").ok())
        .and_then(|text| text.parse().ok())
        .filter(|count| *count > 0)
        .unwrap_or(2)
}

/// Runs a function on each item, `limit` at the same time; begins nothing after a failure.
pub(crate) fn each<T: Sync>(
    items: &[T],
    limit: usize,
    run: &(dyn Fn(&T) -> Result<(), Failure> + Sync),
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let failed = || failure.lock().map_or(true, |failure| failure.is_some());
    let work = || {
        while !failed() {
            let Some(item) = items.get(next.fetch_add(1, Ordering::SeqCst)) else {
                return;
            };
            if let Err(error) = run(item)
                && let Ok(mut failure) = failure.lock()
            {
                failure.get_or_insert(error);
            }
        }
    };
    if limit <= 1 || items.len() <= 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..limit.min(items.len()) {
                scope.spawn(work);
            }
        });
    }
    match failure.into_inner() {
        Ok(Some(failure)) => Err(failure),
        _ => Ok(()),
    }
}

/// Does a job.
pub(crate) fn run(context: &Context, job: &Job) -> Result<(), Failure> {
    let method = job.action.method();
    if let Some(target) = &job.target {
        let ids = inspect::inspect(&json!(job.ids));
        context.say(format_args!(
            "Applying action {method} on app [{target}](ids: {ids})"
        ))?;
    }
    let limit = match job.action {
        Action::Delete => 10,
        _ if job.ids.len() <= 2 => 1,
        action => concurrency(context, action),
    };
    // Two ids are stopped at once, but restarted one after the other.
    let limit = if job.action == Action::Stop {
        limit.max(concurrency(context, job.action))
    } else {
        limit
    };
    each(&job.ids, limit, &|id| on_one(context, job, id))?;
    if let Some(target) = job.target.as_ref().filter(|_| job.by_name) {
        let notice = json!({"id": target, "action_name": method, "manually": true});
        // It is known by its ids; the name is told as the real one does it, and nobody minds.
        let _ = Client::connect(&context.home.rpc)?.call("notifyByProcessId", notice);
    }
    Ok(())
}

fn on_one(context: &Context, job: &Job, id: &Value) -> Result<(), Failure> {
    let method = job.action.method();
    let mut client = Client::connect(&context.home.rpc)?;
    let argument = if job.action.takes_env() {
        json!({"id": id, "env": job.env})
    } else {
        id.clone()
    };
    if job.toggle_watch {
        client.call_with("toggleWatch", vec![json!(method), argument.clone()])?;
    }
    if !job.action.takes_env() {
        client.call_with("stopWatch", vec![json!(method), argument.clone()])?;
    }
    let answer = client.call(method, argument)?;
    let record = match &answer {
        Value::Array(list) => list.first(),
        other => Some(other),
    };
    let field = |key: &str| {
        let record = record?;
        record
            .get("pm2_env")
            .and_then(|env| env.get(key))
            .or_else(|| record.get(key))
    };
    let name = field("name").map(upkeep_pm2::prepare::as_text);
    let shown = upkeep_pm2::prepare::as_text(id);
    let name = name.unwrap_or_default();
    context.say(format_args!("[{name}]({shown}) \u{2713}"))?;
    if job.action == Action::Stop
        && let Some(Value::String(pattern)) = field("cron_restart")
    {
        context.warn(format_args!(
            "App {name} stopped but CRON RESTART is still UP {pattern}"
        ))?;
    }
    let notice = json!({"id": id, "action_name": job.action.word(), "manually": true});
    // What is deleted cannot be told of any more, and says so.
    let _ = client.call("notifyByProcessId", notice);
    Ok(())
}

/// Which processes a word means, as the daemon was asked about.
pub(crate) fn find(context: &mut Context, word: &str) -> Result<Vec<Value>, Failure> {
    let path = crate::runner::script_path(&context.cwd, word);
    let list = context.processes()?;
    let by_name = ids(&list, |process| {
        env_text(process, "name") == Some(word) || env_text(process, "pm_exec_path") == Some(path.as_str())
    });
    if !by_name.is_empty() {
        return Ok(by_name);
    }
    let list = context.processes()?;
    let by_namespace = ids(&list, |process| env_text(process, "namespace") == Some(word));
    if !by_namespace.is_empty() {
        return Ok(by_namespace);
    }
    let is_number = word.parse::<f64>().is_ok_and(f64::is_finite);
    if is_number {
        return Ok(vec![json!(word)]);
    }
    Err(Failure::new(format!("Process or Namespace {word} not found")))
}

/// The path that a script's name means here.
pub(crate) fn script_path(cwd: &Path, word: &str) -> String {
    upkeep_pm2::prepare::resolve_path(cwd, word).display().to_string()
}

/// A text of a process's record.
pub(crate) fn env_text<'a>(process: &'a Value, key: &str) -> Option<&'a str> {
    process.get("pm2_env")?.get(key)?.as_str()
}

/// Is it a module?
pub(crate) fn is_module(process: &Value) -> bool {
    process.get("pm2_env").and_then(|env| env.get("pmx_module")) == Some(&json!(true))
}

/// The ids of those that fit.
pub(crate) fn ids(list: &[Value], fits: impl Fn(&Value) -> bool) -> Vec<Value> {
    list.iter()
        .filter(|process| fits(process))
        .filter_map(|process| process.get("pm_id").cloned())
        .collect()
}
