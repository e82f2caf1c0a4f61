//! The only place that prints.
//!
//! Standard output carries data: a table, a document, lines. Standard error carries everything said beside it. Colours
//! follow `--color`, then `NO_COLOR`, `CLICOLOR_FORCE` and `FORCE_COLOR`, then whether the stream is a terminal; states
//! are words, and colour only underlines them.

pub(crate) mod clean;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod progress;
pub(crate) mod schedule;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod values;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::args::{Color, Global};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) color: bool,
    color_errors: bool,
}

/// Colours by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Good,
    Busy,
    Bad,
    Quiet,
    Strong,
}

impl Paint {
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Busy => "33",
            Self::Bad => "31",
            Self::Quiet => "2",
            Self::Strong => "1",
        }
    }
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            json: global.json,
            color: wants_color(global.color, io::stdout().is_terminal()),
            color_errors: wants_color(global.color, io::stderr().is_terminal()),
        }
    }

    /// Text in a colour, if colours are wanted.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        painted(self.color, paint, text)
    }

    /// Data: a document.
    #[expect(clippy::unused_self, reason = "everything printed goes through the output")]
    pub(crate) fn document(self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    /// Data: text.
    #[expect(clippy::unused_self, reason = "everything printed goes through the output")]
    pub(crate) fn text(self, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') && !text.is_empty() {
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(())
    }

    /// Something said beside the data.
    #[expect(clippy::unused_self, reason = "everything printed goes through the output")]
    pub(crate) fn say(self, text: &str) {
        // If nobody can be told, there is nobody to tell that to.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A warning.
    pub(crate) fn warn(self, text: &str) {
        self.say(&format!(
            "{}: {text}",
            painted(self.color_errors, Paint::Busy, "warning")
        ));
    }

    /// An error with its hint.
    pub(crate) fn error(self, text: &str, hint: Option<&str>) {
        self.say(&format!(
            "{}: {text}",
            painted(self.color_errors, Paint::Bad, "error")
        ));
        if let Some(hint) = hint {
            self.say(&format!(
                "{}: {hint}",
                painted(self.color_errors, Paint::Strong, "hint")
            ));
        }
    }
}

fn painted(color: bool, paint: Paint, text: &str) -> String {
    if color {
        format!("\x1b[{}m{text}\x1b[0m", paint.code())
    } else {
        text.to_owned()
    }
}

fn wants_color(choice: Color, is_terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto if set("CLICOLOR_FORCE") || set("FORCE_COLOR") => true,
        Color::Auto => is_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
    }
}

/// Width of the terminal: `COLUMNS`, the terminal's own word, or none.
pub(crate) fn width() -> Option<u16> {
    if let Some(columns) = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()) {
        return Some(columns);
    }
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|columns| *columns > 0)
}
