//! One app: its figures over time, its instances, why it is as it is, its last lines.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
};
use upkeep_api::{
    body::{AppView, UnixTime},
    metrics::MetricsAnswer,
};

use super::{Look, Shape, frame::size, lines, table::pad};
use crate::{
    monit::{
        pane::cut,
        spark,
        state::{SPANS, State},
    },
    output::{Paint, table, time},
};

/// Columns of a graph that are its scale.
const SCALE: usize = 8;

/// A figure that has a graph.
struct Graph {
    metric: &'static str,
    title: &'static str,
    /// Scale of the values as they are shown.
    factor: f64,
    /// A graph of idle programs is not stretched.
    least: f64,
    binary: bool,
    unit: &'static str,
}

const GRAPHS: [Graph; 6] = [
    Graph {
        metric: "cpu",
        title: "cpu",
        factor: 100.0,
        least: 10.0,
        binary: false,
        unit: "%",
    },
    Graph {
        metric: "memory",
        title: "memory",
        factor: 1.0,
        least: 1_048_576.0,
        binary: true,
        unit: "B",
    },
    Graph {
        metric: "fds",
        title: "open files",
        factor: 1.0,
        least: 10.0,
        binary: false,
        unit: "",
    },
    Graph {
        metric: "threads",
        title: "threads",
        factor: 1.0,
        least: 4.0,
        binary: false,
        unit: "",
    },
    Graph {
        metric: "heap_used",
        title: "heap in use",
        factor: 1.0,
        least: 1_048_576.0,
        binary: true,
        unit: "B",
    },
    Graph {
        metric: "event_loop_delay",
        title: "event loop delay",
        factor: 1000.0,
        least: 5.0,
        binary: false,
        unit: "ms",
    },
];

pub(super) fn draw(state: &State, look: Look, area: Rect, frame: &mut Frame<'_>) -> Shape {
    let (Some(app), Some(row)) = (state.app(), state.row()) else {
        frame.render_widget("it is gone", area);
        return Shape::default();
    };
    let shown = instances(app, row.id.index);
    let count = u16::try_from(shown.len()).unwrap_or(u16::MAX);
    // Graphs need their room; the log gets what the rest leaves.
    let table_height = (count + 1).min(area.height / 4).max(2);
    let [facts, instances_area, rest] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(table_height),
        Constraint::Min(0),
    ])
    .areas(area);
    let mut words = vec![Span::styled(
        format!(" {} ", row.id.selector()),
        look.paint(Paint::Strong),
    )];
    words.push(Span::styled(row.state.clone(), look.paint(row.paint)));
    words.push(Span::raw(format!("  {} of {} ready", row.ready, row.wanted)));
    if row.restarts > 0 {
        words.push(Span::raw(format!("  {} restarts", row.restarts)));
    }
    words.push(Span::raw(format!("  namespace {}", app.namespace)));
    frame.render_widget(Line::from(words), Rect { height: 1, ..facts });
    let why = Rect {
        y: facts.y + 1,
        height: 1,
        ..facts
    };
    let text = format!(" {}", row.why);
    frame.render_widget(
        Line::styled(cut(&text, 0, usize::from(area.width)), look.paint(row.paint)),
        why,
    );
    draw_instances(&shown, app, look, instances_area, frame);

    let graph_rows = if rest.height >= 14 {
        rest.height * 3 / 5
    } else {
        rest.height
    };
    let [graphs, log] = Layout::vertical([Constraint::Length(graph_rows), Constraint::Min(0)]).areas(rest);
    let shape = draw_graphs(state, look, graphs, frame);
    if log.height >= 2 {
        lines::log(state, look, log, false, frame);
    }
    shape
}

fn instances(app: &AppView, index: Option<u32>) -> Vec<&upkeep_api::body::InstanceView> {
    app.instances
        .iter()
        .filter(|instance| index.is_none_or(|index| index == instance.index))
        .collect()
}

fn draw_instances(
    shown: &[&upkeep_api::body::InstanceView],
    app: &AppView,
    look: Look,
    area: Rect,
    frame: &mut Frame<'_>,
) {
    let line = |at: u16| Rect {
        y: area.y + at,
        height: 1,
        ..area
    };
    let head = " INSTANCE STATE            PID     CPU    MEM   RST      UP  LAST EXIT";
    frame.render_widget(Line::styled(head, look.paint(Paint::Quiet)), line(0));
    let room = area.height.saturating_sub(1);
    for (at, instance) in (1..=room).zip(shown) {
        let (word, paint) = table::state_word(app, instance);
        let dash = || "-".to_owned();
        let text = format!(
            " {:>7} {:>6} {:>5} {:>7}  {}",
            instance
                .cpu_percent
                .map_or_else(dash, |percent| format!("{percent:.1}%")),
            instance.memory_bytes.map_or_else(dash, time::bytes),
            instance.restarts,
            instance.uptime_ms.map_or_else(dash, time::span),
            instance.last_exit.map_or_else(dash, |exit| exit.to_string()),
        );
        let spans = vec![
            Span::raw(format!(" {:>8} ", instance.index)),
            Span::styled(pad(word, 12), look.paint(paint)),
            Span::raw(format!(
                " {:>7}{text}",
                instance.pid.map_or_else(dash, |pid| pid.to_string())
            )),
        ];
        frame.render_widget(Line::from(spans), line(at));
    }
}

fn draw_graphs(state: &State, look: Look, area: Rect, frame: &mut Frame<'_>) -> Shape {
    let (name, seconds) = SPANS[state.span];
    let answer = state
        .graph
        .as_ref()
        .filter(|(row, span, _)| Some(row) == state.selected.as_ref() && *span == seconds)
        .map(|(_, _, answer)| answer);
    lines::title(&format!("last {name} (- + change it)"), None, look, area, frame);
    let body = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    };
    let across = if area.width >= 70 { 2 } else { 1 };
    let width = usize::from(area.width) / across;
    let shape = Shape {
        page: 1,
        graph_width: width.saturating_sub(SCALE + 1),
    };
    let Some(answer) = answer else {
        frame.render_widget(
            Line::styled("  reading the history …", look.paint(Paint::Quiet)),
            body,
        );
        return shape;
    };
    let there: Vec<&Graph> = GRAPHS
        .iter()
        .filter(|graph| answer.series.iter().any(|series| series.metric == graph.metric))
        .collect();
    if there.is_empty() {
        frame.render_widget(
            Line::styled("  no figures of this span", look.paint(Paint::Quiet)),
            body,
        );
        return shape;
    }
    // As many as there is room for, each at least five rows high.
    let bands = (usize::from(body.height) / 5).clamp(1, there.len().div_ceil(across));
    let height = usize::from(body.height) / bands;
    for (at, graph) in there.iter().take(bands * across).enumerate() {
        let place = Rect {
            x: body.x + u16::try_from(at % across * width).unwrap_or(0),
            y: body.y + u16::try_from(at / across * height).unwrap_or(0),
            width: u16::try_from(width).unwrap_or(u16::MAX),
            height: u16::try_from(height).unwrap_or(u16::MAX),
        };
        draw_graph(graph, answer, look, place, frame);
    }
    shape
}

/// Title with the newest and the highest value, columns with a scale, times below.
fn draw_graph(graph: &Graph, answer: &MetricsAnswer, look: Look, area: Rect, frame: &mut Frame<'_>) {
    let Some(series) = answer.series.iter().find(|series| series.metric == graph.metric) else {
        return;
    };
    let scaled = |values: &[Option<f64>]| -> Vec<Option<f64>> {
        values
            .iter()
            .map(|value| value.map(|value| value * graph.factor))
            .collect()
    };
    let (values, highs) = (scaled(&series.values), scaled(&series.highs));
    let show = |value: f64| {
        if graph.binary {
            size(value)
        } else if graph.unit.is_empty() {
            format!("{value:.0}")
        } else {
            format!("{value:.1}{}", graph.unit)
        }
    };
    let newest = values.iter().rev().flatten().next().map(|value| show(*value));
    let highest = highs
        .iter()
        .chain(&values)
        .flatten()
        .copied()
        .reduce(f64::max)
        .map(show);
    let title = format!(
        " {}  {}  highest {}",
        graph.title,
        newest.as_deref().unwrap_or("-"),
        highest.as_deref().unwrap_or("-")
    );
    let line = |at: u16| Rect {
        y: area.y + at,
        height: 1,
        ..area
    };
    frame.render_widget(Line::styled(title, look.paint(Paint::Strong)), line(0));
    let rows = usize::from(area.height.saturating_sub(2)).max(1);
    let width = usize::from(area.width).saturating_sub(SCALE + 1);
    let top = spark::ceiling(&values, graph.least, graph.binary);
    let columns = spark::columns(&values, top, width, rows, look.glyphs);
    for (at, text) in columns.into_iter().enumerate() {
        let scale = if at == 0 {
            show(top)
        } else if at + 1 == rows {
            "0".to_owned()
        } else {
            String::new()
        };
        let place = line(u16::try_from(at + 1).unwrap_or(0));
        if place.y >= area.bottom() {
            return;
        }
        let spans = vec![
            Span::styled(format!("{scale:>SCALE$} "), look.paint(Paint::Quiet)),
            Span::styled(text, look.graph()),
        ];
        frame.render_widget(Line::from(spans), place);
    }
    let place = line(u16::try_from(rows + 1).unwrap_or(0));
    if place.y < area.bottom() {
        let text = times(answer, values.len(), width);
        frame.render_widget(
            Line::styled(format!("{:SCALE$} {text}", ""), look.paint(Paint::Quiet)),
            place,
        );
    }
}

/// The times of the first and the last value, at the ends of a line.
fn times(answer: &MetricsAnswer, count: usize, width: usize) -> String {
    let clock = time::Clock::local();
    let end: UnixTime = answer.from + answer.step * count as f64;
    let days = end - answer.from > 86_400.0;
    let text = |at| clock.short(at, days);
    let (from, until) = (text(answer.from), text(end));
    let gap = width.saturating_sub(from.chars().count() + until.chars().count());
    format!("{from}{}{until}", " ".repeat(gap))
}
