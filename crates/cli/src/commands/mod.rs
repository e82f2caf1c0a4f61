//! One module for each family of verbs.

mod access;
mod act;
mod alert;
mod cert;
mod config;
mod docs;
mod follow;
mod foreground;
mod host;
mod import;
mod inspect;
pub(crate) mod look;
mod machine;
mod metrics;
pub(crate) mod read;
mod sandbox;
mod schedule;
mod settings;
mod start;
mod web;
mod why;

pub(crate) use self::access::{pattern, place_of, verbs};
use crate::{
    args::{Command, RolloutFlags, Sandbox, SettingsVerb},
    exit::Exit,
    output::Output,
    settings::Settings,
};

/// Runs a command on a runtime of its own.
pub(crate) fn run(command: Command, settings: &Settings, output: &Output) -> anyhow::Result<Exit> {
    let output = *output;
    match command {
        Command::Completions(completions) => return machine::completions(&completions),
        Command::HelpAll => return machine::help_all(output),
        Command::Validate(validate) => return start::validate(&validate, output),
        Command::Import(import) => return import::import(&import, output),
        Command::Docs(verb) => return docs::run(&verb, settings.dry_run, output),
        Command::Settings {
            verb: Some(SettingsVerb::Check { file }),
        } => return self::settings::check(&file, output),
        Command::Sandbox(Sandbox::Levels) => return sandbox::levels(output),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            Command::Start(start) => start::start(start, settings, output, false).await,
            Command::Restart(start) => start::start(start, settings, output, true).await,
            Command::Apply(apply) => start::files(&apply.files, &apply.rollout, settings, output).await,
            Command::Diff(files) => {
                start::files(&files, &RolloutFlags::default(), &settings.dry(), output).await
            }
            Command::Reload(reload) => act::reload(reload, settings, output).await,
            Command::Scale(scale) => act::scale(scale, settings, output).await,
            Command::Rollback(rollback) => act::rollback(rollback, settings, output).await,
            Command::Stop(selectors) => act::act("stop", selectors.selectors, settings, output).await,
            Command::Delete(selectors) => act::act("delete", selectors.selectors, settings, output).await,
            Command::Ls(ls) => look::ls(&ls, settings, output).await,
            Command::Show(one) => look::show(&one.app, settings, output).await,
            Command::Sandbox(Sandbox::Score(one)) => sandbox::score(&one.app, settings, output).await,
            Command::Metrics(asked) => metrics::metrics(&asked, settings, output).await,
            Command::Why(why) => why::why(&why, settings, output).await,
            Command::Schedule(verb) => schedule::run(verb, settings, output).await,
            Command::Heap(heap) => inspect::heap(heap, settings, output).await,
            Command::Profile(profile) => inspect::profile(profile, settings, output).await,
            Command::Settings { verb } => self::settings::run(verb, settings, output).await,
            Command::Config(verb) => config::run(verb, settings, output).await,
            Command::Web(web) => web::run(web, settings, output).await,
            Command::Cert(verb) => cert::run(verb, settings, output).await,
            Command::Host(verb) => host::run(verb, output).await,
            Command::Connect { start } => host::connect(start, settings).await,
            Command::Alert(verb) => alert::run(verb, settings, output).await,
            Command::Tree => look::tree(settings, output).await,
            Command::Monit(monit) => crate::monit::run(&monit, settings, output).await,
            Command::Logs(logs) => read::logs(&logs, settings, output).await,
            Command::Events(events) => read::events("/v1/events", &events, settings, output).await,
            Command::Audit(events) => read::events("/v1/audit", &events, settings, output).await,
            Command::Token(verb) => access::token(verb, settings, output).await,
            Command::Role(verb) => access::role(verb, settings, output).await,
            Command::Whoami => access::whoami(settings, output).await,
            Command::Ping => machine::ping(settings, output).await,
            Command::Kill => machine::end("kill", settings, output).await,
            Command::Shutdown => machine::end("shutdown", settings, output).await,
            Command::Save => act::snapshot("PUT", "/v1/snapshot", settings, output).await,
            Command::Resurrect => act::snapshot("POST", "/v1/snapshot/restore", settings, output).await,
            Command::Run(run) => foreground::run(&run, settings, output).await,
            Command::Upgrade(upgrade) => machine::upgrade(&upgrade, settings, output).await,
            Command::Sandbox(Sandbox::Levels)
            | Command::Completions(_)
            | Command::HelpAll
            | Command::Validate(_)
            | Command::Docs(_)
            | Command::Import(_) => Ok(Exit::Done),
        }
    })
}
