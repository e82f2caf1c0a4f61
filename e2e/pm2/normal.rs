//! What two runs of the same thing may differ in, taken out: places, pids, times, figures.

use std::collections::BTreeSet;

use regex::{Captures, Regex};
use serde_json::Value;

/// Knows one side's own marks.
#[derive(Debug)]
pub(crate) struct Normal {
    root: String,
    /// Every pid that was seen in a record, or in a pid file.
    pub(crate) pids: BTreeSet<u64>,
    colours: Regex,
    patterns: Vec<(Regex, &'static str)>,
    numbers: Regex,
}

impl Normal {
    pub(crate) fn new(root: &str) -> Self {
        let regex = |text: &str| Regex::new(text).expect("patterns of this file are right");
        Self {
            root: root.to_owned(),
            pids: BTreeSet::new(),
            colours: regex("\x1b\\[[0-9;?]*[A-Za-z]"),
            patterns: vec![
                (
                    regex("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
                    "<uuid>",
                ),
                (
                    regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"),
                    "<date>",
                ),
                (regex(r"\d{4}-\d\d-\d\d-\d\d:\d\d:\d\d[+-]\d{4}"), "<date>"),
                (regex(r"\b1[789]\d{11}\b"), "<time>"),
                (regex(r"\b\d+(\.\d+)?(mb|kb)\b"), "<size>"),
                (regex(r"\b\d+(\.\d+)?%"), "<share>"),
            ],
            numbers: regex(r"\b\d{2,7}\b"),
        }
    }

    /// Without colours.
    pub(crate) fn plain(&self, text: &str) -> String {
        self.colours.replace_all(text, "").into_owned()
    }

    /// A text without what differs by nature. In lines of tables, runs of blanks and of lines are one.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.replace(&self.root, "/ROOT");
        for (pattern, name) in &self.patterns {
            text = pattern.replace_all(&text, *name).into_owned();
        }
        let text = self.numbers.replace_all(&text, |found: &Captures| {
            let number = found[0].parse().unwrap_or(0);
            if self.pids.contains(&number) {
                "<pid>".to_owned()
            } else {
                found[0].to_owned()
            }
        });
        text.lines()
            .map(|line| {
                if line.contains(['│', '─']) {
                    squeezed(line)
                } else {
                    line.to_owned()
                }
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Remembers the pids of records.
    pub(crate) fn learn(&mut self, records: &[Value]) {
        for record in records {
            self.pids.extend(record["pid"].as_u64().filter(|&pid| pid > 1));
        }
    }

    /// A JSON document as lines, `path = value`, in its own order.
    pub(crate) fn json(&self, path: &str, value: &Value, lines: &mut Vec<String>) {
        let key = path.rsplit('.').next().unwrap_or(path);
        match value {
            // Metrics come and change as they like; a case that wants them waits for them.
            Value::Object(_) if key == "axm_monitor" => lines.push(format!("{path} = <metrics>")),
            Value::Array(_) if key == "_tree_pids" => lines.push(format!("{path} = <pids>")),
            Value::Object(map) if map.is_empty() => lines.push(format!("{path} = {{}}")),
            Value::Object(map) => {
                for (key, value) in map {
                    self.json(&format!("{path}.{key}"), value, lines);
                }
            }
            Value::Array(list) if list.is_empty() => lines.push(format!("{path} = []")),
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    self.json(&format!("{path}[{index}]"), value, lines);
                }
            }
            Value::Number(number) => {
                let large = number.as_f64().unwrap_or(0.0);
                let shown = match key {
                    "pid" if large > 1.0 => "<pid>".to_owned(),
                    "pm_uptime" | "created_at" | "at" if large > 1.0e12 => "<time>".to_owned(),
                    "memory" | "cpu" => "<figure>".to_owned(),
                    // An exit counts as unstable in the first second, and a slow machine takes longer for a case.
                    "unstable_restarts" if path.contains(".pm2_env.") => "<count>".to_owned(),
                    _ => self.text(&number.to_string()),
                };
                lines.push(format!("{path} = {shown}"));
            }
            Value::String(text) => lines.push(format!("{path} = {:?}", self.text(text))),
            Value::Null | Value::Bool(_) => lines.push(format!("{path} = {value}")),
        }
    }
}

/// Widths of columns follow from pids and figures.
fn squeezed(line: &str) -> String {
    let mut squeezed = String::with_capacity(line.len());
    for character in line.chars() {
        if !([' ', '─'].contains(&character) && squeezed.ends_with(character)) {
            squeezed.push(character);
        }
    }
    squeezed
}
