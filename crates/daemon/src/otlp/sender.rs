//! One kind of message on its way to one receiver: tries, pauses between them, and what is said of trouble.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
};
use prost::Message;
use upkeep_model::settings::Otlp;

use crate::web::{self, Trust};

/// How long a try may take.
const TRY: Duration = Duration::from_secs(10);
/// Pauses between tries that fail; they double.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// No receiver may keep us waiting for longer.
const ASKED_MAX: Duration = Duration::from_mins(10);
/// How long it may not work until that is told.
const DEAD: Duration = Duration::from_secs(5);
/// How often it is told, at most, that something was refused.
const AGAIN: Duration = Duration::from_mins(10);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Figures,
    Lines,
}

impl Signal {
    const fn path(self) -> &'static str {
        match self {
            Self::Figures => "/v1/metrics",
            Self::Lines => "/v1/logs",
        }
    }

    /// For people.
    const fn word(self) -> &'static str {
        match self {
            Self::Figures => "figures",
            Self::Lines => "log lines",
        }
    }

    /// What a receiver that took a message says it did not take of it: how many, and why.
    fn refused(self, body: &[u8]) -> Option<(i64, String)> {
        let (count, why) = match self {
            Self::Figures => {
                let partial = ExportMetricsServiceResponse::decode(body).ok()?.partial_success?;
                (partial.rejected_data_points, partial.error_message)
            }
            Self::Lines => {
                let partial = ExportLogsServiceResponse::decode(body).ok()?.partial_success?;
                (partial.rejected_log_records, partial.error_message)
            }
        };
        (count > 0).then_some((count, why))
    }
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken, perhaps not all of it; never to be sent again.
    Taken,
    /// Not taken, and it never will be: the receiver does not understand it, or finds it too large.
    Unfit,
    /// Not taken now.
    Later,
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    Trouble {
        why: String,
        result: &'static str,
    },
    /// Something will never be taken.
    Refused(String),
    Recovered,
}

/// The way of one kind of message.
#[derive(Debug)]
pub(super) struct Sender {
    signal: Signal,
    /// Made anew after a failure: certificates are renewed.
    trust: Option<Trust>,
    pause: Duration,
    retry_at: Option<Instant>,
    /// Since when nothing is taken.
    since: Option<Instant>,
    told: bool,
    told_refused: Option<Instant>,
    pub(super) tells: Vec<Tell>,
}

impl Sender {
    pub(super) fn new(signal: Signal) -> Self {
        Self {
            signal,
            trust: None,
            pause: PAUSE_MIN,
            retry_at: None,
            since: None,
            told: false,
            told_refused: None,
            tells: Vec::new(),
        }
    }

    /// What is sent, for people.
    pub(super) const fn word(&self) -> &'static str {
        self.signal.word()
    }

    /// Another receiver, or other headers: no reason to wait any more.
    pub(super) fn begin_anew(&mut self) {
        (self.trust, self.retry_at, self.pause) = (None, None, PAUSE_MIN);
    }

    /// Whether the pause after a failure is over.
    pub(super) fn ready(&self) -> bool {
        self.retry_at.is_none_or(|at| Instant::now() >= at)
    }

    /// When the pause after a failure is over.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// One try.
    pub(super) async fn send(&mut self, otlp: &Otlp, message: Vec<u8>) -> Outcome {
        let answer = match tokio::time::timeout(TRY, self.post(otlp, message)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", TRY.as_secs())),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                self.failed(why, None);
                return Outcome::Later;
            }
        };
        match answer.status.as_u16() {
            200..=299 => {
                self.taken();
                if let Some((count, why)) = self.signal.refused(&answer.body) {
                    self.refused(&format!(
                        "{count} of the {} in a message: {why}",
                        self.signal.word()
                    ));
                }
                Outcome::Taken
            }
            400 | 413 | 422 => {
                self.failed(answer.refusal(), answer.retry_after);
                Outcome::Unfit
            }
            _ => {
                self.failed(answer.refusal(), answer.retry_after);
                Outcome::Later
            }
        }
    }

    async fn post(&mut self, otlp: &Otlp, message: Vec<u8>) -> Result<web::Answer, String> {
        let (scheme, _, base) = otlp.endpoint.parts();
        let mut headers = vec![("content-type".to_owned(), "application/x-protobuf".to_owned())];
        if let Some(path) = &otlp.headers_file {
            headers.extend(web::headers_of(path)?);
        }
        if scheme == "https" && self.trust.is_none() {
            self.trust = Some(web::trust(otlp.ca_file.as_deref())?);
        }
        let path = format!("{}{}", base.trim_end_matches('/'), self.signal.path());
        web::post(&otlp.endpoint, &path, &headers, message, self.trust.clone()).await
    }

    fn taken(&mut self) {
        (self.retry_at, self.pause, self.since) = (None, PAUSE_MIN, None);
        if self.told {
            self.told = false;
            self.tells.push(Tell::Recovered);
        }
    }

    fn failed(&mut self, why: String, asked: Option<Duration>) {
        self.trust = None;
        let since = *self.since.get_or_insert_with(Instant::now);
        // Between half of it and all of it, so that many senders do not come back at once.
        let dice = RandomState::new().hash_one(0_u8) % 512;
        let pause = self.pause / 2 + self.pause / 1024 * u32::try_from(dice).unwrap_or(0);
        let pause = asked.map_or(pause, |asked| asked.min(ASKED_MAX).max(pause));
        self.retry_at = Some(Instant::now() + pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        if !self.told && (since.elapsed() >= DEAD || pause >= DEAD) {
            self.told = true;
            let result = match self.signal {
                Signal::Figures => "figures of that time are not sent later",
                Signal::Lines => "log lines wait in their files",
            };
            self.tells.push(Tell::Trouble { why, result });
        }
    }

    /// What the receiver will never take.
    pub(super) fn refused(&mut self, what: &str) {
        if self.told_refused.is_none_or(|at| at.elapsed() >= AGAIN) {
            self.told_refused = Some(Instant::now());
            self.tells.push(Tell::Refused(what.to_owned()));
        }
    }
}
