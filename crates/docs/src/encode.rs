//! Base64, percent signs, digests: what a page needs of them.

/// Base64 with padding (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if place <= chunk.len() {
                let letter = (bits >> (18 - 6 * place)) & 63;
                out.push(char::from(LETTERS[letter as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// SHA-256 of a text.
pub(crate) fn digest(text: &str) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, text.as_bytes())
        .as_ref()
        .to_vec()
}

/// The first 16 hexadecimal digits of the SHA-256 of a text.
pub fn short_digest(text: &str) -> String {
    let start = digest(text)
        .into_iter()
        .take(8)
        .fold(0, |start, byte| start << 8 | u64::from(byte));
    format!("{start:016x}")
}

pub(crate) use upkeep_schema::percent_decode;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        for (text, code) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), code);
        }
    }

    #[test]
    fn digests_are_sha256() {
        assert_eq!(short_digest(""), "e3b0c44298fc1c14");
    }

    #[test]
    fn percent_signs() {
        assert_eq!(percent_decode("a%20b%2Fc%"), "a b/c%");
        assert_eq!(percent_decode("%ff%zz"), "%ff%zz");
    }
}
