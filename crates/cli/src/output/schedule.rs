//! Schedules for people.

use comfy_table::{Cell, ContentArrangement, Table, presets};
use jiff::{Timestamp, tz::TimeZone};
use upkeep_api::body::{AppView, ScheduleView};

use super::{Output, Paint, time, width};

/// A time in the zone of its schedule, or in ours if that is not known here.
pub(crate) fn time(at: f64, zone: &str) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, and that is meant"
    )]
    let Ok(stamp) = Timestamp::from_second(at as i64) else {
        return format!("@{at}");
    };
    let zone = TimeZone::get(zone).unwrap_or_else(|_| TimeZone::system());
    stamp
        .to_zoned(zone)
        .strftime("%a %Y-%m-%d %H:%M:%S %Z")
        .to_string()
}

/// `in 3h`, `now`, `paused`, `never again`.
fn next(view: &ScheduleView) -> String {
    match view.next {
        _ if view.paused => "paused".to_owned(),
        None => "never again".to_owned(),
        Some(at) => match time::until(at) {
            0 => "now".to_owned(),
            millis => format!("in {}", time::span(millis)),
        },
    }
}

/// `ok 3h ago`, `FAILED 3h ago: …`, `never`.
fn last(view: &ScheduleView) -> String {
    match &view.last {
        None => "never".to_owned(),
        Some(last) if last.ok => format!("ok {} ago", time::ago(last.ended_at)),
        Some(last) => format!("FAILED {} ago: {}", time::ago(last.ended_at), last.what),
    }
}

/// What a list says of a scheduled app in a few words.
pub(crate) fn short(view: &ScheduleView) -> String {
    let running = if view.runs.is_empty() { "" } else { "running; " };
    format!("{running}next {}; last {}", next(view), last(view))
}

/// What there is to say of an app's schedule, indented, a line each.
pub(crate) fn lines(app: &AppView) -> String {
    let Some(view) = &app.schedule else {
        return String::new();
    };
    let mut text = format!("schedule {} ({})\n", view.at, view.timezone);
    let at = match view.next {
        Some(at) if !view.paused => format!(", {}", time(at, &view.timezone)),
        _ => String::new(),
    };
    text += &format!("  next run  {}{at}\n", next(view));
    text += &format!("  last run  {}\n", last(view));
    for run in &view.runs {
        text += &format!(
            "  running   run {} of {}, for {}\n",
            run.number,
            time(run.due, &view.timezone),
            time::ago(run.started_at)
        );
    }
    if view.waiting > 0 {
        text += &format!("  waiting   {} runs wait for the end of it\n", view.waiting);
    }
    text
}

/// One row for each schedule.
pub(crate) fn table(views: &[ScheduleView], output: Output) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(columns) = width() {
        table.set_width(columns);
    }
    table.set_header(["name", "schedule", "zone", "state", "next", "last run"]);
    for view in views {
        let (state, paint) = match (view.paused, view.runs.is_empty()) {
            (_, false) => ("running", Paint::Good),
            (true, true) => ("paused", Paint::Quiet),
            (false, true) => ("waiting", Paint::Good),
        };
        let next = match view.next {
            Some(at) if !view.paused => format!("{} ({})", next(view), time(at, &view.timezone)),
            _ => next(view),
        };
        table.add_row([
            Cell::new(&view.app),
            Cell::new(&view.at),
            Cell::new(&view.timezone),
            Cell::new(output.paint(paint, state)),
            Cell::new(next),
            Cell::new(last(view)),
        ]);
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}
