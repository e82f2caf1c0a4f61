//! TLS of the listener, by rustls: 1.2 and 1.3, and certificates of our own authority for those who have one.
//!
//! Sessions are not resumed: a resumed one would not ask for the certificate again, and so would outlive a revocation.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

/// Whose certificate that is, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) name: String,
    /// Unix seconds.
    pub(crate) not_after: i64,
}

/// Every certificate that was issued and is not revoked, by its hash.
#[derive(Debug, Default)]
pub(super) struct Holders(RwLock<HashMap<String, Holder>>);

impl Holders {
    pub(super) fn replace(&self, holders: HashMap<String, Holder>) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = holders;
    }

    /// Whose it is, if it holds now.
    pub(super) fn get(&self, fingerprint: &str, now: i64) -> Option<Holder> {
        let holders = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let holder = holders.get(fingerprint)?;
        (now < holder.not_after).then(|| holder.clone())
    }

    fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        let holders = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        holders.contains_key(&upkeep_api::pem::fingerprint(certificate))
    }
}

/// Signatures and times are checked by webpki; then it must be one that was issued here and is not revoked.
#[derive(Debug)]
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    holders: Arc<Holders>,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        // Others have tokens.
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(certificate, intermediates, now)?;
        if self.holders.contains(certificate) {
            Ok(verified)
        } else {
            Err(CertificateError::Revoked.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn verifier(
    authority: &CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
    holders: &Arc<Holders>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(|error| error.to_string())?;
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(Verifier {
        inner,
        holders: Arc::clone(holders),
    }))
}

/// What the listener speaks with this certificate. `authority`: of those who have certificates themselves.
pub(super) fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authority: Option<&CertificateDer<'static>>,
    holders: &Arc<Holders>,
) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?;
    let builder = match authority {
        Some(authority) => builder.with_client_cert_verifier(verifier(authority, &provider, holders)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("the certificate does not fit its key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
