//! Exits as events: known once, whatever is killed when.
//!
//! An exit becomes durable in the event log before the keeper is told to forget it. If a daemon is killed in between,
//! its successor is told of the exit again and recognises it by its id.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::mpsc;
use upkeep_api::body::Event as LogEvent;
use upkeep_keeper::protocol::{Ended, ExitRecord, Request};
use upkeep_model::{exit::Exit, restart::RestartPolicy, state::Actual};
use upkeep_store::Txn;
use upkeep_supervise::instance::{Ending, Instance};

use crate::{events::Events, keeper_link::KeeperLink};

/// Detail of an exit that was not ordered and is no success.
pub(crate) const ABNORMAL: &str = "abnormal";
/// Detail of an exit: the check that had it ended.
pub(crate) const UNHEALTHY: &str = "unhealthy";
/// Detail of an exit: the state that it led to.
pub(crate) const THEN: &str = "then";

/// SIGKILL.
const KILL: u8 = 9;

/// The keeper's words as ours.
pub(crate) fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Code(code) => Exit::Code(code),
        Ended::Signal { number, core } => Exit::Signal { number, core },
        Ended::Unknown => Exit::Unknown,
    }
}

/// The same, with what else the record tells: whether the kernel killed for want of memory.
pub(crate) fn exit_of(record: &ExitRecord) -> Exit {
    match record.how {
        Ended::Signal { number: KILL, .. } if record.oom_kills > 0 => Exit::OutOfMemory,
        how => exit(how),
    }
}

/// What an exit means, and what follows from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meaning {
    /// Nobody ordered it and it is no success: there will be a dossier of it.
    pub(crate) abnormal: bool,
    /// The check that had it ended.
    pub(crate) unhealthy: Option<String>,
    /// The state that it led to.
    pub(crate) then: Option<Actual>,
}

impl Meaning {
    /// Of an instance that was in the state of `machine`.
    pub(crate) fn of(machine: &Instance, record: &ExitRecord, policy: &RestartPolicy) -> Self {
        match machine.ending() {
            Ending::Ordered => Self::default(),
            Ending::Unhealthy(why) => Self {
                abnormal: true,
                unhealthy: Some(why.to_owned()),
                then: None,
            },
            Ending::ByItself => Self {
                abnormal: match exit_of(record) {
                    Exit::Code(code) => {
                        !policy.success_codes.contains(&code) && !policy.stop_codes.contains(&code)
                    }
                    Exit::Signal { .. } | Exit::OutOfMemory => true,
                    // The keeper was away: nothing is known of it, also not whether it was ordered.
                    Exit::Unknown => false,
                },
                ..Self::default()
            },
        }
    }
}

/// The event of an exit of `target` (`shop:0`).
pub(crate) fn event(
    target: &str,
    record: &ExitRecord,
    epoch: u64,
    verdict: String,
    meaning: Meaning,
) -> LogEvent {
    let how = exit_of(record);
    let mut details = BTreeMap::new();
    let mut put = |name: &str, value: serde_json::Value| details.insert(name.to_owned(), value);
    put("exit", serde_json::to_value(how).unwrap_or_default());
    put("pid", record.pid.into());
    put("exit_id", id(epoch, record.seq).into());
    put(
        "uptime_ms",
        record
            .exited_mono_ms
            .saturating_sub(record.started_mono_ms)
            .into(),
    );
    put("user_ms", (record.usage.user_us / 1000).into());
    put("system_ms", (record.usage.system_us / 1000).into());
    put("max_rss_bytes", (record.usage.max_rss_kib * 1024).into());
    if record.oom_kills > 0 {
        put("oom_kills", record.oom_kills.into());
    }
    if record.leftovers {
        put("leftovers", true.into());
    }
    if meaning.abnormal {
        put(ABNORMAL, true.into());
    }
    if let Some(why) = meaning.unhealthy {
        put(UNHEALTHY, why.into());
    }
    if let Some(then) = meaning.then {
        put(THEN, serde_json::to_value(then).unwrap_or_default());
    }
    LogEvent {
        id: 0,
        at: record.exited_unix_ms as f64 / 1000.0,
        who: "upkeep".to_owned(),
        what: "exited".to_owned(),
        target: target.to_owned(),
        why: how.to_string(),
        result: verdict,
        details,
    }
}

/// What an exit is recognised by if the keeper tells of it again.
pub(crate) fn id(epoch: u64, seq: u64) -> String {
    format!("{epoch:x}:{seq}")
}

/// What became of an exit that was to be stored.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is durable: the keeper may forget it.
    Stored { seq: u64 },
    /// The disk refused it.
    Refused { seq: u64, event: Box<LogEvent> },
}

/// How many outcomes may wait to be looked at: more than the keeper ever holds of exits.
pub(crate) const OUTCOMES: usize = 1 << 17;

/// Pause before an exit that the disk refused is tried again.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// Hands an exit to the store; what becomes of it comes as an [`Outcome`]. Does not wait.
pub(crate) fn store(events: &Events, outcomes: &mpsc::Sender<Outcome>, event: LogEvent, seq: u64) {
    let outcomes = outcomes.clone();
    let again = Box::new(event.clone());
    events.commit(Txn::default(), event, move |result| {
        let outcome = match result {
            Ok(_) => Outcome::Stored { seq },
            // The daemon is ending; the next one is told of the exit once more.
            Err(upkeep_store::StoreError::Closed) => return,
            Err(_) => Outcome::Refused { seq, event: again },
        };
        // There is room for more than there can be; and if the daemon is ending, the next one is told once more.
        let _ = outcomes.try_send(outcome);
    });
}

/// Lets the keeper forget what is durable, and tries again what the disk refused: all of it together, after a pause.
pub(crate) async fn settle(
    events: &Events,
    link: &KeeperLink,
    outcomes: &mpsc::Sender<Outcome>,
    inbox: &mut mpsc::Receiver<Outcome>,
) {
    let mut refused = Vec::new();
    let mut again_at = tokio::time::Instant::now();
    loop {
        let next = if refused.is_empty() {
            inbox.recv().await
        } else {
            // Cancel-safe: a message is taken only when it is returned.
            match tokio::time::timeout_at(again_at, inbox.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    for (seq, event) in std::mem::take(&mut refused) {
                        store(events, outcomes, event, seq);
                    }
                    continue;
                }
            }
        };
        match next {
            Some(Outcome::Stored { seq }) => link.tell(&Request::AckExit { seq }),
            Some(Outcome::Refused { seq, event }) => {
                if refused.is_empty() {
                    again_at = tokio::time::Instant::now() + PAUSE;
                }
                refused.push((seq, *event));
            }
            None => return,
        }
    }
}
