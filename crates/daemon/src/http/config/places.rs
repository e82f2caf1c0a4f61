//! What holds for places: schemas, approvals, how much history is kept; and changes that wait for others.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path as InPath, RawQuery},
    http::StatusCode,
};
use futures_util::FutureExt as _;
use upkeep_api::config::{
    ApprovalsPut, ConfigProposal, KeepPut, PlaceSchema, ProposalApprove, ProposalDecided, ProposalList,
    ProposalQuery, ProposalRefuse, SchemaList, SchemaPut, SchemaQuery,
};
use upkeep_config::{
    Place,
    entry::Proposal,
    proposals::Approval,
    rights::{Rights as _, Verb},
    rules::Rules,
    shared::Keep,
};

use super::{asker, difference, limit, or_all, require_grant, status_of, told_places, view};
use crate::{
    command::Refusal,
    config::{CallerRights, Opened, Told, lasting, refusal},
    http::{
        Shared,
        gate::Caller,
        routes::{Answer, json, parse, parse_required, query},
    },
};

/// How many proposals are told, unless said otherwise.
const WAITING: usize = 100;

pub(in crate::http) async fn schemas(caller: Caller, RawQuery(raw): RawQuery) -> Answer {
    let asked: SchemaQuery = query(raw.as_deref())?;
    let rights = CallerRights::of(&caller.known);
    let place = or_all(asked.place);
    rights.require_some(Verb::Read, &place)?;
    let opened = caller.shared.config.open().await?;
    let book = opened.config.rules().await.map_err(refusal)?;
    let schemas = book
        .places
        .iter()
        .filter(|(one, _)| place.contains(one) && rights.may_all(Verb::Read, one))
        .filter_map(|(one, rules)| {
            Some(PlaceSchema {
                place: one.clone(),
                schema: rules.schema.clone()?,
            })
        });
    json(
        StatusCode::OK,
        &SchemaList {
            schemas: schemas.collect(),
        },
    )
}

/// Changes what holds for a place, and has an event tell of it.
async fn change_rules(
    caller: Caller,
    what: &'static str,
    place: Place,
    (why, dry_run): (Option<String>, bool),
    change: impl Fn(Rules) -> Rules + Send + Sync + 'static,
) -> Answer {
    let rights = CallerRights::of(&caller.known);
    let shared = caller.shared;
    let changed = lasting(async move {
        require_grant(&rights, &place)?;
        let (asker, place, change) = (asker(&rights), &place, &change);
        let work = |opened: Arc<Opened>| {
            let work = async move {
                let book = opened.config.rules().await?;
                let before = book.places.get(place).cloned().unwrap_or_default();
                if change(before.clone()) == before {
                    return Ok(Vec::new());
                }
                if dry_run {
                    opened.config.try_rules(asker, place, &change(before)).await?;
                } else {
                    opened.config.change_rules(asker, place, change).await?;
                }
                Ok(vec![place.clone()])
            };
            work.boxed()
        };
        let places = shared.config.going_on(work).await?;
        Ok(told_places(&shared, &rights, what, places, (why, dry_run)).await)
    })
    .await?;
    json(StatusCode::OK, &changed)
}

pub(in crate::http) async fn put_schema(caller: Caller, body: Bytes) -> Answer {
    let asked: SchemaPut = parse_required(&body)?;
    let schema = asked.schema;
    let change = move |rules| Rules {
        schema: schema.clone(),
        ..rules
    };
    let how = (asked.reason, asked.dry_run);
    change_rules(caller, "config.schema", asked.place, how, change).await
}

pub(in crate::http) async fn put_approvals(caller: Caller, body: Bytes) -> Answer {
    let asked: ApprovalsPut = parse_required(&body)?;
    let approvals = asked.approvals;
    let change = move |rules| Rules { approvals, ..rules };
    let how = (asked.reason, asked.dry_run);
    change_rules(caller, "config.approvals", asked.place, how, change).await
}

pub(in crate::http) async fn put_keep(caller: Caller, body: Bytes) -> Answer {
    let asked: KeepPut = parse_required(&body)?;
    let keep = asked.keep.map(|keep| Keep {
        changes: keep.changes,
        days: keep.days,
    });
    let change = move |rules| Rules { keep, ..rules };
    let how = (asked.reason, asked.dry_run);
    change_rules(caller, "config.keep", asked.place, how, change).await
}

fn proposal(one: Proposal) -> ConfigProposal {
    ConfigProposal {
        id: one.id,
        who: one.by.who,
        at: one.by.at,
        reason: one.by.why,
        approved_by: one.approved_by,
        approvals: one.approvals,
        differences: one.differences.into_iter().map(difference).collect(),
    }
}

pub(in crate::http) async fn proposals(caller: Caller, RawQuery(raw): RawQuery) -> Answer {
    let asked: ProposalQuery = query(raw.as_deref())?;
    let rights = CallerRights::of(&caller.known);
    let limit = limit(asked.limit, WAITING, upkeep_config::proposals::WAITING_MAX)?;
    let opened = caller.shared.config.open().await?;
    let told = opened
        .config
        .proposals(asker(&rights), limit, asked.after.as_deref())
        .await
        .map_err(refusal)?;
    json(
        StatusCode::OK,
        &ProposalList {
            proposals: told.proposals.into_iter().map(proposal).collect(),
            next: told.next,
        },
    )
}

/// Has an event tell what became of a proposal.
async fn tell(
    shared: &Shared,
    rights: &CallerRights,
    what: &'static str,
    proposal: &Proposal,
    revision: Option<u64>,
    why: Option<String>,
) -> Option<u64> {
    let places = proposal.differences.iter().map(|one| one.path.clone().into());
    let told = Told {
        what,
        places: places.collect(),
        revision,
        why,
    };
    shared.config.tell(rights.who(), told).await
}

pub(in crate::http) async fn approve(caller: Caller, InPath(id): InPath<String>, body: Bytes) -> Answer {
    let asked: ProposalApprove = parse(&body)?;
    let rights = CallerRights::of(&caller.known);
    let shared = caller.shared;
    let decided = lasting(async move {
        if asked.dry_run {
            return shown(&shared, &rights, &id).await;
        }
        let (asker, id) = (asker(&rights), &id);
        let work = |opened: Arc<Opened>| async move { Ok(opened.config.approve(asker, id).await?) }.boxed();
        let approval = shared.config.going_on(work).await?;
        let (waiting, changed) = match approval {
            Approval::Waits(waiting) => (waiting, None),
            Approval::Done(was, changed) => (was, Some(changed)),
        };
        let revision = changed.as_ref().map(|changed| changed.revision);
        let what = if changed.is_some() {
            "config.changed"
        } else {
            "config.approved"
        };
        let why = asked
            .reason
            .or_else(|| Some(format!("approved, proposed by {}", waiting.by.who)));
        let event = tell(&shared, &rights, what, &waiting, revision, why).await;
        Ok::<_, Refusal>(ProposalDecided {
            changed: changed.map(|changed| view(changed, event)),
            proposal: proposal(waiting),
            event,
        })
    })
    .await?;
    let status = decided.changed.as_ref().map_or(StatusCode::OK, status_of);
    json(status, &decided)
}

/// A proposal as it is, for a dry run.
async fn shown(shared: &Shared, rights: &CallerRights, id: &str) -> Result<ProposalDecided, Refusal> {
    let asker = asker(rights);
    let work = |opened: Arc<Opened>| async move { Ok(opened.config.proposed(asker, id).await?) }.boxed();
    Ok(ProposalDecided {
        proposal: proposal(shared.config.going_on(work).await?),
        changed: None,
        event: None,
    })
}

pub(in crate::http) async fn refuse(caller: Caller, InPath(id): InPath<String>, body: Bytes) -> Answer {
    let asked: ProposalRefuse = parse(&body)?;
    let rights = CallerRights::of(&caller.known);
    let shared = caller.shared;
    let decided = lasting(async move {
        if asked.dry_run {
            return shown(&shared, &rights, &id).await;
        }
        let (asker, id) = (asker(&rights), &id);
        let work = |opened: Arc<Opened>| async move { Ok(opened.config.refuse(asker, id).await?) }.boxed();
        let refused = shared.config.going_on(work).await?;
        let event = tell(&shared, &rights, "config.refused", &refused, None, asked.reason).await;
        Ok::<_, Refusal>(ProposalDecided {
            proposal: proposal(refused),
            changed: None,
            event,
        })
    })
    .await?;
    json(StatusCode::OK, &decided)
}
