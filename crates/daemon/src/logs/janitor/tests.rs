use std::time::SystemTime;

use upkeep_model::{settings::FreeSpace, size::ByteSize};

use super::*;
use crate::logs::{
    files::{Limits, LogFile},
    ledger::Policy,
};

struct Yard {
    dir: tempfile::TempDir,
    ledgers: Arc<Ledgers>,
    janitor: Janitor,
}

fn floor(bytes: u64) -> LogSettings {
    LogSettings {
        free_space: Some(FreeSpace::Bytes(ByteSize::from_bytes(bytes))),
    }
}

impl Yard {
    fn new() -> Self {
        let ledgers = Arc::new(Ledgers::default());
        let janitor = Janitor::start(Arc::clone(&ledgers)).expect("a janitor");
        // The disk of whoever runs this may be as full as it likes.
        janitor.bell().follow_settings(floor(0));
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            ledgers,
            janitor,
        }
    }

    /// A log with so many rotated files of ten lines each.
    fn log(&self, name: &str, files: u32) -> Arc<Ledger> {
        let path = self.dir.path().join(name);
        let limits = Limits {
            max_size: 1 << 20,
            every: None,
        };
        let ledger = self.ledgers.of(&path);
        let mut log = LogFile::open(&path, limits, false, Arc::clone(&ledger)).expect("a log");
        for _ in 0..files {
            log.stamp(1000);
            io::Write::write_all(&mut log.file(), "a line of text\n".repeat(10).as_bytes()).expect("a write");
            log.grew(150);
            log.rotate().expect("a rotation");
        }
        ledger
    }

    fn tidy(&self, ledger: &Arc<Ledger>, policy: Policy) -> Vec<u64> {
        ledger.set_policy(policy);
        self.janitor.bell().look_at(ledger);
        self.janitor.settle();
        numbers(ledger)
    }
}

fn numbers(ledger: &Ledger) -> Vec<u64> {
    let files = rotated(ledger.path()).expect("files");
    files.iter().map(|file| file.number).collect()
}

fn keep(keep: u32) -> Policy {
    Policy {
        keep,
        ..Policy::default()
    }
}

fn dropped(ledger: &Ledger) -> (u64, u64) {
    let accounting = ledger.accounting();
    (accounting.dropped_lines, accounting.dropped_bytes)
}

#[test]
fn as_many_stay_as_may_and_the_others_are_counted_in_any_form() {
    for compress in [false, true] {
        let yard = Yard::new();
        let ledger = yard.log("a.log", 5);
        let policy = Policy { compress, ..keep(10) };
        assert_eq!(yard.tidy(&ledger, policy.clone()), [1, 2, 3, 4, 5]);
        assert_eq!(ledger.path().with_extension("log.000004.zst").exists(), compress);
        assert!(ledger.path().with_extension("log.000005").exists());
        assert_eq!(yard.tidy(&ledger, Policy { keep: 2, ..policy }), [4, 5]);
        assert_eq!(dropped(&ledger), (30, 450), "{compress}");
        assert_eq!(dropped(&Ledger::load(ledger.path())), (30, 450));
        let left = fs::read_dir(yard.dir.path()).expect("files").count();
        // Two rotated ones and the current one, an index of each, the accounting.
        assert_eq!(left, 3 * 2 + 1, "{compress}");
    }
}

#[test]
fn what_is_too_old_goes() {
    let yard = Yard::new();
    let ledger = yard.log("a.log", 4);
    for number in 1..=2 {
        let file = File::options()
            .write(true)
            .open(ledger.path().with_extension(format!("log.{number:06}")))
            .expect("a file");
        file.set_modified(SystemTime::now() - Duration::from_hours(1))
            .expect("its time");
    }
    let policy = Policy {
        max_age_ms: Some(1_800_000),
        ..keep(10)
    };
    assert_eq!(yard.tidy(&ledger, policy), [3, 4]);
    assert_eq!(dropped(&ledger), (20, 300));
}

#[test]
fn all_logs_of_an_app_stay_below_their_total() {
    let yard = Yard::new();
    let (one, two, other) = (yard.log("a.log", 3), yard.log("b.log", 3), yard.log("c.log", 3));
    for (at, ledger, number) in [
        (1, &one, 1),
        (2, &two, 1),
        (3, &one, 2),
        (4, &two, 2),
        (5, &one, 3),
        (6, &two, 3),
    ] {
        let file = File::options()
            .write(true)
            .open(ledger.path().with_extension(format!("log.{number:06}")))
            .expect("a file");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + at))
            .expect("its time");
    }
    let policy = Policy {
        max_total: Some(500),
        group: "app".to_owned(),
        ..keep(10)
    };
    two.set_policy(policy.clone());
    other.set_policy(keep(10));
    assert_eq!(yard.tidy(&one, policy), [3]);
    assert_eq!((numbers(&two), numbers(&other)), (vec![2, 3], vec![1, 2, 3]));
    assert_eq!((dropped(&one), dropped(&two)), ((20, 300), (10, 150)));
}

#[test]
fn below_the_floor_the_oldest_of_any_log_go_first() {
    let yard = Yard::new();
    let (ledger, forgotten) = (yard.log("a.log", 3), yard.log("old.log", 2));
    let path = forgotten.path().to_owned();
    drop(forgotten);
    ledger.set_policy(keep(10));
    yard.janitor.bell().set_home(yard.dir.path().to_owned());
    // More than any disk has: everything that may go goes, what is being written stays.
    yard.janitor.bell().follow_settings(floor(1 << 60));
    assert_eq!(yard.tidy(&ledger, keep(10)), [0_u64; 0]);
    assert_eq!(dropped(&ledger), (30, 450));
    assert_eq!(dropped(&Ledger::load(&path)), (20, 300));
    assert!(ledger.path().exists() && path.exists());
}

/// What a kill can leave behind, and what the next daemon makes of it.
#[test]
fn what_a_kill_leaves_is_put_in_order() {
    let yard = Yard::new();
    let ledger = yard.log("a.log", 5);
    let file = |suffix: &str| ledger.path().with_extension(format!("log.{suffix}"));
    let policy = Policy {
        compress: true,
        ..keep(10)
    };
    // Unfinished; both there; counted and not yet deleted.
    fs::write(file("000003.zst.tmp"), "half").expect("a file");
    let plain = fs::read(file("000002")).expect("a file");
    yard.tidy(&ledger, policy.clone());
    fs::write(file("000002"), &plain).expect("a file");
    fs::write(file("000004.zst.tmp"), "half").expect("a file");
    ledger.drop_file(1, 10, 150).expect("it is counted");
    assert_eq!(yard.tidy(&ledger, policy), [2, 3, 4, 5]);
    assert_eq!(dropped(&ledger), (10, 150));
    assert!(!file("000002").exists() && file("000002.zst").exists());
    assert!(!file("000003.zst.tmp").exists() && !file("000001.zst").exists());
}
