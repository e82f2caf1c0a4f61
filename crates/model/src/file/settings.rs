//! The file of settings: the same three formats as those of apps.

use schemars::generate::SchemaSettings;

use super::{
    Fault, FileError, Position, de,
    parse::Format,
    tree::{Dialect, Node, read_json, read_toml, read_yaml},
};
use crate::settings::Settings;

/// Where the schema says it lives.
pub const SCHEMA_ID: &str = "https://upkeep.dev/schema/v1/settings.schema.json";

/// Reads settings from a text; the name tells in which format it is.
pub fn parse(text: &str, path: &str) -> Result<Settings, FileError> {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let tree = match extension.to_ascii_lowercase().as_str() {
        "yaml" | "yml" => read(text, Format::Yaml),
        "toml" => read(text, Format::Toml),
        "json" => read(text, Format::Json),
        // Standard input has no name; JSON is YAML too.
        _ if path == "-" => read(text, Format::Yaml),
        _ => Err(Fault::new(None, "the name does not say what this file is")
            .hint("known are `*.yaml`, `*.yml`, `*.toml` and `*.json`")),
    }
    .map_err(|fault| fault.in_file(path))?;
    let settings: Settings = if matches!(tree.value, super::tree::Value::Null) {
        Settings::default()
    } else {
        de::from_node(&tree).map_err(|fault| fault.in_file(path))?
    };
    settings.check().map_err(|error| {
        let position = place(&tree, &error.path);
        Fault::new(position, error.to_string()).in_file(path)
    })?;
    Ok(settings)
}

fn read(text: &str, format: Format) -> Result<Node, Fault> {
    match format {
        Format::Toml => read_toml(text),
        Format::Json => read_json(text, Dialect::Strict),
        _ => read_yaml(text),
    }
}

/// The place of what a path leads to, or of the innermost part of it that was written.
fn place(tree: &Node, path: &[String]) -> Position {
    let mut node = tree;
    for step in path {
        let inner = match step.parse::<usize>() {
            Ok(index) if node.get(step).is_none() => node.items().get(index),
            _ => node.get(step),
        };
        match inner {
            Some(inner) => node = inner,
            None => break,
        }
    }
    node.at
}

/// The schema as JSON, indented, ending in a newline; the same for every run.
pub fn json_schema() -> String {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Settings>();
    schema.insert("$id".to_owned(), SCHEMA_ID.into());
    schema.insert("title".to_owned(), "Upkeep settings of a machine".into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{FreeSpace, Severity, alerts::Threshold};

    const YAML: &str = "\
logs: {free_space: 5%}
metrics: {listen: 127.0.0.1:9464}
alerts:
  channels:
    ops:
      email: {host: smtp.example.org, from: upkeep@example.org, to: [ops@example.org]}
    hook:
      webhook: {url: 'https://example.org/hook', secret_file: /etc/upkeep/hook.key}
  rules:
    - {on: over_limit, metric: memory, threshold: 90%, for: 2m, severity: critical, channels: [hook]}
  quiet: {from: '22:00', to: '07:00', timezone: Europe/Berlin}
";

    #[test]
    fn all_formats_say_the_same() {
        let yaml = parse(YAML, "settings.yaml").expect("it is right");
        assert_eq!(yaml.logs.free_space, Some(FreeSpace::Percent(5)));
        assert_eq!(yaml.alerts.rules[0].threshold, Some(Threshold::Percent(90.0)));
        assert_eq!(yaml.alerts.rules[0].severity, Some(Severity::Critical));
        let json = serde_json::to_string(&yaml).expect("it can be written");
        assert_eq!(parse(&json, "settings.json"), Ok(yaml.clone()));
        let toml = "[logs]\nfree_space = \"5%\"\n[metrics]\nlisten = \"127.0.0.1:9464\"\n";
        let from_toml = parse(toml, "settings.toml").expect("it is right");
        assert_eq!((from_toml.logs, from_toml.metrics), (yaml.logs, yaml.metrics));
        assert_eq!(parse("", "settings.yaml"), Ok(Settings::default()));
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        for (text, wanted) in [
            (
                "logs: {free_spce: 5%}",
                "settings.yaml:1:8: unknown key `free_spce`",
            ),
            (
                "metrics:\n  listen: 0.0.0.0:1",
                "settings.yaml:2:11: `metrics.listen`",
            ),
            (
                "alerts:\n  rules:\n    - {on: over_limit}",
                "settings.yaml:3:7: `alerts.rules.0.metric`",
            ),
            (
                "alerts:\n  rules:\n    - {on: crash, channels: [nobody]}",
                "settings.yaml:3:29: `alerts.rules.0.channels`: there is no channel `nobody`",
            ),
            (
                "alerts: {channels: {a: {}}}",
                "settings.yaml:1:24: `alerts.channels.a`: expected one of",
            ),
            (
                "otlp: {endpoint: 'http://127.0.0.1:4318', interval: 15ms}",
                "settings.yaml:1:53: `otlp.interval`: expected a span from 1s to 1h",
            ),
            (
                "otlp: {endpoint: 'http://127.0.0.1:4318/?a'}",
                "settings.yaml:1:18: `otlp.endpoint`: expected the URL that",
            ),
            ("otlp: {endpoint: 'ftp://127.0.0.1:4318'}", "settings.yaml:1:18: "),
            (
                "alerts: {quiet: {from: '25:00', to: '1:00'}}",
                "settings.yaml:1:24",
            ),
        ] {
            let error = parse(text, "settings.yaml").expect_err(text).to_string();
            assert!(error.starts_with(wanted), "{text:?}: {error}");
        }
        let error = parse("lgos: {}", "settings.yaml").expect_err("unknown");
        assert_eq!(error.hint(), Some("did you mean `logs`?"));
    }
}
