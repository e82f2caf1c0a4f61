//! A server as a careful author writes it: it takes the socket that it is handed (`LISTEN_FDS`), and when it is told to
//! end it answers what comes on kept connections once more, with `Connection: close`, before it ends.
//!
//! Variables: `V` is the body of every answer; `CRASH_AFTER_MS` ends it like a crash; `EXIT_AT_ONCE` (an instance number)
//! makes that instance end before it serves.

#![forbid(unsafe_code)]

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use listenfd::ListenFd;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

static ENDING: AtomicBool = AtomicBool::new(false);
/// Requests that are being answered.
static IN_HAND: AtomicUsize = AtomicUsize::new(0);
/// How long kept connections are answered once more after the order to end.
const GRACE: Duration = Duration::from_millis(700);

fn main() -> io::Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    if let Some(instance) = variable("EXIT_AT_ONCE")
        && variable("UPKEEP_INSTANCE").as_deref() == Some(&instance)
    {
        return Err(io::Error::other("told to end at once"));
    }
    let body = variable("V").unwrap_or_default();
    let crash = variable("CRASH_AFTER_MS").and_then(|text| text.parse().ok());
    let listener = ListenFd::from_env()
        .take_tcp_listener(0)?
        .ok_or_else(|| io::Error::other("no socket was handed over"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(listener, body, crash))
}

async fn serve(listener: std::net::TcpListener, body: String, crash: Option<u64>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut term = signal(SignalKind::terminate())?;
    let crash_at = Duration::from_millis(crash.unwrap_or(u64::MAX >> 20));
    let crash = tokio::time::sleep(crash_at);
    tokio::pin!(crash);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let body = body.clone();
                tokio::task::spawn_local(async move {
                    // Its errors are the client's.
                    let _ = answer(stream, &body).await;
                });
            }
            // As a crash does it: what is in hand is lost.
            () = &mut crash => std::process::abort(),
            _ = term.recv() => break,
        }
    }
    drop(listener);
    ENDING.store(true, Ordering::Relaxed);
    tokio::time::sleep(GRACE).await;
    while IN_HAND.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn answer(mut stream: TcpStream, body: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0_u8; 2048];
    loop {
        while !request.windows(4).any(|four| four == b"\r\n\r\n") {
            let count = stream.read(&mut piece).await?;
            if count == 0 {
                return Ok(());
            }
            request.extend_from_slice(&piece[..count]);
        }
        IN_HAND.fetch_add(1, Ordering::Relaxed);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let last = ENDING.load(Ordering::Relaxed) || text.contains("connection: close");
        let kept = if last { "close" } else { "keep-alive" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {kept}\r\n\r\n{body}",
            body.len()
        );
        let written = stream.write_all(answer.as_bytes()).await;
        IN_HAND.fetch_sub(1, Ordering::Relaxed);
        written?;
        if last {
            return stream.shutdown().await;
        }
        request.clear();
    }
}
