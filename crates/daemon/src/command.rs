//! The one door: whatever wants to change something says it as a [`Command`] with a [`Permit`].

use std::collections::BTreeMap;

use upkeep_api::{
    body::{ActionOptions, ActionResult, Apply, Rollback, Scale, Selection, Upgrade},
    error::{Code, ErrorBody},
};
use upkeep_model::id::AppName;

pub(crate) use crate::access::{Permit, Principal};
use crate::supply::Granted;

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Create or update apps.
    Apply(Apply, Grants),
    /// Start, stop, restart or delete what is selected.
    Act { verb: Verb, selection: Selection },
    /// Have another number of instances of an app.
    Scale { app: AppName, scale: Scale },
    /// Go back to what an app was before its last change.
    Rollback { app: AppName, options: Rollback },
    /// Save the list of apps.
    Save { options: ActionOptions },
    /// Start what was saved and is not in the list.
    Restore { options: ActionOptions },
    /// Stop all and end; `forget`: delete all apps as well.
    End { forget: bool, options: ActionOptions },
    /// Replace the programs.
    Upgrade(Upgrade),
}

/// What apps may be given of the shared configuration: by whoever applies them.
pub(crate) type Grants = BTreeMap<AppName, Granted>;

/// Verbs over selections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Stop,
    Restart,
    Reload,
    Delete,
}

impl Verb {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Delete => "delete",
        }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// When it is worth trying again, seconds from now.
    pub(crate) retry_after_s: Option<u64>,
    /// What lies behind it, in all its words: for the daemon's log, under the id of the request, and for no answer.
    pub(crate) cause: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            retry_after_s: None,
            cause: None,
        }
    }

    /// Adds what lies behind it, as the log is to tell it.
    pub(crate) fn because(mut self, cause: &impl std::fmt::Debug) -> Self {
        self.cause = Some(format!("{cause:?}"));
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn body(self, request_id: String) -> ErrorBody {
        ErrorBody {
            message: self.message,
            code: self.code,
            hint: self.hint,
            request_id,
        }
    }
}

impl From<upkeep_store::StoreError> for Refusal {
    fn from(error: upkeep_store::StoreError) -> Self {
        let code = match error {
            upkeep_store::StoreError::Conflict { .. } => Code::Conflict,
            _ => Code::Unavailable,
        };
        let refusal = Self::new(code, format!("nothing was changed: {error}")).because(&error);
        match code {
            Code::Unavailable => {
                refusal.hint("is the disk full or read-only? `df -h` on the state directory tells")
            }
            _ => refusal,
        }
    }
}

/// What a command answers with.
pub(crate) type Outcome = Result<ActionResult, Refusal>;

/// A command on its way to the director.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) permit: Permit,
    pub(crate) reply: tokio::sync::oneshot::Sender<Outcome>,
}
