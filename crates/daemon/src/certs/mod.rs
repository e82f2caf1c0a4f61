//! Certificates: our own small authority, the certificate of the listener, and those of people and programs that call.
//!
//! The authority is made when it is first needed, and lies under `tls` in the home; its private key leaves that folder
//! never. [`Certificates::keep`] sees to it that the listener has a certificate for all its names: it makes one, makes
//! another at the last third of its time, or when a name is added, or when the clock was set back before its beginning.
//! It looks once a minute at the wall clock, so a jump of it is seen within a minute. Connections that are open keep
//! what they were opened with; new ones get the new one.
//!
//! Whoever calls may have a certificate of this authority. It is made here from a public key; the private one stays
//! where it was made. What was issued stands in the store under `/certificates`, and only what stands there, unrevoked,
//! is let in: a copy of the authority's key in wrong hands does not open this machine as long as its store is ours.
//! What is revoked is refused in the handshake, and connections that are open with it are ended
//! ([`Certificates::changes`]).
//!
//! `web.cert_file` and `web.key_file` put somebody else's certificate in place of ours. They are read again when they
//! change.

mod authority;
mod der;
mod issued;
mod tls;

use std::{
    collections::HashMap,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use tokio::sync::{Notify, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use upkeep_api::{
    access::Change,
    body::Event,
    certificate::{AuthorityChanged, AuthorityView, CertificateList, CertificateView, ServerView},
    error::Code,
    pem,
};
use upkeep_model::settings::{Web, web::HostName};
use upkeep_store::{Store, StoreError, Txn};
use upkeep_sys::clock;

use self::{
    authority::Authority,
    issued::{Record, read_record},
    tls::Holders,
};
pub(crate) use self::{authority::Folder, tls::Holder};
use crate::{
    apps::director::{log_machine_event, machine_event},
    command::{Principal, Refusal},
    events::{self, Events},
    main_loop::note,
    settings::{self as machine_settings, read_secret},
    web::certificates,
};

/// Between two looks at the clock and at files.
const LOOK: Duration = Duration::from_mins(1);
/// More names than this no certificate has.
const NAMES_MAX: usize = 64;

fn seconds(at: i64) -> f64 {
    at as f64
}

fn now() -> i64 {
    i64::try_from(clock::unix_ms() / 1000).unwrap_or(i64::MAX)
}

/// What the listener speaks.
#[derive(Debug)]
struct Served {
    config: Arc<ServerConfig>,
    view: ServerView,
}

#[derive(Debug, Default)]
struct Serving {
    served: Option<Served>,
    trouble: Option<String>,
}

/// Owns all of it.
#[derive(Debug)]
pub(crate) struct Certificates {
    events: Events,
    folder: Folder,
    holders: Arc<Holders>,
    /// What was issued, with its revision in the store.
    current: RwLock<(Record, u64)>,
    /// Held while a change is under way.
    changing: tokio::sync::Mutex<()>,
    /// Held while files are made.
    making: Mutex<()>,
    serving: RwLock<Serving>,
    /// Counts changes of the certificate of the listener, and of who is let in.
    changed: watch::Sender<u64>,
    look_again: Notify,
}

impl Certificates {
    /// Reads what was issued. `folder`: where keys and certificates are.
    pub(crate) fn load(store: &dyn Store, events: Events, folder: &Path) -> Result<Arc<Self>, StoreError> {
        let current = read_record(store)?;
        let certificates = Arc::new(Self {
            events,
            folder: Folder(folder.to_owned()),
            holders: Arc::default(),
            current: RwLock::new(current),
            changing: tokio::sync::Mutex::new(()),
            making: Mutex::new(()),
            serving: RwLock::default(),
            changed: watch::channel(0).0,
            look_again: Notify::new(),
        });
        certificates.publish();
        Ok(certificates)
    }

    fn record(&self) -> (Record, u64) {
        self.current
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Lets in who is in the record, and no others.
    fn publish(&self) {
        let (record, _) = self.record();
        let holders: HashMap<String, Holder> = record
            .issued
            .into_values()
            .filter(|entry| entry.revoked_at.is_none())
            .map(|entry| {
                let holder = Holder {
                    name: entry.name,
                    not_after: entry.not_after,
                };
                (entry.fingerprint, holder)
            })
            .collect();
        self.holders.replace(holders);
        self.changed.send_modify(|count| *count += 1);
    }

    /// What speaks TLS just now; `None`: there is no certificate.
    pub(crate) fn acceptor(&self) -> Option<TlsAcceptor> {
        let serving = self
            .serving
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let served = serving.served.as_ref()?;
        Some(TlsAcceptor::from(Arc::clone(&served.config)))
    }

    /// Whose certificate that is, by its hash; `None`: it is not, or no longer, one of ours.
    pub(crate) fn holder_of(&self, fingerprint: &str) -> Option<Holder> {
        self.holders.get(fingerprint, now())
    }

    /// Tells when something changes that open connections or waiting listeners live by.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Why there is no certificate, or not the right one.
    pub(crate) fn trouble(&self) -> Option<String> {
        let serving = self
            .serving
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        serving.trouble.clone()
    }

    /// Keeps the certificate of the listener right, for as long as it is polled.
    pub(crate) async fn keep(self: Arc<Self>, mut settings: watch::Receiver<machine_settings::Current>) {
        loop {
            let web = settings.borrow_and_update().web.clone();
            let this = Arc::clone(&self);
            // Its outcome is kept beside what is served.
            let _ = tokio::task::spawn_blocking(move || this.look(&web, false)).await;
            // Cancel-safe: what was not taken stays.
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.look_again.notified() => {}
                changed = settings.changed() => if changed.is_err() {
                    // Nobody changes settings any more; time goes on.
                    tokio::time::sleep(LOOK).await;
                },
            }
        }
    }

    /// Sees to the certificate of the listener. Reads and writes files.
    fn look(&self, web: &Web, renew: bool) -> Result<(), String> {
        let _making = self
            .making
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = self.find(web, renew);
        let mut serving = self
            .serving
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let outcome = found.as_ref().map(|_| ()).map_err(Clone::clone);
        let is_new = match found {
            Ok(served) => {
                let hash =
                    |served: &Option<Served>| served.as_ref().map(|served| served.view.fingerprint.clone());
                let is_new = hash(&serving.served) != hash(&served) || serving.trouble.is_some();
                let ended = served
                    .as_ref()
                    .filter(|served| served.view.not_after <= seconds(now()));
                let trouble = ended.map(|_| "the certificate of the listener has ended".to_owned());
                *serving = Serving { served, trouble };
                is_new
            }
            Err(trouble) => {
                let is_new = serving.trouble.as_ref() != Some(&trouble);
                if is_new {
                    note(&format!("the listener has no right certificate: {trouble}"));
                }
                // What was served until now is better than nothing.
                serving.trouble = Some(trouble);
                is_new
            }
        };
        drop(serving);
        if is_new {
            self.changed.send_modify(|count| *count += 1);
        }
        outcome
    }

    fn find(&self, web: &Web, renew: bool) -> Result<Option<Served>, String> {
        if let (Some(cert), Some(key)) = (&web.cert_file, &web.key_file) {
            let authority = Authority::read(&self.folder)?;
            return of_files(cert, key, authority.as_ref(), &self.holders).map(Some);
        }
        if !web.needs_certificate() {
            return Ok(None);
        }
        let (authority, _) = self.authority(&own(), None)?;
        let names = names(web);
        let now = now();
        let mut pair = authority::server(&self.folder)
            .filter(|pair| pair.chain.last() == Some(&authority.certificate))
            .filter(|pair| !renew && !authority::is_due(&pair.facts, &names, now));
        if pair.is_none() {
            let made = authority.issue_server(&self.folder, &names, now)?;
            let until = events_time(made.facts.not_after);
            log_machine_event(
                &self.events,
                machine_event(
                    &own(),
                    "certificate_renewed",
                    None,
                    &format!("of the listener, until {until}"),
                ),
            );
            pair = Some(made);
        }
        let Some(pair) = pair else {
            return Ok(None);
        };
        let view = ServerView {
            renewed_at: Some(seconds(authority::due_at(&pair.facts))),
            ..view(&pair.facts, &pair.chain[0], "authority")
        };
        let key = PrivateKeyDer::Pkcs8(pair.key);
        let config = tls::server(pair.chain, key, Some(&authority.certificate), &self.holders)?;
        Ok(Some(Served { config, view }))
    }

    /// The authority, made if there is none. Then an event tells so at once, whatever becomes of whoever asked; what it became
    /// comes by the receiver. Under `making`.
    fn authority(&self, who: &Principal, reason: Option<&str>) -> Result<(Authority, Option<Told>), String> {
        if let Some(authority) = Authority::read(&self.folder)? {
            return Ok((authority, None));
        }
        let authority = Authority::make(&self.folder, &host_name(), now())?;
        let event = authority_made(&authority, who, reason);
        let (sender, receiver) = oneshot::channel();
        let text = format!("{}: {}", event.what, event.result);
        let said = text.clone();
        self.events.commit(Txn::default(), event, move |result| {
            if let Err(error) = &result {
                note(&format!("{said}, and no event could tell of it: {error}"));
            }
            // Whoever asked may have gone away.
            let _ = sender.send(result.map(|(_, id)| id));
        });
        Ok((
            authority,
            Some(Told {
                text,
                event: receiver,
            }),
        ))
    }

    /// All there is to tell.
    pub(crate) async fn list(self: &Arc<Self>) -> Result<CertificateList, Refusal> {
        let this = Arc::clone(self);
        let authority = aside(move || Authority::read(&this.folder)).await?;
        let now = events::now();
        let mut issued: Vec<CertificateView> = self
            .record()
            .0
            .issued
            .iter()
            .map(|(serial, entry)| entry.view(serial, now))
            .collect();
        issued.sort_by(|one, other| one.issued_at.total_cmp(&other.issued_at));
        let serving = self
            .serving
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(CertificateList {
            authority: authority.map(|authority| authority_view(&authority)),
            server: serving.served.as_ref().map(|served| served.view.clone()),
            trouble: serving.trouble.clone(),
            issued,
        })
    }

    /// Makes the authority, if there is none.
    pub(crate) async fn init(
        self: &Arc<Self>,
        change: Change,
        caller: &Principal,
    ) -> Result<AuthorityChanged, Refusal> {
        let (this, dry_run) = (Arc::clone(self), change.dry_run);
        let (who, reason) = (caller.clone(), change.reason.clone());
        let (authority, told) = aside(move || {
            let _making = this
                .making
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if dry_run {
                return Ok((Authority::read(&this.folder)?, None));
            }
            let (authority, told) = this.authority(&who, reason.as_deref())?;
            Ok((Some(authority), told))
        })
        .await?;
        let Some(authority) = authority else {
            return Ok(AuthorityChanged {
                authority: None,
                changes: vec![would_make()],
                event: None,
            });
        };
        let mut changed = AuthorityChanged {
            authority: Some(authority_view(&authority)),
            changes: Vec::new(),
            event: None,
        };
        if let Some(told) = told {
            changed.changes.push(told.text);
            // The authority is there, with or without its event.
            changed.event = told.event.await.ok().and_then(Result::ok);
        }
        self.look_again.notify_one();
        Ok(changed)
    }

    /// Makes another certificate for the listener, now.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        web: &Web,
        change: Change,
        caller: &Principal,
    ) -> Result<CertificateList, Refusal> {
        if web.cert_file.is_some() {
            return Err(Refusal::new(
                Code::Conflict,
                "refused: the certificate of the listener is that of `web.cert_file`",
            )
            .hint("write another one there: it is read again within a minute"));
        }
        if !web.needs_certificate() {
            return Err(
                Refusal::new(Code::Conflict, "refused: no address of `web` speaks TLS")
                    .hint("`upkeep web --listen ADDRESS:PORT` adds one"),
            );
        }
        if !change.dry_run {
            let (this, web) = (Arc::clone(self), web.clone());
            aside(move || this.look(&web, true)).await?;
            let event = machine_event(caller, "certificate_renew", change.reason.as_deref(), "renewed");
            log_machine_event(&self.events, event);
        }
        self.list().await
    }
}

/// That an authority was made.
struct Told {
    /// In words, as changes are told.
    text: String,
    /// The event that tells of it, once it is stored.
    event: oneshot::Receiver<Result<u64, StoreError>>,
}

/// What tells that an authority was made.
fn authority_made(authority: &Authority, who: &Principal, reason: Option<&str>) -> Event {
    let hash = pem::fingerprint(&authority.certificate);
    let what = format!("{} ({hash})", authority.facts.name);
    machine_event(who, "authority_made", reason, &what)
}

/// The same before it is done: its name and hash are known only then.
fn would_make() -> String {
    format!("authority_made: Upkeep {}", host_name())
}

fn own() -> Principal {
    Principal {
        name: "upkeep".to_owned(),
    }
}

fn events_time(at: i64) -> String {
    clock::utc_text(u64::try_from(at).unwrap_or(0) * 1000)
}

/// Does what reads and writes files on a thread that may wait for disks.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(format!("the daemon is ending: {error}")))
        .map_err(|why| Refusal::new(Code::Invalid, why))
}

fn view(facts: &der::Facts, certificate: &[u8], source: &str) -> ServerView {
    ServerView {
        source: source.to_owned(),
        names: facts.names.clone(),
        fingerprint: pem::fingerprint(certificate),
        not_before: seconds(facts.not_before),
        not_after: seconds(facts.not_after),
        renewed_at: None,
    }
}

fn authority_view(authority: &Authority) -> AuthorityView {
    AuthorityView {
        name: authority.facts.name.clone(),
        fingerprint: pem::fingerprint(&authority.certificate),
        not_after: seconds(authority.facts.not_after),
        certificate: pem::encode("CERTIFICATE", &authority.certificate),
    }
}

/// Somebody else's certificate.
fn of_files(
    cert: &str,
    key: &str,
    authority: Option<&Authority>,
    holders: &Arc<Holders>,
) -> Result<Served, String> {
    let chain = certificates(cert)?;
    let first = chain
        .first()
        .ok_or_else(|| format!("there is no certificate in `{cert}`"))?;
    let facts = der::read(first).ok_or_else(|| format!("what `{cert}` holds is no certificate"))?;
    let view = view(&facts, first, "file");
    let text = read_secret(Path::new(key)).map_err(|refusal| refusal.message)?;
    let private = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| format!("failed to read the key `{key}`: {error}"))?;
    let config = tls::server(
        chain,
        private,
        authority.map(|authority| &authority.certificate),
        holders,
    )
    .map_err(|why| format!("`{cert}`: {why}"))?;
    Ok(Served { config, view })
}

/// Whether the settings name a certificate that can be served.
pub(crate) fn check(web: &Web) -> Result<(), Refusal> {
    let (Some(cert), Some(key)) = (&web.cert_file, &web.key_file) else {
        return Ok(());
    };
    of_files(cert, key, None, &Arc::default())
        .map(drop)
        .map_err(|why| Refusal::new(Code::Invalid, format!("failed to accept the settings: {why}")))
}

/// The name of this machine, in lower case.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_ascii_lowercase();
    if name.parse::<HostName>().is_ok() {
        name
    } else {
        "localhost".to_owned()
    }
}

/// What the certificate of the listener stands for.
fn names(web: &Web) -> Vec<String> {
    let mut names = vec![host_name()];
    let mut add = |name: String| {
        if !names.contains(&name) && names.len() < NAMES_MAX {
            names.push(name);
        }
    };
    web.names.iter().for_each(|name| add(name.as_str().to_owned()));
    for name in ["localhost", "127.0.0.1", "::1"] {
        add(name.to_owned());
    }
    for listen in web.listen.iter().chain(&web.pm2_health) {
        let address = listen.0.ip().to_canonical();
        if !address.is_unspecified() {
            add(address.to_string());
            continue;
        }
        // Addresses that cannot be listed can be named in `web.names`.
        for interface in upkeep_sys::interfaces::list().unwrap_or_default() {
            let is_fit = match interface.address {
                IpAddr::V4(address) => !address.is_link_local(),
                IpAddr::V6(address) => !address.is_unicast_link_local(),
            };
            if is_fit {
                add(interface.address.to_string());
            }
        }
    }
    names
}
