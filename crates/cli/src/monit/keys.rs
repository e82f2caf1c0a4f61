//! Which key means what. The help and the footer are made from these tables.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::Screen;

/// What a key asks for, where no text is being typed and no question is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Up,
    Down,
    PageUp,
    PageDown,
    Top,
    End,
    Left,
    Right,
    Search,
    NextHit,
    PreviousHit,
    Filter,
    Sort,
    Reverse,
    Logs,
    Detail,
    Events,
    Instances,
    Start,
    Stop,
    Restart,
    Reload,
    Yank,
    Command,
    Help,
    Back,
    Pause,
    Wrap,
    Longer,
    Shorter,
    Redraw,
    Suspend,
    Quit,
}

/// The action of a key.
pub(super) fn action(key: KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return Some(match key.code {
            KeyCode::Char('c') => Action::Quit,
            KeyCode::Char('l') => Action::Redraw,
            KeyCode::Char('z') => Action::Suspend,
            KeyCode::Char('d' | 'f') => Action::PageDown,
            KeyCode::Char('u' | 'b') => Action::PageUp,
            _ => return None,
        });
    }
    Some(match key.code {
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::Left | KeyCode::Char('h') => Action::Left,
        KeyCode::Right => Action::Right,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Char('g') | KeyCode::Home => Action::Top,
        KeyCode::Char('G') | KeyCode::End => Action::End,
        KeyCode::Char('/') | KeyCode::F(3) => Action::Search,
        KeyCode::Char('n') => Action::NextHit,
        KeyCode::Char('N') => Action::PreviousHit,
        KeyCode::Char('f') | KeyCode::F(4) => Action::Filter,
        KeyCode::Char('o') | KeyCode::F(6) => Action::Sort,
        KeyCode::Char('O') => Action::Reverse,
        KeyCode::Char('l') | KeyCode::Enter | KeyCode::F(5) => Action::Logs,
        KeyCode::Char('d') | KeyCode::F(2) => Action::Detail,
        KeyCode::Char('e') => Action::Events,
        KeyCode::Tab => Action::Instances,
        KeyCode::Char('s') | KeyCode::F(7) => Action::Start,
        KeyCode::Char('S') | KeyCode::F(9) => Action::Stop,
        KeyCode::Char('r') => Action::Restart,
        KeyCode::Char('R') | KeyCode::F(8) => Action::Reload,
        KeyCode::Char('y') => Action::Yank,
        KeyCode::Char(':') => Action::Command,
        KeyCode::Char('?') | KeyCode::F(1) => Action::Help,
        KeyCode::Char('q') | KeyCode::Esc => Action::Back,
        KeyCode::F(10) => Action::Quit,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('w') => Action::Wrap,
        KeyCode::Char('+' | ']') => Action::Longer,
        KeyCode::Char('-' | '[') => Action::Shorter,
        _ => return None,
    })
}

/// Keys and what they do, for the help.
pub(super) const HELP: &[(&str, &str)] = &[
    (
        "arrows, j k",
        "move; PgUp PgDn by pages, g G to the top and the end",
    ),
    ("Enter, l", "logs of the selection on the whole screen"),
    ("d", "details: figures over time, instances, why"),
    ("+ -", "in details: a longer or a shorter span"),
    ("e", "what was done and what happened"),
    ("Tab", "a row for each app, or for each instance"),
    ("/  n N", "search; the next and the one before"),
    ("f", "filter: only what has these words (or, in logs, this text)"),
    ("o O", "sort by the next column; the other way round"),
    ("space", "pause and go on; scrolling up pauses too"),
    ("w  left right", "wrap long lines, or move along them"),
    ("s S r R", "start, stop, restart, reload; asks first"),
    (
        ":",
        "a command: restart web, scale web 4, sort cpu, filter x, span 1h, q",
    ),
    ("y", "yank: the line, or the name, to the clipboard"),
    ("q, Esc", "back; at the top: leave"),
];

/// The keys in the last line.
pub(super) const fn footer(screen: Screen) -> &'static [(&'static str, &'static str)] {
    match screen {
        Screen::Apps => &[
            ("F1", "Help"),
            ("F2", "Detail"),
            ("F3", "Search"),
            ("F4", "Filter"),
            ("F5", "Logs"),
            ("F6", "Sort"),
            ("F7", "Start"),
            ("F8", "Reload"),
            ("F9", "Stop"),
            ("F10", "Quit"),
        ],
        Screen::Logs | Screen::Events => &[
            ("F1", "Help"),
            ("F3", "Search"),
            ("F4", "Filter"),
            ("space", "Pause"),
            ("w", "Wrap"),
            ("y", "Yank"),
            ("q", "Back"),
            ("F10", "Quit"),
        ],
        Screen::Detail => &[
            ("F1", "Help"),
            ("-", "Shorter"),
            ("+", "Longer"),
            ("F5", "Logs"),
            ("F7", "Start"),
            ("F8", "Reload"),
            ("F9", "Stop"),
            ("q", "Back"),
            ("F10", "Quit"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_footer_does_something() {
        for screen in [Screen::Apps, Screen::Logs, Screen::Events, Screen::Detail] {
            let keys = footer(screen);
            for (key, label) in keys {
                let code = match key.strip_prefix('F').and_then(|number| number.parse().ok()) {
                    Some(number) => KeyCode::F(number),
                    None if *key == "space" => KeyCode::Char(' '),
                    None => KeyCode::Char(key.chars().next().expect("a key")),
                };
                assert!(action(code.into()).is_some(), "{key} {label}");
            }
            // It must fit into eighty columns.
            let width: usize = keys.iter().map(|(key, label)| key.len() + label.len() + 1).sum();
            assert!(width <= 80, "{screen:?}: {width}");
        }
    }
}
