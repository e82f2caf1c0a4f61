//! The questions, in the order of the table.

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Its name in JSON.
    pub(crate) id: &'static str,
    /// Its words in the table.
    pub(crate) title: &'static str,
    /// Unit of its figures.
    pub(crate) unit: &'static str,
    /// Digits after the point.
    pub(crate) digits: usize,
}

const fn row(id: &'static str, title: &'static str, unit: &'static str, digits: usize) -> Row {
    Row {
        id,
        title,
        unit,
        digits,
    }
}

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    row("idle_rss", "memory, nothing managed, RSS", "MiB", 1),
    row("idle_pss", "memory, nothing managed, PSS", "MiB", 1),
    row(
        "idle_processes",
        "processes of the supervisor, nothing managed",
        "",
        0,
    ),
    row("full_rss", "memory, 100 instances, RSS", "MiB", 1),
    row("full_pss", "memory, 100 instances, PSS", "MiB", 1),
    row(
        "full_processes",
        "processes of the supervisor, 100 instances",
        "",
        0,
    ),
    row("idle_cpu", "idle CPU with 100 instances, of a core", "%", 3),
    row("list", "list of 100 instances, whole command", "ms", 1),
    row("start", "start of 100 instances, until the last exec", "ms", 0),
    row("respawn", "crash to next exec", "ms", 2),
    row(
        "log_time",
        "1,000,000 lines of 100 bytes, until in the files",
        "s",
        2,
    ),
    row(
        "log_ratio",
        "the same, against the program writing to a file",
        "x",
        2,
    ),
    row("log_cpu", "the same, CPU of the supervisor", "s", 2),
    row(
        "log_lost",
        "the same, lines lost (the program ends at once)",
        "",
        0,
    ),
    row("burst_lost", "20,000 lines and end, lines lost", "", 0),
    row("daemon_alive", "kill -9 of the daemon: apps that live on", "", 0),
    row("daemon_anew", "… starts of apps that follow from it", "", 0),
    row("daemon_twice", "… apps that run twice after recovery", "", 0),
    row("daemon_absent", "… apps that do not run after recovery", "", 0),
    row("daemon_lost", "… lines missing from the files", "", 0),
    row(
        "parent_alive",
        "kill -9 of the apps' parents: apps that live on",
        "",
        0,
    ),
    row("parent_anew", "… starts of apps that follow from it", "", 0),
    row("parent_twice", "… apps that run twice after recovery", "", 0),
    row("parent_absent", "… apps that do not run after recovery", "", 0),
    row("parent_lost", "… lines missing from the files", "", 0),
];
