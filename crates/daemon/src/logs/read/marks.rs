//! Where a reader of many logs is, in few words: what it gives out as the id of an event, and resumes from.
//!
//! A reader gives out lines in the order of their time. So "all up to this time" says nearly everything, and only for
//! sources that have given out lines of that very time or later a place must be said: an id is
//!
//! ```text
//! 1795372848764;web:0:out:5c0f1a2b=7.1234;worker::err:90ab12cd=3.99+
//! ```
//!
//! a time in Unix ms, and for some sources the number of a file and an offset. A source is called by app, instance,
//! stream and a hash of its path: at another path its numbers and offsets mean other lines. A source that is not named goes on at
//! its first line that begins at the time or later. `+`: the place is inside a line, of which a piece was given out.
//!
//! Who follows asks the pump for a *cut* now and then ([`crate::logs::pump::Cutter`]): a time that divides what is in
//! the files from what will be. After it, the sources that were silent need no name any more, and ids stay short
//! however many there are.

use std::{collections::BTreeMap, fmt::Write, os::unix::ffi::OsStrExt, path::Path};

use super::{LogToRead, line::Item, segment::Place};

/// A text longer than this, from elsewhere, is none of ours.
const TEXT_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) place: Place,
    pub(super) inside: bool,
}

/// Where a reader is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Unix ms.
    pub(super) base: u64,
    pub(super) named: BTreeMap<String, Mark>,
}

/// How a source is called in an id.
pub(super) fn key(source: &LogToRead) -> String {
    let stream = match source.stream {
        upkeep_api::body::Stream::Out => "out",
        upkeep_api::body::Stream::Err => "err",
    };
    let file = short_hash(&source.path);
    match source.index {
        Some(index) => format!("{}:{index}:{stream}:{file:08x}", source.app),
        None => format!("{}::{stream}:{file:08x}", source.app),
    }
}

/// Tells the few paths apart that one stream has had (FNV-1a, 32 bits).
fn short_hash(path: &Path) -> u32 {
    let bytes = path.as_os_str().as_bytes().iter();
    bytes.fold(0x811C_9DC5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

impl Marks {
    /// Everything from a time (Unix ms) on.
    pub(crate) fn since(base: u64) -> Self {
        Self {
            base,
            named: BTreeMap::new(),
        }
    }

    /// The id.
    pub(crate) fn text(&self) -> String {
        let mut text = self.base.to_string();
        for (key, mark) in &self.named {
            let (number, offset) = (mark.place.number, mark.place.offset);
            // Writing into memory cannot fail.
            let _ = write!(text, ";{key}={number}.{offset}");
            if mark.inside {
                text.push('+');
            }
        }
        text
    }

    /// Reads an id that somebody sends; `None`: it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() <= TEXT_MAX).then(|| Self::parse_own(text)).flatten()
    }

    /// Reads one that was written down by us, however many logs it names.
    pub(crate) fn parse_own(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let base = parts.next()?.parse().ok()?;
        let mut named = BTreeMap::new();
        for part in parts {
            let (key, place) = part.split_once('=')?;
            let (place, inside) = match place.strip_suffix('+') {
                Some(place) => (place, true),
                None => (place, false),
            };
            let (number, offset) = place.split_once('.')?;
            let place = Place {
                number: number.parse().ok()?,
                offset: offset.parse().ok()?,
            };
            named.insert(key.to_owned(), Mark { place, inside });
        }
        Some(Self { base, named })
    }

    /// Notes a line of history that is given out: all that is older has been given out.
    pub(super) fn passed(&mut self, source: &LogToRead, item: &Item) {
        if item.at > self.base {
            self.base = item.at;
            self.named.retain(|_, mark| mark.inside);
        }
        self.moved(source, item);
    }

    /// Notes a line that is given out.
    pub(super) fn moved(&mut self, source: &LogToRead, item: &Item) {
        let mark = Mark {
            place: item.after,
            inside: item.inside,
        };
        self.named.insert(key(source), mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for text in ["0", "1795372848764;web:0:out=7.1234;worker::err=3.99+"] {
            assert_eq!(Marks::parse(text).expect("an id").text(), text);
        }
        for text in [
            "",
            "x",
            "1;",
            "1;a",
            "1;a=1",
            "1;a=1.x",
            "1;a=-1.2",
            "99999999999999999999",
        ] {
            assert_eq!(Marks::parse(text), None, "{text}");
        }
    }
}
