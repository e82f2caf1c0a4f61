//! Health as files: `tests/health/*.txt`, in the manner of `tests/cases`: what happens at the margin, what follows
//! indented below it. `UPDATE_CASES=1` writes the answers anew.
//!
//! ```text
//! plan grace=SPAN [ROLE WAY [period=SPAN] [delay=SPAN] [failures=N] [successes=N] [jitter=SPAN] [grace=SPAN]]…
//! [at SPAN] start PID         the process starts now
//! [at SPAN] due               which checks are to be asked
//! [at SPAN] ok ROLE | fail ROLE WHY
//! [at SPAN] told ready|reloading|stopping|alive|trigger|message|line ROLE|watchdog SPAN|more SPAN
//! [at SPAN] deadline          a deadline is looked at
//! [at SPAN] resume            the daemon restarts
//! dice N                      the next random numbers
//! ```

use std::{fmt::Write as _, fs, path::Path};

use upkeep_model::{exit::signal_name, size::Span};
use upkeep_supervise::health::{Health, Plan, Reply, Role, Rule, Verdict, Way, Word};

fn millis(text: &str) -> u64 {
    text.parse::<Span>()
        .unwrap_or_else(|error| panic!("{error}"))
        .as_millis()
}

fn role(text: &str) -> Role {
    Role::ALL
        .into_iter()
        .find(|role| role.as_str() == text)
        .unwrap_or_else(|| panic!("no check `{text}`"))
}

fn reply(which: &str, failure: Option<String>) -> Reply {
    Reply {
        role: role(which),
        took_ms: 5,
        failure,
    }
}

fn plan(words: &[&str]) -> Plan {
    let mut plan = Plan {
        stop_grace_ms: 15_000,
        ..Plan::default()
    };
    let mut at: Option<Role> = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some((key, value)) = word.split_once('=') {
            let rule = match at {
                Some(Role::Startup) => plan.startup.as_mut(),
                Some(Role::Readiness) => plan.readiness.as_mut(),
                Some(Role::Liveness) => plan.liveness.as_mut(),
                None => None,
            };
            let Some(rule) = rule else {
                assert_eq!(key, "grace", "of the stop policy");
                plan.stop_grace_ms = millis(value);
                continue;
            };
            match key {
                "period" => rule.period_ms = millis(value),
                "delay" => rule.initial_delay_ms = millis(value),
                "failures" => rule.failure_threshold = value.parse().expect("a number"),
                "successes" => rule.success_threshold = value.parse().expect("a number"),
                "jitter" => rule.jitter_ms = millis(value),
                "grace" => rule.grace = Some(value.parse().expect("a span")),
                _ => panic!("`{word}`"),
            }
            continue;
        }
        let which = role(word);
        let way = match *words.next().expect("a way") {
            "asked" => Way::Asked,
            "line" => Way::Line,
            "notify" => Way::Notify,
            "message" => Way::Message,
            other => panic!("no way `{other}`"),
        };
        let rule = Some(Rule {
            way,
            period_ms: 10_000,
            initial_delay_ms: 0,
            failure_threshold: 3,
            success_threshold: 1,
            jitter_ms: 0,
            grace: None,
        });
        match which {
            Role::Startup => plan.startup = rule,
            Role::Readiness => plan.readiness = rule,
            Role::Liveness => plan.liveness = rule,
        }
        at = Some(which);
    }
    plan
}

fn word(words: &[&str]) -> Word {
    match words {
        ["ready"] => Word::Ready,
        ["reloading"] => Word::Reloading,
        ["stopping"] => Word::Stopping,
        ["alive"] => Word::Alive,
        ["trigger"] => Word::Trigger,
        ["message"] => Word::Message,
        ["line", which] => Word::Line(role(which)),
        ["watchdog", span] => Word::WatchdogEvery { millis: millis(span) },
        ["more", span] => Word::MoreTime { millis: millis(span) },
        _ => panic!("no word `{}`", words.join(" ")),
    }
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ready => "ready".to_owned(),
        Verdict::Unready { why } => format!("unready: {why}"),
        Verdict::Unhealthy { why, signal, grace } => {
            let signal = signal.map_or_else(String::new, |signal| format!(" ({})", signal_name(signal)));
            let grace = grace.map_or_else(String::new, |grace| format!(" (grace {grace})"));
            format!("unhealthy{signal}{grace}: {why}")
        }
        Verdict::MoreTime { until_ms } => format!("more time until {}", Span::from_millis(*until_ms)),
    }
}

fn play(script: &str) -> String {
    let (mut now, mut dice) = (0, 0);
    let mut rules = Plan::default();
    let mut health: Option<Health> = None;
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        out += line;
        out.push('\n');
        let mut rest = line;
        if let Some(timed) = line.strip_prefix("at ") {
            let (span, event) = timed.split_once(' ').expect("an event after the time");
            assert!(millis(span) >= now, "time goes backwards: {line}");
            now = millis(span);
            rest = event;
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        let verdicts = match (words.as_slice(), &mut health) {
            ([], _) => continue,
            ([first, ..], _) if first.starts_with('#') => continue,
            (["plan", words @ ..], _) => {
                rules = plan(words);
                continue;
            }
            (["dice", number], _) => {
                dice = number.parse().expect("a number");
                continue;
            }
            (["start", pid], health) => {
                *health = Some(Health::new(&rules, pid.parse().expect("a pid"), now, now, dice));
                Vec::new()
            }
            (["resume"], Some(health)) => {
                let text = serde_json::to_string(health).expect("it serialises");
                *health = serde_json::from_str(&text).expect("it reads back");
                health.resume(&rules, now, dice);
                Vec::new()
            }
            (["due"], Some(health)) => {
                for role in health.due(now) {
                    writeln!(out, "  ask {}", role.as_str()).expect("a string");
                }
                Vec::new()
            }
            (["ok", which], Some(health)) => health.answered(&rules, now, reply(which, None), dice),
            (["fail", which, why @ ..], Some(health)) => {
                health.answered(&rules, now, reply(which, Some(why.join(" "))), dice)
            }
            (["told", words @ ..], Some(health)) => health.told(&rules, now, word(words), dice),
            (["deadline"], Some(health)) => health.check_deadlines(&rules, now),
            _ => panic!("what is `{line}`?"),
        };
        for verdict in &verdicts {
            writeln!(out, "  -> {}", shown(verdict)).expect("a string");
        }
        let next = health.as_ref().and_then(Health::next_ms);
        let next = next.map_or_else(|| "nothing".to_owned(), |at| Span::from_millis(at).to_string());
        writeln!(out, "  = {} next {next}", Span::from_millis(now)).expect("a string");
    }
    out
}

#[test]
fn health_answers_as_its_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/health");
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 10, "only {} scenarios", paths.len());
    for path in paths {
        let written = fs::read_to_string(&path).expect("a scenario");
        let played = std::panic::catch_unwind(|| play(&written))
            .unwrap_or_else(|_| panic!("{} cannot be played", path.display()));
        if update {
            fs::write(&path, &played).expect("writing it");
        } else {
            assert_eq!(
                played,
                written,
                "{} (UPDATE_CASES=1 writes it anew)",
                path.display()
            );
        }
    }
}

/// A hundred processes that were started at once are asked apart once they are steady.
#[test]
fn a_hundred_checks_are_not_made_at_once() {
    let rules = plan(&["readiness", "asked", "jitter=1s"]);
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut seconds = [0_u32; 10];
    for pid in 0..100 {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let roll = dice >> 20;
        let mut health = Health::new(&rules, pid, 0, 0, roll);
        assert_eq!(health.due(50), [Role::Readiness]);
        assert_eq!(
            health.answered(&rules, 51, reply("readiness", None), roll),
            [Verdict::Ready]
        );
        let next = health.next_ms().expect("the first steady question");
        assert!((51..=10_060).contains(&next), "{next}");
        seconds[usize::try_from((next.min(9_999)) / 1000).expect("small")] += 1;
    }
    assert!(
        seconds.iter().all(|count| (1..=30).contains(count)),
        "{seconds:?}"
    );
}
