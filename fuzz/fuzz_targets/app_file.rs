//! No bytes make the readers of users' files panic, hang or eat the memory.

#![no_main]

use std::{collections::BTreeMap, io, path::Path};

use libfuzzer_sys::fuzz_target;
use upkeep_model::file::{
    Format, dotenv, parse,
    resolve::{Facts, FileKind, resolve},
};

const NAMES: [&str; 7] =
    ["upkeep.yaml", "upkeep.toml", "upkeep.json", "ecosystem.config.json", "pm2.yml", "Procfile", "other.json"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if *choice == 255 {
        drop(dotenv::parse(text));
        return;
    }
    let name = NAMES[usize::from(*choice) % NAMES.len()];
    let Ok(format) = Format::detect(name, text) else { return };
    let Ok(written) = parse(text, name, format) else { return };
    let facts = Facts {
        file_dir: "/srv".into(),
        cpus: 4,
        caller_env: BTreeMap::new(),
        env_name: Some("production".to_owned()),
        known_apps: Default::default(),
        read_file: &|_: &Path| Err(io::Error::from(io::ErrorKind::NotFound)),
        find_program: &|name| name.len() % 2 == 0,
        file_kind: &|path| match path.as_os_str().len() % 4 {
            0 => None,
            1 => Some(FileKind::Binary),
            2 => Some(FileKind::Text),
            _ => Some(FileKind::Executable),
        },
    };
    drop(resolve(written, &facts));
});
