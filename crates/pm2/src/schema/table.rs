//! Every attribute, in the order of a record.

use serde_json::{Value, json};

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Number,
    Flag,
    List,
    Object,
}

/// How a value is read beyond its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// Bytes, or `300K`, `10M`, `1G`.
    Size,
    /// Milliseconds, or `10s`, `1m`, `1h`.
    Time,
    /// A command line: split.
    Words,
    /// One word or many, separated by blanks.
    Names,
    /// `fork`, `cluster`.
    Mode,
    /// A number, `max`, or anything, which counts as 0.
    Instances,
    /// A pattern; `0` is none.
    Cron,
}

/// A value that is there if none was given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Default {
    True,
    Number(u32),
    Text(&'static str),
}

impl Default {
    pub(super) fn value(self) -> Value {
        match self {
            Self::True => json!(true),
            Self::Number(number) => json!(number),
            Self::Text(text) => json!(text),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) types: &'static [Type],
    pub(super) form: Form,
    pub(super) default: Option<Default>,
    /// `false`, `0` and an empty text are kept.
    pub(super) keeps_nothing: bool,
    pub(super) least: Option<u32>,
}

const fn attribute(name: &'static str, types: &'static [Type]) -> Attribute {
    Attribute {
        name,
        aliases: &[],
        types,
        form: Form::Plain,
        default: None,
        keeps_nothing: false,
        least: None,
    }
}

impl Attribute {
    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn read_as(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    const fn with_default(mut self, default: Default) -> Self {
        self.default = Some(default);
        self
    }

    const fn keeping(mut self) -> Self {
        self.keeps_nothing = true;
        self
    }

    const fn at_least(mut self, least: u32) -> Self {
        self.least = Some(least);
        self
    }
}

const TEXT: &[Type] = &[Type::Text];
const NUMBER: &[Type] = &[Type::Number];
const FLAG: &[Type] = &[Type::Flag];
const OBJECT: &[Type] = &[Type::Object];
const LIST_TEXT: &[Type] = &[Type::List, Type::Text];
const ANY: &[Type] = &[Type::Text, Type::Number, Type::Flag, Type::List, Type::Object];

pub(super) const ATTRIBUTES: &[Attribute] = &[
    attribute("script", TEXT).or(&["exec", "cmd", "command"]),
    attribute("name", TEXT),
    attribute("name_prefix", TEXT),
    attribute("filter_env", &[Type::Flag, Type::List, Type::Text]),
    attribute("namespace", TEXT),
    attribute("install_url", TEXT),
    attribute("cwd", TEXT),
    attribute("args", LIST_TEXT).read_as(Form::Words).keeping(),
    attribute("exec_interpreter", TEXT).or(&["interpreter"]),
    attribute("node_args", LIST_TEXT)
        .or(&["interpreter_args"])
        .read_as(Form::Words),
    attribute("out_file", TEXT).or(&["out", "output", "out_log"]),
    attribute("error_file", TEXT).or(&["error", "err", "err_file", "err_log"]),
    attribute("log_file", &[Type::Flag, Type::Text]).or(&["log"]),
    attribute("pid_file", TEXT).or(&["pid"]),
    attribute("disable_logs", FLAG),
    attribute("log_type", TEXT),
    attribute("log_date_format", TEXT),
    attribute("time", FLAG).keeping(),
    attribute("env", &[Type::Object, Type::Text]),
    attribute("max_memory_restart", &[Type::Text, Type::Number]).read_as(Form::Size),
    attribute("restart_delay", NUMBER),
    attribute("exp_backoff_restart_delay", NUMBER),
    attribute("source_map_support", FLAG),
    attribute("disable_source_map_support", FLAG),
    attribute("wait_ready", FLAG),
    attribute("instances", ANY).read_as(Form::Instances).keeping(),
    attribute("kill_timeout", NUMBER),
    attribute("shutdown_with_message", FLAG),
    attribute("listen_timeout", NUMBER),
    attribute("cron_restart", &[Type::Text, Type::Number])
        .or(&["cron"])
        .read_as(Form::Cron)
        .keeping(),
    attribute("merge_logs", FLAG).or(&["combine_logs"]).keeping(),
    attribute("vizion", FLAG).with_default(Default::True).keeping(),
    attribute("autostart", FLAG).with_default(Default::True).keeping(),
    attribute("autorestart", FLAG)
        .with_default(Default::True)
        .keeping(),
    attribute("stop_exit_codes", &[Type::List, Type::Number]),
    attribute("watch_delay", NUMBER),
    attribute("watch", &[Type::Flag, Type::List, Type::Text]).keeping(),
    attribute("ignore_watch", LIST_TEXT).read_as(Form::Names),
    attribute("watch_options", OBJECT),
    attribute("min_uptime", &[Type::Number, Type::Text])
        .read_as(Form::Time)
        .at_least(100),
    attribute("max_restarts", NUMBER).at_least(0),
    attribute("execute_command", FLAG),
    attribute("exec_mode", TEXT).read_as(Form::Mode),
    attribute("force", FLAG).keeping(),
    attribute("append_env_to_name", FLAG),
    attribute("post_update", &[Type::List]),
    attribute("trace", FLAG).keeping(),
    attribute("disable_trace", FLAG),
    attribute("v8", FLAG).keeping(),
    attribute("event_loop_inspector", FLAG),
    attribute("deep_monitoring", FLAG),
    attribute("increment_var", TEXT),
    attribute("instance_var", TEXT).with_default(Default::Text("NODE_APP_INSTANCE")),
    attribute("pmx", FLAG).with_default(Default::True).keeping(),
    attribute("automation", FLAG)
        .with_default(Default::True)
        .keeping(),
    attribute("treekill", FLAG).with_default(Default::True).keeping(),
    attribute("port", NUMBER).keeping(),
    attribute("username", TEXT),
    attribute("uid", &[Type::Number, Type::Text])
        .or(&["user"])
        .keeping(),
    attribute("gid", &[Type::Number, Type::Text]).keeping(),
    attribute("windowsHide", FLAG)
        .or(&["windows_hide"])
        .with_default(Default::True)
        .keeping(),
    attribute("kill_retry_time", NUMBER).with_default(Default::Number(100)),
    attribute("write", FLAG).keeping(),
    attribute("io", OBJECT),
];
