//! What is known of the terminal on standard output.

/// How many columns it has; `None` if standard output is no terminal, or does not say.
pub fn columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}
