//! The primary of Node's clusters, without Node: workers of one app share the sockets that they ask for.
//!
//! The protocol is Node's own (`queryServer`, `listening`, …; see the notes on it). A socket belongs to the app, is
//! bound by the keeper and outlives workers, reloads and daemons. Only the shared handle is built here: the kernel
//! gives a connection to whichever worker accepts first.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_keeper::protocol::{Event, ListenAddress, Request};
use upkeep_model::state::{Actual, Desired};
use upkeep_pm2::record;
use upkeep_sys::clock;

use super::{
    god::God,
    process::{Process, State},
};
use crate::{
    keeper_link::{AskError, KeeperLink},
    tasks::Task,
};

/// What listeners are called in the keeper's table, before the app's name.
pub(super) const LISTENER: &str = "pm2:listen:";
/// Linux: the address is in use.
const EADDRINUSE: i32 = 98;
/// Linux: no such address, for a machine without IPv6.
const EAFNOSUPPORT: i32 = 97;
const EADDRNOTAVAIL: i32 = 99;

/// What the workers of all apps listen on, by the name of the socket in the keeper's table.
#[derive(Default)]
pub(super) struct Cluster {
    listeners: RefCell<HashMap<String, Listener>>,
    /// Sockets of daemons before, which no worker has asked for since.
    found: RefCell<Vec<String>>,
    /// Old workers that are being replaced.
    retiring: RefCell<Vec<Rc<Process>>>,
}

struct Listener {
    handle: Rc<OwnedFd>,
    /// The first worker's `data`: keys of session tickets, which all workers must share.
    data: Value,
}

impl Cluster {
    /// A process has ended: an old worker is then forgotten.
    pub(super) fn gone(&self, process: &Rc<Process>) {
        self.retiring.borrow_mut().retain(|old| !Rc::ptr_eq(old, process));
    }

    /// An old worker by id and generation.
    pub(super) fn retiring(&self, id: u64, generation: u64) -> Option<Rc<Process>> {
        self.retiring
            .borrow()
            .iter()
            .find(|old| old.id == id && old.state.borrow().generation == generation)
            .cloned()
    }

    /// Closes what no worker of an app is left to listen on.
    pub(super) fn release(&self, link: &KeeperLink, app: &str) {
        let prefix = of_app(app);
        let unused: Vec<String> = self
            .listeners
            .borrow_mut()
            .extract_if(|name, _| name.starts_with(&prefix))
            .map(|(name, _)| name)
            .collect();
        let found = self
            .found
            .borrow_mut()
            .extract_if(.., |name| name.starts_with(&prefix))
            .collect::<Vec<_>>();
        for name in unused.into_iter().chain(found) {
            link.order(|id| Request::CloseDescriptor { id, name });
        }
    }

    /// All old workers.
    pub(super) fn all_retiring(&self) -> Vec<Rc<Process>> {
        self.retiring.borrow().clone()
    }

    /// A socket that the keeper has held since a daemon before.
    pub(super) fn found(&self, name: String) {
        self.found.borrow_mut().push(name);
    }

    /// Whether any worker is being replaced that belongs to an app.
    pub(super) fn is_retiring(&self, app: &str) -> bool {
        self.retiring
            .borrow()
            .iter()
            .any(|old| old.state.borrow().name() == app)
    }
}

/// How the names of an app's sockets begin: an app's name may hold any character, so its length stands before it.
fn of_app(app: &str) -> String {
    format!("{LISTENER}{}:{app}:", app.len())
}

/// A message of a worker to its primary.
pub(super) fn message(god: &Rc<God>, process: &Rc<Process>, message: Value) {
    let act = message.get("act").and_then(Value::as_str).unwrap_or_default();
    match act {
        "queryServer" => {
            let (god, process) = (Rc::clone(god), Rc::clone(process));
            Task::spawn_short("pm2 listener", async move {
                query(&god, &process, &message).await;
            });
        }
        "listening" => {
            process.state.borrow_mut().listening = true;
            god.touch();
        }
        "exitedAfterDisconnect" => {
            let answer = json!({"cmd": "NODE_CLUSTER", "ack": message.get("seq"), "seq": 0});
            if let Some(channel) = &process.state.borrow().channel {
                channel.send(&answer);
            }
        }
        // `online`, `close`, and whatever later versions of Node say without waiting for an answer.
        _ => {}
    }
}

fn key_of(message: &Value) -> String {
    let part = |key: &str| message.get(key).map(Value::to_string).unwrap_or_default();
    let port = part("port");
    let index = if port == "0" { part("index") } else { String::new() };
    format!(
        "{}:{port}:{}:{}:{index}",
        part("address"),
        part("addressType"),
        part("fd")
    )
}

async fn query(god: &Rc<God>, process: &Rc<Process>, message: &Value) {
    let app = process.state.borrow().name();
    let key = key_of(message);
    let name = format!("{}{key}", of_app(&app));
    let is_udp = message
        .get("addressType")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.starts_with("udp"));
    let found = god
        .cluster
        .listeners
        .borrow()
        .get(&name)
        .map(|listener| (Rc::clone(&listener.handle), listener.data.clone()));
    let bound = match found {
        Some(found) => Ok(found),
        None => bind(god, &name, message).await.map(|handle| {
            let data = message.get("data").cloned().unwrap_or_default();
            let handle = Rc::new(handle);
            god.cluster.listeners.borrow_mut().insert(
                name.clone(),
                Listener {
                    handle: Rc::clone(&handle),
                    data: data.clone(),
                },
            );
            (handle, data)
        }),
    };
    let state = process.state.borrow();
    let Some(channel) = &state.channel else { return };
    let mut answer = json!({"cmd": "NODE_CLUSTER", "ack": message.get("seq"), "key": key, "seq": 0});
    match bound {
        Ok((handle, data)) => {
            answer["errno"] = 0.into();
            answer["data"] = data;
            let kind = if is_udp { "dgram.Native" } else { "net.Native" };
            channel.send_handle(&answer, kind, handle);
        }
        Err(errno) => {
            answer["errno"] = (-errno).into();
            answer["data"] = message.get("data").cloned().unwrap_or_default();
            channel.send(&answer);
        }
    }
}

/// Binds what a worker asks for, in the keeper. Errors: the kernel's number.
async fn bind(god: &Rc<God>, name: &str, message: &Value) -> Result<OwnedFd, i32> {
    let port = message
        .get("port")
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or(0);
    let text = message.get("address").and_then(Value::as_str);
    let kind = message.get("addressType").cloned().unwrap_or_default();
    let addresses = match (kind.as_str(), kind.as_i64(), text) {
        (_, Some(-1), Some(path)) => {
            let path = PathBuf::from(path);
            let all = message.get("readableAll").and_then(Value::as_bool) == Some(true)
                || message.get("writableAll").and_then(Value::as_bool) == Some(true);
            vec![ListenAddress::Unix(path, if all { 0o777 } else { 0o755 })]
        }
        (Some(udp), _, text) => {
            let any = if udp == "udp6" { "::" } else { "0.0.0.0" };
            let address: IpAddr = text.unwrap_or(any).parse().map_err(|_| EADDRNOTAVAIL)?;
            vec![ListenAddress::Udp(SocketAddr::new(address, port))]
        }
        (None, _, Some(text)) => {
            let address: IpAddr = text.parse().map_err(|_| EADDRNOTAVAIL)?;
            vec![ListenAddress::Tcp(SocketAddr::new(address, port))]
        }
        (None, _, None) => vec![
            ListenAddress::Tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)),
            ListenAddress::Tcp(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), port)),
        ],
    };
    let mut last = EADDRINUSE;
    for address in addresses {
        let name = name.to_owned();
        let answer = god.context.link.ask(|id| Request::Listen { id, name, address });
        match answer.wait().await {
            Ok(Event::Descriptor { descriptor, .. }) => return Ok(descriptor),
            Err(AskError::Refused { errno, .. }) => {
                last = errno;
                // Only a machine without IPv6 tries the next.
                if !matches!(errno, EAFNOSUPPORT | EADDRNOTAVAIL) {
                    break;
                }
            }
            Ok(_) | Err(AskError::NoAnswer) => break,
        }
    }
    Err(last.max(1))
}

/// Replaces a worker: the new one is started beside the old one and has to listen (or say `ready`) before the old one is
/// told to take no more connections, to end those it has, and then to stop. If the new one does not come up, the old
/// one stays.
pub(super) async fn replace(god: &Rc<God>, old: &Rc<Process>) -> Result<Rc<Process>, String> {
    let new = {
        let mut was = old.state.borrow_mut();
        if was.retired {
            return Err(format!("process {} is being reloaded already", old.id));
        }
        was.retired = true;
        let mut state = State::new(
            was.record.clone(),
            was.places.clone(),
            &god.variables,
            clock::monotonic_ms(),
        );
        state.generation = was.generation;
        state.piped.clone_from(&was.piped);
        state.counts = true;
        state.set("created_at", clock::unix_ms());
        state.set("unstable_restarts", 0);
        state.set("prev_restart_delay", 0);
        state.counters.created_ms = Some(clock::monotonic_ms());
        // They go on with the new one.
        was.watch = None;
        was.cron = None;
        Rc::new(Process {
            id: old.id,
            state: RefCell::new(state),
        })
    };
    god.cluster.retiring.borrow_mut().push(Rc::clone(old));
    god.table.borrow_mut().insert(new.id, Rc::clone(&new));
    let before = god.order_start(&new);
    god.started(&new, before).await;
    let timeout = record::millis(&new.state.borrow().record, "listen_timeout")
        .unwrap_or(god.variables.listen_timeout_ms);
    let listens = god.until(&new, |state| {
        state.listening || !matches!(state.machine.actual(), Actual::Running) || state.deleted
    });
    // An app without a server costs the whole time.
    let _ = tokio::time::timeout(Duration::from_millis(timeout), listens).await;
    let up = new.state.borrow().machine.actual() == Actual::Running;
    if !up {
        let wanted = {
            let state = new.state.borrow();
            !state.deleted && state.machine.desired() == Desired::Up && !god.ending.get()
        } || new.state.borrow().errored;
        let still = wanted && old.state.borrow().machine.actual() == Actual::Running;
        if still {
            god.stop(&new).await;
            old.state.borrow_mut().retired = false;
            god.cluster.gone(old);
            god.table.borrow_mut().insert(old.id, Rc::clone(old));
            super::watch::arm(god, old);
            super::worker::arm_cron(god, old);
            god.refresh(old);
            return Err(format!(
                "the new process of {} does not stay up; the old one was kept",
                old.id
            ));
        }
    }
    // What it has accepted it may finish: `disconnect` closes its servers, and the worker ends when its connections have.
    if let Some(channel) = &old.state.borrow().channel {
        channel.send(&json!({"cmd": "NODE_CLUSTER", "act": "disconnect", "seq": 0}));
    }
    let grace = old.state.borrow().policy.stop.grace.as_millis();
    let ended = god.until(old, State::is_down);
    if tokio::time::timeout(Duration::from_millis(grace), ended)
        .await
        .is_err()
    {
        god.stop(old).await;
    }
    god.cluster.gone(old);
    Ok(new)
}
