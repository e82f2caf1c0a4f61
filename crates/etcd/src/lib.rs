//! Shared configuration on etcd v3: [`upkeep_store::kv::Kv`] over its published gRPC API.
//!
//! # What this is for
//!
//! One machine needs nothing ([`upkeep_store::kv::embedded`]); many machines share a real etcd cluster, of version 3.4 or
//! newer. The layer above sees no difference.
//!
//! # What it refuses to do
//!
//! It repeats no write whose outcome it does not know: the error says so, and the caller looks. It waits for nothing without
//! a deadline, but for a watch, whose business it is to wait.
//!
//! # How it works
//!
//! The messages are written by hand ([`proto`]), so no `protoc` is needed; calls go through tonic. [`client`] chooses the
//! member, logs in and fails over; [`failure`] knows which of etcd's errors leave the outcome open. Every key of ours begins
//! with a root at etcd ([`names`]).
//!
//! A **watch** ([`watch`]) outlives connections, leaders, members and tokens: it goes on from the last revision that it
//! told. A slow reader is held up by etcd's own flow control; some hundred kilobytes of it are here.
//!
//! Every linearizable call asks for a leader, so that a member without one answers at once and another is asked.
//!
//! Futures need a tokio runtime with time and network.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod auth;
mod client;
mod cluster;
mod config;
mod failure;
mod names;
mod proto;
mod watch;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use upkeep_store::kv::{
    Answer, Answered, Compare, Done, Guard, Kv, KvError, Lease, LeaseId, Limits, Op, Range, Ranged, Reason,
    Revision, Span, Status, Target, Txn, Watch, WatchStream,
};

pub use self::{
    auth::{Access, Permission},
    config::{Config, Login, Password, Pem, Tls},
};
use self::{
    client::{Client, Kind, Told},
    names::Root,
};

/// What etcd takes with its own defaults (`--max-txn-ops` 128, see [`Config::max_txn_ops`]; `--max-request-bytes` 1.5 MiB), less what
/// wraps it.
pub const LIMITS: Limits = Limits {
    key: 4096,
    value: 1 << 20,
    ops: 128,
    bytes: 1_400_000,
};

/// The etcd backend.
#[derive(Clone, Debug)]
pub struct Etcd {
    client: Arc<Client>,
    root: Root,
    /// Steps that a transaction may have.
    ops: usize,
}

impl Etcd {
    /// Takes the settings; connects when something is asked.
    pub fn new(config: Config) -> Result<Self, KvError> {
        let root = Root(config.root.clone());
        let ops = config.max_txn_ops;
        Ok(Self {
            client: Arc::new(Client::new(config)?),
            root,
            ops,
        })
    }

    /// The oldest revision that can be read, as etcd tells it: by refusing to watch from the beginning.
    async fn oldest(&self) -> Option<Revision> {
        watch::oldest(&self.client, &self.root).await
    }

    async fn current(&self, attempt: &str) -> Result<Revision, KvError> {
        let request = proto::RangeRequest {
            key: self.root.key("."),
            count_only: true,
            ..proto::RangeRequest::default()
        };
        let answer: proto::RangeResponse = self
            .client
            .call(attempt, "/etcdserverpb.KV/Range", Kind::Reading, request)
            .await
            .map_err(|told| told.plain(attempt))?;
        Ok(revision(answer.header.as_ref()))
    }

    /// What has to be asked about first becomes an error.
    async fn explain(&self, attempt: &str, told: Told, asked: Revision, lease: LeaseId) -> KvError {
        let reason = match told {
            Told::Error(error) => return error,
            Told::NoLease => Reason::NoLease(lease),
            Told::Compacted => Reason::Compacted {
                oldest: self.oldest().await.unwrap_or(asked + 1),
            },
            Told::Future => match self.current(attempt).await {
                Ok(current) => Reason::Future { asked, current },
                Err(error) => return error,
            },
        };
        KvError::new(attempt, reason)
    }

    fn range_request(&self, range: &Range) -> proto::RangeRequest {
        let interval = self.root.interval(&range.span);
        proto::RangeRequest {
            key: interval.key,
            range_end: interval.end,
            limit: if range.count_only {
                0
            } else {
                i64::try_from(range.limit).unwrap_or(i64::MAX)
            },
            revision: range.at.unwrap_or(0).cast_signed(),
            serializable: range.stale,
            keys_only: range.keys_only,
            count_only: range.count_only,
        }
    }

    fn ranged(&self, answer: proto::RangeResponse) -> Result<Ranged, Reason> {
        Ok(Ranged {
            revision: revision(answer.header.as_ref()),
            entries: self.root.entries(answer.kvs)?,
            more: answer.more,
            count: (!answer.more).then_some(answer.count.cast_unsigned()),
        })
    }

    fn compare(&self, guard: &Guard) -> proto::Compare {
        use proto::{CompareResult, CompareTarget, TargetUnion};
        let (target, union) = match &guard.target {
            Target::Modified(revision) => (CompareTarget::Mod, TargetUnion::Mod(revision.cast_signed())),
            Target::Created(revision) => (CompareTarget::Create, TargetUnion::Create(revision.cast_signed())),
            Target::Version(version) => (
                CompareTarget::Version,
                TargetUnion::Version(version.cast_signed()),
            ),
            Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone())),
        };
        let result = match guard.is {
            Compare::Equal => CompareResult::Equal,
            Compare::NotEqual => CompareResult::NotEqual,
            Compare::Less => CompareResult::Less,
            Compare::Greater => CompareResult::Greater,
        };
        proto::Compare {
            result: result.into(),
            target: target.into(),
            key: self.root.key(&guard.key),
            union: Some(union),
        }
    }

    fn op(&self, op: &Op, with_previous: bool) -> proto::RequestOp {
        let request = match op {
            Op::Put { key, value, lease } => proto::Request::Put(proto::PutRequest {
                key: self.root.key(key),
                value: value.clone(),
                lease: lease.unwrap_or(0),
                prev_kv: with_previous,
            }),
            Op::Delete(span) => {
                let interval = self.root.interval(span);
                proto::Request::DeleteRange(proto::DeleteRangeRequest {
                    key: interval.key,
                    range_end: interval.end,
                    prev_kv: with_previous,
                })
            }
            Op::Get(range) => proto::Request::Range(proto::RangeRequest {
                serializable: false,
                ..self.range_request(range)
            }),
        };
        proto::RequestOp {
            request: Some(request),
        }
    }

    fn txn_request(&self, txn: &Txn) -> proto::TxnRequest {
        let branch = |ops: &[Op]| ops.iter().map(|op| self.op(op, txn.with_previous)).collect();
        proto::TxnRequest {
            compare: txn.guards.iter().map(|guard| self.compare(guard)).collect(),
            success: branch(&txn.then),
            failure: branch(&txn.otherwise),
        }
    }

    fn answered(&self, answer: proto::TxnResponse) -> Result<Answered, Reason> {
        let revision = revision(answer.header.as_ref());
        let results = answer.responses.into_iter().map(|op| {
            let nothing = || Reason::Protocol("a step without an answer".to_owned());
            Ok(match op.response.ok_or_else(nothing)? {
                proto::Response::Range(range) => Done::Got(Ranged {
                    revision,
                    ..self.ranged(range)?
                }),
                proto::Response::Put(put) => {
                    Done::Put(put.prev_kv.map(|entry| self.root.entry(entry)).transpose()?)
                }
                proto::Response::DeleteRange(deleted) => Done::Deleted {
                    count: deleted.deleted.cast_unsigned(),
                    previous: self.root.entries(deleted.prev_kvs)?,
                },
            })
        });
        Ok(Answered {
            revision,
            succeeded: answer.succeeded,
            results: results.collect::<Result<_, Reason>>()?,
        })
    }
}

fn revision(header: Option<&proto::Header>) -> Revision {
    header.map_or(0, |header| header.revision.cast_unsigned())
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

impl Kv for Etcd {
    fn range(&self, range: Range) -> Answer<Ranged> {
        if let Err(error) = LIMITS.check_range(&range) {
            return std::future::ready(Err(error)).boxed();
        }
        let this = self.clone();
        async move {
            let attempt = format!("read {}", range.span);
            let kind = if range.stale { Kind::Stale } else { Kind::Reading };
            let request = this.range_request(&range);
            let answer = this
                .client
                .call(&attempt, "/etcdserverpb.KV/Range", kind, request)
                .await;
            match answer {
                Ok(answer) => this
                    .ranged(answer)
                    .map_err(|reason| KvError::new(attempt, reason)),
                Err(told) => Err(this.explain(&attempt, told, range.at.unwrap_or(0), 0).await),
            }
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> Answer<Answered> {
        if let Err(error) = self.limits().check_txn(&txn) {
            return std::future::ready(Err(error)).boxed();
        }
        let this = self.clone();
        async move {
            let attempt = txn.to_string();
            let kind = if txn.writes() {
                Kind::Writing
            } else {
                Kind::Reading
            };
            let request = this.txn_request(&txn);
            let answer = this
                .client
                .call(&attempt, "/etcdserverpb.KV/Txn", kind, request)
                .await;
            match answer {
                Ok(answer) => this
                    .answered(answer)
                    .map_err(|reason| KvError::new(attempt, reason)),
                Err(told) => {
                    let leases = txn.then.iter().chain(&txn.otherwise).filter_map(|op| match op {
                        Op::Put { lease, .. } => *lease,
                        Op::Delete(_) | Op::Get(_) => None,
                    });
                    let lease = this
                        .first_missing(leases.collect(), matches!(told, Told::NoLease))
                        .await;
                    Err(this.explain(&attempt, told, 0, lease).await)
                }
            }
        }
        .boxed()
    }

    fn watch(&self, watch: Watch) -> WatchStream {
        if let Err(error) = LIMITS.check_watch(&watch) {
            return Box::pin(futures_util::stream::iter([Err(error)]));
        }
        watch::start(Arc::clone(&self.client), self.root.clone(), watch)
    }

    fn grant(&self, ttl: Duration) -> Answer<Lease> {
        let this = self.clone();
        async move {
            let attempt = "make a lease";
            let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
            let request = proto::LeaseGrantRequest {
                ttl: i64::try_from(whole.max(1)).unwrap_or(i64::MAX),
            };
            let path = "/etcdserverpb.Lease/LeaseGrant";
            let answer: Result<proto::LeaseResponse, _> =
                this.client.call(attempt, path, Kind::Writing, request).await;
            let answer = answer.map_err(|told| told.plain(attempt))?;
            if !answer.error.is_empty() {
                return Err(KvError::new(attempt, Reason::Invalid(answer.error)));
            }
            Ok(Lease {
                id: answer.id,
                ttl: seconds(answer.ttl),
                remaining: seconds(answer.ttl),
                keys: Vec::new(),
            })
        }
        .boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<Lease> {
        let this = self.clone();
        async move {
            let attempt = format!("keep lease {lease:x} alive");
            let deadline = this.client.deadline();
            // It does no harm to repeat this.
            let answer = this
                .client
                .with_members(&attempt, Kind::Reading, deadline, |url, token| {
                    let client = Arc::clone(&this.client);
                    async move { keep_alive(&client, &url, token.as_ref(), lease).await }
                })
                .await;
            match answer {
                Ok(answer) if answer.ttl > 0 => Ok(Lease {
                    id: lease,
                    ttl: seconds(answer.ttl),
                    remaining: seconds(answer.ttl),
                    keys: Vec::new(),
                }),
                Ok(_) => Err(KvError::new(attempt, Reason::NoLease(lease))),
                Err(told) => Err(this.explain(&attempt, told, 0, lease).await),
            }
        }
        .boxed()
    }

    fn revoke(&self, lease: LeaseId) -> Answer<Revision> {
        let this = self.clone();
        async move {
            let attempt = format!("end lease {lease:x}");
            let request = proto::LeaseRequest {
                id: lease,
                keys: false,
            };
            let path = "/etcdserverpb.Lease/LeaseRevoke";
            let answer: Result<proto::HeaderResponse, _> =
                this.client.call(&attempt, path, Kind::Writing, request).await;
            match answer {
                Ok(answer) => Ok(revision(answer.header.as_ref())),
                Err(told) => Err(this.explain(&attempt, told, 0, lease).await),
            }
        }
        .boxed()
    }

    fn lease(&self, lease: LeaseId) -> Answer<Lease> {
        let this = self.clone();
        async move {
            let attempt = format!("look at lease {lease:x}");
            let request = proto::LeaseRequest {
                id: lease,
                keys: true,
            };
            let path = "/etcdserverpb.Lease/LeaseTimeToLive";
            let answer: Result<proto::LeaseTimeToLiveResponse, _> =
                this.client.call(&attempt, path, Kind::Reading, request).await;
            match answer {
                Ok(answer) if answer.ttl >= 0 => {
                    let ours = answer.keys.into_iter().filter_map(|key| this.root.name(key).ok());
                    let mut keys: Vec<String> = ours.collect();
                    keys.sort_unstable();
                    Ok(Lease {
                        id: lease,
                        ttl: seconds(answer.granted_ttl),
                        remaining: seconds(answer.ttl),
                        keys,
                    })
                }
                Ok(_) => Err(KvError::new(attempt, Reason::NoLease(lease))),
                Err(told) => Err(this.explain(&attempt, told, 0, lease).await),
            }
        }
        .boxed()
    }

    fn compact(&self, to: Revision) -> Answer<()> {
        let this = self.clone();
        async move {
            let attempt = format!("compact to revision {to}");
            let request = proto::CompactionRequest {
                revision: to.cast_signed(),
            };
            let path = "/etcdserverpb.KV/Compact";
            let answer: Result<proto::HeaderResponse, _> =
                this.client.call(&attempt, path, Kind::Writing, request).await;
            match answer {
                Ok(_) => Ok(()),
                Err(told) => Err(this.explain(&attempt, told, to, 0).await),
            }
        }
        .boxed()
    }

    fn status(&self) -> Answer<Status> {
        let this = self.clone();
        async move { this.whole_status().await }.boxed()
    }

    fn defragment(&self) -> Answer<()> {
        let this = self.clone();
        async move { this.defragment_all().await }.boxed()
    }

    fn limits(&self) -> Limits {
        Limits {
            ops: self.ops,
            ..LIMITS
        }
    }

    fn is_remote(&self) -> bool {
        true
    }
}

impl Etcd {
    /// The first of these leases that is not there.
    async fn first_missing(&self, leases: Vec<LeaseId>, look: bool) -> LeaseId {
        if look {
            for lease in &leases {
                if matches!(self.lease(*lease).await, Err(error) if error.reason == Reason::NoLease(*lease)) {
                    return *lease;
                }
            }
        }
        leases.first().copied().unwrap_or(0)
    }

    /// Every key of ours, counted.
    fn all(stale: bool) -> Range {
        Range {
            count_only: true,
            stale,
            ..Range::new(Span::All)
        }
    }
}

/// One message there, one back: etcd has no call for this, only a stream.
async fn keep_alive(
    client: &Client,
    url: &str,
    token: Option<&client::Token>,
    lease: LeaseId,
) -> Result<proto::LeaseResponse, failure::Failure> {
    let channel = client.channel(url, false).await?;
    let mut grpc = client::grpc(channel);
    client::ready(&mut grpc).await?;
    let question = proto::LeaseRequest {
        id: lease,
        keys: false,
    };
    // The stream of questions stays open until there is an answer.
    let questions = futures_util::StreamExt::chain(
        futures_util::stream::iter([question]),
        futures_util::stream::pending(),
    );
    let request = Client::request(questions, token, true);
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
    let codec = tonic_prost::ProstCodec::<proto::LeaseRequest, proto::LeaseResponse>::default();
    let answers = grpc.streaming(request, path, codec).await;
    let answers = answers.map_err(|status| failure::read(&status))?;
    let answer = answers.into_inner().message().await;
    answer
        .map_err(|status| failure::read(&status))?
        .ok_or_else(|| failure::Failure::Unknown("etcd ended the stream".to_owned()))
}
