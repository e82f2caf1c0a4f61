//! Moving the configuration from the file to etcd and back, while others write and watch, and with the daemon killed in the
//! middle.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_e2e::{Dice, Http, LONG, ended, kill_daemon, says};
use upkeep_testkit::{Home, etcd::Etcd, pass, wait_until};

use crate::crash::{all_history, put};

/// Asks the daemon to move everything.
fn migrate(home: &Home, body: &Value) -> upkeep_e2e::Answer {
    Http::ask(home, "POST", "/v1/config/migrate", body.to_string().as_bytes())
}

fn to_etcd(etcd: &Etcd, prefix: &str) -> Value {
    json!({"to": "etcd", "etcd": {"endpoints": etcd.endpoints(), "prefix": prefix, "care": false}})
}

/// Writers that count up until they are told to end; what was acknowledged to each, as revision and value.
fn writing<T>(home: &Home, work: impl FnOnce() -> T) -> (Vec<Vec<(u64, u64)>>, T) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                scope.spawn(move || {
                    let (mut done, mut value) = (Vec::new(), 0);
                    while !over.load(Ordering::Relaxed) {
                        value += 1;
                        match put(home, &format!("/w/{writer}"), &value.to_string()) {
                            Some((200, answer)) => {
                                done.push((answer["revision"].as_u64().expect("a revision"), value));
                            }
                            Some((503, _)) | None => pass(Duration::from_millis(10)),
                            Some((status, answer)) => panic!("{status}: {answer}"),
                        }
                    }
                    done
                })
            })
            .collect();
        let result = work();
        over.store(true, Ordering::Relaxed);
        let done = writers.into_iter().map(|writer| writer.join().expect("a writer"));
        (done.collect(), result)
    })
}

/// What was acknowledged is in the history at its revision, and what is there is no older.
fn check(home: &Home, acknowledged: &[Vec<(u64, u64)>]) {
    let history = all_history(home, "/w/");
    let now: BTreeMap<String, Option<String>> = crate::listed(home, "/w/").into_iter().collect();
    for (writer, done) in acknowledged.iter().enumerate() {
        let path = format!("/w/{writer}");
        assert!(done.windows(2).all(|two| two[0].0 < two[1].0), "{done:?}");
        for (revision, value) in done {
            let found = history.get(&(*revision, path.clone()));
            assert_eq!(found, Some(&value.to_string()), "{path} at {revision}");
        }
        if let Some((_, last)) = done.last() {
            let value: u64 = now[&path]
                .as_ref()
                .and_then(|text| text.parse().ok())
                .expect("a number");
            assert!(value >= *last, "{path} is {value}, {last} was acknowledged");
        }
    }
}

#[test]
fn writers_lose_nothing_and_a_watch_has_no_gap_there_and_back() {
    let etcd = Etcd::single(&[]);
    let home = Home::new();
    home.ok([
        "config",
        "recipients",
        "/s/",
        "--to",
        "machine:none=0900000000000000000000000000000000000000000000000000000000000000",
    ]);
    // Each of many changes is looked for.
    home.ok(["config", "history", "/w/", "--keep", "1000000"]);
    home.ok(["config", "set", "/other", "x"]);
    home.cmd_with_input(["config", "set", "/secret", "-", "--secret"], b"hunter2");
    let watch = home.follow(["config", "watch", "/w/", "--from", "1", "--json"]);
    let (acknowledged, moves) = writing(&home, || {
        let mut moves = Vec::new();
        for (body, backend) in [
            (to_etcd(&etcd, "/upkeep/"), "etcd"),
            (json!({"to": "embedded"}), "embedded"),
            (to_etcd(&etcd, "/again/"), "etcd"),
        ] {
            pass(Duration::from_millis(200));
            let moved = migrate(&home, &body);
            assert_eq!(moved.status, 200, "{moved:?}");
            assert_eq!(home.json(["config", "status"])["backend"], backend);
            moves.push(moved.json());
            pass(Duration::from_millis(200));
        }
        moves
    });
    let count: usize = acknowledged.iter().map(Vec::len).sum();
    assert!(count > 60, "{count} were acknowledged");
    let revisions: Vec<u64> = moves
        .iter()
        .map(|moved| moved["revision"].as_u64().expect("a revision"))
        .collect();
    assert!(revisions.windows(2).all(|two| two[0] < two[1]), "{revisions:?}");
    for revision in &revisions {
        let all = acknowledged.iter().flatten();
        assert!(all.clone().any(|(one, _)| one < revision) && all.clone().any(|(one, _)| one > revision));
    }
    check(&home, &acknowledged);
    assert_eq!(home.ok(["config", "get", "/secret", "--reveal"]), "hunter2\n");
    assert_eq!(
        home.json(["config", "recipients"])["places"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    // Each change once, in order.
    home.ok(["config", "set", "/w/end", "end"]);
    let (mut told, mut last) = (BTreeMap::<String, Vec<(u64, String)>>::new(), 0);
    'all: loop {
        let line = watch.next_line(LONG).expect("it goes on");
        let item: Value = serde_json::from_str(&line).expect("JSON");
        assert_ne!(item["kind"], "compacted", "{line}");
        for change in item["changes"].as_array().into_iter().flatten() {
            let revision = item["revision"].as_u64().expect("a revision");
            assert!(revision > last, "{revision} after {last}");
            let path = change["path"].as_str().expect("a path").to_owned();
            let text = change["value"]["text"].as_str().expect("a value").to_owned();
            if text == "end" {
                break 'all;
            }
            told.entry(path).or_default().push((revision, text));
        }
        last = item["revision"]
            .as_u64()
            .filter(|_| item["changes"].is_array())
            .unwrap_or(last);
    }
    for (writer, done) in acknowledged.iter().enumerate() {
        let told = &told[&format!("/w/{writer}")];
        for (revision, value) in done {
            assert!(
                told.contains(&(*revision, value.to_string())),
                "{writer}: {revision} {value}"
            );
        }
    }
    // The stores that were left are kept, and refused. One of them is under another name, for the second one took its place.
    let kept: Vec<String> = std::fs::read_dir(home.path())
        .expect("the home")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("config.redb"))
        .collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    crate::world::set(&home, &json!({}));
    let refused = home.cmd(["config", "set", "/w/0", "by mistake"]);
    assert_ne!(refused.code, 0);
    says(&refused.stderr, &["not in use any more", "/again/"]);
    crate::world::set(
        &home,
        &json!({"config": {"etcd": {"endpoints": etcd.endpoints(), "care": false}}}),
    );
    let refused = home.cmd(["config", "get", "/w/0"]);
    says(
        &refused.stderr,
        &["not in use any more", "the file of this machine"],
    );
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_uses_one_store_with_everything_in_it() {
    let etcd = Etcd::single(&[]);
    let home = Home::new();
    home.ok(["config", "set", "/begin", "0"]);
    // Each of many changes is looked for.
    home.ok(["config", "history", "/w/", "--keep", "1000000"]);
    let puts: Vec<Value> = (0..40)
        .map(|n| json!({"path": format!("/many/{n}"), "text": "x".repeat(20_000)}))
        .collect();
    for _ in 0..4 {
        let body = json!({"puts": puts}).to_string();
        let answer = Http::ask(&home, "POST", "/v1/config/changes", body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let keeper = home.keeper_pid();
    let mut dice = Dice::new();
    let mut is_at_etcd = false;
    let (acknowledged, ()) = writing(&home, || {
        for round in 0..8 {
            let body = if is_at_etcd {
                json!({"to": "embedded"})
            } else {
                to_etcd(&etcd, &format!("/round{round}/"))
            };
            std::thread::scope(|scope| {
                let (home, body) = (&home, &body);
                // Its connection breaks when the daemon is killed.
                let asked = scope.spawn(move || {
                    let mut http = Http::connect(home);
                    let text = body.to_string();
                    let head = format!(
                        "POST /v1/config/migrate HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{text}",
                        text.len()
                    );
                    let _ = http.send(head.as_bytes());
                });
                asked.join().expect("asked");
                // Some are killed in the last steps, some before them.
                pass(dice.span(Duration::from_millis(if round % 2 == 0 { 500 } else { 2500 })));
                kill_daemon(keeper);
            });
            home.daemon_pid();
            let backend = wait_until("a store", LONG, || {
                let status = home.json(["config", "status"]);
                match (status["trouble"].as_str(), status["backend"].as_str()) {
                    (None, Some(backend)) => Ok(backend.to_owned()),
                    (trouble, _) => Err(format!("{trouble:?}")),
                }
            });
            is_at_etcd = backend == "etcd";
            home.ok(["config", "set", "/round", &round.to_string()]);
            assert_eq!(home.ok(["config", "get", "/round"]), format!("{round}\n"));
            assert_eq!(crate::listed(&home, "/many/").len(), 40);
        }
    });
    check(&home, &acknowledged);
    // And one that nobody kills.
    let body = if is_at_etcd {
        json!({"to": "embedded"})
    } else {
        to_etcd(&etcd, "/last/")
    };
    let last = migrate(&home, &body);
    assert_eq!(last.status, 200, "{last:?}");
    check(&home, &acknowledged);
}

#[test]
fn what_cannot_be_moved_is_refused_and_nothing_is_touched() {
    let etcd = Etcd::single(&[]);
    let (home, other) = (Home::new(), Home::new());
    home.ok(["config", "set", "/a", "mine"]);
    crate::world::join(&other, &etcd, "other");
    other.ok(["config", "set", "/a", "theirs"]);
    let endpoint = &etcd.endpoints()[0];
    // It is not empty; it is there already; nothing says where.
    let refused = home.cmd(["config", "migrate", "--to", "etcd", "--endpoint", endpoint]);
    assert_ne!(refused.code, 0);
    says(&refused.stderr, &["holds a configuration already"]);
    // Which a look at both ends tells as well.
    let refused = home.cmd([
        "config",
        "migrate",
        "--to",
        "etcd",
        "--endpoint",
        endpoint,
        "--dry-run",
    ]);
    assert_ne!(refused.code, 0);
    says(&refused.stderr, &["holds a configuration already"]);
    ended(&home.cmd(["config", "migrate", "--to", "embedded"]), 6);
    ended(&home.cmd(["config", "migrate", "--to", "etcd"]), 2);
    assert_eq!(home.ok(["config", "get", "/a"]), "mine\n");
    assert_eq!(other.ok(["config", "get", "/a"]), "theirs\n");
    home.ok(["config", "set", "/a", "mine still"]);
    // Another machine on a store that was moved away is told where.
    let third = Home::new();
    crate::world::join(&third, &etcd, "third");
    let file = third.path().join("config.redb");
    let dry = third.ok(["config", "migrate", "--to", "embedded", "--dry-run"]);
    says(&dry, &["would move to", "keys, as of revision"]);
    assert!(!file.exists());
    let backend = |home: &Home| home.json(["config", "status"])["backend"].clone();
    assert_eq!(backend(&third), "etcd");
    third.ok(["config", "migrate", "--to", "embedded"]);
    assert_eq!(backend(&third), "embedded");
    assert_eq!(third.ok(["config", "get", "/a"]), "theirs\n");
    let refused = other.cmd(["config", "set", "/a", "lost"]);
    assert_ne!(refused.code, 0);
    says(&refused.stderr, &["not in use any more", "settings"]);
}

#[test]
fn looking_at_a_move_moves_nothing() {
    let etcd = Etcd::single(&[]);
    let home = Home::new();
    home.ok(["config", "set", "/a", "1"]);
    home.ok(["config", "set", "/a", "2"]);
    let endpoint = &etcd.endpoints()[0];
    let migrate = ["config", "migrate", "--to", "etcd", "--endpoint", endpoint];
    let dry = home.json(migrate.iter().chain(&["--dry-run"]));
    assert_eq!(dry["followed"], 0);
    assert_eq!(home.json(["config", "status"])["backend"], "embedded");
    assert_eq!(home.json(["settings"])["settings"]["config"]["etcd"], Value::Null);
    let keys = std::process::Command::new("etcdctl")
        .args(["--endpoints", endpoint, "get", "", "--from-key", "--keys-only"])
        .output()
        .expect("etcdctl");
    assert_eq!(String::from_utf8_lossy(&keys.stdout).trim(), "", "{keys:?}");
    // It is what is moved then.
    let moved = home.json(migrate);
    assert_eq!(moved["keys"], dry["keys"], "{moved} {dry}");
    let away = [
        "config",
        "migrate",
        "--to",
        "etcd",
        "--endpoint",
        "http://127.0.0.1:1",
    ];
    let other = Home::new();
    other.ok(["config", "set", "/a", "1"]);
    assert_ne!(other.cmd(away.iter().chain(&["--dry-run"])).code, 0);
}
