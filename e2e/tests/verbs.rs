//! Every verb: what it does, what it says, where, and how it ends.

use std::{fs, process::Command};

use serde_json::{Value, json};
use upkeep_e2e::{
    LONG, app, apply, ended, events, instances, is_root, kill_daemon, says, skipped, tagged, wait_running,
    with, write_apps,
};
use upkeep_testkit::{Home, Signal, alive, kill, process, stamps, wait_until};

fn pid(home: &Home, name: &str) -> i64 {
    home.instance(name, 0)["pid"].as_i64().unwrap_or(0)
}

/// `[(app, what)]` of an action's answer.
fn changes(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let changes = answer["changes"]
        .as_array()
        .unwrap_or_else(|| panic!("no changes in {answer}"));
    changes
        .iter()
        .map(|change| (text(&change["app"]), text(&change["what"])))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(app, what)| ((*app).to_owned(), (*what).to_owned()))
        .collect()
}

// ---- a life

#[test]
fn the_life_of_an_app() {
    let home = Home::new();
    ended(&home.cmd(["ping"]), 8);
    ended(&home.cmd(["shutdown"]), 0);
    let started = home.cmd([
        "start",
        "-n",
        "web",
        "-i",
        "2",
        "--",
        home.child(),
        "tag",
        "web",
        "wait",
    ]);
    ended(&started, 0);
    says(&started.stderr, &["web: created"]);
    says(&started.stdout, &["web:0", "web:1", "running"]);
    wait_running(&home, "web", 2);
    let before = tagged(&home, "web");
    assert_eq!(
        changes(&home.json(["start", "web"])),
        pairs(&[("web", "started")])
    );
    assert_eq!(tagged(&home, "web"), before, "what runs is not started again");
    assert_eq!(
        changes(&home.json(["restart", "web"])),
        pairs(&[("web", "restarted")])
    );
    wait_running(&home, "web", 2);
    assert!(tagged(&home, "web").iter().all(|pid| !before.contains(pid)));
    assert_eq!(home.instance("web", 0)["restarts"], 1);
    ended(&home.cmd(["stop", "web:1"]), 0);
    wait_running(&home, "web", 1);
    assert_eq!(home.instance("web", 1)["actual"], "stopped");
    ended(&home.cmd(["stop", "web"]), 0);
    wait_running(&home, "web", 0);
    ended(&home.cmd(["stop", "web"]), 0);
    let shown = home.ok(["ls"]);
    says(&shown, &["web:0", "stopped"]);
    ended(&home.cmd(["start", "web"]), 0);
    wait_running(&home, "web", 2);
    let deleted = home.cmd(["delete", "web"]);
    ended(&deleted, 0);
    says(&deleted.stderr, &["web: deleted"]);
    assert_eq!(instances(&home), []);
    says(&home.cmd(["ls"]).stderr, &["no apps"]);
    for verb in ["stop", "restart", "delete", "show", "why"] {
        let none = home.cmd([verb, "web"]);
        ended(&none, 3);
        says(&none.stderr, &["error: there is no app", "web"]);
        assert_eq!(none.stdout, "", "{verb}");
    }
    for verb in ["stop", "restart", "delete", "start"] {
        ended(&home.cmd([verb, "all"]), 0);
    }
}

#[test]
fn shutdown_brings_back_and_kill_forgets() {
    let home = Home::new();
    apply(
        &home,
        &[app(&home, "up", &["wait"]), app(&home, "down", &["wait"])],
    );
    home.ok(["stop", "down"]);
    let shut = home.cmd(["shutdown"]);
    ended(&shut, 0);
    says(
        &shut.stderr,
        &["2 apps stopped; what was wanted comes back on the next start"],
    );
    assert_eq!(home.processes(), [0; 0]);
    ended(&home.cmd(["ping"]), 8);
    home.ok(["ls"]);
    wait_running(&home, "up", 1);
    assert_eq!(home.wait_for("down", 0, "stopped")["desired"], "down");
    assert_eq!(
        changes(&home.json(["kill"])),
        pairs(&[("down", "deleted"), ("up", "deleted")])
    );
    assert_eq!(home.processes(), [0; 0]);
    assert_eq!(home.json(["ls"])["apps"], json!([]));
    assert_eq!(home.json(["kill"])["settled"], true);
    ended(&home.cmd(["kill"]), 0);
}

#[test]
fn what_was_saved_can_be_resurrected() {
    let home = Home::new();
    let none = home.cmd(["resurrect"]);
    ended(&none, 3);
    says(&none.stderr, &["`upkeep save` writes it"]);
    apply(
        &home,
        &[
            app(&home, "a", &["wait"]),
            app(&home, "b", &["wait"]),
            app(&home, "c", &["wait"]),
        ],
    );
    home.ok(["stop", "b"]);
    says(&home.cmd(["save"]).stderr, &["saved 3 apps"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(home.path().join("dump.json"))
            .expect("the dump")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "it holds environments");
    home.ok(["delete", "a", "b"]);
    let c = pid(&home, "c");
    home.ok(["resurrect"]);
    wait_running(&home, "a", 1);
    assert_eq!(home.instance("b", 0)["actual"], "stopped");
    assert_eq!(pid(&home, "c"), c);
}

// ---- selectors

#[test]
fn selectors_mean_what_they_say() {
    let home = Home::new();
    let apps: Vec<Value> = ["web-a", "web-b", "db"]
        .iter()
        .map(|name| app(&home, name, &["wait"]))
        .collect();
    let spaced = with(
        app(&home, "cron", &["wait"]),
        json!({"namespace": "night", "instances": 2}),
    );
    apply(&home, &[apps, vec![spaced]].concat());
    let dry = |selectors: &[&str]| {
        let mut words = vec!["stop", "--dry-run"];
        words.extend(selectors);
        changes(&home.json(words))
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(dry(&["all"]), ["cron", "db", "web-a", "web-b"]);
    assert_eq!(dry(&["web-*"]), ["web-a", "web-b"]);
    assert_eq!(dry(&["@night"]), ["cron"]);
    assert_eq!(dry(&["@night", "db", "db"]), ["cron", "db"]);
    let id = home.instance("cron", 1)["id"].to_string();
    assert_eq!(
        home.json(["stop", "--dry-run", &id])["changes"][0]["instances"],
        json!([1])
    );
    assert_eq!(
        home.json(["stop", "--dry-run", "cron:0"])["changes"][0]["instances"],
        json!([0])
    );
    for none in ["nobody-*", "@day", "cron:7", "4711", "db:x"] {
        ended(&home.cmd(["stop", none]), 3);
    }
    // One that means nothing, and nothing is done.
    let wrong = home.cmd(["stop", "db", "web-aa"]);
    ended(&wrong, 3);
    says(
        &wrong.stderr,
        &[
            "error: there is no app or instance `web-aa`",
            "hint: did you mean `web-a`?",
        ],
    );
    wait_running(&home, "db", 1);
    let refused = home.cmd(["delete", "cron:1"]);
    ended(&refused, 4);
    says(&refused.stderr, &["one instance of `cron` cannot be deleted"]);
    ended(&home.cmd(["stop"]), 2);
    ended(&home.cmd(["halt"]), 2);
    ended(&home.cmd(["show", &id]), 0);
    ended(&home.cmd(["show", "4711"]), 3);
    for (name, _, instance) in instances(&home) {
        assert_eq!(instance["restarts"], 0, "{name}: a dry run does nothing");
    }
}

// ---- what can be started

#[test]
fn apps_come_from_every_kind_of_file() {
    let home = Home::new();
    let child = home.child();
    home.write(
        "a.yaml",
        &format!("apps:\n  - name: yaml\n    command: [{child}, tag, yaml, wait]\n"),
    );
    home.write(
        "b.toml",
        &format!("[[apps]]\nname = \"toml\"\ncommand = [\"{child}\", \"tag\", \"toml\", \"wait\"]\n"),
    );
    home.write(
        "c.json",
        &format!("{{\"apps\": {{\"json\": {{\"command\": [\"{child}\", \"tag\", \"json\", \"wait\"]}}}}}}"),
    );
    home.write(
        "ecosystem.config.json",
        &format!("{{\"apps\": [{{\"name\": \"eco\", \"script\": \"{child}\", \"args\": \"tag eco wait\", \"interpreter\": \"none\"}}]}}"),
    );
    home.write(
        "ecosystem.yaml",
        &format!("apps:\n  - name: ecoyaml\n    script: {child}\n    args: [tag, ecoyaml, wait]\n    autorestart: false\n"),
    );
    home.write("Procfile", &format!("# a comment\nproc: {child} tag proc wait\n"));
    for (file, name) in [
        ("a.yaml", "yaml"),
        ("b.toml", "toml"),
        ("c.json", "json"),
        ("ecosystem.config.json", "eco"),
        ("ecosystem.yaml", "ecoyaml"),
        ("Procfile", "proc"),
    ] {
        ended(&home.cmd(["validate", file]), 0);
        ended(&home.cmd(["start", file]), 0);
        wait_running(&home, name, 1);
        ended(&home.cmd(["delete", name]), 0);
    }
    let text = format!("apps: {{stdin: {{command: [{child}, tag, stdin, wait]}}}}");
    ended(&home.cmd_with_input(["start", "-"], text.as_bytes()), 0);
    wait_running(&home, "stdin", 1);
    let only = home.cmd(["start", "a.yaml", "b.toml", "--only", "toml"]);
    ended(&only, 3);
    home.write(
        "two.yaml",
        &format!("apps: {{one: {{command: {child} wait}}, two: {{command: {child} tag two wait}}}}"),
    );
    ended(&home.cmd(["start", "two.yaml", "--only", "two"]), 0);
    wait_running(&home, "two", 1);
    assert_eq!(home.instance("one", 0), Value::Null);
    ended(&home.cmd(["start", "missing.yaml"]), 3);
    ended(&home.cmd(["start", "ecosystem.config.js"]), 3);
}

#[test]
fn apps_come_from_scripts_and_command_lines() {
    let home = Home::new();
    let child = home.child();
    home.write("loop.sh", "echo \"$@\"; exec sleep 1000\n");
    ended(&home.cmd(["start", "loop.sh", "--", "--port", "3000"]), 0);
    wait_until("its arguments", LONG, || match home.log("loop", 0, "out") {
        text if text == b"--port 3000\n" => Ok(()),
        text => Err(String::from_utf8_lossy(&text).into_owned()),
    });
    ended(
        &home.cmd(["start", &format!("{child} tag line wait"), "-n", "line"]),
        0,
    );
    wait_running(&home, "line", 1);
    ended(&home.cmd(["start", "sleep", "-n", "dash", "--", "1000"]), 0);
    ended(&home.cmd(["start", "-n", "plain", "--", "sleep", "1000"]), 0);
    ended(
        &home.cmd(["start", "-n", "once", "--no-restart", "--", child, "exit", "0"]),
        0,
    );
    home.wait_for("once", 0, "completed");
    // The same name for another program is somebody's mistake, unless it is said.
    home.write("else/loop.sh", "exec sleep 2000\n");
    let other = home.cmd(["start", "else/loop.sh"]);
    ended(&other, 6);
    says(
        &other.stderr,
        &[
            "there is an app `loop`",
            "hint: give the new one a name with `-n`",
        ],
    );
    ended(&home.cmd(["start", "loop.sh", "--", "--port", "3000"]), 0);
    let missing = home.cmd(["start", "no-such-thing"]);
    assert!([3, 4].contains(&missing.code), "{missing:?}");
    says(&missing.stderr, &["no-such-thing"]);
    ended(&home.cmd(["start"]), 2);
    ended(&home.cmd(["restart"]), 2);
}

#[test]
fn mistakes_in_files_are_shown_where_they_are() {
    let home = Home::new();
    home.write("upkeep.yaml", "apps:\n  - name: shop\n    comand: ./shop\n");
    for verb in ["start", "validate", "run"] {
        let wrong = home.cmd([verb, "upkeep.yaml"]);
        ended(&wrong, 4);
        says(
            &wrong.stderr,
            &["upkeep.yaml:3:5", "comand", "did you mean `command`?"],
        );
        assert_eq!(wrong.stdout, "");
    }
    for (text, words) in [
        ("apps: [", &["upkeep.yaml:1"][..]),
        (
            "apps:\n  - name: a\n    command: x\n    instances: many\n",
            &["upkeep.yaml:4:", "instances"],
        ),
        (
            "apps:\n  - name: a\n    command: x\n    stop: {grace: soon}\n",
            &["upkeep.yaml:4:"],
        ),
        (
            "apps:\n  - name: a\n    command: x\n  - name: a\n    command: y\n",
            &["upkeep.yaml:4:", "`a`"],
        ),
        (
            "apps:\n  - name: a\n    command: x\n    depends_on: [ghost]\n",
            &["ghost"],
        ),
        (
            "apps:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, depends_on: [a]}\n",
            &["a", "b"],
        ),
    ] {
        home.write("upkeep.yaml", text);
        let wrong = home.cmd(["start", "upkeep.yaml"]);
        ended(&wrong, 4);
        says(&wrong.stderr, words);
    }
    assert_eq!(instances(&home), [], "nothing of a wrong file is started");
}

// ---- files applied again

#[test]
fn applying_twice_changes_nothing_and_a_change_restarts_only_its_app() {
    let home = Home::new();
    let apps = |port: &str, count: u32| {
        vec![
            with(app(&home, "a", &["wait"]), json!({"env": {"PORT": port}})),
            with(app(&home, "b", &["wait"]), json!({"instances": count})),
        ]
    };
    write_apps(&home, "upkeep.json", &apps("1", 2));
    let put = || changes(&home.json(["start", "upkeep.json"]));
    assert_eq!(put(), pairs(&[("a", "created"), ("b", "created")]));
    let (a, b) = (tagged(&home, "a"), tagged(&home, "b"));
    assert_eq!(put(), pairs(&[("a", "unchanged"), ("b", "unchanged")]));
    // From another terminal, with other variables: no change of the app.
    let mut again = home.command(["start", "upkeep.json", "--json"]);
    again
        .env("TERM", "xterm")
        .env("SSH_TTY", "/dev/pts/7")
        .env("SOMETHING", "else");
    let output = home.finish(again, LONG);
    let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(changes(&answer), pairs(&[("a", "unchanged"), ("b", "unchanged")]));
    assert_eq!((tagged(&home, "a"), tagged(&home, "b")), (a.clone(), b.clone()));

    write_apps(&home, "upkeep.json", &apps("2", 2));
    let dry = home.cmd(["start", "upkeep.json", "--dry-run"]);
    says(&dry.stderr, &["a: would be updated", "b: would be unchanged"]);
    assert_eq!(tagged(&home, "a"), a);
    assert_eq!(put(), pairs(&[("a", "updated"), ("b", "unchanged")]));
    wait_running(&home, "a", 1);
    assert_ne!(tagged(&home, "a"), a);
    assert_eq!(tagged(&home, "b"), b);

    home.ok(["stop", "a"]);
    assert_eq!(put(), pairs(&[("a", "started"), ("b", "unchanged")]));
    wait_running(&home, "a", 1);
    let restarted = changes(&home.json(["restart", "upkeep.json"]));
    assert_eq!(restarted, pairs(&[("a", "restarted"), ("b", "restarted")]));
    wait_running(&home, "b", 2);
    write_apps(&home, "upkeep.json", &apps("2", 4));
    put();
    wait_running(&home, "b", 4);
    write_apps(&home, "upkeep.json", &apps("2", 1));
    put();
    wait_running(&home, "b", 1);
    let listed: Vec<u64> = instances(&home)
        .into_iter()
        .filter(|(name, ..)| name == "b")
        .map(|(_, index, _)| index)
        .collect();
    assert_eq!(listed, [0]);
    home.ok(["start", "-n", "c", "-i", "max", "--", home.child(), "wait"]);
}

#[test]
fn one_action_is_one_event_with_who_what_and_why() {
    let home = Home::new();
    apply(&home, &[app(&home, "a", &["wait"])]);
    home.ok(["restart", "a", "--reason", "new certificate"]);
    let event = events(&home)
        .into_iter()
        .find(|event| event["what"] == "restart")
        .expect("an event");
    assert_eq!(
        (&event["target"], &event["why"], &event["result"]),
        (&json!("a"), &json!("new certificate"), &json!("a: restarted"))
    );
    assert!(
        event["who"].as_str().is_some_and(|who| who.starts_with("uid:")),
        "{event}"
    );
    says(
        &home.ok(["events", "a"]),
        &["restart", "new certificate", "exited"],
    );
    let follow = home.follow(["events", "-f"]);
    wait_until("the follower to hear", LONG, || {
        home.ok(["restart", "a"]);
        match follow.errors() {
            said if said.is_empty() => Ok(()),
            said => Err(format!("{said:?}")),
        }
    });
    follow.line_with("restart", LONG);
}

// ---- dependencies

#[test]
fn dependencies_come_first_and_go_last() {
    let home = Home::new();
    let file = |name: &str| home.work().join(name);
    let stamp = |name: &str| file(name).display().to_string();
    let ready = stamp("ready");
    let apps = [
        with(
            app(&home, "web", &["stamp", &stamp("web"), "wait"]),
            json!({"depends_on": {"db": "healthy", "migrate": "completed", "cache": "started"}}),
        ),
        with(
            app(
                &home,
                "db",
                &["stamp", &stamp("db"), "run-for", "700ms", "stamp", &ready, "wait"],
            ),
            json!({"readiness": {"exec": ["test", "-e", ready], "period": "50ms"}}),
        ),
        with(
            app(
                &home,
                "migrate",
                &["run-for", "300ms", "stamp", &stamp("migrate"), "exit", "0"],
            ),
            json!({"restart": "never", "depends_on": {"db": "started"}}),
        ),
        app(&home, "cache", &["stamp", &stamp("cache"), "wait"]),
    ];
    apply(&home, &apps);
    wait_running(&home, "web", 1);
    let at = |name: &str| {
        stamps(&file(name))
            .first()
            .unwrap_or_else(|| panic!("no stamp of {name}"))
            .nanos
    };
    for before in ["db", "ready", "migrate", "cache"] {
        assert!(at(before) < at("web"), "`web` started before `{before}`");
    }
    assert_eq!(home.instance("migrate", 0)["actual"], "completed");
    let (web, db) = (tagged(&home, "web")[0], tagged(&home, "db")[0]);
    let mut stop = home.follow(["stop", "all"]);
    wait_until("the end of web", LONG, || {
        assert!(alive(db) || !alive(web), "`db` ended before `web`");
        if alive(web) {
            Err("it lives".to_owned())
        } else {
            Ok(())
        }
    });
    assert_eq!(stop.wait(LONG), 0);
    let exited: Vec<Value> = events(&home)
        .into_iter()
        .filter(|event| event["what"] == "exited" && event["target"] != "migrate:0")
        .map(|event| event["target"].clone())
        .collect();
    assert_eq!(exited[0], "web:0", "{exited:?}");
}

#[test]
fn a_dependency_that_fails_is_said() {
    let home = Home::new();
    let apps = [
        with(
            app(&home, "job", &["run-for", "200ms", "exit", "4"]),
            json!({"restart": "never"}),
        ),
        with(
            app(&home, "web", &["wait"]),
            json!({"depends_on": {"job": "completed"}}),
        ),
    ];
    write_apps(&home, "upkeep.json", &apps);
    home.cmd(["start", "upkeep.json"]);
    home.wait_for("job", 0, "failed");
    wait_until("the reason", LONG, || {
        let web = home.instance("web", 0);
        let why = web["why"].as_str().unwrap_or_default().to_owned();
        if web["actual"] == "waiting" && why.contains("job") {
            Ok(())
        } else {
            Err(web.to_string())
        }
    });
    assert_eq!(tagged(&home, "web"), [0; 0]);
    says(&home.ok(["why", "web"]), &["web:0  waiting", "job"]);
}

#[test]
fn readiness_is_watched_and_the_watch_outlives_the_daemon() {
    let home = Home::new();
    let flag = home.work().join("ready");
    let check = json!({"exec": ["test", "-e", flag], "period": "50ms", "failure_threshold": 2});
    write_apps(
        &home,
        "upkeep.json",
        &[with(app(&home, "web", &["wait"]), json!({"readiness": check}))],
    );
    home.ok(["start", "upkeep.json"]);
    let ready = |wanted: bool| {
        wait_until(&format!("readiness to be {wanted}"), LONG, || {
            let web = home.instance("web", 0);
            if web["ready"] == wanted {
                Ok(())
            } else {
                Err(web.to_string())
            }
        });
    };
    ready(false);
    says(&home.ok(["ls"]), &["not ready"]);
    fs::write(&flag, "").expect("a flag");
    ready(true);
    kill_daemon(home.keeper_pid());
    ready(true);
    fs::remove_file(&flag).expect("the flag");
    ready(false);
    kill_daemon(home.keeper_pid());
    fs::write(&flag, "").expect("a flag");
    ready(true);
    assert_eq!(home.instance("web", 0)["restarts"], 0);
}

// ---- crashes

#[test]
fn a_crashing_app_backs_off_gives_up_and_says_why() {
    let home = Home::new();
    let policy = json!({"on": "failure", "backoff": {"min": "200ms", "max": "1s"}, "give_up_after": {"starts": 4, "within": "1m"}});
    apply(
        &home,
        &[with(
            app(&home, "bad", &["print-err", "no database", "exit", "3"]),
            json!({"restart": policy}),
        )],
    );
    let pause = home.wait_for("bad", 0, "backing_off");
    assert!(pause["next_start_in_ms"].as_u64() <= Some(1000), "{pause}");
    let given_up = home.wait_for("bad", 0, "gave_up");
    assert_eq!(
        (&given_up["restarts"], &given_up["last_exit"]),
        (&json!(3), &json!({"code": 3}))
    );
    let why = home.ok(["why", "bad"]);
    says(
        &why,
        &[
            "bad:0  gave up: exit code 3",
            "exit code 3",
            "gave up after 4 starts within 1m",
            "no database",
        ],
    );
    says(&home.ok(["ls"]), &["gave up", "exit code 3"]);
    let told = home.json(["why", "bad"]);
    assert_eq!(told["lines"][0]["line"], "no database");
    // A person may try again.
    home.ok(["start", "bad"]);
    assert_eq!(home.wait_for("bad", 0, "gave_up")["restarts"], 3);
}

#[test]
fn exits_are_judged_by_the_policy() {
    let home = Home::new();
    let once = home.work().join("once").display().to_string();
    apply(
        &home,
        &[
            with(
                app(&home, "done", &["exit", "0"]),
                json!({"restart": "on-failure"}),
            ),
            with(
                app(&home, "fine", &["exit", "7"]),
                json!({"restart": {"on": "failure", "success_codes": [0, 7]}}),
            ),
            with(
                app(&home, "enough", &["exit", "9"]),
                json!({"restart": {"on": "always", "stop_codes": [9]}}),
            ),
            with(
                app(&home, "never", &["crash", "SIGSEGV"]),
                json!({"restart": "never"}),
            ),
            with(
                app(&home, "again", &["crash-once", &once, "wait"]),
                json!({"restart": {"backoff": "none"}}),
            ),
        ],
    );
    home.wait_for("done", 0, "completed");
    home.wait_for("fine", 0, "completed");
    wait_until("`enough` to rest", LONG, || match home.instance("enough", 0) {
        it if it["actual"] == "completed" || it["actual"] == "failed" => Ok(()),
        it => Err(it.to_string()),
    });
    let never = home.wait_for("never", 0, "failed");
    assert_eq!(never["last_exit"]["signal"]["number"], 11);
    wait_running(&home, "again", 1);
    assert_eq!(home.instance("again", 0)["restarts"], 1);
    says(&home.ok(["why", "never"]), &["SIGSEGV", "restart: never"]);
}

// ---- what is said, and where

#[test]
fn json_is_one_document_and_messages_are_on_standard_error() {
    let home = Home::new();
    write_apps(
        &home,
        "upkeep.json",
        &[app(&home, "a", &["print", "hello", "wait"])],
    );
    for verb in [
        &["validate", "upkeep.json"][..],
        &["start", "upkeep.json"],
        &["ping"],
        &["ls"],
        &["list"],
        &["show", "a"],
        &["describe", "a"],
        &["why", "a"],
        &["tree"],
        &["ps"],
        &["events"],
        &["restart", "a"],
        &["stop", "a"],
        &["start", "a"],
        &["save"],
        &["resurrect"],
        &["upgrade"],
        &["delete", "a"],
        &["shutdown"],
        &["kill"],
    ] {
        let mut words = verb.to_vec();
        words.push("--json");
        let output = home.cmd(&words);
        ended(&output, 0);
        let document: Result<Value, _> = serde_json::from_str(&output.stdout);
        assert!(
            document.is_ok_and(|value| value.is_object()),
            "{verb:?}: {output:?}"
        );
        assert!(!output.stderr.contains("error"), "{verb:?}: {output:?}");
    }
    let refused = home.cmd(["stop", "nobody", "--json"]);
    ended(&refused, 3);
    assert_eq!(refused.stdout, "");
    says(&refused.stderr, &["error: "]);
}

#[test]
fn colours_follow_the_terminal_and_the_flags() {
    let home = Home::new();
    apply(&home, &[app(&home, "a", &["print", "hello", "wait"])]);
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = home.command(args);
        command.env_remove("NO_COLOR").envs(env.iter().copied());
        home.finish(command, LONG).stdout
    };
    let colours = |text: &str| text.contains('\x1b');
    assert!(!colours(&run(&["ls"], &[])), "no terminal, no colours");
    assert!(colours(&run(&["ls", "--color", "always"], &[])));
    assert!(colours(&run(&["ls", "--color", "always"], &[("NO_COLOR", "1")])));
    assert!(colours(&run(&["ls"], &[("FORCE_COLOR", "1")])));
    assert!(!colours(&run(
        &["ls"],
        &[("FORCE_COLOR", "1"), ("NO_COLOR", "1")]
    )));
    assert!(!colours(&run(
        &["ls", "--color", "never"],
        &[("FORCE_COLOR", "1")]
    )));
    assert!(!colours(&run(&["ls", "--json", "--color", "always"], &[])));
    assert!(!colours(&run(&["logs"], &[])));
    assert!(colours(&run(&["logs", "--color", "always"], &[])));
    let wrong = home.cmd(["ls", "--color", "sometimes"]);
    ended(&wrong, 2);
}

#[test]
fn help_version_and_completions_need_no_daemon() {
    let home = Home::new();
    says(&home.ok(["--help"]), &["Examples:", "upkeep start api.js"]);
    says(
        &home.ok(["start", "--help"]),
        &["Examples:", "upkeep start upkeep.yaml"],
    );
    says(&home.ok(["--version"]), &["upkeep 0."]);
    for shell in ["bash", "zsh", "fish"] {
        says(&home.ok(["completions", shell]), &["upkeep", "resurrect"]);
    }
    ended(&home.cmd([""; 0]), 2);
    ended(&home.cmd(["completions", "cobol"]), 2);
    let mut bash = Command::new("bash");
    bash.args([
        "-c",
        &format!(
            "source <('{}' completions bash) && complete -p upkeep",
            home.upkeep().display()
        ),
    ]);
    ended(&home.finish(bash, LONG), 0);
    assert!(!home.path().join("run").exists(), "nothing was started for that");
    let mut lost = home.command(["ls"]);
    lost.env("UPKEEP_HOME", "relative/path");
    let output = home.finish(lost, LONG);
    ended(&output, 1);
    says(&output.stderr, &["not absolute"]);
}

#[test]
fn the_tree_shows_what_is_below() {
    let home = Home::new();
    apply(&home, &[app(&home, "parent", &["spawn-tree", "2", "wait"])]);
    wait_until("the tree", LONG, || {
        let tree = home.json(["tree"]);
        let found = tree["instances"][0]["processes"].as_array().map_or(0, Vec::len);
        if found == 3 { Ok(()) } else { Err(tree.to_string()) }
    });
    let text = home.ok(["tree"]);
    assert_eq!(
        text.lines().filter(|line| line.contains("spawn-tree")).count(),
        3,
        "{text}"
    );
}

#[test]
fn who_does_not_wait_is_not_kept() {
    let home = Home::new();
    let slow = app(
        &home,
        "slow",
        &["on", "SIGTERM", "exit", "0", "after", "2s", "print", "up", "wait"],
    );
    apply(&home, &[slow]);
    wait_until("it to be up", LONG, || match home.log("slow", 0, "out") {
        text if text == b"up\n" => Ok(()),
        text => Err(format!("{text:?}")),
    });
    let late = home.cmd(["stop", "slow", "--wait", "100ms"]);
    ended(&late, 124);
    says(&late.stderr, &["not everything has come to rest"]);
    ended(&home.cmd(["stop", "slow", "--wait", "0"]), 0);
    home.wait_for("slow", 0, "stopped");
}

// ---- what an app is given

#[test]
fn apps_get_the_environment_they_were_given_and_nobody_else_sees_it() {
    let home = Home::new();
    home.write(".env", "FROM_FILE=file\nBOTH=file\nQUOTED=\"a b\" # comment\n");
    let secret = "s3cr3t-value-of-a-test";
    let env = json!({"env": {"BOTH": "map", "TOKEN": secret}, "env_file": [".env"], "instances": 2});
    write_apps(
        &home,
        "upkeep.json",
        &[
            with(app(&home, "a", &["print-env", "wait"]), env),
            app(&home, "b", &["print-env", "wait"]),
        ],
    );
    let mut start = home.command(["start", "upkeep.json"]);
    start.env("CALLER", "yes").env("SSH_AUTH_SOCK", "/tmp/agent");
    ended(&home.finish(start, LONG), 0);
    for index in 0..2 {
        let text = wait_until("the environment", LONG, || {
            let text = String::from_utf8_lossy(&home.log("a", index, "out")).into_owned();
            if text.contains("UPKEEP_KEEPER=") {
                Ok(text)
            } else {
                Err(text)
            }
        });
        let wanted = format!("UPKEEP_INSTANCE={index}\n");
        let node = format!("NODE_APP_INSTANCE={index}\n");
        says(
            &text,
            &[
                "FROM_FILE=file\n",
                "BOTH=map\n",
                "QUOTED=a b\n",
                "CALLER=yes\n",
                "UPKEEP_APP=a\n",
                &wanted,
                &node,
                secret,
            ],
        );
        assert!(!text.contains("SSH_AUTH_SOCK"), "{text}");
    }
    let other = String::from_utf8_lossy(&home.log("b", 0, "out")).into_owned();
    assert!(!other.contains(secret) && !other.contains("FROM_FILE"), "{other}");
    for verb in [
        &["ls", "--json"][..],
        &["ls"],
        &["show", "a"],
        &["why", "a", "--json"],
        &["events", "--json"],
        &["tree", "--json"],
    ] {
        let output = home.ok(verb);
        let shown = output.replace(&home.ok(["logs", "a", "--raw", "-n", "1000"]), "");
        let shown: String = shown
            .lines()
            .filter(|line| !line.contains("\"line\"") && !line.contains(" | "))
            .collect();
        assert!(!shown.contains(secret), "{verb:?} tells the secret");
    }
    for pid in home.processes() {
        assert!(!process::command_line(pid).contains(secret));
    }
    let mode = |name: &str| {
        let metadata = fs::metadata(home.path().join(name)).expect("it is there");
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077
    };
    for name in [
        ".",
        "run",
        "logs",
        "store.redb",
        "logs/a-0.out.log",
        "run/api.sock",
    ] {
        assert_eq!(mode(name), 0, "others may read `{name}`");
    }
}

#[test]
fn limits_mask_and_directory_hold() {
    let home = Home::new();
    fs::create_dir(home.work().join("sub")).expect("a directory");
    let script = "ulimit -Sn; ulimit -Hn; ulimit -c; umask; pwd; echo end; exec sleep 1000";
    let more = json!({"cwd": "sub", "umask": "0027", "rlimits": {"nofile": 123, "core": 0}});
    apply(
        &home,
        &[with(
            json!({"name": "limited", "command": ["sh", "-c", script]}),
            more,
        )],
    );
    let text = wait_until("its words", LONG, || {
        let text = String::from_utf8_lossy(&home.log("limited", 0, "out")).into_owned();
        if text.ends_with("end\n") {
            Ok(text)
        } else {
            Err(text)
        }
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], ["123", "123", "0", "0027"], "{text}");
    assert!(lines[4].ends_with("/work/sub"), "{text}");
}

#[test]
fn an_app_that_is_given_a_user_has_its_rights_and_no_more() {
    if !is_root() {
        return skipped("to become another user takes root");
    }
    let home = Home::new();
    let script = "id -un; id -gn; id -G; echo $HOME; cat /etc/shadow; echo end; exec sleep 1000";
    let app = json!({"name": "low", "command": ["sh", "-c", script], "user": "nobody", "cwd": "/"});
    apply(&home, &[app]);
    let text = wait_until("its words", LONG, || {
        let text = String::from_utf8_lossy(&home.log("low", 0, "out")).into_owned();
        if text.ends_with("end\n") {
            Ok(text)
        } else {
            Err(text)
        }
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "nobody");
    assert!(!lines[2].split(' ').any(|group| group == "0"), "{text}");
    says(
        &String::from_utf8_lossy(&home.log("low", 0, "err")),
        &["ermission denied"],
    );
}

// ---- in the foreground

#[test]
fn run_ends_with_its_apps() {
    let home = Home::new();
    let job = |name: &str, code: &str| {
        let script = ["print", "hello", "run-for", "100ms", "exit", code];
        with(app(&home, name, &script), json!({"restart": "never"}))
    };
    write_apps(&home, "good.upkeep.json", &[job("one", "0"), job("two", "0")]);
    let good = home.cmd(["run", "good.upkeep.json"]);
    ended(&good, 0);
    says(&good.stdout, &["one:0 |", "two:0 |", "hello"]);
    write_apps(&home, "bad.upkeep.json", &[job("one", "0"), job("two", "5")]);
    let bad = home.cmd(["run", "bad.upkeep.json", "--raw"]);
    ended(&bad, 1);
    assert_eq!(bad.stdout, "hello\nhello\n");
    says(&bad.stderr, &["two:0 ", "exit code 5"]);
    assert_eq!(home.processes(), [0; 0]);
    ended(&home.cmd(["run", "missing.yaml"]), 3);
    home.ok(["ls"]);
    let busy = home.cmd(["run", "good.upkeep.json"]);
    ended(&busy, 6);
    says(&busy.stderr, &["a daemon runs in"]);
}

#[test]
fn run_stops_in_order_when_it_is_told_to() {
    let home = Home::new();
    let stamp = |name: &str| home.work().join(name).display().to_string();
    let apps = [
        app(
            &home,
            "db",
            &["on", "SIGTERM", "exit", "0", "stamp", &stamp("db"), "wait"],
        ),
        with(
            app(
                &home,
                "web",
                &[
                    "on", "SIGTERM", "exit", "0", "after", "300ms", "print", "up", "wait",
                ],
            ),
            json!({"depends_on": ["db"]}),
        ),
    ];
    write_apps(&home, "upkeep.json", &apps);
    for signal in [Signal::TERM, Signal::INT] {
        let mut run = home.follow(["run", "upkeep.json"]);
        run.line_with("up", LONG);
        let (web, db) = (tagged(&home, "web")[0], tagged(&home, "db")[0]);
        kill(run.pid(), signal).expect("it runs");
        wait_until("the end of web", LONG, || {
            assert!(alive(db) || !alive(web), "`db` ended before `web`");
            if alive(web) {
                Err("it lives".to_owned())
            } else {
                Ok(())
            }
        });
        assert_eq!(run.wait(LONG), 0, "{:?}", run.errors());
        wait_until("nothing to be left", LONG, || match home.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
    }
}

#[test]
fn run_is_a_good_first_process() {
    if !is_root() {
        return skipped("a namespace of processes takes root");
    }
    let home = Home::new();
    // Orphans by the dozen, whose parents do not wait for them.
    let orphans = "for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.2 &) ; done; sleep 1; ps -eo stat= | grep -c '^Z'; exit 0";
    let job = json!({"name": "job", "command": ["sh", "-c", orphans], "restart": "never"});
    write_apps(&home, "upkeep.json", &[job]);
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--fork", "--pid", "--mount-proc", "--kill-child"])
        .arg(home.upkeep())
        .args(["run", "upkeep.json", "--raw"])
        .current_dir(home.work())
        .env("UPKEEP_HOME", home.path());
    let output = home.finish(unshare, LONG);
    if output.stderr.contains("unshare failed") {
        return skipped("no namespaces here");
    }
    ended(&output, 0);
    assert_eq!(output.stdout, "0\n", "zombies: {output:?}");
}

#[test]
fn run_without_a_home_leaves_none() {
    let home = Home::new();
    let job = with(
        app(&home, "job", &["print-env", "exit", "0"]),
        json!({"restart": "never"}),
    );
    write_apps(&home, "upkeep.json", &[job]);
    let mut run = home.command(["run", "upkeep.json", "--raw"]);
    run.env_remove("UPKEEP_HOME").env("TMPDIR", home.work());
    let output = home.finish(run, LONG);
    ended(&output, 0);
    let left: Vec<_> = fs::read_dir(home.work())
        .expect("a directory")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("upkeep-run"))
        .collect();
    assert_eq!(left, [""; 0]);
}
