//! JSON Schema: whether a value fits a schema, and what of a schema cannot be meant.
//!
//! JSON Schema 2020-12 as OpenAPI 3.1 has it, and the dialect of OpenAPI 3.0. [`Judge`] finds every place of a value that
//! does not fit and says what is wanted, in words for people; [`complaints`] looks at a schema itself: what cannot be meant in
//! it (a type that is none, a pattern that cannot be read, a reference that leads nowhere) would let everything pass unseen.
//!
//! Used for samples of documentation and for places of the shared configuration. Some content may be unknown (a secret that
//! only its recipients open) or not to be repeated by a complaint: see [`Judge::unknown`], [`Judge::hidden`].
//!
//! It asks nobody: references to other files are told as not followed.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod complaints;
mod judge;

use serde_json::Value;

pub use self::{
    complaints::complaints,
    judge::{Fault, Judge, Way, escape},
};

/// What `#/components/…` names in a document.
pub fn at_reference<'a>(root: &'a Value, reference: &str) -> Result<&'a Value, String> {
    let shown = reference.escape_debug();
    let Some(pointer) = reference.strip_prefix('#') else {
        return Err(format!(
            "the reference `{shown}` leads out of the file: only those within it are followed"
        ));
    };
    let pointer = percent_decode(pointer);
    root.pointer(&pointer)
        .ok_or_else(|| format!("the reference `{shown}` leads nowhere"))
}

/// `%20` and the like; what is not UTF-8 afterwards is left as it was.
pub fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        let hex = |offset: usize| {
            bytes
                .get(index + offset)
                .and_then(|byte| char::from(*byte).to_digit(16))
                .and_then(|digit| u8::try_from(digit).ok())
        };
        match (bytes[index], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                index += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// ``did you mean `title`?`` for a word that is close to a known one, and is not one of them.
pub fn did_you_mean(written: &str, known: &[&str]) -> Option<String> {
    let lower = written.to_lowercase().replace('-', "_");
    let limit = (lower.chars().count() / 3).clamp(1, 2);
    known
        .iter()
        .map(|name| (strsim::osa_distance(&lower, name), *name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| format!("did you mean `{name}`?"))
}
