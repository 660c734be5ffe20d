//! Counts messages as held while they are read, as bodies do.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::status::status;
use crate::types::{Bodies, Error, ErrorKind, Held};

/// Bytes before each message: a flag, and its length.
const PREFIX: usize = 5;

/// Counts the messages of a request. An error takes the place of one that finds no room.
pub(super) fn count(request: Request) -> Request {
    // Health and reflection have messages of a few bytes and no budget.
    let Some(bodies) = request.extensions().get::<Bodies>().cloned() else { return request };
    request.map(|body| {
        let held = bodies.hold();
        Body::new(Counted { body, message: Message::default(), bodies, held })
    })
}

/// A body whose last message counts until the next frame is polled: it has been consumed by then.
struct Counted {
    body: Body,
    message: Message,
    bodies: Bodies,
    held: Held,
}

impl Counted {
    /// Counts received bytes. A message that is too large gets its error from the decoder of the messages.
    fn count(&mut self, data: &[u8]) -> Result<(), Error> {
        let to_come = self.message.read(data).unwrap_or_default();
        self.held.resize(self.message.n_read)?;
        match self.bodies.check(to_come as u64) {
            Err(error) if error.kind() != ErrorKind::TooLarge => Err(error),
            _ => Ok(()),
        }
    }
}

/// The received part of a message.
#[derive(Debug, Default)]
struct Message {
    prefix: [u8; PREFIX],
    n_read: usize,
}

impl Message {
    /// Reads on, into the next messages too. Returns the missing bytes of the last one, if its length has become known.
    fn read(&mut self, mut bytes: &[u8]) -> Option<usize> {
        let mut was_known = self.length().is_some();
        while !bytes.is_empty() {
            if self.is_whole() {
                (self.n_read, was_known) = (0, false);
            }
            let n_left = match self.length() {
                Some(length) => PREFIX + length - self.n_read,
                None => PREFIX - self.n_read,
            };
            let (now, later) = bytes.split_at(n_left.min(bytes.len()));
            if self.n_read < PREFIX {
                self.prefix[self.n_read..self.n_read + now.len()].copy_from_slice(now);
            }
            self.n_read += now.len();
            bytes = later;
        }
        self.length().filter(|_| !was_known).map(|length| PREFIX + length - self.n_read)
    }

    fn length(&self) -> Option<usize> {
        let [_, length @ ..] = self.prefix;
        (self.n_read >= PREFIX).then(|| usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX))
    }

    fn is_whole(&self) -> bool {
        self.length().is_some_and(|length| self.n_read == PREFIX + length)
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.message.is_whole() {
            self.held.shrink_to(0);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        match data.map_or(Ok(()), |data| self.count(data)) {
            Ok(()) => Poll::Ready(frame),
            Err(error) => Poll::Ready(Some(Err(axum::Error::new(status(error))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_are_told_apart_wherever_they_are_cut(
            lengths in prop::collection::vec(0..20_usize, 1..8), cuts in prop::collection::vec(0..200_usize, 0..8),
        ) {
            let message = |length: &usize| {
                [&[0][..], &u32::try_from(*length).unwrap().to_be_bytes(), &vec![7; *length]].concat()
            };
            let bytes: Vec<u8> = lengths.iter().flat_map(message).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % bytes.len()).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let (mut found, mut n_told) = (Message::default(), 0);
            for cut in cuts.windows(2) {
                let told = found.read(&bytes[cut[0]..cut[1]]);
                n_told += usize::from(told.is_some());
                let mut start = 0;
                for length in &lengths {
                    let end = start + PREFIX + length;
                    if (start + 1..=end).contains(&cut[1]) {
                        prop_assert_eq!(found.n_read, cut[1] - start);
                        prop_assert_eq!(found.is_whole(), cut[1] == end);
                        prop_assert!(told.is_none_or(|told| told == end - cut[1]));
                    }
                    start = end;
                }
            }
            prop_assert!(n_told >= 1 && n_told <= lengths.len());
        }
    }
}
