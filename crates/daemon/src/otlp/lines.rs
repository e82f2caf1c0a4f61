//! Log lines on their way: read from the files behind a durable place, sent in batches, and the places moved behind a
//! batch when the receiver has it.
//!
//! The reader and its places are those of the sinks ([`crate::logs::sinks`]), in a folder of their own. What has not
//! been taken is on disk and nowhere else: memory holds one batch.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
};
use prost::Message;
use upkeep_api::body::{LogLine, Stream};
use upkeep_model::{id::AppName, settings::Otlp};
use upkeep_sys::clock;

use super::{
    attribute, resource, scope,
    sender::{Outcome, Sender},
};
use crate::{
    apps::directory::Directory,
    logs::{
        read::{marks::Marks, more::more},
        sinks::{
            cursor,
            feed::{Feed, logs_of},
        },
    },
    main_loop::note,
};

/// How many lines and bytes of text a batch has at most; one line may be larger by itself (1 MiB).
const LINES: usize = 1000;
const BYTES: usize = 512 << 10;
/// How often places are written down.
const SAVE: Duration = Duration::from_secs(1);
/// Key of our place in the file of an app.
const KEY: &str = "otlp";

/// Lines of all apps.
pub(super) struct Lines {
    pub(super) directory: Arc<Directory>,
    /// Where logs are.
    pub(super) logs: PathBuf,
    /// Where places are written down.
    pub(super) folder: PathBuf,
    pub(super) host_name: String,
    pub(super) version: String,
    feeds: BTreeMap<AppName, Feed>,
    /// When the apps were looked at last: one that was not there then is new since.
    looked_ms: u64,
    saved: Instant,
    /// How many lines the next batch may have: less after one that the receiver could not take.
    at_once: usize,
    /// Who begins the next batch, so that one who writes much does not keep others waiting.
    turn: usize,
}

/// Lines that go together, and where their readers are behind them.
#[derive(Default)]
struct Batch {
    lines: Vec<LogLine>,
    bytes: usize,
    moved: Vec<Moved>,
    /// There is more than fits.
    full: bool,
}

struct Moved {
    app: AppName,
    marks: Marks,
    /// Inode and length of its logs, if everything in them is in the batch.
    read: Option<Vec<(PathBuf, (u64, u64))>>,
    sent: u64,
}

impl Lines {
    /// `since_ms`: an app without a place is read from then on (Unix ms).
    pub(super) fn new(
        directory: Arc<Directory>,
        (logs, folder): (PathBuf, PathBuf),
        (host_name, version): (String, String),
        since_ms: u64,
    ) -> Self {
        Self {
            directory,
            logs,
            folder,
            host_name,
            version,
            feeds: BTreeMap::new(),
            looked_ms: since_ms,
            saved: Instant::now(),
            at_once: LINES,
            turn: 0,
        }
    }

    /// Sends one batch of what is new; whether there is more. Stops at nothing: dropping it repeats the batch later.
    pub(super) async fn send(&mut self, otlp: &Otlp, sender: &mut Sender) -> bool {
        self.look();
        let batch = self.collect();
        if batch.lines.is_empty() {
            self.moved(batch);
            self.save_now_and_then();
            return false;
        }
        let (count, full) = (batch.lines.len(), batch.full);
        let message = self.request(&batch.lines).encode_to_vec();
        let more = match sender.send(otlp, message).await {
            Outcome::Taken => {
                self.at_once = (self.at_once * 2).min(LINES);
                self.moved(batch);
                full
            }
            Outcome::Unfit if count > 1 => {
                self.at_once = count / 2;
                false
            }
            Outcome::Unfit => {
                let line = &batch.lines[0];
                sender.refused(&format!("a line of `{}` of {} bytes", line.app, line.line.len()));
                self.moved(batch);
                full
            }
            Outcome::Later => false,
        };
        self.save_now_and_then();
        more
    }

    /// Which apps there are.
    fn look(&mut self) {
        let now = clock::unix_ms();
        for feed in self.feeds.values_mut() {
            feed.ends = true;
        }
        for entry in self.directory.read().values() {
            let spec = &entry.record.spec;
            let (folder, since) = (&self.folder, self.looked_ms);
            let feed = self
                .feeds
                .entry(spec.name.clone())
                .or_insert_with_key(|app| Feed::of(cursor::load(folder, app).remove(KEY), since));
            feed.ends = false;
            feed.follow(logs_of(spec, &self.logs));
        }
        self.looked_ms = now;
        let over = |feed: &Feed| feed.ends && feed.grown().is_empty();
        let gone: Vec<AppName> = self
            .feeds
            .iter()
            .filter(|(_, feed)| over(feed))
            .map(|(app, _)| app.clone())
            .collect();
        for app in gone {
            self.feeds.remove(&app);
            if let Err(error) = cursor::remove(&self.folder, &app) {
                note(&format!(
                    "the place in the logs of `{app}` could not be forgotten: {error}"
                ));
            }
        }
    }

    fn collect(&mut self) -> Batch {
        let mut batch = Batch::default();
        let (most, count) = (self.at_once.max(1), self.feeds.len().max(1));
        self.turn = (self.turn + 1) % count;
        let order = |at: usize| (at + count - self.turn) % count;
        let mut feeds: Vec<_> = self.feeds.iter_mut().enumerate().collect();
        feeds.sort_by_key(|(at, _)| order(*at));
        for (_, (app, feed)) in feeds {
            if batch.full {
                break;
            }
            let (logs, sizes): (Vec<_>, Vec<_>) = feed.grown().into_iter().unzip();
            if logs.is_empty() {
                feed.read_all(std::iter::empty());
                continue;
            }
            feed.count_missed(&logs);
            let (mut marks, mut sent) = (feed.marks.clone(), 0);
            let mut take = |line: &LogLine| {
                if line.notice {
                    // Told once: the place moves behind what cannot be read.
                    note(&format!("for OTLP of `{app}`: {}", line.line));
                    return true;
                }
                let fits = batch.lines.is_empty()
                    || batch.lines.len() < most && batch.bytes + line.line.len() <= BYTES;
                if fits {
                    batch.bytes += line.line.len();
                    batch.lines.push(line.clone());
                    sent += 1;
                }
                fits
            };
            let done = more(&logs, &mut marks, &mut take).unwrap_or_else(|error| {
                note(&format!(
                    "the logs of `{app}` could not be read for OTLP: {error}"
                ));
                // Tried again when it grows: a file that is broken is not read over and over.
                true
            });
            batch.full |= !done;
            batch.moved.push(Moved {
                app: app.clone(),
                marks,
                read: done.then(|| logs.into_iter().map(|log| log.path).zip(sizes).collect()),
                sent,
            });
        }
        batch
    }

    /// The receiver has it.
    fn moved(&mut self, batch: Batch) {
        for moved in batch.moved {
            let Some(feed) = self.feeds.get_mut(&moved.app) else {
                continue;
            };
            feed.marks = moved.marks;
            feed.sent += moved.sent;
            feed.unsaved |= moved.sent > 0;
            if let Some(read) = moved.read {
                feed.read_all(read.into_iter());
            }
        }
    }

    fn save_now_and_then(&mut self) {
        if self.saved.elapsed() >= SAVE || self.feeds.values().any(|feed| feed.unsaved && feed.sent == 0) {
            self.save();
        }
    }

    /// Writes down how far everything is.
    pub(super) fn save(&mut self) {
        for (app, feed) in self.feeds.iter_mut().filter(|(_, feed)| feed.unsaved) {
            let saved = BTreeMap::from([(KEY.to_owned(), feed.saved())]);
            // What could not be written is tried again; a full disk says so in many other places.
            feed.unsaved = cursor::save(&self.folder, app, saved).is_err();
        }
        self.saved = Instant::now();
    }

    fn request(&self, lines: &[LogLine]) -> ExportLogsServiceRequest {
        let mut places: HashMap<(&AppName, Option<u32>), usize> = HashMap::new();
        let mut resource_logs: Vec<ResourceLogs> = Vec::new();
        for line in lines {
            let at = *places.entry((&line.app, line.index)).or_insert_with(|| {
                let id = line.index.map(|index| format!("{}:{index}", line.app));
                resource_logs.push(ResourceLogs {
                    resource: Some(resource(&self.host_name, line.app.as_str(), id.as_deref())),
                    scope_logs: vec![ScopeLogs {
                        scope: Some(scope(&self.version)),
                        ..ScopeLogs::default()
                    }],
                    ..ResourceLogs::default()
                });
                resource_logs.len() - 1
            });
            resource_logs[at].scope_logs[0].log_records.push(record(line));
        }
        ExportLogsServiceRequest { resource_logs }
    }
}

fn record(line: &LogLine) -> LogRecord {
    let at = Duration::try_from_secs_f64(line.at).unwrap_or_default();
    // The time is of whole milliseconds, which a float may tell a little short.
    let ms = (at + Duration::from_micros(500)).as_millis();
    let at = u64::try_from(ms).unwrap_or(0) * 1_000_000;
    let (stream, severity, word) = match line.stream {
        Stream::Out => ("stdout", SeverityNumber::Info, "INFO"),
        Stream::Err => ("stderr", SeverityNumber::Error, "ERROR"),
    };
    let mut attributes = vec![attribute("log.iostream", stream)];
    if line.partial {
        attributes.push(attribute("upkeep.partial", "true"));
    }
    LogRecord {
        time_unix_nano: at,
        observed_time_unix_nano: at,
        severity_number: severity.into(),
        severity_text: word.to_owned(),
        body: Some(AnyValue {
            value: Some(any_value::Value::StringValue(line.line.clone())),
        }),
        attributes,
        ..LogRecord::default()
    }
}

/// Forgets all places: who asks for lines again gets those that are written from then on.
pub(super) fn forget(folder: &std::path::Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            note(&format!("`{}` could not be removed: {error}", folder.display()));
        }
        _ => {}
    }
}
