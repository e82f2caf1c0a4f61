//! How much of the machine an instance may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::size::ByteSize;

/// Limits of one instance with all its processes. What is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// Memory, in bytes; above it the kernel ends a process of the instance.
    pub memory: Option<ByteSize>,
    /// Memory above which the kernel takes it back and slows the instance down.
    pub memory_high: Option<ByteSize>,
    /// CPU time, in thousandths of a core: 1500 is one core and a half.
    pub cpu_milli: Option<u32>,
    /// Bytes per second read from disks.
    pub io_read: Option<ByteSize>,
    /// Bytes per second written to disks.
    pub io_write: Option<ByteSize>,
    /// Number of processes and threads.
    pub tasks: Option<u32>,
    /// Who is ended first when the machine is out of memory: -1000 (never) to 1000.
    pub oom_score: Option<i16>,
}
