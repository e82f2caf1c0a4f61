//! Programs that get their values from a real etcd: while it is away, and on a machine that it lets into one place only.

use serde_json::{Value, json};
use upkeep_e2e::{LONG, app, apply, pids, says, wait_value, with};
use upkeep_testkit::{Home, Signal, etcd::Etcd, kill, wait_until};

use crate::{
    machines::{guarded, member},
    world::join,
};

const SECRET: &str = "s3cr3t-4Kq-needle";

/// An app that waits and gets the values of a place.
fn supplied(home: &Home, name: &str, place: &str) -> Value {
    let quick = json!({
        "config": place,
        "on_change": {"wait": "100ms", "max": "1s"},
        "rollout": {"settle": "100ms", "timeout": "20s"},
        "restart": {"min_uptime": "200ms"},
        "stop": {"grace": "3s"},
    });
    with(app(home, name, &["wait"]), quick)
}

/// Waits until the values of an app are stale, or are so no more.
#[track_caller]
fn wait_stale(home: &Home, name: &str, is_stale: bool) {
    wait_until(&format!("stale: {is_stale}"), LONG, || {
        let view = home.json(["show", name])["config"].clone();
        if view["stale_since"].is_null() == is_stale {
            Err(view.to_string())
        } else {
            Ok(())
        }
    });
}

#[test]
fn apps_start_with_their_last_good_values_while_etcd_is_away() {
    let mut etcd = Etcd::single(&[]);
    let home = Home::new();
    join(&home, &etcd, "web1");
    home.ok(["config", "recipients", "/", "--to", "machine:web1"]);
    home.ok(["config", "set", "/shop/n", "1"]);
    let set = home.cmd_with_input(
        ["config", "set", "/shop/password", "-", "--secret"],
        SECRET.as_bytes(),
    );
    assert_eq!(set.code, 0, "{set:?}");
    apply(&home, &[supplied(&home, "shop", "/shop/")]);
    let [pid] = wait_value(&home, "shop", 1, "PASSWORD", SECRET)[..] else {
        panic!("one");
    };

    etcd.kill(0);
    kill(i32::try_from(pid).expect("a pid"), Signal::KILL).expect("it runs");
    wait_until("another process", LONG, || match pids(&home, "shop")[..] {
        [other] if other != pid => Ok(()),
        ref other => Err(format!("{other:?}")),
    });
    wait_value(&home, "shop", 1, "PASSWORD", SECRET);
    // As after a power cut: nothing of ours runs, and etcd does not answer.
    home.ok(["shutdown"]);
    wait_value(&home, "shop", 1, "PASSWORD", SECRET);
    wait_stale(&home, "shop", true);
    says(&home.ok(["show", "shop"]), &["stale"]);

    etcd.start(0);
    wait_stale(&home, "shop", false);
    home.ok(["config", "set", "/shop/n", "2"]);
    wait_value(&home, "shop", 1, "N", "2");
}

#[test]
fn a_machine_holds_what_it_was_granted_and_nothing_else() {
    let (etcd, root) = guarded();
    root.ok(["config", "set", "/shop/n", "1"]);
    root.ok(["config", "set", "/mail/host", "mail-needle"]);
    let (home, _) = member(&etcd, &root, "web2", &["--path", "/shop/"]);
    apply(&home, &[supplied(&home, "shop", "/shop/")]);
    wait_value(&home, "shop", 1, "N", "1");
    // What etcd does not let this machine into is not for its apps, whoever applies them here.
    let output = {
        upkeep_e2e::write_apps(&home, "mail.json", &[supplied(&home, "mail", "/mail/")]);
        home.cmd(["apply", "mail.json"])
    };
    if output.code == 0 {
        let waiting = home.instance("mail", 0);
        assert_eq!(waiting["actual"], "waiting", "{waiting}");
        says(&waiting["why"].to_string(), &["/mail/"]);
    } else {
        says(&output.stderr, &["/mail/"]);
    }
    assert_ne!(home.cmd(["config", "get", "/mail/host"]).code, 0);
    root.ok(["config", "set", "/mail/host", "other-mail-needle"]);
    root.ok(["config", "set", "/shop/n", "2"]);
    wait_value(&home, "shop", 1, "N", "2");
    let grep = std::process::Command::new("grep")
        .args(["-rlaE", "mail-needle"])
        .arg(home.path())
        .output()
        .expect("grep");
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "it is nowhere here");
    let cached: Vec<String> = std::fs::read_dir(home.path().join("config-cache"))
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(cached, ["shop"]);
}
