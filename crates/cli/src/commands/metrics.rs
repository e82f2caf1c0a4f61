//! `metrics`: figures over a span of time.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate; columns are few"
)]

use std::fmt::Write;

use upkeep_api::{
    client::with_query,
    metrics::{METRICS, MetricsAnswer, MetricsQuery, Of, Per, Series},
};
use upkeep_model::size::Span;

use crate::{
    args::Metrics,
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, time, width},
    settings::Settings,
};

/// Steps of a line of figures, from nothing to its highest.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same where the terminal has no UTF-8.
const PLAIN: [char; 8] = ['.', ',', ':', '-', '=', '+', '*', '#'];
/// Columns of the line of figures where nobody tells the width.
const POINTS: usize = 40;
/// Columns that the other parts of a row take.
const BESIDE: usize = 66;

/// The figures of an app, of its instances or of the machine.
pub(crate) async fn metrics(asked: &Metrics, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let since: Span = asked.since.parse().map_err(|error| {
        Advised::new(
            Exit::Usage,
            format!("`--since {}` is no span: {error}", asked.since),
        )
        .hint("write how long ago, such as `15m`, `6h` or `30d`")
    })?;
    let points = width().map_or(POINTS, |columns| {
        columns.saturating_sub(BESIDE as u16).clamp(10, 80) as usize
    });
    let query = MetricsQuery {
        apps: asked.selectors.join(","),
        host: asked.machine,
        metrics: asked.metric.join(","),
        since: Some(-(since.as_millis() as f64) / 1000.0),
        until: None,
        points: Some(if output.json {
            asked.points.unwrap_or(300)
        } else {
            asked.points.unwrap_or(points)
        }),
        per: if asked.instances { Per::Instance } else { Per::App },
        follow: false,
    };
    let mut client = connect_or_start(settings).await?;
    let answer: MetricsAnswer = client.get(&with_query("/v1/metrics", &query)).await?;
    if output.json {
        output.document(&answer)?;
    } else if answer.series.is_empty() {
        output.say("no figures in that time: nothing of it ran, or it has only just begun");
    } else {
        output.text(&table(&answer, has_utf8()))?;
    }
    Ok(Exit::Done)
}

/// Whether the locale speaks UTF-8.
fn has_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// One row for each figure: whose, which, now, mean, highest, and how it went.
fn table(answer: &MetricsAnswer, utf8: bool) -> String {
    let names: Vec<String> = answer.series.iter().map(name).collect();
    let widest = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(4)
        .max(4);
    let mut text = format!(
        "{:widest$}  {:16}  {:>9}  {:>9}  {:>9}  each step {}\n",
        "name",
        "figure",
        "last",
        "mean",
        "highest",
        time::span((answer.step * 1000.0) as u64),
    );
    for (series, name) in answer.series.iter().zip(&names) {
        let known: Vec<f64> = series.values.iter().flatten().copied().collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let high = series.highs.iter().flatten().copied().fold(0.0, f64::max);
        let unit = unit(series);
        let figure = |value: f64| value_text(value, unit);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{name:widest$}  {:16}  {:>9}  {:>9}  {:>9}  {}",
            series.metric,
            known
                .last()
                .map_or_else(|| "-".to_owned(), |value| figure(*value)),
            figure(mean),
            figure(high),
            line(&series.values, if utf8 { &BLOCKS } else { &PLAIN }),
        );
    }
    text
}

fn name(series: &Series) -> String {
    match (&series.app, series.index) {
        (None, _) => "(machine)".to_owned(),
        (Some(app), None) => app.to_string(),
        (Some(app), Some(index)) => format!("{app}:{index}"),
    }
}

fn unit(series: &Series) -> &'static str {
    let of = if series.app.is_some() {
        Of::Instance
    } else {
        Of::Host
    };
    METRICS
        .iter()
        .find(|metric| metric.of == of && metric.name == series.metric)
        .map_or("", |metric| metric.unit)
}

/// A value in its unit, in nine columns.
fn value_text(value: f64, unit: &str) -> String {
    match unit {
        "cores" => format!("{:.1}%", value * 100.0),
        "bytes" => time::bytes(value as u64),
        "bytes/s" => format!("{}/s", time::bytes(value as u64)),
        "1/s" => format!("{value:.1}/s"),
        "seconds" => format!("{:.1}ms", value * 1000.0),
        _ if value.fract().abs() < 0.005 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

/// Values between nothing and their highest; a blank where nothing was seen.
fn line(values: &[Option<f64>], steps: &[char; 8]) -> String {
    let high = values.iter().flatten().copied().fold(0.0, f64::max);
    let step = |value: &Option<f64>| match value {
        None => ' ',
        Some(_) if high <= 0.0 => steps[0],
        Some(value) => steps[((value / high * 7.0).round() as usize).min(7)],
    };
    values.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_figures_reaches_from_nothing_to_its_highest() {
        let values = [Some(0.0), Some(5.0), None, Some(10.0)];
        assert_eq!(line(&values, &PLAIN), ".= #");
        assert_eq!(line(&values, &BLOCKS), "▁▅ █");
        assert_eq!(line(&[Some(0.0); 2], &PLAIN), "..");
    }

    #[test]
    fn values_are_written_in_their_unit() {
        let texts = [
            value_text(0.256, "cores"),
            value_text(3.5 * 1024.0 * 1024.0, "bytes"),
            value_text(2048.0, "bytes/s"),
            value_text(0.0012, "seconds"),
            value_text(12.0, ""),
            value_text(1.5, ""),
        ];
        assert_eq!(texts, ["25.6%", "3.5M", "2.0K/s", "1.2ms", "12", "1.50"]);
    }

    #[test]
    fn rows_say_whose_they_are() {
        let series = Series {
            app: Some(upkeep_model::id::AppName::parse("shop").expect("a name")),
            index: Some(1),
            metric: "cpu".to_owned(),
            values: vec![Some(0.5), None],
            highs: vec![Some(0.75), None],
        };
        let answer = MetricsAnswer {
            from: 0.0,
            step: 10.0,
            series: vec![series],
        };
        let text = table(&answer, false);
        assert!(text.contains("each step 10s\n"), "{text}");
        assert!(
            text.contains("shop:1  cpu                   50.0%      50.0%      75.0%  # "),
            "{text}"
        );
    }
}
