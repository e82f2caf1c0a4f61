//! Every call of `/v1`, and the three that other programs expect elsewhere.

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Status codes that it answers with, beside 400, 404, 405, 500 and 503.
    pub codes: &'static [u16],
}

const fn route(
    method: &'static str,
    path: &'static str,
    codes: &'static [u16],
    summary: &'static str,
) -> Route {
    Route {
        method,
        path,
        summary,
        codes,
    }
}

/// The table. In order of paths.
pub const ROUTES: &[Route] = &[
    route(
        "GET",
        "/v1/alerts",
        &[200],
        "Tells what fires, which rules hold, how channels stand and what is silenced.",
    ),
    route(
        "GET",
        "/v1/alerts/deliveries",
        &[200],
        "Lists messages with their tries, newest first.",
    ),
    route(
        "PUT",
        "/v1/alerts/silences/{app}",
        &[200, 422],
        "Tells nothing of one app, of `machine` or of `all` for a while.",
    ),
    route("DELETE", "/v1/alerts/silences/{app}", &[200], "Ends a silence."),
    route(
        "POST",
        "/v1/alerts/test",
        &[200],
        "Tries one channel or all with a message that says nothing is wrong.",
    ),
    route("GET", "/v1/apps", &[200], "Lists apps with their instances."),
    route(
        "POST",
        "/v1/apps",
        &[200, 201, 422],
        "Creates or updates apps and starts them.",
    ),
    route(
        "GET",
        "/v1/apps/{name}",
        &[200],
        "Shows one app with its whole specification.",
    ),
    route("DELETE", "/v1/apps/{name}", &[200], "Stops and forgets one app."),
    route(
        "GET",
        "/v1/apps/{name}/crashes",
        &[200],
        "Lists the crashes of one app, newest first.",
    ),
    route(
        "GET",
        "/v1/apps/{name}/crashes/{id}",
        &[200],
        "Shows all that is known of one crash; the id `last` is the newest.",
    ),
    route(
        "GET",
        "/v1/apps/{name}/exposure",
        &[200],
        "Weighs how much harm one app could do, and says what would close it.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/heap",
        &[200, 409, 422],
        "Takes a snapshot of the heap of a Node app, or samples what it allocates; answers with a file.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/profile",
        &[200, 409, 422],
        "Profiles the processor time of a Node app; answers with a file.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/reload",
        &[200, 422],
        "Replaces every copy of one app without a gap.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/restart",
        &[200, 422],
        "Restarts one app.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/rollback",
        &[200, 409, 422],
        "Goes back to what one app was before its last change.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/scale",
        &[200, 422],
        "Changes how many instances of one app there are.",
    ),
    route("POST", "/v1/apps/{name}/start", &[200], "Starts one app."),
    route("POST", "/v1/apps/{name}/stop", &[200], "Stops one app."),
    route(
        "GET",
        "/v1/daemon",
        &[200],
        "Tells who answers: versions, processes, places.",
    ),
    route(
        "POST",
        "/v1/daemon/kill",
        &[200],
        "Stops every app, forgets all and ends.",
    ),
    route(
        "POST",
        "/v1/daemon/shutdown",
        &[200],
        "Stops every app and ends; the same apps come back on the next start.",
    ),
    route(
        "POST",
        "/v1/daemon/upgrade",
        &[200, 202],
        "Replaces daemon and keeper by the program now on disk.",
    ),
    route(
        "GET",
        "/v1/events",
        &[200],
        "Lists what was done and what happened, newest last; or follows it.",
    ),
    route(
        "GET",
        "/v1/logs",
        &[200],
        "Reads log lines of several apps merged by time; or follows them.",
    ),
    route(
        "GET",
        "/v1/metrics",
        &[200, 422],
        "Tells figures of apps, instances and the machine over a span of time.",
    ),
    route(
        "GET",
        "/v1/schedules",
        &[200],
        "Lists apps that are run by the clock, with their next and their last run.",
    ),
    route(
        "GET",
        "/v1/schedules/{name}",
        &[200],
        "Shows one schedule with its next times.",
    ),
    route(
        "POST",
        "/v1/selections/delete",
        &[200],
        "Stops and forgets every app that is selected.",
    ),
    route(
        "POST",
        "/v1/selections/reload",
        &[200, 422],
        "Replaces every copy of all that is selected without a gap.",
    ),
    route(
        "POST",
        "/v1/selections/restart",
        &[200],
        "Restarts all that is selected, dependencies first.",
    ),
    route(
        "POST",
        "/v1/selections/start",
        &[200],
        "Starts all that is selected, dependencies first.",
    ),
    route(
        "POST",
        "/v1/selections/stop",
        &[200],
        "Stops all that is selected, dependents first.",
    ),
    route(
        "GET",
        "/v1/settings",
        &[200],
        "Shows the settings of the machine with their revision.",
    ),
    route(
        "PUT",
        "/v1/settings",
        &[200, 409, 422],
        "Replaces the settings of the machine.",
    ),
    route("PUT", "/v1/snapshot", &[200], "Saves the list of apps."),
    route(
        "POST",
        "/v1/snapshot/restore",
        &[200],
        "Starts every saved app that is not in the list.",
    ),
];

/// What other programs ask for, by the names that they expect. Nothing else is served outside `/v1`.
pub const OUTSIDE: &[Route] = &[
    route("GET", "/healthz", &[200], "Answers as long as the daemon does."),
    route(
        "GET",
        "/metrics",
        &[200],
        "Tells the newest figures as OpenMetrics, or as Prometheus' text.",
    ),
    route(
        "GET",
        "/readyz",
        &[200, 503],
        "Tells whether the daemon takes orders and looks at its apps.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_keeps_the_rules() {
        for route in ROUTES {
            assert!(route.path.starts_with("/v1/"), "{route:?}");
            assert_eq!(route.path, route.path.to_lowercase(), "{route:?}");
            assert!(route.summary.ends_with('.'), "{route:?}");
            assert!(
                matches!(route.method, "GET" | "POST" | "PUT" | "DELETE"),
                "{route:?}"
            );
        }
        let mut paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
        let given = paths.clone();
        paths.sort_unstable();
        assert_eq!(paths, given, "in order of paths");
    }
}
