//! Values from files and into them, where values come from, and leases.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path as InPath, RawQuery},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use futures_util::FutureExt as _;
use upkeep_api::{
    config::{
        ExplainLayer, ExplainList, ExplainOrigin, ExplainPost, ExplainedValue, ExportQuery, ExportView,
        FormName, HiddenValue, ImportPost, Imported, KeepAlivePost, SettingsExplain,
    },
    error::Code,
};
use upkeep_config::{
    Config, Place,
    entry::{Change, Entry},
    forms::{self, Form, Known},
    loader::{
        Explained, Layer, LayerError, Origin, Setting, Shared as SharedLayer, Stack, Stored, TextLayer, Tree,
    },
    rights::{Asker, Verb},
    shared::LISTED_MAX,
};
use upkeep_model::{access::Pattern, file::Fault};

use super::{asker, carry_out, lease, or_all, status_of};
use crate::{
    command::Refusal,
    config::{CallerRights, Opened, lasting, refusal},
    http::{
        error::ApiError,
        gate::Caller,
        routes::{Answer, json, parse, parse_required, query},
    },
};

/// Values that a file is written from, or that a layer has.
const VALUES_MAX: usize = 20_000;
/// And their bytes.
const BYTES_MAX: usize = 6 << 20;
/// Layers that are looked at.
const LAYERS_MAX: usize = 32;

const fn form(name: FormName) -> Form {
    match name {
        FormName::Dotenv => Form::Dotenv,
        FormName::Json => Form::Json,
        FormName::Yaml => Form::Yaml,
        FormName::Properties => Form::Properties,
    }
}

/// All values of a place, of one moment, and the revision of it.
async fn all(
    config: &Config,
    asker: Asker<'_>,
    place: &Place,
    attempt: &str,
) -> Result<(Vec<Entry>, u64), Refusal> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let mut after = None;
    let mut at = None;
    loop {
        let listing = config
            .list_at(asker, place, LISTED_MAX, after.as_ref(), at)
            .await
            .map_err(refusal)?;
        at = Some(listing.revision);
        bytes += listing
            .entries
            .iter()
            .filter_map(|entry| entry.shown.value())
            .map(|value| value.bytes.len())
            .sum::<usize>();
        entries.extend(listing.entries);
        if entries.len() > VALUES_MAX || bytes > BYTES_MAX {
            let why = format!(
                "failed to {attempt} `{place}`: it has more than {VALUES_MAX} values or {BYTES_MAX} bytes"
            );
            return Err(Refusal::new(Code::Invalid, why).hint("take places within it, one after the other"));
        }
        after = listing.next;
        if after.is_none() {
            return Ok((entries, listing.revision));
        }
    }
}

/// Does what takes long where it holds up nobody.
async fn elsewhere<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Refusal::new(Code::Internal, format!("{what} was broken off")).because(&error))
    })
}

fn unread(place: &Place, fault: &Fault) -> Refusal {
    let at = fault.position.map_or_else(String::new, |at| {
        format!(" in line {}, column {}", at.line, at.column)
    });
    let refusal = Refusal::new(
        Code::Invalid,
        format!("failed to import into `{place}`: {}{at}", fault.message),
    );
    match &fault.hint {
        Some(hint) => refusal.hint(hint.clone()),
        None => refusal,
    }
}

pub(in crate::http) async fn import(caller: Caller, body: Bytes) -> Answer {
    let asked: ImportPost = parse_required(&body)?;
    let rights = CallerRights::of(&caller.known);
    let opened = caller.shared.config.open().await?;
    // What is there lends its kind and, in dotenv, its path; only as far as the caller may read.
    let (entries, _) = all(&opened.config, asker(&rights), &asked.place, "import into").await?;
    let known = Known::of(&entries);
    drop(entries);
    let (place, patterns, text, form) = (asked.place, asked.secret, asked.text, form(asked.form));
    let (puts, kept) = elsewhere("reading the file", move || {
        let mut contents =
            forms::read(form, &place, &text, &known).map_err(|fault| unread(&place, &fault))?;
        // A pattern that fits nothing is a slip, and would have a secret stand in clear for good.
        let mut idle: Vec<&Pattern> = patterns.iter().collect();
        for item in &mut contents.items {
            let below = place.below(&item.path).unwrap_or_default();
            item.secret |= patterns.iter().any(|pattern| pattern.matches(below));
            idle.retain(|pattern| !pattern.matches(below));
        }
        let kept = std::mem::take(&mut contents.kept);
        for path in &kept {
            let below = place.below(path).unwrap_or_default();
            idle.retain(|pattern| !pattern.matches(below));
        }
        if let Some(pattern) = idle.first() {
            return Err(Refusal::new(
                Code::Invalid,
                format!(
                    "failed to import into `{place}`: nothing in the file fits `{}`, which is to be secret",
                    pattern.as_str()
                ),
            )
            .hint("patterns are of what stands below the place, such as `db/password` or `*password`"));
        }
        Ok((contents.puts(false), kept))
    })
    .await?;
    if puts.is_empty() && kept.is_empty() {
        return Err(Refusal::new(Code::Invalid, "failed to import: the file holds no value").into());
    }
    if puts.is_empty() {
        return Err(Refusal::new(
            Code::Invalid,
            "failed to import: the file holds nothing but names of secrets",
        )
        .hint("export with `--reveal` what is to be moved")
        .into());
    }
    let change = Change {
        puts,
        why: asked.reason,
        dry_run: asked.dry_run,
        ..Change::default()
    };
    let changed = carry_out(caller, change).await?;
    json(status_of(&changed), &Imported { changed, kept })
}

pub(in crate::http) async fn export(caller: Caller, RawQuery(raw): RawQuery) -> Answer {
    let asked: ExportQuery = query(raw.as_deref())?;
    let rights = CallerRights::of(&caller.known);
    let place = or_all(asked.place);
    rights.require_some(Verb::Read, &place)?;
    let opened = caller.shared.config.open().await?;
    let asker = asker(&rights);
    let (mut entries, revision) = all(&opened.config, asker, &place, "export").await?;
    let mut masked = Vec::new();
    for entry in entries.iter_mut().filter(|entry| entry.shown.is_secret()) {
        if asked.reveal {
            let was = entry.revision;
            *entry = opened
                .config
                .get(asker, &entry.path, true)
                .await
                .map_err(refusal)?;
            // A file is of one moment.
            if entry.revision != was {
                return Err(Refusal::new(
                    Code::Conflict,
                    format!(
                        "failed to export `{}`: `{}` was changed meanwhile",
                        place, entry.path
                    ),
                )
                .hint("try again")
                .into());
            }
        } else {
            masked.push(entry.path.clone());
        }
    }
    let values = entries.len();
    let form = form(asked.form.unwrap_or(FormName::Json));
    let text = elsewhere("writing the file", move || {
        forms::write(form, &place, &entries).map_err(|error| {
            Refusal::new(Code::Invalid, format!("failed to export `{place}`: {error}"))
                .hint("json and yaml hold every value")
        })
    })
    .await?;
    let view = ExportView {
        revision,
        values,
        masked,
        text,
    };
    let mut response: Response = json(StatusCode::OK, &view)?;
    if asked.reveal {
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// A place as a layer in which also secrets are named, which say nothing.
struct Named(SharedLayer);

impl Layer for Named {
    fn name(&self) -> String {
        self.0.name()
    }

    fn load(&self) -> Result<Tree, LayerError> {
        let mut tree = self.0.load()?;
        for entry in self.0.entries.iter().filter(|entry| entry.shown.is_secret()) {
            let Some(below) = self.0.place.below(&entry.path) else {
                continue;
            };
            let setting = Setting {
                value: serde_json::Value::Null,
                secret: true,
                origin: Origin::Shared {
                    path: entry.path.clone(),
                    revision: entry.revision,
                },
            };
            tree.entry(below.to_owned()).or_insert(setting);
        }
        Ok(tree)
    }
}

fn origin(origin: Origin) -> ExplainOrigin {
    match origin {
        Origin::Fixed => ExplainOrigin::Default,
        Origin::File { file, at } => ExplainOrigin::File {
            file,
            line: at.line.into(),
            column: at.column.into(),
        },
        Origin::Variable(name) => ExplainOrigin::Variable { name },
        Origin::Shared { path, revision } => ExplainOrigin::Shared { path, revision },
        Origin::Settings { revision } => ExplainOrigin::Stored { revision },
    }
}

fn shown(setting: &Setting) -> Option<serde_json::Value> {
    (!setting.secret).then(|| setting.value.clone())
}

fn explained(one: Explained) -> ExplainedValue {
    let hides = one.hidden.into_iter().map(|(_, key, setting)| HiddenValue {
        key,
        value: shown(&setting),
        origin: origin(setting.origin),
    });
    ExplainedValue {
        hides: hides.collect(),
        key: one.key,
        value: shown(&one.setting),
        origin: origin(one.setting.origin),
    }
}

pub(in crate::http) async fn explain(caller: Caller, body: Bytes) -> Answer {
    let asked: ExplainPost = parse_required(&body)?;
    let rights = CallerRights::of(&caller.known);
    let mut top = None;
    if let Some(place) = asked.place {
        rights.require_some(Verb::Read, &place)?;
        if !place.is_many() {
            return Err(Refusal::new(
                Code::Invalid,
                format!("failed to explain: `{place}` is one value, and a layer is a place"),
            )
            .hint("end the place with a slash")
            .into());
        }
        let opened = caller.shared.config.open().await?;
        let (entries, _) = all(&opened.config, asker(&rights), &place, "explain").await?;
        top = Some(SharedLayer { place, entries });
    }
    if asked.layers.len() > LAYERS_MAX || (asked.layers.is_empty() && top.is_none()) {
        return Err(too_many_layers());
    }
    let values = explained_by(Stack::default(), asked.layers, top, asked.key).await?;
    json(StatusCode::OK, &ExplainList { values })
}

fn too_many_layers() -> ApiError {
    Refusal::new(
        Code::Invalid,
        format!("failed to explain: 1 to {LAYERS_MAX} layers can be looked at"),
    )
    .hint("name files (`layers`), a place (`place`), or both")
    .into()
}

/// Lays files, and a place, on a stack and tells where values come from.
async fn explained_by(
    mut stack: Stack,
    layers: Vec<ExplainLayer>,
    top: Option<SharedLayer>,
    key: String,
) -> Result<Vec<ExplainedValue>, Refusal> {
    elsewhere("reading the layers", move || {
        for layer in layers {
            stack = stack.with(TextLayer {
                name: layer.name,
                form: form(layer.form),
                text: layer.text,
            });
        }
        if let Some(top) = top {
            stack = stack.with(Named(top));
        }
        let explained = stack
            .explain(&key)
            .map_err(|error| Refusal::new(Code::Invalid, format!("failed to explain: {error}")))?;
        if explained.is_empty() {
            let key = key.escape_debug();
            return Err(Refusal::new(
                Code::NotFound,
                format!("no layer says anything of `{key}`"),
            ));
        }
        Ok(explained.into_iter().map(self::explained).collect())
    })
    .await
}

/// What holds for settings that are not set, as their description says it.
struct Defaults;

impl Layer for Defaults {
    fn name(&self) -> String {
        "defaults".to_owned()
    }

    fn load(&self) -> Result<Tree, LayerError> {
        let defaults = upkeep_model::settings::defaults().into_iter().map(|(key, text)| {
            let setting = Setting {
                value: text.into(),
                secret: false,
                origin: Origin::Fixed,
            };
            (key, setting)
        });
        Ok(defaults.collect())
    }
}

pub(in crate::http) async fn explain_settings(caller: Caller, body: Bytes) -> Answer {
    let asked: SettingsExplain = parse(&body)?;
    if asked.layers.len() > LAYERS_MAX {
        return Err(too_many_layers());
    }
    let view = caller.shared.settings.view();
    let stored = Stored {
        settings: serde_json::to_value(&view.settings).unwrap_or_default(),
        revision: view.revision,
    };
    let stack = Stack::default().with(Defaults).with(stored);
    let values = explained_by(stack, asked.layers, None, asked.key).await?;
    json(StatusCode::OK, &ExplainList { values })
}

pub(in crate::http) async fn keep_alive(caller: Caller, InPath(id): InPath<String>, body: Bytes) -> Answer {
    let _: KeepAlivePost = parse(&body)?;
    let rights = CallerRights::of(&caller.known);
    let shared = caller.shared;
    let id = i64::from_str_radix(&id, 16).map_err(|_| {
        Refusal::new(
            Code::NotFound,
            format!("there is no lease `{}`: none is written so", id.escape_debug()),
        )
        .hint("write it as the change has told it, in hexadecimal digits: `upkeep config set --ttl` shows it")
    })?;
    let alive = lasting(async move {
        let asker = asker(&rights);
        let work =
            |opened: Arc<Opened>| async move { Ok(opened.config.keep_alive(asker, id).await?) }.boxed();
        shared.config.going_on(work).await
    })
    .await?;
    json(StatusCode::OK, &lease(alive))
}
