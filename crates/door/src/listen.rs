//! Public sockets: TCP or unix, whichever they are.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixListener as StdUnix},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

/// A public socket.
pub(crate) enum Public {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection of a client.
pub(crate) enum Client {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Public {
    /// Takes over a socket that was handed to us.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        upkeep_sys::descriptor::set_nonblocking(&socket, true)
            .map_err(|error| io::Error::from_raw_os_error(error.errno))?;
        let is_unix = StdUnix::from(socket.try_clone()?).local_addr().is_ok();
        Ok(if is_unix {
            Self::Unix(UnixListener::from_std(socket.into())?)
        } else {
            Self::Tcp(TcpListener::from_std(socket.into())?)
        })
    }

    /// The next client, and where it comes from.
    pub(crate) async fn accept(&self) -> io::Result<(Client, Option<std::net::IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // A delay for nothing, if it cannot be switched off.
                let _ = stream.set_nodelay(true);
                Ok((Client::Tcp(stream), Some(from.ip().to_canonical())))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Client::Unix(stream), None))
            }
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
