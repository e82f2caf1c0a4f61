//! `--dry-run` changes nothing, with every verb: it says what would be, or it is refused.

use serde_json::{Value, json};
use upkeep_e2e::{ended, events, says};
use upkeep_testkit::Home;

use crate::token;

/// Verbs that only look.
const LOOK: &[&str] = &[
    "get",
    "ls",
    "tree",
    "watch",
    "diff",
    "status",
    "proposals",
    "export",
    "explain",
];
/// Verbs that need an etcd or a ZooKeeper; see there.
const ELSEWHERE: &[&str] = &["machine", "migrate", "zookeeper"];

/// All that can be seen to change.
fn world(home: &Home) -> Value {
    let asked = [
        vec!["config", "ls"],
        vec!["config", "recipients"],
        vec!["config", "proposals"],
        vec!["config", "schema", "get", "/typed/"],
        vec!["role", "ls"],
    ];
    let mut all: Vec<Value> = asked.iter().map(|args| home.json(args)).collect();
    let file = std::fs::read_to_string(home.work().join("made.conf")).ok();
    all.push(json!([file, events(home).len()]));
    all.into()
}

#[test]
fn every_verb_that_changes_something_can_only_say_so() {
    let home = Home::new();
    home.write("typed.yaml", "type: object");
    home.write("more.json", r#"{"b": "2"}"#);
    home.write("made.j2", "a is {{ a }}");
    home.ok(["config", "set", "/shop/a", "1"]);
    home.ok(["config", "set", "/shop/a", "2"]);
    let piped = home.cmd_with_input(["config", "set", "/shop/key", "-", "--secret"], b"hunter2");
    ended(&piped, 0);
    home.ok(["config", "schema", "set", "/typed/", "typed.yaml"]);
    home.ok(["config", "protect", "/held/", "--approvals", "1"]);
    home.ok(["config", "set", "/held/a", "1"]);
    // Somebody else's, for this one to approve.
    let other = token(&home, "ann", &["--role", "admin"]);
    let put = json!({"text": "1"});
    let asked = crate::ask(&home, &other, "PUT", "/v1/config/values/held/b", &put);
    assert_eq!(asked.status, 202, "{asked:?}");
    let waiting = home.json(["config", "proposals"]);
    let id = waiting["proposals"]
        .as_array()
        .and_then(|all| {
            all.iter()
                .find(|one| one["who"] != "uid:0" && one["differences"][0]["path"] == "/held/b")
        })
        .and_then(|one| one["id"].as_str())
        .unwrap_or_else(|| panic!("none: {waiting}"))
        .to_owned();
    let first = home.json(["config", "history", "/shop/a"])["changes"][1]["revision"].to_string();

    let verbs: Vec<Vec<&str>> = vec![
        vec!["set", "/shop/a", "9"],
        vec!["set", "/shop/b", "9", "--ttl", "30s"],
        vec!["rm", "/shop/"],
        vec!["history", "/shop/", "--keep", "5"],
        vec!["rollback", "/shop/a", &first],
        vec!["edit", "/shop/a"],
        vec!["recipients", "/shop/", "--none", "--reseal"],
        vec!["recipients", "/shop/", "--reseal", "--anew", "--history"],
        vec!["render", "made.j2", "--place", "/shop/", "--to", "made.conf"],
        vec!["schema", "set", "/shop/", "typed.yaml"],
        vec!["schema", "rm", "/typed/"],
        vec!["protect", "/shop/", "--approvals", "2"],
        vec!["approve", &id],
        vec!["refuse", &id],
        vec!["import", "more.json", "--place", "/shop/"],
        vec!["grant", "uid:4294967", "--verb", "read", "--path", "/"],
        vec!["keep-alive", "1"],
    ];
    let before = world(&home);
    for args in &verbs {
        let mut command = home.command(["config"].iter().chain(args).chain(&["--dry-run"]));
        command.env("EDITOR", "printf 9 >");
        let output = home.finish(command, upkeep_e2e::LONG);
        if args[0] == "keep-alive" {
            ended(&output, 2);
            says(&output.stderr, &["`--dry-run`"]);
        } else {
            ended(&output, 0);
            assert!(
                !format!("{}{}", output.stdout, output.stderr).contains("nothing changes"),
                "it would change something: {args:?}: {output:?}"
            );
        }
        assert_eq!(world(&home), before, "{args:?} has changed something");
    }
    // There are no other verbs.
    let help = home.ok(["config", "--help"]);
    let listed = help
        .split("Commands:")
        .nth(1)
        .and_then(|text| text.split("\n\n").next());
    let known = |verb: &str| {
        verbs.iter().any(|args| args[0] == verb) || LOOK.contains(&verb) || ELSEWHERE.contains(&verb)
    };
    for line in listed.unwrap_or_else(|| panic!("no list: {help}")).lines() {
        // What it does stands further in where it is long.
        let Some(verb) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) else {
            continue;
        };
        let verb = verb.split(' ').next().unwrap_or_default();
        assert!(known(verb) || verb == "help", "`{verb}` is not tried here");
    }
}

#[test]
fn other_verbs_refuse_what_they_do_not_know() {
    let home = Home::new();
    home.ok(["ls"]);
    let pid = home.daemon_pid();
    home.write("old.json", r#"{"apps": [{"name": "x", "script": "sleep 9"}]}"#);
    for args in [
        vec!["import", "old.json"],
        vec!["run", "old.json"],
        vec!["upgrade"],
        vec!["heap", "x"],
        vec!["profile", "x"],
        vec!["host", "add", "x", "--socket", "/x"],
        vec!["host", "rm", "x"],
        vec!["alert", "unsilence", "x"],
        vec!["cert", "export-ca", "-o", "ca.pem"],
    ] {
        let output = home.cmd(args.iter().chain(&["--dry-run"]));
        ended(&output, 2);
        says(&output.stderr, &["it cannot only say what it would do"]);
    }
    assert!(!home.work().join("upkeep.yaml").exists());
    assert_eq!(home.daemon_pid(), pid);
}
