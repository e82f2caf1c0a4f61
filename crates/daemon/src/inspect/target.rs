//! The Node process of an instance, and its inspector.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use upkeep_host::sockets;
use upkeep_sys::{pid::Pid, pidfd, process};

use super::session;
use crate::node::unwrap::is_node;

/// SIGUSR1.
const OPEN_INSPECTOR: i32 = 10;
/// Where Node opens its inspector unless it was told otherwise.
const PORT: u16 = 9229;
/// How long it may take to open. A program whose event loop stands still opens it all the same: a thread does.
const PATIENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(20);
/// How long one that opens late is waited for, to be closed.
const LATE: Duration = Duration::from_mins(2);
const LATE_STEP: Duration = Duration::from_millis(500);

/// Why it cannot be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) hint: String,
}

fn refused(why: impl Into<String>, hint: impl Into<String>) -> Refused {
    Refused {
        why: why.into(),
        hint: hint.into(),
    }
}

/// A Node process.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) pid: u32,
    handle: std::os::fd::OwnedFd,
}

/// The Node process that an instance is, or that its command leads to (`npm start` is Node too, and so is what it
/// starts). Reads `/proc`: off the runtime.
pub(super) fn find(instance: u32) -> Result<Node, Refused> {
    let gone = || refused("it has just ended", "try again");
    let pid = Pid::from_unsigned(instance).ok_or_else(gone)?;
    let mut tree = vec![pid];
    tree.extend(process::descendants(pid).map_err(|_| gone())?);
    let nodes: Vec<Pid> = tree.iter().copied().filter(|pid| is_node_process(*pid)).collect();
    let is_wrapper = |pid: &Pid| {
        // Of a chain of Node processes the last one is the app.
        process::descendants(*pid).is_ok_and(|below| below.iter().any(|below| nodes.contains(below)))
    };
    let apps: Vec<Pid> = nodes.iter().copied().filter(|pid| !is_wrapper(pid)).collect();
    let pid = match apps.as_slice() {
        [pid] => *pid,
        [] => {
            let program = process::executable(pid).map_or_else(
                || "a program that we may not look at".to_owned(),
                |path| format!("`{}`", path.display()),
            );
            return Err(refused(
                format!("process {pid} is {program}, and no Node is below it"),
                "heap snapshots and profiles are of Node programs",
            ));
        }
        several => {
            let pids: Vec<String> = several.iter().map(ToString::to_string).collect();
            return Err(refused(
                format!("it has several Node processes: {}", pids.join(", ")),
                "run them as instances of their own",
            ));
        }
    };
    let handle = pidfd::open(pid).map_err(|_| gone())?;
    // Only now: the handle is of the process that was looked at, or of none.
    if !is_node_process(pid) {
        return Err(gone());
    }
    same_network(pid)?;
    Ok(Node {
        pid: u32::try_from(pid.raw()).map_err(|_| gone())?,
        handle,
    })
}

fn is_node_process(pid: Pid) -> bool {
    let Some(path) = process::executable(pid) else {
        return false;
    };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    // The file may have been replaced since.
    is_node(name.strip_suffix(" (deleted)").unwrap_or(name))
}

/// Its loopback must be ours.
fn same_network(pid: Pid) -> Result<(), Refused> {
    let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
    if of(&pid.to_string()) == of("self") {
        return Ok(());
    }
    Err(refused(
        "it has a network of its own, in which its inspector cannot be reached",
        "give its sandbox the network of the machine for as long as you look into it",
    ))
}

/// Whether the program has a handler for the signal: without one it would be ended by it.
fn handles_signal(pid: u32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    status.is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & (1 << (OPEN_INSPECTOR - 1)) != 0)
    })
}

/// Where the inspector of a process listens, and whether we had it opened.
pub(super) async fn inspector(node: Node) -> Result<(SocketAddr, bool), Refused> {
    let pid = node.pid;
    if let Some(address) = listening(pid).await {
        return Ok((address, false));
    }
    if !handles_signal(pid) {
        return Err(refused(
            format!("process {pid} has no handler for SIGUSR1, which opens the inspector of Node"),
            "it is still starting, or was started with `--disable-sigusr1`",
        ));
    }
    pidfd::send_signal(&node.handle, OPEN_INSPECTOR).map_err(|error| {
        refused(
            format!("process {pid} cannot be sent a signal: {error}"),
            "try again",
        )
    })?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        if let Some(address) = listening(pid).await {
            return Ok((address, true));
        }
        tokio::time::sleep(STEP).await;
    }
    close_late(pid);
    let holder = tokio::task::spawn_blocking(|| sockets::holder_of(PORT)).await;
    let hint = match holder {
        Ok(Some(other)) if other != pid => format!(
            "port {PORT} is taken by process {other}; start the app with `NODE_OPTIONS=--inspect-port=0`, which takes any"
        ),
        _ => "the app may have a handler of its own for SIGUSR1; start it with `node --inspect=127.0.0.1:0`"
            .to_owned(),
    };
    Err(refused(
        format!(
            "the inspector of process {pid} did not open within {} s",
            PATIENCE.as_secs()
        ),
        hint,
    ))
}

/// A program that was busy may open its inspector after we have given up: then nobody wants it any more.
fn close_late(pid: u32) {
    let watch = async move {
        let deadline = tokio::time::Instant::now() + LATE;
        while tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LATE_STEP).await;
            if let Some(address) = listening(pid).await
                && let Ok(mut session) = session::Session::connect(address).await
                && session.close_inspector().await
            {
                return;
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "ends by itself, on the HTTP runtime")]
    drop(tokio::spawn(watch));
}

/// The address at which a process listens and answers as an inspector does.
async fn listening(pid: u32) -> Option<SocketAddr> {
    let addresses = tokio::task::spawn_blocking(move || {
        let held = sockets::held_by(pid);
        sockets::listeners()
            .into_iter()
            .filter(|listener| held.contains(&listener.inode) && listener.address.ip().is_loopback())
            .map(|listener| listener.address)
            .collect::<Vec<_>>()
    })
    .await
    .ok()?;
    for address in addresses {
        let version = session::get(address, "/json/version").await;
        if version.is_some_and(|version| version.contains("Protocol-Version")) {
            return Some(address);
        }
    }
    None
}
