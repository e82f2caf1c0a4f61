//! Times and sizes for people.

use jiff::{Timestamp, ToSpan, Zoned, civil, tz::TimeZone};

/// A span in its two largest units: `3d 4h`, `12m 5s`, `850ms`.
pub(crate) fn span(millis: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    for (at, (unit, factor)) in units.iter().enumerate() {
        if millis >= *factor {
            let first = millis / factor;
            return match units.get(at + 1) {
                Some((smaller, step)) if millis % factor / step > 0 => {
                    format!("{first}{unit} {}{smaller}", millis % factor / step)
                }
                _ => format!("{first}{unit}"),
            };
        }
    }
    format!("{millis}ms")
}

/// Now, as a Unix time.
pub(crate) fn now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Milliseconds of so many seconds; none if that is less than nothing.
fn positive(seconds: f64) -> u64 {
    let span = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago a Unix time is, shortly.
pub(crate) fn ago(at: f64) -> String {
    span(positive(now() - at))
}

/// Milliseconds until a Unix time.
pub(crate) fn until(at: f64) -> u64 {
    positive(at - now())
}

/// Bytes with three digits: `1.5 MB` of 1024s.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G"] {
        if value < 1024.0 {
            return if unit == "B" || value >= 100.0 {
                format!("{value:.0}{unit}")
            } else {
                format!("{value:.1}{unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1}T")
}

/// A count with its thousands apart, without a fraction unless it is small: `12,300`, `0.4`.
pub(crate) fn thousands(count: f64) -> String {
    if count < 10.0 && count > 0.0 {
        return format!("{count:.1}");
    }
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate in bytes: `1.5M`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
pub(crate) fn bytes_per_second(rate: f64) -> String {
    bytes(rate as u64)
}

/// The day of a Unix time, in UTC: `2026-11-23`.
pub(crate) fn date(at: f64) -> String {
    rfc3339(at).chars().take(10).collect()
}

/// A Unix time as RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(at: f64) -> String {
    match Timestamp::from_millisecond(millis(at)) {
        Ok(stamp) => format!("{stamp:.3}"),
        Err(_) => format!("@{at}"),
    }
}

/// A Unix time in the local zone.
#[derive(Debug)]
pub(crate) struct Clock {
    zone: TimeZone,
    today: civil::Date,
}

impl Clock {
    pub(crate) fn local() -> Self {
        let now = Zoned::now();
        Self {
            zone: now.time_zone().clone(),
            today: now.date(),
        }
    }

    /// `10:03:12.250`, with the date in front unless it is today.
    pub(crate) fn text(&self, at: f64) -> String {
        let Ok(stamp) = Timestamp::from_millisecond(millis(at)) else {
            return format!("@{at}");
        };
        let local = stamp.to_zoned(self.zone.clone());
        if local.date() == self.today {
            local.strftime("%H:%M:%S%.3f").to_string()
        } else {
            local.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
        }
    }

    /// `10:03`, or `11-22 10:03` with the date.
    pub(crate) fn short(&self, at: f64, date: bool) -> String {
        let Ok(stamp) = Timestamp::from_millisecond(millis(at)) else {
            return format!("@{at}");
        };
        let form = if date { "%m-%d %H:%M" } else { "%H:%M" };
        stamp.to_zoned(self.zone.clone()).strftime(form).to_string()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` saturates, and that is meant"
)]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// `2h`, `10:30`, `2026-11-22`, `2026-11-22T10:30[:00][Z]` or `@1795000000` as Unix seconds.
pub(crate) fn parse_since(text: &str) -> Option<f64> {
    let now = Zoned::now();
    let seconds = |zoned: &Zoned| zoned.timestamp().as_millisecond() as f64 / 1000.0;
    if let Some(unix) = text.strip_prefix('@') {
        return unix.parse().ok();
    }
    if !text.chars().all(|character| character.is_ascii_digit())
        && let Ok(span) = text.parse::<upkeep_model::size::Span>()
    {
        let millis = i64::try_from(span.as_millis()).ok()?;
        return now
            .checked_sub(millis.milliseconds())
            .ok()
            .map(|since| seconds(&since));
    }
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Some(stamp.as_millisecond() as f64 / 1000.0);
    }
    let local = text
        .parse::<civil::DateTime>()
        .or_else(|_| text.parse::<civil::Date>().map(|date| date.at(0, 0, 0, 0)))
        .or_else(|_| {
            text.parse::<civil::Time>()
                .map(|time| now.date().to_datetime(time))
        })
        .ok()?;
    local
        .to_zoned(now.time_zone().clone())
        .ok()
        .map(|since| seconds(&since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_two_units() {
        let shown = [0, 850, 61_000, 3_600_000, 100_000_000].map(span);
        assert_eq!(shown, ["0ms", "850ms", "1m 1s", "1h", "1d 3h"]);
    }

    #[test]
    fn sizes_show_three_digits() {
        assert_eq!(
            [500, 1536, 150 << 20, 3 << 40].map(bytes),
            ["500B", "1.5K", "150M", "3.0T"]
        );
    }

    #[test]
    fn counts_and_times_for_logs() {
        assert_eq!(
            [0.0, 0.44, 12.0, 999.6, 12_300.0, 1_234_567.0].map(thousands),
            ["0", "0.4", "12", "1,000", "12,300", "1,234,567"]
        );
        assert_eq!(rfc3339(1_795_372_848.7), "2026-11-22T18:40:48.700Z");
    }

    #[test]
    fn since_is_read_in_every_form() {
        for text in [
            "2h",
            "90s",
            "10:30",
            "2026-11-22",
            "2026-11-22T10:30",
            "2026-11-22T10:30:00Z",
            "@12.5",
        ] {
            assert!(parse_since(text).is_some(), "{text}");
        }
        for text in ["", "yesterday", "25:99"] {
            assert!(parse_since(text).is_none(), "{text}");
        }
    }
}
