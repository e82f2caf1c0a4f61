//! Arguments, read as commander 2 reads them.
//!
//! What a user can see of that: options may stand anywhere; one that the program does not know goes to the command,
//! together with the next word unless that begins with a dash; `-abc` is `-a -b -c`; `--opt=value` is two words; an
//! optional value is not taken from a word that begins with a dash.

use std::{ffi::OsString, fmt::Write as _};

mod table;
#[cfg(test)]
mod tests;

pub use table::{COMMANDS, GLOBAL};

/// An option: `-n --name <name>`, and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// As commander writes them: short and long form, then `<required>` or `[optional]`.
    pub flags: &'static str,
    /// For the help.
    pub about: &'static str,
}

/// A command: `delete|del <name...>`.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec {
    /// Name, alias and operands.
    pub usage: &'static str,
    /// For the help.
    pub about: &'static str,
    /// Options that only this command knows.
    pub options: &'static [OptionSpec],
}

/// What a program understands.
#[derive(Clone, Copy, Debug)]
pub struct Syntax {
    /// The first line of the help.
    pub usage: &'static str,
    /// Options that may stand anywhere.
    pub options: &'static [OptionSpec],
    /// Commands; empty for a program without.
    pub commands: &'static [CommandSpec],
}

/// Of `pm2`.
pub const PM2: Syntax = Syntax {
    usage: "pm2 [cmd] app",
    options: GLOBAL,
    commands: COMMANDS,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Optional,
    Required,
}

impl OptionSpec {
    fn words(&self) -> impl Iterator<Item = &'static str> {
        self.flags
            .split([' ', ',', '|'])
            .filter(|word| word.starts_with('-'))
    }

    /// Name without dashes: the key of its value.
    pub fn name(&self) -> &'static str {
        let long = self.words().find(|word| word.starts_with("--"));
        long.or_else(|| self.words().next())
            .unwrap_or(self.flags)
            .trim_start_matches('-')
    }

    fn takes(&self) -> Takes {
        if self.flags.contains('<') {
            Takes::Required
        } else if self.flags.contains('[') {
            Takes::Optional
        } else {
            Takes::Nothing
        }
    }

    fn answers_to(&self, word: &str) -> bool {
        self.words().any(|flag| flag == word)
    }
}

impl CommandSpec {
    /// The name that the dispatch table knows.
    pub fn name(&self) -> &'static str {
        self.names().next().unwrap_or(self.usage)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.usage.split(' ').next().unwrap_or(self.usage).split('|')
    }

    fn operands(&self) -> impl Iterator<Item = &'static str> {
        self.usage.split(' ').skip(1)
    }
}

/// Options as they were given, in that order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    given: Vec<(&'static str, Option<String>)>,
}

impl Options {
    /// Was it given at all?
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(key, _)| *key == name)
    }

    /// The last value that was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given
            .iter()
            .rev()
            .filter(|(key, _)| *key == name)
            .find_map(|(_, value)| value.as_deref())
    }

    /// Every value that was given.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given
            .iter()
            .filter(move |(key, _)| *key == name)
            .filter_map(|(_, value)| value.as_deref())
    }

    /// As if it had been given last.
    pub fn set(&mut self, name: &'static str, value: Option<String>) {
        self.given.push((name, value));
    }

    /// As if it had not been given.
    pub fn remove(&mut self, name: &str) {
        self.given.retain(|(key, _)| *key != name);
    }
}

impl Syntax {
    /// Everything it understands, for people.
    pub fn help(&self) -> String {
        program_help(self)
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    /// Name in the dispatch table; empty for a program without commands.
    pub command: &'static str,
    /// Words that are no options.
    pub operands: Vec<String>,
    /// Options, the command's own among them.
    pub options: Options,
    /// What stood after `--`; `None` if that did not stand there.
    pub app_args: Option<Vec<String>>,
    /// Everything before `--`, as given.
    pub words: Vec<String>,
}

/// What the words mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A command, or a program without commands.
    Run(Invocation),
    /// `-v`, `--version`.
    Version,
    /// Help, ready to print.
    Help(String),
    /// No words at all, or options only.
    Nothing(Options),
    /// A command that does not exist.
    UnknownCommand(String),
    /// A complaint, ready to print.
    Wrong(String),
}

/// Reads the words after the program's name.
pub fn parse(syntax: &Syntax, arguments: &[OsString]) -> Parsed {
    let mut words: Vec<String> = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let app_args = words.iter().position(|word| word == "--").map(|at| {
        let rest = words.split_off(at);
        rest[1..].to_vec()
    });
    if syntax.commands.len() > 1 && words.first().is_some_and(|word| word == "log") {
        words[0].push('s');
    }
    let mut options = Options::default();
    let normal = normalize(syntax.options, &words);
    let (mut operands, unknown) = match sort(syntax.options, &normal, &mut options) {
        Ok(sorted) => sorted,
        Err(complaint) => return Parsed::Wrong(complaint),
    };
    if options.has("version") {
        return Parsed::Version;
    }
    let wants_help = |unknown: &[String]| unknown.iter().any(|word| word == "-h" || word == "--help");
    if operands.is_empty() || syntax.commands.is_empty() {
        if wants_help(&unknown) {
            return Parsed::Help(program_help(syntax));
        }
        if let Some(word) = unknown.first() {
            return Parsed::Wrong(unknown_option(word));
        }
        if operands.is_empty() && !syntax.commands.is_empty() {
            return Parsed::Nothing(options);
        }
        return Parsed::Run(Invocation {
            command: "",
            operands,
            options,
            app_args,
            words,
        });
    }
    let name = operands.remove(0);
    let Some(command) = syntax
        .commands
        .iter()
        .find(|command| command.names().any(|known| known == name && known != "*"))
    else {
        return Parsed::UnknownCommand(name);
    };
    let (mut own, left) = match sort(command.options, &unknown, &mut options) {
        Ok(sorted) => sorted,
        Err(complaint) => return Parsed::Wrong(complaint),
    };
    if wants_help(&left) {
        return Parsed::Help(command_help(command));
    }
    if let Some(word) = left.first() {
        return Parsed::Wrong(unknown_option(word));
    }
    own.append(&mut operands);
    for (index, operand) in command.operands().enumerate() {
        if operand.starts_with('<') && own.len() <= index {
            let name = operand.trim_matches(['<', '>']).trim_end_matches("...");
            return Parsed::Wrong(format!("\n  error: missing required argument `{name}'\n\n"));
        }
    }
    Parsed::Run(Invocation {
        command: command.name(),
        operands: own,
        options,
        app_args,
        words,
    })
}

fn unknown_option(word: &str) -> String {
    format!("\n  error: unknown option `{word}'\n\n")
}

/// Splits clusters and `--opt=value`, except where a word must be the value of the option before it.
fn normalize(options: &'static [OptionSpec], words: &[String]) -> Vec<String> {
    let mut normal = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let is_value = index.checked_sub(1).is_some_and(|before| {
            find(options, &words[before]).is_some_and(|option| option.takes() == Takes::Required)
        });
        if is_value {
            normal.push(word.clone());
        } else if let Some(cluster) = word
            .strip_prefix('-')
            .filter(|rest| !rest.is_empty() && !rest.starts_with('-'))
        {
            normal.extend(cluster.chars().map(|letter| format!("-{letter}")));
        } else if let Some((name, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
            normal.extend([name.to_owned(), value.to_owned()]);
        } else {
            normal.push(word.clone());
        }
    }
    normal
}

fn find(options: &'static [OptionSpec], word: &str) -> Option<&'static OptionSpec> {
    options.iter().find(|option| option.answers_to(word))
}

/// Takes the options that are known; gives operands, and what looks like options of somebody else.
fn sort(
    specs: &'static [OptionSpec],
    words: &[String],
    options: &mut Options,
) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut operands, mut unknown) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let next = words.get(at);
        if let Some(option) = find(specs, word) {
            let value = match option.takes() {
                Takes::Nothing => None,
                Takes::Optional => next
                    .filter(|next| !next.starts_with('-') || *next == "-")
                    .cloned(),
                Takes::Required => match next {
                    Some(next) => Some(next.clone()),
                    None => {
                        let flags = option.flags;
                        return Err(format!("\n  error: option `{flags}' argument missing\n\n"));
                    }
                },
            };
            at += usize::from(value.is_some());
            options.set(option.name(), value);
        } else if word.len() > 1 && word.starts_with('-') {
            unknown.push(word.clone());
            if let Some(next) = next.filter(|next| !next.starts_with('-')) {
                unknown.push(next.clone());
                at += 1;
            }
        } else {
            operands.push(word.clone());
        }
    }
    Ok((operands, unknown))
}

fn option_lines(options: &[OptionSpec]) -> String {
    let help = OptionSpec {
        flags: "-h, --help",
        about: "output usage information",
    };
    let lines: Vec<_> = options.iter().chain([&help]).collect();
    columns(
        &lines
            .iter()
            .map(|option| (option.flags.to_owned(), option.about))
            .collect::<Vec<_>>(),
        0,
    )
}

fn columns(rows: &[(String, &str)], least: usize) -> String {
    let width = rows
        .iter()
        .map(|(left, _)| left.len())
        .max()
        .unwrap_or(0)
        .max(least);
    rows.iter().fold(String::new(), |mut text, (left, right)| {
        let line = format!("    {left:width$}  {right}");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
        text
    })
}

fn program_help(syntax: &Syntax) -> String {
    let rows: Vec<_> = syntax
        .commands
        .iter()
        .map(|command| {
            let (name, operands) = command.usage.split_once(' ').unwrap_or((command.usage, ""));
            let options = if command.options.is_empty() {
                ""
            } else {
                " [options]"
            };
            let operands = if operands.is_empty() {
                String::new()
            } else {
                format!(" {operands}")
            };
            (format!("{name}{options}{operands}"), command.about)
        })
        .collect();
    let least = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    let help = OptionSpec {
        flags: "-h, --help",
        about: "output usage information",
    };
    let options: Vec<_> = syntax
        .options
        .iter()
        .chain([&help])
        .map(|option| (option.flags.to_owned(), option.about))
        .collect();
    let mut text = format!(
        "\n  Usage: {}\n\n  Options:\n\n{}",
        syntax.usage,
        columns(&options, least)
    );
    if !rows.is_empty() {
        text.push_str("\n  Commands:\n\n");
        text.push_str(&columns(&rows, least));
    }
    text.push('\n');
    text
}

fn command_help(command: &CommandSpec) -> String {
    let (name, operands) = command.usage.split_once(' ').unwrap_or((command.usage, ""));
    let operands = if operands.is_empty() {
        String::new()
    } else {
        format!(" {operands}")
    };
    format!(
        "\n  Usage: {name} [options]{operands}\n\n  {}\n\n  Options:\n\n{}\n",
        command.about,
        option_lines(command.options)
    )
}
