//! One instance as a state machine.
//!
//! # Theory of operation
//!
//! ```text
//!             start                dependencies met            spawned
//!  Stopped ───────────▶ Waiting ─────────────────▶ Starting ───────────▶ Running
//!  Completed    │          (only if it has any)       ▲  ▲                 │  │
//!  Failed       └──────────────────────────────────▶──┘  │ pause over      │  │ stop, restart
//!  GaveUp                                                │                 │  ▼
//!     ▲                                              BackingOff ◀── exit ──┤ Stopping ── grace over ──▶ Killing
//!     └───────────────────── verdict of `restart` ◀────────────────────────┘    │ exit                    │ exit
//!                                                                               ▼                         ▼
//!                                                                  Stopped, or the way of a start if it is wanted up
//! ```
//!
//! **Processes.** There is a process in Running, Stopping and Killing, and there may be one in Starting (the
//! keeper was asked and has not answered). [`Effect::Spawn`] is returned only on entering Starting, so never twice
//! without an answer between, and never while there is a process. The keeper refuses a second child of one
//! instance besides.
//!
//! **Wanted.** `desired` changes at the moment of an order. Stopped implies wanted down. Waiting, Running,
//! BackingOff, Completed, Failed and GaveUp imply wanted up: an order to stop leaves them at once. In Starting,
//! Stopping and Killing it may be either, and it alone decides what happens when the keeper answers or the process
//! has ended. A restart is a stop that is wanted up again (`again` only remembers that it counts as one).
//!
//! **Who interrupts what.** A stop overtakes everything that is not yet a process, and any restart. A start or a
//! restart overtakes a stop that is under way: the process still ends, then a new one comes. A restart during
//! Starting is not lost either: the process that is about to appear was asked for before the order, perhaps
//! with other settings, so it is ended and a new one is started. Two restarts during one stop are one.
//!
//! **A person gives new tries.** An order to start or restart forgets the back-off, the window of starts and the
//! unstable exits.
//!
//! **Timers** belong to states: Backoff to BackingOff, Grace to Stopping, KillRetry to Killing, Stable to Running.
//! Leaving a state cancels its timer, and a timer that fires all the same carries an old epoch and is ignored.
//! Waiting and Starting have none: what they wait for is the daemon's to bring (`DependenciesMet`, the keeper's
//! answer, or after a crash [`Instance::recover`]).
//!
//! **Dependencies** are waited for before a start by order and when a process vanished with its keeper, not before
//! a restart after an exit. If one fails, the instance stays in Waiting and says so ([`Instance::is_settled`] is
//! then true): it starts by itself once somebody has repaired the dependency. A start that finds out that something
//! else is not there (`HeldBack`) goes back to Waiting, and counts as no try.
//!
//! **Repeated and late messages.** An exit counts only if it is of the process we hold, or, in Starting, of one we
//! have not seen end (its `Spawned` was lost with a daemon, or is late). The last few pids that ended are
//! remembered for that; an answer `Spawned` for a process whose exit came first is swallowed.
//!
//! **Health.** A process that is [`Event::Unhealthy`] is stopped as by order, and its end is judged by the restart
//! policy as a failure, however it ended: it counts as a restart, with back-off and giving up. An order that comes
//! meanwhile overtakes that verdict.
//!
//! **What lives on.** `leftovers` of an exit are swept before anything else starts. Strays (alive, but their keeper
//! was killed) are stopped, and started again if they are wanted: nobody can learn their exit status and nobody
//! reads their output.

use serde::{Deserialize, Serialize};
use upkeep_model::{
    exit::Exit,
    restart::RestartPolicy,
    state::{Actual, Desired},
    stop::StopPolicy,
};

use self::{armed::Armed, version::Version};
use crate::{
    effect::Effect,
    event::{Event, Order, Timer},
};

mod act;
mod armed;
mod recover;
mod version;

pub use self::recover::{Alive, Ended, Recovered};

/// What of an app's spec the machine needs. It may differ from step to step: a new spec applies from the next
/// decision on.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Restart policy.
    pub restart: RestartPolicy,
    /// Stop policy.
    pub stop: StopPolicy,
    /// Whether it has dependencies to wait for before every start by order (not before restarts after an exit).
    pub has_dependencies: bool,
    /// Whether readiness is told by `BecameReady`; else `min_uptime` makes it ready.
    pub has_readiness: bool,
}

/// What the end of a process means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a> {
    /// It was told to end.
    Ordered,
    /// It was ended because a check found that it does no good, and why.
    Unhealthy(&'a str),
    /// Nobody asked for it.
    ByItself,
}

/// One instance. Serialisable, so that the next daemon continues where this one was killed; a snapshot of another
/// version is refused by its deserialiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    version: Version,
    actual: Actual,
    desired: Desired,
    ready: bool,
    /// The process we hold: in Running, Stopping and Killing.
    pid: Option<u32>,
    since_ms: u64,
    started_ms: Option<u64>,
    /// Why this state.
    why: String,
    /// Why there is a process, or will be one: "started by order", …
    cause: String,
    /// While the process is ended, or asked for and unwanted: whether the next one counts as a restart.
    again: Again,
    /// In Waiting: a dependency failed.
    blocked: bool,
    restarts: u32,
    unstable: u32,
    last_exit: Option<Exit>,
    /// When a person last started or restarted it.
    ordered_ms: u64,
    /// Times of the starts since then, newest last; bounded by the policy.
    starts: Vec<u64>,
    /// The last pause of an exponential back-off.
    pause_ms: Option<u64>,
    /// How often SIGKILL was sent.
    kills: u32,
    /// Pids whose end was seen, newest last; at most [`act::ENDED_REMEMBERED`].
    ended: Vec<u32>,
    /// A process ended before its `Spawned` came; that may still come.
    ended_early: bool,
    timers: Vec<Armed>,
    epoch: u64,
    /// In Stopping and Killing: it is ended because a check found it unhealthy, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unhealthy: Option<String>,
    /// In Stopping: the signal it got, where it was not the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop_signal: Option<i32>,
    /// Which run of a schedule it was last ordered for; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    run: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether the next process stands for a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Again {
    No,
    Ordered,
    /// Of what survived its keeper.
    Stray,
}

/// What can be told of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// What it is doing.
    pub actual: Actual,
    /// What is wanted of it.
    pub desired: Desired,
    /// Whether it is ready; never while it is not running.
    pub ready: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// CLOCK_MONOTONIC ms of the last change of `actual`.
    pub since_ms: u64,
    /// CLOCK_MONOTONIC ms of the last start of a process.
    pub started_ms: Option<u64>,
    /// Restarts since a person last started it: after exits and by order.
    pub restarts: u32,
    /// Exits before `min_uptime`: in a row, or with PM2's give-up rule as PM2 counts them (while the app is young).
    pub unstable: u32,
    /// How its last process ended.
    pub last_exit: Option<Exit>,
    /// Why it is in this state, for people.
    pub why: String,
    /// When the next start is due, while backing off.
    pub next_start_ms: Option<u64>,
    /// Which run of a schedule it was last ordered for; 0: none.
    #[serde(default)]
    pub run: u64,
}

/// One step: what it goes by, and what comes of it.
struct Turn<'a> {
    policy: &'a Policy,
    now_ms: u64,
    effects: Vec<Effect>,
}

impl Instance {
    /// A new instance: stopped, wanted down.
    pub fn new(now_ms: u64) -> Self {
        Self {
            version: Version,
            actual: Actual::Stopped,
            desired: Desired::Down,
            ready: false,
            pid: None,
            since_ms: now_ms,
            started_ms: None,
            why: "never started".to_owned(),
            cause: String::new(),
            again: Again::No,
            blocked: false,
            restarts: 0,
            unstable: 0,
            last_exit: None,
            ordered_ms: now_ms,
            starts: Vec::new(),
            pause_ms: None,
            kills: 0,
            ended: Vec::new(),
            ended_early: false,
            timers: Vec::new(),
            epoch: 0,
            unhealthy: None,
            stop_signal: None,
            run: 0,
        }
    }

    /// The next order is that of a run of a schedule. It travels with the snapshot, and with the snapshot only: a
    /// new daemon can tell a run that was asked for from one that was only decided.
    pub fn mark_run(&mut self, run: u64) {
        self.run = run;
    }

    /// The one way to change it: every event has an answer in every state, be it "nothing".
    pub fn step(&mut self, policy: &Policy, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut turn = Turn {
            policy,
            now_ms,
            effects: Vec::new(),
        };
        self.decide(&mut turn, event);
        turn.effects
    }

    /// After a restore from a snapshot: starts the timers again that were running. [`Self::recover`] does it too.
    pub fn rearm(&self) -> Vec<Effect> {
        self.timers.iter().map(|armed| armed.effect()).collect()
    }

    /// What can be told of it.
    pub fn view(&self) -> View {
        View {
            actual: self.actual,
            desired: self.desired,
            ready: self.ready,
            pid: self.pid,
            since_ms: self.since_ms,
            started_ms: self.started_ms,
            restarts: self.restarts,
            unstable: self.unstable,
            last_exit: self.last_exit,
            why: self.why.clone(),
            next_start_ms: self
                .timers
                .iter()
                .find(|armed| armed.timer == Timer::Backoff)
                .map(|armed| armed.at_ms),
            run: self.run,
        }
    }

    /// What it is doing.
    pub fn actual(&self) -> Actual {
        self.actual
    }

    /// What is wanted of it.
    pub fn desired(&self) -> Desired {
        self.desired
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Whether it is ready; never while it is not running.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// What it means if its process ends now.
    pub fn ending(&self) -> Ending<'_> {
        let ends = matches!(self.actual, Actual::Stopping | Actual::Killing);
        match &self.unhealthy {
            Some(why) if ends && self.desired == Desired::Up && self.again == Again::No => {
                Ending::Unhealthy(why)
            }
            _ if ends || self.desired == Desired::Down || self.again != Again::No => Ending::Ordered,
            _ => Ending::ByItself,
        }
    }

    /// Why it is in this state, for people.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Whether nothing more happens to it without an order or an event from outside: it rests, or it waits for a
    /// dependency that has failed.
    pub fn is_settled(&self) -> bool {
        self.actual.is_settled() || self.blocked
    }

    /// The table of transitions. Every cell is here; where nothing happens, the reason stands beside it.
    fn decide(&mut self, turn: &mut Turn<'_>, event: Event) {
        use Actual::{
            BackingOff, Completed, Failed, GaveUp, Killing, Running, Starting, Stopped, Stopping, Waiting,
        };
        match (self.actual, event) {
            // An order to start.
            (Stopped | Completed | Failed | GaveUp | BackingOff, Event::Ordered(Order::Start)) => {
                self.start_by_order(turn);
            }
            (Waiting | Running, Event::Ordered(Order::Start)) => {} // it is on its way, or there
            (Starting, Event::Ordered(Order::Start)) => self.want_up_after_all(),
            (Stopping | Killing, Event::Ordered(Order::Start)) => self.start_after_the_stop(false),

            // An order to stop.
            (Stopped, Event::Ordered(Order::Stop)) => {} // it is
            (Completed | Failed | GaveUp | BackingOff | Waiting, Event::Ordered(Order::Stop)) => {
                self.stop_nothing(turn);
            }
            (Starting, Event::Ordered(Order::Stop)) => self.stop_when_spawned(),
            (Running, Event::Ordered(Order::Stop)) => {
                self.desired = Desired::Down;
                self.begin_stop(turn, "stop ordered");
            }
            (Stopping | Killing, Event::Ordered(Order::Stop)) => self.stay_stopped_after_the_stop(),

            // An order to restart: of what does not run, a start.
            (Stopped | Completed | Failed | GaveUp | BackingOff, Event::Ordered(Order::Restart)) => {
                self.start_by_order(turn);
            }
            (Waiting, Event::Ordered(Order::Restart)) => {} // it will start when it may, with what holds then
            (Starting, Event::Ordered(Order::Restart)) => self.restart_when_spawned(),
            (Running, Event::Ordered(Order::Restart)) => {
                self.again = Again::Ordered;
                self.begin_stop(turn, "restart ordered");
            }
            (Stopping | Killing, Event::Ordered(Order::Restart)) => self.start_after_the_stop(true),

            // Dependencies.
            (Waiting, Event::DependenciesMet) => self.spawn(turn, "its dependencies are met".to_owned()),
            (Waiting, Event::DependencyFailed { why }) => self.block(&why),
            (
                Stopped | Starting | Running | Stopping | Killing | BackingOff | Completed | Failed | GaveUp,
                Event::DependenciesMet | Event::DependencyFailed { .. },
            ) => {} // it does not wait for them: late, or of no concern to what runs

            // The keeper's answer.
            (Starting, Event::Spawned { pid }) => self.spawned(turn, pid),
            (Running | Stopping | Killing, Event::Spawned { .. }) => {} // repeated: one Spawn is outstanding at most
            (Stopped | Waiting | BackingOff | Completed | Failed | GaveUp, Event::Spawned { pid }) => {
                self.spawned_unexpectedly(turn, pid);
            }
            (Starting, Event::SpawnFailed { why }) => self.spawn_failed(turn, &why),
            (
                Stopped | Waiting | Running | Stopping | Killing | BackingOff | Completed | Failed | GaveUp,
                Event::SpawnFailed { .. },
            ) => {} // an answer to a question of an earlier daemon
            (Starting, Event::HeldBack { why }) => self.hold_back(turn, &why),
            (
                Stopped | Waiting | Running | Stopping | Killing | BackingOff | Completed | Failed | GaveUp,
                Event::HeldBack { .. },
            ) => {} // it is not being started any more

            // The end of a process.
            (
                Running | Starting | Stopping | Killing,
                Event::Exited {
                    pid,
                    exit,
                    uptime_ms,
                    leftovers,
                },
            ) => {
                self.exited(
                    turn,
                    Ended {
                        pid,
                        exit,
                        uptime_ms,
                        leftovers,
                    },
                );
            }
            (Stopped | Waiting | BackingOff | Completed | Failed | GaveUp, Event::Exited { .. }) => {} // seen before

            // Timers. An old epoch is refused first, and leaving a state cancels its timer: so the cells without an
            // action cannot be reached, and would mean nothing.
            (state, Event::TimerFired { timer, epoch }) => {
                if self.disarm_fired(timer, epoch) {
                    self.timer_fired(turn, state, timer);
                }
            }

            // Readiness.
            (Running, Event::BecameReady) => self.became_ready(turn),
            (Running, Event::BecameUnready { why }) => self.became_unready(turn, &why),
            (
                Stopped | Waiting | Starting | Stopping | Killing | BackingOff | Completed | Failed | GaveUp,
                Event::BecameReady | Event::BecameUnready { .. },
            ) => {} // of a process that is gone or going

            // Health.
            (Running, Event::Unhealthy { why, signal, grace }) => self.fail_health(turn, why, signal, grace),
            (Stopping, Event::MoreTime { until_ms }) => self.extend_grace(turn, until_ms),
            (
                Stopped | Waiting | Starting | Stopping | Killing | BackingOff | Completed | Failed | GaveUp,
                Event::Unhealthy { .. },
            ) => {} // of a process that is gone or going
            (
                Stopped | Waiting | Starting | Running | Killing | BackingOff | Completed | Failed | GaveUp,
                Event::MoreTime { .. },
            ) => {} // there is no grace that runs

            // What a new daemon finds.
            (
                Stopped | Waiting | Starting | Running | Stopping | Killing | BackingOff | Completed | Failed
                | GaveUp,
                Event::Found {
                    pid,
                    uptime_ms,
                    stray,
                },
            ) => self.found(
                turn,
                Alive {
                    pid,
                    uptime_ms,
                    stray,
                },
            ),
            (Starting | Running, Event::NotFound) => self.vanished(turn),
            (Stopping | Killing, Event::NotFound) => self.vanished(turn),
            (Stopped | Waiting | BackingOff | Completed | Failed | GaveUp, Event::NotFound) => {} // as it should be
        }
    }

    fn timer_fired(&mut self, turn: &mut Turn<'_>, state: Actual, timer: Timer) {
        use Actual::{
            BackingOff, Completed, Failed, GaveUp, Killing, Running, Starting, Stopped, Stopping, Waiting,
        };
        match (state, timer) {
            (BackingOff, Timer::Backoff) => self.spawn_after_pause(turn),
            (Stopping, Timer::Grace) => self.kill(turn),
            (Killing, Timer::KillRetry) => self.kill_again(turn),
            (Running, Timer::Stable) => self.became_stable(turn),
            (
                Stopped | Waiting | Starting | Running | Stopping | Killing | Completed | Failed | GaveUp,
                Timer::Backoff,
            )
            | (
                Stopped | Waiting | Starting | Running | Killing | BackingOff | Completed | Failed | GaveUp,
                Timer::Grace,
            )
            | (
                Stopped | Waiting | Starting | Running | Stopping | BackingOff | Completed | Failed | GaveUp,
                Timer::KillRetry,
            )
            | (
                Stopped | Waiting | Starting | Stopping | Killing | BackingOff | Completed | Failed | GaveUp,
                Timer::Stable,
            ) => {}
        }
    }
}
