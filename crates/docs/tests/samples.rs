//! Code samples are run: curl, Node and Python must ask for the same thing.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
};

use serde_json::{Value, json};
use upkeep_docs::{
    samples::{self, Sample},
    site::{Site, Source},
};

/// What a server was asked.
#[derive(Debug, PartialEq)]
struct Asked {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Takes one request and answers with JSON.
fn once(listener: &TcpListener) -> Asked {
    let (mut stream, _) = listener.accept().expect("a client");
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let line = lines.next().expect("a line").to_owned();
            let headers: BTreeMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers
                .get("content-length")
                .map_or(0, |length| length.parse().expect("a number"));
            if body.len() >= length {
                let answer = r#"{"ok": true}"#;
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                    answer.len()
                )
                .expect("answered");
                return Asked {
                    line,
                    headers,
                    body: body.to_owned(),
                };
            }
        }
        let read = stream.read(&mut part).expect("a request");
        assert!(read > 0, "it ended early: {text}");
        bytes.extend_from_slice(&part[..read]);
    }
}

fn run(sample: &Sample) -> String {
    let mut command = match sample.language {
        "sh" => Command::new("sh"),
        "js" => {
            let mut command = Command::new("node");
            command.arg("--input-type=module");
            command
        }
        _ => Command::new("python3"),
    };
    for name in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", sample.name));
    let mut input = child.stdin.take().expect("a pipe");
    input
        .write_all(sample.code.as_bytes())
        .expect("the sample is taken");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{}: {}\n{}",
        sample.name,
        sample.code,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn asked_by_each(page: &str) -> Vec<Asked> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let mut troubles = Vec::new();
    let source = |inside: &str, text: String| Source {
        inside: inside.to_owned(),
        file: inside.to_owned(),
        text,
    };
    let site = Site::of(vec![source("a.md", page.to_owned())], &mut troubles).expect("a site");
    let bodies = site.render(&mut troubles);
    assert_eq!(troubles, []);
    let samples = samples::of_page(&site.pages[0], &bodies[0], &url);
    assert_eq!(samples.len(), 3);
    samples
        .into_iter()
        .map(|sample| {
            let running = thread::spawn(move || run(&sample));
            let asked = once(&listener);
            let said = running.join().expect("the sample ran");
            assert!(said.contains("ok"), "{said}");
            asked
        })
        .collect()
}

#[test]
fn a_call_with_a_body_is_the_same_in_each_language() {
    let body = json!({
        "name": "it's \"quoted\" \\ $HOME `x` ü \n line",
        "deep": {"list": [1, 2.5, null, true, {"a": []}], "empty": {}},
    });
    let page = format!(
        "---\ntitle: A\ntype: PUT\nurl_path: '/v1/things/{{id}}'\n---\n### Request\n\n```http\nAuthorization: Bearer it's\n```\n\n\
         ```json\n{body:#}\n```\n\n### Response\n\n```json\n{{\"ok\": true}}\n```\n"
    );
    for asked in asked_by_each(&page) {
        assert_eq!(asked.line, "PUT /v1/things/ID HTTP/1.1");
        assert_eq!(asked.headers["authorization"], "Bearer it's");
        assert_eq!(asked.headers["content-type"], "application/json");
        let sent: Value =
            serde_json::from_str(&asked.body).unwrap_or_else(|error| panic!("{error}: {}", asked.body));
        assert_eq!(sent, body);
    }
}

#[test]
fn a_call_with_a_query_is_the_same_in_each_language() {
    let page = "---\ntitle: A\ntype: GET\nurl_path: '/v1/things'\n---\n### Request\n\n\
                ```http\nGET /v1/things?limit=2&q=a%20b\nAccept: application/json\n```\n";
    for asked in asked_by_each(page) {
        assert_eq!(asked.line, "GET /v1/things?limit=2&q=a%20b HTTP/1.1");
        assert_eq!(asked.headers["accept"], "application/json");
        assert_eq!(asked.body, "");
    }
}

#[test]
fn a_call_that_removes_has_its_method() {
    let page = "---\ntitle: A\ntype: DELETE\nurl_path: '/v1/things/:id'\n---\n";
    for asked in asked_by_each(page) {
        assert_eq!(asked.line, "DELETE /v1/things/ID HTTP/1.1");
    }
}
