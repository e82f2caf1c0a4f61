//! Sockets that are held for an app, and the front door.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_e2e::{LONG, apply, ended, kill_daemon, says};
use upkeep_testkit::{Home, Kind, Load, Signal, free_port, kill, pass, process, wait_until};

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What a server says to one connection.
fn hear(mut stream: impl std::io::Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("to read");
    text
}

/// Says to whoever connects which sockets it was given; echoes datagrams.
const TELLER: &str = r"
import os, socket, sys, threading
names = os.environ['LISTEN_FDNAMES'].split(':')
assert os.environ['LISTEN_PID'] == str(os.getpid()) and len(names) == int(os.environ['LISTEN_FDS'])
said = ' '.join([os.environ['LISTEN_FDNAMES'], os.environ.get('PORT', '-'), str(os.getuid())] + sys.argv[1:])
def serve(number):
    s = socket.socket(fileno=number)
    if s.type == socket.SOCK_DGRAM:
        while True:
            data, who = s.recvfrom(100)
            s.sendto(data.upper(), who)
    while True:
        c, _ = s.accept()
        c.sendall(said.encode())
        c.close()
for at in range(len(names)):
    threading.Thread(target=serve, args=[3 + at]).start()
";

#[test]
fn every_kind_of_socket_is_handed_over_by_name_and_number() {
    let home = Home::new();
    home.write("teller.py", TELLER);
    let (tcp, udp) = (free_port(), UdpSocket::bind(local(0)).expect("a socket"));
    let udp_port = udp.local_addr().expect("an address").port();
    drop(udp);
    let as_root = rustix_is_root();
    let mut app = json!({
        "name": "teller",
        "command": ["python3", "teller.py", "{fd:0}", "{fd:admin}", "{instance}", "{port}", "${instance}", "{other}"],
        "listen": [
            format!("127.0.0.1:{tcp}"), format!("udp:127.0.0.1:{udp_port}"),
            {"address": "unix:run/admin.sock", "name": "admin", "mode": "0600"},
        ],
    });
    if as_root {
        // Bound by Upkeep, served by somebody with no rights at all.
        app["user"] = json!("nobody");
        app["listen"]
            .as_array_mut()
            .expect("a list")
            .push(json!("127.0.0.77:77"));
        let open = std::fs::Permissions::from_mode(0o755);
        for dir in [home.work(), home.work().parent().expect("a folder").to_owned()] {
            std::fs::set_permissions(dir, open.clone()).expect("a mode");
        }
    }
    std::fs::create_dir_all(home.work().join("run")).expect("a folder");
    apply(&home, &[app]);
    let connect = || TcpStream::connect(local(tcp)).map_err(|error| error.to_string());
    let said = hear(wait_until("the teller", LONG, connect));
    let mut names = format!("tcp-{tcp}:udp-{udp_port}:admin");
    if as_root {
        names.push_str(":tcp-77");
    }
    says(
        &said,
        &[
            &format!("{names} {tcp} "),
            &format!(" 3 5 0 {tcp} ${{instance}} {{other}}"),
        ],
    );
    if as_root {
        assert!(!said.contains(" 0 3 5"), "it runs as somebody else: {said}");
        assert_eq!(
            hear(TcpStream::connect(("127.0.0.77", 77)).expect("port 77")),
            said
        );
    }
    let path = home.work().join("run/admin.sock");
    assert_eq!(hear(UnixStream::connect(&path).expect("the path")), said);
    let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = UdpSocket::bind(local(0)).expect("a socket");
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a time limit");
    client.send_to(b"hello", local(udp_port)).expect("to send");
    let mut answer = [0; 16];
    let (count, _) = client.recv_from(&mut answer).expect("an answer");
    assert_eq!(&answer[..count], b"HELLO");
    // Stopped, nobody keeps clients waiting.
    home.ok(["stop", "teller"]);
    wait_until("the port to be closed", LONG, || {
        match TcpStream::connect(local(tcp)) {
            Err(_) => Ok(()),
            Ok(_) => Err("it is open".to_owned()),
        }
    });
    assert!(!path.exists(), "the socket's file is gone");
    home.ok(["start", "teller"]);
    assert_eq!(hear(wait_until("the teller", LONG, connect)), said);
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn connections_wait_while_the_only_copy_is_started_again() {
    let home = Home::new();
    home.write("teller.py", TELLER);
    let port = free_port();
    apply(
        &home,
        &[json!({
            "name": "teller", "command": ["python3", "teller.py"], "listen": format!("127.0.0.1:{port}"),
            "restart": {"backoff": "700ms"},
        })],
    );
    let said = hear(wait_until("the teller", LONG, || {
        TcpStream::connect(local(port)).map_err(|error| error.to_string())
    }));
    let pid = home.instance("teller", 0)["pid"].as_i64().expect("a pid");
    kill(i32::try_from(pid).expect("a pid"), Signal::KILL).expect("the teller");
    home.wait_for("teller", 0, "backing_off");
    kill_daemon(home.keeper_pid());
    assert_eq!(hear(TcpStream::connect(local(port)).expect("the backlog")), said);
}

#[test]
fn a_port_that_somebody_else_has_is_said_and_tried_again() {
    let home = Home::new();
    home.write("teller.py", TELLER);
    let taken = TcpListener::bind(local(0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    home.write(
        "upkeep.json",
        &json!({"apps": [{"name": "teller", "command": ["python3", "teller.py"], "listen": format!("127.0.0.1:{port}")}]})
            .to_string(),
    );
    let output = home.cmd(["start", "upkeep.json"]);
    ended(&output, 1);
    says(&output.stderr, &["teller:0", "in use", &port.to_string()]);
    drop(taken);
    wait_until("the teller", LONG, || {
        TcpStream::connect(local(port))
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

// ---- the front door

/// Answers with what it got: method, a header, the length of the body; and a protocol of its own.
const BEHIND: &str = r"
import http.server, os, sys, threading
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self):
        if self.headers.get('Upgrade') == 'echo':
            self.send_response(101)
            self.send_header('Connection', 'Upgrade')
            self.send_header('Upgrade', 'echo')
            self.end_headers()
            while True:
                line = self.rfile.readline()
                if not line: return
                self.wfile.write(line.upper())
                self.wfile.flush()
        length = int(self.headers.get('Content-Length') or 0)
        left, total = length, 0
        while left:
            piece = self.rfile.read(min(left, 65536))
            total += len(piece); left -= len(piece)
        body = ' '.join([self.command, self.path, str(total), self.headers.get('X-Forwarded-For') or '-', self.headers.get('X-Forwarded-Proto') or '-', os.environ['UPKEEP_INSTANCE']]).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)
    do_GET = do_POST = do_HEAD = do_PUT = answer
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    daemon_threads = True
S(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()
";

fn behind(door: &Value) -> Value {
    json!({
        "name": "web", "command": ["python3", "behind.py"], "door": door,
        "readiness": {"http": "/"}, "rollout": {"settle": "100ms"},
    })
}

fn stage(door: &Value) -> Home {
    let home = Home::new();
    home.write("behind.py", BEHIND);
    apply(&home, &[behind(door)]);
    wait_until("it to be ready", LONG, || {
        let instance = home.instance("web", 0);
        if instance["ready"] == true {
            Ok(())
        } else {
            Err(instance.to_string())
        }
    });
    home
}

/// One exchange over a connection that is closed then.
fn ask(stream: &mut (impl std::io::Read + std::io::Write), request: &str, body: &[u8]) -> String {
    stream.write_all(request.as_bytes()).expect("to send");
    stream.write_all(body).expect("to send");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).expect("an answer");
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn the_door_passes_methods_bodies_and_upgrades() {
    let port = free_port();
    let home = stage(&json!({"listen": [format!("127.0.0.1:{port}"), "unix:door.sock"]}));
    let connect = || TcpStream::connect(local(port)).expect("the door");
    let get = ask(
        &mut connect(),
        "GET /a?b=c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"",
    );
    says(&get, &["200 OK", "GET /a?b=c 0 127.0.0.1 http 0"]);
    let large = vec![b'x'; 3 << 20];
    let head = format!(
        "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        large.len()
    );
    says(
        &ask(&mut connect(), &head, &large),
        &[&format!("POST /up {} ", large.len())],
    );
    let head = ask(
        &mut connect(),
        "HEAD /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"",
    );
    says(&head, &["200 OK"]);
    assert!(head.ends_with("\r\n\r\n"), "no body: {head:?}");
    let mut unix = UnixStream::connect(home.work().join("door.sock")).expect("the path");
    let unix = ask(
        &mut unix,
        "GET /u HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"",
    );
    says(&unix, &["GET /u 0 - http"]);
    // Garbage is the client's affair.
    let garbage = ask(&mut connect(), "\x01\x02 nonsense\r\n\r\n", b"");
    assert!(garbage.is_empty() || garbage.contains(" 400 "), "{garbage}");
    // A protocol of its own, as WebSocket is one.
    let mut tunnel = connect();
    tunnel
        .write_all(b"GET /t HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n")
        .expect("to send");
    let mut heard = Vec::new();
    let mut piece = [0; 256];
    while !String::from_utf8_lossy(&heard).contains("HELLO\n") {
        let count = tunnel.read(&mut piece).expect("an answer");
        assert!(count > 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..count]);
    }
    says(&String::from_utf8_lossy(&heard), &["101 Switching"]);
}

#[test]
fn the_door_speaks_tls() {
    if Command::new("openssl").arg("version").output().is_err() {
        upkeep_e2e::skipped("openssl is not there to make a certificate");
        return;
    }
    let port = free_port();
    let home = Home::new();
    home.write("behind.py", BEHIND);
    let certify = || {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ])
            .args([
                "-addext",
                "subjectAltName=DNS:localhost",
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
            ])
            .current_dir(home.work())
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{made:?}");
    };
    certify();
    let tls = json!({"cert": "cert.pem", "key": "key.pem"});
    apply(
        &home,
        &[behind(
            &json!({"listen": format!("127.0.0.1:{port}"), "tls": tls}),
        )],
    );
    let script = format!(
        "import ssl, urllib.request as u; print(u.urlopen('https://localhost:{port}/s', context=ssl.create_default_context(cafile='cert.pem')).read().decode())"
    );
    let answers = || {
        let output = Command::new("python3")
            .args(["-c", &script])
            .current_dir(home.work())
            .output()
            .expect("python3");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.starts_with("GET /s 0 127.0.0.1 https") {
            Ok(())
        } else {
            Err(format!("{output:?}"))
        }
    };
    wait_until("an answer over TLS", LONG, answers);
    // Renewed: `cafile` trusts nothing but the new one.
    certify();
    wait_until("an answer with the new certificate", LONG, answers);
    // One that does not load changes nothing.
    let good = std::fs::read(home.work().join("cert.pem")).expect("the certificate");
    home.write("cert.pem", "nonsense");
    wait_until("a complaint", LONG, || {
        let log = home.ok(["logs", "web"]);
        if log.contains("it goes on with the certificate it had") {
            Ok(())
        } else {
            Err(log)
        }
    });
    home.write("trusted.pem", &String::from_utf8(good).expect("PEM"));
    let script = script.replace("cert.pem", "trusted.pem");
    let output = Command::new("python3")
        .args(["-c", &script])
        .current_dir(home.work())
        .output()
        .expect("python3");
    says(
        &String::from_utf8_lossy(&output.stdout),
        &["GET /s 0 127.0.0.1 https"],
    );
}

#[test]
fn a_door_that_is_killed_comes_back_and_so_does_its_conversation() {
    let port = free_port();
    let home = stage(&json!({"listen": format!("127.0.0.1:{port}"), "drain": "20s"}));
    let get = || {
        let mut stream = TcpStream::connect(local(port)).map_err(|error| error.to_string())?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        if text.contains("200 OK") {
            Ok(())
        } else {
            Err(text)
        }
    };
    let doors = || -> Vec<i32> {
        let ours = home.processes();
        ours.into_iter()
            .filter(|pid| process::command_line(*pid).ends_with("upkeep door"))
            .collect()
    };
    let before = doors();
    assert_eq!(before.len(), 1, "{before:?}");
    kill(before[0], Signal::KILL).expect("the door");
    wait_until("an answer through another door", LONG, get);
    assert_ne!(doors(), before);
    // A new daemon goes on with the same door: a drain takes as long as what is in hand, not as the limit says.
    let door = doors();
    kill_daemon(home.keeper_pid());
    let load = Load::start(local(port), Kind::KeepAlive, 4);
    wait_until("the load", LONG, || {
        if load.answered() > 50 {
            Ok(())
        } else {
            Err("too few".to_owned())
        }
    });
    let begun = std::time::Instant::now();
    home.ok(["reload", "web"]);
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "the drain was told: {:?}",
        begun.elapsed()
    );
    assert_eq!(doors(), door);
    pass(Duration::from_millis(200));
    load.stop()
        .assert_none_failed("a reload after the daemon's death");
    // Without anybody behind it there is no door, and nobody is kept waiting.
    home.ok(["stop", "web"]);
    wait_until("no door", LONG, || {
        if doors().is_empty() {
            Ok(())
        } else {
            Err(format!("{:?}", doors()))
        }
    });
    wait_until("the port to be closed", LONG, || {
        match TcpStream::connect(local(port)) {
            Err(_) => Ok(()),
            Ok(_) => Err("it is open".to_owned()),
        }
    });
}

#[test]
fn a_running_door_takes_other_settings_also_from_a_new_daemon() {
    let (first, second) = (free_port(), free_port());
    let home = stage(&json!({"listen": format!("127.0.0.1:{first}")}));
    let get = |port: u16| {
        let mut stream = TcpStream::connect(local(port)).map_err(|error| error.to_string())?;
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(text)
    };
    let says_soon = |port: u16, part: &str| {
        wait_until(part, LONG, || match get(port) {
            Ok(text) if text.contains(part) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    says_soon(first, "127.0.0.1 http");
    // Another protocol: bytes, to which nothing is added.
    apply(
        &home,
        &[behind(
            &json!({"listen": format!("127.0.0.1:{first}"), "protocol": "tcp"}),
        )],
    );
    says_soon(first, " 0 - - ");
    // A daemon that did not start the door hears of it just as well.
    kill_daemon(home.keeper_pid());
    home.ok(["status"]);
    let listen = [format!("127.0.0.1:{first}"), format!("127.0.0.1:{second}")];
    apply(&home, &[behind(&json!({"listen": listen}))]);
    says_soon(second, "127.0.0.1 http");
    says_soon(first, "127.0.0.1 http");
    // The first address is given up.
    apply(
        &home,
        &[behind(&json!({"listen": format!("127.0.0.1:{second}")}))],
    );
    wait_until("the first port to be closed", LONG, || {
        match TcpStream::connect(local(first)) {
            Err(_) => Ok(()),
            Ok(_) => Err("it is open".to_owned()),
        }
    });
    says_soon(second, "127.0.0.1 http");
}
