//! Tables with box drawing, as PM2 prints them.

use unicode_width::UnicodeWidthStr;

use crate::style::Style;

/// A cell: its text, and the text with colours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    plain: String,
    shown: Option<fn(Style, &str) -> String>,
}

impl Cell {
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self {
            plain: text.into(),
            shown: None,
        }
    }

    pub(crate) fn styled(text: impl Into<String>, shown: fn(Style, &str) -> String) -> Self {
        Self {
            plain: text.into(),
            shown: Some(shown),
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.plain.width()
    }

    fn render(&self, width: usize, style: Style) -> String {
        let text = cut(&self.plain, width);
        let blanks = " ".repeat(width.saturating_sub(text.width()));
        let text = self
            .shown
            .map_or_else(|| text.clone(), |shown| shown(style, &text));
        format!("{text}{blanks}")
    }
}

/// Cut to a width, with an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut result = String::new();
    for letter in text.chars() {
        let mut next = result.clone();
        next.push(letter);
        if next.width() + 1 > width {
            break;
        }
        result = next;
    }
    result.push('\u{2026}');
    result
}

/// How the frame looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Without colours (on a terminal the list has a grey one).
    Plain,
    /// Grey lines, and a head in colour.
    Grey,
}

/// A table; `widths` are without the blank on each side.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) head: Vec<Cell>,
    pub(crate) rows: Vec<Vec<Cell>>,
    pub(crate) widths: Vec<usize>,
    pub(crate) frame: Frame,
}

impl Table {
    /// With columns as wide as what is in them.
    pub(crate) fn fitting(rows: Vec<Vec<Cell>>) -> Self {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(Cell::width)
                .max()
        };
        let widths = (0..columns).map(|column| widest(column).unwrap_or(0)).collect();
        Self {
            head: Vec::new(),
            rows,
            widths,
            frame: Frame::Plain,
        }
    }

    fn line(&self, style: Style, left: &str, middle: &str, right: &str) -> String {
        let parts: Vec<_> = self
            .widths
            .iter()
            .map(|width| "\u{2500}".repeat(width + 2))
            .collect();
        let text = format!("{left}{}{right}", parts.join(middle));
        if self.frame == Frame::Grey {
            style.grey(text)
        } else {
            text
        }
    }

    fn row(&self, style: Style, cells: &[Cell], head: bool) -> String {
        let grey = self.frame == Frame::Grey;
        let bar = if grey {
            style.grey("\u{2502}")
        } else {
            "\u{2502}".to_owned()
        };
        let mut text = bar.clone();
        for (index, width) in self.widths.iter().enumerate() {
            let empty = Cell::default();
            let inside = format!(" {} ", cells.get(index).unwrap_or(&empty).render(*width, style));
            let coloured = grey && (head || index == 0);
            text.push_str(&if coloured { heading(style, &inside) } else { inside });
            text.push_str(&bar);
        }
        text
    }

    pub(crate) fn render(&self, style: Style) -> String {
        let mut lines = vec![self.line(style, "\u{250c}", "\u{252c}", "\u{2510}")];
        if !self.head.is_empty() {
            lines.push(self.row(style, &self.head, true));
            if !self.rows.is_empty() {
                lines.push(self.line(style, "\u{251c}", "\u{253c}", "\u{2524}"));
            }
        }
        lines.extend(self.rows.iter().map(|row| self.row(style, row, false)));
        lines.push(self.line(style, "\u{2514}", "\u{2534}", "\u{2518}"));
        lines.join("\n")
    }
}

/// Bold cyan around text that may have such codes of its own: these are opened again where it closes them.
fn heading(style: Style, text: &str) -> String {
    if !style.is_on() {
        return text.to_owned();
    }
    let inner = text
        .replace("\x1b[39m", "\x1b[36m")
        .replace("\x1b[22m", "\x1b[22m\x1b[1m");
    format!("\x1b[1m\x1b[36m{inner}\x1b[39m\x1b[22m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_and_short_ones_filled() {
        let table = Table {
            head: vec![Cell::plain("id"), Cell::plain("name")],
            rows: vec![vec![Cell::plain("0"), Cell::plain("a long name")]],
            widths: vec![2, 6],
            frame: Frame::Plain,
        };
        let text = table.render(Style::new(false));
        assert_eq!(
            text,
            "┌────┬────────┐\n│ id │ name   │\n├────┼────────┤\n│ 0  │ a lon… │\n└────┴────────┘"
        );
    }

    #[test]
    fn a_table_fits_what_is_in_it() {
        let table = Table::fitting(vec![vec![Cell::plain("日本"), Cell::plain("x")]]);
        assert_eq!(
            table.render(Style::new(false)),
            "┌──────┬───┐\n│ 日本 │ x │\n└──────┴───┘"
        );
    }
}
