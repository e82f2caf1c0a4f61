//! Watches: every change once and in order, also over a daemon that is killed; and no longer than their rights.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value, json};
use upkeep_e2e::{Http, LONG, kill_daemon};
use upkeep_testkit::Home;

use crate::{ask, token};

/// Changes, as a watch of the command line prints them: path and value.
fn changes(line: &str) -> Vec<(u64, String, String)> {
    let item: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    let text = |value: &Value| value.as_str().unwrap_or("deleted").to_owned();
    item["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|change| {
            let revision = item["revision"].as_u64().expect("a revision");
            (revision, text(&change["path"]), text(&change["value"]["text"]))
        })
        .collect()
}

#[test]
fn a_watch_goes_on_over_killed_daemons() {
    let home = crate::home();
    home.ok(["config", "set", "/other", "x"]);
    let keeper = home.keeper_pid();
    let watch = home.follow(["config", "watch", "/shop/", "--json"]);
    watch.line_with("progress", LONG);
    let mut expected = Vec::new();
    for round in 0..4 {
        for number in 0..5 {
            let value = format!("{round}.{number}");
            home.ok(["config", "set", "/shop/a", &value]);
            home.ok(["config", "set", "/other", &value]);
            expected.push(value);
        }
        if round < 3 {
            // The watch is reading, or not: what it has not seen it hears from the next daemon.
            kill_daemon(keeper);
            home.daemon_pid();
        }
    }
    home.ok(["config", "rm", "/shop/a"]);
    expected.push("deleted".to_owned());
    let (mut told, mut last) = (Vec::new(), 0);
    while told.len() < expected.len() {
        let line = watch.next_line(LONG).expect("it goes on");
        for (revision, path, value) in changes(&line) {
            assert_eq!(path, "/shop/a");
            assert!(revision > last, "{revision} after {last}");
            last = revision;
            told.push(value);
        }
    }
    assert_eq!(told, expected);
    // From the beginning, all of it again.
    let again = home.follow(["config", "watch", "/shop/", "--from", "1", "--json"]);
    let mut told = Vec::new();
    while told.len() < expected.len() {
        let line = again.next_line(LONG).expect("it goes on");
        told.extend(changes(&line).into_iter().map(|(_, _, value)| value));
    }
    assert_eq!(told, expected);
    for mut follower in [watch, again] {
        upkeep_testkit::kill(follower.pid(), upkeep_testkit::Signal::INT).expect("it runs");
        assert_eq!(follower.wait(LONG), 130);
    }
}

/// A stream of server-sent events, line by line.
pub(crate) fn stream(
    home: &Home,
    token: &str,
    path: &str,
    more: &str,
) -> impl Iterator<Item = String> + use<> {
    let mut http = Http::connect(home);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
    );
    http.send(head.as_bytes()).expect("sent");
    BufReader::new(http.0)
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.starts_with("id:") || line.starts_with("data:") || line.starts_with("HTTP"))
}

#[test]
fn ids_are_revisions_and_a_stream_ends_with_its_rights() {
    let home = crate::home();
    home.ok(["config", "set", "/shop/a", "1"]);
    home.ok(["config", "set", "/blog/a", "1"]);
    let verbs = ["--verb", "config:read", "--verb", "config:watch"];
    home.ok(["role", "set", "watcher"]
        .iter()
        .chain(&verbs)
        .chain(&["--path", "/shop/"]));
    let secret = token(&home, "watcher", &["--role", "watcher"]);
    let mut all = stream(&home, &secret, "/v1/config/watch?from=1", "");
    assert!(all.next().expect("a head").contains("200"));
    let mut seen = Vec::new();
    let (mut id, mut done) = (String::new(), false);
    home.ok(["config", "set", "/blog/a", "2"]);
    home.ok(["config", "set", "/shop/a", "2"]);
    while !done {
        let line = all.next().expect("it goes on");
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.to_owned();
        } else if let Some(text) = line.strip_prefix("data: ") {
            for (revision, path, value) in changes(text) {
                assert_eq!(id, revision.to_string());
                done = value == "2";
                seen.push(format!("{path}={value}"));
            }
        }
    }
    assert_eq!(
        seen,
        ["/shop/a=1", "/shop/a=2"],
        "of what it may read, and in order"
    );

    // Behind the last one there is only what comes.
    home.ok(["config", "set", "/shop/a", "3"]);
    let resumed = stream(
        &home,
        &secret,
        "/v1/config/watch",
        &format!("Last-Event-ID: {id}\r\n"),
    );
    let first = resumed
        .filter_map(|line| line.strip_prefix("data: ").map(changes))
        .find(|changes| !changes.is_empty())
        .expect("a change");
    assert_eq!(first[0].2, "3");

    // What is to come later than the next is not waited for: the stream says so, and ends.
    let future = stream(&home, &secret, "/v1/config/watch?from=1000000", "");
    let last = future
        .filter(|line| line.starts_with("data: "))
        .last()
        .expect("an item");
    assert!(
        last.contains("\"failed\"") && last.contains("there is no revision 1000000 yet"),
        "{last}"
    );

    // What it may not watch is refused, and what is no revision.
    let get = |path: &str| ask(&home, &secret, "GET", path, &Value::Null);
    assert_eq!(get("/v1/config/watch?place=/blog/").status, 403);
    assert_eq!(get("/v1/config/watch?from=soon").status, 400);
    let wrong = Http::ask_with(
        &home,
        "GET",
        "/v1/config/watch",
        &[("Last-Event-ID", "soon")],
        b"",
    );
    assert_eq!(wrong.status, 422, "{wrong:?}");

    // A role that is taken ends it.
    let role = json!({"grants": [{"verbs": ["config:read"], "paths": ["/shop/"]}]}).to_string();
    let changed = Http::ask(&home, "PUT", "/v1/roles/watcher", role.as_bytes());
    assert_eq!(changed.status, 200, "{changed:?}");
    // What it still may read is written: without the right to watch it is not told of it.
    home.ok(["config", "set", "/shop/b", "after"]);
    let rest: Vec<String> = all.collect();
    assert!(
        !rest.iter().any(|line| line.contains("/shop/b")),
        "it ends: {rest:?}"
    );
    assert_eq!(get("/v1/config/values/shop/b").json()["text"], "after");
    assert_eq!(get("/v1/config/watch").status, 403);
}
