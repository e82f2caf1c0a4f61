//! Who may do what to which part of the configuration.

use std::fmt;

use crate::{
    error::ConfigError,
    path::{Path, Place},
};

/// What may be done to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read values; of secrets, that they exist.
    Read,
    /// Read secrets in clear.
    Reveal,
    /// Set and delete.
    Write,
    /// Be told of changes.
    Watch,
    /// Read what was, who changed it and why.
    History,
    /// Say what holds for a part: schema, recipients, approval.
    Grant,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Reveal => "reveal",
            Self::Write => "write",
            Self::Watch => "watch",
            Self::History => "read the history of",
            Self::Grant => "say what holds for",
        })
    }
}

/// What somebody holds.
pub trait Rights: Send + Sync {
    /// Whether this may be done to one value.
    fn may(&self, verb: Verb, path: &Path) -> bool;

    /// Whether this may be done to all of a place, whatever will be in it.
    fn may_all(&self, verb: Verb, place: &Place) -> bool;
}

/// Who asks, and what they hold.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// As the history shows it: `uid:1000`, `token:ci`.
    pub who: &'a str,
    /// What they hold.
    pub rights: &'a dyn Rights,
}

impl fmt::Debug for Asker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asker({})", self.who)
    }
}

impl Asker<'_> {
    pub(crate) fn may(&self, verb: Verb, path: &Path) -> bool {
        self.rights.may(verb, path)
    }

    pub(crate) fn require(&self, verb: Verb, path: &Path) -> Result<(), ConfigError> {
        if self.rights.may(verb, path) {
            return Ok(());
        }
        Err(self.denied(verb, path.clone().into()))
    }

    pub(crate) fn require_all(&self, verb: Verb, place: &Place) -> Result<(), ConfigError> {
        let is_allowed = match place.as_path() {
            Some(path) => self.rights.may(verb, &path),
            None => self.rights.may_all(verb, place),
        };
        if is_allowed {
            return Ok(());
        }
        Err(self.denied(verb, place.clone()))
    }

    fn denied(&self, verb: Verb, place: Place) -> ConfigError {
        ConfigError::Denied {
            who: self.who.to_owned(),
            verb,
            place,
        }
    }
}

/// Everything: for what the daemon does of its own, and for its owner.
#[derive(Clone, Copy, Debug)]
pub struct All;

impl Rights for All {
    fn may(&self, _: Verb, _: &Path) -> bool {
        true
    }

    fn may_all(&self, _: Verb, _: &Place) -> bool {
        true
    }
}
