//! Whether an instance that ended is started again, after which pause, and why.
//!
//! The questions are asked in this order; the first that answers wins:
//!
//! 1. Does the exit end the app by rule? `stop_codes` do; `on: never` does; `on: failure` does after a success.
//! 2. Did it fail too often? The two rules of [`GiveUp`] in their order.
//! 3. Otherwise it starts again, after the pause of [`Backoff`].
//!
//! A start that failed (no such program, no memory) is judged as an exit with uptime 0 that no rule calls a
//! success, and pauses for a second at least: what made it fail rarely goes away within a millisecond.

use upkeep_model::{
    exit::Exit,
    restart::{Backoff, RestartOn, RestartPolicy, StartsWithin, Unstable},
    size::Span,
};

use crate::words;

/// The shortest pause after a start that failed.
pub const SPAWN_FAILURE_PAUSE: Span = Span::from_secs(1);
/// So many starts are remembered; a rule that counts more counts this many.
pub const MAX_STARTS_COUNTED: usize = 1000;

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// There was a process, and it ended.
    Exited {
        /// How.
        exit: Exit,
        /// After how long.
        uptime_ms: u64,
    },
    /// A check found that it does no good, so it was ended: a failure, however it ended.
    Unhealthy {
        /// What the check said.
        why: &'a str,
        /// How it ended.
        exit: Exit,
        /// After how long.
        uptime_ms: u64,
    },
    /// There never was one; the text says why.
    NotSpawned(&'a str),
}

/// What happened before.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// Times of the starts since a person last started it, oldest first.
    pub starts: &'a [u64],
    /// When a person last started it.
    pub ordered_ms: u64,
    /// Unstable exits so far.
    pub unstable: u32,
    /// The last pause of an exponential back-off.
    pub pause_ms: Option<u64>,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It starts again.
    Start,
    /// It has ended, with success.
    Complete,
    /// It has ended, with a failure.
    Fail,
    /// It failed too often.
    GiveUp,
}

/// The verdict on an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What follows.
    pub next: Next,
    /// The pause before it (zero: at once).
    pub after: Span,
    /// Why, for people.
    pub why: String,
    /// The new count of unstable exits.
    pub unstable: u32,
    /// The pause to grow from next time.
    pub pause_ms: Option<u64>,
}

/// Judges the end of a try.
pub fn verdict(policy: &RestartPolicy, now_ms: u64, history: History<'_>, end: End<'_>) -> Verdict {
    let unstable = count_unstable(policy, now_ms, history, end);
    let what = end.describe();
    let close = |next, why| Verdict {
        next,
        after: Span::default(),
        why,
        unstable,
        pause_ms: None,
    };

    if let Some((next, why)) = ends_by_rule(policy, end) {
        return close(next, format!("{what}; {why}"));
    }
    let within = policy
        .give_up
        .starts_within
        .map(|rule| (rule, recent_starts(rule, now_ms, history)));
    if let Some((rule, starts)) = within
        && starts >= limit(rule)
    {
        return close(
            Next::GiveUp,
            format!(
                "{what}; gave up after {} within {}",
                words::count(starts, "start"),
                rule.within
            ),
        );
    }
    if let Some(rule) = policy.give_up.unstable
        && unstable >= rule.max_restarts
    {
        let Unstable { min_uptime, .. } = rule;
        return close(
            Next::GiveUp,
            format!("{what}; gave up after {unstable} exits within {min_uptime} of their start each"),
        );
    }
    let (pause, pause_ms) = pause(policy.backoff, history.pause_ms, end);
    let when = match pause.as_millis() {
        0 => "at once".to_owned(),
        _ => format!("in {pause}"),
    };
    let tries = match (within, policy.give_up.unstable) {
        (Some((rule, starts)), _) => {
            format!(" (try {} of {} within {})", starts + 1, limit(rule), rule.within)
        }
        (None, Some(rule)) if unstable > 0 => {
            format!(" ({unstable} of {} unstable exits)", rule.max_restarts)
        }
        (None, _) => String::new(),
    };
    Verdict {
        next: Next::Start,
        after: pause,
        why: format!("{what}; starting again {when}{tries}"),
        unstable,
        pause_ms,
    }
}

impl End<'_> {
    /// `exit code 3 after 12s`, `could not be started: …`.
    pub fn describe(self) -> String {
        match self {
            Self::Exited { exit, uptime_ms } => words::ended(exit, uptime_ms),
            Self::Unhealthy { why, exit, uptime_ms } => {
                format!("not alive: {why}; {}", words::ended(exit, uptime_ms))
            }
            Self::NotSpawned(why) => format!("could not be started: {why}"),
        }
    }

    fn uptime_ms(self) -> u64 {
        match self {
            Self::Exited { uptime_ms, .. } | Self::Unhealthy { uptime_ms, .. } => uptime_ms,
            Self::NotSpawned(_) => 0,
        }
    }
}

/// Question 1.
fn ends_by_rule(policy: &RestartPolicy, end: End<'_>) -> Option<(Next, String)> {
    let code = match end {
        End::Exited {
            exit: Exit::Code(code),
            ..
        } => Some(code),
        End::Exited {
            exit: Exit::Signal { .. } | Exit::OutOfMemory | Exit::Unknown,
            ..
        }
        | End::Unhealthy { .. }
        | End::NotSpawned(_) => None,
    };
    if let Some(code) = code.filter(|code| policy.stop_codes.contains(code)) {
        return Some((
            Next::Complete,
            format!("{code} is one of its `stop_codes`, so it is not started again"),
        ));
    }
    let success = code.is_some_and(|code| policy.success_codes.contains(&code));
    match (policy.on, success) {
        (RestartOn::Never, true) => Some((Next::Complete, "its policy is `restart: never`".to_owned())),
        (RestartOn::Never, false) => Some((Next::Fail, "its policy is `restart: never`".to_owned())),
        (RestartOn::Failure, true) => Some((
            Next::Complete,
            "that is a success, and its policy restarts failures only".to_owned(),
        )),
        (RestartOn::Failure, false) | (RestartOn::Always | RestartOn::UnlessStopped, _) => None,
    }
}

fn limit(rule: StartsWithin) -> usize {
    usize::try_from(rule.starts)
        .unwrap_or(usize::MAX)
        .min(MAX_STARTS_COUNTED)
}

fn recent_starts(rule: StartsWithin, now_ms: u64, history: History<'_>) -> usize {
    let from = now_ms.saturating_sub(rule.within.as_millis());
    history.starts.iter().filter(|&&start| start >= from).count()
}

/// With PM2's rule its way of counting: only while the app is young, never set back but by an order. Otherwise
/// exits before `min_uptime` in a row.
fn count_unstable(policy: &RestartPolicy, now_ms: u64, history: History<'_>, end: End<'_>) -> u32 {
    let up = end.uptime_ms();
    match policy.give_up.unstable {
        Some(rule) => {
            let min_uptime = rule.min_uptime.as_millis();
            let window = min_uptime.saturating_mul(u64::from(rule.max_restarts));
            let young = now_ms.saturating_sub(history.ordered_ms) < window;
            history
                .unstable
                .saturating_add(u32::from(young && up < min_uptime))
        }
        None if up < policy.min_uptime.as_millis() => history.unstable.saturating_add(1),
        None => 0,
    }
}

/// The pause before the next start, and what to remember of it.
fn pause(backoff: Backoff, last_ms: Option<u64>, end: End<'_>) -> (Span, Option<u64>) {
    let least = match end {
        End::NotSpawned(_) => SPAWN_FAILURE_PAUSE,
        End::Exited { .. } | End::Unhealthy { .. } => Span::default(),
    };
    match backoff {
        Backoff::None => (least, None),
        Backoff::Fixed { delay } => (delay.max(least), None),
        Backoff::Exponential {
            min,
            max,
            factor_milli,
            reset_after,
        } => {
            let last = last_ms.filter(|_| end.uptime_ms() < reset_after.as_millis());
            let grown = match last {
                None => min.as_millis(),
                Some(last) => last.saturating_mul(u64::from(factor_milli.max(1000))) / 1000,
            };
            let pause = grown.min(max.as_millis());
            (Span::from_millis(pause).max(least), Some(pause))
        }
    }
}

#[cfg(test)]
#[path = "restart/tests.rs"]
mod tests;
