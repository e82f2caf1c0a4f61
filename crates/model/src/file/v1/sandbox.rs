//! Isolation as it is written.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{sandbox::Level, size::ByteSize};

/// A level, or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxSpec(pub SandboxParts);

/// The map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map")]
pub struct SandboxParts {
    /// `none`, `light`, `standard` or `strict`. Default: none.
    pub level: Option<Level>,
    /// Whether it may use the network. Default: as the level says.
    pub network: Option<bool>,
    /// Paths that it may read besides, relative to `cwd`.
    #[serde(default)]
    pub read: Vec<String>,
    /// Paths that it may write besides, relative to `cwd`.
    #[serde(default)]
    pub write: Vec<String>,
    /// Size of its private /tmp. Default: as the level says.
    pub tmp: Option<ByteSize>,
    /// Groups of system calls that are allowed besides.
    #[serde(default)]
    pub allow: Vec<String>,
}

impl<'de> Deserialize<'de> for SandboxSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SandboxVisitor;

        impl<'de> Visitor<'de> for SandboxVisitor {
            type Value = SandboxSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, `light`, `standard`, `strict` or a map")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<SandboxSpec, E> {
                Ok(SandboxSpec(SandboxParts {
                    level: Some(Level::deserialize(word.into_deserializer())?),
                    ..SandboxParts::default()
                }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SandboxSpec, A::Error> {
                SandboxParts::deserialize(MapAccessDeserializer::new(map)).map(SandboxSpec)
            }
        }

        deserializer.deserialize_any(SandboxVisitor)
    }
}

impl JsonSchema for SandboxSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sandbox".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let level = generator.subschema_for::<Level>();
        let parts = generator.subschema_for::<SandboxParts>();
        json_schema!({"anyOf": [level, parts]})
    }
}
