//! Lists that may be maps.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};

use super::{App, Dependency};
use crate::{app::Condition, file::At, id::AppName};

/// The apps of a file, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Apps(pub Vec<At<App>>);

impl<'de> Deserialize<'de> for Apps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AppsVisitor;

        impl<'de> Visitor<'de> for AppsVisitor {
            type Value = Apps;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of apps, or a map from name to app")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Apps, A::Error> {
                let mut apps = Vec::new();
                while let Some(app) = items.next_element()? {
                    apps.push(app);
                }
                Ok(Apps(apps))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Apps, A::Error> {
                let mut apps = Vec::new();
                while let Some(name) = entries.next_key::<At<String>>()? {
                    let mut app: At<App> = entries.next_value()?;
                    if app
                        .value
                        .name
                        .as_ref()
                        .is_some_and(|inner| inner.value != name.value)
                    {
                        return Err(A::Error::custom(format_args!(
                            "app `{}` gives itself another `name`; it is named by its key",
                            name.value
                        )));
                    }
                    app.position = name.position;
                    app.value.name = Some(name);
                    apps.push(app);
                }
                Ok(Apps(apps))
            }
        }

        deserializer.deserialize_any(AppsVisitor)
    }
}

impl JsonSchema for Apps {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Apps".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let app = generator.subschema_for::<App>();
        json_schema!({
            "description": "The apps: a list, or a map from name to app.",
            "anyOf": [{"type": "array", "items": app}, {"type": "object", "additionalProperties": app}],
        })
    }
}

/// Dependencies, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DependsOn(pub Vec<Dependency>);

impl<'de> Deserialize<'de> for DependsOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DependsVisitor;

        impl<'de> Visitor<'de> for DependsVisitor {
            type Value = DependsOn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of apps, or a map from app to `started`, `healthy` or `completed`")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<DependsOn, E> {
                let name = AppName::parse(name).map_err(E::custom)?;
                Ok(DependsOn(vec![(At::from(name), Condition::Started)]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<DependsOn, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = items.next_element::<At<AppName>>()? {
                    names.push((name, Condition::Started));
                }
                Ok(DependsOn(names))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<DependsOn, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = entries.next_key::<At<AppName>>()? {
                    names.push((
                        name,
                        entries
                            .next_value::<Option<Condition>>()?
                            .unwrap_or(Condition::Started),
                    ));
                }
                Ok(DependsOn(names))
            }
        }

        deserializer.deserialize_any(DependsVisitor)
    }
}

impl JsonSchema for DependsOn {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DependsOn".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let condition = generator.subschema_for::<Condition>();
        json_schema!({
            "description": "A name, a list of names, or a map from name to condition.",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "object", "additionalProperties": condition},
            ],
        })
    }
}
