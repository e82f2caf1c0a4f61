//! The little of Liquid that posts of Jekyll use.
//!
//! Only files in `_posts` are read so: Jekyll would have done it. `{% raw %}`, `{% comment %}`, `{% highlight %}`,
//! `{% post_url %}`, `{{ page.KEY }}`, `{{ site.KEY }}` and texts in quotes are understood. Anything else is an error with
//! its place: a page that shows `{{ … | upcase }}` to its readers helps nobody. Lines stay where they are.

use std::collections::BTreeMap;

use upkeep_model::file::Position;

use super::slug;
use crate::trouble::Trouble;

const HINT: &str = "understood are `page.KEY`, `site.KEY`, raw, comment, highlight and post_url; \
                    write {% raw %} … {% endraw %} around what shall be shown as it is";

/// What a post may ask for.
pub(crate) struct Scope<'a> {
    pub(crate) page: &'a BTreeMap<String, String>,
    pub(crate) site: &'a BTreeMap<String, String>,
}

/// Renders a body whose first line has that number.
pub(crate) fn render(
    file: &str,
    body: &str,
    first_line: u32,
    scope: &Scope<'_>,
    troubles: &mut Vec<Trouble>,
) -> String {
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(start) = next_mark(rest) {
        out.push_str(&rest[..start]);
        let offset = body.len() - rest.len() + start;
        let at = Position::of_offset(body, offset);
        let at = Position {
            line: at.line.saturating_add(first_line).saturating_sub(1),
            ..at
        };
        let close = if rest[start..].starts_with("{{") {
            "}}"
        } else {
            "%}"
        };
        // Behind the mark: `{%}` is not a whole one.
        let Some(length) = rest[start + 2..].find(close).map(|length| length + 2) else {
            troubles.push(
                Trouble::error(
                    file,
                    at,
                    format!("`{}` has no `{close}`", &rest[start..start + 2]),
                )
                .hint(HINT),
            );
            rest = &rest[start..];
            out.push_str(&rest[..2]);
            rest = &rest[2..];
            continue;
        };
        let whole = &rest[start..start + length + 2];
        let inside = whole[2..whole.len() - 2].trim_matches('-').trim();
        rest = &rest[start + length + 2..];
        let known = if close == "}}" {
            output(inside, scope).map(|text| out.push_str(&text))
        } else {
            tag(inside, &mut rest, &mut out)
        };
        if known.is_none() {
            troubles
                .push(Trouble::error(file, at, format!("`{}` is not understood", shown(whole))).hint(HINT));
        }
    }
    out.push_str(rest);
    out
}

fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars()
        .take(60)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

fn next_mark(text: &str) -> Option<usize> {
    [text.find("{{"), text.find("{%")].into_iter().flatten().min()
}

/// `{{ … }}`: a value that is not there is empty, as Jekyll has it.
fn output(inside: &str, scope: &Scope<'_>) -> Option<String> {
    for quote in ['\'', '"'] {
        if let Some(text) = inside
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote))
            .filter(|text| !text.contains(quote))
        {
            return Some(text.to_owned());
        }
    }
    let (of, key) = inside.split_once('.')?;
    let plain = key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let values = match of {
        "page" => scope.page,
        "site" => scope.site,
        _ => return None,
    };
    // One line: a value must not move the lines below it.
    plain.then(|| {
        values
            .get(key)
            .map(|text| text.replace('\n', " "))
            .unwrap_or_default()
    })
}

/// `{% … %}`.
fn tag(inside: &str, rest: &mut &str, out: &mut String) -> Option<()> {
    let (name, argument) = inside.split_once(char::is_whitespace).unwrap_or((inside, ""));
    let argument = argument.trim();
    match name {
        "raw" => out.push_str(until(rest, "endraw")?),
        "comment" => {
            let dropped = until(rest, "endcomment")?;
            out.extend(dropped.chars().filter(|character| *character == '\n'));
        }
        "highlight" => {
            let code = until(rest, "endhighlight")?;
            let language = argument.split_whitespace().next().unwrap_or_default();
            // The tags stand on lines of their own, and so do fences.
            out.push_str("```");
            out.push_str(language);
            out.push_str(code);
            out.push_str("```");
        }
        "post_url" => {
            let name = argument.rsplit('/').next().unwrap_or_default();
            let dated = name
                .get(..11)
                .is_some_and(|date| date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'));
            out.push('#');
            out.push_str(&slug(if dated { &name[11..] } else { name }));
        }
        _ => return None,
    }
    Some(())
}

/// What stands before the tag that ends a block; the reader goes on behind it.
fn until<'a>(rest: &mut &'a str, end: &str) -> Option<&'a str> {
    let text = *rest;
    let mut from = 0;
    while let Some(found) = text.get(from..)?.find("{%") {
        let start = from + found;
        let close = text[start + 2..].find("%}")? + 2;
        if text[start + 2..start + close].trim_matches('-').trim() == end {
            *rest = &text[start + close + 2..];
            return Some(&text[..start]);
        }
        from = start + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> (String, Vec<String>) {
        let page = BTreeMap::from([("title".to_owned(), "Edit".to_owned())]);
        let site = BTreeMap::from([("title".to_owned(), "API".to_owned())]);
        let mut troubles = Vec::new();
        let scope = Scope {
            page: &page,
            site: &site,
        };
        let out = render("a.md", text, 5, &scope, &mut troubles);
        (out, troubles.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_posts_use_is_understood() {
        let (out, told) = rendered(
            "{{ page.title }} of {{site.title}}{{ page.none }} {{ 'x' }}\n\
             {% raw %}{{ kept }}{% endraw %}{% comment %}a\nb{% endcomment %}\n\
             [x]({% post_url 2013-01-02-Edit-it %})\n{% highlight json %}\n{}\n{% endhighlight %}\n",
        );
        assert_eq!(
            out,
            "Edit of API x\n{{ kept }}\n\n[x](#edit-it)\n```json\n{}\n```\n"
        );
        assert_eq!(told, Vec::<String>::new());
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_place() {
        let (_, told) =
            rendered("a\nb {{ page.title | upcase }}\n{% include x %}\n{% raw %} open\n{{ no end");
        assert_eq!(
            told,
            [
                "a.md:6:3: `{{ page.title | upcase }}` is not understood",
                "a.md:7:1: `{% include x %}` is not understood",
                "a.md:8:1: `{% raw %}` is not understood",
                "a.md:9:1: `{{` has no `}}`",
            ]
        );
    }
}
