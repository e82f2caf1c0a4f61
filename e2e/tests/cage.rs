//! What may be harmful does no harm: limits hold, and inside `strict` a fork bomb, a disk filler, a host-file reader and a
//! network caller get nothing, while honest programs run. As root, as `nobody` by root, and under an Upkeep that is not
//! root at all.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_e2e::{LONG, apply, is_root, says, skipped, write_apps};
use upkeep_testkit::{Home, Output, alive, process, wait_until};

/// `nobody` on every distribution we know.
const NOBODY: u32 = 65534;

/// What no caged app may get to see.
const SECRET: &str = "a-secret-of-another-app";

fn log(home: &Home, app: &str) -> String {
    let mut text = String::from_utf8_lossy(&home.log(app, 0, "out")).into_owned();
    text.push_str(&String::from_utf8_lossy(&home.log(app, 0, "err")));
    text
}

fn wait_log(home: &Home, app: &str, word: &str) -> String {
    wait_until(&format!("`{word}` from {app}"), LONG, || {
        let text = log(home, app);
        if text.contains(word) { Ok(text) } else { Err(text) }
    })
}

fn show(home: &Home, app: &str) -> Value {
    home.json(["show", app])
}

/// What is said of the limit of a resource.
fn limit(home: &Home, app: &str, resource: &str) -> Value {
    let shown = show(home, app);
    let limits = shown["limits"].as_array().cloned().unwrap_or_default();
    limits
        .into_iter()
        .find(|limit| limit["resource"] == resource)
        .expect("every resource is spoken of")
}

/// Whether a controller sees to it; if not, that is said.
fn by_cgroup(home: &Home, app: &str, resource: &str) -> bool {
    let limit = limit(home, app, resource);
    let by = limit["by"].as_str().unwrap_or_default().to_owned();
    if by.starts_with("cgroup") {
        return true;
    }
    skipped(&format!("{resource} has no controller here: {limit}"));
    false
}

/// The groups of cgroup v1 that this home's keeper made, by the process of an app.
fn groups_of(pid: i64) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        let controllers = controllers.unwrap_or_default();
        let place = if controllers.is_empty() {
            "unified"
        } else {
            controllers
        };
        if path.contains("/upkeep-") {
            groups.push(
                Path::new("/sys/fs/cgroup")
                    .join(place)
                    .join(path.trim_start_matches('/')),
            );
        }
    }
    groups.retain(|group| group.exists());
    groups
}

/// Users that apps run as: whoever we are, and somebody without rights if we can become that.
fn users() -> Vec<Option<&'static str>> {
    let mut users = vec![None];
    if is_root() && fs::read_to_string("/etc/passwd").is_ok_and(|text| text.contains("\nnobody:")) {
        users.push(Some("nobody"));
    } else {
        skipped("apps as `nobody`: we are not root, or there is none");
    }
    users
}

/// Whether this machine can carry out a level at all; if not, that is said.
fn can(home: &Home, level: &str) -> bool {
    write_apps(
        home,
        "probe.json",
        &[json!({"name": "probe", "command": ["/bin/true"], "sandbox": level, "restart": {"on": "never"}})],
    );
    let output = home.cmd(["start", "probe.json"]);
    let text = output.stdout + &output.stderr;
    home.cmd(["delete", "probe"]);
    let unable = text.contains("failed to prepare sandbox") || text.contains("cannot be limited without");
    if unable {
        skipped(&format!("`{level}` on this machine: {text}"));
    }
    !unable
}

/// The app as that user, under a name of its own: what another has printed is not its.
fn for_user(mut app: Value, user: Option<&str>) -> Value {
    if let Some(user) = user {
        app["user"] = user.into();
        app["name"] = named(app["name"].as_str().unwrap_or_default(), Some(user)).into();
    }
    app
}

fn named(name: &str, user: Option<&str>) -> String {
    user.map_or_else(|| name.to_owned(), |user| format!("{name}-{user}"))
}

/// A home whose directories everybody may enter.
fn open_home() -> Home {
    let home = Home::new();
    for path in [home.work().parent().expect("above it").to_owned(), home.work()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    home
}

#[test]
fn who_takes_too_much_memory_is_killed_and_the_reason_is_told() {
    let home = Home::new();
    apply(
        &home,
        &[json!({
            "name": "hog",
            "command": ["sh", "-c", "sleep 0.3; exec tail /dev/zero"],
            "limits": {"memory": "48M", "tasks": 20},
            "restart": {"on": "never"},
        })],
    );
    if !by_cgroup(&home, "hog", "memory") {
        return;
    }
    assert_eq!(limit(&home, "hog", "memory")["limit"], "48M");
    let instance = wait_until("the end of the hog", LONG, || {
        let instance = home.instance("hog", 0);
        if instance["last_exit"].is_null() {
            Err(instance.to_string())
        } else {
            Ok(instance)
        }
    });
    assert_eq!(instance["last_exit"], "out_of_memory", "{instance}");
    says(instance["why"].as_str().unwrap_or_default(), &["out of memory"]);
    // The event follows the state once it is on the disk.
    wait_until("the event of its exit", LONG, || {
        let events = home.ok(["events", "--json"]);
        if events.contains("\"oom_kills\"") {
            Ok(())
        } else {
            Err(events)
        }
    });
}

#[test]
fn a_busy_app_gets_its_share_of_the_processors_and_no_more() {
    let home = Home::new();
    apply(
        &home,
        &[json!({"name": "busy", "command": ["sh", "-c", "while :; do :; done"], "limits": {"cpu": "20%"}})],
    );
    if !by_cgroup(&home, "busy", "cpu") {
        return;
    }
    says(&limit(&home, "busy", "cpu").to_string(), &["0.2 cores"]);
    let pid = home.instance("busy", 0)["pid"].as_i64().expect("it runs");
    let group = groups_of(pid)
        .into_iter()
        .find(|group| group.join("cpu.stat").exists())
        .expect("its group");
    let stat = |name: &str| -> u64 {
        let text = fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or(0)
    };
    // The kernel's own account: in nearly every period it ran into its limit.
    wait_until("periods of the processor", LONG, || {
        let periods = stat("nr_periods ");
        if periods >= 15 {
            Ok(())
        } else {
            Err(periods.to_string())
        }
    });
    let (periods, throttled) = (stat("nr_periods "), stat("nr_throttled "));
    assert!(throttled * 10 >= periods * 8, "{throttled} of {periods}");
    let used_ms = home.instance("busy", 0)["cpu_percent"].as_f64().unwrap_or(0.0);
    assert!(used_ms < 60.0, "{used_ms} percent");
    says(&limit(&home, "busy", "cpu").to_string(), &["held up"]);
}

#[test]
fn limits_are_changed_without_a_restart() {
    let home = Home::new();
    let app = |limits: Value| json!({"name": "a", "command": ["sleep", "1000"], "limits": limits});
    apply(&home, &[app(json!({"memory": "64M", "tasks": 40}))]);
    if !by_cgroup(&home, "a", "memory") || !by_cgroup(&home, "a", "tasks") {
        return;
    }
    let pid = home.instance("a", 0)["pid"].clone();
    apply(&home, &[app(json!({"memory": "96M"}))]);
    wait_until("the new limit", LONG, || {
        let limit = limit(&home, "a", "memory");
        if limit["limit"] == "96M" {
            Ok(())
        } else {
            Err(limit.to_string())
        }
    });
    assert!(limit(&home, "a", "tasks")["limit"].is_null());
    assert_eq!(home.instance("a", 0)["pid"], pid, "it was not started anew");
    // What never had a limit has no groups either: it is replaced by one that has.
    apply(&home, &[json!({"name": "free", "command": ["sleep", "1000"]})]);
    let pid = home.instance("free", 0)["pid"].clone();
    apply(
        &home,
        &[json!({"name": "free", "command": ["sleep", "1000"], "limits": {"tasks": 9}})],
    );
    wait_until("the limit of the other", LONG, || {
        let limit = limit(&home, "free", "tasks");
        if limit["limit"] == "9" {
            Ok(())
        } else {
            Err(limit.to_string())
        }
    });
    assert_ne!(home.instance("free", 0)["pid"], pid);
}

#[test]
fn a_fork_bomb_ends_with_its_app_and_others_go_on() {
    let home = open_home();
    if !can(&home, "strict") {
        return;
    }
    for user in users() {
        let name = &named("bomb", user);
        let bomb = "trap '' TERM; b() { b | b & }; echo lit; b; while :; do b; sleep 0.01; done";
        apply(
            &home,
            &[for_user(
                json!({
                    "name": "bomb",
                    "command": ["sh", "-c", bomb],
                    "sandbox": "strict",
                    "limits": {"tasks": 60, "cpu": 0.5},
                    "stop": {"grace": "300ms"},
                    "restart": {"on": "never"},
                }),
                user,
            )],
        );
        wait_log(&home, name, "lit");
        let by_cgroup = by_cgroup(&home, name, "tasks");
        let pid = home.instance(name, 0)["pid"].as_i64();
        let groups = pid.map(groups_of).unwrap_or_default();
        if by_cgroup {
            let tasks = groups
                .iter()
                .find(|group| group.join("pids.max").exists())
                .cloned();
            // It wants more, and does not get it.
            wait_log(&home, name, "fork");
            if let Some(tasks) = &tasks {
                let now = fs::read_to_string(tasks.join("pids.current")).unwrap_or_default();
                let now: u64 = now.trim().parse().unwrap_or(0);
                assert!(now <= 60, "{now} tasks");
            }
        }
        // The machine still works: a process is started and answers.
        write_apps(
            &home,
            "other.json",
            &[json!({"name": format!("other-{name}"), "command": [home.child(), "print", "fine", "wait"]})],
        );
        home.ok(["start", "other.json"]);
        wait_log(&home, &format!("other-{name}"), "fine");
        home.ok(["delete", name]);
        wait_until("the end of the bomb", LONG, || {
            let left: Vec<i32> = home
                .processes()
                .into_iter()
                .filter(|pid| process::command_line(*pid).contains("b | b"))
                .collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
        wait_until("the end of its groups", LONG, || {
            match groups.iter().find(|group| group.exists()) {
                None => Ok(()),
                Some(group) => Err(group.display().to_string()),
            }
        });
        home.ok(["delete", &format!("other-{name}")]);
    }
}

#[test]
fn a_disk_filler_fills_what_is_its_own() {
    let home = open_home();
    if !can(&home, "strict") {
        return;
    }
    for user in users() {
        let name = &named("filler", user);
        let data = home.work().join("data");
        fs::create_dir_all(&data).expect("a directory");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("a mode");
        let script = "head -c 900M /dev/zero > /tmp/fill; head -c 900M /dev/zero > /var/tmp/fill
            head -c 900M /dev/zero > /dev/shm/fill; echo x > here; echo x > /usr/here; echo x > /dev/here
            head -c 900M /dev/zero > data/fill; echo $?
            du -k /tmp/fill | cut -f1; echo filled; sleep 1000";
        apply(
            &home,
            &[for_user(
                json!({
                    "name": "filler",
                    "command": ["sh", "-c", script],
                    "sandbox": {"level": "strict", "write": ["data"], "tmp": "4M"},
                    "rlimits": {"fsize": 3_000_000},
                    "restart": {"on": "never"},
                }),
                user,
            )],
        );
        let text = wait_log(&home, name, "filled");
        assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
        assert!(!home.work().join("here").exists() && !Path::new("/usr/here").exists());
        assert!(!Path::new("/tmp/fill").exists() && !Path::new("/dev/shm/fill").exists());
        let size = fs::metadata(data.join("fill")).map_or(0, |meta| meta.len());
        assert!(size > 0 && size <= 3_000_000, "{size} bytes: {text}");
        // 128 + SIGXFSZ.
        says(&text, &["153"]);
        home.ok(["delete", name]);
        fs::remove_dir_all(&data).expect("it is ours");
    }
}

#[test]
fn a_host_file_reader_gets_nothing() {
    let home = open_home();
    if !can(&home, "strict") {
        return;
    }
    let other = home.write("../other/secret", SECRET);
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).expect("a mode");
    let keeper = home.keeper_pid();
    for user in users() {
        for level in ["standard", "strict"] {
            let plain = format!("reader-{level}");
            let name = &named(&plain, user);
            let script = format!(
                "for f in /etc/shadow /etc/gshadow {other} {home}/store.redb {home}/logs/*; do cat $f; done
                 cat {home}/run/api.sock; ls {home} /root /home/* ../h ../h/logs
                 for p in 1 {keeper} {test}; do
                   cat /proc/$p/environ /proc/$p/maps; ls /proc/$p/root/ /proc/$p/cwd/ /proc/$p/fd; kill -0 $p && echo KILLED $p
                 done
                 cat /dev/vda /dev/sda /dev/mem; head -c 20 /proc/kcore; cat /proc/keys
                 echo read; exec sleep 1000",
                other = if level == "strict" { other.display().to_string() } else { "/no".to_owned() },
                home = home.path().display(),
                test = std::process::id(),
            );
            apply(
                &home,
                &[for_user(
                    json!({"name": plain, "command": ["sh", "-c", script], "sandbox": level, "restart": {"on": "never"}}),
                    user,
                )],
            );
            let text = wait_log(&home, name, "read\n");
            let what = format!("{user:?} {level}: {text}");
            for secret in [
                "root:x",
                "root:*",
                "root:!",
                "root:$",
                SECRET,
                "UPKEEP_HOME=",
                "KILLED",
                "store.redb\n",
                "r-xp",
                "ELF",
            ] {
                let said = text
                    .lines()
                    .any(|line| line.contains(secret) && !line.contains("cat: ") && !line.contains("ls: "));
                assert!(!said, "`{secret}` in {what}");
            }
            home.ok(["delete", name]);
        }
    }
}

/// Python, if this machine has one that is installed for everybody.
fn python() -> Option<&'static str> {
    let found = Path::new("/usr/bin/python3").exists();
    if !found {
        skipped("no /usr/bin/python3");
    }
    found.then_some("/usr/bin/python3")
}

#[test]
fn a_network_caller_reaches_nobody() {
    let home = open_home();
    let (true, Some(python)) = (can(&home, "strict"), python()) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a mode");
    let port = listener.local_addr().expect("an address").port();
    let api = home.path().join("run/api.sock");
    let script = format!(
        "import socket
def call(family, address):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(3); s.connect(address); print('REACHED', address)
    except OSError as error:
        print('refused', address, error.errno)
call(socket.AF_INET, ('127.0.0.1', {port}))
call(socket.AF_INET6, ('::1', {port}))
call(socket.AF_INET, ('192.0.2.1', 80))
call(socket.AF_UNIX, '{api}')
for family in (socket.AF_PACKET, socket.AF_VSOCK):
    try:
        socket.socket(family, socket.SOCK_STREAM if family == socket.AF_VSOCK else socket.SOCK_RAW); print('REACHED', family)
    except OSError as error:
        print('refused', family, error.errno)
own = socket.create_server(('127.0.0.1', 0))
socket.create_connection(own.getsockname()).close(); print('own loopback works')
print('called', flush=True)
import time; time.sleep(1000)",
        api = api.display(),
    );
    home.write("call.py", &script);
    fs::set_permissions(home.work().join("call.py"), fs::Permissions::from_mode(0o644)).expect("a mode");
    for user in users() {
        let app = |name: &str, level: Value| {
            for_user(
                json!({"name": name, "command": [python, "call.py"], "sandbox": level, "restart": {"on": "never"}}),
                user,
            )
        };
        apply(&home, &[app("caller", "strict".into())]);
        let text = wait_log(&home, &named("caller", user), "called");
        assert!(!text.contains("REACHED"), "{user:?}: {text}");
        assert_eq!(text.matches("refused").count(), 6, "{text}");
        says(&text, &["own loopback works"]);
        assert!(listener.accept().is_err(), "nobody has called");
        home.ok(["delete", "all"]);
        // It can be given back, and then nothing else is: the door to Upkeep stays shut.
        apply(
            &home,
            &[app("guest", json!({"level": "strict", "network": true}))],
        );
        let text = wait_log(&home, &named("guest", user), "called");
        assert_eq!(text.matches("REACHED").count(), 1, "{text}");
        assert!(listener.accept().is_ok(), "it was reached");
        home.ok(["delete", "all"]);
    }
}

#[test]
fn a_socket_that_was_handed_over_calls_nobody() {
    let home = open_home();
    let (true, Some(python)) = (can(&home, "strict"), python()) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a mode");
    let port = listener.local_addr().expect("an address").port();
    let script = format!(
        "import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
there = ('127.0.0.1', {port})
def stop_listening():
    unspecified = (ctypes.c_char * 16)()
    print('disconnected', libc.connect(3, unspecified, 16))
stop_listening()
s = socket.socket(fileno=3)
s.settimeout(3)
try:
    s.connect(there); print('REACHED')
except OSError as error:
    print('refused', error.errno)
try:
    s.sendto(b'x', 0x20000000, there); print('REACHED fast')
except OSError as error:
    print('refused', error.errno)
print('called', flush=True)
import time; time.sleep(1000)"
    );
    home.write("handed.py", &script);
    fs::set_permissions(home.work().join("handed.py"), fs::Permissions::from_mode(0o644)).expect("a mode");
    for user in users() {
        let [address] = free_addresses();
        let app = json!({
            "name": "handed", "command": [python, "handed.py"], "sandbox": "strict", "listen": [address],
            "restart": {"on": "never"},
        });
        apply(&home, &[for_user(app, user)]);
        let text = wait_log(&home, &named("handed", user), "called");
        let score = home
            .json(["sandbox", "score", &named("handed", user)])
            .to_string();
        if score.contains("could call out") {
            return skipped("landlock of this kernel knows no networks");
        }
        assert!(!text.contains("REACHED"), "{user:?}: {text}");
        says(&text, &["disconnected 0", "refused 13", "refused 95"]);
        assert!(listener.accept().is_err(), "nobody has called");
        home.ok(["delete", "all"]);
    }
}

#[test]
fn root_in_strict_reads_no_keys() {
    if !is_root() {
        return skipped("we are not root: then the kernel keeps its keys from us");
    }
    let home = open_home();
    if !can(&home, "strict") {
        return;
    }
    let script = "find /etc -type f ! -perm -004 -size +0 -exec cat {} + | head -c 200 | wc -c
        cat /etc/passwd | grep -c root; echo read; sleep 1000";
    apply(
        &home,
        &[
            json!({"name": "keys", "command": ["sh", "-c", script], "sandbox": "strict", "restart": {"on": "never"}}),
        ],
    );
    let text = wait_log(&home, "keys", "read\n");
    assert!(
        text.contains("0\n1\nread") || text.contains("0\n2\nread"),
        "{text}"
    );
}

fn ask(address: &str) -> String {
    wait_until(&format!("an answer from {address}"), LONG, || {
        let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .map_err(|error| error.to_string())?;
        stream
            .write_all(b"GET / HTTP/1.0\r\n\r\n")
            .map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        if text.contains("200 OK") {
            Ok(text)
        } else {
            Err(text)
        }
    })
}

const NODE: &str = "
const server = require('http').createServer((request, answer) => answer.end('node ' + require('os').cpus().length));
server.listen({ fd: 3 }, () => console.log('up'));
";

const PYTHON: &str = "
import http.server, os, socket, socketserver, tempfile, threading, json, ssl
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with tempfile.TemporaryFile() as file: file.write(b'x')
        self.send_response(200, 'OK'); self.end_headers(); self.wfile.write(b'python')
    def log_message(self, *words): pass
class Server(socketserver.ThreadingTCPServer):
    def __init__(self):
        socketserver.BaseServer.__init__(self, ('', 0), Hello); self.socket = socket.socket(fileno=3)
Server().serve_forever()
";

fn free_addresses<const N: usize>() -> [String; N] {
    std::array::from_fn(|_| upkeep_testkit::free_address().to_string())
}

#[test]
fn honest_servers_answer_from_inside_strict() {
    let home = open_home();
    if !can(&home, "strict") {
        return;
    }
    home.write("server.js", NODE);
    home.write("server.py", PYTHON);
    for name in ["server.js", "server.py"] {
        fs::set_permissions(home.work().join(name), fs::Permissions::from_mode(0o644)).expect("a mode");
    }
    let node = Command::new("node").arg("--version").output().is_ok();
    if !node {
        skipped("no node");
    }
    let python = python();
    for user in users() {
        let [first, second] = free_addresses();
        let mut apps = vec![for_user(
            json!({
                "name": "shell",
                "command": "x=$(echo a | tr a b); mkfifo /tmp/f && (echo $x > /tmp/f &) && cat /tmp/f; date > /tmp/d && echo ok; sleep 1000",
                "shell": true,
                "sandbox": "strict",
            }),
            user,
        )];
        apps[0]["command"] = json!(["sh", "-c", apps[0]["command"]]);
        apps[0].as_object_mut().expect("a map").remove("shell");
        // A program of ours, linked as the whole is: what a static binary does.
        apps.push(for_user(
            json!({"name": "binary", "command": [home.child(), "print-ids", "print", "ran", "wait"], "sandbox": "strict"}),
            user,
        ));
        if node {
            apps.push(for_user(
                json!({"name": "node", "command": ["node", "server.js"], "sandbox": "strict", "listen": [first]}),
                user,
            ));
        }
        if let Some(python) = python {
            apps.push(for_user(
                json!({"name": "python", "command": [python, "server.py"], "sandbox": "strict", "listen": [second]}),
                user,
            ));
        }
        apply(&home, &apps);
        says(&wait_log(&home, &named("shell", user), "ok"), &["b\n"]);
        wait_log(&home, &named("binary", user), "ran");
        if node {
            says(&ask(&first), &["node"]);
        }
        if python.is_some() {
            says(&ask(&second), &["python"]);
        }
        home.ok(["delete", "all"]);
    }
}

#[test]
fn readiness_is_told_from_inside_strict() {
    let home = open_home();
    let (true, Some(python)) = (can(&home, "strict"), python()) else {
        return;
    };
    let script = "import os, socket, time
time.sleep(0.3)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    address = os.environ['NOTIFY_SOCKET'].replace('@', chr(0), 1)
    s.sendto(b'READY=1\\nSTATUS=from the cage', address)
time.sleep(1000)";
    for user in users() {
        for level in ["light", "standard", "strict"] {
            let plain = format!("told-{level}");
            let app = json!({
                "name": plain,
                "command": [python, "-c", script],
                "sandbox": level,
                "readiness": {"notify": true, "period": "100ms"},
            });
            apply(&home, &[for_user(app, user)]);
            let name = named(&plain, user);
            wait_until("readiness", LONG, || {
                let instance = home.instance(&name, 0);
                if instance["ready"] == true {
                    Ok(())
                } else {
                    Err(instance.to_string())
                }
            });
            home.ok(["delete", &name]);
        }
    }
}

#[test]
fn the_score_is_about_the_process_that_runs() {
    let home = open_home();
    if !can(&home, "strict") {
        return;
    }
    let app = |level: &str| json!({"name": "a", "command": ["sleep", "1000"], "sandbox": level});
    let mut last = 11.0;
    for level in ["none", "light", "standard", "strict"] {
        apply(&home, &[app(level)]);
        let score = home.json(["sandbox", "score", "a"]);
        let pid = home.instance("a", 0)["pid"].clone();
        assert_eq!((&score["level"], &score["pid"]), (&json!(level), &pid), "{score}");
        let value = score["score"].as_f64().expect("a number");
        assert!(value < last, "{level}: {value} is not below {last}");
        last = value;
        home.ok(["delete", "a"]);
        apply(&home, &[app(level)]);
        home.ok(["stop", "a"]);
        let planned = home.json(["sandbox", "score", "a"]);
        assert!(planned["pid"].is_null());
        let difference = (planned["score"].as_f64().expect("a number") - value).abs();
        assert!(difference < 1.0, "{level}: planned {planned}, running {score}");
        home.ok(["delete", "a"]);
    }
    assert!(last < 2.5, "{last}");
    let levels = home.ok(["sandbox", "levels"]);
    says(
        &levels,
        &["strict", "no network but sockets handed over", "io-uring"],
    );
    apply(&home, &[app("light")]);
    says(
        &home.ok(["sandbox", "score", "a"]),
        &["of 10", "sandbox: standard", "closed"],
    );
}

#[test]
fn a_cage_that_cannot_be_had_is_refused_with_the_reason() {
    let home = open_home();
    if !can(&home, "light") {
        return;
    }
    write_apps(
        &home,
        "bad.json",
        &[
            json!({"name": "a", "command": ["sleep", "1000"], "sandbox": {"level": "light", "write": ["/no/such/place"]}}),
        ],
    );
    let output = home.cmd(["start", "bad.json"]);
    let text = output.stdout + &output.stderr;
    let why = home.instance("a", 0)["why"].to_string();
    says(
        &(text + &why),
        &["`/no/such/place` of `sandbox.write` does not exist"],
    );
}

/// Runs a verb as `nobody`.
fn as_nobody(home: &Home, args: &[&str]) -> Output {
    let mut command = home.command(args);
    command.uid(NOBODY).gid(NOBODY);
    home.finish(command, LONG)
}

#[test]
fn an_upkeep_without_rights_cages_by_user_namespaces() {
    if !is_root() {
        return skipped("we are not root, so every other test here has run without rights");
    }
    let home = open_home();
    for path in [home.work().parent().expect("above it").to_owned(), home.work()] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("an owner");
    }
    let mut version = home.command(["--version"]);
    version.uid(NOBODY).gid(NOBODY);
    if !version.output().is_ok_and(|output| output.status.success()) {
        return skipped("`nobody` may not enter the directory of the build");
    }
    let other = home.write("../other/secret", SECRET);
    let [address] = free_addresses();
    home.write("server.py", PYTHON);
    // A process of the same user, whose environment nobody but that user may read.
    write_apps(
        &home,
        "victim.json",
        &[json!({"name": "victim", "command": ["sleep", "1000"], "env": {"PASSWORD": SECRET}})],
    );
    as_nobody(&home, &["start", "victim.json"]);
    let shown = as_nobody(&home, &["show", "victim", "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).expect("json");
    let victim = shown["instances"][0]["pid"].as_i64().expect("it runs");
    let script = format!(
        "cat /etc/shadow {other} /proc/{victim}/environ; touch here; touch /tmp/mine && echo tmp
         tail -n +3 /proc/net/dev | cut -d: -f1; grep -E 'CapEff|Seccomp:' /proc/self/status; id -u; echo done; sleep 1000",
        other = other.display(),
    );
    let mut apps = vec![
        json!({"name": "caged", "command": ["sh", "-c", script], "sandbox": "strict", "limits": {"tasks": 50, "cpu": 1}}),
    ];
    if let Some(python) = python() {
        apps.push(json!({"name": "python", "command": [python, "server.py"], "sandbox": "strict", "listen": [address]}));
    }
    write_apps(&home, "upkeep.json", &apps);
    let output = as_nobody(&home, &["start", "upkeep.json"]);
    let said = output.stdout + &output.stderr;
    if said.contains("failed to prepare sandbox") {
        as_nobody(&home, &["kill"]);
        return skipped(&format!("user namespaces: {said}"));
    }
    let text = wait_log(&home, "caged", "done");
    assert!(!text.contains(SECRET) && !text.contains("root:"), "{text}");
    says(
        &text,
        &["tmp\n", "lo\n", "0000000000000000", "Seccomp:\t2", "65534\n"],
    );
    assert!(!home.work().join("here").exists());
    if apps.len() > 1 {
        says(&ask(&address), &["python"]);
    }
    let shown: Value =
        serde_json::from_str(&as_nobody(&home, &["show", "caged", "--json"]).stdout).expect("json");
    let limits = shown["limits"].to_string();
    // Without rights there is no group to be made, or one of v2 that was handed to us.
    assert!(limits.contains("rlimit") || limits.contains("cgroup"), "{limits}");
    assert!(
        limits.contains("Permission denied") || limits.contains("cgroup"),
        "{limits}"
    );
    let pid = shown["instances"][0]["pid"].as_i64().expect("it runs");
    as_nobody(&home, &["kill"]);
    wait_until("the end of the app", LONG, || {
        let pid = i32::try_from(pid).map_err(|error| error.to_string())?;
        if alive(pid) {
            Err(format!("{pid} lives"))
        } else {
            Ok(())
        }
    });
}
