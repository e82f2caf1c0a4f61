//! Time zones of the machine, as the decisions want them.

use jiff::{Timestamp, tz::TimeZone};
use upkeep_supervise::schedule::{Stretch, Zone};

/// A time zone.
#[derive(Clone, Debug)]
pub(crate) struct Almanac(TimeZone);

impl Almanac {
    /// The zone of that name, or the machine's own.
    pub(crate) fn find(name: Option<&str>) -> Result<Self, String> {
        match name {
            None => Ok(Self(TimeZone::system())),
            Some(name) => TimeZone::get(name)
                .map(Self)
                .map_err(|_| format!("there is no time zone `{name}` on this machine")),
        }
    }

    /// Its name, where it has one.
    pub(crate) fn name(&self) -> String {
        self.0.iana_name().unwrap_or("local time").to_owned()
    }

    /// A time in this zone, with its offset.
    pub(crate) fn text(&self, unix_s: i64) -> String {
        at(unix_s)
            .to_zoned(self.0.clone())
            .strftime("%Y-%m-%d %H:%M:%S %:z")
            .to_string()
    }
}

/// What cannot be said as a timestamp is at the end of time.
fn at(unix_s: i64) -> Timestamp {
    let (least, most) = (Timestamp::MIN.as_second() + 1, Timestamp::MAX.as_second() - 1);
    Timestamp::from_second(unix_s.clamp(least, most)).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Zone for Almanac {
    fn stretch(&self, unix_s: i64) -> Stretch {
        let now = at(unix_s);
        let offset = |time| i64::from(self.0.to_offset(time).seconds());
        // Strictly before the next second: a change at this very one counts.
        let start = self.0.preceding(at(unix_s.saturating_add(1))).next();
        let end = self.0.following(now).next();
        let start_s = start.map(|change| change.timestamp().as_second());
        Stretch {
            start_s,
            before_s: start_s.map_or_else(|| offset(now), |start| offset(at(start - 1))),
            offset_s: offset(now),
            end_s: end.map(|change| change.timestamp().as_second()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upkeep_model::schedule::When;
    use upkeep_supervise::schedule::next_time;

    /// Civil times with their offsets at which a pattern comes, from a moment on.
    fn times(pattern: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let almanac = Almanac::find(Some(zone)).expect("the machine has zone data");
        let when = When::parse(pattern).expect(pattern);
        let from: Timestamp = from.parse().expect("a moment");
        let mut after = from.as_second() - 1;
        (0..count)
            .map(|_| {
                after = next_time(&when, &almanac, after).expect("it comes");
                almanac.text(after)
            })
            .collect()
    }

    /// Days on which clocks are set, in zones that do it differently.
    #[test]
    fn summer_time_begins_and_ends_without_a_run_too_many_or_too_few() {
        for (pattern, zone, from, expected) in [
            // 02:00 to 03:00 is skipped on 2026-03-29.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T00:00:00Z",
                vec![
                    "2026-03-28 02:30:00 +01:00",
                    "2026-03-29 03:00:00 +02:00",
                    "2026-03-30 02:30:00 +02:00",
                ],
            ),
            // 02:00 to 03:00 comes twice on 2026-10-25.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T00:00:00Z",
                vec![
                    "2026-10-24 02:30:00 +02:00",
                    "2026-10-25 02:30:00 +02:00",
                    "2026-10-26 02:30:00 +01:00",
                ],
            ),
            (
                "0 * * * *",
                "Europe/Berlin",
                "2026-10-24T23:00:00Z",
                vec![
                    "2026-10-25 01:00:00 +02:00",
                    "2026-10-25 02:00:00 +02:00",
                    "2026-10-25 02:00:00 +01:00",
                    "2026-10-25 03:00:00 +01:00",
                ],
            ),
            (
                "15 1,2 * * *",
                "America/New_York",
                "2026-03-08T05:00:00Z",
                vec![
                    "2026-03-08 01:15:00 -05:00",
                    "2026-03-08 03:00:00 -04:00",
                    "2026-03-09 01:15:00 -04:00",
                ],
            ),
            (
                "15 1 * * *",
                "America/New_York",
                "2026-11-01T04:00:00Z",
                vec!["2026-11-01 01:15:00 -04:00", "2026-11-02 01:15:00 -05:00"],
            ),
            // Half an hour only.
            (
                "10 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T00:00:00Z",
                vec!["2026-10-04 02:30:00 +11:00", "2026-10-05 02:10:00 +11:00"],
            ),
            (
                "45 1 * * *",
                "Australia/Lord_Howe",
                "2026-04-04T00:00:00Z",
                vec!["2026-04-05 01:45:00 +11:00", "2026-04-06 01:45:00 +10:30"],
            ),
            // A whole day was skipped: 2011-12-30 in Samoa.
            (
                "0 12 * * *",
                "Pacific/Apia",
                "2011-12-29T12:00:00Z",
                vec![
                    "2011-12-29 12:00:00 -10:00",
                    "2011-12-31 00:00:00 +14:00",
                    "2011-12-31 12:00:00 +14:00",
                ],
            ),
            // Midnight does not exist.
            (
                "0 0 * * *",
                "America/Santiago",
                "2026-09-05T06:00:00Z",
                vec!["2026-09-06 01:00:00 -03:00", "2026-09-07 00:00:00 -03:00"],
            ),
            (
                "@daily",
                "UTC",
                "2026-11-22T10:00:00Z",
                vec!["2026-11-23 00:00:00 +00:00", "2026-11-24 00:00:00 +00:00"],
            ),
        ] {
            assert_eq!(
                times(pattern, zone, from, expected.len()),
                expected,
                "{pattern} in {zone}"
            );
        }
    }

    #[test]
    fn an_unknown_zone_is_refused() {
        let why = Almanac::find(Some("Europe/Atlantis")).expect_err("there is none");
        assert!(why.contains("Europe/Atlantis"), "{why}");
    }

    /// Where we say "as cron": the library that PM2 uses agrees on days, outside of summer time.
    #[test]
    fn another_implementation_finds_the_same_days() {
        use std::str::FromStr;
        let almanac = Almanac::find(Some("UTC")).expect("UTC");
        for pattern in [
            "30 4 1,15 * 5",
            "0 0 29 2 *",
            "*/7 * * * *",
            "0 9-17/2 * * MON-FRI",
            "5 0 * 8 *",
            "15 14 1 * *",
            "0 22 * * 1-5",
            "23 0-20/2 * * *",
            "5 4 * * sun",
            "0 0 13 * 5",
            "0 0 L * *",
            "0 12 * * 1#2",
        ] {
            let theirs = croner::Cron::from_str(pattern).expect(pattern);
            let ours = When::parse(pattern).expect(pattern);
            let start = chrono::DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
            let (mut their_time, mut our_time) = (start, start.timestamp());
            for _ in 0..200 {
                their_time = theirs.find_next_occurrence(&their_time, false).expect("it comes");
                our_time = next_time(&ours, &almanac, our_time).expect("it comes");
                assert_eq!(
                    our_time,
                    their_time.timestamp(),
                    "{pattern}: {} and {their_time}",
                    almanac.text(our_time)
                );
            }
        }
    }
}
