//! From settings to rules: defaults filled in, selectors compiled.

use globset::{Glob, GlobSet, GlobSetBuilder};
use upkeep_model::{
    settings::{Alerts, Name, Rule as Written, RuleKind, Severity, alerts::Threshold},
    size::Span,
};
use upkeep_supervise::alert::Rule;

/// Repetition unless said otherwise.
const REPEAT: Span = Span::from_secs(4 * 3600);
/// Waiting for more of the same unless said otherwise.
const GROUP: Span = Span::from_secs(5);
/// Where the disk is full unless said otherwise.
const DISK_FLOOR: Threshold = Threshold::Percent(5.0);

/// A rule, and whom it is about.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) rule: Rule,
    pub(super) written: Written,
    pub(super) is_default: bool,
    /// Names of channels; empty: all.
    pub(super) channels: Vec<Name>,
    apps: GlobSet,
    /// Rules of the user on the same kind take these.
    except: Vec<GlobSet>,
}

impl Compiled {
    /// Whether it is about an app.
    pub(super) fn takes(&self, app: &str) -> bool {
        self.apps.is_match(app) && !self.except.iter().any(|apps| apps.is_match(app))
    }

    /// Where it begins, in the unit of the figure; `whole`: what a share is of.
    pub(super) fn begins(&self, whole: Option<f64>) -> Option<f64> {
        resolve(self.threshold()?, whole)
    }

    /// Where it ends: a tenth from where it begins unless said otherwise.
    pub(super) fn ends(&self, whole: Option<f64>) -> Option<f64> {
        let factor = if self.rule.kind == RuleKind::DiskFloor {
            1.1
        } else {
            0.9
        };
        match self.written.resolve_at {
            Some(threshold) => resolve(threshold, whole),
            None => Some(self.begins(whole)? * factor),
        }
    }

    fn threshold(&self) -> Option<Threshold> {
        let floor = (self.rule.kind == RuleKind::DiskFloor).then_some(DISK_FLOOR);
        self.written.threshold.or(floor)
    }
}

fn resolve(threshold: Threshold, whole: Option<f64>) -> Option<f64> {
    match threshold {
        Threshold::Absolute(value) => Some(value),
        Threshold::Percent(percent) => Some(whole? * percent / 100.0),
    }
}

/// How long more of the same is waited for.
pub(super) fn group_ms(alerts: &Alerts) -> u64 {
    alerts.group.unwrap_or(GROUP).as_millis()
}

/// The globs of a rule; an error names the one that is none.
fn globs(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    let all = ["*".to_owned()];
    for pattern in if patterns.is_empty() { &all[..] } else { patterns } {
        set.add(Glob::new(pattern).map_err(|error| format!("`{pattern}` selects no apps: {error}"))?);
    }
    set.build().map_err(|error| error.to_string())
}

/// Whether every rule can be compiled.
pub(crate) fn check(alerts: &Alerts) -> Result<(), String> {
    if let Some(zone) = alerts.quiet.as_ref().and_then(|quiet| quiet.timezone.as_deref()) {
        jiff::tz::TimeZone::get(zone)
            .map_err(|_| format!("there is no time zone `{zone}` on this machine"))?;
    }
    alerts
        .rules
        .iter()
        .try_for_each(|rule| globs(&rule.apps).map(drop))
}

/// All rules that hold.
pub(super) fn compile(alerts: &Alerts) -> Vec<Compiled> {
    let mut rules: Vec<Compiled> = Vec::new();
    let written = alerts.rules.iter().map(|rule| (rule.clone(), false));
    let by_default = RuleKind::ALL
        .into_iter()
        // What the threshold of a figure is nobody but the user knows.
        .filter(|kind| alerts.defaults != Some(false) && *kind != RuleKind::OverLimit)
        .map(|kind| (Written::on(kind), true));
    for (written, is_default) in written.chain(by_default) {
        let Ok(apps) = globs(&written.apps) else { continue };
        let except = if is_default {
            let same = rules.iter().filter(|other| other.rule.kind == written.on);
            same.map(|other| other.apps.clone()).collect()
        } else {
            Vec::new()
        };
        let taken = |name: &str| rules.iter().any(|rule| rule.rule.name == name);
        let base = match &written.name {
            Some(name) => name.to_string(),
            None => written.on.as_str().to_owned(),
        };
        // One more than there are rules: one of them is free.
        let mut names = (1..=rules.len() + 1).map(|number| match number {
            1 => base.clone(),
            number => format!("{base}-{number}"),
        });
        let name = names.find(|name| !taken(name)).unwrap_or_default();
        let (severity, hold_s, resolve_s) = defaults(written.on);
        let severity = written.severity.unwrap_or(severity);
        let critical = alerts.quiet.as_ref().and_then(|quiet| quiet.critical) != Some(false);
        let millis = |given: Option<Span>, seconds: u64| given.map_or(seconds * 1000, Span::as_millis);
        rules.push(Compiled {
            rule: Rule {
                name,
                kind: written.on,
                severity,
                hold_ms: millis(written.hold, hold_s),
                resolve_after_ms: millis(written.resolve_after, resolve_s),
                repeat_ms: written.repeat.or(alerts.repeat).unwrap_or(REPEAT).as_millis(),
                in_quiet: critical && severity == Severity::Critical,
            },
            is_default,
            channels: written.channels.clone(),
            apps,
            except,
            written,
        });
    }
    rules
}

/// Severity, how long it must hold and how long it must be away (in seconds), by kind.
const fn defaults(kind: RuleKind) -> (Severity, u64, u64) {
    match kind {
        RuleKind::Crash => (Severity::Warning, 0, 600),
        RuleKind::CrashLoop => (Severity::Critical, 0, 600),
        RuleKind::Unhealthy => (Severity::Warning, 60, 60),
        RuleKind::OverLimit => (Severity::Warning, 120, 120),
        RuleKind::Leak => (Severity::Warning, 0, 3600),
        RuleKind::DiskFloor => (Severity::Critical, 60, 300),
        RuleKind::AppMissing => (Severity::Critical, 60, 10),
        RuleKind::MissedRun => (Severity::Warning, 0, 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_rules_go_before_defaults() {
        let text =
            "alerts: {rules: [{on: crash, apps: ['web-*'], severity: critical}, {on: crash, apps: [a]}]}";
        let settings = upkeep_model::file::settings::parse(text, "settings.yaml").expect("it is right");
        let rules = compile(&settings.alerts);
        let of = |app: &str| -> Vec<&str> {
            rules
                .iter()
                .filter(|rule| rule.rule.kind == RuleKind::Crash && rule.takes(app))
                .map(|rule| rule.rule.name.as_str())
                .collect()
        };
        assert_eq!(of("web-1"), ["crash"]);
        assert_eq!(of("a"), ["crash-2"]);
        assert_eq!(of("shop"), ["crash-3"]);
        assert_eq!(rules.len(), 2 + 7);
        let disk = rules
            .iter()
            .find(|rule| rule.rule.kind == RuleKind::DiskFloor)
            .expect("a default");
        assert_eq!(disk.begins(Some(1000.0)), Some(50.0));
        assert!(
            disk.ends(Some(1000.0))
                .is_some_and(|ends| (ends - 55.0).abs() < 1e-9)
        );
    }

    #[test]
    fn what_cannot_be_compiled_is_refused() {
        let alerts = |text: &str| {
            upkeep_model::file::settings::parse(text, "settings.yaml")
                .expect("it can be read")
                .alerts
        };
        assert!(check(&alerts("alerts: {rules: [{on: crash, apps: ['a[']}]}")).is_err());
        assert!(
            check(&alerts(
                "alerts: {quiet: {from: '1:00', to: '2:00', timezone: Mars/Base}}"
            ))
            .is_err()
        );
    }
}
