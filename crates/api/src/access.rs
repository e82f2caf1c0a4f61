//! Who may do what, as it is asked for and changed: tokens, roles, members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::access::{Grant, Within};

use crate::body::UnixTime;

/// Answer of `GET /v1/whoami`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhoAmI {
    /// As events name the caller: `uid:1000`, `token:ci`, `cert:laptop`.
    pub principal: String,
    /// Roles that are held.
    pub roles: Vec<String>,
    /// What they give.
    pub grants: Vec<Grant>,
    /// Nothing beyond this; absent: no such bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Within>,
    /// When the token or certificate ends; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixTime>,
}

/// A token, without its secret: that is not known here any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    /// The part of the token that may be seen.
    pub id: String,
    /// What it is called; events name it `token:NAME`.
    pub name: String,
    /// Roles that it holds.
    pub roles: Vec<String>,
    /// Nothing beyond this; absent: no such bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Within>,
    /// When it was made.
    pub created_at: UnixTime,
    /// By whom.
    pub created_by: String,
    /// When it ends; absent: when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixTime>,
    /// Whether it has ended.
    pub expired: bool,
    /// When it was last used, to the hour where this daemon has not seen it; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<UnixTime>,
}

/// Answer of `GET /v1/tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    /// By name.
    pub tokens: Vec<TokenView>,
}

/// Body of `POST /v1/tokens`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenPost {
    /// What it is called: letters, digits, `-`, `_` and `.`; no other token has that name.
    pub name: String,
    /// Roles that it holds.
    pub roles: Vec<String>,
    /// Nothing beyond this. Default: no such bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Within>,
    /// When it ends. Default: when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixTime>,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say whether it could be made.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenCreated {
    /// The token itself: shown now and never again. Absent for `dry_run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What is known of it.
    pub token: TokenView,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoleView {
    /// Its name.
    pub name: String,
    /// What it gives.
    pub grants: Vec<Grant>,
    /// Whether it is always there and cannot be changed.
    pub built_in: bool,
    /// Who holds it, besides tokens: `uid:1000`, `cert:laptop`.
    pub members: Vec<String>,
}

/// Answer of `GET /v1/roles`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoleList {
    /// By name.
    pub roles: Vec<RoleView>,
    /// Store revision of the last change of tokens, roles or members; 0: never changed.
    pub revision: u64,
}

/// Body of `PUT /v1/roles/{role}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolePut {
    /// All that it gives.
    pub grants: Vec<Grant>,
    /// Only if tokens, roles and members are at this revision: the header `If-Match`.
    #[serde(skip)]
    pub if_revision: Option<u64>,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say whether it could be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of changes that need no words but these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say whether it could be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of changes of tokens and roles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// What was (or with `dry_run`: would be) done; empty: nothing was to do.
    pub changes: Vec<String>,
    /// Store revision afterwards.
    pub revision: u64,
    /// The event that tells of it; absent for `dry_run` and where nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}
