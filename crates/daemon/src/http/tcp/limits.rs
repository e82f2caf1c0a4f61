//! How many connections there may be, in all and from one place.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

/// As many as descriptors allow, but not more than this.
const MOST: u64 = 2000;
/// Of them, from one place elsewhere.
const OF_ONE: usize = 256;
/// Beyond all, so many are told that there is no room.
const TOLD: usize = 32;

/// Counts connections over TCP.
#[derive(Debug)]
pub(super) struct Limits {
    most: usize,
    open: Mutex<Open>,
    /// One has ended.
    left: Notify,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    told: usize,
    places: HashMap<IpAddr, usize>,
}

/// Room for one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    limits: Arc<Limits>,
    place: Option<IpAddr>,
}

/// Whether a connection finds room.
#[derive(Debug)]
pub(super) enum Entry {
    /// Come in.
    Room(Room),
    /// There is none, and there is time to say so.
    Full(Room, &'static str),
    /// Not even that.
    None,
}

impl Limits {
    pub(super) fn new() -> Arc<Self> {
        // A sixteenth of the descriptors: logs and apps take the rest.
        let limit = upkeep_sys::rlimit::get(upkeep_sys::rlimit::OPEN_FILES).map_or(1024, |limit| limit.soft);
        Self::of(usize::try_from((limit / 16).clamp(32, MOST)).unwrap_or(32))
    }

    fn of(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            open: Mutex::default(),
            left: Notify::new(),
        })
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Asks for room. This machine itself is no single place: proxies and tunnels come from there.
    pub(super) fn enter(self: &Arc<Self>, place: IpAddr) -> Entry {
        let mut open = self.open();
        let of_one = open.places.get(&place).copied().unwrap_or(0);
        let full = if open.all >= self.most {
            Some("refused: there are too many connections to this machine")
        } else if of_one >= OF_ONE && !place.is_loopback() {
            Some("refused: there are too many connections from this address")
        } else {
            None
        };
        let Some(full) = full else {
            open.all += 1;
            *open.places.entry(place).or_default() += 1;
            return Entry::Room(self.room(Some(place)));
        };
        if open.told >= TOLD {
            return Entry::None;
        }
        open.told += 1;
        Entry::Full(self.room(None), full)
    }

    fn room(self: &Arc<Self>, place: Option<IpAddr>) -> Room {
        Room {
            limits: Arc::clone(self),
            place,
        }
    }

    /// Waits until no connection is left.
    pub(super) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            let mut left = std::pin::pin!(left);
            left.as_mut().enable();
            {
                let open = self.open();
                if open.all == 0 && open.told == 0 {
                    return;
                }
            }
            left.await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut open = self.limits.open();
        match self.place {
            None => open.told -= 1,
            Some(place) => {
                open.all -= 1;
                if let Some(count) = open.places.get_mut(&place) {
                    *count -= 1;
                    if *count == 0 {
                        open.places.remove(&place);
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
        let limits = Limits::of(OF_ONE + 2);
        let far: IpAddr = "192.0.2.1".parse().expect("an address");
        let near: IpAddr = "127.0.0.1".parse().expect("an address");
        let enter = |place| match limits.enter(place) {
            Entry::Room(room) => Ok(room),
            Entry::Full(room, why) => {
                drop(room);
                Err(why)
            }
            Entry::None => Err("nobody is told"),
        };
        let mut rooms: Vec<Room> = (0..OF_ONE).map(|_| enter(far).expect("room")).collect();
        assert!(enter(far).expect_err("too many").contains("from this address"));
        let more = [enter(near).expect("room"), enter(near).expect("room")];
        assert!(enter(near).expect_err("too many").contains("to this machine"));
        rooms.pop();
        assert!(enter(near).is_ok());
        drop((rooms, more));
        assert!(limits.open().places.is_empty());
        assert_eq!(limits.open().all, 0);
    }

    #[test]
    fn not_everybody_is_told() {
        let limits = Limits::of(0);
        let place: IpAddr = "::1".parse().expect("an address");
        let told: Vec<Entry> = (0..=TOLD).map(|_| limits.enter(place)).collect();
        assert!(matches!(told[TOLD - 1], Entry::Full(..)));
        assert!(matches!(told[TOLD], Entry::None));
    }
}
