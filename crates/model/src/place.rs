//! Names of configuration: `/shop/prod/db/url`, and places that hold several.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest path, bytes.
pub const PATH_MAX: usize = 512;

/// The deepest path, segments.
pub const DEPTH_MAX: usize = 32;

/// What is wrong with a path, and what would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is no path of the configuration: {why}")]
pub struct PathError {
    /// As it was written, control characters escaped.
    pub path: String,
    /// What is wrong.
    pub why: String,
}

fn wrong(path: &str, why: impl Into<String>) -> PathError {
    let mut shown: String = path.escape_debug().take(100).collect();
    if shown.len() < path.len() {
        shown.push('…');
    }
    PathError {
        path: shown,
        why: why.into(),
    }
}

fn segments(path: &str, inner: &str) -> Result<(), PathError> {
    if path.len() > PATH_MAX {
        return Err(wrong(path, format!("it is longer than {PATH_MAX} bytes")));
    }
    if inner.split('/').count() > DEPTH_MAX {
        return Err(wrong(path, format!("it is deeper than {DEPTH_MAX}")));
    }
    for segment in inner.split('/') {
        if segment.is_empty() {
            return Err(wrong(
                path,
                "there is nothing between two slashes, or behind the last",
            ));
        }
        if matches!(segment, "." | "..") {
            return Err(wrong(path, format!("`{segment}` leads nowhere here")));
        }
        if let Some(bad) = segment
            .chars()
            .find(|one| !(one.is_alphanumeric() || matches!(one, '-' | '_' | '.' | ':' | '@' | '+')))
        {
            let why = format!(
                "`{}` may not be in it; letters, digits and `-_.:@+` may",
                bad.escape_debug()
            );
            return Err(wrong(path, why));
        }
    }
    Ok(())
}

/// The path of one value: `/shop/prod/db/url`. Begins with a slash, ends with none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Path(String);

impl Path {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands between the slashes.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/')
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let Some(inner) = text.strip_prefix('/') else {
            return Err(wrong(text, "it begins with no slash"));
        };
        if inner.is_empty() || inner.ends_with('/') {
            return Err(wrong(
                text,
                "it ends with a slash, so it is a place of several values and none itself",
            ));
        }
        segments(text, inner)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Path {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One value, or all below a path: `/shop/prod/db/url`, `/shop/prod/`, `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Place(String);

impl Place {
    /// Everything.
    pub fn all() -> Self {
        Self("/".to_owned())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one value that it is, if it is one.
    pub fn as_path(&self) -> Option<Path> {
        (!self.0.ends_with('/')).then(|| Path(self.0.clone()))
    }

    /// Whether it holds several.
    pub fn is_many(&self) -> bool {
        self.0.ends_with('/')
    }

    /// Whether a path is in it.
    pub fn covers(&self, path: &Path) -> bool {
        if self.is_many() {
            path.0.starts_with(&self.0)
        } else {
            path.0 == self.0
        }
    }

    /// Whether all of another place is in it.
    pub fn contains(&self, other: &Self) -> bool {
        if self.is_many() {
            other.0.starts_with(&self.0)
        } else {
            other.0 == self.0
        }
    }

    /// Whether the two have anything in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// What of a path lies below this place: `db/url` of `/shop/prod/db/url` below `/shop/prod/`.
    pub fn below<'a>(&self, path: &'a Path) -> Option<&'a str> {
        if self.is_many() {
            path.0.strip_prefix(&self.0)
        } else {
            (path.0 == self.0).then(|| path.name())
        }
    }

    /// The innermost place that holds all of these (paths or places, as they are written); of none, everything.
    pub fn around<'a>(all: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = all.into_iter();
        let Some(first) = all.next() else {
            return Self::all();
        };
        let mut around = first.to_owned();
        for one in all {
            let holds = |around: &str| {
                one == around || (around.ends_with('/') && one.starts_with(around)) || around.len() <= 1
            };
            while !holds(&around) {
                // Up to the slash before the last part.
                let end = around.trim_end_matches('/').rfind('/').unwrap_or(0);
                around.truncate(end + 1);
            }
        }
        Self(around)
    }

    /// The path of a name below this place.
    pub fn join(&self, name: &str) -> Result<Path, PathError> {
        format!("{}{name}", self.0).parse()
    }
}

impl From<Path> for Place {
    fn from(path: Path) -> Self {
        Self(path.0)
    }
}

impl FromStr for Place {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let Some(inner) = text.strip_prefix('/') else {
            return Err(wrong(text, "it begins with no slash"));
        };
        if !inner.is_empty() {
            segments(text, inner.strip_suffix('/').unwrap_or(inner))?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Place {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.parse().expect("a path")
    }

    fn place(text: &str) -> Place {
        text.parse().expect("a place")
    }

    #[test]
    fn what_is_a_path() {
        for good in ["/a", "/shop/prod/db/url", "/a.b/c-d_e/f:1@x+y", "/größe/名"] {
            assert_eq!(path(good).as_str(), good);
        }
        for (bad, why) in [
            ("", "no slash"),
            ("a", "no slash"),
            ("/", "ends with a slash"),
            ("/a/", "ends with a slash"),
            ("//a", "nothing between"),
            ("/a//b", "nothing between"),
            ("/a/../b", "`..` leads nowhere"),
            ("/./b", "`.` leads nowhere"),
            ("/a b", "` ` may not"),
            ("/a\0b", "may not"),
            ("/a*", "`*` may not"),
        ] {
            let error = bad.parse::<Path>().expect_err(bad).to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(format!("/{}", "a".repeat(PATH_MAX)).parse::<Path>().is_err());
        assert!("/a".repeat(DEPTH_MAX + 1).parse::<Path>().is_err());
        assert!(place("/").covers(&path("/a/b")));
    }

    #[test]
    fn what_is_in_a_place() {
        let prod = place("/shop/prod/");
        assert!(prod.covers(&path("/shop/prod/db/url")));
        assert!(!prod.covers(&path("/shop/prod")), "a value beside the place");
        assert!(!prod.covers(&path("/shop/production")));
        assert!(place("/shop/prod").covers(&path("/shop/prod")));
        assert!(!place("/shop/prod").covers(&path("/shop/prod/db")));
        assert!(place("/").contains(&prod));
        assert!(!prod.contains(&place("/")));
        assert!(prod.meets(&place("/")) && place("/").meets(&prod));
        assert!(!prod.meets(&place("/shop/test/")));
        assert_eq!(prod.below(&path("/shop/prod/db/url")), Some("db/url"));
        assert_eq!(prod.join("db/url"), Ok(path("/shop/prod/db/url")));
        assert!(prod.join("../x").is_err());
    }
}
