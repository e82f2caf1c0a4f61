//! What an app gets of the shared configuration.

use std::path::Path;

use super::{Facts, join, probe, who};
use crate::{
    file::{
        At, Fault,
        v1::{ActionWord, ConfigSpec, FileSpec, OnChangeSpec},
    },
    supply::{ChangeAction, ConfigUse, FILE_MODE, FileUse, OnChange, TEMPLATE_MAX, USES_MAX, refuse_allowed},
};

/// The places of an app.
pub(super) fn config(written: Option<At<ConfigSpec>>) -> Result<Option<ConfigUse>, Fault> {
    let Some(At { value, position }) = written else {
        return Ok(None);
    };
    let fail = |why: String| Fault::new(position, why);
    if value.places.is_empty() {
        return Err(fail("`config` names no place".to_owned()).hint("write it like `/shop/prod/`"));
    }
    if value.places.len() > USES_MAX {
        return Err(fail(format!(
            "`config` has {} places; it can have {USES_MAX}",
            value.places.len()
        )));
    }
    for (at, place) in value.places.iter().enumerate() {
        if !place.is_many() {
            return Err(fail(format!(
                "`config`: `{place}` is one value, and no place of several"
            ))
            .hint(format!("all below it: `{place}/`")));
        }
        if value.places[..at].contains(place) {
            return Err(fail(format!("`config` names `{place}` twice")));
        }
    }
    refuse_allowed(&value.allow).map_err(fail)?;
    Ok(Some(ConfigUse {
        places: value.places,
        env: value.env.unwrap_or(true),
        allow: value.allow,
    }))
}

/// The files of an app, with their templates.
pub(super) fn files(
    written: Option<Vec<At<FileSpec>>>,
    facts: &Facts<'_>,
    cwd: &Path,
    config: Option<&ConfigUse>,
) -> Result<Vec<FileUse>, Fault> {
    let written = written.unwrap_or_default();
    let first = written.first().and_then(|file| file.position);
    if !written.is_empty() && config.is_none() {
        return Err(Fault::new(
            first,
            "`files` are made from values of `config`, and there is none",
        )
        .hint("`config: {places: /shop/prod/, env: false}` gives values to files alone"));
    }
    if written.len() > USES_MAX {
        let why = format!("`files` has {} files; it can have {USES_MAX}", written.len());
        return Err(Fault::new(first, why));
    }
    let mut files: Vec<FileUse> = Vec::with_capacity(written.len());
    for At { value, position } in written {
        let path = join(&facts.file_dir, &value.template);
        let text = (facts.read_file)(&path).map_err(|error| {
            Fault::new(
                position,
                format!(
                    "failed to read the template `{}` of `files`: {error}",
                    path.display()
                ),
            )
        })?;
        if text.len() > TEMPLATE_MAX {
            let why = format!(
                "the template `{}` of `files` has {} bytes; {TEMPLATE_MAX} are allowed",
                path.display(),
                text.len()
            );
            return Err(Fault::new(position, why));
        }
        let to = join(cwd, &value.to);
        if value.to.is_empty() || value.to.ends_with('/') || to.file_name().is_none() {
            return Err(Fault::new(
                position,
                format!("`files`: `{}` names no file", value.to),
            ));
        }
        if files.iter().any(|other| other.to == to) {
            let why = format!("`files` makes `{}` twice", to.display());
            return Err(Fault::new(position, why));
        }
        let check = value
            .check
            .map(|check| probe::words("check", check.value).map_err(|why| Fault::new(check.position, why)))
            .transpose()?;
        files.push(FileUse {
            template: value.template,
            text,
            to,
            owner: who("owner", value.owner)?,
            group: who("group", value.group)?,
            mode: value.mode.map_or(FILE_MODE, |mode| mode.0),
            check,
            allow_blank: value.allow_blank.unwrap_or(false),
        });
    }
    Ok(files)
}

/// What is done when values change.
pub(super) fn on_change(
    written: Option<At<OnChangeSpec>>,
    config: Option<&ConfigUse>,
) -> Result<OnChange, Fault> {
    let Some(At { value, position }) = written else {
        return Ok(OnChange::default());
    };
    if config.is_none() {
        return Err(Fault::new(
            position,
            "`on_change` is about `config`, and there is none",
        ));
    }
    let (parts, usual) = (value.0, OnChange::default());
    let action = match (parts.signal, parts.action.map(|word| word.value)) {
        (Some(signal), _) => ChangeAction::Signal(signal.0),
        (None, None | Some(ActionWord::Reload)) => ChangeAction::Reload,
        (None, Some(ActionWord::Restart)) => ChangeAction::Restart,
        (None, Some(ActionWord::None)) => ChangeAction::None,
    };
    let wait = parts.wait.unwrap_or(usual.wait);
    let max = parts.max.unwrap_or_else(|| usual.max.max(wait));
    if max < wait {
        let why = format!("`on_change.max` ({max}) is less than `on_change.wait` ({wait})");
        return Err(Fault::new(position, why));
    }
    Ok(OnChange { action, wait, max })
}
