//! Messages as bytes, and back.
//!
//! Decoding trusts nothing: lengths are checked against what is there before anything is allocated, and any bytes
//! at all give a message or [`Malformed`], never a panic. The layout is described in [`crate::protocol`].
//!
//! What a later version added to a message has a kind of its own, which is used only where there is something to say
//! that the older kind cannot: so a reader needs to know no version. To whom a newer kind may be sent, the sender knows
//! (the keeper's link to its daemon; the daemon by [`SpawnSpec::is_plain`]).

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::PathBuf,
};

use crate::protocol::{
    ChildEntry, Ended, Event, ExitRecord, Limits, ListenAddress, Listing, Refusal, Request, Scope, SpawnSpec,
    Usage,
};

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {what} at byte {at}")]
pub struct Malformed {
    /// Where reading stopped.
    pub at: usize,
    /// What was wrong there.
    pub what: &'static str,
}

/// A descriptor that came beside the bytes, or was lost because the receiver had none free.
pub type Passed = Option<OwnedFd>;

/// Appends numbers, texts and lists.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }
    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }
    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend(value.to_le_bytes());
    }
    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }
    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend(value.to_le_bytes());
    }
    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        // What does not fit a length cannot be sent either: the frame is refused as too long.
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.bytes.extend(value);
    }
    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
    pub(crate) fn os(&mut self, value: &OsStr) {
        self.bytes(value.as_bytes());
    }
    pub(crate) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items {
            each(self, item);
        }
    }
    pub(crate) fn option<T>(&mut self, value: Option<T>, each: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            each(self, value);
        }
    }
}

/// Takes numbers, texts and lists off the front.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Read<T> = Result<T, Malformed>;

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
    pub(crate) fn fail<T>(&self, what: &'static str) -> Read<T> {
        Err(Malformed { at: self.at, what })
    }
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let Some(end) = self.at.checked_add(count) else {
            return self.fail("a length that is no length");
        };
        let Some(taken) = self.bytes.get(self.at..end) else {
            return self.fail("the message ends too early");
        };
        self.at = end;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| Malformed {
            at,
            what: "the message ends too early",
        })
    }
    pub(crate) fn u8(&mut self) -> Read<u8> {
        self.array().map(|[byte]| byte)
    }
    pub(crate) fn bool(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => self.fail("a flag that is neither 0 nor 1"),
        }
    }
    pub(crate) fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub(crate) fn i32(&mut self) -> Read<i32> {
        self.array().map(i32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub(crate) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }
    pub(crate) fn text(&mut self) -> Read<String> {
        let at = self.at;
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Malformed {
                at,
                what: "a text that is not UTF-8",
            }),
        }
    }
    pub(crate) fn os(&mut self) -> Read<OsString> {
        self.bytes().map(|bytes| OsString::from_vec(bytes.to_vec()))
    }
    pub(crate) fn path(&mut self) -> Read<PathBuf> {
        self.os().map(PathBuf::from)
    }
    /// Items of at least one byte each: the count alone never makes us ask for memory.
    pub(crate) fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > self.bytes.len().saturating_sub(self.at) {
            return self.fail("a list longer than the message");
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(each(self)?);
        }
        Ok(items)
    }
    pub(crate) fn option<T>(&mut self, each: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.bool()? {
            each(self).map(Some)
        } else {
            Ok(None)
        }
    }
    pub(crate) fn end(&self) -> Read<()> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            self.fail("bytes after the message")
        }
    }
}

/// The kinds of requests, as bytes.
mod request {
    pub(super) const HELLO: u8 = 1;
    pub(super) const READY: u8 = 2;
    pub(super) const SPAWN: u8 = 3;
    pub(super) const SIGNAL: u8 = 4;
    pub(super) const ACK_EXIT: u8 = 5;
    pub(super) const MAKE_PIPE: u8 = 6;
    pub(super) const LISTEN: u8 = 7;
    pub(super) const PUT_DESCRIPTOR: u8 = 8;
    pub(super) const GET_DESCRIPTOR: u8 = 9;
    pub(super) const CLOSE_DESCRIPTOR: u8 = 10;
    pub(super) const SET_NOTE: u8 = 11;
    pub(super) const LIST: u8 = 12;
    pub(super) const UPGRADE_DAEMON: u8 = 13;
    pub(super) const UPGRADE_KEEPER: u8 = 14;
    pub(super) const LEAVE: u8 = 15;
    /// Since version 2: `SPAWN` with limits, cage and OOM score.
    pub(super) const SPAWN_CAGED: u8 = 32;
    /// Since version 2.
    pub(super) const SET_LIMITS: u8 = 33;
}

/// The kinds of events, as bytes.
mod event {
    pub(super) const WELCOME: u8 = 129;
    pub(super) const REFUSED: u8 = 130;
    pub(super) const DONE: u8 = 131;
    pub(super) const SPAWNED: u8 = 132;
    pub(super) const DESCRIPTOR: u8 = 133;
    pub(super) const EXITED: u8 = 134;
    pub(super) const LISTING: u8 = 135;
    pub(super) const RETIRE: u8 = 136;
    pub(super) const TERMINATE: u8 = 137;
    pub(super) const UPGRADE_OUTCOME: u8 = 138;
    /// Since version 2: `EXITED` with kills for want of memory.
    pub(super) const EXITED_COUNTED: u8 = 160;
}

/// Kind and body of a request; the descriptor of `PutDescriptor` goes beside it.
pub fn encode_request(message: &Request) -> Vec<u8> {
    let mut out = Writer::default();
    match message {
        Request::Hello {
            oldest,
            newest,
            program_version,
        } => {
            out.u8(request::HELLO);
            out.u16(*oldest);
            out.u16(*newest);
            out.text(program_version);
        }
        Request::Ready => out.u8(request::READY),
        Request::Spawn { id, key, spec } => {
            out.u8(if spec.is_plain() {
                request::SPAWN
            } else {
                request::SPAWN_CAGED
            });
            out.u64(*id);
            out.text(key);
            write_spec(&mut out, spec);
            if !spec.is_plain() {
                write_limits(&mut out, &spec.limits);
                out.option(spec.cage.as_deref(), cage::write);
                out.option(spec.oom_score_adj, |out, adj| out.i32(i32::from(adj)));
            }
        }
        Request::SetLimits { id, key, limits } => {
            named(&mut out, request::SET_LIMITS, *id, key);
            write_limits(&mut out, limits);
        }
        Request::Signal {
            id,
            key,
            signal,
            scope,
        } => {
            out.u8(request::SIGNAL);
            out.u64(*id);
            out.text(key);
            out.i32(*signal);
            out.bool(*scope == Scope::Tree);
        }
        Request::AckExit { seq } => {
            out.u8(request::ACK_EXIT);
            out.u64(*seq);
        }
        Request::MakePipe { id, name } => named(&mut out, request::MAKE_PIPE, *id, name),
        Request::Listen { id, name, address } => {
            named(&mut out, request::LISTEN, *id, name);
            write_address(&mut out, address);
        }
        Request::PutDescriptor { id, name, .. } => named(&mut out, request::PUT_DESCRIPTOR, *id, name),
        Request::GetDescriptor { id, name } => named(&mut out, request::GET_DESCRIPTOR, *id, name),
        Request::CloseDescriptor { id, name } => named(&mut out, request::CLOSE_DESCRIPTOR, *id, name),
        Request::SetNote { key, bytes } => {
            out.u8(request::SET_NOTE);
            out.text(key);
            out.bytes(bytes);
        }
        Request::List { id } => {
            out.u8(request::LIST);
            out.u64(*id);
        }
        Request::UpgradeDaemon { id, program } => {
            out.u8(request::UPGRADE_DAEMON);
            out.u64(*id);
            out.os(program.as_os_str());
        }
        Request::UpgradeKeeper { id, program } => {
            out.u8(request::UPGRADE_KEEPER);
            out.u64(*id);
            out.os(program.as_os_str());
        }
        Request::Leave { id } => {
            out.u8(request::LEAVE);
            out.u64(*id);
        }
    }
    out.bytes
}

fn named(out: &mut Writer, kind: u8, id: u64, name: &str) {
    out.u8(kind);
    out.u64(id);
    out.text(name);
}

/// What a request says, or that its descriptor was lost on the way.
#[derive(Debug)]
pub enum Received {
    /// A request, whole.
    Request(Request),
    /// `PutDescriptor` whose descriptor could not be received: we had none free.
    DescriptorLost {
        /// Its id.
        id: u64,
    },
}

/// Reads kind and body of a request. The descriptor of `PutDescriptor` is taken off `passed`.
pub fn decode_request(frame: &[u8], passed: &mut VecDeque<Passed>) -> Result<Received, Malformed> {
    let mut from = Reader::new(frame);
    let message = match from.u8()? {
        request::HELLO => Request::Hello {
            oldest: from.u16()?,
            newest: from.u16()?,
            program_version: from.text()?,
        },
        request::READY => Request::Ready,
        request::SPAWN => Request::Spawn {
            id: from.u64()?,
            key: from.text()?,
            spec: Box::new(read_spec(&mut from)?),
        },
        request::SPAWN_CAGED => {
            let (id, key) = (from.u64()?, from.text()?);
            let spec = read_spec(&mut from)?;
            Request::Spawn {
                id,
                key,
                spec: Box::new(SpawnSpec {
                    limits: read_limits(&mut from)?,
                    cage: from.option(cage::read)?.map(Box::new),
                    oom_score_adj: from.option(|from| {
                        let adj = from.i32()?;
                        i16::try_from(adj).or_else(|_| from.fail("a score that is none"))
                    })?,
                    ..spec
                }),
            }
        }
        request::SET_LIMITS => Request::SetLimits {
            id: from.u64()?,
            key: from.text()?,
            limits: read_limits(&mut from)?,
        },
        request::SIGNAL => Request::Signal {
            id: from.u64()?,
            key: from.text()?,
            signal: from.i32()?,
            scope: if from.bool()? { Scope::Tree } else { Scope::Leader },
        },
        request::ACK_EXIT => Request::AckExit { seq: from.u64()? },
        request::MAKE_PIPE => Request::MakePipe {
            id: from.u64()?,
            name: from.text()?,
        },
        request::LISTEN => Request::Listen {
            id: from.u64()?,
            name: from.text()?,
            address: read_address(&mut from)?,
        },
        request::PUT_DESCRIPTOR => {
            let (id, name) = (from.u64()?, from.text()?);
            from.end()?;
            return match passed.pop_front() {
                None => from.fail("a descriptor that did not come"),
                Some(None) => Ok(Received::DescriptorLost { id }),
                Some(Some(descriptor)) => {
                    Ok(Received::Request(Request::PutDescriptor { id, name, descriptor }))
                }
            };
        }
        request::GET_DESCRIPTOR => Request::GetDescriptor {
            id: from.u64()?,
            name: from.text()?,
        },
        request::CLOSE_DESCRIPTOR => Request::CloseDescriptor {
            id: from.u64()?,
            name: from.text()?,
        },
        request::SET_NOTE => Request::SetNote {
            key: from.text()?,
            bytes: from.bytes()?.to_vec(),
        },
        request::LIST => Request::List { id: from.u64()? },
        request::UPGRADE_DAEMON => Request::UpgradeDaemon {
            id: from.u64()?,
            program: from.path()?,
        },
        request::UPGRADE_KEEPER => Request::UpgradeKeeper {
            id: from.u64()?,
            program: from.path()?,
        },
        request::LEAVE => Request::Leave { id: from.u64()? },
        _ => return from.fail("an unknown kind of request"),
    };
    from.end()?;
    Ok(Received::Request(message))
}

fn write_spec(out: &mut Writer, spec: &SpawnSpec) {
    out.list(&spec.argv, |out, argument| out.os(argument));
    out.list(&spec.env, |out, (name, value)| {
        out.os(name);
        out.os(value);
    });
    out.os(spec.cwd.as_os_str());
    out.option(spec.uid, Writer::u32);
    out.option(spec.gid, Writer::u32);
    out.option(spec.groups.as_deref(), |out, groups| {
        out.list(groups, |out, gid| out.u32(*gid));
    });
    out.option(spec.umask, Writer::u32);
    out.list(&spec.rlimits, |out, (resource, soft, hard)| {
        out.u32(*resource);
        out.u64(*soft);
        out.u64(*hard);
    });
    out.list(&spec.descriptors, |out, (number, name)| {
        out.u32(*number);
        out.text(name);
    });
    out.bool(spec.cgroup);
    out.bool(spec.no_new_privs);
}

fn read_spec(from: &mut Reader<'_>) -> Read<SpawnSpec> {
    Ok(SpawnSpec {
        argv: from.list(Reader::os)?,
        env: from.list(|from| Ok((from.os()?, from.os()?)))?,
        cwd: from.path()?,
        uid: from.option(Reader::u32)?,
        gid: from.option(Reader::u32)?,
        groups: from.option(|from| from.list(Reader::u32))?,
        umask: from.option(Reader::u32)?,
        rlimits: from.list(|from| Ok((from.u32()?, from.u64()?, from.u64()?)))?,
        descriptors: from.list(|from| Ok((from.u32()?, from.text()?)))?,
        cgroup: from.bool()?,
        no_new_privs: from.bool()?,
        ..SpawnSpec::default()
    })
}

fn write_limits(out: &mut Writer, limits: &Limits) {
    let Limits {
        memory,
        memory_high,
        cpu_milli,
        tasks,
        io_read,
        io_write,
    } = *limits;
    for value in [memory, memory_high, cpu_milli, tasks, io_read, io_write] {
        out.option(value, Writer::u64);
    }
}

fn read_limits(from: &mut Reader<'_>) -> Read<Limits> {
    Ok(Limits {
        memory: from.option(Reader::u64)?,
        memory_high: from.option(Reader::u64)?,
        cpu_milli: from.option(Reader::u64)?,
        tasks: from.option(Reader::u64)?,
        io_read: from.option(Reader::u64)?,
        io_write: from.option(Reader::u64)?,
    })
}

fn write_address(out: &mut Writer, address: &ListenAddress) {
    match address {
        ListenAddress::Tcp(address) => {
            out.u8(0);
            out.text(&address.to_string());
        }
        ListenAddress::Udp(address) => {
            out.u8(1);
            out.text(&address.to_string());
        }
        ListenAddress::Unix(path, mode) => {
            out.u8(2);
            out.os(path.as_os_str());
            out.u32(*mode);
        }
    }
}

fn read_address(from: &mut Reader<'_>) -> Read<ListenAddress> {
    match from.u8()? {
        0 => read_internet(from).map(ListenAddress::Tcp),
        1 => read_internet(from).map(ListenAddress::Udp),
        2 => Ok(ListenAddress::Unix(from.path()?, from.u32()?)),
        _ => from.fail("an unknown kind of address"),
    }
}

fn read_internet(from: &mut Reader<'_>) -> Read<SocketAddr> {
    let text = from.text()?;
    text.parse().or_else(|_| from.fail("an address that is none"))
}

/// Kind and body of an event; the descriptor of `Descriptor` goes beside it.
pub fn encode_event(message: &Event) -> Vec<u8> {
    let mut out = Writer::default();
    match message {
        Event::Welcome {
            version,
            program_version,
            pid,
            epoch,
            tracking,
        } => {
            out.u8(event::WELCOME);
            out.u16(*version);
            out.text(program_version);
            out.u32(*pid);
            out.u64(*epoch);
            out.text(tracking);
        }
        Event::Refused {
            id,
            refusal,
            errno,
            message,
        } => {
            out.u8(event::REFUSED);
            out.u64(*id);
            out.u8(refusal_number(*refusal));
            out.i32(*errno);
            out.text(message);
        }
        Event::Done { id, count } => {
            out.u8(event::DONE);
            out.u64(*id);
            out.u32(*count);
        }
        Event::Spawned {
            id,
            key,
            pid,
            start_ticks,
            started_unix_ms,
        } => {
            named(&mut out, event::SPAWNED, *id, key);
            out.u32(*pid);
            out.u64(*start_ticks);
            out.u64(*started_unix_ms);
        }
        Event::Descriptor { id, name, .. } => named(&mut out, event::DESCRIPTOR, *id, name),
        Event::Exited(record) => {
            let counted = record.oom_kills > 0;
            out.u8(if counted {
                event::EXITED_COUNTED
            } else {
                event::EXITED
            });
            write_exit(&mut out, record);
            if counted {
                out.u32(record.oom_kills);
            }
        }
        Event::Listing { id, listing } => {
            out.u8(event::LISTING);
            out.u64(*id);
            write_listing(&mut out, listing);
        }
        Event::Retire => out.u8(event::RETIRE),
        Event::Terminate { signal } => {
            out.u8(event::TERMINATE);
            out.i32(*signal);
        }
        Event::UpgradeOutcome { ok, message } => {
            out.u8(event::UPGRADE_OUTCOME);
            out.bool(*ok);
            out.text(message);
        }
    }
    out.bytes
}

/// Reads kind and body of an event. The descriptor of `Descriptor` is taken off `passed`; one that was lost because
/// this process had none free becomes a refusal with EMFILE.
pub fn decode_event(frame: &[u8], passed: &mut VecDeque<Passed>) -> Result<Event, Malformed> {
    /// EMFILE of Linux: this crate has no libc.
    const OUT_OF_DESCRIPTORS: i32 = 24;
    let mut from = Reader::new(frame);
    let message = match from.u8()? {
        event::WELCOME => Event::Welcome {
            version: from.u16()?,
            program_version: from.text()?,
            pid: from.u32()?,
            epoch: from.u64()?,
            tracking: from.text()?,
        },
        event::REFUSED => Event::Refused {
            id: from.u64()?,
            refusal: read_refusal(&mut from)?,
            errno: from.i32()?,
            message: from.text()?,
        },
        event::DONE => Event::Done {
            id: from.u64()?,
            count: from.u32()?,
        },
        event::SPAWNED => Event::Spawned {
            id: from.u64()?,
            key: from.text()?,
            pid: from.u32()?,
            start_ticks: from.u64()?,
            started_unix_ms: from.u64()?,
        },
        event::DESCRIPTOR => {
            let (id, name) = (from.u64()?, from.text()?);
            match passed.pop_front() {
                None => return from.fail("a descriptor that did not come"),
                Some(Some(descriptor)) => Event::Descriptor { id, name, descriptor },
                Some(None) => Event::Refused {
                    id,
                    refusal: Refusal::Kernel,
                    errno: OUT_OF_DESCRIPTORS,
                    message: format!("failed to receive descriptor `{name}`: too many open files"),
                },
            }
        }
        event::EXITED => Event::Exited(read_exit(&mut from)?),
        event::EXITED_COUNTED => {
            let record = read_exit(&mut from)?;
            Event::Exited(ExitRecord {
                oom_kills: from.u32()?,
                ..record
            })
        }
        event::LISTING => Event::Listing {
            id: from.u64()?,
            listing: Box::new(read_listing(&mut from)?),
        },
        event::RETIRE => Event::Retire,
        event::TERMINATE => Event::Terminate { signal: from.i32()? },
        event::UPGRADE_OUTCOME => Event::UpgradeOutcome {
            ok: from.bool()?,
            message: from.text()?,
        },
        _ => return from.fail("an unknown kind of event"),
    };
    from.end()?;
    Ok(message)
}

const REFUSALS: [Refusal; 8] = [
    Refusal::Version,
    Refusal::Malformed,
    Refusal::KeyInUse,
    Refusal::NoSuchKey,
    Refusal::NoSuchName,
    Refusal::Kernel,
    Refusal::TooLarge,
    Refusal::Unfit,
];

fn refusal_number(refusal: Refusal) -> u8 {
    let at = REFUSALS.iter().position(|known| *known == refusal);
    at.and_then(|index| u8::try_from(index + 1).ok()).unwrap_or(0)
}

fn read_refusal(from: &mut Reader<'_>) -> Read<Refusal> {
    let number = usize::from(from.u8()?);
    match number.checked_sub(1).and_then(|index| REFUSALS.get(index)) {
        Some(refusal) => Ok(*refusal),
        None => from.fail("an unknown refusal"),
    }
}

pub(crate) fn write_exit(out: &mut Writer, record: &ExitRecord) {
    out.u64(record.seq);
    out.text(&record.key);
    out.u32(record.pid);
    match record.how {
        Ended::Code(code) => {
            out.u8(0);
            out.u8(code);
        }
        Ended::Signal { number, core } => {
            out.u8(1);
            out.u8(number);
            out.bool(core);
        }
        Ended::Unknown => out.u8(2),
    }
    out.u64(record.started_unix_ms);
    out.u64(record.exited_unix_ms);
    out.u64(record.started_mono_ms);
    out.u64(record.exited_mono_ms);
    let Usage {
        user_us,
        system_us,
        max_rss_kib,
        major_faults,
    } = record.usage;
    for value in [user_us, system_us, max_rss_kib, major_faults] {
        out.u64(value);
    }
    out.bool(record.leftovers);
}

pub(crate) fn read_exit(from: &mut Reader<'_>) -> Read<ExitRecord> {
    Ok(ExitRecord {
        seq: from.u64()?,
        key: from.text()?,
        pid: from.u32()?,
        how: match from.u8()? {
            0 => Ended::Code(from.u8()?),
            1 => Ended::Signal {
                number: from.u8()?,
                core: from.bool()?,
            },
            2 => Ended::Unknown,
            _ => return from.fail("an unknown kind of end"),
        },
        started_unix_ms: from.u64()?,
        exited_unix_ms: from.u64()?,
        started_mono_ms: from.u64()?,
        exited_mono_ms: from.u64()?,
        usage: Usage {
            user_us: from.u64()?,
            system_us: from.u64()?,
            max_rss_kib: from.u64()?,
            major_faults: from.u64()?,
        },
        leftovers: from.bool()?,
        oom_kills: 0,
    })
}

fn write_listing(out: &mut Writer, listing: &Listing) {
    out.list(&listing.children, |out, child| {
        out.text(&child.key);
        out.u32(child.pid);
        out.u64(child.start_ticks);
        out.u64(child.started_unix_ms);
        out.u64(child.started_mono_ms);
        out.bool(child.stray);
    });
    out.list(&listing.descriptors, |out, name| out.text(name));
    out.list(&listing.notes, |out, (key, bytes)| {
        out.text(key);
        out.bytes(bytes);
    });
}

fn read_listing(from: &mut Reader<'_>) -> Read<Listing> {
    Ok(Listing {
        children: from.list(|from| {
            Ok(ChildEntry {
                key: from.text()?,
                pid: from.u32()?,
                start_ticks: from.u64()?,
                started_unix_ms: from.u64()?,
                started_mono_ms: from.u64()?,
                stray: from.bool()?,
            })
        })?,
        descriptors: from.list(Reader::text)?,
        notes: from.list(|from| Ok((from.text()?, from.bytes()?.to_vec())))?,
    })
}

mod cage;

#[cfg(test)]
mod tests;
