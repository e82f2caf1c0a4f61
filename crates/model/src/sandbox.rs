//! How far an instance is kept apart from the rest of the machine.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::{AppSpec, Check},
    listen::ListenOn,
    size::ByteSize,
};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// The key of a command that would run outside the sandbox of an app, where the app could have put another program in
/// its place. `None`: there is none.
///
/// Such commands run with the app's user and directory, and with its words, but not in its cage. At `light` an app can
/// change whatever its user may anyway; there only what reads its configuration before a reload is refused.
pub fn runs_outside(spec: &AppSpec) -> Option<&'static str> {
    if spec.sandbox.level == Level::None {
        return None;
    }
    if spec.check.is_some() {
        return Some("check");
    }
    if spec.sandbox.level < Level::Standard {
        return None;
    }
    let probes = [
        ("readiness", &spec.readiness),
        ("liveness", &spec.liveness),
        ("startup", &spec.startup),
    ];
    let exec = probes.into_iter().find_map(|(key, probe)| {
        let exec = matches!(probe.as_ref()?.check, Check::Exec { .. });
        exec.then_some(key)
    });
    exec.or_else(|| {
        let hook = spec.schedule.as_ref()?.on_missed.as_ref();
        hook.map(|_| "schedule.on_missed")
    })
}

/// A way by which a UDP socket that is handed over would lead out of a network of its own: the address of the socket.
///
/// With a socket of TCP that listens nobody can be called (the sandbox sees to it); with one of UDP anybody can.
pub fn leads_out(spec: &AppSpec) -> Option<SocketAddr> {
    let own_network = match spec.sandbox.network {
        Some(network) => !network,
        None => spec.sandbox.level == Level::Strict,
    };
    if !own_network {
        return None;
    }
    spec.listen.iter().find_map(|listen| match listen.on {
        ListenOn::Udp(address) => Some(address),
        _ => None,
    })
}
