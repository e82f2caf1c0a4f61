//! The store of the shared configuration: how it is doing, the machines that share it, and moving it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::{
    place::Place,
    settings::{EtcdStore, MachineName},
};

use crate::{
    body::UnixTime,
    config::{ConfigUser, Recipient},
};

/// A member of the store's cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreMember {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// What is wrong with it; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it leads.
    #[serde(default)]
    pub leader: bool,
    /// What it takes on its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// How much of that is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
}

/// An endpoint of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreEndpoint {
    /// Which.
    pub url: String,
    /// Why it does not answer; absent: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The version of what answers there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// When the store was compacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Compaction {
    /// What was superseded at or before this revision is forgotten.
    pub revision: u64,
    /// When.
    pub at: UnixTime,
    /// The machine that did it.
    pub by: String,
}

/// When a member was defragmented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Defragmentation {
    /// Which member; `the file` where there are none.
    pub member: String,
    /// When.
    pub at: UnixTime,
    /// The machine that had it done.
    pub by: String,
    /// What it took on its disk before.
    pub before_bytes: u64,
    /// And after.
    pub after_bytes: u64,
}

/// Who looks after the store, and what was done last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoreCare {
    /// The machine that looks after it now; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why this machine does not; absent: it does, or another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_here: Option<String>,
    /// The last compaction by Upkeep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compacted: Option<Compaction>,
    /// The last of each member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defragmented: Vec<Defragmentation>,
}

/// Those who watch the configuration through this daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchState {
    /// How many there are.
    pub open: u64,
    /// Of these, those who do not take what is waiting for them.
    pub held_up: u64,
    /// For how long the longest of them has not, seconds.
    pub longest_s: f64,
    /// Revisions that the one that is furthest behind is behind, where the store tells.
    pub behind: u64,
}

/// Answer of `GET /v1/config/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigStatus {
    /// Which kind of store: `embedded` or `etcd`.
    pub backend: String,
    /// Where it is, in words.
    pub place: String,
    /// Why it cannot be used; absent: it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Its version; absent: nobody tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The newest revision; absent: nobody tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The oldest that a watch can begin from; absent: it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// Keys of the store: values, their history, rules; absent: this machine may not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// What it takes on the disk (of the fullest member).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// How much of that is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// Above this, writing is refused; absent: there is no such bound, or it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// What is wrong with it.
    pub alarms: Vec<String>,
    /// Where the settings say that etcd is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<StoreEndpoint>,
    /// Members of its cluster; empty: it is a file of this machine, or nobody tells.
    pub members: Vec<StoreMember>,
    /// The user that this machine is at etcd, by its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What etcd lets this machine use, where that is not everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// Who looks after the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub care: Option<StoreCare>,
    /// Those who watch through this daemon.
    pub watches: WatchState,
    /// Who this machine is as a recipient of secrets.
    pub machine: Recipient,
    /// A short name of the machine's key, for people to compare.
    pub fingerprint: String,
    /// Apps of this machine that get values, as far as the caller may see them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<ConfigUser>,
}

/// What a machine may use of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineAccess {
    /// These places and no others.
    pub places: Vec<Place>,
    /// Whether it may change them.
    pub write: bool,
    /// Its user at etcd.
    pub user: String,
    /// Who gave it that.
    pub who: String,
    /// When.
    pub at: UnixTime,
}

/// A machine that shares the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineView {
    /// As recipients are named: `machine:web1`.
    pub name: String,
    /// Its public key; absent: it has not announced itself yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A short name of that, for people to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// When it announced itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixTime>,
    /// What is wrong with what it has announced, which counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Whether it is the one that is asked.
    pub own: bool,
    /// What it may use; absent: what the user that it is at etcd may, which Upkeep did not make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<MachineAccess>,
}

/// Answer of `GET /v1/config/machines`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineList {
    /// By name.
    pub machines: Vec<MachineView>,
    /// Whether etcd asks everybody who they are; absent: it is no etcd, or does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<bool>,
}

/// Body of `POST /v1/config/machines`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MachinePost {
    /// The machine, as its settings call it: `web1`.
    pub name: MachineName,
    /// What it may use.
    #[schemars(length(min = 1, max = 32))]
    pub places: Vec<Place>,
    /// Let it change them as well.
    #[serde(default)]
    pub write: bool,
    /// Make no password: it shows a certificate whose common name is the user.
    #[serde(default)]
    pub certificate: bool,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say whether it could be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/config/machines`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineAdded {
    /// Its user at etcd.
    pub user: String,
    /// The user's password. It is told this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether etcd asks everybody who they are. If not, it holds nobody to anything.
    pub asks: bool,
    /// What it may use.
    pub changes: Vec<Place>,
    /// The event that tells of it; absent for `dry_run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

impl std::fmt::Debug for MachineAdded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineAdded")
            .field("user", &self.user)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

/// Body of `POST /v1/config/auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthPost {
    /// Who may do everything at etcd: the `user` of this machine's settings.
    #[schemars(length(min = 1, max = 100))]
    pub root: String,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say what would be made.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/config/auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthEnabled {
    /// Users and roles that were made, or would be.
    pub changes: Vec<String>,
    /// The event that tells of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// A file of the machine.
    Embedded,
    /// An etcd cluster.
    Etcd,
}

/// Body of `POST /v1/config/migrate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigratePost {
    /// Where to.
    pub to: StoreKind,
    /// The cluster, for `etcd`: what `config.etcd` of the settings will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdStore>,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only look at both stores, and say how much would be moved.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/config/migrate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Migrated {
    /// Where everything was.
    pub from: String,
    /// Where it is now; for `dry_run`, where it would be.
    pub to: String,
    /// Keys that were copied and compared; for `dry_run`, those that there are.
    pub keys: u64,
    /// Of these, those that were changed while the rest was copied.
    pub followed: u64,
    /// The newest revision of the old store; those of the new one go on from there.
    pub revision: u64,
    /// The event that tells of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}
