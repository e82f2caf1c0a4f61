//! The table of apps.

use std::collections::VecDeque;

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::Look;
use crate::{
    monit::{
        pane::cut,
        rows::{Row, Sort},
        spark,
        state::State,
    },
    output::{Paint, time},
};

/// Widths of the columns.
#[derive(Clone, Copy, Debug)]
struct Widths {
    name: usize,
    spark: usize,
}

/// What is not name or small line: marks, state, counts, figures, and the gaps between.
const FIXED: usize = 2 + 1 + 12 + 1 + 5 + 1 + 6 + 1 + 1 + 6 + 1 + 1 + 5 + 1 + 7;

impl Widths {
    /// Small lines first get six columns, names twenty; then both grow.
    fn of(width: usize, rows: &[Row]) -> Self {
        let room = width.saturating_sub(FIXED);
        let longest = rows
            .iter()
            .map(|row| row.id.selector().chars().count())
            .max()
            .unwrap_or(0)
            .clamp(8, 40);
        let spark = match room {
            0..14 => 0,
            14..40 => ((room - 12) / 2).min(6),
            _ => (room.saturating_sub(longest) / 2).clamp(6, 30),
        };
        Self {
            name: room.saturating_sub(2 * spark).min(longest.max(12)),
            spark,
        }
    }
}

/// Head, rows, and a line that says why the selection is not simply well.
pub(super) fn draw(state: &State, look: Look, area: Rect, frame: &mut Frame<'_>) {
    let widths = Widths::of(usize::from(area.width), &state.rows);
    let height = usize::from(area.height.saturating_sub(2));
    let line = |at: usize| Rect {
        y: area.y + u16::try_from(at).unwrap_or(0),
        height: 1,
        ..area
    };
    frame.render_widget(
        Line::styled(head(state, widths), look.paint(Paint::Strong)),
        line(0),
    );
    if state.rows.is_empty() {
        let text = if state.apps.is_empty() {
            "  no apps; `upkeep start FILE` starts some"
        } else {
            "  no app fits the filter"
        };
        frame.render_widget(Line::raw(text), line(1));
        return;
    }
    let selected = state.place().unwrap_or(0);
    // The selection in the middle, as far as the ends allow.
    let first = selected
        .saturating_sub(height / 2)
        .min(state.rows.len().saturating_sub(height));
    for (at, row) in state.rows.iter().enumerate().skip(first).take(height) {
        let place = line(at - first + 1);
        let chosen = at == selected;
        frame.render_widget(row_line(state, row, chosen, widths, look), place);
        if chosen {
            frame.buffer_mut().set_style(place, Look::bar());
        }
    }
    if let Some(row) = state.row().filter(|row| !row.why.is_empty()) {
        let text = format!("  {}: {}", row.id.selector(), row.why);
        let shown = state.rows.len().saturating_sub(first).min(height);
        let place = line(shown + 1);
        if place.y < area.bottom() {
            frame.render_widget(
                Line::styled(cut(&text, 0, usize::from(area.width)), look.paint(row.paint)),
                place,
            );
        }
    }
}

fn head(state: &State, widths: Widths) -> String {
    let arrow = |sort: Sort, word: &str| {
        if state.sort == sort {
            format!("{word}{}", if state.reverse { '^' } else { 'v' })
        } else {
            word.to_owned()
        }
    };
    let mut name = arrow(Sort::Name, "NAME");
    if !state.filter.is_empty() {
        name.push_str(&format!(" ({})", state.filter));
    }
    format!(
        "  {:<name_width$} {:<12} {:>5} {:>6} {:spark$} {:>6} {:spark$} {:>5} {:>7}",
        cut(&name, 0, widths.name),
        arrow(Sort::State, "STATE"),
        "READY",
        arrow(Sort::Cpu, "CPU"),
        "",
        arrow(Sort::Memory, "MEM"),
        "",
        arrow(Sort::Restarts, "RST"),
        arrow(Sort::Uptime, "UP"),
        name_width = widths.name,
        spark = widths.spark,
    )
}

fn row_line<'a>(state: &State, row: &Row, chosen: bool, widths: Widths, look: Look) -> Line<'a> {
    let trail = state.trails.of(&row.id);
    let small = |values: Option<Vec<Option<f64>>>, least: f64| match values {
        Some(values) => {
            let most = values.iter().flatten().copied().fold(least, f64::max);
            spark::line(&values, most, widths.spark, look.glyphs)
        }
        None => " ".repeat(widths.spark),
    };
    let figure = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let cpu = figure(row.cpu_percent.map(|percent| format!("{percent:.1}%")));
    let memory = figure(row.memory_bytes.map(time::bytes));
    let uptime = figure(row.uptime_ms.map(short_span));
    // The selection is reversed, so a colour of its own would be a ground.
    let paint = |paint: Paint| if chosen { Style::new() } else { look.paint(paint) };
    let graph = if chosen { Style::new() } else { look.graph() };
    let name = pad(&row.id.selector(), widths.name);
    Line::from(vec![
        Span::raw(format!("{} {name} ", if chosen { '>' } else { ' ' })),
        Span::styled(pad(&row.state, 12), paint(row.paint)),
        Span::raw(format!(
            " {:>5} {cpu:>6} ",
            format!("{}/{}", row.ready, row.wanted)
        )),
        // A tenth of a core fills the line: idle programs do not look busy.
        Span::styled(
            small(trail.map(|trail| trail.cpu.iter().copied().collect()), 10.0),
            graph,
        ),
        Span::raw(format!(" {memory:>6} ")),
        Span::styled(small(trail.map(|trail| growth(&trail.memory)), 1.0), graph),
        Span::raw(format!(" {:>5} {uptime:>7}", row.restarts)),
    ])
}

/// Memory as what is above the lowest, on a scale of at least a tenth of it: growth is seen, and what stays is flat.
fn growth(values: &VecDeque<Option<f64>>) -> Vec<Option<f64>> {
    let lowest = values.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let least = lowest / 10.0;
    values
        .iter()
        .map(|value| value.map(|value| (value - lowest) / least.max(1.0)))
        .collect()
}

/// Exactly so many columns.
pub(super) fn pad(text: &str, width: usize) -> String {
    use unicode_width::UnicodeWidthStr;
    let mut text = cut(text, 0, width);
    let wide = text.width();
    text.extend(std::iter::repeat_n(' ', width.saturating_sub(wide)));
    text
}

/// A span in at most seven columns.
fn short_span(millis: u64) -> String {
    let text = time::span(millis / 1000 * 1000);
    match text.split_once(' ') {
        Some((first, _)) if text.len() > 7 => first.to_owned(),
        _ => text,
    }
}
