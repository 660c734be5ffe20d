//! Bounds the number of requests in work, and their time.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::server::recorder::Raised;
use crate::telemetry::metric;
use crate::transport::shared::Problem;
use crate::transport::shared::guarded::keep;
use crate::types::{Error, ErrorKind, until};

/// Header with the time that the caller waits for an answer.
const TIMEOUT: &str = "x-request-timeout";

/// Bytes of the header's longest value.
const LONGEST_TIMEOUT: usize = 20;

/// Permits for requests; one is held until its answer's last byte is sent.
#[derive(Debug, Clone)]
pub struct Admission {
    permits: Arc<Semaphore>,
    limit: usize,
    timeout: Duration,
}

impl Admission {
    /// Creates permits for at most `limit` requests at once, each answered within `timeout`.
    #[must_use]
    pub fn new(limit: NonZeroUsize, timeout: Duration) -> Self {
        let limit = limit.get().min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(limit)), limit, timeout }
    }
}

/// Sheds the requests beyond the limit, and drops the work of those that take too long. A streamed answer may take
/// longer: only its head is timed.
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
    let in_flight = Raised::new(metric::INFLIGHT);
    let deadline = Instant::now() + timeout;
    match tokio::time::timeout_at(deadline, until(deadline, next.run(request))).await {
        Ok(response) => keep(response, (permit, in_flight)),
        Err(_) => {
            let detail = format!("the request took longer than {timeout:?}");
            Problem::from(Error::new(ErrorKind::DeadlineExceeded, detail)).into_response()
        }
    }
}

/// Reads the time that the caller waits, if the request has it.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let mut values = headers.get_all(TIMEOUT).iter();
    let (Some(value), others) = (values.next(), values.count()) else { return Ok(None) };
    let parse = |text: &str| humantime::parse_duration(text).ok();
    // The parser overflows on very large numbers, so that the length is bounded.
    let timeout = value.to_str().ok().filter(|text| text.len() <= LONGEST_TIMEOUT).and_then(parse);
    timeout.filter(|_| others == 0).map(Some).ok_or_else(|| {
        let more = if others == 0 { String::new() } else { format!(" and {others} more") };
        let detail = format!("found {value:?}{more}, expected one duration such as \"2s\" or \"500ms\"");
        Error::invalid_field(TIMEOUT, detail)
    })
}
