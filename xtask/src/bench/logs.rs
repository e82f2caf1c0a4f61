//! `bench logs`: rotation at 1 MB beside the real peers: speed, cost, and what is lost or comes twice.
//!
//! Every peer keeps all files, so that each line that was written must be there. PM2 has its module `pm2-logrotate`, which
//! looks once a second; so there is a row at a steady rate too, at which it rotates at each look. Ours is measured in
//! three forms: files as written, compressed, and as JSON lines. What only ours is asked is in [`own`].

mod own;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use upkeep_testkit::{Numbered, pass, try_wait_until, whole_or_packed};

use super::{
    Options,
    lab::{App, Lab, PATIENCE, Rotate, monotonic_nanos},
    peers::{self, Peer, Session},
    report::{Column, Report},
};
use crate::shell;

/// Groups of rows.
const GROUPS: &[&str] = &["rotate", "steady", "flat", "query"];

/// Enough for a hundred rotations.
const LINES: u64 = 1_100_000;
const LINE: u64 = 100;
/// A file and a half a second.
const RATE: u64 = 15_000;

/// As the peers do it: all is kept as it was written.
pub(super) const RAW: Rotate = Rotate {
    compress: "none",
    format: "raw",
    max_size: "1M",
    keep: 100_000,
};

/// A column: its name in the table, and what of ours it is.
fn columns(peer: &str) -> Vec<(&'static str, Rotate)> {
    let zstd = Rotate {
        compress: "zstd",
        ..RAW
    };
    let json = Rotate {
        format: "json",
        ..RAW
    };
    match peer {
        "upkeep" => vec![("upkeep", RAW), ("upkeep zstd", zstd), ("upkeep json", json)],
        "pm2" => vec![("pm2", RAW)],
        "supervisord" => vec![("supervisord", RAW)],
        "s6" => vec![("s6-log", RAW)],
        _ => vec![("svlogd", RAW)],
    }
}

/// How it rotates, in a line.
fn configured(column: &str, peer: &dyn Peer) -> &'static str {
    match column {
        "upkeep" => "static release build, `max_size: 1M`, `compress: none`",
        "upkeep zstd" => "static release build, `max_size: 1M`, `compress: zstd`",
        "upkeep json" => "static release build, `max_size: 1M`, `compress: none`, `format: json`",
        "supervisord" => "`stdout_logfile_maxbytes=1000000`, all files kept",
        "s6-log" => "`s6-log -b n100000 s1000000`",
        "svlogd" => "svlogd with `s1000000` and `n0`",
        _ => peer.configured(),
    }
}

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(words, GROUPS)?;
    let all = options.check_peers(peers::rotating())?;
    let child = shell::build_static(&["upkeep-testkit"])?.join("upkeep-child");
    let mut report = Report::new(options.quick);
    for mut peer in all {
        let installed = peer.install();
        for (name, rotate) in columns(peer.name()) {
            eprintln!("\n== {name}");
            let mut column = Column::new(name, configured(name, peer.as_ref()));
            match &installed {
                Ok(version) => {
                    eprintln!("{version}");
                    column.version.clone_from(version);
                    measure(peer.as_ref(), rotate, &child, &options, &mut column);
                }
                Err(error) => {
                    eprintln!("not available: {error:#}");
                    column.missing = Some(format!("{error:#}"));
                }
            }
            report.columns.push(column);
        }
    }
    super::tell(report, &options)
}

/// All wanted groups; one that fails is noted and the next one goes on.
fn measure(peer: &dyn Peer, rotate: Rotate, child: &Path, options: &Options, column: &mut Column) {
    type Group = fn(&dyn Peer, Rotate, &Path, &Options, &mut Column) -> anyhow::Result<()>;
    let groups: [(&str, &[&'static str], Group); 4] = [
        (
            "rotate",
            &[
                "full_speed",
                "full_speed_cpu",
                "full_speed_rotations",
                "full_speed_lost",
                "full_speed_doubled",
                "full_speed_torn",
            ],
            full_speed,
        ),
        (
            "steady",
            &["steady_rotations", "steady_lost", "steady_doubled", "steady_torn"],
            steady,
        ),
        ("flat", own::FLAT, own::flat),
        ("query", own::QUERY, own::query),
    ];
    for (name, rows, group) in groups {
        if !options.wants(name) || (rows == own::FLAT || rows == own::QUERY) && peer.name() != "upkeep" {
            continue;
        }
        eprintln!("{name} …");
        if let Err(error) = group(peer, rotate, child, options, column) {
            eprintln!("{name}: {error:#}");
            column.fail(rows, &format!("{name}: {error:#}"));
        }
    }
}

/// As fast as it goes.
fn full_speed(
    peer: &dyn Peer,
    rotate: Rotate,
    child: &Path,
    options: &Options,
    column: &mut Column,
) -> anyhow::Result<()> {
    for _ in 0..options.times(3, 1) {
        let found = write(peer, rotate, child, LINES, "")?;
        column.add("full_speed", found.seconds);
        column.add("full_speed_cpu", found.cpu * 1e9 / (LINES * LINE) as f64);
        column.add("full_speed_rotations", found.rotations);
        column.add("full_speed_lost", found.lost);
        column.add("full_speed_doubled", found.doubled);
        column.add("full_speed_torn", found.torn);
    }
    Ok(())
}

/// At a rate at which who looks once a second rotates at each look.
fn steady(
    peer: &dyn Peer,
    rotate: Rotate,
    child: &Path,
    options: &Options,
    column: &mut Column,
) -> anyhow::Result<()> {
    let seconds = if options.quick { 20 } else { 105 };
    let rate = format!("--rate {RATE}/s");
    let found = write(peer, rotate, child, RATE * seconds, &rate)?;
    column.add("steady_rotations", found.rotations);
    column.add("steady_lost", found.lost);
    column.add("steady_doubled", found.doubled);
    column.add("steady_torn", found.torn);
    Ok(())
}

/// What became of the lines of one program.
struct Found {
    seconds: f64,
    cpu: f64,
    rotations: f64,
    lost: f64,
    doubled: f64,
    torn: f64,
}

/// One program that writes so many lines and ends.
fn write(peer: &dyn Peer, rotate: Rotate, child: &Path, count: u64, options: &str) -> anyhow::Result<Found> {
    let lab = Lab::new(child)?;
    let mut session = peer.open(&lab)?;
    pass(Duration::from_secs(3)); // the supervisor's own start is over
    let script = format!("write-lines {count} --size {LINE} {options}");
    let app = App {
        restart: false,
        rotate: Some(rotate),
        ..lab.app("writer", &script)
    };
    session.prepare(&[app])?;
    let cpu = lab.cpu();
    session.start()?;
    let start = lab.wait_stamps("writer", 1, PATIENCE)?[0].nanos;
    let end = quiet(&lab, session.as_ref())?;
    settle(&lab);
    let cpu = lab.cpu() - cpu;
    let files = session.logs("writer", 0);
    let report = Numbered::read(&lines(&files, rotate), "line");
    Ok(Found {
        seconds: end.saturating_sub(start) as f64 / 1e9,
        cpu,
        rotations: files.len().saturating_sub(1) as f64,
        lost: count.saturating_sub(report.present) as f64,
        doubled: report.doubled as f64,
        torn: report.torn as f64,
    })
}

/// Waits until the program is gone and its current file grows no more; when it grew last.
fn quiet(lab: &Lab, session: &dyn Session) -> anyhow::Result<u64> {
    let mut seen = (None, monotonic_nanos());
    try_wait_until("the lines", PATIENCE * 15, || {
        let files = session.logs("writer", 0);
        let size = files.last().and_then(|path| Some(fs::metadata(path).ok()?.len()));
        let now = monotonic_nanos();
        // An empty one is not what was written last.
        if (files.len(), size) != seen.0.unwrap_or_default() && size != Some(0) {
            seen = (Some((files.len(), size)), now);
        }
        if now - seen.1 > 3_000_000_000 && lab.instances("writer").is_empty() {
            Ok(())
        } else {
            Err(format!("{} files, the newest of {size:?} bytes", files.len()))
        }
    })?;
    Ok(seen.1)
}

/// Waits until what follows the writing, such as compression, is done, or ten seconds are over.
fn settle(lab: &Lab) {
    for _ in 0..10 {
        let before = lab.cpu();
        pass(Duration::from_secs(1));
        if lab.cpu() - before < 0.01 {
            return;
        }
    }
}

/// The lines as the program wrote them.
fn lines(files: &[PathBuf], rotate: Rotate) -> Vec<u8> {
    let bytes = files.iter().flat_map(|path| whole_or_packed(path));
    if rotate.format != "json" {
        return bytes.collect();
    }
    let bytes: Vec<u8> = bytes.collect();
    let mut plain = Vec::with_capacity(bytes.len());
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let message = serde_json::from_slice::<serde_json::Value>(line)
            .ok()
            .and_then(|document| Some(document.get("message")?.as_str()?.to_owned()));
        // What is no document is looked at as it is, and counts as torn.
        plain.extend_from_slice(message.as_deref().map_or(line, str::as_bytes));
        plain.push(b'\n');
    }
    plain
}

/// Bytes of a file name's length, in MB.
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What a command said, and how long it took in milliseconds.
fn timed(command: &mut std::process::Command) -> anyhow::Result<(String, f64)> {
    let start = std::time::Instant::now();
    let said = shell::read(command).context("a question")?;
    Ok((said, start.elapsed().as_secs_f64() * 1e3))
}
