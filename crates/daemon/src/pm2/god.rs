//! The list of processes, and what is done with what their machines say.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::Write as _,
    rc::Rc,
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::sync::{oneshot, watch};
use upkeep_api::body::{Event as LogEvent, Stream};
use upkeep_keeper::protocol::{Ended, Event as KeeperEvent, ExitRecord, Request, Scope};
use upkeep_model::{
    restart::{Backoff, RestartOn},
    size::Span,
    state::{Actual, Desired},
};
use upkeep_pm2::{
    date,
    home::{Pm2Home, with_id},
    record::{self, Record},
};
use upkeep_store::Txn;
use upkeep_supervise::{
    effect::Effect,
    event::{Event, Order},
    pm2::{self, Counters, Verdict},
};
use upkeep_sys::clock;

use super::{
    bus::Bus,
    cluster::Cluster,
    launch,
    logs::Logs,
    process::{self, BY_MESSAGE, Process, State, key, rules},
    rpc, system, watch as watching, worker,
};
use crate::{
    apps::{actor::Context, exits, view::Usage},
    events,
    keeper_link::News,
    node::channel::Heard,
    tasks::Task,
};

/// Where processes are in the store.
pub(super) const PREFIX: &str = "/pm2/";
const SIGKILL: i32 = 9;
/// Harms nobody who is ending, and the keeper says how many it reached.
const SIGCONT: i32 = 18;

/// What a daemon is told that serves a `PM2_HOME`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) home: Pm2Home,
    pub(crate) keeper_pid: u32,
}

/// PM2's variables, read once at the daemon's birth.
#[derive(Clone, Debug)]
pub(crate) struct Variables {
    pub(super) worker_interval_ms: u64,
    pub(super) kill_timeout_ms: u64,
    pub(super) kill_signal: i32,
    pub(super) kill_by_message: bool,
    pub(super) listen_timeout_ms: u64,
    pub(super) backoff_reset_ms: u64,
    pub(super) log_date_format: String,
    pub(super) instance_var: Option<String>,
    pub(super) node_options: Option<String>,
}

impl Variables {
    fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str, default| text(name).and_then(|text| text.parse().ok()).unwrap_or(default);
        Self {
            worker_interval_ms: number("PM2_WORKER_INTERVAL", 30_000).max(50),
            kill_timeout_ms: number("PM2_KILL_TIMEOUT", 1600),
            kill_signal: text("PM2_KILL_SIGNAL")
                .and_then(|name| system::signal_number(&name))
                .unwrap_or(2),
            kill_by_message: text("PM2_KILL_USE_MESSAGE").is_some(),
            listen_timeout_ms: number("PM2_GRACEFUL_LISTEN_TIMEOUT", 3000),
            backoff_reset_ms: number("EXP_BACKOFF_RESET_TIMER", 30_000),
            log_date_format: text("PM2_LOG_DATE_FORMAT").unwrap_or_else(|| "YYYY-MM-DDTHH:mm:ss".to_owned()),
            instance_var: text("PM2_PROCESS_INSTANCE_VAR"),
            node_options: text("PM2_NODE_OPTIONS"),
        }
    }
}

/// The list and what serves it.
pub(crate) struct God {
    pub(super) context: Rc<Context>,
    pub(super) home: Pm2Home,
    pub(super) variables: Variables,
    pub(super) table: RefCell<BTreeMap<u64, Rc<Process>>>,
    pub(super) next_id: Cell<u64>,
    pub(super) next_worker: Cell<u64>,
    pub(super) logs: Logs,
    pub(super) bus: Bus,
    pub(super) usage: Usage,
    pub(super) cluster: Cluster,
    pub(super) system: system::System,
    pub(super) started_ms: u64,
    /// Counts changes of any process.
    changes: watch::Sender<u64>,
    /// Whether everything is being ended: then no more processes are started.
    pub(super) ending: Cell<bool>,
    /// Asks the main loop to leave.
    pub(super) leave: RefCell<Option<oneshot::Sender<()>>>,
    pub(super) tasks: RefCell<Vec<Task>>,
}

impl God {
    /// Makes the folders, binds both sockets and brings back what the last daemon left. What comes out of the receiver: everything
    /// is stopped, and the daemon shall leave.
    pub(crate) fn start(
        context: &Rc<Context>,
        settings: Settings,
        found: super::recovery::Found,
    ) -> std::io::Result<(Rc<Self>, oneshot::Receiver<()>)> {
        let home = settings.home;
        home.make()?;
        let (logs, mut pieces) = Logs::start()?;
        let bus = Bus::new(std::sync::Arc::clone(&logs.listeners));
        let (leave, left) = oneshot::channel();
        launch::write_agent(&home)?;
        let god = Rc::new(Self {
            context: Rc::clone(context),
            variables: Variables::read(),
            table: RefCell::default(),
            next_id: Cell::new(0),
            next_worker: Cell::new(1),
            logs,
            bus,
            usage: Usage::default(),
            cluster: Cluster::default(),
            system: system::System::default(),
            started_ms: clock::unix_ms(),
            changes: watch::channel(0).0,
            ending: Cell::new(false),
            leave: RefCell::new(Some(leave)),
            tasks: RefCell::default(),
            home,
        });
        std::fs::write(&god.home.pid, settings.keeper_pid.to_string())?;
        god.greet();
        super::recovery::recover(&god, found);
        let rpc = rpc::serve(&god, system::bind(&god.home.rpc)?);
        let publish = god.bus.serve(system::bind(&god.home.publish)?);
        let for_pieces = Rc::clone(&god);
        let pieces = Task::spawn("pm2 pieces", async move {
            while let Some(piece) = pieces.recv().await {
                let (id, stream) = piece.source;
                if let Some(process) = for_pieces.find(id) {
                    let state = process.state.borrow();
                    let event = if stream == Stream::Out {
                        "log:out"
                    } else {
                        "log:err"
                    };
                    for_pieces.bus.publish(
                        event,
                        json!({
                            "process": {"pm_id": id, "name": state.record.get("name"), "rev": null, "namespace": state.namespace()},
                            "at": piece.at_ms,
                            "data": String::from_utf8_lossy(&piece.bytes),
                        }),
                    );
                }
            }
        });
        let worker = worker::start(&god);
        let reopen = reopen_by_signal(&god)?;
        god.tasks
            .borrow_mut()
            .extend([rpc, publish, pieces, worker, reopen]);
        Ok((god, left))
    }

    fn greet(&self) {
        let line = "=".repeat(79);
        let now = date::format("ddd MMM DD YYYY HH:mm:ss [GMT]ZZ", self.started_ms.cast_signed());
        for text in [
            line.clone(),
            format!("--- New PM2 Daemon started {}", "-".repeat(52)),
            format!("Time                 : {now}"),
            format!("PM2 version          : {}", upkeep_pm2::home::PM2_VERSION),
            format!("Upkeep version       : {}", env!("CARGO_PKG_VERSION")),
            format!("Current arch         : {}", std::env::consts::ARCH),
            format!("PM2 home             : {}", self.home.root.display()),
            format!("PM2 PID file         : {}", self.home.pid.display()),
            format!("RPC socket file      : {}", self.home.rpc.display()),
            format!("BUS socket file      : {}", self.home.publish.display()),
            format!("Application log path : {}", self.home.logs.display()),
            format!("Worker Interval      : {}", self.variables.worker_interval_ms),
            format!("Process dump file    : {}", self.home.dump.display()),
            format!("SIGTERM timeout      : {}", self.variables.kill_timeout_ms),
            line,
        ] {
            self.log(&text);
        }
    }

    /// A line for `pm2.log`, and for who listens.
    pub(super) fn log(&self, text: &str) {
        let now = clock::unix_ms();
        let stamp = date::format(&self.variables.log_date_format, now.cast_signed());
        let line = format!("{stamp}: PM2 log: {text}\n");
        let written = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.home.log)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            crate::main_loop::note(&format!("{text} (and pm2.log cannot be written: {error})"));
        }
        self.bus.publish(
            "log:PM2",
            json!({"process": {"pm_id": "PM2", "name": "PM2", "rev": null}, "at": now, "data": format!("{text}\n")}),
        );
    }

    /// A process by its id.
    pub(super) fn find(&self, id: u64) -> Option<Rc<Process>> {
        self.table.borrow().get(&id).cloned()
    }

    /// All processes, by id.
    pub(super) fn all(&self) -> Vec<Rc<Process>> {
        self.table.borrow().values().cloned().collect()
    }

    /// Waits until something holds of a process. Every change of any process is looked at.
    pub(super) async fn until(&self, process: &Process, holds: impl Fn(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        while !holds(&process.state.borrow()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn touch(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    // ---- the list

    /// Puts a record into the list, stopped.
    pub(super) fn register(&self, mut record: Record, places: process::Places) -> Rc<Process> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        for (key, place) in [
            ("pm_out_log_path", &places.out),
            ("pm_err_log_path", &places.err),
            ("pm_log_path", &places.combined),
        ] {
            if let Some(place) = place {
                let merged = record::flag(&record, "merge_logs") == Some(true) || place == "/dev/null";
                let path = if merged {
                    place.clone()
                } else {
                    with_id(place, ".log", id)
                };
                record.insert(key.to_owned(), path.into());
            }
        }
        if let Some(place) = &places.pid {
            record.insert("pm_pid_path".to_owned(), with_id(place, ".pid", id).into());
        }
        let state = State::new(record, places, &self.variables, clock::monotonic_ms());
        let process = Rc::new(Process {
            id,
            state: RefCell::new(state),
        });
        self.table.borrow_mut().insert(id, Rc::clone(&process));
        process
    }

    /// Fills in what the first start of a record adds to it, in PM2's order.
    pub(super) fn complete(process: &Process) {
        let mut state = process.state.borrow_mut();
        if let Value::Object(env) = state.record.get("env").cloned().unwrap_or_default() {
            for (name, value) in env {
                if !value.is_object() && !value.is_array() && !value.is_null() {
                    state.record.insert(name, value);
                }
            }
        }
        let unique = system::uuid();
        if let Some(Value::Object(env)) = state.record.get_mut("env") {
            env.insert("unique_id".to_owned(), unique.clone().into());
        }
        state.set("unique_id", unique);
        let now = clock::unix_ms();
        state.set("status", "stopped");
        state.set("pm_uptime", now);
        state.forget_agent();
        state.set("axm_options", Map::new());
        state.set("axm_dynamic", Map::new());
        state.set("created_at", now);
        state.set("pm_id", process.id);
        state.set("restart_time", 0);
        state.set("unstable_restarts", 0);
        if state.is_cluster() {
            state.set("_pm2_version", upkeep_pm2::home::PM2_VERSION);
        }
        let version = launch::package_version(&state.record);
        state.set("version", version);
        state.counters = Counters {
            created_ms: Some(clock::monotonic_ms()),
            ..Counters::default()
        };
    }

    /// Takes a stopped process off the list.
    pub(super) fn forget(&self, process: &Rc<Process>) {
        {
            let mut state = process.state.borrow_mut();
            state.deleted = true;
            state.timers.clear();
            state.cron = None;
            state.watch = None;
            state.listen = None;
        }
        self.logs.detach(process.id);
        for name in launch::descriptors(process.id, process.state.borrow().generation) {
            self.context
                .link
                .order(|id| Request::CloseDescriptor { id, name });
        }
        self.context.link.tell(&Request::SetNote {
            key: super::recovery::note_key(process.id),
            bytes: Vec::new(),
        });
        self.table.borrow_mut().remove(&process.id);
        if self.table.borrow().is_empty() {
            self.next_id.set(0);
        }
        self.touch();
    }

    // ---- orders

    /// Starts what is down. What came of it: once the keeper has answered and, if it tells, it is ready.
    pub(super) fn order_start(self: &Rc<Self>, process: &Rc<Process>) -> u64 {
        let before = process.state.borrow().answers;
        {
            let mut state = process.state.borrow_mut();
            state.errored = false;
            state.waits_for_ever = false;
            state.trouble = None;
        }
        watching::arm(self, process);
        worker::arm_cron(self, process);
        self.step(process, Event::Ordered(Order::Start));
        before
    }

    /// Waits until a start that was ordered is over: it is up, or it failed.
    pub(super) async fn started(&self, process: &Process, before: u64) {
        self.until(process, |state| {
            state.deleted || (state.answers > before && (state.online || !state.is_up())) || state.is_down()
        })
        .await;
    }

    /// Stops a process and waits until nothing of it is left.
    pub(super) async fn stop(self: &Rc<Self>, process: &Rc<Process>) {
        let name = process.state.borrow().name();
        self.log(&format!("Stopping app:{name} id:{}", process.id));
        {
            let mut state = process.state.borrow_mut();
            state.waits_for_ever = false;
            state.errored = false;
        }
        self.step(process, Event::Ordered(Order::Stop));
        // Somebody else may want it up again meanwhile.
        self.until(process, |state| {
            state.deleted || state.is_down() || state.machine.desired() == Desired::Up
        })
        .await;
        self.drain(process.id).await;
    }

    /// Waits until what a process has said is in its files.
    pub(super) async fn drain(&self, id: u64) {
        let (sender, receiver) = oneshot::channel();
        self.logs.drain(
            id,
            Box::new(move || {
                // Who waited may have gone away.
                let _ = sender.send(());
            }),
        );
        // An error: the thread ended, and with it the daemon.
        let _ = receiver.await;
    }

    /// A person gives new tries: what was counted is forgotten.
    pub(super) fn forgive(process: &Process) {
        let mut state = process.state.borrow_mut();
        state.set("created_at", clock::unix_ms());
        state.set("unstable_restarts", 0);
        state.set("prev_restart_delay", 0);
        state.counters = Counters {
            created_ms: Some(clock::monotonic_ms()),
            ..Counters::default()
        };
    }

    /// Restarts a process, or starts it if it is down; waits until it is up again.
    pub(super) async fn restart(self: &Rc<Self>, process: &Rc<Process>) {
        Self::forgive(process);
        let before = {
            let mut state = process.state.borrow_mut();
            state.counts = state.is_up();
            state.errored = false;
            state.waits_for_ever = false;
            state.policy = process::policy(&state.record, &self.variables);
            state.answers
        };
        watching::arm(self, process);
        worker::arm_cron(self, process);
        let name = process.state.borrow().name();
        if process.state.borrow().is_up() {
            self.log(&format!("Stopping app:{name} id:{}", process.id));
        }
        self.step(process, Event::Ordered(Order::Restart));
        self.started(process, before).await;
    }

    // ---- the machine

    /// Feeds the machine of a process and does what it says.
    pub(super) fn step(self: &Rc<Self>, process: &Rc<Process>, event: Event) {
        let effects = {
            let mut state = process.state.borrow_mut();
            let policy = state.policy.clone();
            state.machine.step(&policy, clock::monotonic_ms(), event)
        };
        self.carry_out(process, effects);
    }

    pub(super) fn carry_out(self: &Rc<Self>, process: &Rc<Process>, effects: Vec<Effect>) {
        // What is left is of the process before, and has the time that its stop had.
        let (remains, grace) = {
            let state = process.state.borrow();
            let ordered = record::text(&state.record, "status") == Some("stopping");
            let grace = if ordered {
                state.policy.stop.grace.as_millis()
            } else {
                0
            };
            (key(process.id, state.generation), grace)
        };
        if effects.contains(&Effect::Spawn) {
            Self::before_spawn(process);
        }
        self.refresh(process);
        for effect in effects {
            match effect {
                Effect::Spawn => {
                    let waits = {
                        let mut state = process.state.borrow_mut();
                        state.spawn_after_sweep = state.sweep.is_some();
                        state.spawn_after_sweep
                    };
                    if !waits {
                        self.spawn(process);
                    }
                }
                Effect::Signal { signal, tree } => self.signal(process, signal, tree),
                Effect::Sweep => self.sweep(process, remains.clone(), grace),
                Effect::StartTimer { timer, epoch, at_ms } => {
                    let (god, of) = (Rc::clone(self), Rc::downgrade(process));
                    let pause = Duration::from_millis(at_ms.saturating_sub(clock::monotonic_ms()));
                    let task = Task::spawn("pm2 timer", async move {
                        tokio::time::sleep(pause).await;
                        if let Some(process) = of.upgrade() {
                            god.step(&process, Event::TimerFired { timer, epoch });
                        }
                    });
                    process.state.borrow_mut().timers.insert(timer, task);
                }
                Effect::CancelTimer { timer } => {
                    process.state.borrow_mut().timers.remove(&timer);
                }
                Effect::Changed {
                    to: Actual::Killing, ..
                } => {
                    let pid = process.state.borrow().machine.pid().unwrap_or(0);
                    self.log(&format!(
                        "Process with pid {pid} still alive after {}ms, sending it SIGKILL now...",
                        process.state.borrow().policy.stop.grace.as_millis()
                    ));
                }
                Effect::Changed { .. } | Effect::ReadyChanged { .. } => {}
            }
        }
        self.refresh(process);
    }

    /// Brings the record and the keeper's note up to date, and tells who waits.
    pub(super) fn refresh(&self, process: &Process) {
        let mut state = process.state.borrow_mut();
        let status = state.status();
        state.set("status", status);
        if state.deleted || state.retired {
            drop(state);
            self.touch();
            return;
        }
        let kept = serde_json::to_vec(&state.kept()).unwrap_or_default();
        drop(state);
        self.context.link.tell(&Request::SetNote {
            key: super::recovery::note_key(process.id),
            bytes: kept,
        });
        self.release_listeners(process);
        self.touch();
    }

    /// A stopped app must not hold its ports.
    fn release_listeners(&self, process: &Process) {
        let name = {
            let state = process.state.borrow();
            if !state.is_cluster() || !state.is_down() {
                return;
            }
            state.name()
        };
        let in_use = self.cluster.is_retiring(&name)
            || self.table.borrow().values().any(|other| {
                let state = other.state.borrow();
                state.name() == name && !state.is_down()
            });
        if !in_use {
            self.cluster.release(&name);
        }
    }

    /// What a start changes in the record.
    fn before_spawn(process: &Process) {
        let mut state = process.state.borrow_mut();
        if let Value::Object(env) = state.record.get("env").cloned().unwrap_or_default() {
            for (name, value) in env {
                if !value.is_object() && !value.is_array() && !value.is_null() {
                    state.record.insert(name, value);
                }
            }
        }
        if std::mem::take(&mut state.counts) {
            let restarts = record::count(&state.record, "restart_time").unwrap_or(0);
            state.set("restart_time", restarts.saturating_add(1));
        }
        let now = clock::unix_ms();
        state.set("pm_uptime", now);
        state.forget_agent();
        state.set("axm_options", Map::new());
        state.set("axm_dynamic", Map::new());
        if state.record.get("created_at").is_none_or(Value::is_null) {
            state.set("created_at", now);
            state.counters.created_ms = Some(clock::monotonic_ms());
        }
        if !state.record.contains_key("prev_restart_delay") && state.counters.last_delay_ms > 0 {
            let delay = state.counters.last_delay_ms;
            state.set("prev_restart_delay", delay);
        }
        state.generation += 1;
        state.online = false;
        state.listening = false;
    }

    fn spawn(self: &Rc<Self>, process: &Rc<Process>) {
        let name = process.state.borrow().name();
        let mode = if process.state.borrow().is_cluster() {
            "cluster"
        } else {
            "fork"
        };
        self.log(&format!("App [{name}:{}] starting in -{mode} mode-", process.id));
        if let Err(why) = launch::spawn(self, process) {
            let key = {
                let state = process.state.borrow();
                key(process.id, state.generation)
            };
            // As a message of its own, because a step must not be taken within a step.
            let (god, process) = (Rc::clone(self), Rc::clone(process));
            Task::spawn_short("pm2 refusal", async move {
                god.refused(&process, &key, why);
            });
        }
    }

    fn signal(self: &Rc<Self>, process: &Rc<Process>, signal: i32, tree: bool) {
        let state = process.state.borrow();
        if signal == BY_MESSAGE {
            let told = state
                .channel
                .as_ref()
                .is_some_and(|channel| channel.send(&Value::String("shutdown".to_owned())));
            if told {
                return;
            }
        }
        let signal = if signal == BY_MESSAGE {
            self.variables.kill_signal
        } else {
            signal
        };
        let key = key(process.id, state.generation);
        // `treekill: false` holds for SIGKILL too.
        let whole = record::flag(&state.record, "treekill") != Some(false);
        let scope = if tree && whole { Scope::Tree } else { Scope::Leader };
        self.context.link.order(|id| Request::Signal {
            id,
            key,
            signal,
            scope,
        });
    }

    /// The main process has ended, and others of its tree have not: what was told to stop gets the rest of its
    /// time, then SIGKILL; what is left by a crash gets SIGKILL. `treekill: false` leaves them alone.
    fn sweep(self: &Rc<Self>, process: &Rc<Process>, key: String, grace: u64) {
        let whole = record::flag(&process.state.borrow().record, "treekill") != Some(false);
        if !whole {
            return;
        }
        let (god, of) = (Rc::clone(self), Rc::downgrade(process));
        let task = Task::spawn("pm2 sweep", async move {
            let deadline = clock::monotonic_ms().saturating_add(grace);
            loop {
                let late = clock::monotonic_ms() >= deadline;
                let signal = if late { SIGKILL } else { SIGCONT };
                let key = key.clone();
                let answer = god.context.link.ask(|id| Request::Signal {
                    id,
                    key,
                    signal,
                    scope: Scope::Tree,
                });
                let left = matches!(answer.wait().await, Ok(KeeperEvent::Done { count, .. }) if count > 0);
                // A process in uninterruptible sleep is not waited for.
                if !left || clock::monotonic_ms() > deadline.saturating_add(5000) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(if late { 5 } else { 30 })).await;
            }
            if let Some(process) = of.upgrade() {
                let spawn = {
                    let mut state = process.state.borrow_mut();
                    // It is this task: it ends without another wait.
                    state.sweep = None;
                    std::mem::take(&mut state.spawn_after_sweep)
                };
                god.refresh(&process);
                if spawn {
                    god.spawn(&process);
                }
            }
        });
        process.state.borrow_mut().sweep = Some(task);
    }

    // ---- what the keeper says

    /// Takes what concerns PM2's processes; gives back what does not.
    pub(crate) fn news(self: &Rc<Self>, news: News) -> Option<News> {
        match news {
            News::Spawned { key, pid } if process::parse_key(&key).is_some() => self.spawned(&key, pid),
            News::SpawnRefused { key, why } if process::parse_key(&key).is_some() => {
                self.spawn_refused(&key, why);
            }
            News::Pipe { key, pipe, made } if process::parse_key(&key).is_some() => self.pipe(&pipe, made),
            News::Other(KeeperEvent::Exited(exit)) if process::parse_key(&exit.key).is_some() => {
                self.exited(exit);
            }
            other => return Some(other),
        }
        None
    }

    /// A process was started.
    fn spawned(self: &Rc<Self>, key: &str, pid: u32) {
        let Some(process) = self.of_key(key) else { return };
        self.step(&process, Event::Spawned { pid });
        let (waits, timeout, path, name) = {
            let mut state = process.state.borrow_mut();
            state.answers += 1;
            let waits = state.machine.actual() == Actual::Running
                && (record::flag(&state.record, "wait_ready") == Some(true) && state.channel.is_some());
            let timeout =
                record::millis(&state.record, "listen_timeout").unwrap_or(self.variables.listen_timeout_ms);
            let path = record::text(&state.record, "pm_pid_path").map(str::to_owned);
            if state.machine.actual() == Actual::Running && !waits {
                state.online = true;
            }
            (waits, timeout, path, state.name())
        };
        if let Some(path) = path
            && process.state.borrow().machine.pid() == Some(pid)
            && let Err(error) = std::fs::write(&path, pid.to_string())
        {
            self.log(&format!(
                "the pid file {path} of {name} cannot be written: {error}"
            ));
        }
        self.publish_process("online", false, &process, Some("launching"));
        self.log(&format!("App [{name}:{}] online", process.id));
        if waits {
            let (god, of) = (Rc::clone(self), Rc::downgrade(&process));
            let task = Task::spawn("pm2 listen timeout", async move {
                tokio::time::sleep(Duration::from_millis(timeout)).await;
                if let Some(process) = of.upgrade() {
                    god.ready(&process);
                }
            });
            process.state.borrow_mut().listen = Some(task);
        }
        self.refresh(&process);
    }

    /// It is ready, or has had its time to say so.
    pub(super) fn ready(&self, process: &Process) {
        let mut state = process.state.borrow_mut();
        // It may be what calls: then it ends without another wait.
        state.listen = None;
        if state.machine.actual() == Actual::Running && !state.online {
            state.online = true;
            drop(state);
            self.refresh(process);
        }
    }

    /// A process could not be started.
    fn spawn_refused(self: &Rc<Self>, key: &str, why: String) {
        if let Some(process) = self.of_key(key) {
            self.refused(&process, key, why);
        }
    }

    fn refused(self: &Rc<Self>, process: &Rc<Process>, _key: &str, why: String) {
        let name = process.state.borrow().name();
        self.log(&format!(
            "App [{name}:{}] could not be started: {why}",
            process.id
        ));
        {
            let mut state = process.state.borrow_mut();
            state.answers += 1;
            state.errored = true;
            state.trouble = Some(why.clone());
            state.policy.restart.on = RestartOn::Never;
            state.hang_up(process.id);
        }
        let generation = process.state.borrow().generation;
        for name in launch::child_descriptors(process.id, generation) {
            self.context
                .link
                .order(|id| Request::CloseDescriptor { id, name });
        }
        self.step(process, Event::SpawnFailed { why });
    }

    /// A log pipe was made, or could not be.
    fn pipe(&self, pipe: &str, made: Result<std::os::fd::OwnedFd, String>) {
        let Some((id, stream)) = launch::parse_pipe(pipe) else {
            return;
        };
        let Some(process) = self.find(id) else { return };
        let mut state = process.state.borrow_mut();
        match made {
            Ok(descriptor) => {
                let sinks = launch::sinks(&state, stream);
                self.logs.attach((id, stream), descriptor, sinks);
            }
            // The next start asks again.
            Err(why) => {
                state.piped.remove(pipe);
                crate::main_loop::note(&format!("no pipe for the output of a process of PM2: {why}"));
            }
        }
    }

    pub(super) fn of_key(&self, key: &str) -> Option<Rc<Process>> {
        let (id, generation) = process::parse_key(key)?;
        self.find(id)
            .filter(|process| process.state.borrow().generation == generation)
            .or_else(|| self.cluster.retiring(id, generation))
    }

    /// A process has ended.
    fn exited(self: &Rc<Self>, exit: ExitRecord) {
        let Some(process) = self.of_key(&exit.key) else {
            self.remember(&exit, "of a process that is no longer in the list".to_owned(), "");
            return;
        };
        self.judge(&process, &exit);
        self.end_of(&process, &exit);
        let (why, name) = {
            let state = process.state.borrow();
            (state.machine.why().to_owned(), state.name())
        };
        self.remember(&exit, why, &name);
    }

    /// Makes an exit durable in the event log, then lets the keeper forget it.
    pub(super) fn remember(&self, exit: &ExitRecord, verdict: String, name: &str) {
        let id = process::parse_key(&exit.key).map_or(0, |(id, _)| id);
        let event = exits::event(
            &format!("{name}:{id}"),
            exit,
            self.context.epoch,
            verdict,
            exits::Meaning::default(),
        );
        exits::store(&self.context.events, &self.context.outcomes, event, exit.seq);
    }

    /// PM2's rules on an exit: the record is brought up to date, and the machine's policy is the verdict.
    pub(super) fn judge(&self, process: &Rc<Process>, exit: &ExitRecord) {
        let code = match exit.how {
            Ended::Code(code) => i64::from(code),
            Ended::Signal { .. } | Ended::Unknown => 0,
        };
        let signal = match exit.how {
            Ended::Signal { number, .. } => system::signal_name(i32::from(number)),
            Ended::Code(_) | Ended::Unknown => "SIGINT".to_owned(),
        };
        let uptime_ms = exit.exited_mono_ms.saturating_sub(exit.started_mono_ms);
        let (verdict, ordered, name, path) = {
            let mut state = process.state.borrow_mut();
            // An old worker that is told to disconnect ends by itself.
            let ordered = state.retired
                || matches!(state.machine.actual(), Actual::Stopping | Actual::Killing)
                || record::text(&state.record, "status") == Some("stopping");
            let rules = rules(&state.record);
            let mut counters = state.counters;
            let verdict = pm2::judge(
                &rules,
                &mut counters,
                clock::monotonic_ms(),
                pm2::Exit {
                    code,
                    uptime_ms,
                    ordered,
                },
            );
            state.counters = counters;
            state.set("unstable_restarts", counters.unstable);
            if counters.last_delay_ms > 0 {
                state.set("prev_restart_delay", counters.last_delay_ms);
            }
            if verdict == Verdict::GiveUp {
                state.set("created_at", Value::Null);
            }
            state.forget_agent();
            if ordered {
                state.set("_tree_pids", vec![exit.pid]);
            }
            state.set("exit_code", code);
            let (on, after) = match verdict {
                Verdict::Restart { after_ms } => (RestartOn::Always, after_ms),
                Verdict::Stay | Verdict::StayWaiting | Verdict::GiveUp => (RestartOn::Never, 0),
            };
            state.policy.restart.on = on;
            state.policy.restart.backoff = match after {
                0 => Backoff::None,
                _ => Backoff::Fixed {
                    delay: Span::from_millis(after),
                },
            };
            state.errored |= verdict == Verdict::GiveUp;
            state.waits_for_ever = verdict == Verdict::StayWaiting;
            if !ordered {
                state.counts = matches!(verdict, Verdict::Restart { .. });
                state.set(
                    "status",
                    if verdict == Verdict::GiveUp {
                        "errored"
                    } else {
                        "stopped"
                    },
                );
            }
            state.listen = None;
            state.hang_up(process.id);
            // The pid file is the new one's by now.
            let path = record::text(&state.record, "pm_pid_path")
                .filter(|_| !state.retired)
                .map(str::to_owned);
            (verdict, ordered, state.name(), path)
        };
        if let Some(path) = path {
            // It may have been removed already.
            let _ = std::fs::remove_file(path);
        }
        let generation = process.state.borrow().generation;
        for name in launch::child_descriptors(process.id, generation) {
            self.context
                .link
                .order(|id| Request::CloseDescriptor { id, name });
        }
        self.log(&format!(
            "App [{name}:{}] exited with code [{code}] via signal [{signal}]",
            process.id
        ));
        if verdict == Verdict::GiveUp {
            self.log(&format!(
                "Script had too many unstable restarts ({}). Stopped. \"errored\"",
                rules(&process.state.borrow().record).max_restarts
            ));
            self.publish_process("restart overlimit", false, process, None);
        }
        self.publish_process("exit", false, process, None);
        if ordered {
            // PM2 tells of an end that was ordered twice.
            self.log(&format!("pid={} msg=process killed", exit.pid));
            self.publish_process("exit", false, process, Some("stopped"));
        }
        if let Verdict::Restart { after_ms } = verdict
            && after_ms > 0
        {
            self.log(&format!(
                "App [{name}:{}] will restart in {after_ms}ms",
                process.id
            ));
        }
    }

    /// Tells the machine of an exit that was judged.
    fn end_of(self: &Rc<Self>, process: &Rc<Process>, exit: &ExitRecord) {
        self.step(
            process,
            Event::Exited {
                pid: exit.pid,
                exit: exits::exit(exit.how),
                uptime_ms: exit.exited_mono_ms.saturating_sub(exit.started_mono_ms),
                leftovers: exit.leftovers,
            },
        );
    }

    /// What a child says over its channel.
    pub(super) fn heard(self: &Rc<Self>, process: &Rc<Process>, generation: u64, heard: Heard) {
        if process.state.borrow().generation != generation {
            return;
        }
        match heard {
            Heard::Message(message) => super::methods::message(self, process, message),
            Heard::Undelivered(message) => {
                let primary = process.state.borrow().primary.clone();
                if let Some(primary) = primary {
                    primary.undelivered(&key(process.id, generation), &message);
                }
            }
            Heard::End => {} // its exit is told by the keeper
        }
    }

    // ---- what is told

    /// The record as events show it: without `env`.
    pub(super) fn publish_process(
        &self,
        event: &str,
        manually: bool,
        process: &Process,
        status: Option<&str>,
    ) {
        if !self.bus.is_heard() {
            return;
        }
        let mut shown = process.state.borrow().record.clone();
        shown.shift_remove("env");
        if let Some(status) = status {
            shown.insert("status".to_owned(), status.into());
        }
        self.bus.publish(
            "process:event",
            json!({"event": event, "manually": manually, "process": shown, "at": clock::unix_ms()}),
        );
    }

    /// Makes what a command changed durable, with one event that says who did it. Waits until it is.
    pub(super) async fn commit(&self, who: &str, what: &str, ids: &[u64]) {
        let mut txn = Txn::default();
        let mut targets = Vec::new();
        for id in ids {
            match self.find(*id) {
                Some(process) => {
                    let state = process.state.borrow();
                    targets.push(format!("{}:{id}", state.name()));
                    let bytes = serde_json::to_vec(&state.kept()).unwrap_or_default();
                    txn.puts.push((store_key(*id), bytes));
                }
                None => txn.deletes.push(store_key(*id)),
            }
        }
        let event = LogEvent {
            id: 0,
            at: events::now(),
            who: who.to_owned(),
            what: what.to_owned(),
            target: if targets.is_empty() {
                ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
            } else {
                targets.join(" ")
            },
            why: "pm2".to_owned(),
            result: "done".to_owned(),
            details: BTreeMap::new(),
        };
        let (sender, receiver) = oneshot::channel();
        self.context.events.commit(txn, event, move |result| {
            // Who waited may have gone away.
            let _ = sender.send(result.err());
        });
        if let Ok(Some(error)) = receiver.await {
            // PM2's users expect their command to work on a full disk too; only the keeper's notes have it then.
            self.log(&format!("the list could not be stored: {error}"));
        }
    }

    /// Ends everything in order, for a signal to the keeper: dumps the list and deletes every process.
    /// `false`: that is under way already.
    pub(crate) async fn end(self: &Rc<Self>) -> bool {
        if self.ending.replace(true) {
            return false;
        }
        self.log("pm2 has been killed by signal, dumping process list before exit...");
        self.bus.publish(
            "pm2:kill",
            json!({"status": "killed", "msg": "pm2 has been killed by SIGTERM"}),
        );
        if let Err(error) = super::methods::dump(self) {
            self.log(&format!("the list could not be dumped: {error}"));
        }
        self.delete_all("signal").await;
        self.close().await;
        true
    }

    /// Stops and forgets every process.
    pub(super) async fn delete_all(self: &Rc<Self>, who: &str) {
        self.ending.set(true);
        let all = self.all();
        let ids: Vec<u64> = all.iter().map(|process| process.id).collect();
        let stops = all.iter().map(|process| self.stop(process));
        futures_util::future::join_all(stops).await;
        let retiring = self.cluster.all_retiring();
        futures_util::future::join_all(retiring.iter().map(|process| self.stop(process))).await;
        for process in &all {
            self.forget(process);
        }
        self.commit(who, "kill", &ids).await;
    }

    /// What a clean end leaves behind: no sockets, no pid file.
    pub(super) async fn close(&self) {
        self.log("Exited peacefully");
        self.bus.settle().await;
        for path in [&self.home.rpc, &self.home.publish, &self.home.pid] {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// SIGUSR2, which the keeper passes on: logs are opened anew, for `logrotate`.
fn reopen_by_signal(god: &Rc<God>) -> std::io::Result<Task> {
    let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined2())?;
    let god = Rc::clone(god);
    Ok(Task::spawn("pm2 reopen", async move {
        while signals.recv().await.is_some() {
            god.log("SIGUSR2: Reloading logs...");
            god.logs.reopen();
        }
    }))
}

/// Key of a process in the store.
pub(super) fn store_key(id: u64) -> String {
    // Padded, so that they come in order.
    format!("{PREFIX}{id:010}")
}
