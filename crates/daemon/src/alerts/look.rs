//! Looks at levels: who is missing or unhealthy, which figure is too high, how much room is left.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use upkeep_model::{
    id::AppName,
    settings::{RuleKind, alerts::Figure},
    size::ByteSize,
    state::{Actual, Desired},
};
use upkeep_supervise::alert::Level;
use upkeep_sys::clock;

use super::rules::Compiled;
use crate::apps::{
    directory::{AppEntry, Directory},
    view::Usage,
};

/// What is of no app.
pub(super) const MACHINE: &str = "machine";

/// Figures from whoever samples them: of an instance, or (`None`) of the machine.
pub(crate) type Figures = Arc<dyn Fn(Option<(&AppName, u32)>, Figure) -> Option<f64> + Send + Sync>;

/// One look.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) rule: String,
    pub(super) subject: String,
    pub(super) level: Level,
    pub(super) text: String,
}

/// Looks.
pub(super) struct Looker {
    pub(super) directory: Arc<Directory>,
    pub(super) usage: Arc<Usage>,
    pub(super) home: PathBuf,
    /// In place of our own looks into `/proc`.
    pub(super) figures: Option<Figures>,
    /// Processor time of the machine at the last look: all, and idle.
    pub(super) cpu: Option<(f64, f64)>,
}

impl Looker {
    /// All that these rules are about.
    pub(super) fn look(&mut self, rules: &[Compiled]) -> Vec<Sight> {
        let mut seen = Vec::new();
        let apps: Vec<(AppName, AppEntry)> = {
            let directory = self.directory.read();
            directory
                .iter()
                .map(|(name, entry)| (name.clone(), entry.clone()))
                .collect()
        };
        // Read once for all rules: it is since the last look.
        let host_cpu = self.host_cpu();
        for rule in rules {
            match rule.rule.kind {
                RuleKind::AppMissing => missing(rule, &apps, &mut seen),
                RuleKind::Unhealthy => unhealthy(rule, &apps, &mut seen),
                RuleKind::OverLimit => self.over_limit(rule, &apps, host_cpu, &mut seen),
                RuleKind::DiskFloor => self.disk(rule, &mut seen),
                // These are told by events.
                // It begins with an event, and goes on for as long as it is found.
                RuleKind::Leak => self.leaks(rule, &apps, &mut seen),
                RuleKind::Crash | RuleKind::CrashLoop | RuleKind::MissedRun => {}
            }
        }
        seen
    }

    fn disk(&self, rule: &Compiled, seen: &mut Vec<Sight>) {
        let Ok(space) = rustix::fs::statvfs(&self.home) else {
            return;
        };
        let (free, total) = (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize);
        let Some((begins, ends)) = rule.begins(Some(total as f64)).zip(rule.ends(Some(total as f64))) else {
            return;
        };
        // It is bad below the border: upside down.
        let level = Level::of(-(free as f64), -begins, -ends);
        seen.push(Sight {
            rule: rule.rule.name.clone(),
            subject: MACHINE.to_owned(),
            level,
            text: format!(
                "{} of {} are free where `{}` lies",
                about_bytes(free as f64),
                about_bytes(total as f64),
                self.home.display()
            ),
        });
    }

    fn leaks(&self, rule: &Compiled, apps: &[(AppName, AppEntry)], seen: &mut Vec<Sight>) {
        for (app, entry) in apps.iter().filter(|(app, _)| rule.takes(app.as_str())) {
            for one in &entry.status.borrow().instances {
                let leaks = self.usage.leaks(app, one.index);
                let level = if leaks.is_empty() { Level::Good } else { Level::Bad };
                let now = crate::events::now();
                let texts: Vec<String> = leaks.iter().map(|leak| leak.text(now)).collect();
                seen.push(Sight {
                    rule: rule.rule.name.clone(),
                    subject: format!("{app}:{}", one.index),
                    level,
                    text: texts.join("; "),
                });
            }
        }
    }

    fn over_limit(
        &self,
        rule: &Compiled,
        apps: &[(AppName, AppEntry)],
        host_cpu: Option<f64>,
        seen: &mut Vec<Sight>,
    ) {
        let Some(figure) = rule.written.metric else { return };
        let (name, of_machine) = figure.metric();
        let mut tell = |subject: String, value: f64, whole: Option<f64>| {
            let Some((begins, ends)) = rule.begins(whole).zip(rule.ends(whole)) else {
                return;
            };
            seen.push(Sight {
                rule: rule.rule.name.clone(),
                subject,
                level: Level::of(value, begins, ends),
                text: format!(
                    "{name} is at {}, above {}",
                    shown(figure, value),
                    shown(figure, begins)
                ),
            });
        };
        if of_machine {
            let value = match &self.figures {
                Some(figures) => figures(None, figure),
                None => machine(figure, host_cpu),
            };
            if let Some(value) = value {
                tell(MACHINE.to_owned(), value, whole(figure));
            }
            return;
        }
        for (app, entry) in apps.iter().filter(|(app, _)| rule.takes(app.as_str())) {
            let limits = &entry.record.spec.limits;
            let whole = match figure {
                Figure::Memory => limits.memory.map(|memory| memory.as_bytes() as f64),
                Figure::Cpu => Some(limits.cpu_milli.map_or(1.0, |cpu| f64::from(cpu) / 1000.0)),
                _ => None,
            };
            let running: Vec<(u32, u32, Option<u64>)> = entry
                .status
                .borrow()
                .instances
                .iter()
                .filter_map(|one| Some((one.index, one.view.pid?, one.view.started_ms)))
                .collect();
            for (index, pid, started_ms) in running {
                let value = match &self.figures {
                    Some(figures) => figures(Some((app, index)), figure),
                    None => self.own(figure, pid, started_ms),
                };
                if let Some(value) = value {
                    tell(format!("{app}:{index}"), value, whole);
                }
            }
        }
    }

    /// Of a main process, as `/proc` tells it.
    fn own(&self, figure: Figure, pid: u32, started_ms: Option<u64>) -> Option<f64> {
        let now = clock::monotonic_ms();
        let uptime = now.saturating_sub(started_ms.unwrap_or(now));
        match figure {
            Figure::Cpu => self
                .usage
                .of(pid, now, uptime)
                .map(|(percent, _)| percent / 100.0),
            Figure::Memory => self.usage.of(pid, now, uptime).map(|(_, bytes)| bytes as f64),
            Figure::Fds => Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64),
            Figure::Threads => Some(std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.count() as f64),
            Figure::HostCpu | Figure::HostMemory | Figure::HostLoad => None,
        }
    }

    /// Processor time of the machine since the last look, in cores.
    fn host_cpu(&mut self) -> Option<f64> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        let times: Vec<f64> = text
            .lines()
            .next()?
            .split_ascii_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|time| time.parse().ok())
            .collect();
        let all: f64 = times.iter().sum();
        // Idle, and waiting for disks.
        let idle = times.get(3)? + times.get(4)?;
        let before = self.cpu.replace((all, idle))?;
        let (all, idle) = (all - before.0, idle - before.1);
        (all > 0.0).then(|| (all - idle).max(0.0) / all * cores())
    }
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Memory of the machine: in use, and all, in bytes.
fn memory() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let fields: HashMap<&str, f64> = text
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let kib: f64 = rest.trim().trim_end_matches(" kB").parse().ok()?;
            Some((name, kib * 1024.0))
        })
        .collect();
    let total = *fields.get("MemTotal")?;
    Some((total - fields.get("MemAvailable")?, total))
}

fn machine(figure: Figure, host_cpu: Option<f64>) -> Option<f64> {
    match figure {
        Figure::HostCpu => host_cpu,
        Figure::HostMemory => memory().map(|(used, _)| used),
        Figure::HostLoad => {
            let text = std::fs::read_to_string("/proc/loadavg").ok()?;
            text.split_ascii_whitespace().next()?.parse().ok()
        }
        _ => None,
    }
}

fn whole(figure: Figure) -> Option<f64> {
    match figure {
        Figure::HostCpu => Some(cores()),
        Figure::HostMemory => memory().map(|(_, total)| total),
        _ => None,
    }
}

fn shown(figure: Figure, value: f64) -> String {
    match figure {
        Figure::Memory | Figure::HostMemory => about_bytes(value),
        Figure::Cpu | Figure::HostCpu => format!("{value:.2} cores"),
        Figure::HostLoad => format!("{value:.2}"),
        Figure::Fds | Figure::Threads => format!("{value:.0}"),
    }
}

/// In the unit that people use, rounded down to it.
fn about_bytes(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and that is meant"
    )]
    let bytes = value as u64;
    let shift = match bytes {
        0..0x10_0000 => 10,
        _ => 20,
    };
    ByteSize::from_bytes(bytes >> shift << shift).to_string()
}

fn missing(rule: &Compiled, apps: &[(AppName, AppEntry)], seen: &mut Vec<Sight>) {
    // What is run by the clock is not kept running.
    let kept = apps
        .iter()
        .filter(|(_, entry)| entry.record.spec.schedule.is_none());
    for (app, entry) in kept.filter(|(app, _)| rule.takes(app.as_str())) {
        for one in &entry.status.borrow().instances {
            let wanted = entry
                .record
                .instances
                .get(one.index as usize)
                .is_some_and(|instance| instance.desired == Desired::Up);
            let there = matches!(
                one.view.actual,
                Actual::Running | Actual::Completed | Actual::Stopping | Actual::Killing
            );
            let level = if wanted && !there { Level::Bad } else { Level::Good };
            seen.push(Sight {
                rule: rule.rule.name.clone(),
                subject: format!("{app}:{}", one.index),
                level,
                text: format!(
                    "it is wanted and does not run ({}): {}",
                    one.view.actual, one.view.why
                ),
            });
        }
    }
}

fn unhealthy(rule: &Compiled, apps: &[(AppName, AppEntry)], seen: &mut Vec<Sight>) {
    for (app, entry) in apps.iter().filter(|(app, _)| rule.takes(app.as_str())) {
        if entry.record.spec.readiness.is_none() {
            continue;
        }
        for one in &entry.status.borrow().instances {
            let bad = one.view.actual == Actual::Running && !one.view.ready;
            seen.push(Sight {
                rule: rule.rule.name.clone(),
                subject: format!("{app}:{}", one.index),
                level: if bad { Level::Bad } else { Level::Good },
                text: one.view.why.clone(),
            });
        }
    }
}
