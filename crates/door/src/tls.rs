//! TLS before the door, by rustls.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

/// What tells one state of a file from another: inode, length, time of the last change.
type Stamp = Option<(u64, u64, SystemTime)>;

/// A certificate with its key, and where they come from.
pub(crate) struct Keys {
    cert: PathBuf,
    key: PathBuf,
    acceptor: TlsAcceptor,
    /// What the files looked like when they were read.
    read: [Stamp; 2],
    /// What they looked like at the last look.
    seen: [Stamp; 2],
}

impl Keys {
    /// Reads both files.
    pub(crate) fn new(cert: PathBuf, key: PathBuf) -> Result<Self, String> {
        // Before they are read: what changes in between is seen later.
        let read = [stamp(&cert), stamp(&key)];
        let acceptor = acceptor(&cert, &key)?;
        Ok(Self {
            cert,
            key,
            acceptor,
            read,
            seen: read,
        })
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Reads them again if they have changed, and have stayed so since the look before: a certificate and its key are
    /// seldom written in the same moment. If they do not load, the old ones stay, and the reason is given once.
    pub(crate) fn look(&mut self) -> Option<Result<(), String>> {
        let now = [stamp(&self.cert), stamp(&self.key)];
        if std::mem::replace(&mut self.seen, now) != now || self.read == now {
            return None;
        }
        self.read = now;
        Some(acceptor(&self.cert, &self.key).map(|acceptor| self.acceptor = acceptor))
    }
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.len(), file.modified().ok()?))
}

/// Makes the acceptor of a certificate chain and its key.
fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let failed = |path: &Path, why: String| format!("failed to read `{}`: {why}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| failed(cert, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| failed(cert, format!("it does not fit the key: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
