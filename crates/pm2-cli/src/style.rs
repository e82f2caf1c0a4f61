//! Colours as PM2 has them: on everything, into pipes too, unless told otherwise.

use std::fmt::Display;

/// Colours, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    on: bool,
}

macro_rules! styles {
    ($($name:ident $open:literal $close:literal;)*) => {
        impl Style {$(
            #[doc = concat!("SGR ", stringify!($open), " … ", stringify!($close), ".")]
            pub fn $name(self, text: impl Display) -> String {
                self.wrap($open, $close, text)
            }
        )*}
    };
}

styles! {
    bold 1 22;
    dim 2 22;
    inverse 7 27;
    red 31 39;
    green 32 39;
    yellow 33 39;
    blue 34 39;
    magenta 35 39;
    cyan 36 39;
    white 37 39;
    grey 90 39;
}

impl Style {
    /// With colours or without.
    pub fn new(on: bool) -> Self {
        Self { on }
    }

    /// Are there colours?
    pub fn is_on(self) -> bool {
        self.on
    }

    /// Text between two SGR codes; an empty text stays empty.
    pub fn wrap(self, open: u8, close: u8, text: impl Display) -> String {
        let text = text.to_string();
        if !self.on || text.is_empty() {
            return text;
        }
        format!("\x1b[{open}m{text}\x1b[{close}m")
    }
}
