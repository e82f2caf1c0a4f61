//! From script, interpreter and arguments to the words that are executed.
//!
//! | extension | interpreter |
//! |---|---|
//! | `.js` `.mjs` `.cjs` | `node` |
//! | `.ts` `.mts` `.cts` `.tsx` | `bun` in PM2's files if there is one, else `node` (22.18 or later reads types) |
//! | `.py` | `python3`, else `python` |
//! | `.sh` | `bash`, else `sh` |
//! | `.rb` `.php` `.pl` | `ruby` `php` `perl` |
//! | any other, or none | itself, if it may be executed (in PM2's files a text that may not is for `node`) |

use std::path::Path;

use super::{Context, FileKind, join};
use crate::file::{
    At, Fault, Position, Style,
    split::{needs_shell, split_words},
    v1::{App, OneOrMany},
};

/// What is executed.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) words: Vec<String>,
    /// The name of an app that has none.
    pub(super) default_name: String,
    /// Whether Python runs it.
    pub(super) python: bool,
}

pub(super) fn resolve(
    app: &App,
    cwd: &Path,
    context: &Context<'_>,
    place: Option<Position>,
) -> Result<Command, Fault> {
    let label = app
        .name
        .as_ref()
        .map_or_else(|| "an app".to_owned(), |name| format!("app `{}`", name.value));
    let command = match (&app.script, &app.command) {
        (Some(_), Some(command)) => {
            return Err(Fault::new(
                command.position.or(place),
                format!("{label} has both `script` and `command`"),
            )
            .hint("`script` is a file to run, `command` a whole command line"));
        }
        (None, None) => {
            return Err(
                Fault::new(place, format!("{label} says neither `script` nor `command`"))
                    .hint("for example `script: server.js` or `command: ./bin/shop --port 3000`"),
            );
        }
        (Some(script), None) => from_script(app, script, cwd, context)?,
        (None, Some(command)) => from_command(app, command)?,
    };
    match command.words.iter().find(|word| word.contains('\0')) {
        Some(_) => Err(Fault::new(
            place,
            format!("{label}: its command contains a zero byte"),
        )),
        None => Ok(command),
    }
}

fn from_command(app: &App, command: &At<OneOrMany>) -> Result<Command, Fault> {
    if let Some(interpreter) = app
        .interpreter
        .as_ref()
        .filter(|interpreter| interpreter.value != "none")
    {
        return Err(Fault::new(
            interpreter.position,
            "`interpreter` belongs to `script`, not to `command`",
        ));
    }
    let mut words = match &command.value {
        OneOrMany::Many(words) => words.clone(),
        OneOrMany::One(line) if needs_shell(line) => {
            let default_name = shell_name(line);
            let mut words = vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()];
            words.extend(arguments(app.args.as_ref())?);
            return Ok(Command {
                words,
                default_name,
                python: false,
            });
        }
        OneOrMany::One(line) => split(line, command.position)?,
    };
    if words.first().is_none_or(String::is_empty) {
        return Err(Fault::new(command.position, "`command` is empty"));
    }
    words.extend(arguments(app.args.as_ref())?);
    let default_name = base_name(&words[0]);
    let python = default_name.starts_with("python");
    // `python3 -m http.server` and `node server.js` are better called by what they run.
    let default_name = match words.get(1) {
        Some(script) if is_interpreter(&default_name) && !script.starts_with('-') => base_name(script),
        _ => default_name,
    };
    Ok(Command {
        words,
        default_name,
        python,
    })
}

fn from_script(app: &App, script: &At<String>, cwd: &Path, context: &Context<'_>) -> Result<Command, Fault> {
    let facts = context.facts;
    let text = script.value.as_str();
    if text.trim().is_empty() {
        return Err(Fault::new(script.position, "`script` is empty"));
    }
    let path = join(cwd, text);
    let kind = (facts.file_kind)(&path);
    if kind.is_none() && text.contains(char::is_whitespace) {
        return line_as_script(app, text, script, context);
    }
    let Some(kind) = kind else {
        if !text.contains('/') && (facts.find_program)(text) {
            let mut words = vec![text.to_owned()];
            words.extend(arguments(app.args.as_ref())?);
            return Ok(Command {
                words,
                default_name: base_name(text),
                python: text.starts_with("python"),
            });
        }
        return Err(Fault::new(
            script.position,
            format!("there is no script `{}`", path.display()),
        )
        .hint("it is looked for in `cwd`, then, if it has no slash, as a program on the PATH"));
    };
    let interpreter = match &app.interpreter {
        Some(given) if given.value == "none" => None,
        Some(given) => Some(given.value.clone()),
        None => by_extension(&path, kind, context),
    };
    if interpreter.is_none() && kind != FileKind::Executable {
        return Err(Fault::new(
            script.position,
            format!("`{}` is no program: it may not be executed", path.display()),
        )
        .hint("make it executable (`chmod +x`), or say which `interpreter` runs it"));
    }
    let python = interpreter
        .as_deref()
        .is_some_and(|interpreter| base_name(interpreter).starts_with("python"));
    let mut words = Vec::new();
    if let Some(interpreter) = interpreter {
        words.extend(split(
            &interpreter,
            app.interpreter.as_ref().and_then(|given| given.position),
        )?);
        words.extend(arguments(app.interpreter_args.as_ref())?);
    }
    words.push(path.to_string_lossy().into_owned());
    words.extend(arguments(app.args.as_ref())?);
    Ok(Command {
        words,
        default_name: base_name(text),
        python,
    })
}

/// `script: "npm start"`: a command line, in PM2's files always for a shell.
fn line_as_script(
    app: &App,
    line: &str,
    script: &At<String>,
    context: &Context<'_>,
) -> Result<Command, Fault> {
    if context.style != Style::Pm2 {
        let command = At {
            value: OneOrMany::One(line.to_owned()),
            position: script.position,
        };
        return from_command(app, &command);
    }
    let shell = if (context.facts.find_program)("bash") {
        "bash"
    } else {
        "sh"
    };
    let mut words = vec![shell.to_owned(), "-c".to_owned(), line.to_owned()];
    words.extend(arguments(app.args.as_ref())?);
    Ok(Command {
        words,
        default_name: base_name(line),
        python: false,
    })
}

fn by_extension(path: &Path, kind: FileKind, context: &Context<'_>) -> Option<String> {
    let first_found = |names: [&str; 2]| {
        let found = if (context.facts.find_program)(names[0]) {
            names[0]
        } else {
            names[1]
        };
        Some(found.to_owned())
    };
    let one = |name: &str| Some(name.to_owned());
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or("")
        .to_ascii_lowercase();
    match extension.as_str() {
        "js" | "mjs" | "cjs" => one("node"),
        "ts" | "mts" | "cts" | "tsx" if context.style == Style::Pm2 => first_found(["bun", "node"]),
        "ts" | "mts" | "cts" | "tsx" => one("node"),
        "py" if (context.facts.find_program)("python3") => one("python3"),
        "py" => first_found(["python", "python3"]),
        "sh" => first_found(["bash", "sh"]),
        "rb" => one("ruby"),
        "php" => one("php"),
        "pl" => one("perl"),
        _ if context.style == Style::Pm2 && kind == FileKind::Text => one("node"),
        _ => None,
    }
}

fn arguments(written: Option<&At<OneOrMany>>) -> Result<Vec<String>, Fault> {
    match written {
        None => Ok(Vec::new()),
        Some(At {
            value: OneOrMany::Many(words),
            ..
        }) => Ok(words.clone()),
        Some(At {
            value: OneOrMany::One(line),
            position,
        }) => split(line, *position),
    }
}

fn split(line: &str, position: Option<Position>) -> Result<Vec<String>, Fault> {
    split_words(line).map_err(|error| Fault::new(position, format!("cannot be split into words: {error}")))
}

fn is_interpreter(name: &str) -> bool {
    ["node", "bun", "deno", "ruby", "perl", "php", "bash", "sh"].contains(&name) || name.starts_with("python")
}

/// The program of a shell's line: its first word that is no assignment.
fn shell_name(line: &str) -> String {
    let word = line
        .split_whitespace()
        .find(|word| !word.contains('='))
        .unwrap_or("sh");
    base_name(word.trim_matches(|character: char| "();&|<>'\"$`{}".contains(character)))
}

/// The last part of a path, cut at its last dot.
fn base_name(path: &str) -> String {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
    match last.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => last.to_owned(),
    }
}
