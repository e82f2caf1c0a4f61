//! What would change in a file, with secrets masked.
//!
//! Lines that secrets have a part in are shown masked. What stood in the file before is not known to be free of secrets: if
//! the new text has any, or the file may be read by its owner alone, lines that go are not shown, only that they go.

use std::fmt::Write as _;

use similar::{Algorithm, ChangeTag, DiffOp, capture_diff_slices, group_diff_ops};

use crate::template::{MASK, Rendered};

/// Lines around a change.
const CONTEXT: usize = 3;

/// A unified difference, empty if there is none. `private`: who may see the difference need not be able to read the file.
pub fn unified(name: &str, old: Option<&str>, new: &Rendered, private: bool) -> String {
    let before: Vec<&str> = old.unwrap_or_default().lines().collect();
    let after: Vec<&str> = new.text.lines().collect();
    let ops = capture_diff_slices(Algorithm::Myers, &before, &after);
    let is_same = old == Some(new.text.as_str());
    let shown = shown_lines(new, &after);
    let hides_old = new.secret || private;
    let mut out = String::new();
    if is_same {
        return out;
    }
    let from = if old.is_some() { name } else { "/dev/null" };
    let _ = writeln!(out, "--- {from}\n+++ {name}");
    for group in group_diff_ops(ops, CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let range = |start: usize, end: usize| match end - start {
            0 => format!("{start},0"),
            1 => format!("{}", start + 1),
            count => format!("{},{count}", start + 1),
        };
        let _ = writeln!(
            out,
            "@@ -{} +{} @@",
            range(first.old_range().start, last.old_range().end),
            range(first.new_range().start, last.new_range().end)
        );
        for op in &group {
            hunk(op, &before, &shown, hides_old, &mut out);
        }
    }
    if old.is_some_and(|old| old.lines().eq(new.text.lines())) {
        out.push_str("(only the ends of lines differ)\n");
    }
    out
}

fn hunk(op: &DiffOp, before: &[&str], shown: &[String], hides_old: bool, out: &mut String) {
    if op.tag() == similar::DiffTag::Equal {
        for index in op.new_range() {
            let _ = writeln!(out, "{}{}", ChangeTag::Equal, shown[index]);
        }
        return;
    }
    for index in op.old_range() {
        let line = if hides_old { MASK } else { before[index] };
        let _ = writeln!(out, "{}{line}", ChangeTag::Delete);
    }
    for index in op.new_range() {
        let _ = writeln!(out, "{}{}", ChangeTag::Insert, shown[index]);
    }
}

/// The lines of the new text as they may be shown.
fn shown_lines(new: &Rendered, real: &[&str]) -> Vec<String> {
    if !new.secret {
        return real.iter().map(|line| (*line).to_owned()).collect();
    }
    let Some(masked) = &new.shown else {
        return vec![MASK.to_owned(); real.len()];
    };
    let masked: Vec<&str> = masked.lines().collect();
    // What is the same in both has no secret in it; what a masked line stands for is shown as that line.
    let mut shown = vec![MASK.to_owned(); real.len()];
    for op in capture_diff_slices(Algorithm::Myers, &masked, real) {
        if op.old_range().len() == op.new_range().len() {
            for (from, to) in op.old_range().zip(op.new_range()) {
                masked[from].clone_into(&mut shown[to]);
            }
        }
    }
    shown
}
