//! `docs build`: whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    html::{self, Use},
    site::Site,
    trouble::{Trouble, any_error},
};

/// Reads a folder and makes its page. None if something is wrong with it; `troubles` says what.
pub fn page(folder: &Path, shown: Use, troubles: &mut Vec<Trouble>) -> Option<(Site, String)> {
    let site = Site::read(folder, troubles)?;
    let bodies = site.render(troubles);
    let html = html::assemble(&site, &bodies, shown);
    (!any_error(troubles)).then_some((site, html))
}

/// Where the page goes: `index.html` in a folder, or a file that is named so.
pub fn place(out: &Path) -> PathBuf {
    let file = out
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("html"));
    if file && !out.is_dir() {
        out.to_owned()
    } else {
        out.join("index.html")
    }
}

/// Writes a file beside its place and moves it there: a reader sees the old one or the new one, never a part.
pub fn write(place: &Path, text: &str) -> io::Result<()> {
    let folder = place
        .parent()
        .filter(|folder| *folder != Path::new(""))
        .unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let half = folder.join(format!(".{name}.{}", std::process::id()));
    let written = File::create_new(&half)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&half, place));
    if written.is_err() {
        // What could not be written may be there in part; what fails now has been told.
        let _ = fs::remove_file(&half);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gets_an_index_and_a_file_is_a_file() {
        assert_eq!(place(Path::new("out")), Path::new("out/index.html"));
        assert_eq!(place(Path::new("out/api.html")), Path::new("out/api.html"));
    }

    #[test]
    fn a_failure_leaves_what_was_there_and_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("index.html");
        write(&place, "one").expect("written");
        write(&place, "two").expect("written");
        assert_eq!(fs::read_to_string(&place).expect("the page"), "two");
        let taken = dir.path().join("folder");
        fs::create_dir(&taken).expect("a folder");
        fs::write(taken.join("x"), "").expect("a file");
        write(&taken, "three").expect_err("a folder is in the way");
        let names: Vec<_> = fs::read_dir(dir.path())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
}
