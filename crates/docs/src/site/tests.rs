use super::*;

pub(crate) fn source(inside: &str, text: &str) -> Source {
    Source {
        inside: inside.to_owned(),
        file: inside.to_owned(),
        text: text.to_owned(),
    }
}

fn site(sources: &[(&str, &str)]) -> (Option<Site>, Vec<String>) {
    let mut troubles = Vec::new();
    let sources = sources
        .iter()
        .map(|(inside, text)| source(inside, text))
        .collect();
    let site = Site::of(sources, &mut troubles);
    if let Some(site) = &site {
        site.render(&mut troubles);
    }
    (site, troubles.iter().map(ToString::to_string).collect())
}

fn order(site: &Site) -> Vec<&str> {
    site.pages.iter().map(|page| page.anchor.as_str()).collect()
}

#[test]
fn posts_stand_newest_first_and_groups_as_jekyll_lists_categories() {
    let (site, told) = site(&[
        ("_config.yml", "title: Things\napi_url: https://things.example/\n"),
        (
            "_posts/2013-01-03-create.md",
            "---\ntitle: Create\ncategory: Stuff\n---\n",
        ),
        (
            "_posts/2013-01-01-list.md",
            "---\ntitle: List\ncategory: Other\n---\n",
        ),
        ("_posts/2013-1-2-errors.markdown", "---\ntitle: Errors\n---\n"),
        (
            "_posts/2013-01-04-delete.md",
            "---\ntitle: Delete\ncategory: Stuff\n---\n",
        ),
        ("_posts/2013-01-05-login.md", "---\ntitle: Log in\n---\n"),
        (
            "_posts/2013-01-06-draft.md",
            "---\ntitle: Draft\npublished: false\n---\n",
        ),
        ("_posts/readme.md", "no post"),
    ]);
    let site = site.expect("a site");
    assert_eq!(site.config.title, "Things");
    assert_eq!(site.config.api_url, "https://things.example");
    assert_eq!(order(&site), ["login", "errors", "list", "delete", "create"]);
    assert_eq!(
        told,
        ["_posts/readme.md: is left out: Jekyll takes no post without a day in its name"]
    );
}

#[test]
fn pages_stand_by_order_then_category_then_path() {
    let (site, told) = site(&[
        ("b/two.md", "---\ntitle: Two\ncategory: B\n---\n"),
        ("b/one.md", "---\ntitle: One\ncategory: B\norder: 5\n---\n"),
        ("a.md", "---\ntitle: A\ncategory: A\n---\n"),
        ("zero.md", "---\ntitle: Zero\n---\n"),
        ("README.md", "# Not a page\n"),
    ]);
    assert_eq!(told, Vec::<String>::new());
    assert_eq!(order(&site.expect("a site")), ["zero", "b-one", "b-two", "a"]);
}

#[test]
fn links_between_pages_become_places_and_dead_ones_are_told() {
    let (made, told) = site(&[
        (
            "a.md",
            "---\ntitle: A\n---\n## Part\n[1](b.md) [2](sub/c.md#deep) [3](#part) [4](#b) [5](/b)\n[6](d.md)\n[7](b.md#no) [8](../x.md) [9](#no)\n",
        ),
        ("b.md", "---\ntitle: B\n---\n[1](a.md#part) [2](./sub/../a.md)\n"),
        (
            "sub/c.md",
            "---\ntitle: C\n---\n## Deep\n[1](../a.md) [2](c.md)\n",
        ),
    ]);
    let made = made.expect("a site");
    let bodies = made.render(&mut Vec::new());
    let hrefs: Vec<Vec<&str>> = bodies
        .iter()
        .map(|body| {
            let parts = body.html.split("href=\"").skip(1);
            parts
                .map(|part| part.split('"').next().unwrap_or_default())
                .collect()
        })
        .collect();
    assert_eq!(hrefs[0], ["#b", "#sub-c--deep", "#a--part", "#b", "#b"]);
    assert_eq!(hrefs[1], ["#a--part", "#a"]);
    assert_eq!(hrefs[2], ["#a", "#sub-c"]);
    assert_eq!(
        told,
        [
            "a.md:6:1: `d.md` is no page of this site",
            "a.md:7:1: `b.md` has no heading `#no`",
            "a.md:7:14: `../x.md` is no page of this site",
            "a.md:7:27: there is no `#no`",
        ]
    );
}

#[test]
fn two_pages_cannot_have_one_anchor() {
    let (made, told) = site(&[
        ("_posts/2013-01-03-create.md", "---\ntitle: A\n---\n"),
        ("_posts/2013-01-04-create.md", "---\ntitle: B\n---\n"),
    ]);
    assert!(made.is_none());
    assert_eq!(
        told,
        ["_posts/2013-01-04-create.md: `#create` is the anchor of `_posts/2013-01-03-create.md` too"]
    );
}

#[test]
fn files_that_are_no_pages_are_told() {
    let (made, told) = site(&[
        ("a.md", "# no front matter\n"),
        ("b.md", "---\ntitle: B\n"),
        ("c.md", "\u{feff}---\r\ntitle: C\r\n---\r\ntext\r\n"),
        ("_config.yml", "title: [\n"),
    ]);
    assert!(made.is_none());
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("_config.yml:"), "{told:?}");
    assert_eq!(told[1], "a.md:1:1: the file has no front matter");
    assert_eq!(told[2], "b.md:1:1: the front matter does not end");
}

#[test]
fn liquid_is_for_posts_only() {
    let (made, told) = site(&[(
        "_posts/2013-01-03-a.md",
        "---\ntitle: A\n---\n{{ page.title }} {{ x | y }}\n",
    )]);
    assert!(made.is_none());
    assert_eq!(
        told,
        ["_posts/2013-01-03-a.md:4:18: `{{ x | y }}` is not understood"]
    );
    let (made, told) = site(&[("a.md", "---\ntitle: A\n---\n{{ page.title }}\n")]);
    assert_eq!(told, Vec::<String>::new());
    assert_eq!(made.expect("a site").pages[0].body.text, "{{ page.title }}\n");
}

#[test]
fn a_folder_is_read_with_its_pictures_and_nothing_outside_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("site");
    fs::create_dir_all(root.join("_drafts")).expect("folders");
    fs::write(dir.path().join("secret.png"), "secret").expect("a file");
    fs::write(root.join("in.png"), "png").expect("a file");
    std::os::unix::fs::symlink(dir.path().join("secret.png"), root.join("link.png")).expect("a link");
    fs::write(root.join("_drafts/b.md"), "no page").expect("a file");
    fs::write(
        root.join("a.md"),
        "---\ntitle: A\n---\n![in](in.png) ![up](../secret.png) ![link](link.png) ![far](https://e.org/x.png) ![no](no.png)\n",
    )
    .expect("a page");
    let mut troubles = Vec::new();
    let site = Site::read(&root, &mut troubles).expect("a site");
    let bodies = site.render(&mut troubles);
    assert!(
        bodies[0]
            .html
            .contains("<img src=\"data:image/png;base64,cG5n\" alt=\"in\">")
    );
    assert_eq!(bodies[0].html.matches("<img").count(), 1);
    assert_eq!(troubles.len(), 4, "{troubles:?}");
    assert!(
        troubles[1].message.contains("lies outside the folder"),
        "{troubles:?}"
    );
}

#[test]
fn an_empty_folder_is_no_site() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut troubles = Vec::new();
    assert!(Site::read(dir.path(), &mut troubles).is_none());
    assert!(troubles[0].message.contains("no page"), "{troubles:?}");
    assert!(Site::read(&dir.path().join("none"), &mut troubles).is_none());
}
