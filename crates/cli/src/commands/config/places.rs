//! What holds for places, changes that wait for others, and rights.

use std::{fmt::Write as _, io::Read as _, path::Path as File};

use upkeep_api::{
    access::{Change, Changed, RoleList, RolePut, RoleView},
    client::{Client, with_query},
    config::{
        ApprovalsPut, ConfigProposal, KeepPut, KeepView, PlacesChanged, ProposalApprove, ProposalDecided,
        ProposalList, ProposalQuery, Resealed, SchemaList, SchemaPut, SchemaQuery,
    },
};
use upkeep_model::{
    access::{Grant, Verbs, Within},
    file::tree::{Node, Value as Written, read_yaml},
    place::Place,
};

use super::show;
use crate::{
    args::{ConfigKeep, ConfigSchema},
    commands::{access, look::percent_encode},
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, Paint, clean::clean, time},
    settings::Settings,
};

/// Longest name of a role, in bytes.
const ROLE_MAX: usize = 60;

/// Files that are sent whole: beyond that, the daemon takes no body either.
const FILE_MAX: u64 = 4 << 20;

/// Reads a file of text, or standard input (`-`).
pub(super) fn text_of(file: &File) -> anyhow::Result<String> {
    let shown = file.display();
    let fail = |error: std::io::Error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        Advised::new(exit, format!("failed to read `{shown}`: {error}"))
    };
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin()
            .take(FILE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
    } else {
        std::fs::File::open(file)
            .and_then(|opened| opened.take(FILE_MAX + 1).read_to_end(&mut bytes))
            .map_err(fail)?;
    }
    if bytes.len() as u64 > FILE_MAX {
        let why = format!(
            "failed to read `{shown}`: it is larger than {} MiB",
            FILE_MAX >> 20
        );
        return Err(Advised::new(Exit::Refused, why).into());
    }
    String::from_utf8(bytes).map_err(|_| {
        Advised::new(
            Exit::Refused,
            format!("failed to read `{shown}`: it is no text (UTF-8)"),
        )
        .into()
    })
}

/// A schema as JSON; of YAML, what it writes without quotes and JSON does not is a text.
fn json_of(node: Node) -> serde_json::Value {
    match node.value {
        Written::Null => serde_json::Value::Null,
        Written::Bool { value, .. } => value.into(),
        Written::Number { raw } => serde_json::from_str(&raw).unwrap_or_else(|_| raw.into()),
        Written::Text(text) => text.into(),
        Written::List(items) => items.into_iter().map(json_of).collect::<Vec<_>>().into(),
        Written::Map(entries) => {
            let entries = entries.into_iter().map(|entry| (entry.key, json_of(entry.node)));
            serde_json::Value::Object(entries.collect())
        }
    }
}

/// What the rules of places became.
fn told(changed: &PlacesChanged, what: &str, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(changed)?;
        return Ok(Exit::Done);
    }
    if changed.changes.is_empty() {
        output.say("nothing changes");
        return Ok(Exit::Done);
    }
    let would = if settings.dry_run { "would change: " } else { "" };
    let lines: Vec<String> = changed
        .changes
        .iter()
        .map(|place| format!("{would}{what} {}", clean(place.as_str())))
        .collect();
    output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

/// `config schema …`.
pub(super) async fn schema(verb: ConfigSchema, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let put = match verb {
        ConfigSchema::Get { place } => return get_schema(place, settings, output).await,
        ConfigSchema::Set { place, file } => {
            let text = text_of(&file)?;
            let tree = read_yaml(&text).map_err(|fault| fault.in_file(&name_of(&file)))?;
            let schema = json_of(tree);
            SchemaPut {
                place,
                schema: Some(schema),
                reason: settings.reason.clone(),
                dry_run: settings.dry_run,
            }
        }
        ConfigSchema::Rm { place } => SchemaPut {
            place,
            schema: None,
            reason: settings.reason.clone(),
            dry_run: settings.dry_run,
        },
    };
    let mut client = connect_or_start(settings).await?;
    let changed: PlacesChanged = client.call("PUT", "/v1/config/schemas", Some(&put)).await?;
    told(&changed, "the schema of", settings, output)
}

async fn get_schema(place: Place, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let query = SchemaQuery {
        place: Some(place.clone()),
    };
    let mut client = connect_or_start(settings).await?;
    let list: SchemaList = client.get(&with_query("/v1/config/schemas", &query)).await?;
    let Some(found) = list.schemas.into_iter().find(|one| one.place == place) else {
        return Err(Advised::new(Exit::NotFound, format!("`{place}` has no schema"))
            .hint(format!("`upkeep config schema set {place} FILE` gives it one"))
            .into());
    };
    if output.json {
        output.document(&found)?;
    } else {
        output.text(&serde_json::to_string_pretty(&found.schema)?)?;
    }
    Ok(Exit::Done)
}

/// `config protect`.
pub(super) async fn protect(
    place: Place,
    approvals: u8,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let put = ApprovalsPut {
        place,
        approvals,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let changed: PlacesChanged = client.call("PUT", "/v1/config/approvals", Some(&put)).await?;
    told(
        &changed,
        &format!("{approvals} more approve changes of"),
        settings,
        output,
    )
}

/// What is asked to be kept; nothing: the history itself is asked for.
pub(super) fn kept(asked: &ConfigKeep) -> Option<Option<KeepView>> {
    if asked.keep_default {
        return Some(None);
    }
    (asked.keep.is_some() || asked.keep_days.is_some()).then(|| {
        Some(KeepView {
            changes: asked.keep.unwrap_or(1000),
            days: asked.keep_days.unwrap_or(365),
        })
    })
}

/// `config history --keep`.
pub(super) async fn keep(
    place: Place,
    keep: Option<KeepView>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let what = match &keep {
        Some(keep) => format!(
            "keeps {} changes and {} days of each value:",
            keep.changes, keep.days
        ),
        None => "keeps what holds further out:".to_owned(),
    };
    let put = KeepPut {
        place,
        keep,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let changed: PlacesChanged = client.call("PUT", "/v1/config/keep", Some(&put)).await?;
    told(&changed, &what, settings, output)
}

/// `config proposals`.
pub(super) async fn proposals(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let mut query = ProposalQuery::default();
    let mut list: ProposalList = client.get(&with_query("/v1/config/proposals", &query)).await?;
    while let Some(next) = list.next.take() {
        query.after = Some(next);
        let more: ProposalList = client.get(&with_query("/v1/config/proposals", &query)).await?;
        list.proposals.extend(more.proposals);
        list.next = more.next;
    }
    if output.json {
        output.document(&list)?;
        return Ok(Exit::Done);
    }
    if list.proposals.is_empty() {
        output.say("nothing waits");
        return Ok(Exit::Done);
    }
    let blocks: Vec<String> = list.proposals.iter().map(|one| block(one, output)).collect();
    output.text(&blocks.join("\n"))?;
    Ok(Exit::Done)
}

fn block(one: &ConfigProposal, output: Output) -> String {
    let mut text = format!(
        "{}  {}  {}{}\n",
        output.paint(Paint::Strong, &clean(&one.id)),
        time::Clock::local().text(one.at),
        clean(&one.who),
        show::why(one.reason.as_deref(), output)
    );
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "  approved by {} of {}",
        one.approved_by.len(),
        one.approvals
    );
    if !one.approved_by.is_empty() {
        let _ = write!(text, ": {}", clean(&one.approved_by.join(", ")));
    }
    for line in show::differences(&one.differences, output).lines() {
        let _ = write!(text, "\n  {line}");
    }
    text
}

/// `config approve`, `config refuse`.
pub(super) async fn decide(
    what: &str,
    id: &str,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let path = format!("/v1/config/proposals/{}/{what}", percent_encode(id));
    // The bodies of both say the same.
    let post = ProposalApprove {
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let decided: ProposalDecided = client.call("POST", &path, Some(&post)).await?;
    if output.json {
        output.document(&decided)?;
        return Ok(Exit::Done);
    }
    if let Some(changed) = &decided.changed {
        return show::changed(changed, settings, output);
    }
    output.text(&block(&decided.proposal, output))?;
    output.say(match (what, settings.dry_run) {
        (_, true) => "nothing was decided",
        ("refuse", _) => "it was taken away",
        _ => "it waits for others",
    });
    Ok(Exit::Done)
}

/// The role that is a member's own. What a role may be called a certificate may be, and kinds have no `-`: two members never have
/// the same.
fn own_role(member: &str) -> anyhow::Result<String> {
    match member.split_once(':') {
        Some((kind @ ("user" | "uid" | "cert"), name)) if !name.is_empty() => {
            let role = format!("config-{kind}-{name}");
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if role.len() <= ROLE_MAX && role.bytes().all(is_plain) {
                return Ok(role);
            }
            Err(Advised::new(
                Exit::Refused,
                format!(
                    "failed to grant to `{}`: a role of their own would be called `{}`, which no role can be",
                    clean(member),
                    clean(&role)
                ),
            )
            .hint("`upkeep role set NAME` makes one of another name, and `upkeep role grant NAME WHO` gives it to them")
            .into())
        }
        _ => Err(Advised::new(
            Exit::Usage,
            format!("`{}` is nobody who can hold a role", clean(member)),
        )
        .hint("write `user:NAME`, `uid:NUMBER` or `cert:NAME`, or the name of a role")
        .into()),
    }
}

/// Whether a role is held by this member and nobody else. Whom a user's name means is for that machine to say: it tells members by
/// number.
async fn is_alone(
    client: &mut Client,
    member: &str,
    role: &RoleView,
    settings: &Settings,
) -> anyhow::Result<bool> {
    let [_] = role.members.as_slice() else {
        return Ok(false);
    };
    let path = format!(
        "/v1/roles/{}/members/{}",
        percent_encode(&role.name),
        percent_encode(member)
    );
    let change = Change {
        reason: settings.reason.clone(),
        dry_run: true,
    };
    let given: Changed = client.call("PUT", &path, Some(&change)).await?;
    Ok(given.changes.is_empty())
}

/// `config grant`: more of a role, or of what somebody holds.
pub(super) async fn grant(
    to: &str,
    verbs: Vec<Verbs>,
    paths: Vec<Place>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    // A member holds roles. What is given here gets one of their own.
    let member = to.contains(':').then_some(to);
    let role = match member {
        Some(member) => own_role(member)?,
        None => to.to_owned(),
    };
    let mut client = connect_or_start(settings).await?;
    let list: RoleList = client.get("/v1/roles").await?;
    let found = list.roles.iter().find(|one| one.name == role);
    let more = Grant {
        verbs,
        within: Within {
            apps: Vec::new(),
            namespaces: Within::default().namespaces,
            paths,
        },
    };
    if let (Some(member), Some(found)) = (member, found) {
        // Of one that nobody holds yet, this may be the second try.
        let is_begun = found.members.is_empty() && found.grants == [more.clone()];
        if !is_begun && !is_alone(&mut client, member, found, settings).await? {
            return Err(Advised::new(
                Exit::Refused,
                format!(
                    "failed to grant to `{}`: the role `{role}` is not theirs alone",
                    clean(member)
                ),
            )
            .hint(format!(
                "`upkeep config grant {role}` gives it to all who hold it; `upkeep role ls` shows who they are"
            ))
            .into());
        }
    }
    let mut grants = found.map_or_else(Vec::new, |found| found.grants.clone());
    let mut done = Changed {
        changes: Vec::new(),
        revision: list.revision,
        event: None,
    };
    if !grants.contains(&more) {
        grants.push(more);
        let put = RolePut {
            grants,
            if_revision: None,
            reason: settings.reason.clone(),
            dry_run: settings.dry_run,
        };
        let path = format!("/v1/roles/{}", percent_encode(&role));
        // Nobody else's change of the role is lost.
        done = client.call_at("PUT", &path, Some(&put), list.revision).await?;
    }
    if let Some(member) = member {
        if settings.dry_run && found.is_none() {
            done.changes.push(format!("{member} given `{role}`"));
        } else {
            let path = format!(
                "/v1/roles/{}/members/{}",
                percent_encode(&role),
                percent_encode(member)
            );
            let change = Change {
                reason: settings.reason.clone(),
                dry_run: settings.dry_run,
            };
            let given: Changed = client.call("PUT", &path, Some(&change)).await?;
            done.changes.extend(given.changes);
            done.event = given.event.or(done.event);
            done.revision = given.revision;
        }
    }
    access::told(&done, settings, output)
}

/// What could not be sealed anew is a failure, whatever else was done.
pub(super) fn resealed_exit(resealed: Option<&Resealed>) -> Exit {
    match resealed {
        Some(resealed) if resealed.failures > 0 => Exit::Failed,
        _ => Exit::Done,
    }
}

/// What else sealing anew did.
pub(super) fn say_resealed(resealed: &Resealed, would: &str, output: Output) -> anyhow::Result<()> {
    if resealed.forgotten > 0 {
        output.text(&format!(
            "{would}{} secrets of the past taken out of the history",
            resealed.forgotten
        ))?;
    }
    for failure in &resealed.failed {
        output.warn(&format!(
            "`{}` is sealed as it was: {}",
            failure.place,
            clean(&failure.why)
        ));
    }
    let more = resealed.failures.saturating_sub(resealed.failed.len());
    if more > 0 {
        output.warn(&format!("and {more} more"));
    }
    Ok(())
}

/// The name of a file for messages and layers.
pub(super) fn name_of(file: &File) -> String {
    file.display().to_string()
}
