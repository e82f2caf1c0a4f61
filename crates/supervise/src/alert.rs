//! Alerts: who is told of what, when, and how often.
//!
//! # Theory of operation
//!
//! A [`Rule`] with a subject (`shop:0`, or `machine`) is an **alert** from the moment that something is wrong until it
//! has been right again for a while. There are two ways to see that:
//!
//! * A **level** ([`Engine::see`]): looked at again and again. It is *bad*, *good*, or in *between*: above the border
//!   where it ends and below the one where it begins, where nothing changes (hysteresis). It must be bad for `hold_ms`
//!   before it counts.
//! * An **occurrence** ([`Engine::occur`]): a crash. It counts at once, and is over at once; further ones within
//!   `resolve_after_ms` are counted to the same alert. If a look shows the same it becomes a level.
//!
//! What is to be told goes into the **group** of its rule, which is closed `group_ms` after its first entry and becomes
//! one [`Notification`]. An alert that goes on is told again every `repeat_ms`, and that it ended, once. So a thousand
//! apps that crash together are one message, and an app that crashes every second is one now and one in `repeat_ms`.
//!
//! In **quiet** hours groups stay open, unless their rule is told all the same; what was gathered is told at their end.
//! What is **silenced** is followed and not told; if it goes on after the silence it is told then.
//!
//! Times are milliseconds of a clock that is never set (CLOCK_BOOTTIME or CLOCK_MONOTONIC) and never jumps back; an
//! engine that a later daemon takes over is moved to its clock ([`Engine::shift`]). There is no clock in here, no list
//! of apps and no channel: whoever calls has them. Alerts and entries are bounded ([`ALERTS_MAX`], [`ENTRIES_MAX`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use upkeep_model::settings::{RuleKind, Severity};

/// More alerts are not followed: they are counted as `more` in the next message.
pub const ALERTS_MAX: usize = 5000;
/// So many alerts stand in one message; the rest is counted.
pub const ENTRIES_MAX: usize = 50;

/// What is told of, every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name; no other rule has it.
    pub name: String,
    /// What it is on.
    pub kind: RuleKind,
    /// How bad that is.
    pub severity: Severity,
    /// How long it must be bad.
    pub hold_ms: u64,
    /// How long it must be good, or be without an occurrence.
    pub resolve_after_ms: u64,
    /// How often it is told again.
    pub repeat_ms: u64,
    /// Told in quiet hours too.
    pub in_quiet: bool,
}

/// What a look has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Above the border.
    Bad,
    /// Between the borders: as it was.
    Between,
    /// Below both.
    Good,
}

impl Level {
    /// Of a value that is bad above `above` and good at or below `below`.
    pub fn of(value: f64, above: f64, below: f64) -> Self {
        if value > above {
            Self::Bad
        } else if value <= below {
            Self::Good
        } else {
            Self::Between
        }
    }
}

/// What an entry of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has begun.
    Firing,
    /// It goes on.
    Repeated,
    /// It has ended.
    Resolved,
}

/// One alert in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Of what: `shop:0`.
    pub subject: String,
    /// What is said.
    pub state: State,
    /// Since when.
    pub since_ms: u64,
    /// How many occurrences, or 1.
    pub count: u32,
    /// The last that was seen of it, in words.
    pub text: String,
    /// The event of the newest occurrence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Of which rule.
    pub rule: Rule,
    /// At least one, [`ENTRIES_MAX`] at most.
    pub entries: Vec<Entry>,
    /// How many alerts beyond these.
    pub more: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Alert {
    /// Since when it is bad.
    since_ms: u64,
    /// Since when it counts.
    firing: bool,
    /// Since when it is good again.
    good_ms: Option<u64>,
    /// It is made of occurrences.
    occurs: bool,
    count: u32,
    text: String,
    event: Option<u64>,
    /// When it was last told, and how many occurrences there were then.
    told: Option<(u64, u32)>,
    /// An entry of it waits in the group of its rule.
    waits: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    opened_ms: u64,
    entries: BTreeMap<String, Entry>,
    more: u32,
}

/// The state of all alerts. Serialisable; the rules are not part of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    #[serde(skip)]
    rules: BTreeMap<String, Rule>,
    #[serde(skip)]
    group_ms: u64,
    /// By rule and subject.
    alerts: BTreeMap<String, BTreeMap<String, Alert>>,
    groups: BTreeMap<String, Group>,
}

impl Engine {
    /// Sets the rules; alerts of rules that are no more are forgotten.
    pub fn set_rules(&mut self, rules: Vec<Rule>, group_ms: u64) {
        self.rules = rules.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        self.group_ms = group_ms;
        self.alerts.retain(|rule, _| self.rules.contains_key(rule));
        self.groups.retain(|rule, _| self.rules.contains_key(rule));
    }

    /// The rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values()
    }

    /// Moves all times: `then_ms` of the old clock is `now_ms` of the new one.
    pub fn shift(&mut self, then_ms: u64, now_ms: u64) {
        let moved = |time: u64| {
            // What lies before the beginning of the new clock is at its beginning.
            (i128::from(time) + i128::from(now_ms) - i128::from(then_ms)).clamp(0, i128::from(now_ms))
        };
        let moved = |time: u64| u64::try_from(moved(time)).unwrap_or(0);
        for alert in self.alerts.values_mut().flat_map(BTreeMap::values_mut) {
            alert.since_ms = moved(alert.since_ms);
            alert.good_ms = alert.good_ms.map(moved);
            alert.told = alert.told.map(|(at, count)| (moved(at), count));
        }
        for group in self.groups.values_mut() {
            group.opened_ms = moved(group.opened_ms);
            for entry in group.entries.values_mut() {
                entry.since_ms = moved(entry.since_ms);
            }
        }
    }

    /// A look at a level. Returns whether anything is different now.
    pub fn see(&mut self, now_ms: u64, rule: &str, subject: &str, level: Level, text: &str) -> bool {
        let Some(rule) = self.rules.get(rule) else {
            return false;
        };
        let full = self.is_full();
        let alerts = self.alerts.entry(rule.name.clone()).or_default();
        match (alerts.get_mut(subject), level) {
            (None, Level::Bad) if !full => {
                alerts.insert(
                    subject.to_owned(),
                    Alert {
                        since_ms: now_ms,
                        firing: false,
                        good_ms: None,
                        occurs: false,
                        count: 1,
                        text: text.to_owned(),
                        event: None,
                        told: None,
                        waits: false,
                    },
                );
                true
            }
            (None, _) => false,
            (Some(alert), Level::Bad) => {
                // Figures in the text change all the time: that is no news by itself.
                text.clone_into(&mut alert.text);
                // What an event told first is there to be looked at: from now it goes on until it is seen to be good.
                let news = alert.occurs || alert.good_ms.is_some();
                alert.occurs = false;
                alert.good_ms = None;
                news
            }
            (Some(_), Level::Between) => false,
            (Some(alert), Level::Good) if !alert.firing => {
                alerts.remove(subject);
                true
            }
            (Some(alert), Level::Good) => {
                let news = alert.good_ms.is_none();
                alert.good_ms.get_or_insert(now_ms);
                news
            }
        }
    }

    /// Something happened.
    pub fn occur(&mut self, now_ms: u64, rule: &str, subject: &str, text: &str, event: Option<u64>) {
        let Some(rule) = self.rules.get(rule) else {
            return;
        };
        if self.is_full() {
            let group = self.groups.entry(rule.name.clone()).or_insert_with(|| Group {
                opened_ms: now_ms,
                ..Group::default()
            });
            group.more = group.more.saturating_add(1);
            return;
        }
        let alerts = self.alerts.entry(rule.name.clone()).or_default();
        // One that is over and has not been told yet goes on.
        let untold = self
            .groups
            .get(&rule.name)
            .and_then(|group| group.entries.get(subject))
            .map_or((now_ms, 0), |entry| (entry.since_ms, entry.count));
        let alert = alerts.entry(subject.to_owned()).or_insert_with(|| Alert {
            since_ms: untold.0,
            firing: true,
            good_ms: None,
            occurs: true,
            count: untold.1,
            text: String::new(),
            event: None,
            told: None,
            waits: false,
        });
        alert.firing = true;
        alert.count = alert.count.saturating_add(1);
        text.clone_into(&mut alert.text);
        alert.event = event;
        // One that is looked at ends when that shows it.
        alert.good_ms = alert.occurs.then_some(now_ms);
    }

    fn is_full(&self) -> bool {
        self.alerts.values().map(BTreeMap::len).sum::<usize>() >= ALERTS_MAX
    }

    /// Levels of subjects that are no more (a deleted app) count as good: those that do not count yet are dropped, the
    /// others end. `lives` tells.
    pub fn retain(&mut self, now_ms: u64, lives: &dyn Fn(&str, &str) -> bool) -> bool {
        let mut news = false;
        for (rule, alerts) in &mut self.alerts {
            alerts.retain(|subject, alert| {
                if alert.good_ms.is_some() || lives(rule, subject) {
                    return true;
                }
                news = true;
                alert.good_ms = Some(now_ms);
                alert.firing
            });
        }
        news
    }

    /// What is to be told now. `quiet`: these are quiet hours. `silenced`: whether a subject is.
    pub fn tick(&mut self, now_ms: u64, quiet: bool, silenced: &dyn Fn(&str) -> bool) -> Vec<Notification> {
        let mut alerts = std::mem::take(&mut self.alerts);
        for (name, alerts) in &mut alerts {
            if let Some(rule) = self.rules.get(name) {
                let group = self.groups.entry(name.clone()).or_default();
                alerts.retain(|subject, alert| step(rule, group, now_ms, subject, alert, silenced(subject)));
            }
        }
        alerts.retain(|_, alerts| !alerts.is_empty());
        self.alerts = alerts;
        let mut told = Vec::new();
        for (name, group) in &mut self.groups {
            let Some(rule) = self.rules.get(name) else {
                continue;
            };
            let is_empty = group.entries.is_empty() && group.more == 0;
            let due = now_ms >= group.opened_ms.saturating_add(self.group_ms);
            if is_empty || !due || (quiet && !rule.in_quiet) {
                continue;
            }
            let group = std::mem::take(group);
            let mut entries: Vec<Entry> = group.entries.into_values().collect();
            if let Some(alerts) = self.alerts.get_mut(name) {
                for entry in &entries {
                    if let Some(alert) = alerts.get_mut(&entry.subject) {
                        alert.waits = false;
                        alert.told = Some((now_ms, alert.count));
                    }
                }
            }
            let surplus = entries.len().saturating_sub(ENTRIES_MAX);
            entries.truncate(ENTRIES_MAX);
            let more = group
                .more
                .saturating_add(u32::try_from(surplus).unwrap_or(u32::MAX));
            told.push(Notification {
                rule: rule.clone(),
                entries,
                more,
            });
        }
        self.groups
            .retain(|_, group| !group.entries.is_empty() || group.more > 0);
        told
    }

    /// Every alert that counts, for people: rule, entry, and whether it was told.
    pub fn firing(&self) -> Vec<(&Rule, Entry, bool)> {
        let mut all = Vec::new();
        for (name, alerts) in &self.alerts {
            let Some(rule) = self.rules.get(name) else {
                continue;
            };
            for (subject, alert) in alerts.iter().filter(|(_, alert)| alert.firing) {
                all.push((rule, entry(subject, alert, State::Firing), alert.told.is_some()));
            }
        }
        all
    }

    /// Whether there is nothing that time alone could change.
    pub fn is_idle(&self) -> bool {
        self.alerts.is_empty() && self.groups.is_empty()
    }
}

fn entry(subject: &str, alert: &Alert, state: State) -> Entry {
    Entry {
        subject: subject.to_owned(),
        state,
        since_ms: alert.since_ms,
        count: alert.count,
        text: alert.text.clone(),
        event: alert.event,
    }
}

/// Moves one alert on; `false`: it is over.
fn step(
    rule: &Rule,
    group: &mut Group,
    now_ms: u64,
    subject: &str,
    alert: &mut Alert,
    silenced: bool,
) -> bool {
    let passed = |since: u64, span: u64| now_ms >= since.saturating_add(span);
    if !alert.firing {
        if alert.good_ms.is_some() {
            return false;
        }
        if !passed(alert.since_ms, rule.hold_ms) {
            return true;
        }
        alert.firing = true;
    }
    let over = alert
        .good_ms
        .is_some_and(|good| passed(good, rule.resolve_after_ms));
    let state = match alert.told {
        // What began and ended while it could not be told is told once, as ended, if it still waits to be told.
        None if over && silenced => None,
        None if over && !alert.occurs && alert.waits => Some(State::Resolved),
        None => Some(State::Firing),
        Some(_) if over => (!alert.occurs).then_some(State::Resolved),
        Some((at, count)) => {
            let goes_on = if alert.occurs {
                alert.count > count
            } else {
                alert.good_ms.is_none()
            };
            (goes_on && passed(at, rule.repeat_ms)).then_some(State::Repeated)
        }
    };
    if silenced {
        if alert.waits {
            group.entries.remove(subject);
            alert.waits = false;
        }
    } else if let Some(state) = state {
        if group.entries.is_empty() && group.more == 0 {
            group.opened_ms = now_ms;
        }
        group
            .entries
            .insert(subject.to_owned(), entry(subject, alert, state));
        alert.waits = true;
    }
    !over
}

#[cfg(test)]
#[path = "alert/tests.rs"]
mod tests;
