//! Readiness checks: HTTP, TCP or a command, again and again while the process lives.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::mpsc};
use upkeep_keeper::protocol::SpawnSpec;
use upkeep_model::app::{Check, Probe};

use super::{actor::Mail, launch::CopyId};
use crate::tasks::Task;

/// Longest period before the first success.
const EAGER: Duration = Duration::from_millis(250);

/// Starts checking; the task ends with its owner or with the actor.
pub(crate) fn start(
    probe: Probe,
    launch: SpawnSpec,
    mailbox: mpsc::Sender<Mail>,
    copy: CopyId,
    pid: u32,
) -> Task {
    Task::spawn("probe", async move {
        tokio::time::sleep(probe.initial_delay.into()).await;
        let (mut good, mut bad) = (0_u32, 0_u32);
        let mut told: Option<bool> = None;
        let mut was_ready = false;
        loop {
            let outcome = match tokio::time::timeout(probe.timeout.into(), check(&probe.check, &launch)).await
            {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no answer within {}", probe.timeout)),
            };
            match &outcome {
                Ok(()) => (good, bad) = (good.saturating_add(1), 0),
                Err(_) => (good, bad) = (0, bad.saturating_add(1)),
            }
            let ready = outcome.is_ok();
            was_ready |= ready;
            let threshold = if ready {
                probe.success_threshold
            } else {
                probe.failure_threshold
            };
            if told != Some(ready) && good.max(bad) >= threshold.max(1) {
                told = Some(ready);
                let verdict = outcome.map_err(|why| format!("{}: {why}", describe(&probe.check)));
                if mailbox
                    .send(Mail::Readiness { copy, pid, verdict })
                    .await
                    .is_err()
                {
                    return;
                }
            }
            // Until it is ready for the first time somebody may be waiting for it.
            let period = Duration::from(probe.period).max(Duration::from_millis(10));
            tokio::time::sleep(if was_ready { period } else { period.min(EAGER) }).await;
        }
    })
}

fn describe(check: &Check) -> String {
    match check {
        Check::Http { host, port, path } => format!("GET http://{host}:{port}{path}"),
        Check::Tcp { host, port } => format!("connection to {host}:{port}"),
        Check::Exec { command } => format!("`{}`", command.join(" ")),
        Check::Log { pattern } => format!("a line like `{pattern}`"),
        Check::Notify => "READY=1".to_owned(),
        Check::Message => "the message `ready`".to_owned(),
    }
}

async fn check(check: &Check, launch: &SpawnSpec) -> Result<(), String> {
    match check {
        Check::Tcp { host, port } => connect(host, *port).await.map(drop),
        Check::Http { host, port, path } => http(host, *port, path).await,
        Check::Exec { command } => exec(command, launch).await,
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

async fn http(host: &str, port: u16, path: &str) -> Result<(), String> {
    let stream = connect(host, port).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    let _connection = Task::spawn("probe connection", async move {
        // Its error reaches us through the request that it breaks.
        let _ = connection.await;
    });
    let request = hyper::Request::get(path)
        .header("host", format!("{host}:{port}"))
        .header("user-agent", "upkeep-probe")
        .header("connection", "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
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

/// Runs the command as the instance itself runs.
async fn exec(command: &[String], launch: &SpawnSpec) -> Result<(), String> {
    let mut child = child(command, launch).ok_or("the command is empty")?;
    let status = child.status().await.map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(status.to_string())
    }
}

/// A command that runs as an instance does: as its user, in its directory, with its environment; without output.
pub(super) fn child(command: &[String], launch: &SpawnSpec) -> Option<tokio::process::Command> {
    let (program, arguments) = command.split_first()?;
    let mut child = tokio::process::Command::new(program);
    child
        .args(arguments)
        .current_dir(&launch.cwd)
        .env_clear()
        .envs(launch.env.iter().cloned())
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
