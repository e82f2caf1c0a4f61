//! Following the settings: the store that they name is opened, and whoever looks is told when that fails.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use upkeep_api::config_store::StoreCare;
use upkeep_config::Place;
use upkeep_model::settings::{FileStore, SharedConfig};

use super::{
    Configuration, Opened, Told,
    care::{self, Carer},
    care_file::FileCarer,
    told_place, where_it_is,
};
use crate::main_loop::note;

/// How long until a store that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(10);

impl Configuration {
    /// Opens what the settings name whenever they name something else. Never ends.
    pub(crate) async fn follow(&self) {
        let mut settings = self.inner.settings.subscribe();
        // Etcd is looked after also while nobody asks; a file waits until somebody does.
        let mut before: Option<SharedConfig> = None;
        let mut failed: Option<SharedConfig> = None;
        loop {
            let wanted = where_it_is(&settings.borrow_and_update().config);
            let changed = before.as_ref().is_some_and(|before| *before != wanted);
            let is_due = failed.as_ref() == Some(&wanted);
            if wanted.etcd.is_some() || is_due || (changed && self.is_used()) {
                let is_told = changed || failed.is_some();
                match self.open().await {
                    Ok(_) => {
                        if is_told && (changed || is_due) {
                            self.tell_store("config.store", told_place(&wanted)).await;
                        }
                        failed = None;
                    }
                    Err(refusal) => {
                        if !is_due {
                            note(&refusal.message);
                            let why = format!("{}: {}", told_place(&wanted), refusal.message);
                            self.tell_store("config.store_failed", why).await;
                        }
                        failed = Some(wanted.clone());
                    }
                }
            } else {
                failed = None;
            }
            before = Some(wanted);
            tokio::select! {
                // Cancel-safe: what has changed is looked at anew.
                changed = settings.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                // Cancel-safe: it only waits.
                () = tokio::time::sleep(AGAIN), if failed.is_some() => {}
            }
        }
    }

    /// Looks after the store; announces this machine at one that others share. Never ends.
    pub(crate) async fn look_after(&self) {
        let mut replaced = self.replaced();
        loop {
            replaced.mark_unchanged();
            let opened = self.in_use();
            let work = async {
                let Some(opened) = opened else {
                    return std::future::pending().await;
                };
                let name = opened.machine.name.clone();
                let seen = Arc::clone(&self.inner.care);
                let (Some(etcd), Some(at)) = (opened.etcd.clone(), opened.at.etcd.clone()) else {
                    let kv = Arc::clone(opened.config.backend());
                    return FileCarer::new(kv, name, seen).run(self).await;
                };
                let carer = Carer { etcd, at, name, seen };
                tokio::join!(self.announce(&opened), carer.run(self));
            };
            tokio::select! {
                // Cancel-safe: a lease ends by itself, and all else is read anew by the next one.
                () = work => {}
                // Cancel-safe: it only waits.
                changed = replaced.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    /// Tells the others this machine's key, until that worked.
    async fn announce(&self, opened: &Opened) {
        let tell = |why: Option<String>| {
            let mut known = self
                .inner
                .unannounced
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, why)
        };
        loop {
            let why = match opened.config.announce(&opened.machine).await {
                Ok(_) => {
                    tell(None);
                    return;
                }
                Err(error) => error.to_string(),
            };
            if tell(Some(why.clone())).as_ref() != Some(&why) {
                note(&format!("this machine could not announce its key: {why}"));
                self.tell_store("config.unannounced", why).await;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Why this machine could not announce its key, if it could not.
    pub(crate) fn unannounced(&self) -> Option<String> {
        let why = self.inner.unannounced.lock();
        why.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who looks after the store, and what was done.
    pub(crate) async fn care(&self, opened: &Opened) -> StoreCare {
        care::view(opened, &self.inner.care).await
    }

    /// How the settings want the file to be looked after.
    pub(super) fn file_settings(&self) -> FileStore {
        self.inner.settings.current().config.file
    }

    /// Whether everything is being moved.
    pub(super) fn is_moving(&self) -> bool {
        self.inner.moving.try_lock().is_err()
    }

    /// An event of the store itself, for those who may read the history of all of it.
    pub(super) async fn tell_store(&self, what: &'static str, why: String) {
        let told = Told {
            what,
            places: vec![Place::all()],
            revision: None,
            why: Some(why),
        };
        self.tell("upkeep", told).await;
    }
}
