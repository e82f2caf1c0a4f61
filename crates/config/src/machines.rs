//! Machines that share a store: their public keys, and what each of them may use of the backend.
//!
//! A machine announces its public key under `m/machines/NAME`, so that secrets can be sealed for it by name. Whoever comes
//! first holds a name: another key is never written over one that is there. An announcement is as good as the backend's own
//! rights are: whoever may write there can announce a machine that does not exist yet, so its fingerprint is shown wherever
//! the key is used.
//!
//! A backend with users of its own (etcd) can hold a machine to some places: [`spans`] says which keys that takes.
//! `m/grants/NAME` remembers it, so that the machine itself knows its places.

use serde::{Deserialize, Serialize};
use upkeep_model::settings::MachineName;
use upkeep_store::kv::{Guard, Op, Range, Span, Txn};

use crate::{
    error::ConfigError,
    fit,
    head::{MOVING, STORE},
    path::Place,
    proposals,
    seal::{self, Recipient},
    shared::{Config, RULES, damaged, within},
};

pub(crate) const MACHINES: &str = "m/machines/";
const GRANTS: &str = "m/grants/";

/// Names of machines as recipients begin so.
const KIND: &str = "machine:";

/// More machines are not read at once.
const MACHINES_MAX: usize = 20_000;

/// A machine that has announced itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// `machine:web1`.
    pub name: String,
    /// Its public key.
    pub key: String,
    /// When it announced it, Unix seconds.
    pub at: f64,
}

/// What stands where a machine announces itself, and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The machine's name, as the key has it.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Announced {
    key: String,
    at: f64,
}

/// What a machine may use of the backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineGrant {
    /// Its places.
    pub places: Vec<Place>,
    /// Whether it may change them.
    pub write: bool,
    /// Its user at the backend.
    pub user: String,
    /// Who gave it that.
    pub who: String,
    /// When, Unix seconds.
    pub at: f64,
}

/// The keys that a machine needs for its places, and whether it has to write them.
pub fn spans(name: &MachineName, places: &[Place], write: bool) -> Vec<(Span, bool)> {
    let mut spans = Vec::new();
    for place in places {
        spans.push((within('c', place), write));
        spans.push((within('h', place), write));
        spans.push((proposals::span(place), write));
        spans.push((fit::span(place), write));
    }
    for key in [RULES, STORE, MOVING, CARE] {
        spans.push((Span::One(key.to_owned()), false));
    }
    spans.push((Span::Prefix(MACHINES.to_owned()), false));
    spans.push((Span::One(format!("{GRANTS}{name}")), false));
    // Last: it lies in what can only be read.
    spans.push((Span::One(format!("{MACHINES}{name}")), true));
    spans
}

/// What whoever looks after a store writes down of it.
pub const CARE: &str = "m/care";

/// A machine's name without what all begin with.
fn short(name: &str) -> Result<MachineName, ConfigError> {
    let text = name.strip_prefix(KIND).unwrap_or(name);
    text.parse().map_err(ConfigError::Change)
}

impl Config {
    /// Announces this machine's public key; whether that was news.
    pub async fn announce(&self, own: &Recipient) -> Result<bool, ConfigError> {
        let key = format!("{MACHINES}{}", short(&own.name)?);
        let found = self.backend().range(Range::one(&key)).await?;
        if let Some(entry) = found.entries.first() {
            let known: Announced =
                serde_json::from_slice(&entry.value).map_err(|error| damaged(&key, error))?;
            if known.key == own.key {
                return Ok(false);
            }
            return Err(ConfigError::Change(format!(
                "another machine is known as `{}` here, with another key ({}, this one has {})",
                own.name,
                seal::fingerprint(&known.key),
                seal::fingerprint(&own.key),
            )));
        }
        let announced = Announced {
            key: own.key.clone(),
            at: (self.now)(),
        };
        let bytes = serde_json::to_vec(&announced).map_err(|error| damaged(&key, error))?;
        let txn = Txn::only_if(vec![Guard::absent(&key)], vec![Op::put(&key, bytes)]);
        Ok(self.write(txn).await?.succeeded)
    }

    /// Machines that have announced themselves, by name. What is no announcement is left out.
    pub async fn machines(&self) -> Result<Vec<Machine>, ConfigError> {
        Ok(self.announced().await?.0)
    }

    /// Machines that have announced themselves, by name, and what stands in the place of an announcement and is none: each machine
    /// writes its own, and none keeps the others from being known.
    pub async fn announced(&self) -> Result<(Vec<Machine>, Vec<Damaged>), ConfigError> {
        let range = Range::prefix(MACHINES).limit(MACHINES_MAX);
        let (mut machines, mut damaged) = (Vec::new(), Vec::new());
        for entry in self.backend().range(range).await?.entries {
            let name = format!("{KIND}{}", &entry.key[MACHINES.len()..]);
            let known = serde_json::from_slice(&entry.value)
                .map_err(|error| error.to_string())
                .and_then(|known: Announced| {
                    seal::check_key(&known.key).map_err(|error| error.to_string())?;
                    short(&name).map_err(|error| error.to_string())?;
                    Ok(known)
                });
            match known {
                Ok(known) => machines.push(Machine {
                    name,
                    key: known.key,
                    at: known.at,
                }),
                Err(why) => damaged.push(Damaged { name, why }),
            }
        }
        Ok((machines, damaged))
    }

    /// What a machine may use, if it is held to some places. It may always read that of its own.
    pub async fn machine_grant(&self, name: &str) -> Result<Option<MachineGrant>, ConfigError> {
        let Ok(name) = short(name) else { return Ok(None) };
        let key = format!("{GRANTS}{name}");
        let found = self.backend().range(Range::one(&key)).await?;
        let grant = |entry: &upkeep_store::kv::KeyValue| {
            serde_json::from_slice(&entry.value).map_err(|error| damaged(&key, error))
        };
        found.entries.first().map(grant).transpose()
    }

    /// What machines may use, by name.
    pub async fn machine_grants(&self) -> Result<Vec<(String, MachineGrant)>, ConfigError> {
        let range = Range::prefix(GRANTS).limit(MACHINES_MAX);
        let entries = self.backend().range(range).await?.entries;
        let grants = entries.iter().map(|entry| {
            let grant = serde_json::from_slice(&entry.value).map_err(|error| damaged(&entry.key, error))?;
            Ok((entry.key[GRANTS.len()..].to_owned(), grant))
        });
        grants.collect()
    }

    /// Remembers what a machine may use, instead of what it might before.
    pub async fn set_machine_grant(
        &self,
        name: &MachineName,
        grant: &MachineGrant,
    ) -> Result<(), ConfigError> {
        let key = format!("{GRANTS}{name}");
        let bytes = serde_json::to_vec(grant).map_err(|error| damaged(&key, error))?;
        self.write(Txn::always(vec![Op::put(&key, bytes)])).await?;
        Ok(())
    }

    /// Forgets a machine: what it may use, and its key. What is sealed for it stays so.
    pub async fn forget_machine(&self, name: &MachineName) -> Result<(), ConfigError> {
        let ops = vec![
            Op::delete(format!("{GRANTS}{name}")),
            Op::delete(format!("{MACHINES}{name}")),
        ];
        self.write(Txn::always(ops)).await?;
        Ok(())
    }
}
