//! Those who watch the configuration through this daemon, and whether they keep up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use upkeep_api::config_store::WatchState;
use upkeep_config::watch::Told;

#[derive(Debug, Default)]
struct One {
    /// Since when something waits that its reader does not take.
    waits: Option<Instant>,
    /// Revisions that it is behind, as the store told.
    behind: u64,
}

/// All who watch.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    all: Mutex<(u64, BTreeMap<u64, One>)>,
}

/// One who watches; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Watching {
    all: Arc<Watchers>,
    number: u64,
}

impl Watchers {
    fn all(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, One>)> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more.
    pub(crate) fn enter(self: &Arc<Self>) -> Watching {
        let mut all = self.all();
        all.0 += 1;
        let number = all.0;
        all.1.insert(number, One::default());
        drop(all);
        Watching {
            all: Arc::clone(self),
            number,
        }
    }

    /// How they are.
    pub(crate) fn state(&self) -> WatchState {
        let all = self.all();
        // Who is written to at this moment is not held up by that.
        let waits = all
            .1
            .values()
            .filter_map(|one| one.waits)
            .map(|since| since.elapsed().as_secs_f64())
            .filter(|seconds| *seconds >= 1.0);
        WatchState {
            open: all.1.len() as u64,
            held_up: waits.clone().count() as u64,
            longest_s: waits.fold(0.0, f64::max),
            behind: all.1.values().map(|one| one.behind).max().unwrap_or(0),
        }
    }
}

impl Watching {
    fn change(&mut self, change: impl FnOnce(&mut One)) {
        if let Some(one) = self.all.all().1.get_mut(&self.number) {
            change(one);
        }
    }

    /// What it is told next.
    pub(crate) fn told(&mut self, told: &Told) {
        self.change(|one| {
            one.behind = match told {
                Told::Lagging { behind } => *behind,
                _ => 0,
            };
        });
    }

    /// Whether something waits for its reader.
    pub(crate) fn waits(&mut self, is_waiting: bool) {
        self.change(|one| one.waits = is_waiting.then(Instant::now));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.all.all().1.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_is_counted_until_it_leaves() {
        let all = Arc::new(Watchers::default());
        let (mut one, other) = (all.enter(), all.enter());
        one.told(&Told::Lagging { behind: 7 });
        one.waits(true);
        let state = all.state();
        assert_eq!((state.open, state.behind, state.held_up), (2, 7, 0));
        one.change(|one| one.waits = Instant::now().checked_sub(std::time::Duration::from_secs(5)));
        let state = all.state();
        assert!(state.held_up == 1 && state.longest_s >= 5.0, "{state:?}");
        one.waits(false);
        one.told(&Told::Progress { revision: 9 });
        assert_eq!((all.state().held_up, all.state().behind), (0, 0));
        drop((one, other));
        assert_eq!(all.state(), WatchState::default());
    }
}
