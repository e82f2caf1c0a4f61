//! Bytes as hexadecimal digits.

use std::fmt::Write as _;

/// Bytes as hexadecimal digits, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into memory cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What [`hex`] wrote, and nothing else: keys are compared as text, so there is one way to write them.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !text.len().is_multiple_of(2) || !text.bytes().all(is_digit) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_bytes_and_back() {
        assert_eq!(hex(&[0, 0x0a, 0xff]), "000aff");
        assert_eq!(unhex("000aff"), Some(vec![0, 0x0a, 0xff]));
        for wrong in ["0", "0g", "0A", "+1", "\u{e9}"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
