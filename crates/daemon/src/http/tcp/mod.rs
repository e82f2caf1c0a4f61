//! The API and the web client over TCP, where the settings ask for it (`web.listen`).
//!
//! Loopback may be plain; every other address speaks TLS. A connection passes these steps, and each of them bounds what
//! a stranger can take: room ([`limits`]), the handshake and its time ([`connection`]), the name and the page that the
//! request names ([`front`]), the time of heads and bodies ([`body`]), answers that are not taken ([`wire`]). Only then
//! come the gate and the router, which are the same as those of the unix socket. Nobody is anybody here without a token
//! or a certificate; only `/healthz` and the files of the web client are open to all.
//!
//! Listeners follow the settings: one that is no longer wanted is closed with its connections, a new one is tried until
//! its address is free. What they do is told by `GET /v1/daemon` ([`Views`]).
//!
//! All of it runs on the thread of the HTTP runtime, as tasks of a local set: supervision does not feel it.

mod body;
mod connection;
mod front;
mod health;
pub(super) mod limits;
pub(super) mod wire;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use tokio::{net::TcpListener, sync::watch};
use upkeep_api::body::ListenerView;
use upkeep_model::settings::{Web, web::Listen};

use self::{connection::Door, front::Rules, limits::Limits};
pub(super) use self::{
    connection::{Bounds, hold},
    front::in_time,
};
use super::Shared;
use crate::{certs, main_loop::note, tasks::Task};

/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two tries to take an address that is in use: the first ones soon, as it may be our own of a moment ago.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(5),
];

/// What a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Api,
    /// The JSON that PM2 tells on port 9615.
    Pm2Health,
}

/// What makes two listeners the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    listen: Listen,
    role: Role,
    encrypted: bool,
}

impl Key {
    fn scheme(self) -> &'static str {
        if self.encrypted { "https" } else { "http" }
    }

    fn of(web: &Web) -> Vec<Self> {
        let api = web.listen.iter().map(|listen| (*listen, Role::Api));
        let health = web.pm2_health.iter().map(|listen| (*listen, Role::Pm2Health));
        api.chain(health)
            .map(|(listen, role)| Self {
                listen,
                role,
                encrypted: web.is_encrypted(listen),
            })
            .collect()
    }
}

/// How listeners stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Views(Arc<Mutex<HashMap<Key, State>>>);

#[derive(Clone, Debug, Default)]
struct State {
    /// With the port that the kernel gave.
    bound: Option<SocketAddr>,
    trouble: Option<String>,
}

impl Views {
    fn states(&self) -> std::sync::MutexGuard<'_, HashMap<Key, State>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set(&self, key: Key, state: State) {
        self.states().insert(key, state);
    }

    /// For `GET /v1/daemon`. `certificates`: why there is none.
    pub(super) fn list(&self, certificates: Option<&str>) -> Vec<ListenerView> {
        let mut list: Vec<ListenerView> = self
            .states()
            .iter()
            .map(|(key, state)| {
                let address = state.bound.unwrap_or(key.listen.0);
                let no_certificate = certificates.filter(|_| key.encrypted).map(str::to_owned);
                ListenerView {
                    url: format!("{}://{address}", key.scheme()),
                    serves: match key.role {
                        Role::Api => "api".to_owned(),
                        Role::Pm2Health => "pm2_health".to_owned(),
                    },
                    listening: state.bound.is_some(),
                    trouble: state.trouble.clone().or(no_certificate),
                }
            })
            .collect();
        list.sort_by(|one, other| (&one.serves, &one.url).cmp(&(&other.serves, &other.url)));
        list
    }
}

/// What all listeners share.
#[derive(Debug)]
struct Server {
    shared: Arc<Shared>,
    router: Router,
    limits: Arc<Limits<IpAddr>>,
    rules: watch::Receiver<Arc<Rules>>,
}

/// A listener that runs; dropping it closes it, and asks its connections to end.
#[derive(Debug)]
struct Running {
    _open: watch::Sender<()>,
    _task: Task,
}

/// Serves what the settings ask for, until `stopped`; then waits for the last answers. Runs in a local set.
pub(super) async fn serve(shared: Arc<Shared>, router: Router, mut stopped: watch::Receiver<bool>) {
    let mut settings = shared.settings.subscribe();
    let certificates = Arc::clone(&shared.certificates);
    let _certificates = Task::spawn("certificates", certificates.keep(shared.settings.subscribe()));
    let host = certs::host_name();
    let (rules, for_requests) = watch::channel(Arc::default());
    let server = Rc::new(Server {
        shared,
        router,
        limits: Limits::new(),
        rules: for_requests,
    });
    let mut running: HashMap<Key, Running> = HashMap::new();
    loop {
        let web = settings.borrow_and_update().web.clone();
        rules.send_replace(Arc::new(Rules::new(&web, &host)));
        let wanted = Key::of(&web);
        running.retain(|key, _| wanted.contains(key));
        server
            .shared
            .listeners
            .states()
            .retain(|key, _| wanted.contains(key));
        for key in wanted {
            running.entry(key).or_insert_with(|| {
                let (open, closed) = watch::channel(());
                let server = Rc::clone(&server);
                Running {
                    _open: open,
                    _task: Task::spawn("tcp", listen(key, server, closed)),
                }
            });
        }
        // Cancel-safe, both.
        tokio::select! {
            // Its sender is ours, by way of `server`.
            _ = settings.changed() => {}
            // A dropped sender means the same.
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
    }
    drop(running);
    server.limits.empty().await;
}

async fn listen(key: Key, server: Rc<Server>, open: watch::Receiver<()>) {
    let views = &server.shared.listeners;
    views.set(key, State::default());
    if key.encrypted {
        // It is made by another task; who connects before would be turned away.
        let mut changes = server.shared.certificates.changes();
        while server.shared.certificates.acceptor().is_none() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
    let address = key.listen.0;
    let mut tries = 0;
    let listener = loop {
        let error = match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => error,
        };
        let wait = AGAIN.get(tries).or(AGAIN.last()).copied().unwrap_or(PAUSE);
        tries += 1;
        if tries == AGAIN.len() {
            let trouble = format!("failed to listen on `{address}`, trying again: {error}");
            note(&trouble);
            let state = State {
                bound: None,
                trouble: Some(trouble),
            };
            views.set(key, state);
        }
        tokio::time::sleep(wait).await;
    };
    let bound = listener.local_addr().unwrap_or(address);
    note(&format!("listening on {}://{bound}", key.scheme()));
    let state = State {
        bound: Some(bound),
        trouble: None,
    };
    views.set(key, state);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let door = Door {
                    server: Rc::clone(&server),
                    role: key.role,
                    encrypted: key.encrypted,
                    open: open.clone(),
                };
                // It ends by itself: when it is idle, or when the listener does.
                Task::spawn_short("connection", connection::serve(stream, from, door));
            }
            // It went away already, or descriptors are short.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
