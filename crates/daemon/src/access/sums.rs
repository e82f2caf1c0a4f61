//! What was refused, in few words: refusals must not fill the event log.
//!
//! The journal keeps so many events, and an event pushes out the oldest. It takes no right, or any, to be refused: so one could
//! push out all others. Therefore of each kind the first few are told one by one, and the rest as one sum at the end
//! of the minute; as long as that goes on, the next sum comes after twice the time, up to an hour. It does not matter
//! from how many places they come. So that noise from one place does not hide another, the first of a place that was not
//! met in that hour is told by itself too, for a few places an hour; and a sum names the places with the most.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// So many are told one by one in a span.
const ONE_BY_ONE: u32 = 2;
/// The first span, and the longest.
const SPANS: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));
/// So many places an hour are told of by themselves when they are new, whatever goes on.
const NEW: usize = 5;
/// So many places are counted; beyond that it says "more than".
const PLACES: usize = 1000;
/// So many of them are named.
const NAMED: usize = 5;

/// Counts what is not told one by one.
#[derive(Debug, Default)]
pub(crate) struct Sums(Mutex<Span>);

#[derive(Debug, Default)]
struct Span {
    told: u32,
    more: u64,
    /// How many of what was not told came from where.
    places: BTreeMap<String, u64>,
    /// Places that were told of by themselves in this hour.
    met: BTreeSet<String>,
    /// How long this hour has lasted.
    hour: Duration,
}

/// What a span had more than was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) count: u64,
    /// Those with the most.
    pub(crate) places: Vec<String>,
    /// How many places, in words.
    pub(crate) from: String,
}

impl Sums {
    fn span(&self) -> MutexGuard<'_, Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one; whether it is to be told by itself. `is_worth`: it would be, if there were few.
    pub(crate) fn count(&self, place: &str, is_worth: bool) -> bool {
        let mut span = self.span();
        if is_worth && span.told < ONE_BY_ONE {
            span.told += 1;
            span.met.insert(place.to_owned());
            return true;
        }
        if is_worth && span.met.len() < NEW && span.met.insert(place.to_owned()) {
            return true;
        }
        span.more += 1;
        if let Some(count) = span.places.get_mut(place) {
            *count += 1;
        } else if span.places.len() <= PLACES {
            span.places.insert(place.to_owned(), 1);
        }
        false
    }

    /// Ends a span that lasted for so long: what it had more than was told.
    fn take(&self, time: Duration) -> Option<Sum> {
        let Span { more, places, .. } = {
            let mut span = self.span();
            let mut next = Span {
                met: std::mem::take(&mut span.met),
                hour: span.hour + time,
                ..Span::default()
            };
            if next.hour >= SPANS.1 {
                next.met.clear();
                next.hour = Duration::ZERO;
            }
            std::mem::replace(&mut *span, next)
        };
        let from = match places.len() {
            1 => "1 place".to_owned(),
            many if many > PLACES => format!("more than {PLACES} places"),
            many => format!("{many} places"),
        };
        let mut places: Vec<(String, u64)> = places.into_iter().collect();
        places.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        (more > 0).then(|| Sum {
            count: more,
            places: places.into_iter().take(NAMED).map(|(place, _)| place).collect(),
            from,
        })
    }

    /// Tells sums, each at the end of its span. Never ends.
    pub(crate) async fn tell(&self, tell: impl Fn(Sum)) {
        let mut time = SPANS.0;
        loop {
            tokio::time::sleep(time).await;
            let sum = self.take(time);
            time = next(time, sum.is_some());
            sum.into_iter().for_each(&tell);
        }
    }
}

/// How long the next span is. `goes_on`: the last one had more than was told.
fn next(time: Duration, goes_on: bool) -> Duration {
    let (first, longest) = SPANS;
    if goes_on { (time * 2).min(longest) } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = SPANS.0;

    #[test]
    fn few_are_told_one_by_one_and_many_as_one() {
        let sums = Sums::default();
        assert_eq!(sums.take(MINUTE), None);
        assert!(sums.count("a", true));
        assert!(sums.count("b", true));
        assert_eq!(sums.take(MINUTE), None, "all was told");
        let alone = (0..10_000)
            .filter(|number| sums.count(&number.to_string(), true))
            .count();
        // Two of each span, and one more for the fifth place that is new in this hour.
        assert_eq!(alone, 3);
        let sum = sums.take(MINUTE).expect("a sum");
        assert_eq!((sum.count, sum.places.len()), (9997, NAMED));
        assert_eq!(sum.from, "more than 1000 places");
        assert!(!sums.count("a", false));
        let sum = sums.take(MINUTE).expect("a sum");
        assert_eq!((sum.count, sum.from.as_str()), (1, "1 place"));
    }

    #[test]
    fn noise_from_one_place_hides_no_other() {
        let sums = Sums::default();
        let noise = |count: usize| (0..count).filter(|_| sums.count("1.1.1.1", true)).count();
        assert_eq!(noise(1000), 2);
        assert!(sums.count("9.9.9.9", true), "it is new");
        assert!(!sums.count("9.9.9.9", true));
        for number in 2..10 {
            sums.count(&format!("1.1.1.{number}"), true);
        }
        for _ in 0..50 {
            sums.count("9.9.9.9", true);
        }
        let sum = sums.take(MINUTE).expect("a sum");
        assert_eq!(
            &sum.places[..2],
            ["1.1.1.1", "9.9.9.9"],
            "the most, not the first of the alphabet"
        );
        // In the next hour it is new again.
        assert!(sums.take(SPANS.1).is_none());
        noise(1000);
        assert!(sums.count("9.9.9.9", true));
    }

    #[test]
    fn the_longer_it_goes_on_the_rarer_it_is_told() {
        let (first, longest) = SPANS;
        let mut spans = vec![first];
        for _ in 0..8 {
            spans.extend(spans.last().map(|span| next(*span, true)));
        }
        let minutes: Vec<u64> = spans.iter().map(|span| span.as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(next(longest, false), first);
    }
}
