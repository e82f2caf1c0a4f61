//! Writing: figures, guards, transactions.

use futures_util::future::join_all;

use super::{Done, Op, Range, Reason, Store, Txn, delete, get, got, keys, prefix, put, read, reason};
use crate::kv::{Compare, Guard, Outcome, Span, Target};

pub(super) async fn an_empty_store_is_at_revision_one(store: Store) {
    let all = read(&store, Range::new(Span::All)).await;
    assert_eq!((all.revision, all.entries.len(), all.more), (1, 0, false));
    assert_eq!(put(&store, "/a", "1").await, 2);
}

pub(super) async fn figures_of_a_key_count_its_life(store: Store) {
    let first = put(&store, "/a", "1").await;
    let other = put(&store, "/b", "x").await;
    assert_eq!(other, first + 1);
    let second = put(&store, "/a", "2").await;
    let entry = get(&store, "/a").await.expect("the key");
    assert_eq!(
        (
            entry.created,
            entry.modified,
            entry.version,
            entry.value.as_slice(),
            entry.lease
        ),
        (first, second, 2, b"2".as_slice(), None)
    );
    let gone = delete(&store, "/a").await;
    assert_eq!(gone, second + 1);
    assert_eq!(get(&store, "/a").await, None);
    // Deleting what is not there is fine, and no change.
    assert_eq!(delete(&store, "/a").await, gone);
    let again = put(&store, "/a", "3").await;
    let entry = get(&store, "/a").await.expect("the key");
    assert_eq!((entry.created, entry.modified, entry.version), (again, again, 1));
    let neighbour = get(&store, "/b").await.expect("the other key");
    assert_eq!((neighbour.modified, neighbour.version), (other, 1));
}

pub(super) async fn guards_compare_as_they_say(store: Store) {
    let created = put(&store, "/a", "m").await;
    put(&store, "/x", "").await;
    let modified = put(&store, "/a", "m").await;
    let (equal, not, less, greater) = (Compare::Equal, Compare::NotEqual, Compare::Less, Compare::Greater);
    let value = |text: &str| Target::Value(text.as_bytes().to_vec());
    let cases = [
        ("/a", equal, Target::Modified(modified), true),
        ("/a", equal, Target::Modified(created), false),
        ("/a", not, Target::Modified(created), true),
        ("/a", less, Target::Modified(modified + 1), true),
        ("/a", less, Target::Modified(modified), false),
        ("/a", greater, Target::Modified(created), true),
        ("/a", equal, Target::Created(created), true),
        ("/a", greater, Target::Created(created), false),
        ("/a", equal, Target::Version(2), true),
        ("/a", less, Target::Version(2), false),
        ("/a", greater, Target::Version(1), true),
        ("/a", equal, value("m"), true),
        ("/a", not, value("m"), false),
        ("/a", less, value("n"), true),
        ("/a", greater, value("m"), false),
        ("/a", greater, value(""), true),
        // What does not exist has figures of 0, and no value.
        ("/none", equal, Target::Modified(0), true),
        ("/none", greater, Target::Modified(0), false),
        ("/none", equal, Target::Created(0), true),
        ("/none", equal, Target::Version(0), true),
        ("/none", less, Target::Version(1), true),
        ("/none", equal, value(""), false),
        ("/none", not, value("x"), false),
        ("/x", equal, value(""), true),
    ];
    for (key, is, target, holds) in cases {
        let guard = Guard {
            key: key.to_owned(),
            is,
            target,
        };
        let words = format!("{guard:?}");
        let txn = Txn::only_if(vec![guard], vec![Op::get("/a")]);
        let answered = store.txn(txn).await.expect("a transaction");
        assert_eq!(answered.succeeded, holds, "{words}");
    }
    // All of them have to hold.
    let guards = vec![Guard::unchanged("/a", modified), Guard::absent("/x")];
    let answered = store.txn(Txn::only_if(guards, vec![Op::put("/a", "no")])).await;
    assert!(!answered.expect("a transaction").succeeded);
    assert_eq!(get(&store, "/a").await.expect("the key").value, b"m");
}

pub(super) async fn the_other_branch_is_taken_when_a_guard_fails(store: Store) {
    put(&store, "/a", "1").await;
    let txn = |then: &str, otherwise: &str| Txn {
        guards: vec![Guard::absent("/a")],
        then: vec![Op::put("/a", then)],
        otherwise: vec![Op::get("/a"), Op::put("/b", otherwise)],
        with_previous: false,
    };
    let answered = store.txn(txn("2", "x")).await.expect("a transaction");
    assert!(!answered.succeeded);
    assert_eq!(got(&answered, 0).entries[0].value, b"1");
    assert_eq!(answered.results[1], Done::Put(None));
    delete(&store, "/a").await;
    let answered = store.txn(txn("3", "y")).await.expect("a transaction");
    assert!(answered.succeeded);
    assert_eq!(get(&store, "/a").await.expect("the key").value, b"3");
    assert_eq!(get(&store, "/b").await.expect("the key").value, b"x");
}

pub(super) async fn a_transaction_is_one_revision(store: Store) {
    for key in ["/p/1", "/p/2", "/p/3", "/q"] {
        put(&store, key, key).await;
    }
    let before = get(&store, "/q").await.expect("the key");
    let txn = Txn {
        then: vec![
            Op::put("/n", "new"),
            Op::Delete(prefix("/p/")),
            Op::put("/q", "changed"),
            Op::delete("/none"),
        ],
        with_previous: true,
        ..Txn::default()
    };
    let answered = store.txn(txn).await.expect("a transaction");
    assert_eq!(answered.revision, before.modified + 1);
    assert_eq!(answered.results[0], Done::Put(None));
    match &answered.results[1] {
        Done::Deleted { count: 3, previous } => {
            assert_eq!(keys(previous), ["/p/1", "/p/2", "/p/3"]);
            assert_eq!(previous[2].value, b"/p/3");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(answered.results[2], Done::Put(Some(before.clone())));
    assert_eq!(
        answered.results[3],
        Done::Deleted {
            count: 0,
            previous: Vec::new()
        }
    );
    let all = read(&store, Range::new(Span::All)).await;
    assert_eq!(keys(&all.entries), ["/n", "/q"]);
    assert!(
        all.entries
            .iter()
            .all(|entry| entry.modified == answered.revision)
    );
    assert_eq!(
        (all.entries[1].created, all.entries[1].version),
        (before.created, 2)
    );
    // What was there before is told only if it was asked for.
    let txn = Txn::always(vec![Op::put("/q", "again"), Op::delete("/n")]);
    let answered = store.txn(txn).await.expect("a transaction");
    let deleted = Done::Deleted {
        count: 1,
        previous: Vec::new(),
    };
    assert_eq!(answered.results, [Done::Put(None), deleted]);
}

pub(super) async fn a_transaction_that_changes_nothing_is_no_revision(store: Store) {
    let revision = put(&store, "/a", "1").await;
    let readings = Txn::always(vec![
        Op::get("/a"),
        Op::delete("/none"),
        Op::Delete(prefix("/no/")),
    ]);
    assert_eq!(
        store.txn(readings).await.expect("a transaction").revision,
        revision
    );
    assert_eq!(
        store.txn(Txn::default()).await.expect("nothing to do").revision,
        revision
    );
    // The same value again is a change.
    assert_eq!(put(&store, "/a", "1").await, revision + 1);
}

pub(super) async fn steps_see_the_steps_before_them(store: Store) {
    put(&store, "/d/1", "x").await;
    let txn = Txn::always(vec![
        Op::get("/a"),
        Op::put("/a", "1"),
        Op::get("/a"),
        Op::Delete(prefix("/d/")),
        Op::Get(Range::prefix("/d/")),
    ]);
    let answered = store.txn(txn).await.expect("a transaction");
    assert_eq!(got(&answered, 0).entries, []);
    let seen = &got(&answered, 2).entries[0];
    assert_eq!(
        (seen.value.as_slice(), seen.modified),
        (b"1".as_slice(), answered.revision)
    );
    assert_eq!(got(&answered, 4).entries, []);
    assert_eq!(got(&answered, 4).revision, answered.revision);
}

pub(super) async fn a_key_is_written_once(store: Store) {
    let revision = put(&store, "/a/1", "1").await;
    let twice = [
        vec![Op::put("/b", "1"), Op::put("/b", "2")],
        vec![Op::put("/b", "1"), Op::delete("/b")],
        vec![Op::Delete(prefix("/a/")), Op::put("/a/2", "2")],
        vec![
            Op::put("/b", "2"),
            Op::Delete(Span::Between("/a".to_owned(), None)),
        ],
    ];
    for ops in twice {
        let refused = store.txn(Txn::always(ops.clone())).await.expect_err("refused");
        assert!(
            matches!(refused.reason, Reason::DuplicateKey(_)),
            "{ops:?}: {refused:?}"
        );
        assert_eq!(
            (refused.outcome(), refused.retryable()),
            (Outcome::Refused, false)
        );
    }
    // In different branches it may be written.
    let either = Txn {
        then: vec![Op::put("/b", "1")],
        otherwise: vec![Op::put("/b", "2")],
        ..Txn::default()
    };
    assert_eq!(
        store.txn(either).await.expect("a transaction").revision,
        revision + 1
    );
    assert_eq!(get(&store, "/a/1").await.expect("the key").value, b"1");
}

pub(super) async fn what_is_too_large_is_refused(store: Store) {
    let limits = store.limits();
    let longest = "k".repeat(limits.key);
    put(&store, &longest, "v").await;
    let revision = {
        let largest = vec![0; limits.value];
        let txn = Txn::always(vec![Op::put("/large", largest.clone())]);
        let revision = store.txn(txn).await.expect("the largest value").revision;
        assert_eq!(get(&store, "/large").await.expect("the key").value, largest);
        revision
    };
    let many = |count: usize| {
        Txn::always(
            (0..count)
                .map(|number| Op::put(format!("/m/{number}"), "x"))
                .collect(),
        )
    };
    assert_eq!(
        store
            .txn(many(limits.ops))
            .await
            .expect("as many as there may be")
            .revision,
        revision + 1
    );
    let half = limits.value.div_ceil(2);
    let heavy = (0..=limits.bytes / half).map(|number| Op::put(format!("/h/{number}"), vec![1; half]));
    let refused = [
        Txn::always(vec![Op::put(longest + "k", "v")]),
        Txn::always(vec![Op::put("/large", vec![0; limits.value + 1])]),
        many(limits.ops + 1),
        Txn::always(heavy.collect()),
    ];
    for txn in refused {
        assert!(matches!(reason(store.txn(txn).await), Reason::TooLarge { .. }));
    }
    assert!(matches!(
        reason(store.txn(Txn::always(vec![Op::put("", "v")])).await),
        Reason::Invalid(_)
    ));
    assert!(matches!(
        reason(store.range(Range::one("")).await),
        Reason::Invalid(_)
    ));
    let empty = Span::Between("/b".to_owned(), Some("/b".to_owned()));
    assert!(matches!(
        reason(store.range(Range::new(empty)).await),
        Reason::Invalid(_)
    ));
    assert_eq!(
        read(&store, Range::new(Span::All)).await.revision,
        revision + 1,
        "nothing of it was kept"
    );
}

pub(super) async fn any_bytes_are_values_and_any_text_is_a_key(store: Store) {
    let every: Vec<u8> = (0..=u8::MAX).collect();
    let texts = [
        "/with space",
        "/new\nline",
        "/nul\0",
        "/ünï/✓",
        "no-slash",
        "/",
        "/\u{10ffff}",
        "//",
    ];
    for key in texts {
        let txn = Txn::always(vec![Op::put(key, every.clone())]);
        store.txn(txn).await.expect("a put");
    }
    for key in texts {
        assert_eq!(get(&store, key).await.expect("the key").value, every, "{key:?}");
    }
    let all = read(&store, Range::new(Span::All)).await;
    let mut sorted = texts.to_vec();
    sorted.sort_unstable();
    assert_eq!(keys(&all.entries), sorted, "in order of bytes");
    put(&store, "/empty", "").await;
    assert_eq!(get(&store, "/empty").await.expect("the key").value, b"");
}

pub(super) async fn counters_by_compare_and_set_lose_nothing(store: Store) {
    const WRITERS: usize = 8;
    const EACH: usize = 15;
    put(&store, "/counter", "0").await;
    let count = |store: Store| async move {
        let mut done = 0;
        while done < EACH {
            let entry = get(&store, "/counter").await.expect("the counter");
            let value: usize = String::from_utf8(entry.value)
                .expect("text")
                .parse()
                .expect("a number");
            let txn = Txn::only_if(
                vec![Guard::unchanged("/counter", entry.modified)],
                vec![Op::put("/counter", (value + 1).to_string())],
            );
            done += usize::from(store.txn(txn).await.expect("a transaction").succeeded);
        }
    };
    join_all((0..WRITERS).map(|_| count(store.clone()))).await;
    let entry = get(&store, "/counter").await.expect("the counter");
    assert_eq!(entry.value, (WRITERS * EACH).to_string().into_bytes());
    assert_eq!(entry.version, (WRITERS * EACH) as u64 + 1);
}

pub(super) async fn concurrent_writers_get_revisions_of_their_own(store: Store) {
    let begins = put(&store, "/w", "").await;
    let writes = (0..100).map(|number| {
        let store = store.clone();
        async move { put(&store, &format!("/w/{number}"), "x").await }
    });
    let mut revisions = join_all(writes).await;
    revisions.sort_unstable();
    assert_eq!(revisions, (begins + 1..=begins + 100).collect::<Vec<_>>());
}
