//! The store is away: programs start and restart all the same.

use serde_json::json;
use upkeep_e2e::{LONG, apply, events, kill_daemon, says};
use upkeep_testkit::{Home, Signal, kill, wait_until};

use crate::{holders, pids, set, set_secret, shop, told, wait_event, wait_value};

const SECRET: &str = "s3cr3t-8Jm-needle";

#[test]
fn last_good_values_hold_while_the_store_is_away() {
    let home = Home::new();
    home.write("t.j2", "password={{ password }}\nn={{ n }}\n");
    set(&home, &[("/shop/n", "1")]);
    set_secret(&home, "/shop/password", SECRET);
    let out = home.work().join("shop.conf");
    let more = json!({"files": [{"template": "t.j2", "to": out}]});
    apply(&home, &[shop(&home, more)]);
    wait_value(&home, "shop", 1, "PASSWORD", SECRET);
    let revision = told(&home, "shop")["revision"].clone();

    // Damaged while nobody looks: the daemon, the keeper and the program are gone, as after a power cut.
    let store = home.path().join("config.redb");
    home.ok(["shutdown"]);
    let kept = std::fs::read(&store).expect("the store");
    std::fs::write(&store, b"this is no store").expect("damaged");
    std::fs::remove_file(&out).expect("the file");
    let [pid] = wait_value(&home, "shop", 1, "PASSWORD", SECRET)[..] else {
        panic!("one");
    };
    says(&std::fs::read_to_string(&out).expect("a file"), &[SECRET, "n=1"]);
    let stale = |home: &Home| {
        let view = told(home, "shop");
        if view["stale_since"].is_null() {
            Err(view.to_string())
        } else {
            Ok(view)
        }
    };
    let view = wait_until("staleness", LONG, || stale(&home));
    assert_eq!(view["revision"], revision);
    says(&view["trouble"].to_string(), &["cannot be read"]);
    says(&home.ok(["show", "shop"]), &["stale", "could not be read for"]);
    kill(i32::try_from(pid).expect("a pid"), Signal::KILL).expect("it runs");
    wait_until("another process", LONG, || match pids(&home, "shop")[..] {
        [other] if other != pid => Ok(()),
        ref other => Err(format!("{other:?}")),
    });
    home.ok(["stop", "shop"]);
    home.ok(["start", "shop"]);
    wait_value(&home, "shop", 1, "PASSWORD", SECRET);
    let of_machine = |kind: &'static str| {
        wait_until(kind, LONG, || {
            let all = events(&home);
            let found = all.iter().filter(|event| event["what"] == kind).count();
            if found == 1 {
                Ok(())
            } else {
                Err(format!("{found}"))
            }
        });
    };
    of_machine("values_stale");

    // It is there again, without anybody doing anything here.
    std::fs::write(&store, kept).expect("mended");
    of_machine("values_fresh");
    assert!(told(&home, "shop")["stale_since"].is_null());
    set(&home, &[("/shop/n", "2")]);
    wait_value(&home, "shop", 1, "N", "2");
    says(&std::fs::read_to_string(&out).expect("a file"), &["n=2"]);
    // The rendered file has the secret, because it was asked for; nothing of ours has.
    assert_eq!(holders(&home.path(), SECRET), Vec::<String>::new());
}

#[test]
fn an_app_that_was_never_supplied_waits_for_the_store() {
    let home = Home::new();
    home.ok(["ls"]);
    std::fs::write(home.path().join("config.redb"), b"this is no store").expect("damaged");
    apply(&home, &[shop(&home, json!({}))]);
    let waiting = home.instance("shop", 0);
    assert_eq!(waiting["actual"], "waiting", "{waiting}");
    says(&waiting["why"].to_string(), &["cannot be read"]);
    std::fs::remove_file(home.path().join("config.redb")).expect("gone");
    set(&home, &[("/shop/n", "1")]);
    wait_value(&home, "shop", 1, "N", "1");
}

#[test]
fn a_damaged_cache_is_told_and_left_out() {
    let home = Home::new();
    set(&home, &[("/shop/n", "1"), ("/two/n", "1")]);
    let two = shop(&home, json!({"name": "two", "config": "/two/"}));
    apply(&home, &[shop(&home, json!({})), two]);
    wait_value(&home, "shop", 1, "N", "1");
    let [pid] = wait_value(&home, "two", 1, "N", "1")[..] else {
        panic!("one");
    };
    // In peace before it is disturbed.
    wait_value(&home, "shop", 1, "N", "1");
    let cache = home.path().join("config-cache/shop");
    let mut bytes = std::fs::read(&cache).expect("a cache");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&cache, &bytes).expect("damaged");
    kill_daemon(home.keeper_pid());
    home.daemon_pid();
    let lost = wait_event(&home, "shop", "values_lost", 1);
    says(
        &lost[0]["why"].to_string(),
        &["config-cache/shop", "cannot be used"],
    );
    // They are read anew, and held again.
    wait_value(&home, "shop", 1, "N", "1");
    wait_until("another cache", LONG, || match std::fs::read(&cache) {
        Ok(now) if now != bytes => Ok(()),
        other => Err(format!("{:?}", other.map(|now| now.len()))),
    });
    assert_eq!(pids(&home, "two"), [pid], "the other is not touched");
    // Whichever it is: that of before, or one that takes its place just now.
    for pid in pids(&home, "shop") {
        let _ = kill(i32::try_from(pid).expect("a pid"), Signal::KILL);
    }
    wait_value(&home, "shop", 1, "N", "1");
}

/// What was lost is lost to us, and not to the process that has it.
#[test]
fn a_process_is_not_judged_without_its_values() {
    let home = Home::new();
    set(&home, &[("/shop/mode", "on")]);
    let probe = json!({
        "exec": ["/bin/sh", "-c", "test -n \"$MODE\""],
        "period": "100ms",
        "failure_threshold": 1,
    });
    let more = json!({
        "liveness": probe,
        "restart": {"min_uptime": "200ms", "backoff": {"min": "1ms", "max": "10ms"}, "max_restarts": 3},
    });
    apply(&home, &[shop(&home, more)]);
    let [pid] = wait_value(&home, "shop", 1, "MODE", "on")[..] else {
        panic!("one");
    };
    // A cache that is damaged, and a store that is away.
    let (cache, store) = (
        home.path().join("config-cache/shop"),
        home.path().join("config.redb"),
    );
    let kept = std::fs::read(&store).expect("a store");
    std::fs::write(&cache, b"nothing").expect("damaged");
    // Its file was locked by the daemon that is killed: the next one opens what is there.
    std::fs::rename(&store, store.with_extension("away")).expect("moved");
    std::fs::write(&store, b"this is no store").expect("damaged");
    kill_daemon(home.keeper_pid());
    home.daemon_pid();
    wait_event(&home, "shop", "values_lost", 1);
    let began = std::time::Instant::now();
    wait_until("checks to have had their time", LONG, || {
        assert_eq!(pids(&home, "shop"), [pid], "{:?}", events(&home));
        if began.elapsed().as_millis() > 700 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
    // Without a process it waits, however long, and is not given up.
    kill(i32::try_from(pid).expect("a pid"), Signal::KILL).expect("it runs");
    wait_until("it to wait", LONG, || {
        let instance = home.instance("shop", 0);
        if instance["actual"] == "waiting" {
            Ok(())
        } else {
            Err(instance.to_string())
        }
    });
    std::fs::write(&store, kept).expect("mended");
    wait_value(&home, "shop", 1, "MODE", "on");
}
