//! Differences that are kept on purpose. A line that only one side has is excused if it matches; whatever matches nothing
//! is a finding. An entry that no case of a full run needs any more has to go.

/// One kept difference.
#[derive(Debug)]
pub(crate) struct Difference {
    /// Its name in reports.
    pub(crate) key: &'static str,
    /// Pattern on the name of the case; empty: all of them.
    pub(crate) case: &'static str,
    /// Pattern on the line that only one side has.
    pub(crate) line: &'static str,
    /// Why it is kept.
    #[expect(dead_code, reason = "it is for the reader")]
    pub(crate) reason: &'static str,
}

pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        key: "birth",
        case: "::real_(cli|daemon)$",
        line: "PM2_INTERACTOR_PROCESSING",
        reason: "not a difference: here another command gave birth to the daemon, and this variable tells",
    },
    Difference {
        key: "figures-at-once",
        case: "daemon::little_ones",
        line: r"^answer",
        reason: "PM2 has no figures of the host in its first seconds, ours always has; and ours does not show the environment of \
                 the daemon in its report",
    },
    Difference {
        key: "upkeep-folder",
        case: "",
        line: r"^\.upkeep/",
        reason: "the engine's own state of a PM2_HOME is in there",
    },
    Difference {
        key: "agent-versions",
        case: "",
        line: r"\.axm_options\.(module_version|apm\.version) = ",
        reason: "versions of PM2's agent and of ours",
    },
    Difference {
        key: "child-internals",
        case: "",
        line: r"^answer(\[\d+\])?\.(process\.)?(_\w+|stdin|stdout|stderr|stdio|connected|signalCode|exitCode|killed|spawnfile|spawnargs|channel|exitedAfterDisconnect|state|id|domain|process)\b",
        reason: "the real daemon answers with objects of Node as they are; nobody can read those",
    },
    Difference {
        key: "engine-marker",
        case: "",
        line: "UPKEEP_KEEPER",
        reason: "by this variable the keeper finds what an earlier one left behind",
    },
    Difference {
        key: "tree-pids",
        case: "",
        line: r"\._tree_pids = ",
        reason: "what PM2 saw of the tree while it stopped an app; nobody reads it",
    },
];
