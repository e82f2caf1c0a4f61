//! Keeps a file as its template and the configuration make it.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use crate::{
    apply::{Applied, ApplyError, Job, apply},
    command::Stop,
    pace::{Pace, Wait},
    template::{RenderError, render},
    values::Values,
};

/// What came of a round.
#[derive(Debug)]
pub enum Round {
    /// The file is as it is to be at a revision.
    Fine(Applied, u64),
    /// The values could not be read: the file stays as it is.
    NoValues(String),
    /// The template makes nothing of them: the file stays as it is.
    NotRendered(RenderError),
    /// It could not be written, or did no good.
    NotApplied(ApplyError),
}

/// A file with its template.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The file.
    pub job: Job,
    /// The template's name, for errors.
    pub name: String,
    /// Its text.
    pub template: String,
    /// How long to wait for more changes.
    pub wait: Wait,
}

/// Renders once, and then after changes, until `changes` ends or it is stopped. `changes` tells revisions; `read` reads the
/// values as they are; `told` hears of each round.
pub fn follow(
    kept: &Kept,
    changes: &Receiver<u64>,
    stop: &Stop,
    mut read: impl FnMut() -> Result<Values, String>,
    mut told: impl FnMut(&Round),
) {
    let job = &kept.job;
    let mut pace = Pace::new(kept.wait);
    pace.noticed(Instant::now(), 0);
    loop {
        let now = Instant::now();
        if pace.begin(now) {
            let round = match read() {
                Err(why) => Round::NoValues(why),
                Ok(values) => match render(&kept.name, &kept.template, &values, job.allow_blank) {
                    Err(why) => Round::NotRendered(why),
                    Ok(rendered) => match apply(job, &rendered.text, stop) {
                        Ok(applied) => Round::Fine(applied, rendered.revision),
                        Err(why) => Round::NotApplied(why),
                    },
                },
            };
            match &round {
                Round::Fine(_, revision) => pace.done(Instant::now(), *revision),
                _ => pace.failed(Instant::now()),
            }
            told(&round);
        }
        let left = pace.due().map_or(Duration::from_mins(1), |due| {
            due.saturating_duration_since(Instant::now())
        });
        match changes.recv_timeout(left) {
            Ok(revision) => pace.noticed(Instant::now(), revision),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if stop.wait(Duration::ZERO) {
            return;
        }
    }
}
