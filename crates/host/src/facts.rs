//! What is true of this machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::{Path, PathBuf},
};

use upkeep_model::{
    file::resolve::{Facts, FileKind},
    id::AppName,
};

/// What the files of apps are worked out with where the apps are to run: this machine's processors, programs and files.
/// `environment` is what the apps inherit, and programs are looked for in its `PATH`; relative paths start at
/// `directory`, which is absolute; `env_name` is `--env` of PM2's files; `read_file` reads the files that apps name.
pub fn for_apps<T>(
    directory: PathBuf,
    environment: BTreeMap<String, String>,
    env_name: Option<&str>,
    known_apps: BTreeSet<AppName>,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
    run: impl FnOnce(&Facts<'_>) -> T,
) -> T {
    let path_variable = environment.get("PATH").cloned().unwrap_or_default();
    run(&Facts {
        file_dir: directory,
        cpus: cpus(),
        caller_env: environment,
        env_name: env_name.map(str::to_owned),
        known_apps,
        read_file,
        find_program: &|name| find_program(name, &path_variable).is_some(),
        file_kind: &file_kind,
    })
}

/// What a path leads to; nothing if there is nothing, or no file.
fn file_kind(path: &Path) -> Option<FileKind> {
    if !path.is_file() {
        return None;
    }
    if is_executable(path) {
        return Some(FileKind::Executable);
    }
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(1024).read_to_end(&mut start));
    // A file that cannot be read is not text to us.
    Some(if read.is_ok() && !start.contains(&0) {
        FileKind::Text
    } else {
        FileKind::Binary
    })
}

/// How many processors this process may use: `instances: max`.
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// Whether `path` is a file that we may execute.
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Looks a program up in a `PATH`, as a shell does.
pub fn find_program(name: &str, path_variable: &str) -> Option<std::path::PathBuf> {
    if name.contains('/') {
        return is_executable(Path::new(name)).then(|| name.into());
    }
    path_variable
        .split(':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| is_executable(candidate))
}

/// A process of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's; 0 for none.
    pub parent: u32,
    /// Its arguments with blanks between, or its name in brackets where it has none.
    pub command: String,
}

/// The processes that can be seen, by number. One that ends meanwhile is left out.
pub fn processes() -> Vec<Process> {
    let mut found: Vec<Process> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(process)
        .collect();
    found.sort_unstable_by_key(|process| process.pid);
    found
}

fn process(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; the last parenthesis ends it.
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let parent = tail.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    let command = match arguments.trim() {
        "" => format!("[{name}]"),
        arguments => arguments.to_owned(),
    };
    Some(Process { pid, parent, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(find_program("sh", "/nonexistent::/bin:/usr/bin").is_some());
        assert!(find_program("sh", "").is_none());
        assert!(find_program("/bin/sh", "").is_some());
        assert!(find_program("/etc/passwd", "").is_none(), "not executable");
    }

    #[test]
    fn we_are_among_the_processes() {
        let own = processes()
            .into_iter()
            .find(|process| process.pid == std::process::id())
            .expect("ourselves");
        assert!(own.parent > 0 && !own.command.is_empty(), "{own:?}");
    }

    #[test]
    fn there_is_a_processor() {
        assert!(cpus() >= 1);
    }
}
