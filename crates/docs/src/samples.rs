//! The call of a page as programs write it: curl, JavaScript, Python.
//!
//! Made of the page's method and path and of what stands under `### Request`: headers, a request line with a query, the first
//! JSON block as the body. Parameters of the path become words in capitals, which no shell and no URL trips over.

use std::fmt::Write as _;

use serde_json::Value;

use crate::page::{
    Method, Page,
    blocks::{Kind, Section, request_line},
    markdown::Body,
};

/// A sample in one language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What the tab says.
    pub name: &'static str,
    /// The language, for classes and ids.
    pub language: &'static str,
    /// The code.
    pub code: String,
}

/// What a page says of its call.
struct Call {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    /// The body as it stands on the page, and as JSON if it is.
    body: Option<(String, Option<Value>)>,
    /// Whether the answer is JSON, as far as the page says.
    json_answer: bool,
    /// Whether the answer has no end.
    stream: bool,
}

/// The samples of a page; none for prose.
pub fn of_page(page: &Page, body: &Body, api_url: &str) -> Vec<Sample> {
    let (Some(method), Some(path)) = (page.method, &page.path) else {
        return Vec::new();
    };
    let requests = || {
        body.blocks
            .iter()
            .filter(|block| block.section == Section::Request)
    };
    let mut headers = Vec::new();
    for (name, value) in requests().flat_map(|block| block.headers()) {
        if !headers
            .iter()
            .any(|(known, _): &(String, String)| known.eq_ignore_ascii_case(&name))
        {
            headers.push((name, value));
        }
    }
    let target = requests()
        .filter(|block| block.kind == Kind::Http)
        .find_map(|block| request_line(block.code.lines().next()?).map(str::to_owned));
    let sent = requests()
        .find_map(|block| block.json())
        .filter(|_| method != Method::Get)
        .map(|(text, _)| (text.to_owned(), serde_json::from_str(text).ok()));
    if sent.is_some()
        && !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    let mut answers = body
        .blocks
        .iter()
        .filter(|block| block.section == Section::Response && block.status.is_none_or(|status| status < 300));
    let stream = headers
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("accept") && value == "text/event-stream");
    let call = Call {
        method,
        url: format!("{api_url}{}", address(target.as_deref().unwrap_or(path))),
        headers,
        body: sent,
        json_answer: !stream && answers.any(|block| block.json().is_some()),
        stream,
    };
    vec![
        Sample {
            name: "curl",
            language: "sh",
            code: call.curl(),
        },
        Sample {
            name: "JavaScript",
            language: "js",
            code: call.javascript(),
        },
        Sample {
            name: "Python",
            language: "python",
            code: call.python(),
        },
    ]
}

/// A path whose parameters are words in capitals, without what no URL may hold.
pub(crate) fn address(path: &str) -> String {
    let mut out = String::new();
    let mut parameter: Option<char> = None;
    for character in path.chars() {
        match (parameter, character) {
            (None, '{' | '<') => parameter = Some(character),
            (None, ':') if out.ends_with('/') => parameter = Some(':'),
            (Some('{' | '<'), '}' | '>') => parameter = None,
            (Some(':'), next) if !next.is_ascii_alphanumeric() && next != '_' && next != '-' => {
                parameter = None;
                out.push(next);
            }
            (Some(_), next) => out.extend(
                next.to_uppercase()
                    .filter(char::is_ascii_alphanumeric)
                    .chain((next == '_' || next == '-').then_some('_')),
            ),
            (None, next) if next.is_ascii_graphic() && !"'\"\\^`|".contains(next) => out.push(next),
            (None, next) => {
                let mut bytes = [0; 4];
                for byte in next.encode_utf8(&mut bytes).bytes() {
                    // Infallible: a String takes all.
                    let _ = write!(out, "%{byte:02X}");
                }
            }
        }
    }
    out
}

impl Call {
    fn curl(&self) -> String {
        let mut out = String::from("curl");
        if self.stream {
            out.push_str(" -N");
        }
        if self.method != Method::Get {
            // Infallible, here and below: a String takes all.
            let _ = write!(out, " -X {}", self.method.name());
        }
        let _ = write!(out, " {}", shell(&self.url));
        for (name, value) in &self.headers {
            let _ = write!(out, " \\\n  -H {}", shell(&format!("{name}: {value}")));
        }
        if let Some((text, _)) = &self.body {
            let _ = write!(out, " \\\n  --data-raw {}", shell(text));
        }
        out
    }

    fn javascript(&self) -> String {
        let mut out = String::new();
        let mut options = String::new();
        if self.method != Method::Get {
            let _ = writeln!(options, "  method: {},", quoted(self.method.name()));
        }
        if !self.headers.is_empty() {
            options.push_str("  headers: {\n");
            for (name, value) in &self.headers {
                let _ = writeln!(options, "    {}: {},", quoted(name), quoted(value));
            }
            options.push_str("  },\n");
        }
        match &self.body {
            Some((text, Some(_))) => {
                let _ = writeln!(options, "  body: JSON.stringify({}),", indented(text, "  "));
            }
            Some((text, None)) => {
                let _ = writeln!(options, "  body: {},", quoted(text));
            }
            None => {}
        }
        let _ = write!(out, "const response = await fetch({}", quoted(&self.url));
        if options.is_empty() {
            out.push_str(");\n");
        } else {
            let _ = writeln!(out, ", {{\n{options}}});");
        }
        if self.stream {
            out.push_str(
                "const text = response.body.pipeThrough(new TextDecoderStream());\n\
                 for await (const part of text) {\n  console.log(part);\n}",
            );
        } else if self.json_answer {
            out.push_str("console.log(response.status, await response.json());");
        } else {
            out.push_str("console.log(response.status, await response.text());");
        }
        out
    }

    fn python(&self) -> String {
        let mut out = String::new();
        if self.json_answer || self.body.as_ref().is_some_and(|(_, json)| json.is_some()) {
            out.push_str("import json\n");
        }
        let _ = write!(
            out,
            "import urllib.request\n\nrequest = urllib.request.Request(\n    {},\n    method={},\n",
            quoted(&self.url),
            quoted(self.method.name())
        );
        if !self.headers.is_empty() {
            out.push_str("    headers={\n");
            for (name, value) in &self.headers {
                let _ = writeln!(out, "        {}: {},", quoted(name), quoted(value));
            }
            out.push_str("    },\n");
        }
        match &self.body {
            Some((_, Some(value))) => {
                let _ = writeln!(out, "    data=json.dumps({}).encode(),", literal(value, 4));
            }
            Some((text, None)) => {
                let _ = writeln!(out, "    data={}.encode(),", quoted(text));
            }
            None => {}
        }
        out.push_str(")\nwith urllib.request.urlopen(request) as response:\n");
        out.push_str(if self.stream {
            "    for line in response:\n        print(line.decode().rstrip())"
        } else if self.json_answer {
            "    print(response.status, json.load(response))"
        } else {
            "    print(response.status, response.read().decode())"
        });
        out
    }
}

/// A word that a POSIX shell takes as it is.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A text as JavaScript and Python both read it: JSON.
fn quoted(text: &str) -> String {
    // Two line ends that JSON allows and older JavaScript does not.
    Value::from(text)
        .to_string()
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// Every line but the first moved to the right.
fn indented(text: &str, by: &str) -> String {
    text.replace('\n', &format!("\n{by}"))
}

/// A value as Python writes it.
fn literal(value: &Value, indent: usize) -> String {
    let inner = " ".repeat(indent + 4);
    let outer = " ".repeat(indent);
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            let items: Vec<_> = items.iter().map(|item| literal(item, indent)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Array(items) => {
            let mut out = String::from("[\n");
            for item in items {
                let _ = writeln!(out, "{inner}{},", literal(item, indent + 4));
            }
            out + &outer + "]"
        }
        Value::Object(entries) => {
            let mut out = String::from("{\n");
            for (key, value) in entries {
                let _ = writeln!(out, "{inner}{}: {},", quoted(key), literal(value, indent + 4));
            }
            out + &outer + "}"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_words() {
        assert_eq!(
            address("/v1/apps/{name}/crashes/{id}"),
            "/v1/apps/NAME/crashes/ID"
        );
        assert_eq!(address("/stuff/:id?x=:y"), "/stuff/ID?x=:y");
        assert_eq!(address("/a/{some-id}/<b>"), "/a/SOME_ID/B");
        assert_eq!(address("/ä b'"), "/%C3%A4%20b%27");
    }

    #[test]
    fn quotes_do_not_end_what_they_are_in() {
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(quoted("a\"b\n\u{2028}"), "\"a\\\"b\\n\\u2028\"");
        assert_eq!(
            literal(&serde_json::json!({"a": [1, null], "b": [{"c": true}]}), 0),
            "{\n    \"a\": [1, None],\n    \"b\": [\n        {\n            \"c\": True,\n        },\n    ],\n}"
        );
    }
}
