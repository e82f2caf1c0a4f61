//! What callers see of a value, and how they ask for changes.

use std::time::Duration;

use crate::{
    path::{Path, Place},
    seal::Recipient,
    shared::Leased,
    value::{Kind, Value},
};

/// What a caller sees of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// No secret.
    Plain(Value),
    /// A secret that was not asked for in clear.
    Masked {
        /// What it is.
        kind: Kind,
        /// Who can open it.
        recipients: Vec<Recipient>,
    },
    /// A secret in clear: to be shown to whoever asked, and to be written nowhere.
    Revealed(Value),
    /// There is something, and whoever asks may not read it.
    Hidden,
}

impl Shown {
    /// What it is, where that is known.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Plain(value) | Self::Revealed(value) => Some(value.kind),
            Self::Masked { kind, .. } => Some(*kind),
            Self::Hidden => None,
        }
    }

    /// Whether it is known to be a secret.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Masked { .. } | Self::Revealed(_))
    }

    /// The value, where it is shown.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Plain(value) | Self::Revealed(value) => Some(value),
            Self::Masked { .. } | Self::Hidden => None,
        }
    }
}

/// Who changed something, when and why.
#[derive(Clone, Debug, PartialEq)]
pub struct By {
    /// Who: `uid:1000`, `token:ci`.
    pub who: String,
    /// When, Unix seconds.
    pub at: f64,
    /// Why, if that was said.
    pub why: Option<String>,
}

/// A value as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where.
    pub path: Path,
    /// What.
    pub shown: Shown,
    /// The revision that wrote it.
    pub revision: u64,
    /// Writes since it was created, from 1.
    pub version: u64,
    /// The last change.
    pub by: By,
}

/// Values of a place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The store's revision when they were read.
    pub revision: u64,
    /// In order of their paths.
    pub entries: Vec<Entry>,
    /// There are more: ask again for what comes after this.
    pub next: Option<Path>,
}

/// What is to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Where.
    pub path: Path,
    /// What.
    pub value: Value,
    /// Seal it. A value that is a secret stays one, whatever is said here, until it is deleted.
    pub secret: bool,
    /// Only if it is at this revision; 0: only if there is none.
    pub expected: Option<u64>,
}

/// What is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Where: one, or all of a place.
    pub place: Place,
    /// Only if it is at this revision; for one value only.
    pub expected: Option<u64>,
}

/// A change: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What is to be set.
    pub puts: Vec<Put>,
    /// What is to be deleted. Nothing there is no error.
    pub removals: Vec<Removal>,
    /// Kept in the history.
    pub why: Option<String>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// What is set goes by itself after this time, unless its lease is kept alive.
    pub ttl: Option<Duration>,
}

/// What a change did.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The store's revision: the change's own if something was changed.
    pub revision: u64,
    /// What was changed, in order of the paths; what was the same already is not here.
    pub differences: Vec<Difference>,
    /// What was changed too, and that the asker has neither named nor may read: to be counted to whoever asked, no more.
    pub unnamed: Vec<Path>,
    /// Nothing was changed yet: others have to approve.
    pub proposed: Option<Proposed>,
    /// What was set goes with this lease.
    pub lease: Option<Leased>,
}

/// A change that waits for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The proposal; none if the change was only tried.
    pub id: Option<String>,
    /// How many others have to approve.
    pub approvals: u8,
}

/// A change of a protected place, as it waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Which.
    pub id: String,
    /// Who, when, why.
    pub by: By,
    /// Who has approved it so far.
    pub approved_by: Vec<String>,
    /// How many have to.
    pub approvals: u8,
    /// What it would change, from what there is now. Secrets are masked, what the asker may not read is hidden.
    pub differences: Vec<Difference>,
}

/// How one value differs between two points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub path: Path,
    /// As it was; absent: it was not there. Secrets are masked, what the caller may not read is hidden.
    pub before: Option<Shown>,
    /// As it is; absent: it is not there.
    pub after: Option<Shown>,
}

/// One change of one value, as the history has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// Which.
    pub path: Path,
    /// The revision that the change made.
    pub revision: u64,
    /// What it became; absent: it was deleted. Secrets are masked.
    pub shown: Option<Shown>,
    /// Who, when, why.
    pub by: By,
}

/// Where a history goes on: behind one change of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Changes of earlier revisions.
    pub revision: u64,
    /// And of this one, of values behind this path.
    pub path: Option<Path>,
}

impl Before {
    /// Whether a change comes after this point.
    pub(crate) fn precedes(&self, revision: u64, path: &Path) -> bool {
        revision < self.revision
            || (revision == self.revision && self.path.as_ref().is_some_and(|at| path > at))
    }
}

/// Changes of a place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The newest first; of one revision in order of the paths.
    pub changes: Vec<Past>,
    /// There are more: ask again for what comes after this.
    pub next: Option<Before>,
}

/// How a place differs between two revisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// In order of the paths.
    pub differences: Vec<Difference>,
    /// There are more: ask again for what comes after this.
    pub next: Option<Path>,
}

/// Proposals that wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposals {
    /// The oldest first.
    pub proposals: Vec<Proposal>,
    /// There are more: ask again for what comes after this id.
    pub next: Option<String>,
}
