//! Files of an app, made of its values. Blocking: not for a runtime's thread.

use std::time::Duration;

use upkeep_model::supply::FileUse;
use upkeep_render::{
    Values,
    apply::ApplyError,
    command::Run,
    file::{self, Target, Ways},
    render,
    set::{self, Wanted},
};

use super::NOT_SHOWN;

/// How long the check of one file may take.
const CHECK: Duration = Duration::from_mins(1);

/// Why files are not as values have them.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) why: String,
    /// With the same values it may go well another time: it is not they that are at fault, but the disk, or what a check found.
    pub(super) again: bool,
}

impl Failure {
    pub(super) fn of_values(why: impl ToString) -> Self {
        Self {
            why: why.to_string(),
            again: false,
        }
    }

    pub(super) fn of_machine(why: impl ToString) -> Self {
        Self {
            why: why.to_string(),
            again: true,
        }
    }
}

/// Makes all files of an app as values have them: all or none. `is_secret`: what checks say may repeat secrets.
pub(super) fn write(files: &[FileUse], values: &Values, is_secret: bool) -> Result<(), Failure> {
    let wanted = files
        .iter()
        .map(|file| wanted(file, values))
        .collect::<Result<Vec<_>, _>>()?;
    let wrote = set::write(&wanted).map_err(|error| match error {
        ApplyError::Blank(_) => Failure::of_values(error),
        ApplyError::Refused { ref why, .. } if !why.said.is_empty() => {
            let said: Vec<&str> = if is_secret {
                vec![NOT_SHOWN]
            } else {
                why.said.lines().take(5).collect()
            };
            Failure::of_machine(format!("{error}: {}", said.join("; ")))
        }
        error => Failure::of_machine(error),
    });
    wrote.map(drop)
}

fn wanted(given: &FileUse, values: &Values) -> Result<Wanted, Failure> {
    let rendered =
        render(&given.template, &given.text, values, given.allow_blank).map_err(Failure::of_values)?;
    let owner = file::owner(given.owner.as_deref(), given.group.as_deref())
        .map_err(|why| Failure::of_machine(format!("failed to write `{}`: {why}", given.to.display())))?;
    Ok(Wanted {
        target: Target {
            mode: given.mode,
            owner,
            ways: Ways::Trusted,
            ..Target::new(&given.to)
        },
        check: given.check.as_ref().map(|words| Run::new(words.clone(), CHECK)),
        allow_blank: given.allow_blank,
        text: rendered.text,
    })
}
