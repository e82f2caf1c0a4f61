//! The history through the binary: far back, page by page, trimmed; going back to secrets.

use serde_json::{Value, json};
use upkeep_e2e::{Http, ended, says};
use upkeep_testkit::Home;

use crate::{ask, token};

/// So many values; etcd takes no more than some 60 in one change.
const COUNT: usize = if crate::ON_ETCD { 40 } else { 150 };

/// Sets many values at once and tells the revision.
fn set_all(home: &Home, count: usize, text: &str) -> u64 {
    let puts: Vec<Value> = (0..count)
        .map(|n| json!({"path": format!("/shop/{n:03}"), "text": format!("{text} {n}")}))
        .collect();
    let body = json!({"puts": puts, "reason": text}).to_string();
    let answer = Http::ask(home, "POST", "/v1/config/changes", body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["revision"].as_u64().expect("a revision")
}

#[test]
fn a_revision_far_back_is_brought_back_whole() {
    let home = crate::home();
    home.ok(["ls"]);
    let first = set_all(&home, COUNT, "first");
    for round in 0..20 {
        set_all(&home, COUNT, &format!("round {round}"));
    }
    home.ok(["config", "rm", "/shop/007"]);
    home.ok(["config", "set", "/shop/new", "later"]);
    let diff = home.json(["config", "diff", "/shop/", &first.to_string()]);
    assert_eq!(diff["differences"].as_array().map(Vec::len), Some(COUNT + 1));
    // In pages, the same.
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = Http::ask(
            &home,
            "GET",
            &format!("/v1/config/diff?place=/shop/&from={first}&limit=30{after}"),
            b"",
        )
        .json();
        paged.extend(page["differences"].as_array().expect("differences").clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(diff["differences"], Value::Array(paged));
    home.ok([
        "config",
        "rollback",
        "/shop/",
        &first.to_string(),
        "--reason",
        "far back",
    ]);
    let list = home.json(["config", "ls", "/shop/"]);
    let values = list["values"].as_array().expect("values");
    assert_eq!(values.len(), COUNT);
    for (n, value) in values.iter().enumerate() {
        assert_eq!(
            (&value["path"], &value["text"]),
            (&json!(format!("/shop/{n:03}")), &json!(format!("first {n}")))
        );
        assert_eq!(value["reason"], "far back");
    }
    // All that was, once, however it is cut.
    let all = |limit: usize| {
        let mut changes = Vec::new();
        let mut behind = String::new();
        loop {
            let page = Http::ask(
                &home,
                "GET",
                &format!("/v1/config/history?place=/shop/&limit={limit}{behind}"),
                b"",
            )
            .json();
            changes.extend(page["changes"].as_array().expect("changes").clone());
            match page["next"].as_object() {
                Some(next) => {
                    behind = format!(
                        "&before={}&behind={}",
                        next["before"],
                        next["behind"].as_str().expect("a path")
                    );
                }
                None => return changes,
            }
        }
    };
    let whole = all(1000);
    assert_eq!(whole.len(), 21 * COUNT + 2 + COUNT + 1);
    assert_eq!(all(149), whole);
    assert_eq!(
        home.json(["config", "history", "/shop/", "-n", "1000"])["changes"]
            .as_array()
            .map(Vec::len),
        Some(whole.len().min(1000))
    );
    let wrong = Http::ask(&home, "GET", "/v1/config/history?behind=/shop/1", b"");
    assert_eq!(wrong.status, 422, "{wrong:?}");
}

#[test]
fn how_much_is_kept_is_said_for_a_place() {
    let home = crate::home();
    let said = home.ok([
        "config",
        "history",
        "/shop/",
        "--keep",
        "5",
        "--reason",
        "no need of more",
    ]);
    says(&said, &["keeps 5 changes and 365 days of each value: /shop/"]);
    says(
        &home.ok(["config", "recipients"]),
        &["keeps 5 changes and 365 days of each value"],
    );
    let first = home.json(["config", "set", "/shop/a", "0"])["revision"]
        .as_u64()
        .expect("a revision");
    for n in 1..400 {
        let body = json!({"text": n.to_string()}).to_string();
        assert_eq!(
            Http::ask(&home, "PUT", "/v1/config/values/shop/a", body.as_bytes()).status,
            200
        );
    }
    let left = || {
        let history = home.json(["config", "history", "/shop/a", "-n", "1000"]);
        history["changes"].as_array().expect("changes").len()
    };
    assert!((5..=5 + 256).contains(&left()), "{}", left());
    // What is to go goes at once when that is said.
    home.ok(["config", "history", "/shop/", "--keep", "4"]);
    assert_eq!(left(), 4);
    let refused = home.cmd(["config", "rollback", "/shop/", &first.to_string()]);
    ended(&refused, 6);
    says(
        &refused.stderr,
        &["what `/shop/a` was at revision", "is not known any more"],
    );
    assert_eq!(home.ok(["config", "get", "/shop/a"]), "399\n");
    home.ok(["config", "history", "/shop/", "--keep-default"]);
    let places = home.json(["config", "recipients"])["places"].to_string();
    assert!(!places.contains("/shop/"), "{places}");
    ended(&home.cmd(["config", "history", "/shop/", "--keep", "0"]), 2);
}

#[test]
fn going_back_is_told_to_who_may_know_and_puts_no_secret_in_clear() {
    let home = crate::home();
    let old = home.json(["config", "set", "/shop/key", "in the open"])["revision"]
        .as_u64()
        .expect("a revision");
    let set = home.cmd_with_input(["config", "set", "/shop/key", "-", "--secret"], b"sealed now");
    assert_eq!(set.code, 0, "{set:?}");
    let refused = home.cmd(["config", "rollback", "/shop/", &old.to_string()]);
    ended(&refused, 6);
    says(
        &refused.stderr,
        &["`/shop/key` is a secret and was none at that revision"],
    );
    assert_eq!(
        home.ok(["config", "get", "/shop/key", "--reveal"]),
        "sealed now\n"
    );

    let was = home.json(["config", "set", "/blog/a", "was"])["revision"]
        .as_u64()
        .expect("a revision");
    home.ok(["config", "set", "/blog/a", "is"]);
    let back = |role: &str, verbs: &[&str]| {
        let mut args = vec!["role", "set", role, "--path", "/blog/"];
        for verb in verbs {
            args.extend(["--verb", verb]);
        }
        home.ok(args);
        let secret = token(&home, role, &["--role", role]);
        let body = json!({"place": "/blog/", "to": was, "dry_run": true});
        let told = ask(&home, &secret, "POST", "/v1/config/rollback", &body);
        assert_eq!(told.status, 200, "{told:?}");
        told.json()["differences"][0].clone()
    };
    let told = back("writes", &["config:write", "config:read"]);
    assert_eq!(
        (&told["before"]["text"], &told["after"]["text"]),
        (&json!("is"), &Value::Null)
    );
    let told = back("knows", &["config:write", "config:read", "config:history"]);
    assert_eq!(told["after"]["text"], "was");
    // Nor is a revision told by a conflict.
    home.ok([
        "role",
        "set",
        "blind",
        "--verb",
        "config:write",
        "--path",
        "/blog/",
    ]);
    let blind = token(&home, "blind", &["--role", "blind"]);
    let conflict = ask(
        &home,
        &blind,
        "PUT",
        "/v1/config/values/blog/a",
        &json!({"text": "x", "revision": 999_999}),
    );
    assert_eq!(conflict.status, 409, "{conflict:?}");
    let message = conflict.json()["message"].as_str().expect("a message").to_owned();
    assert_eq!(
        message,
        "`/blog/a` is not at revision 999999; nothing was changed"
    );
}
