//! Telling the service manager how we are: the sd_notify protocol.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Sends `state` (`READY=1`, `STOPPING=1`, `STATUS=…`, lines of it) to the socket that the service manager named in
/// `NOTIFY_SOCKET`. Does nothing without one.
pub fn send(notify_socket: Option<&OsStr>, state: &str) -> io::Result<()> {
    let Some(name) = notify_socket.filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
