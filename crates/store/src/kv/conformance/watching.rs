//! Watches.

use futures_util::{StreamExt as _, future::join_all};

use super::{
    Change, Op, Reason, Revision, SOON, Span, Store, Txn, Watch, WatchEvent, WatchStream, changes, delete,
    next, pass, prefix, put, watch, within,
};

/// Key and value (`None`: deleted) of each change.
fn words(changes: &[Change]) -> Vec<(&str, Option<&str>)> {
    changes
        .iter()
        .map(|change| match change {
            Change::Put { now, .. } => (now.key.as_str(), std::str::from_utf8(&now.value).ok()),
            Change::Delete { key, .. } => (key.as_str(), None),
        })
        .collect()
}

pub(super) async fn a_watch_says_where_it_stands(store: Store) {
    let (mut first, stands) = watch(&store, Watch::new(Span::All).from(1)).await;
    assert_eq!(stands, 0, "from the very first revision");
    let revision = put(&store, "/a", "1").await;
    assert_eq!(changes(&mut first).await.0, revision);
    let (mut now, stands) = watch(&store, Watch::new(Span::All)).await;
    assert_eq!(stands, revision);
    let (mut then, stands) = watch(&store, Watch::new(Span::All).from(revision)).await;
    assert_eq!(stands, revision - 1);
    put(&store, "/a", "2").await;
    assert_eq!(changes(&mut now).await.0, revision + 1, "from now on");
    assert_eq!(changes(&mut then).await.0, revision, "inclusive");
    assert_eq!(changes(&mut then).await.0, revision + 1);
    let refused = store.watch(Watch::new(Span::All).from(0)).next().await;
    assert!(matches!(refused, Some(Err(error)) if matches!(error.reason, Reason::Invalid(_))));
}

pub(super) async fn a_watch_tells_transactions_whole_and_in_order(store: Store) {
    put(&store, "/w/old", "1").await;
    let (mut stream, begins) = watch(&store, Watch::new(prefix("/w/"))).await;
    let (mut one, _) = watch(&store, Watch::new(Span::One("/w/a".to_owned()))).await;
    let txn = Txn::always(vec![
        Op::put("/w/b", "1"),
        Op::put("/elsewhere", "1"),
        Op::delete("/w/old"),
        Op::put("/w/a", "1"),
    ]);
    let first = store.txn(txn).await.expect("a transaction").revision;
    put(&store, "/x", "not watched").await;
    let second = put(&store, "/w/a", "2").await;
    let third = delete(&store, "/w/a").await;
    assert_eq!(first, begins + 1);
    let (revision, told) = changes(&mut stream).await;
    assert_eq!(revision, first);
    assert_eq!(
        words(&told),
        [("/w/b", Some("1")), ("/w/old", None), ("/w/a", Some("1"))]
    );
    let Change::Put { now, previous } = &told[0] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (now.created, now.modified, now.version, previous),
        (first, first, 1, &None)
    );
    for stream in [&mut stream, &mut one] {
        let mut told = changes(stream).await;
        if told.0 == first {
            assert_eq!(words(&told.1), [("/w/a", Some("1"))]);
            told = changes(stream).await;
        }
        assert_eq!((told.0, words(&told.1)), (second, vec![("/w/a", Some("2"))]));
        let told = changes(stream).await;
        assert_eq!((told.0, words(&told.1)), (third, vec![("/w/a", None)]));
    }
}

pub(super) async fn a_watch_tells_what_was_there_before(store: Store) {
    let first = put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    delete(&store, "/a").await;
    let with = Watch {
        with_previous: true,
        ..Watch::new(Span::All).from(first)
    };
    let (mut past, _) = watch(&store, with.clone()).await;
    let (mut live, _) = watch(&store, Watch { from: None, ..with }).await;
    let value = |change: &Change| match change {
        Change::Put { previous, .. } | Change::Delete { previous, .. } => previous.as_ref().map(|previous| {
            (
                String::from_utf8_lossy(&previous.value).into_owned(),
                previous.version,
            )
        }),
    };
    for expected in [None, Some(("1".to_owned(), 1)), Some(("2".to_owned(), 2))] {
        assert_eq!(value(&changes(&mut past).await.1[0]), expected);
    }
    put(&store, "/a", "3").await;
    put(&store, "/a", "4").await;
    delete(&store, "/a").await;
    for expected in [None, Some(("3".to_owned(), 1)), Some(("4".to_owned(), 2))] {
        assert_eq!(value(&changes(&mut past).await.1[0]), expected);
        assert_eq!(value(&changes(&mut live).await.1[0]), expected);
    }
}

pub(super) async fn a_watch_resumes_with_no_gap_and_no_double(store: Store) {
    let begins = put(&store, "/n", "0").await;
    let writing = async {
        for number in 1..=300 {
            put(&store, "/n", &number.to_string()).await;
        }
    };
    let reading = async {
        let mut seen: Vec<Revision> = Vec::new();
        let mut from = begins + 1;
        while seen.len() < 300 {
            // A few, then the connection is lost.
            let (mut stream, stands) = watch(&store, Watch::new(prefix("/n")).from(from)).await;
            assert_eq!(stands, from - 1);
            for _ in 0..7.min(300 - seen.len()) {
                let (revision, told) = changes(&mut stream).await;
                assert_eq!(
                    words(&told),
                    [("/n", Some((revision - begins).to_string().as_str()))]
                );
                seen.push(revision);
                from = revision + 1;
            }
        }
        seen
    };
    let ((), seen) = futures_util::future::join(writing, reading).await;
    assert_eq!(seen, (begins + 1..=begins + 300).collect::<Vec<_>>());
}

pub(super) async fn a_watch_waits_for_a_revision_to_come(store: Store) {
    let now = put(&store, "/a", "0").await;
    let (mut stream, _) = watch(&store, Watch::new(Span::All).from(now + 3)).await;
    for number in 1..=4 {
        put(&store, "/a", &number.to_string()).await;
    }
    assert_eq!(changes(&mut stream).await.0, now + 3);
    assert_eq!(changes(&mut stream).await.0, now + 4);
}

pub(super) async fn a_watch_of_what_is_compacted_ends(store: Store) {
    let first = put(&store, "/a", "1").await;
    let second = put(&store, "/a", "2").await;
    let deleted = delete(&store, "/a").await;
    put(&store, "/b", "1").await;
    store.compact(deleted).await.expect("compacted");
    for from in [first, second, deleted] {
        let mut stream = store.watch(Watch::new(Span::All).from(from));
        let mut event = next(&mut stream).await;
        // It may say where it stands first.
        if event == (WatchEvent::Progress { revision: from - 1 }) {
            event = next(&mut stream).await;
        }
        assert_eq!(
            event,
            WatchEvent::Compacted { oldest: deleted + 1 },
            "from {from}"
        );
        assert!(within(SOON, stream.next()).await.expect("an end").is_none());
    }
    let (mut stream, _) = watch(&store, Watch::new(Span::All).from(deleted + 1)).await;
    assert_eq!(changes(&mut stream).await.0, deleted + 1);
}

pub(super) async fn a_quiet_watch_has_heartbeats(store: Store) {
    let mut told = put(&store, "/other", "0").await;
    let (mut stream, _) = watch(&store, Watch::new(prefix("/quiet/"))).await;
    let mut last = told;
    // Heartbeats come by themselves, and never tell of what has not happened.
    for _ in 0..5 {
        last = put(&store, "/other", "1").await;
        match next(&mut stream).await {
            WatchEvent::Progress { revision } => {
                assert!(
                    (told..=last).contains(&revision),
                    "{revision} is not in {told} to {last}"
                );
                told = revision;
            }
            event => panic!("{event:?}"),
        }
    }
    let written = put(&store, "/quiet/a", "1").await;
    assert_eq!(written, last + 1);
    assert_eq!(changes(&mut stream).await.0, written);
}

/// Reads `count` revisions, one after the other from `first` on.
async fn all_of(stream: &mut WatchStream, first: Revision, count: u64) {
    for revision in first..first + count {
        assert_eq!(changes(stream).await.0, revision);
    }
}

pub(super) async fn a_slow_reader_loses_nothing(store: Store) {
    const WRITES: u64 = 6000;
    let (mut slow, begins) = watch(&store, Watch::new(prefix("/s/"))).await;
    let first = put(&store, "/s/first", "x").await;
    assert_eq!(changes(&mut slow).await.0, first);
    assert_eq!(first, begins + 1);
    for batch in 0..WRITES / 200 {
        let writes = (0..200).map(|number| {
            let store = store.clone();
            async move { put(&store, &format!("/s/{}", number % 50), &batch.to_string()).await }
        });
        join_all(writes).await;
    }
    all_of(&mut slow, first + 1, WRITES).await;
    // It has caught up, and hears what is new.
    let last = put(&store, "/s/last", "x").await;
    assert_eq!(changes(&mut slow).await.0, last);
    assert_eq!(last, first + WRITES + 1);
}

pub(super) async fn a_slow_reader_of_large_values_loses_nothing(store: Store) {
    let (mut slow, begins) = watch(&store, Watch::new(prefix("/s/"))).await;
    let value = "v".repeat(700_000);
    for number in 0..20 {
        put(&store, &format!("/s/{}", number % 3), &value).await;
    }
    for revision in begins + 1..=begins + 20 {
        let (told, changes) = changes(&mut slow).await;
        assert_eq!(told, revision);
        assert!(matches!(&changes[0], Change::Put { now, .. } if now.value.len() == value.len()));
    }
}

pub(super) async fn many_watches_hear_their_own(store: Store) {
    const WATCHES: usize = 100;
    let mut streams = Vec::new();
    for number in 0..WATCHES {
        let key = format!("/m/{number}/");
        streams.push(watch(&store, Watch::new(prefix(&key))).await.0);
    }
    let (mut all, _) = watch(&store, Watch::new(prefix("/m/"))).await;
    let mut revisions = Vec::new();
    for number in 0..WATCHES {
        revisions.push(put(&store, &format!("/m/{number}/key"), "x").await);
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let (revision, told) = changes(stream).await;
        assert_eq!(revision, revisions[number]);
        assert_eq!(told[0].key(), format!("/m/{number}/key"));
    }
    for revision in &revisions {
        assert_eq!(changes(&mut all).await.0, *revision);
    }
    // Those that end leave the others alone.
    streams.truncate(WATCHES / 2);
    pass(std::time::Duration::from_millis(50)).await;
    let last = put(&store, "/m/0/key", "y").await;
    assert_eq!(changes(&mut streams[0]).await.0, last);
    assert_eq!(changes(&mut all).await.0, last);
}
