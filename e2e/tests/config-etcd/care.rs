//! The cluster is looked after by one machine: compaction, defragmentation, a warning, and what is written when there is no
//! room.

use serde_json::{Value, json};
use upkeep_e2e::{Http, LONG};
use upkeep_testkit::{Home, etcd::Etcd, wait_until};

use crate::world::{join, set, settings};

const QUOTA: &str = "16777216";

fn write(home: &Home, path: &str, text: &str) -> u16 {
    let body = json!({"text": text}).to_string();
    Http::ask(home, "PUT", &format!("/v1/config/values{path}"), body.as_bytes()).status
}

fn care(home: &Home) -> Value {
    home.json(["config", "status"])["care"].clone()
}

#[test]
fn what_is_superseded_is_forgotten_and_its_room_given_back_by_one_of_two() {
    let etcd = Etcd::single(&["--quota-backend-bytes", QUOTA]);
    let (web, db) = (Home::new(), Home::new());
    join(&web, &etcd, "web1");
    join(&db, &etcd, "db1");
    for n in 0..14 {
        assert_eq!(write(&web, "/big", &format!("{n:04}").repeat(100_000)), 200);
    }
    for n in 0..130 {
        assert_eq!(write(&web, "/small", &n.to_string()), 200);
    }
    let before = web.json(["config", "status"]);
    let looked_after = json!({"care": true, "keep_revisions": 100, "quota": "16M"});
    set(&web, &settings(&etcd, "web1", looked_after.clone()));
    set(&db, &settings(&etcd, "db1", looked_after));
    let done = wait_until("the cluster to be looked after", LONG, || {
        let care = care(&web);
        if care["compacted"].is_object() && care["defragmented"][0].is_object() {
            Ok(care)
        } else {
            Err(care.to_string())
        }
    });
    let by = done["by"].as_str().expect("somebody");
    assert!(["machine:web1", "machine:db1"].contains(&by), "{done}");
    assert_eq!(done["compacted"]["by"], by);
    assert_eq!(done["defragmented"][0]["by"], by);
    assert_eq!(care(&db)["by"], by, "both know the same");
    let sizes = &done["defragmented"][0];
    let size = |name: &str| sizes[name].as_u64().expect("a size");
    assert!(size("after_bytes") < size("before_bytes") * 8 / 10, "{sizes}");
    let after = web.json(["config", "status"]);
    assert!(
        after["disk_bytes"].as_u64() < before["disk_bytes"].as_u64(),
        "{after}"
    );
    assert_eq!(after["quota_bytes"], 16 << 20);
    assert!(after["oldest"].as_u64() > before["oldest"].as_u64(), "{after}");
    // Nothing of it was a value or its history.
    let history = web.json(["config", "history", "/big", "-n", "100"]);
    assert_eq!(history["changes"].as_array().map(Vec::len), Some(14));
    assert_eq!(web.ok(["config", "get", "/small"]), "129\n");
    // Whoever watches from a revision that is gone is told so.
    let answer = Http::ask_with(
        &web,
        "GET",
        "/v1/config/watch?from=2",
        &[("Connection", "close")],
        b"",
    );
    assert!(
        String::from_utf8_lossy(&answer.body).contains("compacted"),
        "{answer:?}"
    );
}

#[test]
fn before_there_is_no_room_it_is_told_and_then_what_was_refused_was_not_done() {
    let etcd = Etcd::single(&["--quota-backend-bytes", QUOTA]);
    let home = Home::new();
    join(&home, &etcd, "web1");
    set(
        &home,
        &settings(&etcd, "web1", json!({"care": true, "quota": "16M"})),
    );
    let big = "x".repeat(400_000);
    for n in 0..17 {
        assert_eq!(write(&home, &format!("/v/{n}"), &big), 200);
    }
    wait_until("a warning", LONG, || {
        let events = home.json(["events", "--kind", "config.store_full", "-n", "5"]);
        match events["events"].as_array().map(Vec::len) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // Etcd carries out the write that crosses the quota, and says that there is no room.
    let mut answers = Vec::new();
    let mut refused = 0;
    // It sees how much there is only now and then.
    for n in 17..300 {
        let status = write(&home, &format!("/v/{n}"), &big);
        assert!([200, 503].contains(&status), "{status}");
        answers.push((n, status));
        refused += u32::from(status == 503);
        if refused == 5 {
            break;
        }
    }
    assert_eq!(
        answers.last().map(|(_, status)| *status),
        Some(503),
        "{answers:?}"
    );
    for (n, status) in answers {
        let path = format!("/v1/config/values/v/{n}");
        let found = Http::ask(&home, "GET", &path, b"").status;
        assert_eq!(found, if status == 200 { 200 } else { 404 }, "{n}");
    }
    let status = home.json(["config", "status"]);
    assert!(status["alarms"].to_string().contains("no room"), "{status}");
}
