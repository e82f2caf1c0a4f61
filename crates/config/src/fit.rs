//! Whether the values of a place fit its schema.
//!
//! What is judged is the object that the values make, by segments: `/shop/db/url` is `{"db": {"url": …}}` below `/shop/`. A
//! place without values fits: it is not used yet, or not any more. Secrets are known to be there; their content is judged when
//! it is set, and taken for fitting otherwise. Of what is no text, the schema sees the base64 of its bytes. Complaints repeat nothing of secrets, nor of what the asker may not read.
//!
//! Two changes that fit each by itself could break a place together. So each change of a place with a schema writes the place's
//! own key (`m/fit/shop/`), guarded by the revision at which the place was judged: the second is judged again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value as Json};
use upkeep_schema::{Judge, Way, complaints, escape};
use upkeep_store::kv::{Guard, Range, Span};

use crate::{
    error::ConfigError,
    path::{Path, Place},
    record::{Content, Record},
    rights::{Asker, Verb},
    rules::Book,
    shared::{Config, Pages, Step, damaged, path_of, within},
    value::Value,
};

/// Work that takes long.
pub type Job = Box<dyn FnOnce() + Send>;

/// Has work done elsewhere, and answers when it is done.
pub type Blocking = Arc<dyn Fn(Job) -> BoxFuture<'static, ()> + Send + Sync>;

/// The most values of a place that are judged.
const JUDGED: usize = 10_000;
/// And their bytes.
const JUDGED_BYTES: usize = 16 << 20;

/// The largest schema, bytes of JSON: all rules are one document.
const SCHEMA_MAX: usize = 64 << 10;

/// A value as a schema sees it. What is no text is the text that its bytes make in base64.
fn judged(value: &Value) -> Json {
    value
        .to_json()
        .unwrap_or_else(|| STANDARD.encode(&value.bytes).into())
}

/// What every change of a place with a schema writes.
fn guard_key(place: &Place) -> String {
    format!("m/fit{place}")
}

/// The keys of all places in a place.
pub(crate) fn span(place: &Place) -> Span {
    let key = guard_key(place);
    if place.is_many() {
        Span::Prefix(key)
    } else {
        Span::One(key)
    }
}

/// What is known of one value.
struct Leaf {
    /// Its content, if that is known.
    known: Option<Json>,
    /// No complaint may repeat it.
    hidden: bool,
}

impl Leaf {
    fn of(content: &Content, hidden: bool) -> Option<Self> {
        match content {
            Content::Deleted => None,
            Content::Plain(value) => Some(Self {
                known: Some(judged(value)),
                hidden,
            }),
            Content::Secret(..) => Some(Self {
                known: None,
                hidden: true,
            }),
        }
    }

    /// What a step leaves.
    fn after(step: &Step, asker: Asker<'_>) -> Option<Self> {
        let leaf = Self::of(&step.content, !asker.may(Verb::Read, &step.path))?;
        Some(match &step.clear {
            Some(clear) => Self {
                known: Some(judged(clear)),
                hidden: matches!(step.content, Content::Secret(..)),
            },
            None => leaf,
        })
    }
}

/// A schema that cannot be meant as it stands is refused.
pub(crate) fn check_schema(place: &Place, schema: &Json) -> Result<(), ConfigError> {
    let length = schema.to_string().len();
    if length > SCHEMA_MAX {
        let why = format!("the schema of `{place}` has {length} bytes, {SCHEMA_MAX} are allowed");
        return Err(ConfigError::Change(why));
    }
    match complaints(schema).first() {
        None => Ok(()),
        Some(fault) => Err(ConfigError::Change(format!(
            "the schema of `{place}` at `{}`: {}",
            fault.pointer, fault.message
        ))),
    }
}

fn judge(place: &Place, schema: &Json, leaves: &BTreeMap<Path, Leaf>) -> Result<(), ConfigError> {
    if leaves.is_empty() {
        return Ok(());
    }
    let unfit = |faults| ConfigError::Unfit {
        place: place.clone(),
        faults,
    };
    let mut root = Json::Object(Map::new());
    let (mut unknown, mut hidden) = (Vec::new(), Vec::new());
    for (path, leaf) in leaves {
        let mut pointer = String::new();
        let mut at = &mut root;
        if place.is_many() {
            let below = place.below(path).unwrap_or_default();
            for (slash, _) in below.match_indices('/') {
                let above = place.join(&below[..slash])?;
                if leaves.contains_key(&above) {
                    let why = "is a value and has others below it, which a place with a schema cannot have";
                    return Err(unfit(vec![(above.to_string(), why.to_owned())]));
                }
            }
            for segment in below.split('/') {
                pointer.push('/');
                pointer.push_str(&escape(segment));
                if !at.is_object() {
                    *at = Json::Object(Map::new());
                }
                // It is a map now.
                let Json::Object(map) = at else { break };
                at = map.entry(segment.to_owned()).or_insert(Json::Null);
            }
        }
        *at = match &leaf.known {
            Some(known) => known.clone(),
            None => {
                unknown.push(pointer.clone());
                Json::Null
            }
        };
        if leaf.hidden {
            hidden.push(pointer);
        }
    }
    let judge = Judge::new(schema, false, Way::Request)
        .unknown(unknown)
        .hidden(hidden);
    let faults = judge.judge(schema, &root);
    if faults.is_empty() {
        return Ok(());
    }
    let told = faults.into_iter().map(|fault| {
        let below = fault.pointer.replace("~1", "/").replace("~0", "~");
        let path = format!("{}{}", place.as_str().trim_end_matches('/'), below);
        let path = if path.is_empty() { "/".to_owned() } else { path };
        (path, fault.message)
    });
    Err(unfit(told.collect()))
}

/// The values of a place as they were read: not understood yet.
struct Raw {
    path: Path,
    key: String,
    bytes: Vec<u8>,
    hidden: bool,
}

/// Understands and judges the values of a place, with what is to be changed.
fn judge_raw(
    place: &Place,
    schema: &Json,
    raw: Vec<Raw>,
    changed: Vec<(Path, Option<Leaf>)>,
) -> Result<(), ConfigError> {
    let mut leaves = BTreeMap::new();
    for one in raw {
        let record = Record::from_bytes(&one.bytes).map_err(|why| damaged(&one.key, why))?;
        if let Some(leaf) = Leaf::of(&record.content(), one.hidden) {
            leaves.insert(one.path, leaf);
        }
    }
    for (path, leaf) in changed {
        match leaf {
            Some(leaf) => leaves.insert(path, leaf),
            None => leaves.remove(&path),
        };
    }
    judge(place, schema, &leaves)
}

impl Config {
    /// Judges the places with a schema that steps touch, as the steps would leave them. Tells what has to be guarded, and
    /// written, with the change.
    pub(crate) async fn fits_after(
        &self,
        asker: Asker<'_>,
        book: &Arc<Book>,
        steps: &[Step],
    ) -> Result<Vec<Guard>, ConfigError> {
        let touched: Vec<&Place> = book
            .counted
            .iter()
            .filter(|place| steps.iter().any(|step| place.covers(&step.path)))
            .collect();
        let mut guards = Vec::new();
        for place in touched {
            let has_schema = book.places.get(place).is_some_and(|rules| rules.schema.is_some());
            let (guard, at) = self.counted(place).await?;
            guards.push(guard);
            if !has_schema {
                continue;
            }
            let raw = self.raw(asker, place, at).await?;
            let changed = steps
                .iter()
                .filter(|step| place.covers(&step.path))
                .map(|step| (step.path.clone(), Leaf::after(step, asker)))
                .collect();
            // The book is kept by the revision of the rules, and the schema in it as it was read then.
            let (book, place) = (Arc::clone(book), place.clone());
            self.elsewhere(move || {
                let schema = book.places.get(&place).and_then(|rules| rules.schema.as_ref());
                schema.map_or(Ok(()), |schema| judge_raw(&place, schema, raw, changed))
            })
            .await?;
        }
        Ok(guards)
    }

    /// Judges a place as it is.
    pub(crate) async fn fits_now(
        &self,
        asker: Asker<'_>,
        place: &Place,
        schema: &Json,
    ) -> Result<Guard, ConfigError> {
        let (guard, at) = self.counted(place).await?;
        let raw = self.raw(asker, place, at).await?;
        let (place, schema) = (place.clone(), schema.clone());
        self.elsewhere(move || judge_raw(&place, &schema, raw, Vec::new()))
            .await?;
        Ok(guard)
    }

    /// Does what takes long where it holds up nobody.
    async fn elsewhere<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ConfigError> + Send + 'static,
    ) -> Result<T, ConfigError> {
        let Some(blocking) = &self.blocking else {
            return work();
        };
        let done = Arc::new(Mutex::new(None));
        let told = Arc::clone(&done);
        let job: Job = Box::new(move || {
            let answer = work();
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        });
        blocking(job).await;
        let answer = done.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.unwrap_or_else(|| {
            Err(ConfigError::Change(
                "judging the schema of a place was broken off".to_owned(),
            ))
        })
    }

    /// What counts the changes of a place, and the backend's revision at which it was read.
    async fn counted(&self, place: &Place) -> Result<(Guard, u64), ConfigError> {
        let key = guard_key(place);
        let ranged = self.backend().range(Range::one(&key)).await?;
        let counted = ranged.entries.first().map_or(0, |entry| entry.modified);
        Ok((Guard::unchanged(&key, counted), ranged.revision))
    }

    /// The values of a place at a revision of the backend.
    async fn raw(&self, asker: Asker<'_>, place: &Place, at: u64) -> Result<Vec<Raw>, ConfigError> {
        let mut pages = Pages::new(self, within('c', place), Some(at));
        let (mut raw, mut bytes) = (Vec::new(), 0);
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                return Ok(raw);
            }
            for entry in page {
                bytes += entry.value.len();
                if raw.len() == JUDGED || bytes > JUDGED_BYTES {
                    return Err(ConfigError::Change(format!(
                        "`{place}` has a schema and more than {JUDGED} values or {JUDGED_BYTES} bytes, which is more \
                         than is judged at every change; give the schema to places within it"
                    )));
                }
                let path = path_of(&entry.key)?;
                raw.push(Raw {
                    hidden: !asker.may(Verb::Read, &path),
                    path,
                    key: entry.key,
                    bytes: entry.value,
                });
            }
        }
    }
}
