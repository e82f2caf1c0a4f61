//! Where the links and pictures of one page lead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::Site;
use crate::{
    encode,
    page::{
        Page,
        markdown::{Links, Target},
        slug,
    },
};

/// Larger pictures do not go into a page.
const PICTURE_MAX: u64 = 2 << 20;

/// Schemes that a link may have.
const SCHEMES: &[&str] = &["http", "https", "mailto", "tel"];

pub(super) struct OfPage<'a> {
    pub(super) site: &'a Site,
    pub(super) page: &'a Page,
    pub(super) anchors: &'a BTreeMap<String, BTreeSet<String>>,
    pub(super) pictures: Option<&'a Path>,
}

impl Links for OfPage<'_> {
    fn resolve(&self, destination: &str) -> Target {
        // Browsers drop these before they look at the scheme.
        let clean: String = destination
            .chars()
            .filter(|character| !character.is_control())
            .collect();
        let clean = clean.trim();
        let shown = clean.escape_debug();
        if let Some(scheme) = scheme(clean) {
            return if SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) {
                Target::Outside(clean.to_owned())
            } else {
                Target::Refused(format!("links to `{}:` are refused", scheme.escape_debug()))
            };
        }
        if clean.starts_with("//") || clean.starts_with('\\') {
            return Target::Refused(format!("`{shown}` has no scheme: from a file it leads nowhere"));
        }
        let (path, fragment) = clean.split_once('#').unwrap_or((clean, ""));
        let path = encode::percent_decode(path.split('?').next().unwrap_or_default());
        let fragment = encode::percent_decode(fragment).to_lowercase();
        if path.is_empty() {
            return self.here(&fragment);
        }
        let Some(page) = self.page_at(&path) else {
            return Target::Dead(format!("`{shown}` is no page of this site"));
        };
        if fragment.is_empty() || fragment == page.anchor {
            return Target::Anchor(page.anchor.clone());
        }
        self.heading(&page.anchor, &fragment).unwrap_or_else(|| {
            Target::Dead(format!(
                "`{}` has no heading `#{}`",
                page.inside,
                fragment.escape_debug()
            ))
        })
    }

    fn picture(&self, source: &str) -> Result<String, String> {
        let shown = source.escape_debug();
        if scheme(source).is_some() || source.starts_with("//") {
            return Err(format!(
                "the picture `{shown}` lies elsewhere: a page asks nobody for anything"
            ));
        }
        let Some(folder) = self.pictures else {
            return Err(format!("there is no picture `{shown}`"));
        };
        let kind = match source
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "png" => "image/png",
            "jpg" | "jpeg" => "image/jpeg",
            "gif" => "image/gif",
            "webp" => "image/webp",
            "svg" => "image/svg+xml",
            _ => return Err(format!("`{shown}` is no picture: png, jpg, gif, webp or svg")),
        };
        let inside = joined(&self.page.inside, &encode::percent_decode(source))
            .ok_or_else(|| format!("`{shown}` lies outside the folder of the site"))?;
        let read = || -> std::io::Result<Option<Vec<u8>>> {
            let root = folder.canonicalize()?;
            let path = root.join(&inside).canonicalize()?;
            if !path.starts_with(&root) || fs::metadata(&path)?.len() > PICTURE_MAX {
                return Ok(None);
            }
            fs::read(path).map(Some)
        };
        match read() {
            Ok(Some(bytes)) => Ok(format!("data:{kind};base64,{}", encode::base64(&bytes))),
            Ok(None) => Err(format!(
                "the picture `{shown}` is larger than {} MiB or lies outside the folder of the site",
                PICTURE_MAX >> 20
            )),
            Err(error) => Err(format!("failed to read the picture `{shown}`: {error}")),
        }
    }
}

impl OfPage<'_> {
    /// `#…` on this page.
    fn here(&self, fragment: &str) -> Target {
        if fragment.is_empty() {
            return Target::Anchor(self.page.anchor.clone());
        }
        if self.anchors.contains_key(fragment) {
            return Target::Anchor(fragment.to_owned());
        }
        let whole = fragment
            .split_once("--")
            .and_then(|(page, heading)| self.heading(page, heading));
        self.heading(&self.page.anchor, fragment)
            .or(whole)
            .unwrap_or_else(|| Target::Dead(format!("there is no `#{}`", fragment.escape_debug())))
    }

    fn heading(&self, page: &str, heading: &str) -> Option<Target> {
        self.anchors
            .get(page)?
            .contains(heading)
            .then(|| Target::Anchor(format!("{page}--{heading}")))
    }

    /// The page at a path: a file beside this one, a file from the root, or an address as Jekyll gives it.
    fn page_at(&self, path: &str) -> Option<&Page> {
        let find = |inside: &str| {
            self.site
                .pages
                .iter()
                .find(|page| page.inside == inside || page.inside.strip_suffix(".md") == Some(inside))
        };
        if let Some(rooted) = path.strip_prefix('/') {
            let address = rooted.trim_end_matches('/').trim_end_matches(".html");
            let anchor = slug(address);
            return find(rooted).or_else(|| self.site.pages.iter().find(|page| page.anchor == anchor));
        }
        let inside = joined(&self.page.inside, path)?;
        find(&inside).or_else(|| find(inside.strip_suffix(".html")?))
    }
}

/// A path beside a file; none if it leads out of the folder.
fn joined(beside: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = beside.split('/').collect();
    parts.pop();
    if let Some(rooted) = path.strip_prefix('/') {
        return joined("", rooted);
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn scheme(address: &str) -> Option<&str> {
    let (scheme, _) = address.split_once(':')?;
    let mut characters = scheme.chars();
    let first = characters.next()?.is_ascii_alphabetic();
    (first && characters.all(|next| next.is_ascii_alphanumeric() || "+-.".contains(next))).then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(joined("a/b.md", "c.md").as_deref(), Some("a/c.md"));
        assert_eq!(joined("a/b.md", "./../c.md").as_deref(), Some("c.md"));
        assert_eq!(joined("a/b.md", "/c.md").as_deref(), Some("c.md"));
        assert_eq!(joined("a/b.md", "../../c.md"), None);
        assert_eq!(joined("b.md", "../etc/passwd"), None);
    }

    #[test]
    fn schemes_are_told() {
        assert_eq!(scheme("https://e.org"), Some("https"));
        assert_eq!(scheme("a/b:c"), None);
        assert_eq!(scheme("x.md"), None);
    }
}
