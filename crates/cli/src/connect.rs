//! Reaching the daemon, and starting it when nobody answers.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use upkeep_api::client::{Client, ClientError};

use crate::{
    exit::{Advised, Exit},
    settings::Settings,
};

/// How long a daemon may take to answer after it was started.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is tried.
const STEP: Duration = Duration::from_millis(5);
/// The same for another machine.
const FAR_STEP: Duration = Duration::from_millis(300);

/// Connects to a daemon that runs.
pub(crate) async fn connect(settings: &Settings) -> Result<Client, ClientError> {
    match &settings.host {
        Some(remote) => remote.connect(false).await,
        None => Client::connect(&settings.home.socket()).await,
    }
}

/// Connects, starting keeper and daemon if nobody answers.
pub(crate) async fn connect_or_start(settings: &Settings) -> anyhow::Result<Client> {
    if let Some(remote) = &settings.host {
        return Ok(remote.connect(true).await?);
    }
    match connect(settings).await {
        Ok(client) => return Ok(client),
        Err(ClientError::Unreachable { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    settings.home.make()?;
    start_keeper(settings)?;
    wait_for(settings, PATIENCE).await
}

/// Starts the keeper in the background. One that runs already keeps its place: the new one sees its lock and leaves.
fn start_keeper(settings: &Settings) -> anyhow::Result<()> {
    let status = Command::new(&settings.program.path)
        .args(["keeper", "--detach"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .with_context(|| format!("failed to start the keeper `{}`", settings.program.path.display()))?;
    if status.success() {
        return Ok(());
    }
    Err(Advised::new(
        Exit::Unreachable,
        format!("the keeper could not be started ({status})"),
    )
    .hint(format!(
        "`{}` may tell more",
        settings.home.run.join("keeper.log").display()
    ))
    .into())
}

/// Waits until the daemon answers.
pub(crate) async fn wait_for(settings: &Settings, patience: Duration) -> anyhow::Result<Client> {
    let deadline = Instant::now() + patience;
    loop {
        match connect(settings).await {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() >= deadline && settings.host.is_some() => return Err(error.into()),
            Err(error) if Instant::now() >= deadline => {
                let log = settings.home.run.join("daemon.log");
                let last = std::fs::read_to_string(&log)
                    .ok()
                    .and_then(|text| text.lines().next_back().map(str::to_owned))
                    .unwrap_or_else(|| "it is empty".to_owned());
                return Err(anyhow::Error::new(
                    Advised::new(Exit::Unreachable, format!("the daemon does not come up: {error}"))
                        .hint(format!("the last line of `{}`: {last}", log.display())),
                ));
            }
            // Another machine is not asked two hundred times a second.
            Err(_) if settings.host.is_some() => tokio::time::sleep(FAR_STEP).await,
            Err(_) => tokio::time::sleep(STEP).await,
        }
    }
}
