//! `upkeep docs` through the binary, without a daemon; and `/docs` of a daemon.

use std::fs;

use serde_json::Value;
use upkeep_e2e::{Http, LONG, ended, says};
use upkeep_testkit::{Home, wait_until};

const API: &str = "openapi: 3.1.0
info: {title: Things}
paths:
  /things:
    post:
      summary: Creates a thing.
      requestBody: {required: true, content: {application/json: {schema: {$ref: '#/components/schemas/thing'}}}}
      responses: {'201': {description: Made., content: {application/json: {schema: {$ref: '#/components/schemas/thing'}}}}}
  /things/{id}:
    delete:
      summary: Removes a thing.
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
      responses: {'204': {description: Gone.}}
components:
  schemas:
    thing: {type: object, required: [name], additionalProperties: false, properties: {id: {type: integer}, name: {type: string}}}
";

/// `name` in the home's working folder.
fn at(home: &Home, name: &str) -> String {
    home.work().join(name).display().to_string()
}

#[test]
fn from_openapi_to_pages_to_a_page_and_back() {
    let home = Home::new();
    let api = home.write("api.yaml", API).display().to_string();
    let pages = at(&home, "pages");

    let dry = home.cmd(["--dry-run", "docs", "import", &api, &pages]);
    ended(&dry, 0);
    says(&dry.stderr, &["would write", "2 written"]);
    assert!(!home.work().join("pages").exists());
    let imported = home.json(["docs", "import", &api, &pages]);
    assert_eq!(
        imported["written"].as_array().map(Vec::len),
        Some(2),
        "{imported}"
    );
    let checked = home.cmd(["docs", "check", &pages, "--openapi", &api]);
    ended(&checked, 0);
    says(&checked.stderr, &["2 pages tell of 2 calls as they are"]);

    let made = home.cmd(["docs", "build", &pages, "-o", &at(&home, "out")]);
    ended(&made, 0);
    let html = fs::read_to_string(home.work().join("out/index.html")).expect("the page");
    says(
        &html,
        &["<title>Things</title>", "id=\"things-post\"", "Removes a thing"],
    );
    // Twice the same.
    ended(
        &home.cmd(["docs", "build", &pages, "-o", &at(&home, "again.html")]),
        0,
    );
    assert_eq!(
        fs::read_to_string(home.work().join("again.html")).expect("the page"),
        html
    );
}

#[test]
fn what_differs_is_told_with_its_line_and_ends_with_1() {
    let home = Home::new();
    let api = home.write("api.yaml", API).display().to_string();
    let pages = at(&home, "pages");
    ended(&home.cmd(["docs", "import", &api, &pages]), 0);
    let post = home.work().join("pages/things-post.md");
    let text = fs::read_to_string(&post).expect("the page");
    fs::write(
        &post,
        text.replace("\"name\": \"name\"", "\"nmae\": \"name\"") + "\n[x](gone.md)\n",
    )
    .expect("changed");
    fs::remove_file(home.work().join("pages/things-id-delete.md")).expect("removed");
    fs::write(
        home.work().join("pages/more.md"),
        "---\ntitle: More\ntype: GET\nurl_path: /more\n---\n",
    )
    .expect("written");

    let checked = home.cmd(["docs", "check", &pages, "--openapi", &api]);
    ended(&checked, 1);
    says(
        &checked.stderr,
        &[
            "more.md:4:1: the API has no GET /more",
            "the schema refuses the sample: `/nmae` `nmae` is not in the schema; did you mean `name`?",
            "has no `name`",
            "`gone.md` is no page of this site",
            "api.yaml:10:5: DELETE /things/{id} has no page",
            "hint:",
        ],
    );
    assert!(checked.stdout.is_empty(), "{}", checked.stdout);
    let data = home.cmd(["--json", "docs", "check", &pages, "--openapi", &api]);
    ended(&data, 1);
    let data: Value = serde_json::from_str(&data.stdout).expect("a document");
    let troubles = data["troubles"].as_array().expect("troubles");
    assert!(troubles.len() >= 6, "{data}");
    assert!(
        troubles.iter().all(|trouble| trouble["line"].as_u64() > Some(0)),
        "{data}"
    );

    // A dead link is a warning for `build`, an error with `--check`; then nothing is written.
    let out = at(&home, "out.html");
    let refused = home.cmd(["docs", "build", &pages, "-o", &out, "--check"]);
    ended(&refused, 1);
    assert!(!home.work().join("out.html").exists());
    let made = home.cmd(["docs", "build", &pages, "-o", &out]);
    ended(&made, 0);
    says(&made.stderr, &["warning", "gone.md"]);
    // A page that is broken leaves what was there.
    let before = fs::read_to_string(&out).expect("the page");
    fs::write(&post, "---\ntitle: [\n---\n").expect("broken");
    let broken = home.cmd(["docs", "build", &pages, "-o", &out]);
    ended(&broken, 1);
    says(
        &broken.stderr,
        &["things-post.md:", "the front matter cannot be read"],
    );
    assert_eq!(fs::read_to_string(&out).expect("the page"), before);

    let none = home.cmd(["docs", "check", &pages, "--openapi", "nowhere.yaml"]);
    ended(&none, 1);
    says(&none.stderr, &["nowhere.yaml: cannot be read"]);
}

#[test]
fn a_new_page_is_written_once() {
    let home = Home::new();
    let dir = at(&home, ".");
    let new = [
        "docs",
        "new",
        "Create a thing",
        "--type",
        "post",
        "--path",
        "/things/{id}",
        "--dir",
        &dir,
    ];
    ended(&home.cmd(new), 0);
    let text = fs::read_to_string(home.work().join("create-a-thing.md")).expect("the page");
    says(
        &text,
        &[
            "title: 'Create a thing'",
            "type: POST",
            "**`id`**",
            "### Response",
        ],
    );
    let again = home.cmd(new);
    ended(&again, 6);
    says(&again.stderr, &["create-a-thing.md", "is there already"]);
    ended(
        &home.cmd([
            "docs", "new", "X", "--type", "FETCH", "--path", "/x", "--dir", &dir,
        ]),
        2,
    );
    ended(
        &home.cmd(["docs", "new", "X", "--type", "GET", "--path", "x", "--dir", &dir]),
        2,
    );
    ended(&home.cmd(["docs", "new", "?!", "--dir", &dir]), 2);
    ended(&home.cmd(["docs", "serve", "nowhere"]), 3);
    // Where posts are, names have a day.
    fs::create_dir(home.work().join("_posts")).expect("a folder");
    let posted = home.json(["docs", "new", "Errors", "--dir", &dir]);
    let file = posted["file"].as_str().expect("a file");
    assert!(
        file.contains("_posts/20") && file.ends_with("-errors.md"),
        "{file}"
    );
}

#[test]
fn what_is_served_follows_its_files() {
    let home = Home::new();
    home.write("a.md", "---\ntitle: Before\n---\n");
    let dir = at(&home, ".");
    let serving = home.follow(["docs", "serve", &dir]);
    let url = serving.next_line(LONG).expect("an address");
    let address = url
        .strip_prefix("http://")
        .and_then(|rest| rest.strip_suffix('/'))
        .expect("an address")
        .to_owned();
    let get = || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&address).map_err(|error| error.to_string())?;
        write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(answer)
    };
    let shows = |word: &str| {
        let answer = get()?;
        if answer.contains(word) {
            Ok(())
        } else {
            Err(answer)
        }
    };
    wait_until("the page", LONG, || shows("Before"));
    home.write("a.md", "---\ntitle: After\n---\n");
    wait_until("the new page", LONG, || shows("After"));
}

#[test]
fn the_daemon_serves_its_reference_to_everybody() {
    let home = Home::new();
    ended(&home.cmd(["ls"]), 0);
    let page = Http::ask(&home, "GET", "/docs", b"");
    assert_eq!(page.status, 200, "{page:?}");
    let html = String::from_utf8(page.body.clone()).expect("text");
    says(
        &html,
        &["<!doctype html>", "/v1/apps/{name}/restart", "id=\"--search\""],
    );
    let answer = Http::ask(&home, "POST", "/docs", b"");
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET,HEAD")),
        "{answer:?}"
    );
    assert_eq!(Http::ask(&home, "GET", "/docs/../v1", b"").status, 404);
}

#[test]
fn our_own_reference_says_what_the_api_does() {
    let home = Home::new();
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/api");
    let checked = home.cmd(["docs", "check", pages]);
    ended(&checked, 0);
}
