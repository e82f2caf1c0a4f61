//! Markdown to HTML that can do no harm.
//!
//! Our own writer over the events of `pulldown-cmark`. Every text is escaped. Raw HTML goes through [`Tags`]: a short list of
//! tags passes without its attributes and is closed again; anything else is shown as text. Links go where
//! [`Links::resolve`] says; schemes that run something do not pass. Headings sink below the title of their page.

mod tags;

use std::fmt::Write as _;

use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use upkeep_model::file::Position;

use self::tags::Tags;
use super::{
    Prepared,
    blocks::{Block, Kind, Place, Section},
    json, slug,
};
use crate::{
    html::{escape, escape_into},
    trouble::Trouble,
};

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a place in the page that we write.
    Anchor(String),
    /// Elsewhere.
    Outside(String),
    /// Nowhere.
    Dead(String),
    /// Nowhere that we let a reader go.
    Refused(String),
}

/// Who knows where links and pictures lead.
pub(crate) trait Links {
    /// Where a link of this page leads.
    fn resolve(&self, destination: &str) -> Target;
    /// A picture as a `data:` address.
    fn picture(&self, source: &str) -> Result<String, String>;
}

/// A body, rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// HTML.
    pub html: String,
    /// Where in `html` the first heading `Response` starts.
    pub response: Option<usize>,
    /// Text of headings.
    pub headings: String,
    /// All other text.
    pub text: String,
    /// Code blocks in order.
    pub blocks: Vec<Block>,
}

fn parser(text: &str) -> Parser<'_> {
    Parser::new_ext(
        text,
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS,
    )
}

/// The anchors of all headings, in order, and the highest level.
pub(crate) fn outline(body: &Prepared) -> (Vec<String>, usize) {
    let mut anchors: Vec<String> = Vec::new();
    let mut top = usize::MAX;
    let mut text: Option<String> = None;
    for event in parser(&body.text) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                top = top.min(depth(level));
                text = Some(String::new());
            }
            Event::End(TagEnd::Heading(_)) => {
                let wanted = slug(&text.take().unwrap_or_default());
                let wanted = if wanted.is_empty() {
                    "part".to_owned()
                } else {
                    wanted
                };
                let mut anchor = wanted.clone();
                let mut number = 1;
                while anchors.contains(&anchor) {
                    anchor = format!("{wanted}-{number}");
                    number += 1;
                }
                anchors.push(anchor);
            }
            Event::Text(part) | Event::Code(part) => {
                if let Some(text) = &mut text {
                    text.push_str(&part);
                }
            }
            _ => {}
        }
    }
    (anchors, if top == usize::MAX { 1 } else { top })
}

const fn depth(level: HeadingLevel) -> usize {
    level as usize
}

/// Renders a body. `anchor` is the page's own, `below` the level of its title.
pub(crate) fn render(
    file: &str,
    body: &Prepared,
    anchor: &str,
    below: usize,
    links: &dyn Links,
    troubles: &mut Vec<Trouble>,
) -> Body {
    let (anchors, top) = outline(body);
    let mut writer = Writer {
        file,
        body,
        anchor,
        below,
        top,
        anchors: anchors.into_iter(),
        links,
        troubles,
        out: Body::default(),
        tags: Tags::default(),
        place: Place::default(),
        heading: None,
        code: None,
        picture: None,
        table: Vec::new(),
        column: 0,
        head: false,
        link_open: Vec::new(),
    };
    for (event, range) in parser(&body.text).into_offset_iter() {
        writer.event(event, range.start);
    }
    let mut out = writer.out;
    writer.tags.close_all(&mut out.html);
    out
}

struct Writer<'a> {
    file: &'a str,
    body: &'a Prepared,
    anchor: &'a str,
    below: usize,
    top: usize,
    anchors: std::vec::IntoIter<String>,
    links: &'a dyn Links,
    troubles: &'a mut Vec<Trouble>,
    out: Body,
    tags: Tags,
    place: Place,
    /// Start in the HTML and text of the heading that is open.
    heading: Option<(usize, String)>,
    /// Language, code, and where it starts.
    code: Option<(String, String, Option<Position>)>,
    /// Source and alternative text.
    picture: Option<(String, String, usize)>,
    table: Vec<Alignment>,
    column: usize,
    head: bool,
    link_open: Vec<bool>,
}

impl Writer<'_> {
    fn event(&mut self, event: Event<'_>, offset: usize) {
        if let Some((_, code, at)) = &mut self.code {
            match event {
                Event::Text(text) => {
                    at.get_or_insert_with(|| self.body.position(offset));
                    code.push_str(&text);
                }
                Event::End(TagEnd::CodeBlock) => self.end_code(offset),
                _ => {}
            }
            return;
        }
        if let Some((_, alternative, _)) = &mut self.picture {
            match event {
                Event::Text(text) | Event::Code(text) => alternative.push_str(&text),
                Event::End(TagEnd::Image) => self.end_picture(),
                _ => {}
            }
            return;
        }
        match event {
            Event::Start(tag) => self.start(tag, offset),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => {
                self.say(&text);
                escape_into(&mut self.out.html, &text);
            }
            Event::Code(text) => {
                self.say(&text);
                self.out.html.push_str("<code>");
                escape_into(&mut self.out.html, &text);
                self.out.html.push_str("</code>");
            }
            Event::Html(text) | Event::InlineHtml(text) => self.tags.pass(&text, &mut self.out.html),
            Event::SoftBreak => {
                self.say("\n");
                self.out.html.push('\n');
            }
            Event::HardBreak => {
                self.say("\n");
                self.out.html.push_str("<br>\n");
            }
            Event::Rule => self.out.html.push_str("<hr>\n"),
            Event::TaskListMarker(done) => self.out.html.push_str(if done { "☑ " } else { "☐ " }),
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                self.say(&text);
                escape_into(&mut self.out.html, &text);
            }
        }
    }

    /// Text for search.
    fn say(&mut self, text: &str) {
        if let Some((_, heading)) = &mut self.heading {
            heading.push_str(text);
        } else {
            self.out.text.push_str(text);
        }
    }

    fn start(&mut self, tag: Tag<'_>, offset: usize) {
        let html = &mut self.out.html;
        match tag {
            Tag::Paragraph => html.push_str("<p>"),
            Tag::Heading { .. } => self.heading = Some((html.len(), String::new())),
            Tag::BlockQuote(_) => html.push_str("<blockquote>"),
            Tag::CodeBlock(kind) => {
                let info = match kind {
                    CodeBlockKind::Fenced(info) => info.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some((info, String::new(), None));
            }
            Tag::List(Some(1)) => html.push_str("<ol>\n"),
            Tag::List(Some(first)) => {
                // Infallible: a String takes all.
                let _ = writeln!(html, "<ol start=\"{first}\">");
            }
            Tag::List(None) => html.push_str("<ul>\n"),
            Tag::Item => html.push_str("<li>"),
            Tag::Table(columns) => {
                self.table = columns;
                html.push_str(
                    "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Table\"><table>\n",
                );
            }
            Tag::TableHead => {
                self.head = true;
                self.column = 0;
                html.push_str("<thead><tr>");
            }
            Tag::TableRow => {
                self.column = 0;
                html.push_str("<tr>");
            }
            Tag::TableCell => {
                let class = match self.table.get(self.column) {
                    Some(Alignment::Right) => " class=\"right\"",
                    Some(Alignment::Center) => " class=\"center\"",
                    _ => "",
                };
                let _ = write!(html, "<{}{class}>", if self.head { "th" } else { "td" });
            }
            Tag::Emphasis => html.push_str("<em>"),
            Tag::Strong => html.push_str("<strong>"),
            Tag::Strikethrough => html.push_str("<del>"),
            Tag::Link { dest_url, .. } => self.link(&dest_url, offset),
            Tag::Image { dest_url, .. } => {
                self.picture = Some((dest_url.to_string(), String::new(), offset));
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        let html = &mut self.out.html;
        match tag {
            TagEnd::Paragraph => {
                html.push_str("</p>\n");
                self.out.text.push('\n');
            }
            TagEnd::Heading(level) => self.end_heading(level),
            TagEnd::BlockQuote(_) => html.push_str("</blockquote>\n"),
            TagEnd::List(true) => html.push_str("</ol>\n"),
            TagEnd::List(false) => html.push_str("</ul>\n"),
            TagEnd::Item => {
                html.push_str("</li>\n");
                self.out.text.push('\n');
            }
            TagEnd::Table => html.push_str("</tbody></table></div>\n"),
            TagEnd::TableHead => {
                self.head = false;
                html.push_str("</tr></thead><tbody>\n");
            }
            TagEnd::TableRow => {
                html.push_str("</tr>\n");
                self.out.text.push('\n');
            }
            TagEnd::TableCell => {
                self.column += 1;
                html.push_str(if self.head { "</th>" } else { "</td>" });
                self.out.text.push(' ');
            }
            TagEnd::Emphasis => html.push_str("</em>"),
            TagEnd::Strong => html.push_str("</strong>"),
            TagEnd::Strikethrough => html.push_str("</del>"),
            TagEnd::Link => html.push_str(if self.link_open.pop() == Some(true) {
                "</a>"
            } else {
                "</span>"
            }),
            _ => {}
        }
    }

    fn end_heading(&mut self, level: HeadingLevel) {
        let Some((start, text)) = self.heading.take() else {
            return;
        };
        let level = depth(level);
        self.place.heading(level, &text);
        let shown = (level.saturating_sub(self.top) + self.below + 1).min(6);
        let anchor = self.anchors.next().unwrap_or_default();
        let inside = self.out.html.split_off(start);
        if self.place.section == Section::Response && self.out.response.is_none() {
            self.out.response = Some(self.out.html.len());
        }
        let _ = writeln!(
            self.out.html,
            "<h{shown} id=\"{}--{}\">{inside}</h{shown}>",
            escape(self.anchor),
            escape(&anchor),
        );
        self.out.headings.push_str(&text);
        self.out.headings.push('\n');
    }

    fn end_code(&mut self, offset: usize) {
        let Some((info, code, at)) = self.code.take() else {
            return;
        };
        let at = at.unwrap_or_else(|| self.body.position(offset));
        let block = self.place.block(&info, &code, at);
        write_block(&mut self.out.html, &block);
        self.out.text.push_str(&block.code);
        self.out.text.push('\n');
        self.out.blocks.push(block);
    }

    fn link(&mut self, destination: &str, offset: usize) {
        let at = self.body.position(offset);
        let html = &mut self.out.html;
        let (told, open) = match self.links.resolve(destination) {
            Target::Anchor(anchor) => {
                let _ = write!(html, "<a href=\"#{}\">", escape(&anchor));
                (None, true)
            }
            Target::Outside(address) => {
                let _ = write!(
                    html,
                    "<a href=\"{}\" rel=\"noreferrer noopener\">",
                    escape(&address)
                );
                (None, true)
            }
            Target::Dead(why) => {
                html.push_str("<span class=\"dead\">");
                (Some(Trouble::warning(self.file, at, why)), false)
            }
            Target::Refused(why) => {
                html.push_str("<span class=\"dead\">");
                (Some(Trouble::error(self.file, at, why)), false)
            }
        };
        self.link_open.push(open);
        self.troubles.extend(told);
    }

    fn end_picture(&mut self) {
        let Some((source, alternative, offset)) = self.picture.take() else {
            return;
        };
        self.out.text.push_str(&alternative);
        match self.links.picture(&source) {
            Ok(data) => {
                let _ = write!(
                    self.out.html,
                    "<img src=\"{}\" alt=\"{}\">",
                    escape(&data),
                    escape(&alternative)
                );
            }
            Err(why) => {
                let at = self.body.position(offset);
                self.troubles.push(
                    Trouble::error(self.file, at, why)
                        .hint("pictures are written into the page: give a file of the site's folder"),
                );
                escape_into(&mut self.out.html, &alternative);
            }
        }
    }
}

/// A code block with its name, for people and for the script.
pub(crate) fn write_block(html: &mut String, block: &Block) {
    let (class, name, code) = match block.kind {
        Kind::Json => ("json", "JSON".to_owned(), json::highlight(&block.code)),
        Kind::Http => ("http", "HTTP".to_owned(), http(&block.code)),
        Kind::Other => ("plain", block.language.clone(), escape(&block.code)),
    };
    let _ = writeln!(
        html,
        "<figure class=\"code {class}\">{}<pre tabindex=\"0\"><code>{code}</code></pre></figure>",
        if name.is_empty() {
            String::new()
        } else {
            format!("<figcaption>{}</figcaption>", escape(&name))
        }
    );
}

/// Status lines and headers.
fn http(code: &str) -> String {
    let mut out = String::new();
    let mut body = false;
    for (index, line) in code.lines().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        body |= line.trim().is_empty();
        if index == 0
            && let Some(status) = super::blocks::status_of(line)
        {
            let _ = write!(out, "<span class=\"c{}\">{}</span>", status / 100, escape(line));
        } else if let Some((name, _)) = super::blocks::header(line).filter(|_| !body) {
            let rest = line.trim_start().strip_prefix(name).unwrap_or_default();
            let _ = write!(out, "<span class=\"k\">{}</span>{}", escape(name), escape(rest));
        } else {
            escape_into(&mut out, line);
        }
    }
    out
}

#[cfg(test)]
mod tests;
