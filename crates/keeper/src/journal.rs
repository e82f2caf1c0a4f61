//! `children`: what a later keeper needs in order to find the children of one that was killed.
//!
//! Text, appended to, rewritten when most of it is history. The head says which boot and which cgroup it speaks of:
//!
//! ```text
//! boot 5c0e3f0e-… /sys/fs/cgroup/…/upkeep-0123
//! + 4711 8812345 1795369443123 88123450 web.19f web:0
//! - 4711 8812345
//! ```
//!
//! Fields: pid, start ticks, start in Unix ms and monotonic ms, cgroup (`-` for none), key. Names are escaped so that
//! they hold no space and no line break.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use upkeep_sys::{Pid, process};

use crate::{log::open_append, table::Child};

/// Lines of history before it is rewritten.
const HISTORY: usize = 1000;

/// A child as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pid: Pid,
    pub(crate) start_ticks: u64,
    pub(crate) started_unix_ms: u64,
    pub(crate) started_mono_ms: u64,
    pub(crate) group: Option<String>,
    pub(crate) key: String,
}

/// The journal of this keeper. Failing to write is not fatal: it only makes strays harder to find.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Option<File>,
    history: usize,
}

impl Journal {
    /// A journal that is not written yet.
    pub(crate) fn none(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            history: 0,
        }
    }

    /// Goes on with a journal that is there.
    pub(crate) fn resumed(path: PathBuf) -> Self {
        Self {
            file: open_append(&path).ok(),
            path,
            history: 0,
        }
    }

    pub(crate) fn started(&mut self, child: &Child) {
        self.append(&line_of(child));
    }

    pub(crate) fn ended(&mut self, child: &Child, base: Option<&Path>, rest: &BTreeMap<String, Child>) {
        self.append(&format!("- {} {}\n", child.pid, child.start_ticks));
        self.history += 2;
        if self.history > HISTORY && self.history > 2 * rest.len() {
            self.rewrite(base, rest);
        }
    }

    fn append(&mut self, line: &str) {
        // A full disk must not stop anything; see above.
        let _ = self.file.as_mut().map(|file| file.write_all(line.as_bytes()));
    }

    /// Begins anew with these children.
    pub(crate) fn rewrite(&mut self, base: Option<&Path>, children: &BTreeMap<String, Child>) {
        let base = base.map_or_else(|| "-".to_owned(), |path| escape(&path.to_string_lossy()));
        let mut text = format!("boot {} {base}\n", process::boot_id());
        text.extend(children.values().map(line_of));
        let new = self.path.with_extension("new");
        // If it fails, the old one with its history stays.
        if fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &self.path))
            .is_ok()
        {
            self.history = 0;
        }
        self.file = open_append(&self.path).ok();
    }
}

/// What an earlier keeper of this boot left: its cgroup and its children. Lines that make no sense are left out.
pub(crate) fn read(path: &Path) -> (Option<PathBuf>, Vec<Entry>) {
    let Ok(bytes) = fs::read(path) else {
        return (None, Vec::new());
    };
    parse(&String::from_utf8_lossy(&bytes), &process::boot_id())
}

fn parse(text: &str, boot: &str) -> (Option<PathBuf>, Vec<Entry>) {
    let mut lines = text.lines();
    let head = lines
        .next()
        .and_then(|line| line.strip_prefix("boot ")?.split_once(' '));
    let Some((_, base)) = head.filter(|(id, _)| *id == boot) else {
        return (None, Vec::new());
    };
    let mut entries: BTreeMap<(Pid, u64), Entry> = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields.as_slice() {
            ["+", rest @ ..] => {
                let entry = parse_entry(rest);
                entries.extend(entry.map(|entry| ((entry.pid, entry.start_ticks), entry)));
            }
            ["-", pid, ticks] => {
                if let (Some(pid), Ok(ticks)) = (pid.parse().ok().and_then(Pid::new), ticks.parse()) {
                    entries.remove(&(pid, ticks));
                }
            }
            _ => {}
        }
    }
    let base = (base != "-").then(|| PathBuf::from(unescape(base)));
    (base, entries.into_values().collect())
}

fn parse_entry(fields: &[&str]) -> Option<Entry> {
    let [pid, start_ticks, unix, mono, group, key] = fields else {
        return None;
    };
    Some(Entry {
        pid: pid.parse().ok().and_then(Pid::new)?,
        start_ticks: start_ticks.parse().ok()?,
        started_unix_ms: unix.parse().ok()?,
        started_mono_ms: mono.parse().ok()?,
        group: (*group != "-").then(|| unescape(group)),
        key: unescape(key),
    })
}

fn line_of(child: &Child) -> String {
    let group = child.group.as_deref().map_or_else(|| "-".to_owned(), escape);
    let Child {
        pid,
        start_ticks,
        started_unix_ms,
        started_mono_ms,
        key,
        ..
    } = child;
    format!(
        "+ {pid} {start_ticks} {started_unix_ms} {started_mono_ms} {group} {}\n",
        escape(key)
    )
}

/// `%`, blanks and control characters as `%XX`; a lone `-` too.
fn escape(text: &str) -> String {
    if text == "-" {
        return "%2D".to_owned();
    }
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '%' | ' ' | '\0'..='\x1f' | '\x7f' => escaped.push_str(&format!("%{:02X}", u32::from(char))),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// The way back, also for the names of cgroups ([`upkeep_sys::cgroup::escape`]).
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, digits.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(key: &str) -> Child {
        Child {
            key: key.to_owned(),
            pid: Pid::new(7).unwrap(),
            start_ticks: 11,
            started_unix_ms: 22,
            started_mono_ms: 33,
            group: Some("a%20b.1".to_owned()),
            limited: None,
            stray: None,
        }
    }

    #[test]
    fn any_key_is_found_again() {
        for key in ["web:0", "a b", "zeile\neins", "100%", "ö\t", "-", "%41"] {
            let text = format!("boot x /b%20c\n{}", line_of(&child(key)));
            let (base, entries) = parse(&text, "x");
            assert_eq!(base, Some(PathBuf::from("/b c")));
            assert_eq!(entries.len(), 1, "{key}");
            assert_eq!(entries[0].key, key);
            assert_eq!(entries[0].group.as_deref(), Some("a%20b.1"));
        }
    }

    #[test]
    fn what_ended_another_boot_and_torn_lines_are_left_out() {
        let line = line_of(&child("a"));
        assert_eq!(parse(&format!("boot x -\n{line}- 7 11\n"), "x").1, []);
        assert_eq!(parse(&format!("boot x -\n{line}"), "y").1, []);
        let torn = line.get(..line.len() - 20).unwrap();
        assert_eq!(parse(&format!("boot x -\n{line}{torn}"), "x").1.len(), 1);
    }
}
