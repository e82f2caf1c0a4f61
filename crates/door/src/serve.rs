//! The door's life: takes over its sockets, serves, hears the daemon, and ends when it is told to.

use std::{cell::RefCell, io, os::fd::OwnedFd, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    task::LocalSet,
    time::Instant,
};
use upkeep_model::listen::DoorProtocol;

use crate::{
    http::{self, Peer},
    listen::{Client, Public},
    protocol::{CONTROL, FromDoor, LINE_MAX, SETTINGS, Settings, ToDoor},
    tls::Keys,
    upstreams::Upstreams,
};

/// Descriptors for everything but clients and their copies.
const RESERVE: u64 = 64;
/// More clients than this are not connected at once, however many descriptors there are.
const CLIENTS_MAX: u32 = 1 << 16;
/// How often the files of the certificate are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long an accept that failed (no descriptors left) is waited with.
const BREATH: Duration = Duration::from_millis(50);
/// How long a TCP client waits for a copy.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the order to end, what is in hand may take so long.
const LAST_WORDS: Duration = Duration::from_secs(15);
/// Where handed sockets begin (sd_listen_fds(3)).
const FIRST_SOCKET: i32 = 3;

/// Why a door cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It was not started by a daemon.
    #[error("the front door is started by the daemon: {0}")]
    Environment(String),
    /// A socket that was handed over is none.
    #[error("failed to take over a socket")]
    Socket(#[source] io::Error),
    /// The certificate.
    #[error("{0}")]
    Tls(String),
    /// The runtime.
    #[error("failed to start")]
    Runtime(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT.
pub fn run() -> Result<(), DoorError> {
    let variable = |name: &str| {
        std::env::var(name).map_err(|error| DoorError::Environment(format!("`{name}`: {error}")))
    };
    let settings: Settings = serde_json::from_str(&variable(SETTINGS)?)
        .map_err(|error| DoorError::Environment(format!("`{SETTINGS}`: {error}")))?;
    let number = |name: &str| -> Result<i32, DoorError> {
        variable(name)?
            .parse()
            .map_err(|error| DoorError::Environment(format!("`{name}`: {error}")))
    };
    let adopt = |number: i32| {
        upkeep_sys::descriptor::adopt(number)
            .map_err(|error| DoorError::Socket(io::Error::from_raw_os_error(error.errno)))
    };
    let count = number("LISTEN_FDS")?;
    let sockets = (FIRST_SOCKET..FIRST_SOCKET + count)
        .map(adopt)
        .collect::<Result<Vec<OwnedFd>, _>>()?;
    let control = adopt(number(CONTROL)?)?;
    // Where it may not be raised, it is enough for fewer.
    let _ = upkeep_sys::rlimit::raise_open_files();
    let limit = upkeep_sys::rlimit::get(upkeep_sys::rlimit::OPEN_FILES).map_or(1024, |limit| limit.soft);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DoorError::Runtime)?;
    LocalSet::new().block_on(
        &runtime,
        serve(settings, sockets, control, clients(limit), told_to_end()),
    )
}

async fn told_to_end() -> Result<(), DoorError> {
    let mut term = signal(SignalKind::terminate()).map_err(DoorError::Runtime)?;
    let mut int = signal(SignalKind::interrupt()).map_err(DoorError::Runtime)?;
    tokio::select! {
        // Cancel-safe, both of them.
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// How many clients may be connected at once, with so many descriptors; more wait in the backlog. Each has one of its
/// own and one to its copy.
fn clients(descriptors: u64) -> u32 {
    let clients = descriptors.saturating_sub(RESERVE) / 2;
    u32::try_from(clients).map_or(CLIENTS_MAX, |clients| clients.clamp(16, CLIENTS_MAX))
}

/// Tells the app's log something.
fn complain(text: &str) {
    use io::Write as _;
    // Without anybody who reads it there is nobody to tell.
    let _ = writeln!(io::stderr(), "upkeep: front door: {text}");
}

async fn serve(
    settings: Settings,
    sockets: Vec<OwnedFd>,
    control: OwnedFd,
    clients: u32,
    until: impl Future<Output = Result<(), DoorError>>,
) -> Result<(), DoorError> {
    let upstreams = Rc::new(Upstreams::default());
    let control = std::os::unix::net::UnixStream::from(control);
    control.set_nonblocking(true).map_err(DoorError::Socket)?;
    let control = UnixStream::from_std(control).map_err(DoorError::Socket)?;
    let room = Arc::new(Semaphore::new(clients as usize));
    let (ends, is_ending) = watch::channel(false);
    let keys = settings
        .tls
        .clone()
        .map(|(cert, key)| Keys::new(cert, key).map_err(DoorError::Tls))
        .transpose()?;
    let door = Rc::new(Door {
        upstreams: Rc::clone(&upstreams),
        manner: Rc::new(Manner {
            settings: RefCell::new(settings),
            wanted: RefCell::new(None),
            keys: RefCell::new(keys),
        }),
        room: Arc::clone(&room),
        ends: is_ending,
    });
    let mut tasks = Vec::new();
    for socket in sockets {
        let public = Public::new(socket).map_err(DoorError::Socket)?;
        tasks.push(tokio::task::spawn_local(Rc::clone(&door).accept(public)));
    }
    let manner = Rc::clone(&door.manner);
    let others = [
        tokio::task::spawn_local(converse(control, Rc::clone(&upstreams), Rc::clone(&manner))),
        tokio::task::spawn_local(http::tidy(upstreams)),
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                manner.look_at_keys();
            }
        }),
    ];
    until.await?;
    for task in tasks {
        task.abort();
    }
    // What is in hand is finished, and sent: a connection that is over has given its room back. Kept connections
    // without work end at once.
    let _ = ends.send(true);
    // What takes longer ends with us.
    let _ = tokio::time::timeout(LAST_WORDS, room.acquire_many(clients)).await;
    for task in others {
        task.abort();
    }
    Ok(())
}

/// How it serves: what it was told last. Connections that are there keep what they began with.
struct Manner {
    settings: RefCell<Settings>,
    /// What could not be taken yet.
    wanted: RefCell<Option<Settings>>,
    keys: RefCell<Option<Keys>>,
}

impl Manner {
    /// Takes new settings. `false`: they need other sockets, and so another door.
    fn change(&self, wanted: Settings) -> bool {
        if wanted.sockets != self.settings.borrow().sockets {
            return false;
        }
        self.wanted.replace(None);
        if let Err(why) = self.take(&wanted) {
            complain(&format!("{why}; it goes on with what it had"));
            self.wanted.replace(Some(wanted));
        }
        true
    }

    fn take(&self, wanted: &Settings) -> Result<(), String> {
        if wanted.tls != self.settings.borrow().tls {
            let keys = match &wanted.tls {
                None => None,
                Some((cert, key)) => Some(Keys::new(cert.clone(), key.clone())?),
            };
            self.keys.replace(keys);
        }
        self.settings.replace(wanted.clone());
        Ok(())
    }

    /// Takes a renewed certificate.
    fn look_at_keys(&self) {
        let wanted = self.wanted.take();
        if let Some(wanted) = wanted {
            match self.take(&wanted) {
                Ok(()) => complain("it serves as it shall now"),
                Err(_) => drop(self.wanted.replace(Some(wanted))),
            }
        }
        if let Some(keys) = self.keys.borrow_mut().as_mut() {
            match keys.look() {
                Some(Ok(())) => complain("it uses the new certificate"),
                Some(Err(why)) => complain(&format!("{why}; it goes on with the certificate it had")),
                None => {}
            }
        }
    }
}

struct Door {
    upstreams: Rc<Upstreams>,
    manner: Rc<Manner>,
    room: Arc<Semaphore>,
    ends: watch::Receiver<bool>,
}

impl Door {
    async fn accept(self: Rc<Self>, public: Public) {
        loop {
            // The semaphore is never closed.
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                return;
            };
            match public.accept().await {
                Ok((client, from)) => {
                    let door = Rc::clone(&self);
                    let peer = Peer {
                        from,
                        secure: false,
                        _room: Rc::new(room),
                    };
                    tokio::task::spawn_local(async move { door.greet(client, peer).await });
                }
                Err(_) => tokio::time::sleep(BREATH).await,
            }
        }
    }

    async fn greet(&self, client: Client, peer: Peer) {
        let acceptor = self.manner.keys.borrow().as_ref().map(Keys::acceptor);
        match acceptor {
            None => self.serve(client, peer).await,
            Some(acceptor) => {
                let handshake = tokio::time::timeout(PATIENCE, acceptor.accept(client)).await;
                // A client that spoke no TLS, or took too long, has nothing to be told.
                if let Ok(Ok(client)) = handshake {
                    self.serve(client, Peer { secure: true, ..peer }).await;
                }
            }
        }
    }

    async fn serve<C>(&self, client: C, peer: Peer)
    where
        C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let protocol = self.manner.settings.borrow().protocol;
        match protocol {
            DoorProtocol::Http => {
                http::serve(client, Rc::clone(&self.upstreams), peer, self.ends.clone()).await;
            }
            DoorProtocol::Tcp => self.copy(client, peer).await,
        }
    }

    async fn copy(&self, mut client: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, peer: Peer) {
        let _held = peer;
        let deadline = Instant::now() + PATIENCE;
        while let Some(work) = self.upstreams.take(deadline).await {
            let address = (std::net::Ipv4Addr::LOCALHOST, work.copy.port);
            let connect = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address));
            match connect.await {
                Ok(Ok(mut copy)) => {
                    // Whoever ends it ends it for both.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut copy).await;
                    return;
                }
                Ok(Err(error)) if http::is_shortage(&error) => {
                    // Ours, not the copy's.
                    drop(work);
                    if Instant::now() >= deadline {
                        return;
                    }
                    tokio::time::sleep(BREATH).await;
                }
                _ => work.refused(),
            }
        }
    }
}

/// Hears the daemon, and tells it what is drained. A daemon that is gone is waited for: the next one has this very
/// conversation, because the keeper holds both its ends.
async fn converse(control: UnixStream, upstreams: Rc<Upstreams>, manner: Rc<Manner>) {
    let (reader, mut writer) = control.into_split();
    let hears = Rc::clone(&upstreams);
    let hearing = tokio::task::spawn_local(async move {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut reader).take(LINE_MAX as u64);
            match bounded.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            match serde_json::from_slice(&line) {
                Ok(ToDoor::Upstreams(list)) => hears.set(list),
                Ok(ToDoor::Settings(wanted)) => {
                    if !manner.change(wanted) {
                        hears.tell(FromDoor::Stale);
                    }
                }
                // Half a line of a daemon that died is no JSON, and is passed over, and so is the empty one before
                // the next daemon's first.
                Err(_) => {}
            }
        }
    });
    let mut news = vec![FromDoor::Ready];
    loop {
        for one in news.drain(..) {
            let Ok(mut line) = serde_json::to_vec(&one) else {
                continue;
            };
            line.push(b'\n');
            if writer.write_all(&line).await.is_err() {
                hearing.abort();
                return;
            }
        }
        if upstreams.news.borrow().is_empty() {
            upstreams.news_there.notified().await;
        }
        news = upstreams.news.take();
    }
}

#[cfg(test)]
mod tests;
