//! What the screen shows, as text.

use std::collections::VecDeque;

use serde_json::Value;
use unicode_width::UnicodeWidthChar as _;

use crate::{logs::text, style::Style};

/// Everything that is shown.
pub(super) struct View<'a> {
    pub(super) processes: &'a [Value],
    pub(super) selected: usize,
    pub(super) logs: Option<&'a VecDeque<String>>,
    /// Columns and rows.
    pub(super) size: (usize, usize),
}

/// A line of an app without what would move the cursor or colour the rest.
pub(super) fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            // Up to the letter that ends the sequence.
            if letters.next_if_eq(&'[').is_some() {
                let _ = letters.by_ref().find(|letter| ('@'..='~').contains(letter));
            }
        } else if letter == '\t' {
            text.push_str("    ");
        } else if !letter.is_control() {
            text.push(letter);
        }
    }
    text
}

/// Cut or filled to a width in columns.
fn fit(text: &str, width: usize) -> String {
    let mut used = 0;
    let mut fitted = String::new();
    for letter in text.chars() {
        let columns = letter.width().unwrap_or(0);
        if used + columns > width {
            break;
        }
        used += columns;
        fitted.push(letter);
    }
    fitted.extend(std::iter::repeat_n(' ', width - used));
    fitted
}

fn headline(title: &str, width: usize) -> String {
    fit(&format!("─ {title} {}", "─".repeat(width)), width)
}

fn memory(process: &Value) -> String {
    let bytes = process
        .pointer("/monit/memory")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    format!("{} MB", bytes / (1024 * 1024))
}

fn cpu(process: &Value) -> String {
    let percent = process
        .pointer("/monit/cpu")
        .and_then(Value::as_f64)
        .unwrap_or(0.0);
    format!("{percent} %")
}

impl View<'_> {
    /// One write for the terminal.
    pub(super) fn render(&self, style: Style) -> String {
        let rows = self.size.1;
        let mut text = String::from("\x1b[H");
        for (index, line) in self.lines(style).iter().take(rows).enumerate() {
            if index > 0 {
                text.push_str("\r\n");
            }
            text.push_str(line);
        }
        text.push_str("\x1b[J");
        text
    }

    fn lines(&self, style: Style) -> Vec<String> {
        let (columns, rows) = self.size;
        let bottom = (rows / 3).clamp(3, 12).min(rows.saturating_sub(3));
        let top = rows.saturating_sub(bottom + 1);
        let left = (columns / 3).min(40);
        let right = columns.saturating_sub(left + 1);
        let record = self.processes.get(self.selected);
        let name = record.map_or("", |process| text(process, "name"));
        let list = panel("Process List", self.list(left, top), left, top);
        let logs = panel(&format!("{name} Logs"), self.tail(top), right, top);
        let figures = panel("Custom Metrics", metrics(record), left, bottom);
        let about = panel("Metadata", metadata(record), right, bottom);
        let beside = |left: Vec<String>, right: Vec<String>, marked: Option<usize>| -> Vec<String> {
            left.into_iter()
                .zip(right)
                .enumerate()
                .map(|(row, (left, right))| {
                    let left = match (row, marked) {
                        (0, _) => style.cyan(left),
                        (row, Some(marked)) if row == marked + 1 => style.inverse(left),
                        _ => left,
                    };
                    let right = if row == 0 { style.cyan(right) } else { right };
                    format!("{left}│{right}")
                })
                .collect()
        };
        let mut lines = beside(list, logs, Some(self.selected - self.first(top)));
        lines.extend(beside(figures, about, None));
        lines.push(style.grey(fit("up/down or tab: another app    q: leave", columns)));
        lines
    }

    /// The first process that is shown, so that the selected one is in sight.
    fn first(&self, height: usize) -> usize {
        (self.selected + 2).saturating_sub(height.max(2))
    }

    fn list(&self, width: usize, height: usize) -> Vec<String> {
        let shown = self.processes.iter().skip(self.first(height));
        shown
            .map(|process| {
                let id = process.get("pm_id").and_then(Value::as_u64).unwrap_or_default();
                let status = process.pointer("/pm2_env/status").and_then(Value::as_str);
                let figures = format!(
                    "{:>7} {:>6} {}",
                    memory(process),
                    cpu(process),
                    status.unwrap_or_default()
                );
                let name = format!("[{id:>2}] {}", plain(text(process, "name")));
                let room = width.saturating_sub(figures.chars().count() + 1);
                format!("{} {figures}", fit(&name, room))
            })
            .collect()
    }

    fn tail(&self, height: usize) -> Vec<String> {
        let logs = self.logs.map_or(&[][..], |logs| logs.as_slices().0);
        // The two halves of the ring, one after the other.
        let rest = self.logs.map_or(&[][..], |logs| logs.as_slices().1);
        let all: Vec<&String> = logs.iter().chain(rest).collect();
        let from = all.len().saturating_sub(height.saturating_sub(1));
        all[from..].iter().map(|line| (*line).clone()).collect()
    }
}

fn panel(title: &str, lines: Vec<String>, width: usize, height: usize) -> Vec<String> {
    let mut panel = vec![headline(title, width)];
    panel.extend(lines.iter().map(|line| fit(line, width)));
    panel.resize(height, " ".repeat(width));
    panel
}

fn metrics(record: Option<&Value>) -> Vec<String> {
    let Some(Value::Object(metrics)) = record.and_then(|process| process.pointer("/pm2_env/axm_monitor"))
    else {
        return Vec::new();
    };
    let shown = |value: &Value| match value {
        Value::String(text) => plain(text),
        other => other.to_string(),
    };
    metrics
        .iter()
        .map(|(name, about)| {
            let value = about.get("value").map(shown).unwrap_or_default();
            format!("{}  {value} {}", plain(name), plain(text(about, "unit")))
        })
        .collect()
}

fn metadata(record: Option<&Value>) -> Vec<String> {
    let Some(env) = record.and_then(|process| process.get("pm2_env")) else {
        return vec!["no app is in the list".to_owned()];
    };
    let number = |key: &str| {
        env.get(key)
            .and_then(Value::as_u64)
            .unwrap_or_default()
            .to_string()
    };
    let word = |key: &str| plain(text(env, key));
    let rows = [
        ("App Name", word("name")),
        ("Namespace", word("namespace")),
        ("Version", word("version")),
        ("Restarts", number("restart_time")),
        ("Unstable", number("unstable_restarts")),
        ("Status", word("status")),
        ("Script path", word("pm_exec_path")),
        ("Interpreter", word("exec_interpreter")),
        ("Exec mode", word("exec_mode")),
        ("Node.js version", word("node_version")),
    ];
    rows.into_iter()
        .map(|(name, value)| format!("{name:16}{value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(count: usize, selected: usize, size: (usize, usize)) -> Vec<String> {
        let processes: Vec<Value> = (0..count)
            .map(|id| json!({"pm_id": id, "name": format!("app{id}"), "pm2_env": {"status": "online"}}))
            .collect();
        let logs: VecDeque<String> = (0..100).map(|line| format!("line {line}")).collect();
        let view = View {
            processes: &processes,
            selected,
            logs: Some(&logs),
            size,
        };
        view.lines(Style::new(false))
    }

    #[test]
    fn every_line_is_as_wide_as_the_screen() {
        for size in [(80, 24), (40, 10), (200, 60)] {
            let lines = lines(5, 2, size);
            assert_eq!(lines.len(), size.1, "{size:?}");
            for line in lines {
                assert_eq!(line.chars().count(), size.0, "{line}");
            }
        }
    }

    #[test]
    fn a_tiny_screen_and_an_empty_list_are_no_trouble() {
        for size in [(1, 1), (3, 2), (10, 5), (0, 0)] {
            let _ = lines(3, 2, size);
            let _ = lines(0, 0, size);
        }
    }

    #[test]
    fn the_selected_one_and_the_newest_line_are_in_sight() {
        let text = lines(50, 40, (100, 20)).join("\n");
        assert!(text.contains("app40") && text.contains("line 99"), "{text}");
    }

    #[test]
    fn escapes_of_apps_do_not_reach_the_screen() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\u{7}\tx\u{1b}"), "red    x");
        assert_eq!(plain("\u{1b}[12"), "");
    }
}
