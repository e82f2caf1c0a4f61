//! What an error looks like on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of refusal. Each has one HTTP status and one exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request cannot be understood.
    BadRequest,
    /// It is understood and breaks a rule.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// The path is known, the method is not.
    MethodNotAllowed,
    /// Somebody else changed it, or it is busy.
    Conflict,
    /// Nobody knows who asks: no token, or none that is valid.
    Unauthenticated,
    /// Not permitted.
    Forbidden,
    /// Too often: wait as long as `Retry-After` says.
    TooMany,
    /// Too large.
    TooLarge,
    /// It did not come to rest in time; it goes on.
    Timeout,
    /// It cannot be done now: the disk is full, the daemon is leaving.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Invalid => 422,
            Self::TooMany => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// For the user: what was attempted, on which object, and why not.
    pub message: String,
    /// The kind.
    pub code: Code,
    /// What the user could do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Under this id the daemon's own log has the verbose cause.
    #[serde(default)]
    pub request_id: String,
}
