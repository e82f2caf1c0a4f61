//! Logs: the last lines of files ([`tail`]), and what the bus says from now on ([`stream`]).

mod line;
mod stream;
mod tail;

pub(crate) use stream::{Follow, Form, stream};
pub(crate) use tail::{Tail, tail};

use regex::Regex;
use serde_json::Value;

/// Which of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// stdout.
    Out,
    /// stderr.
    Err,
}

/// Whose logs.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Everybody's, and the daemon's own.
    All,
    /// Everybody's, without the daemon's.
    Apps,
    /// Those with this id, name or namespace.
    Word(String),
    /// Those whose name matches.
    Pattern(Regex),
    /// Those with these ids.
    Ids(Vec<u64>),
}

impl Target {
    /// `all`, `/regex/`, or a word.
    pub(crate) fn parse(word: &str) -> Self {
        if word == "all" {
            return Self::All;
        }
        let pattern = word
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'))
            .and_then(|pattern| Regex::new(pattern).ok());
        pattern.map_or_else(|| Self::Word(word.to_owned()), Self::Pattern)
    }

    /// Does it mean the daemon's own log?
    pub(crate) fn takes_daemon(&self) -> bool {
        match self {
            Self::All => true,
            Self::Word(word) => word == "PM2",
            Self::Apps | Self::Pattern(_) | Self::Ids(_) => false,
        }
    }

    /// Does it mean this process?
    pub(crate) fn takes(&self, id: Option<u64>, name: &str, namespace: &str) -> bool {
        match self {
            Self::All | Self::Apps => true,
            Self::Word(word) => {
                word == name || word == namespace || word.parse() == Ok(id.unwrap_or(u64::MAX))
            }
            Self::Pattern(pattern) => pattern.is_match(name),
            Self::Ids(ids) => id.is_some_and(|id| ids.contains(&id)),
        }
    }
}

/// A text field of a record; empty if it is not there.
pub(crate) fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_an_id_a_name_or_a_namespace() {
        let target = Target::parse("3");
        assert!(target.takes(Some(3), "shop", "default"));
        assert!(target.takes(Some(1), "3", "default"));
        assert!(!target.takes(Some(1), "shop", "default"));
        assert!(!Target::parse("x").takes(None, "y", "z"));
        assert!(Target::parse("default").takes(Some(1), "shop", "default"));
    }

    #[test]
    fn slashes_make_a_pattern() {
        assert!(Target::parse("/^sh/").takes(Some(1), "shop", "default"));
        assert!(!Target::parse("/^op/").takes(Some(1), "shop", "default"));
        assert!(matches!(Target::parse("/("), Target::Word(_)));
        assert!(matches!(Target::parse("/(/"), Target::Word(_)));
    }

    #[test]
    fn the_daemon_speaks_to_all_and_to_who_asks_for_it() {
        assert!(Target::All.takes_daemon());
        assert!(Target::parse("PM2").takes_daemon());
        assert!(!Target::parse("shop").takes_daemon());
    }
}
