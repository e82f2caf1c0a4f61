//! Keys here and keys at etcd: there, all of ours begin with the root.

use upkeep_store::kv::{KeyValue, Reason, Span, prefix_end};

use crate::proto;

/// From a key (inclusive) to another (exclusive), as etcd wants it; an empty end is the key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) key: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

/// Etcd's "as far as there are keys", and its smallest key.
const ZERO: [u8; 1] = [0];

/// The root.
#[derive(Clone, Debug)]
pub(crate) struct Root(pub(crate) String);

impl Root {
    pub(crate) fn key(&self, key: &str) -> Vec<u8> {
        [self.0.as_bytes(), key.as_bytes()].concat()
    }

    pub(crate) fn interval(&self, span: &Span) -> Interval {
        let prefix = |prefix: &str| {
            let key = self.key(prefix);
            Interval {
                end: prefix_end(&key).unwrap_or_else(|| ZERO.to_vec()),
                key,
            }
        };
        let mut interval = match span {
            Span::One(key) => Interval {
                key: self.key(key),
                end: Vec::new(),
            },
            Span::Prefix(text) => prefix(text),
            Span::All => prefix(""),
            Span::Between(from, to) => Interval {
                key: self.key(from),
                end: match to {
                    Some(to) => self.key(to),
                    None => prefix("").end,
                },
            },
        };
        if interval.key.is_empty() {
            interval.key = ZERO.to_vec();
        }
        interval
    }

    /// A key of etcd's without the root.
    pub(crate) fn name(&self, key: Vec<u8>) -> Result<String, Reason> {
        let text = String::from_utf8(key)
            .map_err(|error| Reason::Protocol(format!("a key that is no text: {:?}", error.as_bytes())))?;
        match text.strip_prefix(&self.0) {
            Some(name) => Ok(name.to_owned()),
            None => Err(Reason::Protocol(format!("`{text}` is outside `{}`", self.0))),
        }
    }

    pub(crate) fn entry(&self, entry: proto::KeyValue) -> Result<KeyValue, Reason> {
        Ok(KeyValue {
            key: self.name(entry.key)?,
            value: entry.value,
            created: entry.create_revision.cast_unsigned(),
            modified: entry.mod_revision.cast_unsigned(),
            version: entry.version.cast_unsigned(),
            lease: (entry.lease != 0).then_some(entry.lease),
        })
    }

    pub(crate) fn entries(&self, entries: Vec<proto::KeyValue>) -> Result<Vec<KeyValue>, Reason> {
        entries.into_iter().map(|entry| self.entry(entry)).collect()
    }

    /// Where a permission lies, seen from here; `None` if it is elsewhere.
    pub(crate) fn span(&self, key: &[u8], end: &[u8]) -> Option<Span> {
        let name = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok()?;
            text.strip_prefix(self.0.as_str()).map(str::to_owned)
        };
        let from = name(key)?;
        if end.is_empty() {
            return Some(Span::One(from));
        }
        if prefix_end(key).unwrap_or_else(|| ZERO.to_vec()) == end {
            return Some(if from.is_empty() {
                Span::All
            } else {
                Span::Prefix(from)
            });
        }
        if self.interval(&Span::All).end == end {
            return Some(Span::Between(from, None));
        }
        name(end).map(|to| Span::Between(from, Some(to)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_become_intervals_and_come_back() {
        for root in ["/upkeep/", "", "ÿ"] {
            let root = Root(root.to_owned());
            for span in [
                Span::One("/a".to_owned()),
                Span::Prefix("/a/".to_owned()),
                Span::Between("/a".to_owned(), Some("/c".to_owned())),
                Span::Between("/a".to_owned(), None),
            ] {
                let interval = root.interval(&span);
                assert_eq!(root.span(&interval.key, &interval.end), Some(span), "{root:?}");
            }
        }
        let root = Root("/upkeep/".to_owned());
        let all = root.interval(&Span::All);
        assert_eq!(
            (all.key.as_slice(), all.end.as_slice()),
            (b"/upkeep/".as_slice(), b"/upkeep0".as_slice())
        );
        assert_eq!(root.span(&all.key, &all.end), Some(Span::All));
        assert_eq!(root.span(b"/other", b""), None);
        let everything = Root(String::new()).interval(&Span::All);
        assert_eq!((everything.key, everything.end), (vec![0], vec![0]));
    }
}
