//! Who may do what: every call with every role, and tokens that are not what they were.

use std::time::Duration;

use serde_json::{Value, json};
use upkeep_e2e::{Http, LONG, app, apply, ended, says};
use upkeep_testkit::{Home, wait_until};

use crate::{ask, calls, token, verbs};

/// A body that every call either refuses or takes without doing anything.
fn harmless() -> Value {
    json!({"dry_run": true, "program": "/nonexistent", "selectors": ["all"]})
}

/// What the built-in roles hold.
fn holds(role: &str, verb: &str) -> bool {
    const VIEWER: &[&str] = &[
        "self:read",
        "apps:read",
        "apps:logs",
        "events:read",
        "machine:read",
    ];
    const OPERATOR: &[&str] = &["apps:operate", "alerts:operate", "settings:read"];
    match role {
        "admin" => true,
        "operator" => VIEWER.contains(&verb) || OPERATOR.contains(&verb),
        "viewer" => VIEWER.contains(&verb),
        // Of apps all, of the machine nothing.
        "shop" => verb == "self:read" || verb.starts_with("apps:"),
        _ => false,
    }
}

#[test]
fn every_call_with_every_role() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let before = home.instance("shop", 0)["pid"].clone();
    home.ok(["role", "set", "shop", "--verb", "apps:*", "--app", "shop"]);
    let tokens: Vec<(&str, String)> = ["viewer", "operator", "admin", "shop"]
        .into_iter()
        .map(|role| (role, token(&home, &format!("a-{role}"), &["--role", role])))
        .collect();
    let mut looked = 0;
    let calls = calls(&home);
    let editor = include_str!("../../../web/src/views/roles.js");
    for (method, path, verb) in verbs::VERBS {
        let is_edited = *verb == "self:read" || editor.contains(&format!("[\"{verb}\","));
        assert!(
            is_edited,
            "the web client's editor of roles does not know `{verb}`"
        );
        let is_there = calls
            .iter()
            .any(|call| call.method == *method && call.template == *path);
        assert!(is_there, "`{method} {path}` is not in the description any more");
    }
    for call in calls {
        let verb = verbs::of(&call.method, &call.template);
        assert_eq!(call.verb, verb, "the verb of {} {}", call.method, call.template);
        for (role, secret) in &tokens {
            let answer = ask(&home, secret, &call.method, &call.path(), &harmless());
            let what = format!("{} {} as {role}: {answer:?}", call.method, call.template);
            if holds(role, verb) {
                assert!(!matches!(answer.status, 401 | 500), "{what}");
                // Of the machine as a whole the one who has a single app may change nothing.
                let is_whole = *role == "shop"
                    && (call.template.starts_with("/v1/snapshot") || call.path() == "/v1/apps");
                assert!(answer.status != 403 || is_whole, "{what}");
            } else {
                assert_eq!(answer.status, 403, "{what}");
                assert_eq!(answer.json()["code"], "forbidden", "{what}");
            }
            looked += 1;
        }
        // Nobody, and somebody whom we do not know.
        for wrong in [
            "",
            "upk_",
            "nonsense",
            &format!("upk_{}_{}", "0".repeat(12), "0".repeat(64)),
        ] {
            let answer = ask(&home, wrong, &call.method, &call.path(), &harmless());
            assert_eq!(
                answer.status, 401,
                "{} {} with `{wrong}`: {answer:?}",
                call.method, call.template
            );
            assert!(
                answer
                    .head
                    .to_ascii_lowercase()
                    .contains("www-authenticate: bearer"),
                "{answer:?}"
            );
        }
    }
    assert!(looked > 160, "{looked} looks");
    assert_eq!(home.instance("shop", 0)["pid"], before, "all of it was harmless");
    // What was refused is in the audit, without any secret.
    let audit = home.ok(["audit", "--kind", "denied", "-n", "500", "--json"]);
    says(&audit, &["token:a-viewer", "denied"]);
    for (_, secret) in &tokens {
        assert!(!audit.contains(secret.as_str()));
    }
}

#[test]
fn a_scope_hides_what_lies_outside() {
    let home = Home::new();
    let with = |name: &str, namespace: &str| {
        let mut app = app(&home, name, &["print", "words", "wait"]);
        app["namespace"] = json!(namespace);
        app
    };
    apply(
        &home,
        &[
            with("shop", "live"),
            with("shop-db", "live"),
            with("blog", "test"),
        ],
    );
    home.ok([
        "role",
        "set",
        "keeper",
        "--verb",
        "apps:*",
        "--verb",
        "events:read",
        "--app",
        "shop*",
    ]);
    let keeper = token(&home, "keeper", &["--role", "keeper"]);
    let narrow = token(&home, "narrow", &["--role", "admin", "--namespace", "test"]);
    let names = |secret: &str| -> Vec<String> {
        let apps = ask(&home, secret, "GET", "/v1/apps", &Value::Null).json()["apps"].clone();
        let apps = apps.as_array().expect("apps");
        apps.iter()
            .map(|app| app["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(names(&keeper), ["shop", "shop-db"]);
    assert_eq!(names(&narrow), ["blog"]);
    for path in [
        "/v1/apps/blog",
        "/v1/apps/blog/crashes",
        "/v1/logs?apps=blog",
        "/v1/metrics?apps=blog",
    ] {
        let answer = ask(&home, &keeper, "GET", path, &Value::Null);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    let answer = ask(&home, &keeper, "GET", "/v1/metrics?host=true", &Value::Null);
    assert_eq!(answer.status, 403, "{answer:?}");
    // `all` is all that one reaches.
    let before = home.instance("blog", 0)["pid"].clone();
    let answer = ask(
        &home,
        &keeper,
        "POST",
        "/v1/selections/restart",
        &json!({"selectors": ["all"]}),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.json()["changes"].as_array().map(Vec::len),
        Some(2),
        "{answer:?}"
    );
    assert_eq!(home.instance("blog", 0)["pid"], before);
    let answer = ask(
        &home,
        &keeper,
        "POST",
        "/v1/selections/stop",
        &json!({"selectors": ["blog"]}),
    );
    assert_eq!(answer.status, 404, "{answer:?}");
    // A new app of a foreign name or namespace, and an own one that would leave.
    for (secret, name, namespace) in [
        (&keeper, "other", "live"),
        (&narrow, "new", "live"),
        (&narrow, "shop", "test"),
    ] {
        let body = json!({"apps": [spec(&home, name, namespace)]});
        let answer = ask(&home, secret, "POST", "/v1/apps", &body);
        assert_eq!(answer.status, 403, "{name}: {answer:?}");
    }
    let body = json!({"apps": [spec(&home, "shop-new", "live")]});
    let answer = ask(&home, &keeper, "POST", "/v1/apps", &body);
    assert_eq!(answer.status, 201, "{answer:?}");
    // Events of others are not told.
    let events = ask(&home, &keeper, "GET", "/v1/events?limit=1000", &Value::Null).json();
    let events = events["events"].as_array().expect("events");
    assert!(!events.is_empty());
    for event in events {
        let target = event["target"].as_str().unwrap_or_default();
        assert!(
            target.split(' ').all(|one| one.starts_with("shop")) && !target.is_empty(),
            "{event}"
        );
    }
    // Nobody gives away what they do not hold.
    home.ok([
        "role",
        "set",
        "giver",
        "--verb",
        "access:*",
        "--verb",
        "apps:read",
    ]);
    let giver = token(&home, "giver", &["--role", "giver"]);
    for (path, body) in [
        ("/v1/tokens", json!({"name": "up", "roles": ["admin"]})),
        ("/v1/tokens", json!({"name": "up", "roles": ["operator"]})),
    ] {
        let answer = ask(&home, &giver, "POST", path, &body);
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    let answer = ask(
        &home,
        &giver,
        "PUT",
        "/v1/roles/giver",
        &json!({"grants": [{"verbs": ["*"]}]}),
    );
    assert_eq!(answer.status, 403, "{answer:?}");
    let answer = ask(
        &home,
        &giver,
        "PUT",
        "/v1/roles/admin/members/uid:4294967",
        &Value::Null,
    );
    assert_eq!(answer.status, 403, "{answer:?}");
    let answer = ask(&home, &giver, "DELETE", "/v1/tokens/narrow", &Value::Null);
    assert_eq!(answer.status, 403, "{answer:?}");
}

/// A specification as `POST /v1/apps` takes it, made of one that is there.
fn spec(home: &Home, name: &str, namespace: &str) -> Value {
    let mut spec = home.json(["show", "shop"])["spec"].clone();
    spec["name"] = json!(name);
    spec["namespace"] = json!(namespace);
    spec["env"] = json!({});
    spec["inherited_env"] = json!({});
    spec
}

#[test]
fn tokens_end_and_are_revoked_and_outlive_the_daemon() {
    let home = Home::new();
    home.ok(["start", "-n", "shop", "--", home.child(), "wait"]);
    let short = token(&home, "short", &["--role", "viewer", "--expires", "2s"]);
    let long = token(
        &home,
        "long",
        &["--role", "viewer", "--reason", "the wall display"],
    );
    let status = |secret: &str| ask(&home, secret, "GET", "/v1/whoami", &Value::Null).status;
    assert_eq!((status(&short), status(&long)), (200, 200));
    wait_until("the end of a token", LONG, || match status(&short) {
        401 => Ok(()),
        other => Err(other.to_string()),
    });
    // The store holds no secret.
    let (_, secret) = long.rsplit_once('_').expect("a secret");
    for file in ["store.redb", "run/daemon.log"] {
        let bytes = std::fs::read(home.path().join(file)).unwrap_or_default();
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "{file}");
    }
    upkeep_e2e::kill_daemon(home.keeper_pid());
    wait_until("a daemon", Duration::from_secs(30), || {
        if home.cmd(["ping"]).code == 0 {
            Ok(())
        } else {
            Err("no answer".to_owned())
        }
    });
    assert_eq!(status(&long), 200);
    let list = home.json(["token", "ls"]);
    assert!(!list.to_string().contains(secret));
    assert_eq!(list["tokens"][1]["expired"], true, "{list}");
    home.ok(["token", "revoke", "long"]);
    assert_eq!(status(&long), 401);
    ended(&home.cmd(["token", "revoke", "long"]), 3);
    ended(&home.cmd(["token", "create", "x", "--role", "nobody"]), 4);
    ended(&home.cmd(["token", "create", "a b", "--role", "viewer"]), 4);
    ended(&home.cmd(["role", "rm", "viewer"]), 6);
    ended(&home.cmd(["role", "set", "admin", "--verb", "apps:read"]), 6);
    let wrong = home.cmd(["role", "set", "mine", "--verb", "apps:fly"]);
    ended(&wrong, 2);
    says(&wrong.stderr, &["there is no verb", "apps:operate"]);
    let audit = home.ok(["audit"]);
    says(&audit, &["token_created", "token_revoked", "the wall display"]);
}

#[test]
fn a_role_is_made_held_and_taken() {
    let home = Home::new();
    home.ok(["ls"]);
    home.ok(["start", "-n", "shop", "--", home.child(), "wait"]);
    home.ok([
        "role",
        "set",
        "deployer",
        "--verb",
        "apps:write",
        "--verb",
        "apps:read",
        "--app",
        "shop*",
    ]);
    home.ok(["role", "grant", "deployer", "uid:4294967"]);
    home.ok(["role", "grant", "deployer", "cert:laptop"]);
    let again = home.json(["role", "grant", "deployer", "cert:laptop"]);
    assert_eq!(again["changes"], json!([]));
    let roles = home.json(["role", "ls"])["roles"].clone();
    let mine = roles
        .as_array()
        .and_then(|roles| roles.iter().find(|role| role["name"] == "deployer").cloned())
        .expect("the role");
    assert_eq!(mine["members"], json!(["cert:laptop", "uid:4294967"]));
    assert_eq!(mine["grants"][0]["apps"], json!(["shop*"]));
    ended(&home.cmd(["role", "rm", "deployer"]), 6);
    home.ok(["role", "revoke", "deployer", "uid:4294967"]);
    home.ok(["role", "revoke", "deployer", "cert:laptop"]);
    home.ok(["role", "rm", "deployer"]);
    ended(&home.cmd(["role", "grant", "deployer", "uid:1"]), 4);
    ended(&home.cmd(["role", "grant", "viewer", "somebody"]), 4);
    let me = home.json(["whoami"]);
    assert_eq!(me["roles"], json!(["admin"]), "{me}");
}

#[test]
fn an_open_stream_ends_with_the_rights_that_it_was_opened_with() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["print", "hello", "wait"])]);
    let revoked = token(&home, "revoked", &["--role", "viewer"]);
    let ending = token(&home, "ending", &["--role", "viewer", "--expires", "3s"]);
    home.ok([
        "role",
        "set",
        "shop",
        "--verb",
        "apps:*",
        "--verb",
        "events:read",
        "--app",
        "shop",
    ]);
    let narrowed = token(&home, "narrowed", &["--role", "shop"]);
    let open = |secret: &str, path: &str| {
        let mut http = Http::connect(&home);
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {secret}\r\n\r\n"
        );
        http.send(head.as_bytes()).expect("it is taken");
        http
    };
    let streams = [
        (&revoked, "/v1/logs?follow=true"),
        (&revoked, "/v1/events?follow=true"),
        (&revoked, "/v1/apps?follow=true"),
        (&revoked, "/v1/metrics?follow=true"),
        (&ending, "/v1/logs?follow=true"),
        (&narrowed, "/v1/logs?follow=true"),
    ];
    let threads: Vec<_> = streams
        .iter()
        .map(|(secret, path)| {
            let mut http = open(secret, path);
            // Reads until the daemon hangs up; a stream that goes on does not end in time.
            std::thread::spawn(move || http.answer().status)
        })
        .collect();
    home.ok(["token", "revoke", "revoked"]);
    home.ok(["role", "set", "shop", "--verb", "apps:read", "--app", "shop"]);
    for (thread, (_, path)) in threads.into_iter().zip(streams) {
        wait_until("the end of a stream", LONG, || {
            if thread.is_finished() {
                Ok(())
            } else {
                Err(path.to_owned())
            }
        });
        assert_eq!(thread.join().expect("an answer"), 200, "{path}");
    }
}

#[test]
fn a_scope_silences_and_reads_nothing_beside_its_own() {
    let home = Home::new();
    apply(
        &home,
        &[
            app(&home, "shop", &["print", "a secret word", "exit", "3"]),
            app(&home, "blog", &["wait"]),
        ],
    );
    let operator = token(&home, "operator", &["--role", "operator", "--app", "shop"]);
    let silence = |what: &str| {
        let path = format!("/v1/alerts/silences/{what}");
        ask(&home, &operator, "PUT", &path, &json!({"for_ms": 1000})).status
    };
    assert_eq!(
        (
            silence("all"),
            silence("machine"),
            silence("blog"),
            silence("nothing")
        ),
        (403, 403, 404, 404)
    );
    assert_eq!(silence("shop"), 200);
    assert_eq!(
        ask(
            &home,
            &operator,
            "DELETE",
            "/v1/alerts/silences/all",
            &Value::Null
        )
        .status,
        403
    );
    // Who may not read logs does not read them in a dossier.
    home.ok(["role", "set", "reader", "--verb", "apps:read"]);
    let reader = token(&home, "reader", &["--role", "reader"]);
    let crash = wait_until("a dossier with the word", LONG, || {
        let answer = ask(
            &home,
            &operator,
            "GET",
            "/v1/apps/shop/crashes/last",
            &Value::Null,
        )
        .json();
        let has_it = answer["logs"].to_string().contains("a secret word");
        if has_it {
            Ok(answer)
        } else {
            Err(answer.to_string())
        }
    });
    assert!(!crash["findings"].as_array().is_none_or(Vec::is_empty), "{crash}");
    let answer = ask(&home, &reader, "GET", "/v1/apps/shop/crashes/last", &Value::Null);
    assert_eq!(answer.status, 200);
    let text = answer.json().to_string();
    assert!(!text.contains("a secret word"), "{text}");
    assert_eq!(answer.json()["changes"], json!([]));
    // A token that ends makes none that does not.
    let ending = token(&home, "ending", &["--role", "admin", "--expires", "1h"]);
    let make = |body: Value| ask(&home, &ending, "POST", "/v1/tokens", &body).status;
    assert_eq!(make(json!({"name": "stays", "roles": ["viewer"]})), 403);
    assert_eq!(
        make(json!({"name": "stays", "roles": ["viewer"], "expires_at": 4e9})),
        403
    );
}
