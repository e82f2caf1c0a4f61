//! Maps and lists: what a schema says of what is in them.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Value};

use super::{Fault, Judge, Verdict, Way, escape, over, same, under};

impl Judge<'_> {
    pub(super) fn object(
        &self,
        schema: &Map<String, Value>,
        entries: &Map<String, Value>,
        at: &str,
        depth: usize,
        verdict: &mut Verdict,
    ) {
        let fault = |message: String| Fault {
            pointer: at.to_owned(),
            message,
        };
        if over(schema, "maxProperties", entries.len()) {
            verdict
                .faults
                .push(fault(format!("has more than {} keys", schema["maxProperties"])));
        }
        if under(schema, "minProperties", entries.len()) {
            verdict
                .faults
                .push(fault(format!("has fewer than {} keys", schema["minProperties"])));
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !entries.contains_key(name) && !self.spared(properties.and_then(|known| known.get(name))) {
                verdict.faults.push(fault(format!("has no `{name}`")));
            }
        }
        for (name, needs) in schema
            .get("dependentRequired")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            for need in needs.as_array().into_iter().flatten().filter_map(Value::as_str) {
                if entries.contains_key(name) && !entries.contains_key(need) {
                    verdict
                        .faults
                        .push(fault(format!("has `{name}` and no `{need}`")));
                }
            }
        }
        let patterns: Vec<(Option<Regex>, &Value)> = schema
            .get("patternProperties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(pattern, schema)| (Regex::new(pattern).ok(), schema))
            .collect();
        let mut here = BTreeSet::new();
        for (name, value) in entries {
            let below = format!("{at}/{}", escape(name));
            if let Some(schema) = properties.and_then(|known| known.get(name)) {
                here.insert(name.clone());
                verdict.below(self.check(schema, value, &below, depth + 1));
            }
            for (pattern, schema) in &patterns {
                if pattern.as_ref().is_none_or(|pattern| pattern.is_match(name)) {
                    here.insert(name.clone());
                    verdict.below(self.check(schema, value, &below, depth + 1));
                }
            }
            if let Some(names) = schema.get("propertyNames") {
                let named = self.check(names, &Value::from(name.as_str()), at, depth + 1);
                verdict.faults.extend(named.faults.into_iter().map(|fault| Fault {
                    message: format!("its name {}", fault.message),
                    pointer: below.clone(),
                }));
            }
        }
        if let Some(more) = schema.get("additionalProperties") {
            let before = verdict.faults.len();
            let known: Vec<&str> = properties
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str())
                .collect();
            self.rest(more, entries, &here, (at, depth), verdict);
            for fault in &mut verdict.faults[before..] {
                hint(fault, at, &known);
            }
            here.extend(entries.keys().cloned());
        }
        verdict.properties.extend(here);
        if let Some(more) = schema.get("unevaluatedProperties").filter(|_| !self.three_zero) {
            let seen = verdict.properties.clone();
            self.rest(more, entries, &seen, (at, depth), verdict);
            verdict.properties.extend(entries.keys().cloned());
        }
    }

    /// Properties that nothing else has looked at.
    fn rest(
        &self,
        schema: &Value,
        entries: &Map<String, Value>,
        seen: &BTreeSet<String>,
        (at, depth): (&str, usize),
        verdict: &mut Verdict,
    ) {
        for (name, value) in entries.iter().filter(|(name, _)| !seen.contains(*name)) {
            let pointer = format!("{at}/{}", escape(name));
            if schema == &Value::Bool(false) {
                verdict.faults.push(Fault {
                    pointer,
                    message: format!("`{}` is not in the schema", name.escape_debug()),
                });
            } else {
                verdict.below(self.check(schema, value, &pointer, depth + 1));
            }
        }
    }

    /// Whether what is required need not be there on this way.
    fn spared(&self, schema: Option<&Value>) -> bool {
        let key = match self.way {
            Way::Request => "readOnly",
            Way::Response => "writeOnly",
        };
        schema.is_some_and(|schema| schema.get(key) == Some(&Value::Bool(true)))
    }

    pub(super) fn array(
        &self,
        schema: &Map<String, Value>,
        items: &[Value],
        at: &str,
        depth: usize,
        verdict: &mut Verdict,
    ) {
        let fault = |message: String| Fault {
            pointer: at.to_owned(),
            message,
        };
        if over(schema, "maxItems", items.len()) {
            verdict
                .faults
                .push(fault(format!("has more than {} items", schema["maxItems"])));
        }
        if under(schema, "minItems", items.len()) {
            verdict
                .faults
                .push(fault(format!("has fewer than {} items", schema["minItems"])));
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true))
            && items
                .iter()
                .enumerate()
                .any(|(index, item)| items[..index].iter().any(|other| same(other, item)))
        {
            verdict.faults.push(fault("has an item twice".to_owned()));
        }
        let mut first = 0;
        if let Some(Value::Array(prefix)) = schema.get("prefixItems").filter(|_| !self.three_zero) {
            first = prefix.len();
            for (index, (schema, item)) in prefix.iter().zip(items).enumerate() {
                verdict.items.insert(index);
                verdict.below(self.check(schema, item, &format!("{at}/{index}"), depth + 1));
            }
        }
        if let Some(each) = schema.get("items") {
            for (index, item) in items.iter().enumerate().skip(first) {
                verdict.items.insert(index);
                verdict.below(self.check(each, item, &format!("{at}/{index}"), depth + 1));
            }
        }
        if let Some(wanted) = schema.get("contains").filter(|_| !self.three_zero) {
            let held: Vec<usize> = items
                .iter()
                .enumerate()
                .filter(|(_, item)| self.check(wanted, item, at, depth + 1).fits())
                .map(|(index, _)| index)
                .collect();
            let least = schema.get("minContains").and_then(Value::as_f64).unwrap_or(1.0);
            if (held.len() as f64) < least {
                verdict.faults.push(fault(format!(
                    "holds {} of the items it must hold, not {least}",
                    held.len()
                )));
            }
            if over(schema, "maxContains", held.len()) {
                verdict.faults.push(fault(format!(
                    "holds more than {} of some items",
                    schema["maxContains"]
                )));
            }
            verdict.items.extend(held);
        }
        if let Some(more) = schema.get("unevaluatedItems").filter(|_| !self.three_zero) {
            for (index, item) in items.iter().enumerate() {
                if verdict.items.insert(index) {
                    verdict.below(self.check(more, item, &format!("{at}/{index}"), depth + 1));
                }
            }
        }
    }
}

/// Adds what a key that is not in the schema was perhaps meant to be.
fn hint(fault: &mut Fault, at: &str, known: &[&str]) {
    let Some(name) = fault
        .pointer
        .strip_prefix(at)
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return;
    };
    if fault.message.ends_with("is not in the schema")
        && !name.contains('/')
        && let Some(hint) = crate::did_you_mean(name, known)
    {
        fault.message = format!("{}; {hint}", fault.message);
    }
}
