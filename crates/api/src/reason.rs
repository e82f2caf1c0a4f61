//! The reason of a change, which is kept in its event: a sentence or two, and no book.

use serde::{Deserialize, Deserializer, de::Error};

/// The longest, in characters.
pub const REASON_MAX: usize = 1000;

/// Reads one; what is longer is refused.
pub(crate) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let reason = Option::<String>::deserialize(from)?;
    let length = reason.as_deref().map_or(0, |text| text.chars().count());
    if length > REASON_MAX {
        return Err(D::Error::custom(format_args!(
            "`reason` has {length} characters, and may have {REASON_MAX}"
        )));
    }
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{access::Change, body::Selection};

    #[test]
    fn a_reason_has_a_thousand_characters_at_most() {
        let of = |length: usize| json!({"selectors": ["all"], "reason": "ö".repeat(length)});
        let read = |length| serde_json::from_value::<Selection>(of(length));
        assert!(read(REASON_MAX).is_ok());
        let why = read(REASON_MAX + 1).expect_err("too long").to_string();
        assert!(
            why.contains("`reason` has 1001 characters, and may have 1000"),
            "{why}"
        );
        let none: Change = serde_json::from_str(r#"{"reason": null}"#).expect("none");
        assert_eq!(none.reason, None);
        let schema = serde_json::to_value(schemars::schema_for!(Change)).expect("JSON");
        assert_eq!(schema["properties"]["reason"]["maxLength"], REASON_MAX);
    }
}
