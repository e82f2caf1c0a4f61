//! Output goes to other places as well, and nothing is missing there, whatever is killed or away meanwhile.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_e2e::{LONG, app, apply, events, kill_daemon, with};
use upkeep_testkit::{Home, wait_until};

/// An app that prints numbered lines and then waits.
fn numbered(home: &Home, name: &str, count: u32, rate: u32, sinks: &[String]) -> Value {
    let (count, rate) = (count.to_string(), format!("{rate}/s"));
    let script = ["write-lines", &count, "--rate", &rate, "--prefix", name, "wait"];
    with(app(home, name, &script), json!({"logs": {"also": sinks}}))
}

/// Numbers of lines `NAME 0000001 …`.
fn numbers(lines: &[String], name: &str) -> BTreeSet<u32> {
    let prefix = format!("{name} ");
    lines
        .iter()
        .filter_map(|line| line.strip_prefix(&prefix)?.split(' ').next()?.parse().ok())
        .collect()
}

/// A journal of our own, that understands the native protocol.
struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    fn listen(path: PathBuf) -> Self {
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        Self { socket, path }
    }

    fn sink(&self) -> String {
        format!("journald:{}", self.path.display())
    }

    /// The next entry, and whether it came as a sealed file.
    fn next(&self) -> Option<(Vec<(String, String)>, bool)> {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; 1 << 18];
        let answer = recvmsg(
            &self.socket,
            &mut [std::io::IoSliceMut::new(&mut bytes)],
            &mut beside,
            RecvFlags::empty(),
        );
        let count = answer.ok()?.bytes;
        bytes.truncate(count);
        let mut fds: Vec<OwnedFd> = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        let aside = !fds.is_empty();
        for fd in fds {
            let seals = rustix::fs::fcntl_get_seals(&fd).expect("a memfd");
            assert!(
                seals.contains(rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::SHRINK),
                "{seals:?}"
            );
            let mut file = File::from(fd);
            file.seek(SeekFrom::Start(0)).expect("a file");
            bytes.clear();
            file.read_to_end(&mut bytes).expect("a file");
        }
        Some((entry(&bytes), aside))
    }

    /// All messages, until so many of `name` are there.
    fn collect(&self, name: &str, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        wait_until(&format!("{count} lines of {name} in the journal"), LONG, || {
            while let Some((fields, _)) = self.next() {
                lines.push(value(&fields, "MESSAGE").to_owned());
            }
            let there = numbers(&lines, name).len();
            if there >= count {
                Ok(())
            } else {
                Err(there.to_string())
            }
        });
        lines
    }
}

/// Takes an entry of the native protocol apart.
fn entry(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let line = bytes.iter().position(|byte| *byte == b'\n').expect("a newline");
        let head = std::str::from_utf8(&bytes[..line]).expect("text");
        bytes = &bytes[line + 1..];
        match head.split_once('=') {
            Some((name, value)) => fields.push((name.to_owned(), value.to_owned())),
            None => {
                let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
                let end = 8 + usize::try_from(length).expect("a length");
                let value = std::str::from_utf8(&bytes[8..end]).expect("text");
                fields.push((head.to_owned(), value.to_owned()));
                assert_eq!(bytes[end], b'\n');
                bytes = &bytes[end + 1..];
            }
        }
    }
    fields
}

#[track_caller]
fn value<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    let found = fields.iter().find(|(key, _)| key == name);
    &found.unwrap_or_else(|| panic!("no {name} in {fields:?}")).1
}

#[test]
fn the_journal_gets_fields_and_long_lines() {
    let home = Home::new();
    let journal = Journal::listen(home.work().join("journal.sock"));
    let script = [
        "print",
        "hello",
        "print-err",
        "oh no",
        "write-blob",
        "600K",
        "print",
        "",
        "wait",
    ];
    apply(
        &home,
        &[with(
            app(&home, "shop", &script),
            json!({"logs": {"also": [journal.sink()]}}),
        )],
    );
    let mut entries = Vec::new();
    wait_until("three lines", LONG, || {
        entries.extend(journal.next());
        if entries.len() >= 3 {
            Ok(())
        } else {
            Err(format!("{}", entries.len()))
        }
    });
    let of = |text: &str| {
        let found = entries
            .iter()
            .find(|(fields, _)| value(fields, "MESSAGE").starts_with(text));
        found.unwrap_or_else(|| panic!("no `{text}`"))
    };
    let (hello, aside) = of("hello");
    assert!(!aside);
    for (name, wanted) in [
        ("MESSAGE", "hello"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "shop"),
        ("UPKEEP_APP", "shop"),
        ("UPKEEP_INSTANCE", "0"),
        ("UPKEEP_STREAM", "out"),
    ] {
        assert_eq!(value(hello, name), wanted, "{name}");
    }
    let (trouble, _) = of("oh no");
    assert_eq!(value(trouble, "PRIORITY"), "3");
    assert_eq!(value(trouble, "UPKEEP_STREAM"), "err");
    let (long, aside) = of("xxx");
    assert_eq!(value(long, "MESSAGE").len(), 600 << 10);
    assert!(aside, "a datagram cannot hold that");
    wait_until("the count", LONG, || {
        let app = home.json(["show", "shop"]);
        let sink = &app["log_sinks"][0];
        if sink["sent"] == 3 && sink["missed"] == 0 {
            Ok(())
        } else {
            Err(app["log_sinks"].to_string())
        }
    });
}

#[test]
fn nothing_is_missing_in_the_journal_when_daemons_die() {
    let home = Home::new();
    let journal = Journal::listen(home.work().join("journal.sock"));
    apply(&home, &[numbered(&home, "busy", 6000, 2000, &[journal.sink()])]);
    let keeper = home.keeper_pid();
    let mut lines = Vec::new();
    for round in 1..=3 {
        lines.extend(journal.collect("busy", 300));
        let daemon = kill_daemon(keeper);
        upkeep_e2e::wait_reaped(daemon);
        assert!(numbers(&lines, "busy").len() >= 300, "round {round}");
    }
    wait_until("all lines", LONG, || {
        while let Some((fields, _)) = journal.next() {
            lines.push(value(&fields, "MESSAGE").to_owned());
        }
        let there = numbers(&lines, "busy").len();
        if there == 6000 {
            Ok(())
        } else {
            Err(there.to_string())
        }
    });
}

/// Reads messages of RFC 5424 with counted octets (RFC 6587) until there are none for the moment.
fn counted(stream: &TcpStream, lines: &mut Vec<String>) {
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout");
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = Vec::new();
        if reader.read_until(b' ', &mut length).is_err() || length.is_empty() {
            return;
        }
        let length = std::str::from_utf8(&length).expect("digits").trim_end();
        let mut message = vec![0; length.parse().expect("a length")];
        if reader.read_exact(&mut message).is_err() {
            return;
        }
        lines.push(text_of(std::str::from_utf8(&message).expect("text")));
    }
}

/// The text of a message of RFC 5424, whose head is looked at.
fn text_of(message: &str) -> String {
    let words: Vec<&str> = message.splitn(8, ' ').collect();
    let [head, time, host, app, index, stream, data, text] = words[..] else {
        panic!("{message}");
    };
    assert!(head == "<30>1" || head == "<27>1", "{message}");
    assert!(time.ends_with('Z') && time.len() == 24, "{message}");
    assert!(!host.is_empty() && !app.is_empty(), "{message}");
    assert_eq!((index, data), ("0", "-"), "{message}");
    assert!(stream == "out" || stream == "err", "{message}");
    text.to_owned()
}

/// So many lines as the kernel holds for a UDP socket that nobody reads for a while; what is beyond that it may drop.
const FEW: u32 = 200;

#[test]
fn a_syslog_that_is_away_holds_nobody_up_and_gets_all_later() {
    let home = Home::new();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    udp.set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    // A port where nobody listens, until later.
    let address = upkeep_testkit::free_address();
    let sinks = [
        format!("syslog:tcp:{address}"),
        format!("syslog:udp:{}", udp.local_addr().expect("an address")),
    ];
    apply(&home, &[numbered(&home, "shop", FEW, 1000, &sinks)]);
    let mut lines = Vec::new();
    wait_until("all lines over UDP", LONG, || {
        let mut bytes = [0_u8; 9000];
        while let Ok(count) = udp.recv(&mut bytes) {
            lines.push(text_of(std::str::from_utf8(&bytes[..count]).expect("text")));
        }
        let there = numbers(&lines, "shop").len();
        if there == FEW as usize {
            Ok(())
        } else {
            Err(there.to_string())
        }
    });
    let told = |what: &str| {
        wait_until(what, LONG, || {
            let found = events(&home).into_iter().find(|event| event["what"] == what);
            found.ok_or_else(|| "no such event".to_owned())
        })
    };
    let event = told("log_trouble");
    assert_eq!(event["target"], "shop", "{event}");
    assert!(event["why"].to_string().contains("refused"), "{event}");
    let shown = home.ok(["show", "shop"]);
    assert!(shown.contains("NOW: ") && shown.contains(&sinks[0]), "{shown}");
    let listener = TcpListener::bind(address).expect("the port is free");
    let (stream, _) = listener.accept().expect("a connection");
    let mut lines = Vec::new();
    counted(&stream, &mut lines);
    assert_eq!(numbers(&lines, "shop").len(), FEW as usize);
    assert_eq!(lines.len(), FEW as usize, "none twice");
    told("log_recovered");
}

/// The real rsyslogd, from Debian's package or from `UPKEEP_RSYSLOGD`; a private one, on a port of its own.
struct Rsyslog {
    child: Child,
}

impl Rsyslog {
    fn start(folder: &Path, port: u16) -> Self {
        let program = std::env::var_os("UPKEEP_RSYSLOGD").unwrap_or_else(|| "/usr/sbin/rsyslogd".into());
        let output = folder.join("received.log");
        let config = folder.join("rsyslog.conf");
        let text = format!(
            "module(load=\"imtcp\")\n\
             input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
             template(name=\"fields\" type=\"string\" string=\"%app-name%/%procid%/%msgid%/%syslogseverity%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"fields\")\n",
            output.display()
        );
        fs::write(&config, text).expect("a file");
        let child = Command::new(&program)
            .arg("-n")
            .arg("-f")
            .arg(&config)
            .arg("-i")
            .arg(folder.join("rsyslog.pid"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { child }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_real_rsyslogd_takes_the_messages_apart() {
    let home = Home::new();
    let port = upkeep_testkit::free_port();
    let _rsyslog = Rsyslog::start(&home.work(), port);
    let sinks = [format!("syslog:tcp:127.0.0.1:{port}")];
    apply(&home, &[numbered(&home, "shop", 2000, 2000, &sinks)]);
    kill_daemon(home.keeper_pid());
    let path = home.work().join("received.log");
    wait_until("all lines in the file of rsyslogd", LONG, || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("shop/0/out/6|"))
            .map(|line| line.trim_start().to_owned())
            .collect();
        let there = numbers(&lines, "shop").len();
        if there == 2000 {
            Ok(())
        } else {
            Err(there.to_string())
        }
    });
}

#[test]
fn what_is_no_sink_is_refused_with_what_there_is() {
    let home = Home::new();
    home.write(
        "upkeep.json",
        &json!({"apps": [{"name": "a", "command": ["true"], "logs": {"also": ["jornald"]}}]}).to_string(),
    );
    let output = home.cmd(["start", "upkeep.json"]);
    let said = &output.stderr;
    assert_ne!(output.code, 0, "{said}");
    assert!(
        said.contains("`jornald`") && said.contains("`syslog:tcp:HOST:PORT`"),
        "{said}"
    );
}

#[test]
fn a_log_that_cannot_be_written_is_told_once_and_so_is_its_end() {
    let home = Home::new();
    // Nobody can write there, not even root: the folder of the log is a file.
    let folder = home.work().join("logs-here");
    fs::write(&folder, "").expect("a file");
    let script = ["write-lines", "forever", "--rate", "50/s"];
    let out = folder.join("shop.log");
    apply(
        &home,
        &[with(app(&home, "shop", &script), json!({"logs": {"out": out}}))],
    );
    let of = |what: &str| -> Vec<Value> {
        let mut events = events(&home);
        events.retain(|event| event["what"] == what);
        events
    };
    let told = |what: &str| {
        wait_until(what, LONG, || match of(what) {
            found if found.len() == 1 => Ok(found[0].clone()),
            found => Err(format!("{found:?}")),
        })
    };
    let event = told("log_trouble");
    assert_eq!(event["target"], "shop", "{event}");
    fs::remove_file(&folder).expect("removed");
    fs::create_dir(&folder).expect("a folder");
    told("log_recovered");
    assert_eq!(of("log_trouble").len(), 1);
}
