//! Host patterns: `web*:db1:!web3:&blue`.
//!
//! A pattern is a list of terms separated by `:` or `,`. Terms without a sign are united, then `&` terms intersect,
//! then `!` terms are taken away, whatever their order in the text; `all` and `*` mean every host. A term names a host
//! or a group, with `*`, `?` and `[…]` as in a shell.

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// United.
    pub include: Vec<String>,
    /// Of those, only what these name too.
    pub intersect: Vec<String>,
    /// Of those, without what these name.
    pub exclude: Vec<String>,
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the host pattern `{pattern}`: {why}")]
pub struct PatternError {
    /// The text.
    pub pattern: String,
    /// What is wrong.
    pub why: &'static str,
}

impl HostPattern {
    /// Reads a pattern. Colons inside brackets (IPv6 addresses, `[a:c]`) separate nothing.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        let fail = |why| PatternError {
            pattern: pattern.to_owned(),
            why,
        };
        let mut parsed = Self {
            include: Vec::new(),
            intersect: Vec::new(),
            exclude: Vec::new(),
        };
        for term in split_terms(pattern).ok_or_else(|| fail("a bracket is not closed"))? {
            let (list, name) = match term.as_bytes().first() {
                Some(b'!') => (&mut parsed.exclude, &term[1..]),
                Some(b'&') => (&mut parsed.intersect, &term[1..]),
                _ => (&mut parsed.include, term),
            };
            if name.is_empty() {
                return Err(fail("a term is empty"));
            }
            list.push(name.to_owned());
        }
        if parsed.include.is_empty() {
            if parsed.intersect.is_empty() && parsed.exclude.is_empty() {
                return Err(fail("it names nothing"));
            }
            parsed.include.push("all".to_owned());
        }
        Ok(parsed)
    }
}

fn split_terms(pattern: &str) -> Option<Vec<&str>> {
    let mut terms = Vec::new();
    let mut depth = 0_u32;
    let mut start = 0;
    for (at, character) in pattern.char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.checked_sub(1)?,
            ':' | ',' if depth == 0 => {
                terms.push(pattern[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(pattern[start..].trim());
    (depth == 0).then(|| terms.into_iter().filter(|term| !term.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_sort_terms_whatever_their_order() {
        let pattern = HostPattern::parse("!web3:web*,&blue").expect("a pattern");
        assert_eq!(pattern.include, ["web*"]);
        assert_eq!(pattern.intersect, ["blue"]);
        assert_eq!(pattern.exclude, ["web3"]);
    }

    #[test]
    fn only_exclusions_start_from_all() {
        assert_eq!(HostPattern::parse("!db").expect("a pattern").include, ["all"]);
    }

    #[test]
    fn brackets_keep_their_colons() {
        assert_eq!(
            HostPattern::parse("web[1:3]:db").expect("a pattern").include,
            ["web[1:3]", "db"]
        );
        assert!(HostPattern::parse("web[1:3").is_err());
        assert!(HostPattern::parse(" : ").is_err());
        assert!(HostPattern::parse("a:!").is_err());
    }
}
