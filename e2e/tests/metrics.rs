//! Figures: true, scraped by the real Prometheus, kept over the death of the daemon; leaks of real programs.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_e2e::{Http, LONG, app, apply, ended, events, kill_daemon, says, wait_running, with, write_apps};
use upkeep_testkit::{Home, Signal, kill, node, pass, prometheus, wait_until};

/// Sets settings of the machine.
fn set(home: &Home, text: &str) {
    let file = home.write("settings.yaml", text);
    home.ok(["settings", "set", &file.display().to_string()]);
}

/// Has figures scraped on a port of loopback; gives the address.
fn scraped(home: &Home) -> SocketAddr {
    set(home, "metrics: {listen: '127.0.0.1:0'}");
    wait_until("the address to scrape", LONG, || {
        let log = std::fs::read_to_string(home.path().join("run/daemon.log")).unwrap_or_default();
        let address = log
            .rsplit_once("scraped on http://")
            .and_then(|(_, rest)| rest.split_once("/metrics")?.0.parse().ok());
        address.ok_or(log)
    })
}

/// Asks over TCP: status, head, body.
fn get(address: SocketAddr, path: &str, accept: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect_timeout(&address, LONG).expect("somebody listens");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.expect("a status"), head.to_owned(), body.to_owned())
}

/// The series of a figure, of every instance: values from `since` on.
fn series(home: &Home, app: &str, metric: &str) -> Vec<Value> {
    let path = format!("/v1/metrics?apps={app}&metrics={metric}&since=-600&per=instance&points=1000");
    let answer = Http::ask(home, "GET", &path, b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["series"].as_array().cloned().unwrap_or_default()
}

/// The last value that is known of a figure of an instance.
fn newest(home: &Home, app: &str, index: u64, metric: &str) -> Option<f64> {
    series(home, app, metric)
        .iter()
        .find(|series| series["index"] == index)?["values"]
        .as_array()?
        .iter()
        .rev()
        .find_map(Value::as_f64)
}

fn known(values: &Value) -> usize {
    values
        .as_array()
        .map_or(0, |values| values.iter().filter(|value| !value.is_null()).count())
}

#[test]
fn what_is_scraped_is_accepted_by_prometheus_itself() {
    let home = Home::new();
    apply(
        &home,
        &[with(app(&home, "shop", &["wait"]), json!({"instances": 2}))],
    );
    wait_running(&home, "shop", 2);
    let address = scraped(&home);
    let page = wait_until("figures of both instances", LONG, || {
        let (status, _, page) = get(address, "/metrics", "*/*");
        let found = page.matches("\nupkeep_instance_memory_bytes{").count();
        if (status, found) == (200, 2) {
            Ok(page)
        } else {
            Err(page)
        }
    });
    assert!(
        page.contains("upkeep_instance_up{app=\"shop\",index=\"1\"} 1\n"),
        "{page}"
    );
    let age = page
        .lines()
        .find_map(|line| line.strip_prefix("upkeep_last_sample_age_seconds "));
    assert!(
        age.and_then(|age| age.parse().ok())
            .is_some_and(|age: f64| age < 15.0),
        "{age:?}"
    );
    // The real linter.
    let promtool = prometheus::program("promtool").expect("Debian's prometheus");
    let mut lint = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut input = lint.stdin.take().expect("a pipe");
    input.write_all(page.as_bytes()).expect("read");
    drop(input);
    let verdict = lint.wait_with_output().expect("a verdict");
    assert!(verdict.status.success(), "{verdict:?}\n{page}");
    assert!(
        verdict.stdout.is_empty() && verdict.stderr.is_empty(),
        "{verdict:?}"
    );
    // OpenMetrics for who asks for it.
    let (_, head, page) = get(address, "/metrics", "application/openmetrics-text;version=1.0.0");
    assert!(
        head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(page.ends_with("# EOF\n"), "{page}");
    // The real server, which asks for OpenMetrics and refuses a page with one wrong line.
    let config = home.write(
        "prometheus.yml",
        &format!(
            "scrape_configs:\n- job_name: upkeep\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{address}']\n"
        ),
    );
    let program = prometheus::program("prometheus").expect("Debian's prometheus");
    let listen = upkeep_testkit::free_address();
    let mut server = Command::new(&program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            home.work().join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={listen}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus");
    let asked = |query: &str| -> Value {
        let Ok(mut stream) = TcpStream::connect_timeout(&listen, LONG) else {
            return Value::Null;
        };
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        let mut text = String::new();
        let _ = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.read_to_string(&mut text).map(drop));
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    };
    let seen = upkeep_testkit::try_wait_until("prometheus", LONG, || {
        let answer = asked("sum(upkeep_instance_up)");
        match answer["data"]["result"][0]["value"][1].as_str() {
            Some("2") => Ok(asked("upkeep_instance_cpu_seconds_total")),
            _ => Err(format!("{answer}; {}", asked("up"))),
        }
    });
    kill(i32::try_from(server.id()).expect("a pid"), Signal::TERM).expect("it runs");
    server.wait().expect("it ends");
    let seen = seen.unwrap_or_else(|last| panic!("prometheus does not see both: {last:?}"));
    assert_eq!(seen["data"]["result"].as_array().map(Vec::len), Some(2), "{seen}");
}

#[test]
fn it_says_whether_it_is_well_and_nothing_else_is_on_the_port() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let address = scraped(&home);
    for (path, wanted) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let (status, _, body) = get(address, path, "*/*");
        assert_eq!((status, body.as_str()), (200, wanted));
        let answer = Http::ask(&home, "GET", path, b"");
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, wanted.as_bytes()),
            "{answer:?}"
        );
    }
    for path in ["/v1/apps", "/v1/events", "/", "/metrics/x"] {
        assert_eq!(get(address, path, "*/*").0, 404, "{path}");
    }
    let file = home.write("open.yaml", "metrics: {listen: '0.0.0.0:9464'}");
    let refused = home.cmd(["settings", "set", &file.display().to_string()]);
    assert_ne!(refused.code, 0);
    says(&refused.stderr, &["loopback"]);
    // It is closed when it is no longer wanted.
    set(&home, "{}");
    wait_until("the port to be closed", LONG, || {
        TcpStream::connect(address).map_or(Ok(()), |_| Err("open".to_owned()))
    });
}

#[test]
fn figures_are_those_of_the_kernel_and_outlive_the_daemon() {
    let home = Home::new();
    let script = ["alloc", "60", "write-lines", "forever", "--rate", "50/s"];
    apply(&home, &[app(&home, "shop", &script)]);
    wait_running(&home, "shop", 1);
    let pid = home.instance("shop", 0)["pid"].as_u64().expect("a process");
    let of_kernel = |word: &str| -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(word)).expect("known");
        let number = line
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok());
        number.expect("a number")
    };
    wait_until("memory as the kernel tells it", LONG, || {
        let (ours, kernels) = (newest(&home, "shop", 0, "memory"), of_kernel("VmRSS") * 1024.0);
        match ours {
            Some(ours) if kernels > 60e6 && (ours - kernels).abs() < kernels * 0.05 => Ok(()),
            _ => Err(format!("{ours:?}, {kernels}")),
        }
    });
    wait_until("open files and threads", LONG, || {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("it runs")
            .count() as f64;
        let found = [
            newest(&home, "shop", 0, "fds"),
            newest(&home, "shop", 0, "threads"),
        ];
        let wanted = [Some(fds), Some(of_kernel("Threads"))];
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found:?}, {wanted:?}"))
        }
    });
    wait_until("lines a second", LONG, || {
        match newest(&home, "shop", 0, "log_lines") {
            Some(rate) if (10.0..=55.0).contains(&rate) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(newest(&home, "shop", 0, "heap_used"), None, "it is no Node");
    let before = known(&series(&home, "shop", "memory")[0]["values"]);
    assert!(before >= 10, "{before}");
    let keeper = home.keeper_pid();
    kill_daemon(keeper);
    wait_until("figures of before and after", LONG, || {
        let answer = upkeep_testkit::try_wait_until("a socket", Duration::from_secs(5), || {
            std::os::unix::net::UnixStream::connect(home.path().join("run/api.sock"))
                .map_err(|error| error.to_string())
        });
        if answer.is_err() {
            return Err("nobody listens".to_owned());
        }
        let series = series(&home, "shop", "memory");
        let now = series.first().map_or(0, |series| known(&series["values"]));
        // At most ten seconds are lost.
        if now + 10 >= before && now > 10 {
            Ok(())
        } else {
            Err(format!("{now} of {before}"))
        }
    });
    let shown = home.ok(["metrics", "shop", "--since", "10m", "--metric", "memory,cpu"]);
    says(&shown, &["memory", "cpu"]);
    ended(&home.cmd(["metrics", "nothing"]), 3);
}

/// Holds on to a megabyte ten times a second.
const LEAKS: &str = "const kept = []; setInterval(() => kept.push(Buffer.alloc(256 << 10, 1)), 100);";
/// Makes as much garbage as it can in a third of its time, and holds on to none.
const GARBAGE: &str = "setInterval(() => {
  const until = Date.now() + 10;
  while (Date.now() < until) String(Array.from({ length: 1000 }, Math.random));
}, 30);";

/// Hours as seconds: windows of two seconds, first judged after half a minute.
#[test]
fn a_node_that_leaks_is_told_and_one_that_makes_garbage_is_not() {
    let home = Home::new();
    let node = node::node(node::VERSIONS[2]).expect("a Node from npm");
    home.write("leaks.js", LEAKS);
    home.write("garbage.js", GARBAGE);
    let run = |script: &str| json!({"name": script, "command": [node, format!("{script}.js")]});
    let leaky = with(run("leaks"), json!({"restart": "no", "limits": {"memory": "2G"}}));
    write_apps(&home, "upkeep.json", &[leaky, run("garbage")]);
    let mut start = home.command(["start", "upkeep.json"]);
    start.env("UPKEEP_LEAK_SPANS", "10,2,16");
    ended(&home.finish(start, LONG), 0);
    let of_kind = |kind: &str| -> Vec<Value> {
        events(&home)
            .into_iter()
            .filter(|event| event["what"] == kind)
            .collect()
    };
    let told = wait_until("the leak to be told", Duration::from_mins(2), || {
        of_kind("leak")
            .into_iter()
            .next()
            .ok_or_else(|| "nothing yet".to_owned())
    });
    assert_eq!(told["target"], "leaks:0", "{told}");
    says(
        told["why"].as_str().unwrap_or_default(),
        &["memory has grown by", "its limit of 2048M in"],
    );
    says(&home.ok(["show", "leaks"]), &["leak: memory has grown by"]);
    says(&home.ok(["why", "leaks"]), &["leak: memory has grown by"]);
    // Two and a half megabytes a second, less what a busy machine does not let it do: the order of it.
    let rate = told["details"]["per_hour"].as_f64().expect("a rate") / 3600.0 / f64::from(1 << 20);
    assert!((0.25..=25.0).contains(&rate), "{rate} MiB/s");
    pass(Duration::from_secs(10));
    let told = of_kind("leak");
    assert!(told.iter().all(|event| event["target"] == "leaks:0"), "{told:?}");
    // Its end is told, and its dossier knows.
    let pid = home.instance("leaks", 0)["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok());
    kill(pid.expect("it runs"), Signal::KILL).expect("it runs");
    wait_until("its end", LONG, || {
        let ended = of_kind("leak_ended");
        if ended.iter().any(|event| event["why"] == "its process has ended") {
            Ok(())
        } else {
            Err(format!("{ended:?}"))
        }
    });
    wait_until("its dossier", LONG, || {
        let shown = home.cmd(["why", "leaks"]).stdout;
        if shown.contains("it leaked: ") {
            Ok(())
        } else {
            Err(shown)
        }
    });
}

#[test]
fn a_worker_of_node_tells_its_own_figures() {
    let home = Home::new();
    let node = node::node(node::VERSIONS[2]).expect("a Node from npm");
    home.write(
        "web.js",
        "require('http').createServer((_, answer) => answer.end('x')).listen(0);
         setInterval(() => { const until = Date.now() + 150; while (Date.now() < until); }, 300);
         new (require('worker_threads').Worker)('setInterval(() => {}, 1000)', { eval: true });",
    );
    let shop = json!({"name": "shop", "command": [node, "web.js"], "mode": "cluster", "instances": 2});
    let mute = json!({"name": "mute", "command": [node, "web.js"]});
    apply(&home, &[shop, mute]);
    for index in 0..2 {
        home.wait_for("shop", index, "running");
        wait_until("what the worker says", LONG, || {
            let [delay, used, total] = ["event_loop_delay", "heap_used", "heap_total"]
                .map(|metric| newest(&home, "shop", index, metric));
            match (delay, used, total) {
                // It blocks for 150 ms every 300: a delay of some tens of milliseconds on the mean.
                (Some(delay), Some(used), Some(total))
                    if (0.01..1.0).contains(&delay) && used > 1e6 && used <= total =>
                {
                    Ok(())
                }
                other => Err(format!("{index}: {other:?}")),
            }
        });
    }
    // Who has no channel says nothing: no value, and not zero.
    assert_eq!(newest(&home, "mute", 0, "heap_used"), None);
    for index in 0..2 {
        assert_eq!(
            home.instance("shop", index)["restarts"],
            0,
            "a thread of it has brought it down"
        );
    }
}
