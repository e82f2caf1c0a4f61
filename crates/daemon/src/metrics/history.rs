//! Three rings of figures for each instance and the machine.
//!
//! | ring | step | kept for | where |
//! |---|---|---|---|
//! | seconds | 1 s | 15 min | memory, in chunks of a minute; the journal on disk brings them back |
//! | tens | 10 s | a day | the last 15 min in memory and in the journal, then a block on disk |
//! | fives | 5 min | 90 days | made of the tens when their block is written; blocks of six hours |
//!
//! **Time** is Unix time, as the rows stand for moments that people ask for. A row that is not later than the last is
//! left out (clocks are slewed). If the clock goes back by more than two seconds, rows of the time to come are
//! dropped from memory and journal, and what happens now takes their place; on disk, too, the later writing wins. If
//! it goes forward there is a gap. Nothing is thrown away for its age until the clock has gone on evenly for an hour:
//! a clock that is wrong for a moment does not cost the history.
//!
//! **What a kill costs**: the journal is written every ten seconds, each time in one durable transaction, so at most
//! the last ten seconds of every ring. The file itself is never harmed. **A disk that is full or stuck** costs no
//! sampling: a thread of its own writes, says once what is wrong, keeps blocks that it could not write (up to 4 MB)
//! and tries again.
//!
//! **Size**: a block of tens holds 90 rows, one of fives 72. An idle process costs two bytes a row, a busy one about
//! 30; see `docs/guides/metrics.md` for what that comes to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use upkeep_api::metrics::Of;
use upkeep_model::id::AppName;
use upkeep_store::{StoreError, blocks::Blocks};

use super::{
    columns::{Values, WIDTH, scales},
    rows::{Reader, Row, Sum, Writer, put, take},
    write::{self, Job, WriterThread},
};

/// Kinds of blocks on disk.
pub(super) const NAMES: u8 = 0;
pub(super) const TENS: u8 = 1;
pub(super) const FIVES: u8 = 2;
pub(super) const JOURNAL: u8 = 3;

/// Seconds that the ring of seconds covers.
pub(super) const SECONDS_KEPT: u64 = 15 * 60;
/// Seconds that the ring of tens covers.
pub(super) const TENS_KEPT: u64 = 24 * 3600;
/// Seconds that the ring of fives covers.
pub(super) const FIVES_KEPT: u64 = 90 * 24 * 3600;
/// Seconds of a block of tens.
pub(super) const TENS_BLOCK: u64 = 900;
/// Seconds of a block of fives.
pub(super) const FIVES_BLOCK: u64 = 6 * 3600;
/// Seconds that one chunk of seconds covers.
const CHUNK: u64 = 60;
/// Seconds after which an app that was not seen any more is forgotten.
pub(super) const FORGET: u64 = 7 * 24 * 3600;
/// The clock may be slewed back by so much without anything being dropped, seconds.
const SLEW: u64 = 2;
/// A step forward of more than this is a jump, seconds.
const JUMP: u64 = 300;
/// So many blocks without a jump before anything is thrown away for its age.
const STEADY: u32 = 4;

/// Whose figures a series holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct SeriesName {
    /// `None`: the machine.
    pub(crate) app: Option<AppName>,
    pub(crate) index: u32,
}

impl SeriesName {
    pub(crate) const HOST: Self = Self { app: None, index: 0 };

    pub(super) fn of(&self) -> Of {
        if self.app.is_some() {
            Of::Instance
        } else {
            Of::Host
        }
    }
}

/// A series' name as it is on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Named {
    #[serde(flatten)]
    pub(super) name: SeriesName,
    /// Unix seconds of its last row, to a quarter of an hour.
    pub(super) seen: u64,
}

/// The history. Any thread may ask; one feeds it.
#[derive(Debug)]
pub(crate) struct History {
    live: Mutex<Live>,
    writer: Option<WriterThread>,
}

#[derive(Debug, Default)]
struct Live {
    ids: BTreeMap<SeriesName, u32>,
    /// Above every number that is anywhere on disk, named or not.
    next_id: u32,
    /// Names that the writer does not have yet.
    unnamed: Vec<(u32, Named)>,
    series: BTreeMap<u32, Series>,
    /// Unix seconds of the last push.
    now: u64,
    /// Blocks that have ended since the last jump of the clock.
    steady: u32,
    /// Apps that exist: theirs is kept, whether they run or not.
    known: BTreeSet<AppName>,
}

#[derive(Debug)]
struct Series {
    name: SeriesName,
    scales: [f64; WIDTH],
    /// Minutes that are full: their slots and rows.
    closed: VecDeque<(Range<u64>, Box<[u8]>)>,
    open: Writer,
    open_from: u64,
    /// Seconds that the journal does not have yet.
    pending: Writer,
    /// The ten seconds that run.
    sum: Sum,
    sum_rows: u32,
    /// The tens of the quarter of an hour that runs.
    tens: Writer,
    /// Those of the one before, which may not be on disk yet.
    ended: Box<[u8]>,
}

impl Series {
    fn new(name: SeriesName) -> Self {
        Self {
            scales: scales(name.of()),
            name,
            closed: VecDeque::new(),
            open: Writer::default(),
            open_from: 0,
            pending: Writer::default(),
            sum: Sum::default(),
            sum_rows: 0,
            tens: Writer::default(),
            ended: Box::default(),
        }
    }

    fn push_second(&mut self, row: &Row) {
        if !self.open.is_empty() && row.slot >= self.open_from + CHUNK {
            let full = std::mem::take(&mut self.open);
            let slots = self.open_from..full.last_slot().unwrap_or(self.open_from) + 1;
            self.closed.push_back((slots, full.bytes().into()));
        }
        if self.open.is_empty() {
            self.open_from = row.slot;
        }
        self.open.push(row);
        while self
            .closed
            .front()
            .is_some_and(|(slots, _)| slots.end + SECONDS_KEPT <= row.slot)
        {
            self.closed.pop_front();
        }
    }

    /// Ends the ten seconds that run.
    fn end_ten(&mut self, slot: u64) -> Option<Row> {
        if self.sum_rows == 0 {
            return None;
        }
        let row = std::mem::take(&mut self.sum).row(slot, &self.scales);
        self.sum_rows = 0;
        self.tens.push(&row).then_some(row)
    }

    /// Drops seconds from a slot on.
    fn truncate(&mut self, slot: u64) {
        let chunks = self
            .closed
            .iter()
            .map(|(_, bytes)| bytes.as_ref())
            .chain([self.open.bytes()]);
        let kept: Vec<Row> = chunks
            .flat_map(Reader::new)
            .filter(|row| row.slot < slot)
            .collect();
        self.closed.clear();
        self.open.clear();
        self.pending.clear();
        self.sum = Sum::default();
        self.sum_rows = 0;
        for row in kept {
            self.push_second(&row);
        }
    }

    fn is_over(&self, now: u64) -> bool {
        self.tens.is_empty()
            && self.sum_rows == 0
            && self.open.last_slot().is_none_or(|slot| slot + SECONDS_KEPT < now)
    }
}

/// What memory holds of a series: encoded, to be read without the lock.
#[derive(Debug, Default)]
pub(super) struct Recent {
    pub(super) seconds: Vec<Vec<u8>>,
    pub(super) ended: Vec<u8>,
    pub(super) tens: Vec<u8>,
}

impl History {
    /// Without a file: the last 15 minutes only.
    pub(crate) fn in_memory() -> Self {
        Self {
            live: Mutex::default(),
            writer: None,
        }
    }

    /// Opens the file and brings back what the journal has. The text says what is wrong with a file that was put
    /// aside.
    pub(crate) fn open(path: &Path, now: u64) -> Result<(Self, Option<String>), StoreError> {
        let (blocks, aside) = Blocks::open(path)?;
        let mut live = Live::default();
        for ((_, id, _), bytes) in blocks.kind(NAMES)? {
            // A name that cannot be read is written anew by whoever has it.
            if let Ok(named) = serde_json::from_slice::<Named>(&bytes) {
                live.ids.insert(named.name, id);
            }
        }
        // Figures whose name was lost must not become another's.
        for kind in [NAMES, TENS, FIVES] {
            live.keep_off(blocks.last_series(kind)?);
        }
        let writer = WriterThread::start(blocks).map_err(|error| StoreError::Open {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        // However old it is: the machine may have been off for a night. The writer keeps it short.
        let journal = writer
            .blocks()
            .range(JOURNAL, 0, 0..now.saturating_add(SLEW + 1))?;
        for (at, bytes) in journal {
            live.replay(at, &bytes, &writer);
        }
        let history = Self {
            live: Mutex::new(live),
            writer: Some(writer),
        };
        Ok((history, aside))
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a series; new names get one.
    pub(crate) fn id(&self, name: &SeriesName) -> u32 {
        let mut live = self.live();
        if let Some(id) = live.ids.get(name) {
            return *id;
        }
        let id = live.next_id;
        live.keep_off(Some(id));
        live.ids.insert(name.clone(), id);
        let named = Named {
            name: name.clone(),
            seen: live.now,
        };
        live.unnamed.push((id, named));
        id
    }

    /// Hands all new names to the writer in one job; what it has no room for waits for the next second.
    fn send_names(&self, live: &mut Live) {
        let names = std::mem::take(&mut live.unnamed);
        if let Some(writer) = self.writer.as_ref().filter(|_| !names.is_empty()) {
            live.unnamed = writer.try_names(names);
        }
    }

    /// The daemon ends in order: writes down what runs. Waits for the disk, but not for long.
    pub(crate) fn end(&self) {
        let mut live = self.live();
        if live.now == 0 {
            return;
        }
        self.send_names(&mut live);
        self.end_ten(&mut live);
        let (blocks, names) = live.take_blocks();
        self.send(Job::Blocks(blocks));
        self.send(Job::Names(names));
        drop(live);
        if let Some(writer) = &self.writer {
            writer.end();
        }
    }

    fn send(&self, job: Job) {
        if let Some(writer) = &self.writer {
            writer.send(job);
        }
    }

    /// Takes the figures of one second.
    pub(crate) fn push<'a>(
        &self,
        now: u64,
        figures: impl IntoIterator<Item = (u32, &'a SeriesName, &'a Values)>,
    ) {
        let mut live = self.live();
        if now + SLEW < live.now {
            self.turn_back(&mut live, now);
        } else if now <= live.now {
            return;
        }
        if live.now > 0 && now / 10 != live.now / 10 {
            self.end_ten(&mut live);
            if now / TENS_BLOCK != live.now / TENS_BLOCK {
                self.end_block(&mut live);
            }
        }
        if now > live.now + JUMP {
            live.steady = 0;
        }
        live.now = now;
        for (id, name, values) in figures {
            let series = live.series.entry(id).or_insert_with(|| Series::new(name.clone()));
            let row = Row::new(now, values, &series.scales);
            series.push_second(&row);
            series.pending.push(&row);
            series.sum.add(&row, &series.scales);
            series.sum_rows += 1;
        }
        self.send_names(&mut live);
    }

    fn turn_back(&self, live: &mut Live, now: u64) {
        self.end_block(live);
        for series in live.series.values_mut() {
            series.truncate(now);
        }
        live.steady = 0;
        live.now = now.saturating_sub(1);
        self.send(Job::TurnBack { now });
    }

    /// Ends ten seconds: a row of each series, and what goes into the journal.
    fn end_ten(&self, live: &mut Live) {
        let slot = live.now / 10;
        let mut journal = vec![1_u8]; // format
        for (id, series) in &mut live.series {
            let ten = series.end_ten(slot);
            if series.pending.is_empty() && ten.is_none() {
                continue;
            }
            put(&mut journal, u64::from(*id));
            for bytes in [series.pending.bytes(), Writer::of(ten).bytes()] {
                put(&mut journal, bytes.len() as u64);
                journal.extend_from_slice(bytes);
            }
            series.pending.clear();
        }
        if journal.len() > 1 {
            self.send(Job::Journal {
                at: live.now,
                bytes: journal,
            });
        }
    }

    /// Ends a quarter of an hour: blocks of tens, from which the writer makes the fives.
    fn end_block(&self, live: &mut Live) {
        live.steady = live.steady.saturating_add(1);
        let (blocks, names) = live.take_blocks();
        let now = live.now;
        live.series.retain(|_, series| !series.is_over(now));
        self.send(Job::Blocks(blocks));
        self.send(Job::Names(names));
        if live.steady >= STEADY {
            let known = live.known.clone();
            self.send(Job::Retain { now, known });
        }
    }

    /// Says which apps exist.
    pub(crate) fn set_known(&self, apps: BTreeSet<AppName>) {
        self.live().known = apps;
    }

    /// Names of an app's series, or the machine's.
    pub(super) fn names(&self) -> Vec<(SeriesName, u32)> {
        let live = self.live();
        live.ids.iter().map(|(name, id)| (name.clone(), *id)).collect()
    }

    /// What memory holds of a series from a moment on.
    pub(super) fn recent(&self, id: u32, seconds_from: Option<u64>) -> Recent {
        let live = self.live();
        let Some(series) = live.series.get(&id) else {
            return Recent::default();
        };
        let seconds = seconds_from.map_or_else(Vec::new, |from| {
            let closed = series.closed.iter().filter(|(slots, _)| slots.end > from);
            closed
                .map(|(_, bytes)| bytes.to_vec())
                .chain([series.open.bytes().to_vec()])
                .collect()
        });
        Recent {
            seconds,
            ended: series.ended.to_vec(),
            tens: series.tens.bytes().to_vec(),
        }
    }

    /// Blocks of a kind on disk; none where there is no disk. What cannot be read is not there.
    pub(super) fn stored(&self, kind: u8, id: u32, from: u64, to: u64) -> Vec<Vec<u8>> {
        let Some(writer) = &self.writer else {
            return Vec::new();
        };
        let length = if kind == TENS { TENS_BLOCK } else { FIVES_BLOCK };
        let found = writer.blocks().range(kind, id, from / length * length..to);
        found
            .unwrap_or_default()
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect()
    }

    /// Waits until all that was sent is written.
    #[cfg(test)]
    pub(crate) fn flush(&self) {
        if let Some(writer) = &self.writer {
            writer.flush();
        }
    }
}

impl Live {
    /// No new series gets this number.
    fn keep_off(&mut self, id: Option<u32>) {
        let above = id.map_or(0, |id| id.saturating_add(1));
        self.next_id = self.next_id.max(above);
    }

    /// The open blocks of all series.
    fn take_blocks(&mut self) -> (Vec<write::Block>, Vec<(u32, Named)>) {
        let (mut blocks, mut names) = (Vec::new(), Vec::new());
        for (id, series) in &mut self.series {
            let Some(last) = series.tens.last_slot() else {
                continue;
            };
            let seen = last * 10;
            series.ended = std::mem::take(&mut series.tens).bytes().into();
            blocks.push(write::Block {
                id: *id,
                of: series.name.of(),
                tens: series.ended.clone(),
            });
            let name = series.name.clone();
            names.push((*id, Named { name, seen }));
        }
        (blocks, names)
    }

    /// Takes one entry of the journal, as if its rows came now. A block whose end lies in it is written again; what
    /// is on disk of it is the same.
    fn replay(&mut self, at: u64, bytes: &[u8], writer: &WriterThread) {
        let Some((1, mut rest)) = bytes.split_first() else {
            return;
        };
        if self.now > 0 && at / TENS_BLOCK != self.now / TENS_BLOCK {
            let (blocks, names) = self.take_blocks();
            writer.send(Job::Blocks(blocks));
            writer.send(Job::Names(names));
        }
        let names: BTreeMap<u32, SeriesName> =
            self.ids.iter().map(|(name, id)| (*id, name.clone())).collect();
        while let Some((id, seconds, tens)) = entry(&mut rest) {
            self.keep_off(Some(id));
            let Some(name) = names.get(&id) else { continue };
            let series = self.series.entry(id).or_insert_with(|| Series::new(name.clone()));
            for row in Reader::new(seconds) {
                series.push_second(&row);
            }
            for row in Reader::new(tens) {
                series.tens.push(&row);
            }
        }
        self.now = self.now.max(at);
    }
}

/// One series of a journal's entry: its number, seconds, tens.
fn entry<'a>(rest: &mut &'a [u8]) -> Option<(u32, &'a [u8], &'a [u8])> {
    let id = u32::try_from(take(rest)?).ok()?;
    let mut part = || {
        let length = usize::try_from(take(rest)?).ok()?;
        let (part, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(part)
    };
    Some((id, part()?, part()?))
}
