//! `run FILE`: the apps of a file in the foreground, as PID 1 of a container if need be.
//!
//! We start a keeper of our own, apply the file through `/v1` like any client, print what the apps say, and end when
//! they have ended. As PID 1 we reap whatever is left to us. SIGTERM, SIGINT and SIGQUIT stop the apps in order;
//! SIGHUP, SIGUSR1 and SIGUSR2 are passed on to the main process of each instance. What is wanted is kept in a store of
//! its own for this run: nothing of an earlier run comes back, and apps that `start` put into the same home stay as
//! they are. Unless `UPKEEP_HOME` is given, everything lives in a directory that is removed at the end.

use std::{
    collections::BTreeSet,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use upkeep_api::{
    body::{ActionOptions, ActionResult, AppList, Apply, LogQuery},
    client::{Client, ClientError},
};
use upkeep_host::home::Home;
use upkeep_model::state::Actual;

use super::{follow::Follower, machine::keeper_of, start};
use crate::{
    args,
    connect::{connect, wait_for},
    exit::{Advised, Exit},
    output::{
        Output,
        logs::{Look, Printer},
    },
    settings::Settings,
};

/// How often the apps are looked at.
const STEP: Duration = Duration::from_millis(100);
/// After the last app has ended, its last line has this long to arrive: five times what a follower takes to find a log
/// that is new.
const LAST_LINES: Duration = Duration::from_millis(500);
/// How long the keeper may take to come up and to go.
const KEEPER: Duration = Duration::from_secs(15);

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in a place for things that do not last.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the file.
pub(crate) async fn run(run: &args::Run, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let apps = start::load(&run.file, run.env.as_deref(), &run.only, BTreeSet::new(), output)?;
    let mut settings = settings.clone();
    let mut scratch = None;
    if std::env::var_os("UPKEEP_HOME").is_none() {
        let path = std::env::temp_dir().join(format!("upkeep-run-{}", std::process::id()));
        settings.home = Home::at(&path);
        scratch = Some(Scratch(path));
    }
    settings.home.make()?;
    if connect(&settings).await.is_ok() {
        return Err(Advised::new(
            Exit::Conflict,
            format!("a daemon runs in `{}` already", settings.home.root.display()),
        )
        .hint("`run` brings its own; give it another `UPKEEP_HOME`, or use `upkeep start`")
        .into());
    }
    // Nothing of an earlier run comes back, and nothing of the apps that `start` put into this home is touched.
    remove_state(&settings.home)?;
    let keeper = Command::new(&settings.program.path)
        .args(["keeper", "--ephemeral"])
        .env("UPKEEP_HOME", &settings.home.root)
        // Signals of the terminal are ours to pass on, in order.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("failed to start the keeper")?;
    let keeper = i32::try_from(keeper.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("the keeper has no process")?;
    let outcome = follow(&settings, apps, run.raw, output).await;
    // Whatever came of it, nothing stays behind.
    if let Ok(mut client) = connect(&settings).await {
        let _: Result<ActionResult, _> = client
            .call("POST", "/v1/daemon/kill", Some(&ActionOptions::default()))
            .await;
    } else {
        // No daemon to ask: the keeper ends its children by itself.
        let _ = kill_process(keeper, Signal::TERM);
    }
    reap_until_gone(keeper).await;
    remove_state(&settings.home)?;
    drop(scratch);
    outcome
}

fn remove_state(home: &Home) -> anyhow::Result<()> {
    let path = home.ephemeral_store();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

async fn reap_until_gone(keeper: Pid) {
    let deadline = tokio::time::Instant::now() + KEEPER;
    while !reap(keeper) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reaps everything that has ended; whether the keeper was among it (or is no child of ours any more).
fn reap(keeper: Pid) -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, _))) if pid == keeper => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

async fn follow(
    settings: &Settings,
    apps: Vec<upkeep_model::app::AppSpec>,
    raw: bool,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut user1 = signal(SignalKind::user_defined1())?;
    let mut user2 = signal(SignalKind::user_defined2())?;
    let mut child = signal(SignalKind::child())?;
    let began = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let mut client = wait_for(settings, KEEPER).await?;
    let apply = Apply {
        apps,
        options: ActionOptions {
            wait_ms: Some(0),
            ..settings.options()
        },
        ..Apply::default()
    };
    let _: ActionResult = client.call("POST", "/v1/apps", Some(&apply)).await?;
    let query = LogQuery {
        follow: true,
        // In a home that is used again there are lines of earlier runs.
        since: Some(began.as_secs_f64()),
        ..LogQuery::default()
    };
    let mut lines = Follower::open(settings, query).await?;
    let mut printer = Printer::new(output, Look::plain(raw));
    let mut step = tokio::time::interval(STEP);
    let mut ended_at = None;
    let mut stopping = false;
    loop {
        tokio::select! {
            line = lines.next() => if let Some(text) = printer.line(&line?) {
                output.text(&text)?;
                if ended_at.is_some() {
                    ended_at = Some(tokio::time::Instant::now());
                }
            },
            // The rest are cancel-safe: a signal or a tick that was not taken comes again.
            _ = step.tick() => {
                let list = list(settings, &mut client).await?;
                if list.apps.iter().all(|app| app.instances.iter().all(|instance| has_ended(instance.actual))) {
                    let since = *ended_at.get_or_insert_with(tokio::time::Instant::now);
                    if since.elapsed() >= LAST_LINES {
                        return Ok(if stopping { Exit::Done } else { verdict(&list, output) });
                    }
                }
            }
            _ = terminate.recv() => stopping = stop(settings, stopping, output)?,
            _ = interrupt.recv() => stopping = stop(settings, stopping, output)?,
            _ = quit.recv() => stopping = stop(settings, stopping, output)?,
            _ = hangup.recv() => pass_on(settings, &mut client, Signal::HUP).await?,
            _ = user1.recv() => pass_on(settings, &mut client, Signal::USR1).await?,
            _ = user2.recv() => pass_on(settings, &mut client, Signal::USR2).await?,
            _ = child.recv() => reap_others(),
        }
    }
}

/// The apps, by a new connection if the daemon was replaced.
async fn list(settings: &Settings, client: &mut Client) -> anyhow::Result<AppList> {
    match client.get("/v1/apps").await {
        Err(ClientError::Broken { .. } | ClientError::Unreachable { .. })
            if keeper_of(settings).is_some() =>
        {
            *client = wait_for(settings, KEEPER).await?;
            Ok(client.get("/v1/apps").await?)
        }
        outcome => Ok(outcome?),
    }
}

/// Reaps what is not the keeper; the keeper's end shows at its socket, and its status is collected at the end.
fn reap_others() {
    if std::process::id() == 1 {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}

const fn has_ended(actual: Actual) -> bool {
    matches!(
        actual,
        Actual::Stopped | Actual::Completed | Actual::Failed | Actual::GaveUp
    )
}

/// Orders all apps to stop, in a connection of its own, so that their output goes on.
fn stop(settings: &Settings, stopping: bool, output: Output) -> anyhow::Result<bool> {
    if stopping {
        return Ok(true);
    }
    output.say("stopping");
    let socket = settings.home.socket();
    #[expect(
        clippy::disallowed_methods,
        reason = "one request, which the end of the command cuts off"
    )]
    drop(tokio::spawn(async move {
        let selection = upkeep_api::body::Selection {
            selectors: vec!["all".to_owned()],
            ..Default::default()
        };
        if let Ok(mut client) = Client::connect(&socket).await {
            // If it fails, the kill at the end does the same.
            let _: Result<ActionResult, _> =
                client.call("POST", "/v1/selections/stop", Some(&selection)).await;
        }
    }));
    Ok(true)
}

async fn pass_on(settings: &Settings, client: &mut Client, signal: Signal) -> anyhow::Result<()> {
    let list = list(settings, client).await?;
    for instance in list.apps.iter().flat_map(|app| &app.instances) {
        if let Some(pid) = instance
            .pid
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
        {
            // It may have ended since the list was made.
            let _ = kill_process(pid, signal);
        }
    }
    Ok(())
}

/// 0 if every app ended well, else 1, and which did not.
fn verdict(list: &AppList, output: Output) -> Exit {
    let mut exit = Exit::Done;
    for app in &list.apps {
        for instance in &app.instances {
            if matches!(instance.actual, Actual::Failed | Actual::GaveUp) {
                output.warn(&format!(
                    "{}:{} {}: {}",
                    app.name, instance.index, instance.actual, instance.why
                ));
                exit = Exit::Failed;
            }
        }
    }
    exit
}
