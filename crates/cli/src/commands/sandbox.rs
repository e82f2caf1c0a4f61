//! How far apps are kept apart from the machine.

use std::fmt::Write;

use serde_json::json;
use upkeep_api::{body::Exposure, client::Client};
use upkeep_model::sandbox::CALL_GROUPS;

use super::look::{app_path, find};
use crate::{
    connect::connect_or_start,
    exit::Exit,
    output::{Output, Paint},
    settings::Settings,
};

/// What each level does, in a line each.
const LEVELS: [(&str, &[&str]); 4] = [
    ("none", &["nothing beyond the user it runs as"]),
    (
        "light",
        &[
            "no privileges through setuid programs",
            "a /tmp of its own (256M)",
            "no capabilities that change the machine",
            "the knobs of the kernel (/proc/sys, /sys) are read-only",
        ],
    ),
    (
        "standard",
        &[
            "light, and:",
            "writes only to its directory, /tmp and what `write:` names",
            "homes of others, /run, passwords and what is Upkeep's own look empty",
            "a /dev of its own with harmless devices; only its own processes in /proc",
            "dangerous system calls and new namespaces are refused (`allow:` names exceptions)",
            "no core files",
        ],
    ),
    (
        "strict",
        &[
            "standard, and:",
            "writes only to /tmp (64M) and what `write:` names",
            "reads only programs, libraries, /etc, its directory and what `read:` names",
            "no home, no capabilities",
            "no network but sockets handed over by `listen` (`network: true` gives it back)",
            "only system calls of a list",
            "memory 512M, 128 tasks, files of 1G, unless `limits` and `rlimits` say otherwise",
        ],
    ),
];

/// The levels and the groups of system calls.
pub(crate) fn levels(output: Output) -> anyhow::Result<Exit> {
    if output.json {
        let levels: Vec<_> = LEVELS
            .iter()
            .map(|(level, what)| json!({"level": level, "what": what}))
            .collect();
        let groups: Vec<_> = CALL_GROUPS
            .iter()
            .map(|(group, what)| json!({"group": group, "what": what}))
            .collect();
        output.document(&json!({"levels": levels, "allow": groups}))?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for (level, what) in LEVELS {
        let _ = writeln!(text, "{}", output.paint(Paint::Strong, level));
        for line in what {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "{}", output.paint(Paint::Strong, "allow"));
    for (group, what) in CALL_GROUPS {
        let _ = writeln!(text, "  {group:<12}{what}");
    }
    output.text(&text)?;
    Ok(Exit::Done)
}

/// How exposed an app is.
pub(crate) async fn score(word: &str, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client: Client = connect_or_start(settings).await?;
    let app = find(&mut client, word).await?;
    let exposure: Exposure = client.get(&format!("{}/exposure", app_path(&app.name))).await?;
    if output.json {
        output.document(&exposure)?;
    } else {
        output.text(&describe(&exposure, output))?;
    }
    Ok(Exit::Done)
}

fn describe(exposure: &Exposure, output: Output) -> String {
    let mut text = String::new();
    let worst = exposure
        .items
        .iter()
        .map(|item| item.found.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(5, 44);
    for item in &exposure.items {
        let (word, paint) = match item.open {
            open if open <= 0.0 => ("closed", Paint::Good),
            open if open < 0.5 => ("nearly", Paint::Quiet),
            open if open < 1.0 => ("partly", Paint::Busy),
            _ => ("open", Paint::Bad),
        };
        let mark = output.paint(paint, &format!("{word:<7}"));
        let cost = f64::from(item.weight) * item.open;
        let advice = item.advice.as_deref().unwrap_or_default();
        let line = format!(
            "{mark} {:<16} {:<worst$}  {cost:>3.1}  {advice}",
            item.what, item.found
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let level = format!("{:?}", exposure.level).to_lowercase();
    let looked = match exposure.pid {
        Some(pid) => format!("looked at process {pid}"),
        None => "not running: as it would be started".to_owned(),
    };
    let total = format!("{:.1} of 10: {}", exposure.score, exposure.verdict);
    let _ = writeln!(
        text,
        "\n{} {}  (sandbox: {level}; {looked})",
        exposure.app,
        output.paint(Paint::Strong, &total)
    );
    text
}
