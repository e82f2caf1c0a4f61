//! What apps get of the shared configuration: variables and files, kept up to date, also while the store is away.
//!
//! ```text
//!  actor ──wants(record)──▶ Supply ◀── one task for each app (thread `config-apps`) ──watch, read──▶ Configuration
//!    ▲  ◀──gate, variables──   │                    │  files, checks: blocking pool        config-cache/APP
//!    │                         ▼                    ▼
//!    └───────Update──── director ◀──Supplied── an edition that is to hold
//! ```
//!
//! What an app's places hold at a moment is an *edition*, with a number. Which edition holds stands in the app's record, beside
//! the specification, so that a change of values is carried out, turned back and taken up by the next daemon as a change of the
//! specification is: each generation of copies has its edition. The values themselves are in memory and, sealed for this
//! machine, in `config-cache`; nowhere else.
//!
//! An edition is on the disk before the record names it, and files are written before the copies that need them start. A copy
//! that starts waits for both ([`Supply::gate`]), as it waits for apps that it depends on.
//!
//! Nothing here runs, and no thread is there, as long as no app has `config`.

mod cache;
mod edition;
mod files;
mod follow;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use upkeep_api::body::{AppConfigView, WaitingValues};
use upkeep_config::{Path, Place};
use upkeep_model::{
    app::AppSpec,
    id::AppName,
    supply::{ChangeAction, FileUse, TEMPLATE_MAX, USES_MAX},
};
use upkeep_supervise::order::Gate;

pub(crate) use self::edition::Variables;
use self::{
    cache::Cache,
    edition::Edition,
    follow::proof::{KeptProof, Proof},
};
use crate::{
    apps::directory::{AppRecord, Directory},
    config::Configuration,
    events::Events,
    main_loop::note,
};

/// What an app was given, beside its specification: a part of its record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Granted {
    /// Which edition of its values its copies get; none: nothing was read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) edition: Option<u64>,
    /// Whether who applied it may reveal all that is in its places, whatever comes.
    pub(crate) secrets: bool,
    /// Who applied it.
    pub(crate) who: String,
}

/// Instead of what a program says that knows secrets of its app: it may repeat them.
pub(crate) const NOT_SHOWN: &str = "what it said is not shown, because the app gets secrets";

/// Where others find how an app is supplied.
pub(crate) type Shown = Arc<Mutex<Option<AppConfigView>>>;

/// An edition that is to hold, for the director.
#[derive(Debug)]
pub(crate) struct Supplied {
    pub(crate) app: AppName,
    pub(crate) edition: u64,
    /// Generation and edition of the record that this was worked out of: of another one it is no use.
    pub(crate) from: (u32, Option<u64>),
    /// Revision of the values.
    pub(crate) revision: u64,
    /// Paths whose values have changed.
    pub(crate) changed: Vec<String>,
    /// The edition that the record names is lost: there is no way back to it.
    pub(crate) lost: bool,
    /// It held before, and the one that followed did no good: why.
    pub(crate) back: Option<String>,
    pub(crate) reply: oneshot::Sender<Result<(), String>>,
}

/// What the parts of this work with.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) config: Arc<Configuration>,
    pub(crate) events: Events,
    pub(crate) directory: Arc<Directory>,
    /// Where the last good values are kept.
    pub(crate) folder: PathBuf,
    /// Wakes actors whose copies wait.
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) orders: mpsc::Sender<Supplied>,
}

/// One app.
#[derive(Debug)]
struct App {
    record: Arc<AppRecord>,
    editions: BTreeMap<u64, Arc<Edition>>,
    /// An edition that did no good: it is not tried again.
    refused: Option<u64>,
    /// The last that the director was asked to put in force: the record does not name it yet.
    ordered: Option<u64>,
    /// One that was put in force by a signal, and is watched.
    proof: Option<Proof>,
    /// What is kept on the disk was not read yet.
    is_unread: bool,
    /// For which edition which files stand as they are to be.
    written: Option<(u64, Vec<FileUse>)>,
    /// Why there are no values, or no files, for what is wanted.
    trouble: Option<String>,
    /// Values that are not in force, and why.
    waiting: Option<(u64, String)>,
    /// Since when the store could not be read, and why.
    stale: Option<(f64, String)>,
    shown: Shown,
    poke: Arc<Notify>,
}

/// Gives apps their values.
#[derive(Debug)]
pub(crate) struct Supply {
    sources: Sources,
    cache: Cache,
    apps: Mutex<BTreeMap<AppName, App>>,
    /// Somebody came or went.
    poke: Notify,
    thread: std::sync::Once,
    /// The store is away: since when, and whether that was told.
    away: Mutex<Option<(f64, u32)>>,
}

impl App {
    /// The edition in force, if it is there and of the places of today.
    fn in_force(&self) -> Option<&Arc<Edition>> {
        let places = &self.record.spec.config.as_ref()?.places;
        let id = self.record.supply.as_ref()?.edition?;
        self.editions.get(&id).filter(|edition| edition.is_of(places))
    }

    fn files_stand(&self, edition: u64) -> bool {
        let files = &self.record.spec.files;
        files.is_empty()
            || self
                .written
                .as_ref()
                .is_some_and(|(of, written)| *of == edition && written == files)
    }

    fn show(&self) {
        let view = self.record.spec.config.as_ref().map(|config| {
            let edition = self.in_force();
            let variables = edition
                .filter(|_| config.env)
                .and_then(|edition| edition.variables(&config.allow).ok())
                .unwrap_or_default();
            AppConfigView {
                places: config.places.clone(),
                revision: edition.map(|edition| edition.revision),
                read_at: edition.map(|edition| edition.at),
                variables: variables.all.keys().cloned().collect(),
                files: self
                    .record
                    .spec
                    .files
                    .iter()
                    .map(|file| file.to.display().to_string())
                    .collect(),
                stale_since: self.stale.as_ref().map(|(since, _)| *since),
                trouble: self
                    .trouble
                    .clone()
                    .or_else(|| self.stale.as_ref().map(|(_, why)| why.clone())),
                waiting: self
                    .waiting
                    .clone()
                    .map(|(revision, why)| WaitingValues { revision, why }),
            }
        });
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

impl Supply {
    pub(crate) fn new(sources: Sources) -> Arc<Self> {
        Arc::new(Self {
            cache: Cache(sources.folder.clone()),
            sources,
            apps: Mutex::default(),
            poke: Notify::new(),
            thread: std::sync::Once::new(),
            away: Mutex::default(),
        })
    }

    fn apps(&self) -> MutexGuard<'_, BTreeMap<AppName, App>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of an app, if it is there, and shows it.
    fn with<T>(&self, name: &AppName, change: impl FnOnce(&mut App) -> T) -> Option<T> {
        let mut apps = self.apps();
        let app = apps.get_mut(name)?;
        let done = change(app);
        app.show();
        Some(done)
    }

    fn wake_actors(&self) {
        self.sources
            .changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// What an app is to run by from now on. The first time its task reads its last good values from the disk.
    pub(crate) fn wants(self: &Arc<Self>, record: &Arc<AppRecord>, shown: &Shown) {
        let name = &record.spec.name;
        let before = record.previous.as_deref();
        let is_used =
            record.spec.config.is_some() || before.is_some_and(|before| before.spec.config.is_some());
        if !is_used {
            self.forget(name);
            return;
        }
        if let Some(app) = self.apps().get_mut(name) {
            if app.record != *record {
                app.record = Arc::clone(record);
                app.trouble = None;
                app.show();
                app.poke.notify_one();
            }
            return;
        }
        let app = App {
            record: Arc::clone(record),
            editions: BTreeMap::new(),
            refused: None,
            ordered: None,
            proof: None,
            is_unread: true,
            written: None,
            trouble: None,
            waiting: None,
            stale: None,
            shown: Arc::clone(shown),
            poke: Arc::new(Notify::new()),
        };
        app.show();
        self.apps().insert(name.clone(), app);
        self.start();
        self.poke.notify_one();
    }

    /// Reads what is kept of an app on the disk. What is damaged is told and left out. Blocks.
    fn revive(&self, name: &AppName) {
        let kept = match self.sources.config.identity() {
            Ok(identity) => self.cache.read(name, &identity),
            Err(why) => Err(why),
        };
        let kept = kept.unwrap_or_else(|why| {
            note(&format!("app `{name}`: {why}"));
            self.tell(name, "values_lost", why, "they are read anew", BTreeMap::new());
            None
        });
        let kept = kept.unwrap_or_default();
        let editions: Vec<Edition> = kept.editions.into_iter().map(Edition::revived).collect();
        self.with(name, |app| {
            app.refused = kept.refused;
            app.proof = kept.proof.and_then(KeptProof::revived);
            let editions = editions
                .into_iter()
                .map(|edition| (edition.id, Arc::new(edition)));
            app.editions.extend(editions);
            app.is_unread = false;
        });
        self.wake_actors();
    }

    /// Once all apps that there are have been told of: what is kept of others goes.
    pub(crate) fn sweep(&self) {
        let names: Vec<AppName> = self.apps().keys().cloned().collect();
        if let Err(why) = self.cache.sweep(&names) {
            note(&why);
        }
    }

    fn start(self: &Arc<Self>) {
        self.thread.call_once(|| {
            let supply = Arc::clone(self);
            let thread = std::thread::Builder::new()
                .name("config-apps".to_owned())
                .spawn(move || follow::run(&supply));
            if let Err(error) = thread {
                note(&format!("no thread for the values of apps: {error}"));
            }
        });
    }

    /// The app is no more.
    pub(crate) fn forget(&self, name: &AppName) {
        if let Some(app) = self.apps().remove(name) {
            *app.shown.lock().unwrap_or_else(PoisonError::into_inner) = None;
            app.poke.notify_one();
            self.poke.notify_one();
        }
    }

    /// Whether a copy of this generation may start.
    pub(crate) fn gate(&self, record: &AppRecord, generation: u32) -> Gate {
        let Some(config) = &record.spec_of(generation).config else {
            return Gate::Met;
        };
        let edition = self.edition(record, generation);
        let edition = edition.and_then(|edition| match edition.variables(&config.allow) {
            Err(why) if config.env => Err(Some(why)),
            _ => Ok(edition),
        });
        match edition {
            Ok(_) if !record.is_current(generation) => Gate::Met,
            Ok(edition) => {
                let apps = self.apps();
                match apps.get(&record.spec.name) {
                    Some(app) if app.files_stand(edition.id) => Gate::Met,
                    Some(App {
                        trouble: Some(why), ..
                    }) => Gate::Never(why.clone()),
                    _ => Gate::Pending("its files are being written".to_owned()),
                }
            }
            Err(Some(why)) => Gate::Never(why),
            Err(None) => Gate::Pending("its configuration is being read".to_owned()),
        }
    }

    /// What copies of a generation get. `Err`: why there is nothing, or nothing yet.
    fn edition(&self, record: &AppRecord, generation: u32) -> Result<Arc<Edition>, Option<String>> {
        let apps = self.apps();
        let app = apps.get(&record.spec.name).ok_or(None)?;
        let (Some(config), Some(granted)) =
            (&record.spec_of(generation).config, record.supply_of(generation))
        else {
            return Err(app.trouble.clone());
        };
        let edition = granted.edition.and_then(|id| app.editions.get(&id));
        let edition = edition
            .filter(|edition| edition.is_of(&config.places))
            .ok_or_else(|| app.trouble.clone())?;
        match edition.secret() {
            Some(path) if !granted.secrets => Err(Some(not_revealed(path, granted))),
            _ => Ok(Arc::clone(edition)),
        }
    }

    /// The variables of a copy of a generation.
    pub(crate) fn variables(&self, record: &AppRecord, generation: u32) -> Result<Variables, String> {
        let Some(config) = &record.spec_of(generation).config else {
            return Ok(Variables::default());
        };
        let none = |why: String| format!("there is no configuration for it: {why}");
        let edition = self
            .edition(record, generation)
            .map_err(|why| none(why.unwrap_or_else(|| "it is being read".to_owned())))?;
        if !config.env {
            return Ok(Variables {
                secret: edition.secret().is_some(),
                ..Variables::default()
            });
        }
        edition.variables(&config.allow).map_err(none)
    }

    /// A secret among the values that an app of these places has today: it may be gone from the store already.
    pub(crate) fn secret_of(&self, name: &AppName, places: &[Place]) -> Option<Path> {
        let apps = self.apps();
        let edition = apps.get(name)?.in_force()?;
        edition.secret().filter(|_| edition.is_of(places)).cloned()
    }

    /// Why a record must not be: it would give its app a secret that whoever applies it may not reveal.
    pub(crate) fn refuse_grant(&self, record: &AppRecord) -> Result<(), String> {
        let (Some(granted), Some(config)) = (&record.supply, &record.spec.config) else {
            return Ok(());
        };
        let name = &record.spec.name;
        let is_unread = self.apps().get(name).is_some_and(|app| app.is_unread);
        if is_unread && granted.edition.is_some() && !granted.secrets {
            return Err("the values that the app has are still being read; try again".to_owned());
        }
        let secret = self.secret_of(name, &config.places);
        match secret.filter(|_| !granted.secrets) {
            Some(path) => Err(not_revealed(&path, granted)),
            None => Ok(()),
        }
    }

    /// Apps whose values could not be read for a while, for people who ask after the store.
    pub(crate) fn views(&self) -> Vec<(AppName, AppConfigView)> {
        let apps = self.apps();
        apps.iter()
            .filter_map(|(name, app)| {
                let shown = app.shown.lock().unwrap_or_else(PoisonError::into_inner);
                Some((name.clone(), shown.clone()?))
            })
            .collect()
    }

    fn tell(
        &self,
        app: &AppName,
        what: &str,
        why: String,
        result: &str,
        details: BTreeMap<String, serde_json::Value>,
    ) {
        let event = upkeep_api::body::Event {
            id: 0,
            at: crate::events::now(),
            who: "upkeep".to_owned(),
            what: what.to_owned(),
            target: app.to_string(),
            why,
            result: result.to_owned(),
            details,
        };
        crate::apps::director::log_machine_event(&self.sources.events, event);
    }
}

/// What of a specification makes no sense: it may come from a program and not from a file that was read here.
pub(crate) fn refuse(spec: &AppSpec) -> Result<(), String> {
    let Some(config) = &spec.config else {
        return if spec.files.is_empty() {
            Ok(())
        } else {
            Err("`files` are made from values of `config`, and there is none".to_owned())
        };
    };
    if config.places.is_empty() || config.places.len() > USES_MAX {
        return Err(format!(
            "`config` has {} places; it can have 1 to {USES_MAX}",
            config.places.len()
        ));
    }
    upkeep_model::supply::refuse_allowed(&config.allow)?;
    if let Some(place) = config.places.iter().find(|place| !place.is_many()) {
        return Err(format!(
            "`{place}` of `config` is one value, and no place of several"
        ));
    }
    if spec.files.len() > USES_MAX {
        return Err(format!(
            "`files` has {} files; it can have {USES_MAX}",
            spec.files.len()
        ));
    }
    for file in &spec.files {
        let to = file.to.display();
        if !file.to.is_absolute() || file.to.file_name().is_none() {
            return Err(format!("`{to}` of `files` is no absolute path of a file"));
        }
        if file.text.len() > TEMPLATE_MAX {
            return Err(format!(
                "the template of `{to}` has more than {TEMPLATE_MAX} bytes"
            ));
        }
    }
    match spec.on_change.action {
        ChangeAction::Signal(signal) if !(1..=64).contains(&signal) => Err(format!("{signal} is no signal")),
        _ => Ok(()),
    }
}

/// Why a secret is not given to an app.
fn not_revealed(path: &Path, granted: &Granted) -> String {
    format!(
        "`{path}` is a secret, and `{}`, who applied the app, may not reveal all of that place",
        granted.who
    )
}
