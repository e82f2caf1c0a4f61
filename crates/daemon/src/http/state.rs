//! `GET /v1/apps?follow=true`: all apps, and then what changes.
//!
//! One task looks at the apps twice a second while anybody follows, and soon after every event, once for all who do: it tells
//! of an app only if something about it has changed that is worth telling ([`worth`]). Followers get what they may see. Events have an
//! id of this daemon's run and a number; whoever comes back with one is told all apps anew, which loses nothing and is
//! the same for a client that was away for a second and one that was away for a day.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::response::Response;
use tokio::sync::{broadcast::error::RecvError, mpsc, watch};
use upkeep_api::body::{AppView, AppsChange, AppsQuery};
use upkeep_model::id::AppName;

use super::{Shared, gate::Caller, share::Pool, stream};
use crate::{apps::view, command::Refusal};

/// Between two looks, where nothing happens.
const STEP: Duration = Duration::from_millis(500);
/// From an event to the look: what it changed is seen then, and many events are one look.
const SOON: Duration = Duration::from_millis(60);
/// And for each app that is looked at.
const EACH: Duration = Duration::from_micros(200);
/// A follower that hears nothing for so long hears a comment.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// An app as it was when it last changed.
#[derive(Clone, Debug)]
struct Seen {
    /// Number of the look that saw it so first.
    number: u64,
    view: Arc<AppView>,
}

type Picture = Arc<BTreeMap<AppName, Seen>>;

/// What followers share.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// While somebody follows.
    looker: Mutex<Option<watch::Receiver<Picture>>>,
    looks: AtomicU64,
}

impl Feed {
    /// The picture that somebody keeps up to date; begins with that if nobody does.
    fn join(&self, shared: &Arc<Shared>) -> watch::Receiver<Picture> {
        let mut looker = self
            .looker
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(picture) = looker.as_ref()
            && picture.has_changed().is_ok()
        {
            return picture.clone();
        }
        let mut now = BTreeMap::new();
        self.look(shared, &mut now);
        let (sender, receiver) = watch::channel(Arc::new(now));
        // What is kept here must not keep the looker alive.
        *looker = Some(receiver.clone());
        let shared = Arc::clone(shared);
        let mut events = shared.events.subscribe();
        let looking = async move {
            loop {
                tokio::select! {
                    // Cancel-safe: both only wait.
                    () = tokio::time::sleep(STEP) => {}
                    event = events.recv() => match event {
                        Err(RecvError::Closed) => tokio::time::sleep(STEP).await,
                        // The more there is to look at, the rarer.
                        Ok(_) | Err(RecvError::Lagged(_)) => {
                            let apps = u32::try_from(sender.borrow().len()).unwrap_or(u32::MAX);
                            tokio::time::sleep((SOON + EACH.saturating_mul(apps)).min(STEP)).await;
                        }
                    },
                }
                // What has happened up to here is seen by this look.
                events = shared.events.subscribe();
                {
                    // The one above is always there.
                    let mut looker = shared
                        .feed
                        .looker
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    if sender.receiver_count() <= 1 {
                        *looker = None;
                        return;
                    }
                }
                let mut picture = BTreeMap::clone(&sender.borrow());
                if shared.feed.look(&shared, &mut picture) {
                    sender.send_replace(Arc::new(picture));
                }
            }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the last follower, on the HTTP runtime, which owns nothing else"
        )]
        drop(tokio::spawn(looking));
        receiver
    }

    /// Brings a picture up to date; whether it changed.
    fn look(&self, shared: &Shared, picture: &mut BTreeMap<AppName, Seen>) -> bool {
        let number = self.looks.fetch_add(1, Ordering::Relaxed) + 1;
        let apps = shared.directory.read();
        let before = picture.len();
        picture.retain(|name, _| apps.contains_key(name));
        let mut changed = picture.len() != before;
        for (name, entry) in apps.iter() {
            let view = view::app(name, entry, &shared.usage);
            let is_known = picture
                .get(name)
                .is_some_and(|seen| worth(&seen.view) == worth(&view));
            if !is_known {
                let view = Arc::new(view);
                picture.insert(name.clone(), Seen { number, view });
                changed = true;
            }
        }
        changed
    }
}

/// An app without what never rests.
fn worth(view: &AppView) -> AppView {
    let mut view = view.clone();
    for instance in &mut view.instances {
        instance.uptime_ms = None;
        instance.cpu_percent = None;
        instance.memory_bytes = None;
        instance.next_start_in_ms = None;
        if let Some(health) = &mut instance.health {
            for check in &mut health.checks {
                // A check that goes well again and again is no news.
                check.good = check.good.min(1);
                check.last_at = None;
                check.took_ms = None;
            }
        }
    }
    view
}

/// Those who follow.
static FOLLOWERS: Pool = Pool::new("follow apps", 1024, "close some pages that show them");

/// Follows.
pub(super) fn follow(caller: Caller, asked: AppsQuery) -> Result<Response, Refusal> {
    let share = FOLLOWERS.enter(&caller.known)?;
    let Caller { shared, permit, .. } = caller;
    let (sender, receiver) = mpsc::channel(stream::CHUNKS);
    let mut picture = shared.feed.join(&shared);
    let run = shared.started_ms;
    let follow = async move {
        let _share = share;
        let is_asked = |name: &AppName, view: &AppView| {
            permit.covers(name, &view.namespace)
                && asked
                    .namespace
                    .as_ref()
                    .is_none_or(|namespace| *namespace == view.namespace)
        };
        let mut told: BTreeMap<AppName, u64> = BTreeMap::new();
        let mut whole = true;
        loop {
            let now = Arc::clone(&picture.borrow_and_update());
            let mut change = AppsChange {
                whole,
                ..AppsChange::default()
            };
            let mut newest = 0;
            for (name, seen) in now.iter() {
                if !is_asked(name, &seen.view) {
                    continue;
                }
                newest = newest.max(seen.number);
                if whole && let Some(entry) = shared.directory.get(name) {
                    // Times and figures of it may be of long ago. What else has changed since is told by the next look: else
                    // one that changes back before it would stay as it was for a moment.
                    let fresh = view::app(name, &entry, &shared.usage);
                    change.apps.push(if worth(&fresh) == worth(&seen.view) {
                        fresh
                    } else {
                        AppView::clone(&seen.view)
                    });
                    told.insert(name.clone(), seen.number);
                    continue;
                }
                if told.insert(name.clone(), seen.number) != Some(seen.number) {
                    change.apps.push(AppView::clone(&seen.view));
                }
            }
            told.retain(|name, _| {
                let stays = now.get(name).is_some_and(|seen| is_asked(name, &seen.view));
                if !stays {
                    change.gone.push(name.clone());
                }
                stays
            });
            drop(now);
            if whole || !change.apps.is_empty() || !change.gone.is_empty() {
                let mut buffer = Vec::new();
                stream::append(&mut buffer, true, Some(&format!("{run:x}-{newest:x}")), &change);
                if sender.send(buffer.into()).await.is_err() {
                    return;
                }
                whole = false;
            }
            loop {
                tokio::select! {
                    // Cancel-safe: a change is seen only when it is returned.
                    changed = picture.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    // Cancel-safe: nothing is lost by not waiting.
                    () = sender.closed() => return,
                    () = tokio::time::sleep(HEARTBEAT) => {
                        if sender.send(stream::COMMENT.into()).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with its client, on the HTTP runtime, which owns nothing else"
    )]
    drop(tokio::spawn(follow));
    Ok(stream::answer(stream::SSE, receiver))
}
