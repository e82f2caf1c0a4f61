//! What a new daemon finds: notes of its predecessor with the keeper, records in the store, living processes, exits.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::fd::OwnedFd,
    rc::Rc,
};

use upkeep_api::body::Stream;
use upkeep_keeper::protocol::{Event, ExitRecord, Listing, Request, Scope};
use upkeep_model::state::Desired;
use upkeep_store::{Store, StoreError};
use upkeep_supervise::{
    event::{Event as Happening, Order},
    instance::{Alive, Recovered},
};
use upkeep_sys::clock;

use super::{
    cluster,
    god::{God, PREFIX},
    launch,
    process::{KEPT_VERSION, Kept, Process, State, key, parse_key},
    watch, worker,
};
use crate::tasks::Task;

/// How many processes there may be.
const PROCESSES_MAX: usize = 100_000;

/// Key of a process's note with the keeper.
pub(super) fn note_key(id: u64) -> String {
    format!("{NOTE}{id}")
}

const NOTE: &str = "pm2note:";

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    kept: BTreeMap<u64, Kept>,
    alive: Vec<(String, Alive)>,
    exits: Vec<ExitRecord>,
    descriptors: BTreeSet<String>,
    /// Notes on clusters.
    clusters: BTreeMap<String, Vec<u8>>,
}

impl Found {
    /// Takes out of what the keeper told whatever is PM2's.
    pub(crate) fn take(
        listing: &mut Listing,
        exits: &mut Vec<ExitRecord>,
        store: &dyn Store,
    ) -> Result<Self, StoreError> {
        let mut found = Self::default();
        let read = |bytes: &[u8]| {
            serde_json::from_slice::<Kept>(bytes)
                .ok()
                .filter(|kept| kept.version == KEPT_VERSION)
        };
        for entry in store.range(PREFIX, PROCESSES_MAX)? {
            let id = entry.key.strip_prefix(PREFIX).and_then(|id| id.parse().ok());
            if let (Some(id), Some(kept)) = (id, read(&entry.value)) {
                found.kept.insert(id, kept);
            }
        }
        let notes: HashMap<String, Vec<u8>> = std::mem::take(&mut listing.notes).into_iter().collect();
        for (key, bytes) in notes {
            match key.strip_prefix(NOTE).and_then(|id| id.parse::<u64>().ok()) {
                // Newer than what the store has.
                Some(id) => {
                    if let Some(kept) = read(&bytes) {
                        found.kept.insert(id, kept);
                    }
                }
                None if key.starts_with(cluster::NOTE) => {
                    found.clusters.insert(key, bytes);
                }
                None => listing.notes.push((key, bytes)),
            }
        }
        let now = clock::monotonic_ms();
        listing.children.retain(|child| {
            let ours = parse_key(&child.key).is_some();
            if ours {
                let alive = Alive {
                    pid: child.pid,
                    uptime_ms: now.saturating_sub(child.started_mono_ms),
                    stray: child.stray,
                };
                found.alive.push((child.key.clone(), alive));
            }
            !ours
        });
        let (ours, others) = std::mem::take(exits)
            .into_iter()
            .partition(|exit| parse_key(&exit.key).is_some());
        (found.exits, *exits) = (ours, others);
        found.descriptors = listing
            .descriptors
            .iter()
            .filter(|name| name.starts_with("pm2:"))
            .cloned()
            .collect();
        Ok(found)
    }
}

/// Makes the list again.
pub(super) fn recover(god: &Rc<God>, mut found: Found) {
    let known: BTreeMap<String, u64> = found
        .kept
        .iter()
        .map(|(id, kept)| (key(*id, kept.generation), *id))
        .collect();
    let mut alive: HashMap<u64, Alive> = HashMap::new();
    let mut living = BTreeSet::new();
    for (key, process) in std::mem::take(&mut found.alive) {
        match known.get(&key) {
            Some(id) => {
                alive.insert(*id, process);
                living.insert(key);
            }
            // Deleted, or replaced: its end had been ordered.
            None => god.context.link.order(|id| Request::Signal {
                id,
                key,
                signal: 9,
                scope: Scope::Tree,
            }),
        }
    }
    for (id, kept) in std::mem::take(&mut found.kept) {
        let exits: Vec<ExitRecord> = {
            let key = key(id, kept.generation);
            let (ours, others) = std::mem::take(&mut found.exits)
                .into_iter()
                .partition(|exit| exit.key == key);
            found.exits = others;
            ours
        };
        adopt(god, id, kept, alive.remove(&id), exits, &mut found.descriptors);
    }
    for exit in found.exits {
        god.remember(&exit, "of a process that is no longer in the list".to_owned(), "");
    }
    let (listeners, others): (Vec<_>, Vec<_>) = found
        .descriptors
        .into_iter()
        .partition(|name| name.starts_with(cluster::LISTENER));
    for name in others {
        god.context.link.order(|id| Request::CloseDescriptor { id, name });
    }
    // Before any channel is here: those are asked for and come later.
    cluster::recover(god, &found.clusters, listeners, &living);
}

fn adopt(
    god: &Rc<God>,
    id: u64,
    kept: Kept,
    alive: Option<Alive>,
    exits: Vec<ExitRecord>,
    descriptors: &mut BTreeSet<String>,
) {
    let now = clock::monotonic_ms();
    let mut state = State::new(kept.record, kept.places, &god.variables, now);
    state.machine = kept.machine;
    state.counters = kept.counters;
    state.generation = kept.generation;
    state.errored = kept.errored;
    state.online = kept.online && alive.is_some();
    state.worker = kept.worker;
    let generation = kept.generation;
    let process = Rc::new(Process {
        id,
        state: std::cell::RefCell::new(state),
    });
    god.table.borrow_mut().insert(id, Rc::clone(&process));
    god.next_id.set(god.next_id.get().max(id + 1));
    god.next_worker.set(god.next_worker.get().max(kept.worker + 1));
    let names = launch::descriptors(id, generation);
    for (name, stream) in [(&names[0], Stream::Out), (&names[1], Stream::Err)] {
        if descriptors.remove(name) {
            process.state.borrow_mut().piped.insert(name.clone());
            let (god, of, name) = (Rc::clone(god), Rc::downgrade(&process), name.clone());
            fetch(&god, name.clone(), move |god, descriptor| {
                if let Some(process) = of.upgrade() {
                    let sinks = launch::sinks(&process.state.borrow(), stream);
                    god.logs.attach((process.id, stream), descriptor, sinks);
                }
            });
        }
    }
    let running = alive.is_some_and(|alive| !alive.stray);
    for (at, name) in names[2..].iter().enumerate() {
        if !descriptors.remove(name) || !running {
            continue;
        }
        let of = Rc::downgrade(&process);
        fetch(god, name.clone(), move |god, descriptor| {
            let Some(process) = of.upgrade() else { return };
            if at == 0 {
                // It may have ended meanwhile.
                let lives = {
                    let state = process.state.borrow();
                    state.generation == generation && state.machine.pid().is_some()
                };
                if lives
                    && let Ok(channel) = launch::serve_channel(god, &process, generation, descriptor, true)
                {
                    launch::hold(god, &process, channel);
                }
            } else {
                process.state.borrow_mut().stdin = Some(descriptor);
            }
        });
    }
    let wanted = process.state.borrow().machine.desired();
    // A verdict on what ended meanwhile.
    if alive.is_none()
        && let Some(exit) = exits.last()
    {
        god.judge(&process, exit);
    }
    let effects = {
        let mut state = process.state.borrow_mut();
        let policy = state.policy.clone();
        let recovered = Recovered {
            alive,
            exits: exits
                .iter()
                .map(|exit| upkeep_supervise::instance::Ended {
                    pid: exit.pid,
                    exit: crate::apps::exits::exit(exit.how),
                    uptime_ms: exit.exited_mono_ms.saturating_sub(exit.started_mono_ms),
                    leftovers: exit.leftovers,
                })
                .collect(),
        };
        state.machine.recover(&policy, now, recovered)
    };
    god.carry_out(&process, effects);
    for exit in &exits {
        let (why, name) = {
            let state = process.state.borrow();
            (state.machine.why().to_owned(), state.name())
        };
        god.remember(exit, format!("seen by a new daemon: {why}"), &name);
    }
    if wanted == Desired::Up
        && process.state.borrow().is_down()
        && exits.is_empty()
        && !process.state.borrow().errored
    {
        // After a reboot: nothing is left of it but that it is wanted.
        let was_up = upkeep_pm2::record::text(&process.state.borrow().record, "status")
            .is_some_and(|status| matches!(status, "online" | "launching" | "waiting restart"));
        if was_up {
            god.step(&process, Happening::Ordered(Order::Start));
        }
    }
    if running && !process.state.borrow().online {
        // It was waiting to be ready when the last daemon died: it has had its time.
        god.ready(&process);
    }
    watch::arm(god, &process);
    worker::arm_cron(god, &process);
}

/// Gets a duplicate of a descriptor from the keeper.
fn fetch(god: &Rc<God>, name: String, then: impl FnOnce(&Rc<God>, OwnedFd) + 'static) {
    let god = Rc::clone(god);
    let answer = god.context.link.ask(|id| Request::GetDescriptor { id, name });
    Task::spawn_short("pm2 descriptor", async move {
        // What the keeper does not have any more has ended.
        if let Ok(Event::Descriptor { descriptor, .. }) = answer.wait().await {
            then(&god, descriptor);
        }
    });
}
