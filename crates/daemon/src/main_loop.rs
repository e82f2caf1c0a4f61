//! Configure, build, bind, run, end.

use std::{
    cell::Cell,
    net::SocketAddr,
    os::fd::AsFd,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use upkeep_api::body::ActionOptions;
use upkeep_host::home::Home;
use upkeep_keeper::{
    client::{Link, LinkError},
    protocol::{Event, ExitRecord, Listing, Request, VERSION},
};
use upkeep_store::{Store, StoreError, embedded::Embedded};
use upkeep_sys::clock;

use crate::{
    access::Access,
    alerts,
    apps::{
        actor::{Context, Mail},
        director::{Director, log_machine_event, machine_event},
        directory::Directory,
        exits,
        launch::{CopyId, parse_key},
        schedule::Scheduler,
        view::Usage,
    },
    certs::Certificates,
    command::{self, Command, Permit, Refusal},
    config::Configuration,
    crashes,
    events::Events,
    http,
    keeper_link::{AskError, KeeperLink, News},
    logs::{
        janitor::Bell,
        pump::Pump,
        sinks::{self, Sinks},
    },
    metrics::{self, Metrics},
    otlp::{self, Pushing},
    pm2::{self, God},
    recovery::{RecoveryError, recover},
    settings as machine_settings,
    supply::{self, Supply},
    tasks::Task,
};

/// How long the keeper may take to greet and to list what it holds.
const GREETING: Duration = Duration::from_secs(10);
/// Descriptors that are no log's: stores, runtimes, figures, sockets (35 when nothing happens), and room for clients.
const DESCRIPTORS_KEPT: u64 = 48;
/// How many commands may be in work; as many again wait, and the rest is told that the daemon is busy.
const COMMANDS: usize = 64;
/// So long after the start, what only the start needed is given back.
const SETTLED: Duration = Duration::from_secs(10);
/// Between two times that code is given back: what one command needed is not needed all day.
const RARELY: Duration = Duration::from_mins(1);
/// How long open HTTP connections may take to end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the daemon is told by who starts it.
#[derive(Clone, Debug)]
pub struct DaemonSettings {
    /// Where its state is.
    pub home: Home,
    /// The store's file: the home's own, or that of a run in the foreground.
    pub store: PathBuf,
    /// Version of the program.
    pub version: String,
    /// The home of PM2 that is served as well.
    pub pm2: Option<upkeep_pm2::home::Pm2Home>,
}

/// Why the daemon cannot serve. The keeper starts it again, more and more slowly.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No runtime.
    #[error("failed to start the runtime")]
    Runtime(#[source] std::io::Error),
    /// No keeper.
    #[error("failed to talk to the keeper")]
    Keeper(#[source] LinkError),
    /// The keeper is too old or too new, or mute.
    #[error("the keeper did not greet: {0}")]
    Greeting(String),
    /// No store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds what cannot be read.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The home of PM2 cannot be served.
    #[error("failed to serve `{}`: {why}", home.display())]
    Pm2 {
        /// Its path.
        home: PathBuf,
        /// What the kernel said.
        why: String,
    },
    /// No socket.
    #[error("failed to listen on `{}`: {why}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        why: String,
    },
}

/// Why the main loop ends.
#[derive(Debug)]
enum End {
    /// The keeper wants room for another daemon.
    Retire,
    /// All apps are stopped and the keeper knows that we leave.
    Left,
    /// The keeper is gone.
    KeeperGone,
}

/// What the keeper's greeting told.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) protocol: u16,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) epoch: u64,
    pub(crate) tracking: String,
}

/// How many replacements may have ended without being stored yet: actors wait for room.
const CONCLUSIONS: usize = 64;

/// Runs the daemon until it is replaced or told to end.
pub fn run(settings: DaemonSettings) -> Result<(), DaemonError> {
    upkeep_sys::own_pages::share_one_heap();
    // Three descriptors for each log; children get their own limits from the keeper.
    if let Err(error) = upkeep_sys::rlimit::raise_open_files() {
        note(&format!("the limit of open files stays as it is: {error}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::Runtime)?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(serve(settings)))
}

/// How many log pipes there may be: each takes three descriptors (itself, its file, its index).
fn pipes_max() -> u64 {
    // A limit that cannot be read is not low.
    let limit = upkeep_sys::rlimit::get(upkeep_sys::rlimit::OPEN_FILES).map_or(1024, |limit| limit.soft);
    limit.saturating_sub(DESCRIPTORS_KEPT.max(limit / 8)) / 3
}

/// A line for the daemon's own log: its standard error, which the keeper leads to `daemon.log`.
pub(crate) fn note(text: &str) {
    use std::io::Write;
    // Where the log cannot be written there is nobody to tell.
    let _ = writeln!(
        std::io::stderr(),
        "{} daemon: {text}",
        clock::utc_text(clock::unix_ms())
    );
}

async fn serve(settings: DaemonSettings) -> Result<(), DaemonError> {
    let link = Link::from_env().map_err(DaemonError::Keeper)?;
    // The keeper ends a daemon that hangs up. We hang up by ending, so that what went wrong can still be said: this
    // duplicate is for the kernel to close.
    std::mem::forget(link.as_fd().try_clone_to_owned().map_err(DaemonError::Runtime)?);
    let link = KeeperLink::new(link).map_err(DaemonError::Runtime)?;
    let version = settings.version.clone();
    let (greeting, mut exits, mut listing, upgrade_trouble) = greet(&link, version.clone()).await?;
    let store: Arc<dyn Store> = Arc::new(Embedded::open(&settings.store)?);
    let (outcomes, settled) = mpsc::channel(exits::OUTCOMES);
    let (concluded, mut conclusions) = mpsc::channel(CONCLUSIONS);
    let directory = Arc::new(Directory::default());
    let events = Events::new(Arc::clone(&store));
    let machine = machine_settings::Holder::load(store.as_ref(), events.clone())?;
    let access = Access::load(Arc::clone(&store), events.clone())?;
    let certificates = Certificates::load(store.as_ref(), events.clone(), &settings.home.tls())?;
    // A run in the foreground needs no history beyond itself.
    let file = (settings.store == settings.home.store()).then(|| settings.home.metrics());
    let metrics = Metrics::open(file.as_deref());
    let config = Arc::new(Configuration::new(
        &settings.home,
        events.clone(),
        Arc::clone(&machine),
    ));
    let changes = watch::channel(0).0;
    let (editions, mut supplied) = mpsc::channel(CONCLUSIONS);
    let supply = Supply::new(supply::Sources {
        config: Arc::clone(&config),
        events: events.clone(),
        directory: Arc::clone(&directory),
        folder: settings.home.config_cache(),
        changes: changes.clone(),
        orders: editions,
    });
    let context = Rc::new(Context {
        supply: Arc::clone(&supply),
        link,
        pump: Pump::start().map_err(DaemonError::Runtime)?,
        events,
        settings: machine,
        metrics: Arc::clone(&metrics),
        directory: Arc::clone(&directory),
        logs: settings.home.logs(),
        changes,
        outcomes,
        epoch: greeting.epoch,
        pipes: Cell::new(0),
        pipes_max: pipes_max(),
        concluded,
    });
    context.pump.bell().set_home(settings.home.logs());
    let pm2_found = pm2::Found::take(&mut listing, &mut exits, store.as_ref())?;
    let actors = recover(&context, &store, listing, exits)?;
    context.supply.sweep();
    crate::cage::protect(vec![settings.home.root.clone(), settings.home.run.clone()]);
    let usage = Arc::new(Usage::new(Some(Arc::clone(&metrics))));
    let sampling = metrics::start(
        &metrics,
        Arc::clone(&directory),
        context.events.clone(),
        context.pump.statuses(),
        &settings.home.root,
    )
    .map_err(DaemonError::Runtime)?;
    let archive = crashes::archive::Archive::new(settings.home.crashes());
    crashes::start(crashes::Sources {
        events: context.events.clone(),
        directory: Arc::clone(&directory),
        logs: settings.home.logs(),
        archive: archive.clone(),
        drainer: context.pump.drainer().map_err(DaemonError::Runtime)?,
        metrics: Arc::clone(&metrics),
    })
    .map_err(DaemonError::Runtime)?;
    let alerts = alerts::start(alerts::Sources {
        store: Arc::clone(&store),
        events: context.events.clone(),
        settings: Arc::clone(&context.settings),
        directory: Arc::clone(&directory),
        usage: Arc::clone(&usage),
        archive: archive.clone(),
        home: settings.home.root.clone(),
        figures: Some({
            let metrics = Arc::clone(&metrics);
            Arc::new(move |of, figure| {
                let (name, _) = figure.metric();
                metrics.newest(of, name)
            })
        }),
    })
    .map_err(DaemonError::Runtime)?;
    let sinks = Sinks::start(sinks::Sources {
        directory: Arc::clone(&directory),
        events: context.events.clone(),
        statuses: context.pump.statuses(),
        logs: settings.home.logs(),
        folder: settings.home.sinks(),
        keeper: greeting.pid,
    })
    .map_err(DaemonError::Runtime)?;
    let pushing = Pushing::start(otlp::Sources {
        settings: context.settings.subscribe(),
        metrics: Arc::clone(&metrics),
        directory: Arc::clone(&directory),
        events: context.events.clone(),
        logs: settings.home.logs(),
        folder: settings.home.sinks().join("otlp"),
        version: version.clone(),
        started_ms: clock::unix_ms(),
    });
    let director = Director::new(
        Rc::clone(&context),
        store.as_ref(),
        Arc::clone(&usage),
        settings.home.dump(),
        actors,
    )
    .map_err(|refusal| DaemonError::Greeting(refusal.message))?;
    let director = Rc::new(director);
    let for_conclusions = Rc::clone(&director);
    let _conclusions = Task::spawn("conclusions", async move {
        while let Some(concluded) = conclusions.recv().await {
            for_conclusions.conclude(concluded).await;
        }
    });
    let for_editions = Rc::clone(&director);
    let _editions = Task::spawn("editions", async move {
        while let Some(edition) = supplied.recv().await {
            for_editions.supplied(edition).await;
        }
    });
    let scheduler = Scheduler::load(&context, store.as_ref())?;
    let _schedules = Task::spawn("schedules", scheduler.run());
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let trouble = Arc::new(Mutex::new(upgrade_trouble));
    let keeper_pid = greeting.pid;
    let (scrape, scraped) = watch::channel(None);
    let _settings = Task::spawn(
        "settings",
        follow_settings(context.settings.subscribe(), context.pump.bell().clone(), scrape),
    );
    let http = http::start(http::Shared {
        home: settings.home.clone(),
        version,
        started_ms: clock::unix_ms(),
        greeting,
        directory,
        events: context.events.clone(),
        access,
        guard: http::Guard::default(),
        feed: http::Feed::default(),
        settings: Arc::clone(&context.settings),
        crashes: archive,
        alerts,
        statuses: context.pump.statuses(),
        sinks: sinks.views(),
        cutter: context.pump.cutter().map_err(DaemonError::Runtime)?,
        usage,
        metrics: Arc::clone(&metrics),
        commands,
        certificates,
        config,
        supply,
        listeners: http::tcp::Views::default(),
        scraped,
        trouble: Arc::clone(&trouble),
    })
    .map_err(|why| DaemonError::Listen {
        path: settings.home.socket(),
        why,
    })?;
    let god = match settings.pm2 {
        Some(home) => {
            let root = home.root.clone();
            let settings = pm2::Settings { home, keeper_pid };
            let (god, leaves) =
                God::start(&context, settings, pm2_found).map_err(|error| DaemonError::Pm2 {
                    home: root,
                    why: error.to_string(),
                })?;
            (Some(god), Some(leaves))
        }
        None => (None, None),
    };
    context.link.tell(&Request::Ready);
    // A systemd unit of Type=notify waits for this; elsewhere nobody does.
    if let Err(error) = upkeep_sys::notify::send(std::env::var_os("NOTIFY_SOCKET").as_deref(), "READY=1") {
        note(&format!(
            "the init system could not be told that we are ready: {error}"
        ));
    }
    let _code = Task::spawn("code pages", async {
        loop {
            tokio::time::sleep(SETTLED).await;
            // If it stays mapped, nothing is worse than before.
            let _ = upkeep_sys::own_pages::give_back_code();
            tokio::time::sleep(RARELY).await;
        }
    });
    let end = control(&context, &director, god, inbox, settled, &trouble).await;
    http.stop(LAST_WORDS);
    drop(sampling);
    // A daemon that makes room leaves the rest to the next one.
    sinks.stop(matches!(end, End::Left));
    pushing.stop(matches!(end, End::Left));
    match end {
        End::Retire | End::Left => Ok(()),
        End::KeeperGone => Err(DaemonError::Keeper(LinkError::KeeperGone)),
    }
}

/// Hands on what the machine's settings say, now and with every change.
async fn follow_settings(
    mut settings: watch::Receiver<machine_settings::Current>,
    logs: Bell,
    scrape: watch::Sender<Option<SocketAddr>>,
) {
    loop {
        let current = Arc::clone(&settings.borrow_and_update());
        logs.follow_settings(current.logs.clone());
        scrape.send_replace(current.metrics.listen.map(|address| address.0));
        if settings.changed().await.is_err() {
            return;
        }
    }
}

type Greeted = (Greeting, Vec<ExitRecord>, Listing, Option<String>);

/// Says hello, and hears what the keeper holds.
async fn greet(link: &KeeperLink, program_version: String) -> Result<Greeted, DaemonError> {
    link.hello(program_version);
    link.untracked(|id| Request::List { id });
    let (mut greeting, mut exits, mut trouble) = (None, Vec::new(), None);
    let conversation = async {
        loop {
            match link.next().await.map_err(DaemonError::Keeper)? {
                News::Other(Event::Welcome {
                    version,
                    program_version,
                    pid,
                    epoch,
                    tracking,
                }) => {
                    greeting = Some(Greeting {
                        protocol: version,
                        version: program_version,
                        pid,
                        epoch,
                        tracking,
                    });
                }
                News::Other(Event::Exited(record)) => exits.push(record),
                News::Other(Event::UpgradeOutcome { ok: false, message }) => trouble = Some(message),
                News::Other(Event::Refused { message, .. }) => return Err(DaemonError::Greeting(message)),
                News::Other(Event::Listing { listing, .. }) => return Ok(*listing),
                _ => {}
            }
        }
    };
    let listing = tokio::time::timeout(GREETING, conversation)
        .await
        .map_err(|_| DaemonError::Greeting("no answer within 10 s".to_owned()))??;
    let greeting =
        greeting.ok_or_else(|| DaemonError::Greeting("a list came before the welcome".to_owned()))?;
    Ok((greeting, exits, listing, trouble))
}

/// Things that concern the daemon as a whole.
#[derive(Debug)]
enum Control {
    Retire,
    Terminate(i32),
    Upgraded(Option<String>),
    KeeperGone,
    Left,
}

async fn control(
    context: &Rc<Context>,
    director: &Rc<Director>,
    (god, god_leaves): (Option<Rc<God>>, Option<oneshot::Receiver<()>>),
    mut inbox: mpsc::Receiver<command::Request>,
    mut settled: mpsc::Receiver<exits::Outcome>,
    trouble: &Arc<Mutex<Option<String>>>,
) -> End {
    let (sender, mut controls) = mpsc::channel(16);
    let _link = Task::spawn(
        "keeper link",
        listen(Rc::clone(context), god.clone(), sender.clone()),
    );
    if let Some(leaves) = god_leaves {
        let (context, director, sender) = (Rc::clone(context), Rc::clone(director), sender.clone());
        Task::spawn_short("pm2 kill", async move {
            if leaves.await.is_ok() {
                end_apps(&director, "pm2 kill").await;
                leave(&context, &sender).await;
            }
        });
    }
    let in_work = Arc::new(Semaphore::new(COMMANDS));
    let for_exits = Rc::clone(context);
    let _exits = Task::spawn("exits", async move {
        exits::settle(
            &for_exits.events,
            &for_exits.link,
            &for_exits.outcomes,
            &mut settled,
        )
        .await;
    });
    loop {
        tokio::select! {
            // Cancel-safe: a message is taken only when it is returned.
            (room, request) = next_command(&in_work, &mut inbox) => if let Some(request) = request {
                let (context, director, sender) = (Rc::clone(context), Rc::clone(director), sender.clone());
                Task::spawn_short("command", async move {
                    obey(context, director, request, sender).await;
                    drop(room);
                });
            },
            // Cancel-safe for the same reason.
            message = controls.recv() => match message {
                Some(Control::Retire) => return End::Retire,
                Some(Control::Left) => return End::Left,
                Some(Control::KeeperGone) | None => return End::KeeperGone,
                Some(Control::Upgraded(outcome)) => {
                    *trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = outcome;
                }
                Some(Control::Terminate(signal)) => {
                    let (context, director, sender) = (Rc::clone(context), Rc::clone(director), sender.clone());
                    let god = god.clone();
                    Task::spawn_short("terminate", async move {
                        if let Some(god) = god
                            && !god.end().await
                        {
                            return;
                        }
                        end_apps(&director, &format!("signal {signal}")).await;
                        leave(&context, &sender).await;
                    });
                }
            },
        }
    }
}

/// Stops all apps in order; they come back on the next start.
async fn end_apps(director: &Rc<Director>, who: &str) {
    let permit = Permit::own(who);
    let command = Command::End {
        forget: false,
        options: ActionOptions::default(),
    };
    if let Err(refusal) = director.execute(command, &permit).await {
        note(&format!(
            "the apps could not be stopped in order: {}",
            refusal.message
        ));
    }
}

/// The next command, once there is room for it. Cancel-safe: a command is taken only when it is returned.
async fn next_command(
    in_work: &Arc<Semaphore>,
    inbox: &mut mpsc::Receiver<command::Request>,
) -> (Option<OwnedSemaphorePermit>, Option<command::Request>) {
    // The semaphore is never closed.
    let room = Arc::clone(in_work).acquire_owned().await.ok();
    (room, inbox.recv().await)
}

/// The link's task: hands on what the keeper says.
async fn listen(context: Rc<Context>, god: Option<Rc<God>>, controls: mpsc::Sender<Control>) {
    loop {
        let news = context.link.next().await;
        let news = match (&god, news) {
            (Some(god), Ok(news)) => match god.news(news) {
                Some(news) => Ok(news),
                None => continue,
            },
            (_, news) => news,
        };
        let control = match news {
            Err(_) => Control::KeeperGone,
            Ok(News::Spawned { key, pid }) => {
                post(&context, &key, |copy| Mail::Spawned { copy, pid }).await;
                continue;
            }
            Ok(News::SpawnRefused { key, why }) => {
                post(&context, &key, |copy| Mail::SpawnRefused { copy, why }).await;
                continue;
            }
            Ok(News::Pipe { key, pipe, made }) => {
                post(&context, &key, |_| Mail::Pipe { pipe, made }).await;
                continue;
            }
            Ok(News::Listening { key, name, made }) => {
                post(&context, &key, |_| Mail::Socket { kept: name, made }).await;
                continue;
            }
            Ok(News::Other(Event::Exited(record))) => {
                let key = record.key.clone();
                post(&context, &key, |copy| Mail::Exited { copy, record }).await;
                continue;
            }
            Ok(News::Other(Event::Retire)) => Control::Retire,
            Ok(News::Other(Event::Terminate { signal })) => Control::Terminate(signal),
            Ok(News::Other(Event::UpgradeOutcome { ok, message })) => {
                Control::Upgraded(if ok { None } else { Some(message) })
            }
            Ok(News::Other(other)) => {
                note(&format!(
                    "the keeper said something that nobody waits for: {other:?}"
                ));
                continue;
            }
        };
        let gone = matches!(control, Control::KeeperGone);
        if controls.send(control).await.is_err() || gone {
            return;
        }
    }
}

/// Mail for the actor of a key; a key without an actor is of an app that was just deleted.
async fn post(context: &Rc<Context>, key: &str, letter: impl FnOnce(CopyId) -> Mail) {
    let Some((app, copy)) = parse_key(key) else {
        return;
    };
    let letter = letter(copy);
    let letter = match context.directory.get(&app) {
        Some(entry) => match entry.mailbox.send(letter).await {
            Ok(()) => return,
            Err(returned) => returned.0,
        },
        None => letter,
    };
    // The app was just deleted. An exit is told all the same; anything else interests nobody.
    if let Mail::Exited { record, .. } = letter {
        let event = exits::event(
            &format!("{app}:{}", copy.log_index()),
            &record,
            context.epoch,
            "of an app that was deleted".to_owned(),
            exits::Meaning::default(),
        );
        exits::store(&context.events, &context.outcomes, event, record.seq);
    }
}

/// Carries out one command and answers it.
async fn obey(
    context: Rc<Context>,
    director: Rc<Director>,
    request: command::Request,
    controls: mpsc::Sender<Control>,
) {
    let command::Request {
        command,
        permit,
        reply,
    } = request;
    let ends = matches!(&command, Command::End { options, .. } if !options.dry_run);
    let outcome = match command {
        Command::Upgrade(upgrade) => self::upgrade(&context, upgrade, &permit).await,
        command => director.execute(command, &permit).await,
    };
    let ends = ends && outcome.is_ok();
    // A client that left gets no answer; what it asked for is done.
    let _ = reply.send(outcome);
    if ends {
        leave(&context, &controls).await;
    }
}

async fn leave(context: &Rc<Context>, controls: &mpsc::Sender<Control>) {
    // What the apps said last goes to disk first.
    let (sender, drained) = tokio::sync::oneshot::channel();
    context.pump.drain(Box::new(move || {
        // The receiver waits below.
        let _ = sender.send(());
    }));
    let _ = drained.await;
    if let Err(error) = context.link.ask(|id| Request::Leave { id }).wait().await {
        note(&format!("the keeper does not let us leave: {error}"));
    }
    // The main loop listens until it ends.
    let _ = controls.send(Control::Left).await;
}

async fn upgrade(
    context: &Rc<Context>,
    upgrade: upkeep_api::body::Upgrade,
    permit: &Permit,
) -> command::Outcome {
    use upkeep_api::{body::ActionResult, error::Code};
    let program = match upgrade.program {
        Some(program) => PathBuf::from(program),
        None => own_program().map_err(|error| {
            Refusal::new(Code::Internal, "failed to find our own program").because(&error)
        })?,
    };
    if !upkeep_host::facts::is_executable(&program) {
        return Err(Refusal::new(
            Code::Invalid,
            format!(
                "failed to upgrade: `{}` is no program that can be executed",
                program.display()
            ),
        ));
    }
    let what = if upgrade.keeper {
        "upgrade_keeper"
    } else {
        "upgrade_daemon"
    };
    let event = machine_event(
        permit.who(),
        what,
        upgrade.reason.as_deref(),
        &program.display().to_string(),
    );
    let answer = if upgrade.keeper {
        context
            .link
            .ask(|id| Request::UpgradeKeeper { id, program })
            .wait()
            .await
    } else {
        context
            .link
            .ask(|id| Request::UpgradeDaemon { id, program })
            .wait()
            .await
    };
    answer.map_err(|error| match error {
        AskError::Refused { message, .. } => Refusal::new(
            Code::Conflict,
            format!("the keeper refused the upgrade: {message}"),
        ),
        AskError::NoAnswer => Refusal::new(Code::Unavailable, "the keeper gave no answer"),
    })?;
    if upgrade.keeper && context.link.protocol() < VERSION {
        // It is another program by now, and may speak more.
        context.link.hello(env!("CARGO_PKG_VERSION").to_owned());
    }
    log_machine_event(&context.events, event);
    Ok(ActionResult {
        changes: Vec::new(),
        apps: Vec::new(),
        event: None,
        settled: true,
        failures: Vec::new(),
        warnings: Vec::new(),
    })
}

/// The path that our program was started from, also if another file has taken its place since.
pub(crate) fn own_program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or_else(|| path.clone(), PathBuf::from))
}
