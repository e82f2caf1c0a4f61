//! `pub.sock`: whoever connects hears everything that is published from then on.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use upkeep_pm2::amp::{self, Argument};

use crate::tasks::Task;

/// How many events may wait for a listener that does not read; what comes then is not sent to it.
const LAG: usize = 1024;

/// One message, encoded once for all who listen.
type Frame = Rc<Vec<u8>>;

/// The bus.
#[derive(Clone, Default)]
pub(super) struct Bus {
    listeners: Rc<RefCell<Vec<mpsc::Sender<Frame>>>>,
    count: Arc<AtomicUsize>,
}

impl Bus {
    /// `count` is kept equal to the number of listeners, for who must know from another thread.
    pub(super) fn new(count: Arc<AtomicUsize>) -> Self {
        Self {
            listeners: Rc::default(),
            count,
        }
    }

    /// Whether anybody listens.
    pub(super) fn is_heard(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Tells all listeners.
    pub(super) fn publish(&self, event: &str, payload: Value) {
        if !self.is_heard() {
            return;
        }
        let frame = Rc::new(amp::encode(&[
            Argument::Text(event.to_owned()),
            Argument::Json(payload),
        ]));
        for listener in self.listeners.borrow().iter() {
            // Full: it does not keep up, and misses this one. Closed: it is forgotten by its own task.
            let _ = listener.try_send(Rc::clone(&frame));
        }
    }

    /// Serves the socket.
    pub(super) fn serve(&self, listener: UnixListener) -> Task {
        let bus = self.clone();
        Task::spawn("pm2 bus", async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => bus.admit(stream),
                    // Too few descriptors: there may be more in a while.
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                }
            }
        })
    }

    fn admit(&self, stream: UnixStream) {
        let (sender, mut inbox) = mpsc::channel::<Frame>(LAG);
        let own = sender.clone();
        self.listeners.borrow_mut().push(sender);
        self.count.fetch_add(1, Ordering::Relaxed);
        let bus = self.clone();
        Task::spawn_short("pm2 listener", async move {
            let (mut reader, mut writer) = stream.into_split();
            let mut ignored = [0; 256];
            loop {
                tokio::select! {
                    // Cancel-safe: what a listener says is of no concern.
                    read = reader.read(&mut ignored) => if matches!(read, Ok(0) | Err(_)) { break },
                    // Cancel-safe: a frame is taken only when it is returned.
                    frame = inbox.recv() => {
                        let Some(frame) = frame else { break };
                        if writer.write_all(&frame).await.is_err() {
                            break;
                        }
                    }
                }
            }
            bus.listeners
                .borrow_mut()
                .retain(|other| !other.same_channel(&own));
            bus.count.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// How long it takes until listeners have what was published: they write as soon as we yield.
    pub(super) async fn settle(&self) {
        for _ in 0..20 {
            let waiting = self
                .listeners
                .borrow()
                .iter()
                .any(|listener| listener.capacity() < LAG);
            if !waiting {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
