//! Our own small authority: a key, a certificate, and what it issues. Files with keys have mode 0600.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use upkeep_api::pem;

use super::der;

pub(super) const DAY: i64 = 24 * 3600;
/// How long the authority holds.
const AUTHORITY_DAYS: i64 = 3650;
/// How long a certificate of the listener holds.
const SERVER_DAYS: i64 = 90;
/// Certificates begin this long before they are made: clocks of machines differ.
const SLACK: i64 = 2 * DAY;

/// Where keys and certificates are.
#[derive(Clone, Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Has the disk hold names that were changed until now before any that are changed later.
    pub(crate) fn settle(&self) -> Result<(), String> {
        fs::File::open(&self.0)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| format!("failed to write `{}`: {error}", self.0.display()))
    }

    fn make(&self) -> Result<(), String> {
        match fs::DirBuilder::new().mode(0o700).create(&self.0) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(format!("failed to make `{}`: {error}", self.0.display())),
        }
    }

    /// Writes a file whole or not at all; only its owner can read it.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.path(name);
        let fail = |error: std::io::Error| format!("failed to write `{}`: {error}", path.display());
        fs::rename(self.prepare(name, text)?, &path).map_err(fail)
    }

    /// The same, unless there is such a file: whether it was written.
    pub(crate) fn write_first(&self, name: &str, text: &str) -> Result<bool, String> {
        let path = self.path(name);
        let new = self.prepare(name, text)?;
        let linked = fs::hard_link(&new, &path);
        // A name that stays is removed before the next is made.
        let _ = fs::remove_file(&new);
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(format!("failed to write `{}`: {error}", path.display())),
        }
    }

    /// A file under another name, which holds a text and is on the disk.
    fn prepare(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let new = self.path(&format!("{name}.new"));
        let fail = |error: std::io::Error| format!("failed to write `{}`: {error}", new.display());
        // What a kill has left may have another mode.
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(fail)?;
        file.write_all(text.as_bytes()).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        Ok(new)
    }
}

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivatePkcs8KeyDer<'static>,
    pub(super) facts: der::Facts,
}

impl Pair {
    /// Reads both files; `None`: there is no certificate. Two files are not written as one: a kill between them leaves
    /// a new key beside an old certificate, which is refused here.
    fn read(folder: &Folder, name: &str) -> Result<Option<Self>, String> {
        let path = folder.path(&format!("{name}.pem"));
        let fail = |why: &str| format!("failed to read `{}`: {why}", path.display());
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(&error.to_string())),
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|error| fail(&error.to_string()))?;
        let first = chain
            .first()
            .ok_or_else(|| fail("there is no certificate in it"))?;
        let facts = der::read(first).ok_or_else(|| fail("that is no certificate"))?;
        let key = folder.path(&format!("{name}.key"));
        let key = PrivatePkcs8KeyDer::from_pem_file(&key)
            .map_err(|error| format!("failed to read `{}`: {error}", key.display()))?;
        if !fits(&chain, &key) {
            return Err(fail("the key beside it is that of another certificate"));
        }
        Ok(Some(Self { chain, key, facts }))
    }

    fn write(&self, folder: &Folder, name: &str) -> Result<(), String> {
        let chain: String = self
            .chain
            .iter()
            .map(|der| pem::encode("CERTIFICATE", der))
            .collect();
        let key = pem::encode("PRIVATE KEY", self.key.secret_pkcs8_der());
        // The key first: a certificate without its key would look whole.
        folder.write(&format!("{name}.key"), &key)?;
        folder.settle()?;
        folder.write(&format!("{name}.pem"), &chain)?;
        folder.settle()
    }
}

/// Whether a key is the one that the first certificate of a chain was made for.
fn fits(chain: &[CertificateDer<'static>], key: &PrivatePkcs8KeyDer<'static>) -> bool {
    let key = PrivateKeyDer::Pkcs8(key.clone_key());
    rustls::crypto::ring::sign::any_supported_type(&key)
        .is_ok_and(|key| CertifiedKey::new(chain.to_vec(), key).keys_match().is_ok())
}

/// Both in Unix seconds.
fn set_times(params: &mut CertificateParams, from: i64, until: i64) {
    let begin = rcgen::date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| begin + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    params.not_before = at(from);
    params.not_after = at(until);
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "the kernel gives no random numbers".to_owned())?;
    Ok(bytes)
}

fn named(name: &str) -> DistinguishedName {
    let mut list = DistinguishedName::new();
    list.push(DnType::CommonName, name);
    list
}

fn failed(what: &str) -> impl Fn(rcgen::Error) -> String + '_ {
    move |error| format!("failed to make {what}: {error}")
}

/// The authority. Its private key is read from its file whenever something is to be signed.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) facts: der::Facts,
    key: KeyPair,
}

/// The public half of a key that somebody else has.
struct Point<'a>(&'a [u8]);

impl PublicKeyData for Point<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A certificate of somebody who calls.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) der: CertificateDer<'static>,
    pub(super) facts: der::Facts,
}

impl Authority {
    /// The one of this folder, if there is one.
    pub(super) fn read(folder: &Folder) -> Result<Option<Self>, String> {
        let Some(pair) = Pair::read(folder, "authority")? else {
            return Ok(None);
        };
        let key = KeyPair::try_from(&pair.key).map_err(|error| {
            format!(
                "failed to read `{}`: {error}",
                folder.path("authority.key").display()
            )
        })?;
        let mut chain = pair.chain;
        Ok(Some(Self {
            certificate: chain.swap_remove(0),
            facts: pair.facts,
            key,
        }))
    }

    /// Makes one and writes it down. `host`: the name of this machine; `now`: Unix seconds.
    pub(super) fn make(folder: &Folder, host: &str, now: i64) -> Result<Self, String> {
        let made = Self::new(host, now)?;
        folder.make()?;
        let pair = Pair {
            chain: vec![made.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(made.key.serialize_der()),
            facts: made.facts.clone(),
        };
        pair.write(folder, "authority")?;
        Ok(made)
    }

    /// Makes one that is nowhere but in memory.
    pub(super) fn new(host: &str, now: i64) -> Result<Self, String> {
        let failed = failed("the authority");
        let key = KeyPair::generate().map_err(&failed)?;
        let mut params = CertificateParams::default();
        // Two authorities of one name would be taken for each other.
        let name = format!("Upkeep {host} {}", upkeep_model::hex::hex(&random::<4>()?));
        params.distinguished_name = named(&name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_times(&mut params, now - SLACK, now + AUTHORITY_DAYS * DAY);
        let made = params.self_signed(&key).map_err(&failed)?;
        let facts = der::read(made.der()).ok_or("the authority that was made cannot be read")?;
        Ok(Self {
            certificate: made.der().clone(),
            facts,
            key,
        })
    }

    fn issuer(&self) -> (CertificateParams, &KeyPair) {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&self.facts.name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params, &self.key)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        (now, until): (i64, i64),
    ) -> Result<Issued, String> {
        let failed = failed("a certificate");
        let until = until.min(self.facts.not_after);
        if until <= now {
            return Err("the authority itself has ended: remove its files and make another".to_owned());
        }
        set_times(&mut params, (now - SLACK).max(self.facts.not_before), until);
        let mut serial = random::<16>()?;
        // Positive, and as long as all others.
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let (own, own_key) = self.issuer();
        let issuer = Issuer::from_params(&own, own_key);
        let made = params.signed_by(key, &issuer).map_err(&failed)?;
        let facts = der::read(made.der()).ok_or("the certificate that was made cannot be read")?;
        Ok(Issued {
            der: made.der().clone(),
            facts,
        })
    }

    /// Makes a certificate for the listener and writes it down.
    pub(super) fn issue_server(&self, folder: &Folder, names: &[String], now: i64) -> Result<Pair, String> {
        let failed = failed("the certificate of the listener");
        let key = KeyPair::generate().map_err(&failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(names.first().map_or("upkeep", String::as_str));
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(&failed)?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issued = self.sign(params, &key, (now, now + SERVER_DAYS * DAY))?;
        let pair = Pair {
            // The authority goes with it: clients that pin its hash find it there.
            chain: vec![issued.der, self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            facts: issued.facts,
        };
        pair.write(folder, "server")?;
        Ok(pair)
    }

    /// Makes a certificate for somebody who calls. `point`: the public key; `until`: Unix seconds.
    pub(super) fn issue_client(
        &self,
        name: &str,
        point: &[u8],
        (now, until): (i64, i64),
    ) -> Result<Issued, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, &Point(point), (now, until))
    }
}

/// The certificate of the listener as it is on disk. One that cannot be read is as good as none.
pub(super) fn server(folder: &Folder) -> Option<Pair> {
    Pair::read(folder, "server").ok().flatten()
}

/// When a certificate is due to be renewed: at the last third of its time. Unix seconds.
pub(super) fn due_at(facts: &der::Facts) -> i64 {
    facts.not_after - (facts.not_after - facts.not_before) / 3
}

/// Whether it is time for another one: it ends soon, the clock was set back before its beginning, or it lacks a name.
pub(super) fn is_due(facts: &der::Facts, names: &[String], now: i64) -> bool {
    now >= due_at(facts) || now < facts.not_before || names.iter().any(|name| !facts.names.contains(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const NOW: i64 = 1_795_000_000;

    fn folder() -> (tempfile::TempDir, Folder) {
        let home = tempfile::tempdir().expect("a directory");
        let folder = Folder(home.path().join("tls"));
        (home, folder)
    }

    #[test]
    fn an_authority_comes_back_from_its_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_home, folder) = folder();
        assert!(Authority::read(&folder).expect("nothing is there").is_none());
        let made = Authority::make(&folder, "web1", NOW).expect("an authority");
        assert!(made.facts.name.starts_with("Upkeep web1 "), "{:?}", made.facts);
        let read = Authority::read(&folder)
            .expect("it is whole")
            .expect("it is there");
        assert_eq!(read.facts, made.facts);
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode(&folder.path("authority.key")) & 0o777, 0o600);
        assert_eq!(mode(&folder.0) & 0o777, 0o700);
    }

    #[test]
    fn certificates_say_what_they_were_made_for() {
        let (_home, folder) = folder();
        let authority = Authority::make(&folder, "web1", NOW).expect("an authority");
        let names: Vec<String> = ["web1.example.org", "127.0.0.1", "::1"].map(str::to_owned).into();
        let server = authority
            .issue_server(&folder, &names, NOW)
            .expect("a certificate");
        assert_eq!(server.facts.names, names);
        assert_eq!(server.facts.not_after, NOW + SERVER_DAYS * DAY);
        assert_eq!(server.chain.len(), 2);
        let again = super::server(&folder).expect("it is on disk");
        assert_eq!(again.facts, server.facts);
        let key = KeyPair::generate().expect("a key");
        let client = authority
            .issue_client("laptop", key.public_key_raw(), (NOW, NOW + 30 * DAY))
            .expect("a certificate");
        assert_eq!(client.facts.name, "laptop");
        assert_eq!(client.facts.serial.len(), 32);
        assert_eq!(client.facts.not_after, NOW + 30 * DAY);
    }

    #[test]
    fn a_key_beside_another_certificate_is_no_pair() {
        let (_home, folder) = folder();
        let authority = Authority::make(&folder, "web1", NOW).expect("an authority");
        let names = ["web1".to_owned()];
        authority
            .issue_server(&folder, &names, NOW)
            .expect("a certificate");
        let old = fs::read(folder.path("server.pem")).expect("it is there");
        let new = authority
            .issue_server(&folder, &names, NOW)
            .expect("a certificate");
        let read = super::server(&folder).expect("it is whole");
        assert_eq!(read.facts, new.facts);
        // As a kill leaves it between the two files.
        fs::write(folder.path("server.pem"), old).expect("our own");
        assert!(super::server(&folder).is_none());
        let own = fs::read(folder.path("server.key")).expect("it is there");
        fs::write(folder.path("authority.key"), own).expect("our own");
        let why = Authority::read(&folder).expect_err("a foreign key");
        assert!(why.contains("that of another certificate"), "{why}");
    }

    #[test]
    fn renewal_is_due_before_the_end_and_after_a_jump_of_the_clock() {
        let facts = der::Facts {
            serial: String::new(),
            name: String::new(),
            not_before: NOW,
            not_after: NOW + 90 * DAY,
            names: vec!["a".to_owned()],
        };
        let a = ["a".to_owned()];
        assert_eq!(due_at(&facts), NOW + 60 * DAY);
        assert!(!is_due(&facts, &a, NOW + 59 * DAY));
        assert!(is_due(&facts, &a, NOW + 60 * DAY));
        assert!(is_due(&facts, &a, NOW + 900 * DAY));
        assert!(is_due(&facts, &a, NOW - 1));
        assert!(is_due(&facts, &["b".to_owned()], NOW));
    }
}
