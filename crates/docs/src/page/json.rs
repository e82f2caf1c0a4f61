//! JSON as people read it: coloured, and with marks where it can be folded.
//!
//! Samples in documents are often nearly JSON (`id: 1,`, `...`), so this reads tokens and refuses nothing. What `check`
//! asks of a sample is decided elsewhere.

use crate::html::escape_into;

/// Deeper containers are shown and cannot be folded.
const FOLDS: usize = 64;

/// JSON as HTML: spans with one letter of class for keys, texts, numbers and words; containers that take several lines are
/// spans of class `f`, which the script gives a button.
pub(crate) fn highlight(code: &str) -> String {
    let mut out = String::with_capacity(code.len() * 2);
    let mut open: Vec<bool> = Vec::new();
    let mut rest = code;
    while let Some(character) = rest.chars().next() {
        let length = match character {
            '"' | '\'' => {
                let length = string(rest, character);
                let key = rest[length..].trim_start().starts_with(':');
                span(&mut out, if key { "k" } else { "s" }, &rest[..length]);
                length
            }
            '{' | '[' => {
                let folds = open.len() < FOLDS && takes_lines(rest);
                open.push(folds);
                out.push(character);
                if folds {
                    out.push_str("<span class=\"f\">");
                }
                1
            }
            '}' | ']' => {
                if open.pop() == Some(true) {
                    out.push_str("</span>");
                }
                out.push(character);
                1
            }
            '-' | '0'..='9' => {
                let length = run(rest, |next| {
                    next.is_ascii_alphanumeric() || matches!(next, '.' | '+' | '-')
                });
                span(&mut out, "n", &rest[..length]);
                length
            }
            _ if character.is_alphabetic() || character == '_' || character == '$' => {
                let length = run(rest, |next| {
                    next.is_alphanumeric() || matches!(next, '_' | '$' | '-')
                });
                let word = &rest[..length];
                let key = rest[length..].trim_start().starts_with(':');
                if key {
                    span(&mut out, "k", word);
                } else if matches!(word, "true" | "false" | "null") {
                    span(&mut out, "w", word);
                } else {
                    escape_into(&mut out, word);
                }
                length
            }
            _ => {
                escape_into(&mut out, &rest[..character.len_utf8()]);
                character.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    while let Some(folds) = open.pop() {
        if folds {
            out.push_str("</span>");
        }
    }
    out
}

fn span(out: &mut String, class: &str, text: &str) {
    out.push_str("<span class=\"");
    out.push_str(class);
    out.push_str("\">");
    escape_into(out, text);
    out.push_str("</span>");
}

/// Length of a text with its quotes; it ends with the line at the latest.
fn string(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, character) in rest.char_indices().skip(1) {
        match character {
            '\n' => return index,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

fn run(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|next| !belongs(next)).unwrap_or(rest.len())
}

/// Whether the container that starts here goes on below its line. The first line end decides.
fn takes_lines(rest: &str) -> bool {
    let mut depth = 0usize;
    let line = rest.lines().next().unwrap_or_default();
    for character in line.chars() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return false;
                }
            }
            _ => {}
        }
    }
    line.len() < rest.len()
}

/// Whether a block without a language is JSON, by its start.
pub(crate) fn looks_like(code: &str) -> bool {
    let start = code.trim_start();
    let end = code.trim_end();
    (start.starts_with('{') && end.ends_with('}')) || (start.starts_with('[') && end.ends_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_class_and_containers_their_mark() {
        assert_eq!(
            highlight("{\n  \"a\": [1, true],\n  b: 'x'\n}"),
            "{<span class=\"f\">\n  <span class=\"k\">&quot;a&quot;</span>: [<span class=\"n\">1</span>, \
             <span class=\"w\">true</span>],\n  <span class=\"k\">b</span>: \
             <span class=\"s\">&#39;x&#39;</span>\n</span>}"
        );
    }

    #[test]
    fn whatever_it_is_the_text_stays_and_spans_are_closed() {
        for code in [
            "}}]]{{[[\n",
            "{\n\"unclosed\n",
            "<script>\"</script>\n{\n\"\\",
            "[\n[\n[\n",
            "…{ä: ö}",
        ] {
            let html = highlight(code);
            assert_eq!(
                html.matches("<span").count(),
                html.matches("</span>").count(),
                "{html}"
            );
            assert_eq!(crate::html::text_of(&html), code);
            assert!(!html.contains("<script"), "{html}");
        }
    }

    #[test]
    fn a_start_and_an_end_make_json() {
        assert!(looks_like(" {a: 1}\n"));
        assert!(!looks_like("[see](x)"));
        assert!(!looks_like("Status: 200 OK"));
    }
}
