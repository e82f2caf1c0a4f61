//! What a call may hold: the same for every backend, and refused before it is sent.

use super::{KvError, Op, Range, Reason, Revision, Span, Txn, Watch};

/// What a store takes in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a key.
    pub key: usize,
    /// Bytes of a value.
    pub value: usize,
    /// Guards, and steps of each branch, in a transaction.
    pub ops: usize,
    /// Bytes of keys and values in a transaction, in all.
    pub bytes: usize,
}

/// The end of the keys that begin with `prefix`: the first bytes behind them. `None` where there is nothing behind.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

impl Limits {
    /// Refuses what no backend would take.
    pub fn check_txn(&self, txn: &Txn) -> Result<(), KvError> {
        self.txn(txn)
            .map_err(|reason| KvError::new(txn.to_string(), reason))
    }

    /// Refuses a question without sense.
    pub fn check_range(&self, range: &Range) -> Result<(), KvError> {
        self.span(&range.span)
            .map_err(|reason| KvError::new(format!("read {}", range.span), reason))
    }

    /// Refuses a watch without sense.
    pub fn check_watch(&self, watch: &Watch) -> Result<(), KvError> {
        let from_nothing = watch.from == Some(0);
        self.span(&watch.span)
            .and_then(|()| {
                if from_nothing {
                    return Err(Reason::Invalid(
                        "there is no revision 0; leave it out to watch from now on".to_owned(),
                    ));
                }
                Ok(())
            })
            .map_err(|reason| KvError::new(format!("watch {}", watch.span), reason))
    }

    fn txn(&self, txn: &Txn) -> Result<(), Reason> {
        for (what, count) in [
            ("the transaction's list of guards", txn.guards.len()),
            ("the transaction", txn.then.len()),
            ("the transaction's other branch", txn.otherwise.len()),
        ] {
            Self::fits(what, count, self.ops)?;
        }
        let mut bytes = 0;
        for guard in &txn.guards {
            self.key(&guard.key)?;
            bytes += guard.key.len();
            if let super::Target::Value(value) = &guard.target {
                Self::fits("the value of a guard", value.len(), self.value)?;
                bytes += value.len();
            }
        }
        for branch in [&txn.then, &txn.otherwise] {
            Self::once(branch)?;
            for op in branch {
                bytes += self.op(op)?;
            }
        }
        Self::fits("the transaction, in bytes,", bytes, self.bytes)
    }

    fn op(&self, op: &Op) -> Result<usize, Reason> {
        match op {
            Op::Put { key, value, lease } => {
                self.key(key)?;
                Self::fits(
                    &format!("the value of `{key}`, in bytes,"),
                    value.len(),
                    self.value,
                )?;
                if lease.is_some_and(|lease| lease <= 0) {
                    return Err(Reason::NoLease(lease.unwrap_or_default()));
                }
                Ok(key.len() + value.len())
            }
            Op::Delete(span) => {
                self.span(span)?;
                Ok(span.start().len())
            }
            Op::Get(range) => {
                self.span(&range.span)?;
                if range.at.is_some() {
                    return Err(Reason::Invalid(
                        "a transaction reads what is there, not older revisions".to_owned(),
                    ));
                }
                Ok(range.span.start().len())
            }
        }
    }

    /// No key is written twice, nor written and deleted.
    fn once(branch: &[Op]) -> Result<(), Reason> {
        let mut puts = std::collections::BTreeSet::new();
        for op in branch {
            if let Op::Put { key, .. } = op
                && !puts.insert(key.as_str())
            {
                return Err(Reason::DuplicateKey(key.clone()));
            }
        }
        for op in branch {
            let Op::Delete(span) = op else { continue };
            // The first key of ours in the span, if any.
            let mut inside = puts.range(span.start()..);
            if let Some(key) = inside.next().filter(|key| span.contains(key)) {
                return Err(Reason::DuplicateKey((*key).to_owned()));
            }
        }
        Ok(())
    }

    fn span(&self, span: &Span) -> Result<(), Reason> {
        match span {
            Span::One(key) => self.key(key),
            Span::Prefix(prefix) => Self::fits("the prefix, in bytes,", prefix.len(), self.key),
            Span::Between(from, to) => {
                if let Some(to) = to
                    && to <= from
                {
                    return Err(Reason::Invalid(format!("`{to}` does not come after `{from}`")));
                }
                let longest = from.len().max(to.as_ref().map_or(0, String::len));
                Self::fits("the key, in bytes,", longest, self.key)
            }
            Span::All => Ok(()),
        }
    }

    fn key(&self, key: &str) -> Result<(), Reason> {
        if key.is_empty() {
            return Err(Reason::Invalid("a key cannot be empty".to_owned()));
        }
        Self::fits("the key, in bytes,", key.len(), self.key)
    }

    fn fits(what: &str, size: usize, limit: usize) -> Result<(), Reason> {
        if size > limit {
            return Err(Reason::TooLarge {
                what: what.to_owned(),
                size,
                limit,
            });
        }
        Ok(())
    }
}

/// The revision to read at, if it can be.
pub(crate) fn readable(
    at: Option<Revision>,
    current: Revision,
    oldest: Revision,
) -> Result<Option<Revision>, Reason> {
    match at {
        None | Some(0) => Ok(None),
        Some(asked) if asked > current => Err(Reason::Future { asked, current }),
        Some(asked) if asked < oldest => Err(Reason::Compacted { oldest }),
        Some(asked) if asked == current => Ok(None),
        Some(asked) => Ok(Some(asked)),
    }
}
