//! The real Prometheus and its `promtool`: those of the machine, else unpacked from Debian's package, which starts
//! nothing and installs nothing.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// A program of Debian's package `prometheus`: `prometheus` or `promtool`.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let installed = Path::new("/usr/bin").join(name);
    if installed.is_file() {
        return Ok(installed);
    }
    let folder = crate::node::peers().join("prometheus");
    let unpacked = folder.join("usr/bin").join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Tests are processes of their own: one of them does it.
    let lock =
        File::create(crate::node::peers().join("prometheus.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if unpacked.is_file() {
        return Ok(unpacked);
    }
    run(Command::new("apt-get")
        .args(["download", "-q", "prometheus"])
        .current_dir(&folder))?;
    let packages = fs::read_dir(&folder).map_err(|error| error.to_string())?;
    let package = packages
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .ok_or_else(|| format!("no package came into {}", folder.display()))?;
    run(Command::new("dpkg").arg("-x").arg(&package).arg(&folder))?;
    if unpacked.is_file() {
        Ok(unpacked)
    } else {
        Err(format!("there is no {name} in {}", package.display()))
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
