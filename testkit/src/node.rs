//! Real Nodes of several versions, from npm: the package `node` ships the binaries.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// The versions that promises are tested with.
pub const VERSIONS: [&str; 3] = ["20.20.2", "22.23.3", "24.21.0"];

/// The folder for what is installed beside the tests: `.peers` of the repository.
pub fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.peers")
}

/// The program of a version (`24.21.0`), installed the first time. Tests are processes of their own: a lock on a
/// file makes one of them do it.
pub fn node(version: &str) -> Result<PathBuf, String> {
    let major = version.split('.').next().unwrap_or(version);
    let nodes = peers().join("node");
    install(
        &nodes.join(major),
        &format!("node-{major}"),
        &[&format!("node@{version}")],
    )
    .map(|modules| modules.join("node/bin/node"))
}

/// Installs packages of npm into a folder, if they are not there yet; gives its `node_modules`.
pub fn install(folder: &Path, name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let lock = File::create(peers().join(format!("{name}.lock"))).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let done = folder.join("installed");
    let wanted = packages.join(" ");
    if fs::read_to_string(&done).unwrap_or_default() != wanted {
        let output = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&folder)
            .args(packages)
            .output()
            .map_err(|error| format!("npm: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        fs::write(&done, wanted).map_err(|error| error.to_string())?;
    }
    Ok(folder.join("node_modules"))
}
