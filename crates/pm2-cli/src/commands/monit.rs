//! `monit`, `dashboard`, `imonit`: apps, logs and figures on the whole screen.

mod screen;

use std::{
    collections::{HashMap, VecDeque},
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use serde_json::Value;
use upkeep_pm2::client::Bus;
use upkeep_sys::{
    poll::{self, Interest},
    raw_mode::{self, RawMode},
    signal::{SignalFd, number},
};

use crate::{
    args::Invocation,
    context::{Context, Failure, pause},
    logs::text,
};
use screen::View;

/// Between two looks at the list.
const REFRESH: Duration = Duration::from_millis(800);
/// The longest wait for a key before logs are looked at.
const TICK_MS: u64 = 150;
/// Lines kept of each app.
const KEPT: usize = 500;
/// Chunks that wait to be shown; more are dropped, for the screen is too small anyway.
const WAITING: usize = 1024;

/// The other screen, without a cursor, until dropped.
struct Screen;

impl Screen {
    fn open() -> io::Result<Self> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(b"\x1b[?1049h\x1b[?25l")?;
        stdout.flush()?;
        Ok(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = io::stdout().lock();
        // A terminal that is gone needs no manners.
        let _ = stdout.write_all(b"\x1b[?25h\x1b[?1049l");
        let _ = stdout.flush();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Up,
    Down,
    Leave,
}

/// What the bytes of a read mean. An escape alone is a key, with more behind it an arrow.
fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (0x1b, [b'[' | b'O', letter, more @ ..]) => {
                rest = more;
                match letter {
                    b'A' | b'Z' => keys.push(Key::Up),
                    b'B' => keys.push(Key::Down),
                    _ => {}
                }
            }
            (0x1b | 0x03 | b'q', _) => keys.push(Key::Leave),
            (b'\t' | b'j', _) => keys.push(Key::Down),
            (b'k', _) => keys.push(Key::Up),
            _ => {}
        }
    }
    keys
}

struct Chunk {
    id: u64,
    text: String,
}

/// Listens to the bus for as long as somebody takes what it says.
fn listen(socket: PathBuf, sender: SyncSender<Chunk>) {
    std::thread::spawn(move || {
        loop {
            if let Ok(mut bus) = Bus::connect(&socket) {
                while let Ok(Some(published)) = bus.next_event() {
                    let id = published
                        .payload
                        .pointer("/process/pm_id")
                        .and_then(Value::as_u64);
                    if let Some(id) = id.filter(|_| matches!(published.event.as_str(), "log:out" | "log:err"))
                    {
                        let text = text(&published.payload, "data").to_owned();
                        // Full: the screen shows the newest only.
                        let _ = sender.try_send(Chunk { id, text });
                    }
                }
            }
            pause(REFRESH);
        }
    });
}

pub(super) fn monit(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::new(
            "monit needs a terminal; `pm2 list` and `pm2 logs` do not",
        ));
    }
    context.rpc()?;
    let signals =
        SignalFd::new(&[number::INT, number::TERM, number::HUP, number::QUIT]).map_err(Failure::new)?;
    let (sender, chunks) = sync_channel(WAITING);
    listen(context.home.publish.clone(), sender);
    let _raw = RawMode::new().map_err(Failure::new)?;
    let _screen = Screen::open()?;
    watch(context, &signals, &chunks)
}

fn watch(context: &mut Context, signals: &SignalFd, chunks: &Receiver<Chunk>) -> Result<(), Failure> {
    let mut logs: HashMap<u64, VecDeque<String>> = HashMap::new();
    let mut processes = context.processes()?;
    let mut looked = Instant::now();
    let mut selected = 0_usize;
    let mut shown = String::new();
    let stdin = io::stdin();
    loop {
        while let Ok(chunk) = chunks.try_recv() {
            let kept = logs.entry(chunk.id).or_default();
            kept.extend(
                chunk
                    .text
                    .lines()
                    .filter(|line| !line.is_empty())
                    .map(screen::plain),
            );
            let surplus = kept.len().saturating_sub(KEPT);
            kept.drain(..surplus);
        }
        if looked.elapsed() >= REFRESH {
            // A daemon that is away for a moment leaves the list as it was.
            context.disconnect();
            if context.rpc_if_there().is_some() {
                processes = context.processes()?;
            }
            looked = Instant::now();
        }
        selected = selected.min(processes.len().saturating_sub(1));
        let id = processes
            .get(selected)
            .and_then(|process| process.get("pm_id"))
            .and_then(Value::as_u64);
        let view = View {
            processes: &processes,
            selected,
            logs: id.and_then(|id| logs.get(&id)),
            size: raw_mode::size().unwrap_or((80, 24)),
        };
        let text = view.render(context.style);
        if text != shown {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            stdout.flush()?;
            shown = text;
        }
        let mut interests = [Interest::readable(&stdin), Interest::readable(signals)];
        poll::wait(&mut interests, Some(TICK_MS)).map_err(Failure::new)?;
        let (has_keys, has_signal) = (interests[0].is_readable(), interests[1].is_readable());
        if has_signal {
            return Ok(());
        }
        if has_keys {
            let mut bytes = [0; 64];
            let length = stdin.lock().read(&mut bytes)?;
            // The terminal has gone.
            if length == 0 {
                return Ok(());
            }
            for key in keys(&bytes[..length]) {
                match key {
                    Key::Leave => return Ok(()),
                    Key::Down => {
                        selected = if selected + 1 < processes.len() {
                            selected + 1
                        } else {
                            0
                        }
                    }
                    Key::Up if selected == 0 => selected = processes.len().saturating_sub(1),
                    Key::Up => selected -= 1,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_keys() {
        assert_eq!(keys(b"\x1b[A\x1b[B"), [Key::Up, Key::Down]);
        assert_eq!(keys(b"\x1b"), [Key::Leave]);
        assert_eq!(keys(b"\x03"), [Key::Leave]);
        assert_eq!(keys(b"q"), [Key::Leave]);
        assert_eq!(keys(b"\t\x1b[Zx\x1b[5"), [Key::Down, Key::Up]);
    }
}
