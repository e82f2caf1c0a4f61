//! Logs: where output goes, when a file is rotated, how much is kept and in which form.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::size::{ByteSize, QuantityError, Span};

mod also;

pub use self::also::{LogSink, SinkError};

/// Where output goes and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogSpec {
    /// File for standard output; absent: `logs/NAME-INDEX.out.log` under the home. One file for all instances if
    /// given (their lines are whole, their order is the order of arrival).
    pub out: Option<PathBuf>,
    /// File for standard error; absent: `logs/NAME-INDEX.err.log`.
    pub err: Option<PathBuf>,
    /// A file is rotated when it has grown to this size.
    pub max_size: ByteSize,
    /// A file is rotated by the clock as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Every>,
    /// How many rotated files are kept beside the current one.
    pub keep: u32,
    /// A rotated file whose last line is older than this is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// How many bytes all logs of the app may take on disk; the oldest rotated files of any of them go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total: Option<ByteSize>,
    /// How rotated files are kept.
    #[serde(default)]
    pub compress: Compress,
    /// What a line looks like in the file.
    #[serde(default)]
    pub format: LogFormat,
    /// Where output goes besides its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<LogSink>,
    /// Whether nothing is stored at all.
    pub disabled: bool,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self {
            out: None,
            err: None,
            max_size: ByteSize::from_mib(10),
            every: None,
            keep: 10,
            max_age: None,
            max_total: None,
            compress: Compress::default(),
            format: LogFormat::default(),
            also: Vec::new(),
            disabled: false,
        }
    }
}

/// How rotated files are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compress {
    /// As they were written.
    None,
    /// With Zstandard, all but the newest one: `zstdcat` and `zstdgrep` read them.
    #[default]
    Zstd,
}

/// What a line looks like in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Exactly as the program wrote it.
    #[default]
    Raw,
    /// With the time of its arrival in front, RFC 3339 in UTC.
    Timestamped,
    /// A JSON document with time, app, instance, host, stream and message.
    Json,
}

/// By which clock a file is rotated. Times of day are those of the machine's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// At each full hour.
    Hour,
    /// At midnight.
    Day,
    /// At midnight before Monday.
    Week,
    /// At the multiples of a span since 1970, in UTC; at least a second.
    Span(Span),
}

const WANTED_EVERY: &str = "`hourly`, `daily`, `weekly` or a span of at least a second such as `15m` or `6h`";

impl FromStr for Every {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || QuantityError {
            text: text.to_owned(),
            wanted: WANTED_EVERY,
        };
        match text.trim() {
            "hourly" => Ok(Self::Hour),
            "daily" => Ok(Self::Day),
            "weekly" => Ok(Self::Week),
            span => match span.parse::<Span>() {
                Ok(span) if span.as_millis() >= 1000 => Ok(Self::Span(span)),
                _ => Err(error()),
            },
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour => f.write_str("hourly"),
            Self::Day => f.write_str("daily"),
            Self::Week => f.write_str("weekly"),
            Self::Span(span) => span.fmt(f),
        }
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Every {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Every".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`hourly`, `daily`, `weekly`, or a span such as `15m` or `6h`.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_of_before_are_read_and_mean_what_new_ones_mean() {
        let old = r#"{"out":null,"err":null,"max_size":"10M","keep":10,"disabled":false}"#;
        assert_eq!(
            serde_json::from_str::<LogSpec>(old).expect("a spec"),
            LogSpec::default()
        );
    }

    #[test]
    fn a_rhythm_is_read_as_it_is_written() {
        for text in ["hourly", "daily", "weekly", "15m", "1h30m"] {
            assert_eq!(text.parse::<Every>().expect("a rhythm").to_string(), text);
        }
        for text in ["", "monthly", "0s", "500ms", "-1d"] {
            assert!(text.parse::<Every>().is_err(), "{text}");
        }
    }
}
