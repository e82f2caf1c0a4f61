//! A site of posts, as Carte's are, beside the real Jekyll.
//!
//! Jekyll renders the same folder with a page that writes down what it makes of it: groups, articles, anchors, headings, links.
//! Skipped, and said so, where there is no `jekyll` (Debian: `apt-get install jekyll`).

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use upkeep_docs::{
    html::{self, Use},
    page::Method,
    site::Site,
};

/// What Jekyll is asked for: one line of JSON for each post, in the order of the page.
const LISTED: &str = r#"---
layout: null
---
{% for post in site.posts %}{% if post.categories == empty %}{"group": null, "anchor": {{ post.url | remove_first: "/" | jsonify }}, "title": {{ post.title | jsonify }}, "url_path": {{ post.url_path | jsonify }}, "type": {{ post.type | jsonify }}, "content": {{ post.content | jsonify }}}
{% endif %}{% endfor %}{% for group in site.categories %}{% for post in group[1] %}{"group": {{ group[0] | jsonify }}, "anchor": {{ post.url | remove_first: "/" | jsonify }}, "title": {{ post.title | jsonify }}, "url_path": {{ post.url_path | jsonify }}, "type": {{ post.type | jsonify }}, "content": {{ post.content | jsonify }}}
{% endfor %}{% endfor %}
"#;

fn posts() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/carte")
}

/// What stands between two marks, each time.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    let parts = text.split(start).skip(1);
    parts
        .map(|part| part.split(end).next().unwrap_or_default())
        .collect()
}

fn headings(html: &str) -> Vec<&str> {
    let mut found: Vec<(usize, &str)> = Vec::new();
    for level in 1..=6 {
        for (at, _) in html.match_indices(&format!("<h{level}")) {
            let rest = &html[at..];
            let inside = rest.split_once('>').map_or("", |(_, rest)| rest);
            found.push((at, inside.split("</h").next().unwrap_or_default()));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, text)| text).collect()
}

/// The words of a page, without tags and without what code is shown with.
fn words(html: &str) -> Vec<String> {
    let mut text = String::new();
    for (index, part) in html.split('<').enumerate() {
        let shown = if index == 0 {
            part
        } else {
            part.split_once('>').map_or("", |(_, text)| text)
        };
        text.push_str(shown);
        // A name of a block is ours.
        if part.starts_with("/figcaption") || part.starts_with("/p") {
            text.push(' ');
        }
    }
    for (code, character) in [
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ] {
        text = text.replace(code, character);
    }
    // Jekyll's Markdown curls quotes in prose.
    let plain = text.replace(['“', '”'], "\"").replace(['‘', '’'], "'");
    plain
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty() && !["JSON", "HTTP"].contains(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn six_posts_build_unmodified() {
    let mut troubles = Vec::new();
    let site = Site::read(&posts(), &mut troubles).expect("a site");
    let bodies = site.render(&mut troubles);
    assert_eq!(troubles, []);
    let order: Vec<_> = site.pages.iter().map(|page| page.anchor.as_str()).collect();
    assert_eq!(
        order,
        [
            "authentication",
            "response-status-codes",
            "change-parcel",
            "create-parcel",
            "list-parcels",
            "stop-parcel"
        ]
    );
    assert_eq!(site.pages[5].category.as_deref(), Some("Parcels on their way"));
    assert_eq!(site.pages[3].method, Some(Method::Post));
    // `path` is what the README of Carte calls it, `url_path` what its code does.
    assert_eq!(site.pages[3].path.as_deref(), Some("/parcels"));
    let html = html::assemble(&site, &bodies, Use::Kept);
    assert!(html.contains("what <strong>Authentication</strong> is good for at Parcels"));
    assert!(html.contains("<code>{{ name }}</code>"));
    assert!(html.contains("<a href=\"#create-parcel\">this call</a>"));
    assert!(html.contains("<span class=\"c2\">Status: 200 Returned</span>"));
    // A block that starts and ends as Carte writes it is a block, and what follows is outside it.
    assert!(html.contains("<p>For errors see the <a href=\"#response-status-codes\">"));
}

#[test]
fn groups_articles_and_anchors_are_those_of_jekyll() {
    if Command::new("jekyll").arg("--version").output().is_err() {
        eprintln!("skipped: there is no jekyll on this machine (Debian: apt-get install jekyll)");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("site"), dir.path().join("out"));
    fs::create_dir_all(from.join("_posts")).expect("folders");
    fs::copy(posts().join("_config.yml"), from.join("_config.yml")).expect("copied");
    for entry in fs::read_dir(posts().join("_posts")).expect("posts") {
        let path = entry.expect("a post").path();
        fs::copy(&path, from.join("_posts").join(path.file_name().expect("a name"))).expect("copied");
    }
    fs::write(from.join("listed.txt"), LISTED).expect("written");
    let output = Command::new("jekyll")
        .args(["build", "--disable-disk-cache", "--quiet", "--source"])
        .arg(&from)
        .arg("--destination")
        .arg(&to)
        .current_dir(dir.path())
        .env("LANG", "C.UTF-8")
        .output()
        .expect("jekyll");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listed = fs::read_to_string(to.join("listed.txt")).expect("the list");
    let theirs: Vec<Value> = listed
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();

    let mut troubles = Vec::new();
    let site = Site::read(&from, &mut troubles).expect("a site");
    let bodies = site.render(&mut troubles);
    assert_eq!(troubles, []);
    assert_eq!(theirs.len(), site.pages.len());
    for ((page, body), theirs) in site.pages.iter().zip(&bodies).zip(&theirs) {
        let content = theirs["content"].as_str().expect("content");
        let ours = json!({
            "group": page.category,
            "anchor": page.anchor,
            "title": page.title,
            "type": page.method.map(Method::name),
        });
        for key in ["group", "anchor", "title", "type"] {
            assert_eq!(ours[key], theirs[key], "{key} of {}", page.file);
        }
        // Jekyll keeps `path` for itself: only `url_path` can be compared.
        if let Some(path) = theirs["url_path"].as_str() {
            assert_eq!(page.path.as_deref(), Some(path), "{}", page.file);
        }
        assert_eq!(headings(&body.html), headings(content), "{}", page.file);
        assert_eq!(
            between(&body.html, "href=\"", "\""),
            between(content, "href=\"", "\""),
            "{}",
            page.file
        );
        assert_eq!(words(&body.html), words(content), "{}", page.file);
    }
}
