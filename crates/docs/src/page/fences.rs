//! Code as Carte's posts write it.
//!
//! Posts of Carte put three backticks directly before and behind what they show: `` ```Status: 200 OK``` `` on a line, or a
//! block that starts with `` ```{ `` and ends with `` }``` ``. The Markdown of Jekyll's day made code of it; CommonMark
//! takes the first for code within a paragraph and the second for a block that never ends. Here both become blocks.

use super::Prepared;

/// Rewrites such code as fenced blocks, and keeps the lines.
pub(crate) fn prepare(text: &str, first_line: u32) -> Prepared {
    let lines: Vec<&str> = text.lines().collect();
    let mut prepared = Prepared::default();
    let mut index = 0;
    // The fence that is open, if one is: nothing inside it is ours to change.
    let mut open: Option<(char, usize)> = None;
    while let Some(line) = lines.get(index) {
        if let Some((character, length)) = open {
            if closes(line, character, length) {
                open = None;
            }
            put(&mut prepared, line, first_line, index);
            index += 1;
            continue;
        }
        if let Some(rest) = opening(line) {
            if let Some(inside) = rest.strip_suffix("```").filter(|inside| one_line(inside)) {
                // An empty line before: the paragraph above must end first, and the fence does that by itself.
                fence(&mut prepared, "", &[(index, inside.trim())], first_line);
                index += 1;
                continue;
            }
            if let Some(end) = end_of_block(rest, &lines[index + 1..]) {
                let mut inside = vec![(index, rest)];
                for (offset, line) in lines[index + 1..=index + 1 + end].iter().enumerate() {
                    inside.push((index + 1 + offset, line));
                }
                if let Some(last) = inside.last_mut() {
                    last.1 = last.1.trim_end().trim_end_matches('`');
                    if last.1.trim().is_empty() {
                        inside.pop();
                    }
                }
                let json = rest.trim_start().starts_with(['{', '[']);
                fence(
                    &mut prepared,
                    if json { "json carte" } else { "" },
                    &inside,
                    first_line,
                );
                index += end + 2;
                continue;
            }
        }
        if let Some(fence) = fence_of(line) {
            open = Some(fence);
        }
        put(&mut prepared, line, first_line, index);
        index += 1;
    }
    prepared
}

fn put(prepared: &mut Prepared, line: &str, first: u32, index: usize) {
    prepared.text.push_str(line);
    prepared.text.push('\n');
    prepared
        .lines
        .push(first.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)));
}

fn fence(prepared: &mut Prepared, info: &str, inside: &[(usize, &str)], first: u32) {
    let start = inside.first().map_or(0, |line| line.0);
    let end = inside.last().map_or(0, |line| line.0);
    put(prepared, &format!("```{info}"), first, start);
    for (index, line) in inside {
        put(prepared, line, first, *index);
    }
    put(prepared, "```", first, end);
}

/// What stands behind three backticks at the start of a line.
fn opening(line: &str) -> Option<&str> {
    let bare = line.trim_start_matches(' ');
    let rest = (line.len() - bare.len() <= 3).then(|| bare.strip_prefix("```"))??;
    (!rest.starts_with('`') && !rest.trim().is_empty()).then_some(rest.trim_end())
}

/// Whether this is what stands between two times three backticks on a line.
fn one_line(inside: &str) -> bool {
    !inside.contains('`') && !inside.trim().is_empty()
}

/// How many lines further a block of Carte's kind ends; none if it is a fence as CommonMark has it.
fn end_of_block(rest: &str, below: &[&str]) -> Option<usize> {
    let trimmed = rest.trim_start();
    // `{.json}` is an attribute list.
    let json = trimmed.starts_with(['{', '[']) && !trimmed.starts_with("{.") && !trimmed.starts_with("{#");
    let word = trimmed.split_whitespace().next().is_some_and(|word| {
        trimmed == word
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-_.#".contains(&byte))
    });
    if trimmed.contains('`') || (word && !json) {
        return None;
    }
    for (index, line) in below.iter().enumerate() {
        let end = line.trim_end();
        if end.trim_start() == "```" {
            return json.then_some(index);
        }
        if end.ends_with("```") && !end.trim_start().starts_with("```") {
            return Some(index);
        }
        if end.trim_start().starts_with("```") {
            return None;
        }
    }
    None
}

/// The fence that a line opens.
fn fence_of(line: &str) -> Option<(char, usize)> {
    let bare = line.trim_start_matches(' ');
    if line.len() - bare.len() > 3 {
        return None;
    }
    let character = bare.chars().next().filter(|first| matches!(first, '`' | '~'))?;
    let length = bare.chars().take_while(|next| *next == character).count();
    let info = bare.get(length..).unwrap_or_default();
    (length >= 3 && !(character == '`' && info.contains('`'))).then_some((character, length))
}

fn closes(line: &str, character: char, length: usize) -> bool {
    let bare = line.trim();
    bare.chars().count() >= length && bare.chars().all(|next| next == character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carte_writes_becomes_blocks_and_keeps_its_lines() {
        let text = "Says.\n\n```Status: 200 OK```\n```{\n    id: 1\n}```\n\nEnd.\n";
        let prepared = prepare(text, 10);
        assert_eq!(
            prepared.text,
            "Says.\n\n```\nStatus: 200 OK\n```\n```json carte\n{\n    id: 1\n}\n```\n\nEnd.\n"
        );
        assert_eq!(prepared.lines, [10, 11, 12, 12, 12, 13, 13, 14, 15, 15, 16, 17]);
    }

    #[test]
    fn fences_of_commonmark_stay() {
        for text in [
            "```json\n{}\n```\n",
            "~~~\n```{\n}```\n~~~\n",
            "```http request\nGET /\n```\nand `x` and ```y``` here\n",
            "````md\n```{\n```\n````\n",
            "    ```{\n    }```\n",
            "```{.json}\n{}\n```\n",
            "```json\n{}\n```\n\n```Status: 200 OK\n",
        ] {
            assert_eq!(prepare(text, 1).text, text);
        }
    }

    #[test]
    fn a_block_may_end_on_a_line_of_its_own() {
        assert_eq!(prepare("```[\n1]\n```\n", 1).text, "```json carte\n[\n1]\n```\n");
        assert_eq!(
            prepare("```{ a: 1,\nb: 2\n```", 1).text,
            "```json carte\n{ a: 1,\nb: 2\n```\n"
        );
    }

    #[test]
    fn headers_may_take_several_lines() {
        assert_eq!(
            prepare("```Accept: a/b\nX-Y: z```\n", 1).text,
            "```\nAccept: a/b\nX-Y: z\n```\n"
        );
    }
}
