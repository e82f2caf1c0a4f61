//! `/v1` as others see it: the rules that hold for every call, who may do what, and the calls that programs build on.
//!
//! The list of calls is the daemon's own (`GET /v1/openapi.json`): a call that is added is looked at here without a word.

mod calls;
mod client;
mod each;
mod rights;
mod rules;
mod schema;
mod shares;
mod told;
mod verbs;

use upkeep_e2e::{Http, LONG, ask, token};
use upkeep_testkit::{Home, wait_until};

/// A call of the description.
#[derive(Clone, Debug)]
struct Call {
    method: String,
    /// With `{parameters}`.
    template: String,
    /// What it takes.
    verb: String,
    codes: Vec<u16>,
}

impl Call {
    /// The path, with names of things that are not there.
    fn path(&self) -> String {
        self.template
            .replace("{name}", "nothing")
            .replace("{app}", "nothing")
            .replace("{id}", "last")
            .replace("{role}", "nothing")
            .replace("{member}", "uid:4294967")
            .replace("{token}", "nothing")
            .replace("{serial}", "00")
            .replace("{proposal}", "00")
            .replace("{lease}", "77")
            .replace("{path}", "nothing/there")
            // A stream by its nature: asked so, it is refused before it begins.
            .replace("/v1/config/watch", "/v1/config/watch?from=soon")
    }
}

/// Every call that the daemon says it has.
#[track_caller]
fn calls(home: &Home) -> Vec<Call> {
    let document = Http::ask(home, "GET", "/v1/openapi.json", b"").json();
    let mut calls = Vec::new();
    for (template, path) in document["paths"].as_object().expect("paths") {
        for (method, operation) in path.as_object().expect("methods") {
            let codes = operation["responses"].as_object().expect("answers");
            calls.push(Call {
                method: method.to_uppercase(),
                template: template.clone(),
                verb: operation["x-verb"].as_str().expect("a verb").to_owned(),
                codes: codes.keys().filter_map(|code| code.parse().ok()).collect(),
            });
        }
    }
    assert!(calls.len() > 40, "{} calls", calls.len());
    calls
}

/// Has the API listen on a port of loopback; tells its URL.
#[track_caller]
fn listening(home: &Home) -> String {
    let settings = home.write("settings.yaml", "web: {listen: ['127.0.0.1:0']}");
    home.ok(["settings", "set", &settings.display().to_string()]);
    wait_until("a listener", LONG, || {
        let view = home.json(["ping"]);
        let url = view["listeners"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["listening"] == true))
            .and_then(|one| one["url"].as_str().map(str::to_owned));
        url.ok_or_else(|| view.to_string())
    })
}
