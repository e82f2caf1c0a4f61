//! Tokens × places × verbs, over HTTP.

use serde_json::{Value, json};
use upkeep_e2e::{Http, ended};

use crate::{World, ask, token, watch::stream};

/// Tokens, with the verbs and places that their roles name.
const ROLES: &[(&str, &[&str], &[&str])] = &[
    ("none", &["apps:read"], &[]),
    ("reader", &["config:read"], &["/shop/"]),
    ("revealer", &["config:read", "config:reveal"], &["/shop/prod/"]),
    ("writer", &["config:write"], &["/shop/"]),
    ("watcher", &["config:read", "config:watch"], &["/shop/prod/"]),
    ("historian", &["config:history", "events:read"], &["/shop/prod/"]),
    ("granter", &["config:grant"], &["/shop/"]),
    ("single", &["config:*"], &["/shop/prod/db"]),
    ("all", &["config:*"], &["/"]),
];

/// Values that there are.
const PATHS: &[&str] = &[
    "/shop/prod/db",
    "/shop/prod/secret",
    "/shop/test/db",
    "/shopping",
    "/blog/db",
];

/// Whether a role holds a verb at all of a place.
pub(crate) fn holds(role: &str, verb: &str, place: &str) -> bool {
    let (_, verbs, places) = ROLES.iter().find(|(name, ..)| *name == role).expect("a role");
    let is_held = verbs.contains(&verb) || (verbs.contains(&"config:*") && verb.starts_with("config:"));
    is_held
        && places.iter().any(|mine| {
            if mine.ends_with('/') {
                place.starts_with(mine)
            } else {
                place == *mine
            }
        })
}

pub(crate) fn set_up() -> (World, Vec<(&'static str, String)>) {
    let home = crate::home();
    for path in PATHS {
        let mut args = vec!["config", "set", path, "-"];
        if path.ends_with("secret") {
            args.push("--secret");
        }
        assert_eq!(home.cmd_with_input(args, b"before").code, 0);
    }
    let tokens = ROLES
        .iter()
        .map(|(name, verbs, places)| {
            let mut args = vec!["role", "set", name];
            verbs.iter().for_each(|verb| args.extend(["--verb", verb]));
            places.iter().for_each(|place| args.extend(["--path", place]));
            home.ok(args);
            (*name, token(&home, name, &["--role", name]))
        })
        .collect();
    (home, tokens)
}

#[test]
fn every_token_at_every_path_with_every_verb() {
    let (home, tokens) = set_up();
    let mut looked = 0;
    for (role, secret) in &tokens {
        for path in PATHS {
            let value = format!("/v1/config/values{path}");
            let may = |verb: &str| holds(role, verb, path);
            let mut expect = |what: &str, allowed: bool, answer: upkeep_e2e::Answer| {
                let status = if allowed { 200 } else { 403 };
                assert_eq!(answer.status, status, "{role} {what} {path}: {answer:?}");
                assert!(
                    allowed || answer.json()["code"] == "forbidden",
                    "{role} {what} {path}"
                );
                looked += 1;
                answer
            };
            let get = |path: &str| ask(&home, secret, "GET", path, &Value::Null);
            let post = |path: &str, body: Value| ask(&home, secret, "POST", path, &body);
            let is_secret = path.ends_with("secret");
            let reads = may("config:read");
            // What an answer shows of the value: all that it may, and nothing else.
            let shown = |what: &str, value: &Value, clear: bool| {
                let text = if clear { json!("before") } else { Value::Null };
                assert_eq!(value["text"], text, "{role} {what} {path}: {value}");
            };
            let answer = expect("read", reads, get(&value));
            if answer.status == 200 {
                assert_eq!(answer.json()["path"], *path, "{role}");
                shown("read", &answer.json(), !is_secret);
            }
            let reveals = reads && (!is_secret || may("config:reveal"));
            let answer = expect("reveal", reveals, get(&format!("{value}?reveal=true")));
            if answer.status == 200 {
                shown("reveal", &answer.json(), true);
            }
            let answer = expect("list", reads, get(&format!("/v1/config/values?place={path}")));
            if answer.status == 200 {
                let values = answer.json()["values"].clone();
                assert_eq!(values.as_array().map(Vec::len), Some(1), "{role}: {values}");
                shown("list", &values[0], !is_secret);
            }
            let query = format!("/v1/config/history?place={path}");
            let answer = expect("history", may("config:history"), get(&query));
            if answer.status == 200 {
                let changes = answer.json()["changes"].clone();
                assert_eq!(changes.as_array().map(Vec::len), Some(1), "{role}: {changes}");
                assert_eq!(changes[0]["path"], *path);
                shown("history", &changes[0]["value"], reads && !is_secret);
            }
            let answer = expect(
                "diff",
                may("config:history"),
                get(&format!("/v1/config/diff?place={path}")),
            );
            if answer.status == 200 {
                let differences = answer.json()["differences"].clone();
                assert_eq!(
                    differences.as_array().map(Vec::len),
                    Some(1),
                    "{role}: {differences}"
                );
                shown("diff", &differences[0]["after"], reads && !is_secret);
            }
            let body = json!({"text": format!("by {role}"), "dry_run": true});
            let put = ask(&home, secret, "PUT", &value, &body);
            let put = expect("write", may("config:write"), put);
            if put.status == 200 && !may("config:read") {
                let text = put.json().to_string();
                assert!(!text.contains("text"), "{role} reads by writing: {text}");
            }
            let dry = json!({"dry_run": true});
            expect(
                "delete",
                may("config:write"),
                ask(&home, secret, "DELETE", &value, &dry),
            );
            let change = json!({"removals": [{"place": path}], "dry_run": true});
            expect("change", may("config:write"), post("/v1/config/changes", change));
            let back = json!({"place": path, "to": 1, "dry_run": true});
            let answer = expect(
                "roll back",
                may("config:write"),
                post("/v1/config/rollback", back),
            );
            if answer.status == 200 {
                let difference = answer.json()["differences"][0].clone();
                assert_eq!(difference["path"], *path, "{role}");
                shown("roll back", &difference["before"], reads && !is_secret);
            }
            let schema = json!({"place": path, "schema": {}, "dry_run": true});
            let schema = ask(&home, secret, "PUT", "/v1/config/schemas", &schema);
            expect("give a schema to", may("config:grant"), schema);
            let approvals = json!({"place": path, "approvals": 1, "dry_run": true});
            let approvals = ask(&home, secret, "PUT", "/v1/config/approvals", &approvals);
            expect("protect", may("config:grant"), approvals);
            let keep = json!({"place": path, "keep": {"changes": 1, "days": 1}, "dry_run": true});
            expect(
                "keep",
                may("config:grant"),
                ask(&home, secret, "PUT", "/v1/config/keep", &keep),
            );
            let rules = json!({"place": path, "recipients": [], "dry_run": true});
            let rules = ask(&home, secret, "PUT", "/v1/config/rules", &rules);
            expect("say what holds for", may("config:grant"), rules);
            let reseal = json!({"place": path, "dry_run": true});
            expect("reseal", may("config:grant"), post("/v1/config/reseal", reseal));

            let name = path.rsplit_once('/').expect("a slash");
            let import = json!({"place": format!("{}/", name.0), "form": "json", "text": json!({name.1: "x"}).to_string(), "dry_run": true});
            expect("import", may("config:write"), post("/v1/config/import", import));
            // The past is the history's, though it is asked for where the present is.
            let past = format!("/v1/config/values?place={path}&at=1");
            expect("list the past", reads && may("config:history"), get(&past));
            let watched = reads && may("config:watch");
            let mut lines = stream(&home, secret, &format!("/v1/config/watch?place={path}"), "");
            let head = lines.next().expect("a head");
            let status = if watched { "200" } else { "403" };
            assert!(head.contains(status), "{role} watch {path}: {head}");
        }
    }
    assert_eq!(looked, ROLES.len() * PATHS.len() * 16);
    for path in PATHS {
        assert_eq!(
            home.ok(["config", "get", path, "--reveal"]),
            "before\n",
            "all of it was dry"
        );
    }
}

#[test]
fn one_path_that_is_not_held_refuses_the_whole_change() {
    let (home, tokens) = set_up();
    let (_, writer) = tokens
        .iter()
        .find(|(role, _)| *role == "writer")
        .expect("a token");
    let body =
        json!({"puts": [{"path": "/shop/prod/db", "text": "after"}, {"path": "/blog/db", "text": "after"}]});
    assert_eq!(
        ask(&home, writer, "POST", "/v1/config/changes", &body).status,
        403
    );
    assert_eq!(home.ok(["config", "get", "/shop/prod/db"]), "before\n");
    let body = json!({"removals": [{"place": "/"}]});
    assert_eq!(
        ask(&home, writer, "POST", "/v1/config/changes", &body).status,
        403
    );
    let body = json!({"place": "/", "to": 1});
    assert_eq!(
        ask(&home, writer, "POST", "/v1/config/rollback", &body).status,
        403
    );
}

#[test]
fn lists_and_events_tell_what_may_be_read_and_nothing_else() {
    let (home, tokens) = set_up();
    for path in PATHS {
        home.cmd_with_input(["config", "set", path, "-", "--reason", path], b"after");
    }
    for (role, secret) in &tokens {
        let list = ask(&home, secret, "GET", "/v1/config/values", &Value::Null);
        let expected: Vec<&str> = {
            let mut paths: Vec<&str> = PATHS.to_vec();
            paths.retain(|path| holds(role, "config:read", path));
            paths.sort_unstable();
            paths
        };
        if expected.is_empty() {
            assert_eq!(list.status, 403, "{role}: {list:?}");
        } else {
            let values = list.json()["values"].clone();
            let paths: Vec<&str> = values
                .as_array()
                .expect("values")
                .iter()
                .filter_map(|entry| entry["path"].as_str())
                .collect();
            assert_eq!(paths, expected, "{role}");
            assert!(!list.json().to_string().contains("\"base64\""));
        }
        // What is written as a file, and what is explained, is of the same values.
        let export = ask(&home, secret, "GET", "/v1/config/export", &Value::Null);
        let explained = ask(
            &home,
            secret,
            "POST",
            "/v1/config/explain",
            &json!({"key": "", "place": "/"}),
        );
        if expected.is_empty() {
            assert_eq!((export.status, explained.status), (403, 403), "{role}");
            continue;
        }
        let file: Value =
            serde_json::from_str(export.json()["text"].as_str().expect("a file")).expect("JSON");
        let explained = explained.json()["values"].clone();
        for path in PATHS {
            let is_read = expected.contains(path);
            let is_secret = path.ends_with("secret");
            let text = file.pointer(path);
            assert_eq!(text.is_some(), is_read, "{role} {path}: {file}");
            assert_eq!(
                text == Some(&json!("after")),
                is_read && !is_secret,
                "{role} {path}: {file}"
            );
            let one = explained
                .as_array()
                .expect("values")
                .iter()
                .find(|one| one["key"] == path[1..]);
            assert_eq!(one.is_some(), is_read, "{role} {path}: {explained}");
            if let Some(one) = one {
                assert_eq!(one["value"] == "after", !is_secret, "{role} {path}: {one}");
            }
        }
    }
    // Events of changes are for whoever may read the history there.
    let args = ["--role", "historian", "--role", "viewer"];
    let historian = token(&home, "a-historian", &args);
    let told = ask(&home, &historian, "GET", "/v1/events?limit=1000", &Value::Null).json();
    let places: Vec<String> = told["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter(|event| {
            event["what"]
                .as_str()
                .is_some_and(|what| what.starts_with("config."))
        })
        .map(|event| {
            event["details"]["places"][0]
                .as_str()
                .unwrap_or("other")
                .to_owned()
        })
        .collect();
    assert_eq!(places.len(), 4, "{told}");
    assert!(
        places.iter().all(|place| place.starts_with("/shop/prod/")),
        "{places:?}"
    );
    let viewer = token(&home, "a-viewer", &["--role", "viewer"]);
    let told = ask(&home, &viewer, "GET", "/v1/events?limit=1000", &Value::Null)
        .json()
        .to_string();
    assert!(!told.contains("config."), "{told}");
    let operator = token(&home, "an-operator", &["--role", "operator"]);
    assert_eq!(
        ask(&home, &operator, "GET", "/v1/config/values", &Value::Null).status,
        403
    );
}

#[test]
fn nobody_gives_away_paths_that_they_do_not_hold() {
    let home = crate::home();
    home.ok(["config", "set", "/shop/a", "1"]);
    home.ok(["role", "set", "lead", "--verb", "config:*", "--path", "/shop/"]);
    // Who may change roles, and holds a part of the configuration.
    let role = json!({"grants": [
        {"verbs": ["access:read", "access:write"], "apps": ["*"], "paths": ["/"]},
        {"verbs": ["config:*"], "paths": ["/shop/"]},
    ]});
    let put = Http::ask(&home, "PUT", "/v1/roles/chief", role.to_string().as_bytes());
    assert_eq!(put.status, 200, "{put:?}");
    let chief = token(&home, "chief", &["--role", "chief"]);
    let give = |name: &str, paths: &[&str]| {
        let body = json!({"grants": [{"verbs": ["config:read"], "paths": paths}]});
        ask(&home, &chief, "PUT", &format!("/v1/roles/{name}"), &body).status
    };
    assert_eq!(give("inner", &["/shop/prod/"]), 200);
    assert_eq!(give("outer", &["/"]), 403);
    assert_eq!(give("beside", &["/shop/x", "/blog/"]), 403);
    let body = json!({"grants": [{"verbs": ["config:read"]}]});
    assert_eq!(ask(&home, &chief, "PUT", "/v1/roles/any", &body).status, 403);
    // A bound narrows what the role gives.
    let bound = token(&home, "bound", &["--role", "lead", "--path", "/shop/prod/"]);
    assert_eq!(
        ask(&home, &bound, "GET", "/v1/config/values/shop/a", &Value::Null).status,
        403
    );
    let of_apps = token(&home, "of-apps", &["--role", "admin", "--app", "shop"]);
    assert_eq!(
        ask(&home, &of_apps, "GET", "/v1/config/values/shop/a", &Value::Null).status,
        403
    );
    ended(
        &home.cmd(["role", "set", "wrong", "--verb", "config:read", "--path", "shop"]),
        2,
    );
}
