//! PM2's cluster mode: which apps have a primary ([`crate::node`]), and how a worker is replaced by another.
//!
//! Workers share the sockets that they ask for: the kernel gives a connection to whichever worker accepts first.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    time::Duration,
};

use upkeep_model::{
    listen::Balance,
    state::{Actual, Desired},
};
use upkeep_pm2::record;
use upkeep_sys::clock;

use super::{
    god::God,
    process::{Process, State, key},
};
use crate::node::{
    keep::Keeper,
    preload,
    primary::{Primary, Told},
};

/// How long idle connections of an old worker are left open: less than PM2's kill timeout.
const IDLE_GRACE_MS: u64 = 1000;
/// What listeners are called in the keeper's table, before the app's name.
pub(super) const LISTENER: &str = "pm2:listen:";
/// What notes on clusters are called, before the app's name.
pub(super) const NOTE: &str = "pm2cluster:";

/// The clusters of all apps.
#[derive(Default)]
pub(super) struct Cluster {
    /// By the name of the app.
    primaries: RefCell<HashMap<String, Primary>>,
    /// Old workers that are being replaced.
    retiring: RefCell<Vec<Rc<Process>>>,
}

impl Cluster {
    /// A process has ended: an old worker is then forgotten.
    pub(super) fn gone(&self, process: &Rc<Process>) {
        self.retiring.borrow_mut().retain(|old| !Rc::ptr_eq(old, process));
    }

    /// An old worker by id and generation.
    pub(super) fn retiring(&self, id: u64, generation: u64) -> Option<Rc<Process>> {
        self.retiring
            .borrow()
            .iter()
            .find(|old| old.id == id && old.state.borrow().generation == generation)
            .cloned()
    }

    /// Closes what no worker of an app is left to listen on.
    pub(super) fn release(&self, app: &str) {
        let primary = self.primaries.borrow_mut().remove(app);
        if let Some(primary) = primary {
            primary.release();
        }
    }

    /// All old workers.
    pub(super) fn all_retiring(&self) -> Vec<Rc<Process>> {
        self.retiring.borrow().clone()
    }

    /// Whether any worker is being replaced that belongs to an app.
    pub(super) fn is_retiring(&self, app: &str) -> bool {
        self.retiring
            .borrow()
            .iter()
            .any(|old| old.state.borrow().name() == app)
    }
}

/// How names of an app begin: an app's name may hold any character, so its length stands before it.
fn of_app(prefix: &str, app: &str) -> String {
    format!("{prefix}{}:{app}:", app.len())
}

/// The app of such a name.
fn app_of<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
    let (length, rest) = name.strip_prefix(prefix)?.split_once(':')?;
    rest.get(..length.parse().ok()?)
}

/// The primary of an app, made with its first worker.
pub(super) fn primary(god: &Rc<God>, app: &str) -> Primary {
    if let Some(primary) = god.cluster.primaries.borrow().get(app) {
        return primary.clone();
    }
    let of = Rc::downgrade(god);
    let primary = Primary::new(
        Rc::new(Keeper(Rc::clone(&god.context))),
        of_app(LISTENER, app),
        of_app(NOTE, app),
        Balance::Shared,
        move |copy, told| {
            let Some(god) = of.upgrade() else { return };
            match told {
                Told::Listening { .. } => {
                    if let Some(process) = god.of_key(copy) {
                        process.state.borrow_mut().listening = true;
                        god.touch();
                    }
                }
                // PM2 says nothing of these; the app itself was told of the last one.
                Told::Online | Told::Leaves | Told::Message(_) | Told::Refused { .. } => {}
            }
        },
    );
    god.cluster
        .primaries
        .borrow_mut()
        .insert(app.to_owned(), primary.clone());
    primary
}

/// Takes up the clusters of a daemon before. `living`: workers that run, by their keys.
pub(super) fn recover(
    god: &Rc<God>,
    notes: &BTreeMap<String, Vec<u8>>,
    listeners: Vec<String>,
    living: &BTreeSet<String>,
) {
    let apps: BTreeSet<&str> = (notes.keys().filter_map(|key| app_of(NOTE, key)))
        .chain(listeners.iter().filter_map(|name| app_of(LISTENER, name)))
        .collect();
    for app in apps {
        let prefix = of_app(LISTENER, app);
        let names = listeners.iter().filter(|name| name.starts_with(&prefix)).cloned();
        let note = notes.get(&of_app(NOTE, app));
        primary(god, app).recover(note.map(Vec::as_slice), names, living);
    }
}

/// Replaces a worker: the new one is started beside the old one and has to listen (or say `ready`) before the old one is
/// told to take no more connections, to end those it has, and then to stop. If the new one does not come up, the old
/// one stays.
pub(super) async fn replace(god: &Rc<God>, old: &Rc<Process>) -> Result<Rc<Process>, String> {
    let new = {
        let mut was = old.state.borrow_mut();
        if was.retired {
            return Err(format!("process {} is being reloaded already", old.id));
        }
        was.retired = true;
        let mut state = State::new(
            was.record.clone(),
            was.places.clone(),
            &god.variables,
            clock::monotonic_ms(),
        );
        state.generation = was.generation;
        state.piped.clone_from(&was.piped);
        state.counts = true;
        state.set("created_at", clock::unix_ms());
        state.set("unstable_restarts", 0);
        state.set("prev_restart_delay", 0);
        state.counters.created_ms = Some(clock::monotonic_ms());
        // They go on with the new one.
        was.watch = None;
        was.cron = None;
        Rc::new(Process {
            id: old.id,
            state: RefCell::new(state),
        })
    };
    god.cluster.retiring.borrow_mut().push(Rc::clone(old));
    god.table.borrow_mut().insert(new.id, Rc::clone(&new));
    let before = god.order_start(&new);
    god.started(&new, before).await;
    let timeout = record::millis(&new.state.borrow().record, "listen_timeout")
        .unwrap_or(god.variables.listen_timeout_ms);
    let listens = god.until(&new, |state| {
        state.listening || !matches!(state.machine.actual(), Actual::Running) || state.deleted
    });
    // An app without a server costs the whole time.
    let _ = tokio::time::timeout(Duration::from_millis(timeout), listens).await;
    let up = new.state.borrow().machine.actual() == Actual::Running;
    if !up {
        let wanted = {
            let state = new.state.borrow();
            !state.deleted && state.machine.desired() == Desired::Up && !god.ending.get()
        } || new.state.borrow().errored;
        let still = wanted && old.state.borrow().machine.actual() == Actual::Running;
        if still {
            god.stop(&new).await;
            old.state.borrow_mut().retired = false;
            god.cluster.gone(old);
            god.table.borrow_mut().insert(old.id, Rc::clone(old));
            super::watch::arm(god, old);
            super::worker::arm_cron(god, old);
            god.refresh(old);
            return Err(format!(
                "the new process of {} does not stay up; the old one was kept",
                old.id
            ));
        }
    }
    // What it has accepted it may finish: `disconnect` closes its servers, and the worker ends when its connections have.
    let (primary, generation) = {
        let state = old.state.borrow();
        (state.primary.clone(), state.generation)
    };
    if let Some(primary) = primary {
        // One that has hung up already ends by itself, or is stopped below.
        let _ = primary.retire(&key(old.id, generation), Some(&preload::begin(IDLE_GRACE_MS)));
    }
    let grace = old.state.borrow().policy.stop.grace.as_millis();
    let ended = god.until(old, State::is_down);
    if tokio::time::timeout(Duration::from_millis(grace), ended)
        .await
        .is_err()
    {
        god.stop(old).await;
    }
    god.cluster.gone(old);
    Ok(new)
}
