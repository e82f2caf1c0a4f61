//! Who may do what: verbs, grants, roles, and the question whether one covers an app.
//!
//! Everything is denied unless a [`Grant`] gives it. A grant names [`Verb`]s and where they hold: patterns over names
//! of apps and over namespaces. A role is a named list of grants; a principal (a local user, a token, a client
//! certificate) holds what its roles give, and a token may hold that within narrower bounds.
//!
//! What a principal may do with one verb is a [`Reach`]: the places where some grant gives it. Verbs about apps are
//! asked with an app ([`Reach::covers`]); verbs about the machine ask for [`Reach::is_everywhere`], so that a grant
//! for one app never opens the machine, whatever verbs it names.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Verb {
    /// Ask who one is, which everybody who is somebody may.
    #[serde(rename = "self:read")]
    SelfRead,
    /// See apps, their instances, figures, crashes and specification, without values of variables.
    #[serde(rename = "apps:read")]
    AppsRead,
    /// Read what apps write; it may hold whatever a program prints.
    #[serde(rename = "apps:logs")]
    AppsLogs,
    /// Start, stop, restart, reload and scale.
    #[serde(rename = "apps:operate")]
    AppsOperate,
    /// Create, change, roll back and delete: whoever may do that runs programs of their choice.
    #[serde(rename = "apps:write")]
    AppsWrite,
    /// Take heap snapshots and profiles: they hold all that a program has in memory.
    #[serde(rename = "apps:inspect")]
    AppsInspect,
    /// Read the event log.
    #[serde(rename = "events:read")]
    EventsRead,
    /// Silence alerts and try channels.
    #[serde(rename = "alerts:operate")]
    AlertsOperate,
    /// See the daemon, the machine's figures, alerts.
    #[serde(rename = "machine:read")]
    MachineRead,
    /// Upgrade, shut down.
    #[serde(rename = "machine:control")]
    MachineControl,
    /// See the settings.
    #[serde(rename = "settings:read")]
    SettingsRead,
    /// Change the settings: that includes commands that alerts run.
    #[serde(rename = "settings:write")]
    SettingsWrite,
    /// See tokens, roles and the audit.
    #[serde(rename = "access:read")]
    AccessRead,
    /// Make and revoke tokens, change roles and who holds them; never beyond what one holds oneself.
    #[serde(rename = "access:write")]
    AccessWrite,
}

/// Every verb, in the order that lists show.
pub const VERBS: &[Verb] = &[
    Verb::SelfRead,
    Verb::AppsRead,
    Verb::AppsLogs,
    Verb::AppsOperate,
    Verb::AppsWrite,
    Verb::AppsInspect,
    Verb::EventsRead,
    Verb::AlertsOperate,
    Verb::MachineRead,
    Verb::MachineControl,
    Verb::SettingsRead,
    Verb::SettingsWrite,
    Verb::AccessRead,
    Verb::AccessWrite,
];

impl Verb {
    /// As it is written: `apps:read`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SelfRead => "self:read",
            Self::AppsRead => "apps:read",
            Self::AppsLogs => "apps:logs",
            Self::AppsOperate => "apps:operate",
            Self::AppsWrite => "apps:write",
            Self::AppsInspect => "apps:inspect",
            Self::EventsRead => "events:read",
            Self::AlertsOperate => "alerts:operate",
            Self::MachineRead => "machine:read",
            Self::MachineControl => "machine:control",
            Self::SettingsRead => "settings:read",
            Self::SettingsWrite => "settings:write",
            Self::AccessRead => "access:read",
            Self::AccessWrite => "access:write",
        }
    }

    /// Whether it is about single apps: then a grant may give it for some of them.
    pub const fn is_of_apps(self) -> bool {
        matches!(
            self,
            Self::AppsRead
                | Self::AppsLogs
                | Self::AppsOperate
                | Self::AppsWrite
                | Self::AppsInspect
                | Self::EventsRead
                | Self::AlertsOperate
        )
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Verbs as a grant names them: one, all of a kind (`apps:*`), or all (`*`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Verbs(String);

impl Verbs {
    /// Whether `verb` is among them.
    pub fn includes(&self, verb: Verb) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => verb.as_str().starts_with(start),
            None => self.0 == verb.as_str(),
        }
    }
}

impl FromStr for Verbs {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let verbs = Self(text.to_owned());
        let is_whole = |start: &str| start.is_empty() || start.ends_with(':');
        let known =
            text.strip_suffix('*').is_none_or(is_whole) && VERBS.iter().any(|verb| verbs.includes(*verb));
        if known {
            return Ok(verbs);
        }
        Err(AccessError {
            what: format!("there is no verb `{}`", text.escape_debug()),
            hint: format!(
                "there are `*`, `apps:*` and the like, and {}",
                VERBS
                    .iter()
                    .map(|verb| verb.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        })
    }
}

impl TryFrom<String> for Verbs {
    type Error = AccessError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Verbs> for String {
    fn from(verbs: Verbs) -> Self {
        verbs.0
    }
}

/// A name in which `*` stands for any number of characters, none among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Pattern(String);

/// The longest pattern, in bytes.
const PATTERN_MAX: usize = 200;

impl Pattern {
    /// The pattern that every name matches.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether `name` is one of those that are meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        // A split has a first part always.
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
            return false;
        };
        let mut last = None;
        for part in parts {
            if let Some(passed) = last.replace(part) {
                match rest.find(passed) {
                    Some(at) => rest = &rest[at + passed.len()..],
                    None => return false,
                }
            }
        }
        match last {
            Some(end) => rest.ends_with(end),
            None => rest.is_empty(),
        }
    }

    fn is_any(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|byte| byte == b'*')
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pattern {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > PATTERN_MAX || text.chars().any(char::is_control) {
            return Err(AccessError {
                what: format!("`{}` is no pattern of names", text.escape_debug()),
                hint: "write a name, or one in which `*` stands for anything: `shop`, `shop-*`".to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Pattern {
    type Error = AccessError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

/// Some apps: those whose name matches one of the patterns and whose namespace matches one of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// Names of apps. Default: all.
    #[serde(default = "any")]
    pub apps: Vec<Pattern>,
    /// Namespaces. Default: all.
    #[serde(default = "any")]
    pub namespaces: Vec<Pattern>,
}

fn any() -> Vec<Pattern> {
    vec![Pattern::any()]
}

impl Default for Within {
    fn default() -> Self {
        Self {
            apps: any(),
            namespaces: any(),
        }
    }
}

impl Within {
    /// Whether an app is among them.
    pub fn covers(&self, app: &str, namespace: &str) -> bool {
        self.apps.iter().any(|pattern| pattern.matches(app))
            && self.namespaces.iter().any(|pattern| pattern.matches(namespace))
    }

    /// Whether every app is among them.
    pub fn is_everywhere(&self) -> bool {
        self.apps.iter().any(Pattern::is_any) && self.namespaces.iter().any(Pattern::is_any)
    }

    /// Whether all of `other` is surely among them.
    fn contains(&self, other: &Self) -> bool {
        let all = |mine: &[Pattern], theirs: &[Pattern]| {
            mine.iter().any(Pattern::is_any) || theirs.iter().all(|pattern| mine.contains(pattern))
        };
        all(&self.apps, &other.apps) && all(&self.namespaces, &other.namespaces)
    }
}

/// Verbs, and where they hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// What may be done.
    pub verbs: Vec<Verbs>,
    /// Names of apps. Default: all.
    #[serde(default = "any")]
    pub apps: Vec<Pattern>,
    /// Namespaces. Default: all.
    #[serde(default = "any")]
    pub namespaces: Vec<Pattern>,
}

impl Grant {
    /// Verbs everywhere. A text that is no verb gives nothing.
    fn everywhere(verbs: &[&str]) -> Self {
        Self {
            verbs: verbs.iter().filter_map(|verb| verb.parse().ok()).collect(),
            apps: any(),
            namespaces: any(),
        }
    }

    fn within(&self) -> Within {
        Within {
            apps: self.apps.clone(),
            namespaces: self.namespaces.clone(),
        }
    }
}

/// Roles that are always there, with what they give.
pub fn built_in_roles() -> [(&'static str, Vec<Grant>); 3] {
    let viewer = ["apps:read", "apps:logs", "events:read", "machine:read"];
    let operator = ["apps:operate", "alerts:operate", "settings:read"];
    [
        ("admin", vec![Grant::everywhere(&["*"])]),
        (
            "operator",
            vec![Grant::everywhere(&[viewer.as_slice(), &operator].concat())],
        ),
        ("viewer", vec![Grant::everywhere(&viewer)]),
    ]
}

/// What a principal holds: grants, and the bounds of its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// What its roles give.
    pub grants: Vec<Grant>,
    /// Nothing beyond this, if there is such a bound.
    pub bound: Option<Within>,
}

impl Held {
    /// Everything.
    pub fn all() -> Self {
        Self {
            grants: vec![Grant::everywhere(&["*"])],
            bound: None,
        }
    }

    /// Where one verb may be done.
    pub fn reach(&self, verb: Verb) -> Reach {
        let given = self
            .grants
            .iter()
            .filter(|grant| verb == Verb::SelfRead || grant.verbs.iter().any(|verbs| verbs.includes(verb)));
        Reach {
            places: given.map(Grant::within).collect(),
            bound: self.bound.clone(),
        }
    }

    /// Whether whoever holds this may give `other` away: it gives nothing that is not held. Where that cannot be told
    /// from the patterns, it may not.
    pub fn contains(&self, other: &Self) -> bool {
        let inside = |mine: &Within, grant: &Grant| {
            let place = grant.within();
            mine.contains(&place) || other.bound.as_ref().is_some_and(|bound| mine.contains(bound))
        };
        VERBS.iter().filter(|verb| **verb != Verb::SelfRead).all(|verb| {
            let mine = self.reach(*verb);
            let theirs = other
                .grants
                .iter()
                .filter(|grant| grant.verbs.iter().any(|verbs| verbs.includes(*verb)));
            theirs.clone().all(|grant| {
                mine.places.iter().any(|place| inside(place, grant))
                    && mine.bound.as_ref().is_none_or(|bound| inside(bound, grant))
            })
        })
    }
}

/// Where one verb may be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    places: Vec<Within>,
    bound: Option<Within>,
}

impl Reach {
    /// Everywhere: for what the daemon does of its own.
    pub fn everywhere() -> Self {
        Self {
            places: vec![Within::default()],
            bound: None,
        }
    }

    /// Whether it may be done nowhere.
    pub fn is_nowhere(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether it may be done to every app, and to the machine.
    pub fn is_everywhere(&self) -> bool {
        self.places.iter().any(Within::is_everywhere) && self.bound.as_ref().is_none_or(Within::is_everywhere)
    }

    /// Whether it may be done to one app.
    pub fn covers(&self, app: &str, namespace: &str) -> bool {
        self.places.iter().any(|place| place.covers(app, namespace))
            && self
                .bound
                .as_ref()
                .is_none_or(|bound| bound.covers(app, namespace))
    }
}

/// A text that grants cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct AccessError {
    /// What is wrong.
    pub what: String,
    /// What there is.
    pub hint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().expect("a pattern")
    }

    fn grant(verbs: &[&str], apps: &[&str], namespaces: &[&str]) -> Grant {
        Grant {
            verbs: verbs.iter().map(|verb| verb.parse().expect("a verb")).collect(),
            apps: apps.iter().map(|text| pattern(text)).collect(),
            namespaces: namespaces.iter().map(|text| pattern(text)).collect(),
        }
    }

    fn held(grants: &[Grant]) -> Held {
        Held {
            grants: grants.to_vec(),
            bound: None,
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let is = |text: &str, name: &str| pattern(text).matches(name);
        assert!(is("shop", "shop"));
        assert!(!is("shop", "shop2"));
        assert!(!is("shop", "ashop"));
        assert!(is("*", ""));
        assert!(is("shop*", "shop"));
        assert!(is("shop-*", "shop-api"));
        assert!(!is("shop-*", "shop"));
        assert!(is("*-api", "shop-api"));
        assert!(is("s*p*i", "shop-api"));
        assert!(!is("s*p*x", "shop-api"));
        assert!(is("a*a", "aa"));
        assert!(!is("a*a", "a"), "one letter cannot be both ends");
        assert!(is("*a*", "bab"));
        assert!(!is("ab*ba", "aba"));
    }

    #[test]
    fn verbs_are_known_ones() {
        for text in ["*", "apps:*", "apps:read", "access:*"] {
            assert!(text.parse::<Verbs>().is_ok(), "{text}");
        }
        for text in [
            "",
            "apps",
            "app*",
            "apps:",
            "apps:fly",
            "files:*",
            "a*",
            "**",
            "APPS:READ",
        ] {
            let error = text.parse::<Verbs>().expect_err(text);
            assert!(error.hint.contains("apps:operate"), "{error}");
        }
        for verb in VERBS {
            let json = serde_json::to_value(verb).expect("a verb");
            assert_eq!(json, verb.as_str(), "one spelling");
        }
    }

    #[test]
    fn nothing_is_allowed_unless_granted() {
        for verb in VERBS {
            let reach = Held::default().reach(*verb);
            assert!(reach.is_nowhere() && !reach.is_everywhere() && !reach.covers("shop", "default"));
        }
    }

    #[test]
    fn the_built_in_roles_by_verb() {
        let table: Vec<String> = VERBS
            .iter()
            .map(|verb| {
                let holders: Vec<&str> = built_in_roles()
                    .iter()
                    .filter(|(_, grants)| held(grants).reach(*verb).is_everywhere())
                    .map(|(name, _)| *name)
                    .collect();
                format!("{verb}: {}", holders.join(" "))
            })
            .collect();
        assert_eq!(
            table.join("\n"),
            "self:read: admin operator viewer\n\
             apps:read: admin operator viewer\n\
             apps:logs: admin operator viewer\n\
             apps:operate: admin operator\n\
             apps:write: admin\n\
             apps:inspect: admin\n\
             events:read: admin operator viewer\n\
             alerts:operate: admin operator\n\
             machine:read: admin operator viewer\n\
             machine:control: admin\n\
             settings:read: admin operator\n\
             settings:write: admin\n\
             access:read: admin\n\
             access:write: admin"
        );
    }

    #[test]
    fn a_grant_holds_where_it_says() {
        let held = held(&[
            grant(&["apps:*"], &["shop-*"], &["*"]),
            grant(&["apps:read"], &["*"], &["staging"]),
        ]);
        let operate = held.reach(Verb::AppsOperate);
        assert!(operate.covers("shop-api", "live"));
        assert!(!operate.covers("blog", "staging"));
        let read = held.reach(Verb::AppsRead);
        assert!(read.covers("blog", "staging"));
        assert!(!read.covers("blog", "live"));
        assert!(!read.is_everywhere());
    }

    #[test]
    fn a_grant_for_one_app_never_opens_the_machine() {
        let held = held(&[grant(&["*"], &["shop"], &["*"])]);
        for verb in VERBS.iter().filter(|verb| !verb.is_of_apps()) {
            assert!(!held.reach(*verb).is_everywhere(), "{verb}");
        }
    }

    #[test]
    fn a_bound_narrows_every_grant() {
        let mut held = Held::all();
        held.bound = Some(Within {
            apps: vec![pattern("shop")],
            ..Within::default()
        });
        assert!(held.reach(Verb::AppsWrite).covers("shop", "default"));
        assert!(!held.reach(Verb::AppsWrite).covers("blog", "default"));
        assert!(!held.reach(Verb::MachineControl).is_everywhere());
    }

    #[test]
    fn nobody_gives_away_more_than_they_hold() {
        let [admin, operator, viewer] = built_in_roles().map(|(_, grants)| held(&grants));
        let shop = held(&[grant(&["apps:operate"], &["shop"], &["*"])]);
        assert!(admin.contains(&operator) && admin.contains(&viewer) && admin.contains(&shop));
        assert!(operator.contains(&viewer) && operator.contains(&shop));
        assert!(!viewer.contains(&operator) && !viewer.contains(&shop));
        assert!(shop.contains(&shop) && !shop.contains(&viewer));
        let mut bounded = admin.clone();
        bounded.bound = Some(Within {
            apps: vec![pattern("shop")],
            ..Within::default()
        });
        assert!(!bounded.contains(&admin), "a bound is not shed");
        assert!(bounded.contains(&bounded));
        assert!(admin.contains(&bounded));
        assert!(bounded.contains(&shop));
    }
}
