//! What a configuration becomes.

use serde_json::json;

use super::*;

fn checked(given: Value) -> Checked {
    match given {
        Value::Object(given) => check(&given),
        other => panic!("no object: {other}"),
    }
}

fn conf(given: Value) -> Value {
    let checked = checked(given);
    assert_eq!(checked.errors, Vec::<String>::new());
    Value::Object(checked.conf)
}

#[test]
fn aliases_and_camel_case_mean_the_attribute() {
    let conf = conf(
        json!({"exec": "a.js", "maxMemoryRestart": "1K", "killTimeout": "3", "outFile": "o", "cron": "0",
        "interpreterArgs": "-x 'a b'", "execMode": "fork", "env_x": {"A": 1}, "unknown": 1}),
    );
    assert_eq!(conf["script"], "a.js");
    assert_eq!(conf["max_memory_restart"], 1024);
    assert_eq!(conf["kill_timeout"], 3);
    assert_eq!(conf["out_file"], "o");
    assert_eq!(conf["node_args"], json!(["-x", "a b"]));
    assert_eq!(conf["exec_mode"], "fork_mode");
    assert_eq!(conf["cron_restart"], 0);
    assert_eq!(conf["env_x"], json!({"A": 1}));
    assert!(conf.get("unknown").is_none());
}

#[test]
fn keys_come_in_the_order_of_a_record() {
    let conf = conf(json!({"kill_timeout": 1, "watch": true, "script": "a", "env": {}, "name": "n"}));
    let keys: Vec<_> = conf
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "script",
            "name",
            "env",
            "kill_timeout",
            "vizion",
            "autostart",
            "autorestart",
            "watch",
            "instance_var",
            "pmx",
            "automation",
            "treekill",
            "windowsHide",
            "kill_retry_time"
        ]
    );
}

#[test]
fn what_is_false_is_left_out_where_it_means_nothing() {
    let conf = conf(
        json!({"merge_logs": false, "wait_ready": false, "vizion": false, "watch": false, "instances": 0,
        "restart_delay": 0}),
    );
    assert!(
        conf["merge_logs"] == false
            && conf.get("wait_ready").is_none()
            && conf.get("restart_delay").is_none()
    );
    assert_eq!(
        (&conf["vizion"], &conf["watch"], &conf["instances"]),
        (&json!(false), &json!(false), &json!(0))
    );
}

#[test]
fn complaints_are_in_the_words_of_pm2() {
    let errors = checked(
        json!({"name": 4, "watch": 3, "min_uptime": "5q", "max_restarts": -1, "kill_timeout": "x",
        "max_memory_restart": "5X", "exec_mode": "foo"}),
    )
    .errors;
    assert_eq!(
        errors,
        [
            "Expect \"name\" to be a typeof [object String], but now is [object Number]",
            "Verify \"max_memory_restart\" with regex failed, it should be a NUMBER - byte, \"[NUMBER]G\"(Gigabyte), \
         \"[NUMBER]M\"(Megabyte) or \"[NUMBER]K\"(Kilobyte)",
            "Expect \"kill_timeout\" to be a typeof [object Number], but now is [object String]",
            "Expect \"watch\" to be a typeof [object Boolean] / [object Array] / [object String], but now is [object Number]",
            "Verify \"min_uptime\" with regex failed, it should be a NUMBER - milliseconds, \"[NUMBER]h\"(hours), \
         \"[NUMBER]m\"(minutes) or \"[NUMBER]s\"(seconds)",
            "The minimum of \"max_restarts\" is 0, but now is -1",
            "Verify \"exec_mode\" with regex failed, it should be \"cluster\"(\"cluster_mode\") or \"fork\"(\"fork_mode\") only",
        ]
    );
}

#[test]
fn a_command_line_is_split_outside_of_quotes() {
    assert_eq!(
        split_arguments("x \"y z\" --k=\"a b\" 'q'"),
        ["x", "y z", "--k=\"a b\"", "q"]
    );
    assert!(split_arguments("  ").is_empty());
}

#[test]
fn patterns_of_times_are_looked_at() {
    for good in [
        "* * * * *",
        "*/5 0-3 * JAN-DEC MON",
        "1 2 3 4 5 6",
        "0 0 L * *",
        "@daily",
    ] {
        assert_eq!(check_cron(good), Ok(()), "{good}");
    }
    for bad in [
        "hello",
        "* * * *",
        "61 * * * *",
        "* * * * MOO",
        "*/0 * * * *",
        "5-1 * * * *",
    ] {
        assert!(check_cron(bad).is_err(), "{bad}");
    }
}
