//! What surrounds the screens: head, foot, questions, help.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};
use upkeep_model::state::{Actual, Desired};

use super::Look;
use crate::{
    monit::{
        keys,
        state::{Order, State},
    },
    output::{Paint, time},
};

/// Host, its figures, how many of the apps are well.
pub(super) fn header(state: &State, look: Look, area: Rect, frame: &mut Frame<'_>) {
    let mut spans = vec![Span::styled(
        format!(" {} ", state.host_name),
        look.paint(Paint::Strong),
    )];
    if let Some((seconds, why)) = &state.down {
        spans.push(Span::styled(
            format!(" the daemon does not answer for {seconds}s: {why}"),
            look.paint(Paint::Bad),
        ));
        frame.render_widget(Line::from(spans), area);
        return;
    }
    let host = state.host;
    if let Some(cpu) = host.cpu {
        spans.push(Span::raw(format!(" cpu {:.0}%", cpu * 100.0)));
    }
    if let Some(load) = host.load {
        spans.push(Span::raw(format!("  load {load:.2}")));
    }
    if let (Some(used), Some(total)) = (host.memory, host.memory_total) {
        spans.push(Span::raw(format!("  mem {}/{}", size(used), size(total))));
    }
    let instances = || state.apps.iter().flat_map(|app| &app.instances);
    let wanted = instances()
        .filter(|instance| instance.desired == Desired::Up)
        .count();
    let well = instances()
        .filter(|instance| instance.desired == Desired::Up && instance.actual == Actual::Running)
        .count();
    let troubled = instances()
        .filter(|instance| {
            matches!(
                instance.actual,
                Actual::BackingOff | Actual::Failed | Actual::GaveUp
            )
        })
        .count();
    spans.push(Span::raw(format!(
        "   {} apps, {well} of {wanted} running",
        state.apps.len()
    )));
    if troubled > 0 {
        spans.push(Span::styled(
            format!(", {troubled} in trouble"),
            look.paint(Paint::Bad),
        ));
    }
    frame.render_widget(Line::from(spans), area);
}

/// Bytes as people write them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
pub(super) fn size(bytes: f64) -> String {
    time::bytes(bytes as u64)
}

/// What is being typed, else what there is to say, else the keys.
pub(super) fn footer(state: &State, look: Look, area: Rect, frame: &mut Frame<'_>) {
    if let Some(typing) = &state.typing {
        let text = format!("{}{}", typing.what.prompt(), typing.text);
        let shown = text
            .chars()
            .count()
            .min(usize::from(area.width.saturating_sub(1)));
        frame.render_widget(Line::raw(text), area);
        let column = area.x + u16::try_from(shown).unwrap_or(0);
        frame.set_cursor_position((column, area.y));
        return;
    }
    if let Some(message) = &state.message {
        let text = crate::monit::pane::cut(message, 0, usize::from(area.width));
        frame.render_widget(Line::styled(text, look.paint(Paint::Strong)), area);
        return;
    }
    let mut spans = Vec::new();
    for (key, label) in keys::footer(state.screen) {
        spans.push(Span::raw(*key));
        spans.push(Span::styled(*label, Look::bar()));
        spans.push(Span::raw(" "));
    }
    frame.render_widget(Line::from(spans), area);
}

/// A box in the middle.
fn popup(title: &str, lines: Vec<Line<'_>>, area: Rect, frame: &mut Frame<'_>) {
    let wide = lines
        .iter()
        .map(Line::width)
        .max()
        .unwrap_or(0)
        .max(title.len() + 2);
    let width = u16::try_from(wide + 4).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(lines.len() + 2)
        .unwrap_or(u16::MAX)
        .min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    let block = Block::bordered()
        .title(format!(" {title} "))
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

/// Asks before something is done.
pub(super) fn question(order: &Order, area: Rect, frame: &mut Frame<'_>) {
    let command = order.as_command();
    let asked = command.strip_prefix("upkeep ").unwrap_or(&command).to_owned();
    popup(
        "sure?",
        vec![
            Line::raw(format!("{asked}?")),
            Line::raw(""),
            Line::raw("y yes    any other key: no"),
            Line::styled(
                format!("the same from a shell: {command}"),
                ratatui::style::Modifier::DIM,
            ),
        ],
        area,
        frame,
    );
}

/// All keys.
pub(super) fn help(area: Rect, frame: &mut Frame<'_>) {
    let lines = keys::HELP
        .iter()
        .map(|(keys, what)| Line::raw(format!("{keys:<14} {what}")))
        .collect();
    popup("keys (any key closes)", lines, area, frame);
}
