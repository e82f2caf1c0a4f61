//! The file that lets the kept connections of a worker end in peace, and how a worker comes to load it.

use std::{
    ffi::OsString,
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// What tells it to begin. `grace_ms`: how long idle connections are left open.
pub(crate) fn begin(grace_ms: u64) -> Value {
    json!({"cmd": "NODE_UPKEEP_DRAIN", "grace": grace_ms})
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Mean delay of its event loop since it said so last, microseconds.
    pub(crate) delay_us: Option<u64>,
    /// V8's heap in use, bytes.
    pub(crate) heap_used: Option<u64>,
    /// V8's heap as taken from the system, bytes.
    pub(crate) heap_total: Option<u64>,
}

/// More nobody has: a day, and a pebibyte. A program may say anything.
const DELAY_MAX: u64 = 86_400_000_000;
const HEAP_MAX: u64 = 1 << 50;

/// A worker's figures, if that is what a message is.
pub(crate) fn figures(message: &Value) -> Option<Figures> {
    if message.get("cmd").and_then(Value::as_str) != Some("NODE_UPKEEP_FIGURES") {
        return None;
    }
    let number = |name: &str, most: u64| message.get(name)?.as_u64().filter(|value| *value <= most);
    Some(Figures {
        delay_us: number("delay_us", DELAY_MAX),
        heap_used: number("heap_used", HEAP_MAX),
        heap_total: number("heap_total", HEAP_MAX),
    })
}

const DRAIN: &str = include_str!("drain.cjs");

/// Writes the file into a directory, which is made if need be; readable for all, because apps run as other users. Gives its path.
pub(crate) fn write(directory: &Path) -> io::Result<PathBuf> {
    if !directory.is_dir() {
        std::fs::create_dir_all(directory)?;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    }
    let path = directory.join("drain.cjs");
    if std::fs::read_to_string(&path).is_ok_and(|text| text == DRAIN) {
        return Ok(path);
    }
    // In one step: a worker may be starting right now.
    let new = directory.join("drain.new");
    std::fs::write(&new, DRAIN)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(new, &path)?;
    Ok(path)
}

/// Whether another user can read a file: a worker that cannot would not start.
pub(crate) fn is_readable_for(uid: u32, path: &Path) -> bool {
    path.ancestors().all(|step| {
        let Ok(metadata) = std::fs::metadata(step) else {
            return false;
        };
        let wanted = if metadata.is_dir() { 0o001 } else { 0o004 };
        let owner = metadata.uid() == uid && metadata.mode() & (wanted << 6) != 0;
        // Groups are not looked into: without one who is in doubt goes without.
        uid == 0 || owner || metadata.mode() & wanted != 0
    })
}

/// Adds it to a command line whose first word is Node itself, else to `NODE_OPTIONS`.
pub(crate) fn add(argv: &mut Vec<OsString>, env: &mut Vec<(OsString, OsString)>, path: &Path) {
    let is_node = argv
        .first()
        .and_then(|program| Path::new(program).file_name()?.to_str())
        .is_some_and(super::unwrap::is_node);
    if is_node {
        argv.splice(1..1, ["--require".into(), path.as_os_str().to_owned()]);
        return;
    }
    let quoted = path
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    let mut options = OsString::from(format!("--require \"{quoted}\""));
    match env.iter_mut().find(|(name, _)| name == "NODE_OPTIONS") {
        Some((_, given)) => {
            options.push(" ");
            options.push(&*given);
            *given = options;
        }
        None => env.push(("NODE_OPTIONS".into(), options)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_once_and_readable() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = write(&dir.path().join("node")).expect("written");
        let before = std::fs::metadata(&path).expect("it is there").ino();
        assert_eq!(write(&dir.path().join("node")).expect("written"), path);
        assert_eq!(std::fs::metadata(&path).expect("it is there").ino(), before);
        assert!(is_readable_for(0, &path));
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("a mode");
        assert!(!is_readable_for(65_533, &path));
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        assert!(is_readable_for(65_533, &path));
    }

    #[test]
    fn figures_are_taken_as_far_as_they_make_sense() {
        let said = |message: Value| figures(&message);
        assert_eq!(said(json!({"cmd": "mine", "heap_used": 1})), None);
        assert_eq!(said(json!("ready")), None);
        let whole = json!({"cmd": "NODE_UPKEEP_FIGURES", "delay_us": 250, "heap_used": 5_000_000, "heap_total": 9_000_000});
        let wanted = Figures {
            delay_us: Some(250),
            heap_used: Some(5_000_000),
            heap_total: Some(9_000_000),
        };
        assert_eq!(said(whole), Some(wanted));
        let odd =
            json!({"cmd": "NODE_UPKEEP_FIGURES", "delay_us": null, "heap_used": -1, "heap_total": u64::MAX});
        let nothing = Figures {
            delay_us: None,
            heap_used: None,
            heap_total: None,
        };
        assert_eq!(said(odd), Some(nothing));
    }

    #[test]
    fn it_is_an_argument_or_an_option() {
        let path = Path::new("/a b/drain.cjs");
        let (mut argv, mut env) = (vec!["/usr/bin/node".into(), "app.js".into()], Vec::new());
        add(&mut argv, &mut env, path);
        assert_eq!(argv, ["/usr/bin/node", "--require", "/a b/drain.cjs", "app.js"]);
        assert!(env.is_empty());
        let mut argv = vec!["sh".into(), "-c".into(), "node app.js".into()];
        add(&mut argv, &mut env, path);
        add(&mut argv, &mut env, Path::new("/c"));
        assert_eq!(argv.len(), 3);
        assert_eq!(env[0].1, "--require \"/c\" --require \"/a b/drain.cjs\"");
    }
}
