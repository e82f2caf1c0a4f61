//! Applications that we did not write, from npm, under the real PM2 and under ours: the same commands, the same answers.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use upkeep_e2e::LONG;
use upkeep_testkit::wait_until;

/// What is installed, each in a version that its authors will not change any more.
const PACKAGES: [&str; 6] = [
    "express@5.1.0",
    "fastify@5.6.1",
    "http-server@14.1.1",
    "json-server@0.17.4",
    "pm2-logrotate@3.0.0",
    "pm2@7.0.4",
];

const EXPRESS: &str = "
const app = require('express')();
app.get('/', (request, answer) => answer.json({ hello: 'express', workers: process.env.instances }));
const server = app.listen(0, () => console.log('port ' + server.address().port));
";

const FASTIFY: &str = "
const app = require('fastify')();
app.get('/', async () => ({ hello: 'fastify', name: process.env.name }));
app.listen({ port: 0 }).then((address) => console.log('port ' + address.split(':').pop()));
";

/// Starts a server of the command line of a package on a port that is free and says which.
const FREE: &str = "
const net = require('net');
const probe = net.createServer().listen(0, () => {
  const { port } = probe.address();
  probe.close(() => {
    process.argv = [process.argv[0], process.argv[1], ...process.argv.slice(3), String(port)];
    console.log('port ' + port);
    require(process.env.SERVER);
  });
});
";

/// The packages; a file's lock makes one test of several install them.
fn packages() -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.peers");
    let folder = peers.join("apps");
    fs::create_dir_all(&folder).expect("a folder for packages");
    let folder = folder.canonicalize().expect("it exists");
    let lock = File::create(peers.join("apps.lock")).expect("a lock");
    lock.lock().expect("the lock");
    let done = folder.join("installed");
    if fs::read_to_string(&done).unwrap_or_default() != PACKAGES.join(" ") {
        let output = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&folder)
            .args(PACKAGES)
            .output()
            .expect("npm runs");
        assert!(
            output.status.success(),
            "npm: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(done, PACKAGES.join(" ")).expect("written");
    }
    folder.join("node_modules")
}

/// A home with one of the two; its daemon ends with it.
struct Side {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Side {
    fn new(is_ours: bool, packages: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = if is_ours {
            let link = folder.path().join("pm2");
            symlink(upkeep_testkit::binary("upkeep"), &link).expect("a link");
            link
        } else {
            packages.join("pm2/bin/pm2")
        };
        symlink(packages, folder.path().join("node_modules")).expect("a link");
        Self { folder, program }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("written");
    }

    fn try_pm2(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new(&self.program)
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("PM2_HOME", self.folder.path().join("h"))
            .env("PM2_DISCRETE_MODE", "true")
            // Else the apps of one file get their ids in a race.
            .env("PM2_CONCURRENT_ACTIONS", "1")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("pm2 runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.success(),
            text + &String::from_utf8_lossy(&output.stderr),
        )
    }

    fn pm2(&self, words: &[&str]) -> String {
        let (done, text) = self.try_pm2(words);
        assert!(done, "{} {words:?}: {text}", self.program.display());
        text
    }

    fn list(&self) -> Vec<Value> {
        let text = self.pm2(&["jlist"]);
        let start = text.find("[{").unwrap_or_else(|| panic!("no list in {text}"));
        serde_json::from_str(text[start..].trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The port that an app said last.
    fn port(&self, log: &str, said: usize) -> u16 {
        let path = self.folder.path().join("h/logs").join(log);
        wait_until("the app to say its port", LONG, || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let ports: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("port "))
                .collect();
            match ports.last().and_then(|port| port.trim().parse().ok()) {
                Some(port) if ports.len() >= said => Ok(port),
                _ => Err(format!("{}: {text}", path.display())),
            }
        })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // The test has failed already if this does.
        let _ = self.try_pm2(&["kill"]);
    }
}

/// Status line and body of `GET /`.
fn get(port: u16) -> String {
    wait_until("the server to answer", LONG, || {
        let told = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(("localhost", port)).map_err(told)?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .map_err(told)?;
        stream
            .write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .map_err(told)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(told)?;
        let status = answer.lines().next().unwrap_or_default().to_owned();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(format!("{status}\n{body}"))
    })
}

/// What can be compared of the list.
fn shape(list: &[Value]) -> Vec<String> {
    list.iter()
        .map(|app| {
            let env = &app["pm2_env"];
            format!(
                "{} {} {} {} restarts {} version {}",
                app["pm_id"],
                app["name"],
                env["status"],
                env["exec_mode"],
                env["restart_time"],
                env["version"]
            )
        })
        .collect()
}

/// The whole script of commands; what was seen.
fn drive(side: &Side, packages: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    side.write("express.js", EXPRESS);
    side.write("fastify.js", FASTIFY);
    side.write("free.js", FREE);
    side.write("db.json", r#"{"posts": [{"id": 1, "title": "kept"}]}"#);
    fs::create_dir(side.folder.path().join("public")).expect("a folder");
    side.write("public/index.html", "<h1>served</h1>");
    side.pm2(&["start", "express.js"]);
    side.pm2(&["start", "fastify.js"]);
    let server = |name: &str| packages.join(name).display().to_string();
    side.write(
        "servers.json",
        &serde_json::json!({ "apps": [
            {"name": "http-server", "script": "free.js", "args": ["-", "public", "-p"], "env": {"SERVER": server("http-server/bin/http-server")}},
            {"name": "json-server", "script": "free.js", "args": ["-", "db.json", "--port"], "env": {"SERVER": server("json-server/lib/cli/bin.js")}},
        ]})
        .to_string(),
    );
    side.pm2(&["start", "servers.json"]);
    for app in ["express", "fastify", "http-server"] {
        seen.push(format!("{app}: {}", get(side.port(&format!("{app}-out.log"), 1))));
    }
    let json = get(side.port("json-server-out.log", 1));
    seen.push(format!(
        "json-server: {}",
        json.lines().next().unwrap_or_default()
    ));
    seen.extend(shape(&side.list()));

    // Replaced: a new port, the same answer.
    side.pm2(&["reload", "express"]);
    seen.push(format!("reloaded: {}", get(side.port("express-out.log", 2))));
    side.pm2(&["restart", "servers.json", "--only", "http-server"]);
    seen.push(format!("restarted: {}", get(side.port("http-server-out.log", 2))));
    // One more of a kind, each with a port of its own.
    side.pm2(&["scale", "fastify", "2"]);
    seen.push(format!("scaled: {}", get(side.port("fastify-out.log", 2))));
    seen.extend(shape(&side.list()));
    let logs = side.pm2(&["logs", "express", "--nostream", "--raw", "--lines", "2"]);
    let said = logs.lines().filter(|line| line.starts_with("port ")).count();
    seen.push(format!("{said} lines of express"));
    side.pm2(&["stop", "all"]);
    seen.extend(shape(&side.list()));
    side.pm2(&["delete", "all"]);
    seen
}

#[test]
fn applications_from_npm_behave_alike() {
    let packages = packages();
    let (ours, theirs) = (Side::new(true, &packages), Side::new(false, &packages));
    let seen = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| drive(&theirs, &packages));
        (drive(&ours, &packages), theirs.join())
    });
    let theirs = seen.1.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(seen.0, theirs, "ours and PM2's");
    assert!(
        theirs[0].contains("200 OK") && theirs[0].contains("hello"),
        "nothing was compared: {theirs:?}"
    );
}

/// PM2's own module for rotation drives our daemon: it lists apps, copies, truncates, and asks for logs to be opened anew.
#[test]
fn pm2_logrotate_rotates_our_logs() {
    let packages = packages();
    let side = Side::new(true, &packages);
    side.write(
        "writer.js",
        "setInterval(() => console.log('x'.repeat(1000)), 1);\n",
    );
    side.pm2(&["set", "pm2-logrotate:max_size", "20K"]);
    side.pm2(&["set", "pm2-logrotate:workerInterval", "1"]);
    side.pm2(&["set", "pm2-logrotate:retain", "5"]);
    side.pm2(&["start", "writer.js"]);
    // Its settings reach it as variables, as a module's do.
    side.write(
        "rotate.json",
        &serde_json::json!({ "apps": [{
            "name": "pm2-logrotate",
            "script": packages.join("pm2-logrotate/app.js"),
            "env": {"PM2_HOME": side.folder.path().join("h")},
        }]})
        .to_string(),
    );
    side.pm2(&["start", "rotate.json"]);
    let logs = side.folder.path().join("h/logs");
    let rotated = |name: &str| name.starts_with("writer-out__");
    wait_until("a rotated file", LONG, || {
        let names: Vec<String> = fs::read_dir(&logs)
            .map_err(|error| error.to_string())?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        if names.iter().any(|name| rotated(name)) {
            Ok(())
        } else {
            let said = fs::read_to_string(logs.join("pm2-logrotate-out.log")).unwrap_or_default();
            Err(format!("{names:?}: {said}"))
        }
    });
    let list = side.list();
    let writer = list.iter().find(|app| app["name"] == "writer");
    assert_eq!(
        writer.map(|app| &app["pm2_env"]["status"]),
        Some(&Value::from("online"))
    );
}
