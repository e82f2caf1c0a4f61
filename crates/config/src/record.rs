//! What stands in the backend for one value, and for one change of it.
//!
//! A record is `u`, a format byte (1), the length of its head (32 bits, little-endian), the head as JSON, and the
//! content: the value's bytes, or those of the sealed value. Whatever a record was read from, its head can be shown to
//! whoever may know that the value exists; the content of a secret cannot be read from it.

use serde::{Deserialize, Serialize};

use crate::{
    seal::Sealed,
    value::{Kind, Value},
};

/// First bytes: a mark and the format.
const MARK: [u8; 2] = [b'u', 1];

/// What a record tells beside its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Absent: it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<Kind>,
    /// Present: the content is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sealed: Option<Sealed>,
    /// Who wrote it.
    pub(crate) who: String,
    /// When, Unix seconds.
    pub(crate) at: f64,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// The revision that it had in the store that it was moved from; absent: the backend's own counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<u64>,
    /// It was to go by itself after so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<u64>,
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) head: Head,
    content: Vec<u8>,
}

/// What a record says that the value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Deleted,
    Plain(Value),
    Secret(Kind, Sealed),
}

impl Content {
    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Deleted => 0,
            Self::Plain(value) => value.bytes.len(),
            Self::Secret(_, sealed) => sealed.content.len(),
        }
    }
}

impl Record {
    pub(crate) fn new(content: Content, who: &str, at: f64, why: Option<&str>) -> Self {
        let (kind, sealed, content) = match content {
            Content::Deleted => (None, None, Vec::new()),
            Content::Plain(value) => (Some(value.kind), None, value.bytes),
            Content::Secret(kind, mut sealed) => {
                let content = std::mem::take(&mut sealed.content);
                (Some(kind), Some(sealed), content)
            }
        };
        Self {
            head: Head {
                kind,
                sealed,
                who: who.to_owned(),
                at,
                why: why.map(str::to_owned),
                revision: None,
                ttl: None,
            },
            content,
        }
    }

    pub(crate) fn content(&self) -> Content {
        match (self.head.kind, &self.head.sealed) {
            (None, _) => Content::Deleted,
            (Some(kind), None) => Content::Plain(Value {
                kind,
                bytes: self.content.clone(),
            }),
            (Some(kind), Some(sealed)) => {
                let mut sealed = sealed.clone();
                sealed.content.clone_from(&self.content);
                Content::Secret(kind, sealed)
            }
        }
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let head = serde_json::to_vec(&self.head).map_err(|error| error.to_string())?;
        let length = u32::try_from(head.len()).map_err(|error| error.to_string())?;
        let mut bytes = Vec::with_capacity(6 + head.len() + self.content.len());
        bytes.extend(MARK);
        bytes.extend(length.to_le_bytes());
        bytes.extend(head);
        bytes.extend(&self.content);
        Ok(bytes)
    }

    /// Reads a record. Whoever can write to the backend can put anything there: nothing is taken for granted.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let rest = bytes
            .strip_prefix(&MARK)
            .ok_or("it does not begin as our records do")?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or("it ends too early")?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|error| error.to_string())?;
        let (head, content) = rest.split_at_checked(length).ok_or("it ends too early")?;
        let head =
            serde_json::from_slice(head).map_err(|error| format!("its head cannot be read: {error}"))?;
        Ok(Self {
            head,
            content: content.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Identity;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let identity = Identity::generate("machine:a").expect("random numbers");
        let sealed = Sealed::seal(b"s", b"b", &[identity.recipient()]).expect("sealed");
        for content in [
            Content::Deleted,
            Content::Plain(Value {
                kind: Kind::File,
                bytes: vec![0, 255, b'u', 1],
            }),
            Content::Secret(Kind::Text, sealed),
        ] {
            let record = Record::new(content.clone(), "uid:1000", 1_795_000_000.25, Some("why not"));
            let bytes = record.to_bytes().expect("written");
            let again = Record::from_bytes(&bytes).expect("read");
            assert_eq!(again, record);
            assert_eq!(again.content(), content);
            // Cut off or garbled anywhere, it is an error or another record, and never a panic.
            for at in 0..bytes.len() {
                let _ = Record::from_bytes(&bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 0x55;
                let _ = Record::from_bytes(&changed);
            }
        }
        assert!(Record::from_bytes(b"").is_err());
        assert!(Record::from_bytes(b"u\x01\xff\xff\xff\xff{}").is_err());
    }
}
