//! Splitting a text into words as a shell would.

/// Why a text cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A `'` or `"` without its partner.
    #[error("a quote is not closed")]
    OpenQuote,
    /// A `\` at the end.
    #[error("a backslash at the end has nothing to protect")]
    LoneBackslash,
}

/// Splits on blanks; `'…'` keeps everything, `"…"` everything but `\"`, `\\`, `\$` and `` \` ``, a backslash outside
/// of quotes protects one character. Nothing is expanded.
pub fn split_words(text: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(SplitError::OpenQuote)? {
                        '\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(SplitError::OpenQuote)? {
                        '"' => break,
                        '\\' if characters.peek().is_some_and(|next| "\"\\$`".contains(*next)) => {
                            word.extend(characters.next());
                        }
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => word
                .get_or_insert_default()
                .push(characters.next().ok_or(SplitError::LoneBackslash)?),
            blank if blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Whether a command line says something that only a shell understands.
pub fn needs_shell(text: &str) -> bool {
    let mut quote = None;
    let mut previous = ' ';
    let mut characters = text.chars();
    let mut first_word = String::new();
    let mut first_word_ended = false;
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (Some('"'), '$' | '`') => return true,
            (Some(_) | None, '\\') => {
                characters.next();
            }
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '|' | '&' | ';' | '<' | '>' | '$' | '*' | '?' | '`' | '(' | ')' | '\n') => return true,
            (None, '~' | '#') if previous.is_whitespace() => return true,
            (None, '{' | '[') => {
                if characters
                    .as_str()
                    .contains(if character == '{' { '}' } else { ']' })
                {
                    return true;
                }
            }
            (None, _) => {}
        }
        if character.is_whitespace() && !first_word.is_empty() {
            first_word_ended = true;
        }
        if !first_word_ended && !character.is_whitespace() {
            first_word.push(character);
        }
        previous = character;
    }
    // `PORT=3000 node server.js` sets a variable.
    first_word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let split = |text| split_words(text).expect("words").join("|");
        assert_eq!(
            split("  a  'b c' \"d \\\" e\" --k=\"f g\" h\\ i '' "),
            "a|b c|d \" e|--k=f g|h i|"
        );
        assert_eq!(split("\"\\n\" '\\n'"), "\\n|\\n");
        assert_eq!(split_words("a 'b"), Err(SplitError::OpenQuote));
        assert_eq!(split_words("a\\"), Err(SplitError::LoneBackslash));
    }

    #[test]
    fn a_shell_is_used_only_where_it_is_needed() {
        for text in [
            "a | b",
            "a && b",
            "echo $HOME",
            "ls *.js",
            "A=1 b",
            "a > x",
            "echo `id`",
            "\"$X\"",
            "cat ~/x",
            "(a)",
        ] {
            assert!(needs_shell(text), "{text}");
        }
        for text in [
            "node server.js --port 3000",
            "a 'b | c'",
            "a --x=1",
            "a \\$b",
            "curl x#y",
            "a \"b;c\"",
            "python3 -m http.server 8000",
        ] {
            assert!(!needs_shell(text), "{text}");
        }
    }
}
