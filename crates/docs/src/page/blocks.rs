//! Code blocks of a page, and what they stand for: headers, a body, an answer.

use upkeep_model::file::Position;

use super::json;

/// The part of a page that a block stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Section {
    /// Before `### Request`, or under a heading of its own.
    #[default]
    Prose,
    /// Under `### Request`.
    Request,
    /// Under `### Response`.
    Response,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON, or what looks like it.
    Json,
    /// `Name: value` lines, a request line or a status line.
    Http,
    /// Anything else.
    Other,
}

/// One code block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it holds.
    pub kind: Kind,
    /// The language that the author gave, or none.
    pub language: String,
    /// Whether it is a whole value: ```` ```json partial ```` says that it is not.
    pub whole: bool,
    /// The text, without the last line end.
    pub code: String,
    /// The part of the page.
    pub section: Section,
    /// The status that it is an answer of, as far as the page says.
    pub status: Option<u16>,
    /// Where the first line of the code stands.
    pub at: Position,
}

/// Where a reader of a page is: which section, which status.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub(crate) section: Section,
    level: usize,
    status: Option<u16>,
}

impl Place {
    /// A heading was passed.
    pub(crate) fn heading(&mut self, level: usize, text: &str) {
        let lower = text.trim().to_lowercase();
        let starts = |word: &str| {
            lower
                .strip_prefix(word)
                .is_some_and(|rest| !rest.starts_with(char::is_alphabetic) || rest == "s")
        };
        let named = if starts("request") {
            Some(Section::Request)
        } else if starts("response") {
            Some(Section::Response)
        } else {
            None
        };
        if let Some(section) = named {
            *self = Self {
                section,
                level,
                status: code_in(&lower),
            };
        } else if level <= self.level {
            *self = Self::default();
        } else if let Some(status) = code_in(&lower) {
            self.status = Some(status);
        }
    }

    /// A block was read.
    pub(crate) fn block(&mut self, info: &str, code: &str, at: Position) -> Block {
        let mut words = info.split([' ', ',']).filter(|word| !word.is_empty());
        let language = words.next().unwrap_or_default().to_lowercase();
        let kind = match language.as_str() {
            "json" => Kind::Json,
            "http" | "headers" => Kind::Http,
            "" if json::looks_like(code) => Kind::Json,
            "" if is_http(code) => Kind::Http,
            _ => Kind::Other,
        };
        if self.section == Section::Response
            && kind == Kind::Http
            && let Some(status) = status_of(code)
        {
            self.status = Some(status);
        }
        Block {
            kind,
            language,
            whole: !words.any(|word| word == "partial"),
            code: code.trim_end_matches('\n').to_owned(),
            section: self.section,
            status: self.status.filter(|_| self.section == Section::Response),
            at,
        }
    }
}

/// The first three digits that stand alone and can be a status.
fn code_in(text: &str) -> Option<u16> {
    text.split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| word.len() == 3)
        .find_map(|word| word.parse().ok())
        .filter(|code| (100..600).contains(code))
}

/// The status of `Status: 200 OK` or `HTTP/1.1 200 OK`, if the first line is one.
pub(crate) fn status_of(code: &str) -> Option<u16> {
    let line = code.trim_start().lines().next()?;
    let rest = line.strip_prefix("Status:").or_else(|| {
        line.strip_prefix("HTTP/")
            .and_then(|rest| rest.split_once(' '))
            .map(|(_, rest)| rest)
    })?;
    code_in(rest)
}

/// `Name: value`.
pub(crate) fn header(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim();
    let token = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    token.then(|| (name, value.trim()))
}

/// Whether every line is a header, the first one perhaps a status or a request.
fn is_http(code: &str) -> bool {
    let mut lines = code.trim().lines();
    let Some(first) = lines.next() else {
        return false;
    };
    (first.starts_with("HTTP/") || request_line(first).is_some() || header(first).is_some())
        && lines.all(|line| header(line).is_some())
}

/// The target of `GET /v1/apps?x=y HTTP/1.1`.
pub(crate) fn request_line(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    super::Method::parse(words.next()?).filter(|method| line.starts_with(method.name()))?;
    words.next().filter(|target| target.starts_with('/'))
}

impl Block {
    /// Headers of an HTTP block, without its status.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        if self.kind != Kind::Http {
            return Vec::new();
        }
        self.code
            .lines()
            .take_while(|line| !line.trim().is_empty())
            .filter_map(header)
            .filter(|(name, _)| *name != "Status")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The JSON that it holds, with the place of its first line: the whole block, or what follows the headers of an HTTP
    /// block.
    pub fn json(&self) -> Option<(&str, Position)> {
        match self.kind {
            Kind::Json => Some((&self.code, self.at)),
            Kind::Http => {
                let (head, body) = self.code.split_once("\n\n")?;
                let lines = u32::try_from(head.lines().count() + 1).unwrap_or(u32::MAX);
                let at = Position {
                    line: self.at.line.saturating_add(lines),
                    ..self.at
                };
                json::looks_like(body).then_some((body, at))
            }
            Kind::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { line: 5, column: 1 };

    #[test]
    fn sections_and_statuses_follow_headings_and_blocks() {
        let mut place = Place::default();
        place.heading(3, "Request");
        assert_eq!(
            place.block("", "Accept: text/plain", AT).section,
            Section::Request
        );
        place.heading(4, "Body");
        assert_eq!(place.block("json", "{}", AT).section, Section::Request);
        place.heading(3, "Response");
        assert_eq!(place.block("", "Status: 201 Created", AT).status, Some(201));
        assert_eq!(place.block("", "{\n}", AT).status, Some(201));
        place.heading(4, "When it fails: 409");
        assert_eq!(place.block("", "{\n}", AT).status, Some(409));
        place.heading(3, "Notes on requests");
        let block = place.block("json", "{}", AT);
        assert_eq!((block.section, block.status), (Section::Prose, None));
    }

    #[test]
    fn kinds_are_told_by_language_or_by_looks() {
        let mut place = Place::default();
        for (info, code, kind) in [
            ("", "{a: 1}", Kind::Json),
            ("json partial", "...", Kind::Json),
            ("", "Authentication: bearer TOKEN", Kind::Http),
            ("", "HTTP/1.1 200 OK\nETag: \"1\"", Kind::Http),
            ("", "GET /v1/apps\nAccept: a/b", Kind::Http),
            ("sh", "a: b", Kind::Other),
            ("", "plain words", Kind::Other),
        ] {
            assert_eq!(place.block(info, code, AT).kind, kind, "{code}");
        }
        assert!(!place.block("json partial", "...", AT).whole);
    }

    #[test]
    fn the_body_of_an_http_block_knows_its_line() {
        let block = Place::default().block("http", "POST /a\nX: y\n\n{\"a\": 1}\n", AT);
        assert_eq!(block.headers(), [("X".to_owned(), "y".to_owned())]);
        assert_eq!(
            block.json(),
            Some(("{\"a\": 1}", Position { line: 8, column: 1 }))
        );
    }
}
