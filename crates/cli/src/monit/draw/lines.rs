//! Logs and events.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
};

use super::Look;
use crate::{
    monit::{
        pane::{Pane, contains},
        state::State,
    },
    output::Paint,
};

/// The log of the selection.
pub(super) fn log(state: &State, look: Look, area: Rect, whole: bool, frame: &mut Frame<'_>) {
    let Some(selected) = &state.selected else { return };
    let Some(pane) = state.pane() else {
        title(
            &format!("log of {}", selected.selector()),
            None,
            look,
            area,
            frame,
        );
        return;
    };
    let mut words = vec![format!("log of {}", selected.selector())];
    words.push(position(pane));
    if pane.rate > 0 {
        words.push(format!("{} lines/s", pane.rate));
    }
    let text = words.join(", ");
    title(&text, whole.then_some(pane), look, area, frame);
    body(pane, look, area, frame);
    if pane.is_empty() && area.height > 1 {
        let place = Rect {
            y: area.y + 1,
            height: 1,
            ..area
        };
        frame.render_widget(Line::styled("  it has printed nothing yet", Modifier::DIM), place);
    }
}

/// What was done and what happened.
pub(super) fn events(state: &State, look: Look, area: Rect, frame: &mut Frame<'_>) {
    let pane = &state.events;
    title(
        &format!("events, {}", position(pane)),
        Some(pane),
        look,
        area,
        frame,
    );
    body(pane, look, area, frame);
}

fn position(pane: &Pane) -> String {
    if pane.is_following() {
        "following".to_owned()
    } else {
        "PAUSED (space goes on)".to_owned()
    }
}

/// A rule with words in it.
pub(super) fn title(text: &str, pane: Option<&Pane>, look: Look, area: Rect, frame: &mut Frame<'_>) {
    let rule = look.glyphs.rule();
    let mut text = format!("{rule}{rule} {text} ");
    if let Some(pane) = pane.filter(|pane| !pane.filter.is_empty()) {
        text.push_str(&format!("{rule}{rule} only `{}` ", pane.filter));
    }
    let width = usize::from(area.width);
    let rest = width.saturating_sub(text.chars().count());
    text.push_str(&rule.repeat(rest));
    let place = Rect { height: 1, ..area };
    frame.render_widget(Line::styled(text, look.paint(Paint::Quiet)), place);
}

fn body(pane: &Pane, look: Look, area: Rect, frame: &mut Frame<'_>) {
    let height = area.height.saturating_sub(1);
    let window = pane.window(usize::from(area.width), usize::from(height));
    let mut y = area.y + 1;
    for (line, rows) in window {
        for (at, row) in rows.iter().enumerate() {
            let label = if at == 0 {
                line.label.clone()
            } else {
                " ".repeat(line.label.chars().count())
            };
            let style = if line.notice {
                look.paint(Paint::Quiet)
            } else if line.bad {
                look.paint(Paint::Bad)
            } else {
                Style::new()
            };
            let mut spans = vec![Span::styled(label, look.paint(Paint::Quiet))];
            mark(row, &pane.search, style, &mut spans);
            let place = Rect { y, height: 1, ..area };
            frame.render_widget(Line::from(spans), place);
            y += 1;
        }
    }
}

/// What is searched for stands out.
fn mark(text: &str, search: &str, style: Style, spans: &mut Vec<Span<'_>>) {
    let mut rest = text;
    while !search.is_empty() && contains(rest, search) {
        let at = (0..rest.len())
            .find(|at| {
                rest.as_bytes()
                    .get(*at..at + search.len())
                    .is_some_and(|part| part.eq_ignore_ascii_case(search.as_bytes()))
            })
            .unwrap_or(0);
        // ASCII letters alone are folded, so the bytes of a match are whole characters.
        let Some((before, hit, after)) = rest
            .get(..at)
            .zip(rest.get(at..at + search.len()))
            .zip(rest.get(at + search.len()..))
            .map(|((before, hit), after)| (before, hit, after))
        else {
            break;
        };
        spans.push(Span::styled(before.to_owned(), style));
        spans.push(Span::styled(
            hit.to_owned(),
            style.add_modifier(Modifier::REVERSED),
        ));
        rest = after;
    }
    spans.push(Span::styled(rest.to_owned(), style));
}
