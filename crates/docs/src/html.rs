//! The page: one file of HTML that asks nobody for anything.
//!
//! Style, script and the index of words are in it. A policy in the head forbids everything else: scripts and styles run by
//! their digest only, pictures are `data:`. Without JavaScript all is there to read: articles are `<details>`, samples
//! stand one below the other. The script adds the filter, search, folding, tabs and copying.

use std::fmt::Write as _;

use crate::{
    encode,
    page::{Page, markdown::Body},
    samples,
    search::Index,
    site::Site,
    trouble::Trouble,
};

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/page.js");
/// Asks `serve` whether there is something newer.
const LIVE: &str = include_str!("assets/live.js");

/// Escapes a text for contents and for attributes in double quotes.
pub(crate) fn escape_into(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // HTML has no way to say it.
            '\0' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
}

/// The same as a text of its own.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    escape_into(&mut out, text);
    out
}

/// Text of HTML of ours.
#[cfg(test)]
pub(crate) fn text_of(html: &str) -> String {
    let mut out = String::new();
    for (index, part) in html.split('<').enumerate() {
        out.push_str(if index == 0 {
            part
        } else {
            part.split_once('>').map_or("", |(_, text)| text)
        });
    }
    for (code, text) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ] {
        out = out.replace(code, text);
    }
    out
}

/// Whether the page is to be kept or is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A file that stands for itself.
    Kept,
    /// `serve` shows it and tells it when it has changed.
    Live,
}

/// What the page may do. As a `<meta>` for files, and as a header where a server sends it.
pub fn policy(shown: Use) -> String {
    let hash = |text: &str| format!("'sha256-{}'", encode::base64(&encode::digest(text)));
    let (live, connect) = match shown {
        Use::Kept => (String::new(), "'none'"),
        Use::Live => (format!(" {}", hash(LIVE)), "'self'"),
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}{live}; img-src data:; connect-src {connect}; \
         base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT),
    )
}

/// The whole page. Its own ids start with `--`, which no anchor of a page or a heading does ([`crate::page::slug`]).
pub fn assemble(site: &Site, bodies: &[Body], shown: Use) -> String {
    let mut out = String::with_capacity(64 << 10);
    let title = escape(&site.config.title);
    // Infallible, here and below: a String takes all.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"generator\" content=\"upkeep docs\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<a class=\"skip\" href=\"#--content\">Skip to the pages</a>\n",
        escape(&policy(shown)),
    );
    navigation(&mut out, site);
    out.push_str("<main id=\"--content\" tabindex=\"-1\">\n");
    out.push_str(
        "<div class=\"tools\" role=\"group\" aria-label=\"View\" hidden>\n\
         <button type=\"button\" id=\"--menu\" aria-controls=\"--nav\" aria-expanded=\"false\">Menu</button>\n\
         <label for=\"--search\">Search</label>\n\
         <input id=\"--search\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\" placeholder=\"in all pages (/)\">\n\
         <button type=\"button\" id=\"--open\">Show all</button>\n<button type=\"button\" id=\"--close\">Hide all</button>\n\
         <button type=\"button\" id=\"--theme\">Theme: auto</button>\n</div>\n\
         <section id=\"--results\" aria-label=\"Search results\" hidden></section>\n\
         <p id=\"--said\" class=\"unseen\" role=\"status\"></p>\n<div id=\"--pages\">\n",
    );
    let mut group: Option<&str> = None;
    for (page, body) in site.pages.iter().zip(bodies) {
        let category = page.category.as_deref();
        if category != group {
            if group.is_some() {
                out.push_str("</section>\n");
            }
            if let Some(category) = category {
                let name = escape(category);
                let _ = writeln!(
                    out,
                    "<section class=\"group\" aria-label=\"{name}\">\n<h2>{name}</h2>"
                );
            }
            group = category;
        }
        article(&mut out, site, page, body);
    }
    if group.is_some() {
        out.push_str("</section>\n");
    }
    out.push_str("</div>\n</main>\n");
    index(&mut out, site, bodies);
    let _ = writeln!(out, "<script>{SCRIPT}</script>");
    if shown == Use::Live {
        let _ = writeln!(out, "<script>{LIVE}</script>");
    }
    out.push_str("</body>\n</html>\n");
    out
}

/// What `serve` shows while a page is broken.
pub(crate) fn broken(troubles: &[Trouble]) -> String {
    let mut list = String::new();
    for trouble in troubles {
        let _ = write!(list, "<li><code>{}</code>", escape(&trouble.to_string()));
        if let Some(hint) = &trouble.hint {
            let _ = write!(list, "<br>{}", escape(hint));
        }
        list.push_str("</li>\n");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Broken</title><style>{STYLE}</style></head>\n\
         <body><main><h1>This cannot be shown</h1>\n<ul>\n{list}</ul></main>\n<script>{LIVE}</script></body></html>\n"
    )
}

fn navigation(out: &mut String, site: &Site) {
    let _ = writeln!(
        out,
        "<nav id=\"--nav\" aria-label=\"Pages\">\n<h1>{}</h1>",
        escape(&site.config.title)
    );
    if let Some(description) = &site.config.description {
        let _ = writeln!(out, "<p>{}</p>", escape(description));
    }
    out.push_str(
        "<div class=\"filter\" hidden><label for=\"--filter\">Filter by keyword</label>\n\
         <input id=\"--filter\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\"></div>\n",
    );
    let mut group: Option<&str> = None;
    let mut open = false;
    for page in &site.pages {
        let category = page.category.as_deref();
        if !open || category != group {
            if open {
                out.push_str("</ul></div>\n");
            }
            out.push_str("<div class=\"group\">");
            if let Some(category) = category {
                let _ = write!(out, "<h2>{}</h2>", escape(category));
            }
            out.push_str("<ul>\n");
            open = true;
            group = category;
        }
        let badge = page.method.map_or_else(String::new, |method| {
            format!(
                "<span class=\"badge {}\">{}</span> ",
                method.lower(),
                method.name()
            )
        });
        let _ = writeln!(
            out,
            "<li><a href=\"#{}\" data-path=\"{}\">{badge}{}</a></li>",
            escape(&page.anchor),
            escape(page.path.as_deref().unwrap_or_default()),
            escape(&page.title)
        );
    }
    if open {
        out.push_str("</ul></div>\n");
    }
    out.push_str("<p id=\"--none\" hidden>No page has these words.</p>\n</nav>\n");
}

/// The anchor is inside of what opens and closes: so browsers open it by themselves, without the script.
fn article(out: &mut String, site: &Site, page: &Page, body: &Body) {
    let level = if page.category.is_some() { 3 } else { 2 };
    let anchor = escape(&page.anchor);
    let mut head = String::new();
    if let Some(method) = page.method {
        let _ = write!(
            head,
            "<span class=\"badge {}\">{}</span> ",
            method.lower(),
            method.name()
        );
    }
    if let Some(path) = &page.path {
        let _ = write!(head, "<code class=\"path\">{}</code> ", escape(path));
    }
    let _ = writeln!(
        out,
        "<details class=\"page\" data-anchor=\"{anchor}\"><summary>{head}<h{level}>{}</h{level}></summary>\n\
         <div class=\"body\" id=\"{anchor}\">",
        escape(&page.title)
    );
    let split = body.response.unwrap_or(body.html.len()).min(body.html.len());
    let (before, after) = body.html.split_at(split);
    out.push_str(before);
    let samples = samples::of_page(page, body, &site.config.api_url);
    if !samples.is_empty() {
        let _ = writeln!(
            out,
            "<div class=\"samples\" role=\"group\" aria-label=\"Code samples\">"
        );
        for sample in samples {
            let _ = writeln!(
                out,
                "<figure class=\"code sample\" id=\"{anchor}---{}\"><figcaption>{}</figcaption>\
                 <pre tabindex=\"0\"><code>{}</code></pre></figure>",
                sample.language,
                sample.name,
                escape(&sample.code)
            );
        }
        out.push_str("</div>\n");
    }
    out.push_str(after);
    out.push_str("</div></details>\n");
}

/// The index of words, as data that no browser runs.
fn index(out: &mut String, site: &Site, bodies: &[Body]) {
    let index = Index::of(&site.pages, bodies);
    let json = serde_json::to_string(&index).unwrap_or_else(|_| "{\"w\":[],\"p\":[]}".to_owned());
    // The one thing that could end the element: words are of letters and digits, so there is none; held all the same.
    let json = json.replace('<', "\\u003c");
    let _ = writeln!(
        out,
        "<script type=\"application/json\" id=\"--index\">{json}</script>"
    );
}
