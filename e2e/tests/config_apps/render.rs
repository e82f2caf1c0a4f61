//! `config render`: the same for programs that are not ours.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::json;
use upkeep_e2e::{Http, LONG, ended, kill_daemon, says};
use upkeep_testkit::{Following, Home, Signal, kill, wait_until};

use crate::{set, set_secret};

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

#[track_caller]
fn wait_text(path: &Path, wanted: &str) {
    wait_until(&format!("{} to be {wanted:?}", path.display()), LONG, || {
        let now = text(path);
        if now == wanted { Ok(()) } else { Err(now) }
    });
}

/// The revision of the store, as a line tells it.
fn told(home: &Home) -> String {
    let list = home.json(["config", "ls", "/shop/"]);
    format!("revision {}", list["revision"])
}

#[test]
fn once_with_every_code() {
    let home = Home::new();
    let out = home.work().join("out.conf");
    let to = out.display().to_string();
    let template = home.write("t.j2", "n={{ n }}\npassword={{ password }}\n");
    let template = template.display().to_string();
    set(&home, &[("/shop/n", "1"), ("/over/n", "2")]);
    let render = |more: &[&str]| {
        let mut args = vec!["config", "render", &template, "--place", "/shop/"];
        args.extend(more);
        home.cmd(args)
    };
    let missing = render(&["--to", &to]);
    ended(&missing, 4);
    says(&missing.stderr, &["t.j2:2", "`/shop/password`"]);
    assert!(!out.exists(), "never half, never blank");
    set_secret(&home, "/shop/password", "needle");
    let shown = render(&["--to", &to, "--dry-run"]);
    ended(&shown, 0);
    says(&shown.stdout, &["+n=1", "+password=••••••"]);
    assert!(!shown.stdout.contains("needle") && !out.exists(), "{shown:?}");
    ended(&render(&["--to", &to]), 0);
    assert_eq!(text(&out), "n=1\npassword=needle\n");
    let mode = || std::fs::metadata(&out).expect("a file").permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o600);
    ended(&render(&["--to", &to, "--mode", "0644", "--place", "/over/"]), 0);
    assert_eq!((text(&out).as_str(), mode()), ("n=2\npassword=needle\n", 0o644));
    let shown = render(&["--to", &to, "--dry-run"]);
    says(&shown.stdout, &["+n=1"]);
    assert!(!shown.stdout.contains("needle"), "{shown:?}");
    // To standard output, from standard input.
    let printed = home.cmd_with_input(["config", "render", "-", "--place", "/shop/"], b"n is {{ n }}\n");
    assert_eq!((printed.code, printed.stdout.as_str()), (0, "n is 1\n"));

    // A check that refuses, an action that fails, and health that does not come: the old file is there again.
    let refused = render(&["--to", &to, "--check", "echo not-this >&2; grep -q n=3 {}"]);
    ended(&refused, 4);
    says(&refused.stderr, &["check refused", "not-this"]);
    for more in [["--run", "false"], ["--health", "false"]] {
        let mut args = vec!["--to", &to, "--health-within", "1s", "--health", "true"];
        if more[0] == "--health" {
            args.truncate(4);
        }
        args.extend(more);
        let failed = render(&args);
        ended(&failed, 4);
        says(&failed.stderr, &["as it was before"]);
        assert_eq!(text(&out), "n=2\npassword=needle\n");
    }
    let ran = home.work().join("ran");
    ended(&render(&["--to", &to, "--run", "echo ran >> ran"]), 0);
    ended(&render(&["--to", &to, "--run", "echo ran >> ran"]), 0);
    assert_eq!(text(&ran), "ran\n", "the same file again is no change");
    ended(&home.cmd(["config", "render", "none.j2"]), 3);
    ended(&render(&["--mode", "0644"]), 2);
}

/// It follows changes over a daemon that is killed, misses none, and ends in peace.
#[test]
fn watching_is_never_silently_dead() {
    let home = Home::new();
    set(&home, &[("/shop/n", "1")]);
    let out = home.work().join("out.conf");
    let template = home.write(
        "t.j2",
        "n={{ n }}{% if broken is defined %}{{ gone }}{% endif %}\n",
    );
    let follow = || {
        home.follow([
            "config",
            "render",
            &template.display().to_string(),
            "--place",
            "/shop/",
            "--to",
            &out.display().to_string(),
            "--run",
            "echo ran >> ran",
            "--watch",
            "--debounce",
            "50ms/500ms",
        ])
    };
    let mut following: Following = follow();
    wait_text(&out, "n=1\n");
    // confd#629: two quick changes.
    set(&home, &[("/shop/n", "2"), ("/shop/n", "3")]);
    wait_text(&out, "n=3\n");
    kill_daemon(home.keeper_pid());
    home.daemon_pid();
    set(&home, &[("/shop/n", "4")]);
    wait_text(&out, "n=4\n");
    // consul-template#1814: with one key missing nothing is run, however often others change.
    // The action comes after the file.
    let ran = home.work().join("ran");
    let written = |following: &Following| following.line_with("written, of revision", LONG);
    while !written(&following).contains(&told(&home)) {}
    let before = text(&ran);
    set(&home, &[("/shop/broken", "1")]);
    for n in 5..9 {
        set(&home, &[("/shop/n", &n.to_string())]);
    }
    wait_until("word of what is missing", LONG, || {
        let said = following.errors().join("\n");
        if said.contains("/shop/gone") {
            Ok(())
        } else {
            Err(said)
        }
    });
    assert_eq!((text(&out).as_str(), text(&ran)), ("n=4\n", before.clone()));
    home.ok(["config", "rm", "/shop/broken"]);
    wait_text(&out, "n=8\n");
    wait_text(&ran, &format!("{before}ran\n"));
    kill(following.pid(), Signal::TERM).expect("it runs");
    assert_eq!(following.wait(LONG), 0);
}

/// confd#801, #819, #628: the watch dies with its token, and the process stays up as if all were well. With another machine's values
/// and the rights of a token.
#[test]
fn rights_that_end_are_the_end() {
    let (here, there) = (Home::new(), Home::new());
    set(&there, &[("/shop/n", "1"), ("/shop/other/n", "2")]);
    set_secret(&there, "/shop/password", "needle");
    let settings = there.write("settings.yaml", "web: {listen: ['127.0.0.1:0'], tls: false}");
    there.ok(["settings", "set", &settings.display().to_string()]);
    let url = wait_until("a listener", LONG, || {
        let view = there.json(["ping"]);
        let listeners = view["listeners"].as_array().cloned().unwrap_or_default();
        let found = listeners
            .iter()
            .find(|one| one["serves"] == "api" && one["listening"] == true);
        found
            .and_then(|one| one["url"].as_str().map(str::to_owned))
            .ok_or_else(|| view.to_string())
    });
    there.ok([
        "role",
        "set",
        "reader",
        "--verb",
        "config:read",
        "--verb",
        "config:watch",
        "--path",
        "/shop/",
    ]);
    let made = there.json(["token", "create", "reader", "--role", "reader"]);
    let file = here.write("token", made["secret"].as_str().expect("a secret"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("our own");
    let file = file.display().to_string();
    here.ok(["host", "add", "web1", "--url", &url, "--token-file", &file]);
    here.write("n.j2", "n={{ n }}");
    here.write("p.j2", "n={{ n }}\npassword={{ password }}");
    let render = |template: &str| {
        here.cmd([
            "--host", "web1", "config", "render", template, "--place", "/shop/", "--to", "out",
        ])
    };
    // A secret that it may not see is an error where it is needed, and only there.
    let sealed = render("p.j2");
    ended(&sealed, 4);
    says(&sealed.stderr, &["p.j2:2", "/shop/password", "not revealed"]);
    ended(&render("n.j2"), 0);
    let out = here.work().join("out");
    assert_eq!(text(&out), "n=1");
    let mut following = here.follow([
        "--host",
        "web1",
        "config",
        "render",
        "n.j2",
        "--place",
        "/shop/",
        "--to",
        "out",
        "--watch",
        "--debounce",
        "50ms/500ms",
    ]);
    set(&there, &[("/shop/n", "2")]);
    wait_text(&out, "n=2");
    there.ok(["token", "revoke", "reader"]);
    assert_eq!(following.wait(LONG), 5, "{:?}", following.errors());
    assert_eq!(text(&out), "n=2", "the file stays");
}

#[test]
fn several_places_are_read_as_of_one_moment() {
    let home = Home::new();
    let template = home.write("both.j2", "{{ a }} {{ b }}").display().to_string();
    let post = |number: usize| {
        let put = |path: &str| json!({"path": path, "text": number.to_string()});
        let body = json!({"puts": [put("/one/a"), put("/two/b")]});
        Http::ask(&home, "POST", "/v1/config/changes", body.to_string().as_bytes())
    };
    home.ok(["config", "ls"]);
    assert_eq!(post(0).status, 200);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !is_over.load(order) {
                written += 1;
                assert_eq!(post(written).status, 200);
            }
            written
        });
        let render = [
            "config", "render", &template, "--place", "/one/", "--place", "/two/",
        ];
        let texts: Vec<String> = (0..25).map(|_| home.cmd(render).stdout).collect();
        is_over.store(true, order);
        assert!(writer.join().expect("it writes") > 25);
        for text in texts {
            let (a, b) = text.trim_end().split_once(' ').expect("both");
            assert_eq!(a, b);
        }
    });
    // A place of one value is a slip.
    let refused = home.cmd(["config", "render", &template, "--place", "/one"]);
    ended(&refused, 2);
    says(&refused.stderr, &["`/one/`"]);
}

#[test]
fn another_template_is_rendered_while_watching() {
    let home = Home::new();
    home.ok(["config", "set", "/shop/a", "1"]);
    let template = home.write("a.j2", "a={{ a }}").display().to_string();
    let out = home.work().join("out");
    let to = out.display().to_string();
    let args = [
        "config",
        "render",
        &template,
        "--place",
        "/shop/",
        "--to",
        &to,
        "--watch",
        "--debounce",
        "10ms",
    ];
    let _watching = home.follow(args);
    wait_text(&out, "a=1");
    home.write("a.j2", "A={{ a }}");
    wait_text(&out, "A=1");
    // Written beside it and moved there, as editors do; what is wrong for a while is told and left alone.
    home.write("b.j2", "{{ none }}");
    std::fs::rename(home.work().join("b.j2"), &template).expect("moved");
    home.ok(["config", "set", "/shop/a", "2"]);
    home.write("b.j2", "b={{ a }}");
    std::fs::rename(home.work().join("b.j2"), &template).expect("moved");
    wait_text(&out, "b=2");
}
