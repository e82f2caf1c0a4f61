//! Packs our own reference: the pages of `docs/reference/api` and the OpenAPI document that they are held to, as one gzip file.
//!
//! Form of what is packed: for each file its path, a line end, its length in bytes, a line end, its bytes.

use std::{
    env, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

fn main() -> io::Result<()> {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let pages = reference.join("api");
    let mut files: Vec<PathBuf> = Vec::new();
    if pages.is_dir() {
        for entry in fs::read_dir(&pages)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "md")
                || name == "_config.yml"
            {
                files.push(path);
            }
        }
    }
    files.sort();
    let document = reference.join("openapi.json");
    println!("cargo::rerun-if-changed={}", pages.display());
    println!("cargo::rerun-if-changed={}", document.display());
    if document.is_file() {
        files.push(document);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("own.gz");
    let mut packer = GzEncoder::new(fs::File::create(out)?, Compression::best());
    for path in files {
        let bytes = fs::read(&path)?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        writeln!(packer, "{name}\n{}", bytes.len())?;
        packer.write_all(&bytes)?;
    }
    packer.finish()?.sync_all()
}
