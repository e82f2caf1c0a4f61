//! Moving the configuration to another store and having the settings name it.
//!
//! What is about to be done stands in `config.moving` in the home. It counts for nothing until the old store says that its use
//! has ended (`m/store`, see `upkeep_config::migrate`): a daemon that is killed before that goes on with the old store, one that
//! is killed after it finds this when it opens the old store, and finishes.

use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use upkeep_api::{config_store::Migrated, error::Code, settings::SettingsPut};
use upkeep_config::{
    Place,
    migrate::{self, State},
};
use upkeep_model::{hex::hex, settings::SharedConfig};
use upkeep_store::kv::{
    Kv,
    embedded::{Embedded, Options},
};

use super::{Configuration, Opened, Told, backend, refusal, told_place};
use crate::{
    command::{Principal, Refusal},
    events,
};

const NOTE: &str = "config.moving";
/// So often the settings are read anew because somebody else changed them meanwhile.
const TRIES: usize = 10;

/// What is about to be done.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    id: String,
    from: SharedConfig,
    to: SharedConfig,
    who: String,
}

impl Configuration {
    /// Moves everything to the store of these settings, and has the settings name it.
    pub(crate) async fn migrate(
        &self,
        who: &Principal,
        to: SharedConfig,
        why: Option<String>,
    ) -> Result<Migrated, Refusal> {
        let Ok(_alone) = self.inner.moving.try_lock() else {
            return Err(Refusal::new(Code::Conflict, "it is being moved already"));
        };
        let opened = self.may_move(who, &to).await?;
        let mut random = [0; 8];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Refusal::new(Code::Internal, "the system gave no random numbers"))?;
        let note = Note {
            id: hex(&random),
            from: opened.at.clone(),
            to,
            who: who.name.clone(),
        };
        let target = self.target(&note.to).await?;
        self.keep(&note)?;
        let moved = opened
            .config
            .migrate(&target, &note.id, &told_place(&note.to))
            .await
            .map_err(refusal);
        let moved = match moved {
            Ok(moved) => moved,
            Err(refusal) => {
                // Where nobody knows whether it was committed, the note has to stay.
                let is_over = migrate::is_committed(opened.config.backend(), &note.id).await;
                if matches!(is_over, Ok(false)) {
                    self.forget_note();
                }
                return Err(refusal);
            }
        };
        self.switch(opened.config.backend(), target, &note, why.as_deref())
            .await?;
        let event = self.tell_moved(&note, why).await;
        // Whoever comes next finds it open.
        self.open().await?;
        Ok(Migrated {
            from: told_place(&note.from),
            to: told_place(&note.to),
            keys: moved.keys,
            followed: moved.followed,
            revision: moved.revision,
            event,
        })
    }

    /// What [`Self::migrate`] would move: both ends are looked at, and nothing is changed.
    pub(crate) async fn look_at_move(&self, who: &Principal, to: SharedConfig) -> Result<Migrated, Refusal> {
        let opened = self.may_move(who, &to).await?;
        let target = match &to.etcd {
            Some(etcd) => Some(Arc::new(backend::etcd(etcd)?) as Arc<dyn Kv>),
            // Opening would make it.
            None if self.inner.file.exists() => Some(self.file().await?),
            None => None,
        };
        if let Some(target) = target {
            match migrate::state(&target).await.map_err(refusal)? {
                // A file that everything was moved away from is put aside.
                State::Moved if to.etcd.is_none() => {}
                _ => migrate::may_fill(&target).await.map_err(refusal)?,
            }
        }
        let found = opened.config.look_at_move().await.map_err(refusal)?;
        Ok(Migrated {
            from: told_place(&opened.at),
            to: told_place(&to),
            keys: found.keys,
            followed: 0,
            revision: found.revision,
            event: None,
        })
    }

    /// The store to move away from, if there is somewhere to move to.
    async fn may_move(&self, who: &Principal, to: &SharedConfig) -> Result<Arc<Opened>, Refusal> {
        let opened = self.open().await?;
        if opened.at.etcd == to.etcd {
            return Err(Refusal::new(
                Code::Conflict,
                format!("the configuration is there already: {}", told_place(to)),
            ));
        }
        // Whether the settings would be taken is known before anything is done.
        self.put_settings(who, to, None, true).await?;
        Ok(opened)
    }

    /// Finishes what a daemon that was killed had begun, if the store that was found moved is one of ours: whether it is.
    pub(super) async fn resume(&self, at: &SharedConfig, id: &str) -> Result<bool, Refusal> {
        let text = match std::fs::read(self.inner.folder.path(NOTE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(&error.to_string())),
        };
        let note: Note = serde_json::from_slice(&text).map_err(|error| failed(&error.to_string()))?;
        if note.id != id || note.from.etcd != at.etcd {
            return Ok(false);
        }
        let (source, _, _) = backend::backend(&self.inner.file, &self.inner.folder, at).await?;
        let target = self.target(&note.to).await?;
        self.switch(&source, target, &note, Some("a move was finished"))
            .await?;
        self.tell_moved(&note, None).await;
        Ok(true)
    }

    /// The store to move to, as a backend.
    async fn target(&self, to: &SharedConfig) -> Result<Arc<dyn Kv>, Refusal> {
        if let Some(etcd) = &to.etcd {
            return Ok(Arc::new(backend::etcd(etcd)?));
        }
        let kv = self.file().await?;
        if migrate::state(&kv).await.map_err(refusal)? != State::Moved {
            return Ok(kv);
        }
        // It went away from here once. That is kept, under another name.
        drop(kv);
        let old = self
            .inner
            .file
            .with_extension(format!("redb.old-{:.0}", events::now()));
        std::fs::rename(&self.inner.file, &old).map_err(|error| failed(&error.to_string()))?;
        self.file().await
    }

    /// The file of this machine, made if there is none.
    async fn file(&self) -> Result<Arc<dyn Kv>, Refusal> {
        let file = self.inner.file.clone();
        let open = move || {
            let kv = Embedded::open(&file, Options::default())
                .map_err(|error| format!("failed to open `{}`: {error}", file.display()))?;
            Ok::<Arc<dyn Kv>, String>(Arc::new(kv))
        };
        tokio::task::spawn_blocking(open)
            .await
            .map_err(|error| failed(&error.to_string()))?
            .map_err(|why| failed(&why))
    }

    /// Lets the new store be used, and has the settings name it.
    async fn switch(
        &self,
        source: &Arc<dyn Kv>,
        target: Arc<dyn Kv>,
        note: &Note,
        why: Option<&str>,
    ) -> Result<(), Refusal> {
        if !migrate::finish(source, &target, &note.id)
            .await
            .map_err(refusal)?
        {
            return Err(Refusal::new(Code::Conflict, "the old store is in use"));
        }
        // A file can be opened only once.
        drop(target);
        let who = Principal {
            name: note.who.clone(),
        };
        self.put_settings(&who, &note.to, why, false).await?;
        self.forget_note();
        Ok(())
    }

    async fn put_settings(
        &self,
        who: &Principal,
        to: &SharedConfig,
        why: Option<&str>,
        dry_run: bool,
    ) -> Result<(), Refusal> {
        let mut last = None;
        for _ in 0..TRIES {
            let view = self.inner.settings.view();
            let mut settings = view.settings;
            settings.config = SharedConfig {
                file: settings.config.file,
                ..to.clone()
            };
            let put = SettingsPut {
                settings,
                revision: Some(view.revision),
                reason: why.map(str::to_owned),
                dry_run,
            };
            match self.inner.settings.put(put, who).await {
                Ok(_) => return Ok(()),
                Err(refusal) if refusal.code == Code::Conflict => last = Some(refusal),
                Err(refusal) => return Err(refusal),
            }
        }
        Err(last.unwrap_or_else(|| failed("the settings change all the time")))
    }

    fn keep(&self, note: &Note) -> Result<(), Refusal> {
        let text = serde_json::to_string(note).map_err(|error| failed(&error.to_string()))?;
        let folder = &self.inner.folder;
        folder
            .write(NOTE, &text)
            .and_then(|()| folder.settle())
            .map_err(|why| failed(&why))
    }

    fn forget_note(&self) {
        // What is left counts for nothing.
        let _ = std::fs::remove_file(self.inner.folder.path(NOTE));
    }

    async fn tell_moved(&self, note: &Note, why: Option<String>) -> Option<u64> {
        let told = Told {
            what: "config.migrated",
            places: vec![Place::all()],
            revision: None,
            why: why.or_else(|| Some(format!("{} to {}", told_place(&note.from), told_place(&note.to)))),
        };
        self.tell(&note.who, told).await
    }
}

fn failed(why: &str) -> Refusal {
    Refusal::new(
        Code::Unavailable,
        format!("failed to move the configuration: {why}"),
    )
    .hint("the old store is in use; `upkeep config status` tells which that is")
}

#[cfg(test)]
mod tests {
    use upkeep_config::{
        entry::{Change, Put},
        rights::{All, Asker},
        value::Value,
    };
    use upkeep_host::home::Home;
    use upkeep_store::Store;
    use upkeep_testkit::etcd::Etcd;

    use super::*;
    use crate::{events::Events, settings::Holder};

    const ME: Asker<'static> = Asker {
        who: "uid:1",
        rights: &All,
    };

    /// As a daemon that starts in this home has it.
    fn started(at: &Home) -> (Configuration, Arc<Holder>) {
        let store = upkeep_store::embedded::Embedded::open(&at.store()).expect("a store");
        let store: Arc<dyn Store> = Arc::new(store);
        let events = Events::new(Arc::clone(&store));
        let settings = Holder::load(store.as_ref(), events.clone()).expect("settings");
        (Configuration::new(at, events, Arc::clone(&settings)), settings)
    }

    #[tokio::test]
    async fn what_a_killed_daemon_has_committed_is_finished_by_the_next() {
        let etcd = Etcd::single(&[]);
        let home = tempfile::tempdir().expect("a directory");
        let at = Home::at(home.path());
        let path: upkeep_config::Path = "/shop/db".parse().expect("a path");
        let to: SharedConfig =
            serde_json::from_value(serde_json::json!({"etcd": {"endpoints": etcd.endpoints()}}))
                .expect("settings");
        let note = |id: &str| Note {
            id: id.to_owned(),
            from: SharedConfig::default(),
            to: to.clone(),
            who: "uid:1".to_owned(),
        };
        {
            let (config, _settings) = started(&at);
            let opened = config.open().await.expect("the file");
            let change = Change {
                puts: vec![Put {
                    path: path.clone(),
                    value: Value::text("postgres"),
                    secret: true,
                    expected: None,
                }],
                ..Change::default()
            };
            opened.config.change(ME, &change).await.expect("set");
            config.keep(&note("one")).expect("kept");
            let target = config.target(&to).await.expect("etcd");
            opened
                .config
                .migrate(&target, "one", "etcd")
                .await
                .expect("committed");
            // And here it is killed.
        }
        {
            // What another machine moved is none of ours.
            let (config, settings) = started(&at);
            config.keep(&note("two")).expect("kept");
            let refusal = config.open().await.expect_err("it was moved");
            assert!(refusal.message.contains("not in use any more"), "{refusal:?}");
            assert_eq!(settings.current().config, SharedConfig::default());
            config.keep(&note("one")).expect("kept");
        }
        let (config, settings) = started(&at);
        let refusal = config.open().await.expect_err("it was moved");
        assert!(
            refusal
                .hint
                .as_deref()
                .is_some_and(|hint| hint.contains("just finished")),
            "{refusal:?}"
        );
        assert_eq!(settings.current().config, to);
        let opened = config.open().await.expect("etcd");
        assert!(opened.etcd.is_some());
        let entry = opened.config.get(ME, &path, true).await.expect("it is there");
        assert_eq!(entry.shown.value(), Some(&Value::text("postgres")));
        assert!(!home.path().join(NOTE).exists());
    }
}
