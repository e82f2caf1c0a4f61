//! What the cells of the table do.

use upkeep_model::{
    exit::signal_name,
    size::Span,
    state::{Actual, Desired},
};

use super::{Again, Ended, Instance, Turn};
use crate::{
    effect::Effect,
    event::Timer,
    restart::{self, End, History, MAX_STARTS_COUNTED, Next},
    words,
};

/// How many pids that ended are remembered.
pub(super) const ENDED_REMEMBERED: usize = 8;
/// Time between two SIGKILLs to something that does not die.
const KILL_RETRY_MS: u64 = 1000;
const SIGKILL: i32 = 9;
/// Said of an exit that left processes behind.
const LEFTOVERS: &str = "it left processes behind, which were ended: a program that is looked after has to stay in \
                         the foreground (look for an option such as `--foreground` or `--no-daemon`)";

impl Instance {
    // ---- ways to a process

    /// A person wants it: new tries.
    pub(super) fn start_by_order(&mut self, turn: &mut Turn<'_>) {
        self.desired = Desired::Up;
        self.restarts = 0;
        self.new_tries(turn);
        "started by order".clone_into(&mut self.cause);
        self.wait_or_spawn(turn, "start ordered");
    }

    /// The process that was in the way is gone, and another one is wanted.
    pub(super) fn start_after_stop(&mut self, turn: &mut Turn<'_>, end: &str) {
        let (restarts, cause, next) = match self.again {
            Again::No => (0, "started by order", "starting, as ordered"),
            Again::Ordered => (
                self.restarts.saturating_add(1),
                "restarted by order",
                "starting again, as ordered",
            ),
            Again::Stray => (
                self.restarts.saturating_add(1),
                "restarted because it had survived a keeper that was killed",
                "starting again under the keeper of today",
            ),
        };
        self.restarts = restarts;
        cause.clone_into(&mut self.cause);
        self.new_tries(turn);
        self.wait_or_spawn(turn, &format!("{end}; {next}"));
    }

    fn new_tries(&mut self, turn: &Turn<'_>) {
        self.again = Again::No;
        self.unstable = 0;
        self.pause_ms = None;
        self.starts.clear();
        self.ordered_ms = turn.now_ms;
    }

    pub(super) fn wait_or_spawn(&mut self, turn: &mut Turn<'_>, why: &str) {
        if turn.policy.has_dependencies {
            self.enter(
                turn,
                Actual::Waiting,
                format!("{why}; waiting for its dependencies"),
            );
        } else {
            self.spawn(turn, why.to_owned());
        }
    }

    pub(super) fn spawn(&mut self, turn: &mut Turn<'_>, why: String) {
        self.starts.push(turn.now_ms);
        if self.starts.len() > MAX_STARTS_COUNTED {
            self.starts.remove(0);
        }
        self.enter(turn, Actual::Starting, why);
        turn.effects.push(Effect::Spawn);
    }

    pub(super) fn spawn_after_pause(&mut self, turn: &mut Turn<'_>) {
        self.restarts = self.restarts.saturating_add(1);
        self.spawn(turn, "the pause is over; starting again".to_owned());
    }

    pub(super) fn block(&mut self, why: &str) {
        self.blocked = true;
        self.why = format!("held back: {why}; it starts by itself once that is repaired");
    }

    // ---- the keeper's answers

    pub(super) fn spawned(&mut self, turn: &mut Turn<'_>, pid: u32) {
        if self.ended_early && self.ended.contains(&pid) {
            return; // the answer to a question before: its exit came first
        }
        self.ended_early = false;
        self.ended.retain(|ended| *ended != pid);
        self.pid = Some(pid);
        self.started_ms = Some(turn.now_ms);
        match self.desired {
            Desired::Down => self.begin_stop(turn, "stop ordered while it was being started"),
            Desired::Up if self.again != Again::No => {
                self.begin_stop(turn, "restart ordered while it was being started");
            }
            Desired::Up => self.run(turn, self.cause.clone(), turn.now_ms),
        }
    }

    /// Nobody waits for a process, and there is one all the same: better held than lost.
    pub(super) fn spawned_unexpectedly(&mut self, turn: &mut Turn<'_>, pid: u32) {
        if !self.ended.contains(&pid) {
            self.spawned(turn, pid);
        }
    }

    pub(super) fn spawn_failed(&mut self, turn: &mut Turn<'_>, why: &str) {
        let end = End::NotSpawned(why);
        match self.desired {
            Desired::Down => self.settle_stopped(turn, &format!("stop ordered; it {}", end.describe())),
            Desired::Up if self.again != Again::No => self.start_after_stop(turn, &end.describe()),
            Desired::Up => self.judge(turn, end, ""),
        }
    }

    /// The start that was begun cannot be carried out for now: it is none, and waits as one by order does.
    pub(super) fn hold_back(&mut self, turn: &mut Turn<'_>, why: &str) {
        self.starts.pop();
        if self.desired == Desired::Down {
            self.settle_stopped(turn, &format!("stop ordered; it was not started: {why}"));
            return;
        }
        self.again = Again::No;
        self.enter(turn, Actual::Waiting, format!("held back: {why}"));
    }

    // ---- running

    pub(super) fn run(&mut self, turn: &mut Turn<'_>, why: String, started_ms: u64) {
        self.enter(turn, Actual::Running, why);
        let stable_ms = started_ms.saturating_add(turn.policy.restart.min_uptime.as_millis());
        self.arm(turn, Timer::Stable, stable_ms.max(turn.now_ms));
    }

    pub(super) fn became_stable(&mut self, turn: &mut Turn<'_>) {
        if !turn.policy.has_readiness && !self.ready {
            let why = format!(
                "{}; it has outlived its first {}",
                self.cause, turn.policy.restart.min_uptime
            );
            self.set_ready(turn, true, why);
        }
    }

    pub(super) fn became_ready(&mut self, turn: &mut Turn<'_>) {
        if turn.policy.has_readiness && !self.ready {
            let why = format!("{}; its readiness check succeeds", self.cause);
            self.set_ready(turn, true, why);
        }
    }

    pub(super) fn became_unready(&mut self, turn: &mut Turn<'_>, why: &str) {
        if turn.policy.has_readiness {
            let why = format!("{}; not ready: {why}", self.cause);
            if self.ready {
                self.set_ready(turn, false, why);
            } else {
                self.why = why;
            }
        }
    }

    fn set_ready(&mut self, turn: &mut Turn<'_>, ready: bool, why: String) {
        self.ready = ready;
        self.why.clone_from(&why);
        turn.effects.push(Effect::ReadyChanged { ready, why });
    }

    // ---- ways out of a process

    /// What is wanted afterwards stands in `desired` and `again`.
    pub(super) fn begin_stop(&mut self, turn: &mut Turn<'_>, reason: &str) {
        self.begin_stop_with(turn, reason, None, None);
    }

    /// `signal`, `grace`: in place of the stop policy's.
    fn begin_stop_with(
        &mut self,
        turn: &mut Turn<'_>,
        reason: &str,
        signal: Option<i32>,
        grace: Option<Span>,
    ) {
        let stop = turn.policy.stop;
        self.kills = 0;
        self.stop_signal = signal;
        self.unhealthy = None;
        let (signal, grace) = (signal.unwrap_or(stop.signal), grace.unwrap_or(stop.grace));
        let why = format!("{reason}: {} sent, {grace} to end", signal_name(signal));
        self.enter(turn, Actual::Stopping, why);
        turn.effects.push(Effect::Signal {
            signal,
            tree: stop.tree,
        });
        self.arm(turn, Timer::Grace, turn.now_ms.saturating_add(grace.as_millis()));
    }

    /// It runs and does no good.
    pub(super) fn fail_health(
        &mut self,
        turn: &mut Turn<'_>,
        why: String,
        signal: Option<i32>,
        grace: Option<Span>,
    ) {
        self.begin_stop_with(turn, &format!("not alive: {why}"), signal, grace);
        self.unhealthy = Some(why);
    }

    /// It is ending and says that it needs longer.
    pub(super) fn extend_grace(&mut self, turn: &mut Turn<'_>, until_ms: u64) {
        if self.armed_at(Timer::Grace).is_some_and(|at| at < until_ms) {
            let more = words::about(until_ms.saturating_sub(turn.now_ms));
            self.arm(turn, Timer::Grace, until_ms);
            self.why = format!("it is ending, and has asked for {more} more");
        }
    }

    pub(super) fn kill(&mut self, turn: &mut Turn<'_>) {
        self.kills = 1;
        let waited = words::about(turn.now_ms.saturating_sub(self.since_ms));
        let signal = signal_name(self.stop_signal.unwrap_or(turn.policy.stop.signal));
        let why = format!("did not end within {waited} of {signal}: SIGKILL sent to all its processes");
        self.enter(turn, Actual::Killing, why);
        self.send_kill(turn);
    }

    pub(super) fn kill_again(&mut self, turn: &mut Turn<'_>) {
        self.kills = self.kills.saturating_add(1);
        let since = words::about(turn.now_ms.saturating_sub(self.since_ms));
        self.why = format!(
            "does not die: SIGKILL sent {} times over {since}; probably in uninterruptible sleep, that is, waiting for a disk \
             or a network file system",
            self.kills
        );
        self.send_kill(turn);
    }

    fn send_kill(&mut self, turn: &mut Turn<'_>) {
        turn.effects.push(Effect::Signal {
            signal: SIGKILL,
            tree: true,
        });
        self.arm(turn, Timer::KillRetry, turn.now_ms.saturating_add(KILL_RETRY_MS));
    }

    /// An order to stop what has no process.
    pub(super) fn stop_nothing(&mut self, turn: &mut Turn<'_>) {
        self.desired = Desired::Down;
        let why = match self.actual {
            Actual::BackingOff => "stop ordered; the start that was due is cancelled",
            Actual::Waiting => "stop ordered while it waited for its dependencies",
            Actual::Completed => "stop ordered; it had completed already",
            Actual::Failed => "stop ordered; it had failed already",
            Actual::GaveUp => "stop ordered; it had been given up already",
            Actual::Stopped | Actual::Starting | Actual::Running | Actual::Stopping | Actual::Killing => {
                "stop ordered"
            }
        };
        self.settle_stopped(turn, why);
    }

    pub(super) fn settle_stopped(&mut self, turn: &mut Turn<'_>, why: &str) {
        self.again = Again::No;
        self.enter(turn, Actual::Stopped, why.to_owned());
    }

    // ---- orders that have to wait for an answer or an exit

    pub(super) fn want_up_after_all(&mut self) {
        if self.desired == Desired::Down {
            self.desired = Desired::Up;
            "start ordered; the stop before it is void".clone_into(&mut self.why);
        }
    }

    pub(super) fn stop_when_spawned(&mut self) {
        self.desired = Desired::Down;
        self.again = Again::No;
        "stop ordered while it is being started: it is ended as soon as it exists".clone_into(&mut self.why);
    }

    pub(super) fn restart_when_spawned(&mut self) {
        self.desired = Desired::Up;
        self.again = Again::Ordered;
        "restart ordered while it is being started: it is ended as soon as it exists, then started again"
            .clone_into(&mut self.why);
    }

    pub(super) fn start_after_the_stop(&mut self, restart: bool) {
        let was = (self.desired, self.again);
        self.desired = Desired::Up;
        if restart {
            self.again = Again::Ordered;
        }
        // A person gives new tries: the verdict of a check is overtaken.
        let overtaken = self.unhealthy.take().is_some();
        if was != (self.desired, self.again) || overtaken {
            let verb = if restart { "restart" } else { "start" };
            self.why = format!("{verb} ordered: it is started again when its process has ended");
        }
    }

    pub(super) fn stay_stopped_after_the_stop(&mut self) {
        if self.desired == Desired::Up {
            self.desired = Desired::Down;
            self.again = Again::No;
            self.unhealthy = None;
            "stop ordered: it is not started again when its process has ended".clone_into(&mut self.why);
        }
    }

    // ---- the end of a process

    /// Whether an exit of `pid` is news: of the process we hold, or of the one we asked for.
    pub(super) fn is_ours(&self, pid: u32) -> bool {
        match self.actual {
            Actual::Running | Actual::Stopping | Actual::Killing => self.pid == Some(pid),
            Actual::Starting => !self.ended.contains(&pid),
            Actual::Stopped
            | Actual::Waiting
            | Actual::BackingOff
            | Actual::Completed
            | Actual::Failed
            | Actual::GaveUp => false,
        }
    }

    pub(super) fn exited(&mut self, turn: &mut Turn<'_>, ended: Ended) {
        if !self.is_ours(ended.pid) {
            return; // told twice, or of a process before
        }
        let was = self.actual;
        let unhealthy = self.unhealthy.take();
        if was == Actual::Starting {
            self.ended_early = true;
            self.started_ms = Some(turn.now_ms.saturating_sub(ended.uptime_ms));
        }
        self.pid = Some(ended.pid);
        let what = words::ended(ended.exit, ended.uptime_ms);
        self.forget_process(turn, &what);
        self.last_exit = Some(ended.exit);
        let mut note = String::new();
        if ended.leftovers {
            turn.effects.push(Effect::Sweep);
            // After an ordered stop it is no news that children were still at work.
            if self.desired == Desired::Up && was == Actual::Running {
                note = format!("; {LEFTOVERS}");
            }
        }
        match (was, self.desired) {
            (Actual::Killing, Desired::Down) => {
                self.settle_stopped(
                    turn,
                    &format!("stopped: {what}; it had not ended by itself{note}"),
                );
            }
            (_, Desired::Down) => self.settle_stopped(turn, &format!("stopped: {what}{note}")),
            (Actual::Stopping | Actual::Killing, Desired::Up) => match unhealthy {
                Some(why) if self.again == Again::No => {
                    let (exit, uptime_ms) = (ended.exit, ended.uptime_ms);
                    let end = End::Unhealthy {
                        why: &why,
                        exit,
                        uptime_ms,
                    };
                    self.judge(turn, end, &note);
                }
                _ => self.start_after_stop(turn, &format!("{what}{note}")),
            },
            (_, Desired::Up) if self.again != Again::No => {
                self.start_after_stop(turn, &format!("{what}{note}"));
            }
            (_, Desired::Up) => {
                self.judge(
                    turn,
                    End::Exited {
                        exit: ended.exit,
                        uptime_ms: ended.uptime_ms,
                    },
                    &note,
                );
            }
        }
    }

    /// Nobody asked for this end: what follows?
    pub(super) fn judge(&mut self, turn: &mut Turn<'_>, end: End<'_>, note: &str) {
        let history = History {
            starts: &self.starts,
            ordered_ms: self.ordered_ms,
            unstable: self.unstable,
            pause_ms: self.pause_ms,
        };
        let verdict = restart::verdict(&turn.policy.restart, turn.now_ms, history, end);
        self.unstable = verdict.unstable;
        self.pause_ms = verdict.pause_ms;
        let why = format!("{}{note}", verdict.why);
        match verdict.next {
            Next::Complete => self.enter(turn, Actual::Completed, why),
            Next::Fail => self.enter(turn, Actual::Failed, why),
            Next::GiveUp => self.enter(turn, Actual::GaveUp, why),
            Next::Start => {
                self.cause = match end {
                    End::Exited { .. } => format!("started again after {}", end.describe()),
                    End::Unhealthy { why, .. } => format!("started again because it was not alive: {why}"),
                    End::NotSpawned(_) => format!("started by another try; before, it {}", end.describe()),
                };
                if verdict.after.as_millis() == 0 {
                    self.restarts = self.restarts.saturating_add(1);
                    self.spawn(turn, why);
                } else {
                    self.enter(turn, Actual::BackingOff, why);
                    self.arm(
                        turn,
                        Timer::Backoff,
                        turn.now_ms.saturating_add(verdict.after.as_millis()),
                    );
                }
            }
        }
    }

    // ---- what every way has in common

    /// It has no process any more, and is not ready.
    pub(super) fn forget_process(&mut self, turn: &mut Turn<'_>, why: &str) {
        if let Some(pid) = self.pid.take() {
            self.ended.retain(|ended| *ended != pid);
            self.ended.push(pid);
            if self.ended.len() > ENDED_REMEMBERED {
                self.ended.remove(0);
            }
        }
        self.unready(turn, why);
    }

    fn unready(&mut self, turn: &mut Turn<'_>, why: &str) {
        if self.ready {
            self.ready = false;
            turn.effects.push(Effect::ReadyChanged {
                ready: false,
                why: why.to_owned(),
            });
        }
    }

    pub(super) fn enter(&mut self, turn: &mut Turn<'_>, to: Actual, why: String) {
        self.cancel_timers_foreign_to(turn, to);
        if to != Actual::Running {
            self.unready(turn, &why);
        }
        self.blocked = false;
        if !matches!(to, Actual::Stopping | Actual::Killing) {
            self.unhealthy = None;
        }
        self.why.clone_from(&why);
        let from = std::mem::replace(&mut self.actual, to);
        if from != to {
            self.since_ms = turn.now_ms;
            turn.effects.push(Effect::Changed {
                from,
                to,
                desired: self.desired,
                why,
            });
        }
    }
}
