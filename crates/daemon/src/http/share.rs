//! Shares: how much of what there is only so much of one caller may hold.
//!
//! Streams and readers of logs last as long as their client wants, and each takes a thread, a buffer or a question a
//! second. A [`Pool`] says how many there may be. One principal holds a quarter of them at most, so that whoever opens
//! one stream after the other (a script in a loop, a page in many windows) takes nothing from anybody else. The owner of
//! the daemon and root have no share, and the last quarter is theirs: they are never locked out by others.

use std::{collections::BTreeMap, sync::Mutex};

use upkeep_api::error::Code;

use crate::{access::Known, command::Refusal};

/// The smallest share.
const LEAST: usize = 4;
/// When whoever is refused may try again, s.
const AGAIN_S: u64 = 5;

/// What there is only so much of.
#[derive(Debug)]
pub(super) struct Pool {
    /// What one does with it: `follow logs`.
    what: &'static str,
    /// How the user makes room.
    hint: &'static str,
    most: usize,
    /// By principal.
    held: Mutex<BTreeMap<String, usize>>,
}

/// One of a pool, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    pool: &'static Pool,
    who: String,
}

impl Pool {
    pub(super) const fn new(what: &'static str, most: usize, hint: &'static str) -> Self {
        Self {
            what,
            hint,
            most,
            held: Mutex::new(BTreeMap::new()),
        }
    }

    /// What one principal may hold.
    const fn share(&self) -> usize {
        if self.most / 4 > LEAST {
            self.most / 4
        } else {
            LEAST
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        self.held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes one for a caller.
    pub(super) fn enter(&'static self, caller: &Known) -> Result<Share, Refusal> {
        self.take(&caller.who().name, caller.is_owner())
    }

    fn take(&'static self, who: &str, is_owner: bool) -> Result<Share, Refusal> {
        let Self { what, most, .. } = self;
        let share = self.share();
        let mut held = self.held();
        let own = held.get(who).copied().unwrap_or(0);
        let all: usize = held.values().sum();
        let room = if is_owner { *most } else { most - share };
        let mut refusal = if !is_owner && own >= share {
            Refusal::new(
                Code::TooMany,
                format!("refused: `{who}` may {what} {share} times at once, which is its share of {most}"),
            )
        } else if all >= room {
            Refusal::new(
                Code::Unavailable,
                format!("refused: {all} others {what} already, or do not read what they asked for"),
            )
        } else {
            *held.entry(who.to_owned()).or_default() += 1;
            return Ok(Share {
                pool: self,
                who: who.to_owned(),
            });
        };
        refusal.retry_after_s = Some(AGAIN_S);
        Err(refusal.hint(self.hint))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.pool.held();
        if let Some(count) = held.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_a_share_and_the_owner_gets_the_rest() {
        static POOL: Pool = Pool::new("look", 16, "look away");
        let others: Vec<Share> = ["a", "b", "c"]
            .iter()
            .flat_map(|who| (0..4).map(|_| POOL.take(who, false).expect("its share")))
            .collect();
        let why = POOL.take("a", false).expect_err("more than its share");
        assert_eq!((why.code, why.retry_after_s), (Code::TooMany, Some(5)));
        assert_eq!(
            why.message,
            "refused: `a` may look 4 times at once, which is its share of 16"
        );
        let why = POOL
            .take("d", false)
            .expect_err("all that others may have is held");
        assert_eq!(why.code, Code::Unavailable);
        let own: Vec<Share> = (0..4)
            .map(|_| POOL.take("uid:0", true).expect("its own"))
            .collect();
        let why = POOL.take("uid:0", true).expect_err("there are no more");
        assert_eq!(why.code, Code::Unavailable);
        drop((others, own));
        assert!(POOL.held().is_empty());
        assert!(POOL.take("d", false).is_ok());
    }

    #[test]
    fn a_small_pool_has_shares_too() {
        static POOL: Pool = Pool::new("look", 8, "look away");
        assert_eq!(POOL.share(), 4);
    }
}
