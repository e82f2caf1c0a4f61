//! What the real PM2 showed, kept from run to run: it takes most of the time.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{case::Case, compare::Entry};

/// The place of one case's answer.
#[derive(Debug)]
pub(crate) struct Answers {
    file: PathBuf,
}

impl Answers {
    /// If `PM2_ANSWERS` says where. The name of the file holds everything that the answer depends on.
    pub(crate) fn from_env(case: &Case) -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("PM2_ANSWERS")?);
        fs::create_dir_all(&folder).ok()?;
        let mut hasher = DefaultHasher::new();
        (&case.env, &case.files, &case.tags, case.end).hash(&mut hasher);
        for step in &case.steps {
            step.text.hash(&mut hasher);
        }
        let apps = Path::new(env!("CARGO_MANIFEST_DIR")).join("pm2/apps");
        let mut apps: Vec<PathBuf> = fs::read_dir(apps).ok()?.flatten().map(|app| app.path()).collect();
        apps.sort();
        for app in apps {
            fs::read(app).ok()?.hash(&mut hasher);
        }
        let name = format!("{}-{}-{:x}.json", case.section, case.name, hasher.finish());
        Some(Self {
            file: folder.join(name),
        })
    }

    pub(crate) fn kept(&self) -> Option<Vec<Entry>> {
        let value: Value = serde_json::from_slice(&fs::read(&self.file).ok()?).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        value
            .as_array()?
            .iter()
            .map(|entry| {
                let lines = entry["lines"]
                    .as_array()?
                    .iter()
                    .map(text)
                    .collect::<Option<_>>()?;
                Some(Entry {
                    title: text(&entry["title"])?,
                    lines,
                    detail: text(&entry["detail"])?,
                })
            })
            .collect()
    }

    /// Keeps an answer; if that fails, it is asked for again.
    pub(crate) fn keep(&self, entries: &[Entry]) {
        let entries: Vec<Value> = entries
            .iter()
            .map(|entry| json!({"title": entry.title, "lines": entry.lines, "detail": entry.detail}))
            .collect();
        let _ = fs::write(&self.file, Value::Array(entries).to_string());
    }
}
