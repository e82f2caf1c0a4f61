//! What an instance says by sd_notify(3).
//!
//! Every process that may speak so gets a socket of its own in the abstract namespace, made for it before it is
//! started; the keeper holds a duplicate under `notify:KEY`, so that nothing is lost while there is no daemon. The
//! kernel tells who sent a message; it counts only if the sender is in the instance's tree. Unknown lines mean
//! nothing, as the protocol wants it.

use std::{collections::VecDeque, io, os::fd::AsFd, rc::Rc};

use tokio::{io::Interest, net::UnixDatagram};
use upkeep_keeper::protocol::{Event, Request};
use upkeep_model::app::AppSpec;
use upkeep_supervise::health::Word;
use upkeep_sys::{
    clock,
    notify::{Message, NotifySocket},
    pid::Pid,
    process,
};

use crate::{apps::actor::Context, main_loop::note};

/// A longer extension is taken for this one: a day.
const MORE_TIME_MAX_MS: u64 = 24 * 3600 * 1000;
/// How much of `STATUS=` is kept.
const STATUS_MAX: usize = 500;

/// Name of the socket in the keeper's table.
pub(crate) fn descriptor_name(key: &str) -> String {
    format!("{PREFIX}{key}")
}

/// What those names begin with.
pub(crate) const PREFIX: &str = "notify:";

/// A socket for a process that is about to be started, and the value of its `NOTIFY_SOCKET`.
/// A sandbox that abstract names do not reach into gets a file, which its cage shows it.
pub(crate) fn open(
    context: &Rc<Context>,
    spec: &AppSpec,
    key: &str,
) -> Result<(NotifySocket, String), String> {
    if let Some(path) = crate::cage::notify_file(&spec.sandbox, key) {
        let socket = NotifySocket::bind_file(&path)
            .map_err(|error| format!("its notify socket could not be made: {error}"))?;
        keep(context, key, &socket)?;
        return Ok((socket, path.display().to_string()));
    }
    // Unique on the machine: a second daemon, or another home, may have an app of that name.
    let own = std::process::id();
    let name = format!("upkeep/notify/{own}/{}/{key}", clock::monotonic_ms());
    let name: String = name.chars().take(60).collect();
    let mut last = String::new();
    for attempt in 0..8_u32 {
        let name = format!("{name}.{attempt:x}{:x}", super::dice() & 0xffff);
        match NotifySocket::bind(&name) {
            Ok(socket) => {
                keep(context, key, &socket)?;
                return Ok((socket, format!("@{name}")));
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("its notify socket could not be made: {last}"))
}

/// It is to outlive us.
fn keep(context: &Rc<Context>, key: &str, socket: &NotifySocket) -> Result<(), String> {
    let duplicate = socket.as_fd().try_clone_to_owned();
    let descriptor = duplicate.map_err(|error| error.to_string())?;
    context.link.order(|id| Request::PutDescriptor {
        id,
        name: descriptor_name(key),
        descriptor,
    });
    Ok(())
}

/// The socket that an earlier daemon made.
pub(super) async fn reopen(context: &Rc<Context>, key: &str) -> Option<NotifySocket> {
    let name = descriptor_name(key);
    match context
        .link
        .ask(|id| Request::GetDescriptor { id, name })
        .wait()
        .await
    {
        Ok(Event::Descriptor { descriptor, .. }) => NotifySocket::adopt(descriptor).ok(),
        Ok(_) | Err(_) => None,
    }
}

/// The process has ended: nobody will speak there any more.
pub(crate) fn close(context: &Rc<Context>, key: &str) {
    let name = descriptor_name(key);
    context.link.order(|id| Request::CloseDescriptor { id, name });
    // Mostly there is none; one that stays is removed by the next of that key.
    let _ = std::fs::remove_file(crate::cage::notify_path(key));
}

/// A socket in the runtime.
pub(super) struct Ear {
    socket: NotifySocket,
    /// A duplicate, only to be told when something is there.
    ready: UnixDatagram,
}

impl Ear {
    pub(super) fn new(socket: NotifySocket) -> Option<Self> {
        let duplicate = socket
            .as_fd()
            .try_clone_to_owned()
            .and_then(|duplicate| UnixDatagram::from_std(duplicate.into()));
        match duplicate {
            Ok(ready) => Some(Self { socket, ready }),
            Err(error) => {
                note(&format!("a notify socket cannot be watched: {error}"));
                None
            }
        }
    }

    /// The next message. Cancel-safe: a message is taken only when it is returned.
    pub(super) async fn next(&self) -> Option<Message> {
        loop {
            self.ready.readable().await.ok()?;
            let received = self
                .ready
                .try_io(Interest::READABLE, || match self.socket.receive() {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
                    Err(error) => Err(io::Error::from_raw_os_error(error.errno)),
                });
            match received {
                Ok(message) => return Some(message),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}

/// What a message means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) words: Vec<Word>,
    pub(super) status: Option<String>,
    pub(super) main_pid: Option<u32>,
    pub(super) errno: Option<i32>,
}

/// Whether a message is of that tree. A sender that has ended cannot be told from a stranger.
pub(super) fn is_ours(message: &Message, leader: u32) -> bool {
    let pid = |raw: u32| Pid::from_unsigned(raw);
    match (message.sender.and_then(pid), pid(leader)) {
        (Some(sender), Some(leader)) => process::is_within(sender, leader),
        _ => false,
    }
}

/// How long it is believed that a sender is of the tree, or is not, ms.
const BELIEVED_MS: u64 = 1000;
/// Of how many senders it is known.
const SENDERS_MAX: usize = 16;

/// Who has spoken lately: a process that speaks often is not looked for in the tree each time.
#[derive(Debug, Default)]
pub(super) struct Senders(VecDeque<Sender>);

#[derive(Debug)]
struct Sender {
    pid: u32,
    /// Tells it from another process of that number.
    start_ticks: u64,
    is_ours: bool,
    until_ms: u64,
}

impl Senders {
    /// As [`is_ours`], for a second.
    pub(super) fn are_ours(&mut self, message: &Message, leader: u32, now: u64) -> bool {
        let started = message
            .sender
            .and_then(Pid::from_unsigned)
            .and_then(|pid| process::stat(pid).ok())
            .map(|stat| stat.start_ticks);
        let (Some(pid), Some(start_ticks)) = (message.sender, started) else {
            return is_ours(message, leader);
        };
        self.0.retain(|known| known.until_ms > now);
        let known = self
            .0
            .iter()
            .find(|known| known.pid == pid && known.start_ticks == start_ticks);
        if let Some(known) = known {
            return known.is_ours;
        }
        let is_ours = is_ours(message, leader);
        if self.0.len() >= SENDERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Sender {
            pid,
            start_ticks,
            is_ours,
            until_ms: now.saturating_add(BELIEVED_MS),
        });
        is_ours
    }
}

/// Reads the lines of a message. What it says twice counts once, where it was said last.
pub(super) fn parse(text: &str) -> Said {
    let mut said = Said::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let millis = || value.parse::<u64>().ok().map(|micros| micros / 1000);
        match (key, value) {
            ("READY", "1") => said.words.push(Word::Ready),
            ("RELOADING", "1") => said.words.push(Word::Reloading),
            ("STOPPING", "1") => said.words.push(Word::Stopping),
            ("WATCHDOG", "1") => said.words.push(Word::Alive),
            ("WATCHDOG", "trigger") => said.words.push(Word::Trigger),
            ("WATCHDOG_USEC", _) => {
                // Below a millisecond nobody can keep it; 0 switches it off.
                let given = value.parse::<u64>().ok();
                let millis = given.map(|micros| if micros == 0 { 0 } else { (micros / 1000).max(1) });
                said.words
                    .extend(millis.map(|millis| Word::WatchdogEvery { millis }));
            }
            ("EXTEND_TIMEOUT_USEC", _) => {
                let word = |millis: u64| Word::MoreTime {
                    millis: millis.min(MORE_TIME_MAX_MS),
                };
                said.words.extend(millis().map(word));
            }
            ("STATUS", _) => {
                let plain = value.chars().filter(|character| !character.is_control());
                said.status = Some(plain.take(STATUS_MAX).collect());
            }
            ("MAINPID", _) => said.main_pid = value.parse().ok().filter(|pid| *pid > 0),
            ("ERRNO", _) => said.errno = value.parse().ok(),
            _ => {}
        }
    }
    let mut kinds = Vec::new();
    said.words.reverse();
    said.words.retain(|word| {
        let kind = std::mem::discriminant(word);
        let first = !kinds.contains(&kind);
        if first {
            kinds.push(kind);
        }
        first
    });
    said.words.reverse();
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_line_by_line() {
        let said = parse(
            "READY=1\nSTATUS=serving \u{1b}[31mred\nMAINPID=4711\nERRNO=2\nX_OTHER=1\nWATCHDOG_USEC=2000000\n\
             EXTEND_TIMEOUT_USEC=18446744073709551615\nBUSERROR=x\nMONOTONIC_USEC=5\nREADY=2\nnothing",
        );
        assert_eq!(
            said.words,
            [
                Word::Ready,
                Word::WatchdogEvery { millis: 2000 },
                Word::MoreTime {
                    millis: MORE_TIME_MAX_MS
                }
            ]
        );
        assert_eq!(said.status.as_deref(), Some("serving [31mred"));
        assert_eq!((said.main_pid, said.errno), (Some(4711), Some(2)));
        for garbage in [
            "",
            "=",
            "WATCHDOG_USEC=-1",
            "MAINPID=0",
            "EXTEND_TIMEOUT_USEC=x",
            "\0",
        ] {
            assert_eq!(parse(garbage), Said::default(), "{garbage:?}");
        }
        assert_eq!(
            parse("WATCHDOG_USEC=10").words,
            [Word::WatchdogEvery { millis: 1 }]
        );
    }

    #[test]
    fn what_a_message_says_twice_counts_once() {
        let text = "WATCHDOG=1\n".repeat(1000) + "READY=1\nRELOADING=1\nREADY=1\nWATCHDOG=1\n";
        assert_eq!(parse(&text).words, [Word::Reloading, Word::Ready, Word::Alive]);
        let text = "WATCHDOG_USEC=1000000\nWATCHDOG_USEC=2000000";
        assert_eq!(parse(text).words, [Word::WatchdogEvery { millis: 2000 }]);
    }

    #[test]
    fn a_sender_is_known_for_a_second() {
        let own = std::process::id();
        let message = |sender| Message {
            sender,
            text: String::new(),
        };
        let mut senders = Senders::default();
        assert!(senders.are_ours(&message(Some(own)), own, 1000));
        assert_eq!(senders.0.len(), 1);
        // It is not looked for again: another leader would change the answer.
        assert!(senders.are_ours(&message(Some(own)), 1, 1999));
        assert_eq!(senders.0.len(), 1);
        // Another process of that number is another one.
        senders.0[0].start_ticks += 1;
        assert!(senders.are_ours(&message(Some(own)), own, 1999));
        assert_eq!(senders.0.len(), 2);
        assert!(senders.are_ours(&message(Some(own)), own, 10_000));
        assert_eq!(senders.0.len(), 1, "the others are forgotten");
        assert!(!senders.are_ours(&message(None), own, 10_000));
        assert!(!senders.are_ours(&message(Some(u32::MAX)), own, 10_000));
    }
}
