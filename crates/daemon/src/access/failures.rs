//! Failures by where they came from: who fails too often has to wait.

use std::{collections::HashMap, hash::Hash, sync::Mutex};

/// So many may fail within [`SPAN_MS`] before the next is refused unseen.
pub(crate) const MOST: u32 = 10;
/// And how long that is counted, ms.
const SPAN_MS: u64 = 60_000;
/// So many places are remembered; beyond that the oldest go.
const PLACES: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Place {
    since_ms: u64,
    count: u32,
}

/// Counts by place: an address, or a principal with what it tried.
#[derive(Debug)]
pub(crate) struct Failures<K> {
    places: Mutex<HashMap<K, Place>>,
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self {
            places: Mutex::default(),
        }
    }
}

impl<K: Clone + Eq + Hash> Failures<K> {
    /// How long this place has to wait, ms; `None`: it may try.
    pub(crate) fn wait(&self, place: &K, now_ms: u64) -> Option<u64> {
        let places = self
            .places
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = places.get(place)?;
        let end = known.since_ms + SPAN_MS;
        (known.count >= MOST && now_ms < end).then(|| end - now_ms)
    }

    /// Counts one; tells the how-manieth of its span it is.
    pub(crate) fn count(&self, place: &K, now_ms: u64) -> u32 {
        let mut places = self
            .places
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if places.len() >= PLACES {
            places.retain(|_, place| now_ms < place.since_ms + SPAN_MS);
            let oldest = places.iter().min_by_key(|(_, place)| place.since_ms);
            if let Some(oldest) = oldest.map(|(place, _)| place.clone())
                && places.len() >= PLACES
            {
                places.remove(&oldest);
            }
        }
        let fresh = Place {
            since_ms: now_ms,
            count: 0,
        };
        let known = places.entry(place.clone()).or_insert(fresh);
        if now_ms >= known.since_ms + SPAN_MS {
            *known = fresh;
        }
        known.count = known.count.saturating_add(1);
        known.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_waits_and_then_may_again() {
        let failures = Failures::default();
        assert_eq!(failures.count(&"here", 1000), 1);
        for number in 2..MOST {
            assert_eq!(failures.count(&"here", 2000), number);
            assert_eq!(failures.wait(&"here", 2000), None);
        }
        assert_eq!(failures.count(&"here", 3000), MOST);
        assert_eq!(failures.wait(&"here", 3000), Some(SPAN_MS - 2000));
        assert_eq!(failures.wait(&"there", 3000), None);
        assert_eq!(failures.wait(&"here", 1000 + SPAN_MS), None);
        assert_eq!(failures.count(&"here", 1000 + SPAN_MS), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let failures = Failures::default();
        for number in 0..10_000 {
            failures.count(&number, number);
        }
        assert!(failures.places.lock().expect("a lock").len() <= PLACES);
    }
}
