//! Layers over layers.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use super::Loader;
use crate::forms::Position;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The program itself.
    Fixed,
    /// A file.
    File {
        /// As it was named.
        file: String,
        /// Line and column of the key.
        at: Position,
    },
    /// A variable of the environment.
    Variable(String),
    /// The shared configuration.
    Shared {
        /// The path.
        path: crate::Path,
        /// The revision that wrote it.
        revision: u64,
    },
    /// The settings of this machine.
    Settings {
        /// The revision of their last change.
        revision: u64,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str("default"),
            Self::File { file, at } => write!(f, "{file}:{}:{}", at.line, at.column),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Shared { path, revision } => write!(f, "{path} at revision {revision}"),
            Self::Settings { revision } => write!(f, "settings of this machine at revision {revision}"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, PartialEq)]
pub struct Setting {
    /// No map, but for an empty one.
    pub value: Value,
    /// To be shown to nobody who has no right to reveal it.
    pub secret: bool,
    /// Where it came from.
    pub origin: Origin,
}

/// Shows no secret.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret {
            write!(f, "•••••• ({})", self.origin)
        } else {
            write!(f, "{} ({})", self.value, self.origin)
        }
    }
}

/// What one layer says, by `db/url`.
pub type Tree = BTreeMap<String, Setting>;

/// Why a layer has nothing to say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{layer}: {why}")]
pub struct LayerError {
    /// Which; a file with line and column where they are known.
    pub layer: String,
    /// What is wrong.
    pub why: String,
}

/// A source of settings.
pub trait Layer: Send + Sync + 'static {
    /// For people.
    fn name(&self) -> String;

    /// Reads it.
    fn load(&self) -> Result<Tree, LayerError>;

    /// Something that differs once reading it again would give something else; the same for ever if that cannot be told.
    fn stamp(&self) -> String {
        String::new()
    }
}

/// Adds a value to a tree; a map becomes its values.
pub(super) fn spread(tree: &mut Tree, name: &str, setting: Setting) {
    match setting.value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let below = format!("{name}/{}", key.replace('/', "~1"));
                let setting = Setting {
                    value,
                    secret: setting.secret,
                    origin: setting.origin.clone(),
                };
                spread(tree, &below, setting);
            }
        }
        value => {
            tree.insert(name.to_owned(), Setting { value, ..setting });
        }
    }
}

/// A value, and what it hides.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// The key: `db/url`.
    pub key: String,
    /// The name of the layer.
    pub layer: String,
    /// What holds.
    pub setting: Setting,
    /// What it hides, the nearest layer first.
    pub hidden: Vec<(String, String, Setting)>,
}

/// For `upkeep config explain`.
impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}", self.key, self.setting)?;
        for (_, key, setting) in &self.hidden {
            write!(f, "\n  hides {key} = {setting:?}")?;
        }
        Ok(())
    }
}

struct Held {
    name: String,
    loader: Loader<Tree, Tree, LayerError>,
    stamp: Box<dyn Fn() -> String + Send + Sync>,
    seen: Option<String>,
}

/// Layers, the first at the bottom.
#[derive(Default)]
pub struct Stack {
    layers: Vec<Held>,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.layers.iter().map(|held| held.name.as_str()).collect();
        f.debug_tuple("Stack").field(&names).finish()
    }
}

impl Stack {
    /// Lays a layer on top: it wins over those before it.
    #[must_use]
    pub fn with(mut self, layer: impl Layer) -> Self {
        let layer = std::sync::Arc::new(layer);
        let mut loader = Loader::plain();
        let loaded = std::sync::Arc::clone(&layer);
        loader.source(move || loaded.load());
        self.layers.push(Held {
            name: layer.name(),
            loader,
            stamp: Box::new(move || layer.stamp()),
            seen: None,
        });
        self
    }

    /// Reads all layers again. If one fails, all stay as they were.
    pub fn reload(&mut self) -> Result<(), LayerError> {
        self.load(true).map(drop)
    }

    /// Reads the layers again that have changed, and tells whether any had. If one fails, all stay as they were.
    pub fn refresh(&mut self) -> Result<bool, LayerError> {
        self.load(false)
    }

    fn load(&mut self, all: bool) -> Result<bool, LayerError> {
        // The stamp is taken before: what changes while it is read is read again.
        let stamps: Vec<String> = self.layers.iter().map(|held| (held.stamp)()).collect();
        let mut before = Vec::new();
        for (index, (held, stamp)) in self.layers.iter_mut().zip(&stamps).enumerate() {
            if !all && held.seen.as_ref() == Some(stamp) {
                continue;
            }
            let old = held.loader.cached.clone();
            match held.loader.reload() {
                Ok(_) => before.push((index, old)),
                Err(error) => {
                    for (index, old) in before {
                        self.layers[index].loader.cached = old;
                    }
                    return Err(error);
                }
            }
        }
        for (index, _) in &before {
            self.layers[*index].seen = Some(stamps[*index].clone());
        }
        Ok(!before.is_empty())
    }

    /// All that holds, merged. What is cached is not read again.
    pub fn get(&mut self) -> Result<Value, LayerError> {
        let merged = self.merged()?;
        let mut root = Value::Object(Map::new());
        for (key, (_, setting)) in merged {
            let mut at = &mut root;
            for segment in key.split('/') {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                // It is a map now.
                let Value::Object(map) = at else { break };
                at = map.entry(segment.replace("~1", "/")).or_insert(Value::Null);
            }
            *at = setting.value;
        }
        Ok(root)
    }

    /// Where a value, or each of those below a key, came from: `db/url` or `db`, also with dots.
    pub fn explain(&mut self, key: &str) -> Result<Vec<Explained>, LayerError> {
        let merged = self.merged()?;
        let key = key.trim_matches('/');
        let dotted = key.replace('.', "/");
        let is_at = |found: &str, key: &str| key.is_empty() || found == key || is_below(found, key);
        let wanted = if merged.keys().any(|found| is_at(found, key)) {
            key
        } else {
            &dotted
        };
        let mut explained = Vec::new();
        for (found, (index, setting)) in merged.iter().filter(|(found, _)| is_at(found, wanted)) {
            let mut hidden = Vec::new();
            for held in self.layers.iter_mut().take(*index).rev() {
                let name = held.name.clone();
                for (other, setting) in held.loader.get()?.into_iter().flatten() {
                    if meets(other, found) {
                        hidden.push((name.clone(), other.clone(), setting.clone()));
                    }
                }
            }
            explained.push(Explained {
                key: found.clone(),
                layer: self.layers[*index].name.clone(),
                setting: setting.clone(),
                hidden,
            });
        }
        Ok(explained)
    }

    fn merged(&mut self) -> Result<BTreeMap<String, (usize, Setting)>, LayerError> {
        let mut merged: BTreeMap<String, (usize, Setting)> = BTreeMap::new();
        if self.layers.iter().any(|held| held.loader.cached.is_none()) {
            self.load(false)?;
        }
        for (index, held) in self.layers.iter_mut().enumerate() {
            for (key, setting) in held.loader.get()?.into_iter().flatten() {
                // An empty map says nothing of what is in it.
                let is_empty_map = setting.value.as_object().is_some_and(Map::is_empty);
                if is_empty_map && merged.keys().any(|other| is_below(other, key)) {
                    continue;
                }
                // A value takes the place of a map, and a map of a value.
                merged.retain(|other, _| other == key || !meets(other, key));
                merged.insert(key.clone(), (index, setting.clone()));
            }
        }
        Ok(merged)
    }
}

fn is_below(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether two keys cannot both hold.
fn meets(a: &str, b: &str) -> bool {
    a == b || is_below(a, b) || is_below(b, a)
}
