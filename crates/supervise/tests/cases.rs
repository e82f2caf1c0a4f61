//! Scenarios as files: `tests/cases/*.txt` hold what happens (lines at the margin) and, indented below each, all
//! that the machine answers. `UPDATE_CASES=1` writes the answers anew; the diff is then the review.
//!
//! The language:
//!
//! ```text
//! # a comment
//! policy KEY=VALUE …          on=always|failure|never  backoff=none|SPAN|MIN..MAX*FACTOR/RESET
//!                             starts=N/SPAN|none  unstable=N/SPAN  stop_codes=N,…  success_codes=N,…
//!                             min_uptime=SPAN  signal=NAME  grace=SPAN  tree  deps  readiness
//! [at SPAN] EVENT             the clock goes to SPAN first
//! start | stop | restart
//! deps met | deps failed WHY
//! spawned PID | spawn failed WHY
//! exited PID code N|SIGNAME|unknown [up SPAN] [leftovers]     (uptime: since its `spawned`, unless given)
//! timer NAME [epoch N]        without epoch: the clock goes to when it is due, if that is later, and it fires
//! ready | unready WHY
//! unhealthy [signal NAME] [grace SPAN] WHY
//! more time SPAN              it asks for a grace that is not over before then, from now
//! run N                       the next order is that of run N of a schedule
//! found PID [up SPAN] [stray] | not found
//! daemon restarts             the instance goes through its JSON; its timers are started again
//! recover [alive PID [up SPAN] [stray]] [exited PID code N …]…
//! ```

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use upkeep_model::{
    exit::{Exit, signal_name, signal_number},
    restart::{Backoff, GiveUp, RestartOn, RestartPolicy, StartsWithin, Unstable},
    size::Span,
    stop::StopPolicy,
};
use upkeep_supervise::{
    effect::Effect,
    event::{Event, Order, Timer},
    instance::{Alive, Ended, Instance, Policy, Recovered, View},
};

struct Stage {
    policy: Policy,
    now_ms: u64,
    instance: Instance,
    armed: BTreeMap<Timer, (u64, u64)>,
    spawned_ms: BTreeMap<u32, u64>,
}

fn millis(text: &str) -> u64 {
    text.parse::<Span>()
        .unwrap_or_else(|error| panic!("{error}"))
        .as_millis()
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

fn default_policy() -> Policy {
    Policy {
        restart: RestartPolicy::default(),
        stop: StopPolicy::default(),
        has_dependencies: false,
        has_readiness: false,
    }
}

fn set_policy(policy: &mut Policy, word: &str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let codes = || {
        value
            .split(',')
            .filter(|code| !code.is_empty())
            .map(number)
            .collect()
    };
    let pair = || {
        let (count, span) = value
            .split_once('/')
            .unwrap_or_else(|| panic!("`{word}`: N/SPAN"));
        (number(count), span.parse::<Span>().expect("a span"))
    };
    match key {
        "on" => policy.restart.on = serde_json::from_str(&format!("\"{value}\"")).expect("a word of `on`"),
        "backoff" => policy.restart.backoff = backoff(value),
        "starts" if value == "none" => policy.restart.give_up.starts_within = None,
        "starts" => {
            let (starts, within) = pair();
            policy.restart.give_up.starts_within = Some(StartsWithin { starts, within });
        }
        "unstable" => {
            let (max_restarts, min_uptime) = pair();
            policy.restart.give_up = GiveUp {
                starts_within: None,
                unstable: Some(Unstable {
                    min_uptime,
                    max_restarts,
                }),
            };
        }
        "stop_codes" => policy.restart.stop_codes = codes(),
        "success_codes" => policy.restart.success_codes = codes(),
        "min_uptime" => policy.restart.min_uptime = value.parse().expect("a span"),
        "signal" => policy.stop.signal = signal_number(value).expect("a signal"),
        "grace" => policy.stop.grace = value.parse().expect("a span"),
        "tree" => policy.stop.tree = true,
        "deps" => policy.has_dependencies = true,
        "readiness" => policy.has_readiness = true,
        _ => panic!("no policy `{word}`"),
    }
}

fn backoff(text: &str) -> Backoff {
    let span = |text: &str| text.parse::<Span>().expect("a span");
    if text == "none" {
        return Backoff::None;
    }
    let Some((min, rest)) = text.split_once("..") else {
        return Backoff::Fixed { delay: span(text) };
    };
    let (max, rest) = rest.split_once('*').expect("MIN..MAX*FACTOR/RESET");
    let (factor, reset) = rest.split_once('/').expect("MIN..MAX*FACTOR/RESET");
    Backoff::Exponential {
        min: span(min),
        max: span(max),
        factor_milli: number(factor),
        reset_after: span(reset),
    }
}

fn unhealthy(mut words: &[&str]) -> Event {
    let (mut signal, mut grace) = (None, None);
    while let ["signal" | "grace", value, rest @ ..] = words {
        if words[0] == "signal" {
            signal = Some(signal_number(value).expect("a signal"));
        } else {
            grace = Some(value.parse().expect("a span"));
        }
        words = rest;
    }
    Event::Unhealthy {
        why: words.join(" "),
        signal,
        grace,
    }
}

fn timer(name: &str) -> Timer {
    serde_json::from_str(&format!("\"{name}\"")).unwrap_or_else(|_| panic!("no timer `{name}`"))
}

impl Stage {
    fn exit<'a>(&self, words: &mut impl Iterator<Item = &'a str>) -> Ended {
        let pid = number(words.next().expect("a pid"));
        let exit = match words.next().expect("how it ended") {
            "code" => Exit::Code(number(words.next().expect("a code"))),
            "unknown" => Exit::Unknown,
            signal => {
                let number = u8::try_from(signal_number(signal).expect("a signal")).expect("a small number");
                Exit::Signal { number, core: false }
            }
        };
        let uptime_ms = self
            .spawned_ms
            .get(&pid)
            .map_or(0, |spawned| self.now_ms - spawned);
        let mut ended = Ended {
            pid,
            exit,
            uptime_ms,
            leftovers: false,
        };
        while let Some(word) = words.next() {
            match word {
                "up" => ended.uptime_ms = millis(words.next().expect("a span")),
                "leftovers" => ended.leftovers = true,
                "," => break,
                _ => panic!("`{word}` after an exit"),
            }
        }
        ended
    }

    fn alive<'a>(words: &mut impl Iterator<Item = &'a str>) -> Alive {
        let mut alive = Alive {
            pid: number(words.next().expect("a pid")),
            uptime_ms: 0,
            stray: false,
        };
        while let Some(word) = words.next() {
            match word {
                "up" => alive.uptime_ms = millis(words.next().expect("a span")),
                "stray" => alive.stray = true,
                "," => break,
                _ => panic!("`{word}` after a process"),
            }
        }
        alive
    }

    /// Carries out one line; what it printed.
    fn line(&mut self, line: &str) -> String {
        let mut rest = line;
        if let Some(timed) = line.strip_prefix("at ") {
            let (span, event) = timed.split_once(' ').expect("an event after the time");
            let at = millis(span);
            assert!(at >= self.now_ms, "time goes backwards");
            self.now_ms = at;
            rest = event;
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        let tail = |skip: usize| words[skip..].join(" ");
        let effects = match words.as_slice() {
            ["policy", words @ ..] => {
                self.policy = default_policy();
                for word in words {
                    set_policy(&mut self.policy, word);
                }
                return String::new();
            }
            ["daemon", "restarts"] => {
                self.restore();
                self.instance.rearm()
            }
            ["recover", words @ ..] => {
                self.restore();
                let mut known = Recovered::default();
                let mut words = words.iter().copied();
                while let Some(word) = words.next() {
                    match word {
                        "alive" => known.alive = Some(Self::alive(&mut words)),
                        "exited" => known.exits.push(self.exit(&mut words)),
                        _ => panic!("recover `{word}`"),
                    }
                }
                self.instance.recover(&self.policy, self.now_ms, known)
            }
            ["run", run] => {
                self.instance.mark_run(number(run));
                return String::new();
            }
            words => {
                let event = match words {
                    ["start"] => Event::Ordered(Order::Start),
                    ["stop"] => Event::Ordered(Order::Stop),
                    ["restart"] => Event::Ordered(Order::Restart),
                    ["deps", "met"] => Event::DependenciesMet,
                    ["deps", "failed", ..] => Event::DependencyFailed { why: tail(2) },
                    ["spawned", pid] => {
                        self.spawned_ms.insert(number(pid), self.now_ms);
                        Event::Spawned { pid: number(pid) }
                    }
                    ["spawn", "failed", ..] => Event::SpawnFailed { why: tail(2) },
                    ["exited", words @ ..] => {
                        let Ended {
                            pid,
                            exit,
                            uptime_ms,
                            leftovers,
                        } = self.exit(&mut words.iter().copied());
                        Event::Exited {
                            pid,
                            exit,
                            uptime_ms,
                            leftovers,
                        }
                    }
                    ["timer", name, "epoch", epoch] => Event::TimerFired {
                        timer: timer(name),
                        epoch: number(epoch),
                    },
                    ["timer", name] => {
                        let (epoch, at) = *self
                            .armed
                            .get(&timer(name))
                            .unwrap_or_else(|| panic!("`{name}` does not run"));
                        self.now_ms = self.now_ms.max(at);
                        self.armed.remove(&timer(name));
                        Event::TimerFired {
                            timer: timer(name),
                            epoch,
                        }
                    }
                    ["ready"] => Event::BecameReady,
                    ["unready", ..] => Event::BecameUnready { why: tail(1) },
                    ["unhealthy", words @ ..] => unhealthy(words),
                    ["more", "time", span] => Event::MoreTime {
                        until_ms: self.now_ms + millis(span),
                    },
                    ["found", words @ ..] => {
                        let Alive {
                            pid,
                            uptime_ms,
                            stray,
                        } = Self::alive(&mut words.iter().copied());
                        self.spawned_ms.insert(pid, self.now_ms.saturating_sub(uptime_ms));
                        Event::Found {
                            pid,
                            uptime_ms,
                            stray,
                        }
                    }
                    ["not", "found"] => Event::NotFound,
                    _ => panic!("what is `{line}`?"),
                };
                self.instance.step(&self.policy, self.now_ms, event)
            }
        };
        let mut out = String::new();
        for effect in &effects {
            self.note(effect);
            writeln!(out, "  {}", shown(effect)).expect("a string");
        }
        writeln!(out, "  = {}", shown_view(self.now_ms, &self.instance.view())).expect("a string");
        out
    }

    fn restore(&mut self) {
        let snapshot = serde_json::to_string(&self.instance).expect("it serialises");
        let restored: Instance = serde_json::from_str(&snapshot).expect("it reads back");
        assert_eq!(restored, self.instance, "a snapshot loses nothing");
        self.instance = restored;
        self.armed.clear();
    }

    fn note(&mut self, effect: &Effect) {
        match *effect {
            Effect::StartTimer { timer, epoch, at_ms } => {
                self.armed.insert(timer, (epoch, at_ms));
            }
            Effect::CancelTimer { timer } => {
                self.armed.remove(&timer);
            }
            Effect::Spawn
            | Effect::Signal { .. }
            | Effect::Sweep
            | Effect::Changed { .. }
            | Effect::ReadyChanged { .. } => {}
        }
    }
}

fn name(timer: Timer) -> String {
    serde_json::to_string(&timer)
        .expect("a name")
        .trim_matches('"')
        .to_owned()
}

fn shown(effect: &Effect) -> String {
    match effect {
        Effect::Spawn => "-> spawn".to_owned(),
        Effect::Signal { signal, tree } => {
            format!(
                "-> signal {} to {}",
                signal_name(*signal),
                if *tree { "the tree" } else { "the process" }
            )
        }
        Effect::Sweep => "-> sweep".to_owned(),
        Effect::StartTimer { timer, epoch, at_ms } => {
            format!(
                "-> timer {} epoch {epoch} at {}",
                name(*timer),
                Span::from_millis(*at_ms)
            )
        }
        Effect::CancelTimer { timer } => format!("-> cancel timer {}", name(*timer)),
        Effect::Changed {
            from,
            to,
            desired,
            why,
        } => format!("-> {from} => {to}, wanted {desired:?}: {why}"),
        Effect::ReadyChanged { ready, why } => {
            format!("-> {}: {why}", if *ready { "ready" } else { "unready" })
        }
    }
}

fn shown_view(now_ms: u64, view: &View) -> String {
    let mut out = format!(
        "{} {} wanted {:?}",
        Span::from_millis(now_ms),
        view.actual,
        view.desired
    );
    if view.ready {
        out += " ready";
    }
    if let Some(pid) = view.pid {
        out += &format!(" pid {pid}");
    }
    if view.restarts + view.unstable > 0 {
        out += &format!(" restarts {} unstable {}", view.restarts, view.unstable);
    }
    if let Some(next) = view.next_start_ms {
        out += &format!(" next start {}", Span::from_millis(next));
    }
    if view.run > 0 {
        out += &format!(" run {}", view.run);
    }
    out + ": " + &view.why
}

/// The file as it would be if the answers were written anew.
fn play(script: &str) -> String {
    let mut stage = Stage {
        policy: default_policy(),
        now_ms: 0,
        instance: Instance::new(0),
        armed: BTreeMap::new(),
        spawned_ms: BTreeMap::new(),
    };
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        out += line;
        out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            out += &stage.line(line);
        }
    }
    out
}

#[test]
fn scenarios_answer_as_their_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let written = fs::read_to_string(path).expect("a scenario");
        let played = std::panic::catch_unwind(|| play(&written))
            .unwrap_or_else(|_| panic!("{} cannot be played", path.display()));
        if update {
            fs::write(path, &played).expect("writing it");
        } else if played != written {
            let first = written
                .lines()
                .zip(played.lines())
                .position(|(was, is)| was != is)
                .unwrap_or(0);
            wrong.push(format!(
                "{}:{}\n  file: {}\n  now:  {}",
                path.display(),
                first + 1,
                written.lines().nth(first).unwrap_or("").trim(),
                played.lines().nth(first).unwrap_or("").trim(),
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "answers differ (UPDATE_CASES=1 writes them anew):\n{}",
        wrong.join("\n")
    );
    assert!(paths.len() >= 30, "only {} scenarios", paths.len());
}

#[test]
fn a_snapshot_of_another_version_is_refused() {
    let snapshot = serde_json::to_string(&Instance::new(0)).expect("it serialises");
    let other = snapshot.replacen("\"version\":1", "\"version\":0", 1);
    assert_ne!(snapshot, other);
    let error = serde_json::from_str::<Instance>(&other)
        .expect_err("a refusal")
        .to_string();
    assert!(
        error.starts_with("snapshot of an instance has version 0, this program reads 1"),
        "{error}"
    );
    assert!(serde_json::from_str::<Instance>("{}").is_err());
}

#[test]
fn restart_on_has_the_words_people_write() {
    for (word, on) in [
        ("always", RestartOn::Always),
        ("unless-stopped", RestartOn::UnlessStopped),
    ] {
        assert_eq!(
            serde_json::from_str::<RestartOn>(&format!("\"{word}\"")).expect("a word"),
            on
        );
    }
}
