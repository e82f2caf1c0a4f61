//! When an instance is started again, after which pause, and when we give up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::size::Span;

/// Which exits lead to a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartOn {
    /// Every exit that nobody asked for.
    #[default]
    Always,
    /// Every exit but those whose code counts as success.
    #[serde(alias = "on-failure")]
    Failure,
    /// None.
    Never,
    /// As `always`; and an instance that a person stopped stays stopped when the daemon or the machine comes back.
    /// (That holds for every policy here: what was stopped stays stopped. The name is accepted for people who know
    /// it from containers.)
    UnlessStopped,
}

/// The pause before the next start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Backoff {
    /// Start again at once.
    None,
    /// The same pause each time.
    Fixed {
        /// The pause.
        delay: Span,
    },
    /// `min`, then each time `factor` as long, never more than `max`; back to `min` once an instance has been up
    /// for `reset_after`.
    Exponential {
        /// First pause.
        min: Span,
        /// Longest pause.
        max: Span,
        /// Growth, in thousandths (1500 = 1.5), so that it compares and hashes exactly.
        factor_milli: u32,
        /// Uptime after which the next pause is `min` again.
        reset_after: Span,
    },
}

impl Default for Backoff {
    fn default() -> Self {
        Self::Exponential {
            min: Span::from_millis(100),
            max: Span::from_secs(15),
            factor_milli: 2000,
            reset_after: Span::from_secs(30),
        }
    }
}

/// When restarting is pointless. Both rules may be on; the first that holds wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub struct GiveUp {
    /// Give up when an exit follows `starts` starts that all lie within the last `within`.
    pub starts_within: Option<StartsWithin>,
    /// PM2's rule: give up after `max_restarts` exits in a row that each came before `min_uptime`, counted only
    /// while the app is younger than `min_uptime * max_restarts` since it was started by a person.
    pub unstable: Option<Unstable>,
}

/// "N starts within T".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartsWithin {
    /// How many starts.
    pub starts: u32,
    /// In which span.
    pub within: Span,
}

/// PM2's `min_uptime` and `max_restarts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unstable {
    /// An exit before this uptime is unstable.
    pub min_uptime: Span,
    /// How many unstable exits are too many.
    pub max_restarts: u32,
}

/// The whole policy of an app, every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestartPolicy {
    /// Which exits lead to a restart.
    pub on: RestartOn,
    /// Exit codes that count as success (0 unless said otherwise).
    pub success_codes: Vec<u8>,
    /// Exit codes that always end the app without a restart (PM2's `stop_exit_codes`).
    pub stop_codes: Vec<u8>,
    /// Pause before the next start.
    pub backoff: Backoff,
    /// When to stop trying.
    pub give_up: GiveUp,
    /// An instance that has been up this long counts as stable; where no readiness check is given it then counts as
    /// healthy too.
    pub min_uptime: Span,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            on: RestartOn::Always,
            success_codes: vec![0],
            stop_codes: Vec::new(),
            backoff: Backoff::default(),
            give_up: GiveUp {
                starts_within: Some(StartsWithin {
                    starts: 15,
                    // Longer than so many starts take with the default back-off: about two minutes.
                    within: Span::from_secs(300),
                }),
                unstable: None,
            },
            min_uptime: Span::from_secs(1),
        }
    }
}
