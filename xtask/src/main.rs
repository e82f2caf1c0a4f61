//! What CI and a developer type: `cargo xtask VERB`.
//!
//! A verb is a module; each one runs the ordinary tools (cargo, nextest, npm, …) and says what it runs.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for people: printing is what it does"
)]

mod bench;
mod check;
mod fences;
mod generate;
mod pictures;
mod quickstart;
mod shell;
mod size;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask VERB

  check                 all that CI looks at: format, lints, fences, generated files, tests
  test [ARGS…]          what tests need, then all tests; ARGS go to `cargo nextest run`
  fences                the arrows between crates, where tokio and `unsafe` may be
  generate [--check]    docs/reference from the code; --check only compares
  quickstart            build, start examples/quickstart, show it
  pictures              docs/pictures from a real terminal and browser (takes four minutes; needs tmux)
  size                  build the static release binary and weigh it
  bench supervise [--quick] [--only PEER,…] [--rows ROW,…] [--json FILE]
  bench logs [--quick] [--only PEER,…] [--rows ROW,…] [--json FILE]
  bench metrics [--quick]
  bench api [--quick]
  bench pm2 [--quick]
  bench cluster [--quick] [--upkeep PROGRAM]
                        upkeep beside pm2, supervisord, s6 and runit, in one run
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["check"] => check::check(),
        ["test", rest @ ..] => check::test(rest),
        ["fences"] => fences::run(),
        ["generate"] => generate::run(generate::Mode::Write),
        ["generate", "--check"] => generate::run(generate::Mode::Check),
        ["quickstart"] => quickstart::run(),
        ["pictures"] => pictures::run(),
        ["size"] => size::run(),
        ["bench", "supervise", rest @ ..] => bench::run(rest),
        ["bench", "logs", rest @ ..] => bench::logs::run(rest),
        ["bench", "metrics", rest @ ..] => bench::metrics::run(rest),
        ["bench", "api", rest @ ..] => bench::api::run(rest),
        ["bench", "pm2", rest @ ..] => bench::pm2::run(rest),
        ["bench", "cluster", rest @ ..] => bench::cluster::run(rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
