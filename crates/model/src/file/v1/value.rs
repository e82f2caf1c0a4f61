//! Values with more than one spelling.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::exit::signal_number;

/// A text, or a list of texts.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMany {
    /// One text; where words are wanted it is split.
    One(String),
    /// A list, taken as it is.
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor;

        impl<'de> Visitor<'de> for OneOrManyVisitor {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany::Many(texts))
            }
        }

        // A scalar of any kind counts as the text that was written.
        deserializer.deserialize_str(OneOrManyVisitor)
    }
}

/// A text, a number or a truth value, kept as the text that was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or a truth value (an empty text is written `\"\"`)")
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }

        deserializer.deserialize_str(ScalarVisitor)
    }
}

impl JsonSchema for Scalar {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scalar".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean"]})
    }
}

/// How many copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// That many.
    Count(u32),
    /// One per CPU.
    Max,
    /// That many less than one per CPU, one at least (PM2's negative numbers).
    MaxLess(u32),
}

/// More copies than this are a mistake.
pub(crate) const INSTANCES_MAX: u32 = 1000;

impl<'de> Deserialize<'de> for Instances {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(deserializer)
            .map_err(|_| D::Error::custom("expected a number or `max`"))?
            .0;
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<u32>() {
            Ok(0) => Err(D::Error::custom("expected 1 or more, or `max` for one per CPU")),
            Ok(count) if count > INSTANCES_MAX => Err(D::Error::custom(format_args!(
                "expected {INSTANCES_MAX} at most, found {count}"
            ))),
            Ok(count) => Ok(Self::Count(count)),
            Err(_) => Err(D::Error::custom(format_args!(
                "expected a number or `max`, found `{text}`"
            ))),
        }
    }
}

impl JsonSchema for Instances {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Instances".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": INSTANCES_MAX}, {"const": "max"}]})
    }
}

/// A file mode creation mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Umask(pub u32);

impl<'de> Deserialize<'de> for Umask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = "expected octal digits such as `0022`";
        let text = Scalar::deserialize(deserializer)
            .map_err(|_| D::Error::custom(wanted))?
            .0;
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        let valid = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        u32::from_str_radix(digits, 8)
            .ok()
            .filter(|mask| valid && *mask <= 0o777)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format_args!("{wanted}, at most `0777`, found `{text}`")))
    }
}

impl JsonSchema for Umask {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Umask".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "string", "pattern": "^(0o)?[0-7]{1,4}$"}, {"type": "integer", "minimum": 0, "maximum": 777}],
        })
    }
}

/// A signal by name or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalName(pub i32);

impl<'de> Deserialize<'de> for SignalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = "expected a signal such as `SIGTERM` or `15`";
        let text = Scalar::deserialize(deserializer)
            .map_err(|_| D::Error::custom(wanted))?
            .0;
        signal_number(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format_args!("{wanted}, found `{text}`")))
    }
}

impl JsonSchema for SignalName {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SignalName".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "examples": ["SIGTERM", "SIGINT", "SIGQUIT", 15]})
    }
}

/// Exit codes: one, or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes(pub Vec<u8>);

impl<'de> Deserialize<'de> for Codes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        };
        let code = |text: &String| {
            text.trim().parse().map_err(|_| {
                D::Error::custom(format_args!("expected exit codes from 0 to 255, found `{text}`"))
            })
        };
        texts.iter().map(code).collect::<Result<_, _>>().map(Self)
    }
}

impl JsonSchema for Codes {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Codes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let code = json_schema!({"type": "integer", "minimum": 0, "maximum": 255});
        json_schema!({"anyOf": [code, {"type": "array", "items": code}]})
    }
}

/// One side of a resource limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitValue(pub Option<u64>);

impl<'de> Deserialize<'de> for LimitValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = "expected a number, a size such as `64M`, or `unlimited`";
        let text = Scalar::deserialize(deserializer)
            .map_err(|_| D::Error::custom(wanted))?
            .0;
        if text == "unlimited" || text == "infinity" {
            return Ok(Self(None));
        }
        text.parse::<crate::size::ByteSize>()
            .map(|size| Self(Some(size.as_bytes())))
            .map_err(|_| D::Error::custom(format_args!("{wanted}, found `{text}`")))
    }
}

impl JsonSchema for LimitValue {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LimitValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^(unlimited|infinity|[0-9]+ ?([kKmMgGtT]([iI]?[bB])?|[bB])?)$"},
            ],
        })
    }
}

/// A resource limit: one value for both sides, or `{soft, hard}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RlimitSpec {
    /// What holds.
    pub soft: LimitValue,
    /// What the program may raise it to; the same as `soft` unless given.
    pub hard: LimitValue,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of `soft` and `hard`")]
struct BothSides {
    /// What holds.
    soft: LimitValue,
    /// What the program may raise it to. Default: the same as `soft`.
    hard: Option<LimitValue>,
}

impl<'de> Deserialize<'de> for RlimitSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RlimitVisitor;

        impl<'de> Visitor<'de> for RlimitVisitor {
            type Value = RlimitSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a size such as `64M`, `unlimited`, or `{soft, hard}`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RlimitSpec, E> {
                let value = LimitValue::deserialize(serde::de::IntoDeserializer::into_deserializer(text))?;
                Ok(RlimitSpec {
                    soft: value,
                    hard: value,
                })
            }
            fn visit_u64<E>(self, value: u64) -> Result<RlimitSpec, E> {
                let value = LimitValue(Some(value));
                Ok(RlimitSpec {
                    soft: value,
                    hard: value,
                })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<RlimitSpec, A::Error> {
                let sides = BothSides::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(RlimitSpec {
                    soft: sides.soft,
                    hard: sides.hard.unwrap_or(sides.soft),
                })
            }
        }

        deserializer.deserialize_any(RlimitVisitor)
    }
}

impl JsonSchema for RlimitSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rlimit".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<LimitValue>();
        let both = generator.subschema_for::<BothSides>();
        json_schema!({"anyOf": [one, both]})
    }
}
