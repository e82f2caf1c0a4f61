//! Bodies that are watched: what is asked must arrive in time, and what is answered keeps its connection busy.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::{
    sync::Notify,
    time::{Sleep, sleep},
};

/// How long a body may take, whatever its size.
const TIME: Duration = Duration::from_secs(20);
/// And as much longer as it takes at this rate, in bytes a second.
const RATE: u64 = 64 << 10;

/// How long a body may take that says how long it is.
pub(super) fn time_for(length: Option<u64>) -> Duration {
    TIME + Duration::from_secs(length.unwrap_or(0) / RATE)
}

/// The body of a request, with an end in time.
#[derive(Debug)]
pub(super) struct Timed {
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
    late: Arc<AtomicBool>,
}

impl Timed {
    /// `late` is set when time is over.
    pub(super) fn new(body: Incoming, time: Duration, late: Arc<AtomicBool>) -> Self {
        Self {
            body,
            deadline: Box::pin(sleep(time)),
            late,
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl hyper::body::Body for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            self.late.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err("the body came too slowly".into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How many requests of a connection are under way.
#[derive(Debug, Default)]
pub(super) struct Activity {
    requests: AtomicUsize,
    changed: Notify,
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Activity {
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        Busy(Arc::clone(self))
    }

    /// Waits until nothing has been asked for `time`.
    pub(super) async fn idle(&self, time: Duration) {
        loop {
            if self.requests.load(Ordering::Relaxed) > 0 {
                self.changed.notified().await;
                continue;
            }
            // Cancel-safe: a notice that is not taken stays for the next round.
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(time) => return,
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

/// The body of an answer, which ends its request when it ends.
#[derive(Debug)]
pub(super) struct Answering {
    body: Body,
    _busy: Busy,
}

impl Answering {
    pub(super) fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl hyper::body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_have_more_time() {
        assert_eq!(time_for(None), TIME);
        assert_eq!(time_for(Some(100)), TIME);
        assert_eq!(time_for(Some(640 << 10)), TIME + Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_connection_is_idle_when_the_last_answer_has_ended() {
        let activity = Arc::new(Activity::default());
        let busy = activity.begin();
        let time = Duration::from_millis(20);
        let idle = activity.idle(time);
        let mut idle = std::pin::pin!(idle);
        let within = tokio::time::timeout(time * 10, idle.as_mut()).await;
        assert!(within.is_err(), "it is busy");
        drop(busy);
        idle.await;
    }
}
