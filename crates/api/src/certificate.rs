//! Bodies about certificates: of this machine's own authority, of its listener, of those who call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::UnixTime;

/// Answer of `GET /v1/certificates`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateList {
    /// The machine's own authority, if it has been made.
    pub authority: Option<AuthorityView>,
    /// What the listener shows to who connects; absent: no address needs one.
    pub server: Option<ServerView>,
    /// Why the listener has no certificate, or not the one it should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What was issued to those who call, oldest first.
    pub issued: Vec<CertificateView>,
}

/// The authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuthorityView {
    /// Its name.
    pub name: String,
    /// Hash of its certificate: what clients pin.
    pub fingerprint: String,
    /// When it ends.
    pub not_after: UnixTime,
    /// Its certificate, PEM.
    pub certificate: String,
}

/// Answer of `PUT /v1/certificates/authority`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuthorityChanged {
    /// The authority as it is now; absent: there is none, as nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityView>,
    /// What was (or with `dry_run`: would be) done; empty: nothing was to do.
    pub changes: Vec<String>,
    /// The event that tells of it; absent for `dry_run` and where nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// The certificate of the listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerView {
    /// `authority`: our own; `file`: of `web.cert_file`.
    pub source: String,
    /// Names and addresses that it stands for.
    pub names: Vec<String>,
    /// Its hash.
    pub fingerprint: String,
    /// From when on it holds.
    pub not_before: UnixTime,
    /// When it ends.
    pub not_after: UnixTime,
    /// When the daemon renews it; absent: somebody else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<UnixTime>,
}

/// A certificate of somebody who calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateView {
    /// Its number, in hexadecimal.
    pub serial: String,
    /// Whose it is: the principal is `cert:NAME`.
    pub name: String,
    /// When it was issued.
    pub issued_at: UnixTime,
    /// By whom.
    pub issued_by: String,
    /// When it ends.
    pub not_after: UnixTime,
    /// Whether it has ended.
    pub expired: bool,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<UnixTime>,
}

/// Body of `POST /v1/certificates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificatePost {
    /// Whose it will be.
    pub name: String,
    /// The public key, on P-256, as PEM (`PUBLIC KEY`). The private one stays where it was made.
    pub public_key: String,
    /// For how long. Default: 365, or as long as whoever asks is let in itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// A role that `cert:NAME` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Why.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only check.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/certificates`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateIssued {
    /// What was issued; with `dry_run` its number is none that will ever be.
    pub certificate: CertificateView,
    /// What was (or with `dry_run`: would be) done: the certificate, and what it took.
    pub changes: Vec<String>,
    /// The certificate, PEM; absent: nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
    /// The authority's own, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}
