//! What a file comes to is found out on the machine where its apps run: processors, programs, folders, environment.

use serde_json::Value;
use upkeep_e2e::{LONG, ended, says};
use upkeep_testkit::{Home, Output, wait_until};

use crate::{encrypted, token};

/// A profile of `there` at `here`, with a token of an administrator.
fn joined() -> (Home, Home) {
    let (here, there) = (Home::new(), Home::new());
    let url = encrypted(&there);
    let file = here.write("token", &token(&there, "admin"));
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our own");
    let shown = there.json(["cert", "show"]);
    let pin = shown["authority"]["fingerprint"].as_str().expect("a hash");
    let path = file.display().to_string();
    here.ok([
        "host",
        "add",
        "db1",
        "--url",
        &url,
        "--ca",
        pin,
        "--token-file",
        &path,
    ]);
    (here, there)
}

/// Runs a command here with one processor and with a secret in the environment.
fn from_a_shell(here: &Home, words: &[&str]) -> Output {
    let plain = here.command(words);
    let mut command = std::process::Command::new("taskset");
    command
        .args(["-c", "0"])
        .arg(plain.get_program())
        .args(plain.get_args())
        .env("AWS_SECRET_ACCESS_KEY", "of-the-laptop");
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(directory) = plain.get_current_dir() {
        command.current_dir(directory);
    }
    here.finish(command, LONG)
}

/// `max` is what the daemon may use, not the one processor of the shell.
#[track_caller]
fn one_for_each_processor(there: &Home, app: &str) {
    let cpus = std::thread::available_parallelism().expect("a count").get();
    for index in 0..cpus as u64 {
        there.wait_for(app, index, "running");
    }
    let listed = there.json(["ls"]);
    assert_eq!(
        listed["apps"][0]["instances"].as_array().map(Vec::len),
        Some(cpus),
        "{listed}"
    );
}

/// The environment that the program wrote down.
fn environment(there: &Home) -> String {
    wait_until("the environment of the app", LONG, || {
        let text = std::fs::read_to_string(there.work().join("env")).unwrap_or_default();
        if text.contains("WRITTEN=all") {
            Ok(text)
        } else {
            Err(text)
        }
    })
}

const PROGRAM: &str = "env > env.$$; echo WRITTEN=all >> env.$$; mv env.$$ env; exec sleep 100000";

#[test]
fn a_file_is_worked_out_where_its_apps_run() {
    let (here, there) = joined();
    there.write("shop.env", "DATABASE=of-the-server\n");
    let file = serde_json::json!({"apps": [{
        "name": "shop",
        "command": ["sh", "-c", PROGRAM],
        "cwd": there.work(),
        "env_file": [there.work().join("shop.env")],
        "instances": "max",
    }]});
    here.write("shop.upkeep.json", &file.to_string());
    let dry = from_a_shell(
        &here,
        &["--host", "db1", "--dry-run", "start", "shop.upkeep.json"],
    );
    ended(&dry, 0);
    assert_eq!(there.json(["ls"])["apps"], serde_json::json!([]));
    let started = from_a_shell(&here, &["--host", "db1", "start", "shop.upkeep.json"]);
    ended(&started, 0);
    one_for_each_processor(&there, "shop");
    let env = environment(&there);
    assert!(env.contains("DATABASE=of-the-server"), "{env}");
    assert!(!env.contains("of-the-laptop"), "{env}");
    assert!(env.lines().any(|line| line.starts_with("PATH=/")), "{env}");
    // Nor is it kept, or told of, anywhere.
    let shown = there.cmd(["show", "shop", "--json"]).stdout;
    assert!(!shown.contains("of-the-laptop"), "{shown}");
    // Applied again from another shell: nothing has changed.
    let again = here.cmd(["--host", "db1", "apply", "shop.upkeep.json"]);
    ended(&again, 0);
    says(&again.stderr, &["shop", "unchanged"]);
    // What is wrong is told with its place, and nothing is done.
    here.write(
        "wrong.upkeep.json",
        "{\"apps\": [{\"name\": \"x\", \"command\": [\"true\"], \"instancs\": 2}]}",
    );
    let wrong = here.cmd(["--host", "db1", "start", "wrong.upkeep.json"]);
    ended(&wrong, 4);
    says(&wrong.stderr, &["wrong.upkeep.json:1:", "instancs", "instances"]);
    here.write(
        "far.upkeep.json",
        "{\"apps\": [{\"name\": \"x\", \"command\": [\"sleep\", \"1\"], \"cwd\": \"/nowhere/at/all\"}]}",
    );
    let far = here.cmd(["--host", "db1", "start", "far.upkeep.json"]);
    ended(&far, 4);
    says(&far.stderr, &["there is no folder `/nowhere/at/all`", "cwd"]);
    let only = here.cmd(["--host", "db1", "start", "shop.upkeep.json", "--only", "nobody"]);
    ended(&only, 3);
    says(&only.stderr, &["has no app `nobody`", "it has shop"]);
    let names: Vec<Value> = there.json(["ls"])["apps"].as_array().cloned().unwrap_or_default();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_command_line_is_worked_out_where_it_runs() {
    let (here, there) = joined();
    let script = there
        .write("report.sh", &format!("{PROGRAM}\n"))
        .display()
        .to_string();
    // A file of that name at this side says nothing of that one.
    here.write("report.sh", "exit 1\n");
    let folder = there.work().display().to_string();
    let started = from_a_shell(
        &here,
        &["--host", "db1", "start", &script, "-i", "max", "--cwd", &folder],
    );
    ended(&started, 0);
    one_for_each_processor(&there, "report");
    assert!(!environment(&there).contains("of-the-laptop"));
    // Another script of that name does not take its place, unless it is named.
    there.write("other/report.sh", "exec sleep 100000\n");
    let other = there.work().join("other/report.sh").display().to_string();
    let refused = here.cmd(["--host", "db1", "start", &other, "--cwd", &folder]);
    ended(&refused, 6);
    says(&refused.stderr, &["there is an app `report`"]);
    let missing = here.cmd(["--host", "db1", "start", "/nowhere/at/all.sh", "--cwd", &folder]);
    ended(&missing, 4);
    says(&missing.stderr, &["/nowhere/at/all.sh"]);
    // A word that selects there is no script here.
    let stopped = here.cmd(["--host", "db1", "stop", "report"]);
    ended(&stopped, 0);
    here.write("report", "exit 1\n");
    ended(&here.cmd(["--host", "db1", "start", "report"]), 0);
    one_for_each_processor(&there, "report");
}
