//! Replacement, limits, isolation, schedules: defaults and sanity.

use std::path::Path;

use super::{join, probe::words};
use crate::{
    app::AppSpec,
    file::{At, Fault, did_you_mean, v1},
    limits::Limits,
    rollout::RolloutPolicy,
    sandbox::{self, CALL_GROUPS, Level, Sandbox},
    schedule::{CATCH_UP_LIMIT, Overlap, START_WITHIN, Schedule, When},
    size::{ByteSize, Span},
};

/// Longer than this is a mistake (a bare number counts milliseconds).
const LONGEST: Span = Span::from_secs(24 * 3600);

/// A run that takes longer is no run.
const LONGEST_RUN: Span = Span::from_secs(30 * 24 * 3600);

pub(super) fn rollout(written: Option<At<v1::RolloutSpec>>) -> Result<RolloutPolicy, Fault> {
    let position = written.as_ref().and_then(|written| written.position);
    let spec = written.map(|written| written.value).unwrap_or_default();
    let defaults = RolloutPolicy::default();
    let policy = RolloutPolicy {
        surge: spec.surge.or(defaults.surge),
        max_unavailable: spec.max_unavailable.unwrap_or(defaults.max_unavailable),
        settle: spec.settle.unwrap_or(defaults.settle),
        pause: spec.pause.unwrap_or(defaults.pause),
        timeout: spec.timeout.unwrap_or(defaults.timeout),
        watch: spec.watch.unwrap_or(defaults.watch),
        trial: spec.trial.unwrap_or(defaults.trial),
    };
    for (key, span) in [
        ("settle", policy.settle),
        ("pause", policy.pause),
        ("timeout", policy.timeout),
        ("watch", policy.watch),
        ("trial", policy.trial),
    ] {
        if span > LONGEST {
            let message = format!("`rollout.{key}` is {span}, which is longer than {LONGEST}");
            return Err(Fault::new(position, message).hint("a number without a unit counts milliseconds"));
        }
    }
    if policy.timeout.as_millis() == 0 {
        return Err(Fault::new(
            position,
            "`rollout.timeout` is zero, so nothing could ever become ready",
        ));
    }
    if policy.surge == Some(0) && policy.max_unavailable == 0 {
        return Err(Fault::new(
            position,
            "`rollout` allows neither a new instance beside the old ones (`surge`) nor one less (`max_unavailable`)",
        ));
    }
    Ok(policy)
}

pub(super) fn limits(written: Option<At<v1::LimitsSpec>>) -> Result<Limits, Fault> {
    let position = written.as_ref().and_then(|written| written.position);
    let spec = written.map(|written| written.value).unwrap_or_default();
    let fault = |message: String| Fault::new(position, message);
    let least = |key: &str, size: Option<ByteSize>, least: u64| match size {
        Some(size) if size.as_bytes() < least => Err(fault(format!(
            "`limits.{key}` is {} bytes, less than the {least} that a process needs",
            size.as_bytes()
        ))
        .hint("write a unit: `512M`, `2G`")),
        size => Ok(size),
    };
    let memory = least("memory", spec.memory, 1 << 20)?;
    let memory_high = least("memory_high", spec.memory_high, 1 << 20)?;
    if memory_high.zip(memory).is_some_and(|(high, most)| high > most) {
        return Err(fault("`limits.memory_high` is above `limits.memory`".to_owned()));
    }
    if spec.tasks == Some(0) {
        return Err(fault(
            "`limits.tasks` is 0: not even the program itself could run".to_owned(),
        ));
    }
    if let Some(score) = spec.oom_score.filter(|score| !(-1000..=1000).contains(score)) {
        return Err(fault(format!(
            "`limits.oom_score` is {score}; from -1000 to 1000 make sense"
        )));
    }
    Ok(Limits {
        memory,
        memory_high,
        cpu_milli: spec.cpu.map(|cpu| cores(&cpu.0).map_err(fault)).transpose()?,
        io_read: least("io_read", spec.io_read, 4096)?,
        io_write: least("io_write", spec.io_write, 4096)?,
        tasks: spec.tasks,
        oom_score: spec.oom_score,
    })
}

/// `1.5`, `2`, `50%`: thousandths of a core.
fn cores(text: &str) -> Result<u32, String> {
    let (number, factor) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim(), 10.0),
        None => (text.trim(), 1000.0),
    };
    let milli = number
        .parse::<f64>()
        .map_or(f64::NAN, |number| number * factor)
        .round();
    if !(10.0..=4_096_000.0).contains(&milli) {
        return Err(format!(
            "`limits.cpu` is `{}`; write cores such as `1.5`, or a share of one such as `50%` (1% at least)",
            text.escape_debug()
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 10 to 4096000"
    )]
    Ok(milli as u32)
}

/// Refuses what would lead out of the sandbox that is asked for.
pub(super) fn inside(spec: &AppSpec) -> Result<(), Fault> {
    if let Some(key) = sandbox::runs_outside(spec) {
        let hint = match key {
            "check" => "leave one of them out",
            "schedule.on_missed" => "leave it out; `upkeep events` tells what was missed",
            _ => "ask by `http`, `tcp`, `log` or `notify`",
        };
        return Err(Fault::new(
            None,
            format!(
                "the command of `{key}` would run outside the sandbox, where the app may have replaced it"
            ),
        )
        .hint(hint));
    }
    if let Some(address) = sandbox::leads_out(spec) {
        return Err(Fault::new(
            None,
            format!("`listen` hands over `udp:{address}`, by which anybody can be called, but the sandbox gives no network"),
        )
        .hint("add `network: true` to `sandbox`"));
    }
    Ok(())
}

pub(super) fn sandbox(written: Option<At<v1::SandboxSpec>>, cwd: &Path) -> Result<Sandbox, Fault> {
    let Some(At { value, position }) = written else {
        return Ok(Sandbox::default());
    };
    let fault = |message: String| Fault::new(position, message);
    let spec = value.0;
    let level = spec.level.unwrap_or_default();
    for group in &spec.allow {
        let known = CALL_GROUPS.map(|(name, _)| name);
        if !known.contains(&group.as_str()) {
            let hint =
                did_you_mean(group, known).unwrap_or_else(|| format!("groups are: {}", known.join(", ")));
            return Err(fault(format!(
                "`sandbox.allow` names `{}`, which is no group of system calls",
                group.escape_debug()
            ))
            .hint(hint));
        }
    }
    if let Some(tmp) = spec.tmp
        && tmp.as_bytes() < 1 << 16
    {
        return Err(fault(format!(
            "`sandbox.tmp` is {} bytes; at least 64K make sense",
            tmp.as_bytes()
        )));
    }
    let differs = spec.network.is_some()
        || spec.tmp.is_some()
        || ![&spec.read, &spec.write, &spec.allow]
            .into_iter()
            .all(Vec::is_empty);
    if level == Level::None && differs {
        return Err(
            fault("`sandbox` says what differs from its level, but no level".to_owned())
                .hint("add `level: light`, `standard` or `strict`"),
        );
    }
    let paths = |paths: Vec<String>| paths.iter().map(|path| join(cwd, path)).collect();
    Ok(Sandbox {
        level,
        network: spec.network,
        read: paths(spec.read),
        write: paths(spec.write),
        tmp: spec.tmp,
        allow: spec.allow,
    })
}

/// `instances`: how many copies the app has.
pub(super) fn schedule(
    written: Option<At<v1::ScheduleSpec>>,
    instances: u32,
) -> Result<Option<Schedule>, Fault> {
    let Some(At { value, position }) = written else {
        return Ok(None);
    };
    let spec = value.0;
    if spec.at.trim().is_empty() {
        return Err(Fault::new(position, "`schedule` says no time")
            .hint("write `0 3 * * *`, `@daily` or `every 30m`"));
    }
    if let Err(error) = When::parse(&spec.at) {
        let fault = Fault::new(position, format!("`schedule`: {}", error.message));
        return Err(match error.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        });
    }
    if spec.overlap == Some(Overlap::Allow) && instances < 2 {
        return Err(
            Fault::new(position, "`schedule.overlap: allow` needs room for a second run")
                .hint("write `instances: 4` for four runs at once"),
        );
    }
    for (key, span) in [
        ("jitter", spec.jitter),
        ("start_within", spec.start_within),
        ("timeout", spec.timeout),
    ] {
        if let Some(span) = span.filter(|span| *span > LONGEST_RUN) {
            let message = format!("`schedule.{key}` is {span}, which is longer than {LONGEST_RUN}");
            return Err(Fault::new(position, message).hint("a number without a unit counts milliseconds"));
        }
    }
    if spec.timeout == Some(Span::default()) {
        return Err(
            Fault::new(position, "`schedule.timeout` is zero, so nothing could run")
                .hint("leave it out: a run may then take as long as it wants"),
        );
    }
    let catch_up_limit = spec.catch_up_limit.unwrap_or(CATCH_UP_LIMIT);
    if catch_up_limit == 0 || catch_up_limit > 1000 {
        return Err(Fault::new(
            position,
            format!("`schedule.catch_up_limit` is {catch_up_limit}; from 1 to 1000 make sense"),
        )
        .hint("`catch_up: none` makes up for nothing"));
    }
    Ok(Some(Schedule {
        catch_up_limit,
        start_within: spec.start_within.unwrap_or(START_WITHIN),
        at: spec.at,
        timezone: spec.timezone,
        jitter: spec.jitter.unwrap_or_default(),
        overlap: spec.overlap.unwrap_or_default(),
        catch_up: spec.catch_up.unwrap_or_default(),
        timeout: spec.timeout,
        on_missed: spec
            .on_missed
            .map(|command| words("schedule.on_missed", command))
            .transpose()
            .map_err(|message| Fault::new(position, message))?,
    }))
}
