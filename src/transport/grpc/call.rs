//! Limits of every call: its protocol, its deadline, and its end with the server.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::Status;

use super::held;
use super::is_grpc;
use super::status::{foreign, gone, known, status};
use crate::transport::shared::streams::{Stopped, stop};
use crate::types::{Error, ErrorKind, until};

/// The events that end a call before its work is done.
#[derive(Clone)]
pub(super) struct Limits {
    stopped: Option<Stopped>,
}

impl Limits {
    /// Limits a call to the caller's deadline.
    pub(super) fn deadline() -> Self {
        Self { stopped: None }
    }

    /// Limits a call to the caller's deadline or the end of the server: for calls that would last forever.
    pub(super) fn deadline_or_stop(stopped: Stopped) -> Self {
        Self { stopped: Some(stopped) }
    }
}

/// Applies the limits, from the first byte of the request to the last of the answer, and drops the work of a call
/// that exceeds them. A caller that does not speak gRPC gets HTTP's own status.
pub(super) async fn limit(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let timeout = match timeout(request.headers()) {
        Ok(timeout) => timeout,
        Err(error) => return status(error).into_http(),
    };
    // A deadline beyond the range of the clock is none.
    let deadline = timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
    let mut end = end(deadline, limits.stopped);
    let work = async move {
        match deadline {
            Some((at, _)) => until(at, next.run(held::count(request))).await,
            None => next.run(held::count(request)).await,
        }
    };
    tokio::select! {
        biased;
        response = work => response.map(|body| Body::new(Limited { body, end: Some(end) })),
        error = &mut end => status(error).into_http(),
    }
}

/// Gives the refusals of the library the code and the details that our own errors have.
pub(super) async fn own_errors(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    match response.extensions().get::<Status>() {
        Some(theirs) if known(theirs).is_none() => foreign(theirs).map_or_else(gone, status).into_http(),
        _ => response,
    }
}

/// Waits until the call has to end, and returns the reason.
fn end(deadline: Option<(Instant, Duration)>, stopped: Option<Stopped>) -> BoxFuture<'static, Error> {
    async move {
        let late = async {
            match deadline {
                Some((at, timeout)) => {
                    tokio::time::sleep_until(at).await;
                    Error::new(ErrorKind::DeadlineExceeded, format!("the call took longer than {timeout:?}"))
                }
                None => std::future::pending().await,
            }
        };
        let stopping = async {
            match stopped {
                Some(stopped) => stop(stopped).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = late => error,
            () = stopping => stopping_error(),
        }
    }
    .boxed()
}

/// Returns the error of streams that end with the server.
pub(super) fn stopping_error() -> Error {
    Error::new(ErrorKind::Overloaded, "the server is stopping").with_code("stopping")
}

/// A body that ends with a status of its own when the call has to end.
struct Limited {
    body: Body,
    /// Resolves to the reason to end; none once the answer has ended.
    end: Option<BoxFuture<'static, Error>>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        if let Poll::Ready(error) = end.poll_unpin(cx) {
            (self.end, self.body) = (None, Body::empty());
            error.log();
            let trailers = Response::new(()).into_parts().0.headers;
            return Poll::Ready(
                with_status(trailers, &status(error)).map(|headers| Ok(Frame::trailers(headers))),
            );
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            self.end = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // The size is unknown, as the body may end early.
        SizeHint::default()
    }
}

fn with_status(mut headers: HeaderMap, status: &Status) -> Option<HeaderMap> {
    status.add_header(&mut headers).ok().map(|()| headers)
}

/// Reads `grpc-timeout`: at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let refused = || {
        let detail = format!("found {value:?}, expected up to eight digits and a unit");
        Error::invalid_field("grpc-timeout", detail)
    };
    let text = value.to_str().map_err(|_| refused())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(refused)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    let n: u64 = digits.parse().map_err(|_| refused())?;
    let timeout = match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return Err(refused()),
    };
    Ok(Some(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let read = |text: &'static str| {
            timeout(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]))
        };
        let units = [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4m", 4_000_000),
            ("5u", 5_000),
            ("6n", 6),
        ];
        for (text, nanos) in units {
            assert_eq!(read(text).unwrap().unwrap().as_nanos(), nanos, "{text}");
        }
        for text in ["", "S", "1", "1s", "123456789S", "-1S", "1 S", "+1S"] {
            assert_eq!(read(text).unwrap_err().field(), Some("grpc-timeout"), "{text}");
        }
        assert!(timeout(&HeaderMap::new()).unwrap().is_none());
    }
}
