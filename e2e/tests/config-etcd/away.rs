//! An etcd that goes away and comes back, settings that name one that is not there, and two machines on one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use upkeep_e2e::{Http, LONG, ended, says};
use upkeep_testkit::{Home, etcd::Etcd, wait_until};

use crate::world::{announced, join, set, settings};

/// What a call may take while the store is away.
const BOUND: Duration = Duration::from_secs(9);

/// The values that a watch has told, up to a last one.
fn told(following: &upkeep_testkit::Following, last: &str) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    loop {
        let line = following.next_line(LONG).expect("a line");
        let item: Value = serde_json::from_str(&line).expect("JSON");
        for change in item["changes"].as_array().into_iter().flatten() {
            let text = change["value"]["text"].as_str().unwrap_or("deleted").to_owned();
            let is_last = text == last;
            all.push((item["revision"].as_u64().expect("a revision"), text));
            if is_last {
                return all;
            }
        }
    }
}

#[test]
fn while_etcd_is_away_it_is_said_so_soon_and_afterwards_nothing_is_missing() {
    let mut etcd = Etcd::single(&[]);
    let home = Home::new();
    join(&home, &etcd, "web1");
    home.ok(["config", "set", "/w/a", "0"]);
    let watch = home.follow(["config", "watch", "/w/", "--from", "1", "--json"]);
    assert_eq!(told(&watch, "0").len(), 1);
    home.ok(["config", "set", "/w/a", "1"]);
    etcd.kill(0);
    let before = Instant::now();
    let answer = Http::ask(&home, "GET", "/v1/config/values/w/a", b"");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(before.elapsed() < BOUND, "{:?}", before.elapsed());
    let error = answer.json();
    says(
        error["message"].as_str().expect("words"),
        &["c/w/a", "cannot be reached"],
    );
    says(error["hint"].as_str().expect("a hint"), &["config status"]);
    let before = Instant::now();
    let refused = home.cmd(["config", "set", "/w/a", "lost"]);
    assert_ne!(refused.code, 0);
    assert!(before.elapsed() < BOUND, "{:?}", before.elapsed());
    let status = home.json(["config", "status"]);
    assert!(status["trouble"].is_string(), "{status}");
    assert!(status["endpoints"][0]["trouble"].is_string(), "{status}");
    assert_eq!(status["backend"], "etcd");
    // A daemon that starts meanwhile has nothing else to show, either.
    upkeep_e2e::kill_daemon(home.keeper_pid());
    home.daemon_pid();
    assert_ne!(home.cmd(["config", "get", "/w/a"]).code, 0);
    etcd.start(0);
    wait_until("reads to work again", LONG, || {
        match home.cmd(["config", "get", "/w/a"]) {
            output if output.stdout == "1\n" => Ok(()),
            output => Err(output.stderr),
        }
    });
    home.ok(["config", "set", "/w/a", "2"]);
    let values: Vec<String> = told(&watch, "2").into_iter().map(|(_, text)| text).collect();
    assert_eq!(values, ["1", "2"], "each once, in order");
}

#[test]
fn a_store_that_cannot_be_opened_is_told_of_and_never_replaced_by_another() {
    let etcd = Etcd::single(&[]);
    let home = Home::new();
    home.ok(["config", "set", "/a", "in the file"]);
    // Nobody listens there.
    let wrong = json!({"config": {"machine": "web1", "etcd": {"endpoints": ["http://127.0.0.1:1"]}}});
    set(&home, &wrong);
    let refused = home.cmd(["config", "get", "/a"]);
    assert_ne!(refused.code, 0);
    assert!(!refused.stdout.contains("in the file"), "{refused:?}");
    wait_until("an event", LONG, || {
        let events = home.json(["events", "--kind", "config.store_failed", "-n", "5"]);
        match events["events"].as_array().map(Vec::len) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let status = home.json(["config", "status"]);
    says(status["trouble"].as_str().expect("trouble"), &["127.0.0.1:1"]);
    set(&home, &settings(&etcd, "web1", Value::Null));
    announced(&home, "web1");
    ended(&home.cmd(["config", "get", "/a"]), 3);
    home.ok(["config", "set", "/a", "in etcd"]);
    set(&home, &json!({}));
    assert_eq!(home.ok(["config", "get", "/a"]), "in the file\n");
    set(&home, &settings(&etcd, "web1", Value::Null));
    assert_eq!(home.ok(["config", "get", "/a"]), "in etcd\n");
}

#[test]
fn two_machines_on_one_etcd_see_what_the_other_does() {
    let etcd = Etcd::single(&[]);
    let (web, db) = (Home::new(), Home::new());
    join(&web, &etcd, "web1");
    join(&db, &etcd, "db1");
    web.ok(["config", "set", "/w/a", "0"]);
    assert_eq!(db.ok(["config", "get", "/w/a"]), "0\n");
    let watch = db.follow(["config", "watch", "/w/", "--from", "1", "--json"]);
    for n in 1..20 {
        let home: &Home = if n % 2 == 0 { &web } else { &db };
        home.ok(["config", "set", "/w/a", &n.to_string()]);
    }
    let told = told(&watch, "19");
    let values: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(
        told.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(),
        values
    );
    assert!(told.windows(2).all(|two| two[0].0 < two[1].0), "{told:?}");
    // What one has seen, the other has changed.
    let (seen, _) = told[10];
    let refused = web.cmd(["config", "set", "/w/a", "mine", "--revision", &seen.to_string()]);
    ended(&refused, 6);
    // Secrets: of nobody that was not named; each named by its name alone.
    let set =
        |home: &Home, path: &str| home.cmd_with_input(["config", "set", path, "-", "--secret"], b"hunter2");
    let refused = set(&web, "/s/key");
    assert_ne!(refused.code, 0);
    says(&refused.stderr, &["config recipients /s/ --to machine:"]);
    let unknown = web.cmd(["config", "recipients", "/s/", "--to", "machine:db2"]);
    ended(&unknown, 3);
    let named = web.cmd(["config", "recipients", "/s/", "--to", "machine:db1"]);
    let print = db.json(["config", "status"])["fingerprint"].clone();
    says(
        &named.stderr,
        &["machine:db1 has the key", print.as_str().expect("a fingerprint")],
    );
    assert_eq!(set(&web, "/s/key").code, 0);
    assert_eq!(db.ok(["config", "get", "/s/key", "--reveal"]), "hunter2\n");
    assert_ne!(web.cmd(["config", "get", "/s/key", "--reveal"]).code, 0);
    // A third one under a name that is taken is told of, and changes nothing.
    let third = Home::new();
    self::set(&third, &settings(&etcd, "db1", Value::Null));
    wait_until("an event", LONG, || {
        let events = third.json(["events", "--kind", "config.unannounced", "-n", "5"]);
        match events["events"][0]["why"].as_str() {
            Some(why) if why.contains("another key") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    web.ok([
        "config",
        "recipients",
        "/s/",
        "--to",
        "machine:db1",
        "--reseal",
        "--dry-run",
    ]);
    assert_eq!(db.ok(["config", "get", "/s/key", "--reveal"]), "hunter2\n");
}

#[test]
fn three_members_with_certificates_do_without_one_of_them() {
    let mut etcd = Etcd::three(true, &[]);
    let home = Home::new();
    let (certificate, key) = etcd.client_certificate("web1");
    let more = json!({"ca_file": etcd.authority(), "cert_file": certificate, "key_file": key});
    set(&home, &settings(&etcd, "web1", more));
    announced(&home, "web1");
    let watch = home.follow(["config", "watch", "/w/", "--from", "1", "--json"]);
    home.ok(["config", "set", "/w/a", "0"]);
    let status = home.json(["config", "status"]);
    let members = status["members"].as_array().expect("members").clone();
    let leads = members
        .iter()
        .position(|member| member["leader"] == true)
        .expect("a leader");
    assert!(
        members.len() == 3 && members.iter().all(|member| member["trouble"].is_null()),
        "{status}"
    );
    let name = members[leads]["name"].as_str().expect("a name");
    let index = etcd
        .members()
        .iter()
        .position(|member| member.name == name)
        .expect("a member");
    etcd.kill(index);
    wait_until("changes to go on", LONG, || {
        match home.cmd(["config", "set", "/w/a", "1"]) {
            output if output.code == 0 => Ok(()),
            output => Err(output.stderr),
        }
    });
    assert_eq!(home.ok(["config", "get", "/w/a"]), "1\n");
    let told = told(&watch, "1");
    assert_eq!(told.first().map(|(_, text)| text.as_str()), Some("0"));
    let status = home.json(["config", "status"]);
    let lost = status["members"]
        .as_array()
        .expect("members")
        .iter()
        .filter(|member| member["trouble"].is_string());
    assert_eq!(lost.count(), 1, "{status}");
    assert_eq!(status["endpoints"].as_array().map(Vec::len), Some(3));
    // Who shows no certificate is not let in, and what is not encrypted is not answered.
    let other = Home::new();
    set(
        &other,
        &settings(&etcd, "web2", json!({"ca_file": etcd.authority()})),
    );
    assert_ne!(other.cmd(["config", "get", "/w/a"]).code, 0);
}
