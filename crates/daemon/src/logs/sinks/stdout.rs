//! The standard output of the service: of the keeper, which a container runs. The daemon's own leads to its log, so
//! the keeper's is opened anew by its name under `/proc`, with flags of its own: it may be a pipe that nobody empties.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
};

use rustix::event::{PollFd, PollFlags, Timespec};
use upkeep_api::body::{LogLine, Stream};

use super::PATIENCE;

/// What a pipe takes at once or not at all.
const PIECE: usize = 4096;

/// Where lines are printed.
#[derive(Debug)]
pub(super) struct Stdout {
    file: File,
    /// Of a line whose beginning is printed: it comes before anything else.
    rest: Vec<u8>,
}

impl Stdout {
    pub(super) fn open(keeper: u32) -> io::Result<Self> {
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new()
            .append(true)
            .custom_flags(flags)
            .open(format!("/proc/{keeper}/fd/1"))?;
        Ok(Self {
            file,
            rest: Vec::new(),
        })
    }

    pub(super) fn send(&mut self, line: &LogLine) -> io::Result<()> {
        self.flush()?;
        let text = match line.index {
            Some(index) => format!("{}:{index}", line.app),
            None => line.app.to_string(),
        };
        // As `upkeep logs` marks them.
        let mark = match line.stream {
            Stream::Out => '|',
            Stream::Err => '!',
        };
        self.rest = format!("{text} {mark} {}\n", line.line).into_bytes();
        let whole = self.rest.len();
        match self.flush() {
            // Begun: the rest follows, and it must not be begun again.
            Err(_) if self.rest.len() < whole => Ok(()),
            Err(error) => {
                self.rest.clear();
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.file.write(&self.rest[..self.rest.len().min(PIECE)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.rest.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let limit = Timespec::try_from(PATIENCE).unwrap_or_default();
                    let mut fds = [PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::OUT)];
                    if rustix::event::poll(&mut fds, Some(&limit))? == 0 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
