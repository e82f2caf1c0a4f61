//! One receiver of lines, shared by all apps that want it: connected when needed, left alone while it does not work.

use std::{io, path::Path, time::Instant};

use upkeep_api::body::LogLine;
use upkeep_model::{id::AppName, logs::LogSink};

use super::{
    DEAD, PAUSE_MAX, PAUSE_MIN,
    journald::{self, Journal},
    stdout::Stdout,
    syslog::{self, Syslog},
    watch::Watch,
};

/// So many apps are named in an event.
const NAMED: usize = 20;

#[derive(Debug)]
enum Connection {
    Journal(Journal),
    Syslog(Syslog),
    Stdout(Stdout),
}

#[derive(Debug)]
pub(super) struct Outlet {
    sink: LogSink,
    keeper: u32,
    connection: Option<Connection>,
    /// Why it does not work, and since when.
    trouble: Option<(String, Instant)>,
    retry_at: Option<Instant>,
    pause: std::time::Duration,
    /// Its trouble has been told.
    told: bool,
}

impl Outlet {
    pub(super) fn new(sink: LogSink, keeper: u32) -> Self {
        Self {
            sink,
            keeper,
            connection: None,
            trouble: None,
            retry_at: None,
            pause: PAUSE_MIN,
            told: false,
        }
    }

    fn connect(&self) -> io::Result<Connection> {
        let or = |path: &Option<std::path::PathBuf>, usual: &str| {
            path.clone().unwrap_or_else(|| Path::new(usual).to_owned())
        };
        Ok(match &self.sink {
            LogSink::Journald(path) => Connection::Journal(Journal::connect(&or(path, journald::SOCKET))?),
            LogSink::Syslog(path) => Connection::Syslog(Syslog::local(&or(path, syslog::SOCKET))?),
            LogSink::SyslogUdp(address) => Connection::Syslog(Syslog::udp(address)?),
            LogSink::SyslogTcp(address) => Connection::Syslog(Syslog::tcp(address)?),
            LogSink::Stdout => Connection::Stdout(Stdout::open(self.keeper)?),
        })
    }

    /// Whether a line can be handed to it now.
    pub(super) fn ready(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let checked = match &mut self.connection {
            Some(Connection::Syslog(syslog)) => syslog.check(),
            Some(_) => Ok(()),
            None => self
                .connect()
                .map(|connection| self.connection = Some(connection)),
        };
        match checked {
            Ok(()) => true,
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// Hands a line over; whether it was taken.
    pub(super) fn send(&mut self, line: &LogLine) -> bool {
        let sent = match &mut self.connection {
            Some(Connection::Journal(journal)) => journal.send(line),
            Some(Connection::Syslog(syslog)) => syslog.send(line),
            Some(Connection::Stdout(stdout)) => stdout.send(line),
            None => return false,
        };
        match sent {
            Ok(()) => {
                self.trouble = None;
                self.retry_at = None;
                self.pause = PAUSE_MIN;
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it takes nothing".to_owned(),
            _ => error.to_string(),
        };
        let since = self.trouble.take().map_or_else(Instant::now, |(_, since)| since);
        self.trouble = Some((why, since));
        // A line that is begun on standard output has to be ended there.
        if !matches!(self.connection, Some(Connection::Stdout(_))) {
            self.connection = None;
        }
        self.retry_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Why it does not work.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.as_ref().map(|(why, _)| why.clone())
    }

    /// Whether it has not worked for long.
    pub(super) fn is_dead(&self) -> bool {
        self.trouble
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() >= DEAD)
    }

    /// Tells of a trouble that lasts, and of its end.
    pub(super) fn tell<'a>(&mut self, apps: impl Iterator<Item = &'a AppName>, watch: &mut Watch) {
        let dead = self.is_dead();
        if dead == self.told || self.told && self.trouble.is_some() {
            return;
        }
        self.told = dead;
        let apps: Vec<&str> = apps.map(AppName::as_str).take(NAMED).collect();
        let sink = &self.sink;
        if dead {
            let why = self.trouble().unwrap_or_default();
            watch.tell(
                "log_trouble",
                &apps.join(" "),
                &format!("`{sink}`: {why}"),
                "log lines wait in their files",
            );
        } else {
            watch.tell(
                "log_recovered",
                &apps.join(" "),
                &format!("`{sink}` takes log lines again"),
                "what waited is sent",
            );
        }
    }
}
