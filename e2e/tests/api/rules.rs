//! The rules of the API, over every call of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use upkeep_e2e::{Answer, Http, app, apply};
use upkeep_testkit::Home;

use crate::{calls, token};

/// A refusal has the form of ours: `{message, code, hint?, request_id}`, and tells nothing of our insides.
#[track_caller]
fn is_refusal(what: &str, answer: &Answer) {
    let body = answer.json();
    let fields = body.as_object().unwrap_or_else(|| panic!("{what}: {answer:?}"));
    for (name, value) in fields {
        assert!(
            matches!(name.as_str(), "message" | "code" | "hint" | "request_id"),
            "{what}: {name} in {body}"
        );
        assert!(value.is_string(), "{what}: {body}");
    }
    assert!(
        !body["message"].as_str().unwrap_or_default().is_empty(),
        "{what}: {body}"
    );
    assert!(
        !body["request_id"].as_str().unwrap_or_default().is_empty(),
        "{what}: {body}"
    );
    let text = body.to_string();
    for inside in ["panicked", ".rs:", "stack backtrace", "RUST_BACKTRACE", "src/"] {
        assert!(!text.contains(inside), "{what}: {body}");
    }
    let head = answer.head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/json"), "{what}: {head}");
}

/// Every number whose name says that it is a time is one of this century, in seconds.
fn times(what: &str, value: &Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let is_time = name == "at"
                    || name.ends_with("_at")
                    || matches!(name.as_str(), "since" | "until" | "next");
                if let (true, Some(number)) = (is_time, value.as_f64()) {
                    assert!(
                        (1_000_000_000.0..4_000_000_000.0).contains(&number),
                        "{what}: {name} is {number}"
                    );
                }
                assert!(
                    !(is_time
                        && value.is_string()
                        && !matches!(name.as_str(), "next" | "at" | "until" | "since")),
                    "{what}: {name} is {value}"
                );
                times(what, value);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| times(what, value)),
        _ => {}
    }
}

#[test]
fn every_call_keeps_the_rules() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    token(&home, "somebody", &["--role", "viewer"]);
    for call in calls(&home) {
        let what = format!("{} {}", call.method, call.template);
        assert_eq!(call.template, call.template.to_lowercase(), "{what}");
        let is_outside = matches!(call.template.as_str(), "/healthz" | "/readyz" | "/metrics");
        assert!(is_outside || call.template.starts_with("/v1/"), "{what}");
        // Verbs in paths only for what is done: and that is posted (renewing, trying, restoring), or looked for.
        let last = call.template.rsplit('/').next().unwrap_or_default();
        let is_action = matches!(
            last,
            "start"
                | "stop"
                | "restart"
                | "reload"
                | "scale"
                | "rollback"
                | "delete"
                | "kill"
                | "shutdown"
                | "upgrade"
                | "restore"
                | "test"
                | "heap"
                | "profile"
                | "renew"
                | "reseal"
                | "import"
                | "explain"
                | "approve"
                | "refuse"
                | "keep-alive"
        );
        assert!(!is_action || call.method == "POST", "{what}");
        // Methods that it does not have.
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let has_it = calls(&home)
                .iter()
                .any(|other| other.method == method && other.template == call.template);
            if !has_it && !is_outside {
                let answer = Http::ask(&home, method, &call.path(), b"");
                assert_eq!(answer.status, 405, "{method} {}: {answer:?}", call.template);
                // What is possible instead (RFC 9110, 15.5.6).
                let allow = answer.header("allow").unwrap_or_default();
                let allowed: BTreeSet<&str> = allow.split(',').map(str::trim).collect();
                let has: BTreeSet<&str> = calls(&home)
                    .iter()
                    .filter(|other| other.template == call.template)
                    .flat_map(|other| match other.method.as_str() {
                        "GET" => vec!["GET", "HEAD"],
                        "POST" => vec!["POST"],
                        "PUT" => vec!["PUT"],
                        "PATCH" => vec!["PATCH"],
                        "DELETE" => vec!["DELETE"],
                        other => panic!("{other}"),
                    })
                    .collect();
                assert_eq!(allowed, has, "{method} {}: {answer:?}", call.template);
                is_refusal(&what, &answer);
            }
        }
        // A body that is none.
        if call.method != "GET" {
            let answer = Http::ask(&home, &call.method, &call.path(), b"{\"");
            assert!(
                matches!(answer.status, 400 | 404),
                "{what} with garbage: {answer:?}"
            );
            is_refusal(&what, &answer);
            assert!(call.codes.contains(&answer.status), "{what}: {}", answer.status);
        }
        // What is there, and what is not.
        if call.method == "GET" && !is_outside {
            let answer = Http::ask(&home, "GET", &call.path(), b"");
            if call.template.contains('{') {
                assert_eq!(answer.status, 404, "{what}: {answer:?}");
                is_refusal(&what, &answer);
            } else if call.template == "/v1/config/watch" {
                assert_eq!(answer.status, 400, "{what}: {answer:?}");
                is_refusal(&what, &answer);
            } else if call.template == "/v1/search" {
                assert_eq!(answer.status, 422, "{what}: {answer:?}");
                is_refusal(&what, &answer);
            } else {
                assert_eq!(answer.status, 200, "{what}: {answer:?}");
                if call.template != "/v1/openapi.json" {
                    times(&what, &answer.json());
                }
            }
            assert!(call.codes.contains(&answer.status), "{what}: {}", answer.status);
        }
    }
}

#[test]
fn what_is_not_there_is_told_as_such() {
    let home = Home::new();
    home.ok(["ls"]);
    home.json(["start", "-n", "shop", "--", home.child(), "wait"]);
    for path in [
        "/v1",
        "/v1/",
        "/v2/apps",
        "/v1/app",
        "/v1/Apps",
        "/v1/apps/",
        "/v1/apps/shop/fly",
        "/V1/apps",
        "/etc/passwd",
    ] {
        let answer = Http::ask(&home, "GET", path, b"");
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        is_refusal(path, &answer);
    }
}

#[test]
fn the_cause_of_a_failure_is_in_the_log_and_not_in_the_answer() {
    let home = Home::new();
    home.ok(["ls"]);
    // What was saved is no file: that is a failure of ours to read it, with a cause of the kernel's.
    std::fs::create_dir_all(home.path().join("dump.json")).expect("a folder");
    let answer = Http::ask(&home, "POST", "/v1/snapshot/restore", b"{}");
    assert_eq!(answer.status, 503, "{answer:?}");
    is_refusal("restore", &answer);
    let id = answer.json()["request_id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let log = std::fs::read_to_string(home.path().join("run/daemon.log")).expect("the daemon's log");
    let line = log
        .lines()
        .find(|line| line.contains(&id))
        .unwrap_or_else(|| panic!("no {id} in {log}"));
    // The whole of it, as the kernel gave it: that is for whoever reads logs, and for nobody else.
    let cause = "kind: IsADirectory";
    assert!(line.contains(cause), "{line}");
    assert!(
        !String::from_utf8_lossy(&answer.body).contains(cause),
        "{answer:?}"
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let before = home.instance("shop", 0)["pid"].clone();
    let events = || {
        home.json(["events", "-n", "1000"])["events"]
            .as_array()
            .map_or(0, Vec::len)
    };
    let count = events();
    let dry = json!({"dry_run": true});
    for (method, path, body) in [
        ("POST", "/v1/apps/shop/stop", dry.clone()),
        ("POST", "/v1/apps/shop/restart", dry.clone()),
        ("POST", "/v1/apps/shop/reload", dry.clone()),
        (
            "POST",
            "/v1/apps/shop/scale",
            json!({"instances": "3", "dry_run": true}),
        ),
        ("DELETE", "/v1/apps/shop", dry.clone()),
        (
            "POST",
            "/v1/selections/delete",
            json!({"selectors": ["all"], "dry_run": true}),
        ),
        ("POST", "/v1/daemon/shutdown", dry.clone()),
        ("POST", "/v1/daemon/kill", dry.clone()),
        ("PUT", "/v1/snapshot", dry.clone()),
        (
            "POST",
            "/v1/tokens",
            json!({"name": "a", "roles": ["viewer"], "dry_run": true}),
        ),
        (
            "PUT",
            "/v1/roles/mine",
            json!({"grants": [{"verbs": ["apps:read"]}], "dry_run": true}),
        ),
        ("PUT", "/v1/roles/viewer/members/uid:4294967", dry),
        (
            "PUT",
            "/v1/settings",
            json!({"settings": {"logs": {"free_space": "7%"}}, "dry_run": true}),
        ),
        (
            "PUT",
            "/v1/config/values/shop/db",
            json!({"text": "x", "dry_run": true}),
        ),
        (
            "POST",
            "/v1/config/changes",
            json!({"puts": [{"path": "/shop/db", "text": "x"}], "dry_run": true}),
        ),
        (
            "PUT",
            "/v1/config/rules",
            json!({"place": "/shop/", "recipients": [{"name": "machine:x", "key": "11".repeat(32)}], "dry_run": true}),
        ),
        (
            "PUT",
            "/v1/config/schemas",
            json!({"place": "/shop/", "schema": {"type": "object"}, "dry_run": true}),
        ),
        (
            "PUT",
            "/v1/config/approvals",
            json!({"place": "/shop/", "approvals": 1, "dry_run": true}),
        ),
        (
            "PUT",
            "/v1/config/keep",
            json!({"place": "/shop/", "keep": {"changes": 1, "days": 1}, "dry_run": true}),
        ),
        (
            "POST",
            "/v1/config/import",
            json!({"place": "/shop/", "form": "json", "text": "{\"db\": \"x\"}", "dry_run": true}),
        ),
    ] {
        let answer = Http::ask(&home, method, path, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        let event = &answer.json()["event"];
        assert!(event.is_null(), "{method} {path}: {event}");
    }
    assert_eq!(events(), count);
    assert_eq!(home.instance("shop", 0)["pid"], before);
    assert_eq!(home.json(["token", "ls"])["tokens"], json!([]));
    assert_eq!(home.json(["config", "ls"])["values"], json!([]));
    assert_eq!(home.json(["config", "recipients"])["places"], json!([]));
}
