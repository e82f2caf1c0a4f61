//! A real nginx under load, and configurations that do not hold: one that nginx refuses, one that answers nothing good.
//! The old one never stops answering.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use upkeep_testkit::{
    Home, free_port,
    load::{Kind, Load},
    pass, wait_until,
};

const LONG: Duration = Duration::from_mins(1);

/// Where Debian has it; not everybody's PATH has that folder.
const PROGRAM: &str = "/usr/sbin/nginx";

/// A configuration that answers `body`; `health` is what `/healthz` answers with.
fn configuration(home: &Home, listen: &str, body: &str, health: u16, more: &str) -> String {
    let root = home.work().display().to_string();
    format!(
        "worker_processes 1; error_log stderr; {more}
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{
    listen {listen};
    location = /healthz {{ return {health}; }}
    location / {{ return 200 '{body}'; }}
  }}
}}
"
    )
}

struct Stage {
    home: Home,
    port: u16,
}

impl Stage {
    fn start(home: Home, port: u16, app: &Value) -> Self {
        home.write("web.json", &json!({ "apps": [app] }).to_string());
        home.ok(["start", "web.json"]);
        let stage = Self { home, port };
        stage.wait_ready();
        stage
    }

    fn wait_ready(&self) {
        wait_until("nginx to be ready", LONG, || {
            let instance = self.home.instance("web", 0);
            if instance["ready"] == true {
                Ok(())
            } else {
                Err(instance.to_string())
            }
        });
    }

    fn load(&self, kind: Kind) -> Load {
        let load = Load::start(SocketAddr::from(([127, 0, 0, 1], self.port)), kind, 6);
        wait_until("the load to have begun", LONG, || {
            if load.answered() > 20 {
                Ok(())
            } else {
                Err(load.failed().to_string())
            }
        });
        load
    }
}

/// What nginx itself says of a configuration decides, before anything is touched.
pub(crate) fn refused() {
    let home = Home::new();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    home.write("nginx.conf", &configuration(&home, &listen, "one", 204, ""));
    let conf = home.work().join("nginx.conf").display().to_string();
    let app = json!({
        "name": "web",
        "command": [PROGRAM, "-c", conf, "-g", "daemon off; pid nginx.pid;", "-p", home.work()],
        "listen": [listen],
        // nginx takes sockets that it is handed if it is told their numbers so.
        "env": {"NGINX": "{fd:0};"},
        "stop": {"signal": "SIGQUIT"},
        "restart": {"min_uptime": "300ms"},
        "rollout": {"settle": "200ms"},
    });
    let stage = Stage::start(home, port, &app);
    let (kept, each) = (stage.load(Kind::KeepAlive), stage.load(Kind::PerRequest));
    let pid = stage.home.instance("web", 0)["pid"].clone();
    stage.home.write(
        "nginx.conf",
        &configuration(&stage.home, &listen, "two", 204, "no_such_word on;"),
    );
    for verb in ["reload", "restart"] {
        let output = stage.home.cmd([verb, "web"]);
        assert!(output.code != 0, "{output:?}");
        assert!(
            output.stderr.contains("unknown directive \"no_such_word\""),
            "{output:?}"
        );
        assert!(output.stderr.contains("was not touched"), "{output:?}");
    }
    assert_eq!(stage.home.instance("web", 0)["pid"], pid, "nothing was touched");
    for (load, kind) in [
        (kept, "kept connections"),
        (each, "a connection for each request"),
    ] {
        let tally = load.stop();
        tally.assert_none_failed(kind);
        assert_eq!(
            tally.bodies.keys().collect::<Vec<_>>(),
            ["one"],
            "the old one answers"
        );
    }
    // Repaired, it is replaced; connections that are made for each request see nothing of it.
    stage
        .home
        .write("nginx.conf", &configuration(&stage.home, &listen, "two", 204, ""));
    let each = stage.load(Kind::PerRequest);
    stage.home.ok(["reload", "web"]);
    pass(Duration::from_millis(300));
    let tally = each.stop();
    tally.assert_none_failed("a reload of nginx");
    assert!(tally.bodies.contains_key("two"), "{:?}", tally.bodies);
}

/// A configuration that nginx accepts and that is no good: what `/healthz` says keeps it from getting work, and the
/// old one is what runs afterwards. Then one that is good, and the way back from it by hand.
pub(crate) fn gated_and_rolled_back() {
    let home = Home::new();
    let port = free_port();
    for (name, body, health) in [("one", "one", 204), ("bad", "bad", 500), ("two", "two", 204)] {
        home.write(
            &format!("{name}.conf"),
            &configuration(&home, "127.0.0.1:@PORT@", body, health, ""),
        );
    }
    let version = |name: &str| {
        let line = format!(
            "sed s/@PORT@/$PORT/ {name}.conf > run-$PORT.conf && exec {PROGRAM} -p . -c run-$PORT.conf -g \"daemon off; pid run-$PORT.pid;\""
        );
        json!({
            "name": "web",
            "command": ["sh", "-c", line],
            "door": {"listen": [format!("127.0.0.1:{port}")], "drain": "5s"},
            "readiness": {"http": "/healthz", "period": "1s"},
            "stop": {"signal": "SIGQUIT"},
            "rollout": {"settle": "200ms", "timeout": "3s", "watch": "500ms"},
        })
    };
    let stage = Stage::start(home, port, &version("one"));
    let apply = |name: &str| {
        let text = json!({ "apps": [version(name)] }).to_string();
        stage.home.write("web.json", &text);
        stage.home.cmd(["apply", "web.json"])
    };
    let (kept, each) = (stage.load(Kind::KeepAlive), stage.load(Kind::PerRequest));
    let output = apply("bad");
    assert!(output.code != 0, "{output:?}");
    assert!(output.stderr.contains("not ready within"), "{output:?}");
    assert!(
        output.stderr.contains("what was there before runs again"),
        "{output:?}"
    );
    stage.wait_ready();
    for load in [kept, each] {
        let tally = load.stop();
        tally.assert_none_failed("a configuration that is no good");
        assert_eq!(
            tally.bodies.keys().collect::<Vec<_>>(),
            ["one"],
            "the bad one got no request"
        );
    }
    let (kept, each) = (stage.load(Kind::KeepAlive), stage.load(Kind::PerRequest));
    let output = apply("two");
    assert!(output.code == 0, "{output:?}");
    stage.home.ok(["rollback", "web"]);
    pass(Duration::from_millis(300));
    for load in [kept, each] {
        let tally = load.stop();
        tally.assert_none_failed("a good one and the way back");
        assert_eq!(tally.bodies.keys().collect::<Vec<_>>(), ["one", "two"]);
    }
}

/// Whether nginx is there.
pub(crate) fn is_there() -> bool {
    std::path::Path::new(PROGRAM).exists()
}
