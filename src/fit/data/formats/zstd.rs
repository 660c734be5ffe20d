//! A reader of Zstandard: frames one after the other, as `zstd`, `pzstd` and `cat` write them.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// True if a file with these first bytes is one of Zstandard.
pub(super) fn begins(head: &[u8]) -> bool {
    let is_skipped = head.get(1..4) == Some(b"\x2a\x4d\x18") && head[0] & 0xf0 == 0x50;
    is_skipped || head.starts_with(b"\x28\xb5\x2f\xfd")
}

/// The content of all frames of a reader.
pub(super) struct Zstd<R> {
    packed: R,
    frame: FrameDecoder,
    is_in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(packed: R) -> Self {
        Self { packed, frame: FrameDecoder::new(), is_in_frame: false }
    }

    /// Begins the next frame; false at the end. Frames for programs are skipped, as the format says.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.packed.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.frame.can_collect() == 0 {
            if !self.is_in_frame || self.frame.is_finished() {
                self.is_in_frame = self.next_frame()?;
                if !self.is_in_frame {
                    return Ok(0);
                }
            }
            let blocks = BlockDecodingStrategy::UptoBlocks(1);
            self.frame.decode_blocks(&mut self.packed, blocks).map_err(io::Error::other)?;
        }
        self.frame.read(buffer)
    }
}
