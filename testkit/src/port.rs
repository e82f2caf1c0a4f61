//! Ports for programs that have to be told one.
//!
//! What `port 0` gives and is let go again may be somebody else's a moment later: another test's listener, or the near end
//! of any connection. So these lie below the kernel's own (`ip_local_port_range`), and a lock on a file keeps two tests
//! from having the same one.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Mutex,
};

use rustix::fs::{FlockOperation, flock};

/// Below are ports that machines use.
const LOWEST: u16 = 10_000;

/// Locks of the ports that this process was given; they go with it.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody has, and no other test gets until this process has ended.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("the kernel's own ports");
    let first: u16 = range
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a number");
    let end = first.max(LOWEST + 1000);
    let locks = std::env::temp_dir().join(format!("upkeep-test-ports-{}", rustix::process::getuid()));
    fs::create_dir_all(&locks).expect("a folder for locks");
    // Tests that begin together look at different places.
    let count = end - LOWEST;
    let start = u16::try_from(u64::from(std::process::id()) * 61 % u64::from(count)).expect("it is smaller");
    let port = (0..count)
        .map(|step| LOWEST + (start + step) % count)
        .find(|port| {
            let file = File::options()
                .create(true)
                .append(true)
                .open(locks.join(port.to_string()));
            let Some(file) = file
                .ok()
                .filter(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok())
            else {
                return false;
            };
            let is_free = is_free(*port);
            if is_free {
                HELD.lock().expect("the list").push(file);
            }
            is_free
        });
    port.expect("a port that nobody has")
}

/// As [`free_port`], on loopback.
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

fn is_free(port: u16) -> bool {
    let any = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ];
    // A machine without IPv6 has nobody there either.
    let taken = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    any.iter()
        .all(|any| !TcpListener::bind(any).is_err_and(taken) && !UdpSocket::bind(any).is_err_and(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_given_a_port_twice() {
        let mut ports: Vec<u16> = (0..50).map(|_| free_port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn a_port_that_is_taken_is_left_out() {
        let port = free_port();
        assert!(is_free(port));
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        assert!(!is_free(port));
    }
}
