//! What the arguments mean here.

use upkeep_host::home::{self, Home};

use crate::{
    Program,
    args::{AlertVerb, CertVerb, Command, ConfigVerb, Global, HostVerb, SettingsVerb},
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
        if global.dry_run
            && let Some(hint) = without_dry_run(command)
        {
            let text = "this verb does what it does: it cannot only say what it would do";
            let hint = format!("leave `--dry-run` out; {hint}");
            return Err(Advised::new(Exit::Usage, text).hint(hint).into());
        }
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

/// What to do instead, for verbs that change something and do not know `--dry-run`. All others that change something do know it;
/// those that only look change nothing anyway.
const fn without_dry_run(command: &Command) -> Option<&'static str> {
    match command {
        Command::Import(_) => Some("`-o -` prints the file instead of writing it"),
        Command::Run(_) => Some("`upkeep validate FILE` checks the file"),
        Command::Upgrade(_) => Some("`upkeep ping` tells which version runs"),
        Command::Heap(_) | Command::Profile(_) => Some("nothing is changed but that a file is written"),
        Command::Host(HostVerb::Add(_) | HostVerb::Rm { .. }) => Some("`upkeep host ls` tells what there is"),
        Command::Alert(AlertVerb::Unsilence { .. }) => Some("`upkeep alert ls` tells what is silenced"),
        Command::Cert(CertVerb::ExportCa { output: Some(_) }) => {
            Some("without `-o` the certificate is printed")
        }
        Command::Config(ConfigVerb::KeepAlive { .. }) => Some("the lease only begins its time anew"),
        Command::Start(_)
        | Command::Apply(_)
        | Command::Diff(_)
        | Command::Docs(_)
        | Command::Stop(_)
        | Command::Restart(_)
        | Command::Reload(_)
        | Command::Scale(_)
        | Command::Rollback(_)
        | Command::Delete(_)
        | Command::Ls(_)
        | Command::Show(_)
        | Command::Metrics(_)
        | Command::Why(_)
        | Command::Sandbox(_)
        | Command::Schedule(_)
        | Command::Settings { .. }
        | Command::Config(_)
        | Command::Web(_)
        | Command::Cert(_)
        | Command::Host(_)
        | Command::Connect { .. }
        | Command::Alert(_)
        | Command::Logs(_)
        | Command::Tree
        | Command::Monit(_)
        | Command::Events(_)
        | Command::Audit(_)
        | Command::Token(_)
        | Command::Role(_)
        | Command::Whoami
        | Command::Ping
        | Command::Kill
        | Command::Shutdown
        | Command::Save
        | Command::Resurrect
        | Command::Validate(_)
        | Command::Completions(_)
        | Command::HelpAll => None,
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
