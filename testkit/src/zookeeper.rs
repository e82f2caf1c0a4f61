//! Real ZooKeepers in private directories: one, or three that form an ensemble. Dropping ends everything.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{free_address, wait::wait_until};

/// How long a server may take to serve.
const START: Duration = Duration::from_mins(1);

/// Servers of an ensemble.
#[derive(Debug)]
pub struct ZooKeeper {
    dir: tempfile::TempDir,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    client: SocketAddr,
    child: Option<Child>,
}

impl ZooKeeper {
    /// One server.
    pub fn single() -> Self {
        Self::start(1, "")
    }

    /// One server, with more lines of its configuration.
    pub fn single_with(lines: &str) -> Self {
        Self::start(1, lines)
    }

    /// Three servers that form an ensemble.
    pub fn three() -> Self {
        Self::start(3, "")
    }

    fn start(count: usize, lines: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("upkeep-zookeeper-")
            .tempdir()
            .expect("a directory");
        let servers = (0..count).map(|_| Server {
            client: free_address(),
            child: None,
        });
        let mut this = Self {
            dir,
            servers: servers.collect(),
        };
        let mut members = String::new();
        if count > 1 {
            for index in 1..=count {
                let _ = writeln!(
                    members,
                    "server.{index}={}:{}",
                    free_address(),
                    free_address().port()
                );
            }
        }
        for index in 0..count {
            let data = this.dir.path().join(index.to_string());
            fs::create_dir(&data).expect("a directory");
            fs::write(data.join("myid"), format!("{}\n", index + 1)).expect("a file");
            let client = this.servers[index].client;
            let config = format!(
                "tickTime=500\ninitLimit=40\nsyncLimit=10\ndataDir={}\nclientPort={}\nclientPortAddress={}\n\
                 admin.enableServer=false\n4lw.commands.whitelist=srvr\n{members}{lines}\n",
                data.display(),
                client.port(),
                client.ip()
            );
            fs::write(this.dir.path().join(format!("{index}.cfg")), config).expect("a file");
            this.spawn(index);
        }
        for index in 0..count {
            this.wait_serving(index);
        }
        this
    }

    fn spawn(&mut self, index: usize) {
        let log = File::create(self.dir.path().join(format!("{index}.log"))).expect("a log");
        let child = Command::new("java")
            // Small, and soon there.
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg("/usr/share/java/zookeeper.jar:/usr/share/java/*")
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(self.dir.path().join(format!("{index}.cfg")))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("java starts (Debian: zookeeper)");
        self.servers[index].child = Some(child);
    }

    fn wait_serving(&mut self, index: usize) {
        let log = self.dir.path().join(format!("{index}.log"));
        let server = &mut self.servers[index];
        wait_until("ZooKeeper to serve", START, || {
            if let Some(Ok(Some(status))) = server.child.as_mut().map(Child::try_wait) {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().take(10).collect();
                panic!("ZooKeeper ended with {status}: {}", tail.join("\n"));
            }
            let said = srvr(server.client).map_err(|error| error.to_string())?;
            if said.contains("Mode: ") {
                Ok(())
            } else {
                Err(said)
            }
        });
    }

    /// Where clients reach the servers: `127.0.0.1:PORT`, each.
    pub fn servers(&self) -> Vec<String> {
        self.servers
            .iter()
            .map(|server| server.client.to_string())
            .collect()
    }

    /// `zookeeper://…` of all servers.
    pub fn url(&self) -> String {
        format!("zookeeper://{}", self.servers().join(","))
    }

    /// Of a server that runs.
    pub fn pid(&self, index: usize) -> u32 {
        let child = self.servers[index].child.as_ref();
        child.expect("it runs").id()
    }

    /// Kill -9.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.servers[index].child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Starts one that was killed, and waits until it serves.
    pub fn restart(&mut self, index: usize) {
        self.spawn(index);
        self.wait_serving(index);
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        for index in 0..self.servers.len() {
            self.kill(index);
        }
    }
}

/// What the server says of itself.
fn srvr(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"srvr")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}
