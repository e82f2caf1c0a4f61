//! Random walks: the same steps on a backend and on the model, which have to answer the same.

use std::time::Duration;

use super::{Change, KvError, Op, Range, Reason, Revision, SOON, Span, Store, Txn, Watch, WatchEvent, next};
use crate::kv::{Compare, Guard, LeaseId, Target, model::Model};

/// Random numbers that a seed gives again (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = usize::try_from(self.below(from.len() as u64)).expect("small");
        &from[index]
    }
}

/// A walk on a store and its model.
#[derive(Debug)]
pub struct Walk {
    dice: Dice,
    model: Model,
    leases: Vec<LeaseId>,
    steps: Vec<String>,
}

const NAMES: [&str; 9] = ["/a", "/a/", "/a/b", "/a/c", "/ab", "/b", "/b/x", "/ü", "z"];

impl Walk {
    /// Begins on a fresh store.
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            model: Model::default(),
            leases: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Takes a step on both and compares.
    pub async fn step(&mut self, store: &Store) {
        match self.dice.below(20) {
            0..=10 => self.txn(store).await,
            11..=14 => self.range(store).await,
            15 => self.compact(store).await,
            16 => self.watch(store).await,
            17 => self.lease(store).await,
            18 => self.revoke(store).await,
            _ => self.whole(store).await,
        }
    }

    fn note(&mut self, what: String) {
        self.steps.push(what);
    }

    fn tail(&self) -> String {
        let from = self.steps.len().saturating_sub(12);
        self.steps[from..].join("\n  ")
    }

    fn compare<T: std::fmt::Debug + PartialEq>(&self, theirs: Result<T, KvError>, ours: Result<T, Reason>) {
        assert_eq!(
            theirs.map_err(|error| error.reason),
            ours,
            "store and model; the last steps:\n  {}",
            self.tail()
        );
    }

    fn name(&mut self) -> String {
        (*self.dice.pick(&NAMES)).to_owned()
    }

    fn span(&mut self) -> Span {
        match self.dice.below(4) {
            0 => Span::One(self.name()),
            1 => Span::Prefix(self.name()),
            2 => {
                let (one, other) = (self.name(), self.name());
                match one.cmp(&other) {
                    std::cmp::Ordering::Less => Span::Between(one, Some(other)),
                    std::cmp::Ordering::Greater => Span::Between(other, Some(one)),
                    std::cmp::Ordering::Equal => Span::Between(one, None),
                }
            }
            _ => Span::All,
        }
    }

    fn read(&mut self, at: bool) -> Range {
        let at = (at && self.dice.below(2) == 0).then(|| 1 + self.dice.below(self.model.revision() + 1));
        Range {
            span: self.span(),
            at,
            limit: usize::try_from(self.dice.below(4)).expect("small"),
            keys_only: self.dice.below(4) == 0,
            count_only: self.dice.below(6) == 0,
            stale: false,
        }
    }

    fn guard(&mut self) -> Guard {
        let key = self.name();
        let near = self.model.now().get(&key).map_or(0, |entry| entry.modified);
        let near = (near + self.dice.below(3)).saturating_sub(1);
        Guard {
            is: *self
                .dice
                .pick(&[Compare::Equal, Compare::NotEqual, Compare::Less, Compare::Greater]),
            target: match self.dice.below(4) {
                0 => Target::Modified(near),
                1 => Target::Created(near),
                2 => Target::Version(self.dice.below(4)),
                _ => Target::Value(self.dice.below(4).to_string().into_bytes()),
            },
            key,
        }
    }

    fn branch(&mut self) -> Vec<Op> {
        (0..self.dice.below(4))
            .map(|_| match self.dice.below(6) {
                0..=3 => Op::Put {
                    key: self.name(),
                    value: self.dice.below(4).to_string().into_bytes(),
                    lease: match self.dice.below(4) {
                        0 if !self.leases.is_empty() => Some(*self.dice.pick(&self.leases.clone())),
                        _ => None,
                    },
                },
                4 => Op::Delete(self.span()),
                _ => Op::Get(self.read(false)),
            })
            .collect()
    }

    async fn txn(&mut self, store: &Store) {
        let txn = Txn {
            guards: (0..self.dice.below(3)).map(|_| self.guard()).collect(),
            then: self.branch(),
            otherwise: self.branch(),
            with_previous: self.dice.below(2) == 0,
        };
        self.note(format!("{txn:?}"));
        let ours = match store.limits().check_txn(&txn) {
            Ok(()) => self.model.txn(&txn),
            Err(error) => Err(error.reason),
        };
        self.compare(store.txn(txn).await, ours);
    }

    async fn range(&mut self, store: &Store) {
        let range = self.read(true);
        self.note(format!("{range:?}"));
        self.compare(store.range(range.clone()).await, self.model.range(&range));
    }

    async fn whole(&mut self, store: &Store) {
        let range = Range::new(Span::All);
        self.note("read all".to_owned());
        self.compare(store.range(range.clone()).await, self.model.range(&range));
    }

    async fn compact(&mut self, store: &Store) {
        let revision = self.model.revision().saturating_sub(self.dice.below(30)).max(1);
        self.note(format!("compact {revision}"));
        let ours = self.model.compact(revision);
        self.compare(store.compact(revision).await, ours);
    }

    async fn lease(&mut self, store: &Store) {
        if self.leases.len() < 4 {
            let lease = store.grant(Duration::from_mins(10)).await.expect("a lease").id;
            self.note(format!("lease {lease}"));
            self.model.grant(lease);
            self.leases.push(lease);
        }
    }

    async fn revoke(&mut self, store: &Store) {
        if !self.leases.is_empty() {
            let index = usize::try_from(self.dice.below(self.leases.len() as u64)).expect("small");
            let lease = self.leases.swap_remove(index);
            self.note(format!("revoke {lease}"));
            let ours = self.model.revoke(lease);
            self.compare(store.revoke(lease).await, ours);
        }
    }

    async fn watch(&mut self, store: &Store) {
        let span = self.span();
        // At revision 1 nothing has been changed yet: whether a store calls that forgotten is its own affair.
        let from = (1 + self.dice.below(self.model.revision())).max(2);
        self.note(format!("watch {span} from {from}"));
        let ours = self.model.watch(&span, from);
        let count = ours.as_ref().map_or(0, Vec::len);
        let begins = std::time::Instant::now();
        let told = loop {
            let told = told(store, &span, from, count).await;
            // Of several members one may not have forgotten yet what another one has.
            if ours.is_ok() || told.is_err() || begins.elapsed() >= SOON {
                break told;
            }
        };
        let ours = ours.map(|revisions| {
            let bare = |(revision, changes): (Revision, Vec<Change>)| {
                (revision, changes.into_iter().map(bare).collect())
            };
            revisions
                .into_iter()
                .map(bare)
                .collect::<Vec<(Revision, Vec<Change>)>>()
        });
        // Where it ends is not the same for all: the order of a lease's keys is nobody's promise.
        let sorted = |list: Vec<(Revision, Vec<Change>)>| {
            let by_key = |(revision, mut changes): (Revision, Vec<Change>)| {
                changes.sort_by(|one, other| one.key().cmp(other.key()));
                (revision, changes)
            };
            list.into_iter().map(by_key).collect::<Vec<_>>()
        };
        assert_eq!(
            told.map(sorted),
            ours.map(sorted),
            "watch {span} from {from}; the last steps:\n  {}",
            self.tail()
        );
    }
}

/// Without what was there before, which was not asked for.
fn bare(change: Change) -> Change {
    match change {
        Change::Put { now, .. } => Change::Put { now, previous: None },
        Change::Delete { key, .. } => Change::Delete { key, previous: None },
    }
}

/// What a watch tells: so many revisions, and none more before the next heartbeat.
async fn told(
    store: &Store,
    span: &Span,
    from: Revision,
    count: usize,
) -> Result<Vec<(Revision, Vec<Change>)>, Revision> {
    let mut told = Vec::new();
    let mut stream = store.watch(Watch::new(span.clone()).from(from));
    let mut begun = false;
    let begins = std::time::Instant::now();
    loop {
        assert!(begins.elapsed() < SOON, "no end of the watch; told {told:?}");
        match next(&mut stream).await {
            WatchEvent::Changes { revision, changes } => told.push((revision, changes)),
            WatchEvent::Progress { .. } if begun && told.len() >= count => return Ok(told),
            WatchEvent::Progress { .. } => begun = true,
            WatchEvent::Lagging { .. } => {}
            WatchEvent::Compacted { oldest } => return Err(oldest),
        }
    }
}

pub(super) async fn random_walks_end_where_the_model_does(store: Store) {
    let seed = seed();
    let mut walk = Walk::new(seed);
    for _ in 0..400 {
        walk.step(&store).await;
    }
}

/// `UPKEEP_TEST_SEED`, or another one every time. It is printed: that is all it takes to walk the same way again.
#[must_use]
#[expect(clippy::print_stderr, reason = "for tests; seen when they fail")]
pub fn seed() -> u64 {
    let given = std::env::var("UPKEEP_TEST_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| u64::from(since.subsec_nanos()) ^ since.as_secs())
    });
    eprintln!("UPKEEP_TEST_SEED={seed}");
    seed
}
