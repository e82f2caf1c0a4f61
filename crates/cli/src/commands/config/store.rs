//! `config status`, `config machine`, `config migrate`: what is about the store.

use std::{fmt::Write as _, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use upkeep_api::{
    access::Change,
    config::{PlacesChanged, RulesView},
    config_store::{
        AuthEnabled, AuthPost, ConfigStatus, MachineAdded, MachineList, MachinePost, MachineView,
        MigratePost, Migrated, StoreKind,
    },
};
use upkeep_model::settings::{EtcdStore, MachineName};

use super::super::look::percent_encode;
use crate::{
    args::{ConfigMigrate, MachineAdd, MachineVerb, StoreName},
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, Paint, clean::clean, time, values},
    settings::Settings,
};

/// `config machine …`.
pub(super) async fn machine(verb: MachineVerb, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    match verb {
        MachineVerb::Add(asked) => add(asked, settings, output).await,
        MachineVerb::Ls => {
            let mut client = connect_or_start(settings).await?;
            let list: MachineList = client.get("/v1/config/machines").await?;
            if output.json {
                output.document(&list)?;
                return Ok(Exit::Done);
            }
            output.text(&machines(&list, output))?;
            if list.asks == Some(false) {
                output.say("etcd asks nobody who they are: its users hold nobody to anything (`upkeep config machine auth`)");
            }
            Ok(Exit::Done)
        }
        MachineVerb::Rm { name } => remove(&name, settings, output).await,
        MachineVerb::Auth { root } => auth(root, settings, output).await,
    }
}

/// `machine:web1  4f0a…  /shop/ (read and write)`.
pub(super) fn machines(list: &MachineList, output: Output) -> String {
    let line = |machine: &MachineView| {
        let key = match (&machine.fingerprint, &machine.key) {
            (Some(fingerprint), Some(key)) => format!("{fingerprint}  {}", clean(key)),
            _ => match &machine.trouble {
                Some(trouble) => output.paint(Paint::Bad, &clean(trouble)),
                None => "has not announced itself".to_owned(),
            },
        };
        let access = machine.access.as_ref().map_or_else(String::new, |access| {
            let places: Vec<&str> = access.places.iter().map(|place| place.as_str()).collect();
            let how = if access.write { "read and write" } else { "read" };
            format!("  {} ({how})", clean(&places.join(" ")))
        });
        let own = if machine.own { "  (this machine)" } else { "" };
        format!(
            "{}  {key}{access}{own}",
            output.paint(Paint::Strong, &clean(&machine.name))
        )
    };
    let lines: Vec<String> = list.machines.iter().map(line).collect();
    lines.join("\n")
}

/// Whom secrets are sealed for, and the machines that there are.
pub(super) async fn recipients(
    rules: &RulesView,
    client: &mut upkeep_api::client::Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let list: MachineList = client.get("/v1/config/machines").await?;
    if output.json {
        output.document(&serde_json::json!({"places": rules.places, "machines": list.machines}))?;
        return Ok(Exit::Done);
    }
    super::show::rules(rules, list.asks.is_some(), output)?;
    output.text(&machines(&list, output))?;
    Ok(Exit::Done)
}

async fn add(asked: MachineAdd, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    // Made before anything is asked for: a password that cannot be kept is lost.
    let file = match asked.password_file.as_deref().filter(|_| !settings.dry_run) {
        Some(path) => Some((path, new_file(path)?)),
        None => None,
    };
    let post = MachinePost {
        name: asked.name.clone(),
        places: asked.places,
        write: asked.write,
        certificate: asked.certificate,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let called: Result<MachineAdded, _> = client.call("POST", "/v1/config/machines", Some(&post)).await;
    let mut added = match (called, &file) {
        (Ok(added), _) => added,
        (Err(error), Some((path, _))) => {
            // It is empty, and ours.
            let _ = std::fs::remove_file(path);
            return Err(error.into());
        }
        (Err(error), None) => return Err(error.into()),
    };
    if let (Some((_, mut file)), Some(password)) = (file, &added.password) {
        file.write_all(format!("{password}\n").as_bytes())?;
        file.sync_all()?;
        added.password = None;
    }
    if output.json {
        output.document(&added)?;
        return Ok(Exit::Done);
    }
    let places: Vec<&str> = added.changes.iter().map(|place| place.as_str()).collect();
    let how = if asked.write { "read and write" } else { "read" };
    output.text(&format!(
        "user {} may {how} {}",
        clean(&added.user),
        clean(&places.join(" "))
    ))?;
    match (&added.password, &asked.password_file) {
        (Some(password), _) => {
            output.text(&format!("password {}", clean(password)))?;
            output.say(
                "it is shown this once; keep it in the `password_file` of that machine's settings, mode 0600",
            );
        }
        (None, Some(path)) if !settings.dry_run => {
            output.say(&format!("its password is in {}", path.display()));
        }
        (None, _) => {}
    }
    if !added.asks {
        output.say(
            "etcd asks nobody who they are: this holds nobody to anything yet (`upkeep config machine auth`)",
        );
    }
    if settings.dry_run {
        output.say("nothing was changed: this is what would be");
    }
    Ok(Exit::Done)
}

fn new_file(path: &Path) -> Result<std::fs::File, Advised> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| {
            let advised = Advised::new(
                Exit::Failed,
                format!("failed to make `{}`: {error}", path.display()),
            );
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => advised.hint(
                    "it may be a password that is in use, and is never written over: name a new file, or move that one away",
                ),
                _ => advised,
            }
        })
}

async fn remove(name: &MachineName, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let body = Change {
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let path = format!("/v1/config/machines/{}", percent_encode(name.as_str()));
    let changed: PlacesChanged = client.call("DELETE", &path, Some(&body)).await?;
    if output.json {
        output.document(&changed)?;
        return Ok(Exit::Done);
    }
    let places: Vec<&str> = changed.changes.iter().map(|place| place.as_str()).collect();
    let what = if settings.dry_run {
        "would no longer use"
    } else {
        "no longer uses"
    };
    output.text(&format!("machine:{name} {what} {}", clean(&places.join(" "))))?;
    output.say("what is sealed for it stays so: `upkeep config recipients PLACE --to … --reseal --anew`, and change secrets that it has read");
    Ok(Exit::Done)
}

async fn auth(root: String, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let post = AuthPost {
        root,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let enabled: AuthEnabled = client.call("POST", "/v1/config/auth", Some(&post)).await?;
    if output.json {
        output.document(&enabled)?;
        return Ok(Exit::Done);
    }
    let lines: Vec<String> = enabled
        .changes
        .iter()
        .map(|one| format!("+ {}", clean(one)))
        .collect();
    output.text(&lines.join("\n"))?;
    if settings.dry_run {
        output.say("nothing was changed: this is what would be");
    }
    Ok(Exit::Done)
}

/// A path as the daemon, which has another directory, finds it.
fn whole(path: Option<String>) -> anyhow::Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let whole = std::path::absolute(&path)?;
    let text = whole.to_str();
    let text = text.ok_or_else(|| Advised::new(Exit::Usage, format!("`{path}` is no path of UTF-8")))?;
    Ok(Some(text.to_owned()))
}

fn etcd(asked: ConfigMigrate) -> anyhow::Result<EtcdStore> {
    if let Some(file) = &asked.settings {
        let settings = super::super::settings::read(file)?;
        return settings.config.etcd.ok_or_else(|| {
            Advised::new(Exit::Usage, format!("`{file}` says nothing of `config.etcd`")).into()
        });
    }
    if asked.endpoints.is_empty() {
        return Err(Advised::new(Exit::Usage, "where is etcd?")
            .hint("`--endpoint https://10.0.0.1:2379`, or `--settings FILE` with `config.etcd`")
            .into());
    }
    let mut etcd: EtcdStore = serde_json::from_value(serde_json::json!({"endpoints": asked.endpoints}))?;
    etcd.prefix = asked.prefix;
    etcd.ca_file = whole(asked.ca_file)?;
    etcd.cert_file = whole(asked.cert_file)?;
    etcd.key_file = whole(asked.key_file)?;
    etcd.user = asked.user;
    etcd.password_file = whole(asked.password_file)?;
    Ok(etcd)
}

/// `config migrate`.
pub(super) async fn migrate(
    asked: ConfigMigrate,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let post = match asked.to {
        StoreName::Embedded if !asked.endpoints.is_empty() || asked.settings.is_some() => {
            return Err(Advised::new(
                Exit::Usage,
                "a file of this machine has no endpoints and no settings",
            )
            .into());
        }
        StoreName::Embedded => MigratePost {
            to: StoreKind::Embedded,
            etcd: None,
            reason: settings.reason.clone(),
            dry_run: settings.dry_run,
        },
        StoreName::Etcd => MigratePost {
            to: StoreKind::Etcd,
            etcd: Some(etcd(asked)?),
            reason: settings.reason.clone(),
            dry_run: settings.dry_run,
        },
    };
    let mut client = connect_or_start(settings).await?;
    let moved: Migrated = client.call("POST", "/v1/config/migrate", Some(&post)).await?;
    if output.json {
        output.document(&moved)?;
        return Ok(Exit::Done);
    }
    if settings.dry_run {
        output.text(&format!(
            "would move to {}: {} keys, as of revision {}",
            clean(&moved.to),
            moved.keys,
            moved.revision
        ))?;
        output.say(&format!(
            "nothing was changed: {} stays in use, and the other store can be filled",
            moved.from
        ));
        return Ok(Exit::Done);
    }
    output.text(&format!(
        "moved to {}: {} keys, all compared; {} of them changed meanwhile",
        clean(&moved.to),
        moved.keys,
        moved.followed
    ))?;
    output.say(&format!(
        "{} is kept as it was at revision {}, and refused from now on",
        moved.from, moved.revision
    ));
    Ok(Exit::Done)
}

/// `config status`.
pub(super) async fn status(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let status: ConfigStatus = client.get("/v1/config/status").await?;
    if output.json {
        output.document(&status)?;
        return Ok(Exit::Done);
    }
    output.text(&told(&status, output))?;
    Ok(Exit::Done)
}

fn told(status: &ConfigStatus, output: Output) -> String {
    let bad = |text: &str| output.paint(Paint::Bad, &clean(text));
    let mut text = format!(
        "{} {}",
        clean(&status.backend),
        status.version.as_deref().map(clean).unwrap_or_default()
    );
    // Writing into a string cannot fail.
    if let Some(revision) = status.revision {
        let _ = write!(text, ", revision {revision}");
    }
    if let Some(keys) = status.keys {
        let _ = write!(text, ", {keys} keys");
    }
    if let (Some(disk), Some(used)) = (status.disk_bytes, status.used_bytes) {
        let _ = write!(
            text,
            ", {} on the disk ({} in use",
            time::bytes(disk),
            time::bytes(used)
        );
        match status.quota_bytes {
            Some(quota) => {
                let _ = write!(text, ", {} at most)", time::bytes(quota));
            }
            None => text.push(')'),
        }
    }
    let _ = writeln!(text, "\nin {}", clean(&status.place));
    if let Some(trouble) = &status.trouble {
        let _ = writeln!(text, "{}", bad(trouble));
    }
    for alarm in &status.alarms {
        let _ = writeln!(text, "{}", bad(alarm));
    }
    for endpoint in &status.endpoints {
        let state = match (&endpoint.trouble, &endpoint.version) {
            (Some(trouble), _) => bad(trouble),
            (None, Some(version)) => format!("answers, {}", clean(version)),
            (None, None) => "answers".to_owned(),
        };
        let _ = writeln!(text, "endpoint {}: {state}", clean(&endpoint.url));
    }
    for member in &status.members {
        let leads = if member.leader { ", leads" } else { "" };
        let state = member.trouble.as_deref().map_or_else(|| "well".to_owned(), bad);
        let size = member
            .disk_bytes
            .map_or_else(String::new, |disk| format!(", {} on the disk", time::bytes(disk)));
        let _ = writeln!(text, "member {}: {state}{leads}{size}", clean(&member.name));
    }
    if let Some(user) = &status.user {
        let _ = writeln!(text, "user {}", clean(user));
    }
    if !status.places.is_empty() {
        let places: Vec<&str> = status.places.iter().map(|place| place.as_str()).collect();
        let _ = writeln!(text, "may use {}", clean(&places.join(" ")));
    }
    if let Some(care) = &status.care {
        let clock = time::Clock::local();
        let by = care
            .by
            .as_deref()
            .map_or_else(|| "nobody that this machine knows of".to_owned(), clean);
        let _ = writeln!(text, "looked after by {by}");
        if let Some(why) = &care.not_here {
            let _ = writeln!(text, "not from here: {}", clean(why));
        }
        if let Some(done) = &care.compacted {
            let _ = writeln!(
                text,
                "compacted to revision {} at {} by {}",
                done.revision,
                clock.text(done.at),
                clean(&done.by)
            );
        }
        for done in &care.defragmented {
            let _ = writeln!(
                text,
                "defragmented {} at {} by {}: {} to {}",
                clean(&done.member),
                clock.text(done.at),
                clean(&done.by),
                time::bytes(done.before_bytes),
                time::bytes(done.after_bytes)
            );
        }
    }
    let watches = &status.watches;
    if watches.open > 0 {
        let _ = write!(text, "{} watch", watches.open);
        if watches.held_up > 0 {
            let _ = write!(
                text,
                ", {} do not read, for up to {:.0} s",
                watches.held_up, watches.longest_s
            );
        }
        if watches.behind > 0 {
            let _ = write!(text, ", up to {} revisions behind", watches.behind);
        }
        text.push('\n');
    }
    for user in &status.apps {
        let _ = writeln!(text, "app {}: {}", user.app, values::summary(&user.config));
    }
    let _ = writeln!(text, "{}={}", clean(&status.machine.name), status.machine.key);
    let _ = writeln!(text, "fingerprint {}", status.fingerprint);
    text
}
