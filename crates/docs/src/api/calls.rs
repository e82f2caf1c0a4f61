//! Which call of a document a page tells of: one answer for all who ask.
//!
//! A page and the document may name parameters otherwise (`:id`, `{id}`, `{name}`), and a page may write the base path of
//! the document or leave it out: that is the same call.

use std::collections::BTreeMap;

use super::document::{Document, Operation};
use crate::page::Method;

/// The calls of a document, to be found by what a page says.
#[derive(Debug)]
pub struct Calls<'a> {
    operations: &'a [Operation],
    base: String,
    as_written: BTreeMap<(Method, &'a str), usize>,
    plain: BTreeMap<(Method, String), usize>,
}

impl<'a> Calls<'a> {
    /// Those of a document.
    pub fn of(document: &'a Document) -> Self {
        let operations = document.operations.as_slice();
        let mut as_written = BTreeMap::new();
        let mut by_shape = BTreeMap::new();
        for (number, operation) in operations.iter().enumerate() {
            as_written.insert((operation.method, operation.path.as_str()), number);
            by_shape
                .entry((operation.method, plain(&operation.path)))
                .or_insert(number);
        }
        Self {
            operations,
            base: plain(&document.base_path()),
            as_written,
            plain: by_shape,
        }
    }

    /// The number of the call in the document.
    pub fn find(&self, method: Method, path: &str) -> Option<usize> {
        if let Some(number) = self.as_written.get(&(method, path)) {
            return Some(*number);
        }
        let path = plain(path);
        let below = path
            .strip_prefix(&self.base)
            .filter(|below| !self.base.is_empty() && below.starts_with('/'))
            .map(str::to_owned);
        self.plain
            .get(&(method, path))
            .or_else(|| self.plain.get(&(method, below?)))
            .copied()
    }

    /// The methods that a path has.
    pub fn methods(&self, path: &str) -> Vec<Method> {
        let methods = self.operations.iter().map(|operation| operation.method);
        methods
            .enumerate()
            .filter(|(number, method)| self.find(*method, path) == Some(*number))
            .map(|(_, method)| method)
            .collect()
    }
}

/// A path without the names of its parameters, its query and a slash at the end.
fn plain(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut out = String::with_capacity(path.len());
    for (number, part) in path.trim_end_matches('/').split('/').enumerate() {
        if number > 0 {
            out.push('/');
        }
        if part.starts_with(':') {
            out.push_str("{}");
            continue;
        }
        let mut rest = part;
        while let Some((before, (_, after))) = rest
            .split_once('{')
            .and_then(|(before, behind)| Some((before, behind.split_once('}')?)))
        {
            out.push_str(before);
            out.push_str("{}");
            rest = after;
        }
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parameters_do_not_count() {
        for (one, other) in [
            ("/a/:id", "/a/{name}"),
            ("/a/{id}/", "/a/{x}?page=2"),
            ("/a/{id}.json", "/a/{name}.json"),
            ("/a/{from}..{to}", "/a/{x}..{y}"),
        ] {
            assert_eq!(plain(one), plain(other));
        }
        for (one, other) in [
            ("/a/{id}", "/a/id"),
            ("/a/{id}", "/a/{id}.json"),
            ("/a/{id", "/a/{name"),
            ("/a", "/a/{id}"),
        ] {
            assert_ne!(plain(one), plain(other));
        }
    }

    #[test]
    fn a_base_path_may_be_written_and_what_is_written_wins() {
        let text = "openapi: 3.1.0\nservers: [{url: /v2}]\npaths:\n  /a/{x}: {get: {responses: {}}}\n  /a/{y}: {get: {responses: {}}}\n  /v20/a: {get: {responses: {}}}\n";
        let document = Document::parse("api.yaml", text.to_owned()).expect("a document");
        let calls = Calls::of(&document);
        assert_eq!(calls.find(Method::Get, "/v2/a/:z"), Some(0));
        assert_eq!(calls.find(Method::Get, "/a/{y}"), Some(1));
        assert_eq!(calls.find(Method::Get, "/v20/a"), Some(2));
        assert_eq!(calls.find(Method::Get, "/v20/a/{z}"), None);
        assert_eq!(calls.find(Method::Put, "/a/{x}"), None);
        assert_eq!(calls.methods("/v2/a/{x}"), [Method::Get]);
    }
}
