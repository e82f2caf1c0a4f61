//! The keeper is tested by killing things.
//!
//! This program plays every part. Called by the test runner it is a test: it starts itself as `keeper`, which starts
//! it as `puppet`: a daemon without a mind, which hands its link to the test and does nothing until it is killed or
//! told to exit. So a test reads as what a daemon does, message by message, and ends it wherever it likes.

#![expect(clippy::print_stderr, reason = "the runner shows it for a test that failed")]

mod detach;
mod exits;
mod kill;
mod limits;
mod resources;
mod strays;
mod upgrade;
mod world;

use std::{io::Write, process::ExitCode};

/// A test by name.
type Test = (&'static str, fn());

fn tests() -> Vec<Test> {
    [
        detach::TESTS,
        exits::TESTS,
        kill::TESTS,
        limits::TESTS,
        resources::TESTS,
        strays::TESTS,
        upgrade::TESTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["keeper", rest @ ..] => world::keeper::main(rest),
        ["detach", folder] => detach::main(folder),
        ["puppet", ..] => world::puppet::main(),
        _ => as_test_runner(&words),
    }
}

/// What libtest's command line means to nextest and to `cargo test`.
fn as_test_runner(words: &[&str]) -> ExitCode {
    let mut out = std::io::stdout().lock();
    if words.contains(&"--list") {
        if !words.contains(&"--ignored") {
            for (name, _) in tests() {
                writeln!(out, "{name}: test").expect("the runner reads the list");
            }
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&&str> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let exact = words.contains(&"--exact");
    for (name, test) in tests() {
        let chosen = wanted.is_empty()
            || wanted.iter().any(|word| {
                if exact {
                    **word == name
                } else {
                    name.contains(**word)
                }
            });
        if chosen {
            test();
            writeln!(out, "test {name} ... ok").expect("the runner reads the result");
        }
    }
    ExitCode::SUCCESS
}
