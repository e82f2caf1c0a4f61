//! A new daemon compares a snapshot with what the keeper holds.

use upkeep_model::{
    exit::Exit,
    state::{Actual, Desired},
};

use super::{Again, Instance, Policy, Turn};
use crate::{effect::Effect, event::Event, restart::End};

/// A process that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The process.
    pub pid: u32,
    /// How.
    pub exit: Exit,
    /// How long it had been up.
    pub uptime_ms: u64,
    /// Whether processes of its tree are still alive.
    pub leftovers: bool,
}

/// A process that is alive in the keeper's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alive {
    /// The process.
    pub pid: u32,
    /// How long it has been up.
    pub uptime_ms: u64,
    /// Whether an earlier keeper, killed since, was its parent.
    pub stray: bool,
}

/// What the keeper knows of an instance when a new daemon asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Its living process.
    pub alive: Option<Alive>,
    /// Its exit records that were not acknowledged, oldest first.
    pub exits: Vec<Ended>,
}

impl Instance {
    /// Carries on from a snapshot: starts its timers again, then feeds what the keeper knows as the right events
    /// in the right order. Exactly one of `Found`, an exit that counts, and `NotFound` takes effect.
    pub fn recover(&mut self, policy: &Policy, now_ms: u64, known: Recovered) -> Vec<Effect> {
        let mut effects = self.rearm();
        if let Some(Alive {
            pid,
            uptime_ms,
            stray,
        }) = known.alive
        {
            // Its exit records are of earlier processes: whoever lives was started after they had ended.
            effects.extend(self.step(
                policy,
                now_ms,
                Event::Found {
                    pid,
                    uptime_ms,
                    stray,
                },
            ));
            return effects;
        }
        match known.exits.into_iter().find(|ended| self.is_ours(ended.pid)) {
            Some(Ended {
                pid,
                exit,
                uptime_ms,
                leftovers,
            }) => {
                effects.extend(self.step(
                    policy,
                    now_ms,
                    Event::Exited {
                        pid,
                        exit,
                        uptime_ms,
                        leftovers,
                    },
                ));
                // The question it answered was asked by the daemon before: no `Spawned` will come for it.
                self.ended_early = false;
            }
            None => effects.extend(self.step(policy, now_ms, Event::NotFound)),
        }
        effects
    }

    /// A process is alive: take it on, whatever we believed.
    pub(super) fn found(&mut self, turn: &mut Turn<'_>, alive: Alive) {
        let same = self.pid == Some(alive.pid);
        match self.actual {
            Actual::Stopping | Actual::Killing if same => return, // its stop goes on, its timers run
            Actual::Running if same && !alive.stray => return,    // as we left it
            _ => {}
        }
        if !same {
            self.forget_process(turn, "another process of it was found running");
        }
        self.ended_early = false;
        self.ended.retain(|ended| *ended != alive.pid);
        self.pid = Some(alive.pid);
        let started_ms = turn.now_ms.saturating_sub(alive.uptime_ms);
        self.started_ms = Some(started_ms);
        match self.desired {
            Desired::Down => self.begin_stop(turn, "found running, but a stop was ordered before"),
            Desired::Up if alive.stray => {
                self.again = Again::Stray;
                self.begin_stop(
                    turn,
                    "it survived a keeper that was killed, and is restarted so that its output and its exit status \
                     have an owner again",
                );
            }
            Desired::Up if self.again != Again::No => self.begin_stop(turn, "restart ordered"),
            Desired::Up => {
                let why = "found running by a new daemon".to_owned();
                if self.cause.is_empty() {
                    self.cause.clone_from(&why);
                }
                self.run(turn, why, started_ms);
            }
        }
    }

    /// There should be a process, or was one asked for, and there is none.
    pub(super) fn vanished(&mut self, turn: &mut Turn<'_>) {
        let was = self.actual;
        self.ended_early = false;
        if self.desired == Desired::Down {
            self.unhealthy = None;
        }
        if self.pid.is_some() {
            self.last_exit = Some(Exit::Unknown);
        }
        self.forget_process(turn, "its process is gone");
        match (was, self.desired) {
            (Actual::Starting, Desired::Down) => {
                self.settle_stopped(turn, "stop ordered; it had not been started");
            }
            (_, Desired::Down) => {
                self.settle_stopped(turn, "stopped: its process was gone when a new daemon looked");
            }
            (Actual::Stopping | Actual::Killing, Desired::Up) => match self.unhealthy.take() {
                Some(why) if self.again == Again::No => {
                    let end = End::Unhealthy {
                        why: &why,
                        exit: Exit::Unknown,
                        uptime_ms: 0,
                    };
                    self.judge(turn, end, "");
                }
                _ => self.start_after_stop(turn, "its process is gone"),
            },
            (Actual::Starting, Desired::Up) if self.again != Again::No => {
                self.start_after_stop(turn, "it had not been started");
            }
            (Actual::Starting, Desired::Up) => {
                self.starts.pop(); // that start never was
                self.spawn(
                    turn,
                    "the daemon was replaced before the keeper had started it; asked again".to_owned(),
                );
            }
            (_, Desired::Up) => {
                self.restarts = self.restarts.saturating_add(1);
                "started again: its process vanished together with the keeper that held it"
                    .clone_into(&mut self.cause);
                self.wait_or_spawn(
                    turn,
                    "its process vanished together with the keeper that held it; starting again",
                );
            }
        }
    }
}
