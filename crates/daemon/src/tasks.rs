//! The one place that spawns tasks on the supervision runtime.
//!
//! Every task has a name and is aborted when its [`Task`] is dropped, so none outlives its owner.

use std::future::Future;

/// A running task; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Task {
    handle: tokio::task::JoinHandle<()>,
}

impl Task {
    /// Starts a task on the current thread's runtime.
    pub(crate) fn spawn(name: &'static str, future: impl Future<Output = ()> + 'static) -> Self {
        // The name stands in the source for the reader of a panic's backtrace and for future listings.
        let _ = name;
        Self {
            handle: tokio::task::spawn_local(future),
        }
    }

    /// Starts a task that ends by itself soon and needs no owner.
    pub(crate) fn spawn_short(name: &'static str, future: impl Future<Output = ()> + 'static) {
        let _ = name;
        // Dropping the handle detaches it.
        drop(tokio::task::spawn_local(future));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
