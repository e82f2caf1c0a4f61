//! Several files that belong together: all of them are written, or none.
//!
//! Whoever writes them acts upon them and sees to the way back by itself: it renders again what held before.

use std::path::PathBuf;

use crate::{
    apply::ApplyError,
    command::Run,
    file::{New, Place, Target},
};

/// A file and what is to stand in it.
#[derive(Clone)]
pub struct Wanted {
    /// Which.
    pub target: Target,
    /// Runs on the new file (`{}`) before any of them takes the place of the old.
    pub check: Option<Run>,
    /// It may be blank.
    pub allow_blank: bool,
    /// Its text.
    pub text: String,
}

/// Shows no content.
impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Wanted({}, {} bytes)",
            self.target.path.display(),
            self.text.len()
        )
    }
}

/// Writes files, and tells which have changed. Each new one is written beside its target and checked; only when all are well do
/// they take their places. If one cannot, those before it go back. Blocks for as long as the checks take.
pub fn write(files: &[Wanted]) -> Result<Vec<PathBuf>, ApplyError> {
    let mut places = Vec::with_capacity(files.len());
    for file in files {
        if file.text.trim().is_empty() && !file.allow_blank {
            return Err(ApplyError::Blank(file.target.path.clone()));
        }
        places.push(Place::of(&file.target)?);
    }
    let mut new: Vec<(&Place, New<'_>)> = Vec::new();
    for (file, place) in files.iter().zip(&places) {
        if place.is(file.text.as_bytes())? {
            continue;
        }
        let prepared = place.prepare(file.text.as_bytes())?;
        if let Some(check) = &file.check {
            let path = prepared.path().to_string_lossy().into_owned();
            check.with_path(&path).run().map_err(|why| ApplyError::Refused {
                path: file.target.path.clone(),
                why,
            })?;
        }
        new.push((place, prepared));
    }
    let mut changed = Vec::new();
    let mut taken: Vec<&Place> = Vec::new();
    for (place, prepared) in new {
        // Also one that fails: it may have its place, and only the disk was not made to hold it.
        taken.push(place);
        if let Err(error) = prepared.take_place() {
            // All of them, whatever becomes of one: what could not go back is told with why it had to.
            let stuck: Vec<String> = taken
                .iter()
                .filter_map(|place| place.go_back().err())
                .map(|error| error.to_string())
                .collect();
            if stuck.is_empty() {
                return Err(error.into());
            }
            return Err(ApplyError::Stuck {
                why: error.to_string(),
                stuck: stuck.join("; "),
            });
        }
        changed.push(place.path().to_owned());
    }
    for place in &places {
        if place.is_unsettled() {
            place.settle()?;
        }
    }
    Ok(changed)
}
