//! The shared configuration.

mod edit;
mod exchange;
mod places;
mod render;
mod show;
mod store;
mod watch;
mod zookeeper;

pub(super) use self::exchange::explain_settings;

use std::io::{Read as _, Write as _};

use upkeep_api::{
    client::{Client, ClientError, with_query},
    config::{
        ChangePost, ChangeRemoval, ConfigChanged, DiffList, DiffQuery, HistoryList, HistoryQuery,
        PlacesChanged, ResealPost, Resealed, RollbackPost, RulesPut, RulesView, ValueEntry, ValueKind,
        ValueList, ValuePut, ValueQuery, ValueView, ValuesQuery,
    },
};
use upkeep_model::{
    place::{Path, Place},
    size::Span,
};

use super::look::percent_encode;
use crate::{
    args::{ConfigRecipients, ConfigSet, ConfigVerb},
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, clean::clean},
    settings::Settings,
};

/// The largest value that the store takes.
const VALUE_MAX: usize = 1 << 19;

/// `config …`.
pub(crate) async fn run(verb: ConfigVerb, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    match verb {
        ConfigVerb::Get { path, reveal } => get(&path, reveal, settings, output).await,
        ConfigVerb::Set(asked) => set(asked, settings, output).await,
        ConfigVerb::Rm { places, revision } => rm(places, revision, settings, output).await,
        ConfigVerb::Ls { place } => {
            let list = values(&place, settings).await?;
            show::list(&list, output)
        }
        ConfigVerb::Tree { place } => {
            let list = values(&place, settings).await?;
            show::tree(&place, &list, output)
        }
        ConfigVerb::Watch { place, from } => watch::run(place, from, settings, output).await,
        ConfigVerb::History { place, lines, keep } => match places::kept(&keep) {
            Some(keep) => places::keep(place, keep, settings, output).await,
            None => history(place, lines, settings, output).await,
        },
        ConfigVerb::Diff { place, from, to } => diff(place, from, to, settings, output).await,
        ConfigVerb::Rollback { place, to } => rollback(place, to, settings, output).await,
        ConfigVerb::Edit { path, reveal, secret } => edit::run(&path, reveal, secret, settings, output).await,
        ConfigVerb::Recipients(asked) => recipients(asked, settings, output).await,
        ConfigVerb::Render(asked) => render::run(asked, settings, output).await,
        ConfigVerb::ZooKeeper(verb) => zookeeper::run(verb, settings, output).await,
        ConfigVerb::Schema(verb) => places::schema(verb, settings, output).await,
        ConfigVerb::Protect { place, approvals } => places::protect(place, approvals, settings, output).await,
        ConfigVerb::Proposals => places::proposals(settings, output).await,
        ConfigVerb::Approve { id } => places::decide("approve", &id, settings, output).await,
        ConfigVerb::Refuse { id } => places::decide("refuse", &id, settings, output).await,
        ConfigVerb::Import(asked) => exchange::import(asked, settings, output).await,
        ConfigVerb::Export { place, form, reveal } => {
            exchange::export(place, form, reveal, settings, output).await
        }
        ConfigVerb::Explain { key, files, place } => {
            exchange::explain(key, files, place, settings, output).await
        }
        ConfigVerb::Grant { to, verbs, paths } => places::grant(&to, verbs, paths, settings, output).await,
        ConfigVerb::KeepAlive { lease } => exchange::keep_alive(&lease, settings, output).await,
        ConfigVerb::Status => store::status(settings, output).await,
        ConfigVerb::Machine(verb) => store::machine(verb, settings, output).await,
        ConfigVerb::Migrate(asked) => store::migrate(asked, settings, output).await,
    }
}

/// `/v1/config/values/shop/prod/db`.
fn url(path: &Path) -> String {
    let segments: Vec<String> = path.segments().map(percent_encode).collect();
    format!("/v1/config/values/{}", segments.join("/"))
}

/// Reads one value.
async fn read(client: &mut Client, path: &Path, reveal: bool) -> Result<ValueEntry, ClientError> {
    client.get(&with_query(&url(path), &ValueQuery { reveal })).await
}

async fn get(path: &Path, reveal: bool, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let entry = read(&mut client, path, reveal).await?;
    if output.json {
        output.document(&entry)?;
        return Ok(Exit::Done);
    }
    let Some(content) = entry.value.content() else {
        return Err(masked(path).into());
    };
    if entry.value.text.is_none() || entry.value.kind == Some(ValueKind::File) {
        let mut out = std::io::stdout().lock();
        out.write_all(&content)?;
        out.flush()?;
    } else {
        output.text(&String::from_utf8_lossy(&content))?;
    }
    Ok(Exit::Done)
}

fn masked(path: &Path) -> Advised {
    Advised::new(
        Exit::Refused,
        format!("`{path}` is a secret, and is not shown unless that is asked for"),
    )
    .hint("`--reveal` shows it")
}

/// Reads a value: with a line end at its end, which may be none of it. Of what is too large no more is read than tells so.
fn value_of(reader: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(VALUE_MAX as u64 + 2).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Refuses what the store would not take, before a part of it is taken for the whole.
fn fits(bytes: &[u8], path: &Path, from: &str) -> Result<(), Advised> {
    if bytes.len() <= VALUE_MAX {
        return Ok(());
    }
    Err(Advised::new(
        Exit::Refused,
        format!(
            "failed to set `{path}`: {from} has more than {VALUE_MAX} bytes ({} KiB), the most that a value has",
            VALUE_MAX >> 10
        ),
    )
    .hint("keep it as a file elsewhere, and its place and checksum here"))
}

/// What is to be set, and what it is.
fn content(asked: &ConfigSet) -> anyhow::Result<(Vec<u8>, ValueKind)> {
    let fail = |what: &str, error: &std::io::Error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        Advised::new(exit, format!("failed to read {what}: {error}"))
    };
    if let Some(file) = &asked.file {
        let name = format!("`{}`", clean(&file.display().to_string()));
        let bytes = std::fs::File::open(file)
            .and_then(value_of)
            .map_err(|error| fail(&name, &error))?;
        fits(&bytes, &asked.path, &name)?;
        return Ok((bytes, asked.kind.unwrap_or(ValueKind::File)));
    }
    let kind = asked.kind.unwrap_or_default();
    match asked.value.as_deref() {
        Some("-") => {
            let mut bytes = value_of(std::io::stdin()).map_err(|error| fail("standard input", &error))?;
            // Where there may be more behind it, it is not the end.
            let is_whole = bytes.len() <= VALUE_MAX + 1;
            if kind != ValueKind::File && is_whole && bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            fits(&bytes, &asked.path, "standard input")?;
            Ok((bytes, kind))
        }
        Some(_) if asked.secret => Err(Advised::new(
            Exit::Usage,
            "a secret is not taken from the command line: every user of this machine can see it there",
        )
        .hint(format!(
            "on standard input: `upkeep config set {} - --secret`, or from a file: `--file FILE`",
            asked.path
        ))
        .into()),
        value => Ok((value.unwrap_or_default().as_bytes().to_vec(), kind)),
    }
}

/// A body that sets a value.
fn body(
    bytes: Vec<u8>,
    kind: ValueKind,
    secret: bool,
    revision: Option<u64>,
    settings: &Settings,
) -> ValuePut {
    let ValueView { text, base64, .. } = ValueView::default().with_content(bytes);
    ValuePut {
        kind,
        text,
        base64,
        secret,
        revision,
        ttl_ms: None,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    }
}

async fn set(asked: ConfigSet, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let (bytes, kind) = content(&asked)?;
    let mut put = body(bytes, kind, asked.secret, asked.revision, settings);
    put.ttl_ms = asked.ttl.map(Span::as_millis);
    let mut client = connect_or_start(settings).await?;
    let changed: ConfigChanged = client.call("PUT", &url(&asked.path), Some(&put)).await?;
    show::changed(&changed, settings, output)
}

async fn rm(
    places: Vec<Place>,
    revision: Option<u64>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let post = ChangePost {
        removals: places
            .into_iter()
            .map(|place| ChangeRemoval { place, revision })
            .collect(),
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
        ..ChangePost::default()
    };
    let mut client = connect_or_start(settings).await?;
    let changed: ConfigChanged = client.call("POST", "/v1/config/changes", Some(&post)).await?;
    show::changed(&changed, settings, output)
}

/// All values of a place.
async fn values(place: &Place, settings: &Settings) -> anyhow::Result<ValueList> {
    let mut client = connect_or_start(settings).await?;
    Ok(list_all(&mut client, place).await?)
}

/// All pages of a list.
async fn list_all(client: &mut Client, place: &Place) -> Result<ValueList, ClientError> {
    list_all_at(client, place, None).await
}

/// The same, as of a revision.
async fn list_all_at(client: &mut Client, place: &Place, at: Option<u64>) -> Result<ValueList, ClientError> {
    let mut query = ValuesQuery {
        place: Some(place.clone()),
        at,
        ..ValuesQuery::default()
    };
    let mut all: ValueList = client.get(&with_query("/v1/config/values", &query)).await?;
    query.at = Some(all.revision);
    while let Some(next) = all.next.take() {
        query.after = Some(next);
        let more: ValueList = client.get(&with_query("/v1/config/values", &query)).await?;
        all.values.extend(more.values);
        all.next = more.next;
    }
    Ok(all)
}

async fn history(place: Place, lines: u16, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut query = HistoryQuery {
        place: Some(place),
        ..HistoryQuery::default()
    };
    let mut client = connect_or_start(settings).await?;
    let mut all: Option<HistoryList> = None;
    loop {
        let so_far = all.as_ref().map_or(0, |all| all.changes.len());
        query.limit = Some(usize::from(lines) - so_far);
        let page: HistoryList = client.get(&with_query("/v1/config/history", &query)).await?;
        let next = page.next.clone();
        match &mut all {
            Some(all) => {
                all.changes.extend(page.changes);
                all.next.clone_from(&next);
            }
            None => all = Some(page),
        }
        let count = all.as_ref().map_or(0, |all| all.changes.len());
        match next.filter(|_| count < usize::from(lines)) {
            Some(next) => {
                query.before = Some(next.before);
                query.behind = next.behind;
            }
            None => break,
        }
    }
    match all {
        Some(all) => show::history(&all, output),
        None => Ok(Exit::Done),
    }
}

async fn diff(
    place: Place,
    from: u64,
    to: Option<u64>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut query = DiffQuery {
        place: Some(place),
        from,
        to,
        ..DiffQuery::default()
    };
    let mut client = connect_or_start(settings).await?;
    let mut list: DiffList = client.get(&with_query("/v1/config/diff", &query)).await?;
    while let Some(next) = list.next.take() {
        query.after = Some(next);
        let more: DiffList = client.get(&with_query("/v1/config/diff", &query)).await?;
        list.differences.extend(more.differences);
        list.next = more.next;
    }
    if output.json {
        output.document(&list)?;
        return Ok(Exit::Done);
    }
    if list.differences.is_empty() {
        output.say("nothing differs");
    }
    output.text(&show::differences(&list.differences, output))?;
    Ok(Exit::Done)
}

async fn rollback(place: Place, to: u64, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let post = RollbackPost {
        place,
        to,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let changed: ConfigChanged = client.call("POST", "/v1/config/rollback", Some(&post)).await?;
    show::changed(&changed, settings, output)
}

async fn recipients(asked: ConfigRecipients, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let is_change = asked.none || !asked.to.is_empty();
    let Some(place) = asked.place.clone().filter(|_| is_change || asked.reseal) else {
        let mut rules: RulesView = client.get("/v1/config/rules").await?;
        if let Some(place) = asked.place {
            rules.places.retain(|rules| rules.place.meets(&place));
        }
        return store::recipients(&rules, &mut client, output).await;
    };
    let mut done = Vec::new();
    let mut sealed = None;
    if is_change {
        let put = RulesPut {
            place: place.clone(),
            recipients: asked.to,
            reason: settings.reason.clone(),
            dry_run: settings.dry_run,
        };
        let changed: PlacesChanged = client.call("PUT", "/v1/config/rules", Some(&put)).await?;
        done.push(("the rules of", changed));
    }
    if asked.reseal {
        let post = ResealPost {
            place,
            anew: asked.anew,
            history: asked.history,
            reason: settings.reason.clone(),
            dry_run: settings.dry_run,
        };
        let resealed: Resealed = client.call("POST", "/v1/config/reseal", Some(&post)).await?;
        sealed = Some(resealed);
    }
    if output.json {
        let changed = done.iter().map(|(_, changed)| serde_json::to_value(changed));
        let all: Vec<serde_json::Value> = changed
            .chain(sealed.iter().map(serde_json::to_value))
            .collect::<Result<_, _>>()?;
        match all.as_slice() {
            [one] => output.document(one)?,
            all => output.document(&all)?,
        }
        return Ok(places::resealed_exit(sealed.as_ref()));
    }
    if let Some(sealed) = &sealed {
        done.push((
            "sealed:",
            PlacesChanged {
                changes: sealed.changes.clone(),
                event: sealed.event,
                recipients: Vec::new(),
            },
        ));
    }
    let would = if settings.dry_run { "would change: " } else { "" };
    let lines: Vec<String> = done
        .iter()
        .flat_map(|(what, changed)| {
            let places = changed.changes.iter();
            places.map(move |place| format!("{would}{what} {}", clean(place.as_str())))
        })
        .collect();
    let has_more = sealed
        .as_ref()
        .is_some_and(|sealed| sealed.failures + sealed.forgotten > 0);
    if lines.is_empty() && !has_more {
        output.say("nothing changes");
    }
    output.text(&lines.join("\n"))?;
    for recipient in done.iter().flat_map(|(_, changed)| &changed.recipients) {
        output.say(&format!(
            "{} has the key {}",
            clean(&recipient.name),
            clean(&recipient.fingerprint)
        ));
    }
    if let Some(sealed) = &sealed {
        places::say_resealed(sealed, would, output)?;
    }
    Ok(places::resealed_exit(sealed.as_ref()))
}
