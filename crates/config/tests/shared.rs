//! The configuration over the embedded backend: rights, secrets, history.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_executor::{block_on, block_on_stream};
use upkeep_config::{
    Config, ConfigError, Path, Place,
    entry::{Before, Change, Put, Removal, Shown},
    rights::{All, Asker, Rights, Verb},
    rules::Rules,
    seal::Identity,
    shared::Reseal,
    value::{Kind, Value},
    watch::Told,
};
use upkeep_store::kv::{
    Guard, Kv, Op, Range, Txn,
    embedded::{Embedded, Options},
};

const ME: Asker<'static> = Asker {
    who: "uid:1000",
    rights: &All,
};

/// A clock that goes on by a second with each look.
fn now() -> f64 {
    static NOW: AtomicU64 = AtomicU64::new(1_795_000_000);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let now = NOW.fetch_add(1, Ordering::Relaxed) as f64;
    now
}

struct World {
    folder: tempfile::TempDir,
    kv: Arc<dyn Kv>,
    config: Config,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.redb");
        let kv: Arc<dyn Kv> = Arc::new(Embedded::open(&file, Options::default()).expect("a store"));
        let config = Self::opened(&kv, "machine:here");
        Self { folder, kv, config }
    }

    fn opened(kv: &Arc<dyn Kv>, name: &str) -> Config {
        let identity = Identity::generate(name).expect("random numbers");
        block_on(Config::open(Arc::clone(kv), vec![identity], now)).expect("a configuration")
    }

    fn set(&self, path: &str, text: &str) -> u64 {
        self.change(&Change {
            puts: vec![put(path, text)],
            why: Some(format!("{path} becomes {text}")),
            ..Change::default()
        })
    }

    fn change(&self, change: &Change) -> u64 {
        block_on(self.config.change(ME, change))
            .expect("changed")
            .revision
    }

    fn text(&self, path: &str) -> Option<String> {
        match block_on(self.config.get(ME, &at(path), true)) {
            Ok(entry) => {
                let value = entry.shown.value().expect("it was to be revealed").clone();
                Some(String::from_utf8(value.bytes).expect("text"))
            }
            Err(ConfigError::NotFound(_)) => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    fn paths(&self, asker: Asker<'_>, place: &str) -> Vec<String> {
        let listing = block_on(self.config.list(asker, &in_(place), 1000, None)).expect("a listing");
        listing
            .entries
            .iter()
            .map(|entry| entry.path.to_string())
            .collect()
    }

    /// All that the disk holds.
    fn disk(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.folder.path()).expect("a folder");
        let paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
        paths
            .iter()
            .flat_map(|path| std::fs::read(path).expect("a file"))
            .collect()
    }
}

fn at(path: &str) -> Path {
    path.parse().expect("a path")
}

fn in_(place: &str) -> Place {
    place.parse().expect("a place")
}

fn put(path: &str, text: &str) -> Put {
    Put {
        path: at(path),
        value: Value::text(text),
        secret: false,
        expected: None,
    }
}

fn before(revision: u64) -> Before {
    Before { revision, path: None }
}

fn secret(path: &str, text: &str) -> Put {
    Put {
        secret: true,
        ..put(path, text)
    }
}

fn remove(place: &str) -> Change {
    Change {
        removals: vec![Removal {
            place: in_(place),
            expected: None,
        }],
        ..Change::default()
    }
}

#[test]
fn values_are_set_read_and_deleted() {
    let world = World::new();
    let first = world.set("/shop/prod/db/url", "postgres://db1/shop");
    world.set("/shop/prod/port", "8080");
    world.set("/shop/test/port", "9090");
    let entry = block_on(world.config.get(ME, &at("/shop/prod/db/url"), false)).expect("it is there");
    assert_eq!(entry.shown, Shown::Plain(Value::text("postgres://db1/shop")));
    assert_eq!((entry.revision, entry.version), (first, 1));
    assert_eq!(entry.by.who, "uid:1000");
    assert_eq!(
        entry.by.why.as_deref(),
        Some("/shop/prod/db/url becomes postgres://db1/shop")
    );
    assert_eq!(
        world.paths(ME, "/shop/prod/"),
        ["/shop/prod/db/url", "/shop/prod/port"]
    );
    assert_eq!(world.paths(ME, "/shop/prod/port"), ["/shop/prod/port"]);
    assert_eq!(world.paths(ME, "/").len(), 3);
    // What is the same already is not written again.
    let changed = block_on(world.config.change(
        ME,
        &Change {
            puts: vec![put("/shop/prod/port", "8080")],
            ..Change::default()
        },
    ));
    assert_eq!(changed.expect("fine").differences, []);
    // A place at once.
    let changed = block_on(world.config.change(ME, &remove("/shop/prod/"))).expect("deleted");
    let paths: Vec<&str> = changed.differences.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, ["/shop/prod/db/url", "/shop/prod/port"]);
    assert_eq!(world.paths(ME, "/"), ["/shop/test/port"]);
    let error = block_on(world.config.get(ME, &at("/shop/prod/port"), false)).expect_err("gone");
    assert_eq!(error, ConfigError::NotFound(at("/shop/prod/port")));
    // Nothing there is nothing to do.
    let changed = block_on(world.config.change(ME, &remove("/nothing/"))).expect("fine");
    assert_eq!(changed.differences, []);
}

#[test]
fn a_change_is_whole_and_of_what_was_seen() {
    let world = World::new();
    let revision = world.set("/a", "1");
    let expected = |path: &str, text: &str, revision| Put {
        expected: Some(revision),
        ..put(path, text)
    };
    let change = |puts| Change {
        puts,
        ..Change::default()
    };
    let error = block_on(world.config.change(
        ME,
        &change(vec![put("/b", "2"), expected("/a", "2", revision + 5)]),
    ));
    assert_eq!(
        error.expect_err("another revision"),
        ConfigError::Conflict {
            path: at("/a"),
            expected: revision + 5,
            found: Some(revision)
        }
    );
    assert_eq!(world.text("/b"), None, "all or nothing");
    world.change(&change(vec![
        put("/b", "2"),
        expected("/a", "2", revision),
        expected("/c", "3", 0),
    ]));
    assert_eq!(
        (world.text("/a"), world.text("/c")),
        (Some("2".to_owned()), Some("3".to_owned()))
    );
    assert!(block_on(world.config.change(ME, &change(vec![expected("/c", "4", 0)]))).is_err());
    for wrong in [
        change(vec![]),
        change(vec![put("/a", "1"), put("/a", "2")]),
        Change {
            puts: vec![put("/a/b", "1")],
            ..remove("/a/")
        },
        Change {
            removals: vec![Removal {
                place: in_("/a/"),
                expected: Some(1),
            }],
            ..Change::default()
        },
        change(vec![Put {
            value: Value {
                kind: Kind::Json,
                bytes: b"{".to_vec(),
            },
            ..put("/a", "")
        }]),
    ] {
        let error = block_on(world.config.change(ME, &wrong)).expect_err("it makes no sense");
        assert!(
            matches!(error, ConfigError::Change(_) | ConfigError::Invalid { .. }),
            "{error}"
        );
    }
    // Said, not done.
    let before = world.text("/a");
    let dry = Change {
        dry_run: true,
        ..change(vec![put("/a", "9"), put("/d", "9")])
    };
    let changed = block_on(world.config.change(ME, &dry)).expect("said");
    assert_eq!(changed.differences.len(), 2);
    assert_eq!((world.text("/a"), world.text("/d")), (before, None));
}

#[test]
fn a_secret_is_never_in_clear_but_for_whom_it_is_revealed() {
    let world = World::new();
    world.change(&Change {
        puts: vec![
            secret("/shop/db/password", "correct-horse-7"),
            put("/shop/db/user", "shop"),
        ],
        ..Change::default()
    });
    let entry = block_on(world.config.get(ME, &at("/shop/db/password"), false)).expect("there");
    assert!(matches!(&entry.shown, Shown::Masked { recipients, .. } if recipients[0].name == "machine:here"));
    assert_eq!(
        world.text("/shop/db/password").as_deref(),
        Some("correct-horse-7")
    );
    // It stays a secret, also if whoever sets it forgets to say so; the same again is no change.
    let again = Change {
        puts: vec![put("/shop/db/password", "correct-horse-7")],
        ..Change::default()
    };
    assert_eq!(
        block_on(world.config.change(ME, &again))
            .expect("fine")
            .differences,
        []
    );
    world.change(&Change {
        puts: vec![put("/shop/db/password", "correct-horse-8")],
        ..Change::default()
    });
    assert!(
        block_on(world.config.get(ME, &at("/shop/db/password"), false))
            .expect("there")
            .shown
            .is_secret()
    );
    // Nothing that is listed, told or kept shows it.
    let listing = block_on(world.config.list(ME, &in_("/"), 10, None)).expect("a listing");
    let history = block_on(world.config.history(ME, &in_("/"), 10, None))
        .expect("a history")
        .changes;
    let diff = block_on(world.config.diff(ME, &in_("/"), (0, None), 1000, None))
        .map(|compared| compared.differences)
        .expect("a difference");
    let shown = format!("{listing:?} {history:?} {diff:?} {:?}", world.config);
    assert!(
        shown.contains("/shop/db/password") && !shown.contains("correct-horse"),
        "{shown}"
    );
    for value in [
        &listing.entries[0].shown,
        history[0].shown.as_ref().expect("set"),
        diff[0].after.as_ref().expect("set"),
    ] {
        assert!(matches!(value, Shown::Masked { .. }), "{value:?}");
    }
    let disk = world.disk();
    let holds = |text: &str| disk.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("/shop/db/user"), "the file was read");
    assert!(!holds("correct-horse"));
    // Another machine with the same store does not open it, and says for whom it is.
    let other = World::opened(&world.kv, "machine:other");
    let error = block_on(other.get(ME, &at("/shop/db/password"), true)).expect_err("sealed");
    assert!(error.to_string().contains("machine:here"), "{error}");
    // Moved to another path by whoever can write to the backend, it is not opened either.
    let stolen = block_on(world.kv.range(Range::one("c/shop/db/password")))
        .expect("read")
        .entries
        .remove(0);
    block_on(
        world
            .kv
            .txn(Txn::always(vec![Op::put("c/shop/db/user", stolen.value)])),
    )
    .expect("written");
    let error = block_on(world.config.get(ME, &at("/shop/db/user"), true)).expect_err("moved");
    assert!(error.to_string().contains("belongs to another path"), "{error}");
}

#[test]
fn recipients_are_those_of_the_nearest_place() {
    let world = World::new();
    let other_key = Identity::generate("machine:other").expect("random numbers");
    let other = other_key.recipient();
    let here = match block_on(world.config.get(ME, &at("/x"), false)) {
        Err(ConfigError::NotFound(_)) => {
            world.change(&Change {
                puts: vec![secret("/x", "s")],
                ..Change::default()
            });
            match block_on(world.config.get(ME, &at("/x"), false))
                .expect("there")
                .shown
            {
                Shown::Masked { recipients, .. } => recipients[0].clone(),
                shown => panic!("{shown:?}"),
            }
        }
        found => panic!("{found:?}"),
    };
    world.change(&Change {
        puts: vec![secret("/shop/key", "abc")],
        ..Change::default()
    });
    let rules = Rules {
        recipients: vec![here, other],
        ..Rules::default()
    };
    block_on(world.config.set_rules(ME, &in_("/shop/"), rules)).expect("set");
    let there = block_on(Config::open(Arc::clone(&world.kv), vec![other_key], now)).expect("open");
    assert!(
        block_on(there.get(ME, &at("/shop/key"), true)).is_err(),
        "sealed before"
    );
    assert_eq!(
        block_on(world.config.reseal(ME, &in_("/shop/"), Reseal::default()))
            .expect("sealed anew")
            .done,
        [at("/shop/key")]
    );
    let entry = block_on(there.get(ME, &at("/shop/key"), true)).expect("opened");
    assert_eq!(entry.shown, Shown::Revealed(Value::text("abc")));
    assert!(block_on(there.get(ME, &at("/x"), true)).is_err(), "not its place");
    // A machine that has seen other rules last writes by those that hold.
    world.change(&Change {
        puts: vec![secret("/shop/late", "def")],
        ..Change::default()
    });
    assert_eq!(
        block_on(there.get(ME, &at("/shop/late"), true))
            .expect("opened")
            .shown,
        Shown::Revealed(Value::text("def"))
    );
    let wrong = Rules {
        recipients: vec![upkeep_config::seal::Recipient {
            name: "x".to_owned(),
            key: "no".to_owned(),
        }],
        ..Rules::default()
    };
    assert!(block_on(world.config.set_rules(ME, &in_("/"), wrong)).is_err());
}

#[test]
fn what_was_is_kept_compared_and_put_back() {
    let world = World::new();
    let first = world.set("/shop/port", "1");
    world.set("/shop/host", "a");
    let good = world.set("/shop/port", "2");
    world.change(&Change {
        puts: vec![secret("/shop/key", "s1")],
        ..Change::default()
    });
    world.set("/shop/port", "3");
    world.change(&Change {
        puts: vec![secret("/shop/key", "s2")],
        ..Change::default()
    });
    let last = world.change(&Change {
        why: Some("clean-up".to_owned()),
        ..remove("/shop/host")
    });
    let history = block_on(world.config.history(ME, &in_("/shop/"), 100, None))
        .expect("a history")
        .changes;
    let told: Vec<(String, Option<String>)> = history
        .iter()
        .map(|past| {
            let value = past.shown.as_ref().map(|shown| match shown.value() {
                Some(value) => String::from_utf8_lossy(&value.bytes).into_owned(),
                None => "secret".to_owned(),
            });
            (past.path.to_string(), value)
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        told,
        [
            ("/shop/host".to_owned(), None),
            ("/shop/key".to_owned(), some("secret")),
            ("/shop/port".to_owned(), some("3")),
            ("/shop/key".to_owned(), some("secret")),
            ("/shop/port".to_owned(), some("2")),
            ("/shop/host".to_owned(), some("a")),
            ("/shop/port".to_owned(), some("1")),
        ]
    );
    assert_eq!(
        (history[0].revision, history[0].by.why.as_deref()),
        (last, Some("clean-up"))
    );
    assert_eq!(history[6].revision, first);
    let port = block_on(
        world
            .config
            .history(ME, &in_("/shop/port"), 1, Some(&before(last))),
    )
    .expect("a history")
    .changes;
    assert_eq!(port.len(), 1);
    assert_eq!(port[0].shown, Some(Shown::Plain(Value::text("3"))));
    let diff = block_on(world.config.diff(ME, &in_("/shop/"), (good, None), 1000, None))
        .map(|compared| compared.differences)
        .expect("a difference");
    let paths: Vec<&str> = diff.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, ["/shop/host", "/shop/key", "/shop/port"]);
    // The backend may forget; the history does not.
    let status = block_on(world.kv.status()).expect("a status");
    block_on(world.kv.compact(status.revision)).expect("compacted");
    let dry = block_on(world.config.rollback(ME, &in_("/shop/"), good, None, true)).expect("said");
    assert_eq!(dry.differences.len(), 3);
    assert_eq!(world.text("/shop/port").as_deref(), Some("3"));
    let key_then = block_on(
        world
            .config
            .rollback(ME, &in_("/shop/key"), last - 2, Some("wrong key"), false),
    )
    .expect("back");
    assert_eq!(key_then.differences.len(), 1);
    assert_eq!(world.text("/shop/key").as_deref(), Some("s1"));
    block_on(
        world
            .config
            .rollback(ME, &in_("/shop/"), good, Some("bad deploy"), false),
    )
    .expect("back");
    assert_eq!(world.text("/shop/port").as_deref(), Some("2"));
    assert_eq!(world.text("/shop/host").as_deref(), Some("a"));
    assert_eq!(world.text("/shop/key"), None, "there was none then");
    assert_eq!(
        block_on(world.config.diff(ME, &in_("/shop/"), (good, None), 1000, None))
            .map(|compared| compared.differences)
            .expect("none"),
        []
    );
}

/// Verbs in places.
struct Some_(Vec<(Verb, Place)>);

impl Rights for Some_ {
    fn may(&self, verb: Verb, path: &Path) -> bool {
        self.0
            .iter()
            .any(|(one, place)| *one == verb && place.covers(path))
    }

    fn may_all(&self, verb: Verb, place: &Place) -> bool {
        self.0
            .iter()
            .any(|(one, mine)| *one == verb && mine.contains(place))
    }
}

#[test]
fn every_verb_is_asked_for_on_every_path() {
    let world = World::new();
    for path in ["/a/x", "/a/y", "/b/x"] {
        world.set(path, "1");
    }
    world.change(&Change {
        puts: vec![secret("/a/key", "s"), secret("/b/key", "s")],
        ..Change::default()
    });
    let verbs = [
        Verb::Read,
        Verb::Reveal,
        Verb::Write,
        Verb::Watch,
        Verb::History,
        Verb::Grant,
    ];
    // Each set of verbs on /a/, and everything on nothing else.
    for bits in 0..1u32 << verbs.len() {
        let held: Vec<Verb> = verbs
            .iter()
            .enumerate()
            .filter(|(at, _)| bits & (1 << at) != 0)
            .map(|(_, verb)| *verb)
            .collect();
        let rights = Some_(held.iter().map(|verb| (*verb, in_("/a/"))).collect());
        let asker = Asker {
            who: "token:t",
            rights: &rights,
        };
        let holds = |verb| held.contains(&verb);
        let denied = |result: Result<(), ConfigError>| match result {
            Ok(()) => false,
            Err(ConfigError::Denied { who, .. }) => {
                assert_eq!(who, "token:t");
                true
            }
            Err(error) => panic!("{held:?}: {error}"),
        };
        for (place, inside) in [("/a/", true), ("/b/", false)] {
            let may = |verb| inside && holds(verb);
            let path = |name: &str| at(&format!("{place}{name}"));
            let get = |name: &str, reveal| block_on(world.config.get(asker, &path(name), reveal)).map(drop);
            assert_eq!(denied(get("x", false)), !may(Verb::Read), "{held:?}");
            assert_eq!(denied(get("key", false)), !may(Verb::Read));
            assert_eq!(denied(get("key", true)), !(may(Verb::Read) && may(Verb::Reveal)));
            assert_eq!(
                denied(get("x", true)),
                !may(Verb::Read),
                "what is no secret needs no revealing"
            );
            let missing = block_on(world.config.get(asker, &path("none"), false)).expect_err("not there");
            assert_eq!(
                matches!(missing, ConfigError::NotFound(_)),
                may(Verb::Read),
                "that it is not there is knowledge too"
            );
            let write = Change {
                puts: vec![put(path("x").as_str(), "1")],
                ..Change::default()
            };
            assert_eq!(
                denied(block_on(world.config.change(asker, &write)).map(drop)),
                !may(Verb::Write)
            );
            let now = block_on(world.config.list(ME, &Place::all(), 1, None))
                .expect("a listing")
                .revision;
            let rollback = block_on(world.config.rollback(asker, &in_(place), now, None, false)).map(drop);
            assert_eq!(denied(rollback), !may(Verb::Write));
            let dry = Change {
                dry_run: true,
                ..remove(place)
            };
            if let Ok(changed) = block_on(world.config.change(asker, &dry)) {
                let (named, unnamed) = if holds(Verb::Read) { (3, 0) } else { (0, 3) };
                assert_eq!(changed.differences.len(), named, "{held:?}");
                assert_eq!(changed.unnamed.len(), unnamed, "{held:?}");
                for one in changed.differences {
                    assert_ne!(one.before, Some(Shown::Hidden), "{held:?}: {one:?}");
                }
                // Nor is it found out by guessing.
                let guess = Change {
                    puts: vec![secret("/a/key", "s")],
                    dry_run: true,
                    ..Change::default()
                };
                let told = block_on(world.config.change(asker, &guess)).expect("may write");
                assert_eq!(told.differences.is_empty(), holds(Verb::Reveal), "{held:?}");
            }
            assert_eq!(
                denied(block_on(world.config.change(asker, &dry)).map(drop)),
                !may(Verb::Write)
            );
            assert_eq!(
                denied(block_on(world.config.set_rules(
                    asker,
                    &in_(place),
                    Rules::default()
                ))),
                !may(Verb::Grant)
            );
            assert_eq!(
                denied(block_on(world.config.reseal(asker, &in_(place), Reseal::default())).map(drop)),
                !may(Verb::Grant)
            );
        }
        let seen: BTreeSet<String> = world.paths(asker, "/").into_iter().collect();
        let all: BTreeSet<String> = ["/a/key", "/a/x", "/a/y"].map(str::to_owned).into();
        assert_eq!(seen, if holds(Verb::Read) { all } else { BTreeSet::new() });
        let past = block_on(world.config.history(asker, &in_("/"), 100, None))
            .expect("a history")
            .changes;
        assert!(past.iter().all(|past| past.path.as_str().starts_with("/a/")));
        assert_eq!(!past.is_empty(), holds(Verb::History));
        // The whole is not reached from a part.
        assert!(denied(
            block_on(world.config.change(asker, &remove("/"))).map(drop)
        ));
    }
}

#[test]
fn a_watch_tells_what_its_rights_let_see() {
    let world = World::new();
    let from = world.set("/a/first", "0") + 1;
    world.set("/a/x", "1");
    world.set("/b/x", "2");
    world.change(&Change {
        puts: vec![secret("/a/key", "s"), put("/b/y", "3")],
        ..Change::default()
    });
    world.change(&remove("/a/x"));
    let rights = Some_(vec![
        (Verb::Read, in_("/a/")),
        (Verb::Watch, in_("/")),
        (Verb::History, in_("/")),
    ]);
    let mut watch = block_on_stream(world.config.watch(Arc::new(rights), &in_("/"), Some(from)));
    let mut told = Vec::new();
    while told.len() < 3 {
        match watch.next().expect("it goes on").expect("no error") {
            Told::Changes { changes, .. } => told.extend(changes),
            Told::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let paths: Vec<&str> = told.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["/a/x", "/a/key", "/a/x"]);
    assert_eq!(told[0].shown, Some(Shown::Plain(Value::text("1"))));
    assert!(matches!(told[1].shown, Some(Shown::Masked { .. })));
    assert_eq!(told[2].shown, None);
}

#[test]
fn two_who_write_at_once_lose_nothing() {
    let world = World::new();
    world.set("/counter", "0");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = 0;
                while done < 25 {
                    let entry = block_on(world.config.get(ME, &at("/counter"), false)).expect("there");
                    let value = entry.shown.value().expect("plain").to_json().expect("text");
                    let next = value
                        .as_str()
                        .and_then(|text| text.parse::<u64>().ok())
                        .expect("a number")
                        + 1;
                    let change = Change {
                        puts: vec![Put {
                            expected: Some(entry.revision),
                            ..put("/counter", &next.to_string())
                        }],
                        ..Change::default()
                    };
                    match block_on(world.config.change(ME, &change)) {
                        Ok(_) => done += 1,
                        Err(ConfigError::Conflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(world.text("/counter").as_deref(), Some("100"));
    let history = block_on(world.config.history(ME, &in_("/counter"), 1000, None))
        .expect("a history")
        .changes;
    assert_eq!(history.len(), 101);
}

#[test]
fn what_others_put_into_the_backend_is_an_error_and_no_panic() {
    let world = World::new();
    for value in [
        &b""[..],
        b"u",
        b"u\x01\xff\xff\xff\xff",
        b"u\x01\x02\0\0\0{}",
        b"plain",
    ] {
        block_on(world.kv.txn(Txn::always(vec![Op::put("c/x", value)]))).expect("written");
        let error = block_on(world.config.get(ME, &at("/x"), true)).expect_err("no record");
        assert!(
            matches!(&error, ConfigError::Damaged { key, .. } if key == "c/x"),
            "{error}"
        );
    }
    block_on(world.kv.txn(Txn::always(vec![Op::put("c/../x", "")]))).expect("written");
    assert!(block_on(world.config.list(ME, &in_("/"), 10, None)).is_err());
    let other = Txn::only_if(
        vec![Guard::absent("nothing")],
        vec![Op::put("m/store", "{\"format\": 9, \"offset\": 0}")],
    );
    block_on(world.kv.txn(other)).expect("written");
    let error = block_on(Config::open(Arc::clone(&world.kv), Vec::new(), now)).expect_err("newer");
    assert!(error.to_string().contains("format 9"), "{error}");
}

#[test]
fn who_may_not_read_sees_no_value_in_the_history_either() {
    let world = World::new();
    let first = world.set("/a/x", "old-value");
    world.set("/a/x", "new-value");
    let asked = |verbs: &[Verb]| {
        let rights = Some_(verbs.iter().map(|verb| (*verb, in_("/a/"))).collect());
        let asker = Asker {
            who: "token:t",
            rights: &rights,
        };
        let history = block_on(world.config.history(asker, &in_("/a/"), 10, None))
            .expect("a history")
            .changes;
        let diff = block_on(world.config.diff(asker, &in_("/a/"), (first, None), 1000, None))
            .map(|compared| compared.differences)
            .expect("a difference");
        (history, diff)
    };
    let (history, diff) = asked(&[Verb::History]);
    assert_eq!(
        (history.len(), diff.len()),
        (2, 1),
        "that it was changed may be known"
    );
    assert!(
        history.iter().all(|past| past.shown == Some(Shown::Hidden)),
        "{history:?}"
    );
    assert_eq!(
        (&diff[0].before, &diff[0].after),
        (&Some(Shown::Hidden), &Some(Shown::Hidden))
    );
    let (history, diff) = asked(&[Verb::History, Verb::Read]);
    assert_eq!(history[0].shown, Some(Shown::Plain(Value::text("new-value"))));
    assert_eq!(diff[0].before, Some(Shown::Plain(Value::text("old-value"))));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_read() {
    let world = World::new();
    for path in ["/a/x", "/b/x"] {
        world.set(path, "1");
    }
    let removal = |place: &str| Removal {
        place: in_(place),
        expected: None,
    };
    for places in [["/a/", "/a/"], ["/a/", "/a/x"], ["/", "/b/"]] {
        let change = Change {
            removals: places.map(removal).into(),
            ..Change::default()
        };
        let error = block_on(world.config.change(ME, &change)).expect_err("they overlap");
        assert!(error.to_string().contains("have values in common"), "{error}");
    }
    let apart = Change {
        removals: ["/b/", "/a/x"].map(removal).into(),
        dry_run: true,
        ..Change::default()
    };
    let changed = block_on(world.config.change(ME, &apart)).expect("said");
    assert_eq!(changed.differences.len(), 2);
    let error = block_on(world.config.list(ME, &in_("/a/"), 10, Some(&at("/b/x")))).expect_err("elsewhere");
    assert!(error.to_string().contains("`/b/x` is not in `/a/`"), "{error}");
}

#[test]
fn rules_that_two_change_at_once_keep_what_both_said() {
    let world = World::new();
    let one = Identity::generate("machine:one")
        .expect("random numbers")
        .recipient();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let add = |mut rules: Rules| {
                        let number = rules.recipients.len();
                        rules.recipients.push(upkeep_config::seal::Recipient {
                            name: format!("machine:{number}"),
                            ..one.clone()
                        });
                        rules
                    };
                    while let Err(error) = block_on(world.config.change_rules(ME, &in_("/a/"), add)) {
                        assert!(matches!(error, ConfigError::Busy(_)), "{error}");
                    }
                }
            });
        }
    });
    let book = block_on(world.config.rules()).expect("rules");
    assert_eq!(book.places[&in_("/a/")].recipients.len(), 40);
}
