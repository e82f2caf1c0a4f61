//! Who holds a TCP port: for a better message than "address in use".

use std::fs;

/// A process that listens on the port, in words; of those that we may look at. Reads all of `/proc`: off the runtime.
pub(super) fn of(port: u16) -> Option<String> {
    let pid = upkeep_host::sockets::holder_of(port)?;
    Some(if pid == std::process::id() {
        "Upkeep itself, for another app".to_owned()
    } else {
        format!("process {pid}, `{}`", name_of(pid))
    })
}

fn name_of(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
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
