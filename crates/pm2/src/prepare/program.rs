//! Which file is run.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{Place, PrepareError, name_of_script};

/// `path.resolve` of Node, with `~` for the home.
pub fn absolute(base: &Path, path: &str, place: &Place) -> PathBuf {
    match path
        .strip_prefix("~/")
        .zip(place.variables.get("HOME").and_then(Value::as_str))
    {
        Some((rest, home)) => resolve_path(Path::new(home), rest),
        None => resolve_path(base, path),
    }
}

/// `path.resolve` of Node: `.` and `..` are taken out by their names.
pub fn resolve_path(base: &Path, path: &str) -> PathBuf {
    let mut result = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// What a shell would run for this name.
pub fn find_in_path(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_executable(path));
    }
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(folder).join(name))
        .find(|path| is_executable(path))
}

/// The absolute path of what is run, and whether it needs no interpreter. A command line becomes a shell that runs it.
pub(super) fn resolve(
    conf: &mut Map<String, Value>,
    script: &str,
    cwd: &Path,
    place: &Place,
) -> Result<(PathBuf, bool), PrepareError> {
    if script == "serve" {
        conf.insert("args".to_owned(), json!(["pm2-serve"]));
        return Ok((place.server.to_owned(), true));
    }
    let shell = script.contains(' ').then(|| {
        ["bash", "sh"]
            .iter()
            .find_map(|shell| find_in_path(shell, place.path()))
            .unwrap_or_else(|| PathBuf::from("/bin/sh"))
    });
    if let Some(shell) = shell {
        conf.insert("args".to_owned(), json!(["-c", script]));
        if conf.get("name").is_none_or(|name| name.as_str() == Some("")) {
            conf.insert("name".to_owned(), json!(name_of_script(script)));
        }
        return Ok((shell, true));
    }
    let path = absolute(cwd, script, place);
    if path.exists() {
        return Ok((path, false));
    }
    let found = find_in_path(script, place.path()).filter(|_| !script.contains('/'));
    let found = found.ok_or_else(|| PrepareError::NoFile {
        path: path.display().to_string(),
    })?;
    // What stands in PATH is run by itself, unless told otherwise.
    Ok((found, !conf.contains_key("exec_interpreter")))
}
