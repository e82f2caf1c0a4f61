//! `upkeep monit`: the apps of a machine on a full screen.
//!
//! # Theory of operation
//!
//! Three parts that know little of each other. The **state** ([`state`]) is plain data with two ways in: a key that was
//! pressed and a piece of news from the daemon. It has no clock, no terminal and no connection, so what a key does can
//! be tested without any. What it wants done it gives back as [`state::Effect`]s; what it wants to see it tells as
//! [`state::Wants`]. The **feed** ([`feed`]) talks to `/v1`: it asks for the list every second, follows the log that is
//! wanted, asks for the figures of the graphs that are shown, and carries out actions. It survives the daemon: while none
//! answers the screen says so and stays. The **drawing** ([`draw`]) turns the state into cells; it decides nothing.
//!
//! The loop here joins them. A picture is drawn when something changed and at most ten times a second; the terminal gets
//! only the cells that differ, so that it is usable over a slow line.
//!
//! A row is known by its app, not by its place: a selection stays where it is when the order changes. Lines of a log
//! that was shown before are kept while another is shown, with the place that was scrolled to.

mod draw;
mod feed;
mod keys;
mod pane;
mod rows;
mod spark;
mod state;
mod terminal;
#[cfg(test)]
mod tests;

use std::{io::IsTerminal, time::Duration};

use crossterm::event::{Event as Input, EventStream, KeyEventKind};
use futures_util::StreamExt;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use self::{
    feed::Feed,
    state::{Effect, State, Wants},
    terminal::Terminal,
};
use crate::{
    args::Monit,
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::Output,
    settings::Settings,
};

/// Two pictures are at least so far apart.
const FRAME: Duration = Duration::from_millis(100);
/// News that may wait for the screen: the daemon's answers wait behind them.
const NEWS: usize = 64;

/// Shows the screen until the user leaves it.
pub(crate) async fn run(arguments: &Monit, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let error = Advised::new(Exit::Usage, "`monit` needs a terminal to draw on");
        return Err(error
            .hint("`upkeep ls --watch` prints the list again and again, `upkeep --json ls` for programs")
            .into());
    }
    // Fails here, where a message can be read, if there is no daemon and none can be started.
    drop(connect_or_start(settings).await?);
    let mut state = State::new(terminal::host_name(), arguments.selectors.join(" "));
    let (news, mut inbox) = mpsc::channel(NEWS);
    let (wants, wanted) = watch::channel(Wants::default());
    let (orders, order_box) = mpsc::channel(16);
    let feed = Feed::new(settings.clone(), news, wanted);
    let look = draw::Look::of(output.color);
    let mut terminal = Terminal::open()?;
    let screen = async {
        let mut keys = EventStream::new();
        let mut ends = terminal::Ends::new()?;
        let mut drawn: Option<Instant> = None;
        let mut dirty = true;
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        loop {
            if dirty && drawn.is_none_or(|at| at.elapsed() >= FRAME) {
                let mut shape = draw::Shape::default();
                terminal.draw(|frame| shape = draw::draw(&state, look, frame))?;
                state.shown(shape);
                wants.send_if_modified(|wants| {
                    let now = state.wants();
                    let changed = *wants != now;
                    *wants = now;
                    changed
                });
                drawn = Some(Instant::now());
                dirty = false;
            }
            let next_frame = drawn.map_or_else(Instant::now, |at| at + FRAME);
            let effects = tokio::select! {
                // Cancel-safe, all of them: what is not taken is there the next time.
                input = keys.next() => match input {
                    Some(Ok(Input::Key(key))) if key.kind != KeyEventKind::Release => state.key(key),
                    Some(Ok(_)) => Vec::new(),
                    // The terminal is gone.
                    Some(Err(_)) | None => return Ok(Exit::Done),
                },
                Some(news) = inbox.recv() => {
                    state.hear(news);
                    Vec::new()
                }
                _ = clock.tick() => {
                    state.tick();
                    Vec::new()
                }
                () = tokio::time::sleep_until(next_frame), if dirty => continue,
                () = ends.next() => return Ok(Exit::Interrupted),
            };
            dirty = true;
            for effect in effects {
                match effect {
                    Effect::Quit => return Ok(Exit::Done),
                    Effect::Redraw => terminal.clear()?,
                    Effect::Yank(text) => terminal.yank(&text)?,
                    Effect::Suspend => {
                        terminal.suspend()?;
                        terminal.clear()?;
                    }
                    Effect::Order(order) => {
                        if orders.try_send(order).is_err() {
                            state.say("busy: too many actions wait for their end");
                        }
                    }
                }
            }
        }
    };
    let outcome: anyhow::Result<Exit> = tokio::select! {
        outcome = screen => outcome,
        () = feed.run(order_box) => Ok(Exit::Failed),
    };
    drop(terminal);
    outcome
}
