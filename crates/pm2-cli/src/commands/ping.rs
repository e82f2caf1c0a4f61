//! `ping`: starts the daemon if it does not run, and asks whether it is there.

use serde_json::json;

use crate::{
    args::Invocation,
    context::{Context, Failure},
};

pub(super) fn ping(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    let answer = context.call("ping", json!({}))?;
    context.print(upkeep_pm2::inspect::inspect(&answer))
}
