//! One file of the journal: framing, reading, and telling a torn tail from damage.
//!
//! A file is `magic 8 | format u32 | n_heads u32 | ledger_id u64 | after u64 | crc u32`, without `after` in format 1,
//! then frames of `length u32 | lsn u64 | crc of the payload u32 | crc of these 16 bytes u32 | payload`,
//! little-endian.
//!
//! The laws: a frame is read as it was written or not at all. Only the end of the newest segment may be torn, at the
//! point where a kill or a full disk stops a write: it ends within a frame, or is blank from the end of one to the
//! end of the file. Any other error is damage, and is reported by file and offset. Positions rise, from the one that
//! the file is named after. They may have gaps, as frames of erased users are removed; the `after` of each segment
//! shows that none before it is missing.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::OpenError;

const MAGIC: &[u8; 8] = b"MRWDJRNL";
const FORMAT: u32 = 2;

/// Formats that can be read, and the bytes of their headers, each of which ends with its checksum.
const FORMATS: [(u32, usize); 2] = [(1, 28), (FORMAT, FILE_HEAD)];

/// Bytes of the file's header, and of a frame's.
pub(in crate::state) const FILE_HEAD: usize = 36;
const FRAME_HEAD: usize = 20;

/// The ledgers that a journal belongs to: the number of heads, and their key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerId {
    /// Number of heads K.
    pub n_heads: usize,
    /// A key of the heads and of how their rewards become evidence.
    pub key: u64,
}

/// Returns the header of a new segment, which comes after the one that is named after position `after`; 0 if there is
/// none.
pub(in crate::state) fn file_head(ledger_id: LedgerId, after: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_HEAD);
    bytes.extend(MAGIC);
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend((ledger_id.n_heads as u32).to_le_bytes());
    bytes.extend(ledger_id.key.to_le_bytes());
    bytes.extend(after.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Appends a frame.
pub(in crate::state) fn push_frame(frames: &mut Vec<u8>, lsn: u64, payload: &[u8]) {
    let start = frames.len();
    frames.extend((payload.len() as u32).to_le_bytes());
    frames.extend(lsn.to_le_bytes());
    frames.extend(crc32fast::hash(payload).to_le_bytes());
    frames.extend(crc32fast::hash(&frames[start..]).to_le_bytes());
    frames.extend(payload);
}

/// A frame of a file.
#[derive(Debug)]
pub(in crate::state) struct Frame {
    pub(in crate::state) lsn: u64,
    pub(in crate::state) offset: u64,
    pub(in crate::state) payload: Vec<u8>,
}

/// Reader of the frames of one segment, in order.
#[derive(Debug)]
pub(in crate::state) struct Segment {
    path: PathBuf,
    file: BufReader<File>,
    length: u64,
    /// Offset of the next frame.
    offset: u64,
    /// Lower bound of the next frame's position.
    next_lsn: u64,
    pub(in crate::state) ledger_id: LedgerId,
    /// Position that the segment before it is named after; 0 if there was none, or the format does not have it.
    pub(in crate::state) after: u64,
}

/// End of a segment, as reading found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::state) enum End {
    /// The file ends after its last frame.
    Whole,
    /// The file ends within a frame that was not written to its end.
    Torn,
}

impl Segment {
    /// Opens a segment.
    pub(in crate::state) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::io(path, source);
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let damaged = |what: &str| OpenError::damaged(path, 0, what);
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut head = Vec::with_capacity(FILE_HEAD);
        file.by_ref().take(FILE_HEAD as u64).read_to_end(&mut head).map_err(io)?;
        let [(_, shortest), _] = FORMATS;
        if head.len() < shortest {
            return Err(damaged("the header is not whole"));
        }
        let found = read_u32(&head[8..]);
        let known = FORMATS.into_iter().find(|&(format, _)| format == found);
        let is_whole = |n_bytes: usize| {
            let parts = head.get(..n_bytes).and_then(|head| head.split_at_checked(n_bytes - 4));
            parts.is_some_and(|(body, crc)| crc32fast::hash(body) == read_u32(crc))
        };
        let Some((_, n_bytes)) = known.filter(|&(_, n_bytes)| is_whole(n_bytes)) else {
            // The header of a later format may begin as one of these does.
            let is_later = known.is_none() && FORMATS.into_iter().any(|(_, n_bytes)| is_whole(n_bytes));
            return Err(match is_later {
                true => OpenError::Format { path: path.to_owned(), found, expected: FORMAT },
                false => damaged("the header fails its checksum"),
            });
        };
        if &head[..8] != MAGIC {
            return Err(damaged("this is not a journal of micro-reward"));
        }
        file.seek(SeekFrom::Start(n_bytes as u64)).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            offset: n_bytes as u64,
            next_lsn: first_lsn(path).unwrap_or_default(),
            ledger_id: LedgerId { n_heads: read_u32(&head[12..]) as usize, key: read_u64(&head[16..]) },
            after: if n_bytes == FILE_HEAD { read_u64(&head[24..]) } else { 0 },
        })
    }

    /// Returns the next frame, or how the file ends.
    pub(in crate::state) fn next(&mut self) -> Result<Result<Frame, End>, OpenError> {
        let left = self.length - self.offset;
        if left == 0 {
            return Ok(Err(End::Whole));
        }
        if left < FRAME_HEAD as u64 {
            return Ok(Err(End::Torn));
        }
        let mut head = [0; FRAME_HEAD];
        self.read(&mut head)?;
        let (body, crc) = head.split_at(FRAME_HEAD - 4);
        if crc32fast::hash(body) != read_u32(crc) {
            // A file system that lost power may have made the file longer without writing to it.
            let is_blank = head.iter().all(|&byte| byte == 0) && self.rest_is_blank()?;
            return if is_blank { Ok(Err(End::Torn)) } else { Err(self.fails("a frame's header")) };
        }
        let length = u64::from(read_u32(body));
        if left - (FRAME_HEAD as u64) < length {
            return Ok(Err(End::Torn));
        }
        let mut payload = vec![0; length as usize];
        self.read(&mut payload)?;
        if crc32fast::hash(&payload) != read_u32(&body[12..]) {
            return Err(self.fails("a frame"));
        }
        let frame = Frame { lsn: read_u64(&body[4..]), offset: self.offset, payload };
        if frame.lsn < self.next_lsn {
            let what = format!("found change {}, expected {} or a later one", frame.lsn, self.next_lsn);
            return Err(self.damaged(what));
        }
        self.next_lsn = frame.lsn + 1;
        self.offset += FRAME_HEAD as u64 + length;
        Ok(Ok(frame))
    }

    /// Checks that this segment came right after the one at `before`, as far as its header records it.
    pub(in crate::state) fn follows(&self, before: &Path) -> Result<(), OpenError> {
        let missing = path(Path::new(""), self.after);
        if self.after == 0 || first_lsn(before) == Some(self.after) {
            return Ok(());
        }
        let what = format!("the segment before this one, {}, is missing: it begins", missing.display());
        Err(OpenError::damaged(&self.path, 0, what))
    }

    /// Returns the next frame of a segment in which nothing may be torn.
    pub(in crate::state) fn next_whole(&mut self) -> Result<Option<Frame>, OpenError> {
        match self.next()? {
            Ok(frame) => Ok(Some(frame)),
            Err(End::Whole) => Ok(None),
            Err(End::Torn) => Err(self.torn()),
        }
    }

    /// Returns the error for a torn end elsewhere than in the newest segment.
    pub(in crate::state) fn torn(&self) -> OpenError {
        self.damaged("a frame is not whole".to_owned())
    }

    /// Cuts a torn tail: a frame that was not written to its end was never acked.
    pub(in crate::state) fn cut(self) -> Result<(), OpenError> {
        let io = |source| OpenError::io(&self.path, source);
        let (path, offset, bytes) = (self.path.display(), self.offset, self.length - self.offset);
        let file = File::options().write(true).open(&self.path).map_err(io)?;
        tracing::warn!(%path, offset, bytes, "cut the journal's torn tail");
        file.set_len(self.offset).and_then(|()| file.sync_all()).map_err(io)
    }

    /// Returns the path of the file.
    pub(in crate::state) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), OpenError> {
        self.file.read_exact(bytes).map_err(|source| OpenError::io(&self.path, source))
    }

    /// Reports whether the rest of the file is blank, to its very end: acked frames may follow a megabyte that a disk
    /// lost.
    fn rest_is_blank(&mut self) -> Result<bool, OpenError> {
        let blank = loop {
            let read = self.file.fill_buf().map(|bytes| (bytes.len(), bytes.iter().all(|&byte| byte == 0)));
            match read.map_err(|source| OpenError::io(&self.path, source))? {
                (0, _) => break true,
                (_, false) => break false,
                (length, true) => self.file.consume(length),
            }
        };
        let back = self.file.seek(SeekFrom::Start(self.offset));
        back.map_err(|source| OpenError::io(&self.path, source))?;
        Ok(blank)
    }

    fn fails(&self, what: &str) -> OpenError {
        self.damaged(format!("{what} fails its checksum"))
    }

    fn damaged(&self, what: String) -> OpenError {
        OpenError::damaged(&self.path, self.offset, what)
    }
}

/// Returns the segments of a directory, oldest first.
pub(in crate::state) fn list(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let entries = std::fs::read_dir(dir).map_err(|source| OpenError::io(dir, source))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| OpenError::io(dir, source))?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Returns the path of the segment whose first frame is `lsn`. Names sort as positions do.
pub(in crate::state) fn path(dir: &Path, lsn: u64) -> PathBuf {
    dir.join(format!("{lsn:020}.log"))
}

/// Returns the position that a segment's file is named after.
pub(in crate::state) fn first_lsn(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Makes a directory's entries durable.
pub(in crate::state) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some file systems have nothing to sync in a directory.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

fn read_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn read_u64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
