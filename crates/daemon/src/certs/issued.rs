//! Certificates of those who call: what was issued, to whom, and until when.

use std::{collections::BTreeMap, sync::Arc};

use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use upkeep_api::{
    access::{Change, Changed},
    certificate::{CertificateIssued, CertificatePost, CertificateView},
    error::Code,
    pem,
};
use upkeep_store::{Condition, Store, StoreError, Txn};

use super::{
    Certificates, aside,
    authority::{Authority, DAY},
    host_name, now, seconds, would_make,
};
use crate::{
    access::{self, Access, Known},
    apps::director::machine_event,
    command::{Principal, Refusal},
    events,
    main_loop::note,
};

/// Where it is in the store.
const KEY: &str = "/certificates";
/// Format of the record.
const VERSION: u32 = 1;
/// So many are kept.
const ISSUED_MAX: usize = 1000;
/// What has ended is listed this much longer, seconds.
const KEPT_AFTER: f64 = 30.0 * 24.0 * 3600.0;
/// How long a certificate holds that nobody has said more about.
const DAYS: u32 = 365;
/// The longest.
const DAYS_MAX: u32 = 3650;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    /// By serial.
    pub(super) issued: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) fingerprint: String,
    pub(super) issued_at: f64,
    pub(super) issued_by: String,
    pub(super) not_after: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revoked_at: Option<f64>,
}

impl Entry {
    pub(super) fn view(&self, serial: &str, now: f64) -> CertificateView {
        CertificateView {
            serial: serial.to_owned(),
            name: self.name.clone(),
            issued_at: self.issued_at,
            issued_by: self.issued_by.clone(),
            not_after: seconds(self.not_after),
            expired: now >= seconds(self.not_after),
            revoked_at: self.revoked_at,
        }
    }
}

/// The record of the store. One that this program cannot read lets nobody in.
pub(super) fn read_record(store: &dyn Store) -> Result<(Record, u64), StoreError> {
    let Some(entry) = store.get(KEY)? else {
        return Ok((Record::default(), 0));
    };
    let why = match serde_json::from_slice::<Record>(&entry.value) {
        Ok(record) if record.version == VERSION => return Ok((record, entry.revision)),
        Ok(record) => format!("have version {}, this program reads {VERSION}", record.version),
        Err(error) => format!("cannot be read ({error})"),
    };
    note(&format!(
        "certificates in the store {why}: nobody is let in by one"
    ));
    Ok((Record::default(), entry.revision))
}

impl Certificates {
    /// Makes a certificate for somebody who calls.
    pub(crate) async fn issue(
        self: &Arc<Self>,
        post: CertificatePost,
        access: &Access,
        caller: &Known,
    ) -> Result<CertificateIssued, Refusal> {
        let fail = |why: String| {
            let text = format!(
                "failed to issue a certificate for `{}`: {why}",
                post.name.escape_debug()
            );
            Refusal::new(Code::Invalid, text)
        };
        // Who cannot give what this name holds cannot become it.
        access.may_be_certified(&post.name, post.role.as_deref(), caller)?;
        let days = post.days.unwrap_or(DAYS);
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(fail(format!("expected 1 to {DAYS_MAX} days")));
        }
        let until = access::within(
            caller,
            now() + i64::from(days) * DAY,
            post.days.is_some(),
            &format!("a certificate for `{}`", post.name),
        )?;
        let info = SubjectPublicKeyInfoDer::from_pem_slice(post.public_key.as_bytes());
        let info = info.map_err(|error| fail(format!("`public_key` is no key in PEM: {error}")))?;
        let Some(point) = pem::point(&info).map(<[u8]>::to_vec) else {
            return Err(fail("the key is not on P-256".to_owned()).hint(
                "`openssl ecparam -name prime256v1 -genkey -noout -out a.key; openssl ec -in a.key -pubout`",
            ));
        };
        let dry_run = post.dry_run;
        let _changing = self.changing.lock().await;
        let (mut record, revision) = self.record();
        let at = events::now();
        record
            .issued
            .retain(|_, entry| at < seconds(entry.not_after) + KEPT_AFTER);
        if record.issued.len() >= ISSUED_MAX {
            return Err(fail(format!("there are {ISSUED_MAX}")).hint("wait until some have ended"));
        }
        let principal = caller.who();
        let change = Change {
            reason: post.reason.clone(),
            dry_run,
        };
        let member = format!("cert:{}", post.name);
        let mut given = Vec::new();
        if let Some(role) = &post.role {
            // Whether it may be given is found out before anything is made.
            let look = Change {
                dry_run: true,
                ..change.clone()
            };
            given = access
                .put_member((role, &member), true, look, caller)
                .await?
                .changes;
        }
        let (this, name) = (Arc::clone(self), post.name.clone());
        let (who, reason) = (principal.clone(), post.reason.clone());
        let (authority, told, issued) = aside(move || {
            let _making = this
                .making
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let (authority, told) = match Authority::read(&this.folder)? {
                Some(authority) => (authority, None),
                // For a look, one in memory does as well.
                None if dry_run => (Authority::new(&host_name(), now())?, Some(would_make())),
                None => {
                    let (authority, told) = this.authority(&who, reason.as_deref())?;
                    (authority, told.map(|told| told.text))
                }
            };
            let issued = authority.issue_client(&name, &point, (now(), until))?;
            Ok((authority, told, issued))
        })
        .await?;
        let mut changes: Vec<String> = told.into_iter().collect();
        let entry = Entry {
            name: post.name.clone(),
            fingerprint: pem::fingerprint(&issued.der),
            issued_at: at,
            issued_by: principal.name.clone(),
            not_after: issued.facts.not_after,
            revoked_at: None,
        };
        let certificate = entry.view(&issued.facts.serial, at);
        if dry_run {
            changes.extend(given);
            changes.push(format!("certificate_issued: {}", post.name));
            return Ok(CertificateIssued {
                certificate,
                changes,
                pem: None,
                authority: None,
            });
        }
        let result = format!("{} ({})", post.name, issued.facts.serial);
        changes.push(format!("certificate_issued: {result}"));
        record.issued.insert(issued.facts.serial.clone(), entry);
        self.commit(
            record,
            revision,
            ("certificate_issued", &result, post.reason.as_deref()),
            principal,
        )
        .await?;
        // Last: a certificate without its role is of no use, a role without its certificate is there for somebody else.
        if let Some(role) = &post.role {
            let changed = access.put_member((role, &member), true, change, caller).await?;
            changes.extend(changed.changes);
        }
        // A listener with files of its own does not ask for certificates until there is an authority.
        self.look_again.notify_one();
        Ok(CertificateIssued {
            certificate,
            changes,
            pem: Some(pem::encode("CERTIFICATE", &issued.der)),
            authority: Some(pem::encode("CERTIFICATE", &authority.certificate)),
        })
    }

    /// Lets nobody in by this certificate any more. `which`: its serial, or a name: then all of that name.
    pub(crate) async fn revoke(
        self: &Arc<Self>,
        which: &str,
        change: Change,
        access: &Access,
        caller: &Known,
    ) -> Result<Changed, Refusal> {
        let _changing = self.changing.lock().await;
        let (mut record, revision) = self.record();
        let at = events::now();
        let mut changes = Vec::new();
        let mut names = Vec::new();
        let mut known = false;
        for (serial, entry) in &mut record.issued {
            if serial != which && entry.name != which {
                continue;
            }
            known = true;
            if entry.revoked_at.is_none() {
                entry.revoked_at = Some(at);
                changes.push(format!("{} ({serial})", entry.name));
                names.push(entry.name.clone());
            }
        }
        if !known {
            return Err(Refusal::new(
                Code::NotFound,
                format!("there is no certificate `{}`", which.escape_debug()),
            )
            .hint("`upkeep cert show` lists them"));
        }
        for name in &names {
            access.may_be_certified(name, None, caller)?;
        }
        if change.dry_run || changes.is_empty() {
            return Ok(Changed {
                changes,
                revision,
                event: None,
            });
        }
        let result = changes.join(", ");
        let (revision, event) = self
            .commit(
                record,
                revision,
                ("certificate_revoked", &result, change.reason.as_deref()),
                caller.who(),
            )
            .await?;
        Ok(Changed {
            changes,
            revision,
            event: Some(event),
        })
    }

    /// Writes the record with its event, and lets it hold. Under `changing`.
    async fn commit(
        self: &Arc<Self>,
        mut record: Record,
        revision: u64,
        (what, result, reason): (&str, &str, Option<&str>),
        caller: &Principal,
    ) -> Result<(u64, u64), Refusal> {
        record.version = VERSION;
        let bytes = serde_json::to_vec(&record)
            .map_err(|error| Refusal::new(Code::Internal, "failed to encode certificates").because(&error))?;
        let txn = Txn {
            conditions: vec![Condition {
                key: KEY.to_owned(),
                revision,
            }],
            puts: vec![(KEY.to_owned(), bytes)],
            ..Txn::default()
        };
        let event = machine_event(caller, what, reason, result);
        let this = Arc::clone(self);
        let stored = move |revision| {
            *this
                .current
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = (record, revision);
            this.publish();
        };
        Ok(self.events.commit_then(txn, event, stored).await?)
    }
}
