//! The channel of a Node app: one JSON value a line, both ways, on descriptor 3 of the child.
//!
//! Messages that carry a descriptor are wrapped in `NODE_HANDLE` and acknowledged; while one is on its way everything
//! but acknowledgements waits behind it, on either side (see the notes on Node's cluster protocol). Our end is also
//! kept by the keeper: a daemon that dies does not look like a parent that hangs up.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use serde_json::{Value, json};
use tokio::{io::Interest, net::UnixStream, sync::Notify};
use upkeep_sys::fd_pass;

use crate::tasks::Task;

/// The longest line that is read, in bytes.
const LINE_MAX: usize = 64 << 20;
/// How many messages may wait for a child that does not read.
const QUEUE_MAX: usize = 4096;
/// How often a descriptor that did not arrive is sent again, as Node does it.
const NACKS_MAX: u32 = 3;

struct Outgoing {
    line: Vec<u8>,
    handle: Option<Rc<OwnedFd>>,
    /// How often the child said that the descriptor did not arrive.
    nacks: u32,
    /// Acknowledgements overtake what waits.
    is_ack: bool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    /// Bytes of a line that were not taken yet.
    partial: Vec<u8>,
    /// A descriptor that is sent and not acknowledged, with its line.
    unacknowledged: Option<(Vec<u8>, Rc<OwnedFd>, u32)>,
    broken: bool,
}

/// Our end.
pub(super) struct Channel {
    queue: Rc<RefCell<Queue>>,
    wake: Rc<Notify>,
    _task: Task,
}

/// What a child says.
#[derive(Debug)]
pub(super) enum Heard {
    /// A value.
    Message(Value),
    /// It has closed its end, or has ended.
    End,
}

impl Channel {
    /// Serves a socket. `heard` gets what the child says, in order; it must not wait.
    pub(super) fn open(socket: OwnedFd, heard: impl Fn(Heard) + 'static) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        let queue = Rc::new(RefCell::new(Queue::default()));
        let wake = Rc::new(Notify::new());
        let (queue_of_task, wake_of_task) = (Rc::clone(&queue), Rc::clone(&wake));
        let task = Task::spawn("ipc", async move {
            serve(&socket, &queue_of_task, &wake_of_task, &heard).await;
            heard(Heard::End);
        });
        Ok(Self {
            queue,
            wake,
            _task: task,
        })
    }

    /// Queues a message. `false`: the child is gone, or does not read.
    pub(super) fn send(&self, message: &Value) -> bool {
        self.push(message, None, false)
    }

    /// Queues a Node-internal message with a descriptor of this type.
    pub(super) fn send_handle(&self, message: &Value, kind: &str, handle: Rc<OwnedFd>) -> bool {
        let wrapped = json!({"cmd": "NODE_HANDLE", "type": kind, "msg": message});
        self.push(&wrapped, Some(handle), false)
    }

    fn push(&self, message: &Value, handle: Option<Rc<OwnedFd>>, is_ack: bool) -> bool {
        let mut queue = self.queue.borrow_mut();
        if queue.broken || queue.waiting.len() >= QUEUE_MAX {
            return false;
        }
        queue.waiting.push_back(outgoing(message, handle, is_ack));
        drop(queue);
        self.wake.notify_one();
        true
    }
}

fn outgoing(message: &Value, handle: Option<Rc<OwnedFd>>, is_ack: bool) -> Outgoing {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    Outgoing {
        line,
        handle,
        nacks: 0,
        is_ack,
    }
}

async fn serve(socket: &UnixStream, queue: &Rc<RefCell<Queue>>, wake: &Notify, heard: &impl Fn(Heard)) {
    let mut bytes: Vec<u8> = Vec::new();
    let mut scanned = 0;
    let mut passed = VecDeque::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(blocked) = flush(socket, queue) {
        tokio::select! {
            // Cancel-safe: readiness stays until a read finds nothing.
            ready = socket.readable() => {
                if ready.is_err() {
                    break;
                }
                let received = socket.try_io(Interest::READABLE, || {
                    fd_pass::recv(socket, &mut buffer, &mut passed).map_err(into_io)
                });
                match received {
                    Ok(0) => break,
                    Ok(length) => bytes.extend_from_slice(&buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(_) => break,
                }
            }
            // Cancel-safe for the same reason.
            ready = socket.writable(), if blocked => {
                if ready.is_err() {
                    break;
                }
                continue;
            }
            // Cancel-safe: a permit that is not taken stays.
            () = wake.notified() => continue,
        }
        while let Some(at) = memchr::memchr(b'\n', &bytes[scanned..]) {
            let end = scanned + at;
            // What is no JSON is not for us: something else writes to that descriptor.
            if let Ok(message) = serde_json::from_slice::<Value>(&bytes[..end]) {
                receive(message, queue, &mut passed, heard);
            }
            bytes.drain(..=end);
            scanned = 0;
        }
        scanned = bytes.len();
        if bytes.len() > LINE_MAX {
            break;
        }
    }
    queue.borrow_mut().broken = true;
}

/// One message of the child: what belongs to the passing of descriptors is dealt with here.
fn receive(message: Value, queue: &RefCell<Queue>, passed: &mut VecDeque<OwnedFd>, heard: &impl Fn(Heard)) {
    match message.get("cmd").and_then(Value::as_str) {
        Some("NODE_HANDLE_ACK") => queue.borrow_mut().unacknowledged = None,
        Some("NODE_HANDLE_NACK") => {
            let mut queue = queue.borrow_mut();
            if let Some((line, handle, nacks)) = queue.unacknowledged.take()
                && nacks < NACKS_MAX
            {
                queue.waiting.push_front(Outgoing {
                    line,
                    handle: Some(handle),
                    nacks: nacks + 1,
                    is_ack: false,
                });
            }
        }
        Some("NODE_HANDLE") => {
            // Nobody here wants it; unacknowledged it would block the child's channel for good.
            passed.pop_front();
            let ack = outgoing(&json!({"cmd": "NODE_HANDLE_ACK"}), None, true);
            queue.borrow_mut().waiting.push_front(ack);
            if let Some(inner) = message.get("msg") {
                heard(Heard::Message(inner.clone()));
            }
        }
        _ => heard(Heard::Message(message)),
    }
}

/// Writes what can be written; whether something is left that the socket did not take.
fn flush(socket: &UnixStream, queue: &RefCell<Queue>) -> Result<bool, ()> {
    let mut queue = queue.borrow_mut();
    loop {
        if queue.partial.is_empty() {
            let held = queue.unacknowledged.is_some();
            let next = queue.waiting.iter().position(|outgoing| !held || outgoing.is_ack);
            let Some(message) = next.and_then(|at| queue.waiting.remove(at)) else {
                return Ok(false);
            };
            let handles: Vec<_> = message.handle.iter().map(|handle| handle.as_fd()).collect();
            match send(socket, &message.line, &handles) {
                Ok(sent) => {
                    queue.partial = message.line[sent..].to_vec();
                    if let Some(handle) = &message.handle {
                        queue.unacknowledged = Some((message.line.clone(), Rc::clone(handle), message.nacks));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(handles);
                    queue.waiting.push_front(message);
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
fn into_io(error: fd_pass::PassError) -> io::Error {
    if error.would_block() {
        io::ErrorKind::WouldBlock.into()
    } else {
        io::Error::other(error)
    }
}

/// What both ends of a child's stream need: ours and the child's.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    fd_pass::socketpair().map_err(io::Error::other)
}
