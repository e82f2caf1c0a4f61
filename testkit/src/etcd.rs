//! Real etcds in private directories, on ports that nobody else has: one, or three that form a cluster.
//!
//! [`Etcd::single`] and [`Etcd::three`] are on loopback. [`Etcd::apart`] gives every member a network of its own, joined
//! by a bridge in the network of the caller, who has to be in one that it made itself ([`in_own_network`]): there members can
//! be cut off. Dropping ends everything.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    port::free_port,
    process::{Signal, kill},
    wait::wait_until,
};

/// How long a member may take to be healthy.
const START: Duration = Duration::from_mins(1);

/// Members of a cluster. Dropping it ends them.
#[derive(Debug)]
pub struct Etcd {
    dir: tempfile::TempDir,
    members: Vec<Member>,
    tls: bool,
    arguments: Vec<String>,
}

/// A member.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_url: String,
    /// Where the others reach it.
    pub peer_url: String,
    /// Where it says how it is, without TLS.
    health: String,
    /// Its data.
    pub data: PathBuf,
    network: Option<String>,
    /// Seconds that its clock is ahead of everybody else's.
    ahead: i64,
    /// `new`, or `existing` when it joins.
    joins: bool,
    child: Option<Child>,
}

impl Etcd {
    /// One member, without TLS, with these arguments beside its own.
    pub fn single(arguments: &[&str]) -> Self {
        Self::single_with(false, arguments)
    }

    /// One member; with TLS it asks for client certificates.
    pub fn single_with(tls: bool, arguments: &[&str]) -> Self {
        let mut etcd = Self::prepare(tls, arguments);
        etcd.members.push(etcd.member("one", "127.0.0.1", None));
        etcd.start_all();
        etcd
    }

    /// Three members, with TLS that wants certificates of clients (`tls`) or without.
    pub fn three(tls: bool, arguments: &[&str]) -> Self {
        let mut etcd = Self::prepare(tls, arguments);
        for name in ["one", "two", "three"] {
            etcd.members.push(etcd.member(name, "127.0.0.1", None));
        }
        etcd.start_all();
        etcd
    }

    /// Three members without TLS, changed before they start.
    pub fn three_with(arguments: &[&str], change: impl FnOnce(&mut Self)) -> Self {
        let mut etcd = Self::prepare(false, arguments);
        for name in ["one", "two", "three"] {
            etcd.members.push(etcd.member(name, "127.0.0.1", None));
        }
        change(&mut etcd);
        etcd.start_all();
        etcd
    }

    /// Three members with a network of their own each; see [`in_own_network`].
    pub fn apart(arguments: &[&str]) -> Self {
        let mut etcd = Self::prepare(false, arguments);
        run("ip", &["link", "add", "hub", "type", "bridge"]);
        run("ip", &["address", "add", "10.77.0.254/24", "dev", "hub"]);
        run("ip", &["link", "set", "hub", "up"]);
        for (number, name) in ["one", "two", "three", "four"].into_iter().enumerate() {
            let address = format!("10.77.0.{}", number + 1);
            let (inside, outside) = (format!("in{number}"), format!("out{number}"));
            run("ip", &["netns", "add", name]);
            run(
                "ip",
                &[
                    "link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", name,
                ],
            );
            run("ip", &["link", "set", &outside, "master", "hub", "up"]);
            let within = |arguments: &[&str]| run("ip", &[&["-n", name], arguments].concat());
            within(&["address", "add", &format!("{address}/24"), "dev", &inside]);
            within(&["link", "set", &inside, "up"]);
            within(&["link", "set", "lo", "up"]);
            if number < 3 {
                etcd.members
                    .push(etcd.member(name, &address, Some(name.to_owned())));
            }
        }
        etcd.start_all();
        etcd
    }

    fn prepare(tls: bool, arguments: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("upkeep-etcd-")
            .tempdir()
            .expect("a directory");
        if tls {
            authority(dir.path());
            certificate(dir.path(), "member");
        }
        Self {
            dir,
            members: Vec::new(),
            tls,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        }
    }

    fn member(&self, name: &str, address: &str, network: Option<String>) -> Member {
        let scheme = if self.tls { "https" } else { "http" };
        Member {
            name: name.to_owned(),
            client_url: format!("{scheme}://{address}:{}", free_port()),
            peer_url: format!("{scheme}://{address}:{}", free_port()),
            health: format!("{address}:{}", free_port()),
            data: self.dir.path().join(name),
            network,
            ahead: 0,
            joins: false,
            child: None,
        }
    }

    fn start_all(&mut self) {
        for index in 0..self.members.len() {
            self.spawn(index);
        }
        for index in 0..self.members.len() {
            self.wait_healthy(index);
        }
    }

    /// Starts a member that was ended, and waits until it is healthy.
    pub fn start(&mut self, index: usize) {
        self.spawn(index);
        self.wait_healthy(index);
    }

    /// Starts a member and waits for nothing.
    pub fn spawn(&mut self, index: usize) {
        let all: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url))
            .collect();
        let member = &self.members[index];
        let mut words: Vec<String> = Vec::new();
        if let Some(network) = &member.network {
            words.extend(["ip", "netns", "exec", network].map(str::to_owned));
        }
        if member.ahead != 0 {
            let ahead = member.ahead.to_string();
            words.extend(
                ["unshare", "--time", "--monotonic", &ahead, "--boottime", &ahead].map(str::to_owned),
            );
        }
        words.push("etcd".to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
            .args(["--name", &member.name, "--data-dir"])
            .arg(&member.data)
            .args(["--listen-client-urls", &member.client_url])
            .args(["--advertise-client-urls", &member.client_url])
            .args(["--listen-peer-urls", &member.peer_url])
            .args(["--initial-advertise-peer-urls", &member.peer_url])
            .args(["--listen-metrics-urls", &format!("http://{}", member.health)])
            .args(["--initial-cluster", &all.join(",")])
            .args([
                "--initial-cluster-state",
                if member.joins { "existing" } else { "new" },
            ])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(&self.arguments);
        if self.tls {
            let file = |name: &str| self.dir.path().join(name);
            for (flag, name) in [
                ("cert", "member.crt"),
                ("key", "member.key"),
                ("trusted-ca", "ca.crt"),
            ] {
                command.arg(format!("--{flag}-file")).arg(file(name));
                command.arg(format!("--peer-{flag}-file")).arg(file(name));
            }
            command.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("{}.log", member.name)))
            .expect("a log");
        // A signal for the test's terminal is not for it.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("etcd starts (Debian: etcd-server)");
        self.members[index].child = Some(child);
    }

    /// Sets the clock that a member measures time by (leases, elections), when it is started next: seconds ahead of everybody
    /// else's.
    pub fn set_clock(&mut self, index: usize, ahead: i64) {
        self.members[index].ahead = ahead;
    }

    /// Waits until a member is part of a cluster with a leader.
    pub fn wait_healthy(&mut self, index: usize) {
        let member = &mut self.members[index];
        let log = self.dir.path().join(format!("{}.log", member.name));
        wait_until(&format!("etcd `{}` to be healthy", member.name), START, || {
            if let Some(Ok(Some(status))) = member.child.as_mut().map(Child::try_wait) {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().take(5).collect();
                panic!("etcd `{}` ended with {status}: {}", member.name, tail.join("\n"));
            }
            let said = health(&member.health).map_err(|error| error.to_string())?;
            if said.contains(r#""health":"true""#) {
                Ok(())
            } else {
                Err(said)
            }
        });
    }

    /// The members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where clients reach them.
    pub fn endpoints(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.client_url.clone())
            .collect()
    }

    /// What it has said so far.
    pub fn log(&self, index: usize) -> String {
        let log = self.dir.path().join(format!("{}.log", self.members[index].name));
        fs::read_to_string(log).unwrap_or_default()
    }

    /// Its process.
    pub fn pid(&self, index: usize) -> i32 {
        let child = self.members[index].child.as_ref().expect("it runs");
        i32::try_from(child.id()).expect("a pid")
    }

    /// Kill -9.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Stops its process where it is.
    pub fn pause(&self, index: usize) {
        kill(self.pid(index), Signal::STOP).expect("it takes signals");
    }

    /// Lets it go on.
    pub fn resume(&self, index: usize) {
        kill(self.pid(index), Signal::CONT).expect("it takes signals");
    }

    /// Forgets a member that the cluster no longer has, and gives another its place, which joins when it is started. Tell
    /// the cluster its `peer_url` first.
    pub fn replace(&mut self, index: usize, name: &str) -> &Member {
        self.kill(index);
        let network = self.members[index].network.as_ref().map(|_| name.to_owned());
        let address = if network.is_some() {
            "10.77.0.4"
        } else {
            "127.0.0.1"
        };
        let mut member = self.member(name, address, network);
        member.joins = true;
        self.members[index] = member;
        &self.members[index]
    }

    /// Cuts a member off from the others, but not from clients; only if they are apart.
    pub fn cut_off(&self, index: usize) {
        let network = self.members[index]
            .network
            .as_deref()
            .expect("a network of its own");
        let nft = |rule: &str| {
            let words: Vec<&str> = rule.split(' ').collect();
            run(
                "ip",
                &[&["netns", "exec", network, "nft"], words.as_slice()].concat(),
            );
        };
        nft("add table inet cut");
        nft("add chain inet cut in { type filter hook input priority 0 ; }");
        nft("add chain inet cut out { type filter hook output priority 0 ; }");
        let number = index + 1;
        for other in (1..=4).filter(|other| *other != number) {
            nft(&format!("add rule inet cut in ip saddr 10.77.0.{other} drop"));
            nft(&format!("add rule inet cut out ip daddr 10.77.0.{other} drop"));
        }
    }

    /// Ends what [`Etcd::cut_off`] began.
    pub fn heal(&self, index: usize) {
        let network = self.members[index]
            .network
            .as_deref()
            .expect("a network of its own");
        run(
            "ip",
            &["netns", "exec", network, "nft", "delete", "table", "inet", "cut"],
        );
    }

    /// Who vouches for the members.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// A certificate and key for this common name.
    pub fn client_certificate(&self, name: &str) -> (PathBuf, PathBuf) {
        certificate(self.dir.path(), name);
        let file = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        (file("crt"), file("key"))
    }

    /// A directory that goes with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where a member that has not been started yet keeps its data.
    pub fn move_data(&mut self, index: usize, to: &Path) {
        to.clone_into(&mut self.members[index].data);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

fn health(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir)
        .output()
        .expect("openssl runs");
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn authority(dir: &Path) {
    openssl(
        dir,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=tests -keyout ca.key -out ca.crt",
    );
}

fn certificate(dir: &Path, name: &str) {
    let extensions = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n";
    fs::write(dir.join("extensions"), extensions).expect("a file");
    openssl(
        dir,
        &format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ),
    );
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.crt"
        ),
    );
}

/// Says that this process is in a network that it made.
const OWN_NETWORK: &str = "UPKEEP_TEST_OWN_NETWORK";

/// Runs this test again in a network of its own, where it may make more of them, and gives back whether the caller is
/// the one in there: `if !in_own_network("module::test") { return; }`. What was made goes with the processes.
///
/// # Panics
///
/// If the test in there fails.
pub fn in_own_network(test: &str) -> bool {
    if std::env::var_os(OWN_NETWORK).is_some() {
        return true;
    }
    let own = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec \"$0\" \"$@\"")
        .arg(own)
        .args([test, "--exact", "--nocapture"])
        .env(OWN_NETWORK, "1");
    let status = command.status().expect("unshare runs");
    assert!(status.success(), "in a network of its own: {status}");
    false
}
