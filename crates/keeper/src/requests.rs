//! One request, one answer.

use std::path::PathBuf;

use upkeep_sys::{clock, descriptor, signal};

use crate::{
    children::StartError,
    codec::Received,
    daemon_link::Upgrade,
    descriptors::DescriptorError,
    protocol::{Event, Listing, OLDEST, Refusal, Request, SpawnSpec, VERSION},
    run::{Ending, Keeper},
    table::{EXITS_LIMIT, NAME_LIMIT},
};

/// What follows from a request besides its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    /// The daemon breaks the protocol.
    Kill(&'static str),
    /// It cannot be spoken with: the answer goes out, then the keeper hangs up.
    HangUp,
}

fn refused(id: u64, refusal: Refusal, message: impl Into<String>) -> Event {
    Event::Refused {
        id,
        refusal,
        errno: 0,
        message: message.into(),
    }
}

fn refused_by_kernel(id: u64, errno: i32, message: impl ToString) -> Event {
    Event::Refused {
        id,
        refusal: Refusal::Kernel,
        errno,
        message: message.to_string(),
    }
}

/// A name or key: some bytes, not too many, none of them NUL.
fn check_name(id: u64, name: &str) -> Result<(), Event> {
    if name.len() > NAME_LIMIT {
        return Err(refused(
            id,
            Refusal::TooLarge,
            format!("a name longer than {NAME_LIMIT} bytes"),
        ));
    }
    if name.is_empty() || name.contains('\0') {
        return Err(refused(
            id,
            Refusal::Malformed,
            "a name that is empty or contains a NUL byte",
        ));
    }
    Ok(())
}

impl Keeper {
    /// Carries out one request.
    pub(crate) fn handle(&mut self, received: Received) -> Verdict {
        let request = match received {
            Received::DescriptorLost { id } => {
                self.answer(refused_by_kernel(
                    id,
                    24,
                    "failed to receive the descriptor: too many open files",
                ));
                return Verdict::Go;
            }
            Received::Request(request) => request,
        };
        let greeted = self.daemon.alive().is_some_and(|alive| alive.greeted);
        match (&request, greeted) {
            (Request::Hello { .. }, _) | (_, true) => {}
            (_, false) => return Verdict::Kill("it did not say Hello first"),
        }
        let answer = match request {
            Request::Hello {
                oldest,
                newest,
                program_version,
            } => {
                return self.hello(oldest, newest, &program_version);
            }
            Request::Ready => {
                self.daemon.became_ready(&mut self.log);
                return Verdict::Go;
            }
            Request::AckExit { seq } => {
                self.children.table.forget_exit(seq);
                return Verdict::Go;
            }
            Request::SetNote { key, bytes } => match self.children.table.set_note(key, bytes) {
                Ok(()) => return Verdict::Go,
                Err(_) => Err(refused(
                    0,
                    Refusal::TooLarge,
                    "the note, or all notes together, are too large",
                )),
            },
            Request::Spawn { id, key, spec } => self.spawn(id, &key, *spec),
            Request::Signal {
                id,
                key,
                signal,
                scope,
            } => self.signal(id, &key, signal, scope),
            Request::SetLimits { id, key, limits } => match self.children.set_limits(&key, &limits) {
                None => Err(refused(
                    id,
                    Refusal::NoSuchKey,
                    format!("`{key}` is not alive, or was started without limits"),
                )),
                Some(Err(error)) => Err(refused_by_kernel(id, error.errno, &error)),
                Some(Ok(missing)) => Ok(Event::Done {
                    id,
                    count: u32::try_from(missing).unwrap_or(u32::MAX),
                }),
            },
            Request::MakePipe { id, name } => check_name(id, &name).and_then(|()| {
                let made = self.descriptors.make_pipe(&name);
                passed(id, name, made)
            }),
            Request::Listen { id, name, address } => check_name(id, &name).and_then(|()| {
                let made = self.descriptors.listen(&name, &address);
                passed(id, name, made)
            }),
            Request::PutDescriptor { id, name, descriptor } => check_name(id, &name).map(|()| {
                self.descriptors.put(&name, descriptor);
                Event::Done { id, count: 1 }
            }),
            Request::GetDescriptor { id, name } => {
                if self.descriptors.contains(&name) {
                    let copy = self.descriptors.duplicate(&name);
                    passed(id, name, copy)
                } else {
                    Err(refused(
                        id,
                        Refusal::NoSuchName,
                        format!("there is no descriptor `{name}`"),
                    ))
                }
            }
            Request::CloseDescriptor { id, name } => {
                if self.descriptors.close(&name) {
                    Ok(Event::Done { id, count: 1 })
                } else {
                    Err(refused(
                        id,
                        Refusal::NoSuchName,
                        format!("there is no descriptor `{name}`"),
                    ))
                }
            }
            Request::List { id } => {
                // Who is no longer in the list has ended, and how must be known before the list is.
                self.tell_exits(usize::MAX);
                Ok(Event::Listing {
                    id,
                    listing: Box::new(self.listing()),
                })
            }
            Request::UpgradeDaemon { id, program } => match self.upgrade_daemon(id, program) {
                Ok(()) => return Verdict::Go,
                Err(refusal) => Err(refusal),
            },
            Request::UpgradeKeeper { id, program } => match self.begin_own_upgrade(Some(id), program) {
                Ok(()) => return Verdict::Go,
                Err(refusal) => Err(refusal),
            },
            Request::Leave { id } => {
                self.log.line("the daemon leaves");
                if let Some(alive) = self.daemon.alive() {
                    alive.leaving = true;
                }
                Ok(Event::Done { id, count: 0 })
            }
        };
        self.answer(answer.unwrap_or_else(|refusal| refusal));
        Verdict::Go
    }

    pub(crate) fn answer(&mut self, event: Event) {
        if let Some(alive) = self.daemon.alive() {
            alive.send(event);
        }
    }

    fn hello(&mut self, oldest: u16, newest: u16, program_version: &str) -> Verdict {
        let version = newest.min(VERSION);
        if version < oldest.max(OLDEST) {
            let message = format!("protocol {OLDEST} to {VERSION} is spoken here, not {oldest} to {newest}");
            self.log
                .line(&format!("daemon {program_version} is refused: {message}"));
            self.answer(refused(0, Refusal::Version, message));
            return Verdict::HangUp;
        }
        let welcome = Event::Welcome {
            version,
            program_version: self.version.clone(),
            pid: upkeep_sys::Pid::own().unsigned(),
            epoch: self.epoch,
            tracking: self.children.groups.tracking.clone(),
        };
        let outcome = self.daemon.outcome.clone();
        let ending = match self.ending {
            Ending::Asked { signal, .. } => Some(signal),
            _ => None,
        };
        if let Some(alive) = self.daemon.alive() {
            alive.version = version;
            alive.send(welcome);
            if std::mem::replace(&mut alive.greeted, true) {
                // It knows the rest, and has only learnt whom it speaks to.
                return Verdict::Go;
            }
            if let Some(message) = outcome {
                alive.send(Event::UpgradeOutcome { ok: false, message });
            }
            if let Some(signal) = ending {
                alive.send(Event::Terminate { signal });
            }
        }
        Verdict::Go
    }

    fn spawn(&mut self, id: u64, key: &str, spec: SpawnSpec) -> Result<Event, Event> {
        check_name(id, key)?;
        if self.children.table.children.contains_key(key) {
            return Err(refused(
                id,
                Refusal::KeyInUse,
                format!("a child `{key}` is alive"),
            ));
        }
        if self.children.table.exits_waiting() >= EXITS_LIMIT {
            return Err(refused(
                id,
                Refusal::TooLarge,
                "too many ends wait to be acknowledged",
            ));
        }
        match self
            .children
            .start(key, spec, &self.descriptors, &mut self.reserve)
        {
            Ok(child) => Ok(Event::Spawned {
                id,
                key: key.to_owned(),
                pid: child.pid.unsigned(),
                start_ticks: child.start_ticks,
                started_unix_ms: child.started_unix_ms,
            }),
            Err(StartError::NoSuchName(name)) => Err(refused(
                id,
                Refusal::NoSuchName,
                format!("there is no descriptor `{name}`"),
            )),
            Err(StartError::Spawn(error)) => Err(refused_by_kernel(id, error.errno(), &error)),
        }
    }

    fn signal(
        &mut self,
        id: u64,
        key: &str,
        number: i32,
        scope: crate::protocol::Scope,
    ) -> Result<Event, Event> {
        if !signal::is_valid(number) {
            return Err(refused_by_kernel(id, 22, format!("there is no signal {number}")));
        }
        match self.children.signal(key, number, scope) {
            Ok(Some(count)) => Ok(Event::Done { id, count }),
            Ok(None) => Err(refused(
                id,
                Refusal::NoSuchKey,
                format!("nothing of `{key}` is alive"),
            )),
            Err(errno) => Err(refused_by_kernel(id, errno, format!("failed to signal `{key}`"))),
        }
    }

    fn listing(&self) -> Listing {
        Listing {
            children: self.children.table.entries(),
            descriptors: self.descriptors.names(),
            notes: self.children.table.notes(),
        }
    }

    fn upgrade_daemon(&mut self, id: u64, program: PathBuf) -> Result<(), Event> {
        if self.daemon.upgrade.is_some() {
            return Err(refused(id, Refusal::Unfit, "an upgrade is under way"));
        }
        if let Err(error) = descriptor::is_executable(&program) {
            let message = error.to_string();
            return Err(Event::Refused {
                id,
                refusal: Refusal::Unfit,
                errno: error.errno,
                message,
            });
        }
        self.log.line(&format!(
            "the daemon asks to be replaced by `{}`",
            program.display()
        ));
        self.daemon.upgrade = Some(Upgrade::Retiring { new: program });
        let at = clock::monotonic_ms() + self.daemon.times.retire;
        if let Some(alive) = self.daemon.alive() {
            alive.kill_at_ms = Some(at);
            alive.send(Event::Done { id, count: 0 });
            alive.send(Event::Retire);
        }
        Ok(())
    }
}

/// The answer to a request for a descriptor.
fn passed(
    id: u64,
    name: String,
    made: Result<std::os::fd::OwnedFd, DescriptorError>,
) -> Result<Event, Event> {
    match made {
        Ok(descriptor) => Ok(Event::Descriptor { id, name, descriptor }),
        Err(error) => Err(refused_by_kernel(id, error.errno(), &error)),
    }
}
