//! Events of one user within the window, to detect retries and conflicting ids, and to take events back.

use serde::{Deserialize, Serialize};

use super::{EventKey, LedgerEvent};
use crate::mixture::{Increment, MAX_HEADS};

/// Events in order of arrival, each as `length u16 | key u64 | at i64 | mark u8 | rest`, little-endian. The rest is
/// the context and the increment, then the content as `u64`, where it is known.
///
/// They are kept as bytes because a row is read for every score and written for every feedback, and its events are
/// only skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recent {
    #[serde(with = "bytes")]
    frames: Vec<u8>,
}

/// Bytes of a frame before its rest.
const HEAD: u16 = 2 + 8 + 8 + 1;

/// Upper bound of the bytes of the rest: a context, the number of numbers, the numbers, each of at most 10 bytes, and
/// the content.
const REST: usize = (1 + 10) + 10 + 10 * MAX_HEADS + 8;

const _: () =
    assert!(HEAD as usize + REST <= u16::MAX as usize, "a frame has room for the increment of any bundle");

/// One remembered event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) key: EventKey,
    pub(super) at_ms: i64,
    pub(super) mark: Mark,
    start: usize,
    bytes: &'a [u8],
}

/// State of a remembered event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    /// The event counted and was taken back.
    Retracted = 0,
    /// The event counts.
    Counts = 1,
    /// The event must not count, as it was erased, or an import came after its undo.
    Void = 2,
    /// The event counted, and an import has replaced its increment: it can't be taken back.
    Imported = 3,
    /// The undo came while the event was not remembered: the event must not count, whether it came before or is still
    /// to come.
    Sought = 4,
}

impl Mark {
    /// True if the event counts, or counted until it was taken back.
    pub(super) fn is_said(self) -> bool {
        matches!(self, Self::Retracted | Self::Counts)
    }

    /// True if the event was taken back, even before it came.
    pub(super) fn is_taken_back(self) -> bool {
        matches!(self, Self::Retracted | Self::Sought)
    }
}

/// Data needed to subtract an event.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Added {
    pub(super) context: Option<u64>,
    pub(super) increment: Increment,
}

impl Frame<'_> {
    /// Returns the context and the increment that it added; none for an event that does not count.
    pub(super) fn added(&self) -> Option<Added> {
        Some(self.rest()?.0)
    }

    /// Returns its content hash; none for an event that does not count, or one that was written without.
    pub(super) fn content(&self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.rest()?.1.first_chunk()?))
    }

    fn rest(&self) -> Option<(Added, &[u8])> {
        let rest = &self.bytes[usize::from(HEAD)..];
        (self.mark == Mark::Counts).then(|| postcard::take_from_bytes(rest).ok()).flatten()
    }
}

impl Recent {
    /// Remembers an event that counts.
    pub(super) fn push(&mut self, event: &LedgerEvent) {
        let rest = (event.context, &event.increment);
        self.frame(event.key, event.at_ms, Mark::Counts, |frames| {
            // Writing to a vector can't fail, and `rest` has the layout that `Added` reads.
            let mut frames = postcard::to_extend(&rest, frames).unwrap_or_default();
            frames.extend(event.content.map(u64::to_le_bytes).into_iter().flatten());
            frames
        });
    }

    /// Remembers the id of an unknown event that was taken back.
    pub(super) fn push_sought(&mut self, key: EventKey, at_ms: i64) {
        self.frame(key, at_ms, Mark::Sought, |frames| frames);
    }

    /// Copies an event that another row remembers.
    pub(super) fn keep(&mut self, frame: &Frame<'_>) {
        self.frames.extend(frame.bytes);
    }

    /// Forgets an event.
    pub(super) fn forget(&mut self, key: EventKey) {
        self.rebuild(|frame| if frame.key == key { Keep::Not } else { Keep::Whole });
    }

    fn frame(&mut self, key: EventKey, at_ms: i64, mark: Mark, rest: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let start = self.frames.len();
        self.frames.extend([0; 2]);
        self.frames.extend(key.0.to_le_bytes());
        self.frames.extend(at_ms.to_le_bytes());
        self.frames.push(mark as u8);
        self.frames = rest(std::mem::take(&mut self.frames));
        // No event of a bundle is longer. A longer one is remembered without its increment, so that it still counts
        // once.
        let length = u16::try_from(self.frames.len() - start).unwrap_or(HEAD);
        self.frames.truncate(start + usize::from(length));
        self.frames[start..start + 2].copy_from_slice(&length.to_le_bytes());
    }

    /// Returns the first event with this key.
    pub(super) fn find(&self, key: EventKey) -> Option<Frame<'_>> {
        self.iter().find(|frame| frame.key == key)
    }

    /// Marks an event as taken back, and forgets its increment.
    pub(super) fn retract(&mut self, key: EventKey) {
        self.rebuild(|frame| if frame.key == key { Keep::As(Mark::Retracted) } else { Keep::Whole });
    }

    /// Marks all events as void, as an erasure does.
    pub(super) fn erase(&mut self) {
        self.rebuild(|_| Keep::As(Mark::Void));
    }

    /// Marks events that count as replaced by an import, and all others as void.
    pub(super) fn import(&mut self) {
        self.rebuild(|frame| {
            let counted = matches!(frame.mark, Mark::Counts | Mark::Imported);
            Keep::As(if counted { Mark::Imported } else { Mark::Void })
        });
    }

    /// Forgets events from before `cutoff_ms`, and returns the time of the latest of them.
    pub(super) fn forget_before(&mut self, cutoff_ms: i64) -> Option<i64> {
        let latest = self.iter().map(|frame| frame.at_ms).filter(|&at_ms| at_ms < cutoff_ms).max()?;
        self.rebuild(|frame| if frame.at_ms < cutoff_ms { Keep::Not } else { Keep::Whole });
        Some(latest)
    }

    fn rebuild(&mut self, keep: impl Fn(&Frame<'_>) -> Keep) {
        let mut kept = Self { frames: Vec::with_capacity(self.frames.len()) };
        for frame in self.iter() {
            match keep(&frame) {
                Keep::Whole => kept.frames.extend(frame.bytes),
                Keep::As(mark) => kept.frame(frame.key, frame.at_ms, mark, |frames| frames),
                Keep::Not => {}
            }
        }
        *self = kept;
    }

    /// Returns all events, in order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let frame = self.at(start)?;
            start = frame.start + frame.bytes.len();
            Some(frame)
        })
    }

    /// Reports whether the frames are whole, as external bytes may not be.
    pub(super) fn is_whole(&self) -> bool {
        self.iter().map(|frame| frame.bytes.len()).sum::<usize>() == self.frames.len()
    }

    fn at(&self, start: usize) -> Option<Frame<'_>> {
        let rest = self.frames.get(start..)?;
        let length = usize::from(u16::from_le_bytes(*rest.first_chunk()?));
        let bytes = rest.get(..length).filter(|bytes| bytes.len() >= usize::from(HEAD))?;
        let key = EventKey(u64::from_le_bytes(*bytes[2..].first_chunk()?));
        let at_ms = i64::from_le_bytes(*bytes[10..].first_chunk()?);
        let mark = match bytes[18] {
            0 => Mark::Retracted,
            1 => Mark::Counts,
            3 => Mark::Imported,
            4 => Mark::Sought,
            _ => Mark::Void,
        };
        Some(Frame { key, at_ms, mark, start, bytes })
    }
}

enum Keep {
    Whole,
    As(Mark),
    Not,
}

/// Serialization of bytes as bytes: serde would write a vector of numbers one by one.
mod bytes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::pair;

    fn event(n: u64) -> LedgerEvent {
        LedgerEvent {
            key: EventKey(n),
            at_ms: n as i64,
            context: n.is_multiple_of(2).then_some(n),
            question: None,
            increment: pair(&[n as f64, 1.0, -3.0]),
            content: (!n.is_multiple_of(5)).then_some(n << 40),
            replaces: None,
            resolved: None,
        }
    }

    #[test]
    fn what_is_remembered_can_be_found_taken_back_and_forgotten() {
        let mut recent = Recent::default();
        (0..100).for_each(|n| recent.push(&event(n)));
        assert!(recent.is_whole());
        let added = recent.find(EventKey(42)).unwrap().added().unwrap();
        assert_eq!(added, Added { context: Some(42), increment: event(42).increment });
        assert_eq!(recent.find(EventKey(42)).unwrap().content(), Some(42 << 40));
        assert_eq!(recent.find(EventKey(45)).unwrap().content(), None);
        recent.retract(EventKey(42));
        assert!(
            recent
                .find(EventKey(42))
                .is_some_and(|frame| frame.mark == Mark::Retracted && frame.added().is_none())
        );
        assert_eq!(recent.forget_before(40), Some(39));
        assert_eq!(recent.iter().map(|frame| frame.key.0).collect::<Vec<_>>(), (40..100).collect::<Vec<_>>());
        assert_eq!(recent.forget_before(40), None);
    }

    fn event_of(n_heads: usize) -> LedgerEvent {
        // Of every two heads one has the largest increment, and the other the smallest.
        let margins: Vec<f64> = (0..n_heads).map(|k| if k % 2 == 0 { 1e9 } else { -1e9 }).collect();
        LedgerEvent { context: Some(u64::MAX), increment: pair(&margins), ..event(1) }
    }

    #[test]
    fn a_frame_has_room_for_the_increment_of_any_bundle() {
        let mut recent = Recent::default();
        recent.push(&event_of(MAX_HEADS));
        recent.push(&event(2));
        let increment = event_of(MAX_HEADS).increment;
        assert_eq!(
            recent.find(EventKey(1)).unwrap().added(),
            Some(Added { context: Some(u64::MAX), increment })
        );
        assert!(recent.is_whole() && recent.find(EventKey(2)).unwrap().added().is_some());
    }

    #[test]
    fn what_has_no_room_is_remembered_and_its_neighbors_are_whole() {
        let mut recent = Recent::default();
        recent.push(&event(0));
        recent.push(&event_of(20_000));
        recent.push(&event(2));
        assert!(recent.is_whole());
        let is_known = |key| recent.find(EventKey(key)).map(|frame| frame.added().is_some());
        assert_eq!([0, 1, 2].map(is_known), [Some(true), Some(false), Some(true)]);
    }

    #[test]
    fn bytes_that_are_cut_are_not_whole() {
        let mut recent = Recent::default();
        (0..3).for_each(|n| recent.push(&event(n)));
        for length in 1..recent.frames.len() {
            let cut = Recent { frames: recent.frames[..length].to_vec() };
            assert!(!cut.is_whole() || cut.iter().count() < 3);
        }
    }
}
