//! Which copies there are, what each has in hand, and which is next.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    http::Idle,
    protocol::{FromDoor, Upstream},
};

/// How long a copy that refused a connection is passed over.
const PASSED_OVER: Duration = Duration::from_millis(200);

/// A copy as the door sees it.
pub(crate) struct Copy {
    pub(crate) id: String,
    pub(crate) port: u16,
    takes: Cell<bool>,
    in_hand: Cell<usize>,
    /// It refused a connection: not before this moment again.
    passed_over: Cell<Option<Instant>>,
    told_drained: Cell<bool>,
    /// Connections to it that nobody uses just now.
    pub(crate) idle: RefCell<Vec<Idle>>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Upstreams {
    copies: RefCell<Vec<Rc<Copy>>>,
    changed: Notify,
    /// What the daemon has to be told.
    pub(crate) news: RefCell<Vec<FromDoor>>,
    pub(crate) news_there: Notify,
    /// Breaks ties in turn.
    turn: Cell<usize>,
}

/// A piece of work of a copy: a request or a connection. Dropping it ends it.
pub(crate) struct Work {
    pub(crate) copy: Rc<Copy>,
    upstreams: Rc<Upstreams>,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.copy.in_hand.set(self.copy.in_hand.get().saturating_sub(1));
        self.upstreams.tell_drained(&self.copy);
        self.upstreams.changed.notify_waiters();
    }
}

impl Work {
    /// The copy did not accept a connection.
    pub(crate) fn refused(&self) {
        self.copy.passed_over.set(Some(Instant::now() + PASSED_OVER));
    }
}

impl Upstreams {
    /// What the daemon says there is.
    pub(crate) fn set(self: &Rc<Self>, list: Vec<Upstream>) {
        let mut copies = Vec::with_capacity(list.len());
        for upstream in list {
            let known = self.copies.borrow().iter().find_map(|copy| {
                (copy.id == upstream.id && copy.port == upstream.port).then(|| Rc::clone(copy))
            });
            let copy = known.unwrap_or_else(|| {
                Rc::new(Copy {
                    id: upstream.id,
                    port: upstream.port,
                    takes: Cell::new(upstream.takes),
                    in_hand: Cell::new(0),
                    passed_over: Cell::new(None),
                    told_drained: Cell::new(false),
                    idle: RefCell::new(Vec::new()),
                })
            });
            copy.takes.set(upstream.takes);
            // The daemon that was told may have died since: each list is answered anew.
            copy.told_drained.set(false);
            copies.push(copy);
        }
        self.copies.replace(copies.clone());
        for copy in &copies {
            self.tell_drained(copy);
        }
        self.changed.notify_waiters();
    }

    /// All copies there are.
    pub(crate) fn copies(&self) -> Vec<Rc<Copy>> {
        self.copies.borrow().clone()
    }

    fn tell_drained(&self, copy: &Copy) {
        if !copy.takes.get() && copy.in_hand.get() == 0 && !copy.told_drained.replace(true) {
            // Kept connections have nothing on them; the copy sees them end in peace.
            copy.idle.borrow_mut().clear();
            self.tell(FromDoor::Drained { id: copy.id.clone() });
        }
    }

    /// Has the daemon be told something, once if it was not sent yet.
    pub(crate) fn tell(&self, what: FromDoor) {
        let mut news = self.news.borrow_mut();
        if !news.contains(&what) {
            news.push(what);
            self.news_there.notify_one();
        }
    }

    /// The copy with the least in hand that may be given work; waits for one until `deadline`.
    pub(crate) async fn take(self: &Rc<Self>, deadline: Instant) -> Option<Work> {
        loop {
            // Before the look, so that a change in between is not missed.
            let changed = self.changed.notified();
            if let Some(copy) = self.best() {
                copy.in_hand.set(copy.in_hand.get() + 1);
                return Some(Work {
                    copy,
                    upstreams: Rc::clone(self),
                });
            }
            let soon = self.soonest().map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                // Cancel-safe: the list is looked at again.
                () = changed => {}
                () = tokio::time::sleep_until(soon) => {
                    if Instant::now() >= deadline {
                        return None;
                    }
                }
            }
        }
    }

    /// When the first copy that is passed over may be tried again.
    fn soonest(&self) -> Option<Instant> {
        self.copies
            .borrow()
            .iter()
            .filter(|copy| copy.takes.get())
            .filter_map(|copy| copy.passed_over.get())
            .min()
    }

    fn best(&self) -> Option<Rc<Copy>> {
        let copies = self.copies.borrow();
        let now = Instant::now();
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        let count = copies.len().max(1);
        copies
            .iter()
            .enumerate()
            .filter(|(_, copy)| copy.takes.get() && copy.passed_over.get().is_none_or(|until| now >= until))
            .min_by_key(|(at, copy)| (copy.in_hand.get(), at.wrapping_add(turn) % count))
            .map(|(_, copy)| Rc::clone(copy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(id: &str, port: u16, takes: bool) -> Upstream {
        Upstream {
            id: id.to_owned(),
            port,
            takes,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    async fn id_of(upstreams: &Rc<Upstreams>) -> Option<(String, Work)> {
        let work = upstreams.take(soon()).await?;
        Some((work.copy.id.clone(), work))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_least_busy_is_next_and_none_is_waited_for() {
        let upstreams = Rc::new(Upstreams::default());
        assert!(id_of(&upstreams).await.is_none());
        upstreams.set(vec![upstream("0", 1, true), upstream("1", 2, true)]);
        let first = id_of(&upstreams).await.expect("one");
        let second = id_of(&upstreams).await.expect("another");
        assert_ne!(first.0, second.0);
        let busy = first.0.clone();
        drop(second);
        for _ in 0..3 {
            let next = id_of(&upstreams).await.expect("one");
            assert_ne!(next.0, busy);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn drained_is_told_when_the_last_work_ends_and_again_on_each_list() {
        let upstreams = Rc::new(Upstreams::default());
        upstreams.set(vec![upstream("0", 1, true)]);
        let work = id_of(&upstreams).await.expect("one");
        upstreams.set(vec![upstream("0", 1, false), upstream("0.2", 2, true)]);
        assert!(upstreams.news.borrow().is_empty());
        assert_eq!(id_of(&upstreams).await.expect("the new one").0, "0.2");
        drop(work);
        let drained = [FromDoor::Drained { id: "0".to_owned() }];
        assert_eq!(*upstreams.news.borrow(), drained);
        upstreams.set(vec![upstream("0", 1, false), upstream("0.2", 2, true)]);
        assert_eq!(
            *upstreams.news.borrow(),
            drained,
            "not twice what waits to be sent"
        );
        upstreams.news.take();
        upstreams.set(vec![upstream("0", 1, false), upstream("0.2", 2, true)]);
        assert_eq!(*upstreams.news.borrow(), drained, "a new daemon hears it too");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_refuses_is_passed_over_for_a_moment() {
        let upstreams = Rc::new(Upstreams::default());
        upstreams.set(vec![upstream("0", 1, true)]);
        let (_, work) = id_of(&upstreams).await.expect("one");
        work.refused();
        drop(work);
        assert!(id_of(&upstreams).await.is_none(), "passed over");
        let later = Instant::now() + Duration::from_secs(5);
        assert!(upstreams.take(later).await.is_some(), "and tried again");
    }
}
