//! Where an ensemble is: `zookeeper://one:2181,two:2181/chroot`.

use std::str::FromStr;

use crate::error::ZooKeeperError;

/// The servers of an ensemble, and the node that stands for its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `host:port`, each.
    pub servers: Vec<String>,
    /// What every path begins with; empty, or with a slash before and none behind.
    pub chroot: String,
}

/// The port of clients.
const PORT: &str = "2181";

impl FromStr for Address {
    type Err = ZooKeeperError;

    /// `zookeeper://HOST[:PORT][,HOST[:PORT]…][/CHROOT]`; also without `zookeeper://`, as ZooKeeper's own tools write it.
    fn from_str(text: &str) -> Result<Self, ZooKeeperError> {
        let fail = |why: &str| {
            Err(ZooKeeperError::Address {
                text: text.escape_debug().take(200).collect(),
                why: why.to_owned(),
            })
        };
        let rest = text.strip_prefix("zookeeper://").unwrap_or(text);
        if rest.contains("://") {
            return fail("it begins with another scheme than `zookeeper://`");
        }
        if rest.contains('@') {
            return fail("users and passwords do not stand in it; there are options for them");
        }
        let (hosts, chroot) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let mut servers = Vec::new();
        for host in hosts.split(',') {
            if host.is_empty() || host.starts_with(':') {
                return fail("a host is missing; it is written like `zookeeper://zk1:2181,zk2:2181/path`");
            }
            // An IPv6 address has its own colons, and stands in brackets.
            let (name, port) = match host.rsplit_once(':') {
                Some((name, port)) if !port.contains(']') => (name, port),
                _ => (host, PORT),
            };
            if !port.parse::<u16>().is_ok_and(|port| port > 0) {
                return fail(&format!("`{port}` is no port"));
            }
            servers.push(format!("{name}:{port}"));
        }
        let chroot = chroot.trim_end_matches('/');
        if chroot.contains("//") {
            return fail("there is nothing between two slashes");
        }
        Ok(Self {
            servers,
            chroot: chroot.to_owned(),
        })
    }
}

impl Address {
    /// A path as the server knows it.
    pub(crate) fn whole(&self, path: &str) -> String {
        match (self.chroot.as_str(), path) {
            ("", path) => path.to_owned(),
            (chroot, "/") => chroot.to_owned(),
            (chroot, path) => format!("{chroot}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_zookeeper_writes_them() {
        let read = |text: &str| text.parse::<Address>().map(|read| (read.servers, read.chroot));
        let fine = |servers: &[&str], chroot: &str| {
            let servers: Vec<String> = servers.iter().map(|one| (*one).to_owned()).collect();
            (servers, chroot.to_owned())
        };
        for (text, wanted) in [
            ("zookeeper://a", fine(&["a:2181"], "")),
            ("a:1,b:2/x/y/", fine(&["a:1", "b:2"], "/x/y")),
            ("zookeeper://[::1]:77/", fine(&["[::1]:77"], "")),
            ("[::1]/x", fine(&["[::1]:2181"], "/x")),
        ] {
            assert_eq!(read(text).expect(text), wanted, "{text}");
        }
        for text in [
            "",
            "zookeeper://",
            "a,,b",
            ":1",
            "a:x",
            "a:0",
            "a:70000",
            "http://a",
            "u:p@a",
            "a//b",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
