//! A window on lines: it follows their end, or stays where one scrolled to.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar;
use upkeep_api::body::{LogLine, Stream};

use crate::output::{clean::clean, time::Clock};

/// How many lines are kept of each log. The daemon has the others.
pub(super) const KEPT: usize = 5000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Time and source.
    pub(super) label: String,
    /// From standard error, or a failure.
    pub(super) bad: bool,
    /// Something a reader must know, instead of a line.
    pub(super) notice: bool,
    /// Without anything that could move the cursor.
    pub(super) text: String,
}

impl Shown {
    /// A line of output.
    pub(super) fn of(line: &LogLine, clock: &Clock) -> Self {
        let time = clock.text(line.at);
        // The date is the same on nearly all of them, and room is short.
        let time = time.rsplit(' ').next().unwrap_or(&time);
        let time = time.split('.').next().unwrap_or(time);
        let index = line.index.map(|index| index.to_string()).unwrap_or_default();
        // Never colour alone: standard error has a mark of its own.
        let mark = match line.stream {
            Stream::Out => '|',
            Stream::Err => '!',
        };
        let mut text = clean(&line.line);
        if line.partial {
            text.push('…');
        }
        Self {
            label: format!("{time} {index}{mark} "),
            bad: line.stream == Stream::Err,
            notice: line.notice,
            text,
        }
    }
}

/// Lines and the place in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pane {
    lines: VecDeque<Shown>,
    /// How many lines (of those that the filter lets through) are below the window.
    below: usize,
    /// Stays where it is although lines come.
    paused: bool,
    /// Only lines with this text.
    pub(super) filter: String,
    /// Marked where it occurs.
    pub(super) search: String,
    /// Columns that are left of the window.
    pub(super) left: usize,
    pub(super) wrap: bool,
    /// Lines since the last tick, and in the second before.
    come: u64,
    pub(super) rate: u64,
}

impl Pane {
    pub(super) fn is_following(&self) -> bool {
        !self.paused && self.below == 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn fits(&self, line: &Shown) -> bool {
        self.filter.is_empty() || contains(&line.text, &self.filter)
    }

    /// The log from its end, once more: what is shown stays in view as far as it is there.
    pub(super) fn begin(&mut self, lines: impl IntoIterator<Item = Shown>) {
        self.lines.clear();
        self.lines.extend(lines);
        while self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    pub(super) fn push(&mut self, line: Shown) {
        self.come += 1;
        if !self.is_following() && self.fits(&line) {
            self.below += 1;
        }
        self.lines.push_back(line);
        if self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    /// A second has gone by.
    pub(super) fn tick(&mut self) {
        self.rate = std::mem::take(&mut self.come);
    }

    pub(super) fn toggle_pause(&mut self) {
        if self.is_following() {
            self.paused = true;
        } else {
            self.go_to_end();
        }
    }

    pub(super) fn go_to_end(&mut self) {
        self.paused = false;
        self.below = 0;
    }

    pub(super) fn go_to_top(&mut self) {
        self.below = self.count().saturating_sub(1);
    }

    fn count(&self) -> usize {
        self.lines.iter().filter(|line| self.fits(line)).count()
    }

    /// Up for numbers above zero.
    pub(super) fn scroll(&mut self, by: isize) {
        let most = self.count().saturating_sub(1);
        self.below = self.below.saturating_add_signed(by).min(most);
        if by < 0 && self.below == 0 {
            self.paused = false;
        }
    }

    /// Goes to the next line with the text that is searched for: up if `older`. Whether there is one.
    pub(super) fn find(&mut self, older: bool) -> bool {
        if self.search.is_empty() {
            return false;
        }
        let fitting: Vec<&Shown> = self.lines.iter().rev().filter(|line| self.fits(line)).collect();
        let hit = |at: &usize| contains(&fitting[*at].text, &self.search);
        let found = if older {
            (self.below + 1..fitting.len()).find(hit)
        } else {
            (0..self.below.min(fitting.len())).rev().find(hit)
        };
        if let Some(at) = found {
            self.below = at;
            self.paused = true;
        }
        found.is_some()
    }

    /// The line at the bottom of the window.
    pub(super) fn last_shown(&self) -> Option<&Shown> {
        self.lines
            .iter()
            .rev()
            .filter(|line| self.fits(line))
            .nth(self.below)
    }

    /// What fits into a window, oldest first, each with the rows of its text.
    pub(super) fn window(&self, width: usize, height: usize) -> Vec<(&Shown, Vec<String>)> {
        let mut window = Vec::new();
        let mut rows = 0;
        for line in self
            .lines
            .iter()
            .rev()
            .filter(|line| self.fits(line))
            .skip(self.below)
        {
            if rows >= height {
                break;
            }
            let room = width.saturating_sub(line.label.chars().count()).max(8);
            let mut pieces = if self.wrap {
                wrapped(&line.text, room)
            } else {
                vec![cut(&line.text, self.left, room)]
            };
            if rows + pieces.len() > height {
                // The end of a line that is longer than the window.
                pieces.drain(..rows + pieces.len() - height);
            }
            rows += pieces.len();
            window.push((line, pieces));
        }
        window.reverse();
        window
    }
}

/// Without regard to the case of ASCII letters.
pub(super) fn contains(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    part.is_empty()
        || text
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part))
}

/// The part of a text that begins at a column and is so many columns wide.
pub(super) fn cut(text: &str, left: usize, width: usize) -> String {
    let mut column = 0;
    let mut out = String::new();
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if column >= left && column + wide <= left + width {
            out.push(character);
        }
        column += wide;
        if column >= left + width {
            break;
        }
    }
    out
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut column = 0;
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if column + wide > width {
            rows.push(String::new());
            column = 0;
        }
        if let Some(row) = rows.last_mut() {
            row.push(character);
        }
        column += wide;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Shown {
        Shown {
            label: String::new(),
            bad: false,
            notice: false,
            text: text.to_owned(),
        }
    }

    fn texts(pane: &Pane, height: usize) -> Vec<String> {
        pane.window(80, height)
            .into_iter()
            .flat_map(|(_, rows)| rows)
            .collect()
    }

    fn numbered(count: u32) -> Pane {
        let mut pane = Pane::default();
        for number in 0..count {
            pane.push(line(&format!("line {number}")));
        }
        pane
    }

    #[test]
    fn it_follows_until_one_scrolls_and_then_stays() {
        let mut pane = numbered(10);
        assert_eq!(texts(&pane, 2), ["line 8", "line 9"]);
        pane.scroll(3);
        assert_eq!(texts(&pane, 2), ["line 5", "line 6"]);
        pane.push(line("line 10"));
        assert_eq!(texts(&pane, 2), ["line 5", "line 6"]);
        pane.toggle_pause();
        assert_eq!(texts(&pane, 2), ["line 9", "line 10"]);
        pane.toggle_pause();
        pane.push(line("line 11"));
        assert_eq!(texts(&pane, 1), ["line 10"]);
        pane.go_to_top();
        assert_eq!(texts(&pane, 3), ["line 0"]);
    }

    #[test]
    fn a_filter_hides_and_a_search_goes_there() {
        let mut pane = numbered(25);
        pane.filter = "LINE 1".to_owned();
        assert_eq!(texts(&pane, 2), ["line 18", "line 19"]);
        pane.filter.clear();
        pane.search = "e 7".to_owned();
        assert!(pane.find(true));
        assert_eq!(texts(&pane, 1), ["line 7"]);
        assert!(!pane.find(true), "there is no older one");
    }

    #[test]
    fn what_could_move_the_cursor_is_taken_out() {
        assert_eq!(
            clean("\x1b[31mred\x1b[0m\x1b]0;title\x07 and\x08\ttab"),
            "red and tab"
        );
        assert_eq!(clean("\x1b]8;;http://x\x1b\\link\x1b[2J"), "link");
        assert_eq!(clean("a\x1b["), "a");
    }

    #[test]
    fn long_lines_are_cut_or_wrapped() {
        let mut pane = Pane::default();
        pane.push(line(&"0123456789".repeat(3)));
        pane.left = 5;
        assert_eq!(pane.window(10, 3)[0].1, ["5678901234"]);
        pane.wrap = true;
        assert_eq!(pane.window(20, 3)[0].1, ["01234567890123456789", "0123456789"]);
        assert_eq!(pane.window(20, 1)[0].1, ["0123456789"]);
        assert_eq!(cut("日本語", 0, 5), "日本");
    }
}
