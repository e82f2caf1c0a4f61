//! Leaving PM2: its files under our own name.

use std::fs;

use upkeep_e2e::{ended, says};
use upkeep_testkit::Home;

/// A file that only a program can read.
const ECOSYSTEM: &str = r"
const port = 3000 + 1;
module.exports = {
  apps: [{
    name: 'shop',
    script: 'shop.sh',
    interpreter: 'bash',
    env: { PORT: port, SECRET: 'hush' },
    env_production: { PORT: 80 },
    kill_timeout: 3000,
    max_memory_restart: '200M',
    exec_mode: 'fork',
  }],
};
";

fn folder(home: &Home) -> String {
    fs::write(home.work().join("shop.sh"), "echo port $PORT; exec sleep 1000\n").expect("written");
    home.write("ecosystem.config.js", ECOSYSTEM).display().to_string()
}

#[test]
fn an_ecosystem_file_in_javascript_is_applied_and_only_its_differences_are() {
    let home = Home::new();
    let file = folder(&home);
    let planned = home.cmd(["diff", &file]);
    ended(&planned, 0);
    says(&planned.stderr, &["shop: would be created"]);
    let created = home.cmd(["apply", &file]);
    ended(&created, 0);
    says(&created.stderr, &["shop: created"]);
    home.wait_for("shop", 0, "running");
    let pid = home.instance("shop", 0)["pid"].clone();
    let again = home.cmd(["apply", &file]);
    says(&again.stderr, &["shop: unchanged"]);
    assert_eq!(
        home.instance("shop", 0)["pid"],
        pid,
        "what is the same is not touched"
    );

    fs::write(
        &file,
        ECOSYSTEM.replace("3000,", "5000,").replace("'hush'", "'other'"),
    )
    .expect("written");
    let planned = home.cmd(["diff", &file]);
    ended(&planned, 0);
    says(
        &planned.stderr,
        &[
            "shop: would be updated",
            "stop.grace: ",
            "env.SECRET: another value",
        ],
    );
    let text = &planned.stderr;
    assert!(
        !text.contains("hush") && !text.contains("other'"),
        "a secret is shown: {text}"
    );
    assert_eq!(home.instance("shop", 0)["pid"], pid, "`diff` changes nothing");
    let applied = home.cmd(["apply", &file]);
    ended(&applied, 0);
    home.wait_for("shop", 0, "running");
    assert_ne!(home.instance("shop", 0)["pid"], pid);
}

#[test]
fn a_variable_that_is_gone_from_the_file_is_gone_from_the_app() {
    let home = Home::new();
    let file = home.write(
        "upkeep.yaml",
        "apps:\n  - {name: a, command: 'printenv GONE; exec sleep 1000', env: {GONE: here}}\n",
    );
    let file = file.display().to_string();
    ended(&home.cmd(["apply", &file]), 0);
    home.wait_for("a", 0, "running");
    fs::write(
        &file,
        "apps:\n  - {name: a, command: 'echo is=$GONE.; exec sleep 1000'}\n",
    )
    .expect("written");
    let applied = home.cmd(["apply", &file]);
    ended(&applied, 0);
    says(&applied.stderr, &["env.GONE: (hidden) → nothing"]);
    let seen = upkeep_testkit::wait_until("the app to say what it sees", upkeep_e2e::LONG, || {
        let log = String::from_utf8_lossy(&home.log("a", 0, "out")).into_owned();
        if log.contains("is=.") { Ok(log) } else { Err(log) }
    });
    assert!(seen.contains("here"), "{seen}");
}

#[test]
fn an_ecosystem_file_becomes_an_upkeep_yaml() {
    let home = Home::new();
    let file = folder(&home);
    let imported = home.cmd(["import", &file, "--env", "production"]);
    ended(&imported, 0);
    says(
        &imported.stderr,
        &["wrote 1 apps to", "not carried over: shop: `max_memory_restart`"],
    );
    let ours = home.work().join("upkeep.yaml");
    let text = fs::read_to_string(&ours).expect("written");
    assert!(
        text.contains("grace: 3000ms") && text.contains("PORT: 80"),
        "{text}"
    );
    let again = home.cmd(["import", &file]);
    ended(&again, 6);
    says(&again.stderr, &["is there already", "--force"]);
    ended(&home.cmd(["start", &ours.display().to_string()]), 0);
    home.wait_for("shop", 0, "running");
    let missing = home.cmd(["import", "nothing.config.js"]);
    ended(&missing, 3);
    let unknown = home.cmd(["import", &file, "--env", "staging", "-o", "-"]);
    ended(&unknown, 3);
    says(&unknown.stderr, &["env_staging"]);
}

#[test]
fn a_broken_javascript_file_is_told_with_its_own_words() {
    let home = Home::new();
    let file = home.write(
        "broken.config.js",
        "module.exports = { apps: [ { name: oops } ] };\n",
    );
    let refused = home.cmd(["apply", &file.display().to_string()]);
    ended(&refused, 4);
    says(&refused.stderr, &["broken.config.js", "oops is not defined"]);
}
