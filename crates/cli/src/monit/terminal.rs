//! The terminal: taken over, and given back as it was, however we end.

use std::io::{self, BufWriter, Stdout, Write};

use crossterm::{clipboard::CopyToClipboard, cursor, execute, terminal as term};
use ratatui::{Frame, backend::CrosstermBackend};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What one picture writes goes out in one piece.
const BUFFER: usize = 64 << 10;

type Backend = CrosstermBackend<BufWriter<Stdout>>;

/// The screen while we have it.
#[derive(Debug)]
pub(super) struct Terminal {
    inner: ratatui::Terminal<Backend>,
}

fn take() -> io::Result<()> {
    term::enable_raw_mode()?;
    execute!(io::stdout(), term::EnterAlternateScreen, cursor::Hide)
}

fn give_back() {
    // Nobody is left to be told if this fails.
    let _ = execute!(io::stdout(), cursor::Show, term::LeaveAlternateScreen);
    let _ = term::disable_raw_mode();
}

impl Terminal {
    /// Takes the screen over; a panic gives it back before it speaks.
    pub(super) fn open() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
        take()?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(BUFFER, io::stdout()));
        match ratatui::Terminal::new(backend) {
            Ok(inner) => Ok(Self { inner }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.inner.draw(picture).map(|_| ())
    }

    /// Forgets what the terminal shows: all of it is drawn the next time.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    /// Puts text on the clipboard, where the terminal can (OSC 52, also over ssh).
    pub(super) fn yank(&mut self, text: &str) -> io::Result<()> {
        let writer = self.inner.backend_mut();
        execute!(writer, CopyToClipboard::to_clipboard_from(text))?;
        Write::flush(writer)
    }

    /// As Ctrl-Z does: back to the shell, and on from here when it is brought back.
    #[expect(clippy::unused_self, reason = "only who has the terminal may give it away")]
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        give_back();
        rustix::process::kill_current_process_group(rustix::process::Signal::STOP)?;
        take()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Signals that end us.
#[derive(Debug)]
pub(super) struct Ends {
    terminate: Signal,
    hang_up: Signal,
}

impl Ends {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them. Cancel-safe.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// The name of this machine.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
