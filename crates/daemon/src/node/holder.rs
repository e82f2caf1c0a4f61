//! Who holds a TCP port: for a better message than "address in use".

use std::{collections::HashSet, fs, path::Path};

/// A process that listens on the port, in words; of those that we may look at. Reads all of `/proc`: off the runtime.
pub(super) fn of(port: u16) -> Option<String> {
    let mut inodes = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| listening(line, port)));
    }
    if inodes.is_empty() {
        return None;
    }
    let own = std::process::id();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else {
            continue; // it has ended, or is not ours to look at
        };
        let holds = descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|target| {
                let target = target.to_string_lossy();
                let inode = target
                    .strip_prefix("socket:[")
                    .and_then(|rest| rest.strip_suffix(']'));
                inode.is_some_and(|inode| inodes.contains(inode))
            })
        });
        if holds {
            return Some(if pid == own {
                "Upkeep itself, for another app".to_owned()
            } else {
                format!("process {pid}, `{}`", name_of(&entry.path()))
            });
        }
    }
    None
}

/// The inode of a listening socket with this port, in a line of the kernel's table.
fn listening(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let is_listening = *fields.get(3)? == "0A";
    let matches = u16::from_str_radix(local, 16).ok()? == port;
    (is_listening && matches).then(|| (*fields.get(9).unwrap_or(&"")).to_owned())
}

fn name_of(process: &Path) -> String {
    let words = fs::read(process.join("cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    words.trim().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found() {
        let listener = std::net::TcpListener::bind("[::1]:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        assert_eq!(of(port).as_deref(), Some("Upkeep itself, for another app"));
        drop(listener);
        assert_eq!(of(port), None);
        assert!(of(1).is_none_or(|holder| holder.contains("process")));
    }
}
