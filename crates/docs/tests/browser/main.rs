//! The page in a real browser, from a file. The scenario is the script beside this.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use upkeep_docs::{
    html::{self, Use},
    own,
    site::{Site, Source},
    write,
};
use upkeep_testkit::browser;

/// For a whole scenario: machines of builds are shared.
const PATIENCE: Duration = Duration::from_secs(100);

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/browser/{name}.mjs"))
}

fn carte() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/carte")
}

/// Writes the page of the six posts, and gives its address.
fn page(dir: &Path) -> String {
    let mut troubles = Vec::new();
    let site = Site::read(&carte(), &mut troubles).expect("a site");
    let bodies = site.render(&mut troubles);
    let place = dir.join("index.html");
    write::write(&place, &html::assemble(&site, &bodies, Use::Kept)).expect("written");
    format!("file://{}", place.display())
}

#[test]
fn the_page_does_from_a_file_what_it_promises() {
    let dir = tempfile::tempdir().expect("a directory");
    let result = browser::run_alone(&script("page"), &json!({ "url": page(dir.path()) }), PATIENCE);
    assert_eq!(result["done"], true, "{result}");
}

#[test]
fn the_page_can_be_read_without_a_script() {
    let dir = tempfile::tempdir().expect("a directory");
    let result = browser::run_alone(&script("bare"), &json!({ "url": page(dir.path()) }), PATIENCE);
    assert_eq!(result["done"], true, "{result}");
}

#[test]
fn search_finds_in_the_browser_what_it_finds_here() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = page(dir.path());
    let mut troubles = Vec::new();
    let site = Site::read(&carte(), &mut troubles).expect("a site");
    let bodies = site.render(&mut troubles);
    let index = upkeep_docs::search::Index::of(&site.pages, &bodies);
    let questions = [
        "parcel",
        "token",
        "sen",
        "status 404",
        "POST",
        "TO elsewhere",
        "nothing at all",
        "body must",
        "ada",
    ];
    let asked: Vec<_> = questions
        .iter()
        .map(|question| {
            let anchors: Vec<_> = index
                .find(question)
                .iter()
                .map(|hit| site.pages[hit.page].anchor.clone())
                .collect();
            json!({ "question": question, "anchors": anchors })
        })
        .collect();
    let result = browser::run_alone(
        &script("search"),
        &json!({ "url": url, "asked": asked }),
        PATIENCE,
    );
    assert_eq!(result["asked"], questions.len(), "{result}");
}

/// Pages whose files are called what the page's own parts are called: nothing of either gives way.
#[test]
fn pages_may_be_called_as_parts_of_the_page() {
    const NAMES: [&str; 14] = [
        "index", "search", "filter", "menu", "nav", "content", "results", "said", "pages", "open", "close",
        "theme", "none", "tools",
    ];
    let sources = NAMES.map(|name| Source {
        inside: format!("{name}.md"),
        file: format!("{name}.md"),
        text: format!("---\ntitle: On {name}\n---\nTells of the word w{name}.\n\n## Menu\n\nMore.\n"),
    });
    let mut troubles = Vec::new();
    let site = Site::of(sources.to_vec(), &mut troubles).expect("a site");
    let bodies = site.render(&mut troubles);
    assert_eq!(troubles, []);
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("index.html");
    write::write(&place, &html::assemble(&site, &bodies, Use::Kept)).expect("written");
    let result = browser::run_alone(
        &script("names"),
        &json!({ "url": format!("file://{}", place.display()), "names": NAMES }),
        PATIENCE,
    );
    assert_eq!(result["done"], true, "{result}");
}

/// With `UPKEEP_PICTURES=DIR` it leaves pictures there; those of the guide, in `docs/pictures`, are made so.
#[test]
fn our_own_reference_holds_in_a_browser() {
    let dir = tempfile::tempdir().expect("a directory");
    let html = own::html().expect("the reference");
    let place = dir.path().join("index.html");
    fs::write(&place, html).expect("written");
    let url = format!("file://{}", place.display());
    let pictures = std::env::var("UPKEEP_PICTURES").ok();
    let result = browser::run_alone(
        &script("own"),
        &json!({ "url": url, "pictures": pictures }),
        PATIENCE,
    );
    assert_eq!(result["done"], true, "{result}");
}
