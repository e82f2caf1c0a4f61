//! Names and numbers of things that are managed.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of an app: unique on a machine, used in file names, URLs, log prefixes and selectors.
///
/// 1 to 100 characters. Letters and digits of any script and `_ - . @ + :`-free punctuation are allowed; refused
/// are `/`, control characters (so also newlines), blanks, the selector characters `* ? [ ] { } , : !`, quotes,
/// a leading `-` or `.`, names made of digits only (they would be ids) and the reserved word `all`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AppName(String);

/// Why a text cannot be an app's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be the name of an app: {why}", name.escape_debug())]
pub struct AppNameError {
    /// The text as it was given.
    pub name: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

/// The longest name, in characters.
pub const APP_NAME_MAX: usize = 100;

impl AppName {
    /// Checks `name` against the rules above.
    pub fn parse(name: &str) -> Result<Self, AppNameError> {
        let refuse = |why| {
            Err(AppNameError {
                name: name.chars().take(120).collect(),
                why,
            })
        };
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.chars().count() > APP_NAME_MAX || name.len() > 180 {
            return refuse("it is longer than 100 characters (or 180 bytes)");
        }
        if name.starts_with(['-', '.']) {
            return refuse("it starts with `-` or `.`");
        }
        if name == "all" {
            return refuse("`all` selects every app");
        }
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return refuse("it is a number, and numbers select by id");
        }
        for character in name.chars() {
            if character == '/' {
                return refuse("it contains `/`, and names are used in file names and URLs");
            }
            if character.is_control() {
                return refuse("it contains a control character or a newline");
            }
            if character.is_whitespace() {
                return refuse("it contains a blank");
            }
            if "*?[]{},:!\"'`\\$|;&<>#%".contains(character) {
                return refuse("it contains a character that selectors, URLs or shells give a meaning");
            }
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AppName {
    type Err = AppNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for AppName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for AppName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1, "maxLength": APP_NAME_MAX})
    }
}

/// One running copy of an app: `shop:0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct InstanceId {
    /// The app it is a copy of.
    pub app: AppName,
    /// Which copy, from 0.
    pub index: u32,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.app, self.index)
    }
}

impl FromStr for InstanceId {
    type Err = AppNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || AppNameError {
            name: text.to_owned(),
            why: "an instance is written `NAME:INDEX`",
        };
        let (app, index) = text.rsplit_once(':').ok_or_else(refuse)?;
        Ok(Self {
            app: AppName::parse(app)?,
            index: index.parse().map_err(|_| refuse())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_use_are_accepted() {
        for name in ["shop", "shop-api", "a_b.c", "web@2", "магазин", "v1+2", "3d"] {
            assert_eq!(
                AppName::parse(name).map(|name| name.to_string()),
                Ok(name.to_owned())
            );
        }
    }

    #[test]
    fn names_that_would_hurt_are_refused() {
        for name in [
            "",
            "a/b",
            "a\nb",
            "all",
            "12",
            "-x",
            ".x",
            "a b",
            "a:b",
            "a*",
            "a\u{7}",
            &"x".repeat(101),
        ] {
            assert!(AppName::parse(name).is_err(), "{name:?} was accepted");
        }
    }

    #[test]
    fn instance_ids_read_back() {
        let id: InstanceId = "shop:12".parse().expect("an instance id");
        assert_eq!((id.app.as_str(), id.index), ("shop", 12));
        assert_eq!(id.to_string(), "shop:12");
        assert!("shop".parse::<InstanceId>().is_err());
    }
}
