//! Who may do what: roles, who holds them, and tokens, kept in the store under `/access`.
//!
//! A caller becomes a [`Principal`] in one of three ways: by the user that the kernel names on the unix socket, by a
//! token, or by a client certificate. [`Access::of_uid`], [`Access::of_token`] and [`Access::of_certificate`] tell what
//! that principal holds ([`Known`]); from there on only a [`Permit`] counts, which is one principal, one verb and
//! where that verb reaches. The owner of the daemon and root hold everything and cannot lose it.
//!
//! A token is `upk_ID_SECRET`. The secret has 256 random bits; what is kept is its SHA-256, which is enough for a
//! secret that nobody can guess. It is shown once.
//!
//! All of it is one record, so that a change is whole or not at all, and is committed together with its event. The
//! store is written under a lock that is held over the commit: changes are rare.

mod failures;
mod sums;
mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, RwLock},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use upkeep_api::{
    access::{
        Change, Changed, RoleList, RolePut, RoleView, TokenCreated, TokenList, TokenPost, TokenView, WhoAmI,
    },
    error::Code,
};
use upkeep_model::{
    access::{Grant, Held, Reach, Verb, Within, built_in_roles},
    id::AppName,
    place::{Path, Place},
};
use upkeep_store::{Condition, Store, StoreError, Txn};

pub(crate) use self::{
    failures::{Failures, MOST as FAILURES_MOST},
    sums::{Sum, Sums},
};
use crate::{
    apps::{director::machine_event, directory::AppEntry},
    command::Refusal,
    events::{self, Events},
    main_loop::note,
};

/// Where it is in the store.
const KEY: &str = "/access";
/// Format of the record.
const VERSION: u32 = 1;
/// So many tokens, and so many roles.
const TOKENS_MAX: usize = 1000;
/// Longest name of a token or a role, in bytes.
const NAME_MAX: usize = 60;
/// The use of a token is written down this often at most, seconds.
const USE_EVERY: f64 = 3600.0;

/// On whose behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// As events show it: `uid:1000`, `token:ci`, `cert:laptop`, `upkeep`.
    pub(crate) name: String,
}

/// Proof that a principal may do what one verb says, and where. Only this module makes it.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    principal: Principal,
    verb: Verb,
    reach: Reach,
}

impl Permit {
    /// For what the daemon does of its own, or a signal asks it to do.
    pub(crate) fn own(name: &str) -> Self {
        Self {
            principal: Principal {
                name: name.to_owned(),
            },
            verb: Verb::AppsWrite,
            reach: Reach::everywhere(),
        }
    }

    /// Who it is.
    pub(crate) fn who(&self) -> &Principal {
        &self.principal
    }

    /// Whether it reaches one app.
    pub(crate) fn covers(&self, app: &AppName, namespace: &str) -> bool {
        self.reach.covers(app.as_str(), namespace)
    }

    /// Whether it reaches the machine as a whole.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.reach.is_everywhere()
    }

    /// Refuses who may do this to some apps only.
    pub(crate) fn require_everywhere(&self) -> Result<(), Refusal> {
        if self.is_everywhere() {
            return Ok(());
        }
        Err(self.refusal("the machine as a whole"))
    }

    /// Refuses what it does not reach.
    pub(crate) fn require(&self, app: &AppName, namespace: &str) -> Result<(), Refusal> {
        if self.covers(app, namespace) {
            return Ok(());
        }
        Err(self.refusal(&format!("`{app}` in the namespace `{namespace}`")))
    }

    fn refusal(&self, what: &str) -> Refusal {
        Refusal::new(
            Code::Forbidden,
            format!(
                "refused: `{}` does not hold `{}` for {what}",
                self.principal.name, self.verb
            ),
        )
        .hint("`upkeep whoami` tells what is held; an admin can grant more")
    }

    /// Whether it reaches one value of the shared configuration.
    pub(crate) fn covers_path(&self, path: &Path) -> bool {
        self.reach.covers_path(path)
    }

    /// Whether it reaches all of a place of the shared configuration.
    pub(crate) fn covers_place(&self, place: &Place) -> bool {
        self.reach.covers_place(place)
    }

    /// Whether it reaches anything of a place of the shared configuration.
    pub(crate) fn meets_place(&self, place: &Place) -> bool {
        self.reach.meets_place(place)
    }

    /// What it reaches of all there is.
    pub(crate) fn visible(&self, apps: &BTreeMap<AppName, AppEntry>) -> BTreeMap<AppName, AppEntry> {
        apps.iter()
            .filter(|(name, entry)| self.covers(name, &entry.record.spec.namespace))
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect()
    }
}

/// A principal with what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    principal: Principal,
    roles: Vec<String>,
    held: Held,
    expires_at: Option<f64>,
    /// The user that the daemon runs as, or root.
    is_owner: bool,
}

impl Known {
    /// Whether it is the user that the daemon runs as, or root.
    pub(crate) fn is_owner(&self) -> bool {
        self.is_owner
    }

    /// Whether it may do all that there is. Then it runs programs of its choice as the daemon's own user, and what it could
    /// make of itself that way is not worth refusing.
    pub(crate) fn may_all(&self) -> bool {
        self.held.contains(&Held::all())
    }

    /// Whether it ends by itself.
    pub(crate) fn ends(&self) -> bool {
        self.expires_at.is_some()
    }

    /// Whether another look found the same rights.
    pub(crate) fn holds_the_same(&self, other: &Self) -> bool {
        self.principal == other.principal && self.held == other.held
    }

    /// Who it is.
    pub(crate) fn who(&self) -> &Principal {
        &self.principal
    }

    /// The proof for one verb. What is about the machine takes a reach everywhere.
    pub(crate) fn permit(&self, verb: Verb) -> Result<Permit, Refusal> {
        let reach = self.held.reach(verb);
        let permit = Permit {
            principal: self.principal.clone(),
            verb,
            reach,
        };
        let is_enough = match verb {
            Verb::SelfRead => true,
            // Of which apps or paths is asked where they are known.
            verb if verb.is_of_apps() || verb.is_of_config() => !permit.reach.is_nowhere(),
            _ => permit.is_everywhere(),
        };
        if is_enough {
            return Ok(permit);
        }
        Err(Refusal::new(
            Code::Forbidden,
            format!("refused: `{}` does not hold `{verb}`", self.principal.name),
        )
        .hint("`upkeep whoami` tells what is held; an admin can grant more"))
    }

    /// What the caller is told of itself.
    pub(crate) fn view(&self) -> WhoAmI {
        WhoAmI {
            principal: self.principal.name.clone(),
            roles: self.roles.clone(),
            grants: self.held.grants.clone(),
            bound: self.held.bound.clone(),
            expires_at: self.expires_at,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Roles that were made here.
    #[serde(default)]
    roles: BTreeMap<String, Vec<Grant>>,
    /// Principals (`uid:1000`, `cert:laptop`) with their roles.
    #[serde(default)]
    members: BTreeMap<String, BTreeSet<String>>,
    /// By id.
    #[serde(default)]
    tokens: BTreeMap<String, Token>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    name: String,
    /// SHA-256 of the secret, in hexadecimal.
    hash: String,
    roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound: Option<Within>,
    created_at: f64,
    created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_at: Option<f64>,
}

impl Token {
    fn is_expired(&self, now: f64) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    fn view(&self, id: &str, now: f64) -> TokenView {
        TokenView {
            id: id.to_owned(),
            name: self.name.clone(),
            roles: self.roles.clone(),
            bound: self.bound.clone(),
            created_at: self.created_at,
            created_by: self.created_by.clone(),
            expires_at: self.expires_at,
            expired: self.is_expired(now),
            last_used_at: self.last_used_at,
        }
    }
}

impl Record {
    fn grants(&self, role: &str) -> Option<Vec<Grant>> {
        let built_in = built_in_roles().into_iter().find(|(name, _)| *name == role);
        built_in
            .map(|(_, grants)| grants)
            .or_else(|| self.roles.get(role).cloned())
    }

    /// What roles give. A role that is gone gives nothing.
    fn held(&self, roles: impl IntoIterator<Item = impl AsRef<str>>, bound: Option<Within>) -> Held {
        Held {
            grants: roles
                .into_iter()
                .flat_map(|role| self.grants(role.as_ref()).unwrap_or_default())
                .collect(),
            bound,
        }
    }
}

/// Owns who may do what.
#[derive(Debug)]
pub(crate) struct Access {
    events: Events,
    /// The user that the daemon runs as.
    owner: u32,
    /// What holds, with its revision in the store.
    current: Arc<RwLock<(Record, u64)>>,
    /// Held while a change is under way.
    changing: tokio::sync::Mutex<()>,
    /// When tokens were used since this daemon began.
    used: Mutex<BTreeMap<String, f64>>,
    store: Arc<dyn Store>,
    /// Revision of what holds.
    changed: watch::Sender<u64>,
}

impl Access {
    /// Reads it from the store. A record that this program cannot read gives nothing to anybody but the owner.
    pub(crate) fn load(store: Arc<dyn Store>, events: Events) -> Result<Arc<Self>, StoreError> {
        let (record, revision) = match store.get(KEY)? {
            None => (Record::default(), 0),
            Some(entry) => match serde_json::from_slice::<Record>(&entry.value) {
                Ok(record) if record.version == VERSION => (record, entry.revision),
                Ok(Record { version, .. }) => {
                    note(&format!(
                        "tokens and roles in the store have version {version}, this program reads {VERSION}: only the owner is let in"
                    ));
                    (Record::default(), entry.revision)
                }
                Err(error) => {
                    note(&format!(
                        "tokens and roles in the store cannot be read ({error}): only the owner is let in"
                    ));
                    (Record::default(), entry.revision)
                }
            },
        };
        Ok(Arc::new(Self {
            events,
            owner: upkeep_host::home::uid(),
            current: Arc::new(RwLock::new((record, revision))),
            changing: tokio::sync::Mutex::new(()),
            used: Mutex::default(),
            store,
            changed: watch::channel(revision).0,
        }))
    }

    fn read<T>(&self, look: impl FnOnce(&Record, u64) -> T) -> T {
        let current = self
            .current
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        look(&current.0, current.1)
    }

    /// Every change from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Who has local users besides the owner as members: then the socket must let them in.
    pub(crate) fn lets_others_in(&self) -> bool {
        self.read(|record, _| record.members.keys().any(|member| member.starts_with("uid:")))
    }

    fn member(&self, name: String) -> Known {
        self.read(|record, _| {
            let roles: Vec<String> = record.members.get(&name).into_iter().flatten().cloned().collect();
            Known {
                held: record.held(&roles, None),
                principal: Principal { name },
                roles,
                expires_at: None,
                is_owner: false,
            }
        })
    }

    /// Whether a local user is root or the one that the daemon runs as.
    pub(crate) fn is_owner(&self, uid: u32) -> bool {
        uid == 0 || uid == self.owner
    }

    /// A local user. The owner and root hold everything.
    pub(crate) fn of_uid(&self, uid: u32) -> Known {
        let name = format!("uid:{uid}");
        if self.is_owner(uid) {
            return Known {
                principal: Principal { name },
                roles: vec!["admin".to_owned()],
                held: Held::all(),
                expires_at: None,
                is_owner: true,
            };
        }
        self.member(name)
    }

    /// Whoever has a certificate of our own authority for this name. `until`: when that ends, Unix seconds.
    pub(crate) fn of_certificate(&self, common_name: &str, until: f64) -> Known {
        Known {
            expires_at: Some(until),
            ..self.member(format!("cert:{common_name}"))
        }
    }

    /// Whether a caller may have a certificate made for this name, with one more role if it is to be given: nobody
    /// becomes somebody who holds more.
    pub(crate) fn may_be_certified(
        &self,
        name: &str,
        role: Option<&str>,
        caller: &Known,
    ) -> Result<(), Refusal> {
        check_name("a certificate", name)?;
        let mut held = self.member(format!("cert:{name}")).held;
        if let Some(role) = role {
            held.grants
                .extend(self.read(|record, _| known_role(record, role))?);
        }
        may_give(caller, &held, &format!("a certificate for `{name}`"))
    }

    /// The holder of a token; `None`: there is no such token, or it has ended.
    pub(crate) fn of_token(&self, text: &str) -> Option<Known> {
        let (id, secret) = token::split(text)?;
        let now = events::now();
        let known = self.read(|record, _| {
            let token = record.tokens.get(id)?;
            if !token::is_right(secret, &token.hash) || token.is_expired(now) {
                return None;
            }
            Some(Known {
                principal: Principal {
                    name: format!("token:{}", token.name),
                },
                held: record.held(&token.roles, token.bound.clone()),
                roles: token.roles.clone(),
                expires_at: token.expires_at,
                is_owner: false,
            })
        })?;
        self.used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(id.to_owned(), now);
        Some(known)
    }

    /// Every token, by name.
    pub(crate) fn tokens(&self) -> TokenList {
        let now = events::now();
        let used = self
            .used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut tokens: Vec<TokenView> = self.read(|record, _| {
            record
                .tokens
                .iter()
                .map(|(id, token)| TokenView {
                    last_used_at: used.get(id).copied().or(token.last_used_at),
                    ..token.view(id, now)
                })
                .collect()
        });
        tokens.sort_by(|one, other| one.name.cmp(&other.name));
        TokenList { tokens }
    }

    /// Every role, by name.
    pub(crate) fn roles(&self) -> RoleList {
        self.read(|record, revision| {
            let built_in = built_in_roles()
                .into_iter()
                .map(|(name, grants)| (name.to_owned(), grants, true));
            let own = record
                .roles
                .iter()
                .map(|(name, grants)| (name.clone(), grants.clone(), false));
            let mut roles: Vec<RoleView> = built_in
                .chain(own)
                .map(|(name, grants, built_in)| RoleView {
                    members: record
                        .members
                        .iter()
                        .filter(|(_, roles)| roles.contains(&name))
                        .map(|(member, _)| member.clone())
                        .collect(),
                    name,
                    grants,
                    built_in,
                })
                .collect();
            roles.sort_by(|one, other| one.name.cmp(&other.name));
            RoleList { roles, revision }
        })
    }

    /// Makes a token.
    pub(crate) async fn create_token(
        &self,
        post: TokenPost,
        caller: &Known,
    ) -> Result<TokenCreated, Refusal> {
        check_name("a token", &post.name)?;
        let now = events::now();
        if let Some(end) = post.expires_at
            && !(end.is_finite() && end > now && end < 1e11)
        {
            return Err(Refusal::new(
                Code::Invalid,
                format!(
                    "failed to make the token `{}`: it would end at {end}, which is not ahead",
                    post.name
                ),
            )
            .hint("`expires_at` is in Unix seconds"));
        }
        if post.roles.is_empty() {
            return Err(Refusal::new(
                Code::Invalid,
                format!(
                    "failed to make the token `{}`: without a role it could do nothing",
                    post.name
                ),
            )
            .hint("`viewer`, `operator` and `admin` are always there"));
        }
        outlives(caller, post.expires_at, &format!("the token `{}`", post.name))?;
        let made = token::make().map_err(|error| Refusal::new(Code::Internal, error))?;
        let _changing = self.changing.lock().await;
        let (mut record, revision) = self.read(|record, revision| (record.clone(), revision));
        for role in &post.roles {
            known_role(&record, role)?;
        }
        if record.tokens.values().any(|token| token.name == post.name) {
            return Err(Refusal::new(
                Code::Conflict,
                format!(
                    "failed to make the token `{}`: there is one of that name",
                    post.name
                ),
            )
            .hint(format!("`upkeep token revoke {}` ends it", post.name)));
        }
        if record.tokens.len() >= TOKENS_MAX {
            return Err(Refusal::new(
                Code::Invalid,
                format!("failed to make the token `{}`: there are {TOKENS_MAX}", post.name),
            )
            .hint("revoke some"));
        }
        let held = record.held(&post.roles, post.bound.clone());
        may_give(caller, &held, &format!("the token `{}`", post.name))?;
        let token = Token {
            name: post.name.clone(),
            hash: made.hash,
            roles: post.roles,
            bound: post.bound,
            created_at: now,
            created_by: caller.principal.name.clone(),
            expires_at: post.expires_at,
            last_used_at: None,
        };
        let view = token.view(&made.id, now);
        if post.dry_run {
            return Ok(TokenCreated {
                secret: None,
                token: view,
            });
        }
        let result = format!("{} ({})", post.name, token.roles.join(", "));
        record.tokens.insert(made.id, token);
        self.commit(record, revision, ("token_created", &result, post.reason), caller)
            .await?;
        Ok(TokenCreated {
            secret: Some(made.text),
            token: view,
        })
    }

    /// Ends a token, by id or name.
    pub(crate) async fn revoke_token(
        &self,
        which: &str,
        change: Change,
        caller: &Known,
    ) -> Result<Changed, Refusal> {
        let _changing = self.changing.lock().await;
        let (mut record, revision) = self.read(|record, revision| (record.clone(), revision));
        let id = record
            .tokens
            .iter()
            .find(|(id, token)| *id == which || token.name == which)
            .map(|(id, _)| id.clone())
            .ok_or_else(|| unknown("token", which))?;
        let token = record.tokens.remove(&id).ok_or_else(|| unknown("token", which))?;
        may_give(
            caller,
            &record.held(&token.roles, token.bound.clone()),
            &format!("the token `{}`", token.name),
        )?;
        self.change(record, revision, ("token_revoked", token.name), change, caller)
            .await
    }

    /// Makes or replaces a role.
    pub(crate) async fn put_role(
        &self,
        name: &str,
        put: RolePut,
        caller: &Known,
    ) -> Result<Changed, Refusal> {
        check_name("a role", name)?;
        let _changing = self.changing.lock().await;
        let (mut record, revision) = self.read(|record, revision| (record.clone(), revision));
        not_built_in(name)?;
        if put.if_revision.is_some_and(|seen| seen != revision) {
            let text = format!(
                "refused to change the role `{name}`: tokens, roles or members were changed meanwhile"
            );
            return Err(Refusal::new(Code::Conflict, text).hint("look at it, and try again"));
        }
        if let Some(empty) = put.grants.iter().find(|grant| grant.is_empty()) {
            return Err(Refusal::new(
                Code::Invalid,
                format!("failed to accept the role `{name}`: a grant gives nothing"),
            )
            .hint(if empty.verbs.is_empty() {
                "`verbs` is empty"
            } else {
                "`apps`, `namespaces` and `paths` are absent (for all) or name some"
            }));
        }
        let give = |grants: &[Grant]| Held {
            grants: grants.to_vec(),
            bound: None,
        };
        may_give(caller, &give(&put.grants), &format!("the role `{name}`"))?;
        let before = record.roles.get(name);
        if let Some(before) = before {
            may_give(caller, &give(before), &format!("the role `{name}` as it is"))?;
            if *before == put.grants {
                return Ok(unchanged(revision));
            }
        }
        // Whoever ends may take away, and gives nothing that stays.
        if !caller.may_all() && !before.is_some_and(|before| give(before).contains(&give(&put.grants))) {
            outlives(caller, None, &format!("the role `{name}`"))?;
        }
        if record.roles.len() >= TOKENS_MAX {
            return Err(Refusal::new(
                Code::Invalid,
                format!("failed to accept the role `{name}`: there are {TOKENS_MAX}"),
            ));
        }
        record.roles.insert(name.to_owned(), put.grants);
        let change = Change {
            reason: put.reason,
            dry_run: put.dry_run,
        };
        self.change(
            record,
            revision,
            ("role_changed", name.to_owned()),
            change,
            caller,
        )
        .await
    }

    /// Forgets a role that nobody holds.
    pub(crate) async fn delete_role(
        &self,
        name: &str,
        change: Change,
        caller: &Known,
    ) -> Result<Changed, Refusal> {
        let _changing = self.changing.lock().await;
        let (mut record, revision) = self.read(|record, revision| (record.clone(), revision));
        not_built_in(name)?;
        let grants = record.roles.remove(name).ok_or_else(|| unknown("role", name))?;
        may_give(
            caller,
            &Held { grants, bound: None },
            &format!("the role `{name}`"),
        )?;
        let members = record
            .members
            .iter()
            .filter(|(_, roles)| roles.contains(name))
            .map(|(member, _)| member.clone());
        let tokens = record
            .tokens
            .values()
            .filter(|token| token.roles.iter().any(|role| role == name))
            .map(|token| format!("token:{}", token.name));
        let holders: Vec<String> = members.chain(tokens).collect();
        if !holders.is_empty() {
            return Err(Refusal::new(
                Code::Conflict,
                format!(
                    "refused to forget the role `{name}`: {} hold it",
                    holders.join(", ")
                ),
            )
            .hint("take it from them first"));
        }
        self.change(
            record,
            revision,
            ("role_deleted", name.to_owned()),
            change,
            caller,
        )
        .await
    }

    /// Gives a role to a principal, or takes it away.
    pub(crate) async fn put_member(
        &self,
        (role, member): (&str, &str),
        wanted: bool,
        change: Change,
        caller: &Known,
    ) -> Result<Changed, Refusal> {
        let member = principal(member)?;
        let _changing = self.changing.lock().await;
        let (mut record, revision) = self.read(|record, revision| (record.clone(), revision));
        let grants = known_role(&record, role)?;
        may_give(
            caller,
            &Held { grants, bound: None },
            &format!("the role `{role}`"),
        )?;
        if wanted && !caller.may_all() {
            outlives(caller, None, &format!("that `{member}` holds the role `{role}`"))?;
        }
        let roles = record.members.entry(member.clone()).or_default();
        let changed = if wanted {
            roles.insert(role.to_owned())
        } else {
            roles.remove(role)
        };
        record.members.retain(|_, roles| !roles.is_empty());
        if !changed {
            return Ok(unchanged(revision));
        }
        let what = if wanted { "role_granted" } else { "role_taken" };
        self.change(
            record,
            revision,
            (what, format!("{role}: {member}")),
            change,
            caller,
        )
        .await
    }

    /// Puts into a record when its tokens were used; whether that changes it.
    fn add_uses(&self, record: &mut Record) -> bool {
        let used = self
            .used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut changed = false;
        for (id, token) in &mut record.tokens {
            let seen = used.get(id).copied();
            if let Some(at) = seen.filter(|at| {
                token
                    .last_used_at
                    .is_none_or(|last| (at - last).abs() > USE_EVERY)
            }) {
                token.last_used_at = Some(at);
                changed = true;
            }
        }
        changed
    }

    /// Writes down now and then when tokens were used. Never ends.
    pub(crate) async fn write_uses(&self) {
        loop {
            tokio::time::sleep(std::time::Duration::from_mins(10)).await;
            let _changing = self.changing.lock().await;
            let (mut record, revision) = self.read(|record, revision| (record.clone(), revision));
            if !self.add_uses(&mut record) {
                continue;
            }
            let Ok(bytes) = serde_json::to_vec(&record) else {
                continue;
            };
            let txn = Txn {
                conditions: vec![Condition {
                    key: KEY.to_owned(),
                    revision,
                }],
                puts: vec![(KEY.to_owned(), bytes)],
                ..Txn::default()
            };
            let current = Arc::clone(&self.current);
            let (sender, receiver) = oneshot::channel();
            let done = move |result: Result<upkeep_store::Committed, StoreError>| {
                if let Ok(committed) = result {
                    *current.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        (record, committed.revision);
                }
                // On a full disk it is tried again later; the receiver waits below.
                let _ = sender.send(());
            };
            self.store.submit(txn, Box::new(done));
            let _ = receiver.await;
        }
    }

    async fn change(
        &self,
        record: Record,
        revision: u64,
        (what, result): (&str, String),
        change: Change,
        caller: &Known,
    ) -> Result<Changed, Refusal> {
        let changes = vec![format!("{what}: {result}")];
        if change.dry_run {
            return Ok(Changed {
                changes,
                ..unchanged(revision)
            });
        }
        let (revision, event) = self
            .commit(record, revision, (what, &result, change.reason), caller)
            .await?;
        Ok(Changed {
            changes,
            revision,
            event: Some(event),
        })
    }

    /// Writes the record with its event, and lets it hold. Under `changing`.
    async fn commit(
        &self,
        mut record: Record,
        revision: u64,
        (what, result, reason): (&str, &str, Option<String>),
        caller: &Known,
    ) -> Result<(u64, u64), Refusal> {
        record.version = VERSION;
        self.add_uses(&mut record);
        let bytes = serde_json::to_vec(&record).map_err(|error| {
            Refusal::new(Code::Internal, "failed to encode tokens and roles").because(&error)
        })?;
        let txn = Txn {
            conditions: vec![Condition {
                key: KEY.to_owned(),
                revision,
            }],
            puts: vec![(KEY.to_owned(), bytes)],
            ..Txn::default()
        };
        let event = machine_event(&caller.principal, what, reason.as_deref(), result);
        let (current, changed) = (Arc::clone(&self.current), self.changed.clone());
        let stored = move |revision| {
            *current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = (record, revision);
            changed.send_replace(revision);
        };
        Ok(self.events.commit_then(txn, event, stored).await?)
    }
}

const fn unchanged(revision: u64) -> Changed {
    Changed {
        changes: Vec::new(),
        revision,
        event: None,
    }
}

fn unknown(what: &str, name: &str) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("there is no {what} `{}`", name.escape_debug()),
    )
    .hint(format!("`upkeep {what} ls` lists them"))
}

fn known_role(record: &Record, name: &str) -> Result<Vec<Grant>, Refusal> {
    record.grants(name).ok_or_else(|| {
        let mut refusal = unknown("role", name);
        refusal.code = Code::Invalid;
        refusal
    })
}

fn not_built_in(name: &str) -> Result<(), Refusal> {
    if built_in_roles().iter().all(|(built_in, _)| *built_in != name) {
        return Ok(());
    }
    Err(
        Refusal::new(Code::Conflict, format!("refused: the role `{name}` is built in"))
            .hint("make a role of another name"),
    )
}

/// Nobody gives away, or takes away, what they do not hold.
fn may_give(caller: &Known, held: &Held, what: &str) -> Result<(), Refusal> {
    if caller.held.contains(held) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::Forbidden,
        format!(
            "refused: {what} gives more than `{}` holds",
            caller.principal.name
        ),
    )
    .hint("`upkeep whoami` tells what is held"))
}

/// What a caller makes that ends ends with the caller at the latest.
fn outlives(caller: &Known, end: Option<f64>, what: &str) -> Result<(), Refusal> {
    match caller.expires_at {
        Some(last) if end.is_none_or(|end| end > last) => Err(Refusal::new(
            Code::Forbidden,
            format!(
                "refused: {what} would last longer than `{}` itself",
                caller.principal.name
            ),
        )
        .hint(match end {
            Some(_) => format!("`expires_at` may be {last} at most"),
            None => "what has no end is made by somebody who does not end".to_owned(),
        })),
        _ => Ok(()),
    }
}

/// When a certificate ends that a caller has made: with the caller at the latest. `is_asked`: its end was asked for, and
/// is not moved in silence. Unix seconds.
pub(crate) fn within(caller: &Known, end: i64, is_asked: bool, what: &str) -> Result<i64, Refusal> {
    match outlives(caller, Some(end as f64), what) {
        Ok(()) => Ok(end),
        Err(refusal) if is_asked => {
            Err(refusal.hint("fewer `days`, or none: then it ends with whoever makes it"))
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`as` saturates, and that is meant"
        )]
        Err(_) => Ok(caller.expires_at.map_or(end, |last| last as i64)),
    }
}

fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(is_plain)
        && !name.starts_with(['-', '.'])
    {
        return Ok(());
    }
    Err(Refusal::new(
        Code::Invalid,
        format!("`{}` cannot be the name of {what}", name.escape_debug()),
    )
    .hint(format!(
        "1 to {NAME_MAX} letters, digits, `-`, `_` and `.`; not `-` or `.` at its start"
    )))
}

/// `uid:1000`, `user:alice` (which becomes a number) or `cert:laptop`.
fn principal(text: &str) -> Result<String, Refusal> {
    let wrong = |why: String| {
        Refusal::new(
            Code::Invalid,
            format!("`{}` is nobody who can hold a role: {why}", text.escape_debug()),
        )
        .hint("write `user:NAME`, `uid:NUMBER` or `cert:NAME`; tokens get their roles when they are made")
    };
    match text.split_once(':') {
        Some(("uid", number)) => number
            .parse::<u32>()
            .map(|uid| format!("uid:{uid}"))
            .map_err(|_| wrong("that is no number of a user".to_owned())),
        Some(("user", name)) => upkeep_sys::user::user(name)
            .map(|user| format!("uid:{}", user.uid))
            .map_err(|error| wrong(error.to_string())),
        Some(("cert", name)) => {
            check_name("a certificate", name)?;
            Ok(text.to_owned())
        }
        _ => Err(wrong("its kind is not known".to_owned())),
    }
}
