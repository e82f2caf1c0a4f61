//! Shared configuration: the store of this machine, its key, the rights of callers, and the events of changes.
//!
//! [`Configuration`] opens the store that the settings name: `config.redb` when it is first asked for something (a machine that
//! shares nothing pays nothing), etcd at once. When they name another, that one is opened ([`follow`]) and whoever watches is
//! sent there; one that cannot be opened is tried again, and until then nothing is read from the one before.
//!
//! All of it lives on the HTTP runtime and on the store's own threads; the supervision thread has no part in it.
//!
//! What is changed is carried out by a task of its own ([`lasting`]): a client that leaves in the middle takes neither the
//! change back nor the event that tells of it. The change is durable first, then its event is; a daemon that is killed
//! between the two leaves a change without event. The history of the configuration has it all the same.
//!
//! Events name places and never values. Who may not read the history of all that an event names is not told of it
//! ([`Event::guard`], [`Event::places`]).

mod backend;
mod care;
mod care_file;
mod follow;
mod key;
pub(crate) mod machines;
mod moving;
mod rights;
mod watchers;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::sync::watch;
use upkeep_api::{body::Event, error::Code};
use upkeep_config::{
    ConfigError, Path, Place,
    seal::{Identity, Recipient, SealError},
};
use upkeep_host::home::Home;
use upkeep_model::settings::{EtcdStore, SharedConfig};
use upkeep_store::{Txn, kv::Reason};

pub(crate) use self::{backend::Opened, rights::CallerRights, watchers::Watchers};
use crate::{
    apps::director::machine_event,
    certs::Folder,
    command::{Principal, Refusal},
    events::Events,
    main_loop::note,
    settings::Holder,
};

/// A cluster that nobody has opened.
pub(crate) fn cluster(at: &EtcdStore) -> Result<upkeep_etcd::Etcd, Refusal> {
    backend::etcd(at)
}

/// What of the settings says where it is; how it is looked after there is no reason to open it anew.
fn where_it_is(settings: &SharedConfig) -> SharedConfig {
    SharedConfig {
        file: upkeep_model::settings::FileStore::default(),
        ..settings.clone()
    }
}

/// In words, for people.
pub(crate) fn told_place(at: &SharedConfig) -> String {
    at.etcd
        .as_ref()
        .map_or_else(|| "the file of this machine".to_owned(), EtcdStore::place)
}

/// So many places stand in an event; of more, the one that holds them all.
const PLACES_MAX: usize = 50;

/// How long a caller waits for a store that is being opened.
const OPENING: Duration = Duration::from_secs(6);
/// For so long a store that could not be opened is not tried again: who asks meanwhile is told why.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A store that is being opened; many may wait for it.
type Opening = Shared<BoxFuture<'static, Result<Arc<Opened>, Refusal>>>;

#[derive(Default)]
struct State {
    opened: Option<Arc<Opened>>,
    opening: Option<(SharedConfig, Opening)>,
    failed: Option<(SharedConfig, Instant, Refusal)>,
    /// The file, while anybody still uses it: it can be opened only once.
    file: Weak<Opened>,
}

struct Inner {
    file: PathBuf,
    folder: Folder,
    events: Events,
    settings: Arc<Holder>,
    state: Mutex<State>,
    /// Counts the stores that were opened one after the other.
    replaced: watch::Sender<u64>,
    /// Held while everything is moved.
    moving: tokio::sync::Mutex<()>,
    /// Whether and why the cluster is not looked after from here.
    care: Arc<care::Seen>,
    /// Why this machine could not announce itself.
    unannounced: Mutex<Option<String>>,
    watchers: Arc<Watchers>,
}

/// Owns the shared configuration of this machine.
#[derive(Clone)]
pub(crate) struct Configuration {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Configuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Configuration")
            .field("file", &self.inner.file)
            .finish_non_exhaustive()
    }
}

impl Configuration {
    /// Opens nothing yet.
    pub(crate) fn new(home: &Home, events: Events, settings: Arc<Holder>) -> Self {
        Self {
            inner: Arc::new(Inner {
                file: home.config(),
                folder: Folder(home.root.clone()),
                events,
                settings,
                state: Mutex::default(),
                replaced: watch::channel(0).0,
                moving: tokio::sync::Mutex::new(()),
                care: Arc::default(),
                unannounced: Mutex::default(),
                watchers: Arc::default(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is awaited while this is held.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the settings want it.
    pub(crate) fn wanted(&self) -> SharedConfig {
        where_it_is(&self.inner.settings.current().config)
    }

    /// This machine's key for secrets. Blocks for a look at the disk.
    pub(crate) fn identity(&self) -> Result<Identity, String> {
        key::load(&self.inner.folder)
    }

    /// Changes whenever another store takes the place of the one that was in use.
    pub(crate) fn replaced(&self) -> watch::Receiver<u64> {
        self.inner.replaced.subscribe()
    }

    /// The configuration, of the store that the settings name and of no other. What fails is tried again by who asks later.
    pub(crate) async fn open(&self) -> Result<Arc<Opened>, Refusal> {
        let wanted = self.wanted();
        let opening = {
            let mut state = self.state();
            if let Some(opened) = state.opened.as_ref().filter(|opened| opened.at == wanted) {
                return Ok(Arc::clone(opened));
            }
            match (&state.opening, &state.failed) {
                (Some((which, opening)), _) if *which == wanted => opening.clone(),
                // A file is looked at in no time, and may be there again at any moment.
                (_, Some((which, at, refusal)))
                    if wanted.etcd.is_some() && *which == wanted && at.elapsed() < AFTER_FAILURE =>
                {
                    return Err(refusal.clone());
                }
                _ => {
                    let opening = self.start_opening(wanted.clone(), state.file.upgrade());
                    state.opening = Some((wanted.clone(), opening.clone()));
                    opening
                }
            }
        };
        tokio::time::timeout(OPENING, opening).await.unwrap_or_else(|_| {
            Err(Refusal::new(
                Code::Unavailable,
                format!(
                    "failed to open the shared configuration in time: {}",
                    told_place(&wanted)
                ),
            )
            .hint("`upkeep config status` tells what is wrong"))
        })
    }

    /// Opens a store, whether or not those who asked wait for it.
    fn start_opening(&self, wanted: SharedConfig, known: Option<Arc<Opened>>) -> Opening {
        let this = self.clone();
        let work = async move {
            // The same file, which a watch or a change that is under way still holds.
            let known = known.filter(|opened| opened.at == wanted);
            let opened = match known {
                Some(opened) => Ok(opened),
                None => this.open_new(&wanted).await.map(Arc::new),
            };
            this.opened(wanted, &opened);
            opened
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends by itself soon, on the HTTP runtime, which owns nothing else"
        )]
        let task = tokio::spawn(work);
        task.map(|done| {
            done.unwrap_or_else(|error| {
                Err(
                    Refusal::new(Code::Internal, "opening the shared configuration was broken off")
                        .because(&error),
                )
            })
        })
        .boxed()
        .shared()
    }

    /// Opens a store that is not in use yet. One that was moved away by a daemon that was killed is followed.
    async fn open_new(&self, wanted: &SharedConfig) -> Result<Opened, Refusal> {
        match backend::open(&self.inner.file, &self.inner.folder, wanted.clone()).await {
            Ok(opened) => Ok(opened),
            Err(backend::Failed::Other(refusal)) => Err(refusal),
            Err(backend::Failed::Moved(id, refusal)) => match self.resume(wanted, &id).await {
                Ok(false) => Err(refusal),
                Ok(true) => Err(refusal.hint("its move was just finished: try again")),
                Err(refusal) => Err(refusal),
            },
        }
    }

    /// Those who watch through this daemon.
    pub(crate) fn watchers(&self) -> Arc<Watchers> {
        Arc::clone(&self.inner.watchers)
    }

    /// Keeps what became of it, if it is still wanted.
    fn opened(&self, at: SharedConfig, outcome: &Result<Arc<Opened>, Refusal>) {
        let mut state = self.state();
        if state.opening.as_ref().is_some_and(|(which, _)| *which == at) {
            state.opening = None;
        }
        match outcome {
            Ok(opened) => {
                if opened.etcd.is_none() {
                    state.file = Arc::downgrade(opened);
                }
                if self.wanted() == at {
                    state.failed = None;
                    state.opened = Some(Arc::clone(opened));
                    drop(state);
                    self.inner.replaced.send_modify(|count| *count += 1);
                }
            }
            Err(refusal) => {
                // The store that was in use before is not taken in its place.
                state.failed = Some((at, Instant::now(), refusal.clone()));
            }
        }
    }

    /// The store that takes the place of one that was moved away; an error if none does soon.
    async fn after(&self, before: &Arc<Opened>, moved: ConfigError) -> Result<Arc<Opened>, Refusal> {
        let other = async {
            loop {
                match self.open().await {
                    Ok(opened) if !Arc::ptr_eq(&opened, before) => return opened,
                    // The settings follow in a moment.
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        // Where another machine has moved it, nothing comes in its place here.
        tokio::time::timeout(OPENING, other)
            .await
            .map_err(|_| refusal(moved))
    }

    /// Does something with the store that is in use, and goes on with the one that takes its place if it is moved meanwhile.
    pub(crate) async fn going_on<'a, T>(
        &self,
        work: impl Fn(Arc<Opened>) -> BoxFuture<'a, Result<T, Stopped>>,
    ) -> Result<T, Refusal> {
        let mut opened = self.open().await?;
        loop {
            match work(Arc::clone(&opened)).await {
                Err(Stopped::By(error @ ConfigError::Moved { .. })) => {
                    opened = self.after(&opened, error).await?;
                }
                Err(Stopped::By(error)) => return Err(refusal(error)),
                Err(Stopped::Refused(refusal)) => return Err(refusal),
                Ok(done) => return Ok(done),
            }
        }
    }

    /// What is in use, if it is what the settings name.
    pub(crate) fn in_use(&self) -> Option<Arc<Opened>> {
        let wanted = self.wanted();
        self.state().opened.clone().filter(|opened| opened.at == wanted)
    }

    /// Who this machine is as a recipient, also while no store is open.
    pub(crate) async fn machine(&self) -> Result<Recipient, Refusal> {
        if let Some(opened) = self.in_use() {
            return Ok(opened.machine.clone());
        }
        let (folder, wanted) = (self.inner.folder.clone(), self.wanted());
        let identity = tokio::task::spawn_blocking(move || backend::identity(&folder, &wanted));
        match identity.await {
            Ok(Ok(identity)) => Ok(identity.recipient()),
            Ok(Err(why)) => Err(Refusal::new(Code::Unavailable, why)),
            Err(error) => {
                Err(Refusal::new(Code::Internal, "failed to read the machine's key").because(&error))
            }
        }
    }

    /// Whether a store has ever been opened.
    fn is_used(&self) -> bool {
        self.state().opened.is_some()
    }

    /// Tells of a change, once it is durable. What a full disk refuses is noted: the change is made all the same.
    pub(crate) async fn tell(&self, who: &str, told: Told) -> Option<u64> {
        let principal = Principal { name: who.to_owned() };
        let places = summed(told.places);
        let names: Vec<&str> = places.iter().map(Place::as_str).collect();
        let mut result = names.join(" ");
        if result.len() > 200 {
            common(&places).as_str().clone_into(&mut result);
        }
        let mut event = machine_event(&principal, told.what, told.why.as_deref(), &result);
        event.details.insert(
            "places".to_owned(),
            serde_json::to_value(&places).unwrap_or_default(),
        );
        if let Some(revision) = told.revision {
            event.details.insert("revision".to_owned(), revision.into());
        }
        match self.inner.events.commit_then(Txn::default(), event, |_| {}).await {
            Ok((_, id)) => Some(id),
            Err(error) => {
                note(&format!(
                    "no event tells of a change of the configuration: {error}"
                ));
                None
            }
        }
    }
}

/// Places are judged on threads of their own: the HTTP runtime goes on meanwhile.
fn blocking() -> upkeep_config::Blocking {
    Arc::new(|job| {
        async move {
            // What panics there is told by the configuration as broken off.
            drop(tokio::task::spawn_blocking(job).await);
        }
        .boxed()
    })
}

/// What an event says.
#[derive(Debug)]
pub(crate) struct Told {
    /// `config.set`.
    pub(crate) what: &'static str,
    pub(crate) places: Vec<Place>,
    pub(crate) revision: Option<u64>,
    pub(crate) why: Option<String>,
}

/// Places as an event names them: all, or the one that holds them.
fn summed(places: Vec<Place>) -> Vec<Place> {
    if places.len() <= PLACES_MAX {
        return places;
    }
    vec![common(&places)]
}

/// The innermost place that holds all of these.
fn common(places: &[Place]) -> Place {
    Place::around(places.iter().map(Place::as_str))
}

/// Why something that was to be done with the store was not.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The configuration says so.
    By(ConfigError),
    /// We do.
    Refused(Refusal),
}

impl From<ConfigError> for Stopped {
    fn from(error: ConfigError) -> Self {
        Self::By(error)
    }
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Whether somebody may read an event: the history of all that it names.
pub(crate) fn may_read(event: &Event, history: Option<&crate::access::Permit>) -> bool {
    history.is_some_and(|permit| {
        event
            .places()
            .is_some_and(|places| !places.is_empty() && places.iter().all(|place| permit.covers_place(place)))
    })
}

/// Leaves out of an event of an app the values whose history somebody may not read.
pub(crate) fn mask(event: &mut Event, history: Option<&crate::access::Permit>) {
    let Some(serde_json::Value::Array(changed)) = event.details.get_mut(Event::CHANGED_VALUES) else {
        return;
    };
    changed.retain(|path| {
        let path = path.as_str().and_then(|path| path.parse::<Path>().ok());
        path.is_some_and(|path| history.is_some_and(|permit| permit.covers_path(&path)))
    });
    if changed.is_empty() {
        event.details.remove(Event::CHANGED_VALUES);
    }
}

/// Carries a change out to its end, whether or not its client waits.
pub(crate) async fn lasting<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    #[expect(
        clippy::disallowed_methods,
        reason = "ends by itself soon, on the HTTP runtime, which owns nothing else"
    )]
    let task = tokio::spawn(work);
    task.await.unwrap_or_else(|error| {
        Err(Refusal::new(Code::Internal, "the change was broken off").because(&error))
    })
}

/// A path out of an URL, without its first slash.
pub(crate) fn path(text: &str) -> Result<Path, Refusal> {
    format!("/{text}")
        .parse()
        .map_err(ConfigError::from)
        .map_err(refusal)
}

/// The place that a value lies in.
fn parent(path: &Path) -> String {
    let text = path.as_str();
    text[..=text.rfind('/').unwrap_or(0)].to_owned()
}

/// Why the configuration was not read or changed, for callers.
pub(crate) fn refusal(error: ConfigError) -> Refusal {
    let text = error.to_string();
    match &error {
        ConfigError::Denied { .. } => Refusal::new(Code::Forbidden, format!("refused: {text}"))
            .hint("`upkeep whoami` tells what is held; an admin can grant more (`upkeep role set --path`)"),
        ConfigError::Path(_) => Refusal::new(Code::Invalid, text)
            .hint("write it like `/shop/prod/db/url`; a place of several ends with a slash: `/shop/prod/`"),
        ConfigError::NotFound(_) => {
            Refusal::new(Code::NotFound, text).hint("`upkeep config ls` shows what there is")
        }
        ConfigError::NoProposal(_) => {
            Refusal::new(Code::NotFound, text).hint("`upkeep config proposals` shows what waits")
        }
        ConfigError::NoLease(_) => {
            Refusal::new(Code::NotFound, text).hint("set the value again, with a new time to live")
        }
        ConfigError::Compacted { .. } => {
            Refusal::new(Code::Conflict, text).hint("read it again as it is now, from the first page on")
        }
        ConfigError::Future { .. } => Refusal::new(Code::Invalid, text)
            .hint("`upkeep config status` tells the newest revision; is this the store that it was read from?"),
        ConfigError::Trimmed { .. } => Refusal::new(Code::Conflict, text).hint(
            "`upkeep config history` shows what is known; how much is kept, `upkeep config history --keep` says",
        ),
        ConfigError::Bared(_) => Refusal::new(Code::Conflict, text)
            .hint("go back in parts that leave it out, or delete it first if it is to be in clear"),
        ConfigError::Invalid { .. } | ConfigError::Change(_) | ConfigError::Unfit { .. } => {
            Refusal::new(Code::Invalid, text)
        }
        ConfigError::Conflict { .. } => {
            Refusal::new(Code::Conflict, text).hint("read it again, and change what is there now")
        }
        ConfigError::Busy(_) => Refusal::new(Code::Conflict, text).hint("try again in a moment"),
        ConfigError::Seal { what, path, why } => {
            let refusal = Refusal::new(Code::Conflict, text);
            if *why == SealError::Nobody {
                let parent = parent(path);
                refusal.hint(format!(
                    "other machines share this store: say who is to read secrets there: `upkeep config recipients {parent} --to \
                     machine:NAME`; `upkeep config recipients` lists the machines"
                ))
            } else if *what == "open" {
                refusal.hint("ask one of the machines that it is sealed for")
            } else {
                refusal.hint("`upkeep config recipients` tells for whom secrets are sealed")
            }
        }
        ConfigError::Moved { .. } => Refusal::new(Code::Unavailable, text).hint(
            "have the settings of this machine (`config`, see `upkeep settings`) name that store",
        ),
        ConfigError::Filling(_) => Refusal::new(Code::Unavailable, text)
            .hint("`upkeep config migrate` on the machine that has begun fills it anew"),
        ConfigError::Moving => Refusal::new(Code::Unavailable, text).hint("try again in a moment"),
        ConfigError::Damaged { .. } => Refusal::new(Code::Internal, text).because(&error),
        ConfigError::Store(kv) => match &kv.reason {
            Reason::Invalid(_)
            | Reason::TooLarge { .. }
            | Reason::DuplicateKey(_)
            | Reason::Future { .. } => Refusal::new(Code::Invalid, text),
            Reason::Compacted { .. } | Reason::NoLease(_) => Refusal::new(Code::Conflict, text),
            Reason::NoAnswer(_) | Reason::Protocol(_) => Refusal::new(Code::Unavailable, text)
                .because(&error)
                .hint("look whether it was done before trying again"),
            Reason::Denied(_) => Refusal::new(Code::Forbidden, text).hint(
                "etcd lets this machine use a part of the configuration only; `upkeep config status` tells which user it is there",
            ),
            Reason::Unauthenticated(_) => Refusal::new(Code::Unavailable, text)
                .because(&error)
                .hint("`upkeep settings` shows user, password file and certificate (`config.etcd`)"),
            Reason::Unavailable(_) => Refusal::new(Code::Unavailable, text)
                .because(&error)
                .hint("is etcd up? `upkeep config status` tells; nothing was changed"),
            Reason::NoSpace { .. } => Refusal::new(Code::Unavailable, text)
                .because(&error)
                .hint("look whether it was done before trying again; `upkeep config status` tells how much room there is"),
            _ => Refusal::new(Code::Unavailable, text)
                .because(&error)
                .hint("is the disk full or read-only? `upkeep config status` tells"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(texts: &[&str]) -> Vec<Place> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn an_event_of_much_names_what_holds_all_of_it() {
        for (all, one) in [
            (vec!["/shop/prod/a", "/shop/prod/b"], "/shop/prod/"),
            (vec!["/shop/prod/a", "/shop/test/b"], "/shop/"),
            (vec!["/shop/", "/shop/a"], "/shop/"),
            (vec!["/shop/a"], "/shop/a"),
            (vec!["/shop/a", "/shopping"], "/"),
            (vec![], "/"),
        ] {
            assert_eq!(common(&places(&all)).as_str(), one, "{all:?}");
        }
        let many: Vec<String> = (0..=PLACES_MAX).map(|n| format!("/shop/{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(summed(places(&many)), places(&["/shop/"]));
        assert_eq!(summed(places(&many[1..])).len(), PLACES_MAX);
    }

    #[tokio::test]
    async fn it_opens_when_it_is_asked_for_and_keeps_its_key() {
        let home = tempfile::tempdir().expect("a directory");
        let at = Home::at(home.path());
        let store = upkeep_store::embedded::Embedded::open(&at.store()).expect("a store");
        let store: Arc<dyn upkeep_store::Store> = Arc::new(store);
        let events = Events::new(Arc::clone(&store));
        let settings = Holder::load(store.as_ref(), events.clone()).expect("no settings");
        let first = Configuration::new(&at, events.clone(), Arc::clone(&settings));
        assert!(!at.config().exists(), "nobody has asked yet");
        let machine = first.open().await.expect("it opens").machine.clone();
        assert!(at.config().exists());
        assert!(machine.name.starts_with("machine:"), "{machine:?}");
        drop(first);
        let again = Configuration::new(&at, events, settings);
        assert_eq!(again.open().await.expect("it opens again").machine, machine);
    }
}
