//! How far an instance is kept apart from the rest of the machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::size::ByteSize;

/// Levels of isolation; each includes those before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing beyond the user it runs as.
    #[default]
    None,
    /// No new privileges, a private /tmp, dangerous capabilities dropped.
    Light,
    /// The system is read-only, homes of others are hidden, dangerous calls are refused.
    Standard,
    /// Safe for code that may be harmful: no network of its own, no capabilities, few calls, small limits.
    Strict,
}

/// Groups of system calls that `standard` and `strict` refuse and `allow` allows, and what each is for.
pub const CALL_GROUPS: [(&str, &str); 9] = [
    ("bpf", "programs inside the kernel, and its performance counters"),
    ("clock", "setting the clock"),
    (
        "debug",
        "looking into and changing other processes, as debuggers do",
    ),
    ("files", "opening files by handle, watching whole file systems"),
    ("io-uring", "asynchronous input and output that no filter sees"),
    ("kernel", "modules, reboot, swap, host name, the kernel's log"),
    ("keyring", "keys held by the kernel"),
    ("mount", "mounting and changing the root directory"),
    ("namespaces", "containers of its own, such as a browser's sandbox"),
];

/// Isolation of an app: a level, and what differs from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// The level.
    pub level: Level,
    /// Whether it may use the network; absent: as the level says.
    pub network: Option<bool>,
    /// Paths it may read besides, absolute.
    pub read: Vec<PathBuf>,
    /// Paths it may write besides, absolute.
    pub write: Vec<PathBuf>,
    /// Size of its private /tmp; absent: as the level says.
    pub tmp: Option<ByteSize>,
    /// Groups of system calls that are allowed besides.
    pub allow: Vec<String>,
}
