use super::*;

/// Offsets of a zone: from each second on.
struct Table(&'static [(i64, i64)]);

impl Zone for Table {
    fn stretch(&self, unix_s: i64) -> Stretch {
        let at = self.0.iter().rposition(|(from, _)| *from <= unix_s).unwrap_or(0);
        Stretch {
            start_s: (at > 0).then(|| self.0[at].0),
            before_s: if at > 0 { self.0[at - 1].1 } else { self.0[0].1 },
            offset_s: self.0[at].1,
            end_s: self.0.get(at + 1).map(|(from, _)| *from),
        }
    }
}

const UTC: Table = Table(&[(i64::MIN, 0)]);
/// 2026 in Berlin: summer time from 2026-03-29 01:00 UTC to 2026-10-25 01:00 UTC.
const BERLIN: Table = Table(&[(i64::MIN, 3600), (1_774_746_000, 7200), (1_792_890_000, 3600)]);
/// Midnight of these days in Berlin.
const MARCH_29: i64 = 1_774_746_000 - 7200;
const OCTOBER_25: i64 = 1_792_890_000 - 3 * 3600;

fn times(pattern: &str, from: i64, hours: i64) -> Vec<String> {
    let when = When::parse(pattern).expect(pattern);
    let (mut after, mut found) = (from - 1, Vec::new());
    while let Some(time) = next_time(&when, &BERLIN, after).filter(|time| *time < from + hours * 3600) {
        let civil = time + BERLIN.stretch(time).offset_s;
        let second = civil.rem_euclid(86_400);
        let offset = BERLIN.stretch(time).offset_s / 3600;
        found.push(format!("{:02}:{:02}+{offset}", second / 3600, second / 60 % 60));
        after = time;
    }
    found
}

/// The hour from 2 to 3 does not exist.
#[test]
fn a_skipped_hour_runs_once() {
    for (pattern, expected) in [
        ("30 2 * * *", vec!["03:00+2"]),
        ("*/20 2 * * *", vec!["03:00+2"]),
        ("0 2,3 * * *", vec!["03:00+2"]),
        ("30 1,3 * * *", vec!["01:30+1", "03:30+2"]),
        ("0 1-4 * * *", vec!["01:00+1", "03:00+2", "04:00+2"]),
        ("0 */1 * * *", vec!["00:00+1", "01:00+1", "03:00+2", "04:00+2"]),
        ("30 * * * *", vec!["00:30+1", "01:30+1", "03:30+2", "04:30+2"]),
        ("59 59 1 * * *", vec!["01:59+1"]),
    ] {
        assert_eq!(times(pattern, MARCH_29, 4), expected, "{pattern}");
    }
}

/// The hour from 2 to 3 comes twice.
#[test]
fn a_repeated_hour_runs_once_at_fixed_hours_and_goes_on_otherwise() {
    for (pattern, expected) in [
        ("30 2 * * *", vec!["02:30+2"]),
        ("0 2 * * *", vec!["02:00+2"]),
        ("*/30 2 * * *", vec!["02:00+2", "02:30+2"]),
        ("0 1-3 * * *", vec!["01:00+2", "02:00+2", "03:00+1"]),
        (
            "30 * * * *",
            vec!["00:30+2", "01:30+2", "02:30+2", "02:30+1", "03:30+1"],
        ),
    ] {
        assert_eq!(times(pattern, OCTOBER_25, 5), expected, "{pattern}");
    }
    // After the first time round, from within the second.
    let when = When::parse("30 2 * * *").expect("a pattern");
    let next = next_time(&when, &BERLIN, 1_792_890_000 + 60).expect("the next day");
    assert_eq!(next, OCTOBER_25 + 25 * 3600 + 2 * 3600 + 1800);
}

/// One app under a clock that a test moves.
struct Stage {
    schedule: Schedule,
    when: When,
    now: Clocks,
    clockwork: Clockwork,
    begun: bool,
    busy: bool,
    instances: u32,
}

const START: i64 = 1_800_000_000;

impl Stage {
    fn new(at: &str, change: impl FnOnce(&mut Schedule)) -> Self {
        let mut schedule = Schedule {
            at: at.to_owned(),
            timezone: None,
            jitter: Span::default(),
            overlap: Overlap::Skip,
            catch_up: CatchUp::One,
            catch_up_limit: 10,
            start_within: Span::from_secs(60),
            timeout: None,
            on_missed: None,
        };
        change(&mut schedule);
        let now = Clocks {
            unix_ms: START * 1000,
            mono_ms: 5000,
        };
        Self {
            when: When::parse(&schedule.at).expect("a pattern"),
            clockwork: Clockwork::new(&schedule, now),
            schedule,
            now,
            begun: true,
            busy: false,
            instances: 1,
        }
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            schedule: &self.schedule,
            when: &self.when,
            zone: &UTC,
            instances: self.instances,
            epoch: 1,
            seed: 7,
        }
    }

    /// Both clocks go on.
    fn pass(&mut self, seconds: i64) -> Vec<String> {
        self.now.mono_ms += seconds * 1000;
        self.set(seconds)
    }

    /// Only the real-time clock is set.
    fn set(&mut self, seconds: i64) -> Vec<String> {
        self.now.unix_ms += seconds * 1000;
        let mut clockwork = self.clockwork.clone();
        let begun = self.begun;
        let actions = clockwork.wake(&self.setting(), self.now, self.busy, |_| begun);
        self.clockwork = clockwork;
        shown(&actions)
    }

    fn finish(&mut self, number: u64, ok: bool) -> Vec<String> {
        let mut clockwork = self.clockwork.clone();
        let actions = clockwork.finished(&self.setting(), self.now, number, ok, "exit code");
        self.clockwork = clockwork;
        shown(&actions)
    }

    /// In how many milliseconds to look again.
    fn next_look(&self) -> i64 {
        let next = self.clockwork.next_look_ms(&self.setting(), self.now);
        i64::try_from(next.expect("a time")).expect("a small number")
    }

    /// The daemon is killed, and the next one reads what was durable.
    fn daemon_restarts(&mut self) {
        let text = serde_json::to_string(&self.clockwork).expect("it serialises");
        self.clockwork = serde_json::from_str(&text).expect("it reads back");
        assert!(self.clockwork.is_readable());
    }
}

fn shown(actions: &[Action]) -> Vec<String> {
    let at = |time: &i64| (time - START).to_string();
    actions
        .iter()
        .map(|action| match action {
            Action::Start { run, replace, .. } => {
                let place = run.index.map_or_else(String::new, |index| format!(" on {index}"));
                let verb = if *replace { "replace" } else { "start" };
                format!("{verb} {} for {}{place}", run.number, at(&run.due_s))
            }
            Action::Missed { count, due_s, .. } => format!("missed {count} to {}", at(due_s)),
            Action::Late { due_s, .. } => format!("late {}", at(due_s)),
            Action::Stop { run, .. } => format!("stop {}", run.number),
            Action::Note { .. } => "note".to_owned(),
        })
        .collect()
}

const NONE: [&str; 0] = [];

#[test]
fn a_time_runs_once() {
    let mut stage = Stage::new("* * * * *", |_| {});
    assert_eq!(stage.pass(59), NONE);
    assert_eq!(stage.pass(1), ["start 1 for 60"]);
    assert_eq!(stage.pass(1), NONE);
    assert_eq!(stage.finish(1, true), NONE);
    assert!(
        stage
            .clockwork
            .last
            .as_ref()
            .is_some_and(|last| last.ok && last.due_s == Some(START + 60))
    );
    stage.daemon_restarts();
    assert_eq!(stage.pass(1), NONE, "the same minute, a new daemon");
    assert_eq!(stage.pass(60), ["start 2 for 120"]);
}

#[test]
fn what_overlaps_is_decided_as_the_user_wants() {
    let mut skip = Stage::new("every 60s", |_| {});
    assert_eq!(skip.pass(60), ["start 1 for 60"]);
    assert_eq!(skip.pass(60), ["missed 1 to 120"]);
    assert_eq!(skip.finish(1, true), NONE);
    assert_eq!(skip.pass(60), ["start 2 for 180"]);

    let mut queue = Stage::new("every 60s", |schedule| schedule.overlap = Overlap::Queue);
    assert_eq!(queue.pass(60), ["start 1 for 60"]);
    for _ in 0..10 {
        assert_eq!(queue.pass(60), NONE);
    }
    assert_eq!(queue.pass(60), ["missed 1 to 720"], "ten wait at most");
    assert_eq!(queue.finish(1, true), ["late 120", "start 2 for 120"]);
    assert_eq!(queue.finish(2, false), ["late 180", "start 3 for 180"]);

    let mut replace = Stage::new("every 60s", |schedule| schedule.overlap = Overlap::Replace);
    assert_eq!(replace.pass(60), ["start 1 for 60"]);
    assert_eq!(replace.pass(60), ["replace 2 for 120"]);
    assert_eq!(replace.clockwork.last.as_ref().map(|last| last.ok), Some(false));
    assert_eq!(
        replace.finish(1, true),
        NONE,
        "told late, of a run that was replaced"
    );

    let mut allow = Stage::new("every 60s", |schedule| schedule.overlap = Overlap::Allow);
    allow.instances = 2;
    assert_eq!(allow.pass(60), ["start 1 for 60 on 0"]);
    assert_eq!(allow.pass(60), ["start 2 for 120 on 1"]);
    assert_eq!(allow.pass(60), ["missed 1 to 180"]);
    assert_eq!(allow.finish(1, true), NONE);
    assert_eq!(allow.pass(60), ["start 3 for 240 on 0"]);

    let mut by_hand = Stage::new("every 60s", |_| {});
    by_hand.busy = true;
    assert_eq!(
        by_hand.pass(60),
        ["missed 1 to 60"],
        "started by order and still at work"
    );
}

#[test]
fn downtime_is_made_up_for_as_the_user_wants() {
    let with = |catch_up, limit| {
        let mut stage = Stage::new("0 * * * *", |schedule| {
            schedule.catch_up = catch_up;
            schedule.catch_up_limit = limit;
        });
        stage.daemon_restarts();
        stage
    };
    // START is a full hour: one to six o'clock passed, ten past six it is back.
    assert_eq!(
        with(CatchUp::None, 10).pass(6 * 3600 + 600),
        ["missed 6 to 21600"]
    );
    assert_eq!(
        with(CatchUp::One, 10).pass(6 * 3600 + 600),
        ["missed 5 to 18000", "late 21600", "start 1 for 21600"]
    );
    assert_eq!(
        with(CatchUp::One, 10).pass(3600 + 600),
        ["late 3600", "start 1 for 3600"]
    );
    let mut all = with(CatchUp::All, 3);
    assert_eq!(
        all.pass(6 * 3600 + 600),
        ["missed 3 to 10800", "start 1 for 14400"]
    );
    assert_eq!(all.finish(1, true), ["late 18000", "start 2 for 18000"]);
    all.daemon_restarts();
    assert_eq!(all.finish(2, true), ["late 21600", "start 3 for 21600"]);
    assert_eq!(all.finish(3, true), NONE);
    // Back in time for six o'clock.
    assert_eq!(
        with(CatchUp::None, 10).pass(6 * 3600 + 30),
        ["missed 5 to 18000", "start 1 for 21600"]
    );
    assert_eq!(
        with(CatchUp::One, 10).pass(6 * 3600 + 30),
        ["missed 5 to 18000", "start 1 for 21600"]
    );
    // Nothing was missed.
    assert_eq!(with(CatchUp::One, 10).pass(3000), NONE);
}

#[test]
fn a_clock_that_is_set_runs_nothing_twice() {
    let mut stage = Stage::new("0 * * * *", |schedule| schedule.catch_up = CatchUp::None);
    assert_eq!(stage.pass(3600), ["start 1 for 3600"]);
    stage.finish(1, true);
    assert_eq!(stage.set(-1800), NONE, "half past again");
    assert_eq!(stage.pass(1800), NONE, "the full hour again");
    assert_eq!(stage.pass(3600), ["start 2 for 7200"]);
    stage.finish(2, true);
    assert_eq!(
        stage.set(2 * 3600 + 60),
        ["start 3 for 14400"],
        "two hours are skipped: once"
    );
    stage.finish(3, true);
    assert_eq!(
        stage.set(5 * 3600 + 600),
        ["missed 5 to 32400"],
        "so far that it is downtime"
    );
    assert_eq!(
        stage.set(-86_400 * 365),
        ["note"],
        "the clock was wrong, and is put right"
    );
    assert_eq!(stage.pass(2940), ["start 4 for -31500000"]);

    let mut every = Stage::new("every 30m", |_| {});
    assert_eq!(every.pass(1800), ["start 1 for 1800"]);
    every.finish(1, true);
    assert_eq!(every.set(-3600), NONE);
    assert_eq!(
        every.pass(1800),
        ["start 2 for 0"],
        "never longer than the interval"
    );
}

#[test]
fn a_run_has_a_limit_and_has_to_begin() {
    let mut stage = Stage::new("0 * * * *", |schedule| {
        schedule.timeout = Some(Span::from_secs(300));
    });
    stage.begun = false;
    assert_eq!(stage.pass(3600), ["start 1 for 3600"]);
    assert_eq!(stage.pass(59), NONE);
    assert_eq!(stage.pass(1), ["late 3600"]);
    assert_eq!(stage.pass(239), NONE);
    assert_eq!(stage.set(3000), NONE, "a clock that is set ends no run");
    assert_eq!(stage.pass(1), ["stop 1"]);
    assert_eq!(stage.pass(1), NONE);
    stage.finish(1, true);
    let last = stage.clockwork.last.expect("a run has ended");
    assert!(!last.ok);
    assert_eq!(last.what, "it took longer than 5m and was ended: exit code");
}

#[test]
fn a_clock_that_is_set_makes_nobody_look_without_end() {
    let mut stage = Stage::new("0 0 1 1 *", |schedule| {
        schedule.timeout = Some(Span::from_secs(300));
        schedule.catch_up = CatchUp::One;
    });
    let due = stage.next_look() / 1000 + 1;
    assert_eq!(stage.pass(due), [format!("start 1 for {}", due - due % 60)]);
    stage.begun = true;
    assert_eq!(stage.pass(100), NONE);
    assert_eq!(stage.next_look(), 200_000, "its time limit");
    // Put right by an hour, or the machine has slept: the limit of the run is by the other clock.
    assert_eq!(stage.set(3600), NONE);
    assert_eq!(stage.next_look(), 200_000);
    assert_eq!(stage.set(-2 * 3600), NONE);
    assert_eq!(stage.next_look(), 200_000);
    assert_eq!(stage.pass(200), ["stop 1"]);
    assert!(stage.next_look() > 3_600_000, "nothing more is due");
}

#[test]
fn what_came_while_it_was_stopped_is_never_made_up_for() {
    let mut stage = Stage::new("0 * * * *", |schedule| schedule.catch_up = CatchUp::All);
    stage.clockwork.pause(stage.now);
    assert!(stage.clockwork.paused);
    let stopped = stage.clockwork.clone();
    stage.now.unix_ms += 48 * 3_600_000;
    stage.now.mono_ms += 48 * 3_600_000;
    // In another daemon: durable is what was when it was stopped.
    stage.clockwork = stopped;
    stage.daemon_restarts();
    stage.clockwork.arm(stage.now);
    assert!(!stage.clockwork.paused);
    assert_eq!(stage.pass(1800), NONE);
    // And in the one after it.
    stage.daemon_restarts();
    stage.clockwork.arm(stage.now);
    assert_eq!(stage.pass(1), NONE);
    let due = 49 * 3600;
    assert_eq!(stage.pass(1799), [format!("start 1 for {due}")]);
    // Who was not paused is not told from anew by being armed.
    stage.finish(1, true);
    stage.now.unix_ms += 3_600_000;
    stage.now.mono_ms += 3_600_000;
    stage.clockwork.arm(stage.now);
    assert_eq!(stage.pass(0), [format!("start 2 for {}", due + 3600)]);
}

#[test]
fn jitter_puts_off_by_the_same_time_again() {
    let mut stage = Stage::new("0 * * * *", |schedule| schedule.jitter = Span::from_secs(600));
    let at = stage.next_look() / 1000;
    assert!((3600..=4200).contains(&at), "{at}");
    assert_eq!(stage.pass(at - 1), NONE);
    stage.daemon_restarts();
    assert_eq!(stage.pass(1), ["start 1 for 3600"]);
    let mut spread = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let setting = Setting {
            seed,
            ..stage.setting()
        };
        spread.insert(setting.next_start(START));
    }
    assert!(spread.len() > 60, "{}", spread.len());
}

#[test]
fn what_was_decided_and_not_asked_for_is_told() {
    let mut stage = Stage::new("every 60s", |_| {});
    assert_eq!(stage.pass(60), ["start 1 for 60"]);
    stage.daemon_restarts();
    assert_eq!(stage.clockwork.unasked(|_| 0).len(), 1);
    assert_eq!(stage.clockwork.unasked(|_| 1).len(), 0);
}

#[test]
fn a_stopped_app_misses_nothing_and_another_pattern_begins_anew() {
    let mut stage = Stage::new("every 60s", |_| {});
    stage.now.unix_ms += 600_000;
    stage.now.mono_ms += 600_000;
    stage.clockwork.pause(stage.now);
    assert_eq!(stage.pass(30), NONE);
    assert_eq!(stage.pass(30), ["start 1 for 660"]);
    stage.finish(1, true);
    let other = Schedule {
        at: "every 10s".to_owned(),
        ..stage.schedule.clone()
    };
    assert!(stage.clockwork.adopt(&other, stage.now));
    assert!(!stage.clockwork.adopt(&other, stage.now));
    assert_eq!(stage.clockwork.handled_s, START + 660);
}

/// A year of seconds that nobody was there for.
#[test]
fn a_long_downtime_is_looked_through_quickly() {
    let mut stage = Stage::new("* * * * * *", |_| {});
    stage.daemon_restarts();
    let actions = stage.pass(365 * 86_400);
    assert_eq!(actions.len(), 2, "{actions:?}");
    assert!(actions[1].starts_with("start 1"), "{actions:?}");
}
