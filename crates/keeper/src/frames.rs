//! Frames on a stream socket, both ways, with descriptors beside them. Keeper and daemon use the same code.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
};

use upkeep_sys::fd_pass::{self, PassError};

use crate::{codec::Passed, protocol::MAX_FRAME};

/// Bytes of a frame's length.
const HEADER: usize = 4;
/// What one read asks for.
const READ_SIZE: usize = 16 << 10;
/// What an idle buffer may keep.
const KEPT: usize = 4 << 10;

/// A frame longer than [`MAX_FRAME`], or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes: not between 1 and {MAX_FRAME}")]
pub struct BadLength {
    /// As announced.
    pub length: u64,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Bytes.
    Some,
    /// Nothing now.
    WouldBlock,
    /// The other side has closed.
    End,
}

/// What has come and has not been read.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// Where the first unread frame begins.
    start: usize,
    /// Descriptors that no message has spoken of yet.
    pub passed: VecDeque<Passed>,
}

impl Inbox {
    /// One `recvmsg`.
    pub fn fill(&mut self, socket: impl AsFd) -> io::Result<Filled> {
        self.bytes.drain(..self.start);
        self.start = 0;
        let held = self.bytes.len();
        self.bytes.resize(held + READ_SIZE, 0);
        let mut passed = VecDeque::new();
        let result = fd_pass::recv(
            socket,
            self.bytes.get_mut(held..).unwrap_or_default(),
            &mut passed,
        );
        self.passed.extend(passed.into_iter().map(Some));
        let (count, filled) = match result {
            Ok(0) => (0, Ok(Filled::End)),
            Ok(count) => (count, Ok(Filled::Some)),
            Err(PassError::Truncated { bytes }) => {
                // Our side sends one descriptor with a frame, so it is one that is missing.
                self.passed.push_back(None);
                (bytes, Ok(Filled::Some))
            }
            Err(error) if error.would_block() => (0, Ok(Filled::WouldBlock)),
            Err(PassError::Call { source, .. }) => (0, Err(source)),
            Err(error) => (0, Err(io::Error::other(error))),
        };
        self.bytes.truncate(held + count);
        filled
    }

    /// The next whole frame (kind and body), which is then read.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, BadLength> {
        let Some(length) = self
            .bytes
            .get(self.start..)
            .and_then(|bytes| bytes.first_chunk::<HEADER>())
        else {
            self.shrink();
            return Ok(None);
        };
        let announced = u32::from_le_bytes(*length);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length == 0 || length > MAX_FRAME {
            return Err(BadLength {
                length: announced.into(),
            });
        }
        let begin = self.start + HEADER;
        if self.bytes.len() < begin + length {
            return Ok(None);
        }
        self.start = begin + length;
        let Some(body) = self.bytes.get(begin..self.start) else {
            return Ok(None);
        };
        Ok(Some(Frame {
            body,
            passed: &mut self.passed,
        }))
    }

    /// Bytes that have come and have not been read.
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// An inbox that begins with these bytes and descriptors.
    pub fn resumed(bytes: Vec<u8>, passed: VecDeque<Passed>) -> Self {
        Self {
            bytes,
            start: 0,
            passed,
        }
    }

    fn shrink(&mut self) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            self.bytes.shrink_to(KEPT);
        }
    }
}

/// A frame's kind and body, and the descriptors it may take.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Kind and body.
    pub body: &'a [u8],
    /// Descriptors that have come, oldest first.
    pub passed: &'a mut VecDeque<Passed>,
}

/// What is to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
    /// Descriptors, each with the index (in `bytes`) of the byte it goes with, ascending.
    descriptors: VecDeque<(usize, OwnedFd)>,
}

impl Outbox {
    /// Appends a frame. The body must not be longer than [`MAX_FRAME`].
    pub fn push(&mut self, body: &[u8], descriptor: Option<OwnedFd>) -> Result<(), BadLength> {
        let length = u32::try_from(body.len())
            .ok()
            .filter(|_| (1..=MAX_FRAME).contains(&body.len()));
        let Some(length) = length else {
            return Err(BadLength {
                length: u64::try_from(body.len()).unwrap_or(u64::MAX),
            });
        };
        if let Some(descriptor) = descriptor {
            self.descriptors.push_back((self.bytes.len(), descriptor));
        }
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(body);
        Ok(())
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends as much as the socket takes. `true`: everything is sent.
    pub fn flush(&mut self, socket: impl AsFd) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            // One descriptor at a time: the bytes up to the next one's first byte.
            let (with, end) = match self.descriptors.front() {
                Some((at, _)) if *at > self.sent => (false, *at),
                Some(_) => (
                    true,
                    self.descriptors.get(1).map_or(self.bytes.len(), |(at, _)| *at),
                ),
                None => (false, self.bytes.len()),
            };
            let part = self.bytes.get(self.sent..end).unwrap_or_default();
            let front = self
                .descriptors
                .front()
                .filter(|_| with)
                .map(|(_, descriptor)| descriptor.as_fd());
            match fd_pass::send(&socket, part, front.as_slice()) {
                Ok(count) => self.sent += count,
                Err(error) if error.would_block() => {
                    self.forget_sent();
                    return Ok(false);
                }
                Err(PassError::Call { source, .. }) => return Err(source),
                Err(error) => return Err(io::Error::other(error)),
            }
            if with {
                self.descriptors.pop_front();
            }
        }
        self.forget_sent();
        Ok(true)
    }

    fn forget_sent(&mut self) {
        // Moving what is left costs as much as sending it: only when it is worth it.
        if self.sent < self.bytes.len() && self.sent < READ_SIZE {
            return;
        }
        self.bytes.drain(..self.sent);
        for (at, _) in &mut self.descriptors {
            *at = at.saturating_sub(self.sent);
        }
        self.sent = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT);
        }
    }

    /// What waits, for the program that resumes: bytes, and descriptors with the index of their byte.
    pub fn waiting(&self) -> (&[u8], Vec<(usize, &OwnedFd)>) {
        let bytes = self.bytes.get(self.sent..).unwrap_or_default();
        let descriptors = self
            .descriptors
            .iter()
            .map(|(at, descriptor)| (at.saturating_sub(self.sent), descriptor))
            .collect();
        (bytes, descriptors)
    }

    /// The other end of [`Outbox::waiting`].
    pub fn resumed(bytes: Vec<u8>, descriptors: VecDeque<(usize, OwnedFd)>) -> Self {
        Self {
            bytes,
            sent: 0,
            descriptors,
        }
    }
}
