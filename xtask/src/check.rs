//! `check` and `test`: the same for CI and a developer.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};

use upkeep_docs::{api::document::Document, site::Site};
use upkeep_testkit::{browser, node, python};

use crate::{fences, generate, shell};

pub(crate) fn check() -> anyhow::Result<()> {
    let start = Instant::now();
    step("format", start, || {
        shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("lints", start, || {
        shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    step("fences", start, fences::run)?;
    step("dependencies", start, deny)?;
    step("generated files", start, || generate::run(generate::Mode::Check))?;
    step("reference of the API", start, reference)?;
    step("tests", start, || test(&[]))
}

/// The pages of our own reference, held to the document that is made of the route table.
fn reference() -> anyhow::Result<()> {
    let place = shell::root().join("docs/reference");
    let mut troubles = Vec::new();
    let document = Document::read(&place.join("openapi.json")).map_err(|trouble| troubles.push(trouble));
    if let (Ok(document), Some(site)) = (document, Site::read(&place.join("api"), &mut troubles)) {
        let bodies = upkeep_docs::check::links(&site, &mut troubles);
        upkeep_docs::check::api(&site, &bodies, &document, &mut troubles);
    }
    for trouble in &troubles {
        eprintln!("{trouble}");
    }
    ensure!(
        troubles.is_empty(),
        "{} places of docs/reference/api are wrong",
        troubles.len()
    );
    Ok(())
}

/// A heading with the time so far, so that a slow step is seen in a log.
fn step(name: &str, start: Instant, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    eprintln!("\n== {name} (after {:.0} s)", start.elapsed().as_secs_f64());
    work().with_context(|| name.to_owned())
}

pub(crate) fn test(args: &[&str]) -> anyhow::Result<()> {
    install_nextest()?;
    install_peers();
    // Tests start these two; nextest alone would not build them. All binaries at once, so that the crates below are
    // built with the features that the tests below get as well.
    shell::run(shell::cargo().args(["build", "--workspace", "--bins"]))?;
    shell::run(shell::cargo().args(["nextest", "run", "--workspace"]).args(args))
}

/// What tests load and compare with, from the package registries: now, because a test that has to install it first may
/// run out of its time. What cannot be had is for the tests that need it to say.
fn install_peers() {
    let nodes = node::VERSIONS.map(|version| node::node(version).map(drop));
    for outcome in nodes.into_iter().chain([
        python::servers().map(drop),
        python::json_schema().map(drop),
        python::schemathesis().map(drop),
        browser::modules().map(drop),
    ]) {
        if let Err(why) = outcome {
            eprintln!("not installed: {why}");
        }
    }
}

fn install_nextest() -> anyhow::Result<()> {
    if answers(shell::cargo().args(["nextest", "--version"])) {
        return Ok(());
    }
    eprintln!("cargo-nextest is missing: installing it (a few minutes, once)");
    shell::run(shell::cargo().args(["install", "--locked", "cargo-nextest"]))
        .context("failed to install cargo-nextest; see CONTRIBUTING.md")
}

/// Licences and bans by deny.toml, where cargo-deny is installed. The bans that matter most are in `fences` as well.
fn deny() -> anyhow::Result<()> {
    if !answers(shell::cargo().args(["deny", "--version"])) {
        eprintln!("cargo-deny is not installed: skipped");
        return Ok(());
    }
    shell::run(shell::cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

fn answers(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
