//! Why it died: dossiers of crashes, settings of the machine, and the timeline.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};
use upkeep_e2e::{LONG, ended, events, kill_daemon, says};
use upkeep_testkit::{Home, Signal, kill, wait_until};

/// Dossiers of an app, newest first.
fn crashes(home: &Home, app: &str) -> Vec<Value> {
    home.json(["why", app, "--all"])["crashes"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Waits until an app has that many dossiers, and returns the newest in full.
fn crash(home: &Home, app: &str, count: usize) -> Value {
    let id = wait_until("the dossiers", LONG, || {
        let found = crashes(home, app);
        match found.first() {
            Some(newest) if found.len() >= count => Ok(newest["id"].to_string()),
            _ => Err(format!("{found:?}")),
        }
    });
    home.json(["why", app, "--id", &id])
}

fn findings(crash: &Value) -> String {
    crash["findings"].to_string()
}

#[test]
fn a_crash_is_told_with_its_last_words() {
    let home = Home::new();
    home.ok([
        "start",
        "-n",
        "shop",
        "--no-restart",
        "--",
        home.child(),
        "print",
        "opening the shop",
        "print-err",
        "Error: Cannot find module 'express'",
        "exit",
        "3",
    ]);
    let crash = crash(&home, "shop", 1);
    assert_eq!(crash["exit"], json!({"code": 3}));
    assert_eq!(crash["then"], "failed");
    says(
        &findings(&crash),
        &["module not found", "Cannot find module 'express'"],
    );
    let lines: Vec<&str> = crash["logs"]
        .as_array()
        .expect("lines")
        .iter()
        .filter_map(|line| line["line"].as_str())
        .collect();
    assert!(lines.contains(&"opening the shop"), "{lines:?}");
    assert_eq!(crash["changes"][0]["what"], "apply");
    let told = home.ok(["why", "shop"]);
    says(&told, &["its last crash", "exit code 3", "module not found"]);
    says(&home.ok(["show", "shop"]), &["crashes", "1 kept"]);
    // What was ordered is no crash.
    home.ok(["start", "-n", "calm", "--", home.child(), "wait"]);
    home.ok(["restart", "calm"]);
    home.ok(["stop", "calm"]);
    wait_until("the exits of `calm`", LONG, || {
        let told = events(&home);
        let exits = told
            .iter()
            .filter(|event| event["what"] == "exited" && event["target"] == "calm:0")
            .count();
        if exits == 2 {
            Ok(())
        } else {
            Err(format!("{exits}"))
        }
    });
    assert_eq!(crashes(&home, "calm"), Vec::<Value>::new());
    home.ok(["delete", "shop"]);
    ended(&home.cmd(["why", "shop"]), 3);
}

#[test]
fn a_kill_from_outside_is_told_from_others() {
    let home = Home::new();
    home.ok(["start", "-n", "a", "--", home.child(), "wait"]);
    let pid = home.wait_for("a", 0, "running")["pid"].as_i64().expect("a pid");
    kill(i32::try_from(pid).expect("a pid"), Signal::KILL).expect("it runs");
    let first = crash(&home, "a", 1);
    says(&findings(&first), &["SIGKILL"]);
    says(
        first["cause"].as_str().unwrap_or_default(),
        &["killed by SIGKILL after"],
    );
    // A start that cannot be: the program goes away after it was named.
    let program = home.write("program", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("our own file");
    let name = program.display().to_string();
    home.ok(["start", "-n", "none", "--no-restart", "--wait", "0", "--", &name]);
    crash(&home, "none", 1);
    fs::remove_file(&program).expect("it is there");
    home.cmd(["start", "none"]);
    let none = crash(&home, "none", 2);
    assert_eq!(none["exit"], Value::Null);
    says(
        none["cause"].as_str().unwrap_or_default(),
        &["could not be started"],
    );
}

#[test]
fn a_loop_makes_few_dossiers_and_the_last_one() {
    let home = Home::new();
    let file = home.write(
        "loop.upkeep.yaml",
        &format!(
            "apps:\n  - name: loop\n    command: [{}, print, x, exit, '1']\n    restart: {{backoff: {{min: 10ms, max: 10ms}}, give_up_after: {{starts: 15, within: 1m}}}}\n",
            home.child()
        ),
    );
    home.cmd(["start", &file.display().to_string()]);
    home.wait_for("loop", 0, "gave_up");
    wait_until("the dossier of the last crash", LONG, || {
        let found = crashes(&home, "loop");
        match found.first() {
            Some(last) if last["then"] == "gave_up" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let found = crashes(&home, "loop");
    assert_eq!(
        found.len(),
        6,
        "five at once, and the one that ended it: {found:?}"
    );
    let last = crash(&home, "loop", 6);
    assert_eq!(last["skipped"], 9);
}

#[test]
fn a_killed_daemon_forgets_no_crash() {
    let home = Home::new();
    home.ok([
        "start",
        "-n",
        "a",
        "--no-restart",
        "-i",
        "4",
        "--",
        home.child(),
        "wait",
    ]);
    for index in 0..4_u64 {
        let pid = home.wait_for("a", index, "running")["pid"]
            .as_i64()
            .expect("a pid");
        kill(i32::try_from(pid).expect("a pid"), Signal::KILL).expect("it runs");
        kill_daemon(home.keeper_pid());
    }
    wait_until("four dossiers", LONG, || {
        let mut indices: Vec<u64> = crashes(&home, "a")
            .iter()
            .filter_map(|crash| crash["index"].as_u64())
            .collect();
        indices.sort_unstable();
        if indices == [0, 1, 2, 3] {
            Ok(())
        } else {
            Err(format!("{indices:?}"))
        }
    });
}

#[test]
fn settings_are_checked_kept_and_told() {
    let home = Home::new();
    says(&home.cmd(["settings"]).stderr, &["nothing is set"]);
    let file = home.write("settings.yaml", "logs: {free_space: 7%}\n");
    let file = file.display().to_string();
    says(
        &home.ok(["settings", "set", &file, "--dry-run"]),
        &["logs: nothing ->"],
    );
    says(&home.cmd(["settings"]).stderr, &["nothing is set"]);
    home.ok(["settings", "set", &file, "--reason", "small disk"]);
    says(&home.ok(["settings", "show"]), &["free_space: 7%"]);
    kill_daemon(home.keeper_pid());
    says(&home.ok(["settings", "show"]), &["free_space: 7%"]);
    let told = home.json(["events", "--kind", "settings"]);
    assert_eq!(told["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["events"][0]["why"], "small disk");
    let stale = home.cmd(["settings", "set", &file, "--revision", "0"]);
    ended(&stale, 6);
    let wrong = home.write("wrong.yaml", "logs:\n  free_spaec: 1G\n");
    let refused = home.cmd(["settings", "check", &wrong.display().to_string()]);
    ended(&refused, 4);
    says(&refused.stderr, &["wrong.yaml:2:3", "did you mean `free_space`?"]);
    let key = home.write("key", "secret");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("our own file");
    let open = home.write(
        "open.yaml",
        "alerts: {channels: {a: {webhook: {url: 'http://127.0.0.1:1/', secret_file: key}}}}\n",
    );
    let refused = home.cmd(["settings", "set", &open.display().to_string()]);
    ended(&refused, 4);
    says(&refused.stderr, &["holds a secret", "chmod 600"]);
}

#[test]
fn the_timeline_is_filtered_and_followed_across_daemons() {
    let home = Home::new();
    home.ok([
        "start",
        "-n",
        "a",
        "--reason",
        "because",
        "--",
        home.child(),
        "wait",
    ]);
    home.ok(["start", "-n", "b", "--", home.child(), "wait"]);
    let follow = home.follow(["events", "-f", "--json", "--app", "a"]);
    follow.line_with("because", LONG);
    home.ok(["restart", "b"]);
    home.ok(["restart", "a"]);
    follow.line_with("\"restart\"", LONG);
    kill_daemon(home.keeper_pid());
    home.ok(["stop", "a", "--reason", "after the kill"]);
    follow.line_with("after the kill", LONG);
    let kinds = |args: &[&str]| -> Vec<String> {
        let mut all = vec!["events"];
        all.extend(args);
        let told = home.json(all);
        let events = told["events"].as_array().cloned().unwrap_or_default();
        events
            .iter()
            .map(|event| {
                format!(
                    "{} {}",
                    event["what"].as_str().unwrap_or_default(),
                    event["target"].as_str().unwrap_or_default()
                )
            })
            .collect()
    };
    assert_eq!(
        kinds(&["--kind", "restart,stop"]),
        ["restart b", "restart a", "stop a"]
    );
    assert_eq!(kinds(&["--app", "a", "--kind", "restart"]), ["restart a"]);
    assert_eq!(kinds(&["--failed"]), Vec::<String>::new());
    assert!(
        kinds(&["--who", "upkeep"])
            .iter()
            .all(|event| event.starts_with("exited") || event.starts_with("ready"))
    );
    assert_eq!(kinds(&["--since", "2h", "--until", "1h"]), Vec::<String>::new());
}
