//! Verbs about Upkeep itself.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use clap::CommandFactory;
use upkeep_api::{
    body::{Accepted, ActionResult, DaemonView, Upgrade},
    client::ClientError,
};

use crate::{
    args,
    connect::{connect, connect_or_start, wait_for},
    exit::{Advised, Exit},
    output::{Output, progress},
    settings::Settings,
};

/// How long keeper and daemon may take to be gone.
const END: Duration = Duration::from_secs(10);
/// How long a daemon may take to come back: its longest back-off, and then some.
const DAEMON: Duration = Duration::from_secs(12);
/// How long an upgrade may take, a return to the old program included.
const UPGRADE: Duration = Duration::from_secs(30);

/// Who answers.
pub(crate) async fn ping(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let view: DaemonView = match connect(settings).await {
        Ok(mut client) => client.get("/v1/daemon").await?,
        Err(error) if settings.host.is_some() => return Err(error.into()),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(
                Advised::new(Exit::Unreachable, "no daemon runs")
                    .hint("the next command that needs one starts it"),
            ));
        }
    };
    if output.json {
        output.document(&view)?;
    } else {
        output.text(&format!(
            "daemon {} (pid {}) and keeper {} (pid {}) answer for {}\n{} apps; process trees are tracked by {}\n",
            view.version, view.daemon_pid, view.keeper_version, view.keeper_pid, view.home, view.apps, view.tracking
        ))?;
        if let Some(trouble) = &view.upgrade_trouble {
            output.warn(&format!("the last upgrade was taken back: {trouble}"));
        }
    }
    Ok(Exit::Done)
}

/// `kill` and `shutdown`.
pub(crate) async fn end(verb: &str, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = match connect(settings).await {
        Ok(client) => client,
        // Its keeper lives, so the daemon is being started again.
        Err(ClientError::Unreachable { .. }) if settings.host.is_none() && keeper_of(settings).is_some() => {
            progress::during("waiting for the daemon", wait_for(settings, DAEMON)).await?
        }
        Err(ClientError::Unreachable { .. }) if settings.host.is_none() => {
            output.say("no daemon runs");
            if output.json {
                output.document(
                    &serde_json::json!({ "changes": [], "apps": [], "event": null, "settled": true }),
                )?;
            }
            return Ok(Exit::Done);
        }
        Err(error) => return Err(error.into()),
    };
    let view: DaemonView = client.get("/v1/daemon").await?;
    let path = format!("/v1/daemon/{verb}");
    let options = settings.options();
    let call = client.call("POST", &path, Some(&options));
    let result: ActionResult = progress::during("waiting for the apps to end", call).await?;
    drop(client);
    // The processes of another machine cannot be seen from here.
    if !settings.dry_run && settings.host.is_none() {
        let deadline = Instant::now() + END;
        while keeper_lives(view.keeper_pid) {
            if Instant::now() >= deadline {
                return Err(
                    Advised::new(Exit::Timeout, "the apps have ended, but the keeper has not").into(),
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    if output.json {
        output.document(&result)?;
    } else {
        let apps = match result.changes.len() {
            1 => "1 app".to_owned(),
            count => format!("{count} apps"),
        };
        let done = match (verb, settings.dry_run) {
            ("kill", false) => "stopped and forgotten",
            ("kill", true) => "would be stopped and forgotten",
            (_, false) => "stopped; what was wanted comes back on the next start",
            (_, true) => "would be stopped",
        };
        output.say(&format!("{apps} {done}"));
    }
    Ok(Exit::Done)
}

/// The keeper that holds this home, if one does.
pub(super) fn keeper_of(settings: &Settings) -> Option<u32> {
    let text = std::fs::read_to_string(settings.home.run.join("keeper.pid")).ok()?;
    let pid = text.trim().parse().ok()?;
    let processes = upkeep_host::facts::processes();
    let keeper = processes.iter().find(|process| process.pid == pid)?;
    keeper.command.contains(" keeper").then_some(pid)
}

/// Whether that process is there and no zombie.
fn keeper_lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with('Z')))
        .unwrap_or(false)
}

/// Swaps the daemon, then the keeper.
pub(crate) async fn upgrade(
    upgrade: &args::Upgrade,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let before: DaemonView = client.get("/v1/daemon").await?;
    let program = match &upgrade.program {
        // It lies on the machine that is asked.
        Some(program) if settings.host.is_some() => Some(program.display().to_string()),
        Some(program) => Some(std::path::absolute(program)?.display().to_string()),
        None => None,
    };
    let request = |keeper| Upgrade {
        program: program.clone(),
        keeper,
        reason: settings.reason.clone(),
    };
    let _: Accepted = client
        .call("POST", "/v1/daemon/upgrade", Some(&request(false)))
        .await?;
    drop(client);
    let replaced = progress::during(
        "waiting for the new daemon",
        wait_for_another(settings, before.daemon_pid),
    )
    .await?;
    if let Some(trouble) = replaced
        .upgrade_trouble
        .filter(|_| replaced.daemon_pid != before.daemon_pid)
    {
        return Err(
            Advised::new(Exit::Refused, format!("the old daemon is back: {trouble}"))
                .hint("nothing happened to the apps")
                .into(),
        );
    }
    if !upgrade.daemon_only {
        let mut client = wait_for(settings, UPGRADE).await?;
        let request = request(true);
        let call = client.call::<Accepted>("POST", "/v1/daemon/upgrade", Some(&request));
        progress::during("waiting for the keeper", call).await?;
    }
    let mut client = wait_for(settings, UPGRADE).await?;
    let after: DaemonView = client.get("/v1/daemon").await?;
    if output.json {
        output.document(&after)?;
    } else {
        output.say(&format!(
            "daemon {} (pid {}) is now {} (pid {}); the keeper (pid {}) holds all apps",
            before.version, before.daemon_pid, after.version, after.daemon_pid, after.keeper_pid
        ));
    }
    Ok(Exit::Done)
}

async fn wait_for_another(settings: &Settings, old: u32) -> anyhow::Result<DaemonView> {
    let deadline = Instant::now() + UPGRADE;
    loop {
        if let Ok(mut client) = connect(settings).await
            && let Ok(view) = client.get::<DaemonView>("/v1/daemon").await
            && view.daemon_pid != old
        {
            return Ok(view);
        }
        if Instant::now() >= deadline {
            return Err(Advised::new(Exit::Timeout, "no new daemon answers").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Completions from the tree of commands.
pub(crate) fn completions(completions: &args::Completions) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut args::tree(), "upkeep", &mut script);
    let script = with_hosts(&String::from_utf8_lossy(&script));
    std::io::stdout().lock().write_all(script.as_bytes())?;
    Ok(Exit::Done)
}

/// Completes `--host` by the names of the user's own hosts: the generator knows none.
fn with_hosts(script: &str) -> String {
    const NAMES: &str = "$(upkeep host ls --quiet 2>/dev/null)";
    script
        // bash
        .replace(
            "--host)\n                    COMPREPLY=($(compgen -f \"${cur}\"))",
            &format!("--host)\n                    COMPREPLY=($(compgen -W \"{NAMES}\" -- \"${{cur}}\"))"),
        )
        // zsh
        .replace(":HOST:_default'", &format!(":HOST:{{compadd -- {NAMES}}}'"))
        // fish
        .replace(
            "-l host -d '",
            "-l host -f -a '(upkeep host ls --quiet 2>/dev/null)' -d '",
        )
}

/// The reference of the command line, from the tree of commands.
pub(crate) fn help_all(output: Output) -> anyhow::Result<Exit> {
    let mut tree = args::Arguments::command().term_width(100);
    tree.build();
    let mut text = String::from(
        "# Command line\n\nGenerated from the program by `cargo xtask generate`; do not edit.\n",
    );
    text.push_str(&format!(
        "\n## upkeep\n\n```text\n{}\n```\n",
        tree.render_long_help().to_string().trim_end()
    ));
    let names: Vec<String> = tree
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect();
    for name in names {
        if let Some(command) = tree.find_subcommand_mut(&name) {
            let help = command.render_long_help().to_string();
            text.push_str(&format!(
                "\n## upkeep {name}\n\n```text\n{}\n```\n",
                help.trim_end()
            ));
        }
    }
    output.text(&text)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_completed_in_every_shell() {
        use clap_complete::Shell;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::tree(), "upkeep", &mut script);
            let script = String::from_utf8(script).expect("a script");
            let changed = with_hosts(&script);
            assert!(changed.contains("upkeep host ls --quiet"), "{shell}");
        }
    }
}
