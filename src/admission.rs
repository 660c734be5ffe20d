//! How many requests are worked on at once, and for how long.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::http::Problem;
use crate::types::{Error, ErrorKind, metric, until};

/// How long the caller waits for an answer.
const TIMEOUT: &str = "x-request-timeout";

/// Permits for requests; one is held until its answer's last byte is sent.
#[derive(Debug, Clone)]
pub struct Admission {
    permits: Arc<Semaphore>,
    limit: usize,
    timeout: Duration,
}

impl Admission {
    /// At most `limit` requests at once, each answered within `timeout`.
    #[must_use]
    pub fn new(limit: NonZeroUsize, timeout: Duration) -> Self {
        let limit = limit.get().min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(limit)), limit, timeout }
    }
}

/// Sheds what is too much, and drops the work of what takes too long. A streamed answer may take longer: only
/// its head is timed.
pub async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    let Ok(permit) = admission.permits.clone().try_acquire_owned() else {
        metrics::counter!(metric::SHED, "reason" => "concurrency").increment(1);
        let detail = format!("{} requests are being answered already", admission.limit);
        return Problem::from(Error::new(ErrorKind::Overloaded, detail)).into_response();
    };
    let timeout = match timeout(request.headers()) {
        Ok(asked) => asked.map_or(admission.timeout, |asked| asked.min(admission.timeout)),
        Err(error) => return Problem::from(error).into_response(),
    };
    metrics::gauge!(metric::INFLIGHT).increment(1.0);
    let guard = Guard { _permit: permit };
    let deadline = Instant::now() + timeout;
    match tokio::time::timeout_at(deadline, until(deadline, next.run(request))).await {
        Ok(response) => response.map(|body| Body::new(Guarded { body, _guard: guard })),
        Err(_) => {
            let detail = format!("the request took longer than {timeout:?}");
            Problem::from(Error::new(ErrorKind::DeadlineExceeded, detail)).into_response()
        }
    }
}

/// How long the caller waits, if it says so.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(|text| humantime::parse_duration(text).ok());
    timeout.map(Some).ok_or_else(|| {
        Error::invalid_field(
            TIMEOUT,
            format!("found {value:?}, expected a duration such as \"2s\" or \"500ms\""),
        )
    })
}

struct Guard {
    _permit: OwnedSemaphorePermit,
}

impl Drop for Guard {
    fn drop(&mut self) {
        metrics::gauge!(metric::INFLIGHT).decrement(1.0);
    }
}

/// A body that keeps its request's permit.
struct Guarded {
    body: Body,
    _guard: Guard,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
