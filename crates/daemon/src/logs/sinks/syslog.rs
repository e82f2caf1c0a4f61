//! Syslog: RFC 5424 over the network, with counted octets on TCP (RFC 6587, 3.4.1); on a socket of this machine the
//! form that libc's `syslog` and `logger` write there, since that is what readers of `/dev/log` (journald among them)
//! take apart.
//!
//! App, instance and stream are APP-NAME, PROCID and MSGID. The facility is 3, of daemons. A line that is longer than
//! receivers take goes as several messages.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use upkeep_api::body::{LogLine, Stream};

use super::{PATIENCE, severity, time};

/// Where the syslog of a machine listens.
pub(super) const SOCKET: &str = "/dev/log";
/// Longest text of one message: receivers take 8 KiB with the header (rsyslog's default).
const TEXT_MAX: usize = 7 << 10;
/// So many lookups of names may hang.
const LOOKUPS: usize = 4;
/// Longest APP-NAME (RFC 5424, 6).
const NAME_MAX: usize = 48;

/// A receiver that is connected.
#[derive(Debug)]
pub(super) enum Syslog {
    Local(UnixDatagram),
    Udp(UdpSocket, String),
    Tcp(TcpStream, String),
}

/// The machine's name as RFC 5424 wants it.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let fits = !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { name } else { "-".to_owned() }
}

impl Syslog {
    pub(super) fn local(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::Local(socket))
    }

    pub(super) fn udp(address: &str) -> io::Result<Self> {
        let mut last = nothing(address);
        for address in resolve(address)? {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let made = UdpSocket::bind(any).and_then(|socket| {
                socket.connect(address)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Ok(socket)
            });
            match made {
                Ok(socket) => return Ok(Self::Udp(socket, host())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(super) fn tcp(address: &str) -> io::Result<Self> {
        let mut last = nothing(address);
        for address in resolve(address)? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(Self::Tcp(stream, host()));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// What is in vain to write to is found before anything is lost in it: a receiver that has hung up.
    pub(super) fn check(&mut self) -> io::Result<()> {
        let Self::Tcp(stream, _) = self else {
            return Ok(());
        };
        stream.set_nonblocking(true)?;
        let heard = loop {
            match stream.read(&mut [0_u8; 512]) {
                Ok(0) => break Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                // No syslog receiver says anything that we would know.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        stream.set_nonblocking(false)?;
        heard
    }

    pub(super) fn send(&mut self, line: &LogLine) -> io::Result<()> {
        let mut rest = line.line.as_str();
        loop {
            let (text, after) = rest.split_at(rest.floor_char_boundary(TEXT_MAX));
            match self {
                Self::Local(socket) => {
                    socket.send(local(line, text).as_bytes())?;
                }
                Self::Udp(socket, host) => {
                    socket.send(message(line, host, text).as_bytes())?;
                }
                Self::Tcp(stream, host) => {
                    let message = message(line, host, text);
                    // One write: what is torn by an error goes again over a new connection.
                    stream.write_all(format!("{} {message}", message.len()).as_bytes())?;
                }
            }
            rest = after;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Addresses of a name and a port. A lookup that hangs does so on a thread of its own, and of those there are few.
fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    static AT_WORK: AtomicUsize = AtomicUsize::new(0);
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let late = || {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the name in `{address}` is not resolved in time"),
        )
    };
    if AT_WORK.fetch_add(1, Ordering::Relaxed) >= LOOKUPS {
        AT_WORK.fetch_sub(1, Ordering::Relaxed);
        return Err(late());
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let name = address.to_owned();
    let started = std::thread::Builder::new()
        .name("log-lookup".to_owned())
        .stack_size(256 << 10)
        .spawn(move || {
            // Whoever asked may have lost patience.
            let _ = sender.send(name.to_socket_addrs().map(Iterator::collect));
            AT_WORK.fetch_sub(1, Ordering::Relaxed);
        });
    if let Err(error) = started {
        AT_WORK.fetch_sub(1, Ordering::Relaxed);
        return Err(error);
    }
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(late()))
}

fn nothing(address: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("`{address}` leads to no address"),
    )
}

/// Facility and severity as one number.
fn priority(line: &LogLine) -> u8 {
    3 * 8 + severity(line)
}

/// RFC 5424, 6: `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID - MSG`.
fn message(line: &LogLine, host: &str, text: &str) -> String {
    let (priority, time) = (priority(line), time(line));
    let app = &line.app.as_str()[..line.app.as_str().len().min(NAME_MAX)];
    let index = line
        .index
        .map_or_else(|| "-".to_owned(), |index| index.to_string());
    let stream = match line.stream {
        Stream::Out => "out",
        Stream::Err => "err",
    };
    format!("<{priority}>1 {time} {host} {app} {index} {stream} - {text}")
}

/// `<PRI>Nov 23 04:05:06 shop[0]: text`, in local time.
fn local(line: &LogLine, text: &str) -> String {
    let at = time(line)
        .parse::<jiff::Timestamp>()
        .unwrap_or_else(|_| jiff::Timestamp::now())
        .to_zoned(jiff::tz::TimeZone::system());
    let (priority, time) = (priority(line), at.strftime("%b %e %H:%M:%S"));
    match line.index {
        Some(index) => format!("<{priority}>{time} {}[{index}]: {text}", line.app),
        None => format!("<{priority}>{time} {}: {text}", line.app),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upkeep_model::id::AppName;

    #[test]
    fn messages_have_the_form_of_the_standards() {
        let line = LogLine {
            app: AppName::parse("shop").expect("a name"),
            index: Some(2),
            stream: Stream::Err,
            at: 1_795_372_848.25,
            line: "wörds".to_owned(),
            partial: false,
            notice: false,
        };
        let text = message(&line, "box", &line.line);
        assert_eq!(text, format!("<27>1 {} box shop 2 err - wörds", time(&line)));
        assert!(time(&line).strip_suffix(".250Z").is_some(), "{}", time(&line));
        let text = local(&line, &line.line);
        assert!(
            text.starts_with("<27>") && text.ends_with(" shop[2]: wörds"),
            "{text}"
        );
    }
}
