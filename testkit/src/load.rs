//! Requests over HTTP/1.1, one after the other on each connection, and what became of every single one.
//!
//! The load of tests that promise "no request fails", and of benches. It never tries again: a request that was sent
//! and not answered is a failure, and so is a connection that is refused. What any client with a pool does is done
//! here too: before a kept connection is used once more it is looked at, and one that the server has closed in peace,
//! while nothing was under way, is replaced. All runs on one thread of its own.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    task::LocalSet,
};

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As long as the server keeps them.
    KeepAlive,
    /// One for each request, which says `Connection: close`.
    PerRequest,
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// What is sent and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub place: Place,
    /// How connections are used.
    pub kind: Kind,
    /// How many at once.
    pub connections: usize,
    /// Path and query of the requests.
    pub path: String,
    /// How long a connection rests between an answer and the next request.
    pub pause: Duration,
    /// After this time without an answer a request has failed.
    pub patience: Duration,
}

impl Plan {
    /// `GET /` without a pause.
    pub fn new(place: impl Into<Place>, kind: Kind, connections: usize) -> Self {
        Self {
            place: place.into(),
            kind,
            connections,
            path: "/".to_owned(),
            pause: Duration::ZERO,
            patience: Duration::from_secs(15),
        }
    }
}

/// How many failures are kept word by word, and how many different bodies are counted.
const KEPT: usize = 1000;

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answered with a status below 400, to the last byte.
    pub answered: u64,
    /// When, counted from the start, and why; the first thousand.
    pub failed: Vec<(Duration, String)>,
    /// How many failed.
    pub failures: u64,
    /// Connections that were made.
    pub connected: u64,
    /// How long it went on.
    pub lasted: Duration,
    /// How often each body came, of the first thousand different ones: who answered.
    pub bodies: BTreeMap<String, u64>,
    latencies: Latencies,
}

impl Tally {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.lasted.as_secs_f64().max(f64::EPSILON)
    }

    /// The time that this share of the answered requests did not exceed, to about 3 %.
    pub fn latency(&self, share: f64) -> Duration {
        self.latencies.quantile(share)
    }

    /// Adds what another load counted at the same time.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.answered += other.answered;
        self.failures += other.failures;
        self.failed.extend(other.failed);
        self.connected += other.connected;
        self.lasted = self.lasted.max(other.lasted);
        for (body, count) in other.bodies {
            *self.bodies.entry(body).or_default() += count;
        }
        self.latencies.add(&other.latencies);
        self
    }

    /// Checks that something was answered and nothing failed.
    ///
    /// # Panics
    ///
    /// Otherwise, with the failures.
    #[track_caller]
    pub fn assert_none_failed(&self, during: &str) {
        assert!(self.answered > 0, "no request was answered during {during}");
        assert!(
            self.failures == 0,
            "{} of {} requests failed during {during}; the first: {:#?}",
            self.failures,
            self.failures + self.answered,
            &self.failed[..self.failed.len().min(10)]
        );
    }
}

/// Counts of times in steps that grow with the time: 32 a doubling.
#[derive(Clone, Debug, Default)]
struct Latencies(Vec<u64>);

impl Latencies {
    fn slot(micros: u64) -> usize {
        let micros = micros.max(1);
        let octave = micros.ilog2();
        // The five bits after the highest one; small numbers have fewer.
        let fine = if octave >= 5 {
            (micros >> (octave - 5)) & 31
        } else {
            (micros << (5 - octave)) & 31
        };
        (octave as usize) * 32 + usize::try_from(fine).unwrap_or(0)
    }

    fn lower_bound(slot: usize) -> u64 {
        let (octave, fine) = (slot / 32, (slot % 32) as u64);
        ((32 + fine) << octave) >> 5
    }

    fn count(&mut self, time: Duration) {
        let slot = Self::slot(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        if self.0.len() <= slot {
            self.0.resize(slot + 1, 0);
        }
        self.0[slot] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (slot, count) in other.0.iter().enumerate() {
            self.0[slot] += count;
        }
    }

    fn quantile(&self, share: f64) -> Duration {
        let all: u64 = self.0.iter().sum();
        let mut left = share * all as f64;
        for (slot, count) in self.0.iter().enumerate() {
            left -= *count as f64;
            if left <= 0.0 && *count > 0 {
                return Duration::from_micros(Self::lower_bound(slot));
            }
        }
        Duration::ZERO
    }
}

/// A load under way. Dropped, it ends and what it counted is lost.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    thread: Option<JoinHandle<Tally>>,
}

impl Load {
    /// `GET /` without a pause, over so many connections.
    pub fn start(place: impl Into<Place>, kind: Kind, connections: usize) -> Self {
        Self::run(Plan::new(place, kind, connections))
    }

    /// Starts a plan.
    ///
    /// # Panics
    ///
    /// If there is no thread to be had.
    pub fn run(plan: Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(AtomicU64::new(0));
        let shared = Shared {
            stop: Arc::clone(&stop),
            answered: Arc::clone(&answered),
            failed: Arc::clone(&failed),
            start: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || drive(&plan, &shared))
            .expect("a thread");
        Self {
            stop,
            answered,
            failed,
            thread: Some(thread),
        }
    }

    /// How many were answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// How many failed so far.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Lets what is under way come to its end, sends nothing more, and tells what became of it all.
    ///
    /// # Panics
    ///
    /// If the load's own thread did.
    pub fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is taken once");
        thread.join().expect("the load does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

struct Shared {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    start: Instant,
}

fn drive(plan: &Plan, shared: &Shared) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = LocalSet::new();
    let tallies = local.block_on(&runtime, async {
        let clients: Vec<_> = (0..plan.connections).map(|_| client(plan, shared)).collect();
        futures_util::future::join_all(clients).await
    });
    let mut all = tallies.into_iter().fold(Tally::default(), Tally::and);
    all.lasted = shared.start.elapsed();
    all.failed.sort_by_key(|(at, _)| *at);
    all.failed.truncate(KEPT);
    all
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn connect(place: &Place) -> io::Result<Self> {
        Ok(match place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Place::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
        })
    }

    /// Whether the server has closed it, or sent what nobody asked for.
    fn is_stale(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
        };
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Answer, String> {
        match self {
            Self::Tcp(stream) => exchange(stream, request).await,
            Self::Unix(stream) => exchange(stream, request).await,
        }
    }
}

async fn client(plan: &Plan, shared: &Shared) -> Tally {
    let close = if plan.kind == Kind::PerRequest {
        "Connection: close\r\n"
    } else {
        ""
    };
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n", plan.path).into_bytes();
    let mut tally = Tally::default();
    let mut kept: Option<Stream> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let one = one(plan, &mut kept, &request, &mut tally.connected);
        let outcome = match tokio::time::timeout(plan.patience, one).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer in {:?}", plan.patience)),
        };
        match outcome {
            Ok(answer) => {
                tally.answered += 1;
                shared.answered.fetch_add(1, Ordering::Relaxed);
                tally.latencies.count(begin.elapsed());
                if let Some(count) = tally.bodies.get_mut(&answer.body) {
                    *count += 1;
                } else if tally.bodies.len() < KEPT {
                    tally.bodies.insert(answer.body, 1);
                }
            }
            Err(why) => {
                kept = None;
                tally.failures += 1;
                shared.failed.fetch_add(1, Ordering::Relaxed);
                if tally.failed.len() < KEPT {
                    tally.failed.push((shared.start.elapsed(), why));
                }
                // A server that refuses would be asked a hundred thousand times a second.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if !plan.pause.is_zero() {
            tokio::time::sleep(plan.pause).await;
        }
    }
    tally
}

async fn one(
    plan: &Plan,
    kept: &mut Option<Stream>,
    request: &[u8],
    connected: &mut u64,
) -> Result<Answer, String> {
    let mut reused = true;
    let mut stream = match kept.take().filter(|stream| !stream.is_stale()) {
        Some(stream) => stream,
        None => {
            reused = false;
            *connected += 1;
            Stream::connect(&plan.place)
                .await
                .map_err(|error| format!("connect: {error}"))?
        }
    };
    let answer = stream
        .exchange(request)
        .await
        .map_err(|why| format!("{why} ({} connection)", if reused { "a kept" } else { "a new" }))?;
    if answer.status >= 400 {
        return Err(format!("status {}: {:.200}", answer.status, answer.body));
    }
    if answer.keeps && plan.kind == Kind::KeepAlive {
        *kept = Some(stream);
    }
    Ok(answer)
}

struct Answer {
    status: u16,
    body: String,
    /// Whether the connection may be used again.
    keeps: bool,
}

/// The longest answer that is read.
const ANSWER_MAX: usize = 64 << 20;

/// What the head of an answer says about the rest.
struct Head {
    length: usize,
    status: u16,
    framing: Framing,
    keeps: bool,
}

#[derive(Clone, Copy)]
enum Framing {
    Bytes(usize),
    Chunks,
    UntilEnd,
}

fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is no text".to_owned())?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| format!("no status line: {first:.100}"))?;
    let mut keeps = first.starts_with("HTTP/1.1");
    let mut framing = Framing::UntilEnd;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().map_err(|_| format!("Content-Length: {value}"))?;
            framing = Framing::Bytes(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Framing::Chunks;
        } else if name.eq_ignore_ascii_case("connection") {
            keeps = !value.eq_ignore_ascii_case("close");
        }
    }
    if status == 204 || status == 304 {
        framing = Framing::Bytes(0);
    }
    Ok(Some(Head {
        length: end + 4,
        status,
        framing,
        keeps,
    }))
}

/// The body of a chunked answer, once its last chunk is there.
fn chunks(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&bytes[..end])
            .ok()
            .and_then(|text| usize::from_str_radix(text.split(';').next()?.trim(), 16).ok())
            .ok_or("a chunk without a size")?;
        let Some(rest) = bytes.get(end + 2..) else {
            return Ok(None);
        };
        let (Some(chunk), Some(after)) = (rest.get(..size), rest.get(size + 2..)) else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
        bytes = after;
    }
}

async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> Result<Answer, String> {
    stream
        .write_all(request)
        .await
        .map_err(|error| format!("send: {error}"))?;
    let mut bytes = Vec::with_capacity(1024);
    let mut head_of = None;
    loop {
        if head_of.is_none() {
            head_of = head(&bytes)?;
        }
        if let Some(head) = &head_of {
            let after = &bytes[head.length..];
            let body = match head.framing {
                Framing::Bytes(length) => after.get(..length).map(<[u8]>::to_vec),
                Framing::Chunks => chunks(after)?,
                Framing::UntilEnd => None,
            };
            if let Some(body) = body {
                return Ok(Answer {
                    status: head.status,
                    body: String::from_utf8_lossy(&body).into_owned(),
                    keeps: head.keeps,
                });
            }
        }
        let length = stream
            .read_buf(&mut bytes)
            .await
            .map_err(|error| format!("receive after {} bytes: {error}", bytes.len()))?;
        if length == 0 {
            return match head_of {
                Some(head) if matches!(head.framing, Framing::UntilEnd) => Ok(Answer {
                    status: head.status,
                    body: String::from_utf8_lossy(&bytes[head.length..]).into_owned(),
                    keeps: false,
                }),
                _ => Err(format!("the server hung up after {} bytes", bytes.len())),
            };
        }
        if bytes.len() > ANSWER_MAX {
            return Err("an answer without an end".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;
    use crate::wait_until;

    /// A server that treats the n-th connection as told by the n-th word.
    fn server(words: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        std::thread::spawn(move || {
            for word in words {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut request = [0; 1024];
                let keeps = word.starts_with("keep");
                loop {
                    if stream.read(&mut request).unwrap_or(0) == 0 {
                        break;
                    }
                    let answer = match *word {
                        "hang up" => "",
                        "half" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
                        "error" => "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
                        "chunks" => {
                            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n"
                        }
                        "end" => "HTTP/1.1 200 OK\r\n\r\nabcd",
                        _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
                    };
                    stream.write_all(answer.as_bytes()).expect("an answer");
                    if !keeps {
                        break;
                    }
                }
            }
        });
        address
    }

    #[test]
    fn every_failure_is_told_and_every_framing_read() {
        let load = Load::start(
            server(&["hang up", "half", "error", "chunks", "end"]),
            Kind::KeepAlive,
            1,
        );
        wait_until("five answers", Duration::from_secs(20), || {
            let (answered, failed) = (load.answered(), load.failed());
            if answered >= 2 && failed >= 3 {
                Ok(())
            } else {
                Err(format!("{answered} answered, {failed} failed"))
            }
        });
        let tally = load.stop();
        assert_eq!(tally.bodies.get("abcd"), Some(&2), "{tally:?}");
        let why: Vec<&str> = tally.failed.iter().map(|(_, why)| why.as_str()).collect();
        assert!(why[0].starts_with("the server hung up after 0 bytes"), "{why:?}");
        assert!(why[1].starts_with("the server hung up after 42 bytes"), "{why:?}");
        assert!(why[2].starts_with("status 503"), "{why:?}");
    }

    #[test]
    fn a_connection_is_kept_or_not() {
        let load = Load::start(server(&["keep"]), Kind::KeepAlive, 1);
        wait_until("answers", Duration::from_secs(20), || {
            if load.answered() > 50 {
                Ok(())
            } else {
                Err(format!("{}", load.answered()))
            }
        });
        let tally = load.stop();
        tally.assert_none_failed("nothing at all");
        assert_eq!(tally.connected, 1);
        assert!(tally.latency(0.5) <= tally.latency(0.99));
        assert!(tally.rate() > 0.0);
    }

    #[test]
    fn times_are_kept_to_three_percent() {
        for micros in [1_u64, 2, 31, 33, 1000, 123_456, 9_999_999] {
            let low = Latencies::lower_bound(Latencies::slot(micros));
            assert!(
                low <= micros && (micros - low) as f64 <= micros as f64 * 0.032,
                "{micros}: {low}"
            );
        }
    }
}
