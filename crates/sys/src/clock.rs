//! Two clocks, in milliseconds: one that never jumps, one that people read.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// `CLOCK_MONOTONIC`: for spans and deadlines. It does not run while the machine sleeps.
pub fn monotonic_ms() -> u64 {
    millis(clock_gettime(ClockId::Monotonic))
}

/// `CLOCK_REALTIME`: Unix time.
pub fn unix_ms() -> u64 {
    millis(clock_gettime(ClockId::Realtime))
}

/// `CLOCK_BOOTTIME`: since the kernel started, sleep included; the clock of `starttime` in `/proc/PID/stat`.
pub fn boottime_ms() -> u64 {
    millis(clock_gettime(ClockId::Boottime))
}

fn millis(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let fraction = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(fraction)
}

/// A Unix time as `2026-11-22T17:44:03.123Z`.
pub fn utc_text(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Civil from days, after Howard Hinnant: years that begin in March, eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        assert_eq!(utc_text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc_text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc_text(1_795_369_443_123), "2026-11-22T17:44:03.123Z");
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let first = monotonic_ms();
        assert!(monotonic_ms() >= first);
    }
}
