use super::*;

/// `2026-11-22 10:00:00` as a civil time.
fn at(text: &str) -> i64 {
    let numbers: Vec<i64> = text
        .split(['-', ' ', ':'])
        .map(|part| part.parse().expect("a number"))
        .collect();
    let (year, month, date) = (numbers[0], numbers[1], numbers[2]);
    let day = (0..400)
        .map(|step| (year - 1970) * 365 + step)
        .find(|day| {
            civil(*day)
                == (
                    year,
                    u32::try_from(month).expect("small"),
                    u32::try_from(date).expect("small"),
                )
        })
        .expect("a day");
    day * DAY + numbers[3] * 3600 + numbers[4] * 60 + numbers[5]
}

fn shown(time: i64) -> String {
    let (year, month, date) = civil(time.div_euclid(DAY));
    let second = time.rem_euclid(DAY);
    format!(
        "{year:04}-{month:02}-{date:02} {:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

fn next(pattern: &str, from: &str, count: usize) -> Vec<String> {
    let cron = Cron::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let mut from = at(from);
    (0..count)
        .map(|_| {
            let next = cron.next(from + 1).expect("it comes");
            from = next;
            shown(next)
        })
        .collect()
}

#[test]
fn days_are_counted_right() {
    assert_eq!(civil(0), (1970, 1, 1));
    assert_eq!(civil(-1), (1969, 12, 31));
    assert_eq!(civil(11_016), (2000, 2, 29));
    assert_eq!(civil(20_779), (2026, 11, 22));
    assert_eq!(weekday(20_779), 0, "a Sunday");
    assert_eq!(
        (
            month_length(1900, 2),
            month_length(2000, 2),
            month_length(2024, 2)
        ),
        (28, 29, 29)
    );
}

#[test]
fn patterns_come_when_they_should() {
    for (pattern, from, expected) in [
        (
            "*/5 * * * *",
            "2026-11-22 10:00:00",
            ["2026-11-22 10:05:00", "2026-11-22 10:10:00"],
        ),
        (
            "*/15 * * * * *",
            "2026-11-22 10:00:50",
            ["2026-11-22 10:01:00", "2026-11-22 10:01:15"],
        ),
        (
            "0 3 * * *",
            "2026-11-22 03:00:00",
            ["2026-11-23 03:00:00", "2026-11-24 03:00:00"],
        ),
        (
            "30 4 1,15 * *",
            "2026-12-30 00:00:00",
            ["2027-01-01 04:30:00", "2027-01-15 04:30:00"],
        ),
        (
            "0 9 * * MON-fri",
            "2026-11-20 09:00:00",
            ["2026-11-23 09:00:00", "2026-11-24 09:00:00"],
        ),
        (
            "0 0 29 2 *",
            "2026-01-01 00:00:00",
            ["2028-02-29 00:00:00", "2032-02-29 00:00:00"],
        ),
        (
            "0 0 29 2 *",
            "2096-03-01 00:00:00",
            ["2104-02-29 00:00:00", "2108-02-29 00:00:00"],
        ),
        (
            "0 0 * * 7",
            "2026-11-21 00:00:00",
            ["2026-11-22 00:00:00", "2026-11-29 00:00:00"],
        ),
        (
            "0 0 * * 5-7",
            "2026-11-21 01:00:00",
            ["2026-11-22 00:00:00", "2026-11-27 00:00:00"],
        ),
        (
            "0 0 L * *",
            "2027-01-31 00:00:00",
            ["2027-02-28 00:00:00", "2027-03-31 00:00:00"],
        ),
        (
            "0 0 * * MON#1",
            "2026-11-02 00:00:00",
            ["2026-12-07 00:00:00", "2027-01-04 00:00:00"],
        ),
        (
            "0 0 * * friL",
            "2026-11-22 00:00:00",
            ["2026-11-27 00:00:00", "2026-12-25 00:00:00"],
        ),
        (
            "7/20 * * * *",
            "2026-11-22 10:00:00",
            ["2026-11-22 10:07:00", "2026-11-22 10:27:00"],
        ),
        (
            "59 23 31 12 *",
            "2026-12-31 23:59:00",
            ["2027-12-31 23:59:00", "2028-12-31 23:59:00"],
        ),
        (
            "@hourly",
            "2026-11-22 23:30:00",
            ["2026-11-23 00:00:00", "2026-11-23 01:00:00"],
        ),
        (
            "@yearly",
            "2026-11-22 23:30:00",
            ["2027-01-01 00:00:00", "2028-01-01 00:00:00"],
        ),
    ] {
        assert_eq!(next(pattern, from, 2), expected, "{pattern}");
    }
}

/// crontab(5): "the command will be run when either field matches"; a field that begins with `*` restricts nothing.
#[test]
fn restricted_days_are_joined_by_or() {
    assert_eq!(
        next("30 4 1,15 * 5", "2026-11-22 00:00:00", 5),
        [
            "2026-11-27 04:30:00",
            "2026-12-01 04:30:00",
            "2026-12-04 04:30:00",
            "2026-12-11 04:30:00",
            "2026-12-15 04:30:00",
        ]
    );
    // `*/2` begins with a star: both must match, as in the cron of Vixie and its heirs.
    assert_eq!(
        next("0 0 */2 * 1", "2026-11-22 00:00:00", 3),
        [
            "2026-11-23 00:00:00",
            "2026-12-07 00:00:00",
            "2026-12-21 00:00:00"
        ]
    );
    assert_eq!(
        next("0 0 13 * *", "2026-11-22 00:00:00", 1),
        ["2026-12-13 00:00:00"],
        "an open day of week does not match every day"
    );
}

#[test]
fn what_is_wrong_is_said() {
    for (pattern, message, hint) in [
        ("61 * * * *", "`61` is no minute", Some("0 to 59")),
        ("* * * *", "`* * * *` has 4 fields; a time has five or six", None),
        (
            "* * * * * * *",
            "`* * * * * * *` has 7 fields; a time has five or six",
            None,
        ),
        ("* * 0 * *", "`0` is no day of month", Some("1 to 31")),
        (
            "* * * foo *",
            "`foo` is no month",
            Some("1 to 12, or `jan` to `dec`"),
        ),
        (
            "* * * * 8",
            "`8` is no day of week",
            Some("0 to 7, or `sun` to `sat`"),
        ),
        (
            "*/0 * * * *",
            "`*/0`: `0` is no step of a minute",
            Some("1 to 59"),
        ),
        (
            "50-10 * * * *",
            "`50-10`: the minute 50 is after 10",
            Some("write two ranges: `50-59,0-10`"),
        ),
        (
            "0 0 30 2 *",
            "`0 0 30 2 *` never comes",
            Some("no month of it has that day"),
        ),
        ("0 0 15W * *", "`15W`: the nearest weekday is not supported", None),
        ("@reboot", "`@reboot` is no time", None),
        ("@fortnightly", "there is no `@fortnightly`", None),
        ("+5 * * * *", "`+5` is no minute", Some("0 to 59")),
        (
            "* * * * 1#6",
            "`1#6`: `6` does not say which of the month",
            Some("1 to 5"),
        ),
        (", * * * *", "`` is no minute", None),
    ] {
        let error = Cron::parse(pattern).expect_err(pattern);
        assert_eq!(error.message, message, "{pattern}");
        if hint.is_some() {
            assert_eq!(error.hint.as_deref(), hint, "{pattern}");
        }
    }
}

/// The fast search finds what looking at every second finds.
#[test]
fn no_match_is_skipped() {
    for pattern in [
        "*/7 3,9 * * *",
        "5 10-20/3 * * * *",
        "0,30 */5 * * 2",
        "15 0 0 * * *",
    ] {
        let cron = Cron::parse(pattern).expect(pattern);
        let from = at("2026-11-22 00:00:00");
        let slow: Vec<i64> = (from..from + 2 * DAY)
            .filter(|time| cron.next(*time) == Some(*time))
            .collect();
        let mut fast = Vec::new();
        let mut time = from;
        while let Some(next) = cron.next(time).filter(|next| *next < from + 2 * DAY) {
            fast.push(next);
            time = next + 1;
        }
        assert_eq!(slow, fast, "{pattern}");
        for time in fast {
            let minute = u32::try_from(time.rem_euclid(3600) / 60).expect("small");
            let hour = u32::try_from(time.rem_euclid(DAY) / 3600).expect("small");
            assert!(
                cron.minutes & bit(minute) != 0 && cron.hours & bit(hour) != 0,
                "{pattern}"
            );
        }
    }
}
