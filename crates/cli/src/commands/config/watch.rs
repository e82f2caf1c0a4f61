//! `config watch`: every change once and in order, over daemons that are killed and replaced.

use std::time::Instant;

use upkeep_api::{
    client::{Client, ClientError, Lines, with_query},
    config::{WatchQuery, Watched},
    error::Code,
};
use upkeep_model::place::Place;

use super::show;
use crate::{
    commands::follow::{REST, reopen},
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, Paint, clean::clean},
    settings::Settings,
};

/// A watch that survives its daemon.
pub(super) struct Watcher<'a> {
    settings: &'a Settings,
    path: String,
    /// Keeps the connection.
    client: Client,
    lines: Lines,
    /// Up to which revision all was told.
    last: Option<String>,
    opened: Instant,
    output: Output,
}

/// Whether a daemon says that the store cannot be asked now.
fn is_away(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<ClientError>(),
        Some(ClientError::Refused(body)) if body.code == Code::Unavailable
    )
}

impl<'a> Watcher<'a> {
    pub(super) async fn open(
        settings: &'a Settings,
        query: &WatchQuery,
        output: Output,
    ) -> anyhow::Result<Self> {
        let mut client = connect_or_start(settings).await?;
        let path = with_query("/v1/config/watch", query);
        let lines = client.lines(&path, true).await?;
        Ok(Self {
            settings,
            path,
            client,
            lines,
            last: None,
            opened: Instant::now(),
            output,
        })
    }

    /// Another stream, behind what was told. Waits for a daemon, and for a store that is away.
    async fn again(&self) -> anyhow::Result<(Client, Lines)> {
        let mut is_told = false;
        loop {
            match reopen(self.settings, &self.path, self.last.as_deref()).await {
                Err(error) if is_away(&error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        self.output.warn(&format!("{error}; it is tried again"));
                    }
                    tokio::time::sleep(REST).await;
                }
                done => return done,
            }
        }
    }

    /// The next item. Cancel-safe: what is half read stays in the reader.
    pub(super) async fn next(&mut self) -> anyhow::Result<Watched> {
        loop {
            match self.lines.next::<Watched>().await {
                Ok(Some(item)) => {
                    if let Some(id) = self.lines.last_id() {
                        self.last = Some(id.to_owned());
                    }
                    return Ok(item);
                }
                Ok(None) | Err(ClientError::Broken { .. } | ClientError::Unreachable { .. }) => {
                    // A stream that ends as soon as it has begun would be asked for without pause.
                    tokio::time::sleep_until((self.opened + REST).into()).await;
                    self.opened = Instant::now();
                    (self.client, self.lines) = self.again().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

pub(super) async fn run(
    place: Place,
    from: Option<u64>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let query = WatchQuery {
        place: Some(place),
        from,
    };
    let mut watcher = Watcher::open(settings, &query, output).await?;
    // One for the whole loop: an interrupt between two rounds would go to nobody.
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let item = tokio::select! {
            // Cancel-safe: after an interrupt nothing is read any more.
            item = watcher.next() => item?,
            _ = &mut interrupt => return Ok(Exit::Interrupted),
        };
        if output.json {
            output.text(&serde_json::to_string(&item)?)?;
        }
        match item {
            Watched::Changes { .. } | Watched::Progress { .. } if output.json => {}
            Watched::Changes { revision, changes } => {
                let lines: Vec<String> = changes
                    .iter()
                    .map(|change| {
                        let became = match &change.value {
                            Some(value) => show::short(value, output),
                            None => output.paint(Paint::Bad, "deleted"),
                        };
                        let who = change
                            .who
                            .as_deref()
                            .map_or_else(String::new, |who| format!("  {}", clean(who)));
                        let why = show::why(change.reason.as_deref(), output);
                        format!("{revision:>6}  {}: {became}{who}{why}", change.path)
                    })
                    .collect();
                output.text(&lines.join("\n"))?;
            }
            Watched::Progress { .. } => {}
            Watched::Lagging { behind } => {
                output.warn(&format!("{behind} revisions behind; nothing is lost"));
            }
            Watched::Failed { why } => return Err(Advised::new(Exit::Failed, why).into()),
            Watched::Compacted { oldest } => {
                return Err(Advised::new(
                    Exit::Failed,
                    format!("changes before revision {oldest} are forgotten"),
                )
                .hint("read what is there now (`upkeep config ls`), and watch from behind its revision")
                .into());
            }
        }
    }
}
