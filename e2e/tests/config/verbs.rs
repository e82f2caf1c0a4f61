//! Each verb of the command line.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use upkeep_e2e::{Http, ended, events, says};
use upkeep_testkit::Home;

use crate::listed;

#[test]
fn values_are_set_read_and_deleted() {
    let home = crate::home();
    let set = home.ok([
        "config",
        "set",
        "/shop/prod/db/url",
        "postgres://db",
        "--reason",
        "begin",
    ]);
    says(&set, &["+ /shop/prod/db/url: postgres://db"]);
    assert_eq!(home.ok(["config", "get", "/shop/prod/db/url"]), "postgres://db\n");
    let entry = home.json(["config", "get", "/shop/prod/db/url"]);
    assert_eq!(entry["text"], "postgres://db");
    assert_eq!(
        (&entry["kind"], &entry["secret"]),
        (&json!("text"), &json!(false))
    );
    assert_eq!(
        (&entry["version"], &entry["reason"]),
        (&json!(1), &json!("begin"))
    );
    let revision = entry["revision"].as_u64().expect("a revision");

    // The same again is no change, and leaves no event.
    let before = events(&home).len();
    let again = home.cmd(["config", "set", "/shop/prod/db/url", "postgres://db"]);
    assert_eq!(again.code, 0);
    says(&again.stderr, &["nothing changes"]);
    assert_eq!(events(&home).len(), before);

    // From standard input a line end is left out, from a file nothing is.
    let piped = home.cmd_with_input(
        ["config", "set", "/shop/prod/port", "-", "--kind", "number"],
        b"8080\n",
    );
    assert_eq!(piped.code, 0, "{piped:?}");
    assert_eq!(home.json(["config", "get", "/shop/prod/port"])["text"], "8080");
    let bytes = home.work().join("logo");
    std::fs::write(&bytes, [0xff, 0x00, b'\n']).expect("written");
    home.ok(["config", "set", "/shop/logo", "--file", "logo"]);
    let logo = home.json(["config", "get", "/shop/logo"]);
    assert_eq!((&logo["kind"], &logo["base64"]), (&json!("file"), &json!("/wAK")));

    // What it says that it is, it must be.
    ended(
        &home.cmd(["config", "set", "/shop/prod/port", "many", "--kind", "number"]),
        4,
    );
    ended(&home.cmd(["config", "set", "no-slash", "x"]), 2);
    ended(&home.cmd(["config", "set", "/a/../b", "x"]), 2);
    ended(&home.cmd(["config", "get", "/nothing"]), 3);
    ended(&home.cmd(["config", "set", "/x", "--file", "nowhere"]), 3);

    // Only what was seen is changed.
    let late = (revision + 1000).to_string();
    let refused = home.cmd(["config", "set", "/shop/prod/db/url", "mine", "--revision", &late]);
    ended(&refused, 6);
    let only_new = home.cmd(["config", "set", "/shop/prod/db/url", "mine", "--revision", "0"]);
    ended(&only_new, 6);
    home.ok([
        "config",
        "set",
        "/shop/prod/db/url",
        "mine",
        "--revision",
        &revision.to_string(),
    ]);

    // A dry run says what would be.
    let dry = home.cmd(["config", "rm", "/shop/prod/", "--dry-run"]);
    assert_eq!(dry.code, 0);
    says(&dry.stdout, &["- /shop/prod/db/url", "- /shop/prod/port"]);
    assert_eq!(listed(&home, "/shop/prod/").len(), 2);

    let tree = home.ok(["config", "tree", "/shop/"]);
    assert_eq!(
        tree,
        "/shop/\n  logo: (bytes)\n  prod/\n    db/\n      url: mine\n    port: 8080\n"
    );

    home.ok(["config", "rm", "/shop/prod/", "/shop/logo", "--reason", "end"]);
    assert_eq!(listed(&home, "/"), []);
    let nothing = home.cmd(["config", "rm", "/shop/prod/port"]);
    assert_eq!(nothing.code, 0);
    says(&nothing.stderr, &["nothing changes"]);
    let told: Vec<String> = events(&home)
        .iter()
        .filter_map(|event| event["what"].as_str().filter(|what| what.starts_with("config.")))
        // On etcd, from the machine's coming there.
        .filter(|what| !["config.store", "config.rules"].contains(what))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        told,
        [
            "config.set",
            "config.set",
            "config.set",
            "config.set",
            "config.deleted"
        ]
    );
}

#[test]
fn what_was_is_told_compared_and_brought_back() {
    let home = crate::home();
    let revision = |home: &Home| {
        let list = home.json(["config", "status"]);
        list["revision"]
            .as_u64()
            .unwrap_or_else(|| panic!("{list}"))
            .to_string()
    };
    home.ok(["config", "set", "/shop/a", "1"]);
    home.ok(["config", "set", "/shop/b", "1"]);
    let first = revision(&home);
    home.ok(["config", "set", "/shop/a", "2", "--reason", "more"]);
    home.ok(["config", "rm", "/shop/b"]);
    home.ok(["config", "set", "/shop/c", "3"]);

    let history = home.json(["config", "history", "/shop/"]);
    let told: Vec<(String, String)> = history["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|change| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("deleted").to_owned();
            (text(&change["path"]), text(&change["value"]["text"]))
        })
        .collect();
    let pair = |path: &str, value: &str| (path.to_owned(), value.to_owned());
    assert_eq!(
        told,
        [
            pair("/shop/c", "3"),
            pair("/shop/b", "deleted"),
            pair("/shop/a", "2"),
            pair("/shop/b", "1"),
            pair("/shop/a", "1")
        ]
    );
    says(
        &home.ok(["config", "history", "/shop/a"]),
        &["(more)", "/shop/a: 2", "uid:"],
    );

    let diff = home.ok(["config", "diff", "/shop/", &first]);
    assert_eq!(diff, "~ /shop/a: 1 -> 2\n- /shop/b: 1\n+ /shop/c: 3\n");
    assert_eq!(home.ok(["config", "diff", "/shop/", &first, &first]), "");

    let dry = home.ok(["config", "rollback", "/shop/", &first, "--dry-run"]);
    says(&dry, &["~ /shop/a: 2 -> 1", "+ /shop/b: 1", "- /shop/c: 3"]);
    assert_eq!(listed(&home, "/shop/").len(), 2);
    home.ok(["config", "rollback", "/shop/", &first, "--reason", "no good"]);
    let one = Some("1".to_owned());
    assert_eq!(
        listed(&home, "/shop/"),
        [("/shop/a".to_owned(), one.clone()), ("/shop/b".to_owned(), one)]
    );
    let last = events(&home).pop().expect("events");
    assert_eq!(
        (&last["what"], &last["why"]),
        (&json!("config.rolled_back"), &json!("no good"))
    );
}

#[test]
fn several_are_changed_together_or_not_at_all() {
    let home = crate::home();
    home.ok(["config", "set", "/shop/a", "1"]);
    let post =
        |body: serde_json::Value| Http::ask(&home, "POST", "/v1/config/changes", body.to_string().as_bytes());
    let refused = post(
        json!({"puts": [{"path": "/shop/b", "text": "2"}, {"path": "/shop/a", "text": "2", "revision": 0}]}),
    );
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (409, &json!("conflict"))
    );
    assert_eq!(listed(&home, "/").len(), 1);
    for wrong in [
        json!({}),
        json!({"puts": [{"path": "/b"}]}),
        json!({"puts": [{"path": "b", "text": "x"}]}),
        json!({"puts": [{"path": "/b", "text": "x", "base64": "eA=="}]}),
        json!({"puts": [{"path": "/b", "base64": "?"}]}),
        json!({"puts": [{"path": "/b", "text": "x"}, {"path": "/b", "text": "y"}]}),
        json!({"puts": [{"path": "/b", "text": "x"}], "removals": [{"place": "/"}]}),
        json!({"puts": [{"path": "/b", "kind": "json", "text": "{"}]}),
    ] {
        let answer = post(wrong.clone());
        assert_eq!(answer.status, 422, "{wrong}: {answer:?}");
    }
    let done = post(
        json!({"puts": [{"path": "/shop/b", "text": "2"}], "removals": [{"place": "/shop/a"}], "reason": "moved"}),
    );
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.json()["differences"].as_array().map(Vec::len), Some(2));
    assert!(done.json()["event"].is_u64());
    assert_eq!(listed(&home, "/"), [("/shop/b".to_owned(), Some("2".to_owned()))]);

    // `ETag` and `If-Match`, in a path with slashes as they are and encoded.
    let seen = Http::ask(&home, "GET", "/v1/config/values/shop%2Fb", b"");
    let tag = seen.header("etag").expect("a tag").to_owned();
    assert_eq!(tag, format!("\"{}\"", seen.json()["revision"]));
    let put = |tag: &str| {
        let body = json!({"text": "3"}).to_string();
        Http::ask_with(
            &home,
            "PUT",
            "/v1/config/values/shop/b",
            &[("If-Match", tag)],
            body.as_bytes(),
        )
    };
    assert_eq!(put("\"1000000\"").status, 409);
    assert_eq!(put("soon").status, 400);
    assert_eq!(put(&tag).status, 200);
    assert_eq!(put(&tag).status, 409, "it is another revision now");
    let picked = Http::ask(&home, "GET", "/v1/config/values?fields=path,text", b"").json();
    assert_eq!(picked["values"], json!([{"path": "/shop/b", "text": "3"}]));
}

#[test]
fn lists_are_paged() {
    let home = crate::home();
    home.ok(["ls"]);
    let puts: Vec<serde_json::Value> = (0..2345)
        .map(|n| json!({"path": format!("/many/{n:04}"), "text": n.to_string()}))
        .collect();
    // Etcd takes fewer values in one change.
    for puts in puts.chunks(if crate::ON_ETCD { 62 } else { 2345 }) {
        let body = json!({"puts": puts}).to_string();
        let answer = Http::ask(&home, "POST", "/v1/config/changes", body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(
        listed(&home, "/").len(),
        2345,
        "the command line asks for all pages"
    );
    let page = |query: &str| Http::ask(&home, "GET", &format!("/v1/config/values?{query}"), b"");
    let first = page("limit=2&place=/many/").json();
    assert_eq!(
        (&first["next"], first["values"].as_array().map(Vec::len)),
        (&json!("/many/0001"), Some(2))
    );
    let second = page("limit=2&place=/many/&after=/many/0001").json();
    assert_eq!(second["values"][0]["path"], "/many/0002");
    assert_eq!(page("limit=0").status, 422);
    assert_eq!(page("place=many").status, 400);
    // Of so many places an event names the one that holds them all.
    let last = events(&home).pop().expect("events");
    assert_eq!(last["details"]["places"], json!(["/many/"]));
}

#[test]
fn an_editor_changes_what_was_read() {
    let home = crate::home();
    home.ok(["config", "set", "/shop/motd", "hello"]);
    let run = home.work().join("runtime");
    std::fs::create_dir(&run).expect("a directory");
    let editor = |text: &str| {
        let path = home.write("editor.sh", text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    };
    let edit = |script: &str, args: &[&str]| {
        let path = editor(script);
        let words = ["config", "edit", "/shop/motd"];
        let mut command = home.command(words.iter().chain(args));
        command.env("EDITOR", path).env("XDG_RUNTIME_DIR", &run);
        let output = home.finish(command, upkeep_e2e::LONG);
        let left: Vec<_> = std::fs::read_dir(&run).expect("a directory").collect();
        assert!(left.is_empty(), "{left:?} after {output:?}");
        output
    };
    let done = edit(
        "#!/bin/sh\nstat -c %a \"$1\" > mode\nstat -c %a \"${1%/*}\" >> mode\necho world >> \"$1\"\n",
        &[],
    );
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(home.json(["config", "get", "/shop/motd"])["text"], "helloworld");
    assert_eq!(
        std::fs::read_to_string(home.work().join("mode")).expect("modes"),
        "600\n700\n"
    );
    let same = edit("#!/bin/sh\ntrue\n", &[]);
    says(&same.stderr, &["nothing changes"]);
    ended(&edit("#!/bin/sh\necho x > \"$1\"\nexit 3\n", &[]), 1);
    // A secret is edited if that is asked for.
    home.cmd_with_input(["config", "set", "/shop/motd", "-", "--secret"], b"hunter2");
    ended(&edit("#!/bin/sh\ntrue\n", &[]), 4);
    let done = edit("#!/bin/sh\nprintf 3 >> \"$1\"\n", &["--reveal"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!done.stdout.contains("hunter"), "{done:?}");
    assert_eq!(home.ok(["config", "get", "/shop/motd", "--reveal"]), "hunter23\n");
}

#[test]
fn a_value_is_whole_or_refused() {
    const MAX: usize = 512 << 10;
    let home = crate::home();
    let set = |path: &str, bytes: &[u8]| home.cmd_with_input(["config", "set", path, "-"], bytes);
    // Cut there, the last byte would be taken for a line end.
    let lines: Vec<u8> = b"ab\n".iter().copied().cycle().take(1_000_000).collect();
    let mut just = lines[..MAX - 1].to_vec();
    just.push(b'x');
    let with = |more: &[u8]| [just.as_slice(), more].concat();
    let mut cut = with(b"");
    cut[MAX - 1] = b'x';
    cut.extend(b"\n and much more");
    for bytes in [&lines, &cut, &with(b"x"), &with(b"\n\n"), &with(b"\nx")] {
        let refused = set("/big", bytes);
        ended(&refused, 4);
        says(
            &refused.stderr,
            &["failed to set `/big`: standard input has more than 524288 bytes"],
        );
    }
    ended(&home.cmd(["config", "get", "/big"]), 3);
    ended(&set("/big", &with(b"\n")), 0);
    let kept = home.json(["config", "get", "/big"]);
    assert_eq!(kept["text"].as_str().map(str::as_bytes), Some(just.as_slice()));
    std::fs::write(home.work().join("large"), &lines).expect("written");
    let refused = home.cmd(["config", "set", "/big", "--file", "large"]);
    ended(&refused, 4);
    says(&refused.stderr, &["`large` has more than 524288 bytes"]);
}

#[test]
fn what_was_edited_is_not_thrown_away() {
    let home = crate::home();
    let run = home.work().join("runtime");
    std::fs::create_dir(&run).expect("a directory");
    home.write("typed.yaml", "properties: {port: {maximum: 10}}");
    home.ok(["config", "set", "/shop/motd", "hello"]);
    home.ok(["config", "set", "/typed/port", "1", "--kind", "number"]);
    home.ok(["config", "schema", "set", "/typed/", "typed.yaml"]);
    let edit = |path: &str, script: &str, more: &[&str]| {
        let editor = home.write("editor.sh", &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let mut command = home.command(["config", "edit", path].iter().chain(more));
        command.env("EDITOR", editor).env("XDG_RUNTIME_DIR", &run);
        home.finish(command, upkeep_e2e::LONG)
    };
    let kept = || {
        let mut found: Vec<_> = std::fs::read_dir(&run)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert!(found.len() <= 1, "{found:?}");
        let directory = found.pop()?;
        let mut files = std::fs::read_dir(&directory).expect("it is ours");
        let file = files.next().expect("a file").expect("an entry").path();
        let mode = std::fs::metadata(&file)
            .expect("it is there")
            .permissions()
            .mode();
        let text = std::fs::read_to_string(&file).expect("text");
        std::fs::remove_dir_all(&directory).expect("it is ours");
        Some((file.display().to_string(), mode & 0o777, text))
    };
    // Somebody else was faster; and editors may make the file anew.
    let upkeep = home.upkeep().display();
    let faster =
        format!("{upkeep} config set /shop/motd theirs >&2; rm \"$1\"; echo mine > \"$1\"; chmod 644 \"$1\"");
    let refused = edit("/shop/motd", &faster, &[]);
    ended(&refused, 6);
    let (file, mode, text) = kept().expect("it is kept");
    assert_eq!((mode, text.as_str()), (0o600, "mine\n"));
    says(
        &refused.stderr,
        &[&file, "upkeep config set /shop/motd - --kind text <"],
    );
    assert_eq!(home.json(["config", "get", "/shop/motd"])["text"], "theirs");
    // A number that is none, one that the schema refuses, and what no store takes.
    for text in ["many", "80"] {
        let refused = edit("/typed/port", &format!("echo {text} > \"$1\""), &[]);
        ended(&refused, 4);
        let (file, _, found) = kept().expect("it is kept");
        assert_eq!(found, format!("{text}\n"));
        says(&refused.stderr, &[&file, "--kind number"]);
    }
    let refused = edit(
        "/shop/motd",
        "head -c 600000 /dev/zero | tr '\\0' x > \"$1\"",
        &[],
    );
    ended(&refused, 4);
    says(&refused.stderr, &["what was edited has more than 524288 bytes"]);
    assert_eq!(kept().expect("it is kept").2.len(), 600_000);
    // A long name.
    let long = format!("/{}", "ä".repeat(150));
    ended(&edit(&long, "echo x > \"$1\"", &[]), 0);
    assert_eq!(home.ok(["config", "get", &long]), "x\n");
    assert_eq!(kept(), None);
}
