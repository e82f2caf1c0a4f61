//! The measurements: the same steps for every peer.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use upkeep_testkit::{Numbered, Signal, alive, kill, pass, process, tally, try_wait_until};

use super::{
    Options,
    lab::{App, Lab, PATIENCE, monotonic_nanos},
    peers::{Peer, Session},
    report::Column,
};

/// Groups of rows that can be asked for by `--rows`.
pub(crate) const GROUPS: &[&str] = &["scale", "respawn", "logs", "burst", "kill"];

/// Lines of the throughput measurement, and their length.
const LINES: u64 = 1_000_000;
const LINE: u64 = 100;
const BURST: u64 = 20_000;

/// All wanted groups; one that fails is noted and the next one goes on.
pub(crate) fn all(peer: &dyn Peer, child: &Path, options: &Options, column: &mut Column) {
    type Group = fn(&dyn Peer, &Path, &Options, &mut Column) -> anyhow::Result<()>;
    let groups: [(&str, &[&'static str], Group); 5] = [
        (
            "scale",
            &[
                "idle_rss",
                "idle_pss",
                "idle_processes",
                "full_rss",
                "full_pss",
                "full_processes",
                "idle_cpu",
                "list",
                "start",
            ],
            scale,
        ),
        ("respawn", &["respawn"], respawn),
        (
            "logs",
            &["log_time", "log_ratio", "log_cpu", "log_lost"],
            throughput,
        ),
        ("burst", &["burst_lost"], burst),
        (
            "kill",
            &[
                "daemon_alive",
                "daemon_anew",
                "daemon_twice",
                "daemon_absent",
                "daemon_lost",
                "parent_alive",
                "parent_anew",
                "parent_twice",
                "parent_absent",
                "parent_lost",
            ],
            kills,
        ),
    ];
    for (name, rows, measure) in groups {
        if !options.wants(name) {
            continue;
        }
        eprintln!("{name} …");
        if let Err(error) = measure(peer, child, options, column) {
            eprintln!("{name}: {error:#}");
            column.fail(rows, &format!("{name}: {error:#}"));
        }
    }
}

/// Memory, processes, idle CPU, list and start, with 100 instances.
fn scale(peer: &dyn Peer, child: &Path, options: &Options, column: &mut Column) -> anyhow::Result<()> {
    let rounds = options.times(5, 2);
    for round in 0..rounds {
        let lab = Lab::new(child)?;
        let mut session = peer.open(&lab)?;
        pass(Duration::from_secs(2)); // idle is what it is after the start's work
        let (rss, pss) = lab.memory();
        column.add("idle_rss", rss);
        column.add("idle_pss", pss);
        column.add("idle_processes", lab.supervisors().len() as f64);

        let sleeper = App {
            copies: 100,
            ..lab.app("sleeper", "wait")
        };
        session.prepare(&[sleeper])?;
        let before = monotonic_nanos();
        session.start()?;
        let stamps = lab.wait_stamps("sleeper", 100, PATIENCE)?;
        let last = stamps.iter().map(|stamp| stamp.nanos).max().unwrap_or(before);
        column.add("start", last.saturating_sub(before) as f64 / 1e6);
        anyhow::ensure!(
            lab.instances("sleeper").len() == 100,
            "not all 100 instances live"
        );

        pass(Duration::from_secs(3));
        let (rss, pss) = lab.memory();
        column.add("full_rss", rss);
        column.add("full_pss", pss);
        column.add("full_processes", lab.supervisors().len() as f64);
        if round + 1 < rounds {
            continue;
        }
        for _ in 0..options.times(20, 5) {
            let mut list = session.list();
            list.stdout(Stdio::null()).stderr(Stdio::null());
            let start = Instant::now();
            let status = list.status().context("the list")?;
            column.add("list", start.elapsed().as_secs_f64() * 1e3);
            anyhow::ensure!(status.success(), "the list ended with {status}");
        }
        pass(Duration::from_secs(3));
        for _ in 0..options.times(3, 1) {
            let window = Duration::from_secs(if options.quick { 10 } else { 30 });
            let (before, start) = (lab.cpu(), Instant::now());
            pass(window);
            column.add(
                "idle_cpu",
                (lab.cpu() - before) / start.elapsed().as_secs_f64() * 100.0,
            );
        }
    }
    Ok(())
}

/// From the last thing a crashing program does to the first thing of its successor.
fn respawn(peer: &dyn Peer, child: &Path, options: &Options, column: &mut Column) -> anyhow::Result<()> {
    let lab = Lab::new(child)?;
    let mut session = peer.open(&lab)?;
    // It lives longer than a second, because several peers hold back what dies sooner.
    let file = lab.path("stamps").join("crasher");
    let crasher = lab.app(
        "crasher",
        &format!("run-for 1100ms stamp {} crash", file.display()),
    );
    session.prepare(&[crasher])?;
    session.start()?;
    let crashes = options.times(15, 4);
    let deadline = Duration::from_secs(4) * u32::try_from(crashes + 2)?;
    let stamps = lab.wait_stamps("crasher", crashes * 2 + 1, deadline)?;
    for pair in stamps.windows(2).filter(|pair| pair[0].pid != pair[1].pid) {
        column.add("respawn", (pair[1].nanos - pair[0].nanos) as f64 / 1e6);
    }
    Ok(())
}

/// A million lines from a program that ends right after.
fn throughput(peer: &dyn Peer, child: &Path, options: &Options, column: &mut Column) -> anyhow::Result<()> {
    for _ in 0..options.times(5, 1) {
        let direct = direct(child)?;
        let (seconds, cpu, lost) = write_and_end(peer, child, LINES)?;
        column.add("log_time", seconds);
        column.add("log_ratio", seconds / direct);
        column.add("log_cpu", cpu);
        column.add("log_lost", lost);
    }
    Ok(())
}

/// A short burst from a program that ends right after: what is in flight at an exit.
fn burst(peer: &dyn Peer, child: &Path, options: &Options, column: &mut Column) -> anyhow::Result<()> {
    for _ in 0..options.times(10, 3) {
        let (_, _, lost) = write_and_end(peer, child, BURST)?;
        column.add("burst_lost", lost);
    }
    Ok(())
}

/// The same program with its output in a file: seconds from its first step to its end.
fn direct(child: &Path) -> anyhow::Result<f64> {
    let lab = Lab::new(child)?;
    let app = lab.app("direct", &format!("write-lines {LINES} --size {LINE}"));
    let mut command = Command::new(&app.words[0]);
    command
        .args(&app.words[1..])
        .stdout(fs::File::create(lab.path("direct.log"))?);
    let status = command.status()?;
    let end = monotonic_nanos();
    anyhow::ensure!(status.success(), "the program ended with {status}");
    let start = lab.stamps("direct").first().context("no stamp")?.nanos;
    Ok((end - start) as f64 / 1e9)
}

/// Seconds until all lines are in the files, CPU seconds of the supervisor, lines lost.
fn write_and_end(peer: &dyn Peer, child: &Path, count: u64) -> anyhow::Result<(f64, f64, f64)> {
    let lab = Lab::new(child)?;
    let mut session = peer.open(&lab)?;
    pass(Duration::from_secs(1)); // the supervisor's own start is over
    let app = App {
        restart: false,
        ..lab.app("writer", &format!("write-lines {count} --size {LINE}"))
    };
    session.prepare(&[app])?;
    let cpu = lab.cpu();
    session.start()?;
    let start = lab.wait_stamps("writer", 1, PATIENCE)?[0].nanos;
    let mut seen = (0, monotonic_nanos());
    try_wait_until("the lines", PATIENCE * 2, || {
        let paths = session.logs("writer", 0);
        let size: u64 = paths
            .iter()
            .filter_map(|path| Some(fs::metadata(path).ok()?.len()))
            .sum();
        let now = monotonic_nanos();
        if size != seen.0 {
            seen = (size, now);
        }
        // All there; or the program is gone and nothing more comes.
        let still = now - seen.1 > 2_000_000_000 && lab.instances("writer").is_empty();
        if size >= count * LINE || still {
            Ok(())
        } else {
            Err(format!("{size} bytes"))
        }
    })?;
    let cpu = lab.cpu() - cpu;
    let report = Numbered::read(&concatenated(&session.logs("writer", 0)), "line");
    anyhow::ensure!(report.doubled == 0, "lines came twice: {report:?}");
    Ok((
        (seen.1 - start) as f64 / 1e9,
        cpu,
        (count - report.present) as f64,
    ))
}

fn concatenated(paths: &[PathBuf]) -> Vec<u8> {
    paths
        .iter()
        .flat_map(|path| fs::read(path).unwrap_or_default())
        .collect()
}

const QUIET: u32 = 10;
const WRITERS: u32 = 3;

/// SIGKILL to the daemon, and to whoever is the parent of the applications.
fn kills(peer: &dyn Peer, child: &Path, options: &Options, column: &mut Column) -> anyhow::Result<()> {
    for _ in 0..options.times(3, 1) {
        let found = kill_round(peer, child, |session, _| Ok(HashSet::from([session.daemon()?])))?;
        column.add("daemon_alive", found.alive);
        column.add("daemon_anew", found.anew);
        column.add("daemon_twice", found.twice);
        column.add("daemon_absent", found.absent);
        column.add("daemon_lost", found.lost);
        let found = kill_round(peer, child, |_, apps| {
            Ok(apps
                .iter()
                .filter_map(|&pid| Some(process::stat(pid)?.ppid))
                .collect())
        })?;
        column.add("parent_alive", found.alive);
        column.add("parent_anew", found.anew);
        column.add("parent_twice", found.twice);
        column.add("parent_absent", found.absent);
        column.add("parent_lost", found.lost);
    }
    Ok(())
}

struct Found {
    alive: f64,
    anew: f64,
    twice: f64,
    absent: f64,
    lost: f64,
}

fn kill_round(
    peer: &dyn Peer,
    child: &Path,
    victims: impl FnOnce(&dyn Session, &[i32]) -> anyhow::Result<HashSet<i32>>,
) -> anyhow::Result<Found> {
    let lab = Lab::new(child)?;
    let mut session = peer.open(&lab)?;
    let mut apps = vec![App {
        copies: QUIET,
        ..lab.app("quiet", "wait")
    }];
    for number in 0..WRITERS {
        let script = format!(
            "write-lines forever --rate 20000/s --prefix W%p --tally {}/%p",
            lab.text("tally")
        );
        apps.push(lab.app(&format!("writer{number}"), &script));
    }
    session.prepare(&apps)?;
    session.start()?;
    for app in &apps {
        lab.wait_stamps(&app.name, app.copies as usize, PATIENCE)?;
    }
    session.remember()?;
    pass(Duration::from_secs(1)); // lines flow
    let living = |name: &str| lab.instances(name);
    let before: Vec<i32> = apps.iter().flat_map(|app| living(&app.name)).collect();
    for pid in victims(session.as_ref(), &before)? {
        let ours = lab.supervisors().contains(&pid);
        anyhow::ensure!(
            ours,
            "{pid} ({}) is not of this bench",
            process::command_line(pid)
        );
        kill(pid, Signal::KILL)?;
    }
    pass(Duration::from_secs(3)); // what the tool does by itself
    let alive = before.iter().filter(|&&pid| alive(pid)).count() as f64;
    session.recover()?;
    pass(Duration::from_secs(6)); // longer than any peer's pause between looks

    let (mut twice, mut absent, mut starts) = (0, 0, 0);
    for app in &apps {
        let (now, wanted) = (living(&app.name).len(), app.copies as usize);
        twice += now.saturating_sub(wanted);
        absent += wanted.saturating_sub(now);
        starts += lab.stamps(&app.name).len();
    }
    // Counted first, read later: what was written before the count has had its time to arrive.
    let mut written = Vec::new();
    for entry in fs::read_dir(lab.path("tally"))? {
        let path = entry?.path();
        let pid = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        written.push((pid, tally(&path)?));
    }
    pass(Duration::from_secs(1));
    let logs = apps
        .iter()
        .flat_map(|app| session.logs(&app.name, 0))
        .collect::<Vec<_>>();
    let bytes = concatenated(&logs);
    let mut lost = 0;
    for (pid, written) in written {
        let report = Numbered::read(&bytes, &format!("W{pid}"));
        lost += report.missing + written.saturating_sub(report.last);
    }
    Ok(Found {
        alive,
        anew: starts.saturating_sub(before.len()) as f64,
        twice: twice as f64,
        absent: absent as f64,
        lost: lost as f64,
    })
}
