//! Secrets at etcd: sealed in its data directory, in its snapshots and in what it answers.

use std::process::Command;

use upkeep_testkit::{Home, etcd::Etcd};

use crate::{secrets::holders, world::join};

const SECRET: &str = "s3cr3t-etcd-Kq7-needle";

#[test]
fn a_secret_is_nowhere_at_etcd() {
    let etcd = Etcd::single(&["--snapshot-count", "10"]);
    let home = Home::new();
    join(&home, &etcd, "web1");
    home.ok(["config", "recipients", "/", "--to", "machine:web1"]);
    for round in 0..15 {
        let value = format!("{SECRET}{round}");
        let set = home.cmd_with_input(
            ["config", "set", "/shop/password", "-", "--secret"],
            value.as_bytes(),
        );
        assert_eq!(set.code, 0, "{set:?}");
    }
    home.ok(["config", "set", "/shop/shown", "s3cr3t-shown-needle"]);
    let endpoint = &etcd.endpoints()[0];
    let snapshot = etcd.dir().join("snapshot.db");
    let saved = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint, "snapshot", "save"])
        .arg(&snapshot)
        .output()
        .expect("etcdctl (Debian: etcd-client)");
    assert!(saved.status.success(), "{saved:?}");
    let (looked, found) = holders(etcd.dir(), &[SECRET]);
    assert!(looked > 3 && found.is_empty(), "{looked}: {found:?}");
    // The search finds what is there, in the database and in the snapshot.
    let (_, found) = holders(etcd.dir(), &["s3cr3t-shown-needle"]);
    assert!(found.len() >= 2, "{found:?}");
    let (_, found) = holders(&home.path(), &[SECRET]);
    assert!(found.is_empty(), "{found:?}");
}
