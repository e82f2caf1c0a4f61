//! An actor's part in a Node cluster: its copies are workers ([`crate::node::workers`]).
//!
//! A worker is ready when its first server listens, unless the app has a readiness check of its own; it gets connections that
//! are passed on once it is ready. Where the machine wants the stop signal sent, the worker is told to end its connections
//! first, and the signal follows when it has. A worker that never listens is not ready: an app that listens on nothing
//! is no cluster, or has a check that says otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use tokio::sync::mpsc::error::TrySendError;
use upkeep_keeper::protocol::{Request, Scope, SpawnSpec};
use upkeep_model::{listen::Mode, state::Actual};
use upkeep_supervise::event::Event;
use upkeep_sys::clock;

use super::{
    actor::{Actor, Mail},
    copies::{Known, Slot},
    launch::{self, CopyId},
};
use crate::{
    metrics::Report,
    node::{
        keep::Keeper,
        workers::{self, News, Workers},
    },
    tasks::Task,
};

impl Actor {
    fn workers(&mut self) -> &Workers {
        let (context, mailbox, record) = (&self.context, &self.own, &self.record);
        self.workers.get_or_insert_with(|| {
            let mailbox = mailbox.clone();
            let home = context.logs.parent().unwrap_or(&context.logs);
            Workers::new(
                Rc::new(Keeper(Rc::clone(context))),
                record.spec.name.as_str(),
                record.spec.balance,
                home.join("node"),
                move |key, news| {
                    let (Some((_, copy)), Some(mailbox)) = (launch::parse_key(key), mailbox.upgrade()) else {
                        return;
                    };
                    // A full mailbox: it waits, in a task of its own. What can be told of a copy is bounded.
                    if let Err(TrySendError::Full(mail)) = mailbox.try_send(Mail::Node { copy, news }) {
                        Task::spawn_short("news of a worker", async move {
                            // The actor has gone: nobody waits for it either.
                            let _ = mailbox.send(mail).await;
                        });
                    }
                },
            )
        })
    }

    /// Adds to a copy what makes it a worker, if it is to be one.
    pub(super) fn prepare_worker(&mut self, slot: &Slot, mut spec: SpawnSpec) -> Result<SpawnSpec, String> {
        if workers::are_wanted(&slot.spec) {
            let key = launch::key(&self.name, slot.copy);
            self.workers().prepare(&key, &slot.spec, &mut spec)?;
        }
        Ok(spec)
    }

    pub(super) fn worker_launched(&self, slot: &Slot) {
        if let Some(workers) = &self.workers {
            workers.launched(&launch::key(&self.name, slot.copy));
        }
    }

    pub(super) fn worker_ended(&self, copy: CopyId) {
        if let Some(workers) = &self.workers {
            workers.ended(&launch::key(&self.name, copy));
        }
    }

    pub(super) fn promote_worker(&self, slot: &Slot) {
        if let Some(workers) = self.workers.as_ref().filter(|_| slot.machine.is_ready()) {
            workers.promote(&launch::key(&self.name, slot.copy));
        }
    }

    /// Nothing of the app is at work.
    pub(super) fn release_workers(&self) {
        if let Some(workers) = &self.workers {
            workers.release();
        }
    }

    /// Whether a stop signal is held back because the copy ends its connections first.
    pub(super) fn drains_first(&self, slot: &Slot, signal: i32) -> bool {
        let stops = slot.machine.actual() == Actual::Stopping && signal == slot.policy.stop.signal;
        let Some(workers) = self.workers.as_ref().filter(|_| stops) else {
            return false;
        };
        let grace = std::time::Duration::from_millis(slot.policy.stop.grace.as_millis());
        workers.drain(&launch::key(&self.name, slot.copy), grace)
    }

    /// What a worker says.
    pub(super) fn worker_says(&mut self, copy: CopyId, news: News) {
        let Some(slot) = self.slots.iter().find(|slot| slot.copy == copy) else {
            return;
        };
        let pid = slot.machine.pid();
        let has_check = slot.spec.readiness.is_some() || slot.spec.startup.is_some();
        match news {
            News::Listening { .. } if !has_check && slot.spec.mode == Mode::Cluster => {
                self.step_copy(copy, Event::BecameReady);
            }
            // Whether a check waits for that is known there.
            News::Ready => {
                if let Some(health) = &slot.health {
                    health.message();
                }
            }
            News::Listening { .. } => {}
            News::Figures(figures) => {
                // While two copies of an instance live it is that which serves whose figures are told.
                let serves = self
                    .serving(copy.index)
                    .is_some_and(|at| self.slots[at].copy == copy);
                if let (true, Some(pid)) = (serves, pid) {
                    let number = |value: u64| value as f64;
                    self.context.metrics.report(
                        &self.name,
                        copy.index,
                        Report {
                            pid,
                            at_ms: clock::monotonic_ms(),
                            event_loop_delay: figures.delay_us.map(|delay| number(delay) / 1e6),
                            heap_used: figures.heap_used.map(number),
                            heap_total: figures.heap_total.map(number),
                        },
                    );
                }
            }
            News::Drained => {
                if slot.machine.actual() != Actual::Stopping {
                    return; // it has ended, or is killed already
                }
                let key = launch::key(&self.name, copy);
                let stop = slot.policy.stop;
                self.context.link.order(|id| Request::Signal {
                    id,
                    key,
                    signal: stop.signal,
                    scope: if stop.tree { Scope::Tree } else { Scope::Leader },
                });
            }
            News::Refused { place, errno, holder } => {
                let holder = holder.map_or_else(String::new, |holder| format!(", by {holder}"));
                let why = format!("{place}: {}{holder}", std::io::Error::from_raw_os_error(errno));
                self.log(copy, "listen_refused", why, "its app was told so".to_owned());
            }
        }
    }

    /// Takes up what a daemon before left of the cluster.
    pub(super) fn recover_workers(&mut self, found: workers::Found, known: &BTreeMap<CopyId, Known>) {
        if found.is_empty() {
            return;
        }
        let living: BTreeSet<String> = known
            .iter()
            .filter(|(_, known)| known.recovered.alive.is_some_and(|alive| !alive.stray))
            .map(|(copy, _)| launch::key(&self.name, *copy))
            .collect();
        self.workers().recover(found, &living);
    }
}
