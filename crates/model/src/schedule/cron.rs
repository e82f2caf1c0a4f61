//! Cron patterns: which civil times match. Pure calendar; zones and clocks are somebody else's.
//!
//! Five fields (minute, hour, day of month, month, day of week) or six (seconds first). In each: `*`, numbers, `a-b`,
//! lists with commas, steps (`*/5`, `10-40/10`, `7/10`: from 7 on), names of months and days (`JAN`, `mon`), `?` for
//! `*`. Sunday is 0 and 7. Beyond the old cron: `L` as day of month (the last one), `MON#2` (the second Monday of the
//! month), `FRIL` or `5L` (the last Friday).
//!
//! The rule of crontab(5) on days: if both day of month and day of week are restricted, a day matches that matches
//! *either*; a field that begins with `*` is not restricted, also `*/2`, and then both have to match.
//!
//! A civil time is a number: seconds since 1970 of a calendar without zones.

use std::fmt;

/// Seconds of a day.
const DAY: i64 = 86_400;
/// So many days are searched: longer than between two 29ths of February that are the fifth Monday.
const HORIZON_DAYS: i64 = 366 * 45;

/// A pattern that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    last_day: bool,
    months: u64,
    weekdays: u64,
    /// Day of week and which of the month; 0: the last.
    nth: Vec<(u32, u32)>,
    days_open: bool,
    weekdays_open: bool,
    hours_open: bool,
}

/// Why a pattern was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    /// What is wrong, with the part it is about.
    pub message: String,
    /// What to write.
    pub hint: Option<String>,
}

impl CronError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A field of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Weekday,
}

impl Field {
    const fn bounds(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 7),
        }
    }

    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &[
                "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
            ],
            Self::Weekday => &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
            Self::Second | Self::Minute | Self::Hour | Self::Day => &[],
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day of month",
            Self::Month => "month",
            Self::Weekday => "day of week",
        })
    }
}

/// A number or a name.
fn value(field: Field, text: &str) -> Result<u32, CronError> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = field.names().iter().position(|name| *name == lower) {
        let at = u32::try_from(at).unwrap_or(0);
        return Ok(if field == Field::Month { at + 1 } else { at });
    }
    let (least, most) = field.bounds();
    let number = text
        .parse::<u32>()
        .ok()
        .filter(|number| (least..=most).contains(number) && text.bytes().all(|byte| byte.is_ascii_digit()));
    number.ok_or_else(|| {
        let error = CronError::new(format!("`{text}` is no {field}"));
        match field.names() {
            [first, .., last] => error.hint(format!("{least} to {most}, or `{first}` to `{last}`")),
            _ => error.hint(format!("{least} to {most}")),
        }
    })
}

const fn bit(number: u32) -> u64 {
    1 << number
}

/// The values of one part of a list as bits: `*`, `5`, `1-5`, each with `/step`.
fn part(field: Field, text: &str) -> Result<u64, CronError> {
    let (least, most) = field.bounds();
    let most_of_all = if field == Field::Weekday { 6 } else { most };
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => {
            let number = step.parse::<u32>().ok().filter(|step| (1..=most).contains(step));
            let step = number.ok_or_else(|| {
                CronError::new(format!("`{text}`: `{step}` is no step of a {field}"))
                    .hint(format!("1 to {most}"))
            })?;
            (range, Some(step))
        }
        None => (text, None),
    };
    let (from, to) = match (range, range.split_once('-')) {
        ("*" | "?", _) => (least, most_of_all),
        (_, Some((from, to))) => (value(field, from)?, value(field, to)?),
        (_, None) => {
            let from = value(field, range)?;
            (
                from,
                if step.is_some() {
                    most_of_all.max(from)
                } else {
                    from
                },
            )
        }
    };
    if from > to {
        return Err(
            CronError::new(format!("`{text}`: the {field} {from} is after {to}"))
                .hint(format!("write two ranges: `{from}-{most_of_all},{least}-{to}`")),
        );
    }
    let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
    Ok((from..=to)
        .step_by(step)
        .fold(0, |bits, number| bits | bit(number)))
}

fn field(field: Field, text: &str) -> Result<u64, CronError> {
    text.split(',')
        .try_fold(0, |bits, item| Ok(bits | part(field, item)?))
}

impl Cron {
    /// Reads five or six fields, or a word such as `@daily`.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let text = match text.to_ascii_lowercase().as_str() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            "@reboot" => {
                return Err(CronError::new("`@reboot` is no time").hint(
                    "an app without `schedule` starts when the machine does; `restart: never` runs it once",
                ));
            }
            word if word.starts_with('@') => {
                return Err(CronError::new(format!("there is no `{word}`")).hint(
                    "there are `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`, and `every 30m`",
                ));
            }
            _ => text,
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (second, rest) = match words.as_slice() {
            [_, _, _, _, _] => ("0", words.as_slice()),
            [second, rest @ ..] if rest.len() == 5 => (*second, rest),
            words => {
                return Err(CronError::new(format!(
                    "`{text}` has {} fields; a time has five or six",
                    words.len()
                ))
                .hint("[second] minute hour day-of-month month day-of-week, such as `30 3 * * mon-fri`"));
            }
        };
        let [minute, hour, day, month, weekday] = rest else {
            return Err(CronError::new(format!("`{text}` is no time"))); // counted above
        };
        let (days, last_day) = days(day)?;
        let (weekdays, nth) = weekdays(weekday)?;
        let open = |text: &str| text.starts_with(['*', '?']);
        let cron = Self {
            seconds: field(Field::Second, second)?,
            minutes: field(Field::Minute, minute)?,
            hours: field(Field::Hour, hour)?,
            days,
            last_day,
            months: field(Field::Month, month)?,
            weekdays,
            nth,
            days_open: open(day),
            weekdays_open: open(weekday),
            hours_open: open(hour),
        };
        // 2000 begins a cycle of 400 years; what does not come within the horizon never does.
        if cron.next(946_684_800).is_none() {
            return Err(CronError::new(format!("`{text}` never comes")).hint("no month of it has that day"));
        }
        Ok(cron)
    }

    /// Whether it recurs through the hours of a day (its hour begins with `*`), as opposed to standing at fixed hours.
    /// It makes a difference where a clock is set for summer time.
    pub fn recurs_hourly(&self) -> bool {
        self.hours_open
    }

    /// The first civil time at or after `from` that matches; nothing if none comes.
    pub fn next(&self, from: i64) -> Option<i64> {
        let mut day = from.div_euclid(DAY);
        let mut second = from.rem_euclid(DAY);
        let end = day + HORIZON_DAYS;
        while day < end {
            if self.has_day(day)
                && let Some(second) = self.next_in_day(second)
            {
                return Some(day * DAY + second);
            }
            day += 1;
            second = 0;
        }
        None
    }

    fn next_in_day(&self, from: i64) -> Option<i64> {
        let first = |bits: u64, from: i64| {
            let from = u32::try_from(from).ok().filter(|from| *from < 64)?;
            let rest = bits >> from << from;
            (rest != 0).then(|| i64::from(rest.trailing_zeros()))
        };
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        let at_hour = first(self.hours, hour)?;
        if at_hour == hour {
            if let Some(at_minute) = first(self.minutes, minute) {
                if at_minute == minute
                    && let Some(at_second) = first(self.seconds, second)
                {
                    return Some(hour * 3600 + minute * 60 + at_second);
                }
                let at_minute = if at_minute == minute {
                    first(self.minutes, minute + 1)
                } else {
                    Some(at_minute)
                };
                if let Some(at_minute) = at_minute {
                    return Some(hour * 3600 + at_minute * 60 + first(self.seconds, 0)?);
                }
            }
            let hour = first(self.hours, hour + 1)?;
            return Some(hour * 3600 + first(self.minutes, 0)? * 60 + first(self.seconds, 0)?);
        }
        Some(at_hour * 3600 + first(self.minutes, 0)? * 60 + first(self.seconds, 0)?)
    }

    fn has_day(&self, day: i64) -> bool {
        let (year, month, date) = civil(day);
        if self.months & bit(month) == 0 {
            return false;
        }
        let length = month_length(year, month);
        let by_date = self.days & bit(date) != 0 || (self.last_day && date == length);
        let weekday = weekday(day);
        let by_weekday = self.weekdays & bit(weekday) != 0
            || self.nth.iter().any(|(which, nth)| {
                *which == weekday
                    && match nth {
                        0 => date + 7 > length,
                        nth => date.div_ceil(7) == *nth,
                    }
            });
        if self.days_open || self.weekdays_open {
            by_date && by_weekday
        } else {
            by_date || by_weekday
        }
    }
}

fn days(text: &str) -> Result<(u64, bool), CronError> {
    let (mut bits, mut last) = (0, false);
    for item in text.split(',') {
        if item.eq_ignore_ascii_case("l") {
            last = true;
        } else if item.to_ascii_lowercase().ends_with('w') && item.len() > 1 {
            return Err(
                CronError::new(format!("`{item}`: the nearest weekday is not supported"))
                    .hint("write days and days of week"),
            );
        } else {
            bits |= part(Field::Day, item)?;
        }
    }
    Ok((bits, last))
}

fn weekdays(text: &str) -> Result<(u64, Vec<(u32, u32)>), CronError> {
    let (mut bits, mut nth) = (0, Vec::new());
    for item in text.split(',') {
        if let Some((day, which)) = item.split_once('#') {
            let number = which.parse::<u32>().ok().filter(|which| (1..=5).contains(which));
            let number = number.ok_or_else(|| {
                CronError::new(format!("`{item}`: `{which}` does not say which of the month")).hint("1 to 5")
            })?;
            nth.push((value(Field::Weekday, day)? % 7, number));
        } else if let Some(day) = item.strip_suffix(['l', 'L']).filter(|day| !day.is_empty()) {
            nth.push((value(Field::Weekday, day)? % 7, 0));
        } else {
            bits |= part(Field::Weekday, item)?;
        }
    }
    // Sunday is 0 and 7.
    if bits & bit(7) != 0 {
        bits = (bits & !bit(7)) | bit(0);
    }
    Ok((bits, nth))
}

/// Sunday is 0. The first day of 1970 was a Thursday.
fn weekday(day: i64) -> u32 {
    u32::try_from((day + 4).rem_euclid(7)).unwrap_or(0)
}

fn month_length(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Year, month and day of month of a day since 1970, in the Gregorian calendar. Years are counted from March, so that
/// the leap day is the last of its year.
fn civil(day: i64) -> (i64, u32, u32) {
    let shifted = day + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let in_cycle = shifted.rem_euclid(146_097);
    let year_of_cycle = (in_cycle - in_cycle / 1460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let day_of_year = in_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_cycle + cycle * 400 + i64::from(month <= 2);
    (
        year,
        u32::try_from(month).unwrap_or(1),
        u32::try_from(date).unwrap_or(1),
    )
}

#[cfg(test)]
#[path = "cron/tests.rs"]
mod tests;
