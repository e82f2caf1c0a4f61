//! Programs that are run by the clock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::size::Span;

pub mod cron;

pub use self::cron::{Cron, CronError};

/// When an app is run. It is not kept running: each run ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Schedule {
    /// `*/5 * * * *` (five or six fields), `@daily`, `every 30m`.
    pub at: String,
    /// IANA name of the time zone; absent: the machine's.
    pub timezone: Option<String>,
    /// Each run begins up to so much later, by chance.
    pub jitter: Span,
    /// What happens if the run before has not ended.
    pub overlap: Overlap,
    /// How many runs that were missed while the daemon or the machine was down are made up for.
    pub catch_up: CatchUp,
    /// With [`CatchUp::All`]: so many at most, the newest.
    #[serde(default = "catch_up_limit")]
    pub catch_up_limit: u32,
    /// A run that begins later than this after its time did not run in time: it is missed if the daemon was down,
    /// and in any case the hook is told.
    #[serde(default = "start_within")]
    pub start_within: Span,
    /// How long a run may take.
    pub timeout: Option<Span>,
    /// Command that is run when a run did not happen or failed to start.
    pub on_missed: Option<Vec<String>>,
}

const fn catch_up_limit() -> u32 {
    CATCH_UP_LIMIT
}

const fn start_within() -> Span {
    START_WITHIN
}

/// How many missed runs `catch_up: all` makes up for, unless said otherwise.
pub const CATCH_UP_LIMIT: u32 = 10;
/// How late a run may begin, unless said otherwise.
pub const START_WITHIN: Span = Span::from_secs(60);

/// When, as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At civil times.
    Cron(Box<Cron>),
    /// Again and again after that time.
    Every(Span),
}

impl When {
    /// Reads `*/5 * * * *`, `@daily`, `every 30m`, `@every 30m`.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let every = text
            .strip_prefix("every ")
            .or_else(|| text.strip_prefix("@every "));
        let Some(every) = every else {
            return Cron::parse(text).map(|cron| Self::Cron(Box::new(cron)));
        };
        let fail = |message: String, hint: &str| CronError {
            message,
            hint: Some(hint.to_owned()),
        };
        let span = every
            .parse::<Span>()
            .map_err(|error| fail(error.to_string(), "write `every 30m`"))?;
        if span < Span::from_secs(1) {
            return Err(fail(
                format!("`every {span}` is less than a second"),
                "what is always at work needs no schedule",
            ));
        }
        if span > Span::from_secs(366 * 86_400) {
            return Err(fail(
                format!("`every {span}` is more than a year"),
                "write `@yearly`",
            ));
        }
        Ok(Self::Every(span))
    }
}

/// What happens if the run before has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The new run is left out.
    #[default]
    Skip,
    /// The new run waits for the end of the old one; ten wait at most.
    Queue,
    /// The old run is stopped.
    Replace,
    /// Both run: each run takes one instance that is free, so there are as many at once as `instances`.
    Allow,
}

/// Which missed runs are made up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// None.
    None,
    /// One, however many were missed.
    #[default]
    One,
    /// Each of them, the newest ten unless `catch_up_limit` says otherwise.
    All,
}
