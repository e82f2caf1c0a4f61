//! Leases.

use std::time::{Duration, Instant};

use super::{
    Change, Op, Range, Reason, SOON, Store, Txn, Watch, changes, get, pass, prefix, put, read, reason, watch,
};
use crate::kv::{Lease, LeaseId};

/// The shortest that every backend grants.
const SHORT: Duration = Duration::from_secs(3);

async fn grant(store: &Store, ttl: Duration) -> Lease {
    store.grant(ttl).await.expect("a lease")
}

async fn lend(store: &Store, key: &str, lease: LeaseId) -> u64 {
    let op = Op::Put {
        key: key.to_owned(),
        value: b"lent".to_vec(),
        lease: Some(lease),
    };
    store.txn(Txn::always(vec![op])).await.expect("a put").revision
}

pub(super) async fn a_lease_that_ends_takes_its_keys_in_one_revision(store: Store) {
    put(&store, "/l/mine", "stays").await;
    let lease = grant(&store, SHORT).await;
    assert!(lease.ttl >= SHORT && lease.id != 0, "{lease:?}");
    for number in 0..5 {
        lend(&store, &format!("/l/{number}"), lease.id).await;
    }
    assert_eq!(get(&store, "/l/0").await.expect("the key").lease, Some(lease.id));
    let looked = store.lease(lease.id).await.expect("a lease");
    assert_eq!(looked.keys, ["/l/0", "/l/1", "/l/2", "/l/3", "/l/4"]);
    assert!(
        looked.remaining <= looked.ttl && looked.ttl == lease.ttl,
        "{looked:?}"
    );
    let (mut stream, begins) = watch(&store, Watch::new(prefix("/l/"))).await;
    let (revision, gone) = changes(&mut stream).await;
    assert_eq!(revision, begins + 1);
    let mut names: Vec<_> = gone.iter().map(Change::key).collect();
    names.sort_unstable();
    assert_eq!(names, ["/l/0", "/l/1", "/l/2", "/l/3", "/l/4"]);
    assert!(gone.iter().all(|change| matches!(change, Change::Delete { .. })));
    let left = read(&store, Range::prefix("/l/")).await;
    assert_eq!((left.entries.len(), left.revision), (1, revision));
    assert_eq!(
        reason(store.keep_alive(lease.id).await),
        Reason::NoLease(lease.id)
    );
    assert_eq!(reason(store.lease(lease.id).await), Reason::NoLease(lease.id));
}

pub(super) async fn a_lease_lives_as_long_as_it_is_kept_alive(store: Store) {
    let lease = grant(&store, SHORT).await;
    lend(&store, "/k", lease.id).await;
    let begins = Instant::now();
    while begins.elapsed() < lease.ttl * 2 {
        let kept = store.keep_alive(lease.id).await.expect("kept alive");
        assert_eq!(kept.ttl, lease.ttl);
        assert!(get(&store, "/k").await.is_some(), "after {:?}", begins.elapsed());
        pass(lease.ttl / 5).await;
    }
    let until = Instant::now() + SOON;
    while get(&store, "/k").await.is_some() {
        assert!(Instant::now() < until, "nobody keeps it alive, and it lives on");
        pass(Duration::from_millis(100)).await;
    }
}

pub(super) async fn a_revoked_lease_takes_its_keys(store: Store) {
    let lease = grant(&store, Duration::from_mins(10)).await;
    lend(&store, "/a", lease.id).await;
    let last = lend(&store, "/b", lease.id).await;
    assert_eq!(store.revoke(lease.id).await.expect("revoked"), last + 1);
    assert!(get(&store, "/a").await.is_none() && get(&store, "/b").await.is_none());
    assert_eq!(reason(store.revoke(lease.id).await), Reason::NoLease(lease.id));
    // Without keys there is nothing to change.
    let empty = grant(&store, Duration::from_mins(10)).await;
    assert_ne!(empty.id, lease.id);
    assert_eq!(store.revoke(empty.id).await.expect("revoked"), last + 1);
}

pub(super) async fn a_key_leaves_its_lease_when_it_is_written_again(store: Store) {
    let one = grant(&store, Duration::from_mins(10)).await;
    let other = grant(&store, Duration::from_mins(10)).await;
    for key in ["/stays", "/leaves", "/moves", "/goes"] {
        lend(&store, key, one.id).await;
    }
    put(&store, "/leaves", "on its own").await;
    lend(&store, "/moves", other.id).await;
    super::delete(&store, "/goes").await;
    put(&store, "/goes", "again").await;
    assert_eq!(get(&store, "/leaves").await.expect("the key").lease, None);
    assert_eq!(store.lease(one.id).await.expect("a lease").keys, ["/stays"]);
    assert_eq!(store.lease(other.id).await.expect("a lease").keys, ["/moves"]);
    store.revoke(one.id).await.expect("revoked");
    let left = read(&store, Range::prefix("/")).await;
    assert_eq!(super::keys(&left.entries), ["/goes", "/leaves", "/moves"]);
}

pub(super) async fn a_lease_that_is_not_there_is_an_error(store: Store) {
    let revision = put(&store, "/a", "1").await;
    let never = 123_456_789;
    let op = Op::Put {
        key: "/a".to_owned(),
        value: b"2".to_vec(),
        lease: Some(never),
    };
    let refused = reason(store.txn(Txn::always(vec![op.clone()])).await);
    assert_eq!(refused, Reason::NoLease(never));
    // Nor in the middle of more.
    let txn = Txn::always(vec![Op::put("/b", "1"), op, Op::delete("/c")]);
    assert_eq!(reason(store.txn(txn).await), Reason::NoLease(never));
    let all = read(&store, Range::prefix("/")).await;
    assert_eq!((all.revision, all.entries.len()), (revision, 1));
    assert_eq!(reason(store.keep_alive(never).await), Reason::NoLease(never));
    assert_eq!(reason(store.lease(never).await), Reason::NoLease(never));
    assert_eq!(reason(store.revoke(never).await), Reason::NoLease(never));
}
