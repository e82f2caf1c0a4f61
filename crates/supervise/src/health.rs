//! The health of one process: when to ask, and what its answers mean.
//!
//! # Theory of operation
//!
//! **Three checks.** The *startup* check holds the other two back until it has succeeded once; if it has not by the
//! time `initial_delay + failure_threshold × period` is used up, the process is [`Verdict::Unhealthy`]. The
//! *readiness* check decides between [`Verdict::Ready`] and [`Verdict::Unready`], again and again. The *liveness* check
//! ends the process when it fails `failure_threshold` times in a row. Names, defaults and this order are
//! Kubernetes'.
//!
//! **Asked or told.** A check that is *asked* (HTTP, TCP, a command) is due at times: [`Health::due`] says which, the
//! daemon asks and brings the answer to [`Health::answered`]. At most one question of each check is open. A check that
//! is *told* (a line of the log, `sd_notify`, a message of Node) comes through [`Health::told`]; its liveness is a
//! deadline that every word of it sets anew. For `sd_notify` that deadline is the watchdog of systemd.
//!
//! **When.** Before a check that is asked has come to its first verdict somebody may be waiting for it, so it is
//! asked more often than its period says, for a while. Then it turns *steady*: the first steady question comes after
//! a random part of the period and each later one after the period and a random part of `jitter`. A hundred
//! processes that were started together are therefore not asked together. Dice come from outside.
//!
//! **Words of the process itself** go before what was asked: from `STOPPING=1` on it is not ready and nothing is
//! asked any more, but it has to end within the grace of its stop policy. `RELOADING=1` makes a process unready whose
//! readiness is told by `sd_notify`, until its next `READY=1`.
//!
//! **Crash of the daemon.** [`Health`] is serialisable; [`Health::resume`] carries on: what was ready is ready until a
//! check says otherwise, counts stay, and deadlines begin anew, because nobody listened in between.
//!
//! Times are milliseconds of CLOCK_MONOTONIC.

use serde::{Deserialize, Serialize};
use upkeep_model::size::Span;

use crate::words;

/// The longest time between two questions before the first verdict.
const EAGER_MS: u64 = 250;
/// So long after its start a process is asked that often.
const EAGER_FOR_MS: u64 = 30_000;
/// SIGABRT: what a missed watchdog begins with, as systemd's `WatchdogSignal` does.
const SIGABRT: i32 = 6;

/// Which check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Holds the others back.
    Startup,
    /// Decides who gets work.
    Readiness,
    /// Decides who is ended.
    Liveness,
}

impl Role {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// As a user writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }
}

/// How a check comes to its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is asked when it is due.
    Asked,
    /// A line of the log tells it.
    Line,
    /// `sd_notify` tells it.
    Notify,
    /// A message of the process tells it (`process.send('ready')` of Node).
    Message,
}

/// What of a written check is needed to judge by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How it comes to its answers.
    pub way: Way,
    /// Time between questions; of what is told as liveness, `period × failure_threshold` is the deadline.
    pub period_ms: u64,
    /// Time from the start of the process to the first question.
    pub initial_delay_ms: u64,
    /// Failures in a row that count.
    pub failure_threshold: u32,
    /// Successes in a row that count; 1 for all but readiness.
    pub success_threshold: u32,
    /// How much longer than the period a pause may be, by chance; 0: exactly the period.
    pub jitter_ms: u64,
    /// Grace of the stop that a failure leads to, where it is not the stop policy's.
    pub grace: Option<Span>,
}

impl Rule {
    fn budget_ms(&self) -> u64 {
        self.period_ms
            .saturating_mul(u64::from(self.failure_threshold.max(1)))
    }

    fn asked(&self) -> bool {
        self.way == Way::Asked
    }
}

/// The checks of an app. It may differ from call to call: what holds, holds from the next decision on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Holds the others back.
    pub startup: Option<Rule>,
    /// Decides who gets work.
    pub readiness: Option<Rule>,
    /// Decides who is ended.
    pub liveness: Option<Rule>,
    /// Grace of the stop policy: how long a process may take that said `STOPPING=1`.
    pub stop_grace_ms: u64,
}

impl Plan {
    /// The rule of a check, if the app has it.
    pub fn rule(&self, role: Role) -> Option<&Rule> {
        match role {
            Role::Startup => self.startup.as_ref(),
            Role::Readiness => self.readiness.as_ref(),
            Role::Liveness => self.liveness.as_ref(),
        }
    }

    /// Whether there is anything to look after.
    pub fn is_empty(&self) -> bool {
        Role::ALL.iter().all(|role| self.rule(*role).is_none())
    }

    /// The time within which the process has to send `WATCHDOG=1`, if it has to.
    pub fn watchdog_ms(&self) -> Option<u64> {
        self.liveness
            .filter(|rule| rule.way == Way::Notify)
            .map(|rule| rule.budget_ms())
    }

    fn told_by(&self, role: Role, way: Way) -> bool {
        self.rule(role).is_some_and(|rule| rule.way == way)
    }
}

/// What a process says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `READY=1`.
    Ready,
    /// `RELOADING=1`.
    Reloading,
    /// `STOPPING=1`.
    Stopping,
    /// `WATCHDOG=1`.
    Alive,
    /// `WATCHDOG=trigger`: it wants to be treated as if it had missed its watchdog.
    Trigger,
    /// `WATCHDOG_USEC=…`: from now on within this time (0: no more).
    WatchdogEvery {
        /// The time.
        millis: u64,
    },
    /// `EXTEND_TIMEOUT_USEC=…`: what it is about (starting, stopping) takes that much longer from now.
    MoreTime {
        /// The time.
        millis: u64,
    },
    /// A line of its log that the check of this role waits for.
    Line(Role),
    /// Node's `process.send('ready')`.
    Message,
}

/// An answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The check that was asked.
    pub role: Role,
    /// How long it took.
    pub took_ms: u64,
    /// What was wrong; absent: nothing.
    pub failure: Option<String>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is ready.
    Ready,
    /// It is not ready, or no longer.
    Unready {
        /// Why, for people.
        why: String,
    },
    /// It has to go.
    Unhealthy {
        /// Why, for people.
        why: String,
        /// Signal to begin with, where it is not the stop policy's.
        signal: Option<i32>,
        /// Grace, where it is not the stop policy's.
        grace: Option<Span>,
    },
    /// A stop that is under way may take until then.
    MoreTime {
        /// CLOCK_MONOTONIC ms.
        until_ms: u64,
    },
}

/// The last answer of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// When it came: CLOCK_MONOTONIC ms.
    pub at_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// What was wrong; absent: nothing.
    pub failure: Option<String>,
}

/// What is known of one check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Successes in a row.
    pub good: u32,
    /// Failures in a row.
    pub bad: u32,
    /// The last answer.
    pub last: Option<Answer>,
    /// When it is due next; absent while it is not asked (held back, told, or its answer is awaited).
    next_ms: Option<u64>,
    /// Its answer is awaited.
    #[serde(skip)]
    open: bool,
    /// It has come to a first verdict.
    steady: bool,
}

/// The health of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The process, so that a new daemon does not mistake another one for it.
    pub pid: u32,
    started_ms: u64,
    startup: Tally,
    readiness: Tally,
    liveness: Tally,
    /// The startup check has succeeded, or there is none.
    begun: bool,
    /// By when it has to.
    begin_by_ms: u64,
    /// What was told last of its readiness.
    ready: Option<bool>,
    /// By when it has to tell that it is alive.
    alive_by_ms: Option<u64>,
    /// Its own choice of a watchdog.
    watchdog_ms: Option<u64>,
    /// It said that it is ending; by when it has to have ended.
    end_by_ms: Option<u64>,
    /// It was told that it is unhealthy: nothing more is to be decided.
    over: bool,
}

impl Health {
    /// Of a process that has just been started. `dice`: any random number.
    pub fn new(plan: &Plan, pid: u32, started_ms: u64, now_ms: u64, dice: u64) -> Self {
        let mut health = Self {
            pid,
            started_ms,
            startup: Tally::default(),
            readiness: Tally::default(),
            liveness: Tally::default(),
            begun: plan.startup.is_none(),
            begin_by_ms: 0,
            ready: None,
            alive_by_ms: None,
            watchdog_ms: None,
            end_by_ms: None,
            over: false,
        };
        if let Some(rule) = &plan.startup {
            health.begin_by_ms = started_ms
                .saturating_add(rule.initial_delay_ms)
                .saturating_add(rule.budget_ms());
            health.schedule_first(plan, Role::Startup, now_ms, dice);
        } else {
            health.begin(plan, now_ms, dice);
        }
        health
    }

    /// Carries on after a restart of the daemon.
    pub fn resume(&mut self, plan: &Plan, now_ms: u64, dice: u64) {
        for role in Role::ALL {
            let Some(rule) = plan.rule(role).copied() else {
                *self.tally_mut(role) = Tally::default();
                continue;
            };
            let waits = rule.asked() && !self.over && self.is_active(role);
            let tally = self.tally_mut(role);
            tally.open = false;
            tally.next_ms = waits.then(|| {
                let within = if tally.steady { rule.period_ms } else { EAGER_MS };
                now_ms + dice % within.max(1)
            });
        }
        if plan.startup.is_none() && !self.begun {
            self.begin(plan, now_ms, dice);
        }
        if let Some(rule) = &plan.startup {
            self.begin_by_ms = self.begin_by_ms.max(now_ms.saturating_add(rule.period_ms));
        }
        if self.alive_by_ms.is_some() {
            self.renew(plan, now_ms);
        }
        self.end_by_ms = self.end_by_ms.map(|_| now_ms.saturating_add(plan.stop_grace_ms));
    }

    /// Of a process that was ready before anything was known of its health: it stays so until a check says otherwise.
    pub fn was_ready(&mut self, plan: &Plan, now_ms: u64, dice: u64) {
        if !self.begun {
            self.startup.next_ms = None;
            self.begin(plan, now_ms, dice);
        }
        self.ready = Some(true);
        self.readiness.steady = true;
    }

    /// The process is being stopped: nothing is asked any more.
    pub fn close(&mut self) {
        self.over = true;
        for role in Role::ALL {
            self.tally_mut(role).next_ms = None;
        }
    }

    /// What is known of a check.
    pub fn tally(&self, role: Role) -> &Tally {
        match role {
            Role::Startup => &self.startup,
            Role::Readiness => &self.readiness,
            Role::Liveness => &self.liveness,
        }
    }

    /// Whether the startup check holds the others back.
    pub fn is_starting(&self) -> bool {
        !self.begun
    }

    fn tally_mut(&mut self, role: Role) -> &mut Tally {
        match role {
            Role::Startup => &mut self.startup,
            Role::Readiness => &mut self.readiness,
            Role::Liveness => &mut self.liveness,
        }
    }

    /// Whether that check has a say at the moment.
    fn is_active(&self, role: Role) -> bool {
        (role == Role::Startup) != self.begun && self.end_by_ms.is_none()
    }

    /// When something is due: a question, or the end of a deadline.
    pub fn next_ms(&self) -> Option<u64> {
        if self.over {
            return None;
        }
        let questions = Role::ALL.iter().filter_map(|role| self.tally(*role).next_ms);
        let deadline = if let Some(end_by) = self.end_by_ms {
            Some(end_by)
        } else if self.begun {
            self.alive_by_ms
        } else {
            Some(self.begin_by_ms)
        };
        questions.chain(deadline).min()
    }

    /// The checks that are to be asked now; each is open until [`Self::answered`].
    pub fn due(&mut self, now_ms: u64) -> Vec<Role> {
        if self.over {
            return Vec::new();
        }
        let due = |tally: &Tally| tally.next_ms.is_some_and(|at| at <= now_ms);
        let roles: Vec<Role> = Role::ALL
            .into_iter()
            .filter(|role| due(self.tally(*role)))
            .collect();
        for role in &roles {
            let tally = self.tally_mut(*role);
            tally.next_ms = None;
            tally.open = true;
        }
        roles
    }

    /// An answer to what was asked.
    pub fn answered(&mut self, plan: &Plan, now_ms: u64, reply: Reply, dice: u64) -> Vec<Verdict> {
        let Reply {
            role,
            took_ms,
            failure,
        } = reply;
        let Some(rule) = plan.rule(role).copied() else {
            return Vec::new();
        };
        let (active, over) = (self.is_active(role), self.over);
        let tally = self.tally_mut(role);
        if !std::mem::take(&mut tally.open) {
            return Vec::new();
        }
        let good = failure.is_none();
        if good {
            (tally.good, tally.bad) = (tally.good.saturating_add(1), 0);
        } else {
            (tally.good, tally.bad) = (0, tally.bad.saturating_add(1));
        }
        tally.last = Some(Answer {
            at_ms: now_ms,
            took_ms,
            failure: failure.clone(),
        });
        if over || !active {
            return Vec::new();
        }
        let verdicts = match (role, failure) {
            (Role::Startup, None) => self.started(plan, now_ms, dice),
            (Role::Startup, Some(_)) => self.check_deadlines(plan, now_ms),
            (Role::Readiness, failure) => self.readiness_counts(&rule, failure),
            (Role::Liveness, None) => Vec::new(),
            (Role::Liveness, Some(why)) => self.liveness_counts(&rule, &why),
        };
        self.schedule_next(plan, role, now_ms, dice);
        verdicts
    }

    /// A word of the process.
    pub fn told(&mut self, plan: &Plan, now_ms: u64, word: Word, dice: u64) -> Vec<Verdict> {
        if self.over {
            return match word {
                Word::MoreTime { millis } => vec![more_time(now_ms, millis)],
                _ => Vec::new(),
            };
        }
        match word {
            Word::Ready => {
                let mut verdicts = self.told_well(plan, now_ms, Way::Notify, dice);
                // From its first READY=1 on a watchdog holds.
                if plan.watchdog_ms().is_some() && self.begun && self.alive_by_ms.is_none() {
                    self.renew(plan, now_ms);
                }
                verdicts.extend(self.check_deadlines(plan, now_ms));
                verdicts
            }
            Word::Message => self.told_well(plan, now_ms, Way::Message, dice),
            Word::Line(Role::Liveness) => {
                self.note_told(Role::Liveness, now_ms);
                if self.alive_by_ms.is_some() {
                    self.renew(plan, now_ms);
                }
                Vec::new()
            }
            Word::Line(role) => self.told_role(plan, role, now_ms, dice),
            Word::Reloading if plan.told_by(Role::Readiness, Way::Notify) => {
                self.unready("it reloads (RELOADING=1)".to_owned())
            }
            Word::Reloading => Vec::new(),
            Word::Stopping => self.is_stopping(plan, now_ms),
            Word::Alive => {
                if plan.watchdog_ms().is_some() {
                    self.note_told(Role::Liveness, now_ms);
                    if self.begun {
                        self.renew(plan, now_ms);
                    }
                }
                Vec::new()
            }
            Word::Trigger if plan.watchdog_ms().is_some() => self.end(
                plan,
                "it asked for it (WATCHDOG=trigger)".to_owned(),
                Some(SIGABRT),
            ),
            Word::Trigger => Vec::new(),
            Word::WatchdogEvery { millis } => {
                if plan.watchdog_ms().is_some() {
                    self.watchdog_ms = Some(millis);
                    self.renew(plan, now_ms);
                }
                Vec::new()
            }
            Word::MoreTime { millis } => {
                let until_ms = now_ms.saturating_add(millis);
                self.begin_by_ms = self.begin_by_ms.max(until_ms);
                self.end_by_ms = self.end_by_ms.map(|by| by.max(until_ms));
                vec![more_time(now_ms, millis)]
            }
        }
    }

    /// Whether a deadline is over.
    pub fn check_deadlines(&mut self, plan: &Plan, now_ms: u64) -> Vec<Verdict> {
        if self.over {
            return Vec::new();
        }
        if let Some(by) = self.end_by_ms {
            if now_ms < by {
                return Vec::new();
            }
            return self.end(
                plan,
                "it said STOPPING=1 and has not ended since".to_owned(),
                None,
            );
        }
        if !self.begun {
            let Some(rule) = plan.startup.filter(|_| now_ms >= self.begin_by_ms) else {
                return Vec::new();
            };
            let within = words::about(now_ms.saturating_sub(self.started_ms));
            let last = match (&self.startup.last, rule.way) {
                (
                    Some(Answer {
                        failure: Some(why), ..
                    }),
                    _,
                ) => why.clone(),
                (_, Way::Asked) => "no answer yet".to_owned(),
                (_, Way::Line) => "the line has not appeared in its log".to_owned(),
                (_, Way::Notify) => "it has not sent READY=1".to_owned(),
                (_, Way::Message) => "it has not sent `ready`".to_owned(),
            };
            let why = format!("its startup check did not succeed within {within}: {last}");
            let grace = rule.grace;
            return self.over(Verdict::Unhealthy {
                why,
                signal: None,
                grace,
            });
        }
        let (Some(rule), Some(by)) = (plan.liveness, self.alive_by_ms) else {
            return Vec::new();
        };
        if now_ms < by {
            return Vec::new();
        }
        let tally = &mut self.liveness;
        tally.bad = tally.bad.saturating_add(1);
        if rule.way == Way::Notify {
            let within = words::about(self.watchdog_ms.unwrap_or_else(|| rule.budget_ms()));
            return self.end(plan, format!("no WATCHDOG=1 within {within}"), Some(SIGABRT));
        }
        let within = words::about(rule.budget_ms());
        self.end(
            plan,
            format!("no line of its log that tells that it lives within {within}"),
            None,
        )
    }

    // ---- what follows from answers

    fn told_well(&mut self, plan: &Plan, now_ms: u64, way: Way, dice: u64) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for role in [Role::Startup, Role::Readiness] {
            if plan.told_by(role, way) {
                verdicts.extend(self.told_role(plan, role, now_ms, dice));
            }
        }
        verdicts
    }

    fn told_role(&mut self, plan: &Plan, role: Role, now_ms: u64, dice: u64) -> Vec<Verdict> {
        self.note_told(role, now_ms);
        match role {
            Role::Startup if !self.begun => self.started(plan, now_ms, dice),
            Role::Readiness if self.begun && self.end_by_ms.is_none() && self.ready != Some(true) => {
                self.ready = Some(true);
                vec![Verdict::Ready]
            }
            Role::Startup | Role::Readiness | Role::Liveness => Vec::new(),
        }
    }

    fn note_told(&mut self, role: Role, now_ms: u64) {
        let tally = self.tally_mut(role);
        (tally.good, tally.bad) = (tally.good.saturating_add(1), 0);
        tally.last = Some(Answer {
            at_ms: now_ms,
            took_ms: 0,
            failure: None,
        });
    }

    /// The startup check has succeeded.
    fn started(&mut self, plan: &Plan, now_ms: u64, dice: u64) -> Vec<Verdict> {
        self.begun = true;
        self.startup.next_ms = None;
        self.begin(plan, now_ms, dice);
        let told_before = plan
            .readiness
            .is_some_and(|rule| !rule.asked() && self.readiness.good > 0);
        match plan.readiness {
            // What tells its readiness once has told it already.
            Some(_) if told_before && self.ready != Some(true) => {
                self.ready = Some(true);
                vec![Verdict::Ready]
            }
            // Without a readiness check of its own, an app with a startup check is ready once it has started.
            None => {
                self.ready = Some(true);
                vec![Verdict::Ready]
            }
            Some(_) => Vec::new(),
        }
    }

    /// Readiness and liveness have a say from now on.
    fn begin(&mut self, plan: &Plan, now_ms: u64, dice: u64) {
        self.begun = true;
        for role in [Role::Readiness, Role::Liveness] {
            self.schedule_first(
                plan,
                role,
                now_ms,
                dice.rotate_left(if role == Role::Liveness { 17 } else { 0 }),
            );
        }
        let waits_for_ready = plan.told_by(Role::Readiness, Way::Notify) && self.readiness.good == 0;
        match plan.liveness {
            Some(rule) if rule.way == Way::Notify && waits_for_ready => {}
            Some(rule) if !rule.asked() => {
                self.renew(
                    plan,
                    now_ms.max(self.started_ms.saturating_add(rule.initial_delay_ms)),
                );
            }
            Some(_) | None => {}
        }
    }

    /// It has told that it is alive: the deadline begins anew.
    fn renew(&mut self, plan: &Plan, from_ms: u64) {
        let Some(rule) = plan.liveness.filter(|rule| !rule.asked()) else {
            self.alive_by_ms = None;
            return;
        };
        let every = match rule.way {
            Way::Notify => self.watchdog_ms.unwrap_or_else(|| rule.budget_ms()),
            Way::Asked | Way::Line | Way::Message => rule.budget_ms(),
        };
        self.alive_by_ms = (every > 0).then(|| from_ms.saturating_add(every));
    }

    fn readiness_counts(&mut self, rule: &Rule, failure: Option<String>) -> Vec<Verdict> {
        let tally = &self.readiness;
        match failure {
            None if tally.good >= rule.success_threshold.max(1) && self.ready != Some(true) => {
                self.ready = Some(true);
                vec![Verdict::Ready]
            }
            Some(why) if tally.bad >= rule.failure_threshold.max(1) => {
                let why = in_a_row(&why, tally.bad);
                self.unready(why)
            }
            None | Some(_) => Vec::new(),
        }
    }

    fn unready(&mut self, why: String) -> Vec<Verdict> {
        if self.ready == Some(false) {
            return Vec::new();
        }
        self.ready = Some(false);
        vec![Verdict::Unready { why }]
    }

    fn liveness_counts(&mut self, rule: &Rule, why: &str) -> Vec<Verdict> {
        if self.liveness.bad < rule.failure_threshold.max(1) {
            return Vec::new();
        }
        let why = in_a_row(why, self.liveness.bad);
        let grace = rule.grace;
        self.over(Verdict::Unhealthy {
            why,
            signal: None,
            grace,
        })
    }

    fn is_stopping(&mut self, plan: &Plan, now_ms: u64) -> Vec<Verdict> {
        if self.end_by_ms.is_some() {
            return Vec::new();
        }
        self.end_by_ms = Some(now_ms.saturating_add(plan.stop_grace_ms));
        for role in Role::ALL {
            self.tally_mut(role).next_ms = None;
        }
        self.unready("it is stopping (STOPPING=1)".to_owned())
    }

    fn end(&mut self, plan: &Plan, why: String, signal: Option<i32>) -> Vec<Verdict> {
        let grace = plan.liveness.and_then(|rule| rule.grace);
        self.over(Verdict::Unhealthy { why, signal, grace })
    }

    fn over(&mut self, verdict: Verdict) -> Vec<Verdict> {
        self.close();
        vec![verdict]
    }

    // ---- when

    fn schedule_first(&mut self, plan: &Plan, role: Role, now_ms: u64, dice: u64) {
        let Some(rule) = plan.rule(role).filter(|rule| rule.asked()) else {
            return;
        };
        let at = self.started_ms.saturating_add(rule.initial_delay_ms).max(now_ms);
        // Processes that are started together: somebody may be waiting, so only a little apart.
        let apart = rule.jitter_ms.min(EAGER_MS / 5);
        self.tally_mut(role).next_ms = Some(at.saturating_add(dice % (apart + 1)));
    }

    fn schedule_next(&mut self, plan: &Plan, role: Role, now_ms: u64, dice: u64) {
        if self.over || !self.is_active(role) {
            return;
        }
        let Some(rule) = plan.rule(role).copied() else {
            return;
        };
        let settled = match role {
            Role::Startup => false,
            Role::Readiness => self.ready == Some(true),
            Role::Liveness => true,
        };
        let young = now_ms < self.started_ms.saturating_add(EAGER_FOR_MS);
        let tally = self.tally_mut(role);
        let pause = if tally.steady {
            rule.period_ms
                .saturating_add(dice % rule.jitter_ms.saturating_add(1))
        } else if settled {
            tally.steady = true;
            if rule.jitter_ms == 0 {
                rule.period_ms
            } else {
                1 + dice % rule.period_ms.max(1)
            }
        } else if young {
            rule.period_ms.min(EAGER_MS)
        } else {
            rule.period_ms
        };
        tally.next_ms = Some(now_ms.saturating_add(pause.max(1)));
    }
}

fn more_time(now_ms: u64, millis: u64) -> Verdict {
    Verdict::MoreTime {
        until_ms: now_ms.saturating_add(millis),
    }
}

fn in_a_row(why: &str, times: u32) -> String {
    match times {
        0 | 1 => why.to_owned(),
        times => format!("{why} ({times} times in a row)"),
    }
}
