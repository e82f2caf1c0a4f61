//! Runs apps by the clock: carries out what [`upkeep_supervise::schedule`] decides.
//!
//! One task looks after all scheduled apps. It looks when an instance changes, when a time has come, and every few
//! seconds in any case, so that a clock that is set is noticed. A decision is made durable (`/schedules/NAME`, in one
//! transaction with its events) before the actor is asked to start anything; the actor's note with the keeper carries
//! the number of the run. So a daemon that is killed in between leaves a run that was decided and not asked for, which
//! the next one orders, and no run happens twice. What the disk refuses is done all the same, and said: a job that
//! makes room on it must run.
//!
//! An app with a schedule is *armed* while it is wanted up and *paused* after `upkeep stop`. `upkeep start` runs it
//! now.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot};
use upkeep_api::body::{Event as LogEvent, LastRun, RunView, ScheduleView};
use upkeep_model::{
    app::AppSpec,
    id::AppName,
    schedule::When,
    state::{Actual, Desired},
};
use upkeep_store::{Store, StoreError, Txn};
use upkeep_supervise::{
    event::Order,
    schedule::{Action, Clocks, Clockwork, Finished, Run, Setting, next_time},
};
use upkeep_sys::clock;

use super::{
    actor::{Context, Mail},
    directory::{AppEntry, InstanceStatus},
    health::ask,
    launch::{self, CopyId},
};
use crate::{events, main_loop::note, tasks::Task};

mod zone;

pub(crate) use self::zone::Almanac;

/// Where states are.
const PREFIX: &str = "/schedules/";
/// How often clocks are looked at while anything is scheduled.
const STEP: Duration = Duration::from_secs(5);
/// And never more often than this, whatever the clocks say.
const SHORT: Duration = Duration::from_millis(20);
/// How often if nothing is.
const IDLE: Duration = Duration::from_hours(1);
/// How many scheduled apps there may be.
const STATES_MAX: usize = 100_000;
/// How long the command of `on_missed` may take.
const HOOK_TIMEOUT: Duration = Duration::from_mins(1);
/// How many of them run at once; as many again wait, the rest is only said.
const HOOKS: usize = 4;

/// Key of a schedule's state.
pub(crate) fn key(name: &AppName) -> String {
    format!("{PREFIX}{name}")
}

/// What others may see of a schedule.
pub(crate) type Shown = Arc<Mutex<Option<ScheduleView>>>;

/// Why a schedule cannot be kept.
pub(crate) fn refuse(spec: &AppSpec) -> Result<(), (String, Option<String>)> {
    let Some(schedule) = &spec.schedule else {
        return Ok(());
    };
    When::parse(&schedule.at).map_err(|error| (format!("`schedule`: {}", error.message), error.hint))?;
    Almanac::find(schedule.timezone.as_deref()).map_err(|why| {
        let hint = "names are those of /usr/share/zoneinfo, such as `Europe/Berlin`";
        (format!("`schedule.timezone`: {why}"), Some(hint.to_owned()))
    })?;
    Ok(())
}

/// The next times of a schedule, as the API tells them.
pub(crate) fn next_times(spec: &AppSpec, count: usize) -> Vec<f64> {
    let Some(schedule) = &spec.schedule else {
        return Vec::new();
    };
    let (Ok(when), Ok(zone)) = (
        When::parse(&schedule.at),
        Almanac::find(schedule.timezone.as_deref()),
    ) else {
        return Vec::new();
    };
    let mut after = clocks().unix_ms.div_euclid(1000);
    (0..count)
        .map_while(|_| {
            after = next_time(&when, &zone, after)?;
            Some(after as f64)
        })
        .collect()
}

fn clocks() -> Clocks {
    let millis = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
    Clocks {
        unix_ms: millis(clock::unix_ms()),
        mono_ms: millis(clock::monotonic_ms()),
    }
}

/// One app.
struct Job {
    clockwork: Clockwork,
    /// The text it was read from.
    at: String,
    timezone: Option<String>,
    when: When,
    zone: Almanac,
    paused: bool,
    /// Since when somebody is at work by order.
    by_order_s: Option<i64>,
}

/// The task's state.
pub(crate) struct Scheduler {
    context: Rc<Context>,
    jobs: BTreeMap<AppName, Job>,
    stored: BTreeMap<AppName, Clockwork>,
    hooks: Rc<Semaphore>,
    waiting_hooks: Rc<Semaphore>,
}

impl Scheduler {
    /// Reads what is durable.
    pub(crate) fn load(context: &Rc<Context>, store: &dyn Store) -> Result<Self, StoreError> {
        let mut stored = BTreeMap::new();
        for entry in store.range(PREFIX, STATES_MAX)? {
            let name = entry
                .key
                .strip_prefix(PREFIX)
                .and_then(|name| AppName::parse(name).ok());
            let clockwork: Option<Clockwork> = serde_json::from_slice(&entry.value).ok();
            match (name, clockwork.filter(Clockwork::is_readable)) {
                (Some(name), Some(clockwork)) => {
                    stored.insert(name, clockwork);
                }
                _ => note(&format!(
                    "`{}` cannot be read; its times count from now on",
                    entry.key
                )),
            }
        }
        Ok(Self {
            context: Rc::clone(context),
            jobs: BTreeMap::new(),
            stored,
            hooks: Rc::new(Semaphore::new(HOOKS)),
            waiting_hooks: Rc::new(Semaphore::new(HOOKS * 2)),
        })
    }

    /// Looks again and again.
    pub(crate) async fn run(mut self) {
        let mut changes = self.context.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let pause = self.look().await;
            tokio::select! {
                // Cancel-safe: the version seen is kept in the receiver.
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                // Cancel-safe: computed anew.
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks at every scheduled app; how long until the next look.
    async fn look(&mut self) -> Duration {
        let apps: Vec<(AppName, AppEntry)> = self
            .context
            .directory
            .read()
            .iter()
            .filter(|(name, entry)| entry.record.spec.schedule.is_some() || self.jobs.contains_key(*name))
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect();
        let names: BTreeSet<&AppName> = apps.iter().map(|(name, _)| name).collect();
        self.jobs.retain(|name, _| names.contains(name));
        let mut pause = IDLE;
        for (name, entry) in &apps {
            if let Some(next) = self.look_at(name, entry).await {
                pause = pause.min(next);
            }
        }
        pause
    }

    async fn look_at(&mut self, name: &AppName, entry: &AppEntry) -> Option<Duration> {
        let spec = &entry.record.spec;
        let Some(schedule) = &spec.schedule else {
            // It is kept running from now on.
            self.jobs.remove(name);
            set(&entry.schedule, None);
            let txn = Txn {
                deletes: vec![key(name)],
                ..Txn::default()
            };
            self.commit(
                txn,
                vec![event(
                    name,
                    "unscheduled",
                    "its specification has no `schedule` any more",
                    "",
                )],
            )
            .await;
            return None;
        };
        let now = clocks();
        let mut told = Vec::new();
        let mut job = match self.jobs.remove(name) {
            Some(job) if job.at == schedule.at && job.timezone == schedule.timezone => job,
            known => {
                // Checked when the specification was accepted; a zone may have gone since.
                let (Ok(when), Ok(zone)) = (
                    When::parse(&schedule.at),
                    Almanac::find(schedule.timezone.as_deref()),
                ) else {
                    note(&format!(
                        "{name}: its schedule cannot be read any more; it does not run"
                    ));
                    return Some(STEP);
                };
                let mut clockwork = known
                    .map(|job| job.clockwork)
                    .or_else(|| self.stored.remove(name));
                let adopted = match &mut clockwork {
                    Some(clockwork) => clockwork.adopt(schedule, now),
                    None => true,
                };
                if adopted {
                    told.push(event(name, "scheduled", &schedule.at, ""));
                }
                Job {
                    clockwork: clockwork.unwrap_or_else(|| Clockwork::new(schedule, now)),
                    at: schedule.at.clone(),
                    timezone: schedule.timezone.clone(),
                    when,
                    zone,
                    paused: false,
                    by_order_s: None,
                }
            }
        };
        let (actions, turned) = self.decide(entry, &mut job, now, &mut told);
        for action in &actions {
            told.push(tell(name, action, &job.zone));
        }
        if !told.is_empty() || turned {
            let bytes = serde_json::to_vec(&job.clockwork).unwrap_or_default();
            let txn = Txn {
                puts: vec![(key(name), bytes)],
                ..Txn::default()
            };
            if told.is_empty() {
                let (what, why) = if job.paused {
                    (
                        "schedule_paused",
                        "it is stopped: nothing runs until it is started",
                    )
                } else {
                    ("schedule_armed", "it was started: its times count from now on")
                };
                told.push(event(name, what, why, ""));
            }
            self.commit(txn, told).await;
        }
        for action in actions {
            self.act(name, entry, action, &job.zone).await;
        }
        let setting = setting(entry, &job, self.context.epoch)?;
        let next = job.clockwork.next_look_ms(&setting, clocks());
        show(entry, &job, &setting);
        let paused_for_now = job.paused;
        self.jobs.insert(name.clone(), job);
        let until = next.map_or(STEP, |millis| Duration::from_millis(millis).max(SHORT));
        // What is paused is looked at when it changes.
        Some(if paused_for_now { STEP } else { until.min(STEP) })
    }

    /// What follows from the clocks and from what the instances do; and whether it was paused or armed just now, which
    /// has to be durable before anything else: the next daemon must not make up for what came while it was stopped.
    fn decide(
        &self,
        entry: &AppEntry,
        job: &mut Job,
        now: Clocks,
        told: &mut Vec<LogEvent>,
    ) -> (Vec<Action>, bool) {
        let name = &entry.record.spec.name;
        let epoch = self.context.epoch;
        let status = entry.status.borrow();
        let instances = &status.instances;
        let mut clockwork = job.clockwork.clone();
        let Some(setting) = setting(entry, job, epoch) else {
            return (Vec::new(), false);
        };
        let mut actions = Vec::new();
        let armed = entry
            .record
            .instances
            .iter()
            .any(|instance| instance.desired == Desired::Up);
        let was_paused = clockwork.paused;
        if armed {
            clockwork.arm(now);
        } else {
            // Before anything ends: what waits for that must not follow.
            clockwork.pause(now);
        }
        // What was decided and not asked for: the daemon before was killed in between, or the app was made anew.
        let asked = |index: Option<u32>| {
            let runs = targets(instances, index).map(|one| one.view.run);
            runs.min().unwrap_or(u64::MAX)
        };
        for run in clockwork.unasked(asked) {
            if run.epoch == epoch && armed {
                let why = "it was decided, and nobody had been asked to start it".to_owned();
                actions.push(Action::Start {
                    run,
                    replace: false,
                    why,
                });
                continue;
            }
            let what = if armed {
                "cut off: the machine or the keeper went down before it had ended"
            } else {
                "its app was stopped before it could begin"
            };
            told.push(ended(name, &run, false, what, &job.zone));
            actions.push(Action::Missed {
                count: 1,
                due_s: run.due_s,
                why: what.to_owned(),
            });
            actions.extend(clockwork.finished(&setting, now, run.number, false, what));
        }
        for run in clockwork.runs.clone() {
            let of_run: Vec<&InstanceStatus> = targets(instances, run.index).collect();
            let over = |one: &&InstanceStatus| one.view.run == run.number && is_at_rest(one.view.actual);
            if !of_run.iter().all(over) {
                continue; // of an instance that is gone nothing more will be heard: over
            }
            let ok = !of_run.is_empty() && of_run.iter().all(|one| one.view.actual == Actual::Completed);
            let what = of_run
                .iter()
                .find(|one| one.view.actual != Actual::Completed)
                .or_else(|| of_run.first())
                .map_or_else(|| "its instance is gone".to_owned(), |one| one.view.why.clone());
            let never_began = !of_run.iter().any(|one| has_begun(one, &run));
            if never_began {
                actions.push(Action::Missed {
                    count: 1,
                    due_s: run.due_s,
                    why: format!("it could not be started: {what}"),
                });
            }
            let follows = clockwork.finished(&setting, now, run.number, ok, &what);
            let what = clockwork.last.as_ref().map_or(what, |last| last.what.clone());
            let ok = clockwork.last.as_ref().is_some_and(|last| last.ok);
            told.push(ended(name, &run, ok, &what, &job.zone));
            actions.extend(follows);
        }
        let numbers: BTreeSet<u64> = clockwork.runs.iter().map(|run| run.number).collect();
        let by_order = instances
            .iter()
            .find(|one| !is_at_rest(one.view.actual) && !numbers.contains(&one.view.run));
        let at_work = by_order.is_some() && clockwork.runs.is_empty();
        let mut by_order_s = job.by_order_s;
        match (at_work, by_order_s) {
            (true, None) => by_order_s = Some(now.unix_ms.div_euclid(1000)),
            (false, Some(started_s)) if by_order.is_none() => {
                by_order_s = None;
                let last = instances.iter().max_by_key(|one| one.view.since_ms);
                let finished = Finished {
                    due_s: None,
                    started_s,
                    ended_s: now.unix_ms.div_euclid(1000),
                    ok: last.is_some_and(|one| one.view.actual == Actual::Completed),
                    what: last.map_or_else(String::new, |one| one.view.why.clone()),
                };
                let result = if finished.ok { "ok" } else { "failed" };
                told.push(event(
                    name,
                    "run_ended",
                    &finished.what,
                    &format!("{result}; it was started by order"),
                ));
                actions.extend(clockwork.finished_by_order(&setting, now, finished));
            }
            _ => {}
        }
        if armed {
            let begun = |run: &Run| targets(instances, run.index).any(|one| has_begun(one, run));
            actions.extend(clockwork.wake(&setting, now, by_order.is_some(), begun));
        } else {
            actions.retain(|action| !matches!(action, Action::Start { .. }));
        }
        let turned = clockwork.paused != was_paused;
        job.clockwork = clockwork;
        job.by_order_s = by_order_s;
        job.paused = !armed;
        (actions, turned)
    }

    async fn commit(&self, txn: Txn, told: Vec<LogEvent>) {
        let (sender, receiver) = oneshot::channel();
        self.context.events.commit_all(txn, told, move |result| {
            // We wait below.
            let _ = sender.send(result.map(drop));
        });
        if let Ok(Err(error)) = receiver.await {
            note(&format!(
                "a run could not be made durable, and is done all the same: {error}"
            ));
        }
    }

    async fn act(&self, name: &AppName, entry: &AppEntry, action: Action, zone: &Almanac) {
        match action {
            Action::Start { run, replace, .. } => {
                let (done, answer) = oneshot::channel();
                let mail = Mail::Run {
                    run: run.number,
                    index: run.index,
                    replace,
                    done,
                };
                // An actor that is gone has nothing to run.
                if entry.mailbox.send(mail).await.is_ok() {
                    let _ = answer.await;
                }
            }
            Action::Stop { run, .. } => {
                let (done, answer) = oneshot::channel();
                let mail = Mail::Order {
                    order: Order::Stop,
                    instances: run.index.map(|index| vec![index]),
                    done,
                };
                if entry.mailbox.send(mail).await.is_ok() {
                    let _ = answer.await;
                }
            }
            Action::Missed { due_s, why, .. } | Action::Late { due_s, why } => {
                self.alarm(name, entry, &zone.text(due_s), due_s, why);
            }
            Action::Note { .. } => {}
        }
    }

    /// Runs the command of `on_missed`.
    fn alarm(&self, name: &AppName, entry: &AppEntry, due: &str, due_s: i64, why: String) {
        let spec = &entry.record.spec;
        let Some(command) = spec
            .schedule
            .as_ref()
            .and_then(|schedule| schedule.on_missed.clone())
        else {
            return;
        };
        let Ok(room) = Rc::clone(&self.waiting_hooks).try_acquire_owned_local() else {
            let name = name.clone();
            return self.log(event(
                &name,
                "hook_failed",
                "`on_missed` was not run: too many of them wait",
                "",
            ));
        };
        let copy = CopyId {
            index: 0,
            generation: entry.record.generation,
        };
        let own = launch::Own {
            id: entry.record.instances.first().map_or(0, |instance| instance.id),
            ..launch::Own::default()
        };
        let launch = match launch::spawn_spec(spec, copy, &own, &[]) {
            Ok(launch) => launch,
            Err(error) => return self.log(event(name, "hook_failed", &error.to_string(), "")),
        };
        let more = [
            ("UPKEEP_REASON", why),
            ("UPKEEP_DUE", due_s.to_string()),
            ("UPKEEP_DUE_TEXT", due.to_owned()),
        ];
        let (hooks, context, name) = (Rc::clone(&self.hooks), Rc::clone(&self.context), name.clone());
        Task::spawn_short("on_missed", async move {
            let _room = room;
            // The semaphore is never closed.
            let _turn = hooks.acquire().await;
            let ran = tokio::time::timeout(HOOK_TIMEOUT, ask::run(&command, &launch, &more)).await;
            let failed = match ran {
                Ok(Ok(())) => return,
                Ok(Err(why)) => why,
                Err(_) => format!("it took longer than {} s and was killed", HOOK_TIMEOUT.as_secs()),
            };
            let why = format!("`on_missed` failed: {failed}");
            let event = event(&name, "hook_failed", &why, "");
            // An event that a full disk refuses is lost.
            context.events.commit(Txn::default(), event, |_| {});
        });
    }

    fn log(&self, event: LogEvent) {
        // An event that a full disk refuses is lost.
        self.context.events.commit(Txn::default(), event, |_| {});
    }
}

/// A permit that may outlive its semaphore's borrow.
trait Owned {
    fn try_acquire_owned_local(self) -> Result<Permit, tokio::sync::TryAcquireError>;
}

/// Gives its place back when it goes.
struct Permit(Rc<Semaphore>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl Owned for Rc<Semaphore> {
    fn try_acquire_owned_local(self) -> Result<Permit, tokio::sync::TryAcquireError> {
        self.try_acquire()?.forget();
        Ok(Permit(self))
    }
}

fn setting<'a>(entry: &'a AppEntry, job: &'a Job, epoch: u64) -> Option<Setting<'a>> {
    let spec = &entry.record.spec;
    Some(Setting {
        schedule: spec.schedule.as_ref()?,
        when: &job.when,
        zone: &job.zone,
        instances: u32::try_from(entry.record.instances.len()).unwrap_or(u32::MAX),
        epoch,
        // FNV-1a of the name: the same in every daemon.
        seed: spec
            .name
            .as_str()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            }),
    })
}

fn targets(instances: &[InstanceStatus], index: Option<u32>) -> impl Iterator<Item = &InstanceStatus> {
    instances
        .iter()
        .filter(move |one| index.is_none_or(|index| one.index == index))
}

fn is_at_rest(actual: Actual) -> bool {
    matches!(
        actual,
        Actual::Stopped | Actual::Completed | Actual::Failed | Actual::GaveUp
    )
}

fn has_begun(instance: &InstanceStatus, run: &Run) -> bool {
    let decided_ms = u64::try_from(run.decided_mono_ms).unwrap_or(0);
    instance.view.run == run.number
        && instance
            .view
            .started_ms
            .is_some_and(|started| started >= decided_ms)
}

fn event(name: &AppName, what: &str, why: &str, result: &str) -> LogEvent {
    LogEvent {
        id: 0,
        at: events::now(),
        who: "schedule".to_owned(),
        what: what.to_owned(),
        target: name.to_string(),
        why: why.to_owned(),
        result: result.to_owned(),
        details: BTreeMap::new(),
    }
}

fn ended(name: &AppName, run: &Run, ok: bool, what: &str, zone: &Almanac) -> LogEvent {
    let result = if ok { "ok" } else { "failed" };
    let mut event = event(name, "run_ended", what, result);
    event.details = details(run.due_s, Some(run.number), zone);
    event
}

fn details(due_s: i64, run: Option<u64>, zone: &Almanac) -> BTreeMap<String, serde_json::Value> {
    let mut details = BTreeMap::from([
        ("due_at".to_owned(), due_s.into()),
        ("due".to_owned(), zone.text(due_s).into()),
    ]);
    if let Some(run) = run {
        details.insert("run".to_owned(), run.into());
    }
    details
}

/// The event of an action.
fn tell(name: &AppName, action: &Action, zone: &Almanac) -> LogEvent {
    let (what, why, result, due) = match action {
        Action::Start { run, replace, why } => {
            let result = if *replace { "the run before is ended" } else { "" };
            (
                "run_started",
                why,
                result.to_owned(),
                Some((run.due_s, Some(run.number))),
            )
        }
        Action::Missed { count, due_s, why } => {
            let result = match count {
                1 => "did not run".to_owned(),
                count => format!("{count} runs did not happen"),
            };
            ("run_missed", why, result, Some((*due_s, None)))
        }
        Action::Late { due_s, why } => (
            "run_late",
            why,
            "it did not run in time".to_owned(),
            Some((*due_s, None)),
        ),
        Action::Stop { run, why } => {
            let due = Some((run.due_s, Some(run.number)));
            ("run_timeout", why, "it is ended".to_owned(), due)
        }
        Action::Note { why } => ("schedule", why, String::new(), None),
    };
    let mut event = event(name, what, why, &result);
    if let Some((due_s, run)) = due {
        event.details = details(due_s, run, zone);
    }
    event
}

fn set(shown: &Shown, view: Option<ScheduleView>) {
    *shown.lock().unwrap_or_else(PoisonError::into_inner) = view;
}

fn show(entry: &AppEntry, job: &Job, setting: &Setting<'_>) {
    let now_s = clocks().unix_ms.div_euclid(1000);
    let clockwork = &job.clockwork;
    let next = setting.next_start(clockwork.handled_s.max(now_s - 1));
    let view = ScheduleView {
        app: entry.record.spec.name.clone(),
        at: job.at.clone(),
        timezone: job.zone.name(),
        paused: job.paused,
        next: next.filter(|_| !job.paused).map(|next| next as f64),
        runs: clockwork
            .runs
            .iter()
            .map(|run| RunView {
                number: run.number,
                due: run.due_s as f64,
                started_at: run.decided_s as f64,
                index: run.index,
            })
            .collect(),
        waiting: clockwork.waiting.len(),
        last: clockwork.last.as_ref().map(|last| LastRun {
            due: last.due_s.map(|due| due as f64),
            started_at: last.started_s as f64,
            ended_at: last.ended_s as f64,
            ok: last.ok,
            what: last.what.clone(),
        }),
        times: Vec::new(),
    };
    set(&entry.schedule, Some(view));
}
