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
    row(
        "full_speed",
        "1,100,000 lines of 100 bytes at full speed, files of 1 MB",
        "s",
        2,
    ),
    row(
        "full_speed_cpu",
        "… CPU of the supervisor and its loggers, for a GB",
        "s",
        2,
    ),
    row("full_speed_rotations", "… rotations", "", 0),
    row("full_speed_lost", "… lines lost", "", 0),
    row("full_speed_doubled", "… lines that came twice", "", 0),
    row("full_speed_torn", "… lines cut or mixed", "", 0),
    row("steady_rotations", "15,000 lines/s, rotations", "", 0),
    row("steady_lost", "… lines lost", "", 0),
    row("steady_doubled", "… lines that came twice", "", 0),
    row("steady_torn", "… lines cut or mixed", "", 0),
    row("flat_bytes", "many logs, little kept: written", "MB", 0),
    row("flat_rss_start", "… RSS at the start", "MiB", 1),
    row("flat_rss_max", "… RSS, highest", "MiB", 1),
    row("flat_rss_end", "… RSS at the end", "MiB", 1),
    row(
        "flat_anonymous_start",
        "… anonymous memory at the start",
        "MiB",
        1,
    ),
    row("flat_anonymous_max", "… anonymous memory, highest", "MiB", 1),
    row("flat_anonymous_end", "… anonymous memory at the end", "MiB", 1),
    row("query_bytes", "a long log: written", "MB", 0),
    row("query_disk", "… bytes on disk", "MB", 0),
    row(
        "query_since",
        "… `--since 15s --grep`, the newest 1,000 lines",
        "ms",
        1,
    ),
    row("query_last", "… the last 100 lines", "ms", 1),
    row("query_grep", "… `--grep` through all of it", "s", 2),
];
