//! Calls to whichever member answers: connecting, failing over, logging in, deadlines.
//!
//! One member is preferred until it fails. What surely was not carried out (nobody was reached, or etcd refused it
//! before proposing it) is tried with the next member until the deadline. What may have been carried out is repeated
//! only if it is a reading.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Request, Status,
    client::Grpc,
    metadata::{AsciiMetadataValue, MetadataValue},
    transport::Channel,
};
use tonic_prost::ProstCodec;
use upkeep_store::kv::{KvError, Reason};

use crate::{
    config::{Config, chain},
    failure::{self, Failure},
    proto,
};

/// The pause before all members are tried again, at first; it doubles.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Etcd's own clients take as much.
const LARGEST_MESSAGE: usize = i32::MAX as usize;

/// How a call may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes nothing.
    Reading,
    /// As [`Kind::Reading`], and whatever a member has without asking the others will do.
    Stale,
    /// It changes something.
    Writing,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) config: Config,
    preferred: AtomicUsize,
    channels: Mutex<HashMap<(String, bool), Channel>>,
    token: tokio::sync::Mutex<Option<Token>>,
}

/// What logging in gave.
#[derive(Clone)]
pub(crate) struct Token {
    value: AsciiMetadataValue,
    /// Which one it is, so that one that was replaced meanwhile is not replaced again.
    number: u64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "token {}", self.number)
    }
}

impl Client {
    pub(crate) fn new(config: Config) -> Result<Self, KvError> {
        config.check()?;
        Ok(Self {
            config,
            preferred: AtomicUsize::new(0),
            channels: Mutex::default(),
            token: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }

    /// The member to ask, by its endpoint.
    pub(crate) fn preferred(&self) -> String {
        let number = self.preferred.load(Ordering::Relaxed);
        self.config.endpoints[number % self.config.endpoints.len()].clone()
    }

    /// This one failed: the next is preferred, unless somebody found that out before.
    pub(crate) fn avoid(&self, url: &str) {
        let number = self.preferred.load(Ordering::Relaxed);
        if self.config.endpoints[number % self.config.endpoints.len()] == url {
            // If it has changed meanwhile, so much the better.
            let _ = self
                .preferred
                .compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.forget(url);
    }

    fn forget(&self, url: &str) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|(known, _), _| known != url);
    }

    /// A connection to a member. Watches have one of their own.
    pub(crate) async fn channel(&self, url: &str, for_watches: bool) -> Result<Channel, Failure> {
        let key = (url.to_owned(), for_watches);
        let known = {
            let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            channels.get(&key).cloned()
        };
        if let Some(channel) = known {
            return Ok(channel);
        }
        let endpoint = self.config.endpoint(url, for_watches).map_err(Failure::Refused)?;
        let connected = tokio::time::timeout(self.config.connect_timeout, endpoint.connect()).await;
        let channel = match connected {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(Failure::Elsewhere(format!("{url}: {}", chain(&error)))),
            Err(_) => return Err(Failure::Elsewhere(format!("{url}: connecting took too long"))),
        };
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.insert(key, channel.clone());
        Ok(channel)
    }

    /// A request with what etcd wants to know beside it.
    pub(crate) fn request<T>(message: T, token: Option<&Token>, needs_leader: bool) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = token {
            request.metadata_mut().insert("token", token.value.clone());
        }
        if needs_leader {
            request
                .metadata_mut()
                .insert("hasleader", MetadataValue::from_static("true"));
        }
        request
    }

    /// A call to any member.
    pub(crate) async fn call<Q, A>(
        self: &Arc<Self>,
        attempt: &str,
        path: &'static str,
        kind: Kind,
        message: Q,
    ) -> Result<A, Told>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = self.deadline();
        self.with_members(attempt, kind, deadline, |url, token| {
            let client = Arc::clone(self);
            let message = message.clone();
            async move {
                let channel = client.channel(&url, false).await?;
                let request = Self::request(message, token.as_ref(), kind != Kind::Stale);
                unary(channel, path, request).await
            }
        })
        .await
    }

    /// As [`Self::with_members`], without saying who asks.
    pub(crate) async fn with_members_unknown<A, F>(
        self: &Arc<Self>,
        attempt: &str,
        deadline: Instant,
        ask: impl Fn(String) -> F,
    ) -> Result<A, Told>
    where
        F: Future<Output = Result<A, Failure>>,
    {
        self.tried(attempt, Kind::Reading, deadline, false, |url, _| ask(url))
            .await
    }

    /// Tries members until one answers, something is certain, or the time is up.
    pub(crate) async fn with_members<A, F>(
        self: &Arc<Self>,
        attempt: &str,
        kind: Kind,
        deadline: Instant,
        ask: impl Fn(String, Option<Token>) -> F,
    ) -> Result<A, Told>
    where
        F: Future<Output = Result<A, Failure>>,
    {
        self.tried(attempt, kind, deadline, true, ask).await
    }

    async fn tried<A, F>(
        self: &Arc<Self>,
        attempt: &str,
        kind: Kind,
        deadline: Instant,
        is_known: bool,
        ask: impl Fn(String, Option<Token>) -> F,
    ) -> Result<A, Told>
    where
        F: Future<Output = Result<A, Failure>>,
    {
        let told = |reason: Reason| Told::Error(KvError::new(attempt, reason));
        let members = self.config.endpoints.len();
        let mut pause = PAUSE;
        let mut renewed = 0;
        let mut tries = 0;
        loop {
            let url = self.preferred();
            // A member that does not answer must not use up the time that another needs to.
            let patience = match kind {
                Kind::Writing => deadline,
                Kind::Reading | Kind::Stale => deadline.min(Instant::now() + self.config.timeout / 3),
            };
            let mut used = None;
            let outcome = timeout_at(patience, async {
                let token = if is_known { self.token(&url).await? } else { None };
                used = token.as_ref().map(|token| token.number);
                ask(url.clone(), token).await
            })
            .await;
            tries += 1;
            let failure = match outcome {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Unknown(format!("{url} did not answer in time")),
            };
            let why = match failure {
                Failure::Elsewhere(why) => {
                    self.avoid(&url);
                    why
                }
                Failure::Unknown(why) => {
                    self.avoid(&url);
                    if kind == Kind::Writing {
                        return Err(told(Reason::NoAnswer(why)));
                    }
                    why
                }
                // A certificate says who we are each time anew; a token may be of before.
                Failure::Meanwhile(why) => {
                    self.drop_token(used).await;
                    why
                }
                Failure::Token(why) => {
                    renewed += 1;
                    if self.config.login.is_none() || renewed > 3 {
                        return Err(told(Reason::Unauthenticated(why)));
                    }
                    self.drop_token(used).await;
                    why
                }
                Failure::Refused(reason) => return Err(told(reason)),
                Failure::Compacted => return Err(Told::Compacted),
                Failure::Future => return Err(Told::Future),
                Failure::NoLease => return Err(Told::NoLease),
                Failure::NoLogins => {
                    let why = "etcd asks for no passwords: authentication is not enabled there";
                    return Err(told(Reason::Invalid(why.to_owned())));
                }
            };
            if Instant::now() + pause >= deadline {
                return Err(told(Reason::Unavailable(why)));
            }
            if tries % members == 0 {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// What to log in with, if a user is set.
    pub(crate) async fn token(&self, url: &str) -> Result<Option<Token>, Failure> {
        let Some(login) = &self.config.login else {
            return Ok(None);
        };
        let mut token = self.token.lock().await;
        if token.is_none() {
            let request = proto::PairRequest {
                name: login.user.clone(),
                second: login.password.read().map_err(Failure::Refused)?,
            };
            let channel = self.channel(url, false).await?;
            let answer: Result<proto::AuthenticateResponse, Failure> = unary(
                channel,
                "/etcdserverpb.Auth/Authenticate",
                Self::request(request, None, true),
            )
            .await;
            let answer = match answer {
                Ok(answer) => answer,
                // Logging in can be repeated.
                Err(Failure::Unknown(why) | Failure::Token(why) | Failure::Meanwhile(why)) => {
                    return Err(Failure::Elsewhere(why));
                }
                // Nobody is asked who they are, yet; when that changes, what is asked without a token is refused.
                Err(Failure::NoLogins) => return Ok(None),
                Err(failure) => return Err(failure),
            };
            let mut value: AsciiMetadataValue = answer
                .token
                .parse()
                .map_err(|_| Failure::Refused(Reason::Protocol("a token that is no text".to_owned())))?;
            value.set_sensitive(true);
            *token = Some(Token {
                value,
                number: NUMBER.fetch_add(1, Ordering::Relaxed) as u64,
            });
        }
        Ok(token.clone())
    }

    /// This token is no longer good.
    pub(crate) async fn drop_token(&self, number: Option<u64>) {
        let mut token = self.token.lock().await;
        if token.as_ref().map(|token| token.number) == number {
            *token = None;
        }
    }
}

impl Token {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// Numbers of tokens.
static NUMBER: AtomicUsize = AtomicUsize::new(1);

/// What a call came to if not to an answer: an error, or something that has to be asked about first.
#[derive(Debug)]
pub(crate) enum Told {
    Error(KvError),
    Compacted,
    Future,
    NoLease,
}

impl Told {
    /// Where revisions and leases play no part.
    pub(crate) fn plain(self, attempt: &str) -> KvError {
        match self {
            Self::Error(error) => error,
            other => KvError::new(attempt, Reason::Protocol(format!("etcd answered {other:?}"))),
        }
    }
}

pub(crate) fn grpc(channel: Channel) -> Grpc<Channel> {
    Grpc::new(channel).max_decoding_message_size(LARGEST_MESSAGE)
}

/// A call with one question and one answer.
pub(crate) async fn unary<Q, A>(
    channel: Channel,
    path: &'static str,
    request: Request<Q>,
) -> Result<A, Failure>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = grpc(channel);
    ready(&mut grpc).await?;
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default()).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| failure::read(&status))
}

/// The connection is there, or was lost before anything was sent.
pub(crate) async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Failure> {
    grpc.ready()
        .await
        .map_err(|error| Failure::Elsewhere(chain(&Status::from_error(Box::new(error)))))
}
