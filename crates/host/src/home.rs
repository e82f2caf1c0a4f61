//! Where Upkeep keeps its state and its sockets.
//!
//! State: `$UPKEEP_HOME`, else `/var/lib/upkeep` for root, else `$XDG_STATE_HOME/upkeep`, else
//! `~/.local/state/upkeep`. Sockets and locks ("run"): `$UPKEEP_HOME/run` if the home was given, else `/run/upkeep`
//! for root, else `$XDG_RUNTIME_DIR/upkeep`, else `run` under the state. Both are made with mode 0700 and refused if
//! they belong to somebody else.

use std::{
    ffi::OsString,
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The two directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// State: store, logs.
    pub root: PathBuf,
    /// Sockets, locks, the keeper's files.
    pub run: PathBuf,
}

/// Why there is no home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither `UPKEEP_HOME` nor `HOME` is set.
    #[error("failed to find a place for state: neither `UPKEEP_HOME` nor `HOME` is set")]
    NoPlace,
    /// A relative path.
    #[error("failed to use `UPKEEP_HOME={}`: the path is not absolute", path.display())]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// The directory cannot be made.
    #[error("failed to make the directory `{}`", path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
    /// The directory is somebody else's.
    #[error("refused to use `{}`: it belongs to uid {owner}, not to uid {us}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
}

impl Home {
    /// Finds the home from the environment; makes nothing.
    pub fn find(variable: &dyn Fn(&str) -> Option<OsString>, uid: u32) -> Result<Self, HomeError> {
        let path = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(root) = path("UPKEEP_HOME") {
            if !root.is_absolute() {
                return Err(HomeError::Relative { path: root });
            }
            return Ok(Self {
                run: root.join("run"),
                root,
            });
        }
        if uid == 0 {
            return Ok(Self {
                root: "/var/lib/upkeep".into(),
                run: "/run/upkeep".into(),
            });
        }
        let root = path("XDG_STATE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| path("HOME").map(|home| home.join(".local/state")))
            .ok_or(HomeError::NoPlace)?
            .join("upkeep");
        let run = path("XDG_RUNTIME_DIR")
            .filter(|path| path.is_absolute() && path.is_dir())
            .map_or_else(|| root.join("run"), |runtime| runtime.join("upkeep"));
        Ok(Self { root, run })
    }

    /// A home at a given place, as `UPKEEP_HOME` makes it.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            run: root.join("run"),
        }
    }

    /// Makes what is missing, mode 0700.
    pub fn make(&self) -> Result<(), HomeError> {
        make_private(&self.root)?;
        make_private(&self.run)?;
        make_private(&self.logs())
    }

    /// The socket of `/v1`.
    pub fn socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.root.join("store.redb")
    }

    /// The store of the shared configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.redb")
    }

    /// This machine's private key for secrets of the shared configuration, in the root.
    pub const CONFIG_KEY: &'static str = "config.key";

    /// The last good values of apps, sealed.
    pub fn config_cache(&self) -> PathBuf {
        self.root.join("config-cache")
    }

    /// The history of figures.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.redb")
    }

    /// The store of `run`, for as long as it runs.
    pub fn ephemeral_store(&self) -> PathBuf {
        self.run.join("ephemeral.redb")
    }

    /// The list that `save` writes.
    pub fn dump(&self) -> PathBuf {
        self.root.join("dump.json")
    }

    /// Our own authority, and the certificate of the listener.
    pub fn tls(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// Dossiers of crashes.
    pub fn crashes(&self) -> PathBuf {
        self.root.join("crashes")
    }

    /// How far sinks have read the logs of apps.
    pub fn sinks(&self) -> PathBuf {
        self.root.join("sinks")
    }

    /// Logs of apps.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
}

fn make_private(path: &Path) -> Result<(), HomeError> {
    let fail = |source| HomeError::Make {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fail(error)),
    }
    let metadata = std::fs::metadata(path).map_err(fail)?;
    let us = own_uid().map_err(fail)?;
    if !metadata.is_dir() {
        return Err(fail(io::ErrorKind::NotADirectory.into()));
    }
    if metadata.uid() != us && us != 0 {
        return Err(HomeError::Foreign {
            path: path.to_owned(),
            owner: metadata.uid(),
            us,
        });
    }
    if metadata.uid() == us && metadata.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(fail)?;
    }
    Ok(())
}

/// Our uid: `/proc/self` belongs to it.
fn own_uid() -> io::Result<u32> {
    std::fs::metadata("/proc/self").map(|metadata| metadata.uid())
}

/// Our effective uid, for [`Home::find`].
pub fn uid() -> u32 {
    own_uid().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)], uid: u32) -> Result<Home, HomeError> {
        Home::find(
            &|name| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            },
            uid,
        )
    }

    #[test]
    fn the_given_home_wins() {
        let home = find(&[("UPKEEP_HOME", "/x/y"), ("HOME", "/h")], 0).expect("a home");
        assert_eq!(
            home,
            Home {
                root: "/x/y".into(),
                run: "/x/y/run".into()
            }
        );
        assert!(matches!(
            find(&[("UPKEEP_HOME", "x")], 0),
            Err(HomeError::Relative { .. })
        ));
    }

    #[test]
    fn root_and_users_have_their_usual_places() {
        assert_eq!(
            find(&[("HOME", "/root")], 0).expect("a home").run,
            PathBuf::from("/run/upkeep")
        );
        let user = find(&[("HOME", "/home/a")], 1000).expect("a home");
        assert_eq!(user.root, PathBuf::from("/home/a/.local/state/upkeep"));
        assert_eq!(user.run, PathBuf::from("/home/a/.local/state/upkeep/run"));
        assert!(matches!(find(&[], 1000), Err(HomeError::NoPlace)));
    }
}
