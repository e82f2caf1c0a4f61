//! Files into the configuration and out of it, where values come from, and values that go by themselves.

use std::{io::Write as _, process::Stdio};

use serde_json::{Value, json};
use upkeep_e2e::{Http, LONG, ended, says};
use upkeep_testkit::{Home, wait_until};

use crate::{ask, listed, token};

/// What Python's own libraries read.
#[track_caller]
fn of_python(script: &str, text: &str) -> Value {
    let mut command = std::process::Command::new("python3");
    command
        .args(["-c", script])
        .env(
            "PYTHONPATH",
            upkeep_testkit::python::forms().expect("PyYAML and python-dotenv"),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("python3");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(text.as_bytes())
        .expect("written");
    let output = child.wait_with_output().expect("python3 ends");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

const YAML: &str = "import json, sys, yaml\njson.dump(yaml.safe_load(sys.stdin.read()), sys.stdout)";
const JSON: &str = "import json, sys\njson.dump(json.load(sys.stdin), sys.stdout)";
const DOTENV: &str = "import io, json, sys, dotenv\njson.dump(dotenv.dotenv_values(stream=io.StringIO(sys.stdin.read(), newline=''), interpolate=False), sys.stdout)";

/// A file as people write them.
const SHOP: &str = "db:\n  url: postgres://db/shop\n  pool: 10\nmotd: |\n  it's \"open\"\n  näher\nfeatures: [cart, search]\ndebug: false\nempty: ''\n";

#[test]
fn what_is_imported_is_exported_as_others_read_it() {
    let home = crate::home();
    home.write("shop.yaml", SHOP);
    let dry = home.cmd(["config", "import", "shop.yaml", "--place", "/shop/", "--dry-run"]);
    assert_eq!(dry.code, 0, "{dry:?}");
    says(
        &dry.stdout,
        &["+ /shop/db/pool: 10", "+ /shop/db/url: postgres://db/shop"],
    );
    assert_eq!(listed(&home, "/"), []);
    home.ok([
        "config",
        "import",
        "shop.yaml",
        "--place",
        "/shop/",
        "--reason",
        "from the file",
    ]);
    assert_eq!(home.ok(["config", "get", "/shop/db/pool"]), "10\n");
    let again = home.cmd(["config", "import", "shop.yaml", "--place", "/shop/"]);
    says(&again.stderr, &["nothing changes"]);

    let export = |form: &str| home.ok(["config", "export", "/shop/", "--form", form]);
    let theirs = of_python(YAML, SHOP);
    assert_eq!(of_python(YAML, &export("yaml")), theirs);
    assert_eq!(of_python(JSON, &export("json")), theirs);
    let dotenv = of_python(DOTENV, &export("dotenv"));
    assert_eq!(dotenv["DB_URL"], "postgres://db/shop");
    assert_eq!(dotenv["MOTD"], "it's \"open\"\nnäher\n");
    // Each form back into another place, and out of it again.
    for form in ["yaml", "json", "dotenv", "properties"] {
        let text = export(form);
        let place = format!("/{form}/");
        let done = home.cmd_with_input(
            ["config", "import", "-", "--form", form, "--place", &place],
            text.as_bytes(),
        );
        assert_eq!(done.code, 0, "{form}: {done:?}");
        if form == "yaml" || form == "json" {
            assert_eq!(
                home.ok(["config", "export", &place, "--form", "json"]),
                export("json"),
                "{form}"
            );
        }
    }
    // Dotenv's names find their paths again, and their kinds.
    let changed = export("dotenv").replace("DB_POOL=10", "DB_POOL=20");
    let done = home.cmd_with_input(
        ["config", "import", "-", "--form", "dotenv", "--place", "/shop/"],
        changed.as_bytes(),
    );
    assert_eq!(done.stdout.trim(), "~ /shop/db/pool: 10 -> 20", "{done:?}");
    assert_eq!(home.json(["config", "get", "/shop/db/pool"])["kind"], "number");
}

#[test]
fn an_import_is_all_or_nothing() {
    let home = crate::home();
    home.write("broken.yaml", "a: 1\nb: [\n");
    let refused = home.cmd(["config", "import", "broken.yaml", "--place", "/shop/"]);
    ended(&refused, 4);
    says(&refused.stderr, &["failed to import into `/shop/`", "line "]);
    home.write("twice.yaml", "db:\n  url: a\ndb/url: b\n");
    let refused = home.cmd(["config", "import", "twice.yaml", "--place", "/shop/"]);
    says(&refused.stderr, &["given a second time", "line 3"]);
    ended(
        &home.cmd(["config", "import", "nowhere.env", "--place", "/shop/"]),
        3,
    );
    home.write("shop", "A=1\n");
    ended(&home.cmd(["config", "import", "shop", "--place", "/shop/"]), 2);
    ended(
        &home.cmd(["config", "import", "twice.yaml", "--place", "/shop"]),
        4,
    );
    // More than one change takes: none of it, with the numbers.
    let many: Vec<String> = (0..5001).map(|n| format!("N{n}={n}")).collect();
    home.write("many.env", &many.join("\n"));
    let refused = home.cmd(["config", "import", "many.env", "--place", "/shop/"]);
    ended(&refused, 4);
    let most = if crate::ON_ETCD { "takes 64" } else { "takes 5000" };
    says(&refused.stderr, &["5001 values", most]);
    // Nor what one path refuses.
    home.ok([
        "role",
        "set",
        "part",
        "--verb",
        "config:write",
        "--path",
        "/shop/a",
    ]);
    let part = token(&home, "part", &["--role", "part"]);
    let body = json!({"place": "/shop/", "form": "json", "text": "{\"a\": \"1\", \"b\": \"2\"}"});
    assert_eq!(ask(&home, &part, "POST", "/v1/config/import", &body).status, 403);
    assert_eq!(listed(&home, "/"), []);
}

#[test]
fn secrets_are_in_no_export_unless_they_are_revealed() {
    let home = crate::home();
    home.write("shop.env", "DB_URL=postgres://db\nDB_PASSWORD=correct-horse-9\n");
    home.ok([
        "config",
        "import",
        "shop.env",
        "--place",
        "/shop/",
        "--secret",
        "*password",
    ]);
    let entry = home.json(["config", "get", "/shop/db_password"]);
    assert_eq!((&entry["secret"], &entry["text"]), (&json!(true), &Value::Null));
    for form in ["yaml", "json", "dotenv", "properties"] {
        let all = home.cmd(["config", "export", "/shop/", "--form", form]);
        assert_eq!(all.code, 0, "{all:?}");
        assert!(!format!("{all:?}").contains("correct-horse"), "{all:?}");
        says(&all.stderr, &["`/shop/db_password` is a secret and left out"]);
        // What was left out is left alone, and never made empty.
        let back = home.cmd_with_input(
            ["config", "import", "-", "--form", form, "--place", "/shop/"],
            all.stdout.as_bytes(),
        );
        assert_eq!(back.code, 0, "{form}: {back:?}");
        assert_eq!(
            home.ok(["config", "get", "/shop/db_password", "--reveal"]),
            "correct-horse-9\n"
        );
        let clear = home.ok(["config", "export", "/shop/", "--form", form, "--reveal"]);
        assert!(clear.contains("correct-horse-9"), "{form}: {clear}");
    }
    let verbs = ["--verb", "config:read"];
    home.ok(["role", "set", "reader"]
        .iter()
        .chain(&verbs)
        .chain(&["--path", "/shop/"]));
    let reader = token(&home, "reader", &["--role", "reader"]);
    let get = |query: &str| {
        ask(
            &home,
            &reader,
            "GET",
            &format!("/v1/config/export?{query}"),
            &Value::Null,
        )
    };
    assert_eq!(get("place=/shop/&form=json").status, 200);
    assert_eq!(get("place=/shop/&form=json&reveal=true").status, 403);
    assert_eq!(get("place=/blog/&form=json").status, 403);
    let explained = home.json(["config", "explain", "db_password", "--place", "/shop/"]);
    assert!(!explained.to_string().contains("correct-horse"), "{explained}");
}

#[test]
fn where_a_value_comes_from_is_told() {
    let home = crate::home();
    home.write("base.yaml", "db:\n  url: postgres://localhost\n  pool: 5\n");
    home.write("local.json", "{\n  \"db\": {\"pool\": 7}\n}\n");
    home.ok(["config", "set", "/shop/db/url", "postgres://db"]);
    let revision = home.json(["config", "get", "/shop/db/url"])["revision"].clone();
    let args = [
        "config",
        "explain",
        "db",
        "--file",
        "base.yaml",
        "--file",
        "local.json",
        "--place",
        "/shop/",
    ];
    let text = home.ok(args);
    says(
        &text,
        &[
            "db/pool = 7  local.json:2:10",
            "overrules db/pool = 5  base.yaml:3:3",
            &format!("db/url = \"postgres://db\"  /shop/db/url at revision {revision}"),
            "overrules db/url = \"postgres://localhost\"  base.yaml:2:3",
        ],
    );
    let one = home.json(["config", "explain", "db.url", "--file", "base.yaml"]);
    assert_eq!(
        one["values"][0]["origin"],
        json!({"what": "file", "file": "base.yaml", "line": 2, "column": 3})
    );
    ended(
        &home.cmd(["config", "explain", "nothing", "--file", "base.yaml"]),
        3,
    );
    ended(&home.cmd(["config", "explain", "db"]), 2);
    home.write("broken.yaml", "a: [\n");
    let refused = home.cmd(["config", "explain", "a", "--file", "broken.yaml"]);
    ended(&refused, 4);
    says(&refused.stderr, &["broken.yaml:"]);
}

#[test]
fn where_a_setting_of_the_machine_comes_from_is_told() {
    let home = crate::home();
    let text = home.ok(["settings", "explain", "logs/free_space"]);
    says(
        &text,
        &["logs/free_space = \"1G, or 5% of a disk where that is less\"  default"],
    );
    home.write("settings.yaml", "logs:\n  free_space: 2G\n");
    home.ok(["settings", "set", "settings.yaml"]);
    let text = home.ok(["settings", "explain", "logs"]);
    says(
        &text,
        &[
            "settings of this machine, revision ",
            "overrules logs/free_space = \"1G, or 5%",
        ],
    );
    home.write("next.yaml", "logs:\n  free_space: 7%\n");
    let next = home.json(["settings", "explain", "logs.free_space", "--file", "next.yaml"]);
    let value = &next["values"][0];
    assert_eq!(
        (&value["value"], &value["origin"]["line"]),
        (&json!("7%"), &json!(2)),
        "{next}"
    );
    assert_eq!(value["hides"].as_array().map(Vec::len), Some(2), "{next}");
    ended(&home.cmd(["settings", "explain", "nothing"]), 3);
}

#[test]
fn a_value_goes_by_itself_unless_it_is_kept_alive() {
    let home = crate::home();
    let set = home.json(["config", "set", "/web/one", "up", "--ttl", "1s"]);
    let lease = set["lease"]["id"].as_str().expect("a lease").to_owned();
    assert!(
        set["lease"]["ttl_ms"].as_u64().is_some_and(|ttl| ttl >= 1000),
        "{set}"
    );
    let alive = Http::ask(
        &home,
        "POST",
        &format!("/v1/config/leases/{lease}/keep-alive"),
        b"{}",
    );
    assert_eq!(alive.status, 200, "{alive:?}");
    assert_eq!(alive.json()["id"], lease.as_str());
    home.ok(["role", "set", "reader", "--verb", "config:*", "--path", "/other/"]);
    let reader = token(&home, "reader", &["--role", "reader"]);
    let path = format!("/v1/config/leases/{lease}/keep-alive");
    assert_eq!(
        ask(&home, &reader, "POST", &path, &json!({})).status,
        404,
        "not theirs"
    );
    wait_until("the value to go", LONG, || {
        let output = home.cmd(["config", "get", "/web/one"]);
        if output.code == 3 {
            Ok(())
        } else {
            Err(format!("{output:?}"))
        }
    });
    ended(&home.cmd(["config", "keep-alive", &lease]), 3);
    ended(&home.cmd(["config", "set", "/web/one", "up", "--ttl", "10ms"]), 4);
}

#[test]
fn a_pattern_of_secrets_that_fits_nothing_is_refused() {
    let home = Home::new();
    home.write("shop.env", "DB_URL=postgres\nDB_PASSWORD=correct-horse\n");
    let import = |secrets: &[&str]| {
        let args = ["config", "import", "shop.env", "--place", "/shop/"];
        let secrets = secrets.iter().flat_map(|one| ["--secret", one]);
        home.cmd(args.into_iter().chain(secrets))
    };
    let refused = import(&["*passwrod"]);
    ended(&refused, 4);
    says(&refused.stderr, &["nothing in the file fits `*passwrod`"]);
    let refused = import(&["*password", "typo"]);
    ended(&refused, 4);
    says(&refused.stderr, &["`typo`"]);
    assert_eq!(listed(&home, "/"), []);
    ended(&import(&["*password"]), 0);
    assert_eq!(
        listed(&home, "/shop/"),
        [
            ("/shop/db_password".to_owned(), None),
            ("/shop/db_url".to_owned(), Some("postgres".to_owned())),
        ]
    );
    // One that the file only names is meant as well.
    home.write("kept.json", r#"{"db_password": {"$secret": null}, "b": "1"}"#);
    let kept = [
        "config",
        "import",
        "kept.json",
        "--place",
        "/shop/",
        "--secret",
        "db_password",
    ];
    home.ok(kept);
}

#[test]
fn a_lease_is_called_the_same_everywhere() {
    let home = Home::new();
    home.ok(["config", "set", "/x", "1"]);
    for (asked, told) in [("77", "no lease 77;"), ("zz", "no lease `zz`")] {
        let none = home.cmd(["config", "keep-alive", asked]);
        ended(&none, 3);
        says(&none.stderr, &[told]);
    }
}
