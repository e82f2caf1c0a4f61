//! Every case is also shown by Node, and must be the same.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Map, Value, json};

use super::inspect;

/// What Node shows for each value.
fn shown_by_node(values: &[Value]) -> Vec<String> {
    let script = "const list = JSON.parse(require('fs').readFileSync(0));
        const inspect = require('util').inspect;
        process.stdout.write(JSON.stringify(list.map(value => inspect(value, false, null, false))));";
    let mut child = Command::new("node")
        .args(["-e", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is needed for this test");
    let text = serde_json::to_vec(values).expect("JSON");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&text).expect("write to node");
    drop(stdin);
    let output = child.wait_with_output().expect("node");
    assert!(output.status.success(), "node failed");
    serde_json::from_slice(&output.stdout).expect("JSON of node")
}

fn compare(values: Vec<Value>) {
    let expected = shown_by_node(&values);
    let mut wrong: Vec<(String, &String, &Value)> = values
        .iter()
        .zip(&expected)
        .map(|(value, expected)| (inspect(value), expected, value))
        .filter(|(shown, expected, _)| shown != *expected)
        .collect();
    // The smallest says most.
    wrong.sort_by_key(|(shown, ..)| shown.len());
    if let Some((shown, expected, value)) = wrong.first() {
        let count = wrong.len();
        panic!("{count} differ, the smallest is {value}\nours:\n{shown}\nnode:\n{expected}");
    }
}

#[test]
fn what_is_special_looks_as_in_node() {
    compare(vec![
        json!({"a": 1, "b-c": 2, "1x": 3, "1": 4, "0": 1, "$a": 1, "it's": 1, "é": 1, "": 0, "__proto__x": 2}),
        json!("it's"),
        json!("it's \"q\""),
        json!("it's \"q\" `b`"),
        json!("it's \"q\" ${b}"),
        json!("a\nb\tc\u{1}\u{b}\u{7f}\u{80}\u{9f}é\\ \u{8} \u{c} \r 日本 🦀"),
        json!([
            -0.0,
            1e21,
            1.5,
            1e-7,
            123_456_789_012_345_678_901_234.0,
            0.000_001,
            1e300,
            -2.5e-9,
            9_007_199_254_740_993_u64
        ]),
        json!({}),
        json!([]),
        json!(null),
        json!({"a": {"b": {"c": {}}}, "d": [], "e": {"f": {"g": {"h": {"i": 1}}}}}),
        json!((0..7).collect::<Vec<_>>()),
        json!((0..100).collect::<Vec<_>>()),
        json!((0..101).collect::<Vec<_>>()),
        json!((0..250).map(|n| n * n).collect::<Vec<_>>()),
        json!((0..20).map(|n| "日".repeat(n % 5)).collect::<Vec<_>>()),
        json!("x".repeat(9_999)),
        json!("x".repeat(10_001)),
        json!("x".repeat(10_020)),
        json!({"a": "line one is rather long\nline two is rather long as well\nit's three, and the last\n"}),
        json!(["line one is rather long, so long that it folds\nline two is rather long as well\n\nx"]),
        json!({"a": "x".repeat(57), "b": 1}),
        json!({"a": "x".repeat(58), "b": 1}),
        json!({"a": "x".repeat(59), "b": 1}),
    ]);
}

/// A generator with a seed, so that a failure comes back.
struct Seed(u64);

impl Seed {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn text(&mut self) -> String {
        const PARTS: [&str; 12] = [
            "a", "'", "\"", "`", "\n", "word ", "/usr/bin", "0", "é", "日本", "_x", "\\",
        ];
        let most = if self.below(6) == 0 { 40 } else { 6 };
        let count = self.below(most);
        let index = |seed: &mut Self| usize::try_from(seed.below(12)).expect("small");
        (0..count).map(|_| PARTS[index(self)]).collect()
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => json!(self.below(3) == 0),
            1 => json!(self.below(100_000)),
            2 => json!(self.below(1000) as f64 / 8.0),
            3 => json!(self.text()),
            4 => Value::Null,
            5 | 6 => {
                let count = self.below(9);
                (0..count)
                    .map(|_| (self.text(), self.value(depth - 1)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            _ => {
                let count = self.below(30);
                if self.below(2) == 0 {
                    return (0..count).map(|_| self.value(0)).collect();
                }
                (0..count).map(|_| self.value(depth - 1)).collect()
            }
        }
    }
}

#[test]
fn generated_values_look_as_in_node() {
    let mut seed = Seed(0x5eed_0042_1234_9876);
    compare((0..3000).map(|_| seed.value(5)).collect());
}
