//! How loud a log is: bytes exactly, lines as they were counted or are estimated from a sample.
//!
//! The pump moves bytes inside the kernel and sees no line. So every [`super::janitor::STEP`] the janitor reads the end
//! of what came since then, at most [`SAMPLE`] bytes. Was that all, the lines are exact; if not, as many are assumed
//! for the rest as its length suggests.

use std::{io, os::unix::fs::FileExt, path::Path};

use super::beside;

/// How much of a log is read to count its lines.
const SAMPLE: usize = 64 << 10;

/// How loud a log was in the last step, and in all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rate {
    /// Bytes that were written when it was looked at last.
    bytes: u64,
    /// Lines in them, exact as long as a step brought no more than a sample.
    pub(crate) lines: u64,
    seen_ms: u64,
    pub(crate) bytes_per_second: f64,
    pub(crate) lines_per_second: f64,
}

impl Rate {
    /// `written`: bytes in all; `now_ms`: a clock that is never set. Costs nothing where nothing came.
    pub(super) fn look(&mut self, path: &Path, written: u64, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.seen_ms);
        let came = written.saturating_sub(self.bytes);
        if came == 0 {
            (self.bytes_per_second, self.lines_per_second) = (0.0, 0.0);
            self.seen_ms = now_ms;
            return;
        }
        let lines = sample(path, came).unwrap_or(0);
        if self.seen_ms > 0 && passed > 0 {
            self.bytes_per_second = came as f64 * 1000.0 / passed as f64;
            self.lines_per_second = lines as f64 * 1000.0 / passed as f64;
        }
        self.lines += lines;
        self.bytes = written;
        self.seen_ms = now_ms;
    }
}

/// Lines in the last `came` bytes of a file.
fn sample(path: &Path, came: u64) -> io::Result<u64> {
    let file = beside::read(path)?;
    let length = file.metadata()?.len();
    // After a rotation less is there than came: what is there speaks for the rest.
    let wanted = came.min(length).min(SAMPLE as u64);
    if wanted == 0 {
        return Ok(0);
    }
    let mut bytes = vec![0_u8; usize::try_from(wanted).unwrap_or(SAMPLE)];
    file.read_exact_at(&mut bytes, length - wanted)?;
    let lines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
    Ok(if came == wanted {
        lines
    } else {
        u64::try_from(u128::from(lines) * u128::from(came) / u128::from(wanted)).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn few_lines_are_counted_and_many_are_estimated() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut rate = Rate::default();
        fs::write(&path, "one\ntwo\n").expect("a file");
        rate.look(&path, 8, 1000);
        assert_eq!((rate.lines, rate.lines_per_second), (2, 0.0));
        fs::write(&path, "one\ntwo\nthree\n").expect("a file");
        rate.look(&path, 14, 3000);
        assert_eq!(
            (rate.lines, rate.lines_per_second, rate.bytes_per_second),
            (3, 0.5, 3.0)
        );
        rate.look(&path, 14, 5000);
        assert_eq!((rate.lines, rate.lines_per_second), (3, 0.0));
        fs::write(&path, "0123456\n".repeat(100_000)).expect("a file");
        rate.look(&path, 14 + 800_000, 6000);
        assert_eq!((rate.lines, rate.lines_per_second), (100_003, 100_000.0));
    }
}
