//! Raw HTML of authors: what may pass, and how it is closed.

use std::fmt::Write as _;

use crate::html::escape_into;

/// Tags that authors may write as HTML. They lose their attributes, but for how many cells a cell takes.
pub(super) const ALLOWED: &[&str] = &[
    "b", "br", "code", "dd", "del", "dl", "dt", "em", "hr", "i", "kbd", "li", "ol", "p", "pre", "s", "small",
    "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var",
];

/// What has no end tag.
const VOID: &[&str] = &["br", "hr"];

/// Tags of the author that are open.
#[derive(Debug, Default)]
pub(super) struct Tags {
    open: Vec<&'static str>,
    /// Inside `<!-- … -->`, which may take several events.
    comment: bool,
}

impl Tags {
    /// HTML of the author, in whatever pieces it comes.
    pub(super) fn pass(&mut self, text: &str, html: &mut String) {
        let mut rest = text;
        while !rest.is_empty() {
            if self.comment {
                let Some(end) = rest.find("-->") else {
                    return;
                };
                self.comment = false;
                rest = &rest[end + 3..];
                continue;
            }
            let Some(start) = rest.find('<') else {
                break;
            };
            escape_into(html, &rest[..start]);
            rest = &rest[start..];
            if rest.starts_with("<!--") {
                self.comment = true;
                rest = &rest[4..];
                continue;
            }
            let end = rest.find('>').map_or(rest.len(), |end| end + 1);
            if !self.tag(&rest[..end], html) {
                escape_into(html, &rest[..end]);
            }
            rest = &rest[end..];
        }
        escape_into(html, rest);
    }

    /// Whether it was one that may pass.
    fn tag(&mut self, tag: &str, html: &mut String) -> bool {
        let Some(inside) = tag.strip_prefix('<').and_then(|tag| tag.strip_suffix('>')) else {
            return false;
        };
        let (closes, inside) = inside
            .strip_prefix('/')
            .map_or((false, inside), |inside| (true, inside));
        let length = inside
            .find(|next: char| !next.is_ascii_alphanumeric())
            .unwrap_or(inside.len());
        let (name, attributes) = inside.split_at(length);
        let Some(name) = ALLOWED
            .iter()
            .copied()
            .find(|known| known.eq_ignore_ascii_case(name))
        else {
            return false;
        };
        if closes {
            // One that nothing opened would close something of ours.
            if let Some(index) = self.open.iter().rposition(|open| *open == name) {
                for open in self.open.drain(index..).rev() {
                    let _ = write!(html, "</{open}>");
                }
            }
            return true;
        }
        let _ = write!(html, "<{name}{}>", spans(attributes));
        if !VOID.contains(&name) {
            self.open.push(name);
        }
        true
    }

    /// The end of the body.
    pub(super) fn close_all(&mut self, html: &mut String) {
        for open in self.open.drain(..).rev() {
            let _ = write!(html, "</{open}>");
        }
    }
}

/// `colspan` and `rowspan` with plain numbers.
fn spans(attributes: &str) -> String {
    let mut out = String::new();
    for name in ["colspan", "rowspan"] {
        if let Some((_, rest)) = attributes.split_once(name)
            && let Some(value) = rest.trim_start().strip_prefix('=')
        {
            let digits: String = value
                .trim_start_matches(['"', '\'', ' '])
                .chars()
                .take_while(char::is_ascii_digit)
                .take(3)
                .collect();
            if !digits.is_empty() {
                let _ = write!(out, " {name}=\"{digits}\"");
            }
        }
    }
    out
}
