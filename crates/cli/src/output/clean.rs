//! Foreign text on a terminal: what an app, a peer or a user wrote must not move the cursor or change colours.

/// Longest text that is shown, in bytes; `upkeep logs` and `--json` show all of it.
const LONGEST: usize = 16 << 10;

/// Text without control characters and escape sequences, on one line; tabs become blanks. What is longer than
/// [`LONGEST`] is cut.
pub(crate) fn clean(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = String::with_capacity(end);
    let mut column = 0_usize;
    let mut characters = text[..end].chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => skip_escape(&mut characters),
            '\t' => {
                let blanks = 8 - column % 8;
                out.extend(std::iter::repeat_n(' ', blanks));
                column += blanks;
            }
            character if character.is_control() => {}
            character => {
                out.push(character);
                column += 1;
            }
        }
    }
    out
}

/// What follows an escape: a control sequence up to its final byte, a string up to its end, or one character.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => {
            for character in characters.by_ref() {
                if ('@'..='~').contains(&character) {
                    return;
                }
            }
        }
        Some(']' | 'P' | '_' | '^') => {
            while let Some(character) = characters.next() {
                if character == '\x07' {
                    return;
                }
                if character == '\x1b' {
                    characters.next_if_eq(&'\\');
                    return;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(
            clean("\x1b[31mred\x1b[0m\x1b]0;title\x07 and\x08\ttab\nend\r"),
            "red and tabend"
        );
        assert_eq!(clean("a\tb\t\tc"), "a       b               c");
        assert_eq!(clean(&"\t".repeat(LONGEST)).len(), 8 * LONGEST);
    }
}
