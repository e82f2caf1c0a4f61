//! Settings of the machine: kept in the store under `/settings`, and published to whoever lives by them.
//!
//! [`Holder`] owns them. They change by one call only: it is checked (also against the machine: a file with a secret
//! that others can read is refused), committed together with its event, and then published through a watch. Whoever
//! lives by them subscribes ([`Holder::subscribe`]) and looks at the newest value whenever it comes; values in between
//! may be skipped.
//!
//! What the store holds and this program cannot read (a newer program wrote it) is left alone: the defaults hold, and
//! the daemon's log says so. The next change replaces it.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use upkeep_api::{
    error::Code,
    settings::{SettingsPut, SettingsResult, SettingsView},
};
use upkeep_model::settings::{Settings, Url};
use upkeep_store::{Condition, Store, StoreError, Txn};

use crate::{
    apps::{director::machine_event, plan},
    command::{Principal, Refusal},
    events::Events,
    main_loop::note,
};

/// Where they are in the store.
const KEY: &str = "/settings";
/// Format of the record.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    settings: Settings,
}

/// The settings that hold.
pub(crate) type Current = Arc<Settings>;

/// Owns the settings.
#[derive(Debug)]
pub(crate) struct Holder {
    events: Events,
    current: watch::Sender<Current>,
    /// Of the last change; held while one is under way.
    revision: Arc<Mutex<u64>>,
}

impl Holder {
    /// Reads them from the store.
    pub(crate) fn load(store: &dyn Store, events: Events) -> Result<Arc<Self>, StoreError> {
        let (settings, revision) = match store.get(KEY)? {
            None => (Settings::default(), 0),
            Some(entry) => (read(&entry.value), entry.revision),
        };
        Ok(Arc::new(Self {
            events,
            current: watch::channel(Arc::new(settings)).0,
            revision: Arc::new(Mutex::new(revision)),
        }))
    }

    /// What holds now.
    pub(crate) fn current(&self) -> Current {
        Arc::clone(&self.current.borrow())
    }

    /// Every change from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Current> {
        self.current.subscribe()
    }

    fn revision(&self) -> u64 {
        *self
            .revision
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What holds, with its revision.
    pub(crate) fn view(&self) -> SettingsView {
        SettingsView {
            revision: self.revision(),
            settings: Settings::clone(&self.current()),
        }
    }

    /// Replaces them all.
    pub(crate) async fn put(
        &self,
        put: SettingsPut,
        principal: &Principal,
    ) -> Result<SettingsResult, Refusal> {
        let mut settings = put.settings;
        // For editors only.
        settings.schema = None;
        settings.check().map_err(|error| {
            Refusal::new(Code::Invalid, format!("failed to accept the settings: {error}"))
        })?;
        crate::alerts::check(&settings)?;
        check_files(&mut settings)?;
        crate::certs::check(&settings.web)?;
        let (before, revision) = (self.current(), self.revision());
        if let Some(expected) = put.revision
            && expected != revision
        {
            return Err(StoreError::Conflict {
                key: KEY.to_owned(),
                expected,
                actual: revision,
            }
            .into());
        }
        let tree = |settings: &Settings| serde_json::to_value(settings).unwrap_or_default();
        let mut changes = Vec::new();
        plan::compare("", Some(&tree(&before)), Some(&tree(&settings)), &mut changes);
        let values = changes.iter_mut().flat_map(|one| [&mut one.old, &mut one.new]);
        values.flatten().for_each(hide_paths);
        if put.dry_run || changes.is_empty() {
            return Ok(SettingsResult {
                changes,
                revision,
                event: None,
            });
        }
        let record = Record {
            version: VERSION,
            settings: settings.clone(),
        };
        let bytes = serde_json::to_vec(&record)
            .map_err(|error| Refusal::new(Code::Internal, "failed to encode the settings").because(&error))?;
        let txn = Txn {
            // Whoever was faster has changed what the differences above are from.
            conditions: vec![Condition {
                key: KEY.to_owned(),
                revision,
            }],
            puts: vec![(KEY.to_owned(), bytes)],
            ..Txn::default()
        };
        let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
        let mut event = machine_event(principal, "settings", put.reason.as_deref(), &keys.join(", "));
        event.details.insert(
            "changes".to_owned(),
            serde_json::to_value(&changes).unwrap_or_default(),
        );
        let (current, newest) = (self.current.clone(), Arc::clone(&self.revision));
        let stored = move |revision| {
            *newest.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = revision;
            current.send_replace(Arc::new(settings));
        };
        let (revision, event) = self.events.commit_then(txn, event, stored).await?;
        Ok(SettingsResult {
            changes,
            revision,
            event: Some(event),
        })
    }
}

fn read(bytes: &[u8]) -> Settings {
    match serde_json::from_slice::<Record>(bytes) {
        Ok(record) if record.version == VERSION => record.settings,
        Ok(record) => {
            note(&format!(
                "the settings in the store have version {}, this program reads {VERSION}: the defaults hold",
                record.version
            ));
            Settings::default()
        }
        Err(error) => {
            note(&format!(
                "the settings in the store cannot be read ({error}): the defaults hold"
            ));
            Settings::default()
        }
    }
}

/// Files that settings name must be there, and those with secrets must be closed to others.
fn check_files(settings: &mut Settings) -> Result<(), Refusal> {
    for (path, secret) in settings.files_mut() {
        let path = Path::new(path.as_str());
        if !path.is_absolute() {
            return Err(Refusal::new(
                Code::Invalid,
                format!(
                    "failed to accept the settings: the path `{}` is not absolute",
                    path.display()
                ),
            ));
        }
        if secret {
            read_secret(path)?;
        } else {
            std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        }
    }
    Ok(())
}

/// Events are kept and read by many: of a URL they tell scheme and host, as the rest is often all that it takes to use it.
fn hide_paths(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => {
            if let Ok(url) = text.parse::<Url>() {
                let (scheme, authority, path) = url.parts();
                if path.len() > 1 {
                    *text = format!("{scheme}://{authority}/(hidden)");
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide_paths),
        Value::Object(values) => values.values_mut().for_each(hide_paths),
        _ => {}
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(
        Code::Invalid,
        format!("failed to read `{}`: {error}", path.display()),
    )
}

/// No secret is longer.
const SECRET_MAX: u64 = 64 << 10;

/// The content of a file and its mode. Never waits: what is no regular file (a pipe that nobody writes into) is refused,
/// and so is what is longer than `max` bytes.
pub(crate) fn read_file(path: &Path, max: u64) -> Result<(Vec<u8>, u32), Refusal> {
    use std::{io::Read, os::unix::fs::OpenOptionsExt};
    let fail = |error: std::io::Error| unreadable(path, &error);
    let refuse = |why: String| {
        let text = format!("failed to read `{}`: {why}", path.display());
        Err(Refusal::new(Code::Invalid, text))
    };
    // Closed on exec by default.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return refuse("it is no file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > max {
        return refuse(format!("it is longer than {max} bytes"));
    }
    Ok((bytes, metadata.permissions().mode()))
}

/// The content of a file with a secret, without blanks around it. Refused if others can read the file.
pub(crate) fn read_secret(path: &Path) -> Result<String, Refusal> {
    let (bytes, mode) = read_file(path, SECRET_MAX)?;
    if mode & 0o077 != 0 {
        return Err(Refusal::new(
            Code::Invalid,
            format!(
                "refused: `{}` holds a secret, and others than its owner may read or write it (mode {:o})",
                path.display(),
                mode & 0o7777
            ),
        )
        .hint(format!("`chmod 600 {}`", path.display())));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        let why = format!("failed to read `{}`: it is no text in UTF-8", path.display());
        Refusal::new(Code::Invalid, why)
    })?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(Refusal::new(
            Code::Invalid,
            format!("failed to read `{}`: it is empty", path.display()),
        ));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use upkeep_store::embedded::Embedded;

    fn principal() -> Principal {
        Principal {
            name: "uid:1".to_owned(),
        }
    }

    fn put(text: &str) -> SettingsPut {
        SettingsPut {
            settings: upkeep_model::file::settings::parse(text, "settings.yaml").expect("settings"),
            ..SettingsPut::default()
        }
    }

    #[tokio::test]
    async fn a_change_is_durable_published_and_told_once() {
        let home = tempfile::tempdir().expect("a directory");
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(&home.path().join("store.redb")).expect("a store"));
        let events = Events::new(Arc::clone(&store));
        let holder = Holder::load(store.as_ref(), events.clone()).expect("no settings");
        let mut watch = holder.subscribe();
        let dry = SettingsPut {
            dry_run: true,
            ..put("logs: {free_space: 7%}")
        };
        let result = holder.put(dry, &principal()).await.expect("it is right");
        assert_eq!((result.changes.len(), result.event), (1, None));
        assert!(!watch.has_changed().expect("it lives"));
        let done = holder
            .put(put("logs: {free_space: 7%}"), &principal())
            .await
            .expect("it is right");
        assert_eq!(done.changes[0].key, "logs");
        assert!(watch.has_changed().expect("it lives"));
        assert_eq!(watch.borrow_and_update().logs.floor(1000), 70);
        let again = holder
            .put(put("logs: {free_space: 7%}"), &principal())
            .await
            .expect("nothing changes");
        assert_eq!((again.changes.len(), again.event), (0, None));
        let stale = SettingsPut {
            revision: Some(0),
            ..put("logs: {free_space: 8%}")
        };
        let refusal = holder
            .put(stale, &principal())
            .await
            .expect_err("somebody was faster");
        assert_eq!(refusal.code, Code::Conflict);
        let told = events
            .tail(10, 0, &|event| event.what == "settings")
            .expect("a journal");
        assert_eq!(told.len(), 1);
        let next = Holder::load(store.as_ref(), events).expect("settings");
        assert_eq!(next.view(), holder.view());
    }

    #[test]
    fn events_tell_no_paths_of_urls() {
        let mut value = serde_json::json!({"a": [{"url": "https://chat.example.org/hook/s3cret?k=1"}],
            "b": "http://127.0.0.1:4318", "c": "22:00"});
        hide_paths(&mut value);
        let wanted = serde_json::json!({"a": [{"url": "https://chat.example.org/(hidden)"}],
            "b": "http://127.0.0.1:4318", "c": "22:00"});
        assert_eq!(value, wanted);
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let home = tempfile::tempdir().expect("a directory");
        let pipe = home.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
        let refusal = read_secret(&pipe).expect_err("nobody writes into it");
        assert!(refusal.message.ends_with("it is no file"), "{}", refusal.message);
        let long = home.path().join("long");
        std::fs::write(&long, "a".repeat(70_000)).expect("a file");
        let refusal = read_file(&long, SECRET_MAX).expect_err("it is long");
        assert!(
            refusal.message.ends_with("longer than 65536 bytes"),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn secrets_that_others_can_read_are_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("key");
        std::fs::write(&path, " abc\n").expect("a file");
        let mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("our own");
        };
        mode(0o644);
        assert!(
            read_secret(&path)
                .expect_err("too open")
                .message
                .contains("mode 644")
        );
        mode(0o600);
        assert_eq!(read_secret(&path).expect("closed"), "abc");
        let text = format!(
            "alerts: {{channels: {{a: {{webhook: {{url: 'http://127.0.0.1:1/', secret_file: {}}}}}}}}}",
            home.path().join("none").display()
        );
        let mut settings = put(&text).settings;
        assert!(
            check_files(&mut settings)
                .expect_err("no file")
                .message
                .contains("No such file")
        );
    }
}
