//! `config zookeeper`: values of an ensemble are taken over, or kept there as well, so that nobody is locked in.
//!
//! The node `/shop/db/url` is the value `/shop/db/url` below the place. A node without data that has others below it is
//! a folder, and so is no value.

mod mirror;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use upkeep_api::config::{ChangePost, ChangePut, ConfigChanged, ValueKind, ValueView};
use upkeep_model::place::{Path, Place};
use upkeep_zookeeper::{Address, Client, Login, Tree, ZooKeeperError};

use self::mirror::there::mirrored;
use super::{VALUE_MAX, list_all, show};
use crate::{
    args::{ZooKeeperImport, ZooKeeperLogin, ZooKeeperVerb},
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, clean::clean},
    settings::Settings,
};

/// Of the session, and the time that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// So many values are set in one change: a store on etcd takes hardly more.
const AT_ONCE: usize = 50;
/// And so many bytes of values.
const BYTES_AT_ONCE: usize = 512 << 10;

/// So many names stand in an error.
const NAMED: usize = 5;

pub(super) async fn run(verb: ZooKeeperVerb, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    match verb {
        ZooKeeperVerb::Import(asked) => import(asked, settings, output).await,
        ZooKeeperVerb::Mirror(asked) => mirror::run(asked, settings, output).await,
    }
}

/// An ensemble, and how to sign in.
#[derive(Clone, Debug)]
struct Ensemble {
    address: Address,
    login: Option<Login>,
}

impl Ensemble {
    fn of(url: &str, login: &ZooKeeperLogin) -> anyhow::Result<Self> {
        let address = url.parse::<Address>().map_err(|error| advised(&error))?;
        let read = |file: &PathBuf| {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("failed to read the password in `{}`", file.display()))?;
            Ok::<_, anyhow::Error>(text.trim_end_matches(['\n', '\r']).to_owned())
        };
        let login = match (&login.user, &login.password_file) {
            (Some(user), Some(file)) => Some(Login {
                user: user.clone(),
                password: read(file)?,
            }),
            _ => None,
        };
        Ok(Self { address, login })
    }

    /// Does something with a client, on a thread that may wait.
    async fn with<T: Send + 'static>(
        &self,
        client: Option<Client>,
        work: impl FnOnce(&mut Client) -> Result<T, ZooKeeperError> + Send + 'static,
    ) -> Result<(Client, T), ZooKeeperError> {
        let this = self.clone();
        let lost = |why: String| ZooKeeperError::Lost {
            at: self.address.servers.join(","),
            why,
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        // A thread of its own and none of the runtime's, which would be waited for when everything ends.
        let spawned = std::thread::Builder::new()
            .name("zookeeper".to_owned())
            .spawn(move || {
                let connected = match client {
                    Some(client) => Ok(client),
                    None => Client::connect(&this.address, this.login.as_ref(), TIMEOUT),
                };
                let done = connected.and_then(|mut client| {
                    let done = work(&mut client)?;
                    Ok((client, done))
                });
                // Nobody may wait any more.
                let _ = tell.send(done);
            });
        spawned.map_err(|error| lost(format!("no thread could be made: {error}")))?;
        told.await
            .unwrap_or_else(|_| Err(lost("the thread that asked it has ended".to_owned())))
    }
}

fn advised(error: &ZooKeeperError) -> Advised {
    use upkeep_zookeeper::Refused;
    let text = clean(&error.to_string());
    match error {
        ZooKeeperError::Address { .. } => Advised::new(Exit::Usage, text),
        ZooKeeperError::Refused { why, .. } => match why {
            Refused::NoNode => Advised::new(Exit::NotFound, text),
            Refused::Denied | Refused::Login => Advised::new(Exit::Forbidden, text)
                .hint("`--user NAME --password-file FILE` signs in (the scheme `digest`)"),
            _ => Advised::new(Exit::Refused, text),
        },
        ZooKeeperError::TooLarge { .. } => Advised::new(Exit::Refused, text)
            .hint("take it in parts: name a node further down behind the hosts"),
        ZooKeeperError::Unreachable(_) | ZooKeeperError::Lost { .. } | ZooKeeperError::Protocol { .. } => {
            Advised::new(Exit::Unreachable, text)
        }
    }
}

async fn import(asked: ZooKeeperImport, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let ensemble = Ensemble::of(&asked.url, &asked.login)?;
    let (_, tree) = ensemble
        .with(None, |client| client.tree("/"))
        .await
        .map_err(|error| advised(&error))?;
    let Found { values, left, marks } = found(&asked.place, asked.node.as_ref(), &tree)?;
    if left > 0 {
        output.warn(&format!("{left} nodes that go with a session are left out"));
    }
    if marks > 0 {
        output.say("what a mirror of Upkeep says of itself is left out");
    }
    if !tree.is_of_one_moment {
        output.warn("somebody wrote to the ensemble meanwhile: what was read may be of different moments");
    }
    if values.is_empty() {
        return Err(Advised::new(
            Exit::NotFound,
            format!("there is no value at `{}`", clean(&asked.url)),
        )
        .into());
    }
    secrets_fit(&asked.secret, &values)?;
    let mut puts: Vec<ChangePut> = values
        .into_iter()
        .map(|(path, data)| {
            let secret = asked.secret.iter().any(|place| place.covers(&path));
            let kind = if std::str::from_utf8(&data).is_ok() {
                ValueKind::Text
            } else {
                ValueKind::File
            };
            let ValueView { text, base64, .. } = ValueView::default().with_content(data);
            ChangePut {
                path: path.to_string(),
                kind,
                text,
                base64,
                secret,
                revision: asked.only_new.then_some(0),
            }
        })
        .collect();
    let mut client = connect_or_start(settings).await?;
    if asked.only_new {
        let there = list_all(&mut client, &asked.place).await?;
        let known: BTreeSet<&str> = there.values.iter().map(|entry| entry.path.as_str()).collect();
        let count = puts.len();
        puts.retain(|put| !known.contains(put.path.as_str()));
        // Nor what was made meanwhile, or may not be read, is written over.
        for put in &mut puts {
            put.revision = Some(0);
        }
        if puts.len() < count {
            output.say(&format!(
                "{} values are there already and stay as they are",
                count - puts.len()
            ));
        }
        if puts.is_empty() {
            let unchanged = ConfigChanged {
                differences: Vec::new(),
                unnamed: 0,
                revision: there.revision,
                event: None,
                proposed: None,
                lease: None,
            };
            return told(&[unchanged], settings, output);
        }
    }
    let count = puts.len();
    let mut done: Vec<ConfigChanged> = Vec::new();
    for puts in batches(puts) {
        let post = ChangePost {
            puts,
            reason: settings.reason.clone(),
            dry_run: settings.dry_run,
            ..ChangePost::default()
        };
        let changed: ConfigChanged = client
            .call("POST", "/v1/config/changes", Some(&post))
            .await
            .inspect_err(|_| {
                if !settings.dry_run && !done.is_empty() {
                    output.warn(&before(&done, count));
                }
            })?;
        done.push(changed);
    }
    told(&done, settings, output)
}

/// A place that no value is in is a slip, and would have a secret stand in clear for good.
fn secrets_fit(secrets: &[Place], values: &BTreeMap<Path, Vec<u8>>) -> Result<(), Advised> {
    let is_idle = |place: &&Place| !values.keys().any(|path| place.covers(path));
    let idle: Vec<String> = secrets
        .iter()
        .filter(is_idle)
        .map(|place| format!("`{place}`"))
        .collect();
    if idle.is_empty() {
        return Ok(());
    }
    Err(Advised::new(
        Exit::Refused,
        format!(
            "nothing was taken: no value would be at {}, which is to be secret",
            idle.join(", ")
        ),
    )
    .hint("`--secret` names places as they are to be here; leave it out, with `--dry-run`, to see them"))
}

/// What was done before a change failed.
fn before(done: &[ConfigChanged], count: usize) -> String {
    let values = |is_proposed: bool| -> usize {
        let of = done.iter().filter(|one| one.proposed.is_some() == is_proposed);
        of.map(|one| one.differences.len()).sum()
    };
    let (taken, waiting) = (values(false), values(true));
    let mut text = format!("{taken} of {count} values were taken before this");
    if waiting > 0 {
        let ids: Vec<&str> = proposals(done).collect();
        text = format!("{text}, {waiting} wait for others ({})", ids.join(" "));
    }
    format!("{text}; asked again, what is the same already stays as it is")
}

fn proposals(done: &[ConfigChanged]) -> impl Iterator<Item = &str> {
    let proposed = done.iter().filter_map(|one| one.proposed.as_ref());
    proposed.filter_map(|proposed| proposed.id.as_deref())
}

/// What became of all changes.
fn told(done: &[ConfigChanged], settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let (Some(first), Some(last)) = (done.first(), done.last()) else {
        return Ok(Exit::Done);
    };
    let mut all = ConfigChanged {
        differences: done.iter().flat_map(|one| one.differences.clone()).collect(),
        revision: last.revision,
        ..first.clone()
    };
    all.event = done.iter().rev().find_map(|one| one.event);
    all.proposed = done.iter().find_map(|one| one.proposed.clone());
    if output.json {
        let mut document = serde_json::to_value(&all)?;
        let ids: Vec<&str> = proposals(done).collect();
        if ids.len() > 1 {
            document["proposals"] = ids.into();
        }
        output.document(&document)?;
        return Ok(Exit::Done);
    }
    if all.differences.is_empty() {
        output.say("nothing changes");
        return Ok(Exit::Done);
    }
    output.text(&show::differences(&all.differences, output))?;
    let is_waiting = |one: &&ConfigChanged| one.proposed.as_ref().is_some_and(|one| one.id.is_some());
    for one in done.iter().filter(is_waiting) {
        show::told(one, settings, output);
    }
    // Of the others, what is said of one is said of all.
    let rest = done
        .iter()
        .rev()
        .find(|one| !one.differences.is_empty() && !is_waiting(one));
    if let Some(one) = rest {
        show::told(one, settings, output);
    }
    Ok(Exit::Done)
}

/// What a tree has for a place.
struct Found {
    values: BTreeMap<Path, Vec<u8>>,
    /// Nodes of sessions.
    left: usize,
    /// Marks of mirrors.
    marks: usize,
}

/// `own`: what the data of the first node becomes.
fn found(place: &Place, own: Option<&Path>, tree: &Tree) -> anyhow::Result<Found> {
    let mut values = BTreeMap::new();
    let (mut left, mut marks) = (0, 0);
    let mut wrong = Vec::new();
    let mut is_rootless = false;
    for (name, node) in &tree.nodes {
        let is_folder = node.data.is_empty() && (node.has_children || name == "/");
        if is_folder {
            continue;
        }
        if node.is_ephemeral {
            left += 1;
            continue;
        }
        if mirrored(&node.data).is_some() {
            marks += 1;
            continue;
        }
        let path = match (name.as_str(), own) {
            ("/", Some(own)) => Ok(own.clone()),
            ("/", None) => {
                is_rootless = true;
                wrong.push("the node itself has data, and a place of several is no value".to_owned());
                continue;
            }
            (name, _) => format!("{}{}", place.as_str(), &name[1..]).parse::<Path>(),
        };
        match path {
            Ok(path) if node.data.len() > VALUE_MAX => wrong.push(format!(
                "`{path}` would have {} bytes, more than {} KiB",
                node.data.len(),
                VALUE_MAX >> 10
            )),
            Ok(path) if values.contains_key(&path) => {
                wrong.push(format!("`{path}` would be the value of two nodes"));
            }
            Ok(path) => {
                values.insert(path, node.data.clone());
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() {
        return Ok(Found { values, left, marks });
    }
    let more = wrong.len().saturating_sub(NAMED);
    wrong.truncate(NAMED);
    let mut text = format!("nothing was taken: {}", wrong.join("; "));
    if more > 0 {
        text = format!("{text}; and {more} more");
    }
    let advised = Advised::new(Exit::Refused, clean(&text));
    if is_rootless {
        return Err(advised
            .hint("`--node PATH` says which value the data of the node itself becomes")
            .into());
    }
    Err(advised.into())
}

/// Parts that a store takes in one change.
fn batches(puts: Vec<ChangePut>) -> Vec<Vec<ChangePut>> {
    let size = |put: &ChangePut| put.text.as_ref().or(put.base64.as_ref()).map_or(0, String::len);
    in_batches(puts, size, (AT_ONCE, BYTES_AT_ONCE))
}

/// Parts of so many and of so many bytes at most, in order; what is larger by itself is a part of its own.
fn in_batches<T>(all: Vec<T>, size: impl Fn(&T) -> usize, (most, most_bytes): (usize, usize)) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for one in all {
        let size = size(&one);
        match batches.last_mut() {
            Some(last) if last.len() < most && bytes + size <= most_bytes => {
                bytes += size;
                last.push(one);
            }
            _ => {
                bytes = size;
                batches.push(vec![one]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use upkeep_zookeeper::Node;

    use super::*;

    fn tree(nodes: &[(&str, &[u8], bool)]) -> Tree {
        let node = |(name, data, has_children): &(&str, &[u8], bool)| {
            let node = Node {
                data: data.to_vec(),
                has_children: *has_children,
                is_ephemeral: false,
            };
            ((*name).to_owned(), node)
        };
        Tree {
            nodes: nodes.iter().map(node).collect(),
            is_of_one_moment: true,
        }
    }

    #[test]
    fn folders_are_no_values_and_wrong_names_are_all_told() {
        let place: Place = "/shop/".parse().expect("a place");
        let fine = tree(&[
            ("/", b"", true),
            ("/a", b"", true),
            ("/a/b", b"", false),
            ("/c", b"1", true),
        ]);
        let values = found(&place, None, &fine).expect("fine").values;
        let paths: Vec<&str> = values.keys().map(Path::as_str).collect();
        assert_eq!(paths, ["/shop/a/b", "/shop/c"]);
        let wrong = tree(&[
            ("/", b"x", true),
            ("/a b", b"1", false),
            ("/c\u{1b}", b"1", false),
        ]);
        let text = found(&place, None, &wrong)
            .map(|_| ())
            .expect_err("wrong")
            .to_string();
        assert!(
            text.contains("/shop/a b") && text.contains("the node itself"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn a_change_is_no_larger_than_stores_take() {
        let put = |size: usize| ChangePut {
            text: Some("x".repeat(size)),
            ..ChangePut::default()
        };
        let sizes = |puts: Vec<ChangePut>| batches(puts).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes((0..120).map(|_| put(1)).collect()), [50, 50, 20]);
        assert_eq!(
            sizes(vec![put(400 << 10), put(200 << 10), put(1), put(600 << 10)]),
            [1, 2, 1]
        );
        assert!(sizes(Vec::new()).is_empty());
    }
}
