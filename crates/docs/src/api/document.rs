//! OpenAPI 3.0 and 3.1, JSON or YAML, as a list of operations.
//!
//! Source: the OpenAPI Specification 3.0.4 and 3.1.1 (openapis.org). References are followed within the file only.

use std::{fs, path::Path};

use serde_json::{Map, Value};
use upkeep_model::file::Position;

use upkeep_schema::{at_reference, did_you_mean};

use crate::{page::Method, trouble::Trouble};

/// Larger documents are not read.
const MAX_BYTES: usize = 64 << 20;
/// References that lead to references that lead to references.
const MAX_HOPS: usize = 32;

/// A document.
#[derive(Clone, Debug)]
pub struct Document {
    /// As it is called from where the command was started.
    pub file: String,
    text: String,
    /// All of it.
    pub root: Value,
    /// Whether it is 3.0, whose schemas differ.
    pub three_zero: bool,
    /// Its operations, in the order of the file.
    pub operations: Vec<Operation>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// `path`, `query`, `header` or `cookie`.
    pub place: String,
    /// Whether a call needs it.
    pub required: bool,
    /// What it is for.
    pub description: String,
    /// What it may be.
    pub schema: Value,
    /// A value that it may have.
    pub example: Option<Value>,
}

/// A body with the form that we know how to show: JSON, else the first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// The media type; empty if there is no body.
    pub media: String,
    /// What it may be; none if nothing is said.
    pub schema: Option<Value>,
    /// A value that it may be.
    pub example: Option<Value>,
    /// Whether a call needs it.
    pub required: bool,
    /// What it is.
    pub description: String,
    /// Where it is no JSON but lines or events of JSON (`x-item`): what one of them may be.
    pub item: Option<Value>,
}

impl Content {
    /// What a JSON sample of it must fit: all of it, or where it is a stream one of its items.
    pub fn judged_by(&self) -> Option<&Value> {
        if self.is_json() {
            self.schema.as_ref()
        } else {
            self.item.as_ref()
        }
    }

    /// Whether it is JSON.
    pub fn is_json(&self) -> bool {
        let essence = self.media.split(';').next().unwrap_or_default().trim();
        essence == "application/json" || essence.ends_with("+json")
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// `200`, `4XX`, `default`.
    pub status: String,
    /// When it is given.
    pub description: String,
    /// Its body.
    pub content: Content,
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its method.
    pub method: Method,
    /// Its path, with `{parameters}`.
    pub path: String,
    /// What it does, in a line.
    pub summary: String,
    /// What it does, at length, as Markdown.
    pub description: String,
    /// Its name for programs.
    pub id: String,
    /// Its first tag.
    pub tag: Option<String>,
    /// Whether it is on its way out.
    pub deprecated: bool,
    /// Parameters, those of the path first.
    pub parameters: Vec<Parameter>,
    /// The body, if it takes one.
    pub body: Option<Content>,
    /// The answers, in the order of the file.
    pub answers: Vec<Answer>,
    /// Schemes of security, as they are called in the document; empty if anybody may.
    pub security: Vec<String>,
}

impl Operation {
    /// The answer that a status is given by: its own, that of its class, the default.
    pub fn answer(&self, status: u16) -> Option<&Answer> {
        let exact = status.to_string();
        let class = format!("{}XX", status / 100);
        [exact.as_str(), class.as_str(), "default"]
            .iter()
            .find_map(|wanted| {
                self.answers
                    .iter()
                    .find(|answer| answer.status.eq_ignore_ascii_case(wanted))
            })
    }

    /// The first answer that means success.
    pub fn success(&self) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.status.starts_with('2'))
    }
}

impl Document {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Trouble> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| Trouble::error(&file, None, format!("cannot be read: {error}")))?;
        Self::parse(&file, text)
    }

    /// Reads a text.
    pub fn parse(file: &str, text: String) -> Result<Self, Trouble> {
        let no = |at: Option<Position>, message: String| Trouble::error(file, at, message);
        if text.len() > MAX_BYTES {
            return Err(no(None, format!("is larger than {} MiB", MAX_BYTES >> 20)));
        }
        let root = read_tree(&text).map_err(|(at, message)| no(at, message))?;
        let version = match root.get("openapi") {
            Some(Value::String(version)) => version.clone(),
            Some(other) => other.to_string(),
            None => {
                let hint = if root.get("swagger").is_some() {
                    "this is Swagger 2: convert it to OpenAPI 3 first"
                } else {
                    "an OpenAPI document starts with `openapi: 3.1.0`"
                };
                return Err(no(
                    Some(START),
                    "is no OpenAPI document: it has no `openapi`".to_owned(),
                )
                .hint(hint));
            }
        };
        if !version.starts_with("3.0") && !version.starts_with("3.1") {
            return Err(
                no(Some(START), format!("is of OpenAPI {}", version.escape_debug()))
                    .hint("3.0 and 3.1 can be read"),
            );
        }
        let mut document = Self {
            file: file.to_owned(),
            text,
            root,
            three_zero: version.starts_with("3.0"),
            operations: Vec::new(),
        };
        document.operations = document.list()?;
        Ok(document)
    }

    /// Follows `$ref`, as often as there is one.
    pub fn follow<'a>(&'a self, value: &'a Value) -> Result<&'a Value, String> {
        follow(&self.root, value)
    }

    /// Where an operation stands in the file, as near as can be told.
    pub fn position(&self, operation: &Operation) -> Position {
        locate(&self.text, &["paths", &operation.path, operation.method.lower()])
    }

    /// The path of the first server, to put before paths: `/v2` of `https://e.org/v2`.
    pub fn base_path(&self) -> String {
        let url = self
            .root
            .pointer("/servers/0/url")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let rest = url
            .split_once("://")
            .map_or(url, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
        rest.trim_end_matches('/').to_owned()
    }

    /// Words on a tag.
    pub fn tag_description(&self, tag: &str) -> Option<&str> {
        self.root
            .get("tags")?
            .as_array()?
            .iter()
            .find(|known| known["name"] == tag)?
            .get("description")?
            .as_str()
    }

    fn list(&self) -> Result<Vec<Operation>, Trouble> {
        let broken = |message: String| Trouble::error(&self.file, None, message);
        let mut operations = Vec::new();
        let empty = Map::new();
        let paths = match self.root.get("paths") {
            Some(Value::Object(paths)) => paths,
            // 3.1 allows a document of components only.
            None => &empty,
            Some(_) => return Err(broken("`paths` is no map".to_owned())),
        };
        for (path, item) in paths {
            let at =
                |message: String| Trouble::error(&self.file, locate(&self.text, &["paths", path]), message);
            let item = self.follow(item).map_err(at)?;
            let Value::Object(entries) = item else {
                return Err(at(format!("`{}` is no map", path.escape_debug())));
            };
            for key in entries.keys() {
                let known = [
                    "summary",
                    "description",
                    "servers",
                    "parameters",
                    "$ref",
                    "head",
                    "options",
                    "trace",
                ];
                if Method::ALL.iter().any(|method| method.lower() == key) || known.contains(&key.as_str()) {
                    continue;
                }
                if !key.starts_with("x-") {
                    return Err(at(format!("`{}` is no method", key.escape_debug()))
                        .maybe(did_you_mean(key, &["get", "post", "put", "patch", "delete"])));
                }
            }
            for method in Method::ALL {
                if let Some(written) = entries.get(method.lower()) {
                    let operation = self
                        .operation(method, path, item, written)
                        .map_err(|message| at(format!("{} {path}: {message}", method.name())))?;
                    operations.push(operation);
                }
            }
        }
        Ok(operations)
    }

    fn operation(
        &self,
        method: Method,
        path: &str,
        item: &Value,
        written: &Value,
    ) -> Result<Operation, String> {
        let mut parameters: Vec<Parameter> = Vec::new();
        let lists = [written.get("parameters"), item.get("parameters")];
        for parameter in lists.into_iter().flatten().filter_map(Value::as_array).flatten() {
            let parameter = self.parameter(self.follow(parameter)?)?;
            // What the operation says holds before what its path says.
            if !parameters
                .iter()
                .any(|known| known.name == parameter.name && known.place == parameter.place)
            {
                parameters.push(parameter);
            }
        }
        parameters.sort_by_key(|parameter| {
            ["path", "query", "header"]
                .iter()
                .position(|place| *place == parameter.place)
        });
        let body = match written.get("requestBody") {
            Some(body) => {
                let body = self.follow(body)?;
                let mut content = self.content(body.get("content"))?;
                content.required = body["required"] == true;
                content.description = text(body, "description");
                Some(content)
            }
            None => None,
        };
        let mut answers = Vec::new();
        for (status, answer) in written
            .get("responses")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if status.starts_with("x-") {
                continue;
            }
            let answer = self.follow(answer)?;
            answers.push(Answer {
                status: status.clone(),
                description: text(answer, "description"),
                content: self.content(answer.get("content"))?,
            });
        }
        let security = written.get("security").or_else(|| self.root.get("security"));
        let security = security
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .flat_map(|needs| needs.keys().cloned())
            .collect();
        Ok(Operation {
            method,
            path: path.to_owned(),
            summary: text(written, "summary"),
            description: text(written, "description"),
            id: text(written, "operationId"),
            tag: written
                .pointer("/tags/0")
                .and_then(Value::as_str)
                .map(str::to_owned),
            deprecated: written["deprecated"] == true,
            parameters,
            body,
            answers,
            security,
        })
    }

    fn parameter(&self, written: &Value) -> Result<Parameter, String> {
        let content = self.content(written.get("content"))?;
        let schema = written
            .get("schema")
            .cloned()
            .or(content.schema)
            .unwrap_or(Value::Bool(true));
        let place = text(written, "in");
        Ok(Parameter {
            name: text(written, "name"),
            required: written["required"] == true || place == "path",
            place,
            description: text(written, "description"),
            example: self.example(written)?.or(content.example),
            schema,
        })
    }

    fn content(&self, content: Option<&Value>) -> Result<Content, String> {
        let Some(Value::Object(forms)) = content else {
            return Ok(Content::default());
        };
        let json = forms.iter().find(|(media, _)| {
            Content {
                media: (*media).clone(),
                ..Content::default()
            }
            .is_json()
        });
        let Some((media, form)) = json.or_else(|| forms.iter().next()) else {
            return Ok(Content::default());
        };
        Ok(Content {
            media: media.clone(),
            schema: form.get("schema").cloned(),
            item: form.get("x-item").cloned(),
            example: self.example(form)?,
            ..Content::default()
        })
    }

    /// `example`, else the first of `examples`.
    fn example(&self, of: &Value) -> Result<Option<Value>, String> {
        if let Some(example) = of.get("example") {
            return Ok(Some(example.clone()));
        }
        let first = match of.get("examples") {
            Some(Value::Object(examples)) => examples.values().next(),
            _ => None,
        };
        let Some(first) = first else {
            return Ok(None);
        };
        Ok(self.follow(first)?.get("value").cloned())
    }
}

const START: Position = Position { line: 1, column: 1 };

fn text(of: &Value, key: &str) -> String {
    of.get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn read_tree(text: &str) -> Result<Value, (Option<Position>, String)> {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
        return serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
            let at = Position {
                line: number(error.line()),
                column: number(error.column()),
            };
            (
                Some(at),
                format!("is no JSON: {}", without_place(&error.to_string())),
            )
        });
    }
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    if let Some(budget) = &mut options.budget {
        budget.max_nodes = 5_000_000;
    }
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map(|at| Position {
            line: u32::try_from(at.line()).unwrap_or(u32::MAX).max(1),
            column: u32::try_from(at.column()).unwrap_or(u32::MAX).max(1),
        });
        let full = error.without_snippet().to_string();
        (at, format!("is no YAML: {}", without_place(&full)))
    })
}

/// The place is told in front.
pub(crate) fn without_place(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

/// Follows `$ref` from a value of a document.
pub(crate) fn follow<'a>(root: &'a Value, value: &'a Value) -> Result<&'a Value, String> {
    let mut value = value;
    for _ in 0..MAX_HOPS {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else {
            return Ok(value);
        };
        value = at_reference(root, reference)?;
    }
    Err("its references lead in a circle".to_owned())
}

/// The line of a chain of keys: the first line that is `key:` below that of the key before. Only to point at.
fn locate(text: &str, keys: &[&str]) -> Position {
    let mut lines = text.lines().enumerate();
    let mut at = START;
    for key in keys {
        let quoted = [format!("\"{key}\""), format!("'{key}'"), (*key).to_owned()];
        let found = lines.by_ref().find(|(_, line)| {
            let line = line.trim_start_matches([' ', '{', ',', '\t']);
            quoted.iter().any(|key| {
                line.strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.trim_start().starts_with(':'))
            })
        });
        let Some((index, line)) = found else {
            return at;
        };
        let indent = line.len() - line.trim_start().len();
        at = Position {
            line: u32::try_from(index + 1).unwrap_or(u32::MAX),
            column: u32::try_from(indent + 1).unwrap_or(u32::MAX),
        };
    }
    at
}

#[cfg(test)]
mod tests;
