//! What runs by the clock.

use upkeep_api::{
    body::{ScheduleList, ScheduleQuery, ScheduleView},
    client::with_query,
};

use super::look;
use crate::{
    args::ScheduleVerb,
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, Paint, schedule},
    settings::Settings,
};

/// `schedule ls`, `schedule next`.
pub(crate) async fn run(verb: ScheduleVerb, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    match verb {
        ScheduleVerb::Ls => {
            let list: ScheduleList = client.get("/v1/schedules").await?;
            if output.json {
                output.document(&list)?;
            } else if list.schedules.is_empty() {
                output.say("nothing runs by the clock; `schedule:` in an app file does that");
            } else {
                output.text(&schedule::table(&list.schedules, output))?;
            }
        }
        ScheduleVerb::Next { app, times } => {
            let name = upkeep_model::id::AppName::parse(&app)
                .map_err(|error| Advised::new(Exit::NotFound, format!("there is no app `{app}`: {error}")))?;
            let path = look::app_path(&name).replacen("/v1/apps/", "/v1/schedules/", 1);
            let query = ScheduleQuery {
                times: Some(times.into()),
            };
            let view: ScheduleView = client.get(&with_query(&path, &query)).await?;
            if output.json {
                output.document(&view)?;
                return Ok(Exit::Done);
            }
            if view.paused {
                output.say(&format!(
                    "{name} is stopped: `upkeep start {name}` runs it now and by the clock again"
                ));
            }
            let lines: Vec<String> = view
                .times
                .iter()
                .map(|time| schedule::time(*time, &view.timezone))
                .collect();
            if lines.is_empty() {
                output.text(&output.paint(Paint::Quiet, "never again"))?;
            } else {
                output.text(&lines.join("\n"))?;
            }
        }
    }
    Ok(Exit::Done)
}
