//! Files that are made for an app.

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use serde_json::json;
use upkeep_e2e::{LONG, apply, kill_daemon, says};
use upkeep_testkit::{Home, pass, wait_until};

use crate::{pids, set, set_secret, shop, told, wait_event, wait_value};

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

#[track_caller]
fn wait_text(path: &Path, wanted: &str) {
    wait_until(&format!("{} to be {wanted:?}", path.display()), LONG, || {
        let now = text(path);
        if now == wanted { Ok(()) } else { Err(now) }
    });
}

/// consul-template#1131, #1713 (a blank file), #980 (a missing key blocks without a word), #1814 (with one missing key it acts again
/// and again).
#[test]
fn files_are_there_before_the_program_and_never_blank() {
    let home = Home::new();
    let (one, two) = (home.work().join("one.conf"), home.work().join("two.conf"));
    home.write("one.j2", "# one\nurl={{ db.url }}\npassword={{ db.password }}\n");
    home.write("two.j2", "{% if exists('on') %}n={{ n }}{% endif %}");
    let more = json!({
        "config": {"places": "/shop/", "env": false},
        "files": [
            {"template": "one.j2", "to": "one.conf", "mode": "0640"},
            {"template": "two.j2", "to": two, "check": ["grep", "-q", "n=", "{}"]},
        ],
        "on_change": {"do": "restart", "wait": "100ms", "max": "1s"},
    });
    set(&home, &[("/shop/n", "1"), ("/shop/on", "1")]);
    set_secret(&home, "/shop/db/password", "needle");
    apply(&home, &[shop(&home, more)]);
    // The key that is missing is named, with the line that needs it; nothing is written and nothing runs.
    let waiting = home.instance("shop", 0);
    assert_eq!(waiting["actual"], "waiting", "{waiting}");
    says(&waiting["why"].to_string(), &["one.j2:2", "/shop/db/url"]);
    assert!(!one.exists() && !two.exists());
    set(&home, &[("/shop/db/url", "x")]);
    home.wait_for("shop", 0, "running");
    assert_eq!(text(&one), "# one\nurl=x\npassword=needle\n");
    assert_eq!(text(&two), "n=1");
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o7777;
    assert_eq!((mode(&one), mode(&two)), (0o640, 0o600));
    let [pid] = wait_ready(&home)[..] else {
        panic!("one")
    };
    assert!(
        !crate::environment(pid).contains_key("DB_URL"),
        "only its files see them"
    );
    assert_eq!(told(&home, "shop")["files"].as_array().map(Vec::len), Some(2));

    // One that would be blank, one that its check refuses, one whose key is gone: neither file is touched, and nobody is told.
    home.ok(["config", "rm", "/shop/on"]);
    let refused = wait_event(&home, "shop", "values_refused", 2);
    says(&refused[1]["why"].to_string(), &["two.j2", "blank"]);
    home.ok(["config", "rm", "/shop/n"]);
    set(&home, &[("/shop/on", "1"), ("/shop/db/url", "y")]);
    let refused = wait_event(&home, "shop", "values_refused", 3);
    says(&refused[2]["why"].to_string(), &["two.j2:1", "/shop/n"]);
    for n in 0..5 {
        set(&home, &[("/shop/db/url", &format!("y{n}"))]);
    }
    assert_eq!(text(&one), "# one\nurl=x\npassword=needle\n");
    assert_eq!(text(&two), "n=1");
    assert_eq!(pids(&home, "shop"), [pid]);
    // All of it is well again: both files, one restart.
    set(&home, &[("/shop/n", "2")]);
    wait_text(&two, "n=2");
    assert_eq!(text(&one), "# one\nurl=y4\npassword=needle\n");
    wait_until("another process", LONG, || match pids(&home, "shop")[..] {
        [other] if other != pid => Ok(()),
        ref other => Err(format!("{other:?}")),
    });
    let replaced = wait_event(&home, "shop", "replaced", 1);
    assert_eq!(replaced.len(), 1, "one action for all of it");
    // Another template is another app: its file is there before its first copy.
    home.write("two.j2", "number n={{ n }}");
    home.ok(["start", "upkeep.json"]);
    assert_eq!(text(&two), "number n=2");
    home.ok(["rollback", "shop"]);
    assert_eq!(text(&two), "n=2");
}

#[track_caller]
fn wait_ready(home: &Home) -> Vec<i64> {
    wait_until("a ready instance", LONG, || match pids(home, "shop") {
        pids if pids.len() == 1 => Ok(pids),
        other => Err(format!("{other:?}")),
    })
}

/// A program that reads its file at the start and does no good with the new one: file and values come back together.
#[test]
fn a_file_that_does_no_good_goes_back() {
    let home = Home::new();
    let file = home.work().join("mode.conf");
    home.write("mode.j2", "mode={{ mode }}\n");
    let mut app = shop(&home, json!({"files": [{"template": "mode.j2", "to": file}]}));
    app["command"] = json!([
        "/bin/sh",
        "-c",
        "grep -q good mode.conf || exit 3; exec sleep 1000",
        "tag",
        "shop"
    ]);
    set(&home, &[("/shop/mode", "good")]);
    apply(&home, &[app]);
    wait_value(&home, "shop", 1, "MODE", "good");
    set(&home, &[("/shop/mode", "bad")]);
    wait_event(&home, "shop", "values_refused", 1);
    wait_text(&file, "mode=good\n");
    wait_value(&home, "shop", 1, "MODE", "good");
    wait_event(&home, "shop", "returned", 1);
    assert_eq!(text(&file), "mode=good\n");
}

/// A program that reads its file again at a signal, and ends at a bad one: the old file comes back.
#[test]
fn a_signal_and_the_way_back() {
    let home = Home::new();
    let (file, seen) = (home.work().join("mode.conf"), home.work().join("seen"));
    home.write("mode.j2", "{{ mode }}");
    let script = "trap 'm=$(cat mode.conf); echo $m >> seen; test $m != bad || exit 3' HUP; \
                  echo start-$(cat mode.conf) >> seen; while :; do sleep 0.05; done";
    let mut app = shop(
        &home,
        json!({
            "files": [{"template": "mode.j2", "to": file}],
            "on_change": {"signal": "HUP", "wait": "100ms", "max": "1s"},
            "restart": {"min_uptime": "1s", "backoff": {"min": "1ms", "max": "10ms"}},
        }),
    );
    app["command"] = json!(["/bin/sh", "-c", script, "tag", "shop"]);
    set(&home, &[("/shop/mode", "one")]);
    apply(&home, &[app]);
    let [pid] = wait_ready(&home)[..] else {
        panic!("one")
    };
    set(&home, &[("/shop/mode", "two")]);
    wait_text(&seen, "start-one\ntwo\n");
    assert_eq!(pids(&home, "shop"), [pid], "it got a signal and nothing else");
    wait_event(&home, "shop", "values_changed", 2);
    // Until it has proven itself there is nothing to go back to but the first.
    pass(Duration::from_millis(1300));
    set(&home, &[("/shop/mode", "bad")]);
    let back = wait_event(&home, "shop", "values_returned", 1);
    says(&back[0]["why"].to_string(), &["after the signal"]);
    wait_text(&file, "two");
    wait_event(&home, "shop", "values_refused", 1);
    wait_ready(&home);
    set(&home, &[("/shop/mode", "three")]);
    wait_text(&file, "three");
}

/// What is wrong with the machine is repaired there, and no value changes for it.
#[test]
fn files_that_could_not_be_written_are_tried_again() {
    let home = Home::new();
    let (folder, flag) = (home.work().join("etc"), home.work().join("flag"));
    home.write("t.j2", "a={{ a }}\n");
    let check = format!("test -e {}", flag.display());
    let files = json!([
        {"template": "t.j2", "to": folder.join("t.conf"), "check": ["/bin/sh", "-c", check]},
    ]);
    set(&home, &[("/shop/a", "1")]);
    apply(&home, &[shop(&home, json!({"files": files}))]);
    let waiting = home.instance("shop", 0);
    assert_eq!(waiting["actual"], "waiting", "{waiting}");
    says(&waiting["why"].to_string(), &["t.conf", "No such file"]);
    std::fs::create_dir(&folder).expect("made");
    let refused = wait_event(&home, "shop", "values_refused", 2);
    says(&refused[1]["why"].to_string(), &["check", "t.conf"]);
    std::fs::write(&flag, b"").expect("made");
    wait_value(&home, "shop", 1, "A", "1");
    assert_eq!(text(&folder.join("t.conf")), "a=1\n");
}

/// An app that looks at its file a second after its signal, and ends if it is bad. Gives back the file.
#[track_caller]
fn slow_to_judge(home: &Home) -> std::path::PathBuf {
    let file = home.work().join("mode.conf");
    home.write("mode.j2", "{{ mode }}");
    let script =
        "trap 'sleep 1; case $(cat mode.conf) in bad*) exit 3;; esac' HUP; while :; do sleep 0.05; done";
    let mut app = shop(
        home,
        json!({
            "files": [{"template": "mode.j2", "to": file}],
            "on_change": {"signal": "HUP", "wait": "100ms", "max": "1s"},
            "restart": {"min_uptime": "3s", "backoff": {"min": "1ms", "max": "10ms"}},
        }),
    );
    app["command"] = json!(["/bin/sh", "-c", script, "tag", "shop"]);
    set(home, &[("/shop/mode", "good")]);
    apply(home, &[app]);
    wait_until("an instance", LONG, || match home.instance("shop", 0) {
        instance if instance["actual"] == "running" => Ok(()),
        instance => Err(instance.to_string()),
    });
    file
}

/// What is on trial itself is nothing to go back to.
#[test]
fn two_bad_values_in_a_row_lead_back_to_the_good_one() {
    let home = Home::new();
    let file = slow_to_judge(&home);
    set(&home, &[("/shop/mode", "bad-a")]);
    wait_text(&file, "bad-a");
    set(&home, &[("/shop/mode", "bad-b")]);
    let back = wait_event(&home, "shop", "values_returned", 1);
    says(&back[0]["why"].to_string(), &["after the signal"]);
    wait_text(&file, "good");
    wait_event(&home, "shop", "values_refused", 1);
    assert_eq!(text(&file), "good");
}

#[test]
fn the_way_back_outlives_the_daemon() {
    let home = Home::new();
    let file = slow_to_judge(&home);
    let keeper = home.keeper_pid();
    set(&home, &[("/shop/mode", "bad-c")]);
    wait_event(&home, "shop", "values_changed", 2);
    kill_daemon(keeper);
    home.daemon_pid();
    wait_event(&home, "shop", "values_returned", 1);
    wait_text(&file, "good");
    wait_event(&home, "shop", "values_refused", 1);
}
