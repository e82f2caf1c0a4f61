//! What is told to whom beside the lists: events, dossiers, figures, alerts and their messages.

use serde_json::{Value, json};
use upkeep_e2e::{Http, LONG, app, apply, says, with};
use upkeep_testkit::{Home, wait_until};

use crate::{ask, token};

/// Kinds of the events that a caller is told.
#[track_caller]
fn kinds(home: &Home, secret: &str, path: &str) -> Vec<String> {
    let answer = ask(home, secret, "GET", path, &Value::Null);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    let events = answer.json()["events"].as_array().cloned().unwrap_or_default();
    events
        .iter()
        .map(|event| event["what"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn events_of_access_and_settings_are_for_who_may_see_those() {
    let home = Home::new();
    let settings = home.write("settings.yaml", "logs: {free_space: 7%}");
    home.ok(["settings", "set", &settings.display().to_string()]);
    apply(&home, &[app(&home, "shop", &["exit", "3"])]);
    let viewer = token(&home, "viewer", &["--role", "viewer"]);
    let operator = token(&home, "operator", &["--role", "operator"]);
    let admin = token(&home, "admin", &["--role", "admin"]);
    home.ok(["cert", "init"]);
    home.ok(["role", "set", "mine", "--verb", "apps:read"]);
    let denied = ask(&home, &viewer, "POST", "/v1/daemon/kill", &Value::Null);
    assert_eq!(denied.status, 403);
    let all = "/v1/events?limit=1000";
    let of_access = ["token_created", "role_changed", "authority_made", "denied"];
    wait_until("all kinds of events", LONG, || {
        let told = kinds(&home, &admin, all);
        let has = |kind: &str| told.iter().any(|known| known == kind);
        if of_access.iter().all(|kind| has(kind)) && has("settings") {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    });
    for (secret, sees_settings) in [(&viewer, false), (&operator, true)] {
        let told = kinds(&home, secret, all);
        assert!(told.contains(&"apply".to_owned()), "{told:?}");
        assert_eq!(told.contains(&"settings".to_owned()), sees_settings, "{told:?}");
        for kind in of_access {
            assert!(!told.contains(&kind.to_owned()), "{kind}: {told:?}");
            let asked = kinds(&home, secret, &format!("/v1/events?kind={kind}"));
            assert!(asked.is_empty(), "{asked:?}");
            let found = ask(
                &home,
                secret,
                "GET",
                &format!("/v1/search?q={kind}&in=events"),
                &Value::Null,
            );
            assert_eq!(found.json()["hits"], json!([]), "{found:?}");
        }
    }
    // A dossier tells what was changed before: settings among it.
    let changes = |secret: &str| {
        let crash = ask(&home, secret, "GET", "/v1/apps/shop/crashes/last", &Value::Null);
        if crash.status == 200 {
            Ok(crash.json()["changes"].to_string())
        } else {
            Err(format!("{crash:?}"))
        }
    };
    let told = wait_until("a dossier", LONG, || changes(&operator));
    says(&told, &["\"settings\"", "\"apply\""]);
    let told = changes(&viewer).expect("it is there");
    says(&told, &["\"apply\""]);
    assert!(!told.contains("\"settings\""), "{told}");
    // And a stream tells what comes.
    let mut http = Http::connect(&home);
    let head =
        format!("GET /v1/events?follow=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {viewer}\r\n\r\n");
    http.send(head.as_bytes()).expect("it is taken");
    let reader = std::thread::spawn(move || {
        use std::io::Read as _;
        let mut text = String::new();
        let mut chunk = [0; 4096];
        while !text.contains("the end of it") {
            let length = http.0.read(&mut chunk).expect("it comes");
            assert!(length > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
        text
    });
    wait_until("the stream to be followed", LONG, || {
        home.ok(["stop", "shop", "--reason", "looking"]);
        token(
            &home,
            &format!("more-{}", std::process::id()),
            &["--role", "viewer"],
        );
        home.ok(["token", "revoke", &format!("more-{}", std::process::id())]);
        home.ok(["start", "shop", "--wait", "0", "--reason", "the end of it"]);
        if reader.is_finished() {
            Ok(())
        } else {
            Err("nothing yet".to_owned())
        }
    });
    let told = reader.join().expect("a stream");
    assert!(!told.contains("token_"), "{told}");
}

#[test]
fn figures_and_alerts_tell_nothing_of_apps_outside_of_a_scope() {
    let home = Home::new();
    let settings = home.write(
        "settings.yaml",
        "alerts: {group: 1s, defaults: false, rules: [{on: crash}], channels: {here: {command: {run: [/bin/true]}}}}",
    );
    home.ok(["settings", "set", &settings.display().to_string()]);
    apply(
        &home,
        &[
            app(&home, "shop", &["wait"]),
            with(
                app(&home, "blog", &["print-err", "a secret word", "exit", "3"]),
                json!({"restart": {"on": "never"}}),
            ),
        ],
    );
    let put = |role: &str, grants: Value| {
        let path = format!("/v1/roles/{role}");
        let body = json!({"grants": grants}).to_string();
        let answer = Http::ask(&home, "PUT", &path, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    put(
        "narrow",
        json!([{"verbs": ["machine:read"]}, {"verbs": ["apps:read"], "apps": ["shop"]}]),
    );
    put("wide", json!([{"verbs": ["machine:read", "apps:read"]}]));
    let narrow = token(&home, "narrow", &["--role", "narrow"]);
    let wide = token(&home, "wide", &["--role", "wide"]);
    let viewer = token(&home, "viewer", &["--role", "viewer"]);
    home.ok(["alert", "silence", "shop", "--for", "1h"]);
    let get = |secret: &str, path: &str| {
        let answer = ask(&home, secret, "GET", path, &Value::Null);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        String::from_utf8_lossy(&answer.body).into_owned()
    };
    let deliveries = "/v1/alerts/deliveries";
    wait_until("a message with its crash", LONG, || {
        let told = get(&viewer, deliveries);
        if told.contains("blog:0") && told.contains("a secret word") {
            Ok(())
        } else {
            Err(told)
        }
    });
    for path in ["/metrics", "/v1/alerts", deliveries] {
        let told = get(&narrow, path);
        assert!(!told.contains("blog"), "{path}: {told}");
    }
    says(&get(&narrow, "/metrics"), &["app=\"shop\""]);
    says(&get(&narrow, "/v1/alerts"), &["\"shop\""]);
    says(&get(&wide, "/metrics"), &["app=\"blog\"", "app=\"shop\""]);
    // Who sees apps and may not read their logs gets the message without the last words.
    let told = get(&wide, deliveries);
    says(&told, &["blog:0"]);
    assert!(!told.contains("a secret word"), "{told}");
}
