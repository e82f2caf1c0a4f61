//! Apps that are run by the clock: every time once, whatever is killed, and what did not run is said.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde_json::{Value, json};
use upkeep_e2e::{Dice, LONG, apply, events, kill_daemon, with};
use upkeep_testkit::{Home, pass, wait_until};

/// A job that writes a line, does something and ends.
fn job(home: &Home, name: &str, rest: &str, schedule: Value) -> (Value, std::path::PathBuf) {
    let lines = home.work().join(format!("{name}.lines"));
    let command = format!("echo run >> {}; {rest}", lines.display());
    let app = json!({"name": name, "command": ["/bin/sh", "-c", command], "schedule": schedule});
    (app, lines)
}

fn count(lines: &Path) -> usize {
    fs::read_to_string(lines).map_or(0, |text| text.lines().count())
}

#[track_caller]
fn wait_for_lines(lines: &Path, wanted: usize) {
    wait_until(&format!("{wanted} runs"), LONG, || match count(lines) {
        found if found >= wanted => Ok(()),
        found => Err(format!("{found} runs")),
    });
}

#[track_caller]
fn wait_for_event(home: &Home, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_until(&format!("an event `{what}`"), LONG, || {
        let all = events(home);
        let found = all.iter().find(|event| event["what"] == what && wanted(event));
        found.cloned().ok_or_else(|| {
            let last: Vec<String> = all.iter().rev().take(6).map(ToString::to_string).collect();
            last.join("\n")
        })
    })
}

#[test]
fn a_job_runs_again_and_again_and_is_not_kept_running() {
    let home = Home::new();
    let (app, lines) = job(&home, "tick", "true", json!("* * * * * *"));
    apply(&home, &[app]);
    wait_for_lines(&lines, 3);
    let ended = wait_for_event(&home, "run_ended", |event| event["result"] == "ok");
    assert!(ended["details"]["run"].as_u64() > Some(0), "{ended}");
    let list = home.json(["schedule", "ls"]);
    let schedule = &list["schedules"][0];
    assert_eq!(
        (&schedule["app"], &schedule["at"]),
        (&json!("tick"), &json!("* * * * * *"))
    );
    assert_eq!(schedule["last"]["ok"], true, "{schedule}");
    assert!(schedule["next"].as_f64() > Some(1.0), "{schedule}");
    let text = home.ok(["ls"]);
    assert!(text.contains("next ") || text.contains("running"), "{text}");
    for verb in [["show", "tick"], ["why", "tick"]] {
        let text = home.ok(verb);
        assert!(
            text.contains("next run  ") && text.contains("last run  ok"),
            "{text}"
        );
    }
    assert!(home.ok(["schedule", "ls"]).contains("ok "));
    // Stopped: nothing runs. Started: at once.
    home.ok(["stop", "tick"]);
    let stopped = count(&lines);
    pass(Duration::from_secs(3));
    assert_eq!(count(&lines), stopped, "it was stopped");
    assert!(home.ok(["schedule", "ls"]).contains("paused"));
    home.ok(["start", "tick"]);
    wait_for_lines(&lines, stopped + 2);
}

#[test]
fn start_runs_it_now_and_apply_does_not() {
    let home = Home::new();
    let (app, lines) = job(
        &home,
        "yearly",
        "exit 3",
        json!({"at": "@yearly", "timezone": "Europe/Berlin"}),
    );
    apply(&home, std::slice::from_ref(&app));
    home.ok(["apply", "upkeep.json"]);
    assert_eq!(count(&lines), 0, "its time has not come");
    let list = home.ok(["ls"]);
    assert!(list.contains("scheduled"), "{list}");
    home.cmd(["start", "yearly"]);
    wait_for_lines(&lines, 1);
    let ended = wait_for_event(&home, "run_ended", |_| true);
    assert!(
        ended["result"].as_str().unwrap_or_default().starts_with("failed"),
        "{ended}"
    );
    assert!(
        ended["why"].as_str().unwrap_or_default().contains("exit code 3"),
        "{ended}"
    );
    let next = home.ok(["schedule", "next", "yearly", "-n", "2"]);
    let times: Vec<&str> = next.lines().collect();
    assert_eq!(times.len(), 2, "{next}");
    assert!(
        times.iter().all(|time| time.contains("-01-01 00:00:00 CET")),
        "{next}"
    );
    let output = home.cmd(["schedule", "next", "nobody"]);
    assert_ne!(output.code, 0);
    // Another specification is taken over without a run.
    let changed = with(app, json!({"schedule": {"at": "@monthly"}, "env": {"A": "b"}}));
    apply(&home, &[changed]);
    assert_eq!(count(&lines), 1);
    wait_until("the new schedule", LONG, || {
        let list = home.json(["schedule", "ls"]);
        if list["schedules"][0]["at"] == "@monthly" {
            Ok(())
        } else {
            Err(list.to_string())
        }
    });
}

#[test]
fn what_overlaps_is_skipped_and_the_hook_is_told_why() {
    let home = Home::new();
    let alarm = home.work().join("alarm");
    let hook = format!(
        "echo \"$UPKEEP_APP: $UPKEEP_REASON ($UPKEEP_DUE)\" >> {}",
        alarm.display()
    );
    let schedule = json!({"at": "* * * * * *", "on_missed": ["/bin/sh", "-c", hook]});
    let (app, lines) = job(&home, "slow", "sleep 4", schedule);
    apply(&home, &[app]);
    wait_for_lines(&lines, 2);
    let missed = wait_for_event(&home, "run_missed", |_| true);
    assert!(
        missed["why"]
            .as_str()
            .unwrap_or_default()
            .contains("has not ended"),
        "{missed}"
    );
    let told = wait_until("the hook", LONG, || {
        fs::read_to_string(&alarm).map_err(|error| error.to_string())
    });
    assert!(
        told.contains("slow: the run before has not ended (`overlap: skip`) (1"),
        "{told}"
    );
    home.ok(["delete", "slow"]);
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_one_that_is_replaced_too() {
    let home = Home::new();
    let (limited, lines) = job(
        &home,
        "limited",
        "exec sleep 1000",
        json!({"at": "* * * * * *", "timeout": "1s"}),
    );
    let (replaced, _) = job(
        &home,
        "replaced",
        "exec sleep 1000",
        json!({"at": "every 2s", "overlap": "replace"}),
    );
    apply(
        &home,
        &[with(limited, json!({"stop": {"grace": "2s"}})), replaced],
    );
    let over = wait_for_event(&home, "run_timeout", |_| true);
    assert_eq!(over["target"], "limited");
    wait_for_lines(&lines, 2);
    let ended = wait_for_event(&home, "run_ended", |event| event["target"] == "limited");
    assert!(
        ended["why"]
            .as_str()
            .unwrap_or_default()
            .contains("took longer than 1s"),
        "{ended}"
    );
    wait_for_event(&home, "run_started", |event| {
        event["target"] == "replaced" && event["details"]["run"].as_u64() > Some(1)
    });
    home.ok(["delete", "all"]);
}

/// Runs that are decided, and nothing but their numbers to tell by what became of them.
#[test]
fn no_run_happens_twice_or_not_at_all_when_the_daemon_is_killed() {
    let home = Home::new();
    let mut dice = Dice::new();
    let (app, lines) = job(
        &home,
        "often",
        "sleep 0.2",
        json!({"at": "* * * * * *", "start_within": "30s"}),
    );
    upkeep_e2e::write_apps(&home, "upkeep.json", &[app]);
    let mut start = home.command(["start", "upkeep.json"]);
    start.env("UPKEEP_DAEMON_PAUSE_MAX_MS", "40");
    upkeep_e2e::ended(&home.finish(start, LONG), 0);
    wait_for_lines(&lines, 1);
    let keeper = home.keeper_pid();
    for _ in 0..12 {
        pass(Duration::from_millis(300) + dice.span(Duration::from_millis(900)));
        kill_daemon(keeper);
    }
    let before = count(&lines);
    wait_for_lines(&lines, before + 2);
    home.ok(["stop", "often"]);
    let started: BTreeSet<u64> = events(&home)
        .iter()
        .filter(|event| event["what"] == "run_started")
        .filter_map(|event| event["details"]["run"].as_u64())
        .collect();
    assert_eq!(
        started.len(),
        count(&lines),
        "runs that were decided, and runs that were: {started:?}"
    );
    let dues: Vec<i64> = events(&home)
        .iter()
        .filter(|event| event["what"] == "run_ended")
        .filter_map(|event| event["details"]["due_at"].as_i64())
        .collect();
    let unique: BTreeSet<&i64> = dues.iter().collect();
    assert_eq!(unique.len(), dues.len(), "no time twice: {dues:?}");
}

#[test]
fn what_was_missed_while_nothing_ran_is_made_up_for_once() {
    let home = Home::new();
    let schedule = json!({"at": "every 2s", "start_within": "1s", "catch_up": "one"});
    let (app, lines) = job(&home, "late", "true", schedule);
    apply(&home, &[app]);
    wait_for_lines(&lines, 1);
    home.ok(["shutdown"]);
    let before = count(&lines);
    pass(Duration::from_secs(7));
    assert_eq!(count(&lines), before);
    home.ok(["ls"]);
    wait_for_lines(&lines, before + 1);
    let missed = wait_for_event(&home, "run_missed", |_| true);
    assert!(
        missed["why"].as_str().unwrap_or_default().contains("missed; "),
        "{missed}"
    );
}

/// With the keeper goes all that is known of a run: it has failed, is said, and is not repeated.
#[test]
fn a_run_that_was_cut_off_with_the_keeper_is_said_and_not_repeated() {
    let home = Home::new();
    let (app, lines) = job(&home, "cut", "exec sleep 1000", json!({"at": "@yearly"}));
    let (other, ran) = job(&home, "once", "exec sleep 1000", json!({"at": "every 2s"}));
    apply(&home, &[app, other]);
    wait_for_lines(&ran, 1);
    home.ok(["stop", "cut"]);
    let (keeper, daemon) = (home.keeper_pid(), home.daemon_pid());
    upkeep_testkit::kill(keeper, upkeep_testkit::Signal::KILL).expect("killed");
    upkeep_e2e::wait_gone(keeper);
    // It ends by itself, and must not be asked any more.
    upkeep_e2e::wait_gone(daemon);
    home.ok(["ls"]);
    let ended = wait_for_event(&home, "run_ended", |event| event["target"] == "once");
    assert!(
        ended["why"].as_str().unwrap_or_default().contains("cut off"),
        "{ended}"
    );
    let due = &ended["details"]["due_at"];
    wait_for_lines(&ran, 2);
    let again = wait_for_event(&home, "run_started", |event| {
        event["details"]["run"].as_u64() > ended["details"]["run"].as_u64()
    });
    assert_ne!(&again["details"]["due_at"], due, "another time");
    assert_eq!(count(&lines), 0);
}

#[test]
fn a_schedule_that_cannot_be_kept_is_refused() {
    let home = Home::new();
    for (schedule, message) in [
        (
            json!({"at": "@daily", "timezone": "Europe/Atlantis"}),
            "no time zone `Europe/Atlantis`",
        ),
        (json!("61 * * * *"), "`61` is no minute"),
    ] {
        let (app, _) = job(&home, "bad", "true", schedule);
        upkeep_e2e::write_apps(&home, "bad.json", &[app]);
        let output = home.cmd(["start", "bad.json"]);
        assert_ne!(output.code, 0);
        assert!(output.stderr.contains(message), "{}", output.stderr);
    }
}
