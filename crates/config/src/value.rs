//! Values: bytes, and what they are.

use serde::{Deserialize, Serialize};

/// The largest value, bytes. Below what every backend takes, with room for what is kept beside it.
pub const VALUE_MAX: usize = 1 << 19;

/// What a value is. It is checked when it is written, and tells how it is shown and rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// UTF-8.
    #[default]
    Text,
    /// A number as JSON writes it.
    Number,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Any bytes.
    File,
}

impl Kind {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::File => "file",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Text, Self::Number, Self::Json, Self::Yaml, Self::File]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "`{}` is no kind of value: there are text, number, json, yaml, file",
                    text.escape_debug()
                )
            })
    }
}

/// A value.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Shows no content: values get into logs by accident.
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({}, {} bytes)", self.kind, self.bytes.len())
    }
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Text,
            bytes: text.into().into_bytes(),
        }
    }

    /// Checks that the bytes are what the kind says. The error says what is wrong and repeats nothing of the value.
    pub fn check(&self) -> Result<(), String> {
        if self.bytes.len() > VALUE_MAX {
            let length = self.bytes.len();
            return Err(format!("it has {length} bytes, {VALUE_MAX} are allowed"));
        }
        let text = || {
            std::str::from_utf8(&self.bytes)
                .map_err(|error| format!("it is not UTF-8 from byte {} on", error.valid_up_to()))
        };
        match self.kind {
            Kind::File => Ok(()),
            Kind::Text => text().map(drop),
            Kind::Number => match serde_json::from_str::<serde_json::Number>(text()?.trim()) {
                Ok(_) => Ok(()),
                Err(_) => Err("it is no number".to_owned()),
            },
            Kind::Json => serde_json::from_str::<serde_json::Value>(text()?)
                .map(drop)
                .map_err(|error| format!("it is no JSON: line {}, column {}", error.line(), error.column())),
            Kind::Yaml => serde_saphyr::from_str::<serde_json::Value>(text()?)
                .map(drop)
                .map_err(|error| match error.location() {
                    Some(at) => format!("it is no YAML: line {}, column {}", at.line(), at.column()),
                    None => "it is no YAML".to_owned(),
                }),
        }
    }

    /// As a JSON value, as schemas and templates see it: text is a string, a file that is no UTF-8 is nothing.
    pub fn to_json(&self) -> Option<serde_json::Value> {
        let text = std::str::from_utf8(&self.bytes).ok()?;
        match self.kind {
            Kind::Text | Kind::File => Some(text.into()),
            Kind::Number => serde_json::from_str(text.trim()).ok(),
            Kind::Json => serde_json::from_str(text).ok(),
            Kind::Yaml => serde_saphyr::from_str(text).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Kind, text: &str) -> Value {
        Value {
            kind,
            bytes: text.into(),
        }
    }

    #[test]
    fn values_are_what_they_say() {
        for (kind, text) in [
            (Kind::Text, "any\nthing"),
            (Kind::Number, "-1.5e3"),
            (Kind::Number, " 42\n"),
            (Kind::Json, "{\"a\": [1, null]}"),
            (Kind::Yaml, "a:\n  - 1\n"),
        ] {
            assert_eq!(value(kind, text).check(), Ok(()), "{text}");
            assert!(value(kind, text).to_json().is_some(), "{text}");
        }
        for (kind, text, why) in [
            (Kind::Number, "secret42", "no number"),
            (Kind::Number, "NaN", "no number"),
            (Kind::Json, "{\"secret\": }", "line 1, column 12"),
            (Kind::Yaml, "a: [secret", "no YAML"),
        ] {
            let error = value(kind, text).check().expect_err(text);
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let bytes = Value {
            kind: Kind::File,
            bytes: vec![0xff, 0],
        };
        assert_eq!(bytes.check(), Ok(()));
        assert_eq!(bytes.to_json(), None);
        assert!(
            Value {
                kind: Kind::Text,
                ..bytes
            }
            .check()
            .is_err()
        );
        assert_eq!(value(Kind::Text, &"a".repeat(VALUE_MAX)).check(), Ok(()));
        assert!(value(Kind::Text, &"a".repeat(VALUE_MAX + 1)).check().is_err());
        let shown = format!("{:?}", value(Kind::Text, "hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
