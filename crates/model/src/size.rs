//! Quantities with units: durations and byte sizes are never bare integers in our types.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A span of time as users write it: `250ms`, `10s`, `1m30s`, `2h`, `1d`; a bare number counts milliseconds.
///
/// Millisecond resolution. Serialised as its text, read from text or from a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(u64);

/// A text that is no quantity of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct QuantityError {
    /// The text as it was given.
    pub text: String,
    /// What was expected, with an example.
    pub wanted: &'static str,
}

const WANTED_SPAN: &str = "a duration such as `500ms`, `10s`, `1m30s` or `2h`";
const WANTED_SIZE: &str = "a size in bytes such as `4096`, `512K`, `10M` or `2G`";

impl Span {
    /// A span of that many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A span of that many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// Whole milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Duration::from_millis(span.0)
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || QuantityError {
            text: text.to_owned(),
            wanted: WANTED_SPAN,
        };
        let trimmed = text.trim();
        if let Ok(millis) = trimmed.parse::<u64>() {
            return Ok(Self(millis));
        }
        let mut rest = trimmed;
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let factor = match rest[..unit_end].trim() {
                "ms" => 1,
                "s" | "sec" => 1000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(error()),
            };
            total = number
                .checked_mul(factor)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(error)?;
            rest = &rest[unit_end..];
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (factor, unit) in [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1000, "s"),
            (1, "ms"),
        ] {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

/// A number of bytes as users write it: `4096`, `512K`, `10M`, `2G` (powers of 1024; `KB`, `KiB` mean the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// That many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many mebibytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// Bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || QuantityError {
            text: text.to_owned(),
            wanted: WANTED_SIZE,
        };
        let trimmed = text.trim();
        let digits = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let number: u64 = trimmed[..digits].parse().map_err(|_| error())?;
        let shift = match trimmed[digits..].trim().to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            _ => return Err(error()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0 >= 1 << shift && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

macro_rules! quantity_serde {
    ($type:ty, $wanted:expr, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($wanted)
                    }
                    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<$type, E> {
                        Ok(<$type>::from(value))
                    }
                    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<$type, E> {
                        u64::try_from(value)
                            .map(<$type>::from)
                            .map_err(|_| E::custom(format_args!("`{value}` is not {}", $wanted)))
                    }
                    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<$type, E> {
                        value.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl From<u64> for $type {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": $wanted,
                    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": $pattern}],
                })
            }
        }
    };
}

quantity_serde!(Span, WANTED_SPAN, "^([0-9]+|([0-9]+ ?(ms|s|sec|m|min|h|d))+)$");
quantity_serde!(ByteSize, WANTED_SIZE, "^[0-9]+ ?([kKmMgGtT]([iI]?[bB])?|[bB])?$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_write() {
        for (text, millis) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("7", 7),
        ] {
            assert_eq!(text.parse::<Span>().map(Span::as_millis), Ok(millis), "{text}");
        }
        assert_eq!(Span::from_millis(90_250).to_string(), "1m30s250ms");
        for text in [
            "",
            "s",
            "10 parsecs",
            "-1s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in [
            ("4096", 4096),
            ("512K", 524_288),
            ("10M", 10 << 20),
            ("2 GiB", 2 << 30),
        ] {
            assert_eq!(
                text.parse::<ByteSize>().map(ByteSize::as_bytes),
                Ok(bytes),
                "{text}"
            );
        }
        assert_eq!(ByteSize::from_mib(10).to_string(), "10M");
        assert_eq!(ByteSize::from_bytes(1500).to_string(), "1500");
        for text in ["", "M", "1.5G", "-1", "99999999999T"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?} was accepted");
        }
    }
}
