//! `config edit`: a value in an editor.
//!
//! The value goes into a file in a directory of its own, which only its user can enter (0700, the file 0600), in
//! `$XDG_RUNTIME_DIR` where that is (memory), else where temporary files are. The directory is removed however the editor ends,
//! and on SIGINT, SIGTERM and SIGHUP; a `kill -9` leaves it. What comes out is written with the revision that was read: if
//! somebody else has changed the value meanwhile, nothing is changed. Whatever the store says no to stays in the file, which is
//! named: what somebody has written is not thrown away.

use std::{
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path as File, PathBuf},
};

use tokio::signal::unix::{SignalKind, signal};
use upkeep_api::{
    client::ClientError,
    config::{ConfigChanged, ValueKind},
    error::Code,
};
use upkeep_model::place::Path;

use super::{body, masked, read, show, url};
use crate::{
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, clean::clean},
    settings::Settings,
};

/// Files have no longer names than this, in bytes.
const NAME_MAX: usize = 100;

/// A private directory with one file, removed with this unless it is kept.
struct Private {
    directory: PathBuf,
    file: PathBuf,
    is_kept: bool,
}

/// What the file is called: as the value, for the editor to know what it is; of a long name its end.
fn file_name(name: &str) -> &str {
    let begin = (name.len().saturating_sub(NAME_MAX)..=name.len()).find(|at| name.is_char_boundary(*at));
    &name[begin.unwrap_or_default()..]
}

impl Private {
    fn make(name: &str, content: &[u8]) -> std::io::Result<Self> {
        let parent = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute() && path.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let mut random = [0; 12];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
            .map_err(|_| std::io::Error::other("the system gave no random numbers"))?;
        let directory = parent.join(format!("upkeep-edit-{}", upkeep_model::hex::hex(&random)));
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let made = Self {
            file: directory.join(file_name(name)),
            directory,
            is_kept: false,
        };
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&made.file)?
            .write_all(content)?;
        Ok(made)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if !self.is_kept {
            // Copies that the editor has made lie in it too.
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

const fn named(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Text => "text",
        ValueKind::Number => "number",
        ValueKind::Json => "json",
        ValueKind::Yaml => "yaml",
        ValueKind::File => "file",
    }
}

/// Runs the editor. `false`: we were told to end.
async fn edited(file: &File) -> anyhow::Result<bool> {
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
        .unwrap_or_else(|| "vi".to_owned());
    // From here on signals end the editor, and us only when the file is gone.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut child = tokio::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{editor} \"$@\""))
        .arg(&editor)
        .arg(file)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Advised::new(Exit::Failed, format!("failed to run `{editor}`: {error}")))?;
    loop {
        tokio::select! {
            // Cancel-safe: all of them only wait.
            status = child.wait() => {
                let status = status?;
                if status.success() {
                    return Ok(true);
                }
                return Err(Advised::new(
                    Exit::Failed,
                    format!("`{editor}` did not end well ({status}); nothing was changed"),
                )
                .hint("`$EDITOR` says which editor is run")
                .into());
            }
            // The terminal tells the editor too, for which it may mean something else than the end.
            _ = interrupt.recv() => {}
            _ = terminate.recv() => return Ok(false),
            _ = hangup.recv() => return Ok(false),
        }
    }
}

pub(super) async fn run(
    path: &Path,
    reveal: bool,
    secret: bool,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let (before, kind, revision) = match read(&mut client, path, reveal).await {
        Ok(entry) => match entry.value.content() {
            Some(content) => (content, entry.value.kind.unwrap_or_default(), entry.revision),
            None => return Err(masked(path).into()),
        },
        Err(ClientError::Refused(body)) if body.code == Code::NotFound => {
            (Vec::new(), ValueKind::default(), 0)
        }
        Err(error) => return Err(error.into()),
    };
    drop(client);
    let fail = |error: std::io::Error| {
        Advised::new(
            Exit::Failed,
            format!("failed to write the file to be edited: {error}"),
        )
    };
    let mut private = Private::make(path.name(), &before).map_err(fail)?;
    if !edited(&private.file).await? {
        return Ok(Exit::Interrupted);
    }
    let read = std::fs::File::open(&private.file).and_then(super::value_of);
    let mut after =
        read.map_err(|error| Advised::new(Exit::Failed, format!("failed to read what was edited: {error}")))?;
    // Editors end the last line.
    let is_whole = after.len() <= super::VALUE_MAX + 1;
    if kind != ValueKind::File && is_whole && !before.ends_with(b"\n") && after.ends_with(b"\n") {
        after.pop();
    }
    if after == before {
        output.say("nothing changes");
        return Ok(Exit::Done);
    }
    let sent = async {
        super::fits(&after, path, "what was edited")?;
        let put = body(after, kind, secret, Some(revision), settings);
        let mut client = connect_or_start(settings).await?;
        let changed: ConfigChanged = client.call("PUT", &url(path), Some(&put)).await?;
        Ok::<_, anyhow::Error>(changed)
    };
    match sent.await {
        Ok(changed) => show::changed(&changed, settings, output),
        Err(error) => {
            private.is_kept = true;
            // The editor may have made it anew, as others are made.
            let _ = std::fs::set_permissions(&private.file, std::fs::Permissions::from_mode(0o600));
            let kept = clean(&private.file.display().to_string());
            let seal = if secret { " --secret" } else { "" };
            let how = match kind {
                ValueKind::File => format!("{path}{seal} --file {kept}"),
                _ => format!("{path} -{seal} --kind {} < {kept}", named(kind)),
            };
            output.warn(&format!(
                "what was edited is kept in `{kept}`: `upkeep config set {how}` sets it; delete it afterwards"
            ));
            Err(error)
        }
    }
}
