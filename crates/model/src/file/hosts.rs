//! The file of hosts: which machines a user reaches by `upkeep --host NAME`, and how.
//!
//! It is the user's own (`$XDG_CONFIG_HOME/upkeep/hosts.yaml`). There is no secret in it: tokens and keys are named by
//! the files that hold them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Fault, FileError, de,
    tree::{Value, read_yaml},
};
use crate::settings::{Name, web::Listen};

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map with `hosts`")]
pub struct Hosts {
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<Name, Host>,
}

/// One machine: over TCP by its `url`, through the system's ssh, or this one by the socket of another user's daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map of `url`, `ca`, `ca_file`, `token_file`, `cert_file`, `ssh`, `ssh_args`, `program` and `socket`"
)]
pub struct Host {
    /// Where its API listens: `https://web1.example.org:9616`; plain `http` to loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<crate::settings::Url>,
    /// Hash of the certificate of its authority, as `upkeep cert show` tells it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// File with certificates of authorities (PEM), instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// File with a token. Only its owner may be able to read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// File with a certificate and its key (PEM), as `upkeep cert issue` writes it, instead of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    /// Where ssh leads: `user@host`, or a name of the user's ssh configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
    /// More arguments of ssh, before that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_args: Vec<String>,
    /// What starts `upkeep` there, as a shell there reads it. Default: `upkeep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Socket of a daemon of this machine that lets this user in: its `api.sock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
}

impl Host {
    /// Whether all parts fit together.
    pub fn check(&self) -> Result<(), String> {
        let ways = [self.url.is_some(), self.ssh.is_some(), self.socket.is_some()];
        if ways.iter().filter(|is_given| **is_given).count() != 1 {
            return Err("expected one of `url`, `ssh` and `socket`".to_owned());
        }
        if let Some(socket) = &self.socket {
            let rest = Self {
                socket: None,
                ..self.clone()
            };
            if rest != Self::default() {
                return Err("with `socket` nothing else is of use: the kernel says who we are".to_owned());
            }
            if !socket.starts_with('/') {
                return Err(format!(
                    "`{}` is no whole path of a socket: it begins with `/`",
                    socket.escape_debug()
                ));
            }
        }
        if let Some(ssh) = &self.ssh {
            if ssh.is_empty() || ssh.starts_with('-') || ssh.contains(char::is_whitespace) {
                // ssh would take it for an option.
                return Err(format!("`{}` is no `user@host`", ssh.escape_debug()));
            }
            let of_tcp = [&self.ca, &self.ca_file, &self.token_file, &self.cert_file];
            if of_tcp.iter().any(|key| key.is_some()) {
                return Err("over `ssh` there is neither a certificate nor a token".to_owned());
            }
        }
        if let Some(url) = &self.url {
            if self.program.is_some() || !self.ssh_args.is_empty() {
                return Err("`program` and `ssh_args` are of `ssh`".to_owned());
            }
            let (scheme, authority, path) = url.parts();
            if !matches!(path, "" | "/") {
                return Err("a `url` of a host has no path".to_owned());
            }
            let (host, _) = url.address()?;
            let is_near = host == "localhost"
                || format!("{host}:1")
                    .parse::<Listen>()
                    .is_ok_and(Listen::is_loopback)
                || format!("[{host}]:1")
                    .parse::<Listen>()
                    .is_ok_and(Listen::is_loopback);
            if scheme == "http" && !is_near {
                return Err(format!(
                    "a token is not sent in the open: expected `https://{authority}`"
                ));
            }
            if scheme == "http" && (self.ca.is_some() || self.ca_file.is_some() || self.cert_file.is_some()) {
                return Err("there are no certificates without `https`".to_owned());
            }
        }
        if self.ca.is_some() && self.ca_file.is_some() {
            return Err("expected one of `ca` and `ca_file`".to_owned());
        }
        if self.token_file.is_some() && self.cert_file.is_some() {
            return Err("expected one of `token_file` and `cert_file`".to_owned());
        }
        Ok(())
    }
}

/// Reads hosts from a text. `path`: for messages.
pub fn parse(text: &str, path: &str) -> Result<Hosts, FileError> {
    let tree = read_yaml(text).map_err(|fault| fault.in_file(path))?;
    if matches!(tree.value, Value::Null) {
        return Ok(Hosts::default());
    }
    let hosts: Hosts = de::from_node(&tree).map_err(|fault| fault.in_file(path))?;
    for (name, host) in &hosts.hosts {
        host.check()
            .map_err(|why| Fault::new(None, format!("`hosts.{name}`: {why}")).in_file(path))?;
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_written() {
        let text = "hosts:\n  web1:\n    url: https://web1.example.org:9616\n    ca: sha256:00\n    token_file: web1.token\n  db1: {ssh: deploy@db1, program: /opt/upkeep}\n";
        let hosts = parse(text, "hosts.yaml").expect("they are right");
        assert_eq!(hosts.hosts.len(), 2);
        let again = serde_json::to_value(&hosts).expect("a tree");
        let again = crate::file::to_yaml(&again).expect("YAML");
        assert_eq!(parse(&again, "hosts.yaml").expect("the same"), hosts);
        assert_eq!(parse("", "hosts.yaml").expect("none"), Hosts::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (host, why) in [
            ("{}", "one of `url`, `ssh` and `socket`"),
            ("{url: 'https://a', ssh: b}", "one of `url`, `ssh` and `socket`"),
            ("{socket: /a, ssh: b}", "one of `url`, `ssh` and `socket`"),
            ("{socket: /a, token_file: b}", "nothing else is of use"),
            ("{socket: run/api.sock}", "is no whole path"),
            ("{ssh: -oProxyCommand=x}", "is no `user@host`"),
            ("{ssh: a, token_file: b}", "neither a certificate nor a token"),
            ("{url: 'http://192.0.2.1:9616'}", "in the open"),
            ("{url: 'http://web1'}", "in the open"),
            ("{url: 'https://a/v1'}", "no path"),
            ("{url: 'http://127.0.0.1:1', ca: x}", "without `https`"),
            ("{url: 'https://a', ca: x, ca_file: y}", "`ca` and `ca_file`"),
            ("{url: 'https://a', tokenfile: y}", "token_file"),
        ] {
            let error = parse(&format!("hosts: {{a: {host}}}"), "hosts.yaml").expect_err(host);
            let said = format!("{error} {:?}", error.hint());
            assert!(said.contains(why), "{host}: {said}");
        }
        for near in ["http://127.0.0.1:1", "http://localhost", "http://[::1]:9616"] {
            parse(&format!("hosts: {{a: {{url: '{near}'}}}}"), "hosts.yaml").expect(near);
        }
    }
}
