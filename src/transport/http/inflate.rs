//! Inflates gzip bodies as they are read: the reader bounds the output, and no more than that is inflated.

use std::io;

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures::{StreamExt, TryStreamExt};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::types::{Error, ErrorKind};

/// Bytes that are inflated without a pause, in about a tenth of a millisecond.
const CHUNK: usize = 64 << 10;

/// Returns the body, inflated if it is gzip.
///
/// # Errors
/// `UnsupportedMedia` for anything but gzip.
pub(super) fn plain(headers: &HeaderMap, body: Body) -> Result<Body, Error> {
    if !is_gzip(headers)? {
        return Ok(body);
    }
    let source = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let mut decoder = GzipDecoder::new(source);
    decoder.multiple_members(true);
    // A well-compressed body would otherwise be inflated for a long time on an async thread.
    let chunks = ReaderStream::with_capacity(decoder, CHUNK).then(|chunk| async {
        tokio::task::yield_now().await;
        chunk.map_err(|error| match error.get_ref() {
            // The connection broke: the decoder is not to blame.
            Some(inner) if inner.is::<axum::Error>() => axum::Error::new(error),
            _ => axum::Error::new(Corrupt(error)),
        })
    });
    Ok(Body::from_stream(chunks))
}

/// Returns the error in the compression of a body from [`plain`]; none if the connection broke.
pub(super) fn corruption(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let found =
        std::iter::successors(Some(error), |error| error.source()).find(|error| error.is::<Corrupt>())?;
    Some(Error::new(ErrorKind::Invalid, found.to_string()).with_code("malformed_gzip"))
}

#[derive(Debug, thiserror::Error)]
#[error("the body is not whole gzip: {0}")]
struct Corrupt(io::Error);

fn is_gzip(headers: &HeaderMap) -> Result<bool, Error> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let names = names.map(|name| name.trim_ascii().to_ascii_lowercase());
    let names: Vec<Vec<u8>> = names.filter(|name| !name.is_empty() && name != b"identity").collect();
    match names.as_slice() {
        [] => Ok(false),
        [name] if name == b"gzip" || name == b"x-gzip" => Ok(true),
        names => {
            let found = String::from_utf8_lossy(&names.join(&b", "[..])).into_owned();
            let detail = format!("found the content encoding \"{found}\", expected gzip or none");
            Err(Error::new(ErrorKind::UnsupportedMedia, detail))
        }
    }
}
