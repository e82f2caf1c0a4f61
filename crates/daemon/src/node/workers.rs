//! The workers of one of our own apps: what its actor uses of all this.
//!
//! # The interface
//!
//! | the actor | when |
//! |---|---|
//! | [`Workers::prepare`] | before the keeper is asked for a copy: adds channel, variables and preload, or refuses |
//! | [`Workers::launched`] | right after it was asked |
//! | [`Workers::promote`] | the copy is ready: it may get connections that are passed on |
//! | [`Workers::drain`] | in place of the stop signal; [`News::Drained`] says when to send that |
//! | [`Workers::ended`] | the copy has ended, or could not be started |
//! | [`Workers::release`] | no copy is at work, nor will be: sockets are closed |
//! | [`Workers::recover`] | in a new daemon, before anything else |
//!
//! Copies are named by their keys in the keeper's table, so that two generations of one instance live side by side. What the
//! actor is told ([`News`]) comes from within calls of the channel; it must be mailed on, not acted upon.
//!
//! # Leaving
//!
//! `NODE_UPKEEP_DRAIN` (for the preload), then `disconnect`: the worker closes its servers and hangs up once its
//! connections have ended. Half a second after that, or when three quarters of the grace are over, the stop signal is due. A worker is
//! told to disconnect once only: a second time it would hang up at once, and what is under way would be cut. So that it is
//! leaving is noted with the keeper (by the primary).
//!
//! # Fork mode
//!
//! A Node app in fork mode whose readiness is the message `ready` gets the channel and nothing else.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use upkeep_keeper::protocol::SpawnSpec;
use upkeep_model::{
    app::{AppSpec, Check},
    listen::{Balance, Mode},
    sandbox::Level,
};
use upkeep_sys::clock;

use super::{
    bind::Rights,
    channel::{self, Channel, Heard, Limits},
    keep::Keep,
    preload,
    primary::{Primary, Told},
    unwrap,
};
use crate::tasks::Task;

/// How the names of everything here begin in the keeper's table.
pub(crate) const PREFIX: &str = "node:";
/// Format of [`Kept`].
const VERSION: u32 = 1;
/// Between the end of the last connection and the stop signal: an app may have more to do.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// How long the preload leaves idle connections open.
const IDLE_GRACE_MS: u64 = 1500;

/// What an actor is told of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Its first server listens.
    Listening { place: String },
    /// It has sent `ready`.
    Ready,
    /// What it says of itself.
    Figures(preload::Figures),
    /// It has ended its connections, or has had its time: the stop signal is due.
    Drained,
    /// It could not listen.
    Refused {
        place: String,
        errno: i32,
        holder: Option<String>,
    },
}

/// Who is told, of which copy.
type Tell = dyn Fn(&str, News);

/// The workers of an app.
pub(crate) struct Workers(Rc<Inner>);

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers")
            .field("app", &self.0.app)
            .finish_non_exhaustive()
    }
}

struct Inner {
    keep: Rc<dyn Keep>,
    app: String,
    primary: Primary,
    /// Of copies that are only tried.
    trial: Primary,
    copies: RefCell<BTreeMap<String, Copy>>,
    /// Number of the next worker; none is used twice.
    next: Cell<u64>,
    /// Where the preload lies.
    preloads: PathBuf,
    tell: Rc<Tell>,
}

/// What is known of a copy.
#[derive(Debug)]
struct Copy {
    kept: KeptCopy,
    channel: State,
    /// Waits for the end of its leave.
    leave: Option<Task>,
    told_listening: bool,
    told_ready: bool,
    told_refused: u32,
    /// When it last told its figures.
    told_figures_ms: Option<u64>,
}

/// How often an actor is told that a copy could not listen.
const REFUSALS_TOLD: u32 = 3;
/// Figures of a copy are told once in so many ms; what comes faster is left out.
const FIGURES_MS: u64 = 2000;
/// How long a copy may take to leave that a daemon before told to go.
const LEAVING: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum State {
    /// The keeper is asked for it. It was to be drained meanwhile: within this time.
    Coming(Option<Duration>),
    Open,
    Closed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptCopy {
    /// As a worker of the cluster; `None` in fork mode.
    number: Option<u64>,
    /// What is added to a debugger's port.
    offset: u16,
    preloaded: bool,
    /// Its stop signal has been due.
    #[serde(default)]
    drained: bool,
    /// Sockets that it was started with.
    sockets: BTreeMap<u32, String>,
    #[serde(default)]
    rights: Rights,
}

/// What the next daemon must know beside the primary's own note.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    version: u32,
    next: u64,
    copies: BTreeMap<String, KeptCopy>,
}

/// What a new daemon found with the keeper.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Names of descriptors and of notes that belong to the app.
    pub(crate) names: Vec<String>,
    pub(crate) notes: BTreeMap<String, Vec<u8>>,
}

impl Found {
    /// The app that a name in the keeper's table belongs to, if it is one of these.
    pub(crate) fn app_of(name: &str) -> Option<&str> {
        name.strip_prefix(PREFIX)?.split_once(':').map(|(app, _)| app)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.notes.is_empty()
    }
}

/// Whether copies of an app have a channel.
pub(crate) fn are_wanted(app: &AppSpec) -> bool {
    app.mode == Mode::Cluster || by_message(app)
}

fn by_message(app: &AppSpec) -> bool {
    let probes = [&app.readiness, &app.startup, &app.liveness];
    let mut probes = probes.into_iter().flatten();
    probes.any(|probe| matches!(probe.check, Check::Message))
}

fn set(env: &mut Vec<(OsString, OsString)>, name: &str, value: &str) {
    env.retain(|(known, _)| known != name);
    env.push((name.into(), value.into()));
}

impl Workers {
    /// The workers of an app. `preloads`: a directory for the preload.
    pub(crate) fn new(
        keep: Rc<dyn Keep>,
        app: &str,
        balance: Balance,
        preloads: PathBuf,
        tell: impl Fn(&str, News) + 'static,
    ) -> Self {
        let tell: Rc<Tell> = Rc::new(tell);
        Self(Rc::new_cyclic(|inner: &std::rc::Weak<Inner>| {
            let primary = |word: &str| {
                let inner = inner.clone();
                Primary::new(
                    Rc::clone(&keep),
                    format!("{PREFIX}{app}:{word}:"),
                    format!("{PREFIX}{app}:note-{word}"),
                    balance,
                    move |copy, told| {
                        if let Some(inner) = inner.upgrade() {
                            inner.told(copy, told);
                        }
                    },
                )
            };
            let trial = primary("trial").for_trials();
            let primary = primary("listen");
            Inner {
                keep,
                app: app.to_owned(),
                primary,
                trial,
                copies: RefCell::default(),
                next: Cell::new(1),
                preloads,
                tell,
            }
        }))
    }

    /// Makes a copy a worker: unwraps its command and adds channel, variables and preload. Errors: why it cannot be one.
    pub(crate) fn prepare(&self, copy: &str, app: &AppSpec, launched: &mut SpawnSpec) -> Result<(), String> {
        let inner = &self.0;
        let cluster = app.mode == Mode::Cluster;
        inner.of(copy).set_balance(app.balance);
        let words: Option<Vec<String>> = launched
            .argv
            .iter()
            .map(|word| word.to_str().map(str::to_owned))
            .collect();
        let unwrapped = words
            .ok_or_else(|| "its command is no text".to_owned())
            .and_then(|words| unwrap::unwrap(&words, &launched.cwd).map_err(|error| error.to_string()));
        match unwrapped {
            Ok(unwrapped) => {
                launched.argv = unwrapped.command.into_iter().map(OsString::from).collect();
                for (name, value) in unwrapped.env {
                    // What the user wrote holds, as a shell's environment does for npm; a script's own assignment was
                    // written by the user as well, and nearer.
                    set(&mut launched.env, &name, &value);
                }
            }
            // A wrapper takes the channel, and the app cannot send; that is what its check will say.
            Err(_) if !cluster => {}
            Err(why) => return Err(why),
        }
        let offset = {
            let copies = inner.copies.borrow();
            let taken: BTreeSet<u16> = copies.values().map(|copy| copy.kept.offset).collect();
            (0..u16::MAX).find(|offset| !taken.contains(offset)).unwrap_or(0)
        };
        if cluster {
            own_inspector(launched, offset);
        }
        let fd = (launched.descriptors.iter().map(|(fd, _)| fd + 1)).fold(3, u32::max);
        let sockets = launched
            .descriptors
            .iter()
            .filter(|(fd, _)| *fd >= 3)
            .cloned()
            .collect();
        let number = cluster.then(|| {
            inner.next.set(inner.next.get() + 1);
            inner.next.get() - 1
        });
        set(&mut launched.env, "NODE_CHANNEL_FD", &fd.to_string());
        launched
            .env
            .retain(|(name, _)| name != "NODE_CHANNEL_SERIALIZATION_MODE" && name != "NODE_UNIQUE_ID");
        if let Some(number) = number {
            set(&mut launched.env, "NODE_UNIQUE_ID", &number.to_string());
        }
        let preloaded = cluster && app.drain_preload && inner.add_preload(launched);
        let (ours, theirs) =
            channel::pair().map_err(|error| format!("no channel for a worker of {}: {error}", inner.app))?;
        let ours_kept = ours
            .try_clone()
            .map_err(|error| format!("no channel for a worker of {}: {error}", inner.app))?;
        // Asked for in order, before the copy itself: nobody needs to wait for the answers.
        drop(inner.keep.put(inner.kept(copy), ours_kept));
        drop(inner.keep.put(inner.kept_for_child(copy), theirs));
        launched.descriptors.push((fd, inner.kept_for_child(copy)));
        let known = Copy {
            kept: KeptCopy {
                number,
                offset,
                preloaded,
                drained: false,
                sockets,
                rights: rights(app, launched),
            },
            channel: State::Coming(None),
            leave: None,
            told_listening: false,
            told_ready: false,
            told_refused: 0,
            told_figures_ms: None,
        };
        inner.copies.borrow_mut().insert(copy.to_owned(), known);
        inner.remember();
        inner.serve(copy, ours, false)
    }

    /// The keeper has been asked for the copy: its end of the channel is its own then.
    pub(crate) fn launched(&self, copy: &str) {
        self.0.keep.close(self.0.kept_for_child(copy));
    }

    /// The copy is ready in its actor's eyes.
    pub(crate) fn promote(&self, copy: &str) {
        self.0.of(copy).promote(copy);
    }

    /// Tells a copy to end its connections and to leave. `true`: [`News::Drained`] follows, within three quarters of
    /// the grace at the latest. `false`: it cannot be told, the stop signal is due now.
    pub(crate) fn drain(&self, copy: &str, grace: Duration) -> bool {
        self.0.drain(copy, grace * 3 / 4)
    }

    /// The copy has ended, or was not started.
    pub(crate) fn ended(&self, copy: &str) {
        if self.0.copies.borrow_mut().remove(copy).is_none() {
            return;
        }
        self.0.of(copy).detach(copy);
        if is_trial(copy) && !self.0.is_tried() {
            self.0.trial.release();
        }
        self.0.keep.close(self.0.kept(copy));
        self.0.keep.close(self.0.kept_for_child(copy));
        self.0.remember();
    }

    /// No copy is at work, nor will be: nothing listens any more.
    pub(crate) fn release(&self) {
        self.0.primary.release();
        self.0.trial.release();
    }

    /// Takes up what a daemon before left. `living`: copies that run.
    pub(crate) fn recover(&self, found: Found, living: &BTreeSet<String>) {
        let inner = &self.0;
        let mut kept: Kept = found
            .notes
            .get(&format!("{PREFIX}{}:workers", inner.app))
            .and_then(|note| serde_json::from_slice(note).ok())
            .unwrap_or_default();
        if kept.version > VERSION {
            kept = Kept::default();
        }
        inner.next.set(kept.next.max(1));
        let channels = format!("{PREFIX}{}:ipc:", inner.app);
        let (ours, others): (Vec<_>, Vec<_>) = found
            .names
            .into_iter()
            .partition(|name| name.starts_with(&channels));
        let note = |word: &str| {
            let note = found.notes.get(&format!("{PREFIX}{}:note-{word}", inner.app));
            note.map(Vec::as_slice)
        };
        // Each takes what begins with its own prefix.
        inner.primary.recover(note("listen"), others.clone(), living);
        inner.trial.recover(note("trial"), others, living);
        for name in ours {
            let copy = name[channels.len()..].to_owned();
            let known = kept.copies.remove(&copy).filter(|_| living.contains(&copy));
            let Some(known) = known else {
                // Its worker has ended, or it is the other end of one.
                inner.keep.close(name);
                continue;
            };
            // The daemon before may have died before its actor knew: what is known is told again.
            let known = Copy {
                kept: known,
                channel: State::Coming(None),
                leave: None,
                told_listening: false,
                told_ready: false,
                told_refused: 0,
                told_figures_ms: None,
            };
            inner.copies.borrow_mut().insert(copy.clone(), known);
            let asked = inner.keep.get(name);
            let inner = Rc::clone(inner);
            Task::spawn_short("node channel again", async move {
                if let Some(socket) = asked.await
                    && let Err(why) = inner.serve(&copy, socket, true)
                {
                    crate::main_loop::note(&why);
                }
            });
        }
        if !inner.is_tried() {
            // A trial that ended with the daemon: its sockets are nobody's.
            inner.trial.release();
        }
        inner.remember();
    }
}

/// Whether a copy is only tried, by its key.
fn is_trial(copy: &str) -> bool {
    copy.rsplit_once('/')
        .is_some_and(|(_, copy)| copy.starts_with("trial"))
}

impl Inner {
    /// The primary of a copy.
    fn of(&self, copy: &str) -> &Primary {
        if is_trial(copy) {
            &self.trial
        } else {
            &self.primary
        }
    }

    /// Whether a copy is being tried.
    fn is_tried(&self) -> bool {
        self.copies.borrow().keys().any(|copy| is_trial(copy))
    }

    /// Our end of a channel, in the keeper's table.
    fn kept(&self, copy: &str) -> String {
        format!("{PREFIX}{}:ipc:{copy}", self.app)
    }

    fn kept_for_child(&self, copy: &str) -> String {
        format!("{PREFIX}{}:ipc:{copy}:child", self.app)
    }

    fn remember(&self) {
        let copies = self.copies.borrow();
        let kept = Kept {
            version: VERSION,
            next: self.next.get(),
            copies: copies
                .iter()
                .map(|(copy, known)| (copy.clone(), known.kept.clone()))
                .collect(),
        };
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        self.keep.note(format!("{PREFIX}{}:workers", self.app), bytes);
    }

    /// Adds the preload, where the copy will be able to read it.
    fn add_preload(&self, launched: &mut SpawnSpec) -> bool {
        let path = match preload::write(&self.preloads) {
            Ok(path) => path,
            Err(error) => {
                crate::main_loop::note(&format!("the drain preload cannot be written: {error}"));
                return false;
            }
        };
        let is_node = launched
            .argv
            .first()
            .and_then(|word| std::path::Path::new(word).file_name()?.to_str())
            .is_some_and(unwrap::is_node);
        let readable = launched.uid.is_none_or(|uid| {
            uid == rustix::process::geteuid().as_raw() || preload::is_readable_for(uid, &path)
        });
        if !is_node || !readable {
            return false;
        }
        preload::add(&mut launched.argv, &mut launched.env, &path);
        true
    }

    /// Serves a copy's channel.
    fn serve(self: &Rc<Self>, copy: &str, socket: std::os::fd::OwnedFd, resumed: bool) -> Result<(), String> {
        let (of, name) = (Rc::downgrade(self), copy.to_owned());
        let channel = Channel::open(socket, Limits::OWN, resumed, move |heard| {
            let Some(inner) = of.upgrade() else { return };
            match heard {
                Heard::Message(message) => inner.of(&name).hear(&name, message),
                Heard::Undelivered(message) => inner.of(&name).undelivered(&name, &message),
                Heard::End => inner.hung_up(&name),
            }
        })
        .map_err(|error| format!("no channel for a worker of {}: {error}", self.app))?;
        let (sockets, rights, drain) = {
            let mut copies = self.copies.borrow_mut();
            let Some(known) = copies.get_mut(copy) else {
                return Ok(()); // it has ended meanwhile
            };
            let before = std::mem::replace(&mut known.channel, State::Open);
            let drain = match before {
                State::Coming(drain) => drain,
                State::Open | State::Closed => None,
            };
            (known.kept.sockets.clone(), known.kept.rights, drain)
        };
        self.of(copy).attach(copy, Rc::new(channel), sockets, rights);
        if resumed && self.of(copy).is_leaving(copy) {
            self.leave_after(copy, LEAVING);
        } else if resumed && self.of(copy).is_listening(copy) {
            let place = self.of(copy).places().join(", ");
            self.tell_listening(copy, place);
        }
        if let Some(limit) = drain
            && !self.drain(copy, limit)
        {
            (self.tell)(copy, News::Drained);
        }
        Ok(())
    }

    fn tell_listening(&self, copy: &str, place: String) {
        let first = self
            .copies
            .borrow_mut()
            .get_mut(copy)
            .is_some_and(|known| !std::mem::replace(&mut known.told_listening, true));
        if first {
            (self.tell)(copy, News::Listening { place });
        }
    }

    fn may_tell_figures(&self, copy: &str) -> bool {
        let now = clock::monotonic_ms();
        let mut copies = self.copies.borrow_mut();
        let Some(known) = copies.get_mut(copy) else {
            return false;
        };
        let due = known.told_figures_ms.is_none_or(|at| now >= at + FIGURES_MS);
        if due {
            known.told_figures_ms = Some(now);
        }
        due
    }

    fn told(&self, copy: &str, told: Told) {
        let news = match told {
            Told::Listening { place, .. } => {
                self.tell_listening(copy, place);
                None
            }
            Told::Message(message) if message.as_str() == Some("ready") => {
                let first = self
                    .copies
                    .borrow_mut()
                    .get_mut(copy)
                    .is_some_and(|known| !std::mem::replace(&mut known.told_ready, true));
                first.then_some(News::Ready)
            }
            Told::Message(message) => preload::figures(&message)
                .filter(|_| self.may_tell_figures(copy))
                .map(News::Figures),
            Told::Refused { place, errno, holder } => {
                let mut copies = self.copies.borrow_mut();
                let known = copies
                    .get_mut(copy)
                    .filter(|known| known.told_refused < REFUSALS_TOLD);
                known.map(|known| {
                    known.told_refused += 1;
                    News::Refused { place, errno, holder }
                })
            }
            Told::Online | Told::Leaves => None,
        };
        if let Some(news) = news {
            (self.tell)(copy, news);
        }
    }

    fn drain(self: &Rc<Self>, copy: &str, limit: Duration) -> bool {
        let preloaded = {
            let mut copies = self.copies.borrow_mut();
            let Some(known) = copies.get_mut(copy) else {
                return false;
            };
            if known.kept.number.is_none() || known.kept.drained {
                return false;
            }
            match &mut known.channel {
                State::Coming(drain) => {
                    *drain = Some(limit);
                    return true;
                }
                State::Open => {}
                State::Closed => return false,
            }
            known.kept.preloaded
        };
        let before = preload::begin(IDLE_GRACE_MS);
        // One that is on its way out is not told twice.
        let told = self.of(copy).is_leaving(copy) || self.of(copy).retire(copy, preloaded.then_some(&before));
        if told {
            self.leave_after(copy, limit);
        }
        told
    }

    /// The copy has ended its connections, or has gone.
    fn hung_up(self: &Rc<Self>, copy: &str) {
        let leaves = {
            let mut copies = self.copies.borrow_mut();
            let Some(known) = copies.get_mut(copy) else { return };
            known.channel = State::Closed;
            known.leave.is_some()
        };
        if leaves {
            self.leave_after(copy, AFTERWARDS);
        }
    }

    fn leave_after(self: &Rc<Self>, copy: &str, pause: Duration) {
        let (of, name) = (Rc::downgrade(self), copy.to_owned());
        let task = Task::spawn("node drain", async move {
            tokio::time::sleep(pause).await;
            let Some(inner) = of.upgrade() else { return };
            if let Some(known) = inner.copies.borrow_mut().get_mut(&name) {
                known.kept.drained = true;
            }
            inner.remember();
            (inner.tell)(&name, News::Drained);
        });
        if let Some(known) = self.copies.borrow_mut().get_mut(copy) {
            known.leave = Some(task);
        }
    }
}

/// What is bound for a copy.
fn rights(app: &AppSpec, launched: &SpawnSpec) -> Rights {
    let own = rustix::process::geteuid().as_raw();
    let is_ours = launched.uid.is_none_or(|uid| uid == own);
    let level = app.sandbox.level;
    Rights {
        low_ports: is_ours,
        paths: is_ours && level < Level::Standard,
        network: app.sandbox.network.unwrap_or(level < Level::Strict),
    }
}

/// Each worker's debugger gets a port of its own.
fn own_inspector(launched: &mut SpawnSpec, offset: u16) {
    if offset == 0 {
        return;
    }
    for word in launched.argv.iter_mut().skip(1) {
        let Some(text) = word.to_str() else { continue };
        if !text.starts_with('-') {
            break; // the script: what follows is its own
        }
        if let Some(changed) = unwrap::inspect(text, offset) {
            *word = changed.into();
        }
    }
    for (name, value) in &mut launched.env {
        if name == "NODE_OPTIONS"
            && let Some(text) = value.to_str()
            && text.contains("--inspect")
        {
            let words: Vec<String> = text
                .split(' ')
                .map(|word| unwrap::inspect(word, offset).unwrap_or_else(|| word.to_owned()))
                .collect();
            *value = words.join(" ").into();
        }
    }
}

#[cfg(test)]
#[path = "workers_tests.rs"]
mod tests;
