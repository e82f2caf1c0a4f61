//! Where the kernel put a core dump (`core(5)`).

use std::path::Path;

/// What there was to tell about a process that dumped core.
pub(super) struct Dumped<'a> {
    pub(super) pid: u32,
    pub(super) signal: u8,
    pub(super) at_s: u64,
    pub(super) cwd: &'a Path,
    /// Program that ran.
    pub(super) program: &'a str,
}

/// Where its core dump is, or how it is got at, in words.
pub(super) fn place(dumped: &Dumped<'_>) -> Option<String> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").ok()?;
    let uses_pid =
        std::fs::read_to_string("/proc/sys/kernel/core_uses_pid").is_ok_and(|text| text.trim() != "0");
    Some(resolve(
        pattern.trim_end_matches('\n'),
        uses_pid,
        dumped,
        &|path| path.exists(),
    ))
}

fn resolve(pattern: &str, uses_pid: bool, dumped: &Dumped<'_>, exists: &dyn Fn(&Path) -> bool) -> String {
    if let Some(command) = pattern.strip_prefix('|') {
        let program = command.split_ascii_whitespace().next().unwrap_or_default();
        let pid = dumped.pid;
        return match program.rsplit('/').next().unwrap_or_default() {
            "systemd-coredump" => {
                format!("kept by systemd-coredump: `coredumpctl info {pid}`, `coredumpctl debug {pid}`")
            }
            "apport" => {
                "kept by apport: a `.crash` file in `/var/crash`, which `apport-unpack` opens".to_owned()
            }
            _ => format!("given to `{program}` by the kernel (`/proc/sys/kernel/core_pattern`)"),
        };
    }
    if pattern.is_empty() && !uses_pid {
        return "not kept: `/proc/sys/kernel/core_pattern` is empty".to_owned();
    }
    let (mut name, known) = expand(pattern, dumped);
    if uses_pid && !pattern.contains("%p") {
        name.push_str(&format!(".{}", dumped.pid));
    }
    let path = dumped.cwd.join(&name);
    match (known, exists(&path)) {
        (_, true) => path.display().to_string(),
        (true, false) => format!(
            "not found at `{}`: the limit of its size, or the directory, may have refused it",
            path.display()
        ),
        (false, false) => format!("by the pattern `{pattern}` in `{}`", dumped.cwd.display()),
    }
}

/// The name, and whether all of it is known.
fn expand(pattern: &str, dumped: &Dumped<'_>) -> (String, bool) {
    let mut name = String::new();
    let mut known = true;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            name.push(character);
            continue;
        }
        match characters.next() {
            Some('%') => name.push('%'),
            Some('p' | 'P') => name.push_str(&dumped.pid.to_string()),
            Some('s') => name.push_str(&dumped.signal.to_string()),
            Some('t') => name.push_str(&dumped.at_s.to_string()),
            // The name of its main thread: 15 bytes of the program's, unless it has changed it.
            Some('e' | 'f') => {
                let base = dumped.program.rsplit('/').next().unwrap_or_default();
                name.extend(base.chars().take(15));
            }
            Some('h') => name.push_str(
                std::fs::read_to_string("/proc/sys/kernel/hostname")
                    .unwrap_or_default()
                    .trim(),
            ),
            _ => known = false,
        }
    }
    (name, known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_lead_to_places() {
        let dumped = Dumped {
            pid: 42,
            signal: 11,
            at_s: 99,
            cwd: Path::new("/srv/shop"),
            program: "/usr/bin/a-very-long-name-of-a-program",
        };
        let all = |_: &Path| true;
        let none = |_: &Path| false;
        for (pattern, uses_pid, expected) in [
            ("core", false, "/srv/shop/core"),
            ("core", true, "/srv/shop/core.42"),
            (
                "/var/core/%e-%p-%s-%t%%",
                true,
                "/var/core/a-very-long-nam-42-11-99%",
            ),
        ] {
            assert_eq!(resolve(pattern, uses_pid, &dumped, &all), expected);
        }
        assert!(resolve("core.%p", false, &dumped, &none).starts_with("not found at `/srv/shop/core.42`"));
        assert!(resolve("core.%u", false, &dumped, &none).starts_with("by the pattern"));
        assert!(resolve("", false, &dumped, &none).starts_with("not kept"));
        let piped = resolve("|/usr/lib/systemd/systemd-coredump %P %u", true, &dumped, &none);
        assert!(piped.contains("coredumpctl info 42"), "{piped}");
        assert!(resolve("|/usr/share/apport/apport -p%p", false, &dumped, &none).contains("/var/crash"));
        assert!(resolve("|/opt/x %p", false, &dumped, &none).contains("`/opt/x`"));
    }
}
