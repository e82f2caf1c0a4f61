//! Schemas of places, and places whose changes others have to approve.

use std::sync::{Arc, Barrier};

use futures_executor::block_on;
use serde_json::json;
use upkeep_config::{
    Config, ConfigError, Path, Place,
    entry::{Change, Changed, Put, Removal, Shown},
    proposals::Approval,
    rights::{All, Asker, Rights, Verb},
    rules::Rules,
    seal::Identity,
    value::{Kind, Value},
};
use upkeep_store::kv::{
    Kv,
    embedded::{Embedded, Options},
};

const ANN: Asker<'static> = who("uid:1000");
const BOB: Asker<'static> = who("uid:1001");
const CAT: Asker<'static> = who("token:cat");

const fn who(who: &'static str) -> Asker<'static> {
    Asker { who, rights: &All }
}

/// May write everywhere and read nothing, or the other way round.
struct Only(Verb);

impl Rights for Only {
    fn may(&self, verb: Verb, _: &Path) -> bool {
        verb == self.0
    }

    fn may_all(&self, verb: Verb, _: &Place) -> bool {
        verb == self.0
    }
}

struct World {
    _folder: tempfile::TempDir,
    kv: Arc<dyn Kv>,
    config: Arc<Config>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.redb");
        let kv: Arc<dyn Kv> = Arc::new(Embedded::open(&file, Options::default()).expect("a store"));
        let config = opened(&kv, "machine:here");
        Self {
            _folder: folder,
            kv,
            config,
        }
    }

    fn try_set(&self, asker: Asker<'_>, puts: Vec<Put>) -> Result<Changed, ConfigError> {
        block_on(self.config.change(
            asker,
            &Change {
                puts,
                ..Change::default()
            },
        ))
    }

    fn set(&self, puts: Vec<Put>) -> Changed {
        self.try_set(ANN, puts).expect("changed")
    }

    fn refused(&self, puts: Vec<Put>) -> String {
        self.try_set(ANN, puts).expect_err("it does not fit").to_string()
    }

    fn remove(&self, asker: Asker<'_>, place: &str) -> Result<Changed, ConfigError> {
        let removals = vec![Removal {
            place: in_(place),
            expected: None,
        }];
        block_on(self.config.change(
            asker,
            &Change {
                removals,
                ..Change::default()
            },
        ))
    }

    fn schema(&self, place: &str, schema: serde_json::Value) -> Result<(), ConfigError> {
        let rules = Rules {
            schema: Some(schema),
            ..Rules::default()
        };
        block_on(self.config.set_rules(ANN, &in_(place), rules))
    }

    fn protect(&self, place: &str, approvals: u8) {
        let rules = Rules {
            approvals,
            ..Rules::default()
        };
        block_on(self.config.set_rules(ANN, &in_(place), rules)).expect("set");
    }

    fn text(&self, path: &str) -> Option<String> {
        match block_on(self.config.get(ANN, &at(path), true)) {
            Ok(entry) => {
                Some(String::from_utf8(entry.shown.value().expect("shown").bytes.clone()).expect("text"))
            }
            Err(ConfigError::NotFound(_)) => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    fn proposed(&self, asker: Asker<'_>, puts: Vec<Put>) -> String {
        let changed = self.try_set(asker, puts).expect("proposed");
        changed
            .proposed
            .expect("others have to approve")
            .id
            .expect("it waits")
    }
}

fn opened(kv: &Arc<dyn Kv>, name: &str) -> Arc<Config> {
    let identity = Identity::generate(name).expect("random numbers");
    let config = Config::open(Arc::clone(kv), vec![identity], || 1_795_000_000.0);
    Arc::new(block_on(config).expect("a configuration"))
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

fn number(path: &str, text: &str) -> Put {
    Put {
        value: Value {
            kind: Kind::Number,
            bytes: text.into(),
        },
        ..put(path, "")
    }
}

fn secret(path: &str, text: &str) -> Put {
    Put {
        secret: true,
        ..put(path, text)
    }
}

fn shop() -> serde_json::Value {
    json!({
        "type": "object",
        "required": ["port"],
        "additionalProperties": false,
        "properties": {
            "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "db": {"properties": {"url": {"pattern": "^postgres://"}, "password": {"minLength": 8}}, "additionalProperties": false},
            "limits": {"properties": {"cpu": {"type": "number"}}},
        },
    })
}

#[test]
fn a_change_that_would_not_fit_is_refused_and_says_where() {
    let world = World::new();
    world.schema("/shop/", shop()).expect("an empty place fits");
    assert_eq!(
        world.refused(vec![put("/shop/db/url", "postgres://a")]),
        "`/shop/` would not fit its schema: `/shop` has no `port`"
    );
    world.set(vec![
        put("/shop/db/url", "postgres://a"),
        number("/shop/port", "8080"),
    ]);
    assert_eq!(
        world.refused(vec![number("/shop/port", "70000")]),
        "`/shop/` would not fit its schema: `/shop/port` is 70000, more than 65535"
    );
    assert_eq!(
        world.refused(vec![put("/shop/prot", "1")]),
        "`/shop/` would not fit its schema: `/shop/prot` `prot` is not in the schema; did you mean `port`?"
    );
    let json = Put {
        value: Value {
            kind: Kind::Json,
            bytes: b"{\"cpu\": \"two\"}".to_vec(),
        },
        ..put("/shop/limits", "")
    };
    assert!(
        world
            .refused(vec![json])
            .contains("`/shop/limits/cpu` is the text")
    );
    assert!(
        world
            .refused(vec![put("/shop/db", "x")])
            .contains("`/shop/db` is a value and has others below it")
    );
    // Nothing of all this has happened, and what is outside is nobody's affair.
    assert_eq!(world.text("/shop/port").as_deref(), Some("8080"));
    world.set(vec![put("/shopping", "x"), put("/blog/port", "x")]);
    // Deleting what must be there is refused, deleting all is not; nor is trying it any other way.
    assert!(world.remove(ANN, "/shop/port").is_err());
    let dry = Change {
        puts: vec![put("/shop/port", "no")],
        dry_run: true,
        ..Change::default()
    };
    assert!(block_on(world.config.change(ANN, &dry)).is_err());
    world.remove(ANN, "/shop/").expect("an empty place fits");
}

#[test]
fn going_back_is_judged_too() {
    let world = World::new();
    let old = world.set(vec![number("/shop/port", "0")]).revision;
    world.set(vec![number("/shop/port", "80")]);
    world.schema("/shop/", shop()).expect("it fits");
    let error =
        block_on(world.config.rollback(ANN, &in_("/shop/"), old, None, false)).expect_err("it did not fit");
    assert!(
        error.to_string().contains("`/shop/port` is 0, less than 1"),
        "{error}"
    );
    assert_eq!(world.text("/shop/port").as_deref(), Some("80"));
}

#[test]
fn a_schema_that_does_not_hold_is_not_set_and_one_that_cannot_be_meant_neither() {
    let world = World::new();
    world.set(vec![number("/shop/port", "0")]);
    let error = world
        .schema("/shop/", shop())
        .expect_err("it does not fit")
        .to_string();
    assert!(error.contains("`/shop/port` is 0"), "{error}");
    world.set(vec![number("/shop/port", "-1")]);
    let error = world.schema("/shop/", json!({"properties": {"a": {"type": "strin"}}}));
    let error = error.expect_err("no type").to_string();
    assert!(
        error.contains("`/properties/a/type`: `strin` is no type"),
        "{error}"
    );
    // One value, and schemas within schemas: all of them hold.
    world.set(vec![number("/shop/port", "5")]);
    world
        .schema("/shop/port", json!({"maximum": 10}))
        .expect("it fits");
    world.schema("/shop/", shop()).expect("it fits");
    world
        .schema(
            "/",
            json!({"properties": {"shop": {"properties": {"port": {"minimum": 3}}}}}),
        )
        .expect("it fits");
    for (port, why) in [
        ("11", "`/shop/port` is 11, more than 10"),
        ("2", "`/` would not fit its schema: `/shop/port` is 2"),
    ] {
        let error = world.refused(vec![number("/shop/port", port)]);
        assert!(error.contains(why), "{error}");
    }
    block_on(world.config.set_rules(ANN, &in_("/"), Rules::default())).expect("taken away");
    world.set(vec![number("/shop/port", "2")]);
}

#[test]
fn of_secrets_nothing_is_told_and_only_what_is_written_is_judged() {
    let world = World::new();
    world.set(vec![
        secret("/shop/db/password", "short"),
        number("/shop/port", "80"),
    ]);
    // What is sealed is taken for fitting.
    world
        .schema("/shop/", shop())
        .expect("it is there, and not opened");
    world.set(vec![number("/shop/port", "81")]);
    let error = world.refused(vec![secret("/shop/db/password", "hunter2")]);
    assert_eq!(
        error,
        "`/shop/` would not fit its schema: `/shop/db/password` does not fit; its content is not shown"
    );
    world.set(vec![secret("/shop/db/password", "hunter2-and-more")]);
    // Who may not read learns of others' values by no complaint.
    world
        .schema(
            "/shop/",
            json!({"if": {"required": ["b"]}, "then": {"properties": {"port": {"const": 5}}}}),
        )
        .expect("fits");
    let writer = Asker {
        who: "token:w",
        rights: &Only(Verb::Write),
    };
    let error = world
        .try_set(writer, vec![put("/shop/b", "x")])
        .expect_err("does not fit")
        .to_string();
    assert!(
        error.contains("`/shop/port` does not fit") && !error.contains("81"),
        "{error}"
    );
}

#[test]
fn two_writers_cannot_break_a_place_together() {
    let world = World::new();
    world
        .schema("/shop/", json!({"not": {"required": ["a", "b"]}}))
        .expect("set");
    // Two daemons on one store.
    let other = opened(&world.kv, "machine:there");
    for round in 0..60 {
        let barrier = Arc::new(Barrier::new(2));
        let run = |config: Arc<Config>, path: &'static str| {
            let barrier = Arc::clone(&barrier);
            std::thread::spawn(move || {
                let change = Change {
                    puts: vec![put(path, "x")],
                    ..Change::default()
                };
                barrier.wait();
                block_on(config.change(ANN, &change))
            })
        };
        let (a, b) = (
            run(Arc::clone(&world.config), "/shop/a"),
            run(Arc::clone(&other), "/shop/b"),
        );
        let results = [a.join().expect("a thread"), b.join().expect("a thread")];
        let done = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(done, 1, "round {round}: {results:?}");
        world.remove(ANN, "/shop/").expect("emptied");
    }
    // A schema that comes while others write: either they see it, or it sees them.
    for round in 0..40 {
        block_on(world.config.set_rules(ANN, &in_("/shop/"), Rules::default())).expect("no schema");
        let config = Arc::clone(&other);
        let barrier = Arc::new(Barrier::new(2));
        let ready = Arc::clone(&barrier);
        let writer = std::thread::spawn(move || {
            let change = Change {
                puts: vec![put("/shop/a", "x"), put("/shop/b", "x")],
                ..Change::default()
            };
            ready.wait();
            block_on(config.change(ANN, &change))
        });
        barrier.wait();
        let set = world.schema("/shop/", json!({"not": {"required": ["a", "b"]}}));
        let written = writer.join().expect("a thread");
        assert!(
            set.is_ok() != written.is_ok(),
            "round {round}: {set:?} {written:?}"
        );
        block_on(world.config.set_rules(ANN, &in_("/shop/"), Rules::default())).expect("no schema");
        world.remove(ANN, "/shop/").expect("emptied");
    }
}

#[test]
fn a_protected_place_takes_a_second_person() {
    let world = World::new();
    world.protect("/shop/prod/", 1);
    world.set(vec![put("/shop/test/a", "free")]);
    let tried = Change {
        puts: vec![put("/shop/prod/a", "1")],
        dry_run: true,
        ..Change::default()
    };
    let tried = block_on(world.config.change(ANN, &tried)).expect("tried");
    assert_eq!(
        tried.proposed.map(|proposed| (proposed.id, proposed.approvals)),
        Some((None, 1))
    );
    assert_eq!(
        block_on(world.config.proposals(BOB, 1000, None))
            .expect("a list")
            .proposals,
        []
    );
    // One protected value takes the whole change with it.
    let id = world.proposed(
        ANN,
        vec![
            put("/shop/prod/a", "1"),
            secret("/shop/prod/key", "hunter2"),
            put("/shop/test/a", "2"),
        ],
    );
    assert_eq!(world.text("/shop/prod/a"), None);
    assert_eq!(world.text("/shop/test/a").as_deref(), Some("free"));
    let waiting = block_on(world.config.proposals(BOB, 1000, None))
        .expect("a list")
        .proposals;
    assert_eq!((waiting.len(), waiting[0].by.who.as_str()), (1, "uid:1000"));
    assert!(matches!(
        waiting[0].differences[1].after,
        Some(Shown::Masked { .. })
    ));
    let raw = block_on(
        world
            .kv
            .range(upkeep_store::kv::Range::new(upkeep_store::kv::Span::Prefix(
                "m/".to_owned(),
            ))),
    );
    for entry in raw.expect("keys").entries {
        assert!(
            !String::from_utf8_lossy(&entry.value).contains("hunter2"),
            "{}",
            entry.key
        );
    }
    let error = block_on(world.config.approve(ANN, &id))
        .expect_err("own proposal")
        .to_string();
    assert!(error.contains("somebody else has to approve"), "{error}");
    let Approval::Done(_, changed) = block_on(world.config.approve(BOB, &id)).expect("approved") else {
        panic!("one is enough");
    };
    assert_eq!(changed.differences.len(), 3);
    assert_eq!(world.text("/shop/prod/key").as_deref(), Some("hunter2"));
    assert_eq!(world.text("/shop/test/a").as_deref(), Some("2"));
    let past = block_on(world.config.history(ANN, &in_("/shop/prod/a"), 9, None))
        .expect("history")
        .changes;
    assert_eq!(past[0].by.who, "uid:1000");
    assert_eq!(past[0].by.why.as_deref(), Some("approved by uid:1001"));
    assert_eq!(
        block_on(world.config.approve(BOB, &id)),
        Err(ConfigError::NoProposal(id))
    );
}

#[test]
fn it_is_carried_out_only_on_what_was_seen() {
    let world = World::new();
    world.set(vec![put("/shop/prod/a", "1"), put("/shop/test/b", "1")]);
    world.protect("/shop/prod/", 1);
    let id = world.proposed(ANN, vec![put("/shop/prod/a", "2"), put("/shop/test/b", "2")]);
    world.set(vec![put("/shop/test/b", "other")]);
    let error = block_on(world.config.approve(BOB, &id))
        .expect_err("it has changed")
        .to_string();
    assert!(error.contains("`/shop/test/b` was changed since"), "{error}");
    assert_eq!(world.text("/shop/prod/a").as_deref(), Some("1"));
    let refused = block_on(world.config.refuse(ANN, &id)).expect("taken back");
    assert_eq!(refused.id, id);
    assert_eq!(
        block_on(world.config.proposals(ANN, 1000, None))
            .expect("a list")
            .proposals,
        []
    );
    // Deleting and going back are changes too.
    let changed = world.remove(ANN, "/shop/prod/").expect("proposed");
    let id = changed
        .proposed
        .and_then(|proposed| proposed.id)
        .expect("it waits");
    block_on(world.config.approve(CAT, &id)).expect("approved");
    assert_eq!(world.text("/shop/prod/a"), None);
    let back = block_on(
        world
            .config
            .rollback(ANN, &in_("/shop/prod/"), changed.revision, None, false),
    );
    let id = back
        .expect("proposed")
        .proposed
        .and_then(|proposed| proposed.id)
        .expect("it waits");
    block_on(world.config.approve(BOB, &id)).expect("approved");
    assert_eq!(world.text("/shop/prod/a").as_deref(), Some("1"));
}

#[test]
fn several_have_to_approve_and_each_counts_once() {
    let world = World::new();
    world.protect("/", 2);
    // An inner place makes it no easier.
    world.protect("/shop/", 1);
    let id = world.proposed(ANN, vec![put("/shop/a", "1")]);
    for _ in 0..2 {
        let waits = block_on(world.config.approve(BOB, &id)).expect("one of two");
        assert!(matches!(waits, Approval::Waits(proposal) if proposal.approved_by == ["uid:1001"]));
    }
    let reader = Asker {
        who: "token:r",
        rights: &Only(Verb::Read),
    };
    assert!(matches!(
        block_on(world.config.approve(reader, &id)),
        Err(ConfigError::Denied { .. })
    ));
    assert!(matches!(
        block_on(world.config.refuse(reader, &id)),
        Err(ConfigError::Denied { .. })
    ));
    let stranger = Asker {
        who: "token:s",
        rights: &Only(Verb::Watch),
    };
    assert!(matches!(
        block_on(world.config.approve(stranger, &id)),
        Err(ConfigError::NoProposal(_))
    ));
    assert_eq!(
        block_on(world.config.proposals(stranger, 1000, None))
            .expect("a list")
            .proposals,
        []
    );
    block_on(world.config.approve(CAT, &id)).expect("two of two");
    assert_eq!(world.text("/shop/a").as_deref(), Some("1"));
    assert!(block_on(world.config.approve(CAT, "../rules")).is_err());
}

#[test]
fn a_proposal_is_judged_and_sealed_by_the_rules_that_hold_when_it_is_approved() {
    let world = World::new();
    let other = Identity::generate("machine:other").expect("random numbers");
    let rules = |recipients: Vec<_>, schema| Rules {
        recipients,
        schema,
        approvals: 1,
        ..Rules::default()
    };
    block_on(world.config.set_rules(
        ANN,
        &in_("/shop/"),
        rules(vec![], Some(json!({"required": ["key"]}))),
    ))
    .expect("set");
    assert!(world.try_set(ANN, vec![put("/shop/a", "1")]).is_err());
    let id = world.proposed(ANN, vec![secret("/shop/key", "hunter2")]);
    let schema = Some(json!({"maxProperties": 1, "required": ["other"]}));
    block_on(
        world
            .config
            .set_rules(ANN, &in_("/shop/"), rules(vec![other.recipient()], schema)),
    )
    .expect("set");
    let error = block_on(world.config.approve(BOB, &id))
        .expect_err("it does not fit any more")
        .to_string();
    assert!(error.contains("has no `other`"), "{error}");
    block_on(
        world
            .config
            .set_rules(ANN, &in_("/shop/"), rules(vec![other.recipient()], None)),
    )
    .expect("set");
    block_on(world.config.approve(BOB, &id)).expect("approved");
    let entry = block_on(world.config.get(BOB, &at("/shop/key"), false)).expect("it is there");
    let Shown::Masked { recipients, .. } = entry.shown else {
        panic!("a secret");
    };
    assert_eq!(recipients, [other.recipient()]);
}

#[test]
fn what_cannot_be_read_does_not_fit_everything() {
    let world = World::new();
    let schema = json!({"properties": {"port": {"type": "integer"}, "mode": {"enum": ["a", "b"]}, "blob": {"type": "string"}}});
    world.schema("/s/", schema).expect("a schema");
    let file = |path: &str, bytes: &[u8], kind| Put {
        value: Value {
            kind,
            bytes: bytes.to_vec(),
        },
        ..put(path, "")
    };
    let error = world.try_set(ANN, vec![file("/s/port", &[0xff, 0xfe], Kind::File)]);
    assert!(matches!(error, Err(ConfigError::Unfit { .. })), "{error:?}");
    let deep = "[".repeat(300) + &"]".repeat(300);
    let error = world.try_set(ANN, vec![file("/s/mode", deep.as_bytes(), Kind::Json)]);
    assert!(matches!(error, Err(ConfigError::Invalid { .. })), "{error:?}");
    let binary = Put {
        secret: true,
        ..file("/s/port", &[0xff, 0xfe], Kind::File)
    };
    let error = world.try_set(ANN, vec![binary]);
    assert!(matches!(error, Err(ConfigError::Unfit { .. })), "{error:?}");
    // What is no text can stand where there may be a text.
    world
        .try_set(ANN, vec![file("/s/blob", &[0xff, 0xfe], Kind::File)])
        .expect("it fits");
}
