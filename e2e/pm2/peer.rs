//! The real PM2, from npm, into `.peers/pm2` of the repository: the place where the benches have it too.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// The version whose behaviour is the contract.
const VERSION: &str = upkeep_pm2::home::PM2_VERSION;

/// The programs that both sides' cases use, as they are found outside of the cases' own `PATH`.
pub(crate) const TOOLS: &[&str] = &["node", "npm"];

/// Where a program of the machine is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The folder with PM2's programs; installs them the first time. Tests are processes of their own, so a lock on a file
/// makes one of them do it.
pub(crate) fn programs() -> Result<PathBuf, String> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.peers");
    let dir = peers.join("pm2");
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let dir = dir.canonicalize().map_err(|error| error.to_string())?;
    let lock = File::create(peers.join("pm2.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let programs = dir.join("node_modules/.bin");
    if !programs.join("pm2").exists() {
        let output = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&dir)
            .arg(format!("pm2@{VERSION}"))
            .output()
            .map_err(|error| format!("npm: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(programs)
}
