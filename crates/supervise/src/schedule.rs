//! Runs by the clock: which times come, and what happens when they do.
//!
//! # Theory of operation
//!
//! **Times.** [`next_time`] finds the first time after a moment. The civil calendar is
//! [`Cron`](upkeep_model::schedule::Cron)'s; the zone comes from outside as [`Zone`]. Where a clock is set for summer
//! time, a pattern with fixed hours comes once for a skipped hour (at the moment after it) and once for a repeated
//! hour (the first time); a pattern that recurs through the hours goes on by elapsed time, as the cron of Vixie does.
//!
//! **Decisions.** A [`Clockwork`] belongs to one app. [`Clockwork::wake`] looks at the clocks and decides every time
//! that has come since the last look, exactly once: `handled_s` moves past it. A time that is not later than
//! `start_within` is on time; the others were missed, and `catch_up` says whether they are made up for. Of several
//! times that are on time together only the newest runs. The daemon makes the new state durable before it carries the
//! actions out; so a killed daemon repeats no time and forgets none.
//!
//! **A clock that is set.** Forward by up to three hours (also a machine that slept): what was jumped over counts as on
//! time, so it runs once. Further: as if the daemon had been down. Back by up to three hours: nothing comes twice, the
//! times wait until the clock has caught up. Further: the clock was wrong before, and counting begins at the new time.
//! An interval (`every 30m`) never waits longer than itself.
//!
//! **Runs** carry numbers. A run that was decided and never asked of the keeper (the daemon was killed in between) is
//! told by the number in the instance's snapshot; see [`Clockwork::unasked`].
//!
//! Seconds are those of the real-time clock since 1970, unless a name says `mono`.

use serde::{Deserialize, Serialize};
use upkeep_model::{
    schedule::{CatchUp, Cron, Overlap, Schedule, When},
    size::Span,
};

use crate::words;

/// A clock that is set by up to so much was put right, not wrong.
const CLOCK_SET_S: i64 = 3 * 3600;
/// Clocks drift; what is below this is no jump.
const DRIFT_MS: i64 = 2000;
/// How many runs wait behind one that has not ended.
const WAITING_MAX: usize = 10;
/// So many times are counted one by one; of longer downtimes only the last minutes are looked at.
const TIMES_MAX: usize = 10_000;
/// Those minutes, in seconds.
const LAST_MINUTES_S: i64 = 600;
/// Zones change their offset a few times a year: so many changes are looked through.
const CHANGES_MAX: usize = 400;

/// A stretch of time in which a zone has one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its first second; absent: it has no beginning.
    pub start_s: Option<i64>,
    /// The offset before it.
    pub before_s: i64,
    /// Seconds to be added to the time since 1970 to get the civil time.
    pub offset_s: i64,
    /// The first second of the next stretch.
    pub end_s: Option<i64>,
}

/// A time zone.
pub trait Zone {
    /// The stretch that contains this second.
    fn stretch(&self, unix_s: i64) -> Stretch;
}

/// The first time after `after_s`. An interval counts from there.
pub fn next_time(when: &When, zone: &dyn Zone, after_s: i64) -> Option<i64> {
    match when {
        When::Every(span) => {
            let seconds = i64::try_from(span.as_millis() / 1000).unwrap_or(i64::MAX);
            after_s.checked_add(seconds.max(1))
        }
        When::Cron(cron) => next_match(cron, zone, after_s),
    }
}

fn next_match(cron: &Cron, zone: &dyn Zone, after_s: i64) -> Option<i64> {
    let mut from = after_s.checked_add(1)?;
    for _ in 0..CHANGES_MAX {
        let stretch = zone.stretch(from);
        let mut civil = from + stretch.offset_s;
        if let Some(start) = stretch.start_s.filter(|_| !cron.recurs_hourly()) {
            let (old, new) = (start + stretch.before_s, start + stretch.offset_s);
            // Skipped: what stood in the gap comes right after it, once.
            if from == start && cron.next(old).is_some_and(|time| time < new) {
                return Some(start);
            }
            // Repeated: it has come the first time round.
            civil = civil.max(old);
        }
        let time = cron.next(civil)? - stretch.offset_s;
        match stretch.end_s {
            Some(end) if time >= end => from = end,
            _ => return Some(time),
        }
    }
    None
}

/// The clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Real time, milliseconds since 1970.
    pub unix_ms: i64,
    /// CLOCK_MONOTONIC, milliseconds.
    pub mono_ms: i64,
}

impl Clocks {
    fn unix_s(self) -> i64 {
        self.unix_ms.div_euclid(1000)
    }
}

/// What the decisions go by.
pub struct Setting<'a> {
    /// What the user wrote.
    pub schedule: &'a Schedule,
    /// When, as it was understood.
    pub when: &'a When,
    /// Where.
    pub zone: &'a dyn Zone,
    /// How many instances the app has.
    pub instances: u32,
    /// The keeper's epoch: differs between any two keepers, also across reboots.
    pub epoch: u64,
    /// Chooses the part of the jitter; the same for an app at all times, so that a new daemon waits for the same moment.
    pub seed: u64,
}

impl std::fmt::Debug for Setting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setting")
            .field("schedule", self.schedule)
            .finish_non_exhaustive()
    }
}

impl Setting<'_> {
    /// By how much the run of that time is put off.
    fn jitter_s(&self, time_s: i64) -> i64 {
        let jitter = self.schedule.jitter.as_millis() / 1000;
        let mut z = self.seed ^ time_s.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((z ^ (z >> 31)) % (jitter + 1)).unwrap_or(0)
    }

    /// Who runs when nobody is at work: where runs may overlap, the others stay free for those that come.
    fn first_index(&self) -> Option<u32> {
        (self.schedule.overlap == Overlap::Allow).then_some(0)
    }

    /// The moment at which the first run after `after_s` begins.
    pub fn next_start(&self, after_s: i64) -> Option<i64> {
        let time = next_time(self.when, self.zone, after_s)?;
        Some(time + self.jitter_s(time))
    }
}

/// A run that was decided and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Counts up within the app.
    pub number: u64,
    /// The time it stands for.
    pub due_s: i64,
    /// When it was decided.
    pub decided_s: i64,
    /// The same by CLOCK_MONOTONIC, ms.
    pub decided_mono_ms: i64,
    /// The keeper's epoch then: a run of another epoch was cut off by a reboot or a killed keeper.
    pub epoch: u64,
    /// The instance that runs it; absent: all of them.
    pub index: Option<u32>,
    /// It was told that it has to end.
    pub timed_out: bool,
    /// That it has not begun in time was told.
    pub late_told: bool,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The time it stood for; absent: it was started by order.
    pub due_s: Option<i64>,
    /// When it began.
    pub started_s: i64,
    /// When its end was seen.
    pub ended_s: i64,
    /// Whether it succeeded.
    pub ok: bool,
    /// How it ended, for people.
    pub what: String,
}

/// What the daemon has to do, in this order, once the state is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start it.
    Start {
        /// The run.
        run: Run,
        /// An earlier run is ended first.
        replace: bool,
        /// Why, for people.
        why: String,
    },
    /// Runs did not happen.
    Missed {
        /// How many.
        count: usize,
        /// The newest of their times.
        due_s: i64,
        /// Why, for people.
        why: String,
    },
    /// A run happens, and later than it should.
    Late {
        /// Its time.
        due_s: i64,
        /// Why, for people.
        why: String,
    },
    /// End a run.
    Stop {
        /// The run.
        run: Run,
        /// Why, for people.
        why: String,
    },
    /// The state changed in a way that people should know of.
    Note {
        /// What happened.
        why: String,
    },
}

/// The durable state of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clockwork {
    version: u32,
    /// The times it counts: another pattern begins anew.
    at: String,
    timezone: Option<String>,
    /// Every time up to this second has been decided.
    pub handled_s: i64,
    /// Runs that have not ended.
    pub runs: Vec<Run>,
    /// Times whose runs wait for the end of another.
    pub waiting: Vec<i64>,
    /// The last run that ended.
    pub last: Option<Finished>,
    /// The number of the next run.
    next_run: u64,
    /// The app is stopped: what comes meanwhile is never made up for, whichever daemon arms it again.
    #[serde(default)]
    pub paused: bool,
    #[serde(skip)]
    seen: Option<Clocks>,
}

/// The version of the durable state.
const VERSION: u32 = 1;

impl Clockwork {
    /// Of a schedule that was not there before: its first time is after now.
    pub fn new(schedule: &Schedule, now: Clocks) -> Self {
        Self {
            version: VERSION,
            at: schedule.at.clone(),
            timezone: schedule.timezone.clone(),
            handled_s: now.unix_s(),
            runs: Vec::new(),
            waiting: Vec::new(),
            last: None,
            next_run: 1,
            paused: false,
            seen: Some(now),
        }
    }

    /// Whether this program can go on with it.
    pub fn is_readable(&self) -> bool {
        self.version == VERSION
    }

    /// Adopts what a user has changed: other times count from now on.
    pub fn adopt(&mut self, schedule: &Schedule, now: Clocks) -> bool {
        let same = self.at == schedule.at && self.timezone == schedule.timezone;
        if !same {
            self.at.clone_from(&schedule.at);
            self.timezone.clone_from(&schedule.timezone);
            self.handled_s = now.unix_s();
            self.waiting.clear();
        }
        !same
    }

    /// Nothing is run while the app is stopped, and nothing is made up for. Durable is only that it is paused, not each
    /// moment of it.
    pub fn pause(&mut self, now: Clocks) {
        self.handled_s = now.unix_s();
        self.waiting.clear();
        self.seen = Some(now);
        self.paused = true;
    }

    /// The app is wanted. If it was not until now its times count from now on.
    pub fn arm(&mut self, now: Clocks) {
        if self.paused {
            self.pause(now);
            self.paused = false;
        }
    }

    /// Runs that were decided, but never asked of the keeper: `asked` tells the number of the last run that each
    /// instance was ordered for. They are to be ordered now, or are lost if they are of another `epoch`.
    pub fn unasked(&self, asked: impl Fn(Option<u32>) -> u64) -> Vec<Run> {
        self.runs
            .iter()
            .filter(|run| asked(run.index) < run.number)
            .cloned()
            .collect()
    }

    /// In how many milliseconds to look again, at the latest. Times of the calendar are by the real-time clock, the
    /// limits of runs by the one that nobody sets, as in [`Self::wake`].
    pub fn next_look_ms(&self, setting: &Setting<'_>, now: Clocks) -> Option<u64> {
        let next = setting.next_start(self.handled_s);
        let next = next.map(|next| next.saturating_mul(1000).saturating_sub(now.unix_ms));
        let timeout = setting.schedule.timeout.map(millis);
        let within = millis(setting.schedule.start_within);
        let of_runs = self.runs.iter().flat_map(|run| {
            let over = timeout.filter(|_| !run.timed_out);
            let late = (!run.late_told).then_some(within);
            let at = |limit: i64| run.decided_mono_ms.saturating_add(limit);
            over.into_iter()
                .chain(late)
                .map(move |limit| at(limit).saturating_sub(now.mono_ms))
        });
        let soonest = next.into_iter().chain(of_runs).min()?;
        Some(u64::try_from(soonest).unwrap_or(0))
    }

    /// Looks at the clocks. `busy`: somebody is at work that no run of ours stands for. `begun`: whether that run has
    /// a process, or had one.
    pub fn wake(
        &mut self,
        setting: &Setting<'_>,
        now: Clocks,
        busy: bool,
        begun: impl Fn(&Run) -> bool,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let jump = self.look_at_clocks(setting, now, &mut actions);
        let now_s = now.unix_s();
        self.look_at_runs(setting, now, begun, &mut actions);
        let (times, many) = self.times(setting, now_s);
        let Some(newest) = times.last().copied() else {
            return actions;
        };
        self.handled_s = newest;
        let tolerance = seconds(setting.schedule.start_within) + jump;
        let is_late = |time: &i64| now_s - (*time + setting.jitter_s(*time)) > tolerance;
        let late: Vec<i64> = times.iter().copied().filter(|time| is_late(time)).collect();
        let on_time = !is_late(&newest);
        let ctx = &mut Admission { setting, now, busy };
        let since = |count: usize| {
            let more = if many { "more than " } else { "" };
            format!("{more}{}", words::count(count, "run"))
        };
        match setting.schedule.catch_up {
            CatchUp::None => {
                if let Some(due_s) = late.last().copied() {
                    let why = format!(
                        "{} could not begin within {} of the time",
                        since(late.len()),
                        setting.schedule.start_within
                    );
                    let count = late.len();
                    actions.push(Action::Missed { count, due_s, why });
                }
                if on_time {
                    self.admit(ctx, newest, "its time has come".to_owned(), &mut actions);
                }
            }
            CatchUp::One => {
                let missed = late.len();
                if on_time {
                    if let Some(due_s) = late.last().copied() {
                        let why = format!(
                            "{} missed; the one that is due now stands for them",
                            since(missed)
                        );
                        actions.push(Action::Missed {
                            count: missed,
                            due_s,
                            why,
                        });
                    }
                    self.admit(ctx, newest, "its time has come".to_owned(), &mut actions);
                } else {
                    if missed > 1 {
                        let why = format!("{} missed; one of them is made up for", since(missed));
                        actions.push(Action::Missed {
                            count: missed - 1,
                            due_s: late[missed - 2],
                            why,
                        });
                    }
                    let by = words::about(u64::try_from(now_s - newest).unwrap_or(0) * 1000);
                    actions.push(Action::Late {
                        due_s: newest,
                        why: format!("it begins {by} after its time"),
                    });
                    self.admit(
                        ctx,
                        newest,
                        "a missed run is made up for".to_owned(),
                        &mut actions,
                    );
                }
            }
            CatchUp::All => {
                let limit = usize::try_from(setting.schedule.catch_up_limit)
                    .unwrap_or(1)
                    .max(1);
                let dropped = times.len().saturating_sub(limit);
                if dropped > 0 {
                    let why = format!(
                        "{} missed; the newest {limit} are made up for",
                        since(times.len())
                    );
                    actions.push(Action::Missed {
                        count: dropped,
                        due_s: times[dropped - 1],
                        why,
                    });
                }
                let mut rest = times[dropped..].iter().copied();
                if late.is_empty() && times.len() == 1 {
                    self.admit(ctx, newest, "its time has come".to_owned(), &mut actions);
                } else {
                    let idle = self.runs.is_empty() && !busy && self.waiting.is_empty();
                    let first = if idle { rest.next() } else { None };
                    self.waiting.extend(rest);
                    if let Some(first) = first {
                        let why = "a missed run is made up for".to_owned();
                        let start = self.start(ctx, first, setting.first_index(), false, why);
                        actions.push(start);
                    }
                }
            }
        }
        actions
    }

    /// A run has ended. `ok`, `what`: how.
    pub fn finished(
        &mut self,
        setting: &Setting<'_>,
        now: Clocks,
        number: u64,
        ok: bool,
        what: &str,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(at) = self.runs.iter().position(|run| run.number == number) else {
            return actions;
        };
        let run = self.runs.remove(at);
        let what = if run.timed_out {
            let limit = setting.schedule.timeout.unwrap_or_default();
            format!("it took longer than {limit} and was ended: {what}")
        } else {
            what.to_owned()
        };
        self.last = Some(Finished {
            due_s: Some(run.due_s),
            started_s: run.decided_s,
            ended_s: now.unix_s(),
            ok: ok && !run.timed_out,
            what,
        });
        self.next_waiting(setting, now, &mut actions);
        actions
    }

    /// Somebody who was at work by order has ended.
    pub fn finished_by_order(
        &mut self,
        setting: &Setting<'_>,
        now: Clocks,
        finished: Finished,
    ) -> Vec<Action> {
        self.last = Some(finished);
        let mut actions = Vec::new();
        self.next_waiting(setting, now, &mut actions);
        actions
    }

    fn next_waiting(&mut self, setting: &Setting<'_>, now: Clocks, actions: &mut Vec<Action>) {
        if !self.runs.is_empty() || self.waiting.is_empty() {
            return;
        }
        let due_s = self.waiting.remove(0);
        let late = now.unix_s() - due_s;
        if late > seconds(setting.schedule.start_within) {
            let by = words::about(u64::try_from(late).unwrap_or(0) * 1000);
            actions.push(Action::Late {
                due_s,
                why: format!("it waited for the run before and begins {by} after its time"),
            });
        }
        let ctx = &mut Admission {
            setting,
            now,
            busy: false,
        };
        let why = "the run before has ended".to_owned();
        let start = self.start(ctx, due_s, setting.first_index(), false, why);
        actions.push(start);
    }

    // ---- what wake does

    /// By how many seconds the clock was put forward.
    fn look_at_clocks(&mut self, setting: &Setting<'_>, now: Clocks, actions: &mut Vec<Action>) -> i64 {
        let jump_ms = self.seen.map_or(0, |seen| {
            (now.unix_ms - seen.unix_ms) - (now.mono_ms - seen.mono_ms)
        });
        self.seen = Some(now);
        let now_s = now.unix_s();
        let ahead = self.handled_s - now_s;
        if ahead > CLOCK_SET_S {
            let by = words::about(u64::try_from(ahead).unwrap_or(0) * 1000);
            self.handled_s = now_s;
            actions.push(Action::Note {
                why: format!("the clock was set back by more than {by}: times count from now on"),
            });
        } else if ahead > 0 && matches!(setting.when, When::Every(_)) {
            self.handled_s = now_s;
        }
        if jump_ms > DRIFT_MS && jump_ms <= CLOCK_SET_S * 1000 {
            jump_ms / 1000 + 1
        } else {
            0
        }
    }

    fn look_at_runs(
        &mut self,
        setting: &Setting<'_>,
        now: Clocks,
        begun: impl Fn(&Run) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let within = setting.schedule.start_within;
        for run in &mut self.runs {
            // By the clock that nobody sets.
            let age_ms = now.mono_ms - run.decided_mono_ms;
            if !run.late_told && (begun(run) || age_ms >= millis(within)) {
                run.late_told = true;
                if !begun(run) {
                    actions.push(Action::Late {
                        due_s: run.due_s,
                        why: format!("it has not begun within {within}"),
                    });
                }
            }
            if let Some(timeout) = setting.schedule.timeout
                && !run.timed_out
                && age_ms >= millis(timeout)
            {
                run.timed_out = true;
                actions.push(Action::Stop {
                    run: run.clone(),
                    why: format!("it takes longer than {timeout}"),
                });
            }
        }
    }

    /// The times that have come, oldest first; and whether there were more than could be counted.
    fn times(&self, setting: &Setting<'_>, now_s: i64) -> (Vec<i64>, bool) {
        let (mut times, mut many) = (Vec::new(), false);
        let mut after = self.handled_s;
        while let Some(time) = next_time(setting.when, setting.zone, after) {
            if time + setting.jitter_s(time) > now_s {
                break;
            }
            after = time;
            times.push(time);
            if times.len() >= TIMES_MAX && !many {
                many = true;
                after = after.max(now_s - LAST_MINUTES_S);
            }
        }
        (times, many)
    }

    fn admit(&mut self, ctx: &mut Admission<'_>, due_s: i64, why: String, actions: &mut Vec<Action>) {
        let setting = ctx.setting;
        let busy = ctx.busy || !self.runs.is_empty();
        if !busy {
            let start = self.start(ctx, due_s, setting.first_index(), false, why);
            return actions.push(start);
        }
        let missed = |why: &str| Action::Missed {
            count: 1,
            due_s,
            why: why.to_owned(),
        };
        match setting.schedule.overlap {
            Overlap::Skip => actions.push(missed("the run before has not ended (`overlap: skip`)")),
            Overlap::Queue if self.waiting.len() < WAITING_MAX => self.waiting.push(due_s),
            Overlap::Queue => actions.push(missed("ten runs wait already for one that has not ended")),
            Overlap::Replace => {
                for run in std::mem::take(&mut self.runs) {
                    self.last = Some(Finished {
                        due_s: Some(run.due_s),
                        started_s: run.decided_s,
                        ended_s: ctx.now.unix_s(),
                        ok: false,
                        what: "it was replaced by the next run (`overlap: replace`)".to_owned(),
                    });
                }
                let start = self.start(ctx, due_s, None, true, why);
                actions.push(start);
            }
            Overlap::Allow => {
                let taken = |index: u32| self.runs.iter().any(|run| run.index == Some(index));
                let first = u32::from(ctx.busy);
                match (first..setting.instances).find(|index| !taken(*index)) {
                    Some(index) => {
                        let start = self.start(ctx, due_s, Some(index), false, why);
                        actions.push(start);
                    }
                    None => actions.push(missed("every instance is at work already (`overlap: allow`)")),
                }
            }
        }
    }

    fn start(
        &mut self,
        ctx: &Admission<'_>,
        due_s: i64,
        index: Option<u32>,
        replace: bool,
        why: String,
    ) -> Action {
        let run = Run {
            number: self.next_run,
            due_s,
            decided_s: ctx.now.unix_s(),
            decided_mono_ms: ctx.now.mono_ms,
            epoch: ctx.setting.epoch,
            index,
            timed_out: false,
            late_told: false,
        };
        self.next_run += 1;
        self.runs.push(run.clone());
        Action::Start { run, replace, why }
    }
}

/// What a run is let in by.
struct Admission<'a> {
    setting: &'a Setting<'a>,
    now: Clocks,
    busy: bool,
}

fn seconds(span: Span) -> i64 {
    millis(span) / 1000
}

fn millis(span: Span) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "schedule/tests.rs"]
mod tests;
