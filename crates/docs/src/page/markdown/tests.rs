use super::{tags::ALLOWED, *};
use crate::page::fences;

struct Nowhere;

impl Links for Nowhere {
    fn resolve(&self, destination: &str) -> Target {
        match destination {
            "#there" => Target::Anchor("there".to_owned()),
            "nowhere.md" => Target::Dead("`nowhere.md` is not a page".to_owned()),
            _ if destination.starts_with("https:") => Target::Outside(destination.to_owned()),
            _ => Target::Refused(format!("`{destination}` is refused")),
        }
    }
    fn picture(&self, _: &str) -> Result<String, String> {
        Err("no picture".to_owned())
    }
}

fn rendered(text: &str) -> (Body, Vec<String>) {
    let body = fences::prepare(text, 4);
    let mut troubles = Vec::new();
    let out = render("a.md", &body, "page", 3, &Nowhere, &mut troubles);
    (out, troubles.iter().map(ToString::to_string).collect())
}

#[test]
fn headings_sink_below_the_title_and_have_anchors() {
    let (body, _) = rendered("## Request\n\n### Body & soul\n\n## Response\n\n## Response\n");
    assert_eq!(
        body.html,
        "<h4 id=\"page--request\">Request</h4>\n<h5 id=\"page--body-soul\">Body &amp; soul</h5>\n\
         <h4 id=\"page--response\">Response</h4>\n<h4 id=\"page--response-1\">Response</h4>\n"
    );
    assert!(body.html[body.response.expect("a response")..].starts_with("<h4 id=\"page--response\">"));
    assert_eq!(body.headings, "Request\nBody & soul\nResponse\nResponse\n");
}

#[test]
fn tables_lists_and_emphasis() {
    let (body, _) = rendered("| a | b |\n|---|--:|\n| *x* | `y<` |\n\n1. one\n2. **two**\n");
    assert!(
        body.html
            .contains("<thead><tr><th>a</th><th class=\"right\">b</th></tr></thead><tbody>")
    );
    assert!(
        body.html
            .contains("<td><em>x</em></td><td class=\"right\"><code>y&lt;</code></td>")
    );
    assert!(
        body.html
            .contains("<ol>\n<li>one</li>\n<li><strong>two</strong></li>\n</ol>")
    );
    assert_eq!(body.text, "a b x y< \none\ntwo\n");
}

#[test]
fn links_lead_where_they_may() {
    let (body, told) =
        rendered("[a](#there) [b](https://e.org/?a&b)\n[c](nowhere.md) [d](javascript:alert(1)) ![e](x.png)");
    assert!(body.html.contains("<a href=\"#there\">a</a>"));
    assert!(
        body.html
            .contains("<a href=\"https://e.org/?a&amp;b\" rel=\"noreferrer noopener\">b</a>")
    );
    assert!(
        body.html
            .contains("<span class=\"dead\">c</span> <span class=\"dead\">d</span> e")
    );
    assert_eq!(
        told,
        [
            "a.md:5:1: `nowhere.md` is not a page",
            "a.md:5:17: `javascript:alert(1)` is refused",
            "a.md:5:42: no picture"
        ]
    );
}

#[test]
fn blocks_know_their_section_and_their_line() {
    let (body, _) = rendered(
        "### Request\n\n```json\n{\"a\": 1}\n```\n\n### Response\n\n```Status: 404 Not Found```\n```{\n  a: 1\n}```\n",
    );
    let seen: Vec<_> = body
        .blocks
        .iter()
        .map(|block| (block.kind, block.section, block.status, block.at.line))
        .collect();
    assert_eq!(
        seen,
        [
            (Kind::Json, Section::Request, None, 7),
            (Kind::Http, Section::Response, Some(404), 12),
            (Kind::Json, Section::Response, Some(404), 13),
        ]
    );
}

#[test]
fn raw_html_passes_a_short_list_and_is_closed() {
    let (body, _) =
        rendered("<table class=x onclick=\"a()\"><tr><td colspan='2'>a<br/></td>\n\nb <kbd>c</kbd>\n");
    assert!(
        body.html.starts_with("<table><tr><td colspan=\"2\">a<br></td>"),
        "{}",
        body.html
    );
    assert!(body.html.contains("<kbd>c</kbd>"));
    assert!(body.html.ends_with("</tr></table>"), "{}", body.html);
    let (body, _) = rendered("</details></table></p> a <!-- b\n\nc --> d");
    assert!(
        !body.html.contains("</details>") && !body.html.contains("</table>"),
        "{}",
        body.html
    );
}

#[test]
fn nothing_that_runs_gets_through() {
    for text in [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "<b onmouseover=alert(1)>x</b>",
        "<a href=\"javascript:alert(1)\">x</a>",
        "[x](javascript:alert(1))",
        "[x](<JaVaScRiPt:alert(1)>)",
        "[x](data:text/html,<script>alert(1)</script>)",
        "![x](javascript:alert(1))",
        "![\"><script>alert(1)</script>](x.png)",
        "<style>*{background:url(//x)}</style>",
        "<iframe src=//x></iframe>",
        "```\"><script>alert(1)</script>\nx\n```",
        "```json\n{\"a\": \"</code></pre><script>alert(1)</script>\"}\n```",
        "### <script>alert(1)</script> \" onclick=x",
        "<b\n<script>alert(1)</script>>",
        "<!--><script>alert(1)</script>-->",
        "<td colspan=\"1\" onclick=alert(1)>",
        "`<script>alert(1)</script>`",
        "| <script>a</script> |\n|--|\n| <img src=x onerror=a()> |",
    ] {
        let (body, _) = rendered(text);
        let html = body.html.to_lowercase();
        for tag in html.split('<').skip(1) {
            let name: String = tag
                .trim_start_matches('/')
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect();
            let inside = tag.split('>').next().unwrap_or_default();
            assert!(
                ALLOWED.contains(&name.as_str())
                    || [
                        "figure",
                        "figcaption",
                        "span",
                        "div",
                        "blockquote",
                        "h4",
                        "h5",
                        "h6"
                    ]
                    .contains(&name.as_str()),
                "<{name}> of {text}: {html}"
            );
            assert!(
                !inside.contains(" on") && !inside.contains("script:"),
                "{text}: {html}"
            );
        }
    }
}
