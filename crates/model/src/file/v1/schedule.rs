//! Schedules as they are written.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::OneOrMany;
use crate::{
    schedule::{CatchUp, Overlap},
    size::Span,
};

/// A time, or a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScheduleSpec(pub ScheduleParts);

/// The map.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `at`")]
pub struct ScheduleParts {
    /// Five or six fields of cron, `@daily` and its like, or `every 30m`.
    #[serde(alias = "cron")]
    pub at: String,
    /// Name of the time zone, such as `Europe/Berlin`. Default: the machine's.
    #[serde(alias = "tz", alias = "time_zone")]
    pub timezone: Option<String>,
    /// Each run begins up to so much later, by chance. Default: none.
    pub jitter: Option<Span>,
    /// If the run before has not ended: `skip`, `queue`, `replace`, or `allow` (as many at once as
    /// `instances`). Default: skip.
    pub overlap: Option<Overlap>,
    /// Which missed runs are made up for: `none`, `one` or `all`. Default: one.
    pub catch_up: Option<CatchUp>,
    /// How many missed runs `all` makes up for, the newest. Default: 10.
    pub catch_up_limit: Option<u32>,
    /// How late a run may begin before it counts as missed. Default: 1m.
    #[serde(alias = "starting_deadline")]
    pub start_within: Option<Span>,
    /// How long a run may take. Default: as long as it wants.
    pub timeout: Option<Span>,
    /// Command that is run when a run did not happen, could not be started or was not started in time. It gets
    /// `UPKEEP_APP`, `UPKEEP_REASON` and `UPKEEP_DUE`.
    pub on_missed: Option<OneOrMany>,
}

impl<'de> Deserialize<'de> for ScheduleSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScheduleVisitor;

        impl<'de> Visitor<'de> for ScheduleVisitor {
            type Value = ScheduleSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as `0 3 * * *`, `@daily` or `every 30m`, or a map with `at`")
            }
            fn visit_str<E>(self, text: &str) -> Result<ScheduleSpec, E> {
                Ok(ScheduleSpec(ScheduleParts {
                    at: text.to_owned(),
                    ..ScheduleParts::default()
                }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ScheduleSpec, A::Error> {
                ScheduleParts::deserialize(MapAccessDeserializer::new(map)).map(ScheduleSpec)
            }
        }

        deserializer.deserialize_any(ScheduleVisitor)
    }
}

impl JsonSchema for ScheduleSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Schedule".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let parts = generator.subschema_for::<ScheduleParts>();
        json_schema!({"anyOf": [{"type": "string"}, parts]})
    }
}
