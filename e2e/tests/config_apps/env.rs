//! Values as variables.

use serde_json::json;
use upkeep_e2e::{apply, ended, events, kill_daemon, says};
use upkeep_testkit::Home;

use crate::{environment, holders, pids, set, set_secret, shop, told, wait_value};

const SECRET: &str = "s3cr3t-4Vw-needle";

#[test]
fn values_are_in_the_environment_and_nowhere_else() {
    let home = Home::new();
    set(
        &home,
        &[
            ("/shop/db/url", "postgres://plain-value-needle"),
            ("/shop/log-level", "info"),
            ("/shop/text", "{port} {instance} ${HOME}"),
            ("/over/log_level", "debug"),
        ],
    );
    set_secret(&home, "/shop/db/password", SECRET);
    let more = json!({
        "config": ["/shop/", "/over/"],
        "env": {"DB_URL": "from the file"},
        "instances": 2,
    });
    apply(&home, &[shop(&home, more)]);
    for pid in wait_value(&home, "shop", 2, "DB_PASSWORD", SECRET) {
        let env = environment(pid);
        assert_eq!(env["DB_URL"], "from the file", "what stands in the file wins");
        assert_eq!(env["LOG_LEVEL"], "debug", "later places win");
        assert_eq!(env["TEXT"], "{port} {instance} ${HOME}", "a value is no template");
    }
    // Names and revision are told, values are not; also not by the next daemon.
    for round in 0..2 {
        let view = told(&home, "shop");
        assert_eq!(
            view["variables"],
            json!(["DB_PASSWORD", "DB_URL", "LOG_LEVEL", "TEXT"])
        );
        assert_eq!(view["places"], json!(["/shop/", "/over/"]));
        assert!(
            view["revision"].as_u64().is_some_and(|revision| revision > 5),
            "{view}"
        );
        let all = [
            home.ok(["show", "shop"]),
            home.ok(["show", "shop", "--json"]),
            home.ok(["ls", "--json"]),
            home.ok(["config", "status", "--json"]),
            format!("{:?}", events(&home)),
        ];
        for text in &all {
            assert!(
                !text.contains(SECRET) && !text.contains("plain-value-needle"),
                "{text}"
            );
        }
        says(&all[0], &["/shop/", "DB_PASSWORD"]);
        says(&all[3], &["\"shop\"", "LOG_LEVEL"]);
        assert_eq!(holders(&home.path(), SECRET), Vec::<String>::new());
        if round == 0 {
            let before = pids(&home, "shop");
            kill_daemon(home.keeper_pid());
            home.daemon_pid();
            assert_eq!(pids(&home, "shop"), before, "a new daemon starts nothing anew");
        }
    }
    // Of what is not secret the store has the value, and nothing else.
    let found = holders(&home.path(), "plain-value-needle");
    assert!(
        found.iter().all(|file| file.ends_with("/config.redb")),
        "{found:?}"
    );
    // Gone with its app.
    home.ok(["delete", "shop"]);
    upkeep_testkit::wait_until("the cache to be gone", upkeep_e2e::LONG, || {
        let file = home.path().join("config-cache/shop");
        if file.exists() { Err("it is there") } else { Ok(()) }.map_err(str::to_owned)
    });
}

#[test]
fn an_app_waits_for_its_values_and_starts_by_itself() {
    let home = Home::new();
    apply(&home, &[shop(&home, json!({}))]);
    let waiting = home.instance("shop", 0);
    assert_eq!(waiting["actual"], "waiting", "{waiting}");
    says(
        &waiting["why"].to_string(),
        &["no value in `/shop/`", "by itself"],
    );
    // Two values of one name, then one that nobody may give to a program: both are named, and nothing starts.
    set(&home, &[("/shop/a/b", "needle-1"), ("/shop/a_b", "needle-2")]);
    let says_why = |words: &[&str]| {
        upkeep_testkit::wait_until("the reason", upkeep_e2e::LONG, || {
            let why = home.instance("shop", 0)["why"].to_string();
            if words.iter().all(|word| why.contains(word)) {
                assert!(!why.contains("needle"), "{why}");
                Ok(())
            } else {
                Err(why)
            }
        });
    };
    says_why(&["/shop/a/b", "/shop/a_b", "`A_B`"]);
    home.ok(["config", "rm", "/shop/a_b"]);
    wait_value(&home, "shop", 1, "A_B", "needle-1");
    // What is wrong later leaves what runs as it is.
    set(&home, &[("/shop/ld_preload", "/tmp/evil.so")]);
    let waits_because = |word: &str| {
        upkeep_testkit::wait_until(word, upkeep_e2e::LONG, || {
            let view = told(&home, "shop");
            match view["waiting"]["why"].as_str() {
                Some(why) if why.contains(word) => Ok(()),
                _ => Err(view.to_string()),
            }
        });
    };
    waits_because("begins with `LD_`");
    wait_value(&home, "shop", 1, "A_B", "needle-1");
    home.ok(["config", "rm", "/shop/"]);
    waits_because("no value");
    wait_value(&home, "shop", 1, "A_B", "needle-1");
}

#[test]
fn what_is_written_wrongly_is_refused_with_its_place() {
    let home = Home::new();
    for (more, words) in [
        (
            json!({"config": "/shop/db"}),
            &["`/shop/db` is one value", "/shop/db/"][..],
        ),
        (json!({"config": []}), &["names no place"]),
        (json!({"config": ["/shop/", "/shop/"]}), &["twice"]),
        (
            json!({"config": null, "on_change": "restart"}),
            &["there is none"],
        ),
        (
            json!({"on_change": {"do": "reload", "signal": "HUP"}}),
            &["exclude each other"],
        ),
        (json!({"on_change": {"wait": "5s", "max": "1s"}}), &["less than"]),
        (
            json!({"files": [{"template": "none.j2", "to": "x"}]}),
            &["failed to read the template", "none.j2"],
        ),
    ] {
        upkeep_e2e::write_apps(&home, "bad.json", &[shop(&home, more)]);
        let output = home.cmd(["start", "bad.json"]);
        ended(
            &output,
            if words[0].contains("failed to read") {
                output.code
            } else {
                4
            },
        );
        assert_ne!(output.code, 0);
        says(&output.stderr, words);
        says(&output.stderr, &["bad.json"]);
    }
}

/// Whoever may write a place does not by that run code as the app's user.
#[test]
fn what_says_how_programs_run_is_not_taken_from_a_place() {
    let home = Home::new();
    let (ran, hook) = (home.work().join("ran"), home.work().join("hook.sh"));
    std::fs::write(&hook, format!("touch {}\n", ran.display())).expect("written");
    set(
        &home,
        &[("/shop/a", "1"), ("/shop/bash_env", &hook.display().to_string())],
    );
    let mut app = shop(&home, json!({}));
    app["command"] = json!(["/bin/bash", "-c", "exec sleep 1000", "tag", "shop"]);
    apply(&home, &[app.clone()]);
    let waiting = home.instance("shop", 0);
    assert_eq!(waiting["actual"], "waiting", "{waiting}");
    says(
        &waiting["why"].to_string(),
        &["/shop/bash_env", "allow: [BASH_ENV]"],
    );
    assert!(!ran.exists());
    // The app may want it so.
    app["config"] = json!({"places": "/shop/", "allow": ["BASH_ENV"]});
    apply(&home, &[app.clone()]);
    wait_value(&home, "shop", 1, "BASH_ENV", &hook.display().to_string());
    assert!(ran.exists(), "it was read");
    app["config"] = json!({"places": "/shop/", "allow": ["LD_PRELOAD"]});
    home.write("wrong.json", &json!({"apps": [app]}).to_string());
    let refused = home.cmd(["start", "wrong.json"]);
    ended(&refused, 4);
    says(&refused.stderr, &["allow", "LD_PRELOAD"]);
}
