//! Restart, stop and limits: defaults and sanity.

use std::collections::BTreeMap;

use crate::{
    app::Rlimit,
    file::{
        At, Fault, did_you_mean,
        v1::{self, BackoffSpec, GiveUpSpec, RlimitSpec},
    },
    restart::{Backoff, GiveUp, RestartOn, RestartPolicy, StartsWithin, Unstable},
    size::Span,
    stop::StopPolicy,
};

/// Longer than this is a mistake (a bare number counts milliseconds).
const LONGEST: Span = Span::from_secs(7 * 24 * 3600);
/// Nobody waits longer than this for an app to stop.
const LONGEST_GRACE: Span = Span::from_secs(24 * 3600);

/// `scheduled`: the app is run by the clock, and not kept running.
pub(super) fn restart(written: Option<At<v1::Restart>>, scheduled: bool) -> Result<RestartPolicy, Fault> {
    let position = written.as_ref().and_then(|written| written.position);
    let unwritten = written.is_none();
    let spec = written.map(|written| written.value.0).unwrap_or_default();
    let fault = |message: String| Fault::new(position, message);
    let defaults = RestartPolicy::default();
    let min_uptime = sane(
        "restart.min_uptime",
        spec.min_uptime.unwrap_or(defaults.min_uptime),
    )
    .map_err(fault)?;
    let backoff = match (spec.delay, spec.backoff) {
        (Some(_), Some(_)) => {
            return Err(fault("`restart` has both `delay` and `backoff`".to_owned())
                .hint("`delay` is a pause that does not grow, `backoff` one that does"));
        }
        (Some(delay), None) | (None, Some(BackoffSpec::Fixed(delay))) if delay.as_millis() == 0 => {
            Backoff::None
        }
        (Some(delay), None) | (None, Some(BackoffSpec::Fixed(delay))) => Backoff::Fixed {
            delay: sane("restart.delay", delay).map_err(fault)?,
        },
        (None, Some(BackoffSpec::None)) => Backoff::None,
        (None, Some(BackoffSpec::Growing(growing))) => exponential(&growing).map_err(fault)?,
        (None, None) => defaults.backoff,
    };
    let unstable = spec.max_restarts.map(|max_restarts| Unstable {
        min_uptime,
        max_restarts,
    });
    let starts_within = match spec.give_up_after {
        Some(GiveUpSpec::Never) => None,
        Some(GiveUpSpec::After(rule)) if rule.starts == 0 || rule.starts > 1000 => {
            return Err(fault(format!(
                "`restart.give_up_after.starts` is {}; from 1 to 1000 make sense",
                rule.starts
            )));
        }
        Some(GiveUpSpec::After(rule)) if rule.within.as_millis() == 0 => {
            return Err(
                fault("`restart.give_up_after.within` is zero, so it would never hold".to_owned())
                    .hint("write `give_up_after: never` if that is meant"),
            );
        }
        Some(GiveUpSpec::After(rule)) => Some(StartsWithin {
            starts: rule.starts,
            within: rule.within,
        }),
        None if unstable.is_some() => None,
        None => defaults.give_up.starts_within,
    };
    let on = match spec.on {
        None if scheduled && unwritten => RestartOn::Never,
        on => on.unwrap_or_default(),
    };
    if scheduled && matches!(on, RestartOn::Always | RestartOn::UnlessStopped) {
        return Err(
            fault("`restart` keeps it running, and `schedule` runs it by the clock".to_owned())
                .hint("write `restart: {on: failure}` to repeat a run that fails, or leave it out"),
        );
    }
    Ok(RestartPolicy {
        on,
        success_codes: spec.success_codes.map_or(defaults.success_codes, |codes| codes.0),
        stop_codes: spec.stop_codes.map_or_else(Vec::new, |codes| codes.0),
        backoff,
        give_up: GiveUp {
            starts_within,
            unstable,
        },
        min_uptime,
    })
}

fn exponential(growing: &v1::Growing) -> Result<Backoff, String> {
    let Backoff::Exponential {
        min,
        max,
        factor_milli,
        reset_after,
    } = Backoff::default()
    else {
        return Ok(Backoff::None);
    };
    let factor_milli = match growing.factor {
        None => factor_milli,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 1000 to 100000"
        )]
        Some(factor) if (1.0..=100.0).contains(&factor) => (factor * 1000.0).round() as u32,
        Some(factor) => {
            return Err(format!(
                "`restart.backoff.factor` is {factor}; from 1 to 100 make sense"
            ));
        }
    };
    let min = growing.min.unwrap_or(min).max(Span::from_millis(1));
    let max = growing.max.unwrap_or_else(|| max.max(min));
    if min > max {
        return Err(format!(
            "`restart.backoff` starts at {min}, which is more than its `max` of {max}"
        ));
    }
    sane("restart.backoff.max", max)?;
    Ok(Backoff::Exponential {
        min,
        max,
        factor_milli,
        reset_after: growing.reset_after.unwrap_or(reset_after),
    })
}

fn sane(what: &str, span: Span) -> Result<Span, String> {
    if span > LONGEST {
        return Err(format!("`{what}` is {span}, which is longer than {LONGEST}"));
    }
    Ok(span)
}

pub(super) fn stop(written: Option<At<v1::Stop>>) -> Result<StopPolicy, Fault> {
    let position = written.as_ref().and_then(|written| written.position);
    let spec = written.map(|written| written.value).unwrap_or_default();
    let defaults = StopPolicy::default();
    let grace = spec.grace.unwrap_or(defaults.grace);
    if grace > LONGEST_GRACE {
        let message = format!("`stop.grace` is {grace}, which is longer than {LONGEST_GRACE}");
        return Err(Fault::new(position, message).hint("a number without a unit counts milliseconds"));
    }
    Ok(StopPolicy {
        signal: spec.signal.map_or(defaults.signal, |signal| signal.0),
        grace,
        tree: spec.tree.unwrap_or(defaults.tree),
    })
}

const LIMITS: [&str; 9] = [
    "nofile", "nproc", "core", "as", "cpu", "data", "fsize", "memlock", "stack",
];

pub(super) fn rlimits(
    written: Option<BTreeMap<At<String>, RlimitSpec>>,
) -> Result<BTreeMap<String, Rlimit>, Fault> {
    let mut limits = BTreeMap::new();
    for (name, spec) in written.unwrap_or_default() {
        let bare = name.value.to_ascii_lowercase();
        let bare = bare.strip_prefix("rlimit_").unwrap_or(&bare);
        if !LIMITS.contains(&bare) {
            let fault = Fault::new(
                name.position,
                format!("there is no resource limit `{}`", name.value),
            );
            let hint =
                did_you_mean(bare, LIMITS).unwrap_or_else(|| format!("limits are: {}", LIMITS.join(", ")));
            return Err(fault.hint(hint));
        }
        let (soft, hard) = (spec.soft.0, spec.hard.0);
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(Fault::new(
                name.position,
                format!("the soft limit of `{bare}` is above its hard limit"),
            ));
        }
        limits.insert(bare.to_owned(), Rlimit { soft, hard });
    }
    Ok(limits)
}
