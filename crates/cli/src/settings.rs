//! What the arguments mean here.

use upkeep_host::home::{self, Home};

use crate::{
    Program,
    args::{Command, Global, SettingsVerb},
    exit::{Advised, Exit},
    hosts::Remote,
};

/// Everything that commands need to know besides their own arguments.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) home: Home,
    pub(crate) program: Program,
    pub(crate) reason: Option<String>,
    pub(crate) wait_ms: Option<u64>,
    pub(crate) dry_run: bool,
    /// The machine that is asked instead of this one.
    pub(crate) host: Option<Remote>,
}

impl Settings {
    pub(crate) fn resolve(global: Global, command: &Command, program: Program) -> anyhow::Result<Self> {
        let host = host(global.host.as_deref(), command)?;
        let home = Home::find(&|name| std::env::var_os(name), home::uid())?;
        Ok(Self {
            home,
            program,
            reason: global.reason,
            wait_ms: global.wait.map(upkeep_model::size::Span::as_millis),
            dry_run: global.dry_run,
            host,
        })
    }

    /// The same, but nothing is done.
    pub(crate) fn dry(&self) -> Self {
        Self {
            dry_run: true,
            ..self.clone()
        }
    }

    /// What every action takes.
    pub(crate) fn options(&self) -> upkeep_api::body::ActionOptions {
        upkeep_api::body::ActionOptions {
            reason: self.reason.clone(),
            dry_run: self.dry_run,
            wait_ms: self.wait_ms,
            if_revision: None,
        }
    }
}

/// What a command asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// A daemon: here or elsewhere.
    Daemon,
    /// This machine: elsewhere it makes no sense.
    Here,
    /// Nobody: it is the same everywhere.
    Nobody,
}

const fn asks(command: &Command) -> Asks {
    match command {
        Command::Run(_) | Command::Connect { .. } => Asks::Here,
        Command::Completions(_)
        | Command::HelpAll
        | Command::Validate(_)
        | Command::Import(_)
        | Command::Host(_)
        | Command::Docs(_)
        | Command::Settings {
            verb: Some(SettingsVerb::Check { .. }),
        } => Asks::Nobody,
        _ => Asks::Daemon,
    }
}

/// The machine that `--host` names, or `UPKEEP_HOST` where that is not given.
fn host(flag: Option<&str>, command: &Command) -> anyhow::Result<Option<Remote>> {
    let variable = std::env::var("UPKEEP_HOST").ok().filter(|name| !name.is_empty());
    let Some(name) = flag.or(variable.as_deref()) else {
        return Ok(None);
    };
    match asks(command) {
        Asks::Daemon => Remote::find(name).map(Some),
        Asks::Nobody if flag.is_none() => Ok(None),
        Asks::Nobody | Asks::Here => {
            let text = "this verb is about this machine: it cannot be run on another one";
            let hint = if flag.is_some() {
                "leave `--host` out"
            } else {
                "unset `UPKEEP_HOST`"
            };
            Err(Advised::new(Exit::Usage, text).hint(hint).into())
        }
    }
}
