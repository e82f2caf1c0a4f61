//! Programs under load: how each is written in an app file.

use std::fs;

use serde_json::{Value, json};
use upkeep_testkit::{Home, binary, load::Kind, node, python};

/// A program that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// A Rust program that takes its socket with the crate `listenfd`.
    Rust,
    /// gunicorn, which takes `LISTEN_FDS` without being told.
    Gunicorn,
    /// uvicorn, told its socket by `--fd {fd:0}`.
    Uvicorn,
    /// uvicorn on ports of its own behind the front door.
    UvicornBehindDoor,
    /// `python3 -m http.server`, which knows nothing of anything, behind the front door.
    HttpServerBehindDoor,
    /// A cluster of a Node of this version; its program knows nothing of Upkeep.
    Node(&'static str),
}

/// What is different about a version of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Version {
    /// What it answers.
    pub(crate) number: u32,
    /// How many copies.
    pub(crate) instances: u32,
    /// It ends like a crash so long after its start.
    pub(crate) crash_after_ms: Option<u64>,
    /// It never becomes ready.
    pub(crate) never_ready: bool,
    /// This instance ends before it serves, again and again.
    pub(crate) ends_at_once: Option<u32>,
}

impl Program {
    pub(crate) const ALL: [Self; 8] = [
        Self::Node(node::VERSIONS[0]),
        Self::Node(node::VERSIONS[1]),
        Self::Node(node::VERSIONS[2]),
        Self::Rust,
        Self::Gunicorn,
        Self::Uvicorn,
        Self::UvicornBehindDoor,
        Self::HttpServerBehindDoor,
    ];

    pub(crate) fn name(self) -> String {
        let name = match self {
            Self::Node(version) => {
                return format!("node_{}", version.split('.').next().unwrap_or(version));
            }
            Self::Rust => "rust",
            Self::Gunicorn => "gunicorn",
            Self::Uvicorn => "uvicorn",
            Self::UvicornBehindDoor => "uvicorn_behind_door",
            Self::HttpServerBehindDoor => "http_server_behind_door",
        };
        name.to_owned()
    }

    /// How clients may use their connections so that not one request fails.
    pub(crate) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Uvicorn => &[Kind::PerRequest],
            _ => &[Kind::PerRequest, Kind::KeepAlive],
        }
    }

    /// Which scenarios it is fit for. uvicorn with a socket that it shares cuts, when it is told to end, connections
    /// that it has accepted and not read from (seen in twenty reloads: some twenty of 20,000 requests). Only a front
    /// door mends that; so by itself it is not held to scenarios in which a copy that serves is ended.
    pub(crate) fn holds(self, scenario: &str) -> bool {
        // What is decided there does not depend on the program.
        if scenario.contains("superseded") && !matches!(self, Self::Rust | Self::HttpServerBehindDoor) {
            return false;
        }
        let ends_copies = ["reloads", "scaled", "never_ready", "daemon_is_killed"];
        self != Self::Uvicorn || !ends_copies.iter().any(|word| scenario.contains(word))
    }

    /// Makes what it needs besides, once.
    pub(crate) fn prepare(self, home: &Home) -> Result<(), String> {
        match self {
            Self::Rust => Ok(()),
            Self::Node(version) => {
                home.write("server.js", include_str!("server.js"));
                node::node(version).map(drop)
            }
            Self::Gunicorn | Self::Uvicorn | Self::UvicornBehindDoor => {
                home.write("apps.py", include_str!("apps.py"));
                python::servers().map(drop)
            }
            Self::HttpServerBehindDoor => {
                for version in 1..=2 {
                    let dir = home.work().join(format!("v{version}"));
                    fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
                    fs::write(dir.join("index.html"), format!("v{version}"))
                        .map_err(|error| error.to_string())?;
                }
                Ok(())
            }
        }
    }

    /// The app file of a version.
    pub(crate) fn file(self, port: u16, version: Version) -> Value {
        let number = version.number;
        let fails = version
            .ends_at_once
            .map(|instance| format!("[ \"$UPKEEP_INSTANCE\" = {instance} ] && exit 3; exec \"$@\""));
        let mut command: Vec<String> = match &fails {
            // These do it by themselves.
            Some(line) if !matches!(self, Self::Rust | Self::Node(_)) => {
                ["sh", "-c", line, "-"].map(str::to_owned).to_vec()
            }
            _ => Vec::new(),
        };
        let words: &[&str] = match self {
            Self::Rust | Self::Node(_) => &[],
            Self::Gunicorn => &["python3", "-m", "gunicorn", "-w", "1", "apps:wsgi"],
            Self::Uvicorn => &[
                "python3",
                "-m",
                "uvicorn",
                "--fd",
                "{fd:0}",
                "--log-level",
                "warning",
                "apps:asgi",
            ],
            Self::UvicornBehindDoor => &[
                "python3",
                "-m",
                "uvicorn",
                "--port",
                "{port}",
                "--log-level",
                "warning",
                "apps:asgi",
            ],
            Self::HttpServerBehindDoor => &["python3", "-m", "http.server", "{port}", "--bind", "127.0.0.1"],
        };
        if let (Self::HttpServerBehindDoor, Some(after)) = (self, version.crash_after_ms) {
            let seconds = format!("{}.{:03}", after / 1000, after % 1000);
            command.extend(["timeout", "-s", "KILL", &seconds].map(str::to_owned));
        }
        command.extend(words.iter().map(|word| (*word).to_owned()));
        if self == Self::Rust {
            command.push(binary("upkeep-served").display().to_string());
        }
        if let Self::Node(version) = self {
            // It is there: see `prepare`.
            let program = node::node(version).unwrap_or_else(|_| "node".into());
            command.extend([program.display().to_string(), "server.js".to_owned()]);
        }
        if self == Self::HttpServerBehindDoor {
            command.extend(["-d".to_owned(), format!("v{number}")]);
        }
        let mut env = json!({"V": format!("v{number}")});
        if let Ok(packages) = python::servers()
            && !matches!(self, Self::Rust | Self::Node(_))
        {
            env["PYTHONPATH"] = json!(packages);
        }
        if let Some(after) = version.crash_after_ms {
            env["CRASH_AFTER_MS"] = json!(after.to_string());
        }
        if let Some(instance) = version.ends_at_once {
            env["EXIT_AT_ONCE"] = json!(instance.to_string());
        }
        let mut app = json!({
            "name": "web",
            "command": command,
            "instances": version.instances,
            "env": env,
            "restart": {"min_uptime": "400ms", "backoff": "100ms", "give_up_after": "never"},
            "rollout": {"settle": "200ms", "watch": "1s", "timeout": "8s"},
        });
        let address = format!("127.0.0.1:{port}");
        match self {
            Self::Rust | Self::Gunicorn | Self::Uvicorn => app["listen"] = json!([address]),
            Self::Node(_) => {
                app["mode"] = json!("cluster");
                app["env"]["PORT"] = json!(port.to_string());
            }
            Self::UvicornBehindDoor | Self::HttpServerBehindDoor => {
                app["door"] = json!({"listen": [address], "drain": "5s"});
            }
        }
        if version.never_ready {
            app["readiness"] = json!({"exec": ["false"], "period": "200ms"});
            app["rollout"]["timeout"] = json!("2s");
        }
        app["readiness"]
            .is_null()
            .then(|| app.as_object_mut().map(|app| app.remove("readiness")));
        json!({ "apps": [app] })
    }
}
