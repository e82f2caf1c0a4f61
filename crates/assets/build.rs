//! Packs the files of `web/` into a table: path, type, tag, bytes. They are compressed here, once, as well as gzip can.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Type of a file by the end of its name. A file of another kind is not one of the client's and stops the build.
fn media_type(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    Some(match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "js" | "mjs")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        None if name == "LICENSE" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// FNV-1a: tells one content from another, which is all that a tag has to do.
fn tag(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn pack(web: &Path, out: &Path) -> io::Result<()> {
    let mut found = Vec::new();
    files(web, &mut found)?;
    found.sort();
    let mut table = String::from("&[\n");
    for (number, file) in found.iter().enumerate() {
        let inside = file.strip_prefix(web).map_err(io::Error::other)?;
        let path = inside
            .to_str()
            .ok_or_else(|| io::Error::other("a name that is no text"))?;
        // For those who read the source.
        if path.rsplit('/').next() == Some("README.md") {
            continue;
        }
        let media_type =
            media_type(path).ok_or_else(|| io::Error::other(format!("web/{path} has no known type")))?;
        let bytes = fs::read(file)?;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(&bytes)?;
        let packed = format!("{number}.gz");
        fs::write(out.join(&packed), packer.finish()?)?;
        // Writing into a string cannot fail.
        let _ = writeln!(
            table,
            "    Asset {{ path: {:?}, media_type: {media_type:?}, tag: \"W/\\\"{:016x}\\\"\", gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{packed}\")) }},",
            format!("/{path}"),
            tag(&bytes)
        );
    }
    table.push_str("]\n");
    fs::write(out.join("table.rs"), table)
}

fn main() -> io::Result<()> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    println!("cargo::rerun-if-changed={}", web.display());
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo names no OUT_DIR"))?;
    pack(&web, Path::new(&out))
}
