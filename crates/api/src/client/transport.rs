//! The ways to a daemon: its unix socket, TCP with TLS, and the input and output of a program such as ssh.

use std::{
    net::SocketAddr,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader},
    net::{TcpStream, UnixStream},
    process::{Child, Command},
    time::timeout,
};

use super::ClientError;
use crate::pem;

/// Certificates and keys, as rustls has them.
pub use rustls::pki_types;

/// How long a machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a program may take to get through: somebody may have to type a password.
const PROGRAM_PATIENCE: Duration = Duration::from_mins(2);
/// What `upkeep connect` says first: whatever a shell prints before is passed over.
pub const GREETING: &str = "upkeep-connect 1";
/// So much is passed over at most.
const NOISE_MAX: u64 = 64 << 10;

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Of the authorities that this machine trusts.
    System,
    /// Of these authorities.
    Authorities(Vec<CertificateDer<'static>>),
    /// Of the authority whose certificate has this hash ([`pem::fingerprint`]) and is shown with the other one.
    Pinned(String),
}

/// A certificate of our own with its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, and those between it and the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// A daemon that listens on TCP.
#[derive(Debug)]
pub struct Tcp {
    /// Name or address that it is asked by, with the port if it is not the usual one.
    pub authority: String,
    /// The same without the port: what its certificate has to say.
    pub host: String,
    /// Where that is.
    pub addresses: Vec<SocketAddr>,
    /// `None`: without TLS.
    pub tls: Option<(Trust, Option<Identity>)>,
}

/// A program that leads to a daemon.
#[derive(Clone, Debug)]
pub struct Program {
    /// What is at the other end, for messages.
    pub place: String,
    /// Program and arguments.
    pub command: Vec<String>,
}

pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Longest path that fits into `sun_path`.
const SUN_PATH_MAX: usize = 107;

/// Connects to a socket whose path may be longer than the kernel's limit: then by way of its directory's descriptor.
async fn short(path: &Path) -> std::io::Result<UnixStream> {
    if path.as_os_str().len() <= SUN_PATH_MAX {
        return UnixStream::connect(path).await;
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let handle = std::fs::File::open(directory)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd())).join(name);
    UnixStream::connect(short).await
}

/// Connects to a socket of this machine, within two seconds.
pub async fn unix(socket: &Path) -> Result<UnixStream, ClientError> {
    let unreachable = |source| ClientError::Unreachable {
        place: socket.display().to_string(),
        source,
    };
    timeout(Duration::from_secs(2), short(socket))
        .await
        .map_err(|_| unreachable(std::io::ErrorKind::TimedOut.into()))?
        .map_err(unreachable)
}

/// Believes in one authority, known by its hash.
#[derive(Debug)]
struct Pin {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
    /// What was shown instead.
    shown: Arc<Mutex<Option<String>>>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let last = others.last().unwrap_or(certificate);
        let pinned = others
            .iter()
            .find(|one| pem::fingerprint(one) == self.fingerprint);
        let Some(authority) = pinned else {
            let mut shown = self
                .shown
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            *shown = Some(pem::fingerprint(last));
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        inner.verify_server_cert(certificate, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn roots(trust: &Trust) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::System => {
            // What cannot be read is said below, if nothing can.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("no authority is trusted on this machine: pin one".to_owned());
            }
        }
        Trust::Authorities(authorities) => {
            for authority in authorities {
                roots.add(authority.clone()).map_err(|error| error.to_string())?;
            }
        }
        Trust::Pinned(_) => {}
    }
    Ok(roots)
}

type Shown = Arc<Mutex<Option<String>>>;

fn config(trust: &Trust, identity: Option<Identity>) -> Result<(ClientConfig, Shown), String> {
    let shown = Shown::default();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?;
    let builder = match trust {
        Trust::Pinned(fingerprint) => {
            let pin = Pin {
                fingerprint: fingerprint.clone(),
                provider,
                shown: Arc::clone(&shown),
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(pin))
        }
        trust => builder.with_root_certificates(roots(trust)?),
    };
    let config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain, identity.key)
            .map_err(|error| format!("our own certificate cannot be used: {error}"))?,
        None => builder.with_no_client_auth(),
    };
    Ok((config, shown))
}

/// Connects over TCP, with TLS if that is asked for.
pub(super) async fn tcp(tcp: Tcp) -> Result<Box<dyn Wire>, ClientError> {
    let place = tcp.authority.clone();
    let unreachable = |source| ClientError::Unreachable {
        place: place.clone(),
        source,
    };
    let stream = timeout(PATIENCE, TcpStream::connect(tcp.addresses.as_slice()))
        .await
        .map_err(|_| unreachable(std::io::ErrorKind::TimedOut.into()))?
        .map_err(unreachable)?;
    // Small questions are sent at once; if that cannot be had, they are still sent.
    let _ = stream.set_nodelay(true);
    let Some((trust, identity)) = tcp.tls else {
        return Ok(Box::new(stream));
    };
    let untrusted = |why: String| ClientError::Untrusted {
        place: place.clone(),
        why,
    };
    let (config, shown) = config(&trust, identity).map_err(untrusted)?;
    let name = ServerName::try_from(tcp.host.clone())
        .map_err(|_| untrusted(format!("`{}` is no name of a host", tcp.host)))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = timeout(PATIENCE, connector.connect(name, stream))
        .await
        .map_err(|_| unreachable(std::io::ErrorKind::TimedOut.into()))?;
    match stream {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            let is_of_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            if !is_of_tls {
                return Err(unreachable(error));
            }
            let shown = shown
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
            Err(untrusted(match shown {
                Some(shown) => format!("{error}: its authority is {shown}, which is not the pinned one"),
                None => error.to_string(),
            }))
        }
    }
}

/// The hash of the authority that a daemon shows, believed by nobody yet.
pub async fn show_authority(address: Tcp) -> Result<String, ClientError> {
    let place = address.authority.clone();
    // No certificate has this hash.
    let nobody = Trust::Pinned(String::new());
    let asked = Tcp {
        tls: Some((nobody.clone(), None)),
        ..address
    };
    let (config, shown) = config(&nobody, None).map_err(|why| ClientError::Untrusted {
        place: place.clone(),
        why,
    })?;
    let unreachable = |source| ClientError::Unreachable {
        place: place.clone(),
        source,
    };
    let stream = timeout(PATIENCE, TcpStream::connect(asked.addresses.as_slice()))
        .await
        .map_err(|_| unreachable(std::io::ErrorKind::TimedOut.into()))?
        .map_err(unreachable)?;
    let name = ServerName::try_from(asked.host.clone()).map_err(|_| ClientError::Untrusted {
        place: place.clone(),
        why: format!("`{}` is no name of a host", asked.host),
    })?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    // It is refused, always: what was shown is all that is wanted.
    let refused = timeout(PATIENCE, connector.connect(name, stream)).await;
    let shown = shown
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take();
    shown.ok_or_else(|| ClientError::Untrusted {
        place: place.clone(),
        why: match refused {
            Ok(Err(error)) => error.to_string(),
            _ => "it shows no certificate".to_owned(),
        },
    })
}

/// Starts a program, and waits until a daemon greets at its other end. What the program says on its standard error goes
/// to ours.
pub(super) async fn program(program: &Program) -> Result<(Box<dyn Wire>, Child), ClientError> {
    let unreachable = |why: String| ClientError::Unreachable {
        place: program.place.clone(),
        source: std::io::Error::other(why),
    };
    let (name, arguments) = program
        .command
        .split_first()
        .ok_or_else(|| unreachable("there is no program to start".to_owned()))?;
    let mut child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| unreachable(format!("failed to start `{name}`: {error}")))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(unreachable(format!("`{name}` has no input and output")));
    };
    let mut output = BufReader::new(output);
    let greeted = timeout(PROGRAM_PATIENCE, greeting(&mut output)).await;
    match greeted {
        Ok(Ok(true)) => Ok((Box::new(tokio::io::join(output, input)), child)),
        Ok(Ok(false)) => {
            drop(input);
            let status = timeout(PATIENCE, child.wait()).await;
            Err(unreachable(match status {
                Ok(Ok(status)) => ended(name, status.code()),
                _ => format!("`{name}` says nothing more and does not end"),
            }))
        }
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!(
            "nobody has answered through `{name}` for {} s",
            PROGRAM_PATIENCE.as_secs()
        ))),
    }
}

/// Exit codes: those of ssh (255: its own failure, else that of what it ran), of shells (127), and of `upkeep connect`.
fn ended(name: &str, code: Option<i32>) -> String {
    match code {
        Some(255) => format!("`{name}` failed; it said why above"),
        Some(127) => "there is no program `upkeep` in the `PATH` of a shell there: \
                      install it, or name its path as `program` of this host"
            .to_owned(),
        Some(8) => "no daemon runs there".to_owned(),
        Some(code) => format!("`{name}` ended with code {code}"),
        None => format!("`{name}` was killed"),
    }
}

/// Reads up to the greeting; `false`: the program has ended before.
async fn greeting(output: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> std::io::Result<bool> {
    let mut noise = output.take(NOISE_MAX);
    let mut line = Vec::new();
    loop {
        line.clear();
        if noise.read_until(b'\n', &mut line).await? == 0 {
            if noise.limit() == 0 {
                return Err(std::io::Error::other("the other end prints something else"));
            }
            return Ok(false);
        }
        if line.trim_ascii() == GREETING.as_bytes() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn whatever_a_shell_prints_first_is_passed_over() {
        let said = format!("Welcome!\r\n\n{GREETING}\nHTTP");
        let mut output = BufReader::new(said.as_bytes());
        assert!(greeting(&mut output).await.expect("it reads"));
        let mut rest = String::new();
        output.read_to_string(&mut rest).await.expect("it reads");
        assert_eq!(rest, "HTTP");
        let mut output = BufReader::new(&b"Welcome!\n"[..]);
        assert!(!greeting(&mut output).await.expect("it reads"));
        let long = vec![b'a'; 100 << 10];
        assert!(greeting(&mut BufReader::new(long.as_slice())).await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn how_a_program_ends_is_told() {
        for (script, why) in [
            ("exit 255", "said why above"),
            ("exit 127", "there is no program `upkeep`"),
            ("echo hello; exit 8", "no daemon runs there"),
            ("exit 3", "code 3"),
        ] {
            let asked = Program {
                place: "web1".to_owned(),
                command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            };
            let Err(ClientError::Unreachable { place, source }) = program(&asked).await else {
                panic!("{script}: nobody is there");
            };
            assert_eq!(place, "web1");
            assert!(source.to_string().contains(why), "{source}");
        }
    }
}
