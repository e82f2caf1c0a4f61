//! The terminal on standard input, byte by byte.

use std::{fmt, io::Stdin};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::call::{CallError, Result};

/// Every key at once, without echo and without signals from keys; as it was before when dropped.
pub struct RawMode {
    stdin: Stdin,
    before: Termios,
}

impl fmt::Debug for RawMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RawMode").finish_non_exhaustive()
    }
}

impl RawMode {
    /// Fails where standard input is no terminal.
    pub fn new() -> Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).map_err(|errno| CallError::new("tcgetattr", "stdin", errno))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)
            .map_err(|errno| CallError::new("tcsetattr", "stdin", errno))?;
        Ok(Self { stdin, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no manners.
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}

/// Columns and rows of the terminal on standard output; `None` if it is none or does not say.
pub fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}
