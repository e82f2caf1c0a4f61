//! `--host`: another machine by TLS with a pinned authority, and through the real ssh.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::json;
use upkeep_e2e::{
    LONG, app, apply, ended, is_root, kill_daemon, says, skipped, tagged, wait_running, write_apps,
};
use upkeep_testkit::{Following, Home, wait_until};

use crate::{encrypted, run_ok, set, token};

/// Everything that a user does there, from here.
fn works(here: &Home, there: &Home, host: &str) {
    write_apps(
        here,
        "apps.json",
        &[app(there, "shop", &["print", "hello", "wait"])],
    );
    let started = here.cmd(["--host", host, "start", "apps.json"]);
    ended(&started, 0);
    says(&started.stderr, &[&format!("on {host} ("), "shop: created"]);
    wait_running(there, "shop", 1);
    says(&here.ok(["--host", host, "ls"]), &["shop", "running"]);
    assert_eq!(here.json(["--host", host, "ls"])["apps"][0]["name"], "shop");
    let before = tagged(there, "shop");
    // Lines of before and after, and over the death of the daemon there.
    let follow = here.follow(["--host", host, "logs", "shop", "-f"]);
    follow.line_with("hello", LONG);
    kill_daemon(there.keeper_pid());
    wait_until("an answer from there", LONG, || {
        let output = here.cmd(["--host", host, "ping"]);
        if output.code == 0 {
            Ok(())
        } else {
            Err(format!("{output:?}"))
        }
    });
    ended(
        &here.cmd(["--host", host, "restart", "shop", "--reason", "from afar"]),
        0,
    );
    follow.line_with("hello", LONG);
    wait_running(there, "shop", 1);
    assert_ne!(tagged(there, "shop"), before);
    let events = there.json(["events", "-n", "100"]);
    let restart = events["events"]
        .as_array()
        .and_then(|events| events.iter().find(|event| event["what"] == "restart"))
        .unwrap_or_else(|| panic!("no restart: {events}"));
    assert_eq!(restart["why"], "from afar");
    drop(follow);
    // By the variable, too; verbs about this machine say so.
    let mut command = here.command(["ls", "--json"]);
    command.env("UPKEEP_HOST", host);
    let output = here.finish(command, LONG);
    says(&output.stdout, &["shop"]);
    for words in [&["run", "apps.json"][..], &["validate", "apps.json"]] {
        let words: Vec<&str> = ["--host", host].iter().chain(words).copied().collect();
        let refused = here.cmd(&words);
        ended(&refused, 2);
        says(&refused.stderr, &["this verb is about this machine"]);
    }
    let nothing = here.cmd(["--host", host, "stop", "nothing"]);
    ended(&nothing, 3);
    ended(&here.cmd(["--host", host, "delete", "shop"]), 0);
    // Nothing was started here.
    ended(&here.cmd(["ping"]), 8);
}

#[test]
fn another_machine_by_tls() {
    let (here, there) = (Home::new(), Home::new());
    // A port that stays: a daemon that was killed has to come back to it.
    let free = upkeep_testkit::free_address();
    set(&there, &format!("web: {{listen: ['{free}'], tls: true}}"));
    let url = crate::listening(&there, "api");
    let pem = here.work().join("laptop.pem").display().to_string();
    there.ok(["cert", "issue", "laptop", "--role", "admin", "-o", &pem]);
    let shown = there.json(["cert", "show"]);
    let pin = shown["authority"]["fingerprint"].as_str().expect("a hash");
    // Nobody is believed without a word.
    let unsaid = here.cmd(["host", "add", "web1", "--url", &url, "--trust", "--cert", &pem]);
    ended(&unsaid, 4);
    says(&unsaid.stderr, &[pin, "nobody has said"]);
    ended(
        &here.cmd(["host", "add", "web1", "--url", &url, "--cert", &pem]),
        0,
    );
    let strange = here.cmd(["--host", "web1", "ls"]);
    ended(&strange, 4);
    says(&strange.stderr, &["no trust in", "upkeep cert show"]);
    ended(
        &here.cmd(["host", "add", "web1", "--url", &url, "--ca", pin, "--cert", &pem]),
        6,
    );
    ended(
        &here.cmd([
            "host", "add", "web1", "--url", &url, "--ca", pin, "--cert", &pem, "--force",
        ]),
        0,
    );
    says(&here.ok(["host", "test", "web1"]), &["cert:laptop", "admin"]);
    works(&here, &there, "web1");
    // Others that are not it.
    let wrong = format!("sha256:{}", "0".repeat(64));
    here.ok([
        "host", "add", "wrong", "--url", &url, "--ca", &wrong, "--cert", &pem,
    ]);
    let refused = here.cmd(["--host", "wrong", "ls"]);
    ended(&refused, 4);
    says(&refused.stderr, &[pin, "which is not the pinned one"]);
    let named = url.replace("127.0.0.1", "127.0.0.2");
    here.ok([
        "host", "add", "named", "--url", &named, "--ca", pin, "--cert", &pem,
    ]);
    ended(&here.cmd(["--host", "named", "ls"]), 8);
    there.ok([
        "cert",
        "export-ca",
        "-o",
        &here.work().join("ca.pem").display().to_string(),
    ]);
    here.ok([
        "host",
        "add",
        "file",
        "--url",
        &url,
        "--ca-file",
        "ca.pem",
        "--cert",
        &pem,
    ]);
    ended(&here.cmd(["--host", "file", "ping"]), 0);
    // A revoked certificate is told, and nobody waits.
    there.ok(["cert", "revoke", "laptop"]);
    let refused = here.cmd(["--host", "web1", "ls"]);
    ended(&refused, 4);
    says(&refused.stderr, &["CertificateRevoked"]);
    let unknown = here.cmd(["--host", "nobody", "ls"]);
    ended(&unknown, 3);
    says(
        &unknown.stderr,
        &["there is no host `nobody`", "known are: file, named, web1, wrong"],
    );
    assert_eq!(here.ok(["host", "ls", "--quiet"]), "file\nnamed\nweb1\nwrong\n");
    here.ok(["host", "rm", "wrong"]);
    ended(&here.cmd(["host", "rm", "wrong"]), 3);
}

#[test]
fn a_token_comes_from_a_file_that_is_closed_to_others() {
    let (here, there) = (Home::new(), Home::new());
    let url = encrypted(&there);
    let file = here.write("token", &format!("{}\n", token(&there, "viewer")));
    let pin = there.json(["cert", "show"])["authority"]["fingerprint"].clone();
    let pin = pin.as_str().expect("a hash");
    let path = file.display().to_string();
    here.ok([
        "host",
        "add",
        "web1",
        "--url",
        &url,
        "--ca",
        pin,
        "--token-file",
        &path,
    ]);
    let mode = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("our own");
    mode(0o644);
    let open = here.cmd(["--host", "web1", "ls"]);
    ended(&open, 4);
    says(&open.stderr, &["holds a secret", "mode 644", "chmod 600"]);
    mode(0o600);
    ended(&here.cmd(["--host", "web1", "ls"]), 0);
    let refused = here.cmd(["--host", "web1", "shutdown"]);
    ended(&refused, 5);
    says(&refused.stderr, &["token:"]);
    // A certificate that has ended, as openssl makes one.
    there.write("index.txt", "");
    there.write(
        "ca.conf",
        "[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
         x509_extensions=e\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=IP:127.0.0.1\n",
    );
    let script = "openssl ecparam -name prime256v1 -genkey -noout -out old.key && \
        openssl req -new -key old.key -subj /CN=old -out old.csr && \
        openssl ca -batch -config ca.conf -selfsign -keyfile old.key -in old.csr -out old.crt -notext \
            -startdate 20200101000000Z -enddate 20200201000000Z && chmod 600 old.key";
    run_ok(&there, "sh", &["-c", script]);
    set(
        &there,
        "web: {listen: ['127.0.0.1:0'], tls: true, cert_file: old.crt, key_file: old.key}",
    );
    let url = crate::listening(&there, "api");
    let ca = there.work().join("old.crt").display().to_string();
    here.ok([
        "host",
        "add",
        "old",
        "--url",
        &url,
        "--ca-file",
        &ca,
        "--token-file",
        &path,
    ]);
    let expired = wait_until("the old certificate to be shown", LONG, || {
        let output = here.cmd(["--host", "old", "ls"]);
        if output.code == 4 && output.stderr.contains("xpired") {
            Ok(output)
        } else {
            Err(format!("{output:?}"))
        }
    });
    says(&expired.stderr, &["no trust in"]);
    // Without TLS, on this machine only.
    let open = here.cmd(["host", "add", "far", "--url", "http://192.0.2.1:9616"]);
    ended(&open, 2);
    says(&open.stderr, &["not sent in the open"]);
}

/// A real sshd with keys of its own.
struct Sshd {
    child: Child,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It is ours; sessions end with their clients.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    fn start(home: &Home) -> Self {
        for name in ["host_key", "user_key"] {
            run_ok(home, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", name]);
        }
        std::fs::copy(home.work().join("user_key.pub"), home.work().join("authorized")).expect("our own");
        let work = home.work();
        let port = upkeep_testkit::free_port();
        home.write(
            "sshd.conf",
            &format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized\n\
                 PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPrintMotd no\n",
                work.display()
            ),
        );
        let key = std::fs::read_to_string(work.join("host_key.pub")).expect("it was made");
        home.write("known", &format!("[127.0.0.1]:{port} {key}"));
        home.write("unknown", "");
        // The folder that sshd wants to separate itself in is made where nobody else sees it.
        let run = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f \"$0\"";
        let mut command = if is_root() {
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", run]);
            command
        } else {
            let mut command = Command::new("/usr/sbin/sshd");
            command.args(["-D", "-e", "-f"]);
            command
        };
        let log = std::fs::File::create(work.join("sshd.log")).expect("a file");
        let child = command
            .arg(work.join("sshd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd");
        let mut sshd = Self { child, port };
        wait_until("sshd to listen", LONG, || {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(());
            }
            let ended = sshd.child.try_wait();
            let said = std::fs::read_to_string(work.join("sshd.log")).unwrap_or_default();
            Err(format!("{ended:?}: {said}"))
        });
        sshd
    }

    /// Arguments of `host add` that lead here.
    fn add(&self, there: &Home, name: &str, known: &str, program: &str) -> Vec<String> {
        let work = there.work();
        let file = |name: &str| work.join(name).display().to_string();
        let mut words: Vec<String> = ["host", "add", name, "--ssh", "127.0.0.1", "--program", program]
            .map(str::to_owned)
            .into();
        for argument in [
            "-F".to_owned(),
            "none".to_owned(),
            format!("-p{}", self.port),
            "-i".to_owned(),
            file("user_key"),
            format!("-oUserKnownHostsFile={}", file(known)),
            "-oGlobalKnownHostsFile=/dev/null".to_owned(),
            "-oStrictHostKeyChecking=yes".to_owned(),
            "-oIdentitiesOnly=yes".to_owned(),
            "-oBatchMode=yes".to_owned(),
        ] {
            words.push(format!("--ssh-arg={argument}"));
        }
        words
    }
}

/// The line that starts `upkeep` for a home.
fn program(there: &Home) -> String {
    let upkeep: PathBuf = there.upkeep().to_owned();
    format!(
        "env UPKEEP_HOME={} HOME={} {}",
        there.path().display(),
        there.work().display(),
        upkeep.display()
    )
}

#[test]
fn another_machine_through_ssh() {
    let (here, there) = (Home::new(), Home::new());
    let sshd = Sshd::start(&there);
    here.ok(sshd.add(&there, "db1", "known", &program(&there)));
    // No daemon runs there: who only asks is told, who needs one starts it.
    let none = here.cmd(["--host", "db1", "ping"]);
    ended(&none, 8);
    says(&none.stderr, &["no daemon runs there"]);
    works(&here, &there, "db1");
    let who = here.json(["host", "test", "db1"]);
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(who["whoami"]["principal"], json!(format!("uid:{uid}")));
    // A listener on loopback there: a browser of here needs a way to it.
    let web = here.cmd(["--host", "db1", "web", "--listen", "127.0.0.1:0"]);
    ended(&web, 0);
    let at = web.stdout.trim().strip_prefix("http://").unwrap_or_default();
    let (_, port) = at.split_once(':').unwrap_or_default();
    says(
        &web.stderr,
        // With the arguments of the profile: it can be typed as it stands.
        &[
            &format!("{at} is loopback of db1: `ssh -N -L {port}:{at} -F none -p"),
            "-oBatchMode=yes 127.0.0.1` leads there from here",
        ],
    );
    // What ssh says is passed on.
    here.ok(sshd.add(&there, "strange", "unknown", &program(&there)));
    let strange = here.cmd(["--host", "strange", "ls"]);
    ended(&strange, 8);
    says(
        &strange.stderr,
        &["Host key verification failed", "it said why above"],
    );
    here.ok(sshd.add(&there, "without", "known", "upkeep-is-not-here"));
    let without = here.cmd(["--host", "without", "ls"]);
    ended(&without, 8);
    says(&without.stderr, &["there is no program `upkeep`"]);
    drop(sshd);
    let refused = here.cmd(["--host", "db1", "ls"]);
    ended(&refused, 8);
    says(&refused.stderr, &["Connection refused", "it said why above"]);
}

/// Another user of this machine, whose id the kernel tells.
const NOBODY: u32 = 65534;

#[test]
fn the_daemon_of_another_user_by_its_socket() {
    if !is_root() {
        return skipped("only root can be two users");
    }
    let (here, there) = (Home::new(), Home::new());
    apply(&there, &[app(&there, "shop", &["print", "hello", "wait"])]);
    let socket = there.path().join("run/api.sock");
    let socket = socket.to_str().expect("a path");
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    };
    // As `/var/lib` and `/run` are; the tests' own folders are closed to others.
    open(there.path().parent().expect("above it"));
    open(&there.path());
    for path in [here.work().parent().expect("above it"), &here.work()] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("an owner");
    }
    let other = |words: &[&str]| {
        let mut command = here.command(words);
        command.uid(NOBODY).gid(NOBODY);
        here.finish(command, LONG)
    };
    if other(&["--version"]).code != 0 {
        return skipped("`nobody` may not enter the directory of the build");
    }
    ended(&other(&["host", "add", "ops", "--socket", socket]), 0);
    says(
        &other(&["host", "ls"]).stdout,
        &["ops", &format!("unix:{socket}")],
    );
    // Without a role the socket is closed.
    let closed = other(&["--host", "ops", "ls"]);
    ended(&closed, 8);
    says(&closed.stderr, &[socket, "Permission denied", "has a role"]);
    let member = format!("uid:{NOBODY}");
    there.ok(["role", "grant", "viewer", &member]);
    let direct = format!("unix:{socket}");
    wait_until("the socket to be open", LONG, || {
        let output = other(&["--host", &direct, "ls"]);
        if output.code == 0 && output.stdout.contains("shop") {
            Ok(())
        } else {
            Err(format!("{output:?}"))
        }
    });
    says(&other(&["host", "test", "ops"]).stdout, &[&member, "viewer"]);
    says(&other(&["--host", "ops", "logs", "shop"]).stdout, &["hello"]);
    let refused = other(&["--host", "ops", "restart", "shop"]);
    ended(&refused, 5);
    says(&refused.stderr, &["apps:operate"]);
    there.ok(["role", "grant", "operator", &member]);
    let before = tagged(&there, "shop");
    ended(&other(&["--host", "ops", "restart", "shop"]), 0);
    assert_ne!(tagged(&there, "shop"), before);
    // Nothing was started for that user.
    ended(&other(&["ping"]), 8);
    for (words, why) in [
        (&["--host", "unix:api.sock", "ls"][..], "is no whole path"),
        (&["--host", "unix:", "ls"], "is no whole path"),
        (&["--host", "unix:/no/such.sock", "ls"], "no daemon answers"),
        (
            &["host", "add", "x", "--socket", "/a", "--ssh", "b"],
            "cannot be used with",
        ),
        (&["host", "add", "x"], "required arguments"),
    ] {
        let output = other(words);
        assert_ne!(output.code, 0, "{output:?}");
        says(&output.stderr, &[why]);
    }
}

#[test]
fn a_listener_is_called_what_its_machine_is_called() {
    let (here, there) = (Home::new(), Home::new());
    let port = upkeep_testkit::free_port();
    // All addresses: what a browser is to be led to is told by who asks.
    set(
        &there,
        &format!("web: {{listen: ['0.0.0.0:{}'], names: [localhost]}}", port),
    );
    let url = crate::listening(&there, "api");
    let pem = here.work().join("laptop.pem").display().to_string();
    there.ok(["cert", "issue", "laptop", "--role", "admin", "-o", &pem]);
    let shown = there.json(["cert", "show"]);
    let pin = shown["authority"]["fingerprint"].as_str().expect("a hash");
    let named = url.replace("0.0.0.0", "localhost");
    here.ok([
        "host", "add", "web1", "--url", &named, "--ca", pin, "--cert", &pem,
    ]);
    let told = here.ok(["--host", "web1", "web"]);
    assert_eq!(told.trim(), named, "as the profile calls it");
    // Through a socket, and at home, it is called as it calls itself.
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let own = url.replace("0.0.0.0", &hostname);
    let socket = format!("unix:{}", there.path().join("run/api.sock").display());
    assert_eq!(here.ok(["--host", &socket, "web"]).trim(), own);
    assert_eq!(there.ok(["web"]).trim(), own);
    assert_eq!(there.json(["ping"])["hostname"], json!(hostname));
}

#[test]
fn what_leads_to_a_daemon_ends_with_its_client() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let mut joined = home.command(["connect"]);
    joined.stdin(Stdio::piped());
    let mut following = Following::start(joined);
    assert_eq!(following.next_line(LONG).as_deref(), Some("upkeep-connect 1"));
    // Its standard input is closed when it is dropped.
    kill_daemon(home.keeper_pid());
    assert_eq!(following.wait(LONG), 0, "it ends with the daemon");
}
