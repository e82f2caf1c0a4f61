//! The description of `/v1` for other programs: OpenAPI 3.1, made from the route table and the types of the bodies.
//!
//! `cargo xtask generate` writes it to `docs/reference/openapi.json`; the daemon serves that file. A route of the table
//! without a row in [`shape`] fails a test here.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    access, alert, body, certificate, config, config_store, crash, error, inspect, metrics,
    routes::{OUTSIDE, ROUTES, Route},
    search, settings,
};

type Of = fn(&mut SchemaGenerator) -> Schema;

/// What an answer is.
enum Answer {
    /// One JSON document.
    Json(Of),
    /// One JSON document, or with `follow` server-sent events of which each holds one item.
    JsonOrEvents(Of, Of),
    /// JSON lines, or with `follow` server-sent events of which each holds one item.
    LinesOrEvents(Of),
    /// Server-sent events, of which each holds one item.
    Events(Of),
    /// A file.
    File,
    /// Plain text.
    Text,
}

/// What goes in and comes out.
struct Shape {
    query: Option<Of>,
    body: Option<Of>,
    answer: Answer,
}

fn of<T: JsonSchema>() -> Of {
    |generator| generator.subschema_for::<T>()
}

fn get<T: JsonSchema>() -> Shape {
    Shape {
        query: None,
        body: None,
        answer: Answer::Json(of::<T>()),
    }
}

fn send<B: JsonSchema, T: JsonSchema>() -> Shape {
    Shape {
        body: Some(of::<B>()),
        ..get::<T>()
    }
}

impl Shape {
    fn query<Q: JsonSchema>(self) -> Self {
        Self {
            query: Some(of::<Q>()),
            ..self
        }
    }

    fn answer(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }
}

/// The types of one route.
fn shape(route: &Route) -> Option<Shape> {
    use body::{ActionOptions, ActionResult};
    Some(match (route.method, route.path) {
        ("GET", "/v1/alerts") => get::<alert::AlertsView>(),
        ("GET", "/v1/alerts/deliveries") => get::<alert::DeliveryList>(),
        ("PUT", "/v1/alerts/silences/{app}") => send::<alert::SilencePut, alert::Silence>(),
        ("DELETE", "/v1/alerts/silences/{app}") => get::<alert::Silence>(),
        ("POST", "/v1/alerts/test") => send::<alert::TestPost, alert::TestResult>(),
        ("GET", "/v1/apps") => get::<()>()
            .query::<body::AppsQuery>()
            .answer(Answer::JsonOrEvents(
                of::<body::AppList>(),
                of::<body::AppsChange>(),
            )),
        ("POST", "/v1/apps") => send::<body::Apply, ActionResult>(),
        ("GET", "/v1/apps/{name}") => get::<body::AppView>(),
        ("GET", "/v1/apps/{name}/crashes") => get::<crash::CrashList>(),
        ("GET", "/v1/apps/{name}/crashes/{id}") => get::<crash::Crash>(),
        ("GET", "/v1/apps/{name}/exposure") => get::<body::Exposure>(),
        ("POST", "/v1/apps/{name}/heap") => send::<inspect::HeapRequest, ()>().answer(Answer::File),
        ("POST", "/v1/apps/{name}/profile") => send::<inspect::ProfileRequest, ()>().answer(Answer::File),
        ("POST", "/v1/apps/{name}/rollback") => send::<body::Rollback, ActionResult>(),
        ("POST", "/v1/apps/{name}/scale") => send::<body::Scale, ActionResult>(),
        ("DELETE", "/v1/apps/{name}")
        | (
            "POST",
            "/v1/apps/{name}/reload"
            | "/v1/apps/{name}/restart"
            | "/v1/apps/{name}/start"
            | "/v1/apps/{name}/stop"
            | "/v1/daemon/kill"
            | "/v1/daemon/shutdown"
            | "/v1/snapshot/restore",
        )
        | ("PUT", "/v1/snapshot") => send::<ActionOptions, ActionResult>(),
        ("POST", path) if path.starts_with("/v1/selections/") => send::<body::Selection, ActionResult>(),
        ("GET", "/v1/audit" | "/v1/events") => get::<()>()
            .query::<body::EventQuery>()
            .answer(Answer::JsonOrEvents(of::<body::EventList>(), of::<body::Event>())),
        ("GET", "/v1/certificates") => get::<certificate::CertificateList>(),
        ("POST", "/v1/certificates") => {
            send::<certificate::CertificatePost, certificate::CertificateIssued>()
        }
        ("PUT", "/v1/certificates/authority") => send::<access::Change, certificate::AuthorityChanged>(),
        ("POST", "/v1/certificates/renew") => send::<access::Change, certificate::CertificateList>(),
        ("DELETE", "/v1/certificates/{serial}") => send::<access::Change, access::Changed>(),
        ("PUT", "/v1/config/approvals") => send::<config::ApprovalsPut, config::PlacesChanged>(),
        ("POST", "/v1/config/auth") => send::<config_store::AuthPost, config_store::AuthEnabled>(),
        ("POST", "/v1/config/changes") => send::<config::ChangePost, config::ConfigChanged>(),
        ("GET", "/v1/config/diff") => get::<config::DiffList>().query::<config::DiffQuery>(),
        ("POST", "/v1/config/explain") => send::<config::ExplainPost, config::ExplainList>(),
        ("GET", "/v1/config/export") => get::<config::ExportView>().query::<config::ExportQuery>(),
        ("GET", "/v1/config/history") => get::<config::HistoryList>().query::<config::HistoryQuery>(),
        ("POST", "/v1/config/import") => send::<config::ImportPost, config::Imported>(),
        ("PUT", "/v1/config/keep") => send::<config::KeepPut, config::PlacesChanged>(),
        ("POST", "/v1/config/leases/{lease}/keep-alive") => {
            send::<config::KeepAlivePost, config::LeaseView>()
        }
        ("GET", "/v1/config/proposals") => get::<config::ProposalList>().query::<config::ProposalQuery>(),
        ("POST", "/v1/config/proposals/{proposal}/approve") => {
            send::<config::ProposalApprove, config::ProposalDecided>()
        }
        ("POST", "/v1/config/proposals/{proposal}/refuse") => {
            send::<config::ProposalRefuse, config::ProposalDecided>()
        }
        ("POST", "/v1/config/reseal") => send::<config::ResealPost, config::Resealed>(),
        ("POST", "/v1/config/rollback") => send::<config::RollbackPost, config::ConfigChanged>(),
        ("GET", "/v1/config/rules") => get::<config::RulesView>(),
        ("PUT", "/v1/config/rules") => send::<config::RulesPut, config::PlacesChanged>(),
        ("GET", "/v1/config/schemas") => get::<config::SchemaList>().query::<config::SchemaQuery>(),
        ("PUT", "/v1/config/schemas") => send::<config::SchemaPut, config::PlacesChanged>(),
        ("GET", "/v1/config/machines") => get::<config_store::MachineList>(),
        ("POST", "/v1/config/machines") => send::<config_store::MachinePost, config_store::MachineAdded>(),
        ("DELETE", "/v1/config/machines/{name}") => send::<access::Change, config::PlacesChanged>(),
        ("POST", "/v1/config/migrate") => send::<config_store::MigratePost, config_store::Migrated>(),
        ("GET", "/v1/config/status") => get::<config_store::ConfigStatus>(),
        ("GET", "/v1/config/values") => get::<config::ValueList>().query::<config::ValuesQuery>(),
        ("GET", "/v1/config/values/{path}") => get::<config::ValueEntry>().query::<config::ValueQuery>(),
        ("PUT", "/v1/config/values/{path}") => send::<config::ValuePut, config::ConfigChanged>(),
        ("DELETE", "/v1/config/values/{path}") => send::<config::ValueDelete, config::ConfigChanged>(),
        ("GET", "/v1/config/watch") => get::<()>()
            .query::<config::WatchQuery>()
            .answer(Answer::Events(of::<config::Watched>())),
        ("GET", "/v1/daemon") => get::<body::DaemonView>(),
        ("POST", "/v1/daemon/upgrade") => send::<body::Upgrade, body::Accepted>(),
        ("GET", "/v1/logs") => get::<()>()
            .query::<body::LogQuery>()
            .answer(Answer::LinesOrEvents(of::<body::LogLine>())),
        ("GET", "/v1/metrics") => get::<()>()
            .query::<metrics::MetricsQuery>()
            .answer(Answer::JsonOrEvents(
                of::<metrics::MetricsAnswer>(),
                of::<metrics::MetricsAnswer>(),
            )),
        ("GET", "/v1/search") => get::<search::SearchAnswer>().query::<search::SearchQuery>(),
        ("GET", "/v1/openapi.json") => get::<serde_json::Value>(),
        ("GET", "/v1/roles") => get::<access::RoleList>(),
        ("PUT", "/v1/roles/{role}") => send::<access::RolePut, access::Changed>(),
        ("DELETE", "/v1/roles/{role}" | "/v1/roles/{role}/members/{member}" | "/v1/tokens/{token}")
        | ("PUT", "/v1/roles/{role}/members/{member}") => send::<access::Change, access::Changed>(),
        ("GET", "/v1/schedules") => get::<body::ScheduleList>(),
        ("GET", "/v1/schedules/{name}") => get::<body::ScheduleView>().query::<body::ScheduleQuery>(),
        ("GET", "/v1/settings") => get::<settings::SettingsView>(),
        ("PUT", "/v1/settings") => send::<settings::SettingsPut, settings::SettingsResult>(),
        ("POST", "/v1/settings/explain") => send::<config::SettingsExplain, config::ExplainList>(),
        ("GET", "/v1/tokens") => get::<access::TokenList>(),
        ("POST", "/v1/tokens") => send::<access::TokenPost, access::TokenCreated>(),
        ("GET", "/v1/whoami") => get::<access::WhoAmI>(),
        ("GET", "/healthz" | "/readyz" | "/metrics") => get::<()>().answer(Answer::Text),
        _ => return None,
    })
}

/// What each code means, for people.
const fn meaning(code: u16) -> &'static str {
    match code {
        200 => "Done, or here it is.",
        201 => "Created.",
        202 => "Understood; it is being done.",
        304 => "It is as the caller has it.",
        400 => "The request cannot be understood.",
        401 => "Nobody knows who asks: no token, or none that is valid.",
        403 => "The caller does not hold what this takes.",
        404 => "There is no such thing, or the caller may not see it.",
        405 => "The path is known, the method is not.",
        409 => "Somebody else changed it, or its state does not allow this.",
        413 => "The body is too large.",
        422 => "It is understood and breaks a rule.",
        429 => "Too often: wait as long as `Retry-After` says.",
        503 => "It cannot be done now.",
        504 => "It did not come to rest in time; it goes on.",
        _ => "A fault of ours; the daemon's log has the cause under `request_id`.",
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Two sets of definitions: what is sent may leave out what has a default, what is answered is complete.
struct Types {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Types {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            sent: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
        }
    }

    fn sent(&mut self, of: Of) -> Value {
        of(&mut self.sent).to_value()
    }

    fn answered(&mut self, of: Of) -> Value {
        of(&mut self.answered).to_value()
    }

    /// One set: a type that is sent in another form than it is answered in is called `…Sent` there. Tells which.
    fn merge(mut self) -> (Map<String, Value>, BTreeSet<String>) {
        let sent = self.sent.take_definitions(true);
        let mut all = self.answered.take_definitions(true);
        let mut other: BTreeSet<String> = sent
            .iter()
            .filter(|(name, schema)| all.get(*name).is_some_and(|answered| answered != *schema))
            .map(|(name, _)| name.clone())
            .collect();
        loop {
            let more: Vec<String> = sent
                .iter()
                .filter(|(name, schema)| {
                    !other.contains(*name) && all.contains_key(*name) && refers(schema, &other)
                })
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            other.extend(more);
        }
        for (name, mut schema) in sent {
            rename(&mut schema, &other);
            let name = if other.contains(&name) {
                format!("{name}Sent")
            } else {
                name
            };
            all.insert(name, schema);
        }
        (all, other)
    }
}

const PREFIX: &str = "#/components/schemas/";

fn refers(schema: &Value, names: &BTreeSet<String>) -> bool {
    match schema {
        Value::Object(map) => map.iter().any(|(key, value)| {
            let is_one = key == "$ref"
                && value
                    .as_str()
                    .and_then(|text| text.strip_prefix(PREFIX))
                    .is_some_and(|name| names.contains(name));
            is_one || refers(value, names)
        }),
        Value::Array(list) => list.iter().any(|value| refers(value, names)),
        _ => false,
    }
}

fn rename(schema: &mut Value, names: &BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let name = match (key.as_str(), value.as_str()) {
                    ("$ref", Some(text)) => text.strip_prefix(PREFIX).map(str::to_owned),
                    _ => None,
                };
                match name {
                    Some(name) if names.contains(&name) => *value = format!("{PREFIX}{name}Sent").into(),
                    Some(_) => {}
                    None => rename(value, names),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, names)),
        _ => {}
    }
}

/// `GET /v1/apps/{name}/crashes` becomes `get_apps_name_crashes`.
fn operation_id(route: &Route) -> String {
    let words = route
        .path
        .split(['/', '{', '}'])
        .filter(|word| !word.is_empty() && *word != "v1");
    let outside = (!route.path.starts_with("/v1/")).then(|| "outside".to_owned());
    std::iter::once(route.method.to_lowercase())
        .chain(outside)
        .chain(words.map(str::to_owned))
        .collect::<Vec<_>>()
        .join("_")
}

/// What a parameter of a path is.
fn path_parameter(name: &str) -> Value {
    let (what, schema) = match name {
        "name" => ("Name of the app.", reference("Name")),
        "app" => (
            "Name of an app, `machine` or `all`.",
            json!({"type": "string", "minLength": 1}),
        ),
        "id" => (
            "Number of the crash, or `last`.",
            json!({"type": "string", "pattern": "^([0-9]{1,19}|last)$"}),
        ),
        "path" => (
            "Path of a value, without its first slash: `shop/prod/db/url`. Slashes may be written as they are.",
            json!({"type": "string", "pattern": "^[A-Za-z0-9_+@:-]+(/[A-Za-z0-9_+@:-]+){0,15}$", "maxLength": 500}),
        ),
        "role" => (
            "Name of the role.",
            json!({"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,59}$"}),
        ),
        "member" => (
            "`uid:NUMBER`, `user:NAME` or `cert:NAME`.",
            json!({"type": "string", "pattern": "^(uid|user|cert):.+$"}),
        ),
        _ => ("Id or name.", json!({"type": "string", "minLength": 1})),
    };
    json!({"name": name, "in": "path", "required": true, "description": what, "schema": schema})
}

/// Fields of a query type, each as a parameter.
fn query_parameters(schema: &Value, definitions: &Map<String, Value>) -> Vec<Value> {
    let schema = schema["$ref"]
        .as_str()
        .and_then(|text| text.strip_prefix(PREFIX))
        .and_then(|name| definitions.get(name))
        .unwrap_or(schema);
    let Some(properties) = schema["properties"].as_object() else {
        return Vec::new();
    };
    properties
        .iter()
        .map(|(name, property)| {
            let mut schema = property.clone();
            let what = schema.as_object_mut().and_then(|map| map.remove("description"));
            // In a query nothing can be null: it is absent.
            if let Some(kinds) = schema["type"].as_array() {
                let kinds: Vec<_> = kinds.iter().filter(|kind| *kind != "null").cloned().collect();
                if let [kind] = kinds.as_slice() {
                    schema["type"] = kind.clone();
                }
            }
            if let Some(choices) = schema["anyOf"].as_array() {
                let choices: Vec<_> = choices
                    .iter()
                    .filter(|one| one["type"] != "null")
                    .cloned()
                    .collect();
                if let [one] = choices.as_slice() {
                    schema = one.clone();
                }
            }
            if schema["default"].is_null()
                && let Some(map) = schema.as_object_mut()
            {
                map.remove("default");
            }
            json!({"name": name, "in": "query", "description": what.unwrap_or_default(), "schema": schema})
        })
        .collect()
}

/// The whole document; `version` is the program's.
pub fn document(version: &str) -> Value {
    let mut types = Types::new();
    let error = types.answered(of::<error::ErrorBody>());
    // Names of apps are asked for in paths even where no body has one.
    types.answered(of::<upkeep_model::id::AppName>());
    struct Made {
        route: &'static Route,
        query: Option<Value>,
        body: Option<Value>,
        content: Value,
    }
    let mut made = Vec::new();
    for route in ROUTES.iter().chain(OUTSIDE) {
        let Some(shape) = shape(route) else { continue };
        let events = |item: &Value| json!({"schema": {"type": "string", "description": "Server-sent events; the data of each is one item, as JSON."}, "x-item": item});
        let lines = |item: &Value| json!({"schema": {"type": "string", "description": "One item on each line, as JSON."}, "x-item": item});
        let content = match shape.answer {
            Answer::Json(of) => json!({"application/json": {"schema": types.answered(of)}}),
            Answer::JsonOrEvents(of, item) => {
                let item = types.answered(item);
                json!({"application/json": {"schema": types.answered(of)}, "text/event-stream": events(&item)})
            }
            Answer::LinesOrEvents(item) => {
                let item = types.answered(item);
                json!({"application/x-ndjson": lines(&item), "text/event-stream": events(&item)})
            }
            Answer::Events(item) => {
                let item = types.answered(item);
                json!({"text/event-stream": events(&item)})
            }
            Answer::File => json!({"application/json": {"schema": {}}}),
            Answer::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
        };
        made.push(Made {
            route,
            query: shape.query.map(|of| types.sent(of)),
            body: shape.body.map(|of| types.sent(of)),
            content,
        });
    }
    let (definitions, renamed) = types.merge();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for Made {
        route,
        query,
        body,
        content,
    } in made
    {
        let mut parameters: Vec<Value> = route
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(path_parameter)
            .collect();
        parameters.extend(
            query
                .iter()
                .flat_map(|schema| query_parameters(schema, &definitions)),
        );
        let header = |name: &str, what: &str, schema: Value| json!({"name": name, "in": "header", "description": what, "schema": schema});
        if route.method == "GET" && content.get("application/json").is_some() {
            parameters.push(json!({
                "name": "fields", "in": "query",
                "description": "Only these fields, separated by commas; dots lead inside.",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+){0,7}(,[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+){0,7})*$"},
            }));
        }
        if content.get("text/event-stream").is_some() {
            parameters.push(header(
                "Last-Event-ID",
                if matches!(route.path, "/v1/events" | "/v1/audit") {
                    "Go on behind this event. If it is no longer kept, or there is none yet (the log was begun anew), the first event is a `gap`, and what is kept follows."
                } else {
                    "Of a stream: go on behind this event."
                },
                json!({"type": "string"}),
            ));
        }
        if route.method != "GET" {
            parameters.push(header(
                "Idempotency-Key",
                "A call with a key that was used for the same call within a day is not done again: the first answer comes again.",
                json!({"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"}),
            ));
        }
        if route.takes_if_match() {
            parameters.push(header(
                "If-Match",
                "Only if it is at this revision, which is in its `ETag`.",
                json!({"type": "string", "pattern": "^\"[0-9]{1,19}\"$"}),
            ));
        }
        let common = [400, 401, 403, 404, 405, 413, 422, 429, 500, 503, 504];
        let codes: BTreeSet<u16> = route.codes.iter().copied().chain(common).collect();
        let responses: Map<String, Value> = codes
            .into_iter()
            .map(|code| {
                let content = if code < 300 {
                    content.clone()
                } else if route.path.starts_with("/v1/") {
                    json!({"application/json": {"schema": error}})
                } else {
                    json!({"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": error}})
                };
                let mut answer = json!({"description": meaning(code)});
                if code != 304 {
                    answer["content"] = content;
                }
                (code.to_string(), answer)
            })
            .collect();
        let tag = route
            .path
            .trim_start_matches("/v1/")
            .split('/')
            .next()
            .unwrap_or_default();
        let mut operation = json!({
            "operationId": operation_id(route),
            "summary": route.summary,
            "tags": [if route.path.starts_with("/v1/") { tag } else { "outside" }],
            "parameters": parameters,
            "responses": responses,
            "x-verb": route.verb.as_str(),
        });
        if let Some(mut schema) = body {
            rename(&mut schema, &renamed);
            operation["requestBody"] = json!({"content": {"application/json": {"schema": schema}}});
        }
        paths
            .entry(route.path)
            .or_default()
            .insert(route.method.to_lowercase(), operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Upkeep",
            "version": version,
            "description": "Applications and machines kept in order. Times are Unix seconds, sizes are bytes, durations are milliseconds with the unit in their name.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token that `upkeep token create` made. On the unix socket none is needed.",
            }},
        },
    })
}

/// The document as it is published: indented, ending in a newline, the same for every run.
pub fn text(version: &str) -> String {
    let mut text = serde_json::to_string_pretty(&document(version)).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_types() {
        for route in ROUTES.iter().chain(OUTSIDE) {
            assert!(
                shape(route).is_some(),
                "{} {} is not described",
                route.method,
                route.path
            );
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document("0");
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"").skip(1) {
            let target = reference.split('"').next().unwrap_or_default();
            let name = target.strip_prefix(PREFIX).expect(target);
            assert!(schemas.contains_key(name), "{name}");
        }
        let ids: Vec<&Value> = document["paths"]
            .as_object()
            .expect("paths")
            .values()
            .flat_map(|path| {
                path.as_object()
                    .into_iter()
                    .flatten()
                    .map(|(_, one)| &one["operationId"])
            })
            .collect();
        let distinct: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(ids.len(), distinct.len());
        assert_eq!(ids.len(), ROUTES.len() + OUTSIDE.len());
    }
}
