//! Dates as day.js formats them: `YYYY-MM-DD HH:mm:ss`.

use std::fmt::Write as _;

use jiff::{Timestamp, Zoned, tz::TimeZone};

/// What `--time` stands for, and what the daemon writes before its own lines.
pub const USUAL: &str = "YYYY-MM-DDTHH:mm:ss";

/// day.js gives this for an empty pattern.
const DEFAULT: &str = "YYYY-MM-DDTHH:mm:ssZ";

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// A time as text, in the zone of this machine. `unix_ms`: milliseconds since 1970.
pub fn format(pattern: &str, unix_ms: i64) -> String {
    format_in(pattern, unix_ms, TimeZone::system())
}

/// The same in a zone of choice.
pub fn format_in(pattern: &str, unix_ms: i64, zone: TimeZone) -> String {
    let Ok(time) = Timestamp::from_millisecond(unix_ms) else {
        return "Invalid Date".to_owned();
    };
    let time = time.to_zoned(zone);
    let mut rest = if pattern.is_empty() { DEFAULT } else { pattern };
    let mut text = String::with_capacity(rest.len() + 16);
    while let Some(first) = rest.chars().next() {
        if let Some((escaped, after)) = escaped(rest) {
            text.push_str(escaped);
            rest = after;
            continue;
        }
        let length = token_length(first, rest);
        if length == 0 {
            text.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (token, after) = rest.split_at(length);
        write_token(&mut text, token, &time);
        rest = after;
    }
    text
}

/// `[as it is]` at the beginning, without the brackets, and what comes after.
fn escaped(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?
        .split_once(']')
        .filter(|(inside, _)| !inside.is_empty())
}

/// How many bytes of the beginning are one token; 0: it is not one.
fn token_length(first: char, text: &str) -> usize {
    let longest = match first {
        'Y' | 'M' | 'd' => 4,
        'D' | 'H' | 'h' | 'm' | 's' | 'Z' => 2,
        'a' | 'A' => 1,
        'S' => return if text.starts_with("SSS") { 3 } else { 0 },
        _ => return 0,
    };
    text.chars()
        .take(longest)
        .take_while(|letter| *letter == first)
        .count()
}

fn write_token(text: &mut String, token: &str, time: &Zoned) {
    let hour = i32::from(time.hour());
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let month = usize::from(time.month().unsigned_abs().saturating_sub(1));
    let day = usize::from(time.weekday().to_sunday_zero_offset().unsigned_abs());
    let (month_name, day_name) = (MONTHS[month % 12], DAYS[day % 7]);
    // Writing to a string cannot fail.
    let _ = match token {
        "YY" => write!(text, "{:02}", time.year().rem_euclid(100)),
        "YYYY" => write!(text, "{:04}", time.year()),
        "M" => write!(text, "{}", time.month()),
        "MM" => write!(text, "{:02}", time.month()),
        "MMM" => write!(text, "{}", &month_name[..3]),
        "MMMM" => write!(text, "{month_name}"),
        "D" => write!(text, "{}", time.day()),
        "DD" => write!(text, "{:02}", time.day()),
        "d" => write!(text, "{day}"),
        "dd" => write!(text, "{}", &day_name[..2]),
        "ddd" => write!(text, "{}", &day_name[..3]),
        "dddd" => write!(text, "{day_name}"),
        "H" => write!(text, "{hour}"),
        "HH" => write!(text, "{hour:02}"),
        "h" => write!(text, "{half}"),
        "hh" => write!(text, "{half:02}"),
        "a" => write!(text, "{}", if hour < 12 { "am" } else { "pm" }),
        "A" => write!(text, "{}", if hour < 12 { "AM" } else { "PM" }),
        "m" => write!(text, "{}", time.minute()),
        "mm" => write!(text, "{:02}", time.minute()),
        "s" => write!(text, "{}", time.second()),
        "ss" => write!(text, "{:02}", time.second()),
        "SSS" => write!(text, "{:03}", time.millisecond()),
        "Z" => write_offset(text, time, ":"),
        // `ZZ`; and day.js gives the same for `Y` and `YYY`, which it takes for tokens and does not know.
        _ => write_offset(text, time, ""),
    };
}

fn write_offset(text: &mut String, time: &Zoned, between: &str) -> std::fmt::Result {
    let minutes = time.offset().seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.abs();
    write!(text, "{sign}{:02}{between}{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use jiff::tz::{self, TimeZone};

    use super::*;

    /// 2024-02-09 00:05:06.078 at UTC+05:30, a Friday.
    const NIGHT: i64 = 1_707_417_306_078;

    fn at(pattern: &str, unix_ms: i64) -> String {
        format_in(
            pattern,
            unix_ms,
            TimeZone::fixed(tz::offset(5).saturating_add(jiff::SignedDuration::from_mins(30))),
        )
    }

    #[test]
    fn every_token_is_what_day_js_makes_of_it() {
        for (pattern, text) in [
            ("YYYY-MM-DDTHH:mm:ss", "2024-02-09T00:05:06"),
            ("YY M MMM MMMM D", "24 2 Feb February 9"),
            ("d dd ddd dddd", "5 Fr Fri Friday"),
            ("H h hh m s SSS a A", "0 12 12 5 6 078 am AM"),
            ("Z ZZ", "+05:30 +0530"),
            ("Y YYY", "+0530 +0530"),
            ("[esc YYYY] [] [a", "esc YYYY [] [am"),
            ("S SS x X w k", "S SS x X w k"),
            ("DDD MMMMM", "099 February2"),
            ("", "2024-02-09T00:05:06+05:30"),
            ("é日YYYY", "é日2024"),
        ] {
            assert_eq!(at(pattern, NIGHT), text, "{pattern}");
        }
    }

    #[test]
    fn the_afternoon_and_the_west() {
        let time = format_in("hh A Z", 1_707_417_306_078, TimeZone::fixed(tz::offset(-3)));
        assert_eq!(time, "03 PM -03:00");
    }

    #[test]
    fn a_time_beyond_the_calendar_is_no_date() {
        assert_eq!(at("YYYY", i64::MAX), "Invalid Date");
    }
}
