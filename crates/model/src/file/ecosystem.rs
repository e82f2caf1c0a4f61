//! PM2's ecosystem files: its names, its defaults, our form.
//!
//! What PM2 does by default is written out here, so that an app from such a file behaves as PM2's users know it:
//! SIGINT and 1600 ms to stop, the signal to the whole tree, restarts at once, given up after 16 unstable exits.
//! Keys that PM2 does not know are dropped in silence, as PM2 does; keys that we know and do not honour yet give a
//! warning.

use std::collections::BTreeMap;

use super::{
    At, Fault,
    tree::{Entry, Node, Value},
    v1::{
        App, BackoffSpec, Codes, GiveUpSpec, Instances, Logs, OneOrMany, Readiness, Restart, RestartSpec,
        RolloutSpec, Scalar, SignalName, Stop,
    },
};
use crate::{
    listen::Mode,
    restart::RestartOn,
    size::{ByteSize, Span},
};

mod keys;

/// SIGINT.
const PM2_KILL_SIGNAL: i32 = 2;

/// `maxMemoryRestart` → `max_memory_restart`.
pub fn snake_case(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    for character in key.chars() {
        if character.is_ascii_uppercase()
            && !out.is_empty()
            && !out.ends_with('_')
            && !key.starts_with("env_")
        {
            out.push('_');
            out.push(character.to_ascii_lowercase());
        } else {
            out.push(character);
        }
    }
    out
}

/// Reads a PM2 file: its apps, and what of it is not honoured.
pub fn read(tree: &Node) -> Result<(Vec<At<App>>, Vec<String>), Fault> {
    let mut warnings = Vec::new();
    for key in ["deploy", "static"] {
        if tree.get(key).is_some() {
            warnings.push(format!("`{key}` is not honoured yet"));
        }
    }
    let apps = tree.get("apps").or_else(|| tree.get("pm2")).unwrap_or(tree);
    let one;
    let list = match &apps.value {
        Value::List(items) => items.as_slice(),
        Value::Map(_) => {
            one = [apps.clone()];
            &one
        }
        _ => {
            return Err(Fault::new(
                apps.at,
                format!("expected apps, found {}", apps.kind()),
            ));
        }
    };
    let apps = list
        .iter()
        .map(|node| app(node, &mut warnings))
        .collect::<Result<Vec<_>, _>>()?;
    if apps.is_empty() {
        return Err(Fault::new(tree.at, "no app is described here"));
    }
    Ok((apps, warnings))
}

/// What PM2 does where nothing is said.
pub fn pm2_defaults(app: &mut App) {
    let stop = &mut app.stop.get_or_insert_with(|| Stop::default().into()).value;
    stop.signal.get_or_insert(SignalName(PM2_KILL_SIGNAL));
    stop.grace.get_or_insert(Span::from_millis(1600));
    stop.tree.get_or_insert(true);
    let RestartSpec {
        delay,
        backoff,
        give_up_after,
        min_uptime,
        max_restarts,
        ..
    } = &mut app
        .restart
        .get_or_insert_with(|| Restart::default().into())
        .value
        .0;
    if delay.is_none() {
        backoff.get_or_insert(BackoffSpec::None);
    }
    give_up_after.get_or_insert(GiveUpSpec::Never);
    min_uptime.get_or_insert(Span::from_millis(1000));
    max_restarts.get_or_insert(16);
}

/// What is gathered before the policies can be put together.
#[derive(Default)]
struct Gathered {
    app: App,
    restart: RestartSpec,
    exponential: Option<Span>,
    stop: Stop,
    logs: Logs,
    combined_log: Option<String>,
    port: Option<String>,
}

fn app(node: &Node, warnings: &mut Vec<String>) -> Result<At<App>, Fault> {
    if !matches!(node.value, Value::Map(_)) {
        return Err(Fault::new(
            node.at,
            format!("expected an app, found {}", node.kind()),
        ));
    }
    let label = node
        .get("name")
        .or_else(|| node.get("script"))
        .and_then(Node::as_text)
        .unwrap_or("?")
        .to_owned();
    let mut gathered = Gathered::default();
    for entry in node.entries() {
        if matches!(entry.node.value, Value::Null) {
            continue;
        }
        keys::take(&mut gathered, entry, &mut |what: &str| {
            warnings.push(format!("app `{label}`: {what}"));
        })?;
    }
    Ok(At {
        value: gathered.finish(),
        position: Some(node.at),
    })
}

impl Gathered {
    fn finish(mut self) -> App {
        if let Some(min) = self.exponential.filter(|_| self.restart.delay.is_none()) {
            self.restart.backoff = Some(growing(min));
        }
        if self.combined_log.is_some() && self.logs.out.is_none() && self.logs.err.is_none() {
            self.logs.out.clone_from(&self.combined_log);
            self.logs.err = self.combined_log;
        }
        if let Some(port) = self.port {
            self.app
                .env
                .get_or_insert_default()
                .insert("PORT".to_owned(), Scalar(port));
        }
        self.app.restart = Some(Restart(self.restart).into());
        self.app.stop = Some(self.stop.into());
        if self.logs != Logs::default() {
            self.app.logs = Some(self.logs);
        }
        pm2_defaults(&mut self.app);
        self.app
    }
}

/// PM2's growing pause: by half each time, to 15 s, reset after 30 s.
fn growing(min: Span) -> BackoffSpec {
    BackoffSpec::Growing(super::v1::Growing {
        min: Some(min),
        max: Some(Span::from_secs(15)),
        factor: Some(1.5),
        reset_after: Some(Span::from_secs(30)),
    })
}
