//! Every call, once, as it succeeds: what the description promises is what comes.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use upkeep_e2e::{Http, LONG, app, apply};
use upkeep_testkit::{Home, wait_until};

use crate::calls;

/// What is done, in this order: each may need what those before it left. `{…}` in the path of the description, and the path.
fn steps(home: &Home, key: &str) -> Vec<(&'static str, &'static str, String, Value)> {
    let get = |template: &'static str| ("GET", template, template.to_owned(), Value::Null);
    let on = |method, template: &'static str, path: &str, body| (method, template, path.to_owned(), body);
    let all = |template: &'static str| on("POST", template, template, json!({"selectors": ["shop"]}));
    let one = |action: &'static str| {
        let path = action.replace("{name}", "shop");
        on("POST", action, &path, json!({"reason": "each once"}))
    };
    let changed = json!({"apps": [{"name": "shop", "command": [home.child(), "wait"], "env": {"A": "2"}}]});
    vec![
        get("/healthz"),
        get("/readyz"),
        get("/metrics"),
        get("/v1/openapi.json"),
        get("/v1/whoami"),
        get("/v1/daemon"),
        get("/v1/apps"),
        on("GET", "/v1/apps/{name}", "/v1/apps/shop", Value::Null),
        on(
            "GET",
            "/v1/apps/{name}/exposure",
            "/v1/apps/shop/exposure",
            Value::Null,
        ),
        on(
            "GET",
            "/v1/apps/{name}/crashes",
            "/v1/apps/boom/crashes",
            Value::Null,
        ),
        on(
            "GET",
            "/v1/apps/{name}/crashes/{id}",
            "/v1/apps/boom/crashes/last",
            Value::Null,
        ),
        on("GET", "/v1/search", "/v1/search?q=shop", Value::Null),
        get("/v1/events"),
        get("/v1/logs"),
        get("/v1/metrics"),
        get("/v1/audit"),
        get("/v1/schedules"),
        on(
            "GET",
            "/v1/schedules/{name}",
            "/v1/schedules/nightly",
            Value::Null,
        ),
        on(
            "POST",
            "/v1/apps",
            "/v1/apps",
            json!({"unresolved": [{"file": {"name": "upkeep.json", "text": changed.to_string(), "directory": home.work()}}]}),
        ),
        on(
            "POST",
            "/v1/apps/{name}/rollback",
            "/v1/apps/shop/rollback",
            json!({"reason": "each once"}),
        ),
        one("/v1/apps/{name}/restart"),
        one("/v1/apps/{name}/reload"),
        on(
            "POST",
            "/v1/apps/{name}/scale",
            "/v1/apps/shop/scale",
            json!({"instances": "2"}),
        ),
        one("/v1/apps/{name}/stop"),
        one("/v1/apps/{name}/start"),
        all("/v1/selections/restart"),
        all("/v1/selections/reload"),
        all("/v1/selections/stop"),
        all("/v1/selections/start"),
        on("PUT", "/v1/snapshot", "/v1/snapshot", json!({})),
        on(
            "POST",
            "/v1/selections/delete",
            "/v1/selections/delete",
            json!({"selectors": ["boom"]}),
        ),
        on("POST", "/v1/snapshot/restore", "/v1/snapshot/restore", json!({})),
        get("/v1/settings"),
        on(
            "PUT",
            "/v1/settings",
            "/v1/settings",
            json!({"settings": {"web": {"listen": ["127.0.0.1:0"], "tls": true}, "alerts": {"channels": {"mine": {"command": {"run": ["true"]}}}}}, "reason": "each once"}),
        ),
        get("/v1/alerts"),
        on(
            "PUT",
            "/v1/alerts/silences/{app}",
            "/v1/alerts/silences/shop",
            json!({"for_ms": 60000}),
        ),
        on(
            "DELETE",
            "/v1/alerts/silences/{app}",
            "/v1/alerts/silences/shop",
            json!({}),
        ),
        on("POST", "/v1/alerts/test", "/v1/alerts/test", json!({})),
        get("/v1/alerts/deliveries"),
        get("/v1/roles"),
        on(
            "PUT",
            "/v1/roles/{role}",
            "/v1/roles/mine",
            json!({"grants": [{"verbs": ["apps:read"]}]}),
        ),
        on(
            "PUT",
            "/v1/roles/{role}/members/{member}",
            "/v1/roles/mine/members/uid:4294967",
            json!({}),
        ),
        on(
            "DELETE",
            "/v1/roles/{role}/members/{member}",
            "/v1/roles/mine/members/uid:4294967",
            json!({}),
        ),
        on("DELETE", "/v1/roles/{role}", "/v1/roles/mine", json!({})),
        get("/v1/tokens"),
        on(
            "POST",
            "/v1/tokens",
            "/v1/tokens",
            json!({"name": "mine", "roles": ["viewer"]}),
        ),
        on("DELETE", "/v1/tokens/{token}", "/v1/tokens/mine", json!({})),
        on(
            "PUT",
            "/v1/certificates/authority",
            "/v1/certificates/authority",
            json!({}),
        ),
        get("/v1/certificates"),
        on(
            "POST",
            "/v1/certificates",
            "/v1/certificates",
            json!({"name": "laptop", "public_key": key}),
        ),
        on(
            "POST",
            "/v1/certificates/renew",
            "/v1/certificates/renew",
            json!({}),
        ),
        on(
            "DELETE",
            "/v1/certificates/{serial}",
            "/v1/certificates/laptop",
            json!({}),
        ),
        on(
            "PUT",
            "/v1/config/values/{path}",
            "/v1/config/values/shop/db/url",
            json!({"text": "postgres://db", "reason": "each once"}),
        ),
        on(
            "POST",
            "/v1/config/changes",
            "/v1/config/changes",
            json!({"puts": [{"path": "/shop/db/password", "text": "hunter2", "secret": true}], "reason": "each once"}),
        ),
        get("/v1/config/values"),
        on(
            "GET",
            "/v1/config/values/{path}",
            "/v1/config/values/shop/db/password?reveal=true",
            Value::Null,
        ),
        get("/v1/config/machines"),
        get("/v1/config/status"),
        on(
            "PUT",
            "/v1/config/rules",
            "/v1/config/rules",
            json!({"place": "/theirs/", "recipients": [{"name": "machine:theirs", "key": "09".to_owned() + &"00".repeat(31)}]}),
        ),
        get("/v1/config/rules"),
        on(
            "POST",
            "/v1/config/reseal",
            "/v1/config/reseal",
            json!({"place": "/shop/", "anew": true, "reason": "each once"}),
        ),
        on(
            "PUT",
            "/v1/config/schemas",
            "/v1/config/schemas",
            json!({"place": "/theirs/", "schema": {"type": "object"}, "reason": "each once"}),
        ),
        get("/v1/config/schemas"),
        on(
            "PUT",
            "/v1/config/keep",
            "/v1/config/keep",
            json!({"place": "/theirs/", "keep": {"changes": 100, "days": 30}, "reason": "each once"}),
        ),
        on(
            "PUT",
            "/v1/config/approvals",
            "/v1/config/approvals",
            json!({"place": "/theirs/", "approvals": 1, "reason": "each once"}),
        ),
        on(
            "POST",
            "/v1/config/import",
            "/v1/config/import",
            json!({"place": "/imported/", "form": "dotenv", "text": "A=1\n", "reason": "each once"}),
        ),
        get("/v1/config/export"),
        on(
            "POST",
            "/v1/settings/explain",
            "/v1/settings/explain",
            json!({"key": "logs"}),
        ),
        on(
            "POST",
            "/v1/config/explain",
            "/v1/config/explain",
            json!({"key": "a", "place": "/imported/"}),
        ),
        get("/v1/config/proposals"),
        get("/v1/config/history"),
        on("GET", "/v1/config/diff", "/v1/config/diff?from=1", Value::Null),
        on(
            "DELETE",
            "/v1/config/values/{path}",
            "/v1/config/values/shop/db/url",
            json!({"reason": "each once"}),
        ),
        on(
            "POST",
            "/v1/config/rollback",
            "/v1/config/rollback",
            json!({"place": "/shop/", "to": 1, "reason": "each once"}),
        ),
        on("DELETE", "/v1/apps/{name}", "/v1/apps/shop", json!({})),
        on(
            "POST",
            "/v1/daemon/shutdown",
            "/v1/daemon/shutdown",
            json!({"reason": "each once"}),
        ),
    ]
}

/// What cannot be seen to succeed here, and where it is.
const ELSEWHERE: [(&str, &str); 12] = [
    // `e2e/tests/config/approvals`: two people take part.
    ("POST", "/v1/config/proposals/{proposal}/approve"),
    ("POST", "/v1/config/proposals/{proposal}/refuse"),
    // `e2e/tests/config/exchange`: the lease has a name of its own.
    ("POST", "/v1/config/leases/{lease}/keep-alive"),
    // `e2e/tests/config/watch`: it is a stream, which does not end.
    ("GET", "/v1/config/watch"),
    // `e2e/tests/config-etcd`: these need an etcd.
    ("POST", "/v1/config/auth"),
    ("POST", "/v1/config/machines"),
    ("DELETE", "/v1/config/machines/{name}"),
    ("POST", "/v1/config/migrate"),
    // `e2e/tests/inspect`: they look into a Node program.
    ("POST", "/v1/apps/{name}/heap"),
    ("POST", "/v1/apps/{name}/profile"),
    // `e2e/tests/upgrade`, and every test's end.
    ("POST", "/v1/daemon/upgrade"),
    ("POST", "/v1/daemon/kill"),
];

#[test]
fn every_call_succeeds_as_it_is_described() {
    let home = Home::new();
    let nightly = json!({"name": "nightly", "command": ["true"], "schedule": "@daily"});
    apply(
        &home,
        &[
            app(&home, "shop", &["wait"]),
            app(&home, "boom", &["exit", "3"]),
            nightly,
        ],
    );
    wait_until("the dossier of a crash", LONG, || {
        let answer = Http::ask(&home, "GET", "/v1/apps/boom/crashes/last", b"");
        if answer.status == 200 {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
    let keys = "openssl ecparam -name prime256v1 -genkey -noout -out k.key && openssl ec -in k.key -pubout -out k.pub";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", keys]).current_dir(home.work());
    assert_eq!(home.finish(command, LONG).code, 0);
    let key = std::fs::read_to_string(home.work().join("k.pub")).expect("a key");
    let described = calls(&home);
    let mut seen: BTreeSet<(String, String)> = ELSEWHERE
        .iter()
        .map(|(method, path)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    for (method, template, path, body) in steps(&home, &key) {
        let what = format!("{method} {path}");
        let call = described
            .iter()
            .find(|call| call.method == method && call.template == template)
            .unwrap_or_else(|| panic!("{what} is not described"));
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = Http::ask(&home, method, &path, body.as_bytes());
        assert!((200..300).contains(&answer.status), "{what}: {answer:?}");
        assert!(
            call.codes.contains(&answer.status),
            "{what}: {} is not described",
            answer.status
        );
        // The rest is text: figures for Prometheus, a word for a balancer, a line for each line of a log.
        if !matches!(template, "/metrics" | "/healthz" | "/readyz" | "/v1/logs") {
            assert!(answer.json().is_object(), "{what}: {answer:?}");
        }
        // What changed something names the event that tells of it.
        let of_many = [
            "/v1/apps",
            "/v1/config",
            "/v1/selections",
            "/v1/settings",
            "/v1/roles",
            "/v1/snapshot",
        ];
        // Explaining takes a body, and changes nothing.
        let is_change = method != "GET" && !template.ends_with("/explain");
        let changes = is_change && of_many.iter().any(|start| template.starts_with(start));
        if changes {
            assert!(answer.json()["event"].is_u64(), "{what}: {}", answer.json());
        }
        seen.insert((method.to_owned(), template.to_owned()));
    }
    let unseen: Vec<_> = described
        .iter()
        .filter(|call| !seen.contains(&(call.method.clone(), call.template.clone())))
        .map(|call| format!("{} {}", call.method, call.template))
        .collect();
    assert!(unseen.is_empty(), "never seen to succeed: {unseen:?}");
}
