//! What we need to know of an X.509 certificate (RFC 5280, 4.1), read from its DER.
//!
//! It decides nothing: signatures and chains are for rustls to check. It tells names and times to people, and when a
//! certificate is due to be renewed.

use std::net::IpAddr;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// In hexadecimal.
    pub(crate) serial: String,
    /// Common name of its subject; empty if there is none.
    pub(crate) name: String,
    /// Unix seconds.
    pub(crate) not_before: i64,
    /// Unix seconds.
    pub(crate) not_after: i64,
    /// Names and addresses that it stands for.
    pub(crate) names: Vec<String>,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// In a list of names.
const DNS: u8 = 0x82;
const ADDRESS: u8 = 0x87;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) || rest.len() < count {
                return None;
            }
            let (bytes, after) = rest.split_at(count);
            length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        if rest.len() < length {
            return None;
        }
        let (content, after) = rest.split_at(length);
        self.0 = after;
        Some((tag, content))
    }

    /// The next element, if it has this tag.
    fn take(&mut self, wanted: u8) -> Option<&'a [u8]> {
        let (tag, content) = Reader(self.0).next()?;
        if tag != wanted {
            return None;
        }
        self.next();
        Some(content)
    }
}

fn time(tag: u8, content: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(content).ok()?;
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let year: i16 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let at = jiff::civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(at.timestamp().as_second())
}

fn common_name(subject: &[u8]) -> String {
    let mut sets = Reader(subject);
    while let Some((_, set)) = sets.next() {
        let mut pairs = Reader(set);
        while let Some(pair) = pairs.take(SEQUENCE) {
            let mut pair = Reader(pair);
            if pair.take(OID) == Some(COMMON_NAME)
                && let Some((_, value)) = pair.next()
            {
                return String::from_utf8_lossy(value).into_owned();
            }
        }
    }
    String::new()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    four.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut list = Reader(Reader(extensions).take(SEQUENCE)?);
    while let Some(extension) = list.take(SEQUENCE) {
        let mut extension = Reader(extension);
        if extension.take(OID)? != ALTERNATIVE_NAMES {
            continue;
        }
        extension.take(BOOLEAN);
        let mut names = Reader(Reader(extension.take(OCTETS)?).take(SEQUENCE)?);
        let mut found = Vec::new();
        while let Some((tag, content)) = names.next() {
            match tag {
                DNS => found.push(String::from_utf8_lossy(content).to_ascii_lowercase()),
                ADDRESS => found.extend(address(content).map(|address| address.to_string())),
                _ => {}
            }
        }
        return Some(found);
    }
    Some(Vec::new())
}

/// Reads a certificate; `None`: it is none.
pub(crate) fn read(der: &[u8]) -> Option<Facts> {
    let certificate = Reader(der).take(SEQUENCE)?;
    let mut fields = Reader(Reader(certificate).take(SEQUENCE)?);
    fields.take(VERSION);
    let serial = fields.take(INTEGER)?;
    // The algorithm of the signature and the issuer.
    fields.take(SEQUENCE)?;
    fields.take(SEQUENCE)?;
    let mut validity = Reader(fields.take(SEQUENCE)?);
    let (tag, content) = validity.next()?;
    let not_before = time(tag, content)?;
    let (tag, content) = validity.next()?;
    let not_after = time(tag, content)?;
    let name = common_name(fields.take(SEQUENCE)?);
    // Its public key.
    fields.take(SEQUENCE)?;
    let mut names = Vec::new();
    while let Some((tag, content)) = fields.next() {
        if tag == EXTENSIONS {
            names = alternative_names(content)?;
        }
    }
    Some(Facts {
        serial: upkeep_model::hex::hex(serial),
        name,
        not_before,
        not_after,
        names,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_two_kinds() {
        assert_eq!(time(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(GENERALIZED_TIME, b"20500101000000Z"), Some(2_524_608_000));
        for wrong in [
            &b"700101000000"[..],
            b"70010100000Z",
            b"701301000000Z",
            b"\xff",
            b"",
        ] {
            assert_eq!(time(UTC_TIME, wrong), None);
        }
    }

    #[test]
    fn garbage_is_no_certificate() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x80",
            b"\x30\x85\xff\xff\xff\xff\xff",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x03\x02\x01\x01",
            b"\x30\x02\x30\x00",
        ] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_sent_panics(mut bytes: Vec<u8>, cut in 0_usize..400) {
            let _ = read(&bytes);
            let key = rcgen::KeyPair::generate().expect("a key");
            let made = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).expect("names");
            let der = made.self_signed(&key).expect("a certificate").der().to_vec();
            bytes.truncate(8);
            let mut broken = der[..cut.min(der.len())].to_vec();
            broken.extend_from_slice(&bytes);
            broken.extend_from_slice(&der[cut.min(der.len())..]);
            let _ = read(&broken);
        }
    }
}
