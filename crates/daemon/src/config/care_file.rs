//! Looking after the file of this machine: compaction and defragmentation, as with a cluster ([`care`](super::care)).
//!
//! Nobody else can do it, so nobody has to be asked. What was done stands in the file, under the same key. Defragmenting keeps
//! everybody waiting who wants something of the file, so it is done only when it pays, and when nothing was written since the
//! last look; never while everything is moved elsewhere, which reads the log. A file that nobody has opened waits.

use std::{sync::Arc, time::Duration};

use upkeep_api::config_store::Defragmentation;
use upkeep_config::machines::CARE;
use upkeep_store::kv::{Guard, Kv, KvError, Op, Status, Txn};

use super::{
    Configuration,
    care::{Keeping, Log, Seen, Standing, compact, read},
};
use crate::{events, main_loop::note};

/// How often is looked.
const ROUND: Duration = Duration::from_secs(10);
/// Seconds until it is defragmented again, at least; and where it gave little.
const AGAIN: f64 = 600.0;
const AFTER_NOTHING: f64 = 86_400.0;
/// Smaller files are left alone.
const SMALL: u64 = 8 << 20;
/// What the file is called where a cluster has members.
const FILE: &str = "the file";

/// Looks after the file for as long as it is in use.
pub(super) struct FileCarer {
    kv: Arc<dyn Kv>,
    /// This machine.
    name: String,
    seen: Arc<Seen>,
    /// Revision and bytes in use at the end of the last look: whether something has happened since.
    before: Option<(u64, u64)>,
}

/// Whether it pays to move together what is in the file. It holds more than what is counted as in use; so where the last time
/// gave little, it is not tried again soon.
fn pays(log: &Log, status: &Status, now: f64) -> bool {
    let disk = status.bytes_on_disk;
    if disk < SMALL || disk.saturating_sub(status.bytes_in_use) * 10 < disk * 3 {
        return false;
    }
    let Some(last) = log.defragmented.first() else {
        return true;
    };
    let was_worth_it = last.after_bytes * 10 <= last.before_bytes * 9;
    let has_grown = disk * 10 >= last.after_bytes * 13;
    let span = if was_worth_it || has_grown {
        AGAIN
    } else {
        AFTER_NOTHING
    };
    // A clock may have gone back.
    !(0.0..span).contains(&(now - last.at))
}

impl FileCarer {
    pub(super) fn new(kv: Arc<dyn Kv>, name: String, seen: Arc<Seen>) -> Self {
        Self {
            kv,
            name,
            seen,
            before: None,
        }
    }

    /// Never ends.
    pub(super) async fn run(mut self, config: &Configuration) {
        self.seen.set(None);
        let mut told = false;
        loop {
            if !config.is_moving() {
                let at = config.file_settings();
                let done = self
                    .round(Keeping::new(at.keep_for(), at.keep_revisions()), events::now())
                    .await;
                let why = done.err().map(|error| error.to_string());
                if let Some(why) = &why
                    && !std::mem::replace(&mut told, true)
                {
                    note(&format!(
                        "the file of the configuration is not looked after: {why}"
                    ));
                }
                told &= why.is_some();
                self.seen.set(why);
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn round(&mut self, keeping: Keeping, now: f64) -> Result<(), KvError> {
        let (mut log, known) = read(self.kv.as_ref()).await?;
        let before = log.clone();
        let status = self.kv.status().await?;
        let at = Standing {
            now,
            revision: status.revision,
            oldest: status.oldest,
            written: known,
        };
        compact(self.kv.as_ref(), keeping, &self.name, &mut log, at).await?;
        let is_quiet = self.before == Some((status.revision, status.bytes_in_use));
        if is_quiet && pays(&log, &status, now) {
            self.kv.defragment().await?;
            let after = self.kv.status().await?.bytes_on_disk;
            log.defragmented = vec![Defragmentation {
                member: FILE.to_owned(),
                at: now,
                by: self.name.clone(),
                before_bytes: status.bytes_on_disk,
                after_bytes: after,
            }];
        }
        if log != before {
            log.sample(at);
            let bytes = serde_json::to_vec(&log).unwrap_or_default();
            let txn = Txn::only_if(vec![Guard::unchanged(CARE, known)], vec![Op::put(CARE, bytes)]);
            self.kv.txn(txn).await?;
        }
        let status = self.kv.status().await?;
        self.before = Some((status.revision, status.bytes_in_use));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use upkeep_model::size::Span;
    use upkeep_store::kv::{
        Range,
        embedded::{Embedded, Options},
    };
    use upkeep_testkit::wait_until;

    use super::*;

    const VALUE: usize = 100 << 10;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(future)
    }

    /// Looks at the file until it has what `done` wants, a span later each time.
    fn look_until(carer: &mut FileCarer, now: &mut f64, done: impl Fn(&Status) -> bool) {
        wait_until("the file to be looked after", Duration::from_secs(20), || {
            *now += 60.0;
            block_on(carer.round(Keeping::new(Span::from_secs(3600), 1000), *now)).expect("looked after");
            let status = block_on(carer.kv.status()).expect("a status");
            if done(&status) {
                Ok(())
            } else {
                Err(format!("{status:?}"))
            }
        });
    }

    #[test]
    fn what_was_superseded_is_forgotten_and_its_room_given_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let kv = Embedded::open(&dir.path().join("config.redb"), Options::default()).expect("a file");
        let kv: Arc<dyn Kv> = Arc::new(kv);
        let put = |n: usize| {
            let mut value = vec![b'x'; VALUE];
            value.extend(n.to_string().bytes());
            let txn = Txn::always(vec![Op::put("c/big", value), Op::put(format!("h/{n}"), [])]);
            block_on(kv.txn(txn)).expect("written").revision
        };
        let mut carer = FileCarer::new(Arc::clone(&kv), "machine:web1".to_owned(), Arc::default());
        let mut now = 1_000_000.0;
        let mut last = 0;
        for n in 0..300 {
            last = put(n);
        }
        let full = block_on(kv.status()).expect("a status");
        assert!(full.bytes_on_disk > (300 * VALUE) as u64, "{full:?}");
        // Nothing is old yet.
        block_on(carer.round(Keeping::new(Span::from_secs(3600), 1000), now)).expect("looked after");
        assert_eq!(block_on(kv.status()).expect("a status").oldest, full.oldest);
        look_until(&mut carer, &mut now, |status| {
            status.oldest >= Some(last) && status.bytes_on_disk < SMALL
        });
        let (log, _) = block_on(read(kv.as_ref())).expect("a log");
        let done = log.defragmented.first().expect("it was defragmented");
        assert!(done.after_bytes * 4 < done.before_bytes, "{done:?}");
        assert_eq!(log.compacted.expect("compacted").by, "machine:web1");
        // What there is, is there.
        let found = block_on(kv.range(Range::prefix(""))).expect("read");
        assert_eq!(found.entries.len(), 302);
        // One more change, and that is forgotten too; then nothing is written any more.
        last = put(300);
        look_until(&mut carer, &mut now, |status| status.oldest >= Some(last));
        let mut rounds = || {
            for _ in 0..200 {
                now += 60.0;
                block_on(carer.round(Keeping::new(Span::from_secs(3600), 1000), now)).expect("looked after");
            }
            block_on(kv.status()).expect("a status").revision
        };
        let still = rounds();
        assert_eq!(rounds(), still, "a store that nobody uses is not written");
    }
}
