//! A home with shared configuration, in a file or on a real etcd: these tests are run on both (`config`, `config-etcd`).

use std::ops::Deref;

use serde_json::{Value, json};
use upkeep_e2e::LONG;
pub(crate) use upkeep_e2e::{ask, token};
use upkeep_testkit::{Home, etcd::Etcd, wait_until};

/// A home, and its etcd if it has one. The home ends first.
pub(crate) struct World {
    home: Home,
    _etcd: Option<Etcd>,
}

impl Deref for World {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

/// A new one, of the kind that this run is about.
pub(crate) fn home() -> World {
    if crate::ON_ETCD {
        let etcd = Etcd::single(&[]);
        let home = Home::new();
        join(&home, &etcd, "web1");
        home.ok(["config", "recipients", "/", "--to", "machine:web1"]);
        World {
            home,
            _etcd: Some(etcd),
        }
    } else {
        World {
            home: Home::new(),
            _etcd: None,
        }
    }
}

/// Settings of a machine that shares an etcd; nobody looks after it, so that nothing is done that a test does not do.
pub(crate) fn settings(etcd: &Etcd, name: &str, more: Value) -> Value {
    let mut store = json!({"endpoints": etcd.endpoints(), "care": false});
    for (key, value) in more.as_object().into_iter().flatten() {
        store[key] = value.clone();
    }
    json!({"config": {"machine": name, "etcd": store}})
}

/// Has a machine use these settings.
#[track_caller]
pub(crate) fn set(home: &Home, settings: &Value) {
    home.write("settings.json", &settings.to_string());
    home.ok(["settings", "set", "settings.json"]);
}

/// Has a machine share an etcd, and waits until it has announced itself there.
#[track_caller]
pub(crate) fn join(home: &Home, etcd: &Etcd, name: &str) {
    set(home, &settings(etcd, name, Value::Null));
    announced(home, name);
}

/// Waits until a machine knows of another.
#[track_caller]
pub(crate) fn announced(home: &Home, name: &str) {
    let name = format!("machine:{name}");
    wait_until("the machine to announce itself", LONG, || {
        let output = home.cmd(["config", "machine", "ls", "--json"]);
        let list: Value = serde_json::from_str(&output.stdout).map_err(|_| output.stderr.clone())?;
        let machines = list["machines"].as_array().cloned().unwrap_or_default();
        let is_known = |machine: &Value| machine["name"] == name.as_str() && machine["at"].is_number();
        if machines.iter().any(is_known) {
            Ok(())
        } else {
            Err(list.to_string())
        }
    });
}

/// What stands in a list, by path; of what is not shown, nothing.
#[track_caller]
pub(crate) fn listed(home: &Home, place: &str) -> Vec<(String, Option<String>)> {
    let list = home.json(["config", "ls", place]);
    list["values"]
        .as_array()
        .unwrap_or_else(|| panic!("no list: {list}"))
        .iter()
        .map(|entry| {
            let path = entry["path"].as_str().expect("a path").to_owned();
            (path, entry["text"].as_str().map(str::to_owned))
        })
        .collect()
}
