//! Values, changes and rules, for people. Secrets come masked from the daemon: what is not there cannot be printed.

use std::fmt::Write as _;

use upkeep_api::config::{ConfigChanged, HistoryList, RulesView, ValueDifference, ValueList, ValueView};
use upkeep_model::place::Place;

use crate::{
    exit::Exit,
    output::{Output, Paint, clean::clean, time},
    settings::Settings,
};

/// So many characters of a value stand in a line.
const SHOWN: usize = 60;

/// A value in one line.
pub(super) fn short(value: &ValueView, output: Output) -> String {
    let quiet = |text: &str| output.paint(Paint::Quiet, text);
    match (&value.text, &value.base64) {
        (Some(text), _) => {
            let line = text.lines().next().unwrap_or_default();
            let mut shown: String = line.chars().take(SHOWN).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            clean(&shown)
        }
        (None, Some(_)) => quiet("(bytes)"),
        (None, None) if value.kind.is_none() => quiet("(hidden)"),
        (None, None) => quiet("(secret)"),
    }
}

/// `config ls`.
pub(super) fn list(list: &ValueList, output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(list)?;
        return Ok(Exit::Done);
    }
    if list.values.is_empty() {
        output.say("there is nothing: `upkeep config set PATH VALUE` sets something");
        return Ok(Exit::Done);
    }
    let width = list
        .values
        .iter()
        .map(|entry| entry.path.as_str().chars().count())
        .max()
        .unwrap_or_default();
    let lines: Vec<String> = list
        .values
        .iter()
        .map(|entry| {
            let revision = output.paint(Paint::Quiet, &format!("{:>6}", entry.revision));
            let path = entry.path.as_str();
            let blank = " ".repeat(width - path.chars().count());
            format!("{revision}  {path}{blank}  {}", short(&entry.value, output))
        })
        .collect();
    output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

/// `config tree`.
pub(super) fn tree(place: &Place, list: &ValueList, output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(list)?;
        return Ok(Exit::Done);
    }
    let mut text = format!("{place}\n");
    let mut before: Vec<&str> = Vec::new();
    for entry in &list.values {
        let below = place.below(&entry.path).unwrap_or(entry.path.as_str());
        let segments: Vec<&str> = below.split('/').collect();
        let (name, above) = segments.split_last().unwrap_or((&"", &[]));
        let same = before.iter().zip(above).take_while(|(a, b)| a == b).count();
        for (depth, segment) in above.iter().enumerate().skip(same) {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{}{segment}/", "  ".repeat(depth + 1));
        }
        let _ = writeln!(
            text,
            "{}{name}: {}",
            "  ".repeat(above.len() + 1),
            short(&entry.value, output)
        );
        before = above.to_vec();
    }
    output.text(&text)?;
    Ok(Exit::Done)
}

/// Lines with `+`, `-` and `~`.
pub(super) fn differences(all: &[ValueDifference], output: Output) -> String {
    let lines: Vec<String> = all
        .iter()
        .map(|one| {
            let path = one.path.as_str();
            match (&one.before, &one.after) {
                (None, Some(after)) => {
                    format!(
                        "{} {path}: {}",
                        output.paint(Paint::Good, "+"),
                        short(after, output)
                    )
                }
                (Some(before), None) => {
                    format!(
                        "{} {path}: {}",
                        output.paint(Paint::Bad, "-"),
                        short(before, output)
                    )
                }
                (Some(before), Some(after)) => format!(
                    "{} {path}: {} -> {}",
                    output.paint(Paint::Busy, "~"),
                    short(before, output),
                    short(after, output)
                ),
                (None, None) => format!("  {path}"),
            }
        })
        .collect();
    lines.join("\n")
}

/// What a change did, or would do.
pub(super) fn changed(changed: &ConfigChanged, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(changed)?;
        return Ok(Exit::Done);
    }
    if changed.differences.is_empty() && changed.unnamed == 0 {
        output.say("nothing changes");
        return Ok(Exit::Done);
    }
    if !changed.differences.is_empty() {
        output.text(&differences(&changed.differences, output))?;
    }
    match changed.unnamed {
        0 => {}
        1 => output.say("and 1 value that you may not read"),
        many => output.say(&format!("and {many} values that you may not read")),
    }
    told(changed, settings, output);
    Ok(Exit::Done)
}

/// What became of a change: said beside what it changes.
pub(super) fn told(changed: &ConfigChanged, settings: &Settings, output: Output) {
    match &changed.proposed {
        Some(proposed) => {
            let others = match proposed.approvals {
                1 => "somebody else has".to_owned(),
                many => format!("{many} others have"),
            };
            output.say(&match &proposed.id {
                Some(id) => {
                    format!("nothing was changed yet: {others} to approve it: upkeep config approve {id}")
                }
                None => format!("nothing was changed: {others} to approve this first"),
            });
        }
        None if settings.dry_run => output.say("nothing was changed: this is what would be"),
        None => output.say(&format!("revision {}", changed.revision)),
    }
    if let Some(lease) = &changed.lease {
        let seconds = lease.ttl_ms / 1000;
        output.say(&format!(
            "lease {}: it goes after {seconds} s unless that is kept alive",
            lease.id
        ));
    }
}

/// `config history`.
pub(super) fn history(list: &HistoryList, output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(list)?;
        return Ok(Exit::Done);
    }
    let clock = time::Clock::local();
    let lines: Vec<String> = list
        .changes
        .iter()
        .map(|change| {
            let became = match &change.value {
                Some(value) => short(value, output),
                None => output.paint(Paint::Bad, "deleted"),
            };
            format!(
                "{:>6}  {}  {}  {}: {became}{}",
                change.revision,
                clock.text(change.at),
                clean(&change.who),
                change.path,
                why(change.reason.as_deref(), output),
            )
        })
        .collect();
    output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

pub(super) fn why(reason: Option<&str>, output: Output) -> String {
    reason.map_or_else(String::new, |reason| {
        output.paint(Paint::Quiet, &format!(" ({})", clean(reason)))
    })
}

/// `config recipients`.
pub(super) fn rules(rules: &RulesView, is_shared: bool, output: Output) -> anyhow::Result<()> {
    if rules.places.is_empty() {
        output.say(if is_shared {
            "no place names recipients: secrets are refused"
        } else {
            "no place names recipients: secrets are sealed for the machine that is asked"
        });
        return Ok(());
    }
    let mut text = String::new();
    for rules in &rules.places {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{}", output.paint(Paint::Strong, rules.place.as_str()));
        for recipient in &rules.recipients {
            let _ = writeln!(text, "  {}={}", clean(&recipient.name), clean(&recipient.key));
        }
        if rules.approvals > 0 {
            let _ = writeln!(text, "  changes are approved by {} more", rules.approvals);
        }
        if rules.schema {
            let _ = writeln!(text, "  values fit a schema");
        }
        if let Some(keep) = &rules.keep {
            let _ = writeln!(
                text,
                "  keeps {} changes and {} days of each value",
                keep.changes, keep.days
            );
        }
    }
    output.text(&text)?;
    Ok(())
}
