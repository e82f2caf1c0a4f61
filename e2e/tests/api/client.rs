//! `examples/client.py`, a client that somebody else could have written.

use std::{path::Path, process::Command};

use upkeep_e2e::{LONG, app, apply, ended, says};
use upkeep_testkit::{Following, Home};

use crate::{listening, token};

fn client(home: &Home, url: &str, secret: &str, args: &[&str]) -> Command {
    let file = home.write("token", secret);
    let mut command = Command::new("python3");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/client.py"))
        .args(args)
        .env("UPKEEP_URL", url)
        .env("UPKEEP_TOKEN_FILE", file)
        .env("PYTHONUNBUFFERED", "1")
        .current_dir(home.work())
        .stdin(std::process::Stdio::null());
    command
}

#[test]
fn a_client_written_from_the_reference_lists_restarts_and_follows() {
    let home = Home::new();
    apply(
        &home,
        &[
            app(&home, "shop", &["print", "hello", "wait"]),
            app(&home, "blog", &["wait"]),
        ],
    );
    let url = listening(&home);
    let operator = token(&home, "operator", &["--role", "operator"]);
    let viewer = token(&home, "viewer", &["--role", "viewer"]);
    let run = |secret: &str, args: &[&str]| home.finish(client(&home, &url, secret, args), LONG);
    let list = run(&operator, &["list"]);
    ended(&list, 0);
    assert_eq!(list.stdout, "blog: running\nshop: running\n");
    let before = home.instance("shop", 0)["pid"].clone();
    let refused = run(&viewer, &["restart", "shop"]);
    ended(&refused, 1);
    says(&refused.stderr, &["refused", "apps:operate"]);
    assert_eq!(home.instance("shop", 0)["pid"], before);
    let lines = Following::start(client(&home, &url, &viewer, &["logs", "shop"]));
    lines.line_with("shop:0 hello", LONG);
    let done = run(&operator, &["restart", "shop", "--reason", "new keys"]);
    ended(&done, 0);
    assert_eq!(done.stdout, "shop: restarted\n");
    assert_ne!(home.instance("shop", 0)["pid"], before);
    lines.line_with("shop:0 hello", LONG);
    says(&home.ok(["events", "shop"]), &["new keys", "token:operator"]);
}
