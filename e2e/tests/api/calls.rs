//! What programs build on: to send a call again, to change only what was seen, to pick, to page, to search, to follow.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value, json};
use upkeep_e2e::{Answer, Http, LONG, app, apply};
use upkeep_testkit::{Home, wait_until};

fn pid(home: &Home) -> Value {
    home.instance("shop", 0)["pid"].clone()
}

fn with_key(home: &Home, path: &str, key: &str, body: &Value) -> Answer {
    Http::ask_with(
        home,
        "POST",
        path,
        &[("Idempotency-Key", key)],
        body.to_string().as_bytes(),
    )
}

#[test]
fn a_call_that_is_sent_again_is_done_once() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let first = with_key(&home, "/v1/apps/shop/restart", "a1", &json!({"reason": "once"}));
    assert_eq!(first.status, 200, "{first:?}");
    let after = pid(&home);
    let again = with_key(&home, "/v1/apps/shop/restart", "a1", &json!({"reason": "once"}));
    assert_eq!((again.status, again.json()), (200, first.json()));
    assert!(
        again
            .head
            .to_ascii_lowercase()
            .contains("idempotent-replayed: true"),
        "{again:?}"
    );
    assert_eq!(pid(&home), after, "it was not restarted again");
    let other = with_key(&home, "/v1/apps/shop/restart", "a1", &json!({"reason": "twice"}));
    assert_eq!(other.status, 422, "{other:?}");
    // Two at once: one is done, the other is told so.
    let at_once: Vec<Answer> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| with_key(&home, "/v1/apps/shop/restart", "b2", &json!({}))))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("an answer"))
            .collect()
    });
    for answer in &at_once {
        assert!(matches!(answer.status, 200 | 409), "{answer:?}");
    }
    let events = home.json(["events", "shop", "--kind", "restart", "-n", "100"]);
    assert_eq!(events["events"].as_array().map(Vec::len), Some(2), "{events}");
    // What was refused is refused again, and a new key is a new call.
    let wrong = with_key(&home, "/v1/apps/shop/scale", "c3", &json!({"instances": "none"}));
    assert_eq!(wrong.status, 422);
    assert_eq!(
        with_key(&home, "/v1/apps/shop/scale", "c3", &json!({"instances": "none"})).json(),
        wrong.json()
    );
    assert_eq!(with_key(&home, "/v1/apps/shop/scale", "", &json!({})).status, 400);
}

#[test]
fn a_change_is_made_to_what_was_seen() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let seen = Http::ask(&home, "GET", "/v1/apps/shop", b"");
    let head = seen.head.to_ascii_lowercase();
    let tag = head
        .split("etag: ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .expect("a tag")
        .to_owned();
    assert_eq!(tag, format!("\"{}\"", seen.json()["revision"]));
    let change = |tag: &str, path: &str, method: &str, body: &Value| {
        Http::ask_with(
            &home,
            method,
            path,
            &[("If-Match", tag)],
            body.to_string().as_bytes(),
        )
    };
    let done = change(&tag, "/v1/apps/shop/scale", "POST", &json!({"instances": "2"}));
    assert_eq!(done.status, 200, "{done:?}");
    for (path, method, body) in [
        ("/v1/apps/shop/scale", "POST", json!({"instances": "3"})),
        ("/v1/apps/shop/restart", "POST", json!({})),
        ("/v1/apps/shop/stop", "POST", json!({})),
        ("/v1/apps/shop/rollback", "POST", json!({})),
        ("/v1/apps/shop", "DELETE", json!({})),
    ] {
        let late = change(&tag, path, method, &body);
        assert_eq!(late.status, 409, "{method} {path}: {late:?}");
        assert_eq!(late.json()["code"], "conflict");
        assert_eq!(change("soon", path, method, &body).status, 400);
    }
    assert_eq!(
        home.json(["ls"])["apps"][0]["instances"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn answers_are_picked_and_paged() {
    let home = Home::new();
    let apps: Vec<Value> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|name| app(&home, name, &["wait"]))
        .collect();
    apply(&home, &apps);
    let get = |path: &str| Http::ask(&home, "GET", path, b"");
    let mut names = Vec::new();
    let mut path = "/v1/apps?limit=2&fields=name".to_owned();
    for _ in 0..10 {
        let page = get(&path).json();
        for app in page["apps"].as_array().expect("apps") {
            assert_eq!(app.as_object().map(serde_json::Map::len), Some(1), "{app}");
            names.push(app["name"].as_str().unwrap_or_default().to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/apps?limit=2&fields=name&after={next}");
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(get("/v1/apps?limit=0").status, 422);
    assert_eq!(get("/v1/apps?limit=-1").status, 400);
    assert_eq!(get("/v1/apps?fields=a..b").status, 400);
    assert_eq!(
        get("/v1/apps/a?fields=name,spec.instances").json(),
        json!({"name": "a", "spec": {"instances": 1}})
    );
    let events = get("/v1/events?limit=1&fields=id").json();
    assert_eq!(events["events"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_text_is_found_wherever_it_is() {
    let home = Home::new();
    apply(
        &home,
        &[
            app(&home, "shop-needle", &["print", "nothing special", "wait"]),
            app(&home, "blog", &["print", "a NEEDLE in the hay (1+1)", "wait"]),
        ],
    );
    home.ok(["restart", "blog", "--reason", "looking for the needle"]);
    let find = |query: &str| Http::ask(&home, "GET", &format!("/v1/search?{query}"), b"");
    let hits = wait_until("the hits", LONG, || {
        let answer = find("q=needle").json();
        let hits = answer["hits"].as_array().cloned().unwrap_or_default();
        let kinds: Vec<&str> = hits.iter().filter_map(|hit| hit["kind"].as_str()).collect();
        if ["app", "event", "log"].iter().all(|kind| kinds.contains(kind)) {
            Ok(hits)
        } else {
            Err(answer.to_string())
        }
    });
    let of = |kind: &str| hits.iter().find(|hit| hit["kind"] == kind).expect(kind);
    assert!(
        hits.iter()
            .any(|hit| hit["kind"] == "app" && hit["target"] == "shop-needle")
    );
    assert_eq!(of("log")["target"], "blog:0");
    assert!(
        of("log")["text"]
            .as_str()
            .is_some_and(|text| text.contains("NEEDLE in the hay"))
    );
    for hit in &hits {
        let url = hit["url"].as_str().expect("a URL");
        assert_eq!(Http::ask(&home, "GET", url, b"").status, 200, "{hit}");
    }
    // What is sought is a text and no pattern.
    assert_eq!(
        find("q=%281%2B1%29&in=logs").json()["hits"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    assert_eq!(find("q=.*&in=logs").json()["hits"], json!([]));
    assert_eq!(
        find("q=needle&in=apps").json()["hits"].as_array().map(Vec::len),
        Some(2)
    );
    let pages = find("q=idempotency&in=docs").json();
    let page = pages["hits"][0]["url"].as_str().unwrap_or_default().to_owned();
    assert!(page.starts_with("/docs#"), "{pages}");
    assert_eq!(find("q=needle&in=attic").status, 422);
    assert_eq!(find("q=").status, 422);
    assert_eq!(find("q=needle&limit=0").status, 422);
}

/// Server-sent events: id and data.
struct Events(BufReader<std::os::unix::net::UnixStream>);

impl Events {
    #[track_caller]
    fn open(home: &Home, path: &str, last: Option<&str>) -> Self {
        let mut http = Http::connect(home);
        let last = last
            .map(|id| format!("Last-Event-ID: {id}\r\n"))
            .unwrap_or_default();
        http.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{last}\r\n").as_bytes())
            .expect("it is taken");
        let mut reader = BufReader::new(http.0);
        let mut line = String::new();
        reader.read_line(&mut line).expect("a status");
        assert!(line.contains(" 200 "), "{line}");
        Self(reader)
    }

    #[track_caller]
    fn next(&mut self) -> (String, Value) {
        let mut id = String::new();
        loop {
            let mut line = String::new();
            let length = self.0.read_line(&mut line).expect("a line");
            assert!(length > 0, "the stream ended");
            if let Some(text) = line.strip_prefix("id: ") {
                text.trim().clone_into(&mut id);
            }
            if let Some(text) = line.strip_prefix("data: ") {
                return (id, serde_json::from_str(text).expect("JSON"));
            }
        }
    }
}

#[test]
fn states_are_followed() {
    let home = Home::new();
    apply(
        &home,
        &[app(&home, "shop", &["wait"]), app(&home, "blog", &["wait"])],
    );
    let mut events = Events::open(&home, "/v1/apps?follow=true", None);
    let (id, first) = events.next();
    assert_eq!(first["whole"], true);
    assert_eq!(first["apps"].as_array().map(Vec::len), Some(2), "{first}");
    assert!(!id.is_empty());
    home.ok(["stop", "shop"]);
    loop {
        let (_, change) = events.next();
        assert_eq!(change["whole"], false);
        let apps = change["apps"].as_array().expect("apps");
        if apps.iter().any(|app| app["instances"][0]["actual"] == "stopped") {
            break;
        }
    }
    home.ok(["delete", "blog"]);
    loop {
        let (_, change) = events.next();
        if change["gone"] == json!(["blog"]) {
            break;
        }
    }
    let (_, again) = Events::open(&home, "/v1/apps?follow=true", Some(&id)).next();
    assert_eq!(again["whole"], true, "who comes back is told all");
    assert_eq!(again["apps"].as_array().map(Vec::len), Some(1));
}

#[test]
fn figures_are_followed_and_resumed() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let path = "/v1/metrics?follow=true&apps=shop&metrics=memory";
    let mut events = Events::open(&home, path, None);
    let id = loop {
        let (id, answer) = events.next();
        let seen = answer["series"][0]["values"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if seen
            .iter()
            .any(|value| value.as_f64().is_some_and(|bytes| bytes > 0.0))
        {
            break id;
        }
    };
    drop(events);
    let at: f64 = id.parse().expect("a time");
    let (next, answer) = Events::open(&home, path, Some(&id)).next();
    assert!(next.parse::<f64>().is_ok_and(|next| next >= at));
    assert!(
        answer["from"].as_f64().is_some_and(|from| from >= at - 2.0),
        "{answer}"
    );
    let answer = Http::ask(&home, "GET", "/v1/metrics?follow=true&until=5", b"");
    assert_eq!(answer.status, 422);
}

#[test]
fn a_place_in_the_event_log_that_is_not_there_is_said() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    // Of a log that was begun anew since, as with another disk.
    let path = "/v1/events?follow=true&kind=stop";
    let mut events = Events::open(&home, path, Some("999999"));
    let (id, gap) = events.next();
    assert_eq!(
        (gap["what"].as_str(), gap["who"].as_str()),
        (Some("gap"), Some("upkeep")),
        "{gap}"
    );
    assert!(
        gap["why"].as_str().is_some_and(|why| why.contains("begun anew")),
        "{gap}"
    );
    assert_eq!(
        (gap["id"].to_string(), &gap["details"]["after"]),
        (id, &json!(999_999))
    );
    // And what happens is told, though its id is lower.
    home.ok(["stop", "shop"]);
    let (id, stopped) = events.next();
    assert_eq!(stopped["what"], "stop", "{stopped}");
    assert!(id.parse::<u64>().is_ok_and(|id| id < 999_999));
    drop(events);
    // Whoever was there is not troubled with it.
    home.ok(["start", "shop"]);
    home.ok(["stop", "shop"]);
    let (_, next) = Events::open(&home, path, Some(&id)).next();
    assert_eq!(next["what"], "stop", "{next}");
    // The same where the log is asked once; a plain question about ids is only that.
    let ask = |path: &str, headers: &[(&str, &str)]| Http::ask_with(&home, "GET", path, headers, b"").json();
    let list = ask("/v1/events", &[("Last-Event-ID", "999999")]);
    let whats: Vec<_> = list["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| event["what"].clone())
        .collect();
    assert_eq!((&whats[0], whats.len() > 3), (&json!("gap"), true), "{list}");
    assert_eq!(ask("/v1/events?after=999999", &[])["events"], json!([]));
}
