//! Reading: spans, pages, older revisions, compaction.

use super::{Op, Range, Reason, SOON, Store, Txn, delete, get, keys, pass, put, read, reason};
use crate::kv::{Span, Status};

fn between(from: &str, to: Option<&str>) -> Range {
    Range::new(Span::Between(from.to_owned(), to.map(str::to_owned)))
}

pub(super) async fn prefixes_do_not_leak(store: Store) {
    for key in ["/apps/a", "/apps/b", "/appsx", "/aoo", "/apps", "/apps/"] {
        put(&store, key, "v").await;
    }
    let found = read(&store, Range::prefix("/apps/")).await;
    assert_eq!(keys(&found.entries), ["/apps/", "/apps/a", "/apps/b"]);
    assert_eq!(found.count, Some(3));
    assert_eq!(read(&store, Range::prefix("/b")).await.entries, []);
    assert_eq!(read(&store, Range::prefix("")).await.entries.len(), 6);
}

pub(super) async fn spans_hold_what_they_say(store: Store) {
    let all = [
        "a",
        "a\0",
        "ab",
        "b",
        "\u{7f}",
        "\u{80}",
        "\u{10ffff}",
        "\u{10ffff}x",
    ];
    for key in all {
        put(&store, key, "v").await;
    }
    let cases: [(Range, &[&str]); 9] = [
        (between("a", Some("b")), &["a", "a\0", "ab"]),
        (between("a\0", Some("ab")), &["a\0"]),
        (
            between("aa", None),
            &["ab", "b", "\u{7f}", "\u{80}", "\u{10ffff}", "\u{10ffff}x"],
        ),
        (between("", Some("a\0")), &["a"]),
        (between("", None), &all),
        (Range::prefix("a"), &["a", "a\0", "ab"]),
        (Range::prefix("\u{7f}"), &["\u{7f}"]),
        (Range::prefix("\u{10ffff}"), &["\u{10ffff}", "\u{10ffff}x"]),
        (Range::one("a"), &["a"]),
    ];
    for (range, expected) in cases {
        let found = read(&store, range.clone()).await;
        assert_eq!(keys(&found.entries), expected, "{}", range.span);
    }
}

pub(super) async fn pages_of_one_revision_fit_together(store: Store) {
    for number in 0..25 {
        put(&store, &format!("/p/{number:02}"), &number.to_string()).await;
    }
    let first = read(&store, Range::prefix("/p/").limit(10)).await;
    assert_eq!((first.entries.len(), first.more, first.count), (10, true, None));
    let revision = first.revision;
    // Somebody writes in between.
    delete(&store, "/p/12").await;
    put(&store, "/p/13", "changed").await;
    put(&store, "/p/10x", "new").await;
    let mut seen: Vec<_> = first.entries;
    loop {
        let behind = format!("{}\0", seen.last().expect("some").key);
        let page = read(&store, between(&behind, Some("/p0")).at(revision).limit(10)).await;
        seen.extend(page.entries);
        if !page.more {
            break;
        }
    }
    let expected: Vec<_> = (0..25).map(|number| format!("/p/{number:02}")).collect();
    assert_eq!(keys(&seen), expected);
    assert_eq!(seen[13].value, b"13");
    // A limit that is just enough leaves nothing out.
    let whole = read(&store, Range::prefix("/p/").at(revision).limit(25)).await;
    assert_eq!(
        (whole.entries.len(), whole.more, whole.count),
        (25, false, Some(25))
    );
}

pub(super) async fn only_what_was_asked_for_is_answered(store: Store) {
    for number in 0..5 {
        put(&store, &format!("/k/{number}"), "value").await;
    }
    let base = Range::prefix("/k/");
    let only_keys = Range {
        keys_only: true,
        ..base.clone()
    };
    let found = read(&store, only_keys.clone()).await;
    assert!(
        found
            .entries
            .iter()
            .all(|entry| entry.value.is_empty() && entry.modified > 0)
    );
    assert_eq!(found.entries.len(), 5);
    let count = Range {
        count_only: true,
        limit: 2,
        ..base.clone()
    };
    let found = read(&store, count.clone()).await;
    assert_eq!(
        (found.entries.len(), found.count, found.more),
        (0, Some(5), false)
    );
    let revision = found.revision;
    delete(&store, "/k/0").await;
    assert_eq!(read(&store, count.clone().at(revision)).await.count, Some(5));
    assert_eq!(read(&store, count).await.count, Some(4));
    let then = read(&store, only_keys.at(revision)).await;
    assert_eq!((then.entries.len(), then.entries[0].value.len()), (5, 0));
    let one = Range {
        count_only: true,
        ..Range::one("/k/0")
    };
    assert_eq!(read(&store, one.clone()).await.count, Some(0));
    assert_eq!(read(&store, one.at(revision)).await.count, Some(1));
    let stale = Range { stale: true, ..base };
    assert_eq!(read(&store, stale).await.entries.len(), 4);
}

pub(super) async fn older_revisions_are_as_they_were(store: Store) {
    let first = put(&store, "/a", "1").await;
    let second = put(&store, "/a", "2").await;
    put(&store, "/b", "x").await;
    let deleted = delete(&store, "/a").await;
    let third = put(&store, "/a", "3").await;
    for (at, value) in [
        (first, Some("1")),
        (second, Some("2")),
        (second + 1, Some("2")),
        (deleted, None),
        (third, Some("3")),
    ] {
        let one = read(&store, Range::one("/a").at(at)).await;
        assert_eq!(one.revision, third, "the store's own revision is told");
        let found = one
            .entries
            .first()
            .map(|entry| String::from_utf8_lossy(&entry.value));
        assert_eq!(found.as_deref(), value, "at {at}");
        // The same by a span.
        let span = read(&store, Range::prefix("/").at(at)).await;
        let found = span.entries.iter().find(|entry| entry.key == "/a");
        assert_eq!(found, one.entries.first(), "at {at}");
    }
    let old = read(&store, Range::one("/a").at(second + 1))
        .await
        .entries
        .remove(0);
    assert_eq!((old.created, old.modified, old.version), (first, second, 2));
    assert_eq!(
        read(&store, Range::one("/a").at(first - 1)).await.entries,
        [],
        "before it was there"
    );
    assert_eq!(
        reason(store.range(Range::one("/a").at(third + 1)).await),
        Reason::Future {
            asked: third + 1,
            current: third
        }
    );
}

pub(super) async fn compaction_forgets_what_was_superseded(store: Store) {
    put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    put(&store, "/gone", "x").await;
    let kept = delete(&store, "/gone").await;
    put(&store, "/a", "3").await;
    let newest = put(&store, "/b", "1").await;
    store.compact(kept).await.expect("compacted");
    for range in [Range::one("/a"), Range::prefix("/")] {
        assert_eq!(
            reason(store.range(range.clone().at(kept - 1)).await),
            Reason::Compacted { oldest: kept }
        );
        let found = read(&store, range.at(kept)).await;
        assert_eq!(
            (found.entries.len(), found.entries[0].value.as_slice()),
            (1, b"2".as_slice())
        );
    }
    assert_eq!(
        read(&store, Range::one("/a").at(kept + 1)).await.entries[0].value,
        b"3"
    );
    assert_eq!(
        reason(store.compact(kept).await),
        Reason::Compacted { oldest: kept }
    );
    assert!(matches!(
        reason(store.compact(kept - 1).await),
        Reason::Compacted { .. }
    ));
    assert_eq!(
        reason(store.compact(newest + 1).await),
        Reason::Future {
            asked: newest + 1,
            current: newest
        }
    );
    store.compact(newest).await.expect("compacted");
    assert_eq!(get(&store, "/a").await.expect("the key").value, b"3");
    assert_eq!(put(&store, "/a", "4").await, newest + 1);
    let then = read(&store, Range::one("/a").at(newest)).await;
    assert_eq!(then.entries[0].value, b"3");
}

pub(super) async fn compaction_takes_no_value_that_is_there(store: Store) {
    for round in 0..6 {
        for key in 0..30 {
            put(&store, &format!("/c/{key}"), &format!("{round}.{key}")).await;
        }
        let now = delete(&store, &format!("/c/{round}")).await;
        store.compact(now - 10).await.expect("compacted");
    }
    let found = read(&store, Range::prefix("/c/")).await;
    assert_eq!(found.entries.len(), 29);
    for entry in &found.entries {
        let number = entry.key.trim_start_matches("/c/");
        assert_eq!(entry.value, format!("5.{number}").into_bytes(), "{}", entry.key);
    }
    store.compact(found.revision).await.expect("compacted");
    assert_eq!(read(&store, Range::prefix("/c/")).await.entries, found.entries);
}

async fn status(store: &Store) -> Status {
    store.status().await.expect("a status")
}

pub(super) async fn the_status_tells_the_truth(store: Store) {
    put(&store, "/a", "1").await;
    let revision = put(&store, "/b", &"x".repeat(100_000)).await;
    let found = status(&store).await;
    assert_eq!((found.revision, found.keys), (revision, 2));
    assert!(found.bytes_on_disk > 0 && !found.version.is_empty(), "{found:?}");
    assert_eq!(found.alarms, []);
    let filled = |found: &Status| found.bytes_in_use >= 2_000_000;
    for _ in 0..20 {
        put(&store, "/b", &"y".repeat(100_000)).await;
    }
    // A backend may count a moment later.
    let until = std::time::Instant::now() + SOON;
    while !filled(&status(&store).await) {
        assert!(std::time::Instant::now() < until, "{:?}", status(&store).await);
        pass(std::time::Duration::from_millis(50)).await;
    }
    let newest = status(&store).await.revision;
    store.compact(newest).await.expect("compacted");
    // What is no longer needed gives its room back little by little, as one writes.
    while filled(&status(&store).await) {
        put(&store, "/a", "2").await;
        assert!(std::time::Instant::now() < until, "{:?}", status(&store).await);
        pass(std::time::Duration::from_millis(50)).await;
    }
}

pub(super) async fn defragmenting_changes_nothing(store: Store) {
    for number in 0..30 {
        put(&store, &format!("/d/{}", number % 7), &"z".repeat(50_000)).await;
    }
    let before = read(&store, Range::prefix("/d/")).await;
    store.compact(before.revision).await.expect("compacted");
    store.defragment().await.expect("defragmented");
    assert_eq!(read(&store, Range::prefix("/d/")).await, before);
    let txn = Txn::always(vec![Op::put("/d/0", "after")]);
    assert_eq!(store.txn(txn).await.expect("a put").revision, before.revision + 1);
}
