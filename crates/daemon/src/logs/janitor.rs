//! Who keeps logs within their limits, and who compresses them: two threads, so that the pump does neither.
//!
//! The pump renames a full file and says so ([`Janitor::look_at`]). The thread `log-janitor` then deletes what is too
//! much: by number, by age, by the total of an app, and, for all logs of a machine, by the floor of free disk space.
//! It counts each file's lines before it goes. It also looks every [`STEP`] at what only the clock brings about, and
//! at how loud each log is ([`super::rate`]).
//!
//! The thread `log-packer` compresses rotated files, all but the newest of each log: whoever ships or reads logs by
//! themselves has until the next rotation to finish with that one. It runs at the lowest priority, so it may lag;
//! deletion must not, hence two threads. The newest of those that wait goes first: the oldest is deleted soonest.
//!
//! # Kills
//!
//! A compressed file is made under another name, is synced, and gets its name in one step; then the plain one goes.
//! So there are four situations that a kill can leave: the plain file alone; with an unfinished one, which is thrown
//! away; both, and then the compressed one holds, everywhere; the compressed one alone. A file with a number that is
//! counted as dropped already is deleted without being counted again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, FileTimes, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use upkeep_sys::clock;

use upkeep_model::settings::LogSettings;

use super::{
    beside,
    ledger::{Ledger, Ledgers, lock},
    names::{Rotated, index_path, logs_in, packed_path, rotated, unfinished_path},
    packed::{self, Packed},
};

/// How often the clock alone is reason to look.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// So many bytes of a file are read to count its lines; those of the rest are estimated. A file with holes may be
/// longer than its disk.
const COUNT_MAX: u64 = 4 << 30;

#[derive(Debug, Default)]
struct Queue {
    /// Logs that were rotated or are new.
    rotated: BTreeMap<PathBuf, Arc<Ledger>>,
    /// Logs that have something to compress.
    packable: BTreeMap<PathBuf, Arc<Ledger>>,
    /// How many logs are being worked at.
    busy: u32,
}

#[derive(Debug)]
struct Shared {
    ledgers: Arc<Ledgers>,
    queue: Mutex<Queue>,
    /// Something for the janitor; for the packer; for whoever waits until there is nothing.
    sweep: Condvar,
    pack: Condvar,
    quiet: Condvar,
    /// What the machine's settings say of logs.
    settings: Mutex<LogSettings>,
    /// Where logs lie that nobody writes any more.
    home: Mutex<Option<PathBuf>>,
    stop: AtomicBool,
}

/// Handle of both threads.
#[derive(Debug)]
pub(crate) struct Janitor {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// For whoever only says that something is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Arc<Shared>);

impl Bell {
    /// A log was rotated, is new, or has new limits. Never waits.
    pub(crate) fn look_at(&self, ledger: &Arc<Ledger>) {
        lock(&self.0.queue)
            .rotated
            .insert(ledger.path().to_owned(), Arc::clone(ledger));
        self.0.sweep.notify_one();
    }

    /// Follows these settings from now on: the machine's floor of free disk space.
    pub(crate) fn follow_settings(&self, settings: LogSettings) {
        *lock(&self.0.settings) = settings;
        self.0.sweep.notify_one();
    }

    /// Where logs lie that nobody writes any more: the floor holds for them too.
    pub(crate) fn set_home(&self, logs: PathBuf) {
        *lock(&self.0.home) = Some(logs);
    }
}

impl Janitor {
    /// Starts both threads.
    pub(crate) fn start(ledgers: Arc<Ledgers>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            ledgers,
            queue: Mutex::default(),
            sweep: Condvar::new(),
            pack: Condvar::new(),
            quiet: Condvar::new(),
            settings: Mutex::default(),
            home: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let mut janitor = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        let begin = |name: &str, work: fn(&Shared)| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(name.to_owned())
                .stack_size(256 << 10)
                .spawn(move || work(&shared))
        };
        janitor.threads.push(begin("log-janitor", Shared::sweep)?);
        janitor.threads.push(begin("log-packer", Shared::pack)?);
        Ok(janitor)
    }

    pub(crate) fn bell(&self) -> Bell {
        Bell(Arc::clone(&self.shared))
    }

    /// Waits until nothing is left to do.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let mut queue = lock(&self.shared.queue);
        while !queue.rotated.is_empty() || !queue.packable.is_empty() || queue.busy > 0 {
            let (next, waited) = self
                .shared
                .quiet
                .wait_timeout(queue, Duration::from_secs(20))
                .expect("no panic");
            assert!(!waited.timed_out(), "the janitor does not come to rest");
            queue = next;
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Taken once, so that nobody is between looking at `stop` and waiting.
        drop(lock(&self.shared.queue));
        self.shared.sweep.notify_all();
        self.shared.pack.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there has aborted the process already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn sweep(&self) {
        let mut next_round = clock::monotonic_ms();
        let mut complained = BTreeSet::new();
        loop {
            let mut queue = lock(&self.queue);
            while queue.rotated.is_empty() && !self.stopped() {
                let left = next_round.saturating_sub(clock::monotonic_ms());
                if left == 0 {
                    break;
                }
                let waited = self.sweep.wait_timeout(queue, Duration::from_millis(left));
                queue = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
            if self.stopped() {
                return;
            }
            let work = std::mem::take(&mut queue.rotated);
            queue.busy += 1;
            drop(queue);
            let round = clock::monotonic_ms() >= next_round;
            if round {
                next_round = clock::monotonic_ms() + u64::try_from(STEP.as_millis()).unwrap_or(5000);
                self.round();
            }
            for ledger in work.values() {
                Self::told("tidy", ledger.path(), self.tidy(ledger), &mut complained);
            }
            if (round || !work.is_empty())
                && let Err(error) = self.hold_floor()
            {
                crate::main_loop::note(&format!("the floor of free disk space is not held: {error}"));
            }
            lock(&self.queue).busy -= 1;
            self.quiet.notify_all();
        }
    }

    /// Says what failed, once for each log until it succeeds.
    fn told(what: &str, path: &Path, outcome: io::Result<()>, complained: &mut BTreeSet<PathBuf>) {
        match outcome {
            Ok(()) => {
                complained.remove(path);
            }
            Err(error) => {
                if complained.insert(path.to_owned()) {
                    let path = path.display();
                    crate::main_loop::note(&format!("failed to {what} the log `{path}`: {error}"));
                }
            }
        }
    }

    /// What only the clock brings about.
    fn round(&self) {
        let now = clock::monotonic_ms();
        for ledger in self.ledgers.all() {
            lock(&ledger.rate).look(ledger.path(), ledger.written(), now);
            if ledger.policy().max_age_ms.is_some() {
                // What fails is said when the log is rotated.
                let _ = self.tidy(&ledger);
            }
        }
    }

    /// Deletes what a log's own limits forbid, and what a kill has left; has the rest compressed.
    fn tidy(&self, ledger: &Arc<Ledger>) -> io::Result<()> {
        let policy = ledger.policy();
        let files = rotated(ledger.path())?;
        let counted = ledger.accounting().dropped_through;
        let mut left = Vec::new();
        for file in files {
            if file.number <= counted {
                delete(ledger, &file)?;
            } else {
                if file.packed && file.plain {
                    let _guard = lock(&ledger.files);
                    remove(&file.path)?;
                }
                left.push(file);
            }
        }
        let surplus = left.len().saturating_sub(policy.keep as usize);
        for file in left.drain(..surplus) {
            delete(ledger, &file)?;
        }
        if let Some(most) = policy.max_age_ms {
            let oldest = clock::unix_ms().saturating_sub(most);
            let old = left
                .iter()
                .take_while(|file| changed(&file.held()) < oldest)
                .count();
            for file in left.drain(..old) {
                delete(ledger, &file)?;
            }
        }
        if let Some(most) = policy.max_total {
            self.hold_total(&policy.group, most)?;
        }
        if policy.compress && next_to_pack(&left).is_some() {
            lock(&self.queue)
                .packable
                .insert(ledger.path().to_owned(), Arc::clone(ledger));
            self.pack.notify_one();
        }
        Ok(())
    }

    /// The total of an app.
    fn hold_total(&self, group: &str, most: u64) -> io::Result<()> {
        let ledgers: Vec<Arc<Ledger>> = self.ledgers.all();
        let ledgers = ledgers
            .into_iter()
            .filter(|ledger| ledger.policy().group == group);
        let mut total = 0;
        let mut files = Vec::new();
        for ledger in ledgers {
            total += size(ledger.path());
            for file in rotated(ledger.path())? {
                let held = file.held();
                total += size(&held);
                files.push((changed(&held), file, Arc::clone(&ledger)));
            }
        }
        files.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        for (_, file, ledger) in files {
            if total <= most {
                break;
            }
            total -= size(&file.held()).min(total);
            delete(&ledger, &file)?;
        }
        Ok(())
    }

    /// The floor of the machine: for each file system that holds logs.
    fn hold_floor(&self) -> io::Result<()> {
        let settings = lock(&self.settings).clone();
        let mut logs: BTreeMap<PathBuf, Option<Arc<Ledger>>> = self
            .ledgers
            .all()
            .into_iter()
            .map(|ledger| (ledger.path().to_owned(), Some(ledger)))
            .collect();
        let home = lock(&self.home).clone();
        let mut places: BTreeMap<u64, PathBuf> = BTreeMap::new();
        let directories: BTreeSet<&Path> = logs
            .keys()
            .filter_map(|log| log.parent())
            .chain(home.as_deref())
            .collect();
        for directory in directories {
            if let Ok(metadata) = fs::metadata(directory) {
                places
                    .entry(metadata.dev())
                    .or_insert_with(|| directory.to_owned());
            }
        }
        places.retain(|_, directory| below(directory, &settings));
        if places.is_empty() {
            return Ok(());
        }
        if let Some(home) = home {
            for log in logs_in(&home)? {
                logs.entry(log).or_insert(None);
            }
        }
        let mut files = Vec::new();
        for (log, ledger) in logs {
            let ledger = ledger.unwrap_or_else(|| Arc::new(Ledger::load(&log)));
            for file in rotated(&log)? {
                if let Ok(metadata) = fs::metadata(file.held())
                    && places.contains_key(&metadata.dev())
                {
                    files.push((changed(&file.held()), metadata.dev(), file, Arc::clone(&ledger)));
                }
            }
        }
        files.sort_by(|one, other| (one.0, &one.2).cmp(&(other.0, &other.2)));
        for (_, device, file, ledger) in files {
            let Some(directory) = places.get(&device) else {
                continue;
            };
            if !below(directory, &settings) {
                places.remove(&device);
                continue;
            }
            let name = file.path.display();
            crate::main_loop::note(&format!("the disk is nearly full: deleted the old log `{name}`"));
            delete(&ledger, &file)?;
        }
        Ok(())
    }

    fn pack(&self) {
        // Refused nowhere; and if it were, it would only be less polite.
        let _ = rustix::process::setpriority_process(None, 19);
        let mut complained = BTreeSet::new();
        loop {
            let mut queue = lock(&self.queue);
            while queue.packable.is_empty() && !self.stopped() {
                let waited = self.pack.wait(queue);
                queue = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            if self.stopped() {
                return;
            }
            let Some((path, ledger)) = queue.packable.pop_first() else {
                continue;
            };
            queue.busy += 1;
            drop(queue);
            let outcome = self.pack_one(&ledger);
            let mut queue = lock(&self.queue);
            if matches!(outcome, Ok(true)) {
                // There may be more; the others have their turn first.
                queue.packable.insert(path.clone(), ledger);
            }
            queue.busy -= 1;
            drop(queue);
            Self::told("compress", &path, outcome.map(|_| ()), &mut complained);
            self.quiet.notify_all();
        }
    }

    /// Compresses one file of a log, if there is one to compress.
    fn pack_one(&self, ledger: &Ledger) -> io::Result<bool> {
        let files = rotated(ledger.path())?;
        let Some(file) = next_to_pack(&files).filter(|_| ledger.policy().compress) else {
            return Ok(false);
        };
        // What somebody has put in its place is not followed.
        let from = beside::read_itself(&file.path)?;
        let metadata = from.metadata()?;
        let unfinished = unfinished_path(&file.path);
        remove(&unfinished)?;
        let mut to = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(metadata.permissions().mode() & 0o777)
            .open(&unfinished)?;
        let made = self.make(&from, &metadata, &mut to);
        if !matches!(made, Ok(true)) {
            // It is thrown away by the next try as well.
            let _ = fs::remove_file(&unfinished);
            return made;
        }
        let _guard = lock(&ledger.files);
        // Deleted meanwhile, or another: then it is not to come back.
        if fs::symlink_metadata(&file.path).is_ok_and(|now| now.ino() == metadata.ino()) {
            fs::rename(&unfinished, packed_path(&file.path))?;
            remove(&file.path)?;
        } else {
            remove(&unfinished)?;
        }
        Ok(true)
    }

    fn make(&self, from: &File, metadata: &fs::Metadata, to: &mut File) -> io::Result<bool> {
        if packed::pack(from, to, &|| !self.stopped())?.is_none() {
            return Ok(false);
        }
        // Who else may read it, and when its last line came.
        let _ = std::os::unix::fs::fchown(&*to, Some(metadata.uid()), Some(metadata.gid()));
        to.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
        // After a loss of power its name must not be there without its bytes: the plain file is gone by then.
        to.sync_data()?;
        Ok(true)
    }
}

/// The newest plain file but the newest of all.
fn next_to_pack(files: &[Rotated]) -> Option<&Rotated> {
    let (_, older) = files.split_last()?;
    older.iter().rev().find(|file| file.plain && !file.packed)
}

/// Whether the file system has less free space than is wanted.
fn below(directory: &Path, settings: &LogSettings) -> bool {
    let Ok(stat) = rustix::fs::statvfs(directory) else {
        return false;
    };
    let total = stat.f_blocks.saturating_mul(stat.f_frsize);
    stat.f_bavail.saturating_mul(stat.f_frsize) < settings.floor(total)
}

/// Counts a rotated file and deletes it.
fn delete(ledger: &Ledger, file: &Rotated) -> io::Result<()> {
    let _guard = lock(&ledger.files);
    let mut unsaved = false;
    if file.number > ledger.accounting().dropped_through {
        match count(file) {
            // A full disk may refuse the count: that must not keep the file, which is what fills it.
            Ok((lines, bytes)) => unsaved = ledger.drop_file(file.number, lines, bytes).is_err(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Damaged: what cannot be counted is not kept for ever.
            Err(_) => unsaved = ledger.drop_file(file.number, 0, size(&file.held())).is_err(),
        }
    }
    remove(&packed_path(&file.path))?;
    remove(&file.path)?;
    remove(&unfinished_path(&file.path))?;
    remove(&index_path(&file.path))?;
    if unsaved {
        ledger.save()?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// When a file was written to last, in Unix ms.
fn changed(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| {
        let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
        seconds * 1000 + u64::try_from(metadata.mtime_nsec()).unwrap_or(0) / 1_000_000
    })
}

/// Lines and bytes of a rotated file. It may change its form meanwhile; the caller holds the lock that forbids it.
fn count(file: &Rotated) -> io::Result<(u64, u64)> {
    use std::io::Read;
    match beside::read(&packed_path(&file.path)) {
        Ok(packed) => {
            let packed = Packed::open(packed)?;
            return Ok((packed.lines(), packed.length()));
        }
        Err(error) if !beside::is_none_of_ours(&error) => return Err(error),
        Err(_) => {}
    }
    let mut file = beside::read(&file.path)?;
    let whole = file.metadata()?.len();
    let mut buffer = vec![0_u8; 128 << 10];
    let (mut lines, mut bytes) = (0, 0);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok((lines, bytes));
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..length]).count() as u64;
        bytes += length as u64;
        if bytes >= COUNT_MAX && whole > bytes {
            let estimated = u128::from(lines) * u128::from(whole) / u128::from(bytes);
            return Ok((u64::try_from(estimated).unwrap_or(u64::MAX), whole));
        }
    }
}

#[cfg(test)]
mod tests;
