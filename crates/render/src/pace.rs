//! When to render: not at each of many changes, and never without the last.
//!
//! Pure: it is told of changes and of time, and says when the next round is due. Changes that come while a round runs lead to
//! another one. A round that read values older than a change that was told of leaves that change open (a store may answer
//! stale). A round that failed counts as one: what follows waits again, so a key that is missing makes no storm of rounds.

use std::time::{Duration, Instant};

/// How long to wait for more changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// So long nothing must have changed.
    pub min: Duration,
    /// But no longer than this after the first change.
    pub max: Duration,
}

impl Default for Wait {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(200),
            max: Duration::from_secs(2),
        }
    }
}

/// After a failure it is tried again without a change, after so long, doubling.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// When to render.
#[derive(Clone, Debug)]
pub struct Pace {
    wait: Wait,
    /// First and last change that no round has seen.
    open: Option<(Instant, Instant)>,
    /// The highest revision that was told of.
    told: u64,
    running: bool,
    retry: Option<(Instant, Duration)>,
    retry_max: Duration,
}

impl Pace {
    /// Nothing has changed yet.
    pub fn new(wait: Wait) -> Self {
        Self {
            wait: Wait {
                max: wait.max.max(wait.min),
                ..wait
            },
            open: None,
            told: 0,
            running: false,
            retry: None,
            retry_max: RETRY_MAX,
        }
    }

    /// The same, tried again after failures no more rarely than this.
    #[must_use]
    pub fn retrying_within(self, retry_max: Duration) -> Self {
        Self { retry_max, ..self }
    }

    /// Waits otherwise from now on.
    pub fn change_wait(&mut self, wait: Wait) {
        self.wait = Wait {
            max: wait.max.max(wait.min),
            ..wait
        };
    }

    /// Something has changed, up to a revision.
    pub fn noticed(&mut self, now: Instant, revision: u64) {
        self.told = self.told.max(revision);
        self.open = Some(self.open.map_or((now, now), |(first, _)| (first, now)));
    }

    /// When the next round is due; none: when something changes.
    pub fn due(&self) -> Option<Instant> {
        if self.running {
            return None;
        }
        let settled = self
            .open
            .map(|(first, last)| (last + self.wait.min).min(first + self.wait.max));
        settled.or_else(|| self.retry.map(|(at, _)| at))
    }

    /// Begins a round if one is due.
    pub fn begin(&mut self, now: Instant) -> bool {
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        self.running = true;
        self.open = None;
        true
    }

    /// A round has ended well, with the values of a revision.
    pub fn done(&mut self, now: Instant, revision: u64) {
        self.running = false;
        self.retry = None;
        if revision < self.told && self.open.is_none() {
            self.open = Some((now, now));
        }
    }

    /// A round has failed.
    pub fn failed(&mut self, now: Instant) {
        self.running = false;
        let pause = self
            .retry
            .map_or(RETRY_FIRST, |(_, pause)| (pause * 2).min(self.retry_max));
        self.retry = Some((now + pause, pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Wait = Wait {
        min: Duration::from_millis(100),
        max: Duration::from_millis(450),
    };

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn many_changes_are_one_round_and_not_for_ever() {
        let start = Instant::now();
        let mut pace = Pace::new(WAIT);
        assert_eq!(pace.due(), None);
        for (step, revision) in (0..4).zip(1..) {
            pace.noticed(start + ms(step * 20), revision);
        }
        assert_eq!(pace.due(), Some(start + ms(160)));
        assert!(!pace.begin(start + ms(159)));
        assert!(pace.begin(start + ms(160)));
        pace.done(start + ms(170), 4);
        assert_eq!(pace.due(), None);
        // Who changes without end does not hold it up without end.
        for step in 0..20 {
            pace.noticed(start + ms(1000 + step * 50), 5 + step);
        }
        assert_eq!(pace.due(), Some(start + ms(1450)));
    }

    /// confd#629: the second of two quick changes is missed.
    #[test]
    fn a_change_during_a_round_leads_to_another() {
        let start = Instant::now();
        let mut pace = Pace::new(WAIT);
        pace.noticed(start, 1);
        assert!(pace.begin(start + ms(100)));
        pace.noticed(start + ms(101), 2);
        assert_eq!(pace.due(), None, "one at a time");
        pace.done(start + ms(150), 1);
        assert_eq!(pace.due(), Some(start + ms(201)));
    }

    /// confd#479: one host of fifty kept an old file after a stale read.
    #[test]
    fn a_stale_read_is_no_end() {
        let start = Instant::now();
        let mut pace = Pace::new(WAIT);
        pace.noticed(start, 7);
        assert!(pace.begin(start + ms(100)));
        pace.done(start + ms(110), 6);
        assert!(pace.begin(start + ms(210)));
        pace.done(start + ms(220), 7);
        assert_eq!(pace.due(), None);
    }

    /// consul-template#1814: with one key missing, batching never engages.
    #[test]
    fn failures_wait_as_successes_do() {
        let start = Instant::now();
        let mut pace = Pace::new(WAIT);
        let mut rounds = 0;
        for step in 0..1000 {
            let now = start + ms(step * 10);
            pace.noticed(now, step);
            if pace.begin(now) {
                rounds += 1;
                pace.failed(now);
            }
        }
        assert!(
            (20..=25).contains(&rounds),
            "{rounds} rounds in ten seconds of changes"
        );
        // Without changes it is tried again, ever more rarely.
        let mut pace = Pace::new(WAIT);
        pace.failed(start);
        assert_eq!(pace.due(), Some(start + ms(1000)));
        assert!(pace.begin(start + ms(1000)));
        pace.failed(start + ms(1000));
        assert_eq!(pace.due(), Some(start + ms(3000)));
    }
}
