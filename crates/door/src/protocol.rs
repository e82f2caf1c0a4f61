//! What daemon and door say to each other: one JSON value a line, over a socket pair whose ends the keeper holds too.
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

/// What a door is told once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What passes through it.
    pub protocol: DoorProtocol,
    /// Files of certificate chain and key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToDoor {
    /// All copies there are, now.
    Upstreams(Vec<Upstream>),
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
    /// A copy that gets no more work has nothing in hand.
    Drained {
        /// Which.
        id: String,
    },
}
