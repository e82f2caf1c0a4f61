//! The environment of an app.
//!
//! An app inherits the environment of whoever starts it, as PM2's users expect: `DATABASE_URL=… upkeep start` works.
//! What belongs to the caller's terminal session alone is left out: a program that runs on after the session has
//! ended must not think that it has a terminal, a display or an agent, and a deploy from another terminal must not
//! look like another environment.

use std::collections::BTreeMap;

use super::{Context, command::Command, join};
use crate::file::{
    Fault, FileError, Style, dotenv,
    v1::{App, OneOrMany},
};

/// Variables that are not inherited.
pub const SESSION_VARIABLES: [&str; 30] = [
    "_",
    "OLDPWD",
    "PWD",
    "SHLVL",
    "TERM",
    "COLORTERM",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "TERMCAP",
    "COLUMNS",
    "LINES",
    "PS1",
    "PS2",
    "PROMPT_COMMAND",
    "LS_COLORS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "WINDOWID",
    "STY",
    "WINDOW",
    "MAIL",
    "DBUS_SESSION_BUS_ADDRESS",
    "GPG_AGENT_INFO",
    "GPG_TTY",
    "NOTIFY_SOCKET",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "MAINPID",
    "WATCHDOG_USEC",
];

/// Variables that are not inherited if they start like this.
pub const SESSION_PREFIXES: [&str; 9] = [
    "SSH_",
    "TMUX",
    "XDG_SESSION_",
    "XDG_SEAT",
    "XDG_VTNR",
    "VTE_",
    "UPKEEP_",
    "NODE_CHANNEL_",
    "LISTEN_",
];

/// The caller's environment without what belongs to its session.
pub fn inherited(caller: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    caller
        .iter()
        .filter(|(name, _)| {
            !SESSION_VARIABLES.contains(&name.as_str())
                && !SESSION_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                && !name.starts_with("BASH_FUNC_")
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// What was asked for: from files, from `env`, and for the interpreter.
pub(super) fn resolve(
    app: &App,
    context: &Context<'_>,
    command: &Command,
) -> Result<BTreeMap<String, String>, FileError> {
    let mut env = BTreeMap::new();
    if command.python {
        env.insert("PYTHONUNBUFFERED".to_owned(), "1".to_owned());
    }
    let (files, place) = match &app.env_file {
        None if context.style == Style::Procfile => {
            let path = join(&context.facts.file_dir, ".env");
            // Beside a Procfile it need not be there.
            if let Ok(text) = (context.facts.read_file)(&path) {
                env.extend(dotenv::parse(&text).map_err(|fault| fault.in_file(&path.to_string_lossy()))?);
            }
            (Vec::new(), None)
        }
        None => (Vec::new(), None),
        Some(files) => match &files.value {
            OneOrMany::One(file) => (vec![file.clone()], files.position),
            OneOrMany::Many(list) => (list.clone(), files.position),
        },
    };
    for file in files {
        let path = join(&context.facts.file_dir, &file);
        let text = (context.facts.read_file)(&path).map_err(|error| {
            Fault::new(
                place,
                format!("failed to read `{}` of `env_file`: {error}", path.display()),
            )
            .in_file(context.path)
        })?;
        env.extend(dotenv::parse(&text).map_err(|fault| fault.in_file(&path.to_string_lossy()))?);
    }
    for (name, value) in app.env.iter().flatten() {
        if name.is_empty() || name.contains(['=', '\0']) || value.0.contains('\0') {
            let message = format!("`{}` of `env` cannot be a variable", name.escape_debug());
            return Err(Fault::new(None, message).in_file(context.path));
        }
        env.insert(name.clone(), value.0.clone());
    }
    Ok(env)
}
