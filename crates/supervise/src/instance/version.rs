//! The version of a snapshot.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The version of snapshots that this program writes and reads. Raise it when a field changes its meaning; a new
/// field with a default does not need it.
const CURRENT: u32 = 1;

/// Serialised as [`CURRENT`]; anything else is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(CURRENT)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            CURRENT => Ok(Self),
            other => Err(D::Error::custom(format_args!(
                "snapshot of an instance has version {other}, this program reads {CURRENT}"
            ))),
        }
    }
}
