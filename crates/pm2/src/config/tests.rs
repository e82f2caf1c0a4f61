//! Files of all kinds.

use serde_json::json;

use super::*;

fn loaded(name: &str, text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(name), text).expect("a file");
    load(folder.path(), name)
}

fn apps(name: &str, text: &str) -> Value {
    match loaded(name, text) {
        Ok(config) => json!(config.apps),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn json_may_be_written_as_people_do() {
    let text =
        "{ // c\n 'apps': [ {script: \"a.js\", name:'it\\'s', args: [1, -2.5,], /* d */ x: true,}, ], }";
    assert_eq!(
        apps("x.json", text),
        json!([{"script": "a.js", "name": "it's", "args": [1, -2.5], "x": true}])
    );
}

#[test]
fn json_that_is_javascript_is_evaluated() {
    assert_eq!(
        apps("x.json", "{apps: [{script: 'a' + '.js', max: 2 * 3}]}"),
        json!([{"script": "a.js", "max": 6}])
    );
}

#[test]
fn apps_are_found_wherever_they_may_stand() {
    let app = json!([{"script": "a.js"}]);
    for text in [
        "{\"apps\":[{\"script\":\"a.js\"}]}",
        "{\"apps\":{\"script\":\"a.js\"}}",
        "{\"pm2\":[{\"script\":\"a.js\"}]}",
        "[{\"script\":\"a.js\"}]",
        "{\"script\":\"a.js\"}",
    ] {
        assert_eq!(apps("x.json", text), app, "{text}");
    }
    assert_eq!(apps("x.yaml", "apps:\n  - script: a.js\n"), app);
    assert_eq!(
        apps(
            "x.config.js",
            "console.log('noise'); module.exports = {apps: [{script: 'a.js', f() {}}]}"
        ),
        app
    );
    assert_eq!(
        apps("x.config.mjs", "export default {apps: [{script: 'a.js'}]}"),
        app
    );
    assert_eq!(
        apps(
            "x.config.cjs",
            "module.exports = Promise.resolve({apps: [{script: 'a.js'}]})"
        ),
        app
    );
}

#[test]
fn what_a_file_prints_is_kept_apart() {
    let config = loaded(
        "x.config.js",
        "console.log('noise'); module.exports = {apps: [], deploy: {a: 1}}",
    );
    let config = config.expect("a configuration");
    assert_eq!(
        (config.printed.trim(), config.deploy),
        ("noise", Some(json!({"a": 1})))
    );
}

#[test]
fn errors_name_the_file_and_say_what_node_says() {
    let error = loaded("x.config.js", "throw new Error('boom')")
        .expect_err("it throws")
        .to_string();
    assert!(
        error.starts_with("File x.config.js malformated\nError: boom\n"),
        "{error}"
    );
    let error = loaded("x.json", "{\"apps\":").expect_err("it is cut").to_string();
    assert!(
        error.starts_with("File x.json malformated\n") && error.contains("SyntaxError"),
        "{error}"
    );
    let error = load(Path::new("/nonexistent"), "no.json").expect_err("it is not there");
    assert_eq!(error.to_string(), "File no.json not found");
    let error = loaded("x.config.js", "process.exit(0)")
        .expect_err("it leaves")
        .to_string();
    assert!(error.contains("malformated"), "{error}");
}

#[test]
fn a_static_entry_is_an_app() {
    let apps = apps(
        "x.json",
        "{\"static\": [{\"path\": \"dir\", \"port\": 8124, \"spa\": true}]}",
    );
    assert_eq!(apps[0]["name"], "static-page-server-8124");
    assert_eq!(apps[0]["env"]["PM2_SERVE_SPA"], true);
    assert_eq!(apps[0]["env"]["PM2_SERVE_BASIC_AUTH_USERNAME"], "null");
}

#[test]
fn garbage_does_no_harm() {
    for text in [
        "[".repeat(5000).as_str(),
        "{a",
        "'",
        "{'a':",
        "/*",
        "{\"a\":1}x",
        "é",
        "\\",
    ] {
        assert_eq!(read_expression(text), None, "{text}");
    }
}
