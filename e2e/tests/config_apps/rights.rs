//! Who may have an app get values: who may read them.

use serde_json::{Value, json};
use upkeep_e2e::{Answer, Http, apply};
use upkeep_testkit::Home;

use crate::{set, set_secret, shop, told, wait_event, wait_value};

#[track_caller]
pub(crate) fn token(home: &Home, name: &str, verbs: &[&str], place: &str) -> String {
    let mut args = vec!["role", "set", name, "--path", place];
    for verb in verbs {
        args.extend(["--verb", verb]);
    }
    home.ok(args);
    // Apps and paths are bounded by different roles.
    home.ok([
        "role",
        "set",
        "writer",
        "--verb",
        "apps:read",
        "--verb",
        "apps:write",
        "--verb",
        "apps:operate",
    ]);
    let made = home.json(["token", "create", name, "--role", name, "--role", "writer"]);
    made["secret"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .to_owned()
}

pub(crate) fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[track_caller]
pub(crate) fn put(home: &Home, token: &str, app: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let file = json!({
        "name": "x.json",
        "text": json!({"apps": [app]}).to_string(),
        "directory": home.work().display().to_string(),
    });
    let body = json!({"unresolved": [{"file": file}]}).to_string();
    Http::ask_with(
        home,
        "POST",
        "/v1/apps",
        &[("Authorization", &bearer)],
        body.as_bytes(),
    )
}

#[test]
fn an_app_gets_what_its_applier_may_read() {
    let home = Home::new();
    set(&home, &[("/shop/a", "1"), ("/other/a", "1")]);
    let app = shop(&home, json!({}));
    let none = token(&home, "none", &["config:watch"], "/shop/");
    let reads = token(&home, "reads", &["config:read"], "/shop/");
    let reveals = token(&home, "reveals", &["config:read", "config:reveal"], "/shop/");

    let answer = put(&home, &none, &app);
    assert_eq!(answer.status, 403, "{}", text(&answer));
    assert!(
        text(&answer).contains("may not read `/shop/`"),
        "{}",
        text(&answer)
    );
    let answer = put(
        &home,
        &reads,
        &shop(&home, json!({"config": ["/shop/", "/other/"]})),
    );
    assert_eq!(answer.status, 403, "{}", text(&answer));
    let answer = put(&home, &reads, &app);
    assert_eq!(answer.status, 201, "{}", text(&answer));
    wait_value(&home, "shop", 1, "A", "1");

    // A secret that comes later is not given to it, nor anything else of that moment.
    set_secret(&home, "/shop/secret", "needle");
    let refused = wait_event(&home, "shop", "values_refused", 1);
    let why = refused[0]["why"].as_str().expect("a reason");
    assert!(
        why.contains("/shop/secret") && why.contains("token:reads"),
        "{why}"
    );
    wait_value(&home, "shop", 1, "A", "1");
    assert_eq!(told(&home, "shop")["variables"], json!(["A"]));
    // Who operates it needs no right to read, and gets nothing by it.
    let bearer = format!("Bearer {none}");
    let scale = json!({"instances": "2"}).to_string();
    let answer = Http::ask_with(
        &home,
        "POST",
        "/v1/apps/shop/scale",
        &[("Authorization", &bearer)],
        scale.as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", text(&answer));
    wait_value(&home, "shop", 2, "A", "1");
    // With a secret there it takes the right to reveal it, also of an app that is there already.
    let two = shop(&home, json!({"instances": 2}));
    for changed in [&two, &shop(&home, json!({"name": "other"}))] {
        let answer = put(&home, &reads, changed);
        assert_eq!(answer.status, 403, "{}", text(&answer));
        assert!(text(&answer).contains("reveal"), "{}", text(&answer));
    }
    let answer = put(&home, &reveals, &two);
    assert_eq!(answer.status, 200, "{}", text(&answer));
    wait_value(&home, "shop", 2, "SECRET", "needle");
}

#[test]
fn files_are_for_who_may_do_everything() {
    let home = Home::new();
    set(&home, &[("/shop/a", "1")]);
    home.write("t.j2", "a={{ a }}\n");
    let app = shop(&home, json!({"files": [{"template": "t.j2", "to": "out.conf"}]}));
    let reveals = token(&home, "reveals", &["config:read", "config:reveal"], "/shop/");
    let answer = put(&home, &reveals, &app);
    assert_eq!(answer.status, 403, "{}", text(&answer));
    assert!(text(&answer).contains("files"), "{}", text(&answer));
    assert!(!home.work().join("out.conf").exists());
    let admin = home.json(["token", "create", "boss", "--role", "admin"]);
    let answer = put(&home, admin["secret"].as_str().expect("a secret"), &app);
    assert_eq!(answer.status, 201, "{}", text(&answer));
    home.wait_for("shop", 0, "running");
    assert_eq!(
        std::fs::read_to_string(home.work().join("out.conf")).expect("a file"),
        "a=1\n"
    );
    // A specification that no file of ours would have made.
    let mut spec = home.json(["show", "shop"])["spec"].clone();
    for (key, value, word) in [
        (
            "files",
            json!([{"template": "t", "text": "x", "to": "relative", "mode": 384, "allow_blank": false}]),
            "no absolute path",
        ),
        (
            "config",
            json!({"places": ["/shop/a"], "env": true}),
            "is one value",
        ),
        ("config", json!({"places": [], "env": true}), "0 places"),
        (
            "on_change",
            json!({"do": {"signal": 99}, "wait": 0, "max": 0}),
            "no signal",
        ),
    ] {
        let before = std::mem::replace(&mut spec[key], value);
        let body = json!({"apps": [spec.clone()]}).to_string();
        let answer = Http::ask(&home, "POST", "/v1/apps", body.as_bytes());
        assert_eq!(answer.status, 422, "{}", text(&answer));
        assert!(text(&answer).contains(word), "{}", text(&answer));
        spec[key] = before;
    }
    // The owner at the command line.
    apply(&home, &[app]);
}
