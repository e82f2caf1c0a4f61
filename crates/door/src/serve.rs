//! The door's life: takes over its sockets, serves, hears the daemon, and ends when it is told to.

use std::{io, os::fd::OwnedFd, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::LocalSet,
    time::Instant,
};
use upkeep_model::listen::DoorProtocol;

use crate::{
    http,
    listen::{Client, Public},
    protocol::{CONTROL, FromDoor, LINE_MAX, SETTINGS, Settings, ToDoor},
    tls,
    upstreams::Upstreams,
};

/// How many clients may be connected at once; more wait in the backlog.
const CLIENTS: usize = 8192;
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DoorError::Runtime)?;
    LocalSet::new().block_on(&runtime, serve(settings, sockets, control))
}

async fn serve(settings: Settings, sockets: Vec<OwnedFd>, control: OwnedFd) -> Result<(), DoorError> {
    let acceptor = match &settings.tls {
        Some((cert, key)) => Some(tls::acceptor(cert, key).map_err(DoorError::Tls)?),
        None => None,
    };
    let upstreams = Rc::new(Upstreams::default());
    let control = std::os::unix::net::UnixStream::from(control);
    control.set_nonblocking(true).map_err(DoorError::Socket)?;
    let control = UnixStream::from_std(control).map_err(DoorError::Socket)?;
    let room = Arc::new(Semaphore::new(CLIENTS));
    let mut tasks = Vec::new();
    for socket in sockets {
        let public = Public::new(socket).map_err(DoorError::Socket)?;
        let door = Door {
            upstreams: Rc::clone(&upstreams),
            acceptor: acceptor.clone(),
            protocol: settings.protocol,
            room: Arc::clone(&room),
        };
        tasks.push(tokio::task::spawn_local(door.accept(public)));
    }
    let conversation = tokio::task::spawn_local(converse(control, Rc::clone(&upstreams)));
    let mut term = signal(SignalKind::terminate()).map_err(DoorError::Runtime)?;
    let mut int = signal(SignalKind::interrupt()).map_err(DoorError::Runtime)?;
    tokio::select! {
        // Cancel-safe, both of them.
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    for task in tasks {
        task.abort();
    }
    // What is in hand is finished; kept connections without work end with us.
    let over = Instant::now() + LAST_WORDS;
    while upstreams.in_hand() > 0 && Instant::now() < over {
        tokio::time::sleep(BREATH).await;
    }
    conversation.abort();
    Ok(())
}

struct Door {
    upstreams: Rc<Upstreams>,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    protocol: DoorProtocol,
    room: Arc<Semaphore>,
}

impl Door {
    async fn accept(self, public: Public) {
        let door = Rc::new(self);
        loop {
            // The semaphore is never closed.
            let Ok(room) = Arc::clone(&door.room).acquire_owned().await else {
                return;
            };
            match public.accept().await {
                Ok((client, from)) => {
                    let door = Rc::clone(&door);
                    tokio::task::spawn_local(async move {
                        door.greet(client, from).await;
                        drop(room);
                    });
                }
                Err(_) => tokio::time::sleep(BREATH).await,
            }
        }
    }

    async fn greet(&self, client: Client, from: Option<std::net::IpAddr>) {
        match &self.acceptor {
            None => self.serve(client, from, false).await,
            Some(acceptor) => {
                let handshake = tokio::time::timeout(PATIENCE, acceptor.accept(client)).await;
                // A client that spoke no TLS, or took too long, has nothing to be told.
                if let Ok(Ok(client)) = handshake {
                    self.serve(client, from, true).await;
                }
            }
        }
    }

    async fn serve<C>(&self, client: C, from: Option<std::net::IpAddr>, secure: bool)
    where
        C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        match self.protocol {
            DoorProtocol::Http => http::serve(client, Rc::clone(&self.upstreams), from, secure).await,
            DoorProtocol::Tcp => self.copy(client).await,
        }
    }

    async fn copy(&self, mut client: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(work) = self.upstreams.take(deadline).await {
            let address = (std::net::Ipv4Addr::LOCALHOST, work.copy.port);
            let connect = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address));
            let Ok(Ok(mut copy)) = connect.await else {
                work.refused();
                continue;
            };
            // Whoever ends it ends it for both.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut copy).await;
            return;
        }
    }
}

/// Hears the daemon, and tells it what is drained. A daemon that is gone is waited for: the next one has this very
/// conversation, because the keeper holds both its ends.
async fn converse(control: UnixStream, upstreams: Rc<Upstreams>) {
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
            // Half a line of a daemon that died is no JSON, and is passed over.
            if let Ok(ToDoor::Upstreams(list)) = serde_json::from_slice(&line) {
                hears.set(list);
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
