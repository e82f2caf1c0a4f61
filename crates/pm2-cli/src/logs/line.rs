//! One line of a log as it is shown.

use crate::style::Style;

/// Width of the name in front of lines that come from files.
const TAIL_WIDTH: usize = 10;

/// The name in front of a line of a file.
pub(super) fn tail_label(id: Option<u64>, name: &str) -> String {
    let label = id.map_or_else(|| name.to_owned(), |id| format!("{id}|{name}"));
    let cut: String = label.chars().take(TAIL_WIDTH).collect();
    format!("{cut:TAIL_WIDTH$} | ")
}

/// The names in front of lines that come from the bus: as wide as the widest so far.
#[derive(Debug)]
pub(super) struct Labels {
    width: usize,
}

impl Default for Labels {
    fn default() -> Self {
        Self { width: 3 }
    }
}

impl Labels {
    /// Of a process.
    pub(super) fn of(&mut self, label: &str) -> String {
        let length = label.chars().count();
        self.pad(label, length)
    }

    /// Of the daemon, whose label counts as `PM2|PM2`.
    pub(super) fn daemon(&mut self) -> String {
        self.pad("PM2", "PM2|PM2".len())
    }

    fn pad(&mut self, label: &str, length: usize) -> String {
        if length > self.width {
            self.width = length + 1;
        }
        format!("{label:width$} | ", width = self.width)
    }
}

/// A word of the line with another ground.
pub(super) fn highlight(style: Style, line: &str, word: Option<&str>) -> String {
    match word.filter(|word| !word.is_empty()) {
        Some(word) => line.replace(word, &style.wrap(100, 49, word)),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_files_have_one_width() {
        assert_eq!(tail_label(Some(0), "a"), "0|a        | ");
        assert_eq!(tail_label(Some(10), "abcdefghijk"), "10|abcdefg | ");
        assert_eq!(tail_label(None, "PM2"), "PM2        | ");
    }

    #[test]
    fn labels_of_the_bus_grow() {
        let mut labels = Labels::default();
        assert_eq!(labels.of("0|a"), "0|a | ");
        assert_eq!(labels.of("3|abcd"), "3|abcd  | ");
        assert_eq!(labels.of("5|abcdef"), "5|abcdef  | ");
        assert_eq!(labels.of("4|abcde"), "4|abcde   | ");
        assert_eq!(
            labels.of("14|abcdefghijklmnopqrst"),
            "14|abcdefghijklmnopqrst  | "
        );
    }

    #[test]
    fn the_daemon_counts_twice() {
        let mut labels = Labels::default();
        assert_eq!(labels.daemon(), "PM2      | ");
        assert_eq!(labels.of("0|a"), "0|a      | ");
    }

    #[test]
    fn a_word_is_highlighted_wherever_it_stands() {
        assert_eq!(
            highlight(Style::new(true), "out 1 out", Some("out")),
            "\x1b[100mout\x1b[49m 1 \x1b[100mout\x1b[49m"
        );
        assert_eq!(highlight(Style::new(true), "out", Some("")), "out");
    }
}
