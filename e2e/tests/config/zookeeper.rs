//! Beside a real ZooKeeper: what it has is taken over, and what is here is kept there as well.

use std::time::Duration;

use upkeep_e2e::{ended, says};
use upkeep_testkit::{Home, wait_until, zookeeper::ZooKeeper};
use upkeep_zookeeper::{Address, Client, Login, Op};

use crate::listed;

const LONG: Duration = Duration::from_secs(30);

pub(crate) fn client(url: &str, login: Option<&Login>) -> Client {
    let address: Address = url.parse().expect("an address");
    Client::connect(&address, login, LONG).expect("it is there")
}

pub(crate) fn create(path: &str, data: &[u8]) -> Op {
    Op::Create(path.to_owned(), data.to_vec())
}

/// Data by path below a node.
pub(crate) fn below(client: &mut Client, node: &str) -> Vec<(String, String)> {
    let tree = client.tree(node).expect("read");
    let nodes = tree.nodes.into_iter().filter(|(path, _)| path != node);
    nodes
        .map(|(path, found)| {
            (
                path[node.len()..].to_owned(),
                String::from_utf8_lossy(&found.data).into_owned(),
            )
        })
        .collect()
}

pub(crate) fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(path, data)| ((*path).to_owned(), (*data).to_owned()))
        .collect()
}

#[test]
fn an_ensemble_is_taken_over() {
    let server = ZooKeeper::single();
    let login = Login {
        user: "ann".to_owned(),
        password: "the right one".to_owned(),
    };
    let mut zk = client(&server.url(), Some(&login));
    let mut all = vec![
        create("/old", b""),
        create("/old/db", b""),
        create("/old/db/url", b"postgres://db"),
        create("/old/db/password", b"hunter2 of ann"),
        create("/old/bytes", &[0, 159, 146, 150]),
        create("/old/many", b"itself a value"),
    ];
    all.extend(
        (0..120).map(|number| create(&format!("/old/many/{number:03}"), number.to_string().as_bytes())),
    );
    zk.change(&all).expect("it is written");

    let home = Home::new();
    let url = format!("{}/old", server.url());
    let password = home.write("password", "the right one\n").display().to_string();
    // Without the user, the nodes say no.
    let refused = home.cmd(["config", "zookeeper", "import", &url, "--place", "/new/"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("--password-file"), "{refused:?}");
    let args = |more: &[&str]| {
        let mut args = vec![
            "config",
            "zookeeper",
            "import",
            &url,
            "--place",
            "/new/",
            "--user",
            "ann",
        ];
        args.extend([
            "--password-file",
            &password,
            "--secret",
            "/new/db/password",
            "--reason",
            "moved",
        ]);
        args.extend(more);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let look = home.ok(args(&["--dry-run"]).iter().map(String::as_str));
    assert!(look.contains("+ /new/db/url: postgres://db"), "{look}");
    assert!(!look.contains("hunter2"), "{look}");
    assert_eq!(listed(&home, "/new/"), []);

    home.ok(args(&[]).iter().map(String::as_str));
    let there = listed(&home, "/new/");
    assert_eq!(there.len(), 124);
    let value = |path: &str| {
        let found = there.iter().find(|(name, _)| name == path);
        found.unwrap_or_else(|| panic!("no {path}")).1.clone()
    };
    assert_eq!(value("/new/db/url").as_deref(), Some("postgres://db"));
    assert_eq!(value("/new/many").as_deref(), Some("itself a value"));
    assert_eq!(value("/new/many/119").as_deref(), Some("119"));
    assert_eq!(value("/new/db/password"), None);
    assert_eq!(
        home.ok(["config", "get", "/new/db/password", "--reveal"])
            .trim_end(),
        "hunter2 of ann"
    );
    let bytes = home.json(["config", "get", "/new/bytes"]);
    assert_eq!(
        (bytes["kind"].as_str(), bytes["base64"].as_str()),
        (Some("file"), Some("AJ+Slg=="))
    );
    // Once more: nothing is to be done.
    let again = home.json(args(&[]).iter().map(String::as_str));
    assert_eq!(again["differences"].as_array().map(Vec::len), Some(0), "{again}");

    // A name that cannot be a path: nothing is taken at all.
    zk.change(&[create("/old/wrong name", b"1"), create("/old/fine", b"1")])
        .expect("it is written");
    let wrong = home.cmd(args(&[]).iter().map(String::as_str));
    assert_eq!(wrong.code, 4, "{wrong:?}");
    assert!(wrong.stderr.contains("/new/wrong name"), "{wrong:?}");
    assert_eq!(listed(&home, "/new/").len(), 124);
    for (args, code) in [
        (["config", "zookeeper", "import", "http://a"].as_slice(), 2),
        (
            &["config", "zookeeper", "import", &format!("{}/none", server.url())],
            3,
        ),
        (&["config", "zookeeper", "import", "127.0.0.1:1"], 8),
    ] {
        let answer = home.cmd(args.iter().copied());
        assert_eq!(answer.code, code, "{args:?}: {answer:?}");
    }
}

#[test]
fn a_place_is_kept_at_an_ensemble() {
    let mut servers = ZooKeeper::three();
    let home = Home::new();
    home.ok(["config", "set", "/shop/db/url", "one"]);
    home.ok(["config", "set", "/shop/name", "shop"]);
    let secret = home.write("secret", "hunter2").display().to_string();
    home.ok([
        "config",
        "set",
        "/shop/db/password",
        "--secret",
        "--file",
        &secret,
    ]);
    let url = format!("{}/mirrors/shop", servers.url());
    let mut zk = client(&servers.url(), None);

    // What is somebody's is left alone.
    zk.change(&[
        create("/mirrors", b""),
        create("/mirrors/shop", b"precious"),
        create("/mirrors/shop/x", b"1"),
    ])
    .expect("it is written");
    let refused = home.cmd(["config", "zookeeper", "mirror", "/shop/", &url, "--once"]);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stderr.contains("--take-over"), "{refused:?}");
    assert_eq!(below(&mut zk, "/mirrors/shop"), pairs(&[("/x", "1")]));
    let once = home.cmd([
        "config",
        "zookeeper",
        "mirror",
        "/shop/",
        &url,
        "--once",
        "--take-over",
    ]);
    assert_eq!(once.code, 0, "{once:?}");
    assert!(once.stderr.contains("1 secrets are left out"), "{once:?}");
    let first = [("/db", ""), ("/db/url", "one"), ("/name", "shop")];
    assert_eq!(below(&mut zk, "/mirrors/shop"), pairs(&first));

    let mut mirror = home
        .command(["config", "zookeeper", "mirror", "/shop/", &url, "--reveal"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let there = |servers: &ZooKeeper, wanted: &[(&str, &str)]| {
        wait_until("the mirror to have it", LONG, || {
            let address: Address = servers.url().parse().expect("an address");
            let mut zk = Client::connect(&address, None, LONG).map_err(|error| error.to_string())?;
            let tree = zk.tree("/mirrors/shop").map_err(|error| error.to_string())?;
            drop(tree);
            let found = below(&mut zk, "/mirrors/shop");
            if found == pairs(wanted) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        });
    };
    there(
        &servers,
        &[
            ("/db", ""),
            ("/db/password", "hunter2"),
            ("/db/url", "one"),
            ("/name", "shop"),
        ],
    );
    home.ok(["config", "set", "/shop/db/url", "two"]);
    home.ok(["config", "rm", "/shop/db/password", "/shop/name"]);
    home.ok(["config", "set", "/shop/a/b/c", "deep"]);
    let second = [
        ("/a", ""),
        ("/a/b", ""),
        ("/a/b/c", "deep"),
        ("/db", ""),
        ("/db/url", "two"),
    ];
    there(&servers, &second);

    // The server that it has is killed, and its daemon; both are replaced, and nothing is missed.
    servers.kill(0);
    home.ok(["config", "set", "/shop/db/url", "three"]);
    let third = [
        ("/a", ""),
        ("/a/b", ""),
        ("/a/b/c", "deep"),
        ("/db", ""),
        ("/db/url", "three"),
    ];
    there(&servers, &third);
    servers.restart(0);
    upkeep_e2e::kill_daemon(home.keeper_pid());
    home.daemon_pid();
    home.ok(["config", "rm", "/shop/a/"]);
    there(&servers, &[("/db", ""), ("/db/url", "three")]);

    // A second mirror of the same place takes over the node; the first notices it with its next change, and ends.
    home.ok(["config", "zookeeper", "mirror", "/shop/", &url, "--once"]);
    let mut zk = client(&servers.url(), None);
    zk.change(&[Op::Set("/mirrors/shop".to_owned(), b"mine".to_vec())])
        .expect("it is written");
    home.ok(["config", "set", "/shop/db/url", "four"]);
    let status = wait_until("the mirror to end", LONG, || {
        mirror
            .try_wait()
            .expect("our child")
            .ok_or_else(|| "it runs".to_owned())
    });
    let mut said = String::new();
    std::io::Read::read_to_string(&mut mirror.stderr.take().expect("it was taken"), &mut said)
        .expect("it was text");
    assert_eq!(status.code(), Some(6), "{said}");
    assert!(said.contains("somebody else writes"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(
        below(&mut zk, "/mirrors/shop"),
        pairs(&[("/db", ""), ("/db/url", "three")])
    );
}

#[test]
fn an_import_is_checked_before_anything_is_written() {
    let server = ZooKeeper::single();
    let mut zk = client(&server.url(), None);
    let mut all = vec![create("/imp", b"own"), create("/imp/db", b"")];
    all.push(create("/imp/db/password", b"geheim"));
    zk.change(&all).expect("it is written");
    let home = Home::new();
    let import = |node: &str, more: &[&str]| {
        let url = format!("{}{node}", server.url());
        let args = ["config", "zookeeper", "import", &url, "--place"];
        home.cmd(args.iter().chain(more))
    };
    // A node with data of its own.
    let refused = import("/imp", &["/imp/"]);
    ended(&refused, 4);
    says(&refused.stderr, &["the node itself has data", "--node PATH"]);
    // A slip of the pen.
    let secret = ["/imp/", "--node", "/imp/self", "--secret", "/imp/db/passwrod"];
    let refused = import("/imp", &secret);
    ended(&refused, 4);
    says(&refused.stderr, &["`/imp/db/passwrod`, which is to be secret"]);
    assert_eq!(listed(&home, "/"), []);
    let secret = ["/imp/", "--node", "/imp/self", "--secret", "/imp/db/password"];
    ended(&import("/imp", &secret), 0);
    let own = ("/imp/self".to_owned(), Some("own".to_owned()));
    assert_eq!(listed(&home, "/"), [("/imp/db/password".to_owned(), None), own]);
    // Over what is there, or beside it.
    home.ok(["config", "set", "/imp/self", "edited here"]);
    zk.change(&[create("/imp/more", b"1")]).expect("it is written");
    let only = ["/imp/", "--node", "/imp/self", "--only-new"];
    let done = import("/imp", &only);
    ended(&done, 0);
    assert_eq!(done.stdout, "+ /imp/more: 1\n");
    says(&done.stderr, &["2 values are there already"]);
    assert_eq!(home.ok(["config", "get", "/imp/self"]), "edited here\n");
    says(&import("/imp", &only).stderr, &["nothing changes"]);
    ended(&import("/imp", &["/imp/", "--node", "/imp/self"]), 0);
    assert_eq!(home.ok(["config", "get", "/imp/self"]), "own\n");

    // A mirror comes back.
    let url = format!("{}/mirrors/imp", server.url());
    home.ok(["config", "zookeeper", "mirror", "/imp/", &url, "--once"]);
    ended(&import("/mirrors/imp", &["/back/"]), 0);
    let back = listed(&home, "/back/");
    let back: Vec<&str> = back.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(back, ["/back/more", "/back/self"]);

    // One that is too large among many: nothing is written, and nothing is claimed.
    let mut many = vec![create("/many", b"")];
    many.extend((0..60).map(|number| create(&format!("/many/{number:02}"), b"1")));
    zk.change(&many).expect("it is written");
    zk.change(&[create("/many/large", &vec![b'x'; 600 << 10])])
        .expect("it is written");
    for more in [["/many/", "--dry-run"].as_slice(), &["/many/"]] {
        let refused = import("/many", more);
        ended(&refused, 4);
        says(
            &refused.stderr,
            &["`/many/large` would have 614400 bytes, more than 512 KiB"],
        );
        assert!(!refused.stderr.contains("were taken"), "{refused:?}");
    }
    assert_eq!(listed(&home, "/many/"), []);
    zk.change(&[Op::Delete("/many/large".to_owned())])
        .expect("it is written");
    // Where others have to approve, all of it is named.
    home.ok(["config", "protect", "/many/", "--approvals", "1"]);
    let dry = import("/many", &["/many/", "--dry-run"]);
    assert_eq!(dry.stderr.matches("somebody else has").count(), 1, "{dry:?}");
    let asked = import("/many", &["/many/"]);
    ended(&asked, 0);
    let waiting = home.json(["config", "proposals"]);
    let waiting = waiting["proposals"].as_array().expect("proposals");
    assert_eq!(waiting.len(), 2);
    for one in waiting {
        says(&asked.stderr, &[one["id"].as_str().expect("an id")]);
    }
}
