//! What the bus says from now on.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use upkeep_pm2::client::{Bus, Published};

use super::{Output, Target, line, text};
use crate::{
    context::{Context, Failure, out, pause},
    style::Style,
};

/// How often a daemon that has gone is looked for.
const AGAIN: Duration = Duration::from_millis(100);
/// How often [`Follow::until`] is asked.
const LOOK: Duration = Duration::from_millis(200);

/// What a line looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `0|name | text`, with a date before it if there is a format.
    Labelled(Option<String>),
    /// `name-0 | text`.
    Dev(Option<String>),
    /// Just the text; stderr's to stderr.
    Raw,
    /// One JSON object for each chunk.
    Json,
    /// `timestamp=… app=… id=… type=… message=…`.
    Pairs(Option<String>),
}

/// What is followed, and how it is shown.
pub(crate) struct Follow<'a> {
    /// Whose.
    pub(crate) target: Target,
    /// As what.
    pub(crate) form: Form,
    /// One output only.
    pub(crate) only: Option<Output>,
    /// A word that stands out.
    pub(crate) highlight: Option<String>,
    /// Starts, exits, … of apps as JSON objects too ([`Form::Json`]).
    pub(crate) events: bool,
    /// What came, before it is shown; `true` ends it all.
    pub(crate) hear: &'a mut dyn FnMut(&Published) -> Result<bool, Failure>,
    /// Asked now and then; `true` ends it all.
    pub(crate) until: &'a mut dyn FnMut() -> Result<bool, Failure>,
}

/// Prints until the user has had enough. A daemon that ends is waited for.
pub(crate) fn stream(context: &Context, follow: &mut Follow<'_>) -> Result<(), Failure> {
    let mut shown = Shown {
        style: context.style,
        labels: line::Labels::default(),
    };
    loop {
        if (follow.until)()? {
            return Ok(());
        }
        let Ok(mut bus) = Bus::connect(&context.home.publish) else {
            pause(AGAIN);
            continue;
        };
        // A failure to set it only means that the look comes later.
        let _ = bus.set_timeout(Some(LOOK));
        loop {
            match bus.next_event() {
                Ok(Some(published)) => {
                    if (follow.hear)(&published)? {
                        return Ok(());
                    }
                    shown.show(follow, &published)?;
                }
                Ok(None) => break,
                Err(error) if is_timeout(&error) => {}
                Err(_) => break,
            }
            if (follow.until)()? {
                return Ok(());
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

struct Shown {
    style: Style,
    labels: line::Labels,
}

impl Shown {
    fn show(&mut self, follow: &Follow<'_>, published: &Published) -> Result<(), Failure> {
        let output = match published.event.as_str() {
            "log:out" => Some(Output::Out),
            "log:err" => Some(Output::Err),
            "log:PM2" => None,
            "process:event" if follow.events && follow.form == Form::Json => {
                return process_event(follow, &published.payload);
            }
            _ => return Ok(()),
        };
        let payload = &published.payload;
        let Some(process) = payload.get("process") else {
            return Ok(());
        };
        if follow.only.is_some() && follow.only != output {
            return Ok(());
        }
        let id = process.get("pm_id").and_then(Value::as_u64);
        let name = text(process, "name");
        let wanted = match output {
            Some(_) => follow.target.takes(id, name, text(process, "namespace")),
            None => follow.target.takes_daemon(),
        };
        if !wanted {
            return Ok(());
        }
        let line = Line {
            output,
            id,
            name,
            text: text(payload, "data"),
            at: payload.get("at").and_then(Value::as_i64).unwrap_or_else(now_ms),
        };
        self.print(follow, &line)
    }

    fn print(&mut self, follow: &Follow<'_>, line: &Line<'_>) -> Result<(), Failure> {
        match &follow.form {
            Form::Json => return line.print_json(),
            Form::Raw if line.output == Some(Output::Err) => {
                let mut stderr = io::stderr().lock();
                for text in line.lines() {
                    writeln!(stderr, "{text}")?;
                }
                return Ok(());
            }
            _ => {}
        }
        for text in line.lines() {
            let shown = match &follow.form {
                Form::Raw | Form::Json => text.to_owned(),
                Form::Labelled(format) => {
                    let label = match line.output {
                        None => self.labels.daemon(),
                        Some(_) => self.labels.of(&format!("{}|{}", line.id(), line.name)),
                    };
                    self.labelled(follow, line, format.as_deref(), &label, text)
                }
                Form::Dev(format) => {
                    let label = self.labels.of(&format!("{}-{}", line.name, line.id()));
                    self.labelled(follow, line, format.as_deref(), &label, text)
                }
                Form::Pairs(format) => format!(
                    "timestamp={} app={} id={} type={} message={text}",
                    upkeep_pm2::date::format(format.as_deref().unwrap_or("YYYY-MM-DD-HH:mm:ssZZ"), line.at),
                    line.name,
                    line.id(),
                    match line.output {
                        Some(Output::Out) => "out",
                        Some(Output::Err) => "error",
                        None => "PM2",
                    }
                ),
            };
            out(format_args!("{shown}\n"))?;
        }
        Ok(())
    }

    fn labelled(
        &self,
        follow: &Follow<'_>,
        line: &Line<'_>,
        format: Option<&str>,
        label: &str,
        text: &str,
    ) -> String {
        let style = self.style;
        let date = format.map_or_else(String::new, |format| {
            style.dim(style.grey(format!("{} ", upkeep_pm2::date::format(format, line.at))))
        });
        let label = match line.output {
            Some(Output::Out) => style.green(label),
            Some(Output::Err) => style.red(label),
            None => style.blue(label),
        };
        format!(
            "{date}{label}{}",
            line::highlight(style, text, follow.highlight.as_deref())
        )
    }
}

struct Line<'a> {
    output: Option<Output>,
    id: Option<u64>,
    name: &'a str,
    text: &'a str,
    at: i64,
}

impl<'a> Line<'a> {
    fn id(&self) -> String {
        self.id.map_or_else(|| "PM2".to_owned(), |id| id.to_string())
    }

    /// Empty lines say nothing.
    fn lines(&self) -> impl Iterator<Item = &'a str> {
        self.text.split('\n').filter(|line| !line.is_empty())
    }

    fn print_json(&self) -> Result<(), Failure> {
        let object = json!({
            "message": self.text.replace('\n', ""),
            "timestamp": iso(self.at),
            "type": match self.output {
                Some(Output::Out) => "out",
                Some(Output::Err) => "err",
                None => "PM2",
            },
            "process_id": self.id.map_or_else(|| json!("PM2"), |id| json!(id)),
            "app_name": self.name,
        });
        out(format_args!("{object}\n"))
    }
}

fn process_event(follow: &Follow<'_>, payload: &Value) -> Result<(), Failure> {
    let Some(process) = payload.get("process") else {
        return Ok(());
    };
    let id = process.get("pm_id").and_then(Value::as_u64);
    let name = text(process, "name");
    if !follow.target.takes(id, name, text(process, "namespace")) {
        return Ok(());
    }
    let object = json!({
        "timestamp": iso(payload.get("at").and_then(Value::as_i64).unwrap_or_else(now_ms)),
        "type": "process_event",
        "status": text(payload, "event"),
        "app_name": name,
    });
    out(format_args!("{object}\n"))
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

/// As `Date.prototype.toISOString` of JavaScript: UTC with milliseconds.
fn iso(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_has_milliseconds() {
        assert_eq!(iso(1_795_380_475_220), "2026-11-22T20:47:55.220Z");
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn empty_lines_say_nothing() {
        let line = Line {
            output: None,
            id: None,
            name: "",
            text: "x1\n\nx2\nx3",
            at: 0,
        };
        assert_eq!(line.lines().collect::<Vec<_>>(), ["x1", "x2", "x3"]);
    }
}
