//! Round robin: we accept connections and pass each to one worker.
//!
//! For apps whose connections live long (`balance: rr`): they come out even. It costs a message and an
//! acknowledgement for each connection, and needs the daemon; the shared handle needs neither.
//!
//! A connection is accepted only while a worker is free to take it; until then it waits in the kernel's queue, which is
//! bounded and outlives us. Free is a worker that is promoted, listens with that key, is not on its way out, and has
//! answered for the last connection it was given; among several the one that has waited longest. A worker that does
//! not want a connection (`accepted: false`), or dies before it has answered, has not begun with it: it goes to
//! another. UDP has no connections and is shared always.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    rc::{Rc, Weak},
    time::Duration,
};

use serde_json::json;
use tokio::sync::Notify;

use super::{
    bind::Kind,
    primary::{ByWorker, Inner, Phase, Use, Worker},
};
use crate::tasks::Task;

/// How long to wait where every worker has refused, or there are no descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection that no worker has taken yet.
struct Connection {
    handle: Rc<OwnedFd>,
    /// Who did not want it.
    refused: Vec<String>,
}

/// What is passed on for one listener.
pub(super) struct Passing {
    state: Rc<State>,
    _task: Task,
}

#[derive(Default)]
struct State {
    /// Refused, or taken back: they are older than what waits in the kernel.
    waiting: RefCell<VecDeque<Connection>>,
    under_way: RefCell<ByWorker<Connection>>,
    freed: Notify,
}

enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    fn of(socket: &OwnedFd, kind: Kind) -> io::Result<Self> {
        let socket = socket.try_clone()?;
        upkeep_sys::descriptor::set_nonblocking(&socket, true).map_err(io::Error::other)?;
        Ok(match kind {
            Kind::Unix => Self::Unix(tokio::net::UnixListener::from_std(
                std::os::unix::net::UnixListener::from(socket),
            )?),
            Kind::Tcp | Kind::Udp => Self::Tcp(tokio::net::TcpListener::from_std(
                std::net::TcpListener::from(socket),
            )?),
        })
    }

    /// Cancel-safe: what is not returned stays in the kernel's queue.
    async fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => Ok(listener.accept().await?.0.into_std()?.into()),
            Self::Unix(listener) => Ok(listener.accept().await?.0.into_std()?.into()),
        }
    }
}

impl Passing {
    /// Accepts for a listener from now on, if it does not yet.
    pub(super) fn begin(inner: &Rc<Inner>, key: &str) {
        let Some((socket, kind)) = inner.socket(key) else {
            return;
        };
        let mut listeners = inner.listeners.borrow_mut();
        let Some(listener) = listeners.get_mut(key) else {
            return;
        };
        if listener.passing.is_some() {
            return;
        }
        let acceptor = match Acceptor::of(&socket, kind) {
            Ok(acceptor) => acceptor,
            Err(error) => {
                crate::main_loop::note(&format!("connections cannot be accepted on {key}: {error}"));
                return;
            }
        };
        let state = Rc::new(State::default());
        let task = Task::spawn(
            "node accept",
            accept(Rc::downgrade(inner), Rc::clone(&state), key.to_owned(), acceptor),
        );
        listener.passing = Some(Self { state, _task: task });
    }

    /// A worker may take connections now.
    pub(super) fn freed(inner: &Inner, copy: &str) {
        let keys: Vec<String> = {
            let workers = inner.workers.borrow();
            let Some(worker) = workers.get(copy) else { return };
            worker.uses.keys().cloned().collect()
        };
        let listeners = inner.listeners.borrow();
        for key in keys {
            if let Some(passing) = listeners.get(&key).and_then(|listener| listener.passing.as_ref()) {
                passing.state.freed.notify_one();
            }
        }
    }

    /// What a worker says to a connection that it was given.
    pub(super) fn answered(inner: &Inner, copy: &str, seq: u64, accepted: bool) {
        if let Some(worker) = inner.workers.borrow_mut().get_mut(copy)
            && worker.busy == Some(seq)
        {
            worker.busy = None;
        }
        {
            let listeners = inner.listeners.borrow();
            for passing in listeners
                .values()
                .filter_map(|listener| listener.passing.as_ref())
            {
                let connection = passing
                    .state
                    .under_way
                    .borrow_mut()
                    .remove(&(copy.to_owned(), seq));
                if let Some(mut connection) = connection
                    && !accepted
                {
                    connection.refused.push(copy.to_owned());
                    passing.state.waiting.borrow_mut().push_front(connection);
                    passing.state.freed.notify_one();
                }
            }
        }
        Self::freed(inner, copy);
    }

    /// A worker has ended: what it had not answered for goes to another.
    pub(super) fn gone(inner: &Inner, copy: &str, worker: &Worker) {
        let Some(seq) = worker.busy else { return };
        let listeners = inner.listeners.borrow();
        for passing in listeners
            .values()
            .filter_map(|listener| listener.passing.as_ref())
        {
            let connection = passing
                .state
                .under_way
                .borrow_mut()
                .remove(&(copy.to_owned(), seq));
            if let Some(connection) = connection {
                passing.state.waiting.borrow_mut().push_front(connection);
                passing.state.freed.notify_one();
            }
        }
    }
}

/// The worker that has waited longest among those who may take a connection.
fn free(inner: &Inner, key: &str, refused: &[String]) -> Option<String> {
    let workers = inner.workers.borrow();
    workers
        .iter()
        .filter(|(copy, worker)| {
            worker.promoted
                && worker.channel.is_some()
                && worker.phase == Phase::Listening
                && worker.busy.is_none()
                && worker.uses.get(key) == Some(&Use::Passed)
                && !refused.contains(copy)
        })
        .min_by_key(|(_, worker)| worker.served)
        .map(|(copy, _)| copy.clone())
}

async fn accept(inner: Weak<Inner>, state: Rc<State>, key: String, acceptor: Acceptor) {
    loop {
        let (copy, connection) = {
            let waiting = state.waiting.borrow_mut().pop_front();
            let refused = waiting.as_ref().map_or(&[][..], |connection| &connection.refused);
            let found = {
                let Some(inner) = inner.upgrade() else { return };
                free(&inner, &key, refused)
            };
            match (found, waiting) {
                (Some(copy), Some(connection)) => (copy, connection),
                (Some(copy), None) => tokio::select! {
                    accepted = acceptor.accept() => match accepted {
                        Ok(handle) => (
                            copy,
                            Connection {
                                handle: Rc::new(handle),
                                refused: Vec::new(),
                            },
                        ),
                        // The client has gone, or there are no descriptors: the next one may do.
                        Err(_) => {
                            tokio::time::sleep(PAUSE).await;
                            continue;
                        }
                    },
                    // Cancel-safe: a permit that is not taken stays. A connection may have come back.
                    () = state.freed.notified() => continue,
                },
                (None, Some(mut connection)) => {
                    let again = !connection.refused.is_empty();
                    if again {
                        // Everybody who is free has refused: they are asked again in a moment.
                        let _ = tokio::time::timeout(PAUSE, state.freed.notified()).await;
                        let others = inner
                            .upgrade()
                            .is_some_and(|inner| free(&inner, &key, &connection.refused).is_some());
                        if !others {
                            connection.refused.clear();
                        }
                        state.waiting.borrow_mut().push_front(connection);
                    } else {
                        state.waiting.borrow_mut().push_front(connection);
                        state.freed.notified().await;
                    }
                    continue;
                }
                (None, None) => {
                    state.freed.notified().await;
                    continue;
                }
            }
        };
        let Some(inner) = inner.upgrade() else { return };
        give(&inner, &state, &key, &copy, connection);
    }
}

/// Passes a connection on; if the worker has become unfit meanwhile it waits for another.
fn give(inner: &Inner, state: &State, key: &str, copy: &str, connection: Connection) {
    let seq = inner.next_seq();
    let sent = {
        let mut workers = inner.workers.borrow_mut();
        match workers.get_mut(copy) {
            Some(worker) if worker.busy.is_none() && worker.phase == Phase::Listening => {
                let message = json!({"cmd": "NODE_CLUSTER", "act": "newconn", "key": key, "seq": seq});
                let handle = Rc::clone(&connection.handle);
                let sent = worker
                    .channel
                    .as_ref()
                    .is_some_and(|channel| channel.send_handle(message, "net.Native", handle));
                if sent {
                    inner.served.set(inner.served.get() + 1);
                    worker.served = inner.served.get();
                    worker.busy = Some(seq);
                } else {
                    // It does not read: whoever judges it will end it.
                    worker.promoted = false;
                }
                sent
            }
            _ => false,
        }
    };
    if sent {
        state
            .under_way
            .borrow_mut()
            .insert((copy.to_owned(), seq), connection);
    } else {
        state.waiting.borrow_mut().push_front(connection);
    }
}
