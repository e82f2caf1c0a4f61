//! Alerts: from what happens to who is told.
//!
//! A thread of its own with a runtime of its own does all of it, so that a mail server that hangs delays nothing else.
//! While no channel is set it waits for settings and does nothing. With one:
//!
//! * it hears every event (crashes, leaks, missed runs) and looks at levels every [`LOOK`] ([`look`]);
//! * the rules ([`rules`]) and [`upkeep_supervise::alert`] decide what is to be told;
//! * what is told becomes, in one transaction, an event of the timeline, a delivery for each channel ([`queue`]), the
//!   state of all alerts, and the id of the event up to which that was (`/alerts/state`);
//! * deliveries are tried ([`channel`]) until the receiver has them.
//!
//! So a kill at any instant loses nothing: the next daemon reads the state and the journal from that id on. If the
//! transaction fails (a full disk) it is kept and committed again: what is to be told is not told before it is durable.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};
use upkeep_api::{
    alert::{
        AlertView, AlertsView, ChannelView, Delivery, RuleView, Silence, SilencePut, TestPost, TestResult,
        Tested,
    },
    body::Event,
    error::Code,
};
use upkeep_model::{
    settings::{Channel, RuleKind, Settings, alerts::Quiet},
    state::Actual,
};
use upkeep_store::{Store, Txn};
use upkeep_supervise::alert::{Engine, Notification};
use upkeep_sys::clock;

use self::{
    look::Looker,
    queue::{Done, Queue},
    rules::Compiled,
};
use crate::{
    apps::{director::machine_event, directory::Directory, view::Usage},
    command::{Principal, Refusal},
    crashes::{self, archive::Archive},
    events::{self, Events},
    main_loop::note,
    settings::{Current, Holder},
    tasks::Task,
};

mod channel;
mod look;
mod message;
mod queue;
pub(crate) mod rules;

pub(crate) use self::look::Figures;

/// Between two looks at levels.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks at what time alone changes, while something fires.
const TICK: Duration = Duration::from_secs(1);
/// Where the state of all alerts is.
const STATE: &str = "/alerts/state";
/// Format of it.
const VERSION: u32 = 1;
/// So many crashes of an instance within [`LOOP_S`] are a loop.
const LOOP: usize = 3;
const LOOP_S: f64 = 300.0;
/// How many events of the past are looked at by a new daemon.
const MISSED_MAX: usize = 20_000;
/// How many requests may wait.
const REQUESTS: usize = 16;
/// The longest silence.
const SILENCE_MAX_MS: u64 = 366 * 86_400_000;
/// How many silences there may be.
const SILENCES: usize = 1000;

/// What alerts are made of.
pub(crate) struct Sources {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) events: Events,
    pub(crate) settings: Arc<Holder>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) usage: Arc<Usage>,
    pub(crate) archive: Archive,
    /// Where the state directory lies.
    pub(crate) home: PathBuf,
    /// Figures, if somebody samples them better than we do.
    pub(crate) figures: Option<Figures>,
}

/// What other threads see of it.
#[derive(Clone)]
pub(crate) struct Handle {
    store: Arc<dyn Store>,
    view: Arc<Mutex<AlertsView>>,
    requests: mpsc::Sender<Request>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

enum Request {
    Test {
        post: TestPost,
        who: Principal,
        reply: oneshot::Sender<Result<TestResult, Refusal>>,
    },
    Silence {
        app: String,
        /// `None`: the silence ends.
        put: Option<SilencePut>,
        who: Principal,
        reply: oneshot::Sender<Result<Silence, Refusal>>,
    },
}

impl Handle {
    /// How all alerts stand.
    pub(crate) fn view(&self) -> AlertsView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every delivery, newest first. Blocks on the store.
    pub(crate) fn deliveries(&self) -> Result<Vec<Delivery>, Refusal> {
        let mut deliveries = queue::stored(self.store.as_ref())?;
        deliveries.reverse();
        Ok(deliveries)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Request,
    ) -> Result<T, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let busy = || Refusal::new(Code::Unavailable, "refused: too many ask for alerts at once");
        self.requests.try_send(request(sender)).map_err(|_| busy())?;
        let gone = |_| Refusal::new(Code::Unavailable, "the daemon is ending");
        receiver.await.map_err(gone)?
    }

    /// Tries channels.
    pub(crate) async fn test(&self, post: TestPost, who: Principal) -> Result<TestResult, Refusal> {
        self.ask(|reply| Request::Test { post, who, reply }).await
    }

    /// Begins or (`None`) ends a silence.
    pub(crate) async fn silence(
        &self,
        app: String,
        put: Option<SilencePut>,
        who: Principal,
    ) -> Result<Silence, Refusal> {
        self.ask(|reply| Request::Silence { app, put, who, reply }).await
    }
}

/// Starts the thread. It ends with the process.
pub(crate) fn start(sources: Sources) -> std::io::Result<Handle> {
    let (requests, inbox) = mpsc::channel(REQUESTS);
    let view = Arc::new(Mutex::new(AlertsView::default()));
    let handle = Handle {
        store: Arc::clone(&sources.store),
        view: Arc::clone(&view),
        requests,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(256 << 10)
        .build()?;
    let mut worker = Worker::new(sources, view);
    // Before anybody can ask.
    worker.load();
    worker.compile();
    worker.show();
    std::thread::Builder::new()
        .name("alerts".to_owned())
        .stack_size(1 << 20)
        .spawn(move || {
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(worker.run(inbox)));
        })?;
    Ok(handle)
}

/// What is durable.
#[derive(Debug, Serialize, Deserialize)]
struct Kept<T> {
    version: u32,
    /// The newest event that was looked at.
    cursor: u64,
    /// When it was written, by both clocks.
    unix_ms: u64,
    mono_ms: u64,
    silences: Vec<Silence>,
    engine: T,
}

struct Worker {
    sources: Sources,
    view: Arc<Mutex<AlertsView>>,
    current: Current,
    rules: Vec<Compiled>,
    engine: Engine,
    looker: Looker,
    queue: Queue,
    silences: BTreeMap<String, Silence>,
    /// Times of the last crashes, by instance.
    crashes: HashMap<String, VecDeque<f64>>,
    cursor: u64,
    /// There is something that the store has not.
    dirty: bool,
    /// Sends what became of tries.
    results: mpsc::Sender<Done>,
    done: mpsc::Receiver<Done>,
    /// Tells ids of one millisecond apart.
    count: u32,
}

impl Worker {
    fn new(sources: Sources, view: Arc<Mutex<AlertsView>>) -> Self {
        // One try at a time of each channel, of which there are 50 at most.
        let (results, done) = mpsc::channel(64);
        Self {
            looker: Looker {
                directory: Arc::clone(&sources.directory),
                usage: Arc::clone(&sources.usage),
                home: sources.home.clone(),
                figures: sources.figures.clone(),
                cpu: None,
            },
            current: sources.settings.current(),
            sources,
            view,
            rules: Vec::new(),
            engine: Engine::default(),
            queue: Queue::default(),
            silences: BTreeMap::new(),
            crashes: HashMap::new(),
            cursor: 0,
            dirty: false,
            results,
            done,
            count: 0,
        }
    }

    fn is_on(&self) -> bool {
        !self.current.alerts.channels.is_empty()
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut changes = self.sources.settings.subscribe();
        let mut live = self.sources.events.subscribe();
        self.settings_changed().await;
        let mut next_look = Instant::now();
        loop {
            let now = Instant::now();
            if self.is_on() {
                if now >= next_look {
                    self.look();
                    next_look = now + LOOK;
                }
                self.tick().await;
                self.send_due();
            }
            self.show();
            let wake = self.wake(next_look);
            tokio::select! {
                // Cancel-safe: an event is taken only when it is returned.
                event = live.recv() => match event {
                    Ok(event) => self.hear(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.catch_up(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                // Cancel-safe: the version seen is kept in the receiver.
                changed = changes.changed() => match changed {
                    Ok(()) => self.settings_changed().await,
                    Err(_) => return,
                },
                // Cancel-safe: a message is taken only when it is returned.
                request = inbox.recv() => match request {
                    Some(request) => {
                        // Whoever has set something and then asks, asks about that.
                        if changes.has_changed().unwrap_or(false) {
                            changes.mark_unchanged();
                            self.settings_changed().await;
                        }
                        self.answer(request).await;
                    }
                    None => return,
                },
                // Cancel-safe for the same reason.
                Some(done) = self.done.recv() => self.tried(done).await,
                // Cancel-safe: it is computed anew.
                () = tokio::time::sleep_until(wake), if self.is_on() => {}
            }
        }
    }

    fn wake(&self, next_look: Instant) -> Instant {
        let tick = (!self.engine.is_idle() || self.dirty).then(|| Instant::now() + TICK);
        [tick, self.queue.next_due()]
            .into_iter()
            .flatten()
            .fold(next_look, Instant::min)
    }

    /// Takes over what a daemon before has left.
    fn load(&mut self) {
        let store = self.sources.store.as_ref();
        match queue::stored(store) {
            Ok(deliveries) => self.queue = Queue::load(deliveries, Instant::now()),
            Err(error) => note(&format!("alerts on their way could not be read: {error}")),
        }
        let kept = match store.get(STATE) {
            Ok(Some(entry)) => serde_json::from_slice::<Kept<Engine>>(&entry.value).ok(),
            Ok(None) => None,
            Err(error) => {
                note(&format!("the state of alerts could not be read: {error}"));
                None
            }
        };
        let Some(kept) = kept.filter(|kept| kept.version == VERSION) else {
            self.cursor = self.newest();
            return;
        };
        let now = clock::monotonic_ms();
        // By the clock on the wall, which counts through a reboot; a clock that was set is not believed.
        let away = clock::unix_ms().saturating_sub(kept.unix_ms).min(86_400_000);
        self.engine = kept.engine;
        self.engine.shift(kept.mono_ms.saturating_add(away), now);
        self.cursor = kept.cursor;
        let silences = kept.silences.into_iter();
        self.silences = silences.map(|silence| (silence.app.clone(), silence)).collect();
    }

    fn newest(&self) -> u64 {
        let newest = self.sources.events.tail(1, 0, &|_| true);
        newest
            .ok()
            .and_then(|events| events.last().map(|event| event.id))
            .unwrap_or(0)
    }

    /// Makes rules of the settings.
    fn compile(&mut self) {
        self.current = self.sources.settings.current();
        let alerts = &self.current.alerts;
        self.rules = if self.is_on() {
            rules::compile(alerts)
        } else {
            Vec::new()
        };
        let rules = self.rules.iter().map(|rule| rule.rule.clone()).collect();
        self.engine.set_rules(rules, rules::group_ms(alerts));
    }

    async fn settings_changed(&mut self) {
        self.compile();
        let mut txn = Txn::default();
        let channels = &self.current.alerts.channels;
        let lives = |name: &str| channels.keys().any(|channel| channel.as_str() == name);
        let given_up = self.queue.retain(&mut txn, &lives);
        self.commit(txn, given_up_events(&given_up, "its channel is gone"))
            .await;
        if self.is_on() {
            self.catch_up();
            self.dirty = true;
        } else {
            // What happens before anybody wants to be told is not told.
            self.cursor = self.newest();
        }
    }

    /// Hears what the journal has and nobody has heard.
    fn catch_up(&mut self) {
        if !self.is_on() {
            return;
        }
        match self.sources.events.tail(MISSED_MAX, self.cursor, &|_| true) {
            Ok(events) => events.iter().for_each(|event| self.hear(event)),
            Err(error) => note(&format!("events for alerts could not be read: {error}")),
        }
    }

    fn hear(&mut self, event: &Event) {
        if event.id <= self.cursor || !self.is_on() {
            self.cursor = self.cursor.max(event.id);
            return;
        }
        self.cursor = event.id;
        let Some(finding) = Self::finding(event) else {
            return;
        };
        self.found(&finding, event);
        // A crash that is one too many is two findings.
        if finding.kind == RuleKind::Crash && self.is_loop(event) {
            let again = Finding {
                kind: RuleKind::CrashLoop,
                text: match crashes::then(event) {
                    Some(Actual::GaveUp) => {
                        format!("it crashed too often and was given up: {}", event.result)
                    }
                    _ => format!("it crashes again and again: {}", event.why),
                },
                ..finding
            };
            self.found(&again, event);
        }
    }

    /// What an event means, if it means anything.
    fn finding(event: &Event) -> Option<Finding> {
        let kind = match event.what.as_str() {
            _ if crashes::is_crash(event) => RuleKind::Crash,
            "leak" => RuleKind::Leak,
            "unhealthy" => RuleKind::Unhealthy,
            "run_missed" | "run_late" | "run_timeout" => RuleKind::MissedRun,
            "run_ended" if event.is_failure() => RuleKind::MissedRun,
            _ => return None,
        };
        let text = match (event.why.as_str(), event.result.as_str()) {
            (why, "") => why.to_owned(),
            ("", result) => result.to_owned(),
            (why, result) => format!("{why}; {result}"),
        };
        Some(Finding {
            kind,
            subject: event.target.clone(),
            text,
        })
    }

    fn found(&mut self, finding: &Finding, event: &Event) {
        let now = clock::monotonic_ms();
        let app = finding.subject.split(':').next().unwrap_or_default();
        let names: Vec<String> = self
            .rules
            .iter()
            .filter(|rule| rule.rule.kind == finding.kind && rule.takes(app))
            .map(|rule| rule.rule.name.clone())
            .collect();
        for name in names {
            self.engine
                .occur(now, &name, &finding.subject, &finding.text, Some(event.id));
            self.dirty = true;
        }
    }

    fn is_loop(&mut self, event: &Event) -> bool {
        if self.crashes.len() > 10_000 {
            self.crashes.clear();
        }
        let times = self.crashes.entry(event.target.clone()).or_default();
        times.push_back(event.at);
        while times.len() > LOOP {
            times.pop_front();
        }
        let many = times.len() == LOOP && times.front().is_some_and(|first| event.at - first <= LOOP_S);
        many || crashes::then(event) == Some(Actual::GaveUp)
    }

    fn look(&mut self) {
        let now = clock::monotonic_ms();
        let seen = self.looker.look(&self.rules);
        for sight in &seen {
            self.dirty |= self
                .engine
                .see(now, &sight.rule, &sight.subject, sight.level, &sight.text);
        }
        let alive: std::collections::HashSet<(&str, &str)> = seen
            .iter()
            .map(|sight| (sight.rule.as_str(), sight.subject.as_str()))
            .collect();
        self.dirty |= self
            .engine
            .retain(now, &|rule, subject| alive.contains(&(rule, subject)));
    }

    /// Tells what is to be told.
    async fn tick(&mut self) {
        let unix = events::now();
        self.silences.retain(|_, silence| silence.until > unix);
        let silences = &self.silences;
        let silenced = |subject: &str| {
            let app = subject.split(':').next().unwrap_or_default();
            silences.contains_key(app) || silences.contains_key("all")
        };
        let quiet = self.is_quiet();
        let now = clock::monotonic_ms();
        let told = self.engine.tick(now, quiet, &silenced);
        if told.is_empty() && !self.dirty {
            return;
        }
        let mut txn = Txn::default();
        let mut log = Vec::new();
        for notification in &told {
            self.tell(notification, now, unix, &mut txn, &mut log);
        }
        self.dirty = false;
        self.keep(&mut txn);
        self.commit(txn, log).await;
    }

    fn tell(
        &mut self,
        notification: &Notification,
        now: u64,
        unix: f64,
        txn: &mut Txn,
        log: &mut Vec<Event>,
    ) {
        let when = |mono: u64| unix - now.saturating_sub(mono) as f64 / 1000.0;
        let name = &notification.rule.name;
        let wanted = self.rules.iter().find(|rule| &rule.rule.name == name);
        let wanted = wanted.map(|rule| rule.channels.clone()).unwrap_or_default();
        let channels: Vec<String> = self
            .current
            .alerts
            .channels
            .keys()
            .filter(|channel| wanted.is_empty() || wanted.contains(channel))
            .map(ToString::to_string)
            .collect();
        let id = self.new_id();
        let message = message::make(id, unix, notification, &self.sources.archive, &when);
        log.push(alert_event(&message, &channels));
        for channel in channels {
            let mut message = message.clone();
            message.id = self.new_id();
            let surplus = self.queue.add(txn, &channel, message, Instant::now());
            log.extend(given_up_events(surplus.as_slice(), "there is no room for it"));
        }
    }

    /// In order of time, and no other has it.
    fn new_id(&mut self) -> String {
        self.count = self.count.wrapping_add(1);
        format!(
            "{:011x}-{:08x}-{:08x}",
            clock::unix_ms(),
            self.count,
            std::process::id()
        )
    }

    fn is_quiet(&self) -> bool {
        self.current.alerts.quiet.as_ref().is_some_and(|quiet| {
            let zone = quiet.timezone.as_deref();
            let zone = zone.and_then(|zone| jiff::tz::TimeZone::get(zone).ok());
            let now = jiff::Timestamp::now().to_zoned(zone.unwrap_or_else(jiff::tz::TimeZone::system));
            let minute = u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs());
            is_within(quiet, minute)
        })
    }

    /// Puts the state into a transaction.
    fn keep(&self, txn: &mut Txn) {
        let kept = Kept {
            version: VERSION,
            cursor: self.cursor,
            unix_ms: clock::unix_ms(),
            mono_ms: clock::monotonic_ms(),
            silences: self.silences.values().cloned().collect(),
            engine: &self.engine,
        };
        txn.puts
            .push((STATE.to_owned(), serde_json::to_vec(&kept).unwrap_or_default()));
    }

    /// Commits until it is durable.
    async fn commit(&self, txn: Txn, log: Vec<Event>) {
        if txn == Txn::default() && log.is_empty() {
            return;
        }
        let mut said = false;
        loop {
            let (sender, receiver) = oneshot::channel();
            self.sources
                .events
                .commit_all(txn.clone(), log.clone(), move |result| {
                    // We wait below.
                    let _ = sender.send(result);
                });
            match receiver.await {
                Ok(Err(upkeep_store::StoreError::Closed) | Ok(())) | Err(_) => return,
                Ok(Err(error)) if !said => {
                    said = true;
                    note(&format!("alerts wait until the store takes them: {error}"));
                }
                Ok(Err(_)) => {}
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Begins every try that is due.
    fn send_due(&mut self) {
        for (name, message) in self.queue.take_due(Instant::now()) {
            let channels = &self.current.alerts.channels;
            let channel = channels.iter().find(|(channel, _)| channel.as_str() == name);
            let channel = channel.map(|(_, channel)| channel.clone()).unwrap_or_default();
            let results = self.results.clone();
            Task::spawn_short("delivery", async move {
                let (result, at, took_ms) = attempt(&channel, &message).await;
                let done = Done {
                    id: message.id,
                    channel: name,
                    at,
                    took_ms,
                    result,
                };
                // The worker listens until the process ends.
                let _ = results.send(done).await;
            });
        }
    }

    async fn tried(&mut self, done: Done) {
        let mut txn = Txn::default();
        // Only to spread tries: where there is no chance to be had, any number does.
        let chance = (clock::monotonic_ms().wrapping_mul(2_654_435_761) >> 16 & 255) as f64 / 255.0;
        let refused = done.result.as_ref().err().filter(|failure| failure.is_final);
        let why = refused.map_or_else(
            || "it was tried for a day".to_owned(),
            |failure| format!("its receiver refused it ({})", failure.why),
        );
        let given_up = self.queue.done(&mut txn, done, Instant::now(), chance);
        let log = given_up_events(given_up.as_slice(), &why);
        self.commit(txn, log).await;
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Test { post, who, reply } => self.test(post, &who, reply).await,
            Request::Silence { app, put, who, reply } => {
                let outcome = self.silence(app, put, &who).await;
                // Whoever asked may have gone away.
                let _ = reply.send(outcome);
            }
        }
    }

    async fn test(
        &mut self,
        post: TestPost,
        who: &Principal,
        reply: oneshot::Sender<Result<TestResult, Refusal>>,
    ) {
        let all = &self.current.alerts.channels;
        let chosen: Vec<(String, Channel)> = all
            .iter()
            .filter(|(name, _)| {
                post.channel
                    .as_deref()
                    .is_none_or(|wanted| wanted == name.as_str())
            })
            .map(|(name, channel)| (name.to_string(), channel.clone()))
            .collect();
        if chosen.is_empty() {
            let refusal = match &post.channel {
                Some(channel) => {
                    let known: Vec<&str> = all.keys().map(|name| name.as_str()).collect();
                    Refusal::new(
                        Code::NotFound,
                        format!("there is no channel `{}`", channel.escape_debug()),
                    )
                    .hint(format!("there are: {}", known.join(", ")))
                }
                None => Refusal::new(Code::NotFound, "there is no channel to be tried")
                    .hint("`alerts: {channels: …}` in the settings makes one"),
            };
            let _ = reply.send(Err(refusal));
            return;
        }
        let names: Vec<&str> = chosen.iter().map(|(name, _)| name.as_str()).collect();
        if !post.dry_run {
            let event = machine_event(who, "alert_test", post.reason.as_deref(), &names.join(" "));
            self.commit(Txn::default(), vec![event]).await;
        }
        let messages: Vec<_> = chosen
            .into_iter()
            .map(|(name, channel)| (name, channel, message::test(self.new_id(), events::now())))
            .collect();
        Task::spawn_short("alert test", async move {
            let tries = messages.iter().map(|(name, channel, message)| async move {
                if post.dry_run {
                    return Tested {
                        channel: name.clone(),
                        error: None,
                        took_ms: 0,
                    };
                }
                let (result, _, took_ms) = attempt(channel, message).await;
                Tested {
                    channel: name.clone(),
                    error: result.err().map(|failure| failure.why),
                    took_ms,
                }
            });
            let channels = futures_util::future::join_all(tries).await;
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(TestResult { channels }));
        });
    }

    async fn silence(
        &mut self,
        app: String,
        put: Option<SilencePut>,
        who: &Principal,
    ) -> Result<Silence, Refusal> {
        let is_known = matches!(app.as_str(), "all" | look::MACHINE)
            || upkeep_model::id::AppName::parse(&app)
                .is_ok_and(|name| self.sources.directory.get(&name).is_some());
        let silence = match &put {
            Some(put) => {
                if !is_known {
                    return Err(Refusal::new(
                        Code::NotFound,
                        format!("there is no app `{}`", app.escape_debug()),
                    )
                    .hint("an app, `machine` or `all` can be silenced"));
                }
                if put.for_ms == 0 || put.for_ms > SILENCE_MAX_MS {
                    return Err(Refusal::new(
                        Code::Invalid,
                        "a silence takes from a moment to a year".to_owned(),
                    ));
                }
                if self.silences.len() >= SILENCES && !self.silences.contains_key(&app) {
                    return Err(Refusal::new(
                        Code::Invalid,
                        format!("there are {SILENCES} silences already"),
                    ));
                }
                Silence {
                    app: app.clone(),
                    until: events::now() + put.for_ms as f64 / 1000.0,
                    who: who.name.clone(),
                    why: put.reason.clone().unwrap_or_default(),
                }
            }
            None => self.silences.get(&app).cloned().ok_or_else(|| {
                Refusal::new(
                    Code::NotFound,
                    format!("`{}` is not silenced", app.escape_debug()),
                )
            })?,
        };
        if put.as_ref().is_some_and(|put| put.dry_run) {
            return Ok(silence);
        }
        let (what, why) = match &put {
            Some(put) => ("silence", put.reason.clone()),
            None => ("unsilence", None),
        };
        let until = clock::utc_text(unix_ms(silence.until));
        let result = if put.is_some() {
            format!("until {until}")
        } else {
            String::new()
        };
        let mut event = machine_event(who, what, why.as_deref(), &result);
        event.target.clone_from(&app);
        if put.is_some() {
            self.silences.insert(app, silence.clone());
        } else {
            self.silences.remove(&app);
        }
        let mut txn = Txn::default();
        self.keep(&mut txn);
        self.commit(txn, vec![event]).await;
        Ok(silence)
    }

    /// Shows how it stands.
    fn show(&self) {
        let (unix, now) = (events::now(), clock::monotonic_ms());
        let when = |mono: u64| unix - now.saturating_sub(mono) as f64 / 1000.0;
        let firing = self
            .engine
            .firing()
            .into_iter()
            .map(|(rule, entry, told)| AlertView {
                rule: rule.name.clone(),
                severity: rule.severity,
                subject: entry.subject,
                since: when(entry.since_ms),
                count: entry.count,
                text: entry.text,
                told,
            });
        let channels = self.current.alerts.channels.iter().map(|(name, channel)| {
            let (pending, trouble) = self.queue.state_of(name.as_str());
            ChannelView {
                name: name.to_string(),
                kind: channel::kind(channel).to_owned(),
                pending,
                trouble,
            }
        });
        let rules = self.rules.iter().map(|rule| RuleView {
            name: rule.rule.name.clone(),
            on: rule.rule.kind,
            severity: rule.rule.severity,
            for_ms: rule.rule.hold_ms,
            default: rule.is_default,
        });
        let view = AlertsView {
            firing: firing.take(upkeep_supervise::alert::ALERTS_MAX).collect(),
            rules: rules.collect(),
            channels: channels.collect(),
            silences: self.silences.values().cloned().collect(),
            quiet: self.is_on() && self.is_quiet(),
        };
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

/// Something that a rule may be on.
struct Finding {
    kind: RuleKind,
    subject: String,
    text: String,
}

/// One try, when it began, and how long it took in ms.
async fn attempt(
    channel: &Channel,
    message: &upkeep_api::alert::Message,
) -> (Result<(), channel::Failure>, f64, u64) {
    let (at, begun) = (events::now(), Instant::now());
    let result = channel::deliver(channel, message).await;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    (result, at, took_ms)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
fn unix_ms(at: f64) -> u64 {
    (at * 1000.0) as u64
}

/// Whether a minute of the day is quiet.
fn is_within(quiet: &Quiet, minute: u16) -> bool {
    let (from, to) = (quiet.from.minutes(), quiet.to.minutes());
    if from <= to {
        (from..to).contains(&minute)
    } else {
        minute >= from || minute < to
    }
}

fn alert_event(message: &upkeep_api::alert::Message, channels: &[String]) -> Event {
    let subjects: Vec<&str> = message
        .alerts
        .iter()
        .map(|alert| alert.subject.as_str())
        .filter(|subject| *subject != look::MACHINE)
        .collect();
    Event {
        id: 0,
        at: message.at,
        who: "upkeep".to_owned(),
        what: "alert".to_owned(),
        target: subjects.join(" "),
        why: message.summary.clone(),
        result: message.state.clone(),
        details: BTreeMap::from([
            ("rule".to_owned(), message.rule.clone().into()),
            ("severity".to_owned(), message.severity.as_str().into()),
            ("channels".to_owned(), channels.into()),
        ]),
    }
}

fn given_up_events(deliveries: &[Delivery], why: &str) -> Vec<Event> {
    let event = |delivery: &Delivery| Event {
        id: 0,
        at: events::now(),
        who: "upkeep".to_owned(),
        what: "alert_undelivered".to_owned(),
        target: String::new(),
        why: format!("{why}: {}", delivery.message.summary),
        result: format!("`{}` was not told", delivery.channel),
        details: BTreeMap::from([("delivery".to_owned(), delivery.id.clone().into())]),
    };
    deliveries.iter().map(event).collect()
}

/// Whether settings of alerts can be lived by.
pub(crate) fn check(settings: &Settings) -> Result<(), Refusal> {
    rules::check(&settings.alerts)
        .map_err(|why| Refusal::new(Code::Invalid, format!("failed to accept the settings: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_go_over_midnight() {
        let quiet = |from: &str, to: &str| Quiet {
            from: from.parse().expect("a time"),
            to: to.parse().expect("a time"),
            timezone: None,
            critical: None,
        };
        let night = quiet("22:00", "07:00");
        assert!(is_within(&night, 23 * 60) && is_within(&night, 0) && is_within(&night, 419));
        assert!(!is_within(&night, 420) && !is_within(&night, 12 * 60));
        let noon = quiet("12:00", "13:00");
        assert!(is_within(&noon, 12 * 60) && !is_within(&noon, 13 * 60) && !is_within(&noon, 0));
    }
}
