//! Logs that cannot be written: an event when that begins, and one when it is over; once for each app, however many
//! logs it has.
//!
//! A disk that is full for logs may be full for the store as well: an event that it does not take waits here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use upkeep_api::body::Event;
use upkeep_store::Txn;

use crate::{
    events::{self, Events},
    logs::{ledger::lock, pump::Statuses},
};

/// So many events wait; then the oldest goes.
const WAITING: usize = 64;
/// So many looks without a trouble are its end.
const QUIET: u32 = 3;

/// Looks at the pump, and tells.
#[derive(Debug)]
pub(super) struct Watch {
    events: Events,
    statuses: Statuses,
    /// Apps in trouble: why, and how many looks it has been away.
    troubled: BTreeMap<String, (String, u32)>,
    waiting: Arc<Mutex<VecDeque<Event>>>,
}

/// Whose pipe it is: `log:shop/0:out`, `log:shop:err`.
fn app_of(pipe: &str) -> Option<&str> {
    let rest = pipe.strip_prefix("log:")?;
    rest.split(['/', ':']).next().filter(|app| !app.is_empty())
}

impl Watch {
    pub(super) fn new(events: Events, statuses: Statuses) -> Self {
        Self {
            events,
            statuses,
            troubled: BTreeMap::new(),
            waiting: Arc::default(),
        }
    }

    /// Compares what the pump says with what was told.
    pub(super) fn look(&mut self) {
        let mut now: BTreeMap<String, String> = BTreeMap::new();
        for (pipe, status) in lock(&self.statuses).iter() {
            if let (Some(app), Some(trouble)) = (app_of(pipe), &status.trouble) {
                now.entry(app.to_owned()).or_insert_with(|| trouble.clone());
            }
        }
        for (app, why) in &now {
            if let Some(known) = self.troubled.get_mut(app) {
                known.1 = 0;
            } else {
                self.troubled.insert(app.clone(), (why.clone(), 0));
                self.tell(
                    "log_trouble",
                    app,
                    why,
                    "output stays in its pipe while there is room, and is lost then",
                );
            }
        }
        let mut over = Vec::new();
        for (app, (why, away)) in &mut self.troubled {
            if !now.contains_key(app) {
                *away += 1;
                if *away >= QUIET {
                    over.push((app.clone(), why.clone()));
                }
            }
        }
        for (app, why) in over {
            self.troubled.remove(&app);
            self.tell(
                "log_recovered",
                &app,
                &format!("it was: {why}"),
                "its log is written again",
            );
        }
        let again: Vec<Event> = lock(&self.waiting).drain(..).collect();
        for event in again {
            self.commit(event);
        }
    }

    /// Leaves an event.
    pub(super) fn tell(&self, what: &str, target: &str, why: &str, result: &str) {
        self.commit(Event {
            id: 0,
            at: events::now(),
            who: "upkeep".to_owned(),
            what: what.to_owned(),
            target: target.to_owned(),
            why: why.to_owned(),
            result: result.to_owned(),
            details: BTreeMap::new(),
        });
    }

    fn commit(&self, event: Event) {
        let (waiting, kept) = (Arc::clone(&self.waiting), event.clone());
        self.events.commit(Txn::default(), event, move |result| {
            if result.is_err() {
                let mut waiting = lock(&waiting);
                if waiting.len() == WAITING {
                    waiting.pop_front();
                }
                waiting.push_back(kept);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_tells_its_app() {
        assert_eq!(app_of("log:shop/0:out"), Some("shop"));
        assert_eq!(app_of("log:shop:err"), Some("shop"));
        assert_eq!(app_of("listen:shop"), None);
    }
}
