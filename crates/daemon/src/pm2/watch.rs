//! `watch`: a change of a file restarts every process of that name.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use notify::{EventKind, RecursiveMode, Watcher as _, event::ModifyKind};
use serde_json::Value;
use tokio::sync::mpsc;
use upkeep_pm2::record::{self, Record};

use super::{god::God, process::Process};
use crate::tasks::Task;

/// Changes that may wait to be looked at: what comes while many wait changes nothing about the restart to come.
const CHANGES: usize = 64;

/// Files that are watched, for as long as it lives.
pub(super) struct Watch {
    wanted: Wanted,
    _task: Task,
}

/// What a record says about watching.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    base: PathBuf,
    paths: Vec<PathBuf>,
    /// As the record has it; empty: dot files and `node_modules`.
    ignored: Vec<String>,
    delay_ms: u64,
}

/// Whether a record's `watch` is on.
pub(super) fn wanted(record: &Record) -> bool {
    match record.get("watch") {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(text)) => !text.is_empty() && text != "false",
        Some(Value::Array(paths)) => !paths.is_empty(),
        _ => false,
    }
}

fn read(record: &Record) -> Option<Wanted> {
    if !wanted(record) {
        return None;
    }
    let base = PathBuf::from(record::text(record, "pm_cwd")?);
    let given = match record.get("watch") {
        Some(Value::Array(_) | Value::String(_)) if record::flag(record, "watch").is_none() => {
            record::texts(record, "watch")
        }
        _ => Vec::new(),
    };
    let paths = if given.is_empty() {
        vec![base.clone()]
    } else {
        given.iter().map(|path| base.join(path)).collect()
    };
    Some(Wanted {
        paths,
        ignored: record::texts(record, "ignore_watch"),
        delay_ms: record::millis(record, "watch_delay").unwrap_or(0),
        base,
    })
}

/// Which paths do not count.
struct Ignored {
    /// By default: what has a component that begins with a dot, and `node_modules`.
    usual: bool,
    globs: GlobSet,
    folders: Vec<PathBuf>,
}

impl Ignored {
    fn new(wanted: &Wanted) -> Self {
        let mut globs = GlobSetBuilder::new();
        let mut folders = Vec::new();
        for pattern in &wanted.ignored {
            let whole = wanted.base.join(pattern);
            // A name without a pattern in it means the folder with all that is below.
            folders.push(whole.clone());
            for text in [pattern.as_str(), &whole.to_string_lossy()] {
                // A pattern that is none matches nothing, as with PM2.
                if let Ok(glob) = GlobBuilder::new(text).literal_separator(true).build() {
                    globs.add(glob);
                }
            }
        }
        Self {
            usual: wanted.ignored.is_empty(),
            globs: globs.build().unwrap_or_else(|_| GlobSet::empty()),
            folders,
        }
    }

    fn covers(&self, base: &Path, path: &Path) -> bool {
        let below = path.strip_prefix(base).unwrap_or(path);
        if self.usual {
            return below.components().any(|part| {
                let name = part.as_os_str().to_string_lossy();
                name == "node_modules" || (name.starts_with('.') && name.len() > 1)
            });
        }
        self.globs.is_match(below)
            || self.globs.is_match(path)
            || self.folders.iter().any(|folder| path.starts_with(folder))
    }
}

/// Starts, changes or ends the watching of a process, as its record says.
pub(super) fn arm(god: &Rc<God>, process: &Rc<Process>) {
    let wanted = read(&process.state.borrow().record);
    let same = process.state.borrow().watch.as_ref().map(|watch| &watch.wanted) == wanted.as_ref();
    if same {
        return;
    }
    let watch = wanted.and_then(|wanted| match start(god, process, &wanted) {
        Ok(task) => Some(Watch { wanted, _task: task }),
        Err(error) => {
            let name = process.state.borrow().name();
            god.log(&format!("app {name} cannot be watched: {error}"));
            None
        }
    });
    process.state.borrow_mut().watch = watch;
}

fn start(god: &Rc<God>, process: &Rc<Process>, wanted: &Wanted) -> notify::Result<Task> {
    let (sender, mut changes) = mpsc::channel::<PathBuf>(CHANGES);
    let ignored = Ignored::new(wanted);
    let base = wanted.base.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let counts = match event.kind {
            EventKind::Create(_) | EventKind::Remove(_) => true,
            EventKind::Modify(kind) => {
                matches!(kind, ModifyKind::Data(_) | ModifyKind::Name(_) | ModifyKind::Any)
            }
            _ => false,
        };
        if !counts {
            return;
        }
        for path in event.paths {
            if !ignored.covers(&base, &path) {
                // Full: a restart is coming anyway.
                let _ = sender.try_send(path);
            }
        }
    })?;
    for path in &wanted.paths {
        // What does not exist yet is not watched; the next start looks again.
        if path.exists() {
            watcher.watch(path, RecursiveMode::Recursive)?;
        }
    }
    let (god, of) = (Rc::downgrade(god), Rc::downgrade(process));
    let (base, delay) = (wanted.base.clone(), Duration::from_millis(wanted.delay_ms));
    Ok(Task::spawn("pm2 watch", async move {
        let _watcher = watcher;
        while let Some(path) = changes.recv().await {
            tokio::time::sleep(delay).await;
            let (Some(god), Some(process)) = (god.upgrade(), of.upgrade()) else {
                return;
            };
            let name = process.state.borrow().name();
            let shown = path.strip_prefix(&base).unwrap_or(&path);
            god.log(&format!(
                "Change detected on path {} for app {name} - restarting",
                shown.display()
            ));
            let up = process.state.borrow().is_up();
            if up {
                god.restart(&process).await;
                god.publish_process("restart", false, &process, None);
            }
            // What changed while it was being restarted is in the new process.
            while changes.try_recv().is_ok() {}
        }
    }))
}
