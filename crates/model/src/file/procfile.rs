//! Procfiles: `name: command`, one a line.

use std::collections::BTreeMap;

use super::{
    At, Fault, Position,
    v1::{App, OneOrMany},
};

/// Reads a Procfile. Commands are lines as in `command`.
pub fn parse(text: &str) -> Result<Vec<At<App>>, Fault> {
    let mut apps = Vec::new();
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().zip(1..) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let start = Position {
            line: number,
            column: Position::of_offset(line, indent).column,
        };
        let Some((name, command)) = trimmed.split_once(':') else {
            return Err(Fault::new(start, "expected `name: command`").hint("comments start with `#`"));
        };
        let valid = |character: char| character.is_alphanumeric() || "_-.".contains(character);
        if name.is_empty() || !name.chars().all(valid) {
            return Err(Fault::new(
                start,
                format!("`{}` cannot be the name of a process", name.escape_debug()),
            )
            .hint("letters, digits, `_`, `-` and `.` are allowed"));
        }
        if let Some(first) = seen.insert(name, number) {
            return Err(Fault::new(
                start,
                format!("process `{name}` is given twice, first on line {first}"),
            ));
        }
        let command = command.trim();
        if command.is_empty() {
            return Err(Fault::new(start, format!("process `{name}` has no command")));
        }
        let command_start = line.trim_end().len() - command.len();
        let command_at = Position {
            line: number,
            column: Position::of_offset(line, command_start).column,
        };
        let app = App {
            name: Some(At {
                value: name.to_owned(),
                position: Some(start),
            }),
            command: Some(At {
                value: OneOrMany::One(command.to_owned()),
                position: Some(command_at),
            }),
            ..App::default()
        };
        apps.push(At {
            value: app,
            position: Some(start),
        });
    }
    if apps.is_empty() {
        return Err(
            Fault::new(None, "no process is described here").hint("a line looks like `web: node server.js`")
        );
    }
    Ok(apps)
}
