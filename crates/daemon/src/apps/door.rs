//! An actor's front door: its process, and the conversation with it.
//!
//! The door is a child of the keeper under the key `APP/door`. It runs as long as any copy of the app is at work. The
//! conversation is a socket pair whose ends the keeper holds too, so that the door never hears a daemon die; a new
//! daemon takes the old end back and says anew which copies there are.
//!
//! A door is told how it shall serve at its start, and again with every conversation and every change, so that a new
//! daemon need not know what a door was started with. It changes protocol and certificate while it runs. If it needs
//! other public sockets it says so; it is ended then, once these are there, and started anew: meanwhile connections
//! wait in the backlog of those that stay.
//!
//! A copy that has to end gets no more work first; the signal is held back until the door says that nothing is in its
//! hand any more, or `drain` is over.

use std::{cell::RefCell, os::fd::OwnedFd, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::{mpsc, watch},
};
use upkeep_door::protocol::{CONTROL, FromDoor, LINE_MAX, SETTINGS, Settings, ToDoor, Upstream};
use upkeep_keeper::protocol::{Event, Request, Scope, SpawnSpec};
use upkeep_model::{app::AppSpec, state::Actual};
use upkeep_supervise::rollout::TRIAL;
use upkeep_sys::fd_pass;

use super::{
    actor::{Actor, Mail},
    copies::Slot,
    launch::{self, CopyId},
    sockets,
};
use crate::tasks::Task;

/// Index of the door among the copies of an app.
pub(crate) const DOOR: u32 = u32::MAX - 1;
/// How the names of conversations begin in the keeper's table.
pub(crate) const CONVERSATION: &str = "door:";
/// The door among the copies of its app.
pub(super) const COPY: CopyId = CopyId {
    index: DOOR,
    generation: 0,
};
/// A door that ended is started again after so long, twice as long after each further try, up to [`AGAIN_MAX`].
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// So often at least it is tried to get sockets that a running door lacks.
const LACKS_MAX: Duration = Duration::from_secs(2);
/// A door that ran for so long was started well.
const WELL: Duration = Duration::from_secs(10);
const SIGTERM: i32 = 15;

/// What an actor knows of its door.
#[derive(Default)]
pub(super) struct Door {
    state: State,
    list: RefCell<Option<watch::Sender<Vec<Upstream>>>>,
    conversation: Option<Task>,
    again: Option<Task>,
    settings: Option<watch::Sender<Option<Settings>>>,
    trouble: Trouble,
    /// Tries to get the sockets that it lacks.
    lacks: Trouble,
}

/// Tries to start it that came to nothing.
#[derive(Default)]
struct Trouble {
    tries: u32,
    /// What was said last.
    why: String,
    /// When it was asked for.
    asked: Option<tokio::time::Instant>,
}

impl Trouble {
    /// How long to wait before the next try, and whether the reason has to be told.
    fn after(&mut self, why: &str, now: tokio::time::Instant) -> (Duration, bool) {
        let asked = self.asked.take();
        if asked.is_some_and(|asked| now.saturating_duration_since(asked) >= WELL) {
            *self = Self::default();
        }
        let pause = AGAIN.saturating_mul(1 << self.tries.min(16)).min(AGAIN_MAX);
        self.tries = self.tries.saturating_add(1);
        let is_new = self.why != why;
        why.clone_into(&mut self.why);
        (pause, is_new)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There is none.
    #[default]
    Down,
    /// The keeper was asked for its sockets.
    Binding,
    /// The keeper was asked for the process.
    Asked,
    /// It runs.
    Up,
    /// It was told to end.
    Leaving,
    /// It ended, and will be started again in a moment.
    Pausing,
}

/// The names of both ends of the conversation.
fn ends(app: &upkeep_model::id::AppName) -> (String, String) {
    (
        format!("{CONVERSATION}{app}:ours"),
        format!("{CONVERSATION}{app}:theirs"),
    )
}

impl Actor {
    /// The specification whose door is wanted, if any copy is at work.
    fn door_wanted(&self) -> Option<std::sync::Arc<AppSpec>> {
        let at_work = |slot: &&Slot| {
            slot.spec.door.is_some()
                // Nothing passes through the door to a trial, and its settings are on trial too.
                && slot.copy.index != TRIAL
                && (slot.machine.pid().is_some()
                    || !slot.machine.actual().is_settled()
                    || slot.machine.actual() == Actual::BackingOff)
        };
        self.slots
            .iter()
            .filter(at_work)
            .max_by_key(|slot| slot.copy)
            .map(|slot| std::sync::Arc::clone(&slot.spec))
    }

    /// Starts the door if it is needed, and ends it if it is not.
    pub(super) fn look_at_door(&mut self) {
        match (self.door.state, self.door_wanted()) {
            (State::Down | State::Binding, Some(spec)) => self.start_door(&spec),
            (State::Binding, None) => self.door.state = State::Down,
            (State::Up | State::Asked, None) => self.end_door(),
            (State::Up | State::Asked, Some(spec)) => self.tell_settings(&spec),
            _ => {}
        }
        self.tell_door();
    }

    /// Says how the door shall serve, if that has changed.
    fn tell_settings(&mut self, spec: &AppSpec) {
        let wanted = self.settings(spec);
        let Some(settings) = &self.door.settings else {
            return;
        };
        let is_sent = settings.send_if_modified(|known| {
            let changed = *known != wanted;
            *known = wanted;
            changed
        });
        if is_sent {
            // It says anew whether it lacks anything.
            self.door.again = None;
        }
    }

    fn settings(&self, spec: &AppSpec) -> Option<Settings> {
        let door = spec.door.as_ref()?;
        Some(Settings {
            protocol: door.protocol,
            tls: door.tls.as_ref().map(|tls| (tls.cert.clone(), tls.key.clone())),
            sockets: sockets::wanted(&self.name, &door.listen)
                .into_iter()
                .map(|wanted| wanted.kept)
                .collect(),
        })
    }

    /// The door has other sockets than it shall have: another one is started with these as soon as they are there, and
    /// nothing waits for the old one to have drained a copy.
    fn door_is_stale(&mut self) {
        let Some(spec) = self.door_wanted() else { return };
        let Some(door) = &spec.door else { return };
        let stopping = |slot: &Slot| slot.machine.actual() == Actual::Stopping;
        let why = if self.rollout.is_some() || self.slots.iter().any(stopping) {
            "its new addresses have to wait for the replacement of the instances".to_owned()
        } else {
            match self.sockets.look(sockets::wanted(&self.name, &door.listen)) {
                sockets::Readiness::There(_) => {
                    self.log_app("door", "its addresses have changed", "another one takes over");
                    self.door.lacks = Trouble::default();
                    self.end_door();
                    return;
                }
                sockets::Readiness::Pending(ask) => {
                    self.ask_for_sockets(COPY, ask);
                    self.look_again(AGAIN);
                    return;
                }
                sockets::Readiness::Failed(why) => format!("the front door cannot listen: {why}"),
            }
        };
        let (pause, is_new) = self.door.lacks.after(&why, tokio::time::Instant::now());
        if is_new {
            self.log_app("door", &why, "it goes on with the addresses it has");
        }
        self.look_again(pause.min(LACKS_MAX));
    }

    fn look_again(&mut self, pause: Duration) {
        let Some(mailbox) = self.mailbox_of_self() else {
            return;
        };
        self.door.again = Some(Task::spawn("door again", async move {
            tokio::time::sleep(pause).await;
            // The actor is gone: nobody needs the door.
            let _ = mailbox.send(Mail::DoorAgain).await;
        }));
    }

    /// Has the door finish what it has in hand, and end.
    pub(super) fn end_door(&mut self) {
        if !matches!(self.door.state, State::Up | State::Asked) {
            return;
        }
        self.door.state = State::Leaving;
        let key = launch::key(&self.name, COPY);
        self.context.link.order(|id| Request::Signal {
            id,
            key,
            signal: SIGTERM,
            scope: Scope::Leader,
        });
        let (ours, theirs) = ends(&self.name);
        for name in [ours, theirs] {
            self.context
                .link
                .order(|id| Request::CloseDescriptor { id, name });
        }
    }

    /// The sockets that the door needs, while there is one or will be: those it has, and those it shall have.
    pub(super) fn door_sockets(&self) -> Vec<sockets::Wanted> {
        let wanted = self.door_wanted();
        let mut specs: Vec<&AppSpec> = wanted.iter().map(AsRef::as_ref).collect();
        if self.door.state != State::Down {
            specs.push(&self.record.spec);
        }
        specs
            .iter()
            .filter_map(|spec| spec.door.as_ref())
            .flat_map(|door| sockets::wanted(&self.name, &door.listen))
            .collect()
    }

    fn start_door(&mut self, spec: &AppSpec) {
        let Some(door) = &spec.door else { return };
        let wanted = sockets::wanted(&self.name, &door.listen);
        let handed = match self.sockets.look(wanted) {
            sockets::Readiness::There(handed) => handed,
            sockets::Readiness::Pending(ask) => {
                self.door.state = State::Binding;
                self.ask_for_sockets(COPY, ask);
                return;
            }
            sockets::Readiness::Failed(why) => {
                self.door_failed(&format!("the front door cannot listen: {why}"));
                return;
            }
        };
        if let Err(why) = self.spawn_door(spec, &handed) {
            self.door_failed(&why);
        }
    }

    fn spawn_door(&mut self, spec: &AppSpec, handed: &[launch::Handed]) -> Result<(), String> {
        let program = crate::main_loop::own_program().map_err(|error| error.to_string())?;
        let (ours, theirs) = fd_pass::socketpair().map_err(|error| error.to_string())?;
        let kept = ours.try_clone().map_err(|error| error.to_string())?;
        let settings = self.settings(spec);
        let settings = serde_json::to_string(&settings).map_err(|error| error.to_string())?;
        let (our_name, their_name) = ends(&self.name);
        for (name, descriptor) in [(our_name, kept), (their_name.clone(), theirs)] {
            let link = &self.context.link;
            // Of a door before.
            let old = name.clone();
            link.order(|id| Request::CloseDescriptor { id, name: old });
            link.order(|id| Request::PutDescriptor { id, name, descriptor });
        }
        let count = u32::try_from(handed.len()).unwrap_or(0);
        let control = 3 + count;
        let mut descriptors: Vec<(u32, String)> = (3..)
            .zip(handed.iter().map(|socket| socket.kept.clone()))
            .collect();
        descriptors.push((control, their_name));
        // What it complains about stands in the log of the first instance.
        let places = launch::log_places(spec, 0, &self.context.logs);
        let err = places
            .iter()
            .rfind(|place| self.is_piped(&place.pipe))
            .map(|place| (2, place.pipe.clone()));
        descriptors.extend(err);
        let env = [
            ("LISTEN_FDS", count.to_string()),
            (CONTROL, control.to_string()),
            (SETTINGS, settings),
        ];
        self.context.link.spawn(
            launch::key(&self.name, COPY),
            SpawnSpec {
                argv: vec![program.into(), "door".into()],
                env: env.map(|(name, value)| (name.into(), value.into())).to_vec(),
                cwd: "/".into(),
                descriptors,
                cgroup: true,
                ..SpawnSpec::default()
            },
        );
        self.door.state = State::Asked;
        self.door.trouble.asked = Some(tokio::time::Instant::now());
        self.converse(ours);
        Ok(())
    }

    /// A daemon before has started it.
    pub(super) fn door_found(&mut self) {
        self.door.state = State::Up;
        self.door.trouble.asked = Some(tokio::time::Instant::now());
        let (name, _) = ends(&self.name);
        let answer = self.context.link.ask(|id| Request::GetDescriptor { id, name });
        let Some(mailbox) = self.mailbox_of_self() else {
            return;
        };
        self.door.again = Some(Task::spawn("door found", async move {
            let found = match answer.wait().await {
                Ok(Event::Descriptor { descriptor, .. }) => Ok(descriptor),
                Ok(_) => Err("the keeper answered something else".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            // The actor is gone: nobody needs the door.
            let _ = mailbox.send(Mail::DoorFound { found }).await;
        }));
    }

    /// The conversation of a door that a daemon before has started.
    pub(super) fn door_taken_over(&mut self, found: Result<OwnedFd, String>) {
        match found {
            Ok(ours) => self.converse(ours),
            Err(why) => self.log_app("door", &why, "its conversation is lost: it is started anew"),
        }
        self.look_at_door();
    }

    fn converse(&mut self, ours: OwnedFd) {
        let Some(mailbox) = self.mailbox_of_self() else {
            return;
        };
        let (list, changes) = watch::channel(self.upstreams());
        self.door.list.replace(Some(list));
        let wanted = self.door_wanted().and_then(|spec| self.settings(&spec));
        let (settings, manner) = watch::channel(wanted);
        self.door.settings = Some(settings);
        self.door.conversation = Some(Task::spawn("door", async move {
            // A socket that cannot be used is found out by the door's silence: every drain takes its whole time.
            let _ = talk(ours, changes, manner, &mailbox).await;
        }));
    }

    fn upstreams(&self) -> Vec<Upstream> {
        self.slots
            .iter()
            .filter(|slot| slot.machine.pid().is_some() && slot.spec.door.is_some())
            .filter_map(|slot| {
                Some(Upstream {
                    id: slot.copy.to_string(),
                    port: slot.port.filter(|_| slot.copy.index != TRIAL)?,
                    takes: takes(slot),
                })
            })
            .collect()
    }

    /// Says which copies there are, if that has changed.
    pub(super) fn tell_door(&mut self) {
        let upstreams = self.upstreams();
        for slot in &mut self.slots {
            // Once it had work, it may have some in hand until it ends.
            slot.door_takes |= takes(slot) && slot.spec.door.is_some() && slot.copy.index != TRIAL;
        }
        if let Some(list) = self.door.list.borrow().as_ref() {
            list.send_if_modified(|known| {
                let changed = *known != upstreams;
                *known = upstreams;
                changed
            });
        }
    }

    /// What the door says, or the end of its patience.
    pub(super) fn drained(&mut self, copy: CopyId) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.copy == copy) else {
            return;
        };
        // It may have been killed meanwhile, and another process have taken its place.
        if slot.machine.actual() != Actual::Stopping {
            slot.let_go();
        } else if let Some((signal, tree)) = slot.held_signal.take() {
            slot.drain = None;
            let key = launch::key(&self.name, copy);
            let scope = if tree { Scope::Tree } else { Scope::Leader };
            self.context.link.order(|id| Request::Signal {
                id,
                key,
                signal,
                scope,
            });
        }
    }

    /// Holds a stop signal back until the copy has finished what it has in hand. `false`: there is nothing to wait for.
    pub(super) fn hold_signal(&self, slot: &mut Slot, signal: i32, tree: bool) -> bool {
        // What a check found unhealthy has no time for what it has in hand: its own grace runs.
        let ordered = signal == slot.policy.stop.signal && !slot.unhealthy;
        let stops = slot.machine.actual() == Actual::Stopping && slot.door_takes && ordered;
        let (Some(door), true) = (&slot.spec.door, stops && self.door.state == State::Up) else {
            return false;
        };
        let Some(mailbox) = self.mailbox_of_self() else {
            return false;
        };
        let (copy, drain) = (slot.copy, Duration::from(door.drain));
        slot.held_signal = Some((signal, tree));
        slot.drain = Some(Task::spawn("drain", async move {
            tokio::time::sleep(drain).await;
            // The actor is gone: the copy is not ours any more.
            let _ = mailbox.send(Mail::Drained { copy }).await;
        }));
        true
    }

    pub(super) fn door_spawned(&mut self) {
        if self.door.state == State::Asked {
            self.door.state = State::Up;
        }
        self.look_at_door();
    }

    /// It ended, or could not be started.
    pub(super) fn door_failed(&mut self, why: &str) {
        let told = self.door.state == State::Leaving;
        self.door.state = State::Down;
        self.door.list.replace(None);
        self.door.settings = None;
        self.door.conversation = None;
        let held: Vec<CopyId> = self
            .slots
            .iter()
            .filter(|slot| slot.held_signal.is_some())
            .map(|slot| slot.copy)
            .collect();
        for copy in held {
            self.drained(copy);
        }
        if told {
            self.look_at_door();
            return;
        }
        self.door.state = State::Pausing;
        let (pause, is_new) = self.door.trouble.after(why, tokio::time::Instant::now());
        if is_new {
            self.log_app("door", why, "it is started again, after longer and longer pauses");
        }
        self.look_again(pause);
    }

    /// Time to start it, or to look at the sockets that it lacks.
    pub(super) fn door_again(&mut self) {
        match self.door.state {
            State::Pausing => self.door.state = State::Down,
            State::Up => self.door_is_stale(),
            _ => {}
        }
        self.look_at_door();
    }
}

/// Whether a copy may be given work.
fn takes(slot: &Slot) -> bool {
    slot.machine.actual() == Actual::Running && slot.machine.is_ready() && !slot.surplus
}

/// Sends each new list, and hands on what the door says.
async fn talk(
    ours: OwnedFd,
    mut changes: watch::Receiver<Vec<Upstream>>,
    mut manner: watch::Receiver<Option<Settings>>,
    mailbox: &mpsc::Sender<Mail>,
) -> std::io::Result<()> {
    let socket = std::os::unix::net::UnixStream::from(ours);
    socket.set_nonblocking(true)?;
    let (reader, mut writer) = UnixStream::from_std(socket)?.into_split();
    let mut reader = BufReader::new(reader).take(0);
    let mut line = Vec::new();
    changes.mark_changed();
    manner.mark_changed();
    // A daemon before may have died in the middle of a line.
    writer.write_all(b"\n").await?;
    loop {
        reader.set_limit(LINE_MAX as u64);
        tokio::select! {
            // Cancel-safe: what was read stays in `line`.
            read = reader.read_until(b'\n', &mut line) => {
                if read? == 0 {
                    return Ok(());
                }
                // What is no JSON is half a line that a daemon before has left.
                let mail = match serde_json::from_slice(&line) {
                    Ok(FromDoor::Drained { id }) => launch::parse_copy(&id).map(|copy| Mail::Drained { copy }),
                    Ok(FromDoor::Stale) => Some(Mail::DoorAgain),
                    Ok(FromDoor::Ready) | Err(_) => None,
                };
                line.clear();
                if let Some(mail) = mail
                    && mailbox.send(mail).await.is_err()
                {
                    return Ok(());
                }
            }
            // Cancel-safe: as below.
            changed = manner.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let settings = manner.borrow_and_update().clone();
                if let Some(settings) = settings {
                    say(&mut writer, &ToDoor::Settings(settings)).await?;
                }
            }
            // Cancel-safe: the version seen is kept in the receiver.
            changed = changes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let list = changes.borrow_and_update().clone();
                say(&mut writer, &ToDoor::Upstreams(list)).await?;
            }
        }
    }
}

async fn say(writer: &mut tokio::net::unix::OwnedWriteHalf, what: &ToDoor) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(what)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

/// A port on the loopback that nobody has: from `base` on, or any.
pub(super) fn free_port(base: Option<u16>, taken: &dyn Fn(u16) -> bool) -> Option<u16> {
    let free = |port: u16| std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port));
    match base {
        Some(base) => (base..=u16::MAX).find(|port| !taken(*port) && free(*port).is_ok()),
        None => (0..100).find_map(|_| {
            let port = free(0).ok()?.local_addr().ok()?.port();
            (!taken(port)).then_some(port)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_cannot_start_is_tried_more_and_more_seldom_and_told_once() {
        let mut trouble = Trouble::default();
        let now = tokio::time::Instant::now();
        let tries: Vec<_> = (0..10)
            .map(|_| {
                trouble.asked = Some(now);
                trouble.after("no certificate", now)
            })
            .collect();
        assert_eq!(tries[0], (AGAIN, true));
        assert_eq!(tries[1], (AGAIN * 2, false));
        assert_eq!(tries[9], (AGAIN_MAX, false));
        assert!(trouble.after("no socket", now).1, "another reason is told");
        trouble.asked = Some(now);
        assert_eq!(trouble.after("killed", now + WELL), (AGAIN, true));
    }
}
