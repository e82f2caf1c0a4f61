//! What etcd's errors mean: refused, unknown, or worth asking somebody else.

use tonic::{Code, ConnectError, Status};
use upkeep_store::kv::Reason;

use crate::config::chain;

/// What follows from a failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was not carried out, and asking another member may help.
    Elsewhere(String),
    /// The token is no longer good: log in again. It was not carried out.
    Token(String),
    /// Somebody changed users or roles while it was asked: ask again. It was not carried out.
    Meanwhile(String),
    /// It may have been carried out.
    Unknown(String),
    /// Too old a revision; which is the oldest has to be asked.
    Compacted,
    /// A revision that is not there yet.
    Future,
    /// No such lease.
    NoLease,
    /// Etcd asks nobody who they are.
    NoLogins,
    /// It was not carried out, and asking again will not help.
    Refused(Reason),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Elsewhere(why) | Self::Token(why) | Self::Meanwhile(why) | Self::Unknown(why) => {
                f.write_str(why)
            }
            Self::Compacted => f.write_str("that revision is compacted"),
            Self::Future => f.write_str("there is no such revision yet"),
            Self::NoLease => f.write_str("there is no such lease"),
            Self::NoLogins => f.write_str("authentication is not enabled"),
            Self::Refused(reason) => reason.fmt(f),
        }
    }
}

/// Reads a status of gRPC. Etcd tells its own errors by their words, which are part of its interface.
pub(crate) fn read(status: &Status) -> Failure {
    let words = status.message();
    if has_source::<ConnectError>(status) {
        return Failure::Elsewhere(chain(status));
    }
    if let Some(said) = words.strip_prefix("etcdserver: ") {
        return of_etcd(said, status.code());
    }
    let all = chain(status);
    match status.code() {
        Code::Unauthenticated => Failure::Token(words.to_owned()),
        Code::PermissionDenied => Failure::Refused(Reason::Denied(words.to_owned())),
        Code::ResourceExhausted | Code::OutOfRange => Failure::Refused(Reason::TooLarge {
            what: format!("the message ({words}), in bytes,"),
            size: 0,
            limit: 0,
        }),
        Code::Unimplemented => Failure::Refused(Reason::Invalid(format!(
            "this etcd cannot do that ({words}); 3.4 or newer is needed"
        ))),
        Code::InvalidArgument => Failure::Refused(Reason::Invalid(words.to_owned())),
        _ => Failure::Unknown(all),
    }
}

fn of_etcd(said: &str, code: Code) -> Failure {
    match said {
        "mvcc: required revision has been compacted" => Failure::Compacted,
        "mvcc: required revision is a future revision" => Failure::Future,
        "mvcc: database space exceeded" => Failure::Refused(Reason::NoSpace {
            why: "etcd has reached its quota and refuses writes".to_owned(),
            hint:
                "delete what is not needed, compact, defragment every member, then clear the alarm; or raise \
                   --quota-backend-bytes"
                    .to_owned(),
            maybe: true,
        }),
        "requested lease not found" => Failure::NoLease,
        "duplicate key given in txn request" => Failure::Refused(Reason::DuplicateKey("a key".to_owned())),
        "invalid auth token" => Failure::Token(said.to_owned()),
        "revision of auth store is old" | "revision in header is old" => Failure::Meanwhile(said.to_owned()),
        "user name is empty" => Failure::Token("etcd asks who this is".to_owned()),
        "authentication failed, invalid user ID or password" => Failure::Refused(Reason::Unauthenticated(
            "etcd does not take this user and password".to_owned(),
        )),
        "authentication is not enabled" => Failure::NoLogins,
        "permission denied" => {
            Failure::Refused(Reason::Denied("etcd permits it to other users only".to_owned()))
        }
        "request is too large" => Failure::Refused(Reason::TooLarge {
            what: format!("the request ({said})"),
            size: 0,
            limit: 0,
        }),
        "too many operations in txn request" => Failure::Refused(Reason::Invalid(
            "a member of etcd takes fewer steps in a transaction than is set here (`max_txn_ops`, its `--max-txn-ops`)".to_owned(),
        )),
        // Nothing was proposed.
        "no leader" | "not leader" | "too many requests" | "rpc not supported for learner" => {
            Failure::Elsewhere(format!("etcd: {said}"))
        }
        // Timed out, leader changed, stopped, …
        _ if matches!(
            code,
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Internal
        ) =>
        {
            Failure::Unknown(format!("etcd: {said}"))
        }
        _ => Failure::Refused(Reason::Invalid(format!("etcd: {said}"))),
    }
}

fn has_source<E: std::error::Error + 'static>(error: &dyn std::error::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if cause.is::<E>() {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use upkeep_store::kv::{KvError, Outcome};

    use super::*;

    #[test]
    fn etcds_words_are_understood() {
        let of = |code, words: &str| read(&Status::new(code, words));
        assert_eq!(
            of(
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted"
            ),
            Failure::Compacted
        );
        assert!(matches!(
            of(
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded"
            ),
            Failure::Refused(Reason::NoSpace { .. })
        ));
        let Failure::Refused(full) = of(
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        ) else {
            panic!("there is no room");
        };
        // The write that crosses the quota is carried out.
        assert_eq!(KvError::new("write", full).outcome(), Outcome::Unknown);
        assert!(matches!(
            of(Code::Unavailable, "etcdserver: no leader"),
            Failure::Elsewhere(_)
        ));
        for unknown in [
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: leader changed",
            "transport error",
        ] {
            assert!(
                matches!(of(Code::Unavailable, unknown), Failure::Unknown(_)),
                "{unknown}"
            );
        }
        assert!(matches!(
            of(Code::Unauthenticated, "etcdserver: invalid auth token"),
            Failure::Token(_)
        ));
        assert!(matches!(
            of(Code::InvalidArgument, "etcdserver: revision of auth store is old"),
            Failure::Meanwhile(_)
        ));
        assert!(matches!(
            of(Code::PermissionDenied, "etcdserver: permission denied"),
            Failure::Refused(Reason::Denied(_))
        ));
    }
}
