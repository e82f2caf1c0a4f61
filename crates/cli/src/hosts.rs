//! Other machines: the user's file of hosts, and how each of them is reached.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use upkeep_api::client::{
    Client, ClientError,
    transport::{
        Identity, Program, Tcp, Trust,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use upkeep_model::{
    file::hosts::{Host, Hosts, parse},
    settings::Url,
};

use crate::exit::{Advised, Exit};

/// No token, key or list of hosts is longer.
const FILE_MAX: u64 = 1 << 20;

/// The user's own folder of configuration.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    let path = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    path("XDG_CONFIG_HOME")
        .or_else(|| path("HOME").map(|home| home.join(".config")))
        .map(|path| path.join("upkeep"))
        .context("failed to find the file of hosts: neither `XDG_CONFIG_HOME` nor `HOME` is set")
}

/// Where hosts stand.
pub(crate) fn file() -> anyhow::Result<PathBuf> {
    Ok(folder()?.join("hosts.yaml"))
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// All hosts; none if there is no file.
pub(crate) fn load() -> anyhow::Result<Hosts> {
    let path = file()?;
    let shown = path.display().to_string();
    match read(&path) {
        Ok(text) => Ok(parse(&text, &shown)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Hosts::default()),
        Err(error) => Err(error).context(format!("failed to read `{shown}`")),
    }
}

/// Writes them all down, whole or not at all. Comments of the file are lost.
pub(crate) fn store(hosts: &Hosts) -> anyhow::Result<()> {
    let path = file()?;
    let fail = || format!("failed to write `{}`", path.display());
    let folder = folder()?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(fail)?;
    let text = upkeep_model::file::to_yaml(&serde_json::to_value(hosts)?)?;
    let new = path.with_extension("yaml.new");
    // What a kill has left is of no use.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .with_context(fail)?;
    file.write_all(text.as_bytes()).with_context(fail)?;
    file.sync_all().with_context(fail)?;
    fs::rename(&new, &path).with_context(fail)
}

/// A machine that is to be asked instead of this one.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    /// What the user calls it.
    pub(crate) name: String,
    pub(crate) host: Host,
    /// What paths in it are relative to.
    folder: PathBuf,
}

/// What stands before the path of a socket, where a host is named.
const UNIX: &str = "unix:";

impl Remote {
    /// By its name in the file of hosts, or by the path of a socket (`unix:/run/upkeep/api.sock`).
    pub(crate) fn find(name: &str) -> anyhow::Result<Self> {
        if let Some(path) = name.strip_prefix(UNIX) {
            let host = Host {
                socket: Some(path.to_owned()),
                ..Host::default()
            };
            host.check().map_err(|why| {
                Advised::new(Exit::Usage, why).hint("for example `unix:/run/upkeep/api.sock`")
            })?;
            return Ok(Self {
                name: name.to_owned(),
                host,
                // It names no file.
                folder: PathBuf::new(),
            });
        }
        let mut hosts = load()?;
        let found = hosts.hosts.iter().find(|(key, _)| key.as_str() == name);
        let key = found.map(|(key, _)| key.clone());
        let Some(host) = key.and_then(|key| hosts.hosts.remove(&key)) else {
            let known: Vec<&str> = hosts.hosts.keys().map(|name| name.as_str()).collect();
            let hint = if known.is_empty() {
                "`upkeep host add NAME --ssh user@host`, `--url https://…` or `--socket PATH` adds one"
                    .to_owned()
            } else {
                format!("known are: {}", known.join(", "))
            };
            let text = format!("there is no host `{}`", name.escape_debug());
            return Err(Advised::new(Exit::NotFound, text).hint(hint).into());
        };
        Self::new(name, host)
    }

    pub(crate) fn new(name: &str, host: Host) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            host,
            folder: folder()?,
        })
    }

    /// How it is reached, for people.
    pub(crate) fn way(&self) -> String {
        match (&self.host.url, &self.host.socket, &self.host.ssh) {
            (Some(url), ..) => url.to_string(),
            (None, Some(socket), _) => format!("{UNIX}{socket}"),
            (None, None, ssh) => format!("ssh {}", ssh.as_deref().unwrap_or_default()),
        }
    }

    /// Connects. `start`: a daemon is started there if none runs (through ssh only).
    pub(crate) async fn connect(&self, start: bool) -> Result<Client, ClientError> {
        if let Some(socket) = &self.host.socket {
            // Whoever runs that daemon starts it.
            return Client::connect(Path::new(socket)).await;
        }
        let Some(url) = &self.host.url else {
            return Client::connect_through(&self.program(start)).await;
        };
        let untrusted = |why| ClientError::Untrusted {
            place: self.name.clone(),
            why,
        };
        let token = match &self.host.token_file {
            Some(file) => Some(self.secret(file).map_err(untrusted)?),
            None => None,
        };
        let tls = match url.parts() {
            ("https", _, _) => Some((
                self.trust().map_err(untrusted)?,
                self.identity().map_err(untrusted)?,
            )),
            _ => None,
        };
        let tcp = Tcp {
            tls,
            ..address(url).await?
        };
        Client::connect_tcp(tcp, token.as_deref()).await
    }

    fn program(&self, start: bool) -> Program {
        let mut command = vec!["ssh".to_owned()];
        // No terminal, and no tunnels of the user's own: several connections would fight for their ports.
        command.extend(["-T", "-o", "ClearAllForwardings=yes"].map(str::to_owned));
        command.extend(self.host.ssh_args.iter().cloned());
        let program = self.host.program.as_deref().unwrap_or("upkeep");
        let start = if start { " --start" } else { "" };
        command.extend([
            "--".to_owned(),
            self.host.ssh.clone().unwrap_or_default(),
            format!("{program} connect{start}"),
        ]);
        Program {
            place: format!("{} ({})", self.name, self.way()),
            command,
        }
    }

    fn trust(&self) -> Result<Trust, String> {
        if let Some(ca) = &self.host.ca {
            let pinned = upkeep_api::pem::parse_fingerprint(ca)
                .ok_or_else(|| format!("`ca` of the host `{}` is no hash `sha256:…`", self.name))?;
            return Ok(Trust::Pinned(pinned));
        }
        let Some(file) = &self.host.ca_file else {
            return Ok(Trust::System);
        };
        let path = self.folder.join(file);
        certificates(&path).map(Trust::Authorities)
    }

    fn identity(&self) -> Result<Option<Identity>, String> {
        let Some(file) = &self.host.cert_file else {
            return Ok(None);
        };
        let path = self.folder.join(file);
        let text = secret(&path)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| format!("there is no key in `{}`: {error}", path.display()))?;
        let chain = certificates(&path)?;
        Ok(Some(Identity { chain, key }))
    }

    fn secret(&self, file: &str) -> Result<String, String> {
        secret(&self.folder.join(file)).map(|text| text.trim().to_owned())
    }
}

/// Where a URL leads.
pub(crate) async fn address(url: &Url) -> Result<Tcp, ClientError> {
    let (_, authority, _) = url.parts();
    let unreachable = |source| ClientError::Unreachable {
        place: authority.to_owned(),
        source,
    };
    let (host, port) = url
        .address()
        .map_err(|why| unreachable(std::io::Error::other(why)))?;
    let name = host.to_owned();
    let addresses = tokio::task::spawn_blocking(move || upkeep_host::names::resolve(&name, port))
        .await
        .map_err(std::io::Error::other)
        .and_then(|found| found)
        .map_err(unreachable)?;
    Ok(Tcp {
        authority: authority.to_owned(),
        host: host.to_owned(),
        addresses,
        tls: None,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let text = read(path).map_err(|error| format!("failed to read `{shown}`: {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("there is no certificate in `{shown}`")),
        Err(error) => Err(format!("failed to read `{shown}`: {error}")),
    }
}

/// A file that only its owner may read.
fn secret(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let fail = |error: std::io::Error| format!("failed to read `{shown}`: {error}");
    let metadata = fs::metadata(path).map_err(fail)?;
    if !metadata.is_file() {
        return Err(format!("`{shown}` is no file"));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "`{shown}` holds a secret, and others than its owner may read or write it (mode {mode:o}): `chmod 600 {shown}`"
        ));
    }
    read(path).map_err(fail)
}
