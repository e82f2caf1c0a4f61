//! The last lines of log files, the oldest file first.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::Value;

use super::{Output, Target, line, text};
use crate::context::{Context, Failure, out};

/// How long a line is thought to be: so much is read from the end for each.
const BYTES_OF_A_LINE: u64 = 200;

/// What is shown.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// Whose.
    pub(crate) target: Target,
    /// As it was given, for the headline.
    pub(crate) word: String,
    /// Of each file.
    pub(crate) lines: u64,
    /// Without names in front; stderr's lines to stderr.
    pub(crate) raw: bool,
    /// One output only.
    pub(crate) only: Option<Output>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    label: String,
    output: Option<Output>,
    changed: SystemTime,
}

/// Prints them.
pub(crate) fn tail(context: &Context, tail: &Tail, processes: &[Value]) -> Result<(), Failure> {
    let style = context.style;
    let noun = if tail.word == "all" {
        "processes"
    } else {
        "process"
    };
    let headline = format!(
        "[TAILING] Tailing last {} lines for [{}] {noun} (change the value with --lines option)",
        tail.lines, tail.word
    );
    out(format_args!("{}\n", style.bold(style.grey(headline))))?;
    for source in sources(context, tail, processes) {
        let headline = format!("{} last {} lines:", source.path.display(), tail.lines);
        out(format_args!("{}\n", style.grey(headline)))?;
        // A file that was removed meanwhile has no lines.
        let lines = last_lines(&source.path, tail.lines).unwrap_or_default();
        for line in &lines {
            let label = match source.output {
                _ if tail.raw => String::new(),
                None => style.blue(&source.label),
                Some(Output::Out) => style.green(&source.label),
                Some(Output::Err) => style.red(&source.label),
            };
            if tail.raw && source.output == Some(Output::Err) {
                writeln!(io::stderr().lock(), "{line}")?;
            } else {
                out(format_args!("{label}{line}\n"))?;
            }
        }
        if !lines.is_empty() {
            out("\n")?;
        }
    }
    Ok(())
}

fn sources(context: &Context, tail: &Tail, processes: &[Value]) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let mut add = |path: &Path, label: String, output| {
        let is_new = !sources.iter().any(|source| source.path == path);
        let about = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
        if let Some(changed) = about.filter(|_| is_new).and_then(|about| about.modified().ok()) {
            sources.push(Source {
                path: path.to_path_buf(),
                label,
                output,
                changed,
            });
        }
    };
    if tail.target.takes_daemon() && tail.only.is_none() {
        add(&context.home.log, line::tail_label(None, "PM2"), None);
    }
    for process in processes {
        let record = process.get("pm2_env").unwrap_or(process);
        let id = process.get("pm_id").and_then(Value::as_u64);
        let name = text(process, "name");
        if !tail.target.takes(id, name, text(record, "namespace")) {
            continue;
        }
        for (output, key) in [(Output::Out, "pm_out_log_path"), (Output::Err, "pm_err_log_path")] {
            if tail.only.is_none_or(|only| only == output) {
                add(
                    Path::new(text(record, key)),
                    line::tail_label(id, name),
                    Some(output),
                );
            }
        }
    }
    // The daemon's own comes first, whenever it was written.
    sources.sort_by_key(|source| (source.output.is_some(), source.changed));
    sources
}

/// The last whole lines. What stands behind the last line end is not one yet.
fn last_lines(path: &Path, count: u64) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(count.saturating_mul(BYTES_OF_A_LINE));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    // No more than there was: a busy app must not keep us here.
    file.take(length - from).read_to_end(&mut bytes)?;
    Ok(whole_lines(&bytes, usize::try_from(count).unwrap_or(usize::MAX)))
}

fn whole_lines(bytes: &[u8], count: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop();
    let from = lines.len().saturating_sub(count);
    lines[from..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_only() {
        assert_eq!(whole_lines(b"a\nb\n\nc d\ne", 2), ["", "c d"]);
        assert_eq!(whole_lines(b"a\nb\n", 15), ["a", "b"]);
        assert!(whole_lines(b"", 3).is_empty());
        assert!(whole_lines(b"a", 3).is_empty());
        assert!(whole_lines(b"a\n", 0).is_empty());
    }
}
