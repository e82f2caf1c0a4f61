//! Looks into Node programs that run: heap snapshots and profiles, as files that Chrome's developer tools open.
//!
//! # Theory of operation
//!
//! Node opens its inspector when it gets SIGUSR1: a WebSocket on loopback that speaks the protocol of Chrome's developer
//! tools (<https://chromedevtools.github.io/devtools-protocol/>, domains `HeapProfiler`, `Profiler` and `Runtime`). [`target`]
//! finds the process of an instance that is Node and has a handler for that signal (to any other program it would be the
//! end), and sends it; [`session`] speaks. What the program answers goes to the caller as it comes: the daemon holds one
//! message at a time. Afterwards the inspector is closed again, unless it was open before.
//!
//! While it is open, any user of the machine can connect to it and run code as the app: so it is open for as long as the
//! recording takes and no longer, also if the caller hangs up, and one that opens too late is closed when it does. If the
//! daemon ends meanwhile, it stays open until the program ends; `heap` and `profile` then find it open and leave it so.
//!
//! One recording of a process at a time. A snapshot stops the program while it is taken.

mod session;
mod target;

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_tungstenite::tungstenite::Bytes;
use upkeep_api::error::Code;

use self::session::{Session, SessionError};
use crate::command::Refusal;

/// How long a program may take to close its inspector, and between two looks.
const CLOSING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recording {
    /// All objects that are alive.
    Snapshot,
    /// What is allocated for this long.
    Allocations(Duration),
    /// Where processor time goes for this long, looked at every so many µs.
    Cpu(Duration, u64),
}

impl Recording {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "heap snapshot",
            Self::Allocations(_) => "allocation profile",
            Self::Cpu(..) => "processor profile",
        }
    }

    /// What its file is called by those who read it.
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Snapshot => "heapsnapshot",
            Self::Allocations(_) => "heapprofile",
            Self::Cpu(..) => "cpuprofile",
        }
    }
}

/// Pieces of the file; an error breaks the answer off.
pub(crate) type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// How often a connection to an inspector is tried, and the pause between.
const CONNECTS: u32 = 5;
const AGAIN: Duration = Duration::from_millis(200);

/// Processes that are looked into now.
static AT_WORK: Mutex<Option<HashSet<u32>>> = Mutex::new(None);

/// A process that is ours to look into until this goes.
#[derive(Debug)]
struct Claim(u32);

impl Claim {
    fn on(pid: u32) -> Option<Self> {
        let mut all = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_or_insert_default().insert(pid).then(|| Self(pid))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_or_insert_default().remove(&self.0);
    }
}

/// A program that is ready to be recorded.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    session: Session,
    /// Where it is inspected.
    address: SocketAddr,
    /// We opened the inspector, so we close it.
    opened: bool,
    _claim: Claim,
}

/// Opens the inspector of the Node process of an instance.
pub(crate) async fn open(instance: u32, what: &str) -> Result<Ready, Refusal> {
    let found = tokio::task::spawn_blocking(move || target::find(instance))
        .await
        .map_err(|_| Refusal::new(Code::Unavailable, "the daemon is ending"))?;
    let refuse = |why: target::Refused| {
        Refusal::new(Code::Conflict, format!("failed to look into {what}: {}", why.why)).hint(&why.hint)
    };
    let node = found.map_err(refuse)?;
    let pid = node.pid;
    let claim = Claim::on(pid).ok_or_else(|| {
        Refusal::new(
            Code::Conflict,
            format!("failed to look into {what}: somebody is recording process {pid} already"),
        )
        .hint("wait until that has ended")
    })?;
    let (address, opened) = target::inspector(node).await.map_err(refuse)?;
    let mut tries = 0;
    let session = loop {
        tries += 1;
        match Session::connect(address).await {
            Ok(session) => break session,
            // It may have been open for a moment only; and if we had it opened, it must be closed again.
            Err(_) if tries < CONNECTS => tokio::time::sleep(AGAIN).await,
            Err(error) => {
                return Err(Refusal::new(
                    Code::Conflict,
                    format!(
                        "failed to look into {what}: the inspector of process {pid} at {address}: {error}"
                    ),
                ));
            }
        }
    };
    Ok(Ready {
        pid,
        session,
        address,
        opened,
        _claim: claim,
    })
}

/// Records, hands over the file piece by piece, and closes the inspector. Tells how many bytes there were.
pub(crate) async fn record(mut ready: Ready, recording: Recording, pieces: Pieces) -> Result<u64, String> {
    let outcome = run(&mut ready.session, recording, &pieces).await;
    let pid = ready.pid;
    let closed = ready.close().await;
    if let Err(error) = &outcome {
        // The caller sees that the answer broke off; the event says why.
        let _ = pieces.try_send(Err(io::Error::other(error.to_string())));
    }
    match outcome {
        Ok(bytes) if closed => Ok(bytes),
        Ok(_) => Err(format!(
            "the file is whole, but the inspector of process {pid} may still be open"
        )),
        Err(error) => Err(error.to_string()),
    }
}

impl Ready {
    /// Closes the inspector, if we had it opened. Whether it is as it was.
    pub(crate) async fn close(mut self) -> bool {
        if self.opened {
            // The program closes it a moment later. Whoever comes next must not find it open and be hung up on with it.
            return self.session.close_inspector().await && is_closed(self.address).await;
        }
        self.session.leave().await;
        true
    }
}

/// Waits until nobody listens there any more; whether that is so.
async fn is_closed(address: SocketAddr) -> bool {
    let until = Instant::now() + CLOSING;
    while TcpStream::connect(address).await.is_ok() {
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

async fn run(session: &mut Session, recording: Recording, pieces: &Pieces) -> Result<u64, SessionError> {
    match recording {
        Recording::Snapshot => {
            session.call("HeapProfiler.enable", json!({})).await?;
            session.snapshot(pieces).await
        }
        Recording::Allocations(span) => {
            session.call("HeapProfiler.enable", json!({})).await?;
            session.call("HeapProfiler.startSampling", json!({})).await?;
            session.wait(span, pieces).await?;
            session.profile("HeapProfiler.stopSampling", pieces).await
        }
        Recording::Cpu(span, interval_us) => {
            session.call("Profiler.enable", json!({})).await?;
            let interval = json!({ "interval": interval_us });
            session.call("Profiler.setSamplingInterval", interval).await?;
            session.call("Profiler.start", json!({})).await?;
            session.wait(span, pieces).await?;
            session.profile("Profiler.stop", pieces).await
        }
    }
}
