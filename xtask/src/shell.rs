//! Running the ordinary tools.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

/// The triple of static release builds.
pub(crate) const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::env::current_dir().unwrap_or_default().join(dir),
        None => root().join("target"),
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Cargo set these for us; a nested cargo that sees them may rebuild what is fresh.
    command
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_MANIFEST_PATH");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_")) {
            command.env_remove(name);
        }
    }
    command
}

/// As people would type it.
pub(crate) fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs it with our own output, and insists on success.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("+ {}", words(command));
    let status = command
        .status()
        .with_context(|| format!("failed to start `{}`", words(command)))?;
    ensure!(status.success(), "`{}` ended with {status}", words(command));
    Ok(())
}

/// Runs it and gives back its standard output; standard error is in the error if it fails.
pub(crate) fn read(command: &mut Command) -> anyhow::Result<String> {
    command.stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("failed to start `{}`", words(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` ended with {}: {}",
            words(command),
            output.status,
            stderr.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Builds these packages as they are released: optimised, static, stripped. Gives back where the binaries are.
///
/// `UPKEEP_STATIC` is a directory where they are already: then nothing is built.
pub(crate) fn build_static(packages: &[&str]) -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("UPKEEP_STATIC") {
        return Ok(dir.into());
    }
    let mut command = cargo();
    command.args(["build", "--release", "--bins", "--target", STATIC_TARGET]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command)?;
    Ok(target_dir().join(STATIC_TARGET).join("release"))
}
