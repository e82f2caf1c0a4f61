//! What every backend has to do, as scenarios: a test of each backend runs all of them.
//!
//! A scenario gets a store of its own (nobody else writes to it) and panics if it does not do what it should. Scenarios
//! use no runtime: who runs them brings what the backend needs. [`each`](crate::kv_conformance) makes a test of
//! each.

mod leases;
pub mod linear;
mod reading;
pub mod walk;
mod watching;
mod writing;

use std::{sync::Arc, time::Duration};

use futures_channel::oneshot;
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, Either, select},
};

use super::{
    Answered, Change, Done, KeyValue, Kv, KvError, Op, Range, Ranged, Reason, Revision, Span, Txn, Watch,
    WatchEvent, WatchStream,
};

/// A store for a scenario.
pub type Store = Arc<dyn Kv>;
/// A scenario.
pub type Scenario = fn(Store) -> BoxFuture<'static, ()>;

/// How long something may take that should happen at once.
pub const SOON: Duration = Duration::from_secs(20);

macro_rules! scenarios {
    ($($module:ident: $($name:ident),* $(,)?;)*) => {
        /// Every scenario by its name.
        pub const ALL: &[(&str, Scenario)] = &[
            $($((stringify!($name), |store| Box::pin($module::$name(store)))),*),*
        ];

        /// Runs a scenario by its name.
        pub async fn run(name: &str, store: Store) {
            let (_, scenario) = ALL.iter().find(|(known, _)| *known == name).expect("a scenario");
            scenario(store).await;
        }

        /// Makes a test of every scenario: `kv_conformance!(runner)`, where `runner(name)` runs it on a fresh store.
        #[macro_export]
        macro_rules! kv_conformance {
            ($runner:path) => {
                $($(
                    #[test]
                    fn $name() {
                        $runner(stringify!($name));
                    }
                )*)*
            };
        }
    };
}

scenarios! {
    writing:
        an_empty_store_is_at_revision_one,
        figures_of_a_key_count_its_life,
        guards_compare_as_they_say,
        the_other_branch_is_taken_when_a_guard_fails,
        a_transaction_is_one_revision,
        a_transaction_that_changes_nothing_is_no_revision,
        steps_see_the_steps_before_them,
        a_key_is_written_once,
        what_is_too_large_is_refused,
        any_bytes_are_values_and_any_text_is_a_key,
        counters_by_compare_and_set_lose_nothing,
        concurrent_writers_get_revisions_of_their_own;
    reading:
        prefixes_do_not_leak,
        spans_hold_what_they_say,
        pages_of_one_revision_fit_together,
        only_what_was_asked_for_is_answered,
        older_revisions_are_as_they_were,
        compaction_forgets_what_was_superseded,
        compaction_takes_no_value_that_is_there,
        the_status_tells_the_truth,
        defragmenting_changes_nothing;
    watching:
        a_watch_says_where_it_stands,
        a_watch_tells_transactions_whole_and_in_order,
        a_watch_tells_what_was_there_before,
        a_watch_resumes_with_no_gap_and_no_double,
        a_watch_waits_for_a_revision_to_come,
        a_watch_of_what_is_compacted_ends,
        a_quiet_watch_has_heartbeats,
        a_slow_reader_loses_nothing,
        a_slow_reader_of_large_values_loses_nothing,
        many_watches_hear_their_own;
    leases:
        a_lease_that_ends_takes_its_keys_in_one_revision,
        a_lease_lives_as_long_as_it_is_kept_alive,
        a_revoked_lease_takes_its_keys,
        a_key_leaves_its_lease_when_it_is_written_again,
        a_lease_that_is_not_there_is_an_error;
    walk:
        random_walks_end_where_the_model_does;
}

/// Waits for a while, on any runtime.
pub async fn pass(time: Duration) {
    let (sender, receiver) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let (_never, waits) = std::sync::mpsc::channel::<()>();
        // Time is up: that is all there is to it.
        let _ = waits.recv_timeout(time);
        drop(sender);
    });
    // The sender is dropped when the time is up.
    let _ = receiver.await;
}

/// A future's result, if it comes in time.
pub async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(std::pin::pin!(future), std::pin::pin!(pass(time))).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}

/// The next event of a watch, which comes soon.
pub async fn next(watch: &mut WatchStream) -> WatchEvent {
    within(SOON, watch.next())
        .await
        .expect("an event comes in time")
        .expect("the watch has not ended")
        .expect("the watch has no error")
}

/// The next changes of a watch, past heartbeats and lags.
pub async fn changes(watch: &mut WatchStream) -> (Revision, Vec<Change>) {
    loop {
        match next(watch).await {
            WatchEvent::Changes { revision, changes } => return (revision, changes),
            WatchEvent::Progress { .. } | WatchEvent::Lagging { .. } => {}
            event @ WatchEvent::Compacted { .. } => panic!("{event:?} where changes should come"),
        }
    }
}

/// Starts a watch and reads its first item.
async fn watch(store: &Store, watch: Watch) -> (WatchStream, Revision) {
    let mut stream = store.watch(watch);
    match next(&mut stream).await {
        WatchEvent::Progress { revision } => (stream, revision),
        event => panic!("a watch begins by saying where it stands, not {event:?}"),
    }
}

async fn put(store: &Store, key: &str, value: &str) -> Revision {
    let txn = Txn::always(vec![Op::put(key, value)]);
    store.txn(txn).await.expect("a put").revision
}

async fn delete(store: &Store, key: &str) -> Revision {
    let txn = Txn::always(vec![Op::delete(key)]);
    store.txn(txn).await.expect("a deletion").revision
}

async fn get(store: &Store, key: &str) -> Option<KeyValue> {
    let mut found = store.range(Range::one(key)).await.expect("a reading").entries;
    assert!(found.len() < 2, "one key: {found:?}");
    found.pop()
}

async fn read(store: &Store, range: Range) -> Ranged {
    store.range(range).await.expect("a reading")
}

fn keys(entries: &[KeyValue]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

fn reason<T: std::fmt::Debug>(result: Result<T, KvError>) -> Reason {
    result.expect_err("this is refused").reason
}

/// What was read in a transaction.
fn got(answered: &Answered, index: usize) -> &Ranged {
    match &answered.results[index] {
        Done::Got(ranged) => ranged,
        other => panic!("step {index} was no reading: {other:?}"),
    }
}

fn prefix(prefix: &str) -> Span {
    Span::Prefix(prefix.to_owned())
}
