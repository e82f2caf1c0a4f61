//! What the screen knows and what keys do to it. No clock, no terminal, no connection.

use std::collections::HashMap;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use upkeep_api::{
    body::{AppView, Event, LogLine},
    metrics::MetricsAnswer,
};

use super::{
    keys::{self, Action},
    pane::{Pane, Shown},
    rows::{self, Row, RowId, Sort, Trails},
};
use crate::{commands::read::event_line, output::time::Clock};

/// How many seconds a message stays.
const MESSAGE_STAYS: u32 = 6;
/// Logs that were shown and are kept.
const PANES: usize = 32;

/// Spans of graphs, with their names.
pub(super) const SPANS: [(&str, u32); 8] = [
    ("5m", 300),
    ("15m", 900),
    ("1h", 3600),
    ("6h", 21_600),
    ("24h", 86_400),
    ("7d", 604_800),
    ("30d", 2_592_000),
    ("90d", 7_776_000),
];

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Screen {
    #[default]
    Apps,
    Logs,
    Detail,
    Events,
}

/// A line that is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Typing {
    pub(super) what: Typed,
    pub(super) text: String,
    /// What stood there before: Esc brings it back.
    before: String,
}

/// What it will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Search,
    Filter,
    Command,
}

impl Typed {
    pub(super) const fn prompt(self) -> &'static str {
        match self {
            Self::Search => "/",
            Self::Filter => "filter: ",
            Self::Command => ":",
        }
    }
}

/// Something to be done by the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A verb over a selection.
    Act { verb: &'static str, selector: String },
    /// Another number of copies.
    Scale { app: String, instances: String },
}

impl Order {
    /// What does the same from a shell.
    pub(super) fn as_command(&self) -> String {
        match self {
            Self::Act { verb, selector } => format!("upkeep {verb} {selector}"),
            Self::Scale { app, instances } => format!("upkeep scale {app} {instances}"),
        }
    }
}

/// What a key leads to, beside another picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Order(Order),
    Yank(String),
    Redraw,
    Suspend,
    Quit,
}

/// What the feed is to bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// The log of this selector.
    pub(super) logs: Option<String>,
    /// Figures over time of this row, so many seconds back, in so many values.
    pub(super) graph: Option<(RowId, u32, usize)>,
    /// What was done and what happened.
    pub(super) events: bool,
}

/// What the feed brings.
#[derive(Debug)]
pub(super) enum News {
    Apps(Vec<AppView>),
    /// Lines of a log; `fresh`: its end, from which on it is followed.
    Logs {
        selector: String,
        lines: Vec<LogLine>,
        fresh: bool,
    },
    /// The last minute of all apps, or of all instances.
    Trails(MetricsAnswer),
    Graph {
        row: RowId,
        span: u32,
        answer: MetricsAnswer,
    },
    Host(MetricsAnswer),
    Events {
        events: Vec<Event>,
        fresh: bool,
    },
    /// How an order ended.
    Done(String),
    /// The daemon does not answer: why.
    Down(String),
}

/// The last figures of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Host {
    pub(super) cpu: Option<f64>,
    pub(super) memory: Option<f64>,
    pub(super) memory_total: Option<f64>,
    pub(super) load: Option<f64>,
}

/// Sizes that the last picture had: what a page is, how many values a graph can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) page: usize,
    pub(super) graph_width: usize,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct State {
    pub(super) host_name: String,
    pub(super) host: Host,
    pub(super) apps: Vec<AppView>,
    /// Through filter and sort.
    pub(super) rows: Vec<Row>,
    pub(super) trails: Trails,
    by_instance: bool,
    pub(super) selected: Option<RowId>,
    pub(super) screen: Screen,
    /// Where Esc leads.
    came_from: Screen,
    panes: HashMap<String, Pane>,
    /// Selectors of panes, the one shown last at the end.
    recent: Vec<String>,
    pub(super) events: Pane,
    pub(super) span: usize,
    pub(super) graph: Option<(RowId, u32, MetricsAnswer)>,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    pub(super) filter: String,
    search: String,
    pub(super) typing: Option<Typing>,
    /// A question that is open: yes leads to this.
    pub(super) confirm: Option<Order>,
    pub(super) help: bool,
    pub(super) message: Option<String>,
    message_age: u32,
    /// Since how many seconds nobody answers, and why.
    pub(super) down: Option<(u32, String)>,
    shape: Shape,
    clock: Clock,
}

impl State {
    pub(super) fn new(host_name: String, filter: String) -> Self {
        Self {
            host_name,
            host: Host::default(),
            apps: Vec::new(),
            rows: Vec::new(),
            trails: Trails::default(),
            by_instance: false,
            selected: None,
            screen: Screen::Apps,
            came_from: Screen::Apps,
            panes: HashMap::new(),
            recent: Vec::new(),
            events: Pane::default(),
            span: 1,
            graph: None,
            sort: Sort::Name,
            reverse: false,
            filter,
            search: String::new(),
            typing: None,
            confirm: None,
            help: false,
            message: None,
            message_age: 0,
            down: None,
            shape: Shape::default(),
            clock: Clock::local(),
        }
    }

    /// How large the last picture was.
    pub(super) fn shown(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// What is to be brought for the picture of now.
    pub(super) fn wants(&self) -> Wants {
        Wants {
            logs: self.selected.as_ref().map(RowId::selector),
            graph: match (&self.selected, self.screen) {
                (Some(row), Screen::Detail) => {
                    Some((row.clone(), SPANS[self.span].1, self.shape.graph_width.max(16)))
                }
                _ => None,
            },
            events: self.screen == Screen::Events,
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        self.message = Some(text.to_owned());
        self.message_age = 0;
    }

    /// A second has gone by.
    pub(super) fn tick(&mut self) {
        self.message_age += 1;
        if self.message_age >= MESSAGE_STAYS {
            self.message = None;
        }
        if let Some((seconds, _)) = &mut self.down {
            *seconds += 1;
        }
        for pane in self.panes.values_mut() {
            pane.tick();
        }
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Apps(apps) => {
                if self.down.take().is_some() {
                    self.say("the daemon answers again");
                }
                self.apps = apps;
                self.arrange();
                let all = rows::build(&self.apps, self.by_instance);
                self.trails.step(&all);
            }
            News::Logs {
                selector,
                lines,
                fresh,
            } => {
                let clock = &self.clock;
                let mut shown: Vec<Shown> = lines
                    .iter()
                    .filter(|line| !(line.notice && line.line.is_empty()))
                    .map(|line| Shown::of(line, clock))
                    .collect();
                let pane = self.panes.entry(selector.clone()).or_default();
                if fresh {
                    pane.begin(shown);
                } else {
                    shown.drain(..).for_each(|line| pane.push(line));
                }
                self.recent.retain(|known| *known != selector);
                self.recent.push(selector);
                if self.recent.len() > PANES {
                    let oldest = self.recent.remove(0);
                    self.panes.remove(&oldest);
                }
            }
            News::Trails(answer) => self.trails.begin(&answer),
            News::Graph { row, span, answer } => self.graph = Some((row, span, answer)),
            News::Host(answer) => {
                let last = |metric: &str| {
                    let series = answer.series.iter().find(|series| series.metric == metric)?;
                    series.values.iter().rev().flatten().next().copied()
                };
                self.host = Host {
                    cpu: last("cpu"),
                    memory: last("memory"),
                    memory_total: last("memory_total"),
                    load: last("load"),
                };
            }
            News::Events { events, fresh } => {
                let clock = &self.clock;
                let lines = events.iter().map(|event| Shown {
                    label: String::new(),
                    bad: event.result.starts_with("failed") || event.result.starts_with("refused"),
                    notice: false,
                    text: event_line(event, clock),
                });
                if fresh {
                    self.events.begin(lines);
                } else {
                    lines.for_each(|line| self.events.push(line));
                }
            }
            News::Done(text) => self.say(&text),
            News::Down(why) => {
                let seconds = self.down.as_ref().map_or(0, |(seconds, _)| *seconds);
                self.down = Some((seconds, why));
            }
        }
    }

    /// Makes the rows anew; the selection stays on its row, or goes to the one that took its place.
    fn arrange(&mut self) {
        let place = self.place();
        let rows = rows::build(&self.apps, self.by_instance);
        self.rows = rows::arrange(rows, &self.filter, self.sort, self.reverse);
        if self.place().is_none() {
            let place = place.unwrap_or(0).min(self.rows.len().saturating_sub(1));
            self.selected = self.rows.get(place).map(|row| row.id.clone());
        }
    }

    /// Where the selection is.
    pub(super) fn place(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.rows.iter().position(|row| row.id == *selected)
    }

    /// The row that is selected.
    pub(super) fn row(&self) -> Option<&Row> {
        self.place().and_then(|place| self.rows.get(place))
    }

    /// The app of the row that is selected.
    pub(super) fn app(&self) -> Option<&AppView> {
        let selected = self.selected.as_ref()?;
        self.apps.iter().find(|app| app.name == selected.app)
    }

    /// The log of the selection.
    pub(super) fn pane(&self) -> Option<&Pane> {
        self.panes.get(&self.selected.as_ref()?.selector())
    }

    /// The lines that keys move: the log's or the events'.
    fn lines(&mut self) -> Option<&mut Pane> {
        match self.screen {
            Screen::Events => Some(&mut self.events),
            Screen::Logs => {
                let selector = self.selected.as_ref()?.selector();
                Some(self.panes.entry(selector).or_default())
            }
            Screen::Apps | Screen::Detail => None,
        }
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Vec<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if self.help {
            self.help = false;
            return Vec::new();
        }
        if let Some(order) = self.confirm.take() {
            return match key.code {
                KeyCode::Char('y' | 'Y') | KeyCode::Enter => self.order(order),
                KeyCode::Char('c') if control => vec![Effect::Quit],
                _ => {
                    self.say("nothing was done");
                    Vec::new()
                }
            };
        }
        if self.typing.is_some() {
            return self.type_key(key, control);
        }
        match keys::action(key) {
            Some(action) => self.act(action),
            None => Vec::new(),
        }
    }

    fn order(&mut self, order: Order) -> Vec<Effect> {
        self.say(&format!("{} …", order.as_command()));
        vec![Effect::Order(order)]
    }

    fn act(&mut self, action: Action) -> Vec<Effect> {
        let page = isize::try_from(self.shape.page.max(1)).unwrap_or(isize::MAX);
        match action {
            Action::Up => self.step(-1),
            Action::Down => self.step(1),
            Action::PageUp => self.step(-page),
            Action::PageDown => self.step(page),
            Action::Top => self.step(isize::MIN),
            Action::End => self.step(isize::MAX),
            Action::Left | Action::Right => {
                if let Some(pane) = self.lines() {
                    let by = if action == Action::Left { -8 } else { 8 };
                    pane.left = pane.left.saturating_add_signed(by);
                }
            }
            Action::Search => self.begin_typing(Typed::Search),
            Action::Filter => self.begin_typing(Typed::Filter),
            Action::Command => self.begin_typing(Typed::Command),
            Action::NextHit => self.find(true),
            Action::PreviousHit => self.find(false),
            Action::Sort => {
                self.sort = self.sort.next();
                self.arrange();
                self.say(&format!("sorted by {}", self.sort.word()));
            }
            Action::Reverse => {
                self.reverse = !self.reverse;
                self.arrange();
            }
            Action::Logs => self.go(Screen::Logs),
            Action::Detail => self.go(Screen::Detail),
            Action::Events => self.go(Screen::Events),
            Action::Instances => {
                self.by_instance = !self.by_instance;
                // The row of an app becomes the row of its first instance, and the other way round.
                if let Some(selected) = &mut self.selected {
                    let many = self
                        .apps
                        .iter()
                        .any(|app| app.name == selected.app && app.instances.len() > 1);
                    selected.index = (self.by_instance && many).then_some(0);
                }
                self.arrange();
            }
            Action::Start => self.ask("start"),
            Action::Stop => self.ask("stop"),
            Action::Restart => self.ask("restart"),
            Action::Reload => self.ask("reload"),
            Action::Yank => return self.yank(),
            Action::Help => self.help = true,
            Action::Back => {
                if self.screen == Screen::Apps {
                    return vec![Effect::Quit];
                }
                self.screen = std::mem::take(&mut self.came_from);
            }
            Action::Pause => {
                if self.screen == Screen::Apps {
                    // The log below the table is what moves there.
                    if let Some(selected) = &self.selected {
                        self.panes.entry(selected.selector()).or_default().toggle_pause();
                    }
                } else if let Some(pane) = self.lines() {
                    pane.toggle_pause();
                }
            }
            Action::Wrap => {
                if let Some(pane) = self.lines() {
                    pane.wrap = !pane.wrap;
                }
            }
            Action::Longer => self.span = (self.span + 1).min(SPANS.len() - 1),
            Action::Shorter => self.span = self.span.saturating_sub(1),
            Action::Redraw => return vec![Effect::Redraw],
            Action::Suspend => return vec![Effect::Suspend],
            Action::Quit => return vec![Effect::Quit],
        }
        Vec::new()
    }

    fn go(&mut self, screen: Screen) {
        if screen != Screen::Events && self.selected.is_none() {
            return;
        }
        if self.screen != screen {
            self.came_from = if self.screen == Screen::Detail {
                Screen::Detail
            } else {
                Screen::Apps
            };
            self.screen = screen;
        }
    }

    /// Down for numbers above zero.
    fn step(&mut self, by: isize) {
        if let Some(pane) = self.lines() {
            match by {
                isize::MIN => pane.go_to_top(),
                isize::MAX => pane.go_to_end(),
                by => pane.scroll(-by),
            }
            return;
        }
        let Some(place) = self.place() else { return };
        let place = place.saturating_add_signed(by).min(self.rows.len() - 1);
        self.selected = Some(self.rows[place].id.clone());
    }

    fn ask(&mut self, verb: &'static str) {
        if let Some(selected) = &self.selected {
            self.confirm = Some(Order::Act {
                verb,
                selector: selected.selector(),
            });
        }
    }

    fn yank(&mut self) -> Vec<Effect> {
        let text = match self.lines() {
            Some(pane) => pane.last_shown().map(|line| line.text.clone()),
            None => self.selected.as_ref().map(RowId::selector),
        };
        let Some(text) = text else { return Vec::new() };
        self.say("yanked, if the terminal allows it");
        vec![Effect::Yank(text)]
    }

    fn begin_typing(&mut self, what: Typed) {
        let before = match what {
            Typed::Filter => match self.lines() {
                Some(pane) => pane.filter.clone(),
                None => self.filter.clone(),
            },
            Typed::Search | Typed::Command => String::new(),
        };
        self.typing = Some(Typing {
            what,
            text: before.clone(),
            before,
        });
    }

    fn type_key(&mut self, key: KeyEvent, control: bool) -> Vec<Effect> {
        let Some(mut typing) = self.typing.take() else {
            return Vec::new();
        };
        match key.code {
            KeyCode::Char('c') if control => {
                self.typed(&typing, true);
                return Vec::new();
            }
            KeyCode::Char('u') if control => typing.text.clear(),
            KeyCode::Char('w') if control => {
                let kept = typing.text.trim_end();
                let kept = kept.rfind(' ').map_or(0, |at| at + 1);
                typing.text.truncate(kept);
            }
            KeyCode::Char(character) if !control => typing.text.push(character),
            KeyCode::Backspace if typing.text.pop().is_none() => {
                self.typed(&typing, true);
                return Vec::new();
            }
            KeyCode::Esc => {
                self.typed(&typing, true);
                return Vec::new();
            }
            KeyCode::Enter => {
                if typing.what == Typed::Command {
                    return self.command(&typing.text);
                }
                self.typed(&typing, false);
                if typing.what == Typed::Search {
                    self.search = typing.text;
                    self.find(true);
                }
                return Vec::new();
            }
            _ => {}
        }
        self.typed(&typing, false);
        self.typing = Some(typing);
        Vec::new()
    }

    /// A filter works while it is typed.
    fn typed(&mut self, typing: &Typing, undo: bool) {
        let text = if undo { &typing.before } else { &typing.text };
        if typing.what != Typed::Filter {
            return;
        }
        if let Some(pane) = self.lines() {
            pane.filter.clone_from(text);
            pane.go_to_end();
        } else {
            self.filter.clone_from(text);
            self.arrange();
        }
    }

    /// Goes to the next thing that was searched for: in lines up, since the search begins at their end. Or to the one
    /// before.
    fn find(&mut self, onward: bool) {
        let search = self.search.clone();
        if search.is_empty() {
            self.say("nothing to search for: type / first");
            return;
        }
        let found = if let Some(pane) = self.lines() {
            pane.search.clone_from(&search);
            pane.find(onward)
        } else {
            let from = self.place().unwrap_or(0);
            let count = self.rows.len();
            let step = if onward { 1 } else { count.saturating_sub(1) };
            let hit = (1..=count)
                .map(|turn| (from + turn * step) % count)
                .find(|at| super::pane::contains(&self.rows[*at].id.selector(), &search));
            if let Some(at) = hit {
                self.selected = Some(self.rows[at].id.clone());
            }
            hit.is_some()
        };
        if !found {
            self.say(&format!("`{search}` is not found"));
        }
    }

    /// A command that was typed in full is not asked about.
    fn command(&mut self, text: &str) -> Vec<Effect> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let here = || self.selected.as_ref().map(RowId::selector);
        match words.as_slice() {
            [] => Vec::new(),
            ["q" | "quit"] => vec![Effect::Quit],
            ["help"] => {
                self.help = true;
                Vec::new()
            }
            ["logs"] => self.act(Action::Logs),
            ["detail"] => self.act(Action::Detail),
            ["events"] => self.act(Action::Events),
            ["sort", key] => {
                match Sort::ALL.into_iter().find(|sort| sort.word() == *key) {
                    Some(sort) => {
                        self.sort = sort;
                        self.arrange();
                    }
                    None => {
                        let known: Vec<&str> = Sort::ALL.iter().map(|sort| sort.word()).collect();
                        self.say(&format!("no column `{key}`: {}", known.join(", ")));
                    }
                }
                Vec::new()
            }
            ["span", name] => {
                match SPANS.iter().position(|(known, _)| known == name) {
                    Some(at) => self.span = at,
                    None => {
                        let known: Vec<&str> = SPANS.iter().map(|(name, _)| *name).collect();
                        self.say(&format!("no span `{name}`: {}", known.join(", ")));
                    }
                }
                Vec::new()
            }
            ["filter", rest @ ..] => {
                self.filter = rest.join(" ");
                self.arrange();
                Vec::new()
            }
            ["scale", app, instances] => self.order(Order::Scale {
                app: (*app).to_owned(),
                instances: (*instances).to_owned(),
            }),
            [verb @ ("start" | "stop" | "restart" | "reload"), rest @ ..] if rest.len() <= 1 => {
                let verb = match *verb {
                    "start" => "start",
                    "stop" => "stop",
                    "restart" => "restart",
                    _ => "reload",
                };
                match rest.first().map(|word| (*word).to_owned()).or_else(here) {
                    Some(selector) => self.order(Order::Act { verb, selector }),
                    None => Vec::new(),
                }
            }
            [first, ..] => {
                self.say(&format!("no command `{first}` here: ? tells which there are"));
                Vec::new()
            }
        }
    }
}
