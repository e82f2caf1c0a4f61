//! Which apps there are.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockReadGuard},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use upkeep_model::{app::AppSpec, id::AppName, state::Desired};
use upkeep_supervise::instance::View;

use super::actor::Mail;

/// What is durable of an app: key `/apps/NAME`, JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AppRecord {
    /// Format of this record.
    pub(crate) version: u32,
    pub(crate) spec: AppSpec,
    /// By index: a number that no other instance on this machine has, and what is wanted of it.
    pub(crate) instances: Vec<InstanceRecord>,
}

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
}

/// Of one instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InstanceStatus {
    pub(crate) id: u32,
    pub(crate) index: u32,
    pub(crate) view: View,
    /// Nothing more happens to it by itself.
    pub(crate) settled: bool,
}

/// An app that exists.
#[derive(Clone, Debug)]
pub(crate) struct AppEntry {
    pub(crate) record: Arc<AppRecord>,
    pub(crate) revision: u64,
    pub(crate) mailbox: mpsc::Sender<Mail>,
    pub(crate) status: watch::Receiver<Status>,
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
