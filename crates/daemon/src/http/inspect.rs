//! Heap snapshots and profiles: the file is the answer.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::sync::{mpsc, oneshot};
use upkeep_api::{
    error::Code,
    inspect::{HeapRequest, ProfileRequest},
};
use upkeep_model::id::AppName;
use upkeep_sys::{pid::Pid, process};

use super::{
    Shared,
    error::ApiError,
    gate::Caller,
    routes::{Answer, parse},
};
use crate::{
    apps::{
        director::{log_machine_event, machine_event},
        directory::AppEntry,
    },
    command::{Principal, Refusal},
    inspect::{self, Recording},
};

/// Pieces of a file that may wait for a slow client; the program waits behind them.
const PIECES: usize = 8;
/// Profile this long unless told otherwise.
const DURATION_MS: u64 = 10_000;
/// And at most: the program keeps all samples until then.
const DURATION_MAX_MS: u64 = 600_000;
/// Look this often unless told otherwise.
const INTERVAL_US: u64 = 1000;

pub(super) async fn heap(caller: Caller, Path(name): Path<String>, body: Bytes) -> Answer {
    let (name, entry) = caller.app(&name)?;
    let Caller { shared, permit, .. } = caller;
    let asked: HeapRequest = parse(&body)?;
    let (index, pid) = instance(&name, &entry, asked.index)?;
    let recording = match asked.sampling_ms {
        Some(span) => Recording::Allocations(duration(span)?),
        None => {
            if !asked.force {
                room_for_snapshot(&shared, (&name, index), &entry, pid)?;
            }
            Recording::Snapshot
        }
    };
    answer(
        &shared,
        permit.who().clone(),
        (&name, index, pid),
        recording,
        asked.reason,
    )
    .await
}

pub(super) async fn profile(caller: Caller, Path(name): Path<String>, body: Bytes) -> Answer {
    let (name, entry) = caller.app(&name)?;
    let Caller { shared, permit, .. } = caller;
    let asked: ProfileRequest = parse(&body)?;
    let (index, pid) = instance(&name, &entry, asked.index)?;
    let interval = asked.interval_us.unwrap_or(INTERVAL_US);
    if !(50..=1_000_000).contains(&interval) {
        let message = format!("failed to profile `{name}`: an interval of {interval} µs");
        return Err(Refusal::new(Code::Invalid, message)
            .hint("between 50 and 1,000,000")
            .into());
    }
    let recording = Recording::Cpu(duration(asked.duration_ms.unwrap_or(DURATION_MS))?, interval);
    answer(
        &shared,
        permit.who().clone(),
        (&name, index, pid),
        recording,
        asked.reason,
    )
    .await
}

fn duration(millis: u64) -> Result<Duration, ApiError> {
    if (1..=DURATION_MAX_MS).contains(&millis) {
        return Ok(Duration::from_millis(millis));
    }
    Err(Refusal::new(
        Code::Invalid,
        format!("failed to record for {millis} ms: at least 1 and at most {DURATION_MAX_MS}"),
    )
    .into())
}

/// The instance that is meant, and its process.
fn instance(name: &AppName, entry: &AppEntry, index: Option<u32>) -> Result<(u32, u32), ApiError> {
    let status = entry.status.borrow();
    let found = status
        .instances
        .iter()
        .filter(|instance| index.is_none_or(|index| index == instance.index))
        .find_map(|instance| Some((instance.index, instance.view.pid?)));
    found.ok_or_else(|| {
        let which = index.map_or_else(|| name.to_string(), |index| format!("{name}:{index}"));
        Refusal::new(
            Code::Conflict,
            format!("failed to look into `{which}`: it does not run"),
        )
        .hint("`upkeep ls` shows what runs")
        .into()
    })
}

/// A snapshot can take as much memory again as the program has. Over a limit that would be its end.
fn room_for_snapshot(
    shared: &Shared,
    (name, index): (&AppName, u32),
    entry: &AppEntry,
    pid: u32,
) -> Result<(), ApiError> {
    let Some(limit) = entry
        .record
        .spec
        .limits
        .memory
        .map(upkeep_model::size::ByteSize::as_bytes)
    else {
        return Ok(());
    };
    // The limit is of the whole tree, and the program may be a child of what was started. What has just begun has not
    // been looked at yet.
    let tree = shared.metrics.newest(Some((name, index)), "memory");
    let resident = tree.map_or(0, bytes).max(
        Pid::from_unsigned(pid)
            .and_then(|pid| process::stat(pid).ok())
            .map_or(0, |stat| stat.resident_pages * process::page_size() as u64),
    );
    if resident.saturating_mul(2) <= limit {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(Refusal::new(
        Code::Conflict,
        format!(
            "refused: a snapshot of `{name}` may take as much memory again as it has ({} MiB), and its limit is {} MiB",
            mib(resident),
            mib(limit)
        ),
    )
    .hint("raise `limits.memory` for a while, sample allocations instead (`--sampling 30s`), or insist with `--force`")
    .into())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
fn bytes(figure: f64) -> u64 {
    figure as u64
}

async fn answer(
    shared: &Arc<Shared>,
    who: Principal,
    (name, index, pid): (&AppName, u32, u32),
    recording: Recording,
    reason: Option<String>,
) -> Answer {
    let target = format!("{name}:{index}");
    let what = format!("`{target}`");
    let (sender, receiver) = mpsc::channel(PIECES);
    let (told, opened) = oneshot::channel();
    let events = shared.events.clone();
    // A task of its own: a caller who hangs up must not leave an inspector open behind.
    let work = async move {
        let ready = match inspect::open(pid, &what).await {
            Ok(ready) => ready,
            Err(refusal) => {
                // If whoever asked has gone, nobody needs to know.
                let _ = told.send(Err(refusal));
                return;
            }
        };
        if told.send(Ok(ready.pid)).is_err() {
            ready.close().await;
            return;
        }
        let result = match inspect::record(ready, recording, sender).await {
            Ok(bytes) => format!("{bytes} bytes"),
            Err(why) => format!("failed: {why}"),
        };
        let mut event = machine_event(&who, recording.word(), reason.as_deref(), &result);
        event.target = target;
        log_machine_event(&events, event);
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with its recording, on the HTTP runtime, which owns nothing else"
    )]
    drop(tokio::spawn(work));
    let node = opened
        .await
        .map_err(|_| Refusal::new(Code::Unavailable, "the daemon is ending"))??;
    let file = format!("{name}-{index}-{node}.{}", recording.extension());
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{file}\""),
        ),
    ];
    let response: Response = (headers, Body::from_stream(pieces)).into_response();
    Ok(response)
}
