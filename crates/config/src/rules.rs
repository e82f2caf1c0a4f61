//! What holds for places: whom secrets are sealed for, which schema values fit, who has to agree.
//!
//! All rules are one document under one key of the backend. Every change of a value is guarded by that key's revision, so a
//! change is made under the rules that hold at that instant, on whichever machine it is made; and nobody has to watch.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    error::ConfigError,
    path::{Path, Place},
    seal::Recipient,
    shared::{Keep, ruling},
};

/// What holds for one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Whom secrets are sealed for, instead of what holds further out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Recipient>,
    /// JSON Schema of the object that the values below the place make, by segments (of a single value: of the value).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
    /// So many others have to approve a change; 0: none. What holds further out is never made less.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub approvals: u8,
    /// How much of the history is kept, instead of what holds further out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// Whether secrets can be sealed for these.
pub fn check_recipients(recipients: &[Recipient]) -> Result<(), ConfigError> {
    ruling::check_recipients(recipients)
}

/// What holds, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// By place; the nearest that says something holds.
    pub places: BTreeMap<Place, Rules>,
    /// Places whose changes write a key that counts them, so that no two are made without knowing of each other. All that
    /// have a schema, and those that are about to get one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) counted: BTreeSet<Place>,
}

impl Book {
    /// Whom a secret at `path` is sealed for: those of the nearest place that names any.
    pub fn recipients(&self, path: &Path) -> &[Recipient] {
        self.covering(path)
            .find(|rules| !rules.recipients.is_empty())
            .map_or(&[], |rules| rules.recipients.as_slice())
    }

    /// How many others have to approve a change of `path`: the most that any place around it wants.
    pub fn approvals(&self, path: &Path) -> u8 {
        self.covering(path)
            .map(|rules| rules.approvals)
            .max()
            .unwrap_or(0)
    }

    /// How much of the history of `path` is kept: what the nearest place says.
    pub fn keep(&self, path: &Path) -> Keep {
        self.covering(path)
            .find_map(|rules| rules.keep)
            .unwrap_or_default()
    }

    /// The rules of the places that a path is in, the nearest first.
    fn covering(&self, path: &Path) -> impl Iterator<Item = &Rules> {
        // Places that cover one path are beginnings of it: the longest is the last in order.
        self.places
            .iter()
            .rev()
            .filter(|(place, _)| place.covers(path))
            .map(|(_, rules)| rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_place_says_who_reads_secrets() {
        let recipient = |name: &str| Recipient {
            name: name.to_owned(),
            key: "00".repeat(32),
        };
        let place = |text: &str| text.parse::<Place>().expect("a place");
        let named = |name: &str| Rules {
            recipients: vec![recipient(name)],
            ..Rules::default()
        };
        let book = Book {
            places: [
                (place("/"), named("all")),
                (place("/shop/"), named("shop")),
                (place("/shop/prod/"), Rules::default()),
                (place("/shop/prod/db/password"), named("db")),
            ]
            .into(),
            ..Book::default()
        };
        for (path, name) in [
            ("/blog/x", "all"),
            ("/shop/x", "shop"),
            ("/shop/prod/x", "shop"),
            ("/shop/prod/db/password", "db"),
            ("/shop/prod/db/password2", "shop"),
        ] {
            let recipients = book.recipients(&path.parse().expect("a path"));
            assert_eq!(recipients, [recipient(name)], "{path}");
        }
        assert!(
            Book::default()
                .recipients(&"/a".parse().expect("a path"))
                .is_empty()
        );
    }
}
