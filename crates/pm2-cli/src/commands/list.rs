//! `list`, `jlist`, `prettylist`.

use std::io::IsTerminal;

use serde_json::{Value, json};
use upkeep_pm2::{inspect, prepare::as_text};

use crate::{
    args::Invocation,
    context::{Context, Failure, out, pause},
    runner::{env_text, is_module},
    style::Style,
    table::{Cell, Frame, Table},
};

pub(super) fn jlist(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    let list = context.processes()?;
    out(json!(list))
}

pub(super) fn prettylist(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    let list = context.processes()?;
    out(inspect::inspect(&json!(list)))
}

pub(super) fn list(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    if !context.options.has("watch") {
        return show(context);
    }
    loop {
        out("\x1b[2J\x1b[0;0H\n")?;
        show(context)?;
        pause(std::time::Duration::from_millis(900));
    }
}

/// The list, as it stands behind most commands.
pub(crate) fn show(context: &mut Context) -> Result<(), Failure> {
    if context.silent {
        return Ok(());
    }
    let figures = context.call("getSystemData", json!({}))?;
    let mut processes = context.processes()?;
    let order = context.options.text("sort");
    let small = context.options.has("mini-list");
    // The short list has the order of the daemon, unless another one is asked for.
    if order.is_some() || !small {
        sort(&mut processes, order.unwrap_or("name"));
    }
    if small {
        for process in &processes {
            context.print(block(process))?;
        }
        return Ok(());
    }
    let layout = Layout::of_terminal();
    let (modules, apps): (Vec<&Value>, Vec<&Value>) =
        processes.iter().partition(|process| is_module(process));
    context.print(table(&apps, layout).render(context.style))?;
    if !modules.is_empty() {
        context.print(context.style.bold("Module"))?;
        context.print(module_table(&modules, layout).render(context.style))?;
    }
    if !processes.is_empty()
        && let Some(line) = host_line(&figures, layout, context.style)
    {
        context.print(line)?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Piped,
    Full,
    Condensed,
    Mini,
}

impl Layout {
    fn of_terminal() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self::Piped;
        }
        match upkeep_sys::terminal::columns() {
            Some(columns) if columns < 66 => Self::Mini,
            Some(columns) if columns < 130 => Self::Condensed,
            _ => Self::Full,
        }
    }

    fn frame(self) -> Frame {
        if self == Self::Piped {
            Frame::Plain
        } else {
            Frame::Grey
        }
    }
}

fn field<'a>(process: &'a Value, key: &str) -> Option<&'a Value> {
    process.get("pm2_env")?.get(key)
}

fn number(value: Option<&Value>) -> f64 {
    value.and_then(Value::as_f64).unwrap_or(0.0)
}

fn is_online(process: &Value) -> bool {
    env_text(process, "status") == Some("online")
}

/// By one field, names also by number among themselves.
fn sort(processes: &mut [Value], order: &str) {
    let (name, direction) = order.split_once(':').unwrap_or((order, "asc"));
    let uptime = |process: &Value| {
        if is_online(process) {
            number(field(process, "pm_uptime"))
        } else {
            0.0
        }
    };
    let monit = |process: &Value, key: &str| number(process.get("monit").and_then(|monit| monit.get(key)));
    let text = |process: &Value, key: &str| env_text(process, key).unwrap_or_default().to_owned();
    processes.sort_by(|one, other| match name {
        "id" => number(one.get("pm_id")).total_cmp(&number(other.get("pm_id"))),
        "pid" => number(one.get("pid")).total_cmp(&number(other.get("pid"))),
        "cpu" => monit(one, "cpu").total_cmp(&monit(other, "cpu")),
        "memory" => monit(one, "memory").total_cmp(&monit(other, "memory")),
        "uptime" => uptime(one).total_cmp(&uptime(other)),
        "status" => text(one, "status").cmp(&text(other, "status")),
        "namespace" => text(one, "namespace").cmp(&text(other, "namespace")),
        _ => text(one, "name").cmp(&text(other, "name")),
    });
    if direction == "desc" {
        processes.reverse();
    }
}

/// `50.1mb`.
pub(crate) fn size(bytes: f64) -> String {
    if bytes <= 0.0 {
        return "0b".to_owned();
    }
    let units = ["b", "kb", "mb", "gb", "tb"];
    let mut amount = bytes;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let text = format!("{amount:.1}");
    format!("{}{}", text.strip_suffix(".0").unwrap_or(&text), units[unit])
}

/// `12s`, `3m`, `4h`, `5D`: since a time in Unix milliseconds.
pub(crate) fn span(milliseconds: f64) -> String {
    let seconds = (milliseconds / 1000.0).max(0.0).floor();
    let (amount, unit) = match seconds {
        s if s < 60.0 => (s, "s"),
        s if s < 3600.0 => (s / 60.0, "m"),
        s if s < 86_400.0 => (s / 3600.0, "h"),
        s => (s / 86_400.0, "D"),
    };
    format!("{}{unit}", amount.floor())
}

/// How long a process has been up, `0` if it is not.
pub(crate) fn uptime(process: &Value) -> String {
    if !is_online(process) {
        return "0".to_owned();
    }
    let now = jiff::Timestamp::now().as_millisecond();
    span(now as f64 - number(field(process, "pm_uptime")))
}

fn status_cell(process: &Value) -> Cell {
    let status = env_text(process, "status").unwrap_or("unknown");
    Cell::styled(
        status,
        match status {
            "online" => |style, text| style.green(style.bold(text)),
            "launching" => |style, text| style.blue(style.bold(text)),
            "stopping" | "waiting restart" => |style, text| style.yellow(style.bold(text)),
            _ => |style, text| style.red(style.bold(text)),
        },
    )
}

fn mode_cell(process: &Value) -> Cell {
    match env_text(process, "exec_mode") {
        Some("cluster_mode") => Cell::styled("cluster", |style, text| style.blue(style.bold(text))),
        _ => Cell::styled("fork", |style, text| style.inverse(style.bold(text))),
    }
}

fn id_cell(process: &Value) -> Cell {
    let id = process.get("pm_id").map(as_text).unwrap_or_default();
    Cell::styled(id, |style, text| style.bold(style.cyan(text)))
}

fn watch_cell(process: &Value) -> Cell {
    let watching =
        field(process, "watch").is_some_and(|watch| !matches!(watch, Value::Bool(false) | Value::Null));
    if watching {
        Cell::styled("enabled", |style, text| style.green(style.bold(text)))
    } else {
        Cell::styled("disabled", |style, text| style.grey(text))
    }
}

fn user_cell(process: &Value) -> Cell {
    let by_number = |uid: &Value| {
        let uid = as_text(uid);
        upkeep_sys::user::user(&uid).map_or(uid, |user| user.name)
    };
    let user = field(process, "uid")
        .map(by_number)
        .or_else(|| field(process, "username").map(as_text));
    Cell::styled(user.unwrap_or_else(|| "N/A".to_owned()), |style, text| {
        style.bold(text)
    })
}

fn plain(value: Option<&Value>) -> Cell {
    Cell::plain(value.map(as_text).unwrap_or_default())
}

fn monit_cells(process: &Value) -> [Cell; 2] {
    let monit = |key: &str| process.get("monit").and_then(|monit| monit.get(key));
    let cpu = monit("cpu").map_or_else(|| "N/A".to_owned(), |cpu| format!("{}%", as_text(cpu)));
    [Cell::plain(cpu), Cell::plain(size(number(monit("memory"))))]
}

fn version_cell(process: &Value) -> Cell {
    Cell::plain(env_text(process, "version").unwrap_or("N/A"))
}

fn name_width(processes: &[&Value], most: usize) -> usize {
    let longest = processes
        .iter()
        .map(|process| env_text(process, "name").unwrap_or_default().chars().count())
        .max();
    (longest.unwrap_or(6) + 3).min(most)
}

fn head(words: &[&str]) -> Vec<Cell> {
    words.iter().map(|word| Cell::plain(*word)).collect()
}

fn table(processes: &[&Value], layout: Layout) -> Table {
    let id = processes
        .iter()
        .map(|process| id_cell(process).width())
        .max()
        .unwrap_or(0)
        .max(2);
    let name = |process: &Value| plain(field(process, "name"));
    let restarts =
        |process: &Value| Cell::plain(field(process, "restart_time").map_or_else(|| "0".to_owned(), as_text));
    let (words, widths): (&[&str], Vec<usize>) = match layout {
        Layout::Mini => (
            &["id", "name", "status", "cpu", "mem"],
            vec![id, name_width(processes, 18), 9, 6, 8],
        ),
        Layout::Condensed => (
            &["id", "name", "mode", "\u{21ba}", "status", "cpu", "memory"],
            vec![id, name_width(processes, 18), 8, 4, 9, 8, 8],
        ),
        Layout::Piped | Layout::Full => (
            &[
                "id",
                "name",
                "namespace",
                "version",
                "mode",
                "pid",
                "uptime",
                "\u{21ba}",
                "status",
                "cpu",
                "mem",
                "user",
                "watching",
            ],
            vec![id, name_width(processes, 38), 11, 7, 7, 8, 6, 4, 9, 8, 8, 8, 8],
        ),
    };
    let rows = processes
        .iter()
        .map(|process| {
            let [cpu, memory] = monit_cells(process);
            let (id, name, status) = (id_cell(process), name(process), status_cell(process));
            match layout {
                Layout::Mini => vec![id, name, status, cpu, memory],
                Layout::Condensed => vec![
                    id,
                    name,
                    mode_cell(process),
                    restarts(process),
                    status,
                    cpu,
                    memory,
                ],
                Layout::Piped | Layout::Full => vec![
                    id,
                    name,
                    plain(field(process, "namespace")),
                    version_cell(process),
                    mode_cell(process),
                    plain(process.get("pid")),
                    Cell::plain(uptime(process)),
                    restarts(process),
                    status,
                    cpu,
                    memory,
                    user_cell(process),
                    watch_cell(process),
                ],
            }
        })
        .collect();
    Table {
        head: head(words),
        rows,
        widths,
        frame: layout.frame(),
    }
}

fn module_table(modules: &[&Value], layout: Layout) -> Table {
    let id = modules
        .iter()
        .map(|process| id_cell(process).width())
        .max()
        .unwrap_or(0)
        .max(2);
    let (words, widths): (&[&str], Vec<usize>) = match layout {
        Layout::Mini | Layout::Condensed => (&["id", "name", "status", "cpu", "mem"], vec![id, 20, 9, 8, 8]),
        Layout::Piped | Layout::Full => (
            &[
                "id", "module", "version", "pid", "status", "\u{21ba}", "cpu", "mem", "user",
            ],
            vec![id, 28, 13, 8, 8, 4, 8, 8, 8],
        ),
    };
    let rows = modules
        .iter()
        .map(|process| {
            let [cpu, memory] = monit_cells(process);
            let (id, name, status) = (
                id_cell(process),
                plain(field(process, "name")),
                status_cell(process),
            );
            if matches!(layout, Layout::Mini | Layout::Condensed) {
                return vec![id, name, status, cpu, memory];
            }
            vec![
                id,
                name,
                version_cell(process),
                plain(process.get("pid")),
                status,
                plain(field(process, "restart_time")),
                cpu,
                memory,
                user_cell(process),
            ]
        })
        .collect();
    Table {
        head: head(words),
        rows,
        widths,
        frame: layout.frame(),
    }
}

/// `list -m`.
fn block(process: &Value) -> String {
    let text = |key: &str| field(process, key).map(as_text).unwrap_or_default();
    let mode = text("exec_mode");
    let memory = number(process.get("monit").and_then(|monit| monit.get("memory")));
    let watching =
        field(process, "watch").is_some_and(|watch| !matches!(watch, Value::Bool(false) | Value::Null));
    format!(
        "+--- {}\nnamespace : {}\nversion : {}\npid : {}\npm2 id : {}\nstatus : {}\nmode : {}\nrestarted : {}\nuptime : {}\n\
         memory usage : {} \nerror log : {}\nwatching : {}\nPID file : {}\n",
        text("name"),
        text("namespace"),
        env_text(process, "version").unwrap_or("N/A"),
        process.get("pid").map(as_text).unwrap_or_default(),
        process.get("pm_id").map(as_text).unwrap_or_default(),
        text("status"),
        mode.trim_end_matches("_mode"),
        text("restart_time"),
        uptime(process),
        size(memory),
        text("pm_err_log_path"),
        if watching { "yes" } else { "no" },
        text("pm_pid_path"),
    )
}

/// `host metrics | cpu: …`; nothing if the daemon does not measure.
fn host_line(figures: &Value, layout: Layout, style: Style) -> Option<String> {
    let figure = |name: &str| figures.get(name)?.get("value").map(as_text);
    let value = |name: &str| number(figures.get(name).and_then(|figure| figure.get("value")));
    let percent = |name: &str| {
        let text = format!("{}%", figure(name)?);
        Some(match value(name) {
            v if v > 90.0 => style.red(text),
            v if v > 75.0 => style.yellow(text),
            _ => style.green(text),
        })
    };
    let mut parts = vec![
        style.bold(style.cyan("host metrics")),
        format!("{}: {}", style.bold("cpu"), percent("CPU Usage")?),
        format!("{}: {}", style.bold("ram usage"), percent("RAM Usage")?),
    ];
    let flow = |down: &str, up: &str| {
        let speed =
            |name: &str| style.green(format!("{}mb/s", figure(name).unwrap_or_else(|| "0".to_owned())));
        format!("\u{21d3} {} \u{21d1} {}", speed(down), speed(up))
    };
    let interfaces = figures
        .as_object()?
        .keys()
        .filter_map(|key| key.strip_prefix("net:rx_5:"));
    for interface in interfaces {
        let (down, up) = (format!("net:rx_5:{interface}"), format!("net:tx_5:{interface}"));
        if value(&down) > 0.0 || value(&up) > 0.0 {
            parts.push(format!("{}: {}", style.bold(interface), flow(&down, &up)));
        }
    }
    if matches!(layout, Layout::Piped | Layout::Full) && figure("Disk Reads").is_some() {
        parts.push(format!(
            "{}: {}",
            style.bold("disk"),
            flow("Disk Reads", "Disk Writes")
        ));
    }
    Some(parts.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_short() {
        assert_eq!(size(0.0), "0b");
        assert_eq!(size(53_162_803.0), "50.7mb");
        assert_eq!(size(1024.0), "1kb");
        for (milliseconds, text) in [
            (999.0, "0s"),
            (59_999.0, "59s"),
            (60_000.0, "1m"),
            (7_200_000.0, "2h"),
            (1.0e9, "11D"),
        ] {
            assert_eq!(span(milliseconds), text);
        }
    }

    #[test]
    fn the_order_may_be_turned_around() {
        let process = |name: &str, pid: u32| json!({"pid": pid, "pm2_env": {"name": name}});
        let mut list = vec![process("b", 1), process("a", 2)];
        sort(&mut list, "name");
        assert_eq!(list[0]["pid"], 2);
        sort(&mut list, "pid");
        assert_eq!(list[0]["pid"], 1);
        sort(&mut list, "pid:desc");
        assert_eq!(list[0]["pid"], 2);
    }
}
