//! The side's daemon: its methods, its bus, its records.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_pm2::client::{Bus, Client, Published};
use upkeep_testkit::pass;

use super::{Side, shell::COMMAND};
use crate::case::{Condition, Field, Step};

impl Side {
    pub(super) fn client(&self) -> Option<Client> {
        let client = Client::connect(&self.root.join("h/rpc.sock")).ok()?;
        client.set_timeout(Some(COMMAND)).ok()?;
        Some(client)
    }

    /// What `jlist` shows, without a command line; nothing if there is no daemon.
    pub(super) fn records(&self) -> Vec<Value> {
        let answer = self
            .client()
            .and_then(|mut client| client.call("getMonitorData", json!({})).ok());
        let mut records = match answer {
            Some(Value::Array(records)) => records,
            _ => Vec::new(),
        };
        records.sort_by_key(|record| record["pm_id"].as_u64());
        records
    }

    pub(super) fn rpc(&mut self, method: &str, arguments: &str) -> Result<Vec<String>, String> {
        let arguments = self.filled(arguments);
        let Ok(Value::Array(arguments)) = serde_json::from_str(&arguments) else {
            return Err(format!("no list of arguments: {arguments}"));
        };
        let mut client = self.client().ok_or("no daemon answers")?;
        let answer = client.call_with(method, arguments);
        let records = self.records();
        self.normal.learn(&records);
        let mut lines = Vec::new();
        match answer {
            Ok(value) => {
                self.normal.json("answer", &value, &mut lines);
                // What an agent tells by itself may have come or not.
                lines.retain(|line| !line.contains(".axm_") && !line.contains(".node_version"));
            }
            Err(error) => lines.extend(self.text_lines(&format!("refused: {error}\n"))),
        }
        Ok(lines)
    }

    pub(super) fn listen(&mut self) -> Result<(), String> {
        let mut bus =
            Bus::connect(&self.root.join("h/pub.sock")).map_err(|error| format!("no bus: {error}"))?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        self.heard = Some(Arc::clone(&heard));
        thread::spawn(move || {
            // It ends with the daemon.
            while let Ok(Some(published)) = bus.next_event() {
                if let Ok(mut heard) = heard.lock() {
                    heard.push(published);
                }
            }
        });
        // The daemon has to accept the connection before it can tell anything.
        pass(Duration::from_millis(50));
        Ok(())
    }

    pub(super) fn heard(&mut self, step: &Step, event: &str, count: usize) -> Result<Vec<String>, String> {
        let heard = self.heard.clone().ok_or("nobody listens")?;
        let events = || -> Vec<Published> {
            let heard = heard.lock().map(|heard| heard.clone()).unwrap_or_default();
            heard.into_iter().filter(|each| each.event == event).collect()
        };
        self.wait(step, Duration::from_secs(15), |_| {
            let events = events();
            if events.len() >= count {
                Ok(())
            } else {
                Err(format!("{events:?}"))
            }
        })?;
        let mut lines = Vec::new();
        for published in events().iter().take(count) {
            let process = &published.payload["process"];
            if event == "process:event" {
                lines.push(format!(
                    "{} of {} {} manually {} status {} restart_time {}",
                    published.payload["event"],
                    process["name"],
                    process["pm_id"],
                    published.payload["manually"],
                    process["status"],
                    process["restart_time"]
                ));
            } else {
                self.normal.json(event, &published.payload, &mut lines);
            }
        }
        Ok(lines)
    }

    pub(super) fn holds(&self, condition: &Condition) -> Result<(), String> {
        let records = self.records();
        let values = values(&records, &condition.field);
        let wanted = condition.value.as_str();
        let good = |value: &Value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let numbers = (text.parse::<f64>(), wanted.parse::<f64>());
            match (condition.operator.as_str(), numbers) {
                ("==", _) => text == wanted,
                ("!=", _) => text != wanted,
                (">=", (Ok(text), Ok(wanted))) => text >= wanted,
                ("<=", (Ok(text), Ok(wanted))) => text <= wanted,
                (">", (Ok(text), Ok(wanted))) => text > wanted,
                ("<", (Ok(text), Ok(wanted))) => text < wanted,
                _ => false,
            }
        };
        if !values.is_empty() && values.iter().all(good) {
            return Ok(());
        }
        let states: Vec<String> = records
            .iter()
            .map(|record| {
                format!(
                    "{} {} {} restarts {}",
                    record["pm_id"],
                    record["name"],
                    record["pm2_env"]["status"],
                    record["pm2_env"]["restart_time"]
                )
            })
            .collect();
        Err(format!("{values:?} of [{}]", states.join(", ")))
    }
}

pub(super) fn is(record: &Value, target: &str) -> bool {
    match target.strip_prefix('#') {
        Some(id) => id.parse::<u64>().is_ok_and(|id| record["pm_id"] == id),
        None => target == "*" || record["name"] == target,
    }
}

/// The values of a field; null where it is absent.
pub(super) fn values(records: &[Value], field: &Field) -> Vec<Value> {
    let found = records.iter().filter(|record| is(record, &field.target));
    if field.key == "count" {
        return vec![Value::from(found.count())];
    }
    found
        .map(|record| {
            let own = field.key.split('.').try_fold(record, |value, key| value.get(key));
            let env = || {
                field
                    .key
                    .split('.')
                    .try_fold(record.get("pm2_env")?, |value, key| value.get(key))
            };
            own.or_else(env).cloned().unwrap_or(Value::Null)
        })
        .collect()
}
