//! Log lines for people: time, source in a colour of its own, text. And for programs: a document each.

use std::collections::HashMap;

use serde_json::json;
use upkeep_api::body::{LogLine, Stream};

use super::{Output, Paint, time, time::Clock};
use crate::args::{Logs, Timestamps};

/// Colours that can be told apart on light and dark ground.
const COLORS: [&str; 6] = ["36", "35", "34", "32", "33", "96"];

/// What is shown of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Notices, and a mark behind pieces of lines.
    notes: bool,
    source: bool,
    times: Timestamps,
}

impl Look {
    /// Everything.
    pub(crate) const FULL: Self = Self {
        notes: true,
        source: true,
        times: Timestamps::Local,
    };

    /// Everything, or only the text.
    pub(crate) const fn plain(raw: bool) -> Self {
        if raw {
            Self {
                notes: false,
                source: false,
                times: Timestamps::None,
            }
        } else {
            Self::FULL
        }
    }

    /// What the options say.
    pub(crate) fn of(logs: &Logs) -> Self {
        if logs.raw {
            return Self::plain(true);
        }
        Self {
            notes: true,
            source: !logs.no_prefix,
            times: if logs.utc {
                Timestamps::Utc
            } else {
                logs.timestamps
            },
        }
    }
}

/// Prints lines of several sources so that they can be told apart.
#[derive(Debug)]
pub(crate) struct Printer {
    output: Output,
    look: Look,
    clock: Clock,
    host: String,
    seen: HashMap<String, &'static str>,
    /// Widest source so far.
    wide: usize,
}

impl Printer {
    pub(crate) fn new(output: Output, look: Look) -> Self {
        Self {
            output,
            look,
            clock: Clock::local(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            seen: HashMap::new(),
            wide: 0,
        }
    }

    /// The keys of `format: json`, so that files and this command speak one language.
    fn document(&self, line: &LogLine) -> String {
        let mut document = json!({
            "time": time::rfc3339(line.at),
            "app": line.app,
            "instance": line.index,
            "host": self.host,
            "stream": line.stream,
            "message": line.line,
        });
        if let Some(keys) = document.as_object_mut() {
            if line.index.is_none() {
                keys.shift_remove("instance");
            }
            if line.partial {
                keys.insert("partial".to_owned(), true.into());
            }
            if line.notice {
                keys.insert("notice".to_owned(), true.into());
            }
        }
        document.to_string()
    }

    /// A line as it is shown; `None`: it is not for this reader.
    pub(crate) fn line(&mut self, line: &LogLine) -> Option<String> {
        if line.notice && line.line.is_empty() {
            return None;
        }
        if self.output.json {
            return Some(self.document(line));
        }
        let source = match line.index {
            Some(index) => format!("{}:{index}", line.app),
            None => line.app.to_string(),
        };
        if line.notice {
            let text = format!("-- {source}: {}", line.line);
            return self.look.notes.then(|| self.output.paint(Paint::Quiet, &text));
        }
        let mut shown = match self.look.times {
            Timestamps::None => String::new(),
            Timestamps::Local => self.output.paint(Paint::Quiet, &self.clock.text(line.at)) + " ",
            Timestamps::Utc => self.output.paint(Paint::Quiet, &time::rfc3339(line.at)) + " ",
        };
        if self.look.source {
            shown += &self.label(source, line.stream);
        }
        shown += &line.line;
        if self.look.notes && line.partial {
            shown += " …";
        }
        Some(shown)
    }

    fn label(&mut self, source: String, stream: Stream) -> String {
        self.wide = self.wide.max(source.chars().count());
        // Never colour alone: standard error has a mark of its own.
        let mark = match stream {
            Stream::Out => '|',
            Stream::Err => '!',
        };
        let label = format!("{source:wide$} {mark}", wide = self.wide);
        if self.output.color {
            let next = COLORS[self.seen.len() % COLORS.len()];
            let color = *self.seen.entry(source).or_insert(next);
            format!("\x1b[{color}m{label}\x1b[0m ")
        } else {
            label + " "
        }
    }
}
