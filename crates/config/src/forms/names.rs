//! Names of environment variables.

use std::collections::BTreeMap;

use crate::path::{Path, Place};

/// Two values that would have one name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{first}` and `{second}` would both be `{name}`")]
pub struct Collision {
    /// The name.
    pub name: String,
    /// One.
    pub first: Path,
    /// The other.
    pub second: Path,
}

/// The environment variable of a path below a place: `DB_URL` of `/shop/prod/db/url` below `/shop/prod/`.
///
/// Letters and digits of ASCII stay, in capitals; slashes and all else become `_`; a name that would begin with a digit gets
/// a `_` in front.
pub fn env_name(place: &Place, path: &Path) -> Option<String> {
    let below = place.below(path)?;
    let mut name = String::with_capacity(below.len() + 1);
    if below.starts_with(|first: char| first.is_ascii_digit()) {
        name.push('_');
    }
    name.extend(below.chars().map(|one| {
        if one.is_ascii_alphanumeric() {
            one.to_ascii_uppercase()
        } else {
            '_'
        }
    }));
    Some(name)
}

/// The environment variables of paths below a place; what is not below it is left out.
pub fn env_names<'a>(
    place: &Place,
    paths: impl IntoIterator<Item = &'a Path>,
) -> Result<BTreeMap<String, &'a Path>, Collision> {
    let mut names: BTreeMap<String, &Path> = BTreeMap::new();
    for path in paths {
        let Some(name) = env_name(place, path) else {
            continue;
        };
        match names.get(&name) {
            Some(first) if *first != path => {
                return Err(Collision {
                    first: (*first).clone(),
                    second: path.clone(),
                    name,
                });
            }
            _ => names.insert(name, path),
        };
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_shell_takes() {
        let place: Place = "/shop/prod/".parse().expect("a place");
        for (path, name) in [
            ("/shop/prod/db/url", Some("DB_URL")),
            ("/shop/prod/log-level", Some("LOG_LEVEL")),
            ("/shop/prod/2fa/key", Some("_2FA_KEY")),
            ("/shop/prod/größe", Some("GR__E")),
            ("/shop/test/db/url", None),
        ] {
            let path = path.parse().expect("a path");
            assert_eq!(env_name(&place, &path).as_deref(), name);
        }
    }

    #[test]
    fn two_values_with_one_name_are_both_named() {
        let place: Place = "/shop/".parse().expect("a place");
        let paths: Vec<Path> = ["/shop/db/url", "/shop/db_url"]
            .map(|path| path.parse().expect("a path"))
            .into();
        let error = env_names(&place, &paths).expect_err("one name").to_string();
        assert_eq!(error, "`/shop/db/url` and `/shop/db_url` would both be `DB_URL`");
    }
}
