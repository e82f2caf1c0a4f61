//! Files that are made from the code: never edited, and checked in CI to be fresh.

use std::fs;

use anyhow::{Context as _, bail};

use crate::shell;

/// Whether files are written or only compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Write,
    Check,
}

pub(crate) fn run(mode: Mode) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    let files = [
        ("docs/reference/cli.md", cli()?),
        (
            "docs/reference/upkeep.schema.json",
            upkeep_model::file::schema::json_schema(),
        ),
        (
            "docs/reference/settings.schema.json",
            upkeep_model::file::settings::json_schema(),
        ),
        (
            "docs/reference/openapi.json",
            upkeep_api::openapi::text(env!("CARGO_PKG_VERSION")),
        ),
    ];
    for (name, text) in files {
        let path = shell::root().join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if mode == Mode::Check {
            stale.push(name);
            continue;
        }
        let dir = path.parent().context("a file has a directory")?;
        fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
        fs::write(&path, text).with_context(|| format!("failed to write {name}"))?;
        println!("{name} written");
    }
    if !stale.is_empty() {
        bail!(
            "not as the code has it: {}; run `cargo xtask generate`",
            stale.join(", ")
        );
    }
    Ok(())
}

/// Every verb with its help, as the binary itself prints it.
fn cli() -> anyhow::Result<String> {
    // The same build as that of the tests: with the features of one package alone, all would be built twice.
    shell::run(shell::cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    let mut command = std::process::Command::new(shell::target_dir().join("debug/upkeep"));
    command.arg("help-all").env("NO_COLOR", "1").env("COLUMNS", "100");
    shell::read(&mut command)
}
