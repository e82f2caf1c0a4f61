//! Secrets: sealed where they are kept, masked where they are shown.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::json;
use upkeep_e2e::{Http, ended, kill_daemon, says};
use upkeep_testkit::Home;

use crate::{ask, token};

/// Words that are in no file unless we write them there.
const SECRET: &str = "s3cr3t-7Qx-needle";
const SECOND: &str = "s3cr3t-9Zy-needle";

/// Every file below a directory that holds one of the words, in clear, or as base64 or hexadecimal digits would have it.
pub(crate) fn holders(directory: &Path, words: &[&str]) -> (usize, Vec<String>) {
    let mut forms: Vec<Vec<u8>> = Vec::new();
    for word in words {
        forms.push(word.as_bytes().to_vec());
        forms.push(
            word.bytes()
                .flat_map(|byte| format!("{byte:02x}").into_bytes())
                .collect(),
        );
        // Three beginnings of a base64 text; what is at the edges is left out.
        for skip in 0..3 {
            let inner = &word.as_bytes()[(3 - skip) % 3..];
            forms.push(base64(&inner[..inner.len() / 3 * 3]));
        }
    }
    let (mut looked, mut found) = (0, Vec::new());
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a directory").flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap_or_default();
                looked += 1;
                for form in &forms {
                    if bytes.windows(form.len()).any(|window| window == form) {
                        found.push(format!("{}: {}", path.display(), String::from_utf8_lossy(form)));
                    }
                }
            }
        }
    }
    (looked, found)
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks_exact(3)
        .flat_map(|three| {
            let all = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
            [18, 12, 6, 0].map(|shift| LETTERS[(all >> shift & 63) as usize])
        })
        .collect()
}

#[test]
fn the_search_finds_what_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(base64(b"abc"), b"YWJj");
    std::fs::write(directory.path().join("clear"), format!("x{SECRET}y")).expect("written");
    let coded = base64(format!("password={SECRET}..").as_bytes());
    std::fs::write(directory.path().join("coded"), coded).expect("written");
    let (looked, found) = holders(directory.path(), &[SECRET]);
    assert_eq!((looked, found.len()), (2, 2), "{found:?}");
}

#[test]
fn a_secret_is_in_no_file_and_no_answer_but_its_own() {
    let home = crate::home();
    let refused = home.cmd(["config", "set", "/shop/password", SECRET, "--secret"]);
    ended(&refused, 2);
    says(&refused.stderr, &["standard input", "--secret"]);
    assert!(!refused.stderr.contains(SECRET));
    let set = |value: &str, reason: &str| {
        let args = [
            "config",
            "set",
            "/shop/password",
            "-",
            "--secret",
            "--reason",
            reason,
        ];
        let output = home.cmd_with_input(args, value.as_bytes());
        assert_eq!(output.code, 0, "{output:?}");
        output
    };
    let first = set(SECRET, "first");
    home.write("key.pem", SECOND);
    home.ok(["config", "set", "/shop/key", "--file", "key.pem", "--secret"]);
    std::fs::remove_file(home.work().join("key.pem")).expect("it is there");
    let second = set(SECOND, "second");
    // It stays one, also if that is not said again.
    home.cmd_with_input(["config", "set", "/shop/password", "-"], SECRET.as_bytes());
    home.ok(["config", "recipients", "/shop/", "--reseal", "--anew"]);
    let history = home.json(["config", "history"]);
    let oldest = history["changes"]
        .as_array()
        .and_then(|all| all.last())
        .expect("changes");
    let oldest = oldest["revision"].to_string();

    let mut outputs = vec![first.stdout, first.stderr, second.stdout, second.stderr];
    for args in [
        vec!["config", "ls"],
        vec!["config", "ls", "--json"],
        vec!["config", "tree"],
        vec!["config", "history"],
        vec!["config", "history", "--json"],
        vec!["config", "diff", "/", "0"],
        vec!["config", "diff", "/", &oldest, "--json"],
        vec!["config", "rollback", "/", &oldest, "--dry-run"],
        vec!["config", "get", "/shop/password"],
        vec!["config", "get", "/shop/password", "--json"],
        vec!["config", "rm", "/shop/", "--dry-run"],
        vec!["config", "recipients", "--json"],
        vec!["config", "status", "--json"],
        vec!["events", "-n", "1000", "--json"],
        vec!["audit", "-n", "1000", "--json"],
    ] {
        let output = home.cmd(&args);
        outputs.push(output.stdout);
        outputs.push(output.stderr);
    }
    for output in &outputs {
        assert!(!output.contains(SECRET) && !output.contains(SECOND), "{output}");
    }
    ended(&home.cmd(["config", "get", "/shop/password"]), 4);
    // A wrong kind says nothing of it, nor does a body that cannot be read.
    let wrong = home.cmd_with_input(
        ["config", "set", "/shop/password", "-", "--kind", "json"],
        SECRET.as_bytes(),
    );
    assert!(wrong.code == 4 && !wrong.stderr.contains(SECRET), "{wrong:?}");

    // In clear to whoever asks for that and may, and kept by nobody on the way.
    assert_eq!(
        home.ok(["config", "get", "/shop/password", "--reveal"]),
        format!("{SECRET}\n")
    );
    let answer = Http::ask(&home, "GET", "/v1/config/values/shop/password?reveal=true", b"");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.json()["text"], SECRET);
    // Put back as it was sealed then.
    home.ok(["config", "rollback", "/shop/password", &oldest]);
    assert_eq!(
        home.ok(["config", "get", "/shop/password", "--reveal"]),
        format!("{SECRET}\n")
    );

    // A daemon that was killed leaves nothing else on the disk than one that runs.
    for round in 0..2 {
        let (looked, found) = holders(&home.path(), &[SECRET, SECOND]);
        assert!(looked > 5, "{looked} files");
        assert!(found.is_empty(), "round {round}: {found:?}");
        kill_daemon(home.keeper_pid());
        home.daemon_pid();
    }
    let key = home.path().join("config.key");
    let mode = std::fs::metadata(&key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(home.ok(["config", "get", "/shop/key", "--reveal"]), SECOND);
}

#[test]
fn who_is_named_opens_a_secret_and_others_do_not() {
    let (web, other) = (crate::home(), crate::home());
    let machine = |home: &Home| {
        let status = home.json(["config", "status"]);
        let (name, key) = (&status["machine"]["name"], &status["machine"]["key"]);
        format!(
            "{}={}",
            name.as_str().expect("a name"),
            key.as_str().expect("a key")
        )
    };
    let theirs = machine(&other);
    let ours = machine(&web);
    web.ok([
        "config",
        "recipients",
        "/theirs/",
        "--to",
        &theirs,
        "--reason",
        "for them",
    ]);
    let set = |path: &str| {
        let output = web.cmd_with_input(["config", "set", path, "-", "--secret"], SECRET.as_bytes());
        assert_eq!(output.code, 0, "{output:?}");
    };
    set("/theirs/key");
    set("/ours/key");
    let refused = web.cmd(["config", "get", "/theirs/key", "--reveal"]);
    ended(&refused, 6);
    says(&refused.stderr, &["sealed for machine:"]);
    assert_eq!(
        web.ok(["config", "get", "/ours/key", "--reveal"]),
        format!("{SECRET}\n")
    );
    // Both of them, from now on; what is there as well.
    web.ok(["config", "recipients", "/ours/", "--to", &theirs, "--to", &ours]);
    let dry = web.ok(["config", "recipients", "/ours/", "--reseal", "--dry-run"]);
    says(&dry, &["would change: sealed: /ours/key"]);
    web.ok(["config", "recipients", "/ours/", "--reseal"]);
    let entry = web.json(["config", "get", "/ours/key"]);
    assert_eq!(entry["recipients"].as_array().map(Vec::len), Some(2), "{entry}");
    assert_eq!(
        web.ok(["config", "get", "/ours/key", "--reveal"]),
        format!("{SECRET}\n")
    );
    // A key that is none, and whom it is not for.
    let bad = web.cmd([
        "config",
        "recipients",
        "/x/",
        "--to",
        &format!("machine:x={}", "z".repeat(64)),
    ]);
    ended(&bad, 4);
    let (role, verbs) = ("writer", ["--verb", "config:write", "--verb", "config:read"]);
    web.ok(["role", "set", role].iter().chain(&verbs).chain(&["--path", "/"]));
    let writer = token(&web, role, &["--role", role]);
    let body = json!({"place": "/ours/", "recipients": []});
    assert_eq!(ask(&web, &writer, "PUT", "/v1/config/rules", &body).status, 403);
    let body = json!({"place": "/ours/"});
    assert_eq!(ask(&web, &writer, "POST", "/v1/config/reseal", &body).status, 403);
}
