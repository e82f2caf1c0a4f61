//! When a log is rotated by the clock.

use jiff::{RoundMode, Timestamp, ToSpan, Unit, Zoned, ZonedRound, civil::Weekday, tz::TimeZone};
use upkeep_model::logs::Every;

/// The next boundary after a time, both in Unix ms. Hours, days and weeks are those of `zone`: people look for
/// "yesterday's log" by the clock on their wall, also on the days on which it is set.
pub(super) fn next_boundary(every: Every, after_ms: u64, zone: &TimeZone) -> Option<u64> {
    if let Every::Span(span) = every {
        let span = span.as_millis().max(1000);
        return (after_ms / span + 1).checked_mul(span);
    }
    let at = Timestamp::from_millisecond(i64::try_from(after_ms).ok()?).ok()?;
    let at = at.to_zoned(zone.clone());
    let next = match every {
        Every::Hour => {
            let hour = ZonedRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc);
            let start: Zoned = at.round(hour).ok()?;
            start.checked_add(1.hour()).ok()?
        }
        Every::Day => at.tomorrow().ok()?.start_of_day().ok()?,
        Every::Week => at.nth_weekday(1, Weekday::Monday).ok()?.start_of_day().ok()?,
        Every::Span(_) => return None,
    };
    u64::try_from(next.timestamp().as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use upkeep_model::size::Span;

    use super::*;

    #[track_caller]
    fn next(every: Every, zone: &str, at: &str) -> String {
        let zone = TimeZone::get(zone).expect("a zone");
        let at: Timestamp = at.parse().expect("a time");
        let at = u64::try_from(at.as_millisecond()).expect("after 1970");
        let next = next_boundary(every, at, &zone).expect("a boundary");
        Timestamp::from_millisecond(i64::try_from(next).expect("a time"))
            .expect("a time")
            .to_string()
    }

    #[test]
    fn boundaries_are_those_of_the_wall_clock() {
        let berlin = "Europe/Berlin";
        assert_eq!(
            next(Every::Day, berlin, "2026-11-23T03:00:00Z"),
            "2026-11-23T23:00:00Z"
        );
        // The clock is set forward: the day has 23 hours; and back: it has 25.
        assert_eq!(
            next(Every::Day, berlin, "2026-03-28T23:00:00Z"),
            "2026-03-29T22:00:00Z"
        );
        assert_eq!(
            next(Every::Day, berlin, "2026-10-24T22:00:00Z"),
            "2026-10-25T23:00:00Z"
        );
        assert_eq!(
            next(Every::Week, "UTC", "2026-11-23T00:00:00Z"),
            "2026-11-30T00:00:00Z"
        );
        assert_eq!(
            next(Every::Week, "UTC", "2026-11-22T23:59:59Z"),
            "2026-11-23T00:00:00Z"
        );
        assert_eq!(
            next(Every::Hour, "Asia/Kolkata", "2026-11-23T03:10:00Z"),
            "2026-11-23T03:30:00Z"
        );
        let quarter = Every::Span(Span::from_secs(900));
        assert_eq!(
            next(quarter, berlin, "2026-11-23T03:15:00Z"),
            "2026-11-23T03:30:00Z"
        );
    }
}
