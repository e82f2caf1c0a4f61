//! Apps as people write them, worked out on this machine.
//!
//! Who sends a file from elsewhere (`upkeep --host db1 start shop.yaml`, a script with curl) knows neither how many
//! processors are here nor which programs and folders, and their own environment, with the secrets of their shell, is
//! nobody's business here. So the file comes as it is written, and what it comes to is found out where its apps will run.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use upkeep_api::{
    body::{AppCommand, AppFile, Unresolved},
    error::Code,
};
use upkeep_host::facts;
use upkeep_model::{
    app::AppSpec,
    file::{
        self, FileError, Format,
        resolve::{Facts, NoSuchApp, Resolved, from_command_line, resolve},
    },
    id::AppName,
};

use crate::{command::Refusal, settings::read_file};

/// The largest `env_file` that is read, bytes.
const ENV_FILE_MAX: u64 = 1 << 20;
/// So much of such files is read for one call, bytes.
const ENV_FILES_MAX: u64 = 16 << 20;

/// What apps inherit that nobody started from a shell of this machine.
const INHERITED: [&str; 9] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR",
];

/// The apps that there are, as far as the caller may know.
#[derive(Debug, Default)]
pub(super) struct There {
    /// Those that it may see: others may depend on them.
    pub(super) names: BTreeSet<AppName>,
    /// What those run that it may replace.
    pub(super) specs: BTreeMap<AppName, AppSpec>,
}

/// Works out what is wanted. Reads files: not for the runtime's thread.
pub(super) fn work_out(unresolved: Vec<Unresolved>, there: &There) -> Result<Resolved, Refusal> {
    let mut all = Resolved::default();
    let left = Cell::new(ENV_FILES_MAX);
    for one in unresolved {
        let resolved = match one {
            Unresolved::File(file) => of_file(file, there, &left)?,
            Unresolved::Command(command) => of_command(command, there, &left)?,
        };
        all.apps.extend(resolved.apps);
        all.warnings.extend(resolved.warnings);
    }
    for spec in &all.apps {
        if !spec.cwd.is_dir() {
            let text = format!(
                "failed to start `{}`: there is no folder `{}` on this machine",
                spec.name,
                spec.cwd.display()
            );
            return Err(Refusal::new(Code::Invalid, text).hint(
                "relative paths start where the file is at your side: name the folder here with `cwd`",
            ));
        }
    }
    Ok(all)
}

fn of_file(file: AppFile, there: &There, left: &Cell<u64>) -> Result<Resolved, Refusal> {
    let format = if file::is_javascript(Path::new(&file.name)) {
        Format::Ecosystem
    } else {
        Format::detect(&file.name, &file.text).map_err(refusal)?
    };
    let written = file::parse(&file.text, &file.name, format).map_err(refusal)?;
    let run = |facts: &Facts<'_>| resolve(written, facts);
    let mut resolved = with_facts(&file.directory, file.env.as_deref(), there, left, run)?;
    resolved.keep(&file.only).map_err(|NoSuchApp { name, hint }| {
        Refusal::new(Code::NotFound, format!("`{}` has no app `{name}`", file.name)).hint(hint)
    })?;
    Ok(resolved)
}

fn of_command(command: AppCommand, there: &There, left: &Cell<u64>) -> Result<Resolved, Refusal> {
    let named = command.name.is_some();
    let directory = command.directory.clone();
    let line = command.into();
    let run = |facts: &Facts<'_>| from_command_line(line, facts);
    let resolved = with_facts(&directory, None, there, left, run)?;
    for spec in resolved.apps.iter().filter(|_| !named) {
        // A script of another folder that happens to have the same name must not replace an app silently.
        let Some(old) = there.specs.get(&spec.name) else {
            continue;
        };
        if old.command != spec.command || old.cwd != spec.cwd {
            let text = format!(
                "there is an app `{}` that runs `{}` in `{}`",
                spec.name,
                old.command.join(" "),
                old.cwd.display()
            );
            return Err(Refusal::new(Code::Conflict, text)
                .hint("give the new one a name of its own, or replace the old one by naming it"));
        }
    }
    Ok(resolved)
}

fn with_facts<T>(
    directory: &str,
    env_name: Option<&str>,
    there: &There,
    left: &Cell<u64>,
    run: impl FnOnce(&Facts<'_>) -> Result<T, FileError>,
) -> Result<T, Refusal> {
    let directory = PathBuf::from(directory);
    if !directory.is_absolute() {
        return Err(Refusal::new(
            Code::Invalid,
            format!("`directory` is `{}`, which is not absolute", directory.display()),
        ));
    }
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| INHERITED.contains(&name.as_str()) || name.starts_with("LC_"))
        .collect();
    let names = there.names.clone();
    let read_file = |path: &Path| read_text(path, left);
    facts::for_apps(directory, environment, env_name, names, &read_file, run).map_err(refusal)
}

/// A text file that an app names. Never waits for a pipe. `left`: so many bytes may still be read for this call.
fn read_text(path: &Path, left: &Cell<u64>) -> io::Result<String> {
    let is_missing = !path.exists();
    let (bytes, _) = read_file(path, ENV_FILE_MAX).map_err(|refusal| {
        let kind = if is_missing {
            io::ErrorKind::NotFound
        } else {
            io::ErrorKind::Other
        };
        io::Error::new(kind, refusal.message)
    })?;
    let rest = left.get().checked_sub(bytes.len() as u64).ok_or_else(|| {
        io::Error::other(format!(
            "such files have more than {} MiB in all",
            ENV_FILES_MAX >> 20
        ))
    })?;
    left.set(rest);
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

fn refusal(error: FileError) -> Refusal {
    let refusal = Refusal::new(Code::Invalid, error.to_string());
    match error.hint {
        Some(hint) => refusal.hint(hint),
        None => refusal,
    }
}
