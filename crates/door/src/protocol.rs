//! What daemon and door say to each other: one JSON value a line, over a socket pair whose ends the keeper holds too.
//!
//! A daemon begins with an empty line, because one before it may have died in the middle of a line.
//!
//! The door begins with the environment: `LISTEN_FDS` (public sockets from descriptor 3 on), [`CONTROL`] (number of the
//! descriptor of this conversation) and [`SETTINGS`] (JSON of [`Settings`]).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use upkeep_model::listen::DoorProtocol;

/// Variable with the number of the control descriptor.
pub const CONTROL: &str = "UPKEEP_DOOR_CONTROL";
/// Variable with the settings.
pub const SETTINGS: &str = "UPKEEP_DOOR_SETTINGS";
/// The longest line, in bytes.
pub const LINE_MAX: usize = 1 << 20;

/// What a door is told at its start, and anew at the beginning of each conversation and when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What passes through it.
    pub protocol: DoorProtocol,
    /// Files of certificate chain and key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Names of its public sockets in the keeper's table. A door cannot change them: it says [`FromDoor::Stale`].
    #[serde(default)]
    pub sockets: Vec<String>,
}

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToDoor {
    /// All copies there are, now.
    Upstreams(Vec<Upstream>),
    /// How it shall serve from now on.
    Settings(Settings),
}

/// A copy of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name among the copies of the app.
    pub id: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Whether it may be given work. If not, the door says when it has finished what it has.
    pub takes: bool,
}

/// What the door says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromDoor {
    /// It accepts connections.
    Ready,
    /// It cannot serve as it shall: it has other sockets.
    Stale,
    /// A copy that gets no more work has nothing in hand.
    Drained {
        /// Which.
        id: String,
    },
}
