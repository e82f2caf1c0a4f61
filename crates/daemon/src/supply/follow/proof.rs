//! Programs that got a signal: whether they do well by what they have read again, and the way back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use upkeep_model::{app::AppSpec, supply::ChangeAction};

use super::Follower;
use crate::{events, main_loop::note, supply::edition::Edition};

/// An edition that was put in force by a signal, and is watched.
#[derive(Clone, Debug)]
pub(in crate::supply) struct Proof {
    pub(super) edition: u64,
    /// The last that was not on trial: the way back leads there.
    pub(super) before: u64,
    pub(super) until: Instant,
    /// Restarts and readiness of its instances before.
    pub(super) baseline: Vec<(u32, u32, bool)>,
}

/// The same on the disk: the way back outlives a daemon that is killed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::supply) struct KeptProof {
    edition: u64,
    before: u64,
    /// Unix seconds.
    until: f64,
    baseline: Vec<(u32, u32, bool)>,
}

/// After a new daemon has begun, a trial that is still open lasts so long at least: what happened meanwhile is seen.
const REVIVED: Duration = Duration::from_secs(3);
/// A trial that should have ended longer ago than this says nothing any more.
const OUTDATED: f64 = 60.0;

impl KeptProof {
    pub(super) fn of(proof: &Proof) -> Self {
        let left = proof.until.saturating_duration_since(Instant::now());
        Self {
            edition: proof.edition,
            before: proof.before,
            until: events::now() + left.as_secs_f64(),
            baseline: proof.baseline.clone(),
        }
    }

    /// For a new daemon; `None`: it is over.
    pub(in crate::supply) fn revived(self) -> Option<Proof> {
        let left = self.until - events::now();
        let left = Duration::try_from_secs_f64(left.max(0.0))
            .ok()
            .filter(|_| left > -OUTDATED)?;
        Some(Proof {
            edition: self.edition,
            before: self.before,
            until: Instant::now() + left.max(REVIVED),
            baseline: self.baseline,
        })
    }
}

impl Follower {
    /// Restarts and readiness of the app's instances.
    pub(super) fn instances(&self) -> Vec<(u32, u32, bool)> {
        let Some(entry) = self.supply.sources.directory.get(&self.name) else {
            return Vec::new();
        };
        let status = entry.status.borrow();
        let instances = status.instances.iter();
        instances
            .map(|instance| (instance.index, instance.view.restarts, instance.view.ready))
            .collect()
    }

    /// Whether an app does well that got a signal; if not, what held before comes back.
    pub(super) async fn look_at_proof(&mut self) {
        let Some(proof) = self.with(|app| app.proof.clone()).flatten() else {
            return;
        };
        let now = self.instances();
        let bad = proof.baseline.iter().find_map(|(index, restarts, ready)| {
            let (_, now_restarts, now_ready) = now.iter().find(|(other, ..)| other == index)?;
            if now_restarts > restarts {
                return Some(format!("instance {index} ended after the signal"));
            }
            (*ready && !now_ready).then(|| format!("instance {index} is not ready any more after the signal"))
        });
        let Some(why) = bad else {
            if proof.until <= Instant::now() {
                self.end_proof().await;
            }
            return;
        };
        let (edition, before) = (proof.edition, proof.before);
        let found = self.with(|app| {
            let holds = app.in_force().map(|edition| edition.id) == Some(edition);
            let before = app.editions.get(&before).cloned().filter(|_| holds)?;
            Some((Arc::clone(&app.record), before))
        });
        let Some((record, before)) = found.flatten() else {
            return self.end_proof().await;
        };
        let back = match self.put_files(&before, &record.spec).await {
            Ok(()) => self
                .order(&record, &before, Vec::new(), Some(why.clone()))
                .await
                .map_err(|trouble| trouble.text()),
            Err(failure) => Err(failure.why),
        };
        match back {
            Ok(()) => {
                self.with(|app| app.proof = None);
                self.refuse_edition(Some(edition), &why).await;
            }
            Err(error) => {
                self.with(|app| app.written = None);
                note(&format!(
                    "values of `{}` could not be put back: {error}",
                    self.name
                ));
            }
        }
    }
}

impl Follower {
    /// It is no trial any more, nor for the next daemon.
    async fn end_proof(&self) {
        self.with(|app| app.proof = None);
        if let Err(why) = self.keep(None, None).await {
            note(&why);
        }
    }

    /// The trial of an edition that a signal is to put in force. What is on trial itself is nothing to go back to: one that
    /// follows it leads back to what held before both.
    pub(super) fn proof_of(&self, new: u64, current: Option<&Edition>, spec: &AppSpec) -> Option<Proof> {
        if !matches!(spec.on_change.action, ChangeAction::Signal(_)) {
            return None;
        }
        let current = current?.id;
        let running = self.with(|app| app.proof.clone()).flatten();
        let (before, baseline) = match running.filter(|proof| proof.edition == current) {
            Some(proof) => (proof.before, proof.baseline),
            None => (current, self.instances()),
        };
        (before != new).then(|| Proof {
            edition: new,
            before,
            until: Instant::now() + proof_time(spec),
            baseline,
        })
    }
}

/// How long an app is watched that got a signal: until a check of its life would have told, and as long as a program has to stay up.
pub(super) fn proof_time(spec: &AppSpec) -> Duration {
    let probe = |probe: &Option<upkeep_model::app::Probe>| {
        probe.as_ref().map_or(Duration::ZERO, |probe| {
            (Duration::from(probe.period) + Duration::from(probe.timeout)) * (probe.failure_threshold + 1)
        })
    };
    let checks = probe(&spec.liveness).max(probe(&spec.readiness));
    Duration::from(spec.restart.min_uptime).max(checks)
}
