//! From a text and a file name to the written form.

use super::{
    At, FileError, de, ecosystem, procfile,
    tree::{Dialect, Node, Value, read_json, read_toml, read_yaml},
    v1,
};

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own, as YAML.
    Yaml,
    /// Our own, as TOML.
    Toml,
    /// Our own, as JSON.
    Json,
    /// PM2's, as JSON or, if the name ends so, YAML.
    Ecosystem,
    /// `name: command` lines.
    Procfile,
}

/// Whose rules hold where a file says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Style {
    /// Ours.
    #[default]
    Native,
    /// PM2's.
    Pm2,
    /// A Procfile's: ours, and `.env` beside it is read if it is there.
    Procfile,
}

/// What was written, defaults not filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The file as it was named, for errors.
    pub path: String,
    /// Whose rules hold.
    pub style: Style,
    /// The apps, in the order of the file.
    pub apps: Vec<At<v1::App>>,
    /// What was understood but is not honoured.
    pub warnings: Vec<String>,
}

/// Keys that only PM2's files have.
const PM2_KEYS: [&str; 14] = [
    "autorestart",
    "max_memory_restart",
    "kill_timeout",
    "exec_mode",
    "error_file",
    "out_file",
    "max_restarts",
    "min_uptime",
    "restart_delay",
    "exp_backoff_restart_delay",
    "merge_logs",
    "log_date_format",
    "cron_restart",
    "watch",
];

impl Format {
    /// The format of a file, by its name and, where the name leaves it open, its content.
    ///
    /// | name | format |
    /// |---|---|
    /// | `Procfile`, `Procfile.*`, `*.procfile` | Procfile |
    /// | `upkeep.*`, `*.upkeep.*` ending in `yaml`, `yml`, `toml`, `json` | ours |
    /// | `ecosystem.*`, `*.config.*`, `process.*`, `processes.*`, `pm2.*` ending in `json`, `yaml`, `yml` | PM2's |
    /// | anything else in `toml` | ours |
    /// | anything else in `json`, `yaml`, `yml` | PM2's if the top level is a list or has `pm2`, `deploy` or `static`, or if an app has a key that only PM2 knows; else ours |
    ///
    /// JavaScript and TypeScript are refused: they are programs, and need `node` to be read.
    pub fn detect(path: &str, text: &str) -> Result<Self, FileError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let lower = name.to_ascii_lowercase();
        if lower == "procfile" || lower.starts_with("procfile.") || lower.ends_with(".procfile") {
            return Ok(Self::Procfile);
        }
        let (stem, extension) = lower.rsplit_once('.').unwrap_or((lower.as_str(), ""));
        let native = match extension {
            "yaml" | "yml" => Self::Yaml,
            "toml" => return Ok(Self::Toml),
            "json" | "json5" | "jsonc" => Self::Json,
            _ if JAVASCRIPT.contains(&extension) => return Err(javascript(path)),
            _ => return Err(unknown(path)),
        };
        if stem == "upkeep" || stem.ends_with(".upkeep") {
            return Ok(native);
        }
        if ["ecosystem", "process", "processes", "pm2"].contains(&stem)
            || stem.starts_with("ecosystem.")
            || stem.ends_with(".config")
        {
            return Ok(Self::Ecosystem);
        }
        let looks_like_pm2 = Self::Ecosystem
            .tree(path, text)
            .is_ok_and(|tree| looks_like_pm2(&tree));
        Ok(if looks_like_pm2 { Self::Ecosystem } else { native })
    }

    fn tree(self, path: &str, text: &str) -> Result<Node, FileError> {
        let extension = path.rsplit('.').next().unwrap_or("").to_ascii_lowercase();
        match self {
            Self::Yaml => read_yaml(text),
            Self::Toml => read_toml(text),
            Self::Json => read_json(text, Dialect::Strict),
            Self::Ecosystem if extension == "yaml" || extension == "yml" => read_yaml(text),
            Self::Ecosystem | Self::Procfile => read_json(text, Dialect::Loose),
        }
        .map_err(|fault| fault.in_file(path))
    }
}

fn looks_like_pm2(tree: &Node) -> bool {
    if !tree.items().is_empty()
        || ["pm2", "deploy", "static"]
            .iter()
            .any(|key| tree.get(key).is_some())
    {
        return true;
    }
    let apps = tree.get("apps");
    let listed = apps.into_iter().flat_map(Node::items);
    let named = apps
        .into_iter()
        .flat_map(|apps| apps.entries().iter().map(|entry| &entry.node));
    listed.chain(named).flat_map(Node::entries).any(|entry| {
        let key = ecosystem::snake_case(&entry.key);
        PM2_KEYS.contains(&key.as_str()) || key.starts_with("env_") && key != "env_file"
    })
}

/// Endings of files that are programs.
const JAVASCRIPT: [&str; 6] = ["js", "cjs", "mjs", "ts", "mts", "cts"];

/// Whether a file of that name is a program, which has to be run to be read.
pub fn is_javascript(name: &std::path::Path) -> bool {
    name.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| JAVASCRIPT.contains(&extension))
}

fn javascript(path: &str) -> FileError {
    FileError {
        path: path.to_owned(),
        position: None,
        message: "this file is a program, and this version does not run it to read it".to_owned(),
        hint: Some(
            "reading JavaScript through `node` comes with the PM2 drop-in; until then write it as JSON or YAML: \
             `node -p 'JSON.stringify(require(\"./ecosystem.config.js\"), null, 2)' > ecosystem.config.json`"
                .to_owned(),
        ),
    }
}

fn unknown(path: &str) -> FileError {
    FileError {
        path: path.to_owned(),
        position: None,
        message: "the name does not say what this file is".to_owned(),
        hint: Some("known are `*.yaml`, `*.yml`, `*.toml`, `*.json` and `Procfile`".to_owned()),
    }
}

/// Top-level keys that start with `x-` are the user's own: a place for anchors, as in Compose files.
fn without_extensions(mut tree: Node) -> Node {
    if let Value::Map(entries) = &mut tree.value {
        entries.retain(|entry| !entry.key.starts_with("x-"));
    }
    tree
}

/// Reads a file's text. `path` is used in errors and, for PM2's files, to tell JSON from YAML.
pub fn parse(text: &str, path: &str, format: Format) -> Result<Written, FileError> {
    if format == Format::Procfile {
        let apps = procfile::parse(text).map_err(|fault| fault.in_file(path))?;
        return Ok(Written {
            path: path.to_owned(),
            style: Style::Procfile,
            apps,
            warnings: Vec::new(),
        });
    }
    let tree = format.tree(path, text)?;
    if format == Format::Ecosystem {
        let (apps, warnings) = ecosystem::read(&tree).map_err(|fault| fault.in_file(path))?;
        return Ok(Written {
            path: path.to_owned(),
            style: Style::Pm2,
            apps,
            warnings,
        });
    }
    let tree = without_extensions(tree);
    let file: v1::File = de::from_node(&tree).map_err(|fault| {
        let bare =
            tree.get("apps").is_none() && (tree.get("script").is_some() || tree.get("command").is_some());
        let fault = if bare {
            fault.hint("apps stand under `apps:`")
        } else {
            fault
        };
        fault.in_file(path)
    })?;
    Ok(Written {
        path: path.to_owned(),
        style: Style::Native,
        apps: file.apps.0,
        warnings: Vec::new(),
    })
}
