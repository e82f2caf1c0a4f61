//! Files, whole or not at all: checks, actions, ways back, and keeping up with changes.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use upkeep_config::{
    Place,
    entry::{By, Entry, Shown},
    value::Value,
};
use upkeep_render::{
    Applied, Job,
    apply::{Action, ApplyError, Health, apply},
    command::{Run, Stop},
    file::{Links, Place as Spot, Target},
    follow::{Kept, Round, follow},
    pace::Wait,
    set::{self, Wanted},
    values::Values,
};

const LIMIT: Duration = Duration::from_secs(20);

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("app.conf")
    }

    fn job(&self) -> Job {
        Job::new(Target {
            mode: 0o640,
            ..Target::new(self.target())
        })
    }

    /// An action that leaves a line in `calls`, with the file as it is then.
    fn calling(&self) -> Action {
        let calls = self.path("calls");
        Action::Run(Run::shell(format!("cat {{}} >> {}", calls.display()), LIMIT))
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.target()).expect("a file")
    }

    /// Names in the folder that are none of the test's.
    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).expect("a folder");
        names
            .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains("upkeep"))
            .collect()
    }
}

fn put(job: &Job, text: &str) -> Result<Applied, ApplyError> {
    apply(job, text, &Stop::default())
}

#[test]
fn a_file_is_written_with_its_mode_and_left_alone_when_it_is_the_same() {
    let world = World::new();
    let job = Job {
        action: world.calling(),
        ..world.job()
    };
    assert_eq!(put(&job, "a\n").expect("written"), Applied::Written);
    let first = fs::metadata(world.target()).expect("a file");
    assert_eq!(first.mode() & 0o7777, 0o640);
    assert_eq!(put(&job, "a\n").expect("the same"), Applied::Unchanged);
    let same = fs::metadata(world.target()).expect("a file");
    assert_eq!((first.ino(), first.mtime_nsec()), (same.ino(), same.mtime_nsec()));
    assert_eq!(put(&job, "b\n").expect("written"), Applied::Written);
    // A mode that somebody has changed is put right.
    fs::set_permissions(world.target(), fs::Permissions::from_mode(0o666)).expect("changed");
    assert_eq!(put(&job, "b\n").expect("written"), Applied::Written);
    assert_eq!(
        fs::metadata(world.target()).expect("a file").mode() & 0o7777,
        0o640
    );
    assert_eq!(world.calls(), ["a", "b", "b"]);
    assert_eq!(world.left(), Vec::<String>::new());
    assert!(matches!(put(&job, " \n"), Err(ApplyError::Blank(_))));
    assert_eq!(world.text(), "b\n");
}

#[test]
fn who_reads_meanwhile_sees_the_old_or_the_new_and_nothing_between() {
    let world = World::new();
    let job = world.job();
    let old = "a".repeat(1 << 18);
    let new = "b".repeat(1 << 18);
    put(&job, &old).expect("written");
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (path, over) = (world.target(), Arc::clone(&done));
    let reader = std::thread::spawn(move || {
        let mut reads = 0;
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            let text = fs::read(&path).expect("it is always there");
            let first = text.first().copied();
            assert!(
                text.len() == 1 << 18 && text.iter().all(|byte| Some(*byte) == first),
                "{} bytes",
                text.len()
            );
            reads += 1;
        }
        reads
    });
    for round in 0..40 {
        put(&job, if round % 2 == 0 { &new } else { &old }).expect("written");
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reader.join().expect("never torn") > 10);
}

#[test]
fn a_check_that_refuses_keeps_the_old_file() {
    let world = World::new();
    put(&world.job(), "good\n").expect("written");
    let check = |run| Job {
        check: Some(run),
        action: world.calling(),
        ..world.job()
    };
    let grep = Run::new(["grep", "-q", "good", "{}"], LIMIT);
    let error = put(&check(grep.clone()), "bad\n")
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("stays as it is") && error.contains("exit status: 1"),
        "{error}"
    );
    assert_eq!((world.text().as_str(), world.calls().len()), ("good\n", 0));
    // It is not read as a line for a shell, unless that was asked for; a hanging one is killed with all it started.
    let said = Run::shell("echo no such block >&2; test -f {} && exit 3", LIMIT);
    let Err(ApplyError::Refused { why, .. }) = put(&check(said), "bad\n") else {
        panic!("refused");
    };
    assert_eq!(
        (why.said.as_str(), why.why.as_str()),
        ("no such block", "failed: exit status: 3")
    );
    let hangs = Run::shell("sleep 1000 & sleep 1000", Duration::from_millis(100));
    let error = put(&check(hangs), "bad\n").expect_err("too long").to_string();
    assert!(error.contains("took longer than 100ms"), "{error}");
    assert!(put(&check(Run::new(["/no/such/program"], LIMIT)), "bad\n").is_err());
    assert_eq!((world.text().as_str(), world.left()), ("good\n", Vec::new()));
    put(&check(grep), "good too\n").expect("written");
    assert_eq!(world.calls(), ["good too"]);
}

#[test]
fn a_name_with_a_shell_in_it_is_only_a_name() {
    let world = World::new();
    let path = world.path("a; touch pwned; $(touch pwned) b.conf");
    let job = Job {
        check: Some(Run::shell(
            format!("cd {} && test -f {{}}", world.folder.path().display()),
            LIMIT,
        )),
        ..Job::new(Target::new(&path))
    };
    put(&job, "x\n").expect("written");
    assert!(path.exists() && !world.path("pwned").exists());
}

#[test]
fn what_does_no_good_goes_back() {
    let world = World::new();
    put(&world.job(), "good\n").expect("written");
    let job = Job {
        action: world.calling(),
        health: Some(Health {
            check: Run::new(["grep", "-q", "good", &world.target().to_string_lossy()], LIMIT),
            interval: Duration::from_millis(20),
            within: Duration::from_millis(200),
        }),
        ..world.job()
    };
    let error = put(&job, "bad\n").expect_err("not healthy");
    assert!(
        matches!(&error, ApplyError::WentBack { again: None, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("not healthy within 200ms"), "{error}");
    // The program was told of the new file, and of the old one again.
    assert_eq!(world.calls(), ["bad", "good"]);
    assert_eq!((world.text().as_str(), world.left()), ("good\n", Vec::new()));
    assert_eq!(
        fs::metadata(world.target()).expect("a file").mode() & 0o7777,
        0o640
    );
    // An action that fails is no better; where there was no file, there is none again.
    let job = Job {
        action: Action::Run(Run::new(["false"], LIMIT)),
        ..Job::new(Target::new(world.path("other.conf")))
    };
    assert!(matches!(
        put(&job, "x\n"),
        Err(ApplyError::WentBack { again: Some(_), .. })
    ));
    assert!(!world.path("other.conf").exists());
}

/// A renderer that is killed between the new file and the word that it does well.
#[test]
fn a_round_that_was_killed_is_taken_up_again() {
    let world = World::new();
    put(&world.job(), "good\n").expect("written");
    fs::hard_link(world.target(), world.path(".app.conf.upkeep-old")).expect("as the killed one left it");
    fs::remove_file(world.target()).expect("replaced");
    fs::write(world.target(), "bad\n").expect("replaced");
    fs::set_permissions(world.target(), fs::Permissions::from_mode(0o640)).expect("mode");
    fs::write(world.path(".app.conf.upkeep-new"), "half a fi").expect("left over");
    let health = |text: &str| Job {
        action: world.calling(),
        health: Some(Health {
            check: Run::new(["grep", "-q", text, &world.target().to_string_lossy()], LIMIT),
            interval: Duration::from_millis(10),
            within: Duration::from_millis(50),
        }),
        ..world.job()
    };
    // The same text is not taken for settled: it is tried, and the old file is still known.
    assert!(matches!(
        put(&health("good"), "bad\n"),
        Err(ApplyError::WentBack { .. })
    ));
    assert_eq!(world.text(), "good\n");
    assert_eq!(
        put(&health("better"), "better\n").expect("written"),
        Applied::Written
    );
    assert_eq!((world.text().as_str(), world.left()), ("better\n", Vec::new()));
}

/// The same where there was no file before: the next round acts upon what the killed one has written.
#[test]
fn a_first_round_that_was_killed_is_acted_upon() {
    let world = World::new();
    let job = Job {
        action: world.calling(),
        ..world.job()
    };
    // As far as it comes before its action.
    let place = Spot::of(&job.target).expect("a place");
    let new = place.prepare(b"one").expect("written beside");
    new.take_place().expect("it takes its place");
    assert!(place.is_unsettled(), "somebody has still to be told");
    assert_eq!(put(&job, "one").expect("taken up"), Applied::Written);
    assert_eq!(world.calls(), ["one"]);
    assert_eq!(put(&job, "one").expect("settled"), Applied::Unchanged);
    // What does no good at first is gone again, and leaves nothing.
    let bad = Job {
        action: Action::Run(Run::new(["false"], LIMIT)),
        ..Job::new(Target::new(world.path("bad.conf")))
    };
    put(&bad, "x").expect_err("it does no good");
    let mut left: Vec<String> = fs::read_dir(world.folder.path())
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    left.sort();
    assert_eq!(left, ["app.conf", "calls"]);
}

/// Files that belong together are all written, or none is.
#[test]
fn a_set_is_whole_or_not_at_all() {
    let world = World::new();
    let wanted = |name: &str, text: &str, check: Option<Run>| Wanted {
        target: Target::new(world.path(name)),
        check,
        allow_blank: false,
        text: text.to_owned(),
    };
    let both = |text: &str| [wanted("a", text, None), wanted("b", text, None)];
    let paths = ["a", "b"].map(|name| world.path(name));
    assert_eq!(set::write(&both("one")).expect("written"), paths);
    assert!(set::write(&both("one")).expect("the same").is_empty());
    let refused = [
        wanted("a", "two", None),
        wanted("b", "two", Some(Run::new(["grep", "-q", "one", "{}"], LIMIT))),
    ];
    let error = set::write(&refused)
        .expect_err("the second is refused")
        .to_string();
    assert!(error.contains("b`") && error.contains("check"), "{error}");
    let blank = [wanted("a", "two", None), wanted("b", " \n", None)];
    set::write(&blank).expect_err("the second is blank");
    fs::create_dir(world.path("c")).expect("a folder");
    set::write(&[wanted("a", "two", None), wanted("c", "two", None)]).expect_err("no file");
    for path in &paths {
        assert_eq!(fs::read_to_string(path).expect("a file"), "one");
    }
    let left = fs::read_dir(world.folder.path()).expect("a folder").count();
    assert_eq!(left, 3, "nothing is left beside them");
}

#[test]
fn links_and_folders_at_the_target() {
    let world = World::new();
    let real = world.path("real.conf");
    fs::write(&real, "old\n").expect("a file");
    symlink(&real, world.target()).expect("a link");
    let error = put(&world.job(), "new\n").expect_err("a link").to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert_eq!(fs::read_to_string(&real).expect("a file"), "old\n");
    let job = Job::new(Target {
        links: Links::Followed,
        ..Target::new(world.target())
    });
    put(&job, "new\n").expect("followed");
    assert_eq!(fs::read_to_string(&real).expect("a file"), "new\n");
    assert!(world.target().is_symlink());
    let folder = Job::new(Target::new(world.folder.path()));
    assert!(
        put(&folder, "x\n")
            .expect_err("a folder")
            .to_string()
            .contains("is no file")
    );
    assert!(put(&Job::new(Target::new(world.path("no/such/folder"))), "x\n").is_err());
}

#[test]
fn a_signal_by_a_pid_file() {
    let world = World::new();
    let got = world.path("got");
    let script = format!(
        "trap 'echo got > {}; exit 0' HUP; echo ready; while :; do sleep 0.05; done",
        got.display()
    );
    let mut child = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut ready = String::new();
    let out = child.stdout.as_mut().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut ready).expect("a line");
    let pid_file = world.path("app.pid");
    fs::write(&pid_file, format!("{}\n", child.id())).expect("a pid file");
    let job = Job {
        action: Action::Signal {
            pid_file: pid_file.clone(),
            signal: 1,
        },
        ..world.job()
    };
    put(&job, "a\n").expect("told");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(fs::read_to_string(got).expect("a trace"), "got\n");
    for text in ["", "0", "-1", "x"] {
        fs::write(&pid_file, text).expect("a pid file");
        let error = put(&job, "b\n").expect_err(text).to_string();
        assert!(error.contains("no process id"), "{error}");
    }
}

fn values(revision: u64, texts: &[(&str, &str)]) -> Values {
    let place: Place = "/shop/".parse().expect("a place");
    let entries: Vec<Entry> = texts
        .iter()
        .map(|(name, text)| Entry {
            path: place.join(name).expect("a path"),
            shown: Shown::Plain(Value::text(*text)),
            revision,
            version: 1,
            by: By {
                who: "uid:1".to_owned(),
                at: 0.0,
                why: None,
            },
        })
        .collect();
    Values::new(place, revision, &entries)
}

/// What a store would answer, and the rounds that were made of it.
struct Followed {
    answer: Arc<Mutex<Result<Values, String>>>,
    changes: Option<mpsc::Sender<u64>>,
    rounds: mpsc::Receiver<String>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Followed {
    fn start(world: &World, first: Result<Values, String>) -> Self {
        let (changes, changed) = mpsc::channel();
        let (say, rounds) = mpsc::channel();
        let answer = Arc::new(Mutex::new(first));
        let read = Arc::clone(&answer);
        let kept = Kept {
            job: Job {
                action: world.calling(),
                ..world.job()
            },
            name: "t".to_owned(),
            template: "a={{ a }} b={{ b }}\n".to_owned(),
            wait: Wait {
                min: Duration::from_millis(40),
                max: Duration::from_millis(400),
            },
        };
        let thread = std::thread::spawn(move || {
            follow(
                &kept,
                &changed,
                &Stop::default(),
                || read.lock().expect("a lock").clone(),
                |round| {
                    let told = match round {
                        Round::Fine(applied, revision) => format!("{applied:?} {revision}"),
                        Round::NoValues(why) => why.clone(),
                        Round::NotRendered(why) => why.to_string(),
                        Round::NotApplied(why) => why.to_string(),
                    };
                    let _ = say.send(told);
                },
            );
        });
        Self {
            answer,
            changes: Some(changes),
            rounds,
            thread: Some(thread),
        }
    }

    fn set(&self, answer: Result<Values, String>, revision: u64) {
        *self.answer.lock().expect("a lock") = answer;
        self.changes
            .as_ref()
            .expect("open")
            .send(revision)
            .expect("it follows");
    }

    fn round(&self) -> String {
        self.rounds.recv_timeout(LIMIT).expect("a round")
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn in_file(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// consul-template#1131, #1713: blank during an election or after a restart. Its #980 and #1814: a missing key.
#[test]
fn trouble_and_missing_keys_leave_the_file_and_make_no_storm() {
    let world = World::new();
    let followed = Followed::start(&world, Ok(values(1, &[("a", "1"), ("b", "1")])));
    assert_eq!(followed.round(), "Written 1");
    assert_eq!(in_file(&world.target()), "a=1 b=1\n");
    followed.set(Err("etcd: no leader".to_owned()), 2);
    assert_eq!(followed.round(), "etcd: no leader");
    assert_eq!(in_file(&world.target()), "a=1 b=1\n");
    // A hundred changes at once while one key is missing: a round or two, an error that names it, and nobody is told.
    for revision in 3..103 {
        followed.set(Ok(values(revision, &[("a", "2")])), revision);
    }
    let mut failures = vec![followed.round()];
    while let Ok(more) = followed.rounds.recv_timeout(Duration::from_millis(300)) {
        failures.push(more);
    }
    assert!(failures.len() <= 3, "{failures:?}");
    assert!(
        failures.iter().all(|why| why == "t:1: there is no `/shop/b`"),
        "{failures:?}"
    );
    assert_eq!(in_file(&world.target()), "a=1 b=1\n");
    // And a hundred with it: told once.
    for revision in 103..203 {
        let text = revision.to_string();
        followed.set(Ok(values(revision, &[("a", &text), ("b", "3")])), revision);
    }
    while followed.round() != "Written 202" {}
    assert_eq!(in_file(&world.target()), "a=202 b=3\n");
    assert!(world.calls().len() <= 4, "{:?}", world.calls());
    // The same again: no write, nobody is told.
    let told = world.calls().len();
    followed.set(Ok(values(300, &[("a", "202"), ("b", "3")])), 300);
    assert_eq!(followed.round(), "Unchanged 300");
    assert_eq!(world.calls().len(), told);
}

/// confd#629: the second of two quick changes; confd#479: a stale read.
#[test]
fn the_last_change_is_never_missed() {
    let world = World::new();
    let followed = Followed::start(&world, Ok(values(1, &[("a", "0"), ("b", "0")])));
    assert_eq!(followed.round(), "Written 1");
    for step in 1..15_u64 {
        let text = step.to_string();
        followed.set(Ok(values(step * 2, &[("a", &text), ("b", "0")])), step * 2);
        // The second comes at any moment of the round of the first.
        upkeep_testkit::pass(Duration::from_millis(step * 5));
        followed.set(
            Ok(values(step * 2 + 1, &[("a", &text), ("b", &text)])),
            step * 2 + 1,
        );
        let wanted = format!("a={step} b={step}\n");
        while in_file(&world.target()) != wanted {
            followed.round();
        }
    }
    // Told of revision 100, but read as of 99: it asks again until it has it.
    while followed.rounds.recv_timeout(Duration::from_millis(200)).is_ok() {}
    followed.set(Ok(values(99, &[("a", "stale"), ("b", "0")])), 100);
    assert_eq!(followed.round(), "Written 99");
    *followed.answer.lock().expect("a lock") = Ok(values(100, &[("a", "fresh"), ("b", "0")]));
    while in_file(&world.target()) != "a=fresh b=0\n" {
        followed.round();
    }
}
