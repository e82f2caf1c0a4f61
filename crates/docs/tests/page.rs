//! The whole page of a small site, as a file that a person has looked at; and what it promises to browsers.

use upkeep_docs::{
    html::{self, Use},
    site::{Site, Source},
};

const PAGES: &[(&str, &str)] = &[
    (
        "_config.yml",
        "title: Things & more\ndescription: A small API.\napi_url: https://things.example\n",
    ),
    (
        "start.md",
        "---\ntitle: Start here\norder: 1\n---\nRead [how to list](list.md), then [its answer](list.md#response).\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    ),
    (
        "list.md",
        "---\ntitle: List things\ntype: GET\nurl_path: /v1/things\ncategory: Things\n---\nLists <b>them</b>.\n\n### Request\n\n```http\nAuthorization: Bearer TOKEN\n```\n\n### Response\n\n```http\nHTTP/1.1 200 OK\n```\n\n```json\n{\n  \"things\": [\n    {\"id\": 1, \"on\": true}\n  ]\n}\n```\n",
    ),
    (
        "create.md",
        "---\ntitle: Create a thing\ntype: POST\nurl_path: /v1/things\ncategory: Things\n---\n### Request\n\n```json\n{\"id\": 1}\n```\n",
    ),
];

fn made(shown: Use) -> String {
    let mut troubles = Vec::new();
    let sources = PAGES
        .iter()
        .map(|(inside, text)| Source {
            inside: (*inside).to_owned(),
            file: (*inside).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    let site = Site::of(sources, &mut troubles).expect("a site");
    let bodies = site.render(&mut troubles);
    assert_eq!(troubles, []);
    html::assemble(&site, &bodies, shown)
}

/// The page without style, script and their digests, which have tests of their own.
fn bones(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    for (start, end) in [
        ("content=\"default-src", "\""),
        ("<style>", "</style>"),
        ("<script>", "</script>"),
    ] {
        let (before, behind) = rest.split_once(start).expect(start);
        let (_, after) = behind.split_once(end).expect(end);
        out.push_str(before);
        out.push_str(start);
        out.push('…');
        out.push_str(end);
        rest = after;
    }
    out + rest
}

#[test]
fn a_small_site() {
    insta::assert_snapshot!(bones(&made(Use::Kept)));
}

#[test]
fn nothing_is_asked_for_and_only_ours_may_run() {
    let html = made(Use::Kept);
    for word in [
        "src=", "@import", "url(", "<link", "<iframe", " onclick", " style=", "<form",
    ] {
        assert!(!bones(&html).contains(word), "{word}");
    }
    let policy = html::policy(Use::Kept);
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(
        policy.contains("connect-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(html::policy(Use::Live).contains("connect-src 'self'"));
    // What is inline ends where it should.
    assert_eq!(html.matches("<script").count(), html.matches("</script>").count());
    assert_eq!(made(Use::Live).matches("<script>").count(), 2);
}

#[test]
fn it_is_small() {
    // Style and script of an empty page; what is above is text.
    let html = made(Use::Kept);
    assert!(html.len() < 32 << 10, "{} bytes", html.len());
}
