//! What is sent for what is written.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;

fn prepared(given: Value, from_file: bool, folder: &Path) -> Result<Value, PrepareError> {
    let home =
        Pm2Home::find(&|name| (name == "PM2_HOME").then(|| folder.join("home").into())).expect("a home");
    let path = std::env::var("PATH").unwrap_or_default();
    let variables: Map<String, Value> = [("PATH", path.as_str()), ("HOME", "/h"), ("LANG", "C")]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let place = Place {
        cwd: folder,
        home: &home,
        variables: &variables,
        username: "me",
        module_conf: &Map::new(),
        environment: Some("prod"),
        from_file,
        user: &|name| {
            (name == "bob").then(|| Account {
                uid: 7,
                gid: 8,
                home: "/bob".to_owned(),
            })
        },
        group: &|_| None,
        listener: &(),
        server: Path::new("/server"),
    };
    let given = given.as_object().cloned().unwrap_or_default();
    let mut conf = schema::check(&given).conf;
    settle(&mut conf, &place)?;
    prepare(conf, &place).map(Value::Object)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [("a.js", "x"), ("s.sh", "x"), ("text", "x"), ("bin", "\0ELF")] {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

#[test]
fn the_interpreter_comes_from_the_file() {
    let folder = folder();
    let run_by = |script: &str| {
        prepared(json!({"script": script}), true, folder.path()).map(|app| app["exec_interpreter"].clone())
    };
    assert_eq!(run_by("a.js"), Ok(json!("node")));
    assert_eq!(run_by("s.sh"), Ok(json!("bash")));
    assert_eq!(run_by("bin"), Ok(json!("none")));
    assert_eq!(run_by("sleep"), Ok(json!("none")));
    assert!(run_by("text").is_ok_and(|node| node.as_str().is_some_and(|node| node.ends_with("node"))));
    let path = folder.path().join("no.js").display().to_string();
    assert_eq!(run_by("no.js"), Err(PrepareError::NoFile { path }));
}

#[test]
fn a_command_line_is_run_by_a_shell_and_named_after_its_file() {
    let folder = folder();
    let app = prepared(json!({"script": "echo /x/y.sh; sleep 1"}), true, folder.path()).expect("an app");
    assert_eq!(app["name"], "y");
    assert_eq!(app["args"], json!(["-c", "echo /x/y.sh; sleep 1"]));
    assert!(
        app["pm_exec_path"]
            .as_str()
            .is_some_and(|path| path.ends_with("sh"))
    );
}

#[test]
fn the_environment_is_put_together_in_order() {
    let folder = folder();
    let given = json!({"script": "a.js", "env": {"A": 1, "B": {"c": 2}}, "env_prod": {"A": 3}, "port": 80, "uid": "bob",
        "filter_env": ["LANG"]});
    let app = prepared(given, true, folder.path()).expect("an app");
    let names: Vec<_> = app["env"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "PATH",
            "HOME",
            "PM2_USAGE",
            "PM2_JSON_PROCESSING",
            "A",
            "B",
            "PORT",
            "a"
        ]
    );
    assert_eq!(
        (&app["env"]["A"], &app["env"]["B"]),
        (&json!(3), &json!("{\"c\":2}"))
    );
    assert_eq!(
        (&app["env"]["HOME"], &app["uid"], &app["gid"]),
        (&json!("/bob"), &json!(7), &json!(8))
    );
}

#[test]
fn logs_and_modes_are_decided() {
    let folder = folder();
    let app = prepared(
        json!({"script": "a.js", "instances": 2, "err_file": "NULL", "log": true}),
        true,
        folder.path(),
    )
    .expect("an app");
    assert_eq!(app["exec_mode"], "cluster_mode");
    assert_eq!(app["pm_err_log_path"], "/dev/null");
    assert!(
        app["pm_log_path"]
            .as_str()
            .is_some_and(|path| path.ends_with("home/logs/a.log"))
    );
    assert!(app.get("merge_logs").is_none());
    let app = prepared(json!({"script": "s.sh", "instances": 2}), true, folder.path()).expect("an app");
    assert_eq!(app["exec_mode"], "fork_mode");
    assert_eq!(
        prepared(json!({"script": "s.sh"}), true, folder.path()).expect("an app")["merge_logs"],
        true
    );
}

#[test]
fn who_does_not_exist_cannot_run_it() {
    let folder = folder();
    let error = prepared(json!({"script": "a.js", "uid": "eve"}), true, folder.path());
    assert_eq!(
        error,
        Err(PrepareError::NoUser {
            name: "eve".to_owned()
        })
    );
    let error = prepared(json!({"script": "a.js", "cron": "x"}), true, folder.path());
    assert!(matches!(error, Err(PrepareError::Cron { .. })));
}
