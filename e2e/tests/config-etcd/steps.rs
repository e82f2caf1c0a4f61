//! Clusters that take more steps in one transaction than etcd does by itself.

use std::fmt::Write as _;

use serde_json::json;
use upkeep_e2e::{ended, says};
use upkeep_testkit::{Home, etcd::Etcd};

use crate::world::{join, listed, set, settings};

#[test]
fn a_file_of_many_values_is_imported_whole_where_the_members_take_it() {
    let most = json!({"max_txn_ops": 2000});
    let large = Etcd::single(&["--max-txn-ops", "2000"]);
    let home = Home::new();
    let file = (0..500).fold(String::new(), |mut file, number| {
        let _ = writeln!(file, "K{number}=v{number}");
        file
    });
    home.write("many.env", &file);
    let import = ["config", "import", "many.env", "--place", "/many/"];

    // As etcd is by itself.
    join(&home, &large, "web1");
    let refused = home.cmd(import);
    ended(&refused, 4);
    says(&refused.stderr, &["it sets 500 values", "64 in one change"]);
    assert_eq!(listed(&home, "/many/"), []);

    set(&home, &settings(&large, "web1", most.clone()));
    home.ok(import);
    assert_eq!(listed(&home, "/many/").len(), 500);
    home.ok(["config", "rm", "/many/"]);
    assert_eq!(listed(&home, "/many/"), []);

    // Settings that promise more than the members take lose nothing, and do without what is gathered.
    let small = Etcd::single(&[]);
    let home = Home::new();
    home.write("many.env", &file);
    join(&home, &small, "web2");
    set(&home, &settings(&small, "web2", most));
    let refused = home.cmd(import);
    says(&refused.stderr, &["max_txn_ops", "--max-txn-ops"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(listed(&home, "/many/"), []);
    home.ok(["config", "set", "/one", "1"]);
    assert_eq!(home.ok(["config", "get", "/one"]), "1\n");
}
