//! `bench metrics`: what it costs to look at everything all the time, beside PM2; and how long the history takes to
//! answer, and `upkeep monit` to be looked at for a minute.
//!
//! All on the static release build. Processor time is what the scheduler counted for each thread, so a thread that
//! works for microseconds counts too. The history is filled by a test of the daemon, which writes rows as the sampler
//! does; the question then goes over the socket, as every client asks it.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use upkeep_testkit::{Home, Screen, pass, process};

use super::{
    lab::{App, Lab, PATIENCE},
    peers::{self, Peer},
};
use crate::shell;

/// What is printed: words, and a figure with its unit.
type Rows = Vec<(String, String)>;

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let quick = match words {
        [] => false,
        ["--quick"] => true,
        _ => bail!("usage: cargo xtask bench metrics [--quick]"),
    };
    let child = shell::build_static(&["upkeep-testkit"])?.join("upkeep-child");
    let window = Duration::from_secs(if quick { 20 } else { 60 });
    let mut rows = Rows::new();
    for mut peer in peers::all() {
        let counts: &[u32] = match peer.name() {
            "upkeep" => &[10, 100, 1000],
            "pm2" => &[100],
            _ => continue,
        };
        match peer.install() {
            Ok(version) => eprintln!("== {version}"),
            Err(error) => {
                eprintln!("{} is not available: {error:#}", peer.name());
                continue;
            }
        }
        for &count in counts {
            eprintln!("{count} idle …");
            cost(peer.as_ref(), &child, count, "wait", window, &mut rows)?;
        }
        eprintln!("100 that do a little …");
        let busy = "write-lines forever --rate 2/s";
        cost(peer.as_ref(), &child, 100, busy, window, &mut rows)?;
    }
    history(quick, &mut rows)?;
    monit(&mut rows)?;
    println!("| what | figure |\n|---|---|");
    for (what, figure) in rows {
        println!("| {what} | {figure} |");
    }
    Ok(())
}

/// Processor time and memory with so many instances.
fn cost(
    peer: &dyn Peer,
    child: &Path,
    count: u32,
    script: &str,
    window: Duration,
    rows: &mut Rows,
) -> anyhow::Result<()> {
    let lab = Lab::new(child)?;
    let mut session = peer.open(&lab)?;
    let app = App {
        copies: count,
        ..lab.app("one", script)
    };
    session.prepare(&[app])?;
    session.start()?;
    lab.wait_stamps("one", count as usize, PATIENCE * 3)?;
    // The first looks cost more, and the daemon is busy with the starts.
    pass(Duration::from_secs(12));
    let daemon = session.daemon()?;
    let (before, all, begin) = (threads(daemon), lab.cpu(), Instant::now());
    pass(window);
    let seconds = begin.elapsed().as_secs_f64();
    let after = threads(daemon);
    let (rss, pss) = lab.memory();
    let doing = if script == "wait" {
        "idle"
    } else {
        "that print twice a second"
    };
    let what = format!("{}, {count} {doing}", peer.name());
    let rate = |nanos: f64| format!("{:.2} ms/s", nanos / 1e6 / seconds);
    rows.push((
        format!("{what}: CPU of all that manages"),
        rate((lab.cpu() - all) * 1e9),
    ));
    if peer.name() == "upkeep" {
        for name in ["metrics", "metrics-writer"] {
            let spent = |list: &[(String, u64)]| -> f64 {
                let mine = list.iter().filter(|(thread, _)| thread == name);
                mine.map(|(_, nanos)| *nanos).sum::<u64>() as f64
            };
            rows.push((
                format!("{what}: CPU of the thread `{name}`"),
                rate(spent(&after) - spent(&before)),
            ));
        }
    }
    let memory = format!("{rss:.1} MiB, {pss:.1} MiB, {:.1} MiB", lab.anonymous());
    rows.push((format!("{what}: memory, RSS, PSS, anonymous"), memory));
    Ok(())
}

/// Threads of a process by name, and the processor time of each in nanoseconds.
fn threads(pid: i32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            Some((name, text.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

/// Questions to a history of 90 days.
fn history(quick: bool, rows: &mut Rows) -> anyhow::Result<()> {
    let child = shell::build_static(&["upkeep-testkit"])?.join("upkeep-child");
    let lab = Lab::new(&child)?;
    fs::create_dir(lab.path("h"))?;
    let file = lab.path("h/metrics.redb");
    let mut fill = shell::cargo();
    fill.args([
        "test",
        "--quiet",
        "-p",
        "upkeep-daemon",
        "--lib",
        "--",
        "--ignored",
        "fill_a_file_for_the_bench",
    ]);
    shell::read(fill.env("UPKEEP_FILL_HISTORY", &file))?;
    ensure!(file.is_file(), "the history was not filled");
    let size = fs::metadata(&file)?.len();
    rows.push((
        "history of 90 days, an app of two instances: file".to_owned(),
        format!("{:.1} MB", size as f64 / 1e6),
    ));
    let mut peer = peers::all().remove(0);
    peer.install()?;
    let _session = peer.open(&lab)?;
    for days in [30, 90] {
        let mut all = Vec::new();
        for _ in 0..if quick { 9 } else { 31 } {
            let (millis, bytes) = ask(
                &lab.path("h/run/api.sock"),
                &format!("/v1/metrics?apps=shop&since=-{}", days * 86_400),
            )?;
            ensure!(bytes > 20_000, "{days} days: an answer of {bytes} bytes");
            all.push(millis);
        }
        let first = all[0];
        all.sort_by(f64::total_cmp);
        let figure = format!(
            "{:.1} ms, {:.1}, {first:.1}",
            all[all.len() / 2],
            all[all.len() - 1]
        );
        rows.push((
            format!("`GET /v1/metrics` of the app, {days} days, all 15 figures: median, highest, first"),
            figure,
        ));
    }
    Ok(())
}

/// Milliseconds and bytes of an answer.
fn ask(socket: &Path, path: &str) -> anyhow::Result<(f64, usize)> {
    let begin = Instant::now();
    let mut stream = UnixStream::connect(socket).context("the socket of the daemon")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: upkeep\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let millis = begin.elapsed().as_secs_f64() * 1e3;
    let start = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    ensure!(start.starts_with("HTTP/1.1 200"), "{path}: {start}");
    Ok((millis, answer.len()))
}

/// A minute of the full screen.
fn monit(rows: &mut Rows) -> anyhow::Result<()> {
    let binary = shell::build_static(&["upkeep"])?.join("upkeep");
    let mut build = shell::cargo();
    shell::run(build.args(["build", "--quiet", "--package", "upkeep-testkit"]))?; // a home wants the child beside us
    let home = Home::with_binary(binary);
    let apps: Vec<_> = (0..100)
        .map(|number| serde_json::json!({ "name": format!("app-{number}"), "command": ["sleep", "100000"] }))
        .collect();
    home.write("upkeep.json", &serde_json::json!({ "apps": apps }).to_string());
    home.ok(["start", "upkeep.json"]);
    let screen = Screen::start(&home, &["monit"], (80, 24), &[("LANG", "C.UTF-8")]);
    screen.wait_for("app-0");
    pass(Duration::from_secs(5));
    let pid = screen.pid();
    let (before, begin) = (process::cpu_nanos(pid).context("monit")?, Instant::now());
    pass(Duration::from_mins(1));
    let spent = process::cpu_nanos(pid).context("monit")? - before;
    let share = spent as f64 / begin.elapsed().as_nanos() as f64 * 100.0;
    rows.push((
        "`upkeep monit`, 100 apps, 80x24, a minute: CPU, of a core".to_owned(),
        format!("{share:.2} %"),
    ));
    Ok(())
}
