//! What a change comes to: its steps, what they were worked out on, and how they are carried out.

use std::{sync::Arc, time::Duration};

use super::{Leased, masked, shown_to};
use crate::{
    entry::{Changed, Difference, Shown},
    path::Path,
    record::Content,
    rights::{Asker, Verb},
    rules::Book,
    value::Value,
};

/// Steps of a transaction that a value takes: itself and its history.
pub(super) const OPS_OF_PUT: usize = 2;
/// One that is deleted, or goes by itself, also tells that it is gone.
pub(super) const OPS_OF_REMOVAL: usize = 3;

/// One value's part of a change.
pub(crate) struct Step {
    pub(crate) path: Path,
    pub(crate) content: Content,
    /// What it was worked out on, and must still be.
    pub(crate) seen: Seen,
    pub(crate) before: Option<Shown>,
    /// What the asker has given, of secrets too.
    pub(crate) clear: Option<Value>,
    /// The asker has named this very value, and not only a place that it is in.
    pub(crate) is_named: bool,
}

impl Step {
    /// Steps of a transaction that it takes.
    pub(super) fn ops(&self, goes: bool) -> usize {
        if goes || self.content == Content::Deleted {
            OPS_OF_REMOVAL
        } else {
            OPS_OF_PUT
        }
    }
}

/// What was there when a change was worked out, in the backend's revisions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The store's.
    pub(crate) at: u64,
    /// The value's; 0: there was none.
    pub(crate) modified: u64,
    /// When it was last deleted; 0: never. Counts only where there was none.
    pub(crate) gone: u64,
}

/// How steps are carried out.
pub(crate) struct Order<'a> {
    pub(crate) asker: Asker<'a>,
    pub(crate) why: Option<&'a str>,
    pub(crate) dry_run: bool,
    /// The rules that the steps were worked out by.
    pub(crate) held: (u64, Arc<Book>),
    pub(crate) leave: Leave,
    /// What is written comes out of the history: it is shown to those alone who may read that.
    pub(crate) of_the_past: bool,
    /// What is set goes by itself after this time.
    pub(crate) ttl: Option<Duration>,
    /// By this lease; none if it is only tried.
    pub(crate) lease: Option<Leased>,
}

impl<'a> Order<'a> {
    pub(crate) fn of(asker: Asker<'a>, held: (u64, Arc<Book>)) -> Self {
        Self {
            asker,
            why: None,
            dry_run: false,
            held,
            leave: Leave::Asked,
            of_the_past: false,
            ttl: None,
            lease: None,
        }
    }

    /// What the steps change, as the asker may see it; and the values whose names are not the asker's business.
    pub(super) fn differences(&self, steps: &[Step]) -> (Vec<Difference>, Vec<Path>) {
        let may_know = |step: &Step| step.is_named || self.asker.may(Verb::Read, &step.path);
        let unnamed = steps
            .iter()
            .filter(|step| !may_know(step))
            .map(|step| step.path.clone());
        let hidden = |path: &Path| self.of_the_past && !self.asker.may(Verb::History, path);
        let differences = steps.iter().filter(|step| may_know(step)).map(|step| {
            let after = shown_to(self.asker, &step.path, masked(&step.content));
            Difference {
                path: step.path.clone(),
                before: shown_to(self.asker, &step.path, step.before.clone()),
                after: if hidden(&step.path) {
                    after.map(|_| Shown::Hidden)
                } else {
                    after
                },
            }
        });
        (differences.collect(), unnamed.collect())
    }
}

/// Whether others have to approve.
pub(crate) enum Leave {
    /// Where the rules say so.
    Asked,
    /// No: what the values say stays the same.
    Exempt,
    /// They have: the proposal, which goes with the change.
    Given {
        key: String,
        /// The backend's revision of it.
        modified: u64,
    },
}

pub(crate) enum Attempt {
    Done(Changed),
    /// Somebody was faster.
    Again,
}
