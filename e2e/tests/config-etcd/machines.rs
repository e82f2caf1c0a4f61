//! Users of etcd for machines: a stolen credential opens its own part only, asked through us and at etcd itself.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use upkeep_e2e::{Http, ended, says};
use upkeep_testkit::{Home, etcd::Etcd};

use crate::{
    ask, token,
    world::{announced, join, set, settings},
};

/// Hashing passwords is made cheap.
const CHEAP: &[&str] = &["--bcrypt-cost", "4"];

/// A machine that may do everything at an etcd that asks who everybody is.
pub(crate) fn guarded() -> (Etcd, Home) {
    let etcd = Etcd::single(CHEAP);
    let home = Home::new();
    join(&home, &etcd, "web1");
    secret(&home, "root.pw", "the root's password");
    let more = json!({"user": "ann", "password_file": home.work().join("root.pw")});
    // It takes a user, also before etcd asks for any.
    set(&home, &settings(&etcd, "web1", more));
    ended(&home.cmd(["config", "machine", "auth", "--root", "bob"]), 6);
    // What would be made is not made.
    let dry = home.ok(["config", "machine", "auth", "--root", "ann", "--dry-run"]);
    assert_eq!(dry, "+ role root\n+ user ann\n+ user root\n+ authentication\n");
    assert!(etcdctl(&etcd, "", &["get", "x"]), "it asks nobody yet");
    assert_eq!(home.ok(["config", "machine", "auth", "--root", "ann"]), dry);
    (etcd, home)
}

pub(crate) fn secret(home: &Home, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = home.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

/// Asks etcd itself. Whether it did it.
fn etcdctl(etcd: &Etcd, user: &str, args: &[&str]) -> bool {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &etcd.endpoints()[0], "--user", user])
        .args(args)
        .output()
        .expect("etcdctl (Debian: etcd-client)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success()
            || said.contains("permission denied")
            || said.contains("authentication failed"),
        "{args:?}: {said}"
    );
    output.status.success()
}

/// A machine with its own user.
pub(crate) fn member(etcd: &Etcd, root: &Home, name: &str, args: &[&str]) -> (Home, String) {
    let home = Home::new();
    let file = root.work().join(format!("{name}.pw"));
    let file_text = file.to_str().expect("a path");
    let mut all = vec!["config", "machine", "add", name, "--password-file", file_text];
    all.extend(args);
    root.ok(all);
    let password = std::fs::read_to_string(&file)
        .expect("a password")
        .trim()
        .to_owned();
    assert_eq!(password.len(), 48);
    mode_is_closed(&file);
    secret(&home, "pw", &password);
    let user = format!("upkeep-{name}");
    let more = json!({"user": user, "password_file": home.work().join("pw")});
    set(&home, &settings(etcd, name, more));
    announced(&home, name);
    (home, format!("{user}:{password}"))
}

fn mode_is_closed(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn at_etcd_itself_a_machine_has_its_own_part_and_no_other() {
    let (etcd, root) = guarded();
    for path in [
        "/shop/prod/db",
        "/shop/prod/port",
        "/shop/test/db",
        "/shopping",
        "/mail/host",
    ] {
        root.ok(["config", "set", path, "1"]);
    }
    let users = [
        member(&etcd, &root, "reader", &["--path", "/shop/prod/"]).1,
        member(&etcd, &root, "writer", &["--path", "/shop/", "--write"]).1,
        member(
            &etcd,
            &root,
            "single",
            &["--path", "/shop/prod/db", "--path", "/mail/", "--write"],
        )
        .1,
    ];
    // Of each key: who reads it, who writes it.
    let keys: &[(&str, &str, &str)] = &[
        ("c/shop/prod/db", "rws", "ws"),
        ("c/shop/prod/port", "rw", "w"),
        ("c/shop/test/db", "w", "w"),
        ("c/shopping", "", ""),
        ("c/mail/host", "s", "s"),
        ("h/shop/prod/db\x00ff", "rws", "ws"),
        ("h/shop/prod/db2", "rw", "w"),
        ("h/shopping\x00ff", "", ""),
        ("m/fit/shop/prod/", "rw", "w"),
        ("m/fit/", "", ""),
        ("m/proposals/shop/prod/\x00ff", "rw", "w"),
        ("m/proposals/\x00ff", "", ""),
        ("m/rules", "rws", ""),
        ("m/store", "rws", ""),
        ("m/machines/web1", "rws", ""),
        ("m/machines/reader", "rws", "r"),
        ("m/grants/writer", "w", ""),
        ("m/keeper", "", ""),
        ("m/moving", "rws", ""),
    ];
    for (letter, user) in ["r", "w", "s"].into_iter().zip(&users) {
        for (key, read, write) in keys {
            // An argument has no NUL; what lies behind it is in the same range.
            let key = format!("/upkeep/{}", key.replace('\0', "\u{1}"));
            let in_history = key.contains('\u{1}');
            let may_read = read.contains(letter);
            let may_write = write.contains(letter);
            // Of one path, the history begins with a NUL: what etcdctl can name is not in it.
            if in_history && letter == "s" {
                continue;
            }
            assert_eq!(
                etcdctl(&etcd, user, &["get", &key]),
                may_read,
                "{letter} reads {key:?}"
            );
            assert_eq!(
                etcdctl(&etcd, user, &["put", &key, "stolen"]),
                may_write,
                "{letter} writes {key:?}"
            );
        }
        for prefix in ["/upkeep/", "/upkeep/c/", "/upkeep/h/", "/upkeep/m/", "/"] {
            assert!(
                !etcdctl(&etcd, user, &["get", "--prefix", "--keys-only", prefix]),
                "{letter} {prefix}"
            );
            assert!(
                !etcdctl(&etcd, user, &["del", "--prefix", prefix]),
                "{letter} {prefix}"
            );
        }
        assert!(!etcdctl(&etcd, user, &["user", "add", "evil:pw"]));
        assert!(!etcdctl(
            &etcd,
            user,
            &[
                "user",
                "grant-role",
                user.split(':').next().expect("a name"),
                "root"
            ]
        ));
    }
    assert!(!etcdctl(
        &etcd,
        "upkeep-reader:guessed",
        &["get", "/upkeep/m/rules"]
    ));
}

#[test]
fn a_machine_works_within_its_places_until_they_are_taken_from_it() {
    let (etcd, root) = guarded();
    root.ok(["config", "set", "/shop/prod/db", "1"]);
    root.ok(["config", "set", "/mail/host", "mx"]);
    let (home, user) = member(&etcd, &root, "web2", &["--path", "/shop/prod/", "--write"]);
    assert_eq!(home.ok(["config", "get", "/shop/prod/db"]), "1\n");
    home.ok(["config", "set", "/shop/prod/db", "2", "--reason", "from web2"]);
    assert_eq!(root.ok(["config", "get", "/shop/prod/db"]), "2\n");
    // Everything is what it can have of everything.
    let list = crate::listed(&home, "/");
    assert_eq!(list, [("/shop/prod/db".to_owned(), Some("2".to_owned()))]);
    let history = home.json(["config", "history"]);
    assert_eq!(history["changes"].as_array().map(Vec::len), Some(2), "{history}");
    home.ok([
        "config",
        "rollback",
        "/shop/prod/",
        &history["changes"][1]["revision"].to_string(),
    ]);
    for refused in [
        ["config", "get", "/mail/host"].as_slice(),
        &["config", "set", "/mail/host", "evil"],
        &["config", "set", "/shop/test", "evil"],
        &["config", "recipients", "/shop/prod/", "--to", "machine:web1"],
        &["config", "machine", "add", "web3", "--path", "/"],
    ] {
        let output = home.cmd(refused);
        ended(&output, 5);
        says(&output.stderr, &["not permitted"]);
    }
    let status = home.json(["config", "status"]);
    assert_eq!(status["places"], json!(["/shop/prod/"]));
    assert_eq!(status["user"], "upkeep-web2");
    assert!(
        status["keys"].is_null() && status["revision"].is_u64(),
        "{status}"
    );
    // A protected place is proposed where it lies, and approved from there.
    let granted = token(&root, "lead", &["--role", "admin"]);
    let list = ask(&root, &granted, "GET", "/v1/config/machines", &Value::Null).json();
    let web2 = list["machines"].as_array().and_then(|all| {
        all.iter()
            .find(|machine| machine["name"] == "machine:web2")
            .cloned()
    });
    let access = web2.expect("it is known")["access"].clone();
    assert_eq!(
        (&access["places"], &access["write"]),
        (&json!(["/shop/prod/"]), &json!(true))
    );
    // Narrower, with another password; the old one is good for nothing.
    let body = json!({"name": "web2", "places": ["/mail/"]});
    let added = Http::ask(&root, "POST", "/v1/config/machines", body.to_string().as_bytes());
    assert_eq!(added.header("cache-control"), Some("no-store"));
    let added = added.json();
    assert!(added["event"].is_u64() && added["asks"] == true, "{added}");
    let events = root.ok(["events", "-n", "100", "--json"]);
    let password = added["password"].as_str().expect("a password");
    assert!(!events.contains(password));
    assert!(!etcdctl(&etcd, &user, &["get", "/upkeep/m/rules"]));
    let user = format!("upkeep-web2:{password}");
    assert!(etcdctl(&etcd, &user, &["get", "/upkeep/c/mail/host"]));
    assert!(!etcdctl(&etcd, &user, &["get", "/upkeep/c/shop/prod/db"]));
    assert!(!etcdctl(&etcd, &user, &["put", "/upkeep/c/mail/host", "evil"]));
    // Who may not say what holds there makes no machines for it.
    root.ok(["role", "set", "lead", "--verb", "config:*", "--path", "/shop/"]);
    let lead = token(&root, "of-shop", &["--role", "lead"]);
    let call = |method: &str, path: &str, body: Value| ask(&root, &lead, method, path, &body).status;
    let machines = "/v1/config/machines";
    assert_eq!(
        call(
            "POST",
            machines,
            json!({"name": "web3", "places": ["/shop/", "/mail/"]})
        ),
        403
    );
    assert_eq!(call("DELETE", "/v1/config/machines/web2", json!({})), 403);
    assert_eq!(call("POST", "/v1/config/auth", json!({"root": "ann"})), 403);
    assert_eq!(call("POST", "/v1/config/migrate", json!({"to": "embedded"})), 403);
    assert_eq!(
        call(
            "POST",
            machines,
            json!({"name": "web3", "places": ["/shop/"], "dry_run": true})
        ),
        200
    );
    root.ok(["config", "machine", "rm", "web2"]);
    assert!(!etcdctl(&etcd, &user, &["get", "/upkeep/c/mail/host"]));
    assert_ne!(home.cmd(["config", "get", "/shop/prod/db"]).code, 0);
    ended(&root.cmd(["config", "machine", "rm", "web2"]), 3);
}
