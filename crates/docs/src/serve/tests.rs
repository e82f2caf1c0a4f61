use std::{
    fs,
    io::{BufRead as _, BufReader},
};

use upkeep_testkit::wait_until;

use super::*;

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
    )
}

fn serving(folder: &Path) -> SocketAddr {
    let server = Server::start(folder, 0).expect("a server");
    let address = server.address();
    thread::spawn(move || server.watch(&mut |_| {}));
    wait_until("the page", Duration::from_secs(20), || {
        let answer = get(address, "/");
        if answer.contains("<title>") {
            Ok(())
        } else {
            Err(answer)
        }
    });
    address
}

#[test]
fn the_page_is_served_and_made_anew_and_browsers_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("a.md"), "---\ntitle: Before\n---\n").expect("a page");
    let address = serving(dir.path());
    let answer = get(address, "/");
    assert!(answer.contains("Before") && answer.contains("/_live"), "{answer}");
    assert!(
        answer.contains("Content-Security-Policy: default-src 'none'"),
        "{answer}"
    );

    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a limit");
    write!(stream, "GET /_live HTTP/1.1\r\nHost: localhost:1\r\n\r\n").expect("asked");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    let mut next = || {
        lines
            .by_ref()
            .find(|line| line.starts_with("data: "))
            .expect("a version")
    };
    let first = next();
    fs::write(dir.path().join("a.md"), "---\ntitle: After\n---\n").expect("a page");
    assert_ne!(next(), first);
    assert!(get(address, "/index.html?x").contains("After"));
    fs::write(dir.path().join("a.md"), "---\ntitle: [\n---\n").expect("a page");
    next();
    let broken = get(address, "/");
    assert!(
        broken.contains("a.md:") && broken.contains("front matter"),
        "{broken}"
    );
}

#[test]
fn no_path_leads_out_and_no_other_name_is_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("a.md"), "---\ntitle: A\n---\n").expect("a page");
    fs::write(dir.path().join("secret"), "hidden").expect("a file");
    let address = serving(dir.path());
    for path in [
        "/secret",
        "/a.md",
        "/../secret",
        "/%2e%2e/secret",
        "//etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/_live/../secret",
        "http://x/secret",
        "",
    ] {
        let answer = get(address, path);
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(
            !answer.contains("hidden") && !answer.contains("root:"),
            "{path}: {answer}"
        );
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil:80", ""] {
        let answer = ask(address, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
    }
    let answer = ask(address, &format!("POST / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
    let answer = ask(address, &format!("HEAD / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("<title>"),
        "{answer}"
    );
}
