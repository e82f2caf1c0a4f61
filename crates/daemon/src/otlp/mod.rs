//! Figures and log lines pushed to a collector: OTLP over HTTP with protobuf, if the machine's settings want it (`otlp:`).
//! Source: <https://opentelemetry.io/docs/specs/otlp/>.
//!
//! # How it works
//!
//! A thread of its own with a runtime of its own, so that a collector that hangs delays nothing else. It is there only
//! while `otlp` is set, and there is one at most: [`Pushing`] starts the next when the last has ended.
//!
//! Figures ([`figures`]) are those of the newest look, every `interval`. Those that could not be sent are replaced by newer
//! ones: counters lose nothing by that. Lines ([`lines`]) wait in their files until they are taken; a daemon that is killed
//! sends again what it sent in its last second. Both are sent by a [`sender`] of their own, which waits longer and
//! longer after failures, and as long as the receiver asks.
//!
//! What does not work for five seconds is said once, by an event (`otlp_trouble`), and by another when it works again
//! (`otlp_recovered`). What a receiver refuses for good is not sent again, as the protocol wants it (`otlp_refused`).

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
};
use prost::Message;
use tokio::sync::{oneshot, watch};
use upkeep_api::body::Event;
use upkeep_model::{settings::Otlp, size::Span};
use upkeep_store::Txn;
use upkeep_sys::clock;

use self::{
    figures::Figures,
    lines::Lines,
    sender::{Outcome, Sender, Signal, Tell},
};
use crate::{
    apps::directory::Directory,
    events::{self, Events},
    main_loop::note,
    metrics::Metrics,
    settings::Current,
    tasks::Task,
};

mod figures;
mod lines;
mod sender;
#[cfg(test)]
mod tests;

/// How often figures are pushed unless said otherwise.
const INTERVAL: Span = Span::from_secs(10);
/// How often the log files are looked at.
const STEP: Duration = Duration::from_secs(1);
/// How far an app is read back that was there before this daemon and has no place: its daemon was killed in the very
/// moment it came.
const BACK_MS: u64 = 60_000;
/// How long the last lines may take when the daemon ends.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What the thread needs.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) settings: watch::Receiver<Current>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) events: Events,
    /// Where logs are.
    pub(crate) logs: PathBuf,
    /// Where is written down how far they have been sent.
    pub(crate) folder: PathBuf,
    pub(crate) version: String,
    /// Unix ms.
    pub(crate) started_ms: u64,
}

#[derive(Debug)]
struct Running {
    /// Whether to send what is in the files first.
    stop: oneshot::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Starts the thread whenever the settings want it.
#[derive(Debug)]
pub(crate) struct Pushing {
    follows: Task,
    running: Rc<RefCell<Option<Running>>>,
}

impl Pushing {
    pub(crate) fn start(sources: Sources) -> Self {
        let running = Rc::default();
        let follows = Task::spawn("otlp", follow(sources, Rc::clone(&running)));
        Self { follows, running }
    }

    /// Ends the thread; if wanted it sends first what is in the files now, for two seconds at most.
    pub(crate) fn stop(self, last_lines: bool) {
        drop(self.follows);
        if let Some(running) = self.running.borrow_mut().take() {
            // It may have ended by itself.
            let _ = running.stop.send(last_lines);
            // A panic there has aborted the process already.
            let _ = running.thread.join();
        }
    }
}

async fn follow(mut sources: Sources, running: Rc<RefCell<Option<Running>>>) {
    // What the daemon before was asked for is not new.
    let mut since_ms = sources.started_ms.saturating_sub(BACK_MS);
    // Places of a time when lines were wanted, and are no more: forgotten by the thread.
    let mut leftover = sources.folder.is_dir();
    loop {
        let wanted = sources.settings.borrow_and_update().otlp.is_some();
        if wanted || leftover {
            leftover = false;
            let (done, ended) = oneshot::channel();
            match start_thread(sources.clone(), since_ms, done) {
                Ok(thread) => {
                    *running.borrow_mut() = Some(thread);
                    // It ends when it has been dropped, too.
                    let _ = ended.await;
                    // It has nothing left to do but to go away.
                    running.borrow_mut().take();
                }
                Err(error) => {
                    note(&format!("figures cannot be pushed, no thread: {error}"));
                    if sources.settings.changed().await.is_err() {
                        return;
                    }
                }
            }
        } else if sources.settings.changed().await.is_err() {
            return;
        }
        since_ms = clock::unix_ms();
    }
}

fn start_thread(sources: Sources, since_ms: u64, done: oneshot::Sender<()>) -> std::io::Result<Running> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_stack_size(256 << 10)
        .build()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("otlp".to_owned())
        .stack_size(512 << 10)
        .spawn(move || {
            runtime.block_on(Worker::new(sources, since_ms).run(stopped));
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
            // Nobody may be waiting any more.
            let _ = done.send(());
        })?;
    Ok(Running { stop, thread })
}

struct Worker {
    sources: Sources,
    figures: Figures,
    /// Only while they are wanted.
    lines: Option<Lines>,
    to_figures: Sender,
    to_lines: Sender,
    since_ms: u64,
    host_name: String,
}

impl Worker {
    fn new(sources: Sources, since_ms: u64) -> Self {
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let boot_ms = clock::unix_ms().saturating_sub(clock::boottime_ms());
        Self {
            figures: Figures::new(
                host_name.clone(),
                sources.version.clone(),
                sources.started_ms,
                boot_ms,
            ),
            lines: None,
            to_figures: Sender::new(Signal::Figures),
            to_lines: Sender::new(Signal::Lines),
            since_ms,
            host_name,
            sources,
        }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<bool>) {
        let mut settings = self.sources.settings.clone();
        let mut next_figures = Instant::now();
        let mut next_lines = Instant::now();
        loop {
            let current = Arc::clone(&settings.borrow_and_update());
            let Some(otlp) = current.otlp.clone() else {
                lines::forget(&self.sources.folder);
                return;
            };
            self.follow_settings(&otlp);
            let interval = Duration::from(otlp.interval.unwrap_or(INTERVAL));
            // Until they change.
            loop {
                let work = async {
                    tokio::time::sleep_until(next_figures.min(next_lines).into()).await;
                    let now = Instant::now();
                    if now >= next_figures {
                        next_figures = now + interval;
                        self.push_figures(&otlp).await;
                        // After a failure sooner, if the interval is long.
                        next_figures = self
                            .to_figures
                            .retry_at()
                            .map_or(next_figures, |at| at.min(next_figures));
                    }
                    if now >= next_lines {
                        let busy = self.push_lines(&otlp).await;
                        next_lines = if busy {
                            Instant::now()
                        } else {
                            Instant::now() + STEP
                        };
                    }
                };
                // Whatever is cut off has not been taken.
                tokio::select! {
                    biased;
                    last_lines = &mut stopped => {
                        if last_lines == Ok(true) {
                            let _ = tokio::time::timeout(LAST_LINES, async {
                                while self.push_lines(&otlp).await {}
                            })
                            .await;
                        }
                        if let Some(lines) = &mut self.lines {
                            lines.save();
                        }
                        return;
                    }
                    changed = settings.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        break;
                    }
                    () = work => {}
                }
            }
            // The next settings may be asked soon.
            next_figures = next_figures.min(Instant::now() + STEP);
        }
    }

    fn follow_settings(&mut self, otlp: &Otlp) {
        self.to_figures.begin_anew();
        self.to_lines.begin_anew();
        if !otlp.logs.unwrap_or(false) {
            self.lines = None;
            lines::forget(&self.sources.folder);
        } else if self.lines.is_none() {
            let sources = &self.sources;
            self.lines = Some(Lines::new(
                Arc::clone(&sources.directory),
                (sources.logs.clone(), sources.folder.clone()),
                (self.host_name.clone(), sources.version.clone()),
                self.since_ms,
            ));
        }
        self.since_ms = clock::unix_ms();
    }

    async fn push_figures(&mut self, otlp: &Otlp) {
        if !self.to_figures.ready() {
            return;
        }
        let now_ms = (clock::monotonic_ms(), clock::unix_ms());
        let requests = self
            .figures
            .requests(&self.sources.metrics, &self.sources.directory, now_ms);
        for request in requests {
            let outcome = self.to_figures.send(otlp, request.encode_to_vec()).await;
            tell(&self.sources.events, otlp, &mut self.to_figures);
            if outcome != Outcome::Taken {
                return;
            }
        }
    }

    /// Whether there is more.
    async fn push_lines(&mut self, otlp: &Otlp) -> bool {
        let Some(lines) = &mut self.lines else {
            return false;
        };
        if !self.to_lines.ready() {
            return false;
        }
        let busy = lines.send(otlp, &mut self.to_lines).await;
        tell(&self.sources.events, otlp, &mut self.to_lines);
        busy && self.to_lines.ready()
    }
}

/// Leaves an event for each thing that a sender has to tell.
fn tell(events: &Events, otlp: &Otlp, sender: &mut Sender) {
    let word = sender.word();
    let endpoint = &otlp.endpoint;
    for tell in sender.tells.drain(..) {
        let (what, why, result) = match tell {
            Tell::Trouble { why, result } => (
                "otlp_trouble",
                format!("`{endpoint}` does not take {word}: {why}"),
                result,
            ),
            Tell::Refused(what) => (
                "otlp_refused",
                format!("`{endpoint}` refused {what}"),
                "it is not sent again; more of it is told after 10 minutes",
            ),
            Tell::Recovered => (
                "otlp_recovered",
                format!("`{endpoint}` takes {word} again"),
                "they are sent",
            ),
        };
        let event = Event {
            id: 0,
            at: events::now(),
            who: "upkeep".to_owned(),
            what: what.to_owned(),
            target: String::new(),
            why,
            result: result.to_owned(),
            details: BTreeMap::new(),
        };
        events.commit(Txn::default(), event, |result| {
            if let Err(error) = result {
                note(&format!("an event of OTLP could not be written: {error}"));
            }
        });
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// Whom something is of. `id`: of an instance.
fn resource(host_name: &str, service: &str, id: Option<&str>) -> Resource {
    let mut attributes = vec![
        attribute("host.name", host_name),
        attribute("service.name", service),
    ];
    attributes.extend(id.map(|id| attribute("service.instance.id", id)));
    Resource {
        attributes,
        ..Resource::default()
    }
}

/// Who tells it.
fn scope(version: &str) -> InstrumentationScope {
    InstrumentationScope {
        name: "upkeep".to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    }
}
