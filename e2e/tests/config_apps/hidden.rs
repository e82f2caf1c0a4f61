//! Secrets of programs stay with the programs: what checks say of them is not shown, and the store being away opens nothing.

use serde_json::json;
use upkeep_e2e::{Http, LONG, apply, events, says};
use upkeep_testkit::{Home, Signal, kill, wait_until};

use crate::{
    holders, pids,
    rights::{put, text, token},
    set, set_secret, shop, wait_event, wait_value,
};

const SECRET: &str = "hunter2-9Qz-needle";

/// Nothing that is shown, and no file of ours, has the secret.
#[track_caller]
fn nothing_tells(home: &Home) {
    let all = [
        home.ok(["ls", "--json"]),
        home.ok(["show", "shop", "--json"]),
        home.cmd(["why", "shop"]).stdout,
        format!("{:?}", events(home)),
    ];
    for text in all {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(holders(&home.path(), SECRET), Vec::<String>::new());
}

#[test]
fn what_a_check_says_of_a_secret_is_not_shown() {
    let home = Home::new();
    home.write("t.j2", "password={{ password }}\nn={{ n }}\n");
    let tells = "cat $0 >&2; grep -q n=1 $0";
    let more = json!({
        "files": [{"template": "t.j2", "to": "shop.conf", "check": ["/bin/sh", "-c", tells, "{}"]}],
        "check": ["/bin/sh", "-c", "echo got $PASSWORD >&2; test \"$N\" = 1"],
    });
    set(&home, &[("/shop/n", "1")]);
    set_secret(&home, "/shop/password", SECRET);
    apply(&home, &[shop(&home, more)]);
    wait_value(&home, "shop", 1, "N", "1");
    set(&home, &[("/shop/n", "2")]);
    let refused = wait_event(&home, "shop", "values_refused", 1);
    says(&refused[0]["why"].to_string(), &["shop.conf", "secret"]);
    nothing_tells(&home);
    // What a check of its life says is of its environment, too.
    let probe = json!({"exec": ["/bin/sh", "-c", "echo got $PASSWORD >&2; exit 7"],
        "period": "100ms", "failure_threshold": 1});
    let two = json!({"name": "two", "liveness": probe});
    let answer = home.cmd_with_input(
        ["start", "-"],
        json!({"apps": [shop(&home, two)]}).to_string().as_bytes(),
    );
    assert_eq!(answer.code, 0, "{answer:?}");
    let unhealthy = wait_event(&home, "two:0", "unhealthy", 1);
    says(&unhealthy[0]["why"].to_string(), &["exit status: 7", "secret"]);
    home.ok(["delete", "two"]);
    nothing_tells(&home);
    // Whoever may restart the app runs its check, and is shown no more.
    let mut more = json!({"check": ["/bin/sh", "-c", "echo got $PASSWORD >&2; exit 1"]});
    more["files"] = json!([]);
    let answer = home.cmd_with_input(
        ["start", "-"],
        json!({"apps": [shop(&home, more)]}).to_string().as_bytes(),
    );
    assert_ne!(answer.code, 0, "{answer:?}");
    assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
    says(&answer.stderr, &["check", "secret"]);
    nothing_tells(&home);
}

#[test]
fn the_store_being_away_opens_no_secret_and_takes_none() {
    let home = Home::new();
    set(&home, &[("/shop/a", "1")]);
    set_secret(&home, "/shop/password", SECRET);
    let app = shop(&home, json!({}));
    apply(&home, std::slice::from_ref(&app));
    wait_value(&home, "shop", 1, "PASSWORD", SECRET);
    let dev = token(&home, "dev", &["config:read"], "/shop/");
    home.ok(["shutdown"]);
    std::fs::write(home.path().join("config.redb"), b"this is no store").expect("damaged");
    wait_value(&home, "shop", 1, "PASSWORD", SECRET);

    let check = json!({"check": ["/bin/sh", "-c", "echo got $PASSWORD >&2; exit 1"]});
    for app in [&shop(&home, check), &app] {
        let answer = put(&home, &dev, app);
        assert!(!text(&answer).contains("hunter2"), "{}", text(&answer));
        assert_eq!(answer.status, 403, "{}", text(&answer));
        says(&text(&answer), &["reveal", "/shop/password"]);
    }
    // What runs was touched by none of it: it starts again with its values.
    let [pid] = pids(&home, "shop")[..] else {
        panic!("one")
    };
    kill(i32::try_from(pid).expect("a pid"), Signal::KILL).expect("it runs");
    wait_until("another process", LONG, || match pids(&home, "shop")[..] {
        [other] if other != pid => Ok(()),
        ref other => Err(format!("{other:?}")),
    });
    wait_value(&home, "shop", 1, "PASSWORD", SECRET);
}

/// Who may see an app's events is not told by them what stands in the store.
#[test]
fn names_of_changed_values_are_for_who_may_read_the_history() {
    let home = Home::new();
    set(&home, &[("/shop/a", "1")]);
    set_secret(&home, "/shop/db/password", SECRET);
    apply(&home, &[shop(&home, json!({}))]);
    wait_value(&home, "shop", 1, "A", "1");
    let of_owner = wait_event(&home, "shop", "values_changed", 1);
    assert_eq!(
        of_owner[0]["details"]["changed"],
        json!(["/shop/a", "/shop/db/password"])
    );
    home.ok([
        "role",
        "set",
        "sees",
        "--verb",
        "apps:read",
        "--verb",
        "events:read",
    ]);
    home.ok([
        "role",
        "set",
        "history",
        "--verb",
        "config:history",
        "--path",
        "/shop/db/",
    ]);
    for (roles, wanted) in [
        (&["sees"][..], None),
        (&["sees", "history"], Some(json!(["/shop/db/password"]))),
    ] {
        let mut args = vec!["token", "create", roles[roles.len() - 1]];
        args.extend(roles.iter().flat_map(|role| ["--role", role]));
        let made = home.json(args);
        let bearer = format!("Bearer {}", made["secret"].as_str().expect("a token"));
        let answer = Http::ask_with(
            &home,
            "GET",
            "/v1/events?kind=values_changed",
            &[("Authorization", &bearer)],
            b"",
        );
        assert_eq!(answer.status, 200, "{}", text(&answer));
        let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let event = &told["events"][0];
        assert_eq!(event["target"], "shop", "{told}");
        assert_eq!(event["details"].get("changed"), wanted.as_ref(), "{told}");
        assert!(event["details"]["revision"].is_u64(), "{told}");
    }
}

/// A secret that is gone from the store is still in the values that are in force.
#[test]
fn a_secret_that_was_deleted_is_one_as_long_as_it_is_in_force() {
    let home = Home::new();
    set(&home, &[("/shop/a", "1")]);
    set_secret(&home, "/shop/password", SECRET);
    let slow = json!({"on_change": {"wait": "30s", "max": "60s"}});
    apply(&home, &[shop(&home, slow.clone())]);
    wait_value(&home, "shop", 1, "PASSWORD", SECRET);
    let dev = token(&home, "dev", &["config:read"], "/shop/");
    home.ok(["config", "rm", "/shop/password"]);
    let mut changed = shop(&home, slow);
    changed["check"] = json!(["/bin/sh", "-c", "echo got $PASSWORD >&2; exit 1"]);
    let answer = put(&home, &dev, &changed);
    assert!(!text(&answer).contains("hunter2"), "{}", text(&answer));
    assert_eq!(answer.status, 403, "{}", text(&answer));
}
