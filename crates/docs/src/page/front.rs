//! Front matter: the YAML between two lines of `---` at the top of a file.

use std::collections::BTreeMap;

use upkeep_model::file::{
    Position,
    tree::{self, Node, Value},
};

use super::Method;
use upkeep_schema::did_you_mean;

use crate::trouble::Trouble;

/// Keys that mean something here or to Jekyll: nobody is warned of these.
const KNOWN: &[&str] = &[
    "title",
    "path",
    "url_path",
    "type",
    "category",
    "categories",
    "layout",
    "order",
    "date",
    "published",
    "generated",
    "tags",
    "permalink",
    "description",
    "author",
    "slug",
    "excerpt",
    "version",
    "params",
    "codes",
];

/// Keys that a misspelt one may have been.
const MEANT: &[&str] = &[
    "title",
    "path",
    "url_path",
    "type",
    "category",
    "layout",
    "order",
    "published",
];

/// What the front matter of one file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Front {
    pub(crate) title: String,
    pub(crate) path: Option<String>,
    pub(crate) method: Option<Method>,
    pub(crate) category: Option<String>,
    pub(crate) order: Option<i64>,
    pub(crate) published: bool,
    /// Where `path` stands, else the first line.
    pub(crate) at: Position,
    /// Every key with a scalar, for `{{ page.KEY }}`.
    pub(crate) scalars: BTreeMap<String, String>,
}

/// Where a file starts.
pub(crate) const START: Position = Position { line: 1, column: 1 };

/// The two halves of a file: the YAML, and the rest with the number of its first line.
pub(crate) fn split(text: &str) -> Option<(&str, &str, u32)> {
    let mut lines = text.split_inclusive('\n');
    let first = lines.next()?;
    if first.trim_end() != "---" {
        return None;
    }
    let start = first.len();
    let mut end = start;
    for (index, line) in lines.enumerate() {
        let bare = line.trim_end();
        if bare == "---" || bare == "..." {
            let body = text.get(end + line.len()..).unwrap_or_default();
            let number = u32::try_from(index + 3).unwrap_or(u32::MAX);
            return Some((text.get(start..end).unwrap_or_default(), body, number));
        }
        end += line.len();
    }
    None
}

/// Reads the front matter of a file. What is wrong is added to `troubles`; nothing is returned if the page cannot be
/// used.
pub(crate) fn read(file: &str, yaml: &str, troubles: &mut Vec<Trouble>) -> Option<Front> {
    let node = match tree::read_yaml(yaml) {
        Ok(node) => node,
        Err(fault) => {
            troubles.push(
                Trouble::error(
                    file,
                    fault.position.map(below),
                    format!("the front matter cannot be read: {}", fault.message),
                )
                .maybe(fault.hint.or_else(|| {
                    Some("values with `:`, `#` or `{` at their start need quotes: title: 'A: b'".to_owned())
                })),
            );
            return None;
        }
    };
    if !matches!(node.value, Value::Map(_) | Value::Null) {
        troubles.push(
            Trouble::error(
                file,
                below(node.at),
                format!("the front matter is {}, not keys with values", node.kind()),
            )
            .hint("write `title: …` between the two lines of `---`"),
        );
        return None;
    }
    let errors = troubles.len();
    let mut front = Front {
        title: String::new(),
        path: None,
        method: None,
        category: None,
        order: None,
        published: true,
        at: START,
        scalars: BTreeMap::new(),
    };
    for entry in node.entries() {
        let at = below(entry.node.at);
        if let Some(text) = entry.node.as_text() {
            front.scalars.insert(entry.key.clone(), text.to_owned());
        }
        match entry.key.as_str() {
            "title" => match text(&entry.node) {
                Ok(Some(title)) => front.title = title,
                Ok(None) => {}
                Err(kind) => {
                    troubles.push(Trouble::error(file, at, format!("`title` is a text, not {kind}")));
                }
            },
            "path" | "url_path" => match text(&entry.node) {
                Ok(Some(path)) => {
                    // `url_path` is what Jekyll does not take for itself: it wins.
                    if entry.key == "url_path" || front.path.is_none() {
                        front.path = Some(path);
                        front.at = below(entry.key_at);
                    }
                }
                Ok(None) => {}
                Err(kind) => troubles.push(
                    Trouble::error(file, at, format!("`{}` is a text, not {kind}", entry.key))
                        .hint("write it in quotes: url_path: '/stuff/{id}'"),
                ),
            },
            "type" => read_type(file, &entry.node, at, &mut front, troubles),
            "category" | "categories" => {
                let first = entry.node.items().first().unwrap_or(&entry.node);
                match text(first) {
                    Ok(category) => front.category = front.category.or(category),
                    Err(kind) => troubles.push(Trouble::error(
                        file,
                        at,
                        format!("`{}` is a text, not {kind}", entry.key),
                    )),
                }
            }
            "order" => match entry.node.as_text().map(str::parse) {
                Some(Ok(order)) => front.order = Some(order),
                _ => troubles.push(Trouble::error(
                    file,
                    at,
                    format!("`order` is a whole number, not {}", entry.node.kind()),
                )),
            },
            "published" => front.published = entry.node.as_text() != Some("false"),
            key if KNOWN.contains(&key) => {}
            key => {
                if let Some(hint) = did_you_mean(key, MEANT) {
                    troubles.push(
                        Trouble::warning(
                            file,
                            below(entry.key_at),
                            format!("`{}` means nothing here", key.escape_debug()),
                        )
                        .hint(hint),
                    );
                }
            }
        }
    }
    if front.title.is_empty() {
        troubles.push(
            Trouble::error(file, START, "the page has no `title`")
                .hint("write `title: …` into the front matter"),
        );
    }
    if front.path.is_some() && front.method.is_none() && errors == troubles.len() {
        troubles.push(
            Trouble::warning(
                file,
                front.at,
                "the page has a path and no `type`: it is shown as prose",
            )
            .hint("write `type: GET`, or PUT, POST, PATCH, DELETE"),
        );
    }
    (!front.title.is_empty()).then_some(front)
}

fn read_type(file: &str, node: &Node, at: Position, front: &mut Front, troubles: &mut Vec<Trouble>) {
    let written = match text(node) {
        Ok(None) => return,
        Ok(Some(written)) => written,
        Err(kind) => kind,
    };
    front.method = Method::parse(&written);
    if front.method.is_none() {
        troubles.push(
            Trouble::error(
                file,
                at,
                format!("`type` is `{}`, which is no method", written.escape_debug()),
            )
            .hint("GET, PUT, POST, PATCH or DELETE; leave it out for prose"),
        );
    }
}

/// A scalar without blanks around; none if there is nothing; an error with the kind of what is no scalar.
fn text(node: &Node) -> Result<Option<String>, String> {
    match &node.value {
        Value::Null => Ok(None),
        _ => match node.as_text() {
            Some(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            None => Err(node.kind()),
        },
    }
}

/// A place in the YAML as a place in the file: the line of `---` stands above.
fn below(at: Position) -> Position {
    Position {
        line: at.line.saturating_add(1),
        ..at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> (Option<Front>, Vec<String>) {
        let mut troubles = Vec::new();
        let (yaml, _, _) = split(text).expect("front matter");
        let front = read("a.md", yaml, &mut troubles);
        (front, troubles.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn carte_s_keys_are_read() {
        let (front, told) = told(
            "---\ncategory: Stuff\nurl_path: '/stuff/:id'\ntitle: 'Edit a thing'\ntype: 'PUT'\n\nlayout: null\n---\nx",
        );
        let front = front.expect("a page");
        assert_eq!(told, Vec::<String>::new());
        assert_eq!(front.title, "Edit a thing");
        assert_eq!(front.method, Some(Method::Put));
        assert_eq!(front.path.as_deref(), Some("/stuff/:id"));
        assert_eq!(front.category.as_deref(), Some("Stuff"));
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        let (front, told) = told("---\ntitle: A\ntype: FETCH\npath: /a\norder: x\ncategroy: B\n---\n");
        assert!(front.is_some());
        assert_eq!(
            told,
            [
                "a.md:3:7: `type` is `FETCH`, which is no method",
                "a.md:5:8: `order` is a whole number, not the text `x`",
                "a.md:6:1: `categroy` means nothing here",
            ]
        );
    }

    #[test]
    fn a_page_without_a_title_is_none() {
        assert_eq!(told("---\n---\n").1, ["a.md:1:1: the page has no `title`"]);
        let (front, told) = told("---\ntitle: a: b\n---\n");
        assert_eq!(front, None);
        assert!(told[0].starts_with("a.md:2:"), "{told:?}");
    }

    #[test]
    fn the_body_starts_where_it_starts() {
        assert_eq!(split("---\na: b\n---\nx\ny"), Some(("a: b\n", "x\ny", 4)));
        assert_eq!(split("---\na: b\n"), None);
        assert_eq!(split("# a\n"), None);
        assert_eq!(split(""), None);
    }
}
