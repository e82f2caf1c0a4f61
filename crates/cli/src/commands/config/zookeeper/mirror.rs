//! `config zookeeper mirror`: an ensemble has what a place has, at every moment but the last few.
//!
//! The node that the mirror begins at says in its data what it is. It is written in every change with a check of its version, so
//! that two mirrors of one node notice each other, and nodes that are no mirror's are not touched.
//!
//! What is to be there is read whole after every change and compared with what was written last; after a lost connection, or if
//! somebody else has changed what is below the node, it is compared with the ensemble itself. So no change can be missed, whatever
//! happened in between. A store of ours that is away, or a daemon, is waited for.

pub(super) mod there;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, Instant},
};

use upkeep_api::{
    client::{self as api, ClientError},
    config::{ValueEntry, ValueList, WatchQuery, Watched},
    error::Code,
};
use upkeep_model::place::Place;
use upkeep_zookeeper::{Client, Op, Refused, ZooKeeperError};

use self::there::There;
use super::{Ensemble, advised};
use crate::{
    args::ZooKeeperMirror,
    commands::{
        config::{self, watch::Watcher},
        machine::keeper_of,
    },
    connect::connect_or_start,
    exit::{Advised, Exit, report},
    output::{Output, Paint, clean::clean},
    settings::Settings,
};

/// Changes that come together are written together.
const PAUSE: Duration = Duration::from_millis(50);

/// Between two tries to reach the ensemble or the store, at first; it doubles.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// What is to be there.
#[derive(Debug)]
struct Wanted {
    revision: u64,
    /// Data by path below the node: `/db/url`.
    nodes: BTreeMap<String, Vec<u8>>,
}

/// What a mirror is of, and where.
struct Mirror<'a> {
    ensemble: Ensemble,
    /// The node: `/mirrors/shop`.
    base: String,
    place: Place,
    reveal: bool,
    take_over: bool,
    settings: &'a Settings,
    output: Output,
}

/// A connection if there is one, with what is known to be there.
struct Held {
    client: Option<Client>,
    there: There,
}

/// What breaks off following.
enum Broken {
    /// Our store, or the daemon. It comes back.
    Store(anyhow::Error),
    /// The ensemble says what no other try mends.
    Ensemble(anyhow::Error),
}

pub(super) async fn run(asked: ZooKeeperMirror, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut ensemble = Ensemble::of(&asked.url, &asked.login)?;
    let base = std::mem::take(&mut ensemble.address.chroot);
    if base.is_empty() {
        return Err(Advised::new(
            Exit::Usage,
            "it is not said which node of the ensemble is to be the mirror",
        )
        .hint(format!(
            "name one behind the hosts: `{}/mirrors/shop`",
            clean(&asked.url)
        ))
        .into());
    }
    if !asked.place.is_many() {
        let place = &asked.place;
        let error = Advised::new(
            Exit::Usage,
            format!("`{place}` is one value; a mirror is of all below a place"),
        );
        return Err(error.hint(format!("write `{place}/`")).into());
    }
    let mut mirror = Mirror {
        ensemble,
        base,
        place: asked.place,
        reveal: asked.reveal,
        take_over: asked.take_over,
        settings,
        output,
    };
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    tokio::select! {
        // A change at ZooKeeper is whole or not at all, also if nobody waits for the answer.
        done = mirror.keep(asked.once) => done,
        _ = &mut interrupt => Ok(Exit::Interrupted),
    }
}

impl Mirror<'_> {
    /// Writes what is wanted, and goes on doing so unless it is to be done once.
    async fn keep(&mut self, once: bool) -> anyhow::Result<Exit> {
        let (wanted, hidden) = self.first(once || self.settings.dry_run).await?;
        if hidden > 0 {
            self.output.warn(&format!(
                "{hidden} secrets are left out; `--reveal` writes them there in clear"
            ));
        }
        if self.settings.dry_run {
            return self.tell_steps(wanted).await;
        }
        let mut held = self.begin(&wanted).await.map_err(Failed::into_error)?;
        self.output.say(&format!(
            "{} values at revision {} are in `{}`",
            wanted.nodes.len(),
            wanted.revision,
            self.base
        ));
        if once {
            return Ok(Exit::Done);
        }
        // From here on it is ours.
        self.take_over = false;
        let mut from = wanted.revision + 1;
        let mut pause = AGAIN;
        loop {
            let Err(broken) = self.follow(&mut held, &mut from, &mut pause).await;
            match broken {
                Broken::Ensemble(error) => return Err(error),
                Broken::Store(error) if self.is_end(&error) => return Err(error),
                Broken::Store(error) => drop(report(&error, &self.output)),
            }
            self.rest(&mut pause).await;
        }
    }

    /// What is wanted at the beginning. A store that is away is waited for, unless this is done but once.
    async fn first(&self, once: bool) -> anyhow::Result<(Wanted, usize)> {
        let mut pause = AGAIN;
        loop {
            let error = match self.wanted().await {
                Ok(wanted) => return Ok(wanted),
                Err(error) => error,
            };
            let may_pass = match error.downcast_ref::<ClientError>() {
                Some(ClientError::Refused(body)) => body.code == Code::Unavailable,
                Some(ClientError::Broken { .. }) => true,
                _ => false,
            };
            if once || !may_pass {
                return Err(error);
            }
            report(&error, &self.output);
            self.rest(&mut pause).await;
        }
    }

    /// Whether no other try mends what our side says: rights have ended, or somebody has ended everything.
    fn is_end(&self, error: &anyhow::Error) -> bool {
        let is_refused = matches!(
            error.downcast_ref::<ClientError>(),
            Some(ClientError::Refused(body)) if matches!(body.code, Code::Forbidden | Code::Unauthenticated)
        );
        is_refused || (self.settings.host.is_none() && keeper_of(self.settings).is_none())
    }

    async fn rest(&self, pause: &mut Duration) {
        self.output
            .say(&format!("it is tried again in {} s", pause.as_secs()));
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST);
    }

    /// Follows the place, from the first revision that was not written yet.
    async fn follow(
        &self,
        held: &mut Held,
        from: &mut u64,
        pause: &mut Duration,
    ) -> Result<Infallible, Broken> {
        loop {
            let query = WatchQuery {
                place: Some(self.place.clone()),
                from: Some(*from),
            };
            let opened = Watcher::open(self.settings, &query, self.output).await;
            let mut watcher = opened.map_err(Broken::Store)?;
            loop {
                let is_forgotten = match self.next(&mut watcher, held).await? {
                    Watched::Changes { .. } => false,
                    Watched::Compacted { .. } => true,
                    Watched::Failed { why } => {
                        return Err(Broken::Store(Advised::new(Exit::Failed, clean(&why)).into()));
                    }
                    Watched::Progress { .. } | Watched::Lagging { .. } => continue,
                };
                // Others that come in this moment are read with it.
                tokio::time::sleep(PAUSE).await;
                *from = self.write(held).await?;
                *pause = AGAIN;
                if is_forgotten {
                    break;
                }
            }
        }
    }

    /// The next item. Meanwhile the session hears something now and then.
    async fn next(&self, watcher: &mut Watcher<'_>, held: &mut Held) -> Result<Watched, Broken> {
        let mut next = std::pin::pin!(watcher.next());
        loop {
            let quiet = held.client.as_ref().map_or(AGAIN, |client| client.timeout() / 3);
            tokio::select! {
                item = &mut next => return item.map_err(Broken::Store),
                () = tokio::time::sleep(quiet) => self.ping(held).await?,
            }
        }
    }

    async fn ping(&self, held: &mut Held) -> Result<(), Broken> {
        if let Some(client) = held.client.take() {
            match self.ensemble.with(Some(client), Client::ping).await {
                Ok((client, ())) => {
                    held.client = Some(client);
                    return Ok(());
                }
                Err(error) => self
                    .output
                    .warn(&format!("{}; it is connected anew", clean(&error.to_string()))),
            }
        }
        self.write(held).await.map(drop)
    }

    /// What the place has now, and how many secrets are not shown.
    async fn wanted(&self) -> anyhow::Result<(Wanted, usize)> {
        let mut client = connect_or_start(self.settings).await?;
        let ValueList { revision, values, .. } = config::list_all(&mut client, &self.place).await?;
        let mut hidden = 0;
        let mut nodes = BTreeMap::new();
        for entry in values {
            let data = match entry.value.content() {
                Some(data) => data,
                None if self.reveal && entry.value.secret => match revealed(&mut client, &entry).await? {
                    Some(data) => data,
                    // Deleted meanwhile; the watch tells.
                    None => continue,
                },
                None => {
                    hidden += 1;
                    continue;
                }
            };
            if let Some(below) = self.place.below(&entry.path) {
                nodes.insert(format!("/{below}"), data);
            }
        }
        Ok((Wanted { revision, nodes }, hidden))
    }

    /// Connects, looks whether the node is ours, and writes what differs.
    async fn begin(&self, wanted: &Wanted) -> Result<Held, Failed> {
        let (base, place, take_over) = (self.base.clone(), self.place.clone(), self.take_over);
        let (client, there) = self
            .ensemble
            .with(None, move |client| {
                Ok(there::ours(client, &base, &place, take_over))
            })
            .await?;
        let mut held = Held {
            client: Some(client),
            there: there?,
        };
        self.carry_out(&mut held, wanted).await?;
        Ok(held)
    }

    /// Writes what the place has now, over lost connections and what others do below the node: up to which revision is told,
    /// and what comes behind it.
    async fn write(&self, held: &mut Held) -> Result<u64, Broken> {
        let (wanted, _) = self.wanted().await.map_err(Broken::Store)?;
        let since = Instant::now();
        let mut pause = AGAIN;
        let mut is_lost = held.client.is_none();
        loop {
            let done = if held.client.is_some() {
                self.carry_out(held, &wanted).await
            } else {
                self.begin(&wanted).await.map(|gained| *held = gained)
            };
            let Err(failed) = done else { break };
            if !failed.may_pass() {
                return Err(Broken::Ensemble(failed.into_error()));
            }
            is_lost = true;
            self.output.warn(&clean(&failed.to_string()));
            self.rest(&mut pause).await;
        }
        if is_lost {
            let seconds = since.elapsed().as_secs();
            self.output
                .say(&format!("the mirror is whole again, after {seconds} s"));
        }
        Ok(wanted.revision + 1)
    }

    /// Writes what differs from what is known to be there; after an error that is not known any more.
    async fn carry_out(&self, held: &mut Held, wanted: &Wanted) -> Result<(), Failed> {
        let Some(client) = held.client.take() else {
            return Ok(());
        };
        let whole = there::whole(&wanted.nodes);
        let mut batches = there::batches(there::steps(&self.base, &held.there.nodes, &whole));
        if batches.is_empty() && !held.there.is_marked {
            // Nothing differs, and it has to say whose it is all the same.
            batches.push(Vec::new());
        }
        if batches.is_empty() {
            held.client = Some(client);
            return Ok(());
        }
        let mark = there::mark(&self.place, wanted.revision);
        let (base, mut version) = (self.base.clone(), held.there.version);
        let done = self.ensemble.with(Some(client), move |client| {
            for steps in batches {
                let check = Op::Check(base.clone(), version);
                let marked = Op::Set(base.clone(), mark.clone());
                let all: Vec<Op> = [check, marked].into_iter().chain(steps).collect();
                client.change(&all)?;
                version += 1;
            }
            Ok(version)
        });
        let (client, version) = done.await.map_err(|error| match error {
            ZooKeeperError::Refused {
                why: Refused::Version,
                ..
            } => Failed::Shared(self.base.clone()),
            other => Failed::ZooKeeper(other),
        })?;
        held.client = Some(client);
        held.there = There {
            nodes: whole,
            version,
            is_marked: true,
        };
        Ok(())
    }

    /// Says what would be written, and writes nothing.
    async fn tell_steps(&self, wanted: Wanted) -> anyhow::Result<Exit> {
        let (base, place, take_over) = (self.base.clone(), self.place.clone(), self.take_over);
        let (_, there) = self
            .ensemble
            .with(None, move |client| {
                Ok(there::looked_at(client, &base, &place, take_over))
            })
            .await
            .map_err(|error| advised(&error))?;
        let there = there.map_err(Failed::into_error)?;
        let steps = there::steps(&self.base, &there.nodes, &there::whole(&wanted.nodes));
        // What it says may be a secret in clear.
        let told = |step: &Op| match step {
            Op::Create(path, _) => ("+", Paint::Good, path.clone()),
            Op::Set(path, _) => ("~", Paint::Busy, path.clone()),
            Op::Delete(path) | Op::Check(path, _) => ("-", Paint::Bad, path.clone()),
        };
        let mut told: Vec<_> = steps.iter().map(told).collect();
        if !there.is_marked {
            told.insert(0, ("~", Paint::Busy, self.base.clone()));
        }
        if self.output.json {
            let steps: Vec<_> = told
                .iter()
                .map(|(sign, _, path)| serde_json::json!({"sign": sign, "path": path}))
                .collect();
            let document = serde_json::json!({"revision": wanted.revision, "steps": steps});
            self.output.document(&document)?;
            return Ok(Exit::Done);
        }
        let lines: Vec<String> = told
            .iter()
            .map(|(sign, paint, path)| format!("{} {}", self.output.paint(*paint, sign), clean(path)))
            .collect();
        if lines.is_empty() {
            self.output.say("nothing changes");
        } else {
            self.output.text(&lines.join("\n"))?;
            self.output.say("nothing was changed: this is what would be");
        }
        Ok(Exit::Done)
    }
}

/// A secret in clear; nothing if it is gone.
async fn revealed(client: &mut api::Client, entry: &ValueEntry) -> Result<Option<Vec<u8>>, ClientError> {
    match config::read(client, &entry.path, true).await {
        Ok(entry) => Ok(entry.value.content()),
        Err(ClientError::Refused(error)) if error.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a mirror does not go on.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    ZooKeeper(#[from] ZooKeeperError),
    /// Something that is no mirror is there.
    #[error("`{0}` is in use at ZooKeeper, and not as a mirror of this place")]
    InUse(String),
    /// Another mirror writes there.
    #[error("somebody else writes to the mirror `{0}`")]
    Shared(String),
}

impl Failed {
    /// Whether another try may succeed.
    fn may_pass(&self) -> bool {
        use ZooKeeperError::{Lost, Protocol, Unreachable};
        match self {
            Self::ZooKeeper(Lost { .. } | Unreachable(_) | Protocol { .. }) => true,
            // Somebody else made or deleted nodes below it: what is there is read anew.
            Self::ZooKeeper(ZooKeeperError::Refused { why, .. }) => {
                matches!(why, Refused::NoNode | Refused::Exists | Refused::NotEmpty)
            }
            _ => false,
        }
    }

    fn into_error(self) -> anyhow::Error {
        let text = self.to_string();
        match &self {
            Self::ZooKeeper(error) => advised(error).into(),
            Self::InUse(_) => Advised::new(Exit::Conflict, text)
                .hint("`--take-over` makes it a mirror; what is below it and not in the place is deleted")
                .into(),
            Self::Shared(_) => Advised::new(Exit::Conflict, text)
                .hint("end the other one; two cannot keep one node")
                .into(),
        }
    }
}
