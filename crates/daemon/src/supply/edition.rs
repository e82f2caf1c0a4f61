//! One edition of an app's values: what its places held at a moment, and the variables that this makes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use upkeep_config::{
    Path, Place,
    entry::{By, Entry, Shown},
    forms::env_names,
    snapshot::Snapshot,
    value::{Kind, Value},
};
use upkeep_model::{
    hex::hex,
    supply::{ConfigUse, is_hook},
};
use upkeep_render::Values;

/// The longest variable, with its name: the kernel takes none that is longer.
const VARIABLE_MAX: usize = 128 << 10;
/// What all variables may take together: half of what the kernel takes with the usual stack.
const VARIABLES_MAX: usize = 1 << 20;

/// Beginnings of names that say how a program is loaded, or that belong to us.
const KEPT_BACK: [&str; 4] = ["LD_", "UPKEEP_", "LISTEN_", "NODE_CHANNEL_"];

/// Variables of an app's environment that stand in the shared configuration. Shows none of their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Variables {
    pub(crate) all: Arc<BTreeMap<String, String>>,
    /// Among what the app gets, as variables or in files, is a secret: what its programs say of themselves may repeat it.
    pub(crate) secret: bool,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all.keys()).finish()
    }
}

/// One value as it was read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    path: Path,
    kind: Kind,
    secret: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl Held {
    fn of(entry: &Entry) -> Option<Self> {
        let value = entry.shown.value()?;
        let text = std::str::from_utf8(&value.bytes).ok().map(str::to_owned);
        Some(Self {
            path: entry.path.clone(),
            kind: value.kind,
            secret: matches!(entry.shown, Shown::Revealed(_)),
            hex: text.is_none().then(|| hex(&value.bytes)),
            text,
        })
    }

    fn value(&self) -> Value {
        let bytes = match (&self.text, &self.hex) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, digits) => {
                let digits = digits.as_deref().unwrap_or_default();
                (0..digits.len() / 2)
                    .filter_map(|at| u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok())
                    .collect()
            }
        };
        Value {
            kind: self.kind,
            bytes,
        }
    }
}

/// What an app's places held at one moment.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Edition {
    /// Counts up, for each app.
    pub(crate) id: u64,
    /// The store's revision when it was read.
    pub(crate) revision: u64,
    /// When it was read, Unix seconds.
    pub(crate) at: f64,
    /// In the app's order, with what was in each.
    layers: Vec<(Place, Vec<Held>)>,
    /// Not kept: made of the values again. None: they cannot all be variables.
    #[serde(skip)]
    variables: Option<Variables>,
}

/// Shows no values.
impl fmt::Debug for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Edition({} of revision {})", self.id, self.revision)
    }
}

impl Edition {
    /// Of what was read. `Err`: why it can be given to no program.
    pub(crate) fn new(id: u64, at: f64, snapshot: &Snapshot, config: &ConfigUse) -> Result<Self, String> {
        let places = &config.places;
        let layers: Vec<(Place, Vec<Held>)> = places
            .iter()
            .zip(&snapshot.places)
            .map(|(place, entries)| (place.clone(), entries.iter().filter_map(Held::of).collect()))
            .collect();
        if layers.iter().all(|(_, held)| held.is_empty()) {
            let names: Vec<String> = places.iter().map(|place| format!("`{place}`")).collect();
            return Err(format!("there is no value in {}", names.join(", ")));
        }
        let mut edition = Self {
            id,
            revision: snapshot.revision,
            at,
            layers,
            variables: None,
        };
        edition.variables = match edition.make_variables() {
            Err(why) if config.env => return Err(why),
            made => made.ok(),
        };
        if config.env {
            edition.variables(&config.allow)?;
        }
        Ok(edition)
    }

    /// One that was kept: its variables are made again.
    pub(crate) fn revived(mut self) -> Self {
        self.variables = self.make_variables().ok();
        self
    }

    fn make_variables(&self) -> Result<Variables, String> {
        let mut all = BTreeMap::new();
        for (place, held) in &self.layers {
            let names =
                env_names(place, held.iter().map(|held| &held.path)).map_err(|error| error.to_string())?;
            for (name, path) in names {
                let Some(held) = held.iter().find(|held| held.path == *path) else {
                    continue;
                };
                if let Some(start) = KEPT_BACK.iter().find(|start| name.starts_with(*start)) {
                    return Err(format!(
                        "`{path}` would be the variable `{name}`, and no value may be one that begins with `{start}`"
                    ));
                }
                let Some(text) = &held.text else {
                    return Err(format!(
                        "`{path}` is no text (UTF-8), and no variable holds anything else"
                    ));
                };
                if text.contains('\0') {
                    return Err(format!("`{path}` has a zero byte, and no variable holds one"));
                }
                if name.len() + text.len() + 2 > VARIABLE_MAX {
                    return Err(format!(
                        "`{path}` has more than the 128 KiB that a variable may have"
                    ));
                }
                all.insert(name, text.clone());
            }
        }
        let size: usize = all.iter().map(|(name, text)| name.len() + text.len() + 2).sum();
        if size > VARIABLES_MAX {
            return Err(format!(
                "its variables would have {size} bytes together; {VARIABLES_MAX} are allowed"
            ));
        }
        Ok(Variables {
            all: Arc::new(all),
            secret: self.secret().is_some(),
        })
    }

    /// Whether it was read from these places.
    pub(crate) fn is_of(&self, places: &[Place]) -> bool {
        self.layers.iter().map(|(place, _)| place).eq(places)
    }

    /// Whether both hold the same values.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.layers == other.layers
    }

    /// Its variables. `allow`: which may be although they say what programs load. `Err`: which value can be none.
    pub(crate) fn variables(&self, allow: &[String]) -> Result<Variables, String> {
        let variables = match &self.variables {
            Some(variables) => variables.clone(),
            None => self.make_variables()?,
        };
        let mut names = variables.all.keys();
        let Some(hook) = names.find(|name| is_hook(name) && !allow.contains(name)) else {
            return Ok(variables);
        };
        let path = self.layers.iter().rev().find_map(|(place, held)| {
            let names = env_names(place, held.iter().map(|held| &held.path)).ok()?;
            names.get(hook).map(ToString::to_string)
        });
        Err(format!(
            "`{}` would be the variable `{hook}`, which says what programs load or run: the app has to allow it (`config: {{places: …, \
             allow: [{hook}]}}`)",
            path.unwrap_or_default()
        ))
    }

    /// A secret in it, if there is any.
    pub(crate) fn secret(&self) -> Option<&Path> {
        let mut held = self.layers.iter().flat_map(|(_, held)| held);
        held.find(|held| held.secret).map(|held| &held.path)
    }

    /// Paths whose values differ from another edition's.
    pub(crate) fn changed(&self, before: Option<&Self>) -> Vec<String> {
        let all = |edition: &Self| -> BTreeMap<Path, Held> {
            let held = edition.layers.iter().flat_map(|(_, held)| held.clone());
            held.map(|held| (held.path.clone(), held)).collect()
        };
        let (new, old) = (all(self), before.map(all).unwrap_or_default());
        let paths: BTreeSet<&Path> = new.keys().chain(old.keys()).collect();
        paths
            .into_iter()
            .filter(|path| new.get(path) != old.get(path))
            .map(ToString::to_string)
            .collect()
    }

    /// For templates.
    pub(crate) fn values(&self) -> Option<Values> {
        let layers = self.layers.iter().map(|(place, held)| {
            let entries: Vec<Entry> = held
                .iter()
                .map(|held| Entry {
                    path: held.path.clone(),
                    shown: if held.secret {
                        Shown::Revealed(held.value())
                    } else {
                        Shown::Plain(held.value())
                    },
                    revision: self.revision,
                    version: 1,
                    by: By {
                        who: String::new(),
                        at: self.at,
                        why: None,
                    },
                })
                .collect();
            Values::new(place.clone(), self.revision, &entries)
        });
        layers.reduce(Values::under)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, value: Value) -> Entry {
        Entry {
            path: path.parse().expect("a path"),
            shown: Shown::Plain(value),
            revision: 1,
            version: 1,
            by: By {
                who: String::new(),
                at: 0.0,
                why: None,
            },
        }
    }

    fn config(places: &[Place], env: bool) -> ConfigUse {
        ConfigUse {
            places: places.to_vec(),
            env,
            allow: Vec::new(),
        }
    }

    /// Whoever may write in a place does not run code by it.
    #[test]
    fn what_says_how_programs_run_has_to_be_allowed() {
        for (path, name) in [
            ("/shop/path", "PATH"),
            ("/shop/bash_env", "BASH_ENV"),
            ("/shop/node/options", "NODE_OPTIONS"),
            ("/shop/pythonpath", "PYTHONPATH"),
            ("/shop/java-tool-options", "JAVA_TOOL_OPTIONS"),
            ("/shop/git/ssh", "GIT_SSH"),
        ] {
            let error = edition(&[("/shop/", &[(path, "needle"), ("/shop/a", "1")])]).expect_err(path);
            assert!(
                error.contains(path) && error.contains(&format!("allow: [{name}]")),
                "{error}"
            );
            assert!(!error.contains("needle"), "{error}");
            let places: [Place; 1] = ["/shop/".parse().expect("a place")];
            let snapshot = Snapshot {
                revision: 7,
                places: vec![vec![entry(path, Value::text("x"))]],
            };
            let allows = ConfigUse {
                allow: vec![name.to_owned()],
                ..config(&places, true)
            };
            let made = Edition::new(1, 0.0, &snapshot, &allows).expect(path);
            assert_eq!(made.variables(&allows.allow).expect("allowed").all[name], "x");
            assert!(
                made.variables(&[]).is_err(),
                "of an app that does not allow it any more"
            );
            assert!(
                Edition::new(1, 0.0, &snapshot, &config(&places, false)).is_ok(),
                "files see it"
            );
        }
    }

    fn edition(layers: &[(&str, &[(&str, &str)])]) -> Result<Edition, String> {
        let places: Vec<Place> = layers
            .iter()
            .map(|(place, _)| place.parse().expect("a place"))
            .collect();
        let snapshot = Snapshot {
            revision: 7,
            places: layers
                .iter()
                .map(|(_, values)| {
                    values
                        .iter()
                        .map(|(path, text)| entry(path, Value::text(*text)))
                        .collect()
                })
                .collect(),
        };
        Edition::new(1, 0.0, &snapshot, &config(&places, true))
    }

    #[test]
    fn later_places_win_and_two_values_of_one_place_do_not() {
        let both = edition(&[
            ("/shop/", &[("/shop/db/url", "one"), ("/shop/port", "1")]),
            ("/shop-prod/", &[("/shop-prod/db_url", "two")]),
        ])
        .expect("an edition");
        let all = both.variables(&[]).expect("variables");
        assert_eq!(all.all["DB_URL"], "two");
        assert_eq!(all.all["PORT"], "1");
        let error =
            edition(&[("/shop/", &[("/shop/db/url", "x"), ("/shop/db_url", "y")])]).expect_err("both");
        assert_eq!(error, "`/shop/db/url` and `/shop/db_url` would both be `DB_URL`");
        assert!(
            edition(&[("/shop/", &[])])
                .expect_err("nothing")
                .contains("no value in `/shop/`")
        );
    }

    #[test]
    fn what_can_be_no_variable_is_named_and_not_repeated() {
        for (path, text, why) in [
            ("/shop/ld_preload", "needle", "begins with `LD_`"),
            ("/shop/zero", "needle\0", "zero byte"),
        ] {
            let error = edition(&[("/shop/", &[(path, text)])]).expect_err(path);
            assert!(error.contains(path) && error.contains(why), "{error}");
            assert!(!error.contains("needle"), "{error}");
        }
        let long = "x".repeat(VARIABLE_MAX);
        assert!(
            edition(&[("/shop/", &[("/shop/long", &long)])])
                .expect_err("long")
                .contains("128 KiB")
        );
    }

    #[test]
    fn it_is_kept_with_any_bytes_and_shows_none() {
        let bytes = Value {
            kind: Kind::File,
            bytes: vec![0xff, 0, b'x'],
        };
        let place: Place = "/shop/".parse().expect("a place");
        let snapshot = Snapshot {
            revision: 7,
            places: vec![vec![entry("/shop/file", bytes.clone())]],
        };
        let places = [place];
        let made = Edition::new(1, 0.0, &snapshot, &config(&places, false)).expect("an edition");
        let text = serde_json::to_string(&made).expect("JSON");
        let read: Edition = serde_json::from_str(&text).expect("an edition");
        assert!(read.same(&made) && read.is_of(&places));
        assert_eq!(read.layers[0].1[0].value(), bytes);
        assert!(Edition::new(1, 0.0, &snapshot, &config(&places, true)).is_err());
        assert_eq!(format!("{made:?}"), "Edition(1 of revision 7)");
    }
}
