//! Who may do what: verbs, grants, roles, and the question whether one covers an app.
//!
//! Everything is denied unless a [`Grant`] gives it. A grant names [`Verb`]s and where they hold: patterns over names
//! of apps and over namespaces. A role is a named list of grants; a principal (a local user, a token, a client
//! certificate) holds what its roles give, and a token may hold that within narrower bounds.
//!
//! What a principal may do with one verb is a [`Reach`]: the places where some grant gives it. Verbs about apps are
//! asked with an app ([`Reach::covers`]), verbs about the shared configuration with a path ([`Reach::covers_path`]);
//! verbs about the machine ask for [`Reach::is_everywhere`], so that a grant for one app or one path never opens the
//! machine, whatever verbs it names.
//!
//! Who limits one of the two has said nothing of the other, and gets none of it: a grant that names apps or namespaces
//! and no paths gives no configuration, one that names paths alone gives no app. One that names nothing gives all.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::place::{Path, Place};

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
    /// Read values of the shared configuration; of secrets, that they exist.
    #[serde(rename = "config:read")]
    ConfigRead,
    /// Read secrets of the shared configuration in clear.
    #[serde(rename = "config:reveal")]
    ConfigReveal,
    /// Set and delete values of the shared configuration.
    #[serde(rename = "config:write")]
    ConfigWrite,
    /// Be told of changes of the shared configuration, of what one may read.
    #[serde(rename = "config:watch")]
    ConfigWatch,
    /// Read what was in the shared configuration, who changed it and why.
    #[serde(rename = "config:history")]
    ConfigHistory,
    /// Say what holds for places of the shared configuration: whom secrets are sealed for.
    #[serde(rename = "config:grant")]
    ConfigGrant,
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
    Verb::ConfigRead,
    Verb::ConfigReveal,
    Verb::ConfigWrite,
    Verb::ConfigWatch,
    Verb::ConfigHistory,
    Verb::ConfigGrant,
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
            Self::ConfigRead => "config:read",
            Self::ConfigReveal => "config:reveal",
            Self::ConfigWrite => "config:write",
            Self::ConfigWatch => "config:watch",
            Self::ConfigHistory => "config:history",
            Self::ConfigGrant => "config:grant",
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

    /// Whether it is about paths of the shared configuration: then a grant may give it for some of them.
    pub const fn is_of_config(self) -> bool {
        matches!(
            self,
            Self::ConfigRead
                | Self::ConfigReveal
                | Self::ConfigWrite
                | Self::ConfigWatch
                | Self::ConfigHistory
                | Self::ConfigGrant
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

/// Some apps: those whose name matches one of the patterns and whose namespace matches one of theirs. And some paths of
/// the shared configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WithinForm", into = "WithinForm")]
pub struct Within {
    /// Names of apps.
    pub apps: Vec<Pattern>,
    /// Namespaces.
    pub namespaces: Vec<Pattern>,
    /// Places of the shared configuration.
    pub paths: Vec<Place>,
}

/// How a [`Within`] is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WithinForm {
    /// Names of apps. Default: all, unless only paths are named: then none.
    #[serde(default)]
    #[schemars(with = "Vec<Pattern>", default = "any")]
    apps: Option<Vec<Pattern>>,
    /// Namespaces. Default: all.
    #[serde(default)]
    #[schemars(with = "Vec<Pattern>", default = "any")]
    namespaces: Option<Vec<Pattern>>,
    /// Places of the shared configuration: `/shop/prod/`, `/shop/db/url`, `/`. Default: all if neither apps nor namespaces
    /// are limited, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Place>")]
    paths: Option<Vec<Place>>,
}

impl From<WithinForm> for Within {
    fn from(form: WithinForm) -> Self {
        Self::of(form.apps, form.namespaces, form.paths)
    }
}

impl From<Within> for WithinForm {
    fn from(within: Within) -> Self {
        let paths = (within.paths != default_paths(&within.apps, &within.namespaces)).then_some(within.paths);
        Self {
            apps: Some(within.apps),
            namespaces: Some(within.namespaces),
            paths,
        }
    }
}

impl JsonSchema for Within {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Within".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        described(
            WithinForm::json_schema(generator),
            "Some apps: those whose name matches one of the patterns and whose namespace matches one of theirs. And some paths of the shared configuration.",
        )
    }
}

/// The schema of a form, with the words of what it is the form of.
fn described(mut schema: Schema, what: &str) -> Schema {
    schema.insert("description".to_owned(), what.into());
    schema
}

fn any() -> Vec<Pattern> {
    vec![Pattern::any()]
}

fn is_any(patterns: &[Pattern]) -> bool {
    patterns.iter().any(Pattern::is_any)
}

/// The paths of who names none.
fn default_paths(apps: &[Pattern], namespaces: &[Pattern]) -> Vec<Place> {
    if is_any(apps) && is_any(namespaces) {
        vec![Place::all()]
    } else {
        Vec::new()
    }
}

impl Default for Within {
    fn default() -> Self {
        Self::of(None, None, None)
    }
}

impl Within {
    /// From what was named; what was not gets its default.
    pub fn of(
        apps: Option<Vec<Pattern>>,
        namespaces: Option<Vec<Pattern>>,
        paths: Option<Vec<Place>>,
    ) -> Self {
        let only_paths = paths.is_some() && apps.is_none() && namespaces.is_none();
        let apps = apps.unwrap_or_else(|| if only_paths { Vec::new() } else { any() });
        let namespaces = namespaces.unwrap_or_else(any);
        let paths = paths.unwrap_or_else(|| default_paths(&apps, &namespaces));
        Self {
            apps,
            namespaces,
            paths,
        }
    }

    /// Whether an app is among them.
    pub fn covers(&self, app: &str, namespace: &str) -> bool {
        self.apps.iter().any(|pattern| pattern.matches(app))
            && self.namespaces.iter().any(|pattern| pattern.matches(namespace))
    }

    /// Whether all of a place of the configuration is among them.
    pub fn covers_place(&self, place: &Place) -> bool {
        self.paths.iter().any(|mine| mine.contains(place))
    }

    /// Whether every app is among them, and every path.
    pub fn is_everywhere(&self) -> bool {
        is_any(&self.apps) && is_any(&self.namespaces) && self.covers_place(&Place::all())
    }

    /// Whether no app is among them.
    pub fn has_no_app(&self) -> bool {
        self.apps.is_empty() || self.namespaces.is_empty()
    }

    /// Whether there is nothing among them that a verb is about.
    fn is_nothing_for(&self, verb: Verb) -> bool {
        (verb.is_of_apps() && self.has_no_app()) || (verb.is_of_config() && self.paths.is_empty())
    }

    /// Whether all of `other` that a verb is about is surely among them.
    fn contains(&self, other: &Self, verb: Verb) -> bool {
        let all = |mine: &[Pattern], theirs: &[Pattern]| {
            is_any(mine) || theirs.iter().all(|pattern| mine.contains(pattern))
        };
        let apps =
            other.has_no_app() || (all(&self.apps, &other.apps) && all(&self.namespaces, &other.namespaces));
        let paths = other.paths.iter().all(|place| self.covers_place(place));
        (apps || verb.is_of_config()) && (paths || verb.is_of_apps())
    }
}

/// Verbs, and where they hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "GrantForm", into = "GrantForm")]
pub struct Grant {
    /// What may be done.
    pub verbs: Vec<Verbs>,
    /// Where.
    pub within: Within,
}

/// How a [`Grant`] is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GrantForm {
    /// What may be done.
    verbs: Vec<Verbs>,
    /// Names of apps. Default: all, unless only paths are named: then none.
    #[serde(default)]
    #[schemars(with = "Vec<Pattern>", default = "any")]
    apps: Option<Vec<Pattern>>,
    /// Namespaces. Default: all.
    #[serde(default)]
    #[schemars(with = "Vec<Pattern>", default = "any")]
    namespaces: Option<Vec<Pattern>>,
    /// Places of the shared configuration: `/shop/prod/`, `/shop/db/url`, `/`. Default: all if neither apps nor namespaces
    /// are limited, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Place>")]
    paths: Option<Vec<Place>>,
}

impl From<GrantForm> for Grant {
    fn from(form: GrantForm) -> Self {
        Self {
            verbs: form.verbs,
            within: Within::of(form.apps, form.namespaces, form.paths),
        }
    }
}

impl From<Grant> for GrantForm {
    fn from(grant: Grant) -> Self {
        let WithinForm {
            apps,
            namespaces,
            paths,
        } = grant.within.into();
        Self {
            verbs: grant.verbs,
            apps,
            namespaces,
            paths,
        }
    }
}

impl JsonSchema for Grant {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Grant".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        described(GrantForm::json_schema(generator), "Verbs, and where they hold.")
    }
}

impl Grant {
    /// Verbs everywhere. A text that is no verb gives nothing.
    fn everywhere(verbs: &[&str]) -> Self {
        Self {
            verbs: verbs.iter().filter_map(|verb| verb.parse().ok()).collect(),
            within: Within::default(),
        }
    }

    /// Whether it gives nothing.
    pub fn is_empty(&self) -> bool {
        self.verbs.is_empty() || (self.within.has_no_app() && self.within.paths.is_empty())
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
        let bound = self.bound.clone();
        let is_bound_away = bound.as_ref().is_some_and(|bound| bound.is_nothing_for(verb));
        Reach {
            places: given
                .map(|grant| grant.within.clone())
                .filter(|within| !is_bound_away && !within.is_nothing_for(verb))
                .collect(),
            bound,
        }
    }

    /// Whether whoever holds this may give `other` away: it gives nothing that is not held. Where that cannot be told
    /// from the patterns, it may not.
    pub fn contains(&self, other: &Self) -> bool {
        VERBS.iter().filter(|verb| **verb != Verb::SelfRead).all(|verb| {
            let (mine, theirs) = (self.reach(*verb), other.reach(*verb));
            let inside = |mine: &Within, place: &Within| {
                let bound = theirs.bound.as_ref();
                mine.contains(place, *verb) || bound.is_some_and(|bound| mine.contains(bound, *verb))
            };
            theirs.places.iter().all(|theirs| {
                mine.places.iter().any(|place| inside(place, theirs))
                    && mine.bound.as_ref().is_none_or(|bound| inside(bound, theirs))
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

    /// Whether it may be done to one value of the shared configuration.
    pub fn covers_path(&self, path: &Path) -> bool {
        self.covers_place(&path.clone().into())
    }

    /// Whether it may be done to anything of a place of the shared configuration.
    pub fn meets_place(&self, place: &Place) -> bool {
        let mine = self.places.iter().flat_map(|within| &within.paths);
        match &self.bound {
            None => mine.into_iter().any(|one| one.meets(place)),
            // Of places that meet, one holds the other: what they have in common is the inner one.
            Some(bound) => mine.filter(|one| one.meets(place)).any(|one| {
                let inner = if one.contains(place) { place } else { one };
                bound.paths.iter().any(|bound| bound.meets(inner))
            }),
        }
    }

    /// Whether it may be done to all of a place of the shared configuration, whatever will be in it.
    pub fn covers_place(&self, place: &Place) -> bool {
        self.places.iter().any(|mine| mine.covers_place(place))
            && self.bound.as_ref().is_none_or(|bound| bound.covers_place(place))
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
            within: Within::of(
                Some(apps.iter().map(|text| pattern(text)).collect()),
                Some(namespaces.iter().map(|text| pattern(text)).collect()),
                None,
            ),
        }
    }

    fn place(text: &str) -> Place {
        text.parse().expect("a place")
    }

    /// As it is written in a role.
    fn written(text: &str) -> Grant {
        serde_json::from_str(text).expect(text)
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
             config:read: admin\n\
             config:reveal: admin\n\
             config:write: admin\n\
             config:watch: admin\n\
             config:history: admin\n\
             config:grant: admin\n\
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
            paths: Vec::new(),
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
            paths: Vec::new(),
            ..Within::default()
        });
        assert!(!bounded.contains(&admin), "a bound is not shed");
        assert!(bounded.contains(&bounded));
        assert!(admin.contains(&bounded));
        assert!(bounded.contains(&shop));
    }

    #[test]
    fn who_limits_one_kind_gets_nothing_of_the_other() {
        let (root, shop) = (place("/"), place("/shop/"));
        for (text, apps, paths) in [
            (r#"{"verbs": ["*"]}"#, true, true),
            (
                r#"{"verbs": ["*"], "apps": ["*"], "namespaces": ["*"]}"#,
                true,
                true,
            ),
            (r#"{"verbs": ["*"], "apps": ["*"], "paths": ["/"]}"#, true, true),
            (
                r#"{"verbs": ["*"], "apps": ["shop"], "namespaces": ["*"]}"#,
                false,
                false,
            ),
            (r#"{"verbs": ["*"], "namespaces": ["live"]}"#, false, false),
            (
                r#"{"verbs": ["*"], "apps": ["shop"], "paths": ["/"]}"#,
                false,
                true,
            ),
            (r#"{"verbs": ["*"], "paths": ["/"]}"#, false, true),
            (
                r#"{"verbs": ["*"], "apps": ["*"], "paths": ["/shop/"]}"#,
                true,
                false,
            ),
            (r#"{"verbs": ["*"], "apps": ["*"], "paths": []}"#, true, false),
        ] {
            let grant = written(text);
            let held = held(std::slice::from_ref(&grant));
            assert_eq!(held.reach(Verb::AppsRead).covers("blog", "x"), apps, "{text}");
            assert_eq!(held.reach(Verb::ConfigRead).covers_place(&root), paths, "{text}");
            assert_eq!(
                held.reach(Verb::MachineControl).is_everywhere(),
                apps && paths,
                "{text}"
            );
            let again = serde_json::to_string(&grant).expect("JSON");
            assert_eq!(written(&again), grant, "{again}");
        }
        let only = held(&[written(r#"{"verbs": ["*"], "paths": ["/shop/"]}"#)]);
        assert!(only.reach(Verb::AppsRead).is_nowhere());
        assert!(only.reach(Verb::ConfigRead).covers_place(&shop));
        let app = held(&[written(r#"{"verbs": ["*"], "apps": ["shop"]}"#)]);
        assert!(app.reach(Verb::ConfigRead).is_nowhere());
        let before = r#"{"verbs":["apps:read"],"apps":["shop"],"namespaces":["*"]}"#;
        let same = serde_json::to_string(&written(before)).expect("JSON");
        assert_eq!(same, before, "older programs read what names no paths");
    }

    #[test]
    fn paths_hold_where_they_say_and_within_the_bound() {
        let mut held = held(&[
            written(r#"{"verbs": ["config:read"], "paths": ["/shop/", "/blog/url"]}"#),
            written(r#"{"verbs": ["config:write"], "paths": ["/shop/prod/"]}"#),
        ]);
        let may = |held: &Held, verb, path: &str| held.reach(verb).covers_path(&path.parse().expect(path));
        assert!(may(&held, Verb::ConfigRead, "/shop/prod/db"));
        assert!(may(&held, Verb::ConfigRead, "/blog/url"));
        assert!(!may(&held, Verb::ConfigRead, "/blog/url2"));
        assert!(!may(&held, Verb::ConfigRead, "/shopping"));
        assert!(may(&held, Verb::ConfigWrite, "/shop/prod/db"));
        assert!(!may(&held, Verb::ConfigWrite, "/shop/test/db"));
        assert!(!may(&held, Verb::ConfigReveal, "/shop/prod/db"));
        assert!(!held.reach(Verb::ConfigRead).covers_place(&Place::all()));
        held.bound = Some(Within::of(None, None, Some(vec![place("/shop/test/")])));
        assert!(may(&held, Verb::ConfigRead, "/shop/test/db"));
        assert!(!may(&held, Verb::ConfigRead, "/shop/prod/db"));
        assert!(!may(&held, Verb::ConfigWrite, "/shop/prod/db"));
        held.bound = Some(Within::of(Some(vec![pattern("shop")]), None, None));
        assert!(
            held.reach(Verb::ConfigRead).is_nowhere(),
            "a bound of apps gives no path"
        );
    }

    #[test]
    fn nobody_gives_away_paths_that_they_do_not_hold() {
        let give = |text: &str| held(&[written(text)]);
        let shop = give(r#"{"verbs": ["config:*"], "paths": ["/shop/"]}"#);
        let inner = give(r#"{"verbs": ["config:read"], "paths": ["/shop/prod/", "/shop/x"]}"#);
        let outer = give(r#"{"verbs": ["config:read"], "paths": ["/"]}"#);
        let beside = give(r#"{"verbs": ["config:read"], "paths": ["/shop/x", "/blog/"]}"#);
        let with_apps = give(r#"{"verbs": ["config:read"], "apps": ["*"], "paths": ["/shop/"]}"#);
        let [admin, operator, _] = built_in_roles().map(|(_, grants)| held(&grants));
        assert!(admin.contains(&shop) && admin.contains(&outer));
        assert!(!operator.contains(&inner), "operators hold no configuration");
        assert!(shop.contains(&inner) && shop.contains(&shop) && shop.contains(&with_apps));
        assert!(!shop.contains(&outer) && !shop.contains(&beside) && !inner.contains(&shop));
        let mut bounded = outer.clone();
        bounded.bound = Some(Within::of(None, None, Some(vec![place("/shop/")])));
        assert!(shop.contains(&bounded));
        assert!(!bounded.contains(&outer), "a bound is not shed");
        let mut narrow = shop.clone();
        narrow.bound = Some(Within::of(None, None, Some(vec![place("/shop/prod/")])));
        assert!(!narrow.contains(&shop) && !narrow.contains(&inner));
    }
}
