//! Opening the store that the settings name: the file of this machine, or etcd.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use upkeep_api::error::Code;
use upkeep_config::{
    Config, ConfigError, migrate,
    seal::{Identity, Recipient},
};
use upkeep_etcd::{Etcd, Login, Password, Pem, Tls};
use upkeep_model::settings::{EtcdStore, SharedConfig};
use upkeep_store::kv::{
    Kv, Reason,
    embedded::{Embedded, Options},
};

use super::{key, refusal};
use crate::{certs::Folder, command::Refusal, events};

/// The configuration, as it was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) config: Config,
    /// Who this machine is as a recipient.
    pub(crate) machine: Recipient,
    /// Where it is, as the settings say it.
    pub(crate) at: SharedConfig,
    /// The cluster, if it is one.
    pub(crate) etcd: Option<Etcd>,
}

/// How etcd is reached with these settings.
pub(super) fn etcd(at: &EtcdStore) -> Result<Etcd, Refusal> {
    let pem = |path: &str| Pem::File(PathBuf::from(path));
    let tls = at.ca_file.as_deref().map(|authority| Tls {
        authority: pem(authority),
        identity: at
            .cert_file
            .as_deref()
            .zip(at.key_file.as_deref())
            .map(|(certificate, key)| (pem(certificate), pem(key))),
        server_name: at.server_name.as_ref().map(|name| name.as_str().to_owned()),
    });
    let login = at.user.as_ref().zip(at.password_file.as_deref());
    let config = upkeep_etcd::Config {
        endpoints: at.endpoints.iter().map(|url| url.as_str().to_owned()).collect(),
        root: at.prefix().to_owned(),
        tls,
        login: login.map(|(user, file)| Login {
            user: user.clone(),
            password: Password::File(PathBuf::from(file)),
        }),
        max_txn_ops: at.max_txn_ops() as usize,
        ..upkeep_etcd::Config::default()
    };
    Etcd::new(config).map_err(|error| {
        Refusal::new(Code::Unavailable, error.to_string())
            .hint("`upkeep settings` shows how etcd is reached (`config.etcd`)")
    })
}

fn unavailable(why: &str) -> Refusal {
    Refusal::new(
        Code::Unavailable,
        format!("failed to open the shared configuration: {why}"),
    )
    .hint("is the disk full or read-only? `df -h` on the state directory tells")
}

/// This machine as a recipient, called as the settings want it.
pub(super) fn identity(folder: &Folder, at: &SharedConfig) -> Result<Identity, String> {
    let identity = key::load(folder)?;
    Ok(match &at.machine {
        Some(name) => Identity::from_bytes(format!("machine:{name}"), *identity.to_bytes()),
        None => identity,
    })
}

/// The backend that the settings name, and this machine's key.
pub(super) async fn backend(
    file: &Path,
    folder: &Folder,
    at: &SharedConfig,
) -> Result<(Arc<dyn Kv>, Option<Etcd>, Identity), Refusal> {
    let (file, folder, wanted) = (file.to_owned(), folder.clone(), at.clone());
    // Disks may be slow.
    let (kv, identity) = tokio::task::spawn_blocking(move || {
        let identity = identity(&folder, &wanted)?;
        if wanted.etcd.is_some() {
            return Ok((None, identity));
        }
        let kv = Embedded::open(&file, Options::default()).map_err(|error| error.to_string())?;
        Ok::<_, String>((Some(kv), identity))
    })
    .await
    .map_err(|error| unavailable(&error.to_string()))?
    .map_err(|why| unavailable(&why))?;
    match (kv, &at.etcd) {
        (Some(kv), _) => Ok((Arc::new(kv), None, identity)),
        (None, at) => {
            let at = at.as_ref().ok_or_else(|| unavailable("there is no store"))?;
            let etcd = etcd(at)?;
            Ok((Arc::new(etcd.clone()), Some(etcd), identity))
        }
    }
}

/// Why it was not opened.
pub(super) enum Failed {
    /// Everything was moved away: the migration's name.
    Moved(String, Refusal),
    Other(Refusal),
}

/// Opens it.
pub(super) async fn open(file: &Path, folder: &Folder, at: SharedConfig) -> Result<Opened, Failed> {
    let (kv, etcd, identity) = backend(file, folder, &at).await.map_err(Failed::Other)?;
    let machine = identity.recipient();
    let wrong = |error: ConfigError| match &error {
        ConfigError::Moved { id, .. } => Failed::Moved(id.clone(), refusal(error)),
        _ => Failed::Other(refusal(error)),
    };
    if etcd.is_none() {
        migrate::let_go(&kv).await.map_err(wrong)?;
    }
    let mut config = Config::open(kv, vec![identity], events::now)
        .await
        .map_err(wrong)?
        .with_blocking(super::blocking());
    if etcd.is_some() {
        let grant = match config.machine_grant(&machine.name).await {
            Ok(grant) => grant,
            // A user that Upkeep did not make may see even less; what it may is found out when it is used.
            Err(ConfigError::Store(error)) if matches!(error.reason, Reason::Denied(_)) => None,
            Err(error) => return Err(wrong(error)),
        };
        config = config.shared();
        if let Some(grant) = grant {
            config = config.within(grant.places);
        }
    }
    Ok(Opened {
        config,
        machine,
        at,
        etcd,
    })
}
