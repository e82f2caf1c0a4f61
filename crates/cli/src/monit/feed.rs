//! What the screen shows comes from here: questions to `/v1`, asked again and again, and orders carried out.
//!
//! Each kind of news has a loop of its own with a connection of its own, so that a slow answer holds up nothing else.
//! None of them ends: when the daemon is gone, they try until it is back.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use upkeep_api::{
    body::{self, ActionOptions, ActionResult, AppList, Event, EventQuery, LogLine, LogQuery, Selection},
    client::{Client, ClientError, with_query},
    metrics::{MetricsAnswer, MetricsQuery, Per},
};

use super::{
    pane,
    rows::TRAIL,
    state::{News, Order, Wants},
};
use crate::{connect::connect, settings::Settings};

/// Between two looks at the apps.
const STEP: Duration = Duration::from_secs(1);
/// Between two looks at a graph: what it shows changes slowly.
const GRAPH_STEP: Duration = Duration::from_secs(2);
/// Lines come in batches: so long is gathered.
const GATHER: Duration = Duration::from_millis(60);
/// A selection that moves on within this time is not followed.
const DEBOUNCE: Duration = Duration::from_millis(80);
/// How many lines of history a log begins with.
const HISTORY: usize = 500;
/// How many events.
const EVENTS: usize = 500;
/// Lines that are handed over at once; of more, only the newest are of interest.
const BATCH: usize = pane::KEPT;

/// The loops.
#[derive(Debug)]
pub(super) struct Feed {
    settings: Settings,
    news: mpsc::Sender<News>,
    wants: watch::Receiver<Wants>,
}

impl Feed {
    pub(super) fn new(settings: Settings, news: mpsc::Sender<News>, wants: watch::Receiver<Wants>) -> Self {
        Self {
            settings,
            news,
            wants,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(&self, orders: mpsc::Receiver<Order>) {
        tokio::join!(
            self.apps(),
            self.host(),
            self.graph(),
            self.logs(),
            self.events(),
            self.orders(orders),
        );
    }

    async fn tell(&self, news: News) {
        // The screen is gone: so are we, in a moment.
        let _ = self.news.send(news).await;
    }

    async fn client(&self) -> Result<Client, ClientError> {
        connect(&self.settings).await
    }

    /// The list, every second; and once for each daemon, what was before.
    async fn apps(&self) {
        loop {
            let Err(error) = self.watch_apps().await;
            self.tell(News::Down(error.to_string())).await;
            tokio::time::sleep(STEP).await;
        }
    }

    async fn watch_apps(&self) -> Result<std::convert::Infallible, ClientError> {
        let mut client = self.client().await?;
        let mut first = true;
        let mut clock = tokio::time::interval(STEP);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let list: AppList = client.get("/v1/apps").await?;
            self.tell(News::Apps(list.apps)).await;
            if std::mem::take(&mut first) {
                for per in [Per::App, Per::Instance] {
                    let query = MetricsQuery {
                        metrics: "cpu,memory".to_owned(),
                        since: Some(-(TRAIL as f64)),
                        points: Some(TRAIL),
                        per,
                        ..MetricsQuery::default()
                    };
                    if let Some(answer) = figures(&mut client, &query).await? {
                        self.tell(News::Trails(answer)).await;
                    }
                }
            }
        }
    }

    async fn host(&self) {
        let query = MetricsQuery {
            host: true,
            metrics: "cpu,memory,memory_total,load".to_owned(),
            since: Some(-20.0),
            points: Some(10),
            ..MetricsQuery::default()
        };
        loop {
            if let Ok(mut client) = self.client().await {
                while let Ok(Some(answer)) = figures(&mut client, &query).await {
                    self.tell(News::Host(answer)).await;
                    tokio::time::sleep(GRAPH_STEP).await;
                }
            }
            // The list has said why.
            tokio::time::sleep(STEP).await;
        }
    }

    /// Figures over time, while they are shown.
    async fn graph(&self) {
        let mut wants = self.wants.clone();
        let mut client = None;
        loop {
            let wanted = wants.borrow_and_update().graph.clone();
            let Some((row, span, points)) = wanted else {
                client = None;
                if wants.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            let query = MetricsQuery {
                apps: row.selector(),
                since: Some(-f64::from(span)),
                points: Some(points),
                per: if row.index.is_some() {
                    Per::Instance
                } else {
                    Per::App
                },
                ..MetricsQuery::default()
            };
            let mut connection = match client.take() {
                Some(connection) => Some(connection),
                None => self.client().await.ok(),
            };
            if let Some(connected) = &mut connection {
                match figures(connected, &query).await {
                    Ok(Some(answer)) => self.tell(News::Graph { row, span, answer }).await,
                    Ok(None) => {}
                    Err(_) => connection = None,
                }
            }
            client = connection;
            // Cancel-safe: both only wait.
            tokio::select! {
                () = tokio::time::sleep(GRAPH_STEP) => {}
                _ = wants.changed() => {}
            }
        }
    }

    /// The log that is wanted.
    async fn logs(&self) {
        let mut wants = self.wants.clone();
        loop {
            let wanted = wants.borrow_and_update().logs.clone();
            let Some(selector) = wanted else {
                if wants.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            let other = async {
                while wants.changed().await.is_ok() {
                    if wants.borrow_and_update().logs.as_ref() != Some(&selector) {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            // Cancel-safe: a log that nobody wants any more is hung up on.
            tokio::select! {
                () = other => {}
                () = self.follow(&selector) => tokio::time::sleep(STEP).await,
            }
        }
    }

    /// Follows one log until the connection breaks.
    async fn follow(&self, selector: &str) {
        tokio::time::sleep(DEBOUNCE).await;
        let query = LogQuery {
            apps: selector.to_owned(),
            lines: Some(HISTORY),
            follow: true,
            ..LogQuery::default()
        };
        let Ok(mut client) = self.client().await else {
            return;
        };
        let Ok(mut lines) = client.lines(&with_query("/v1/logs", &query), true).await else {
            return;
        };
        let mut fresh = true;
        let mut batch: Vec<LogLine> = Vec::new();
        loop {
            let due = tokio::time::sleep(GATHER);
            tokio::pin!(due);
            let open = loop {
                // Cancel-safe: what is half read stays in the reader.
                tokio::select! {
                    line = lines.next::<LogLine>() => match line {
                        Ok(Some(line)) => batch.push(line),
                        Ok(None) | Err(_) => break false,
                    },
                    () = &mut due => break true,
                }
            };
            if batch.len() > BATCH {
                batch.drain(..batch.len() - BATCH);
            }
            if !batch.is_empty() || fresh {
                self.tell(News::Logs {
                    selector: selector.to_owned(),
                    lines: std::mem::take(&mut batch),
                    fresh: std::mem::take(&mut fresh),
                })
                .await;
            }
            if !open {
                return;
            }
            // Nothing to gather: wait for the next line without a timer.
            match lines.next::<LogLine>().await {
                Ok(Some(line)) => batch.push(line),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Events, while they are shown.
    async fn events(&self) {
        let mut wants = self.wants.clone();
        loop {
            if !wants.borrow_and_update().events {
                if wants.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            let hidden = async {
                while wants.changed().await.is_ok() {
                    if !wants.borrow_and_update().events {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            // Cancel-safe: events that nobody looks at are hung up on.
            tokio::select! {
                () = hidden => {}
                () = self.follow_events() => tokio::time::sleep(STEP).await,
            }
        }
    }

    async fn follow_events(&self) {
        let query = EventQuery {
            limit: Some(EVENTS),
            follow: true,
            ..EventQuery::default()
        };
        let Ok(mut client) = self.client().await else {
            return;
        };
        let Ok(mut lines) = client.lines(&with_query("/v1/events", &query), true).await else {
            return;
        };
        let mut fresh = true;
        loop {
            let Ok(Some(event)) = lines.next::<Event>().await else {
                return;
            };
            let mut events = vec![event];
            while let Ok(Ok(Some(event))) = tokio::time::timeout(GATHER, lines.next::<Event>()).await {
                events.push(event);
                if events.len() >= EVENTS {
                    break;
                }
            }
            let fresh = std::mem::take(&mut fresh);
            self.tell(News::Events { events, fresh }).await;
        }
    }

    /// Carries out what was ordered, one after the other.
    async fn orders(&self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            let command = order.as_command();
            let text = match self.carry_out(order).await {
                Ok(result) => outcome(&command, &result),
                Err(ClientError::Refused(error)) => match error.hint {
                    Some(hint) => format!("{command}: {} ({hint})", error.message),
                    None => format!("{command}: {}", error.message),
                },
                Err(error) => format!("{command}: {error}"),
            };
            self.tell(News::Done(text)).await;
        }
        std::future::pending::<()>().await;
    }

    async fn carry_out(&self, order: Order) -> Result<ActionResult, ClientError> {
        let mut client = self.client().await?;
        let options = ActionOptions {
            reason: Some(self.settings.reason.clone().unwrap_or_else(|| "monit".to_owned())),
            ..self.settings.options()
        };
        match order {
            Order::Act { verb, selector } => {
                let selection = Selection {
                    selectors: vec![selector],
                    options,
                    ..Selection::default()
                };
                let path = format!("/v1/selections/{verb}");
                client.call("POST", &path, Some(&selection)).await
            }
            Order::Scale { app, instances } => {
                let path = format!("/v1/apps/{}/scale", crate::commands::look::percent_encode(&app));
                let body = body::Scale { instances, options };
                client.call("POST", &path, Some(&body)).await
            }
        }
    }
}

/// How an action ended, in a line.
fn outcome(command: &str, result: &ActionResult) -> String {
    if let Some(failure) = result.failures.first() {
        return format!("{command}: {} did not hold: {}", failure.app, failure.why);
    }
    if result.settled {
        format!("{command}: done")
    } else {
        format!("{command}: not at rest yet")
    }
}

/// Figures over time; `None` if this daemon keeps none (it is older than we are).
async fn figures(client: &mut Client, query: &MetricsQuery) -> Result<Option<MetricsAnswer>, ClientError> {
    match client.get(&with_query("/v1/metrics", query)).await {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
