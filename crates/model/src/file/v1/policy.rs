//! Restart and stop as they are written.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Codes, SignalName};
use crate::{restart::RestartOn, size::Span};

/// When it is started again: a word, or a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restart(pub RestartSpec);

/// The map.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map")]
pub struct RestartSpec {
    /// Which exits lead to a restart. Default: `always`.
    pub on: Option<RestartOn>,
    /// The same pause before each restart. Not together with `backoff`.
    pub delay: Option<Span>,
    /// A pause that grows: `none`, a duration for one that does not, or a map. Default: from 100ms to 15s, doubling.
    pub backoff: Option<BackoffSpec>,
    /// When trying again is given up: `never`, or `{starts, within}`. Default: 15 starts within 5m; `never` if
    /// `max_restarts` is given.
    pub give_up_after: Option<GiveUpSpec>,
    /// Uptime after which it counts as stable. Default: 1s.
    pub min_uptime: Option<Span>,
    /// PM2's rule: give up after so many exits before `min_uptime`, counted while the app is younger than
    /// `min_uptime` times this number.
    pub max_restarts: Option<u32>,
    /// Exit codes that count as success. Default: 0.
    pub success_codes: Option<Codes>,
    /// Exit codes that end it without a restart.
    pub stop_codes: Option<Codes>,
}

impl<'de> Deserialize<'de> for Restart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RestartVisitor;

        impl<'de> Visitor<'de> for RestartVisitor {
            type Value = Restart;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`always`, `failure`, `never`, `unless-stopped` or a map")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Restart, E> {
                let on = match word {
                    "no" => RestartOn::Never, // as containers spell it
                    _ => RestartOn::deserialize(word.into_deserializer())?,
                };
                Ok(Restart(RestartSpec {
                    on: Some(on),
                    ..RestartSpec::default()
                }))
            }
            fn visit_bool<E>(self, again: bool) -> Result<Restart, E> {
                let on = if again {
                    RestartOn::Always
                } else {
                    RestartOn::Never
                };
                Ok(Restart(RestartSpec {
                    on: Some(on),
                    ..RestartSpec::default()
                }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Restart, A::Error> {
                Struct::<RestartSpec>::read(map).map(Restart)
            }
        }

        deserializer.deserialize_any(RestartVisitor)
    }
}

impl JsonSchema for Restart {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Restart".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<RestartOn>();
        let map = generator.subschema_for::<RestartSpec>();
        json_schema!({
            "description": "A word, or a map.",
            "anyOf": [word, {"enum": ["no", true, false]}, map],
        })
    }
}

/// Reads a struct from the inside of a map.
struct Struct<T>(std::marker::PhantomData<T>);

impl<T> Struct<T> {
    fn read<'de, A: MapAccess<'de>>(map: A) -> Result<T, A::Error>
    where
        T: Deserialize<'de>,
    {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// The pause before the next start.
#[derive(Clone, Debug, PartialEq)]
pub enum BackoffSpec {
    /// None.
    None,
    /// Always the same.
    Fixed(Span),
    /// One that grows.
    Growing(Growing),
}

/// A pause that grows.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map of `min`, `max`, `factor` and `reset_after`"
)]
pub struct Growing {
    /// First pause. Default: 100ms.
    pub min: Option<Span>,
    /// Longest pause. Default: 15s.
    pub max: Option<Span>,
    /// Growth, from 1 to 100. Default: 2.
    pub factor: Option<f64>,
    /// Uptime after which the next pause is the first one again. Default: 30s.
    pub reset_after: Option<Span>,
}

impl<'de> Deserialize<'de> for BackoffSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BackoffVisitor;

        impl<'de> Visitor<'de> for BackoffVisitor {
            type Value = BackoffSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, a duration such as `500ms`, or `{min, max, factor, reset_after}`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<BackoffSpec, E> {
                match text {
                    "none" => Ok(BackoffSpec::None),
                    _ => text.parse().map(BackoffSpec::Fixed).map_err(E::custom),
                }
            }
            fn visit_u64<E>(self, millis: u64) -> Result<BackoffSpec, E> {
                Ok(BackoffSpec::Fixed(Span::from_millis(millis)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BackoffSpec, A::Error> {
                Struct::<Growing>::read(map).map(BackoffSpec::Growing)
            }
        }

        deserializer.deserialize_any(BackoffVisitor)
    }
}

impl JsonSchema for BackoffSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Backoff".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let span = generator.subschema_for::<Span>();
        let growing = generator.subschema_for::<Growing>();
        json_schema!({"anyOf": [{"const": "none"}, span, growing]})
    }
}

/// When trying again is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUpSpec {
    /// Never.
    Never,
    /// After so many starts within a span.
    After(StartsWithinSpec),
}

/// So many starts within a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of `starts` and `within`")]
pub struct StartsWithinSpec {
    /// How many starts, from 1 to 1000.
    pub starts: u32,
    /// Within which span.
    pub within: Span,
}

impl<'de> Deserialize<'de> for GiveUpSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GiveUpVisitor;

        impl<'de> Visitor<'de> for GiveUpVisitor {
            type Value = GiveUpSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`never` or `{starts, within}`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GiveUpSpec, E> {
                match text {
                    "never" => Ok(GiveUpSpec::Never),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GiveUpSpec, A::Error> {
                Struct::<StartsWithinSpec>::read(map).map(GiveUpSpec::After)
            }
        }

        deserializer.deserialize_any(GiveUpVisitor)
    }
}

impl JsonSchema for GiveUpSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GiveUp".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let after = generator.subschema_for::<StartsWithinSpec>();
        json_schema!({"anyOf": [{"const": "never"}, after]})
    }
}

/// How it is stopped: a signal, time to obey it, then SIGKILL to everything it started.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of `signal`, `grace` and `tree`")]
pub struct Stop {
    /// The signal, by name or number. Default: SIGTERM.
    pub signal: Option<SignalName>,
    /// How long it may take to end. Default: 15s.
    pub grace: Option<Span>,
    /// Whether the signal goes to all its processes rather than to the main one. Default: false.
    pub tree: Option<bool>,
}
