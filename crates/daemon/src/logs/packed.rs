//! Compressed log files: frames that can be entered one by one, and a table of them at the end.
//!
//! The format is Zstandard's (RFC 8878), so `zstdcat` reads it. Each frame holds [`FRAME`] bytes of the log and stands
//! alone. Behind them lie two *skippable* frames, which readers that do not know them pass over: ours with the number
//! of lines, and the seek table of Zstandard's "seekable format" (contrib/seekable_format in its sources, version
//! 0.1.0): for each frame its length in the file and in the log, then their number, a byte of flags and a magic
//! number.
//!
//! Frames are smaller than usual there: who merges two hundred logs holds one frame of each in memory.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use super::{beside, names::rotated};

/// Bytes of the log in one frame.
pub(super) const FRAME: usize = 256 << 10;
/// Level of compression: the library's own default, some 300 MB/s.
const LEVEL: i32 = 3;
/// Magic number of the seek table's frame.
const TABLE_MAGIC: u32 = 0x184D_2A5E;
/// Magic number of our frame: one of the sixteen that are free for everybody.
const LINES_MAGIC: u32 = 0x184D_2A55;
/// What is in it before the number of lines.
const LINES_LABEL: &[u8; 8] = b"upkeep1\0";
/// Magic number at the end.
const END_MAGIC: u32 = 0x8F92_EAB1;
/// Length of the end: number of frames, flags, magic number.
const END: usize = 9;
/// Length of our frame.
const LINES: usize = 8 + 16;
/// A table with more frames than this is none of ours: a terabyte.
const FRAMES_MAX: usize = 1 << 22;

fn invalid(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the compressed file is damaged: {what}"),
    )
}

/// Compresses what `from` holds into `to`. Asks `go_on` before each frame; `None`: it said no.
pub(super) fn pack(from: &File, to: &mut File, go_on: &dyn Fn() -> bool) -> io::Result<Option<u64>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let mut block = vec![0_u8; FRAME];
    let mut packed = vec![0_u8; zstd::zstd_safe::compress_bound(FRAME)];
    let mut table = Vec::new();
    let (mut frames, mut lines, mut offset) = (0_u32, 0_u64, 0_u64);
    loop {
        if !go_on() {
            return Ok(None);
        }
        let mut length = 0;
        while length < FRAME {
            match from.read_at(&mut block[length..], offset)? {
                0 => break,
                read => {
                    length += read;
                    offset += read as u64;
                }
            }
        }
        if length == 0 {
            break;
        }
        lines += memchr::memchr_iter(b'\n', &block[..length]).count() as u64;
        let size = compressor.compress_to_buffer(&block[..length], &mut packed[..])?;
        to.write_all(&packed[..size])?;
        for word in [size, length] {
            table.extend_from_slice(&u32::try_from(word).unwrap_or(u32::MAX).to_le_bytes());
        }
        frames += 1;
    }
    let mut end = Vec::with_capacity(LINES + 8 + table.len() + END);
    end.extend_from_slice(&LINES_MAGIC.to_le_bytes());
    end.extend_from_slice(&16_u32.to_le_bytes());
    end.extend_from_slice(LINES_LABEL);
    end.extend_from_slice(&lines.to_le_bytes());
    end.extend_from_slice(&TABLE_MAGIC.to_le_bytes());
    end.extend_from_slice(
        &u32::try_from(table.len() + END)
            .map_err(|_| invalid("too long"))?
            .to_le_bytes(),
    );
    end.append(&mut table);
    end.extend_from_slice(&frames.to_le_bytes());
    end.push(0);
    end.extend_from_slice(&END_MAGIC.to_le_bytes());
    to.write_all(&end)?;
    Ok(Some(lines))
}

/// A frame: where it lies in the file and in the log.
#[derive(Clone, Copy, Debug)]
struct Frame {
    packed_at: u64,
    packed: u32,
    at: u64,
    length: u32,
}

/// A compressed log file, readable anywhere.
#[derive(Debug)]
pub(super) struct Packed {
    file: File,
    frames: Vec<Frame>,
    length: u64,
    lines: u64,
    /// The frame in memory, by its place in the table.
    held: Option<(usize, Vec<u8>)>,
}

impl Packed {
    pub(super) fn open(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let mut end = [0_u8; END];
        let end_at = size
            .checked_sub(END as u64)
            .ok_or_else(|| invalid("it is too short"))?;
        file.read_exact_at(&mut end, end_at)?;
        if end[5..] != END_MAGIC.to_le_bytes() {
            return Err(invalid("it has no table of frames"));
        }
        let count = word(&end[..4]) as usize;
        let entry = if end[4] & 0x80 == 0 { 8 } else { 12 };
        let table_at = (count <= FRAMES_MAX)
            .then(|| end_at.checked_sub((count * entry) as u64))
            .flatten()
            .ok_or_else(|| invalid("its table is longer than itself"))?;
        let mut table = vec![0_u8; count * entry];
        file.read_exact_at(&mut table, table_at)?;
        let mut frames = Vec::with_capacity(count);
        let (mut packed_at, mut at) = (0_u64, 0_u64);
        for entry in table.chunks_exact(entry) {
            let (packed, length) = (word(&entry[..4]), word(&entry[4..8]));
            if length as usize > 64 << 20 || packed as usize > 65 << 20 {
                return Err(invalid("a frame is longer than any of ours"));
            }
            frames.push(Frame {
                packed_at,
                packed,
                at,
                length,
            });
            packed_at += u64::from(packed);
            at += u64::from(length);
        }
        if packed_at > table_at {
            return Err(invalid("its frames are longer than itself"));
        }
        let mut ours = [0_u8; LINES];
        let lines = match table_at.checked_sub(8 + LINES as u64) {
            Some(at) if file.read_exact_at(&mut ours, at).is_ok() && ours[8..16] == *LINES_LABEL => {
                ours[16..].try_into().map_or(0, u64::from_le_bytes)
            }
            _ => 0,
        };
        Ok(Self {
            file,
            frames,
            length: at,
            lines,
            held: None,
        })
    }

    /// Bytes of the log in it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Lines in it.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Reads from `offset` of the log on, at most to the end of a frame. 0: the end.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.length || buffer.is_empty() {
            return Ok(0);
        }
        let place = self.frames.partition_point(|frame| frame.at <= offset) - 1;
        let frame = self.frames[place];
        if self.held.as_ref().is_none_or(|(held, _)| *held != place) {
            // The one before goes first: there is never more than one.
            self.held = None;
            let mut packed = vec![0_u8; frame.packed as usize];
            self.file.read_exact_at(&mut packed, frame.packed_at)?;
            let bytes = zstd::bulk::decompress(&packed, frame.length as usize)?;
            if bytes.len() != frame.length as usize {
                return Err(invalid("a frame has another length than its table says"));
            }
            self.held = Some((place, bytes));
        }
        let Some((_, bytes)) = &self.held else {
            return Ok(0);
        };
        let start = usize::try_from(offset - frame.at).unwrap_or(0);
        (&bytes[start..]).read(buffer)
    }
}

/// How much there is of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes of the log, in whatever form.
    pub(crate) bytes: u64,
    /// Bytes of its files.
    pub(crate) disk_bytes: u64,
    /// Rotated files.
    pub(crate) rotated: u32,
}

/// How much there is of a log; what cannot be read counts as nothing.
pub(crate) fn usage(path: &Path) -> Usage {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut usage = Usage::default();
    for file in rotated(path).unwrap_or_default() {
        let held = file.held();
        let on_disk = size(&held);
        usage.rotated += 1;
        usage.disk_bytes += on_disk;
        usage.bytes += if file.packed {
            let packed = beside::read(&held).and_then(Packed::open);
            packed.map_or(0, |packed| packed.length())
        } else {
            on_disk
        };
    }
    let current = size(path);
    usage.bytes += current;
    usage.disk_bytes += current;
    usage
}

fn word(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_packed_is_read_anywhere_and_by_the_library() {
        let dir = tempfile::tempdir().expect("a directory");
        let (plain, packed) = (dir.path().join("a"), dir.path().join("a.zst"));
        let mut text = String::new();
        for number in 0..40_000 {
            text += &format!("line {number} {}\n", number * number);
        }
        fs::write(&plain, &text).expect("a file");
        let mut to = File::create(&packed).expect("a file");
        let lines = pack(&File::open(&plain).expect("the file"), &mut to, &|| true).expect("a packing");
        assert_eq!(lines, Some(40_000));
        let mut reader = Packed::open(File::open(&packed).expect("the file")).expect("a packed file");
        assert_eq!((reader.length(), reader.lines()), (text.len() as u64, 40_000));
        for offset in [0, 1, FRAME - 1, FRAME, FRAME + 1, text.len() - 1] {
            let mut buffer = [0_u8; 100];
            let read = reader.read_at(&mut buffer, offset as u64).expect("a read");
            assert!(read > 0);
            assert_eq!(
                &buffer[..read],
                &text.as_bytes()[offset..offset + read],
                "{offset}"
            );
        }
        assert_eq!(reader.read_at(&mut [0], text.len() as u64).expect("a read"), 0);
        // A reader that knows nothing of tables passes over ours.
        let whole =
            zstd::stream::decode_all(File::open(&packed).expect("the file")).expect("it is Zstandard");
        assert!(whole == text.as_bytes());
    }

    #[test]
    fn an_empty_file_and_a_damaged_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        fs::write(&path, "").expect("a file");
        let packed = dir.path().join("b");
        let mut to = File::create(&packed).expect("a file");
        pack(&File::open(&path).expect("the file"), &mut to, &|| true).expect("a packing");
        let mut reader = Packed::open(File::open(&packed).expect("the file")).expect("a packed file");
        assert_eq!(
            (reader.length(), reader.read_at(&mut [0], 0).expect("a read")),
            (0, 0)
        );
        let bytes = fs::read(&packed).expect("the file");
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).expect("a file");
            assert!(
                Packed::open(File::open(&path).expect("the file")).is_err(),
                "{cut}"
            );
        }
        let mut wrong = bytes;
        let count = wrong.len() - END;
        wrong[count..count + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        fs::write(&path, &wrong).expect("a file");
        assert!(Packed::open(File::open(&path).expect("the file")).is_err());
    }
}
