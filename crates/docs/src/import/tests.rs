use super::*;
use crate::{check, trouble::any_error};

const API: &str = "openapi: 3.1.0
info: {title: Things}
servers: [{url: 'https://things.example/v2'}]
security: [{token: []}]
tags: [{name: Stuff}]
paths:
  /things:
    get:
      summary: Lists things.
      tags: [Stuff]
      security: []
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, default: 20}, description: 'How many | at most.'}
      responses: {'200': {description: All., content: {application/json: {schema: {type: array, items: {$ref: '#/components/schemas/thing'}}}}}}
    post:
      summary: Creates a thing.
      tags: [Stuff]
      requestBody: {required: true, content: {application/json: {schema: {$ref: '#/components/schemas/thing'}}}}
      responses:
        '201': {description: Made., content: {application/json: {schema: {$ref: '#/components/schemas/thing'}}}}
        '409': {description: There is one.}
  /things/{id}:
    delete:
      operationId: removeThing
      deprecated: true
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      responses: {'204': {description: Gone.}}
  /things-id:
    delete: {responses: {'204': {description: Gone.}}}
components:
  securitySchemes: {token: {type: http, scheme: bearer}}
  schemas:
    thing:
      type: object
      required: [name]
      properties:
        id: {type: integer, readOnly: true, description: Its number.}
        name: {type: string, description: Its name.}
        state: {enum: [up, down]}
";

fn document(text: &str) -> Document {
    Document::parse("api.yaml", text.to_owned()).expect("a document")
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

#[test]
fn what_is_written_passes_the_check_and_is_not_written_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path().join("api");
    let document = document(API);
    let dry = import(&document, &folder, true).expect("imported");
    assert!(!folder.exists());
    let first = import(&document, &folder, false).expect("imported");
    assert_eq!(first, dry);
    let names: Vec<_> = first.written.iter().map(|path| name(path)).collect();
    assert_eq!(
        names,
        [
            "things-get.md",
            "things-post.md",
            "things-id-delete.md",
            "things-id-delete-2.md"
        ]
    );
    let mut troubles = Vec::new();
    let site = Site::read(&folder, &mut troubles).expect("a site");
    assert_eq!(site.config.title, "Things");
    assert_eq!(site.config.api_url, "https://things.example/v2");
    let bodies = check::links(&site, &mut troubles);
    check::api(&site, &bodies, &document, &mut troubles);
    assert_eq!(troubles, []);
    let again = import(&document, &folder, false).expect("imported");
    assert_eq!((again.written.len(), again.same.len()), (0, 4));
}

#[test]
fn a_page_says_what_the_document_says() {
    let document = document(API);
    insta::assert_snapshot!(
        "post",
        signed(&page(&document, &document.operations[1], &Words::new()))
    );
    insta::assert_snapshot!(
        "list",
        signed(&page(&document, &document.operations[0], &Words::new()))
    );
}

#[test]
fn what_a_person_wrote_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path();
    import(&document(API), folder, false).expect("imported");
    let changed = folder.join("things-post.md");
    let text = fs::read_to_string(&changed).expect("a page");
    fs::write(&changed, text.replace("Creates a thing.", "Makes one.")).expect("changed");
    // Under a name of its own, and nothing generated about it.
    fs::remove_file(folder.join("things-get.md")).expect("removed");
    fs::write(
        folder.join("mine.md"),
        "---\ntitle: Mine\ntype: GET\nurl_path: /things\n---\nMine.\n",
    )
    .expect("written");
    let newer = API
        .replace("Creates a thing.", "Creates a new thing.")
        .replace("/things-id:", "/others:")
        .replace("Lists things.", "Lists.");
    let imported = import(&document(&newer), folder, false).expect("imported");
    let kept: Vec<_> = imported.kept.iter().map(|path| name(path)).collect();
    assert_eq!(kept, ["mine.md", "things-post.md"]);
    assert_eq!(
        imported.written.iter().map(|path| name(path)).collect::<Vec<_>>(),
        ["others-delete.md"]
    );
    assert_eq!(
        imported.gone.iter().map(|path| name(path)).collect::<Vec<_>>(),
        ["things-id-delete-2.md"]
    );
    assert!(
        fs::read_to_string(&changed)
            .expect("a page")
            .contains("Makes one.")
    );
    assert!(!folder.join("things-get.md").exists());
}

#[test]
fn what_nobody_touched_is_made_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    import(&document(API), dir.path(), false).expect("imported");
    let newer = API.replace("Creates a thing.", "Creates a new thing.");
    let imported = import(&document(&newer), dir.path(), false).expect("imported");
    assert_eq!(imported.written.len(), 1);
    let text = fs::read_to_string(dir.path().join("things-post.md")).expect("a page");
    assert!(text.contains("Creates a new thing") && is_made(&text), "{text}");
}

#[test]
fn posts_and_broken_pages_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("a.md"), "no page").expect("written");
    let troubles = import(&document(API), dir.path(), false).expect_err("refused");
    assert!(any_error(&troubles), "{troubles:?}");
    fs::create_dir(dir.path().join("_posts")).expect("a folder");
    import(&document(API), dir.path(), false).expect_err("refused");
}

#[test]
fn what_a_person_hid_stays_hidden() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path();
    import(&document(API), folder, false).expect("imported");
    let hidden = folder.join("things-post.md");
    let text = fs::read_to_string(&hidden).expect("a page");
    let text = text.replacen("---\n", "---\npublished: false\n", 1);
    let text = text.replace("Creates a thing.", "Not yet.");
    fs::write(&hidden, &text).expect("changed");
    let imported = import(&document(API), folder, false).expect("imported");
    assert_eq!(imported.written, [] as [PathBuf; 0]);
    assert_eq!(imported.kept, [hidden.as_path()]);
    assert_eq!(fs::read_to_string(&hidden).expect("a page"), text);
    // The check does not say that importing would help.
    let mut troubles = Vec::new();
    let site = Site::read(folder, &mut troubles).expect("a site");
    let bodies = check::links(&site, &mut troubles);
    check::api(&site, &bodies, &document(API), &mut troubles);
    let [trouble] = &troubles[..] else {
        panic!("{troubles:?}")
    };
    assert_eq!(trouble.message, "POST /things has no page");
    assert_eq!(
        trouble.hint.as_deref(),
        Some(&*format!(
            "`{}` hides its page: `published: false`",
            hidden.display()
        ))
    );
}

#[test]
fn a_file_that_tells_of_something_else_is_not_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path();
    // By its name the page of a call; hidden, and prose.
    let mine = folder.join("things-post.md");
    let text = "---\ntitle: Mine\npublished: false\n---\nMine.\n";
    fs::write(&mine, text).expect("written");
    let imported = import(&document(API), folder, false).expect("imported");
    assert_eq!(fs::read_to_string(&mine).expect("a page"), text);
    let names: Vec<_> = imported.written.iter().map(|path| name(path)).collect();
    assert!(names.contains(&"things-post-2.md".to_owned()), "{names:?}");
}

#[test]
fn a_call_is_the_same_whatever_its_parameters_are_called() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path();
    import(&document(API), folder, false).expect("imported");
    // A page of a person, in the way of Carte and with the base path.
    let mine = folder.join("mine.md");
    let text = "---\ntitle: Mine\ntype: DELETE\nurl_path: '/v2/things/:id'\n---\nMine.\n";
    fs::write(&mine, text).expect("written");
    fs::remove_file(folder.join("things-id-delete.md")).expect("removed");
    let imported = import(&document(API), folder, false).expect("imported");
    assert_eq!(
        (&imported.written[..], &imported.kept[..]),
        (&[][..], &[mine][..])
    );
    assert_eq!(imported.gone, [] as [PathBuf; 0]);
    // And one that was made, where the document has another name now.
    fs::remove_file(folder.join("mine.md")).expect("removed");
    import(&document(API), folder, false).expect("imported");
    let newer = API
        .replace("/things/{id}", "/things/{thing}")
        .replace("name: id", "name: thing");
    let imported = import(&document(&newer), folder, false).expect("imported");
    let names: Vec<_> = imported.written.iter().map(|path| name(path)).collect();
    assert_eq!(
        (names, imported.gone),
        (vec!["things-id-delete.md".to_owned()], vec![])
    );
    let mut troubles = Vec::new();
    let site = Site::read(folder, &mut troubles).expect("a site");
    let bodies = check::links(&site, &mut troubles);
    check::api(&site, &bodies, &document(&newer), &mut troubles);
    assert_eq!(troubles, []);
}
