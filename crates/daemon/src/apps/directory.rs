//! Which apps there are.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockReadGuard},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use upkeep_model::{app::AppSpec, id::AppName, state::Desired};
use upkeep_supervise::{instance::View, rollout::Verdict};

use super::actor::Mail;
use crate::supply::{self, Granted};

/// What is durable of an app: key `/apps/NAME`, JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AppRecord {
    /// Format of this record.
    pub(crate) version: u32,
    pub(crate) spec: AppSpec,
    /// By index: a number that no other instance on this machine has, and what is wanted of it.
    pub(crate) instances: Vec<InstanceRecord>,
    /// Of the copies that are started now. Every replacement has a new one: even ones are given by the director, odd
    /// ones by the actor that turns back.
    #[serde(default)]
    pub(crate) generation: u32,
    /// Older generations whose copies run this same specification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) kept: Vec<u32>,
    /// What was there before the last change: for `rollback`, and while copies of it are being replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Box<Previous>>,
    /// What it was given of the shared configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) supply: Option<Granted>,
}

/// A specification before the last change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Previous {
    pub(crate) spec: AppSpec,
    /// Generations of its copies.
    pub(crate) generations: Vec<u32>,
    /// What they were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) supply: Option<Granted>,
    /// Where only values have changed since: the specification before, for `rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) older: Option<Box<(AppSpec, Option<Granted>)>>,
}

impl AppRecord {
    /// A record of an app that is new.
    pub(crate) fn new(spec: AppSpec, instances: Vec<InstanceRecord>) -> Self {
        Self {
            version: RECORD_VERSION,
            spec,
            instances,
            generation: 0,
            kept: Vec::new(),
            previous: None,
            supply: None,
        }
    }

    /// What a copy of this generation was given.
    pub(crate) fn supply_of(&self, generation: u32) -> Option<&Granted> {
        match &self.previous {
            Some(previous) if previous.generations.contains(&generation) && !self.is_current(generation) => {
                previous.supply.as_ref()
            }
            _ => self.supply.as_ref(),
        }
    }

    /// The record with another edition of its values. `replaces`: for new copies; else whatever starts from now on gets it.
    pub(crate) fn supplied(&self, edition: u64, replaces: bool, unproven: bool) -> Self {
        let mut record = if replaces {
            let mut record = self.changed_to(self.spec.clone(), self.instances.clone(), unproven);
            if let (Some(now), Some(before)) = (&mut record.previous, &self.previous)
                && now.spec == self.spec
                && now.older.is_none()
            {
                now.older = if before.spec == self.spec {
                    before.older.clone()
                } else {
                    Some(Box::new((before.spec.clone(), before.supply.clone())))
                };
            }
            record
        } else {
            self.clone()
        };
        if let Some(supply) = &mut record.supply {
            supply.edition = Some(edition);
        }
        record
    }

    /// What a rollback goes back to.
    pub(crate) fn before(&self) -> Option<(&AppSpec, Option<&Granted>)> {
        let previous = self.previous.as_ref()?;
        if previous.spec.differs_from(&self.spec) {
            return Some((&previous.spec, previous.supply.as_ref()));
        }
        let (spec, supply) = &**previous.older.as_ref()?;
        Some((spec, supply.as_ref()))
    }

    /// Whether copies of this generation run the specification of today.
    pub(crate) fn is_current(&self, generation: u32) -> bool {
        self.generation == generation || self.kept.contains(&generation)
    }

    /// What a copy of this generation runs, as far as it is known.
    pub(crate) fn spec_of(&self, generation: u32) -> &AppSpec {
        match &self.previous {
            Some(previous) if previous.generations.contains(&generation) && !self.is_current(generation) => {
                &previous.spec
            }
            _ => &self.spec,
        }
    }

    fn generations(&self) -> Vec<u32> {
        // One instance may be replaced often while another keeps its first copy: only many such turns are forgotten.
        let skip = self.kept.len().saturating_sub(KEPT_MAX);
        self.kept
            .iter()
            .skip(skip)
            .copied()
            .chain([self.generation])
            .collect()
    }

    /// The record after a change of the specification whose copies have to be replaced. `unproven`: the change before
    /// has not come to its end; the way back leads to what was before that.
    pub(crate) fn changed_to(&self, spec: AppSpec, instances: Vec<InstanceRecord>, unproven: bool) -> Self {
        let last = || {
            Some(Box::new(Previous {
                spec: self.spec.clone(),
                generations: self.generations(),
                supply: self.supply.clone(),
                older: None,
            }))
        };
        Self {
            version: RECORD_VERSION,
            generation: self.next_generation(),
            kept: Vec::new(),
            previous: self.previous.clone().filter(|_| unproven).or_else(last),
            supply: self.supply.clone(),
            spec,
            instances,
        }
    }

    /// The record after an order to replace every copy by one of the same.
    pub(crate) fn renewed(&self) -> Self {
        Self {
            generation: self.next_generation(),
            kept: self.generations(),
            ..self.clone()
        }
    }

    /// The record after a change that did not hold: the one before, for copies of a generation of its own.
    pub(crate) fn turned_back(&self) -> Option<Self> {
        let previous = self.previous.as_deref()?;
        let mut instances = self.instances.clone();
        instances.truncate(previous.spec.instances as usize);
        let count = u32::try_from(instances.len()).unwrap_or(u32::MAX);
        Some(Self {
            version: RECORD_VERSION,
            generation: self.generation | 1,
            kept: previous.generations.clone(),
            previous: Some(Box::new(Previous {
                spec: self.spec.clone(),
                generations: self.generations(),
                supply: self.supply.clone(),
                older: previous.older.clone(),
            })),
            supply: previous.supply.clone(),
            spec: AppSpec {
                instances: count,
                ..previous.spec.clone()
            },
            instances,
        })
    }

    /// Even, and above every one before.
    fn next_generation(&self) -> u32 {
        (self.generation | 1).saturating_add(1)
    }
}

/// How many older generations of the same specification are remembered.
const KEPT_MAX: usize = 255;

/// What is durable of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceRecord {
    pub(crate) id: u32,
    pub(crate) desired: Desired,
}

/// Format of records that this daemon writes; it reads no other.
pub(crate) const RECORD_VERSION: u32 = 1;

/// Key of an app's record.
pub(crate) fn key(name: &AppName) -> String {
    format!("{PREFIX}{name}")
}

/// Where records are.
pub(crate) const PREFIX: &str = "/apps/";

/// What an actor publishes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    pub(crate) instances: Vec<InstanceStatus>,
    /// How far a replacement is, for people, while one is under way.
    pub(crate) rollout: Option<String>,
    /// A change of the specification is being carried out, and may yet turn back.
    pub(crate) unproven: bool,
    /// How the last one ended, since this daemon began.
    pub(crate) last_rollout: Option<Verdict>,
}

/// Of one instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InstanceStatus {
    pub(crate) id: u32,
    pub(crate) index: u32,
    pub(crate) view: View,
    /// Nothing more happens to it by itself, and it is not being replaced.
    pub(crate) settled: bool,
    pub(crate) generation: u32,
    /// Other copies of the same instance: coming, or on their way out.
    pub(crate) others: Vec<OtherCopy>,
    /// What its checks say.
    pub(crate) health: Option<super::health::Handle>,
}

/// A copy beside the one that serves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OtherCopy {
    pub(crate) generation: u32,
    pub(crate) view: View,
    /// It was told to end.
    pub(crate) leaving: bool,
}

/// An app that exists.
#[derive(Clone, Debug)]
pub(crate) struct AppEntry {
    pub(crate) record: Arc<AppRecord>,
    pub(crate) revision: u64,
    pub(crate) mailbox: mpsc::Sender<Mail>,
    pub(crate) status: watch::Receiver<Status>,
    /// What is known of its schedule.
    pub(crate) schedule: super::schedule::Shown,
    /// How it is supplied with values.
    pub(crate) supply: supply::Shown,
}

/// The directory.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    apps: RwLock<BTreeMap<AppName, AppEntry>>,
}

impl Directory {
    /// A look at all of them. Do not hold it across an await.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<AppName, AppEntry>> {
        // A panic aborts the process: the lock cannot be poisoned.
        self.apps
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn get(&self, name: &AppName) -> Option<AppEntry> {
        self.read().get(name).cloned()
    }

    pub(crate) fn insert(&self, name: AppName, entry: AppEntry) {
        self.apps
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(name, entry);
    }

    pub(crate) fn remove(&self, name: &AppName) {
        self.apps
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(name);
    }
}
