//! Timers that run.

use serde::{Deserialize, Serialize};
use upkeep_model::state::Actual;

use super::{Instance, Turn};
use crate::{effect::Effect, event::Timer};

/// A timer that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Armed {
    pub(super) timer: Timer,
    pub(super) epoch: u64,
    pub(super) at_ms: u64,
}

impl Armed {
    pub(super) fn effect(self) -> Effect {
        let Self { timer, epoch, at_ms } = self;
        Effect::StartTimer { timer, epoch, at_ms }
    }
}

/// The one state in which a timer means something.
fn home(timer: Timer) -> Actual {
    match timer {
        Timer::Backoff => Actual::BackingOff,
        Timer::Grace => Actual::Stopping,
        Timer::KillRetry => Actual::Killing,
        Timer::Stable => Actual::Running,
    }
}

impl Instance {
    pub(super) fn arm(&mut self, turn: &mut Turn<'_>, timer: Timer, at_ms: u64) {
        self.epoch += 1;
        let armed = Armed {
            timer,
            epoch: self.epoch,
            at_ms,
        };
        self.timers.retain(|armed| armed.timer != timer);
        self.timers.push(armed);
        turn.effects.push(armed.effect());
    }

    /// When that timer fires, if it runs.
    pub(super) fn armed_at(&self, timer: Timer) -> Option<u64> {
        self.timers
            .iter()
            .find(|armed| armed.timer == timer)
            .map(|armed| armed.at_ms)
    }

    /// Whether the timer that fired was running; it no longer is.
    pub(super) fn disarm_fired(&mut self, timer: Timer, epoch: u64) -> bool {
        let before = self.timers.len();
        self.timers
            .retain(|armed| (armed.timer, armed.epoch) != (timer, epoch));
        self.timers.len() < before
    }

    /// Cancels what has no meaning in `state`.
    pub(super) fn cancel_timers_foreign_to(&mut self, turn: &mut Turn<'_>, state: Actual) {
        self.timers.retain(|armed| {
            let stays = home(armed.timer) == state;
            if !stays {
                turn.effects.push(Effect::CancelTimer { timer: armed.timer });
            }
            stays
        });
    }
}
