//! Following log lines across daemons: whoever follows is not cut off because the daemon was killed or replaced.
//!
//! A new connection asks for the last few seconds again. What was seen already is recognised by its source and time:
//! lines of one source come in order, and their times are those of the log's index, which do not change. So each line
//! is given out once.

use std::{collections::HashMap, time::Duration};

use upkeep_api::{
    body::{LogLine, LogQuery, Stream, UnixTime},
    client::{Client, ClientError, Lines, with_query},
};

use super::machine::keeper_of;
use crate::{
    connect::{connect_or_start, wait_for},
    exit::{Advised, Exit},
    settings::Settings,
};

/// How long a daemon may take to come back: its longest back-off, and then some.
const PATIENCE: Duration = Duration::from_secs(12);
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
            query,
            client,
            lines,
            seen: Seen::default(),
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
        if keeper_of(self.settings).is_none() {
            return Err(Advised::new(Exit::Unreachable, "the daemon has ended").into());
        }
        self.client = wait_for(self.settings, PATIENCE).await?;
        self.seen.begin_again();
        let query = LogQuery {
            lines: None,
            since: self
                .seen
                .latest
                .map(|latest| latest - OVERLAP)
                .or(self.query.since),
            ..self.query.clone()
        };
        let query = if query.since.is_none() {
            self.query.clone()
        } else {
            query
        };
        self.lines = self.client.lines(&with_query("/v1/logs", &query), true).await?;
        Ok(())
    }
}

type Source = (String, Option<u32>, Stream);

/// What was given out already.
#[derive(Debug, Default)]
struct Seen {
    /// Time of the last line of each source, and how many lines had that time.
    last: HashMap<Source, (UnixTime, u32)>,
    /// The same as it was when the connection broke: what is to be left out.
    skip: HashMap<Source, (UnixTime, u32)>,
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
            Some((at, _)) if line.at < *at => return false,
            Some((at, left)) if same(line.at, *at) && *left > 0 => {
                *left -= 1;
                return false;
            }
            _ => {}
        }
        let last = self.last.entry(source).or_insert((line.at, 0));
        if same(last.0, line.at) {
            last.1 += 1;
        } else {
            *last = (line.at, 1);
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
}
