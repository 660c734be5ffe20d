//! Reads a body as a whole, within the memory that bodies may take up.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, header};
use futures::StreamExt;

use super::inflate::{corruption, plain};
use crate::types::{Bodies, Error, ErrorKind, Held, json};

/// Largest body that is parsed on an async thread, in bytes: JSON takes about a millisecond for as many.
const A_MOMENT: usize = 256 << 10;

/// A body that has been read. It counts as held until it is dropped.
#[derive(Debug)]
pub(super) struct Whole {
    bytes: Vec<u8>,
    _held: Held,
}

impl Whole {
    /// Reads a body, and inflates it if it is gzip.
    ///
    /// # Errors
    /// `TooLarge` and `Overloaded` by its Content-Length before it is read, or once it exceeds the limit or the free
    /// room; `Invalid` when it ends early or does not match its encoding.
    pub(super) async fn read(request: Request) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        let bodies = bodies(&parts.extensions)?;
        bodies.check(declared(&parts.headers))?;
        Self::collect(plain(&parts.headers, body)?, bodies.hold()).await
    }

    async fn collect(body: Body, mut held: Held) -> Result<Self, Error> {
        let mut pieces = body.into_data_stream();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await.transpose().map_err(broken)? {
            held.body(bytes.len() + piece.len())?;
            bytes.extend_from_slice(&piece);
        }
        Ok(Self { bytes, _held: held })
    }

    /// True if the body has no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Applies `parse` to the text, without a byte order mark: on this thread, or off the async threads if it is large.
    ///
    /// # Errors
    /// A defect: `parse` panicked.
    pub(super) async fn parse<T: Send + 'static>(
        self,
        parse: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let size = self.bytes.len();
        let parse = move || {
            // The whole body moves into the closure: it counts as held while it is parsed, even after its
            // caller has disconnected.
            let Self { bytes, _held } = &self;
            parse(json::without_mark(bytes))
        };
        off_if_large(size, parse).await
    }
}

/// Does work on `size` bytes of text: on this thread, or off the async threads if they are many.
///
/// # Errors
/// A defect: `work` panicked.
pub(super) async fn off_if_large<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if size <= A_MOMENT {
        return Ok(work());
    }
    let failed = |error| Error::new(ErrorKind::Internal, "the body could not be parsed").with_source(error);
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// Returns the budget that the process has set around this route.
///
/// # Errors
/// A defect: there is none.
pub(super) fn bodies(extensions: &Extensions) -> Result<&Bodies, Error> {
    extensions.get().ok_or_else(|| Error::new(ErrorKind::Internal, "this route has no limit of bodies"))
}

/// Returns the length that a body declares; 0 for one that does not.
pub(super) fn declared(headers: &HeaderMap) -> u64 {
    let text = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn broken(error: axum::Error) -> Error {
    corruption(&error)
        .unwrap_or_else(|| Error::new(ErrorKind::Invalid, "the body ended early").with_source(error))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write;
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures::FutureExt;

    use super::*;

    const MIB: usize = 1 << 20;

    fn bodies_of(max_bytes: usize, max_held: usize) -> Bodies {
        Bodies::new(NonZeroUsize::new(max_bytes).unwrap(), NonZeroUsize::new(max_held).unwrap())
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn request(bodies: &Bodies, encoding: &str, body: Body) -> Request {
        let request = Request::builder().header("content-encoding", encoding).extension(bodies.clone());
        request.body(body).unwrap()
    }

    /// Returns a body of these pieces, and a counter of those that were asked for.
    fn counted(pieces: Vec<Vec<u8>>) -> (Body, Arc<AtomicUsize>) {
        let n_read = Arc::new(AtomicUsize::new(0));
        let counter = n_read.clone();
        let pieces = futures::stream::iter(pieces).map(move |piece| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from(piece))
        });
        (Body::from_stream(pieces), n_read)
    }

    #[tokio::test]
    async fn a_bomb_is_inflated_no_further_than_a_body_may_be() {
        let bodies = bodies_of(MIB, 4 * MIB);
        // Each piece inflates to a mebibyte.
        let (body, n_read) = counted(vec![gzip(&vec![0; MIB]); 1000]);
        let error = Whole::read(request(&bodies, "gzip", body)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(n_read.load(Ordering::Relaxed) <= 3, "{n_read:?} pieces");
        assert_eq!(bodies.n_held(), 0);
    }

    #[tokio::test]
    async fn gzip_is_read_in_any_pieces_and_members_and_not_when_it_is_cut_or_changed() {
        let bodies = bodies_of(MIB, MIB);
        let zipped = [gzip(b"{\"a\": "), gzip(b"1}")].concat();
        for size in [1, 7, zipped.len()] {
            let (body, _) = counted(zipped.chunks(size).map(<[u8]>::to_vec).collect());
            let whole = Whole::read(request(&bodies, "GZip", body)).await.unwrap();
            assert_eq!(&whole.bytes[..], b"{\"a\": 1}");
        }
        for cut in 0..zipped.len() {
            let read = Whole::read(request(&bodies, "x-gzip", zipped[..cut].to_vec().into())).await;
            // The body is complete where its first member ends, and where there is no byte.
            if cut == gzip(b"{\"a\": ").len() || cut == 0 {
                continue;
            }
            assert_eq!(read.unwrap_err().code(), "malformed_gzip", "{cut} of {}", zipped.len());
        }
        let mut changed = zipped.clone();
        changed[zipped.len() - 6] ^= 1;
        let read = Whole::read(request(&bodies, "gzip", changed.into())).await;
        assert_eq!(read.unwrap_err().code(), "malformed_gzip");
    }

    #[tokio::test]
    async fn a_body_counts_until_it_is_parsed() {
        let bodies = bodies_of(1000, 1000);
        let (body, _) = counted(vec![vec![b' '; 300]; 2]);
        let whole = Whole::read(request(&bodies, "identity", body)).await.unwrap();
        assert_eq!(bodies.n_held(), 600);
        let (other, n_read) = counted(vec![vec![b' '; 300]; 3]);
        let error = Whole::read(request(&bodies, "identity", other)).await.unwrap_err();
        assert_eq!((error.code(), n_read.load(Ordering::Relaxed)), ("too_many_bytes", 2), "as it grew");
        assert_eq!(bodies.n_held(), 600);
        let (declared, n_read) = counted(vec![vec![b' '; 401]]);
        let mut declared = request(&bodies, "identity", declared);
        declared.headers_mut().insert("content-length", 401.into());
        let error = Whole::read(declared).await.unwrap_err();
        assert_eq!((error.code(), n_read.load(Ordering::Relaxed)), ("too_many_bytes", 0), "unread");
        assert_eq!(whole.parse(<[u8]>::len).await.unwrap(), 600);
        assert_eq!(bodies.n_held(), 0);
    }

    #[tokio::test]
    async fn a_body_that_nobody_awaits_counts_while_it_is_parsed() {
        let bodies = bodies_of(MIB, MIB);
        let whole = Whole::read(request(&bodies, "", vec![b' '; MIB].into())).await.unwrap();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        assert!(whole.parse(move |_| ended.recv()).now_or_never().is_none());
        assert_eq!(bodies.n_held(), MIB);
        drop(end);
        while bodies.n_held() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_large_body_is_parsed_off_the_async_threads() {
        let here = std::thread::current().id();
        for (size, is_here) in [(A_MOMENT, true), (A_MOMENT + 1, false)] {
            let bodies = bodies_of(MIB, MIB);
            let whole = Whole::read(request(&bodies, "", vec![b' '; size].into())).await.unwrap();
            let there = whole.parse(|_| std::thread::current().id()).await.unwrap();
            assert_eq!(there == here, is_here, "{size} bytes");
            assert_eq!(bodies.n_held(), 0);
        }
    }
}
