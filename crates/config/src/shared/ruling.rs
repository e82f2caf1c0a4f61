//! Rules of places.

use std::sync::Arc;

use upkeep_store::kv::{Guard, Op, Txn};

use super::{APPROVALS_MAX, Config, RULES, TRIES, damaged};
use crate::{
    error::ConfigError,
    fit,
    path::Place,
    rights::{Asker, Verb},
    rules::{Book, Rules},
    seal::{Recipient, Sealed},
};

/// Bytes of a recipient's name.
const NAME_MAX: usize = 200;

/// Steps of trimming that who changes the rules waits for.
const STEPS_AT_ONCE: usize = 32;

impl Config {
    /// The rules that hold.
    pub async fn rules(&self) -> Result<Arc<Book>, ConfigError> {
        self.refresh().await?;
        Ok(self.book().1)
    }

    /// Says what holds for a place, instead of what held.
    pub async fn set_rules(&self, asker: Asker<'_>, place: &Place, rules: Rules) -> Result<(), ConfigError> {
        self.change_rules(asker, place, |_| rules.clone()).await
    }

    /// Says whether these rules could hold for a place as it is, and changes nothing.
    pub async fn try_rules(&self, asker: Asker<'_>, place: &Place, rules: &Rules) -> Result<(), ConfigError> {
        asker.require_all(Verb::Grant, place)?;
        check_rules(place, rules)?;
        match &rules.schema {
            Some(schema) => self.fits_now(asker, place, schema).await.map(drop),
            None => Ok(()),
        }
    }

    /// Changes what holds for a place: `change` makes the rules out of those that hold at that instant, and may be asked more than
    /// once. Values are not touched: secrets stay sealed as they are until they are written or sealed anew.
    pub async fn change_rules(
        &self,
        asker: Asker<'_>,
        place: &Place,
        change: impl Fn(Rules) -> Rules + Send + Sync,
    ) -> Result<(), ConfigError> {
        asker.require_all(Verb::Grant, place)?;
        for _ in 0..TRIES {
            self.refresh().await?;
            let (revision, book) = self.book();
            let mut book = (*book).clone();
            let held = book.places.get(place).cloned().unwrap_or_default();
            let kept = held.keep;
            let rules = change(held);
            check_rules(place, &rules)?;
            let mut guards = vec![Guard::unchanged(RULES, revision)];
            if let Some(schema) = &rules.schema {
                if book.counted.insert(place.clone()) {
                    // From here on every change of the place is counted. Only then is it judged, so that none comes between.
                    self.write_book(revision, book).await?;
                    continue;
                }
                match self.fits_now(asker, place, schema).await {
                    Ok(guard) => guards.push(guard),
                    Err(error) => {
                        // Nothing has to be counted for a schema that does not come.
                        if book.places.get(place).is_none_or(|rules| rules.schema.is_none()) {
                            book.counted.remove(place);
                            self.write_book(revision, book).await?;
                        }
                        return Err(error);
                    }
                }
            } else {
                book.counted.remove(place);
            }
            if rules == Rules::default() {
                book.places.remove(place);
            } else {
                book.places.insert(place.clone(), rules.clone());
            }
            let bytes = serde_json::to_vec(&book).map_err(|error| damaged(RULES, error))?;
            let txn = Txn::only_if(guards, vec![Op::put(RULES, bytes)]);
            let answered = self.write(txn).await?;
            if answered.succeeded {
                self.learn(answered.revision, book);
                if rules.keep != kept {
                    self.trim_at_once(asker, place).await;
                }
                return Ok(());
            }
        }
        Err(ConfigError::Busy(place.clone()))
    }

    /// Whoever says that less is to be kept sees it gone, as far as that is quick. The rest goes as others write, and so does what
    /// fails here: the rules hold.
    async fn trim_at_once(&self, asker: Asker<'_>, place: &Place) {
        let mut after = None;
        for _ in 0..STEPS_AT_ONCE {
            match self.trim(asker, place, after.as_ref()).await {
                Ok(trimmed) if trimmed.next.is_some() => after = trimmed.next,
                _ => return,
            }
        }
    }

    /// Writes the rules, if nobody was faster.
    pub(crate) async fn write_book(&self, revision: u64, book: Book) -> Result<(), ConfigError> {
        let bytes = serde_json::to_vec(&book).map_err(|error| damaged(RULES, error))?;
        let txn = Txn::only_if(
            vec![Guard::unchanged(RULES, revision)],
            vec![Op::put(RULES, bytes)],
        );
        let answered = self.write(txn).await?;
        if answered.succeeded {
            self.learn(answered.revision, book);
        }
        Ok(())
    }
}

/// Whether rules can hold.
fn check_rules(place: &Place, rules: &Rules) -> Result<(), ConfigError> {
    check_recipients(&rules.recipients)?;
    if let Some(keep) = &rules.keep {
        keep.check()?;
    }
    if rules.approvals > APPROVALS_MAX {
        let why = format!("more than {APPROVALS_MAX} approvals of one change will never come together");
        return Err(ConfigError::Change(why));
    }
    match &rules.schema {
        Some(schema) => fit::check_schema(place, schema),
        None => Ok(()),
    }
}

/// Whether secrets can be sealed for these. A key that is none is found out now, and not when the first secret is set.
pub(crate) fn check_recipients(recipients: &[Recipient]) -> Result<(), ConfigError> {
    for recipient in recipients {
        let name = &recipient.name;
        if name.trim().is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(ConfigError::Change(format!(
                "a recipient needs a name like `machine:web1` or `person:ann`, not `{}`",
                name.escape_debug().take(40).collect::<String>()
            )));
        }
        Sealed::seal(b"", b"", std::slice::from_ref(recipient))
            .map_err(|error| ConfigError::Change(format!("recipient `{}`: {error}", recipient.name)))?;
    }
    Ok(())
}
