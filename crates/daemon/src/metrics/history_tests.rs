//! The history over days that take milliseconds.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::float_cmp,
    reason = "figures that are written come back as they were"
)]

use std::{collections::BTreeMap, path::Path};

use upkeep_api::metrics::{MetricsAnswer, Per, Series};
use upkeep_model::id::AppName;
use upkeep_store::blocks::{Batch, Blocks};

use super::{
    columns::{Values, WIDTH, instance},
    history::{History, SeriesName},
    query::{Query, VALUES_MAX},
};

const DAY: u64 = 24 * 3600;
/// A quarter of an hour begins here.
const START: u64 = 1_795_000_500;

fn name(index: u32) -> SeriesName {
    SeriesName {
        app: Some(AppName::parse("shop").expect("a name")),
        index,
    }
}

fn values(cpu: f64, memory: f64) -> Values {
    let mut values = [None; WIDTH];
    values[instance::CPU] = Some(cpu);
    values[instance::MEMORY] = Some(memory);
    values
}

fn push(history: &History, at: u64, index: u32, cpu: f64) {
    let name = name(index);
    let id = history.id(&name);
    let values = values(cpu, 1024.0 * 1000.0);
    history.push(at, [(id, &name, &values)]);
    // In truth there are ten minutes for what fits into the queue.
    if at.is_multiple_of(300) {
        history.flush();
    }
}

fn ask(history: &History, since: u64, until: u64, points: usize, per: Per, now: u64) -> MetricsAnswer {
    let query = Query {
        apps: BTreeMap::from([(AppName::parse("shop").expect("a name"), None)]),
        host: false,
        metrics: vec!["cpu"],
        since: since as f64,
        until: until as f64,
        points,
        per,
    };
    history.query(&query, now)
}

fn only(answer: &MetricsAnswer) -> &Series {
    assert_eq!(answer.series.len(), 1, "{answer:?}");
    &answer.series[0]
}

#[test]
fn seconds_come_back_as_they_were_and_merge_to_means_and_highs() {
    let history = History::in_memory();
    for second in 0..120 {
        push(&history, START + second, 0, second as f64 / 100.0);
    }
    let now = START + 120;
    let answer = ask(&history, START, now, 300, Per::App, now);
    assert_eq!((answer.from, answer.step), (START as f64, 1.0));
    let series = only(&answer);
    assert_eq!(series.values.len(), 120);
    assert_eq!(series.values[7], Some(0.07));
    let answer = ask(&history, START, now, 12, Per::App, now);
    assert_eq!(answer.step, 10.0);
    let series = only(&answer);
    assert!(
        (series.values[1].expect("a value") - 0.145).abs() < 1e-9,
        "{series:?}"
    );
    assert_eq!(series.highs[1], Some(0.19));
}

#[test]
fn an_app_is_the_sum_of_its_instances_also_while_one_is_away() {
    let history = History::in_memory();
    let names = [name(0), name(1)];
    let ids = names.each_ref().map(|name| history.id(name));
    for second in 0..20 {
        let values = values(0.5, 1.0);
        // The second one ends after ten seconds.
        let there = if second < 10 { 2 } else { 1 };
        let rows = ids.into_iter().zip(&names).map(|(id, name)| (id, name, &values));
        history.push(START + second, rows.take(there));
    }
    let now = START + 20;
    let answer = ask(&history, START, now, 2, Per::App, now);
    assert_eq!(only(&answer).values, [Some(1.0), Some(0.5)]);
    let answer = ask(&history, START, now, 2, Per::Instance, now);
    let found: Vec<_> = answer
        .series
        .iter()
        .map(|series| (series.index, series.values[1]))
        .collect();
    assert_eq!(found, [(Some(0), Some(0.5)), (Some(1), None)]);
}

#[test]
fn rings_cover_their_spans_and_what_is_older_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (history, _) = History::open(&dir.path().join("metrics.redb"), START).expect("a history");
    // A second of each minute of two days.
    let end = START + 2 * DAY;
    for at in (START..end).step_by(60) {
        push(&history, at, 0, if at < START + DAY { 1.0 } else { 2.0 });
    }
    history.flush();
    let day = ask(&history, end - DAY, end, 10_000, Per::App, end);
    assert_eq!(day.step, 10.0);
    let values = &only(&day).values;
    assert!(
        values.len() >= 8640
            && values.iter().flatten().count() >= 1439
            && values.iter().flatten().all(|value| *value == 2.0),
        "{}",
        values.len()
    );
    let both = ask(&history, START, end, 10_000, Per::App, end);
    assert_eq!(both.step, 300.0);
    let values = &only(&both).values;
    assert_eq!(values.len(), 576, "two days of five minutes");
    assert_eq!(
        (values[0], values[10], values[500]),
        (Some(1.0), Some(1.0), Some(2.0))
    );
    // Tens of two days ago are no longer there.
    assert!(
        history
            .stored(super::history::TENS, 0, START, START + 12 * 3600)
            .is_empty()
    );
}

#[test]
fn what_was_journalled_survives_the_end_of_the_daemon_at_any_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.redb");
    let mut now = START;
    let mut known = 0;
    // Ends in the midst of ten seconds, right before and after a block, and long after.
    for lived in [7, 95, 800, 1, 12, 2000] {
        let (history, aside) = History::open(&path, now).expect("a history");
        assert_eq!(aside, None);
        if known > 0 {
            let answer = ask(&history, START, now, 10_000, Per::App, now);
            let seen = only(&answer).values.iter().flatten().count() as u64 * answer.step as u64;
            assert!(
                seen + 10 + answer.step as u64 >= known,
                "{seen} s of {known} after {lived}"
            );
        }
        for second in 0..lived {
            push(&history, now + second, 0, 1.0);
        }
        now += lived;
        history.flush();
        known = now - START;
        known -= known % 10;
    }
}

#[test]
fn what_was_journalled_survives_a_night() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.redb");
    let (history, _) = History::open(&path, START).expect("a history");
    for second in 0..700 {
        push(&history, START + second, 0, 1.0);
    }
    drop(history);
    let morning = START + 10 * 3600;
    for _ in 0..2 {
        let (history, _) = History::open(&path, morning).expect("a history");
        let seen = |now: u64| {
            let answer = ask(&history, START, START + 900, 10_000, Per::App, now);
            only(&answer).values.iter().flatten().count()
        };
        assert_eq!(seen(morning), 69, "from the journal");
        for second in 0..30 {
            push(&history, morning + second, 0, 1.0);
        }
        history.flush();
        assert_eq!(seen(morning + 30), 69, "from its block");
        history.end();
    }
}

#[test]
fn names_of_many_that_come_at_once_are_kept_and_numbers_are_nobody_elses() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.redb");
    {
        let (blocks, _) = Blocks::open(&path).expect("a file");
        let puts = vec![((super::history::FIVES, 7, START), vec![0])];
        let deletes = Vec::new();
        blocks.write(&Batch { deletes, puts }).expect("it is written");
    }
    let (history, _) = History::open(&path, START).expect("a history");
    let names: Vec<SeriesName> = (0..500).map(name).collect();
    let ids: Vec<u32> = names.iter().map(|name| history.id(name)).collect();
    assert_eq!(ids.first(), Some(&8), "figures of 7 have lost their name");
    let figures = values(1.0, 1.0);
    history.push(
        START,
        ids.iter()
            .copied()
            .zip(&names)
            .map(|(id, name)| (id, name, &figures)),
    );
    history.flush();
    drop(history);
    let (history, _) = History::open(&path, START + 10).expect("a history");
    assert_eq!(history.names().len(), 500);
    let again: Vec<u32> = names.iter().map(|name| history.id(name)).collect();
    assert_eq!(again, ids);
    let answer = ask(&history, START, START + 900, 10_000, Per::Instance, START + 10);
    let count: usize = answer.series.iter().map(|series| series.values.len()).sum();
    assert!(count <= 2 * VALUES_MAX, "{count} values");
}

#[test]
fn a_clock_that_goes_back_or_far_ahead_costs_no_history() {
    let dir = tempfile::tempdir().expect("a directory");
    let (history, _) = History::open(&dir.path().join("metrics.redb"), START).expect("a history");
    for second in 0..3000 {
        push(&history, START + second, 0, 1.0);
    }
    // A hundred years ahead for a moment, then an hour back.
    for second in 0..30 {
        push(&history, START + 36_500 * DAY + second, 0, 9.0);
    }
    let back = START + 2000;
    for second in 0..700 {
        push(&history, back + second, 0, 3.0);
    }
    history.flush();
    let now = back + 700;
    let answer = ask(&history, START, now, 10_000, Per::App, now);
    assert_eq!(answer.step, 10.0);
    let values = &only(&answer).values;
    let at = |second: usize| values[second / 10];
    assert_eq!(
        (at(100), at(1900), at(2300)),
        (Some(1.0), Some(1.0), Some(3.0)),
        "{values:?}"
    );
    let seconds = ask(&history, now - 600, now, 1000, Per::App, now);
    assert!(only(&seconds).values.iter().flatten().all(|value| *value == 3.0));
    // Slewing by a second drops nothing.
    push(&history, now - 1, 0, 5.0);
    push(&history, now, 0, 3.0);
    assert!(ask(&history, back, now, 1000, Per::App, now).series.len() == 1);
}

#[test]
fn a_disk_that_takes_nothing_holds_nobody_up_and_gets_it_later() {
    let history = {
        let dir = tempfile::tempdir().expect("a directory");
        let (history, _) = History::open(&dir.path().join("metrics.redb"), START).expect("a history");
        history
    };
    // The directory is gone, the open file is not: rows are taken all the same.
    for second in 0..2000 {
        push(&history, START + second, 0, 1.0);
    }
    history.flush();
    let now = START + 2000;
    let answer = ask(&history, START, now, 10_000, Per::App, now);
    assert!(only(&answer).values.iter().flatten().count() >= 199);
}

/// A history of an app with two busy instances, as the sampler would have written it.
fn filled(path: &Path, start: u64, end: u64) -> History {
    let (history, _) = History::open(path, start).expect("a history");
    let names = [name(0), name(1)];
    let ids = names.each_ref().map(|name| history.id(name));
    let mut noise = 88_172_645_463_325_252_u64;
    for at in (start..end).step_by(290) {
        let mut values = [None; WIDTH];
        for (column, value) in values.iter_mut().enumerate().take(15) {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            *value = Some((noise % 1000) as f64 * 10_f64.powi(column as i32 % 6));
        }
        let rows = ids.into_iter().zip(&names).map(|(id, name)| (id, name, &values));
        history.push(at, rows);
        if (at / 290).is_multiple_of(25) {
            history.flush();
        }
    }
    history.flush();
    history
}

/// Leaves 91 days of `shop`, up to now, in the file that `UPKEEP_FILL_HISTORY` names, for `cargo xtask bench metrics`.
#[test]
#[ignore = "the bench asks for it"]
fn fill_a_file_for_the_bench() {
    let path = std::env::var_os("UPKEEP_FILL_HISTORY").expect("UPKEEP_FILL_HISTORY, the file to fill");
    let now = upkeep_sys::clock::unix_ms() / 1000;
    let history = filled(Path::new(&path), now - 91 * DAY, now - 300);
    assert_eq!(history.names().len(), 2);
}

/// What the promises say of the size, on a month of an app with two busy instances. How long reading takes is measured by
/// `cargo xtask bench metrics`.
#[test]
fn a_month_is_read_and_the_file_stays_small() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.redb");
    let month = 30 * DAY;
    let end = START + month;
    let history = filled(&path, START, end);
    let query = Query {
        apps: BTreeMap::from([(AppName::parse("shop").expect("a name"), None)]),
        host: false,
        metrics: Vec::new(),
        since: START as f64,
        until: end as f64,
        points: 300,
        per: Per::App,
    };
    let answer = history.query(&query, end);
    let points: usize = answer
        .series
        .iter()
        .map(|series| series.values.iter().flatten().count())
        .sum();
    assert_eq!(answer.series.len(), 15);
    assert!(points > 15 * 250, "{points} values");
    let file = std::fs::metadata(&path).expect("the file").len();
    drop(history);
    assert!(file < 20 << 20, "{file} bytes");
}
