//! Handlers of the shared configuration: values, what was, watches. What holds for places is in [`places`], files and leases
//! in [`exchange`].

pub(super) mod exchange;
pub(super) mod places;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Path as InPath, RawQuery},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use upkeep_api::{
    config::{
        ChangePost, ConfigChanged, DiffList, DiffQuery, HistoryList, HistoryNext, HistoryQuery, KeepView,
        LeaseView, NamedRecipient, PastValue, PlaceRules, PlacesChanged, ProposedView, Recipient,
        ResealFailure, ResealPost, Resealed, RollbackPost, RulesPut, RulesView, ValueDelete, ValueDifference,
        ValueEntry, ValueKind, ValueList, ValuePut, ValueQuery, ValueView, ValuesQuery, WatchQuery, Watched,
        WatchedValue,
    },
    error::Code,
};
use upkeep_config::{
    ConfigError, Path, Place,
    entry::{Before, Change, Changed, Difference, Entry, Put, Removal, Shown},
    rights::{Asker, Rights, Verb},
    seal,
    shared::{Leased, Reseal},
    value::{Kind, Value},
    watch::Told as WatchTold,
};

use super::{
    Shared,
    gate::Caller,
    routes::{Answer, if_match, json, parse, parse_required, query},
    share::Pool,
    stream::{self, CHUNKS, COMMENT, HEARTBEAT, SSE},
};
use crate::{
    command::Refusal,
    config::{CallerRights, Opened, Stopped, Told, lasting, path, refusal},
};

/// How many changes of the past are told, unless said otherwise.
const PAST: usize = 100;
/// And at most.
const PAST_MAX: usize = 1000;
/// How many may watch.
const WATCHERS: usize = 2000;

/// Those who watch.
static WATCHES: Pool = Pool::new(
    "watch the configuration",
    WATCHERS,
    "end some `upkeep config watch`",
);

const fn kind_shown(kind: Kind) -> ValueKind {
    match kind {
        Kind::Text => ValueKind::Text,
        Kind::Number => ValueKind::Number,
        Kind::Json => ValueKind::Json,
        Kind::Yaml => ValueKind::Yaml,
        Kind::File => ValueKind::File,
    }
}

const fn kind_meant(kind: ValueKind) -> Kind {
    match kind {
        ValueKind::Text => Kind::Text,
        ValueKind::Number => Kind::Number,
        ValueKind::Json => Kind::Json,
        ValueKind::Yaml => Kind::Yaml,
        ValueKind::File => Kind::File,
    }
}

pub(super) fn recipient(one: seal::Recipient) -> Recipient {
    Recipient {
        name: one.name,
        key: one.key,
    }
}

fn value(shown: Shown) -> ValueView {
    let view = ValueView {
        kind: shown.kind().map(kind_shown),
        secret: shown.is_secret(),
        ..ValueView::default()
    };
    match shown {
        Shown::Plain(value) | Shown::Revealed(value) => view.with_content(value.bytes),
        Shown::Masked { recipients, .. } => ValueView {
            recipients: recipients.into_iter().map(recipient).collect(),
            ..view
        },
        Shown::Hidden => view,
    }
}

fn entry(entry: Entry) -> ValueEntry {
    ValueEntry {
        path: entry.path,
        value: value(entry.shown),
        revision: entry.revision,
        version: entry.version,
        who: entry.by.who,
        at: entry.by.at,
        reason: entry.by.why,
    }
}

fn difference(one: Difference) -> ValueDifference {
    ValueDifference {
        path: one.path,
        before: one.before.map(value),
        after: one.after.map(value),
    }
}

fn or_all(place: Option<Place>) -> Place {
    place.unwrap_or_else(Place::all)
}

/// At least one, at most `most`.
fn limit(asked: Option<usize>, default: usize, most: usize) -> Result<usize, Refusal> {
    match asked {
        Some(0) => Err(Refusal::new(
            Code::Invalid,
            "failed to list 0 things: `limit` is 1 or more",
        )),
        asked => Ok(asked.unwrap_or(default).min(most)),
    }
}

pub(super) async fn list(caller: Caller, RawQuery(raw): RawQuery) -> Answer {
    let asked: ValuesQuery = query(raw.as_deref())?;
    let rights = CallerRights::of(&caller.known);
    let place = or_all(asked.place);
    rights.require_some(Verb::Read, &place)?;
    let most = upkeep_config::shared::LISTED_MAX;
    let limit = limit(asked.limit, most, most)?;
    let opened = caller.shared.config.open().await?;
    let listing = opened
        .config
        .list_at(asker(&rights), &place, limit, asked.after.as_ref(), asked.at)
        .await
        .map_err(refusal)?;
    json(
        StatusCode::OK,
        &ValueList {
            revision: listing.revision,
            values: listing.entries.into_iter().map(entry).collect(),
            next: listing.next,
        },
    )
}

fn asker(rights: &CallerRights) -> Asker<'_> {
    Asker {
        who: rights.who(),
        rights,
    }
}

pub(super) async fn show(caller: Caller, InPath(text): InPath<String>, RawQuery(raw): RawQuery) -> Answer {
    let asked: ValueQuery = query(raw.as_deref())?;
    let path = path(&text)?;
    let rights = CallerRights::of(&caller.known);
    let opened = caller.shared.config.open().await?;
    let shown = opened
        .config
        .get(asker(&rights), &path, asked.reveal)
        .await
        .map_err(refusal)?;
    let tag = format!("\"{}\"", shown.revision);
    let mut response: Response = json(StatusCode::OK, &entry(shown))?;
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    if asked.reveal {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// Makes a change, and has its event tell of it.
async fn carry_out(caller: Caller, change: Change) -> Result<ConfigChanged, Refusal> {
    let rights = CallerRights::of(&caller.known);
    let shared = caller.shared;
    lasting(async move {
        let (asker, wanted) = (asker(&rights), &change);
        let work =
            |opened: Arc<Opened>| async move { Ok(opened.config.change(asker, wanted).await?) }.boxed();
        let changed = shared.config.going_on(work).await?;
        let what = match (change.puts.is_empty(), change.removals.is_empty()) {
            (false, true) => "config.set",
            (true, false) => "config.deleted",
            _ => "config.changed",
        };
        Ok(told(&shared, &rights, what, changed, change.why, change.dry_run).await)
    })
    .await
}

/// What a change did, with the event that tells of it.
async fn told(
    shared: &Shared,
    rights: &CallerRights,
    what: &'static str,
    changed: Changed,
    why: Option<String>,
    dry_run: bool,
) -> ConfigChanged {
    let mut event = None;
    let what = if changed.proposed.is_some() {
        "config.proposed"
    } else {
        what
    };
    let is_changed = !changed.differences.is_empty() || !changed.unnamed.is_empty();
    if is_changed && !dry_run {
        let named = changed.differences.iter().map(|one| &one.path);
        let places = named.chain(&changed.unnamed).map(|path| path.clone().into());
        let told = Told {
            what,
            places: places.collect(),
            revision: Some(changed.revision),
            why,
        };
        event = shared.config.tell(rights.who(), told).await;
    }
    view(changed, event)
}

fn view(changed: Changed, event: Option<u64>) -> ConfigChanged {
    ConfigChanged {
        differences: changed.differences.into_iter().map(difference).collect(),
        unnamed: changed.unnamed.len(),
        revision: changed.revision,
        event,
        proposed: changed.proposed.map(|proposed| ProposedView {
            id: proposed.id,
            approvals: proposed.approvals,
        }),
        lease: changed.lease.map(lease),
    }
}

fn lease(leased: Leased) -> LeaseView {
    LeaseView {
        id: format!("{:x}", leased.id),
        ttl_ms: u64::try_from(leased.ttl.as_millis()).unwrap_or(u64::MAX),
    }
}

/// 202 where others have to approve first.
fn status_of(changed: &ConfigChanged) -> StatusCode {
    match &changed.proposed {
        Some(ProposedView { id: Some(_), .. }) => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    }
}

fn wrong_content(path: &str, why: &str) -> Refusal {
    Refusal::new(
        Code::Invalid,
        format!("failed to set `{}`: {why}", path.escape_debug()),
    )
    .hint("`text` is the content if it is UTF-8, `base64` is any")
}

pub(super) async fn put(
    caller: Caller,
    InPath(text): InPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let path = path(&text)?;
    let put: ValuePut = parse_required(&body)?;
    let bytes = put.content().map_err(|why| wrong_content(path.as_str(), why))?;
    let change = Change {
        puts: vec![Put {
            path,
            value: Value {
                kind: kind_meant(put.kind),
                bytes,
            },
            secret: put.secret,
            expected: if_match(&headers)?.or(put.revision),
        }],
        removals: Vec::new(),
        why: put.reason,
        dry_run: put.dry_run,
        ttl: put.ttl_ms.map(Duration::from_millis),
    };
    let changed = carry_out(caller, change).await?;
    json(status_of(&changed), &changed)
}

pub(super) async fn delete(
    caller: Caller,
    InPath(text): InPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let path = path(&text)?;
    let asked: ValueDelete = parse(&body)?;
    let change = Change {
        puts: Vec::new(),
        removals: vec![Removal {
            place: path.into(),
            expected: if_match(&headers)?.or(asked.revision),
        }],
        why: asked.reason,
        dry_run: asked.dry_run,
        ttl: None,
    };
    let changed = carry_out(caller, change).await?;
    json(status_of(&changed), &changed)
}

pub(super) async fn change(caller: Caller, body: Bytes) -> Answer {
    let asked: ChangePost = parse_required(&body)?;
    let mut puts = Vec::with_capacity(asked.puts.len());
    for put in asked.puts {
        let bytes = put.content().map_err(|why| wrong_content(&put.path, why))?;
        let path: Path = put.path.parse().map_err(ConfigError::from).map_err(refusal)?;
        puts.push(Put {
            path,
            value: Value {
                kind: kind_meant(put.kind),
                bytes,
            },
            secret: put.secret,
            expected: put.revision,
        });
    }
    let removals = asked.removals.into_iter().map(|removal| Removal {
        place: removal.place,
        expected: removal.revision,
    });
    let change = Change {
        puts,
        removals: removals.collect(),
        why: asked.reason,
        dry_run: asked.dry_run,
        ttl: asked.ttl_ms.map(Duration::from_millis),
    };
    let changed = carry_out(caller, change).await?;
    json(status_of(&changed), &changed)
}

pub(super) async fn history(caller: Caller, RawQuery(raw): RawQuery) -> Answer {
    let asked: HistoryQuery = query(raw.as_deref())?;
    let rights = CallerRights::of(&caller.known);
    let place = or_all(asked.place);
    rights.require_some(Verb::History, &place)?;
    let limit = limit(asked.limit, PAST, PAST_MAX)?;
    let before = match (asked.before, asked.behind) {
        (Some(revision), path) => Some(Before { revision, path }),
        (None, None) => None,
        (None, Some(_)) => {
            return Err(Refusal::new(
                Code::Invalid,
                "failed to list the history: `behind` is of no revision",
            )
            .hint("give both of the last answer's `next`: `before` and `behind`")
            .into());
        }
    };
    let opened = caller.shared.config.open().await?;
    let past = opened
        .config
        .history(asker(&rights), &place, limit, before.as_ref())
        .await
        .map_err(refusal)?;
    let next = past.next.map(|next| HistoryNext {
        before: next.revision,
        behind: next.path,
    });
    let changes = past.changes.into_iter().map(|past| PastValue {
        path: past.path,
        revision: past.revision,
        value: past.shown.map(value),
        who: past.by.who,
        at: past.by.at,
        reason: past.by.why,
    });
    json(
        StatusCode::OK,
        &HistoryList {
            changes: changes.collect(),
            next,
        },
    )
}

pub(super) async fn diff(caller: Caller, RawQuery(raw): RawQuery) -> Answer {
    let asked: DiffQuery = query(raw.as_deref())?;
    let rights = CallerRights::of(&caller.known);
    let place = or_all(asked.place);
    rights.require_some(Verb::History, &place)?;
    let opened = caller.shared.config.open().await?;
    let most = upkeep_config::shared::LISTED_MAX;
    let limit = limit(asked.limit, most, most)?;
    let compared = opened
        .config
        .diff(
            asker(&rights),
            &place,
            (asked.from, asked.to),
            limit,
            asked.after.as_ref(),
        )
        .await
        .map_err(refusal)?;
    json(
        StatusCode::OK,
        &DiffList {
            differences: compared.differences.into_iter().map(difference).collect(),
            next: compared.next,
        },
    )
}

pub(super) async fn rollback(caller: Caller, body: Bytes) -> Answer {
    let asked: RollbackPost = parse_required(&body)?;
    let rights = CallerRights::of(&caller.known);
    let shared = caller.shared;
    let changed = lasting(async move {
        let RollbackPost {
            place,
            to,
            reason,
            dry_run,
        } = asked;
        let (asker, place, why) = (asker(&rights), &place, reason.as_deref());
        let work = |opened: Arc<Opened>| {
            async move { Ok(opened.config.rollback(asker, place, to, why, dry_run).await?) }.boxed()
        };
        let changed = shared.config.going_on(work).await?;
        Ok(told(&shared, &rights, "config.rolled_back", changed, reason, dry_run).await)
    })
    .await?;
    json(status_of(&changed), &changed)
}

/// The rules of places of which the caller reads all.
pub(super) async fn rules(caller: Caller) -> Answer {
    let rights = CallerRights::of(&caller.known);
    let opened = caller.shared.config.open().await?;
    let book = opened.config.rules().await.map_err(refusal)?;
    let places = book
        .places
        .iter()
        .filter(|(place, _)| rights.may_all(Verb::Read, place))
        .map(|(place, rules)| PlaceRules {
            place: place.clone(),
            recipients: rules.recipients.iter().cloned().map(recipient).collect(),
            approvals: rules.approvals,
            schema: rules.schema.is_some(),
            keep: rules.keep.map(|keep| KeepView {
                changes: keep.changes,
                days: keep.days,
            }),
        });
    json(
        StatusCode::OK,
        &RulesView {
            places: places.collect(),
        },
    )
}

pub(super) fn require_grant(rights: &CallerRights, place: &Place) -> Result<(), Refusal> {
    if rights.may_all(Verb::Grant, place) {
        return Ok(());
    }
    Err(refusal(ConfigError::Denied {
        who: rights.who().to_owned(),
        verb: Verb::Grant,
        place: place.clone(),
    }))
}

/// What a change of places did, with the event that tells of it.
pub(super) async fn told_places(
    shared: &Shared,
    rights: &CallerRights,
    what: &'static str,
    places: Vec<Place>,
    (why, dry_run): (Option<String>, bool),
) -> PlacesChanged {
    let mut event = None;
    if !dry_run && !places.is_empty() {
        let told = Told {
            what,
            places: places.clone(),
            revision: None,
            why,
        };
        event = shared.config.tell(rights.who(), told).await;
    }
    PlacesChanged {
        changes: places,
        recipients: Vec::new(),
        event,
    }
}

/// Recipients with their keys: of those that came without one, the key that the machine of that name has announced.
async fn keyed(opened: &Opened, asked: &[Recipient]) -> Result<Vec<seal::Recipient>, Stopped> {
    let is_known = asked.iter().all(|one| !one.key.is_empty());
    let machines = if is_known {
        Vec::new()
    } else {
        opened.config.machines().await?
    };
    asked
        .iter()
        .map(|one| {
            if !one.key.is_empty() {
                return Ok(seal::Recipient {
                    name: one.name.clone(),
                    key: one.key.clone(),
                });
            }
            let own = Some(&opened.machine).filter(|own| own.name == one.name).cloned();
            let announced = machines.iter().find(|machine| machine.name == one.name);
            let announced = announced.map(|machine| seal::Recipient {
                name: machine.name.clone(),
                key: machine.key.clone(),
            });
            // Another one may have announced itself under our name; then ours is not what was meant by it.
            announced.or(own).ok_or_else(|| {
                Refusal::new(
                    Code::NotFound,
                    format!("no machine has announced itself as `{}`", one.name.escape_debug()),
                )
                .hint("`upkeep config machine ls` lists those that have; a key can be given: NAME=KEY")
                .into()
            })
        })
        .collect()
}

pub(super) async fn put_rules(caller: Caller, body: Bytes) -> Answer {
    let asked: RulesPut = parse_required(&body)?;
    let rights = CallerRights::of(&caller.known);
    let shared = caller.shared;
    let changed = lasting(async move {
        require_grant(&rights, &asked.place)?;
        let (asker, asked) = (asker(&rights), &asked);
        let work = |opened: Arc<Opened>| {
            let work = async move {
                let wanted = keyed(&opened, &asked.recipients).await?;
                if asked.dry_run {
                    upkeep_config::rules::check_recipients(&wanted)?;
                }
                let book = opened.config.rules().await?;
                let before = book.places.get(&asked.place).cloned().unwrap_or_default();
                if before.recipients == wanted {
                    return Ok((wanted, Vec::new()));
                }
                if !asked.dry_run {
                    // What else holds there stays, also if it has just come.
                    let change = |rules| upkeep_config::rules::Rules {
                        recipients: wanted.clone(),
                        ..rules
                    };
                    let config = &opened.config;
                    config.change_rules(asker, &asked.place, change).await?;
                }
                Ok((wanted, vec![asked.place.clone()]))
            };
            work.boxed()
        };
        let (wanted, places) = shared.config.going_on(work).await?;
        let how = (asked.reason.clone(), asked.dry_run);
        let mut changed = told_places(&shared, &rights, "config.rules", places, how).await;
        changed.recipients = wanted
            .into_iter()
            .map(|one| NamedRecipient {
                fingerprint: seal::fingerprint(&one.key),
                name: one.name,
                key: one.key,
            })
            .collect();
        Ok(changed)
    })
    .await?;
    json(StatusCode::OK, &changed)
}

pub(super) async fn reseal(caller: Caller, body: Bytes) -> Answer {
    let asked: ResealPost = parse_required(&body)?;
    let rights = CallerRights::of(&caller.known);
    let shared = caller.shared;
    let changed = lasting(async move {
        let how = Reseal {
            anew: asked.anew,
            history: asked.history,
            dry_run: asked.dry_run,
        };
        let (asker, place) = (asker(&rights), &asked.place);
        let work =
            |opened: Arc<Opened>| async move { Ok(opened.config.reseal(asker, place, how).await?) }.boxed();
        let done = shared.config.going_on(work).await?;
        let mut places: Vec<Place> = done.done.into_iter().map(Place::from).collect();
        let is_history_alone = places.is_empty() && done.forgotten > 0;
        if is_history_alone {
            places.push(asked.place);
        }
        let how = (asked.reason, asked.dry_run);
        let told = told_places(&shared, &rights, "config.resealed", places, how).await;
        let failed = done.failed.into_iter().map(|(path, why)| ResealFailure {
            place: path.into(),
            why,
        });
        Ok(Resealed {
            changes: if is_history_alone {
                Vec::new()
            } else {
                told.changes
            },
            event: told.event,
            failed: failed.collect(),
            failures: done.failures,
            forgotten: done.forgotten,
        })
    })
    .await?;
    json(StatusCode::OK, &changed)
}

/// One item of a watch, and the revision that whoever resumes goes on behind.
fn watched(told: WatchTold) -> (Option<u64>, Watched) {
    match told {
        WatchTold::Changes { revision, changes } => {
            let changes = changes.into_iter().map(|change| {
                let (who, at, reason) = match change.by {
                    Some(by) => (Some(by.who), Some(by.at), by.why),
                    None => (None, None, None),
                };
                WatchedValue {
                    path: change.path,
                    value: change.shown.map(value),
                    who,
                    at,
                    reason,
                }
            });
            let changes = changes.collect();
            (Some(revision), Watched::Changes { revision, changes })
        }
        WatchTold::Progress { revision } => (Some(revision), Watched::Progress { revision }),
        WatchTold::Lagging { behind } => (None, Watched::Lagging { behind }),
        WatchTold::Compacted { oldest } => (None, Watched::Compacted { oldest }),
    }
}

/// Where a stream goes on: behind what the client has seen.
fn behind(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(id) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id: Option<u64> = id.to_str().ok().and_then(|id| id.parse().ok());
    match id.and_then(|id| id.checked_add(1)) {
        Some(from) => Ok(Some(from)),
        None => Err(
            Refusal::new(Code::Invalid, "`Last-Event-ID` is no revision of this stream")
                .hint("leave it out to begin anew"),
        ),
    }
}

pub(super) async fn watch(caller: Caller, headers: HeaderMap, RawQuery(raw): RawQuery) -> Answer {
    let asked: WatchQuery = query(raw.as_deref())?;
    let from = behind(&headers)?.or(asked.from);
    let rights = CallerRights::of(&caller.known);
    let place = or_all(asked.place);
    rights.require_some(Verb::Watch, &place)?;
    rights.require_some(Verb::Read, &place)?;
    let share = WATCHES.enter(&caller.known)?;
    let mut watching = caller.shared.config.watchers().enter();
    // Before it is opened, so that no change of the store is missed.
    let mut replaced = caller.shared.config.replaced();
    let opened = caller.shared.config.open().await?;
    replaced.mark_unchanged();
    let mut told = opened.config.watch(Arc::new(rights), &place, from);
    drop(opened);
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let follow = async move {
        let _share = share;
        // What is not for this caller must not keep it from hearing anything.
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            let mut buffer = Vec::new();
            let mut is_last = false;
            tokio::select! {
                // Cancel-safe: an item is taken only when it is returned.
                next = told.next() => match next {
                    Some(Ok(told)) => {
                        is_last = matches!(told, WatchTold::Compacted { .. });
                        watching.told(&told);
                        let (id, item) = watched(told);
                        let id = id.map(|id| id.to_string());
                        stream::append(&mut buffer, true, id.as_deref(), &item);
                    }
                    Some(Err(error)) => {
                        // Whoever watches resumes behind the last revision, or sees to what keeps it from that.
                        is_last = true;
                        let why = refusal(error).to_string();
                        stream::append(&mut buffer, true, None, &Watched::Failed { why });
                    }
                    None => return,
                },
                // Cancel-safe: it only waits.
                _ = heartbeat.tick() => buffer.extend_from_slice(COMMENT),
                // Cancel-safe: nothing is lost by not waiting.
                () = sender.closed() => return,
                // Cancel-safe: it only waits. Whoever resumes is sent to the store that is in use now.
                _ = replaced.changed() => return,
            }
            watching.waits(true);
            if sender.send(buffer.into()).await.is_err() || is_last {
                return;
            }
            watching.waits(false);
        }
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with its client, on the HTTP runtime, which owns nothing else"
    )]
    drop(tokio::spawn(follow));
    Ok(stream::answer(SSE, receiver))
}
