//! Following log lines and events across daemons: whoever follows is not cut off because the daemon was killed or replaced.
//!
//! Each line comes with an id that says where the reader is in all logs. A new connection names the last one, and goes on
//! behind it: no line is given out twice, and none is left out, also if files were rotated or compressed meanwhile.

use std::time::{Duration, Instant};

use upkeep_api::{
    body::{Event, EventQuery, LogLine, LogQuery},
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
/// The same, for one on another machine.
const FAR_STEP: Duration = Duration::from_millis(500);

/// A stream that was begun is not begun again sooner than this.
pub(super) const REST: Duration = Duration::from_secs(1);

/// A stream of log lines that survives its daemon.
#[derive(Debug)]
pub(crate) struct Follower<'a> {
    settings: &'a Settings,
    path: String,
    /// Keeps the connection.
    client: Client,
    lines: Lines,
    /// The id of the last line that was given out.
    last: Option<String>,
    opened: Instant,
}

impl<'a> Follower<'a> {
    /// Begins to follow.
    pub(crate) async fn open(settings: &'a Settings, query: LogQuery) -> anyhow::Result<Self> {
        let mut client = connect_or_start(settings).await?;
        let path = with_query("/v1/logs", &query);
        let lines = client.lines(&path, true).await?;
        Ok(Self {
            settings,
            path,
            client,
            lines,
            last: None,
            opened: Instant::now(),
        })
    }

    /// The next line. Cancel-safe: what is half read stays in the reader, and a connection that is half made is made
    /// again.
    pub(crate) async fn next(&mut self) -> anyhow::Result<LogLine> {
        loop {
            match self.lines.next::<LogLine>().await {
                Ok(Some(line)) => {
                    if let Some(id) = self.lines.last_id() {
                        self.last = Some(id.to_owned());
                    }
                    return Ok(line);
                }
                Ok(None) | Err(ClientError::Broken { .. } | ClientError::Unreachable { .. }) => {
                    self.resume().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn resume(&mut self) -> anyhow::Result<()> {
        // A stream that ends as soon as it has begun would be asked for without pause.
        tokio::time::sleep_until((self.opened + REST).into()).await;
        self.opened = Instant::now();
        (self.client, self.lines) = reopen(self.settings, &self.path, self.last.as_deref()).await?;
        Ok(())
    }
}

/// A stream of events that survives its daemon: it goes on after the id of the last one.
#[derive(Debug)]
pub(crate) struct EventFollower<'a> {
    settings: &'a Settings,
    path: &'static str,
    query: EventQuery,
    /// Keeps the connection.
    client: Client,
    lines: Lines,
}

impl<'a> EventFollower<'a> {
    /// Begins to follow.
    pub(crate) async fn open(
        settings: &'a Settings,
        path: &'static str,
        query: EventQuery,
    ) -> anyhow::Result<Self> {
        let mut client = connect_or_start(settings).await?;
        let lines = client.lines(&with_query(path, &query), true).await?;
        Ok(Self {
            settings,
            path,
            query,
            client,
            lines,
        })
    }

    /// The next event. Cancel-safe, as that of log lines.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            match self.lines.next::<Event>().await {
                Ok(Some(gap)) if gap.is_gap() => {
                    // It goes on there, also where ids are lower than they were.
                    self.query.after = Some(gap.id);
                    return Ok(gap);
                }
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
        let path = with_query(self.path, &query);
        (self.client, self.lines) = reopen(self.settings, &path, None).await?;
        Ok(())
    }
}

/// Connects again once there is a daemon.
pub(super) async fn reopen(
    settings: &Settings,
    path: &str,
    last: Option<&str>,
) -> anyhow::Result<(Client, Lines)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // What became of the keeper of another machine cannot be seen from here.
        if settings.host.is_none() && keeper_of(settings).is_none() {
            return Err(Advised::new(Exit::Unreachable, "the daemon has ended").into());
        }
        let again = async {
            let mut client = connect(settings).await?;
            let lines = client.lines_after(path, true, last).await?;
            Ok::<_, ClientError>((client, lines))
        };
        match again.await {
            Ok(opened) => return Ok(opened),
            // There is none yet, or the last breath of the old one was taken for the first of the new one.
            Err(ClientError::Broken { .. } | ClientError::Unreachable { .. })
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(if settings.host.is_some() { FAR_STEP } else { STEP }).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
