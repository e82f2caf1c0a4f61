//! Who listens on which TCP port, as `proc(5)` tells (`/proc/net/tcp`, `/proc/PID/fd`).

use std::{
    collections::HashSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address.
    pub address: SocketAddr,
    /// Number by which descriptors name it: `socket:[INODE]`.
    pub inode: u64,
}

/// Every TCP socket that listens in our network namespace.
pub fn listeners() -> Vec<Listener> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(listener).collect::<Vec<_>>())
        .collect()
}

/// A line of the kernel's table: the address in hexadecimal, the state (`0A` listens), the inode.
fn listener(line: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (address, port) = fields.get(1)?.rsplit_once(':')?;
    Some(Listener {
        address: SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?),
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Words of 32 bits in the machine's own order.
fn ip(text: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = (0..text.len() / 8)
        .map(|at| text.get(at * 8..at * 8 + 8))
        .map(|word| u32::from_str_radix(word?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    match words.as_slice() {
        [word] => Some(IpAddr::V4(Ipv4Addr::from(*word))),
        [_, _, _, _] => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// Inodes of the sockets that a process has open; none if we may not look at it.
pub fn held_by(pid: u32) -> HashSet<u64> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    descriptors
        .flatten()
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter_map(|target| {
            let target = target.to_str()?;
            target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// A process that listens on this port, of those that we may look at. Reads all of `/proc`: off any runtime.
pub fn holder_of(port: u16) -> Option<u32> {
    let inodes: HashSet<u64> = listeners()
        .into_iter()
        .filter(|listener| listener.address.port() == port)
        .map(|listener| listener.inode)
        .collect();
    if inodes.is_empty() {
        return None;
    }
    fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid| !held_by(*pid).is_disjoint(&inodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_with_its_address() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = std::net::TcpListener::bind(address).expect("a port");
            let address = socket.local_addr().expect("its address");
            let found = listeners();
            let found = found.iter().find(|found| found.address == address);
            let inode = found.expect("it is in the table").inode;
            assert!(held_by(std::process::id()).contains(&inode));
            assert_eq!(holder_of(address.port()), Some(std::process::id()));
            drop(socket);
            assert_eq!(holder_of(address.port()), None);
        }
    }

    #[test]
    fn a_line_that_is_none_is_passed_over() {
        for line in [
            "",
            "0: x:y 00 0A",
            "1: 0100007F:0050 00000000:0000 01 0 0 0 0 0 7",
        ] {
            assert_eq!(listener(line), None, "{line}");
        }
    }
}
