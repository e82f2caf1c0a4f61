//! A seeded simulation: one instance in a hostile world, invariants after every step.
//!
//! The world has virtual time, a keeper with processes, a stream in each direction between keeper and daemon, and
//! people who change their minds. Processes end when they like, ignore signals, leave others behind; starts fail;
//! messages are late and exits are told twice; cancelled timers fire all the same; the daemon is killed at any
//! instant (what it had written to the stream arrives up to some point) and restored from the note it gave the
//! keeper; rarely the keeper is killed, and its child may survive as a stray. After a while the world calms down,
//! and everything must come to rest where it is wanted.
//!
//! `SIM_SEEDS=n` runs that many seeds (256 unless given), `SIM_SEED=x` replays one and prints its trace.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::catch_unwind,
};

use upkeep_model::{
    exit::Exit,
    restart::{Backoff, GiveUp, RestartOn, RestartPolicy, StartsWithin, Unstable},
    size::Span,
    state::{Actual, Desired},
    stop::StopPolicy,
};
use upkeep_supervise::{
    effect::Effect,
    event::{Event, Order, Timer},
    instance::{Alive, Ended, Instance, Policy, Recovered},
};

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
    /// One time in `n`.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("small")]
    }
}

fn random_policy(dice: &mut Dice) -> Policy {
    let millis = Span::from_millis;
    let backoff = match dice.below(3) {
        0 => Backoff::None,
        1 => Backoff::Fixed {
            delay: millis(dice.below(2000)),
        },
        _ => Backoff::Exponential {
            min: millis(dice.below(300)),
            max: millis(1000),
            factor_milli: dice.pick(&[1000, 1500, 2000]),
            reset_after: millis(3000),
        },
    };
    let starts_within = (!dice.one_in(3)).then(|| StartsWithin {
        starts: dice.pick(&[1, 3, 15]),
        within: millis(10_000),
    });
    let unstable = dice.one_in(3).then(|| Unstable {
        min_uptime: millis(1000),
        max_restarts: dice.pick(&[1, 4, 16]),
    });
    Policy {
        restart: RestartPolicy {
            on: dice.pick(&[
                RestartOn::Always,
                RestartOn::Always,
                RestartOn::Failure,
                RestartOn::Never,
            ]),
            success_codes: vec![0],
            stop_codes: if dice.one_in(4) { vec![3] } else { Vec::new() },
            backoff,
            give_up: GiveUp {
                starts_within,
                unstable,
            },
            min_uptime: millis(dice.pick(&[0, 500, 1000])),
        },
        stop: StopPolicy {
            signal: 15,
            grace: millis(dice.pick(&[0, 100, 3000])),
            tree: dice.one_in(2),
        },
        has_dependencies: dice.one_in(3),
        has_readiness: dice.one_in(3),
    }
}

/// From daemon to keeper, in the order of a stream.
#[derive(Clone, Debug)]
enum ToKeeper {
    Note(String),
    Spawn,
    Signal(i32),
    Sweep,
    Ack(u32),
}

#[derive(Clone, Debug)]
enum Happening {
    ToKeeper(ToKeeper),
    ToDaemon(Event),
    Timer(Timer, u64),
    ProcessEnds(u32, Exit),
    Order(Order),
    Dependencies(bool),
    Probe(bool),
    Unhealthy,
    MoreTime,
    DaemonKilled,
    KeeperKilled,
}

#[derive(Clone, Copy, Debug)]
struct Process {
    pid: u32,
    started_ms: u64,
    stray: bool,
    deaf: bool,
    /// How many SIGKILLs it outlives.
    tough: u32,
}

struct World {
    dice: Dice,
    trace: bool,
    policy: Policy,
    now_ms: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    calm: bool,
    // the daemon
    instance: Instance,
    armed: BTreeMap<Timer, u64>,
    unanswered: u32,
    spawns: VecDeque<u64>,
    // the keeper
    process: Option<Process>,
    next_pid: u32,
    note: Option<String>,
    records: Vec<Ended>,
    to_keeper_ms: u64,
    to_daemon_ms: u64,
}

impl World {
    fn new(seed: u64, trace: bool) -> Self {
        let mut dice = Dice(seed);
        let policy = random_policy(&mut dice);
        let mut world = Self {
            dice,
            trace,
            policy,
            now_ms: 1000,
            sequence: 0,
            queue: BTreeMap::new(),
            calm: false,
            instance: Instance::new(1000),
            armed: BTreeMap::new(),
            unanswered: 0,
            spawns: VecDeque::new(),
            process: None,
            next_pid: 100,
            note: None,
            records: Vec::new(),
            to_keeper_ms: 0,
            to_daemon_ms: 0,
        };
        world.say(|world| format!("policy {:?}", world.policy));
        world
    }

    fn say(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace {
            print(self.now_ms, &text(self));
        }
    }

    fn after(&mut self, delay_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((self.now_ms + delay_ms, self.sequence), happening);
    }

    fn latency(&mut self) -> u64 {
        if self.dice.one_in(20) {
            self.dice.below(2000)
        } else {
            self.dice.below(3)
        }
    }

    fn send_keeper(&mut self, message: ToKeeper) {
        let at = (self.now_ms + self.latency()).max(self.to_keeper_ms);
        self.to_keeper_ms = at;
        self.after(at - self.now_ms, Happening::ToKeeper(message));
    }

    fn send_daemon(&mut self, event: Event) {
        let at = (self.now_ms + self.latency()).max(self.to_daemon_ms);
        self.to_daemon_ms = at;
        self.after(at - self.now_ms, Happening::ToDaemon(event));
    }

    // ---- the daemon

    fn step(&mut self, event: Event) {
        self.say(|_| format!("event {event:?}"));
        let before = self.instance.actual();
        let effects = self.instance.step(&self.policy, self.now_ms, event);
        self.carry_out(before, effects);
    }

    fn carry_out(&mut self, before: Actual, effects: Vec<Effect>) {
        let snapshot = serde_json::to_string(&self.instance).expect("it serialises");
        assert_eq!(
            serde_json::from_str::<Instance>(&snapshot).expect("it reads back"),
            self.instance
        );
        self.send_keeper(ToKeeper::Note(snapshot));
        let mut was = before;
        for effect in effects {
            self.say(|_| format!("    {effect:?}"));
            match effect {
                Effect::Spawn => {
                    self.unanswered += 1;
                    self.count_spawn();
                    self.send_keeper(ToKeeper::Spawn);
                }
                Effect::Signal { signal, .. } => self.send_keeper(ToKeeper::Signal(signal)),
                Effect::Sweep => self.send_keeper(ToKeeper::Sweep),
                Effect::StartTimer { timer, epoch, at_ms } => {
                    self.armed.insert(timer, epoch);
                    let late = if self.dice.one_in(10) {
                        self.dice.below(500)
                    } else {
                        0
                    };
                    self.after(
                        at_ms.saturating_sub(self.now_ms) + late,
                        Happening::Timer(timer, epoch),
                    );
                }
                // The timer still fires: the message was on its way.
                Effect::CancelTimer { timer } => {
                    assert!(self.armed.remove(&timer).is_some(), "{timer:?} did not run");
                }
                Effect::Changed {
                    from,
                    to,
                    desired,
                    why,
                } => {
                    assert_eq!(from, was, "changes follow each other");
                    assert_ne!(from, to);
                    assert_eq!(desired, self.instance.desired());
                    assert!(!why.is_empty());
                    was = to;
                }
                Effect::ReadyChanged { why, .. } => assert!(!why.is_empty()),
            }
        }
        assert_eq!(was, self.instance.actual(), "every change is told");
        self.check();
    }

    /// Restarts are bounded by the give-up rule between two acts of people.
    fn count_spawn(&mut self) {
        self.spawns.push_back(self.now_ms);
        if let Some(rule) = self.policy.restart.give_up.starts_within {
            let from = self.now_ms.saturating_sub(rule.within.as_millis());
            let recent = self.spawns.iter().filter(|at| **at >= from).count();
            assert!(
                recent <= rule.starts as usize + 1,
                "{recent} starts, and the rule allows {}",
                rule.starts
            );
        }
    }

    fn check(&self) {
        use Actual::{
            BackingOff, Completed, Failed, GaveUp, Killing, Running, Starting, Stopped, Stopping, Waiting,
        };
        let view = self.instance.view();
        let has = |timer| self.armed.contains_key(&timer);
        assert!(!view.why.is_empty());
        assert_eq!(
            view.pid.is_some(),
            matches!(view.actual, Running | Stopping | Killing),
            "{view:?}"
        );
        assert!(!view.ready || view.actual == Running, "{view:?}");
        assert_eq!(has(Timer::Backoff), view.actual == BackingOff);
        assert_eq!(has(Timer::Grace), view.actual == Stopping);
        assert_eq!(has(Timer::KillRetry), view.actual == Killing);
        assert!(!has(Timer::Stable) || view.actual == Running);
        assert_eq!(view.next_start_ms.is_some(), view.actual == BackingOff);
        match view.actual {
            Stopped => assert_eq!(view.desired, Desired::Down),
            Waiting | Running | BackingOff | Completed | Failed | GaveUp => {
                assert_eq!(view.desired, Desired::Up);
            }
            Starting => assert!(self.unanswered > 0, "nobody will answer"),
            Stopping | Killing => {}
        }
    }

    fn daemon_killed(&mut self) {
        // Of what it had written some prefix arrives; the rest dies with it, and so does what was said to it.
        let written: Vec<_> = self
            .queue
            .iter()
            .filter_map(|(at, happening)| match happening {
                Happening::ToKeeper(message) => Some((*at, message.clone())),
                _ => None,
            })
            .collect();
        let arrives = self.dice.below(written.len() as u64 + 1);
        self.queue.retain(|_, happening| {
            !matches!(
                happening,
                Happening::ToKeeper(_) | Happening::ToDaemon(_) | Happening::Timer(..)
            )
        });
        for (_, message) in written.into_iter().take(usize::try_from(arrives).expect("small")) {
            self.keeper_receives(message);
        }
        self.queue
            .retain(|_, happening| !matches!(happening, Happening::ToDaemon(_)));
        let note = self.note.clone();
        self.restore(note.as_deref());
    }

    fn restore(&mut self, note: Option<&str>) {
        self.armed.clear();
        self.unanswered = 0;
        self.spawns.clear();
        self.to_keeper_ms = 0;
        self.to_daemon_ms = 0;
        self.instance = match note {
            Some(note) => serde_json::from_str(note).expect("a note reads back"),
            None => Instance::new(self.now_ms),
        };
        let alive = self.process.map(|process| Alive {
            pid: process.pid,
            uptime_ms: self.now_ms - process.started_ms,
            stray: process.stray,
        });
        let known = Recovered {
            alive,
            exits: self.records.clone(),
        };
        self.say(|world| format!("recover {:?} with {known:?}", world.instance.view()));
        let before = self.instance.actual();
        let effects = self.instance.recover(&self.policy, self.now_ms, known);
        self.carry_out(before, effects);
        for ended in self.records.clone() {
            self.send_keeper(ToKeeper::Ack(ended.pid));
        }
    }

    // ---- the keeper

    fn keeper_receives(&mut self, message: ToKeeper) {
        self.say(|_| match &message {
            ToKeeper::Note(_) => "  keeper: note".to_owned(),
            other => format!("  keeper: {other:?}"),
        });
        match message {
            ToKeeper::Note(note) => self.note = Some(note),
            ToKeeper::Ack(pid) => self.records.retain(|ended| ended.pid != pid),
            ToKeeper::Sweep => {}
            ToKeeper::Spawn => self.keeper_spawns(),
            ToKeeper::Signal(signal) => {
                let delay = self.dice.below(200);
                let Some(process) = &mut self.process else { return };
                let dies = if signal == 9 {
                    process.tough == 0
                } else {
                    !process.deaf
                };
                process.tough = if self.calm {
                    0
                } else {
                    process.tough.saturating_sub(u32::from(signal == 9))
                };
                let pid = process.pid;
                if dies {
                    let number = u8::try_from(signal).expect("a small number");
                    self.after(
                        delay,
                        Happening::ProcessEnds(pid, Exit::Signal { number, core: false }),
                    );
                }
            }
        }
    }

    fn keeper_spawns(&mut self) {
        assert!(
            self.process.is_none(),
            "a second process of one instance was asked for"
        );
        if !self.calm && self.dice.one_in(8) {
            return self.send_daemon(Event::SpawnFailed {
                why: "no such file".to_owned(),
            });
        }
        self.next_pid += 1;
        let pid = self.next_pid;
        self.process = Some(Process {
            pid,
            started_ms: self.now_ms,
            stray: false,
            deaf: self.dice.one_in(4),
            tough: if self.dice.one_in(5) { 3 } else { 0 },
        });
        self.say(|_| format!("  keeper: process {pid}"));
        self.send_daemon(Event::Spawned { pid });
        if !self.calm && !self.dice.one_in(3) {
            let life = self.dice.pick(&[0, 5, 400, 1200, 5000, 40_000]);
            let exit = self.dice.pick(&[
                Exit::Code(0),
                Exit::Code(1),
                Exit::Code(3),
                Exit::Signal {
                    number: 11,
                    core: true,
                },
            ]);
            self.after(life, Happening::ProcessEnds(pid, exit));
        }
    }

    fn process_ends(&mut self, pid: u32, exit: Exit) {
        let Some(process) = self.process.take_if(|process| process.pid == pid) else {
            return;
        };
        let exit = if process.stray { Exit::Unknown } else { exit };
        let ended = Ended {
            pid,
            exit,
            uptime_ms: self.now_ms - process.started_ms,
            leftovers: self.dice.one_in(10),
        };
        self.say(|_| format!("  keeper: {pid} ended, {exit}"));
        self.records.push(ended);
        let event = Event::Exited {
            pid,
            exit,
            uptime_ms: ended.uptime_ms,
            leftovers: ended.leftovers,
        };
        if self.dice.one_in(10) {
            self.after(0, Happening::ToDaemon(event.clone())); // it overtakes what was said before
        } else {
            self.send_daemon(event.clone());
        }
        if self.dice.one_in(4) {
            self.send_daemon(event);
        }
    }

    /// Its notes and records are gone; its child may survive. The daemon goes with it, and comes back from disk.
    fn keeper_killed(&mut self) {
        self.queue.retain(|_, happening| {
            !matches!(
                happening,
                Happening::ToKeeper(_) | Happening::ToDaemon(_) | Happening::Timer(..)
            )
        });
        self.records.clear();
        let survives = !self.dice.one_in(2);
        self.process = self.process.filter(|_| survives).map(|process| Process {
            stray: true,
            ..process
        });
        let disk = serde_json::to_string(&self.instance).expect("it serialises");
        self.restore(Some(&disk));
    }

    // ---- time

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToKeeper(message) => self.keeper_receives(message),
            Happening::ToDaemon(event) => {
                let ended = match event {
                    Event::Exited { pid, .. } => Some(pid),
                    Event::Spawned { .. } | Event::SpawnFailed { .. } => {
                        self.unanswered -= 1;
                        None
                    }
                    _ => None,
                };
                self.step(event);
                if let Some(pid) = ended {
                    self.send_keeper(ToKeeper::Ack(pid));
                }
            }
            Happening::Timer(timer, epoch) => {
                if self.armed.get(&timer) == Some(&epoch) {
                    self.armed.remove(&timer);
                }
                self.step(Event::TimerFired { timer, epoch });
            }
            Happening::ProcessEnds(pid, exit) => self.process_ends(pid, exit),
            Happening::Order(order) => {
                self.spawns.clear();
                self.step(Event::Ordered(order));
            }
            Happening::Dependencies(true) => self.step(Event::DependenciesMet),
            Happening::Dependencies(false) => self.step(Event::DependencyFailed {
                why: "`db` has failed".to_owned(),
            }),
            Happening::Probe(true) => self.step(Event::BecameReady),
            Happening::Probe(false) => self.step(Event::BecameUnready {
                why: "it answered 503".to_owned(),
            }),
            Happening::Unhealthy => {
                let signal = self.dice.one_in(2).then_some(6);
                let grace = self
                    .dice
                    .one_in(2)
                    .then(|| Span::from_millis(self.dice.below(500)));
                let why = "it answered 503".to_owned();
                self.step(Event::Unhealthy { why, signal, grace });
            }
            Happening::MoreTime => {
                let until_ms = self.now_ms + self.dice.below(5000);
                self.step(Event::MoreTime { until_ms });
            }
            Happening::DaemonKilled => self.daemon_killed(),
            Happening::KeeperKilled => self.keeper_killed(),
        }
    }

    fn chaos(&mut self) {
        let what = match self.dice.below(44) {
            0..6 => Happening::Order(Order::Start),
            6..11 => Happening::Order(Order::Stop),
            11..17 => Happening::Order(Order::Restart),
            17..23 => Happening::Dependencies(true),
            23..25 => Happening::Dependencies(false),
            25..29 => Happening::Probe(true),
            29..31 => Happening::Probe(false),
            31..33 => Happening::Unhealthy,
            33..35 => Happening::MoreTime,
            35..43 => Happening::DaemonKilled,
            _ => Happening::KeeperKilled,
        };
        let delay = self.dice.pick(&[0, 1, 2, 50, 700, 4000]);
        self.after(delay, what);
    }

    fn run_one(&mut self) -> bool {
        let Some(((at, _), happening)) = self.queue.pop_first() else {
            return false;
        };
        self.now_ms = self.now_ms.max(at);
        self.happen(happening);
        true
    }

    fn run(&mut self) {
        for _ in 0..150 {
            self.chaos();
            let steps = self.dice.below(6);
            for _ in 0..steps {
                self.run_one();
            }
        }
        self.say(|_| "---- the world calms down".to_owned());
        self.calm = true;
        self.queue.retain(|_, happening| {
            !matches!(
                happening,
                Happening::DaemonKilled | Happening::KeeperKilled | Happening::Order(_)
            )
        });
        for _ in 0..10_000 {
            if !self.run_one() {
                if self.instance.actual() != Actual::Waiting {
                    return self.rest();
                }
                self.step(Event::DependenciesMet);
            }
        }
        panic!("it does not come to rest: {:?}", self.instance.view());
    }

    /// Nothing is under way any more: is everything where it is wanted?
    fn rest(&self) {
        let view = self.instance.view();
        assert!(self.instance.is_settled(), "nothing will move it: {view:?}");
        assert_eq!(view.pid, self.process.map(|process| process.pid), "{view:?}");
        assert!(self.records.is_empty(), "every exit was acknowledged");
        assert!(
            self.process.is_none_or(|process| !process.stray),
            "strays are replaced"
        );
        match view.desired {
            Desired::Down => assert_eq!(view.actual, Actual::Stopped),
            Desired::Up => assert_ne!(view.actual, Actual::Stopped),
        }
        if view.actual == Actual::Running && !self.policy.has_readiness {
            assert!(view.ready, "up long enough: {view:?}");
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the trace is what a failing seed is replayed for"
)]
fn print(now_ms: u64, text: &str) {
    println!("{now_ms:>8} {text}");
}

#[test]
fn the_invariants_hold_under_every_seed() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    if let Some(seed) = number("SIM_SEED") {
        return World::new(seed, true).run();
    }
    for seed in 0..number("SIM_SEEDS").unwrap_or(256) {
        if catch_unwind(|| World::new(seed, false).run()).is_err() {
            print(
                0,
                &format!("seed {seed} fails (SIM_SEED={seed} replays it); its trace:"),
            );
            World::new(seed, true).run();
        }
    }
}
