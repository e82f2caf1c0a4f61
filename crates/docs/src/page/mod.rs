//! One page: a Markdown file with front matter.
//!
//! ```text
//!  text ── front ──▶ keys with positions ─┐
//!    └── liquid (posts of Jekyll only) ── fences ──▶ Prepared ── outline ──▶ headings
//!                                                        └────── markdown ──▶ Body (HTML, text, blocks)
//! ```
//!
//! Every step keeps the lines of the file: what is found in the last one can be told as line and column of the first.

pub(crate) mod blocks;
pub(crate) mod fences;
pub(crate) mod front;
pub(crate) mod json;
pub(crate) mod liquid;
pub(crate) mod markdown;

use upkeep_model::file::Position;

use crate::api::calls::Calls;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates, or acts.
    Post,
    /// Replaces.
    Put,
    /// Changes a part.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// All of them, in the order in which people think of them.
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// By name, in upper or lower case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|method| method.name().eq_ignore_ascii_case(name))
    }

    /// As it stands in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// The class of its badge, and its key in OpenAPI.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// Text of a body with the line of the file that each of its lines came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Markdown as CommonMark has it.
    pub text: String,
    /// For each line of `text`, its line in the file.
    pub lines: Vec<u32>,
}

impl Prepared {
    /// Where a byte of `text` stands in the file.
    pub fn position(&self, offset: usize) -> Position {
        let at = Position::of_offset(&self.text, offset);
        let index = usize::try_from(at.line).unwrap_or(usize::MAX).saturating_sub(1);
        let line = self
            .lines
            .get(index)
            .or_else(|| self.lines.last())
            .copied()
            .unwrap_or(1);
        Position { line, ..at }
    }
}

/// A page as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The file, as it is called from where the command was started.
    pub file: String,
    /// The file, from the folder of the site, with `/`.
    pub inside: String,
    /// What `#…` names it by: lower case letters, digits and `-`.
    pub anchor: String,
    /// What it is called.
    pub title: String,
    /// The method; none for prose.
    pub method: Option<Method>,
    /// The path, with `{parameters}` or `:parameters`.
    pub path: Option<String>,
    /// The group.
    pub category: Option<String>,
    /// Its place, if the author gave one.
    pub order: Option<i64>,
    /// The day in the name of a post.
    pub date: Option<String>,
    /// Where `path` stands, else where the page starts.
    pub at: Position,
    /// The body.
    pub body: Prepared,
}

impl Page {
    /// The number of the call that it tells of; none for prose, and for calls that the document does not have.
    pub fn call(&self, calls: &Calls<'_>) -> Option<usize> {
        calls.find(self.method?, self.path.as_deref()?)
    }
}

/// An anchor of a text: what GitHub and Jekyll make of it, within ASCII where it can be.
pub fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for character in text.chars().flat_map(char::to_lowercase) {
        if character.is_alphanumeric() || character == '_' {
            slug.push(character);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    while slug.ends_with('-') {
        slug.pop();
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_of_letters_digits_and_dashes() {
        assert_eq!(slug("Response Status codes"), "response-status-codes");
        assert_eq!(slug(" --Äpfel & Birnen!? "), "äpfel-birnen");
        assert_eq!(slug("GET /v1/apps/{name}"), "get-v1-apps-name");
        assert_eq!(slug("\u{202e}<script>"), "script");
        assert_eq!(slug("?!"), "");
    }

    #[test]
    fn a_place_is_a_place_in_the_file() {
        let body = Prepared {
            text: "one\ntwo\nthree\n".to_owned(),
            lines: vec![7, 7, 9],
        };
        assert_eq!(body.position(5), Position { line: 7, column: 2 });
        assert_eq!(body.position(8), Position { line: 9, column: 1 });
        assert_eq!(body.position(999), Position { line: 9, column: 1 });
    }
}
