//! What there is to lay.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt as _, path::PathBuf};

use serde_json::Value;

use super::stack::{Layer, LayerError, Origin, Setting, Tree, spread};
use crate::{
    entry::Entry,
    forms::{self, Fault, Form, Position},
    path::Place,
};

/// Larger files are not read.
const FILE_MAX: u64 = 4 << 20;

/// What the program brings itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixed(pub Value);

impl Layer for Fixed {
    fn name(&self) -> String {
        "defaults".to_owned()
    }

    fn load(&self) -> Result<Tree, LayerError> {
        let mut tree = Tree::new();
        for (key, value) in self.0.as_object().into_iter().flatten() {
            let setting = Setting {
                value: value.clone(),
                secret: false,
                origin: Origin::Fixed,
            };
            spread(&mut tree, &key.replace('/', "~1"), setting);
        }
        Ok(tree)
    }
}

/// A file in one of the forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayer {
    /// Where.
    pub path: PathBuf,
    /// How it is written.
    pub form: Form,
    /// Whether it has to be there.
    pub required: bool,
}

impl FileLayer {
    fn fail(&self, why: impl Into<String>) -> LayerError {
        fail(&self.path.display().to_string(), None, why)
    }
}

/// A text in one of the forms, as whoever asks has it.
#[derive(Clone, PartialEq, Eq)]
pub struct TextLayer {
    /// What it is called.
    pub name: String,
    /// How it is written.
    pub form: Form,
    /// What it holds.
    pub text: String,
}

/// Shows no content.
impl std::fmt::Debug for TextLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TextLayer").field(&self.name).finish()
    }
}

impl Layer for TextLayer {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn load(&self) -> Result<Tree, LayerError> {
        read(&self.name, self.form, &self.text)
    }
}

fn fail(file: &str, at: Option<Position>, why: impl Into<String>) -> LayerError {
    let layer = match at {
        Some(Position { line, column }) => format!("{file}:{line}:{column}"),
        None => file.to_owned(),
    };
    LayerError {
        layer,
        why: why.into(),
    }
}

/// What a file says.
fn read(file: &str, form: Form, text: &str) -> Result<Tree, LayerError> {
    let contents = forms::read(form, &Place::all(), text, &[]).map_err(
        |Fault {
             position, message, ..
         }| fail(file, position, message),
    )?;
    let mut tree = Tree::new();
    for item in contents.items {
        let Some(value) = item.value.to_json() else {
            return Err(fail(file, Some(item.at), format!("`{}` is no text", item.path)));
        };
        let setting = Setting {
            value,
            secret: item.secret,
            origin: Origin::File {
                file: file.to_owned(),
                at: item.at,
            },
        };
        spread(&mut tree, &item.path.as_str()[1..], setting);
    }
    Ok(tree)
}

impl Layer for FileLayer {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn load(&self) -> Result<Tree, LayerError> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.required => return Ok(Tree::new()),
            Ok(found) if found.len() > FILE_MAX => return Err(self.fail("it is larger than 4 MiB")),
            _ => {}
        }
        let text = fs::read_to_string(&self.path).map_err(|error| self.fail(error.to_string()))?;
        read(&self.path.display().to_string(), self.form, &text)
    }

    fn stamp(&self) -> String {
        match fs::metadata(&self.path) {
            Ok(found) => format!(
                "{} {} {} {}.{}",
                found.dev(),
                found.ino(),
                found.size(),
                found.mtime(),
                found.mtime_nsec()
            ),
            Err(error) => error.kind().to_string(),
        }
    }
}

/// Variables of an environment with a prefix: with `SHOP_`, `SHOP_DB__URL` is `db/url`. Values are JSON where they are
/// numbers, `true`, `false`, `null`, lists or maps, else text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// What their names begin with.
    pub prefix: String,
    /// The variables.
    pub variables: BTreeMap<String, String>,
}

impl Environment {
    /// The variables of this process.
    pub fn own(prefix: impl Into<String>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self {
            prefix: prefix.into(),
            variables: variables.collect(),
        }
    }
}

impl Layer for Environment {
    fn name(&self) -> String {
        format!("environment variables {}*", self.prefix)
    }

    fn load(&self) -> Result<Tree, LayerError> {
        let mut tree = Tree::new();
        let mut from: BTreeMap<String, &String> = BTreeMap::new();
        for (name, text) in &self.variables {
            let Some(rest) = name.strip_prefix(&self.prefix).filter(|rest| !rest.is_empty()) else {
                continue;
            };
            let key = rest.to_ascii_lowercase().replace("__", "/");
            if key.split('/').any(str::is_empty) {
                return Err(LayerError {
                    layer: format!("environment variable {name}"),
                    why: "there is nothing before or behind a `__`".to_owned(),
                });
            }
            if let Some(other) = from.insert(key.clone(), name) {
                return Err(LayerError {
                    layer: self.name(),
                    why: format!("{other} and {name} say the same"),
                });
            }
            let value = match serde_json::from_str(text) {
                Ok(Value::String(_)) | Err(_) => Value::from(text.as_str()),
                Ok(value) => value,
            };
            let setting = Setting {
                value,
                secret: false,
                origin: Origin::Variable(name.clone()),
            };
            spread(&mut tree, &key, setting);
        }
        Ok(tree)
    }
}

/// The settings of this machine, as they are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// All of them.
    pub settings: Value,
    /// The revision of their last change.
    pub revision: u64,
}

impl Layer for Stored {
    fn name(&self) -> String {
        "settings of this machine".to_owned()
    }

    fn load(&self) -> Result<Tree, LayerError> {
        let mut tree = Tree::new();
        for (key, value) in self.settings.as_object().into_iter().flatten() {
            let setting = Setting {
                value: value.clone(),
                secret: false,
                origin: Origin::Settings {
                    revision: self.revision,
                },
            };
            spread(&mut tree, key, setting);
        }
        Ok(tree)
    }
}

/// Values of a place of the shared configuration, as they were listed. Secrets that were not revealed say nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    /// Which place.
    pub place: Place,
    /// Its values.
    pub entries: Vec<Entry>,
}

impl Layer for Shared {
    fn name(&self) -> String {
        self.place.to_string()
    }

    fn load(&self) -> Result<Tree, LayerError> {
        let mut tree = Tree::new();
        for entry in &self.entries {
            let (Some(below), Some(value)) = (self.place.below(&entry.path), entry.shown.value()) else {
                continue;
            };
            let Some(value) = value.to_json() else {
                continue;
            };
            let setting = Setting {
                value,
                secret: entry.shown.is_secret(),
                origin: Origin::Shared {
                    path: entry.path.clone(),
                    revision: entry.revision,
                },
            };
            spread(&mut tree, below, setting);
        }
        Ok(tree)
    }
}
