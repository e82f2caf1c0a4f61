use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

fn rule(name: &str, kind: RuleKind) -> Rule {
    Rule {
        name: name.to_owned(),
        kind,
        severity: Severity::Warning,
        hold_ms: MINUTE,
        resolve_after_ms: MINUTE,
        repeat_ms: 60 * MINUTE,
        in_quiet: false,
    }
}

fn engine(rules: Vec<Rule>) -> Engine {
    let mut engine = Engine::default();
    engine.set_rules(rules, 5 * SECOND);
    engine
}

fn nobody(_: &str) -> bool {
    false
}

/// Ticks every second until `until_s`; what is told, as `second rule subject state count`.
fn run(
    engine: &mut Engine,
    from_s: u64,
    until_s: u64,
    quiet: &dyn Fn(u64) -> bool,
    see: &mut dyn FnMut(&mut Engine, u64),
) -> Vec<String> {
    let mut told = Vec::new();
    for second in from_s..until_s {
        see(engine, second);
        for notification in engine.tick(second * SECOND, quiet(second), &nobody) {
            for entry in notification.entries {
                told.push(format!(
                    "{second} {} {} {:?} {}",
                    notification.rule.name, entry.subject, entry.state, entry.count
                ));
            }
        }
    }
    told
}

#[test]
fn a_level_must_hold_is_repeated_and_ends_once() {
    let mut engine = engine(vec![rule("memory", RuleKind::OverLimit)]);
    let told = run(&mut engine, 0, 8000, &|_| false, &mut |engine, second| {
        // A spike that is too short, then a long one with a wobble between the borders.
        let value = match second {
            100..130 => 95.0,
            200..5000 if second % 7 == 0 => 85.0,
            200..5000 => 95.0,
            _ => 50.0,
        };
        engine.see(
            second * SECOND,
            "memory",
            "shop:0",
            Level::of(value, 90.0, 80.0),
            "memory",
        );
    });
    assert_eq!(
        told,
        [
            "265 memory shop:0 Firing 1",
            "3870 memory shop:0 Repeated 1",
            "5065 memory shop:0 Resolved 1",
        ]
    );
    assert!(engine.is_idle());
}

#[test]
fn a_crash_loop_is_one_message_now_and_one_an_hour() {
    let mut engine = engine(vec![rule("crash", RuleKind::Crash)]);
    let told = run(&mut engine, 0, 7300, &|_| false, &mut |engine, second| {
        engine.occur(second * SECOND, "crash", "shop:0", "exit code 1", Some(second));
    });
    assert_eq!(
        told,
        [
            "5 crash shop:0 Firing 6",
            "3610 crash shop:0 Repeated 3611",
            "7215 crash shop:0 Repeated 7216",
        ]
    );
}

#[test]
fn many_at_once_are_one_message() {
    let mut engine = engine(vec![rule("crash", RuleKind::Crash)]);
    for app in 0..6000 {
        engine.occur(0, "crash", &format!("app{app}:0"), "exit code 1", None);
    }
    assert!(engine.tick(0, false, &nobody).is_empty());
    let told = engine.tick(5 * SECOND, false, &nobody);
    assert_eq!((told.len(), told[0].entries.len()), (1, ENTRIES_MAX));
    assert_eq!(told[0].more as usize, 6000 - ENTRIES_MAX, "all are counted");
}

#[test]
fn quiet_hours_gather_and_urgent_rules_pass() {
    let urgent = Rule {
        in_quiet: true,
        ..rule("loop", RuleKind::CrashLoop)
    };
    let mut engine = engine(vec![rule("crash", RuleKind::Crash), urgent]);
    let quiet = |second: u64| second < 1000;
    let told = run(&mut engine, 0, 1200, &quiet, &mut |engine, second| {
        if second == 10 || second == 500 {
            engine.occur(second * SECOND, "crash", "shop:0", "exit code 1", None);
            engine.occur(second * SECOND, "loop", "shop:0", "gave up", None);
        }
    });
    assert_eq!(
        told,
        [
            "15 loop shop:0 Firing 1",
            "505 loop shop:0 Firing 1",
            "1000 crash shop:0 Firing 2",
        ]
    );
}

#[test]
fn a_silence_holds_back_what_goes_on() {
    let mut engine = engine(vec![rule("missing", RuleKind::AppMissing)]);
    let silenced = |subject: &str| subject == "shop:0";
    let mut told = Vec::new();
    for second in 0..400 {
        let now = second * SECOND;
        for subject in ["shop:0", "web:0"] {
            engine.see(now, "missing", subject, Level::Bad, "stopped");
        }
        let silenced: &dyn Fn(&str) -> bool = if second < 300 { &silenced } else { &nobody };
        for notification in engine.tick(now, false, silenced) {
            told.extend(
                notification
                    .entries
                    .into_iter()
                    .map(|entry| format!("{second} {}", entry.subject)),
            );
        }
    }
    assert_eq!(told, ["65 web:0", "305 shop:0"]);
}

#[test]
fn the_next_daemon_goes_on_where_this_one_was() {
    let mut engine = engine(vec![rule("missing", RuleKind::AppMissing)]);
    for second in 0..70 {
        engine.see(second * SECOND, "missing", "shop:0", Level::Bad, "stopped");
        engine.tick(second * SECOND, false, &nobody);
    }
    let text = serde_json::to_string(&engine).expect("it can be written");
    let mut next: Engine = serde_json::from_str(&text).expect("it can be read");
    next.set_rules(vec![rule("missing", RuleKind::AppMissing)], 5 * SECOND);
    // After a reboot its clock is younger than the alert.
    next.shift(70 * SECOND, 10 * SECOND);
    let told = run(&mut next, 10, 200, &|_| false, &mut |engine, second| {
        engine.see(second * SECOND, "missing", "shop:0", Level::Good, "running");
    });
    assert_eq!(
        told,
        ["75 missing shop:0 Resolved 1"],
        "it is not told twice that it began"
    );
}

#[test]
fn what_is_deleted_ends() {
    let mut engine = engine(vec![rule("missing", RuleKind::AppMissing)]);
    let told = run(&mut engine, 0, 300, &|_| false, &mut |engine, second| {
        if second < 100 {
            engine.see(second * SECOND, "missing", "shop:0", Level::Bad, "stopped");
        } else {
            engine.retain(second * SECOND, &|_, _| false);
        }
    });
    assert_eq!(
        told,
        ["65 missing shop:0 Firing 1", "165 missing shop:0 Resolved 1"]
    );
    assert!(engine.is_idle());
}

proptest! {
    /// Whatever happens when: an end is told only after a beginning, and nothing more often than it may.
    #[test]
    fn messages_are_well_formed(steps in prop::collection::vec((0_u64..5000, 0_u8..6, any::<bool>(), any::<bool>()), 1..300)) {
        let rules = vec![rule("level", RuleKind::OverLimit), rule("crash", RuleKind::Crash)];
        let mut engine = engine(rules);
        let mut now = 0_u64;
        let mut open = std::collections::BTreeSet::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for (pause, what, quiet, silent) in steps {
            now += pause * 20;
            match what {
                0 => { engine.see(now, "level", "a:0", Level::Bad, "x"); }
                1 => { engine.see(now, "level", "a:0", Level::Between, "x"); }
                2 => { engine.see(now, "level", "a:0", Level::Good, "x"); }
                3 => engine.occur(now, "crash", "a:0", "x", None),
                4 => { engine.retain(now, &|_, _| false); }
                _ => {}
            }
            for notification in engine.tick(now, quiet, &|_| silent) {
                prop_assert!(!notification.entries.is_empty());
                prop_assert!(!quiet);
                for entry in notification.entries {
                    let key = format!("{} {}", notification.rule.name, entry.subject);
                    match entry.state {
                        State::Firing => { open.insert(key.clone()); }
                        State::Repeated => {
                            prop_assert!(open.contains(&key));
                            prop_assert!(now - last[&key] >= 60 * MINUTE);
                        }
                        State::Resolved => { open.remove(&key); }
                    }
                    last.insert(key, now);
                }
            }
        }
    }
}

#[test]
fn what_is_gone_before_it_counts_is_not_told() {
    let mut engine = engine(vec![rule("missing", RuleKind::AppMissing)]);
    let told = run(&mut engine, 0, 1000, &|_| false, &mut |engine, second| {
        if second < 20 {
            engine.see(second * SECOND, "missing", "shop:0", Level::Bad, "gone");
        } else {
            engine.retain(second * SECOND, &|_, _| false);
        }
    });
    assert_eq!(told, Vec::<String>::new());
    assert!(engine.is_idle());
}

#[test]
fn an_event_that_looks_confirm_is_repeated_and_ends() {
    let mut engine = engine(vec![rule("leak", RuleKind::Leak)]);
    let told = run(&mut engine, 0, 6000, &|_| false, &mut |engine, second| {
        if second == 3 {
            engine.occur(second * SECOND, "leak", "shop:0", "it grows", Some(7));
        }
        if second >= 5 && second.is_multiple_of(5) {
            let level = if second < 5000 { Level::Bad } else { Level::Good };
            engine.see(second * SECOND, "leak", "shop:0", level, "it grows");
        }
    });
    assert_eq!(
        told,
        [
            "8 leak shop:0 Firing 1",
            "3613 leak shop:0 Repeated 1",
            "5065 leak shop:0 Resolved 1"
        ]
    );
    // One that no look ever shows stays what it was.
    let told = run(&mut engine, 6000, 12_000, &|_| false, &mut |engine, second| {
        if second == 6000 {
            engine.occur(second * SECOND, "leak", "shop:1", "it was killed", Some(8));
        }
        if second.is_multiple_of(5) {
            engine.see(second * SECOND, "leak", "shop:1", Level::Good, "");
        }
    });
    assert_eq!(told, ["6005 leak shop:1 Firing 1"]);
}
