//! `import`: from PM2's file to ours.

use std::path::{Path, PathBuf};

use upkeep_model::file::{self, Format};
use upkeep_pm2::{config, import};

use crate::{
    args,
    exit::{Advised, Exit},
    output::Output,
};

/// Writes `upkeep.yaml`.
pub(crate) fn import(import: &args::Import, output: Output) -> anyhow::Result<Exit> {
    let absolute = std::path::absolute(&import.file)?;
    let folder = absolute
        .parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let name = absolute
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let config = config::load(&folder, &name).map_err(|error| {
        let shown = import.file.display();
        let exit = if import.file.exists() {
            Exit::Refused
        } else {
            Exit::NotFound
        };
        Advised::new(exit, format!("failed to read `{shown}`: {error}"))
    })?;
    if let Some(env) = &import.env
        && !config
            .apps
            .iter()
            .any(|app| app.contains_key(&format!("env_{env}")))
    {
        return Err(Advised::new(
            Exit::NotFound,
            format!("no app in `{}` has `env_{env}`", import.file.display()),
        )
        .into());
    }
    let imported = import::import(&config, import.env.as_deref());
    let text = format!(
        "# Written by `upkeep import {}`.\n{}",
        name,
        file::to_yaml(&imported.file)?
    );
    // What we write we can read.
    file::parse(&text, "upkeep.yaml", Format::Yaml)?;
    let place = match &import.output {
        Some(place) => place.clone(),
        None => folder.join("upkeep.yaml"),
    };
    if output.json {
        output.document(&serde_json::json!({ "file": imported.file, "left": imported.left }))?;
    } else if place == Path::new("-") {
        output.text(&text)?;
    }
    if place != Path::new("-") {
        if place.exists() && !import.force {
            return Err(
                Advised::new(Exit::Conflict, format!("`{}` is there already", place.display()))
                    .hint("`--force` replaces it, `-o -` prints")
                    .into(),
            );
        }
        std::fs::write(&place, text)?;
        output.say(&format!(
            "wrote {} apps to {}",
            config.apps.len(),
            place.display()
        ));
    }
    for what in &imported.left {
        output.warn(&format!("not carried over: {what}"));
    }
    Ok(Exit::Done)
}
