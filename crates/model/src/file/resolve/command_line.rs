//! An app from the words of `upkeep start`.

use std::collections::BTreeMap;

use super::{Facts, Resolved, resolve};
use crate::{
    file::{At, FileError, Style, Written, ecosystem::pm2_defaults, v1},
    restart::RestartOn,
    size::Span,
};

/// What was typed. `upkeep start api.js -i 2 -- --port 3000`, `upkeep start "python3 -m http.server 8000"`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandLine {
    /// The words before `--`: a script (and its arguments), or one word with blanks, which is a command line.
    pub words: Vec<String>,
    /// The words after `--`: arguments, as they are.
    pub args: Vec<String>,
    /// `--name`.
    pub name: Option<String>,
    /// `--namespace`.
    pub namespace: Option<String>,
    /// `--cwd`.
    pub cwd: Option<String>,
    /// `-i`: a number or `max`.
    pub instances: Option<String>,
    /// `--interpreter`.
    pub interpreter: Option<String>,
    /// `--interpreter-args`: a line.
    pub interpreter_args: Option<String>,
    /// `--env KEY=value`.
    pub env: BTreeMap<String, String>,
    /// `--env-file`.
    pub env_files: Vec<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--group`.
    pub group: Option<String>,
    /// `--restart`.
    pub restart: Option<RestartOn>,
    /// `--stop-signal`.
    pub stop_signal: Option<i32>,
    /// `--grace`.
    pub grace: Option<Span>,
    /// `--no-autostart` makes it false.
    pub autostart: Option<bool>,
    /// Whose defaults hold.
    pub style: Style,
}

/// What a command line asks for. Errors name `command line` as their file.
pub fn from_command_line(line: CommandLine, facts: &Facts<'_>) -> Result<Resolved, FileError> {
    const PATH: &str = "command line";
    let refuse = |message: String| FileError {
        path: PATH.to_owned(),
        position: None,
        message,
        hint: None,
    };
    let mut words = line.words.into_iter();
    let Some(script) = words.next() else {
        return Err(refuse("nothing to start is named".to_owned()));
    };
    let args: Vec<String> = words.chain(line.args).collect();
    let instances = match line.instances.as_deref() {
        None => None,
        Some("max" | "0") => Some(v1::Instances::Max),
        Some(text) => {
            let count = text
                .parse::<i32>()
                .ok()
                .filter(|count| count.unsigned_abs() <= v1::INSTANCES_MAX);
            let count = count
                .ok_or_else(|| refuse(format!("expected a number of instances or `max`, found `{text}`")))?;
            Some(match u32::try_from(count) {
                Ok(count) => v1::Instances::Count(count),
                Err(_) => v1::Instances::MaxLess(count.unsigned_abs()),
            })
        }
    };
    let restart = line.restart.map(|on| {
        v1::Restart(v1::RestartSpec {
            on: Some(on),
            ..v1::RestartSpec::default()
        })
    });
    let stop = v1::Stop {
        signal: line.stop_signal.map(v1::SignalName),
        grace: line.grace,
        tree: None,
    };
    let mut app = v1::App {
        script: Some(script.into()),
        args: Some(v1::OneOrMany::Many(args).into())
            .filter(|args: &At<_>| args.value != v1::OneOrMany::Many(Vec::new())),
        name: line.name.map(At::from),
        namespace: line.namespace.map(At::from),
        cwd: line.cwd,
        instances: instances.map(At::from),
        interpreter: line.interpreter.map(At::from),
        interpreter_args: line.interpreter_args.map(|args| v1::OneOrMany::One(args).into()),
        env: Some(
            line.env
                .into_iter()
                .map(|(name, value)| (name, v1::Scalar(value)))
                .collect(),
        ),
        env_file: Some(line.env_files)
            .filter(|files| !files.is_empty())
            .map(|files| v1::OneOrMany::Many(files).into()),
        user: line.user.map(At::from),
        group: line.group.map(At::from),
        restart: restart.map(At::from),
        stop: Some(stop.into()),
        autostart: line.autostart,
        ..v1::App::default()
    };
    if line.style == Style::Pm2 {
        pm2_defaults(&mut app);
    }
    let written = Written {
        path: PATH.to_owned(),
        style: line.style,
        apps: vec![app.into()],
        warnings: Vec::new(),
    };
    resolve(written, facts)
}
