//! Addresses of names, without the C library's resolver.
//!
//! Our binary is static. `getaddrinfo` of a static glibc loads plug-ins of the machine's own glibc at run time, and where
//! those are of another version it fails or worse. So: addresses and `localhost` are read as they are, `/etc/hosts` is
//! read here, and everything else is asked of `getent`, a program of the machine that has the right plug-ins. Where there is
//! none, the C library is asked after all.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    process::{Command, Stdio},
};

/// Where names of the machine itself stand.
const HOSTS: &str = "/etc/hosts";

/// The addresses of a host, in the order in which to try them. May wait for a name server for as long as the machine is set
/// to (often 10 s): not for a runtime's thread.
///
/// # Errors
///
/// If the name has no address, or nobody can tell.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let with_port = |addresses: Vec<IpAddr>| -> Vec<SocketAddr> {
        addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect()
    };
    if bare.eq_ignore_ascii_case("localhost") {
        return Ok(with_port(vec![
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
        ]));
    }
    // It goes to a program as an argument.
    if bare.is_empty() || bare.starts_with('-') || bare.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{}` is no name of a host", bare.escape_debug()),
        ));
    }
    let known = in_hosts(&fs::read_to_string(HOSTS).unwrap_or_default(), bare);
    if !known.is_empty() {
        return Ok(with_port(known));
    }
    match Command::new("getent")
        .args(["ahosts", bare])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
    {
        Ok(output) => {
            let found = of_getent(&String::from_utf8_lossy(&output.stdout));
            if found.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("the name `{bare}` has no address"),
                ));
            }
            Ok(with_port(found))
        }
        Err(_) => (bare, port).to_socket_addrs().map(Iterator::collect),
    }
}

/// Addresses of a name in a file of the form of `hosts(5)`.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|word| word.eq_ignore_ascii_case(name))
                .then_some(address)
        })
        .collect()
}

/// What `getent ahosts` prints: an address first on each line, once for each kind of socket.
fn of_getent(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for address in text
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().next()?.parse().ok())
    {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_need_nobody() {
        let of = |host: &str| resolve(host, 25).expect("an address");
        assert_eq!(of("127.0.0.9"), ["127.0.0.9:25".parse().expect("an address")]);
        assert_eq!(of("[::1]"), ["[::1]:25".parse().expect("an address")]);
        assert_eq!(of("LocalHost")[0], "127.0.0.1:25".parse().expect("an address"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for host in ["", "-x", "a b", "a\nb"] {
            let error = resolve(host, 1).expect_err(host);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{host}");
        }
    }

    #[test]
    fn hosts_and_getent_are_read() {
        let hosts = "127.0.0.1 localhost\n10.0.0.7\tMail.example mail # the relay\nnonsense\n::1 mail\n";
        assert_eq!(
            in_hosts(hosts, "mail.EXAMPLE"),
            ["10.0.0.7".parse::<IpAddr>().expect("an address")]
        );
        assert_eq!(in_hosts(hosts, "mail").len(), 2);
        assert!(in_hosts(hosts, "the").is_empty());
        let getent = "10.0.0.7      STREAM mail\n10.0.0.7      DGRAM\n::7 STREAM\n";
        assert_eq!(of_getent(getent).len(), 2);
    }

    #[test]
    fn a_name_that_nobody_knows_is_an_error() {
        assert!(resolve("no-such-host.invalid", 1).is_err());
    }
}
