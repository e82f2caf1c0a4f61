//! What callers hold, as the configuration asks for it.

use upkeep_config::{
    Path, Place,
    rights::{Rights, Verb},
};
use upkeep_model::access::Verb as Right;

use crate::{
    access::{Known, Permit},
    command::Refusal,
};

/// What a caller may do to paths.
#[derive(Clone, Debug)]
pub(crate) struct CallerRights {
    who: String,
    /// By verb, as [`right`] counts them.
    permits: [Option<Permit>; 6],
}

/// Its place among the permits, and its name in roles.
const fn right(verb: Verb) -> (usize, Right) {
    match verb {
        Verb::Read => (0, Right::ConfigRead),
        Verb::Reveal => (1, Right::ConfigReveal),
        Verb::Write => (2, Right::ConfigWrite),
        Verb::Watch => (3, Right::ConfigWatch),
        Verb::History => (4, Right::ConfigHistory),
        Verb::Grant => (5, Right::ConfigGrant),
    }
}

const ALL: [Verb; 6] = [
    Verb::Read,
    Verb::Reveal,
    Verb::Write,
    Verb::Watch,
    Verb::History,
    Verb::Grant,
];

impl CallerRights {
    pub(crate) fn of(known: &Known) -> Self {
        Self {
            who: known.who().name.clone(),
            permits: ALL.map(|verb| known.permit(right(verb).1).ok()),
        }
    }

    /// As the history shows it.
    pub(crate) fn who(&self) -> &str {
        &self.who
    }

    fn permit(&self, verb: Verb) -> Option<&Permit> {
        self.permits[right(verb).0].as_ref()
    }

    /// Refuses who reaches nothing of a place: an empty answer would look as if there were nothing.
    pub(crate) fn require_some(&self, verb: Verb, place: &Place) -> Result<(), Refusal> {
        if self.permit(verb).is_some_and(|permit| permit.meets_place(place)) {
            return Ok(());
        }
        Err(super::refusal(upkeep_config::ConfigError::Denied {
            who: self.who.clone(),
            verb,
            place: place.clone(),
        }))
    }
}

impl Rights for CallerRights {
    fn may(&self, verb: Verb, path: &Path) -> bool {
        self.permit(verb).is_some_and(|permit| permit.covers_path(path))
    }

    fn may_all(&self, verb: Verb, place: &Place) -> bool {
        self.permit(verb).is_some_and(|permit| permit.covers_place(place))
    }
}
