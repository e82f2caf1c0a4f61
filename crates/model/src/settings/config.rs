//! Settings of the shared configuration: where it is kept, and who this machine is there.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Url, as_text, web::HostName};
use crate::size::{ByteSize, Span};

/// The shared configuration. Default: a file of this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map with `machine`, `etcd` and `file`"
)]
pub struct SharedConfig {
    /// What this machine is called as a recipient of secrets: `machine:NAME`. Default: its host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineName>,
    /// The etcd cluster that holds it. Default: a file of this machine holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdStore>,
    /// How the file of this machine is looked after, where that holds it.
    #[serde(skip_serializing_if = "FileStore::is_default")]
    pub file: FileStore,
}

/// How the file of this machine is looked after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map with `keep_for` and `keep_revisions`"
)]
pub struct FileStore {
    /// How long it keeps revisions that were superseded, 10m to 365d: so long a watch can go on from before. Default: 1h. The
    /// history of values is kept apart from that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_for: Option<Span>,
    /// How many revisions it keeps at most, 100 and more. Default: 100000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_revisions: Option<u64>,
}

impl FileStore {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long superseded revisions are kept.
    pub fn keep_for(&self) -> Span {
        self.keep_for.unwrap_or(Span::from_secs(3600))
    }

    /// How many revisions are kept.
    pub fn keep_revisions(&self) -> u64 {
        self.keep_revisions.unwrap_or(100_000)
    }
}

/// An etcd cluster (3.4 or newer), and how it lets this machine in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map of `endpoints`, `prefix`, `ca_file`, `cert_file`, `key_file`, `server_name`, `user`, \
                 `password_file`, `care`, `keep_for`, `keep_revisions`, `quota` and `max_txn_ops`"
)]
pub struct EtcdStore {
    /// Its members, such as `https://10.0.0.1:2379`: one, or better all.
    #[schemars(length(min = 1, max = 16))]
    pub endpoints: Vec<Url>,
    /// What every key begins with there, so that others can use the cluster, too. Default: `/upkeep/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Prefix>,
    /// File with the certificate (PEM) of who vouches for the members. Needed for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// File with the certificate (PEM) that is shown to etcd; its common name can be the user there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    /// File with its private key (PEM). Only its owner may be able to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// The name in the members' certificates, where it is not the host of the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<HostName>,
    /// The user at etcd, where it asks for users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub user: Option<String>,
    /// File with the user's password. Only its owner may be able to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// `false`: this machine neither compacts nor defragments the cluster. Default: it does, if no other machine does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub care: Option<bool>,
    /// How long the cluster keeps revisions that were superseded, 10m to 365d. Default: 1d. The history of values is kept apart
    /// from that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_for: Option<Span>,
    /// How many revisions it keeps at most, 100 and more. Default: 100000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_revisions: Option<u64>,
    /// What each member may take on its disk (`--quota-backend-bytes`), for etcd before 3.6, which does not tell. Default: 2G.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<ByteSize>,
    /// How many steps every member takes in one transaction, where that was raised (`--max-txn-ops`), 128 to 100000: a change of one value
    /// needs two, so half as many values can be imported, deleted or rolled back at once. Default: 128, etcd's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 128, max = 100_000))]
    pub max_txn_ops: Option<u32>,
}

/// What etcd takes for a quota where nothing is said.
const QUOTA: ByteSize = ByteSize::from_bytes(2 << 30);

/// What etcd takes in one transaction where nothing is said.
pub(super) const TXN_OPS: u32 = 128;

impl EtcdStore {
    /// What every key begins with.
    pub fn prefix(&self) -> &str {
        self.prefix.as_ref().map_or("/upkeep/", Prefix::as_str)
    }

    /// How long superseded revisions are kept.
    pub fn keep_for(&self) -> Span {
        self.keep_for.unwrap_or(Span::from_secs(24 * 3600))
    }

    /// How many revisions are kept.
    pub fn keep_revisions(&self) -> u64 {
        self.keep_revisions.unwrap_or(100_000)
    }

    /// What each member may take, where it does not tell itself.
    pub fn quota(&self) -> u64 {
        self.quota.unwrap_or(QUOTA).as_bytes()
    }

    /// How many steps a transaction may have.
    pub fn max_txn_ops(&self) -> u32 {
        self.max_txn_ops.unwrap_or(TXN_OPS)
    }

    /// Every path of a file, and whether that file holds a secret.
    pub fn files_mut(&mut self) -> Vec<(&mut String, bool)> {
        let mut files = Vec::new();
        files.extend(self.ca_file.as_mut().map(|file| (file, false)));
        files.extend(self.cert_file.as_mut().map(|file| (file, false)));
        files.extend(self.key_file.as_mut().map(|file| (file, true)));
        files.extend(self.password_file.as_mut().map(|file| (file, true)));
        files
    }

    /// In words, for people: where it is.
    pub fn place(&self) -> String {
        let endpoints: Vec<&str> = self.endpoints.iter().map(Url::as_str).collect();
        format!("etcd at {} below `{}`", endpoints.join(", "), self.prefix())
    }
}

/// What keys begin with: ends with a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

const WANTED_PREFIX: &str = "what keys begin with, such as `/upkeep/`: up to 200 letters, digits and `/`, `-`, `_`, `.`, with a slash at the end";

impl Prefix {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        if text.ends_with('/') && text.len() <= 200 && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{}` is not {WANTED_PREFIX}", text.escape_debug()))
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(Prefix, "Prefix", WANTED_PREFIX);

/// What a machine is called among those that share configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(String);

const WANTED_MACHINE: &str =
    "a name of a machine, such as `web1`: up to 63 letters, digits and `-`, `_`, `.`";

impl MachineName {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MachineName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = (1..=63).contains(&text.len()) && text.bytes().all(fits);
        if is_name && !text.starts_with('.') {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{}` is not {WANTED_MACHINE}", text.escape_debug()))
        }
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(MachineName, "MachineName", WANTED_MACHINE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_names_are_what_etcd_and_people_can_tell_apart() {
        for good in ["/upkeep/", "/", "shop/prod/", "/a-b_c.d/"] {
            assert_eq!(good.parse::<Prefix>().expect(good).as_str(), good);
        }
        for bad in [
            "",
            "/upkeep",
            "/up keep/",
            "/\u{0}/",
            "/ü/",
            &format!("{}/", "a".repeat(200)),
        ] {
            bad.parse::<Prefix>().expect_err(bad);
        }
        for good in ["web1", "db-2.example.org", "A_b"] {
            assert_eq!(good.parse::<MachineName>().expect(good).as_str(), good);
        }
        for bad in ["", "a/b", "machine:x", ".a", "a b", &"a".repeat(64)] {
            bad.parse::<MachineName>().expect_err(bad);
        }
    }

    #[test]
    fn what_cannot_work_with_etcd_is_refused_where_it_stands() {
        let start = "settings.yaml:1:";
        for (etcd, wanted) in [
            ("endpoints: []", "config.etcd.endpoints"),
            ("endpoints: ['http://h:2379/x']", "config.etcd.endpoints.0"),
            (
                "endpoints: ['http://h:1', 'http://h:1']",
                "config.etcd.endpoints.1",
            ),
            ("endpoints: ['https://h:2379']", "config.etcd.ca_file"),
            (
                "endpoints: ['http://h:2379'], ca_file: /ca",
                "config.etcd.endpoints",
            ),
            (
                "endpoints: ['https://h:2379'], ca_file: /ca, cert_file: /c",
                "config.etcd.cert_file",
            ),
            ("endpoints: ['http://127.0.0.1:1'], user: a", "config.etcd.user"),
            (
                "endpoints: ['http://127.0.0.1:1'], max_txn_ops: 127",
                "config.etcd.max_txn_ops",
            ),
            (
                "endpoints: ['http://10.0.0.1:1'], user: a, password_file: /p",
                "config.etcd.endpoints.0",
            ),
            (
                "endpoints: ['http://h:1'], prefix: /x",
                "is not what keys begin with",
            ),
        ] {
            let text = format!("config: {{etcd: {{{etcd}}}}}");
            let error = crate::file::settings::parse(&text, "settings.yaml").expect_err(etcd);
            let error = error.to_string();
            assert!(
                error.starts_with(start) && error.contains(wanted),
                "{etcd}: {error}"
            );
        }
        let text = "config: {machine: web1, etcd: {endpoints: ['https://10.0.0.1:2379'], ca_file: /ca, user: a, \
                    password_file: /p}}";
        let mut settings = crate::file::settings::parse(text, "settings.yaml").expect("it is right");
        let files: Vec<(String, bool)> = settings
            .files_mut()
            .into_iter()
            .map(|(file, secret)| (file.clone(), secret))
            .collect();
        assert_eq!(files, [("/ca".to_owned(), false), ("/p".to_owned(), true)]);
        let etcd = settings.config.etcd.expect("it is there");
        assert_eq!(etcd.place(), "etcd at https://10.0.0.1:2379 below `/upkeep/`");
    }

    #[test]
    fn how_the_file_is_looked_after_has_bounds() {
        let parse = |file: &str| {
            let text = format!("config: {{file: {{{file}}}}}");
            crate::file::settings::parse(&text, "settings.yaml")
        };
        for (file, wanted) in [
            ("keep_for: 1m", "config.file.keep_for"),
            ("keep_for: 400d", "config.file.keep_for"),
            ("keep_revisions: 99", "config.file.keep_revisions"),
            ("keep: 1", "config.file"),
        ] {
            let error = parse(file).expect_err(file).to_string();
            assert!(error.contains(wanted), "{file}: {error}");
        }
        let file = parse("keep_for: 1d").expect("it is right").config.file;
        assert_eq!(
            (file.keep_for(), file.keep_revisions()),
            (Span::from_secs(86_400), 100_000)
        );
    }
}
