//! `rpc.sock`: PM2's methods over AMP.

use std::{rc::Rc, sync::Arc};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};
use upkeep_pm2::amp::{self, Argument, Decoder};

use super::{god::God, methods};
use crate::tasks::Task;

/// How many calls of one client may be in work; what comes then waits.
const IN_WORK: usize = 64;
/// How many answers may wait to be written.
const ANSWERS: usize = 64;

/// Serves the socket.
pub(super) fn serve(god: &Rc<God>, listener: UnixListener) -> Task {
    let god = Rc::clone(god);
    Task::spawn("pm2 rpc", async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => Task::spawn_short("pm2 client", client(Rc::clone(&god), stream)),
                // Too few descriptors: there may be more in a while.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    })
}

/// One client until it hangs up. What it has ordered is done all the same.
async fn client(god: Rc<God>, stream: UnixStream) {
    let who = stream
        .peer_cred()
        .map_or_else(|_| "unknown".to_owned(), |peer| format!("uid:{}", peer.uid()));
    let (mut reader, mut writer) = stream.into_split();
    let (answers, mut outbox) = mpsc::channel::<Vec<u8>>(ANSWERS);
    let _writer = Task::spawn("pm2 answers", async move {
        while let Some(answer) = outbox.recv().await {
            if writer.write_all(&answer).await.is_err() {
                return;
            }
        }
    });
    let in_work = Arc::new(Semaphore::new(IN_WORK));
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => decoder.feed(&buffer[..length]),
        }
        loop {
            let message = match decoder.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                // After that nothing of the stream can be understood.
                Err(_) => return,
            };
            // The semaphore is never closed.
            let Ok(room) = Arc::clone(&in_work).acquire_owned().await else {
                return;
            };
            let (god, answers, who) = (Rc::clone(&god), answers.clone(), who.clone());
            Task::spawn_short("pm2 call", async move {
                if let Some(answer) = answer(&god, message, &who).await {
                    // A client that has left gets none.
                    let _ = answers.send(answer).await;
                }
                drop(room);
            });
        }
    }
}

async fn answer(god: &Rc<God>, message: Vec<Argument>, who: &str) -> Option<Vec<u8>> {
    let mut arguments = message.into_iter();
    let call = arguments.next().and_then(Argument::into_json)?;
    let id = arguments.next()?;
    let body = match call.get("type").and_then(Value::as_str) {
        Some("methods") => json!({ "methods": methods::described() }),
        Some("call") => {
            let method = call.get("method").and_then(Value::as_str).unwrap_or_default();
            let arguments = match call.get("args") {
                Some(Value::Array(arguments)) => arguments.clone(),
                _ => Vec::new(),
            };
            match methods::call(god, method, arguments, who).await {
                // Its answer is a signal and the end of the connection: an answer in words is one too many for PM2's
                // own client.
                _ if method == "killMe" => return None,
                Ok(None) => json!({ "args": [] }),
                Ok(Some(value)) => json!({ "args": [value] }),
                Err(why) => json!({ "error": why, "stack": format!("Error: {why}") }),
            }
        }
        _ => json!({ "error": "unknown type of message", "stack": "" }),
    };
    Some(amp::encode(&[Argument::Json(body), id]))
}
