//! What the primary needs of the keeper.

use std::{future::Future, os::fd::OwnedFd, pin::Pin, rc::Rc};

use upkeep_keeper::protocol::{Event, Request};

use crate::apps::actor::Context;

/// Something that comes later.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T>>>;

/// Descriptors by name, and notes: what outlives the daemon.
pub(crate) trait Keep {
    /// Keeps a duplicate under a name. Comes when it is kept.
    fn put(&self, name: String, descriptor: OwnedFd) -> Later<()>;
    /// A duplicate of what is kept.
    fn get(&self, name: String) -> Later<Option<OwnedFd>>;
    /// Closes what is kept.
    fn close(&self, name: String);
    /// Remembers bytes for the next daemon; none: forgets.
    fn note(&self, key: String, bytes: Vec<u8>);
}

/// The keeper itself.
#[derive(Debug)]
pub(crate) struct Keeper(pub(crate) Rc<Context>);

impl Keep for Keeper {
    fn put(&self, name: String, descriptor: OwnedFd) -> Later<()> {
        let answer = self
            .0
            .link
            .ask(|id| Request::PutDescriptor { id, name, descriptor });
        Box::pin(async move {
            // A keeper that is out of descriptors: the socket works until this daemon ends.
            if let Err(error) = answer.wait().await {
                crate::main_loop::note(&format!("a descriptor could not be kept: {error}"));
            }
        })
    }

    fn get(&self, name: String) -> Later<Option<OwnedFd>> {
        let answer = self.0.link.ask(|id| Request::GetDescriptor { id, name });
        Box::pin(async move {
            match answer.wait().await {
                Ok(Event::Descriptor { descriptor, .. }) => Some(descriptor),
                _ => None,
            }
        })
    }

    fn close(&self, name: String) {
        self.0.link.order(|id| Request::CloseDescriptor { id, name });
    }

    fn note(&self, key: String, bytes: Vec<u8>) {
        self.0.link.tell(&Request::SetNote { key, bytes });
    }
}
