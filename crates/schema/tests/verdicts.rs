//! Our verdicts on values beside those of the reference implementation, Python's `jsonschema`.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use upkeep_schema::{Judge, Way};
use upkeep_testkit::python;

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*, by Vigna.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.roll(of.len() as u64)).expect("small")]
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.roll(if depth == 0 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => json!(self.roll(2) == 0),
            2 => json!(self.roll(5)),
            3 => json!(self.roll(8) as f64 / 2.0),
            4 | 5 => json!(self.pick(&["", "a", "b", "ab", "äöü", "12"])),
            6 => (0..self.roll(4)).map(|_| self.value(depth - 1)).collect(),
            _ => (0..self.roll(4))
                .map(|_| {
                    (
                        self.pick(&["a", "b", "c", "ab"]).to_owned(),
                        self.value(depth - 1),
                    )
                })
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    fn names(&mut self) -> Value {
        let mut names: Vec<_> = (0..=self.roll(2)).map(|_| self.pick(&["a", "b", "c"])).collect();
        names.sort_unstable();
        names.dedup();
        json!(names)
    }

    fn schemas(&mut self, depth: u32) -> Value {
        (0..=self.roll(2)).map(|_| self.schema(depth)).collect()
    }

    fn schema(&mut self, depth: u32) -> Value {
        if self.roll(12) == 0 {
            return json!(self.roll(3) > 0);
        }
        let mut schema = serde_json::Map::new();
        for _ in 0..=self.roll(3) {
            let below = depth.saturating_sub(1);
            let (key, value) = match self.roll(if depth == 0 { 13 } else { 30 }) {
                0 => {
                    let one = self.pick(&[
                        "null", "boolean", "object", "array", "string", "number", "integer",
                    ]);
                    ("type", json!(one))
                }
                1 => {
                    let other = self.pick(&["null", "object", "array", "number"]);
                    ("type", json!(["string", other]))
                }
                2 => ("enum", json!([self.value(1), self.value(1), 1, "a"])),
                3 => ("const", self.value(1)),
                4 => ("minimum", json!(self.roll(4))),
                5 => ("exclusiveMaximum", json!(self.roll(5))),
                6 => (
                    "multipleOf",
                    json!(self.pick(&["1", "2", "0.5"]).parse::<f64>().expect("a number")),
                ),
                7 => ("minLength", json!(self.roll(3))),
                8 => ("maxLength", json!(self.roll(3))),
                9 => ("pattern", json!(self.pick(&["^a", "b$", "[0-9]+", "ö"]))),
                10 => ("required", self.names()),
                11 => ("minItems", json!(self.roll(3))),
                12 => ("uniqueItems", json!(true)),
                13 | 14 => (
                    "properties",
                    json!({"a": self.schema(below), "b": self.schema(below)}),
                ),
                15 => ("patternProperties", json!({"^a": self.schema(below)})),
                16 => ("additionalProperties", self.schema(below)),
                17 => ("propertyNames", self.schema(below)),
                18 => ("items", self.schema(below)),
                19 => ("prefixItems", self.schemas(below)),
                20 => ("contains", self.schema(below)),
                21 => ("allOf", self.schemas(below)),
                22 => ("anyOf", self.schemas(below)),
                23 => ("oneOf", self.schemas(below)),
                24 => ("not", self.schema(below)),
                25 => {
                    schema.insert("then".to_owned(), self.schema(below));
                    schema.insert("else".to_owned(), self.schema(below));
                    ("if", self.schema(below))
                }
                26 => ("unevaluatedProperties", self.schema(below)),
                27 => ("unevaluatedItems", self.schema(below)),
                28 => ("dependentSchemas", json!({"a": self.schema(below)})),
                _ => ("dependentRequired", json!({"a": ["b"]})),
            };
            schema.insert(key.to_owned(), value);
        }
        Value::Object(schema)
    }
}

const JUDGE: &str = "\
import json, sys
from jsonschema import Draft202012Validator
cases = json.load(sys.stdin)
json.dump([Draft202012Validator(schema).is_valid(value) for schema, value in cases], sys.stdout)
";

fn of_python(cases: &[(Value, Value)]) -> Vec<bool> {
    let folder = python::json_schema().expect("jsonschema of Python");
    let mut child = Command::new("python3")
        .args(["-c", JUDGE])
        .env("PYTHONPATH", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut input = child.stdin.take().expect("a pipe");
    let text = serde_json::to_vec(cases).expect("json");
    let writer = std::thread::spawn(move || input.write_all(&text));
    let output = child.wait_with_output().expect("python3 ends");
    writer.join().expect("a thread").expect("cases are taken");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("verdicts")
}

#[test]
fn verdicts_are_those_of_python_s_jsonschema() {
    let mut dice = Dice(0x5EED_D0C5);
    let cases: Vec<(Value, Value)> = (0..6000).map(|_| (dice.schema(3), dice.value(3))).collect();
    let theirs = of_python(&cases);
    assert_eq!(theirs.len(), cases.len());
    let fitting = theirs.iter().filter(|fits| **fits).count();
    // Neither half may be nearly empty, or this compares nothing.
    assert!(
        (1000..5000).contains(&fitting),
        "{fitting} of {} fit",
        cases.len()
    );
    for ((schema, value), theirs) in cases.iter().zip(theirs) {
        let faults = Judge::new(schema, false, Way::Response).judge(schema, value);
        assert_eq!(faults.is_empty(), theirs, "{schema} on {value}: {faults:?}");
    }
}
