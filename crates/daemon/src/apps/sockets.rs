//! The sockets that an app is handed: bound by the keeper once, kept while any copy of the app is at work.
//!
//! A socket belongs to the app, not to a copy: it outlives crashes, replacements and daemons, and connections that
//! come in between wait in its backlog. When no copy is at work any more, nor will be, it is closed, so that clients
//! are refused rather than kept waiting.
//!
//! A copy that is only tried gets sockets of its own, on free ports of the loopback.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use upkeep_keeper::protocol::ListenAddress;
use upkeep_model::{
    id::AppName,
    listen::{Listen, ListenOn},
};

use super::launch::Handed;

/// How the names of sockets begin in the keeper's table.
pub(crate) const LISTEN: &str = "listen:";
/// How those of copies that are only tried begin.
pub(crate) const TRIAL: &str = "trial:";

/// A socket that has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its name in the keeper's table.
    pub(crate) kept: String,
    /// For `LISTEN_FDNAMES`.
    pub(crate) name: String,
    /// What to bind.
    pub(crate) address: ListenAddress,
}

/// Name of an app's socket in the keeper's table.
pub(crate) fn kept(app: &AppName, on: &ListenOn) -> String {
    format!("{LISTEN}{app}:{on}")
}

/// The sockets of an app's copies.
pub(super) fn wanted(app: &AppName, listen: &[Listen]) -> Vec<Wanted> {
    listen
        .iter()
        .map(|listen| Wanted {
            kept: kept(app, &listen.on),
            name: listen.name.clone(),
            address: address(&listen.on),
        })
        .collect()
}

/// The sockets of a copy that is only tried.
pub(super) fn of_trial(app: &AppName, listen: &[Listen]) -> Vec<Wanted> {
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    listen
        .iter()
        .enumerate()
        .map(|(at, listen)| Wanted {
            kept: format!("{TRIAL}{app}:{at}"),
            name: listen.name.clone(),
            address: match &listen.on {
                ListenOn::Port(_) | ListenOn::Tcp(_) => ListenAddress::Tcp(loopback),
                ListenOn::Udp(_) => ListenAddress::Udp(loopback),
                ListenOn::Unix { path, mode } => ListenAddress::Unix(trial_path(path), *mode),
            },
        })
        .collect()
}

fn trial_path(path: &Path) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(".trial");
    text.into()
}

fn address(on: &ListenOn) -> ListenAddress {
    match on {
        ListenOn::Port(port) => {
            // One IPv6 socket serves both, where there is IPv6.
            let any = if Path::new("/proc/net/if_inet6").exists() {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED)
            } else {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            };
            ListenAddress::Tcp(SocketAddr::new(any, *port))
        }
        ListenOn::Tcp(address) => ListenAddress::Tcp(*address),
        ListenOn::Udp(address) => ListenAddress::Udp(*address),
        ListenOn::Unix { path, mode } => ListenAddress::Unix(path.clone(), *mode),
    }
}

/// What became of each socket that was asked for.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    made: HashMap<String, Made>,
}

#[derive(Clone, Debug)]
enum Made {
    /// A daemon before had it made. It is asked for again before it is handed over: that tells its port.
    Found {
        path: Option<PathBuf>,
    },
    Asked {
        path: Option<PathBuf>,
    },
    There {
        port: Option<u16>,
        path: Option<PathBuf>,
    },
    Failed {
        why: String,
    },
}

/// Whether a copy can be given its sockets.
#[derive(Debug)]
pub(super) enum Readiness {
    /// All are there.
    There(Vec<Handed>),
    /// These have to be asked for first, or were (none).
    Pending(Vec<Wanted>),
    /// One cannot be had. It is asked for again next time.
    Failed(String),
}

impl Sockets {
    /// Looks at what a copy needs.
    pub(super) fn look(&mut self, wanted: Vec<Wanted>) -> Readiness {
        for one in &wanted {
            if let Some(Made::Failed { why }) = self.made.get(&one.kept) {
                let why = why.clone();
                self.made.remove(&one.kept);
                return Readiness::Failed(why);
            }
        }
        let handed: Vec<Handed> = wanted
            .iter()
            .filter_map(|one| match self.made.get(&one.kept) {
                Some(Made::There { port, .. }) => Some(Handed {
                    name: one.name.clone(),
                    kept: one.kept.clone(),
                    port: *port,
                }),
                _ => None,
            })
            .collect();
        if handed.len() == wanted.len() {
            return Readiness::There(handed);
        }
        let asked: Vec<Wanted> = wanted
            .into_iter()
            .filter(|one| matches!(self.made.get(&one.kept), None | Some(Made::Found { .. })))
            .collect();
        for one in &asked {
            let path = path_of(&one.address);
            self.made.insert(one.kept.clone(), Made::Asked { path });
        }
        Readiness::Pending(asked)
    }

    /// What a daemon before has left with the keeper.
    pub(super) fn found(&mut self, wanted: Vec<Wanted>, held: &[String]) {
        for one in wanted.into_iter().filter(|one| held.contains(&one.kept)) {
            let path = path_of(&one.address);
            self.made.insert(one.kept, Made::Found { path });
        }
    }

    /// What the keeper made of one.
    pub(super) fn answered(&mut self, kept: String, made: Result<Option<u16>, String>) {
        let path = match self.made.remove(&kept) {
            Some(Made::Found { path } | Made::Asked { path } | Made::There { path, .. }) => path,
            Some(Made::Failed { .. }) | None => None,
        };
        let made = match made {
            Ok(port) => Made::There { port, path },
            Err(why) => Made::Failed { why },
        };
        self.made.insert(kept, made);
    }

    /// Takes out those that are not among these: names to close, and files to remove.
    pub(super) fn retain(&mut self, keep: &[String]) -> Vec<(String, Option<PathBuf>)> {
        let gone = self.made.extract_if(|kept, made| {
            !keep.contains(kept) && matches!(made, Made::There { .. } | Made::Found { .. })
        });
        gone.map(|(kept, made)| match made {
            Made::There { path, .. } | Made::Found { path } => (kept, path),
            Made::Asked { .. } | Made::Failed { .. } => (kept, None),
        })
        .collect()
    }
}

fn path_of(address: &ListenAddress) -> Option<PathBuf> {
    match address {
        ListenAddress::Unix(path, _) => Some(path.clone()),
        ListenAddress::Tcp(_) | ListenAddress::Udp(_) => None,
    }
}

/// The port of a bound socket, if it has one.
pub(super) fn port_of(socket: &std::os::fd::OwnedFd) -> Option<u16> {
    let socket = socket.try_clone().ok()?;
    // Works for UDP too: only the address is asked for.
    std::net::TcpListener::from(socket)
        .local_addr()
        .ok()
        .map(|address| address.port())
}
