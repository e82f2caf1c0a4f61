//! What can go wrong, and on which path.

use upkeep_store::kv::KvError;

use crate::{
    path::{Path, PathError, Place},
    rights::Verb,
    seal::SealError,
};

/// Why nothing was read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Who asks may not. Says nothing of whether there is something.
    #[error("`{who}` may not {verb} `{place}`")]
    Denied {
        /// Who asks.
        who: String,
        /// What it takes.
        verb: Verb,
        /// Where.
        place: Place,
    },
    /// A path that is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is no such value.
    #[error("there is no `{0}`")]
    NotFound(Path),
    /// A value that is not what it says, or a change without sense.
    #[error("failed to set `{path}`: {why}")]
    Invalid {
        /// Of which value.
        path: Path,
        /// What is wrong. Repeats nothing of the value.
        why: String,
    },
    /// A change that cannot be one.
    #[error("failed to change the configuration: {0}")]
    Change(String),
    /// It is not what the caller has seen.
    #[error("`{path}` is {}; nothing was changed", not_at(*.expected, .found.as_ref()))]
    Conflict {
        /// Which.
        path: Path,
        /// What the caller has seen; 0: that there is none.
        expected: u64,
        /// What there is; 0: none. Told to those alone who may read it.
        found: Option<u64>,
    },
    /// A revision that is forgotten.
    #[error("revision {asked} is forgotten; the oldest that can be read is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: u64,
        /// What there is.
        oldest: u64,
    },
    /// A revision that is not there yet.
    #[error("there is no revision {asked} yet; the store is at {current}")]
    Future {
        /// What was asked for.
        asked: u64,
        /// The newest.
        current: u64,
    },
    /// The history of a value does not reach that far.
    #[error(
        "what `{path}` was at revision {revision} is not known any more: its older changes were left out of the history"
    )]
    Trimmed {
        /// Which.
        path: Path,
        /// What was asked for.
        revision: u64,
    },
    /// Going back would put a secret into the store in clear.
    #[error(
        "`{0}` is a secret and was none at that revision; going back would put it into the store in clear"
    )]
    Bared(Path),
    /// There is no such lease, or none that the asker may keep alive.
    #[error("there is no lease {0:x}; it may have expired")]
    NoLease(i64),
    /// What the change would leave does not fit the schema of a place.
    #[error("`{place}` would not fit its schema: {}", listed(.faults))]
    Unfit {
        /// Whose schema.
        place: Place,
        /// Which values, and what does not fit. Repeats nothing of secrets, nor of what the asker may not read.
        faults: Vec<(String, String)>,
    },
    /// There is no such proposal, or none that the asker may know of.
    #[error("there is no proposal `{0}`")]
    NoProposal(String),
    /// Others write there all the time.
    #[error("`{0}` was changed by others again and again meanwhile; nothing was changed")]
    Busy(Place),
    /// The store was moved away, and is kept as it was.
    #[error("this store is not in use any more: everything was moved to {to}")]
    Moved {
        /// Names the migration.
        id: String,
        /// Where it is now.
        to: String,
    },
    /// A store that a migration has begun to fill.
    #[error("this store is not in use yet: the migration `{0}` copies into it, or was broken off")]
    Filling(String),
    /// It is being moved, and that takes long.
    #[error("the store is being moved; nothing was changed")]
    Moving,
    /// A secret that could not be sealed or opened.
    #[error("failed to {what} the secret `{path}`: {why}")]
    Seal {
        /// `seal` or `open`.
        what: &'static str,
        /// Which.
        path: Path,
        /// Why.
        why: SealError,
    },
    /// What the backend holds is no record of ours.
    #[error("what the store holds for `{key}` cannot be read: {why}")]
    Damaged {
        /// The backend's key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The backend refused, or did not answer.
    #[error(transparent)]
    Store(#[from] KvError),
}

fn not_at(expected: u64, found: Option<&u64>) -> String {
    match found {
        Some(found) => format!("at revision {found}, not {expected}"),
        None => format!("not at revision {expected}"),
    }
}

fn listed(faults: &[(String, String)]) -> String {
    let mut text: Vec<String> = faults
        .iter()
        .take(5)
        .map(|(path, why)| format!("`{path}` {why}"))
        .collect();
    if faults.len() > text.len() {
        text.push(format!("and {} more", faults.len() - text.len()));
    }
    text.join("; ")
}
