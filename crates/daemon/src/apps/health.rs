//! The health of a copy: carries out what [`upkeep_supervise::health`] decides.
//!
//! Every process that has checks has one [`Monitor`]: a task that asks what is due, hears what the process says
//! ([`notify`], [`lines`], Node's message by [`Monitor::message`]) and mails verdicts to the actor. A question is a
//! task of its own with a deadline, so a hung one delays neither the actor nor another check. What is known is noted
//! with the keeper (`health:KEY`) after every answer; the next daemon goes on from there. However much a process says:
//! it is noted every [`NOTE_PAUSE`] at most, and only what has changed.
//!
//! Once its process is being stopped a monitor is [`quiet`](Monitor::quiet): it asks nothing more and listens only
//! for `EXTEND_TIMEOUT_USEC`.

use std::{
    hash::{BuildHasher, Hasher},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use upkeep_api::body::{CheckView, HealthView};
use upkeep_keeper::protocol::{Request, SpawnSpec};
use upkeep_model::app::{AppSpec, Check, Probe};
use upkeep_supervise::health::{Health, Plan, Reply, Role, Rule, Verdict, Way, Word};
use upkeep_sys::{clock, notify::NotifySocket, spawn::OWN_PID};

use self::{
    lines::{Lines, Mark},
    notify::Ear,
};
use super::{
    actor::{Context, Mail},
    launch::{CopyId, LogPlace},
};
use crate::{main_loop::note, tasks::Task};

pub(crate) mod ask;
mod lines;
pub(crate) mod notify;

/// Words that wait to be heard; more than this at once is noise.
const WORDS: usize = 64;
/// How long after a note the next one may follow, ms.
const NOTE_PAUSE: u64 = 100;
/// How long a monitor waits if nothing is due.
const LONG: u64 = 3_600_000;

/// Stands for the process that the keeper has been asked for.
const ASKED_FOR: u32 = 0;

/// Any number.
pub(crate) fn dice() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// Key of the note about a copy's health.
pub(crate) fn note_key(key: &str) -> String {
    format!("{NOTE}{key}")
}

/// What those keys begin with.
pub(crate) const NOTE: &str = "health:";

fn probe(spec: &AppSpec, role: Role) -> Option<&Probe> {
    match role {
        Role::Startup => spec.startup.as_ref(),
        Role::Readiness => spec.readiness.as_ref(),
        Role::Liveness => spec.liveness.as_ref(),
    }
}

/// What has to be known of the checks to judge by them.
pub(crate) fn plan(spec: &AppSpec) -> Plan {
    let rule = |role| {
        probe(spec, role).map(|probe| Rule {
            way: match probe.check {
                Check::Http { .. } | Check::Tcp { .. } | Check::Exec { .. } => Way::Asked,
                Check::Log { .. } => Way::Line,
                Check::Notify => Way::Notify,
                Check::Message => Way::Message,
            },
            period_ms: probe.period.as_millis().max(10),
            initial_delay_ms: probe.initial_delay.as_millis(),
            failure_threshold: probe.failure_threshold,
            success_threshold: probe.success_threshold,
            jitter_ms: probe.jitter.as_millis(),
            grace: probe.grace,
        })
    };
    Plan {
        startup: rule(Role::Startup),
        readiness: rule(Role::Readiness),
        liveness: rule(Role::Liveness),
        stop_grace_ms: spec.stop.grace.as_millis(),
    }
}

fn has(plan: &Plan, way: Way) -> bool {
    Role::ALL
        .iter()
        .any(|role| plan.rule(*role).is_some_and(|rule| rule.way == way))
}

/// Why the checks of a specification cannot be carried out.
pub(crate) fn refuse(spec: &AppSpec) -> Result<(), String> {
    for role in Role::ALL {
        let Some(Probe {
            check: Check::Log { pattern },
            ..
        }) = probe(spec, role)
        else {
            continue;
        };
        if spec.logs.disabled {
            return Err(format!("`{}.log` needs logs, which are disabled", role.as_str()));
        }
        if let Err(error) = Regex::new(pattern) {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default();
            return Err(format!(
                "`{}.log` is no regular expression: {last}",
                role.as_str()
            ));
        }
    }
    Ok(())
}

/// What was made ready for a process before it was started.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    socket: Option<NotifySocket>,
    marks: Vec<Mark>,
}

/// Makes ready what a process needs to be started with; adds to its environment.
pub(crate) fn prepare(
    context: &Rc<Context>,
    spec: &AppSpec,
    key: &str,
    places: &[LogPlace],
    launch: &mut SpawnSpec,
) -> Result<Prepared, String> {
    let plan = plan(spec);
    let mut prepared = Prepared::default();
    // Ours, if the daemon was started by systemd, must not be theirs.
    let own = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
    launch.env.retain(|(name, _)| {
        !own.iter().any(|own| name == own) || spec.env.contains_key(&*name.to_string_lossy())
    });
    if has(&plan, Way::Notify) {
        launch.env.retain(|(name, _)| !own.iter().any(|own| name == own));
        let (socket, address) = notify::open(context, spec, key)?;
        prepared.socket = Some(socket);
        launch.env.push(("NOTIFY_SOCKET".into(), address.into()));
        if let Some(millis) = plan.watchdog_ms() {
            let micros = millis.saturating_mul(1000).to_string();
            launch.env.push(("WATCHDOG_USEC".into(), micros.into()));
            launch.env.push(("WATCHDOG_PID".into(), OWN_PID.into()));
        }
    }
    if has(&plan, Way::Line) {
        let mut paths: Vec<_> = places.iter().map(|place| &place.path).collect();
        paths.dedup();
        prepared.marks = paths.into_iter().map(|path| Mark::end_of(path)).collect();
        // Should the daemon be killed before it hears of the process.
        let now = clock::monotonic_ms();
        let note = Note {
            health: Health::new(&plan, ASKED_FOR, now, now, 0),
            marks: prepared.marks.clone(),
            status: None,
            main_pid: None,
        };
        context.link.tell(&Request::SetNote {
            key: note_key(key),
            bytes: serde_json::to_vec(&note).unwrap_or_default(),
        });
    }
    Ok(prepared)
}

/// A process has ended: what was kept for it goes.
pub(crate) fn forget(context: &Rc<Context>, key: &str, spec: &AppSpec) {
    if has(&plan(spec), Way::Notify) {
        notify::close(context, key);
    }
    context.link.tell(&Request::SetNote {
        key: note_key(key),
        bytes: Vec::new(),
    });
}

/// What is known of a process, for whoever asks.
#[derive(Debug)]
struct Known {
    health: Health,
    status: Option<String>,
    main_pid: Option<u32>,
    errno: Option<i32>,
    refused: u32,
}

/// A look at what a monitor knows.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    known: Arc<Mutex<Known>>,
    names: Arc<Vec<(Role, String)>>,
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known, &other.known)
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    /// As the API tells it.
    pub(crate) fn view(&self) -> HealthView {
        let known = lock(&self.known);
        let now_mono = clock::monotonic_ms();
        let now_unix = clock::unix_ms();
        let checks = self.names.iter().map(|(role, what)| {
            let tally = known.health.tally(*role);
            CheckView {
                role: role.as_str().to_owned(),
                what: what.clone(),
                good: tally.good,
                bad: tally.bad,
                last_at: tally.last.as_ref().map(|last| {
                    let ago = now_mono.saturating_sub(last.at_ms);
                    now_unix.saturating_sub(ago) as f64 / 1000.0
                }),
                took_ms: tally.last.as_ref().map(|last| last.took_ms),
                failure: tally.last.as_ref().and_then(|last| last.failure.clone()),
            }
        });
        HealthView {
            starting: known.health.is_starting(),
            checks: checks.collect(),
            status: known.status.clone(),
            main_pid: known.main_pid,
            errno: known.errno,
            strangers: known.refused,
        }
    }
}

/// What a monitor is told.
enum Letter {
    Word(Word),
    Quiet,
}

/// Looks after one process; ends when it is dropped.
pub(crate) struct Monitor {
    _task: Task,
    letters: mpsc::Sender<Letter>,
    handle: Handle,
}

impl Monitor {
    /// A look at what it knows.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Node's `process.send('ready')`, or whatever stands for it, has come from the process.
    // The channel of a cluster's worker brings it.
    #[allow(dead_code, reason = "called by who holds the channel of a worker")]
    pub(crate) fn message(&self) {
        // A monitor that does not listen has enough to do: the message comes once and is repeated by nobody, but then
        // it was overwhelmed by others of its kind.
        let _ = self.letters.try_send(Letter::Word(Word::Message));
    }

    /// The process is being stopped.
    pub(crate) fn quiet(&self) {
        // As above: a full mailbox is noise, and the verdicts on a process that ends mean nothing.
        let _ = self.letters.try_send(Letter::Quiet);
    }
}

/// Tells how a process was started and whether that has secrets, as soon as its values are known.
pub(crate) type Unknown = Box<dyn Fn() -> Option<(SpawnSpec, bool)>>;

/// Whether values that were not known are known, is asked so often.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Whom a monitor looks after.
pub(crate) struct Subject {
    pub(crate) spec: Arc<AppSpec>,
    pub(crate) copy: CopyId,
    /// In the keeper's table.
    pub(crate) key: String,
    pub(crate) pid: u32,
    pub(crate) started_ms: u64,
    /// How it was started: for its port, and for commands.
    pub(crate) launch: SpawnSpec,
    /// What commands say may repeat secrets.
    pub(crate) is_secret: bool,
    /// Its values are not known: commands wait until this tells how it was started.
    pub(crate) unknown: Option<Unknown>,
    /// Whether it is ready as far as the machine knows.
    pub(crate) ready: bool,
}

/// What the keeper remembers.
#[derive(Serialize, Deserialize)]
struct Note {
    health: Health,
    #[serde(default)]
    marks: Vec<Mark>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    main_pid: Option<u32>,
}

/// Begins to look after a process; nothing if it has no checks. `prepared`: of a process that was started just now;
/// `noted`: of one that a daemon before looked after.
pub(crate) fn start(
    context: &Rc<Context>,
    subject: Subject,
    prepared: Option<Prepared>,
    noted: Option<&[u8]>,
    mailbox: mpsc::Sender<Mail>,
) -> Option<Monitor> {
    let plan = plan(&subject.spec);
    if plan.is_empty() {
        return None;
    }
    let now = clock::monotonic_ms();
    let noted = noted
        .and_then(|bytes| serde_json::from_slice::<Note>(bytes).ok())
        .filter(|note| [subject.pid, ASKED_FOR].contains(&note.health.pid));
    let (mut status, mut main_pid, mut marks) = (None, None, Vec::new());
    let recovered = noted.is_some() || prepared.is_none();
    let health = match noted.filter(|note| {
        marks.clone_from(&note.marks);
        note.health.pid == subject.pid
    }) {
        Some(mut note) => {
            note.health.resume(&plan, now, dice());
            (status, main_pid) = (note.status, note.main_pid);
            note.health
        }
        None => {
            let mut health = Health::new(&plan, subject.pid, subject.started_ms, now, dice());
            if subject.ready {
                // A daemon of before knew it as ready and nothing else.
                health.was_ready(&plan, now, dice());
            }
            health
        }
    };
    let prepared = prepared.unwrap_or_default();
    if !prepared.marks.is_empty() {
        marks = prepared.marks;
    }
    let names = Role::ALL.into_iter().filter_map(|role| {
        let probe = probe(&subject.spec, role)?;
        Some((role, ask::describe(&probe.check, &subject.launch)))
    });
    let handle = Handle {
        names: Arc::new(names.collect()),
        known: Arc::new(Mutex::new(Known {
            health,
            status,
            main_pid,
            errno: None,
            refused: 0,
        })),
    };
    let (letters, inbox) = mpsc::channel(WORDS);
    let worker = Worker {
        context: Rc::clone(context),
        subject: Rc::new(subject),
        plan,
        marks,
        known: Arc::clone(&handle.known),
        mailbox,
        questions: [None, None, None],
        noted: Noted::default(),
        senders: notify::Senders::default(),
    };
    let socket = prepared.socket;
    Some(Monitor {
        _task: Task::spawn("health", worker.run(inbox, socket, recovered)),
        letters,
        handle,
    })
}

/// The task.
struct Worker {
    context: Rc<Context>,
    subject: Rc<Subject>,
    plan: Plan,
    marks: Vec<Mark>,
    known: Arc<Mutex<Known>>,
    mailbox: mpsc::Sender<Mail>,
    /// Open questions, by role.
    questions: [Option<Task>; 3],
    noted: Noted,
    senders: notify::Senders,
}

/// What the keeper was told.
#[derive(Debug, Default)]
struct Noted {
    last: Vec<u8>,
    at_ms: Option<u64>,
    /// There may be more to note.
    changed: bool,
}

impl Noted {
    /// When the next note may go out, if there is something to note.
    fn due_ms(&self) -> Option<u64> {
        let at = self.at_ms.map_or(0, |at| at.saturating_add(NOTE_PAUSE));
        self.changed.then_some(at)
    }

    /// What is to be noted now. `bytes`: all that is known.
    fn next(&mut self, now: u64, bytes: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
        self.due_ms().filter(|at| *at <= now)?;
        self.changed = false;
        let bytes = bytes();
        if bytes == self.last {
            return None;
        }
        self.at_ms = Some(now);
        self.last.clone_from(&bytes);
        Some(bytes)
    }
}

impl Worker {
    async fn run(mut self, mut inbox: mpsc::Receiver<Letter>, socket: Option<NotifySocket>, recovered: bool) {
        let socket = match socket {
            None if recovered && has(&self.plan, Way::Notify) => {
                notify::reopen(&self.context, &self.subject.key).await
            }
            socket => socket,
        };
        let ear = socket.and_then(Ear::new);
        let (answers, mut answered) = mpsc::channel(Role::ALL.len());
        let (matches, mut matched) = mpsc::channel(Role::ALL.len());
        let mut reader = self.read_lines(matches);
        self.keep();
        loop {
            self.ask_what_is_due(&answers);
            self.note_what_changed();
            let next = lock(&self.known).health.next_ms();
            let next = next.into_iter().chain(self.noted.due_ms()).min();
            let pause = next.map_or(LONG, |at| at.saturating_sub(clock::monotonic_ms()));
            tokio::select! {
                // Cancel-safe, each of them: what is received is taken only when it is returned.
                letter = inbox.recv() => match letter {
                    Some(Letter::Word(word)) => self.told(word).await,
                    Some(Letter::Quiet) => {
                        lock(&self.known).health.close();
                        self.questions = [None, None, None];
                        reader = None;
                    }
                    None => return,
                },
                message = hear(ear.as_ref()) => {
                    self.heard(&message).await;
                    // One that speaks without end: others have their turn after every message.
                    tokio::task::yield_now().await;
                }
                Some(answer) = answered.recv() => self.answer(answer).await,
                Some(role) = matched.recv(), if reader.is_some() => self.told(Word::Line(role)).await,
                // Cancel-safe: computed anew.
                () = tokio::time::sleep(Duration::from_millis(pause)) => self.look_at_deadlines().await,
            }
        }
    }

    fn ask_what_is_due(&mut self, answers: &mpsc::Sender<Reply>) {
        let due = lock(&self.known).health.due(clock::monotonic_ms());
        for role in due {
            let (subject, answers) = (Rc::clone(&self.subject), answers.clone());
            self.questions[role as usize] = Some(Task::spawn("question", async move {
                let Some(probe) = probe(&subject.spec, role) else {
                    return;
                };
                let known = match &subject.unknown {
                    // Without its values a command would judge what is not there, and `PORT` may be one of them.
                    Some(unknown)
                        if matches!(
                            probe.check,
                            Check::Exec { .. } | Check::Tcp { port: 0, .. } | Check::Http { port: 0, .. }
                        ) =>
                    {
                        loop {
                            match unknown() {
                                Some(known) => break Some(known),
                                None => tokio::time::sleep(ASK_AGAIN).await,
                            }
                        }
                    }
                    _ => None,
                };
                let (launch, is_secret) = match &known {
                    Some((launch, is_secret)) => (launch, *is_secret),
                    None => (&subject.launch, subject.is_secret),
                };
                let began = clock::monotonic_ms();
                let failure = ask::ask(probe, launch, is_secret).await.err();
                let took_ms = clock::monotonic_ms().saturating_sub(began);
                // The monitor has ended: nobody wants to know.
                let _ = answers
                    .send(Reply {
                        role,
                        took_ms,
                        failure,
                    })
                    .await;
            }));
        }
    }

    async fn answer(&mut self, reply: Reply) {
        self.questions[reply.role as usize] = None;
        let now = clock::monotonic_ms();
        let verdicts = lock(&self.known).health.answered(&self.plan, now, reply, dice());
        self.keep();
        self.tell(verdicts).await;
    }

    async fn told(&mut self, word: Word) {
        let now = clock::monotonic_ms();
        let verdicts = lock(&self.known).health.told(&self.plan, now, word, dice());
        // A process that pets often need not be noted often.
        if word != Word::Alive {
            self.keep();
        }
        self.tell(verdicts).await;
    }

    async fn heard(&mut self, message: &upkeep_sys::notify::Message) {
        if !self
            .senders
            .are_ours(message, self.subject.pid, clock::monotonic_ms())
        {
            let mut known = lock(&self.known);
            known.refused = known.refused.saturating_add(1);
            if known.refused == 1 {
                let who = message
                    .sender
                    .map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
                note(&format!(
                    "{}: a message to its notify socket came from process {who}, which is not in its tree, and was not \
                     heard",
                    self.subject.key
                ));
            }
            return;
        }
        let said = notify::parse(&message.text);
        {
            let mut known = lock(&self.known);
            if said.status.is_some() || said.main_pid.is_some() {
                self.noted.changed = true;
            }
            if said.status.is_some() {
                known.status = said.status;
            }
            if said.errno.is_some() {
                known.errno = said.errno;
            }
            if let Some(pid) = said.main_pid {
                let main = upkeep_sys::notify::Message {
                    sender: Some(pid),
                    text: String::new(),
                };
                if notify::is_ours(&main, self.subject.pid) {
                    known.main_pid = Some(pid);
                } else {
                    note(&format!(
                        "{}: MAINPID={pid} is not in its tree, and was not taken",
                        self.subject.key
                    ));
                }
            }
        }
        for word in said.words {
            self.told(word).await;
        }
    }

    async fn look_at_deadlines(&mut self) {
        let now = clock::monotonic_ms();
        let verdicts = lock(&self.known).health.check_deadlines(&self.plan, now);
        self.tell(verdicts).await;
    }

    async fn tell(&self, verdicts: Vec<Verdict>) {
        for verdict in verdicts {
            let mail = Mail::Health {
                copy: self.subject.copy,
                pid: self.subject.pid,
                verdict,
            };
            // The actor is gone, and we are about to be.
            let _ = self.mailbox.send(mail).await;
        }
    }

    /// What is known may have changed: it is to be noted for the next daemon.
    fn keep(&mut self) {
        self.noted.changed = true;
        self.note_what_changed();
    }

    fn note_what_changed(&mut self) {
        let Self {
            noted, known, marks, ..
        } = self;
        let bytes = noted.next(clock::monotonic_ms(), || {
            let known = lock(known);
            let note = Note {
                health: known.health.clone(),
                marks: marks.clone(),
                status: known.status.clone(),
                main_pid: known.main_pid,
            };
            serde_json::to_vec(&note).unwrap_or_default()
        });
        if let Some(bytes) = bytes {
            self.context.link.tell(&Request::SetNote {
                key: note_key(&self.subject.key),
                bytes,
            });
        }
    }

    /// Looks for lines that checks wait for, on a thread where the disk may be slow.
    fn read_lines(&self, matches: mpsc::Sender<Role>) -> Option<Task> {
        let mut roles = Vec::new();
        let mut patterns = Vec::new();
        for role in Role::ALL {
            if let Some(Probe {
                check: Check::Log { pattern },
                ..
            }) = probe(&self.subject.spec, role)
                // Checked when the specification was accepted.
                && let Ok(pattern) = Regex::new(pattern)
            {
                roles.push(role);
                patterns.push(pattern);
            }
        }
        if roles.is_empty() {
            return None;
        }
        let spec = &self.subject.spec;
        let reader = |mark: &Mark| Lines::new(mark.clone(), spec.name.clone(), spec.logs.format);
        let mut readers: Vec<Lines> = self.marks.iter().map(reader).collect();
        let (key, patterns) = (self.subject.key.clone(), Arc::new(patterns));
        Some(Task::spawn("lines", async move {
            let mut waits = vec![true; roles.len()];
            let mut trouble = false;
            while waits.contains(&true) {
                let patterns = Arc::clone(&patterns);
                let look = tokio::task::spawn_blocking(move || {
                    let mut matched = vec![false; patterns.len()];
                    let mut failed = None;
                    for reader in &mut readers {
                        failed = reader.look(&patterns, &mut matched).err().or(failed);
                    }
                    (readers, matched, failed)
                });
                let Ok((back, matched, failed)) = look.await else {
                    return;
                };
                readers = back;
                if let (Some(error), false) = (failed, trouble) {
                    trouble = true;
                    note(&format!("{key}: its log cannot be read for a check: {error}"));
                }
                for (at, role) in roles.iter().enumerate() {
                    if matched[at] && waits[at] {
                        // Liveness wants to be told again and again.
                        waits[at] = *role == Role::Liveness;
                        if matches.send(*role).await.is_err() {
                            return;
                        }
                    }
                }
                tokio::time::sleep(lines::STEP).await;
            }
        }))
    }
}

async fn hear(ear: Option<&Ear>) -> upkeep_sys::notify::Message {
    if let Some(ear) = ear
        && let Some(message) = ear.next().await
    {
        return message;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_few_and_the_last_one_is_what_is_known() {
        let mut noted = Noted::default();
        assert_eq!(noted.due_ms(), None);
        let mut said = Vec::new();
        for now in 1000..2000_u64 {
            noted.changed = true;
            said.extend(noted.next(now, || now.to_be_bytes().to_vec()));
        }
        assert_eq!(said.len(), 10);
        assert_eq!(noted.due_ms(), Some(2000));
        assert_eq!(noted.next(1999, Vec::new), None);
        assert_eq!(noted.next(2000, || vec![1]), Some(vec![1]));
        // Nothing new: nothing is said, nor waited for.
        noted.changed = true;
        assert_eq!(noted.next(5000, || vec![1]), None);
        assert_eq!(noted.due_ms(), None);
    }
}
