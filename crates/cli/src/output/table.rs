//! The table of apps.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use upkeep_api::body::{AppView, InstanceView};
use upkeep_model::{exit::Exit, state::Actual};

use super::{Output, Paint, schedule, time, width};

/// One row for each instance; the reason only where there is one and room for it.
pub(crate) fn apps(apps: &[AppView], output: Output) -> String {
    let columns = width();
    let wide = columns.is_none_or(|columns| columns >= 100);
    let mut table = Table::new();
    // No lines: it fits more terminals, and `awk` reads it.
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(columns) = columns {
        table.set_width(columns);
    }
    let mut header = vec![
        "id", "name", "state", "pid", "uptime", "restarts", "cpu", "memory",
    ];
    if wide {
        header.push("why");
    }
    table.set_header(header);
    for app in apps {
        for instance in &app.instances {
            let mut row = vec![
                right(instance.id.to_string()),
                Cell::new(name(app, instance)),
                Cell::new(state(app, instance, output)),
                right(instance.pid.map_or_else(dash, |pid| pid.to_string())),
                right(instance.uptime_ms.map_or_else(dash, time::span)),
                right(instance.restarts.to_string()),
                right(
                    instance
                        .cpu_percent
                        .map_or_else(dash, |percent| format!("{percent:.1}%")),
                ),
                right(instance.memory_bytes.map_or_else(dash, time::bytes)),
            ];
            if wide {
                row.push(Cell::new(reason(app, instance)));
            }
            table.add_row(row);
        }
    }
    let mut text: String = table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

fn dash() -> String {
    "-".to_owned()
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn name(app: &AppView, instance: &InstanceView) -> String {
    if app.instances.len() == 1 {
        app.name.to_string()
    } else {
        format!("{}:{}", app.name, instance.index)
    }
}

/// The state as a word in its colour.
pub(crate) fn state(app: &AppView, instance: &InstanceView, output: Output) -> String {
    let (word, paint) = state_word(app, instance);
    output.paint(paint, word)
}

/// The state as a word, and how good it is.
pub(crate) fn state_word(app: &AppView, instance: &InstanceView) -> (&'static str, Paint) {
    let checked = app.has_readiness;
    match instance.actual {
        // A check fails, and not often enough yet to mean anything.
        Actual::Running if instance.ready && is_failing(instance) => ("running (!)", Paint::Busy),
        Actual::Running if instance.ready => ("running", Paint::Good),
        // Without a check it is taken for ready after a moment, which is nobody's trouble.
        Actual::Running if !checked => ("running", Paint::Good),
        Actual::Running if instance.health.as_ref().is_some_and(|health| health.starting) => {
            ("starting up", Paint::Busy)
        }
        Actual::Running => ("not ready", Paint::Busy),
        Actual::Stopped | Actual::Completed if is_armed(app) => ("scheduled", Paint::Good),
        Actual::Stopped => ("stopped", Paint::Quiet),
        Actual::Completed => ("completed", Paint::Quiet),
        Actual::Waiting => ("waiting", Paint::Busy),
        Actual::Starting => ("starting", Paint::Busy),
        Actual::Stopping => ("stopping", Paint::Busy),
        Actual::Killing => ("killing", Paint::Bad),
        Actual::BackingOff => ("backing off", Paint::Bad),
        Actual::Failed => ("failed", Paint::Bad),
        Actual::GaveUp => ("gave up", Paint::Bad),
    }
}

/// It waits for its time.
fn is_armed(app: &AppView) -> bool {
    app.schedule.as_ref().is_some_and(|schedule| !schedule.paused)
}

fn is_failing(instance: &InstanceView) -> bool {
    instance
        .health
        .iter()
        .flat_map(|health| &health.checks)
        .any(|check| check.bad > 0)
}

/// What of an instance rises without end, in words.
pub(crate) fn leaks(instance: &InstanceView) -> Vec<String> {
    let now = time::now();
    let leaks = instance.leaks.iter();
    leaks.map(|leak| format!("leak: {}", leak.text(now))).collect()
}

/// What a table says beside the state: nothing where all is well.
pub(crate) fn reason(app: &AppView, instance: &InstanceView) -> String {
    if let Some(view) = &app.schedule {
        return schedule::short(view);
    }
    let failing = instance
        .health
        .iter()
        .flat_map(|health| &health.checks)
        .find(|check| check.bad > 0);
    if let (Actual::Running, Some(check)) = (instance.actual, failing) {
        let why = check.failure.as_deref().unwrap_or("no word in time");
        return format!("{}: {why}", check.role);
    }
    match instance.actual {
        Actual::Running if instance.health.is_some() && !instance.ready => instance.why.clone(),
        Actual::Running if !instance.leaks.is_empty() => leaks(instance).join("; "),
        Actual::Running if instance.restarts == 0 => String::new(),
        Actual::Running => instance
            .last_exit
            .map(|exit| format!("last: {exit}"))
            .unwrap_or_default(),
        Actual::Stopped if matches!(instance.last_exit, None | Some(Exit::Code(0))) => String::new(),
        _ => instance.why.clone(),
    }
}
