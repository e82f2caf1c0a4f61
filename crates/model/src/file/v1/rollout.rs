//! Replacement, limits, isolation and schedules as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Scalar;
use crate::size::{ByteSize, Span};

/// How instances are replaced by `reload`, `scale` and `apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map")]
pub struct RolloutSpec {
    /// How many new instances may be started beside the old ones at a time; 0: the old one ends first. Default: 1 where
    /// instances share their sockets (`listen`, a cluster, a front door), else 0.
    #[serde(alias = "max_surge")]
    pub surge: Option<u32>,
    /// How many instances may be away at a time, without surge. Default: 1.
    pub max_unavailable: Option<u32>,
    /// How long a new instance has to stay ready before its old one goes. Default: 1s.
    #[serde(alias = "min_ready")]
    pub settle: Option<Span>,
    /// Pause between two replacements. Default: none.
    #[serde(alias = "pause_between")]
    pub pause: Option<Span>,
    /// How long a new instance may take to become ready. Default: 60s.
    #[serde(alias = "listen_timeout")]
    pub timeout: Option<Span>,
    /// How long, after the last replacement, a crash of a new instance still leads back. Default: 5s.
    pub watch: Option<Span>,
    /// First run one new instance for so long without traffic, on sockets of its own. Default: not.
    pub trial: Option<Span>,
}

/// How much an instance may use.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of limits")]
pub struct LimitsSpec {
    /// Memory of all its processes: above it the kernel ends one of them.
    pub memory: Option<ByteSize>,
    /// Memory above which it is slowed down and made to give some back.
    pub memory_high: Option<ByteSize>,
    /// Cores, such as `1.5`, or a share of one, such as `50%`.
    pub cpu: Option<Scalar>,
    /// Bytes per second read from disks.
    pub io_read: Option<ByteSize>,
    /// Bytes per second written to disks.
    pub io_write: Option<ByteSize>,
    /// Number of processes and threads.
    #[serde(alias = "pids")]
    pub tasks: Option<u32>,
    /// Who is ended first when the machine is out of memory: from -1000 (never) to 1000.
    #[serde(alias = "oom_score_adj")]
    pub oom_score: Option<i16>,
}
