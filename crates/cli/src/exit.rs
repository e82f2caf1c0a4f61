//! Exit codes, in one table, and how an error becomes one.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed |
//! | 2 | the command line is wrong |
//! | 3 | there is no such app, instance or file |
//! | 4 | refused: a rule or a check says no |
//! | 5 | not permitted |
//! | 6 | conflict: somebody else changed it, or it is busy |
//! | 8 | no daemon answers |
//! | 124 | it did not come to rest in time (it goes on) |
//! | 130 | interrupted |

use upkeep_api::{client::ClientError, error::Code};
use upkeep_model::file::FileError;

use crate::output::Output;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Refused = 4,
    Forbidden = 5,
    Conflict = 6,
    Unreachable = 8,
    Timeout = 124,
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A code of the API as an exit.
pub(crate) const fn of_code(code: Code) -> Exit {
    match code {
        Code::BadRequest | Code::MethodNotAllowed => Exit::Usage,
        Code::Invalid | Code::TooLarge => Exit::Refused,
        Code::NotFound => Exit::NotFound,
        Code::Conflict => Exit::Conflict,
        Code::Unauthenticated | Code::Forbidden => Exit::Forbidden,
        Code::Timeout => Exit::Timeout,
        Code::TooMany | Code::Unavailable | Code::Internal => Exit::Failed,
    }
}

/// An error with advice and an exit of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Advised {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Advised {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Prints an error once, with its causes and its hint, and says how to end.
pub(crate) fn report(error: &anyhow::Error, output: &Output) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Done;
    }
    let (exit, hint) = classify(error);
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    output.error(&text, hint.as_deref());
    exit
}

/// The reader of our output has gone (`upkeep logs | head`): there is nothing to complain about.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn classify(error: &anyhow::Error) -> (Exit, Option<String>) {
    // Also where it was added as context to another error.
    if let Some(advised) = error.downcast_ref::<Advised>() {
        return (advised.exit, advised.hint.clone());
    }
    for cause in error.chain() {
        if let Some(advised) = cause.downcast_ref::<Advised>() {
            return (advised.exit, advised.hint.clone());
        }
        if let Some(error) = cause.downcast_ref::<ClientError>() {
            return match error {
                ClientError::Unreachable { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => (
                    Exit::Unreachable,
                    Some("a daemon lets other users of its machine in once one of them has a role: `upkeep role grant viewer uid:N`".to_owned()),
                ),
                ClientError::Unreachable { .. } => (Exit::Unreachable, None),
                ClientError::Untrusted { .. } => (
                    Exit::Refused,
                    Some("on that machine `upkeep cert show` tells the hash of its authority; `upkeep host add` pins it".to_owned()),
                ),
                ClientError::Refused(body) => (of_code(body.code), body.hint.clone()),
                ClientError::Broken { .. } => (
                    Exit::Failed,
                    Some("the daemon may just have been replaced; try again".to_owned()),
                ),
            };
        }
        if let Some(error) = cause.downcast_ref::<FileError>() {
            return (Exit::Refused, error.hint().map(str::to_owned));
        }
    }
    (Exit::Failed, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_the_table() {
        let source = include_str!("exit.rs");
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Refused,
            Exit::Forbidden,
            Exit::Conflict,
            Exit::Unreachable,
            Exit::Timeout,
            Exit::Interrupted,
        ] {
            assert!(
                source.contains(&format!("//! | {} |", exit as u8)),
                "{exit:?} is not documented"
            );
        }
    }
}
