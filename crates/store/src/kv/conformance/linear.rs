//! Linearizable or not: clients read, write and compare-and-set a few registers while something goes wrong, everything
//! is written down, and a checker (Wing and Gong's search as Lowe improved it, from `todc-utils`) looks for an order that
//! explains it.
//!
//! Every value is written once only. So a write of which nobody knows whether it happened either is seen by somebody (then
//! it did, before that was answered) or by nobody (then it plays no part). This keeps the search small, however much
//! was cut off.

use std::{
    collections::{HashMap, HashSet},
    io::Write as _,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use todc_utils::{
    linearizability::{
        WGLChecker,
        history::{
            Action::{Call, Response},
            History as Actions,
        },
    },
    specifications::Specification,
};

use super::{Revision, Store, pass, walk::Dice, within};
use crate::kv::{Change, Compare, Done, Guard, Op, Outcome, Range, Span, Target, Txn, Watch, WatchEvent};

/// Registers that the clients share.
const REGISTERS: u64 = PLACES as u64;
const PLACES: usize = 3;
/// Their prefix.
pub const PREFIX: &str = "/linear/";

/// What was done to a register; 0 is "it does not exist".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// Read this.
    Read(u64),
    /// Wrote this.
    Write(u64),
    /// Found the first and wrote the second.
    Swap(u64, u64),
}

impl Did {
    fn seen(self) -> Option<u64> {
        match self {
            Self::Read(seen) | Self::Swap(seen, _) => Some(seen),
            Self::Write(_) => None,
        }
    }

    fn written(self) -> Option<u64> {
        match self {
            Self::Write(value) | Self::Swap(_, value) => Some(value),
            Self::Read(_) => None,
        }
    }
}

struct Register;

impl Specification for Register {
    type State = u64;
    type Operation = Did;

    fn init() -> u64 {
        0
    }

    fn apply(did: &Did, state: &u64) -> (bool, u64) {
        match *did {
            Did::Read(seen) => (seen == *state, *state),
            Did::Write(value) => (true, value),
            Did::Swap(from, to) => (from == *state, if from == *state { to } else { *state }),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    register: u64,
    did: Did,
    called: u64,
    /// `None`: nobody knows.
    returned: Option<u64>,
}

/// What the clients did, in the order of calls and answers.
#[derive(Debug, Default)]
pub struct Recorder {
    state: Mutex<State>,
    /// Write it to standard output, too: a process that is killed cannot hand it over.
    echo: bool,
}

#[derive(Debug, Default)]
struct State {
    clock: u64,
    operations: HashMap<u64, Operation>,
    answered: u64,
}

impl Recorder {
    /// One that writes down everything on standard output as well.
    pub fn echoing() -> Self {
        Self {
            echo: true,
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, line: &str) {
        if self.echo {
            let line = format!("\nlinear {line}\n");
            std::io::stdout()
                .write_all(line.as_bytes())
                .expect("somebody reads");
        }
    }

    fn call(&self, id: u64, register: u64, did: Did) {
        let mut state = self.lock();
        state.clock += 1;
        let called = state.clock;
        let operation = Operation {
            register,
            did,
            called,
            returned: None,
        };
        assert!(
            state.operations.insert(id, operation).is_none(),
            "{id} is used twice"
        );
        let (kind, one, other) = words(did);
        self.say(&format!("call {id} {register} {kind} {one} {other}"));
    }

    /// It came to this; `None` is "nothing".
    fn answer(&self, id: u64, did: Option<Did>) {
        let mut state = self.lock();
        state.clock += 1;
        let returned = state.clock;
        match did {
            Some(did) => {
                let operation = state.operations.get_mut(&id).expect("it was called");
                operation.did = did;
                operation.returned = Some(returned);
                state.answered += 1;
                let (kind, one, other) = words(did);
                self.say(&format!("answer {id} 0 {kind} {one} {other}"));
            }
            None => {
                state.operations.remove(&id);
                self.say(&format!("nothing {id} 0 read 0 0"));
            }
        }
    }

    /// Takes over a line of an echoing one; false if it is none.
    pub fn hear(&self, line: &str) -> bool {
        let Some(line) = line.strip_prefix("linear ") else {
            return false;
        };
        let parts: Vec<&str> = line.split(' ').collect();
        let [what, id, register, kind, one, other] = parts.as_slice() else {
            return false;
        };
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let did = match *kind {
            "read" => Did::Read(number(one)),
            "write" => Did::Write(number(one)),
            _ => Did::Swap(number(one), number(other)),
        };
        match *what {
            "call" => self.call(number(id), number(register), did),
            "answer" => self.answer(number(id), Some(did)),
            _ => self.answer(number(id), None),
        }
        true
    }

    /// How many calls were answered.
    pub fn answered(&self) -> u64 {
        self.lock().answered
    }

    /// How many writes are open: nobody knows whether they happened.
    pub fn unknown(&self) -> usize {
        let state = self.lock();
        let open = state
            .operations
            .values()
            .filter(|operation| operation.returned.is_none());
        open.filter(|operation| operation.did.written().is_some()).count()
    }

    /// Panics if no order explains what was seen.
    pub fn check(&self) {
        let state = self.lock();
        for register in 0..REGISTERS {
            let mine = state
                .operations
                .values()
                .filter(|operation| operation.register == register);
            let operations: Vec<Operation> = mine.copied().collect();
            assert!(
                linearizable(&operations),
                "register {register}: no order explains these {} operations: {operations:?}",
                operations.len()
            );
        }
    }
}

fn words(did: Did) -> (&'static str, u64, u64) {
    match did {
        Did::Read(seen) => ("read", seen, 0),
        Did::Write(value) => ("write", value, 0),
        Did::Swap(from, to) => ("swap", from, to),
    }
}

/// Whether an order of these explains what was seen.
fn linearizable(operations: &[Operation]) -> bool {
    // When a value was seen first, by an answer that came.
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for operation in operations {
        if let (Some(value), Some(returned)) = (operation.did.seen(), operation.returned) {
            let first = seen.entry(value).or_insert(returned);
            *first = returned.min(*first);
        }
    }
    // A swap without an answer has seen something only if somebody has seen what it wrote.
    let mut open: Vec<Operation> = operations
        .iter()
        .filter(|one| one.returned.is_none())
        .copied()
        .collect();
    let mut known: Vec<Operation> = operations
        .iter()
        .filter(|one| one.returned.is_some())
        .copied()
        .collect();
    loop {
        let (happened, rest): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|one| one.did.written().is_some_and(|value| seen.contains_key(&value)));
        if happened.is_empty() {
            break;
        }
        for mut operation in happened {
            let first = seen[&operation.did.written().unwrap_or(0)];
            operation.returned = Some(first);
            if let Some(value) = operation.did.seen() {
                let earlier = seen.entry(value).or_insert(first);
                *earlier = first.min(*earlier);
            }
            known.push(operation);
        }
        open = rest;
    }
    let answered = operations.iter().filter(|one| one.returned.is_some());
    let answered: HashSet<u64> = answered.map(|one| one.called).collect();
    let mut steps = Vec::with_capacity(known.len() * 2);
    for (process, operation) in known.iter().enumerate() {
        let returned = operation.returned.unwrap_or(u64::MAX);
        // Those without an answer of their own come just before the answer that saw them.
        let order = u8::from(answered.contains(&operation.called));
        steps.push(((operation.called, 2), process, Call(operation.did)));
        steps.push(((returned, order), process, Response(operation.did)));
    }
    if steps.is_empty() {
        return true;
    }
    steps.sort_by_key(|(at, ..)| *at);
    let actions = steps
        .into_iter()
        .map(|(_, process, action)| (process, action))
        .collect();
    WGLChecker::<Register>::is_linearizable(Actions::from_actions(actions))
}

/// A client that does this and that until it is stopped. `number` is its own, also among those of earlier processes.
pub async fn client(
    store: Store,
    recorder: &Recorder,
    number: u64,
    seed: u64,
    pause: Duration,
    stop: &AtomicBool,
) {
    let mut dice = Dice::new(seed ^ (number << 17));
    let mut last = [0; PLACES];
    let mut id = number << 32;
    while !stop.load(Ordering::Relaxed) {
        id += 1;
        let register = dice.below(REGISTERS);
        let place = usize::try_from(register).expect("small");
        let key = format!("{PREFIX}{register}");
        let kind = dice.below(10);
        let did = if kind < 5 {
            recorder.call(id, register, Did::Read(0));
            let read = store.range(Range::one(key.clone())).await;
            read.ok()
                .map(|found| Did::Read(found.entries.first().map_or(0, |entry| value(&entry.value))))
        } else {
            let write = Op::put(key.clone(), id.to_string());
            let (planned, txn) = if kind < 7 || last[place] == 0 {
                (Did::Write(id), Txn::always(vec![write]))
            } else {
                let guard = Guard {
                    key: key.clone(),
                    is: Compare::Equal,
                    target: Target::Value(last[place].to_string().into_bytes()),
                };
                let txn = Txn {
                    guards: vec![guard],
                    then: vec![write],
                    otherwise: vec![Op::get(key.clone())],
                    with_previous: false,
                };
                (Did::Swap(last[place], id), txn)
            };
            recorder.call(id, register, planned);
            match store.txn(txn).await {
                Ok(answered) if answered.succeeded => Some(planned),
                Ok(answered) => match answered.results.first() {
                    Some(Done::Got(found)) => Some(Did::Read(
                        found.entries.first().map_or(0, |entry| value(&entry.value)),
                    )),
                    other => panic!("{other:?}"),
                },
                // It stays open.
                Err(error) if error.outcome() == Outcome::Unknown => {
                    pass(pause).await;
                    continue;
                }
                Err(_) => None,
            }
        };
        if let Some(did) = did {
            last[place] = did.written().or_else(|| did.seen()).unwrap_or(0);
        }
        recorder.answer(id, did);
        if !pause.is_zero() {
            pass(pause).await;
        }
    }
}

fn value(bytes: &[u8]) -> u64 {
    String::from_utf8_lossy(bytes).parse().expect("a number")
}

/// What a watch told: revisions with the keys and values that they wrote.
pub type Told = Vec<(Revision, Vec<(String, u64)>)>;

/// Watches the registers from a revision on until `last` is told (`u64::MAX` as long as that is not known); panics if the
/// watch ends, goes back, or tells something twice.
pub async fn follow(store: Store, from: Revision, last: &AtomicU64) -> Told {
    let mut stream = store.watch(Watch::new(Span::Prefix(PREFIX.to_owned())).from(from));
    let mut told: Told = Vec::new();
    loop {
        let newest = told.last().map_or(from - 1, |(revision, _)| *revision);
        if newest >= last.load(Ordering::Relaxed) {
            return told;
        }
        let Some(event) = within(Duration::from_millis(200), stream.next()).await else {
            continue;
        };
        match event
            .expect("a watch does not end")
            .expect("a watch has no error")
        {
            WatchEvent::Changes { revision, changes } => {
                assert!(revision > newest, "{revision} after {newest}");
                let written = changes.iter().map(|change| match change {
                    Change::Put { now, .. } => (now.key.clone(), value(&now.value)),
                    Change::Delete { key, .. } => panic!("nobody deletes `{key}`"),
                });
                told.push((revision, written.collect()));
            }
            WatchEvent::Progress { .. } | WatchEvent::Lagging { .. } => {}
            event @ WatchEvent::Compacted { .. } => panic!("{event:?}"),
        }
    }
}

/// Panics if what a watch told from the very first revision on is not what happened: every write of every register
/// (their versions count them), and no other.
pub async fn check_told(store: &Store, told: &Told) {
    let found = super::read(store, Range::prefix(PREFIX)).await;
    for entry in &found.entries {
        let changes = told.iter().flat_map(|(_, changes)| changes);
        let of_key: Vec<u64> = changes
            .filter(|(key, _)| *key == entry.key)
            .map(|(_, value)| *value)
            .collect();
        assert_eq!(
            of_key.len() as u64,
            entry.version,
            "`{}` was told as often as it was written",
            entry.key
        );
        assert_eq!(
            of_key.last(),
            Some(&value(&entry.value)),
            "`{}` in the end",
            entry.key
        );
    }
}

/// The newest revision that wrote a register.
pub async fn newest(store: &Store) -> Revision {
    let found = super::read(store, Range::prefix(PREFIX)).await;
    found
        .entries
        .iter()
        .map(|entry| entry.modified)
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(did: Did, called: u64, returned: u64) -> Operation {
        Operation {
            register: 0,
            did,
            called,
            returned: Some(returned),
        }
    }

    fn open(did: Did, called: u64) -> Operation {
        Operation {
            register: 0,
            did,
            called,
            returned: None,
        }
    }

    #[test]
    fn what_can_be_explained_is_accepted() {
        assert!(linearizable(&[]));
        // Two at once, seen in either order.
        assert!(linearizable(&[
            done(Did::Write(1), 1, 5),
            done(Did::Write(2), 2, 6),
            done(Did::Read(2), 7, 8),
        ]));
        assert!(linearizable(&[
            done(Did::Write(1), 1, 5),
            done(Did::Write(2), 2, 6),
            done(Did::Read(1), 7, 8),
            done(Did::Swap(1, 3), 9, 10),
            done(Did::Read(3), 11, 12),
        ]));
        // Nobody knows, and nobody has seen it; or somebody has.
        let before = [done(Did::Write(1), 1, 2), open(Did::Write(2), 3)];
        assert!(linearizable(
            &[before.as_slice(), &[done(Did::Read(1), 4, 5)]].concat()
        ));
        assert!(linearizable(
            &[
                before.as_slice(),
                &[done(Did::Read(1), 4, 5), done(Did::Read(2), 6, 7)]
            ]
            .concat()
        ));
        // One that is open rests on another that is.
        assert!(linearizable(&[
            open(Did::Write(1), 1),
            open(Did::Swap(1, 2), 2),
            done(Did::Read(2), 3, 4),
        ]));
    }

    #[test]
    fn planted_faults_are_found() {
        // A lost write.
        assert!(!linearizable(&[
            done(Did::Write(1), 1, 2),
            done(Did::Read(0), 3, 4)
        ]));
        // A stale reading.
        assert!(!linearizable(&[
            done(Did::Write(1), 1, 2),
            done(Did::Write(2), 3, 4),
            done(Did::Read(1), 5, 6),
        ]));
        // Two swaps of the same value.
        assert!(!linearizable(&[
            done(Did::Write(1), 1, 2),
            done(Did::Swap(1, 2), 3, 6),
            done(Did::Swap(1, 3), 4, 5),
        ]));
        // Seen, and gone again: one that is open happens once.
        assert!(!linearizable(&[
            done(Did::Write(1), 1, 2),
            open(Did::Write(2), 3),
            done(Did::Read(2), 4, 5),
            done(Did::Read(1), 6, 7),
        ]));
        // A value that nobody wrote, and one that was seen before it was written.
        assert!(!linearizable(&[done(Did::Read(9), 1, 2)]));
        assert!(!linearizable(&[
            done(Did::Read(1), 1, 2),
            done(Did::Write(1), 3, 4)
        ]));
        // A refused write that happened all the same is a value that nobody wrote.
        assert!(!linearizable(&[
            open(Did::Swap(5, 1), 1),
            done(Did::Read(1), 2, 3)
        ]));
    }

    #[test]
    fn a_recorder_hears_what_another_says() {
        let recorder = Recorder::default();
        assert!(!recorder.hear("test something ... ok"));
        assert!(recorder.hear("linear call 1 0 write 7 0"));
        assert!(recorder.hear("linear answer 1 0 write 7 0"));
        assert!(recorder.hear("linear call 2 0 read 0 0"));
        assert!(recorder.hear("linear answer 2 0 read 7 0"));
        assert!(recorder.hear("linear call 3 0 write 8 0"));
        assert_eq!((recorder.answered(), recorder.unknown()), (2, 1));
        recorder.check();
    }
}
