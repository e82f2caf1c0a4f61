//! The commands of PM2's hosted service. It is not part of this tool: they answer quickly and touch nothing.

use crate::{
    args::Invocation,
    context::{Context, Failure},
};

const PREFIX: &str = "[PM2 I/O]";
const WORDS: &str = "The hosted service pm2.io is not part of this tool: nothing is sent anywhere";

fn say(context: &Context, text: &str) -> Result<(), Failure> {
    context.print(format_args!("{} {text}", context.style.cyan(PREFIX)))
}

fn refuse(context: &Context) -> Failure {
    use std::io::Write as _;
    // The exit code tells as well.
    let _ = writeln!(std::io::stderr().lock(), "{} {WORDS}", context.style.cyan(PREFIX));
    Failure::said(1)
}

/// `link delete` is at the head of many scripts, and always works.
pub(super) fn link(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    match invocation.operands.first().map(String::as_str) {
        Some("delete") => {
            say(context, "Permanently disable agent...")?;
            say(context, "No interaction config file found")
        }
        _ => Err(refuse(context)),
    }
}

pub(super) fn unlink(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    say(context, "Permanently disable agent...")?;
    say(context, "No interaction config file found")
}

pub(super) fn logout(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    say(context, "Already disconnected")
}

/// `plus register login open`: what needs an account.
pub(super) fn account(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    Err(refuse(context))
}

/// `install-otel`, `uninstall-otel`: packages for PM2's own folder, which is not here.
pub(super) fn tracing(_: &mut Context, _: &Invocation) -> Result<(), Failure> {
    Err(Failure::new(
        "tracing of requests is not part of this tool: add the OpenTelemetry packages to the app itself",
    ))
}

/// `start --container`.
pub(super) const CONTAINER: &str =
    "--container is not supported: write a Dockerfile with `CMD [\"pm2-runtime\", \"app.js\"]`";
