//! Following log lines and events across daemons: whoever follows is not cut off because the daemon was killed or replaced.
//!
//! A new connection asks for the last few seconds again. What was seen already is recognised by its source and time:
//! lines of one source come in order, and their times are those of the log's index, which do not change. So each line
//! is given out once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use upkeep_api::{
    body::{Event, EventQuery, LogLine, LogQuery, Stream, UnixTime},
    client::{Client, ClientError, Lines, with_query},
};

use super::machine::keeper_of;
use crate::{
    connect::{connect, connect_or_start},
    exit::{Advised, Exit},
    settings::Settings,
};

/// How long a daemon may take to come back: its longest back-off, and then some.
const PATIENCE: Duration = Duration::from_secs(12);
/// Between two tries to reach it.
const STEP: Duration = Duration::from_millis(30);
/// How far back a new connection asks: further than lines of two sources can be given out in the wrong order.
const OVERLAP: f64 = 5.0;

/// A stream of log lines that survives its daemon.
#[derive(Debug)]
pub(crate) struct Follower<'a> {
    settings: &'a Settings,
    query: LogQuery,
    /// Keeps the connection.
    client: Client,
    lines: Lines,
    seen: Seen,
}

impl<'a> Follower<'a> {
    /// Begins to follow.
    pub(crate) async fn open(settings: &'a Settings, query: LogQuery) -> anyhow::Result<Self> {
        let mut client = connect_or_start(settings).await?;
        let lines = client.lines(&with_query("/v1/logs", &query), true).await?;
        Ok(Self {
            settings,
            client,
            lines,
            seen: Seen {
                from_the_midst: query.lines.is_some(),
                ..Seen::default()
            },
            query,
        })
    }

    /// The next line. Cancel-safe: what is half read stays in the reader, and a connection that is half made is made
    /// again.
    pub(crate) async fn next(&mut self) -> anyhow::Result<LogLine> {
        loop {
            match self.lines.next::<LogLine>().await {
                Ok(Some(line)) if self.seen.is_new(&line) => return Ok(line),
                Ok(Some(_)) => {}
                Ok(None) | Err(ClientError::Broken { .. } | ClientError::Unreachable { .. }) => {
                    self.resume().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn resume(&mut self) -> anyhow::Result<()> {
        self.seen.begin_again();
        let since = self
            .seen
            .latest
            .map(|latest| latest - OVERLAP)
            .or(self.query.since);
        let mut query = self.query.clone();
        if since.is_some() {
            query.lines = None;
            query.since = since;
        }
        let path = with_query("/v1/logs", &query);
        (self.client, self.lines) = reopen(self.settings, &path).await?;
        Ok(())
    }
}

/// A stream of events that survives its daemon: it goes on after the id of the last one.
#[derive(Debug)]
pub(crate) struct EventFollower<'a> {
    settings: &'a Settings,
    query: EventQuery,
    /// Keeps the connection.
    client: Client,
    lines: Lines,
}

impl<'a> EventFollower<'a> {
    /// Begins to follow.
    pub(crate) async fn open(settings: &'a Settings, query: EventQuery) -> anyhow::Result<Self> {
        let mut client = connect_or_start(settings).await?;
        let lines = client.lines(&with_query("/v1/events", &query), true).await?;
        Ok(Self {
            settings,
            query,
            client,
            lines,
        })
    }

    /// The next event. Cancel-safe, as that of log lines.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            match self.lines.next::<Event>().await {
                Ok(Some(event)) if self.query.after.is_some_and(|after| event.id <= after) => {}
                Ok(Some(event)) => {
                    self.query.after = Some(event.id);
                    return Ok(event);
                }
                Ok(None) | Err(ClientError::Broken { .. } | ClientError::Unreachable { .. }) => {
                    self.resume().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn resume(&mut self) -> anyhow::Result<()> {
        let mut query = self.query.clone();
        if query.after.is_some() {
            // All that was missed, not only the newest of it.
            query.limit = None;
        }
        let path = with_query("/v1/events", &query);
        (self.client, self.lines) = reopen(self.settings, &path).await?;
        Ok(())
    }
}

/// Connects again once there is a daemon.
async fn reopen(settings: &Settings, path: &str) -> anyhow::Result<(Client, Lines)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if keeper_of(settings).is_none() {
            return Err(Advised::new(Exit::Unreachable, "the daemon has ended").into());
        }
        let again = async {
            let mut client = connect(settings).await?;
            let lines = client.lines(path, true).await?;
            Ok::<_, ClientError>((client, lines))
        };
        match again.await {
            Ok(opened) => return Ok(opened),
            // There is none yet, or the last breath of the old one was taken for the first of the new one.
            Err(ClientError::Broken { .. } | ClientError::Unreachable { .. })
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(STEP).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

type Source = (String, Option<u32>, Stream);

/// The last lines of a source.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// Their time.
    at: UnixTime,
    /// How many had it.
    count: u32,
    /// Whether these were all: a reading of the newest lines begins in the midst of those of one time.
    all: bool,
}

/// What was given out already.
#[derive(Debug, Default)]
struct Seen {
    /// Whether the first lines of a source need not be the first of their time.
    from_the_midst: bool,
    last: HashMap<Source, Last>,
    /// The same as it was when the connection broke: what is to be left out.
    skip: HashMap<Source, Last>,
    /// Time of the newest line of all.
    latest: Option<UnixTime>,
}

impl Seen {
    fn begin_again(&mut self) {
        self.skip = self.last.clone();
    }

    fn is_new(&mut self, line: &LogLine) -> bool {
        if line.notice {
            // Notices are of the connection, not of the log; the first has told them.
            return self.skip.is_empty();
        }
        let source = (line.app.to_string(), line.index, line.stream);
        match self.skip.get_mut(&source) {
            Some(skip) if line.at < skip.at => return false,
            // Which of them were given out cannot be told: rather a line too few than all of them again.
            Some(skip) if same(line.at, skip.at) && !skip.all => return false,
            Some(skip) if same(line.at, skip.at) && skip.count > 0 => {
                skip.count -= 1;
                return false;
            }
            _ => {}
        }
        let first = Last {
            at: line.at,
            count: 0,
            all: !self.from_the_midst,
        };
        let last = self.last.entry(source).or_insert(first);
        if same(last.at, line.at) {
            last.count += 1;
        } else {
            *last = Last {
                at: line.at,
                count: 1,
                all: true,
            };
        }
        self.latest = Some(self.latest.map_or(line.at, |latest| latest.max(line.at)));
        true
    }
}

/// Times are whole milliseconds in a float: the same text makes the same bits.
fn same(one: UnixTime, other: UnixTime) -> bool {
    one.to_bits() == other.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(app: &str, at: f64, text: &str) -> LogLine {
        LogLine {
            app: upkeep_model::id::AppName::parse(app).expect("a name"),
            index: Some(0),
            stream: Stream::Out,
            at,
            line: text.to_owned(),
            partial: false,
            notice: false,
        }
    }

    #[test]
    fn what_comes_again_is_given_out_once() {
        let mut seen = Seen::default();
        for (app, at, text) in [("a", 1.0, "1"), ("a", 2.0, "2"), ("a", 2.0, "3"), ("b", 1.5, "x")] {
            assert!(seen.is_new(&line(app, at, text)));
        }
        seen.begin_again();
        let again = [
            ("a", 2.0, "2"),
            ("b", 1.5, "x"),
            ("a", 2.0, "3"),
            ("a", 2.0, "4"),
            ("b", 1.9, "y"),
            ("c", 1.0, "z"),
        ];
        let new: Vec<&str> = again
            .iter()
            .filter(|(app, at, text)| seen.is_new(&line(app, *at, text)))
            .map(|(_, _, text)| *text)
            .collect();
        assert_eq!(new, ["4", "y", "z"]);
    }

    #[test]
    fn what_came_before_the_newest_lines_does_not_come_after_them() {
        let mut seen = Seen {
            from_the_midst: true,
            ..Seen::default()
        };
        assert!(seen.is_new(&line("a", 1.0, "299")) && seen.is_new(&line("a", 1.0, "300")));
        seen.begin_again();
        assert!(!(1..=300).any(|number| seen.is_new(&line("a", 1.0, &number.to_string()))));
        assert!(seen.is_new(&line("a", 2.0, "301")));
    }
}
