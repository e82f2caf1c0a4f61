//! Tokens × places × verbs, through the command line: each token is a host of its own.

use std::os::unix::fs::PermissionsExt as _;

use upkeep_testkit::Home;

use crate::rights::{holds, set_up};

#[test]
fn every_token_with_every_verb_of_the_command_line() {
    let (there, tokens) = set_up();
    let url = there.ok(["web", "--listen", "127.0.0.1:0"]);
    let here = Home::new();
    let mut looked = 0;
    for (role, secret) in &tokens {
        let file = here.write(&format!("{role}.token"), secret);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        let file = file.display().to_string();
        // `all` would be everything.
        let host = format!("as-{role}");
        here.ok(["host", "add", &host, "--url", url.trim(), "--token-file", &file]);
        for path in ["/shop/prod/db", "/shop/test/db", "/blog/db"] {
            let verbs: &[(&str, &[&str])] = &[
                ("config:read", &["get", path]),
                ("config:read", &["ls", path]),
                ("config:write", &["set", path, "other", "--dry-run"]),
                ("config:write", &["rm", path, "--dry-run"]),
                ("config:write", &["rollback", path, "1", "--dry-run"]),
                ("config:history", &["history", path]),
                ("config:history", &["diff", path, "0"]),
                ("config:grant", &["recipients", path, "--none", "--dry-run"]),
                (
                    "config:grant",
                    &["protect", path, "--approvals", "1", "--dry-run"],
                ),
                ("config:grant", &["schema", "rm", path, "--dry-run"]),
                ("config:grant", &["history", path, "--keep", "9", "--dry-run"]),
            ];
            for (verb, args) in verbs {
                let output = here.cmd(["--host", &host, "config"].iter().chain(*args));
                let code = if holds(role, verb, path) { 0 } else { 5 };
                assert_eq!(output.code, code, "{role} {args:?}: {output:?}");
                looked += 1;
            }
        }
    }
    assert_eq!(looked, tokens.len() * 3 * 11);
    for path in ["/shop/prod/db", "/shop/test/db", "/blog/db"] {
        assert_eq!(there.ok(["config", "get", path]), "before\n");
    }
}
