//! The weight of the release binary.

use std::fs;

use anyhow::{Context as _, ensure};

use crate::shell;

/// The promise of SPECIFICATION.md, in bytes.
const LIMIT: u64 = 20_000_000;

pub(crate) fn run() -> anyhow::Result<()> {
    let binary = shell::build_static(&["upkeep"])?.join("upkeep");
    let bytes = fs::metadata(&binary)
        .with_context(|| format!("failed to look at {}", binary.display()))?
        .len();
    println!(
        "upkeep, static, stripped: {:.2} MB (limit {:.0} MB)",
        bytes as f64 / 1e6,
        LIMIT as f64 / 1e6
    );
    ensure!(bytes <= LIMIT, "the release binary is over its limit");
    Ok(())
}
