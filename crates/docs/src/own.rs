//! Our own reference, as it lies in the program.
//!
//! The pages of `docs/reference/api` and `docs/reference/openapi.json` are packed as one gzip file when the program is built:
//! a few dozen kilobytes that cost no memory until somebody asks. The page is made of them when it is asked for: pages as
//! HTML would take more of the binary, and a page made at build time would compile this crate twice.

use std::io::{self, Read as _, Write as _};

use crate::{
    api::document::Document,
    html::{self, Use},
    page::{Page, markdown::Body},
    search::Index,
    site::{Site, Source},
    trouble::Trouble,
};

/// See `build.rs` for its form.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/own.gz"));
/// The name of the OpenAPI document in the pack.
const DOCUMENT: &str = "openapi.json";
/// How they are called in messages.
const PLACE: &str = "docs/reference/api/";

/// Name and text of every file of the pack.
fn files() -> io::Result<Vec<(String, String)>> {
    let mut all = String::new();
    flate2::read::GzDecoder::new(PACKED).read_to_string(&mut all)?;
    let mut files = Vec::new();
    let mut rest = all.as_str();
    while let Some((name, behind)) = rest.split_once('\n') {
        let (length, behind) = behind.split_once('\n').unwrap_or((behind, ""));
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "the reference is packed wrong");
        let length: usize = length.parse().map_err(|_| broken())?;
        let (text, behind) = behind.split_at_checked(length).ok_or_else(broken)?;
        files.push((name.to_owned(), text.to_owned()));
        rest = behind;
    }
    Ok(files)
}

/// The OpenAPI document of the API of this program, as JSON.
pub fn openapi() -> io::Result<String> {
    files()?
        .into_iter()
        .find(|(name, _)| name == DOCUMENT)
        .map(|(_, text)| text)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "this program was built without its OpenAPI document",
            )
        })
}

/// The same, read.
pub fn document() -> Result<Document, Trouble> {
    let file = "docs/reference/openapi.json";
    let text = openapi().map_err(|error| Trouble::error(file, None, error.to_string()))?;
    Document::parse(file, text)
}

/// The pages of the reference with their bodies.
pub fn pages() -> Result<(Site, Vec<Body>), Vec<Trouble>> {
    let files = files().map_err(|error| vec![Trouble::error(PLACE, None, error.to_string())])?;
    let sources = files
        .into_iter()
        .filter(|(name, _)| name != DOCUMENT)
        .map(|(name, text)| Source {
            file: format!("{PLACE}{name}"),
            inside: name,
            text,
        })
        .collect();
    let mut troubles = Vec::new();
    let site = Site::of(sources, &mut troubles).ok_or_else(|| troubles.clone())?;
    let bodies = site.render(&mut troubles);
    Ok((site, bodies))
}

/// The page of the reference.
pub fn html() -> Result<String, Vec<Trouble>> {
    let (site, bodies) = pages()?;
    Ok(html::assemble(&site, &bodies, Use::Kept))
}

/// The page, as servers send it.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The page as a gzip file.
    pub gzip: Vec<u8>,
    /// Tells it from any other, in quotes, as `ETag` has it.
    pub tag: String,
    /// What it may do, for a header.
    pub policy: String,
}

impl Packed {
    /// Makes the page and packs it.
    pub fn new() -> Result<Self, Vec<Trouble>> {
        let html = html()?;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let gzip = packer
            .write_all(html.as_bytes())
            .and_then(|()| packer.finish())
            .map_err(|error| vec![Trouble::error(PLACE, None, error.to_string())])?;
        Ok(Self {
            gzip,
            tag: format!("\"{}\"", crate::short_digest(&html)),
            policy: format!("{}; frame-ancestors 'none'", html::policy(Use::Kept)),
        })
    }

    /// The page for those who take no gzip.
    pub fn plain(&self) -> io::Result<Vec<u8>> {
        let mut html = Vec::new();
        flate2::read::GzDecoder::new(self.gzip.as_slice()).read_to_end(&mut html)?;
        Ok(html)
    }
}

/// A page of the reference that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its place at `/docs`: `#anchor`.
    pub anchor: String,
    /// Its title.
    pub title: String,
    /// Its method and path, if it is of a call.
    pub call: Option<String>,
    /// A piece of its text with the words.
    pub excerpt: String,
    /// How well it fits; only to compare with others.
    pub score: u32,
}

/// The reference, ready to be searched. It holds all its text: make it when somebody asks, and let it go.
#[derive(Debug)]
pub struct Searched {
    pages: Vec<(Page, Body)>,
    index: Index,
}

impl Searched {
    /// Unpacks and reads.
    pub fn new() -> Result<Self, Vec<Trouble>> {
        let (site, bodies) = pages()?;
        let index = Index::of(&site.pages, &bodies);
        Ok(Self {
            pages: site.pages.into_iter().zip(bodies).collect(),
            index,
        })
    }

    /// The best pages for a question.
    pub fn find(&self, question: &str, limit: usize) -> Vec<Found> {
        let hits = self.index.find(question);
        hits.iter()
            .take(limit)
            .filter_map(|hit| {
                let (page, body) = self.pages.get(hit.page)?;
                let call = page.method.zip(page.path.as_deref());
                Some(Found {
                    anchor: page.anchor.clone(),
                    title: page.title.clone(),
                    call: call.map(|(method, path)| format!("{} {path}", method.name())),
                    excerpt: crate::search::excerpt(&body.text, question, 160),
                    score: hit.score,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_what_was_written() {
        let reference = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
        for (name, text) in files().expect("the pack") {
            let written = std::fs::read_to_string(reference.join("api").join(&name))
                .or_else(|_| std::fs::read_to_string(reference.join(&name)));
            assert_eq!(written.expect("it was packed from there"), text, "{name}");
        }
    }
}
