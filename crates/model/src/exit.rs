//! How a process ended.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a process ended, as the kernel told its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It called `exit` with this code (0 to 255).
    Code(u8),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        number: u8,
        /// Whether the kernel wrote a core dump.
        core: bool,
    },
    /// The kernel killed it, or one of its own, because its limit of memory was reached, and so it ended by SIGKILL.
    OutOfMemory,
    /// Its parent died before it, so that nobody could learn it (see decision 0001).
    Unknown,
}

impl Exit {
    /// The code a shell would show: the code, or 128 + signal; -1 where it is not known.
    pub const fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code as i32,
            Self::Signal { number, .. } => 128 + number as i32,
            Self::OutOfMemory => 128 + 9,
            Self::Unknown => -1,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { number, core } => {
                write!(f, "{}", signal_name(i32::from(number)))?;
                if core {
                    f.write_str(" (core dumped)")
                } else {
                    Ok(())
                }
            }
            Self::OutOfMemory => f.write_str("SIGKILL of the kernel: out of memory"),
            Self::Unknown => f.write_str("unknown exit status"),
        }
    }
}

/// Linux x86-64 and aarch64 signal numbers by name (signal(7)).
const SIGNALS: [(i32, &str); 31] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (4, "ILL"),
    (5, "TRAP"),
    (6, "ABRT"),
    (7, "BUS"),
    (8, "FPE"),
    (9, "KILL"),
    (10, "USR1"),
    (11, "SEGV"),
    (12, "USR2"),
    (13, "PIPE"),
    (14, "ALRM"),
    (15, "TERM"),
    (16, "STKFLT"),
    (17, "CHLD"),
    (18, "CONT"),
    (19, "STOP"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (23, "URG"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (27, "PROF"),
    (28, "WINCH"),
    (29, "IO"),
    (30, "PWR"),
    (31, "SYS"),
];

/// `SIGTERM` for 15; `signal 40` for a number without a name.
pub fn signal_name(number: i32) -> String {
    SIGNALS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| format!("signal {number}"), |(_, name)| format!("SIG{name}"))
}

/// The number of `SIGTERM`, `TERM`, `term` or `15`.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS
        .iter()
        .find(|(_, name)| *name == bare)
        .map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_shown_by_name() {
        assert_eq!(Exit::Code(3).to_string(), "exit code 3");
        assert_eq!(
            Exit::Signal {
                number: 11,
                core: true
            }
            .to_string(),
            "SIGSEGV (core dumped)"
        );
        assert_eq!(
            Exit::Signal {
                number: 9,
                core: false
            }
            .shell_code(),
            137
        );
        assert_eq!(Exit::OutOfMemory.shell_code(), 137);
        assert!(Exit::OutOfMemory.to_string().contains("out of memory"));
    }

    #[test]
    fn signals_read_in_every_spelling() {
        for text in ["SIGTERM", "term", "TERM", "15"] {
            assert_eq!(signal_number(text), Some(15), "{text}");
        }
        assert_eq!(signal_number("SIGNOPE"), None);
        assert_eq!(signal_number("0"), None);
    }
}
