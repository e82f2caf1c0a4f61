//! Who runs the file.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};

use super::{Place, PrepareError, find_in_path};

/// By extension; the first that is there.
const BY_EXTENSION: &[(&str, &[&str])] = &[
    ("sh", &["bash"]),
    ("py", &["python", "python3"]),
    ("rb", &["ruby"]),
    ("php", &["php"]),
    ("pl", &["perl"]),
    ("js", &["node"]),
    ("coffee", &["coffee"]),
    ("ls", &["lsc"]),
];

/// The program's name or path; `none`: the file is run by itself.
pub(super) fn resolve(
    conf: &mut Map<String, Value>,
    program: &Path,
    place: &Place,
) -> Result<String, PrepareError> {
    let missing = |name: &str| PrepareError::NoInterpreter {
        name: name.to_owned(),
    };
    let is_there = |name: &str| find_in_path(name, place.path()).is_some();
    if let Some(Value::String(given)) = conf.get("exec_interpreter").cloned() {
        if given == "none" || is_there(&given) {
            return Ok(given);
        }
        let of_nvm = given
            .strip_prefix("node@")
            .and_then(|version| nvm(version, place));
        return of_nvm.ok_or_else(|| missing(&given));
    }
    let extension = program.extension().and_then(|extension| extension.to_str());
    if let Some((_, names)) = BY_EXTENSION.iter().find(|(known, _)| Some(*known) == extension) {
        let found = names.iter().find(|name| is_there(name));
        return found
            .map(|name| (*name).to_owned())
            .ok_or_else(|| missing(names[0]));
    }
    if matches!(extension, Some("ts" | "tsx")) {
        return typescript(conf, extension == Some("ts"), place);
    }
    if is_binary(program) {
        return Ok("none".to_owned());
    }
    let node = find_in_path("node", place.path()).ok_or_else(|| missing("node"))?;
    Ok(node.canonicalize().unwrap_or(node).display().to_string())
}

fn typescript(conf: &mut Map<String, Value>, plain: bool, place: &Place) -> Result<String, PrepareError> {
    if find_in_path("bun", place.path()).is_some() {
        return Ok("bun".to_owned());
    }
    let node = find_in_path("node", place.path()).filter(|_| plain);
    let version = node.and_then(|node| node_version(&node));
    match version {
        Some(version) if version >= (22, 18) => Ok("node".to_owned()),
        Some(version) if version >= (22, 6) => {
            let flag = json!("--experimental-strip-types");
            match conf.get_mut("node_args") {
                Some(Value::Array(words)) => words.push(flag),
                _ => {
                    conf.insert("node_args".to_owned(), json!([flag]));
                }
            }
            Ok("node".to_owned())
        }
        _ => Err(PrepareError::NoTypeScript),
    }
}

fn node_version(node: &Path) -> Option<(u32, u32)> {
    let output = Command::new(node).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut parts = text.trim().trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The newest installed node of a version that may be cut short.
fn nvm(version: &str, place: &Place) -> Option<String> {
    let variable = |name: &str| {
        place
            .variables
            .get(name)
            .and_then(Value::as_str)
            .map(PathBuf::from)
    };
    let folder = variable("NVM_DIR")
        .or_else(|| variable("HOME").map(|home| home.join(".nvm")))?
        .join("versions/node");
    let wanted = version.trim_start_matches('v');
    let numbers = |name: &str| -> Vec<u32> { name.split('.').filter_map(|part| part.parse().ok()).collect() };
    let newest = std::fs::read_dir(&folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            let name = name.trim_start_matches('v');
            name == wanted
                || name
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.starts_with('.'))
        })
        .max_by_key(|name| numbers(name.trim_start_matches('v')))?;
    let node = folder.join(newest).join("bin/node");
    node.exists().then(|| node.display().to_string())
}

/// Does it look like a program rather than a text?
fn is_binary(path: &Path) -> bool {
    let mut head = [0; 512];
    std::fs::File::open(path)
        .and_then(|mut file| file.read(&mut head))
        .is_ok_and(|length| head[..length].contains(&0))
}
