//! This machine's key for secrets: `config.key` in the home, mode 0600, made when it is first needed.
//!
//! One line: the format (1), the name (`machine:web1`), the private key (X25519, 64 hexadecimal digits).

use std::sync::{Mutex, PoisonError};

use upkeep_config::seal::Identity;
use upkeep_host::home::Home;
use upkeep_model::hex::hex;

use crate::{certs::Folder, main_loop::note, settings::read_secret};

/// Several may need the key for the first time at once; the file beside it belongs to one of them.
static MAKING: Mutex<()> = Mutex::new(());

/// Reads the key, or makes one. Blocks.
pub(super) fn load(folder: &Folder) -> Result<Identity, String> {
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    look(folder)
}

fn look(folder: &Folder) -> Result<Identity, String> {
    let path = folder.path(Home::CONFIG_KEY);
    match std::fs::symlink_metadata(&path) {
        Ok(_) => {
            let text = read_secret(&path).map_err(|refusal| match refusal.hint {
                Some(hint) => format!("{} ({hint})", refusal.message),
                None => refusal.message,
            })?;
            read(&text).ok_or_else(|| format!("`{}` is no key of format 1", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if folder.path("config.redb").exists() {
                note(
                    "the key for secrets was gone: another was made, and what was sealed for the old one cannot be opened here",
                );
            }
            make(folder)
        }
        Err(error) => Err(format!("failed to read `{}`: {error}", path.display())),
    }
}

fn make(folder: &Folder) -> Result<Identity, String> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host
        .chars()
        .filter(|one| !one.is_whitespace() && !one.is_control())
        .collect();
    let name = format!("machine:{}", if host.is_empty() { "localhost" } else { &host });
    let identity = Identity::generate(name.as_str()).map_err(|error| error.to_string())?;
    let digits = hex(&identity.to_bytes()[..]);
    let is_ours = folder.write_first(Home::CONFIG_KEY, &format!("1 {name} {digits}\n"))?;
    folder.settle()?;
    // One that somebody has put there meanwhile is the machine's: what is sealed for it must be opened.
    if is_ours { Ok(identity) } else { look(folder) }
}

fn read(text: &str) -> Option<Identity> {
    let mut words = text.split_ascii_whitespace();
    let (format, name, digits) = (words.next()?, words.next()?, words.next()?);
    if format != "1" || words.next().is_some() || digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(Identity::from_bytes(name, bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn makers_at_the_same_time_have_one_key() {
        for _ in 0..20 {
            let home = tempfile::tempdir().expect("a directory");
            let start = std::sync::Barrier::new(4);
            let made: Vec<Identity> = std::thread::scope(|scope| {
                let makers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            load(&Folder(home.path().to_owned())).expect("a key")
                        })
                    })
                    .collect();
                makers
                    .into_iter()
                    .map(|maker| maker.join().expect("made"))
                    .collect()
            });
            assert!(made.iter().all(|one| one.recipient() == made[0].recipient()));
            // One that was there first is the one, whoever has another ready.
            let folder = Folder(home.path().to_owned());
            let late = make(&folder).expect("the key that is there");
            assert_eq!(late.recipient(), made[0].recipient());
            let files = std::fs::read_dir(home.path()).expect("a folder").count();
            assert_eq!(files, 1, "nothing is left beside it");
        }
    }

    #[test]
    fn a_key_is_made_once_and_kept_from_others() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = Folder(home.path().to_owned());
        let path = folder.path(Home::CONFIG_KEY);
        let first = load(&folder).expect("one is made").recipient();
        let mode = std::fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(load(&folder).expect("it is read").recipient(), first);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("a mode");
        let error = load(&folder).expect_err("others can read it");
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        for wrong in [
            "",
            "1 machine:x",
            "2 machine:x 00",
            "1 machine:x zz",
            "1 machine:x 00 00",
        ] {
            std::fs::write(&path, wrong).expect("written");
            assert!(load(&folder).is_err(), "{wrong}");
        }
    }
}
