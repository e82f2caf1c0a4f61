//! Ecosystem files: JSON that is JavaScript, YAML, and modules that the user's Node evaluates.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Map, Value, json};

mod lenient;

pub use lenient::read as read_expression;

/// Why a file is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not there.
    #[error("File {name} not found")]
    Missing {
        /// As given.
        name: String,
    },
    /// It could not be read or evaluated.
    #[error("File {name} malformated\n{why}")]
    Malformed {
        /// As given.
        name: String,
        /// What the reader, or Node, says.
        why: String,
    },
    /// It is a program, and there is nothing to run it.
    #[error("File {name} is JavaScript, and there is no `node` in PATH to evaluate it")]
    NoNode {
        /// As given.
        name: String,
    },
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The apps, static servers among them, as written.
    pub apps: Vec<Map<String, Value>>,
    /// The part for `deploy`.
    pub deploy: Option<Value>,
    /// What the file printed while it was evaluated.
    pub printed: String,
}

const EXTENSIONS: [&str; 7] = [
    ".json",
    ".yml",
    ".yaml",
    ".config.js",
    ".config.cjs",
    ".config.mjs",
    ".config.ts",
];

/// Does this word name a configuration? PM2 looks for these texts anywhere in it.
pub fn is_config(word: &str) -> bool {
    EXTENSIONS.iter().any(|extension| word.contains(extension))
}

/// Reads a file, named relative to a folder.
pub fn load(folder: &Path, name: &str) -> Result<Config, ConfigError> {
    let (value, printed) = load_value(folder, name)?;
    Ok(Config {
        printed,
        ..parse(&value)
    })
}

/// The whole value of a file, and what it printed.
pub fn load_value(folder: &Path, name: &str) -> Result<(Value, String), ConfigError> {
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).map_err(|_| ConfigError::Missing {
        name: name.to_owned(),
    })?;
    let malformed = |why: String| ConfigError::Malformed {
        name: name.to_owned(),
        why,
    };
    if name.contains(".yml") || name.contains(".yaml") {
        let value = serde_saphyr::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        return Ok((value, String::new()));
    }
    if name.contains(".config.") {
        return evaluate(name, &path, None);
    }
    match lenient::read(&text) {
        Some(value) => Ok((value, String::new())),
        None => evaluate(name, &path, Some(&text)),
    }
}

/// What was piped in.
pub fn from_text(text: &str) -> Result<Config, ConfigError> {
    let value = lenient::read(text).ok_or_else(|| ConfigError::Malformed {
        name: "-".to_owned(),
        why: "not JSON".to_owned(),
    })?;
    Ok(parse(&value))
}

fn objects(value: Option<&Value>) -> Vec<Map<String, Value>> {
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(|app| app.as_object().cloned()).collect(),
        Some(Value::Object(app)) => vec![app.clone()],
        _ => Vec::new(),
    }
}

/// Finds the apps in a value.
pub fn parse(value: &Value) -> Config {
    let listed = value.get("apps").or_else(|| value.get("pm2"));
    let mut apps = match (listed, value) {
        (Some(_), _) => objects(listed),
        (None, Value::Object(fields)) if fields.contains_key("deploy") || fields.contains_key("static") => {
            Vec::new()
        }
        // A file of one app, or a list of apps. An empty one is an app without a script, and is refused as such.
        (None, _) => objects(Some(value)),
    };
    apps.extend(objects(value.get("static")).iter().map(static_server));
    Config {
        apps,
        deploy: value.get("deploy").cloned(),
        printed: String::new(),
    }
}

/// The app that serves a folder.
fn static_server(given: &Map<String, Value>) -> Map<String, Value> {
    let or = |key: &str, default: Value| given.get(key).cloned().unwrap_or(default);
    let port = or("port", json!(8080));
    let port_text = port.as_str().map_or_else(|| port.to_string(), str::to_owned);
    let mut env = Map::new();
    let mut set = |name: &str, value: Value| env.insert(format!("PM2_SERVE_{name}"), value);
    set("PORT", port);
    if let Some(host) = given.get("host") {
        set("HOST", host.clone());
    }
    set("PATH", or("path", json!(".")));
    for (key, name) in [
        ("spa", "SPA"),
        ("ftp", "FTP"),
        ("directory", "DIRECTORY"),
        ("monitor", "MONITOR"),
    ] {
        if let Some(value) = given.get(key) {
            set(name, value.clone());
        }
    }
    let auth = given.get("basic_auth");
    let part = |key: &str| {
        let value = auth.and_then(|auth| auth.get(key)).cloned();
        value.unwrap_or_else(|| json!("null"))
    };
    set("BASIC_AUTH", json!(auth.is_some_and(|auth| !auth.is_null())));
    set("BASIC_AUTH_USERNAME", part("username"));
    set("BASIC_AUTH_PASSWORD", part("password"));
    let name = or("name", json!(format!("static-page-server-{port_text}")));
    let mut app = Map::new();
    app.insert("script".to_owned(), json!("serve"));
    app.insert("name".to_owned(), name);
    app.insert("env".to_owned(), Value::Object(env));
    app
}

/// Evaluates, and prints a mark and JSON behind whatever the file itself prints.
const EVALUATE: &str = r"
const [file, mark, text] = process.argv.slice(1);
const tell = answer => process.stdout.write('\n' + mark + JSON.stringify(answer) + '\n');
(async () => {
  let value;
  if (text !== undefined) {
    value = require('vm').runInThisContext('(' + text + '\n)', { filename: file });
  } else {
    try {
      value = require(file);
    } catch (error) {
      const codes = ['ERR_REQUIRE_ESM', 'ERR_REQUIRE_ASYNC_MODULE', 'ERR_UNKNOWN_FILE_EXTENSION'];
      if (!codes.includes(error.code) && error.name !== 'SyntaxError') throw error;
      value = await import(require('url').pathToFileURL(file).href).catch(() => { throw error; });
    }
    if (value && value.default && !value.apps) value = value.default;
  }
  tell({ value: await value });
})().catch(error => tell({ error: String((error && error.stack) || error) }));
";

fn evaluate(name: &str, path: &Path, text: Option<&str>) -> Result<(Value, String), ConfigError> {
    let malformed = |why: String| ConfigError::Malformed {
        name: name.to_owned(),
        why,
    };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mark = format!("upkeep-config-{}:", std::process::id());
    let mut command = Command::new("node");
    command
        .args(["-e", EVALUATE, "--"])
        .arg(&path)
        .arg(&mark)
        .args(text);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|_| ConfigError::NoNode {
            name: name.to_owned(),
        })?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let (printed, answer) = printed.rsplit_once(&format!("\n{mark}")).ok_or_else(|| {
        malformed(format!(
            "it ended the program that evaluated it ({})",
            output.status
        ))
    })?;
    let (answer, after) = answer.split_once('\n').unwrap_or((answer, ""));
    let mut answer: Value = serde_json::from_str(answer).map_err(|error| malformed(error.to_string()))?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        return Err(malformed(error.to_owned()));
    }
    let value = answer.get_mut("value").map_or(Value::Null, Value::take);
    Ok((value, format!("{printed}{after}")))
}

#[cfg(test)]
mod tests;
