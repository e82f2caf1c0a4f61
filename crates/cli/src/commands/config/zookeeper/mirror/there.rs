//! The mirror at the ensemble: its mark, what is below it, and the steps to what is wanted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use upkeep_model::place::Place;
use upkeep_zookeeper::{Client, Op, Refused, Stat, ZooKeeperError};

use super::{super::in_batches, Failed};

/// So many steps are in one change.
const STEPS: usize = 100;
/// And so many bytes: ZooKeeper takes a mebibyte.
const STEP_BYTES: usize = 512 << 10;

const KIND: &str = "mirror";

/// What the first node says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    upkeep: String,
    place: Place,
    /// What is below is at least of this revision.
    revision: u64,
}

/// The data of the first node of a mirror.
pub(super) fn mark(place: &Place, revision: u64) -> Vec<u8> {
    let mark = Mark {
        upkeep: KIND.to_owned(),
        place: place.clone(),
        revision,
    };
    serde_json::to_vec(&mark).unwrap_or_default()
}

/// The place that a node is the mirror of, if its data says so.
pub(in super::super) fn mirrored(data: &[u8]) -> Option<Place> {
    let mark: Mark = serde_json::from_slice(data).ok()?;
    (mark.upkeep == KIND).then_some(mark.place)
}

/// What is there.
#[derive(Clone, Debug)]
pub(super) struct There {
    pub(super) nodes: BTreeMap<String, Vec<u8>>,
    /// The version of the first node's data.
    pub(super) version: i32,
    /// Whether the first node says that it is a mirror of this place.
    pub(super) is_marked: bool,
}

/// Makes the first node if there is none, and reads what is below it.
pub(super) fn ours(client: &mut Client, base: &str, place: &Place, take_over: bool) -> Result<There, Failed> {
    // What stands above it is made and never written.
    for (at, _) in base.match_indices('/').skip(1) {
        create(client, &base[..at])?;
    }
    if client.get(base)?.is_none() {
        match client.change(&[Op::Create(base.to_owned(), mark(place, 0))]) {
            // Another one was faster: whose it is, is seen below.
            Ok(())
            | Err(ZooKeeperError::Refused {
                why: Refused::Exists, ..
            }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut nodes = client.tree(base)?.nodes;
    let (data, stat) = client.get(base)?.unwrap_or_else(|| {
        // It went this moment; the next change tells.
        let stat = Stat {
            modified: 0,
            version: 0,
            owner: 0,
            children: 0,
        };
        (Vec::new(), stat)
    });
    let is_marked = mirrored(&data).as_ref() == Some(place);
    if !is_marked && !take_over {
        return Err(Failed::InUse(base.to_owned()));
    }
    nodes.remove(base);
    let nodes = nodes
        .into_iter()
        .map(|(path, node)| (path[base.len()..].to_owned(), node.data));
    Ok(There {
        nodes: nodes.collect(),
        version: stat.version,
        is_marked,
    })
}

/// The same without making anything: where there is no first node, nothing is there.
pub(super) fn looked_at(
    client: &mut Client,
    base: &str,
    place: &Place,
    take_over: bool,
) -> Result<There, Failed> {
    if client.get(base)?.is_some() {
        // All that it would make is there.
        return ours(client, base, place, take_over);
    }
    Ok(There {
        nodes: BTreeMap::new(),
        version: 0,
        is_marked: false,
    })
}

fn create(client: &mut Client, path: &str) -> Result<(), ZooKeeperError> {
    if client.get(path)?.is_some() {
        return Ok(());
    }
    match client.change(&[Op::Create(path.to_owned(), Vec::new())]) {
        Err(ZooKeeperError::Refused {
            why: Refused::Exists, ..
        }) => Ok(()),
        other => other,
    }
}

/// What is below the first node if it has these values: nodes above a value have to be there; without one of their own they are
/// empty.
pub(super) fn whole(wanted: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let mut all = wanted.clone();
    for path in wanted.keys() {
        for (at, _) in path.match_indices('/').skip(1) {
            if !all.contains_key(&path[..at]) {
                all.insert(path[..at].to_owned(), Vec::new());
            }
        }
    }
    all
}

/// The steps from what is there to what is to be: what goes before what comes, the deepest first, so that each can be done when
/// its turn comes.
pub(super) fn steps(
    base: &str,
    there: &BTreeMap<String, Vec<u8>>,
    whole: &BTreeMap<String, Vec<u8>>,
) -> Vec<Op> {
    let name = |path: &str| format!("{base}{path}");
    let mut steps: Vec<Op> = there
        .keys()
        .rev()
        .filter(|path| !whole.contains_key(path.as_str()))
        .map(|path| Op::Delete(name(path)))
        .collect();
    steps.extend(whole.iter().filter_map(|(path, data)| match there.get(path) {
        Some(known) if known == data => None,
        Some(_) => Some(Op::Set(name(path), data.clone())),
        None => Some(Op::Create(name(path), data.clone())),
    }));
    steps
}

pub(super) fn batches(steps: Vec<Op>) -> Vec<Vec<Op>> {
    let size = |step: &Op| match step {
        Op::Create(path, data) | Op::Set(path, data) => path.len() + data.len(),
        Op::Delete(path) | Op::Check(path, _) => path.len(),
    };
    in_batches(steps, size, (STEPS, STEP_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(list: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        let node = |(path, data): &(&str, &str)| ((*path).to_owned(), data.as_bytes().to_vec());
        list.iter().map(node).collect()
    }

    #[test]
    fn steps_lead_from_one_state_to_the_other() {
        let there = nodes(&[
            ("/a", "1"),
            ("/b", ""),
            ("/b/c", "2"),
            ("/b/c/d", "3"),
            ("/same", "x"),
        ]);
        let wanted = nodes(&[
            ("/a", "9"),
            ("/n/e/w", "4"),
            ("/same", "x"),
            ("/b", "now a value"),
        ]);
        let path = |path: &str| path.to_owned();
        assert_eq!(
            steps("/m", &there, &whole(&wanted)),
            [
                Op::Delete(path("/m/b/c/d")),
                Op::Delete(path("/m/b/c")),
                Op::Set(path("/m/a"), b"9".to_vec()),
                Op::Set(path("/m/b"), b"now a value".to_vec()),
                Op::Create(path("/m/n"), Vec::new()),
                Op::Create(path("/m/n/e"), Vec::new()),
                Op::Create(path("/m/n/e/w"), b"4".to_vec()),
            ]
        );
        let same = nodes(&[("/a", ""), ("/a/b", "1")]);
        assert!(steps("/m", &same, &whole(&nodes(&[("/a/b", "1")]))).is_empty());
    }
}
