//! Waiting on a level with a deadline.

use std::time::{Duration, Instant};

/// First pause between two looks; each next one is longer, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_micros(500);
const LONGEST: Duration = Duration::from_millis(20);

/// Looks until `look` answers `Ok`, and gives back what it answered.
///
/// # Panics
///
/// When `deadline` has passed, with the last status that `look` reported.
#[track_caller]
pub fn wait_until<T>(what: &str, deadline: Duration, look: impl FnMut() -> Result<T, String>) -> T {
    match try_wait_until(what, deadline, look) {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// As [`wait_until`], with an error in place of a panic.
pub fn try_wait_until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    let mut pause = SHORTEST;
    loop {
        let last = match look() {
            Ok(value) => return Ok(value),
            Err(status) => status,
        };
        if start.elapsed() >= deadline {
            anyhow::bail!("waited {deadline:?} in vain for {what}; last seen: {last}");
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the pause between two looks; no one waits on it"
        )]
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(LONGEST);
    }
}

/// Lets time pass: for the window of a measurement ("idle for 30 s"), never to wait for something to happen.
pub fn pass(window: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the window itself is what is wanted")]
    std::thread::sleep(window);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_status_is_in_the_error() {
        let mut looks = 0;
        let error = try_wait_until("a wonder", Duration::from_millis(5), || {
            looks += 1;
            Err::<(), _>(format!("look {looks}"))
        })
        .expect_err("it never comes");
        assert!(
            error
                .to_string()
                .ends_with(&format!("for a wonder; last seen: look {looks}")),
            "{error}"
        );
    }

    #[test]
    fn a_level_that_holds_already_is_seen_at_once() {
        assert_eq!(wait_until("nothing", Duration::ZERO, || Ok(3)), 3);
    }
}
