//! The store as a follower sees it: read at one revision, watched, away and there again.

use std::{
    pin::pin,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::BoxStream};
use upkeep_config::{
    ConfigError,
    rights::{All, Asker},
    snapshot::Snapshot,
    watch::Told,
};

use super::{Follower, Heard, Trouble};
use crate::{events, supply::Supply};

/// So long one question to the store may take.
const ANSWER: Duration = Duration::from_secs(20);
/// A watch that has told nothing for so long, not even that nothing happens, is dead.
const SILENCE: Duration = Duration::from_mins(1);
/// After so many failures in a row it is told that the store is away.
const TOLD_AFTER: u32 = 2;

const ASKER: Asker<'static> = Asker {
    who: "upkeep",
    rights: &All,
};

impl Follower {
    pub(super) async fn read(&mut self) -> Result<Snapshot, Trouble> {
        let away = |why: String| Trouble::Store(format!("the shared configuration cannot be read: {why}"));
        let late = || away(format!("no answer within {} s", ANSWER.as_secs()));
        let open = self.supply.sources.config.open();
        let opened = tokio::time::timeout(ANSWER, open)
            .await
            .map_err(|_| late())?
            .map_err(|refusal| away(refusal.message))?;
        if self.watch.is_none() {
            // Before anything is read: what changes from here on is told.
            let mut streams = Vec::new();
            for place in &self.places {
                let mut stream = opened.config.watch(Arc::new(All), place, None);
                match tokio::time::timeout(ANSWER, stream.next()).await {
                    Ok(Some(Ok(_))) => streams.push(with_silence(stream)),
                    Ok(Some(Err(error))) => return Err(away(error.to_string())),
                    Ok(None) => return Err(away("the watch has ended".to_owned())),
                    Err(_) => return Err(late()),
                }
            }
            self.watch = Some(futures_util::stream::select_all(streams).boxed());
            self.watched = Some(Arc::clone(&opened));
        }
        let read = opened.config.snapshot(ASKER, &self.places);
        let read = tokio::time::timeout(ANSWER, read).await.map_err(|_| late())?;
        read.map_err(|error| match &error {
            ConfigError::Store(_) => away(error.to_string()),
            _ => Trouble::Values(0, error.to_string()),
        })
    }

    /// Whether the configuration is another store by now: then that one is to be watched. Heartbeats lead here, too.
    pub(super) async fn look_at_store(&mut self) {
        let Some(watched) = &self.watched else { return };
        let open = self.supply.sources.config.open();
        if let Ok(Ok(opened)) = tokio::time::timeout(ANSWER, open).await
            && !Arc::ptr_eq(&opened, watched)
        {
            self.watch = None;
            self.watched = None;
            self.pace.noticed(Instant::now(), 0);
        }
    }

    /// The store could not be read.
    pub(super) fn stale(&self, why: &str) {
        self.with(|app| {
            let since = app.stale.as_ref().map_or_else(events::now, |(since, _)| *since);
            app.stale = Some((since, why.to_owned()));
            if app.in_force().is_none() {
                app.trouble = Some(why.to_owned());
            }
        });
        self.supply.wake_actors();
        self.supply.store_is_away(why);
    }

    pub(super) fn fresh(&self) {
        self.with(|app| {
            if let Some((_, why)) = app.stale.take()
                && app.trouble.as_ref() == Some(&why)
            {
                app.trouble = None;
            }
        });
        self.supply.store_is_back();
    }
}

/// A watch that ends with an error when it is silent for too long.
fn with_silence(stream: BoxStream<'static, Result<Told, ConfigError>>) -> BoxStream<'static, Heard> {
    futures_util::stream::unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        let next = pin!(stream.next());
        let heard = match tokio::time::timeout(SILENCE, next).await {
            Ok(Some(Ok(told))) => return Some((Ok(told), Some(stream))),
            Ok(Some(Err(error))) => error.to_string(),
            Ok(None) => "the watch has ended".to_owned(),
            Err(_) => format!("the watch has been silent for {} s", SILENCE.as_secs()),
        };
        Some((
            Err(format!("the shared configuration cannot be watched: {heard}")),
            None,
        ))
    })
    .boxed()
}

impl Supply {
    fn store_is_away(&self, why: &str) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, failures) = away.get_or_insert_with(|| (events::now(), 0));
        *failures = failures.saturating_add(1);
        if *failures == TOLD_AFTER {
            self.tell_machine("values_stale", why, "apps go on with their last good values");
        }
    }

    fn store_is_back(&self) {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((since, failures)) = away
            && failures >= TOLD_AFTER
        {
            let seconds = (events::now() - since).max(0.0).round();
            self.tell_machine(
                "values_fresh",
                "",
                &format!("the shared configuration is there again, after {seconds} s"),
            );
        }
    }

    fn tell_machine(&self, what: &str, why: &str, result: &str) {
        let upkeep = crate::command::Principal {
            name: "upkeep".to_owned(),
        };
        let event = crate::apps::director::machine_event(&upkeep, what, Some(why), result);
        crate::apps::director::log_machine_event(&self.sources.events, event);
    }
}
