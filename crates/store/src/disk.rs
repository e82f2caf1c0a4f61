//! For tests: a disk in memory that remembers what has been synced, loses power at a chosen moment, gets full, and fails.

use std::{
    io::{Error, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The disk. Its copies are one disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    current: Vec<u8>,
    /// As of the last sync.
    durable: Vec<u8>,
    since: Vec<Step>,
    /// Everything that was ever asked of it.
    steps: u64,
    /// When the power is cut, and what is called then.
    cut: Option<(u64, Box<dyn FnOnce() + Send>)>,
    image: Option<Image>,
    /// How many bytes it has.
    room: Option<u64>,
    /// How many syncs still succeed.
    good_syncs: Option<u64>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("bytes", &self.current.len())
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// What a power cut leaves: what was synced, and what may or may not have been written since.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    durable: Vec<u8>,
    since: Vec<Step>,
}

impl Image {
    /// One of the disks that there may be after it: `roll(n)` is a number below n.
    pub(crate) fn torn(&self, mut roll: impl FnMut(u64) -> u64) -> Disk {
        let mut bytes = self.durable.clone();
        // Everything, nothing, a beginning, or any of it.
        let (whole, upto) = match roll(4) {
            0 => (true, self.since.len()),
            1 => (true, 0),
            2 => (
                true,
                usize::try_from(roll(self.since.len() as u64 + 1)).expect("small"),
            ),
            _ => (false, self.since.len()),
        };
        for step in &self.since[..upto] {
            match step {
                Step::Length(length) => {
                    if whole || roll(2) == 0 {
                        bytes.resize(*length, 0);
                    }
                }
                Step::Write(offset, data) => {
                    for (number, sector) in data.chunks(SECTOR).enumerate() {
                        let from = offset + number * SECTOR;
                        let fate = if whole { 0 } else { roll(10) };
                        if fate >= 7 {
                            continue;
                        }
                        if bytes.len() < from + sector.len() {
                            bytes.resize(from + sector.len(), 0);
                        }
                        let place = &mut bytes[from..from + sector.len()];
                        match fate {
                            // Which of its halves is the newer stands in the first sector; no store outlives its loss.
                            0..=4 => place.copy_from_slice(sector),
                            5 if from >= SECTOR => place.fill(0),
                            6 if from >= SECTOR => {
                                place.fill_with(|| u8::try_from(roll(256)).expect("a byte"));
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
        Disk(Arc::new(Mutex::new(State {
            current: bytes.clone(),
            durable: bytes,
            ..State::default()
        })))
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power so many steps from now: the image is taken, and `then` is called at that very moment. The disk
    /// goes on as if nothing had happened.
    pub(crate) fn cut_in(&self, steps: u64, then: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.cut = Some((state.steps + steps, Box::new(then)));
    }

    /// What the power cut left.
    pub(crate) fn image(&self) -> Option<Image> {
        self.lock().image.take()
    }

    /// It has so much room from now on.
    pub(crate) fn room(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// So many syncs still succeed, then all fail; `None`: all succeed.
    pub(crate) fn good_syncs(&self, syncs: Option<u64>) {
        self.lock().good_syncs = syncs;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.lock().current.len() as u64
    }
}

impl State {
    fn step(&mut self) {
        self.steps += 1;
        if self.cut.as_ref().is_some_and(|(at, _)| self.steps >= *at)
            && let Some((_, then)) = self.cut.take()
        {
            self.image = Some(Image {
                durable: self.durable.clone(),
                since: self.since.clone(),
            });
            then();
        }
    }

    fn grow(&self, to: usize) -> Result<(), Error> {
        if to > self.current.len() && self.room.is_some_and(|room| to as u64 > room) {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        Ok(())
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("it is in memory")
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.lock().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let state = self.lock();
        let from = place(offset);
        let found = state
            .current
            .get(from..from + out.len())
            .ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        let mut state = self.lock();
        state.step();
        state.grow(place(len))?;
        state.current.resize(place(len), 0);
        state.since.push(Step::Length(place(len)));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut state = self.lock();
        state.step();
        if let Some(left) = &mut state.good_syncs {
            if *left == 0 {
                return Err(Error::other("the disk does not sync"));
            }
            *left -= 1;
        }
        for step in std::mem::take(&mut state.since) {
            match step {
                Step::Length(length) => state.durable.resize(length, 0),
                Step::Write(offset, data) => {
                    state.durable[offset..offset + data.len()].copy_from_slice(&data);
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut state = self.lock();
        state.step();
        let from = place(offset);
        state.grow(from + data.len())?;
        state.current[from..from + data.len()].copy_from_slice(data);
        state.since.push(Step::Write(from, data.to_vec()));
        Ok(())
    }
}
