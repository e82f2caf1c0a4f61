//! The actor of one app: feeds its state machines and does what they say.
//!
//! It waits for mail, for the nearest timer and, while an instance waits for dependencies, for changes of other apps.
//! It never waits for anything else: requests to the keeper and to the store are handed over, their answers come back
//! as mail. So a slow disk or a slow keeper delays no decision.
//!
//! Before any effect of a step is carried out, the machine's new state is noted with the keeper (the note and the
//! requests travel in order over one socket): whatever the keeper was asked for, the next daemon knows of.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
    os::fd::OwnedFd,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};
use upkeep_api::body::Event as LogEvent;
use upkeep_keeper::protocol::{ExitRecord, Request, Scope};
use upkeep_model::{
    app::AppSpec,
    id::AppName,
    state::{Actual, Desired},
};
use upkeep_store::Txn;
use upkeep_supervise::{
    effect::Effect,
    event::{Event, Order, Timer},
    instance::{Instance, Policy, Recovered},
    order::Gate,
};
use upkeep_sys::clock;

use super::{
    dependencies,
    directory::{AppEntry, AppRecord, Directory, InstanceStatus, Status},
    exits, launch, probe,
};
use crate::{
    events::{self, Events},
    keeper_link::KeeperLink,
    logs::pump::Pump,
    tasks::Task,
};

/// How many letters an actor's mailbox holds. Exits and answers of the keeper wait for room, orders are refused.
pub(crate) const MAILBOX: usize = 256;

/// What every actor needs.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) link: KeeperLink,
    pub(crate) pump: Pump,
    pub(crate) events: Events,
    pub(crate) directory: Arc<Directory>,
    pub(crate) logs: PathBuf,
    /// Counts changes of any instance's state or readiness.
    pub(crate) changes: watch::Sender<u64>,
    /// What became of exits that were to be stored.
    pub(crate) outcomes: mpsc::Sender<exits::Outcome>,
    /// The keeper's epoch: exit sequence numbers count within it.
    pub(crate) epoch: u64,
    /// Log pipes that we hold or have asked for, and how many there may be: the API needs descriptors too.
    pub(crate) pipes: Cell<u64>,
    pub(crate) pipes_max: u64,
}

impl Context {
    fn pipe_gone(&self) {
        self.pipes.set(self.pipes.get().saturating_sub(1));
    }
}

/// What comes to an actor.
#[derive(Debug)]
pub(crate) enum Mail {
    /// An order for some instances (`None`: all).
    Order {
        order: Order,
        instances: Option<Vec<u32>>,
        done: oneshot::Sender<()>,
    },
    /// A new record; `restart`: end what runs and start it anew.
    Update {
        record: Arc<AppRecord>,
        restart: bool,
        done: oneshot::Sender<()>,
    },
    /// The keeper started it.
    Spawned { index: u32, pid: u32 },
    /// The keeper could not start it.
    SpawnRefused { index: u32, why: String },
    /// The keeper made a pipe, or could not.
    Pipe {
        pipe: String,
        made: Result<OwnedFd, String>,
    },
    /// The keeper saw it end.
    Exited { index: u32, record: ExitRecord },
    /// A readiness check came to a conclusion.
    Readiness {
        index: u32,
        pid: u32,
        verdict: Result<(), String>,
    },
    /// Everything has been stopped: close the logs and end.
    Retire { done: oneshot::Sender<()> },
}

struct Slot {
    index: u32,
    id: u32,
    machine: Instance,
    timers: BTreeMap<Timer, (u64, u64)>,
    probe: Option<Task>,
    /// More instances than the record wants: forget it once it has stopped.
    surplus: bool,
    shown: Option<(Actual, bool)>,
}

/// The actor.
pub(crate) struct Actor {
    context: Rc<Context>,
    name: AppName,
    record: Arc<AppRecord>,
    policy: Policy,
    slots: Vec<Slot>,
    /// Pipes that the pump has.
    piped: HashSet<String>,
    /// What a waiting instance waits for.
    pending: Option<String>,
    /// Why pipes could not be made, by their names.
    unpiped: HashMap<String, String>,
    mailbox: mpsc::Receiver<Mail>,
    /// Our own address: weak, because the mailbox ends when the directory forgets us.
    own: mpsc::WeakSender<Mail>,
    status: watch::Sender<Status>,
    changes: watch::Receiver<u64>,
}

/// What a new daemon knows of one instance.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) note: Option<Vec<u8>>,
    pub(crate) recovered: Recovered,
    /// Exit records to be told of, oldest first.
    pub(crate) exits: Vec<ExitRecord>,
}

fn policy(spec: &AppSpec) -> Policy {
    Policy {
        restart: spec.restart.clone(),
        stop: spec.stop,
        has_dependencies: !spec.depends_on.is_empty(),
        has_readiness: spec.readiness.is_some(),
    }
}

/// Key of an instance's note with the keeper.
pub(crate) fn note_key(key: &str) -> String {
    format!("instance:{key}")
}

impl Actor {
    /// Makes the actor of an app and puts the app into the directory. `known`: what the keeper and its notes tell of
    /// earlier instances, by index.
    pub(crate) fn start(
        context: &Rc<Context>,
        record: Arc<AppRecord>,
        revision: u64,
        mut known: BTreeMap<u32, Known>,
    ) -> Task {
        let name = record.spec.name.clone();
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let (status, receiver) = watch::channel(Status::default());
        let mut actor = Self {
            context: Rc::clone(context),
            name: name.clone(),
            policy: policy(&record.spec),
            slots: Vec::new(),
            piped: HashSet::new(),
            pending: None,
            unpiped: HashMap::new(),
            mailbox,
            own: sender.downgrade(),
            status,
            changes: context.changes.subscribe(),
            record: Arc::clone(&record),
        };
        // A process of an index that the record no longer has must be ended: it gets a slot too.
        let wanted = u32::try_from(record.instances.len()).unwrap_or(u32::MAX);
        let highest = known
            .keys()
            .next_back()
            .map_or(wanted, |index| wanted.max(index + 1));
        for index in 0..highest {
            let known = known.remove(&index).unwrap_or_default();
            if index < wanted || known.recovered.alive.is_some() {
                actor.add_recovered(index, index >= wanted, known);
            }
        }
        actor.publish();
        context.directory.insert(
            name,
            AppEntry {
                record,
                revision,
                mailbox: sender,
                status: receiver,
            },
        );
        Task::spawn("app", actor.run())
    }

    fn add_recovered(&mut self, index: u32, surplus: bool, known: Known) {
        let now = clock::monotonic_ms();
        let desired = self
            .record
            .instances
            .get(index as usize)
            .map_or(Desired::Down, |instance| instance.desired);
        let restored = known
            .note
            .and_then(|note| serde_json::from_slice::<Instance>(&note).ok());
        let is_new = restored.is_none();
        let mut slot = Slot {
            index,
            id: self
                .record
                .instances
                .get(index as usize)
                .map_or(u32::MAX, |instance| instance.id),
            machine: restored.unwrap_or_else(|| Instance::new(now)),
            timers: BTreeMap::new(),
            probe: None,
            surplus,
            shown: None,
        };
        self.open_logs(index);
        let alive = known.recovered.alive;
        let mut effects = Vec::new();
        if is_new && desired == Desired::Up {
            effects = slot.machine.step(&self.policy, now, Event::Ordered(Order::Start));
            if alive.is_some() {
                effects.retain(|effect| *effect != Effect::Spawn);
            } else {
                // Nothing was known of it: there is no earlier process whose fate could matter.
                self.carry_out(&mut slot, effects);
                self.tell_exits(&slot, known.exits);
                self.slots.push(slot);
                return;
            }
        }
        effects.extend(slot.machine.recover(&self.policy, now, known.recovered));
        // The record is what was wanted last: an order that was made durable and not carried out is carried out now.
        match (desired, slot.machine.desired()) {
            (Desired::Up, Desired::Down) => {
                effects.extend(slot.machine.step(&self.policy, now, Event::Ordered(Order::Start)));
            }
            (Desired::Down, Desired::Up) => {
                effects.extend(slot.machine.step(&self.policy, now, Event::Ordered(Order::Stop)));
            }
            (Desired::Up, Desired::Up) | (Desired::Down, Desired::Down) => {}
        }
        if alive.is_some() && slot.machine.actual() == Actual::Running {
            self.start_probe(&mut slot);
        }
        self.tell_exits(&slot, known.exits);
        self.carry_out(&mut slot, effects);
        self.slots.push(slot);
    }

    fn tell_exits(&self, slot: &Slot, exits: Vec<ExitRecord>) {
        for record in exits {
            self.log_exit(
                slot.index,
                record,
                format!("seen by a new daemon: {}", slot.machine.why()),
            );
        }
    }

    async fn run(mut self) {
        loop {
            let waiting = self
                .slots
                .iter()
                .any(|slot| slot.machine.actual() == Actual::Waiting);
            if waiting {
                self.changes.mark_unchanged();
                self.check_dependencies();
            }
            let due = self
                .slots
                .iter()
                .flat_map(|slot| slot.timers.values().map(|(_, at)| *at))
                .min();
            let pause = due.map_or(Duration::from_hours(1), |due| {
                Duration::from_millis(due.saturating_sub(clock::monotonic_ms()))
            });
            tokio::select! {
                biased;
                // Cancel-safe: a letter is taken only when it is returned.
                mail = self.mailbox.recv() => match mail {
                    Some(Mail::Retire { done }) => {
                        self.retire(done);
                        return;
                    }
                    Some(mail) => self.open(mail),
                    None => return,
                },
                // Cancel-safe: the version seen is kept in the receiver.
                _ = self.changes.changed(), if waiting => {}
                // Cancel-safe: it is computed anew.
                () = tokio::time::sleep(pause), if due.is_some() => self.fire_timers(),
            }
        }
    }

    fn open(&mut self, mail: Mail) {
        match mail {
            Mail::Order {
                order,
                instances,
                done,
            } => {
                for at in 0..self.slots.len() {
                    let wanted = instances
                        .as_ref()
                        .is_none_or(|chosen| chosen.contains(&self.slots[at].index));
                    if wanted && !self.slots[at].surplus {
                        self.step(at, Event::Ordered(order));
                    }
                }
                // Who ordered it may have gone away.
                let _ = done.send(());
            }
            Mail::Update {
                record,
                restart,
                done,
            } => {
                self.update(record, restart);
                let _ = done.send(());
            }
            Mail::Spawned { index, pid } => self.step_index(index, Event::Spawned { pid }),
            Mail::SpawnRefused { index, why } => {
                let why = self.why_without_pipes(index).unwrap_or(why);
                self.step_index(index, Event::SpawnFailed { why });
            }
            Mail::Pipe { pipe, made } => self.pipe_made(pipe, made),
            Mail::Exited { index, record } => self.exited(index, record),
            Mail::Readiness { index, pid, verdict } => {
                if self
                    .slots
                    .iter()
                    .any(|slot| slot.index == index && slot.machine.pid() == Some(pid))
                {
                    self.step_index(
                        index,
                        match verdict {
                            Ok(()) => Event::BecameReady,
                            Err(why) => Event::BecameUnready { why },
                        },
                    );
                }
            }
            Mail::Retire { .. } => {} // handled by the loop, which it ends
        }
        self.forget_surplus();
    }

    fn step_index(&mut self, index: u32, event: Event) {
        if let Some(at) = self.slots.iter().position(|slot| slot.index == index) {
            self.step(at, event);
        }
    }

    fn step(&mut self, at: usize, event: Event) {
        let effects = self.slots[at]
            .machine
            .step(&self.policy, clock::monotonic_ms(), event);
        let mut slot = self.slots.remove(at);
        self.carry_out(&mut slot, effects);
        self.slots.insert(at, slot);
        self.publish();
    }

    fn exited(&mut self, index: u32, record: ExitRecord) {
        let Some(at) = self.slots.iter().position(|slot| slot.index == index) else {
            self.log_exit(
                index,
                record,
                "of an instance that is no longer wanted".to_owned(),
            );
            return;
        };
        let ours = self.slots[at].machine.pid().is_none_or(|pid| pid == record.pid);
        self.slots[at].probe = None;
        self.step(
            at,
            Event::Exited {
                pid: record.pid,
                exit: exits::exit(record.how),
                uptime_ms: record.exited_mono_ms.saturating_sub(record.started_mono_ms),
                leftovers: record.leftovers,
            },
        );
        let why = self.slots[at].machine.why().to_owned();
        self.log_exit(
            index,
            record,
            if ours {
                why
            } else {
                "of an earlier process".to_owned()
            },
        );
    }

    /// Makes an exit durable, then lets the keeper forget it. Tried again while the disk refuses.
    fn log_exit(&self, index: u32, record: ExitRecord, verdict: String) {
        let event = exits::event(
            &format!("{}:{index}", self.name),
            &record,
            self.context.epoch,
            verdict,
        );
        exits::store(&self.context.events, &self.context.outcomes, event, record.seq);
    }

    fn fire_timers(&mut self) {
        let now = clock::monotonic_ms();
        for at in 0..self.slots.len() {
            let due: Vec<(Timer, u64)> = self.slots[at]
                .timers
                .iter()
                .filter(|(_, (_, at_ms))| *at_ms <= now)
                .map(|(timer, (epoch, _))| (*timer, *epoch))
                .collect();
            for (timer, epoch) in due {
                self.slots[at].timers.remove(&timer);
                self.step(at, Event::TimerFired { timer, epoch });
            }
        }
        self.forget_surplus();
    }

    fn check_dependencies(&mut self) {
        let verdict = dependencies::judge_all(&self.context.directory.read(), &self.record.spec.depends_on);
        let pending = match &verdict {
            Gate::Pending(why) => Some(format!("waits for what it depends on: {why}")),
            Gate::Met | Gate::Never(_) => None,
        };
        if self.pending != pending {
            self.pending = pending;
            self.publish();
        }
        for at in 0..self.slots.len() {
            if self.slots[at].machine.actual() != Actual::Waiting {
                continue;
            }
            match &verdict {
                Gate::Met => self.step(at, Event::DependenciesMet),
                Gate::Never(why) if !self.slots[at].machine.why().contains(why.as_str()) => {
                    self.step(at, Event::DependencyFailed { why: why.clone() });
                }
                Gate::Never(_) | Gate::Pending(_) => {}
            }
        }
    }

    fn update(&mut self, record: Arc<AppRecord>, restart: bool) {
        self.record = record;
        self.policy = policy(&self.record.spec);
        let wanted = self.record.instances.len();
        for at in 0..self.slots.len() {
            let index = self.slots[at].index;
            if index as usize >= wanted {
                self.slots[at].surplus = true;
                self.step(at, Event::Ordered(Order::Stop));
                continue;
            }
            self.slots[at].surplus = false;
            self.slots[at].id = self.record.instances[index as usize].id;
            self.open_logs(index);
            let order = match self.record.instances[index as usize].desired {
                Desired::Down => Order::Stop,
                Desired::Up if restart => Order::Restart,
                Desired::Up => Order::Start,
            };
            self.step(at, Event::Ordered(order));
        }
        for index in 0..u32::try_from(wanted).unwrap_or(u32::MAX) {
            if !self.slots.iter().any(|slot| slot.index == index) {
                self.add_recovered(index, false, Known::default());
            }
        }
        self.slots.sort_by_key(|slot| slot.index);
        self.publish();
    }

    fn forget_surplus(&mut self) {
        let before = self.slots.len();
        let context = Rc::clone(&self.context);
        let (name, logs, spec) = (&self.name, &self.context.logs, &self.record.spec);
        let piped = &mut self.piped;
        self.slots.retain(|slot| {
            let gone = slot.surplus && slot.machine.actual() == Actual::Stopped;
            if gone {
                context.link.tell(&Request::SetNote {
                    key: note_key(&launch::key(name, slot.index)),
                    bytes: Vec::new(),
                });
                for place in launch::log_places(spec, slot.index, logs) {
                    if place.index.is_some() && piped.remove(&place.pipe) {
                        close_log(&context, place.pipe);
                    }
                }
            }
            !gone
        });
        if self.slots.len() != before {
            self.publish();
        }
    }

    fn retire(self, done: oneshot::Sender<()>) {
        for slot in &self.slots {
            let key = launch::key(&self.name, slot.index);
            self.context.link.tell(&Request::SetNote {
                key: note_key(&key),
                bytes: Vec::new(),
            });
        }
        for pipe in self.piped {
            close_log(&self.context, pipe);
        }
        // Who ordered it may have gone away.
        let _ = done.send(());
    }

    fn carry_out(&mut self, slot: &mut Slot, effects: Vec<Effect>) {
        let key = launch::key(&self.name, slot.index);
        // First of all: whatever follows, the next daemon knows of it.
        let bytes = serde_json::to_vec(&slot.machine).unwrap_or_default();
        self.context.link.tell(&Request::SetNote {
            key: note_key(&key),
            bytes,
        });
        for effect in effects {
            match effect {
                Effect::Spawn => self.launch(slot, key.clone()),
                Effect::Signal { signal, tree } => {
                    let scope = if tree { Scope::Tree } else { Scope::Leader };
                    self.context.link.order(|id| Request::Signal {
                        id,
                        key: key.clone(),
                        signal,
                        scope,
                    });
                }
                Effect::Sweep => {
                    self.context.link.order(|id| Request::Signal {
                        id,
                        key: key.clone(),
                        signal: SIGKILL,
                        scope: Scope::Tree,
                    });
                }
                Effect::StartTimer { timer, epoch, at_ms } => {
                    slot.timers.insert(timer, (epoch, at_ms));
                }
                Effect::CancelTimer { timer } => {
                    slot.timers.remove(&timer);
                }
                Effect::Changed { from, to, why, .. } => self.changed(slot, from, to, why),
                Effect::ReadyChanged { ready, why } => {
                    if self.policy.has_readiness {
                        self.log(
                            slot.index,
                            if ready { "ready" } else { "unready" },
                            why,
                            String::new(),
                        );
                    }
                }
            }
        }
    }

    fn changed(&mut self, slot: &mut Slot, from: Actual, to: Actual, why: String) {
        if to == Actual::Running {
            self.start_probe(slot);
        } else {
            slot.probe = None;
        }
        match to {
            // The exit's own event tells of these, unless there was no process.
            Actual::GaveUp | Actual::BackingOff | Actual::Failed | Actual::Completed
                if from == Actual::Starting =>
            {
                self.log(slot.index, "start_failed", why, to.to_string());
            }
            Actual::Killing => self.log(
                slot.index,
                "killed",
                why,
                "SIGKILL sent to the whole tree".to_owned(),
            ),
            _ => {}
        }
    }

    fn log(&self, index: u32, what: &str, why: String, result: String) {
        let event = LogEvent {
            id: 0,
            at: events::now(),
            who: "upkeep".to_owned(),
            what: what.to_owned(),
            target: format!("{}:{index}", self.name),
            why,
            result,
            details: BTreeMap::new(),
        };
        // An event that a full disk refuses is lost; the state itself is not.
        self.context.events.commit(Txn::default(), event, |_| {});
    }

    fn launch(&mut self, slot: &mut Slot, key: String) {
        self.open_logs(slot.index);
        let places = launch::log_places(&self.record.spec, slot.index, &self.context.logs);
        match launch::spawn_spec(&self.record.spec, slot.index, slot.id, &places) {
            Ok(spec) => self.context.link.spawn(key, spec),
            Err(error) => {
                let sender = self.mailbox_of_self();
                let mail = Mail::SpawnRefused {
                    index: slot.index,
                    why: error.to_string(),
                };
                Task::spawn_short("refused launch", async move {
                    if let Some(sender) = sender {
                        // The actor has gone: nobody waits for the process either.
                        let _ = sender.send(mail).await;
                    }
                });
            }
        }
    }

    /// The directory may not know us yet: an actor begins to work before it is told of.
    fn mailbox_of_self(&self) -> Option<mpsc::Sender<Mail>> {
        self.own.upgrade()
    }

    /// Makes sure that an instance's pipes exist and that the pump has them.
    fn open_logs(&mut self, index: u32) {
        for place in launch::log_places(&self.record.spec, index, &self.context.logs) {
            let target = launch::target(&self.record.spec, &place);
            if self.piped.contains(&place.pipe) {
                self.context.pump.retarget(place.pipe, target);
            } else if self.context.pipes.get() < self.context.pipes_max {
                self.context.pipes.set(self.context.pipes.get() + 1);
                self.piped.insert(place.pipe.clone());
                let key = launch::key(&self.name, index);
                self.context.link.make_pipe(key, place.pipe);
            } else {
                let most = self.context.pipes_max;
                let why = format!("the limit of open files leaves room for {most} logs (`ulimit -n`)");
                self.unpiped.insert(place.pipe, why);
            }
        }
    }

    /// Comes before the answer to the start that needs the pipe: that was asked for later.
    fn pipe_made(&mut self, pipe: String, made: Result<OwnedFd, String>) {
        let spec = &self.record.spec;
        let target = self
            .slots
            .iter()
            .flat_map(|slot| launch::log_places(spec, slot.index, &self.context.logs))
            .find(|place| place.pipe == pipe)
            .map(|place| launch::target(spec, &place));
        match (made, target) {
            (Ok(descriptor), Some(target)) => {
                self.unpiped.remove(&pipe);
                self.context.pump.add(pipe, descriptor, target);
            }
            // The specification has changed meanwhile, and nobody writes there any more.
            (Ok(_), None) => {
                self.piped.remove(&pipe);
                self.context.pipe_gone();
                self.context
                    .link
                    .order(|id| Request::CloseDescriptor { id, name: pipe });
            }
            // The next start asks again.
            (Err(why), _) => {
                self.piped.remove(&pipe);
                self.context.pipe_gone();
                self.unpiped.insert(pipe, why);
            }
        }
    }

    /// Why an instance cannot start, if that is because its pipes could not be made.
    fn why_without_pipes(&self, index: u32) -> Option<String> {
        launch::log_places(&self.record.spec, index, &self.context.logs)
            .iter()
            .find_map(|place| self.unpiped.get(&place.pipe))
            .map(|why| format!("no pipe for its output: {why}"))
    }

    fn start_probe(&self, slot: &mut Slot) {
        slot.probe = None;
        let (Some(check), Some(pid)) = (&self.record.spec.readiness, slot.machine.pid()) else {
            return;
        };
        let Some(mailbox) = self.mailbox_of_self() else {
            return;
        };
        // It was started from the same: there is no error to expect here.
        let launch = launch::spawn_spec(&self.record.spec, slot.index, slot.id, &[]).unwrap_or_default();
        slot.probe = Some(probe::start(check.clone(), launch, mailbox, slot.index, pid));
    }

    fn publish(&mut self) {
        let mut changed = false;
        let mut status = Status {
            instances: Vec::with_capacity(self.slots.len()),
        };
        for slot in &mut self.slots {
            let mut view = slot.machine.view();
            if let (Actual::Waiting, Some(pending)) = (view.actual, &self.pending) {
                view.why.clone_from(pending);
            }
            let shown = Some((view.actual, view.ready));
            changed |= slot.shown != shown;
            slot.shown = shown;
            status.instances.push(InstanceStatus {
                id: slot.id,
                index: slot.index,
                settled: slot.machine.is_settled(),
                view,
            });
        }
        self.status.send_replace(status);
        if changed {
            self.context
                .changes
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

const SIGKILL: i32 = 9;

fn close_log(context: &Rc<Context>, pipe: String) {
    context.pipe_gone();
    let (sender, receiver) = oneshot::channel();
    context.pump.remove(
        pipe.clone(),
        Box::new(move || {
            // The receiver below waits unless the daemon ends, and then the keeper ends as well.
            let _ = sender.send(());
        }),
    );
    let context = Rc::clone(context);
    Task::spawn_short("close log", async move {
        if receiver.await.is_ok() {
            context
                .link
                .order(|id| Request::CloseDescriptor { id, name: pipe });
        }
    });
}
