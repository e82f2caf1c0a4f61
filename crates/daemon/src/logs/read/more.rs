//! What is there behind a place, and no more: for readers that come again and again.

use std::{cmp::Reverse, collections::BinaryHeap, fs, io, os::unix::fs::MetadataExt};

use upkeep_api::body::LogLine;

use super::{
    LogToRead, Wanted,
    forward::{Forward, Start},
    line::Item,
    marks::{self, Mark, Marks},
    segment::{OpenLog, Place, Segment},
};
use crate::logs::names::Rotated;

/// Gives out all whole lines behind `marks`, merged by time, and moves `marks` behind each that `take` accepts; the
/// first that it does not accept ends it. A log that `marks` does not name begins at their time; every log that gave
/// out a line is named. Whether all was given out. A rotated file that cannot be read comes as a notice and is passed
/// over. A log that cannot be opened does not keep the others from being read.
pub(crate) fn more(
    sources: &[LogToRead],
    marks: &mut Marks,
    take: &mut dyn FnMut(&LogLine) -> bool,
) -> io::Result<bool> {
    let wanted = Wanted::default();
    let (mut open, mut failed) = (Vec::with_capacity(sources.len()), None);
    for source in sources {
        match OpenLog::open(source.clone(), true) {
            Ok(log) => open.extend(log),
            Err(error) => failed = Some(error),
        }
    }
    let mut readers = Vec::with_capacity(open.len());
    for log in &open {
        let start = match marks.named.get(&marks::key(&log.source)) {
            // Of a log that was begun anew since: by the time.
            Some(mark) if mark.place.number <= log.current.number => Start::At(mark.place),
            _ => Start::Since(marks.base),
        };
        readers.push(Forward::new(log, start)?);
    }
    let mut heap: BinaryHeap<Reverse<(u64, usize, Item)>> = BinaryHeap::new();
    for (at, reader) in readers.iter_mut().enumerate() {
        if let Some(item) = reader.next(&wanted)? {
            heap.push(Reverse((item.at, at, item)));
        }
    }
    while let Some(Reverse((_, at, item))) = heap.pop() {
        if !take(&item.line) {
            return Ok(false);
        }
        marks.moved(&open[at].source, &item);
        if let Some(item) = readers[at].next(&wanted)? {
            heap.push(Reverse((item.at, at, item)));
        }
    }
    failed.map_or(Ok(true), Err)
}

/// A place in a log: in the file that has this inode, current or rotated since, at an offset. A file that is not there
/// any more, or never was: the start of the current one. `None`: there is no log.
pub(crate) fn marks_at(source: &LogToRead, inode: u64, offset: u64) -> io::Result<Option<Marks>> {
    let Some((current, rotated)) = Segment::open_current(&source.path)? else {
        return Ok(None);
    };
    let of_inode = |file: &&Rotated| fs::metadata(&file.path).is_ok_and(|metadata| metadata.ino() == inode);
    let place = if current.inode == inode {
        Place {
            number: current.number,
            offset,
        }
    } else if let Some(file) = rotated.iter().rev().find(of_inode) {
        Place {
            number: file.number,
            offset,
        }
    } else {
        Place {
            number: current.number,
            offset: 0,
        }
    };
    let mut marks = Marks::default();
    let mark = Mark { place, inside: false };
    marks.named.insert(marks::key(source), mark);
    Ok(Some(marks))
}

/// Number of the file that a reader with these marks reads next of a log, if they name it.
pub(crate) fn file_of(source: &LogToRead, marks: &Marks) -> Option<u64> {
    marks.named.get(&marks::key(source)).map(|mark| mark.place.number)
}
