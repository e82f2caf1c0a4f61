//! Python servers from the package registry, for tests that load them.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use crate::node::peers;

/// A folder for `PYTHONPATH` with gunicorn and uvicorn, installed the first time. Tests are processes of their own: a lock
/// on a file makes one of them do it.
pub fn servers() -> Result<PathBuf, String> {
    let dir = peers().join("python");
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let dir = dir.canonicalize().map_err(|error| error.to_string())?;
    let lock = File::create(peers().join("python.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if !dir.join("uvicorn").is_dir() || !dir.join("gunicorn").is_dir() {
        let output = Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--target",
            ])
            .arg(&dir)
            .args(["gunicorn", "uvicorn"])
            .output()
            .map_err(|error| format!("python3: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(dir)
}
