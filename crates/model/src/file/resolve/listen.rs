//! Where an app listens: addresses and sanity.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use super::join;
use crate::{
    file::{At, Fault, v1},
    listen::{Door, DoorTls, Listen, ListenOn},
    size::Span,
};

/// Mode of a unix socket that was given none: the owner and the group.
const UNIX_MODE: u32 = 0o660;
/// More addresses than this are a mistake.
const MOST: usize = 64;

pub(super) fn list(key: &str, written: Option<v1::ListenList>, cwd: &Path) -> Result<Vec<Listen>, Fault> {
    let mut list = Vec::new();
    let mut names = BTreeSet::new();
    for At { value, position } in written.unwrap_or_default().0 {
        let fault = |message: String| Fault::new(position, format!("`{key}`: {message}"));
        let on = address(&value, cwd).map_err(|message| {
            fault(message).hint("write `3000`, `127.0.0.1:80`, `[::1]:80`, `udp:53` or `unix:/run/shop.sock`")
        })?;
        if list.iter().any(|listen: &Listen| listen.on == on) {
            return Err(fault(format!("{on} is there twice")));
        }
        let name = value.name.unwrap_or_else(|| name_of(&on));
        let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
            return Err(fault(format!(
                "`{}` cannot be a name of a socket: letters, digits, `.`, `_` and `-` can",
                name.escape_debug()
            )));
        }
        if !names.insert(name.clone()) {
            return Err(
                fault(format!("two sockets are called `{name}`")).hint("give one of them another `name`")
            );
        }
        list.push(Listen { name, on });
        if list.len() > MOST {
            return Err(fault(format!("more than {MOST} addresses")));
        }
    }
    Ok(list)
}

fn name_of(on: &ListenOn) -> String {
    match on {
        ListenOn::Port(port) => format!("tcp-{port}"),
        ListenOn::Tcp(address) => format!("tcp-{}", address.port()),
        ListenOn::Udp(address) => format!("udp-{}", address.port()),
        ListenOn::Unix { path, .. } => {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let tamed: String = stem
                .unwrap_or_default()
                .chars()
                .map(|character| {
                    if character.is_ascii_alphanumeric() {
                        character
                    } else {
                        '-'
                    }
                })
                .collect();
            format!("unix-{tamed}")
        }
    }
}

fn address(spec: &v1::ListenSpec, cwd: &Path) -> Result<ListenOn, String> {
    let text = spec.address.trim();
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err("`unix:` needs a path".to_owned());
        }
        let path = join(cwd, path);
        if path.as_os_str().len() > 107 {
            return Err(format!(
                "the path `{}` is longer than 107 bytes, which is all a socket may have",
                path.display()
            ));
        }
        return Ok(ListenOn::Unix {
            path,
            mode: spec.mode.map_or(UNIX_MODE, |mode| mode.0),
        });
    }
    if spec.mode.is_some() {
        return Err("`mode` is for unix sockets".to_owned());
    }
    if let Some(rest) = text.strip_prefix("udp:") {
        return Ok(ListenOn::Udp(match rest.parse::<u16>() {
            Ok(port) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            Err(_) => socket_address(rest)?,
        }));
    }
    let rest = text.strip_prefix("tcp:").unwrap_or(text);
    if let Ok(port) = rest.parse::<u16>() {
        return Ok(ListenOn::Port(port));
    }
    if let Some(port) = rest.strip_prefix("*:").or_else(|| rest.strip_prefix(':')) {
        return port
            .parse()
            .map(ListenOn::Port)
            .map_err(|_| format!("`{text}` is no address"));
    }
    socket_address(rest).map(ListenOn::Tcp)
}

/// `127.0.0.1:80`, `[::1]:80`, `localhost:80`. Other names are not looked up: what they mean may change.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let bare = text
        .strip_prefix("localhost:")
        .map(|port| format!("127.0.0.1:{port}"));
    bare.as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("`{}` is no address to listen on", text.escape_debug()))
}

pub(super) fn door(written: Option<At<v1::DoorSpec>>, cwd: &Path) -> Result<Option<Door>, Fault> {
    let Some(At { value, position }) = written else {
        return Ok(None);
    };
    let listen = list("door.listen", Some(value.listen), cwd).map_err(|fault| Fault {
        position: fault.position.or(position),
        ..fault
    })?;
    if listen.is_empty() {
        return Err(Fault::new(position, "`door` listens nowhere").hint("write `door: {listen: [80]}`"));
    }
    if listen.iter().any(|listen| matches!(listen.on, ListenOn::Udp(_))) {
        return Err(Fault::new(position, "`door` takes TCP and unix sockets, not UDP"));
    }
    Ok(Some(Door {
        listen,
        protocol: value.protocol.unwrap_or_default(),
        drain: value.drain.unwrap_or(Span::from_secs(15)),
        tls: value.tls.map(|tls| DoorTls {
            cert: join(cwd, &tls.cert),
            key: join(cwd, &tls.key),
        }),
    }))
}
