//! Records as ZooKeeper sends them (jute): big-endian numbers, strings and buffers with their length before them, in frames
//! that begin with theirs.

use std::io::{self, Read};

/// The largest frame that is taken: what servers send by default is far below.
const FRAME_MAX: usize = 64 << 20;

/// A record that is being written.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// With room for the frame's length.
    pub(crate) fn new() -> Self {
        Self(vec![0; 4])
    }

    pub(crate) fn int(mut self, number: i32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, number: i64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn flag(mut self, is: bool) -> Self {
        self.0.push(u8::from(is));
        self
    }

    pub(crate) fn buffer(self, bytes: &[u8]) -> Self {
        let mut this = self.int(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        this.0.extend(bytes);
        this
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.buffer(text.as_bytes())
    }

    /// The whole frame.
    pub(crate) fn frame(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// Reads one frame.
pub(crate) fn read_frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_MAX {
        let why = format!("a frame of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    // Grows with what comes, not with what is promised.
    let mut frame = Vec::new();
    from.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

/// A record that is being read. Whatever is missing is `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn int(&mut self) -> Option<i32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(i32::from_be_bytes(bytes))
    }

    pub(crate) fn long(&mut self) -> Option<i64> {
        let bytes = self.take(8)?.try_into().ok()?;
        Some(i64::from_be_bytes(bytes))
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|byte| byte[0] != 0)
    }

    /// -1 stands for no buffer at all.
    pub(crate) fn buffer(&mut self) -> Option<&'a [u8]> {
        match self.int()? {
            -1 => Some(&[]),
            length => self.take(usize::try_from(length).ok()?),
        }
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.buffer()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let frame = Writer::new()
            .int(-2)
            .long(1 << 40)
            .flag(true)
            .text("/ü")
            .buffer(&[0, 255])
            .frame();
        let body = read_frame(&mut frame.as_slice()).expect("a frame");
        let mut reader = Reader(&body);
        assert_eq!(reader.int(), Some(-2));
        assert_eq!(reader.long(), Some(1 << 40));
        assert_eq!(reader.flag(), Some(true));
        assert_eq!(reader.text(), Some("/ü"));
        assert_eq!(reader.buffer(), Some([0, 255].as_slice()));
        assert_eq!(reader.int(), None);
    }

    #[test]
    fn garbage_is_no_record() {
        assert!(Reader(&[255, 255, 255, 254, 1]).buffer().is_none());
        assert_eq!(Reader(&[255; 4]).buffer(), Some([].as_slice()));
        assert!(Reader(&[0, 0, 0, 9, 1]).text().is_none());
        assert!(read_frame(&mut [127, 255, 255, 255].as_slice()).is_err());
        // It is promised and does not come.
        assert!(read_frame(&mut [0, 0, 255, 255, 1].as_slice()).is_err());
    }
}
