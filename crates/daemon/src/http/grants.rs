//! Who may have an app get values of the shared configuration: whoever may read them.
//!
//! Who applies an app decides what its program does with what it gets. So it takes `config:read` of all of its places, and of
//! secrets `config:reveal`. Who may not reveal all of a place can apply an app of it as long as it holds no secret; one that
//! comes later is not given to the app. Files are written as the user that the daemon runs as, wherever the app says: only the
//! owner and who may do everything applies an app with files.

use upkeep_api::error::Code;
use upkeep_config::{
    ConfigError, Path, Place,
    rights::{All, Asker, Rights as _, Verb},
};
use upkeep_model::app::AppSpec;

use super::Shared;
use crate::{
    access::Known,
    command::{Grants, Refusal},
    config::{CallerRights, refusal},
    supply::Granted,
};

/// What the apps of a call may be given; refuses a caller that may not read it.
pub(super) async fn of(shared: &Shared, known: &Known, apps: &[AppSpec]) -> Result<Grants, Refusal> {
    let rights = CallerRights::of(known);
    let mut grants = Grants::new();
    for spec in apps {
        if !(spec.files.is_empty() || known.is_owner() || known.may_all()) {
            return Err(Refusal::new(
                Code::Forbidden,
                format!(
                    "refused: `{}` has `files`, and `{}` may not have files written on this machine",
                    spec.name,
                    rights.who()
                ),
            )
            .hint("only the user that the daemon runs as, root, and who holds everything applies it"));
        }
        let Some(config) = &spec.config else { continue };
        for place in &config.places {
            if !rights.may_all(Verb::Read, place) {
                return Err(refusal(ConfigError::Denied {
                    who: rights.who().to_owned(),
                    verb: Verb::Read,
                    place: place.clone(),
                }));
            }
        }
        let hidden: Vec<_> = config
            .places
            .iter()
            .filter(|place| !rights.may_all(Verb::Reveal, place))
            .collect();
        // The values that the app has stand beside those of the store: that may be away, or have lost a secret since.
        if !hidden.is_empty()
            && let Some(path) = shared.supply.secret_of(&spec.name, &config.places)
        {
            return Err(not_revealed(&rights, path));
        }
        // With the store away it is found out before anything is given to it.
        if !hidden.is_empty()
            && let Ok(opened) = shared.config.open().await
        {
            for place in &hidden {
                if let Some(path) = first_secret(&opened.config, place).await? {
                    return Err(not_revealed(&rights, path));
                }
            }
        }
        grants.insert(
            spec.name.clone(),
            Granted {
                edition: None,
                secrets: hidden.is_empty(),
                who: rights.who().to_owned(),
            },
        );
    }
    Ok(grants)
}

fn not_revealed(rights: &CallerRights, path: Path) -> Refusal {
    refusal(ConfigError::Denied {
        who: rights.who().to_owned(),
        verb: Verb::Reveal,
        place: path.into(),
    })
}

/// The first secret of a place, if it has any.
async fn first_secret(config: &upkeep_config::Config, place: &Place) -> Result<Option<Path>, Refusal> {
    let own = Asker {
        who: "upkeep",
        rights: &All,
    };
    let mut after = None;
    loop {
        let most = upkeep_config::shared::LISTED_MAX;
        let listing = config
            .list(own, place, most, after.as_ref())
            .await
            .map_err(refusal)?;
        let mut entries = listing.entries.into_iter();
        if let Some(secret) = entries.find(|entry| entry.shown.is_secret()) {
            return Ok(Some(secret.path));
        }
        after = listing.next;
        if after.is_none() {
            return Ok(None);
        }
    }
}
