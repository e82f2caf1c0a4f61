//! What `upkeep-child` leaves behind, and whether it is whole.

use std::{fs, io, path::Path};

/// Numbered lines of one prefix, as they arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbered {
    /// Different numbers that are there.
    pub present: u64,
    /// Lines that came a second time.
    pub doubled: u64,
    /// Lines that came after one with a higher number.
    pub disordered: u64,
    /// Highest number.
    pub last: u64,
    /// Numbers from 1 to `last` that are not there.
    pub missing: u64,
    /// Lines that are of another length than the first one, or hold something else than padding: cut or mixed.
    pub torn: u64,
    /// Bytes after the last newline.
    pub rest: u64,
}

impl Numbered {
    /// Reads what `write-lines --prefix PREFIX` wrote; whole lines of other prefixes are not looked at. What looks like
    /// the tail of a line counts as torn.
    pub fn read(bytes: &[u8], prefix: &str) -> Self {
        let mut report = Self::default();
        let mut seen: Vec<bool> = Vec::new();
        let mut length = None;
        let mut before = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                report.rest = rest.len() as u64;
                break;
            };
            let line = &rest[..end];
            rest = &rest[end + 1..];
            let Some(number) = parse(line, prefix) else {
                let ours = line.starts_with(prefix.as_bytes()) && line.get(prefix.len()) == Some(&b' ');
                report.torn += u64::from(ours || (line.ends_with(b"xxx") && !is_whole(line)));
                continue;
            };
            if *length.get_or_insert(line.len()) != line.len() {
                report.torn += 1;
                continue;
            }
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            if index > bytes.len() {
                report.torn += 1; // no file holds more lines than bytes
                continue;
            }
            if index >= seen.len() {
                seen.resize(index + 1, false);
            }
            if seen[index] {
                report.doubled += 1;
            } else {
                seen[index] = true;
                report.present += 1;
            }
            report.disordered += u64::from(number < before);
            before = number;
            report.last = report.last.max(number);
        }
        report.missing = report.last - report.present;
        report
    }

    /// Whether 1 to `count` are there, each once, whole and in order, and nothing else.
    pub fn is_exactly(&self, count: u64) -> bool {
        *self
            == Self {
                present: count,
                last: count,
                ..Self::default()
            }
    }
}

/// The number of a line that is whole: `PREFIX 0000001 xxx`.
fn parse(line: &[u8], prefix: &str) -> Option<u64> {
    let tail = line.strip_prefix(prefix.as_bytes())?.strip_prefix(b" ")?;
    let end = tail.iter().position(|&byte| byte == b' ')?;
    let (digits, padding) = tail.split_at(end);
    if digits.len() < 7 || padding[1..].iter().any(|&byte| byte != b'x') {
        return None;
    }
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|&number| number > 0)
}

/// Whether this is a whole line of some prefix.
fn is_whole(line: &[u8]) -> bool {
    let prefix = line.iter().position(|&byte| byte == b' ').map(|at| &line[..at]);
    prefix
        .and_then(|prefix| std::str::from_utf8(prefix).ok())
        .is_some_and(|prefix| !prefix.is_empty() && parse(line, prefix).is_some())
}

/// The number in a file of `--tally`.
pub fn tally(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let bytes = bytes.first_chunk::<8>().ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(u64::from_ne_bytes(*bytes))
}

/// One line of a file of `stamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Monotonic clock, in nanoseconds.
    pub nanos: u64,
    /// Who.
    pub pid: i32,
}

/// All stamps of a file in the order in which they were made; none if there is no file.
pub fn stamps(path: &Path) -> Vec<Stamp> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (nanos, pid) = line.split_once(' ')?;
            Some(Stamp {
                nanos: nanos.parse().ok()?,
                pid: pid.parse().ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: &[u64]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|number| format!("a {number:07} xxxx\n").into_bytes())
            .collect()
    }

    #[test]
    fn a_whole_log_is_whole() {
        let report = Numbered::read(&lines(&[1, 2, 3]), "a");
        assert!(report.is_exactly(3), "{report:?}");
    }

    #[test]
    fn gaps_doubles_and_disorder_are_counted() {
        let report = Numbered::read(&lines(&[1, 2, 5, 4, 4]), "a");
        assert_eq!(
            (report.present, report.missing, report.doubled, report.disordered),
            (4, 1, 1, 1)
        );
    }

    #[test]
    fn cut_lines_are_torn() {
        let mut bytes = lines(&[1, 2]);
        bytes.extend_from_slice(b"a 0000003 xx\nxxxx\na 00");
        let report = Numbered::read(&bytes, "a");
        assert_eq!((report.present, report.torn, report.rest), (2, 2, 4));
    }

    #[test]
    fn other_prefixes_are_not_ours() {
        let report = Numbered::read(b"hello\nab 0000001 x\na 0000001 xxxx\nb 0000001 xxxxxx\n", "a");
        assert!(report.is_exactly(1), "{report:?}");
        assert_eq!(Numbered::read(b"001 xxxxxx\n", "a").torn, 1);
    }
}
