//! Messages on their way: pending ones with their next try, and the newest of those that have ended.
//!
//! Each is a key of its own in the store (`/alerts/deliveries/ID`), written in the same transaction as the event that
//! tells of the alert; so a kill between two tries loses none. A kill in the midst of a try may lead to a second one of
//! what the receiver has already: the id is the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;
use upkeep_api::alert::{Attempt, Delivery, DeliveryState, Message};
use upkeep_store::{Store, StoreError, Txn};

use super::channel::Failure;

/// Where they are in the store.
pub(super) const PREFIX: &str = "/alerts/deliveries/";
/// How many may wait; if there are more the oldest is given up.
const PENDING: usize = 1000;
/// How many of those that have ended are kept.
const ENDED: usize = 500;
/// How many tries of each are kept.
const ATTEMPTS: usize = 10;
/// First pause between two tries; it doubles.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST: Duration = Duration::from_mins(10);
/// For how long it is tried.
const PATIENCE_S: f64 = 86_400.0;

/// One that waits.
#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    due: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By id, which is in order of time.
    waiting: BTreeMap<String, Waiting>,
    /// Ids of those that have ended.
    ended: BTreeSet<String>,
    /// Channels with a try under way.
    busy: BTreeSet<String>,
    /// What went wrong last, by channel.
    trouble: BTreeMap<String, String>,
}

/// What became of a try.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) id: String,
    pub(super) channel: String,
    pub(super) at: f64,
    pub(super) took_ms: u64,
    pub(super) result: Result<(), Failure>,
}

/// Where a delivery is in the store.
fn key(id: &str) -> String {
    format!("{PREFIX}{id}")
}

fn encode(delivery: &Delivery) -> (String, Vec<u8>) {
    (
        key(&delivery.id),
        serde_json::to_vec(delivery).unwrap_or_default(),
    )
}

/// Every delivery in the store; what cannot be read is left out.
pub(super) fn stored(store: &dyn Store) -> Result<Vec<Delivery>, StoreError> {
    let entries = store.range(PREFIX, 2 * (PENDING + ENDED))?;
    Ok(entries
        .iter()
        .filter_map(|entry| serde_json::from_slice(&entry.value).ok())
        .collect())
}

impl Queue {
    /// Takes over what a daemon before has left.
    pub(super) fn load(deliveries: Vec<Delivery>, now: Instant) -> Self {
        let mut queue = Self::default();
        for delivery in deliveries {
            if delivery.state == DeliveryState::Pending {
                // Whatever kept it from being delivered may be over.
                let due = now;
                queue
                    .waiting
                    .insert(delivery.id.clone(), Waiting { delivery, due });
            } else {
                queue.ended.insert(delivery.id);
            }
        }
        queue
    }

    /// Adds a message for a channel. What has to be given up for it is returned.
    pub(super) fn add(
        &mut self,
        txn: &mut Txn,
        channel: &str,
        message: Message,
        now: Instant,
    ) -> Option<Delivery> {
        let delivery = Delivery {
            id: message.id.clone(),
            channel: channel.to_owned(),
            at: message.at,
            state: DeliveryState::Pending,
            next_at: Some(message.at),
            tries: 0,
            attempts: Vec::new(),
            message,
        };
        txn.puts.push(encode(&delivery));
        let surplus = if self.waiting.len() >= PENDING {
            self.waiting.pop_first().map(|(_, waiting)| waiting.delivery)
        } else {
            None
        };
        let due = now;
        self.waiting
            .insert(delivery.id.clone(), Waiting { delivery, due });
        let surplus = surplus?;
        Some(self.end(txn, surplus, DeliveryState::GaveUp))
    }

    fn end(&mut self, txn: &mut Txn, mut delivery: Delivery, state: DeliveryState) -> Delivery {
        delivery.state = state;
        delivery.next_at = None;
        txn.puts.push(encode(&delivery));
        self.ended.insert(delivery.id.clone());
        while self.ended.len() > ENDED {
            if let Some(id) = self.ended.pop_first() {
                txn.deletes.push(key(&id));
            }
        }
        delivery
    }

    /// The oldest that is due of each channel that is not busy; it counts as under way from now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(String, Message)> {
        let mut taken = Vec::new();
        let mut seen = BTreeSet::new();
        for waiting in self.waiting.values() {
            let channel = &waiting.delivery.channel;
            // In order: a later message does not overtake an earlier one of its channel.
            if self.busy.contains(channel) || !seen.insert(channel.clone()) {
                continue;
            }
            if waiting.due <= now {
                taken.push((channel.clone(), waiting.delivery.message.clone()));
            }
        }
        self.busy.extend(taken.iter().map(|(channel, _)| channel.clone()));
        taken
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let idle = |waiting: &&Waiting| !self.busy.contains(&waiting.delivery.channel);
        let mut first: BTreeMap<&str, Instant> = BTreeMap::new();
        for waiting in self.waiting.values().filter(idle) {
            first.entry(&waiting.delivery.channel).or_insert(waiting.due);
        }
        first.into_values().min()
    }

    /// A try has ended. A delivery that ends with it in failure is returned.
    pub(super) fn done(&mut self, txn: &mut Txn, done: Done, now: Instant, chance: f64) -> Option<Delivery> {
        self.busy.remove(&done.channel);
        match &done.result {
            Ok(()) => self.trouble.remove(&done.channel),
            Err(failure) => self.trouble.insert(done.channel.clone(), failure.why.clone()),
        };
        let mut delivery = self.waiting.remove(&done.id)?.delivery;
        delivery.tries = delivery.tries.saturating_add(1);
        if delivery.attempts.len() >= ATTEMPTS {
            delivery.attempts.remove(0);
        }
        delivery.attempts.push(Attempt {
            at: done.at,
            took_ms: done.took_ms,
            error: done.result.as_ref().err().map(|failure| failure.why.clone()),
        });
        let Err(failure) = &done.result else {
            self.end(txn, delivery, DeliveryState::Delivered);
            return None;
        };
        // Else it would hold up all that come after it.
        if failure.is_final || done.at - delivery.at > PATIENCE_S {
            return Some(self.end(txn, delivery, DeliveryState::GaveUp));
        }
        let pause = pause(delivery.tries, chance);
        delivery.next_at = Some(done.at + pause.as_secs_f64());
        txn.puts.push(encode(&delivery));
        let due = now + pause;
        self.waiting
            .insert(delivery.id.clone(), Waiting { delivery, due });
        None
    }

    /// Gives up what waits for channels that are no more.
    pub(super) fn retain(&mut self, txn: &mut Txn, lives: &dyn Fn(&str) -> bool) -> Vec<Delivery> {
        let gone: Vec<String> = self
            .waiting
            .values()
            .filter(|waiting| !lives(&waiting.delivery.channel))
            .map(|waiting| waiting.delivery.id.clone())
            .collect();
        let mut ended = Vec::new();
        for id in gone {
            if let Some(waiting) = self.waiting.remove(&id) {
                ended.push(self.end(txn, waiting.delivery, DeliveryState::GaveUp));
            }
        }
        ended
    }

    /// How many wait for a channel, and what went wrong there last.
    pub(super) fn state_of(&self, channel: &str) -> (usize, Option<String>) {
        let of_channel = |waiting: &&Waiting| waiting.delivery.channel == channel;
        (
            self.waiting.values().filter(of_channel).count(),
            self.trouble.get(channel).cloned(),
        )
    }
}

/// 1 s, 2 s, 4 s, … 10 min, each up to a fifth shorter or longer by chance (0 to 1).
fn pause(tries: u32, chance: f64) -> Duration {
    let doublings = tries.saturating_sub(1).min(20);
    FIRST
        .saturating_mul(1 << doublings)
        .min(LONGEST)
        .mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, at: f64) -> Message {
        super::super::message::test(id.to_owned(), at)
    }

    fn no(is_final: bool) -> Result<(), Failure> {
        let why = "no".to_owned();
        Err(Failure { why, is_final })
    }

    fn done(id: &str, at: f64, result: Result<(), Failure>) -> Done {
        Done {
            id: id.to_owned(),
            channel: "ops".to_owned(),
            at,
            took_ms: 1,
            result,
        }
    }

    #[test]
    fn one_at_a_time_in_order_and_again_after_a_pause() {
        let (mut queue, mut txn, now) = (Queue::default(), Txn::default(), Instant::now());
        for id in ["1", "2"] {
            assert!(queue.add(&mut txn, "ops", message(id, 0.0), now).is_none());
        }
        queue.add(&mut txn, "other", message("3", 0.0), now);
        let taken: Vec<String> = queue
            .take_due(now)
            .into_iter()
            .map(|(_, message)| message.id)
            .collect();
        assert_eq!(taken, ["1", "3"]);
        assert_eq!(queue.take_due(now).len(), 0, "both channels are busy");
        queue.done(&mut txn, done("1", 1.0, no(false)), now, 0.5);
        assert_eq!(
            queue.next_due(),
            Some(now + FIRST),
            "the second waits for the first"
        );
        assert_eq!(queue.take_due(now).len(), 0);
        let later = now + Duration::from_secs(2);
        assert_eq!(queue.take_due(later)[0].1.id, "1");
        assert!(queue.done(&mut txn, done("1", 3.0, Ok(())), later, 0.5).is_none());
        assert_eq!(queue.take_due(later)[0].1.id, "2");
        let gave_up = queue.done(&mut txn, done("2", PATIENCE_S + 1.0, no(false)), later, 0.5);
        assert_eq!(
            gave_up.map(|delivery| delivery.state),
            Some(DeliveryState::GaveUp)
        );
        assert_eq!(queue.state_of("ops"), (0, Some("no".to_owned())));
    }

    #[test]
    fn what_is_refused_for_good_holds_up_nothing() {
        let (mut queue, mut txn, now) = (Queue::default(), Txn::default(), Instant::now());
        for id in ["1", "2"] {
            queue.add(&mut txn, "ops", message(id, 0.0), now);
        }
        assert_eq!(queue.take_due(now)[0].1.id, "1");
        let gave_up = queue.done(&mut txn, done("1", 1.0, no(true)), now, 0.5);
        assert_eq!(
            gave_up.map(|delivery| delivery.state),
            Some(DeliveryState::GaveUp)
        );
        assert_eq!(queue.take_due(now)[0].1.id, "2");
    }

    #[test]
    fn the_queue_and_what_is_kept_are_bounded() {
        let (mut queue, mut txn, now) = (Queue::default(), Txn::default(), Instant::now());
        for id in 0..PENDING {
            assert!(
                queue
                    .add(&mut txn, "ops", message(&format!("{id:06}"), 0.0), now)
                    .is_none()
            );
        }
        let given_up = queue.add(&mut txn, "ops", message("999999", 0.0), now);
        assert_eq!(given_up.map(|delivery| delivery.id), Some("000000".to_owned()));
        let ended = queue.retain(&mut txn, &|_| false);
        assert_eq!(ended.len(), PENDING);
        assert_eq!(
            (queue.ended.len(), txn.deletes.len()),
            (ENDED, PENDING + 1 - ENDED)
        );
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn pauses_grow_to_a_border() {
        assert_eq!(pause(1, 0.5), Duration::from_secs(1));
        assert_eq!(pause(4, 0.5), Duration::from_secs(8));
        assert_eq!(pause(4000, 0.5), LONGEST);
        assert!(pause(1, 0.0) < pause(1, 1.0));
    }
}
