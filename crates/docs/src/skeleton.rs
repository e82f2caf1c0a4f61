//! `docs new`: a page to start from.

use std::fmt::Write as _;

use serde_json::Value;

use crate::page::{Method, slug};

/// What a new page is for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Its title.
    pub title: String,
    /// Its method; none for prose.
    pub method: Option<Method>,
    /// The path of the call.
    pub path: Option<String>,
    /// Its group.
    pub category: Option<String>,
}

/// The name of its file: with a day in front where posts of Jekyll are. None if the title has no letter and no digit.
pub fn file_name(wanted: &Wanted, day: Option<&str>) -> Option<String> {
    let name = slug(&wanted.title);
    if name.is_empty() {
        return None;
    }
    Some(match day {
        Some(day) => format!("{day}-{name}.md"),
        None => format!("{name}.md"),
    })
}

/// A scalar of YAML that is read back as this text.
pub(crate) fn scalar(text: &str) -> String {
    format!("'{}'", text.replace(['\n', '\r'], " ").replace('\'', "''"))
}

/// The page.
pub fn page(wanted: &Wanted) -> String {
    let mut out = String::from("---\n");
    // Infallible, here and below: a String takes all.
    let _ = writeln!(out, "title: {}", scalar(&wanted.title));
    if let Some(method) = wanted.method {
        let _ = writeln!(out, "type: {}", method.name());
    }
    if let Some(path) = &wanted.path {
        let _ = writeln!(out, "url_path: {}", scalar(path));
    }
    if let Some(category) = &wanted.category {
        let _ = writeln!(out, "category: {}", scalar(category));
    }
    out.push_str("---\n\nSay in one sentence what it does.\n");
    let Some(method) = wanted.method else {
        return out;
    };
    out.push_str("\n### Request\n\n");
    for name in wanted.path.iter().flat_map(|path| parameters(path)) {
        let _ = writeln!(out, "* **`{name}`** is …");
    }
    out.push_str("* The headers must include a token.\n");
    if !matches!(method, Method::Get | Method::Delete) {
        out.push_str("* The body must include …\n");
    }
    out.push_str("\n```http\nAuthorization: Bearer TOKEN\n```\n");
    if !matches!(method, Method::Get | Method::Delete) {
        let _ = writeln!(out, "\n{}", block(&serde_json::json!({ "name": "first" })));
    }
    let status = if method == Method::Post {
        "201 Created"
    } else {
        "200 OK"
    };
    let _ = write!(
        out,
        "\n### Response\n\n```http\nHTTP/1.1 {status}\n```\n\n{}",
        block(&serde_json::json!({ "id": 1, "name": "first" }))
    );
    out
}

/// A value as a fenced block.
pub(crate) fn block(value: &Value) -> String {
    format!("```json\n{value:#}\n```\n")
}

/// Names of the parameters of a path.
pub(crate) fn parameters(path: &str) -> Vec<&str> {
    path.split('/')
        .filter_map(|part| {
            part.strip_prefix(':')
                .or_else(|| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')))
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{Site, Source};

    #[test]
    fn what_is_written_can_be_read() {
        for method in [None, Some(Method::Get), Some(Method::Post), Some(Method::Delete)] {
            let wanted = Wanted {
                title: "It's: a #thing".to_owned(),
                method,
                path: method.map(|_| "/v1/things/{id}".to_owned()),
                category: Some("Things".to_owned()),
            };
            assert_eq!(file_name(&wanted, None).as_deref(), Some("it-s-a-thing.md"));
            assert_eq!(
                file_name(&wanted, Some("2026-01-02")).as_deref(),
                Some("2026-01-02-it-s-a-thing.md")
            );
            let mut troubles = Vec::new();
            let source = Source {
                inside: "a.md".to_owned(),
                file: "a.md".to_owned(),
                text: page(&wanted),
            };
            let site = Site::of(vec![source], &mut troubles).expect("a site");
            site.render(&mut troubles);
            assert_eq!(troubles, []);
            assert_eq!(site.pages[0].title, wanted.title);
            assert_eq!(site.pages[0].method, method);
        }
    }

    #[test]
    fn parameters_of_both_kinds() {
        assert_eq!(parameters("/a/{b}/c/:d"), ["b", "d"]);
    }
}
