//! The thread that writes the history, so that a slow disk holds up nobody.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use upkeep_api::metrics::Of;
use upkeep_model::id::AppName;
use upkeep_store::{
    StoreError,
    blocks::{Batch, Blocks},
};

use super::{
    columns::scales,
    history::{
        FIVES, FIVES_BLOCK, FIVES_KEPT, FORGET, JOURNAL, NAMES, Named, SECONDS_KEPT, TENS, TENS_BLOCK,
        TENS_KEPT,
    },
    rows::{Reader, Row, Sum, Writer, merge},
};
use crate::main_loop::note;

/// How much may wait for a disk: ten minutes of journal.
const QUEUE: usize = 64;
/// Bytes of blocks that are kept for a disk that takes none.
const UNWRITTEN: usize = 4 << 20;
/// How long the end of the daemon waits for a disk.
const PATIENCE: Duration = Duration::from_secs(3);
/// Series in one transaction, so that memory stays small.
const GROUP: usize = 32;

/// A quarter of an hour of one series.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) id: u32,
    pub(super) of: Of,
    pub(super) tens: Box<[u8]>,
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum Job {
    Journal {
        at: u64,
        bytes: Vec<u8>,
    },
    Blocks(Vec<Block>),
    Names(Vec<(u32, Named)>),
    /// Throws away what is too old.
    Retain {
        now: u64,
        known: BTreeSet<AppName>,
    },
    /// The clock went back.
    TurnBack {
        now: u64,
    },
    /// All before is written when this is answered.
    Flush(SyncSender<()>),
}

/// The thread. It ends when this is dropped, after what was sent.
#[derive(Debug)]
pub(super) struct WriterThread {
    blocks: Arc<Blocks>,
    queue: Option<SyncSender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// It was said that blocks were lost.
    said: AtomicBool,
}

impl WriterThread {
    pub(super) fn start(blocks: Blocks) -> std::io::Result<Self> {
        let blocks = Arc::new(blocks);
        let (queue, jobs) = sync_channel(QUEUE);
        let for_thread = Arc::clone(&blocks);
        let thread = std::thread::Builder::new()
            .name("metrics-writer".to_owned())
            .stack_size(256 << 10)
            .spawn(move || run(&for_thread, &jobs))?;
        Ok(Self {
            blocks,
            queue: Some(queue),
            thread: Some(thread),
            said: AtomicBool::new(false),
        })
    }

    pub(super) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Never waits: if the disk has been stuck for minutes, the job is lost.
    pub(super) fn send(&self, job: Job) {
        if let Some(queue) = &self.queue
            && let Err(TrySendError::Full(Job::Blocks(_))) = queue.try_send(job)
            && !self.said.swap(true, Ordering::Relaxed)
        {
            note("figures of a quarter of an hour are not kept: the disk has not answered for minutes");
        }
    }

    /// Gives names to be written; returned are those for which there is no room now.
    pub(super) fn try_names(&self, names: Vec<(u32, Named)>) -> Vec<(u32, Named)> {
        let sent = self.queue.as_ref().map(|queue| queue.try_send(Job::Names(names)));
        match sent {
            Some(Err(TrySendError::Full(Job::Names(names)))) => names,
            _ => Vec::new(),
        }
    }

    /// Waits until all that was sent is written, or [`PATIENCE`] is over.
    pub(super) fn end(&self) {
        let (answer, answered) = sync_channel(1);
        if let Some(queue) = &self.queue
            && queue.try_send(Job::Flush(answer)).is_ok()
        {
            // A disk that is stuck does not keep the daemon from its end: the journal has what is lost here.
            let _ = answered.recv_timeout(PATIENCE);
        }
    }

    #[cfg(test)]
    pub(super) fn flush(&self) {
        let (answer, answered) = sync_channel(1);
        if let Some(queue) = &self.queue
            && queue.send(Job::Flush(answer)).is_ok()
        {
            // The thread answers or is gone.
            let _ = answered.recv();
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take() {
            // A panic aborts the process; there is nothing to learn from the join.
            let _ = thread.join();
        }
    }
}

/// Blocks and names that the disk did not take.
#[derive(Debug, Default)]
struct Unwritten {
    /// By series, of which there are not many.
    names: BTreeMap<u32, Named>,
    blocks: VecDeque<Block>,
    bytes: usize,
    /// It was said that the disk takes nothing.
    said: bool,
}

fn run(blocks: &Blocks, jobs: &Receiver<Job>) {
    let mut unwritten = Unwritten::default();
    let mut next = None;
    while let Some(job) = next.take().or_else(|| jobs.recv().ok()) {
        let outcome = match job {
            Job::Flush(answer) => {
                // Who asked may have left.
                let _ = answer.send(());
                continue;
            }
            Job::Journal { at, bytes } => {
                let deletes = vec![(JOURNAL, 0, 0..at.saturating_sub(SECONDS_KEPT + 2 * TENS_BLOCK))];
                let mut puts = vec![((JOURNAL, 0, at), bytes)];
                // After a pause of the disk: all that waits in one transaction.
                while let Ok(job) = jobs.try_recv() {
                    match job {
                        Job::Journal { at, bytes } => puts.push(((JOURNAL, 0, at), bytes)),
                        other => {
                            next = Some(other);
                            break;
                        }
                    }
                }
                blocks.write(&Batch { deletes, puts })
            }
            Job::Names(names) => {
                unwritten.names.extend(names);
                Ok(())
            }
            Job::Retain { now, known } => retain(blocks, now, &known),
            Job::TurnBack { now } => blocks.write(&Batch {
                deletes: vec![(JOURNAL, 0, now..u64::MAX)],
                puts: Vec::new(),
            }),
            Job::Blocks(new) => {
                unwritten.bytes += new.iter().map(|block| block.tens.len()).sum::<usize>();
                unwritten.blocks.extend(new);
                Ok(())
            }
        };
        let outcome = outcome.and_then(|()| unwritten.write(blocks));
        unwritten.tell(outcome);
    }
}

impl Unwritten {
    fn write(&mut self, blocks: &Blocks) -> Result<(), StoreError> {
        write_names(blocks, &self.names)?;
        self.names.clear();
        while !self.blocks.is_empty() {
            let count = self.blocks.len().min(GROUP);
            let mut batch = Batch::default();
            for block in self.blocks.iter().take(count) {
                puts(blocks, block, &mut batch)?;
            }
            blocks.write(&batch)?;
            let written: usize = self.blocks.drain(..count).map(|block| block.tens.len()).sum();
            self.bytes -= written;
        }
        Ok(())
    }

    fn tell(&mut self, outcome: Result<(), StoreError>) {
        while self.bytes > UNWRITTEN
            && let Some(lost) = self.blocks.pop_front()
        {
            self.bytes -= lost.tens.len();
        }
        match outcome {
            Err(error) if !self.said => {
                note(&format!(
                    "the history of figures cannot be written, sampling goes on: {error}"
                ));
                self.said = true;
            }
            Ok(()) if self.said => {
                note("the history of figures is written again");
                self.said = false;
            }
            _ => {}
        }
    }
}

fn write_names(blocks: &Blocks, names: &BTreeMap<u32, Named>) -> Result<(), StoreError> {
    if names.is_empty() {
        return Ok(());
    }
    let puts = names
        .iter()
        .filter_map(|(id, named)| Some(((NAMES, *id, 0), serde_json::to_vec(named).ok()?)))
        .collect();
    blocks.write(&Batch {
        deletes: Vec::new(),
        puts,
    })
}

/// The blocks of tens and fives that a quarter of an hour changes. Its rows may lie in two blocks after a jump.
fn puts(blocks: &Blocks, block: &Block, batch: &mut Batch) -> Result<(), StoreError> {
    let scales = scales(block.of);
    let rows: Vec<Row> = Reader::new(&block.tens).collect();
    for rows in rows.chunk_by(|one, next| one.slot * 10 / TENS_BLOCK == next.slot * 10 / TENS_BLOCK) {
        let Some(first) = rows.first() else { continue };
        let at = first.slot * 10 / TENS_BLOCK * TENS_BLOCK;
        let new = Writer::of(rows.iter().copied());
        let merged = with_stored(blocks, (TENS, block.id, at), &new, batch)?;
        batch.puts.push(((TENS, block.id, at), merged.bytes().to_vec()));
        // Of all that is known of these 15 minutes: a daemon may have begun in their midst.
        let all: Vec<Row> = Reader::new(merged.bytes()).collect();
        let fives = Writer::of(
            all.chunk_by(|one, next| one.slot / 30 == next.slot / 30)
                .map(|rows| {
                    let mut sum = Sum::default();
                    for row in rows {
                        sum.add(row, &scales);
                    }
                    sum.row(rows.first().map_or(0, |row| row.slot / 30), &scales)
                }),
        );
        let at = at / FIVES_BLOCK * FIVES_BLOCK;
        let merged = with_stored(blocks, (FIVES, block.id, at), &fives, batch)?;
        batch.puts.retain(|(key, _)| *key != (FIVES, block.id, at));
        batch.puts.push(((FIVES, block.id, at), merged.bytes().to_vec()));
    }
    Ok(())
}

/// New rows over those that are stored, or about to be.
fn with_stored(
    blocks: &Blocks,
    key: (u8, u32, u64),
    new: &Writer,
    batch: &Batch,
) -> Result<Writer, StoreError> {
    if let Some((_, bytes)) = batch.puts.iter().find(|(known, _)| *known == key) {
        return Ok(merge(bytes, new.bytes()));
    }
    let (kind, id, at) = key;
    let stored = blocks.range(kind, id, at..at + 1)?;
    let stored = stored.first().map_or(&[][..], |(_, bytes)| bytes);
    Ok(merge(stored, new.bytes()))
}

/// Throws away what is older than its ring, and all of apps that are gone for a week.
fn retain(blocks: &Blocks, now: u64, known: &BTreeSet<AppName>) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for ((_, id, _), bytes) in blocks.kind(NAMES)? {
        let named = serde_json::from_slice::<Named>(&bytes).ok();
        let exists = named.as_ref().is_some_and(|named| {
            let app = named.name.app.as_ref();
            app.is_none_or(|app| known.contains(app))
        });
        if !exists && named.map_or(0, |named| named.seen) + FORGET < now {
            for kind in [NAMES, TENS, FIVES] {
                batch.deletes.push((kind, id, 0..u64::MAX));
            }
            continue;
        }
        let before = |kept: u64, block: u64| 0..now.saturating_sub(kept + block);
        batch.deletes.push((TENS, id, before(TENS_KEPT, TENS_BLOCK)));
        batch.deletes.push((FIVES, id, before(FIVES_KEPT, FIVES_BLOCK)));
    }
    if batch.deletes.is_empty() {
        return Ok(());
    }
    blocks.write(&batch)
}
