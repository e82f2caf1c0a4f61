//! Sinks: what an app wants of its output elsewhere as well (`logs: {also: […]}`).
//!
//! The files are the truth, and a sink is one more reader of them: so nothing here can hold up an app, and whatever a
//! sink has not taken waits on disk. One thread serves all. Every [`STEP`] it looks whether a log has grown, reads
//! what is new ([`more`]), hands it line by line to the [`Outlet`]s, and moves its place behind each line that was
//! taken. Places are written down every [`SAVE`] and at the end ([`cursor`]); a daemon that is killed sends again what
//! it sent since, and leaves nothing out.
//!
//! A sink that does not take a line is left alone, longer and longer up to [`PAUSE_MAX`]; after [`DEAD`] that is
//! said, once, by an event (`log_trouble`), and by another when it works again (`log_recovered`). What retention
//! deletes meanwhile is counted. A journal or syslog that is there but slow takes at most [`TURN`] of the thread's time
//! before the others have theirs.
//!
//! A sink that is new begins with what is written from then on. What has left to UDP or into a TCP connection
//! that then breaks is gone: those protocols confirm nothing.
//!
//! The same thread tells of logs that the pump cannot write ([`watch`]).

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use upkeep_api::body::{LogLine, LogSinkView, Stream};
use upkeep_model::{id::AppName, logs::LogSink};
use upkeep_sys::clock;

use self::{
    feed::{Feed, logs_of},
    outlet::Outlet,
    watch::Watch,
};
use super::{
    beside,
    ledger::lock,
    pump::Statuses,
    read::{LogToRead, more::more},
};
use crate::{apps::directory::Directory, events::Events, main_loop::note};

pub(crate) mod cursor;
pub(crate) mod feed;
mod journald;
mod outlet;
mod stdout;
mod syslog;
mod watch;

/// How often the files are looked at.
const STEP: Duration = Duration::from_millis(250);
/// How often places are written down.
const SAVE: Duration = Duration::from_secs(1);
/// How long one app's sink may be served before the others are.
const TURN: Duration = Duration::from_millis(200);
/// How long a receiver may take for a line, or to be connected.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pauses of a sink that does not work.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How long it may not work until that is told.
const DEAD: Duration = Duration::from_secs(5);
/// How far a sink goes back that was there before this daemon and has no place: its daemon was killed in the very
/// moment it came.
const BACK: Duration = Duration::from_mins(1);
/// How long a log is read that the app has no more.
const LEFT: Duration = Duration::from_secs(5);
/// How long the last lines may take when the daemon ends.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How much longer than that the end of the thread is waited for: a lookup of a name may hang.
const END_WITHIN: Duration = Duration::from_secs(2);

/// What the thread is told: to go on, to end at once, to end when all is sent.
const GO_ON: u8 = 0;
const END: u8 = 1;
const END_SENT: u8 = 2;

/// What sinks have to tell, by app.
pub(crate) type Views = Arc<Mutex<HashMap<AppName, Vec<LogSinkView>>>>;

/// What the thread needs.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) directory: Arc<Directory>,
    pub(crate) events: Events,
    pub(crate) statuses: Statuses,
    /// Where logs are.
    pub(crate) logs: PathBuf,
    /// Where places are written down.
    pub(crate) folder: PathBuf,
    /// Whose standard output is meant by `stdout`.
    pub(crate) keeper: u32,
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Sinks {
    views: Views,
    ends: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
    /// Closed when the thread has ended.
    ended: mpsc::Receiver<()>,
}

impl Sinks {
    pub(crate) fn start(sources: Sources) -> std::io::Result<Self> {
        let views = Views::default();
        let ends = Arc::new(AtomicU8::new(GO_ON));
        let mut worker = Worker {
            watch: Watch::new(sources.events.clone(), Arc::clone(&sources.statuses)),
            sources,
            views: Arc::clone(&views),
            ends: Arc::clone(&ends),
            feeds: BTreeMap::new(),
            outlets: BTreeMap::new(),
            looked_ms: clock::unix_ms().saturating_sub(u64::try_from(BACK.as_millis()).unwrap_or(0)),
        };
        let (ending, ended) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("log-sinks".to_owned())
            .stack_size(512 << 10)
            .spawn(move || {
                let _ends_with_it = ending;
                worker.run();
            })?;
        Ok(Self {
            views,
            ends,
            ended,
            thread: Some(thread),
        })
    }

    pub(crate) fn views(&self) -> Views {
        Arc::clone(&self.views)
    }

    /// Hands on what is in the files now if wanted, writes down how far everything is, and ends.
    pub(crate) fn stop(mut self, last_lines: bool) {
        let ends = if last_lines { END_SENT } else { END };
        self.ends.store(ends, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let patience = END_WITHIN + if last_lines { LAST_LINES } else { Duration::ZERO };
            // Without an answer it hangs: it ends with the process, and what it sent last comes again.
            let _ = self.ended.recv_timeout(patience);
        }
    }
}

type Key = (AppName, LogSink);

struct Worker {
    sources: Sources,
    watch: Watch,
    views: Views,
    ends: Arc<AtomicU8>,
    feeds: BTreeMap<Key, Feed>,
    outlets: BTreeMap<LogSink, Outlet>,
    /// When the apps were looked at last: a sink that was not there then is new since.
    looked_ms: u64,
}

impl Worker {
    fn run(&mut self) {
        let mut saved = Instant::now();
        loop {
            let ends = self.ends.load(Ordering::Acquire);
            let mut busy = false;
            if ends != END {
                self.look();
                let began = Instant::now();
                busy = self.serve();
                while ends == END_SENT && busy && began.elapsed() < LAST_LINES {
                    busy = self.serve();
                }
            }
            if ends != GO_ON || saved.elapsed() >= SAVE {
                self.save();
                self.watch.look();
                saved = Instant::now();
            }
            if ends != GO_ON {
                return;
            }
            if !busy {
                std::thread::park_timeout(STEP);
            }
        }
    }

    /// Which apps want what.
    fn look(&mut self) {
        let now = clock::unix_ms();
        let mut wanted: BTreeMap<Key, Vec<LogToRead>> = BTreeMap::new();
        for entry in self.sources.directory.read().values() {
            let spec = &entry.record.spec;
            for sink in &spec.logs.also {
                wanted.insert(
                    (spec.name.clone(), sink.clone()),
                    logs_of(spec, &self.sources.logs),
                );
            }
        }
        for (key, feed) in &mut self.feeds {
            if !wanted.contains_key(key) {
                feed.ends = true;
            }
        }
        for (key, logs) in wanted {
            let (folder, since) = (&self.sources.folder, self.looked_ms);
            let feed = self.feeds.entry(key).or_insert_with_key(|(app, sink)| {
                Feed::of(cursor::load(folder, app).remove(&sink.to_string()), since)
            });
            feed.ends = false;
            feed.follow(logs);
        }
        self.looked_ms = now;
    }

    /// Hands on what is new; whether there is more.
    fn serve(&mut self) -> bool {
        let (mut busy, mut over) = (false, Vec::new());
        for (key, feed) in &mut self.feeds {
            let outlet = self
                .outlets
                .entry(key.1.clone())
                .or_insert_with(|| Outlet::new(key.1.clone(), self.sources.keeper));
            let (logs, sizes): (Vec<_>, Vec<_>) = feed.grown().into_iter().unzip();
            feed.count_missed(&logs);
            let waits = feed.retry_at.is_some_and(|at| Instant::now() < at);
            if logs.is_empty() {
                feed.read_all(std::iter::empty());
            } else if !waits && outlet.ready() {
                let turn = Instant::now();
                let (mut sent, mut damaged, mut late) = (0, 0, false);
                let mut take = |line: &LogLine| {
                    if line.notice {
                        // Told once: the place moves behind what cannot be read.
                        note(&format!("for `{}` of `{}`: {}", key.1, key.0, line.line));
                        damaged += 1;
                        return true;
                    }
                    late = turn.elapsed() >= TURN;
                    let taken = !late && outlet.send(line);
                    sent += u64::from(taken);
                    taken
                };
                let done = more(&logs, &mut feed.marks, &mut take).unwrap_or_else(|error| {
                    let passing = beside::is_passing(&error);
                    if passing {
                        feed.retry_at = Some(Instant::now() + PAUSE_MAX);
                    }
                    let text = format!(
                        "the logs of `{}` could not be read for `{}`: {error}",
                        key.0, key.1
                    );
                    if feed.trouble.as_ref() != Some(&text) {
                        note(&text);
                        feed.trouble = Some(text);
                    }
                    // Else tried again when it grows.
                    !passing
                });
                feed.sent += sent;
                // At least one line in each; how many, nobody can tell.
                feed.missed += damaged;
                feed.unsaved |= sent + damaged > 0;
                busy |= late;
                if done {
                    feed.read_all(logs.into_iter().map(|log| log.path).zip(sizes));
                }
            }
            if feed.ends && (feed.grown().is_empty() || outlet.is_dead()) {
                over.push(key.clone());
            }
        }
        for key in over {
            self.feeds.remove(&key);
            self.forget(&key.0);
        }
        let feeds = &self.feeds;
        self.outlets
            .retain(|sink, _| feeds.keys().any(|(_, wanted)| wanted == sink));
        for (sink, outlet) in &mut self.outlets {
            let apps = feeds.keys().filter(|key| key.1 == *sink).map(|key| &key.0);
            outlet.tell(apps, &mut self.watch);
        }
        busy
    }

    /// Writes down what is left of an app that wants less than before.
    fn forget(&mut self, app: &AppName) {
        lock(&self.views).remove(app);
        let failed = if self.feeds.keys().any(|key| key.0 == *app) {
            self.save_app(app)
        } else {
            cursor::remove(&self.sources.folder, app)
        };
        if let Err(error) = failed {
            note(&format!(
                "the place in the logs of `{app}` could not be forgotten: {error}"
            ));
        }
    }

    fn save_app(&self, app: &AppName) -> std::io::Result<()> {
        let feeds = self.feeds.iter().filter(|(key, _)| key.0 == *app);
        let sinks = feeds
            .map(|(key, feed)| (key.1.to_string(), feed.saved()))
            .collect();
        cursor::save(&self.sources.folder, app, sinks)
    }

    fn save(&mut self) {
        let mut apps: Vec<AppName> = self.feeds.keys().map(|key| key.0.clone()).collect();
        apps.dedup();
        for app in apps {
            let mine = |key: &Key| key.0 == app;
            if self.feeds.iter().any(|(key, feed)| mine(key) && feed.unsaved) && self.save_app(&app).is_ok() {
                // What could not be written is tried again; a full disk says so in many other places.
                for (_, feed) in self.feeds.iter_mut().filter(|(key, _)| mine(key)) {
                    feed.unsaved = false;
                }
            }
            let views = self.feeds.iter().filter(|(key, _)| mine(key));
            let views = views
                .map(|(key, feed)| LogSinkView {
                    sink: key.1.to_string(),
                    sent: feed.sent,
                    missed: feed.missed,
                    trouble: self.outlets.get(&key.1).and_then(Outlet::trouble),
                })
                .collect();
            lock(&self.views).insert(app, views);
        }
    }
}

/// The severity of a line, as syslog counts: standard error is one of errors, as with Docker's drivers.
fn severity(line: &LogLine) -> u8 {
    match line.stream {
        Stream::Out => 6,
        Stream::Err => 3,
    }
}

/// When a line came, RFC 3339 in UTC with milliseconds.
fn time(line: &LogLine) -> String {
    let at = Duration::try_from_secs_f64(line.at).unwrap_or_default();
    // The time is of whole milliseconds, which a float may tell a little short.
    clock::utc_text(u64::try_from((at + Duration::from_micros(500)).as_millis()).unwrap_or(0))
}
