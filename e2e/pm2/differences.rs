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
        case: "^(daemon::little_ones|look::slist)",
        line: "^answer|^shows a table$",
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
    Difference {
        key: "instance-number-of-a-bare-record",
        case: "^daemon::an_app_by_method$",
        line: r"\.(undefined|NODE_APP_INSTANCE) = ",
        reason: "a record without `instance_var` gets a variable called `undefined` from PM2",
    },
    Difference {
        key: "export-default",
        case: "^files::config_mjs$",
        line: "",
        reason: "PM2 does not understand `export default`; what it needed another command for is there at once with us",
    },
    Difference {
        key: "own-samples",
        case: "^files::init_and_ecosystem$",
        line: "",
        reason: "the sample is in our own words",
    },
    Difference {
        key: "sockets-after-a-signal",
        case: "^home::SIG(INT|TERM)_to_the_daemon$",
        line: r"(pub|rpc)\.sock",
        reason: "PM2 leaves sockets behind that nobody answers on",
    },
    Difference {
        key: "uninstall",
        case: "^home::a_module_that_is_a_folder$",
        line: "",
        reason: "PM2 fails to uninstall a module that was installed from a folder",
    },
    Difference {
        key: "pid-of-the-stopped",
        case: "^home::save_and_resurrect",
        line: r"\.pid = 0$",
        reason: "a process that was never started has pid 0 everywhere; in a resurrected list of PM2 it has none",
    },
    Difference {
        key: "title",
        case: "^home::the_title_of_the_daemon$",
        line: "",
        reason: "the title is the name of the keeper; its arguments stand behind it",
    },
    Difference {
        key: "rejections",
        case: "^interpreters::rejections_of_node$",
        line: "",
        reason: "an unhandled rejection ends an app, as its Node says; PM2's agent keeps it half alive",
    },
    Difference {
        key: "not-executable",
        case: "^interpreters::not_executable$",
        line: "",
        reason: "what could not be started is not shown as online",
    },
    Difference {
        key: "bytes",
        case: "^logs::bytes_that_are_no_text$",
        line: "",
        reason: "a log has the bytes that were written; PM2 replaces what is no UTF-8",
    },
    Difference {
        key: "logs-of-a-namespace",
        case: "^logs::logs_of_a_namespace_and_of_a_regex$",
        line: "",
        reason: "`logs NAMESPACE --nostream` shows what it says it shows",
    },
    Difference {
        key: "no-daemon-for-texts",
        case: "^(look::completion|targets::(help_and_version|no_word_at_all))$",
        line: "",
        reason: "printing a completion, a version or the usage starts no daemon",
    },
    Difference {
        key: "dead-pids",
        case: "^(look::the_table_of_errored_and_waiting|restarts::(a_fixed_delay|restart_while_it_waits|the_delay_of_now_is_in_the_record))$",
        line: "",
        reason: "in `waiting restart` PM2 shows the pid of the dead process, and refuses to restart the app because of it",
    },
    Difference {
        key: "real-daemon-drops",
        case: "^cluster::reload_without_a_gap::real_daemon$",
        line: "^out: (failed)?$",
        reason: "PM2's own daemon, which is the one here, drops a request at a reload now and then",
    },
    Difference {
        key: "dev-output",
        case: "^runtime::dev$",
        line: "said on|code [01]|^out: $",
        reason: "PM2 may lose what an app says at its start",
    },
    Difference {
        key: "header-case",
        case: "^runtime::serve_with_a_password$",
        line: "(?i)www-authenticate",
        reason: "names of headers are written in small letters",
    },
    Difference {
        key: "ordered-start",
        case: "^start::not_started_at_all$",
        line: "",
        reason: "an app with `autostart: false` starts when somebody says `start`",
    },
    Difference {
        key: "letters-of-env",
        case: "^environment::the_word_env_without_a_file$",
        line: "",
        reason: "`--env NAME` without a file spreads the letters of NAME over the environment",
    },
    Difference {
        key: "dump-by-kill",
        case: "^targets::all_with_an_empty_list",
        line: "dump.pm2",
        reason: "PM2 writes an empty dump there",
    },
    Difference {
        key: "stopped-trees",
        case: "^stopping::the_whole_tree$",
        line: r"^t\.status = ",
        reason: "on a busy machine PM2 calls a tree errored that it has just ended",
    },
];
