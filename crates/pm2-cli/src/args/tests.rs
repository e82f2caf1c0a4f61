//! How words are read.

use std::ffi::OsString;

use super::*;

fn read(line: &[&str]) -> Parsed {
    let words: Vec<OsString> = line.iter().map(OsString::from).collect();
    parse(&PM2, &words)
}

fn run(line: &[&str]) -> Invocation {
    match read(line) {
        Parsed::Run(invocation) => invocation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_stand_before_or_after_the_command() {
    for line in [
        ["-n", "x", "start", "a.js"],
        ["start", "a.js", "--name", "x"],
        ["start", "-n", "x", "a.js"],
    ] {
        let invocation = run(&line);
        assert_eq!(invocation.command, "start");
        assert_eq!(invocation.operands, ["a.js"]);
        assert_eq!(invocation.options.text("name"), Some("x"));
    }
}

#[test]
fn words_after_two_dashes_belong_to_the_app() {
    let invocation = run(&["start", "a.js", "--", "-n", "y"]);
    assert_eq!(
        invocation.app_args.as_deref(),
        Some(&["-n".to_owned(), "y".to_owned()][..])
    );
    assert!(!invocation.options.has("name"));
}

#[test]
fn an_optional_value_is_not_taken_from_an_option() {
    let invocation = run(&["start", "a.js", "--max-restarts", "-f"]);
    assert!(invocation.options.has("max-restarts") && invocation.options.has("force"));
    assert_eq!(invocation.options.text("max-restarts"), None);
}

#[test]
fn a_cluster_is_several_options_and_an_equals_sign_two_words() {
    let invocation = run(&["restart", "-fa", "--name=x", "app"]);
    assert!(invocation.options.has("force") && invocation.options.has("update-env"));
    assert_eq!(invocation.options.text("name"), Some("x"));
    assert_eq!(
        run(&["start", "a.js", "--node-args", "--inspect=1"])
            .options
            .text("node-args"),
        Some("--inspect=1")
    );
}

#[test]
fn options_of_a_command_are_unknown_elsewhere() {
    assert_eq!(run(&["logs", "--raw", "app"]).operands, ["app"]);
    assert_eq!(
        read(&["stop", "--raw", "app"]),
        Parsed::Wrong("\n  error: unknown option `--raw'\n\n".to_owned())
    );
}

#[test]
fn what_is_missing_is_said() {
    assert_eq!(
        read(&["stop"]),
        Parsed::Wrong(
            "\n  error: missing required argument `id|name|namespace|all|json|stdin'\n\n".to_owned()
        )
    );
    assert_eq!(
        read(&["start", "-n"]),
        Parsed::Wrong("\n  error: option `-n --name <name>' argument missing\n\n".to_owned())
    );
    assert_eq!(read(&["foo"]), Parsed::UnknownCommand("foo".to_owned()));
    assert!(matches!(read(&[]), Parsed::Nothing(_)));
    assert_eq!(read(&["start", "-v"]), Parsed::Version);
}

#[test]
fn an_alias_means_its_command() {
    assert_eq!(run(&["del", "x"]).command, "delete");
    assert_eq!(run(&["log"]).command, "logs");
    assert_eq!(run(&["ls"]).command, "list");
}

#[test]
fn the_help_lists_every_command() {
    let Parsed::Help(text) = read(&["-h"]) else {
        panic!("no help")
    };
    assert!(COMMANDS.iter().all(|command| text.contains(command.name())));
    let Parsed::Help(text) = read(&["stop", "--help"]) else {
        panic!("no help")
    };
    assert!(text.starts_with("\n  Usage: stop [options] <id|name|namespace|all|json|stdin...>\n\n"));
}
