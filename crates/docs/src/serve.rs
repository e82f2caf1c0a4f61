//! `docs serve`: the page on loopback, made anew whenever a file of the folder changes.
//!
//! A small server of threads: it knows three addresses and serves them from memory, so that no path leads into the file
//! system. `/` is the page, `/_live` an endless answer that tells browsers when there is a newer one. Requests for another host
//! name are refused: a page elsewhere could point its own name at us and read what is being written.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use notify::{RecursiveMode, Watcher as _};

use crate::{
    html::{self, Use},
    trouble::Trouble,
    write,
};

/// More browsers at a time are sent away.
const CONNECTIONS: usize = 64;
/// A request has no more than its head.
const HEAD_MAX: usize = 8 << 10;
/// How long a browser may take to say what it wants, or to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a quiet stream says that it is there.
const BREATH: Duration = Duration::from_secs(15);
/// Files change in bursts: what follows within this time is the same change.
const QUIET: Duration = Duration::from_millis(100);
/// A burst that does not end is looked at all the same.
const BURST: Duration = Duration::from_secs(2);

/// The page as it is now.
#[derive(Debug, Default)]
struct Shown {
    version: u64,
    html: Arc<str>,
}

#[derive(Debug, Default)]
struct State {
    shown: Mutex<Shown>,
    changed: Condvar,
    connections: AtomicUsize,
}

impl State {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        // What is in it is whole at any time: it is replaced at once.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that answers; [`Server::watch`] keeps its page fresh.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    address: SocketAddr,
    state: Arc<State>,
}

impl Server {
    /// Listens on loopback; port 0 is any free one.
    pub fn start(folder: &Path, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let served = Arc::clone(&state);
        thread::Builder::new()
            .name("docs-accept".to_owned())
            .spawn(move || accept(&listener, &served))?;
        Ok(Self {
            folder: folder.to_owned(),
            address,
            state,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the page, and makes it anew on every change. `told` gets what is wrong, each time. Ends only with an error.
    pub fn watch(&self, told: &mut dyn FnMut(&[Trouble])) -> io::Result<()> {
        let (send, changes) = mpsc::sync_channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // A full channel already says that something has changed.
                let _ = send.try_send(());
            }
        })
        .map_err(io::Error::other)?;
        watcher
            .watch(&self.folder, RecursiveMode::Recursive)
            .map_err(io::Error::other)?;
        loop {
            let mut troubles = Vec::new();
            let html = match write::page(&self.folder, Use::Live, &mut troubles) {
                Some((_, html)) => html,
                None => html::broken(&troubles),
            };
            told(&troubles);
            {
                let mut shown = self.state.shown();
                if *shown.html != *html {
                    shown.version += 1;
                    shown.html = html.into();
                    self.state.changed.notify_all();
                }
            }
            changes
                .recv()
                .map_err(|_| io::Error::other("the files are no longer watched"))?;
            let end = Instant::now() + BURST;
            while Instant::now() < end && changes.recv_timeout(QUIET).is_ok() {}
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming().flatten() {
        let state = Arc::clone(state);
        if state.connections.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS {
            state.connections.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let counted = Arc::clone(&state);
        let spawned = thread::Builder::new()
            .name("docs-answer".to_owned())
            .spawn(move || {
                // A browser that has gone needs no answer.
                let _ = answer(stream, &state);
                state.connections.fetch_sub(1, Ordering::AcqRel);
            });
        if spawned.is_err() {
            counted.connections.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn answer(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = head(&mut stream)?;
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.trim());
    if !host.is_some_and(is_ours) {
        return say(
            &mut stream,
            "421 Misdirected Request",
            "this server is for this machine only\n",
            false,
        );
    }
    if !matches!(method, "GET" | "HEAD") {
        let status = "405 Method Not Allowed\r\nAllow: GET, HEAD";
        return say(&mut stream, status, "only GET\n", false);
    }
    match target.split('?').next().unwrap_or_default() {
        "/" | "/index.html" => {
            let html = Arc::clone(&state.shown().html);
            page(&mut stream, &html, method == "HEAD")
        }
        "/_live" if method == "GET" => live(&mut stream, state),
        _ => say(
            &mut stream,
            "404 Not Found",
            "there is one page: /\n",
            method == "HEAD",
        ),
    }
}

/// Up to the empty line.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    let end = Instant::now() + PATIENCE;
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > HEAD_MAX || Instant::now() > end {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&part[..read]),
        }
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A name that no one else can give us.
fn is_ours(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}

fn page(stream: &mut TcpStream, html: &str, head_only: bool) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Content-Security-Policy: {}; frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        html.len(),
        html::policy(Use::Live),
    )?;
    if !head_only {
        stream.write_all(html.as_bytes())?;
    }
    stream.flush()
}

fn say(stream: &mut TcpStream, status: &str, text: &str, head_only: bool) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        text.len(),
        if head_only { "" } else { text }
    )?;
    stream.flush()
}

/// Tells the version, and every newer one.
fn live(stream: &mut TcpStream, state: &State) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
    )?;
    let mut said = None;
    loop {
        let now = {
            let shown = state.shown();
            let (shown, _) = state
                .changed
                .wait_timeout_while(shown, BREATH, |shown| said == Some(shown.version))
                .unwrap_or_else(PoisonError::into_inner);
            shown.version
        };
        if said == Some(now) {
            stream.write_all(b":\n\n")?;
        } else {
            write!(stream, "data: {now}\n\n")?;
        }
        stream.flush()?;
        said = Some(now);
    }
}

#[cfg(test)]
mod tests;
