//! A watch at etcd: one that goes on when a connection, a leader, a member or a token is lost.
//!
//! It remembers the next revision that it wants. Whenever it has to begin anew it asks etcd from the revision *before*
//! and leaves that one out: etcd 3.4 forgets deletions of the very revision that it is compacted to, and this way such a
//! watch is refused as compacted rather than told nothing.
//!
//! **Heartbeats.** Etcd is asked how far it is ([`WatchRequest`]'s progress); no answer for two heartbeats means that the
//! connection is dead, and another member is asked. Before 3.4.25 and 3.5.8 such an answer may overtake events, so with
//! those only what was told counts as progress; the heartbeat comes all the same.
//!
//! [`WatchRequest`]: proto::WatchRequest

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_channel::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Streaming;
use tonic_prost::ProstCodec;
use upkeep_store::kv::{Change, KvError, Reason, Revision, Span, Watch, WatchEvent, WatchStream};

use crate::{
    client::{self, Client},
    failure::{self, Failure},
    names::Root,
    proto::{self, WatchRequest, WatchResponse, WatchUnion},
};

/// The pause before the next member is tried, at first; it doubles.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

struct Watching {
    client: Arc<Client>,
    root: Root,
    watch: Watch,
    /// The next revision to tell; `None` before etcd has said where "now" is.
    next: Option<Revision>,
    live: Option<Live>,
    pending: VecDeque<WatchEvent>,
    /// Events of a revision that may not be whole yet.
    held: Option<(Revision, Vec<Change>)>,
    /// Etcd has taken it once.
    begun: bool,
    /// Until when etcd has to have taken it for the first time.
    begin_by: Instant,
    pause: Duration,
    /// New tokens since something went well.
    renewed: u32,
    ended: bool,
}

/// A stream that is open.
struct Live {
    url: String,
    token: Option<u64>,
    questions: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    /// Whether what etcd says about its progress can be believed.
    honest: bool,
    /// Questions about progress without an answer.
    unanswered: u32,
}

/// What a step led to.
enum Step {
    On,
    Fail(Reason),
}

pub(crate) fn start(client: Arc<Client>, root: Root, watch: Watch) -> WatchStream {
    let begin_by = client.deadline();
    let watching = Watching {
        next: watch.from,
        client,
        root,
        watch,
        live: None,
        pending: VecDeque::new(),
        held: None,
        begun: false,
        begin_by,
        pause: PAUSE,
        renewed: 0,
        ended: false,
    };
    Box::pin(futures_util::stream::unfold(
        watching,
        |mut watching| async move {
            let event = watching.event().await?;
            Some((event, watching))
        },
    ))
}

impl Watching {
    async fn event(&mut self) -> Option<Result<WatchEvent, KvError>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            let step = match self.live.take() {
                None => self.open().await,
                Some(live) => self.listen(live).await,
            };
            if let Step::Fail(reason) = step {
                self.ended = true;
                return Some(Err(KvError::new(format!("watch {}", self.watch.span), reason)));
            }
        }
    }

    /// Something was lost: on with the next member, after a pause.
    async fn again(&mut self, url: &str, why: String) -> Step {
        self.live = None;
        // What is not whole comes again.
        self.held = None;
        self.client.avoid(url);
        if !self.begun && Instant::now() + self.pause >= self.begin_by {
            return Step::Fail(Reason::Unavailable(why));
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Step::On
    }

    async fn failed(&mut self, url: &str, token: Option<u64>, failure: Failure) -> Step {
        match failure {
            Failure::Elsewhere(why) | Failure::Unknown(why) => self.again(url, why).await,
            Failure::Meanwhile(why) => {
                self.client.drop_token(token).await;
                self.again(url, why).await
            }
            Failure::Token(why) => self.renew(token, Reason::Unauthenticated(why)).await,
            // Etcd 3.4 says this of a token that has expired, too, and when somebody changes roles at this moment.
            Failure::Refused(reason @ (Reason::Denied(_) | Reason::Unauthenticated(_))) => {
                self.renew(token, reason).await
            }
            Failure::Refused(reason) => Step::Fail(reason),
            Failure::Compacted => {
                self.compacted(client_oldest(&self.client, &self.root).await);
                Step::On
            }
            Failure::Future | Failure::NoLease | Failure::NoLogins => Step::Fail(Reason::Protocol(
                "etcd refused the watch without sense".to_owned(),
            )),
        }
    }

    async fn renew(&mut self, token: Option<u64>, reason: Reason) -> Step {
        self.live = None;
        self.held = None;
        self.renewed += 1;
        if self.renewed > 3 {
            return Step::Fail(reason);
        }
        if self.client.config.login.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
        self.client.drop_token(token).await;
        Step::On
    }

    fn compacted(&mut self, oldest: Option<Revision>) {
        self.held = None;
        let oldest = oldest.unwrap_or_else(|| self.next.unwrap_or(0) + 1);
        self.pending.push_back(WatchEvent::Compacted { oldest });
        self.ended = true;
    }

    async fn open(&mut self) -> Step {
        let url = self.client.preferred();
        let mut used = None;
        let opened = timeout(self.client.config.timeout, async {
            let token = self.client.token(&url).await?;
            used = token.as_ref().map(client::Token::number);
            connect(
                &self.client,
                &self.root,
                &self.watch,
                self.next,
                &url,
                token.as_ref(),
            )
            .await
        })
        .await;
        match opened {
            Ok(Ok(live)) => {
                self.live = Some(live);
                Step::On
            }
            Ok(Err(failure)) => self.failed(&url, used, failure).await,
            Err(_) => self.again(&url, format!("{url} did not answer in time")).await,
        }
    }

    /// Waits for an answer, or asks whether anybody is there.
    async fn listen(&mut self, mut live: Live) -> Step {
        // The first answer comes soon; later ones may take a heartbeat.
        let patience = if self.begun {
            self.client.config.heartbeat
        } else {
            self.client.config.timeout.min(self.client.config.heartbeat)
        };
        let answer = match timeout_at(Instant::now() + patience, live.answers.message()).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => return self.again(&live.url, "etcd ended the watch".to_owned()).await,
            Ok(Err(status)) => {
                let failure = failure::read(&status);
                return self.failed(&live.url, live.token, failure).await;
            }
            Err(_) => {
                let question = WatchRequest {
                    union: Some(WatchUnion::Progress(proto::Empty {})),
                };
                live.unanswered += 1;
                if live.unanswered > 2 || live.questions.try_send(question).is_err() {
                    return self
                        .again(&live.url, format!("{} no longer answers", live.url))
                        .await;
                }
                self.live = Some(live);
                return Step::On;
            }
        };
        live.unanswered = 0;
        if answer.canceled {
            return self.canceled(live, answer).await;
        }
        self.renewed = 0;
        self.pause = PAUSE;
        let step = self.answer(&live, answer);
        if matches!(step, Step::On) {
            self.live = Some(live);
        }
        step
    }

    async fn canceled(&mut self, live: Live, answer: WatchResponse) -> Step {
        if answer.compact_revision > 0 {
            self.compacted(Some(answer.compact_revision.cast_unsigned() + 1));
            return Step::On;
        }
        let why = answer.cancel_reason;
        let denied = why.contains("permission denied") || why.contains("invalid auth token");
        let failure = if denied {
            Failure::Refused(Reason::Denied(format!("etcd does not let us watch: {why}")))
        } else {
            Failure::Elsewhere(format!("etcd ended the watch: {why}"))
        };
        self.failed(&live.url, live.token, failure).await
    }

    fn answer(&mut self, live: &Live, answer: WatchResponse) -> Step {
        let revision = crate::revision(answer.header.as_ref());
        if answer.created {
            let next = *self.next.get_or_insert(revision + 1);
            if !std::mem::replace(&mut self.begun, true) {
                self.pending
                    .push_back(WatchEvent::Progress { revision: next - 1 });
            }
            return Step::On;
        }
        let next = self.next.unwrap_or(revision + 1);
        if answer.events.is_empty() {
            // Of a watch's own it is always true; an answer to a question may overtake events of older servers.
            let own = answer.watch_id >= 0 && !answer.fragment;
            if (live.honest || own) && self.held.is_none() {
                self.next = Some(next.max(revision + 1));
            }
            let told = self.next.map_or(0, |next| next - 1);
            self.pending.push_back(WatchEvent::Progress { revision: told });
            return Step::On;
        }
        for event in answer.events {
            if let Err(reason) = self.take(event, next) {
                return Step::Fail(reason);
            }
        }
        if !answer.fragment {
            self.tell();
        }
        Step::On
    }

    fn take(&mut self, event: proto::Event, next: Revision) -> Result<(), Reason> {
        let entry = event
            .kv
            .ok_or_else(|| Reason::Protocol("an event without a key".to_owned()))?;
        let revision = entry.mod_revision.cast_unsigned();
        if revision < next {
            return Ok(());
        }
        let previous = event.prev_kv.map(|entry| self.root.entry(entry)).transpose()?;
        let change = if event.kind == 0 {
            Change::Put {
                now: self.root.entry(entry)?,
                previous,
            }
        } else {
            Change::Delete {
                key: self.root.name(entry.key)?,
                previous,
            }
        };
        match &mut self.held {
            Some((held, changes)) if *held == revision => changes.push(change),
            _ => {
                self.tell();
                self.held = Some((revision, vec![change]));
            }
        }
        Ok(())
    }

    /// What is held is whole.
    fn tell(&mut self) {
        if let Some((revision, changes)) = self.held.take() {
            self.next = Some(revision + 1);
            self.pending.push_back(WatchEvent::Changes { revision, changes });
        }
    }
}

async fn connect(
    client: &Client,
    root: &Root,
    watch: &Watch,
    next: Option<Revision>,
    url: &str,
    token: Option<&client::Token>,
) -> Result<Live, Failure> {
    let honest = honest(client, url, token).await?;
    let interval = root.interval(&watch.span);
    let create = proto::WatchCreateRequest {
        key: interval.key,
        range_end: interval.end,
        // The one before is left out again; 0 would be "now".
        start_revision: next.map_or(0, |next| next.saturating_sub(1).max(1)).cast_signed(),
        progress_notify: true,
        prev_kv: watch.with_previous,
        fragment: true,
    };
    let (mut questions, stream) = mpsc::channel(4);
    let first = WatchRequest {
        union: Some(WatchUnion::Create(create)),
    };
    let closed = |_| Failure::Elsewhere("the connection was closed".to_owned());
    questions.try_send(first).map_err(closed)?;
    let mut grpc = client::grpc(client.channel(url, true).await?);
    client::ready(&mut grpc).await?;
    let request = Client::request(stream, token, true);
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
    let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
    let answers = grpc.streaming(request, path, codec).await;
    Ok(Live {
        url: url.to_owned(),
        token: token.map(client::Token::number),
        questions,
        answers: answers.map_err(|status| failure::read(&status))?.into_inner(),
        honest,
        unanswered: 0,
    })
}

/// Whether this member's answers about progress never overtake its events.
async fn honest(client: &Client, url: &str, token: Option<&client::Token>) -> Result<bool, Failure> {
    let channel = client.channel(url, false).await?;
    let request = Client::request(proto::Empty {}, token, false);
    let status: Result<proto::StatusResponse, Failure> =
        client::unary(channel, "/etcdserverpb.Maintenance/Status", request).await;
    match status {
        Ok(status) => Ok(honest_since(&status.version)),
        // Nothing is lost by not believing it.
        Err(Failure::Refused(_)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn honest_since(version: &str) -> bool {
    let mut parts = version
        .split(['.', '-', '+'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        (3, minor, _) => minor > 5,
        (major, ..) => major > 3,
    }
}

async fn client_oldest(client: &Arc<Client>, root: &Root) -> Option<Revision> {
    // Behind it can be watched.
    oldest(client, root).await.map(|oldest| oldest + 1)
}

/// The oldest revision that can be read: who watches from the very first is told, if that is compacted.
pub(crate) async fn oldest(client: &Arc<Client>, root: &Root) -> Option<Revision> {
    let watch = Watch::new(Span::One(".".to_owned())).from(1);
    timeout(client.config.timeout, async {
        let url = client.preferred();
        let token = client.token(&url).await.ok()?;
        let mut live = connect(client, root, &watch, Some(1), &url, token.as_ref())
            .await
            .ok()?;
        let mut asked = false;
        loop {
            let patience = timeout(Duration::from_millis(300), live.answers.message()).await;
            let Ok(answer) = patience else {
                // Nothing is compacted, or it takes its time; ask once.
                if std::mem::replace(&mut asked, true) {
                    return Some(1);
                }
                continue;
            };
            let answer = answer.ok()??;
            if answer.compact_revision > 0 {
                return Some(answer.compact_revision.cast_unsigned());
            }
            if answer.canceled {
                return None;
            }
        }
    })
    .await
    .ok()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_not_believed() {
        for (version, honest) in [
            ("3.4.23", false),
            ("3.4.25", true),
            ("3.5.7", false),
            ("3.5.16", true),
            ("3.6.0-rc.1", true),
            ("4.0.0", true),
            ("", false),
        ] {
            assert_eq!(honest_since(version), honest, "{version}");
        }
    }
}
