//! A mirror at ZooKeeper goes on whatever happens around it, and is told apart from what is none.

use std::time::{Duration, Instant};

use serde_json::Value;
use upkeep_e2e::{LONG, ended, says};
use upkeep_testkit::{Following, Home, Signal, etcd::Etcd, kill, pass, wait_until, zookeeper::ZooKeeper};
use upkeep_zookeeper::{Client, Op, ZooKeeperError};

use crate::{
    world::join,
    zookeeper::{below, client, create, pairs},
};

const NODE: &str = "/mirrors/shop";

/// Sessions end soon, so that the mirror pings often.
const SOON: &str = "maxSessionTimeout=3000";

#[track_caller]
fn there(server: &ZooKeeper, wanted: &[(&str, &str)]) {
    wait_until("the mirror to have it", LONG, || {
        let address = server.url().parse().expect("an address");
        let mut zk = Client::connect(&address, None, LONG).map_err(|error| error.to_string())?;
        zk.tree(NODE).map_err(|error| error.to_string())?;
        let found = below(&mut zk, NODE);
        if found == pairs(wanted) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });
}

/// The place that the first node says it is the mirror of.
fn marked(zk: &mut Client) -> Value {
    let (data, _) = zk.get(NODE).expect("read").expect("it is there");
    serde_json::from_slice::<Value>(&data).unwrap_or_default()["place"].clone()
}

/// As others do it, who know of no mirror.
fn foreign(zk: &mut Client, steps: &[Op]) {
    zk.change(steps).expect("it is written");
}

fn follow(home: &Home, url: &str, more: &[&str]) -> Following {
    let args = ["config", "zookeeper", "mirror", "/shop/", url];
    let mirror = home.follow(args.iter().chain(more));
    mirror.error_with("values at revision", LONG);
    mirror
}

#[test]
fn what_a_mirror_would_write_is_told_and_not_written() {
    let server = ZooKeeper::single();
    let home = Home::new();
    home.ok(["config", "set", "/shop/db/url", "one"]);
    let url = format!("{}{NODE}", server.url());
    let mirror = |more: &[&str]| {
        let args = ["config", "zookeeper", "mirror", "/shop/", &url];
        home.cmd(args.iter().chain(more))
    };
    let dry = mirror(&["--dry-run"]);
    ended(&dry, 0);
    assert_eq!(
        dry.stdout,
        "~ /mirrors/shop\n+ /mirrors/shop/db\n+ /mirrors/shop/db/url\n"
    );
    let mut zk = client(&server.url(), None);
    assert_eq!(zk.get("/mirrors").expect("read"), None);
    // What is somebody's.
    foreign(
        &mut zk,
        &[
            create("/mirrors", b""),
            create(NODE, b"precious"),
            create("/mirrors/shop/x", b"1"),
        ],
    );
    ended(&mirror(&["--dry-run"]), 6);
    let dry = mirror(&["--dry-run", "--take-over", "--once"]);
    ended(&dry, 0);
    assert_eq!(
        dry.stdout,
        "~ /mirrors/shop\n- /mirrors/shop/x\n+ /mirrors/shop/db\n+ /mirrors/shop/db/url\n"
    );
    assert_eq!(below(&mut zk, NODE), pairs(&[("/x", "1")]));
    ended(&mirror(&["--once", "--take-over"]), 0);
    let dry = mirror(&["--dry-run"]);
    assert_eq!((dry.code, dry.stdout.as_str()), (0, ""), "{dry:?}");
    says(&dry.stderr, &["nothing changes"]);
}

#[test]
fn a_mirror_goes_on_whatever_happens_to_the_ensemble() {
    let mut server = ZooKeeper::single_with(SOON);
    let home = Home::new();
    home.ok(["config", "set", "/shop/db/url", "one"]);
    home.ok(["config", "set", "/shop/old", "x"]);
    let url = format!("{}{NODE}", server.url());
    let mut zk = client(&server.url(), None);
    // What is to be there is there already, and is nobody's mirror.
    foreign(
        &mut zk,
        &[
            create("/mirrors", b""),
            create(NODE, b""),
            create("/mirrors/shop/db", b""),
            create("/mirrors/shop/db/url", b"one"),
            create("/mirrors/shop/old", b"x"),
        ],
    );
    let mut mirror = follow(&home, &url, &["--take-over"]);
    assert_eq!(marked(&mut zk), "/shop/");
    server.kill(0);
    server.restart(0);
    mirror.error_with("the mirror is whole again", LONG);

    // Nodes are deleted that it writes, made that it makes, and made below what it deletes.
    let mut zk = client(&server.url(), None);
    foreign(
        &mut zk,
        &[
            Op::Delete("/mirrors/shop/db/url".to_owned()),
            create("/mirrors/shop/new", b"mine"),
            create("/mirrors/shop/old/mine", b""),
        ],
    );
    home.ok(["config", "set", "/shop/db/url", "two"]);
    there(&server, &[("/db", ""), ("/db/url", "two"), ("/old", "x")]);
    foreign(&mut zk, &[create("/mirrors/shop/new", b"mine")]);
    home.ok(["config", "set", "/shop/new", "ours"]);
    there(
        &server,
        &[("/db", ""), ("/db/url", "two"), ("/new", "ours"), ("/old", "x")],
    );
    foreign(&mut zk, &[create("/mirrors/shop/old/mine", b"")]);
    home.ok(["config", "rm", "/shop/old", "/shop/new"]);
    there(&server, &[("/db", ""), ("/db/url", "two")]);

    // It stands still for longer than its session.
    kill(mirror.pid(), Signal::STOP).expect("it runs");
    pass(Duration::from_secs(5));
    kill(mirror.pid(), Signal::CONT).expect("it runs");
    home.ok(["config", "set", "/shop/db/url", "three"]);
    there(&server, &[("/db", ""), ("/db/url", "three")]);

    // An interrupt does not wait for a server that does not answer.
    let java = i32::try_from(server.pid(0)).expect("a number");
    kill(java, Signal::STOP).expect("it runs");
    home.ok(["config", "set", "/shop/db/url", "four"]);
    pass(Duration::from_millis(300));
    let began = Instant::now();
    kill(mirror.pid(), Signal::INT).expect("it runs");
    assert_eq!(mirror.wait(LONG), 130);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    kill(java, Signal::CONT).expect("it runs");
}

#[test]
fn a_mirror_waits_for_its_store() {
    let mut etcd = Etcd::single(&[]);
    let mut server = ZooKeeper::single_with(SOON);
    let home = Home::new();
    join(&home, &etcd, "web1");
    home.ok(["config", "set", "/shop/a", "1"]);
    let url = format!("{}{NODE}", server.url());
    let mut mirror = follow(&home, &url, &[]);
    // It has to look at its store when the server is lost, and cannot.
    etcd.kill(0);
    server.kill(0);
    mirror.error_with("the store cannot be reached", LONG);
    etcd.start(0);
    server.restart(0);
    let mut zk = client(&server.url(), None);
    wait_until("the store to be back", LONG, || {
        let set = home.cmd(["config", "set", "/shop/a", "2"]);
        if set.code == 0 { Ok(()) } else { Err(set.stderr) }
    });
    there(&server, &[("/a", "2")]);
    // Also a daemon that goes right when it is asked.
    home.ok(["config", "set", "/shop/a", "3"]);
    kill(home.daemon_pid(), Signal::KILL).expect("it runs");
    there(&server, &[("/a", "3")]);
    // Where rights to the node end, it ends.
    foreign(&mut zk, &[Op::Set(NODE.to_owned(), b"mine".to_vec())]);
    home.ok(["config", "set", "/shop/a", "4"]);
    assert_eq!(mirror.wait(LONG), 6);
    let gone = zk.get("/none");
    assert!(
        matches!(gone, Ok(None) | Err(ZooKeeperError::Lost { .. })),
        "{gone:?}"
    );
}
