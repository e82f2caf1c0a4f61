//! The files of the web client (`web/`), packed into the program.
//!
//! The build compresses each file once; they lie in the binary in that form and are sent in that form to whoever takes
//! gzip, which every browser does. For others a file is unpacked when it is asked for. What is not in [`ASSETS`] is not
//! there: no path of a request ever meets a file system.
//!
//! It knows nothing of HTTP beyond names of types, and nothing of ours. Start reading at `build.rs`.

#![forbid(unsafe_code)]

use std::io::{self, Read as _};

/// A file of the client.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Where it is served: `/src/main.js`.
    pub path: &'static str,
    /// Its type, as `Content-Type` has it.
    pub media_type: &'static str,
    /// Tells this content from any other, as `ETag` has it.
    pub tag: &'static str,
    /// Its bytes, as a gzip file.
    pub gzip: &'static [u8],
}

/// Every file, by path.
pub const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/table.rs"));

/// The page that everything begins with.
pub const INDEX: &str = "/index.html";

/// The file that is served at `path`; `/` is the index.
pub fn find(path: &str) -> Option<&'static Asset> {
    let path = if path == "/" { INDEX } else { path };
    ASSETS
        .binary_search_by(|asset| asset.path.cmp(path))
        .ok()
        .map(|index| &ASSETS[index])
}

impl Asset {
    /// Its bytes as they were written.
    ///
    /// # Errors
    ///
    /// If what the build has packed cannot be unpacked, which would be a fault of ours.
    pub fn plain(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(self.gzip).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_file_of_the_client_is_there_as_it_was_written() {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        assert!(ASSETS.is_sorted_by(|a, b| a.path < b.path));
        for asset in ASSETS {
            let written = fs::read(web.join(&asset.path[1..])).expect("it was packed from there");
            assert_eq!(asset.plain().expect("it is gzip"), written, "{}", asset.path);
            assert_eq!(find(asset.path).map(|found| found.path), Some(asset.path));
        }
        assert_eq!(find("/").map(|found| found.path), Some(INDEX));
        for absent in [
            "",
            "/src",
            "/src/",
            "/../Cargo.toml",
            "/vendor/README.md",
            "src/main.js",
        ] {
            assert!(find(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn the_client_stays_small() {
        let all: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(all <= 150 << 10, "{all} bytes in the binary");
    }

    #[test]
    fn the_page_names_every_module_that_it_needs_first() {
        // What is not named is found only when the module that imports it has come: a round trip each.
        let page = String::from_utf8(find("/").expect("the index").plain().expect("gzip")).expect("text");
        let mut wanted = vec!["/src/main.js".to_owned()];
        let mut seen: Vec<String> = Vec::new();
        while let Some(path) = wanted.pop() {
            if seen.contains(&path) {
                continue;
            }
            let asset = find(&path).unwrap_or_else(|| panic!("{path} is imported and is not there"));
            let text = String::from_utf8(asset.plain().expect("gzip")).expect("text");
            assert!(
                page.contains(&format!("\"{}\"", &path[1..])),
                "index.html does not name {path}"
            );
            for (from, _) in text.match_indices(" from \"").chain(text.match_indices("from\"")) {
                let rest = &text[from..];
                let name = rest.split('"').nth(1).unwrap_or_default();
                if name.starts_with('.') {
                    wanted.push(resolved(&path, name));
                }
            }
            seen.push(path);
        }
        assert!(seen.len() > 10, "{seen:?}");
    }

    /// `../view.js`, imported by `/src/parts/small.js`.
    fn resolved(by: &str, name: &str) -> String {
        let mut parts: Vec<&str> = by.split('/').collect();
        parts.pop();
        for part in name.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        parts.join("/")
    }
}
