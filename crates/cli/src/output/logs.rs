//! Log lines for people: time, source in a colour of its own, text.

use std::collections::HashMap;

use upkeep_api::body::{LogLine, Stream};

use super::{Output, Paint, time::Clock};

/// Colours that can be told apart on light and dark ground.
const COLORS: [&str; 6] = ["36", "35", "34", "32", "33", "96"];

/// Prints lines of several sources so that they can be told apart.
#[derive(Debug)]
pub(crate) struct Printer {
    output: Output,
    raw: bool,
    clock: Clock,
    seen: HashMap<String, &'static str>,
    /// Widest source so far.
    wide: usize,
}

impl Printer {
    pub(crate) fn new(output: Output, raw: bool) -> Self {
        Self {
            output,
            raw,
            clock: Clock::local(),
            seen: HashMap::new(),
            wide: 0,
        }
    }

    /// A line as it is shown; `None`: it is not for this reader.
    pub(crate) fn line(&mut self, line: &LogLine) -> Option<String> {
        if line.notice && line.line.is_empty() {
            return None;
        }
        if self.output.json {
            return serde_json::to_string(line).ok();
        }
        let source = match line.index {
            Some(index) => format!("{}:{index}", line.app),
            None => line.app.to_string(),
        };
        if line.notice {
            let text = format!("-- {source}: {}", line.line);
            return (!self.raw).then(|| self.output.paint(Paint::Quiet, &text));
        }
        if self.raw {
            return Some(line.line.clone());
        }
        self.wide = self.wide.max(source.chars().count());
        // Never colour alone: standard error has a mark of its own.
        let mark = match line.stream {
            Stream::Out => '|',
            Stream::Err => '!',
        };
        let label = format!("{source:wide$} {mark}", wide = self.wide);
        let label = if self.output.color {
            let next = COLORS[self.seen.len() % COLORS.len()];
            let color = *self.seen.entry(source).or_insert(next);
            format!("\x1b[{color}m{label}\x1b[0m")
        } else {
            label
        };
        let time = self.output.paint(Paint::Quiet, &self.clock.text(line.at));
        let more = if line.partial { " …" } else { "" };
        Some(format!("{time} {label} {}{more}", line.line))
    }
}
