//! Secrets, sealed before any backend sees them.
//!
//! A value gets a **data key** of its own and is encrypted with AES-256-GCM; what it belongs to (its path and its kind) is
//! bound into it, so that nobody who can write to the backend moves a sealed value to another path. The data key is
//! **wrapped** for each recipient: an X25519 key made for this one wrapping agrees with the recipient's public key, HKDF
//! (SHA-256) makes a wrapping key of it, and AES-256-GCM encrypts the data key with that. Each wrapping key is used once,
//! so its nonce is zero; the data key is used once, and its nonce is random all the same.
//!
//! Who holds the private key of a recipient can open it; the backend, its snapshots and its disk cannot. *Re-wrapping*
//! gives the same data key to other recipients: it takes nothing from those who had it. *Re-sealing* makes a new data key.
//! Neither takes back what somebody has read: a secret that leaked must be changed itself.

use std::fmt;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, hkdf,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use upkeep_model::hex::{hex, unhex};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bound into every wrapping, so that no other use of the keys can be taken for one.
const CONTEXT: &[u8] = b"upkeep config key 1";

/// Why something could not be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// None of the keys at hand is one of a recipient.
    #[error("it is sealed for {recipients}, and none of their keys is here")]
    NotForUs {
        /// Their names.
        recipients: String,
    },
    /// Keys or content were changed, or it belongs elsewhere.
    #[error("it was changed after it was sealed, or belongs to another path")]
    Broken,
    /// Nobody could ever open it.
    #[error("it would be sealed for nobody")]
    Nobody,
    /// A text that is no key.
    #[error("`{0}` is no public key: 64 hexadecimal digits are expected")]
    NoKey(String),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    NoRandom,
}

/// Whom something is sealed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// A machine or a person: `machine:web1`, `person:ann`.
    pub name: String,
    /// The public key, X25519, 64 hexadecimal digits.
    pub key: String,
}

/// A private key of a recipient, wiped from memory when it is dropped.
pub struct Identity {
    name: String,
    secret: StaticSecret,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.name)
    }
}

impl Identity {
    /// A new one.
    pub fn generate(name: impl Into<String>) -> Result<Self, SealError> {
        let bytes = random::<32>()?;
        Ok(Self::from_bytes(name, *bytes))
    }

    /// One that was kept.
    pub fn from_bytes(name: impl Into<String>, bytes: [u8; 32]) -> Self {
        Self {
            name: name.into(),
            secret: StaticSecret::from(bytes),
        }
    }

    /// What is to be kept, and shown to nobody.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.to_bytes())
    }

    /// What others need to seal for it.
    pub fn recipient(&self) -> Recipient {
        Recipient {
            name: self.name.clone(),
            key: hex(PublicKey::from(&self.secret).as_bytes()),
        }
    }
}

/// A sealed value. All in it may be seen by anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The data key, once for each recipient.
    keys: Vec<Wrapped>,
    /// Of the content.
    #[serde(with = "digits")]
    nonce: Vec<u8>,
    /// The content, encrypted, with its tag.
    #[serde(skip)]
    pub(crate) content: Vec<u8>,
}

/// A data key for one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wrapped {
    name: String,
    /// The recipient's public key.
    #[serde(with = "digits")]
    to: Vec<u8>,
    /// The key that was made for this.
    #[serde(with = "digits")]
    from: Vec<u8>,
    /// The data key, encrypted, with its tag.
    #[serde(with = "digits")]
    key: Vec<u8>,
}

impl Sealed {
    /// Seals `content`. `bound` is what it belongs to; the same is asked for when it is opened.
    pub fn seal(content: &[u8], bound: &[u8], recipients: &[Recipient]) -> Result<Self, SealError> {
        let data_key = random::<32>()?;
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = content.to_vec();
        cipher(&data_key[..])?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(bound),
                &mut sealed,
            )
            .map_err(|_| SealError::Broken)?;
        Ok(Self {
            keys: wrap(&data_key, recipients)?,
            nonce: nonce.to_vec(),
            content: sealed,
        })
    }

    /// Opens it.
    pub fn open(&self, bound: &[u8], identities: &[Identity]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let data_key = self.data_key(identities)?;
        let nonce = Nonce::try_assume_unique_for_key(&self.nonce).map_err(|_| SealError::Broken)?;
        let mut content = Zeroizing::new(self.content.clone());
        let length = cipher(&data_key[..])?
            .open_in_place(nonce, Aad::from(bound), &mut content)
            .map_err(|_| SealError::Broken)?
            .len();
        content.truncate(length);
        Ok(content)
    }

    /// The content, encrypted: kept beside the rest, which is written as JSON.
    pub fn ciphertext(&self) -> &[u8] {
        &self.content
    }

    /// Puts the two together again.
    #[must_use]
    pub fn with_ciphertext(self, content: Vec<u8>) -> Self {
        Self { content, ..self }
    }

    /// The same content for other recipients. Those who had the data key and kept it can still open it.
    pub fn rewrap(&self, identities: &[Identity], recipients: &[Recipient]) -> Result<Self, SealError> {
        let data_key = self.data_key(identities)?;
        Ok(Self {
            keys: wrap(&data_key, recipients)?,
            nonce: self.nonce.clone(),
            content: self.content.clone(),
        })
    }

    /// Whom it is sealed for.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.keys
            .iter()
            .map(|wrapped| Recipient {
                name: wrapped.name.clone(),
                key: hex(&wrapped.to),
            })
            .collect()
    }

    fn data_key(&self, identities: &[Identity]) -> Result<Zeroizing<[u8; 32]>, SealError> {
        for identity in identities {
            let public = PublicKey::from(&identity.secret);
            let Some(wrapped) = self.keys.iter().find(|wrapped| wrapped.to == public.as_bytes()) else {
                continue;
            };
            let from: [u8; 32] = wrapped
                .from
                .as_slice()
                .try_into()
                .map_err(|_| SealError::Broken)?;
            let shared = identity.secret.diffie_hellman(&PublicKey::from(from));
            let mut key = Zeroizing::new(wrapped.key.clone());
            let length = wrapping_key(shared.as_bytes(), &from, public.as_bytes())?
                .open_in_place(zero(), Aad::from(CONTEXT), &mut key)
                .map_err(|_| SealError::Broken)?
                .len();
            let key: [u8; 32] = key[..length].try_into().map_err(|_| SealError::Broken)?;
            return Ok(Zeroizing::new(key));
        }
        let names: Vec<&str> = self.keys.iter().map(|wrapped| wrapped.name.as_str()).collect();
        Err(SealError::NotForUs {
            recipients: names.join(", "),
        })
    }
}

fn wrap(data_key: &[u8; 32], recipients: &[Recipient]) -> Result<Vec<Wrapped>, SealError> {
    if recipients.is_empty() {
        return Err(SealError::Nobody);
    }
    recipients
        .iter()
        .map(|recipient| {
            let to = public(&recipient.key)?;
            let once = StaticSecret::from(*random::<32>()?);
            let from = PublicKey::from(&once);
            let shared = once.diffie_hellman(&to);
            // A public key of small order agrees to a shared secret that everybody knows.
            if !shared.was_contributory() {
                return Err(SealError::NoKey(recipient.key.clone()));
            }
            let mut key = data_key.to_vec();
            wrapping_key(shared.as_bytes(), from.as_bytes(), to.as_bytes())?
                .seal_in_place_append_tag(zero(), Aad::from(CONTEXT), &mut key)
                .map_err(|_| SealError::Broken)?;
            Ok(Wrapped {
                name: recipient.name.clone(),
                to: to.as_bytes().to_vec(),
                from: from.as_bytes().to_vec(),
                key,
            })
        })
        .collect()
}

/// HKDF over the shared secret, salted with both public keys.
fn wrapping_key(shared: &[u8; 32], from: &[u8; 32], to: &[u8; 32]) -> Result<LessSafeKey, SealError> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[from.as_slice(), to.as_slice()].concat());
    let secret = salt.extract(shared);
    let key: UnboundKey = secret
        .expand(&[CONTEXT], &AES_256_GCM)
        .map_err(|_| SealError::Broken)?
        .into();
    Ok(LessSafeKey::new(key))
}

fn cipher(key: &[u8]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, key)
        .map(LessSafeKey::new)
        .map_err(|_| SealError::Broken)
}

fn zero() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, SealError> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new()
        .fill(&mut bytes[..])
        .map_err(|_| SealError::NoRandom)?;
    Ok(bytes)
}

fn public(text: &str) -> Result<PublicKey, SealError> {
    let bytes = unhex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes
        .map(PublicKey::from)
        .ok_or_else(|| SealError::NoKey(text.escape_debug().take(80).collect()))
}

/// Refuses what is no public key.
pub(crate) fn check_key(text: &str) -> Result<(), SealError> {
    public(text).map(drop)
}

/// A short name of a public key, for people to compare.
pub fn fingerprint(key: &str) -> String {
    hex(&digest::digest(&digest::SHA256, key.as_bytes()).as_ref()[..8])
}

/// Bytes as hexadecimal digits in JSON.
mod digits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::unhex(&text).ok_or_else(|| serde::de::Error::custom("no hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str) -> Identity {
        Identity::generate(name).expect("random numbers")
    }

    #[test]
    fn who_is_named_opens_it_and_nobody_else() {
        let (web, db, other) = (
            identity("machine:web1"),
            identity("machine:db1"),
            identity("machine:x"),
        );
        let sealed =
            Sealed::seal(b"hunter2", b"/a text", &[web.recipient(), db.recipient()]).expect("sealed");
        for identities in [[web], [db]] {
            assert_eq!(
                sealed.open(b"/a text", &identities).expect("opened").as_slice(),
                b"hunter2"
            );
        }
        let error = sealed.open(b"/a text", &[other]).expect_err("not for it");
        assert_eq!(
            error.to_string(),
            "it is sealed for machine:web1, machine:db1, and none of their keys is here"
        );
        let stored =
            serde_json::to_string(&sealed).expect("JSON") + &String::from_utf8_lossy(&sealed.content);
        assert!(!stored.contains("hunter2"), "{stored}");
    }

    #[test]
    fn what_was_changed_or_moved_is_not_opened() {
        let web = [identity("machine:web1")];
        let sealed = Sealed::seal(b"hunter2", b"/a text", &[web[0].recipient()]).expect("sealed");
        assert_eq!(
            sealed.open(b"/b text", &web),
            Err(SealError::Broken),
            "another path"
        );
        for at in 0..sealed.content.len() {
            let mut changed = sealed.clone();
            changed.content[at] ^= 1;
            assert_eq!(
                changed.open(b"/a text", &web),
                Err(SealError::Broken),
                "byte {at}"
            );
        }
        let mut changed = sealed.clone();
        changed.nonce[0] ^= 1;
        assert_eq!(changed.open(b"/a text", &web), Err(SealError::Broken));
        changed.nonce.clear();
        assert_eq!(changed.open(b"/a text", &web), Err(SealError::Broken));
        for part in 0..2 {
            let mut changed = sealed.clone();
            let bytes = if part == 0 {
                &mut changed.keys[0].from
            } else {
                &mut changed.keys[0].key
            };
            bytes[3] ^= 1;
            assert_eq!(changed.open(b"/a text", &web), Err(SealError::Broken));
            let bytes = if part == 0 {
                &mut changed.keys[0].from
            } else {
                &mut changed.keys[0].key
            };
            bytes.truncate(5);
            assert_eq!(changed.open(b"/a text", &web), Err(SealError::Broken));
        }
    }

    #[test]
    fn keys_are_given_to_others_without_touching_the_content() {
        let (old, new) = ([identity("machine:old")], [identity("machine:new")]);
        let sealed = Sealed::seal(b"hunter2", b"b", &[old[0].recipient()]).expect("sealed");
        let moved = sealed.rewrap(&old, &[new[0].recipient()]).expect("wrapped");
        assert_eq!(moved.content, sealed.content);
        assert_eq!(moved.open(b"b", &new).expect("opened").as_slice(), b"hunter2");
        assert!(matches!(moved.open(b"b", &old), Err(SealError::NotForUs { .. })));
        assert_eq!(sealed.rewrap(&old, &[]), Err(SealError::Nobody));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for key in [
            "",
            "zz",
            "é",
            &"0".repeat(64),
            &"1".repeat(63),
            &"A".repeat(64),
            &"+1".repeat(32),
        ] {
            let recipient = Recipient {
                name: "x".to_owned(),
                key: key.to_owned(),
            };
            let error = Sealed::seal(b"a", b"b", &[recipient]).expect_err(key);
            assert!(matches!(error, SealError::NoKey(_)), "{key}: {error}");
        }
    }

    #[test]
    fn an_identity_is_kept_and_found_again() {
        let first = identity("machine:web1");
        let again = Identity::from_bytes("machine:web1", *first.to_bytes());
        assert_eq!(first.recipient(), again.recipient());
        assert!(!format!("{first:?}").contains(&hex(&first.to_bytes()[..])));
    }
}
