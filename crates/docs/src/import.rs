//! `docs import`: a page for each operation of an OpenAPI file.
//!
//! # How it tells what a person wrote
//!
//! A page that was made carries `generated: DIGEST`, the start of the SHA-256 of the file without that line. If the digest is
//! right, nobody has touched the page, and it may be made anew. If it is wrong, or not there, a person wrote or changed the
//! page, and it stays as it is. A page is found by its call ([`Calls`]), whatever its file is called and whether it is
//! published: what a person wrote under another name, or hid, is not made a second time. A file that is there and is no page
//! of a call is never written to.

mod tables;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;

use self::tables::{Row, cell, rows, table};
use crate::{
    api::{
        calls::Calls,
        document::{Content, Document, Operation},
        example::{self, Words},
    },
    encode::short_digest,
    page::{Page, slug},
    site::Site,
    skeleton::{block, scalar},
    trouble::Trouble,
    write,
};

/// What became of the operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Written for the first time, or anew.
    pub written: Vec<PathBuf>,
    /// Already what would have been written.
    pub same: Vec<PathBuf>,
    /// Changed by a person, and left alone.
    pub kept: Vec<PathBuf>,
    /// Made earlier, for calls that the document no longer has; left alone too.
    pub gone: Vec<PathBuf>,
}

/// Writes pages into a folder, which is made if it is not there. With `dry` it only tells.
pub fn import(document: &Document, folder: &Path, dry: bool) -> Result<Imported, Vec<Trouble>> {
    let shown = folder.display().to_string();
    let failed = |path: &Path, error: io::Error| {
        vec![Trouble::error(
            &path.display().to_string(),
            None,
            format!("cannot be written: {error}"),
        )]
    };
    if folder.join("_posts").is_dir() {
        return Err(vec![
            Trouble::error(&shown, None, "is a site of posts, whose names need days")
                .hint("give another folder, and move what you want of it"),
        ]);
    }
    let mut troubles = Vec::new();
    let site = if folder.is_dir() && has_pages(folder) {
        let site = Site::read(folder, &mut troubles);
        if site.is_none() {
            return Err(troubles);
        }
        site
    } else {
        None
    };
    let pages: Vec<&Page> = site
        .iter()
        .flat_map(|site| site.pages.iter().chain(&site.hidden))
        .collect();
    let words = site
        .as_ref()
        .map_or_else(|| words_of(folder), |site| site.config.examples.clone());
    let mut imported = Imported::default();
    let mut names: BTreeSet<String> = pages.iter().map(|page| page.inside.clone()).collect();
    let calls = Calls::of(document);
    for (number, operation) in document.operations.iter().enumerate() {
        let there = pages.iter().find(|page| page.call(&calls) == Some(number));
        let text = signed(&page(document, operation, &words));
        let path = match there {
            Some(page) => {
                let path = folder.join(&page.inside);
                let old = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
                if old == text {
                    imported.same.push(path);
                    continue;
                }
                if !is_made(&old) {
                    imported.kept.push(path);
                    continue;
                }
                path
            }
            None => folder.join(free_name(operation, &mut names, folder)),
        };
        if !dry {
            write::write(&path, &text).map_err(|error| failed(&path, error))?;
        }
        imported.written.push(path);
    }
    for page in &pages {
        let file = folder.join(&page.inside);
        if page.method.is_some()
            && page.path.is_some()
            && page.call(&calls).is_none()
            && fs::read_to_string(&file).is_ok_and(|text| is_made(&text))
        {
            imported.gone.push(file);
        }
    }
    let config = folder.join("_config.yml");
    if !dry && !config.exists() {
        write::write(&config, &site_config(document)).map_err(|error| failed(&config, error))?;
    }
    Ok(imported)
}

/// Words of a folder that has no pages yet.
fn words_of(folder: &Path) -> Words {
    let config = fs::read_to_string(folder.join("_config.yml")).unwrap_or_default();
    crate::site::examples(&config)
}

fn has_pages(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        entry.path().is_dir()
            || entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "md")
    })
}

fn site_config(document: &Document) -> String {
    let title = document
        .root
        .pointer("/info/title")
        .and_then(Value::as_str)
        .unwrap_or("API");
    let mut out = format!("title: {}\n", scalar(title));
    let url = document
        .root
        .pointer("/servers/0/url")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if url.starts_with("http") {
        // Infallible: a String takes all.
        let _ = writeln!(out, "api_url: {}", scalar(url));
    }
    out
}

/// `v1-apps-name-get.md`: files stand in the order of paths.
fn free_name(operation: &Operation, names: &mut BTreeSet<String>, folder: &Path) -> String {
    let stem = slug(&format!("{} {}", operation.path, operation.method.name()));
    let mut name = format!("{stem}.md");
    let mut number = 2;
    while !names.insert(name.clone()) || folder.join(&name).symlink_metadata().is_ok() {
        name = format!("{stem}-{number}.md");
        number += 1;
    }
    name
}

const MARK: &str = "generated: ";

/// The page with the digest of itself, as the last line of its front matter.
fn signed(page: &str) -> String {
    page.replacen("\n---\n", &format!("\n{MARK}{}\n---\n", short_digest(page)), 1)
}

/// Whether a page is as it was made.
fn is_made(text: &str) -> bool {
    let mut rest = String::with_capacity(text.len());
    let mut digest = None;
    for line in text.split_inclusive('\n') {
        match line.strip_prefix(MARK) {
            Some(value) if digest.is_none() => digest = Some(value.trim().to_owned()),
            _ => rest.push_str(line),
        }
    }
    digest.is_some_and(|digest| digest == short_digest(&rest))
}

fn page(document: &Document, operation: &Operation, words: &Words) -> String {
    let mut out = String::from("---\n");
    let title = match (&*operation.summary, &*operation.id) {
        ("", "") => format!("{} {}", operation.method.name(), operation.path),
        ("", id) => id.to_owned(),
        (summary, _) => summary.trim_end_matches('.').to_owned(),
    };
    // Infallible, here and below: a String takes all.
    // A title is text: it has no marks of code.
    let _ = writeln!(out, "title: {}", scalar(&title.replace('`', "")));
    let _ = writeln!(out, "type: {}", operation.method.name());
    let _ = writeln!(out, "url_path: {}", scalar(&operation.path));
    if let Some(tag) = &operation.tag {
        let _ = writeln!(out, "category: {}", scalar(tag));
    }
    out.push_str("---\n\n");
    if operation.deprecated {
        out.push_str("**This call is on its way out.**\n\n");
    }
    let told = if operation.description.is_empty() {
        &operation.summary
    } else {
        &operation.description
    };
    if !told.is_empty() {
        let _ = writeln!(out, "{}\n", told.trim());
    }
    request(&mut out, document, operation, words);
    response(&mut out, document, operation, words);
    format!("{}\n", out.trim_end())
}

fn request(out: &mut String, document: &Document, operation: &Operation, words: &Words) {
    out.push_str("### Request\n\n");
    for (place, heading) in [("path", "Path"), ("query", "Query"), ("header", "Headers")] {
        let rows: Vec<_> = operation
            .parameters
            .iter()
            .filter(|parameter| parameter.place == place)
            .map(|parameter| Row::of_parameter(document, parameter))
            .collect();
        table(out, heading, &rows);
    }
    let headers = headers(document, operation);
    if !headers.is_empty() {
        let _ = writeln!(out, "```http\n{}\n```\n", headers.join("\n"));
    }
    let Some(body) = &operation.body else {
        if operation.parameters.is_empty() && headers.is_empty() {
            out.push_str("The request has no parameters and no body.\n\n");
        }
        return;
    };
    let rows = body
        .schema
        .as_ref()
        .map(|schema| rows(document, schema, "readOnly"))
        .unwrap_or_default();
    if rows.is_empty() {
        let _ = writeln!(out, "#### Body\n");
    } else {
        table(out, "Body", &rows);
    }
    if !body.description.is_empty() {
        let _ = writeln!(out, "{}\n", body.description);
    }
    if !body.required {
        out.push_str("The body may be left out.\n\n");
    }
    sample(out, document, body, true, words);
}

fn response(out: &mut String, document: &Document, operation: &Operation, words: &Words) {
    out.push_str("### Response\n\n");
    if let Some(answer) = operation.success() {
        if let Ok(status) = answer.status.parse::<u16>() {
            let _ = writeln!(out, "```http\nHTTP/1.1 {status} {}\n```\n", reason(status));
        }
        sample(out, document, &answer.content, false, words);
        if let Some(schema) = answer
            .content
            .schema
            .as_ref()
            .filter(|_| answer.content.is_json())
        {
            let rows = rows(document, schema, "writeOnly");
            table(out, "", &rows);
        }
    }
    let rows: Vec<_> = operation
        .answers
        .iter()
        .map(|answer| format!("| {} | {} |", cell(&answer.status), cell(&answer.description)))
        .collect();
    if !rows.is_empty() {
        let _ = writeln!(out, "| Status | When |\n|---|---|\n{}\n", rows.join("\n"));
    }
}

fn sample(out: &mut String, document: &Document, content: &Content, request: bool, words: &Words) {
    if content.media.is_empty() {
        return;
    }
    if !content.is_json() {
        let _ = writeln!(out, "The body is `{}`.\n", content.media);
        if let Some(item) = &content.item {
            let value = example::of_schema(&document.root, item, request, words);
            let _ = writeln!(out, "One of its items:\n\n{}", block(&value));
        }
        return;
    }
    let value = match (&content.example, &content.schema) {
        (Some(example), _) => example.clone(),
        (None, Some(schema)) => example::of_schema(&document.root, schema, request, words),
        (None, None) => return,
    };
    let _ = writeln!(out, "{}", block(&value));
}

/// What the document's schemes of security make a caller send.
fn headers(document: &Document, operation: &Operation) -> Vec<String> {
    let mut lines = Vec::new();
    for name in &operation.security {
        let scheme = document
            .root
            .pointer(&format!("/components/securitySchemes/{name}"));
        let Some(scheme) = scheme.and_then(|scheme| document.follow(scheme).ok()) else {
            continue;
        };
        let get = |key: &str| scheme.get(key).and_then(Value::as_str).unwrap_or_default();
        let line = match (get("type"), get("in")) {
            ("http", _) if get("scheme").eq_ignore_ascii_case("basic") => {
                "Authorization: Basic CREDENTIALS".to_owned()
            }
            ("http" | "oauth2" | "openIdConnect", _) => "Authorization: Bearer TOKEN".to_owned(),
            ("apiKey", "header") => format!("{}: KEY", get("name")),
            _ => continue,
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    // One of several ways is enough for a sample.
    lines.truncate(1);
    lines
}

/// The words that go with a status (RFC 9110).
pub(crate) const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
