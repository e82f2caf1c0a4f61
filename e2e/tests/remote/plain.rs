//! On loopback: on, off, with a token, and by which names and pages.

use std::net::TcpStream;

use upkeep_e2e::{LONG, app, apply, ended, events, kill_daemon, says, tagged, wait_running};
use upkeep_testkit::{Home, wait_until};

use crate::{address, ask, listening, plain, set, token};

#[test]
fn nobody_listens_until_it_is_asked_for() {
    let home = Home::new();
    home.ok(["ls"]);
    assert!(home.json(["ping"])["listeners"].is_null());
    let url = home.ok(["web", "--listen", "127.0.0.1:0"]);
    let at = address(url.trim());
    // Open to all, and nothing else of it.
    let health = ask(at, "GET /healthz", &[], "");
    assert_eq!((health.status, health.body.as_slice()), (200, &b"ok\n"[..]));
    for path in [
        "/v1/apps",
        "/v1/whoami",
        "/v1/daemon",
        "/metrics",
        "/readyz",
        "/v1/nothing",
    ] {
        let answer = ask(at, &format!("GET {path}"), &[], "");
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
        assert_eq!(answer.json()["code"], "unauthenticated");
        says(
            &answer.head,
            &["www-authenticate: bearer", "x-content-type-options: nosniff"],
        );
    }
    let bearer = format!("Bearer {}", token(&home, "viewer"));
    let who = ask(at, "GET /v1/whoami", &[("Authorization", &bearer)], "");
    assert_eq!(who.status, 200, "{who:?}");
    assert_eq!(who.json()["roles"][0], "viewer");
    says(
        &who.head,
        &[
            "cache-control: no-store",
            "content-security-policy: default-src 'none'",
        ],
    );
    assert!(!who.head.contains("set-cookie"), "{}", who.head);
    let stop = ask(
        at,
        "POST /v1/daemon/shutdown",
        &[("Authorization", &bearer)],
        "{}",
    );
    assert_eq!(stop.status, 403, "{stop:?}");
    // Also after the daemon was killed, and not after it was switched off.
    kill_daemon(home.keeper_pid());
    let again = address(&listening(&home, "api"));
    let who = ask(again, "GET /v1/whoami", &[("Authorization", &bearer)], "");
    assert_eq!(who.status, 200, "{who:?}");
    let mut open = crate::Raw::connect(again);
    home.ok(["web", "--off"]);
    wait_until("nobody to listen", LONG, || match TcpStream::connect(again) {
        Err(_) => Ok(()),
        Ok(_) => Err("somebody listens".to_owned()),
    });
    assert_eq!(open.rest(), "", "connections end with their listener");
    assert!(home.json(["ping"])["listeners"].is_null());
    let settings = events(&home)
        .into_iter()
        .filter(|event| event["what"] == "settings");
    assert_eq!(settings.count(), 2, "each change leaves an event");
}

#[test]
fn what_would_be_open_to_all_is_refused() {
    let home = Home::new();
    for (text, why) in [
        (
            "web: {listen: ['0.0.0.0:9616'], tls: false}",
            "tokens are not sent in the open",
        ),
        (
            "web: {pm2_health: '0.0.0.0:9615', tls: false}",
            "tokens are not sent in the open",
        ),
        (
            "web: {listen: ['localhost:9616']}",
            "is not an address with a port",
        ),
        ("web: {origins: ['*']}", "is not where a page comes from"),
        ("web: {names: ['https://a']}", "is not a name such as"),
        ("web: {cert_file: a.pem}", "go together"),
        ("web: {listen: ['127.0.0.1:1', '127.0.0.1:1']}", "is there twice"),
    ] {
        let file = home.write("wrong.yaml", text);
        let refused = home.cmd(["settings", "check", &file.display().to_string()]);
        ended(&refused, 4);
        says(&refused.stderr, &[why]);
    }
    // A file that holds no certificate.
    let file = home.write(
        "files.yaml",
        "web: {listen: ['127.0.0.1:0'], tls: true, cert_file: a.pem, key_file: a.key}",
    );
    home.write("a.pem", "nothing");
    let key = home.write("a.key", "nothing");
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our own");
    let refused = home.cmd(["settings", "set", &file.display().to_string()]);
    ended(&refused, 4);
    says(&refused.stderr, &["there is no certificate in", "a.pem"]);
}

#[test]
fn an_address_that_is_taken_is_told_and_tried_again() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("its address");
    let output = home.cmd(["web", "--listen", &at.to_string()]);
    ended(&output, 1);
    says(&output.stderr, &["failed to listen on", "Address already in use"]);
    drop(taken);
    assert_eq!(address(&listening(&home, "api")), at);
}

#[test]
fn other_names_and_pages_of_other_places_are_refused() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    wait_running(&home, "shop", 1);
    let before = tagged(&home, "shop");
    set(
        &home,
        "web: {listen: ['127.0.0.1:0'], names: [web1.example.org], origins: ['https://panel.example.org']}",
    );
    let at = address(&listening(&home, "api"));
    let bearer = format!("Bearer {}", token(&home, "operator"));
    let auth = ("Authorization", bearer.as_str());
    // A name that was led to our address (DNS rebinding), even with a token.
    for host in [
        "evil.example",
        "evil.example:9616",
        "192.0.2.1",
        "localhost.evil.example",
        "",
    ] {
        let answer = ask(at, "GET /v1/apps", &[auth, ("Host", host)], "");
        assert_eq!(answer.status, 403, "{host}: {answer:?}");
    }
    for host in [
        "web1.example.org",
        "WEB1.example.org:9616",
        "localhost",
        "127.0.0.1",
        "[::1]:9616",
    ] {
        let answer = ask(at, "GET /v1/apps", &[auth, ("Host", host)], "");
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
    }
    let other = ask(at, "GET http://evil.example/v1/apps", &[auth], "");
    assert_eq!(other.status, 400, "{other:?}");
    // A form of another page: refused although its browser would even send the token.
    for page in [
        "https://evil.example",
        "null",
        "http://panel.example.org",
        "https://panel.example.org:444",
    ] {
        let form = [
            auth,
            ("Origin", page),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let answer = ask(at, "POST /v1/apps/shop/stop", &form, "a=b");
        assert_eq!(answer.status, 403, "{page}: {answer:?}");
        assert!(
            !answer.head.contains("access-control-allow-origin"),
            "{}",
            answer.head
        );
        // Not even asked what it may do.
        let asked = [("Origin", page), ("Access-Control-Request-Method", "POST")];
        let answer = ask(at, "OPTIONS /v1/apps/shop/stop", &asked, "");
        assert_eq!(answer.status, 403, "{page}: {answer:?}");
    }
    assert_eq!(tagged(&home, "shop"), before, "nothing was stopped");
    // A page that is listed, and our own.
    let own = format!("http://{at}");
    for page in ["https://panel.example.org", own.as_str()] {
        let asked = [
            ("Origin", page),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization"),
            ("Access-Control-Request-Private-Network", "true"),
        ];
        let answer = ask(at, "OPTIONS /v1/apps/shop/restart", &asked, "");
        assert_eq!(answer.status, 204, "{page}: {answer:?}");
        let allowed = format!("access-control-allow-origin: {page}");
        says(
            &answer.head,
            &[
                &allowed,
                "authorization",
                "post",
                "vary: origin",
                "private-network: true",
            ],
        );
        assert!(!answer.head.contains("allow-credentials"), "{}", answer.head);
        let answer = ask(at, "GET /v1/apps", &[auth, ("Origin", page)], "");
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
        says(&answer.head, &[&allowed]);
        let unknown = ask(at, "GET /v1/apps", &[("Origin", page)], "");
        assert_eq!(unknown.status, 401, "a page is nobody: {unknown:?}");
    }
}

#[test]
fn settings_change_who_may_ask_without_a_gap() {
    let home = Home::new();
    let at = plain(&home);
    let page = [("Origin", "https://panel.example.org")];
    assert_eq!(ask(at, "GET /healthz", &page, "").status, 403);
    // The same address, so the same listener.
    set(
        &home,
        "web: {listen: ['127.0.0.1:0'], origins: ['https://panel.example.org']}",
    );
    assert_eq!(ask(at, "GET /healthz", &page, "").status, 200);
    assert_eq!(address(&listening(&home, "api")), at);
}
