//! The pump's thread: waits for pipes, orders and the clock, and gives each source its turn.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, mpsc},
};

use rustix::event::epoll;
use upkeep_sys::{clock, pipe};

use super::{
    NAP, Order, SourceName, Status, Statuses, TROUBLE_PAUSE, Target, WAKE, WIDE_PIPE,
    source::{Source, Tools, describe},
};
use crate::logs::{files::LogFile, ledger::lock};

pub(super) struct Worker {
    pub(super) epoll: OwnedFd,
    pub(super) wake: OwnedFd,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) statuses: Statuses,
    pub(super) sources: BTreeMap<u64, Source>,
    pub(super) names: HashMap<SourceName, u64>,
    pub(super) next_id: u64,
    pub(super) tools: Tools,
}

impl Worker {
    pub(super) fn run(&mut self) {
        let mut events = Vec::with_capacity(256);
        loop {
            let troubled = self.sources.values().any(|source| source.trouble.is_some());
            let timeout = self.pause(troubled);
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // EBADF and EINVAL would be faults of ours: without a pump nothing works, so end and be restarted.
                Err(error) => panic!("the log pump cannot wait: {error}"),
            }
            let mut fast = false;
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        let mut count = [0_u8; 8];
                        // Only resets the counter.
                        let _ = rustix::io::read(&self.wake, &mut count);
                    }
                    id => fast |= self.serve(id),
                }
            }
            if troubled {
                for id in self.which(|source| source.trouble.is_some()) {
                    self.recover(id);
                }
            }
            let (unix_ms, monotonic_ms) = (clock::unix_ms(), clock::monotonic_ms());
            for id in self.which(|source| source.due_in(unix_ms, monotonic_ms) == Some(0)) {
                self.serve(id);
            }
            while let Ok(order) = self.orders.try_recv() {
                if !self.obey(order) {
                    return;
                }
            }
            if !events.is_empty() && !fast {
                // Let some more come together: one move of forty lines costs what a move of one costs. The pipes have
                // plenty of room, so nobody is held up, and what is in a pipe is safe.
                let _ = rustix::thread::nanosleep(&NAP);
            }
        }
    }

    fn which(&self, is_one: impl Fn(&Source) -> bool) -> Vec<u64> {
        let found = self.sources.iter().filter(|(_, source)| is_one(source));
        found.map(|(id, _)| *id).collect()
    }

    /// How long to wait if no pipe has anything: until a file is to be tried again, rotated by the clock, or a line
    /// has waited long enough for its end.
    fn pause(&self, troubled: bool) -> Option<rustix::event::Timespec> {
        let (unix_ms, monotonic_ms) = (clock::unix_ms(), clock::monotonic_ms());
        let due = self
            .sources
            .values()
            .filter_map(|source| source.due_in(unix_ms, monotonic_ms));
        // Somebody may set the clock: a rotation is looked for at least every minute.
        let due = due.min().map(|ms| ms.clamp(1, 60_000));
        let trouble = troubled.then(|| u64::try_from(TROUBLE_PAUSE.as_millis()).unwrap_or(50));
        let ms = due.into_iter().chain(trouble).min()?;
        Some(rustix::event::Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(60),
            tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
        })
    }

    fn cut(&mut self) -> u64 {
        let mut at = self.tools.not_before.max(clock::unix_ms());
        if at > clock::unix_ms() + 2000 {
            // Somebody has set the clock back.
            at = clock::unix_ms();
        }
        for log in self.sources.values().filter_map(|source| source.log.as_ref()) {
            at = at.max(lock(log).stamped().saturating_add(1).min(at + 2000));
        }
        for log in self.sources.values().filter_map(|source| source.log.as_ref()) {
            lock(log).cut();
        }
        self.tools.not_before = at;
        at
    }

    fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Add { name, pipe, target } => {
                self.forget(&name);
                // The keeper has done so; a pipe that blocks would stop all logs.
                if let Err(error) = upkeep_sys::descriptor::set_nonblocking(&pipe, true) {
                    crate::main_loop::note(&format!("a log pipe was not taken on: {error}"));
                    return true;
                }
                let id = self.next_id;
                self.next_id += 1;
                let mut source = Source::new(name.clone(), pipe, target);
                let shared = self.shared(source.target.path.as_deref());
                source.open(shared, &self.tools);
                let troubled = source.trouble.is_some();
                self.names.insert(name, id);
                self.publish(&source);
                self.sources.insert(id, source);
                if !troubled {
                    self.watch(id);
                }
            }
            Order::Retarget { name, target } => {
                if let Some(id) = self.names.get(&name).copied() {
                    self.serve(id);
                    self.retarget(id, target);
                    self.publish_id(id);
                }
            }
            Order::Remove { name, done } => {
                if let Some(id) = self.names.get(&name).copied() {
                    self.empty(id);
                    self.forget(&name);
                }
                done();
            }
            Order::Drain { done } => {
                for id in self.sources.keys().copied().collect::<Vec<_>>() {
                    self.empty(id);
                }
                done();
            }
            Order::Cut { done } => {
                let at = self.cut();
                // Whoever asked has left: then nobody needs it.
                let _ = done.try_send(at);
            }
            Order::Stop => return false,
        }
        true
    }

    /// The file of a path, if another source writes it already.
    fn shared(&self, path: Option<&std::path::Path>) -> Option<Arc<Mutex<LogFile>>> {
        let path = path?;
        let mut others = self
            .sources
            .values()
            .filter(|source| source.target.path.as_deref() == Some(path));
        others.find_map(|source| source.log.clone())
    }

    fn retarget(&mut self, id: u64, target: Target) {
        let shared = self.shared(target.path.as_deref());
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let moved = source.target.path != target.path || source.target.guarded != target.guarded;
        source.target = target;
        if moved {
            source.open(shared, &self.tools);
        } else if let Some(log) = &source.log {
            let mut log = lock(log);
            log.set_limits(source.target.limits);
            log.ledger().set_policy(source.target.policy.clone());
            self.tools.bell.look_at(log.ledger());
        }
        // What is in trouble is visited by the clock, what is not by epoll.
        if source.trouble.is_some() {
            self.unwatch(id);
        } else {
            self.watch(id);
        }
    }

    fn watch(&self, id: u64) {
        if let Some(source) = self.sources.get(&id)
            && let Err(error) = epoll::add(
                &self.epoll,
                &source.pipe,
                epoll::EventData::new_u64(id),
                epoll::EventFlags::IN,
            )
            && error != rustix::io::Errno::EXIST
        {
            panic!("the log pump cannot watch a pipe: {error}");
        }
    }

    fn unwatch(&self, id: u64) {
        if let Some(source) = self.sources.get(&id) {
            // ENOENT: it was not watched.
            let _ = epoll::delete(&self.epoll, &source.pipe);
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(id) = self.names.remove(name) {
            self.unwatch(id);
            self.sources.remove(&id);
            if let Ok(mut statuses) = self.statuses.lock() {
                statuses.remove(name);
            }
        }
    }

    fn publish_id(&self, id: u64) {
        if let Some(source) = self.sources.get(&id) {
            self.publish(source);
        }
    }

    fn publish(&self, source: &Source) {
        let status = Status {
            ledger: source.log.as_ref().map(|log| Arc::clone(lock(log).ledger())),
            lost: source.lost,
            trouble: source.trouble.clone(),
        };
        lock(&self.statuses).insert(source.name.clone(), status);
    }

    /// One turn of a source that has something. Whether its writer would soon have filled the pipe.
    fn serve(&mut self, id: u64) -> bool {
        let Some(source) = self.sources.get_mut(&id) else {
            return false;
        };
        if source.trouble.is_some() {
            return false;
        }
        let waiting = pipe::available(&source.pipe).unwrap_or(0);
        let fast = waiting
            >= if source.wide {
                WIDE_PIPE as u64 / 4
            } else {
                16 << 10
            };
        let outcome = source.turn(&mut self.tools);
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                source.trouble = Some(describe(&error, source.target.path.as_deref()));
                self.unwatch(id);
                self.publish_id(id);
                return false;
            }
        }
        self.watch_as_needed(id);
        fast
    }

    /// A line that waits for its end would wake us without pause: then only new bytes do.
    fn watch_as_needed(&mut self, id: u64) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let edge = source.waits_since.is_some();
        if edge != source.edge {
            source.edge = edge;
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::ET, edge);
            // ENOENT: it is in trouble and not watched; when it is again, it is without ET.
            let _ = epoll::modify(&self.epoll, &source.pipe, epoll::EventData::new_u64(id), flags);
        }
    }

    /// Takes all that is in the pipe now, whatever it takes.
    fn empty(&mut self, id: u64) {
        if let Some(source) = self.sources.get_mut(&id)
            && source.trouble.is_none()
        {
            source.finish_batch();
            if source.trouble.is_some() {
                self.unwatch(id);
                self.publish_id(id);
            }
        }
        for _ in 0..1024 {
            let Some(source) = self.sources.get(&id) else {
                return;
            };
            if pipe::available(&source.pipe).unwrap_or(0) == 0 {
                return;
            }
            self.serve(id);
            if let Some(source) = self.sources.get_mut(&id)
                && source.waits_since.is_some()
            {
                // Its end may never come: it is written as far as it has come.
                source.waits_since = Some(0);
                self.serve(id);
            }
            let Some(source) = self.sources.get_mut(&id) else {
                return;
            };
            if source.trouble.is_some() {
                source.lose_all(&mut self.tools.look);
                return;
            }
        }
    }

    /// A file could not be written: is it better now? Only bytes that have moved prove it. If not, is the pipe about
    /// to hold up its writer?
    fn recover(&mut self, id: u64) {
        let shared = self
            .sources
            .get(&id)
            .and_then(|source| self.shared(source.target.path.as_deref()));
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        if source.try_again(shared, &self.tools) {
            match source.turn(&mut self.tools) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    source.trouble = Some(describe(&error, source.target.path.as_deref()));
                }
                _ => source.trouble = None,
            }
        }
        if source.trouble.is_none() {
            source.edge = false;
            self.watch(id);
        } else if source.is_nearly_full() {
            source.lose_all(&mut self.tools.look);
        }
        self.publish_id(id);
    }
}
