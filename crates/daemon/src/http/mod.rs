//! `/v1` over the unix socket ([`local`]), and over TCP where the settings ask for it ([`tcp`]).
//!
//! One thread with a runtime of its own. On the unix socket the kernel tells who talks to us (peer credentials). What a
//! caller may do is decided in [`gate`], before any handler.

mod access;
mod certificates;
mod config;
mod config_store;
mod docs;
mod error;
pub(crate) mod exporter;
mod fields;
mod figures;
mod gate;
mod grants;
mod inspect;
mod local;
mod machine;
mod replay;
mod routes;
mod search;
mod share;
mod site;
mod state;
mod stream;
pub(crate) mod tcp;
mod written;

pub(crate) use self::{gate::Guard, state::Feed};

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use axum::extract::DefaultBodyLimit;
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot, watch},
};
use upkeep_host::home::Home;

use crate::{
    access::Access,
    apps::{directory::Directory, view::Usage},
    command::{self, Command, Outcome, Permit, Refusal},
    events::Events,
    logs::pump::{Cutter, Statuses},
    main_loop::Greeting,
    metrics::Metrics,
};

/// Largest body of a request: a hundred apps with a megabyte of environment each do not fit, ten do.
const BODY_MAX: usize = 12 << 20;

/// What handlers look at. Nothing in it can change an app; that goes through `commands`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) home: Home,
    pub(crate) version: String,
    pub(crate) started_ms: u64,
    pub(crate) greeting: Greeting,
    pub(crate) directory: Arc<Directory>,
    pub(crate) events: Events,
    pub(crate) access: Arc<Access>,
    pub(crate) guard: gate::Guard,
    pub(crate) feed: state::Feed,
    pub(crate) settings: Arc<crate::settings::Holder>,
    pub(crate) crashes: crate::crashes::archive::Archive,
    pub(crate) alerts: crate::alerts::Handle,
    pub(crate) statuses: Statuses,
    pub(crate) sinks: crate::logs::sinks::Views,
    pub(crate) cutter: Cutter,
    pub(crate) usage: Arc<Usage>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) commands: mpsc::Sender<command::Request>,
    pub(crate) certificates: Arc<crate::certs::Certificates>,
    /// The shared configuration.
    pub(crate) config: Arc<crate::config::Configuration>,
    /// What apps get of it.
    pub(crate) supply: Arc<crate::supply::Supply>,
    /// How the listeners over TCP stand.
    pub(crate) listeners: tcp::Views,
    /// Where figures can be scraped besides.
    pub(crate) scraped: watch::Receiver<Option<SocketAddr>>,
    /// Why the last upgrade failed.
    pub(crate) trouble: Arc<Mutex<Option<String>>>,
}

impl Shared {
    /// Hands a command to the director and waits for the outcome.
    async fn execute(&self, command: Command, permit: Permit) -> Outcome {
        use upkeep_api::error::Code;
        let leaving = || Refusal::new(Code::Unavailable, "the daemon is ending");
        let (reply, outcome) = oneshot::channel();
        self.commands
            .try_send(command::Request {
                command,
                permit,
                reply,
            })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    Refusal::new(Code::Unavailable, "the daemon is busy: too many commands wait")
                        .hint("try again in a moment")
                }
                mpsc::error::TrySendError::Closed(_) => leaving(),
            })?;
        outcome.await.map_err(|_| leaving())?
    }
}

/// The running HTTP thread.
#[derive(Debug)]
pub(crate) struct Http {
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
    done: std::sync::mpsc::Receiver<Infallible>,
}

impl Http {
    /// Stops accepting, lets answers end for as long as `patience`.
    pub(crate) fn stop(mut self, patience: Duration) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself.
            let _ = stop.send(());
        }
        // Nothing is ever sent: the wait ends when the thread drops its end, or in time.
        let _ = self.done.recv_timeout(patience);
        drop(self.thread);
    }
}

/// Opens the socket to other users of the machine as soon as any of them has a role, and closes it again. What they may
/// do is decided by the gate; the directory tells nobody what is in it.
async fn keep_door(shared: &Shared) {
    use std::os::unix::fs::PermissionsExt;
    let mut changes = shared.access.subscribe();
    loop {
        let (run, socket) = if shared.access.lets_others_in() {
            (0o711, 0o666)
        } else {
            (0o700, 0o600)
        };
        for (path, mode) in [(shared.home.run.clone(), run), (shared.home.socket(), socket)] {
            let set = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
            if let Err(error) = set {
                crate::main_loop::note(&format!(
                    "failed to set the mode of `{}`: {error}",
                    path.display()
                ));
            }
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Binds the socket and starts the thread.
pub(crate) fn start(shared: Shared) -> Result<Http, String> {
    let socket =
        upkeep_sys::listener::unix(&shared.home.socket(), 0o600).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(stream::READERS + 8)
        .thread_stack_size(512 << 10)
        .build()
        .map_err(|error| error.to_string())?;
    let (stop, stopped) = oneshot::channel();
    let (running, done) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let listener: std::os::unix::net::UnixListener = socket.into();
                let listener = match listener
                    .set_nonblocking(true)
                    .and_then(|()| UnixListener::from_std(listener))
                {
                    Ok(listener) => listener,
                    Err(error) => {
                        crate::main_loop::note(&format!("the API cannot be served: {error}"));
                        return;
                    }
                };
                let shared = Arc::new(shared);
                let exporter = exporter::serve(Arc::clone(&shared), shared.scraped.clone());
                let router = routes::router(Arc::clone(&shared))
                    .layer(DefaultBodyLimit::max(BODY_MAX))
                    .layer(axum::middleware::map_response(error::in_our_form));
                let (uses, door) = (Arc::clone(&shared), Arc::clone(&shared));
                let (ending, ended) = watch::channel(false);
                let stop = async move {
                    // A dropped sender means the same.
                    let _ = stopped.await;
                    ending.send_replace(true);
                };
                let set = tokio::task::LocalSet::new();
                let served = set.run_until(async {
                    let here = local::serve(listener, Arc::clone(&shared), router.clone(), ended.clone());
                    tokio::join!(here, tcp::serve(Arc::clone(&shared), router.clone(), ended), stop)
                });
                tokio::select! {
                    _ = served => {}
                    // These never end by themselves.
                    () = exporter => {}
                    () = uses.access.write_uses() => {}
                    () = keep_door(&door) => {}
                    () = door.guard.tell_sums(&door.events) => {}
                    () = door.config.follow() => {}
                    () = door.config.look_after() => {}
                }
            });
            drop(running);
        })
        .map_err(|error| error.to_string())?;
    Ok(Http {
        stop: Some(stop),
        thread,
        done,
    })
}
