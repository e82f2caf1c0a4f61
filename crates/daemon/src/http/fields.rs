//! `?fields=name,instances.pid`: an answer with the fields that were asked for and no others.
//!
//! Done to the finished answer, so that every call has it. Of an answer that is one list of things
//! (`{"apps": […]}`) the fields are those of the things.

use axum::{
    body::Body,
    extract::Request,
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};
use upkeep_api::error::Code;

use super::error::ApiError;
use crate::command::Refusal;

/// Answers that are longer are not taken apart.
const ANSWER_MAX: usize = 32 << 20;
/// So many fields may be named.
const FIELDS_MAX: usize = 100;

/// Names on every level: an empty one below a name means all of it.
#[derive(Debug, Default, PartialEq)]
struct Wanted(Vec<(String, Self)>);

impl Wanted {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = |field: &str| {
            Refusal::new(
                Code::BadRequest,
                format!("failed to read `fields`: `{}` is no field", field.escape_debug()),
            )
            .hint("write names with commas between them, and dots for what lies inside: `name,instances.pid`")
        };
        let mut all = Self::default();
        for (count, field) in text.split(',').enumerate() {
            if count >= FIELDS_MAX {
                return Err(Refusal::new(
                    Code::BadRequest,
                    format!("failed to read `fields`: there are more than {FIELDS_MAX}"),
                ));
            }
            let is_name = |name: &str| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
            };
            let names: Vec<&str> = field.trim().split('.').collect();
            if names.len() > 8 || !names.iter().all(|name| is_name(name)) {
                return Err(wrong(field));
            }
            let mut at = &mut all;
            for name in names {
                let known = at.0.iter().position(|(known, _)| known == name);
                let place = known.unwrap_or_else(|| {
                    at.0.push((name.to_owned(), Self::default()));
                    at.0.len() - 1
                });
                at = &mut at.0[place].1;
            }
        }
        Ok(all)
    }

    fn pick(&self, value: Value) -> Value {
        match value {
            Value::Object(mut map) if !self.0.is_empty() => {
                let picked: Map<String, Value> = self
                    .0
                    .iter()
                    .filter_map(|(name, inside)| Some((name.clone(), inside.pick(map.remove(name)?))))
                    .collect();
                Value::Object(picked)
            }
            Value::Array(list) => list.into_iter().map(|item| self.pick(item)).collect(),
            other => other,
        }
    }

    /// Of a whole answer.
    fn pick_answer(&self, answer: Value) -> Value {
        let Value::Object(mut map) = answer else {
            return self.pick(answer);
        };
        let lists: Vec<String> = map
            .iter()
            .filter(|(_, value)| value.is_array())
            .map(|(name, _)| name.clone())
            .collect();
        let others = map
            .iter()
            .filter(|(name, value)| !value.is_array() && *name != "next" && *name != "revision");
        match lists.as_slice() {
            [list] if others.count() == 0 => {
                if let Some(items) = map.remove(list) {
                    map.insert(list.clone(), self.pick(items));
                }
                Value::Object(map)
            }
            _ => self.pick(Value::Object(map)),
        }
    }
}

/// The value of `fields` in a query.
fn asked(query: &str) -> Option<String> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).ok()?;
    pairs
        .into_iter()
        .find(|(name, _)| name == "fields")
        .map(|(_, value)| value)
}

/// The layer.
pub(super) async fn only(request: Request, next: Next) -> Response {
    let fields = (request.method() == Method::GET)
        .then(|| asked(request.uri().query()?))
        .flatten();
    let Some(fields) = fields else {
        return next.run(request).await;
    };
    let wanted = match Wanted::parse(&fields) {
        Ok(wanted) => wanted,
        Err(refusal) => return ApiError(refusal).into_response(),
    };
    let response = next.run(request).await;
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    if !is_json || response.status() != StatusCode::OK {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let too_long = || {
        ApiError(Refusal::new(
            Code::Internal,
            "failed to pick fields of the answer: it is too long",
        ))
        .into_response()
    };
    let Ok(bytes) = axum::body::to_bytes(body, ANSWER_MAX).await else {
        return too_long();
    };
    let Ok(answer) = serde_json::from_slice::<Value>(&bytes) else {
        return Response::from_parts(head, Body::from(bytes));
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::ETAG);
    let picked = serde_json::to_vec(&wanted.pick_answer(answer)).unwrap_or_default();
    Response::from_parts(head, Body::from(picked))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pick(fields: &str, answer: Value) -> Value {
        Wanted::parse(fields).expect("fields").pick_answer(answer)
    }

    #[test]
    fn of_a_list_the_fields_are_those_of_its_things() {
        let answer =
            json!({"apps": [{"name": "a", "revision": 1, "instances": [{"pid": 7, "id": 0}]}], "next": "a"});
        assert_eq!(
            pick("name,instances.pid", answer.clone()),
            json!({"apps": [{"name": "a", "instances": [{"pid": 7}]}], "next": "a"})
        );
        assert_eq!(pick("nothing", answer), json!({"apps": [{}], "next": "a"}));
    }

    #[test]
    fn of_one_thing_they_are_its_own() {
        let answer = json!({"name": "a", "spec": {"env": {"A": "x", "B": "y"}}, "instances": []});
        assert_eq!(
            pick("spec.env.A", answer.clone()),
            json!({"spec": {"env": {"A": "x"}}})
        );
        assert_eq!(
            pick("name, instances", answer),
            json!({"name": "a", "instances": []})
        );
    }

    #[test]
    fn a_whole_thing_wins_nothing_from_its_parts() {
        let answer = json!({"a": {"b": 1, "c": 2}});
        assert_eq!(pick("a.b,a.c", answer), json!({"a": {"b": 1, "c": 2}}));
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for wrong in [
            "",
            ",",
            "a,,b",
            "a..b",
            "a b",
            "a[0]",
            ".a",
            &"a,".repeat(200),
            &"a.".repeat(20),
        ] {
            assert!(Wanted::parse(wrong).is_err(), "{wrong}");
        }
    }
}
