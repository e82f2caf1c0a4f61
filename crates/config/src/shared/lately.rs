//! How far back whoever may read, but not the history, may still look.
//!
//! The pages of a listing are of one moment, and a watch that was cut off goes on where it was: both read what was a moment ago.
//! So revisions that this process has told of within some minutes can be read and watched from by whoever may read, and
//! a watch may go on, over a daemon that was replaced, behind which there are only changes of the last minutes. What is older is
//! history, and takes that right.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use super::Config;

/// That long, seconds.
pub(crate) const LATELY: f64 = 600.0;
/// Of so many seconds the first revision that was seen is remembered.
const EACH: f64 = 10.0;

/// When which revision was the newest, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Lately(Mutex<VecDeque<(f64, u64)>>);

impl Lately {
    /// This was the newest revision at that time, Unix seconds.
    pub(crate) fn saw(&self, now: f64, revision: u64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        forget(&mut seen, now);
        if seen.back().is_none_or(|(at, _)| now - at >= EACH) {
            seen.push_back((now, revision));
        }
    }

    /// The oldest revision that may be read.
    pub(crate) fn oldest(&self, now: f64) -> Option<u64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        forget(&mut seen, now);
        seen.front().map(|(_, revision)| *revision)
    }
}

/// Leaves out what is too old, and what a clock that was set back says of the future.
fn forget(seen: &mut VecDeque<(f64, u64)>, now: f64) {
    seen.retain(|(at, _)| (0.0..LATELY).contains(&(now - at)));
}

impl Config {
    /// A revision, as callers count, is the newest now.
    pub(crate) fn saw(&self, revision: u64) {
        self.lately.saw((self.now)(), revision);
    }

    /// The oldest revision that can be read without the right to read the history.
    pub(crate) fn oldest_lately(&self) -> Option<u64> {
        self.lately.oldest((self.now)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_within_minutes_is_no_history() {
        let lately = Lately::default();
        assert_eq!(lately.oldest(1000.0), None);
        lately.saw(1000.0, 7);
        lately.saw(1001.0, 8);
        lately.saw(1300.0, 20);
        assert_eq!(lately.oldest(1599.0), Some(7));
        assert_eq!(lately.oldest(1601.0), Some(20), "the first is too old");
        assert_eq!(lately.oldest(5000.0), None);
        lately.saw(6000.0, 30);
        // The clock is set back: nothing of the future is believed.
        assert_eq!(lately.oldest(100.0), None);
        lately.saw(100.0, 31);
        assert_eq!(lately.oldest(101.0), Some(31));
    }
}
