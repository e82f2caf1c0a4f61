//! Health checks of real programs: what is not ready gets no work, what does no good is replaced, and every verdict
//! has its reason.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use upkeep_e2e::{LONG, apply, events, kill_daemon};
use upkeep_testkit::{Home, free_port, pass, wait_until};

/// A web server with faults: `/turn/bad`, `/turn/hang` and `/turn/good` change what `/healthz` answers.
const SERVER: &str = r#"
import http.server, socketserver, sys, time, threading
mode = "good"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global mode
        if self.path.startswith("/turn/"):
            mode = self.path.split("/")[2]
        elif mode == "hang":
            time.sleep(3600)
        code = 200 if mode == "good" or self.path.startswith("/turn/") else 503
        if self.path == "/header" and self.headers.get("X-Probe") != "yes":
            code = 403
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
print("serving", flush=True)
server.serve_forever()
"#;

/// Says by sd_notify what its arguments tell it to, one after another; `sleep:S` waits, `pet:S` sends WATCHDOG=1 for that long.
const SPEAKER: &str = r#"
import os, signal, socket, sys, time
def say(text):
    name = os.environ["NOTIFY_SOCKET"]
    if name[0] == "@":
        name = "\0" + name[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(text.encode(), name)
def end(signum, frame):
    say("STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000")
    time.sleep(float(os.environ.get("LINGER", "0")))
    os._exit(0)
signal.signal(signal.SIGTERM, end)
for word in sys.argv[1:]:
    verb, _, value = word.partition(":")
    if verb == "sleep":
        time.sleep(float(value))
    elif verb == "pet":
        until = time.time() + float(value)
        while time.time() < until:
            say("WATCHDOG=1")
            time.sleep(0.05)
    elif verb == "env":
        print(value, os.environ.get(value), os.getpid(), flush=True)
    else:
        say(word)
time.sleep(3600)
"#;

fn script(home: &Home, name: &str, text: &str) -> String {
    let path: PathBuf = home.write(name, text);
    path.to_str().expect("text").to_owned()
}

fn server(home: &Home, name: &str, port: u16, more: Value) -> Value {
    let file = script(home, "server.py", SERVER);
    let app = json!({"name": name, "command": ["python3", file, port.to_string()]});
    upkeep_e2e::with(app, more)
}

fn speaker(home: &Home, name: &str, words: &[&str], more: Value) -> Value {
    let file = script(home, "speaker.py", SPEAKER);
    let mut command = vec!["python3".to_owned(), file];
    command.extend(words.iter().map(|word| (*word).to_owned()));
    upkeep_e2e::with(json!({"name": name, "command": command}), more)
}

fn turn(port: u16, how: &str) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it serves");
    write!(stream, "GET /turn/{how} HTTP/1.0\r\n\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.contains(" 200 "), "{answer}");
}

/// Waits until the instance is as wanted; the last look is told if it is not.
#[track_caller]
fn wait(home: &Home, app: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_until(&format!("{app}: {what}"), LONG, || {
        let instance = home.instance(app, 0);
        if wanted(&instance) {
            Ok(instance)
        } else {
            Err(format!("{instance}"))
        }
    })
}

fn is_ready(instance: &Value) -> bool {
    instance["ready"] == true
}

fn restarted(times: i64) -> impl Fn(&Value) -> bool {
    move |instance| instance["restarts"].as_i64() >= Some(times) && instance["actual"] == "running"
}

fn why(home: &Home, app: &str) -> String {
    home.ok(["why", app])
}

const QUICK: &str = "100ms";

#[test]
fn an_http_server_that_turns_bad_is_unready_then_replaced_with_the_reason() {
    let home = Home::new();
    let port = free_port();
    let check = json!({"http": {"port": port, "path": "/header", "headers": {"X-Probe": "yes"}}, "period": QUICK, "timeout": "2s"});
    let liveness = json!({"httpGet": {"port": port, "path": "/healthz"}, "period": QUICK, "failureThreshold": 6, "timeoutSeconds": 2});
    // However long it takes to start: only what it does afterwards is looked at.
    let startup = json!({"tcp": port, "period": QUICK, "failure_threshold": 300});
    let more = json!({"startup": startup, "readiness": check, "liveness": liveness, "restart": {"backoff": "50ms"}, "stop": {"grace": "2s"}});
    apply(&home, &[server(&home, "web", port, more)]);
    let before = wait(&home, "web", "ready", is_ready);
    turn(port, "bad");
    let unready = wait(&home, "web", "not ready", |instance| instance["ready"] == false);
    let reason = unready["why"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("503"), "{unready}");
    let after = wait(&home, "web", "replaced", |instance| {
        restarted(1)(instance) && is_ready(instance)
    });
    assert_ne!(before["pid"], after["pid"]);
    let cause = after["why"].as_str().unwrap_or_default();
    assert!(
        cause.contains("started again because it was not alive"),
        "{after}"
    );
    assert!(
        cause.contains("503") && cause.contains("6 times in a row"),
        "{after}"
    );
    assert!(
        events(&home).iter().any(|event| event["what"] == "unhealthy"),
        "{:?}",
        events(&home)
    );
    let shown = home.ok(["show", "web"]);
    assert!(shown.contains("readiness GET http://127.0.0.1:"), "{shown}");
    assert!(shown.contains("ok, "), "{shown}");
}

/// A check that never answers holds nothing up: another app's check goes on, orders are answered, and the hung one counts.
#[test]
fn a_hanging_server_is_replaced_and_delays_nobody() {
    let home = Home::new();
    let (hung, fine) = (free_port(), free_port());
    let probe = |port| json!({"http": {"port": port, "path": "/healthz"}, "period": QUICK, "timeout": "300ms", "failure_threshold": 3});
    let startup = |port| json!({"tcp": port, "period": QUICK, "failure_threshold": 300});
    let more = |port| json!({"startup": startup(port), "readiness": probe(port), "liveness": probe(port), "restart": {"backoff": "50ms"}, "stop": {"signal": "SIGKILL"}});
    apply(
        &home,
        &[
            server(&home, "hung", hung, more(hung)),
            server(&home, "fine", fine, more(fine)),
        ],
    );
    wait(&home, "hung", "ready", is_ready);
    wait(&home, "fine", "ready", is_ready);
    turn(hung, "hang");
    let after = wait(&home, "hung", "replaced", restarted(1));
    assert!(
        after["why"]
            .as_str()
            .unwrap_or_default()
            .contains("no answer within 300ms"),
        "{after}"
    );
    let fine = home.instance("fine", 0);
    assert_eq!(
        (&fine["restarts"], &fine["ready"]),
        (&json!(0), &json!(true)),
        "{fine}"
    );
}

#[test]
fn a_command_is_asked_and_killed_with_its_children_when_it_hangs() {
    let home = Home::new();
    let sick = home.work().join("sick");
    let pids = home.work().join("pids");
    let command = format!(
        "if [ -e {sick} ]; then sleep 1234 & echo $! >> {pids}; echo no good >&2; wait; fi",
        sick = sick.display(),
        pids = pids.display()
    );
    let liveness = json!({"exec": {"command": ["/bin/sh", "-c", command]}, "period": QUICK, "timeout": "300ms", "failure_threshold": 2});
    let app = json!({"name": "job", "command": ["sleep", "1000"], "liveness": liveness, "restart": {"backoff": "10s"}});
    apply(&home, &[app]);
    wait(&home, "job", "a good answer", |instance| {
        instance["health"]["checks"][0]["good"].as_i64() > Some(0)
    });
    fs::write(&sick, "").expect("written");
    let instance = wait(&home, "job", "ended", |instance| {
        instance["actual"] == "backing_off"
    });
    assert!(
        instance["why"]
            .as_str()
            .unwrap_or_default()
            .contains("no answer within 300ms"),
        "{instance}"
    );
    let children = fs::read_to_string(&pids).expect("children were started");
    for pid in children.lines() {
        let pid: i32 = pid.parse().expect("a pid");
        wait_until("the end of the check's child", LONG, || {
            if upkeep_testkit::alive(pid) {
                Err(format!("{pid} lives"))
            } else {
                Ok(())
            }
        });
    }
    fs::remove_file(&sick).expect("removed");
}

#[test]
fn a_line_of_the_log_makes_ready_and_only_one_of_this_process() {
    let home = Home::new();
    let go = home.work().join("go");
    let command = format!(
        "echo booting; while [ ! -e {0} ]; do sleep 0.05; done; rm {0}; echo 'listening on port 80'; exec sleep 1000",
        go.display()
    );
    let app = json!({"name": "log", "command": ["/bin/sh", "-c", command], "readiness": {"log": "^listening on .*[0-9]$"}});
    apply_without_waiting(&home, &[app]);
    wait(&home, "log", "running", |instance| {
        instance["actual"] == "running"
    });
    assert!(!is_ready(&home.instance("log", 0)));
    fs::write(&go, "").expect("written");
    wait(&home, "log", "ready", is_ready);
    home.ok(["restart", "log", "--wait", "0"]);
    let again = wait(&home, "log", "running again", |instance| {
        instance["restarts"] == 1 && instance["actual"] == "running"
    });
    assert!(!is_ready(&again), "the old line does not count: {again}");
    fs::write(&go, "").expect("written");
    wait(&home, "log", "ready again", is_ready);
    home.ok(["delete", "log"]);
}

fn apply_without_waiting(home: &Home, apps: &[Value]) {
    upkeep_e2e::write_apps(home, "upkeep.json", apps);
    home.ok(["start", "upkeep.json", "--wait", "0"]);
}

#[test]
fn sd_notify_tells_readiness_and_status_and_a_stranger_is_not_heard() {
    let home = Home::new();
    let words = [
        "STATUS=warming up",
        "env:NOTIFY_SOCKET",
        "sleep:1",
        "READY=1\nSTATUS=serving",
        "sleep:1",
        "RELOADING=1",
        "sleep:1",
        "READY=1",
    ];
    apply_without_waiting(
        &home,
        &[speaker(
            &home,
            "talk",
            &words,
            json!({"readiness": {"notify": true}}),
        )],
    );
    let warming = wait(&home, "talk", "its status", |instance| {
        instance["health"]["status"] == "warming up"
    });
    assert!(!is_ready(&warming));
    // A process outside of its tree knows the socket and lies.
    let socket = wait_until("its socket", LONG, || {
        let log = String::from_utf8_lossy(&home.log("talk", 0, "out")).into_owned();
        log.split_whitespace().nth(1).map(str::to_owned).ok_or(log)
    });
    let file = home.work().join("speaker.py");
    let mut liar = std::process::Command::new("python3")
        .arg(file)
        .args(["READY=1"])
        .env("NOTIFY_SOCKET", socket)
        .spawn()
        .expect("a liar");
    let lied = wait(&home, "talk", "the lie, refused", |instance| {
        instance["health"]["strangers"].as_i64() > Some(0) || is_ready(instance)
    });
    liar.kill().expect("killed");
    liar.wait().expect("reaped");
    assert_eq!(lied["health"]["strangers"], 1, "{lied}");
    let ready = wait(&home, "talk", "ready", is_ready);
    assert_eq!(ready["health"]["status"], "serving");
    let reloading = wait(&home, "talk", "reloading", |instance| !is_ready(instance));
    assert!(
        reloading["why"]
            .as_str()
            .unwrap_or_default()
            .contains("RELOADING=1"),
        "{reloading}"
    );
    wait(&home, "talk", "ready again", is_ready);
}

/// The socket is held by the keeper: what is said while there is no daemon is heard by the next one.
#[test]
fn what_is_said_while_the_daemon_is_dead_is_heard() {
    let home = Home::new();
    let go = home.work().join("go");
    let program = format!(
        "{SPEAKER_HEAD}\nwhile not os.path.exists({:?}):\n    time.sleep(0.01)\nsay('READY=1\\nSTATUS=said to nobody')\ntime.sleep(3600)\n",
        go.to_str().expect("text"),
        SPEAKER_HEAD = SPEAKER.split("def end").next().expect("its head")
    );
    let file = script(&home, "late.py", &program);
    let app = json!({"name": "late", "command": ["python3", file], "readiness": {"notify": true}});
    apply_without_waiting(&home, &[app]);
    let before = wait(&home, "late", "running", |instance| {
        instance["actual"] == "running"
    });
    let keeper = home.keeper_pid();
    kill_daemon(keeper);
    fs::write(&go, "").expect("written");
    let after = wait(&home, "late", "ready", is_ready);
    assert_eq!(before["pid"], after["pid"]);
    assert_eq!(after["health"]["status"], "said to nobody");
    // And what is ready stays ready. What else was said is noted a tenth of a second later at most.
    pass(Duration::from_millis(500));
    kill_daemon(keeper);
    let again = home.instance("late", 0);
    assert!(is_ready(&again), "{again}");
    assert_eq!(again["health"]["status"], "said to nobody");
    assert_eq!(again["restarts"], 0);
}

#[test]
fn a_watchdog_that_is_not_petted_ends_in_sigabrt_and_a_restart() {
    let home = Home::new();
    let more = json!({
        "readiness": {"notify": true},
        "liveness": {"notify": true, "period": "500ms", "failure_threshold": 2},
        "restart": {"backoff": "50ms"},
    });
    let words = [
        "env:WATCHDOG_USEC",
        "env:WATCHDOG_PID",
        "READY=1",
        "pet:3",
        "sleep:3600",
    ];
    apply(&home, &[speaker(&home, "dog", &words, more)]);
    let first = wait(&home, "dog", "ready", is_ready);
    let told = String::from_utf8_lossy(&home.log("dog", 0, "out")).into_owned();
    assert!(told.contains("WATCHDOG_USEC 1000000 "), "{told}");
    let pid = first["pid"].as_i64().expect("a pid");
    assert!(told.contains(&format!("WATCHDOG_PID {pid} {pid}")), "{told}");
    pass(Duration::from_secs(2));
    assert_eq!(home.instance("dog", 0)["pid"], first["pid"], "it pets, and lives");
    let second = wait(&home, "dog", "replaced", restarted(1));
    assert_ne!(first["pid"], second["pid"]);
    assert!(
        second["why"]
            .as_str()
            .unwrap_or_default()
            .contains("no WATCHDOG=1 within 1s"),
        "{second}"
    );
    assert!(second["last_exit"].to_string().contains('6'), "SIGABRT: {second}");
    assert!(why(&home, "dog").contains("WATCHDOG=1"));
}

#[test]
fn a_slow_start_is_waited_for_and_a_start_that_takes_too_long_is_not() {
    let home = Home::new();
    let (slow, never) = (free_port(), free_port());
    let file = script(&home, "server.py", SERVER);
    let app = |name: &str, port: u16, delay: &str| {
        let line = format!("sleep {delay}; exec python3 {file} {port}");
        json!({
            "name": name, "command": ["/bin/sh", "-c", line],
            "startup": {"tcp": port, "period": "500ms", "failure_threshold": 12},
            "liveness": {"http": {"port": port, "path": "/healthz"}, "period": QUICK, "failure_threshold": 2, "timeout": "2s"},
            "restart": {"backoff": "50ms"}, "stop": {"grace": "1s", "tree": true},
        })
    };
    apply_without_waiting(&home, &[app("slow", slow, "3"), app("never", never, "3600")]);
    let starting = wait(&home, "slow", "starting", |instance| {
        instance["health"]["starting"] == true
    });
    assert!(!is_ready(&starting));
    let list = home.ok(["ls"]);
    assert!(list.contains("starting up"), "{list}");
    let started = wait(&home, "slow", "ready", is_ready);
    assert_eq!(started["restarts"], 0, "liveness waited for it: {started}");
    let replaced = wait(&home, "never", "replaced", restarted(1));
    let reason = replaced["why"].as_str().unwrap_or_default();
    assert!(
        reason.contains("its startup check did not succeed within 6s"),
        "{replaced}"
    );
}

#[test]
fn a_program_may_ask_for_more_time_to_stop() {
    let home = Home::new();
    let more = json!({"readiness": {"notify": true}, "stop": {"grace": "500ms"}, "env": {"LINGER": "2"}});
    apply(&home, &[speaker(&home, "polite", &["READY=1"], more)]);
    wait(&home, "polite", "ready", is_ready);
    home.ok(["stop", "polite"]);
    let stopped = home.instance("polite", 0);
    assert_eq!(
        stopped["last_exit"],
        json!({"code": 0}),
        "it was not killed: {stopped}"
    );
}

/// Node's own word for it, as PM2's `wait_ready` has it.
#[test]
fn a_node_program_says_ready_by_a_message() {
    let home = Home::new();
    let file = script(
        &home,
        "ready.js",
        "setTimeout(() => process.send('ready'), 700); setInterval(() => {}, 1000);",
    );
    let app = json!({"name": "node", "script": file, "readiness": {"message": true}, "startup": {"message": true, "period": "1s", "failure_threshold": 30}});
    apply_without_waiting(&home, &[app]);
    let starting = wait(&home, "node", "running", |instance| {
        instance["actual"] == "running"
    });
    assert!(!is_ready(&starting), "{starting}");
    let ready = wait(&home, "node", "ready", is_ready);
    assert_eq!(ready["restarts"], 0, "{ready}");
}

/// The real `systemd-notify`, where there is one: it waits until its message has been taken.
#[test]
fn the_real_systemd_notify_is_understood() {
    let found = std::process::Command::new("systemd-notify")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        return;
    }
    let home = Home::new();
    let line = "systemd-notify --ready --status='from a shell' && echo taken; exec sleep 1000";
    let app = json!({"name": "shell", "command": ["/bin/sh", "-c", line], "readiness": {"notify": true}});
    apply(&home, &[app]);
    let ready = wait(&home, "shell", "ready", is_ready);
    assert_eq!(ready["health"]["status"], "from a shell");
    wait_until("its answer", Duration::from_secs(4), || {
        let log = String::from_utf8_lossy(&home.log("shell", 0, "out")).into_owned();
        if log.contains("taken") { Ok(()) } else { Err(log) }
    });
}

#[test]
fn checks_that_cannot_be_carried_out_are_refused() {
    let home = Home::new();
    for (more, message) in [
        (json!({"readiness": {"log": "("}}), "no regular expression"),
        (
            json!({"readiness": {"log": "x"}, "logs": {"disabled": true}}),
            "needs logs, which are disabled",
        ),
    ] {
        let app = upkeep_e2e::with(json!({"name": "bad", "command": ["true"]}), more);
        upkeep_e2e::write_apps(&home, "bad.json", &[app]);
        let output = home.cmd(["start", "bad.json"]);
        assert_ne!(output.code, 0);
        assert!(output.stderr.contains(message), "{}", output.stderr);
    }
}
