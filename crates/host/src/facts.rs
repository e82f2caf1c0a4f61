//! What is true of this machine.

use std::path::Path;

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
