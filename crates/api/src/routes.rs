//! Every call of `/v1`, and the three that other programs expect elsewhere.

use upkeep_model::access::Verb;

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What a caller must hold.
    pub verb: Verb,
    /// Status codes that it answers with, beside 400, 401, 403, 404, 405, 429, 500 and 503.
    pub codes: &'static [u16],
}

impl Route {
    /// Whether the header `If-Match` makes the call conditional.
    pub fn takes_if_match(&self) -> bool {
        let acts_on_one = self
            .path
            .strip_prefix("/v1/apps/{name}")
            .is_some_and(|rest| !matches!(rest, "/heap" | "/profile"));
        let is_role = self.method == "PUT" && self.path == "/v1/roles/{role}";
        let is_one = matches!(
            self.path,
            "/v1/apps" | "/v1/config/values/{path}" | "/v1/settings"
        );
        self.method != "GET" && (acts_on_one || is_role || is_one)
    }
}

const fn route(
    method: &'static str,
    path: &'static str,
    verb: Verb,
    codes: &'static [u16],
    summary: &'static str,
) -> Route {
    Route {
        method,
        path,
        summary,
        verb,
        codes,
    }
}

/// The table. In order of paths.
pub const ROUTES: &[Route] = &[
    route(
        "GET",
        "/v1/alerts",
        Verb::MachineRead,
        &[200],
        "Tells what fires, which rules hold, how channels stand and what is silenced.",
    ),
    route(
        "GET",
        "/v1/alerts/deliveries",
        Verb::MachineRead,
        &[200],
        "Lists messages with their tries, newest first.",
    ),
    route(
        "PUT",
        "/v1/alerts/silences/{app}",
        Verb::AlertsOperate,
        &[200, 422],
        "Tells nothing of one app, of `machine` or of `all` for a while.",
    ),
    route(
        "DELETE",
        "/v1/alerts/silences/{app}",
        Verb::AlertsOperate,
        &[200],
        "Ends a silence.",
    ),
    route(
        "POST",
        "/v1/alerts/test",
        Verb::AlertsOperate,
        &[200],
        "Tries one channel or all with a message that says nothing is wrong.",
    ),
    route(
        "GET",
        "/v1/apps",
        Verb::AppsRead,
        &[200],
        "Lists apps with their instances.",
    ),
    route(
        "POST",
        "/v1/apps",
        Verb::AppsWrite,
        &[200, 201, 422],
        "Creates or updates apps and starts them.",
    ),
    route(
        "GET",
        "/v1/apps/{name}",
        Verb::AppsRead,
        &[200],
        "Shows one app with its whole specification.",
    ),
    route(
        "DELETE",
        "/v1/apps/{name}",
        Verb::AppsWrite,
        &[200],
        "Stops and forgets one app.",
    ),
    route(
        "GET",
        "/v1/apps/{name}/crashes",
        Verb::AppsRead,
        &[200],
        "Lists the crashes of one app, newest first.",
    ),
    route(
        "GET",
        "/v1/apps/{name}/crashes/{id}",
        Verb::AppsRead,
        &[200],
        "Shows all that is known of one crash; the id `last` is the newest.",
    ),
    route(
        "GET",
        "/v1/apps/{name}/exposure",
        Verb::AppsRead,
        &[200],
        "Weighs how much harm one app could do, and says what would close it.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/heap",
        Verb::AppsInspect,
        &[200, 409, 422],
        "Takes a snapshot of the heap of a Node app, or samples what it allocates; answers with a file.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/profile",
        Verb::AppsInspect,
        &[200, 409, 422],
        "Profiles the processor time of a Node app; answers with a file.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/reload",
        Verb::AppsOperate,
        &[200, 422],
        "Replaces every copy of one app without a gap.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/restart",
        Verb::AppsOperate,
        &[200, 422],
        "Restarts one app.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/rollback",
        Verb::AppsWrite,
        &[200, 409, 422],
        "Goes back to what one app was before its last change.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/scale",
        Verb::AppsOperate,
        &[200, 422],
        "Changes how many instances of one app there are.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/start",
        Verb::AppsOperate,
        &[200],
        "Starts one app.",
    ),
    route(
        "POST",
        "/v1/apps/{name}/stop",
        Verb::AppsOperate,
        &[200],
        "Stops one app.",
    ),
    route(
        "GET",
        "/v1/audit",
        Verb::AccessRead,
        &[200],
        "Lists what people and tokens did and what they were refused, newest last.",
    ),
    route(
        "GET",
        "/v1/certificates",
        Verb::AccessRead,
        &[200],
        "Tells of the machine's own authority, of the listener's certificate, and of those that were issued.",
    ),
    route(
        "POST",
        "/v1/certificates",
        Verb::AccessWrite,
        &[200, 201, 422],
        "Issues a certificate for a public key: its holder is the principal `cert:NAME`.",
    ),
    route(
        "PUT",
        "/v1/certificates/authority",
        Verb::SettingsWrite,
        &[200, 422],
        "Makes the machine's own authority, if there is none.",
    ),
    route(
        "POST",
        "/v1/certificates/renew",
        Verb::SettingsWrite,
        &[200, 409, 422],
        "Makes another certificate for the listener, now.",
    ),
    route(
        "DELETE",
        "/v1/certificates/{serial}",
        Verb::AccessWrite,
        &[200],
        "Revokes a certificate, by its number, or all of a name.",
    ),
    route(
        "PUT",
        "/v1/config/approvals",
        Verb::ConfigGrant,
        &[200, 409, 422],
        "Says how many others have to approve changes of a place.",
    ),
    route(
        "POST",
        "/v1/config/auth",
        Verb::SettingsWrite,
        &[200, 409, 422],
        "Has etcd ask everybody who they are.",
    ),
    route(
        "POST",
        "/v1/config/changes",
        Verb::ConfigWrite,
        &[200, 202, 409, 422],
        "Sets and deletes values of the shared configuration, all or nothing.",
    ),
    route(
        "GET",
        "/v1/config/diff",
        Verb::ConfigHistory,
        &[200, 409],
        "Tells what differs in a place between two revisions.",
    ),
    route(
        "POST",
        "/v1/config/explain",
        Verb::ConfigRead,
        &[200, 422],
        "Tells where values come from, out of files and a place, and what they overrule.",
    ),
    route(
        "GET",
        "/v1/config/export",
        Verb::ConfigRead,
        &[200, 409, 422],
        "Writes the values of a place as a file; secrets only if that is asked for.",
    ),
    route(
        "GET",
        "/v1/config/history",
        Verb::ConfigHistory,
        &[200],
        "Lists changes in a place with who, when and why, newest first.",
    ),
    route(
        "POST",
        "/v1/config/import",
        Verb::ConfigWrite,
        &[200, 202, 409, 422],
        "Sets the values of a file, all or nothing.",
    ),
    route(
        "PUT",
        "/v1/config/keep",
        Verb::ConfigGrant,
        &[200, 409, 422],
        "Says how much of the history of a place is kept.",
    ),
    route(
        "POST",
        "/v1/config/leases/{lease}/keep-alive",
        Verb::ConfigWrite,
        &[200],
        "Begins the time anew after which values go by themselves.",
    ),
    route(
        "GET",
        "/v1/config/machines",
        Verb::ConfigRead,
        &[200],
        "Lists the machines that share the configuration, with their public keys and what etcd lets them use.",
    ),
    route(
        "POST",
        "/v1/config/machines",
        Verb::ConfigGrant,
        &[200, 409, 422],
        "Makes a user at etcd that can use some places and no others, for a machine.",
    ),
    route(
        "DELETE",
        "/v1/config/machines/{name}",
        Verb::ConfigGrant,
        &[200, 409],
        "Takes from a machine what it may use at etcd.",
    ),
    route(
        "POST",
        "/v1/config/migrate",
        Verb::SettingsWrite,
        &[200, 409, 422],
        "Moves the whole configuration to another store, while it is in use.",
    ),
    route(
        "GET",
        "/v1/config/proposals",
        Verb::ConfigRead,
        &[200],
        "Lists changes that wait for others, the oldest first.",
    ),
    route(
        "POST",
        "/v1/config/proposals/{proposal}/approve",
        Verb::ConfigWrite,
        &[200, 409, 422],
        "Approves a change of somebody else, and carries it out if so many have.",
    ),
    route(
        "POST",
        "/v1/config/proposals/{proposal}/refuse",
        Verb::ConfigWrite,
        &[200, 409, 422],
        "Takes a change away that waits.",
    ),
    route(
        "POST",
        "/v1/config/reseal",
        Verb::ConfigGrant,
        &[200, 409, 422],
        "Seals the secrets of a place for those who are its recipients now.",
    ),
    route(
        "POST",
        "/v1/config/rollback",
        Verb::ConfigWrite,
        &[200, 202, 409, 422],
        "Sets a place back to what it was at a revision.",
    ),
    route(
        "GET",
        "/v1/config/rules",
        Verb::ConfigRead,
        &[200],
        "Tells for whom secrets of which place are sealed.",
    ),
    route(
        "PUT",
        "/v1/config/rules",
        Verb::ConfigGrant,
        &[200, 409, 422],
        "Says for whom secrets of a place are sealed.",
    ),
    route(
        "GET",
        "/v1/config/schemas",
        Verb::ConfigRead,
        &[200],
        "Lists the schemas of places.",
    ),
    route(
        "PUT",
        "/v1/config/schemas",
        Verb::ConfigGrant,
        &[200, 409, 422],
        "Says which schema the values of a place have to fit.",
    ),
    route(
        "GET",
        "/v1/config/status",
        Verb::ConfigRead,
        &[200],
        "Tells how the store of the shared configuration is doing.",
    ),
    route(
        "GET",
        "/v1/config/values",
        Verb::ConfigRead,
        &[200, 409, 422],
        "Lists values of a place; secrets are masked.",
    ),
    route(
        "GET",
        "/v1/config/values/{path}",
        Verb::ConfigRead,
        &[200, 409],
        "Shows one value; a secret in clear if that is asked for.",
    ),
    route(
        "PUT",
        "/v1/config/values/{path}",
        Verb::ConfigWrite,
        &[200, 202, 409, 422],
        "Sets one value.",
    ),
    route(
        "DELETE",
        "/v1/config/values/{path}",
        Verb::ConfigWrite,
        &[200, 202, 409, 422],
        "Deletes one value.",
    ),
    route(
        "GET",
        "/v1/config/watch",
        Verb::ConfigWatch,
        &[200],
        "Tells of every change in a place, each once and in order.",
    ),
    route(
        "GET",
        "/v1/daemon",
        Verb::MachineRead,
        &[200],
        "Tells who answers: versions, processes, places.",
    ),
    route(
        "POST",
        "/v1/daemon/kill",
        Verb::MachineControl,
        &[200],
        "Stops every app, forgets all and ends.",
    ),
    route(
        "POST",
        "/v1/daemon/shutdown",
        Verb::MachineControl,
        &[200],
        "Stops every app and ends; the same apps come back on the next start.",
    ),
    route(
        "POST",
        "/v1/daemon/upgrade",
        Verb::MachineControl,
        &[200, 202],
        "Replaces daemon and keeper by the program now on disk.",
    ),
    route(
        "GET",
        "/v1/events",
        Verb::EventsRead,
        &[200],
        "Lists what was done and what happened, newest last; or follows it.",
    ),
    route(
        "GET",
        "/v1/logs",
        Verb::AppsLogs,
        &[200],
        "Reads log lines of several apps merged by time; or follows them.",
    ),
    route(
        "GET",
        "/v1/metrics",
        Verb::AppsRead,
        &[200, 422],
        "Tells figures of apps, instances and the machine over a span of time.",
    ),
    route(
        "GET",
        "/v1/openapi.json",
        Verb::SelfRead,
        &[200],
        "Describes all this for programs: OpenAPI 3.1.",
    ),
    route(
        "GET",
        "/v1/roles",
        Verb::AccessRead,
        &[200],
        "Lists roles with what they give and who holds them.",
    ),
    route(
        "PUT",
        "/v1/roles/{role}",
        Verb::AccessWrite,
        &[200, 409, 422],
        "Makes or replaces a role.",
    ),
    route(
        "DELETE",
        "/v1/roles/{role}",
        Verb::AccessWrite,
        &[200, 409],
        "Forgets a role that nobody holds.",
    ),
    route(
        "PUT",
        "/v1/roles/{role}/members/{member}",
        Verb::AccessWrite,
        &[200, 422],
        "Gives a role to a local user or to the holder of a certificate.",
    ),
    route(
        "DELETE",
        "/v1/roles/{role}/members/{member}",
        Verb::AccessWrite,
        &[200, 422],
        "Takes a role away.",
    ),
    route(
        "GET",
        "/v1/schedules",
        Verb::AppsRead,
        &[200],
        "Lists apps that are run by the clock, with their next and their last run.",
    ),
    route(
        "GET",
        "/v1/schedules/{name}",
        Verb::AppsRead,
        &[200],
        "Shows one schedule with its next times.",
    ),
    route(
        "GET",
        "/v1/search",
        Verb::AppsRead,
        &[200, 422],
        "Finds a text in apps, instances, events and logs.",
    ),
    route(
        "POST",
        "/v1/selections/delete",
        Verb::AppsWrite,
        &[200],
        "Stops and forgets every app that is selected.",
    ),
    route(
        "POST",
        "/v1/selections/reload",
        Verb::AppsOperate,
        &[200, 422],
        "Replaces every copy of all that is selected without a gap.",
    ),
    route(
        "POST",
        "/v1/selections/restart",
        Verb::AppsOperate,
        &[200],
        "Restarts all that is selected, dependencies first.",
    ),
    route(
        "POST",
        "/v1/selections/start",
        Verb::AppsOperate,
        &[200],
        "Starts all that is selected, dependencies first.",
    ),
    route(
        "POST",
        "/v1/selections/stop",
        Verb::AppsOperate,
        &[200],
        "Stops all that is selected, dependents first.",
    ),
    route(
        "GET",
        "/v1/settings",
        Verb::SettingsRead,
        &[200],
        "Shows the settings of the machine with their revision.",
    ),
    route(
        "PUT",
        "/v1/settings",
        Verb::SettingsWrite,
        &[200, 409, 422],
        "Replaces the settings of the machine.",
    ),
    route(
        "POST",
        "/v1/settings/explain",
        Verb::SettingsRead,
        &[200, 422],
        "Tells where settings of the machine come from.",
    ),
    route(
        "PUT",
        "/v1/snapshot",
        Verb::AppsWrite,
        &[200],
        "Saves the list of apps.",
    ),
    route(
        "POST",
        "/v1/snapshot/restore",
        Verb::AppsWrite,
        &[200],
        "Starts every saved app that is not in the list.",
    ),
    route(
        "GET",
        "/v1/tokens",
        Verb::AccessRead,
        &[200],
        "Lists tokens, without their secrets.",
    ),
    route(
        "POST",
        "/v1/tokens",
        Verb::AccessWrite,
        &[200, 201, 409, 422],
        "Makes a token; its secret is in the answer and nowhere else.",
    ),
    route(
        "DELETE",
        "/v1/tokens/{token}",
        Verb::AccessWrite,
        &[200],
        "Revokes a token, by id or name.",
    ),
    route(
        "GET",
        "/v1/whoami",
        Verb::SelfRead,
        &[200],
        "Tells the caller who it is and what it may do.",
    ),
];

/// What other programs ask for, by the names that they expect. Nothing else is served outside `/v1`.
pub const OUTSIDE: &[Route] = &[
    route(
        "GET",
        "/healthz",
        Verb::MachineRead,
        &[200],
        "Answers as long as the daemon does.",
    ),
    route(
        "GET",
        "/metrics",
        Verb::MachineRead,
        &[200],
        "Tells the newest figures as OpenMetrics, or as Prometheus' text.",
    ),
    route(
        "GET",
        "/readyz",
        Verb::MachineRead,
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
