//! The JSON of PM2's port 9615.

use serde_json::{Value, json};
use upkeep_e2e::{app, apply, says, wait_running, with};
use upkeep_testkit::Home;

use crate::{address, ask, listening, run_ok, set};

#[test]
fn the_json_has_what_pm2_told() {
    let home = Home::new();
    let secret = json!({"instances": 2, "env": {"PASSWORD": "geheim"}});
    apply(&home, &[with(app(&home, "shop", &["wait"]), secret)]);
    apply(&home, &[app(&home, "down", &["wait"])]);
    home.ok(["stop", "down"]);
    wait_running(&home, "shop", 2);
    let url = home.ok(["web", "--health-port", "127.0.0.1:0"]);
    says(&url, &["http://127.0.0.1:"]);
    let at = address(&listening(&home, "pm2_health"));
    let answer = ask(at, "GET /", &[], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = answer.json();
    // The keys of 2013.
    for (whole, keys) in [
        (&page, &["system_info", "monit", "processes"][..]),
        (&page["system_info"], &["hostname", "uptime"]),
        (
            &page["monit"],
            &["loadavg", "total_mem", "free_mem", "cpu", "interfaces"],
        ),
    ] {
        for key in keys {
            assert!(!whole[key].is_null(), "`{key}` is not in {whole}");
        }
    }
    let processes = page["processes"].as_array().expect("a list");
    assert_eq!(processes.len(), 3);
    for process in processes {
        for key in ["pid", "pm_id", "status", "opts", "monit", "name", "pm2_env"] {
            assert!(!process[key].is_null(), "`{key}` is not in {process}");
        }
        assert!(process["monit"]["memory"].is_u64() && process["monit"]["cpu"].is_number());
    }
    let status = |name: &str| -> Vec<&Value> {
        let of = processes.iter().filter(|process| process["name"] == name);
        of.map(|process| &process["pm2_env"]["status"]).collect()
    };
    assert_eq!(status("shop"), [&json!("online"), &json!("online")]);
    assert_eq!(status("down"), [&json!("stopped")]);
    assert!(!String::from_utf8_lossy(&answer.body).contains("geheim"));
    // What Node says of the same machine.
    let node = run_ok(
        &home,
        "node",
        &[
            "-e",
            "const os = require('os'); console.log(JSON.stringify({i: os.networkInterfaces(), c: os.cpus(), m: os.totalmem(), h: os.hostname()}))",
        ],
    );
    let node: Value = serde_json::from_str(&node).expect("JSON");
    let monit = &page["monit"];
    let of_lo = |interfaces: &Value| -> Vec<Value> {
        let mut list = interfaces["lo"].as_array().cloned().unwrap_or_default();
        for entry in &mut list {
            // Newer Nodes tell it of IPv6.
            entry.as_object_mut().map(|entry| entry.remove("scopeid"));
        }
        list
    };
    assert_eq!(of_lo(&monit["interfaces"]), of_lo(&node["i"]));
    assert_eq!(monit["total_mem"], node["m"]);
    assert_eq!(page["system_info"]["hostname"], node["h"]);
    let (ours, theirs) = (&monit["cpu"], &node["c"]);
    assert_eq!(ours.as_array().map(Vec::len), theirs.as_array().map(Vec::len));
    assert_eq!(ours[0]["model"], theirs[0]["model"]);
    for key in ["user", "nice", "sys", "idle", "irq"] {
        assert!(ours[0]["times"][key].is_u64(), "{ours}");
    }
    // Any other path, with a right status; nothing can be changed; the API is not here.
    for path in ["/nothing", "/v1/apps", "/v1/daemon/kill"] {
        let answer = ask(at, &format!("GET {path}"), &[], "");
        assert_eq!(
            (answer.status, answer.json()),
            (404, json!({"err": "404"})),
            "{path}"
        );
    }
    let post = ask(at, "POST /", &[], "{}");
    assert_eq!(
        (post.status, post.header("allow")),
        (405, Some("get, head")),
        "{post:?}"
    );
    assert_eq!(ask(at, "GET /", &[("Host", "evil.example")], "").status, 403);
    set(&home, "{}");
    assert!(home.json(["ping"])["listeners"].is_null());
}
