//! Judging values.
//!
//! Our own, because the crates that do it bring more than the rest of this one weighs, among it ways onto the network. All
//! keywords of the core, applicator, unevaluated and validation vocabularies are known; `format` only describes, as the
//! specification has it, but for the ranges of `int32` and `int64`. References lead within the document: `$id`, `$anchor`
//! and `$dynamicRef` by name are told as not followed. A test compares the verdicts with those of Python's `jsonschema`.
//!
//! In a request, what the schema calls `readOnly` need not be there; in an answer, what it calls `writeOnly`.

mod parts;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use regex::Regex;
use serde_json::{Map, Value};

use crate::at_reference;

/// Schemas within schemas within references.
const MAX_DEPTH: usize = 200;
/// Steps for one value: a schema may branch into itself.
const MAX_STEPS: u32 = 500_000;

/// Which way a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Request,
    /// From the server.
    Response,
}

/// A place in a value that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place, as a JSON pointer.
    pub pointer: String,
    /// What does not fit.
    pub message: String,
}

/// What judges.
#[derive(Debug)]
pub struct Judge<'a> {
    root: &'a Value,
    three_zero: bool,
    way: Way,
    steps: Cell<u32>,
    /// Places whose content is not known: it is taken for fitting.
    unknown: BTreeSet<String>,
    /// Places whose content no complaint repeats.
    hidden: BTreeSet<String>,
}

/// What one schema found out about one value.
#[derive(Debug, Default)]
struct Verdict {
    faults: Vec<Fault>,
    /// Properties that some schema has looked at.
    properties: BTreeSet<String>,
    /// Items that some schema has looked at.
    items: BTreeSet<usize>,
    /// It fits only if something that is not known does.
    unsure: bool,
}

impl Verdict {
    fn fits(&self) -> bool {
        self.faults.is_empty()
    }

    /// All that another one found, as if it were this one's.
    fn take(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.properties.extend(other.properties);
        self.items.extend(other.items);
        self.unsure |= other.unsure;
    }

    /// What another one looked at, without its complaints.
    fn note(&mut self, other: Self) {
        self.properties.extend(other.properties);
        self.items.extend(other.items);
        self.unsure |= other.unsure;
    }

    /// What was found out about a part.
    fn below(&mut self, part: Self) {
        self.faults.extend(part.faults);
        self.unsure |= part.unsure;
    }

    fn fits_surely(&self) -> bool {
        self.fits() && !self.unsure
    }
}

impl<'a> Judge<'a> {
    /// Judges by the schemas of a document.
    pub fn new(root: &'a Value, three_zero: bool, way: Way) -> Self {
        Self {
            root,
            three_zero,
            way,
            steps: Cell::new(0),
            unknown: BTreeSet::new(),
            hidden: BTreeSet::new(),
        }
    }

    /// What is at these JSON pointers is not known: that it is there counts, its content is taken for fitting.
    #[must_use]
    pub fn unknown(mut self, pointers: impl IntoIterator<Item = String>) -> Self {
        self.unknown.extend(pointers);
        self
    }

    /// What is at these JSON pointers is repeated by no complaint, not in part and not by its length.
    #[must_use]
    pub fn hidden(mut self, pointers: impl IntoIterator<Item = String>) -> Self {
        self.hidden.extend(pointers);
        self
    }

    /// Every place that does not fit.
    pub fn judge(&self, schema: &Value, value: &Value) -> Vec<Fault> {
        self.steps.set(0);
        let mut faults = self.check(schema, value, "", 0).faults;
        for fault in &mut faults {
            // That a name is wrong repeats nothing of what is under it.
            let is_of_name = fault.message.starts_with('`') || fault.message.starts_with("its name ");
            if is_of_name && self.hidden.contains(&fault.pointer) {
                continue;
            }
            if let Some(hidden) = self
                .hidden
                .iter()
                .find(|hidden| is_at_or_below(&fault.pointer, hidden))
            {
                fault.pointer.clone_from(hidden);
                "does not fit; its content is not shown".clone_into(&mut fault.message);
            }
        }
        faults.dedup();
        faults
    }

    /// Whether something below a place is in a set.
    fn holds(set: &BTreeSet<String>, at: &str) -> bool {
        set.iter()
            .any(|one| one.len() > at.len() && is_at_or_below(one, at))
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, depth: usize) -> Verdict {
        let mut verdict = Verdict::default();
        if self.unknown.contains(at) {
            verdict.unsure = true;
            return verdict;
        }
        let mut say = |message: String| {
            verdict.faults.push(Fault {
                pointer: at.to_owned(),
                message,
            });
        };
        self.steps.set(self.steps.get() + 1);
        if depth > MAX_DEPTH || self.steps.get() > MAX_STEPS {
            say("the schema leads into itself without end".to_owned());
            return verdict;
        }
        let Value::Object(schema) = schema else {
            match schema {
                Value::Bool(false) => say("nothing may be here".to_owned()),
                Value::Bool(true) => {}
                other => say(format!("the schema is {}, not a map", kind(other))),
            }
            return verdict;
        };
        if let Some(reference) = ["$ref", "$dynamicRef"]
            .iter()
            .find_map(|key| schema.get(*key)?.as_str())
        {
            match at_reference(self.root, reference) {
                Ok(target) => verdict.take(self.check(target, value, at, depth + 1)),
                Err(why) => say(why),
            }
            if self.three_zero {
                return verdict;
            }
        }
        if self.three_zero && value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return verdict;
        }
        self.own(schema, value, at, &mut verdict);
        self.applicators(schema, value, at, depth, &mut verdict);
        match value {
            Value::Object(entries) => self.object(schema, entries, at, depth, &mut verdict),
            Value::Array(items) => self.array(schema, items, at, depth, &mut verdict),
            _ => {}
        }
        verdict
    }

    /// What a schema says of the value itself.
    fn own(&self, schema: &Map<String, Value>, value: &Value, at: &str, verdict: &mut Verdict) {
        let is_part_known = (value.is_object() || value.is_array()) && Self::holds(&self.unknown, at);
        let shown = |value: &Value| {
            if (value.is_object() || value.is_array()) && Self::holds(&self.hidden, at) {
                kind(value)
            } else {
                shown(value)
            }
        };
        let mut say = |message: String| {
            verdict.faults.push(Fault {
                pointer: at.to_owned(),
                message,
            });
        };
        if let Some(types) = schema.get("type") {
            let types: Vec<&str> = match types {
                Value::String(one) => vec![one],
                Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            if !types.iter().any(|name| is_of(value, name)) {
                say(format!(
                    "is {}, not {}",
                    kind(value),
                    listed(types.iter().map(|name| article(name)))
                ));
            }
        }
        if let Some(Value::Array(allowed)) = schema.get("enum")
            && !is_part_known
            && !allowed.iter().any(|one| same(one, value))
        {
            say(format!(
                "is {}, not one of {}",
                shown(value),
                listed(allowed.iter().map(shown))
            ));
        }
        if let Some(only) = schema.get("const")
            && !is_part_known
            && !same(only, value)
        {
            say(format!("is {}, not {}", shown(value), shown(only)));
        }
        match value {
            Value::Number(number) => {
                for message in self.number(schema, number.as_f64().unwrap_or(f64::NAN), value) {
                    say(message);
                }
            }
            Value::String(text) => {
                let length = text.chars().count();
                if over(schema, "maxLength", length) {
                    say(format!(
                        "has {length} characters, more than {}",
                        schema["maxLength"]
                    ));
                }
                if under(schema, "minLength", length) {
                    say(format!(
                        "has {length} characters, fewer than {}",
                        schema["minLength"]
                    ));
                }
                // A pattern that we cannot read is the schema's affair, not the sample's.
                if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
                    && let Ok(read) = Regex::new(pattern)
                    && !read.is_match(text)
                {
                    say(format!("is {}, which does not match `{pattern}`", shown(value)));
                }
            }
            _ => {}
        }
    }

    fn number(&self, schema: &Map<String, Value>, number: f64, value: &Value) -> Vec<String> {
        let mut said = Vec::new();
        let get = |key: &str| schema.get(key).and_then(Value::as_f64);
        let flag = |key: &str| self.three_zero && schema.get(key) == Some(&Value::Bool(true));
        if let Some(limit) = get("maximum")
            && (number > limit || (flag("exclusiveMaximum") && number >= limit))
        {
            said.push(format!("is {value}, more than {}", schema["maximum"]));
        }
        if let Some(limit) = get("minimum")
            && (number < limit || (flag("exclusiveMinimum") && number <= limit))
        {
            said.push(format!("is {value}, less than {}", schema["minimum"]));
        }
        if let Some(limit) = get("exclusiveMaximum")
            && number >= limit
        {
            said.push(format!(
                "is {value}, not less than {}",
                schema["exclusiveMaximum"]
            ));
        }
        if let Some(limit) = get("exclusiveMinimum")
            && number <= limit
        {
            said.push(format!(
                "is {value}, not more than {}",
                schema["exclusiveMinimum"]
            ));
        }
        if let Some(step) = get("multipleOf").filter(|step| *step > 0.0) {
            let times = number / step;
            if (times - times.round()).abs() > 1e-9 * times.abs().max(1.0) {
                said.push(format!("is {value}, no multiple of {}", schema["multipleOf"]));
            }
        }
        let whole = is_of(value, "integer");
        let range = match schema.get("format").and_then(Value::as_str) {
            Some("int32") => Some((-2_147_483_648.0, 2_147_483_647.0)),
            Some("int64") => Some((-9_223_372_036_854_775_808.0, 9_223_372_036_854_775_807.0)),
            _ => None,
        };
        if let Some((low, high)) = range
            && whole
            && !(low..=high).contains(&number)
        {
            said.push(format!("is {value}, out of the range of {}", schema["format"]));
        }
        said
    }

    fn applicators(
        &self,
        schema: &Map<String, Value>,
        value: &Value,
        at: &str,
        depth: usize,
        verdict: &mut Verdict,
    ) {
        let branches = |key: &str| -> Option<Vec<Verdict>> {
            let list = schema.get(key)?.as_array()?;
            Some(
                list.iter()
                    .map(|branch| self.check(branch, value, at, depth + 1))
                    .collect(),
            )
        };
        for branch in branches("allOf").into_iter().flatten() {
            verdict.take(branch);
        }
        if let Some(any) = branches("anyOf") {
            if any.iter().any(Verdict::fits) {
                any.into_iter()
                    .filter(Verdict::fits)
                    .for_each(|branch| verdict.note(branch));
            } else {
                verdict.faults.extend(nearest(at, any));
            }
        }
        if let Some(one) = branches("oneOf") {
            let surely = one.iter().filter(|branch| branch.fits_surely()).count();
            match one.iter().filter(|branch| branch.fits()).count() {
                0 => verdict.faults.extend(nearest(at, one)),
                1.. if surely <= 1 => one
                    .into_iter()
                    .filter(Verdict::fits)
                    .for_each(|branch| verdict.note(branch)),
                many => verdict.faults.push(Fault {
                    pointer: at.to_owned(),
                    message: format!("fits {many} forms where it must fit one"),
                }),
            }
        }
        if let Some(not) = schema.get("not") {
            let not = self.check(not, value, at, depth + 1);
            if not.fits_surely() {
                verdict.faults.push(Fault {
                    pointer: at.to_owned(),
                    message: "is what it must not be (`not`)".to_owned(),
                });
            }
            verdict.unsure |= not.unsure;
        }
        if let Some(condition) = schema.get("if").filter(|_| !self.three_zero) {
            let condition = self.check(condition, value, at, depth + 1);
            let is_open = condition.fits() && condition.unsure;
            let next = if condition.fits() {
                verdict.note(condition);
                schema.get("then")
            } else {
                schema.get("else")
            };
            if let Some(next) = next {
                let next = self.check(next, value, at, depth + 1);
                // Whether the condition holds is not known: either way will do.
                let otherwise = schema
                    .get("else")
                    .filter(|_| is_open && !next.fits())
                    .map(|otherwise| self.check(otherwise, value, at, depth + 1));
                match otherwise {
                    Some(otherwise) if otherwise.fits() => verdict.take(otherwise),
                    None if is_open && !next.fits() && schema.get("else").is_none() => {}
                    _ => verdict.take(next),
                }
            }
        }
        if let (Some(Value::Object(dependent)), Value::Object(entries)) =
            (schema.get("dependentSchemas"), value)
        {
            for (name, schema) in dependent.iter().filter(|(name, _)| entries.contains_key(*name)) {
                // Named for the reader of this code only.
                let _ = name;
                verdict.take(self.check(schema, value, at, depth + 1));
            }
        }
    }
}

/// Of several forms that all do not fit, the complaints of the one that is nearest: it complains deepest, then least.
fn nearest(at: &str, branches: Vec<Verdict>) -> Vec<Fault> {
    let count = branches.len();
    let depth = |verdict: &Verdict| {
        let depths = verdict
            .faults
            .iter()
            .map(|fault| fault.pointer.matches('/').count());
        depths.min().unwrap_or(0)
    };
    let best = branches
        .into_iter()
        .min_by_key(|verdict| (std::cmp::Reverse(depth(verdict)), verdict.faults.len()));
    let mut faults = vec![Fault {
        pointer: at.to_owned(),
        message: format!("fits none of {count} forms; the nearest says what follows"),
    }];
    if count == 1 {
        faults.clear();
    }
    faults.extend(best.map(|verdict| verdict.faults).unwrap_or_default());
    faults
}

fn over(schema: &Map<String, Value>, key: &str, count: usize) -> bool {
    schema
        .get(key)
        .and_then(Value::as_f64)
        .is_some_and(|limit| count as f64 > limit)
}

fn under(schema: &Map<String, Value>, key: &str, count: usize) -> bool {
    schema
        .get(key)
        .and_then(Value::as_f64)
        .is_some_and(|limit| (count as f64) < limit)
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => match value {
            Value::Number(number) => {
                number.is_i64()
                    || number.is_u64()
                    || number.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            _ => false,
        },
        _ => false,
    }
}

/// Equal as JSON Schema has it: numbers by value, maps without order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let b: BTreeMap<_, _> = b.iter().collect();
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (a, b) => a == b,
    }
}

/// What a value is, for people.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => shown(value),
        Value::String(_) => format!("the text {}", shown(value)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 40 {
        format!("`{}…`", text.chars().take(40).collect::<String>())
    } else {
        format!("`{text}`")
    }
}

fn article(name: &str) -> String {
    match name {
        "null" => "null",
        "boolean" => "true or false",
        "object" => "a map",
        "array" => "a list",
        "string" => "a text",
        "number" => "a number",
        "integer" => "a whole number",
        other => other,
    }
    .to_owned()
}

fn listed(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// Whether a JSON pointer is another one, or leads to something below it.
fn is_at_or_below(pointer: &str, other: &str) -> bool {
    pointer
        .strip_prefix(other)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A key as part of a JSON pointer.
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
