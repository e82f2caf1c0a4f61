//! `docs check`: whether pages and API say the same.
//!
//! Errors are: a call without a page, a page without a call, two pages of one call, a JSON sample under `Request` or `Response`
//! that is no JSON or that its schema refuses, a link that leads nowhere. Every one is told with its file and line, and
//! none hides another.

use std::collections::BTreeMap;

use serde_json::Value;
use upkeep_model::file::{
    Position,
    tree::{self, Dialect, Node},
};

use upkeep_schema::{Judge, Way};

use crate::{
    api::{
        calls::Calls,
        document::{Content, Document, Operation, without_place},
    },
    page::{
        Method, Page,
        blocks::{Block, Section},
        markdown::Body,
    },
    site::Site,
    trouble::{Level, Trouble},
};

/// Renders every page; links that lead nowhere are errors.
pub fn links(site: &Site, troubles: &mut Vec<Trouble>) -> Vec<Body> {
    let before = troubles.len();
    let bodies = site.render(troubles);
    for trouble in &mut troubles[before..] {
        trouble.level = Level::Error;
    }
    bodies
}

/// Compares the pages of a site with an API.
pub fn api(site: &Site, bodies: &[Body], document: &Document, troubles: &mut Vec<Trouble>) {
    let calls = Calls::of(document);
    let mut told: BTreeMap<usize, &Page> = BTreeMap::new();
    for (page, body) in site.pages.iter().zip(bodies) {
        let (Some(method), Some(path)) = (page.method, &page.path) else {
            continue;
        };
        let Some(number) = calls.find(method, path) else {
            troubles.push(no_call(page, method, path, &calls, document));
            continue;
        };
        if let Some(other) = told.insert(number, page) {
            troubles.push(Trouble::error(
                &page.file,
                page.at,
                format!("`{}` tells of {} {path} too", other.file, method.name()),
            ));
        }
        for block in &body.blocks {
            sample(page, block, &document.operations[number], document, troubles);
        }
    }
    for (number, operation) in document.operations.iter().enumerate() {
        if told.contains_key(&number) {
            continue;
        }
        let hidden = site.hidden.iter().find(|page| page.call(&calls) == Some(number));
        let trouble = Trouble::error(
            &document.file,
            document.position(operation),
            format!("{} {} has no page", operation.method.name(), operation.path),
        );
        troubles.push(match hidden {
            Some(page) => trouble.hint(format!("`{}` hides its page: `published: false`", page.file)),
            None => trouble.hint("`upkeep docs import` writes it"),
        });
    }
}

fn no_call(page: &Page, method: Method, path: &str, calls: &Calls<'_>, document: &Document) -> Trouble {
    let others: Vec<_> = calls.methods(path).into_iter().map(Method::name).collect();
    let trouble = Trouble::error(
        &page.file,
        page.at,
        format!(
            "the API has no {} {}",
            method.name(),
            page.path.as_deref().unwrap_or_default().escape_debug()
        ),
    );
    if others.is_empty() {
        trouble.hint(format!("`{}` does not name such a path", document.file))
    } else {
        trouble.hint(format!("it has {} there", others.join(", ")))
    }
}

/// Judges one block of a page of a call.
fn sample(
    page: &Page,
    block: &Block,
    operation: &Operation,
    document: &Document,
    troubles: &mut Vec<Trouble>,
) {
    if block.section == Section::Prose || !block.whole {
        return;
    }
    let Some((code, at)) = block.json() else {
        if block.section == Section::Response {
            unknown_status(page, block, operation, troubles);
        }
        return;
    };
    let value: Value = match serde_json::from_str(code) {
        Ok(value) => value,
        Err(error) => {
            let inside = Position {
                line: u32::try_from(error.line()).unwrap_or(u32::MAX).max(1),
                column: u32::try_from(error.column()).unwrap_or(u32::MAX).max(1),
            };
            let message = format!("the sample is no JSON: {}", without_place(&error.to_string()));
            troubles.push(Trouble::error(&page.file, moved(at, inside), message).hint(
                "names and texts need double quotes; ```json partial marks what is only a part of a value",
            ));
            return;
        }
    };
    let (content, way): (&Content, Way) = match block.section {
        Section::Request => match &operation.body {
            Some(body) => (body, Way::Request),
            None => {
                troubles.push(Trouble::error(
                    &page.file,
                    at,
                    format!(
                        "the sample is a body, and {} {} takes none",
                        operation.method.name(),
                        operation.path
                    ),
                ));
                return;
            }
        },
        _ => {
            let answer = match block.status {
                Some(status) => operation.answer(status),
                None => operation.success(),
            };
            let Some(answer) = answer else {
                unknown_status(page, block, operation, troubles);
                return;
            };
            (&answer.content, Way::Response)
        }
    };
    let Some(schema) = content.judged_by() else {
        return;
    };
    let faults = Judge::new(&document.root, document.three_zero, way).judge(schema, &value);
    // The value was read; its places only are wanted now.
    let node = tree::read_json(code, Dialect::Strict).ok();
    for fault in faults {
        let inside = node.as_ref().map_or(Position { line: 1, column: 1 }, |node| {
            place(node, &fault.pointer)
        });
        let of = if fault.pointer.is_empty() {
            "it".to_owned()
        } else {
            format!("`{}`", fault.pointer.escape_debug())
        };
        troubles.push(Trouble::error(
            &page.file,
            moved(at, inside),
            format!("the schema refuses the sample: {of} {}", fault.message),
        ));
    }
}

fn unknown_status(page: &Page, block: &Block, operation: &Operation, troubles: &mut Vec<Trouble>) {
    let Some(status) = block.status.filter(|status| operation.answer(*status).is_none()) else {
        return;
    };
    let known: Vec<_> = operation
        .answers
        .iter()
        .map(|answer| answer.status.as_str())
        .collect();
    troubles.push(
        Trouble::error(
            &page.file,
            block.at,
            format!(
                "{} {} never answers {status}",
                operation.method.name(),
                operation.path
            ),
        )
        .hint(format!("it answers {}", known.join(", "))),
    );
}

/// A place within a block as a place in the file.
fn moved(block: Position, inside: Position) -> Position {
    Position {
        line: block.line.saturating_add(inside.line).saturating_sub(1),
        column: if inside.line == 1 {
            block.column.saturating_add(inside.column).saturating_sub(1)
        } else {
            inside.column
        },
    }
}

/// Where a JSON pointer leads, or the last part of its way that is there.
fn place(node: &Node, pointer: &str) -> Position {
    let mut node = node;
    let mut at = node.at;
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        if let Some(entry) = node.entries().iter().find(|entry| entry.key == name) {
            at = entry.key_at;
            node = &entry.node;
        } else if let Some(item) = name
            .parse::<usize>()
            .ok()
            .and_then(|index| node.items().get(index))
        {
            at = item.at;
            node = item;
        } else {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Source;

    const API: &str = "openapi: 3.1.0
servers: [{url: /v2}]
paths:
  /things/{id}:
    get:
      responses:
        '200': {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/thing'}}}}
        '404': {description: none}
    put:
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/thing'}}}}
      responses: {'204': {description: done}}
  /lonely:
    post:
      responses: {}
components:
  schemas:
    thing: {type: object, required: [id], additionalProperties: false, properties: {id: {type: integer}, name: {type: string}}}
";

    fn told(pages: &[(&str, &str)]) -> Vec<String> {
        let sources = pages
            .iter()
            .map(|(inside, text)| Source {
                inside: (*inside).to_owned(),
                file: (*inside).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        let document = Document::parse("api.yaml", API.to_owned()).expect("a document");
        let mut troubles = Vec::new();
        let site = Site::of(sources, &mut troubles).expect("a site");
        let bodies = links(&site, &mut troubles);
        api(&site, &bodies, &document, &mut troubles);
        troubles.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pages_that_say_what_the_api_says_pass() {
        let told = told(&[
            (
                "get.md",
                "---\ntitle: A\ntype: GET\nurl_path: '/v2/things/:id'\n---\n### Response\n```Status: 200 OK```\n```{\n\"id\": 1}```\n\n#### 404\n```json partial\n{\"message\": …}\n```\n",
            ),
            (
                "put.md",
                "---\ntitle: A\ntype: PUT\nurl_path: '/things/{name}/'\n---\n### Request\n```json\n{\"id\": 1}\n```\n### Response\n\n```http\nHTTP/1.1 204 No Content\n```\n",
            ),
            (
                "post.md",
                "---\ntitle: A\ntype: POST\nurl_path: /lonely\n---\nSee [get](get.md).\n\n```json\n{nothing\n```\n",
            ),
        ]);
        assert_eq!(told, Vec::<String>::new());
    }

    #[test]
    fn everything_that_differs_is_told_with_its_line() {
        let told = told(&[
            (
                "get.md",
                "---\ntitle: A\ntype: GET\nurl_path: /things/{id}\n---\n[x](gone.md)\n\n### Response\n\n```json\n{\n  \"id\": \"one\",\n  \"nane\": 1\n}\n```\n\n```http\nHTTP/1.1 418 I'm a teapot\n```\n",
            ),
            (
                "get2.md",
                "---\ntitle: A\ntype: GET\nurl_path: /things/{name}\n---\n### Request\n```json\n{}\n```\n### Response\n```json\n{\"id\": 1,}\n```\n",
            ),
            (
                "patch.md",
                "---\ntitle: A\ntype: PATCH\nurl_path: /things/{id}\n---\n",
            ),
            ("other.md", "---\ntitle: A\ntype: GET\nurl_path: /other\n---\n"),
        ]);
        assert_eq!(
            told,
            [
                "get.md:6:1: `gone.md` is no page of this site",
                "get.md:12:3: the schema refuses the sample: `/id` is the text `\"one\"`, not a whole number",
                "get.md:13:3: the schema refuses the sample: `/nane` `nane` is not in the schema; did you mean `name`?",
                "get.md:18:1: GET /things/{id} never answers 418",
                "get2.md:4:1: `get.md` tells of GET /things/{name} too",
                "get2.md:8:1: the sample is a body, and GET /things/{id} takes none",
                "get2.md:12:10: the sample is no JSON: trailing comma",
                "other.md:4:1: the API has no GET /other",
                "patch.md:4:1: the API has no PATCH /things/{id}",
                "api.yaml:9:5: PUT /things/{id} has no page",
                "api.yaml:13:5: POST /lonely has no page",
            ]
        );
    }
}
