//! The end of the keeper is the one thing that ends supervision. What remains is found by the next command and
//! stopped and started again, nothing runs twice, and what was wanted stays wanted.

use std::time::Duration;

use serde_json::{Value, json};
use upkeep_e2e::{
    app, apply, daemon_of, ended, exits, instances, kill_daemon, tagged, wait_gone, wait_running, with,
};
use upkeep_testkit::{Home, Signal, alive, kill, stamps, wait_until};

const LONG: Duration = upkeep_e2e::LONG;

/// Three that are wanted, one of them four times, and one that is not.
fn crowd(home: &Home) -> Vec<Value> {
    let lock = |name: &str| home.work().join(format!("{name}.stamps")).display().to_string();
    // A second one at the same time could not have the lock and would end with 1.
    let alone = home.work().join("one.lock").display().to_string();
    let mut command = vec!["flock", "-n", "-F", &alone, home.child(), "tag", "one"];
    let stamp = lock("one");
    command.extend(["stamp", &stamp, "wait"]);
    vec![
        json!({"name": "one", "command": command}),
        with(
            app(home, "four", &["stamp", &lock("four"), "wait"]),
            json!({"instances": 4}),
        ),
        app(home, "writer", &["write-lines", "forever", "--rate", "500/s"]),
        app(home, "stopped", &["stamp", &lock("stopped"), "wait"]),
    ]
}

fn start(home: &Home) {
    apply(home, &crowd(home));
    home.ok(["stop", "stopped"]);
    all_there(home);
}

#[track_caller]
fn all_there(home: &Home) {
    wait_running(home, "one", 1);
    wait_running(home, "four", 4);
    wait_running(home, "writer", 1);
    wait_running(home, "stopped", 0);
    assert_eq!(
        stamps(&home.work().join("stopped.stamps")).len(),
        1,
        "what is stopped stays stopped"
    );
    let failed: Vec<Value> = exits(home)
        .into_values()
        .flatten()
        .filter(|how| how["code"] == 1)
        .collect();
    assert!(failed.is_empty(), "two ran at the same time: {failed:?}");
    let stopped = home.instance("stopped", 0);
    assert_eq!(
        (&stopped["actual"], &stopped["desired"]),
        (&json!("stopped"), &json!("down"))
    );
}

/// Kills the keeper and waits until the daemon has noticed: for a moment it still answers.
#[track_caller]
fn kill_keeper(home: &Home) -> i32 {
    let keeper = home.keeper_pid();
    let daemon = daemon_of(keeper).expect("a daemon");
    kill(keeper, Signal::KILL).expect("the keeper");
    wait_gone(keeper);
    wait_gone(daemon);
    keeper
}

fn pids(home: &Home) -> Vec<i32> {
    ["one", "four", "writer"]
        .iter()
        .flat_map(|name| tagged(home, name))
        .collect()
}

#[test]
fn after_the_death_of_the_keeper_what_remains_is_restarted() {
    let home = Home::new();
    start(&home);
    let before = pids(&home);
    // A daemon without its keeper can do nothing, and says so by ending.
    let keeper = kill_keeper(&home);
    assert!(
        tagged(&home, "one").iter().all(|pid| before.contains(pid)),
        "nobody starts anything meanwhile"
    );
    home.ok(["ls"]);
    all_there(&home);
    assert_ne!(home.keeper_pid(), keeper);
    let after = pids(&home);
    assert!(
        before.iter().all(|pid| !after.contains(pid)),
        "{before:?} are adopted, not restarted: {after:?}"
    );
    for pid in before {
        assert!(!alive(pid), "{pid} outlived its restart");
    }
    let one = home.instance("one", 0);
    assert!(one["why"].as_str().is_some_and(|why| !why.is_empty()), "{one}");
}

#[test]
fn after_the_death_of_keeper_and_daemon_at_once() {
    let home = Home::new();
    start(&home);
    for round in 0..3 {
        let keeper = home.keeper_pid();
        // Now one first, now the other.
        if round % 2 == 0 {
            let daemon = daemon_of(keeper).expect("a daemon");
            kill(keeper, Signal::KILL).expect("the keeper");
            let _ = kill(daemon, Signal::KILL); // it may have noticed
            wait_gone(daemon);
        } else {
            kill_daemon(keeper);
            kill(keeper, Signal::KILL).expect("the keeper");
        }
        wait_gone(keeper);
        home.ok(["ls"]);
        all_there(&home);
    }
}

#[test]
fn after_the_death_of_everything_the_same_apps_come_back() {
    let home = Home::new();
    start(&home);
    for _ in 0..2 {
        let all = home.processes();
        assert!(all.len() >= 8, "{all:?}");
        for &pid in &all {
            let _ = kill(pid, Signal::KILL); // it may have ended with another
        }
        for &pid in &all {
            wait_gone(pid);
        }
        home.ok(["ls"]);
        all_there(&home);
        assert!(pids(&home).iter().all(|pid| !all.contains(pid)));
    }
    assert_eq!(instances(&home).len(), 7);
}

/// Survivors that ignore SIGTERM, with descendants in sessions of their own that ignore it too.
#[test]
fn strays_that_do_not_obey_are_killed_with_their_tree() {
    let home = Home::new();
    let script = ["ignore", "SIGTERM", "spawn-tree", "2", "--setsid", "wait"];
    let stubborn = with(
        app(&home, "stubborn", &script),
        json!({"stop": {"grace": "300ms"}}),
    );
    apply(&home, &[stubborn]);
    let tree = || {
        let mut roots = tagged(&home, "stubborn");
        roots.extend(upkeep_testkit::process::descendants(&roots.clone()));
        roots
    };
    let before = wait_until("the tree", LONG, || match tree() {
        all if all.len() == 3 => Ok(all),
        other => Err(format!("{other:?}")),
    });
    kill_keeper(&home);
    home.ok(["ls"]);
    for pid in before {
        wait_gone(pid);
    }
    wait_running(&home, "stubborn", 1);
}

/// Strays of what is no longer wanted are ended; a stop given to strays stops them.
#[test]
fn a_stop_after_the_death_of_the_keeper_stops_what_remains() {
    let home = Home::new();
    start(&home);
    let before = pids(&home);
    kill_keeper(&home);
    home.ok(["stop", "all"]);
    for pid in before {
        wait_gone(pid);
    }
    for name in ["one", "four", "writer"] {
        wait_running(&home, name, 0);
    }
}

/// SIGTERM to the keeper, as an init system gives it: the apps stop in order, dependents first, and come back.
#[test]
fn sigterm_to_the_keeper_stops_in_order_and_all_comes_back() {
    let home = Home::new();
    let stamp = |name: &str| home.work().join(name).display().to_string();
    let apps = [
        app(
            &home,
            "db",
            &["on", "SIGTERM", "exit", "0", "stamp", &stamp("db.up"), "wait"],
        ),
        with(
            app(
                &home,
                "web",
                &[
                    "on",
                    "SIGTERM",
                    "exit",
                    "0",
                    "after",
                    "300ms",
                    "stamp",
                    &stamp("web.up"),
                    "wait",
                ],
            ),
            json!({"depends_on": ["db"]}),
        ),
    ];
    apply(&home, &apps);
    let keeper = home.keeper_pid();
    let (db, web) = (tagged(&home, "db")[0], tagged(&home, "web")[0]);
    kill(keeper, Signal::TERM).expect("the keeper");
    wait_until("the end of web", LONG, || {
        assert!(
            alive(db) || !alive(web),
            "`db` ended before `web`, which depends on it"
        );
        if alive(web) {
            Err("it lives".to_owned())
        } else {
            Ok(())
        }
    });
    wait_gone(keeper);
    wait_until("the end of everything", LONG, || match home.processes() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(home.cmd(["ping"]).code, 8);
    ended(&home.cmd(["ls"]), 0);
    wait_running(&home, "db", 1);
    wait_running(&home, "web", 1);
    let up = |name: &str| stamps(&home.work().join(name));
    wait_until("both to have come back", LONG, || {
        // A process runs before it has left its stamp.
        let (db, web) = (up("db.up"), up("web.up"));
        if db.len() == 2 && web.len() == 2 {
            Ok(())
        } else {
            Err(format!("{} and {} stamps", db.len(), web.len()))
        }
    });
    let last = |name: &str| up(name).last().expect("a stamp").nanos;
    assert!(last("db.up") < last("web.up"));
    wait_gone(db);
}
