//! What a new daemon does first: compare what is wanted (store) with what is (keeper), app by app.
//!
//! The same path after a first start, a crash, a kill, an upgrade and a reboot. Facts come from three places: records
//! in the store say which apps are wanted, notes with the keeper say where each instance's machine stood, the keeper's
//! table and unacknowledged exits say what is true. Exits that are in the event log already are acknowledged and not
//! told twice.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use upkeep_api::body::Event as LogEvent;
use upkeep_keeper::protocol::{ExitRecord, Listing, Request, Scope};
use upkeep_model::id::AppName;
use upkeep_store::{Store, StoreError};
use upkeep_supervise::instance::{Alive, Ended};
use upkeep_sys::clock;

use crate::{
    apps::{
        actor::{Actor, Context, Found, note_key},
        copies::Known,
        directory::{AppRecord, PREFIX, RECORD_VERSION},
        door, exits, health,
        launch::{self, CopyId, parse_key},
        replace, sockets,
    },
    node::workers,
    tasks::Task,
};

/// How many of the newest events are searched for exits that are known already.
const KNOWN_EXITS: usize = 5000;
/// How many apps there may be.
const APPS_MAX: usize = 100_000;

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record.
    #[error("failed to read the record `{key}`: {why}")]
    Record {
        /// Its key.
        key: String,
        /// What is wrong.
        why: String,
    },
}

fn records(store: &dyn Store) -> Result<Vec<(AppRecord, u64)>, RecoveryError> {
    let mut records = Vec::new();
    for entry in store.range(PREFIX, APPS_MAX)? {
        let fail = |why: String| RecoveryError::Record {
            key: entry.key.clone(),
            why,
        };
        let record: AppRecord =
            serde_json::from_slice(&entry.value).map_err(|error| fail(error.to_string()))?;
        if record.version != RECORD_VERSION {
            return Err(fail(format!(
                "its version is {}, this daemon reads {RECORD_VERSION}",
                record.version
            )));
        }
        records.push((record, entry.revision));
    }
    Ok(records)
}

/// Makes the actors of all apps that are wanted, and ends what nobody wants.
pub(crate) fn recover(
    context: &Rc<Context>,
    store: &Arc<dyn Store>,
    mut listing: Listing,
    exits: Vec<ExitRecord>,
) -> Result<BTreeMap<AppName, Task>, RecoveryError> {
    let records = records(store.as_ref())?;
    let logged = logged_exits(context, &exits)?;
    let mut notes: HashMap<String, Vec<u8>> = std::mem::take(&mut listing.notes).into_iter().collect();
    let mut known: BTreeMap<AppName, BTreeMap<CopyId, Known>> = BTreeMap::new();
    let mut needed = HashSet::new();
    let now = clock::monotonic_ms();
    for child in &listing.children {
        needed.insert(health::notify::descriptor_name(&child.key));
        if let Some((app, copy)) = parse_key(&child.key) {
            let alive = Alive {
                pid: child.pid,
                uptime_ms: now.saturating_sub(child.started_mono_ms),
                stray: child.stray,
            };
            known
                .entry(app)
                .or_default()
                .entry(copy)
                .or_default()
                .recovered
                .alive = Some(alive);
        }
    }
    for record in exits {
        let seen = logged.contains(&exits::id(context.epoch, record.seq));
        if seen {
            context.link.tell(&Request::AckExit { seq: record.seq });
        }
        let Some((app, copy)) = parse_key(&record.key) else {
            continue;
        };
        let known = known.entry(app).or_default().entry(copy).or_default();
        known.recovered.exits.push(Ended {
            pid: record.pid,
            exit: exits::exit_of(&record),
            uptime_ms: record.exited_mono_ms.saturating_sub(record.started_mono_ms),
            leftovers: record.leftovers,
        });
        if !seen {
            known.exits.push(record);
        }
    }
    let mut clusters = clusters(&listing, &mut notes);
    let mut actors = BTreeMap::new();
    for (record, revision) in records {
        let name = record.spec.name.clone();
        let mut copies = known.remove(&name).unwrap_or_default();
        let prefix = note_key(&format!("{name}/"));
        let of_app: Vec<String> = notes
            .keys()
            .filter(|key| key.starts_with(&prefix))
            .cloned()
            .collect();
        for key in of_app {
            let Some((app, copy)) = key.strip_prefix(&note_key("")).and_then(parse_key) else {
                continue;
            };
            if app == name {
                let known = copies.entry(copy).or_default();
                known.health = notes.remove(&health::note_key(&launch::key(&name, copy)));
                known.note = notes.remove(&key);
            }
        }
        let specs = [
            Some(&record.spec),
            record.previous.as_ref().map(|previous| &previous.spec),
        ];
        let count = u32::try_from(record.instances.len()).unwrap_or(u32::MAX);
        for spec in specs.into_iter().flatten() {
            for index in 0..count {
                let places = launch::log_places(spec, index, &context.logs);
                needed.extend(places.into_iter().map(|place| place.pipe));
            }
            let door = spec.door.iter().flat_map(|door| &door.listen);
            needed.extend(
                spec.listen
                    .iter()
                    .chain(door)
                    .map(|listen| sockets::kept(&name, &listen.on)),
            );
            if spec.door.is_some() {
                needed.extend(["ours", "theirs"].map(|end| format!("{}{name}:{end}", door::CONVERSATION)));
            }
        }
        let of_app = [sockets::LISTEN, sockets::TRIAL].map(|start| format!("{start}{name}:"));
        let held = listing.descriptors.iter();
        let found = Found {
            sockets: held
                .filter(|held| of_app.iter().any(|start| held.starts_with(start)))
                .cloned()
                .collect(),
            rollout: notes.remove(&replace::note_key(&name)),
            node: clusters.remove(name.as_str()).unwrap_or_default(),
            copies,
        };
        actors.insert(name, Actor::start(context, Arc::new(record), revision, found));
    }
    for (app, instances) in known {
        for (copy, known) in instances {
            unwanted(context, &app, copy, known);
        }
    }
    for cluster in clusters.into_values() {
        for name in cluster.names {
            context.link.order(|id| Request::CloseDescriptor { id, name });
        }
        for key in cluster.notes.into_keys() {
            context.link.tell(&Request::SetNote {
                key,
                bytes: Vec::new(),
            });
        }
    }
    let of_copies = |key: &String| key.starts_with(&note_key("")) || key.starts_with(health::NOTE);
    for key in notes.into_keys().filter(of_copies) {
        context.link.tell(&Request::SetNote {
            key,
            bytes: Vec::new(),
        });
    }
    let ours = |name: &String| {
        [
            "log:",
            sockets::LISTEN,
            sockets::TRIAL,
            door::CONVERSATION,
            health::notify::PREFIX,
        ]
        .iter()
        .any(|start| name.starts_with(start))
    };
    let left_over = |name: &String| ours(name) && !needed.contains(name);
    for name in listing.descriptors.into_iter().filter(left_over) {
        context.link.order(|id| Request::CloseDescriptor { id, name });
    }
    Ok(actors)
}

/// What the keeper has of clusters, by app.
fn clusters(listing: &Listing, notes: &mut HashMap<String, Vec<u8>>) -> HashMap<String, workers::Found> {
    let mut clusters: HashMap<String, workers::Found> = HashMap::new();
    for name in &listing.descriptors {
        if let Some(app) = workers::Found::app_of(name) {
            clusters
                .entry(app.to_owned())
                .or_default()
                .names
                .push(name.clone());
        }
    }
    for (key, bytes) in notes.extract_if(|key, _| workers::Found::app_of(key).is_some()) {
        if let Some(app) = workers::Found::app_of(&key) {
            clusters
                .entry(app.to_owned())
                .or_default()
                .notes
                .insert(key, bytes);
        }
    }
    clusters
}

/// A process or an exit that no record wants: a deletion or a scaling down was under way. What is left of its tree
/// has had its grace.
fn unwanted(context: &Rc<Context>, app: &AppName, copy: CopyId, known: Known) {
    let key = launch::key(app, copy);
    context.link.order(|id| Request::Signal {
        id,
        key,
        signal: 9,
        scope: Scope::Tree,
    });
    for record in known.exits {
        let verdict = "of an instance that is no longer wanted".to_owned();
        let event = exits::event(
            &format!("{app}:{}", copy.log_index()),
            &record,
            context.epoch,
            verdict,
            exits::Meaning::default(),
        );
        exits::store(&context.events, &context.outcomes, event, record.seq);
    }
}

/// Which of these exits are in the event log: by their ids.
fn logged_exits(context: &Rc<Context>, exits: &[ExitRecord]) -> Result<HashSet<String>, StoreError> {
    if exits.is_empty() {
        return Ok(HashSet::new());
    }
    let is_exit = |event: &LogEvent| event.what == "exited";
    let events = context.events.tail(KNOWN_EXITS, 0, &is_exit)?;
    Ok(events
        .into_iter()
        .filter_map(|event| {
            event
                .details
                .get("exit_id")
                .and_then(|id| id.as_str())
                .map(str::to_owned)
        })
        .collect())
}
