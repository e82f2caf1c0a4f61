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
    id::AppName,
    state::{Actual, Desired},
};
use upkeep_store::Txn;
use upkeep_supervise::{
    effect::Effect,
    event::{Event, Order, Timer},
    health,
    instance::Instance,
    order::Gate,
    rollout::{TRIAL, Verdict},
};
use upkeep_sys::clock;

use super::{
    copies::{self, Known, Slot, policy},
    dependencies,
    directory::{AppEntry, AppRecord, Directory, InstanceStatus, OtherCopy, Status},
    door::{self, DOOR, Door},
    exits, health as monitor,
    launch::{self, CopyId},
    replace::{self, Concluded, Replacement},
    sockets::{self, Sockets},
};
use crate::{
    events::{self, Events},
    keeper_link::KeeperLink,
    logs::pump::Pump,
    node::workers::{self, Workers},
    supply::Supply,
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
    /// Settings of the machine.
    pub(crate) settings: Arc<crate::settings::Holder>,
    /// Where workers' own figures go.
    pub(crate) metrics: Arc<crate::metrics::Metrics>,
    /// How replacements ended.
    pub(crate) concluded: mpsc::Sender<Concluded>,
    /// What apps get of the shared configuration.
    pub(crate) supply: Arc<Supply>,
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
    /// A new record, and what becomes of what runs.
    Update {
        record: Arc<AppRecord>,
        change: Change,
        done: oneshot::Sender<()>,
    },
    /// The clock has it run: every instance, or one.
    Run {
        /// The number of the run.
        run: u64,
        index: Option<u32>,
        /// What runs is ended first.
        replace: bool,
        done: oneshot::Sender<()>,
    },
    /// The keeper started it.
    Spawned { copy: CopyId, pid: u32 },
    /// The keeper could not start it.
    SpawnRefused { copy: CopyId, why: String },
    /// Its values are not known: it is not started until they are.
    Unsupplied { copy: CopyId, why: String },
    /// The keeper bound a socket, or could not.
    Socket {
        kept: String,
        made: Result<OwnedFd, String>,
    },
    /// The keeper made a pipe, or could not.
    Pipe {
        pipe: String,
        made: Result<OwnedFd, String>,
    },
    /// The keeper saw it end.
    Exited { copy: CopyId, record: ExitRecord },
    /// A copy has nothing in hand any more, or has had the time for it.
    Drained { copy: CopyId },
    /// The conversation of a front door that a daemon before has started.
    DoorFound { found: Result<OwnedFd, String> },
    /// Time to start the front door again.
    DoorAgain,
    /// How a replacement ended is durable.
    RolloutStored,
    /// A check came to a conclusion.
    Health {
        copy: CopyId,
        pid: u32,
        verdict: health::Verdict,
    },
    /// What a worker of a Node cluster says.
    Node { copy: CopyId, news: workers::News },
    /// Everything has been stopped: close the logs and end.
    Retire { done: oneshot::Sender<()> },
}

/// What becomes of what runs when there is a new record.
#[derive(Debug)]
pub(crate) enum Change {
    /// It goes on.
    Nothing,
    /// It is ended and started anew.
    Restart,
    /// It is replaced, copy by copy.
    Replace(Replacement),
    /// It has other values: copies are replaced, or get a signal, or go on.
    Supplied {
        replacement: Option<Replacement>,
        signal: Option<i32>,
    },
}

/// The actor.
pub(crate) struct Actor {
    pub(super) context: Rc<Context>,
    pub(super) name: AppName,
    pub(super) record: Arc<AppRecord>,
    pub(super) slots: Vec<Slot>,
    /// A replacement that is under way.
    pub(super) rollout: Option<replace::Active>,
    /// When it has to be asked again, CLOCK_MONOTONIC ms.
    pub(super) rollout_wake: Option<u64>,
    /// How the last one ended.
    pub(super) last_rollout: Option<Verdict>,
    pub(super) sockets: Sockets,
    pub(super) door: Door,
    /// Channels of Node apps, made with the first one.
    pub(super) workers: Option<Workers>,
    /// What others see of what it gets of the shared configuration.
    pub(super) supplied: crate::supply::Shown,
    /// Pipes that the pump has.
    piped: HashSet<String>,
    /// What a waiting instance waits for.
    pending: Option<String>,
    /// Why pipes could not be made, by their names.
    unpiped: HashMap<String, String>,
    mailbox: mpsc::Receiver<Mail>,
    /// Our own address: weak, because the mailbox ends when the directory forgets us.
    pub(super) own: mpsc::WeakSender<Mail>,
    status: watch::Sender<Status>,
    changes: watch::Receiver<u64>,
}

/// What a new daemon found of an app.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Its copies.
    pub(crate) copies: BTreeMap<CopyId, Known>,
    /// The note of a replacement.
    pub(crate) rollout: Option<Vec<u8>>,
    /// Names of sockets that the keeper holds for it.
    pub(crate) sockets: Vec<String>,
    /// What there is of a cluster.
    pub(crate) node: workers::Found,
}

/// Key of an instance's note with the keeper.
pub(crate) fn note_key(key: &str) -> String {
    format!("instance:{key}")
}

impl Actor {
    /// Makes the actor of an app and puts the app into the directory. `found`: what the keeper and its notes tell of
    /// earlier copies.
    pub(crate) fn start(context: &Rc<Context>, record: Arc<AppRecord>, revision: u64, found: Found) -> Task {
        let name = record.spec.name.clone();
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let (status, receiver) = watch::channel(Status::default());
        let supplied = crate::supply::Shown::default();
        let mut actor = Self {
            context: Rc::clone(context),
            name: name.clone(),
            slots: Vec::new(),
            rollout: None,
            rollout_wake: None,
            last_rollout: None,
            sockets: Sockets::default(),
            door: Door::default(),
            workers: None,
            piped: HashSet::new(),
            supplied: Arc::clone(&supplied),
            pending: None,
            unpiped: HashMap::new(),
            mailbox,
            own: sender.downgrade(),
            status,
            changes: context.changes.subscribe(),
            record: Arc::clone(&record),
        };
        context.supply.wants(&record, &actor.supplied);
        actor.recover(found);
        actor.publish();
        let record = Arc::clone(&actor.record);
        context.directory.insert(
            name,
            AppEntry {
                record,
                revision,
                mailbox: sender,
                status: receiver,
                schedule: super::schedule::Shown::default(),
                supply: Arc::clone(&supplied),
            },
        );
        Task::spawn("app", actor.run())
    }

    /// Takes over what a daemon before has left.
    fn recover(&mut self, found: Found) {
        let mut known = found.copies;
        let specs = [
            Some(&self.record.spec),
            self.record.previous.as_ref().map(|previous| &previous.spec),
        ];
        let mut listen = Vec::new();
        for spec in specs.into_iter().flatten() {
            listen.extend(sockets::wanted(&self.name, &spec.listen));
            listen.extend(sockets::of_trial(&self.name, &spec.listen));
            let door = spec.door.as_ref().map_or(&[][..], |door| &door.listen);
            listen.extend(sockets::wanted(&self.name, door));
        }
        self.sockets.found(listen, &found.sockets);
        if let Some(note) = found.rollout {
            self.resume_rollout(&note);
        }
        self.recover_workers(found.node, &known);
        let count = self.count();
        // What lives and is of no use any more must be ended: it gets a slot too. Of an instance that has no copy at
        // all one is made, to be started if it is wanted.
        let living: Vec<CopyId> = known
            .iter()
            .filter(|(_, known)| known.recovered.alive.is_some())
            .map(|(copy, _)| *copy)
            .collect();
        // First of all: what is decided about copies below is told to it.
        if living.contains(&door::COPY) {
            let known = known.remove(&door::COPY).unwrap_or_default();
            self.tell_exits(door::COPY, "a front door before", known.exits, &[]);
            self.door_found();
        }
        // A change was made durable, and the daemon died before it had begun to carry it out.
        let before = self
            .record
            .previous
            .as_ref()
            .map_or_else(Vec::new, |previous| previous.generations.clone());
        let begun_not = |copy: &CopyId| {
            let fresh = self.rollout.is_none() && !self.is_scheduled() && copy.index < count;
            fresh && !self.record.is_current(copy.generation) && before.contains(&copy.generation)
        };
        let to_begin: Vec<CopyId> = living.iter().copied().filter(begun_not).collect();
        for copy in living.into_iter().filter(|copy| copy.index != DOOR) {
            let useful = self.rollout.is_some()
                || to_begin.contains(&copy)
                || (copy.index < count && (self.record.is_current(copy.generation) || self.is_scheduled()));
            let known = known.remove(&copy).unwrap_or_default();
            self.add_recovered(copy, !useful, known);
        }
        for index in 0..count {
            let of_index = |slot: &Slot| slot.copy.index == index && !slot.surplus;
            if self.slots.iter().any(of_index) {
                continue;
            }
            // Its copy ended while no daemon was there: the newest that is known of.
            let newest = known
                .keys()
                // A run of an earlier specification is a run all the same.
                .filter(|copy| {
                    copy.index == index && (self.is_scheduled() || self.record.is_current(copy.generation))
                })
                .max()
                .copied();
            let copy = newest.unwrap_or(CopyId {
                index,
                generation: self.record.generation,
            });
            let known = known.remove(&copy).unwrap_or_default();
            self.add_recovered(copy, false, known);
        }
        for (copy, known) in known {
            self.tell_exits(copy, "of a copy that was replaced", known.exits, &[]);
        }
        self.sort();
        if !to_begin.is_empty() {
            self.begin_rollout(&Replacement::default());
        }
    }

    /// How many instances there shall be.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.record.instances.len()).unwrap_or(u32::MAX)
    }

    fn desired(&self, index: u32) -> Desired {
        match index {
            TRIAL => Desired::Up,
            _ => self
                .record
                .instances
                .get(index as usize)
                .map_or(Desired::Down, |instance| instance.desired),
        }
    }

    fn new_slot(&self, copy: CopyId, machine: Instance, port: Option<u16>) -> Slot {
        let mut spec = self.record.spec_of(copy.generation).clone();
        if copy.index == TRIAL {
            // Its first end is its last.
            spec.restart.on = upkeep_model::restart::RestartOn::Never;
        }
        Slot {
            copy,
            id: self
                .record
                .instances
                .get(copy.index as usize)
                .map_or(u32::MAX, |instance| instance.id),
            policy: policy(&spec),
            port: port.or_else(|| self.port_for(&spec, copy)),
            spec: Arc::new(spec),
            machine,
            timers: BTreeMap::new(),
            health: None,
            prepared: None,
            surplus: false,
            waits_for_sockets: false,
            door_takes: false,
            held_signal: None,
            drain: None,
            unhealthy: false,
            unsupplied: None,
            ready_since_ms: None,
            restarts_before: 0,
            shown: None,
        }
    }

    /// The port that a copy shall bind by itself.
    fn port_for(&self, spec: &upkeep_model::app::AppSpec, copy: CopyId) -> Option<u16> {
        if spec.door.is_some() || (spec.port.is_some() && copy.index == TRIAL) {
            // Any that no other copy has.
            let taken = |port: u16| self.slots.iter().any(|slot| slot.port == Some(port));
            return door::free_port(spec.port, &taken);
        }
        u16::try_from(u32::from(spec.port?) + copy.index).ok()
    }

    /// Makes a copy and starts it.
    pub(super) fn add_copy(&mut self, copy: CopyId) {
        self.add_recovered(copy, false, Known::default());
        self.sort();
    }

    fn add_recovered(&mut self, copy: CopyId, surplus: bool, known: Known) {
        let now = clock::monotonic_ms();
        let desired = if surplus {
            Desired::Down
        } else {
            self.desired(copy.index)
        };
        let restored = known.note.as_deref().and_then(copies::read_note);
        let is_new = restored.is_none();
        let (machine, port) = match restored {
            Some(kept) => (kept.machine, kept.port),
            None => (Instance::new(now), None),
        };
        let mut slot = self.new_slot(copy, machine, port);
        slot.surplus = surplus;
        slot.restarts_before = slot.machine.view().restarts;
        self.open_logs(&slot);
        let alive = known.recovered.alive;
        let mut effects = Vec::new();
        let scheduled = self.is_scheduled();
        if is_new && desired == Desired::Up && !scheduled {
            effects = slot.machine.step(&slot.policy, now, Event::Ordered(Order::Start));
            if alive.is_some() {
                effects.retain(|effect| *effect != Effect::Spawn);
            } else {
                // Nothing was known of it: there is no earlier process whose fate could matter.
                self.carry_out(&mut slot, effects);
                self.tell_exits(copy, slot.machine.why(), known.exits, &[]);
                self.slots.push(slot);
                return;
            }
        }
        // Before it is told: what it was doing says what the end meant.
        let mut meanings: Vec<exits::Meaning> = known
            .exits
            .iter()
            .map(|record| exits::Meaning::of(&slot.machine, record, &slot.policy.restart))
            .collect();
        effects.extend(slot.machine.recover(&slot.policy, now, known.recovered));
        if let Some(last) = meanings.last_mut() {
            last.then = Some(slot.machine.actual());
        }
        let was_leaving = self.rollout.is_some() && slot.machine.desired() == Desired::Down;
        if was_leaving && desired == Desired::Up {
            // It was told to end by the replacement that is under way.
            slot.surplus = true;
        }
        // The record is what was wanted last: an order that was made durable and not carried out is carried out now.
        match (desired, slot.machine.desired()) {
            (Desired::Up, Desired::Down) if !slot.surplus && !scheduled => {
                effects.extend(slot.machine.step(&slot.policy, now, Event::Ordered(Order::Start)));
            }
            (Desired::Down, Desired::Up) => {
                effects.extend(slot.machine.step(&slot.policy, now, Event::Ordered(Order::Stop)));
            }
            (Desired::Up, _) | (Desired::Down, Desired::Down) => {}
        }
        slot.look_at_readiness(now);
        self.tell_exits(copy, slot.machine.why(), known.exits, &meanings);
        slot.door_takes = alive.is_some() && slot.spec.door.is_some() && copy.index != TRIAL;
        self.carry_out(&mut slot, effects);
        if alive.is_some() && slot.machine.actual() == Actual::Stopping && slot.held_signal.is_none() {
            // The daemon before may have held its signal back, or not; the door knows what it has in hand.
            let stop = slot.policy.stop;
            self.hold_signal(&mut slot, stop.signal, stop.tree);
        }
        if alive.is_some() && slot.machine.pid().is_some() {
            self.start_health(&mut slot, known.health.as_deref());
        }
        self.slots.push(slot);
    }

    fn sort(&mut self) {
        self.slots.sort_by_key(|slot| slot.copy);
    }

    fn tell_exits(&self, copy: CopyId, why: &str, exits: Vec<ExitRecord>, meaning: &[exits::Meaning]) {
        for (at, record) in exits.into_iter().enumerate() {
            let meaning = meaning.get(at).cloned().unwrap_or_default();
            self.log_exit(copy, record, format!("seen by a new daemon: {why}"), meaning);
        }
    }

    async fn run(mut self) {
        // A replacement that a daemon before had begun.
        self.drive_rollout();
        self.look_at_door();
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
                .chain(self.rollout_wake)
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
            self.drive_rollout();
        }
    }

    fn open(&mut self, mail: Mail) {
        match mail {
            Mail::Order {
                order,
                instances,
                done,
            } => {
                self.order(order, instances.as_deref());
                // Who ordered it may have gone away.
                let _ = done.send(());
            }
            Mail::Update { record, change, done } => {
                self.update(record, change);
                let _ = done.send(());
            }
            Mail::Drained { copy } => self.drained(copy),
            Mail::DoorFound { found } => self.door_taken_over(found),
            Mail::DoorAgain => self.door_again(),
            Mail::RolloutStored => self.rollout_stored(),
            Mail::Spawned { copy, .. } if copy.index == DOOR => self.door_spawned(),
            Mail::SpawnRefused { copy, why } if copy.index == DOOR => self.door_failed(&why),
            Mail::Exited { copy, record } if copy.index == DOOR => {
                let why = format!("the front door ended: {}", exits::exit_of(&record));
                self.log_exit(
                    copy,
                    record,
                    "the front door".to_owned(),
                    exits::Meaning::default(),
                );
                self.door_failed(&why);
            }
            Mail::Run {
                run,
                index,
                replace,
                done,
            } => {
                self.run_now(run, index, replace);
                let _ = done.send(());
            }
            Mail::Spawned { copy, pid } => self.step_copy(copy, Event::Spawned { pid }),
            Mail::SpawnRefused { copy, why } => {
                self.worker_ended(copy);
                let why = self.why_without_pipes(copy).unwrap_or(why);
                self.step_copy(copy, Event::SpawnFailed { why });
            }
            Mail::Unsupplied { copy, why } => {
                self.worker_ended(copy);
                self.step_copy(copy, Event::HeldBack { why });
            }
            Mail::Socket { kept, made } => self.socket_made(kept, made),
            Mail::Pipe { pipe, made } => self.pipe_made(pipe, made),
            Mail::Exited { copy, record } => self.exited(copy, record),
            Mail::Health { copy, pid, verdict } => {
                if self
                    .slots
                    .iter()
                    .any(|slot| slot.copy == copy && slot.machine.pid() == Some(pid))
                {
                    self.judged(copy, verdict);
                }
            }
            Mail::Node { copy, news } => self.worker_says(copy, news),
            Mail::Retire { .. } => {} // handled by the loop, which it ends
        }
        self.forget_surplus();
        self.look_at_door();
    }

    /// Whether it is run by the clock, and not kept running.
    fn is_scheduled(&self) -> bool {
        self.record.spec.schedule.is_some()
    }

    /// A run of the schedule; one that was asked for already is not asked for again.
    fn run_now(&mut self, run: u64, index: Option<u32>, replace: bool) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            let wanted = index.is_none_or(|index| slot.copy.index == index);
            if slot.surplus || !wanted || slot.machine.view().run >= run {
                continue;
            }
            self.renew_copy(at);
            self.slots[at].machine.mark_run(run);
            let order = if replace { Order::Restart } else { Order::Start };
            self.step(at, Event::Ordered(order));
        }
    }

    /// What a check has said of the process of a copy.
    fn judged(&mut self, copy: CopyId, verdict: health::Verdict) {
        let event = match verdict {
            health::Verdict::Ready => Event::BecameReady,
            health::Verdict::Unready { why } => Event::BecameUnready { why },
            health::Verdict::Unhealthy { why, signal, grace } => {
                if let Some(slot) = self.slots.iter_mut().find(|slot| slot.copy == copy) {
                    slot.unhealthy = true;
                }
                self.log(copy, "unhealthy", why.clone(), "it is ended".to_owned());
                Event::Unhealthy { why, signal, grace }
            }
            health::Verdict::MoreTime { until_ms } => Event::MoreTime { until_ms },
        };
        self.step_copy(copy, event);
    }

    /// An order to some instances. What is stopped is not replaced any more; what is being replaced needs no restart.
    fn order(&mut self, order: Order, instances: Option<&[u32]>) {
        let chosen = |index: u32| instances.is_none_or(|chosen| chosen.contains(&index));
        match order {
            Order::Start => {}
            Order::Stop => self.leave_out_of_rollout(&chosen),
            Order::Restart => {
                let replaced: Vec<u32> = (0..self.count()).filter(|index| self.replaces(*index)).collect();
                // What is only watched after its replacement would be taken for a failure.
                self.leave_out_of_rollout(&|index| chosen(index) && !replaced.contains(&index));
            }
        }
        for at in 0..self.slots.len() {
            let index = self.slots[at].copy.index;
            let skips = order == Order::Restart && self.replaces(index);
            if chosen(index) && !skips && !self.slots[at].surplus {
                self.step(at, Event::Ordered(order));
            }
        }
    }

    pub(super) fn step_copy(&mut self, copy: CopyId, event: Event) {
        if let Some(at) = self.slots.iter().position(|slot| slot.copy == copy) {
            self.step(at, event);
        }
    }

    pub(super) fn step(&mut self, at: usize, event: Event) {
        let mut slot = self.slots.remove(at);
        let now = clock::monotonic_ms();
        let effects = slot.machine.step(&slot.policy, now, event);
        slot.look_at_readiness(now);
        self.carry_out(&mut slot, effects);
        self.promote_worker(&slot);
        self.slots.insert(at, slot);
        self.publish();
    }

    /// Lets a copy end that nobody wants any more.
    pub(super) fn end_copy(&mut self, at: usize) {
        self.slots[at].surplus = true;
        self.step(at, Event::Ordered(Order::Stop));
    }

    fn exited(&mut self, copy: CopyId, record: ExitRecord) {
        self.worker_ended(copy);
        let Some(at) = self.slots.iter().position(|slot| slot.copy == copy) else {
            let verdict = "of an instance that is no longer wanted".to_owned();
            self.log_exit(copy, record, verdict, exits::Meaning::default());
            return;
        };
        let slot = &self.slots[at];
        let ours = slot.machine.pid().is_none_or(|pid| pid == record.pid);
        let mut meaning = if ours {
            exits::Meaning::of(&slot.machine, &record, &slot.policy.restart)
        } else {
            exits::Meaning::default()
        };
        self.slots[at].let_go();
        self.slots[at].door_takes = false;
        self.end_health(at);
        self.step(
            at,
            Event::Exited {
                pid: record.pid,
                exit: exits::exit_of(&record),
                uptime_ms: record.exited_mono_ms.saturating_sub(record.started_mono_ms),
                leftovers: record.leftovers,
            },
        );
        let why = self.slots[at].machine.why().to_owned();
        meaning.then = ours.then(|| self.slots[at].machine.actual());
        self.log_exit(
            copy,
            record,
            if ours {
                why
            } else {
                "of an earlier process".to_owned()
            },
            meaning,
        );
    }

    /// Makes an exit durable, then lets the keeper forget it. Tried again while the disk refuses.
    pub(super) fn log_exit(
        &self,
        copy: CopyId,
        record: ExitRecord,
        verdict: String,
        meaning: exits::Meaning,
    ) {
        let event = exits::event(&self.target(copy), &record, self.context.epoch, verdict, meaning);
        exits::store(&self.context.events, &self.context.outcomes, event, record.seq);
    }

    /// How events name an instance: whichever of its copies it is.
    fn target(&self, copy: CopyId) -> String {
        match copy.index {
            TRIAL => format!("{}:trial", self.name),
            DOOR => format!("{}:door", self.name),
            index => format!("{}:{index}", self.name),
        }
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
            let mut verdict = verdict.clone();
            if verdict == Gate::Met {
                let generation = self.slots[at].copy.generation;
                verdict = self.context.supply.gate(&self.record, generation);
                self.slots[at].unsupplied = match &verdict {
                    Gate::Never(why) => Some(why.clone()),
                    Gate::Met | Gate::Pending(_) => None,
                };
            }
            match verdict {
                Gate::Met => self.step(at, Event::DependenciesMet),
                Gate::Never(why) if !self.slots[at].machine.why().contains(why.as_str()) => {
                    self.step(at, Event::DependencyFailed { why });
                }
                Gate::Pending(why) if self.pending.is_none() => {
                    self.pending = Some(format!("waits: {why}"));
                    self.publish();
                }
                Gate::Never(_) | Gate::Pending(_) => {}
            }
        }
    }

    fn update(&mut self, record: Arc<AppRecord>, change: Change) {
        let replaces_nothing = matches!(
            change,
            Change::Nothing
                | Change::Supplied {
                    replacement: None,
                    ..
                }
        );
        let goes_on = replaces_nothing && self.goes_on_with(&record);
        if !goes_on {
            self.supersede_rollout();
            self.record = record;
        }
        self.context.supply.wants(&self.record, &self.supplied);
        let count = self.count();
        let works = |slot: &Slot| {
            let busy = !slot.machine.actual().is_settled() || slot.machine.pid().is_some();
            !slot.surplus && slot.copy.index < count && busy
        };
        // Where nothing is at work there is nothing to replace.
        let at_work = self.slots.iter().any(works);
        let replacement = match &change {
            Change::Replace(replacement)
            | Change::Supplied {
                replacement: Some(replacement),
                ..
            } if at_work => Some(replacement.clone()),
            Change::Nothing | Change::Restart | Change::Replace(_) | Change::Supplied { .. } => None,
        };
        // These are left to the replacement: it starts and ends what it has to, in its order.
        let walks = |actor: &Self, index: u32| match &replacement {
            Some(Replacement { indices, .. }) => {
                indices.as_ref().is_none_or(|chosen| chosen.contains(&index))
            }
            None => goes_on && actor.replaces(index),
        };
        self.renew_specs();
        for at in 0..self.slots.len() {
            if self.slots[at].surplus {
                continue;
            }
            let index = self.slots[at].copy.index;
            if index >= count {
                self.end_copy(at);
                continue;
            }
            self.slots[at].id = self.record.instances[index as usize].id;
            match self.record.instances[index as usize].desired {
                Desired::Down => self.step(at, Event::Ordered(Order::Stop)),
                Desired::Up if walks(self, index) => {}
                // The clock starts it.
                Desired::Up if self.is_scheduled() && !matches!(change, Change::Restart) => {
                    self.renew_copy(at);
                }
                // Its work is done, with whatever values.
                Desired::Up
                    if matches!(change, Change::Supplied { .. })
                        && self.slots[at].machine.actual() == Actual::Completed =>
                {
                    self.renew_copy(at);
                }
                Desired::Up => {
                    self.renew_copy(at);
                    let order = match change {
                        Change::Restart => Order::Restart,
                        Change::Nothing | Change::Replace(_) | Change::Supplied { .. } => Order::Start,
                    };
                    self.step(at, Event::Ordered(order));
                }
            }
        }
        for index in 0..count {
            let of_index = |slot: &Slot| slot.copy.index == index && !slot.surplus;
            if !self.slots.iter().any(of_index) && !walks(self, index) {
                self.add_copy(CopyId {
                    index,
                    generation: self.record.generation,
                });
            }
        }
        self.sort();
        for at in 0..self.slots.len() {
            let slot = self.slots.remove(at);
            self.open_logs(&slot);
            self.slots.insert(at, slot);
        }
        if let Some(replacement) = replacement {
            self.begin_rollout(&replacement);
        }
        if let Change::Supplied {
            signal: Some(signal), ..
        } = change
        {
            self.signal_all(signal);
        }
        self.publish();
    }

    /// A signal to the process of every copy.
    fn signal_all(&self, signal: i32) {
        let running = |slot: &&Slot| slot.machine.actual() == Actual::Running && !slot.surplus;
        for slot in self.slots.iter().filter(running) {
            let key = launch::key(&self.name, slot.copy);
            self.context.link.order(|id| Request::Signal {
                id,
                key,
                signal,
                scope: Scope::Leader,
            });
        }
    }

    /// Gives copies that run by the record's specification what it says now.
    pub(super) fn renew_specs(&mut self) {
        let record = Arc::clone(&self.record);
        for slot in &mut self.slots {
            if record.is_current(slot.copy.generation) && slot.copy.index != TRIAL {
                let limits = crate::cage::limits(&record.spec);
                // Its groups are there, or it would have been started anew; `show` tells what has become of it.
                if slot.machine.pid().is_some() && limits != crate::cage::limits(&slot.spec) {
                    let key = launch::key(&self.name, slot.copy);
                    crate::cage::change_limits(&self.context.link, key, limits);
                }
                slot.spec = Arc::new(record.spec.clone());
                slot.policy = policy(&slot.spec);
            }
        }
    }

    /// A copy without a process becomes one of today's generation: it will be started by today's specification.
    fn renew_copy(&mut self, at: usize) {
        let slot = &self.slots[at];
        let copy = CopyId {
            index: slot.copy.index,
            generation: self.record.generation,
        };
        let taken = self.slots.iter().any(|other| other.copy == copy);
        if slot.machine.pid().is_some() || slot.machine.actual() == Actual::Starting || taken {
            return;
        }
        let key = launch::key(&self.name, slot.copy);
        self.context.link.tell(&Request::SetNote {
            key: note_key(&key),
            bytes: Vec::new(),
        });
        let spec = Arc::new(self.record.spec.clone());
        let port = self.port_for(&spec, copy);
        let slot = &mut self.slots[at];
        slot.copy = copy;
        slot.policy = policy(&spec);
        slot.spec = spec;
        slot.port = port;
    }

    pub(super) fn forget_surplus(&mut self) {
        let before = self.slots.len();
        let context = Rc::clone(&self.context);
        let (name, logs, spec) = (&self.name, &self.context.logs, &self.record.spec);
        let count = self.record.instances.len();
        let (gone, stay): (Vec<Slot>, Vec<Slot>) = std::mem::take(&mut self.slots)
            .into_iter()
            .partition(|slot| slot.surplus && slot.machine.actual() == Actual::Stopped);
        self.slots = stay;
        for slot in gone {
            context.link.tell(&Request::SetNote {
                key: note_key(&launch::key(name, slot.copy)),
                bytes: Vec::new(),
            });
            let index = slot.copy.log_index();
            // The next copy of an instance that is still wanted writes there too.
            let wanted = (index as usize) < count;
            if wanted || self.slots.iter().any(|other| other.copy.log_index() == index) {
                continue;
            }
            for place in launch::log_places(spec, index, logs) {
                if place.index.is_some() && self.piped.remove(&place.pipe) {
                    close_log(&context, place.pipe);
                }
            }
        }
        if self.slots.len() != before {
            self.publish();
        }
        self.close_sockets();
    }

    /// Closes sockets that no copy needs, nor will need.
    fn close_sockets(&mut self) {
        let at_work = |slot: &&Slot| {
            let at_rest = slot.machine.actual().is_settled() && slot.machine.pid().is_none();
            !at_rest || slot.machine.actual() == Actual::BackingOff
        };
        if !self.slots.iter().any(|slot| at_work(&slot)) {
            self.release_workers();
        }
        let keep: Vec<String> = self
            .slots
            .iter()
            .filter(at_work)
            .flat_map(|slot| self.wanted_sockets(slot))
            .chain(self.door_sockets())
            .map(|wanted| wanted.kept)
            .collect();
        for (name, path) in self.sockets.retain(&keep) {
            if let Some(path) = path {
                // It may have been removed by hand.
                let _ = std::fs::remove_file(path);
            }
            self.context
                .link
                .order(|id| Request::CloseDescriptor { id, name });
        }
    }

    fn wanted_sockets(&self, slot: &Slot) -> Vec<sockets::Wanted> {
        if slot.copy.index == TRIAL {
            sockets::of_trial(&self.name, &slot.spec.listen)
        } else {
            sockets::wanted(&self.name, &slot.spec.listen)
        }
    }

    /// Has the keeper bind sockets; the answers come as mail for this copy.
    pub(super) fn ask_for_sockets(&self, copy: CopyId, ask: Vec<sockets::Wanted>) {
        for wanted in ask {
            let key = launch::key(&self.name, copy);
            self.context.link.listen(key, wanted.kept, wanted.address);
        }
    }

    fn socket_made(&mut self, kept: String, made: Result<OwnedFd, String>) {
        self.sockets
            .answered(kept, made.map(|socket| sockets::port_of(&socket)));
        for at in 0..self.slots.len() {
            if self.slots[at].waits_for_sockets {
                let mut slot = self.slots.remove(at);
                self.launch(&mut slot);
                self.slots.insert(at, slot);
            }
        }
    }

    fn retire(self, done: oneshot::Sender<()>) {
        let mut actor = self;
        actor.context.supply.forget(&actor.name);
        actor.supersede_rollout();
        for slot in std::mem::take(&mut actor.slots) {
            let key = launch::key(&actor.name, slot.copy);
            if slot.machine.pid().is_some() {
                // One that was only tried, and has not ended yet: its timers end with us.
                let key = key.clone();
                actor.context.link.order(|id| Request::Signal {
                    id,
                    key,
                    signal: SIGKILL,
                    scope: Scope::Tree,
                });
            }
            actor.context.link.tell(&Request::SetNote {
                key: note_key(&key),
                bytes: Vec::new(),
            });
        }
        actor.end_door();
        actor.close_sockets();
        for pipe in actor.piped {
            close_log(&actor.context, pipe);
        }
        // Who ordered it may have gone away.
        let _ = done.send(());
    }

    fn carry_out(&mut self, slot: &mut Slot, effects: Vec<Effect>) {
        let key = launch::key(&self.name, slot.copy);
        // First of all: whatever follows, the next daemon knows of it.
        self.context.link.tell(&Request::SetNote {
            key: note_key(&key),
            bytes: copies::note(slot),
        });
        for effect in effects {
            match effect {
                Effect::Spawn => self.launch(slot),
                Effect::Signal { signal, .. } if self.drains_first(slot, signal) => {}
                Effect::Signal { signal, tree } => {
                    if self.hold_signal(slot, signal, tree) {
                        continue;
                    }
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
                    if slot.policy.has_readiness {
                        self.log(
                            slot.copy,
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
        match (to, &slot.health) {
            (Actual::Running, _) => self.start_health(slot, None),
            // It may ask for more time to stop.
            (Actual::Stopping | Actual::Killing, Some(health)) => health.quiet(),
            _ => slot.health = None,
        }
        match to {
            // The exit's own event tells of these, unless there was no process.
            Actual::GaveUp | Actual::BackingOff | Actual::Failed | Actual::Completed
                if from == Actual::Starting =>
            {
                self.log(slot.copy, "start_failed", why, to.to_string());
            }
            Actual::Killing => self.log(
                slot.copy,
                "killed",
                why,
                "SIGKILL sent to the whole tree".to_owned(),
            ),
            _ => {}
        }
    }

    pub(super) fn log(&self, copy: CopyId, what: &str, why: String, result: String) {
        self.log_event(self.target(copy), what, why, result);
    }

    /// An event of the app as a whole.
    pub(super) fn log_app(&self, what: &str, why: &str, result: &str) {
        self.log_event(self.name.to_string(), what, why.to_owned(), result.to_owned());
    }

    fn log_event(&self, target: String, what: &str, why: String, result: String) {
        let event = LogEvent {
            id: 0,
            at: events::now(),
            who: "upkeep".to_owned(),
            what: what.to_owned(),
            target,
            why,
            result,
            details: BTreeMap::new(),
        };
        // An event that a full disk refuses is lost; the state itself is not.
        self.context.events.commit(Txn::default(), event, |_| {});
    }

    /// Has the director make it durable how a replacement ended.
    pub(super) fn conclude(&self, concluded: Concluded) {
        let sender = self.context.concluded.clone();
        Task::spawn_short("concluded replacement", async move {
            // The daemon is ending: the next one concludes it.
            let _ = sender.send(concluded).await;
        });
    }

    /// Asks the keeper for a process, once its sockets are there.
    fn launch(&mut self, slot: &mut Slot) {
        slot.waits_for_sockets = false;
        let sockets = match self.sockets.look(self.wanted_sockets(slot)) {
            sockets::Readiness::There(sockets) => sockets,
            sockets::Readiness::Pending(ask) => {
                slot.waits_for_sockets = true;
                self.ask_for_sockets(slot.copy, ask);
                return;
            }
            sockets::Readiness::Failed(why) => {
                self.refuse_launch(slot.copy, why);
                return;
            }
        };
        self.open_logs(slot);
        let places = launch::log_places(&slot.spec, slot.copy.log_index(), &self.context.logs);
        let variables = match self.context.supply.variables(&self.record, slot.copy.generation) {
            Ok(variables) => variables,
            Err(why) => {
                self.mail_self(Mail::Unsupplied { copy: slot.copy, why });
                return;
            }
        };
        let own = launch::Own {
            id: slot.id,
            sockets,
            port: slot.port,
            variables,
        };
        let key = launch::key(&self.name, slot.copy);
        let prepared = launch::spawn_spec(&slot.spec, slot.copy, &own, &places)
            .map_err(|error| error.to_string())
            .and_then(|spec| self.prepare_worker(slot, spec))
            .and_then(|mut spec| {
                let prepared = monitor::prepare(&self.context, &slot.spec, &key, &places, &mut spec)?;
                Ok((spec, prepared))
            })
            .and_then(|(spec, prepared)| {
                let spec = launch::caged(&slot.spec, spec).map_err(|error| error.to_string())?;
                crate::cage::check_keeper(&spec, self.context.link.protocol())
                    .map_err(|error| error.to_string())?;
                Ok((spec, prepared))
            });
        match prepared {
            Ok((spec, prepared)) => {
                slot.prepared = Some(prepared);
                self.context.link.spawn(key, spec);
                self.worker_launched(slot);
            }
            Err(why) => self.refuse_launch(slot.copy, why),
        }
    }

    fn refuse_launch(&self, copy: CopyId, why: String) {
        self.mail_self(Mail::SpawnRefused { copy, why });
    }

    /// What is to come after the step that is being made.
    fn mail_self(&self, mail: Mail) {
        let sender = self.mailbox_of_self();
        Task::spawn_short("refused launch", async move {
            if let Some(sender) = sender {
                // The actor has gone: nobody waits for the process either.
                let _ = sender.send(mail).await;
            }
        });
    }

    /// The directory may not know us yet: an actor begins to work before it is told of.
    pub(super) fn mailbox_of_self(&self) -> Option<mpsc::Sender<Mail>> {
        self.own.upgrade()
    }

    pub(super) fn is_piped(&self, pipe: &str) -> bool {
        self.piped.contains(pipe)
    }

    /// Makes sure that an instance's pipes exist and that the pump has them.
    fn open_logs(&mut self, slot: &Slot) {
        for place in launch::log_places(&slot.spec, slot.copy.log_index(), &self.context.logs) {
            let target = launch::target(&slot.spec, &place);
            if self.piped.contains(&place.pipe) {
                self.context.pump.retarget(place.pipe, target);
            } else if self.context.pipes.get() < self.context.pipes_max {
                self.context.pipes.set(self.context.pipes.get() + 1);
                self.piped.insert(place.pipe.clone());
                let key = launch::key(&self.name, slot.copy);
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
        let target = self.slots.iter().find_map(|slot| {
            let places = launch::log_places(&slot.spec, slot.copy.log_index(), &self.context.logs);
            let place = places.into_iter().find(|place| place.pipe == pipe)?;
            Some(launch::target(&slot.spec, &place))
        });
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
    fn why_without_pipes(&self, copy: CopyId) -> Option<String> {
        launch::log_places(&self.record.spec, copy.log_index(), &self.context.logs)
            .iter()
            .find_map(|place| self.unpiped.get(&place.pipe))
            .map(|why| format!("no pipe for its output: {why}"))
    }

    /// Begins to look after a process. `noted`: what a daemon before knew of its health.
    fn start_health(&self, slot: &mut Slot, noted: Option<&[u8]>) {
        slot.health = None;
        let prepared = slot.prepared.take();
        let (Some(pid), Some(mailbox)) = (slot.machine.pid(), self.mailbox_of_self()) else {
            return;
        };
        let variables = self
            .context
            .supply
            .variables(&self.record, slot.copy.generation)
            .ok();
        let own = launch::Own {
            id: slot.id,
            sockets: Vec::new(),
            port: slot.port,
            variables: variables.clone().unwrap_or_default(),
        };
        let is_secret = own.variables.secret;
        let unknown = variables.is_none().then(|| self.unknown_values(slot));
        let view = slot.machine.view();
        let subject = monitor::Subject {
            spec: Arc::clone(&slot.spec),
            copy: slot.copy,
            key: launch::key(&self.name, slot.copy),
            pid,
            started_ms: view.started_ms.unwrap_or_else(clock::monotonic_ms),
            // It was started from the same: there is no error to expect here.
            launch: launch::spawn_spec(&slot.spec, slot.copy, &own, &[]).unwrap_or_default(),
            is_secret,
            unknown,
            ready: view.ready,
        };
        slot.health = monitor::start(&self.context, subject, prepared, noted, mailbox);
        if let (Some(health), true) = (&slot.health, view.actual != Actual::Running) {
            health.quiet();
        }
    }

    /// For checks of a process whose values are not known, because a daemon before has started it.
    fn unknown_values(&self, slot: &Slot) -> monitor::Unknown {
        let (context, name) = (Rc::clone(&self.context), self.name.clone());
        let (spec, copy, id, port) = (Arc::clone(&slot.spec), slot.copy, slot.id, slot.port);
        Box::new(move || {
            let record = context.directory.get(&name)?.record;
            let own = launch::Own {
                id,
                sockets: Vec::new(),
                port,
                variables: context.supply.variables(&record, copy.generation).ok()?,
            };
            let launch = launch::spawn_spec(&spec, copy, &own, &[]).unwrap_or_default();
            Some((launch, own.variables.secret))
        })
    }

    /// A process has ended: nobody looks after it, and what was kept for that goes.
    fn end_health(&mut self, at: usize) {
        if self.slots[at].health.take().is_some() {
            let key = launch::key(&self.name, self.slots[at].copy);
            monitor::forget(&self.context, &key, &self.slots[at].spec);
        }
    }

    /// Of the copies of an instance the one that serves: ready, else coming, the newest of them.
    pub(super) fn serving(&self, index: u32) -> Option<usize> {
        let rank = |slot: &Slot| (!slot.surplus, slot.machine.is_ready(), slot.copy.generation);
        (0..self.slots.len())
            .filter(|at| self.slots[*at].copy.index == index)
            .max_by_key(|at| rank(&self.slots[*at]))
    }

    pub(super) fn publish(&mut self) {
        let mut changed = false;
        let tried = self.slots.iter().any(|slot| slot.copy.index == TRIAL);
        let replacing = self.is_replacing() || tried;
        let mut status = Status {
            instances: Vec::with_capacity(self.slots.len()),
            rollout: self.rollout_state(),
            unproven: self.is_unproven(),
            last_rollout: self.last_rollout.clone(),
        };
        let mut indices: Vec<u32> = self.slots.iter().map(|slot| slot.copy.index).collect();
        indices.sort_unstable();
        indices.dedup();
        for index in indices.into_iter().filter(|index| *index != TRIAL) {
            let Some(at) = self.serving(index) else { continue };
            let others = self
                .slots
                .iter()
                .enumerate()
                .filter(|(other, slot)| slot.copy.index == index && *other != at)
                .map(|(_, slot)| OtherCopy {
                    generation: slot.copy.generation,
                    view: slot.machine.view(),
                    leaving: slot.surplus,
                })
                .collect::<Vec<_>>();
            let slot = &mut self.slots[at];
            let mut view = slot.machine.view();
            if let (Actual::Waiting, Some(pending)) = (view.actual, &self.pending) {
                view.why.clone_from(pending);
            }
            let shown = Some((view.actual, view.ready));
            changed |= slot.shown != shown;
            slot.shown = shown;
            status.instances.push(InstanceStatus {
                id: slot.id,
                index,
                settled: slot.machine.is_settled() && others.is_empty() && !replacing,
                view,
                generation: slot.copy.generation,
                others,
                health: slot.health.as_ref().map(monitor::Monitor::handle),
            });
        }
        self.tell_door();
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
