//! Values that change while programs run.

use std::{net::TcpListener, time::Duration};

use serde_json::json;
use upkeep_e2e::{Dice, LONG, apply, events, kill_daemon, with};
use upkeep_testkit::{
    Home, Signal, binary, kill,
    load::{Kind, Load},
    pass, wait_until,
};

use crate::{environment, pids, set, shop, told, wait_event, wait_value};

/// A change rolls over the copies of a server, and no request fails; one that does no good comes back as if it had not been.
#[test]
fn a_change_under_load_fails_no_request() {
    let home = Home::new();
    let port = TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    set(&home, &[("/shop/v", "one")]);
    let served = binary("upkeep-served").display().to_string();
    let app = with(
        shop(
            &home,
            json!({"instances": 2, "listen": [port], "readiness": {"tcp": port}}),
        ),
        json!({"command": [served, "tag", "shop"]}),
    );
    apply(&home, &[app]);
    wait_value(&home, "shop", 2, "V", "one");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let load = Load::start(address, Kind::PerRequest, 4);
    wait_until("the load to have begun", LONG, || match load.answered() {
        0..20 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    for value in ["two", "three"] {
        set(&home, &[("/shop/v", value)]);
        wait_value(&home, "shop", 2, "V", value);
    }
    // An instance that ends at once with it: the old values come back.
    let before = wait_value(&home, "shop", 2, "V", "three");
    set(&home, &[("/shop/exit_at_once", "0"), ("/shop/v", "bad")]);
    wait_event(&home, "shop", "values_refused", 1);
    wait_event(&home, "shop", "returned", 1);
    let after = wait_value(&home, "shop", 2, "V", "three");
    assert!(
        after.iter().any(|pid| before.contains(pid)),
        "not all were touched: {before:?} {after:?}"
    );
    let tally = load.stop();
    tally.assert_none_failed("changes of values");
    for body in ["one", "two", "three"] {
        assert!(tally.bodies.contains_key(body), "{:?}", tally.bodies);
    }
}

#[test]
fn what_does_no_good_is_not_tried_again_and_crashes_get_what_held() {
    let home = Home::new();
    let script = "test \"$MODE\" = good || exit 3; exec sleep 1000";
    let mut app = shop(&home, json!({}));
    app["command"] = json!(["/bin/sh", "-c", script, "tag", "shop"]);
    set(&home, &[("/shop/mode", "good")]);
    apply(&home, &[app.clone()]);
    wait_value(&home, "shop", 1, "MODE", "good");
    set(&home, &[("/shop/mode", "bad")]);
    let refused = wait_event(&home, "shop", "values_refused", 1);
    assert!(
        refused[0]["result"].to_string().contains("stay in force"),
        "{}",
        refused[0]
    );
    let [pid] = wait_value(&home, "shop", 1, "MODE", "good")[..] else {
        panic!("one");
    };
    let view = told(&home, "shop");
    assert!(
        view["waiting"]["revision"].as_u64() > view["revision"].as_u64(),
        "{view}"
    );
    // A crash in between: the values that held, and not those of the store.
    kill(i32::try_from(pid).expect("a pid"), Signal::KILL).expect("it runs");
    wait_until("another process", LONG, || match pids(&home, "shop")[..] {
        [other] if other != pid && environment(other)["MODE"] == "good" => Ok(()),
        ref other => Err(format!("{other:?}")),
    });
    // Neither a new daemon nor what has nothing to do with it tries them again.
    kill_daemon(home.keeper_pid());
    home.daemon_pid();
    set(&home, &[("/elsewhere/x", "1")]);
    // The same file again changes nothing either.
    home.ok(["start", "upkeep.json"]);
    // Back to what holds is no change.
    let [pid] = wait_value(&home, "shop", 1, "MODE", "good")[..] else {
        panic!("one");
    };
    set(&home, &[("/shop/mode", "good")]);
    wait_until("the values to be as they hold", LONG, || {
        let view = told(&home, "shop");
        if view["waiting"].is_null() {
            Ok(())
        } else {
            Err(view.to_string())
        }
    });
    assert_eq!(pids(&home, "shop"), [pid], "nothing was started anew");
    let count = |kind: &str| events(&home).iter().filter(|event| event["what"] == kind).count();
    assert_eq!((count("values_refused"), count("values_changed")), (1, 2));
    // A way back to the specification before is not lost by changes of values.
    set(&home, &[("/shop/other", "1")]);
    wait_value(&home, "shop", 1, "OTHER", "1");
    app["env"] = json!({"FROM": "file"});
    apply(&home, &[app]);
    wait_value(&home, "shop", 1, "FROM", "file");
    set(&home, &[("/shop/other", "2")]);
    wait_value(&home, "shop", 1, "OTHER", "2");
    home.ok(["rollback", "shop"]);
    wait_until(
        "the specification before",
        LONG,
        || match pids(&home, "shop")[..] {
            [pid] if !environment(pid).contains_key("FROM") => {
                assert_eq!(environment(pid)["OTHER"], "2");
                Ok(())
            }
            ref other => Err(format!("{other:?}")),
        },
    );
}

/// confd#629: the second of two quick changes is missed. Also while the daemon is killed in the midst of it.
#[test]
fn the_last_of_many_changes_is_never_missed() {
    let home = Home::new();
    set(&home, &[("/shop/n", "0")]);
    apply(&home, &[shop(&home, json!({"instances": 2}))]);
    wait_value(&home, "shop", 2, "N", "0");
    let keeper = home.keeper_pid();
    let mut dice = Dice::new();
    let mut last = 0;
    for round in 0..6 {
        for _ in 0..2 {
            last += 1;
            set(&home, &[("/shop/n", &last.to_string())]);
            pass(dice.span(Duration::from_millis(150)));
        }
        if round % 2 == 0 {
            pass(dice.span(Duration::from_millis(300)));
            kill_daemon(keeper);
            home.daemon_pid();
        }
    }
    wait_value(&home, "shop", 2, "N", &last.to_string());
    wait_until("rest", LONG, || {
        let app = home.json(["show", "shop"]);
        if app["rollout"].is_null() {
            Ok(())
        } else {
            Err(app["rollout"].to_string())
        }
    });
    assert_eq!(pids(&home, "shop").len(), 2);
    assert_eq!(upkeep_e2e::tagged(&home, "shop").len(), 2, "no copy is left over");
}

#[test]
fn what_is_done_is_what_was_asked_for() {
    let home = Home::new();
    set(&home, &[("/shop/n", "1")]);
    let quick = |action: serde_json::Value| {
        let mut on_change = json!({"wait": "100ms", "max": "1s"});
        for (key, value) in action.as_object().expect("a map") {
            on_change[key] = value.clone();
        }
        json!({"on_change": on_change, "instances": 2})
    };
    apply(&home, &[shop(&home, quick(json!({"do": "none"})))]);
    let before = wait_value(&home, "shop", 2, "N", "1");
    set(&home, &[("/shop/n", "2")]);
    wait_event(&home, "shop", "values_changed", 2);
    assert_eq!(pids(&home, "shop"), before, "nothing is done");
    home.ok(["restart", "shop:0"]);
    let now = wait_until("both to be ready", LONG, || match pids(&home, "shop") {
        pids if pids.len() == 2 => Ok(pids),
        other => Err(format!("{other:?}")),
    });
    let values: Vec<String> = now.iter().map(|pid| environment(*pid)["N"].clone()).collect();
    assert_eq!(values, ["2", "1"], "what starts from then on has the new values");

    apply(&home, &[shop(&home, quick(json!({"do": "restart"})))]);
    assert_eq!(
        pids(&home, "shop"),
        now,
        "how it follows is no change of what runs"
    );
    set(&home, &[("/shop/n", "3")]);
    let pids = wait_value(&home, "shop", 2, "N", "3");
    assert!(pids.iter().all(|pid| !now.contains(pid)), "{pids:?}");
}
