//! What is wrong with a site, and where.

use std::fmt;

use serde::Serialize;
use upkeep_model::file::Position;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is written; `check` ends with 1.
    Error,
    /// Told, and no more.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Trouble {
    /// The file, as it is called from where the command was started.
    pub file: String,
    /// Line from 1; 0 where only the file is known.
    pub line: u32,
    /// Column from 1; 0 where only the line is known.
    pub column: u32,
    /// How bad it is.
    pub level: Level,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What could be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Trouble {
    /// An error.
    pub fn error(file: &str, at: impl Into<Option<Position>>, message: impl Into<String>) -> Self {
        let at = at.into();
        Self {
            file: file.to_owned(),
            line: at.map_or(0, |at| at.line),
            column: at.map_or(0, |at| at.column),
            level: Level::Error,
            message: message.into(),
            hint: None,
        }
    }

    /// A warning.
    pub fn warning(file: &str, at: impl Into<Option<Position>>, message: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            ..Self::error(file, at, message)
        }
    }

    /// With advice.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// With advice, if there is any.
    pub(crate) fn maybe(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.line > 0 && self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Whether anything forbids to go on.
pub fn any_error(troubles: &[Trouble]) -> bool {
    troubles.iter().any(|trouble| trouble.level == Level::Error)
}
