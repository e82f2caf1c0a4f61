//! Files that are made from the code: never edited, and checked in CI to be fresh.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};

use upkeep_docs::{api::document::Document, import, trouble::Trouble};

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
    let pages = reference(mode)?;
    stale.extend(pages.iter().map(String::as_str));
    if !stale.is_empty() {
        bail!(
            "not as the code has it: {}; run `cargo xtask generate`",
            stale.join(", ")
        );
    }
    Ok(())
}

/// The pages of `docs/reference/api` that nobody has changed by hand, made anew from the document; those that are stale.
fn reference(mode: Mode) -> anyhow::Result<Vec<String>> {
    let place = shell::root().join("docs/reference");
    let told = |troubles: Vec<Trouble>| {
        let lines: Vec<_> = troubles.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    };
    let document = Document::read(&place.join("openapi.json")).map_err(|trouble| told(vec![trouble]))?;
    let imported = import::import(&document, &place.join("api"), mode == Mode::Check).map_err(told)?;
    let name = |path: &PathBuf| {
        path.strip_prefix(shell::root())
            .unwrap_or(path)
            .display()
            .to_string()
    };
    if mode == Mode::Write {
        for path in &imported.written {
            println!("{} written", name(path));
        }
        return Ok(Vec::new());
    }
    Ok(imported.written.iter().map(name).collect())
}

/// Every verb with its help, as the binary itself prints it.
fn cli() -> anyhow::Result<String> {
    // The same build as that of the tests: with the features of one package alone, all would be built twice.
    shell::run(shell::cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    let mut command = std::process::Command::new(shell::target_dir().join("debug/upkeep"));
    command.arg("help-all").env("NO_COLOR", "1").env("COLUMNS", "100");
    shell::read(&mut command)
}
