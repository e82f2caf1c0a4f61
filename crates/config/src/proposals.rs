//! Changes of protected places: proposed by one, approved by others.
//!
//! Where the rules want approvals, a change is kept as a proposal (`m/proposals/shop/`, a NUL and its id: below the
//! innermost place that holds all of it), its secrets sealed, and nothing else
//! happens. Somebody else who may write at all of its paths approves or refuses it. It is carried out in one transaction with
//! its own end, and only if nothing that it touches has changed since it was made.
//!
//! Who proposed cannot approve: principals are told apart by their names, and one person who holds two of them is not found
//! out. Who may say what holds for a place can lift its protection.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use upkeep_store::kv::{Done, Guard, KeyValue, Op, Range, Span, Txn};

use crate::{
    entry::{By, Changed, Difference, Proposal, Proposals, Shown},
    error::ConfigError,
    path::{Path, Place},
    record::{Content, Record},
    rights::{Asker, Verb},
    rules::Book,
    shared::{
        Attempt, Config, LISTED_BYTES, Leave, Order, Pages, RULES, Seen, Step, TRIES, current, damaged,
        gone_key, masked, stored, weight,
    },
};

const PROPOSALS: &str = "m/proposals";

/// More do not wait at a time.
pub const WAITING_MAX: usize = 1000;

/// More of one proposer do not.
pub const WAITING_OF_ONE: usize = 100;

/// Bytes of all that wait.
const WAITING_BYTES: usize = 64 << 20;
/// Bytes of those of one proposer.
const BYTES_OF_ONE: usize = 16 << 20;

/// The keys of the proposals that lie in a place.
pub(crate) fn span(place: &Place) -> Span {
    let start = format!("{PROPOSALS}{place}");
    Span::Prefix(if place.is_many() {
        start
    } else {
        format!("{start}\0")
    })
}

/// A proposal as the backend keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    who: String,
    at: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    approved_by: Vec<String>,
    steps: Vec<KeptStep>,
}

/// What a value is to become.
#[derive(Debug, Serialize, Deserialize)]
struct KeptStep {
    path: Path,
    /// The backend's revision of what was there; 0: nothing.
    base: u64,
    /// A record, base64.
    record: String,
}

impl KeptStep {
    fn content(&self, key: &str) -> Result<Content, ConfigError> {
        let bytes = STANDARD
            .decode(&self.record)
            .map_err(|error| damaged(key, error))?;
        let record = Record::from_bytes(&bytes).map_err(|why| damaged(key, why))?;
        Ok(record.content())
    }
}

/// What became of an approval.
#[derive(Clone, Debug, PartialEq)]
pub enum Approval {
    /// Others have to approve as well.
    Waits(Proposal),
    /// It was carried out.
    Done(Proposal, Changed),
}

/// A proposal in another store: what it was made on has other revisions there.
pub(crate) fn translated(
    entry: &KeyValue,
    revision_of: impl Fn(&Path, u64) -> u64,
) -> Result<Vec<u8>, ConfigError> {
    let (_, mut kept) = kept(entry)?;
    for step in kept.steps.iter_mut().filter(|step| step.base != 0) {
        step.base = revision_of(&step.path, step.base);
    }
    serde_json::to_vec(&kept).map_err(|error| damaged(&entry.key, error))
}

/// The values that a proposal is about.
pub(crate) fn paths(entry: &KeyValue) -> Result<Vec<Path>, ConfigError> {
    let (_, kept) = kept(entry)?;
    Ok(kept.steps.into_iter().map(|step| step.path).collect())
}

/// Whether a key is a proposal's.
pub(crate) fn is_one(key: &str) -> bool {
    key.strip_prefix(PROPOSALS)
        .is_some_and(|rest| rest.starts_with('/'))
}

impl Config {
    /// Keeps steps until others have approved them; nothing if the rules have changed meanwhile. Tells revision and id.
    pub(crate) async fn propose(
        &self,
        who: &str,
        why: Option<&str>,
        rules: u64,
        steps: Vec<Step>,
    ) -> Result<Option<(u64, String)>, ConfigError> {
        self.has_room(who).await?;
        let id = self.id()?;
        let home = Place::around(steps.iter().map(|step| step.path.as_str()));
        let key = format!("{PROPOSALS}{home}\0{id}");
        let at = (self.now)();
        let steps = steps.into_iter().map(|step| {
            let record = Record::new(step.content, who, at, why)
                .to_bytes()
                .map_err(|why| damaged(&key, why))?;
            Ok(KeptStep {
                path: step.path,
                base: step.seen.modified,
                record: STANDARD.encode(record),
            })
        });
        let kept = Kept {
            who: who.to_owned(),
            at,
            why: why.map(str::to_owned),
            approved_by: Vec::new(),
            steps: steps.collect::<Result<_, ConfigError>>()?,
        };
        let bytes = serde_json::to_vec(&kept).map_err(|error| damaged(&key, error))?;
        let most = self.backend().limits().value;
        if bytes.len() > most {
            return Err(ConfigError::Change(format!(
                "as a proposal it has {} bytes, and this store keeps {most} of one; propose it in parts",
                bytes.len()
            )));
        }
        let txn = Txn {
            guards: vec![Guard::absent(&key), Guard::unchanged(RULES, rules)],
            then: vec![Op::put(&key, bytes)],
            ..Txn::default()
        };
        let answered = self.write(txn).await?;
        if answered.succeeded {
            return Ok(Some((answered.revision + self.offset(), id)));
        }
        self.refresh().await?;
        Ok(None)
    }

    /// Refuses what would wait with too much else.
    async fn has_room(&self, who: &str) -> Result<(), ConfigError> {
        let (mut all, mut own) = ((0, 0), (0, 0));
        for place in self.scope() {
            let mut pages = Pages::new(self, span(place), None);
            loop {
                let page = pages.next().await?;
                if page.is_empty() {
                    break;
                }
                for entry in &page {
                    let bytes = entry.value.len();
                    all = (all.0 + 1, all.1 + bytes);
                    if kept(entry).is_ok_and(|(_, kept)| kept.who == who) {
                        own = (own.0 + 1, own.1 + bytes);
                    }
                }
            }
        }
        let full = |whose: String| Err(ConfigError::Change(format!("{whose} are waiting already")));
        if all.0 >= WAITING_MAX || all.1 >= WAITING_BYTES {
            return full(format!("{} proposals of {} bytes", all.0, all.1));
        }
        if own.0 >= WAITING_OF_ONE || own.1 >= BYTES_OF_ONE {
            return full(format!("{} proposals of `{who}` of {} bytes", own.0, own.1));
        }
        Ok(())
    }

    /// What waits, the oldest first, at most `limit`, behind an id: what the asker has proposed, and what lies where they may
    /// read or write all.
    pub async fn proposals(
        &self,
        asker: Asker<'_>,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Proposals, ConfigError> {
        let limit = limit.clamp(1, WAITING_MAX);
        // The rules tell how many have to approve.
        self.refresh().await?;
        let book = self.book().1;
        let mut waiting = self.waiting().await?;
        waiting.retain(|(id, _)| after.is_none_or(|after| id.as_str() > after));
        let (mut told, mut bytes) = (Proposals::default(), 0);
        for (id, key) in waiting {
            let ranged = self.backend().range(Range::one(key)).await?;
            // Approved or refused this moment.
            let Some(entry) = ranged.entries.first() else {
                continue;
            };
            let (_, kept) = kept(entry)?;
            if !may_know(asker, &kept) {
                continue;
            }
            let shown = self.shown(asker, &book, id, &kept).await?;
            bytes += shown
                .differences
                .iter()
                .map(|one| weight(one.before.as_ref()) + weight(one.after.as_ref()))
                .sum::<usize>();
            let is_first = told.proposals.is_empty();
            if told.proposals.len() == limit || (bytes > LISTED_BYTES && !is_first) {
                told.next = told.proposals.last().map(|last| last.id.clone());
                return Ok(told);
            }
            told.proposals.push(shown);
        }
        Ok(told)
    }

    /// Ids and keys of what waits, the oldest first, as far as this machine may look.
    async fn waiting(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let mut all = Vec::new();
        for place in self.scope() {
            let range = Range {
                keys_only: true,
                ..Range::new(span(place)).limit(WAITING_MAX)
            };
            let found = self.backend().range(range).await?.entries.into_iter();
            all.extend(
                found.filter_map(|entry| Some((entry.key.rsplit_once('\0')?.1.to_owned(), entry.key))),
            );
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// One proposal.
    pub async fn proposed(&self, asker: Asker<'_>, id: &str) -> Result<Proposal, ConfigError> {
        self.refresh().await?;
        let (_, kept) = self.proposal(asker, id).await?;
        self.shown(asker, &self.book().1, id.to_owned(), &kept).await
    }

    /// Approves a proposal, and carries it out if so many others have as the rules want.
    pub async fn approve(&self, asker: Asker<'_>, id: &str) -> Result<Approval, ConfigError> {
        for _ in 0..TRIES {
            // How many have to approve is counted by the rules that the transaction is guarded by.
            self.refresh().await?;
            let held = self.book();
            let (entry, mut kept) = self.proposal(asker, id).await?;
            for step in &kept.steps {
                asker.require(Verb::Write, &step.path)?;
            }
            if kept.who == asker.who {
                let why = format!(
                    "`{}` has proposed it, and somebody else has to approve it",
                    asker.who
                );
                return Err(ConfigError::Change(why));
            }
            if !kept.approved_by.iter().any(|who| who == asker.who) {
                kept.approved_by.push(asker.who.to_owned());
            }
            let shown = self.shown(asker, &held.1, id.to_owned(), &kept).await?;
            if kept.approved_by.len() < usize::from(shown.approvals) {
                let bytes = serde_json::to_vec(&kept).map_err(|error| damaged(&entry.key, error))?;
                let guards = vec![
                    Guard::unchanged(&entry.key, entry.modified),
                    Guard::unchanged(RULES, held.0),
                ];
                let answered = self
                    .write(Txn::only_if(guards, vec![Op::put(&entry.key, bytes)]))
                    .await?;
                if answered.succeeded {
                    return Ok(Approval::Waits(shown));
                }
                continue;
            }
            match self.carry_out_proposal(asker, held, &entry, &kept).await? {
                Attempt::Done(changed) => return Ok(Approval::Done(shown, changed)),
                Attempt::Again => {}
            }
        }
        Err(ConfigError::Change(
            "the rules or the proposal were changed by others again and again meanwhile".to_owned(),
        ))
    }

    /// Takes a proposal away: whoever made it, or whoever could approve it.
    pub async fn refuse(&self, asker: Asker<'_>, id: &str) -> Result<Proposal, ConfigError> {
        let (entry, kept) = self.proposal(asker, id).await?;
        if kept.who != asker.who {
            for step in &kept.steps {
                asker.require(Verb::Write, &step.path)?;
            }
        }
        self.refresh().await?;
        let shown = self.shown(asker, &self.book().1, id.to_owned(), &kept).await?;
        let guards = vec![Guard::unchanged(&entry.key, entry.modified)];
        let answered = self
            .write(Txn::only_if(guards, vec![Op::delete(&entry.key)]))
            .await?;
        if answered.succeeded {
            return Ok(shown);
        }
        Err(ConfigError::Change(
            "somebody approved or refused it at the same time".to_owned(),
        ))
    }

    async fn carry_out_proposal(
        &self,
        asker: Asker<'_>,
        held: (u64, Arc<Book>),
        entry: &KeyValue,
        kept: &Kept,
    ) -> Result<Attempt, ConfigError> {
        let mut steps = Vec::new();
        for step in &kept.steps {
            let (seen, now) = self.now_at(&step.path).await?;
            if seen.modified != step.base {
                return Err(ConfigError::Change(format!(
                    "`{}` was changed since this was proposed; it has to be proposed anew",
                    step.path
                )));
            }
            // Whom secrets are sealed for may have changed while it waited.
            let content = self.sealed_for_now(&step.path, step.content(&entry.key)?, &held.1)?;
            steps.push(Step {
                path: step.path.clone(),
                content,
                seen,
                before: now.and_then(|content| masked(&content)),
                clear: None,
                is_named: true,
            });
        }
        let approved = format!("approved by {}", kept.approved_by.join(", "));
        let why = match &kept.why {
            Some(why) => format!("{why} ({approved})"),
            None => approved,
        };
        // The history names who wanted it; that others have approved stands in the reason.
        let proposer = Asker {
            who: &kept.who,
            rights: asker.rights,
        };
        let order = Order {
            why: Some(&why),
            leave: Leave::Given {
                key: entry.key.clone(),
                modified: entry.modified,
            },
            ..Order::of(proposer, held)
        };
        self.carry_out(order, steps).await
    }

    /// What is there now.
    async fn now_at(&self, path: &Path) -> Result<(Seen, Option<Content>), ConfigError> {
        let ops = vec![Op::get(current(path)), Op::get(gone_key(path))];
        let answered = self.backend().txn(Txn::always(ops)).await?;
        let got = |at: usize| match answered.results.get(at) {
            Some(Done::Got(got)) => got.entries.first(),
            _ => None,
        };
        let now = got(0).map(stored).transpose()?;
        let seen = Seen {
            at: answered.revision,
            modified: now.as_ref().map_or(0, |stored| stored.modified),
            gone: got(1).map_or(0, |entry| entry.modified),
        };
        Ok((seen, now.map(|stored| stored.record.content())))
    }

    async fn proposal(&self, asker: Asker<'_>, id: &str) -> Result<(KeyValue, Kept), ConfigError> {
        let none = || ConfigError::NoProposal(id.escape_debug().take(40).collect());
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(none());
        }
        let waiting = self.waiting().await?;
        let (_, key) = waiting
            .into_iter()
            .find(|(known, _)| known == id)
            .ok_or_else(none)?;
        let ranged = self.backend().range(Range::one(key)).await?;
        let entry = ranged.entries.into_iter().next().ok_or_else(none)?;
        let (_, kept) = kept(&entry)?;
        if may_know(asker, &kept) {
            Ok((entry, kept))
        } else {
            Err(none())
        }
    }

    async fn shown(
        &self,
        asker: Asker<'_>,
        book: &Book,
        id: String,
        kept: &Kept,
    ) -> Result<Proposal, ConfigError> {
        let approvals = kept
            .steps
            .iter()
            .map(|step| book.approvals(&step.path))
            .max()
            .unwrap_or(0);
        let mut differences = Vec::new();
        for step in &kept.steps {
            let hides = !asker.may(Verb::Read, &step.path);
            let shown =
                |content: &Content| masked(content).map(|shown| if hides { Shown::Hidden } else { shown });
            differences.push(Difference {
                path: step.path.clone(),
                before: self
                    .now_at(&step.path)
                    .await?
                    .1
                    .and_then(|content| shown(&content)),
                after: shown(&step.content(&id)?),
            });
        }
        Ok(Proposal {
            id,
            by: By {
                who: kept.who.clone(),
                at: kept.at,
                why: kept.why.clone(),
            },
            approved_by: kept.approved_by.clone(),
            // Also where the protection was lifted meanwhile, somebody else has to look at it.
            approvals: approvals.max(1),
            differences,
        })
    }
}

/// The proposer, and whoever may read or write all of it.
fn may_know(asker: Asker<'_>, kept: &Kept) -> bool {
    let all = |verb| kept.steps.iter().all(|step| asker.may(verb, &step.path));
    kept.who == asker.who || all(Verb::Write) || all(Verb::Read)
}

fn kept(entry: &KeyValue) -> Result<(String, Kept), ConfigError> {
    let (_, id) = entry
        .key
        .rsplit_once('\0')
        .ok_or_else(|| damaged(&entry.key, "its name has no id"))?;
    let id = id.to_owned();
    let kept = serde_json::from_slice(&entry.value).map_err(|error| damaged(&entry.key, error))?;
    Ok((id, kept))
}
