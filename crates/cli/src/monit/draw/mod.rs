//! From state to cells. Decides nothing.

mod detail;
mod frame;
mod lines;
mod table;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
};

pub(super) use super::state::Shape;
use super::{
    spark::Glyphs,
    state::{Screen, State},
};
use crate::output::Paint;

/// How things look on this terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    color: bool,
    pub(super) glyphs: Glyphs,
}

impl Look {
    /// By what the user and the locale allow.
    pub(super) fn of(color: bool) -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = set("LC_ALL")
            .or_else(|| set("LC_CTYPE"))
            .or_else(|| set("LANG"))
            .unwrap_or_default()
            .to_lowercase();
        let utf8 = locale.contains("utf-8") || locale.contains("utf8");
        Self::new(color, if utf8 { Glyphs::Unicode } else { Glyphs::Ascii })
    }

    pub(super) const fn new(color: bool, glyphs: Glyphs) -> Self {
        Self { color, glyphs }
    }

    /// A style by meaning. Without colours, words and marks say it.
    fn paint(self, paint: Paint) -> Style {
        let style = Style::new();
        match paint {
            Paint::Strong => style.add_modifier(Modifier::BOLD),
            Paint::Quiet => style.add_modifier(Modifier::DIM),
            Paint::Bad if !self.color => style.add_modifier(Modifier::BOLD),
            _ if !self.color => style,
            Paint::Good => style.fg(Color::Green),
            Paint::Busy => style.fg(Color::Yellow),
            Paint::Bad => style.fg(Color::Red),
        }
    }

    fn graph(self) -> Style {
        if self.color {
            Style::new().fg(Color::Cyan)
        } else {
            Style::new()
        }
    }

    const fn bar() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Draws everything; tells the sizes that keys need to know.
pub(super) fn draw(state: &State, look: Look, frame: &mut Frame<'_>) -> Shape {
    let area = frame.area();
    if area.width < 20 || area.height < 4 {
        frame.render_widget("too small", area);
        return Shape::default();
    }
    let [header, body, footer] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(area);
    frame::header(state, look, header, frame);
    let shape = match state.screen {
        Screen::Apps => apps(state, look, body, frame),
        Screen::Logs => {
            lines::log(state, look, body, true, frame);
            Shape {
                page: usize::from(body.height.saturating_sub(2)),
                ..Shape::default()
            }
        }
        Screen::Events => {
            lines::events(state, look, body, frame);
            Shape {
                page: usize::from(body.height.saturating_sub(2)),
                ..Shape::default()
            }
        }
        Screen::Detail => detail::draw(state, look, body, frame),
    };
    frame::footer(state, look, footer, frame);
    if let Some(order) = &state.confirm {
        frame::question(order, area, frame);
    }
    if state.help {
        frame::help(area, frame);
    }
    shape
}

/// The table, and below it the log of the selection.
fn apps(state: &State, look: Look, area: Rect, frame: &mut Frame<'_>) -> Shape {
    let rows = u16::try_from(state.rows.len()).unwrap_or(u16::MAX).max(1);
    // Head, rows, the line that says why; the log gets at least 40 %, and all that the table leaves.
    let most = (area.height * 3 / 5).max(4);
    let height = rows.saturating_add(2).min(most);
    let [above, below] = Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(area);
    table::draw(state, look, above, frame);
    if below.height >= 2 {
        lines::log(state, look, below, false, frame);
    }
    Shape {
        page: usize::from(above.height.saturating_sub(3)),
        ..Shape::default()
    }
}
