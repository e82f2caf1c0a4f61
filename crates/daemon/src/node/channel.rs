//! The channel of a Node process: one JSON value a line, both ways, over a stream socket.
//!
//! It is Node's own protocol between a parent and what it forked. A message that carries a descriptor is wrapped in
//! `NODE_HANDLE` and acknowledged; while one is on its way everything but acknowledgements waits behind it, on either
//! side. `NODE_HANDLE_NACK` says that a line came without its descriptor: it is sent again, three times at most, and is
//! then given back to the owner ([`Heard::Undelivered`]), because somebody may wait for it.
//!
//! Our end is kept by the keeper as well: a daemon that dies does not look like a parent that hangs up. What the dead
//! daemon had read of a line is lost with it, so the first line of a channel that is taken up again is taken only
//! if it is an object.
//!
//! Bun speaks the same with a byte 0x02 before internal lines. Once a line came like that, ours go like that.
//!
//! What waits for a process that does not read is bounded, in messages and in bytes; so is the longest line that is
//! read ([`Limits`]): of a longer one nothing is kept, and the next line is heard again. Descriptors that a process sends are closed at once: nothing here wants them.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use serde_json::{Value, json};
use tokio::{io::Interest, net::UnixStream, sync::Notify};
use upkeep_sys::fd_pass::{self, PassError};

use crate::tasks::Task;

/// The longest lines that are taken, in bytes. A line becomes many times its length as values, in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// What the app sends.
    pub(crate) line: usize,
    /// What Node itself says.
    pub(crate) internal: usize,
}

impl Limits {
    /// Our own apps: nothing is wanted of what they send but `ready`.
    pub(crate) const OWN: Self = Self {
        line: 1 << 20,
        internal: 4 << 20,
    };
    /// PM2 passes on what apps send.
    pub(crate) const PM2: Self = Self {
        line: 16 << 20,
        internal: 16 << 20,
    };

    fn of(self, line: &[u8]) -> usize {
        let line = line.strip_prefix(&[BUN_MARK]).unwrap_or(line);
        if line.starts_with(INTERNAL) {
            self.internal
        } else {
            self.line
        }
    }
}

/// How the lines begin that are Node's own.
const INTERNAL: &[u8] = b"{\"cmd\":\"NODE_";
/// And those that have to be acknowledged, even unread.
const WITH_HANDLE: &[u8] = b"{\"cmd\":\"NODE_HANDLE\"";
/// How many messages may wait for a process that does not read.
pub(crate) const QUEUE_MAX: usize = 4096;
/// How many bytes may wait. One message may be longer, if nothing else waits.
pub(crate) const QUEUE_BYTES: usize = 32 << 20;
/// How often a descriptor that did not arrive is sent again, as Node does it.
pub(crate) const NACKS_MAX: u32 = 3;
/// After so many reads others get their turn.
const READS_AT_ONCE: u32 = 16;
/// What Bun writes before an internal line.
const BUN_MARK: u8 = 2;

#[derive(Debug)]
struct Outgoing {
    line: Vec<u8>,
    handle: Option<Handle>,
    /// Acknowledgements overtake what waits.
    is_ack: bool,
}

/// A descriptor and what went with it.
#[derive(Clone, Debug)]
struct Handle {
    descriptor: Rc<OwnedFd>,
    /// The message inside the wrapping.
    message: Value,
    /// How often the process said that it did not arrive.
    nacks: u32,
}

/// What waits to be sent.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    /// Sum of the lines that wait.
    bytes: usize,
    /// What the socket has not taken of a line.
    partial: Vec<u8>,
    /// The line and the descriptor that are sent and not acknowledged.
    unacknowledged: Option<(Vec<u8>, Handle)>,
    is_bun: bool,
    broken: bool,
}

impl Queue {
    fn push(&mut self, outgoing: Outgoing) -> bool {
        let length = outgoing.line.len();
        let full = self.waiting.len() >= QUEUE_MAX || (self.bytes > 0 && self.bytes + length > QUEUE_BYTES);
        if self.broken || full {
            return false;
        }
        self.bytes += length;
        if outgoing.is_ack {
            self.waiting.push_front(outgoing);
        } else {
            self.waiting.push_back(outgoing);
        }
        true
    }

    /// What may go out next.
    fn next(&mut self) -> Option<Outgoing> {
        let held = self.unacknowledged.is_some();
        let at = self
            .waiting
            .iter()
            .position(|outgoing| !held || outgoing.is_ack)?;
        let outgoing = self.waiting.remove(at)?;
        self.bytes -= outgoing.line.len();
        Some(outgoing)
    }

    fn put_back(&mut self, outgoing: Outgoing) {
        self.bytes += outgoing.line.len();
        self.waiting.push_front(outgoing);
    }

    /// Part of a message has gone, and with it its descriptor.
    fn sent(&mut self, outgoing: Outgoing, length: usize) {
        outgoing.line[length..].clone_into(&mut self.partial);
        if let Some(handle) = outgoing.handle {
            self.unacknowledged = Some((outgoing.line, handle));
        }
    }

    /// The descriptor did not arrive. What is given back has been tried often enough.
    fn refused(&mut self) -> Option<Handle> {
        let (line, mut handle) = self.unacknowledged.take()?;
        handle.nacks += 1;
        if handle.nacks > NACKS_MAX {
            return Some(handle);
        }
        self.put_back(Outgoing {
            line,
            handle: Some(handle),
            is_ack: false,
        });
        None
    }
}

/// Our end.
pub(crate) struct Channel {
    queue: Rc<RefCell<Queue>>,
    wake: Rc<Notify>,
    _task: Task,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

/// What a process says.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A value.
    Message(Value),
    /// A message with a descriptor that the process could not take.
    Undelivered(Value),
    /// It has closed its end, or has ended, or does not keep to the protocol.
    End,
}

impl Channel {
    /// Serves a socket; `resumed`: an earlier daemon did so before. `heard` gets what the process says, in order; it must
    /// not wait.
    pub(crate) fn open(
        socket: OwnedFd,
        limits: Limits,
        resumed: bool,
        heard: impl Fn(Heard) + 'static,
    ) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        let queue = Rc::new(RefCell::new(Queue::default()));
        let wake = Rc::new(Notify::new());
        let (queue_of_task, wake_of_task) = (Rc::clone(&queue), Rc::clone(&wake));
        let task = Task::spawn("node channel", async move {
            let lines = Lines {
                limits,
                bytes: Vec::new(),
                scanned: 0,
                doubtful: resumed,
                skipping: false,
            };
            serve(&socket, &queue_of_task, &wake_of_task, lines, &heard).await;
            // The keeper's duplicate stays open: ours alone would not be noticed by the process.
            heard(Heard::End);
        });
        Ok(Self {
            queue,
            wake,
            _task: task,
        })
    }

    /// Queues a message. `false`: the process is gone, or does not read.
    pub(crate) fn send(&self, message: &Value) -> bool {
        let line = line(message, self.queue.borrow().is_bun);
        self.push(Outgoing {
            line,
            handle: None,
            is_ack: false,
        })
    }

    /// Queues an internal message with a descriptor of this type. We keep ours until it is acknowledged.
    pub(crate) fn send_handle(&self, message: Value, kind: &str, descriptor: Rc<OwnedFd>) -> bool {
        let wrapped = json!({"cmd": "NODE_HANDLE", "type": kind, "msg": message});
        let line = line(&wrapped, self.queue.borrow().is_bun);
        self.push(Outgoing {
            line,
            handle: Some(Handle {
                descriptor,
                message,
                nacks: 0,
            }),
            is_ack: false,
        })
    }

    /// Whether everything that was said is out, or never will be.
    pub(crate) fn is_idle(&self) -> bool {
        let queue = self.queue.borrow();
        queue.broken || (queue.waiting.is_empty() && queue.partial.is_empty())
    }

    /// Whether it is Bun that speaks.
    pub(crate) fn is_bun(&self) -> bool {
        self.queue.borrow().is_bun
    }

    fn push(&self, outgoing: Outgoing) -> bool {
        let queued = self.queue.borrow_mut().push(outgoing);
        if queued {
            self.wake.notify_one();
        }
        queued
    }
}

fn is_internal(message: &Value) -> bool {
    message
        .get("cmd")
        .and_then(Value::as_str)
        .is_some_and(|cmd| cmd.starts_with("NODE_"))
}

fn line(message: &Value, is_bun: bool) -> Vec<u8> {
    let mut line = Vec::new();
    if is_bun && is_internal(message) {
        line.push(BUN_MARK);
    }
    line.extend(message.to_string().into_bytes());
    line.push(b'\n');
    line
}

/// Takes lines out of what was read.
#[derive(Debug)]
struct Lines {
    limits: Limits,
    bytes: Vec<u8>,
    /// So much has no newline in it.
    scanned: usize,
    /// The next line may be the rest of one.
    doubtful: bool,
    /// What comes until the next newline belongs to a line that is too long.
    skipping: bool,
}

/// What was found in what was read.
#[derive(Debug)]
enum Line {
    Message {
        message: Value,
        /// As Bun writes what is internal.
        marked: bool,
    },
    /// One that is too long. What it began with: whether it brought a descriptor.
    TooLong { with_handle: bool },
}

impl Lines {
    /// Takes more bytes, and gives each whole message to `take`.
    fn take(&mut self, more: &[u8], mut take: impl FnMut(Line)) {
        let mut more = more;
        if self.skipping {
            let Some(end) = memchr::memchr(b'\n', more) else {
                return;
            };
            self.skipping = false;
            self.doubtful = false;
            more = &more[end + 1..];
        }
        self.bytes.extend_from_slice(more);
        let mut start = 0;
        while let Some(at) = memchr::memchr(b'\n', &self.bytes[self.scanned..]) {
            let end = self.scanned + at;
            let line = &self.bytes[start..end];
            if line.len() > self.limits.of(line) {
                take(Line::too_long(line));
            } else {
                let marked = line.first() == Some(&BUN_MARK);
                let line = if marked { &line[1..] } else { line };
                // What is no JSON is not for us: something else writes to that descriptor.
                if let Ok(message) = serde_json::from_slice::<Value>(line)
                    && (!self.doubtful || message.is_object())
                {
                    take(Line::Message { message, marked });
                }
            }
            self.doubtful = false;
            start = end + 1;
            self.scanned = start;
        }
        self.bytes.drain(..start);
        if self.bytes.len() > self.limits.of(&self.bytes) {
            take(Line::too_long(&self.bytes));
            self.skipping = true;
            self.bytes.clear();
        }
        self.scanned = self.bytes.len();
        // A long line once must not be paid for ever after.
        if self.bytes.is_empty() && self.bytes.capacity() > 1 << 20 {
            self.bytes = Vec::new();
        }
    }
}

impl Line {
    fn too_long(line: &[u8]) -> Self {
        let line = line.strip_prefix(&[BUN_MARK]).unwrap_or(line);
        Self::TooLong {
            with_handle: line.starts_with(WITH_HANDLE),
        }
    }
}

async fn serve(
    socket: &UnixStream,
    queue: &RefCell<Queue>,
    wake: &Notify,
    mut lines: Lines,
    heard: &impl Fn(Heard),
) {
    let mut told = false;
    let mut passed = VecDeque::new();
    let mut buffer = vec![0; 64 << 10];
    let mut reads = 0;
    while let Ok(blocked) = flush(socket, queue) {
        tokio::select! {
            // Cancel-safe: readiness stays until a read finds nothing.
            ready = socket.readable() => {
                if ready.is_err() {
                    break;
                }
                let received = socket.try_io(Interest::READABLE, || {
                    match fd_pass::recv(socket, &mut buffer, &mut passed) {
                        // Whose descriptors are lost: we are out of them, and want none.
                        Err(PassError::Truncated { bytes }) => Ok(bytes),
                        received => received.map_err(into_io),
                    }
                });
                passed.clear();
                match received {
                    Ok(0) => break,
                    Ok(length) => {
                        lines.take(&buffer[..length], |line| match line {
                            Line::Message { message, marked } => {
                                queue.borrow_mut().is_bun |= marked;
                                receive(message, queue, heard);
                            }
                            Line::TooLong { with_handle } => {
                                if with_handle {
                                    acknowledge(queue);
                                }
                                if !std::mem::replace(&mut told, true) {
                                    crate::main_loop::note(
                                        "a Node process sent a message that is too long to be taken; it was skipped",
                                    );
                                }
                            }
                        });
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(_) => break,
                }
                reads += 1;
                if reads % READS_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
            // Cancel-safe for the same reason.
            ready = socket.writable(), if blocked => {
                if ready.is_err() {
                    break;
                }
            }
            // Cancel-safe: a permit that is not taken stays.
            () = wake.notified() => {}
        }
    }
    queue.borrow_mut().broken = true;
}

/// One message of the process: what belongs to the passing of descriptors is dealt with here.
fn receive(message: Value, queue: &RefCell<Queue>, heard: &impl Fn(Heard)) {
    match message.get("cmd").and_then(Value::as_str) {
        Some("NODE_HANDLE_ACK") => queue.borrow_mut().unacknowledged = None,
        Some("NODE_HANDLE_NACK") => {
            let refused = queue.borrow_mut().refused();
            if let Some(handle) = refused {
                heard(Heard::Undelivered(handle.message));
            }
        }
        Some("NODE_HANDLE") => {
            acknowledge(queue);
            if let Value::Object(mut wrapped) = message
                && let Some(inner) = wrapped.remove("msg")
            {
                heard(Heard::Message(inner));
            }
        }
        _ => heard(Heard::Message(message)),
    }
}

/// Says that a descriptor has come. Unacknowledged it would block the process's channel for good.
fn acknowledge(queue: &RefCell<Queue>) {
    let mut queue = queue.borrow_mut();
    let ack = Outgoing {
        line: line(&json!({"cmd": "NODE_HANDLE_ACK"}), queue.is_bun),
        handle: None,
        is_ack: true,
    };
    // A process that sends handles and never reads: the queue is full, and it has made itself mute.
    queue.push(ack);
}

/// Writes what can be written; whether something is left that the socket did not take.
fn flush(socket: &UnixStream, queue: &RefCell<Queue>) -> Result<bool, ()> {
    let mut queue = queue.borrow_mut();
    loop {
        if queue.partial.is_empty() {
            let Some(message) = queue.next() else {
                return Ok(false);
            };
            let handles: Vec<_> = message
                .handle
                .iter()
                .map(|handle| handle.descriptor.as_fd())
                .collect();
            match send(socket, &message.line, &handles) {
                Ok(length) => {
                    drop(handles);
                    queue.sent(message, length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(handles);
                    queue.put_back(message);
                    return Ok(true);
                }
                Err(_) => return Err(()),
            }
        } else {
            match send(socket, &queue.partial, &[]) {
                Ok(sent) => {
                    queue.partial.drain(..sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(_) => return Err(()),
            }
        }
    }
}

fn send(socket: &UnixStream, bytes: &[u8], handles: &[BorrowedFd<'_>]) -> io::Result<usize> {
    socket.try_io(Interest::WRITABLE, || {
        fd_pass::send(socket, bytes, handles).map_err(into_io)
    })
}

/// Only whether to try again matters.
fn into_io(error: PassError) -> io::Error {
    if error.would_block() {
        io::ErrorKind::WouldBlock.into()
    } else {
        io::Error::other(error)
    }
}

/// What both ends of a child's stream need: ours and the child's.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    fd_pass::socketpair().map_err(io::Error::other)
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
