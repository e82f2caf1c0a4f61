//! Whatever is in a folder: no panic, and a page whose tags are closed.

use proptest::prelude::*;
use upkeep_docs::{
    api::{document::Document, example},
    check,
    html::{self, Use},
    search::Index,
    site::{Site, Source},
};
use upkeep_schema::{Judge, Way};

/// Pieces that mean something, between text that means nothing.
fn body() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("```".to_owned()),
        Just("```{".to_owned()),
        Just("}```".to_owned()),
        Just("```json\n".to_owned()),
        Just("{{".to_owned()),
        Just("}}".to_owned()),
        Just("{%".to_owned()),
        Just("%}".to_owned()),
        Just("{% raw %}".to_owned()),
        Just("{% highlight".to_owned()),
        Just("endraw".to_owned()),
        Just("post_url 2013-01-01-x".to_owned()),
        Just("<table>".to_owned()),
        Just("</tr>".to_owned()),
        Just("<!--".to_owned()),
        Just("<b ".to_owned()),
        Just("[a](b.md#".to_owned()),
        Just("![](".to_owned()),
        Just("| a |\n|--|\n".to_owned()),
        Just("\n### Response\n".to_owned()),
        Just("\n### Request 404\n".to_owned()),
        Just("Status: 200 OK".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        "\\PC{0,12}",
        ".{0,4}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn front() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("---\ntitle: A\ntype: GET\nurl_path: /a/{id}\n---\n".to_owned()),
        Just("---\ntitle: A\n---\n".to_owned()),
        "---\n(title: A\n)?[ -~äö]{0,30}\n---\n",
        "\\PC{0,20}",
    ]
}

/// Tags of ours that are open at the end.
fn unclosed(html: &str) -> usize {
    [
        "details", "div", "section", "figure", "span", "table", "ul", "script", "style", "a",
    ]
    .iter()
    .map(|tag| {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        opened.abs_diff(html.matches(&format!("</{tag}>")).count())
    })
    .sum()
}

const API: &str = "openapi: 3.1.0\npaths: {'/a/{x}': {get: {responses: {'200': {description: x, content: {application/json: {schema: {type: object}}}}}}}}";

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_page_panics_or_leaves_a_tag_open(front in front(), body in body(), post in any::<bool>()) {
        let inside = if post { "_posts/2013-01-01-a.md" } else { "a.md" };
        let mut troubles = Vec::new();
        let source = Source { inside: inside.to_owned(), file: inside.to_owned(), text: front + &body };
        if let Some(site) = Site::of(vec![source], &mut troubles) {
            let bodies = check::links(&site, &mut troubles);
            let document = Document::parse("api.yaml", API.to_owned()).expect("a document");
            check::api(&site, &bodies, &document, &mut troubles);
            Index::of(&site.pages, &bodies).find(&body);
            let html = html::assemble(&site, &bodies, Use::Kept);
            // Style and script speak of tags as well.
            let shown = html.split("</style>").nth(1).and_then(|rest| rest.split("<script>").next()).unwrap_or_default();
            prop_assert_eq!(unclosed(shown), 0, "{}", shown);
        }
        for trouble in &troubles {
            prop_assert!(trouble.line <= 200, "{}", trouble);
        }
    }

    #[test]
    fn no_document_panics(text in "\\PC{0,200}", schema in "[{}\\[\\]\":a-z$#/,0-9]{0,60}") {
        // An error is as good as a document.
        let _ = Document::parse("a", text);
        let yaml = format!("openapi: 3.1.0\npaths:\n  /a:\n    get:\n      responses: {{'200': {schema}}}\n");
        let _ = Document::parse("a", yaml);
        if let Ok(schema) = serde_json::from_str(&schema) {
            let value = example::of_schema(&schema, &schema, true, &example::Words::new());
            Judge::new(&schema, false, Way::Request).judge(&schema, &value);
        }
    }
}
