//! All nodes below one.

use std::collections::BTreeMap;

use crate::{
    client::Client,
    error::{Refused, ZooKeeperError},
};

/// So many nodes are taken at once.
pub const TREE_NODES: usize = 100_000;
/// And so many bytes of data.
pub const TREE_BYTES: usize = 64 << 20;

/// How often a tree is read anew because it was changed meanwhile.
const TRIES: usize = 5;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its data.
    pub data: Vec<u8>,
    /// Whether nodes are below it.
    pub has_children: bool,
    /// Whether it goes when a session ends.
    pub is_ephemeral: bool,
}

/// What stood below a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// By path, the node itself too.
    pub nodes: BTreeMap<String, Node>,
    /// Nothing in the ensemble was written while it was read: it is of one moment.
    pub is_of_one_moment: bool,
}

impl Client {
    /// Reads a node and all below it. While others write, it is read a few times over; then it is taken as it comes.
    pub fn tree(&mut self, root: &str) -> Result<Tree, ZooKeeperError> {
        let mut tries = 0;
        loop {
            tries += 1;
            // Not known before the first answer.
            let Some(first) = self.get(root)? else {
                return Err(ZooKeeperError::Refused {
                    what: "read",
                    path: root.to_owned(),
                    why: Refused::NoNode,
                });
            };
            let before = self.seen();
            let nodes = self.nodes(root, first)?;
            let is_of_one_moment = self.seen() == before;
            if is_of_one_moment || tries == TRIES {
                return Ok(Tree {
                    nodes,
                    is_of_one_moment,
                });
            }
        }
    }

    fn nodes(
        &mut self,
        root: &str,
        first: (Vec<u8>, crate::client::Stat),
    ) -> Result<BTreeMap<String, Node>, ZooKeeperError> {
        let too_large = |limit: String| ZooKeeperError::TooLarge {
            path: root.to_owned(),
            limit,
        };
        let mut nodes = BTreeMap::new();
        let mut bytes = 0;
        let mut waiting = vec![(root.to_owned(), Some(first))];
        while let Some((path, read)) = waiting.pop() {
            let read = match read {
                Some(read) => Some(read),
                None => self.get(&path)?,
            };
            // It went since its name was read.
            let Some((data, stat)) = read else { continue };
            bytes += data.len();
            if bytes > TREE_BYTES {
                return Err(too_large(format!("{TREE_BYTES} bytes")));
            }
            if stat.children > 0 {
                for name in self.children(&path)?.unwrap_or_default() {
                    let child = format!("{}/{name}", path.trim_end_matches('/'));
                    // ZooKeeper's own: quotas, the ensemble's members.
                    if child != "/zookeeper" {
                        waiting.push((child, None));
                    }
                }
            }
            let node = Node {
                data,
                has_children: stat.children > 0,
                is_ephemeral: stat.owner != 0,
            };
            nodes.insert(path, node);
            if nodes.len() + waiting.len() > TREE_NODES {
                return Err(too_large(format!("{TREE_NODES} nodes")));
            }
        }
        Ok(nodes)
    }
}
