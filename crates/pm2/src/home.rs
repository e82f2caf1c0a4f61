//! `PM2_HOME`: where its files are, and the variables that move them.

use std::{ffi::OsString, path::PathBuf};

/// The version of PM2 whose behaviour this is.
pub const PM2_VERSION: &str = "7.0.4";

/// The files of one home. Every path is absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pm2Home {
    /// `PM2_HOME`.
    pub root: PathBuf,
    /// The daemon's own log.
    pub log: PathBuf,
    /// The pid to send signals to: of our keeper, which outlives daemons.
    pub pid: PathBuf,
    /// Methods.
    pub rpc: PathBuf,
    /// The bus.
    pub publish: PathBuf,
    /// Logs of apps.
    pub logs: PathBuf,
    /// Pid files of apps.
    pub pids: PathBuf,
    /// Installed modules.
    pub modules: PathBuf,
    /// What `pm2 set` has written.
    pub module_conf: PathBuf,
    /// What `pm2 save` has written.
    pub dump: PathBuf,
    /// And the time before.
    pub dump_backup: PathBuf,
    /// A time in Unix milliseconds while a reload is under way.
    pub reload_lock: PathBuf,
    /// There after the first run.
    pub touch: PathBuf,
    /// Upkeep's own state of this home: `UPKEEP_HOME` of the keeper and the daemon that serve it.
    pub upkeep: PathBuf,
}

impl Pm2Home {
    /// The home that these variables mean; `None` if neither `PM2_HOME`, `OVER_HOME` nor `HOME` is set.
    pub fn find(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Self> {
        let path = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = path("PM2_HOME")
            .or_else(|| path("OVER_HOME"))
            .or_else(|| path("HOME").map(|home| home.join(".pm2")))?;
        let root = std::path::absolute(&root).unwrap_or(root);
        let place = |name: &str, default: &str| {
            path(name).map_or_else(
                || root.join(default),
                |path| std::path::absolute(&path).unwrap_or(path),
            )
        };
        Some(Self {
            log: place("PM2_LOG_FILE_PATH", "pm2.log"),
            pid: place("PM2_PID_FILE_PATH", "pm2.pid"),
            rpc: place("PM2_DAEMON_RPC_PORT", "rpc.sock"),
            publish: place("PM2_DAEMON_PUB_PORT", "pub.sock"),
            logs: place("PM2_DEFAULT_LOG_PATH", "logs"),
            pids: place("PM2_DEFAULT_PID_PATH", "pids"),
            modules: place("PM2_DEFAULT_MODULE_PATH", "modules"),
            module_conf: place("PM2_MODULE_CONF_FILE", "module_conf.json"),
            dump: place("PM2_DUMP_FILE_PATH", "dump.pm2"),
            dump_backup: place("PM2_DUMP_BACKUP_FILE_PATH", "dump.pm2.bak"),
            reload_lock: place("PM2_RELOAD_LOCKFILE", "reload.lock"),
            touch: root.join("touch"),
            upkeep: root.join(".upkeep"),
            root,
        })
    }

    /// The home of this process's environment.
    pub fn from_env() -> Option<Self> {
        Self::find(&|name| std::env::var_os(name))
    }

    /// What the daemon is called in the process table: scripts look for it.
    pub fn daemon_title(&self) -> String {
        format!("PM2 v{PM2_VERSION}: God Daemon ({})", self.root.display())
    }

    /// Makes the folders and the files that are always there. Errors: of the first that could not be made.
    pub fn make(&self) -> std::io::Result<()> {
        for folder in [&self.root, &self.logs, &self.pids, &self.modules] {
            std::fs::create_dir_all(folder)?;
        }
        if !self.module_conf.exists() {
            std::fs::write(&self.module_conf, "{}")?;
        }
        Ok(())
    }

    /// The pid file of a process, from the path that its record was given or the home's own folder: the id always
    /// stands before `.pid`.
    pub fn default_log(&self, name: &str, suffix: &str) -> PathBuf {
        self.logs.join(format!("{}{suffix}.log", file_name(name)))
    }
}

/// An app's name as part of a file's name: what could not stand there becomes `-`.
pub fn file_name(name: &str) -> String {
    name.chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() || "._-".contains(character) {
                character
            } else {
                '-'
            }
        })
        .collect()
}

/// Puts `-ID` before the extension of a path, in the place of another id: `shop.log` and `shop-1.log` become
/// `shop-3.log`. A path with another extension stays as it is, as with PM2.
pub fn with_id(path: &str, extension: &str, id: u64) -> String {
    let Some(stem) = path.strip_suffix(extension) else {
        return path.to_owned();
    };
    let bare = match stem.rsplit_once('-') {
        Some((bare, old)) if !old.is_empty() && old.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => stem,
    };
    format!("{bare}-{id}{extension}")
}

#[cfg(test)]
mod tests {
    use super::with_id;

    #[test]
    fn an_id_takes_the_place_of_another() {
        assert_eq!(with_id("/x/shop.log", ".log", 3), "/x/shop-3.log");
        assert_eq!(with_id("/x/shop-1.log", ".log", 3), "/x/shop-3.log");
        assert_eq!(with_id("/x/shop-out.log", ".log", 3), "/x/shop-out-3.log");
        assert_eq!(with_id("/x/shop.txt", ".log", 3), "/x/shop.txt");
        assert_eq!(with_id("/x/shop.pid", ".pid", 0), "/x/shop-0.pid");
    }
}
