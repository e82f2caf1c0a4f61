//! Schemas of places, and places whose changes somebody else approves.

use serde_json::{Value, json};
use upkeep_e2e::{ended, events, says};
use upkeep_testkit::Home;

use crate::{ask, listed, token};

/// Kinds of events about the configuration, in order.
fn told(home: &Home) -> Vec<String> {
    let all = events(home);
    let kinds = all.iter().filter_map(|event| event["what"].as_str());
    kinds
        // On etcd the store is chosen, and whom secrets are sealed for is said, before all else.
        .filter(|what| what.starts_with("config.") && !["config.store", "config.rules"].contains(what))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_schema_refuses_what_does_not_fit_and_names_the_path() {
    let home = crate::home();
    home.write(
        "shop.yaml",
        "type: object\nrequired: [port]\nadditionalProperties: false\nproperties:\n  port: {type: integer, maximum: 65535}\n  key: {minLength: 8}\n",
    );
    home.ok(["config", "set", "/shop/port", "0x50"]);
    let refused = home.cmd(["config", "schema", "set", "/shop/", "shop.yaml"]);
    ended(&refused, 4);
    says(
        &refused.stderr,
        &["`/shop/port` is the text", "would not fit its schema"],
    );
    ended(&home.cmd(["config", "schema", "get", "/shop/"]), 3);
    home.ok(["config", "set", "/shop/port", "80", "--kind", "number"]);
    let dry = home.ok(["config", "schema", "set", "/shop/", "shop.yaml", "--dry-run"]);
    says(&dry, &["would change: the schema of /shop/"]);
    ended(&home.cmd(["config", "schema", "get", "/shop/"]), 3);
    home.ok([
        "config",
        "schema",
        "set",
        "/shop/",
        "shop.yaml",
        "--reason",
        "typing errors",
    ]);
    let shown: Value = serde_json::from_str(&home.ok(["config", "schema", "get", "/shop/"])).expect("JSON");
    assert_eq!(shown["properties"]["port"]["maximum"], 65535);

    let refused = home.cmd(["config", "set", "/shop/port", "70000", "--kind", "number"]);
    ended(&refused, 4);
    says(&refused.stderr, &["`/shop/port` is 70000, more than 65535"]);
    let refused = home.cmd(["config", "set", "/shop/prot", "80"]);
    says(&refused.stderr, &["did you mean `port`?"]);
    // Of a secret nothing is repeated.
    let refused = home.cmd_with_input(["config", "set", "/shop/key", "-", "--secret"], b"hunter2");
    ended(&refused, 4);
    says(
        &refused.stderr,
        &["`/shop/key` does not fit; its content is not shown"],
    );
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    let set = home.cmd_with_input(
        ["config", "set", "/shop/key", "-", "--secret"],
        b"hunter2-and-more",
    );
    assert_eq!(set.code, 0, "{set:?}");
    let refused = home.cmd(["config", "rm", "/shop/port"]);
    ended(&refused, 4);
    says(&refused.stderr, &["`/shop` has no `port`"]);
    home.ok(["config", "rm", "/shop/key"]);
    assert_eq!(
        listed(&home, "/"),
        [("/shop/port".to_owned(), Some("80".to_owned()))]
    );

    home.write("broken.json", "{\"type\": \"strin\"}");
    let refused = home.cmd(["config", "schema", "set", "/shop/", "broken.json"]);
    ended(&refused, 4);
    says(&refused.stderr, &["`strin` is no type"]);
    home.ok(["config", "schema", "rm", "/shop/"]);
    home.ok(["config", "set", "/shop/prot", "80"]);
    assert_eq!(
        told(&home),
        [
            "config.set",
            "config.set",
            "config.schema",
            "config.set",
            "config.deleted",
            "config.schema",
            "config.set"
        ]
    );
}

#[test]
fn a_protected_place_takes_a_second_person() {
    let home = crate::home();
    home.ok(["config", "set", "/shop/prod/port", "80"]);
    let protected = home.ok(["config", "protect", "/shop/prod/", "--approvals", "1"]);
    says(&protected, &["1 more approve changes of /shop/prod/"]);
    let verbs = [
        "--verb",
        "config:write",
        "--verb",
        "config:read",
        "--verb",
        "config:history",
    ];
    home.ok(["role", "set", "writer"]
        .iter()
        .chain(&verbs)
        .chain(&["--path", "/shop/"]));
    home.ok([
        "role",
        "set",
        "reader",
        "--verb",
        "config:read",
        "--path",
        "/shop/",
    ]);
    let ann = token(&home, "ann", &["--role", "writer"]);
    let bob = token(&home, "bob", &["--role", "writer"]);
    let reader = token(&home, "reader", &["--role", "reader"]);

    let body = json!({"text": "8080", "reason": "moved"});
    let dry = json!({"text": "8080", "dry_run": true});
    let path = "/v1/config/values/shop/prod/port";
    let tried = ask(&home, &ann, "PUT", path, &dry);
    assert_eq!(
        (tried.status, &tried.json()["proposed"]["approvals"]),
        (200, &json!(1))
    );
    let proposed = ask(&home, &ann, "PUT", path, &body);
    assert_eq!(proposed.status, 202, "{proposed:?}");
    let id = proposed.json()["proposed"]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert!(proposed.json()["event"].is_u64(), "{proposed:?}");
    assert_eq!(
        home.ok(["config", "get", "/shop/prod/port"]),
        "80\n",
        "nothing was changed"
    );

    let list = home.ok(["config", "proposals"]);
    says(
        &list,
        &[
            &id,
            "token:ann",
            "moved",
            "approved by 0 of 1",
            "~ /shop/prod/port: 80 -> 8080",
        ],
    );
    let decide = |token: &str, what: &str, body: Value| {
        ask(
            &home,
            token,
            "POST",
            &format!("/v1/config/proposals/{id}/{what}"),
            &body,
        )
    };
    let own = decide(&ann, "approve", json!({}));
    assert_eq!(own.status, 422, "{own:?}");
    assert!(
        own.json()["message"]
            .as_str()
            .is_some_and(|text| text.contains("somebody else has to approve"))
    );
    assert_eq!(decide(&reader, "approve", json!({})).status, 403);
    assert_eq!(decide(&reader, "refuse", json!({})).status, 403);
    let shown = decide(&bob, "approve", json!({"dry_run": true}));
    assert_eq!((shown.status, &shown.json()["changed"]), (200, &Value::Null));
    let done = decide(&bob, "approve", json!({"reason": "looks right"}));
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.json()["changed"]["differences"][0]["after"]["text"], "8080");
    assert_eq!(home.ok(["config", "get", "/shop/prod/port"]), "8080\n");
    let past = home.json(["config", "history", "/shop/prod/port"]);
    assert_eq!(past["changes"][0]["who"], "token:ann");
    assert_eq!(past["changes"][0]["reason"], "moved (approved by token:bob)");
    assert_eq!(decide(&bob, "approve", json!({})).status, 404);

    // On the command line: whoever proposes is told what is next, and takes it back.
    let proposed = home.cmd(["config", "rm", "/shop/prod/"]);
    assert_eq!(proposed.code, 0, "{proposed:?}");
    says(
        &proposed.stderr,
        &["somebody else has to approve it: upkeep config approve "],
    );
    let id = home.json(["config", "proposals"])["proposals"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    ended(&home.cmd(["config", "approve", &id]), 4);
    says(
        &home.cmd(["config", "refuse", &id]).stderr,
        &["it was taken away"],
    );
    let nothing = home.cmd(["config", "proposals"]);
    says(&nothing.stderr, &["nothing waits"]);
    ended(&home.cmd(["config", "approve", &id]), 3);
    // One whose ground has moved is not carried out.
    let late = ask(&home, &ann, "PUT", path, &json!({"text": "1"})).json();
    let late = late["proposed"]["id"].as_str().expect("an id").to_owned();
    home.ok(["config", "protect", "/shop/prod/", "--approvals", "0"]);
    home.ok(["config", "set", "/shop/prod/port", "9090"]);
    let refused = home.cmd(["config", "approve", &late]);
    ended(&refused, 4);
    says(
        &refused.stderr,
        &["`/shop/prod/port` was changed since this was proposed"],
    );
    assert_eq!(
        told(&home),
        [
            "config.set",
            "config.approvals",
            "config.proposed",
            "config.changed",
            "config.proposed",
            "config.refused",
            "config.proposed",
            "config.approvals",
            "config.set"
        ]
    );
}

#[test]
fn rights_are_given_plainly_and_nobody_gives_more_than_they_hold() {
    let home = crate::home();
    home.ok(["config", "set", "/shop/a", "1"]);
    home.ok(["config", "set", "/blog/a", "1"]);
    let dry = home.ok([
        "config",
        "grant",
        "shop",
        "--verb",
        "read",
        "--path",
        "/shop/",
        "--dry-run",
    ]);
    says(&dry, &["would be"]);
    home.ok(["config", "grant", "shop", "--verb", "read", "--path", "/shop/"]);
    let secret = token(&home, "shop", &["--role", "shop"]);
    let get = |path: &str| ask(&home, &secret, "GET", path, &Value::Null).status;
    assert_eq!(
        (get("/v1/config/values/shop/a"), get("/v1/config/values/blog/a")),
        (200, 403)
    );
    // More of the same role; what it gave stays.
    home.ok([
        "config",
        "grant",
        "shop",
        "--verb",
        "config:read",
        "--path",
        "/blog/",
    ]);
    assert_eq!(
        (get("/v1/config/values/shop/a"), get("/v1/config/values/blog/a")),
        (200, 200)
    );
    let again = home.cmd(["config", "grant", "shop", "--verb", "read", "--path", "/blog/"]);
    says(&again.stderr, &["nothing changes"]);
    // Somebody gets a role of their own.
    home.ok([
        "config",
        "grant",
        "uid:4294967",
        "--verb",
        "write",
        "--verb",
        "read",
        "--path",
        "/shop/",
    ]);
    home.ok([
        "config",
        "grant",
        "user:root",
        "--verb",
        "read",
        "--path",
        "/shop/",
    ]);
    home.ok([
        "config",
        "grant",
        "user:root",
        "--verb",
        "read",
        "--path",
        "/blog/",
    ]);
    let roles = home.json(["role", "ls"]);
    let own = roles["roles"]
        .as_array()
        .expect("roles")
        .iter()
        .find(|role| role["name"] == "config-uid-4294967");
    let own = own.unwrap_or_else(|| panic!("no role: {roles}"));
    assert_eq!(own["members"], json!(["uid:4294967"]));
    assert_eq!(own["grants"][0]["paths"], json!(["/shop/"]));
    ended(
        &home.cmd(["config", "grant", "shop", "--verb", "apps:write", "--path", "/"]),
        2,
    );
    ended(
        &home.cmd(["config", "grant", "admin", "--verb", "read", "--path", "/"]),
        6,
    );
}

#[test]
fn a_role_of_ones_own_is_nobody_elses() {
    let home = Home::new();
    let grant = |who: &str, verb: &str, path: &str| {
        home.cmd(["config", "grant", who, "--verb", verb, "--path", path])
    };
    // Names that differ only in signs, and in the case of letters.
    for (who, verb, path) in [
        ("cert:web.1", "read", "/a/"),
        ("cert:web-1", "write", "/b/"),
        ("cert:Web-1", "history", "/c/"),
        ("cert:web_1", "watch", "/d/"),
    ] {
        ended(&grant(who, verb, path), 0);
    }
    let roles = home.json(["role", "ls"]);
    let own: Vec<(String, Value, String)> = roles["roles"]
        .as_array()
        .expect("roles")
        .iter()
        .filter(|role| {
            role["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("config-"))
        })
        .map(|role| {
            let paths: Vec<&Value> = role["grants"]
                .as_array()
                .expect("grants")
                .iter()
                .map(|grant| &grant["paths"])
                .collect();
            let name = role["name"].as_str().expect("a name").to_owned();
            (name, role["members"].clone(), json!(paths).to_string())
        })
        .collect();
    let one =
        |name: &str, who: &str, path: &str| (name.to_owned(), json!([who]), json!([[path]]).to_string());
    assert_eq!(
        own,
        [
            one("config-cert-Web-1", "cert:Web-1", "/c/"),
            one("config-cert-web-1", "cert:web-1", "/b/"),
            one("config-cert-web.1", "cert:web.1", "/a/"),
            one("config-cert-web_1", "cert:web_1", "/d/"),
        ]
    );
    // A role of that name which somebody else holds, nobody, or others as well.
    home.ok([
        "role",
        "set",
        "config-cert-x",
        "--verb",
        "config:read",
        "--path",
        "/x/",
    ]);
    let refused = grant("cert:x", "read", "/y/");
    ended(&refused, 4);
    says(
        &refused.stderr,
        &["not theirs alone", "upkeep config grant config-cert-x"],
    );
    home.ok(["role", "grant", "config-cert-x", "cert:y"]);
    ended(&grant("cert:x", "read", "/y/"), 4);
    home.ok(["role", "grant", "config-cert-x", "cert:x"]);
    ended(&grant("cert:x", "read", "/y/"), 4);
    home.ok(["role", "revoke", "config-cert-x", "cert:y"]);
    ended(&grant("cert:x", "read", "/y/"), 0);
    // What can be nobody, and what can be no role.
    ended(&grant("group:x", "read", "/y/"), 2);
    let long = grant(&format!("cert:{}", "x".repeat(55)), "read", "/y/");
    ended(&long, 4);
    says(&long.stderr, &["upkeep role set"]);
}
