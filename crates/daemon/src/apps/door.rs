//! An actor's front door: its process, and the conversation with it.
//!
//! The door is a child of the keeper under the key `APP/door`. It runs as long as any copy of the app is at work. The
//! conversation is a socket pair whose ends the keeper holds too, so that the door never hears a daemon die; a new
//! daemon takes the old end back and says anew which copies there are.
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
/// A door that ended is started again after so long.
const AGAIN: Duration = Duration::from_millis(200);
const SIGTERM: i32 = 15;

/// What an actor knows of its door.
#[derive(Default)]
pub(super) struct Door {
    state: State,
    list: RefCell<Option<watch::Sender<Vec<Upstream>>>>,
    conversation: Option<Task>,
    again: Option<Task>,
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
            _ => {}
        }
        self.tell_door();
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

    /// The sockets that the door needs, while there is one or will be.
    pub(super) fn door_sockets(&self) -> Vec<sockets::Wanted> {
        let spec = match self.door.state {
            State::Down => self.door_wanted(),
            _ => Some(std::sync::Arc::new(self.record.spec.clone())),
        };
        let door = spec.and_then(|spec| spec.door.clone());
        door.map_or_else(Vec::new, |door| sockets::wanted(&self.name, &door.listen))
    }

    fn start_door(&mut self, spec: &AppSpec) {
        let Some(door) = &spec.door else { return };
        let wanted = sockets::wanted(&self.name, &door.listen);
        let handed = match self.sockets.look(wanted) {
            sockets::Readiness::There(handed) => handed,
            sockets::Readiness::Pending(ask) => {
                self.door.state = State::Binding;
                for wanted in ask {
                    let key = launch::key(&self.name, COPY);
                    self.context.link.listen(key, wanted.kept, wanted.address);
                }
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
        let Some(door) = &spec.door else { return Ok(()) };
        let program = crate::main_loop::own_program().map_err(|error| error.to_string())?;
        let (ours, theirs) = fd_pass::socketpair().map_err(|error| error.to_string())?;
        let kept = ours.try_clone().map_err(|error| error.to_string())?;
        let settings = Settings {
            protocol: door.protocol,
            tls: door.tls.as_ref().map(|tls| (tls.cert.clone(), tls.key.clone())),
        };
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
        self.converse(ours);
        Ok(())
    }

    /// A daemon before has started it.
    pub(super) fn door_found(&mut self) {
        self.door.state = State::Up;
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
        self.door.conversation = Some(Task::spawn("door", async move {
            // A socket that cannot be used is found out by the door's silence: every drain takes its whole time.
            let _ = talk(ours, changes, &mailbox).await;
        }));
    }

    fn upstreams(&self) -> Vec<Upstream> {
        self.slots
            .iter()
            .filter(|slot| slot.machine.pid().is_some() && slot.spec.door.is_some())
            .filter_map(|slot| {
                Some(Upstream {
                    id: slot.copy.to_string(),
                    port: slot
                        .port
                        .filter(|_| slot.copy.index != upkeep_supervise::rollout::TRIAL)?,
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
        self.log_app("door", why, "it is started again");
        self.door.state = State::Pausing;
        let Some(mailbox) = self.mailbox_of_self() else {
            return;
        };
        self.door.again = Some(Task::spawn("door again", async move {
            tokio::time::sleep(AGAIN).await;
            // The actor is gone: nobody needs the door.
            let _ = mailbox.send(Mail::DoorAgain).await;
        }));
    }

    pub(super) fn door_again(&mut self) {
        if self.door.state == State::Pausing {
            self.door.state = State::Down;
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
    mailbox: &mpsc::Sender<Mail>,
) -> std::io::Result<()> {
    let socket = std::os::unix::net::UnixStream::from(ours);
    socket.set_nonblocking(true)?;
    let (reader, mut writer) = UnixStream::from_std(socket)?.into_split();
    let mut reader = BufReader::new(reader).take(0);
    let mut line = Vec::new();
    changes.mark_changed();
    loop {
        reader.set_limit(LINE_MAX as u64);
        tokio::select! {
            // Cancel-safe: what was read stays in `line`.
            read = reader.read_until(b'\n', &mut line) => {
                if read? == 0 {
                    return Ok(());
                }
                // What is no JSON is half a line that a daemon before has left.
                if let Ok(FromDoor::Drained { id }) = serde_json::from_slice(&line)
                    && let Some(copy) = launch::parse_copy(&id)
                    && mailbox.send(Mail::Drained { copy }).await.is_err()
                {
                    return Ok(());
                }
                line.clear();
            }
            // Cancel-safe: the version seen is kept in the receiver.
            changed = changes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let list = changes.borrow_and_update().clone();
                let mut text = serde_json::to_vec(&ToDoor::Upstreams(list))?;
                text.push(b'\n');
                writer.write_all(&text).await?;
            }
        }
    }
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
