//! Why it died: a dossier of every abnormal exit.
//!
//! The event of an exit is durable and known once ([`crate::apps::exits`]); it is the seed. A thread of its own follows
//! the event log, and makes a dossier of each exit that nobody ordered and that is no success, and of each start that
//! failed: what is known of the exit, the last log lines, the figures of the last minutes, what was changed before,
//! where the core dump is, and what all that suggests ([`findings`]). Its id is that of the event. So a kill at any
//! instant loses nothing: the next daemon reads which event was looked at last ([`archive::Archive::cursor`]) and goes
//! on from there; making the same dossier twice makes the same file.
//!
//! There is a bound to everything: a dossier holds 200 lines, an app has the newest 20 dossiers and all apps together
//! 500, and an app that crashes again and again gets [`BURST`] at once and then one every [`PAUSE`]; the others are
//! counted in the next one. What ended its restarts always gets one.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::broadcast::error::RecvError;
use upkeep_api::{body::Event, crash::Crash};
use upkeep_model::{id::AppName, state::Actual};

use crate::{
    apps::{directory::Directory, exits},
    events::Events,
    logs::pump::Drainer,
    main_loop::note,
    metrics::Metrics,
};

pub(crate) mod archive;
mod core;
mod dossier;
mod findings;
mod lines;
pub(crate) mod machine;

use self::archive::Archive;

/// So many dossiers of an app at once.
const BURST: u32 = 5;
/// And then one in so long.
const PAUSE: Duration = Duration::from_secs(10);
/// How long the pump may take to write down what a process said last.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A crash that is told later than this is of the past: what the machine looks like now says nothing of it.
const RECENT_S: f64 = 8.0;
/// How many events are looked through for those that an earlier daemon has not looked at.
const MISSED_MAX: usize = 20_000;

/// What dossiers are made of.
pub(crate) struct Sources {
    pub(crate) events: Events,
    pub(crate) directory: Arc<Directory>,
    /// Where log files are.
    pub(crate) logs: PathBuf,
    pub(crate) archive: Archive,
    pub(crate) drainer: Drainer,
    /// Figures of the past.
    pub(crate) metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// Starts the thread. It ends with the process.
pub(crate) fn start(sources: Sources) -> std::io::Result<()> {
    let live = sources.events.subscribe();
    std::thread::Builder::new()
        .name("crashes".to_owned())
        .stack_size(512 << 10)
        .spawn(move || {
            Worker {
                sources,
                limits: HashMap::new(),
                seen: 0,
            }
            .run(live);
        })?;
    Ok(())
}

/// Whether an event tells of a crash.
pub(crate) fn is_crash(event: &Event) -> bool {
    match event.what.as_str() {
        "exited" => event
            .details
            .get(exits::ABNORMAL)
            .is_some_and(|value| value == true),
        "start_failed" => true,
        _ => false,
    }
}

/// The app and the instance of an event's target.
pub(crate) fn subject(target: &str) -> Option<(AppName, u32)> {
    let (app, index) = target.split_once(':')?;
    // A trial runs as instance 0 and writes to its logs.
    let index = if index == "trial" { 0 } else { index.parse().ok()? };
    Some((AppName::parse(app).ok()?, index))
}

/// How many dossiers an app may have now.
struct Limit {
    left: u32,
    since: Instant,
    skipped: u32,
}

struct Worker {
    sources: Sources,
    limits: HashMap<AppName, Limit>,
    /// The newest event that was looked at.
    seen: u64,
}

impl Worker {
    fn run(mut self, mut live: tokio::sync::broadcast::Receiver<Event>) {
        self.sources.archive.tidy(&self.sources.directory);
        self.seen = self.sources.archive.cursor();
        self.catch_up();
        loop {
            match live.blocking_recv() {
                Ok(event) => self.look(&event),
                Err(RecvError::Lagged(_)) => self.catch_up(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Looks at what the journal has and nobody has looked at.
    fn catch_up(&mut self) {
        match self.sources.events.tail(MISSED_MAX, self.seen, &is_crash) {
            Ok(events) => events.iter().for_each(|event| self.look(event)),
            Err(error) => note(&format!("crashes could not be read: {error}")),
        }
    }

    fn look(&mut self, event: &Event) {
        if event.id <= self.seen {
            return;
        }
        if event.what == "delete" {
            for app in event
                .target
                .split(' ')
                .filter_map(|name| AppName::parse(name).ok())
            {
                // It may have been made again meanwhile.
                if self.sources.directory.get(&app).is_none() {
                    self.sources.archive.forget(&app);
                    self.limits.remove(&app);
                }
            }
        }
        if !is_crash(event) {
            return;
        }
        self.seen = event.id;
        if let Some((app, index)) = subject(&event.target)
            && let Some(skipped) = self.admit(&app, event)
        {
            let crash = self.make(&app, index, event, skipped);
            if let Err(error) = self.sources.archive.keep(&crash) {
                note(&format!(
                    "the dossier of `{}` could not be kept: {error}",
                    event.target
                ));
            }
        }
        if let Err(error) = self.sources.archive.set_cursor(event.id) {
            note(&format!(
                "which crashes have a dossier could not be kept: {error}"
            ));
        }
    }

    /// Whether there is a dossier of this one, and how many before it had none.
    fn admit(&mut self, app: &AppName, event: &Event) -> Option<u32> {
        let now = Instant::now();
        let limit = self.limits.entry(app.clone()).or_insert(Limit {
            left: BURST,
            since: now,
            skipped: 0,
        });
        let more = now.duration_since(limit.since).as_secs() / PAUSE.as_secs();
        if more > 0 {
            limit.left = limit
                .left
                .saturating_add(u32::try_from(more).unwrap_or(BURST))
                .min(BURST);
            limit.since = now;
        }
        if limit.left == 0 && !is_last(event) {
            limit.skipped = limit.skipped.saturating_add(1);
            return None;
        }
        limit.left = limit.left.saturating_sub(1);
        Some(std::mem::take(&mut limit.skipped))
    }

    fn make(&mut self, app: &AppName, index: u32, event: &Event, skipped: u32) -> Crash {
        // What can only be known at once comes first.
        // Only what was killed in the last seconds tells anything of this one, and only if it is not older than that.
        let killed = machine::oom_kills()
            .zip(self.sources.metrics.kills_before())
            .filter(|_| crate::events::now() - event.at < RECENT_S)
            .map(|(now, before)| now.saturating_sub(before));
        let metrics = self
            .sources
            .metrics
            .of_span(app, index, event.at - dossier::FIGURES_S, event.at);
        self.sources.drainer.drain(LAST_WORDS);
        let facts = dossier::Facts {
            app,
            index,
            event,
            skipped,
            killed_on_machine: killed,
            metrics,
        };
        dossier::make(&self.sources, facts)
    }
}

/// It is not started again: the one crash that somebody will ask about.
pub(crate) fn is_last(event: &Event) -> bool {
    then(event).is_some_and(|then| matches!(then, Actual::GaveUp | Actual::Failed))
}

/// The state that a crash led to.
pub(crate) fn then(event: &Event) -> Option<Actual> {
    let word = match event.what.as_str() {
        "exited" => event.details.get(exits::THEN)?.clone(),
        _ => event.result.as_str().into(),
    };
    serde_json::from_value(word).ok()
}
