//! Small words of the reasons.

use upkeep_model::{exit::Exit, size::Span};

/// A time as people say it: two units at most, nothing below a second once it is longer than that.
pub fn about(millis: u64) -> String {
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let step = match millis {
        0..SECOND => 1,
        SECOND..HOUR => SECOND,
        HOUR..DAY => MINUTE,
        _ => HOUR,
    };
    Span::from_millis(millis / step * step).to_string()
}

/// `exit code 3 after 12s`, `killed by SIGSEGV (core dumped) after 3s`.
pub fn ended(exit: Exit, uptime_ms: u64) -> String {
    let uptime = about(uptime_ms);
    match exit {
        Exit::Code(_) | Exit::Unknown => format!("{exit} after {uptime}"),
        Exit::Signal { .. } | Exit::OutOfMemory => format!("killed by {exit} after {uptime}"),
    }
}

/// `1 start`, `3 starts`.
pub fn count(number: usize, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (millis, text) in [
            (0, "0s"),
            (999, "999ms"),
            (1999, "1s"),
            (61_500, "1m1s"),
            (3_661_000, "1h1m"),
            (90_061_000, "1d1h"),
        ] {
            assert_eq!(about(millis), text, "{millis}");
        }
    }
}
