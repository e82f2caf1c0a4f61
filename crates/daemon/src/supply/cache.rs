//! The last good values of this machine's apps, sealed for its key: `config-cache/APP` in the home.
//!
//! One file for each app that gets values, and nothing besides. A line of JSON (format, app, the data key for this machine), then
//! the editions as JSON, encrypted and bound to the app's name. Written whole: another file, synced, renamed, the folder synced.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use upkeep_config::seal::{Identity, Sealed};
use upkeep_model::id::AppName;

use super::{edition::Edition, follow::proof::KeptProof};

const FORMAT: u32 = 1;
/// No file of ours is larger: a few editions, in which each value may stand as digits.
const FILE_MAX: u64 = 128 << 20;

/// What is kept of an app.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The edition in force, the one before, the one that was tried last, the one that a signal may lead back to.
    pub(super) editions: Vec<Edition>,
    /// One that did no good: it is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<u64>,
    /// One that was put in force by a signal, and is watched: where the way back leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proof: Option<KeptProof>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    app: AppName,
    sealed: Sealed,
}

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Cache(pub(super) PathBuf);

/// The largest file name of Linux, with room for what is put before it.
const NAME_MAX: usize = 240;

impl Cache {
    fn path(&self, app: &AppName) -> PathBuf {
        let name = app.as_str();
        if name.len() <= NAME_MAX {
            return self.0.join(name);
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        self.0.join(upkeep_model::hex::hex(digest.as_ref()))
    }

    /// What is kept of an app; `None`: nothing. An error names the file.
    pub(super) fn read(&self, app: &AppName, identity: &Identity) -> Result<Option<Kept>, String> {
        let path = self.path(app);
        let mut bytes = Vec::new();
        match fs::File::open(&path) {
            Ok(file) => file
                .take(FILE_MAX)
                .read_to_end(&mut bytes)
                .map_err(|error| fail("read", &path, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail("read", &path, &error)),
        };
        let damaged = |why: &str| {
            format!(
                "the last good values in `{}` cannot be used: {why}",
                path.display()
            )
        };
        let at = bytes.iter().position(|byte| *byte == b'\n');
        let (head, content) = at
            .and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?)))
            .ok_or_else(|| damaged("the file is not whole"))?;
        let head: Head = serde_json::from_slice(head).map_err(|_| damaged("its head cannot be read"))?;
        if head.format != FORMAT || head.app != *app {
            return Err(damaged("it is of another app or another program"));
        }
        let clear = head
            .sealed
            .with_ciphertext(content.to_vec())
            .open(&bound(app), std::slice::from_ref(identity))
            .map_err(|error| damaged(&error.to_string()))?;
        let kept = serde_json::from_slice(&clear).map_err(|_| damaged("its content cannot be read"))?;
        Ok(Some(kept))
    }

    /// Keeps editions of an app. Blocks until the disk has them.
    pub(super) fn write(&self, app: &AppName, kept: &Kept, identity: &Identity) -> Result<(), String> {
        let path = self.path(app);
        let clear = serde_json::to_vec(kept).map_err(|error| fail("write", &path, &error.into()))?;
        let sealed = Sealed::seal(&clear, &bound(app), &[identity.recipient()])
            .map_err(|error| format!("failed to seal `{}`: {error}", path.display()))?;
        let mut bytes = Vec::new();
        let content = sealed.ciphertext().to_vec();
        let head = Head {
            format: FORMAT,
            app: app.clone(),
            sealed,
        };
        serde_json::to_writer(&mut bytes, &head).map_err(|error| fail("write", &path, &error.into()))?;
        bytes.push(b'\n');
        bytes.extend(content);
        self.put(&path, &bytes)
            .map_err(|error| fail("write", &path, &error))
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // No app's name begins with a dot.
        let new = self.0.join(format!(".{name}.new"));
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        fs::File::open(&self.0)?.sync_all()
    }

    /// Removes what is kept of apps that are no more: a daemon may have been killed before it could.
    pub(super) fn sweep(&self, names: &[AppName]) -> Result<(), String> {
        let kept: Vec<_> = names
            .iter()
            .filter_map(|name| Some(self.path(name).file_name()?.to_owned()))
            .collect();
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fail("read", &self.0, &error)),
        };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            // One that is being written belongs to the app whose name it will have.
            let new = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new"));
            let name = new.unwrap_or(&name);
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && !kept.iter().any(|kept| kept == name) {
                fs::remove_file(&path).map_err(|error| fail("remove", &path, &error))?;
            }
        }
        Ok(())
    }

    /// Nobody needs it any more.
    pub(super) fn forget(&self, app: &AppName) -> Result<(), String> {
        let path = self.path(app);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail("remove", &path, &error)),
            _ => Ok(()),
        }
    }
}

fn bound(app: &AppName) -> Vec<u8> {
    format!("config-cache/{app}").into_bytes()
}

fn fail(what: &str, path: &Path, error: &io::Error) -> String {
    format!("failed to {what} `{}`: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use upkeep_config::{Place, entry, snapshot::Snapshot, value::Value};

    use super::*;

    fn kept(text: &str) -> Kept {
        let place: Place = "/shop/".parse().expect("a place");
        let config = upkeep_model::supply::ConfigUse {
            places: vec![place],
            env: true,
            allow: Vec::new(),
        };
        let value = entry::Entry {
            path: "/shop/password".parse().expect("a path"),
            shown: entry::Shown::Revealed(Value::text(text)),
            revision: 3,
            version: 1,
            by: entry::By {
                who: String::new(),
                at: 0.0,
                why: None,
            },
        };
        let snapshot = Snapshot {
            revision: 3,
            places: vec![vec![value]],
        };
        Kept {
            editions: vec![Edition::new(1, 0.0, &snapshot, &config).expect("an edition")],
            refused: None,
            proof: None,
        }
    }

    #[test]
    fn it_is_read_back_by_this_machine_and_this_app_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache(folder.path().join("cache"));
        let identity = Identity::generate("machine:a").expect("a key");
        let app = AppName::parse("shop").expect("a name");
        assert!(cache.read(&app, &identity).expect("nothing").is_none());
        cache.write(&app, &kept("needle"), &identity).expect("written");
        let read = cache.read(&app, &identity).expect("read").expect("something");
        assert!(read.editions[0].same(&kept("needle").editions[0]));
        let bytes = fs::read(cache.path(&app)).expect("a file");
        assert!(!bytes.windows(6).any(|window| window == b"needle"));

        let other = Identity::generate("machine:a").expect("a key");
        assert!(cache.read(&app, &other).is_err(), "another machine's key");
        let two = AppName::parse("two").expect("a name");
        fs::copy(cache.path(&app), cache.path(&two)).expect("copied");
        assert!(cache.read(&two, &identity).is_err(), "another app's file");
        for wrong in [&b""[..], b"{}\nx", &bytes[..bytes.len() - 1], b"\xff\n"] {
            fs::write(cache.path(&app), wrong).expect("damaged");
            let error = cache.read(&app, &identity).expect_err("damaged");
            assert!(error.contains("cache/shop"), "{error}");
        }
        cache.write(&app, &kept("needle"), &identity).expect("written");
        fs::write(cache.0.join(".two.new"), "of a daemon that was killed").expect("written");
        fs::write(cache.0.join(".shop.new"), "just being written").expect("written");
        cache.sweep(std::slice::from_ref(&app)).expect("swept");
        assert!(!cache.path(&two).exists(), "of an app that is no more");
        assert!(!cache.0.join(".two.new").exists() && cache.0.join(".shop.new").exists());
        cache
            .read(&app, &identity)
            .expect("read")
            .expect("what is used stays");
        cache.forget(&app).expect("gone");
        cache.forget(&app).expect("gone already");
        assert!(cache.read(&app, &identity).expect("nothing").is_none());
    }
}
