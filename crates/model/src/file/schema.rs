//! The published JSON Schema of the written form.

use schemars::generate::SchemaSettings;

use super::v1::File;

/// Where the schema says it lives.
pub const SCHEMA_ID: &str = "https://upkeep.dev/schema/v1/upkeep.schema.json";

/// The schema as JSON, indented, ending in a newline; the same for every run.
pub fn json_schema() -> String {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<File>();
    schema.insert("$id".to_owned(), SCHEMA_ID.into());
    schema.insert("title".to_owned(), "Upkeep application file".into());
    schema.insert("patternProperties".to_owned(), serde_json::json!({"^x-": true}));
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
