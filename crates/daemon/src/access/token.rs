//! The text of a token: `upk_ID_SECRET`, its making and its check.

use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use upkeep_model::hex::hex;

/// Before the id: makes a token known to those who search files for secrets.
const PREFIX: &str = "upk_";
/// Bytes of the id.
const ID: usize = 6;
/// Bytes of the secret.
const SECRET: usize = 32;

/// A token that was just made.
pub(super) struct Made {
    pub(super) id: String,
    /// All of it: shown once.
    pub(super) text: String,
    pub(super) hash: String,
}

/// Makes one of the kernel's random numbers.
pub(super) fn make() -> Result<Made, String> {
    let mut bytes = [0; ID + SECRET];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "failed to make a token: the kernel gives no random numbers".to_owned())?;
    let (id, secret) = bytes.split_at(ID);
    let (id, secret) = (hex(id), hex(secret));
    Ok(Made {
        hash: hash(&secret),
        text: format!("{PREFIX}{id}_{secret}"),
        id,
    })
}

/// Id and secret.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    (id.len() == 2 * ID && secret.len() == 2 * SECRET).then_some((id, secret))
}

/// Whether a secret is the one whose hash is kept. Takes as long for every wrong one.
pub(super) fn is_right(secret: &str, kept: &str) -> bool {
    let given = hash(secret);
    let differing = given
        .bytes()
        .zip(kept.bytes())
        .fold(0, |sum, (one, other)| sum | (one ^ other));
    given.len() == kept.len() && differing == 0
}

fn hash(secret: &str) -> String {
    hex(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_right_and_no_other_is() {
        let made = make().expect("random numbers");
        let (id, secret) = split(&made.text).expect("its own form");
        assert_eq!(id, made.id);
        assert!(is_right(secret, &made.hash));
        assert!(!made.hash.contains(secret));
        let other = make().expect("random numbers");
        assert_ne!(other.id, made.id);
        assert!(!is_right(split(&other.text).expect("its own form").1, &made.hash));
        assert!(!is_right("", &made.hash));
        assert!(!is_right(secret, ""));
        for text in [
            "",
            "upk_",
            "upk__",
            "upk_1_2",
            &made.text[1..],
            &format!("{}0", made.text),
        ] {
            assert!(split(text).is_none(), "{text}");
        }
    }
}
