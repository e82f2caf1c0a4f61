//! Exits as events: known once, whatever is killed when.
//!
//! An exit becomes durable in the event log before the keeper is told to forget it. If a daemon is killed in between,
//! its successor is told of the exit again and recognises it by its id.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::mpsc;
use upkeep_api::body::Event as LogEvent;
use upkeep_keeper::protocol::{Ended, ExitRecord};
use upkeep_model::{exit::Exit, id::AppName};
use upkeep_store::Txn;

use crate::events::Events;

/// The keeper's words as ours.
pub(crate) fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Code(code) => Exit::Code(code),
        Ended::Signal { number, core } => Exit::Signal { number, core },
        Ended::Unknown => Exit::Unknown,
    }
}

/// The event of an exit.
pub(crate) fn event(app: &AppName, index: u32, record: &ExitRecord, epoch: u64, verdict: String) -> LogEvent {
    let how = exit(record.how);
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
    if record.leftovers {
        put("leftovers", true.into());
    }
    LogEvent {
        id: 0,
        at: record.exited_unix_ms as f64 / 1000.0,
        who: "upkeep".to_owned(),
        what: "exited".to_owned(),
        target: format!("{app}:{index}"),
        why: how.to_string(),
        result: verdict,
        details,
    }
}

/// What an exit is recognised by if the keeper tells of it again.
pub(crate) fn id(epoch: u64, seq: u64) -> String {
    format!("{epoch:x}:{seq}")
}

/// Commits an exit and acknowledges it; a refusal of the disk leaves it with the keeper for another try.
pub(crate) fn store(events: &Events, acknowledge: &mpsc::Sender<u64>, event: LogEvent, seq: u64) {
    let acknowledge = acknowledge.clone();
    let again = (events.clone(), event.clone());
    events.commit(Txn::default(), event, move |result| match result {
        Ok(_) => {
            // The daemon is ending; the next one is told of the exit once more, and recognises it.
            let _ = acknowledge.blocking_send(seq);
        }
        Err(upkeep_store::StoreError::Closed) => {}
        Err(_) => {
            let (events, event) = again;
            // This runs on the writer's own thread: it may not wait here, and a timer is at hand nowhere else.
            let retry = std::thread::Builder::new()
                .name("exit-retry".to_owned())
                .stack_size(64 << 10)
                .spawn(move || {
                    std::thread::park_timeout(Duration::from_secs(1));
                    store(&events, &acknowledge, event, seq);
                });
            // Without a thread the exit stays with the keeper until the next daemon.
            drop(retry);
        }
    });
}
