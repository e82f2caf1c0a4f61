//! How many connections there may be, in all and from one place: an address over TCP, a user on the unix socket.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

/// As many as descriptors allow, but not more than this.
const MOST: u64 = 2000;
/// Of them, from one place elsewhere; and not more than a quarter of all.
const OF_ONE: usize = 256;
/// Beyond all, so many are told that there is no room.
const TOLD: usize = 32;

/// Counts connections by the place that they come from.
#[derive(Debug)]
pub(in crate::http) struct Limits<P: Eq + Hash> {
    most: usize,
    of_one: usize,
    open: Mutex<Open<P>>,
    /// One has ended.
    left: Notify,
}

#[derive(Debug)]
struct Open<P> {
    all: usize,
    told: usize,
    welcome: usize,
    places: HashMap<P, usize>,
}

/// What a room is counted as.
#[derive(Debug)]
enum As<P> {
    Guest(P),
    Told,
    Welcome,
}

/// Room for one connection, given back when it is dropped.
#[derive(Debug)]
pub(in crate::http) struct Room<P: Eq + Hash> {
    limits: Arc<Limits<P>>,
    counted: As<P>,
}

/// Whether a connection finds room.
#[derive(Debug)]
pub(in crate::http) enum Entry<P: Eq + Hash> {
    /// Come in.
    Room(Room<P>),
    /// There is none, and there is time to say so.
    Full(Room<P>, &'static str),
    /// Not even that.
    None,
}

impl<P: Clone + Eq + Hash> Limits<P> {
    pub(in crate::http) fn new() -> Arc<Self> {
        // A sixteenth of the descriptors: logs and apps take the rest.
        let limit = upkeep_sys::rlimit::get(upkeep_sys::rlimit::OPEN_FILES).map_or(1024, |limit| limit.soft);
        Self::of(usize::try_from((limit / 16).clamp(32, MOST)).unwrap_or(32))
    }

    fn of(most: usize) -> Arc<Self> {
        let open = Open {
            all: 0,
            told: 0,
            welcome: 0,
            places: HashMap::new(),
        };
        Arc::new(Self {
            most,
            of_one: OF_ONE.min(most / 4),
            open: Mutex::new(open),
            left: Notify::new(),
        })
    }

    /// Asks for room. `is_one`: it is a single place, which has only a part of all.
    pub(in crate::http) fn enter(self: &Arc<Self>, place: P, is_one: bool) -> Entry<P> {
        let mut open = self.open();
        let of_one = open.places.get(&place).copied().unwrap_or(0);
        let full = if open.all >= self.most {
            Some("refused: there are too many connections to this machine")
        } else if is_one && of_one >= self.of_one {
            Some("refused: there are too many connections from this place")
        } else {
            None
        };
        let Some(full) = full else {
            open.all += 1;
            *open.places.entry(place.clone()).or_default() += 1;
            return Entry::Room(self.room(As::Guest(place)));
        };
        if open.told >= TOLD {
            return Entry::None;
        }
        open.told += 1;
        Entry::Full(self.room(As::Told), full)
    }

    /// Room for whom there always is some.
    pub(in crate::http) fn welcome(self: &Arc<Self>) -> Room<P> {
        self.open().welcome += 1;
        self.room(As::Welcome)
    }

    fn room(self: &Arc<Self>, counted: As<P>) -> Room<P> {
        Room {
            limits: Arc::clone(self),
            counted,
        }
    }

    /// Waits until no connection is left.
    pub(in crate::http) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            let mut left = std::pin::pin!(left);
            left.as_mut().enable();
            {
                let open = self.open();
                if open.all == 0 && open.told == 0 && open.welcome == 0 {
                    return;
                }
            }
            left.await;
        }
    }
}

impl<P: Eq + Hash> Limits<P> {
    fn open(&self) -> std::sync::MutexGuard<'_, Open<P>> {
        self.open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<P: Eq + Hash> Drop for Room<P> {
    fn drop(&mut self) {
        let mut open = self.limits.open();
        match &self.counted {
            As::Told => open.told -= 1,
            As::Welcome => open.welcome -= 1,
            As::Guest(place) => {
                open.all -= 1;
                if let Some(count) = open.places.get_mut(place) {
                    *count -= 1;
                    if *count == 0 {
                        open.places.remove(place);
                    }
                }
            }
        }
        drop(open);
        self.limits.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let limits = Limits::of(4 * OF_ONE);
        let enter = |place, is_one| match limits.enter(place, is_one) {
            Entry::Room(room) => Ok(room),
            Entry::Full(room, why) => {
                drop(room);
                Err(why)
            }
            Entry::None => Err("nobody is told"),
        };
        let mut rooms: Vec<_> = (0..OF_ONE).map(|_| enter("far", true).expect("room")).collect();
        assert!(
            enter("far", true)
                .expect_err("too many")
                .contains("from this place")
        );
        let more: Vec<_> = (0..3 * OF_ONE)
            .map(|_| enter("near", false).expect("room"))
            .collect();
        assert!(
            enter("near", false)
                .expect_err("too many")
                .contains("to this machine")
        );
        let own = limits.welcome();
        rooms.pop();
        assert!(enter("near", false).is_ok());
        drop((rooms, more, own));
        let open = limits.open();
        assert!(open.places.is_empty());
        assert_eq!((open.all, open.welcome), (0, 0));
    }

    #[test]
    fn one_place_has_a_quarter_where_descriptors_are_few() {
        let limits = Limits::of(32);
        let rooms: Vec<_> = (0..8).map(|_| limits.enter(1, true)).collect();
        assert!(rooms.iter().all(|entry| matches!(entry, Entry::Room(_))));
        assert!(matches!(limits.enter(1, true), Entry::Full(..)));
        assert!(matches!(limits.enter(2, true), Entry::Room(_)));
    }

    #[test]
    fn not_everybody_is_told() {
        let limits = Limits::of(0);
        let told: Vec<Entry<u32>> = (0..=TOLD).map(|_| limits.enter(1, false)).collect();
        assert!(matches!(told[TOLD - 1], Entry::Full(..)));
        assert!(matches!(told[TOLD], Entry::None));
    }
}
