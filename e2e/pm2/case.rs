//! Cases as text: one file for each section of the contract, read from `cases/`.
//!
//! ```text
//! ## a name                      a case begins; words in [brackets] behind it are tags
//! env NAME=value                 in the environment of every step
//! file path/of/file              made in the working directory, with the lines that follow and begin with `| `
//! | its first line
//! $ pm2 start app.js             a line for bash: its exit code is compared, whether it says ERROR or WARN, prints a table
//! = pm2 pid                      its whole output is compared too (colours apart)
//! == pm2 jlist                   bytes as they are, but for pids, times, places
//! json pm2 jlist                 its standard output is one JSON document: keys, their order, values
//! until app.status == online     waits for a field of the record of every process of that name (`#0`: of that id)
//! until 20 app.restart_time > 3  the same with a deadline in seconds (25 if none is given)
//! until $ grep -q x out.txt      waits for a line for bash to end with 0
//! show app.restart_time #0.pid   values of records now
//! record app                     every key of its record
//! cat out.txt                    a file's text
//! rpc ping [{}]                  a method of the daemon, called without any command line
//! listen                         hears the bus from now on
//! heard process:event 3          the first three such events since then (waits for them)
//! pause 300                      milliseconds, where the passing of time itself is the matter
//! end none                       does not compare records and files of the home after the last step
//! ```

use std::time::Duration;

/// How much of what a command says counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// Whether it complains, whether it shows a table.
    Loosely,
    /// Every character but colours.
    Text,
    /// Every byte.
    Bytes,
    /// One JSON document.
    Json,
}

/// `NAME.FIELD OP VALUE`.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) field: Field,
    pub(crate) operator: String,
    pub(crate) value: String,
}

/// A field of the records of some processes.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// A name, `#ID`, or `*`.
    pub(crate) target: String,
    /// `count`, a key of the element, or of its `pm2_env`.
    pub(crate) key: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Run(Says, String),
    UntilRecord(Duration, Condition),
    UntilShell(Duration, String),
    Show(Vec<Field>),
    Record(String),
    Cat(String),
    Rpc(String, String),
    Listen,
    Heard(String, usize),
    Pause(Duration),
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// As written.
    pub(crate) text: String,
    pub(crate) action: Action,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    pub(crate) section: String,
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) files: Vec<(String, String)>,
    pub(crate) steps: Vec<Step>,
    /// Whether records and files are compared at the end.
    pub(crate) end: bool,
}

impl Case {
    pub(crate) fn tagged(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

/// Reads a file of cases.
pub(crate) fn parse(section: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |why: &str| format!("{section}:{}: {why}: {line}", index + 1);
        if let Some(title) = line.strip_prefix("## ") {
            cases.push(begin(section, title));
            continue;
        }
        let blank = line.trim().is_empty() || line.starts_with('#');
        let Some(case) = cases.last_mut() else {
            if blank {
                continue;
            }
            return Err(wrong("a step before the first case"));
        };
        if let Some(content) = line.strip_prefix('|') {
            let (_, text) = case.files.last_mut().ok_or_else(|| wrong("a line of no file"))?;
            text.push_str(content.strip_prefix(' ').unwrap_or(content));
            text.push('\n');
        } else if !blank {
            add(case, line.trim()).map_err(|why| wrong(&why))?;
        }
    }
    Ok(cases)
}

fn begin(section: &str, title: &str) -> Case {
    let (name, tags) = title.split_once('[').unwrap_or((title, ""));
    Case {
        section: section.to_owned(),
        name: name.trim().replace(' ', "_"),
        tags: tags
            .trim_end_matches(']')
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        end: true,
        ..Case::default()
    }
}

fn add(case: &mut Case, text: &str) -> Result<(), String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    let action = match word {
        "env" => {
            let (name, value) = rest.split_once('=').ok_or("no NAME=value")?;
            case.env.push((name.to_owned(), value.to_owned()));
            return Ok(());
        }
        "file" => {
            case.files.push((rest.to_owned(), String::new()));
            return Ok(());
        }
        "end" => {
            case.end = rest != "none";
            return Ok(());
        }
        "$" => Action::Run(Says::Loosely, rest.to_owned()),
        "=" => Action::Run(Says::Text, rest.to_owned()),
        "==" => Action::Run(Says::Bytes, rest.to_owned()),
        "json" => Action::Run(Says::Json, rest.to_owned()),
        "until" => until(rest)?,
        "show" => Action::Show(
            rest.split_whitespace()
                .map(field)
                .collect::<Option<_>>()
                .ok_or("no NAME.FIELD")?,
        ),
        "record" => Action::Record(rest.to_owned()),
        "cat" => Action::Cat(rest.to_owned()),
        "rpc" => {
            let (method, arguments) = rest.split_once(' ').unwrap_or((rest, "[{}]"));
            Action::Rpc(method.to_owned(), arguments.to_owned())
        }
        "listen" => Action::Listen,
        "heard" => {
            let (event, count) = rest.split_once(' ').unwrap_or((rest, "1"));
            Action::Heard(event.to_owned(), count.parse().map_err(|_| "no count")?)
        }
        "pause" => Action::Pause(Duration::from_millis(rest.parse().map_err(|_| "no time")?)),
        _ => return Err(format!("`{word}` is no step")),
    };
    case.steps.push(Step {
        text: text.to_owned(),
        action,
    });
    Ok(())
}

fn field(word: &str) -> Option<Field> {
    let (target, key) = word.split_once('.')?;
    Some(Field {
        target: target.to_owned(),
        key: key.to_owned(),
    })
}

fn until(rest: &str) -> Result<Action, String> {
    let (first, others) = rest.split_once(' ').unwrap_or((rest, ""));
    let (seconds, rest) = first.parse().map_or((25, rest), |seconds| (seconds, others));
    let deadline = Duration::from_secs(seconds);
    if let Some(shell) = rest.strip_prefix("$ ") {
        return Ok(Action::UntilShell(deadline, shell.to_owned()));
    }
    let mut words = rest.splitn(3, ' ');
    let (Some(name), Some(operator), Some(value)) = (words.next(), words.next(), words.next()) else {
        return Err("no NAME.FIELD OP VALUE".to_owned());
    };
    Ok(Action::UntilRecord(
        deadline,
        Condition {
            field: field(name).ok_or("no NAME.FIELD")?,
            operator: operator.to_owned(),
            value: value.to_owned(),
        },
    ))
}
