//! What an app gets of the shared configuration, as it is written.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{OneOrMany, SignalName, Umask};
use crate::{file::At, place::Place, size::Span};

/// A place, a list of places, or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigSpec {
    /// The places.
    pub places: Vec<Place>,
    /// Whether they become variables.
    pub env: Option<bool>,
    /// Variables that say how programs are loaded and may come from the places all the same.
    pub allow: Vec<String>,
}

/// The map.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `places`")]
struct ConfigParts {
    /// A place such as `/shop/prod/`, or a list of them.
    places: Places,
    /// Whether their values are variables of its environment. Default: true.
    env: Option<bool>,
    /// Variables that a value may be although they say what programs load or run, such as `PATH` or `NODE_OPTIONS`. Default: none.
    allow: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places(Vec<Place>);

struct PlacesVisitor;

fn place<E: serde::de::Error>(text: &str) -> Result<Place, E> {
    text.parse().map_err(E::custom)
}

impl<'de> Visitor<'de> for PlacesVisitor {
    type Value = Places;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a place of the shared configuration such as `/shop/prod/`, or a list of them")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Places, E> {
        Ok(Places(vec![place(text)?]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Places, A::Error> {
        let mut places = Vec::new();
        while let Some(text) = items.next_element::<String>()? {
            places.push(place(&text)?);
        }
        Ok(Places(places))
    }
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlacesVisitor)
    }
}

fn places_schema() -> [Schema; 2] {
    [
        json_schema!({"type": "string", "examples": ["/shop/prod/"]}),
        json_schema!({"type": "array", "items": {"type": "string"}}),
    ]
}

impl JsonSchema for Places {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Places".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": places_schema()})
    }
}

impl<'de> Deserialize<'de> for ConfigSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ConfigVisitor;

        impl<'de> Visitor<'de> for ConfigVisitor {
            type Value = ConfigSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a place of the shared configuration such as `/shop/prod/`, a list of them, or a map with `places`",
                )
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ConfigSpec, E> {
                PlacesVisitor.visit_str(text).map(ConfigSpec::of)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<ConfigSpec, A::Error> {
                PlacesVisitor.visit_seq(items).map(ConfigSpec::of)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ConfigSpec, A::Error> {
                let parts = ConfigParts::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ConfigSpec {
                    places: parts.places.0,
                    env: parts.env,
                    allow: parts.allow.unwrap_or_default(),
                })
            }
        }

        deserializer.deserialize_any(ConfigVisitor)
    }
}

impl ConfigSpec {
    fn of(places: Places) -> Self {
        Self {
            places: places.0,
            ..Self::default()
        }
    }
}

impl JsonSchema for ConfigSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Config".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let parts = generator.subschema_for::<ConfigParts>();
        let [one, many] = places_schema();
        json_schema!({"anyOf": [one, many, parts]})
    }
}

/// A file that is made from a template and from the values of `config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `template` and `to`")]
pub struct FileSpec {
    /// The template (Jinja2's syntax), relative to the directory of this file. It is read when the app is applied.
    pub template: String,
    /// The file, relative to `cwd`.
    pub to: String,
    /// User that owns it, by name or number. Default: the user that Upkeep runs as.
    pub owner: Option<At<String>>,
    /// Its group, by name or number. Default: the owner's own.
    pub group: Option<At<String>>,
    /// Its mode, octal. Default: 0600.
    pub mode: Option<Umask>,
    /// Command that has to succeed before the new file takes the place of the old; `{}` is the new file. A list of words, or a
    /// line.
    pub check: Option<At<OneOrMany>>,
    /// Whether it may be blank. Default: false.
    pub allow_blank: Option<bool>,
}

/// What is done when values change: a word, or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnChangeSpec(pub OnChangeParts);

/// The map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of `do`, `signal`, `wait` and `max`")]
pub struct OnChangeParts {
    /// `reload` (copies are replaced one after another), `restart` or `none`. Default: reload.
    #[serde(rename = "do")]
    pub action: Option<At<ActionWord>>,
    /// Its processes get this signal instead, such as `HUP`.
    pub signal: Option<SignalName>,
    /// So long nothing more must have changed. Default: 1s.
    pub wait: Option<Span>,
    /// But no longer than this after the first change. Default: 10s.
    pub max: Option<Span>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "`reload`, `restart` or `none`")]
pub enum ActionWord {
    /// Copies are replaced, one after another.
    Reload,
    /// All copies are ended, then started.
    Restart,
    /// Nothing.
    None,
}

impl<'de> Deserialize<'de> for OnChangeSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChangeVisitor;

        impl<'de> Visitor<'de> for ChangeVisitor {
            type Value = OnChangeSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`reload`, `restart`, `none`, or a map of `do`, `signal`, `wait` and `max`")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<OnChangeSpec, E> {
                let action = match word {
                    "reload" => ActionWord::Reload,
                    "restart" => ActionWord::Restart,
                    "none" => ActionWord::None,
                    _ => return Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                };
                Ok(OnChangeSpec(OnChangeParts {
                    action: Some(At::from(action)),
                    ..OnChangeParts::default()
                }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OnChangeSpec, A::Error> {
                let parts = OnChangeParts::deserialize(MapAccessDeserializer::new(map))?;
                if parts.action.is_some() && parts.signal.is_some() {
                    return Err(A::Error::custom("`do` and `signal` exclude each other"));
                }
                Ok(OnChangeSpec(parts))
            }
        }

        deserializer.deserialize_any(ChangeVisitor)
    }
}

impl JsonSchema for OnChangeSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OnChange".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<ActionWord>();
        let parts = generator.subschema_for::<OnChangeParts>();
        json_schema!({"anyOf": [word, parts]})
    }
}
