//! `bench api`: how much can be asked of the daemon, beside PM2's command; what idle streams cost; and whether crashes are
//! answered as fast while the API is under load.
//!
//! All on the static release build. `pm2 jlist` is a program that is started for each question, as scripts do it; PM2
//! has no other way in that is its own. Its HTTP health point is a file that no command starts: it is run by hand.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use upkeep_testkit::{
    load::{Kind, Load, Place, Plan},
    pass, try_wait_until,
};

use super::{
    lab::{App, Lab, PATIENCE},
    peers::{self, Session},
};
use crate::shell;

type Rows = Vec<(String, String)>;

/// Apps that are listed.
const APPS: usize = 100;
/// Connections of the load.
const CONNECTIONS: usize = 16;
/// Streams that wait.
const STREAMS: usize = 1000;

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let quick = match words {
        [] => false,
        ["--quick"] => true,
        _ => bail!("usage: cargo xtask bench api [--quick]"),
    };
    let window = Duration::from_secs(if quick { 3 } else { 15 });
    let child = shell::build_static(&["upkeep-testkit"])?.join("upkeep-child");
    let mut rows = Rows::new();
    for mut peer in peers::all() {
        if !matches!(peer.name(), "upkeep" | "pm2") {
            continue;
        }
        match peer.install() {
            Ok(version) => eprintln!("== {version}"),
            Err(error) => {
                eprintln!("{} is not available: {error:#}", peer.name());
                continue;
            }
        }
        let lab = Lab::new(&child)?;
        let mut session = peer.open(&lab)?;
        let apps: Vec<App> = (0..APPS)
            .map(|number| lab.app(&format!("app{number}"), "wait"))
            .collect();
        session.prepare(&apps)?;
        session.start()?;
        for number in 0..APPS {
            lab.wait_stamps(&format!("app{number}"), 1, PATIENCE * 2)?;
        }
        pass(Duration::from_secs(3));
        commands(peer.name(), session.as_ref(), window, &mut rows)?;
        if peer.name() == "upkeep" {
            let socket = lab.path("h/run/api.sock");
            requests(&socket, window, &mut rows);
            streams(&lab, &socket, &mut rows)?;
        } else {
            health_point(&lab, window, &mut rows);
        }
    }
    for loaded in [false, true] {
        respawn(&child, loaded, if quick { 8 } else { 30 }, &mut rows)?;
    }
    println!("| what | figure |\n|---|---|");
    for (what, figure) in rows {
        println!("| {what} | {figure} |");
    }
    Ok(())
}

/// The command that lists, one after the other.
fn commands(name: &str, session: &dyn Session, window: Duration, rows: &mut Rows) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut took = Vec::new();
    while begin.elapsed() < window {
        let start = Instant::now();
        let status = session
            .list()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "{name}: the list ended with {status}");
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
    rows.push((
        format!("{name}: command that lists {APPS} apps, one after the other"),
        format!(
            "{rate:.1} a second, median {:.1} ms, p99 {:.1} ms",
            took[took.len() / 2],
            took[took.len() * 99 / 100]
        ),
    ));
    Ok(())
}

fn requests(socket: &Path, window: Duration, rows: &mut Rows) {
    for (path, connections) in [
        ("/v1/apps", 1),
        ("/v1/apps", CONNECTIONS),
        ("/v1/whoami", CONNECTIONS),
    ] {
        let load = Load::run(Plan {
            path: path.to_owned(),
            ..Plan::new(Place::Unix(socket.to_owned()), Kind::KeepAlive, connections)
        });
        pass(window);
        let tally = load.stop();
        rows.push((
            format!("upkeep: `GET {path}`, {APPS} apps, {connections} connections"),
            format!(
                "{:.0} a second, median {:.2} ms, p99 {:.2} ms, {} failed",
                tally.rate(),
                tally.latency(0.5).as_secs_f64() * 1e3,
                tally.latency(0.99).as_secs_f64() * 1e3,
                tally.failures
            ),
        ));
    }
}

/// Streams of events in which nothing happens.
fn streams(lab: &Lab, socket: &Path, rows: &mut Rows) -> anyhow::Result<()> {
    let (before, _) = lab.memory();
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = UnixStream::connect(socket).context("the socket of the daemon")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /v1/events?follow=true HTTP/1.1\r\nHost: upkeep\r\n\r\n"
        )?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        ensure!(
            &head == b"HTTP/1.1 200",
            "a stream was refused: {}",
            String::from_utf8_lossy(&head)
        );
        open.push(stream);
    }
    pass(Duration::from_secs(2));
    let (after, _) = lab.memory();
    rows.push((
        format!("upkeep: {STREAMS} idle streams of events"),
        format!("{:.1} MiB more, RSS ({before:.1} to {after:.1})", after - before),
    ));
    drop(open);
    Ok(())
}

/// PM2's file for port 9615, which no command starts.
fn health_point(lab: &Lab, window: Duration, rows: &mut Rows) {
    let what = "pm2: HTTP health point, 16 connections".to_owned();
    match try_health_point(lab, window) {
        Ok(figure) => rows.push((what, figure)),
        Err(error) => rows.push((what, format!("not measured: {error:#}"))),
    }
}

fn try_health_point(lab: &Lab, window: Duration) -> anyhow::Result<String> {
    let file = peers::peers_dir()?.join("pm2/node_modules/pm2/lib/HttpInterface.js");
    ensure!(file.is_file(), "there is no such file in this version");
    let port = upkeep_testkit::free_port();
    let mut command = lab.command("node");
    command
        .arg(&file)
        .env("PM2_HOME", lab.path("h"))
        .env("PM2_API_PORT", port.to_string())
        .env("PM2_WEB_PORT", port.to_string())
        .env("PM2_API_IPADDR", "127.0.0.1")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut server = lab.foreground(command)?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let up = try_wait_until("the health point", Duration::from_secs(10), || {
        std::net::TcpStream::connect(address)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    let measured = up.map_err(anyhow::Error::msg).map(|()| {
        let load = Load::start(address, Kind::PerRequest, CONNECTIONS);
        pass(window);
        let tally = load.stop();
        format!(
            "{:.0} a second, median {:.2} ms, p99 {:.2} ms, {} failed",
            tally.rate(),
            tally.latency(0.5).as_secs_f64() * 1e3,
            tally.latency(0.99).as_secs_f64() * 1e3,
            tally.failures
        )
    });
    // It is ours, and may have ended by itself.
    let _ = server.kill();
    let _ = server.wait();
    measured
}

/// From a crash to the next process, with and without a load on the API.
fn respawn(child: &Path, loaded: bool, crashes: usize, rows: &mut Rows) -> anyhow::Result<()> {
    let mut peer = peers::all().remove(0);
    peer.install()?;
    let lab = Lab::new(child)?;
    let mut session = peer.open(&lab)?;
    let file = lab.path("stamps").join("crasher");
    let script = format!("run-for 1100ms stamp {} crash", file.display());
    session.prepare(&[lab.app("crasher", &script)])?;
    session.start()?;
    lab.wait_stamps("crasher", 1, PATIENCE)?;
    let load = loaded.then(|| {
        Load::run(Plan {
            path: "/v1/apps".to_owned(),
            ..Plan::new(
                Place::Unix(lab.path("h/run/api.sock")),
                Kind::KeepAlive,
                CONNECTIONS,
            )
        })
    });
    let deadline = Duration::from_secs(4) * u32::try_from(crashes + 2)?;
    let stamps = lab.wait_stamps("crasher", crashes * 2 + 1, deadline)?;
    let mut took: Vec<f64> = stamps
        .windows(2)
        .filter(|pair| pair[0].pid != pair[1].pid)
        .map(|pair| (pair[1].nanos - pair[0].nanos) as f64 / 1e6)
        .collect();
    took.sort_by(f64::total_cmp);
    let asked = load.map_or(0.0, |load| load.stop().rate());
    rows.push((
        format!("upkeep: crash to the next process, {asked:.0} requests a second meanwhile"),
        format!(
            "median {:.2} ms, highest {:.2} ms",
            took[took.len() / 2],
            took[took.len() - 1]
        ),
    ));
    Ok(())
}
