//! A bounded queue in front of a thread.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// What waits for a thread.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    room: usize,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

/// Why it was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(room: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                closed: false,
            }),
            ready: Condvar::new(),
            room,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it if there is room.
    pub(super) fn push(&self, item: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.waiting.len() >= self.room {
            return Err(Refused::Full);
        }
        Self::take(&mut state, item)?;
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Takes it in any case: for whoever has one thing here at most.
    pub(super) fn push_always(&self, item: T) -> Result<(), Refused> {
        Self::take(&mut self.lock(), item)?;
        self.ready.notify_one();
        Ok(())
    }

    fn take(state: &mut State<T>, item: T) -> Result<(), Refused> {
        if state.closed {
            return Err(Refused::Closed);
        }
        state.waiting.push_back(item);
        Ok(())
    }

    /// Waits for the first, then takes what is there, `most` at most, as long as `more` says so. Empty: the time is up.
    /// `None`: it is closed and nothing is left.
    pub(super) fn wait(
        &self,
        until: Option<Instant>,
        most: usize,
        mut more: impl FnMut(&[T], &T) -> bool,
    ) -> Option<Vec<T>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = match until {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let Some(left) = until
                        .checked_duration_since(Instant::now())
                        .filter(|left| !left.is_zero())
                    else {
                        return Some(Vec::new());
                    };
                    self.ready
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(next) = state.waiting.pop_front()
        {
            if !taken.is_empty() && !more(&taken, &next) {
                state.waiting.push_front(next);
                break;
            }
            taken.push(next);
        }
        Some(taken)
    }

    /// Takes no more; what waits is still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }
}
