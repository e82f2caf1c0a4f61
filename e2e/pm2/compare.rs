//! Two transcripts of one case, line by line.

use regex::Regex;

use crate::differences::DIFFERENCES;

/// What one step showed on one side.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The step.
    pub(crate) title: String,
    /// What is compared.
    pub(crate) lines: Vec<String>,
    /// What helps to understand, and is not compared.
    pub(crate) detail: String,
}

/// What the sides do not agree about.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) disagreements: Vec<String>,
    /// Keys of the known differences that were met.
    pub(crate) used: Vec<&'static str>,
}

/// Compares; `theirs` is the real PM2's.
pub(crate) fn compare(case: &str, theirs: &[Entry], ours: &[Entry]) -> Verdict {
    let mut verdict = Verdict::default();
    for index in 0..theirs.len().max(ours.len()) {
        match (theirs.get(index), ours.get(index)) {
            (Some(theirs), Some(ours)) => step(case, theirs, ours, &mut verdict),
            (Some(theirs), None) => {
                verdict
                    .disagreements
                    .push(format!("`{}`: only PM2 came so far", theirs.title));
                break;
            }
            (None, ours) => {
                let title = ours.map_or("?", |ours| &ours.title);
                verdict
                    .disagreements
                    .push(format!("`{title}`: only ours came so far"));
                break;
            }
        }
    }
    verdict
}

fn step(case: &str, theirs: &Entry, ours: &Entry, verdict: &mut Verdict) {
    if theirs.lines == ours.lines {
        return;
    }
    let mut changes = changes(&theirs.lines, &ours.lines);
    let ignored = std::env::var("PM2_IGNORE").unwrap_or_default();
    changes.retain(|(_, line)| {
        if !ignored.is_empty() && matches(&ignored, line) {
            return false;
        }
        let known = DIFFERENCES
            .iter()
            .find(|known| (known.case.is_empty() || matches(known.case, case)) && matches(known.line, line));
        if let Some(known) = known {
            verdict.used.push(known.key);
        }
        known.is_none()
    });
    if changes.is_empty() {
        return;
    }
    let shown: Vec<String> = changes
        .iter()
        .take(40)
        .map(|(side, line)| format!("    {side} {line}"))
        .collect();
    let more = changes.len().saturating_sub(40);
    let mut text = format!("`{}`  (- PM2, + ours)\n{}", theirs.title, shown.join("\n"));
    if more > 0 {
        text.push_str(&format!("\n    … and {more} lines more"));
    }
    for (side, entry) in [("PM2", theirs), ("ours", ours)] {
        if !entry.detail.is_empty() {
            let detail: Vec<&str> = entry.detail.lines().take(30).collect();
            text.push_str(&format!("\n    {side} said:\n      {}", detail.join("\n      ")));
        }
    }
    verdict.disagreements.push(text);
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

/// The lines that are on one side only, in order, by the longest common subsequence.
fn changes(left: &[String], right: &[String]) -> Vec<(char, String)> {
    let mut common = vec![vec![0_u32; right.len() + 1]; left.len() + 1];
    for (row, from_left) in left.iter().enumerate().rev() {
        for (column, from_right) in right.iter().enumerate().rev() {
            common[row][column] = if from_left == from_right {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut changes = Vec::new();
    while row < left.len() || column < right.len() {
        if row < left.len() && column < right.len() && left[row] == right[column] {
            row += 1;
            column += 1;
        } else if column == right.len()
            || (row < left.len() && common[row + 1][column] >= common[row][column + 1])
        {
            changes.push(('-', left[row].clone()));
            row += 1;
        } else {
            changes.push(('+', right[column].clone()));
            column += 1;
        }
    }
    changes
}
