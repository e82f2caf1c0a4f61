//! PM2's verdict on an exit: what its users' counters and limits mean.
//!
//! It counts every exit, also ordered ones, as unstable if the app is young (started by a person less than
//! `min_uptime * max_restarts` ago) and the process was (`min_uptime`). It gives up when that count reaches
//! `max_restarts`: by default an app that ends at once is started 16 times. (Behaviour of PM2 7, observed.)

use serde::{Deserialize, Serialize};

/// What the app's record says about it. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `autorestart`.
    pub autorestart: bool,
    /// `stop_exit_codes`.
    pub stop_codes: Vec<i64>,
    /// `min_uptime`.
    pub min_uptime_ms: u64,
    /// `max_restarts`.
    pub max_restarts: u64,
    /// `restart_delay`; 0: none.
    pub restart_delay_ms: u64,
    /// `exp_backoff_restart_delay`; 0: none.
    pub backoff_ms: u64,
}

/// The longest pause of the growing kind.
pub const BACKOFF_MAX_MS: u64 = 15_000;

/// What is remembered from exit to exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// When a person last started, restarted or reset it (CLOCK_MONOTONIC); `None` once it was given up.
    pub created_ms: Option<u64>,
    /// `unstable_restarts`.
    pub unstable: u64,
    /// `prev_restart_delay`; 0: none yet.
    pub last_delay_ms: u64,
}

/// An exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The code; 0 for a signal, as PM2 has it.
    pub code: i64,
    /// How long the process was up.
    pub uptime_ms: u64,
    /// Whether somebody had ordered it.
    pub ordered: bool,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays down.
    Stay,
    /// It stays down and is shown as waiting for a restart that never comes: PM2 looks at the pause before it looks
    /// at `autorestart`.
    StayWaiting,
    /// It failed too often.
    GiveUp,
    /// It is started again after this pause (0: at once).
    Restart {
        /// The pause.
        after_ms: u64,
    },
}

/// Judges an exit and counts it.
pub fn judge(rules: &Rules, counters: &mut Counters, now_ms: u64, exit: Exit) -> Verdict {
    let stay = exit.ordered || !rules.autorestart || rules.stop_codes.contains(&exit.code);
    let window = rules.min_uptime_ms.saturating_mul(rules.max_restarts);
    let young = counters
        .created_ms
        .is_none_or(|created| now_ms.saturating_sub(created) < window);
    if young && exit.uptime_ms < rules.min_uptime_ms {
        counters.unstable += 1;
    }
    if !exit.ordered && counters.unstable >= rules.max_restarts {
        *counters = Counters::default();
        return Verdict::GiveUp;
    }
    if exit.ordered {
        return Verdict::Stay;
    }
    let mut pause = 0;
    if rules.restart_delay_ms > 0 {
        pause = rules.restart_delay_ms;
    }
    if rules.backoff_ms > 0 {
        pause = match counters.last_delay_ms {
            0 => rules.backoff_ms,
            last => (last.saturating_mul(3) / 2).min(BACKOFF_MAX_MS),
        };
        counters.last_delay_ms = pause;
    }
    match (stay, pause) {
        (true, 0) => Verdict::Stay,
        (true, _) => Verdict::StayWaiting,
        (false, after_ms) => Verdict::Restart { after_ms },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            autorestart: true,
            stop_codes: Vec::new(),
            min_uptime_ms: 1000,
            max_restarts: 16,
            restart_delay_ms: 0,
            backoff_ms: 0,
        }
    }

    const CRASH: Exit = Exit {
        code: 1,
        uptime_ms: 30,
        ordered: false,
    };

    fn counters() -> Counters {
        Counters {
            created_ms: Some(0),
            ..Counters::default()
        }
    }

    #[test]
    fn an_app_that_ends_at_once_is_started_sixteen_times() {
        let mut counters = counters();
        let mut starts = 1;
        while judge(&rules(), &mut counters, starts * 40, CRASH) == (Verdict::Restart { after_ms: 0 }) {
            starts += 1;
        }
        assert_eq!(starts, 16);
        assert_eq!(counters, Counters::default());
    }

    #[test]
    fn outside_of_the_window_nothing_counts() {
        let mut counters = counters();
        for second in 16..100 {
            let verdict = judge(&rules(), &mut counters, second * 1000, CRASH);
            assert_eq!(verdict, Verdict::Restart { after_ms: 0 });
        }
        assert_eq!(counters.unstable, 0);
    }

    #[test]
    fn the_pause_grows_by_half_up_to_fifteen_seconds() {
        let rules = Rules {
            backoff_ms: 100,
            ..rules()
        };
        let mut counters = counters();
        let mut pauses = Vec::new();
        for _ in 0..14 {
            match judge(&rules, &mut counters, 1_000_000, CRASH) {
                Verdict::Restart { after_ms } => pauses.push(after_ms),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pauses[..7], [100, 150, 225, 337, 505, 757, 1135]);
        assert_eq!(pauses[13], 15_000);
    }

    #[test]
    fn an_ordered_exit_counts_but_decides_nothing() {
        let mut counters = counters();
        let ordered = Exit {
            ordered: true,
            ..CRASH
        };
        assert_eq!(judge(&rules(), &mut counters, 10, ordered), Verdict::Stay);
        assert_eq!(counters.unstable, 1);
    }

    #[test]
    fn without_autorestart_a_delay_waits_for_ever() {
        let rules = Rules {
            autorestart: false,
            restart_delay_ms: 500,
            ..rules()
        };
        assert_eq!(judge(&rules, &mut counters(), 10, CRASH), Verdict::StayWaiting);
        let rules = Rules {
            stop_codes: vec![1],
            ..self::rules()
        };
        assert_eq!(judge(&rules, &mut counters(), 10, CRASH), Verdict::Stay);
    }
}
