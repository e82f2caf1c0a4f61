//! Python servers from the package registry, for tests that load them or talk to them.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use crate::node::peers;

/// A folder for `PYTHONPATH` with gunicorn and uvicorn, installed the first time.
pub fn servers() -> Result<PathBuf, String> {
    install("python", &[("gunicorn", "gunicorn"), ("uvicorn", "uvicorn")])
}

/// A folder for `PYTHONPATH` with aiosmtpd, a mail server for tests, installed the first time.
pub fn mail_server() -> Result<PathBuf, String> {
    install("python-mail", &[("aiosmtpd", "aiosmtpd")])
}

/// A folder for `PYTHONPATH` with jsonschema, the reference implementation of JSON Schema, installed the first time.
pub fn json_schema() -> Result<PathBuf, String> {
    install("python-jsonschema", &[("jsonschema", "jsonschema")])
}

/// A folder for `PYTHONPATH` with schemathesis, which tries an API by its description, installed the first time.
pub fn schemathesis() -> Result<PathBuf, String> {
    install("python-schemathesis", &[("schemathesis", "schemathesis")])
}

/// A folder for `PYTHONPATH` with PyYAML and python-dotenv, installed the first time.
pub fn forms() -> Result<PathBuf, String> {
    install("python-forms", &[("PyYAML", "yaml"), ("python-dotenv", "dotenv")])
}

/// Installs packages, each with the name of its module, into a folder of their own. Tests are processes of their own: a lock on a file makes one of them do
/// it.
fn install(folder: &str, packages: &[(&str, &str)]) -> Result<PathBuf, String> {
    let dir = peers().join(folder);
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let dir = dir.canonicalize().map_err(|error| error.to_string())?;
    let lock = File::create(peers().join(format!("{folder}.lock"))).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if packages.iter().any(|(_, module)| !dir.join(module).is_dir()) {
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
            .args(packages.iter().map(|(package, _)| package))
            .output()
            .map_err(|error| format!("python3: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(dir)
}
