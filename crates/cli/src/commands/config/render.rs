//! `config render`: a file from a template and values, for programs that Upkeep does not run.
//!
//! It does nothing that its caller may not: values come from the API with the caller's rights, the file is written and commands are
//! run as the caller. So it works with `--host` as well.

use std::{
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path as FilePath,
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};
use upkeep_api::{
    client::{Client, ClientError},
    config::{ValueEntry, ValueKind, ValueList, WatchQuery, Watched},
    error::Code,
};
use upkeep_config::{
    entry::{By, Entry, Shown},
    value::{Kind, Value},
};
use upkeep_model::place::Place;
use upkeep_render::{
    Applied, Job, Rendered, Values, apply,
    apply::{Action, ApplyError, Health},
    command::{Run, Stop},
    diff,
    file::{self, Links, Target, Ways},
    pace::{Pace, Wait},
    template,
};

use super::{list_all_at, read, watch::Watcher};
use crate::{
    args::ConfigRender,
    connect::connect_or_start,
    exit::{Advised, Exit, report},
    output::Output,
    settings::Settings,
};

/// A larger template is not read.
const TEMPLATE_MAX: u64 = 4 << 20;
/// So often values are read again that others change meanwhile.
const TRIES: usize = 10;
/// Between two looks whether the program does well.
const HEALTH_EVERY: Duration = Duration::from_millis(500);
/// Between two looks whether the template was changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest pause between two tries to watch.
const RETRY_MAX: Duration = Duration::from_secs(10);

pub(super) async fn run(asked: ConfigRender, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let is_piped = asked.template == FilePath::new("-");
    let renderer = Renderer {
        name: asked.template.display().to_string(),
        piped: is_piped.then(|| template(&asked.template)).transpose()?,
        asked,
        settings,
        output,
        stop: Stop::default(),
    };
    if renderer.asked.watch {
        // One that is missing from the beginning is a slip.
        renderer.text()?;
        return renderer.watch().await;
    }
    renderer.round().await.map(|_| Exit::Done)
}

fn template(path: &FilePath) -> anyhow::Result<String> {
    let fail = |error: std::io::Error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        let text = format!("failed to read the template `{}`: {error}", path.display());
        Advised::new(exit, text)
    };
    let mut text = String::new();
    let length = if path == FilePath::new("-") {
        std::io::stdin().take(TEMPLATE_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(TEMPLATE_MAX + 1).read_to_string(&mut text))
    };
    if length.map_err(fail)? as u64 > TEMPLATE_MAX {
        let why = format!(
            "the template `{}` has more than {} MiB",
            path.display(),
            TEMPLATE_MAX >> 20
        );
        return Err(Advised::new(Exit::Refused, why).into());
    }
    Ok(text)
}

/// Number, length and time of a file.
type Stamp = (u64, u64, i64, i64);

struct Renderer<'a> {
    name: String,
    /// The template, if it came over standard input; else it is read for every round.
    piped: Option<String>,
    asked: ConfigRender,
    settings: &'a Settings,
    output: Output,
    stop: Stop,
}

impl Renderer<'_> {
    fn text(&self) -> anyhow::Result<String> {
        match &self.piped {
            Some(text) => Ok(text.clone()),
            None => template(&self.asked.template),
        }
    }

    /// What tells one content of the template from another; nothing if there is none now, or no file.
    fn stamp(&self) -> Option<Stamp> {
        if self.piped.is_some() {
            return None;
        }
        let found = std::fs::metadata(&self.asked.template).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    }

    /// Renders once. Tells the revision of the values.
    async fn round(&self) -> anyhow::Result<u64> {
        let text = self.text()?;
        let values = self.values().await?;
        let blank = self.asked.allow_blank;
        let rendered = upkeep_render::render(&self.name, &text, &values, blank)
            .map_err(|error| Advised::new(Exit::Refused, error.to_string()))?;
        let revision = rendered.revision;
        let Some(to) = self.asked.to.clone() else {
            return self.print(&rendered).map(|()| revision);
        };
        let target = self.target(&to)?;
        if self.settings.dry_run {
            return self.compare(&target, &rendered).map(|()| revision);
        }
        let (job, stop) = (self.job(target), self.stop.clone());
        // Checks take their time, and a signal is heard meanwhile.
        let applied = tokio::task::spawn_blocking(move || apply::apply(&job, &rendered.text, &stop)).await?;
        match applied {
            Ok(Applied::Unchanged) => Ok(revision),
            Ok(Applied::Written) => {
                self.output
                    .text(&format!("{}: written, of revision {revision}", to.display()))?;
                Ok(revision)
            }
            Err(error) => Err(refused(&error).into()),
        }
    }

    fn print(&self, rendered: &Rendered) -> anyhow::Result<()> {
        if self.settings.dry_run {
            let shown = rendered.shown.as_deref().unwrap_or(template::MASK);
            return self.output.text(shown);
        }
        self.output.text(&rendered.text)
    }

    fn compare(&self, target: &Target, rendered: &Rendered) -> anyhow::Result<()> {
        let fail = |error: file::FileError| Advised::new(Exit::Failed, error.to_string());
        let place = file::Place::of(target).map_err(fail)?;
        let present = place.present().map_err(fail)?;
        let old = present
            .as_ref()
            .map(|present| String::from_utf8_lossy(&present.bytes).into_owned());
        let is_closed = |mode: u32| mode.trailing_zeros() >= 6;
        let is_private =
            is_closed(target.mode) || present.as_ref().is_some_and(|present| is_closed(present.mode));
        let name = target.path.display().to_string();
        let text = diff::unified(&name, old.as_deref(), rendered, is_private);
        self.output
            .text(if text.is_empty() { "no difference" } else { &text })
    }

    fn target(&self, to: &FilePath) -> anyhow::Result<Target> {
        let there = std::fs::metadata(to).ok();
        let asked = &self.asked;
        let owner = file::owner(asked.owner.as_deref(), asked.group.as_deref()).map_err(|why| {
            Advised::new(Exit::Failed, format!("failed to write `{}`: {why}", to.display()))
        })?;
        // Whose file it is, it stays.
        let kept = || there.as_ref().map(|there| (there.uid(), there.gid()));
        Ok(Target {
            path: to.to_owned(),
            mode: asked.mode.unwrap_or_else(|| {
                let mode = there.as_ref().map(|there| there.permissions().mode() & 0o7777);
                mode.unwrap_or(0o600)
            }),
            owner: owner.or_else(kept),
            links: if asked.follow_links {
                Links::Followed
            } else {
                Links::Refused
            },
            ways: Ways::Any,
        })
    }

    fn job(&self, target: Target) -> Job {
        let asked = &self.asked;
        let line = |line: &String| Run::shell(line.clone(), asked.timeout.into());
        Job {
            target,
            check: asked.check.as_ref().map(line),
            action: match (&asked.run, asked.signal, &asked.pid_file) {
                (Some(run), ..) => Action::Run(line(run)),
                (None, Some(signal), Some(pid_file)) => Action::Signal {
                    pid_file: pid_file.clone(),
                    signal,
                },
                _ => Action::None,
            },
            health: asked.health.as_ref().map(|health| Health {
                check: line(health),
                interval: HEALTH_EVERY,
                within: asked.health_within.into(),
            }),
            allow_blank: asked.allow_blank,
        }
    }

    /// The values of all places, later ones over earlier ones, all as they were at one moment.
    async fn values(&self) -> anyhow::Result<Values> {
        let mut client = connect_or_start(self.settings).await?;
        'again: for _ in 0..TRIES {
            let mut all: Option<Values> = None;
            for place in &self.asked.place {
                let at = all.as_ref().map(Values::revision);
                let Some(values) = values_of(&mut client, place, at).await? else {
                    continue 'again;
                };
                all = Some(match all {
                    Some(below) => below.under(values),
                    None => values,
                });
            }
            return all.ok_or_else(|| Advised::new(Exit::Usage, "no place is named").into());
        }
        let places: Vec<String> = self
            .asked
            .place
            .iter()
            .map(|place| format!("`{place}`"))
            .collect();
        let text = format!(
            "failed to read {}: others change it all the time",
            places.join(", ")
        );
        Err(Advised::new(Exit::Conflict, text).into())
    }

    /// Renders whenever values or the template change. The store may be away; rights that end are the end.
    async fn watch(&self) -> anyhow::Result<Exit> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let ended = tokio::select! {
            // What is being applied is whole or not at all: whoever ends us may do so at any time.
            ended = self.follow() => ended,
            _ = interrupt.recv() => Ok(Exit::Interrupted),
            _ = terminate.recv() => Ok(Exit::Done),
        };
        self.stop.stop();
        ended
    }

    async fn follow(&self) -> anyhow::Result<Exit> {
        let waits = self.asked.debounce;
        let wait = Wait {
            min: waits.min.into(),
            max: waits.max.into(),
        };
        // The first time at once.
        let mut pace = Pace::new(Wait {
            min: Duration::ZERO,
            max: Duration::ZERO,
        })
        .retrying_within(RETRY_MAX);
        let query = WatchQuery {
            place: Some(common(&self.asked.place)),
            from: None,
        };
        let mut watcher: Option<Watcher<'_>> = None;
        let mut stamp = self.stamp();
        loop {
            if watcher.is_none() && pace.due().is_none_or(|due| due <= Instant::now()) {
                match Watcher::open(self.settings, &query, self.output).await {
                    Ok(open) => {
                        watcher = Some(open);
                        pace.noticed(Instant::now(), 0);
                    }
                    Err(error) => {
                        self.tell(error)?;
                        pace.failed(Instant::now());
                    }
                }
            }
            if watcher.is_some() && pace.begin(Instant::now()) {
                match self.round().await {
                    Ok(revision) => {
                        pace.change_wait(wait);
                        pace.done(Instant::now(), revision);
                    }
                    Err(error) => {
                        self.tell(error)?;
                        pace.failed(Instant::now());
                    }
                }
                continue;
            }
            let due = pace
                .due()
                .unwrap_or_else(|| Instant::now() + Duration::from_mins(1));
            tokio::select! {
                // Cancel-safe: what is half read stays in the reader.
                heard = next(&mut watcher) => match heard {
                    Ok(Watched::Changes { revision, .. }) => pace.noticed(Instant::now(), revision),
                    Ok(Watched::Progress { .. } | Watched::Lagging { .. }) => {}
                    Ok(Watched::Compacted { .. }) => {
                        watcher = None;
                        pace.noticed(Instant::now(), 0);
                    }
                    Ok(Watched::Failed { why }) => {
                        watcher = None;
                        self.tell(Advised::new(Exit::Failed, why).into())?;
                        pace.failed(Instant::now());
                    }
                    Err(error) => {
                        watcher = None;
                        self.tell(error)?;
                        pace.failed(Instant::now());
                    }
                },
                now = self.rewritten(stamp) => {
                    stamp = Some(now);
                    pace.noticed(Instant::now(), 0);
                }
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    /// Waits until the template is another one than it was. One that is gone this moment is being replaced.
    async fn rewritten(&self, was: Option<Stamp>) -> Stamp {
        loop {
            match self.stamp() {
                Some(now) if Some(now) != was => return now,
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Says what went wrong, and goes on; but not where rights have ended.
    fn tell(&self, error: anyhow::Error) -> anyhow::Result<()> {
        let code = error.downcast_ref::<ClientError>().and_then(code);
        if matches!(code, Some(Code::Forbidden | Code::Unauthenticated)) {
            return Err(error);
        }
        report(&error, &self.output);
        Ok(())
    }
}

/// What the daemon said no with.
fn code(error: &ClientError) -> Option<Code> {
    match error {
        ClientError::Refused(body) => Some(body.code),
        _ => None,
    }
}

async fn next(watcher: &mut Option<Watcher<'_>>) -> anyhow::Result<Watched> {
    match watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

fn refused(error: &ApplyError) -> Advised {
    let text = match error {
        ApplyError::Refused { why, .. } if !why.said.is_empty() => format!("{error}\n{}", why.said),
        error => error.to_string(),
    };
    match error {
        ApplyError::Blank(_) => {
            Advised::new(Exit::Refused, text).hint("`--allow-blank` is for files that may be")
        }
        ApplyError::Refused { .. } | ApplyError::WentBack { .. } => Advised::new(Exit::Refused, text),
        ApplyError::File(_) | ApplyError::Stuck { .. } => Advised::new(Exit::Failed, text),
    }
}

/// The innermost place that holds all of these.
fn common(places: &[Place]) -> Place {
    let is_outer = |one: &&Place| places.iter().all(|other| one.contains(other));
    places.iter().find(is_outer).cloned().unwrap_or_else(Place::all)
}

/// The values of a place, each as the list has it; secrets in clear where the caller may see them. With `at`, as they were then.
/// Nothing if somebody has changed them meanwhile.
async fn values_of(client: &mut Client, place: &Place, at: Option<u64>) -> anyhow::Result<Option<Values>> {
    let list: ValueList = match list_all_at(client, place, at).await {
        Ok(list) => list,
        // What was then is forgotten already.
        Err(error) if at.is_some() && code(&error) == Some(Code::Conflict) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut entries = Vec::with_capacity(list.values.len());
    for listed in list.values {
        let mut entry = listed;
        if entry.value.secret {
            match read(client, &entry.path, true).await {
                Ok(clear) if clear.revision == entry.revision => entry = clear,
                // Somebody was faster.
                Ok(_) => return Ok(None),
                Err(error) => match code(&error) {
                    Some(Code::NotFound) => return Ok(None),
                    // Left sealed: it is an error only where the template needs it.
                    Some(Code::Forbidden | Code::Conflict) => {}
                    _ => return Err(error.into()),
                },
            }
        }
        entries.push(shown(entry));
    }
    Ok(Some(Values::new(place.clone(), list.revision, &entries)))
}

fn shown(entry: ValueEntry) -> Entry {
    let kind = match entry.value.kind.unwrap_or_default() {
        ValueKind::Text => Kind::Text,
        ValueKind::Number => Kind::Number,
        ValueKind::Json => Kind::Json,
        ValueKind::Yaml => Kind::Yaml,
        ValueKind::File => Kind::File,
    };
    let content = entry.value.content();
    Entry {
        shown: match (content, entry.value.secret) {
            (Some(bytes), true) => Shown::Revealed(Value { kind, bytes }),
            (Some(bytes), false) => Shown::Plain(Value { kind, bytes }),
            (None, _) => Shown::Hidden,
        },
        path: entry.path,
        revision: entry.revision,
        version: entry.version,
        by: By {
            who: entry.who,
            at: entry.at,
            why: entry.reason,
        },
    }
}
