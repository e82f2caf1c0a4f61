//! Checks that are asked: HTTP, TCP, a command. One question, one answer.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use upkeep_keeper::protocol::SpawnSpec;
use upkeep_model::app::{Check, Probe};
use upkeep_sys::pid::Pid;

use crate::tasks::Task;

const SIGKILL: i32 = 9;
/// How much of what a command printed is kept for the reason.
const SAID_MAX: usize = 4096;
/// How much of that is shown.
const SHOWN_MAX: usize = 200;

/// What a check is about, for people.
pub(super) fn describe(check: &Check, launch: &SpawnSpec) -> String {
    match check {
        Check::Http { host, port, path, .. } => {
            format!("GET http://{host}:{}{path}", own_port(*port, launch))
        }
        Check::Tcp { host, port } => format!("connection to {host}:{}", own_port(*port, launch)),
        Check::Exec { command } => format!("`{}`", command.join(" ")),
        Check::Log { pattern } => format!("a line like `{pattern}`"),
        Check::Notify => "sd_notify".to_owned(),
        Check::Message => "the message `ready`".to_owned(),
    }
}

/// Port 0 stands for the one that the instance was given as `PORT`.
fn own_port(port: u16, launch: &SpawnSpec) -> u16 {
    if port > 0 {
        return port;
    }
    launch
        .env
        .iter()
        .find(|(name, _)| name == "PORT")
        .and_then(|(_, value)| value.to_str()?.parse().ok())
        .unwrap_or(0)
}

/// Asks once. What takes longer than its timeout is given up: a connection is closed, a command killed with its group.
/// `is_secret`: what a command says may repeat secrets, and only how it ended is told.
pub(super) async fn ask(probe: &Probe, launch: &SpawnSpec, is_secret: bool) -> Result<(), String> {
    let timeout = Duration::from(probe.timeout);
    match tokio::time::timeout(timeout, question(&probe.check, launch, is_secret)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {}", probe.timeout)),
    }
    .map_err(|why| format!("{}: {why}", describe(&probe.check, launch)))
}

async fn question(check: &Check, launch: &SpawnSpec, is_secret: bool) -> Result<(), String> {
    match check {
        Check::Tcp { host, port } => connect(host, own_port(*port, launch)).await.map(drop),
        Check::Http {
            host,
            port,
            path,
            headers,
        } => http(host, own_port(*port, launch), path, headers).await,
        Check::Exec { command } => run_with(command, launch, &[], None)
            .await
            .map_err(|failure| failure.told(is_secret)),
        // Told by the instance itself.
        Check::Log { .. } | Check::Notify | Check::Message => std::future::pending().await,
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    // A static binary cannot rely on the resolver's plug-ins; the one name that every check uses needs none.
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    TcpStream::connect((host, port))
        .await
        .map_err(|error| error.to_string())
}

async fn http(host: &str, port: u16, path: &str, headers: &BTreeMap<String, String>) -> Result<(), String> {
    let stream = connect(host, port).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    let _connection = Task::spawn("probe connection", async move {
        // Its error reaches us through the request that it breaks.
        let _ = connection.await;
    });
    let mut request = hyper::Request::get(path).header("connection", "close");
    let ours = [
        ("host", format!("{host}:{port}")),
        ("user-agent", "upkeep-probe".to_owned()),
    ];
    for (name, value) in ours {
        if !headers.keys().any(|given| given.eq_ignore_ascii_case(name)) {
            request = request.header(name, value);
        }
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
    let status = sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())?
        .status();
    if (200..400).contains(&status.as_u16()) {
        Ok(())
    } else {
        Err(format!("status {status}"))
    }
}

/// A process group that is killed when this goes.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It has ended by itself: there is nothing to kill.
            let _ = upkeep_sys::signal::send_to_group(leader, SIGKILL);
        }
    }
}

/// A command that runs as an instance does: as its user, in its directory, with its environment; without output.
pub(crate) fn child(command: &[String], launch: &SpawnSpec) -> Option<tokio::process::Command> {
    let (program, arguments) = command.split_first()?;
    // They are the instance's own: a command that sent READY=1 would speak for it.
    let own = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID"];
    let env = launch
        .env
        .iter()
        .filter(|(name, _)| !own.iter().any(|own| name == own));
    let mut child = tokio::process::Command::new(program);
    child
        .args(arguments)
        .current_dir(&launch.cwd)
        .env_clear()
        .envs(env.cloned())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(gid) = launch.gid {
        child.gid(gid);
    }
    if let Some(uid) = launch.uid {
        // Leaves the supplementary groups of root as well.
        child.uid(uid);
    }
    Some(child)
}

/// Runs a command as the instance itself runs: as its user, in its directory, with its environment and `more`. If this
/// is dropped, the command and its process group are killed. An error says how it ended and what it said last.
pub(crate) async fn run(
    command: &[String],
    launch: &SpawnSpec,
    more: &[(&str, String)],
) -> Result<(), String> {
    run_with_input(command, launch, more, None).await
}

/// The same, with something on its standard input.
pub(crate) async fn run_with_input(
    command: &[String],
    launch: &SpawnSpec,
    more: &[(&str, String)],
    input: Option<Vec<u8>>,
) -> Result<(), String> {
    let ran = run_with(command, launch, more, input).await;
    ran.map_err(|failure| failure.told(false))
}

/// How a command failed.
#[derive(Debug)]
struct Failure {
    how: String,
    /// What it said last.
    said: Option<String>,
}

impl From<String> for Failure {
    fn from(how: String) -> Self {
        Self { how, said: None }
    }
}

impl Failure {
    fn told(self, is_secret: bool) -> String {
        match self.said {
            Some(_) if is_secret => format!("{}; {}", self.how, crate::supply::NOT_SHOWN),
            Some(said) => format!("{}: {said}", self.how),
            None => self.how,
        }
    }
}

async fn run_with(
    command: &[String],
    launch: &SpawnSpec,
    more: &[(&str, String)],
    input: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let mut child = child(command, launch).ok_or_else(|| "the command is empty".to_owned())?;
    let more = more
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    child.envs(more).stderr(std::process::Stdio::piped());
    if input.is_some() {
        child.stdin(std::process::Stdio::piped());
    }
    let mut child = child.spawn().map_err(|error| error.to_string())?;
    let mut group = Group(child.id().and_then(Pid::from_unsigned));
    let mut said = Vec::new();
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program need not read all of it.
            let _ = stdin.write_all(&input).await;
        }
    };
    let mut feed = std::pin::pin!(feed);
    let mut fed = false;
    let mut errors = child.stderr.take();
    let mut block = [0_u8; 1024];
    let status = loop {
        let read = async {
            match &mut errors {
                Some(errors) => errors.read(&mut block).await,
                None => std::future::pending().await,
            }
        };
        // To the end of the program, not of the pipe: what it left behind may hold that, or it may have closed it.
        tokio::select! {
            biased;
            // Cancel-safe: what was read is in the block.
            read = read => match read {
                Ok(0) | Err(_) => errors = None,
                Ok(count) => {
                    said.extend_from_slice(&block[..count]);
                    let surplus = said.len().saturating_sub(SAID_MAX);
                    said.drain(..surplus);
                }
            },
            // Polled on from round to round.
            () = &mut feed, if !fed => fed = true,
            // Cancel-safe: the status is kept in the child.
            status = child.wait() => break status.map_err(|error| error.to_string())?,
        }
    };
    if status.success() {
        group.0 = None;
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(Failure {
        how: status.to_string(),
        said: last.map(|line| line.trim().chars().take(SHOWN_MAX).collect()),
    })
}
