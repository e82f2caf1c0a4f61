//! The director: carries out commands, one at a time up to the point where they are durable and ordered.
//!
//! Each command goes through the same steps: *plan* (what would change; a `dry_run` ends here), *commit* (records and
//! event in one transaction; a refusal ends here and nothing has changed), *order* (mail to the actors), *wait* (until
//! all that was ordered has come to rest, or the client's patience is over). Plan and commit hold the director's lock.
//! Specifications are given to their actors under it too. Orders over a selection are not: they go wave by wave (stops
//! with dependents first, restarts with dependencies first) and each waits for the one before; an app whose record is
//! newer by then is left to who changed it. A shutdown holds the lock to its end: nothing may be started meanwhile.

use std::{collections::BTreeMap, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use tokio::sync::{Mutex, oneshot};
use upkeep_api::{
    body::{
        ActionOptions, ActionResult, Apply, Change, Event as LogEvent, Failure, FailureOutcome, Rollback,
        Scale, Selection, What,
    },
    error::Code,
};
use upkeep_model::{app::AppSpec, id::AppName, state::Actual, supply::ChangeAction};
use upkeep_store::{Store, Txn};
use upkeep_supervise::{event::Order, order, rollout::Verdict};

use super::{
    actor::{self, Actor, Context, Found, Mail},
    check,
    directory::{AppEntry, AppRecord, RECORD_VERSION, key},
    plan,
    replace::{Concluded, Replacement},
    schedule,
    selector::{self, Selected},
    view::{self, Usage},
};
use crate::{
    command::{Command, Grants, Outcome, Permit, Principal, Refusal, Verb},
    events::{self, Events},
    supply::{Granted, Supplied, Variables},
    tasks::Task,
};

/// How long a client waits for things to come to rest unless it says otherwise; the longest grace comes on top.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the next instance id is kept.
pub(super) const NEXT_ID: &str = "/meta/next_id";

/// The director.
pub(crate) struct Director {
    context: Rc<Context>,
    usage: Arc<Usage>,
    dump: PathBuf,
    lock: Mutex<State>,
}

struct State {
    /// The actors' tasks: dropped with their app.
    actors: BTreeMap<AppName, Task>,
    next_id: u32,
}

impl std::fmt::Debug for Director {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Director").finish_non_exhaustive()
    }
}

impl Director {
    pub(crate) fn new(
        context: Rc<Context>,
        store: &dyn Store,
        usage: Arc<Usage>,
        dump: PathBuf,
        actors: BTreeMap<AppName, Task>,
    ) -> Result<Self, Refusal> {
        let stored = store
            .get(NEXT_ID)?
            .and_then(|entry| String::from_utf8(entry.value).ok()?.parse().ok());
        let used = {
            let apps = context.directory.read();
            let ids = apps
                .values()
                .flat_map(|entry| entry.record.instances.iter().map(|instance| instance.id));
            ids.max().map_or(0, |id| id + 1)
        };
        let next_id = stored.unwrap_or(0).max(used);
        Ok(Self {
            context,
            usage,
            dump,
            lock: Mutex::new(State { actors, next_id }),
        })
    }

    /// Carries out a command.
    pub(crate) async fn execute(&self, command: Command, permit: &Permit) -> Outcome {
        match command {
            Command::Apply(apply, grants) => {
                let beside = plan::Beside {
                    grants,
                    ..plan::Beside::default()
                };
                self.apply_to(apply, &beside, permit, "apply", None).await
            }
            Command::Act {
                verb: Verb::Delete,
                selection,
            } => self.delete(selection, permit).await,
            Command::Act { verb, selection } => self.act(verb, selection, permit).await,
            Command::Scale { app, scale } => self.scale(&app, scale, permit).await,
            Command::Rollback { app, options } => self.rollback(&app, options, permit).await,
            Command::Save { options } => self.save(options, permit).await,
            Command::Restore { options } => self.restore(options, permit).await,
            Command::End {
                forget: true,
                options,
            } => {
                let selection = Selection {
                    selectors: vec!["all".to_owned()],
                    options,
                    ..Selection::default()
                };
                self.delete(selection, permit).await
            }
            Command::End {
                forget: false,
                options,
            } => self.stop_all(options, permit).await,
            Command::Upgrade(_) => Err(Refusal::new(
                Code::Internal,
                "an upgrade is carried out by the daemon's main loop",
            )),
        }
    }

    /// Has another number of instances.
    async fn scale(&self, app: &AppName, scale: Scale, permit: &Permit) -> Outcome {
        let (record, revision) = self.record(app)?;
        as_expected(app, revision, &scale.options)?;
        let mut spec = record.spec.clone();
        let text = scale.instances.trim();
        let count = match text.strip_prefix('+') {
            Some(more) => more
                .parse()
                .ok()
                .and_then(|more| spec.instances.checked_add(more)),
            None => match text.strip_prefix('-') {
                Some(less) => less
                    .parse()
                    .ok()
                    .and_then(|less| spec.instances.checked_sub(less)),
                None => text.parse().ok(),
            },
        };
        spec.instances = count.filter(|count| *count > 0).ok_or_else(|| {
            Refusal::new(
                Code::Invalid,
                format!("`{}` instances of `{app}` cannot be had", text.escape_debug()),
            )
            .hint(format!(
                "write a number from 1 on, or `+N` or `-N` of the {} there are; `stop` is for none",
                spec.instances
            ))
        })?;
        let apply = Apply {
            apps: vec![spec],
            options: scale.options,
            ..Apply::default()
        };
        let beside = plan::Beside::default();
        self.apply_to(apply, &beside, permit, "scale", Some((app, revision)))
            .await
    }

    /// Goes back to what an app was before its last change.
    async fn rollback(&self, app: &AppName, rollback: Rollback, permit: &Permit) -> Outcome {
        let (record, revision) = self.record(app)?;
        as_expected(app, revision, &rollback.options)?;
        let (before, granted) = record.before().ok_or_else(|| {
            Refusal::new(
                Code::Conflict,
                format!("`{app}` has not been changed: there is nothing to go back to"),
            )
        })?;
        let apply = Apply {
            apps: vec![AppSpec {
                instances: record.spec.instances,
                ..before.clone()
            }],
            rollout: rollback.rollout,
            options: rollback.options,
            ..Apply::default()
        };
        // It gets what it got then.
        let grants = granted.map(|granted| (app.clone(), granted.clone()));
        let beside = plan::Beside {
            grants: grants.into_iter().collect(),
            ..plan::Beside::default()
        };
        self.apply_to(apply, &beside, permit, "rollback", Some((app, revision)))
            .await
    }

    fn record(&self, app: &AppName) -> Result<(Arc<AppRecord>, u64), Refusal> {
        let entry = self.context.directory.get(app);
        entry
            .map(|entry| (entry.record, entry.revision))
            .ok_or_else(|| Refusal::new(Code::NotFound, format!("there is no app `{app}`")))
    }

    /// Makes it durable how a replacement ended, and tells of it.
    pub(crate) async fn conclude(&self, concluded: Concluded) {
        let _state = self.lock.lock().await;
        let app = &concluded.app;
        let (what, why) = match &concluded.verdict {
            Verdict::Replaced => return,
            Verdict::Refused { why } => ("refused", why),
            Verdict::Returned { why } => ("returned", why),
            Verdict::Broken { why } => ("broken", why),
        };
        let mut txn = Txn::default();
        let entry = self.context.directory.get(app);
        // Whoever changed it meanwhile wanted something else; whoever stopped it is obeyed.
        let record = concluded.record.and_then(|record| {
            let known = &entry.as_ref()?.record;
            (known.generation | 1 == record.generation).then(|| {
                let mut record = AppRecord::clone(&record);
                for (ours, theirs) in record.instances.iter_mut().zip(&known.instances) {
                    ours.desired = theirs.desired;
                }
                Arc::new(record)
            })
        });
        if let Some(record) = &record
            && let Ok(bytes) = serde_json::to_vec(record.as_ref())
        {
            txn.puts.push((key(app), bytes));
        }
        let event = LogEvent {
            id: 0,
            at: events::now(),
            who: "upkeep".to_owned(),
            what: what.to_owned(),
            target: app.to_string(),
            why: why.clone(),
            result: match what {
                "refused" => "nothing was touched",
                "returned" => "what was there before runs",
                _ => "what runs was left as it is",
            }
            .to_owned(),
            details: BTreeMap::new(),
        };
        match (self.commit(txn, event).await, record, entry) {
            (Ok((revision, _)), Some(record), Some(entry)) => {
                // An actor that is gone has no note any more.
                let _ = entry.mailbox.send(Mail::RolloutStored).await;
                self.context.directory.insert(
                    app.clone(),
                    AppEntry {
                        record,
                        revision,
                        ..entry
                    },
                );
            }
            // The disk refuses: the note with the keeper lives on, and the next daemon says it again.
            (Err(refusal), ..) => crate::main_loop::note(&format!(
                "how the replacement of `{app}` ended could not be stored: {}",
                refusal.message
            )),
            (Ok(_), _, entry) => {
                if let Some(entry) = entry {
                    let _ = entry.mailbox.send(Mail::RolloutStored).await;
                }
            }
        }
    }

    /// Puts an edition of an app's values in force: as a change of its specification, if copies are to be replaced for it.
    pub(crate) async fn supplied(&self, supplied: Supplied) {
        let done = self.supply(&supplied).await;
        // Who asked may have gone away with its app.
        let _ = supplied.reply.send(done);
    }

    async fn supply(&self, supplied: &Supplied) -> Result<(), String> {
        let _state = self.lock.lock().await;
        let app = &supplied.app;
        let Some(entry) = self.context.directory.get(app) else {
            return Err("the app is no more".to_owned());
        };
        let record = &entry.record;
        let edition = record.supply.as_ref().and_then(|granted| granted.edition);
        if (record.generation, edition) != supplied.from {
            return Err("the app was changed meanwhile".to_owned());
        }
        let action = record.spec.on_change.action;
        // The first values are waited for, and what runs by the clock is not replaced.
        let replaces = edition.is_some()
            && record.spec.schedule.is_none()
            && matches!(action, ChangeAction::Reload | ChangeAction::Restart);
        let unproven = entry.status.borrow().unproven;
        // Without values to go back to there is no way back: what is new and well stays.
        let same = supplied.lost;
        let next = if same && replaces {
            record.renewed().supplied(supplied.edition, false, unproven)
        } else {
            record.supplied(supplied.edition, replaces, unproven)
        };
        let next = Arc::new(next);
        let replacement = replaces.then(|| Replacement {
            indices: None,
            same,
            overrides: match action {
                ChangeAction::Restart => upkeep_api::body::RolloutOverrides {
                    surge: Some(0),
                    max_unavailable: Some(next.spec.instances),
                    ..upkeep_api::body::RolloutOverrides::default()
                },
                _ => upkeep_api::body::RolloutOverrides::default(),
            },
        });
        let signal = match action {
            ChangeAction::Signal(signal) if edition.is_some() => Some(signal),
            _ => None,
        };
        let bytes = serde_json::to_vec(next.as_ref()).map_err(|error| error.to_string())?;
        let txn = Txn {
            puts: vec![(key(app), bytes)],
            ..Txn::default()
        };
        let details = [
            ("revision", serde_json::Value::from(supplied.revision)),
            (LogEvent::CHANGED_VALUES, supplied.changed.clone().into()),
        ];
        let event = LogEvent {
            id: 0,
            at: events::now(),
            who: "upkeep".to_owned(),
            what: if supplied.back.is_some() {
                "values_returned"
            } else {
                "values_changed"
            }
            .to_owned(),
            target: app.to_string(),
            why: supplied.back.clone().unwrap_or_default(),
            result: format!("values of revision {}", supplied.revision),
            details: details.map(|(name, value)| (name.to_owned(), value)).into(),
        };
        let (revision, _) = self.commit(txn, event).await.map_err(|refusal| refusal.message)?;
        self.context.directory.insert(
            app.clone(),
            AppEntry {
                record: Arc::clone(&next),
                revision,
                ..entry.clone()
            },
        );
        let change = actor::Change::Supplied { replacement, signal };
        mail(&entry, |done| Mail::Update {
            record: next,
            change,
            done,
        })
        .await;
        Ok(())
    }

    /// Runs the checks of apps that a plan would touch while they are at work.
    async fn check(&self, changes: &[Change], specs: &[AppSpec], grants: &Grants) -> Result<(), Refusal> {
        for change in changes {
            if !matches!(change.what, What::Updated | What::Restarted | What::Reloaded) {
                continue;
            }
            let spec = specs.iter().find(|spec| spec.name == change.app);
            if let Some(spec) = spec {
                let variables = self.variables_of(spec, grants.get(&spec.name));
                check::run(spec, variables).await?;
            }
        }
        Ok(())
    }

    /// `from`: what is applied was made of this revision of the app; another one meanwhile is a conflict.
    async fn apply_to(
        &self,
        apply: Apply,
        beside: &plan::Beside,
        permit: &Permit,
        what: &str,
        from: Option<(&AppName, u64)>,
    ) -> Outcome {
        self.allow(&apply.apps, permit)?;
        if !apply.options.dry_run {
            // Without the lock: a check may take its time. What it finds is about the specification, which stays.
            let plan = plan::apply(&self.context.directory.read(), &apply, beside, 0)?;
            self.check(&plan.changes, &apply.apps, &beside.grants).await?;
        }
        let mut state = self.lock.lock().await;
        if let Some((app, revision)) = from
            && self.record(app)?.1 != revision
        {
            return Err(Refusal::new(
                Code::Conflict,
                format!("`{app}` was changed meanwhile; nothing of this was done"),
            )
            .hint("look at it, and try again"));
        }
        if from.is_none() && apply.options.if_revision.is_some() {
            for spec in &apply.apps {
                // What is not there has none.
                let revision = self.record(&spec.name).map_or(0, |(_, revision)| revision);
                as_expected(&spec.name, revision, &apply.options)?;
            }
        }
        let plan = plan::apply(&self.context.directory.read(), &apply, beside, state.next_id)?;
        // It was asked before, without the lock: a secret may have come since.
        for record in plan.records.values() {
            let refused = self.context.supply.refuse_grant(record);
            refused.map_err(|why| Refusal::new(Code::Forbidden, format!("refused: {why}")))?;
        }
        if apply.options.dry_run {
            return Ok(self.dry(plan.changes));
        }
        let names: Vec<AppName> = plan.changes.iter().map(|change| change.app.clone()).collect();
        let event = action_event(permit, what, &plan.changes, &apply.options);
        let (revision, event) = self.commit(plan.txn, event).await?;
        state.next_id = plan.next_id;
        for change in &plan.changes {
            let Some(record) = plan.records.get(&change.app) else {
                continue;
            };
            self.put(&mut state, change, record, revision, &apply).await;
        }
        drop(state);
        let settled = self.wait(&names, &apply.options).await;
        Ok(self.result(plan.changes, &names, Some(event), settled))
    }

    /// The variables that an app gets today, as far as they are known; `granted`: to whoever applies it, who may be given less.
    fn variables_of(&self, spec: &AppSpec, granted: Option<&Granted>) -> Variables {
        let Some(entry) = self.context.directory.get(&spec.name) else {
            return Variables::default();
        };
        let record = &entry.record;
        let known = self.context.supply.variables(record, record.generation);
        let known = known.unwrap_or_default();
        let is_same = record.spec.config == spec.config;
        if is_same && (!known.secret || granted.is_none_or(|granted| granted.secrets)) {
            return known;
        }
        Variables {
            secret: known.secret,
            ..Variables::default()
        }
    }

    /// Whoever changes an app must reach it as it is and as it becomes.
    fn allow(&self, apps: &[AppSpec], permit: &Permit) -> Result<(), Refusal> {
        let known = self.context.directory.read();
        for spec in apps {
            permit.require(&spec.name, &spec.namespace)?;
            if let Some(entry) = known.get(&spec.name) {
                permit.require(&spec.name, &entry.record.spec.namespace)?;
            }
        }
        Ok(())
    }

    /// Gives a committed record to its actor, or makes the actor.
    async fn put(
        &self,
        state: &mut State,
        change: &Change,
        record: &Arc<AppRecord>,
        revision: u64,
        apply: &Apply,
    ) {
        let name = &change.app;
        let known = self.context.directory.get(name);
        let Some(entry) = known else {
            let actor = Actor::start(&self.context, Arc::clone(record), revision, Found::default());
            state.actors.insert(name.clone(), actor);
            return;
        };
        let change = match change.what {
            // What runs by the clock is not replaced: the next run is one of the new specification.
            What::Updated if record.spec.schedule.is_some() => actor::Change::Nothing,
            What::Updated if record.generation != entry.record.generation => {
                actor::Change::Replace(Replacement {
                    indices: None,
                    same: false,
                    overrides: apply.rollout.clone(),
                })
            }
            What::Restarted if apply.restart_unchanged => actor::Change::Restart,
            _ => actor::Change::Nothing,
        };
        self.context.directory.insert(
            name.clone(),
            AppEntry {
                record: Arc::clone(record),
                revision,
                ..entry.clone()
            },
        );
        mail(&entry, |done| Mail::Update {
            record: Arc::clone(record),
            change,
            done,
        })
        .await;
        // Also where nothing that runs has changed: its schedule may have.
        self.context
            .changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn act(&self, verb: Verb, selection: Selection, permit: &Permit) -> Outcome {
        let selected = self.select(&selection.selectors, permit)?;
        if matches!(verb, Verb::Restart | Verb::Reload) && !selection.options.dry_run {
            let (plan, _) = plan::act(&self.context.directory.read(), verb, &selected)?;
            let specs: Vec<AppSpec> = selected
                .keys()
                .filter_map(|name| Some(self.context.directory.get(name)?.record.spec.clone()))
                .collect();
            self.check(&plan.changes, &specs, &Grants::new()).await?;
        }
        let state = self.lock.lock().await;
        let mut selected = self.select(&selection.selectors, permit)?;
        if verb == Verb::Reload {
            // There is nothing to replace in what is not kept running.
            let apps = self.context.directory.read();
            let is_scheduled = |name: &AppName| {
                apps.get(name)
                    .is_some_and(|entry| entry.record.spec.schedule.is_some())
            };
            selected.retain(|name, _| !is_scheduled(name));
        }
        for name in selected.keys() {
            as_expected(name, self.record(name)?.1, &selection.options)?;
        }
        let (plan, waves) = plan::act(&self.context.directory.read(), verb, &selected)?;
        if selection.options.dry_run {
            return Ok(self.dry(plan.changes));
        }
        let names: Vec<AppName> = selected.keys().cloned().collect();
        let event = action_event(permit, verb.as_str(), &plan.changes, &selection.options);
        let (revision, event) = self.commit(plan.txn, event).await?;
        for (name, record) in plan.records {
            if let Some(entry) = self.context.directory.get(&name) {
                self.context.directory.insert(
                    name,
                    AppEntry {
                        record,
                        revision,
                        ..entry
                    },
                );
            }
        }
        // Orders are given in waves, and between two of them somebody may want something else of an app: the newer
        // record wins.
        let ours: BTreeMap<AppName, u64> = names
            .iter()
            .filter_map(|name| Some((name.clone(), self.context.directory.get(name)?.revision)))
            .collect();
        drop(state);
        let order = match verb {
            Verb::Start => Order::Start,
            Verb::Stop | Verb::Delete => Order::Stop,
            Verb::Restart | Verb::Reload => Order::Restart,
        };
        let mut settled = true;
        for wave in waves {
            for name in &wave {
                let instances = selected.get(name).cloned().flatten();
                let Some(entry) = self.context.directory.get(name) else {
                    continue;
                };
                if ours.get(name) != Some(&entry.revision) {
                    continue;
                }
                if verb == Verb::Reload {
                    let replacement = Replacement {
                        indices: instances,
                        same: true,
                        overrides: selection.rollout.clone(),
                    };
                    mail(&entry, |done| Mail::Update {
                        record: Arc::clone(&entry.record),
                        change: actor::Change::Replace(replacement),
                        done,
                    })
                    .await;
                } else {
                    mail(&entry, |done| Mail::Order {
                        order,
                        instances,
                        done,
                    })
                    .await;
                }
            }
            settled &= self.wait(&wave, &selection.options).await;
        }
        Ok(self.result(plan.changes, &names, Some(event), settled))
    }

    async fn delete(&self, selection: Selection, permit: &Permit) -> Outcome {
        let selected = {
            let selected = self.select(&selection.selectors, permit)?;
            if let Some((name, _)) = selected.iter().find(|(_, instances)| instances.is_some()) {
                return Err(Refusal::new(
                    Code::Invalid,
                    format!("one instance of `{name}` cannot be deleted"),
                )
                .hint(format!(
                    "delete the app (`{name}`), stop the instance, or apply fewer `instances`"
                )));
            }
            selected
        };
        let changes: Vec<Change> = selected
            .keys()
            .map(|name| Change {
                app: name.clone(),
                instances: Vec::new(),
                what: What::Deleted,
                differences: Vec::new(),
            })
            .collect();
        for name in selected.keys() {
            as_expected(name, self.record(name)?.1, &selection.options)?;
        }
        if selection.options.dry_run {
            return Ok(self.dry(changes));
        }
        // Stopped in order first; wanted down is durable, so that a kill in between leaves nothing running.
        let names: Vec<AppName> = selected.keys().cloned().collect();
        let selectors = names.iter().map(ToString::to_string).collect();
        if !names.is_empty() {
            let options = selection.options.clone();
            let stopped = self
                .act(
                    Verb::Stop,
                    Selection {
                        selectors,
                        options,
                        ..Selection::default()
                    },
                    permit,
                )
                .await?;
            if !stopped.settled && selection.options.wait_ms != Some(0) {
                return Err(Refusal::new(
                    Code::Timeout,
                    "not all of it has ended in time; nothing was deleted",
                )
                .hint("`upkeep why` tells what does not end; delete it again then"));
            }
        }
        let mut state = self.lock.lock().await;
        let started = names.iter().find(|name| {
            self.context.directory.get(name).is_some_and(|entry| {
                entry
                    .status
                    .borrow()
                    .instances
                    .iter()
                    .any(|instance| instance.view.pid.is_some() || !instance.settled)
            })
        });
        if let Some(name) = started {
            return Err(Refusal::new(
                Code::Conflict,
                format!("`{name}` has not ended, or was started again meanwhile; nothing was deleted"),
            ));
        }
        let txn = Txn {
            deletes: names
                .iter()
                .map(key)
                .chain(names.iter().map(schedule::key))
                .collect(),
            ..Txn::default()
        };
        let event = action_event(permit, "delete", &changes, &selection.options);
        let (_, event) = self.commit(txn, event).await?;
        for name in &names {
            if let Some(entry) = self.context.directory.get(name) {
                mail(&entry, |done| Mail::Retire { done }).await;
            }
            self.context.directory.remove(name);
            state.actors.remove(name);
        }
        self.context
            .changes
            .send_modify(|count| *count = count.wrapping_add(1));
        Ok(self.result(changes, &[], Some(event), true))
    }

    /// Stops every app, in order, without wanting them down: the next daemon starts them again.
    async fn stop_all(&self, options: ActionOptions, permit: &Permit) -> Outcome {
        permit.require_everywhere()?;
        // Held to the end: nothing may be started meanwhile.
        let _state = self.lock.lock().await;
        let (dependencies, changes) = {
            let apps = self.context.directory.read();
            let dependencies: BTreeMap<AppName, Vec<AppName>> = apps
                .iter()
                .map(|(name, entry)| {
                    (
                        name.clone(),
                        entry.record.spec.depends_on.keys().cloned().collect(),
                    )
                })
                .collect();
            let changes: Vec<Change> = apps
                .keys()
                .map(|name| Change {
                    app: name.clone(),
                    instances: Vec::new(),
                    what: What::Stopped,
                    differences: Vec::new(),
                })
                .collect();
            (dependencies, changes)
        };
        if options.dry_run {
            return Ok(self.dry(changes));
        }
        let event = action_event(permit, "shutdown", &changes, &options);
        // A full disk must not keep anybody from shutting down.
        let event = self
            .commit(Txn::default(), event)
            .await
            .map(|(_, event)| event)
            .ok();
        let mut settled = true;
        for wave in order::stop_waves(&dependencies) {
            for name in &wave {
                if let Some(entry) = self.context.directory.get(name) {
                    mail(&entry, |done| Mail::Order {
                        order: Order::Stop,
                        instances: None,
                        done,
                    })
                    .await;
                }
            }
            // What does not die is the keeper's to wait for; the rest must not be held up by it.
            settled &= self.wait(&wave, &options).await;
        }
        Ok(self.result(changes, &[], event, settled))
    }

    async fn save(&self, options: ActionOptions, permit: &Permit) -> Outcome {
        permit.require_everywhere()?;
        let records: Vec<AppRecord> = self
            .context
            .directory
            .read()
            .values()
            .map(|entry| AppRecord::clone(&entry.record))
            .collect();
        let changes: Vec<Change> = records
            .iter()
            .map(|record| Change {
                app: record.spec.name.clone(),
                instances: Vec::new(),
                what: What::Unchanged,
                differences: Vec::new(),
            })
            .collect();
        if options.dry_run {
            return Ok(self.dry(changes));
        }
        let fail = |error: std::io::Error| {
            Refusal::new(
                Code::Unavailable,
                format!("failed to write `{}`: {error}", self.dump.display()),
            )
            .because(&error)
        };
        let bytes = serde_json::to_vec_pretty(&records).map_err(|error| fail(error.into()))?;
        write_private(&self.dump, &bytes).map_err(fail)?;
        let (_, event) = self
            .commit(Txn::default(), action_event(permit, "save", &changes, &options))
            .await?;
        Ok(self.result(changes, &[], Some(event), true))
    }

    async fn restore(&self, options: ActionOptions, permit: &Permit) -> Outcome {
        permit.require_everywhere()?;
        let fail = |code, why: String| {
            Refusal::new(code, format!("failed to read `{}`: {why}", self.dump.display()))
                .hint("`upkeep save` writes it")
        };
        let bytes = std::fs::read(&self.dump).map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            fail(
                if missing {
                    Code::NotFound
                } else {
                    Code::Unavailable
                },
                error.to_string(),
            )
            .because(&error)
        })?;
        let records: Vec<AppRecord> =
            serde_json::from_slice(&bytes).map_err(|error| fail(Code::Invalid, error.to_string()))?;
        if let Some(record) = records.iter().find(|record| record.version != RECORD_VERSION) {
            return Err(fail(
                Code::Invalid,
                format!("version {} is not read by this program", record.version),
            ));
        }
        let missing: Vec<AppRecord> = {
            let apps = self.context.directory.read();
            records
                .into_iter()
                .filter(|record| !apps.contains_key(&record.spec.name))
                .collect()
        };
        let wanted = |record: &AppRecord| record.instances.iter().map(|instance| instance.desired).collect();
        let saved = missing
            .iter()
            .map(|record| (record.spec.name.clone(), wanted(record)))
            .collect();
        // What was saved was applied by somebody who might.
        let grants = missing
            .iter()
            .filter_map(|record| Some((record.spec.name.clone(), record.supply.clone()?)))
            .collect();
        let apps = missing.into_iter().map(|record| record.spec).collect();
        self.apply_to(
            Apply {
                apps,
                options,
                ..Apply::default()
            },
            &plan::Beside { saved, grants },
            permit,
            "resurrect",
            None,
        )
        .await
    }

    fn select(&self, selectors: &[String], permit: &Permit) -> Result<Selected, Refusal> {
        if selectors.is_empty() {
            return Err(Refusal::new(Code::BadRequest, "nothing is selected").hint("name an app, or `all`"));
        }
        selector::resolve(selectors, &permit.visible(&self.context.directory.read())).map_err(|error| {
            let refusal = Refusal::new(Code::NotFound, error.to_string());
            match error.nearest {
                Some(nearest) => refusal.hint(format!("did you mean `{nearest}`?")),
                None => refusal.hint("`upkeep ls` shows what there is"),
            }
        })
    }

    async fn commit(&self, txn: Txn, event: LogEvent) -> Result<(u64, u64), Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.context.events.commit(txn, event, move |result| {
            // The director waits below.
            let _ = sender.send(result);
        });
        match receiver.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(upkeep_store::StoreError::Closed.into()),
        }
    }

    /// Waits until every instance of these apps has come to rest.
    async fn wait(&self, names: &[AppName], options: &ActionOptions) -> bool {
        let patience = options
            .wait_ms
            .map_or_else(|| self.patience(names), Duration::from_millis);
        let all_at_rest = async {
            for name in names {
                let Some(mut entry) = self.context.directory.get(name) else {
                    continue;
                };
                // An error means that the app is gone, which is a rest too.
                let _ = entry
                    .status
                    .wait_for(|status| status.instances.iter().all(at_rest))
                    .await;
            }
        };
        tokio::time::timeout(patience, all_at_rest).await.is_ok()
    }

    /// Long enough for the longest grace among them.
    fn patience(&self, names: &[AppName]) -> Duration {
        let apps = self.context.directory.read();
        let longest = names
            .iter()
            .filter_map(|name| apps.get(name))
            .map(|entry| patience_for(&entry.record.spec));
        PATIENCE + longest.max().unwrap_or_default()
    }

    fn dry(&self, changes: Vec<Change>) -> ActionResult {
        let names: Vec<AppName> = changes.iter().map(|change| change.app.clone()).collect();
        self.result(changes, &names, None, true)
    }

    fn result(
        &self,
        changes: Vec<Change>,
        names: &[AppName],
        event: Option<u64>,
        settled: bool,
    ) -> ActionResult {
        let directory = self.context.directory.read();
        let replaced = changes
            .iter()
            .filter(|change| event.is_some() && matches!(change.what, What::Updated | What::Reloaded));
        let failures = replaced
            .filter_map(|change| {
                let verdict = directory.get(&change.app)?.status.borrow().last_rollout.clone()?;
                let (outcome, why) = match verdict {
                    Verdict::Replaced => return None,
                    Verdict::Refused { why } => (FailureOutcome::Refused, why),
                    Verdict::Returned { why } => (FailureOutcome::Returned, why),
                    Verdict::Broken { why } => (FailureOutcome::Broken, why),
                };
                Some(Failure {
                    app: change.app.clone(),
                    outcome,
                    why,
                })
            })
            .collect();
        let apps = names
            .iter()
            .filter_map(|name| {
                directory
                    .get(name)
                    .map(|entry| view::app(name, entry, &self.usage))
            })
            .collect();
        ActionResult {
            changes,
            apps,
            event,
            settled,
            failures,
            warnings: Vec::new(),
        }
    }
}

/// How long it may take until an app has come to rest, beyond what every action may take: its longest grace, and a
/// replacement that goes the usual way.
fn patience_for(spec: &AppSpec) -> Duration {
    let rollout = spec.rollout;
    let each = rollout.settle.as_millis() + rollout.pause.as_millis() + spec.restart.min_uptime.as_millis();
    let walk = Duration::from_millis(each.saturating_mul(u64::from(spec.instances)));
    let waits = Duration::from(rollout.timeout) + Duration::from(rollout.trial);
    Duration::from(spec.stop.grace) + walk + waits
}

/// Nothing is under way that will end by itself soon. A pause between two starts of a crashing app counts as rest:
/// nobody wants to wait for what may never come.
fn at_rest(instance: &super::directory::InstanceStatus) -> bool {
    instance.settled || instance.view.actual == Actual::BackingOff
}

async fn mail(entry: &AppEntry, letter: impl FnOnce(oneshot::Sender<()>) -> Mail) {
    let (done, receiver) = oneshot::channel();
    // An actor that is gone has nothing to do; what it should do is durable.
    if entry.mailbox.send(letter(done)).await.is_ok() {
        let _ = receiver.await;
    }
}

/// Refuses what was meant for an app as it no longer is.
fn as_expected(app: &AppName, revision: u64, options: &ActionOptions) -> Result<(), Refusal> {
    match options.if_revision {
        Some(expected) if expected != revision => Err(Refusal::new(
            Code::Conflict,
            format!("refused: `{app}` is at revision {revision}, not at {expected}"),
        )
        .hint("look at it again, and decide anew")),
        _ => Ok(()),
    }
}

fn action_event(permit: &Permit, what: &str, changes: &[Change], options: &ActionOptions) -> LogEvent {
    let targets: Vec<String> = changes
        .iter()
        .map(|change| match change.instances.as_slice() {
            [] => change.app.to_string(),
            instances => instances
                .iter()
                .map(|index| format!("{}:{index}", change.app))
                .collect::<Vec<_>>()
                .join(" "),
        })
        .collect();
    let result: Vec<String> = changes
        .iter()
        .map(|change| {
            format!(
                "{}: {}",
                change.app,
                serde_json::to_value(change.what)
                    .ok()
                    .and_then(|value| value.as_str().map(str::to_owned))
                    .unwrap_or_default()
            )
        })
        .collect();
    LogEvent {
        id: 0,
        at: events::now(),
        who: permit.who().name.clone(),
        what: what.to_owned(),
        target: targets.join(" "),
        why: options.reason.clone().unwrap_or_default(),
        result: result.join(", "),
        details: differences(changes),
    }
}

/// What an update changed, by app: values of variables are not among it.
fn differences(changes: &[Change]) -> BTreeMap<String, serde_json::Value> {
    let updated = changes.iter().filter(|change| !change.differences.is_empty());
    let by_app: serde_json::Map<String, serde_json::Value> = updated
        .map(|change| {
            let keys = serde_json::to_value(&change.differences).unwrap_or_default();
            (change.app.to_string(), keys)
        })
        .collect();
    if by_app.is_empty() {
        return BTreeMap::new();
    }
    BTreeMap::from([("differences".to_owned(), by_app.into())])
}

/// Whole or not at all, and for our eyes only.
fn write_private(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

/// What events are made of, for others in the daemon.
pub(crate) fn machine_event(principal: &Principal, what: &str, why: Option<&str>, result: &str) -> LogEvent {
    LogEvent {
        id: 0,
        at: events::now(),
        who: principal.name.clone(),
        what: what.to_owned(),
        target: String::new(),
        why: why.unwrap_or_default().to_owned(),
        result: result.to_owned(),
        details: BTreeMap::new(),
    }
}

/// Commits an event of the machine; nobody waits for it.
pub(crate) fn log_machine_event(events: &Events, event: LogEvent) {
    // What a full disk refuses is lost here; it is only a record of what was done.
    events.commit(Txn::default(), event, |_| {});
}
