//! The values that a template sees.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use upkeep_config::{
    Place,
    entry::{Entry, Listing, Shown},
};

/// One value.
#[derive(Clone, PartialEq)]
pub enum Seen {
    /// Content, as JSON; a file that is no text has none.
    Content {
        /// What it is.
        json: Option<Json>,
        /// It must be shown nowhere but in the file.
        secret: bool,
    },
    /// A secret that was not revealed to whoever renders.
    Sealed,
}

/// Shows no content: values get into logs by accident.
impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Content { secret: false, .. } => "a value",
            Self::Content { secret: true, .. } => "a secret",
            Self::Sealed => "a sealed secret",
        })
    }
}

/// The values of a place, or of several that lie over each other, at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    place: Place,
    revision: u64,
    /// By what lies below the place: `db/url`.
    by_name: BTreeMap<String, Seen>,
    /// What is asked for by its whole path: `/shop/prod/db/url`.
    by_path: BTreeMap<String, Seen>,
}

impl Values {
    /// Of entries that were read at a revision; what is not below the place is left out.
    pub fn new(place: Place, revision: u64, entries: &[Entry]) -> Self {
        let (mut by_name, mut by_path) = (BTreeMap::new(), BTreeMap::new());
        for entry in entries {
            let Some(name) = place.below(&entry.path) else {
                continue;
            };
            let seen = match &entry.shown {
                Shown::Plain(value) => Seen::Content {
                    json: value.to_json(),
                    secret: false,
                },
                Shown::Revealed(value) => Seen::Content {
                    json: value.to_json(),
                    secret: true,
                },
                Shown::Masked { .. } | Shown::Hidden => Seen::Sealed,
            };
            by_path.insert(entry.path.as_str().to_owned(), seen.clone());
            by_name.insert(name.to_owned(), seen);
        }
        Self {
            place,
            revision,
            by_name,
            by_path,
        }
    }

    /// Others over these: what has the same name there wins. Names without a value are told as of their place.
    #[must_use]
    pub fn under(mut self, over: Self) -> Self {
        self.by_name.extend(over.by_name);
        self.by_path.extend(over.by_path);
        Self {
            place: over.place,
            revision: self.revision.max(over.revision),
            ..self
        }
    }

    /// Of a listing that is whole.
    pub fn of(place: Place, listing: &Listing) -> Self {
        Self::new(place, listing.revision, &listing.entries)
    }

    /// Which place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// When they were read.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One value, by what lies below the place or by its whole path.
    pub fn get(&self, name: &str) -> Option<&Seen> {
        self.by_path
            .get(name)
            .or_else(|| self.by_name.get(self.below(name)))
    }

    /// A name as a whole path, for people.
    pub fn path(&self, name: &str) -> String {
        format!("{}{}", self.place, self.below(name))
    }

    /// What lies directly below a name: `["password", "url"]` below `db`.
    pub fn names(&self, name: &str) -> BTreeSet<&str> {
        let prefix = match self.below(name).trim_end_matches('/') {
            "" => String::new(),
            name => format!("{name}/"),
        };
        self.by_name
            .range(prefix.clone()..)
            .map_while(|(name, _)| name.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next())
            .collect()
    }

    /// Whether values lie below a name.
    pub fn is_place(&self, name: &str) -> bool {
        !self.names(name).is_empty()
    }

    fn below<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.place.as_str())
            .unwrap_or_else(|| name.strip_prefix('/').unwrap_or(name))
    }

    /// The same with something else in the place of each secret's content, and whether there was any.
    pub(crate) fn masked(&self, mask: &str) -> Self {
        let all_masked = |all: &BTreeMap<String, Seen>| {
            let masked = all.iter().map(|(name, seen)| {
                let seen = match seen {
                    Seen::Content { json, secret: true } => Seen::Content {
                        json: json.as_ref().map(|json| masked(json, mask)),
                        secret: true,
                    },
                    other => other.clone(),
                };
                (name.clone(), seen)
            });
            masked.collect()
        };
        Self {
            place: self.place.clone(),
            revision: self.revision,
            by_name: all_masked(&self.by_name),
            by_path: all_masked(&self.by_path),
        }
    }
}

fn masked(json: &Json, mask: &str) -> Json {
    match json {
        Json::Array(items) => items.iter().map(|item| masked(item, mask)).collect(),
        Json::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), masked(value, mask)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => mask.into(),
    }
}
