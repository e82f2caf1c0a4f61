//! A small world: copies become ready after a while, end after a while, and fail when told to.

use super::*;

struct Copy {
    generation: u32,
    side: Side,
    started_ms: u64,
    ending_ms: Option<u64>,
    failed: Option<String>,
}

struct World {
    now_ms: u64,
    copies: BTreeMap<u32, Vec<Copy>>,
    rollout: Rollout,
    wanted: Side,
    next_generation: u32,
    /// How long a copy of each side takes to become ready; `None`: for ever.
    ready_after: BTreeMap<&'static str, Option<u64>>,
    /// New copies fail so long after their start.
    new_fails_after: Option<u64>,
    log: Vec<String>,
    verdict: Option<Verdict>,
    least_ready: usize,
    most_copies: usize,
}

const PLAN: Plan = Plan {
    surge: 1,
    max_unavailable: 1,
    settle_ms: 100,
    pause_ms: 0,
    timeout_ms: 1000,
    watch_ms: 300,
    trial_ms: 0,
};

impl World {
    fn new(plan: Plan, count: u32, same: bool) -> Self {
        let copies = (0..count)
            .map(|index| {
                let old = Copy {
                    generation: 0,
                    side: Side::Old,
                    started_ms: 0,
                    ending_ms: None,
                    failed: None,
                };
                (index, vec![old])
            })
            .collect();
        Self {
            now_ms: 10_000,
            copies,
            rollout: Rollout::new(plan, (0..count).collect(), same),
            wanted: Side::New,
            next_generation: 1,
            ready_after: [("old", Some(50)), ("new", Some(50))].into(),
            new_fails_after: None,
            log: Vec::new(),
            verdict: None,
            least_ready: usize::MAX,
            most_copies: 0,
        }
    }

    fn facts(&self) -> Facts {
        let fact = |copy: &Copy| {
            let side = if copy.side == Side::Old { "old" } else { "new" };
            let ready_ms = self.ready_after[side].map(|after| copy.started_ms + after);
            let state = match (&copy.failed, copy.ending_ms, ready_ms) {
                (_, Some(_), _) => State::Ending,
                (Some(why), ..) => State::Failed { why: why.clone() },
                (.., Some(ready)) if self.now_ms >= ready => State::Ready { since_ms: ready },
                _ => State::Coming,
            };
            Fact {
                generation: copy.generation,
                side: copy.side,
                state,
            }
        };
        self.copies
            .iter()
            .map(|(index, copies)| (*index, copies.iter().map(fact).collect()))
            .collect()
    }

    fn run(&mut self) -> &Verdict {
        for _ in 0..20_000 {
            for copies in self.copies.values_mut() {
                copies.retain(|copy| copy.ending_ms.is_none_or(|at| self.now_ms < at));
                for copy in copies.iter_mut().filter(|copy| copy.side == Side::New) {
                    if let Some(after) = self.new_fails_after
                        && self.now_ms >= copy.started_ms + after
                    {
                        copy.failed = Some("exited with code 1".to_owned());
                    }
                }
            }
            // Through its JSON, as a new daemon has it.
            let text = serde_json::to_string(&self.rollout).expect("JSON");
            self.rollout = serde_json::from_str(&text).expect("the same");
            let step = self.rollout.step(self.now_ms, &self.facts());
            for act in step.acts {
                self.obey(act);
            }
            if self.verdict.is_some() {
                break;
            }
            let facts = self.facts();
            let ready =
                |facts: &Vec<Fact>| facts.iter().any(|fact| matches!(fact.state, State::Ready { .. }));
            let indices = facts.iter().filter(|(index, _)| **index != TRIAL);
            self.least_ready = self
                .least_ready
                .min(indices.filter(|(_, facts)| ready(facts)).count());
            self.most_copies = self.most_copies.max(facts.values().map(Vec::len).sum());
            self.now_ms += 10;
        }
        self.verdict
            .as_ref()
            .unwrap_or_else(|| panic!("it does not end: {:#?}", self.log))
    }

    fn obey(&mut self, act: Act) {
        self.log.push(format!("{} {act:?}", self.now_ms - 10_000));
        match act {
            Act::Start { index } => {
                self.copies.entry(index).or_default().push(Copy {
                    generation: self.next_generation,
                    side: self.wanted,
                    started_ms: self.now_ms,
                    ending_ms: None,
                    failed: None,
                });
                self.next_generation += 1;
            }
            Act::End { index, generation } => {
                let copies = self.copies.get_mut(&index).expect("an index");
                let copy = copies.iter_mut().find(|copy| copy.generation == generation);
                let copy = copy.expect("a copy that is there");
                assert!(copy.ending_ms.is_none(), "told to end twice");
                copy.ending_ms = Some(self.now_ms + 200);
            }
            Act::TurnBack { .. } => self.wanted = Side::Old,
            Act::Replaced => {}
            Act::Finished(verdict) => self.verdict = Some(verdict),
        }
    }

    fn sides(&self) -> Vec<Vec<Side>> {
        let sides = |copies: &Vec<Copy>| {
            let alive = copies.iter().filter(|copy| copy.ending_ms.is_none());
            alive.map(|copy| copy.side).collect()
        };
        self.copies.values().map(sides).collect()
    }
}

#[test]
fn one_after_the_other_beside_the_old_ones() {
    let mut world = World::new(PLAN, 3, false);
    assert_eq!(*world.run(), Verdict::Replaced);
    assert_eq!(world.least_ready, 3, "no index was ever without a ready copy");
    let most = world.most_copies;
    assert!(
        most <= 6,
        "one coming, and those that take longer to end than the next to come: {most}"
    );
    assert_eq!(world.sides(), vec![vec![Side::New]; 3]);
}

#[test]
fn without_surge_one_is_away_at_a_time() {
    let mut world = World::new(Plan { surge: 0, ..PLAN }, 3, false);
    assert_eq!(*world.run(), Verdict::Replaced);
    assert_eq!(world.least_ready, 2);
    assert_eq!(world.most_copies, 3, "never two copies of one index");
    assert_eq!(world.sides(), vec![vec![Side::New]; 3]);
}

#[test]
fn two_may_be_away() {
    let plan = Plan {
        surge: 0,
        max_unavailable: 2,
        ..PLAN
    };
    let mut world = World::new(plan, 4, false);
    assert_eq!(*world.run(), Verdict::Replaced);
    assert_eq!(world.least_ready, 2);
}

#[test]
fn one_that_never_gets_ready_leads_back() {
    let mut world = World::new(PLAN, 2, false);
    world.ready_after.insert("new", None);
    let Verdict::Returned { why } = world.run().clone() else {
        panic!("{:?}", world.verdict)
    };
    assert!(why.contains("not ready within 1000 ms"), "{why}");
    assert_eq!(world.least_ready, 2);
    assert_eq!(world.sides(), vec![vec![Side::Old]; 2]);
}

#[test]
fn a_crash_while_it_settles_leads_back() {
    let mut world = World::new(PLAN, 2, false);
    world.new_fails_after = Some(80);
    assert!(matches!(world.run(), Verdict::Returned { .. }));
    assert_eq!(world.sides(), vec![vec![Side::Old]; 2]);
    assert_eq!(world.copies[&0][0].generation, 0, "the very same old one");
}

#[test]
fn a_crash_after_some_were_replaced_starts_old_ones_again() {
    // Each takes 150 ms: the first fails when the second has just been replaced.
    let mut world = World::new(PLAN, 4, false);
    world.new_fails_after = Some(320);
    assert!(
        matches!(world.run(), Verdict::Returned { .. }),
        "{:?}",
        world.verdict
    );
    assert_eq!(world.sides(), vec![vec![Side::Old]; 4]);
    assert!(world.copies[&0][0].generation > 0, "started anew");
    assert_eq!(world.copies[&3][0].generation, 0, "never touched");
}

#[test]
fn a_crash_while_it_is_watched_leads_back() {
    let mut world = World::new(PLAN, 1, false);
    world.new_fails_after = Some(500);
    assert!(matches!(world.run(), Verdict::Returned { .. }));
    assert!(
        world.log.iter().any(|line| line.contains("Replaced")),
        "{:#?}",
        world.log
    );
    assert_eq!(world.sides(), vec![vec![Side::Old]]);
}

#[test]
fn without_surge_the_way_back_starts_the_old_ones() {
    let mut world = World::new(Plan { surge: 0, ..PLAN }, 3, false);
    world.new_fails_after = Some(60);
    assert!(matches!(world.run(), Verdict::Returned { .. }));
    assert_eq!(world.sides(), vec![vec![Side::Old]; 3]);
    assert_eq!(world.least_ready, 2, "{:#?}", world.log);
}

#[test]
fn a_reload_that_fails_keeps_what_is_well() {
    let mut world = World::new(PLAN, 2, true);
    world.ready_after.insert("new", None);
    assert!(matches!(world.run(), Verdict::Returned { .. }));
    assert_eq!(world.sides(), vec![vec![Side::Old]; 2]);
}

#[test]
fn a_trial_that_fails_touches_nothing() {
    let mut world = World::new(
        Plan {
            trial_ms: 400,
            ..PLAN
        },
        2,
        false,
    );
    world.new_fails_after = Some(300);
    let Verdict::Refused { why } = world.run().clone() else {
        panic!("{:?}", world.verdict)
    };
    assert!(why.contains("trial"), "{why}");
    assert_eq!(world.log.len(), 3, "start, end, finished: {:#?}", world.log);
    assert_eq!(world.copies[&0][0].generation, 0);
}

#[test]
fn a_trial_that_holds_is_followed_by_the_replacement() {
    let mut world = World::new(
        Plan {
            trial_ms: 400,
            ..PLAN
        },
        2,
        false,
    );
    assert_eq!(*world.run(), Verdict::Replaced);
    assert_eq!(world.least_ready, 2);
    assert_eq!(world.copies[&TRIAL].len(), 0);
}

#[test]
fn a_pause_lies_between_two() {
    let mut world = World::new(
        Plan {
            pause_ms: 2000,
            ..PLAN
        },
        2,
        false,
    );
    world.run();
    let starts: Vec<u64> = world
        .log
        .iter()
        .filter(|line| line.contains("Start"))
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect();
    assert!(starts[1] - starts[0] >= 2000, "{starts:?}");
}

#[test]
fn if_the_way_back_fails_too_it_says_so() {
    let mut world = World::new(Plan { surge: 0, ..PLAN }, 1, false);
    world.ready_after = [("old", None), ("new", None)].into();
    assert!(matches!(world.run(), Verdict::Broken { .. }));
}
