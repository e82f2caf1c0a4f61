//! Keys and certificates as text (RFC 7468), and how they are named by their hash.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use upkeep_model::hex::hex;

/// What stands before the public point of a key on P-256: `SubjectPublicKeyInfo` up to its bits (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Length of an uncompressed point.
const POINT: usize = 65;

/// `label`: such as `CERTIFICATE`.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// A public key on P-256 as `PUBLIC KEY`; `point` is uncompressed, as ring has it.
pub fn public_key(point: &[u8]) -> String {
    encode("PUBLIC KEY", &[&P256, point].concat())
}

/// The point of a public key on P-256, from its `SubjectPublicKeyInfo`.
pub fn point(info: &[u8]) -> Option<&[u8]> {
    info.strip_prefix(&P256)
        .filter(|point| point.len() == POINT && point.first() == Some(&4))
}

/// How a certificate is named by its hash: `sha256:` and 64 digits.
pub fn fingerprint(der: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, der);
    format!("sha256:{}", hex(hash.as_ref()))
}

/// A fingerprint as people write it (capitals, colons as openssl prints them, with or without `sha256:`), as
/// [`fingerprint`] writes it.
pub fn parse_fingerprint(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.strip_prefix("sha256:").unwrap_or(&lower).replace(':', "");
    let is_hash = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| format!("sha256:{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_64_letters() {
        let text = encode("X", &[0xff; 50]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"-----BEGIN X-----"));
        assert_eq!(lines.get(1).map(|line| line.len()), Some(64));
        assert_eq!(lines.get(2), Some(&"//8="));
        assert_eq!(lines.last(), Some(&"-----END X-----"));
    }

    #[test]
    fn points_are_found_in_keys() {
        let key = [&[4][..], &[7; 64]].concat();
        let info = [&P256[..], &key].concat();
        assert_eq!(point(&info), Some(key.as_slice()));
        assert_eq!(point(&info[1..]), None);
        assert_eq!(point(&info[..90]), None);
        assert_eq!(point(&[]), None);
    }

    #[test]
    fn fingerprints_are_read_as_openssl_writes_them() {
        let known = fingerprint(b"abc");
        assert_eq!(
            known,
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let digits = known.trim_start_matches("sha256:").to_uppercase();
        let pairs: Vec<String> = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).into_owned())
            .collect();
        assert_eq!(parse_fingerprint(&pairs.join(":")), Some(known.clone()));
        assert_eq!(parse_fingerprint(&format!(" {known} ")), Some(known));
        for wrong in ["", "sha256:", "abc", "sha1:abc"] {
            assert_eq!(parse_fingerprint(wrong), None);
        }
    }
}
