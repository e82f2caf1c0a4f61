//! Templates in Jinja2's syntax, by minijinja.
//!
//! Values below the place stand under their segments (`{{ db.url }}`); names that are no names of Jinja2 are read by
//! `get("log-level")`. What is not there is an error that names its path, unless the template asks first (`is defined`,
//! `default`). Functions:
//!
//! | function | gives |
//! |---|---|
//! | `get(path)` | the value; an error that names the path if there is none |
//! | `getv(path, default)` | the value, else `default`; without a default as `get` |
//! | `exists(path)` | whether there is such a value |
//! | `ls(path)` | the names directly below, sorted; nothing below is an empty list |
//!
//! A path is one below the place (`db/url`) or a whole one (`/shop/prod/db/url`). A secret that was not revealed is an error
//! wherever it is used, never an empty text. As in Jinja2, `true` prints as `True` and nothing as `None`: `{{ flag | tojson }}`.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Enumerator, Object, ObjectRepr, Rest},
};

use serde_json::Value as Json;

use crate::values::{Seen, Values};

/// Larger files are not made.
pub const OUTPUT_MAX: usize = 16 << 20;

/// What a template may do, in steps of its machine.
const FUEL: u64 = 10_000_000;

/// What stands for a secret where it may not be shown.
pub const MASK: &str = "••••••";

/// A file as it is to be, and as it may be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Goes into the file.
    pub text: String,
    /// The same with secrets masked; absent if the template makes something of a secret that a mask cannot take part in.
    pub shown: Option<String>,
    /// Whether secrets were used.
    pub secret: bool,
    /// The revision of the values.
    pub revision: u64,
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Rendered({} bytes at revision {})",
            self.text.len(),
            self.revision
        )
    }
}

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A value that is not there.
    #[error("{template}:{line}: there is no `{path}`")]
    Missing {
        /// The template.
        template: String,
        /// Its line.
        line: usize,
        /// The whole path.
        path: String,
    },
    /// A secret that was not revealed.
    #[error("{template}:{line}: `{path}` is a secret that was not revealed to whoever renders this")]
    Sealed {
        /// The template.
        template: String,
        /// Its line.
        line: usize,
        /// The whole path.
        path: String,
    },
    /// The template itself.
    #[error("{template}:{line}: {why}")]
    Template {
        /// The template.
        template: String,
        /// Its line.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// What comes out is too large for a file of ours.
    #[error("{template}: it makes more than {} MiB", OUTPUT_MAX >> 20)]
    TooLarge {
        /// The template.
        template: String,
    },
    /// Nothing but blanks came out.
    #[error("{template}: it makes nothing but blanks; the file stays as it is")]
    Blank {
        /// The template.
        template: String,
    },
}

/// What was asked for while a template was rendered.
#[derive(Clone, Debug, Default)]
struct Asked {
    /// The last that was not there, if nothing else was put in its place and no secret can be a part of its name.
    missing: Option<String>,
    /// The last that was sealed.
    sealed: Option<String>,
    secret: bool,
}

#[derive(Debug)]
struct Source {
    values: Values,
    /// Words of the template: what is made of them alone is no secret.
    words: HashSet<String>,
    asked: Mutex<Asked>,
}

impl Source {
    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, name: &str) -> Result<Option<Value>, Error> {
        match self.values.get(name) {
            Some(Seen::Content { json, secret }) => {
                self.asked().secret |= *secret;
                let Some(json) = json else {
                    let why = format!("`{}` is no text (UTF-8)", self.values.path(name));
                    return Err(Error::new(ErrorKind::InvalidOperation, why));
                };
                Ok(Some(of_json(json)))
            }
            Some(Seen::Sealed) => {
                let path = self.values.path(name);
                self.asked().sealed = Some(path.clone());
                Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("`{path}` is sealed"),
                ))
            }
            None => {
                let mut asked = self.asked();
                let is_open = !asked.secret || words(name).all(|word| self.words.contains(word));
                asked.missing = is_open.then(|| self.values.path(name));
                Ok(None)
            }
        }
    }

    /// What was not there has a default, or was only asked after.
    fn makes_do(&self) {
        self.asked().missing = None;
    }

    fn need(&self, name: &str) -> Result<Value, Error> {
        self.look(name)?.ok_or_else(|| {
            Error::new(
                ErrorKind::UndefinedError,
                format!("there is no `{}`", self.values.path(name)),
            )
        })
    }
}

/// What a text is made of: names of values, for the most part.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_inside = |one: char| one.is_alphanumeric() || matches!(one, '_' | '-');
    text.split(move |one| !is_inside(one))
        .filter(|word| !word.is_empty())
}

/// Takes a text up to the size that a file may have.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_full |= self.bytes.len() + bytes.len() > OUTPUT_MAX;
        if self.is_full {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn of_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (_, _, number) => Value::from(number.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(of_json).collect::<Vec<_>>()),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(key, value)| (key.as_str(), of_json(value)))),
    }
}

/// A place, as a map whose values are looked up when they are asked for.
#[derive(Debug)]
struct Branch {
    source: Arc<Source>,
    /// Ends with a slash, unless it is empty.
    below: String,
}

impl Object for Branch {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = format!("{}{}", self.below, key.as_str()?);
        if self.source.values.is_place(&name) {
            return Some(Value::from_object(Self {
                source: Arc::clone(&self.source),
                below: format!("{name}/"),
            }));
        }
        match self.source.look(&name) {
            Ok(found) => found,
            // An invalid value is an error as soon as anything is done with it.
            Err(error) => Some(Value::from(error)),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.source.values.names(&self.below);
        Enumerator::Values(names.into_iter().map(Value::from).collect())
    }
}

/// Renders a template. `name` is for errors; `allow_blank`: nothing but blanks is what is wanted.
pub fn render(
    name: &str,
    template: &str,
    values: &Values,
    allow_blank: bool,
) -> Result<Rendered, RenderError> {
    let (text, secret) = once(name, template, values)?;
    if text.trim().is_empty() && !allow_blank {
        return Err(RenderError::Blank {
            template: name.to_owned(),
        });
    }
    let shown = if secret {
        once(name, template, &values.masked(MASK))
            .ok()
            .map(|(shown, _)| shown)
    } else {
        Some(text.clone())
    };
    Ok(Rendered {
        text,
        shown,
        secret,
        revision: values.revision(),
    })
}

fn once(name: &str, template: &str, values: &Values) -> Result<(String, bool), RenderError> {
    let source = Arc::new(Source {
        values: values.clone(),
        words: words(template).map(str::to_owned).collect(),
        asked: Mutex::default(),
    });
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    let syntax = syntax.map_err(|error| told(name, &error, Asked::default()))?;
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    // A template's own debug text would repeat values.
    environment.set_debug(false);
    let own = Arc::clone(&source);
    environment.add_function("get", move |path: String| own.need(&path));
    let own = Arc::clone(&source);
    environment.add_function(
        "getv",
        move |path: String, default: Option<Value>| match default {
            Some(default) => Ok(own.look(&path)?.unwrap_or_else(|| {
                own.makes_do();
                default
            })),
            None => own.need(&path),
        },
    );
    let own = Arc::clone(&source);
    environment.add_function("exists", move |path: String| own.values.get(&path).is_some());
    let own = Arc::clone(&source);
    environment.add_function("ls", move |path: Option<String>| -> Vec<String> {
        let names = own.values.names(path.as_deref().unwrap_or_default());
        names.into_iter().map(str::to_owned).collect()
    });
    for filter in ["default", "d"] {
        let own = Arc::clone(&source);
        environment.add_filter(
            filter,
            move |state: &State<'_, '_>, value: &Value, rest: Rest<Value>| {
                if value.is_undefined() {
                    own.makes_do();
                }
                minijinja::filters::default(state, value, rest)
            },
        );
    }
    for (test, wanted) in [("defined", false), ("undefined", true)] {
        let own = Arc::clone(&source);
        environment.add_test(test, move |value: &Value| {
            if value.is_undefined() {
                own.makes_do();
            }
            value.is_undefined() == wanted
        });
    }
    let root = Value::from_object(Branch {
        source: Arc::clone(&source),
        below: String::new(),
    });
    let mut output = Output::default();
    let result = environment
        .template_from_named_str(name, template)
        .and_then(|template| template.render_captured_to(root, &mut output).map(drop));
    let asked = std::mem::take(&mut *source.asked());
    if output.is_full {
        return Err(RenderError::TooLarge {
            template: name.to_owned(),
        });
    }
    result.map_err(|error| told(name, &error, asked.clone()))?;
    let text = String::from_utf8(output.bytes).map_err(|_| RenderError::Template {
        template: name.to_owned(),
        line: 0,
        why: "it makes no text".to_owned(),
    })?;
    Ok((text, asked.secret))
}

fn told(name: &str, error: &Error, asked: Asked) -> RenderError {
    let template = name.to_owned();
    let line = error.line().unwrap_or(0);
    match (error.kind(), asked) {
        (
            ErrorKind::UndefinedError,
            Asked {
                missing: Some(path), ..
            },
        ) => RenderError::Missing { template, line, path },
        (
            _,
            Asked {
                sealed: Some(path), ..
            },
        ) => RenderError::Sealed { template, line, path },
        // What is said in detail may repeat a value.
        (kind, Asked { secret: true, .. }) => RenderError::Template {
            template,
            line,
            why: kind.to_string(),
        },
        (kind, _) => RenderError::Template {
            template,
            line,
            why: match error.detail() {
                Some(detail) => format!("{kind}: {detail}"),
                None => kind.to_string(),
            },
        },
    }
}
