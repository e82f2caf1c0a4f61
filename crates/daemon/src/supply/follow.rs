//! Keeps the values of apps: the thread, and one task for each app.
//!
//! A task sees to three things, whenever anything has changed: that the files of the app stand as the edition in force has
//! them; that what its places hold is read, at first at once and then a while after each change; and that what was read, if it
//! is something new, is rendered, checked, kept on the disk and handed to the director.
//!
//! Trouble with the store makes it stale and changes nothing; it is asked again within [`RETRY`]. Trouble with values (a key
//! that is missing, a secret that nobody may reveal) leaves those before in force until something changes. Trouble with files (no
//! room, no folder, a check that refuses) does so too, and is tried again within [`RETRY`].

pub(super) mod proof;
mod store;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::sync::oneshot;
use upkeep_config::{Place, snapshot::Snapshot, watch::Told};
use upkeep_model::{app::AppSpec, id::AppName, supply::OnChange};
use upkeep_render::pace::{Pace, Wait};

use self::proof::{KeptProof, Proof};
use super::{App, Supplied, Supply, cache::Kept, edition::Edition, files, not_revealed};
use crate::{apps::directory::AppRecord, config::Opened, events, main_loop::note, tasks::Task};

/// The store is asked again after trouble at the latest after so long.
const RETRY: Duration = Duration::from_secs(10);
/// Without anything to do it looks after itself so often.
const IDLE: Duration = Duration::from_mins(1);
/// How often an app that got a signal is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The thread's life.
pub(super) fn run(supply: &Arc<Supply>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return note(&format!("no runtime for the values of apps: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        let mut tasks: BTreeMap<AppName, Task> = BTreeMap::new();
        loop {
            let names: Vec<AppName> = supply.apps().keys().cloned().collect();
            for name in tasks.keys().filter(|name| !names.contains(name)) {
                if let Err(why) = supply.cache.forget(name) {
                    note(&why);
                }
            }
            tasks.retain(|name, _| names.contains(name));
            for name in names {
                let task = || Task::spawn("values", follow(Arc::clone(supply), name.clone()));
                tasks.entry(name.clone()).or_insert_with(task);
            }
            supply.poke.notified().await;
        }
    }));
}

/// What happens to a watch.
type Heard = Result<Told, String>;

/// What came of a round.
enum Round {
    /// What was read is in force, or will not be tried.
    Done(u64),
    /// The store did not answer, or what was decided could not be made durable: to be tried again.
    Again,
}

struct Follower {
    supply: Arc<Supply>,
    name: AppName,
    pace: Pace,
    places: Vec<Place>,
    watch: Option<BoxStream<'static, Heard>>,
    /// The store that is watched.
    watched: Option<Arc<Opened>>,
    /// When files that could not be written are tried again, without anything having changed.
    files_again: Option<Instant>,
}

fn wait_of(on_change: OnChange) -> Wait {
    Wait {
        min: on_change.wait.into(),
        max: on_change.max.into(),
    }
}

async fn follow(supply: Arc<Supply>, name: AppName) {
    let mut follower = Follower {
        supply,
        name,
        pace: Pace::new(Wait::default()),
        places: Vec::new(),
        watch: None,
        watched: None,
        files_again: None,
    };
    let mut last: Option<Arc<AppRecord>> = None;
    follower.revive().await;
    loop {
        let known = follower.with(|app| (Arc::clone(&app.record), Arc::clone(&app.poke)));
        let Some((record, poke)) = known else {
            return;
        };
        follower.look_at_record(last.as_deref(), &record).await;
        last = Some(record);
        follower.write_files().await;
        // Before anything else is put in force.
        follower.look_at_proof().await;
        let now = Instant::now();
        if follower.pace.begin(now) {
            match follower.round().await {
                Round::Done(revision) => follower.pace.done(Instant::now(), revision),
                Round::Again => follower.pace.failed(Instant::now()),
            }
            continue;
        }
        let proof = follower.with(|app| app.proof.as_ref().map(|proof| proof.until));
        let due = [
            follower.pace.due(),
            follower.files_again,
            proof.flatten().map(|until| until.min(now + LOOK)),
        ];
        let due = due.into_iter().flatten().min();
        let sleep = tokio::time::sleep_until(due.unwrap_or(now + IDLE).into());
        tokio::select! {
            () = poke.notified() => {}
            // Cancel-safe: an item is taken only when it is returned.
            heard = next(&mut follower.watch) => {
                follower.heard(heard);
                follower.look_at_store().await;
            }
            () = sleep => {}
        }
    }
}

async fn next(watch: &mut Option<BoxStream<'static, Heard>>) -> Heard {
    match watch {
        Some(watch) => watch
            .next()
            .await
            .unwrap_or_else(|| Err("the watch has ended".to_owned())),
        None => std::future::pending().await,
    }
}

impl Follower {
    fn with<T>(&self, change: impl FnOnce(&mut App) -> T) -> Option<T> {
        self.supply.with(&self.name, change)
    }

    /// Reads what is kept on the disk, before anything is decided.
    async fn revive(&self) {
        let (supply, name) = (Arc::clone(&self.supply), self.name.clone());
        let revived = tokio::task::spawn_blocking(move || supply.revive(&name)).await;
        if let Err(error) = revived {
            note(&format!("values of `{}`: {error}", self.name));
        }
    }

    /// What of a record concerns us.
    async fn look_at_record(&mut self, last: Option<&AppRecord>, record: &AppRecord) {
        let Some(config) = &record.spec.config else {
            self.watch = None;
            self.places.clear();
            return;
        };
        if last == Some(record) {
            return;
        }
        self.pace.change_wait(wait_of(record.spec.on_change));
        self.files_again = None;
        let was_returned = record.generation % 2 == 1
            && last.is_none_or(|last| last.generation != record.generation)
            && record.previous.as_ref().is_some_and(|bad| {
                let edition =
                    |granted: &Option<super::Granted>| granted.as_ref().and_then(|granted| granted.edition);
                bad.spec == record.spec && edition(&bad.supply) > edition(&record.supply)
            });
        if was_returned {
            let bad = record
                .previous
                .as_ref()
                .and_then(|bad| bad.supply.as_ref()?.edition);
            self.refuse_edition(bad, "the app did no good with them").await;
        }
        let changed = last.is_none_or(|last| {
            last.spec.config != record.spec.config
                || last.spec.files != record.spec.files
                || (last.spec != record.spec && !was_returned)
                || last.supply.as_ref().map(|granted| granted.secrets)
                    != record.supply.as_ref().map(|granted| granted.secrets)
        });
        // What it should run by was lost, and has to be read anew whatever it is.
        let is_lost = self.with(|app| {
            let is_lost = app.in_force().is_none();
            if is_lost {
                app.refused = None;
            }
            is_lost
        });
        if is_lost == Some(true) && !changed {
            self.pace.noticed(Instant::now(), 0);
        }
        if changed {
            if last.is_some() && !was_returned {
                // Another program may do well with them.
                self.with(|app| {
                    app.refused = None;
                    app.waiting = None;
                });
            }
            if self.places != config.places {
                self.places.clone_from(&config.places);
                self.watch = None;
            }
            // The first look is at once.
            self.pace = Pace::new(Wait {
                min: Duration::ZERO,
                max: Duration::ZERO,
            })
            .retrying_within(RETRY);
            self.pace.noticed(Instant::now(), 0);
        }
    }

    /// From now on an edition is not tried again.
    async fn refuse_edition(&self, edition: Option<u64>, why: &str) {
        let Some(edition) = edition else { return };
        let told = self.with(|app| {
            let is_news = app.refused != Some(edition);
            app.refused = Some(edition);
            let revision = app.editions.get(&edition).map(|bad| bad.revision);
            app.waiting = revision.map(|revision| (revision, why.to_owned()));
            (is_news, revision, app.in_force().map(|good| good.revision))
        });
        let Some((true, Some(revision), good)) = told else {
            return;
        };
        self.tell_refused(revision, why, good);
        // If the disk refuses, it may be tried once more by the next daemon.
        if let Err(why) = self.keep(None, None).await {
            note(&why);
        }
    }

    fn tell_refused(&self, revision: u64, why: &str, good: Option<u64>) {
        let result = match good {
            Some(good) => format!("values of revision {good} stay in force"),
            None => "it waits for others".to_owned(),
        };
        let details = BTreeMap::from([("revision".to_owned(), revision.into())]);
        self.supply
            .tell(&self.name, "values_refused", why.to_owned(), &result, details);
    }

    fn heard(&mut self, heard: Heard) {
        let now = Instant::now();
        match heard {
            Ok(Told::Changes { revision, .. }) => self.pace.noticed(now, revision),
            Ok(Told::Progress { .. } | Told::Lagging { .. }) => {}
            Ok(Told::Compacted { .. }) => {
                self.watch = None;
                self.pace.noticed(now, 0);
            }
            Err(why) => {
                self.watch = None;
                self.stale(&why);
                self.pace.failed(now);
            }
        }
    }

    /// The files of the edition in force, if they do not stand as it has them.
    async fn write_files(&mut self) {
        if self.files_again.is_some_and(|again| again > Instant::now()) {
            return;
        }
        let todo = self.with(|app| {
            let edition = Arc::clone(app.in_force()?);
            let granted = app.record.supply.as_ref()?;
            let is_hidden = edition.secret().is_some() && !granted.secrets;
            (!is_hidden && !app.files_stand(edition.id)).then(|| (edition, app.record.spec.clone()))
        });
        let Some((edition, spec)) = todo.flatten() else {
            return;
        };
        match self.put_files(&edition, &spec).await {
            Ok(()) => {
                self.files_again = None;
                self.with(|app| app.trouble = None);
            }
            Err(files::Failure { why, .. }) => {
                self.files_again = Some(Instant::now() + RETRY);
                let is_news = self.with(|app| app.trouble.replace(why.clone()).as_ref() != Some(&why));
                if is_news == Some(true) {
                    self.tell_refused(edition.revision, &why, None);
                }
            }
        }
        self.supply.wake_actors();
    }

    /// Renders, checks and writes the files of an app.
    async fn put_files(&self, edition: &Arc<Edition>, spec: &AppSpec) -> Result<(), files::Failure> {
        if spec.files.is_empty() {
            return Ok(());
        }
        let (list, of) = (spec.files.clone(), Arc::clone(edition));
        let wrote = tokio::task::spawn_blocking(move || {
            let values = of.values();
            let values = values.ok_or_else(|| files::Failure::of_values("there are no values"))?;
            files::write(&list, &values, of.secret().is_some())
        })
        .await;
        let wrote = wrote.map_err(files::Failure::of_machine).flatten();
        self.with(|app| app.written = wrote.is_ok().then(|| (edition.id, spec.files.clone())));
        wrote
    }

    /// Reads what the places hold, and has it put in force if it is something new.
    async fn round(&mut self) -> Round {
        let snapshot = match self.read().await {
            Ok(snapshot) => snapshot,
            Err(Trouble::Store(why)) => {
                self.watch = None;
                self.stale(&why);
                return Round::Again;
            }
            Err(Trouble::Values(revision, why) | Trouble::Files(revision, why)) => {
                self.fresh();
                self.refuse(revision, &why);
                return Round::Done(u64::MAX);
            }
        };
        self.fresh();
        // From here on changes wait for more of them.
        let wait = self.with(|app| wait_of(app.record.spec.on_change));
        self.pace.change_wait(wait.unwrap_or_default());
        let revision = snapshot.revision;
        match self.put_in_force(&snapshot).await {
            Ok(()) => Round::Done(revision),
            Err(Trouble::Values(revision, why)) => {
                self.refuse(revision, &why);
                Round::Done(revision)
            }
            Err(Trouble::Files(revision, why)) => {
                self.refuse(revision, &why);
                Round::Again
            }
            Err(Trouble::Store(why)) => {
                // Whatever stands in the files, it is not known to be in force.
                self.with(|app| app.written = None);
                note(&format!("values of `{}` are not in force yet: {why}", self.name));
                Round::Again
            }
        }
    }

    async fn put_in_force(&mut self, snapshot: &Snapshot) -> Result<(), Trouble> {
        let wrong = |why: String| Trouble::Values(snapshot.revision, why);
        let Some((record, current, refused, id)) = self.with(|app| {
            let granted = app.record.supply.as_ref();
            let known = [
                granted.and_then(|granted| granted.edition),
                app.editions.keys().next_back().copied(),
            ];
            (
                Arc::clone(&app.record),
                app.in_force().cloned(),
                app.refused.and_then(|id| app.editions.get(&id).cloned()),
                known.into_iter().flatten().max().unwrap_or_default() + 1,
            )
        }) else {
            return Ok(());
        };
        let (Some(config), Some(granted)) = (&record.spec.config, &record.supply) else {
            return Ok(());
        };
        let mut new = Edition::new(id, events::now(), snapshot, config).map_err(wrong)?;
        let is_hidden = new.secret().filter(|_| !granted.secrets);
        if let Some(path) = is_hidden {
            return Err(wrong(not_revealed(path, granted)));
        }
        if current.as_ref().is_some_and(|current| current.same(&new)) {
            self.with(|app| app.waiting = None);
            return Ok(());
        }
        if refused.is_some_and(|refused| refused.same(&new)) {
            return Ok(());
        }
        // One that was kept and not put in force yet, by a daemon that was killed.
        let kept = self.with(|app| {
            let mut kept = app.editions.values();
            kept.find(|kept| kept.same(&new)).map(|kept| kept.id)
        });
        if let Some(id) = kept.flatten() {
            new.id = id;
        }
        let new = Arc::new(new);
        let proof = self.proof_of(new.id, current.as_deref(), &record.spec);
        // What cannot be kept is not begun: no file is written that would have to be written back.
        let kept = self.keep(Some(&new), proof.as_ref()).await;
        kept.map_err(Trouble::Store)?;
        let wrote = self.put_files(&new, &record.spec).await;
        wrote.map_err(|failure| {
            if failure.again {
                Trouble::Files(snapshot.revision, failure.why)
            } else {
                wrong(failure.why)
            }
        })?;
        self.with(|app| {
            app.ordered = Some(new.id);
            app.editions.insert(new.id, Arc::clone(&new));
            app.trouble = None;
            app.waiting = None;
        });
        self.order(&record, &new, new.changed(current.as_deref()), None)
            .await?;
        // A check may have taken its time.
        let until = Instant::now() + proof::proof_time(&record.spec);
        self.with(|app| app.proof = proof.map(|proof| Proof { until, ..proof }));
        Ok(())
    }

    /// Has the director put an edition in force.
    async fn order(
        &self,
        record: &AppRecord,
        edition: &Edition,
        changed: Vec<String>,
        back: Option<String>,
    ) -> Result<(), Trouble> {
        let (reply, answer) = oneshot::channel();
        let supplied = Supplied {
            app: self.name.clone(),
            edition: edition.id,
            from: (
                record.generation,
                record.supply.as_ref().and_then(|granted| granted.edition),
            ),
            revision: edition.revision,
            changed,
            lost: self.with(|app| app.in_force().is_none()).unwrap_or(true),
            back,
            reply,
        };
        let gone = || Trouble::Store("the daemon is ending".to_owned());
        self.supply
            .sources
            .orders
            .send(supplied)
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(Trouble::Store)
    }

    /// Keeps on the disk what the record names, what was refused, and an edition that is to follow, with its trial.
    async fn keep(&self, new: Option<&Arc<Edition>>, proof: Option<&Proof>) -> Result<(), String> {
        let kept = self.with(|app| {
            let record = &app.record;
            let before = record.previous.as_ref().and_then(|before| before.supply.as_ref());
            let needed: Vec<u64> = [record.supply.as_ref(), before]
                .into_iter()
                .flatten()
                .filter_map(|granted| granted.edition)
                .chain(app.refused)
                // The actor may not have told of it yet.
                .chain(app.ordered)
                .chain(
                    [&app.proof.as_ref(), &proof]
                        .into_iter()
                        .flatten()
                        .map(|proof| proof.before),
                )
                .collect();
            app.editions.retain(|id, _| needed.contains(id));
            Kept {
                editions: app
                    .editions
                    .values()
                    .filter(|edition| new.is_none_or(|new| new.id != edition.id))
                    .chain(new)
                    .map(|edition| Edition::clone(edition))
                    .collect(),
                refused: app.refused,
                proof: proof.or(app.proof.as_ref()).map(KeptProof::of),
            }
        });
        let Some(kept) = kept else { return Ok(()) };
        let (supply, name) = (Arc::clone(&self.supply), self.name.clone());
        let written = tokio::task::spawn_blocking(move || {
            let identity = supply.sources.config.identity()?;
            supply.cache.write(&name, &kept, &identity)
        })
        .await;
        written.map_err(|error| error.to_string()).flatten()
    }

    /// Values that were read are not put in force.
    fn refuse(&self, revision: u64, why: &str) {
        let told = self.with(|app| {
            let good = app.in_force().map(|good| good.revision);
            let waiting = Some((revision, why.to_owned()));
            let is_news = app.waiting.as_ref().map(|(_, why)| why.as_str()) != Some(why);
            app.waiting = waiting;
            if good.is_none() {
                app.trouble = Some(why.to_owned());
            }
            (is_news, good)
        });
        if let Some((true, good)) = told {
            self.tell_refused(revision, why, good);
        }
        self.supply.wake_actors();
    }
}

/// What went wrong.
enum Trouble {
    /// The store, or what makes a decision durable: it is tried again.
    Store(String),
    /// The values themselves, read at a revision.
    Values(u64, String),
    /// Files could not be made of values that were read at a revision, for no fault of theirs: it is tried again.
    Files(u64, String),
}

impl Trouble {
    fn text(self) -> String {
        match self {
            Self::Store(why) | Self::Values(_, why) | Self::Files(_, why) => why,
        }
    }
}
